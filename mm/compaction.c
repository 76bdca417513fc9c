/* SPDX-License-Identifier: MIT */
/*
 * Compaction.
 *
 * Concept (Gorman 2010, as in Linux): two scanners walk through a zone towards each other. From the
 * bottom up the migrate scanner looks for allocated blocks of one frame; from the top down the free
 * scanner looks for free frames. What the one finds moves to what the other finds; behind the
 * migrate scanner the free frames grow together.
 *
 *      zone start                                                        zone end
 *     |  .....#....  |  ..#..#..##  |  ###.##.##.  |  ##########  |  #####.####  |
 *      freed          migrate_pfn ──►                    ◄── free_pfn       filled
 *
 * A run ends where the scanners meet, or, at a pageblock's end, when a block of the wanted order is
 * free. What may move, and moving it, is the caller's business (struct compact_control): mm/ knows
 * frames and no owners.
 *
 * One move, and what a death in between leaves:
 *   1. the free scanner's frame leaves its free list        a free frame, in no list: derived state
 *   2. its state word is stored: a claimed block, tag 0     a block that nobody owns, as when a
 *                                                           grant is cut short
 *   3. move(): the caller's commit                          either of the two serves
 *   4. the source's state word is cleared, it joins the free areas    a claimed block nobody owns
 * The target is claimed from the first moment on (as by mm_block_take), so that nobody who frees
 * blocks by what clients say gets at it while something moves there. At the next start the caller's
 * truth decides which blocks stay; there is nothing to undo. Between two moves every frame is where
 * mm_validate() wants it.
 *
 * When it is worth it, after Linux: there must be room to move (the watermark and twice the block);
 * for more than 8 frames also the fragmentation index must say that it is fragmentation and not want
 * of memory. A run that fails defers the next ones, by powers of two up to 64. Where a pageblock
 * had nothing that moved, the next run passes it by, until compaction_tick() forgets that; and it
 * begins where the last one ended. A run for the whole zone looks at everything.
 *
 * Free blocks that are large enough already are no targets: of the wanted order, or a pageblock.
 * Nor are high-atomic pageblocks, nor isolated ones.
 *
 * Either scanner ends the step when it has had enough frames, the free scanner in the middle of its
 * search, too: the next step finds the same source and searches on from there.
 *
 * Locking: one step of a domain at a time; the zone's lock for each target, for at most
 * COMPACT_CLUSTER frames. Complexity: O(frames of the zone) a run, O(orders) a target.
 */
#include "buddy.h"
#include "compaction_private.h"
#include "vmstat.h"
#include "watermark.h"

#define COMPACT_CLUSTER 32u /* frames that the free scanner looks at under one hold */
#define COMPACT_MAX_DEFER_SHIFT 6u
#define COMPACT_EXTFRAG_THRESHOLD 500

_Static_assert(COMPACT_SUCCESS > COMPACT_COMPLETE && COMPACT_COMPLETE > COMPACT_CONTINUE,
               "of several results the largest counts");

static struct zone *control_zone(const struct compact_control *cc)
{
	return domain_zone(cc->d, cc->node, cc->zone);
}

/* ---- how fragmented ---- */

struct fill {
	uint64_t frames;   /* free */
	uint64_t blocks;   /* free ones, of any order */
	uint64_t suitable; /* blocks of the order that could be cut from them */
};

/* free lists, counted as the fragmentation index wants it; high-atomic ones too, as Linux does, but
 * what is isolated is not there for anybody */
static struct fill zone_fill(struct zone *z, uint32_t order)
{
	struct fill f = { 0 };

	LOCK_SCOPED(&z->lock);
	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
		uint64_t n = 0;

		for (uint32_t t = 0; t < MIGRATE_ISOLATE; t++)
			n += z->list[o][t].nr;
		f.blocks += n;
		f.frames += n << o;
		if (o >= order)
			f.suitable += n << (o - order);
	}
	return f;
}

