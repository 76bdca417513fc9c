/* SPDX-License-Identifier: MIT */
/*
 * The members' half of the rack, alone: headers and slots in ordinary memory, several sessions.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/object.h"
#include "tests/suite.h"

enum { MAGAZINES = 40, CACHE = 50, SESSIONS = 4 };

static struct kmm k[SESSIONS];
static struct kmm_cache cache[SESSIONS];
static struct control control;
static void *words, *views;

static void setup(void)
{
	struct control_geometry g = {
		.frames = 4096, .section_order = 10, .sessions = 16, .magazines = MAGAZINES
	};
	struct control_layout l;
	uint32_t i;

	ck_assert_int_eq(control_layout_compute(&l, &g), 0);
	words = aligned_alloc(4096, l.words_size);
	views = aligned_alloc(4096, l.views_size);
	ck_assert(words && views);
	memset(words, 0, l.words_size);
	memset(views, 0, l.views_size);
	control_attach(&control, &g, words, views);
	for (i = 0; i < SESSIONS; i++) {
		k[i] = (struct kmm){ .id = i + 1, .control = control, .nodes = 1, .racks = true };
		cache[i] = (struct kmm_cache){ .id = CACHE, .k = &k[i],
			                       .view = &control.cache[CACHE] };
	}
}

static void teardown(void)
{
	free(words);
	free(views);
}

static struct control_rack *rack(void)
{
	return &control.rack[CACHE];
}

static uint64_t header(uint32_t m)
{
	return magazine_load(&control.magazine[m]);
}

/* As the daemon lends it, filled by the session. */
static void load(uint32_t m, uint32_t session)
{
	atomic_store(&control.magazine[m].kind, MAGAZINE_OF_OBJECTS | CACHE);
	atomic_store(&control.magazine[m].header,
	             magazine_next(header(m), MAGAZINE_LOADED, session + 1, 0));
}

static bool give(uint32_t s, uint32_t m, uint32_t count)
{
	struct exchange x = { .cache = &cache[s] };
	uint64_t h = header(m);
	bool done = rack_give(&k[s], x, m, &h, count);

	ck_assert(done || h == header(m));
	return done;
}

static bool take(uint32_t s, uint32_t most, uint32_t *m, uint32_t *count)
{
	struct exchange x = { .cache = &cache[s] };

	return rack_take(&k[s], x, most, m, count);
}

START_TEST(goes_from_member_to_member)
{
	uint32_t m = 99, n = 99;

	ck_assert(!take(1, 512, &m, &n));
	load(7, 0);
	ck_assert(give(0, 7, 20));
	ck_assert(magazine_is(header(7), MAGAZINE_RACK, 0));
	ck_assert(control_rack_says(rack(), 7));
	ck_assert_uint_eq(atomic_load(&control.session[1].racks), 1);
	/* too many for who wants less: it stays */
	ck_assert(!take(1, 19, &m, &n));
	ck_assert(control_rack_says(rack(), 7));
	ck_assert(take(1, 20, &m, &n));
	ck_assert_uint_eq(m, 7);
	ck_assert_uint_eq(n, 20);
	ck_assert(magazine_is(header(7), MAGAZINE_LOADED, 2));
	ck_assert(!control_rack_says(rack(), 7));
	ck_assert(!take(2, 512, &m, &n));
	ck_assert_uint_eq(atomic_load(&control.session[2].racks), 1);
}
END_TEST

