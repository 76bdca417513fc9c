/* SPDX-License-Identifier: MIT */
/*
 * Mempools through a real daemon: a reserve that serves when nothing else does, and stays where it is;
 * waiting for memory or a free, whichever comes first; what is refused.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/waiting.h"

#define CACHE "elements"
#define SIZE 4096 /* one a slab of one frame */
#define RESERVE 4u
#define MANY 4096u

static struct kmm_cache *c;
static struct kmm_mempool *pool;
static void *got[MANY];

static void open_cache(void)
{
	c = kmm_cache_create(k, CACHE, SIZE, 0, 0, NULL);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(peer_do_text(&rich, PEER_CACHE_OPEN, CACHE, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do_text(&poor, PEER_CACHE_OPEN, CACHE, 0, 0, 0), 0);
}

static void make_pool(void)
{
	pool = kmm_mempool_create(c, RESERVE);
	ck_assert_msg(pool != NULL, "%s", kmm_error_text());
}

static void setup(void)
{
	fixture_setup();
	open_cache();
	make_pool();
}

/* What the pool gives at once; the rest of the array is untouched. */
static size_t take_from_pool(kmm_gfp_t gfp)
{
	size_t n = 0;

	while (n < MANY && (got[n] = kmm_mempool_alloc(pool, gfp)) != NULL) {
		object_fill(got[n], SIZE, n);
		n++;
	}
	return n;
}

/* The others of n, whatever is in them. */
static void free_to_pool(size_t first, size_t n)
{
	for (size_t i = first; i < n; i++)
		ck_assert_int_eq(kmm_mempool_free(pool, got[i]), 0);
}

static void give_to_pool(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ck_assert(object_check(got[i], SIZE, i));
		ck_assert_int_eq(kmm_mempool_free(pool, got[i]), 0);
	}
}

/* Nothing is left but the reserve: neither in the pool nor cached anywhere. */
static void take_all(void)
{
	bool boosted;

	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_TIMEOUT, 100, 0, 0), 0);
	do {
		boosted = daemon_is_boosted(&d); /* it may end at any moment */
		ck_assert_int_gt(take_by(PEER_OBJECT_HOARD, 0, KMM_GFP_NOFS, UINT64_MAX), 1000);
	} while (boosted);
	ck_assert_int_eq(peer_do(&rich, PEER_TIMEOUT, 0, 0, 0), 0);
}

START_TEST(objects_come_and_go)
{
	size_t i;

	for (i = 0; i < 300; i++) {
		errno = 4711;
		got[i] = kmm_mempool_alloc(pool, KMM_GFP_KERNEL);
		ck_assert_ptr_nonnull(got[i]);
		ck_assert_int_eq(errno, 4711);
		object_fill(got[i], SIZE, i);
	}
	/* they are objects of the cache, as any others */
	ck_assert_uint_eq(kmm_ksize(k, got[0]), SIZE);
	ck_assert_int_eq(kmm_mempool_destroy(pool), -EBUSY);
	ck_assert_msg(strstr(kmm_error_text(), "300 objects") != NULL, "%s", kmm_error_text());
	give_to_pool(299);
	ck_assert_int_eq(kmm_mempool_destroy(pool), -EBUSY);
	ck_assert_int_eq(kmm_mempool_free(pool, got[299]), 0);
	fixture_flush();
	ck_assert_uint_eq(daemon_cache_active(&d, CACHE), RESERVE);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	fixture_flush();
	ck_assert_uint_eq(daemon_cache_active(&d, CACHE), 0);
}
END_TEST

/* The pool's objects are live ones: the cache cannot go before. */
START_TEST(the_reserve_keeps_the_cache)
{
	ck_assert_int_eq(peer_do(&rich, PEER_CACHE_DESTROY, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_CACHE_DESTROY, 0, 0, 0), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), -EBUSY);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
}
END_TEST