int32_t compaction_fragmentation_index(const struct mm_domain *d, uint32_t node, enum zone_type zone,
                                       uint32_t order)
{
	struct fill f;

	if (order > MAX_PAGE_ORDER)
		return 0;
	f = zone_fill(domain_zone(d, node, zone), order);
	if (f.blocks == 0)
		return 0;
	if (f.suitable)
		return -1000;
	return 1000 - (int32_t)((1000 + f.frames * 1000 / ((uint64_t)1 << order)) / f.blocks);
}

uint32_t compaction_score(const struct mm_domain *d, uint32_t node, enum zone_type zone)
{
	struct fill f = zone_fill(domain_zone(d, node, zone), PAGEBLOCK_ORDER);

	if (f.frames == 0)
		return 0;
	return (uint32_t)((f.frames - (f.suitable << PAGEBLOCK_ORDER)) * 100 / f.frames);
}

enum compact_result compaction_suitable(const struct mm_domain *d, uint32_t node, enum zone_type zone,
                                        uint32_t order, uint32_t class)
{
	const struct zone *z = domain_zone(d, node, zone);
	uint64_t mark = zone_wmark(z, WMARK_MIN);
	int32_t index;

	/* no such block can exist in the zone: max_order is one more than that of the largest */
	if (order >= relaxed_load(&z->max_order))
		return COMPACT_NOT_SUITABLE_ZONE;
	if (zone_watermark_ok(z, order, mark, class, 0))
		return COMPACT_SUCCESS;
	if (order > PAGE_ALLOC_COSTLY_ORDER)
		mark = zone_wmark(z, WMARK_LOW);
	if (!zone_watermark_ok(z, 0, mark + ((uint64_t)2 << order), class, 0))
		return COMPACT_SKIPPED;
	if (order <= PAGE_ALLOC_COSTLY_ORDER)
		return COMPACT_CONTINUE;
	index = compaction_fragmentation_index(d, node, zone, order);
	return index >= 0 && index <= COMPACT_EXTFRAG_THRESHOLD ? COMPACT_NOT_SUITABLE_ZONE :
	                                                          COMPACT_CONTINUE;
}

/* ---- deferral ---- */

void compaction_defer(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t order)
{
	struct zone *z = domain_zone(d, node, zone);

	z->compact_considered = 0;
	if (z->compact_defer_shift < COMPACT_MAX_DEFER_SHIFT)
		z->compact_defer_shift++;
	if (order < z->compact_order_failed)
		z->compact_order_failed = order;
}

bool compaction_deferred(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t order)
{
	struct zone *z = domain_zone(d, node, zone);
	uint32_t limit = 1u << z->compact_defer_shift;

	if (order < z->compact_order_failed)
		return false;
	if (++z->compact_considered < limit)
		return true;
	z->compact_considered = limit;
	return false;
}

void compaction_defer_reset(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t order,
                            bool got)
{
	struct zone *z = domain_zone(d, node, zone);

	if (got) {
		z->compact_considered = 0;
		z->compact_defer_shift = 0;
	}
	if (order >= z->compact_order_failed)
		z->compact_order_failed = order + 1;
}

/* Deferred for as long as can be, and due again: the zone may be another by now. */
static bool restarting(const struct zone *z, uint32_t order)
{
	return order >= z->compact_order_failed &&
	       z->compact_defer_shift == COMPACT_MAX_DEFER_SHIFT &&
	       z->compact_considered >= 1u << COMPACT_MAX_DEFER_SHIFT;
}

/* ---- pageblocks to pass by ---- */

static bool skip_test(const struct mm *mm, pfn_t pfn)
{
	return mm->compact_skip[pfn >> PAGEBLOCK_ORDER];
}

static void skip_set(struct mm *mm, pfn_t pfn, bool skip)
{
	mm->compact_skip[pfn >> PAGEBLOCK_ORDER] = skip;
}

