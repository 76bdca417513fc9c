/* SPDX-License-Identifier: MIT */
/*
 * The pool: its persistent tables, what is derived from the configuration, and how a frame finds
 * its section, zone and pageblock. See sparse.c.
 */
#ifndef MM_SPARSE_H
#define MM_SPARSE_H

#include <string.h>

#include "page.h"

/* Links of a free block on its list; written and read under the lock of its zone. */
struct page_link {
	pfn_t next, prev;
};

/* The mark of a free block: set at the frame that heads it while it is on a list, else 0. Written
 * under the lock of its zone. */
#define BUDDY_FREE 0x80u
#define BUDDY_MT_SHIFT 4
#define BUDDY_MT(b) (((b) >> BUDDY_MT_SHIFT) & 0x7u)
#define BUDDY_ORDER(b) ((b)&0xfu)
#define BUDDY_MATCH 0x8fu /* free, and the order */

/* Link and mark of a free block of at least a pageblock, kept apart from the others: a few hundred
 * such blocks fit a few cache lines, where by frame each would cost two lines of its own. */
struct large_block {
	struct page_link link;
	uint8_t mark;
};

/* What the configuration and memblock say about a section; constant. */
struct section_geometry {
	uint32_t present; /* frames of memory */
	uint32_t managed; /* of them, not reserved */
	uint32_t max_order; /* of the largest block that fits into managed, plus one; 0: none */
	uint8_t node;
	uint8_t zone;
};

struct mm {
	struct mm_config config;
	uint32_t nr_sections;
	uint32_t zones_end; /* sections from here on are metadata, outside the zones */
	/* persistent, in the caller's memory */
	struct page *page;          /* by pfn */
	_Atomic uint64_t *section;  /* by section */
	_Atomic uint8_t *pageblock; /* migrate type, by pfn >> PAGEBLOCK_ORDER */
	/* derived */
	struct page_link *link;    /* of blocks smaller than a pageblock, by pfn */
	uint8_t *mark;             /* likewise */
	struct large_block *large; /* of the others, by pfn >> PAGEBLOCK_ORDER */
	uint8_t *distance;         /* nodes * nodes */
	uint8_t *cpu_node;         /* by cpu */
	uint64_t *unmanaged;       /* a bit a frame: absent or reserved */
	bool *compact_skip;        /* by pageblock: nothing in it moved; of the thread that compacts */
	struct section_geometry *geometry;
	uint16_t *section_zone; /* node * MAX_NR_ZONES + zone, by section */
	/* whose zones have the section's frames; under the hotplug lock of that domain */
	struct mm_domain **owner;
};

static inline struct page_link *mm_link(const struct mm *mm, pfn_t pfn, uint32_t order)
{
	return order < PAGEBLOCK_ORDER ? &mm->link[pfn] : &mm->large[pfn >> PAGEBLOCK_ORDER].link;
}

static inline uint8_t *mm_mark(const struct mm *mm, pfn_t pfn, uint32_t order)
{
	return order < PAGEBLOCK_ORDER ? &mm->mark[pfn] : &mm->large[pfn >> PAGEBLOCK_ORDER].mark;
}

/* A free block of exactly that order begins at pfn, which is a multiple of its size. */
static inline bool mm_is_free(const struct mm *mm, pfn_t pfn, uint32_t order)
{
	return (*mm_mark(mm, pfn, order) & BUDDY_MATCH) == (BUDDY_FREE | order);
}

/* Forgets all marks in [start, end), which are multiples of a pageblock. */
static inline void mm_clear_marks(struct mm *mm, pfn_t start, pfn_t end)
{
	memset(&mm->mark[start], 0, end - start);
	memset(&mm->large[start >> PAGEBLOCK_ORDER], 0,
	       ((end - start) >> PAGEBLOCK_ORDER) * sizeof(*mm->large));
}

static inline bool mm_frame_managed(const struct mm *mm, pfn_t pfn)
{
	return !(mm->unmanaged[pfn / 64] >> (pfn % 64) & 1);
}

/* The pageblock that begins at pfn has managed frames. */
static inline bool mm_pageblock_managed(const struct mm *mm, pfn_t pfn)
{
	/* a pageblock is eight words of the bit map */
	const uint64_t *map = &mm->unmanaged[pfn / 64];
	bool any = false;

	for (uint32_t i = 0; i < PAGEBLOCK_NR_PAGES / 64; i++)
		any |= map[i] != UINT64_MAX;
	return any;
}

/* Migrate types change under the zone's lock; a look without it may be a moment old, which costs
 * a block on the wrong per-CPU list and nothing else: of a pageblock that is being isolated, a
 * block that is there until the cpu's lists are drained (hotplug.c). */
static inline uint32_t mm_pageblock_type(const struct mm *mm, pfn_t pfn)
{
	return atomic_load_explicit(&mm->pageblock[pfn >> PAGEBLOCK_ORDER], memory_order_relaxed);
}

static inline void mm_pageblock_set_type(struct mm *mm, pfn_t pfn, uint32_t type)
{
	atomic_store_explicit(&mm->pageblock[pfn >> PAGEBLOCK_ORDER], (uint8_t)type,
	                      memory_order_relaxed);
}

/* sparse.c: fills geometry, unmanaged and the sections' first states. */
int sparse_init(struct mm *mm, const struct memblock *mb);
/* The word as it lies there; acquire pairs with the release in mm_section_set(). */
uint64_t sparse_section_word(const struct mm *mm, section_id_t s);
/* page.c: what the state word w of an allocated block's head says. */
struct mm_block page_block(const struct mm *mm, pfn_t pfn, uint64_t w);
/* Zone class that the section belongs to, whatever is in it. */
enum zone_type sparse_zone_of(const struct mm_config *c, uint64_t pfn);

static inline uint32_t section_word_state(uint64_t w)
{
	return (uint32_t)w & SECTION_STATE_MASK;
}

static inline uint32_t section_word_domain(uint64_t w)
{
	return (uint32_t)(w >> SECTION_DOMAIN_SHIFT) & SECTION_DOMAIN_MASK;
}

#endif
