/* SPDX-License-Identifier: MIT */
/*
 * Taking a section out of its zone.
 *
 * Concept (as Linux's page isolation and memory hot-unplug): first nobody is given any more of the
 * section, then one waits for, moves or asks back what is in use, in the end the frames leave the
 * zone. Three states, between which others allocate and free all the time:
 *
 *     in its zone ──isolate──► isolated ──offline, when all is free──► out
 *          ▲                      │                                     │
 *          └──────unisolate───────┘◄──────────mm_domain_online()────────┘ (to the first state)
 *
 * Isolated means that the type of each of its pageblocks is Isolate. Free blocks lie on the list of
 * their pageblock's type, so what is free moves to the Isolate lists at once and what is freed
 * later goes there by itself. Nothing takes from these lists: requests know the three types that
 * they may use, and HighAtomic; no claim, steal or merge leads from Isolate to these or back;
 * compaction and evacuation look for frames of the three types. nr_free_isolated is subtracted
 * wherever a watermark is checked.
 *
 *   types of a section:   M M U M R M H M      isolate ──►   I I I I I I I I     (saved: MMUMRMMM)
 *   its free blocks:      on lists of M, U, …                on lists of I
 *
 * Types are read without the zone's lock where blocks are freed to per-CPU lists. A thread that
 * read one the moment before it changed puts its block on such a list; so do those who did so long
 * before. Therefore the caller drains each cpu once, on its thread, afterwards: a free that comes
 * after the drain comes after the change, too, and reads Isolate (pcp_free).
 *
 * Locks are held for a block of the largest order at a time. No free block reaches over the end of
 * such a chunk, so between two of them all of buddy.c's invariants hold, and the section is
 * isolated in part. That all of it is free may be found out chunk by chunk as well: what lies on an
 * Isolate list stays there.
 *
 * Death: types are persistent. Recovery makes Movable of each Isolate that it finds; saved types
 * are lost with the process, which costs some grouping and nothing else. Frames that have left the
 * zone are free by their words, so a section is what its own word says: online and free, or absent.
 *
 * Locking: hotplug, for as long as the call takes, then the zone's lock for each chunk.
 * Complexity: O(frames of the section) in byte steps, less where blocks are large.
 */
#include <errno.h>
#include <stdlib.h>

#include "buddy.h"

#define CHUNK_FRAMES (1u << MAX_PAGE_ORDER)

struct mm_isolation {
	struct mm_isolation *next; /* in the domain's list */
	struct mm_domain *d;
	section_id_t section;
	pfn_t start, end;
	uint8_t type[]; /* by pageblock: what it was */
};

/* ---- the domain's list ---- */

struct mm_isolation *isolation_find(const struct mm_domain *d, section_id_t s)
{
	struct mm_isolation *i = d->isolations;

	while (i && i->section.nr != s.nr)
		i = i->next;
	return i;
}

static struct mm_isolation *isolation_drop(struct mm_isolation *i)
{
	struct mm_isolation **at = &i->d->isolations;

	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	free(i);
	return NULL;
}

void isolations_free(struct mm_domain *d)
{
	while (d->isolations)
		isolation_drop(d->isolations);
}

static struct zone *isolation_zone(const struct mm_isolation *i)
{
	return domain_zone_of(i->d, i->start);
}

/* ---- under the zone's lock ---- */

/* The free block of at least a pageblock that begins at pfn. */
static bool large_block_at(const struct zone *z, pfn_t pfn, uint32_t *order, uint32_t *type)
{
	uint8_t b = *mm_mark(z->mm, pfn, PAGEBLOCK_ORDER);

	*order = BUDDY_ORDER(b);
	*type = BUDDY_MT(b);
	return b & BUDDY_FREE;
}

static void pageblock_retype(struct zone *z, pfn_t pfn, uint32_t to)
{
	uint32_t from = mm_pageblock_type(z->mm, pfn), order, type;

	/* nothing of it is in the zone, or nothing is to do */
	if (!mm_pageblock_managed(z->mm, pfn) || from == to)
		return;
	if (from == MIGRATE_HIGHATOMIC)
		relaxed_sub(&z->nr_reserved_highatomic, PAGEBLOCK_NR_PAGES);
	if (large_block_at(z, pfn, &order, &type)) {
		buddy_list_del(z, pfn, order, type);
		buddy_retag(z, pfn, to);
		/* it may have a neighbour to join now */
		buddy_insert(z, pfn, order, true);
	} else {
		buddy_move_pageblock(z, pfn, from, to);
	}
}

/* Gives the two pageblocks of a chunk their types, and its free blocks the lists of these. */
static void chunk_retype(struct zone *z, pfn_t pfn, uint32_t first, uint32_t second)
{
	pfn_t other = pfn + PAGEBLOCK_NR_PAGES;
	uint32_t order, type;

	if (!large_block_at(z, pfn, &order, &type) || order == PAGEBLOCK_ORDER) {
		pageblock_retype(z, pfn, first);
		pageblock_retype(z, other, second);
		return;
	}
	buddy_list_del(z, pfn, order, type);
	if (type == MIGRATE_HIGHATOMIC)
		relaxed_sub(&z->nr_reserved_highatomic, CHUNK_FRAMES);
	buddy_retag(z, pfn, first);
	buddy_retag(z, other, second);
	buddy_insert(z, pfn, order, true);
}

