/* SPDX-License-Identifier: MIT */
/*
 * What the files of the slab layer share. slab.h has the picture; each file its own theory.
 *
 *     slab_space ── cache[id] ── kmem_cache ── node[n]  full, partial, empty slabs (slab.c)
 *         │                          └──────── cpu[c]   loaded, previous magazine (slab_cpu.c)
 *         ├── slab[head frame]       struct slab: free map, links
 *         ├── head, a bit a frame    which frames head a slab: what readers without lock begin with
 *         └── words                  runs of owner words (slab_words.c)
 *
 * Everything that a reader without lock touches is never freed while the space exists (the tables by
 * frame, the caches by id) and is atomic: the slab word, the head bit, and a cache's `shape`.
 */
#ifndef MM_SLAB_PRIVATE_H
#define MM_SLAB_PRIVATE_H

#include "slab.h"
#include "slab_words.h"
#include "zone.h"

/* ---- the slab word ----
 *
 *      63 61 60    53 52         21 20    1  0
 *     +-----+--------+-------------+-------+---+
 *     | 0   | colour | first word  | cache | L |    L = 1: a slab begins here; else the word is 0
 *     +-----+--------+-------------+-------+---+
 */
#define SLAB_WORD_LIVE ((uint64_t)1)
#define SLAB_WORD_CACHE_SHIFT 1
#define SLAB_WORD_CACHE_MASK 0xfffffu
#define SLAB_WORD_FIRST_SHIFT 21
#define SLAB_WORD_COLOUR_SHIFT 53
#define SLAB_WORD_COLOUR_MASK 0xffu
#define SLAB_WORD_USED_BITS 61

_Static_assert(SLAB_COLOURS_MAX == SLAB_WORD_COLOUR_MASK + 1, "a colour fits its field");

static inline uint64_t slab_word(uint32_t cache, uint32_t first, uint32_t colour)
{
	return SLAB_WORD_LIVE | (uint64_t)cache << SLAB_WORD_CACHE_SHIFT |
	       (uint64_t)first << SLAB_WORD_FIRST_SHIFT |
	       (uint64_t)colour << SLAB_WORD_COLOUR_SHIFT;
}

static inline uint32_t slab_word_cache(uint64_t w)
{
	return (uint32_t)(w >> SLAB_WORD_CACHE_SHIFT) & SLAB_WORD_CACHE_MASK;
}

static inline uint32_t slab_word_first(uint64_t w)
{
	return (uint32_t)(w >> SLAB_WORD_FIRST_SHIFT);
}

static inline uint32_t slab_word_colour(uint64_t w)
{
	return (uint32_t)(w >> SLAB_WORD_COLOUR_SHIFT) & SLAB_WORD_COLOUR_MASK;
}

/* ---- a cache's shape: what finding objects takes of its geometry, in one word ---- */

struct slab_shape {
	uint32_t stride, objects, offset, colour_off, order, shift;
};

static inline uint64_t shape_pack(const struct slab_geometry *g)
{
	return (uint64_t)(g->stride / 8) | (uint64_t)g->objects << 20 | (uint64_t)g->order << 30 |
	       (uint64_t)(g->offset / 8) << 34 |
	       (uint64_t)__builtin_ctz(g->colour_off) << 47 | (uint64_t)g->shift << 52;
}

static inline struct slab_shape shape_unpack(uint64_t w)
{
	return (struct slab_shape){
		.stride = (uint32_t)(w & 0xfffff) * 8,
		.objects = (uint32_t)(w >> 20) & 0x3ff,
		.order = (uint32_t)(w >> 30) & 0xf,
		.offset = (uint32_t)(w >> 34 & 0x1fff) * 8,
		.colour_off = 1u << (w >> 47 & 0x1f),
		.shift = (uint32_t)(w >> 52) & 0x1f,
	};
}

/* Owner words that a slab has. */
static inline uint32_t shape_words(const struct slab_shape *sh)
{
	return (1u << (PAGE_SHIFT + sh->order)) >> sh->shift;
}

/* ---- slabs ---- */

enum slab_state {
	SLAB_NONE,
	SLAB_FULL,
	SLAB_PARTIAL,
	SLAB_EMPTY,
	SLAB_LEAVING, /* on no list: being made or given back */
	SLAB_NR_STATES,
};

