/* SPDX-License-Identifier: MIT */
/*
 * Slabs: their lists, their making and giving back, and the way of an object through them.
 *
 * Concept: a cache has on each node three lists of slabs: full, partial, empty. Objects are taken
 * from partial slabs first, so that empty ones stay empty and can go. A slab's free objects are the
 * set bits of its free map; the out bits (persistent) say which objects the caller has. An object
 * that is in neither is in a magazine of some cpu (slab_cpu.c) or on its way in a thread.
 *
 *        free map ──slab_node_take()──► round ──slab_hand_out()──► out
 *           ▲                           │  ▲                        │
 *           └───────slab_node_put()─────┘  └──────slab_claim()──────┘
 *
 * A slab is made in this order, so that a crash at any point leaves a block that recovery frees:
 *   1. the block, marked as slab in its state word      (mm_alloc_pages)
 *   2. owner words                                      (slab_words_get)
 *   3. born()                                           the caller makes words and descriptors ready
 *   4. the slab word: the commit                        from now on it is found
 *   5. the list of its node                             from now on it is used
 * and given back in the reverse one: list, dying(), slab word, owner words, block. Once off its list
 * with all objects free nobody can take from it any more.
 *
 * Claims. slab_free() is told an object that was looked up some time ago. Exchanging its out bit from
 * set to clear gives one winner, and pins whatever slab has that owner word now, as a slab with an
 * object out is never given back. Only then it is checked that it is the slab that the object was
 * found in; if not, the bit is set again and the free refused. So no sequence of frees, however
 * it comes about, damages the lists.
 *
 * Invariants (slab_validate): free_objects = sum of `free` over the node's lists = set bits of their
 * maps; FULL: free = 0; EMPTY: free = objects.
 *
 * Locking: the node's lock for lists, maps, counts; it is not held while pages, owner words or the
 * caller's functions are asked. Complexity: O(1) an object; bulk requests hold the lock once for
 * up to ROUNDS_MAX objects.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "slab_private.h"

#define ROUNDS_MAX 512u /* an allocation moves at most so many at a time */
#define SHRINK_AT_ONCE 64u /* taken off the list under one hold of the lock */

static struct slab_about about_of(const struct slab_space *s, pfn_t head)
{
	const struct slab *sl = &s->slab[head];

	return (struct slab_about){
		/* relaxed: the caller has the cache */
		.cache = atomic_load_explicit(&s->cache[sl->cache], memory_order_relaxed),
		.head = head,
		.first_word = sl->first,
		.colour = sl->colour,
	};
}

/* ---- lists ---- */

void slab_list_add(struct slab_space *s, struct cache_node *n, pfn_t pfn, enum slab_state state,
                   bool tail)
{
	struct slab_list *l = &n->list[state];
	struct slab *sl = &s->slab[pfn];

	sl->state = (uint8_t)state;
	sl->next = tail ? PFN_NONE : l->head;
	sl->prev = tail ? l->tail : PFN_NONE;
	if (sl->next != PFN_NONE)
		s->slab[sl->next].prev = pfn;
	else
		l->tail = pfn;
	if (sl->prev != PFN_NONE)
		s->slab[sl->prev].next = pfn;
	else
		l->head = pfn;
	l->nr++;
}

static void list_del(struct slab_space *s, struct cache_node *n, pfn_t pfn)
{
	struct slab *sl = &s->slab[pfn];
	struct slab_list *l = &n->list[sl->state];

	if (sl->next != PFN_NONE)
		s->slab[sl->next].prev = sl->prev;
	else
		l->tail = sl->prev;
	if (sl->prev != PFN_NONE)
		s->slab[sl->prev].next = sl->next;
	else
		l->head = sl->next;
	l->nr--;
	sl->state = SLAB_LEAVING;
}

/* The slab's count of free objects changed: it goes to the list where it belongs now. One that was
 * full goes to the end, to have time to become empty. */
