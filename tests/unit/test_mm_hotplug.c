/* SPDX-License-Identifier: MIT */
/*
 * Isolating sections, and undoing it. Each test brings a section into some state (free, in use by
 * blocks of all orders, cached by cpus, part of the high-atomic reserve), isolates it, undoes that,
 * and compares with what must be the same or different afterwards; the validator walks the
 * structures after each step. The pool is that of test_mm_hotplug.h.
 */
#include "mm/watermark.h"
#include "tests/unit/test_mm_hotplug.h"

/* ---- isolating and undoing ---- */

START_TEST(a_free_section_and_back)
{
	struct mm_zone_stats before, during, after;
	struct mm_isolation *i;

	open_pool();
	for (uint32_t s = 0; s < SECTIONS; s++) {
		before = stats(zone_of(s));
		i = isolate(s);
		during = stats(zone_of(s));
		ck_assert_uint_eq(mm_section_busy(i), 0);
		ck_assert_uint_eq(during.free, before.free);
		ck_assert_uint_eq(during.managed, before.managed);
		ck_assert_uint_eq(during.free_isolated, SECTION_FRAMES);
		ck_assert_uint_eq(during.pageblocks[MIGRATE_ISOLATE], SECTION_BLOCKS);
		ck_assert_uint_eq(during.nr_free_type[MIGRATE_ISOLATE][MAX_PAGE_ORDER],
		                  SECTION_FRAMES >> MAX_PAGE_ORDER);
		undo(i);
		after = stats(zone_of(s));
		ck_assert_mem_eq(&after, &before, sizeof(after));
	}
	ck_assert_ptr_null(mm_section_unisolate(NULL));
	test_pool_close(&pool);
}
END_TEST

START_TEST(blocks_of_all_orders_and_back)
{
	static const enum zone_type zones[] = { ZONE_NORMAL, ZONE_HIGHMEM, ZONE_MOVABLE };
	uint32_t was[SECTION_BLOCKS], is[SECTION_BLOCKS];

	open_pool();
	for (uint32_t z = 0; z < 3; z++) {
		fill(zones[z]);
		free_some(2);
	}
	valid();
	for (uint32_t s = 0; s < SECTIONS; s++) {
		struct mm_zone_stats before = stats(zone_of(s)), after;
		struct mm_isolation *i;

		types_of(s, was);
		i = isolate(s);
		types_of(s, is);
		for (uint32_t k = 0; k < SECTION_BLOCKS; k++)
			ck_assert_uint_eq(is[k], MIGRATE_ISOLATE);
		/* what lies on per-CPU lists is busy, too */
		ck_assert_uint_ge(mm_section_busy(i), held(s));
		undo(i);
		types_of(s, is);
		ck_assert_mem_eq(is, was, sizeof(is));
		after = stats(zone_of(s));
		ck_assert_mem_eq(&after, &before, sizeof(after));
	}
	test_pool_close(&pool);
}
END_TEST

