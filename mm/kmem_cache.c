/* SPDX-License-Identifier: MIT */
/*
 * Caches: their records, ids and names, their creation and end; the space that has them all.
 *
 * Concept: a cache is a persistent record, found by its id, and a struct kmem_cache beside it. The
 * record's word commits it: all fields are written before. The word of a record that is no more
 * keeps its life, so that lives grow over restarts too, and an (id, life) pair never means another
 * cache.
 *
 * Ids are handed out the longest free first, so that what somebody remembers by id only goes wrong
 * as late as possible. The struct of an id, once made, is used again for the next cache with that
 * id and never freed: readers without lock may hold one of a cache that is gone.
 *
 * Creation: name looked up in a hash, an id taken, struct and record filled, record committed, then
 * the cache is published (state ALIVE) and linked. Destruction: state DYING, housekeepers that are
 * inside are waited for (they are short and wait for nothing themselves), magazines and empty slabs
 * go back, the record ends, then the id is free. A crash in between leaves a cache with fewer slabs.
 *
 * Locking: the space's lock for hash, order and ids; not held while slabs go back. The state is
 * atomic. Complexity: O(1) but for destruction (slabs).
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "slab_private.h"

_Static_assert(SLAB_NAME_MAX + 1 == sizeof(((struct cache_record *)0)->name), "a name fits");

#define RECORD_LIFE_SHIFT 1

static uint32_t name_hash(const char *name)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h ^ h >> 15;
}

/* ---- the space ---- */

int slab_space_new(struct slab_space **ret, struct mm *mm, struct mm_domain *d,
                   const struct slab_memory *m, const struct slab_ops *ops, void *ctx)
{
	struct slab_space *s = calloc(1, sizeof(*s));
	uint64_t frames = mm->config.frames;
	uint32_t buckets = 64;

	if (!s)
		return -ENOMEM;
	while (buckets < m->caches / 4)
		buckets *= 2;
	s->mm = mm;
	s->d = d;
	s->m = *m;
	s->ops = ops;
	s->ctx = ctx;
	s->nodes = mm->config.nodes;
	s->cpus = mm->config.cpus;
	s->hash_mask = buckets - 1;
	lock_init(&s->lock, LOCK_RANK_SLAB_SPACE);
	s->slab = calloc(frames, sizeof(*s->slab));
	s->head = calloc((frames + 63) / 64, sizeof(*s->head));
	s->section = calloc(mm->nr_sections, sizeof(*s->section));
	s->cache = calloc(m->caches, sizeof(*s->cache));
	s->hash = calloc(buckets, sizeof(struct kmem_cache *));
	s->free_id = calloc(m->caches, sizeof(*s->free_id));
	if (!s->slab || !s->head || !s->section || !s->cache || !s->hash || !s->free_id ||
	    slab_words_new(&s->words, m->words, ops, ctx)) {
		slab_space_free(s);
		return -ENOMEM;
	}
	for (uint32_t id = 1; id < m->caches; id++)
		kmem_cache_free_id(s, id);
	*ret = s;
	return 0;
}

static void slab_maps_free(struct slab_space *s)
{
	for (uint64_t i = 0; s->cache && s->slab && s->head && i < s->mm->config.frames; i += 64) {
		for (uint64_t w = relaxed_load(&s->head[i / 64]); w; w &= w - 1) {
			struct slab *sl = &s->slab[i + (uint32_t)__builtin_ctzll(w)];
			/* relaxed: no other thread */
			struct kmem_cache *c = atomic_load_explicit(&s->cache[sl->cache],
			                                            memory_order_relaxed);

			if (c && cache_shape(c).objects > 64)
				free(sl->map.more);
		}
		relaxed_store(&s->head[i / 64], 0);
	}
}

struct slab_space *slab_space_free(struct slab_space *s)
{
	if (!s)
		return NULL;
	slab_maps_free(s);
	for (uint32_t id = 0; s->cache && id < s->m.caches; id++) {
		/* relaxed: no other thread */
		struct kmem_cache *c = atomic_load_explicit(&s->cache[id], memory_order_relaxed);

		for (uint32_t cpu = 0; c && cpu < s->cpus; cpu++)
			free(atomic_load_explicit(&c->cpu[cpu], memory_order_relaxed));
		if (c) {
			free(c->node);
			free(c->cpu);
		}
		free(c);
	}
	slab_words_free(s->words);
	free(s->slab);
	free(s->head);
	free(s->section);
	free(s->cache);
	free(s->hash);
	free(s->free_id);
	free(s);
	return NULL;
}

void kmem_cache_free_id(struct slab_space *s, uint32_t id)
{
	s->free_id[(s->free_first + s->free_nr++) % s->m.caches] = id;
}

