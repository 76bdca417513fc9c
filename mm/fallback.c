/* SPDX-License-Identifier: MIT */
/*
 * Migrate types: keeping what can move apart from what cannot, and what to do when a type runs out.
 *
 * Concept: each pageblock (512 frames) serves one migrate type, so that unmovable blocks do not sit
 * in every corner and large blocks can be made again. A type without free blocks of its own
 *   - claims: takes over a pageblock of another type, whole where it is free, or where at least
 *     half of it is free or already used by blocks of the claiming kind; looks at the largest
 *     blocks first, because they hold the most and mix the least;
 *   - or steals: takes one block, the smallest that does, and leaves the pageblock its type.
 * A request with ALLOC_NOFRAGMENT only claims whole pageblocks.
 *
 * High-atomic reserve: pageblocks set aside (at most about 1 % of the zone) for blocks of several
 * frames for requests that cannot wait. It is filled when such a request succeeds, and given back
 * when others fail.
 *
 * Locking: the zone's lock. Complexity: a claim may scan up to eleven pageblocks; it is rare,
 * because a claimed pageblock serves its new type from then on.
 */
#include <assert.h>

#include "buddy.h"
#include "watermark.h"

static const uint8_t fallbacks[MIGRATE_PCPTYPES][MIGRATE_PCPTYPES - 1] = {
	[MIGRATE_UNMOVABLE] = { MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE },
	[MIGRATE_MOVABLE] = { MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE },
	[MIGRATE_RECLAIMABLE] = { MIGRATE_UNMOVABLE, MIGRATE_MOVABLE },
};

/* The other type that has a block of exactly that order, MIGRATE_TYPES: none. */
static uint32_t fallback_type(const struct zone *z, uint32_t order, uint32_t type)
{
	for (uint32_t i = 0; i < MIGRATE_PCPTYPES - 1; i++)
		if (relaxed_load(&z->nonempty[fallbacks[type][i]]) >> order & 1)
			return fallbacks[type][i];
	return MIGRATE_TYPES;
}

static bool grouping_disabled(const struct zone *z)
{
	return relaxed_load(&z->domain->grouping_disabled);
}

/* Claiming by a small movable block is not worth it: movable blocks do no harm anywhere. */
static bool claim_allowed(const struct zone *z, uint32_t order, uint32_t type)
{
	return order >= PAGEBLOCK_ORDER / 2 || type != MIGRATE_MOVABLE || grouping_disabled(z);
}

/* Counts the free frames of a pageblock that no block covers whole, and those in movable blocks.
 * Words of allocated blocks change meanwhile; the counts are a judgement, not a truth. */
static void pageblock_count(const struct zone *z, pfn_t start, uint32_t *free, uint32_t *movable)
{
	pfn_t end = start + PAGEBLOCK_NR_PAGES;

	*free = 0;
	*movable = 0;
	for (pfn_t at = start; at < end;) {
		uint8_t b = z->mm->mark[at];
		uint64_t w;

		if (b & BUDDY_FREE) {
			*free += 1u << BUDDY_ORDER(b);
			at += (pfn_t)1 << BUDDY_ORDER(b);
			continue;
		}
		w = page_peek(&z->mm->page[at]);
		if (!(w & PAGE_ALLOCATED)) {
			at++;
			continue;
		}
		if (page_word_migratetype(w) == MIGRATE_MOVABLE)
			*movable += 1u << page_word_order(w);
		at += (pfn_t)1 << page_word_order(w);
	}
}

/* The free block at pfn, of another type: makes its pageblock(s) ours if that is worth it. */
static bool claim_block(struct zone *z, pfn_t pfn, uint32_t order, uint32_t type, uint32_t other,
                        uint32_t flags)
{
	uint32_t free, movable, alike = 0;

	if (order >= PAGEBLOCK_ORDER) {
		buddy_list_del(z, pfn, order, other);
		for (pfn_t at = 0; at < (pfn_t)1 << order; at += PAGEBLOCK_NR_PAGES)
			buddy_retag(z, pfn + at, type);
		buddy_list_add(z, pfn, order, type, false);
		return true;
	}
	if (watermark_boost(z) && (flags & ALLOC_KSWAPD))
		zone_set_flag(z, ZONE_BOOSTED_WATERMARK);
	pageblock_count(z, pfn & ~(PAGEBLOCK_NR_PAGES - 1), &free, &movable);
	if (type == MIGRATE_MOVABLE)
		alike = movable;
	else if (other == MIGRATE_MOVABLE && free + movable < PAGEBLOCK_NR_PAGES)
		alike = PAGEBLOCK_NR_PAGES - free - movable;
	if (free + alike < PAGEBLOCK_NR_PAGES / 2 && !grouping_disabled(z))
		return false;
	buddy_move_pageblock(z, pfn, other, type);
	return true;
}

