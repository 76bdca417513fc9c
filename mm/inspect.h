/* SPDX-License-Identifier: MIT */
/*
 * What each frame is at this moment: for reports that show the pool frame by frame. See inspect.c.
 */
#ifndef MM_INSPECT_H
#define MM_INSPECT_H

#include "mm.h"

#define MM_SCAN_FRAMES (1u << MAX_PAGE_ORDER)

enum mm_frame_state {
	MM_FRAME_OUTSIDE,  /* not in the domain's zones: the section's state says more */
	MM_FRAME_RESERVED, /* in a zone's range, not managed */
	MM_FRAME_FREE,     /* of a free block on the zone's lists */
	MM_FRAME_PER_CPU,  /* free: on a per-CPU list, or on its way to or from one */
	MM_FRAME_BLOCK,
	MM_FRAME_SLAB,
};

/* Frames that belong together: a block, or neighbours of the same other state. */
struct mm_run {
	enum mm_frame_state state;
	pfn_t start;
	uint32_t frames;
	uint8_t order;       /* of a free block, a block, a slab */
	uint8_t migratetype; /* that a block was asked for as */
	bool leaving;        /* a thread has claimed the right to free it (mm_block_take) */
	uint32_t tag;        /* of a block */
};

/* The runs of the MM_SCAN_FRAMES frames around pfn, in order, none of them empty; how many. 0: pfn
 * is beyond the pool. The zone's lock is held for the look, so that free blocks are as of one moment;
 * allocated ones may come and go meanwhile. Any thread. */
uint32_t mm_scan(const struct mm_domain *d, pfn_t pfn, struct mm_run run[MM_SCAN_FRAMES]);
/* The run that pfn lies in; false: beyond the pool. */
bool mm_run_at(const struct mm_domain *d, pfn_t pfn, struct mm_run *ret);
/* Migrate type of the pageblock around pfn, which is a frame of the pool. */
uint32_t mm_pageblock_type_at(const struct mm *mm, pfn_t pfn);

#endif