void compaction_zone_reset(struct zone *z)
{
	pfn_t end = z->start + z->span;

	/* first: a section that comes or goes meanwhile sets it again */
	relaxed_store(&z->compact_blockskip_flush, false);
	for (pfn_t pfn = z->start; pfn < end; pfn += PAGEBLOCK_NR_PAGES)
		skip_set(z->mm, pfn, false);
	z->compact_init_migrate_pfn = z->start;
	z->compact_init_free_pfn = end;
	z->compact_cached_migrate_pfn[0] = z->compact_cached_migrate_pfn[1] = z->start;
	z->compact_cached_free_pfn = end;
}

void compaction_tick(struct mm_domain *d)
{
	for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++)
		if (relaxed_load(&d->zones[i].compact_blockskip_flush))
			compaction_zone_reset(&d->zones[i]);
}

uint32_t compaction_wanted(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t *class)
{
	/* relaxed: a wish; who missed something else meanwhile is seen the next time */
	uint32_t w = atomic_exchange_explicit(&domain_zone(d, node, zone)->compact_wanted, 0,
	                                      memory_order_relaxed);

	*class = COMPACT_WANTED_CLASS(w);
	return COMPACT_WANTED_ORDER(w);
}

/* ---- the free scanner ---- */

/* Takes the frame out of the free block of 2^order at head that it lies in. Zone's lock. */
static void frame_extract(struct zone *z, pfn_t pfn, pfn_t head, uint32_t order, uint32_t type)
{
	buddy_list_del(z, head, order, type);
	while (order-- > 0) {
		pfn_t half = head + ((pfn_t)1 << order);

		if (pfn >= half) {
			buddy_list_add(z, head, order, type, false);
			head = half;
		} else {
			buddy_list_add(z, half, order, type, false);
		}
	}
	buddy_count_free(z, -1);
}

/* The free block around the frame. Zone's lock. */
static bool free_block_at(const struct zone *z, pfn_t pfn, pfn_t *head, uint32_t *order)
{
	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
		pfn_t at = pfn & ~(((pfn_t)1 << o) - 1);

		if (!mm_is_free(z->mm, at, o))
			continue;
		*head = at;
		*order = o;
		return true;
	}
	return false;
}

/* The zone's range may have sections of other domains, and such as are of none. Zone's lock. */
static bool section_is_ours(const struct zone *z, section_id_t s)
{
	struct section_info info;

	mm_section_get(z->mm, s, &info);
	return info.state == SECTION_ONLINE && info.domain == z->domain->id;
}

static bool scanners_met(const struct compact_control *cc)
{
	return cc->free_pfn <= cc->migrate_pfn + 1;
}

static bool step_over(const struct compact_control *cc)
{
	return cc->migrate_scanned + cc->free_scanned >= cc->stop;
}

/* One look from the top down, under one hold. PFN_NONE: none among these, or the scanners met. */
static pfn_t target_scan(struct compact_control *cc, struct zone *z, uint32_t keep)
{
	LOCK_SCOPED(&z->lock);
	for (uint32_t i = 0; i < COMPACT_CLUSTER && !scanners_met(cc); i++) {
		pfn_t pfn = cc->free_pfn - 1, head;
		uint32_t order, type;

		cc->free_pfn = pfn;
		cc->free_scanned++;
		if (!section_is_ours(z, mm_section_of(z->mm, pfn))) {
			cc->free_pfn = mm_section_start(z->mm, mm_section_of(z->mm, pfn));
			continue;
		}
		if (!free_block_at(z, pfn, &head, &order))
			continue;
		type = BUDDY_MT(*mm_mark(z->mm, head, order));
		if (type >= MIGRATE_PCPTYPES || order >= keep) {
			cc->free_pfn = head;
			continue;
		}
		frame_extract(z, pfn, head, order, type);
		return pfn;
	}
	return PFN_NONE;
}

