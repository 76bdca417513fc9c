/* SPDX-License-Identifier: MIT */
/*
 * Walks over the owner words of blocks: collecting what threads cache, withdrawing what was never
 * claimed, and the sweep of a session that ended. For objects see object_walk.c.
 *
 * The sweep runs on the worker when nobody acts for the session any more. Every block that the
 * session may have lies in a section noted by the daemon (granted_from) or by the client, which
 * sets its bit before it adopts or takes. The steps, each of which may be repeated after a death:
 *
 *   1. holds         its entries leave the holder table; a thing held by nobody else is freed
 *   2. words         OFFERED, HELD, RETURNED by it, or in a magazine lent to it: freed, or left to
 *                    further holders. A block that is charged to it but that somebody else has
 *                    (adopted, sent) is charged to that one from now on
 *   3. objects       the same with the words of the slabs that it touched (object_walk.c)
 *   4. magazines     that it has: what they list is freed, too (it may have taken one from the rack
 *                    and died before it marked the slabs), then empty. What it was giving away is
 *                    taken as given. Others that only count for it count for who has them
 *   5. areas         its entries in their table, which are for reports alone (area.c)
 *   6. shared record zeroed
 *
 * A word is freed by a compare-and-swap from what was read, so an adoption that came first wins and
 * the block stays; one that comes later fails. After step 2 no block is charged to the session.
 *
 * A walk costs O(frames of the sections), one load each.
 */
#include "daemon/area.h"
#include "daemon/exchange_private.h"
#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/move.h"
#include "daemon/rack.h"

#include <sched.h>
#include <string.h>

#define SWEEP_PASSES_MAX 256
#define SWEEP_RACES_MAX 64 /* a member that scribbles without end spoils its own domain only */

struct walk {
	struct domain *d;
	struct session *s;
	struct grant_batch batch;
	struct sweep_count n; /* of a sweep: without the blocks, which the batch counts */
};

static void walk_init(struct walk *k, struct domain *d, struct session *s, uint32_t cpu)
{
	k->d = d;
	k->s = s;
	k->n = (struct sweep_count){ 0 };
	grant_batch_init(&k->batch, d, cpu);
}

static uint64_t walk_run(struct walk *k, grant_walk_fn fn)
{
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];

	grant_sections(k->d, k->s, mask);
	grant_walk(k->d, mask, fn, k);
	grant_batch_flush(&k->batch);
	return k->batch.frames;
}

/* ---- collect ---- */

static void collect_one(void *ctx, uint32_t page, uint64_t w)
{
	struct walk *k = ctx;

	if (owner_kind(w) == OWNER_RETURNED && (!k->s || owner_id(w) == k->s->id))
		grant_take_back(&k->batch, page, w);
}

uint64_t grant_collect(struct domain *d, struct session *s, uint32_t cpu)
{
	struct walk k;

	walk_init(&k, d, s, cpu);
	return walk_run(&k, collect_one);
}

/* ---- withdraw ---- */

static void withdraw_one(void *ctx, uint32_t page, uint64_t w)
{
	struct walk *k = ctx;

	if (owner_is(w, OWNER_OFFERED, k->s->id))
		grant_take_back(&k->batch, page, w);
}

uint64_t grant_withdraw_all(struct domain *d, struct session *s)
{
	/* relaxed: at least what was lent before the connection went */
	uint32_t left = atomic_load_explicit(&s->magazines, memory_order_relaxed);
	struct walk k;
	magazine_id_t m;

	for (m.nr = 0; left && m.nr < depot_size(d->depot); m.nr++)
		if (depot_lent_to(d->depot, m) == s->id) {
			exchange_withdraw(d, s, MM_CPU_NONE, m);
			left--;
		}
	object_withdraw_all(d, s);
	walk_init(&k, d, s, MM_CPU_NONE);
	return walk_run(&k, withdraw_one);
}

/* ---- sweep ---- */