/* True: the type's own lists have a block of at least that order now. */
static bool claim(struct zone *z, uint32_t order, uint32_t type, uint32_t flags)
{
	uint32_t least = order;

	if ((flags & ALLOC_NOFRAGMENT) && least < PAGEBLOCK_ORDER)
		least = PAGEBLOCK_ORDER;
	for (uint32_t k = MAX_PAGE_ORDER + 1; k-- > least;) {
		uint32_t other;

		if (!claim_allowed(z, k, type))
			break;
		other = fallback_type(z, k, type);
		if (other == MIGRATE_TYPES)
			continue;
		if (claim_block(z, z->list[k][other].head, k, type, other, flags)) {
			z->claim++;
			return true;
		}
	}
	return false;
}

/* Takes from the other type that has the smallest sufficient block. */
static uint32_t steal(struct zone *z, uint32_t order, uint32_t type, uint32_t want,
                      struct buddy_batch *batch)
{
	for (uint32_t k = order; k < NR_PAGE_ORDERS; k++) {
		uint32_t other = fallback_type(z, k, type);

		if (other == MIGRATE_TYPES)
			continue;
		/* no further than this block goes: a smaller one may exist then */
		if (want > 1u << (k - order))
			want = 1u << (k - order);
		return buddy_take(z, order, other, want, batch);
	}
	return 0;
}

uint32_t fallback_take(struct zone *z, uint32_t order, uint32_t type, uint32_t want,
                       uint32_t flags, struct buddy_batch *batch)
{
	uint32_t got = 0;
	bool stealing = false;

	for (;;) {
		uint32_t n;

		got += buddy_take(z, order, type, want - got, batch);
		if (got == want || batch->nr == BUDDY_BATCH)
			return got;
		if (!stealing && claim(z, order, type, flags)) {
			z->fallback++;
			continue;
		}
		if (flags & ALLOC_NOFRAGMENT)
			return got;
		/* within one hold nothing becomes claimable again */
		stealing = true;
		n = steal(z, order, type, want - got, batch);
		if (n == 0)
			return got;
		z->fallback++;
		z->steal += n;
		got += n;
	}
}

void highatomic_reserve(struct zone *z, pfn_t pfn, uint32_t order)
{
	uint64_t percent = relaxed_load(&z->managed) / 100, most;
	uint32_t type;

	if (percent < PAGEBLOCK_NR_PAGES)
		return;
	most = (percent + PAGEBLOCK_NR_PAGES - 1) & ~(uint64_t)(PAGEBLOCK_NR_PAGES - 1);
	if (relaxed_load(&z->nr_reserved_highatomic) >= most)
		return;
	LOCK_SCOPED(&z->lock);
	if (relaxed_load(&z->nr_reserved_highatomic) >= most)
		return;
	type = mm_pageblock_type(z->mm, pfn);
	if (type >= MIGRATE_HIGHATOMIC)
		return;
	if (order < PAGEBLOCK_ORDER) {
		buddy_move_pageblock(z, pfn, type, MIGRATE_HIGHATOMIC);
		relaxed_add(&z->nr_reserved_highatomic, PAGEBLOCK_NR_PAGES);
		return;
	}
	for (pfn_t at = 0; at < (pfn_t)1 << order; at += PAGEBLOCK_NR_PAGES)
		buddy_retag(z, pfn + at, MIGRATE_HIGHATOMIC);
	relaxed_add(&z->nr_reserved_highatomic, (uint64_t)1 << order);
}

bool highatomic_unreserve(struct zone *z, uint32_t type, bool force)
{
	/* the last pageblock stays unless somebody would fail for it */
	uint64_t keep = force ? 0 : PAGEBLOCK_NR_PAGES;

	if (relaxed_load(&z->nr_reserved_highatomic) <= keep)
		return false;
	LOCK_SCOPED(&z->lock);
	for (uint32_t order = 0; order < NR_PAGE_ORDERS; order++) {
		pfn_t pfn = z->list[order][MIGRATE_HIGHATOMIC].head;

		if (z->list[order][MIGRATE_HIGHATOMIC].nr == 0)
			continue;
		if (order < PAGEBLOCK_ORDER) {
			buddy_move_pageblock(z, pfn, MIGRATE_HIGHATOMIC, type);
			relaxed_sub(&z->nr_reserved_highatomic, PAGEBLOCK_NR_PAGES);
			return true;
		}
		buddy_list_del(z, pfn, order, MIGRATE_HIGHATOMIC);
		for (pfn_t at = 0; at < (pfn_t)1 << order; at += PAGEBLOCK_NR_PAGES)
			buddy_retag(z, pfn + at, type);
		/* its neighbour may be of a type that it can join now */
		buddy_insert(z, pfn, order, false);
		relaxed_sub(&z->nr_reserved_highatomic, (uint64_t)1 << order);
		return true;
	}
	return false;
}
