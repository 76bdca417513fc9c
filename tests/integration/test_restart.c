/* SPDX-License-Identifier: MIT */
/*
 * The daemon is killed under its supervisor while clients hold memory: what they hold, their
 * handles, sessions and holds are as before, waiting calls go on, events tell of it, and a pool
 * that is truly gone is never mistaken for the old one.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/integration/fixture.h"

static uint64_t pfn_of(const void *p)
{
	return kmm_page_to_pfn(k, kmm_virt_to_page(k, p));
}

START_TEST(what_clients_hold_is_as_before)
{
	enum { N = 11 };
	kmm_session_id_t id = kmm_session_id(k);
	void *p[N];
	kmm_handle_t handle[N];
	int64_t pfn[N], theirs[N];

	for (unsigned order = 0; order < N; order++) {
		p[order] = kmm_get_free_pages(k, KMM_GFP_KERNEL, order);
		ck_assert_ptr_nonnull(p[order]);
		block_fill(p[order], order, order);
		handle[order] = kmm_handle(k, p[order]);
		pfn[order] = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, order, 0);
		ck_assert_int_ge(pfn[order], 0);
		ck_assert_int_eq(peer_do(&a, PEER_FILL, (uint64_t)pfn[order], order, 100 + order),
				 0);
		theirs[order] = peer_do(&a, PEER_HANDLE, (uint64_t)pfn[order], 0, 0);
	}
	for (int round = 0; round < 3; round++) {
		fixture_restart();
		ck_assert(daemon_is_clean(&d));
		for (unsigned order = 0; order < N; order++) {
			ck_assert(block_check(p[order], order, order));
			ck_assert_int_eq(kmm_page_count(k, kmm_virt_to_page(k, p[order])), 1);
			ck_assert_int_eq(kmm_page_order(k, kmm_virt_to_page(k, p[order])),
					 (int)order);
			ck_assert_uint_eq(kmm_handle(k, p[order]), handle[order]);
			ck_assert_int_eq(peer_do(&b, PEER_POINTER, handle[order], 0, 0),
					 (int64_t)pfn_of(p[order]));
			ck_assert_int_eq(
				peer_do(&a, PEER_CHECK, (uint64_t)pfn[order], order, 100 + order),
				1);
		}
		/* a new grant is none of the old ones */
		for (int i = 0; i < 50; i++) {
			void *q = kmm_get_free_pages(k, KMM_GFP_KERNEL, 3);

			ck_assert_ptr_nonnull(q);
			block_fill(q, 3, 4711);
			ck_assert_int_eq(kmm_free_page_addr(k, q, 3), 0);
		}
	}
	ck_assert_uint_eq(kmm_session_id(k), id);
	ck_assert_int_eq(peer_do(&a, PEER_ID, 0, 0, 0), a.session);
	for (unsigned order = 0; order < N; order++) {
		ck_assert(block_check(p[order], order, order));
		ck_assert_int_eq((int64_t)pfn_of(kmm_adopt(k, (kmm_handle_t)theirs[order])),
				 pfn[order]);
		ck_assert_int_eq(kmm_free_pages(k, kmm_pfn_to_page(k, (uint64_t)pfn[order]), order),
				 0);
		ck_assert_int_eq(peer_do(&b, PEER_ADOPT, handle[order], 0, 0),
				 (int64_t)pfn_of(p[order]));
		ck_assert_int_eq(peer_do(&b, PEER_FREE, pfn_of(p[order]), order, 0), 0);
	}
}
END_TEST

START_TEST(holds_are_as_before)
{
	void *p = kmm_get_free_pages(k, KMM_GFP_KERNEL, 4),
	     *q = kmm_get_free_pages(k, KMM_GFP_KERNEL, 0);
	struct kmm_page *page = kmm_virt_to_page(k, p);
	uint64_t pfn = pfn_of(p), other = pfn_of(q);

	block_fill(p, 4, 8);
	block_fill(q, 0, 9);
	ck_assert_int_eq(peer_do(&a, PEER_GET, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_GET, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_GET, other, 0, 0), 0);
	/* held by its holder alone */
	ck_assert_int_eq(kmm_free_page_addr(k, q, 0), 0);
	fixture_restart();
	ck_assert_int_eq(kmm_page_count(k, page), 3);
	ck_assert_int_eq(peer_do(&a, PEER_COUNT, other, 0, 0), 1);
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, other, 0, 9), 1);
	ck_assert_int_eq(peer_do(&b, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(kmm_free_pages(k, page, 4), 0);
	fixture_restart();
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, pfn, 4, 8), 1);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, other, 0, 0), 0);
}
END_TEST

