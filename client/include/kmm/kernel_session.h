/* SPDX-License-Identifier: MIT */
/*
 * The process's default session, a part of <kmm/kmm.h>, which includes it: the one that <kmm/kernel.h>
 * works on; other programs need none. It is opened by its first use, in any thread, and lasts as long as
 * the process. A forked child opens one of its own.
 */
#ifndef KMM_KERNEL_SESSION_H
#define KMM_KERNEL_SESSION_H

#include <kmm/kmm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opens it with other options than the default: before anything uses it. Errors of kmm_open. -EBUSY:
 * the process has one. */
int kmm_kernel_init(const struct kmm_options *opts);

/* The default session, opened if need be. Not to be closed by kmm_close. NULL with errors of
 * kmm_open. */
struct kmm *kmm_kernel_session(void);

/* Closes it, as kmm_close does, with all that came from it; its next use opens another. 0 when there
 * is none. */
int kmm_kernel_exit(void);

/*
 * What <kmm/kernel.h> is made of, where that is more than one function of this header. Constructors
 * are called as they were in the kernel of their time: with the object (since Linux 2.6.27); with the
 * cache and the object (2.6.23 to 2.6.26); with the object, the cache and a flag that is 1 (before).
 */
enum kmm_ctor_style {
	KMM_CTOR_OBJECT,
	KMM_CTOR_CACHE_OBJECT,
	KMM_CTOR_OBJECT_CACHE_FLAGS
};

/* kmm_cache_create in the default session with a constructor of that style, cast to the type here. */
struct kmm_cache *kmm_kernel_cache_create(const char *name, size_t size, size_t align,
                                          kmm_slab_flags_t flags, void (*ctor)(void),
                                          enum kmm_ctor_style style);

/* The first page of the block that the page belongs to, else the page itself. NULL with EINVAL: no page
 * of the pool. */
struct kmm_page *kmm_kernel_head_page(struct kmm *k, struct kmm_page *page);

/* References as the kernel counts them: kmm_get of the page's block; and kmm_put, or when this session
 * has no hold, kmm_free_pages with the block's order. Their errors. */
int kmm_kernel_get_page(struct kmm *k, struct kmm_page *page);
int kmm_kernel_put_page(struct kmm *k, struct kmm_page *page);

/* kmm_vmalloc with flags, as kmm_kvmalloc's: HIGHMEM comes by itself, LOCAL is EINVAL. */
void *kmm_kernel_vmalloc(struct kmm *k, size_t size, kmm_gfp_t gfp);

/* kmm_mempool_create for what kmm_kmalloc gives for `size`, at most 8192 (EINVAL). */
struct kmm_mempool *kmm_kernel_kmalloc_pool(struct kmm *k, size_t size, size_t min_nr);

#ifdef __cplusplus
}
#endif

#endif
