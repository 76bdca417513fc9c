/* SPDX-License-Identifier: MIT */
/*
 * kmalloc: bytes of any size, from caches of fixed sizes or as page blocks.
 *
 *   size <= 8192    the smallest class that holds it, in the family that gfp asks for:
 *                   kmalloc- (0), kmalloc-rcl- (1, RECLAIMABLE), dma-kmalloc- (2, DMA)
 *   larger          a page block of the smallest order, up to 4 MiB
 *
 * There are no classes in ZONE_DMA32: small sizes with that flag are page blocks, too.
 *
 * An address says by its frame's descriptor which of them it is, so freeing and resizing need no
 * size. The common cases of kmm_kmalloc and kmm_kfree are in object.c; here is what they leave.
 *
 * KMM_GFP_ZERO in kmm_krealloc: the library does not know how many of an object's bytes the program
 * asked for, only how many it may use (kmm_ksize). So that growing in place shows zeroes,
 * kmm_kmalloc zeroes the whole object and kmm_krealloc what lies behind the new size: who always
 * passes the flag finds every new byte zero.
 */
#include "client/object.h"

#include <string.h>

#define BLOCK_MAX (KMM_PAGE_SIZE << KMM_MAX_ORDER)
/* What the choice of the cache has answered. */
#define GFP_PLACE (KMM_GFP_DMA | KMM_GFP_RECLAIMABLE | KMM_GFP_MOVABLE)

const uint16_t kmalloc_size[KMALLOC_CLASSES] = {
	8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192,
};

/* The two classes between powers of two stand behind the power below them. */
unsigned int kmalloc_class(size_t size)
{
	unsigned int log;

	if (size <= 8)
		return 0;
	if (size > 64 && size <= 96)
		return 4;
	if (size > 128 && size <= 192)
		return 6;
	log = 64 - (unsigned int)__builtin_clzll(size - 1); /* 2^log holds it */
	return log - 3 + (log > 6) + (log > 7);
}

/* What every object of a class is aligned to: as mm/ makes them. */
static size_t class_align(unsigned int class)
{
	size_t size = kmalloc_size[class];

	return size < KMM_PAGE_SIZE ? size & -size : KMM_PAGE_SIZE;
}

static unsigned int block_order(size_t size)
{
	unsigned int order = 0;

	while (KMM_PAGE_SIZE << order < size)
		order++;
	return order;
}

/* ---- allocating ---- */

static int bytes_check(size_t size, size_t align, kmm_gfp_t gfp)
{
	if (size > BLOCK_MAX)
		return error_set(EINVAL, "%zu bytes: kmalloc serves up to %zu", size, BLOCK_MAX);
	if (align == 0 || (align & (align - 1)) != 0 || align > BLOCK_MAX)
		return error_set(EINVAL, "alignment %zu is no power of two up to %zu", align,
		                 BLOCK_MAX);
	return bytes_gfp_check(gfp);
}

/* A block as bytes. node: preferred, + 1; 0: any. */
static int block_alloc(struct kmm *k, size_t size, kmm_gfp_t gfp, uint32_t node, void **ret)
{
	char text[ERROR_TEXT_MAX];
	struct kmm_page *page;
	uint32_t pfn;
	int r;

	if (node == 0) {
		*ret = kmm_get_free_pages(k, gfp, block_order(size));
		return *ret ? 0 : -errno;
	}
	page = kmm_alloc_pages_node(k, gfp, block_order(size), (int)node - 1);
	if (!page)
		return -errno;
	pfn = (uint32_t)((page_desc_t *)page - k->control.desc);
	r = section_map(k, pfn);
	if (r < 0) {
		error_text_copy(text);
		page_free(k, pfn, block_order(size));
		error_text_put(text);
		return r;
	}
	*ret = section_address(k, pfn);
	return 0;
}

/* From a cache when there is one that serves size and align, else a block. */
static int bytes_alloc(struct kmm *k, size_t size, size_t align, kmm_gfp_t gfp, uint32_t node,
                       void **ret)
{
	unsigned int family = gfp & KMM_GFP_DMA ? 2 : gfp & KMM_GFP_RECLAIMABLE ? 1 : 0;
	size_t need = size > align ? size : align;
	unsigned int class = 0;
	struct kmm_cache *c;
	bool small = size <= KMALLOC_MAX && align <= KMM_PAGE_SIZE && !(gfp & KMM_GFP_DMA32);
	int r = 0;

	if (!small)
		return block_alloc(k, need, gfp, node, ret);
	class = kmalloc_class(size);
	if (class_align(class) < align) {
		/* the power of two that holds both */
		class = kmalloc_class(need);
		while (class_align(class) < align)
			class++;
	}
	c = cache_of_class(k, family, class, &r);
	return c ? object_alloc_node(c, gfp & ~GFP_PLACE, node, ret) : r;
}

struct kmm_cache *kmalloc_cache(struct kmm *k, size_t size, int *r)
{
	if (size > KMALLOC_MAX) {
		*r = error_set(EINVAL, "%zu bytes: kmalloc's caches have objects of up to %zu", size,
		               KMALLOC_MAX);
		return NULL;
	}
	return cache_of_class(k, 0, kmalloc_class(size), r);
}

