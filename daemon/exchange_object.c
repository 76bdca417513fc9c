/* SPDX-License-Identifier: MIT */
/*
 * Objects in magazines. See exchange.c for the ways of a magazine, object.c for those of an object.
 *
 *   take   a full magazine of the depot of that cache and node, or an empty one filled by the slab
 *          layer; words MAGAZINE m, slab bits of the session, header OFFERED(s)
 *   give   every round is looked up by private truth and its word must name the magazine; then the
 *          magazine goes to the depot, or its objects to their slabs
 *
 * A round listed twice does no harm: only one exchange from MAGAZINE m succeeds, the taker's or
 * ours.
 *
 * The objects of a magazine lie anywhere in the pool. So they are handled in two passes: the first
 * finds them (slab words, which are few and near each other) and fetches their owner words ahead,
 * the second reads and exchanges the words. Tens of nanoseconds a round, no lock, no allocation.
 */
#include <errno.h>

#include "daemon/exchange_private.h"
#include "daemon/probes.h"
#include "daemon/rack.h"
#include "daemon/wait_queue.h"

#define ROUNDS_MAX MAGAZINE_ROUNDS_MAX
#define FETCH_AHEAD 16u /* words */
#define TAKE_BYTES_MAX (UINT32_C(16) << 20) /* one exchange: what making the slabs may cost */
#define TAKE_TRIES_MAX 8u /* magazines of the depot that turn out to be worth nothing */

/* The rounds of a magazine that are believed. */
struct rounds {
	uint32_t n;
	uint64_t w[ROUNDS_MAX];
	struct slab_object o[ROUNDS_MAX];
};

/* Those that list objects of the batch's cache whose words name the magazine. */
static void rounds_get(struct object_batch *b, magazine_id_t m, uint32_t listed, struct rounds *r)
{
	struct domain *d = b->d;
	uint32_t i, found;

	/* the addresses where the words will be */
	for (i = 0; i < listed; i++)
		r->w[i] = (uint64_t)exchange_round(d, m, i) << d->granule_shift;
	found = (uint32_t)slab_objects_at(b->c->slab, listed, r->w, r->o);
	for (i = 0; i < found && i < FETCH_AHEAD; i++)
		__builtin_prefetch(object_word(d, &r->o[i]), 1);
	r->n = 0;
	for (i = 0; i < found; i++) {
		uint64_t w;

		if (i + FETCH_AHEAD < found)
			__builtin_prefetch(object_word(d, &r->o[i + FETCH_AHEAD]), 1);
		w = owner_load(object_word(d, &r->o[i]));

		if (!owner_is(w, OWNER_MAGAZINE, m.nr))
			continue;
		r->w[r->n] = w;
		if (r->n != i)
			r->o[r->n] = r->o[i];
		r->n++;
	}
}

static uint32_t node_of(const struct domain *d, pfn_t pfn)
{
	uint32_t nodes = depot_nodes(d->depot);
	struct section_info info;

	if (nodes == 1)
		return 0;
	mm_section_get(d->mm, mm_section_of(d->mm, pfn), &info);
	return info.node % nodes;
}

/* What they count for in the depot. */
static uint32_t frames_of(uint32_t stride, uint32_t n)
{
	return (uint32_t)(((uint64_t)stride * n + GRANT_FRAME - 1) >> PAGE_SHIFT);
}

/* ---- give ---- */

bool exchange_lists_objects(struct domain *d, magazine_id_t m, uint32_t listed, uint64_t *address)
{
	struct slab_object o;
	uint32_t i;
	bool out;

	for (i = 0; i < listed; i++) {
		*address = (uint64_t)exchange_round(d, m, i) << d->granule_shift;
		if (slab_object_at(d->slabs, *address, &o, &out) && out &&
		    owner_is(owner_load(object_word(d, &o)), OWNER_MAGAZINE, m.nr))
			return true;
		/* A magazine of blocks is known by its first right one. */
		if (!thing_granule_ok(d, exchange_round(d, m, i)))
			continue;
		if (owner_is(owner_load(&d->control.word[*address >> PAGE_SHIFT]), OWNER_MAGAZINE,
		             m.nr))
			return false;
	}
	return false;
}

