/* SPDX-License-Identifier: MIT */
/*
 * One move: what compaction.c, which chooses targets by where they lie, and evacuate.c, which takes
 * any, have in common. The steps of a move, and what a death between two of them leaves, are in
 * compaction.c.
 */
#ifndef MM_COMPACTION_PRIVATE_H
#define MM_COMPACTION_PRIVATE_H

#include <assert.h>

#include "buddy.h"
#include "compaction.h"

/* The block at pfn, whose state word is w, is one that could be moved. */
static inline bool compaction_source(const struct compact_control *cc, pfn_t pfn, uint64_t w)
{
	return (w & (PAGE_ALLOCATED | PAGE_LEAVING | PAGE_OF_SLAB)) == PAGE_ALLOCATED &&
	       page_word_order(w) == 0 && page_word_domain(w) == cc->d->id &&
	       (!cc->movable || cc->movable(cc->ctx, pfn));
}

/* The frame, which is on no list any more, becomes a claimed block that nobody owns. */
static inline void compaction_target_claim(struct compact_control *cc, struct zone *z, pfn_t pfn,
                                           uint32_t migratetype)
{
	page_commit(&z->mm->page[pfn], page_word(0, migratetype, cc->d->id, 0) | PAGE_LEAVING);
	cc->isolated++;
}

static inline void compaction_frame_free(struct zone *z, pfn_t pfn)
{
	page_commit(&z->mm->page[pfn], 0);
	buddy_free_one(z, pfn, 0);
}

/* Moves, and gives back what of the two does not serve afterwards. False: it is the target. */
static inline bool compaction_move(struct compact_control *cc, struct zone *z, pfn_t from, pfn_t to)
{
	cc->isolated++;
	if (!cc->move(cc->ctx, from, to)) {
		compaction_frame_free(z, to);
		cc->failed++;
		return false;
	}
	assert(page_peek(&z->mm->page[from]) & PAGE_LEAVING);
	compaction_frame_free(z, from);
	cc->moved++;
	return true;
}

#endif
