/* SPDX-License-Identifier: MIT */
/*
 * Blocks and objects that change hands many at a time, in magazines (shm/magazine.h, depot.h).
 * Here: magazines themselves, and those with blocks; exchange_object.c has those with objects.
 *
 *   take   a full magazine of the depot, or an empty one filled from the zones:
 *          rounds, words MAGAZINE m, header OFFERED(s); the session is charged
 *   give   header DEPOT, written by the client; every round is checked, then the magazine goes to
 *          the depot (nobody is charged for what lies there) or its blocks to the zones
 *
 * Rounds lie in memory that clients write. A round is believed only if its word names the magazine
 * and mm/ says that a block of the magazine's class begins there; the private tag then moves by one
 * exchange, so a frame listed twice counts once. A round that is not believed is dropped: where its
 * word named the magazine nonetheless, domain_validate() reports it. What a magazine carries
 * follows from what its rounds are, not from what its `kind` says.
 *
 * The depot takes a magazine when all its rounds are of one class, nobody waits for memory, and it
 * has room; otherwise the blocks are freed. When no empty magazine is left, a full one of the depot
 * is emptied, so that exchanges go on. Costs O(rounds), at most 512, without allocation.
 */
#include <errno.h>

#include "daemon/exchange_private.h"
#include "daemon/high.h"
#include "daemon/probes.h"
#include "daemon/rack.h"
#include "daemon/wait_queue.h"

#define EXCHANGE_REAP 32u /* magazines wanted back when none is free */

/* The page of round i, when its word names the magazine and it is a block of ours. */
static bool round_get(struct domain *d, magazine_id_t m, uint32_t i, uint32_t *page, uint64_t *w,
                      struct mm_block *b)
{
	pfn_t pfn;

	if (!domain_granule_page(d, exchange_round(d, m, i), page))
		return false;
	*w = owner_load(&d->control.word[*page]);
	return owner_is(*w, OWNER_MAGAZINE, m.nr) && domain_block_get(d, *page, &pfn, b);
}

static int class_of(const struct domain *d, uint32_t page)
{
	/* relaxed: written by us, before the word that round_get() read */
	uint64_t desc = atomic_load_explicit(&d->control.desc[page], memory_order_relaxed);

	return desc & PAGE_DESC_CACHEABLE ?
	               page_class(page_desc_order(desc), page_desc_type(desc)) :
	               -1;
}

void exchange_gone(struct domain *d, uint32_t session)
{
	struct session *s = session_by_id(d->kmmd->sessions, session);

	/* relaxed: a counter that limits */
	if (s)
		atomic_fetch_sub_explicit(&s->magazines, 1, memory_order_relaxed);
}

static void session_gone(void *ctx, uint32_t session)
{
	exchange_gone(ctx, session);
}

uint32_t exchange_holder(const struct domain *d, magazine_id_t m)
{
	uint64_t h;

	/* One that a thread of ours has claimed may be a member's still, who was faster with the header: a sweep
	 * that passed over its words then would leave them to nobody. */
	if (!depot_is_out(d->depot, m))
		return 0;
	h = magazine_load(exchange_magazine(d, m));
	switch (magazine_state(h)) {
	case MAGAZINE_OFFERED:
	case MAGAZINE_LOADED:
		return magazine_owner(h);
	case MAGAZINE_DEPOT: /* on its way to us */
	case MAGAZINE_RACK:
		return 0;
	default:
		return depot_lent_to(d->depot, m);
	}
}

/* A session that takes one magazine after the other has mostly emptied the last ones: these serve
 * again, without a search, and are in our caches still. */
static bool take_lately(struct domain *d, struct session *s, magazine_id_t *m)
{
	unsigned int i;

	/* relaxed, here and in exchange_lend(): hints; the depot knows */
	for (i = 0; i < sizeof(s->lent_lately) / sizeof(s->lent_lately[0]); i++) {
		uint32_t at = atomic_load_explicit(&s->lent_lately[i], memory_order_relaxed);

		if (!at)
			continue;
		m->nr = at - 1;
		if (depot_reap_one(d->depot, *m, s->id))
			return true;
	}
	return false;
}

void exchange_lend(struct domain *d, struct session *s, magazine_id_t m, uint32_t rounds)
{
	uint32_t n = sizeof(s->lent_lately) / sizeof(s->lent_lately[0]);
	uint32_t at = atomic_fetch_add_explicit(&s->lent_next, 1, memory_order_relaxed) % n;

	atomic_store_explicit(&s->lent_lately[at], m.nr + 1, memory_order_relaxed);
	depot_lend(d->depot, m, s->id, MAGAZINE_OFFERED, rounds);
}

