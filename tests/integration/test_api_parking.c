/* SPDX-License-Identifier: MIT */
/*
 * Requests that wait for memory, and quotas, through a real daemon.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/waiting.h"

static void park(struct peer *p, unsigned order)
{
	park_by(p, PEER_ALLOC, KMM_GFP_KERNEL, order);
}

static void take_all(unsigned order)
{
	ck_assert_int_gt(take_by(PEER_EXHAUST, KMM_GFP_NOWAIT, order, 0), 0);
}

START_TEST(served_when_another_frees)
{
	unsigned order = (unsigned)_i;
	int64_t pfn;

	take_all(order);
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, KMM_GFP_NOWAIT, order, 0), -ENOMEM);
	park(&poor, order);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 2, 0, 0), 0);
	pfn = peer_end(&poor);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(peer_do(&poor, PEER_FREE, (uint64_t)pfn, order, 0), 0);
}
END_TEST

START_TEST(served_when_another_dies)
{
	unsigned order = (unsigned)_i;

	take_all(order);
	park(&poor, order);
	peer_kill(&rich);
	ck_assert_int_ge(peer_end(&poor), 0);
}
END_TEST

START_TEST(served_when_another_closes)
{
	take_all(3);
	park(&poor, 3);
	peer_stop(&rich);
	ck_assert_int_ge(peer_end(&poor), 0);
}
END_TEST

/* What other threads cache counts as free: no request waits for it. */
START_TEST(served_from_what_others_cache)
{
	ck_assert_int_eq(peer_do(&rich, PEER_CACHE, 0, 512, 0), 0);
	ck_assert_int_gt(peer_do(&poor, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0), 0);
	/* k caches nothing, nothing is free: the wait ends by collecting, not by a free */
	ck_assert_ptr_nonnull(kmm_alloc_pages(k, KMM_GFP_KERNEL, 0));
}
END_TEST

/* Small blocks freed and cached are no use to a large request unless they are given back. */
START_TEST(served_from_cached_small_blocks)
{
	static struct kmm_page *page[1 << 15];
	size_t n = 0;

	while ((page[n] = kmm_alloc_pages(k, KMM_GFP_NOWAIT, 0)) != NULL)
		n++;
	park(&poor, 9);
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(kmm_free_pages(k, page[i], 0), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
}
END_TEST

START_TEST(deadline_passes)
{
	unsigned order = (unsigned)_i;

	take_all(order);
	ck_assert_int_eq(peer_do(&poor, PEER_TIMEOUT, 40, 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, order, 0), -ETIMEDOUT);
	ck_assert_int_eq(daemon_session_number(&d, poor.session, "parked"), 0);
	/* nothing was granted behind it */
	ck_assert_int_eq(daemon_session_number(&d, poor.session, "granted"), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_TIMEOUT, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 4, 0, 0), 0);
	ck_assert_int_ge(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, order, 0), 0);
}
END_TEST

struct waiter {
	pthread_t thread;
	struct kmm_page *page;
	int error;
};

static void *wait_for_page(void *arg)
{
	struct waiter *w = arg;

	w->page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 4);
	w->error = errno;
	return NULL;
}

START_TEST(cancelled_by_another_thread)
{
	struct waiter w[3];

	take_all(4);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, wait_for_page, &w[i]), 0);
	cancel_when_parked(3);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
		ck_assert_ptr_null(w[i].page);
		ck_assert_int_eq(w[i].error, ECANCELED);
	}
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "parked"), 0);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "granted"), 0);
	/* later calls are not cancelled */
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 1, 0, 0), 0);
	ck_assert_ptr_nonnull(kmm_alloc_pages(k, KMM_GFP_KERNEL, 4));
}
END_TEST

START_TEST(nothing_is_granted_to_a_waiter_that_died)
{
	kmm_session_id_t id = poor.session;

	take_all(4);
	park(&poor, 4);
	peer_kill(&poor);
	wait_until(!daemon_has_session(&d, id));
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, UINT64_MAX, 0, 0), 0);
}
END_TEST

/* A waiter leaves reactor and channel free: the same process frees while it waits. */
START_TEST(the_waiting_session_goes_on_working)
{
	struct kmm_page *page[3], *other;
	struct waiter w;

	ck_assert_uint_eq(kmm_alloc_pages_bulk(k, KMM_GFP_KERNEL, 4, 3, page), 3);
	take_all(4);
	ck_assert_int_eq(pthread_create(&w.thread, NULL, wait_for_page, &w), 0);
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == 1);
	ck_assert_int_eq(kmm_page_count(k, page[0]), 1);
	ck_assert_int_eq(kmm_free_pages(k, page[0], 4), 0);
	ck_assert_int_eq(pthread_join(w.thread, NULL), 0);
	ck_assert_ptr_nonnull(w.page);
	ck_assert_int_eq(kmm_free_pages(k, w.page, 4), 0);
	ck_assert_ptr_nonnull(other = kmm_alloc_pages(k, KMM_GFP_KERNEL, 4));
}
END_TEST

START_TEST(waiters_are_served_in_order_of_arrival)
{
	struct peer third;

	peer_start(&third, &d);
	take_all(5);
	park(&poor, 5);
	park(&third, 5);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 1, 0, 0), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(daemon_session_number(&d, third.session, "parked"), 1);
	ck_assert(!peer_has_answered(&third));
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 1, 0, 0), 0);
	ck_assert_int_ge(peer_end(&third), 0);
	peer_stop(&third);
}
END_TEST

