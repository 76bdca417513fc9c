/* SPDX-License-Identifier: MIT */
/*
 * Objects in magazines given by clients that lie: rounds that are none, listed twice, others' or of
 * another kind; words and headers written over at any time. What the daemon knows by itself stays
 * whole, and what honest sessions hold stays theirs.
 */
#include "tests/suite.h"
#include "tests/unit/test_exchange.h"

/* ---- lies ---- */

/* Freed twice: the second free finds the word naming the magazine already. */
START_TEST(given_twice)
{
	magazine_id_t m = take_held(a, 10);
	uint32_t twice[12], listed;

	memcpy(twice, out, sizeof(twice));
	twice[10] = out[0];
	twice[11] = out[5];
	ck_assert_uint_eq(td_load_objects(&t, a, m, twice, 12), 10);
	ck_assert_uint_eq(give(a, m, &listed), 10);
	td_check(&t);
}
END_TEST

START_TEST(listed_twice)
{
	magazine_id_t m = take_held(a, 10);
	struct magazine *mag = &t.d->control.magazine[m.nr];
	uint32_t listed, got[MAGAZINE_ROUNDS_MAX], n;
	uint64_t h;

	td_load_objects(&t, a, m, out, 10);
	atomic_store(&mag->round[10], out[0]);
	h = magazine_load(mag);
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, 11)));
	give(a, m, &listed);
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0); /* told, not believed */
	/* whoever takes it has it once */
	ck_assert_int_eq(take(b, 20, &m, &n), 0);
	ck_assert_uint_eq(td_take_objects(&t, b, m, got), 10);
	td_check(&t);
	session_end(b);
	check_all_free();
}
END_TEST

/* Among its own: another's, one that is free, a block's, nonsense, beyond the pool, another
 * cache's. */
START_TEST(mixed_rounds)
{
	struct cache *k = td_cache(&t, a, "others", 300, false);
	uint32_t mine = td_object(&t, k, a), theirs = td_object(&t, c, b), gone, listed;
	pfn_t block = td_alloc(&t, a, GFP_KERNEL, 0);
	magazine_id_t m = take_held(a, 10);
	struct magazine *mag = &t.d->control.magazine[m.nr];
	uint64_t h;

	gone = out[9];
	ck_assert_int_eq(td_object_free(&t, a, gone), 0);
	td_load_objects(&t, a, m, out, 9);
	td_object_change(&t, mine, OWNER_HELD, a->id, OWNER_MAGAZINE, m.nr);
	td_change(&t, block, OWNER_HELD, a->id, OWNER_MAGAZINE, m.nr);
	atomic_store(&mag->round[9], gone);
	atomic_store(&mag->round[10], theirs);
	atomic_store(&mag->round[11], mine);
	atomic_store(&mag->round[12], domain_granule(t.d, block));
	atomic_store(&mag->round[13], out[0] + 1);
	atomic_store(&mag->round[14], UINT32_MAX);
	h = magazine_load(mag);
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, 15)));
	ck_assert_uint_eq(give(a, m, &listed), 11);
	ck_assert_uint_eq(listed, 15);
	ck_assert(owner_is(owner_load(td_word_of(&t, theirs)), OWNER_HELD, b->id));
	ck_assert_uint_eq(in_depot(), 0);
	ck_assert_int_eq(bytes(a), 0);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
	td_check(&t);
	/* not its own magazine, none at all */
	give(b, m, &listed);
	ck_assert_uint_eq(listed, 0);
	give(b, (magazine_id_t){ TD_MAGAZINES }, &listed);
	ck_assert_uint_eq(listed, 0);
	session_end(b);
	check_all_free();
}
END_TEST

/* A magazine of blocks with objects behind them, and the other way round by its kind. */
START_TEST(kind_is_not_believed)
{
	uint32_t mine = td_object(&t, c, a), listed;
	struct magazine *mag;
	pfn_t block[2] = { td_alloc(&t, a, GFP_KERNEL, 0), td_alloc(&t, a, GFP_KERNEL, 0) };
	magazine_id_t m;
	uint64_t h;

	ck_assert_int_eq(exchange_empty(t.d, a, &m), 0);
	mag = &t.d->control.magazine[m.nr];
	td_load(&t, a, m, block, 2);
	td_object_change(&t, mine, OWNER_HELD, a->id, OWNER_MAGAZINE, m.nr);
	atomic_store(&mag->round[2], mine);
	atomic_store(&mag->kind, MAGAZINE_OF_OBJECTS | 3);
	h = magazine_load(mag);
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, 3)));
	ck_assert_uint_eq(give(a, m, &listed), 3);
	ck_assert_uint_eq(depot_frames(t.d->depot), 0);
	check_all_free();
}
END_TEST

/* What lies in the depot is scribbled over: what is taken is right, what is lost comes back with
 * the next start. */