bool exchange_take_empty(struct domain *d, struct session *s, bool may_free, magazine_id_t *m)
{
	uint32_t limit = depot_size(d->depot) / 8, listed;
	unsigned int class;

	if (take_lately(d, s, m))
		return true;
	if (limit < 4)
		limit = 4;
	if (atomic_fetch_add_explicit(&s->magazines, 1, memory_order_relaxed) >= limit) {
		depot_reap(d->depot, EXCHANGE_REAP, session_gone, d);
		if (atomic_load_explicit(&s->magazines, memory_order_relaxed) > limit)
			rack_reclaim(d, s->id, EXCHANGE_REAP, may_free);
		if (atomic_load_explicit(&s->magazines, memory_order_relaxed) > limit)
			goto refuse;
	}
	if (depot_take_empty(d->depot, m))
		return true;
	if ((depot_reap(d->depot, EXCHANGE_REAP, session_gone, d) ||
	     rack_reclaim(d, 0, EXCHANGE_REAP, false)) &&
	    depot_take_empty(d->depot, m))
		return true;
	if (may_free && depot_take_any(d->depot, m, &class, &listed)) {
		exchange_empty_full(d, MM_CPU_NONE, *m, class, listed);
		return true;
	}
	if (may_free && rack_reclaim(d, 0, EXCHANGE_REAP, true) && depot_take_empty(d->depot, m))
		return true;
refuse:
	atomic_fetch_sub_explicit(&s->magazines, 1, memory_order_relaxed);
	return false;
}

void exchange_put_empty(struct domain *d, struct session *s, magazine_id_t m)
{
	depot_put_empty(d->depot, m);
	atomic_fetch_sub_explicit(&s->magazines, 1, memory_order_relaxed);
}

uint64_t exchange_empty_full(struct domain *d, uint32_t cpu, magazine_id_t m, unsigned int class,
                             uint32_t listed)
{
	struct grant_batch batch;
	struct mm_block b;
	uint32_t i;
	uint32_t page;
	uint64_t w;

	if (class >= PAGE_CLASSES)
		return exchange_empty_objects(d, cpu, m, listed);
	grant_batch_init(&batch, d, cpu);
	for (i = 0; i < listed; i++)
		if (round_get(d, m, i, &page, &w, &b))
			grant_take_back(&batch, page, w);
	grant_batch_flush(&batch);
	return batch.frames;
}

uint32_t exchange_free_mixed(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                             uint32_t listed, bool keep_constructed)
{
	struct object_batch objects;
	struct grant_batch pages;
	uint32_t i, n = 0;
	struct thing t;

	object_batch_init(&objects, d, cpu);
	grant_batch_init(&pages, d, cpu);
	for (i = 0; i < listed; i++) {
		uint32_t granule = exchange_round(d, m, i);
		struct slab_object o;
		uint64_t w;

		if (!thing_granule_ok(d, granule) || !thing_find(d, granule, &t))
			continue;
		w = owner_load(t.word);
		if (!owner_is(w, OWNER_MAGAZINE, m.nr))
			continue;
		n++;
		if (!t.is_object)
			grant_take_back(&pages, t.page, w);
		else if (object_batch_find(&objects, t.object.address, &o) &&
		         o.word == t.object.word &&
		         object_batch_take_back(&objects, &o, w, keep_constructed) ==
		                 GRANT_BACK_FREED &&
		         s)
			charge_return_objects(s, kmem_cache_geometry(o.cache)->stride, 1);
	}
	grant_batch_flush(&pages);
	object_batch_end(&objects);
	return n;
}

/* ---- give ---- */

/* The magazine is in our hands; how many of its rounds were right. */
static uint32_t give_blocks(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                            uint32_t n, bool keep)
{
	uint32_t i, frames = 0, good = 0;
	int class = -1;
	struct mm_block b;
	uint32_t page;
	uint64_t w;

	for (i = 0; i < n; i++) {
		int c;

		if (!round_get(d, m, i, &page, &w, &b))
			continue;
		c = class_of(d, page);
		if (good && c != class)
			keep = false;
		class = c;
		keep = keep && c >= 0 && !(w & OWNER_KEPT);
		frames += 1u << b.order;
		good++;
	}
	/* Partly bad magazines are not worth keeping. */
	if (keep && good && good == n) {
		for (i = 0; i < n; i++)
			if (round_get(d, m, i, &page, &w, &b))
				charge_move(d, page, 0);
		if (depot_put_full(d->depot, m, (unsigned int)class, n, frames)) {
			if (s)
				traffic_count(&d->traffic, TRAFFIC_PAGES_TO_DEPOT, n);
			return good;
		}
	}
	if (s && n)
		traffic_count(&d->traffic, TRAFFIC_PAGES_TO_ZONES, n);
	if (good < n)
		good = exchange_free_mixed(d, s, cpu, m, n, true);
	else
		exchange_empty_full(d, cpu, m, 0, n);
	depot_put_empty(d->depot, m);
	return good;
}

