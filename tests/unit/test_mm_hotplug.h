/* SPDX-License-Identifier: MIT */
/*
 * A pool whose sections leave and come back, for the tests of hotplug.c and evacuate.c.
 *
 *     sections:   0 … 15      16 … 19      20 … 23        (4096 frames: eight pageblocks each)
 *     zone:       Normal      HighMem      Movable
 */
#ifndef TESTS_UNIT_TEST_MM_HOTPLUG_H
#define TESTS_UNIT_TEST_MM_HOTPLUG_H

#include <check.h>

#include "mm/buddy.h"
#include "mm/compaction.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

#define SECTION_ORDER 12u
#define SECTION_FRAMES (1u << SECTION_ORDER)
#define SECTION_BLOCKS (SECTION_FRAMES / PAGEBLOCK_NR_PAGES)
#define HIGHMEM_FIRST 16u
#define MOVABLE_FIRST 20u
#define SECTIONS 24u
#define FRAMES (SECTIONS * SECTION_FRAMES)

static struct test_pool pool;
static pfn_t block[FRAMES]; /* of what the test allocated */
static uint32_t nr;         /* of these */
static uint64_t random_state;

static inline uint32_t draw(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % n;
}

static inline void prepare_pool(void)
{
	struct mm_config c;

	mm_config_default(&c, FRAMES);
	c.section_order = SECTION_ORDER;
	c.cpus = 2;
	c.dma_end = c.dma32_end = 0;
	c.highmem_start = HIGHMEM_FIRST * SECTION_FRAMES;
	c.movable_start = MOVABLE_FIRST * SECTION_FRAMES;
	test_pool_prepare(&pool, &c);
	nr = 0;
	random_state = 1;
}

static inline void open_pool(void)
{
	prepare_pool();
	test_pool_start(&pool);
	test_pool_online(&pool);
}

static inline void valid(void)
{
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
}

static inline section_id_t section(uint32_t s)
{
	return (section_id_t){ s };
}

static inline uint32_t section_of(pfn_t pfn)
{
	return pfn / SECTION_FRAMES;
}

static inline enum zone_type zone_of(uint32_t s)
{
	return s >= MOVABLE_FIRST ? ZONE_MOVABLE : s >= HIGHMEM_FIRST ? ZONE_HIGHMEM : ZONE_NORMAL;
}

static inline struct mm_zone_stats stats(enum zone_type z)
{
	struct mm_zone_stats s;

	mm_zone_stats(pool.domain, 0, z, &s);
	return s;
}

static inline struct mm_isolation *isolate(uint32_t s)
{
	struct mm_isolation *i = NULL;

	ck_assert_int_eq(mm_section_isolate(&i, pool.domain, section(s)), 0);
	valid();
	return i;
}

static inline void undo(struct mm_isolation *i)
{
	ck_assert_ptr_null(mm_section_unisolate(i));
	valid();
}

/* Out for good: the word, too. */
static inline void offline(struct mm_isolation *i, uint32_t s)
{
	ck_assert_uint_eq(mm_section_busy(i), 0);
	ck_assert_int_eq(mm_domain_offline(i), 0);
	valid();
	mm_domain_ready(pool.domain);
	mm_section_set(pool.mm, section(s), SECTION_ABSENT, 0, 1, 5);
	valid();
}

static inline void online(uint32_t s)
{
	mm_section_set(pool.mm, section(s), SECTION_ONLINE, TEST_DOMAIN, 0, 6);
	ck_assert_int_eq(mm_domain_online(pool.domain, section(s)), 0);
	mm_domain_ready(pool.domain);
	valid();
}

static inline bool alloc(enum zone_type z, uint32_t order, uint32_t cpu, gfp_t more, pfn_t *ret)
{
	static const gfp_t zones[] = { [ZONE_NORMAL] = 0,
		                       [ZONE_HIGHMEM] = __GFP_HIGHMEM,
		                       [ZONE_MOVABLE] = __GFP_HIGHMEM | __GFP_MOVABLE };
	struct mm_request r = {
		.gfp = zones[z] | more, .order = order, .cpu = cpu, .lowest = (uint8_t)z
	};

	return mm_alloc_pages(pool.domain, &r, ret) == 0;
}

/* ---- blocks of a test ---- */

/* All of the zone, in blocks of random orders, types and cpus. */
static inline void fill(enum zone_type z)
{
	static const gfp_t types[] = { 0, __GFP_RECLAIMABLE, __GFP_MOVABLE };
	uint32_t refused = 0;

	while (refused < 200) {
		gfp_t more = __GFP_MEMALLOC | (z == ZONE_MOVABLE ? 0 : types[draw(3)]);
		uint32_t cpu = draw(3), order = refused < 100 ? draw(NR_PAGE_ORDERS) : 0;

		if (alloc(z, order, cpu == 2 ? MM_CPU_NONE : cpu, more, &block[nr]))
			nr++;
		else
			refused++;
	}
	/* nothing is left, not even with the other cpu */
	for (uint32_t c = 0; c < 2; c++)
		mm_drain_cpu(pool.domain, c);
	while (alloc(z, 0, MM_CPU_NONE, __GFP_MEMALLOC, &block[nr]))
		nr++;
}

/* One of n of the blocks, by several ways. */
static inline void free_some(uint32_t n)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t cpu = draw(3);

		if (draw(n))
			continue;
		mm_free_pages(pool.domain, cpu == 2 ? MM_CPU_NONE : cpu, block[i],
		              draw(4) ? MM_FREE_CACHED : MM_FREE_DIRECT);
		block[i--] = block[--nr];
	}
}

static inline void drain(void)
{
	for (uint32_t c = 0; c < 2; c++)
		mm_drain_cpu(pool.domain, c);
}

/* Frames of the section that the test holds. */
static inline uint64_t held(uint32_t s)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < nr; i++) {
		struct mm_block b;

		if (section_of(block[i]) == s && mm_block_get(pool.mm, block[i], &b))
			n += (uint64_t)1 << b.order;
	}
	return n;
}

static inline void free_section(uint32_t s)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (section_of(block[i]) != s)
			continue;
		mm_free_pages(pool.domain, draw(2), block[i], MM_FREE_CACHED);
		block[i--] = block[--nr];
	}
}

static inline void types_of(uint32_t s, uint32_t type[SECTION_BLOCKS])
{
	for (uint32_t i = 0; i < SECTION_BLOCKS; i++)
		type[i] = mm_pageblock_type(pool.mm, s * SECTION_FRAMES + i * PAGEBLOCK_NR_PAGES);
}

#endif