static bool keep_in_depot(struct object_batch *b, const struct rounds *r, magazine_id_t m)
{
	struct domain *d = b->d;
	uint32_t i, stride = kmem_cache_geometry(b->c->slab)->stride;

	/* relaxed: a cache that begins to end now drains the depot again when it sees objects out
	 */
	if (atomic_load_explicit(&b->c->state, memory_order_relaxed) != CACHE_LIVE)
		return false;
	for (i = 0; i < r->n; i++)
		if (r->w[i] & OWNER_KEPT)
			return false;
	return depot_put_full(d->depot, m,
	                      depot_class_objects(d->depot, b->c->id, node_of(d, r->o[0].head)),
	                      r->n, frames_of(stride, r->n));
}

static void rounds_free(struct object_batch *b, const struct rounds *r)
{
	uint32_t i;

	for (i = 0; i < r->n; i++)
		object_batch_take_back(b, &r->o[i], r->w[i], true);
}

uint32_t exchange_give_objects(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                               uint32_t listed, uint64_t address, bool keep)
{
	struct object_batch b;
	struct slab_object o;
	struct rounds r;
	uint32_t good = 0;
	bool kept = false;

	object_batch_init(&b, d, cpu);
	if (object_batch_find(&b, address, &o)) {
		rounds_get(&b, m, listed, &r);
		good = r.n;
		kept = keep && good && good == listed && keep_in_depot(&b, &r, m);
		if (!kept)
			rounds_free(&b, &r);
		if (s)
			charge_return_objects(s, kmem_cache_geometry(b.c->slab)->stride, good);
	}
	/* Of other kinds, or of what is none: a magazine that no honest client gives. */
	if (good < listed)
		good += exchange_free_mixed(d, s, cpu, m, listed, true);
	if (s)
		traffic_count(&d->traffic,
		              kept ? TRAFFIC_OBJECTS_TO_DEPOT : TRAFFIC_OBJECTS_TO_SLABS, listed);
	if (!kept)
		depot_put_empty(d->depot, m);
	object_batch_end(&b);
	return good;
}

uint64_t exchange_empty_objects(struct domain *d, uint32_t cpu, magazine_id_t m,
                                uint32_t listed)
{
	struct object_batch b;
	struct slab_object o;
	struct rounds r;
	uint64_t address, frames = 0;

	r.n = 0;
	object_batch_init(&b, d, cpu);
	if (exchange_lists_objects(d, m, listed, &address) &&
	    object_batch_find(&b, address, &o)) {
		rounds_get(&b, m, listed, &r);
		rounds_free(&b, &r);
		frames = b.objects * kmem_cache_geometry(b.c->slab)->stride >> PAGE_SHIFT;
	}
	/* scribbled over while it lay there */
	if (r.n < listed)
		exchange_free_mixed(d, NULL, cpu, m, listed, true);
	object_batch_end(&b);
	return frames;
}

uint64_t exchange_drain_cache(struct domain *d, struct cache *c, uint32_t cpu)
{
	uint64_t objects = rack_collect(d, c->id, cpu, false);
	struct depot_count n;
	uint32_t node;

	for (node = 0; node < depot_nodes(d->depot); node++) {
		unsigned int class = depot_class_objects(d->depot, c->id, node);

		depot_count(d->depot, class, &n);
		exchange_drain_class(d, cpu, class);
		objects += n.rounds;
	}
	return objects;
}

