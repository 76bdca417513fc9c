/* SPDX-License-Identifier: MIT */
/*
 * Objects in magazines: taking, giving, and dying between any two steps, over a real slab layer and
 * control memory in ordinary memory. The test plays the clients. All validators run after each step.
 * Clients that lie: test_exchange_lies.c.
 */
#include "tests/suite.h"
#include "tests/unit/test_exchange.h"

/* ---- there and back ---- */

START_TEST(there_and_back)
{
	uint32_t n, listed;
	magazine_id_t m, again;

	ck_assert_int_eq(take(a, 100, &m, &n), 0);
	ck_assert_uint_eq(n, 100);
	ck_assert_uint_eq(objects_out(), 100);
	ck_assert_int_eq(bytes(a), 6400);
	td_check(&t);
	ck_assert_uint_eq(td_take_objects(&t, a, m, out), 100);
	td_check(&t);
	ck_assert_uint_eq(td_load_objects(&t, a, m, out, 100), 100);
	td_check(&t);
	ck_assert_uint_eq(give(a, m, &listed), 100);
	ck_assert_uint_eq(listed, 100);
	ck_assert_int_eq(bytes(a), 0);
	ck_assert_uint_eq(in_depot(), 100);
	ck_assert_uint_eq(depot_frames(t.d->depot), 2); /* 6400 bytes */
	td_check(&t);
	/* told again: nothing */
	ck_assert_uint_eq(give(a, m, &listed), 0);
	ck_assert_uint_eq(listed, 0);
	/* another session gets that very magazine; what it did not ask for goes to the slabs */
	ck_assert_int_eq(take(b, 60, &again, &n), 0);
	ck_assert_uint_eq(again.nr, m.nr);
	ck_assert_uint_eq(n, 60);
	ck_assert_int_eq(bytes(b), 3840);
	ck_assert_uint_eq(in_depot(), 0);
	ck_assert_uint_eq(objects_out(), 60);
	td_check(&t);
	exchange_withdraw(t.d, b, 0, again);
	ck_assert_int_eq(bytes(b), 0);
	/* a late claim finds the header changed */
	ck_assert(!magazine_is(magazine_load(&t.d->control.magazine[again.nr]), MAGAZINE_OFFERED,
	                       b->id));
	ck_assert_uint_eq(atomic_load(&a->magazines) + atomic_load(&b->magazines), 0);
	ck_assert_uint_eq(atomic_load(&c->inside), 0);
	ck_assert_uint_eq(atomic_load(&c->rounds_max), 100);
	check_all_free();
}
END_TEST

START_TEST(whole_magazines)
{
	magazine_id_t m = take_held(a, MAGAZINE_ROUNDS_MAX);
	uint32_t listed, n;

	ck_assert_uint_eq(td_load_objects(&t, a, m, out, MAGAZINE_ROUNDS_MAX), MAGAZINE_ROUNDS_MAX);
	ck_assert_uint_eq(give(a, m, &listed), MAGAZINE_ROUNDS_MAX);
	td_check(&t);
	ck_assert_int_eq(take(b, 5000, &m, &n), 0);
	ck_assert_uint_eq(n, MAGAZINE_ROUNDS_MAX);
	td_check(&t);
	session_end(b);
	check_all_free();
}
END_TEST

START_TEST(constructed_only)
{
	const char *why;
	magazine_id_t m;
	uint32_t n, i, listed;

	ck_assert_int_eq(exchange_take_objects(c, b, 0, GFP_KERNEL, true, 10, &m, &n, &why),
	                 -ENOKEY);
	ck_assert_uint_eq(atomic_load(&b->magazines), 0);
	ck_assert_int_eq(bytes(b), 0);
	m = take_held(a, 40);
	for (i = 0; i < 40; i += 2)
		atomic_fetch_or(td_word_of(&t, out[i]), OWNER_CONSTRUCTED);
	td_load_objects(&t, a, m, out, 40);
	give(a, m, &listed);
	/* from the depot, the others to the slabs */
	ck_assert_int_eq(exchange_take_objects(c, b, 0, GFP_KERNEL, true, 100, &m, &n, &why), 0);
	ck_assert_uint_eq(n, 20);
	ck_assert_uint_eq(td_take_objects(&t, b, m, out), 20);
	for (i = 0; i < 20; i++)
		ck_assert(owner_load(td_word_of(&t, out[i])) & OWNER_CONSTRUCTED);
	/* from the slabs */
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(td_object_free(&t, b, out[i]), 0);
	slab_shrink(c->slab, 0, 8);
	ck_assert_int_eq(exchange_take_objects(c, b, 0, GFP_KERNEL, true, 7, &m, &n, &why), 0);
	ck_assert_uint_eq(n, 7);
	td_check(&t);
	session_end(b);
	check_all_free();
}
END_TEST

