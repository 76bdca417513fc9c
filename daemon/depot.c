/* SPDX-License-Identifier: MIT */
/*
 * Magazines are written by clients, so their headers are requests, not facts. The fact is one
 * private word a magazine, its place:
 *
 *      63     60 59    40 39    16 15      4 3     0
 *     +---------+--------+--------+---------+-------+
 *     | 0       |session | class  | rounds  | place |
 *     +---------+--------+--------+---------+-------+
 *
 *   EMPTY   on the list of empty ones           FULL   on the list of its class
 *   LENT    with the members, counts for        BUSY   in the hands of one of our threads
 *           `session` (0: for none)
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
 * Classes. There is one for each cache that might be and each node: a big array that begins zeroed
 * and of which only the used part is ever touched. A class counts its full magazines and the least
 * that there were since the last depot_trim(): what was never needed in an interval goes back. The
 * counts follow the lists with a delay; they rule nothing but the trimming and the reports.
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
#define PLACE_ROUNDS_MASK 0xfffu
#define PLACE_CLASS_SHIFT 16
#define PLACE_CLASS_MASK 0xffffffu
#define PLACE_SESSION_SHIFT 40
_Static_assert(MAGAZINE_ROUNDS_MAX <= PLACE_ROUNDS_MASK, "a magazine's rounds fit");
_Static_assert(PAGE_CLASSES + (uint64_t)CONTROL_CACHES_MAX * MAX_NODES <= PLACE_CLASS_MASK + 1,
               "a class fits");
#define LINK_NONE 0u /* links are indices + 1 */

struct depot_slot {
	_Atomic uint64_t place;
	_Atomic uint32_t next;   /* below it on its list, + 1 */
	_Atomic uint32_t frames; /* FULL: what it counts for */
};

/* bits 0..31 index + 1 or LINK_NONE, 32..63 tag */
typedef _Atomic uint64_t depot_list;

struct depot_class {
	depot_list list;
	_Atomic uint32_t full;     /* magazines on it */
	_Atomic uint32_t full_min; /* the least of `full` in this interval */
	_Atomic uint64_t rounds;
};

struct depot {
	struct control control;
	uint32_t nodes;
	_Atomic uint64_t frames_max;
	_Atomic uint64_t frames;
	_Atomic uint32_t reap_next;
	_Atomic uint32_t full;    /* magazines of all classes */
	_Atomic uint32_t classes; /* those below were used */
	_Atomic uint32_t any_next;
	depot_list empty;
	struct depot_class *class; /* all zero: nothing there */
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
	return (uint32_t)(p >> PLACE_ROUNDS_SHIFT) & PLACE_ROUNDS_MASK;
}