/* Allocating and freeing what a thread caches needs no daemon. */
START_TEST(caches_work_while_the_daemon_is_away)
{
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0), *cached;

	block_fill(kmm_page_address(k, page), 0, 1); /* maps the section, which is a call */
	ck_assert_int_eq(kmm_free_pages(k, page, 0), 0);
	daemon_hold(&d);
	daemon_kill(&d);
	for (int i = 0; i < 1000; i++) {
		cached = kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_LOCAL, 0);
		ck_assert_ptr_nonnull(cached);
		block_fill(kmm_page_address(k, cached), 0, (uint64_t)i);
		ck_assert_int_eq(kmm_free_pages(k, cached, 0), 0);
	}
	daemon_resume(&d);
	daemon_wait_serving(&d);
}
END_TEST

/* A call that needs the daemon waits for the next one and is then done. */
START_TEST(calls_wait_for_the_next_daemon)
{
	int64_t pfn;

	daemon_hold(&d);
	daemon_kill(&d);
	peer_begin(&a, PEER_ALLOC, KMM_GFP_KERNEL, 6, 0);
	peer_begin(&b, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0);
	daemon_resume(&d);
	pfn = peer_end(&a);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(peer_do(&a, PEER_FREE, (uint64_t)pfn, 6, 0), 0);
	pfn = peer_end(&b);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(peer_do(&b, PEER_FREE, (uint64_t)pfn, 0, 0), 0);
}
END_TEST

START_TEST(calls_end_at_their_deadline_while_the_daemon_is_away)
{
	int64_t r;

	ck_assert_int_eq(peer_do(&a, PEER_TIMEOUT, 50, 0, 0), 0);
	daemon_hold(&d);
	daemon_kill(&d);
	r = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, 6, 0);
	ck_assert(r == -ETIMEDOUT || r == -EAGAIN);
	daemon_resume(&d);
	daemon_wait_serving(&d);
	ck_assert_int_eq(peer_do(&a, PEER_TIMEOUT, 0, 0, 0), 0);
	r = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, 6, 0);
	ck_assert_int_ge(r, 0);
}
END_TEST

START_TEST(parked_calls_are_parked_again)
{
	int64_t pfn;

	ck_assert_int_gt(peer_do(&a, PEER_EXHAUST, KMM_GFP_NOWAIT, 4, 0), 0);
	peer_begin(&b, PEER_ALLOC, KMM_GFP_KERNEL, 4, 0);
	wait_until(daemon_session_number(&d, b.session, "parked") == 1);
	fixture_restart();
	wait_until(daemon_session_number(&d, b.session, "parked") == 1);
	ck_assert(!peer_has_answered(&b));
	ck_assert_int_eq(peer_do(&a, PEER_RELEASE, 1, 0, 0), 0);
	pfn = peer_end(&b);
	ck_assert_int_ge(pfn, 0);
}
END_TEST

/* Clients that die while nobody watches are found out afterwards. */
START_TEST(the_dead_are_swept_after_a_restart)
{
	kmm_session_id_t id = a.session;

	ck_assert_int_gt(peer_do(&a, PEER_EXHAUST, KMM_GFP_NOWAIT, 2, 0), 0);
	daemon_hold(&d);
	daemon_kill(&d);
	peer_kill(&a);
	daemon_resume(&d);
	daemon_wait_serving(&d);
	wait_until(!daemon_has_session(&d, id));
}
END_TEST

/* ---- events ---- */

struct seen {
	unsigned down, up, lost;
	int dispatch, close;
	pthread_t thread;
};

