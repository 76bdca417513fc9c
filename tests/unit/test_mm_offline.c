/* SPDX-License-Identifier: MIT */
/*
 * Sections that leave their zone and come back: what is counted and computed of them, zones that
 * become empty, other domains, deaths in each state, and others that allocate all the time. The
 * pool is that of test_mm_hotplug.h. A death is the persistent memory as it is at that point and
 * nothing else.
 */
#include <pthread.h>
#include <sched.h>

#include "mm/inspect.h"
#include "tests/unit/test_mm_hotplug.h"

START_TEST(counts_follow_the_sections)
{
	struct mm_zone_stats all = { 0 }, less, back;
	struct mm_zone_stats normal;

	open_pool();
	normal = stats(ZONE_NORMAL);
	all = stats(ZONE_HIGHMEM);
	ck_assert_uint_eq(all.managed, 4 * SECTION_FRAMES);
	offline(isolate(17), 17);
	less = stats(ZONE_HIGHMEM);
	ck_assert_uint_eq(less.managed, 3 * SECTION_FRAMES);
	ck_assert_uint_eq(less.present, 3 * SECTION_FRAMES);
	ck_assert_uint_eq(less.spanned, all.spanned);
	ck_assert_uint_eq(less.free, 3 * SECTION_FRAMES);
	ck_assert_uint_eq(less.free_least, 3 * SECTION_FRAMES);
	ck_assert_uint_eq(less.free_isolated, 0);
	ck_assert_uint_eq(less.pageblocks[MIGRATE_MOVABLE], 3 * SECTION_BLOCKS);
	ck_assert_uint_eq(less.pageblocks[MIGRATE_ISOLATE], 0);
	/* the zone below protects less from requests that could use this one */
	ck_assert_uint_lt(stats(ZONE_NORMAL).protection[ZONE_MOVABLE],
	                  normal.protection[ZONE_MOVABLE]);
	online(17);
	back = stats(ZONE_HIGHMEM);
	ck_assert_mem_eq(&back, &all, sizeof(back));
	back = stats(ZONE_NORMAL);
	ck_assert_mem_eq(&back, &normal, sizeof(back));

	/* the marks of a zone that gives low memory */
	offline(isolate(0), 0);
	ck_assert_uint_lt(stats(ZONE_NORMAL).wmark[WMARK_HIGH], normal.wmark[WMARK_HIGH]);
	ck_assert_uint_lt(stats(ZONE_NORMAL).wmark[WMARK_LOW], normal.wmark[WMARK_LOW]);
	online(0);
	back = stats(ZONE_NORMAL);
	ck_assert_mem_eq(&back, &normal, sizeof(back));
	test_pool_close(&pool);
}
END_TEST

START_TEST(a_zone_becomes_empty_and_comes_back)
{
	struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = 0 };
	struct mm_zone_stats before, empty, after;
	struct compact_control cc;
	struct mm_block b;
	pfn_t pfn;

	open_pool();
	before = stats(ZONE_MOVABLE);
	for (uint32_t s = MOVABLE_FIRST; s < SECTIONS; s++)
		offline(isolate(s), s);
	empty = stats(ZONE_MOVABLE);
	ck_assert_uint_eq(empty.spanned + empty.present + empty.managed + empty.free, 0);
	ck_assert_uint_eq(empty.start_pfn, 0);
	/* requests go to the next zone, and none waits for this one */
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	ck_assert(mm_block_get(pool.mm, pfn, &b));
	ck_assert_uint_eq(b.zone, ZONE_HIGHMEM);
	mm_free_pages(pool.domain, 0, pfn, MM_FREE_CACHED);
	r.lowest = ZONE_MOVABLE;
	ck_assert(!mm_request_possible(pool.domain, &r));
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), -ENOMEM);
	cc = (struct compact_control){ .d = pool.domain, .zone = ZONE_MOVABLE,
		                       .order = COMPACT_ORDER_ALL };
	ck_assert_int_eq(compaction_begin(&cc), COMPACT_NOT_SUITABLE_ZONE);
	mm_tick(pool.domain);
	compaction_tick(pool.domain);
	for (uint32_t c = 0; c < 2; c++)
		mm_tick_cpu(pool.domain, c);
	valid();
	for (uint32_t s = SECTIONS; s-- > MOVABLE_FIRST;)
		online(s);
	after = stats(ZONE_MOVABLE);
	ck_assert_mem_eq(&after, &before, sizeof(after));
	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	test_pool_close(&pool);
}
END_TEST

