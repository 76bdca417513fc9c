/* SPDX-License-Identifier: MIT */
/* GFP flags: values, composition, zone and migrate type of every combination, refusals. */
#include <check.h>
#include <stdlib.h>

#include "mm/mm.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

START_TEST(values_are_linux_ones)
{
	ck_assert_uint_eq(GFP_KERNEL, 0xcc0);
	ck_assert_uint_eq(GFP_ATOMIC, 0x820);
	ck_assert_uint_eq(GFP_NOWAIT, 0x2800);
	ck_assert_uint_eq(GFP_NOIO, 0xc00);
	ck_assert_uint_eq(GFP_NOFS, 0xc40);
	ck_assert_uint_eq(GFP_USER, 0x100cc0);
	ck_assert_uint_eq(GFP_HIGHUSER, 0x100cc2);
	ck_assert_uint_eq(GFP_HIGHUSER_MOVABLE, 0x100cca);
	ck_assert_uint_eq(__GFP_WAIT, __GFP_RECLAIM);
	ck_assert_uint_eq(__GFP_ACCOUNT, 0x400000);
	ck_assert_uint_eq(GFP_ALL & 0x200, 0);
}
END_TEST

START_TEST(zone_of_each_combination)
{
	for (gfp_t bits = 0; bits < 16; bits++) {
		bool dma = bits & __GFP_DMA, dma32 = bits & __GFP_DMA32;
		bool high = bits & __GFP_HIGHMEM;
		bool movable = bits & __GFP_MOVABLE;
		uint32_t zone = gfp_zone(GFP_KERNEL | bits);

		if (dma + high + dma32 > 1)
			ck_assert_uint_eq(zone, GFP_ZONE_BAD);
		else if (dma)
			ck_assert_uint_eq(zone, ZONE_DMA);
		else if (dma32)
			ck_assert_uint_eq(zone, ZONE_DMA32);
		else if (high)
			ck_assert_uint_eq(zone, movable ? ZONE_MOVABLE : ZONE_HIGHMEM);
		else
			ck_assert_uint_eq(zone, ZONE_NORMAL);
	}
}
END_TEST

START_TEST(migratetype_of_mobility_bits)
{
	ck_assert_uint_eq(gfp_migratetype(GFP_KERNEL), MIGRATE_UNMOVABLE);
	ck_assert_uint_eq(gfp_migratetype(GFP_HIGHUSER_MOVABLE), MIGRATE_MOVABLE);
	ck_assert_uint_eq(gfp_migratetype(GFP_KERNEL | __GFP_RECLAIMABLE), MIGRATE_RECLAIMABLE);
	ck_assert_uint_eq(gfp_migratetype(__GFP_MOVABLE | __GFP_RECLAIMABLE), MIGRATE_PCPTYPES);
}
END_TEST

static int check(gfp_t gfp, uint32_t order, uint32_t tag)
{
	struct mm_request r = { .gfp = gfp, .order = order, .tag = tag };
	const char *why = NULL;
	int err = mm_request_check(&r, &why);

	/* a refusal says why, a success does not */
	ck_assert((err == 0) == (why == NULL));
	return err;
}

START_TEST(requests_are_refused_with_a_reason)
{
	ck_assert_int_eq(check(GFP_KERNEL, 0, 0), 0);
	ck_assert_int_eq(check(GFP_KERNEL, MAX_PAGE_ORDER, MM_TAG_MAX), 0);
	ck_assert_int_eq(check(GFP_ALL & ~(__GFP_DMA | __GFP_DMA32 | __GFP_RECLAIMABLE), 0, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL, MAX_PAGE_ORDER + 1, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL, UINT32_MAX, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL | __GFP_DMA | __GFP_DMA32, 0, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL | __GFP_DMA | __GFP_HIGHMEM, 0, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL | __GFP_MOVABLE | __GFP_RECLAIMABLE, 0, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL | 0x200, 0, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL | 0x80000000u, 0, 0), 0);
	ck_assert_int_lt(check(GFP_KERNEL, 0, MM_TAG_MAX + 1), 0);
}
END_TEST

static uint32_t exhaust(struct test_pool *p, gfp_t gfp, pfn_t pfn[])
{
	struct mm_request r = { .gfp = gfp, .cpu = MM_CPU_NONE };
	uint32_t n = 0;

	while (mm_alloc_pages(p->domain, &r, &pfn[n]) == 0)
		n++;
	return n;
}

/* KSWAPD_RECLAIM: who meets low memory with it leaves a note, until memory is well off again. */
START_TEST(what_wakes_background_reclaim)
{
	static pfn_t pfn[8192];
	struct test_pool p;
	struct mm_config c;
	uint32_t n;

	mm_config_default(&c, 8192);
	test_pool_open(&p, &c);
	ck_assert(!mm_reclaim_wanted(p.domain));
	n = exhaust(&p, 0, pfn);
	ck_assert_uint_gt(n, 4096);
	ck_assert(!mm_reclaim_wanted(p.domain));
	exhaust(&p, GFP_NOWAIT, pfn + n);
	ck_assert(mm_reclaim_wanted(p.domain));
	/* once */
	ck_assert(!mm_reclaim_wanted(p.domain));
	exhaust(&p, GFP_NOWAIT, pfn + n);
	while (n > 0)
		mm_free_pages(p.domain, MM_CPU_NONE, pfn[--n], MM_FREE_DIRECT);
	ck_assert(!mm_reclaim_wanted(p.domain));
	test_pool_close(&p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_gfp");
	TCase *t = tcase_create("gfp");

	tcase_add_test(t, values_are_linux_ones);
	tcase_add_test(t, zone_of_each_combination);
	tcase_add_test(t, migratetype_of_mobility_bits);
	tcase_add_test(t, requests_are_refused_with_a_reason);
	tcase_add_test(t, what_wakes_background_reclaim);
	suite_add_tcase(s, t);
	return suite_status(s);
}
