/* SPDX-License-Identifier: MIT */
/*
 * Objects when memory is short, through a real daemon: requests that wait and how their waiting
 * ends, what idle threads cache, and quotas.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/waiting.h"

#define CACHE "large"
#define SIZE 4096 /* one a slab of one frame */

static struct kmm_cache *c;

static void open_cache(void)
{
	c = kmm_cache_create(k, CACHE, SIZE, 0, 0, NULL);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(peer_do_text(&rich, PEER_CACHE_OPEN, CACHE, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do_text(&poor, PEER_CACHE_OPEN, CACHE, 0, 0, 0), 0);
}

static void setup(void)
{
	fixture_setup();
	open_cache();
}

static void take_all(void)
{
	ck_assert_int_gt(take_by(PEER_OBJECT_HOARD, 0, KMM_GFP_NOWAIT, UINT64_MAX), 1000);
}

static void park(struct peer *p, uint64_t cache)
{
	park_by(p, PEER_OBJECT_ALLOC, cache, KMM_GFP_KERNEL);
}

START_TEST(served_when_another_frees)
{
	int64_t place;

	take_all();
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_ALLOC, 0, KMM_GFP_NOWAIT, 0), -ENOMEM);
	park(&poor, 0);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	place = peer_end(&poor);
	ck_assert_int_ge(place, 0);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_FREE, 0, (uint64_t)place, 0), 0);
}
END_TEST

/* Memory is memory: an object's serves a block, and the other way round, and another cache. */
START_TEST(served_by_memory_of_another_kind)
{
	int64_t other, got;

	other = peer_do_text(&poor, PEER_CACHE_CREATE, "small", 64, 0, 0);
	ck_assert_int_ge(other, 0);
	if (_i == 2) {
		ck_assert_int_gt(peer_do(&rich, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0), 0);
		free(daemon_zone_frames(&d));
		ck_assert_int_gt(peer_do(&rich, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0), 0);
	} else {
		take_all();
	}
	if (_i == 0)
		peer_begin(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0);
	else
		peer_begin(&poor, PEER_OBJECT_ALLOC, (uint64_t)other, KMM_GFP_KERNEL, 0);
	wait_until(is_parked(&poor));
	if (_i == 2)
		ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 4, 0, 0), 0);
	else
		ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 4, 0), 0);
	got = peer_end(&poor);
	ck_assert_int_ge(got, 0);
}
END_TEST

START_TEST(served_when_another_ends)
{
	take_all();
	park(&poor, 0);
	if (_i == 0)
		peer_kill(&rich);
	else
		peer_stop(&rich);
	ck_assert_int_ge(peer_end(&poor), 0);
}
END_TEST

/* What an idle thread of another process caches is given back for one who waits. */
START_TEST(served_from_what_idle_processes_cache)
{
	void *p;

	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_CHURN, 0, 500, 0), 0);
	ck_assert_uint_gt(daemon_cache_active(&d, CACHE), 0);
	ck_assert_int_gt(peer_do(&poor, PEER_OBJECT_HOARD, 0, KMM_GFP_NOWAIT, UINT64_MAX), 0);
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	ck_assert_msg(p != NULL, "%s", kmm_error_text());
}
END_TEST

/* And of another thread of the same process. */
struct idle {
	pthread_barrier_t cached, done;
};

#define IDLE 100u /* as many as a thread caches of that size */

static void *idle_thread(void *arg)
{
	struct idle *i = arg;
	void *p[IDLE];

	must(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, IDLE, p) == IDLE);
	for (unsigned j = 0; j < IDLE; j++)
		must(kmm_cache_free(c, p[j]) == 0);
	pthread_barrier_wait(&i->cached);
	pthread_barrier_wait(&i->done);
	return NULL;
}

START_TEST(served_from_what_idle_threads_cache)
{
	struct idle i;
	pthread_t t;
	long n = 0;

	take_all(); /* drops caches, those of idle threads, too: so there are none yet */
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 2 * IDLE, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_FLUSH, 0, 0, 0), 0);
	pthread_barrier_init(&i.cached, NULL, 2);
	pthread_barrier_init(&i.done, NULL, 2);
	ck_assert_int_eq(pthread_create(&t, NULL, idle_thread, &i), 0);
	pthread_barrier_wait(&i.cached);
	ck_assert_int_ge(daemon_session_number(&d, kmm_session_id(k), "objects"), IDLE / 2);
	/* whoever waits gets all of them: what the session has then is what was had here */
	ck_assert_int_eq(kmm_set_timeout(k, 300), 0);
	while (kmm_cache_alloc(c, KMM_GFP_KERNEL))
		n++;
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_int_ge(n, IDLE);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "objects"), n);
	pthread_barrier_wait(&i.done);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
}
END_TEST

