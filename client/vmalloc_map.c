/* SPDX-License-Identifier: MIT */
/*
 * Laying blocks side by side: from a list of blocks, wherever in the pool they are, to one range of
 * addresses.
 *
 *     pool    ..[ A ]......[ B ][ C ].......[ D ]..       sorted by frame, the large ones first:
 *                                                          neighbours become one mapping
 *     area    | A | B   C | D |guard|                      three mappings and the guard
 *
 * The range is reserved without access, then overlaid by mappings of the sections' memfds; what
 * is not overlaid is the guard. Blocks of 2 MiB and more come first, at an address that is a
 * multiple of 2 MiB: hugetlb memory can be mapped no other way, and transparent huge pages stay
 * huge. The page tables are filled at once, so that touching the area later costs nothing, and
 * cannot fail.
 *
 * A mapping is a thing that the kernel counts (vm.max_map_count a process, 65,530): areas of all
 * sessions take no more than a quarter of that, so that the program keeps enough for itself.
 *
 * Nothing of it comes into forked children or core dumps. Each step that fails leaves nothing
 * mapped.
 *
 * Complexity: O(n log n) for n blocks, one system call a mapping.
 */
#include "client/vmalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define LARGE_ORDER 9u
#define LARGE_BYTES (KMM_PAGE_SIZE << LARGE_ORDER)
#define GUARD KMM_PAGE_SIZE
#define MAP_COUNT_DEFAULT 65530u

/* ---- how many mappings a process may have ---- */

static _Atomic uint32_t mappings; /* of areas; relaxed: a count that limits */
static _Atomic uint32_t mappings_max;

/* Areas do not come into forked children. */
static void mappings_in_child(void)
{
	atomic_store_explicit(&mappings, 0, memory_order_relaxed);
}

static uint32_t mappings_limit(void)
{
	uint32_t limit = atomic_load_explicit(&mappings_max, memory_order_relaxed);
	FILE *f;

	if (likely(limit))
		return limit;
	f = fopen("/proc/sys/vm/max_map_count", "re");
	if (!f || fscanf(f, "%u", &limit) != 1 || limit < 4)
		limit = MAP_COUNT_DEFAULT;
	if (f)
		fclose(f);
	limit /= 4;
	pthread_atfork(NULL, NULL, mappings_in_child); /* by two threads at once: twice is as good */
	atomic_store_explicit(&mappings_max, limit, memory_order_relaxed);
	return limit;
}

static bool mappings_take(uint32_t n)
{
	uint32_t limit = mappings_limit(), had;

	had = atomic_fetch_add_explicit(&mappings, n, memory_order_relaxed);
	if (n <= limit && had <= limit - n)
		return true;
	atomic_fetch_sub_explicit(&mappings, n, memory_order_relaxed);
	return false;
}

static void mappings_put(uint32_t n)
{
	atomic_fetch_sub_explicit(&mappings, n, memory_order_relaxed);
}

/* What freed areas keep is worth less than a new one. */
static int mappings_get(struct kmm *k, uint32_t n)
{
	if (mappings_take(n))
		return 0;
	vmalloc_purge(k, true);
	if (mappings_take(n))
		return 0;
	return error_set(ENOMEM,
	                 "the area is in %u pieces, and the process has %u of the %u mappings that "
	                 "areas may take, a quarter of vm.max_map_count: free some, or raise that",
	                 n, atomic_load_explicit(&mappings, memory_order_relaxed),
	                 mappings_limit());
}

/* ---- pieces ---- */

/* The order in which they are laid. */
static int by_place(const void *a, const void *b)
{
	const struct block *x = a, *y = b;

	if ((x->order >= LARGE_ORDER) != (y->order >= LARGE_ORDER))
		return x->order >= LARGE_ORDER ? -1 : 1;
	return (x->frame > y->frame) - (x->frame < y->frame);
}

static uint32_t section_of(struct kmm *k, uint32_t frame)
{
	return frame >> (k->section_shift - FRAME_SHIFT);
}

/* Blocks from i on that are one piece of a section: how many. */
static uint32_t piece(struct kmm *k, const struct block_list *l, uint32_t i, uint32_t *pages)
{
	uint32_t n = 1;

	*pages = UINT32_C(1) << l->block[i].order;
	while (i + n < l->n && l->block[i + n].frame == l->block[i].frame + *pages &&
	       section_of(k, l->block[i + n].frame) == section_of(k, l->block[i].frame)) {
		*pages += UINT32_C(1) << l->block[i + n].order;
		n++;
	}
	return n;
}

static int pieces_count(struct kmm *k, const struct block_list *l, uint32_t *ret)
{
	uint32_t i, n = 0, pages;

	for (i = 0; i < l->n; i += piece(k, l, i, &pages)) {
		const struct block *b = &l->block[i];

		if (b->frame < k->control.geometry.high_start &&
		    b->order + FRAME_SHIFT < k->map_shift)
			return error_set(EPROTO,
			                 "the block at frame %u (order %u) is too small to be "
			                 "mapped by itself",
			                 b->frame, b->order);
		n++;
	}
	*ret = n;
	return 0;
}

/* ---- mapping ---- */

