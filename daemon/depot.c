/* SPDX-License-Identifier: MIT */
/*
 * Magazines are written by clients, so their headers are requests, not facts. The fact is one
 * private word a magazine, its place:
 *
 *      63     48 47    28 27    20 19      4 3     0
 *     +---------+--------+--------+---------+-------+
 *     | 0       |session | class  | rounds  | place |
 *     +---------+--------+--------+---------+-------+
 *
 *   EMPTY   on the list of empty ones           FULL   on the list of its class
 *   LENT    with `session`                      BUSY   in the hands of one of our threads
 *
 *   EMPTY --take--> BUSY --lend--> LENT --claim--> BUSY --put--> EMPTY or FULL
 *
 * Only LENT -> BUSY is contended (the same magazine given twice, given and swept): it is a
 * compare-and-swap. The other changes are made by the thread that holds the magazine.
 *
 * The lists are stacks (Treiber) of indices; their heads carry a tag that grows with each change,
 * so that a head which went and came back is not mistaken for one that stayed. Pushing and popping
 * is O(1), without locks.
 *
 * A header that a client changed behind our back is overwritten at the next transition; what the
 * words say decides about the rounds.
 */
#include "daemon/depot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum depot_place {
	DEPOT_EMPTY,
	DEPOT_FULL,
	DEPOT_LENT,
	DEPOT_BUSY,
};

#define PLACE_MASK UINT64_C(15)
#define PLACE_ROUNDS_SHIFT 4
#define PLACE_CLASS_SHIFT 20
#define PLACE_SESSION_SHIFT 28
#define LINK_NONE UINT32_MAX

struct depot_slot {
	_Atomic uint64_t place;
	_Atomic uint32_t next;   /* below it on its list */
	_Atomic uint32_t frames; /* FULL: what it counts for */
};

/* bits 0..31 index or LINK_NONE, 32..63 tag */
typedef _Atomic uint64_t depot_list;

struct depot {
	struct control control;
	uint64_t frames_max;
	_Atomic uint64_t frames;
	_Atomic uint32_t reap_next;
	depot_list empty;
	depot_list full[PAGE_CLASSES];
	struct depot_slot slot[];
};

static uint64_t place_make(enum depot_place place, uint32_t session, unsigned int class,
                           uint32_t rounds)
{
	return (uint64_t)session << PLACE_SESSION_SHIFT | (uint64_t) class << PLACE_CLASS_SHIFT |
	       (uint64_t)rounds << PLACE_ROUNDS_SHIFT | place;
}

static enum depot_place place_of(uint64_t p)
{
	return (enum depot_place)(p & PLACE_MASK);
}

static uint32_t place_rounds(uint64_t p)
{
	return (uint32_t)(p >> PLACE_ROUNDS_SHIFT & 0xffff);
}

static uint32_t place_class(uint64_t p)
{
	return (uint32_t)(p >> PLACE_CLASS_SHIFT & 0xff);
}

static uint32_t place_session(uint64_t p)
{
	return (uint32_t)(p >> PLACE_SESSION_SHIFT & MAGAZINE_OWNER_MAX);
}

static uint64_t place_load(const struct depot *d, uint32_t m)
{
	/* acquire pairs with place_store(): what its last holder wrote is seen */
	return atomic_load_explicit(&d->slot[m].place, memory_order_acquire);
}

static void place_store(struct depot *d, uint32_t m, uint64_t p)
{
	atomic_store_explicit(&d->slot[m].place, p, memory_order_release);
}

