/* SPDX-License-Identifier: MIT */
/*
 * Why requests fail: each verdict is made for real in a pool of ordinary memory, and told; and the least
 * that was free is remembered.
 */
#include <check.h>

#include "mm/explain.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

#define MIB(n) ((uint64_t)(n) << (20 - PAGE_SHIFT))
#define FRAMES_MAX 32768u

static struct test_pool pool;
static pfn_t had[FRAMES_MAX];
static size_t nr_had;

static void open_pool_of(uint32_t nodes)
{
	struct mm_config c;

	mm_config_default(&c, MIB(64));
	c.cpus = 1;
	c.nodes = nodes;
	c.section_order = 10;
	c.highmem_start = nodes == 1 ? MIB(48) : UINT64_MAX;
	test_pool_open(&pool, &c);
	nr_had = 0;
}

static void open_pool(void)
{
	open_pool_of(1);
}

static void open_nodes(void)
{
	open_pool_of(2);
}

static void close_pool(void)
{
	test_pool_close(&pool);
}

static struct mm_request request(gfp_t gfp, uint32_t order, uint32_t node)
{
	return (struct mm_request){
		.gfp = gfp, .order = order, .cpu = MM_CPU_NONE, .node = node, .tag = 5
	};
}

/* All that such requests can have. */
static void exhaust(gfp_t gfp, uint32_t order, uint32_t node)
{
	struct mm_request r = request(gfp, order, node);
	pfn_t pfn;

	while (mm_alloc_pages(pool.domain, &r, &pfn) == 0) {
		ck_assert_uint_lt(nr_had, FRAMES_MAX);
		had[nr_had++] = pfn;
	}
}

static uint32_t look(struct mm_zone_look l[8], gfp_t gfp, uint32_t order, uint32_t node)
{
	struct mm_request r = request(gfp, order, node);

	return mm_request_look(pool.domain, &r, l, 8);
}

START_TEST(zones_in_the_order_of_the_list)
{
	struct mm_zone_look l[8];
	struct mm_request r = request(GFP_KERNEL | __GFP_HIGHMEM, 0, 0);

	ck_assert_uint_eq(look(l, r.gfp, 0, 0), 3);
	ck_assert_uint_eq(l[0].zone, ZONE_HIGHMEM);
	ck_assert_uint_eq(l[1].zone, ZONE_DMA32);
	ck_assert_uint_eq(l[2].zone, ZONE_DMA);
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(l[i].verdict, MM_ZONE_SERVES);
		ck_assert_uint_eq(l[i].free, l[i].managed);
		ck_assert_uint_ge(l[i].low, l[i].min);
	}
	/* lower zones keep something back from those that can use higher ones */
	ck_assert_uint_eq(l[0].protection, 0);
	ck_assert_uint_gt(l[2].protection, 0);
	ck_assert_uint_ge(l[2].mark, l[2].protection);
	/* no more are written than there is room for, and all are counted */
	l[1].verdict = 99;
	ck_assert_uint_eq(mm_request_look(pool.domain, &r, l, 1), 3);
	ck_assert_uint_eq(l[1].verdict, 99);
	ck_assert_uint_eq(look(l, __GFP_DMA, 0, 0), 1);
	r.lowest = ZONE_HIGHMEM;
	ck_assert_uint_eq(mm_request_look(pool.domain, &r, l, 8), 1);
	ck_assert_uint_eq(look(l, __GFP_DMA | __GFP_HIGHMEM, 0, 0), 0);
	ck_assert_uint_eq(look(l, GFP_KERNEL, 0, 9), 0);
}
END_TEST

START_TEST(below_the_watermark)
{
	struct mm_zone_look l[8];

	exhaust(GFP_NOWAIT, 0, 0);
	ck_assert_uint_eq(look(l, GFP_NOWAIT, 0, 0), 2);
	for (uint32_t i = 0; i < 2; i++) {
		ck_assert_uint_eq(l[i].verdict, MM_ZONE_BELOW);
		ck_assert_uint_le(l[i].free, l[i].mark);
	}
	/* who may reach deeper has to leave less */
	ck_assert_uint_eq(look(l, GFP_ATOMIC, 0, 0), 2);
	ck_assert_uint_eq(l[0].verdict, MM_ZONE_SERVES);
	exhaust(GFP_ATOMIC, 0, 0);
	look(l, GFP_ATOMIC, 0, 0);
	ck_assert_uint_eq(l[0].verdict, MM_ZONE_BELOW);
}
END_TEST