static void list_correct(struct kmem_cache *c, struct cache_node *n, pfn_t head, uint32_t objects)
{
	struct slab_space *s = c->space;
	struct slab *sl = &s->slab[head];
	enum slab_state now = sl->free == 0         ? SLAB_FULL :
	                      sl->free == objects ? SLAB_EMPTY :
	                                            SLAB_PARTIAL;

	if (sl->state == now)
		return;
	bool tail = sl->state == SLAB_FULL && now == SLAB_PARTIAL;

	list_del(s, n, head);
	slab_list_add(s, n, head, now, tail);
}

/* ---- rounds from and to slabs ---- */

static size_t slab_take(struct kmem_cache *c, struct cache_node *node, pfn_t head, size_t n,
                        struct slab_round r[])
{
	uint32_t objects = cache_shape(c).objects;
	struct slab *sl = &c->space->slab[head];
	uint64_t *map = slab_map(c, sl);
	size_t got = 0;

	for (uint32_t at = 0; at < objects && got < n; at += 64, map++) {
		uint64_t free = *map;

		while (free && got < n) {
			r[got++] = (struct slab_round){ head,
				                        at + (uint32_t)__builtin_ctzll(free) };
			free &= free - 1;
		}
		*map = free;
	}
	sl->free = (uint16_t)(sl->free - got);
	list_correct(c, node, head, objects);
	return got;
}

size_t slab_node_take(struct kmem_cache *c, uint32_t node, size_t n, struct slab_round r[])
{
	struct cache_node *k = &c->node[node];
	size_t got = 0;

	LOCK_SCOPED(&k->lock);
	while (got < n) {
		pfn_t head = k->list[SLAB_PARTIAL].head;

		if (head == PFN_NONE) {
			head = k->list[SLAB_EMPTY].head;
			if (head == PFN_NONE)
				break;
			k->touched = true;
		}
		got += slab_take(c, k, head, n - got, r + got);
	}
	k->free_objects -= got;
	return got;
}

/* Takes empty slabs off their list until so few objects are free, or `keep` slabs are left, or
 * `most` are taken: a chain by `next`. Lock held. */
static pfn_t detach_empty(struct kmem_cache *c, struct cache_node *k, uint64_t limit, uint32_t keep,
                          uint64_t most)
{
	uint32_t objects = cache_shape(c).objects;
	struct slab_space *s = c->space;
	pfn_t chain = PFN_NONE;

	for (uint64_t n = 0; n < most && k->list[SLAB_EMPTY].nr > keep && k->free_objects > limit;
	     n++) {
		pfn_t pfn = k->list[SLAB_EMPTY].tail;

		list_del(s, k, pfn);
		k->free_objects -= objects;
		s->slab[pfn].next = chain;
		chain = pfn;
	}
	return chain;
}

static void count_frames(struct kmem_cache *c, bool more)
{
	uint64_t n = more ? c->pages : -(uint64_t)c->pages;

	/* relaxed: counters */
	atomic_fetch_add_explicit(&c->space->frames, n, memory_order_relaxed);
	if (c->reclaimable)
		atomic_fetch_add_explicit(&c->space->frames_reclaimable, n, memory_order_relaxed);
	atomic_fetch_add_explicit(more ? &c->grown : &c->reaped, 1, memory_order_relaxed);
	if (!more)
		atomic_fetch_add_explicit(&c->space->frames_reaped, c->pages, memory_order_relaxed);
}

void slab_set_head(struct slab_space *s, pfn_t pfn, bool on)
{
	uint64_t bit = (uint64_t)1 << (pfn % 64);
	_Atomic uint32_t *section = &s->section[pfn >> s->mm->config.section_order];

	/* release pairs with the acquire in slab_is_head(); the count is a hint where to look, which
	 * is up before the bit and down after it */
	if (on) {
		atomic_fetch_add_explicit(section, 1, memory_order_relaxed);
		atomic_fetch_or_explicit(&s->head[pfn / 64], bit, memory_order_release);
	} else {
		atomic_fetch_and_explicit(&s->head[pfn / 64], ~bit, memory_order_release);
		atomic_fetch_sub_explicit(section, 1, memory_order_release);
	}
}

