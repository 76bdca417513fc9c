/* SPDX-License-Identifier: MIT */
/*
 * Evacuation: emptying a section that is to leave (hotplug.c).
 *
 * Concept: one scanner walks through the isolated section from its first frame to its last. What it
 * finds that can move, a block of one frame, moves as in compaction (compaction.c has the steps of
 * a move, and what a death leaves of each). But where to is another question here. Compaction fills
 * up the zone's other end and leaves large blocks alone; a section that must go takes whatever
 * frame there is, and what costs least is the smallest free block, of movable ones first: the head
 * of a list. So there is no second scanner.
 *
 *        the isolated section                     the rest of the zone
 *     |  .....#....##.#  |             | Movable lists, then Reclaimable, then Unmovable |
 *           migrate_pfn ──►  a move  ──►  smallest sufficient block of the first that has one
 *
 * Isolate lists are none of these: nothing moves within the section, nor into another one that is
 * to leave. Nothing is allocated in the section any more once per-CPU lists are drained, so what is
 * behind the scanner stays empty, but for what would not move.
 *
 * Watermarks are not looked at: who wants the section to go wants the zone that small, and who cannot
 * wait finds less than usual.
 *
 * Locking: one step of a domain at a time, compaction's included; the zone's lock for each target.
 * Complexity: O(frames of the section), O(orders) a move.
 */
#include "compaction_private.h"
#include "vmstat.h"

/* A frame of a free block that is not isolated, as a claimed block. PFN_NONE: there is none. */
static pfn_t target_take(struct compact_control *cc, struct zone *z, uint32_t migratetype)
{
	static const uint8_t types[] = { MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE };
	struct buddy_batch batch;
	pfn_t pfn;

	batch.nr = 0;
	{
		LOCK_SCOPED(&z->lock);
		for (uint32_t i = 0; i < sizeof(types) && batch.nr == 0; i++)
			buddy_take(z, 0, types[i], 1, &batch);
		if (batch.nr == 0)
			return PFN_NONE;
		buddy_count_free(z, -1);
	}
	pfn = batch.block[0].pfn;
	compaction_target_claim(cc, z, pfn, migratetype);
	return pfn;
}

void compaction_evacuate_begin(struct compact_control *cc, section_id_t s)
{
	const struct mm *mm = cc->d->mm;

	cc->node = mm->geometry[s.nr].node;
	cc->zone = (enum zone_type)mm->geometry[s.nr].zone;
	cc->migrate_pfn = mm_section_start(mm, s);
	cc->free_pfn = cc->migrate_pfn + (1u << mm->config.section_order);
}

/* The block at the scanner. False: there was no frame to move it to. */
static bool evacuate_one(struct compact_control *cc, struct zone *z, uint64_t w)
{
	pfn_t from = cc->migrate_pfn, to;

	if (!compaction_source(cc, from, w)) {
		cc->failed++;
		return true;
	}
	to = target_take(cc, z, page_word_migratetype(w));
	if (to == PFN_NONE)
		return false;
	vm_count(cc->d, compaction_move(cc, z, from, to) ? VM_PGMIGRATE_SUCCESS : VM_PGMIGRATE_FAIL,
	         1);
	return true;
}

enum compact_result compaction_evacuate_step(struct compact_control *cc, uint32_t frames)
{
	struct zone *z = domain_zone(cc->d, cc->node, cc->zone);

	cc->stop = cc->migrate_scanned + frames;
	while (cc->migrate_pfn < cc->free_pfn) {
		uint64_t w = page_peek(&z->mm->page[cc->migrate_pfn]);
		uint32_t size = 1;

		if (cc->migrate_scanned >= cc->stop)
			return COMPACT_CONTINUE;
		cc->migrate_scanned++;
		if (w & PAGE_ALLOCATED) {
			if (!evacuate_one(cc, z, w))
				return COMPACT_PARTIAL_SKIPPED;
			size <<= page_word_order(w);
		}
		cc->migrate_pfn += size;
	}
	return COMPACT_COMPLETE;
}