/* Addresses of that many bytes with room before and behind, which nobody can touch. */
static int range_reserve(struct vmap *a, size_t before, size_t behind, size_t align)
{
	size_t whole = before + a->size + behind, room = whole + align, head, tail;
	uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return error_set(ENOMEM, "the process has no room for an area of %zu KiB: %s",
		                 a->size >> 10, strerror(errno));
	head = -((uintptr_t)p + before) & (align - 1);
	tail = room - head - whole;
	if (head)
		munmap(p, head);
	if (tail)
		munmap(p + head + whole, tail);
	a->map = p + head;
	a->map_size = whole;
	a->start = a->map + before;
	return 0;
}

static int piece_map(struct kmm *k, uint8_t *at, uint32_t frame, uint32_t pages)
{
	size_t mask = ((size_t)1 << k->section_shift) - 1;
	uint32_t s = section_of(k, frame);
	int fd, r = section_fd_get(k, s, &fd);

	if (r < 0)
		return r;
	if (mmap(at, (size_t)pages << FRAME_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
	         fd, (off_t)(((size_t)frame << FRAME_SHIFT) & mask)) == MAP_FAILED)
		r = error_set(ENOMEM, "%u pages of section %u cannot be mapped: %s", pages, s,
		              strerror(errno));
	section_fd_put(k, s);
	return r;
}

static int pieces_map(struct kmm *k, struct vmap *a, const struct block_list *l)
{
	uint32_t i, n, at = 0, pages;
	int r = 0;

	for (i = 0; i < l->n && r == 0; i += n) {
		n = piece(k, l, i, &pages);
		r = piece_map(k, a->start + ((size_t)at << FRAME_SHIFT), l->block[i].frame, pages);
		at += pages;
	}
	if (r < 0)
		return r;
	if (madvise(a->map, a->map_size, MADV_DONTFORK) < 0 ||
	    madvise(a->map, a->map_size, MADV_DONTDUMP) < 0)
		return error_set(errno, "the area cannot be kept out of forked children: %s",
		                 strerror(errno));
	/* EINVAL: a kernel that does not know it; pages come as they are touched */
	if (madvise(a->start, a->size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
		return error_set(ENOMEM, "the area's page tables cannot be filled: %s",
		                 strerror(errno));
	return 0;
}

static struct vmap *vmap_new(enum control_area_kind kind, const struct block_list *l)
{
	struct vmap *a = calloc(1, sizeof(*a) + l->n * sizeof(a->block[0]));
	uint32_t i, at = 0;

	if (!a) {
		error_set(ENOMEM, "no memory for an area's list of %u blocks", l->n);
		return NULL;
	}
	a->kind = kind;
	a->entry = AREA_NONE;
	a->pages = a->wanted = (uint32_t)l->pages;
	a->size = (size_t)a->pages << FRAME_SHIFT;
	a->nr_blocks = l->n;
	for (i = 0; i < l->n; i++) {
		a->block[i] = (struct vmap_block){ .word = l->block[i].word,
			                           .page = l->block[i].page,
			                           .at = at };
		at += UINT32_C(1) << l->block[i].order;
	}
	return a;
}

/* The blocks are the area's. */
static void list_end(struct block_list *l)
{
	free(l->block);
	*l = (struct block_list)BLOCK_LIST_INIT;
}

int vmap_make(struct kmm *k, enum control_area_kind kind, struct block_list *l, struct vmap **ret)
{
	size_t before = kind == CONTROL_AREA_STACK ? GUARD : 0;
	uint32_t pieces = 0;
	struct vmap *a;
	int r;

	qsort(l->block, l->n, sizeof(l->block[0]), by_place);
	r = pieces_count(k, l, &pieces);
	if (r < 0)
		return r;
	a = vmap_new(kind, l);
	if (!a)
		return -ENOMEM;
	r = mappings_get(k, pieces + 1 + (before != 0));
	if (r == 0) {
		a->mappings = pieces + 1 + (before != 0);
		r = range_reserve(a, before, GUARD,
		                  l->block[0].order >= LARGE_ORDER ? LARGE_BYTES : KMM_PAGE_SIZE);
	}
	if (r == 0)
		r = pieces_map(k, a, l);
	if (r < 0) {
		vmap_unmap(k, a);
		free(a);
		return r;
	}
	list_end(l);
	*ret = a;
	return 0;
}

int vmap_make_direct(struct kmm *k, enum control_area_kind kind, struct block_list *l,
                     struct vmap **ret)
{
	int r = section_map(k, l->block[0].page);
	struct vmap *a;

	if (r < 0)
		return r;
	a = vmap_new(kind, l);
	if (!a)
		return -ENOMEM;
	a->start = section_address(k, l->block[0].page);
	list_end(l);
	*ret = a;
	return 0;
}

void vmap_unmap(struct kmm *k, struct vmap *a)
{
	(void)k;
	if (a->map)
		munmap(a->map, a->map_size);
	mappings_put(a->mappings);
	a->map = NULL;
	a->mappings = 0;
}

uint32_t vmap_block_frame(struct kmm *k, const struct vmap_block *b)
{
	if (b->page < k->frames)
		return b->page;
	/* acquire: pairs with the daemon's stores before it published the word */
	return page_desc_other(
		atomic_load_explicit(&k->control.desc[b->page], memory_order_acquire));
}
