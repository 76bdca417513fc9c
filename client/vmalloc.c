/* SPDX-License-Identifier: MIT */
/*
 * vmalloc: memory in one piece for the program, of pages scattered over the pool.
 *
 * It succeeds where no block of the size is free any more. What it is made of follows from how the
 * pool can be mapped:
 *
 *   4 KiB, thp     blocks of any order, the largest that there are
 *   hugetlb 2 MiB  whole 2 MiB from the huge pages; what is left, if it is less than 1 MiB, and areas
 *                  of less than 1 MiB, from the high zones, which lie on 4 KiB pages whatever the
 *                  pool's backing. Each stands in for the other: when no 2 MiB are free the high
 *                  zones may serve all of it; when they are exhausted, 2 MiB serve what is less, and
 *                  the area is longer than was asked for
 *   hugetlb 1 GiB  the high zones alone: nothing smaller than a section can be mapped
 *
 *     5 MiB + 12 KiB on hugetlb:   | 2 MiB | 2 MiB | 2 MiB |guard|     1 MiB + 12 KiB round up
 *     4 MiB + 12 KiB:              | 2 MiB | 2 MiB | 12 KiB |guard|
 *
 * A request that may wait first tries all that it could use, then waits for what suits it best.
 * What it had until then it keeps meanwhile.
 *
 * An area is the process's own affair. Its blocks are held one by one, by their owner words, as
 * any others: when the process dies they are free, wherever it was. What freed areas keep, and
 * which there are, is in vmalloc_table.c; mappings in vmalloc_map.c.
 */
#include "client/vmalloc.h"

#include <string.h>

#define LARGE_ORDER 9u
#define LARGE_PAGES (1u << LARGE_ORDER)
#define LARGE_SHIFT (FRAME_SHIFT + LARGE_ORDER)

/* ---- what an area is made of ---- */

/* One way to get the pages. */
struct way {
	uint32_t pages;
	unsigned int order_max, order_min;
	bool small;
};

static int way_try(struct kmm *k, struct call_how *how, const struct way *w, kmm_gfp_t gfp,
                   struct block_list *l)
{
	struct block_want want = {
		/* huge pages: what the high zones have is for those who need it in pieces */
		.gfp = w->small || k->map_shift == FRAME_SHIFT ? gfp : gfp & ~KMM_GFP_HIGHMEM,
		.pages = w->pages,
		.order_max = w->order_max,
		.order_min = w->order_min,
		.small = w->small,
	};

	return blocks_alloc(k, how, &want, l);
}

#define TURN_NS UINT64_C(1000000000)

/* Waits for the ways by turns, since either kind of memory may come first. A request that nothing
 * ends waits for the first. */
static int ways_wait(struct kmm *k, struct call_how *how, const struct way way[], unsigned int n,
                     kmm_gfp_t gfp, struct block_list *l)
{
	bool turns = n > 1 && !(gfp & KMM_GFP_NOFAIL);
	unsigned int i;
	int r;

	for (i = 0;; i++) {
		struct call_how turn = *how;
		uint64_t end = process_now() + TURN_NS;

		if (turns && end < how->deadline)
			turn.deadline = end;
		r = way_try(k, &turn, &way[turns ? i % n : 0], gfp, l);
		if (r != -ETIMEDOUT || turn.deadline == how->deadline)
			return r;
	}
}

/* The ways in order, and then waiting for those who may. */
static int ways_try(struct kmm *k, struct call_how *how, const struct way way[], unsigned int n,
                    kmm_gfp_t gfp, struct block_list *l)
{
	kmm_gfp_t at_once = n > 1 ? (gfp & ~KMM_GFP_DIRECT_RECLAIM) | KMM_GFP_NOWARN : gfp;
	char text[ERROR_TEXT_MAX];
	unsigned int i;
	int r = -ENOMEM;

	error_text_copy(text);
	for (i = 0; i < n && (r == -ENOMEM || r == -EAGAIN); i++)
		r = way_try(k, how, &way[i], at_once, l);
	/* -EAGAIN: the daemon is away, which a request that may wait waits for, too */
	if ((r == -ENOMEM || r == -EAGAIN) && (gfp & ~at_once & KMM_GFP_DIRECT_RECLAIM))
		r = ways_wait(k, how, way, n, gfp, l);
	if (r == 0)
		error_text_put(text);
	return r;
}

/* Whole 2 MiB of huge pages, as many as the pages need. */
static int large_blocks(struct kmm *k, struct call_how *how, uint32_t pages, kmm_gfp_t gfp,
                        struct block_list *l)
{
	const struct way way[] = {
		{ (pages + LARGE_PAGES - 1) & ~(LARGE_PAGES - 1), KMM_MAX_ORDER, LARGE_ORDER,
		  false },
		{ pages, KMM_MAX_ORDER, 0, true },
	};

	return ways_try(k, how, way, k->pages > k->frames ? 2 : 1, gfp, l);
}

/* Less than that. */
static int tail_blocks(struct kmm *k, struct call_how *how, uint32_t pages, kmm_gfp_t gfp,
                       struct block_list *l)
{
	const struct way way[] = {
		{ pages, KMM_MAX_ORDER, 0, true },
		{ LARGE_PAGES, LARGE_ORDER, LARGE_ORDER, false },
	};

	if (k->pages == k->frames)
		return ways_try(k, how, way + 1, 1, gfp, l);
	return ways_try(k, how, way, 2, gfp, l);
}

