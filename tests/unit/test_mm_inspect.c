/* SPDX-License-Identifier: MIT */
/*
 * Looking at frames: every frame of the pool lies in exactly one run, and the runs say what was done.
 */
#include <check.h>

#include "mm/inspect.h"
#include "mm/slab.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

#define MIB(n) ((uint64_t)(n) << (20 - PAGE_SHIFT))

static struct test_pool pool;

static void open_pool(void)
{
	struct mm_config c;

	mm_config_default(&c, MIB(64));
	c.cpus = 2;
	c.section_order = 10;
	test_pool_open(&pool, &c);
}

static void close_pool(void)
{
	test_pool_close(&pool);
}

static pfn_t alloc(uint32_t order, uint32_t cpu)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .order = order, .cpu = cpu, .tag = 5 };
	pfn_t pfn;

	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	return pfn;
}

/* Frames by state; the runs cover the pool without gap or overlap. */
static void count(uint64_t frames[MM_FRAME_SLAB + 1])
{
	struct mm_run run[MM_SCAN_FRAMES];
	pfn_t at = 0;

	memset(frames, 0, (MM_FRAME_SLAB + 1) * sizeof(frames[0]));
	while (at < pool.config.frames) {
		uint32_t n = mm_scan(pool.domain, at, run);

		ck_assert_uint_gt(n, 0);
		for (uint32_t i = 0; i < n; i++) {
			ck_assert_uint_eq(run[i].start, at);
			ck_assert_uint_gt(run[i].frames, 0);
			at += run[i].frames;
			frames[run[i].state] += run[i].frames;
		}
		ck_assert_uint_eq(at % MM_SCAN_FRAMES, 0);
	}
	ck_assert_uint_eq(at, pool.config.frames);
}

START_TEST(a_new_pool_is_free)
{
	uint64_t frames[MM_FRAME_SLAB + 1];
	struct mm_run r;

	count(frames);
	ck_assert_uint_eq(frames[MM_FRAME_FREE], MIB(64));
	ck_assert(mm_run_at(pool.domain, 1025, &r));
	ck_assert_int_eq(r.state, MM_FRAME_FREE);
	ck_assert_uint_eq(r.start, 1024);
	ck_assert_uint_eq(r.order, MAX_PAGE_ORDER);
	ck_assert_uint_eq(mm_pageblock_type_at(pool.mm, 1025), MIGRATE_MOVABLE);
}
END_TEST

START_TEST(a_block_is_found_from_each_of_its_frames)
{
	for (uint32_t order = 0; order <= MAX_PAGE_ORDER; order++) {
		pfn_t head = alloc(order, MM_CPU_NONE), step = order > 3 ? (1u << order) - 1 : 1;

		for (pfn_t pfn = head; pfn < head + (1u << order); pfn += step) {
			struct mm_run r;

			ck_assert(mm_run_at(pool.domain, pfn, &r));
			ck_assert_int_eq(r.state, MM_FRAME_BLOCK);
			ck_assert_uint_eq(r.start, head);
			ck_assert_uint_eq(r.frames, 1u << order);
			ck_assert_uint_eq(r.order, order);
			ck_assert_uint_eq(r.tag, 5);
			ck_assert_uint_eq(r.migratetype, MIGRATE_UNMOVABLE);
			ck_assert(!r.leaving);
		}
	}
}
END_TEST

START_TEST(counts_agree_with_the_zones)
{
	uint64_t frames[MM_FRAME_SLAB + 1], mine = 0;
	pfn_t pfn[11];

	for (uint32_t order = 0; order <= MAX_PAGE_ORDER; order++) {
		pfn[order] = alloc(order, 0);
		mine += 1u << order;
	}
	count(frames);
	ck_assert_uint_eq(frames[MM_FRAME_BLOCK], mine);
	ck_assert_uint_eq(frames[MM_FRAME_FREE], mm_nr_free(pool.domain));
	/* the refills of the cpu's lists */
	ck_assert_uint_gt(frames[MM_FRAME_PER_CPU], 0);
	ck_assert_uint_eq(frames[MM_FRAME_PER_CPU],
	                  test_pool_free_frames(&pool) - mm_nr_free(pool.domain));
	for (uint32_t order = 0; order <= MAX_PAGE_ORDER; order++)
		mm_free_pages(pool.domain, 0, pfn[order], MM_FREE_CACHED);
	mm_drain_cpu(pool.domain, 0);
	count(frames);
	ck_assert_uint_eq(frames[MM_FRAME_FREE], MIB(64));
}
END_TEST

