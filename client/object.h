/* SPDX-License-Identifier: MIT */
/*
 * libkmm's objects, inside: things, caches, what debug flags check.
 *
 *   object.c   the fast paths: kmm_cache_alloc, kmm_cache_free, kmm_kmalloc, kmm_kfree, bulk
 *   object_slow.c  the same by all the rules
 *   cache.c    creating, opening, destroying; the session's table of caches
 *   kmalloc.c  classes, large sizes, krealloc, ksize
 *   thing.c    a block or an object by its address, page or handle
 *   share.c    handles, adopting, sending, holding
 *   debug.c    red zones, poison, users
 *   name.c     publish, lookup
 */
#ifndef CLIENT_OBJECT_H
#define CLIENT_OBJECT_H

#include "client/internal.h"

#pragma GCC visibility push(hidden)

/* ---- thing.c ---- */

/* What has an owner word: a page block, or an object. */
struct thing {
	owner_word_t *word;
	uint32_t granule;                 /* of its first byte */
	uint32_t pfn;                     /* that its first byte lies in */
	uint64_t desc;                    /* of that frame */
	const struct control_cache *view; /* of an object's cache; NULL: a block */
	uint32_t cache;                   /* its id */
	uint32_t word_index;              /* of an object */
	unsigned int order;               /* of the block, or of the object's slab */
};

/* The thing whose first byte (or, for a HighMem block, page) is p, whether it is live or not: -EINVAL
 * (NULL, outside the window, interior), -EPERM no memory of the domain, -ENOENT nothing is there. */
int thing_of(struct kmm *k, const void *p, struct thing *t);
/* By granule; the same errors. */
int thing_at(struct kmm *k, uint32_t granule, struct thing *t);
/* The thing of a handle, live and of that generation; its word in *w. -ESTALE, -ENOENT, -EINVAL. */
int thing_of_handle(struct kmm *k, kmm_handle_t handle, struct thing *t, uint64_t *w);
/* Marks it in the session's record (section or slab bit), so that the sweep looks there: before the
 * exchange that makes it ours. */
void thing_mark(struct kmm *k, const struct thing *t);
/* How it is named in this process; its section is mapped (thing_reach). */
int thing_reach(struct kmm *k, const struct thing *t);
void *thing_name(struct kmm *k, const struct thing *t);
/* Sets SHARED in the word of what this session holds: the word in *w. -EPERM, -ENOENT. */
int thing_share(struct kmm *k, const struct thing *t, uint64_t *w);
/* -ESTALE with its text; w: the word at the place of the handle, which does not fit it. */
int thing_stale(kmm_handle_t handle, uint64_t w);
/* Text and errno for what is not this session's HELD; w is its word. freeing: what another session
 * adopted is ESTALE. */
int thing_not_mine(struct kmm *k, const struct thing *t, uint64_t w, bool freeing);
/* "the block at frame 12", "the object at 0x7f… of cache dentry": into buf. */
#define THING_TEXT_MAX 128u
const char *thing_text(struct kmm *k, const struct thing *t, char buf[THING_TEXT_MAX]);
/* Marks the slab that a frame belongs to; see thing_mark. */
static inline void object_mark(struct kmm *k, const struct control_cache *v, uint32_t pfn)
{
	uint32_t head = pfn & ~((UINT32_C(1) << v->order) - 1);
	_Atomic uint64_t *bits = &control_slab_bits(&k->control, k->id)[head / 64];
	uint64_t bit = UINT64_C(1) << (head % 64);

	/* relaxed: set by this process, or by the daemon before its offer; cleared after our death */
	if (likely(atomic_load_explicit(bits, memory_order_relaxed) & bit))
		return;
	/* acq_rel: before the CAS of the word; the sweep reads the words after the bits */
	atomic_fetch_or_explicit(bits, bit, memory_order_acq_rel);
}

/* The local record of "a handle was made", one bit a frame and one byte an object word (threads write
 * it, and need no exchange for a byte): it tells a former owner from a stranger. */
