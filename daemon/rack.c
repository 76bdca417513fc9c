/* SPDX-License-Identifier: MIT */
/*
 * The daemon's half of the rack (shm/control.h, client/rack.c).
 *
 * A magazine in the rack is LENT (depot.c): the daemon sees neither how it comes there nor who takes
 * it. It is with the members, and what its header says at this moment is where it is:
 *
 *     OFFERED, LOADED by S   S has it         RACK   whoever exchanges the header next
 *
 * So the daemon looks for magazines, not at slots: places first (private, sixteen bytes each), then
 * the headers of those that are lent. It fetches one in the members' own way:
 *
 *     1. place  LENT -> BUSY            of our threads, one
 *     2. header RACK -> DEPOT by CAS    of the members and us, one; who loses puts the place back
 *     3. the slot that says so: cleared, a courtesy
 *     4. as a magazine that was given: into the depot, or its objects to their slabs
 *
 * A death between 2 and 4 leaves what a give leaves whose call was not seen.
 *
 * When. Memory is short, caches are dropped, a cache shrinks or ends: at once, all. No magazine is
 * empty: some. Every 15 seconds: those whose header is the word that it was the last time; the tag
 * changes with every hand, so nobody touched them meanwhile. That finds also what no slot tells of:
 * the giver died before, or a slow clearing hit the slot's next magazine. A sweep, after which a dead
 * giver's magazine should not wait so long, asks the slots (rack_find_lost); a giver that lives and is
 * just between header and slot leaves a slot that is stale, no more.
 *
 * Nothing in the rack is charged to anybody, and who takes from there is not: only sessions without a
 * quota use it (CONTROL_RACKS_OFF tells the others), and are counted now and then (session_end.c). Slots and headers are what members make of them: numbers are bounded, the rounds are
 * looked up as those of every give.
 */
#include "daemon/rack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/exchange_private.h"
#include "daemon/pool.h"

struct rack {
	_Atomic uint32_t next; /* where rack_reclaim() looks next */
	uint64_t seen[];       /* headers of the last trimming; 0: was not in the rack */
};

int rack_new(struct rack **ret, struct domain *d)
{
	struct rack *r = calloc(1, sizeof(*r) + depot_size(d->depot) * sizeof(r->seen[0]));

	if (!r)
		return -ENOMEM;
	*ret = r;
	return 0;
}

struct rack *rack_free(struct rack *r)
{
	free(r);
	return NULL;
}

int rack_begin(struct domain *d, uint32_t cache)
{
	struct control_rack *rack = &d->control.rack[cache];
	int r = pool_rack_open(d->kmmd->pool, cache);
	uint32_t i;

	/* relaxed: hints; of a cache that had the id before */
	for (i = 0; r == 0 && i < CONTROL_RACK_SLOTS; i++)
		atomic_store_explicit(&rack->slot[i], 0, memory_order_relaxed);
	return r;
}

/* The header of a magazine that lies in the rack; false: it does not. */
static bool lies_there(const struct domain *d, magazine_id_t m, uint64_t *h)
{
	if (!depot_is_lent(d->depot, m))
		return false;
	*h = magazine_load(exchange_magazine(d, m));
	return magazine_is(*h, MAGAZINE_RACK, 0);
}

/* The cache whose rack it belongs to, 0 for an empty one. Members write it. */
static uint32_t rack_cache(const struct domain *d, magazine_id_t m, uint64_t h)
{
	/* relaxed: written before the header */
	uint32_t kind = atomic_load_explicit(&exchange_magazine(d, m)->kind, memory_order_relaxed);

	if (!magazine_count(h) || !(kind & MAGAZINE_OF_OBJECTS))
		return 0;
	return (kind & ~MAGAZINE_OF_OBJECTS) % CONTROL_CACHES_MAX;
}

static void clear_slot(struct domain *d, uint32_t cache, uint32_t m)
{
	struct control_rack *rack = &d->control.rack[cache];
	uint32_t i;

	for (i = 0; i < CONTROL_RACK_SLOTS; i++)
		/* relaxed: a hint */
		if (atomic_load_explicit(&rack->slot[i], memory_order_relaxed) == m + 1)
			control_rack_clear(rack, i, m + 1);
}

