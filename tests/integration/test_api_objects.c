/* SPDX-License-Identifier: MIT */
/*
 * Objects of one cache through a real daemon: allocating and freeing by one and by many, threads,
 * each refused free, double frees, forks. What passes between processes is in
 * test_api_object_sharing.c.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/fixture.h"

#define SIZE 168

static struct kmm_cache *c;

static void setup(void)
{
	daemon_start(&d, NULL);
	fixture_note_memory();
	k = session_start(&d);
	c = kmm_cache_create(k, "objects", SIZE, 0, 0, NULL);
	ck_assert_ptr_nonnull(c);
	peer_start(&a, &d);
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "objects", SIZE, 0, 0), 0);
}

static void *object_new(uint64_t seed)
{
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	ck_assert_msg(p != NULL, "errno %d, %s", errno, kmm_error_text());
	object_fill(p, SIZE, seed);
	return p;
}

/* ---- one and many ---- */

START_TEST(one_at_a_time)
{
	enum { N = 5000 };
	static void *p[N];

	for (int round = 0; round < 3; round++) {
		for (unsigned i = 0; i < N; i++)
			p[i] = object_new(i);
		for (unsigned i = 0; i < N; i++)
			ck_assert(object_check(p[i], SIZE, i));
		/* another order than they came */
		for (unsigned i = 0; i < N; i++)
			ck_assert_int_eq(kmm_cache_free(c, p[i * 7919u % N]), 0);
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 0);
}
END_TEST

START_TEST(what_is_had_is_counted)
{
	enum { N = 1000 };
	static void *p[N];

	for (unsigned i = 0; i < N; i++)
		p[i] = object_new(i);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, 300), 300);
	/* without what threads cache the count is exact */
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), N + 300);
	ck_assert_uint_eq(daemon_leak(&d, kmm_session_id(k), "objects"), N);
	ck_assert_uint_eq(daemon_leak(&d, a.session, "objects"), 300);
	ck_assert_int_eq(daemon_session_number(&d, a.session, "objects"), 300);
	for (unsigned i = 0; i < N; i++) {
		ck_assert(object_check(p[i], SIZE, i));
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 300);
	ck_assert_uint_eq(daemon_leak(&d, kmm_session_id(k), "objects"), 0);
}
END_TEST

START_TEST(in_bulk)
{
	static const size_t sizes[] = { 1, 2, 31, 32, 64, 512, 513, 3000 };
	static void *p[3000];
	size_t n;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		n = sizes[i];
		memset(p, 0, sizeof(p));
		errno = 0;
		ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, n, p), n);
		ck_assert_int_eq(errno, 0);
		for (size_t j = 0; j < n; j++)
			object_fill(p[j], SIZE, j);
		if (n < 3000)
			ck_assert_ptr_null(p[n]);
		for (size_t j = 0; j < n; j++)
			ck_assert(object_check(p[j], SIZE, j));
		ck_assert_int_eq(kmm_cache_free_bulk(c, n, p), 0);
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 0);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL | KMM_GFP_ZERO, 100, p), 100);
	for (int i = 0; i < 100; i++)
		for (int j = 0; j < SIZE; j++)
			ck_assert_int_eq(((char *)p[i])[j], 0);
}
END_TEST

START_TEST(bulk_frees_are_all_or_none)
{
	void *p[5], *q[5];
	int64_t theirs = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);

	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 5, p), 5);
	for (unsigned i = 0; i < 5; i++)
		object_fill(p[i], SIZE, i);
	memcpy(q, p, sizeof(q));
	q[4] = (char *)p[4] + 8;
	ck_assert_int_eq(kmm_cache_free_bulk(c, 5, q), -EINVAL);
	q[4] = place_pointer(k, (uint64_t)theirs);
	ck_assert_int_eq(kmm_cache_free_bulk(c, 5, q), -EPERM);
	q[4] = &d;
	ck_assert_int_eq(kmm_cache_free_bulk(c, 5, q), -EINVAL);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_leak(&d, kmm_session_id(k), "objects"), 5);
	for (unsigned i = 0; i < 5; i++)
		ck_assert(object_check(p[i], SIZE, i));
	ck_assert_int_eq(kmm_cache_free_bulk(c, 5, p), 0);
}
END_TEST