void kmem_cache_forget_all(struct slab_space *s)
{
	slab_maps_free(s);
	for (uint32_t i = 0; i < s->mm->nr_sections; i++)
		relaxed_store(&s->section[i], 0);
	for (uint32_t id = 0; id < s->m.caches; id++) {
		/* relaxed: no other thread */
		struct kmem_cache *c = atomic_load_explicit(&s->cache[id], memory_order_relaxed);

		if (c)
			relaxed_store(&c->state, (uint32_t)KMEM_CACHE_GONE);
	}
	for (uint32_t i = 0; i <= s->hash_mask; i++)
		s->hash[i] = NULL;
	s->newest = NULL;
	s->life = 0;
	s->free_first = s->free_nr = 0;
	relaxed_store(&s->frames, 0);
	relaxed_store(&s->frames_reclaimable, 0);
	slab_words_reset(s->words);
}

/* ---- one cache ---- */

static struct kmem_cache *cache_struct_new(struct slab_space *s, uint32_t id)
{
	struct kmem_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->space = s;
	c->id = id;
	c->node = aligned_alloc(alignof(struct cache_node), s->nodes * sizeof(*c->node));
	c->cpu = calloc(s->cpus, sizeof(*c->cpu));
	if (!c->node || !c->cpu) {
		free(c->node);
		free(c->cpu);
		free(c);
		return NULL;
	}
	memset(c->node, 0, s->nodes * sizeof(*c->node));
	for (uint32_t n = 0; n < s->nodes; n++)
		lock_init(&c->node[n].lock, LOCK_RANK_SLAB);
	return c;
}

/* The struct of an id that has no cache now; NULL: no memory. */
static struct kmem_cache *cache_struct(struct slab_space *s, uint32_t id)
{
	/* relaxed: written under the lock, or by recovery */
	struct kmem_cache *c = atomic_load_explicit(&s->cache[id], memory_order_relaxed);

	return c ? c : cache_struct_new(s, id);
}

/* Fills what follows from the record; nobody uses the cache. */
static void cache_setup(struct kmem_cache *c, const struct cache_record *r, uint64_t life)
{
	const struct slab_geometry *g = &r->geometry;
	struct slab_space *s = c->space;

	c->gfp = r->flags & SLAB_RECLAIM_ACCOUNT ? __GFP_RECLAIMABLE : 0;
	if (r->flags & SLAB_CACHE_DMA)
		c->gfp |= __GFP_DMA;
	if (r->flags & SLAB_CACHE_DMA32)
		c->gfp |= __GFP_DMA32;
	c->limit = slab_cpu_limit(g->stride);
	c->batch = (c->limit + 1) / 2;
	c->pages = 1u << g->order;
	c->free_limit = (uint64_t)(1 + s->cpus) * c->batch + g->objects;
	c->life = life;
	c->reclaimable = r->flags & SLAB_RECLAIM_ACCOUNT;
	c->constructs = r->ctor;
	for (uint32_t n = 0; n < s->nodes; n++) {
		struct cache_node *k = &c->node[n];

		k->colour_next = 0;
		k->free_objects = 0;
		k->touched = false;
		for (uint32_t i = 0; i < SLAB_NR_STATES; i++)
			k->list[i] = (struct slab_list){ PFN_NONE, PFN_NONE, 0 };
	}
	for (uint32_t cpu = 0; cpu < s->cpus; cpu++) {
		/* relaxed: no other thread uses it */
		struct slab_cpu *p = atomic_load_explicit(&c->cpu[cpu], memory_order_relaxed);

		if (!p)
			continue;
		p->loaded = p->nr[0] = p->nr[1] = p->idle = 0;
		relaxed_store(&p->count, 0);
	}
	relaxed_store(&c->grown, 0);
	relaxed_store(&c->reaped, 0);
	relaxed_store(&c->shape, shape_pack(g));
}

/* From now on the cache is found. Lock held, or recovery. */
static void cache_publish(struct kmem_cache *c)
{
	struct slab_space *s = c->space;
	struct kmem_cache **bucket = &s->hash[name_hash(s->m.cache[c->id].name) & s->hash_mask];

	c->hash_next = *bucket;
	*bucket = c;
	c->newer = NULL;
	c->older = s->newest;
	if (s->newest)
		s->newest->newer = c;
	s->newest = c;
	/* seq_cst: kmem_cache_enter() */
	atomic_store_explicit(&c->state, KMEM_CACHE_ALIVE, memory_order_seq_cst);
	/* release pairs with the acquire in kmem_cache_by_id() and all who come by id */
	atomic_store_explicit(&s->cache[c->id], c, memory_order_release);
}

