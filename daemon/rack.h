/* SPDX-License-Identifier: MIT */
/*
 * The rack: magazines that members of a domain pass to each other without the daemon
 * (shm/control.h). Here the daemon's half: it fetches what lies there. See rack.c. All functions may
 * be called from any thread, trimming excepted.
 */
#ifndef DAEMON_RACK_H
#define DAEMON_RACK_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/depot.h"

struct domain;
struct rack;

int rack_new(struct rack **ret, struct domain *d); /* -ENOMEM */
struct rack *rack_free(struct rack *r);

/* A cache begins that has the id: its rack is memory, and empty. -ENOMEM. */
int rack_begin(struct domain *d, uint32_t cache);

/* Fetches the magazines of a cache, or of all (0), empty ones with them: to the depot (`keep`, and if
 * it keeps them), else their objects go to the slabs. Objects. */
uint64_t rack_collect(struct domain *d, uint32_t cache, uint32_t cpu, bool keep);
/* Fetches one of the cache, whose objects go to the slabs; false: there is none. */
bool rack_free_one(struct domain *d, uint32_t cache, uint32_t cpu);
/* Fetches up to `want` that count for the session (0: for whichever), empty ones; with may_free also
 * full ones, whose objects go to the slabs. How many are empty now, in the depot. */
uint32_t rack_reclaim(struct domain *d, uint32_t session, uint32_t want, bool may_free);
/* Fetches what nobody took or gave since the last call, into the depot. One thread at a time. */
void rack_trim(struct domain *d, uint32_t cpu);
/* A magazine whose header h says RACK, of whose giver nobody knows: fetched if no slot says where it
 * is. */
void rack_find_lost(struct domain *d, magazine_id_t m, uint64_t h);

/* Objects and full magazines that lie there, by cache: CONTROL_CACHES_MAX of them. */
struct rack_count {
	uint32_t magazines;
	uint64_t rounds;
};
void rack_count(const struct domain *d, struct rack_count n[]);

/* What slots say is there: magazines of the pool. Findings as mm_validate. */
size_t rack_validate(const struct domain *d, mm_report_fn report, void *ctx);

#endif
