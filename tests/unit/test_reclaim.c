/* SPDX-License-Identifier: MIT */
/*
 * What counts as reclaim: blocks and objects that somebody fetched from caches, by reason; never what
 * its owner freed.
 */
#include "tests/unit/test_exchange.h"

#include "daemon/pressure.h"
#include "daemon/reclaim.h"
#include "mm/vmstat.h"
#include "tests/suite.h"

#define ROUNDS 16u
#define TRIM_TICKS 15u

static uint64_t count(enum vm_event e)
{
	return vm_counted(t.d->zones, e);
}

/* Scanned and stolen in the background, directly, proactively; objects. */
static void check_counts(uint64_t background, uint64_t direct, uint64_t proactive, uint64_t objects)
{
	const struct {
		enum vm_event scanned, stolen;
		uint64_t frames;
	} want[] = {
		{ VM_PGSCAN_KSWAPD, VM_PGSTEAL_KSWAPD, background },
		{ VM_PGSCAN_DIRECT, VM_PGSTEAL_DIRECT, direct },
		{ VM_PGSCAN_PROACTIVE, VM_PGSTEAL_PROACTIVE, proactive },
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		ck_assert_uint_eq(count(want[i].scanned), want[i].frames);
		ck_assert_uint_eq(count(want[i].stolen), want[i].frames);
	}
	ck_assert_uint_eq(count(VM_SLABS_SCANNED), objects);
}

/* A full magazine of blocks of that order in the depot. */
static void depot_blocks(uint32_t order)
{
	pfn_t pfn[ROUNDS];
	uint32_t n, accepted;
	const char *why = "";
	magazine_id_t m;

	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, order, ROUNDS, &m, &n, &why), 0);
	ck_assert_uint_eq(td_take(&t, a, m, pfn), ROUNDS);
	td_load(&t, a, m, pfn, ROUNDS);
	exchange_give(t.d, a, 0, m, &accepted, &n);
	ck_assert_uint_eq(accepted, ROUNDS);
}

static void depot_objects(void)
{
	uint32_t mine[ROUNDS], listed;
	magazine_id_t m = take_held(a, ROUNDS);

	memcpy(mine, out, sizeof(mine));
	td_load_objects(&t, a, m, mine, ROUNDS);
	ck_assert_uint_eq(give(a, m, &listed), ROUNDS);
}

START_TEST(frees_are_no_reclaim)
{
	pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 3);
	uint32_t granule = td_object(&t, c, a);

	ck_assert_int_eq(td_free(&t, a, pfn, 3), 0);
	ck_assert_int_eq(td_object_free(&t, a, granule), 0);
	depot_blocks(1);
	depot_objects();
	ck_assert_uint_gt(exchange_drain(t.d, 0), 0);
	check_counts(0, 0, 0, 0);
	session_end(a);
	check_counts(0, 0, 0, 0);
}
END_TEST

START_TEST(draining_counts_by_reason)
{
	depot_blocks(0);
	reclaim_begin(RECLAIM_DIRECT);
	exchange_drain(t.d, MM_CPU_NONE);
	reclaim_end();
	check_counts(0, ROUNDS, 0, 0);
	depot_blocks(2);
	depot_objects();
	reclaim_begin(RECLAIM_PROACTIVE);
	exchange_drain(t.d, MM_CPU_NONE);
	reclaim_end();
	check_counts(0, ROUNDS, 4 * ROUNDS, ROUNDS);
	check_all_free();
}
END_TEST

START_TEST(collecting_counts_what_threads_cache)
{
	pfn_t pfn[100];

	/* more than one batch */
	for (unsigned int i = 0; i < 100; i++) {
		pfn[i] = td_alloc(&t, a, GFP_KERNEL, 1);
		ck_assert(td_change(&t, pfn[i], OWNER_HELD, a->id, OWNER_RETURNED, a->id));
	}
	reclaim_begin(RECLAIM_DIRECT);
	ck_assert_uint_eq(grant_collect(t.d, NULL, MM_CPU_NONE), 200);
	reclaim_end();
	check_counts(0, 200, 0, 0);
}
END_TEST

START_TEST(what_others_hold_is_scanned_and_stays)
{
	pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 2);
	const char *why = "";

	ck_assert_int_eq(grant_hold(t.d, b, domain_granule(t.d, pfn), td_generation(&t, pfn), &why),
	                 0);
	ck_assert(td_change(&t, pfn, OWNER_HELD, a->id, OWNER_RETURNED, a->id));
	reclaim_begin(RECLAIM_PROACTIVE);
	ck_assert_uint_eq(grant_collect(t.d, NULL, MM_CPU_NONE), 0);
	reclaim_end();
	ck_assert_uint_eq(count(VM_PGSCAN_PROACTIVE), 4);
	ck_assert_uint_eq(count(VM_PGSTEAL_PROACTIVE), 0);
	ck_assert_int_eq(grant_release(t.d, b, 0, domain_granule(t.d, pfn), &why), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* What lay in the depot for a whole interval goes in the background. */
START_TEST(trimming_is_background_reclaim)
{
	depot_blocks(0);
	depot_objects();
	for (unsigned int i = 0; i < TRIM_TICKS; i++) {
		ck_assert_uint_eq(count(VM_PAGEOUTRUN), 0);
		pressure_tick(t.d->pressure);
	}
	ck_assert_uint_eq(count(VM_PAGEOUTRUN), 1);
	check_counts(0, 0, 0, 0);
	for (unsigned int i = 0; i < TRIM_TICKS; i++)
		pressure_tick(t.d->pressure);
	ck_assert_uint_eq(count(VM_PAGEOUTRUN), 2);
	check_counts(ROUNDS, 0, 0, ROUNDS);
	check_all_free();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reclaim");
	TCase *tcase = tcase_create("reclaim");

	tcase_add_checked_fixture(tcase, setup, scene_teardown);
	tcase_add_test(tcase, frees_are_no_reclaim);
	tcase_add_test(tcase, draining_counts_by_reason);
	tcase_add_test(tcase, collecting_counts_what_threads_cache);
	tcase_add_test(tcase, what_others_hold_is_scanned_and_stays);
	tcase_add_test(tcase, trimming_is_background_reclaim);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
