/* SPDX-License-Identifier: MIT */
/*
 * The slab layer: caches of equal objects (Bonwick 1994, as in Linux's mm/slab.c).
 *
 * A cache has slabs: blocks of 2^order frames cut into slots of `stride` bytes. Nothing of the slab
 * layer lies in the pool's pages. What must survive the daemon (persistent) is three tables in
 * memory that the caller hands over; all else (lists, counts, free maps, per-CPU magazines) is
 * derived and rebuilt by slab_space_recover().
 *
 *   cache records   one a cache: its name and geometry; the record's word commits it
 *   slab words      one 64-bit word a frame: on the head frame of a slab, which cache it belongs to,
 *                   its first owner word and its colour; storing it commits the slab
 *   out bits        one bit an owner word: bit `first word + slot` says that the object is out, that
 *                   is, with the caller (in a session, a magazine, a depot). Set before an object is
 *                   handed out, cleared by slab_free(), of several callers one wins
 *
 * Each object has an owner word, which is the caller's business (daemon/): the slab layer only says
 * which one, by index. A slab gets a run of 1 to 512 of them, a power of two, from a space that
 * begins empty (slab_words.c); word = first + (offset in the slab >> shift).
 *
 * Layers of an allocation, Bonwick and Adams 2001: the cpu's two magazines (loaded, previous), the
 * partial slabs of the node, its empty slabs, a new slab from the page allocator. Frees go back the
 * same way. Empty slabs beyond a bound return to the page allocator at once, the others by
 * slab_shrink() and slab_tick().
 *
 * Threads: as mm.h. Locks: one a cache and node (LOCK_RANK_SLAB), never held while the page
 * allocator is asked; one for the word space; one for creating and destroying (LOCK_RANK_SLAB_SPACE).
 */
#ifndef MM_SLAB_H
#define MM_SLAB_H

#include <stdatomic.h>

#include "mm.h"

/* KMM_SLAB_* of the public header, Linux's values. */
#define SLAB_CONSISTENCY_CHECKS 0x00000100u
#define SLAB_RED_ZONE 0x00000400u
#define SLAB_POISON 0x00000800u
#define SLAB_HWCACHE_ALIGN 0x00002000u
#define SLAB_CACHE_DMA 0x00004000u
#define SLAB_CACHE_DMA32 0x00008000u
#define SLAB_STORE_USER 0x00010000u
#define SLAB_RECLAIM_ACCOUNT 0x00020000u
#define SLAB_PANIC 0x00040000u
#define SLAB_MEM_SPREAD 0x00100000u
#define SLAB_ACCOUNT 0x04000000u
#define SLAB_FLAGS_DEFINED                                                                         \
	(SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_HWCACHE_ALIGN |              \
	 SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_STORE_USER | SLAB_RECLAIM_ACCOUNT | SLAB_PANIC | \
	 SLAB_MEM_SPREAD | SLAB_ACCOUNT)
#define SLAB_DEBUG_FLAGS                                                                           \
	(SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER)

#define SLAB_NAME_MAX 63u
#define SLAB_SIZE_MAX ((uint64_t)1 << (PAGE_SHIFT + MAX_PAGE_ORDER)) /* 4 MiB with all zones */
#define SLAB_WORDS_MIN 1u
#define SLAB_WORDS_MAX 512u
#define SLAB_COLOURS_MAX 256u

/*
 * One slot, from left to right:
 *
 *     | red zone, padding | object (size) | padding | red zone 8 | user 16 | padding |
 *     |<---- offset ----->|                                                          |
 *     |<-------------------------------- stride ------------------------------------>|
 *
 * Red zones only with SLAB_RED_ZONE: `offset` is then 8 rounded up to the alignment, and the right
 * one begins at offset + size rounded up to 8. SLAB_STORE_USER adds 16 bytes behind that: who
 * allocated and who freed it last. The contents are the client's business (client/debug.c); the
 * layout is fixed here. Without these flags a slot is the object.
 */
struct slab_geometry {
	uint32_t size;    /* bytes, as asked for */
	uint32_t align;   /* effective */
	uint32_t stride;  /* bytes */
	uint32_t objects; /* a slab */
	uint32_t words;   /* owner words a slab has */
	uint32_t colours; /* slabs begin at colour_next * colour_off, colour_next++ mod colours */
	uint32_t colour_off; /* bytes: the larger of a cache line and the alignment */
	uint16_t offset;
	uint8_t order;
	uint8_t shift; /* floor(log2 stride) */
};