static void map_free(const struct kmem_cache *c, struct slab *sl)
{
	if (cache_shape(c).objects > 64)
		free(sl->map.more);
	sl->map.more = NULL;
}

/* The slab is on no list and wholly free. No lock is held. */
static void slab_release(struct kmem_cache *c, pfn_t head, uint32_t cpu, bool direct)
{
	struct slab_shape sh = cache_shape(c);
	struct slab_space *s = c->space;
	struct slab_about about = about_of(s, head);
	struct slab *sl = &s->slab[head];

	s->ops->dying(s->ctx, &about);
	slab_word_commit(s, head, 0);
	slab_set_head(s, head, false);
	slab_words_put(s->words, about.first_word, shape_words(&sh));
	map_free(c, sl);
	sl->state = SLAB_NONE;
	count_frames(c, false);
	mm_free_pages(s->d, cpu, head, direct ? MM_FREE_DIRECT : MM_FREE_CACHED);
}

static uint64_t release_chain(struct kmem_cache *c, pfn_t chain, uint32_t cpu, bool direct)
{
	uint64_t n = 0;

	for (; chain != PFN_NONE; n++) {
		/* read before the frame may be another slab's */
		pfn_t next = c->space->slab[chain].next;

		slab_release(c, chain, cpu, direct);
		chain = next;
	}
	return n;
}

void slab_node_put(struct kmem_cache *c, uint32_t node, size_t n, const struct slab_round r[],
                   uint32_t cpu, bool direct)
{
	struct cache_node *k = &c->node[node];
	uint32_t objects = cache_shape(c).objects;
	/* As many as a node may keep, and those that come: what recovery left goes, too, but never all
	 * of it at the cost of one caller. */
	uint64_t most = n + c->free_limit / objects + 1;
	pfn_t chain;

	{
		LOCK_SCOPED(&k->lock);
		for (size_t i = 0; i < n; i++) {
			struct slab *sl = &c->space->slab[r[i].head];
			uint64_t *map = slab_map(c, sl) + r[i].slot / 64;
			uint64_t bit = (uint64_t)1 << (r[i].slot % 64);

			assert(!(*map & bit));
			*map |= bit;
			sl->free++;
			list_correct(c, k, r[i].head, objects);
		}
		k->free_objects += n;
		chain = detach_empty(c, k, direct ? 0 : c->free_limit, 0, most);
	}
	release_chain(c, chain, cpu, direct);
}

uint64_t slab_node_shrink(struct kmem_cache *c, uint32_t node, uint32_t keep, uint64_t most,
                          uint32_t cpu)
{
	struct cache_node *k = &c->node[node];
	uint64_t slabs = 0, n, at_once;
	pfn_t chain;

	do {
		at_once = most - slabs < SHRINK_AT_ONCE ? most - slabs : SHRINK_AT_ONCE;
		{
			LOCK_SCOPED(&k->lock);
			chain = detach_empty(c, k, 0, keep, at_once);
		}
		n = release_chain(c, chain, cpu, true);
		slabs += n;
	} while (n == SHRINK_AT_ONCE);
	return slabs;
}

/* ---- a new slab ---- */

static void map_fill(uint64_t *map, uint32_t objects)
{
	for (; objects >= 64; objects -= 64)
		*map++ = UINT64_MAX;
	if (objects)
		*map = ((uint64_t)1 << objects) - 1;
}