START_TEST(scattered)
{
	struct mm_zone_look l[8];

	exhaust(__GFP_DMA, 0, 0);
	for (size_t i = 0; i < nr_had; i++)
		if (had[i] % 2)
			mm_free_pages(pool.domain, MM_CPU_NONE, had[i], MM_FREE_DIRECT);
	/* smaller ones may be among what the watermark kept from us */
	ck_assert_uint_eq(look(l, __GFP_DMA, 8, 0), 1);
	ck_assert_uint_eq(l[0].verdict, MM_ZONE_NO_BLOCK);
	ck_assert_uint_gt(l[0].free, l[0].mark + 256);
	ck_assert_int_gt(mm_fragmentation_index(l[0].nr_free, 8), MM_INDEX_SCATTERED);
	ck_assert_uint_eq(look(l, __GFP_DMA, 0, 0), 1);
	ck_assert_uint_eq(l[0].verdict, MM_ZONE_SERVES);
}
END_TEST

START_TEST(never)
{
	struct mm_zone_look l[8];
	struct mm_config c;

	/* a zone of one section cannot leave its reserves and give the whole section */
	close_pool();
	mm_config_default(&c, MIB(64));
	c.cpus = 1;
	c.section_order = 10;
	c.dma_end = MIB(4);
	test_pool_open(&pool, &c);
	ck_assert_uint_eq(look(l, __GFP_DMA, 10, 0), 1);
	ck_assert_uint_eq(l[0].verdict, MM_ZONE_SMALL);
	ck_assert_uint_eq(look(l, __GFP_DMA, 9, 0), 1);
	ck_assert_uint_eq(l[0].verdict, MM_ZONE_SERVES);
}
END_TEST

START_TEST(one_node_alone)
{
	struct mm_zone_look l[8];

	exhaust(GFP_NOWAIT | __GFP_THISNODE, 0, MM_NODE(1));
	ck_assert_uint_eq(look(l, GFP_NOWAIT | __GFP_THISNODE, 0, MM_NODE(1)), 1);
	ck_assert_uint_eq(l[0].node, 1);
	ck_assert_uint_eq(l[0].verdict, MM_ZONE_BELOW);
	/* others go on to the other node, after the near one */
	ck_assert_uint_gt(look(l, GFP_NOWAIT, 0, MM_NODE(1)), 1);
	ck_assert_uint_eq(l[0].node, 1);
	ck_assert_uint_eq(l[1].node, 0);
	ck_assert_uint_eq(l[1].verdict, MM_ZONE_SERVES);
}
END_TEST

START_TEST(index_by_hand)
{
	/* 1000 - (1000 + 1000 * free / 2^order) / blocks */
	static const struct {
		uint32_t nr_free[NR_PAGE_ORDERS], order;
		int index;
	} row[] = {
		{ { 0 }, 0, 0 },
		{ { 1 }, 0, MM_INDEX_SUITABLE },
		{ { 1024 }, 10, 999 },
		{ { 512 }, 10, 998 },
		{ { 4, 0, 1 }, 3, 600 },
		{ { 0, 7 }, 4, 733 },
		{ { 0, 0, 0, 0, 0, 0, 0, 0, 0, 2 }, 10, 0 },
		{ { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }, 4, MM_INDEX_SUITABLE },
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		ck_assert_int_eq(mm_fragmentation_index(row[i].nr_free, row[i].order), row[i].index);
}
END_TEST

START_TEST(the_least_that_was_free)
{
	struct mm_zone_stats s;
	struct mm_request r = request(__GFP_DMA, 3, 0);
	uint64_t all;
	pfn_t a, b;

	mm_zone_stats(pool.domain, 0, ZONE_DMA, &s);
	all = s.free;
	ck_assert_uint_eq(s.free_least, all);
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &a), 0);
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &b), 0);
	mm_free_pages(pool.domain, MM_CPU_NONE, a, MM_FREE_DIRECT);
	mm_free_pages(pool.domain, MM_CPU_NONE, b, MM_FREE_DIRECT);
	mm_zone_stats(pool.domain, 0, ZONE_DMA, &s);
	ck_assert_uint_eq(s.free, all);
	ck_assert_uint_eq(s.free_least, all - 16);
	mm_zone_stats(pool.domain, 0, ZONE_HIGHMEM, &s);
	ck_assert_uint_eq(s.free_least, s.managed);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mm_explain");
	TCase *tcase = tcase_create("one node");

	tcase_add_checked_fixture(tcase, open_pool, close_pool);
	tcase_add_test(tcase, zones_in_the_order_of_the_list);
	tcase_add_test(tcase, below_the_watermark);
	tcase_add_test(tcase, scattered);
	tcase_add_test(tcase, never);
	tcase_add_test(tcase, index_by_hand);
	tcase_add_test(tcase, the_least_that_was_free);
	suite_add_tcase(suite, tcase);
	tcase = tcase_create("two nodes");
	tcase_add_checked_fixture(tcase, open_nodes, close_pool);
	tcase_add_test(tcase, one_node_alone);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