START_TEST(claimed_blocks_and_slabs_are_told_apart)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .order = 1, .cpu = MM_CPU_NONE, .slab = true };
	pfn_t block = alloc(0, MM_CPU_NONE), slab;
	struct mm_block b;
	struct mm_run run;

	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &slab), 0);
	ck_assert(mm_run_at(pool.domain, slab + 1, &run));
	ck_assert_int_eq(run.state, MM_FRAME_SLAB);
	ck_assert_uint_eq(run.start, slab);
	ck_assert(mm_block_take(pool.mm, block, &b));
	ck_assert(mm_run_at(pool.domain, block, &run));
	ck_assert_int_eq(run.state, MM_FRAME_BLOCK);
	ck_assert(run.leaving);
}
END_TEST

START_TEST(what_is_in_no_zone_is_outside)
{
	struct mm_run run[MM_SCAN_FRAMES], r;

	mm_section_set(pool.mm, (section_id_t){ 3 }, SECTION_RETIRED, 0, 0, 1);
	ck_assert_uint_eq(mm_scan(pool.domain, 3 * 1024 + 77, run), 1);
	ck_assert_int_eq(run[0].state, MM_FRAME_OUTSIDE);
	ck_assert_uint_eq(run[0].start, 3 * 1024);
	ck_assert_uint_eq(run[0].frames, 1024);
	ck_assert_uint_eq(mm_scan(pool.domain, (pfn_t)MIB(64), run), 0);
	ck_assert_uint_eq(mm_scan(pool.domain, PFN_NONE, run), 0);
	ck_assert(!mm_run_at(pool.domain, (pfn_t)MIB(64), &r));
	mm_section_set(pool.mm, (section_id_t){ 3 }, SECTION_ONLINE, TEST_DOMAIN + 1, 0, 1);
	ck_assert(mm_run_at(pool.domain, 3 * 1024, &r));
	ck_assert_int_eq(r.state, MM_FRAME_OUTSIDE);
}
END_TEST

START_TEST(reserved_frames_are_not_free)
{
	uint64_t frames[MM_FRAME_SLAB + 1];
	struct test_pool p;
	struct mm_config c;
	struct mm_run r;

	mm_config_default(&c, MIB(64));
	c.section_order = 10;
	test_pool_prepare(&p, &c);
	ck_assert_int_eq(memblock_reserve(&p.mb, 5 << PAGE_SHIFT, 3 << PAGE_SHIFT, "hole"), 0);
	test_pool_start(&p);
	test_pool_online(&p);
	ck_assert(mm_run_at(p.domain, 6, &r));
	ck_assert_int_eq(r.state, MM_FRAME_RESERVED);
	ck_assert_uint_eq(r.start, 5);
	ck_assert_uint_eq(r.frames, 3);
	ck_assert(mm_run_at(p.domain, 4, &r));
	ck_assert_int_eq(r.state, MM_FRAME_FREE);
	ck_assert_uint_eq(r.order, 0);
	test_pool_close(&p);
	count(frames);
	ck_assert_uint_eq(frames[MM_FRAME_RESERVED], 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mm_inspect");
	TCase *tcase = tcase_create("runs");

	tcase_add_checked_fixture(tcase, open_pool, close_pool);
	tcase_add_test(tcase, a_new_pool_is_free);
	tcase_add_test(tcase, a_block_is_found_from_each_of_its_frames);
	tcase_add_test(tcase, counts_agree_with_the_zones);
	tcase_add_test(tcase, claimed_blocks_and_slabs_are_told_apart);
	tcase_add_test(tcase, what_is_in_no_zone_is_outside);
	tcase_add_test(tcase, reserved_frames_are_not_free);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