static uint32_t place_class(uint64_t p)
{
	return (uint32_t)(p >> PLACE_CLASS_SHIFT) & PLACE_CLASS_MASK;
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
	} while (!atomic_compare_exchange_weak_explicit(
		list, &head, ((head >> 32) + 1) << 32 | (m + 1), memory_order_acq_rel,
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
		next = atomic_load_explicit(&d->slot[(uint32_t)head - 1].next,
		                            memory_order_relaxed);
	} while (
		!atomic_compare_exchange_weak_explicit(list, &head, ((head >> 32) + 1) << 32 | next,
	                                               memory_order_acq_rel, memory_order_acquire));
	*ret = (uint32_t)head - 1;
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

void depot_limit(struct depot *d, uint64_t frames_max)
{
	/* relaxed: a limit, nothing is published by it */
	atomic_store_explicit(&d->frames_max, frames_max, memory_order_relaxed);
}

int depot_new(struct depot **ret, const struct control *c, uint32_t nodes, uint64_t frames_max,
              const uint32_t lent[])
{
	uint32_t n = c->geometry.magazines, m;
	struct depot *d = calloc(1, sizeof(*d) + (size_t)n * sizeof(d->slot[0]));

	if (!d)
		return -ENOMEM;
	d->control = *c;
	d->nodes = nodes;
	depot_limit(d, frames_max);
	d->class = calloc(PAGE_CLASSES + (size_t)CONTROL_CACHES_MAX * nodes, sizeof(d->class[0]));
	if (!d->class) {
		depot_free(d);
		return -ENOMEM;
	}
	/* relaxed: there is no other thread yet */
	atomic_store_explicit(&d->classes, PAGE_CLASSES, memory_order_relaxed);
	for (m = n; m > 0; m--) {
		if (lent && lent[m - 1])
			place_store(d, m - 1,
			            place_make(DEPOT_LENT,
			                       lent[m - 1] == DEPOT_LENT_MEMBERS ? 0 : lent[m - 1],
			                       0, 0));
		else
			depot_put_empty(d, (magazine_id_t){ m - 1 });
	}
	*ret = d;
	return 0;
}

struct depot *depot_free(struct depot *d)
{
	if (!d)
		return NULL;
	free(d->class);
	free(d);
	return NULL;
}

/* ---- classes ---- */

unsigned int depot_class_objects(const struct depot *d, uint32_t cache, uint32_t node)
{
	return PAGE_CLASSES + cache * d->nodes + node;
}

unsigned int depot_classes(const struct depot *d)
{
	/* relaxed: a class that is used for the first time meanwhile is seen the next time */
	return atomic_load_explicit(&d->classes, memory_order_relaxed);
}

uint32_t depot_nodes(const struct depot *d)
{
	return d->nodes;
}

void depot_set_kind(struct depot *d, magazine_id_t m, unsigned int class)
{
	uint32_t kind = class < PAGE_CLASSES ?
	                        class :
	                        MAGAZINE_OF_OBJECTS | (class - PAGE_CLASSES) / d->nodes;

	/* relaxed: published by the header */
	atomic_store_explicit(&d->control.magazine[m.nr].kind, kind, memory_order_relaxed);
}

static void note_class(struct depot *d, unsigned int class)
{
	uint32_t n = depot_classes(d);

	while (n <= class && !atomic_compare_exchange_weak_explicit(&d->classes, &n, class + 1,
	                                                            memory_order_relaxed,
	                                                            memory_order_relaxed))
		;
}

/* relaxed, here and below: counters that rule trimming and reports, no more */
static void class_added(struct depot *d, unsigned int class, uint32_t rounds)
{
	struct depot_class *c = &d->class[class];

	note_class(d, class);
	atomic_fetch_add_explicit(&c->full, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->rounds, rounds, memory_order_relaxed);
	atomic_fetch_add_explicit(&d->full, 1, memory_order_relaxed);
}

static void class_removed(struct depot *d, unsigned int class, uint32_t rounds)
{
	struct depot_class *c = &d->class[class];
	uint32_t left = atomic_fetch_sub_explicit(&c->full, 1, memory_order_relaxed) - 1;
	uint32_t min = atomic_load_explicit(&c->full_min, memory_order_relaxed);

	atomic_fetch_sub_explicit(&c->rounds, rounds, memory_order_relaxed);
	atomic_fetch_sub_explicit(&d->full, 1, memory_order_relaxed);
	while (left < min && !atomic_compare_exchange_weak_explicit(&c->full_min, &min, left,
	                                                            memory_order_relaxed,
	                                                            memory_order_relaxed))
		;
}

uint32_t depot_trim(struct depot *d, unsigned int class)
{
	struct depot_class *c = &d->class[class];
	uint32_t full = atomic_load_explicit(&c->full, memory_order_relaxed);
	uint32_t min = atomic_load_explicit(&c->full_min, memory_order_relaxed);
	uint32_t surplus = min < full ? min : full;

	/* What goes back now is no part of the next interval. Classes that rest are not written. */
	if (min != full - surplus)
		atomic_store_explicit(&c->full_min, full - surplus, memory_order_relaxed);
	return surplus;
}

void depot_count(const struct depot *d, unsigned int class, struct depot_count *n)
{
	n->full = atomic_load_explicit(&d->class[class].full, memory_order_relaxed);
	n->rounds = atomic_load_explicit(&d->class[class].rounds, memory_order_relaxed);
}

void depot_count_cache(const struct depot *d, uint32_t cache, struct depot_count *n)
{
	struct depot_count one;
	uint32_t node;

	*n = (struct depot_count){ 0 };
	for (node = 0; node < d->nodes; node++) {
		depot_count(d, depot_class_objects(d, cache, node), &one);
		n->full += one.full;
		n->rounds += one.rounds;
	}
}

/* ---- taking and putting ---- */

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

	if (!list_pop(d, &d->class[class].list, &m))
		return false;
	*rounds = place_rounds(place_load(d, m));
	class_removed(d, class, *rounds);
	/* relaxed: a counter that limits, it orders nothing */
	atomic_fetch_sub_explicit(&d->frames,
	                          atomic_load_explicit(&d->slot[m].frames, memory_order_relaxed),
	                          memory_order_relaxed);
	place_store(d, m, place_make(DEPOT_BUSY, 0, 0, 0));
	ret->nr = m;
	return true;
}