uint32_t exchange_put(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                      uint32_t listed, bool keep)
{
	uint64_t address;

	keep = keep && !wait_queue_waiting(d->waiters);
	if (exchange_lists_objects(d, m, listed, &address))
		return exchange_give_objects(d, s, cpu, m, listed, address, keep);
	return give_blocks(d, s, cpu, m, listed, keep);
}

void exchange_give(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                   uint32_t *accepted, uint32_t *listed)
{
	uint32_t of; /* not always s: it may have it by the rack */
	uint64_t h;

	*accepted = 0;
	*listed = 0;
	if (!depot_claim_lent(d->depot, m, &of))
		return;
	h = magazine_load(exchange_magazine(d, m));
	if (!magazine_is(h, MAGAZINE_DEPOT, 0)) {
		depot_unclaim(d->depot, m, of);
		return;
	}
	exchange_gone(d, of);
	*listed = magazine_count(h);
	*accepted = exchange_put(d, s, cpu, m, *listed, true);
	probe_exchange_give(s->id, m.nr, *accepted, *listed);
}

/* ---- take ---- */

/* The rounds of a full magazine that are worth something become the session's, at most `want`;
 * the rest goes to the zones. */
static uint32_t take_rounds(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                            uint32_t listed, uint32_t order, int class, uint32_t want)
{
	uint32_t i, n = 0, reserved = charge_reserve(s, order, want < listed ? want : listed);
	struct grant_batch batch;
	struct mm_block b;
	uint32_t page;
	uint64_t w;

	grant_batch_init(&batch, d, cpu);
	for (i = 0; i < listed; i++) {
		if (!round_get(d, m, i, &page, &w, &b))
			continue;
		/* Pages that move are of no class. */
		if (n == reserved || b.order != order || class_of(d, page) != class) {
			grant_take_back(&batch, page, w);
			continue;
		}
		grant_note_section(d, s, page);
		if (!mm_block_retag(d->mm, domain_frame_of(d, page), 0, s->id))
			continue; /* listed twice */
		exchange_set_round(d, m, n++, domain_granule(d, page));
	}
	charge_return(s, (uint64_t)(reserved - n) << order);
	grant_batch_flush(&batch);
	return n;
}

static uint32_t take_from_depot(struct domain *d, struct session *s, uint32_t cpu, uint32_t order,
                                int class, uint32_t want, magazine_id_t *ret)
{
	magazine_id_t m;
	uint32_t listed, n;

	while (depot_take_full(d->depot, (unsigned int)class, &m, &listed)) {
		atomic_fetch_add_explicit(&s->magazines, 1, memory_order_relaxed);
		n = take_rounds(d, s, cpu, m, listed, order, class, want);
		if (n) {
			exchange_lend(d, s, m, n);
			*ret = m;
			return n;
		}
		exchange_put_empty(d, s, m);
		if (!charge_reserve(s, order, 1))
			return 0; /* it was the quota; the zones' path says so */
		charge_return(s, UINT64_C(1) << order);
	}
	return 0;
}

static int take_from_zones(struct domain *d, struct session *s, const struct mm_request *r,
                           int class, bool may_free, uint32_t want, magazine_id_t *ret,
                           uint32_t *n, const char **why)
{
	pfn_t pfn[GRANT_ROUNDS_MAX];
	uint32_t i, reserved = charge_reserve(s, r->order, want);
	magazine_id_t m;
	size_t got;

	if (!reserved) {
		*why = charge_text(s, r->order);
		return -EDQUOT;
	}
	if (!exchange_take_empty(d, s, may_free, &m)) {
		charge_return(s, (uint64_t)reserved << r->order);
		*why = "no magazine is free";
		return -EAGAIN;
	}
	got = mm_alloc_pages_bulk(d->zones, r, reserved, pfn);
	charge_return(s, (uint64_t)(reserved - got) << r->order);
	if (!got) {
		grant_note_scarce(d);
		exchange_put_empty(d, s, m);
		*why = grant_text("no block of order %u is free for these flags (0x%x)", r->order,
		                  r->gfp);
		return -ENOMEM;
	}
	for (i = 0; i < got; i++) {
		uint32_t page = domain_block_page(d, pfn[i], r->order);

		grant_note_section(d, s, page);
		grant_publish(d, page, r->gfp, OWNER_MAGAZINE, m.nr);
		exchange_set_round(d, m, i, domain_granule(d, page));
	}
	depot_set_kind(d->depot, m, (unsigned int)class);
	exchange_lend(d, s, m, (uint32_t)got);
	probe_exchange_take(s->id, 0, r->order, (uint32_t)got);
	traffic_count(&d->traffic, TRAFFIC_PAGES_FROM_ZONES, (uint32_t)got);
	*ret = m;
	*n = (uint32_t)got;
	return 0;
}

