/* SPDX-License-Identifier: MIT */
/* Buddy: splitting, merging, list order, migrate types, claim and steal, high-atomic reserve,
 * watermarks as requests meet them. */
#include <check.h>

#include "mm/buddy.h"
#include "mm/watermark.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

static struct test_pool pool;
static pfn_t held[2 * 131072]; /* blocks given back keep their entry */
static size_t nr_held;

/* One zone (DMA32 where the pool exceeds 16 MiB: all of it is made Normal here). */
static void open_normal(uint32_t mib)
{
	struct mm_config c;

	mm_config_default(&c, ((uint64_t)mib << 20) >> PAGE_SHIFT);
	c.dma_end = 0;
	c.dma32_end = 0;
	test_pool_open(&pool, &c);
	nr_held = 0;
}

static void stop(void)
{
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}

static int get(gfp_t gfp, uint32_t order, pfn_t *pfn)
{
	struct mm_request r = { .gfp = gfp, .order = order, .cpu = MM_CPU_NONE };

	return mm_alloc_pages(pool.domain, &r, pfn);
}

static void put(pfn_t pfn)
{
	mm_free_pages(pool.domain, MM_CPU_NONE, pfn, MM_FREE_DIRECT);
}

static void stats(struct mm_zone_stats *s)
{
	mm_zone_stats(pool.domain, 0, ZONE_NORMAL, s);
}

static void fill(gfp_t gfp, uint32_t order)
{
	while (get(gfp, order, &held[nr_held]) == 0)
		nr_held++;
}

START_TEST(split_gives_lower_half_and_merge_undoes_it)
{
	/* 16 MiB = four blocks of order 10; taking one frame splits one of them:
	 * order   0 1 2 … 9 10
	 * before  0 0 0   0 4
	 * after   1 1 1   1 3   */
	struct mm_zone_stats s;
	pfn_t a, b;

	open_normal(16);
	ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &a), 0);
	stats(&s);
	for (uint32_t o = 0; o < MAX_PAGE_ORDER; o++)
		ck_assert_uint_eq(s.nr_free[o], 1);
	ck_assert_uint_eq(s.nr_free[10], 3);
	ck_assert_uint_eq(a % 1024, 0);
	ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &b), 0);
	ck_assert_uint_eq(b, a + 1); /* the smallest block first: its buddy */
	ck_assert_uint_eq(s.free, 4095);
	ck_assert_uint_eq(s.free_blocks, 512 + 3 * 1024);
	put(a);
	put(b);
	stats(&s);
	ck_assert_uint_eq(s.nr_free[10], 4);
	ck_assert_uint_eq(s.free, 4096);
	ck_assert_uint_eq(s.alloc, 2);
	ck_assert_uint_eq(s.freed, 2);
	stop();
}
END_TEST

START_TEST(freed_last_is_used_first)
{
	pfn_t p[8], q;

	open_normal(16);
	for (uint32_t i = 0; i < 8; i++)
		ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &p[i]), 0);
	put(p[1]);
	put(p[5]);
	ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &q), 0);
	ck_assert_uint_eq(q, p[5]);
	stop();
}
END_TEST

START_TEST(half_of_a_pair_waits_at_the_end)
{
	/* p4 p5 free: a block of order 1. Freeing p6 leaves it a buddy short of order 2, so it goes
	 * behind p1 although it was freed later. */
	pfn_t p[8], q;

	open_normal(16);
	for (uint32_t i = 0; i < 8; i++)
		ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &p[i]), 0);
	put(p[4]);
	put(p[5]);
	put(p[1]);
	put(p[6]);
	ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &q), 0);
	ck_assert_uint_eq(q, p[1]);
	stop();
}
END_TEST