START_TEST(the_reserve_serves_when_memory_is_out)
{
	size_t n, i;

	take_all();
	ck_assert_ptr_null(kmm_cache_alloc(c, KMM_GFP_NOWAIT));
	/* twice: what is freed is the reserve again */
	for (i = 0; i < 2; i++) {
		n = take_from_pool(_i ? KMM_GFP_ATOMIC & ~KMM_GFP_HIGH : KMM_GFP_NOWAIT);
		ck_assert_uint_ge(n, RESERVE);
		ck_assert_int_eq(errno, ENOMEM);
		give_to_pool(n);
	}
}
END_TEST

/* Flushed, dropped, pressed, asked for by an operator: it is there. */
START_TEST(the_reserve_stays_in_the_process)
{
	static const char *const drop[] = { "drop-caches", NULL };
	static const char *const shrink[] = { "shrink", CACHE, NULL };
	size_t n;

	take_all();
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert_int_eq(daemon_ctl(&d, NULL, drop), 0);
	ck_assert_int_eq(daemon_ctl(&d, NULL, shrink), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_TIMEOUT, 300, 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), -ETIMEDOUT);
	ck_assert_uint_eq((unsigned long)daemon_leak(&d, kmm_session_id(k), CACHE), RESERVE);
	n = take_from_pool(KMM_GFP_NOWAIT);
	ck_assert_uint_ge(n, RESERVE);
	give_to_pool(n);
}
END_TEST

/* ---- waiting ---- */

struct waiter {
	pthread_t thread;
	kmm_gfp_t gfp;
	void *p;
	int error;
	bool done;
};

static void *wait_for_one(void *arg)
{
	struct waiter *w = arg;

	errno = 0;
	w->p = kmm_mempool_alloc(pool, w->gfp);
	w->error = errno;
	__atomic_store_n(&w->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* It waits, or has found something that was overlooked. */
static void wait_start(struct waiter *w, kmm_gfp_t gfp, int parked)
{
	w->gfp = gfp;
	w->done = false;
	ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_for_one, w), 0);
	wait_until(__atomic_load_n(&w->done, __ATOMIC_SEQ_CST) ||
		   daemon_session_number(&d, kmm_session_id(k), "parked") == parked);
}

static void wait_begin(struct waiter *w, kmm_gfp_t gfp, int parked)
{
	wait_start(w, gfp, parked);
	ck_assert(!__atomic_load_n(&w->done, __ATOMIC_SEQ_CST));
}

static void *wait_end(struct waiter *w)
{
	ck_assert_int_eq(pthread_join(w->thread, NULL), 0);
	return w->p;
}

START_TEST(waits_for_a_free)
{
	struct waiter w;
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	/* NORETRY makes a request of the cache fail; the pool waits all the same, as Linux's does */
	wait_begin(&w, _i ? KMM_GFP_KERNEL | KMM_GFP_NORETRY : KMM_GFP_KERNEL, 1);
	ck_assert_int_eq(kmm_mempool_free(pool, got[n - 1]), 0);
	ck_assert_ptr_eq(wait_end(&w), got[n - 1]);
	ck_assert_int_eq(w.error, 0);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "parked"), 0);
	object_fill(w.p, SIZE, n - 1);
	give_to_pool(n);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
}
END_TEST

START_TEST(waits_for_memory)
{
	struct waiter w;
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	wait_begin(&w, KMM_GFP_KERNEL, 1);
	ck_assert_int_eq(peer_do(&rich, PEER_OBJECT_RELEASE, 0, 1, 0), 0);
	ck_assert_ptr_nonnull(wait_end(&w));
	for (size_t i = 0; i < n; i++)
		ck_assert_ptr_ne(w.p, got[i]);
	ck_assert_int_eq(kmm_mempool_free(pool, w.p), 0);
	give_to_pool(n);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
}
END_TEST

