/* SPDX-License-Identifier: MIT */
/* Locks: exclusion, scopes, and the rank check, which is tested through the functions that debug
 * builds call. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "mm/lock.h"
#include "tests/suite.h"

static struct lock lock = LOCK_INITIALIZER(LOCK_RANK_ZONE);
static uint64_t counter;

#define ROUNDS 200000u

static void *count(void *arg)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		LOCK_SCOPED(&lock);
		counter++;
	}
	return arg;
}

START_TEST(one_holder_at_a_time)
{
	pthread_t thread[4];

	for (uint32_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, count, NULL), 0);
	for (uint32_t i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(counter, 4 * ROUNDS);
	ck_assert_uint_eq(lock.word, LOCK_FREE);
}
END_TEST

static int leave_early(struct lock *l, int way)
{
	LOCK_SCOPED(l);
	if (lock_try(l))
		return -1;
	if (way == 1)
		return 1;
	return 2;
}

START_TEST(scopes_release_however_they_are_left)
{
	struct lock l;

	lock_init(&l, LOCK_RANK_LOG);
	ck_assert_int_eq(leave_early(&l, 1), 1);
	ck_assert_uint_eq(l.word, LOCK_FREE);
	ck_assert_int_eq(leave_early(&l, 2), 2);
	ck_assert(lock_try(&l));
	ck_assert(!lock_try(&l));
	lock_release(&l);
}
END_TEST

START_TEST(ranks_may_rise)
{
	struct lock a, b, c;

	lock_init(&a, LOCK_RANK_SESSION);
	lock_init(&b, LOCK_RANK_ZONE);
	lock_init(&c, LOCK_RANK_LOG);
	lock_debug_acquire(&a);
	lock_debug_acquire(&b);
	lock_debug_acquire(&c);
	lock_debug_release(&b); /* in any order */
	lock_debug_release(&c);
	lock_debug_acquire(&b);
	lock_debug_release(&a);
	lock_debug_release(&b);
}
END_TEST

START_TEST(ranks_may_not_fall)
{
	struct lock a, b;

	lock_init(&a, LOCK_RANK_ZONE);
	lock_init(&b, LOCK_RANK_SESSION);
	lock_debug_acquire(&a);
	lock_debug_acquire(&b); /* aborts */
}
END_TEST

START_TEST(ranks_may_not_repeat)
{
	struct lock a, b;

	lock_init(&a, LOCK_RANK_ZONE);
	lock_init(&b, LOCK_RANK_ZONE);
	lock_debug_acquire(&a);
	lock_debug_acquire(&b); /* aborts */
}
END_TEST

START_TEST(only_holders_release)
{
	struct lock a;

	lock_init(&a, LOCK_RANK_ZONE);
	lock_debug_release(&a); /* aborts */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_lock");
	TCase *t = tcase_create("lock");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, one_holder_at_a_time);
	tcase_add_test(t, scopes_release_however_they_are_left);
	tcase_add_test(t, ranks_may_rise);
	suite_add_tcase(s, t);
	/* a violation ends the process: only where each test has its own */
	if (suite_forks()) {
		tcase_add_test_raise_signal(t, ranks_may_not_fall, SIGABRT);
		tcase_add_test_raise_signal(t, ranks_may_not_repeat, SIGABRT);
		tcase_add_test_raise_signal(t, only_holders_release, SIGABRT);
	}
	return suite_status(s);
}
