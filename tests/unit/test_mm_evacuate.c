/* SPDX-License-Identifier: MIT */
/*
 * Evacuating a section: things of one frame each, which a mover moves, refuses to move at random,
 * or that are pinned; no room, and room that comes later. The pool is that of test_mm_hotplug.h.
 * After every step the validator walks the structures, and each thing must be where the mover put
 * it.
 */
#include "mm/vmstat.h"
#include "tests/unit/test_mm_hotplug.h"

/* What the mover knows: a thing of one frame has the tag of its number plus one. */
static uint32_t thing_at[FRAMES]; /* number plus one */
static uint32_t refuse;           /* one of so many moves; 0: none */
static bool pinned[FRAMES];       /* by number: not movable */

static bool thing_movable(void *ctx, pfn_t from)
{
	(void)ctx;
	return thing_at[from] && !pinned[thing_at[from] - 1];
}

static bool thing_move(void *ctx, pfn_t from, pfn_t to)
{
	struct mm_block b;

	(void)ctx;
	ck_assert(section_of(to) != section_of(from));
	ck_assert_int_eq(zone_of(section_of(to)), zone_of(section_of(from)));
	ck_assert(!mm_block_get(pool.mm, to, &b));
	ck_assert_uint_eq(thing_at[to], 0);
	if (refuse && draw(refuse) == 0)
		return false;
	mm_block_settle(pool.mm, to, thing_at[from]);
	thing_at[to] = thing_at[from];
	thing_at[from] = 0;
	ck_assert(mm_block_take(pool.mm, from, &b));
	return true;
}

static void things_make(uint32_t n)
{
	memset(thing_at, 0, sizeof(thing_at));
	memset(pinned, 0, sizeof(pinned));
	refuse = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE | __GFP_MEMALLOC,
			                .cpu = MM_CPU_NONE, .tag = i + 1, .lowest = ZONE_MOVABLE };
		pfn_t pfn;

		ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
		thing_at[pfn] = i + 1;
	}
}

static void thing_free(pfn_t pfn)
{
	mm_free_pages(pool.domain, MM_CPU_NONE, pfn, MM_FREE_DIRECT);
	thing_at[pfn] = 0;
}

static uint32_t things_of(uint32_t s)
{
	uint32_t n = 0;

	for (pfn_t pfn = s * SECTION_FRAMES; pfn < (s + 1) * SECTION_FRAMES; pfn++)
		n += thing_at[pfn] != 0;
	return n;
}

static void things_check(uint32_t n)
{
	uint32_t found = 0;

	valid();
	for (pfn_t pfn = 0; pfn < FRAMES; pfn++) {
		struct mm_block b;

		if (!thing_at[pfn])
			continue;
		found++;
		if (!mm_block_get(pool.mm, pfn, &b) || b.tag != thing_at[pfn] || b.order)
			ck_abort_msg("thing %u is not at frame %u", thing_at[pfn] - 1, pfn);
	}
	ck_assert_uint_eq(found, n);
}

static struct compact_control evacuation(uint32_t s)
{
	struct compact_control cc = { .d = pool.domain, .movable = thing_movable,
		                      .move = thing_move };

	compaction_evacuate_begin(&cc, section(s));
	ck_assert_int_eq(cc.zone, ZONE_MOVABLE);
	return cc;
}

START_TEST(things_move_out)
{
	uint64_t moves = vm_counted(pool.domain, VM_PGMIGRATE_SUCCESS);
	struct compact_control cc;
	enum compact_result r;
	struct mm_isolation *i;
	uint32_t steps = 0, in = 0;

	things_make(2 * SECTION_FRAMES);
	for (pfn_t pfn = MOVABLE_FIRST * SECTION_FRAMES; pfn < FRAMES; pfn++)
		if (thing_at[pfn] && draw(3) == 0)
			thing_free(pfn);
	for (uint32_t s = MOVABLE_FIRST; s < SECTIONS; s++)
		if (things_of(s))
			in = s;
	i = isolate(in);
	cc = evacuation(in);
	while ((r = compaction_evacuate_step(&cc, 100)) == COMPACT_CONTINUE) {
		steps++;
		valid();
	}
	ck_assert_int_eq(r, COMPACT_COMPLETE);
	ck_assert_uint_eq(steps, SECTION_FRAMES / 100);
	ck_assert_uint_gt(cc.moved, 0);
	ck_assert_uint_eq(cc.failed, 0);
	ck_assert_uint_eq(vm_counted(pool.domain, VM_PGMIGRATE_SUCCESS) - moves, cc.moved);
	ck_assert_uint_eq(things_of(in), 0);
	ck_assert_uint_eq(mm_section_busy(i), 0);
	/* done is done */
	ck_assert_int_eq(compaction_evacuate_step(&cc, 100), COMPACT_COMPLETE);
	offline(i, in);
	things_check(things_of(20) + things_of(21) + things_of(22) + things_of(23));
}
END_TEST

