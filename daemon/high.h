/* SPDX-License-Identifier: MIT */
/*
 * Pages and frames: which frame a page has, which page stands for a block (shm/control.h, "Pages").
 * See high.c. All of it is safe from any thread.
 *
 * Everywhere in the daemon `pfn` is a frame, as mm/ counts them, and `page` a page index, as words,
 * descriptors, granules, section marks and messages have them. Below control_geometry.frames, and
 * outside the high zones, the two are the same number.
 */
#ifndef DAEMON_HIGH_H
#define DAEMON_HIGH_H

#include "daemon/domain.h"

struct pool;

/* The frame lies in HighMem or Movable. */
static inline bool domain_frame_high(const struct domain *d, pfn_t pfn)
{
	const struct control_geometry *g = &d->control.geometry;

	return pfn >= g->high_start && pfn - g->high_start < g->high_frames;
}

/* The page can move from frame to frame. */
static inline bool domain_page_moves(const struct domain *d, uint32_t page)
{
	return control_page_moves(&d->control.geometry, page);
}

/* The frame that a page (below control_pages()) has at the moment; of a block, its first. */
static inline pfn_t domain_frame_of(const struct domain *d, uint32_t page)
{
	uint64_t frames = d->control.geometry.frames;

	if (page < frames)
		return page;
	/* acquire: pairs with the store in move_page() */
	return atomic_load_explicit(&d->high_frame[page - frames], memory_order_acquire);
}

/* The page that stands for a block of that order at pfn. */
static inline uint32_t domain_block_page(const struct domain *d, pfn_t pfn, uint32_t order)
{
	if (order || !domain_frame_high(d, pfn))
		return pfn;
	/* acquire: as above */
	return atomic_load_explicit(&d->high_page[pfn - d->control.geometry.high_start],
	                            memory_order_acquire);
}

/* The same for the block that is allocated at pfn now; pfn itself where there is none. */
uint32_t domain_page_of(const struct domain *d, pfn_t pfn);

/* What the pages of a frame stand for that is in no slab. In the high zones it has two pages, of
 * which one is in use at most; elsewhere other is the same page. */
struct frame_pages {
	bool block;           /* a block begins there, and page stands for it; else for the free frame */
	struct mm_block b;
	uint32_t page, other; /* other stands for nothing */
	uint64_t other_desc;  /* its descriptor */
};
struct frame_pages domain_frame_pages(const struct domain *d, pfn_t pfn);

/* The block that the page (below control_pages()) stands for, and its frame: false when none is
 * granted there. *pfn is set in any case. */
bool domain_block_get(const struct domain *d, uint32_t page, pfn_t *pfn, struct mm_block *b);

/* What the descriptor of a granted block's page says; who sets it, and the frame's of one that
 * moves. */
uint64_t domain_descriptor(const struct domain *d, uint32_t page, const struct mm_block *b,
                           bool cacheable);
void domain_describe(struct domain *d, uint32_t page, pfn_t pfn, uint64_t descriptor);
/* Both are 0 from now on. */
void domain_undescribe(struct domain *d, uint32_t page, pfn_t pfn);

/* ---- a domain's life ---- */

/* Over the pool's ledger; recovered: its map is checked, and what a death in the middle of a move
 * left is repaired. -ENOMEM; -EUCLEAN, reported. */
int high_open(struct domain *d, const struct pool *pool);
void high_close(struct domain *d);
/* Frames and pages are each other's; findings as mm_validate. */
size_t high_validate(const struct domain *d, mm_report_fn report, void *ctx);

/* ---- for move.c: under d->moving ---- */

/* Gives page the frame `to`, and the page that had it the old one. */
void high_swap(struct domain *d, uint32_t page, pfn_t to);

#endif