bool exchange_free_one(struct cache *c, uint32_t cpu)
{
	struct domain *d = c->d;
	uint32_t node, listed;
	magazine_id_t m;

	for (node = 0; node < depot_nodes(d->depot); node++)
		if (depot_take_full(d->depot, depot_class_objects(d->depot, c->id, node), &m,
		                    &listed)) {
			exchange_empty_objects(d, cpu, m, listed);
			depot_put_empty(d->depot, m);
			return true;
		}
	return rack_free_one(d, c->id, cpu);
}

/* ---- take ---- */

/* What one exchange asks for. */
struct taking {
	struct cache *c;
	struct session *s;
	struct mm_request r;
	uint32_t node;
	uint32_t stride;
	uint32_t want;
	bool constructed;
};

/* The rounds of a full magazine that are worth something become the session's, at most `want`; the
 * rest goes to the slabs. */
static uint32_t take_rounds(const struct taking *k, magazine_id_t m, uint32_t listed)
{
	struct domain *d = k->c->d;
	uint32_t i, n = 0, reserved;
	struct object_batch b;
	struct rounds r;

	object_batch_init(&b, d, k->r.cpu);
	b.c = cache_enter_to_free(d, k->c->id);
	if (!b.c)
		return 0;
	rounds_get(&b, m, listed, &r);
	reserved = charge_reserve_objects(k->s, k->stride, k->want < r.n ? k->want : r.n);
	for (i = 0; i < r.n; i++) {
		struct thing t = { .is_object = true, .pfn = r.o[i].head };

		if (n == reserved || (k->constructed && !(r.w[i] & OWNER_CONSTRUCTED)) ||
		    thing_note(d, k->s, &t) < 0)
			object_batch_take_back(&b, &r.o[i], r.w[i], true);
		else
			exchange_set_round(d, m, n++, object_granule(d, &r.o[i]));
	}
	charge_return_objects(k->s, k->stride, reserved - n);
	object_batch_end(&b);
	return n;
}

static uint32_t take_from_class(const struct taking *k, uint32_t node, magazine_id_t *ret)
{
	struct domain *d = k->c->d;
	unsigned int class = depot_class_objects(d->depot, k->c->id, node);
	uint32_t listed, n, tries;
	magazine_id_t m;

	for (tries = 0; tries < TAKE_TRIES_MAX && depot_take_full(d->depot, class, &m, &listed);
	     tries++) {
		atomic_fetch_add_explicit(&k->s->magazines, 1, memory_order_relaxed);
		n = take_rounds(k, m, listed);
		if (n) {
			exchange_lend(d, k->s, m, n);
			*ret = m;
			return n;
		}
		exchange_put_empty(d, k->s, m);
		if (!charge_reserve_objects(k->s, k->stride, 1))
			return 0; /* it was the quota; the slabs' path says so */
		charge_return_objects(k->s, k->stride, 1);
	}
	return 0;
}

static uint32_t take_from_depot(const struct taking *k, magazine_id_t *ret)
{
	uint32_t n = take_from_class(k, k->node, ret), node;

	/* Constructed ones are wanted wherever they are. */
	for (node = 0; !n && k->constructed && node < depot_nodes(k->c->d->depot); node++)
		if (node != k->node)
			n = take_from_class(k, node, ret);
	return n;
}

static int take_from_slabs(const struct taking *k, bool may_free, magazine_id_t *ret, uint32_t *n,
                           const char **why)
{
	struct slab_object o[ROUNDS_MAX];
	struct domain *d = k->c->d;
	uint32_t i, reserved = charge_reserve_objects(k->s, k->stride, k->want);
	magazine_id_t m;
	size_t got;
	int rc;

	if (!reserved) {
		*why = charge_text_objects(k->s, k->stride);
		return -EDQUOT;
	}
	if (!exchange_take_empty(d, k->s, may_free, &m)) {
		charge_return_objects(k->s, k->stride, reserved);
		*why = "no magazine is free";
		return -EAGAIN;
	}
	got = object_get(k->c, k->s, &k->r, k->constructed, OWNER_MAGAZINE, m.nr, reserved, o,
	                 &rc);
	charge_return_objects(k->s, k->stride, reserved - (uint32_t)got);
	if (!got) {
		exchange_put_empty(d, k->s, m);
		*why = object_get_text(k->c, rc);
		return rc;
	}
	for (i = 0; i < got; i++)
		exchange_set_round(d, m, i, object_granule(d, &o[i]));
	depot_set_kind(d->depot, m, depot_class_objects(d->depot, k->c->id, k->node));
	exchange_lend(d, k->s, m, (uint32_t)got);
	probe_exchange_take(k->s->id, k->c->id, k->r.order, (uint32_t)got);
	traffic_count(&d->traffic, TRAFFIC_OBJECTS_FROM_SLABS, (uint32_t)got);
	*ret = m;
	*n = (uint32_t)got;
	return 0;
}

