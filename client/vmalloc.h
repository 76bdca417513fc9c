/* SPDX-License-Identifier: MIT */
/*
 * Areas: what is put together of blocks, side by side in the address space of the process. What
 * vmalloc.c, stack.c (policies), vmalloc_table.c (which there are) and vmalloc_map.c (mappings)
 * share.
 */
#ifndef CLIENT_VMALLOC_H
#define CLIENT_VMALLOC_H

#include "client/area.h"
#include "client/blocks.h"

#pragma GCC visibility push(hidden)

#define VMALLOC_GFP (KMM_GFP_KERNEL | KMM_GFP_HIGHMEM)

/* A block of an area. Its order follows from where the next one begins. */
struct vmap_block {
	uint64_t word; /* as in struct block */
	uint32_t page;
	uint32_t at;   /* its first page in the area */
};

enum vmap_state {
	VMAP_LIVE, /* the program's */
	VMAP_BUSY, /* one thread's, between the other two */
	VMAP_FREE, /* kept mapped, its blocks RETURNED: on a free list */
};

struct vmap {
	uint8_t *start; /* its first byte: on the table's list by it */
	size_t size;    /* bytes that can be used: its pages */
	uint8_t *map;   /* what was mapped for it, guards included; NULL: it lies in the window */
	size_t map_size;
	enum control_area_kind kind; /* VMALLOC or STACK */
	enum vmap_state state;       /* the table's lock */
	struct vmap *next, **prev;   /* of its free list; the table's lock */
	const void *caller;
	uint32_t entry;              /* in the table of areas, or AREA_NONE */
	uint32_t mappings;           /* counted to the process, see vmalloc_map.c */
	uint32_t pages, nr_blocks;
	uint32_t wanted;             /* pages that were asked for; a freed one is found by it */
	struct vmap_block block[];
};

static inline uint32_t vmap_block_pages(const struct vmap *a, uint32_t i)
{
	return (i + 1 < a->nr_blocks ? a->block[i + 1].at : a->pages) - a->block[i].at;
}

/* ---- vmalloc_map.c ---- */

/* An area with these blocks, mapped, with a guard page at its end (VMALLOC) or on both sides (STACK).
 * On success the blocks are its own, the list is empty; on failure they are still the list's. */
int vmap_make(struct kmm *k, enum control_area_kind kind, struct block_list *l, struct vmap **ret);
/* An area of one block that has its place in the window. */
int vmap_make_direct(struct kmm *k, enum control_area_kind kind, struct block_list *l,
                     struct vmap **ret);
/* Its mappings end; the blocks stay as they are. */
void vmap_unmap(struct kmm *k, struct vmap *a);
/* Where a block's memory is, as long as it is ours. */
uint32_t vmap_block_frame(struct kmm *k, const struct vmap_block *b);

/* ---- vmalloc_table.c ---- */

/* A freed area of that kind and so many pages wanted, the program's again: NULL when there is none.
 * used: bytes asked for; caller: for reports, here and below. */
struct vmap *vmap_reuse(struct kmm *k, enum control_area_kind kind, uint32_t wanted, size_t used,
                        const void *caller);
/* Puts a new area on the table, and shows it in the table of areas. -ENOMEM: it is as it was. */
int vmap_add(struct kmm *k, struct vmap *a, size_t used, const void *caller);
/* Of one that did not come onto the table: unmapped, its blocks given back. */
void vmap_discard(struct kmm *k, struct vmap *a);
/* The live area of that kind that begins at p, BUSY from now on: -EINVAL inside one, -ENOENT freed
 * before, -EPERM none of this session's. */
int vmap_take(struct kmm *k, enum control_area_kind kind, const void *p, struct vmap **ret);
/* Of a BUSY area of the program's: free. Kept mapped for the next of its size, or ended. */
void vmap_release(struct kmm *k, struct vmap *a);
/* The block of a live area that an address lies in, and which page of it; false: none. */
bool vmap_find(struct kmm *k, enum control_area_kind kind, const void *p, uint32_t *page);
/* Walks everything; how many findings, each with a text. For tests: no other thread uses it. */
size_t vmap_validate(struct kmm *k, void (*report)(const char *text));
/* Pages of freed areas that are kept. */
uint64_t vmap_free_pages(struct kmm *k);

/* ---- vmalloc.c ---- */

/* Scattered pages of that size: an area of its own. caller: for reports. */
int vmalloc_alloc(struct kmm *k, size_t size, kmm_gfp_t gfp, const void *caller, void **ret);
int vmalloc_free(struct kmm *k, const void *p);

#pragma GCC visibility pop
#endif