/* The next free frame above the migrate scanner, as a claimed block. PFN_NONE: they met, or the
 * step is over. */
static pfn_t target_take(struct compact_control *cc, struct zone *z, uint32_t migratetype)
{
	uint32_t keep = cc->order < PAGEBLOCK_ORDER ? cc->order : PAGEBLOCK_ORDER;
	pfn_t pfn;

	/* a block of two frames is worth nothing when one frame is wanted to be two */
	if (keep == 0)
		keep = 1;
	/* once at least, so that each step gets further */
	do
		pfn = target_scan(cc, z, keep);
	while (pfn == PFN_NONE && !scanners_met(cc) && !step_over(cc));
	if (pfn != PFN_NONE)
		compaction_target_claim(cc, z, pfn, migratetype);
	return pfn;
}

/* ---- the migrate scanner ---- */

/* False: no frame to move to was found, as target_take() says. */
static bool source_move(struct compact_control *cc, struct zone *z, pfn_t from, uint64_t w)
{
	pfn_t to = target_take(cc, z, page_word_migratetype(w));

	if (to == PFN_NONE)
		return false;
	if (compaction_move(cc, z, from, to))
		cc->block_moved = true;
	else
		cc->free_pfn = to + 1;
	return true;
}

/* ---- a run ---- */

static uint32_t gained_order(const struct compact_control *cc)
{
	return cc->order <= MAX_PAGE_ORDER ? cc->order : PAGEBLOCK_ORDER;
}

/* A block is there: the allocator takes it wherever it is, by its own list, by claim or by steal. */
static bool block_exists(const struct compact_control *cc, const struct zone *z)
{
	uint32_t lists = 0;

	if (cc->order > MAX_PAGE_ORDER)
		return false;
	for (uint32_t t = 0; t < MIGRATE_PCPTYPES; t++)
		lists |= relaxed_load(&z->nonempty[t]);
	return lists >> cc->order != 0;
}

static bool contented(const struct compact_control *cc, const struct zone *z)
{
	if (cc->proactive)
		return compaction_score(cc->d, cc->node, cc->zone) <= COMPACT_SCORE_LOW;
	return block_exists(cc, z);
}

/* The zone remembers where to go on. */
static void position_keep(const struct compact_control *cc, struct zone *z)
{
	if (!cc->whole_zone)
		z->compact_cached_migrate_pfn[0] = cc->migrate_pfn;
	z->compact_cached_migrate_pfn[1] = cc->migrate_pfn;
	z->compact_cached_free_pfn = cc->free_pfn;
}

static enum compact_result finish(struct compact_control *cc, struct zone *z,
                                  enum compact_result result)
{
	cc->gained = (int64_t)zone_fill(z, gained_order(cc)).suitable - (int64_t)cc->blocks;
	position_keep(cc, z);
	return result;
}

static enum compact_result finish_met(struct compact_control *cc, struct zone *z)
{
	bool content = contented(cc, z);

	finish(cc, z, COMPACT_COMPLETE);
	/* the next run begins at the ends again */
	z->compact_cached_migrate_pfn[0] = z->compact_cached_migrate_pfn[1] =
		z->compact_init_migrate_pfn;
	z->compact_cached_free_pfn = z->compact_init_free_pfn;
	relaxed_store(&z->compact_blockskip_flush, true);
	if (content)
		return COMPACT_SUCCESS;
	return cc->whole ? COMPACT_COMPLETE : COMPACT_PARTIAL_SKIPPED;
}

enum compact_result compaction_begin(struct compact_control *cc)
{
	struct zone *z = control_zone(cc);
	enum compact_result suitable;