static int take_check(const struct domain *d, const struct mm_request *r, int *class,
                      const char **why)
{
	int rc = grant_check_domain(d, why);

	if (!rc)
		rc = grant_check(r, why);
	if (rc)
		return rc;
	*class = page_class(r->order, gfp_migratetype(r->gfp));
	if (*class >= 0 && !(r->gfp & GRANT_UNCACHED_GFP))
		return 0;
	*why = grant_text(
		"blocks of order %u with flags 0x%x do not travel in magazines; ask for them "
		"one by one",
		r->order, r->gfp);
	return -EINVAL;
}

int exchange_take_waiting(struct domain *d, struct session *s, uint32_t node, gfp_t gfp,
                          uint32_t order, uint32_t rounds, magazine_id_t *ret, uint32_t *n,
                          const char **why)
{
	struct mm_request r = {
		.gfp = gfp, .order = order, .cpu = MM_CPU_NONE, .tag = s->id, .node = node
	};
	int class, rc = take_check(d, &r, &class, why);

	return rc ? rc : take_from_zones(d, s, &r, class, false, rounds, ret, n, why);
}

int exchange_take(struct domain *d, struct session *s, uint32_t cpu, gfp_t gfp, uint32_t order,
                  uint32_t rounds, magazine_id_t *ret, uint32_t *n, const char **why)
{
	struct mm_request r = { .gfp = gfp, .order = order, .cpu = cpu, .tag = s->id };
	int class, rc = take_check(d, &r, &class, why);
	uint32_t got;

	if (rc)
		return rc;
	if (rounds > GRANT_ROUNDS_MAX)
		rounds = GRANT_ROUNDS_MAX;
	got = take_from_depot(d, s, cpu, order, class, rounds, ret);
	if (got) {
		probe_exchange_take(s->id, 0, order, got);
		traffic_count(&d->traffic, TRAFFIC_PAGES_FROM_DEPOT, got);
		*n = got;
		return 0;
	}
	return take_from_zones(d, s, &r, class, true, rounds, ret, n, why);
}

int exchange_empty(struct domain *d, struct session *s, magazine_id_t *ret)
{
	magazine_id_t m;

	if (!exchange_take_empty(d, s, true, &m))
		return -EAGAIN;
	exchange_lend(d, s, m, 0);
	*ret = m;
	return 0;
}

/* Withdrawing is giving on the client's behalf: once the header says DEPOT a late claim fails. */
void exchange_withdraw(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m)
{
	uint64_t h = magazine_load(exchange_magazine(d, m));
	uint32_t accepted, listed;

	if (!depot_is_lent(d->depot, m) || !magazine_is(h, MAGAZINE_OFFERED, s->id))
		return;
	if (magazine_cas(exchange_magazine(d, m), &h,
	                 magazine_next(h, MAGAZINE_DEPOT, 0, magazine_count(h))))
		exchange_give(d, s, cpu, m, &accepted, &listed);
}

static uint64_t drain(struct domain *d, uint32_t cpu, unsigned int class, uint32_t most)
{
	uint64_t freed = 0;
	uint32_t listed;
	magazine_id_t m;

	for (; most && depot_take_full(d->depot, class, &m, &listed); most--) {
		freed += exchange_empty_full(d, cpu, m, class, listed);
		depot_put_empty(d->depot, m);
	}
	return freed;
}

uint64_t exchange_drain_class(struct domain *d, uint32_t cpu, unsigned int class)
{
	struct depot_count n;

	depot_count(d->depot, class, &n);
	return drain(d, cpu, class, n.full);
}

uint64_t exchange_drain_pages(struct domain *d, uint32_t cpu)
{
	uint64_t frames = 0;
	unsigned int class;

	for (class = 0; class < PAGE_CLASSES; class++)
		frames += exchange_drain_class(d, cpu, class);
	return frames;
}

uint64_t exchange_drain(struct domain *d, uint32_t cpu)
{
	uint64_t frames = 0;
	unsigned int class;

	rack_collect(d, 0, cpu, false);
	for (class = 0; class < depot_classes(d->depot); class++)
		frames += exchange_drain_class(d, cpu, class);
	return frames;
}

uint64_t exchange_trim(struct domain *d, uint32_t cpu)
{
	uint64_t frames = 0;
	unsigned int class;

	rack_trim(d, cpu);
	for (class = 0; class < depot_classes(d->depot); class++)
		frames += drain(d, cpu, class, depot_trim(d->depot, class));
	return frames;
}
