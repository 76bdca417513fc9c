/* SPDX-License-Identifier: MIT */
/*
 * The buddy allocator: free blocks of 2^0..2^10 frames.
 *
 * Concept (Knowlton 1965, in the form Linux gave it): the buddy of a block is the one whose frame
 * number differs in the bit of the block's order. A block is split by giving its upper half back
 * until it fits, and merged with its buddy when both are free.
 *
 * Structure: for each order and migrate type a doubly linked list of free blocks, links being frame
 * numbers. A free block has a mark, a byte at its head frame: order and list type. Marks and links
 * lie in dense arrays of their own, so that looking for a buddy touches no state word. A bit mask
 * for each type says which orders have blocks, so that the smallest sufficient one is found by one
 * instruction.
 *
 * Invariants, under the lock:
 *   - a block on a list is aligned, its frames are managed, unallocated and in no other list;
 *   - below pageblock order its list's type is its pageblock's type, from there up the type of all
 *     its pageblocks;
 *   - no two buddies are both on lists, unless they are at least pageblocks of types that do not
 *     mix (HighAtomic, Isolate);
 *   - nr_free counts exactly the frames on lists; of these nr_free_special those on the lists of
 *     HighAtomic (for who cannot wait) and Isolate (for nobody: hotplug.c), nr_free_isolated those
 *     of Isolate alone.
 *
 * Order of lists: what was freed last is used first (warm), but a block whose buddy's buddy is free
 * goes to the end, where it has time to merge. Lower halves are used first.
 *
 * Batches: per-CPU lists exchange many blocks under one hold. Taking n blocks takes whole larger
 * ones (the outcome is the same as taking n small ones, smallest first), to be cut up outside the
 * lock; freed ones are merged with each other before the lock is taken.
 *
 * Complexity: O(orders) a block.
 */
#include <assert.h>

#include "buddy.h"

_Static_assert(MAX_PAGE_ORDER == PAGEBLOCK_ORDER + 1, "the largest block is two pageblocks");

static void list_mark(struct zone *z, uint32_t order, uint32_t type, bool nonempty)
{
	uint16_t mask = relaxed_load(&z->nonempty[type]);

	mask = (uint16_t)(nonempty ? mask | 1u << order : mask & ~(1u << order));
	relaxed_store(&z->nonempty[type], mask);
}

/* Free frames that are not for everybody. */
static inline void count_special(struct zone *z, uint32_t type, int64_t frames)
{
	if (__builtin_expect(type < MIGRATE_HIGHATOMIC, 1))
		return;
	relaxed_add(&z->nr_free_special, (uint64_t)frames);
	if (type == MIGRATE_ISOLATE)
		relaxed_add(&z->nr_free_isolated, (uint64_t)frames);
}

void buddy_list_add(struct zone *z, pfn_t pfn, uint32_t order, uint32_t type, bool tail)
{
	struct free_list *l = &z->list[order][type];
	struct page_link *link = mm_link(z->mm, pfn, order);

	if (l->nr++ == 0) {
		*link = (struct page_link){ PFN_NONE, PFN_NONE };
		l->head = l->tail = pfn;
		list_mark(z, order, type, true);
	} else if (tail) {
		*link = (struct page_link){ .next = PFN_NONE, .prev = l->tail };
		mm_link(z->mm, l->tail, order)->next = pfn;
		l->tail = pfn;
	} else {
		*link = (struct page_link){ .next = l->head, .prev = PFN_NONE };
		mm_link(z->mm, l->head, order)->prev = pfn;
		l->head = pfn;
	}
	*mm_mark(z->mm, pfn, order) = (uint8_t)(BUDDY_FREE | type << BUDDY_MT_SHIFT | order);
	count_special(z, type, (int64_t)1 << order);
}

