/* SPDX-License-Identifier: MIT */
/* The free areas of a zone: see buddy.c (own lists) and fallback.c (other types' lists). */
#ifndef MM_BUDDY_H
#define MM_BUDDY_H

#include "zone.h"

/* Blocks on their way between the free areas and a per-CPU list or a caller. */
#define BUDDY_BATCH 256u

struct buddy_block {
	pfn_t pfn;
	uint32_t order;
};
struct buddy_batch {
	uint32_t nr;
	struct buddy_block block[BUDDY_BATCH];
};

/* ---- under the zone's lock ---- */

void buddy_list_add(struct zone *z, pfn_t pfn, uint32_t order, uint32_t type, bool tail);
void buddy_list_del(struct zone *z, pfn_t pfn, uint32_t order, uint32_t type);
/* Merges the block with what is free beside it and puts it on its pageblock's list. Does not
 * count nr_free. `tail`: to the list's end in any case. */
void buddy_insert(struct zone *z, pfn_t pfn, uint32_t order, bool tail);
/* Takes blocks off the lists of `type`, smallest first, that together make `want` blocks of
 * `order`, or what there is; larger ones come whole. Returns how many blocks of `order` these are.
 * Stops early when the batch is full. Does not count nr_free. */
uint32_t buddy_take(struct zone *z, uint32_t order, uint32_t type, uint32_t want,
                    struct buddy_batch *batch);
void buddy_count_free(struct zone *z, int64_t frames);
/* Changes the type of the pageblock that begins at pfn. */
void buddy_retag(struct zone *z, pfn_t pfn, uint32_t type);
/* Retags the pageblock around pfn (no larger block covers it) and moves its free blocks. */
void buddy_move_pageblock(struct zone *z, pfn_t pfn, uint32_t from, uint32_t to);

/* fallback.c: own list, then claim, then steal. */
uint32_t fallback_take(struct zone *z, uint32_t order, uint32_t type, uint32_t want,
                       uint32_t flags, struct buddy_batch *batch);
/* The pageblock around a block just taken joins the high-atomic reserve, if that has room. */
void highatomic_reserve(struct zone *z, pfn_t pfn, uint32_t order);
/* One free pageblock's worth of the reserve goes to `type`. False: nothing to give. Takes the
 * lock. */
bool highatomic_unreserve(struct zone *z, uint32_t type, bool force);

/* ---- these take the zone's lock ---- */

/* Takes up to `want` blocks of `order`; see fallback_take(). */
uint32_t buddy_alloc(struct zone *z, uint32_t order, uint32_t type, uint32_t want, uint32_t flags,
                     struct buddy_batch *batch);
void buddy_free_one(struct zone *z, pfn_t pfn, uint32_t order);
void buddy_free_batch(struct zone *z, const struct buddy_batch *batch);

/* ---- no lock ---- */

/* Adds a block to a batch that is about to be freed to z, after merging it with what the batch
 * has on top. The batch must have room. Two whole pageblocks join only when they are of one
 * type. That needs no lock: of a pageblock that is in use as a whole nobody changes the type,
 * but for isolation (hotplug.c), which both may have seen begin and end before the batch is
 * freed; buddy_insert() looks again. */
static inline void buddy_batch_push(const struct zone *z, struct buddy_batch *b, pfn_t pfn,
                                    uint32_t order)
{
	while (b->nr > 0 && order < MAX_PAGE_ORDER) {
		struct buddy_block top = b->block[b->nr - 1];

		if (top.order != order || top.pfn != (pfn ^ (pfn_t)1 << order))
			break;
		if (order >= PAGEBLOCK_ORDER &&
		    mm_pageblock_type(z->mm, pfn) != mm_pageblock_type(z->mm, top.pfn))
			break;
		pfn &= top.pfn;
		order++;
		b->nr--;
	}
	b->block[b->nr++] = (struct buddy_block){ pfn, order };
}

#endif
