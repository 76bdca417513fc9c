/* SPDX-License-Identifier: MIT */
/*
 * Zones: geometry, watermarks, reserves, per-CPU limits, zonelists, sections.
 *
 * Expected numbers come from two sources that share no code with mm/: a recomputation of the rules
 * in another language for pools of 64 MiB to 8 GiB, and the zoneinfo of a real machine with 24 GiB
 * and two CPUs (its min, low and high were raised for transparent huge pages, so those are not
 * compared).
 */
#include <check.h>

#include "mm/zone.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

static struct test_pool pool;

static void config(struct mm_config *c, uint32_t mib, uint32_t nodes, uint32_t cpus)
{
	mm_config_default(c, ((uint64_t)mib << 20) >> PAGE_SHIFT);
	c->nodes = nodes;
	c->cpus = cpus;
}

static const struct expected {
	uint32_t mib, cpus, zone;
	uint64_t managed, wmark[NR_WMARK], protection[MAX_NR_ZONES];
	uint32_t batch, high_min, high_max, threshold;
} expected[] = {
	{ 64, 1, ZONE_DMA, 4096, { 64, 80, 96, 112 }, { 0, 48, 48, 48, 48 }, 1, 80, 512, 2 },
	{ 64, 1, ZONE_DMA32, 12288, { 192, 240, 288, 336 }, { 0 }, 3, 240, 1536, 2 },
	{ 256, 2, ZONE_DMA, 4096, { 32, 40, 48, 56 }, { 0, 240, 240, 240, 240 }, 1, 20, 256, 4 },
	{ 256, 2, ZONE_DMA32, 61440, { 480, 600, 720, 840 }, { 0 }, 15, 300, 3840, 8 },
	{ 1024, 2, ZONE_DMA, 4096, { 16, 20, 24, 28 }, { 0, 1008, 1008, 1008, 1008 }, 1, 10, 256,
	  4 },
	{ 1024, 2, ZONE_DMA32, 258048, { 1008, 1266, 1524, 1782 }, { 0 }, 63, 633, 16128, 16 },
	{ 4096, 4, ZONE_DMA, 4096, { 8, 12, 16, 20 }, { 0, 4080, 4080, 4080, 4080 }, 1, 4, 128, 6 },
	{ 4096, 4, ZONE_DMA32, 1044480, { 2040, 3084, 4128, 5172 }, { 0 }, 63, 771, 32640, 36 },
	{ 8192, 8, ZONE_DMA, 4096, { 5, 9, 13, 17 }, { 0, 4080, 8176, 8176, 8176 }, 1, 4, 64, 8 },
	{ 8192, 8, ZONE_DMA32, 1044480, { 1442, 2486, 3530, 4574 }, { 0, 0, 4096, 4096, 4096 }, 63,
	  310, 16320, 48 },
	{ 8192, 8, ZONE_NORMAL, 1048576, { 1448, 2496, 3544, 4592 }, { 0 }, 63, 312, 16384, 56 },
};

static void compare(const struct expected *e)
{
	struct mm_zone_stats s;
	struct mm_pcp_stats p;

	mm_zone_stats(pool.domain, 0, (enum zone_type)e->zone, &s);
	ck_assert_uint_eq(s.managed, e->managed);
	ck_assert_uint_eq(s.free, e->managed);
	for (uint32_t w = 0; w < NR_WMARK; w++)
		ck_assert_uint_eq(s.wmark[w], e->wmark[w]);
	for (uint32_t z = 0; z < MAX_NR_ZONES; z++)
		ck_assert_uint_eq(s.protection[z], e->protection[z]);
	ck_assert_uint_eq(s.stat_threshold, e->threshold);
	mm_pcp_stats(pool.domain, 0, (enum zone_type)e->zone, e->cpus - 1, &p);
	ck_assert_uint_eq(p.batch, e->batch);
	ck_assert_uint_eq(p.high_min, e->high_min);
	ck_assert_uint_eq(p.high_max, e->high_max);
}