void buddy_list_del(struct zone *z, pfn_t pfn, uint32_t order, uint32_t type)
{
	struct free_list *l = &z->list[order][type];
	struct page_link at = *mm_link(z->mm, pfn, order);
	uint8_t *mark = mm_mark(z->mm, pfn, order);

	assert(*mark == (BUDDY_FREE | type << BUDDY_MT_SHIFT | order));
	if (at.prev == PFN_NONE)
		l->head = at.next;
	else
		mm_link(z->mm, at.prev, order)->next = at.next;
	if (at.next == PFN_NONE)
		l->tail = at.prev;
	else
		mm_link(z->mm, at.next, order)->prev = at.prev;
	if (--l->nr == 0)
		list_mark(z, order, type, false);
	*mark = 0;
	count_special(z, type, -((int64_t)1 << order));
}

void buddy_count_free(struct zone *z, int64_t frames)
{
	uint64_t free = relaxed_load(&z->nr_free) + (uint64_t)frames;

	relaxed_store(&z->nr_free, free);
	if (free < relaxed_load(&z->nr_free_least))
		relaxed_store(&z->nr_free_least, free);
}

void buddy_retag(struct zone *z, pfn_t pfn, uint32_t type)
{
	z->pageblocks[mm_pageblock_type(z->mm, pfn)]--;
	z->pageblocks[type]++;
	mm_pageblock_set_type(z->mm, pfn, type);
}

void buddy_move_pageblock(struct zone *z, pfn_t pfn, uint32_t from, uint32_t to)
{
	pfn_t start = pfn & ~(PAGEBLOCK_NR_PAGES - 1), end = start + PAGEBLOCK_NR_PAGES;

	for (pfn_t at = start; at < end;) {
		uint8_t b = z->mm->mark[at];

		if (!(b & BUDDY_FREE)) {
			at++;
			continue;
		}
		buddy_list_del(z, at, BUDDY_ORDER(b), from);
		buddy_list_add(z, at, BUDDY_ORDER(b), to, false);
		at += (pfn_t)1 << BUDDY_ORDER(b);
	}
	buddy_retag(z, start, to);
}

static bool type_mixes(uint32_t type)
{
	return type < MIGRATE_HIGHATOMIC;
}

/* As buddy_insert(), a block whose pageblocks are of that type. */
static inline void insert(struct zone *z, pfn_t pfn, uint32_t order, uint32_t type, bool tail)
{
	while (order < MAX_PAGE_ORDER) {
		pfn_t other = pfn ^ (pfn_t)1 << order;
		uint32_t its;

		if (!mm_is_free(z->mm, other, order))
			break;
		its = BUDDY_MT(*mm_mark(z->mm, other, order));
		if (order >= PAGEBLOCK_ORDER && its != type) {
			if (!type_mixes(type) || !type_mixes(its))
				break;
			buddy_list_del(z, other, order, its);
			for (pfn_t at = 0; at < (pfn_t)1 << order; at += PAGEBLOCK_NR_PAGES)
				buddy_retag(z, other + at, type);
		} else {
			buddy_list_del(z, other, order, type);
		}
		pfn &= other;
		order++;
	}
	if (!tail && order < MAX_PAGE_ORDER - 1) {
		/* the larger block would have a buddy already: wait for the missing half */
		pfn_t larger = pfn & ~((pfn_t)1 << order), other = larger ^ (pfn_t)2 << order;

		tail = mm_is_free(z->mm, other, order + 1);
	}
	buddy_list_add(z, pfn, order, type, tail);
}

/* The types of the pageblocks decide again whether they join: the second one finds the first. */
__attribute__((noinline)) static void insert_halves(struct zone *z, pfn_t pfn, bool tail)
{
	for (uint32_t i = 0; i < 2; i++, pfn += PAGEBLOCK_NR_PAGES)
		insert(z, pfn, PAGEBLOCK_ORDER, mm_pageblock_type(z->mm, pfn), tail);
}

void buddy_insert(struct zone *z, pfn_t pfn, uint32_t order, bool tail)
{
	uint32_t type = mm_pageblock_type(z->mm, pfn);

	/* merged outside the lock while both pageblocks were isolated, and they are no more */
	if (__builtin_expect(order > PAGEBLOCK_ORDER &&
	                             mm_pageblock_type(z->mm, pfn + PAGEBLOCK_NR_PAGES) != type,
	                     0))
		insert_halves(z, pfn, tail);
	else
		insert(z, pfn, order, type, tail);
}