/* By its head frame. Guarded by the lock of its cache and node. */
struct slab {
	pfn_t next, prev; /* on its list */
	uint32_t first;   /* owner word */
	uint32_t cache;   /* id */
	uint16_t free;    /* objects in the map */
	uint16_t colour;
	uint8_t state;    /* enum slab_state */
	uint8_t node;
	uint8_t pad[2];
	/* a bit a slot that is free and in no magazine; up to 64 slots here, more behind a pointer */
	union {
		uint64_t bits;
		uint64_t *more;
	} map;
};
_Static_assert(sizeof(struct slab) == 32, "half a cache line a slab");

struct slab_list {
	pfn_t head, tail; /* PFN_NONE when empty */
	uint32_t nr;
};

/* The slabs of one cache on one node. */
struct cache_node {
	alignas(MM_CACHE_LINE) struct lock lock; /* guards what follows */
	uint32_t colour_next;
	struct slab_list list[SLAB_NR_STATES]; /* FULL, PARTIAL, EMPTY are used */
	uint64_t free_objects;                 /* in the free maps of the lists' slabs */
	bool touched; /* an empty slab was needed since the last slab_tick() */
};

/* An object on its way: what magazines hold. */
struct slab_round {
	pfn_t head;
	uint32_t slot;
};

#define SLAB_CPU_BATCH_MAX 60u

/* One cpu's magazines of one cache: a stack each, [loaded] and the other. Its thread's alone. */
struct slab_cpu {
	alignas(2 * MM_CACHE_LINE) _Atomic uint32_t count; /* rounds in both; others read it */
	uint32_t loaded;
	uint32_t nr[2];
	uint32_t idle; /* ticks without use */
	struct slab_round round[2][SLAB_CPU_BATCH_MAX];
};

enum kmem_cache_state { KMEM_CACHE_GONE, KMEM_CACHE_ALIVE, KMEM_CACHE_DYING };

struct kmem_cache {
	struct slab_space *space;
	uint32_t id;
	_Atomic uint32_t state;  /* enum kmem_cache_state; ALIVE is stored when all else is there */
	_Atomic uint32_t inside; /* housekeepers that are at it, see kmem_cache_enter() */
	_Atomic uint64_t shape;
	/* constant while it is alive */
	gfp_t gfp;         /* zone and mobility bits */
	uint32_t limit;    /* rounds on a cpu; half of them a magazine */
	uint32_t batch;    /* rounds of a magazine */
	uint32_t pages;    /* frames of a slab */
	uint64_t free_limit; /* free objects a node keeps before empty slabs go */
	uint64_t life;
	bool reclaimable;
	bool constructs; /* has a constructor: slab_alloc_some() is to find all that is free, so cpus
	                    keep nothing of it */
	struct cache_node *node;         /* by node */
	_Atomic(struct slab_cpu *) *cpu; /* by cpu; made at its first use */
	_Atomic uint64_t grown, reaped;
	/* under the space's lock */
	struct kmem_cache *newer, *older; /* order of creation */
	struct kmem_cache *hash_next;
};

struct slab_space {
	struct mm *mm;
	struct mm_domain *d;
	struct slab_memory m;
	const struct slab_ops *ops;
	void *ctx;
	uint32_t nodes, cpus;
	struct slab *slab;         /* by head frame */
	_Atomic uint64_t *head;    /* bits, by frame */
	_Atomic uint32_t *section; /* slabs that begin in it */
	struct slab_words *words;
	_Atomic uint64_t frames, frames_reclaimable, frames_reaped;
	_Atomic(struct kmem_cache *) *cache; /* by id */
	uint32_t tick;                       /* slab_tick()'s */

	struct lock lock; /* guards what follows */
	uint64_t life;    /* of the newest cache that there was */
	struct kmem_cache *newest;
	struct kmem_cache **hash; /* by name */
	uint32_t hash_mask;
	uint32_t *free_id; /* a ring: ids that are free, the longest first */
	uint32_t free_first, free_nr;
};

static inline bool slab_is_head(const struct slab_space *s, pfn_t pfn)
{
	/* acquire pairs with the release in slab_set_head() */
	return atomic_load_explicit(&s->head[pfn / 64], memory_order_acquire) >> (pfn % 64) & 1;
}

static inline uint64_t slab_word_at(const struct slab_space *s, pfn_t head)
{
	/* acquire pairs with the release in slab_word_commit(): what was made ready is there */
	return atomic_load_explicit(&s->m.slab[head], memory_order_acquire);
}