/* ---- flags ---- */

START_TEST(gfp_flags)
{
	static const kmm_gfp_t served[] = {
		KMM_GFP_KERNEL, KMM_GFP_ATOMIC, KMM_GFP_NOWAIT, KMM_GFP_NOIO,
		KMM_GFP_NOFS,   KMM_GFP_USER,   KMM_GFP_KERNEL | KMM_GFP_NOFAIL,
		0,
	};
	static const kmm_gfp_t wrong[] = {
		KMM_GFP_HIGHUSER,
		KMM_GFP_KERNEL | 0x10000000u,
		KMM_GFP_KERNEL | KMM_GFP_DMA | KMM_GFP_DMA32,
	};

	for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++) {
		void *p = kmm_cache_alloc(c, served[i]);

		ck_assert_msg(p != NULL, "row %zu: %s", i, kmm_error_text());
		ck_assert_int_eq(kmm_cache_free(c, p), 0);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		errno = 0;
		ck_assert_ptr_null(kmm_cache_alloc(c, wrong[i]));
		ck_assert_msg(errno == EINVAL, "row %zu: errno %d", i, errno);
		ck_assert_str_ne(kmm_error_text(), "");
	}
	errno = 0;
	ck_assert_ptr_null(kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_MEMALLOC));
	ck_assert_int_eq(errno, EPERM);
}
END_TEST

START_TEST(local_is_what_the_thread_caches)
{
	void *p, *q[600];
	size_t n = 0;

	errno = 0;
	ck_assert_ptr_null(kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_LOCAL));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL | KMM_GFP_LOCAL, 4, q), 0);
	p = object_new(1);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	errno = 0;
	while (n < 600 && (q[n] = kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_LOCAL)) != NULL)
		n++;
	ck_assert_uint_ge(n, 1);
	ck_assert_uint_lt(n, 600);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_int_eq(kmm_cache_free_bulk(c, n, q), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_ptr_null(kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_LOCAL));
}
END_TEST

/* ---- threads ---- */

struct worker {
	pthread_t thread;
	unsigned id;
	_Atomic(void *) *swap; /* objects that any of them frees */
};

#define SWAP 64

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	void *own[200] = { NULL };
	unsigned seed = w->id;

	for (int i = 0; i < 20000; i++) {
		unsigned at = (unsigned)rand_r(&seed) % 200;

		if (!own[at]) {
			own[at] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
			must(own[at]);
			object_fill(own[at], SIZE, w->id * 1000 + at);
			continue;
		}
		must(object_check(own[at], SIZE, w->id * 1000 + at));
		if (i % 3) {
			must(kmm_cache_free(c, own[at]) == 0);
		} else { /* another thread frees it */
			void *other = atomic_exchange(&w->swap[at % SWAP], own[at]);

			if (other)
				must(kmm_cache_free(c, other) == 0);
		}
		own[at] = NULL;
	}
	for (unsigned at = 0; at < 200; at++)
		if (own[at]) {
			must(object_check(own[at], SIZE, w->id * 1000 + at));
			must(kmm_cache_free(c, own[at]) == 0);
		}
	return NULL;
}

START_TEST(several_threads)
{
	enum { THREADS = 4 };
	static _Atomic(void *) swap[SWAP];
	struct worker w[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .id = i + 1, .swap = swap };
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, worker_run, &w[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
	for (unsigned i = 0; i < SWAP; i++)
		if (swap[i])
			ck_assert_int_eq(kmm_cache_free(c, swap[i]), 0);
	/* threads that ended left nothing behind */
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 0);
}
END_TEST

/* A thread that ends gives back what it cached, without a flush by anybody. */
static void *alloc_and_free(void *arg)
{
	(void)arg;
	for (int round = 0; round < 10; round++) {
		void *p[100];

		for (int i = 0; i < 100; i++)
			must((p[i] = kmm_cache_alloc(c, KMM_GFP_KERNEL)) != NULL);
		for (int i = 0; i < 100; i++)
			must(kmm_cache_free(c, p[i]) == 0);
	}
	return NULL;
}