/* However many magazines of the depot have nothing that is wanted, one call looks at a few. */
START_TEST(few_magazines_are_tried)
{
	struct session *s[4] = { a, td_session(&t, "c"), td_session(&t, "d"), td_session(&t, "e") };
	magazine_id_t m[20];
	const char *why;
	uint32_t n, i, listed, left;

	for (i = 0; i < 20; i++) {
		m[i] = take_held(s[i % 4], 10);
		td_load_objects(&t, s[i % 4], m[i], out, 10);
	}
	for (i = 0; i < 20; i++)
		ck_assert_uint_eq(give(s[i % 4], m[i], &listed), 10);
	ck_assert_uint_eq(in_depot(), 200);
	ck_assert_int_eq(exchange_take_objects(c, b, 0, GFP_KERNEL, true, 10, m, &n, &why),
	                 -ENOKEY);
	left = (uint32_t)in_depot();
	ck_assert_uint_lt(left, 200);
	ck_assert_uint_gt(left, 100);
	td_check(&t);
	ck_assert_uint_eq(exchange_drain_cache(t.d, c, MM_CPU_NONE), left);
	slab_shrink(c->slab, 0, 0);
	check_all_free();
}
END_TEST

/* Objects so large that a magazine of them would be more than one call may make. */
START_TEST(large_objects_come_in_small_numbers)
{
	struct cache *large = td_cache(&t, a, "large", 512 * 1024, false);
	const char *why;
	magazine_id_t m;
	uint32_t n = 0;

	ck_assert_int_eq(exchange_take_objects(large, a, 0, GFP_KERNEL, false, 512, &m, &n, &why),
	                 0);
	ck_assert_uint_ge(n, 1);
	ck_assert_uint_le(n, 32);
	td_check(&t);
	session_end(a);
	check_all_free();
}
END_TEST

START_TEST(kept_objects_stay_with_their_holders)
{
	magazine_id_t m = take_held(a, 10);
	uint64_t w = owner_load(td_word_of(&t, out[3]));
	const char *why;
	uint32_t listed;

	ck_assert_int_eq(grant_hold(t.d, b, out[3], (uint32_t)owner_generation(w), &why), 0);
	td_load_objects(&t, a, m, out, 10);
	ck_assert_uint_eq(give(a, m, &listed), 10);
	ck_assert_uint_eq(in_depot(), 0);
	ck_assert_uint_eq(objects_out(), 1);
	ck_assert(owner_is(owner_load(td_word_of(&t, out[3])), OWNER_HELD, 0));
	td_check(&t);
	ck_assert_int_eq(grant_release(t.d, b, 0, out[3], &why), 0);
	check_all_free();
}
END_TEST

/* ---- limits ---- */

START_TEST(quota)
{
	const char *why = NULL;
	magazine_id_t m;
	uint32_t n, listed;

	a->pages_max = 1;
	ck_assert_int_eq(take(a, 100, &m, &n), 0);
	ck_assert_uint_eq(n, 64);
	ck_assert_int_eq(exchange_take_objects(c, a, 0, GFP_KERNEL, false, 1, &m, &n, &why),
	                 -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "pages"));
	/* what lies in the depot is charged to nobody, and does not get round the quota */
	m = take_held(b, 100);
	td_load_objects(&t, b, m, out, 100);
	give(b, m, &listed);
	ck_assert_int_eq(take(a, 1, &m, &n), -EDQUOT);
	td_check(&t);
	session_end(a);
	session_end(b);
	check_all_free();
}
END_TEST

START_TEST(no_memory)
{
	magazine_id_t m;
	const char *why;
	uint32_t n;
	pfn_t pfn;

	while (grant_alloc(t.d, b, 0, GFP_KERNEL | __GFP_MOVABLE, 0, &pfn, &why) == 0)
		;
	while (take(b, 512, &m, &n) == 0)
		ck_assert_uint_gt(td_take_objects(&t, b, m, out), 0);
	while (object_alloc(c, b, 0, GFP_KERNEL, false, &n, &why) == 0)
		;
	ck_assert_int_eq(exchange_take_objects(c, a, 0, GFP_KERNEL, false, 8, &m, &n, &why),
	                 -ENOMEM);
	ck_assert_int_eq(bytes(a), 0);
	ck_assert_uint_eq(atomic_load(&a->magazines), 0);
	ck_assert_int_eq(exchange_take_objects_waiting(c, a, MM_NODE_ANY, GFP_KERNEL, false, 8, &m,
	                                               &n, &why),
	                 -ENOMEM);
	td_check(&t);
	session_end(b);
	check_all_free();
}
END_TEST