static void sweep_one(void *ctx, uint32_t page, uint64_t w)
{
	struct walk *k = ctx;
	struct domain *d = k->d;
	uint32_t id = k->s->id, other;
	unsigned int race;
	struct mm_block b;
	struct session *t;
	pfn_t pfn;

	for (race = 0; race < SWEEP_RACES_MAX && grant_holder_of(d, w) == id; race++) {
		/* Not under a mover's hands. One that nobody moves is not believed: the charge, which no
		 * member writes, says whether it was this session's. */
		if (owner_kind(w) == OWNER_MOVING) {
			w = move_word(d, &d->control.word[page], domain_granule(d, page));
			if (grant_holder_of(d, w) != id ||
			    (owner_kind(w) == OWNER_MOVING &&
			     !(domain_block_get(d, page, &pfn, &b) && b.tag == id)))
				break;
		}
		if (grant_take_back(&k->batch, page, w) != GRANT_BACK_CHANGED)
			break;
		w = owner_load(&d->control.word[page]);
	}
	/* Freed, or somebody else has it: then that one is charged for it. */
	if (!domain_block_get(d, page, &pfn, &b) || b.tag != id)
		return;
	w = owner_load(&d->control.word[page]);
	other = grant_holder_of(d, w);
	if (owner_is(w, OWNER_HELD, 0))
		other = holder_first(d->holders, domain_granule(d, page), owner_generation(w));
	t = other ? session_by_id(d->kmmd->sessions, other) : NULL;
	/* acquire: pairs with the store that ended its life */
	if (t && atomic_load_explicit(&t->state, memory_order_acquire) == SESSION_FREE) {
		domain_damage(d, "the block at page %u is said to be of session %u, which is none",
		              page, other);
		t = NULL;
	}
	/* Of one that ends, too, its own sweep frees it. */
	if (t && t != k->s && session_enter(t)) {
		charge_move(d, page, other);
		session_leave(t);
	} else {
		charge_move(d, page, 0);
	}
}

static void sweep_holds(struct walk *k)
{
	struct domain *d = k->d;
	/* relaxed, here and below: whoever changed them has left (acquire on `inside`) */
	uint32_t left = atomic_load_explicit(&k->s->holds, memory_order_relaxed);
	uint32_t cursor = 0, granule, heir;

	k->n.holds = left;
	for (; left && holder_next_of(d->holders, k->s->id, &cursor, &granule); left--) {
		struct thing t;

		if (!thing_granule_ok(d, granule)) {
			domain_damage(d, "a holder record names granule %u, which is no frame",
			              granule);
			continue;
		}
		thing_find(d, granule, &t);
		switch (holder_remove(d->holders, k->s->id, granule, t.word, &heir)) {
		case HOLDER_NONE:
			break;
		case HOLDER_LEFT:
			thing_left(d, &t, 0, heir);
			break;
		case HOLDER_FREED:
			thing_leave(d, MM_CPU_NONE, &t);
			break;
		}
	}
}

static bool has_magazine(const struct walk *k, uint64_t h)
{
	return (magazine_state(h) == MAGAZINE_OFFERED || magazine_state(h) == MAGAZINE_LOADED) &&
	       magazine_owner(h) == k->s->id;
}

/* A magazine in our hands that counted for the dead, but that others have: it stays with them. */
static void pass_on(struct domain *d, magazine_id_t m, uint64_t h)
{
	struct session *t = NULL;

	if (magazine_state(h) == MAGAZINE_OFFERED || magazine_state(h) == MAGAZINE_LOADED)
		t = session_by_id(d->kmmd->sessions, magazine_owner(h));
	/* One that ends meanwhile is swept after this, by the same worker. */
	if (!t || !session_enter(t)) {
		depot_unclaim(d->depot, m, 0);
		return;
	}
	atomic_fetch_add_explicit(&t->magazines, 1, memory_order_relaxed);
	depot_unclaim(d->depot, m, t->id);
	session_leave(t);
}

static void sweep_magazine(struct walk *k, magazine_id_t m)
{
	struct magazine *mag = exchange_magazine(k->d, m);
	uint64_t h = magazine_load(mag);
	enum magazine_state state = magazine_state(h);
	bool counts = depot_lent_to(k->d->depot, m) == k->s->id;
	uint32_t of, accepted, listed;

	if (state == MAGAZINE_DEPOT) {
		/* Who was giving it may be dead. If not, its call finds nothing to do. */
		exchange_give(k->d, k->s, k->batch.cpu, m, &accepted, &listed);
		return;
	}
	if (!has_magazine(k, h) && !counts) {
		if (state == MAGAZINE_RACK)
			rack_find_lost(k->d, m, h);
		return;
	}
	if (!depot_claim_lent(k->d->depot, m, &of))
		return;
	h = magazine_load(mag);
	state = magazine_state(h);
	exchange_gone(k->d, of);
	if (!has_magazine(k, h) && (state == MAGAZINE_RACK || state == MAGAZINE_OFFERED ||
	                            state == MAGAZINE_LOADED || state == MAGAZINE_DEPOT)) {
		pass_on(k->d, m, h);
		if (state == MAGAZINE_RACK)
			rack_find_lost(k->d, m, h);
		return;
	}
	/* What its words did not tell came by the rack: objects. */
	if (has_magazine(k, h))
		k->n.objects += exchange_free_mixed(k->d, NULL, k->batch.cpu, m,
		                                    magazine_count(h), false);
	k->n.magazines++;
	depot_put_empty(k->d->depot, m);
}