START_TEST(every_order_is_aligned_and_comes_back)
{
	struct mm_zone_stats before, after;
	pfn_t p[NR_PAGE_ORDERS];

	open_normal(32);
	stats(&before);
	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
		struct mm_block b;

		ck_assert_int_eq(get(GFP_KERNEL, o, &p[o]), 0);
		ck_assert_uint_eq(p[o] % (1u << o), 0);
		ck_assert(mm_block_get(pool.mm, p[o], &b));
		ck_assert_uint_eq(b.order, o);
		ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	}
	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++)
		put(p[o]);
	stats(&after);
	ck_assert_uint_eq(after.nr_free[10], before.nr_free[10]);
	stop();
}
END_TEST

START_TEST(whole_pageblocks_are_claimed)
{
	struct mm_zone_stats s;
	pfn_t a;

	open_normal(16);
	stats(&s);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_MOVABLE], 8);
	ck_assert_int_eq(get(GFP_KERNEL, 0, &a), 0);
	stats(&s);
	/* the largest block, both its pageblocks, without a boost */
	ck_assert_uint_eq(s.pageblocks[MIGRATE_UNMOVABLE], 2);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_MOVABLE], 6);
	ck_assert_uint_eq(s.claim, 1);
	ck_assert_uint_eq(s.steal, 0);
	ck_assert_uint_eq(s.boost, 0);
	put(a);
	/* merged again, it keeps the type */
	stats(&s);
	ck_assert_uint_eq(s.nr_free_type[MIGRATE_UNMOVABLE][10], 1);
	stop();
}
END_TEST

/* Movable blocks everywhere; `keep` of each eight frames stay allocated. */
static void checker(uint32_t keep)
{
	fill(GFP_KERNEL | __GFP_MOVABLE | __GFP_MEMALLOC, 0);
	for (size_t i = 0; i < nr_held; i++)
		if (held[i] % 8 >= keep)
			put(held[i]);
}

START_TEST(half_free_pageblocks_are_claimed_with_a_boost)
{
	struct mm_zone_stats s;
	pfn_t a;

	open_normal(16);
	checker(4); /* 256 of 512 frames free in blocks of order 2 */
	ck_assert_int_eq(get(GFP_KERNEL, 0, &a), 0);
	stats(&s);
	ck_assert_uint_eq(s.claim, 1);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_UNMOVABLE], 1);
	ck_assert_uint_eq(s.boost, 512);
	/* a boost shows in every mark */
	ck_assert_uint_eq(s.wmark[WMARK_MIN], 512 + 128);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	mm_tick(pool.domain);
	stats(&s);
	ck_assert_uint_eq(s.boost, 0);
	stop();
}
END_TEST

START_TEST(fuller_pageblocks_are_stolen_from)
{
	struct mm_zone_stats s;
	pfn_t a;

	open_normal(16);
	checker(5); /* 192 of 512 free */
	ck_assert_int_eq(get(GFP_KERNEL, 0, &a), 0);
	stats(&s);
	ck_assert_uint_eq(s.claim, 0);
	ck_assert_uint_eq(s.steal, 1);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_MOVABLE], 8);
	/* the attempts raised the boost all the same, to one and a half times high, at least 512 */
	ck_assert_uint_gt(s.boost, 0);
	put(a);
	stop();
}
END_TEST

START_TEST(small_movable_blocks_do_not_claim)
{
	/* an unmovable pool, half of each pageblock free in blocks of order 3 or 4: below half of
	 * a pageblock's order movable requests only steal, from there on they claim */
	static const uint32_t keep[] = { 8, 16 };

	for (uint32_t i = 0; i < 2; i++) {
		struct mm_zone_stats before, after;
		pfn_t a;

		open_normal(16);
		fill(GFP_KERNEL | __GFP_MEMALLOC, 0);
		for (size_t k = 0; k < nr_held; k++)
			if (held[k] % (2 * keep[i]) >= keep[i])
				put(held[k]);
		stats(&before);
		ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &a), 0);
		stats(&after);
		ck_assert_uint_eq(after.claim - before.claim, i);
		ck_assert_uint_eq(after.steal - before.steal, 1 - i);
		stop();
	}
}
END_TEST