/* A free and memory at the same time: nothing is lost, whoever wins. */
START_TEST(both_may_come_at_once)
{
	struct waiter w;
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	for (int round = 0; round < 20; round++) {
		wait_start(&w, KMM_GFP_KERNEL, 1);
		peer_begin(&rich, PEER_OBJECT_RELEASE, 0, 1, 0);
		ck_assert_int_eq(kmm_mempool_free(pool, got[n - 1]), 0);
		ck_assert_int_eq(peer_end(&rich), 0);
		ck_assert_ptr_nonnull(wait_end(&w));
		got[n - 1] = w.p; /* freed to the pool, it may be this one, or nobody's */
		object_fill(w.p, SIZE, n - 1);
		/* as it was: nothing free, nothing in the reserve */
		while ((got[n] = kmm_mempool_alloc(pool, KMM_GFP_NOWAIT)) != NULL) {
			object_fill(got[n], SIZE, n);
			n++;
		}
		take_by(PEER_OBJECT_HOARD, 0, KMM_GFP_NOWAIT, UINT64_MAX);
	}
	give_to_pool(n);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	fixture_flush();
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "objects"), 0);
}
END_TEST

START_TEST(who_waits_longest_is_first)
{
	struct waiter w[3];
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	for (int i = 0; i < 3; i++)
		wait_begin(&w[i], KMM_GFP_KERNEL, i + 1);
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(kmm_mempool_free(pool, got[i]), 0);
		ck_assert_ptr_eq(wait_end(&w[i]), got[i]);
		object_fill(got[i], SIZE, i);
	}
	give_to_pool(n);
}
END_TEST

START_TEST(waiting_ends)
{
	struct waiter w;
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	ck_assert_int_eq(kmm_set_timeout(k, 40), 0);
	errno = 0;
	ck_assert_ptr_null(kmm_mempool_alloc(pool, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	wait_begin(&w, KMM_GFP_KERNEL, 1);
	ck_assert_int_eq(kmm_cancel(k), 0);
	ck_assert_ptr_null(wait_end(&w));
	ck_assert_int_eq(w.error, ECANCELED);
	/* who left the queue is given nothing */
	give_to_pool(n);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
}
END_TEST

#define THREADS 4
#define TURNS 500

static void *take_turns(void *arg)
{
	for (uint64_t i = 0; i < TURNS; i++) {
		uint64_t seed = (uintptr_t)arg * TURNS + i;
		void *p[2];

		must((p[0] = kmm_mempool_alloc(pool, KMM_GFP_KERNEL)) != NULL);
		object_fill(p[0], 64, seed);
		sched_yield();
		must(object_check(p[0], 64, seed));
		must(kmm_mempool_free(pool, p[0]) == 0);
	}
	return NULL;
}

/* More threads than objects: all of them get on, and no object is with two. */
START_TEST(threads_get_on_with_the_reserve)
{
	pthread_t t[THREADS];
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	ck_assert_uint_ge(n, RESERVE);
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), 0);
	ck_assert_int_eq(kmm_mempool_free(pool, got[1]), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, take_turns, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(t[i], NULL), 0);
	free_to_pool(2, n);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "objects"), 0);
}
END_TEST

/* ---- a quota ---- */

static void setup_quota(void)
{
	fixture_setup_configured("[limits]\npages = 64\n", NULL);
	open_cache();
	make_pool();
}