/* No empty magazine is left: the depot gives up a full one, of whatever class. */
START_TEST(full_magazines_make_room)
{
	struct session *s[16] = { a };
	pfn_t pfn[4];
	magazine_id_t m;
	uint32_t n, i = 0, lent = 0, listed;
	const char *why;

	m = take_held(b, 50);
	td_load_objects(&t, b, m, out, 50);
	give(b, m, &listed);
	for (n = 0; n < 4; n++)
		pfn[n] = td_alloc(&t, b, GFP_KERNEL, 0);
	ck_assert_int_eq(exchange_empty(t.d, b, &m), 0);
	td_load(&t, b, m, pfn, 4);
	give(b, m, &listed);
	ck_assert_uint_eq(depot_frames(t.d->depot), 1 + 4);
	for (i = 0; i < 8; i++) {
		s[i] = td_session(&t, "x");
		while (lent < TD_MAGAZINES - 2 && exchange_empty(t.d, s[i], &m) == 0)
			lent++;
	}
	ck_assert_uint_eq(lent, TD_MAGAZINES - 2);
	/* a request under the wait queue's lock frees nothing */
	ck_assert_int_eq(exchange_take_objects_waiting(c, a, MM_NODE_ANY, GFP_KERNEL, false, 8, &m,
	                                               &n, &why),
	                 -EAGAIN);
	ck_assert_int_eq(exchange_empty(t.d, a, &m), 0);
	ck_assert_int_eq(exchange_empty(t.d, b, &m), 0);
	ck_assert_int_eq(exchange_empty(t.d, b, &m), -EAGAIN);
	ck_assert_uint_eq(depot_frames(t.d->depot), 0);
	ck_assert_uint_eq(objects_out(), 0);
	td_check(&t);
}
END_TEST

/* Magazines that the client emptied by itself are found again, however many it has had. */
START_TEST(emptied_magazines_serve_again)
{
	magazine_id_t m, last = { 0 };
	uint32_t round, n, again = 0;

	for (round = 0; round < 3 * TD_MAGAZINES; round++) {
		struct magazine *mag;
		uint64_t h;

		ck_assert_int_eq(take(a, 3, &m, &n), 0);
		ck_assert_uint_eq(td_take_objects(&t, a, m, out), 3);
		again += round && m.nr == last.nr;
		last = m;
		mag = &t.d->control.magazine[m.nr];
		h = magazine_load(mag);
		ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_EMPTY, 0, 0)));
		/* full ones of the depot leave none that was lent lately */
		if (round % 7 == 0) {
			ck_assert_int_eq(exchange_empty(t.d, a, &m), 0);
			td_load_objects(&t, a, m, out, 3);
			give(a, m, &n);
		}
	}
	ck_assert_uint_gt(again, TD_MAGAZINES);
	ck_assert_uint_le(atomic_load(&a->magazines), TD_MAGAZINES / 8);
	td_check(&t);
	session_end(a);
	check_all_free();
}
END_TEST

START_TEST(trimming)
{
	uint32_t mine[64], listed;
	magazine_id_t m = take_held(a, 64), other;

	memcpy(mine, out, sizeof(mine));
	other = take_held(b, 64);
	td_load_objects(&t, b, other, out, 64);
	give(b, other, &listed);
	td_load_objects(&t, a, m, mine, 64);
	give(a, m, &listed);
	ck_assert_uint_eq(in_depot(), 128);
	ck_assert_uint_eq(exchange_trim(t.d, 0), 0); /* the first interval began without any */
	ck_assert_uint_eq(in_depot(), 128);
	/* one of the two was used */
	m = take_held(a, 64);
	td_load_objects(&t, a, m, out, 64);
	give(a, m, &listed);
	ck_assert_uint_eq(exchange_trim(t.d, 0), 1);
	ck_assert_uint_eq(in_depot(), 64);
	ck_assert_uint_eq(objects_out(), 64);
	td_check(&t);
	exchange_trim(t.d, 0);
	check_all_free();
}
END_TEST