START_TEST(what_would_not_move_stays)
{
	struct mm_request slab = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = MM_CPU_NONE, .slab = true,
		                   .lowest = ZONE_MOVABLE };
	struct compact_control cc;
	struct mm_isolation *i;
	struct mm_block b;
	uint64_t failed = 0;
	pfn_t large, object, leaving;
	uint32_t in;

	ck_assert(alloc(ZONE_MOVABLE, 5, MM_CPU_NONE, 0, &large));
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &slab, &object), 0);
	ck_assert(alloc(ZONE_MOVABLE, 0, MM_CPU_NONE, 0, &leaving));
	things_make(1000);
	in = section_of(large);
	ck_assert_uint_eq(section_of(object), in);
	ck_assert_uint_eq(section_of(leaving), in);
	ck_assert(mm_block_take(pool.mm, leaving, &b));
	pinned[3] = pinned[500] = true;
	refuse = 4;
	i = isolate(in);
	for (uint32_t round = 0; round < 40 && things_of(in) > 2; round++) {
		cc = evacuation(in);
		while (compaction_evacuate_step(&cc, 333) == COMPACT_CONTINUE)
			;
		/* each that stayed, the three that are no things among them */
		ck_assert_uint_eq(cc.failed, things_of(in) + 3);
		failed += cc.failed - 5;
		valid();
	}
	ck_assert_uint_eq(things_of(in), 2);
	ck_assert_uint_gt(failed, 0);
	ck_assert_uint_eq(vm_counted(pool.domain, VM_PGMIGRATE_FAIL), failed);
	ck_assert_uint_eq(mm_section_busy(i), 2 + 32 + 1 + 1);
	ck_assert_int_eq(mm_domain_offline(i), -EBUSY);
	things_check(1000);
	mm_free_pages(pool.domain, 0, large, MM_FREE_CACHED);
	mm_free_pages(pool.domain, 0, object, MM_FREE_CACHED);
	mm_free_pages(pool.domain, 0, leaving, MM_FREE_CACHED);
	pinned[3] = pinned[500] = false;
	refuse = 0;
	cc = evacuation(in);
	ck_assert_int_eq(compaction_evacuate_step(&cc, UINT32_MAX), COMPACT_COMPLETE);
	offline(i, in);
	things_check(1000);
}
END_TEST

START_TEST(no_room_to_move_to)
{
	struct compact_control cc;
	struct mm_isolation *i, *second;
	uint32_t n = 4 * SECTION_FRAMES;
	pfn_t pfn;

	things_make(n);
	i = isolate(21);
	cc = evacuation(21);
	ck_assert_int_eq(compaction_evacuate_step(&cc, 1000), COMPACT_PARTIAL_SKIPPED);
	ck_assert_uint_eq(cc.moved, 0);
	/* it goes on where it stands when there is room, for as far as that goes */
	for (uint32_t k = 0; k < 10; k++)
		thing_free(22 * SECTION_FRAMES + 7 * k);
	valid();
	ck_assert_int_eq(compaction_evacuate_step(&cc, 1000), COMPACT_PARTIAL_SKIPPED);
	ck_assert_uint_eq(cc.moved, 10);
	ck_assert_uint_eq(mm_section_busy(i), SECTION_FRAMES - 10);
	/* room in another section that is to leave is none */
	second = isolate(23);
	for (pfn = 23 * SECTION_FRAMES; pfn < 24 * SECTION_FRAMES; pfn++)
		thing_free(pfn);
	ck_assert_int_eq(compaction_evacuate_step(&cc, 1000), COMPACT_PARTIAL_SKIPPED);
	ck_assert_uint_eq(cc.moved, 10);
	/* of any type and in blocks of any size it is */
	undo(second);
	{
		struct zone *z = domain_zone(pool.domain, 0, ZONE_MOVABLE);
		LOCK_SCOPED(&z->lock);

		for (uint32_t k = 0; k < 2; k++) {
			pfn_t at = 23 * SECTION_FRAMES + k * 1024;

			buddy_list_del(z, at, MAX_PAGE_ORDER, MIGRATE_MOVABLE);
			buddy_retag(z, at, k ? MIGRATE_RECLAIMABLE : MIGRATE_UNMOVABLE);
			buddy_retag(z, at + 512, k ? MIGRATE_RECLAIMABLE : MIGRATE_UNMOVABLE);
			buddy_insert(z, at, MAX_PAGE_ORDER, true);
		}
	}
	valid();
	while (compaction_evacuate_step(&cc, 1000) == COMPACT_CONTINUE)
		valid();
	ck_assert_uint_eq(things_of(21), 0);
	ck_assert_uint_eq(things_of(23), SECTION_FRAMES - 10);
	offline(i, 21);
	things_check(n - 10 - SECTION_FRAMES);
}
END_TEST

static void close_pool(void)
{
	test_pool_close(&pool);
}

int main(void)
{
	Suite *s = suite_create("mm_evacuate");
	TCase *t = tcase_create("evacuate");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, open_pool, close_pool);
	tcase_add_test(t, things_move_out);
	tcase_add_test(t, what_would_not_move_stays);
	tcase_add_test(t, no_room_to_move_to);
	suite_add_tcase(s, t);
	return suite_status(s);
}