START_TEST(scribbled_in_the_depot)
{
	magazine_id_t m = take_held(a, 40);
	struct magazine *mag = &t.d->control.magazine[m.nr];
	uint32_t listed, n, i, got[MAGAZINE_ROUNDS_MAX], id = c->id;

	td_load_objects(&t, a, m, out, 40);
	give(a, m, &listed);
	for (i = 0; i < 20; i++)
		atomic_store(&mag->round[i], (uint32_t)rand());
	atomic_store(td_word_of(&t, out[30]), UINT64_MAX);
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	ck_assert_int_eq(take(b, 100, &m, &n), 0);
	ck_assert_uint_eq(n, 19);
	ck_assert_uint_eq(td_take_objects(&t, b, m, got), 19);
	session_end(b);
	session_end(a);
	td_restart(&t);
	c = cache_by_id(t.d, id);
	/* the word of nobody's kind stays out of use */
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
	ck_assert_uint_eq(objects_out(), 1);
}
END_TEST

/* ---- at random ---- */

START_TEST(random_magazines)
{
	enum { STEPS = 3000 };
	struct session *s[3] = { a, b, td_session(&t, "third") };
	struct cache *k[3] = { c, td_cache(&t, b, "x", 200, true),
		               td_cache(&t, b, "y", 3000, false) };
	uint32_t step, n, listed, i;
	const char *why;

	srand(11);
	for (step = 0; step < STEPS; step++) {
		magazine_id_t m = { (uint32_t)rand() % TD_MAGAZINES };
		struct magazine *mag = &t.d->control.magazine[m.nr];
		struct session *who = s[rand() % 3];
		uint32_t cpu = (uint32_t)rand() % 2;

		for (i = (uint32_t)rand() % 20; i > 0; i--) {
			uint32_t at = (uint32_t)rand() % 520, slot;

			slot = (uint32_t)rand() % MAGAZINE_ROUNDS_MAX;
			if (rand() % 2)
				atomic_store(&mag->round[slot], (uint32_t)rand());
			/* words of objects of the first slabs, whatever they belong to */
			if (rand() % 4 == 0)
				owner_store(&t.d->control.object[at],
				            owner_moved(owner_load(&t.d->control.object[at]),
				                        (enum owner_kind)(rand() % 8),
				                        (uint32_t)rand() % TD_MAGAZINES));
		}
		if (rand() % 3 == 0)
			atomic_store(&mag->header, (uint64_t)rand() << 32 | (uint32_t)rand());
		else if (rand() % 2)
			atomic_store(&mag->header,
			             magazine_next(magazine_load(mag), MAGAZINE_DEPOT, 0,
			                           (uint32_t)rand() % 1024));
		switch (rand() % 6) {
		case 0:
		case 1:
			exchange_give(t.d, who, cpu, m, &n, &listed);
			break;
		case 2:
		case 3:
			if (exchange_take_objects(k[rand() % 3], who, cpu, GFP_KERNEL,
			                          rand() % 4 == 0, (uint32_t)rand() % 600, &m, &n,
			                          &why) == 0 &&
			    rand() % 2)
				exchange_withdraw(t.d, who, cpu, m);
			break;
		case 4:
			switch (rand() % 8) {
			case 0:
				exchange_trim(t.d, cpu);
				break;
			case 1:
				exchange_drain(t.d, cpu);
				break;
			case 2:
				grant_withdraw_all(t.d, who);
				break;
			case 3:
				domain_validate(t.d, td_silent, NULL);
				break;
			}
			break;
		case 5:
			if (rand() % 20)
				break;
			i = (uint32_t)rand() % 3;
			session_end(s[i]);
			s[i] = td_session(&t, "again");
			break;
		}
		if (step % 300 == 0) {
			ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
			ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
			ck_assert_uint_eq(cache_validate(t.d, td_report, NULL), 0);
		}
	}
	for (i = 0; i < 3; i++) {
		session_end(s[i]);
		ck_assert_uint_eq(atomic_load(&k[i]->inside), 0);
	}
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
	td_restart(&t);
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
	ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("exchange with liars");
	TCase *k = tcase_create("exchange");

	tcase_add_checked_fixture(k, setup, scene_teardown);
	tcase_set_timeout(k, 120);
	tcase_add_test(k, given_twice);
	tcase_add_test(k, listed_twice);
	tcase_add_test(k, mixed_rounds);
	tcase_add_test(k, kind_is_not_believed);
	suite_add_tcase(suite, k);
	/* these leave findings behind: no validation at their end */
	k = tcase_create("damage");
	tcase_add_checked_fixture(k, setup, scene_teardown_unchecked);
	tcase_set_timeout(k, 120);
	tcase_add_test(k, scribbled_in_the_depot);
	tcase_add_test(k, random_magazines);
	suite_add_tcase(suite, k);
	return suite_status(suite);
}