START_TEST(the_largest_block_of_what_is_left)
{
	struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .order = MAX_PAGE_ORDER,
		                .cpu = 0, .lowest = ZONE_MOVABLE };

	prepare_pool();
	/* all but section 22 have a hole in each block of order 8 */
	for (uint32_t s = MOVABLE_FIRST; s < SECTIONS; s++) {
		for (uint32_t k = 0; s != 22 && k < SECTION_FRAMES; k += 256) {
			uint64_t at = (uint64_t)(s * SECTION_FRAMES + k) << PAGE_SHIFT;

			ck_assert_int_eq(memblock_reserve(&pool.mb, at, 1u << PAGE_SHIFT, "hole"),
			                 0);
		}
	}
	test_pool_start(&pool);
	test_pool_online(&pool);
	valid();
	ck_assert(mm_request_possible(pool.domain, &r));
	offline(isolate(21), 21);
	ck_assert(mm_request_possible(pool.domain, &r));
	offline(isolate(22), 22);
	ck_assert(!mm_request_possible(pool.domain, &r));
	r.order = 8;
	ck_assert(!mm_request_possible(pool.domain, &r));
	r.order = 7;
	ck_assert(mm_request_possible(pool.domain, &r));
	/* reserved frames stay out on the way back */
	online(21);
	ck_assert_uint_eq(stats(ZONE_MOVABLE).managed, 3 * (SECTION_FRAMES - 16));
	ck_assert_uint_eq(stats(ZONE_MOVABLE).present, 3 * SECTION_FRAMES);
	online(22);
	r.order = MAX_PAGE_ORDER;
	ck_assert(mm_request_possible(pool.domain, &r));
	test_pool_close(&pool);
}
END_TEST

START_TEST(a_section_goes_to_another_domain)
{
	struct mm_domain *other = NULL;
	struct mm_zone_stats s;
	struct mm_isolation *i;

	open_pool();
	ck_assert_int_eq(mm_domain_new(&other, pool.mm, TEST_DOMAIN + 1), 0);
	ck_assert_int_eq(mm_section_isolate(&i, other, section(18)), -ENOENT);
	offline(isolate(18), 18);
	mm_section_set(pool.mm, section(18), SECTION_ONLINE, TEST_DOMAIN + 1, 0, 7);
	ck_assert_int_eq(mm_domain_online(other, section(18)), 0);
	mm_domain_ready(other);
	ck_assert_uint_eq(mm_validate(other, test_report, NULL), 0);
	valid();
	mm_zone_stats(other, 0, ZONE_HIGHMEM, &s);
	ck_assert_uint_eq(s.free, SECTION_FRAMES);
	ck_assert_int_eq(mm_section_isolate(&i, other, section(18)), 0);
	/* a domain that ends leaves nothing behind */
	mm_domain_free(other);
	mm_section_set(pool.mm, section(18), SECTION_RESERVE, 0, 0, 8);
	valid();
	online(18);
	test_pool_close(&pool);
}
END_TEST

/* ---- deaths ---- */

static void die_and_recover(void)
{
	test_pool_stop(&pool);
	test_pool_start(&pool);
	ck_assert_int_eq(mm_domain_recover(pool.domain, NULL, test_report, NULL), 0);
	valid();
}