/* Fetches one; false: somebody else has it. */
static bool fetch(struct domain *d, magazine_id_t m, uint64_t h, uint32_t cpu, bool keep)
{
	uint32_t of, n = magazine_count(h), cache = rack_cache(d, m, h);

	if (!depot_claim_lent(d->depot, m, &of))
		return false;
	if (!magazine_cas(exchange_magazine(d, m), &h, magazine_next(h, MAGAZINE_DEPOT, 0, n))) {
		depot_unclaim(d->depot, m, of);
		return false;
	}
	exchange_gone(d, of);
	clear_slot(d, cache, m.nr);
	exchange_put(d, NULL, cpu, m, n, keep);
	return true;
}

uint64_t rack_collect(struct domain *d, uint32_t cache, uint32_t cpu, bool keep)
{
	uint64_t n = 0;
	magazine_id_t m;
	uint64_t h;

	for (m.nr = 0; m.nr < depot_size(d->depot); m.nr++)
		if (lies_there(d, m, &h) && (!cache || rack_cache(d, m, h) == cache))
			n += fetch(d, m, h, cpu, keep) ? magazine_count(h) : 0;
	return n;
}

bool rack_free_one(struct domain *d, uint32_t cache, uint32_t cpu)
{
	magazine_id_t m;
	uint64_t h;

	for (m.nr = 0; m.nr < depot_size(d->depot); m.nr++)
		if (lies_there(d, m, &h) && rack_cache(d, m, h) == cache &&
		    fetch(d, m, h, cpu, false))
			return true;
	return false;
}

uint32_t rack_reclaim(struct domain *d, uint32_t session, uint32_t want, bool may_free)
{
	uint32_t size = depot_size(d->depot), i, n = 0;
	magazine_id_t m;
	uint64_t h;

	for (i = 0; i < size && n < want; i++) {
		/* relaxed: where to look next, no more */
		m.nr = atomic_fetch_add_explicit(&d->rack->next, 1, memory_order_relaxed) % size;
		if (lies_there(d, m, &h) && (may_free || !magazine_count(h)) &&
		    (!session || depot_lent_to(d->depot, m) == session))
			n += fetch(d, m, h, MM_CPU_NONE, false);
	}
	return n;
}

void rack_trim(struct domain *d, uint32_t cpu)
{
	magazine_id_t m;

	for (m.nr = 0; m.nr < depot_size(d->depot); m.nr++) {
		uint64_t *seen = &d->rack->seen[m.nr], h;

		if (!lies_there(d, m, &h)) {
			*seen = 0;
		} else if (*seen != h) {
			*seen = h;
		} else {
			fetch(d, m, h, cpu, true);
			*seen = 0;
		}
	}
}

void rack_find_lost(struct domain *d, magazine_id_t m, uint64_t h)
{
	if (!control_rack_says(&d->control.rack[rack_cache(d, m, h)], m.nr))
		fetch(d, m, h, MM_CPU_NONE, true);
}

void rack_count(const struct domain *d, struct rack_count n[])
{
	magazine_id_t m;
	uint64_t h;

	for (m.nr = 0; m.nr < depot_size(d->depot); m.nr++) {
		uint32_t cache;

		if (!lies_there(d, m, &h) || !magazine_count(h))
			continue;
		cache = rack_cache(d, m, h);
		n[cache].magazines++;
		n[cache].rounds += magazine_count(h);
	}
}

/* ---- validation ---- */

static size_t validate_one(const struct domain *d, uint32_t cache, mm_report_fn report, void *ctx)
{
	size_t findings = 0;
	uint32_t i, said;
	char text[120];

	for (i = 0; i < CONTROL_RACK_SLOTS; i++) {
		said = atomic_load_explicit(&d->control.rack[cache].slot[i], memory_order_relaxed);
		if (said <= depot_size(d->depot))
			continue;
		snprintf(text, sizeof(text), "the rack of cache %u names magazine %u of %u", cache,
		         said - 1, depot_size(d->depot));
		report(ctx, text);
		findings++;
	}
	return findings;
}

size_t rack_validate(const struct domain *d, mm_report_fn report, void *ctx)
{
	size_t findings = validate_one(d, 0, report, ctx);
	uint32_t id;

	/* Racks that were never in use are no memory. */
	for (id = 1; id < CONTROL_CACHES_MAX; id++)
		/* relaxed: reactors stand still */
		if (atomic_load_explicit(&d->control.cache[id].life, memory_order_relaxed))
			findings += validate_one(d, id, report, ctx);
	return findings;
}