struct cache_request {
	const char *name;
	uint64_t size, align; /* align 0: by the size (kmalloc's rule for powers of two is the caller's) */
	uint32_t flags;       /* effective */
	uint32_t flags_asked; /* by the creator: what a later creator is compared with */
	bool ctor;
};
/* Linux's calculation (linux-mm-rules 2.12, SLAB): alignment; stride; order from 0 up until
 * SLAB_RECLAIM_ACCOUNT, order 1, or left_over * 8 <= slab; at least one object, and at most
 * SLAB_WORDS_MAX words. -EINVAL with *why (a text in the calling thread's buffer) for what is no
 * legal request: name empty, too long, or with a space or control character; size 0 or above
 * SLAB_SIZE_MAX; align no power of two or above SLAB_SIZE_MAX; undefined flags; CACHE_DMA with
 * CACHE_DMA32; no room for what the debug flags add. */
int slab_geometry(struct slab_geometry *g, const struct cache_request *q, const char **why);

/* ---- persistent ---- */

#define CACHE_RECORD_LIVE ((uint64_t)1)

/* word: 0 never used; bit 0 LIVE, bits 1..63 life: grows with each cache created in the space, so that
 * it orders caches by creation and tells one from the next with the same id. When a cache ends, LIVE
 * is cleared and its life stays, so that lives grow over restarts too. */
struct cache_record {
	_Atomic uint64_t word;
	char name[64];
	struct slab_geometry geometry;
	uint32_t flags, flags_asked, ctor;
	uint64_t created; /* the caller's: seconds since the epoch */
	uint8_t pad[64];
};
_Static_assert(sizeof(struct cache_record) == 192, "persistent layout: three cache lines");

struct slab_memory {
	struct cache_record *cache; /* `caches` of them; ids 1 to caches - 1 */
	uint32_t caches;
	_Atomic uint64_t *slab; /* one a frame */
	_Atomic uint64_t *out;  /* bits, `words` of them */
	uint64_t words;         /* owner words in all; a multiple of 4096 */
};

/* ---- spaces, caches, slabs ---- */

struct slab_space; /* the caches of one domain */
struct kmem_cache;

struct slab_about {
	struct kmem_cache *cache;
	pfn_t head;
	uint32_t first_word;
	uint32_t colour; /* in colour_offs */
};

struct slab_object {
	struct kmem_cache *cache;
	pfn_t head;       /* of its slab */
	uint32_t slot;
	uint32_t word;    /* index of its owner word */
	uint64_t address; /* of its first byte: in the pool */
};

/* What the caller does at the turns of a slab's life. No lock is held. */
struct slab_ops {
	/* Owner words [first, first + n) come into use (n a multiple of 512): their memory must be
	 * there, and that of their out bits. -ENOMEM: the slab is not made. */
	int (*words_open)(void *ctx, uint32_t first, uint32_t n);
	/* They are out of use. */
	void (*words_close)(void *ctx, uint32_t first, uint32_t n);
	/* The slab is about to be committed: its words and descriptors are to be made ready. */
	void (*born)(void *ctx, const struct slab_about *s);
	/* The slab is empty and nobody finds it any more; its word is still there. */
	void (*dying)(void *ctx, const struct slab_about *s);
};

/* The space of a domain, with no cache in it: call slab_space_recover() when the memory may hold
 * some. -ENOMEM. */
int slab_space_new(struct slab_space **ret, struct mm *mm, struct mm_domain *d,
                   const struct slab_memory *m, const struct slab_ops *ops, void *ctx);
struct slab_space *slab_space_free(struct slab_space *s);

/* After a restart, before mm_domain_recover(), whose keep function keeps blocks with `slab` set when
 * slab_present() says so. Caches and slabs are taken over as the records say; `judge` is asked about
 * each object, its out bit in `was_out`, and says whether it is out from now on. What makes no sense
 * (a slab of no cache, where mm/ has no slab block, with words of another slab) is reported and, being
 * private truth, ends it with -EUCLEAN. May be interrupted and run again. */
typedef bool (*slab_judge_fn)(void *ctx, const struct slab_object *o, bool was_out);
int slab_space_recover(struct slab_space *s, slab_judge_fn judge, mm_report_fn report, void *ctx);
bool slab_present(const struct slab_space *s, pfn_t head);

/* -EINVAL (see slab_geometry), -EEXIST with the difference in *why (or, when all is the same, with
 * *ret the cache that exists), -ENOSPC no id is free, -ENOMEM. Ids are used again the longest free
 * first. */
int kmem_cache_create(struct slab_space *s, const struct cache_request *q, uint64_t created,
                      struct kmem_cache **ret, const char **why);
struct kmem_cache *kmem_cache_find(struct slab_space *s, const char *name);
/* NULL: no cache has that id. The structure of an id is never freed, so that it is safe to look at;
 * the caller keeps users and kmem_cache_destroy() apart. */
struct kmem_cache *kmem_cache_by_id(struct slab_space *s, uint32_t id);
/* -EBUSY: *out objects are out. Else its slabs go back, then the record. No other thread uses c. */
int kmem_cache_destroy(struct kmem_cache *c, uint64_t *out);
/* The next cache in order of creation, newest first (NULL: the first); NULL: no more. */
struct kmem_cache *kmem_cache_next(struct slab_space *s, struct kmem_cache *c);