static int taking_init(struct taking *k, struct cache *c, struct session *s, uint32_t cpu,
                       uint32_t node, gfp_t gfp, bool constructed, uint32_t rounds,
                       const char **why)
{
	uint32_t max = atomic_load_explicit(&c->rounds_max, memory_order_relaxed);
	uint32_t stride = kmem_cache_geometry(c->slab)->stride, most = TAKE_BYTES_MAX / stride;

	most = most < 1 ? 1 : most < ROUNDS_MAX ? most : ROUNDS_MAX;
	*k = (struct taking){ .c = c,
		              .s = s,
		              .stride = stride,
		              .want = rounds < most ? rounds : most,
		              .constructed = constructed };
	/* relaxed: for reports */
	atomic_fetch_add_explicit(&c->exchanges, 1, memory_order_relaxed);
	while (max < k->want &&
	       !atomic_compare_exchange_weak_explicit(&c->rounds_max, &max, k->want,
	                                              memory_order_relaxed, memory_order_relaxed))
		;
	return object_request(c, cpu, node, gfp, &k->r, why);
}

int exchange_take_objects_waiting(struct cache *c, struct session *s, uint32_t node, gfp_t gfp,
                                  bool constructed, uint32_t rounds, magazine_id_t *ret,
                                  uint32_t *n, const char **why)
{
	struct taking k;
	int rc = taking_init(&k, c, s, MM_CPU_NONE, node, gfp, constructed, rounds, why);

	return rc ? rc : take_from_slabs(&k, false, ret, n, why);
}

int exchange_take_objects(struct cache *c, struct session *s, uint32_t cpu, gfp_t gfp,
                          bool constructed, uint32_t rounds, magazine_id_t *ret, uint32_t *n,
                          const char **why)
{
	uint32_t nodes = depot_nodes(c->d->depot), node = mm_cpu_node(c->d->mm, cpu), got;
	struct taking k;
	int rc;

	/* relaxed: which comes next, no more */
	if (nodes > 1 && (kmem_cache_record(c->slab)->flags & SLAB_MEM_SPREAD))
		node = atomic_fetch_add_explicit(&c->node_next, 1, memory_order_relaxed) % nodes;
	rc = taking_init(&k, c, s, cpu, MM_NODE(node), gfp, constructed, rounds, why);
	if (rc)
		return rc;
	k.node = node;
	got = gfp & __GFP_THISNODE ? 0 : take_from_depot(&k, ret);
	if (got)
		goto offered;
	rc = take_from_slabs(&k, true, ret, n, why);
	/* Before it is refused: what lies in the rack, in magazines that the session could not take
	 * or use, serves as well. */
	if ((rc != -ENOMEM && rc != -ENOKEY) || !rack_collect(c->d, c->id, cpu, true))
		return rc;
	got = gfp & __GFP_THISNODE ? 0 : take_from_depot(&k, ret);
	if (!got)
		return take_from_slabs(&k, true, ret, n, why);
offered:
	probe_exchange_take(s->id, c->id, k.r.order, got);
	traffic_count(&c->d->traffic, TRAFFIC_OBJECTS_FROM_DEPOT, got);
	*n = got;
	return 0;
}