START_TEST(nobody_is_given_any_of_it)
{
	static const gfp_t ways[] = { GFP_KERNEL, GFP_ATOMIC, GFP_NOWAIT, __GFP_MEMALLOC,
		                      GFP_KERNEL | __GFP_RECLAIMABLE,
		                      GFP_ATOMIC | __GFP_MEMALLOC };
	struct mm_request bulk = { .gfp = __GFP_MEMALLOC, .cpu = 1 };
	struct mm_isolation *i;
	uint64_t busy;
	size_t n;

	open_pool();
	fill(ZONE_NORMAL);
	free_some(2);
	i = isolate(3);
	drain();
	busy = mm_section_busy(i);
	ck_assert_uint_eq(busy, held(3));
	ck_assert_uint_gt(busy, 0);
	ck_assert_uint_lt(busy, SECTION_FRAMES);
	for (uint32_t w = 0; w < 6; w++) {
		for (uint32_t order = NR_PAGE_ORDERS; order-- > 0;) {
			for (uint32_t c = 0; c < 3; c++) {
				while (alloc(ZONE_NORMAL, order, c == 2 ? MM_CPU_NONE : c, ways[w],
				             &block[nr])) {
					ck_assert(section_of(block[nr]) != 3);
					nr++;
				}
			}
		}
	}
	n = mm_alloc_pages_bulk(pool.domain, &bulk, 100, block + nr);
	for (size_t k = 0; k < n; k++)
		ck_assert(section_of(block[nr + k]) != 3);
	nr += (uint32_t)n;
	drain();
	while (alloc(ZONE_NORMAL, 0, MM_CPU_NONE, __GFP_MEMALLOC, &block[nr]))
		nr++;
	valid();
	/* all that is free in the zone is what is isolated */
	ck_assert_uint_eq(stats(ZONE_NORMAL).free, stats(ZONE_NORMAL).free_isolated);
	ck_assert_uint_eq(mm_section_busy(i), busy);
	ck_assert_uint_eq(stats(ZONE_NORMAL).free, SECTION_FRAMES - busy);
	/* undone, it is there for everybody again */
	undo(i);
	ck_assert(alloc(ZONE_NORMAL, 0, 0, __GFP_MEMALLOC, &block[nr]));
	ck_assert_uint_eq(section_of(block[nr++]), 3);
	test_pool_close(&pool);
}
END_TEST

START_TEST(what_is_freed_goes_past_the_caches)
{
	struct mm_pcp_stats p;
	struct mm_isolation *i;
	pfn_t pfn[64];

	open_pool();
	fill(ZONE_MOVABLE);
	i = isolate(21);
	ck_assert_uint_eq(mm_section_busy(i), SECTION_FRAMES);
	free_section(21);
	for (uint32_t c = 0; c < 2; c++) {
		mm_pcp_stats(pool.domain, 0, ZONE_MOVABLE, c, &p);
		ck_assert_uint_eq(p.count, 0);
	}
	valid();
	ck_assert_uint_eq(mm_section_busy(i), 0);
	ck_assert_uint_eq(stats(ZONE_MOVABLE).nr_free_type[MIGRATE_ISOLATE][MAX_PAGE_ORDER],
	                  SECTION_FRAMES >> MAX_PAGE_ORDER);
	undo(i);
	/* in bulk, too */
	for (uint32_t k = 0; k < 64; k++)
		ck_assert(alloc(ZONE_MOVABLE, k % 4, k % 2, __GFP_MEMALLOC, &pfn[k]));
	drain();
	i = isolate(21);
	mm_free_pages_bulk(pool.domain, 0, 32, pfn, MM_FREE_CACHED);
	mm_free_pages_bulk(pool.domain, MM_CPU_NONE, 32, pfn + 32, MM_FREE_CACHED);
	mm_pcp_stats(pool.domain, 0, ZONE_MOVABLE, 0, &p);
	ck_assert_uint_eq(p.count, 0);
	ck_assert_uint_eq(mm_section_busy(i), 0);
	valid();
	test_pool_close(&pool);
}
END_TEST

START_TEST(what_is_cached_comes_by_the_drain)
{
	struct mm_pcp_stats p;
	struct mm_isolation *i;

	open_pool();
	fill(ZONE_MOVABLE);
	free_section(22);
	mm_pcp_stats(pool.domain, 0, ZONE_MOVABLE, 0, &p);
	ck_assert_uint_gt(p.count, 0);
	i = isolate(22);
	ck_assert_uint_gt(mm_section_busy(i), 0);
	drain();
	valid();
	ck_assert_uint_eq(mm_section_busy(i), 0);
	undo(i);
	test_pool_close(&pool);
}
END_TEST