static void event_seen(struct kmm *session, enum kmm_event event, void *arg)
{
	struct seen *s = arg;

	if (event == KMM_EVENT_DOWN) {
		s->dispatch = kmm_dispatch(session);
		s->close = kmm_close(session);
		s->thread = pthread_self();
		__atomic_fetch_add(&s->down, 1, __ATOMIC_SEQ_CST);
	} else if (event == KMM_EVENT_UP) {
		__atomic_fetch_add(&s->up, 1, __ATOMIC_SEQ_CST);
	} else if (event == KMM_EVENT_LOST) {
		__atomic_fetch_add(&s->lost, 1, __ATOMIC_SEQ_CST);
	}
}

START_TEST(events_from_the_library_s_thread)
{
	struct seen s = { 0 };

	ck_assert_int_eq(kmm_on_event(k, event_seen, &s), 0);
	fixture_restart();
	wait_until(__atomic_load_n(&s.up, __ATOMIC_SEQ_CST) == 1);
	ck_assert_uint_eq(s.down, 1);
	ck_assert_uint_eq(s.lost, 0);
	ck_assert(!pthread_equal(s.thread, pthread_self()));
	ck_assert_int_eq(s.dispatch, -EDEADLK);
	ck_assert_int_eq(s.close, -EDEADLK);
	/* removed: it runs no more */
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
	fixture_restart();
	ck_assert_ptr_nonnull(kmm_alloc_pages(k, KMM_GFP_KERNEL, 7));
	ck_assert_uint_eq(s.down, 1);
	ck_assert_uint_eq(s.up, 1);
}
END_TEST

/* While one thread waits for the daemon to map a section, the callback asks for one, too. */
struct untouched {
	struct kmm_page *page;
	void *seen, *by_thread;
	unsigned int touching, told, down;
};

static void *touch(void *arg)
{
	struct untouched *u = arg;

	__atomic_store_n(&u->touching, 1, __ATOMIC_SEQ_CST);
	u->by_thread = kmm_page_address(k, u->page);
	return NULL;
}

static void touch_when_down(struct kmm *session, enum kmm_event event, void *arg)
{
	struct untouched *u = arg;

	if (event != KMM_EVENT_DOWN || u->down)
		return;
	__atomic_store_n(&u->told, 1, __ATOMIC_SEQ_CST);
	wait_until(__atomic_load_n(&u->touching, __ATOMIC_SEQ_CST));
	u->seen = kmm_page_address(session, u->page);
	__atomic_store_n(&u->down, 1, __ATOMIC_SEQ_CST);
}

START_TEST(a_callback_may_want_what_another_waits_for)
{
	struct untouched u = { 0 };
	kmm_handle_t handle;
	pthread_t t;
	int64_t pfn = 0;

	/* a block in a section that this session has not looked at yet: the last of the pool */
	pfn = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, 10, 0);
	ck_assert_int_ge(pfn, 0);
	handle = (kmm_handle_t)peer_do(&a, PEER_HANDLE, (uint64_t)pfn, 0, 0);
	ck_assert_uint_ne(handle, 0);
	u.page = kmm_pfn_to_page(k, (uint64_t)pfn);
	ck_assert_ptr_nonnull(u.page);
	ck_assert_int_eq(kmm_on_event(k, touch_when_down, &u), 0);
	daemon_hold(&d);
	daemon_kill(&d);
	ck_assert_int_eq(pthread_create(&t, NULL, touch, &u), 0);
	/* Neither can have an answer before the daemon is there again. */
	wait_until(__atomic_load_n(&u.touching, __ATOMIC_SEQ_CST) &&
		   __atomic_load_n(&u.told, __ATOMIC_SEQ_CST));
	daemon_resume(&d);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	wait_until(__atomic_load_n(&u.down, __ATOMIC_SEQ_CST) == 1);
	ck_assert_ptr_nonnull(u.by_thread);
	ck_assert_ptr_eq(u.seen, u.by_thread);
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
	daemon_wait_serving(&d);
}
END_TEST