START_TEST(counted)
{
	const struct control_rack_use *use = &control.session[1].rack_use;
	uint32_t m, n, i;

	for (i = 0; i <= CONTROL_RACK_SLOTS; i++) {
		load(i, 0);
		/* the last one finds no room: it is not counted */
		ck_assert(give(0, i, 10 + i) == (i < CONTROL_RACK_SLOTS));
	}
	ck_assert_uint_eq(atomic_load(&use->given), CONTROL_RACK_SLOTS);
	ck_assert_uint_eq(atomic_load(&use->given_rounds),
	                  10 * CONTROL_RACK_SLOTS + CONTROL_RACK_SLOTS * (CONTROL_RACK_SLOTS - 1) / 2);
	ck_assert(!take(1, 9, &m, &n));
	ck_assert(take(1, 10, &m, &n));
	ck_assert(take(1, 512, &m, &n));
	use = &control.session[2].rack_use;
	ck_assert_uint_eq(atomic_load(&use->taken), 2);
	ck_assert_uint_eq(atomic_load(&use->taken_rounds), 10 + n);
	ck_assert_uint_eq(atomic_load(&use->given), 0);
}
END_TEST

START_TEST(not_for_all)
{
	struct exchange told = { .cache = &cache[0], .told = true }, blocks = { .order = 0 };
	uint64_t h;
	uint32_t m, n;

	load(3, 0);
	h = header(3);
	ck_assert(!rack_give(&k[0], told, 3, &h, 5));
	ck_assert(!rack_give(&k[0], blocks, 3, &h, 5));
	k[0].racks = false; /* a quota */
	ck_assert(!give(0, 3, 5));
	k[0].racks = true;
	/* one that it was given while it ran: the daemon says so */
	atomic_store(&control.session[1].racks, CONTROL_RACKS_OFF);
	ck_assert(!give(0, 3, 5));
	ck_assert(!take(0, 512, &m, &n));
	atomic_fetch_and(&control.session[1].racks, ~CONTROL_RACKS_OFF);
	k[0].nodes = 2;
	ck_assert(!give(0, 3, 5));
	control.cache[CACHE].flags = KMM_SLAB_MEM_SPREAD;
	ck_assert(give(0, 3, 5));
	k[1].racks = false;
	ck_assert(!take(1, 512, &m, &n));
	k[1].racks = true;
	cache[1].opened_only = true;
	ck_assert(!take(1, 512, &m, &n));
	cache[1].opened_only = false;
	atomic_store(&control.status->pressure, 1);
	ck_assert(!take(1, 512, &m, &n));
	load(4, 0);
	ck_assert(!give(0, 4, 5));
	atomic_store(&control.status->pressure, 0);
	atomic_store(&control.status->scarce, 1);
	ck_assert(!give(0, 4, 5));
	ck_assert(take(1, 512, &m, &n)); /* what is there serves all the same */
	ck_assert_uint_eq(m, 3);
	ck_assert(magazine_is(header(4), MAGAZINE_LOADED, 1));
}
END_TEST

START_TEST(a_full_rack_takes_no_more)
{
	uint32_t i, m, n;

	for (i = 0; i <= CONTROL_RACK_SLOTS; i++) {
		load(i, 0);
		ck_assert(give(0, i, i + 1) == (i < CONTROL_RACK_SLOTS));
	}
	ck_assert(magazine_is(header(CONTROL_RACK_SLOTS), MAGAZINE_LOADED, 1));
	for (i = 0; i < CONTROL_RACK_SLOTS; i++)
		ck_assert(take(1, 512, &m, &n) && n == m + 1);
	ck_assert(!take(1, 512, &m, &n));
}
END_TEST