/* Takes up to `most` blocks off the head of a list, in one go. Returns how many. */
static uint32_t list_take(struct zone *z, uint32_t order, uint32_t type, uint32_t most,
                          struct buddy_batch *batch)
{
	struct free_list *l = &z->list[order][type];
	uint32_t room = BUDDY_BATCH - batch->nr, n = l->nr;
	pfn_t pfn = l->head;

	if (n > most)
		n = most;
	if (n > room)
		n = room;
	for (uint32_t i = 0; i < n; i++) {
		batch->block[batch->nr++] = (struct buddy_block){ pfn, order };
		*mm_mark(z->mm, pfn, order) = 0;
		pfn = mm_link(z->mm, pfn, order)->next;
	}
	if (n == 0)
		return 0;
	l->nr -= n;
	l->head = pfn;
	if (l->nr == 0) {
		l->tail = PFN_NONE;
		list_mark(z, order, type, false);
	} else {
		mm_link(z->mm, pfn, order)->prev = PFN_NONE;
	}
	count_special(z, type, -((int64_t)n << order));
	return n;
}

uint32_t buddy_take(struct zone *z, uint32_t order, uint32_t type, uint32_t want,
                    struct buddy_batch *batch)
{
	uint32_t got = 0;

	while (got < want && batch->nr < BUDDY_BATCH) {
		uint32_t orders = relaxed_load(&z->nonempty[type]) >> order, k, whole;
		pfn_t pfn;

		if (orders == 0)
			break;
		k = order + (uint32_t)__builtin_ctz(orders);
		whole = (want - got) >> (k - order);
		if (whole) {
			got += list_take(z, k, type, whole, batch) << (k - order);
			continue;
		}
		/* larger than what is wanted: the upper halves go back until it is not */
		pfn = z->list[k][type].head;
		buddy_list_del(z, pfn, k, type);
		while ((uint32_t)1 << (k - order) > want - got) {
			k--;
			buddy_list_add(z, pfn + ((pfn_t)1 << k), k, type, false);
		}
		batch->block[batch->nr++] = (struct buddy_block){ pfn, k };
		got += (uint32_t)1 << (k - order);
	}
	return got;
}

uint32_t buddy_alloc(struct zone *z, uint32_t order, uint32_t type, uint32_t want, uint32_t flags,
                     struct buddy_batch *batch)
{
	LOCK_SCOPED(&z->lock);
	uint32_t got = 0;

	if (flags & ALLOC_HIGHATOMIC)
		got = buddy_take(z, order, MIGRATE_HIGHATOMIC, want, batch);
	if (got < want)
		got += fallback_take(z, order, type, want - got, flags, batch);
	/* what cannot wait may use the reserve when there is nothing else */
	if (got == 0 && (flags & ALLOC_NON_BLOCK))
		got = buddy_take(z, order, MIGRATE_HIGHATOMIC, want, batch);
	buddy_count_free(z, -((int64_t)got << order));
	return got;
}

void buddy_free_one(struct zone *z, pfn_t pfn, uint32_t order)
{
	LOCK_SCOPED(&z->lock);
	buddy_insert(z, pfn, order, false);
	buddy_count_free(z, (int64_t)1 << order);
}

void buddy_free_batch(struct zone *z, const struct buddy_batch *batch)
{
	int64_t frames = 0;

	for (uint32_t i = 0; i < batch->nr; i++) {
		const struct buddy_block *b = &batch->block[i];

		__builtin_prefetch(mm_mark(z->mm, b->pfn ^ (pfn_t)1 << b->order, b->order), 1);
		__builtin_prefetch(mm_link(z->mm, b->pfn, b->order), 1);
	}
	LOCK_SCOPED(&z->lock);
	for (uint32_t i = 0; i < batch->nr; i++) {
		buddy_insert(z, batch->block[i].pfn, batch->block[i].order, false);
		frames += (int64_t)1 << batch->block[i].order;
	}
	buddy_count_free(z, frames);
}