static inline void slab_word_commit(struct slab_space *s, pfn_t head, uint64_t w)
{
	atomic_store_explicit(&s->m.slab[head], w, memory_order_release);
}

static inline struct slab_shape cache_shape(const struct kmem_cache *c)
{
	/* relaxed: constant while the cache has slabs, and one word */
	return shape_unpack(relaxed_load(&c->shape));
}

static inline uint64_t *slab_map(const struct kmem_cache *c, struct slab *sl)
{
	return cache_shape(c).objects <= 64 ? &sl->map.bits : sl->map.more;
}

static inline uint32_t slab_node_of(const struct slab_space *s, pfn_t pfn)
{
	return s->mm->geometry[pfn >> s->mm->config.section_order].node;
}

static inline bool slab_out_bit(const struct slab_space *s, uint32_t word)
{
	/* acquire pairs with the acq_rel in slab_hand_out() and slab_claim() */
	return atomic_load_explicit(&s->m.out[word / 64], memory_order_acquire) >> (word % 64) & 1;
}

/* The thread names it, so that `cpu` counts as the node's own. */
static inline uint32_t slab_cpu_node(const struct slab_space *s, uint32_t cpu)
{
	return s->mm->cpu_node[cpu];
}

/* ---- slab.c ---- */

/* Puts free objects of that node into r. Up to n, from partial slabs, then empty ones. */
size_t slab_node_take(struct kmem_cache *c, uint32_t node, size_t n, struct slab_round r[]);
/* Puts them back; empty slabs beyond the bound go (direct: all that are empty), at most as many as
 * came by this and a node may keep. */
void slab_node_put(struct kmem_cache *c, uint32_t node, size_t n, const struct slab_round r[],
                   uint32_t cpu, bool direct);
/* Gives back the empty slabs of the node beyond `keep`, at most `most`; slabs. */
uint64_t slab_node_shrink(struct kmem_cache *c, uint32_t node, uint32_t keep, uint64_t most,
                          uint32_t cpu);
/* Sets the out bits and says which objects they are. */
void slab_hand_out(struct kmem_cache *c, size_t n, const struct slab_round r[],
                   struct slab_object ret[]);
void slab_set_head(struct slab_space *s, pfn_t pfn, bool on);
void slab_list_add(struct slab_space *s, struct cache_node *n, pfn_t pfn, enum slab_state state,
                   bool tail);

/* ---- slab_cpu.c ---- */

/* Rounds from the cpu's magazines, refilled from the node's slabs when they run out. */
size_t slab_cpu_take(struct kmem_cache *c, uint32_t cpu, size_t n, struct slab_round r[]);
/* Whatever they hold, without refilling. */
size_t slab_cpu_rest(struct kmem_cache *c, uint32_t cpu, size_t n, struct slab_round r[]);
/* False: there are no magazines. */
bool slab_cpu_put(struct kmem_cache *c, uint32_t cpu, struct slab_round r);
/* The cpu's magazines to the slabs. */
void slab_cpu_drain(struct kmem_cache *c, uint32_t cpu, uint32_t free_cpu);
/* Once a second: some of what was idle. */
void slab_cpu_tick(struct kmem_cache *c, uint32_t cpu);
uint32_t slab_cpu_limit(uint32_t stride);
uint64_t slab_cpu_count(const struct kmem_cache *c); /* rounds of all cpus */

/* ---- kmem_cache.c ---- */

/* A housekeeper is to look at a cache that may end any moment: false when it does. */
bool kmem_cache_enter(struct kmem_cache *c);
void kmem_cache_leave(struct kmem_cache *c);
/* Objects in the slabs of all nodes, and those of them in the free maps. */
void kmem_cache_count(const struct kmem_cache *c, uint64_t *objects, uint64_t *free);
/* Recovery: makes a live record's cache; the oldest first. -ENOMEM. */
int kmem_cache_adopt(struct slab_space *s, uint32_t id);
/* Recovery: ids become free in the order of the calls. */
void kmem_cache_free_id(struct slab_space *s, uint32_t id);
/* Recovery: no cache, no id. */
void kmem_cache_forget_all(struct slab_space *s);

/* ---- slab_geometry.c ---- */

const char *cache_name_nonsense(const char *name);   /* NULL: it is a name */
const char *geometry_nonsense(const struct slab_geometry *g);
/* Formats into the calling thread's buffer. */
#define SLAB_WHY_MAX 288u
__attribute__((format(printf, 1, 2))) const char *slab_why(const char *format, ...);

#endif