START_TEST(alike_neighbours_help_a_claim)
{
	/* a quarter free: an unmovable request claims a movable pageblock only where at least
	 * another quarter is unmovable already */
	for (uint32_t alike = 0; alike < 2; alike++) {
		struct mm_zone_stats before, after;
		pfn_t a;

		open_normal(16);
		checker(6); /* 128 of 512 free */
		for (size_t k = 0; alike && k < nr_held; k++) {
			/* what was movable in half of what is left becomes something else */
			struct page *page = &pool.mm->page[held[k]];

			if (held[k] % 8 < 3)
				page_commit(page, page_word(0, MIGRATE_UNMOVABLE, TEST_DOMAIN, 0));
		}
		stats(&before);
		ck_assert_int_eq(get(GFP_KERNEL, 0, &a), 0);
		stats(&after);
		ck_assert_uint_eq(after.claim - before.claim, alike);
		stop();
	}
}
END_TEST

START_TEST(small_pools_do_not_group)
{
	struct mm_zone_stats s;
	struct mm_block b;
	pfn_t a;

	open_normal(8); /* 2048 frames, grouping needs 2560 */
	ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &a), 0);
	stats(&s);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_UNMOVABLE], 2);
	ck_assert(mm_block_get(pool.mm, a, &b));
	ck_assert_uint_eq(b.migratetype, MIGRATE_MOVABLE); /* what the request promised */
	stop();
}
END_TEST

START_TEST(each_kind_of_request_stops_at_its_mark)
{
	/* 64 MiB, one zone: min 256, and nothing reserved for other classes. The last success of
	 * each kind leaves exactly what is not its own: free > mark before, so free = mark after */
	struct mm_zone_stats s;
	uint64_t min;

	open_normal(64);
	stats(&s);
	min = s.wmark[WMARK_MIN];
	ck_assert_uint_eq(min, 256);
	fill(GFP_KERNEL | __GFP_MOVABLE, 0);
	stats(&s);
	ck_assert_uint_eq(s.free, min);
	fill(GFP_NOWAIT | __GFP_MOVABLE, 0); /* cannot wait, but no reserve either */
	stats(&s);
	ck_assert_uint_eq(s.free, min);
	fill(GFP_KERNEL | __GFP_HIGH | __GFP_MOVABLE, 0);
	stats(&s);
	ck_assert_uint_eq(s.free, min / 2);
	fill(GFP_ATOMIC | __GFP_MOVABLE, 0);
	stats(&s);
	ck_assert_uint_eq(s.free, min * 3 / 8);
	fill(GFP_ATOMIC | __GFP_MEMALLOC | __GFP_NOMEMALLOC | __GFP_MOVABLE, 0);
	stats(&s);
	ck_assert_uint_eq(s.free, min * 3 / 8);
	fill(GFP_KERNEL | __GFP_MEMALLOC | __GFP_MOVABLE, 0);
	stats(&s);
	ck_assert_uint_eq(s.free, 0);
	ck_assert_uint_gt(s.alloc_fail, 5);
	stop();
}
END_TEST

START_TEST(lower_zones_are_protected_from_higher_classes)
{
	struct mm_zone_stats dma;
	struct mm_config c;
	uint64_t free;

	mm_config_default(&c, 65536); /* 256 MiB: DMA, DMA32 */
	test_pool_open(&pool, &c);
	nr_held = 0;
	fill(GFP_KERNEL, 0);
	mm_zone_stats(pool.domain, 0, ZONE_DMA, &dma);
	/* min 45 and 240 for those that could have used DMA32 */
	ck_assert_uint_eq(dma.protection[ZONE_NORMAL], 240);
	ck_assert_uint_eq(dma.free, dma.wmark[WMARK_MIN] + 240);
	free = dma.free;
	fill(GFP_KERNEL | __GFP_DMA, 0);
	mm_zone_stats(pool.domain, 0, ZONE_DMA, &dma);
	ck_assert_uint_lt(dma.free, free);
	ck_assert_uint_eq(dma.free, dma.wmark[WMARK_MIN]);
	stop();
}
END_TEST

