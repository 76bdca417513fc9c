/* SPDX-License-Identifier: MIT */
/*
 * The holder table: a set that outlives the daemon, and the KEPT bit that follows it.
 */
#include "daemon/holder.h"
#include "tests/suite.h"
#include "tests/unit/test_holds.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 16, GRANULE = 512, OWNER = 9 };

static struct holder_record record[RECORDS];
static struct holder_table *t;
static owner_word_t word;

static void report(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  finding: %s\n", text);
}

static void check(void)
{
	ck_assert_uint_eq(holder_validate(t, report, NULL), 0);
}

static uint64_t held(uint32_t owner, uint64_t generation)
{
	return generation << OWNER_GENERATION_SHIFT | owner_who(OWNER_HELD, owner);
}

static void setup(void)
{
	memset(record, 0, sizeof(record));
	owner_store(&word, held(OWNER, 3));
	ck_assert_int_eq(holder_table_new(&t, record, RECORDS), 0);
}

static void teardown(void)
{
	check();
	ck_assert_ptr_null(holder_table_free(t));
}

static void restart(void)
{
	holder_table_free(t);
	ck_assert_int_eq(holder_table_new(&t, record, RECORDS), 0);
	check();
}

static bool add(uint32_t session)
{
	bool added = false;

	ck_assert_int_eq(holder_add(t, session, GRANULE, &word, 3, true, &added), 0);
	check();
	return added;
}

START_TEST(a_set)
{
	uint32_t heir;

	ck_assert(add(1));
	ck_assert(!add(1));
	ck_assert(add(2));
	ck_assert_uint_eq(holder_count(t, GRANULE, 3), 2);
	ck_assert_uint_eq(holder_count(t, GRANULE, 4), 0);
	ck_assert_uint_eq(holds_of(t, 1), 1);
	ck_assert_uint_ne(holder_first(t, GRANULE, 3), 0);
	ck_assert(owner_load(&word) & OWNER_KEPT);
	ck_assert_int_eq(holder_remove(t, 1, GRANULE, &word, &heir), HOLDER_LEFT);
	ck_assert_uint_eq(heir, 0); /* it has an owner */
	ck_assert_int_eq(holder_remove(t, 1, GRANULE, &word, &heir), HOLDER_NONE);
	ck_assert(owner_load(&word) & OWNER_KEPT);
	ck_assert_int_eq(holder_remove(t, 2, GRANULE, &word, &heir), HOLDER_LEFT);
	ck_assert(!(owner_load(&word) & OWNER_KEPT));
	ck_assert(owner_is(owner_load(&word), OWNER_HELD, OWNER));
}
END_TEST

START_TEST(only_what_lives)
{
	bool added = true;

	ck_assert_int_eq(holder_add(t, 1, GRANULE, &word, 4, true, &added), -ESTALE);
	owner_store(&word, owner_moved(owner_load(&word), OWNER_RETURNED, OWNER));
	ck_assert_int_eq(holder_add(t, 1, GRANULE, &word, 3, true, &added), -ESTALE);
	ck_assert(added); /* untouched */
	ck_assert_uint_eq(holds_of(t, 1), 0);
}
END_TEST

START_TEST(owner_gives_up)
{
	uint32_t heir = 0;
	uint64_t w;

	add(1);
	add(2);
	w = owner_moved(owner_load(&word), OWNER_RETURNED, OWNER);
	owner_store(&word, w);
	ck_assert_int_eq(holder_give_up(t, GRANULE, &word, w + 1, &heir), HOLDER_NONE);
	ck_assert_int_eq(holder_give_up(t, GRANULE, &word, w, &heir), HOLDER_LEFT);
	ck_assert(heir == 1 || heir == 2);
	w = owner_load(&word);
	ck_assert(owner_is(w, OWNER_HELD, 0) && (w & OWNER_KEPT));
	ck_assert_uint_eq(owner_generation(w), 3);
	ck_assert_int_eq(holder_remove(t, 1, GRANULE, &word, &heir), HOLDER_LEFT);
	ck_assert_uint_eq(heir, 2);
	ck_assert_int_eq(holder_remove(t, 2, GRANULE, &word, &heir), HOLDER_FREED);
	ck_assert_uint_eq(owner_kind(owner_load(&word)), OWNER_FREE);
	ck_assert_uint_eq(owner_generation(owner_load(&word)), 4);
}
END_TEST

