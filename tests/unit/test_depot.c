/* SPDX-License-Identifier: MIT */
/*
 * The depot: where magazines are, whatever their headers say. Control memory is ordinary memory;
 * the test plays the clients' half.
 */
#include "daemon/depot.h"
#include "tests/suite.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGAZINES = 8, NODES = 2, FRAMES_MAX = 100, A = 5, B = 6 };

static struct control control;
static struct depot *d;
static void *words, *views;

static void *zeroed(size_t size)
{
	void *p = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);

	ck_assert_ptr_nonnull(p);
	memset(p, 0, size);
	return p;
}

static void report(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  finding: %s\n", text);
}

static void silent(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static void check(void)
{
	ck_assert_uint_eq(depot_validate(d, report, NULL), 0);
}

static void control_new(void)
{
	struct control_geometry g = {
		.frames = 4096, .section_order = 10, .sessions = 16, .magazines = MAGAZINES
	};
	struct control_layout l;

	ck_assert_int_eq(control_layout_compute(&l, &g), 0);
	words = zeroed(l.words_size);
	views = zeroed(l.views_size);
	control_attach(&control, &g, words, views);
}

static void setup(void)
{
	control_new();
	ck_assert_int_eq(depot_new(&d, &control, NODES, FRAMES_MAX, NULL), 0);
	check();
}

static void teardown(void)
{
	ck_assert_ptr_null(depot_free(d));
	free(words);
	free(views);
}

static uint64_t header(magazine_id_t m)
{
	return magazine_load(&control.magazine[m.nr]);
}

/* What a client does: whatever it wants. */
static void set_header(magazine_id_t m, enum magazine_state state, uint32_t owner, uint32_t n)
{
	uint64_t h = header(m);

	ck_assert(magazine_cas(&control.magazine[m.nr], &h, magazine_next(h, state, owner, n)));
}

static unsigned int gone_of[16];

static void gone(void *ctx, uint32_t session)
{
	(void)ctx;
	gone_of[session]++;
}

START_TEST(empties_run_out)
{
	magazine_id_t m[MAGAZINES + 1];
	unsigned int i;

	ck_assert_uint_eq(depot_size(d), MAGAZINES);
	for (i = 0; i < MAGAZINES; i++) {
		ck_assert(depot_take_empty(d, &m[i]));
		depot_lend(d, m[i], A, MAGAZINE_OFFERED, 3);
		ck_assert(magazine_is(header(m[i]), MAGAZINE_OFFERED, A));
		ck_assert_uint_eq(magazine_count(header(m[i])), 3);
		ck_assert_uint_eq(depot_lent_to(d, m[i]), A);
		check();
	}
	ck_assert(!depot_take_empty(d, &m[i]));
	for (i = 0; i < MAGAZINES; i++) {
		ck_assert(!depot_claim(d, m[i], B));
		ck_assert(depot_claim(d, m[i], A));
		ck_assert(!depot_claim(d, m[i], A));
		depot_put_empty(d, m[i]);
		check();
	}
	ck_assert(depot_take_empty(d, &m[0]));
	depot_put_empty(d, m[0]);
}
END_TEST

START_TEST(full_ones_by_class)
{
	magazine_id_t m, got;
	uint32_t rounds;

	ck_assert(depot_take_empty(d, &m));
	ck_assert(depot_put_full(d, m, 4, 20, 40));
	check();
	ck_assert_uint_eq(depot_frames(d), 40);
	ck_assert_uint_eq(depot_rounds(d, m), 20);
	ck_assert_uint_eq(depot_lent_to(d, m), 0);
	ck_assert(!depot_take_full(d, 3, &got, &rounds));
	ck_assert(depot_take_full(d, 4, &got, &rounds));
	ck_assert_uint_eq(got.nr, m.nr);
	ck_assert_uint_eq(rounds, 20);
	ck_assert_uint_eq(depot_frames(d), 0);
	ck_assert(!depot_take_full(d, 4, &got, &rounds));
	depot_put_empty(d, m);
	check();
}
END_TEST

/* Objects of caches: as many classes as there may be caches and nodes, none of them in another's
 * way. */
START_TEST(classes_of_objects)
{
	static const uint32_t cache[] = { 1, 7, 16383 };
	unsigned int class[6], i, before = depot_classes(d);
	struct depot_count n;
	magazine_id_t m[6], got;
	uint32_t rounds;

	ck_assert_uint_eq(before, PAGE_CLASSES);
	ck_assert_uint_eq(depot_nodes(d), NODES);
	for (i = 0; i < 6; i++) {
		class[i] = depot_class_objects(d, cache[i / 2], i % 2);
		ck_assert_uint_ge(class[i], PAGE_CLASSES);
		ck_assert(depot_take_empty(d, &m[i]));
		ck_assert(depot_put_full(d, m[i], class[i], 100 + i, 1));
		ck_assert_uint_eq(atomic_load(&control.magazine[m[i].nr].kind),
		                  MAGAZINE_OF_OBJECTS | cache[i / 2]);
		check();
	}
	ck_assert_uint_gt(depot_classes(d), class[5]);
	for (i = 0; i < 3; i++) {
		depot_count_cache(d, cache[i], &n);
		ck_assert_uint_eq(n.full, 2);
		ck_assert_uint_eq(n.rounds, 201 + 4 * i);
	}
	depot_count_cache(d, 8, &n);
	ck_assert_uint_eq(n.full + n.rounds, 0);
	for (i = 6; i-- > 0;) {
		ck_assert(depot_take_full(d, class[i], &got, &rounds));
		ck_assert_uint_eq(got.nr, m[i].nr);
		ck_assert_uint_eq(rounds, 100 + i);
		ck_assert(!depot_take_full(d, class[i], &got, &rounds));
		depot_put_empty(d, got);
		check();
	}
}
END_TEST

/* What was not needed in a whole interval goes back, no more. */
START_TEST(trimming)
{
	unsigned int class = depot_class_objects(d, 3, 1), i;
	magazine_id_t m;
	uint32_t rounds;

	for (i = 0; i < 5; i++) {
		ck_assert(depot_take_empty(d, &m));
		ck_assert(depot_put_full(d, m, class, 1, 1));
	}
	/* there were none when this interval began */
	ck_assert_uint_eq(depot_trim(d, class), 0);
	/* down to three and up again: three were not needed */
	for (i = 0; i < 2; i++)
		ck_assert(depot_take_full(d, class, &m, &rounds));
	depot_put_empty(d, m);
	ck_assert(depot_take_empty(d, &m));
	ck_assert(depot_put_full(d, m, class, 1, 1));
	ck_assert_uint_eq(depot_trim(d, class), 3);
	for (i = 0; i < 3; i++) {
		ck_assert(depot_take_full(d, class, &m, &rounds));
		depot_put_empty(d, m);
	}
	/* the last one lay still for an interval */
	ck_assert_uint_eq(depot_trim(d, class), 1);
	ck_assert(depot_take_full(d, class, &m, &rounds));
	depot_put_empty(d, m);
	ck_assert_uint_eq(depot_trim(d, class), 0);
}
END_TEST

START_TEST(any_full_one)
{
	unsigned int class[3] = { 2, depot_class_objects(d, 5, 0), depot_class_objects(d, 90, 1) };
	unsigned int i, got, seen = 0;
	magazine_id_t m;
	uint32_t rounds;

	ck_assert(!depot_take_any(d, &m, &got, &rounds));
	for (i = 0; i < 3; i++) {
		ck_assert(depot_take_empty(d, &m));
		ck_assert(depot_put_full(d, m, class[i], 10 + i, 1));
	}
	for (i = 0; i < 3; i++) {
		ck_assert(depot_take_any(d, &m, &got, &rounds));
		ck_assert_uint_eq(got, class[rounds - 10]);
		seen |= 1u << (rounds - 10);
		depot_put_empty(d, m);
		check();
	}
	ck_assert_uint_eq(seen, 7);
	ck_assert(!depot_take_any(d, &m, &got, &rounds));
}
END_TEST

START_TEST(frames_are_limited)
{
	magazine_id_t a, b;

	ck_assert(depot_take_empty(d, &a));
	ck_assert(depot_take_empty(d, &b));
	ck_assert(depot_put_full(d, a, 0, 60, 60));
	ck_assert(!depot_put_full(d, b, 0, 41, 41));
	ck_assert_uint_eq(depot_frames(d), 60);
	ck_assert(depot_put_full(d, b, 0, 40, 40));
	check();
}
END_TEST

START_TEST(headers_are_not_believed)
{
	magazine_id_t m, e;
	uint32_t rounds;

	ck_assert(depot_take_empty(d, &m));
	ck_assert(depot_put_full(d, m, 2, 9, 9));
	set_header(m, MAGAZINE_LOADED, B, 400);
	ck_assert_uint_gt(depot_validate(d, silent, NULL), 0);
	ck_assert(!depot_claim(d, m, B));
	ck_assert(depot_take_full(d, 2, &m, &rounds));
	ck_assert_uint_eq(rounds, 9);
	depot_lend(d, m, A, MAGAZINE_OFFERED, 9);
	ck_assert(magazine_is(header(m), MAGAZINE_OFFERED, A));
	check();
	/* beyond the table */
	e.nr = MAGAZINES;
	ck_assert(!depot_claim(d, e, A));
	ck_assert_uint_eq(depot_lent_to(d, e), 0);
}
END_TEST

START_TEST(reaping)
{
	magazine_id_t m[4];
	unsigned int i;

	memset(gone_of, 0, sizeof(gone_of));
	for (i = 0; i < 4; i++) {
		ck_assert(depot_take_empty(d, &m[i]));
		depot_lend(d, m[i], i < 2 ? A : B, MAGAZINE_LOADED, 0);
	}
	ck_assert_uint_eq(depot_reap(d, 1000, gone, NULL), 0);
	set_header(m[1], MAGAZINE_EMPTY, 0, 0);
	set_header(m[2], MAGAZINE_EMPTY, 0, 0);
	ck_assert_uint_eq(depot_reap(d, 1000, gone, NULL), 2);
	ck_assert_uint_eq(gone_of[A], 1);
	ck_assert_uint_eq(gone_of[B], 1);
	ck_assert_uint_eq(depot_lent_to(d, m[0]), A);
	ck_assert_uint_eq(depot_lent_to(d, m[1]), 0);
	check();
	/* a claimed one that the session keeps */
	ck_assert(depot_claim(d, m[0], A));
	depot_unclaim(d, m[0], A);
	ck_assert_uint_eq(depot_lent_to(d, m[0]), A);
	check();
}
END_TEST

START_TEST(lent_ones_stay_over_a_restart)
{
	uint32_t lent[MAGAZINES] = { [1] = A, [4] = B };
	magazine_id_t m = { 1 }, got;
	unsigned int n = 0;

	ck_assert(depot_take_empty(d, &m));
	depot_free(d);
	set_header((magazine_id_t){ 1 }, MAGAZINE_LOADED, A, 7);
	set_header((magazine_id_t){ 2 }, MAGAZINE_DEPOT, 0, 7);
	ck_assert_int_eq(depot_new(&d, &control, NODES, FRAMES_MAX, lent), 0);
	check();
	ck_assert_uint_eq(depot_lent_to(d, (magazine_id_t){ 1 }), A);
	ck_assert_uint_eq(magazine_count(header((magazine_id_t){ 1 })), 7);
	ck_assert_uint_eq(magazine_state(header((magazine_id_t){ 2 })), MAGAZINE_EMPTY);
	while (depot_take_empty(d, &got)) {
		ck_assert(got.nr != 1 && got.nr != 4);
		n++;
	}
	ck_assert_uint_eq(n, MAGAZINES - 2);
}
END_TEST

/* ---- threads ---- */

enum { THREADS = 3, ROUNDS = 20000 };

static _Atomic uint32_t in_hand[MAGAZINES];

static void hold(magazine_id_t m)
{
	ck_assert_uint_eq(atomic_fetch_add(&in_hand[m.nr], 1), 0);
}

static void drop(magazine_id_t m)
{
	ck_assert_uint_eq(atomic_fetch_sub(&in_hand[m.nr], 1), 1);
}

static void *churn(void *arg)
{
	uint32_t session = (uint32_t)(uintptr_t)arg, i, rounds;
	magazine_id_t m;

	for (i = 0; i < ROUNDS; i++) {
		if (!depot_take_full(d, i % 2, &m, &rounds) && !depot_take_empty(d, &m)) {
			sched_yield();
			continue;
		}
		hold(m);
		switch (i % 3) {
		case 0:
			drop(m);
			depot_put_empty(d, m);
			break;
		case 1:
			drop(m);
			if (!depot_put_full(d, m, i % 2, 1, 1))
				depot_put_empty(d, m);
			break;
		default:
			drop(m);
			depot_lend(d, m, session, MAGAZINE_LOADED, 0);
			ck_assert(depot_claim(d, m, session));
			hold(m);
			drop(m);
			depot_put_empty(d, m);
			break;
		}
	}
	return NULL;
}

START_TEST(many_threads)
{
	pthread_t thread[THREADS];
	unsigned int i;

	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(
			pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)(i + 1)), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	check();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("depot");
	TCase *c = tcase_create("depot");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, empties_run_out);
	tcase_add_test(c, full_ones_by_class);
	tcase_add_test(c, classes_of_objects);
	tcase_add_test(c, trimming);
	tcase_add_test(c, any_full_one);
	tcase_add_test(c, frames_are_limited);
	tcase_add_test(c, headers_are_not_believed);
	tcase_add_test(c, reaping);
	tcase_add_test(c, lent_ones_stay_over_a_restart);
	tcase_add_test(c, many_threads);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