START_TEST(atomic_blocks_fill_a_reserve_that_others_leave)
{
	struct mm_zone_stats s;
	uint64_t min;
	pfn_t a, b;

	open_normal(512); /* 131072 frames: a hundredth is more than a pageblock */
	ck_assert_int_eq(get(GFP_ATOMIC, 3, &a), 0);
	stats(&s);
	min = s.wmark[WMARK_MIN];
	ck_assert_uint_eq(s.nr_highatomic, 0); /* no need yet */
	fill(GFP_KERNEL | __GFP_MOVABLE, 0);
	stats(&s);
	ck_assert_uint_eq(s.free, min);
	ck_assert_int_eq(get(GFP_ATOMIC, 3, &a), 0);
	stats(&s);
	ck_assert_uint_eq(s.nr_highatomic, 512);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_HIGHATOMIC], 1);
	ck_assert_uint_gt(zone_free_highatomic(&pool.domain->zones[ZONE_NORMAL]), 8);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	/* the next comes from the reserve */
	ck_assert_int_eq(get(GFP_ATOMIC, 3, &b), 0);
	ck_assert_uint_eq(b / 512, a / 512);
	/* those that wait do not touch it … */
	for (uint32_t i = 0; i < 800; i++)
		put(held[i]);
	ck_assert_int_eq(get(GFP_KERNEL, 0, &b), 0);
	stats(&s);
	ck_assert_uint_eq(s.nr_highatomic, 512);
	/* … until they would fail otherwise */
	fill(GFP_KERNEL, 0);
	stats(&s);
	ck_assert_uint_eq(s.nr_highatomic, 0);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_HIGHATOMIC], 0);
	ck_assert_uint_eq(s.free, min);
	stop();
}
END_TEST

START_TEST(the_reserve_has_a_limit_and_decays)
{
	struct mm_zone_stats s;
	struct zone *z;
	pfn_t p[4];

	open_normal(512);
	z = &pool.domain->zones[ZONE_NORMAL];
	/* a hundredth, 1310 frames, rounded up: three pageblocks */
	for (uint32_t i = 0; i < 4; i++) {
		ck_assert_int_eq(get(GFP_KERNEL, 9, &p[i]), 0);
		highatomic_reserve(z, p[i], 9);
	}
	stats(&s);
	ck_assert_uint_eq(s.nr_highatomic, 1536);
	ck_assert_uint_eq(s.pageblocks[MIGRATE_HIGHATOMIC], 3);
	for (uint32_t i = 0; i < 4; i++)
		put(p[i]);
	/* free now, but not mixed with its neighbours */
	ck_assert_uint_eq(zone_free_highatomic(z), 1536);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	/* one block a tick, the smallest first; here the pair merged to one of two pageblocks */
	mm_tick(pool.domain);
	stats(&s);
	ck_assert_uint_eq(s.nr_highatomic, 1024);
	mm_tick(pool.domain);
	stats(&s);
	ck_assert_uint_eq(s.nr_highatomic, 0);
	ck_assert(!highatomic_unreserve(z, MIGRATE_MOVABLE, true));
	ck_assert_uint_eq(s.nr_free[10], 128);
	stop();
}
END_TEST

START_TEST(nofragment_prefers_a_clean_lower_zone)
{
	/* Normal has only movable pageblocks left in parts; DMA32 has whole ones: an unmovable
	 * request goes there rather than mix */
	struct mm_config c;
	struct mm_block b;
	pfn_t a;

	mm_config_default(&c, 32768); /* 128 MiB */
	c.dma_end = 0;
	c.dma32_end = 16384;
	test_pool_open(&pool, &c);
	nr_held = 0;
	for (;;) {
		ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &held[nr_held]), 0);
		ck_assert(mm_block_get(pool.mm, held[nr_held], &b));
		if (b.zone != ZONE_NORMAL)
			break;
		nr_held++;
	}
	put(held[nr_held]);
	for (size_t i = 0; i < nr_held; i++)
		if (held[i] % 8 >= 5)
			put(held[i]);
	ck_assert_int_eq(get(GFP_KERNEL, 0, &a), 0);
	ck_assert(mm_block_get(pool.mm, a, &b));
	ck_assert_uint_eq(b.zone, ZONE_DMA32);
	ck_assert_int_eq(get(GFP_KERNEL | __GFP_MOVABLE, 0, &a), 0);
	ck_assert(mm_block_get(pool.mm, a, &b));
	ck_assert_uint_eq(b.zone, ZONE_NORMAL);
	stop();
}
END_TEST

