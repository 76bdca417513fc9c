/* SPDX-License-Identifier: MIT */
/*
 * The kernel's names for caches of objects, mempools and shrinkers: a part of <kmm/kernel.h>, which
 * includes it.
 */
#ifndef KMM_KERNEL_SLAB_H
#define KMM_KERNEL_SLAB_H

#ifndef KMM_KERNEL_H
#error "include <kmm/kernel.h>"
#endif

/* ======================================== caches ======================================= */

static inline void kmem_cache_destroy(struct kmem_cache *c)
{
	kmm_refused(kmm_cache_destroy(kmm_cache_of(c)));
}

static inline KMM_ANY kmem_cache_alloc(struct kmem_cache *c, gfp_t gfp)
{
	return KMM_ANY_OF(kmm_cache_alloc(kmm_cache_of(c), gfp));
}

static inline KMM_ANY kmem_cache_zalloc(struct kmem_cache *c, gfp_t gfp)
{
	return KMM_ANY_OF(kmm_cache_alloc(kmm_cache_of(c), gfp | __GFP_ZERO));
}

static inline void kmem_cache_free(struct kmem_cache *c, void *p)
{
	kmm_refused(kmm_cache_free(kmm_cache_of(c), p));
}

/* All n, or none: how many. */
static inline int kmem_cache_alloc_bulk(struct kmem_cache *c, gfp_t gfp, size_t n, void **p)
{
	size_t got = kmm_cache_alloc_bulk(kmm_cache_of(c), gfp, n, p);

	if (got == n)
		return (int)n;
	if (got > 0)
		kmm_cache_free_bulk(kmm_cache_of(c), got, p);
	return 0;
}

static inline void kmem_cache_free_bulk(struct kmem_cache *c, size_t n, void **p)
{
	kmm_refused(kmm_cache_free_bulk(kmm_cache_of(c), n, p));
}

static inline int kmem_cache_shrink(struct kmem_cache *c)
{
	return kmm_cache_shrink(kmm_cache_of(c));
}

static inline unsigned int kmem_cache_size(struct kmem_cache *c)
{
	return (unsigned int)kmm_cache_size(kmm_cache_of(c));
}

static inline KMM_ANY kmem_cache_alloc_node(struct kmem_cache *c, gfp_t gfp, int nid)
{
	return KMM_ANY_OF(kmm_cache_alloc_node(kmm_cache_of(c), gfp, nid));
}

typedef void (*kmm_ctor_object_t)(void *object);
typedef void (*kmm_ctor_cache_object_t)(struct kmem_cache *c, void *object);
typedef void (*kmm_ctor_object_cache_flags_t)(void *object, struct kmem_cache *c,
                                              unsigned long flags);

static inline struct kmem_cache *kmm_cache_create_as(const char *name, size_t size, size_t align,
                                                     slab_flags_t flags, void (*ctor)(void),
                                                     enum kmm_ctor_style style)
{
	return kmm_cache_as(kmm_kernel_cache_create(name, size, align, flags, ctor, style));
}

static inline struct kmem_cache *kmem_cache_create(const char *name, size_t size, size_t align,
                                                   slab_flags_t flags, kmm_ctor_object_t ctor)
{
	return kmm_cache_create_as(name, size, align, flags, (void (*)(void))ctor,
	                           KMM_CTOR_OBJECT);
}

/* Constructors as they were before Linux 2.6.27 (enum kmm_ctor_style) are told by their type. */
#ifdef __cplusplus
template <typename C>
static inline struct kmem_cache *kmem_cache_create(const char *name, size_t size, size_t align,
                                                   slab_flags_t flags, void (*ctor)(C *, void *))
{
	static_assert(std::is_same<C, struct kmem_cache>::value, "a constructor's first argument");
	return kmm_cache_create_as(name, size, align, flags, (void (*)(void))ctor,
	                           KMM_CTOR_CACHE_OBJECT);
}

template <typename C>
static inline struct kmem_cache *kmem_cache_create(const char *name, size_t size, size_t align,
                                                   slab_flags_t flags,
                                                   void (*ctor)(void *, C *, unsigned long))
{
	static_assert(std::is_same<C, struct kmem_cache>::value, "a constructor's second argument");
	return kmm_cache_create_as(name, size, align, flags, (void (*)(void))ctor,
	                           KMM_CTOR_OBJECT_CACHE_FLAGS);
}
#else
static inline struct kmem_cache *kmm_cache_create_pair(const char *name, size_t size, size_t align,
                                                       slab_flags_t flags,
                                                       kmm_ctor_cache_object_t ctor)
{
	return kmm_cache_create_as(name, size, align, flags, (void (*)(void))ctor,
	                           KMM_CTOR_CACHE_OBJECT);
}

