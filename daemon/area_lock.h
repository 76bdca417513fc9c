/* SPDX-License-Identifier: MIT */
/* Who has which CPU's copies of a per-CPU area: see area_lock.c. */
#ifndef DAEMON_AREA_LOCK_H
#define DAEMON_AREA_LOCK_H

#include "daemon/domain.h"

/* Clears the words of an area that name a session. The area is that of a dead session, and not free
 * yet. Worker; returns how many there were. */
uint32_t area_lock_break(struct domain *d, uint32_t area, uint32_t session);

#endif