static void list_push(struct depot *d, depot_list *list, uint32_t m)
{
	/* acquire pairs with the releases in list_push() and list_pop() */
	uint64_t head = atomic_load_explicit(list, memory_order_acquire);

	do {
		/* relaxed: published by the exchange below */
		atomic_store_explicit(&d->slot[m].next, (uint32_t)head, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(list, &head, ((head >> 32) + 1) << 32 | m,
	                                                memory_order_acq_rel,
	                                                memory_order_acquire));
}

static bool list_pop(struct depot *d, depot_list *list, uint32_t *ret)
{
	/* acquire pairs with the release in list_push(): the link below is seen */
	uint64_t head = atomic_load_explicit(list, memory_order_acquire);
	uint32_t next;

	do {
		if ((uint32_t)head == LINK_NONE)
			return false;
		/* relaxed: may be of a later life of the slot; then the tag fails the exchange */
		next = atomic_load_explicit(&d->slot[(uint32_t)head].next, memory_order_relaxed);
	} while (
		!atomic_compare_exchange_weak_explicit(list, &head, ((head >> 32) + 1) << 32 | next,
	                                               memory_order_acq_rel, memory_order_acquire));
	*ret = (uint32_t)head;
	return true;
}

/* Whatever a client made of the header: the next one is ours. */
static void header_set(struct depot *d, uint32_t m, enum magazine_state state, uint32_t owner,
                       uint32_t count)
{
	struct magazine *mag = &d->control.magazine[m];
	uint64_t h = magazine_load(mag);
	unsigned int i;

	/* A client that keeps writing to it only spoils its own exchange: no endless race. */
	for (i = 0; i < 8; i++)
		if (magazine_cas(mag, &h, magazine_next(h, state, owner, count)))
			return;
	/* release: as the exchange above */
	atomic_store_explicit(&mag->header, magazine_next(h, state, owner, count),
	                      memory_order_release);
}

int depot_new(struct depot **ret, const struct control *c, uint64_t frames_max,
              const uint32_t lent[])
{
	uint32_t n = c->geometry.magazines, m;
	struct depot *d = calloc(1, sizeof(*d) + (size_t)n * sizeof(d->slot[0]));
	unsigned int i;

	if (!d)
		return -ENOMEM;
	d->control = *c;
	d->frames_max = frames_max;
	/* relaxed: there is no other thread yet */
	atomic_store_explicit(&d->empty, LINK_NONE, memory_order_relaxed);
	for (i = 0; i < PAGE_CLASSES; i++)
		atomic_store_explicit(&d->full[i], LINK_NONE, memory_order_relaxed);
	for (m = n; m > 0; m--) {
		if (lent && lent[m - 1])
			place_store(d, m - 1, place_make(DEPOT_LENT, lent[m - 1], 0, 0));
		else
			depot_put_empty(d, (magazine_id_t){ m - 1 });
	}
	*ret = d;
	return 0;
}

struct depot *depot_free(struct depot *d)
{
	free(d);
	return NULL;
}

bool depot_take_empty(struct depot *d, magazine_id_t *ret)
{
	uint32_t m;

	if (!list_pop(d, &d->empty, &m))
		return false;
	place_store(d, m, place_make(DEPOT_BUSY, 0, 0, 0));
	ret->nr = m;
	return true;
}

bool depot_take_full(struct depot *d, unsigned int class, magazine_id_t *ret, uint32_t *rounds)
{
	uint32_t m;

	if (!list_pop(d, &d->full[class], &m))
		return false;
	*rounds = place_rounds(place_load(d, m));
	/* relaxed: a counter that limits, it orders nothing */
	atomic_fetch_sub_explicit(&d->frames,
	                          atomic_load_explicit(&d->slot[m].frames, memory_order_relaxed),
	                          memory_order_relaxed);
	place_store(d, m, place_make(DEPOT_BUSY, 0, 0, 0));
	ret->nr = m;
	return true;
}

bool depot_claim(struct depot *d, magazine_id_t m, uint32_t session)
{
	uint64_t p = place_make(DEPOT_LENT, session, 0, 0);

	/* acq_rel pairs with itself and place_store(): one winner, who sees the last holder's work
	 */
	return m.nr < d->control.geometry.magazines &&
	       atomic_compare_exchange_strong_explicit(&d->slot[m.nr].place, &p,
	                                               place_make(DEPOT_BUSY, 0, 0, 0),
	                                               memory_order_acq_rel, memory_order_acquire);
}

void depot_put_empty(struct depot *d, magazine_id_t m)
{
	header_set(d, m.nr, MAGAZINE_EMPTY, 0, 0);
	place_store(d, m.nr, place_make(DEPOT_EMPTY, 0, 0, 0));
	list_push(d, &d->empty, m.nr);
}

bool depot_put_full(struct depot *d, magazine_id_t m, unsigned int class, uint32_t rounds,
                    uint32_t frames)
{
	/* relaxed: a counter that limits, it orders nothing */
	if (atomic_fetch_add_explicit(&d->frames, frames, memory_order_relaxed) + frames >
	    d->frames_max) {
		atomic_fetch_sub_explicit(&d->frames, frames, memory_order_relaxed);
		return false;
	}
	atomic_store_explicit(&d->slot[m.nr].frames, frames, memory_order_relaxed);
	atomic_store_explicit(&d->control.magazine[m.nr].kind, class, memory_order_relaxed);
	header_set(d, m.nr, MAGAZINE_DEPOT, 0, rounds);
	place_store(d, m.nr, place_make(DEPOT_FULL, 0, class, rounds));
	list_push(d, &d->full[class], m.nr);
	return true;
}

void depot_lend(struct depot *d, magazine_id_t m, uint32_t session, enum magazine_state state,
                uint32_t rounds)
{
	/* The header first: once the place says LENT, an EMPTY header is its session's doing, and
	 * depot_reap() may believe it. The client learns of the magazine by a reply sent later. */
	header_set(d, m.nr, state, session, rounds);
	place_store(d, m.nr, place_make(DEPOT_LENT, session, 0, 0));
}

void depot_unclaim(struct depot *d, magazine_id_t m, uint32_t session)
{
	place_store(d, m.nr, place_make(DEPOT_LENT, session, 0, 0));
}

uint32_t depot_lent_to(const struct depot *d, magazine_id_t m)
{
	uint64_t p;

	if (m.nr >= d->control.geometry.magazines)
		return 0;
	p = place_load(d, m.nr);
	return place_of(p) == DEPOT_LENT ? place_session(p) : 0;
}

uint32_t depot_rounds(const struct depot *d, magazine_id_t m)
{
	uint64_t p = place_load(d, m.nr);

	return place_of(p) == DEPOT_FULL ? place_rounds(p) : 0;
}

uint32_t depot_size(const struct depot *d)
{
	return d->control.geometry.magazines;
}

uint64_t depot_frames(const struct depot *d)
{
	return atomic_load_explicit(&d->frames, memory_order_relaxed);
}

uint32_t depot_reap(struct depot *d, uint32_t budget, void (*gone)(void *ctx, uint32_t session),
                    void *ctx)
{
	uint32_t n = d->control.geometry.magazines, found = 0, i, session;
	magazine_id_t m;

	if (budget > n)
		budget = n;
	for (i = 0; i < budget; i++) {
		/* relaxed: where to look next, no more */
		m.nr = atomic_fetch_add_explicit(&d->reap_next, 1, memory_order_relaxed) % n;
		session = depot_lent_to(d, m);
		if (!session ||
		    magazine_state(magazine_load(&d->control.magazine[m.nr])) != MAGAZINE_EMPTY)
			continue;
		if (!depot_claim(d, m, session))
			continue;
		/* Lent anew between the look and the claim: it is in use. */
		if (magazine_state(magazine_load(&d->control.magazine[m.nr])) != MAGAZINE_EMPTY) {
			depot_unclaim(d, m, session);
			continue;
		}
		depot_put_empty(d, m);
		gone(ctx, session);
		found++;
	}
	return found;
}

/* ---- validation ---- */

static size_t report_one(mm_report_fn report, void *ctx, const char *fmt, uint32_t m, unsigned a)
{
	char text[160];

	snprintf(text, sizeof(text), fmt, m, a);
	report(ctx, text);
	return 1;
}

static size_t list_validate(const struct depot *d, const depot_list *list, enum depot_place place,
                            unsigned int class, uint8_t *seen, uint64_t *frames,
                            mm_report_fn report, void *ctx)
{
	uint32_t m = (uint32_t)atomic_load_explicit(list, memory_order_acquire);
	size_t findings = 0;

	while (m != LINK_NONE) {
		uint64_t p, h;

		if (m >= d->control.geometry.magazines)
			return findings + report_one(report, ctx,
			                             "depot: a list names magazine %u of %u", m,
			                             d->control.geometry.magazines);
		if (seen[m]++)
			return findings +
			       report_one(report, ctx,
			                  "depot: magazine %u is on two lists (class %u)", m,
			                  class);
		p = place_load(d, m);
		if (place_of(p) != place || (place == DEPOT_FULL && place_class(p) != class))
			findings += report_one(
				report, ctx, "depot: magazine %u is on a list but its place is %u",
				m, (unsigned int)place_of(p));
		h = magazine_load(&d->control.magazine[m]);
		if (place == DEPOT_FULL &&
		    (!magazine_is(h, MAGAZINE_DEPOT, 0) || magazine_count(h) != place_rounds(p)))
			findings += report_one(
				report, ctx, "depot: the header of full magazine %u says state %u",
				m, (unsigned int)magazine_state(h));
		if (place == DEPOT_EMPTY && magazine_state(h) != MAGAZINE_EMPTY)
			findings += report_one(
				report, ctx, "depot: the header of empty magazine %u says state %u",
				m, (unsigned int)magazine_state(h));
		if (place == DEPOT_FULL)
			*frames += atomic_load_explicit(&d->slot[m].frames, memory_order_relaxed);
		m = atomic_load_explicit(&d->slot[m].next, memory_order_relaxed);
	}
	return findings;
}

size_t depot_validate(const struct depot *d, mm_report_fn report, void *ctx)
{
	uint32_t n = d->control.geometry.magazines, m;
	uint8_t *seen = calloc(n ? n : 1, 1);
	uint64_t frames = 0;
	size_t findings = 0;
	unsigned int i;

	if (!seen)
		return report_one(report, ctx, "depot: no memory to check %u magazines (%u)", n, 0);
	findings += list_validate(d, &d->empty, DEPOT_EMPTY, 0, seen, &frames, report, ctx);
	for (i = 0; i < PAGE_CLASSES; i++)
		findings += list_validate(d, &d->full[i], DEPOT_FULL, i, seen, &frames, report,
		                          ctx);
	for (m = 0; m < n; m++) {
		enum depot_place place = place_of(place_load(d, m));

		if (!seen[m] && place != DEPOT_LENT)
			findings += report_one(report, ctx,
			                       "depot: magazine %u is on no list, its place is %u",
			                       m, (unsigned int)place);
	}
	if (frames != depot_frames(d))
		findings += report_one(report, ctx,
		                       "depot: full magazines hold %u frames, the counter says %u",
		                       (uint32_t)frames, (unsigned int)depot_frames(d));
	free(seen);
	return findings;
}