static inline struct kmem_cache *kmm_cache_create_flags(const char *name, size_t size, size_t align,
                                                        slab_flags_t flags,
                                                        kmm_ctor_object_cache_flags_t ctor)
{
	return kmm_cache_create_as(name, size, align, flags, (void (*)(void))ctor,
	                           KMM_CTOR_OBJECT_CACHE_FLAGS);
}

#define kmem_cache_create(name, size, align, flags, ctor)                                          \
	_Generic((ctor), kmm_ctor_cache_object_t: kmm_cache_create_pair,                           \
	         kmm_ctor_object_cache_flags_t: kmm_cache_create_flags,                            \
	         default: kmem_cache_create)(name, size, align, flags, ctor)
#endif

/* A cache of `struct name`s, by that name. */
#define KMEM_CACHE(name, flags)                                                                    \
	kmem_cache_create(#name, sizeof(struct name), __alignof__(struct name), (flags), NULL)

/* ======================================= mempools ====================================== */

static inline struct kmm_mempool *kmm_mempool_of(mempool_t *pool)
{
	return (struct kmm_mempool *)(void *)pool;
}

static inline mempool_t *mempool_create_slab_pool(int min_nr, struct kmem_cache *c)
{
	return (mempool_t *)(void *)kmm_mempool_create(kmm_cache_of(c),
	                                               min_nr < 0 ? SIZE_MAX : (size_t)min_nr);
}

static inline mempool_t *mempool_create_kmalloc_pool(int min_nr, size_t size)
{
	struct kmm *k = kmm_kernel_session();

	if (!k)
		return NULL;
	return (mempool_t *)(void *)kmm_kernel_kmalloc_pool(k, size,
	                                                    min_nr < 0 ? SIZE_MAX : (size_t)min_nr);
}

static inline KMM_ANY mempool_alloc(mempool_t *pool, gfp_t gfp)
{
	return KMM_ANY_OF(kmm_mempool_alloc(kmm_mempool_of(pool), gfp));
}

static inline void mempool_free(void *element, mempool_t *pool)
{
	kmm_refused(kmm_mempool_free(kmm_mempool_of(pool), element));
}

static inline void mempool_destroy(mempool_t *pool)
{
	kmm_refused(kmm_mempool_destroy(kmm_mempool_of(pool)));
}

/* ====================================== shrinkers ====================================== */

#define DEFAULT_SEEKS 2
#define SHRINK_STOP (~0UL)
#define SHRINK_EMPTY (~0UL - 1)

struct shrink_control {
	gfp_t gfp_mask;           /* of a request that waits */
	int nid;                  /* 0: of all nodes */
	unsigned long nr_to_scan; /* of scan_objects */
	unsigned long nr_scanned;
};

struct shrinker {
	/* How many objects could be freed; 0 or SHRINK_EMPTY: none. */
	unsigned long (*count_objects)(struct shrinker *s, struct shrink_control *sc);
	/* Frees up to sc->nr_to_scan: how many, or SHRINK_STOP. */
	unsigned long (*scan_objects)(struct shrinker *s, struct shrink_control *sc);
	long batch; /* no effect: 128 */
	int seeks;  /* DEFAULT_SEEKS, or 0 for it */
	unsigned int flags;
	void *private_data;
	struct kmm_shrinker kmm_private;
};

static inline struct shrinker *kmm_shrinker_as(struct kmm_shrinker *s)
{
	return (struct shrinker *)(void *)((char *)s - offsetof(struct shrinker, kmm_private));
}

static inline size_t kmm_shrinker_count(struct kmm_shrinker *s, kmm_gfp_t gfp)
{
	struct shrink_control sc = { gfp, 0, 0, 0 };

	return kmm_shrinker_as(s)->count_objects(kmm_shrinker_as(s), &sc);
}

static inline size_t kmm_shrinker_scan(struct kmm_shrinker *s, size_t n, kmm_gfp_t gfp)
{
	struct shrink_control sc = { gfp, 0, n, n };

	return kmm_shrinker_as(s)->scan_objects(kmm_shrinker_as(s), &sc);
}

/* A name in the manner of printf may follow, as since Linux 6.0; nobody looks at it. */
static inline int register_shrinker(struct shrinker *s, ...)
{
	struct kmm *k = kmm_kernel_session();

	if (!k)
		return -errno;
	if (!s)
		return kmm_register_shrinker(k, NULL);
	s->kmm_private.count = s->count_objects ? kmm_shrinker_count : NULL;
	s->kmm_private.scan = s->scan_objects ? kmm_shrinker_scan : NULL;
	s->kmm_private.seeks = s->seeks;
	return kmm_register_shrinker(k, &s->kmm_private);
}

static inline void unregister_shrinker(struct shrinker *s)
{
	struct kmm *k = s ? kmm_kernel_session() : NULL;

	if (k)
		kmm_refused(kmm_unregister_shrinker(k, &s->kmm_private));
}

#endif