START_TEST(a_quota_is_waited_out)
{
	struct waiter w;
	size_t n = take_from_pool(KMM_GFP_KERNEL & ~KMM_GFP_DIRECT_RECLAIM);

	ck_assert_uint_eq(n, 64);
	ck_assert_int_eq(errno, EDQUOT);
	ck_assert_int_eq(kmm_set_timeout(k, 100), 0);
	ck_assert_ptr_null(kmm_mempool_alloc(pool, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	w.gfp = KMM_GFP_KERNEL;
	ck_assert_int_eq(pthread_create(&w.thread, NULL, wait_for_one, &w), 0);
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), 0);
	ck_assert_ptr_nonnull(wait_end(&w));
	got[0] = w.p;
	object_fill(w.p, SIZE, 0);
	give_to_pool(n);
	/* a reserve beyond it cannot be had, and leaves nothing behind */
	ck_assert_ptr_null(kmm_mempool_create(c, 65));
	ck_assert_int_eq(errno, EDQUOT);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "objects"), 0);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(arguments_are_checked)
{
	struct kmm_cache *other = kmm_cache_create(k, "others", 64, 0, 0, NULL);
	struct kmm_mempool *one;
	void *p, *q;

	errno = 0;
	ck_assert_ptr_null(kmm_mempool_create(NULL, 1));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(kmm_mempool_create(c, SIZE_MAX));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_null(kmm_mempool_create(c, SIZE_MAX / SIZE));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_null(kmm_mempool_alloc(NULL, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(kmm_mempool_free(NULL, NULL), -EINVAL);
	ck_assert_int_eq(kmm_mempool_free(pool, NULL), 0);
	ck_assert_int_eq(kmm_mempool_destroy(NULL), 0);
	ck_assert_ptr_null(kmm_mempool_alloc(pool, 0x40000000u));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(kmm_mempool_alloc(pool, KMM_GFP_KERNEL | KMM_GFP_MEMALLOC));
	ck_assert_int_eq(errno, EPERM);
	/* none is out */
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	ck_assert_int_eq(kmm_mempool_free(pool, p), -EINVAL);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	/* another cache's, inside one, nobody's */
	q = kmm_mempool_alloc(pool, KMM_GFP_KERNEL);
	p = kmm_cache_alloc(other, KMM_GFP_KERNEL);
	ck_assert_int_eq(kmm_mempool_free(pool, p), -EINVAL);
	ck_assert_int_eq(kmm_mempool_free(pool, (char *)q + 8), -EINVAL);
	ck_assert_int_eq(kmm_mempool_free(pool, &p), -EINVAL);
	ck_assert_int_eq(kmm_mempool_free(pool, q), 0);
	/* as in Linux, a reserve of none is one of one */
	one = kmm_mempool_create(c, 0);
	ck_assert_ptr_nonnull(one);
	ck_assert_int_eq(kmm_mempool_destroy(one), 0);
}
END_TEST

START_TEST(what_is_in_the_reserve_is_not_freed_again)
{
	struct kmm_cache *other = kmm_cache_create(k, "others", 64, 0, 0, NULL);
	void *p = kmm_cache_alloc(other, KMM_GFP_KERNEL);
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	ck_assert_uint_ge(n, RESERVE);
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), 0);
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), -ENOENT);
	/* nor is anything else that the short reserve is offered, but the pool's own */
	ck_assert_int_eq(kmm_mempool_free(pool, p), -EINVAL);
	ck_assert_int_eq(kmm_mempool_free(pool, (char *)got[1] + 8), -EINVAL);
	ck_assert_int_eq(kmm_send(k, got[1], rich.session), 0);
	ck_assert_int_ne(kmm_mempool_free(pool, got[1]), 0);
	free_to_pool(2, n);
}
END_TEST

/* To the reserve is freed for everybody else. */
START_TEST(handles_end_with_the_free)
{
	kmm_handle_t handle;
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	handle = kmm_handle(k, got[0]);
	ck_assert_uint_ne(handle, 0);
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), 0);
	ck_assert_ptr_null(kmm_pointer(k, handle));
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_int_eq(peer_do(&poor, PEER_THING_ADOPT, handle, 0, 0), -ESTALE);
	free_to_pool(1, n);
}
END_TEST

