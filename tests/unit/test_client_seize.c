/* SPDX-License-Identifier: MIT */
/*
 * Objects cached by threads: taken out of idle and of busy ones (client/seize.c), given back by a
 * thread's end, absent in a forked child. The daemon is played by fake_daemon.c.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/suite.h"
#include "tests/unit/fake_daemon.h"

#define K (&fake.k)
#define C64 40

static struct kmm_cache *c64;

static void setup(void)
{
	fake_start(4 << 20);
	fake_cache_make(C64, "c64", 60, 64, 0, 0, false);
	c64 = fake_cache(C64, NULL);
}

static void teardown(void)
{
	fake_stop();
}

static bool is(const void *p, enum owner_kind kind)
{
	return owner_is(owner_load(fake_word(p)), kind, FAKE_ME);
}

static void *alloc(struct kmm_cache *c)
{
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	ck_assert_ptr_nonnull(p);
	ck_assert(is(p, OWNER_HELD));
	return p;
}

struct idle {
	pthread_barrier_t *ready, *go;
	uint32_t cached;
};

static void *idle_thread(void *arg)
{
	struct idle *t = arg;
	void *p[64];
	uint32_t i;

	for (i = 0; i < 64; i++)
		p[i] = alloc(c64);
	for (i = 0; i < 64; i++)
		ck_assert_int_eq(kmm_cache_free(c64, p[i]), 0);
	pthread_barrier_wait(t->ready);
	pthread_barrier_wait(t->go);
	for (i = 0; i < 64; i++)
		p[i] = alloc(c64);
	for (i = 0; i < 64; i++)
		ck_assert_int_eq(kmm_cache_free(c64, p[i]), 0);
	return NULL;
}

START_TEST(idle_threads_are_drained)
{
	pthread_barrier_t ready, go;
	struct idle t = { .ready = &ready, .go = &go };
	pthread_t id;

	pthread_barrier_init(&ready, NULL, 2);
	pthread_barrier_init(&go, NULL, 2);
	ck_assert_int_eq(pthread_create(&id, NULL, idle_thread, &t), 0);
	pthread_barrier_wait(&ready);
	ck_assert_uint_gt(fake_out(C64), 0);
	if (_i == 0)
		seize_objects(K, NULL, true);
	else if (_i == 1)
		ck_assert_int_eq(kmm_cache_shrink(c64), 0);
	else
		ck_assert_int_eq(kmm_flush(K), 0);
	ck_assert_uint_eq(fake_out(C64), 0);
	pthread_barrier_wait(&go);
	ck_assert_int_eq(pthread_join(id, NULL), 0);
	ck_assert_uint_eq(fake_out(C64), 0); /* a thread's end flushes */
}
END_TEST

static _Atomic bool stop;

static void *busy_thread(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	void *mine[40];
	uint32_t n = 0, i;

	while (!atomic_load(&stop)) {
		struct kmm_cache *c = c64;

		if (n < 40 && rand_r(&seed) % 2) {
			mine[n] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
			ck_assert_ptr_nonnull(mine[n]);
			ck_assert(is(mine[n], OWNER_HELD));
			*(void **)mine[n] = mine[n];
			n++;
		} else if (n > 0) {
			n--;
			ck_assert_ptr_eq(*(void **)mine[n], mine[n]);
			*(void **)mine[n] = NULL;
			ck_assert_int_eq(kmm_cache_free(c, mine[n]), 0);
		}
	}
	for (i = 0; i < n; i++)
		kmm_cache_free(c64, mine[i]);
	return NULL;
}

/* Seized at any moment of its allocations and frees, a thread loses and doubles nothing. */
START_TEST(busy_threads_are_drained)
{
	pthread_t id[2];
	uint32_t i;

	atomic_store(&stop, false);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&id[i], NULL, busy_thread,
		                                (void *)(uintptr_t)(i + 1)),
		                 0);
	for (i = 0; i < 3000; i++)
		seize_objects(K, i % 2 ? c64 : NULL, true);
	atomic_store(&stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(id[i], NULL);
	ck_assert_uint_eq(fake_out(C64), 0);
	ck_assert_uint_eq(fake.events, 0);
}
END_TEST

START_TEST(a_child_has_nothing)
{
	void *p = alloc(c64);
	int status;
	pid_t child;

	kmm_cache_free(c64, p);

	child = fork();
	if (child == 0) {
		struct thread_cache *tc = thread_cache_now();

		_exit(tc->session == NULL && tc->object[C64].class.gate_cache == NULL &&
		      tc->object[C64].class.gate_session == NULL &&
		      tc->object[C64].class.top == NULL ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_ptr_eq(alloc(c64), p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client_seize");
	TCase *t = tcase_create("seize");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, idle_threads_are_drained, 0, 3);
	tcase_add_test(t, busy_threads_are_drained);
	tcase_add_test(t, a_child_has_nothing);
	suite_add_tcase(s, t);
	return suite_status(s);
}
