/* SPDX-License-Identifier: MIT */
/*
 * Blocks as their users see them: what a head frame's state word says (page.h has the layout).
 *
 * Any thread may look at any frame number, whatever somebody sent: a number outside the pool,
 * inside a block or of a free frame is no block. One atomic load gives all of the answer, so it is
 * true as of one moment.
 */
#include <assert.h>

#include "sparse.h"

static bool word_is_block(uint64_t w)
{
	return (w & (PAGE_ALLOCATED | PAGE_LEAVING | PAGE_OF_SLAB)) == PAGE_ALLOCATED;
}

struct mm_block page_block(const struct mm *mm, pfn_t pfn, uint64_t w)
{
	const struct section_geometry *g = &mm->geometry[pfn >> mm->config.section_order];

	return (struct mm_block){
		.order = (uint8_t)page_word_order(w),
		.zone = g->zone,
		.node = g->node,
		.migratetype = (uint8_t)page_word_migratetype(w),
		.domain = page_word_domain(w),
		.tag = page_word_tag(w),
		.slab = (w & PAGE_OF_SLAB) != 0,
	};
}

bool mm_block_get(const struct mm *mm, pfn_t pfn, struct mm_block *b)
{
	uint64_t w;

	if (pfn >= mm->config.frames)
		return false;
	/* acquire pairs with the release in page_commit() */
	w = atomic_load_explicit(&mm->page[pfn].state, memory_order_acquire);
	if (!word_is_block(w))
		return false;
	*b = page_block(mm, pfn, w);
	return true;
}

void mm_block_set_tag(struct mm *mm, pfn_t pfn, uint32_t tag)
{
	uint64_t w = page_peek(&mm->page[pfn]);

	assert((w & (PAGE_ALLOCATED | PAGE_OF_SLAB)) == PAGE_ALLOCATED);
	w &= ~((uint64_t)MM_TAG_MAX << PAGE_TAG_SHIFT);
	page_commit(&mm->page[pfn], w | (uint64_t)(tag & MM_TAG_MAX) << PAGE_TAG_SHIFT);
}

bool mm_block_claimed(const struct mm *mm, pfn_t pfn, struct mm_block *b)
{
	uint64_t w;

	if (pfn >= mm->config.frames)
		return false;
	/* acquire, as in mm_block_get() */
	w = atomic_load_explicit(&mm->page[pfn].state, memory_order_acquire);
	if (!(w & PAGE_LEAVING) || !word_is_block(w & ~PAGE_LEAVING))
		return false;
	*b = page_block(mm, pfn, w);
	return true;
}

void mm_block_settle(struct mm *mm, pfn_t pfn, uint32_t tag)
{
	uint64_t w = page_peek(&mm->page[pfn]);

	assert(w & PAGE_LEAVING);
	w &= ~(PAGE_LEAVING | (uint64_t)MM_TAG_MAX << PAGE_TAG_SHIFT);
	page_commit(&mm->page[pfn], w | (uint64_t)(tag & MM_TAG_MAX) << PAGE_TAG_SHIFT);
}

bool mm_block_retag(struct mm *mm, pfn_t pfn, uint32_t from, uint32_t to)
{
	uint64_t w, new;

	if (pfn >= mm->config.frames)
		return false;
	/* acquire, as in mm_block_get() */
	w = atomic_load_explicit(&mm->page[pfn].state, memory_order_acquire);
	do {
		if (!word_is_block(w) || page_word_tag(w) != from)
			return false;
		new = (w & ~((uint64_t)MM_TAG_MAX << PAGE_TAG_SHIFT)) |
		      (uint64_t)(to & MM_TAG_MAX) << PAGE_TAG_SHIFT;
		/* acq_rel pairs with page_commit(), mm_block_take() and itself */
	} while (!atomic_compare_exchange_weak_explicit(&mm->page[pfn].state, &w, new,
	                                                memory_order_acq_rel,
	                                                memory_order_acquire));
	return true;
}

bool mm_block_take(struct mm *mm, pfn_t pfn, struct mm_block *b)
{
	uint64_t w;

	if (pfn >= mm->config.frames)
		return false;
	/* acquire, as in mm_block_get() */
	w = atomic_load_explicit(&mm->page[pfn].state, memory_order_acquire);
	do {
		if (!word_is_block(w))
			return false;
		/* acq_rel pairs with page_commit(), mm_block_retag() and itself: one wins */
	} while (!atomic_compare_exchange_weak_explicit(&mm->page[pfn].state, &w, w | PAGE_LEAVING,
	                                                memory_order_acq_rel,
	                                                memory_order_acquire));
	*b = page_block(mm, pfn, w);
	return true;
}