/* What another session holds is not the reserve's: it lives on, and the reserve fills up later. */
START_TEST(held_objects_live_on)
{
	uint64_t place;
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT);
	place = place_of(k, got[0]);
	ck_assert_int_eq(peer_do(&poor, PEER_THING_GET, place, 0, 0), 0);
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_CHECK, place, SIZE, 0), 1);
	free_to_pool(1, n);
	ck_assert_int_eq(peer_do(&poor, PEER_OBJECT_CHECK, place, SIZE, 0), 1);
	ck_assert_int_eq(peer_do(&poor, PEER_THING_PUT, place, 0, 0), 0);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
}
END_TEST

/* ---- contents ---- */

START_TEST(the_reserve_is_constructed)
{
	struct kmm_cache *made = kmm_cache_create(k, "made", SIZE, 0, 0, object_construct);
	size_t n;

	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	pool = kmm_mempool_create(made, RESERVE);
	ck_assert_ptr_nonnull(pool);
	ck_assert_uint_ge(objects_constructed, RESERVE);
	take_all();
	for (n = 0; (got[n] = kmm_mempool_alloc(pool, KMM_GFP_NOWAIT)) != NULL; n++)
		ck_assert(memcmp(got[n], &(uint64_t){ OBJECT_MAGIC }, 8) == 0);
	ck_assert_uint_ge(n, RESERVE);
	/* ZERO would undo that */
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), 0);
	ck_assert_ptr_null(kmm_mempool_alloc(pool, KMM_GFP_NOWAIT | KMM_GFP_ZERO));
	ck_assert_int_eq(errno, EINVAL);
	free_to_pool(1, n);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
}
END_TEST

START_TEST(the_reserve_is_zeroed_on_request)
{
	static const char zeroes[SIZE];
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_NOWAIT); /* filled with patterns */
	give_to_pool(n);
	for (size_t i = 0; i < RESERVE; i++) {
		got[i] = kmm_mempool_alloc(pool, KMM_GFP_NOWAIT | KMM_GFP_ZERO);
		ck_assert_ptr_nonnull(got[i]);
		ck_assert(memcmp(got[i], zeroes, SIZE) == 0);
	}
}
END_TEST

static void note_corrupt(struct kmm *session, enum kmm_event event, void *arg)
{
	(void)session;
	if (event == KMM_EVENT_CORRUPT)
		__atomic_fetch_add((int *)arg, 1, __ATOMIC_SEQ_CST);
}

/* With debugging flags what is in the reserve is checked as what is free. */
START_TEST(the_reserve_is_checked)
{
	struct kmm_cache *checked = kmm_cache_create(
		k, "checked", 2000, 0, KMM_SLAB_RED_ZONE | KMM_SLAB_POISON, NULL);
	int corrupt = 0;
	char *p;
	size_t n;

	ck_assert_ptr_nonnull(checked);
	ck_assert_int_eq(kmm_on_event(k, note_corrupt, &corrupt), 0);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	pool = kmm_mempool_create(checked, RESERVE);
	ck_assert_ptr_nonnull(pool);
	take_all();
	for (n = 0; (got[n] = kmm_mempool_alloc(pool, KMM_GFP_NOWAIT)) != NULL; n++)
		memset(got[n], 7, 2000);
	ck_assert_uint_ge(n, RESERVE);
	ck_assert_int_eq(__atomic_load_n(&corrupt, __ATOMIC_SEQ_CST), 0);
	/* an overrun shows at the free */
	((char *)got[0])[2000] = 1;
	ck_assert_int_eq(kmm_mempool_free(pool, got[0]), -EFAULT);
	wait_until(__atomic_load_n(&corrupt, __ATOMIC_SEQ_CST) == 1);
	/* a use after free at the next allocation, which gets it all the same */
	((char *)got[0])[100] = 1;
	p = kmm_mempool_alloc(pool, KMM_GFP_NOWAIT);
	ck_assert_ptr_eq(p, got[0]);
	wait_until(__atomic_load_n(&corrupt, __ATOMIC_SEQ_CST) == 2);
	free_to_pool(0, n);
	ck_assert_int_eq(kmm_mempool_destroy(pool), 0);
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
	ck_assert_int_eq(__atomic_load_n(&corrupt, __ATOMIC_SEQ_CST), 2);
}
END_TEST