START_TEST(every_session_hears_of_pressure)
{
	int seen = 0;

	ck_assert_int_eq(kmm_on_event(k, pressure_seen, &seen), 0);
	take_all(4);
	park(&poor, 4);
	wait_until(__atomic_load_n(&seen, __ATOMIC_SEQ_CST) > 0);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 1, 0, 0), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
}
END_TEST

/* ---- quotas ---- */

#define QUOTA 1024

static void setup_quota(void)
{
	fixture_setup_configured("[pool]\ndma_size = 0\n"
				 "[limits]\npages = 1024\nholders_per_session = 8\n",
				 NULL);
}

START_TEST(quota_is_a_limit_not_a_wait)
{
	int64_t n = peer_do(&rich, PEER_EXHAUST, KMM_GFP_KERNEL, 4, 0);

	ck_assert_int_eq(n, QUOTA / 16);
	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 4, 0), -EDQUOT);
	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0), -EDQUOT);
	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 9, 0), -EDQUOT);
	/* others are not concerned */
	ck_assert_int_eq(peer_do(&poor, PEER_EXHAUST, KMM_GFP_KERNEL, 4, 0), QUOTA / 16);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 1, 0, 0), 0);
	ck_assert_int_ge(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 4, 0), 0);
}
END_TEST

/* All of the quota can be used in small blocks, however many the threads cache. */
START_TEST(what_threads_cache_does_not_eat_the_quota)
{
	ck_assert_int_eq(peer_do(&rich, PEER_CACHE, 0, 400, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_CACHE, 1, 100, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_EXHAUST, KMM_GFP_KERNEL, 3, 0), QUOTA / 8);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, UINT64_MAX, 0, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_int_ge(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0), -EDQUOT);
}
END_TEST

/* What somebody adopted is his. */
START_TEST(adoption_moves_the_charge)
{
	int64_t pfn = peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0), handle;

	ck_assert_int_eq(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0), -EDQUOT);
	handle = peer_do(&rich, PEER_HANDLE, (uint64_t)pfn, 0, 0);
	ck_assert_int_eq(peer_do(&poor, PEER_ADOPT, (uint64_t)handle, 0, 0), pfn);
	ck_assert_int_ge(peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0), -EDQUOT);
	ck_assert_int_eq(peer_do(&poor, PEER_FREE, (uint64_t)pfn, 10, 0), 0);
	ck_assert_int_ge(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0), 0);
}
END_TEST

START_TEST(sending_counts_to_the_receiver)
{
	int64_t full = peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0);
	int64_t pfn = peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 3, 0);

	ck_assert_int_eq(peer_do(&rich, PEER_SEND, (uint64_t)pfn, poor.session, 0), -EDQUOT);
	/* nothing moved */
	ck_assert_int_ne(peer_do(&rich, PEER_HANDLE, (uint64_t)pfn, 0, 0), -EPERM);
	ck_assert_int_eq(peer_do(&poor, PEER_FREE, (uint64_t)full, 10, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_SEND, (uint64_t)pfn, poor.session, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_FREE, (uint64_t)pfn, 3, 0), 0);
}
END_TEST

START_TEST(holds_are_limited)
{
	int64_t pfn[9];

	for (int i = 0; i < 9; i++)
		pfn[i] = peer_do(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(peer_do(&poor, PEER_GET, (uint64_t)pfn[i], 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_GET, (uint64_t)pfn[8], 0, 0), -EDQUOT);
	ck_assert_int_eq(peer_do(&poor, PEER_PUT, (uint64_t)pfn[0], 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_GET, (uint64_t)pfn[8], 0, 0), 0);
}
END_TEST

/* This pool has no DMA zone: no wait could ever bring such memory. */
START_TEST(impossible_requests_fail_at_once)
{
	struct kmm_page *page[2];

	for (unsigned order = 0; order <= KMM_MAX_ORDER; order++) {
		errno = 0;
		ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_DMA, order));
		ck_assert_int_eq(errno, ENOMEM);
		errno = 0;
		ck_assert_uint_eq(
			kmm_alloc_pages_bulk(k, KMM_GFP_KERNEL | KMM_GFP_DMA, order, 2, page), 0);
		ck_assert_int_eq(errno, ENOMEM);
	}
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "parked"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("waiting");
	TCase *t = tcase_create("parked"), *q = tcase_create("quotas");

	tcase_add_checked_fixture(t, fixture_setup, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, served_when_another_frees, 0, KMM_MAX_ORDER + 1);
	tcase_add_loop_test(t, served_when_another_dies, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, served_when_another_closes);
	tcase_add_test(t, served_from_what_others_cache);
	tcase_add_test(t, served_from_cached_small_blocks);
	tcase_add_loop_test(t, deadline_passes, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, cancelled_by_another_thread);
	tcase_add_test(t, nothing_is_granted_to_a_waiter_that_died);
	tcase_add_test(t, the_waiting_session_goes_on_working);
	tcase_add_test(t, waiters_are_served_in_order_of_arrival);
	tcase_add_test(t, every_session_hears_of_pressure);
	suite_add_tcase(s, t);

	tcase_add_checked_fixture(q, setup_quota, fixture_teardown);
	tcase_set_timeout(q, 120);
	tcase_add_test(q, quota_is_a_limit_not_a_wait);
	tcase_add_test(q, what_threads_cache_does_not_eat_the_quota);
	tcase_add_test(q, adoption_moves_the_charge);
	tcase_add_test(q, sending_counts_to_the_receiver);
	tcase_add_test(q, holds_are_limited);
	tcase_add_test(q, impossible_requests_fail_at_once);
	suite_add_tcase(s, q);
	return suite_run(s);
}