START_TEST(bulk_is_complete_and_stops_where_single_does)
{
	struct mm_request r = { .gfp = GFP_KERNEL | __GFP_MOVABLE, .cpu = MM_CPU_NONE };
	struct mm_zone_stats s;
	size_t n;

	open_normal(64);
	n = mm_alloc_pages_bulk(pool.domain, &r, 16384, held);
	stats(&s);
	ck_assert_uint_eq(n, 16384 - s.wmark[WMARK_MIN]);
	ck_assert_uint_eq(s.alloc, n);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	mm_free_pages_bulk(pool.domain, MM_CPU_NONE, n, held, MM_FREE_DIRECT);
	stats(&s);
	ck_assert_uint_eq(s.nr_free[10], 16);
	r.gfp = __GFP_DMA | __GFP_DMA32;
	ck_assert_uint_eq(mm_alloc_pages_bulk(pool.domain, &r, 10, held), 0);
	ck_assert_int_eq(get(__GFP_DMA | __GFP_DMA32, 0, held), -EINVAL);
	ck_assert_int_eq(get(GFP_KERNEL, 11, held), -EINVAL);
	stop();
}
END_TEST

START_TEST(tags_change_in_place)
{
	struct mm_block b;
	pfn_t a;

	open_normal(16);
	ck_assert_int_eq(get(GFP_KERNEL | __GFP_RECLAIMABLE, 4, &a), 0);
	mm_block_set_tag(pool.mm, a, MM_TAG_MAX);
	ck_assert(mm_block_get(pool.mm, a, &b));
	ck_assert_uint_eq(b.tag, MM_TAG_MAX);
	ck_assert_uint_eq(b.order, 4);
	ck_assert_uint_eq(b.migratetype, MIGRATE_RECLAIMABLE);
	ck_assert_uint_eq(b.domain, TEST_DOMAIN);
	/* only heads are blocks; nothing beyond the pool */
	ck_assert(!mm_block_get(pool.mm, a + 1, &b));
	ck_assert(!mm_block_get(pool.mm, 4096, &b));
	ck_assert(!mm_block_get(pool.mm, PFN_NONE, &b));
	stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_buddy");
	TCase *t = tcase_create("buddy");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, split_gives_lower_half_and_merge_undoes_it);
	tcase_add_test(t, freed_last_is_used_first);
	tcase_add_test(t, half_of_a_pair_waits_at_the_end);
	tcase_add_test(t, every_order_is_aligned_and_comes_back);
	tcase_add_test(t, whole_pageblocks_are_claimed);
	tcase_add_test(t, half_free_pageblocks_are_claimed_with_a_boost);
	tcase_add_test(t, fuller_pageblocks_are_stolen_from);
	tcase_add_test(t, small_movable_blocks_do_not_claim);
	tcase_add_test(t, alike_neighbours_help_a_claim);
	tcase_add_test(t, small_pools_do_not_group);
	tcase_add_test(t, each_kind_of_request_stops_at_its_mark);
	tcase_add_test(t, lower_zones_are_protected_from_higher_classes);
	tcase_add_test(t, atomic_blocks_fill_a_reserve_that_others_leave);
	tcase_add_test(t, the_reserve_has_a_limit_and_decays);
	tcase_add_test(t, nofragment_prefers_a_clean_lower_zone);
	tcase_add_test(t, bulk_is_complete_and_stops_where_single_does);
	tcase_add_test(t, tags_change_in_place);
	suite_add_tcase(s, t);
	return suite_status(s);
}
