/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU magazines of objects: why a single object takes no lock.
 *
 * Concept (Bonwick and Adams 2001, section 3.1): each cpu has for each cache two magazines, stacks
 * of free objects: the loaded one, from and to which objects move, and the previous one. When the
 * loaded one is empty (full) and the previous one is not, they change places; so a thread that moves
 * to and fro over a border does not go to the slabs each time. Only when both are empty (full) is
 * one filled from (given back to) the slabs, under one hold of the node's lock. The depot that
 * Bonwick puts between is the daemon's, and holds what sessions gave back.
 *
 * How much, after Linux (linux-mm-rules 2.12): `limit` objects a cpu, by the stride: 120, 54, 24, 8,
 * 1; a magazine has half of it. Above 128 KiB there is one magazine of one.
 *
 * Only objects of the cpu's own node are cached, and none of caches with a constructor: what is
 * constructed is to be found by whoever wants it (slab_alloc_some). An object in a magazine is free
 * (its out bit is clear) but in no slab's free map, so that its slab is not empty. What is not used
 * for two seconds goes back by fifths (slab_cpu_tick).
 *
 * The magazines of a cpu are made when it first uses a cache, and are not freed while the space
 * exists; where there is no memory for them, objects go to the slabs directly.
 *
 * Locking: none; a set belongs to the cpu's thread. `count` is atomic because others read it.
 * Complexity: O(1).
 */
#include <stdlib.h>
#include <string.h>

#include "slab_private.h"

#define IDLE_TICKS 2u

uint32_t slab_cpu_limit(uint32_t stride)
{
	if (stride > 128u << 10)
		return 1;
	if (stride > 4096)
		return 8;
	if (stride > 1024)
		return 24;
	return stride > 256 ? 54 : 120;
}

static struct slab_cpu *cpu_look(const struct kmem_cache *c, uint32_t cpu)
{
	/* acquire pairs with the release in cpu_get(), for threads that only count */
	return atomic_load_explicit(&c->cpu[cpu], memory_order_acquire);
}

static struct slab_cpu *cpu_get(struct kmem_cache *c, uint32_t cpu)
{
	struct slab_cpu *p = cpu_look(c, cpu);

	if (__builtin_expect(p != NULL, 1))
		return p;
	p = aligned_alloc(alignof(struct slab_cpu), sizeof(*p));
	if (!p)
		return NULL;
	memset(p, 0, sizeof(*p));
	/* release pairs with the acquire in cpu_look() */
	atomic_store_explicit(&c->cpu[cpu], p, memory_order_release);
	return p;
}

static void count_set(struct slab_cpu *p)
{
	relaxed_store(&p->count, p->nr[0] + p->nr[1]);
}

size_t slab_cpu_rest(struct kmem_cache *c, uint32_t cpu, size_t n, struct slab_round r[])
{
	struct slab_cpu *p = cpu_look(c, cpu);
	size_t got = 0;

	if (!p)
		return 0;
	p->idle = 0;
	for (uint32_t i = 0; i < 2; i++, p->loaded ^= 1)
		while (got < n && p->nr[p->loaded])
			r[got++] = p->round[p->loaded][--p->nr[p->loaded]];
	count_set(p);
	return got;
}

size_t slab_cpu_take(struct kmem_cache *c, uint32_t cpu, size_t n, struct slab_round r[])
{
	struct slab_cpu *p = cpu_get(c, cpu);
	uint32_t node = slab_cpu_node(c->space, cpu);
	size_t got = 0;

	if (!p)
		return slab_node_take(c, node, n, r);
	p->idle = 0;
	while (got < n) {
		uint32_t l = p->loaded;

		if (p->nr[l] == 0 && p->nr[l ^ 1] != 0)
			l = p->loaded = l ^ 1;
		if (p->nr[l] == 0)
			p->nr[l] = (uint32_t)slab_node_take(c, node, c->batch, p->round[l]);
		if (p->nr[l] == 0)
			break;
		r[got++] = p->round[l][--p->nr[l]];
	}
	count_set(p);
	return got;
}

/* The coldest `n` of one magazine to the slabs; free_cpu: whose page lists the frames go to. */
static void magazine_give(struct kmem_cache *c, struct slab_cpu *p, uint32_t cpu, uint32_t which,
                          uint32_t n, uint32_t free_cpu)
{
	struct slab_round *r = p->round[which];

	if (n == 0)
		return;
	p->nr[which] -= n;
	/* First, so that nobody counts them here and in the slabs: kmem_cache_stats() would tell of
	 * fewer objects out than there are. The node's lock orders it. */
	count_set(p);
	slab_node_put(c, slab_cpu_node(c->space, cpu), n, r, free_cpu, false);
	memmove(r, r + n, p->nr[which] * sizeof(*r));
}

bool slab_cpu_put(struct kmem_cache *c, uint32_t cpu, struct slab_round r)
{
	struct slab_cpu *p = cpu_get(c, cpu);
	uint32_t l;

	if (!p)
		return false;
	p->idle = 0;
	l = p->loaded;
	if (p->nr[l] == c->batch && c->limit > 1)
		l = p->loaded = l ^ 1;
	if (p->nr[l] == c->batch) /* both are full: the one that was filled first goes */
		magazine_give(c, p, cpu, l, c->batch, cpu);
	p->round[l][p->nr[l]++] = r;
	count_set(p);
	return true;
}

void slab_cpu_drain(struct kmem_cache *c, uint32_t cpu, uint32_t free_cpu)
{
	struct slab_cpu *p = cpu_look(c, cpu);

	for (uint32_t i = 0; p && i < 2; i++)
		magazine_give(c, p, cpu, i, p->nr[i], free_cpu);
}

void slab_cpu_tick(struct kmem_cache *c, uint32_t cpu)
{
	struct slab_cpu *p = cpu_look(c, cpu);
	uint32_t n = (c->limit + 4) / 5, previous;

	if (!p || p->nr[0] + p->nr[1] == 0 || ++p->idle <= IDLE_TICKS)
		return;
	p->idle = 1; /* the next ones after another two */
	if (n > p->nr[0] + p->nr[1])
		n = (p->nr[0] + p->nr[1] + 1) / 2;
	previous = p->loaded ^ 1;
	if (p->nr[previous] < n) {
		magazine_give(c, p, cpu, p->loaded, n - p->nr[previous], cpu);
		n = p->nr[previous];
	}
	magazine_give(c, p, cpu, previous, n, cpu);
}

uint64_t slab_cpu_count(const struct kmem_cache *c)
{
	uint64_t n = 0;

	for (uint32_t cpu = 0; cpu < c->space->cpus; cpu++) {
		const struct slab_cpu *p = cpu_look(c, cpu);

		if (p)
			n += relaxed_load(&p->count);
	}
	return n;
}
