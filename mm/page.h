/* SPDX-License-Identifier: MIT */
/*
 * The persistent words: one a frame, one a section, one byte a pageblock.
 *
 * struct page holds nothing but a frame's state word, the only truth about the frame:
 *
 *      63 46 45  44 43     28 27       8 7         5 4   1  0
 *     +-----+---+---+---------+----------+-----------+-----+---+
 *     | 0   | S | L | domain  | tag      | migrate-  |order| A |
 *     |     |   |   |         |          | type      |     |   |
 *     +-----+---+---+---------+----------+-----------+-----+---+
 *
 *   A = 1: the frame is the head of an allocated block of 2^order frames. The words of the block's
 *          other frames are 0.
 *   L = 1: one thread has claimed the right to free it (mm_block_take), or is about to move another
 *          block's contents there (compaction.c); after a crash it is an allocated block like any
 *          other.
 *   S = 1: the block is a slab. Only the slab layer frees it; whoever looks for blocks by what others
 *          say (mm_block_get, mm_block_take) does not find it.
 *   A = 0: the whole word is 0; the frame is free, cached, reserved, or inside a block.
 *
 * Allocating a block is one store of its head's word, freeing it one store of 0: no crash can leave
 * half of either. What a free frame needs (list links, marks) is volatile and lies apart
 * (sparse.h), so a dead process leaves nothing there that could be misread, and the words of eight
 * frames share a cache line.
 *
 * A section's word:
 *
 *      63   59 58     27 26     19 18      3 2     0
 *     +-------+---------+---------+---------+-------+
 *     | 0     | epoch   | backing | domain  | state |
 *     +-------+---------+---------+---------+-------+
 *
 * Bits shown as 0 are; recovery refuses anything else.
 */
#ifndef MM_PAGE_H
#define MM_PAGE_H

#include <stdatomic.h>

#include "mm.h"

struct page {
	_Atomic uint64_t state;
};
_Static_assert(sizeof(struct page) == 8, "persistent layout");

#define PAGE_ALLOCATED ((uint64_t)1)
#define PAGE_ORDER_SHIFT 1
#define PAGE_ORDER_MASK 0xfu
#define PAGE_MT_SHIFT 5
#define PAGE_MT_MASK 0x7u
#define PAGE_TAG_SHIFT 8
#define PAGE_DOMAIN_SHIFT 28
#define PAGE_DOMAIN_MASK 0xffffu
#define PAGE_LEAVING ((uint64_t)1 << 44)
#define PAGE_OF_SLAB ((uint64_t)1 << 45)
#define PAGE_USED_BITS 46

_Static_assert(PAGE_TAG_SHIFT + 20 == PAGE_DOMAIN_SHIFT, "persistent layout: 20 bits of tag");
_Static_assert(PAGE_DOMAIN_SHIFT + 16 == 44, "persistent layout: 16 bits of domain");
_Static_assert(MAX_PAGE_ORDER <= PAGE_ORDER_MASK, "an order fits its field");
_Static_assert(MIGRATE_TYPES <= PAGE_MT_MASK + 1, "a migrate type fits its field");

#define SECTION_STATE_MASK 0x7u
#define SECTION_DOMAIN_SHIFT 3
#define SECTION_DOMAIN_MASK 0xffffu
#define SECTION_BACKING_SHIFT 19
#define SECTION_BACKING_MASK 0xffu
#define SECTION_EPOCH_SHIFT 27
#define SECTION_USED_BITS 59

_Static_assert(SECTION_NR_STATES <= SECTION_STATE_MASK + 1, "a state fits its field");

static inline uint64_t page_word(uint32_t order, uint32_t migratetype, uint32_t domain,
                                 uint32_t tag)
{
	return PAGE_ALLOCATED | (uint64_t)order << PAGE_ORDER_SHIFT |
	       (uint64_t)migratetype << PAGE_MT_SHIFT | (uint64_t)tag << PAGE_TAG_SHIFT |
	       (uint64_t)domain << PAGE_DOMAIN_SHIFT;
}

static inline uint32_t page_word_order(uint64_t w)
{
	return (uint32_t)(w >> PAGE_ORDER_SHIFT) & PAGE_ORDER_MASK;
}

static inline uint32_t page_word_migratetype(uint64_t w)
{
	return (uint32_t)(w >> PAGE_MT_SHIFT) & PAGE_MT_MASK;
}

static inline uint32_t page_word_tag(uint64_t w)
{
	return (uint32_t)(w >> PAGE_TAG_SHIFT) & MM_TAG_MAX;
}

static inline uint32_t page_word_domain(uint64_t w)
{
	return (uint32_t)(w >> PAGE_DOMAIN_SHIFT) & PAGE_DOMAIN_MASK;
}

/* The frame's state, to look at only: whoever acts on it holds the block. */
static inline uint64_t page_peek(const struct page *p)
{
	return atomic_load_explicit(&p->state, memory_order_relaxed);
}

/* The commit of an allocation or of a free (word 0). Release pairs with the acquire in
 * mm_block_get(): who sees the block sees what was done for it before. */
static inline void page_commit(struct page *p, uint64_t word)
{
	atomic_store_explicit(&p->state, word, memory_order_release);
}

#endif