START_TEST(events_by_dispatch)
{
	struct seen s = { 0 };
	struct pollfd f = { .events = POLLIN };

	f.fd = kmm_fd(k);
	ck_assert_int_ge(f.fd, 0);
	ck_assert_int_eq(kmm_fd(k), f.fd);
	ck_assert_int_eq(kmm_on_event(k, event_seen, &s), 0);
	ck_assert_int_eq(kmm_dispatch(k), 0);
	ck_assert_int_eq(poll(&f, 1, 0), 0);
	fixture_restart();
	while (s.up == 0) {
		ck_assert_int_eq(poll(&f, 1, 300000), 1);
		ck_assert_int_eq(kmm_dispatch(k), 0);
	}
	ck_assert_uint_eq(s.down, 1);
	ck_assert(pthread_equal(s.thread, pthread_self()));
	ck_assert_int_eq(s.dispatch, -EDEADLK);
	ck_assert_int_eq(s.close, -EDEADLK);
}
END_TEST

/* ---- another pool in the old one's place ---- */

START_TEST(a_lost_pool_is_never_taken_for_the_old)
{
	const char *const args[] = { "--pool-size", "64M", "--backing", "4k", NULL };
	void *p = kmm_get_free_pages(k, KMM_GFP_KERNEL, 2);
	struct seen s = { 0 };
	pid_t old = daemon_serving_pid(&d);
	struct daemon next;
	kmm_handle_t handle = kmm_handle(k, p);

	block_fill(p, 2, 5);
	ck_assert_int_eq(kmm_on_event(k, event_seen, &s), 0);
	kill(d.pid, SIGKILL); /* the supervisor keeps the memory: it is gone with it */
	(void)daemon_wait_exit(&d);
	wait_until(kill(old, 0) < 0); /* or it would take the next one's socket away */
	daemon_prepare(&next);
	rmdir(next.dir);
	strcpy(next.dir, d.dir);
	strcpy(next.socket, d.socket);
	must(mkdir(next.dir, 0700) == 0);
	daemon_launch(&next, args);
	d = next;
	wait_until(__atomic_load_n(&s.lost, __ATOMIC_SEQ_CST) == 1);
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL, 4));
	ck_assert_int_eq(errno, ENOTRECOVERABLE);
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL, 0));
	ck_assert_int_eq(errno, ENOTRECOVERABLE);
	ck_assert_int_eq(kmm_get(k, p), -ENOTRECOVERABLE);
	errno = 0;
	ck_assert_ptr_null(kmm_get_handle(k, handle));
	ck_assert_int_eq(errno, ENOTRECOVERABLE);
	/* the old memory lives as long as its mapping, and the new pool is nobody's */
	ck_assert(block_check(p, 2, 5));
	ck_assert_uint_eq(daemon_count_sessions(&d), 0);
	ck_assert_int_eq(kmm_close(k), 0);
	k = session_start(&d);
	ck_assert_ptr_nonnull(kmm_alloc_pages(k, KMM_GFP_KERNEL, 4));
	peer_exit(&a);
	peer_exit(&b);
}
END_TEST

/* ---- the supervisor itself ---- */

START_TEST(the_supervisor_ends_the_pool)
{
	pid_t daemon = daemon_serving_pid(&d);

	peer_stop(&a);
	peer_stop(&b);
	ck_assert_int_eq(kmm_close(k), 0);
	ck_assert_int_eq(daemon_stop(&d), 0);
	ck_assert_int_eq(kill(daemon, 0), -1);
	free(zones_at_start);
	fixture_setup_supervised();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("restart");
	TCase *t = tcase_create("restart");

	tcase_add_checked_fixture(t, fixture_setup_supervised, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, what_clients_hold_is_as_before);
	tcase_add_test(t, holds_are_as_before);
	tcase_add_test(t, caches_work_while_the_daemon_is_away);
	tcase_add_test(t, calls_wait_for_the_next_daemon);
	tcase_add_test(t, calls_end_at_their_deadline_while_the_daemon_is_away);
	tcase_add_test(t, parked_calls_are_parked_again);
	tcase_add_test(t, the_dead_are_swept_after_a_restart);
	tcase_add_test(t, events_from_the_library_s_thread);
	tcase_add_test(t, a_callback_may_want_what_another_waits_for);
	tcase_add_test(t, events_by_dispatch);
	tcase_add_test(t, a_lost_pool_is_never_taken_for_the_old);
	tcase_add_test(t, the_supervisor_ends_the_pool);
	suite_add_tcase(s, t);
	return suite_run(s);
}