uint32_t kmem_cache_id(const struct kmem_cache *c);
uint64_t kmem_cache_life(const struct kmem_cache *c);
const struct cache_record *kmem_cache_record(const struct kmem_cache *c);
static inline const struct slab_geometry *kmem_cache_geometry(const struct kmem_cache *c)
{
	return &kmem_cache_record(c)->geometry;
}

/* ---- objects ---- */

/* Up to n objects of c, as many as can be had: 0 with *error -ENOMEM when none. gfp's zone bits come
 * from the cache's flags; of the request gfp (reserves, THISNODE), cpu and node count, order and tag
 * do not. Never waits. Each has its out bit set. */
size_t slab_alloc_bulk(struct kmem_cache *c, const struct mm_request *r, size_t n,
                       struct slab_object ret[], int *error);
/* The same from free objects for which `wanted` is true (those constructed, for instance), looking
 * at no more than `budget` free ones. Makes no slab. */
size_t slab_alloc_some(struct kmem_cache *c, size_t n, struct slab_object ret[],
                       bool (*wanted)(void *ctx, const struct slab_object *o), void *ctx,
                       size_t budget);
/* Claims the right to free the object (its out bit goes from set to clear) and frees it. False: it
 * was not out; nothing was changed. direct: past the cpu's magazines, so that empty slabs become free
 * frames. */
bool slab_free(const struct slab_object *o, uint32_t cpu, bool direct);
/* The object that has that pool address as its first byte, by private truth; false: none. `out` says
 * whether it is out. Any thread, no lock. */
bool slab_object_at(const struct slab_space *s, uint64_t address, struct slab_object *o, bool *out);
/* The same for many addresses at once: those of objects of c that are out, in their order; how many. */
size_t slab_objects_at(const struct kmem_cache *c, size_t n, const uint64_t address[],
                       struct slab_object ret[]);
/* The slab that begins at head, by private truth; false: there is none. Any thread, no lock. */
bool slab_about_at(const struct slab_space *s, pfn_t head, struct slab_about *a);
/* Slot i of a slab. */
void slab_object_of(const struct slab_about *s, uint32_t slot, struct slab_object *o);

/* ---- walking (any thread; slabs may come and go meanwhile: an object is told at most once) ---- */

typedef void (*slab_walk_fn)(void *ctx, const struct slab_object *o, bool out);
/* All objects of the slab that begins at head; false: there is none. */
bool slab_walk_one(const struct slab_space *s, pfn_t head, slab_walk_fn fn, void *ctx);
/* Of one cache, or of all (NULL). O(slabs + objects of them). */
void slab_walk(const struct slab_space *s, const struct kmem_cache *c, slab_walk_fn fn, void *ctx);

/* ---- housekeeping ---- */

/* Gives back empty slabs (all that are beyond `keep` a node); frames. The cpu's magazines first when
 * cpu is not MM_CPU_NONE (thread of that cpu). */
uint64_t slab_shrink(struct kmem_cache *c, uint32_t cpu, uint32_t keep);
uint64_t slab_shrink_all(struct slab_space *s, uint32_t cpu);
/* Thread of that cpu: its magazines of all caches to their slabs, and no more of the empty ones to the
 * page allocator than frees give back: bounded by what a cpu may keep. */
void slab_drain_cpu(struct slab_space *s, uint32_t cpu);
/* Thread of that cpu, once a second: what its magazines did not use for a while goes back. */
void slab_tick_cpu(struct slab_space *s, uint32_t cpu);
/* One thread, once a second: a fifth of the empty slabs of caches that were not used goes back
 * (Linux's cache_reap, every 2 to 4 seconds). */
void slab_tick(struct slab_space *s);
/* Walks every structure and checks it against the persistent tables; findings as mm_validate. No
 * other thread may use the space meanwhile. */
size_t slab_validate(struct slab_space *s, mm_report_fn report, void *ctx);

struct kmem_cache_stats {
	uint64_t objects_out, objects; /* out; in all slabs */
	uint64_t slabs, slabs_partial, slabs_full, slabs_empty;
	uint64_t in_cpu;               /* free, in per-CPU magazines */
	uint32_t limit, batchcount;    /* of the per-CPU magazines: rounds, rounds moved at once */
	uint64_t grown, reaped;        /* slabs made and given back since the start */
};
void kmem_cache_stats(const struct kmem_cache *c, struct kmem_cache_stats *s);
uint64_t slab_frames(const struct slab_space *s);             /* in slabs */
uint64_t slab_frames_reaped(const struct slab_space *s);      /* given back since the start */
uint64_t slab_frames_reclaimable(const struct slab_space *s); /* of caches with RECLAIM_ACCOUNT */
/* Frames in slabs on that node, of caches with RECLAIM_ACCOUNT and of others. O(caches). */
void slab_frames_node(struct slab_space *s, uint32_t node, uint64_t *reclaimable,
                      uint64_t *unreclaimable);

#endif