/* No bit of a run is set, whatever was there. */
static void clear_out_bits(struct slab_space *s, uint32_t first, uint32_t n)
{
	uint64_t bits = n >= 64 ? UINT64_MAX : (((uint64_t)1 << n) - 1) << (first % 64);

	for (uint32_t w = first / 64; w * UINT64_C(64) < (uint64_t)first + n; w++)
		if (relaxed_load(&s->m.out[w]) & bits)
			/* relaxed: published by the slab word */
			atomic_fetch_and_explicit(&s->m.out[w], ~bits, memory_order_relaxed);
}

/* Makes a slab, empty, on its node's list: the frame's node, which gfp may leave to chance. */
static int slab_grow(struct kmem_cache *c, const struct mm_request *r, uint32_t node, gfp_t extra,
                     uint32_t *ret)
{
	struct slab_space *s = c->space;
	struct slab_shape sh = cache_shape(c);
	uint32_t colours = kmem_cache_geometry(c)->colours, on;
	struct mm_request q = {
		.gfp = (r->gfp & ~(gfp_t)(__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM | __GFP_MOVABLE |
		                          __GFP_RECLAIMABLE)) |
		       c->gfp | extra,
		.order = sh.order,
		.cpu = r->cpu,
		.node = MM_NODE(node),
		.slab = true,
		.interleave = kmem_cache_record(c)->flags & SLAB_MEM_SPREAD,
	};
	uint64_t *more = NULL;
	struct slab_about about;
	struct cache_node *k;
	struct slab *sl;
	uint32_t first;
	pfn_t head;

	if (mm_alloc_pages(s->d, &q, &head))
		return -ENOMEM;
	if (sh.objects > 64)
		more = calloc((sh.objects + 63) / 64, sizeof(*more));
	if ((sh.objects > 64 && !more) ||
	    slab_words_get(s->words, shape_words(&sh), &first)) {
		free(more);
		mm_free_pages(s->d, r->cpu, head, MM_FREE_CACHED);
		return -ENOMEM;
	}
	on = slab_node_of(s, head);
	k = &c->node[on];
	sl = &s->slab[head];
	*sl = (struct slab){
		.first = first,
		.cache = c->id,
		.free = (uint16_t)sh.objects,
		.state = SLAB_LEAVING,
		.node = (uint8_t)on,
	};
	if (more)
		sl->map.more = more;
	map_fill(slab_map(c, sl), sh.objects);
	{
		LOCK_SCOPED(&k->lock);
		sl->colour = (uint16_t)k->colour_next;
		if (++k->colour_next >= colours)
			k->colour_next = 0;
	}
	clear_out_bits(s, first, shape_words(&sh));
	about = about_of(s, head);
	s->ops->born(s->ctx, &about);
	slab_word_commit(s, head, slab_word(c->id, first, sl->colour));
	slab_set_head(s, head, true);
	count_frames(c, true);
	{
		LOCK_SCOPED(&k->lock);
		slab_list_add(s, k, head, SLAB_EMPTY, false);
		k->free_objects += sh.objects;
	}
	*ret = on;
	return 0;
}

/* ---- objects ---- */

void slab_hand_out(struct kmem_cache *c, size_t n, const struct slab_round r[],
                   struct slab_object ret[])
{
	struct slab_space *s = c->space;
	struct slab_shape sh = cache_shape(c);
	uint32_t first = 0, base = 0, at = 0;
	pfn_t head = PFN_NONE;
	uint64_t bits = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t offset, word;

		if (r[i].head != head) {
			uint64_t w;

			head = r[i].head;
			/* relaxed: the round was got under the lock, after the commit */
			w = relaxed_load(&s->m.slab[head]);
			first = slab_word_first(w);
			base = slab_word_colour(w) * sh.colour_off + sh.offset;
		}
		offset = base + r[i].slot * sh.stride;
		word = first + (offset >> sh.shift);
		if (word / 64 != at && bits) {
			/* release pairs with the acq_rel in slab_claim() and the acquire in
			 * slab_out_bit() */
			atomic_fetch_or_explicit(&s->m.out[at], bits, memory_order_release);
			bits = 0;
		}
		at = word / 64;
		bits |= (uint64_t)1 << (word % 64);
		ret[i] = (struct slab_object){
			.cache = c,
			.head = head,
			.slot = r[i].slot,
			.word = word,
			.address = ((uint64_t)head << PAGE_SHIFT) + offset,
		};
	}
	if (bits)
		/* release, as above */
		atomic_fetch_or_explicit(&s->m.out[at], bits, memory_order_release);
}