START_TEST(holes_are_left_alone)
{
	struct mm_zone_stats before, after;
	struct mm_isolation *i;

	prepare_pool();
	/* a whole pageblock, half of a block of the largest order, and parts of others */
	ck_assert_int_eq(memblock_reserve(&pool.mb,
	                                  (uint64_t)(20 * SECTION_FRAMES + 512) << PAGE_SHIFT,
	                                  (uint64_t)PAGEBLOCK_NR_PAGES << PAGE_SHIFT, "hole"),
	                 0);
	ck_assert_int_eq(memblock_reserve(&pool.mb,
	                                  (uint64_t)(20 * SECTION_FRAMES + 2000) << PAGE_SHIFT,
	                                  (uint64_t)700 << PAGE_SHIFT, "hole"),
	                 0);
	test_pool_start(&pool);
	test_pool_online(&pool);
	valid();
	before = stats(ZONE_MOVABLE);
	ck_assert_uint_eq(before.pageblocks[MIGRATE_MOVABLE], 4 * SECTION_BLOCKS - 2);
	i = isolate(20);
	ck_assert_uint_eq(stats(ZONE_MOVABLE).pageblocks[MIGRATE_ISOLATE], SECTION_BLOCKS - 2);
	ck_assert_uint_eq(stats(ZONE_MOVABLE).free_isolated, SECTION_FRAMES - 512 - 700);
	ck_assert_uint_eq(mm_section_busy(i), 0);
	undo(i);
	after = stats(ZONE_MOVABLE);
	ck_assert_mem_eq(&after, &before, sizeof(after));
	offline(isolate(20), 20);
	online(20);
	after = stats(ZONE_MOVABLE);
	ck_assert_mem_eq(&after, &before, sizeof(after));
	test_pool_close(&pool);
}
END_TEST

START_TEST(errors_change_nothing)
{
	struct mm_isolation *i, *other = (struct mm_isolation *)&pool;
	struct mm_zone_stats before, after;
	pfn_t pfn;

	prepare_pool();
	/* the last section is all reserved: metadata, in no zone */
	ck_assert_int_eq(memblock_reserve(&pool.mb, (uint64_t)23 * SECTION_FRAMES << PAGE_SHIFT,
	                                  (uint64_t)SECTION_FRAMES << PAGE_SHIFT, "metadata"),
	                 0);
	test_pool_start(&pool);
	mm_section_set(pool.mm, section(9), SECTION_RETIRED, 0, 0, 0);
	test_pool_online(&pool);
	ck_assert_int_eq(mm_section_isolate(&other, pool.domain, section(23)), -ENOENT);
	ck_assert_int_eq(mm_section_isolate(&other, pool.domain, section(24)), -ENOENT);
	ck_assert_int_eq(mm_section_isolate(&other, pool.domain, section(UINT32_MAX)), -ENOENT);
	ck_assert_int_eq(mm_section_isolate(&other, pool.domain, section(9)), -ENOENT);
	i = isolate(20);
	ck_assert_int_eq(mm_section_isolate(&other, pool.domain, section(20)), -EBUSY);
	ck_assert_ptr_eq(other, &pool);
	undo(i);
	/* in use: it stays as it is */
	ck_assert(alloc(ZONE_MOVABLE, 0, MM_CPU_NONE, 0, &pfn));
	i = isolate(section_of(pfn));
	before = stats(ZONE_MOVABLE);
	ck_assert_uint_eq(mm_section_busy(i), 1);
	ck_assert_int_eq(mm_domain_offline(i), -EBUSY);
	after = stats(ZONE_MOVABLE);
	ck_assert_mem_eq(&after, &before, sizeof(after));
	valid();
	mm_free_pages(pool.domain, 0, pfn, MM_FREE_CACHED);
	/* several may be isolated at once; those left over end with the domain */
	ck_assert_uint_eq(mm_section_busy(i), 0);
	isolate(1);
	isolate(17);
	undo(i);
	test_pool_close(&pool);
}
END_TEST

/* Two pageblocks of different types, freed in one batch that began before an isolation and ends
 * after it: while both were Isolate they looked as if they could join. */