START_TEST(limits_agree_with_the_rules)
{
	const struct expected *e = &expected[_i];
	struct mm_config c;

	config(&c, e->mib, 1, e->cpus);
	test_pool_open(&pool, &c);
	compare(e);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

/* The saved zoneinfo: managed frames in, protections, batches and thresholds out. */
START_TEST(limits_agree_with_a_real_machine)
{
	static const struct {
		uint32_t zone;
		uint64_t start, spanned, managed, low, protection[MAX_NR_ZONES];
		uint32_t batch, high_max, threshold;
	} linux_zone[] = {
		{ ZONE_DMA, 0, 4096, 3840, 10, { 0, 3019, 3659, 3659, 3659 }, 1, 240, 4 },
		{ ZONE_DMA32, 4096, 1044480, 772915, 2365, { 0, 0, 640, 640, 640 }, 63, 48307, 24 },
		{ ZONE_NORMAL, 1048576, 163840, 163840, 500, { 0 }, 31, 10240, 16 },
	};
	struct mm_config c;

	config(&c, 4736, 1, 2); /* 1048576 + 163840 frames */
	c.section_order = 12;
	test_pool_prepare(&pool, &c);
	for (uint32_t i = 0; i < 3; i++)
		if (linux_zone[i].spanned > linux_zone[i].managed)
			ck_assert_int_eq(
			        memblock_reserve(&pool.mb, linux_zone[i].start << PAGE_SHIFT,
			                         (linux_zone[i].spanned - linux_zone[i].managed)
			                                 << PAGE_SHIFT,
			                         "hole"),
			        0);
	test_pool_start(&pool);
	test_pool_online(&pool);
	for (uint32_t i = 0; i < 3; i++) {
		struct mm_zone_stats s;
		struct mm_pcp_stats p;

		mm_zone_stats(pool.domain, 0, (enum zone_type)linux_zone[i].zone, &s);
		mm_pcp_stats(pool.domain, 0, (enum zone_type)linux_zone[i].zone, 1, &p);
		ck_assert_uint_eq(s.start_pfn, linux_zone[i].start);
		ck_assert_uint_eq(s.spanned, linux_zone[i].spanned);
		ck_assert_uint_eq(s.managed, linux_zone[i].managed);
		ck_assert_uint_eq(s.wmark[WMARK_LOW], linux_zone[i].low);
		for (uint32_t z = 0; z < MAX_NR_ZONES; z++)
			ck_assert_uint_eq(s.protection[z], linux_zone[i].protection[z]);
		ck_assert_uint_eq(s.stat_threshold, linux_zone[i].threshold);
		ck_assert_uint_eq(p.batch, linux_zone[i].batch);
		ck_assert_uint_eq(p.high_max, linux_zone[i].high_max);
	}
	/* sum of min(largest protection + high, managed) */
	ck_assert_uint_eq(mm_total_reserve(pool.domain), 3659 + 13 + 640 + 3137 + 663);
	test_pool_close(&pool);
}
END_TEST

START_TEST(high_zones_have_fixed_marks_and_protect_below)
{
	struct mm_zone_stats s;
	struct mm_config c;

	config(&c, 1024, 1, 1);
	c.dma32_end = 65536;
	c.highmem_start = 131072;
	c.movable_start = 196608;
	test_pool_open(&pool, &c);
	mm_zone_stats(pool.domain, 0, ZONE_HIGHMEM, &s);
	ck_assert_uint_eq(s.managed, 65536);
	ck_assert_uint_eq(s.wmark[WMARK_MIN], 64); /* managed / 1024 */
	for (uint32_t z = 0; z < MAX_NR_ZONES; z++)
		ck_assert_uint_eq(s.protection[z], 0); /* ratio 0 */
	mm_zone_stats(pool.domain, 0, ZONE_NORMAL, &s);
	ck_assert_uint_eq(s.protection[ZONE_HIGHMEM], 65536 / 32);
	ck_assert_uint_eq(s.protection[ZONE_MOVABLE], 131072 / 32);
	mm_zone_stats(pool.domain, 0, ZONE_MOVABLE, &s);
	/* min_free is 724 frames; the step is a quarter of the share that min does not get */
	ck_assert_uint_eq(s.wmark[WMARK_LOW] - s.wmark[WMARK_MIN], 724 * 65536 / 131072 / 4);
	test_pool_close(&pool);
}
END_TEST

START_TEST(configurations_are_checked)
{
	const char *why = NULL;
	struct mm_config c, ok;

	config(&ok, 64, 1, 1);
	ck_assert_int_eq(mm_config_check(&ok, &why), 0);
	ck_assert_uint_eq(ok.section_order, 10);
#define REFUSED(change)                                                                            \
	do {                                                                                       \
		c = ok;                                                                            \
		change;                                                                            \
		why = NULL;                                                                        \
		ck_assert_int_eq(mm_config_check(&c, &why), -EINVAL);                              \
		ck_assert_ptr_nonnull(why);                                                        \
	} while (0)
	REFUSED(c.frames = 0);
	REFUSED(c.frames += 1);
	REFUSED(c.frames = UINT64_MAX << 10);
	REFUSED(c.section_order = 9);
	REFUSED(c.section_order = 19);
	REFUSED(c.nodes = 0);
	REFUSED(c.nodes = 17); /* 16 sections */
	REFUSED(c.nodes = MAX_NODES + 1);
	REFUSED(c.cpus = 0);
	REFUSED(c.cpus = MAX_CPUS + 1);
	REFUSED(c.dma_end = c.dma32_end + 1);
	REFUSED(c.highmem_start = 0);
	REFUSED(c.movable_start = 0);
	REFUSED((c.highmem_start = 8192, c.movable_start = 4096));
	REFUSED((c.nodes = 2, c.distance = (const uint8_t[]){ 10, 20, 20, 20 }));
	REFUSED((c.nodes = 2, c.distance = (const uint8_t[]){ 10, 20, 10, 10 }));
	REFUSED((c.nodes = 2, c.cpus = 2, c.cpu_node = (const uint8_t[]){ 0, 2 }));
	config(&c, 1024 * 1024, 1, 1); /* 1 TiB: sections of 1 GiB, no larger */
	ck_assert_uint_eq(c.section_order, 18);
	ck_assert_int_eq(mm_config_check(&c, &why), 0);
	config(&c, 8192, 1, 1);
	ck_assert_uint_eq(c.section_order, 12);
}
END_TEST

START_TEST(borders_round_up_and_metadata_stays_outside)
{
	/*  sections of 4 MiB:  0 1 | 2 3 4 | 5 6 … 13 | 14 15
	 *                      DMA   DMA32    Normal    metadata
	 *  from borders inside sections 1 and 4 */
	struct mm_zone_stats s;
	struct section_info i;
	struct mm_config c;

	config(&c, 64, 1, 1);
	c.dma_end = 1024 + 1;
	c.dma32_end = 5 * 1024 - 100;
	test_pool_prepare(&pool, &c);
	ck_assert_int_eq(memblock_reserve(&pool.mb, 14u << 22, 2u << 22, "metadata"), 0);
	ck_assert_int_eq(memblock_reserve(&pool.mb, (13u << 22) + 4096, 8192, "superblock"), 0);
	test_pool_start(&pool);
	mm_section_get(pool.mm, (section_id_t){ 14 }, &i);
	ck_assert_uint_eq(i.state, SECTION_METADATA);
	mm_section_get(pool.mm, (section_id_t){ 13 }, &i);
	ck_assert_uint_eq(i.state, SECTION_RESERVE);
	test_pool_online(&pool);
	mm_zone_stats(pool.domain, 0, ZONE_DMA, &s);
	ck_assert_uint_eq(s.spanned, 2048);
	mm_zone_stats(pool.domain, 0, ZONE_DMA32, &s);
	ck_assert_uint_eq(s.start_pfn, 2048);
	ck_assert_uint_eq(s.spanned, 3072);
	mm_zone_stats(pool.domain, 0, ZONE_NORMAL, &s);
	ck_assert_uint_eq(s.spanned, 9 * 1024);
	ck_assert_uint_eq(s.present, 9 * 1024);
	ck_assert_uint_eq(s.managed, 9 * 1024 - 2);
	ck_assert_int_eq(mm_domain_online(pool.domain, (section_id_t){ 14 }), -EINVAL);
	ck_assert_int_eq(mm_domain_online(pool.domain, (section_id_t){ 3 }), -EEXIST);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

START_TEST(section_words_hold_what_was_set)
{
	struct section_info i;
	struct mm_config c;

	config(&c, 64, 4, 1);
	test_pool_prepare(&pool, &c);
	test_pool_start(&pool);
	ck_assert_uint_eq(mm_nr_sections(pool.mm), 16);
	mm_section_set(pool.mm, (section_id_t){ 9 }, SECTION_ONLINE, 0xffff, 0xff, UINT32_MAX);
	mm_section_get(pool.mm, (section_id_t){ 9 }, &i);
	ck_assert_uint_eq(i.state, SECTION_ONLINE);
	ck_assert_uint_eq(i.domain, 0xffff);
	ck_assert_uint_eq(i.backing, 0xff);
	ck_assert_uint_eq(i.epoch, UINT32_MAX);
	ck_assert_uint_eq(i.node, 2);
	ck_assert_uint_eq(i.zone, ZONE_DMA32);
	mm_section_set(pool.mm, (section_id_t){ 9 }, SECTION_RETIRED, 5, 1, 2);
	mm_section_get(pool.mm, (section_id_t){ 9 }, &i);
	ck_assert_uint_eq(i.state, SECTION_RETIRED);
	ck_assert_uint_eq(i.domain, 0);
	mm_section_get(pool.mm, (section_id_t){ 8 }, &i);
	ck_assert_uint_eq(i.state, SECTION_RESERVE);
	ck_assert_uint_eq(mm_section_of(pool.mm, 9 * 1024 + 5).nr, 9);
	ck_assert_uint_eq(mm_section_start(pool.mm, (section_id_t){ 9 }), 9 * 1024);
	ck_assert_int_eq(mm_domain_new(&pool.domain, pool.mm, 0x10000), -EINVAL);
	test_pool_close(&pool);
}
END_TEST

START_TEST(zonelists_go_by_node_then_zone)
{
	/* four nodes of equal distance: own node, then upwards, around; within a node from the
	 * highest zone to the lowest */
	static const uint8_t order[4][4] = {
		{ 0, 1, 2, 3 }, { 1, 2, 3, 0 }, { 2, 3, 0, 1 }, { 3, 0, 1, 2 }
	};
	struct mm_config c;

	config(&c, 256, 4, 4);
	c.dma32_end = 16384 * 2;
	c.movable_start = 49152 + 8192;
	test_pool_open(&pool, &c);
	for (uint32_t n = 0; n < 4; n++) {
		const struct zonelist *l = &pool.domain->lists[n * MAX_ZONELISTS];
		const struct zonelist *own = l + ZONELIST_NOFALLBACK;
		uint32_t at = 0;

		for (uint32_t i = 0; i < 4; i++) {
			int above = MAX_NR_ZONES;

			for (; at < l->nr && l->zone[at]->node == order[n][i]; at++) {
				ck_assert_int_lt(l->zone[at]->index, above);
				above = l->zone[at]->index;
			}
			ck_assert_int_lt(above, MAX_NR_ZONES);
		}
		ck_assert_uint_eq(at, l->nr);
		for (uint32_t i = 0; i < own->nr; i++)
			ck_assert_uint_eq(own->zone[i]->node, n);
		ck_assert_uint_gt(own->nr, 0);
	}
	/* node 0: DMA and DMA32, node 3: Normal and Movable */
	ck_assert_uint_eq(pool.domain->lists[ZONELIST_NOFALLBACK].nr, 2);
	ck_assert_uint_eq(pool.domain->lists[3 * MAX_ZONELISTS + 1].zone[0]->index, ZONE_MOVABLE);
	ck_assert_uint_eq(pool.domain->lists[3 * MAX_ZONELISTS + 1].first[ZONE_NORMAL], 1);
	test_pool_close(&pool);
}
END_TEST

/* Two pairs of near nodes: the near one first, then the far ones; which of these comes first is
 * spread. */
START_TEST(zonelists_go_by_distance)
{
	static const uint8_t distance[16] = {
		10, 21, 12, 21, /* 0 is near 2 */
		21, 10, 21, 12, /* 1 is near 3 */
		12, 21, 10, 21,
		21, 12, 21, 10,
	};
	static const uint8_t cpu_node[4] = { 3, 1, 0, 2 };
	static const uint8_t order[4][4] = {
		{ 0, 2, 1, 3 }, { 1, 3, 2, 0 }, { 2, 0, 3, 1 }, { 3, 1, 0, 2 }
	};
	struct mm_config c;

	config(&c, 256, 4, 4);
	c.distance = distance;
	c.cpu_node = cpu_node;
	test_pool_open(&pool, &c);
	for (uint32_t cpu = 0; cpu < 4; cpu++) {
		struct mm_request r = { .gfp = GFP_KERNEL, .cpu = cpu };
		struct mm_block b;
		pfn_t pfn;

		ck_assert_uint_eq(mm_cpu_node(pool.mm, cpu), cpu_node[cpu]);
		ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
		ck_assert(mm_block_get(pool.mm, pfn, &b));
		ck_assert_uint_eq(b.node, cpu_node[cpu]);
		mm_free_pages(pool.domain, cpu, pfn, MM_FREE_CACHED);
	}
	for (uint32_t n = 0; n < 4; n++) {
		const struct zonelist *l = &pool.domain->lists[n * MAX_ZONELISTS];
		uint32_t at = 0;

		for (uint32_t i = 0; i < 4; i++) {
			ck_assert_uint_eq(mm_node_distance(pool.mm, n, i), distance[n * 4 + i]);
			ck_assert_uint_eq(l->zone[at]->node, order[n][i]);
			while (at < l->nr && l->zone[at]->node == order[n][i])
				at++;
		}
		ck_assert_uint_eq(at, l->nr);
	}
	test_pool_close(&pool);
}
END_TEST

START_TEST(requests_go_to_their_node_and_zone)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = 1 };
	struct mm_zone_stats s;
	struct mm_config c;
	struct mm_block b;
	pfn_t pfn;

	config(&c, 256, 2, 2);
	c.dma_end = 1024;
	c.dma32_end = 2048;
	test_pool_open(&pool, &c);
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	ck_assert(mm_block_get(pool.mm, pfn, &b));
	ck_assert_uint_eq(b.node, 1); /* cpu % nodes */
	ck_assert_uint_eq(b.zone, ZONE_NORMAL);
	r.node = MM_NODE(0);
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	ck_assert(mm_block_get(pool.mm, pfn, &b) && b.node == 0);
	mm_zone_stats(pool.domain, 0, ZONE_NORMAL, &s);
	ck_assert_uint_eq(s.numa_hit, 1);
	ck_assert_uint_eq(s.numa_other, 1); /* for a cpu of node 1 */
	ck_assert_uint_eq(s.numa_local, 0);
	r.gfp = GFP_KERNEL | __GFP_DMA;
	r.node = MM_NODE(1); /* which has no DMA: the other node's */
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	ck_assert(mm_block_get(pool.mm, pfn, &b) && b.node == 0 && b.zone == ZONE_DMA);
	r.gfp |= __GFP_THISNODE;
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), -ENOMEM);
	ck_assert(!mm_request_possible(pool.domain, &r));
	r.gfp = GFP_HIGHUSER_MOVABLE; /* neither zone exists: falls to Normal */
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	ck_assert(mm_block_get(pool.mm, pfn, &b) && b.node == 1 && b.zone == ZONE_NORMAL);
	test_pool_close(&pool);
}
END_TEST

