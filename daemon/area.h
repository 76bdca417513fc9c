/* SPDX-License-Identifier: MIT */
/*
 * The table of areas (shm/control.h): what clients say of what they put together of blocks. See
 * area.c.
 */
#ifndef DAEMON_AREA_H
#define DAEMON_AREA_H

#include "daemon/session.h"

/* What an entry said when it was looked at; nothing but `session` is checked. */
struct area_about {
	uint32_t session;
	uint32_t kind; /* enum control_area_kind, not NONE */
	uint32_t pages;
	uint64_t start, size, used;
	uint32_t node_pages[8];
	char caller[sizeof(((struct control_area *)0)->caller)];
};

/* Frees the entries of s, which is SWEEPING. Worker. */
void area_sweep(struct domain *d, struct session *s);
/* All entries of sessions that there are, in the order of the table. fn: false ends it. Any thread. */
void area_each(struct domain *d, bool (*fn)(void *ctx, const struct area_about *a), void *ctx);

#endif