	if (relaxed_load(&z->managed) == 0)
		return COMPACT_NOT_SUITABLE_ZONE;
	if (cc->order != COMPACT_ORDER_ALL) {
		suitable = compaction_suitable(cc->d, cc->node, cc->zone, cc->order, cc->class);
		if (suitable != COMPACT_CONTINUE)
			return suitable;
		if (restarting(z, cc->order))
			compaction_zone_reset(z);
	}
	cc->migrate_pfn = z->compact_cached_migrate_pfn[cc->whole_zone ? 1 : 0];
	cc->free_pfn = z->compact_cached_free_pfn;
	if (cc->whole_zone || cc->migrate_pfn < z->start || cc->free_pfn > z->start + z->span ||
	    cc->migrate_pfn >= cc->free_pfn) {
		cc->migrate_pfn = z->compact_init_migrate_pfn;
		cc->free_pfn = z->compact_init_free_pfn;
	}
	cc->whole = cc->migrate_pfn == z->compact_init_migrate_pfn &&
	            cc->free_pfn == z->compact_init_free_pfn;
	cc->block = PFN_NONE;
	cc->blocks = zone_fill(z, gained_order(cc)).suitable;
	return COMPACT_CONTINUE;
}

/* The scanner stands at a pageblock's first frame. */
static enum compact_result block_boundary(struct compact_control *cc, struct zone *z)
{
	struct mm *mm = z->mm;

	if (cc->block != PFN_NONE) {
		if (!cc->block_moved)
			skip_set(mm, cc->block, true);
		cc->block = PFN_NONE;
		if (contented(cc, z))
			return finish(cc, z, COMPACT_SUCCESS);
	}
	cc->block_moved = false;
	while (!cc->whole_zone && cc->migrate_pfn < cc->free_pfn && skip_test(mm, cc->migrate_pfn))
		cc->migrate_pfn += PAGEBLOCK_NR_PAGES;
	return COMPACT_CONTINUE;
}

static enum compact_result scan(struct compact_control *cc, struct zone *z)
{
	while (!step_over(cc)) {
		pfn_t pfn;
		uint64_t w;

		if (cc->migrate_pfn % PAGEBLOCK_NR_PAGES == 0) {
			enum compact_result r = block_boundary(cc, z);

			if (r != COMPACT_CONTINUE)
				return r;
		}
		pfn = cc->migrate_pfn;
		if (scanners_met(cc))
			return finish_met(cc, z);
		w = page_peek(&z->mm->page[pfn]);
		cc->migrate_scanned++;
		if (compaction_source(cc, pfn, w) && !source_move(cc, z, pfn, w))
			continue;
		cc->block = pfn;
		cc->migrate_pfn = pfn + 1;
		if (w & PAGE_ALLOCATED)
			cc->migrate_pfn = pfn + ((pfn_t)1 << page_word_order(w));
	}
	position_keep(cc, z);
	return COMPACT_CONTINUE;
}

/* What happened since `was`. */
static void count(const struct compact_control *cc, const struct compact_control *was)
{
	uint64_t migrate = cc->migrate_scanned - was->migrate_scanned;
	uint64_t free = cc->free_scanned - was->free_scanned;

	vm_count(cc->d, VM_COMPACT_MIGRATE_SCANNED, migrate);
	vm_count(cc->d, VM_COMPACT_FREE_SCANNED, free);
	vm_count(cc->d, VM_COMPACT_ISOLATED, cc->isolated - was->isolated);
	vm_count(cc->d, VM_PGMIGRATE_SUCCESS, cc->moved - was->moved);
	vm_count(cc->d, VM_PGMIGRATE_FAIL, cc->failed - was->failed);
	if (!cc->background)
		return;
	vm_count(cc->d, VM_COMPACT_DAEMON_MIGRATE_SCANNED, migrate);
	vm_count(cc->d, VM_COMPACT_DAEMON_FREE_SCANNED, free);
}

enum compact_result compaction_step(struct compact_control *cc, uint32_t frames)
{
	struct compact_control was = *cc;
	enum compact_result r;

	cc->stop = cc->migrate_scanned + cc->free_scanned + frames;
	r = scan(cc, control_zone(cc));
	count(cc, &was);
	return r;
}