bool depot_take_any(struct depot *d, magazine_id_t *ret, unsigned int *class, uint32_t *rounds)
{
	uint32_t n = depot_classes(d), i, first;

	if (!atomic_load_explicit(&d->full, memory_order_relaxed))
		return false;
	/* In turn, so that no class pays for all. */
	first = atomic_fetch_add_explicit(&d->any_next, 1, memory_order_relaxed);
	for (i = 0; i < n; i++) {
		unsigned int c = (first + i) % n;

		/* relaxed: a look that spares the exchange; the list decides */
		if ((uint32_t)atomic_load_explicit(&d->class[c].list, memory_order_relaxed) ==
		            LINK_NONE ||
		    !depot_take_full(d, c, ret, rounds))
			continue;
		atomic_store_explicit(&d->any_next, c, memory_order_relaxed);
		*class = c;
		return true;
	}
	return false;
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

bool depot_claim_lent(struct depot *d, magazine_id_t m, uint32_t *session)
{
	uint64_t p;

	if (m.nr >= d->control.geometry.magazines)
		return false;
	p = place_load(d, m.nr);
	if (place_of(p) != DEPOT_LENT || !depot_claim(d, m, place_session(p)))
		return false;
	*session = place_session(p);
	return true;
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
	    atomic_load_explicit(&d->frames_max, memory_order_relaxed)) {
		atomic_fetch_sub_explicit(&d->frames, frames, memory_order_relaxed);
		return false;
	}
	atomic_store_explicit(&d->slot[m.nr].frames, frames, memory_order_relaxed);
	depot_set_kind(d, m, class);
	header_set(d, m.nr, MAGAZINE_DEPOT, 0, rounds);
	place_store(d, m.nr, place_make(DEPOT_FULL, 0, class, rounds));
	class_added(d, class, rounds);
	list_push(d, &d->class[class].list, m.nr);
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

bool depot_is_lent(const struct depot *d, magazine_id_t m)
{
	return m.nr < d->control.geometry.magazines && place_of(place_load(d, m.nr)) == DEPOT_LENT;
}

bool depot_is_out(const struct depot *d, magazine_id_t m)
{
	uint64_t p;

	if (m.nr >= d->control.geometry.magazines)
		return false;
	p = place_load(d, m.nr);
	return place_of(p) == DEPOT_LENT || place_of(p) == DEPOT_BUSY;
}

bool depot_is_busy(const struct depot *d, magazine_id_t m)
{
	return m.nr < d->control.geometry.magazines && place_of(place_load(d, m.nr)) == DEPOT_BUSY;
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

bool depot_reap_one(struct depot *d, magazine_id_t m, uint32_t session)
{
	if (!depot_is_lent(d, m) || depot_lent_to(d, m) != session ||
	    magazine_state(magazine_load(&d->control.magazine[m.nr])) != MAGAZINE_EMPTY ||
	    !depot_claim(d, m, session))
		return false;
	if (magazine_state(magazine_load(&d->control.magazine[m.nr])) == MAGAZINE_EMPTY)
		return true;
	/* Lent anew between the look and the claim: it is in use. */
	depot_unclaim(d, m, session);
	return false;
}

uint32_t depot_reap(struct depot *d, uint32_t want, void (*gone)(void *ctx, uint32_t session),
                    void *ctx)
{
	uint32_t n = d->control.geometry.magazines, found = 0, i, session;
	magazine_id_t m;

	for (i = 0; i < n && found < want; i++) {
		/* relaxed: where to look next, no more */
		m.nr = atomic_fetch_add_explicit(&d->reap_next, 1, memory_order_relaxed) % n;
		if (!depot_is_lent(d, m))
			continue;
		session = depot_lent_to(d, m);
		if (!depot_reap_one(d, m, session))
			continue;
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

struct depot_sum {
	uint32_t full;
	uint64_t rounds, frames;
};

static size_t list_validate(const struct depot *d, const depot_list *list, enum depot_place place,
                            unsigned int class, uint8_t *seen, struct depot_sum *sum,
                            mm_report_fn report, void *ctx)
{
	uint32_t link = (uint32_t)atomic_load_explicit(list, memory_order_acquire), m;
	size_t findings = 0;

	for (; link != LINK_NONE;
	     link = atomic_load_explicit(&d->slot[m].next, memory_order_relaxed)) {
		uint64_t p, h;

		m = link - 1;
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
		sum->full++;
		sum->rounds += place_rounds(p);
		sum->frames += atomic_load_explicit(&d->slot[m].frames, memory_order_relaxed);
	}
	return findings;
}

static size_t class_validate(const struct depot *d, unsigned int class, uint8_t *seen,
                             struct depot_sum *all, mm_report_fn report, void *ctx)
{
	struct depot_sum sum = { 0 };
	struct depot_count n;
	size_t findings = list_validate(d, &d->class[class].list, DEPOT_FULL, class, seen, &sum,
	                                report, ctx);

	depot_count(d, class, &n);
	if (n.full != sum.full || n.rounds != sum.rounds)
		findings += report_one(report, ctx,
		                       "depot: class %u is said to have %u full magazines, which "
		                       "its list has not",
		                       class, n.full);
	all->full += sum.full;
	all->frames += sum.frames;
	return findings;
}

size_t depot_validate(const struct depot *d, mm_report_fn report, void *ctx)
{
	uint32_t n = d->control.geometry.magazines, m;
	uint8_t *seen = calloc(n ? n : 1, 1);
	struct depot_sum all = { 0 }, ignored = { 0 };
	size_t findings = 0;
	unsigned int i;

	if (!seen)
		return report_one(report, ctx, "depot: no memory to check %u magazines (%u)", n, 0);
	findings += list_validate(d, &d->empty, DEPOT_EMPTY, 0, seen, &ignored, report, ctx);
	for (i = 0; i < depot_classes(d); i++)
		findings += class_validate(d, i, seen, &all, report, ctx);
	for (m = 0; m < n; m++) {
		enum depot_place place = place_of(place_load(d, m));

		if (!seen[m] && place != DEPOT_LENT)
			findings += report_one(report, ctx,
			                       "depot: magazine %u is on no list, its place is %u",
			                       m, (unsigned int)place);
	}
	if (all.frames != depot_frames(d))
		findings += report_one(report, ctx,
		                       "depot: full magazines hold %u frames, the counter says %u",
		                       (uint32_t)all.frames, (unsigned int)depot_frames(d));
	if (all.full != atomic_load_explicit(&d->full, memory_order_relaxed))
		findings += report_one(report, ctx,
		                       "depot: there are %u full magazines, the counter says %u",
		                       all.full,
		                       atomic_load_explicit(&d->full, memory_order_relaxed));
	free(seen);
	return findings;
}
