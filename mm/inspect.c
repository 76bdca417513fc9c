/* SPDX-License-Identifier: MIT */
/*
 * Looking at frames, changing nothing.
 *
 * No frame has a word that says "free": a free block is a mark at its head (sparse.h), an allocated
 * one a state word at its head (page.h), and what lies inside either, or on a per-CPU list, is told
 * by nothing. But no block is larger than 2^MAX_PAGE_ORDER frames, and each begins at a multiple of
 * its size. So whoever begins at a multiple of the largest size and goes from head to head knows of
 * every frame what it is:
 *
 *      |free, order 3      |B |P |P |slab, o 1|P |block, order 2   | ...
 *       ^ mark              ^ word      ^ word    ^ word
 *                              '--- neither: on a per-CPU list, or passing
 *
 * Marks change under the zone's lock, which is held for one such stretch. State words change by
 * atomic stores without it: blocks of per-CPU lists come and go while one looks. A word that does not
 * fit in where it was read (misaligned, over the end) was read in the middle of such a change; its
 * frame counts as one on its way.
 *
 * Complexity: O(frames of a stretch), less where blocks are large.
 */
#include "inspect.h"

#include "zone.h"

/* Frames of that state lie side by side in one run; of others each block is a run. */
static bool same(const struct mm_run *a, enum mm_frame_state state)
{
	return a->state == state && state != MM_FRAME_FREE && state != MM_FRAME_BLOCK &&
	       state != MM_FRAME_SLAB;
}

/* The order of the free block that begins at pfn; -1: none does. Under the zone's lock. */
static int free_order(const struct mm *mm, pfn_t pfn)
{
	uint8_t mark;

	if (pfn % PAGEBLOCK_NR_PAGES == 0) {
		mark = *mm_mark(mm, pfn, PAGEBLOCK_ORDER);
		if (mark & BUDDY_FREE)
			return (int)BUDDY_ORDER(mark);
	}
	mark = *mm_mark(mm, pfn, 0);
	return mark & BUDDY_FREE ? (int)BUDDY_ORDER(mark) : -1;
}

static bool fits(pfn_t pfn, uint32_t order, pfn_t end)
{
	pfn_t size = (pfn_t)1 << order;

	return order <= MAX_PAGE_ORDER && pfn % size == 0 && size <= end - pfn;
}

static struct mm_run look(const struct mm *mm, pfn_t pfn, pfn_t end)
{
	struct mm_run r = { .state = MM_FRAME_PER_CPU, .start = pfn, .frames = 1 };
	int order = free_order(mm, pfn);
	uint64_t w;

	if (!mm_frame_managed(mm, pfn)) {
		r.state = MM_FRAME_RESERVED;
		return r;
	}
	if (order >= 0 && fits(pfn, (uint32_t)order, end)) {
		r.state = MM_FRAME_FREE;
		r.order = (uint8_t)order;
		r.frames = 1u << order;
		return r;
	}
	/* acquire pairs with the release in page_commit(), as in mm_block_get() */
	w = atomic_load_explicit(&mm->page[pfn].state, memory_order_acquire);
	if (!(w & PAGE_ALLOCATED) || !fits(pfn, page_word_order(w), end))
		return r;
	r.state = w & PAGE_OF_SLAB ? MM_FRAME_SLAB : MM_FRAME_BLOCK;
	r.order = (uint8_t)page_word_order(w);
	r.frames = 1u << r.order;
	r.migratetype = (uint8_t)page_word_migratetype(w);
	r.leaving = (w & PAGE_LEAVING) != 0;
	r.tag = page_word_tag(w);
	return r;
}

uint32_t mm_scan(const struct mm_domain *d, pfn_t pfn, struct mm_run run[MM_SCAN_FRAMES])
{
	const struct mm *mm = d->mm;
	pfn_t start = pfn & ~(MM_SCAN_FRAMES - 1), end = start + MM_SCAN_FRAMES;
	struct section_info section;
	uint32_t n = 0;

	if (pfn >= mm->config.frames)
		return 0;
	/* a section is a multiple of the largest block */
	mm_section_get(mm, mm_section_of(mm, pfn), &section);
	if (section.state != SECTION_ONLINE || section.domain != d->id) {
		run[0] = (struct mm_run){ .state = MM_FRAME_OUTSIDE,
			                  .start = start,
			                  .frames = MM_SCAN_FRAMES };
		return 1;
	}
	LOCK_SCOPED(&domain_zone_of(d, start)->lock);
	for (pfn = start; pfn < end;) {
		struct mm_run r = look(mm, pfn, end);

		if (n > 0 && same(&run[n - 1], r.state))
			run[n - 1].frames += r.frames;
		else
			run[n++] = r;
		pfn += r.frames;
	}
	return n;
}

bool mm_run_at(const struct mm_domain *d, pfn_t pfn, struct mm_run *ret)
{
	struct mm_run run[MM_SCAN_FRAMES];
	uint32_t n = mm_scan(d, pfn, run);

	for (uint32_t i = 0; i < n; i++) {
		if (pfn - run[i].start < run[i].frames) {
			*ret = run[i];
			return true;
		}
	}
	return false;
}

uint32_t mm_pageblock_type_at(const struct mm *mm, pfn_t pfn)
{
	return mm_pageblock_type(mm, pfn);
}