static void cache_unlink(struct kmem_cache *c)
{
	struct slab_space *s = c->space;
	struct kmem_cache **at = &s->hash[name_hash(s->m.cache[c->id].name) & s->hash_mask];

	while (*at != c)
		at = &(*at)->hash_next;
	*at = c->hash_next;
	if (c->newer)
		c->newer->older = c->older;
	else
		s->newest = c->older;
	if (c->older)
		c->older->newer = c->newer;
}

static struct kmem_cache *cache_lookup(struct slab_space *s, const char *name)
{
	struct kmem_cache *c = s->hash[name_hash(name) & s->hash_mask];

	while (c && strcmp(s->m.cache[c->id].name, name) != 0)
		c = c->hash_next;
	return c;
}

int kmem_cache_adopt(struct slab_space *s, uint32_t id)
{
	struct cache_record *r = &s->m.cache[id];
	struct kmem_cache *c = cache_struct(s, id);
	uint64_t life = relaxed_load(&r->word) >> RECORD_LIFE_SHIFT;

	if (!c)
		return -ENOMEM;
	cache_setup(c, r, life);
	cache_publish(c);
	return 0;
}

static const struct {
	uint32_t flag;
	const char *name;
} flag_names[] = {
	{ SLAB_CONSISTENCY_CHECKS, "CONSISTENCY_CHECKS" },
	{ SLAB_RED_ZONE, "RED_ZONE" },
	{ SLAB_POISON, "POISON" },
	{ SLAB_HWCACHE_ALIGN, "HWCACHE_ALIGN" },
	{ SLAB_CACHE_DMA, "CACHE_DMA" },
	{ SLAB_CACHE_DMA32, "CACHE_DMA32" },
	{ SLAB_STORE_USER, "STORE_USER" },
	{ SLAB_RECLAIM_ACCOUNT, "RECLAIM_ACCOUNT" },
	{ SLAB_PANIC, "PANIC" },
	{ SLAB_MEM_SPREAD, "MEM_SPREAD" },
	{ SLAB_ACCOUNT, "ACCOUNT" },
};

static const char *flags_difference(const char *name, uint32_t is, uint32_t wanted)
{
	char list[SLAB_WHY_MAX] = "";
	size_t i, at = 0;

	for (i = 0; i < sizeof(flag_names) / sizeof(flag_names[0]); i++) {
		uint32_t flag = flag_names[i].flag;

		if (((is ^ wanted) & flag) && at < sizeof(list))
			at += (size_t)snprintf(list + at, sizeof(list) - at, "%s %s SLAB_%s",
			                       at ? "," : "", is & flag ? "with" : "without",
			                       flag_names[i].name);
	}
	return slab_why("cache %s exists with flags 0x%x, not 0x%x:%s", name, is, wanted, list);
}

/* Why a request for a cache that exists is refused; NULL: it is the same. Flags come before the
 * alignment, which SLAB_HWCACHE_ALIGN changes. */
static const char *difference(const struct cache_record *r, const struct cache_request *q,
                              const struct slab_geometry *g)
{
	if (r->geometry.size != g->size)
		return slab_why("cache %s exists with objects of %u bytes, not %u", r->name,
		                r->geometry.size, g->size);
	if (r->flags_asked != q->flags_asked)
		return flags_difference(r->name, r->flags_asked, q->flags_asked);
	if (r->geometry.align != g->align)
		return slab_why("cache %s exists with alignment %u, not %u", r->name,
		                r->geometry.align, g->align);
	if ((r->ctor != 0) != q->ctor)
		return slab_why("cache %s exists %s a constructor", r->name,
		                r->ctor ? "with" : "without");
	return NULL;
}

int kmem_cache_create(struct slab_space *s, const struct cache_request *q, uint64_t created,
                      struct kmem_cache **ret, const char **why)
{
	struct slab_geometry g;
	struct cache_record *r;
	struct kmem_cache *c;
	uint32_t id;
	int err = slab_geometry(&g, q, why);

	if (err)
		return err;
	LOCK_SCOPED(&s->lock);
	c = cache_lookup(s, q->name);
	if (c) {
		const char *d = difference(&s->m.cache[c->id], q, &g);

		if (!d && relaxed_load(&c->state) != KMEM_CACHE_ALIVE)
			d = slab_why("cache %s is being destroyed", q->name);
		*why = d;
		*ret = d ? NULL : c;
		return -EEXIST;
	}
	if (s->free_nr == 0) {
		*why = slab_why("there are %u caches already", s->m.caches - 1);
		return -ENOSPC;
	}
	id = s->free_id[s->free_first];
	c = cache_struct(s, id);
	if (!c) {
		*why = "no memory for another cache";
		return -ENOMEM;
	}
	s->free_first = (s->free_first + 1) % s->m.caches;
	s->free_nr--;
	r = &s->m.cache[id];
	memset(r->name, 0, sizeof(r->name));
	memcpy(r->name, q->name, strlen(q->name));
	r->geometry = g;
	r->flags = q->flags;
	r->flags_asked = q->flags_asked;
	r->ctor = q->ctor;
	r->created = created;
	memset(r->pad, 0, sizeof(r->pad));
	/* the commit; release: the fields are there */
	atomic_store_explicit(&r->word, ++s->life << RECORD_LIFE_SHIFT | CACHE_RECORD_LIVE,
	                      memory_order_release);
	cache_setup(c, r, s->life);
	cache_publish(c);
	*ret = c;
	return 0;
}