/* Session 0 stands for names: it holds as others do, but nobody is charged for it. */
START_TEST(names_are_a_holder_without_a_charge)
{
	uint32_t heir = 77;
	uint64_t w;

	ck_assert(add(0));
	ck_assert(!add(0));
	ck_assert_uint_eq(holder_first(t, GRANULE, 3), 0);
	ck_assert_uint_eq(holder_count(t, GRANULE, 3), 1);
	ck_assert(add(5));
	ck_assert(holder_has(t, 0, GRANULE, 3) && holder_has(t, 5, GRANULE, 3));
	ck_assert(!holder_has(t, 0, GRANULE, 4) && !holder_has(t, 6, GRANULE, 3));
	ck_assert_uint_eq(holder_first(t, GRANULE, 3), 5);
	w = owner_moved(owner_load(&word), OWNER_RETURNED, OWNER);
	owner_store(&word, w);
	ck_assert_int_eq(holder_give_up(t, GRANULE, &word, w, &heir), HOLDER_LEFT);
	ck_assert_uint_eq(heir, 5);
	restart();
	ck_assert_int_eq(holder_remove(t, 5, GRANULE, &word, &heir), HOLDER_LEFT);
	ck_assert_uint_eq(heir, 0);
	ck_assert_int_eq(holder_remove(t, 0, GRANULE, &word, &heir), HOLDER_FREED);
	/* given up with a name alone */
	owner_store(&word, held(OWNER, 3));
	add(0);
	w = owner_moved(owner_load(&word), OWNER_RETURNED, OWNER);
	owner_store(&word, w);
	heir = 77;
	ck_assert_int_eq(holder_give_up(t, GRANULE, &word, w, &heir), HOLDER_LEFT);
	ck_assert_uint_eq(heir, 0);
}
END_TEST

START_TEST(entries_without_their_words)
{
	uint32_t i;

	ck_assert_int_eq(holder_restore(t, 0, GRANULE, 3), 0);
	ck_assert_int_eq(holder_restore(t, 0, GRANULE, 3), 0);
	ck_assert_uint_eq(holder_count(t, GRANULE, 3), 1);
	ck_assert_uint_eq(owner_load(&word), held(OWNER, 3)); /* not looked at */
	ck_assert_int_eq(holder_restore(t, 0, GRANULE, 4), 0); /* another life takes its place */
	ck_assert_uint_eq(holder_count(t, GRANULE, 3), 0);
	check();
	holder_drop(t, 0, GRANULE, 3); /* is not there */
	ck_assert_uint_eq(holder_count(t, GRANULE, 4), 1);
	holder_drop(t, 0, GRANULE, 4);
	ck_assert_uint_eq(holder_count(t, GRANULE, 4), 0);
	for (i = 0; i < RECORDS; i++)
		ck_assert_int_eq(holder_restore(t, i, GRANULE, 3), 0);
	ck_assert_int_eq(holder_restore(t, i, GRANULE, 3), -ENOSPC);
}
END_TEST

/* KEPT without entries, as a member may scribble it: the owner's free is a free. */
START_TEST(kept_by_nobody)
{
	uint64_t w = owner_load(&word) | OWNER_KEPT;
	uint32_t heir;

	owner_store(&word, w);
	ck_assert_int_eq(holder_give_up(t, GRANULE, &word, w, &heir), HOLDER_FREED);
	ck_assert_uint_eq(owner_kind(owner_load(&word)), OWNER_FREE);
}
END_TEST

/* KEPT cleared by a scribbler and the block freed: what is left of the entry gives way. */
START_TEST(entries_of_an_earlier_life)
{
	uint32_t heir;
	bool added;

	add(1);
	owner_store(&word, held(OWNER, 4));
	ck_assert_int_eq(holder_add(t, 1, GRANULE, &word, 4, true, &added), 0);
	ck_assert(added);
	ck_assert_uint_eq(holder_count(t, GRANULE, 3), 0);
	ck_assert_uint_eq(holder_count(t, GRANULE, 4), 1);
	check();
	owner_store(&word, held(OWNER, 5));
	ck_assert_int_eq(holder_remove(t, 1, GRANULE, &word, &heir), HOLDER_LEFT);
	ck_assert(owner_is(owner_load(&word), OWNER_HELD, OWNER));
}
END_TEST