START_TEST(threads_that_end_give_back)
{
	pthread_t t;

	ck_assert_int_eq(pthread_create(&t, NULL, alloc_and_free, NULL), 0);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	wait_until(daemon_cache_active(&d, "objects") == 0);
}
END_TEST

/* What an idle thread caches is given back by another's flush. */
struct idle {
	pthread_barrier_t cached, done;
};

static void *idle_thread(void *arg)
{
	struct idle *i = arg;

	alloc_and_free(NULL);
	pthread_barrier_wait(&i->cached);
	pthread_barrier_wait(&i->done);
	alloc_and_free(NULL); /* and it goes on as before */
	return NULL;
}

START_TEST(flush_drains_idle_threads)
{
	struct idle i;
	pthread_t t;

	pthread_barrier_init(&i.cached, NULL, 2);
	pthread_barrier_init(&i.done, NULL, 2);
	ck_assert_int_eq(pthread_create(&t, NULL, idle_thread, &i), 0);
	pthread_barrier_wait(&i.cached);
	ck_assert_uint_gt(daemon_cache_active(&d, "objects"), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 0);
	pthread_barrier_wait(&i.done);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
}
END_TEST

/* ---- frees that are refused ---- */

START_TEST(frees_that_are_refused)
{
	struct kmm_cache *other = kmm_cache_create(k, "other", 48, 0, 0, NULL);
	char *p = object_new(1), *q = kmm_cache_alloc(other, KMM_GFP_KERNEL), *block;
	int64_t place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	void *theirs = place_pointer(k, (uint64_t)place);
	int on_the_stack;

	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, (uint64_t)place, SIZE, 9), 0);
	/* not an object's first byte */
	for (size_t at = 1; at < SIZE; at++) {
		ck_assert_int_eq(kmm_cache_free(c, p + at), -EINVAL);
		ck_assert_int_eq(kmm_kfree(k, p + at), -EINVAL);
	}
	ck_assert_int_eq(kmm_cache_free(c, &on_the_stack), -EINVAL);
	ck_assert_int_eq(kmm_kfree(k, &on_the_stack), -EINVAL);
	/* another cache's */
	ck_assert_int_eq(kmm_cache_free(c, q), -EINVAL);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "other"));
	ck_assert_int_eq(kmm_cache_free(other, p), -EINVAL);
	/* another process's */
	ck_assert_int_eq(kmm_cache_free(c, theirs), -EPERM);
	ck_assert_int_eq(kmm_kfree(k, theirs), -EPERM);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, place_of(k, p), 0), -EPERM);
	/* a page block is no object, and an object's page no block */
	ck_assert_ptr_nonnull(block = kmm_get_free_pages(k, KMM_GFP_KERNEL, 1));
	ck_assert_int_eq(kmm_cache_free(c, block), -EINVAL);
	ck_assert_int_lt(kmm_free_pages(k, kmm_virt_to_page(k, p), 0), 0);
	ck_assert_int_lt(kmm_free_page_addr(k, p - (uintptr_t)p % KMM_PAGE_SIZE, 0), 0);
	ck_assert_int_eq(kmm_page_count(k, kmm_virt_to_page(k, block)), 1);
	ck_assert_int_eq(kmm_free_page_addr(k, block, 1), 0);
	/* nothing changed */
	ck_assert(object_check(p, SIZE, 1));
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHECK, (uint64_t)place, SIZE, 9), 1);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, (uint64_t)place, 0), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(other, q), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(daemon_objects_active(&d), 0);
	/* free now, and nobody's */
	ck_assert_int_lt(kmm_cache_free(c, p), 0);
	ck_assert_int_lt(kmm_kfree(k, theirs), 0);
	ck_assert_uint_eq(daemon_objects_active(&d), 0);
}
END_TEST

struct seen {
	_Atomic unsigned bad_frees;
	char text[512];
};