struct kmem_cache *kmem_cache_find(struct slab_space *s, const char *name)
{
	LOCK_SCOPED(&s->lock);
	return cache_lookup(s, name);
}

struct kmem_cache *kmem_cache_by_id(struct slab_space *s, uint32_t id)
{
	struct kmem_cache *c;

	if (id == 0 || id >= s->m.caches)
		return NULL;
	/* acquire pairs with the release in cache_publish() */
	c = atomic_load_explicit(&s->cache[id], memory_order_acquire);
	/* acquire, as above, for a struct that is used again */
	if (!c || atomic_load_explicit(&c->state, memory_order_acquire) == KMEM_CACHE_GONE)
		return NULL;
	return c;
}

bool kmem_cache_enter(struct kmem_cache *c)
{
	/* seq_cst, all four: either the housekeeper sees that the cache is dying, or whoever
	 * destroys it sees the housekeeper */
	atomic_fetch_add_explicit(&c->inside, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&c->state, memory_order_seq_cst) == KMEM_CACHE_ALIVE)
		return true;
	kmem_cache_leave(c);
	return false;
}

void kmem_cache_leave(struct kmem_cache *c)
{
	/* release pairs with the load in kmem_cache_destroy() */
	atomic_fetch_sub_explicit(&c->inside, 1, memory_order_release);
}

void kmem_cache_count(const struct kmem_cache *c, uint64_t *objects, uint64_t *free)
{
	uint64_t slabs = 0, f = 0;

	for (uint32_t n = 0; n < c->space->nodes; n++) {
		struct cache_node *k = &c->node[n];

		LOCK_SCOPED(&k->lock);
		slabs += (uint64_t)k->list[SLAB_FULL].nr + k->list[SLAB_PARTIAL].nr +
		         k->list[SLAB_EMPTY].nr;
		f += k->free_objects;
	}
	*objects = slabs * cache_shape(c).objects;
	*free = f;
}

int kmem_cache_destroy(struct kmem_cache *c, uint64_t *out)
{
	struct slab_space *s = c->space;
	uint64_t objects, free;

	/* seq_cst: kmem_cache_enter() */
	atomic_store_explicit(&c->state, KMEM_CACHE_DYING, memory_order_seq_cst);
	while (atomic_load_explicit(&c->inside, memory_order_seq_cst))
		sched_yield();
	for (uint32_t cpu = 0; cpu < s->cpus; cpu++)
		slab_cpu_drain(c, cpu, MM_CPU_NONE);
	kmem_cache_count(c, &objects, &free);
	if (objects != free) {
		/* seq_cst: as it was before */
		atomic_store_explicit(&c->state, KMEM_CACHE_ALIVE, memory_order_seq_cst);
		*out = objects - free;
		return -EBUSY;
	}
	slab_shrink(c, MM_CPU_NONE, 0);
	LOCK_SCOPED(&s->lock);
	cache_unlink(c);
	/* the commit of its end; release: its slabs are gone before */
	atomic_store_explicit(&s->m.cache[c->id].word, c->life << RECORD_LIFE_SHIFT,
	                      memory_order_release);
	atomic_store_explicit(&c->state, KMEM_CACHE_GONE, memory_order_release);
	kmem_cache_free_id(s, c->id);
	return 0;
}

struct kmem_cache *kmem_cache_next(struct slab_space *s, struct kmem_cache *c)
{
	LOCK_SCOPED(&s->lock);
	if (!c)
		return s->newest;
	if (relaxed_load(&c->state) != KMEM_CACHE_GONE)
		return c->older;
	/* it went meanwhile: those that are older than it was */
	for (struct kmem_cache *o = s->newest; o; o = o->older)
		if (o->life < c->life)
			return o;
	return NULL;
}

uint32_t kmem_cache_id(const struct kmem_cache *c)
{
	return c->id;
}

uint64_t kmem_cache_life(const struct kmem_cache *c)
{
	return c->life;
}

const struct cache_record *kmem_cache_record(const struct kmem_cache *c)
{
	return &c->space->m.cache[c->id];
}