/* Some rounds for a request, at most ROUNDS_MAX: from where it is cheapest. */
static size_t rounds_get(struct kmem_cache *c, const struct mm_request *r, uint32_t node,
                         bool cached, size_t n, struct slab_round ret[])
{
	struct slab_space *s = c->space;
	bool only = r->gfp & __GFP_THISNODE;
	gfp_t near = s->nodes > 1 ? __GFP_THISNODE : 0;
	uint32_t on;
	size_t k;

	do {
		k = cached ? slab_cpu_take(c, r->cpu, n, ret) : slab_node_take(c, node, n, ret);
		if (k)
			return k;
	} while (slab_grow(c, r, node, near, &on) == 0);
	for (uint32_t i = 1; i < s->nodes && !only; i++) {
		k = slab_node_take(c, (node + i) % s->nodes, n, ret);
		if (k)
			return k;
	}
	while (s->nodes > 1 && !only && slab_grow(c, r, node, 0, &on) == 0) {
		k = slab_node_take(c, on, n, ret);
		if (k)
			return k;
	}
	if (r->cpu != MM_CPU_NONE && !cached && (!only || slab_cpu_node(s, r->cpu) == node))
		return slab_cpu_rest(c, r->cpu, n, ret);
	return 0;
}

size_t slab_alloc_bulk(struct kmem_cache *c, const struct mm_request *r, size_t n,
                       struct slab_object ret[], int *error)
{
	struct slab_space *s = c->space;
	struct slab_round rounds[ROUNDS_MAX];
	uint32_t node = 0;
	bool cached;
	size_t got = 0;

	if (r->node > s->nodes || (r->cpu >= s->cpus && r->cpu != MM_CPU_NONE)) {
		*error = -EINVAL;
		return 0;
	}
	if (r->node != MM_NODE_ANY)
		node = r->node - 1;
	else if (r->cpu != MM_CPU_NONE)
		node = slab_cpu_node(s, r->cpu);
	/* large requests would only pump slabs through the magazines */
	cached = r->cpu != MM_CPU_NONE && !c->constructs && n < c->batch &&
	         node == slab_cpu_node(s, r->cpu);
	while (got < n) {
		size_t k = n - got < ROUNDS_MAX ? n - got : ROUNDS_MAX;

		k = rounds_get(c, r, node, cached, k, rounds);
		if (k == 0)
			break;
		slab_hand_out(c, k, rounds, ret + got);
		got += k;
	}
	if (got == 0 && n)
		*error = -ENOMEM;
	return got;
}

struct wish {
	struct slab_object *ret;
	size_t n, got, budget;
	bool (*wanted)(void *ctx, const struct slab_object *o);
	void *ctx;
};

/* Takes what is wanted of one slab. Lock held. */
static void some_of_slab(struct kmem_cache *c, struct cache_node *k, pfn_t head, struct wish *w)
{
	struct slab_space *s = c->space;
	uint32_t objects = cache_shape(c).objects;
	struct slab_about about = about_of(s, head);
	struct slab *sl = &s->slab[head];
	uint64_t *map = slab_map(c, sl);

	for (uint32_t at = 0; at < objects; at += 64, map++) {
		for (uint64_t left = *map; left && w->got < w->n && w->budget; left &= left - 1) {
			struct slab_object *o = &w->ret[w->got];

			slab_object_of(&about, at + (uint32_t)__builtin_ctzll(left), o);
			w->budget--;
			if (!w->wanted(w->ctx, o))
				continue;
			*map &= ~(left & -left);
			sl->free--;
			k->free_objects--;
			/* release, as in slab_hand_out() */
			atomic_fetch_or_explicit(&s->m.out[o->word / 64],
			                         (uint64_t)1 << (o->word % 64),
			                         memory_order_release);
			w->got++;
		}
	}
	list_correct(c, k, head, objects);
}