/* ---- processes and the daemon ---- */

START_TEST(a_forked_child_has_no_pool)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		must(kmm_mempool_alloc(pool, KMM_GFP_NOWAIT) == NULL && errno == EOWNERDEAD);
		must(kmm_mempool_destroy(pool) == -EOWNERDEAD);
		must(kmm_mempool_create(c, 1) == NULL && errno == EOWNERDEAD);
		_exit(0);
	}
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_ptr_nonnull(kmm_mempool_alloc(pool, KMM_GFP_NOWAIT));
}
END_TEST

START_TEST(the_reserve_needs_no_daemon)
{
	struct daemon gone;
	size_t n = 0;

	daemon_start_supervised(&gone, NULL);
	k = session_start(&gone);
	c = kmm_cache_create(k, CACHE, SIZE, 0, 0, NULL);
	make_pool();
	ck_assert_int_eq(kmm_flush(k), 0);
	/* a supervisor that is stopped keeps the memory and starts nothing */
	daemon_hold(&gone);
	daemon_kill(&gone);
	while (kmm_mempool_alloc(pool, KMM_GFP_NOWAIT))
		n++;
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_uint_ge(n, RESERVE);
	ck_assert_int_eq(kmm_close(k), -EINPROGRESS);
	daemon_resume(&gone);
	daemon_wait_serving(&gone);
	ck_assert_int_eq(daemon_stop(&gone), 0);
}
END_TEST

/* ---- KMM_GFP_LOCAL ---- */

/* A mempool's reserve is the process's own, too; it does not wait for more. */
START_TEST(local_takes_the_reserve)
{
	size_t n;

	take_all();
	n = take_from_pool(KMM_GFP_KERNEL | KMM_GFP_LOCAL);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(n, RESERVE);
	give_to_pool(n);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mempools");
	TCase *t = fixture_case_long(s, "reserve", setup), *w = fixture_case_long(s, "waiting", setup);
	TCase *r = fixture_case_long(s, "refused", setup), *o = fixture_case_long(s, "contents", setup);
	TCase *p = fixture_case_long(s, "processes", setup), *l = fixture_case_long(s, "local", setup);
	TCase *q = fixture_case_long(s, "quota", setup_quota);

	tcase_add_test(t, objects_come_and_go);
	tcase_add_test(t, the_reserve_keeps_the_cache);
	tcase_add_loop_test(t, the_reserve_serves_when_memory_is_out, 0, 2);
	tcase_add_test(t, the_reserve_stays_in_the_process);
	tcase_add_loop_test(w, waits_for_a_free, 0, 2);
	tcase_add_test(w, waits_for_memory);
	tcase_add_test(w, both_may_come_at_once);
	tcase_add_test(w, who_waits_longest_is_first);
	tcase_add_test(w, waiting_ends);
	tcase_add_test(w, threads_get_on_with_the_reserve);
	tcase_add_test(r, arguments_are_checked);
	tcase_add_test(r, what_is_in_the_reserve_is_not_freed_again);
	tcase_add_test(r, handles_end_with_the_free);
	tcase_add_test(r, held_objects_live_on);
	tcase_add_test(o, the_reserve_is_constructed);
	tcase_add_test(o, the_reserve_is_zeroed_on_request);
	tcase_add_test(o, the_reserve_is_checked);
	tcase_add_test(p, a_forked_child_has_no_pool);
	tcase_add_test(l, local_takes_the_reserve);
	tcase_add_test(q, a_quota_is_waited_out);

	t = tcase_create("no daemon");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, the_reserve_needs_no_daemon);
	suite_add_tcase(s, t);
	return suite_run(s);
}