START_TEST(types_that_change_below_a_batch)
{
	struct buddy_batch batch = { .nr = 0 };
	struct mm_isolation *i;
	struct zone *z;
	pfn_t start = 2 * SECTION_FRAMES, pfn;

	open_pool();
	z = domain_zone(pool.domain, 0, ZONE_NORMAL);
	do
		ck_assert(alloc(ZONE_NORMAL, PAGEBLOCK_ORDER, MM_CPU_NONE, __GFP_MEMALLOC, &pfn));
	while (pfn != start && pfn != start + PAGEBLOCK_NR_PAGES);
	ck_assert(alloc(ZONE_NORMAL, PAGEBLOCK_ORDER, MM_CPU_NONE, __GFP_MEMALLOC, &pfn));
	{
		LOCK_SCOPED(&z->lock);
		buddy_retag(z, start, MIGRATE_UNMOVABLE);
		buddy_retag(z, start + PAGEBLOCK_NR_PAGES, MIGRATE_MOVABLE);
	}
	page_commit(&pool.mm->page[start], 0);
	page_commit(&pool.mm->page[start + PAGEBLOCK_NR_PAGES], 0);
	ck_assert_int_eq(mm_section_isolate(&i, pool.domain, section(2)), 0);
	buddy_batch_push(z, &batch, start, PAGEBLOCK_ORDER);
	buddy_batch_push(z, &batch, start + PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER);
	ck_assert_uint_eq(batch.nr, 1);
	ck_assert_uint_eq(mm_section_busy(i), 2 * PAGEBLOCK_NR_PAGES);
	mm_section_unisolate(i);
	buddy_free_batch(z, &batch);
	valid();
	/* they joined, by the rule for types that mix */
	ck_assert(mm_is_free(pool.mm, start, MAX_PAGE_ORDER));
	ck_assert_uint_eq(mm_pageblock_type(pool.mm, start),
	                  mm_pageblock_type(pool.mm, start + PAGEBLOCK_NR_PAGES));
	test_pool_close(&pool);
}
END_TEST

/* Allocates a block and puts its pageblock into the reserve, as an urgent request does. */
static pfn_t reserve(uint32_t order, uint64_t frames)
{
	pfn_t pfn = PFN_NONE;

	ck_assert(alloc(ZONE_NORMAL, order, MM_CPU_NONE, GFP_ATOMIC, &pfn));
	highatomic_reserve(domain_zone(pool.domain, 0, ZONE_NORMAL), pfn, order);
	ck_assert_uint_eq(stats(ZONE_NORMAL).nr_highatomic, frames);
	return pfn;
}

START_TEST(the_high_atomic_reserve)
{
	static const uint32_t orders[] = { 1, PAGEBLOCK_ORDER, MAX_PAGE_ORDER };
	struct mm_isolation *i;
	struct zone *z;
	pfn_t pfn;

	open_pool();
	z = domain_zone(pool.domain, 0, ZONE_NORMAL);
	/* part of a pageblock, all of one whose neighbour is free, two; in use, and free */
	for (uint32_t k = 0; k < 6; k++) {
		uint32_t order = orders[k / 2], frames = 1u << order, type[SECTION_BLOCKS];

		pfn = reserve(order, frames < PAGEBLOCK_NR_PAGES ? PAGEBLOCK_NR_PAGES : frames);
		if (k % 2)
			mm_free_pages(pool.domain, 0, pfn, MM_FREE_DIRECT);
		valid();
		i = isolate(section_of(pfn));
		ck_assert_uint_eq(mm_section_busy(i), k % 2 ? 0 : frames);
		ck_assert_uint_eq(stats(ZONE_NORMAL).nr_highatomic, 0);
		ck_assert_uint_eq(stats(ZONE_NORMAL).pageblocks[MIGRATE_HIGHATOMIC], 0);
		ck_assert_uint_eq(zone_free_highatomic(z), 0);
		undo(i);
		types_of(section_of(pfn), type);
		for (uint32_t b = 0; b < SECTION_BLOCKS; b++)
			ck_assert_uint_lt(type[b], MIGRATE_PCPTYPES);
		/* a free one joined its neighbour */
		if (k % 2 == 0)
			ck_assert_uint_eq(mm_pageblock_type(pool.mm, pfn), MIGRATE_MOVABLE);
		ck_assert_uint_eq(stats(ZONE_NORMAL).nr_highatomic, 0);
		if (k % 2 == 0)
			mm_free_pages(pool.domain, 0, pfn, MM_FREE_DIRECT);
		ck_assert_uint_eq(stats(ZONE_NORMAL).nr_free[MAX_PAGE_ORDER],
		                  HIGHMEM_FIRST * SECTION_FRAMES >> MAX_PAGE_ORDER);
	}
	/* an isolated pageblock does not join it, nor comes anything of it from there */
	ck_assert(alloc(ZONE_NORMAL, 1, MM_CPU_NONE, GFP_ATOMIC, &pfn));
	i = isolate(section_of(pfn));
	highatomic_reserve(z, pfn, 1);
	ck_assert_uint_eq(stats(ZONE_NORMAL).nr_highatomic, 0);
	ck_assert(!highatomic_unreserve(z, MIGRATE_MOVABLE, true));
	valid();
	undo(i);
	test_pool_close(&pool);
}
END_TEST