static int bytes_begin(struct kmm *k, size_t size, size_t align, kmm_gfp_t gfp, void **ret)
{
	SESSION_SCOPE(k, r);

	if (r < 0)
		return r;
	r = bytes_check(size, align, gfp);
	return r < 0 ? r : bytes_alloc(k, size, align, gfp, 0, ret);
}

int kmalloc_node(struct kmm *k, size_t size, kmm_gfp_t gfp, uint32_t node, void **ret)
{
	int r = bytes_check(size, 1, gfp);

	return r < 0 ? r : bytes_alloc(k, size, 1, gfp, node, ret);
}

void *kmalloc_slow(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	void *p = NULL;
	int r = bytes_begin(k, size, 1, gfp, &p);

	return r < 0 ? errno_null(r) : p;
}

void *kmm_kmalloc_aligned(struct kmm *k, size_t size, size_t align, kmm_gfp_t gfp)
{
	void *p = NULL;
	int r = bytes_begin(k, size, align, gfp, &p);

	return r < 0 ? errno_null(r) : p;
}

/* ---- freeing ---- */

/* The thing that begins at p, for who asks by address alone: pages are not taken for bytes. */
static int bytes_of(struct kmm *k, const void *p, struct thing *t)
{
	if ((uintptr_t)p - (uintptr_t)k->window >= k->window_size)
		return address_outside(k, p);
	return thing_of(k, p, t);
}

/* Frees what bytes_of() found. */
static int bytes_free(struct kmm *k, const struct thing *t)
{
	return t->view ? object_free(k, cache_open_by_id(k, t->cache), t)
	               : page_free(k, t->pfn, t->order);
}

int kfree_slow(struct kmm *k, const void *p)
{
	SESSION_SCOPE(k, r);
	uintptr_t at;
	struct thing t;

	if (r < 0)
		return r;
	if (!p)
		return 0;
	r = bytes_of(k, p, &t);
	if (r == 0)
		return bytes_free(k, &t);
	/* A block that is gone: given back before, or adopted and freed by another. */
	at = (uintptr_t)p - (uintptr_t)k->window;
	if (r == -ENOENT && at % KMM_PAGE_SIZE == 0)
		return page_free(k, (uint32_t)(at >> FRAME_SHIFT), 0);
	return r;
}

/* ---- sizes ---- */

static size_t thing_bytes(const struct thing *t)
{
	return t->view ? t->view->size : KMM_PAGE_SIZE << t->order;
}

size_t kmm_ksize(struct kmm *k, const void *p)
{
	char what[THING_TEXT_MAX];
	int r = session_check(k), saved = errno;
	struct thing t;

	if (r == 0 && !p)
		return 0;
	if (r == 0)
		r = bytes_of(k, p, &t);
	if (r == 0 && !word_is_live(owner_load(t.word)))
		r = error_set(ENOENT, "%s is not live", thing_text(k, &t, what));
	errno = r < 0 ? -r : saved;
	return r < 0 ? 0 : thing_bytes(&t);
}

/* Another place for the contents of t; the old one is freed. */
static int bytes_move(struct kmm *k, const struct thing *t, size_t size, kmm_gfp_t gfp, void **ret)
{
	size_t old = thing_bytes(t);
	char text[ERROR_TEXT_MAX];
	void *q;
	int r = bytes_alloc(k, size, 1, gfp, 0, &q);

	if (r < 0)
		return r;
	if (size == 0)
		size = kmalloc_size[0];
	memcpy(q, thing_name(k, t), old < size ? old : size);
	error_text_copy(text);
	r = bytes_free(k, t);
	if (r == -EFAULT) {
		/* Freed; that it had been overrun was reported. The new one is whole. */
		error_text_put(text);
		r = 0;
	}
	if (r < 0) {
		error_text_copy(text);
		kfree_slow(k, q);
		error_text_put(text);
		return r;
	}
	*ret = q;
	return 0;
}

static int bytes_resize(struct kmm *k, const void *p, size_t size, kmm_gfp_t gfp, void **ret)
{
	SESSION_SCOPE(k, r);
	size_t old, smallest = kmalloc_size[0];
	struct thing t;
	uint64_t w;

	if (r < 0)
		return r;
	r = bytes_check(size, 1, gfp);
	if (r < 0 || !p)
		return r < 0 ? r : bytes_alloc(k, size, 1, gfp, 0, ret);
	r = bytes_of(k, p, &t);
	if (r < 0)
		return r;
	w = owner_load(t.word);
	if (!owner_is(w, OWNER_HELD, k->id))
		return thing_not_mine(k, &t, w, true);
	r = section_map(k, t.pfn); /* ours, but perhaps never touched here; HighMem cannot be */
	if (r < 0)
		return r;
	old = thing_bytes(&t);
	if (size > old || (size == 0 && old > smallest))
		return bytes_move(k, &t, size, gfp, ret);
	*ret = thing_name(k, &t);
	if (gfp & KMM_GFP_ZERO)
		memset((uint8_t *)*ret + size, 0, old - size);
	return 0;
}

void *kmm_krealloc(struct kmm *k, const void *p, size_t size, kmm_gfp_t gfp)
{
	void *q = NULL;
	int r = bytes_resize(k, p, size, gfp, &q);

	return r < 0 ? errno_null(r) : q;
}