static int area_blocks(struct kmm *k, struct call_how *how, uint32_t pages, kmm_gfp_t gfp,
                       struct block_list *l)
{
	uint32_t large = pages & ~(LARGE_PAGES - 1), tail = pages - large;
	struct way any = { pages, KMM_MAX_ORDER, 0, k->map_shift > FRAME_SHIFT };
	int r = 0;

	if (k->map_shift > LARGE_SHIFT && k->pages == k->frames)
		return error_set(ENOMEM,
		                 "nothing smaller than a huge page of %u MiB can be mapped from "
		                 "this pool: give it high memory (highmem in [pool] of the "
		                 "configuration)",
		                 1u << (k->map_shift - 20));
	if (k->map_shift != LARGE_SHIFT)
		return ways_try(k, how, &any, 1, gfp, l);
	if (tail >= LARGE_PAGES / 2) {
		large = pages;
		tail = 0;
	}
	if (large)
		r = large_blocks(k, how, large, gfp, l);
	if (r == 0 && tail)
		r = tail_blocks(k, how, tail, gfp, l);
	return r;
}

/* ---- allocating ---- */

static int area_new(struct kmm *k, uint32_t pages, size_t size, kmm_gfp_t gfp, const void *caller,
                    struct vmap **ret)
{
	struct call_how how = call_begin_gfp(k, gfp);
	struct block_list l = BLOCK_LIST_INIT;
	char text[ERROR_TEXT_MAX];
	struct vmap *a = NULL;
	int r;

	error_text_copy(text);
	do {
		blocks_free(k, &l); /* a part of it, when the quota met the rest */
		r = area_blocks(k, &how, pages, gfp, &l);
	} while (r < 0 && call_again(k, &how, gfp, &r));
	if (r == 0)
		error_text_put(text); /* what came before was got over */
	if (r == 0)
		r = vmap_make(k, CONTROL_AREA_VMALLOC, &l, &a);
	if (r == 0) {
		a->wanted = pages;
		r = vmap_add(k, a, size, caller);
	}
	if (r < 0) {
		error_text_copy(text);
		if (a)
			vmap_discard(k, a);
		blocks_free(k, &l);
		error_text_put(text);
		return r;
	}
	*ret = a;
	return 0;
}

int vmalloc_alloc(struct kmm *k, size_t size, kmm_gfp_t gfp, const void *caller, void **ret)
{
	size_t pages = size / KMM_PAGE_SIZE + (size % KMM_PAGE_SIZE != 0);
	struct vmap *a = NULL;
	int r;

	gfp = gfp_of_thread(gfp);
	if (size == 0)
		return error_set(EINVAL, "0 bytes: an area has at least one");
	if (pages > k->frames)
		return error_set(ENOMEM, "%zu bytes are more than the pool's %zu", size,
		                 k->window_size);
	/* One zone class is as good as another for what is the process's already. */
	if (!(gfp & (KMM_GFP_DMA | KMM_GFP_DMA32 | KMM_GFP_THISNODE)))
		a = vmap_reuse(k, CONTROL_AREA_VMALLOC, (uint32_t)pages, size, caller);
	if (!a) {
		r = area_new(k, (uint32_t)pages, size, gfp, caller, &a);
		if (r < 0)
			return r;
	}
	if (gfp & KMM_GFP_ZERO)
		memset(a->start, 0, a->size);
	*ret = a->start;
	return 0;
}

static void *vmalloc_begin(struct kmm *k, size_t size, kmm_gfp_t gfp, const void *caller)
{
	int saved = errno, r = session_enter(k);
	void *p = NULL;

	if (r < 0)
		return errno_null(r);
	r = vmalloc_alloc(k, size, gfp, caller, &p);
	session_leave(k);
	errno = saved;
	return r < 0 ? errno_null(r) : p;
}

void *kmm_vmalloc(struct kmm *k, size_t size)
{
	return vmalloc_begin(k, size, VMALLOC_GFP, __builtin_return_address(0));
}

void *kmm_vzalloc(struct kmm *k, size_t size)
{
	return vmalloc_begin(k, size, VMALLOC_GFP | KMM_GFP_ZERO, __builtin_return_address(0));
}

/* ---- freeing ---- */

int vmalloc_free(struct kmm *k, const void *p)
{
	struct vmap *a;
	int r = vmap_take(k, CONTROL_AREA_VMALLOC, p, &a);

	if (r == 0)
		vmap_release(k, a);
	return r;
}

int kmm_vfree(struct kmm *k, const void *p)
{
	SESSION_SCOPE(k, r);

	return r < 0 || !p ? r : vmalloc_free(k, p);
}

/* ---- about an area ---- */

struct kmm_page *kmm_vmalloc_to_page(struct kmm *k, const void *p)
{
	int r = session_check(k);
	uint32_t page;

	if (r == 0 && !vmap_find(k, CONTROL_AREA_VMALLOC, p, &page))
		r = error_set(EINVAL, "%p lies in no vmalloc area of this session", p);
	return r < 0 ? errno_null(r) : page_at(k, page);
}

int kmm_is_vmalloc_addr(struct kmm *k, const void *p)
{
	int r = session_check(k);
	uint32_t page;

	return r < 0 ? r : vmap_find(k, CONTROL_AREA_VMALLOC, p, &page);
}
