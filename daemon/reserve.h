/* SPDX-License-Identifier: MIT */
/*
 * Reserving huge pages for the pool that is configured: kmmd --reserve-huge-pages.
 */
#ifndef DAEMON_RESERVE_H
#define DAEMON_RESERVE_H

#include "daemon/options.h"

/* 0: they are reserved, or none are needed; -errno with the reason in the log. */
int reserve_huge_pages(const struct options *o);

#endif