/* ---- watermarks ---- */

START_TEST(what_is_isolated_is_not_free)
{
	struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = 0, .lowest = ZONE_MOVABLE };
	struct mm_isolation *i[4];
	const struct zone *z;
	pfn_t pfn[8];

	open_pool();
	z = domain_zone(pool.domain, 0, ZONE_MOVABLE);
	ck_assert_int_gt(compaction_fragmentation_index(pool.domain, 0, ZONE_MOVABLE, 3), -1001);
	for (uint32_t k = 0; k < 4; k++) {
		ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn[k]), 0);
		mm_free_pages(pool.domain, MM_CPU_NONE, pfn[k], MM_FREE_DIRECT);
		i[k] = isolate(MOVABLE_FIRST + k);
		drain();
	}
	ck_assert_uint_eq(stats(ZONE_MOVABLE).free, 4 * SECTION_FRAMES);
	ck_assert_uint_eq(stats(ZONE_MOVABLE).free_isolated, 4 * SECTION_FRAMES);
	/* by checks that look closely, and such that do not */
	ck_assert(!zone_watermark_ok(z, 0, 0, ZONE_MOVABLE, 0));
	ck_assert(!zone_watermark_ok(z, 0, 0, ZONE_MOVABLE, ALLOC_RESERVES));
	ck_assert(!zone_watermark_clear(z, 0, WMARK_MIN, ZONE_MOVABLE));
	ck_assert(!zone_watermark_fast(z, 0, WMARK_MIN, ZONE_MOVABLE, ALLOC_RESERVES));
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, pfn), -ENOMEM);
	r.order = 3;
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, pfn), -ENOMEM);
	ck_assert_uint_eq(mm_alloc_pages_bulk(pool.domain, &r, 8, pfn), 0);
	ck_assert_int_eq(compaction_fragmentation_index(pool.domain, 0, ZONE_MOVABLE, 3), 0);
	ck_assert_uint_eq(compaction_score(pool.domain, 0, ZONE_MOVABLE), 0);
	/* many at once stop at the watermark as well */
	undo(i[0]);
	r.order = 0;
	r.cpu = MM_CPU_NONE;
	nr = (uint32_t)mm_alloc_pages_bulk(pool.domain, &r, SECTION_FRAMES + 100, block);
	ck_assert_uint_eq(nr, SECTION_FRAMES - stats(ZONE_MOVABLE).wmark[WMARK_MIN]);
	for (uint32_t k = 1; k < 4; k++)
		undo(i[k]);
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, pfn), 0);
	test_pool_close(&pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_hotplug");
	TCase *t = tcase_create("hotplug");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_free_section_and_back);
	tcase_add_test(t, blocks_of_all_orders_and_back);
	tcase_add_test(t, nobody_is_given_any_of_it);
	tcase_add_test(t, what_is_freed_goes_past_the_caches);
	tcase_add_test(t, what_is_cached_comes_by_the_drain);
	tcase_add_test(t, holes_are_left_alone);
	tcase_add_test(t, errors_change_nothing);
	tcase_add_test(t, types_that_change_below_a_batch);
	tcase_add_test(t, the_high_atomic_reserve);
	tcase_add_test(t, what_is_isolated_is_not_free);
	suite_add_tcase(s, t);
	return suite_status(s);
}