static void event_seen(struct kmm *session, enum kmm_event event, void *arg)
{
	struct seen *s = arg;

	(void)session;
	if (event != KMM_EVENT_BAD_FREE)
		return;
	if (!s->bad_frees)
		strncpy(s->text, kmm_error_text(), sizeof(s->text) - 1);
	s->bad_frees++;
}

/* At the latest when the magazine leaves the thread; whatever the thread does with it meanwhile,
 * the daemon and other processes see each object once. */
START_TEST(a_double_free_is_found)
{
	struct seen seen = { 0 };
	void *p = object_new(1);
	int r;

	ck_assert_int_eq(kmm_on_event(k, event_seen, &seen), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	r = kmm_cache_free(c, p);
	if (r == 0) {
		ck_assert_int_eq(kmm_flush(k), 0);
		wait_until(seen.bad_frees > 0);
		ck_assert_msg(strstr(seen.text, "objects") != NULL, "%s", seen.text);
	} else {
		ck_assert_int_eq(r, -ENOENT);
		ck_assert_int_eq(kmm_flush(k), 0);
	}
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 0);
	ck_assert(daemon_is_clean(&d));
	/* everybody gets objects of their own */
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, 500), 500);
	for (uint64_t i = 0; i < 500; i++) {
		uint64_t place = (uint64_t)peer_do(&a, PEER_HOARDED, i, 0, 0);

		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, place, SIZE, i), 0);
	}
	for (int i = 0; i < 500; i++)
		object_fill(object_new(1), SIZE, 4711);
	for (uint64_t i = 0; i < 500; i++) {
		uint64_t place = (uint64_t)peer_do(&a, PEER_HOARDED, i, 0, 0);

		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHECK, place, SIZE, i), 1);
	}
}
END_TEST

/* Many of them, in bulk and by one, scattered: the account stays exact. */
START_TEST(double_frees_corrupt_nothing)
{
	enum { N = 400 };
	void *p[N];
	int n = 0;

	for (int round = 0; round < 5; round++) {
		ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, p), N);
		ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), 0);
		for (int i = round; i < N; i += 7)
			n += kmm_cache_free(c, p[i]) == 0;
		(void)kmm_cache_free_bulk(c, 50, p + 100);
		ck_assert_int_eq(kmm_flush(k), 0);
		ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 0);
		ck_assert(daemon_is_clean(&d));
	}
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, 0, 2000, 0), 0);
}
END_TEST

START_TEST(consistency_checks_find_a_double_free_at_once)
{
	struct kmm_cache *checked =
		kmm_cache_create(k, "checked", SIZE, 0, KMM_SLAB_CONSISTENCY_CHECKS, NULL);
	void *p[300];

	ck_assert_ptr_nonnull(checked);
	for (int i = 0; i < 300; i++) {
		ck_assert_ptr_nonnull(p[i] = kmm_cache_alloc(checked, KMM_GFP_KERNEL));
		object_fill(p[i], SIZE, (unsigned)i);
	}
	for (int i = 0; i < 300; i++) {
		ck_assert(object_check(p[i], SIZE, (unsigned)i));
		ck_assert_int_eq(kmm_cache_free(checked, p[i]), 0);
		ck_assert_int_eq(kmm_cache_free(checked, p[i]), -ENOENT);
		ck_assert_ptr_nonnull(strstr(kmm_error_text(), "checked"));
		ck_assert_int_eq(kmm_kfree(k, p[i]), -ENOENT);
	}
	ck_assert_int_eq(kmm_cache_free_bulk(checked, 10, p), -ENOENT);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "checked"), 0);
}
END_TEST

/* ---- forks ---- */

