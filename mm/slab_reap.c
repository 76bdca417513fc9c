/* SPDX-License-Identifier: MIT */
/*
 * Giving memory back that caches do not need, and counting what they have.
 *
 * Concept: empty slabs are kept while they are few (slab.c) and while they are of use. A cache that
 * did not need an empty slab for four seconds gives back a fifth of what it may keep, again and
 * again (Linux's cache_reap); slab_shrink() gives all of them back at once.
 *
 * A housekeeper comes to caches by id and not by holding them: kmem_cache_enter() keeps a cache from
 * ending while it is looked at.
 *
 * Locking: the node's lock for counts and for taking slabs off lists. Complexity: O(caches * nodes)
 * a tick.
 */
#include "slab_private.h"

#define REAP_TICKS 4u
#define REAP_FRACTION 5u

uint64_t slab_shrink(struct kmem_cache *c, uint32_t cpu, uint32_t keep)
{
	uint64_t slabs = 0;

	if (cpu != MM_CPU_NONE)
		slab_cpu_drain(c, cpu, cpu);
	for (uint32_t node = 0; node < c->space->nodes; node++)
		slabs += slab_node_shrink(c, node, keep, UINT64_MAX, cpu);
	return slabs * c->pages;
}

/* A cache that is alive, entered; NULL: that id has none. */
static struct kmem_cache *cache_enter_id(struct slab_space *s, uint32_t id)
{
	/* acquire pairs with the release in cache_publish() */
	struct kmem_cache *c = atomic_load_explicit(&s->cache[id], memory_order_acquire);

	return c && kmem_cache_enter(c) ? c : NULL;
}

uint64_t slab_shrink_all(struct slab_space *s, uint32_t cpu)
{
	uint64_t frames = 0;

	for (uint32_t id = 1; id < s->m.caches; id++) {
		struct kmem_cache *c = cache_enter_id(s, id);

		if (!c)
			continue;
		frames += slab_shrink(c, cpu, 0);
		kmem_cache_leave(c);
	}
	return frames;
}

void slab_drain_cpu(struct slab_space *s, uint32_t cpu)
{
	for (uint32_t id = 1; id < s->m.caches; id++) {
		struct kmem_cache *c = cache_enter_id(s, id);

		if (!c)
			continue;
		slab_cpu_drain(c, cpu, cpu);
		kmem_cache_leave(c);
	}
}

void slab_tick_cpu(struct slab_space *s, uint32_t cpu)
{
	for (uint32_t id = 1; id < s->m.caches; id++) {
		struct kmem_cache *c = cache_enter_id(s, id);

		if (!c)
			continue;
		slab_cpu_tick(c, cpu);
		kmem_cache_leave(c);
	}
}

/* Empty slabs beyond the bound (recovery leaves such) go now, others by fifths when unused. */
static void node_reap(struct kmem_cache *c, uint32_t node)
{
	struct cache_node *k = &c->node[node];
	uint32_t objects = cache_shape(c).objects;
	uint64_t most = (c->free_limit + REAP_FRACTION * objects - 1) / (REAP_FRACTION * objects);

	{
		LOCK_SCOPED(&k->lock);
		if (k->list[SLAB_EMPTY].nr == 0 || k->touched) {
			k->touched = false;
			return;
		}
		if (k->free_objects > c->free_limit) {
			uint64_t excess = (k->free_objects - c->free_limit + objects - 1) / objects;

			if (most < excess)
				most = excess;
		}
	}
	slab_node_shrink(c, node, 0, most, MM_CPU_NONE);
}

void slab_tick(struct slab_space *s)
{
	if (++s->tick % REAP_TICKS)
		return;
	for (uint32_t id = 1; id < s->m.caches; id++) {
		struct kmem_cache *c = cache_enter_id(s, id);

		if (!c)
			continue;
		for (uint32_t node = 0; node < s->nodes; node++)
			node_reap(c, node);
		kmem_cache_leave(c);
	}
}

void kmem_cache_stats(const struct kmem_cache *c, struct kmem_cache_stats *ret)
{
	uint32_t objects = cache_shape(c).objects;
	struct kmem_cache_stats t = {
		.limit = c->limit,
		.batchcount = c->batch,
		.grown = relaxed_load(&c->grown),
		.reaped = relaxed_load(&c->reaped),
	};
	uint64_t free = 0;

	for (uint32_t node = 0; node < c->space->nodes; node++) {
		struct cache_node *k = &c->node[node];

		LOCK_SCOPED(&k->lock);
		t.slabs_full += k->list[SLAB_FULL].nr;
		t.slabs_partial += k->list[SLAB_PARTIAL].nr;
		t.slabs_empty += k->list[SLAB_EMPTY].nr;
		free += k->free_objects;
	}
	t.slabs = t.slabs_full + t.slabs_partial + t.slabs_empty;
	t.objects = t.slabs * objects;
	/* After the slabs: what goes from a magazine to them meanwhile counts as out for a moment,
	 * not twice as free. What comes from them may: never more than there are. */
	t.in_cpu = slab_cpu_count(c);
	if (t.in_cpu > t.objects - free)
		t.in_cpu = t.objects - free;
	t.objects_out = t.objects - free - t.in_cpu;
	*ret = t;
}

uint64_t slab_frames(const struct slab_space *s)
{
	return relaxed_load(&s->frames);
}

uint64_t slab_frames_reaped(const struct slab_space *s)
{
	return relaxed_load(&s->frames_reaped);
}

uint64_t slab_frames_reclaimable(const struct slab_space *s)
{
	return relaxed_load(&s->frames_reclaimable);
}

void slab_frames_node(struct slab_space *s, uint32_t node, uint64_t *reclaimable,
                      uint64_t *unreclaimable)
{
	uint64_t sum[2] = { 0, 0 };

	for (uint32_t id = 1; id < s->m.caches; id++) {
		struct kmem_cache *c = cache_enter_id(s, id);
		struct cache_node *k;

		if (!c)
			continue;
		k = &c->node[node];
		{
			LOCK_SCOPED(&k->lock);
			sum[c->reclaimable] += (uint64_t)c->pages * (k->list[SLAB_FULL].nr +
			                                             k->list[SLAB_PARTIAL].nr +
			                                             k->list[SLAB_EMPTY].nr);
		}
		kmem_cache_leave(c);
	}
	*unreclaimable = sum[0];
	*reclaimable = sum[1];
}
