/* SPDX-License-Identifier: MIT */
/*
 * The map of a per-CPU chunk, alone: regions by first fit, against a model that knows the use of
 * every four bytes of the unit; and the word in which a thread leaves its name.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/percpu.h"
#include "shm/area_lock.h"
#include "tests/suite.h"

#define UNIT 32768u
#define GRAINS (UNIT / PERCPU_GRAIN)

static struct percpu_map m;

static void setup(void)
{
	ck_assert_int_eq(percpu_map_init(&m, UNIT), 0);
	ck_assert(percpu_map_valid(&m, UNIT));
}

static void teardown(void)
{
	ck_assert(percpu_map_valid(&m, UNIT));
	percpu_map_free(&m);
}

static uint32_t take(uint32_t size, uint32_t align)
{
	uint32_t at = UINT32_MAX;
	int r = percpu_map_take(&m, size, align, &at);

	ck_assert(percpu_map_valid(&m, UNIT));
	if (r < 0) {
		ck_assert_int_eq(r, -ENOSPC);
		ck_assert_uint_eq(at, UINT32_MAX);
	}
	return at;
}

static int give(uint32_t at)
{
	int r = percpu_map_give(&m, at);

	ck_assert(percpu_map_valid(&m, UNIT));
	return r;
}

START_TEST(first_fit)
{
	ck_assert_uint_eq(take(100, 4), 0);
	ck_assert_uint_eq(take(8, 8), 104);
	ck_assert_uint_eq(take(4, 4), 100); /* what the alignment left */
	ck_assert_uint_eq(take(64, 64), 128);
	ck_assert_uint_eq(take(16, 8), 112); /* before the last one */
	ck_assert_int_eq(give(0), 0);
	ck_assert_int_eq(give(100), 0); /* joins */
	ck_assert_uint_eq(take(104, 4), 0);
}
END_TEST

START_TEST(sizes_are_rounded_up)
{
	ck_assert_uint_eq(take(1, 1), 0);
	ck_assert_uint_eq(take(1, 1), 4);
	ck_assert_uint_eq(take(5, 1), 8);
	ck_assert_uint_eq(take(1, 1), 16);
	ck_assert_uint_eq(m.free, UNIT - 20);
}
END_TEST

START_TEST(all_of_it)
{
	uint32_t i;

	ck_assert_uint_eq(take(UNIT, 4096), 0);
	ck_assert_uint_eq(take(1, 1), UINT32_MAX);
	ck_assert_int_eq(give(0), 0);
	ck_assert_uint_eq(m.free, UNIT);
	for (i = 0; i < UNIT; i += PERCPU_GRAIN)
		ck_assert_uint_eq(take(PERCPU_GRAIN, PERCPU_GRAIN), i);
	ck_assert_uint_eq(take(1, 1), UINT32_MAX);
	for (i = 0; i < UNIT; i += 2 * PERCPU_GRAIN)
		ck_assert_int_eq(give(i), 0);
	ck_assert_uint_eq(take(8, 4), UINT32_MAX); /* half is free, in pieces of four */
	for (i = PERCPU_GRAIN; i < UNIT; i += 2 * PERCPU_GRAIN)
		ck_assert_int_eq(give(i), 0);
	ck_assert_uint_eq(m.n, 1);
	ck_assert_uint_eq(take(UNIT, 4), 0);
}
END_TEST

START_TEST(alignment_can_be_what_fails)
{
	ck_assert_uint_eq(take(4, 4), 0);
	ck_assert_uint_eq(take(UNIT - 4, 4096), UINT32_MAX);
	ck_assert_uint_eq(take(UNIT - 4096, 4096), 4096);
	ck_assert_uint_eq(take(4096, 4), UINT32_MAX);
	ck_assert_uint_eq(take(4092, 4), 4);
}
END_TEST

START_TEST(bad_frees)
{
	uint32_t at = take(64, 8);

	ck_assert_int_eq(give(at + 4), -EINVAL);
	ck_assert_int_eq(give(at + 60), -EINVAL);
	ck_assert_int_eq(give(at + 64), -ENOENT);
	ck_assert_int_eq(give(UNIT - 4), -ENOENT);
	ck_assert_int_eq(give(at), 0);
	ck_assert_int_eq(give(at), -ENOENT);
}
END_TEST

START_TEST(the_validator_sees)
{
	uint32_t at = take(64, 8), saved;

	take(64, 8);
	ck_assert_int_eq(give(at), 0);
	m.free += 4;
	ck_assert(!percpu_map_valid(&m, UNIT));
	m.free -= 4;
	m.largest = 60;
	ck_assert(!percpu_map_valid(&m, UNIT));
	m.largest = UNIT;
	m.first = 1;
	ck_assert(!percpu_map_valid(&m, UNIT));
	m.first = 0;
	saved = m.at[1];
	m.at[1] = 0;
	ck_assert(!percpu_map_valid(&m, UNIT));
	m.at[1] = saved & ~1u; /* two free ones side by side */
	ck_assert(!percpu_map_valid(&m, UNIT));
	m.at[1] = saved;
}
END_TEST