START_TEST(deadline_passes)
{
	take_all();
	ck_assert_int_eq(peer_do(&poor, PEER_TIMEOUT, 40, 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), -ETIMEDOUT);
	ck_assert_int_eq(daemon_session_number(&d, poor.session, "parked"), 0);
	/* the text says what was waited for, and how long */
	ck_assert_int_eq(kmm_set_timeout(k, 40), 0);
	errno = 0;
	ck_assert_ptr_null(kmm_cache_alloc(c, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_msg(strstr(kmm_error_text(), " ms were waited for an object of cache " CACHE
	                                       " (4096 bytes, in blocks of order 0)"),
	              "%s", kmm_error_text());
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	/* nothing was granted behind it */
	ck_assert_int_eq(daemon_session_number(&d, poor.session, "objects"), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_TIMEOUT, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 4, 0), 0);
	ck_assert_int_ge(peer_do(&poor, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), 0);
}
END_TEST

struct waiter {
	pthread_t thread;
	void *p[10];
	size_t n;
	int error;
};

static void *wait_for_one(void *arg)
{
	struct waiter *w = arg;

	w->p[0] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	w->error = errno;
	return NULL;
}

START_TEST(cancelled_by_another_thread)
{
	struct waiter w[3];

	take_all();
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, wait_for_one, &w[i]), 0);
	cancel_when_parked(3);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
		ck_assert_ptr_null(w[i].p[0]);
		ck_assert_int_eq(w[i].error, ECANCELED);
	}
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "parked"), 0);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "objects"), 0);
	/* later calls are not cancelled */
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	ck_assert_ptr_nonnull(kmm_cache_alloc(c, KMM_GFP_KERNEL));
}
END_TEST

static void *wait_for_many(void *arg)
{
	struct waiter *w = arg;

	w->n = kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 10, w->p);
	w->error = errno;
	return NULL;
}

/* Waits for the first, not for the rest. */
START_TEST(a_bulk_request_waits_for_one)
{
	struct waiter w = { .error = 0 };

	take_all();
	ck_assert_int_eq(pthread_create(&w.thread, NULL, wait_for_many, &w), 0);
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == 1);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 2, 0), 0);
	ck_assert_int_eq(pthread_join(w.thread, NULL), 0);
	ck_assert_uint_ge(w.n, 1);
	ck_assert_uint_le(w.n, 2);
	ck_assert_int_ne(w.error, 0);
	ck_assert_int_eq(kmm_cache_free_bulk(c, w.n, w.p), 0);
}
END_TEST

START_TEST(nothing_is_granted_to_a_waiter_that_died)
{
	kmm_session_id_t id = poor.session;

	take_all();
	park(&poor, 0);
	peer_kill(&poor);
	wait_until(!daemon_has_session(&d, id));
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, UINT64_MAX, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, CACHE), 0);
}
END_TEST

START_TEST(waiters_are_served_in_order_of_arrival)
{
	struct peer third;

	peer_start(&third, &d);
	ck_assert_int_eq(peer_do_text(&third, PEER_CACHE_OPEN, CACHE, 0, 0, 0), 0);
	take_all();
	park(&poor, 0);
	park(&third, 0);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(daemon_session_number(&d, third.session, "parked"), 1);
	ck_assert(!peer_has_answered(&third));
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	ck_assert_int_ge(peer_end(&third), 0);
	peer_stop(&third);
}
END_TEST

START_TEST(every_session_hears_of_pressure)
{
	int seen = 0;

	ck_assert_int_eq(kmm_on_event(k, pressure_seen, &seen), 0);
	take_all();
	park(&poor, 0);
	wait_until(__atomic_load_n(&seen, __ATOMIC_SEQ_CST) > 0);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
}
END_TEST

/* ---- quotas ---- */