static inline void object_shared_set(struct kmm *k, uint32_t word_index)
{
	/* relaxed, all three: it decides an error's number */
	atomic_store_explicit(&k->shared_objects[word_index], 1, memory_order_relaxed);
}

static inline bool object_shared_test(struct kmm *k, uint32_t word_index)
{
	return atomic_load_explicit(&k->shared_objects[word_index], memory_order_relaxed);
}

static inline void object_shared_clear(struct kmm *k, uint32_t word_index)
{
	if (unlikely(object_shared_test(k, word_index)))
		atomic_store_explicit(&k->shared_objects[word_index], 0, memory_order_relaxed);
}

static inline bool thing_shared_test(struct kmm *k, const struct thing *t)
{
	return t->view ? object_shared_test(k, t->word_index) : shared_test(k, t->pfn);
}

static inline void thing_shared_set(struct kmm *k, const struct thing *t)
{
	if (thing_shared_test(k, t))
		return;
	if (t->view)
		object_shared_set(k, t->word_index);
	else
		shared_set(k, t->pfn);
}

static inline void thing_shared_clear(struct kmm *k, const struct thing *t)
{
	if (t->view)
		object_shared_clear(k, t->word_index);
	else
		shared_clear(k, t->pfn);
}

/* The frame's descriptor says slab: the object at p, when p is one's first byte. The fast paths have
 * this written out. */
static inline bool object_locate(const struct control *c, const uint8_t *window, uint64_t desc,
                                 const void *p, uint32_t *word_index)
{
	const struct control_cache *v = &c->cache[page_desc_cache(desc)];
	uint64_t at = (uint64_t)((const uint8_t *)p - window);
	uint32_t offset = (uint32_t)(at & ((UINT64_C(4096) << v->order) - 1));

	if (control_cache_slot(v, offset, page_desc_colour(desc)) >= v->objects)
		return false;
	*word_index = page_desc_word(desc, at);
	return true;
}

/* Where a granule begins in the window. */
static inline size_t granule_offset(struct kmm *k, uint32_t granule)
{
	return (size_t)granule << (FRAME_SHIFT - k->granule_bits);
}

/* Where the thing of a granule is in this process. */
static inline void *object_address(struct kmm *k, uint32_t granule)
{
	return k->window + granule_offset(k, granule);
}

/* What a frame's descriptor says now. */
static inline uint64_t desc_load(struct kmm *k, uint32_t pfn)
{
	/* acquire: pairs with the daemon's stores before it publishes the descriptor */
	return atomic_load_explicit(&k->control.desc[pfn], memory_order_acquire);
}

/* The bytes of a slab - 1. */
static inline uint32_t slab_mask(const struct local_objects *o)
{
	return ((uint32_t)KMM_PAGE_SIZE << o->class.order) - 1;
}

/* Where the owner word of an object of the class is, by the thread's copy of its cache's geometry;
 * false: p is no such object's first byte. at: p's offset in the window, below its size. */
static inline bool local_locate(const struct thread_cache *tc, const struct local_objects *o,
                                size_t at, uint32_t *index)
{
	/* relaxed: who holds an object has seen its descriptor by the exchange that made it so */
	uint64_t d = atomic_load_explicit(&tc->desc[at >> FRAME_SHIFT], memory_order_relaxed);
	uint64_t unit = o->class.unit;
	uint32_t slot;

	if (unlikely(page_desc_cache(d) != o->id))
		return false;
	*index = page_desc_word(d, at);
	if (likely((at & (KMM_PAGE_SIZE - 1)) * unit < unit))
		return true;
	slot = (((uint32_t)at & slab_mask(o)) - (page_desc_colour(d) << o->colour_shift) -
	        o->offset) * o->inverse;
	return (slot >> o->twos | slot << (-o->twos & 31)) < o->objects;
}

#define CACHE_DEBUG_FLAGS                                                                          \
	(KMM_SLAB_CONSISTENCY_CHECKS | KMM_SLAB_RED_ZONE | KMM_SLAB_POISON | KMM_SLAB_STORE_USER)