START_TEST(a_death_at_any_point)
{
	struct mm_zone_stats before, after;
	struct mm_isolation *i;
	struct section_info info;
	uint64_t owned;

	open_pool();
	fill(ZONE_MOVABLE);
	free_some(2);
	free_section(22);
	owned = 4 * SECTION_FRAMES;
	for (uint32_t k = 0; k < nr; k++) {
		struct mm_block b;

		ck_assert(mm_block_get(pool.mm, block[k], &b));
		owned -= (uint64_t)1 << b.order;
	}
	die_and_recover();
	before = stats(ZONE_MOVABLE);
	ck_assert_uint_eq(before.free, owned);
	/* isolated, in use and free */
	isolate(20);
	isolate(22);
	die_and_recover();
	after = stats(ZONE_MOVABLE);
	ck_assert_uint_eq(after.free, before.free);
	ck_assert_uint_eq(after.free_isolated, 0);
	ck_assert_uint_eq(after.pageblocks[MIGRATE_ISOLATE], 0);
	/* out of the zone, the word not yet stored */
	i = isolate(22);
	ck_assert_int_eq(mm_domain_offline(i), 0);
	die_and_recover();
	after = stats(ZONE_MOVABLE);
	ck_assert_uint_eq(after.free, before.free);
	ck_assert_uint_eq(after.managed, before.managed);
	/* the same structures, made anew */
	i = isolate(22);
	ck_assert_int_eq(mm_domain_offline(i), 0);
	isolate(20);
	ck_assert_int_eq(mm_domain_recover(pool.domain, NULL, test_report, NULL), 0);
	valid();
	ck_assert_uint_eq(stats(ZONE_MOVABLE).free, before.free);
	/* and with the word */
	offline(isolate(22), 22);
	die_and_recover();
	after = stats(ZONE_MOVABLE);
	ck_assert_uint_eq(after.managed, before.managed - SECTION_FRAMES);
	mm_section_get(pool.mm, section(22), &info);
	ck_assert_int_eq(info.state, SECTION_ABSENT);
	ck_assert_uint_eq(info.epoch, 5);
	ck_assert_uint_eq(info.backing, 1);
	online(22);
	ck_assert_uint_eq(stats(ZONE_MOVABLE).free, before.free);
	test_pool_close(&pool);
}
END_TEST

/* ---- threads ---- */

#define THREAD_BLOCKS 300u

static struct {
	_Atomic bool stop;
	_Atomic uint32_t drain[2];   /* asked for */
	_Atomic uint32_t drained[2]; /* done */
	_Atomic uint32_t leaving;    /* section of which to keep nothing; UINT32_MAX: none */
} shared;

/* A reactor: allocates and frees by its cpu's lists, now and then past them. */
static void *reactor(void *arg)
{
	uint32_t cpu = (uint32_t)(uintptr_t)arg, n = 0;
	uint64_t state = cpu + 1;
	pfn_t mine[THREAD_BLOCKS];

	while (!atomic_load(&shared.stop)) {
		uint32_t asked = atomic_load(&shared.drain[cpu]), what, way;
		uint32_t leaving = atomic_load(&shared.leaving);

		if (asked != atomic_load(&shared.drained[cpu])) {
			mm_drain_cpu(pool.domain, cpu);
			atomic_store(&shared.drained[cpu], asked);
		}
		state = state * 6364136223846793005u + 1442695040888963407u;
		what = (uint32_t)(state >> 40);
		way = what >> 12 & 7 ? cpu : MM_CPU_NONE;
		if (n && section_of(mine[what % n]) == leaving) {
			mm_free_pages(pool.domain, way, mine[what % n], MM_FREE_CACHED);
			mine[what % n] = mine[n - 1];
			n--;
		} else if (n == THREAD_BLOCKS || (n && what & 1)) {
			pfn_t pfn = mine[what % n];

			mine[what % n] = mine[n - 1];
			n--;
			if (what & 64)
				mm_free_pages(pool.domain, way, pfn, MM_FREE_CACHED);
			else
				mm_free_pages_bulk(pool.domain, way, 1, &pfn, MM_FREE_CACHED);
		} else {
			struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = way,
				                .lowest = ZONE_MOVABLE };

			r.order = what & 128 ? 0 : what >> 16 & 3;
			if (what % 200 == 0)
				r.order = PAGEBLOCK_ORDER + (what >> 20 & 1);
			n += mm_alloc_pages(pool.domain, &r, &mine[n]) == 0;
		}
	}
	for (uint32_t i = 0; i < n; i++)
		mm_free_pages(pool.domain, cpu, mine[i], MM_FREE_CACHED);
	return NULL;
}

static bool no_move(void *ctx, pfn_t from, pfn_t to)
{
	(void)ctx;
	(void)from;
	(void)to;
	return false;
}

/* What the daemon does besides: reports, housekeeping, compaction (which takes frames out of free
 * blocks and puts them back). */