#define QUOTA 1024 /* frames: as many objects */

static void setup_quota(void)
{
	fixture_setup_configured("[pool]\ndma_size = 0\n[limits]\npages = 1024\n", NULL);
	open_cache();
}

START_TEST(quota_is_a_limit_not_a_wait)
{
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, UINT64_MAX), QUOTA);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), -EDQUOT);
	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0), -EDQUOT);
	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 5, 0), -EDQUOT);
	/* others are not concerned */
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, UINT64_MAX), QUOTA);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	ck_assert_int_ge(peer_do(&rich, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), 0);
}
END_TEST

START_TEST(pages_and_objects_share_the_quota)
{
	ck_assert_int_ge(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 9, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, UINT64_MAX),
			 QUOTA - 512);
	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0), -EDQUOT);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, UINT64_MAX, 0), 0);
	/* what threads cache does not eat it */
	ck_assert_int_eq(peer_do(&rich, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_int_ge(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 9, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), -EDQUOT);
}
END_TEST

/* What somebody adopted or was sent is his. */
START_TEST(adoption_moves_the_charge)
{
	enum { N = QUOTA / 2 };
	static kmm_handle_t handle[N];
	void *p;

	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, QUOTA), QUOTA);
	for (uint64_t i = 0; i < N; i++) {
		uint64_t place = (uint64_t)peer_do(&rich, PEER_HOARDED, i, 0, 0);

		handle[i] = (kmm_handle_t)peer_do(&rich, PEER_THING_HANDLE, place, 0, 0);
		ck_assert_int_eq(peer_do(&poor, PEER_THING_ADOPT, handle[i], 0, 0), (int64_t)place);
	}
	/* rich may have as many again, poor only the other half */
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, UINT64_MAX),
			 QUOTA + N);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, UINT64_MAX),
			 QUOTA - N);
	/* both are full: nothing can be sent to them */
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	ck_assert_ptr_nonnull(p);
	object_fill(p, SIZE, 3);
	ck_assert_int_eq(kmm_send(k, p, poor.session), -EDQUOT);
	ck_assert(object_check(p, SIZE, 3));
	ck_assert_uint_ne(kmm_handle(k, p), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_int_eq(kmm_send(k, p, poor.session), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_FREE, 0, place_of(k, p), 0), 0);
}
END_TEST

/* This pool has no DMA zone: no wait could ever bring such memory. */
START_TEST(impossible_requests_fail_at_once)
{
	struct kmm_cache *dma = kmm_cache_create(k, "dma", 64, 0, KMM_SLAB_CACHE_DMA, NULL);
	void *p[2];

	ck_assert_ptr_nonnull(dma);
	errno = 0;
	ck_assert_ptr_null(kmm_cache_alloc(dma, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ENOMEM);
	errno = 0;
	ck_assert_uint_eq(kmm_cache_alloc_bulk(dma, KMM_GFP_KERNEL, 2, p), 0);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "parked"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("objects that wait");
	TCase *t = tcase_create("parked"), *q = tcase_create("quotas");

	tcase_add_checked_fixture(t, setup, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, served_when_another_frees);
	tcase_add_loop_test(t, served_by_memory_of_another_kind, 0, 3);
	tcase_add_loop_test(t, served_when_another_ends, 0, 2);
	tcase_add_test(t, served_from_what_idle_processes_cache);
	tcase_add_test(t, served_from_what_idle_threads_cache);
	tcase_add_test(t, deadline_passes);
	tcase_add_test(t, cancelled_by_another_thread);
	tcase_add_test(t, a_bulk_request_waits_for_one);
	tcase_add_test(t, nothing_is_granted_to_a_waiter_that_died);
	tcase_add_test(t, waiters_are_served_in_order_of_arrival);
	tcase_add_test(t, every_session_hears_of_pressure);
	suite_add_tcase(s, t);

	tcase_add_checked_fixture(q, setup_quota, fixture_teardown);
	tcase_set_timeout(q, 120);
	tcase_add_test(q, quota_is_a_limit_not_a_wait);
	tcase_add_test(q, pages_and_objects_share_the_quota);
	tcase_add_test(q, adoption_moves_the_charge);
	tcase_add_test(q, impossible_requests_fail_at_once);
	suite_add_tcase(s, q);
	return suite_run(s);
}