/* ---- the model ---- */

static uint8_t used[GRAINS]; /* 1: begins here, 2: goes on */

static uint32_t model_fit(uint32_t size, uint32_t align)
{
	uint32_t step = (align < PERCPU_GRAIN ? PERCPU_GRAIN : align) / PERCPU_GRAIN;
	uint32_t n = (size + PERCPU_GRAIN - 1) / PERCPU_GRAIN, at, i;

	for (at = 0; at + n <= GRAINS; at += step) {
		for (i = 0; i < n && !used[at + i]; i++)
			;
		if (i == n)
			return at * PERCPU_GRAIN;
	}
	return UINT32_MAX;
}

static void model_mark(uint32_t at, uint32_t size)
{
	uint32_t n = (size + PERCPU_GRAIN - 1) / PERCPU_GRAIN;

	memset(&used[at / PERCPU_GRAIN], 2, n);
	used[at / PERCPU_GRAIN] = 1;
}

static int model_give(uint32_t at)
{
	uint32_t i = at / PERCPU_GRAIN;

	if (used[i] != 1)
		return used[i] ? -EINVAL : -ENOENT;
	do
		used[i++] = 0;
	while (i < GRAINS && used[i] == 2);
	return 0;
}

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32) % n;
}

static uint64_t number_of(const char *variable, uint64_t usual)
{
	const char *text = getenv(variable);

	return text ? strtoull(text, NULL, 0) : usual;
}

START_TEST(model)
{
	uint64_t steps = number_of("KMM_TEST_STEPS", 1000000), i;
	uint64_t seed = number_of("KMM_TEST_SEED", 0x5eed0001);
	uint32_t fill = 50;

	printf("seed %#llx\n", (unsigned long long)seed);
	random_state = seed;
	memset(used, 0, sizeof(used));
	for (i = 0; i < steps; i++) {
		if (i % 4096 == 0)
			fill = 20 + random_below(70); /* it swells and shrinks */
		if (random_below(100) < fill) {
			uint32_t large = random_below(64) == 0, at = UINT32_MAX;
			uint32_t size = 1 + random_below(large ? 4096 : 256);
			uint32_t align = 1u << random_below(large ? 13 : 7);
			uint32_t want = model_fit(size, align);
			int r = percpu_map_take(&m, size, align, &at);

			ck_assert_msg(at == want && r == (want == UINT32_MAX ? -ENOSPC : 0),
			              "step %llu: %u bytes by %u at %u, not %u",
			              (unsigned long long)i, size, align, at, want);
			if (r == 0)
				model_mark(at, size);
		} else {
			uint32_t at = random_below(GRAINS) * PERCPU_GRAIN;

			/* mostly what is there */
			while (random_below(8) && at > 0 && used[at / PERCPU_GRAIN] != 1)
				at -= PERCPU_GRAIN;
			ck_assert_int_eq(percpu_map_give(&m, at), model_give(at));
		}
		if (i % 64 == 0)
			ck_assert_msg(percpu_map_valid(&m, UNIT), "step %llu",
			              (unsigned long long)i);
	}
}
END_TEST

/* ---- names ---- */

START_TEST(a_name_says_all)
{
	uint64_t w = area_lock_make(OWNER_MAX, 4194304, 3);

	ck_assert_uint_eq(area_lock_session(w), OWNER_MAX);
	ck_assert_uint_eq(area_lock_thread(w), 4194304);
	ck_assert_uint_eq(area_lock_depth(w), 3);
	ck_assert_uint_eq(area_lock_depth(area_lock_make(1, 2, 100000)), AREA_LOCK_DEPTH_MAX);
	ck_assert_uint_eq(area_lock_session(area_lock_make(1, 2, 100000)), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("per-CPU map");
	TCase *c = tcase_create("map"), *r = tcase_create("model"), *n = tcase_create("names");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, first_fit);
	tcase_add_test(c, sizes_are_rounded_up);
	tcase_add_test(c, all_of_it);
	tcase_add_test(c, alignment_can_be_what_fails);
	tcase_add_test(c, bad_frees);
	tcase_add_test(c, the_validator_sees);
	suite_add_tcase(s, c);
	tcase_add_checked_fixture(r, setup, teardown);
	tcase_set_timeout(r, 120);
	tcase_add_test(r, model);
	suite_add_tcase(s, r);
	tcase_add_test(n, a_name_says_all);
	suite_add_tcase(s, n);
	return suite_status(s);
}