/* ---- a chunk ---- */

static void chunk_isolate(struct mm_isolation *i, pfn_t pfn)
{
	uint8_t *was = &i->type[(pfn - i->start) >> PAGEBLOCK_ORDER];
	struct zone *z = isolation_zone(i);
	LOCK_SCOPED(&z->lock);

	for (uint32_t k = 0; k < CHUNK_FRAMES >> PAGEBLOCK_ORDER; k++) {
		uint32_t type = mm_pageblock_type(z->mm, pfn + k * PAGEBLOCK_NR_PAGES);

		/* the reserve is filled again where it is wanted */
		was[k] = type == MIGRATE_HIGHATOMIC ? MIGRATE_MOVABLE : (uint8_t)type;
	}
	chunk_retype(z, pfn, MIGRATE_ISOLATE, MIGRATE_ISOLATE);
}

static void chunk_unisolate(const struct mm_isolation *i, pfn_t pfn)
{
	const uint8_t *was = &i->type[(pfn - i->start) >> PAGEBLOCK_ORDER];
	struct zone *z = isolation_zone(i);
	LOCK_SCOPED(&z->lock);

	chunk_retype(z, pfn, was[0], was[1]);
}

/* Free frames of the chunk; if `take`, these leave their lists and are free no longer. */
static uint32_t chunk_free(struct zone *z, pfn_t start, bool take)
{
	uint32_t frames = 0, order, type;
	LOCK_SCOPED(&z->lock);

	for (pfn_t pfn = start; pfn < start + CHUNK_FRAMES;) {
		uint8_t b = *mm_mark(z->mm, pfn, 0);
		bool found = b & BUDDY_FREE;

		if (found) {
			order = BUDDY_ORDER(b);
			type = BUDDY_MT(b);
		} else if (pfn % PAGEBLOCK_NR_PAGES == 0) {
			found = large_block_at(z, pfn, &order, &type);
		}
		if (!found) {
			pfn++;
			continue;
		}
		if (take) {
			/* in this order: a watermark check sees too little rather than too much */
			buddy_count_free(z, -((int64_t)1 << order));
			buddy_list_del(z, pfn, order, type);
		}
		frames += 1u << order;
		pfn += (pfn_t)1 << order;
	}
	return frames;
}

/* ---- a section ---- */

int mm_section_isolate(struct mm_isolation **ret, struct mm_domain *d, section_id_t s)
{
	struct mm *mm = d->mm;
	uint32_t blocks = 1u << (mm->config.section_order - PAGEBLOCK_ORDER);
	struct mm_isolation *i;
	LOCK_SCOPED(&d->hotplug);

	if (s.nr >= mm->zones_end || mm->owner[s.nr] != d)
		return -ENOENT;
	if (isolation_find(d, s))
		return -EBUSY;
	i = malloc(sizeof(*i) + blocks);
	if (!i)
		return -ENOMEM;
	i->next = d->isolations;
	i->d = d;
	i->section = s;
	i->start = mm_section_start(mm, s);
	i->end = i->start + (1u << mm->config.section_order);
	d->isolations = i;
	for (pfn_t pfn = i->start; pfn < i->end; pfn += CHUNK_FRAMES)
		chunk_isolate(i, pfn);
	*ret = i;
	return 0;
}

struct mm_isolation *mm_section_unisolate(struct mm_isolation *i)
{
	if (!i)
		return NULL;
	LOCK_SCOPED(&i->d->hotplug);
	for (pfn_t pfn = i->start; pfn < i->end; pfn += CHUNK_FRAMES)
		chunk_unisolate(i, pfn);
	return isolation_drop(i);
}

uint64_t mm_section_busy(const struct mm_isolation *i)
{
	uint64_t free = 0;

	for (pfn_t pfn = i->start; pfn < i->end; pfn += CHUNK_FRAMES)
		free += chunk_free(isolation_zone(i), pfn, false);
	return i->d->mm->geometry[i->section.nr].managed - free;
}

int mm_domain_offline(struct mm_isolation *i)
{
	struct mm_domain *d = i->d;
	LOCK_SCOPED(&d->hotplug);

	if (mm_section_busy(i))
		return -EBUSY;
	for (pfn_t pfn = i->start; pfn < i->end; pfn += CHUNK_FRAMES)
		chunk_free(isolation_zone(i), pfn, true);
	zone_unaccount_section(d, i->section);
	for (pfn_t pfn = i->start; pfn < i->end; pfn += PAGEBLOCK_NR_PAGES)
		mm_pageblock_set_type(d->mm, pfn, MIGRATE_MOVABLE);
	d->mm->owner[i->section.nr] = NULL;
	isolation_drop(i);
	return 0;
}