START_TEST(children_have_no_objects)
{
	char *p = object_new(7);
	void *cached = object_new(8);
	kmm_handle_t handle = kmm_handle(k, p);
	int status;
	pid_t pid;

	ck_assert_int_eq(kmm_cache_free(c, cached), 0);
	pid = fork();
	if (pid == 0) {
		struct kmm_cache *mine;
		struct kmm *own;
		void *q;

		errno = 0;
		must(!kmm_cache_alloc(c, KMM_GFP_KERNEL) && errno == EOWNERDEAD);
		must(!kmm_kmalloc(k, 64, KMM_GFP_KERNEL) && errno == EOWNERDEAD);
		must(kmm_cache_free(c, p) == -EOWNERDEAD);
		must(kmm_kfree(k, p) == -EOWNERDEAD);
		must(!kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 1, &q) && errno == EOWNERDEAD);
		must(kmm_cache_shrink(c) == -EOWNERDEAD);
		must(!kmm_cache_open(k, "objects") && errno == EOWNERDEAD);
		must(!kmm_handle(k, p) && errno == EOWNERDEAD);
		must(kmm_publish(k, "name", p) == -EOWNERDEAD);
#ifndef __SANITIZE_THREAD__ /* which allows a forked child no thread, so no session */
		own = session_start(&d);
		mine = kmm_cache_open(own, "objects");
		must(mine);
		must((q = kmm_get_handle(own, handle)) != NULL && object_check(q, SIZE, 7));
		must(kmm_cache_free(mine, q) == -EPERM); /* the parent's, held, not owned */
		must(kmm_put(own, q) == 0);
		for (int i = 0; i < 200; i++) {
			must((q = kmm_cache_alloc(mine, KMM_GFP_KERNEL)) != NULL);
			object_fill(q, SIZE, 4711);
		}
		must(kmm_close(k) == 0);
		must(kmm_close(own) == 0);
#else
		(void)own, (void)mine, (void)handle;
#endif
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert(object_check(p, SIZE, 7));
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(kmm_cache_free(c, object_new(1)), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "objects"), 0);
}
END_TEST

/* ---- ends ---- */

enum ending { BY_CLOSE, BY_EXIT, BY_KILL };

START_TEST(all_comes_back_when_a_process_ends)
{
	kmm_session_id_t id = a.session;
	void *mine = object_new(1);
	int64_t place;
	kmm_handle_t handle;

	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, 2000), 2000);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE, 0, 700, 0), 0);
	ck_assert_int_ge(peer_do(&a, PEER_OBJECT_ALLOC, 1000, KMM_GFP_KERNEL, PEER_NO_CACHE), 0);
	place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	handle = (kmm_handle_t)peer_do(&a, PEER_THING_HANDLE, (uint64_t)place, 0, 0);
	ck_assert_ptr_nonnull(kmm_adopt(k, handle));
	switch ((enum ending)_i) {
	case BY_CLOSE:
		peer_stop(&a);
		break;
	case BY_EXIT:
		peer_exit(&a);
		break;
	case BY_KILL:
		peer_kill(&a);
		break;
	}
	wait_until(!daemon_has_session(&d, id));
	ck_assert(object_check(mine, SIZE, 1));
	ck_assert_int_eq(kmm_cache_free(c, mine), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	/* what k adopted is left */
	ck_assert_uint_eq(daemon_objects_active(&d), 1);
	ck_assert_uint_eq(daemon_leak(&d, kmm_session_id(k), "objects"), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("objects");
	TCase *t = tcase_create("objects");

	tcase_add_checked_fixture(t, setup, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, one_at_a_time);
	tcase_add_test(t, what_is_had_is_counted);
	tcase_add_test(t, in_bulk);
	tcase_add_test(t, bulk_frees_are_all_or_none);
	tcase_add_test(t, gfp_flags);
	tcase_add_test(t, local_is_what_the_thread_caches);
	tcase_add_test(t, several_threads);
	tcase_add_test(t, threads_that_end_give_back);
	tcase_add_test(t, flush_drains_idle_threads);
	tcase_add_test(t, frees_that_are_refused);
	tcase_add_test(t, a_double_free_is_found);
	tcase_add_test(t, double_frees_corrupt_nothing);
	tcase_add_test(t, consistency_checks_find_a_double_free_at_once);
	tcase_add_test(t, children_have_no_objects);
	tcase_add_loop_test(t, all_comes_back_when_a_process_ends, BY_CLOSE, BY_KILL + 1);
	suite_add_tcase(s, t);
	return suite_run(s);
}