static void sweep_magazines(struct walk *k)
{
	/* acquire: pairs with the client's setting it before it touches the rack. Else it has none
	 * but those that count for it. */
	bool again = (atomic_load_explicit(&k->s->shared->racks, memory_order_acquire) &
	              CONTROL_RACKS_USED) ||
	             atomic_load_explicit(&k->s->magazines, memory_order_relaxed);
	struct domain *d = k->d;
	unsigned int pass;
	magazine_id_t m;

	/* Another pass when one of our threads had one in its hands that may be the dead's: it takes
	 * it from the members or puts it back. */
	for (pass = 0; again && pass < SWEEP_PASSES_MAX; pass++) {
		if (pass)
			sched_yield();
		again = false;
		for (m.nr = 0; m.nr < depot_size(d->depot); m.nr++) {
			if (depot_is_lent(d->depot, m))
				sweep_magazine(k, m);
			else if (depot_is_busy(d->depot, m) &&
			         has_magazine(k, magazine_load(exchange_magazine(d, m))))
				again = true;
		}
		again = again || atomic_load_explicit(&k->s->magazines, memory_order_relaxed);
	}
}

void grant_sweep(struct domain *d, struct session *s, struct sweep_count *n)
{
	struct control_session *c = s->shared;
	struct walk k;
	unsigned int i;

	walk_init(&k, d, s, MM_CPU_NONE);
	sweep_holds(&k);
	walk_run(&k, sweep_one);
	k.n.objects = object_sweep(d, s);
	sweep_magazines(&k);
	area_sweep(d, s);
	/* relaxed: the session's record, freed after this with release, covers them */
	for (i = 0; i < CONTROL_SECTIONS_MAX / 64; i++) {
		atomic_store_explicit(&s->granted_from[i], 0, memory_order_relaxed);
		atomic_store_explicit(&c->section[i], 0, memory_order_relaxed);
	}
	atomic_store_explicit(&c->cached_pages, 0, memory_order_relaxed);
	atomic_store_explicit(&c->racks, 0, memory_order_relaxed);
	atomic_store_explicit(&c->shrinkers, 0, memory_order_relaxed);
	traffic_end(d, c);
	atomic_store_explicit(&s->magazines, 0, memory_order_relaxed);
	for (i = 0; i < sizeof(s->lent_lately) / sizeof(s->lent_lately[0]); i++)
		atomic_store_explicit(&s->lent_lately[i], 0, memory_order_relaxed);
	atomic_store_explicit(&s->holds, 0, memory_order_relaxed);
	k.n.blocks = k.batch.blocks;
	k.n.pages = k.batch.frames;
	*n = k.n;
}

/* ---- counting ---- */

struct census {
	struct domain *d;
	struct grant_count *n;
	uint32_t size;
	uint32_t only; /* session, 0: all */
};

static void count_one(void *ctx, uint32_t page, uint64_t w)
{
	struct census *c = ctx;
	uint32_t id = owner_id(w);
	struct grant_count *n;
	struct mm_block b;
	pfn_t pfn;

	if (owner_kind(w) == OWNER_MAGAZINE || owner_kind(w) == OWNER_AREA ||
	    owner_kind(w) >= OWNER_NR_KINDS || (c->only && c->only != id) ||
	    !domain_block_get(c->d, page, &pfn, &b))
		return;
	n = &c->n[c->only || id >= c->size ? 0 : id];
	if (owner_kind(w) == OWNER_RETURNED) {
		n->cached += UINT64_C(1) << b.order;
		return;
	}
	n->granted += UINT64_C(1) << b.order;
	n->blocks[b.order]++;
}

void grant_count(struct domain *d, struct session *s, struct grant_count *n)
{
	struct census c = { .d = d, .n = n, .size = 1, .only = s->id };
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];

	memset(n, 0, sizeof(*n));
	grant_sections(d, s, mask);
	grant_walk(d, mask, count_one, &c);
}

void grant_census(struct domain *d, struct grant_count *n, uint32_t size)
{
	struct census c = { .d = d, .n = n, .size = size };
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];

	memset(n, 0, size * sizeof(*n));
	grant_sections(d, NULL, mask);
	grant_walk(d, mask, count_one, &c);
}
