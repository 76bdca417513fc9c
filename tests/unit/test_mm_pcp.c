/* SPDX-License-Identifier: MIT */
/* Per-CPU lists: which blocks they hold, how limits move, refill, drain, decay; two threads. */
#include <check.h>
#include <pthread.h>

#include "mm/pcp.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

static struct test_pool pool;

static void open_pool(uint32_t mib, uint32_t cpus)
{
	struct mm_config c;

	mm_config_default(&c, ((uint64_t)mib << 20) >> PAGE_SHIFT);
	c.cpus = cpus;
	c.dma_end = 0;
	c.dma32_end = 0;
	test_pool_open(&pool, &c);
}

static void stop(void)
{
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}

static pfn_t get(uint32_t order, uint32_t cpu)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .order = order, .cpu = cpu };
	pfn_t pfn;

	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	return pfn;
}

static struct mm_pcp_stats pcp(uint32_t cpu)
{
	struct mm_pcp_stats s;

	mm_pcp_stats(pool.domain, 0, ZONE_NORMAL, cpu, &s);
	return s;
}

START_TEST(batch_follows_the_zone)
{
	static const uint64_t managed[] = { 0, 1, 4096, 12288, 61440, 163840, 258048, 10000000 };
	static const uint32_t batch[] = { 1, 1, 1, 3, 15, 31, 63, 63 };

	for (uint32_t i = 0; i < sizeof(batch) / sizeof(batch[0]); i++)
		ck_assert_uint_eq(pcp_batch(managed[i]), batch[i]);
}
END_TEST

START_TEST(refills_double_while_nothing_is_freed)
{
	uint64_t free = 0;
	uint32_t sizes[8], n = 0;

	open_pool(1024, 1);
	/* each time the free count falls, a refill took what it fell by */
	free = mm_nr_free(pool.domain);
	while (n < 8) {
		get(0, 0);
		if (mm_nr_free(pool.domain) != free) {
			sizes[n++] = (uint32_t)(free - mm_nr_free(pool.domain));
			free = mm_nr_free(pool.domain);
		}
	}
	/* batch 63: doubled up to 32 times as far as high - count - batch goes; high begins at
	 * low and grows by every refill */
	ck_assert_uint_eq(sizes[0], 63);
	ck_assert_uint_eq(sizes[1], 126);
	ck_assert_uint_eq(sizes[2], 252);
	ck_assert_uint_eq(sizes[3], 504);
	ck_assert_uint_eq(sizes[4], 1008);
	ck_assert_uint_eq(sizes[5], 2016);
	ck_assert_uint_eq(sizes[6], 2016);
	stop();
}
END_TEST

START_TEST(refills_come_in_ascending_order)
{
	pfn_t last;

	open_pool(64, 1);
	last = get(0, 0);
	for (uint32_t i = 0; i < 100; i++) {
		pfn_t pfn = get(0, 0);

		ck_assert_uint_eq(pfn, last + 1);
		last = pfn;
	}
	stop();
}
END_TEST

START_TEST(orders_0_to_3_and_9_are_cached)
{
	open_pool(256, 2);
	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
		bool cached = o <= 3 || o == 9;
		uint32_t before;
		uint64_t free;
		pfn_t pfn;

		/* the limit grows until blocks of this size fit */
		for (uint32_t i = 0; i < 20; i++)
			mm_free_pages(pool.domain, 1, get(o, 1), MM_FREE_CACHED);
		before = pcp(1).count;
		pfn = get(o, 1);
		free = mm_nr_free(pool.domain);
		ck_assert_uint_eq(before - pcp(1).count, cached ? 1u << o : 0);
		mm_free_pages(pool.domain, 1, pfn, MM_FREE_CACHED);
		ck_assert_uint_eq(mm_nr_free(pool.domain) - free, cached ? 0 : 1u << o);
		if (cached) {
			/* the same again, and past the list when asked to */
			pfn_t again = get(o, 1);

			ck_assert_uint_eq(again, pfn);
			mm_free_pages(pool.domain, 1, pfn, MM_FREE_DIRECT);
			ck_assert_uint_eq(mm_nr_free(pool.domain) - free, 1u << o);
		}
		ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	}
	ck_assert_uint_eq(pcp(0).count, 0);
	mm_drain_cpu(pool.domain, 1);
	ck_assert_uint_eq(pcp(1).count, 0);
	ck_assert_uint_eq(mm_nr_free(pool.domain), 65536);
	stop();
}
END_TEST

START_TEST(lists_stay_below_high_and_drain_in_batches)
{
	static pfn_t held[20000];
	struct mm_pcp_stats s;

	open_pool(1024, 1);
	for (uint32_t i = 0; i < 20000; i++)
		held[i] = get(0, 0);
	for (uint32_t i = 0; i < 20000; i++) {
		mm_free_pages(pool.domain, 0, held[i], MM_FREE_CACHED);
		s = pcp(0);
		ck_assert_uint_le(s.count, s.high);
		ck_assert_uint_ge(s.high, s.high_min);
		ck_assert_uint_le(s.high, s.high_max);
	}
	ck_assert_uint_gt(s.count, 0);
	stop();
}
END_TEST