/* A constructor, and how it is called: <kmm/kernel.h> takes those of older kernels, too. */
struct ctor {
	void (*call)(void *object); /* of the type that the style says; NULL: none */
	enum kmm_ctor_style style;
};

/* One an id and session, made when the id is first met, freed with the session. */
struct kmm_cache {
	uint32_t place;                   /* of its class in thread_cache.object, in bytes: inline.h */
	uint32_t id;
	struct kmm *k;
	uint64_t life;                    /* of the cache that has the id; 0: not open */
	const struct control_cache *view;
	void (*ctor)(void *object);
	enum kmm_ctor_style style;
	/* Create and open calls not destroyed; written under cache_lock. 0: what is freed here by
	 * kmm_kfree is cached all the same, marked. */
	_Atomic uint32_t references;
	bool leaving;                     /* the last reference is being dropped: cache_lock */
	bool opened_only;                 /* no ctor of our own though the cache has one */
	bool debug;                       /* any of the debugging flags: never the fast path */
	bool marked;                      /* cached objects are marked RETURNED */
};
SAME_PLACE(struct kmm_cache, place, struct kmm_cache_1, place);

struct kmem_cache; /* what kernel code calls struct kmm_cache */

static inline void cache_construct(struct kmm_cache *c, void *object)
{
	struct kmem_cache *as = (struct kmem_cache *)(void *)c;
	void (*any)(void) = (void (*)(void))c->ctor; /* a function's type may be cast, and cast back */

	switch (c->style) {
	case KMM_CTOR_OBJECT:
		c->ctor(object);
		break;
	case KMM_CTOR_CACHE_OBJECT:
		((void (*)(struct kmem_cache *, void *))any)(as, object);
		break;
	case KMM_CTOR_OBJECT_CACHE_FLAGS:
		((void (*)(void *, struct kmem_cache *, unsigned long))any)(object, as, 1);
		break;
	}
}

/* Says why the cache could not be created and ends the program, as SLAB_PANIC wishes. */
_Noreturn void cache_panic(const char *name);
/* kmm_cache_create with such a constructor. */
struct kmm_cache *cache_create_styled(struct kmm *k, const char *name, size_t size, size_t align,
                                      kmm_slab_flags_t flags, struct ctor ctor);

static inline struct local_objects *local_of(struct thread_cache *tc, const struct kmm_cache *c)
{
	return (struct local_objects *)((char *)tc->object + c->place);
}

/* The session's entry for an id, made when there is none; NULL: no memory, or no such id. */
struct kmm_cache *cache_entry(struct kmm *k, uint32_t id);
/* The session's reference by id, when it has the cache open; NULL: it has not. */
struct kmm_cache *cache_open_by_id(struct kmm *k, uint32_t id);
/* The cache of a kmalloc class: family 0 normal, 1 reclaimable, 2 dma; opened when first used. NULL
 * with the text set, *error. */
struct kmm_cache *cache_of_class(struct kmm *k, unsigned int family, unsigned int class,
                                 int *error);
/* The caller's reference is one: session, references. */
int cache_check(struct kmm_cache *c);
enum cache_use {
	CACHE_TO_USE,
	CACHE_TO_FREE, /* also while it is being destroyed, which live objects prevent */
};
/* Counts the caller in (*inside, which its scope leaves) and checks the reference. */
int cache_enter(struct kmm_cache *c, enum cache_use use, struct kmm **inside);
int cache_init(struct kmm *k);
void cache_free_all(struct kmm *k);

#define KMALLOC_CLASSES 13u /* 8 16 32 64 96 128 192 256 512 1k 2k 4k 8k */
#define KMALLOC_FAMILIES 3u
#define KMALLOC_MAX ((size_t)8192) /* above: page blocks */
unsigned int kmalloc_class(size_t size);
extern const uint16_t kmalloc_size[KMALLOC_CLASSES];

/* ---- object.c ---- */

/* The two magazines change places when the loaded one cannot pop (freeing: take) n rounds, and the
 * other one can. */