START_TEST(possible_is_what_an_empty_pool_could_hold)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .order = 10 };
	struct mm_config c;

	/* one section with a hole in its middle has no block of the largest order */
	config(&c, 4, 1, 1);
	test_pool_prepare(&pool, &c);
	ck_assert_int_eq(memblock_reserve(&pool.mb, 2u << 20, 4096, "hole"), 0);
	test_pool_start(&pool);
	ck_assert(!mm_request_possible(pool.domain, &r));
	test_pool_online(&pool);
	ck_assert(!mm_request_possible(pool.domain, &r));
	r.order = 9;
	ck_assert(mm_request_possible(pool.domain, &r));
	r.gfp = GFP_KERNEL | __GFP_DMA;
	ck_assert(mm_request_possible(pool.domain, &r));
	test_pool_close(&pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_zone");
	TCase *t = tcase_create("zone");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, limits_agree_with_the_rules, 0,
	                    sizeof(expected) / sizeof(expected[0]));
	tcase_add_test(t, limits_agree_with_a_real_machine);
	tcase_add_test(t, high_zones_have_fixed_marks_and_protect_below);
	tcase_add_test(t, configurations_are_checked);
	tcase_add_test(t, borders_round_up_and_metadata_stays_outside);
	tcase_add_test(t, section_words_hold_what_was_set);
	tcase_add_test(t, zonelists_go_by_node_then_zone);
	tcase_add_test(t, zonelists_go_by_distance);
	tcase_add_test(t, requests_go_to_their_node_and_zone);
	tcase_add_test(t, possible_is_what_an_empty_pool_could_hold);
	suite_add_tcase(s, t);
	return suite_status(s);
}