START_TEST(draining)
{
	struct cache *other = td_cache(&t, a, "others", 500, false);
	const char *why;
	magazine_id_t m;
	uint32_t n, listed;

	m = take_held(a, 30);
	td_load_objects(&t, a, m, out, 30);
	give(a, m, &listed);
	ck_assert_int_eq(exchange_take_objects(other, a, 0, GFP_KERNEL, false, 20, &m, &n, &why),
	                 0);
	ck_assert_uint_eq(td_take_objects(&t, a, m, out), 20);
	td_load_objects(&t, a, m, out, 20);
	give(a, m, &listed);
	ck_assert_uint_eq(exchange_drain_cache(t.d, other, MM_CPU_NONE), 20);
	ck_assert_uint_eq(in_depot(), 30);
	td_check(&t);
	exchange_drain(t.d, MM_CPU_NONE);
	ck_assert_uint_eq(in_depot(), 0);
	check_all_free();
}
END_TEST

/* ---- deaths ---- */

/* Taking, step by step, and death after each. */
START_TEST(death_while_taking)
{
	unsigned int step;

	for (step = 0; step < 5; step++) {
		struct session *s = td_session(&t, "dying");
		struct magazine *mag;
		magazine_id_t m;
		uint32_t n, i, done = step >= 3 ? step == 3 ? 5 : 9 : 0;
		uint64_t h;

		ck_assert_int_eq(take(s, 9, &m, &n), 0); /* 0: offered, never read */
		mag = &t.d->control.magazine[m.nr];
		h = magazine_load(mag);
		if (step >= 1) /* claimed */
			ck_assert(magazine_cas(mag, &h,
			                       magazine_next(h, MAGAZINE_LOADED, s->id, n)));
		for (i = 0; i < (step >= 2 ? 1 : 0) + done && i < n; i++) {
			td_note(&t, s, atomic_load(&mag->round[i]));
			ck_assert(td_object_change(&t, atomic_load(&mag->round[i]), OWNER_MAGAZINE,
			                           m.nr, OWNER_HELD, s->id));
		}
		td_check(&t);
		session_end(s);
		check_all_free();
		ck_assert_uint_eq(depot_lent_to(t.d->depot, m), 0);
	}
}
END_TEST

/* Giving likewise: k words point at the magazine, of those some are listed; the header says DEPOT.
 */
START_TEST(death_while_giving)
{
	unsigned int step;

	for (step = 0; step < 12; step++) {
		struct session *s = td_session(&t, "dying");
		magazine_id_t m = take_held(s, 9);
		struct magazine *mag = &t.d->control.magazine[m.nr];
		uint32_t i;
		uint64_t h = magazine_load(mag);

		for (i = 0; i < step && i < 9; i++) {
			ck_assert(td_object_change(&t, out[i], OWNER_HELD, s->id, OWNER_MAGAZINE,
			                           m.nr));
			if (i + 1 < step)
				atomic_store(&mag->round[i], out[i]);
		}
		if (step >= 10)
			ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, 9)));
		td_check(&t);
		if (step == 11) { /* the daemon was told: the objects are not its own any more */
			uint32_t listed;

			ck_assert_uint_eq(give(s, m, &listed), 9);
			session_end(s);
			td_check(&t);
			ck_assert_uint_eq(in_depot(), 9);
		} else {
			session_end(s);
		}
		check_all_free();
	}
}
END_TEST

/* Between the depot and a session that never claims. */
START_TEST(death_of_the_next_taker)
{
	magazine_id_t m = take_held(a, 20), n;
	uint32_t listed, rounds;

	td_load_objects(&t, a, m, out, 20);
	give(a, m, &listed);
	ck_assert_int_eq(take(b, 20, &n, &rounds), 0);
	session_end(b);
	check_all_free();
	ck_assert_int_eq(bytes(a), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exchange of objects");
	TCase *k = tcase_create("exchange");

	tcase_add_checked_fixture(k, setup, scene_teardown);
	tcase_set_timeout(k, 120);
	tcase_add_test(k, there_and_back);
	tcase_add_test(k, whole_magazines);
	tcase_add_test(k, constructed_only);
	tcase_add_test(k, few_magazines_are_tried);
	tcase_add_test(k, large_objects_come_in_small_numbers);
	tcase_add_test(k, kept_objects_stay_with_their_holders);
	tcase_add_test(k, quota);
	tcase_add_test(k, no_memory);
	tcase_add_test(k, full_magazines_make_room);
	tcase_add_test(k, emptied_magazines_serve_again);
	tcase_add_test(k, trimming);
	tcase_add_test(k, draining);
	tcase_add_test(k, death_while_taking);
	tcase_add_test(k, death_while_giving);
	tcase_add_test(k, death_of_the_next_taker);
	suite_add_tcase(suite, k);
	return suite_status(suite);
}