bool cache_turn(struct thread_cache *tc, const struct kmm_cache *c, size_t n, bool freeing);

/* ---- object_slow.c ---- */

/* What the fast paths do not do, from the first check on. */
void *object_alloc_slow(struct kmm_cache *c, kmm_gfp_t gfp);
int object_free_slow(struct kmm_cache *c, void *p);
size_t object_alloc_bulk_slow(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[]);
int object_free_bulk_slow(struct kmm_cache *c, size_t n, void *const p[]);

/* Of requests for bytes, which have addresses. */
static inline int bytes_gfp_check(kmm_gfp_t gfp)
{
	if ((gfp & KMM_GFP_HIGHMEM) && !(gfp & ~GFP_DEFINED))
		return error_set(EINVAL,
		                 "gfp 0x%x: HighMem has no addresses, and so no bytes: leave out "
		                 "HIGHMEM",
		                 gfp);
	return page_gfp_check(gfp, 0);
}

/* One object of an open cache: cached, by magazine, or one by one. 0, negative with the text set. */
int object_alloc(struct kmm_cache *c, kmm_gfp_t gfp, void **p);
/* What may be asked for objects of c: -EINVAL, -EPERM. */
static inline int object_gfp_check(struct kmm_cache *c, kmm_gfp_t gfp)
{
	int r = page_gfp_check(gfp, 0);

	if (r == 0 && (gfp & KMM_GFP_HIGHMEM))
		r = error_set(EINVAL, "gfp 0x%x: objects have addresses, HighMem has none: "
		              "leave out HIGHMEM",
		              gfp);
	if (r == 0 && (gfp & KMM_GFP_ZERO) && c->view->ctor)
		r = error_set(EINVAL,
		              "gfp 0x%x: ZERO would undo what the constructor of cache %s did", gfp,
		              c->view->name);
	return r;
}

/* The same from a node, preferred, + 1; 0: any. */
int object_alloc_node(struct kmm_cache *c, kmm_gfp_t gfp, uint32_t node, void **p);
/* Frees an object by all the rules; c: its cache when the session has it open, else NULL. -EFAULT:
 * freed, but the red zone was written over. */
int object_free(struct kmm *k, struct kmm_cache *c, const struct thing *t);
/* Tells the daemon of an object whose word says RETURNED; `wait`: it has it on return. */
int object_free_tell(struct kmm *k, uint32_t granule, uint64_t word, bool wait);

/* ---- kmalloc.c: what the fast paths do not do, from the first check on ---- */

/* NULL with errno set. */
void *kmalloc_slow(struct kmm *k, size_t size, kmm_gfp_t gfp);
int kfree_slow(struct kmm *k, const void *p);
/* From a node, preferred, + 1; the caller is inside the session. */
int kmalloc_node(struct kmm *k, size_t size, kmm_gfp_t gfp, uint32_t node, void **ret);
/* The cache that objects of that size come from; NULL with *r and the text. */
struct kmm_cache *kmalloc_cache(struct kmm *k, size_t size, int *r);

/* ---- debug.c ---- */

/* Of an object just had: its poison is whole, else a report is sent and false returned (the object is
 * not to be used: the caller gives it back, without debug_on_free(), and takes another). Then its red
 * zones and user are set.
 * prepared: its word said CONSTRUCTED, that is, its memory is as a free left it; after true the caller
 * sets CONSTRUCTED, also in caches without a constructor. */
bool debug_on_alloc(struct kmm_cache *c, void *p, bool prepared);
/* Of an object about to be freed, still HELD by us: 0 or -EFAULT with the text set and a report sent;
 * then the user is noted and the object poisoned. Without c (not open) the view's flags decide. */
int debug_on_free(struct kmm *k, const struct control_cache *v, void *p);
/* A double or foreign free of an object of a debugged cache: names the sessions in the text and sends a
 * report. */
void debug_on_bad_free(struct kmm *k, const struct thing *t, int error);

#pragma GCC visibility pop
#endif