/* Slabs that were looked at go to the end of their list: the next look begins with others. */
static void some_of_list(struct kmem_cache *c, struct cache_node *k, enum slab_state state,
                         struct wish *w)
{
	struct slab_space *s = c->space;

	for (uint32_t nr = k->list[state].nr; nr > 0 && w->got < w->n && w->budget; nr--) {
		pfn_t head = k->list[state].head;

		some_of_slab(c, k, head, w);
		if (s->slab[head].state == state) {
			list_del(s, k, head);
			slab_list_add(s, k, head, state, true);
		} else if (state == SLAB_EMPTY) {
			k->touched = true;
		}
	}
}

size_t slab_alloc_some(struct kmem_cache *c, size_t n, struct slab_object ret[],
                       bool (*wanted)(void *ctx, const struct slab_object *o), void *ctx,
                       size_t budget)
{
	struct wish w = { .ret = ret, .n = n, .budget = budget, .wanted = wanted, .ctx = ctx };

	for (uint32_t node = 0; node < c->space->nodes; node++) {
		struct cache_node *k = &c->node[node];

		LOCK_SCOPED(&k->lock);
		some_of_list(c, k, SLAB_PARTIAL, &w);
		some_of_list(c, k, SLAB_EMPTY, &w);
	}
	return w.got;
}

/* The slab word is that of the slab in which o was found, as far as that can be told. */
static bool object_is_of(const struct slab_space *s, const struct slab_object *o, uint64_t w)
{
	struct slab_shape sh = cache_shape(o->cache);
	uint64_t offset;

	if (!(w & SLAB_WORD_LIVE) || slab_word_cache(w) != o->cache->id || o->slot >= sh.objects)
		return false;
	offset = (uint64_t)slab_word_colour(w) * sh.colour_off + sh.offset +
	         (uint64_t)o->slot * sh.stride;
	return o->address == ((uint64_t)o->head << PAGE_SHIFT) + offset &&
	       o->word == slab_word_first(w) + (offset >> sh.shift) && o->word < s->m.words;
}

static bool slab_claim(struct slab_space *s, const struct slab_object *o)
{
	uint64_t bit = (uint64_t)1 << (o->word % 64);

	if (o->head >= s->mm->config.frames || o->word >= s->m.words)
		return false;
	/* acq_rel pairs with the release in slab_hand_out() and with itself: one wins, and what the
	 * slab is now is seen below */
	if (!(atomic_fetch_and_explicit(&s->m.out[o->word / 64], ~bit, memory_order_acq_rel) & bit))
		return false;
	if (object_is_of(s, o, slab_word_at(s, o->head)))
		return true;
	/* another object has that word now; release, as in slab_hand_out() */
	atomic_fetch_or_explicit(&s->m.out[o->word / 64], bit, memory_order_release);
	return false;
}

bool slab_free(const struct slab_object *o, uint32_t cpu, bool direct)
{
	struct kmem_cache *c = o->cache;
	struct slab_round r = { o->head, o->slot };
	uint32_t node;

	if (!slab_claim(c->space, o))
		return false;
	node = slab_node_of(c->space, o->head);
	if (!direct && cpu != MM_CPU_NONE && !c->constructs &&
	    node == slab_cpu_node(c->space, cpu) && slab_cpu_put(c, cpu, r))
		return true;
	slab_node_put(c, node, 1, &r, cpu, direct);
	return true;
}