static void *housekeeper(void *arg)
{
	struct mm_run run[MM_SCAN_FRAMES];
	pfn_t pfn = 0;

	while (!atomic_load(&shared.stop)) {
		struct compact_control cc = { .d = pool.domain, .zone = ZONE_MOVABLE,
			                      .order = COMPACT_ORDER_ALL, .class = ZONE_MOVABLE,
			                      .move = no_move };
		struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .lowest = ZONE_MOVABLE };
		struct mm_zone_stats s = stats(ZONE_MOVABLE);

		if (s.free_isolated > s.free)
			ck_abort_msg("more frames isolated than free");
		mm_scan(pool.domain, MOVABLE_FIRST * SECTION_FRAMES + pfn, run);
		pfn = (pfn + MM_SCAN_FRAMES) % (4 * SECTION_FRAMES);
		(void)mm_request_possible(pool.domain, &r);
		mm_tick(pool.domain);
		compaction_tick(pool.domain);
		if (compaction_begin(&cc) == COMPACT_CONTINUE)
			while (compaction_step(&cc, 500) == COMPACT_CONTINUE)
				;
	}
	return arg;
}

static void drain_both(void)
{
	uint32_t asked = atomic_load(&shared.drain[0]) + 1;

	for (uint32_t c = 0; c < 2; c++)
		atomic_store(&shared.drain[c], asked);
	for (uint32_t c = 0; c < 2; c++)
		while (atomic_load(&shared.drained[c]) != asked)
			sched_yield();
}

START_TEST(others_allocate_meanwhile)
{
	pthread_t thread[3];
	uint32_t left = 0, undone = 0;

	open_pool();
	memset(&shared, 0, sizeof(shared));
	shared.leaving = UINT32_MAX;
	for (uintptr_t c = 0; c < 2; c++)
		ck_assert_int_eq(pthread_create(&thread[c], NULL, reactor, (void *)c), 0);
	ck_assert_int_eq(pthread_create(&thread[2], NULL, housekeeper, NULL), 0);
	for (uint32_t round = 0; round < 60; round++) {
		uint32_t s = MOVABLE_FIRST + draw(4);
		struct mm_isolation *i = NULL;
		uint64_t busy, now;

		ck_assert_int_eq(mm_section_isolate(&i, pool.domain, section(s)), 0);
		if (draw(4) == 0) {
			mm_section_unisolate(i);
			undone++;
			continue;
		}
		drain_both();
		/* from here on nobody is given any of it: it only becomes less */
		busy = mm_section_busy(i);
		if (draw(4) == 0) {
			drain_both();
			now = mm_section_busy(i);
			ck_assert_uint_le(now, busy);
			mm_section_unisolate(i);
			undone++;
			continue;
		}
		atomic_store(&shared.leaving, s);
		while ((now = mm_section_busy(i)) != 0) {
			ck_assert_uint_le(now, busy);
			busy = now;
			sched_yield();
		}
		atomic_store(&shared.leaving, UINT32_MAX);
		ck_assert_int_eq(mm_domain_offline(i), 0);
		mm_domain_ready(pool.domain);
		mm_section_set(pool.mm, section(s), SECTION_ABSENT, 0, 0, round + 1);
		left++;
		drain_both();
		mm_section_set(pool.mm, section(s), SECTION_ONLINE, TEST_DOMAIN, 0, round + 1);
		ck_assert_int_eq(mm_domain_online(pool.domain, section(s)), 0);
		mm_domain_ready(pool.domain);
	}
	atomic_store(&shared.stop, true);
	for (uint32_t c = 0; c < 3; c++)
		pthread_join(thread[c], NULL);
	ck_assert_uint_gt(left, 0);
	ck_assert_uint_gt(undone, 0);
	valid();
	drain();
	valid();
	ck_assert_uint_eq(stats(ZONE_MOVABLE).free, 4 * SECTION_FRAMES);
	test_pool_close(&pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_offline");
	TCase *t = tcase_create("offline");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, counts_follow_the_sections);
	tcase_add_test(t, a_zone_becomes_empty_and_comes_back);
	tcase_add_test(t, the_largest_block_of_what_is_left);
	tcase_add_test(t, a_section_goes_to_another_domain);
	tcase_add_test(t, a_death_at_any_point);
	tcase_add_test(t, others_allocate_meanwhile);
	suite_add_tcase(s, t);
	return suite_status(s);
}