START_TEST(a_zone_below_high_takes_its_frames_back)
{
	static pfn_t held[20000];
	struct zone *z;

	open_pool(1024, 1);
	for (uint32_t i = 0; i < 20000; i++)
		held[i] = get(0, 0);
	z = &pool.domain->zones[ZONE_NORMAL];
	zone_set_flag(z, ZONE_BELOW_HIGH);
	mm_free_pages(pool.domain, 0, held[0], MM_FREE_CACHED);
	/* enough is free in truth: the flag is found to be out of date */
	for (uint32_t i = 1; i < 20000 && zone_test_flag(z, ZONE_BELOW_HIGH); i++)
		mm_free_pages(pool.domain, 0, held[i], MM_FREE_CACHED);
	ck_assert(!zone_test_flag(z, ZONE_BELOW_HIGH));
	stop();
}
END_TEST

START_TEST(ticks_let_lists_decay_to_their_minimum)
{
	static pfn_t held[40000];
	struct mm_pcp_stats s, before;

	open_pool(1024, 1);
	for (uint32_t i = 0; i < 40000; i++)
		held[i] = get(0, 0);
	for (uint32_t i = 0; i < 40000; i++)
		mm_free_pages(pool.domain, 0, held[i], MM_FREE_CACHED);
	before = pcp(0);
	ck_assert_uint_gt(before.high, before.high_min);
	mm_tick_cpu(pool.domain, 0);
	s = pcp(0);
	/* an eighth at a time, but no faster than 32 batches below what is there */
	ck_assert_uint_eq(s.high, before.count - 32 * before.batch > before.high - before.high / 8 ?
	                                  before.count - 32 * before.batch :
	                                  before.high - before.high / 8);
	ck_assert_uint_le(s.count, s.high);
	for (uint32_t i = 0; i < 60; i++)
		mm_tick_cpu(pool.domain, 0);
	s = pcp(0);
	ck_assert_uint_eq(s.high, s.high_min);
	ck_assert_uint_le(s.count, s.high);
	stop();
}
END_TEST

START_TEST(the_last_frames_are_taken_from_the_own_lists)
{
	struct mm_request r = { .gfp = GFP_KERNEL | __GFP_MEMALLOC, .cpu = 0 };
	uint64_t n = 0;
	pfn_t pfn;

	open_pool(64, 2);
	/* something of every kind on the lists of cpu 0 */
	for (uint32_t o = 0; o <= 3; o++)
		mm_free_pages(pool.domain, 0, get(o, 0), MM_FREE_CACHED);
	while (mm_alloc_pages(pool.domain, &r, &pfn) == 0)
		n++;
	ck_assert_uint_eq(n, 16384);
	ck_assert_uint_eq(pcp(0).count, 0);
	stop();
}
END_TEST

struct worker {
	uint32_t cpu;
	uint64_t steps, random;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	static _Thread_local pfn_t held[512];
	uint32_t nr = 0;

	for (uint64_t i = 0; i < w->steps; i++) {
		struct mm_request r = { .gfp = i & 1 ? GFP_KERNEL : GFP_ATOMIC | __GFP_MOVABLE,
			                .cpu = w->cpu,
			                .tag = w->cpu };
		struct mm_zone_stats s;

		w->random = w->random * 6364136223846793005u + 1442695040888963407u;
		r.order = (uint32_t)(w->random >> 60) < 12 ? 0 : (uint32_t)(w->random >> 50) % 11;
		if (nr == 512 || (nr && (w->random >> 40 & 1))) {
			uint32_t k = (uint32_t)(w->random >> 33) % nr;
			struct mm_block b;

			ck_assert(mm_block_get(pool.mm, held[k], &b) && b.tag == w->cpu);
			mm_free_pages(pool.domain, w->random >> 45 & 1 ? w->cpu : MM_CPU_NONE,
			              held[k], w->random >> 46 & 1 ? MM_FREE_CACHED : MM_FREE_DIRECT);
			held[k] = held[--nr];
		} else if (mm_alloc_pages(pool.domain, &r, &held[nr]) == 0) {
			nr++;
		}
		if (i % 1000 == 0) {
			mm_zone_stats(pool.domain, 0, ZONE_NORMAL, &s);
			ck_assert_uint_le(s.free, s.managed);
			(void)pcp(1 - w->cpu);
			mm_tick_cpu(pool.domain, w->cpu);
			mm_tick(pool.domain);
		}
	}
	mm_free_pages_bulk(pool.domain, w->cpu, nr, held, MM_FREE_CACHED);
	mm_drain_cpu(pool.domain, w->cpu);
	return NULL;
}

START_TEST(two_threads_lose_nothing)
{
	struct worker w[2] = { { 0, 100000, 1 }, { 1, 100000, 2 } };
	pthread_t thread[2];

	open_pool(64, 2);
	for (uint32_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, work, &w[i]), 0);
	for (uint32_t i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(mm_nr_free(pool.domain), 16384);
	stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_pcp");
	TCase *t = tcase_create("pcp");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, batch_follows_the_zone);
	tcase_add_test(t, refills_double_while_nothing_is_freed);
	tcase_add_test(t, refills_come_in_ascending_order);
	tcase_add_test(t, orders_0_to_3_and_9_are_cached);
	tcase_add_test(t, lists_stay_below_high_and_drain_in_batches);
	tcase_add_test(t, a_zone_below_high_takes_its_frames_back);
	tcase_add_test(t, ticks_let_lists_decay_to_their_minimum);
	tcase_add_test(t, the_last_frames_are_taken_from_the_own_lists);
	tcase_add_test(t, two_threads_lose_nothing);
	suite_add_tcase(s, t);
	return suite_status(s);
}