/* What slots say is not believed; who meets a stale one clears it. */
START_TEST(stale_slots_are_cleared)
{
	uint32_t i, m, n;

	load(1, 0); /* somebody has it */
	load(2, 0);
	ck_assert(give(0, 2, 9));
	atomic_store(&control.magazine[2].kind, MAGAZINE_OF_OBJECTS | (CACHE + 1));
	atomic_store(&control.magazine[3].header, magazine_next(0, MAGAZINE_RACK, 0, 0));
	atomic_store(&control.magazine[4].header, magazine_next(0, MAGAZINE_RACK, 3, 8));
	atomic_store(&rack()->slot[1], 2);
	atomic_store(&rack()->slot[2], 4);
	atomic_store(&rack()->slot[3], 5);
	atomic_store(&rack()->slot[4], MAGAZINES + 1);
	atomic_store(&rack()->slot[5], UINT32_MAX);
	load(5, 0);
	ck_assert(give(0, 5, 512));
	ck_assert(take(1, 512, &m, &n));
	ck_assert_uint_eq(m, 5);
	for (i = 0; i < CONTROL_RACK_SLOTS; i++)
		ck_assert_uint_eq(atomic_load(&rack()->slot[i]), 0);
	/* two slots, one magazine: one taker */
	ck_assert(give(1, 5, 512));
	atomic_store(&rack()->slot[9], 6);
	ck_assert(take(0, 512, &m, &n));
	ck_assert(!take(2, 512, &m, &n));
	ck_assert_uint_eq(atomic_load(&rack()->slot[9]), 0);
}
END_TEST

START_TEST(empty_ones)
{
	uint32_t i, m;

	ck_assert(!rack_take_empty(&k[0], &m));
	for (i = 0; i <= CONTROL_RACK_SLOTS; i++) {
		load(i, 0);
		ck_assert(rack_put_empty(&k[0], i, header(i)) == (i < CONTROL_RACK_SLOTS));
	}
	for (i = 0; i < CONTROL_RACK_SLOTS; i++) {
		ck_assert(rack_take_empty(&k[1], &m));
		ck_assert(magazine_is(header(m), MAGAZINE_LOADED, 2));
	}
	ck_assert(!rack_take_empty(&k[1], &m));
}
END_TEST

/* ---- threads ---- */

enum { ROUNDS = 100000 };

static _Atomic uint32_t in_hand[MAGAZINES];

static void *circle(void *arg)
{
	uint32_t s = (uint32_t)(uintptr_t)arg, m, n, i;
	bool have = false;

	for (i = 0; i < ROUNDS; i++) {
		if (!have) {
			have = take(s, 512, &m, &n);
			if (have) {
				ck_assert_uint_eq(atomic_fetch_add(&in_hand[m], 1), 0);
				ck_assert_uint_eq(n, m + 1);
			}
			continue;
		}
		ck_assert_uint_eq(atomic_fetch_sub(&in_hand[m], 1), 1);
		have = !give(s, m, m + 1);
		if (have) { /* full, or it was until now: as the daemon would, lend it anew */
			load(m, s);
			atomic_fetch_add(&in_hand[m], 1);
		}
	}
	for (i = 0; have; i++) {
		load(m, s);
		have = !give(s, m, m + 1);
		/* hints may go at any time */
		atomic_store(&rack()->slot[i % CONTROL_RACK_SLOTS], 0);
	}
	return NULL;
}

/* Each magazine is in one hand at a time, and none is lost, though a slot may miss it. */
START_TEST(many_threads)
{
	pthread_t thread[SESSIONS];
	uint32_t i;

	for (i = 0; i < CONTROL_RACK_SLOTS - SESSIONS; i++) {
		load(i, 0);
		ck_assert(give(0, i, i + 1));
	}
	for (i = 0; i < SESSIONS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, circle, (void *)(uintptr_t)i), 0);
	for (i = 0; i < SESSIONS; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < CONTROL_RACK_SLOTS - SESSIONS; i++)
		ck_assert(magazine_is(header(i), MAGAZINE_RACK, 0) &&
		          magazine_count(header(i)) == i + 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rack");
	TCase *t = tcase_create("rack");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, goes_from_member_to_member);
	tcase_add_test(t, counted);
	tcase_add_test(t, not_for_all);
	tcase_add_test(t, a_full_rack_takes_no_more);
	tcase_add_test(t, stale_slots_are_cleared);
	tcase_add_test(t, empty_ones);
	tcase_add_test(t, many_threads);
	suite_add_tcase(suite, t);
	return suite_status(suite);
}
