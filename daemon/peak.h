/* SPDX-License-Identifier: MIT */
/*
 * High-water marks since the daemon's start: what `kmmctl advise` makes its advice of. See peak.c. Any
 * thread; without a struct peak (NULL: tests of other parts) nothing is noted.
 */
#ifndef DAEMON_PEAK_H
#define DAEMON_PEAK_H

#include <stdint.h>

#include "daemon/kmmd.h"
#include "mm/types.h"

enum peak_what {
	PEAK_USED,             /* frames of the zones that are not free; looked at once a second */
	PEAK_SESSIONS,         /* likewise, and those below */
	PEAK_HOLDERS,          /* holds of all sessions */
	PEAK_NAMES,
	PEAK_CACHES,
	PEAK_SESSION_PAGES,    /* of the session that had most; objects rounded up to pages */
	PEAK_SESSION_OBJECTS,
	PEAK_SESSION_CHANNELS, /* without the control channel */
	PEAK_SESSION_HOLDERS,
	PEAK_SESSION_CALLS,    /* in flight; also whenever a request is parked */
	PEAK_PARKED,           /* exact */
	PEAK_ORDER,            /* largest order that failed, plus one; exact */
	NR_PEAKS
};

struct peak;
struct failure;

int peak_new(struct peak **ret);
struct peak *peak_free(struct peak *p);

void peak_note(struct peak *p, enum peak_what what, uint64_t value);
uint64_t peak_get(const struct peak *p, enum peak_what what);
/* An allocation failed for good. */
void peak_failure(struct peak *p, const struct failure *f);
/* How many failed for that reason (enum failure_reason), by the highest zone that they could use. */
uint64_t peak_failures(const struct peak *p, unsigned int reason, enum zone_type class);
/* A request is parked: how many wait, and are in flight for its session. */
void peak_parked(struct peak *p, uint32_t waiting, uint32_t in_flight);
/* Once a second, worker. */
void peak_tick(struct kmmd *kmmd);

#endif
