/* SPDX-License-Identifier: MIT */
/*
 * Shrinkers through a real daemon: this process keeps all memory behind one, another waits for some, and
 * gets it when the shrinker gave it up. Who calls it, when it is not called, and how it goes.
 *
 * How much is asked for is tested by numbers in tests/unit/test_client_shrinker.c.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/waiting.h"

#define MANY (1 << 15)

/* Pages that could be made again: what a program's cache of something is. */
struct hoard {
	struct kmm_shrinker shrinker;
	pthread_mutex_t lock;
	struct kmm_page *page[MANY];
	size_t n;
	/* what its functions saw; read with seen() */
	unsigned counts, scans, ended, batches_too_large, without_fs;
	kmm_gfp_t gfp;
	pthread_t thread;
	bool hidden; /* says that there is nothing */
	bool stubborn; /* stops each time */
	void (*inside)(struct hoard *h); /* what scan does besides */
	int result[4];
};
static struct hoard hoard;

static unsigned seen(const unsigned *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void note(unsigned *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
}

static size_t hoard_count(struct kmm_shrinker *s, kmm_gfp_t gfp)
{
	struct hoard *h = s->private_data;
	size_t n;

	pthread_mutex_lock(&h->lock);
	h->gfp = gfp;
	h->thread = pthread_self();
	n = __atomic_load_n(&h->hidden, __ATOMIC_SEQ_CST) ? 0 : h->n;
	pthread_mutex_unlock(&h->lock);
	if (!(gfp & KMM_GFP_FS))
		note(&h->without_fs);
	note(&h->counts);
	return n;
}

static size_t hoard_scan(struct kmm_shrinker *s, size_t nr, kmm_gfp_t gfp)
{
	struct hoard *h = s->private_data;
	size_t freed = 0;

	(void)gfp;
	if (nr > 128)
		note(&h->batches_too_large);
	if (h->inside)
		h->inside(h);
	note(&h->scans);
	if (__atomic_load_n(&h->stubborn, __ATOMIC_SEQ_CST))
		return SIZE_MAX;
	pthread_mutex_lock(&h->lock);
	while (freed < nr && h->n > 0) {
		must(kmm_free_pages(k, h->page[--h->n], 0) == 0);
		freed++;
	}
	pthread_mutex_unlock(&h->lock);
	note(&h->ended);
	return freed;
}

static void hoard_init(struct hoard *h)
{
	memset(h, 0, sizeof(*h));
	pthread_mutex_init(&h->lock, NULL);
	h->shrinker.count = hoard_count;
	h->shrinker.scan = hoard_scan;
	h->shrinker.private_data = h;
}

/* All the memory that there is, also what is only kept back for a while. */
static void hoard_fill(struct hoard *h)
{
	size_t before;
	bool boosted;

	ck_assert_int_eq(kmm_set_timeout(k, 100), 0);
	do {
		before = h->n;
		boosted = daemon_is_boosted(&d); /* it may end at any moment */
		free(daemon_zone_frames(&d)); /* drops caches first */
		while (h->n < MANY && (h->page[h->n] = kmm_alloc_pages(k, KMM_GFP_NOFS, 0)))
			h->n++;
	} while (h->n > before || boosted);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	ck_assert_uint_gt(h->n, 1000);
}

static void hoard_begin(void)
{
	hoard_init(&hoard);
	hoard_fill(&hoard);
	ck_assert_int_eq(kmm_register_shrinker(k, &hoard.shrinker), 0);
}

static void setup(void)
{
	fixture_setup();
	hoard_begin();
}

static void poor_begins(kmm_gfp_t gfp)
{
	peer_begin(&poor, PEER_ALLOC, gfp, 0, 0);
	wait_until(is_parked(&poor) || peer_has_answered(&poor));
}

START_TEST(frees_for_who_waits)
{
	size_t had = hoard.n;
	int64_t pfn;

	poor_begins(KMM_GFP_KERNEL);
	pfn = peer_end(&poor);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
	ck_assert_uint_gt(hoard.scans, 0);
	ck_assert_uint_eq(hoard.batches_too_large, 0);
	ck_assert_uint_eq(hoard.without_fs, 0);
	/* the request's flags, and another thread than any of the program's */
	ck_assert_uint_eq(hoard.gfp, KMM_GFP_KERNEL);
	ck_assert(!pthread_equal(hoard.thread, pthread_self()));
	/* it was not called for more than it took, but for what was under way */
	ck_assert_uint_lt(hoard.n, had);
	ck_assert_uint_gt(hoard.n, 0);
}
END_TEST

/* Also for threads of the same process, and for objects. */
START_TEST(frees_for_this_process)
{
	struct kmm_cache *c = kmm_cache_create(k, "own", 4096, 0, 0, NULL);

	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_nonnull(kmm_cache_alloc(c, KMM_GFP_KERNEL));
	ck_assert_uint_gt(seen(&hoard.scans), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

START_TEST(without_fs_nobody_is_called)
{
	static const kmm_gfp_t flags[] = { KMM_GFP_NOFS, KMM_GFP_NOIO };

	ck_assert_int_eq(peer_do(&poor, PEER_TIMEOUT, 400, 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, flags[_i], 0, 0), -ETIMEDOUT);
	ck_assert_uint_eq(seen(&hoard.counts), 0);
	ck_assert_uint_eq(seen(&hoard.scans), 0);
	/* nor for who does not wait */
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL & ~KMM_GFP_DIRECT_RECLAIM, 0, 0),
			 -ENOMEM);
	ck_assert_uint_eq(seen(&hoard.counts), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_TIMEOUT, 0, 0, 0), 0);
	ck_assert_int_ge(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0), 0);
	ck_assert_uint_gt(seen(&hoard.scans), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

/* One that may call them joins another that waits and may not: they are called for it. */
START_TEST(one_with_fs_joins)
{
	poor_begins(KMM_GFP_NOFS);
	peer_begin(&rich, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_ge(peer_end(&rich), 0);
	ck_assert_uint_gt(seen(&hoard.scans), 0);
	ck_assert_uint_eq(hoard.without_fs, 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

/* Who has nothing to give, or cannot now, is asked again as long as somebody waits. */
START_TEST(asked_again)
{
	bool *later = _i ? &hoard.stubborn : &hoard.hidden;
	unsigned *counter = _i ? &hoard.scans : &hoard.counts;

	__atomic_store_n(later, true, __ATOMIC_SEQ_CST);
	poor_begins(KMM_GFP_KERNEL);
	wait_until(seen(counter) > 14); /* priority 12 to 0, and some */
	ck_assert(!peer_has_answered(&poor));
	__atomic_store_n(later, false, __ATOMIC_SEQ_CST);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

/* One that is registered while somebody waits is heard, too. */
START_TEST(registered_in_need)
{
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
	poor_begins(KMM_GFP_KERNEL);
	ck_assert_int_eq(kmm_register_shrinker(k, &hoard.shrinker), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

/* ---- inside ---- */

/* Requests neither wait nor call shrinkers: this thread is what they would wait for. */
static void allocate_inside(struct hoard *h)
{
	static struct kmm_cache *c;
	struct kmm_page *page[2];
	kmm_gfp_t gfp = KMM_GFP_KERNEL | KMM_GFP_NOFAIL;
	void *p;

	if (h->scans)
		return;
	errno = 0;
	must(kmm_alloc_pages(k, gfp, 0) == NULL);
	h->result[0] = errno;
	errno = 0;
	must(kmm_alloc_pages_bulk(k, gfp, 0, 2, page) == 0);
	h->result[1] = errno;
	c = kmm_cache_open(k, "inside");
	errno = 0;
	must(kmm_cache_alloc(c, gfp) == NULL);
	h->result[2] = errno;
	errno = 0;
	must(kmm_cache_alloc_bulk(c, gfp, 1, &p) == 0);
	h->result[3] = errno;
}

START_TEST(requests_inside_do_not_wait)
{
	struct kmm_cache *c = kmm_cache_create(k, "inside", 4096, 0, 0, NULL);

	ck_assert_ptr_nonnull(c);
	hoard.inside = allocate_inside;
	poor_begins(KMM_GFP_KERNEL);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(hoard.result[i], ENOMEM);
	/* it was the thread's state, not the session's */
	ck_assert_ptr_nonnull(kmm_cache_alloc(c, KMM_GFP_KERNEL));
}
END_TEST

static void forbidden_inside(struct hoard *h)
{
	h->result[0] = kmm_close(k);
	h->result[1] = kmm_dispatch(k);
}

START_TEST(close_and_dispatch_are_refused_inside)
{
	if (_i)
		ck_assert_int_ge(kmm_fd(k), 0);
	hoard.inside = forbidden_inside;
	poor_begins(KMM_GFP_KERNEL);
	while (!peer_has_answered(&poor))
		kmm_dispatch(k);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
	ck_assert_int_eq(hoard.result[0], -EDEADLK);
	ck_assert_int_eq(hoard.result[1], -EDEADLK);
}
END_TEST

static void unregister_inside(struct hoard *h)
{
	h->result[0] = kmm_unregister_shrinker(k, &h->shrinker);
	h->result[1] = kmm_unregister_shrinker(k, &h->shrinker);
}

/* Its own call is its last. */
START_TEST(unregisters_itself)
{
	hoard.inside = unregister_inside;
	poor_begins(KMM_GFP_KERNEL);
	ck_assert_int_ge(peer_end(&poor), 0);
	wait_until(seen(&hoard.ended) == 1); /* nobody else waits for it */
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), -ENOENT);
	ck_assert_int_eq(hoard.result[0], 0);
	ck_assert_int_eq(hoard.result[1], -ENOENT);
	ck_assert_uint_eq(hoard.scans, 1);
	/* it may come again */
	hoard.inside = NULL;
	ck_assert_int_eq(kmm_register_shrinker(k, &hoard.shrinker), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

static pthread_barrier_t entered, leave;

static void linger(struct hoard *h)
{
	if (h->scans)
		return;
	pthread_barrier_wait(&entered);
	pthread_barrier_wait(&leave);
	h->result[0] = 1; /* the unregistering sees it */
}

static void *let_leave(void *arg)
{
	(void)arg;
	/* Whoever unregisters waits by now, or will: either way it returns after the end. */
	pthread_barrier_wait(&leave);
	return NULL;
}

START_TEST(unregistering_waits_for_the_running_one)
{
	pthread_t t;

	pthread_barrier_init(&entered, NULL, 2);
	pthread_barrier_init(&leave, NULL, 2);
	hoard.inside = linger;
	poor_begins(KMM_GFP_KERNEL);
	pthread_barrier_wait(&entered);
	ck_assert_int_eq(pthread_create(&t, NULL, let_leave, NULL), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
	ck_assert_int_eq(hoard.result[0], 1);
	ck_assert_uint_eq(hoard.scans, 1);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
}
END_TEST

/* ---- several; events taken over ---- */

START_TEST(all_are_called)
{
	static struct hoard more[3];

	for (int i = 0; i < 3; i++) {
		hoard_init(&more[i]);
		more[i].stubborn = true;
		/* half of what there is, without having been taken */
		more[i].n = hoard.n / 2;
		ck_assert_int_eq(kmm_register_shrinker(k, &more[i].shrinker), 0);
	}
	hoard.stubborn = true;
	poor_begins(KMM_GFP_KERNEL);
	for (int i = 0; i < 3; i++)
		wait_until(seen(&more[i].scans) > 0);
	/* one goes, the others stay */
	ck_assert_int_eq(kmm_unregister_shrinker(k, &more[1].shrinker), 0);
	__atomic_store_n(&hoard.stubborn, false, __ATOMIC_SEQ_CST);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &more[0].shrinker), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &more[2].shrinker), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

/* Once kmm_fd was called they run where the program calls kmm_dispatch, and nowhere else. */
START_TEST(run_by_dispatch)
{
	struct pollfd p[2] = { { kmm_fd(k), POLLIN, 0 }, { poor.fd, POLLIN, 0 } };
	int readable = 0;

	ck_assert_int_ge(p[0].fd, 0);
	ck_assert_int_eq(kmm_dispatch(k), 0); /* what was before */
	poor_begins(KMM_GFP_KERNEL);
	while (!peer_has_answered(&poor)) {
		ck_assert_int_gt(poll(p, 2, -1), 0);
		if (!p[0].revents)
			continue;
		readable++;
		ck_assert_int_eq(kmm_dispatch(k), 0);
	}
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_int_gt(readable, 0);
	ck_assert_uint_gt(hoard.scans, 0);
	ck_assert(pthread_equal(hoard.thread, pthread_self()));
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

/* What the callbacks do is not the dispatching thread's error. */
static void fail_inside(struct hoard *h)
{
	(void)h;
	errno = 4711;
	must(kmm_free_pages(k, (struct kmm_page *)(void *)h, 0) == -EINVAL);
}

START_TEST(dispatch_keeps_errno_and_text)
{
	char text[512];

	ck_assert_int_ge(kmm_fd(k), 0);
	hoard.inside = fail_inside;
	poor_begins(KMM_GFP_KERNEL);
	ck_assert_int_eq(kmm_free_pages(k, NULL, 99), 0);
	ck_assert_ptr_null(kmm_pointer(k, 0));
	strncpy(text, kmm_error_text(), sizeof(text) - 1);
	errno = 1234;
	while (seen(&hoard.scans) == 0)
		ck_assert_int_eq(kmm_dispatch(k), 0);
	ck_assert_int_eq(errno, 1234);
	ck_assert_str_eq(kmm_error_text(), text);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
	ck_assert_int_ge(peer_end(&poor), 0);
}
END_TEST

/* ---- registering ---- */

START_TEST(arguments_are_checked)
{
	struct kmm_shrinker s = hoard.shrinker;
	int status;
	pid_t pid;

	ck_assert_int_eq(kmm_register_shrinker(NULL, &s), -EINVAL);
	ck_assert_int_eq(kmm_register_shrinker(k, NULL), -EINVAL);
	ck_assert_int_eq(kmm_unregister_shrinker(NULL, &s), -EINVAL);
	ck_assert_int_eq(kmm_unregister_shrinker(k, NULL), -EINVAL);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &s), -ENOENT);
	ck_assert_int_eq(kmm_register_shrinker(k, &hoard.shrinker), -EEXIST);
	s.count = NULL;
	ck_assert_int_eq(kmm_register_shrinker(k, &s), -EINVAL);
	s = hoard.shrinker;
	s.scan = NULL;
	ck_assert_int_eq(kmm_register_shrinker(k, &s), -EINVAL);
	s = hoard.shrinker;
	s.seeks = -1;
	ck_assert_int_eq(kmm_register_shrinker(k, &s), -EINVAL);
	pid = fork();
	if (pid == 0) {
		must(kmm_register_shrinker(k, &s) == -EOWNERDEAD);
		must(kmm_unregister_shrinker(k, &hoard.shrinker) == -EOWNERDEAD);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), -ENOENT);
}
END_TEST

/* A session may end with shrinkers; the daemon forgets them with it. */
START_TEST(closed_with_shrinkers)
{
	ck_assert_int_eq(kmm_close(k), 0);
	k = session_start(&d);
	ck_assert_int_ge(peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 0, 0), 0);
}
END_TEST

/* ---- the daemon dies ---- */

static void setup_supervised(void)
{
	fixture_setup_supervised();
	hoard_begin();
}

/* Both come back, and the next daemon knows who has shrinkers. */
START_TEST(called_after_a_restart)
{
	__atomic_store_n(&hoard.hidden, true, __ATOMIC_SEQ_CST);
	poor_begins(KMM_GFP_KERNEL);
	wait_until(seen(&hoard.counts) > 0);
	fixture_restart();
	__atomic_store_n(&hoard.hidden, false, __ATOMIC_SEQ_CST);
	ck_assert_int_ge(peer_end(&poor), 0);
	ck_assert_uint_gt(seen(&hoard.scans), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &hoard.shrinker), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shrinkers");
	TCase *t = fixture_case_long(s, "called", setup), *i = fixture_case_long(s, "inside", setup);
	TCase *m = fixture_case_long(s, "dispatch", setup);
	TCase *r = fixture_case_long(s, "registering", setup);
	TCase *v = fixture_case_long(s, "restart", setup_supervised);

	tcase_add_test(t, frees_for_who_waits);
	tcase_add_test(t, frees_for_this_process);
	tcase_add_loop_test(t, without_fs_nobody_is_called, 0, 2);
	tcase_add_test(t, one_with_fs_joins);
	tcase_add_loop_test(t, asked_again, 0, 2);
	tcase_add_test(t, registered_in_need);
	tcase_add_test(i, requests_inside_do_not_wait);
	tcase_add_loop_test(i, close_and_dispatch_are_refused_inside, 0, 2);
	tcase_add_test(i, unregisters_itself);
	tcase_add_test(i, unregistering_waits_for_the_running_one);
	tcase_add_test(t, all_are_called);
	tcase_add_test(m, run_by_dispatch);
	tcase_add_test(m, dispatch_keeps_errno_and_text);
	tcase_add_test(r, arguments_are_checked);
	tcase_add_test(r, closed_with_shrinkers);
	tcase_add_test(v, called_after_a_restart);
	return suite_run(s);
}