START_TEST(the_table_is_full)
{
	uint32_t i, heir;
	bool added;

	for (i = 1; i <= RECORDS; i++)
		ck_assert(add(i));
	ck_assert_int_eq(holder_add(t, RECORDS + 1, GRANULE, &word, 3, true, &added), -ENOSPC);
	ck_assert_int_eq(holder_add(t, 1, GRANULE, &word, 3, true, &added), 0);
	ck_assert(!added);
	ck_assert_int_eq(holder_remove(t, 7, GRANULE, &word, &heir), HOLDER_LEFT);
	/* without room for the session: what it has, no more */
	ck_assert_int_eq(holder_add(t, RECORDS + 1, GRANULE, &word, 3, false, &added), -EDQUOT);
	ck_assert_int_eq(holder_add(t, 1, GRANULE, &word, 3, false, &added), 0);
	ck_assert(!added);
	ck_assert_int_eq(holder_add(t, RECORDS + 1, GRANULE, &word, 3, true, &added), 0);
	ck_assert(added);
}
END_TEST

static bool live_if_odd(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	(void)ctx;
	ck_assert_uint_eq(granule, GRANULE);
	ck_assert_uint_eq(generation, 3);
	return session % 2;
}

static void count_one(void *ctx, uint32_t session, uint32_t granule, uint64_t generation)
{
	(void)session;
	(void)granule;
	(void)generation;
	++*(uint32_t *)ctx;
}

START_TEST(it_outlives_the_daemon)
{
	uint32_t i, n = 0, cursor = 0, granule;

	for (i = 1; i <= 6; i++)
		add(i);
	restart();
	ck_assert_uint_eq(holder_count(t, GRANULE, 3), 6);
	ck_assert_uint_eq(holder_recover(t, live_if_odd, NULL), 3);
	check();
	ck_assert_uint_eq(holder_count(t, GRANULE, 3), 3);
	holder_for_each(t, count_one, &n);
	ck_assert_uint_eq(n, 3);
	ck_assert(holder_next_of(t, 5, &cursor, &granule));
	ck_assert_uint_eq(granule, GRANULE);
	ck_assert(!holder_next_of(t, 5, &cursor, &granule));
}
END_TEST

/* Against a naive set. */
START_TEST(random_operations)
{
	enum { SESSIONS = 3, THINGS = 4, STEPS = 20000 };
	bool model[SESSIONS + 1][THINGS] = { { false } };
	owner_word_t thing[THINGS];
	uint32_t i, j, n, step, heir;
	bool added;

	srand(7);
	for (i = 0; i < THINGS; i++)
		owner_store(&thing[i], held(OWNER, 1));
	for (step = 0; step < STEPS; step++) {
		uint32_t s = 1 + (uint32_t)rand() % SESSIONS, x = (uint32_t)rand() % THINGS;

		if (rand() % 2) {
			ck_assert_int_eq(holder_add(t, s, x * 512, &thing[x], 1, true, &added), 0);
			ck_assert_int_eq(added, !model[s][x]);
			model[s][x] = true;
		} else {
			ck_assert_int_eq(holder_remove(t, s, x * 512, &thing[x], &heir),
			                 model[s][x] ? HOLDER_LEFT : HOLDER_NONE);
			model[s][x] = false;
		}
		for (i = 0; i < THINGS; i++) {
			for (n = 0, j = 1; j <= SESSIONS; j++)
				n += model[j][i];
			ck_assert_uint_eq(holder_count(t, i * 512, 1), n);
			ck_assert_int_eq(!!(owner_load(&thing[i]) & OWNER_KEPT), n > 0);
		}
		check();
		if (step % 1000 == 0)
			restart();
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("holder");
	TCase *c = tcase_create("holder");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_set);
	tcase_add_test(c, only_what_lives);
	tcase_add_test(c, owner_gives_up);
	tcase_add_test(c, names_are_a_holder_without_a_charge);
	tcase_add_test(c, entries_without_their_words);
	tcase_add_test(c, kept_by_nobody);
	tcase_add_test(c, entries_of_an_earlier_life);
	tcase_add_test(c, the_table_is_full);
	tcase_add_test(c, it_outlives_the_daemon);
	tcase_add_test(c, random_operations);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
