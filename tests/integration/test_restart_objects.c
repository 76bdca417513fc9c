/* SPDX-License-Identifier: MIT */
/*
 * The daemon is killed under its supervisor while clients have caches and objects: caches, objects,
 * owners, constructed state, holds and names are as before, and threads go on allocating from their
 * magazines while nobody serves.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/fixture.h"

static struct kmm_cache *cache_new(const char *name, size_t size, kmm_slab_flags_t flags,
				   void (*ctor)(void *))
{
	struct kmm_cache *c = kmm_cache_create(k, name, size, 0, flags, ctor);

	ck_assert_msg(c != NULL, "%s: %s", name, kmm_error_text());
	return c;
}

START_TEST(objects_are_as_before)
{
	enum { N = 700, THEIRS = 400, KINDS = 4 };
	static const struct {
		const char *name;
		size_t size;
		kmm_slab_flags_t flags;
		void (*ctor)(void *);
	} kind[KINDS] = {
		{ "plain", 56, 0, NULL },
		{ "checked", 200, KMM_SLAB_CONSISTENCY_CHECKS, NULL },
		{ "built", 1000, 0, object_construct },
		{ "large", 20000, KMM_SLAB_RECLAIM_ACCOUNT, NULL },
	};
	static void *p[KINDS][N];
	static kmm_handle_t handle[KINDS][N];
	struct kmm_cache *c[KINDS];
	kmm_session_id_t id = kmm_session_id(k);
	struct cache_row before[KINDS], row;

	for (int i = 0; i < KINDS; i++) {
		unsigned n = i == 3 ? N / 10 : N;

		c[i] = cache_new(kind[i].name, kind[i].size, kind[i].flags, kind[i].ctor);
		ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, kind[i].name, kind[i].size, 0,
					      kind[i].flags |
						      (uint64_t)(kind[i].ctor != NULL) << 32),
				 i);
		ck_assert_uint_eq(kmm_cache_alloc_bulk(c[i], KMM_GFP_KERNEL, n, p[i]), n);
		for (unsigned j = 0; j < n; j++) {
			object_fill((char *)p[i][j] + 8, kind[i].size - 8, j);
			handle[i][j] = kmm_handle(k, p[i][j]);
		}
	}
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, THEIRS), THEIRS);
	fixture_flush();
	for (int i = 0; i < KINDS; i++)
		ck_assert(daemon_cache_row(&d, kind[i].name, &before[i]));
	ck_assert_uint_eq(before[0].active, N + THEIRS);
	ck_assert_uint_eq(before[3].active, N / 10);
	for (int round = 0; round < 3; round++) {
		fixture_restart();
		ck_assert_uint_eq(kmm_session_id(k), id);
		for (int i = 0; i < KINDS; i++) {
			unsigned n = i == 3 ? N / 10 : N;

			ck_assert(daemon_cache_row(&d, kind[i].name, &row));
			ck_assert_uint_eq(row.active, before[i].active);
			ck_assert_uint_eq(row.size, before[i].size);
			ck_assert_uint_eq(row.per_slab, before[i].per_slab);
			ck_assert_uint_eq(daemon_leak(&d, id, kind[i].name), n);
			for (unsigned j = 0; j < n; j++) {
				ck_assert(object_check((char *)p[i][j] + 8, kind[i].size - 8, j));
				ck_assert_uint_eq(kmm_handle(k, p[i][j]), handle[i][j]);
				if (j % 50 == 0)
					ck_assert_int_eq(peer_do(&b, PEER_THING_POINTER,
								 handle[i][j], 0, 0),
							 (int64_t)place_of(k, p[i][j]));
			}
			/* new objects are none of the old */
			for (unsigned j = 0; j < 300; j++) {
				char *q = kmm_cache_alloc(c[i], KMM_GFP_KERNEL);

				ck_assert_ptr_nonnull(q);
				memset(q + 8, 0xee, kind[i].size - 8);
				ck_assert_int_eq(kmm_cache_free(c[i], q), 0);
			}
		}
		fixture_flush();
	}
	ck_assert_uint_eq(daemon_leak(&d, a.session, "plain"), THEIRS);
	/* the caches are the same ones for who creates, joins or opens */
	ck_assert_ptr_eq(kmm_cache_open(k, "plain"), c[0]);
	ck_assert_ptr_null(kmm_cache_create(k, "plain", 64, 0, 0, NULL));
	ck_assert_int_eq(errno, EEXIST);
	ck_assert_int_eq(peer_do_text(&b, PEER_CACHE_OPEN, "built", 0, 0, 0), 0);
	for (int i = 0; i < KINDS; i++)
		for (unsigned j = 0; j < (i == 3 ? N / 10 : N); j++)
			if (j % 2)
				ck_assert_int_eq(kmm_cache_free(c[i], p[i][j]), 0);
			else {
				ck_assert_int_eq(peer_do(&b, PEER_THING_ADOPT, handle[i][j], 0, 0),
						 (int64_t)place_of(k, p[i][j]));
				ck_assert_int_eq(peer_do(&b, PEER_OBJECT_FREE, PEER_NO_CACHE,
							 place_of(k, p[i][j]), 0),
						 0);
			}
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE_BULK, 0, THEIRS, 0), 0);
	fixture_flush();
	ck_assert_uint_eq(daemon_objects_active(&d), 0);
	ck_assert_int_eq(kmm_cache_destroy(c[3]), 0);
}
END_TEST

/* What was constructed once is not constructed again because the daemon is another. */
START_TEST(the_constructed_state_is_as_before)
{
	enum { N = 100 }; /* few: so that no empty slab is given back meanwhile */
	struct kmm_cache *c = cache_new("built", 72, 0, object_construct), *o;
	static void *p[N];
	uint64_t constructed;

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_OPEN, "built", 0, 0, 0), 0);
	for (int round = 0; round < 3; round++) {
		ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, p), N);
		for (unsigned i = 0; i < N; i++) {
			ck_assert_int_eq(memcmp(p[i], &(uint64_t){ OBJECT_MAGIC }, 8), 0);
			object_fill((char *)p[i] + 8, 64, i);
		}
		constructed = objects_constructed;
		ck_assert_uint_ge(constructed, N);
		if (round == 1) /* HELD at the restart, then freed */
			fixture_restart();
		for (unsigned i = 0; i < N; i++)
			ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
		fixture_flush();
		if (round != 1)
			fixture_restart();
		/* a has no constructor, so each of these is constructed */
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, N), N);
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE, 0, N, 0), 0);
		fixture_flush();
		if (round > 0)
			ck_assert_uint_eq(objects_constructed, constructed);
	}
	o = kmm_cache_open(k, "built");
	ck_assert_ptr_eq(o, c);
}
END_TEST

START_TEST(names_and_holds_are_as_before)
{
	struct kmm_cache *c = cache_new("named", 100, 0, NULL);
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL), *q = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	void *block = kmm_get_free_pages(k, KMM_GFP_KERNEL, 1);
	kmm_handle_t name, held;
	int64_t theirs;

	object_fill(p, 100, 1);
	object_fill(q, 100, 2);
	block_fill(block, 1, 3);
	ck_assert_int_eq(kmm_publish(k, "first", p), 0);
	ck_assert_int_eq(kmm_publish(k, "a block", block), 0);
	held = kmm_handle(k, q);
	ck_assert_int_ge(peer_do(&a, PEER_THING_GET_HANDLE, held, 0, 0), 0);
	ck_assert_int_eq(kmm_cache_free(c, q), 0); /* a's alone */
	name = kmm_lookup(k, "first");
	/* one that only a name holds */
	ck_assert_int_eq(peer_do_text(&b, PEER_CACHE_OPEN, "named", 0, 0, 0), 0);
	theirs = peer_do(&b, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	ck_assert_int_eq(peer_do(&b, PEER_OBJECT_FILL, (uint64_t)theirs, 100, 4), 0);
	ck_assert_int_eq(peer_do_text(&b, PEER_PUBLISH, "left", (uint64_t)theirs, 0, 0), 0);
	peer_kill(&b);
	wait_until(!daemon_has_session(&d, b.session));
	ck_assert_int_eq(kmm_flush(k), 0);
	for (int round = 0; round < 2; round++) {
		fixture_restart();
		ck_assert_uint_eq(daemon_cache_active(&d, "named"), 3);
		ck_assert_uint_eq(kmm_lookup(k, "first"), name);
		ck_assert_ptr_eq(kmm_pointer(k, name), p);
		ck_assert_int_eq(peer_do_text(&a, PEER_LOOKUP, "first", 0, 0, 0), (int64_t)name);
		ck_assert_int_eq(peer_do(&a, PEER_THING_ADOPT, name, 0, 0), -EBUSY);
		ck_assert(object_check(p, 100, 1));
		ck_assert_ptr_eq(kmm_pointer(k, held), q);
		ck_assert(object_check(q, 100, 2));
		ck_assert_int_eq(kmm_page_count(k, kmm_virt_to_page(k, block)), 2);
		ck_assert(object_check(kmm_pointer(k, kmm_lookup(k, "left")), 100, 4));
	}
	ck_assert_int_eq(kmm_unpublish(k, "left"), 0);
	ck_assert_int_eq(kmm_unpublish(k, "a block"), 0);
	ck_assert_int_eq(peer_do(&a, PEER_THING_PUT, place_of(k, q), 0, 0), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "named"), 1);
	ck_assert_int_eq(kmm_unpublish(k, "first"), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_free_page_addr(k, block, 1), 0);
}
END_TEST

/* A thread's magazines need no daemon, neither to allocate nor to free. */
START_TEST(magazines_work_while_the_daemon_is_away)
{
	struct kmm_cache *c = cache_new("away", 64, 0, NULL),
			 *checked = cache_new("away-checked", 64, KMM_SLAB_CONSISTENCY_CHECKS, NULL);
	void *p, *q;

	ck_assert_ptr_nonnull(p = kmm_cache_alloc(c, KMM_GFP_KERNEL));
	ck_assert_ptr_nonnull(q = kmm_cache_alloc(checked, KMM_GFP_KERNEL));
	object_fill(q, 64, 5);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	daemon_hold(&d);
	daemon_kill(&d);
	for (unsigned i = 0; i < 100000; i++) {
		p = kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_LOCAL);
		ck_assert_ptr_nonnull(p);
		object_fill(p, 64, i);
		ck_assert(object_check(p, 64, i));
		ck_assert_int_eq(kmm_cache_free(c, p), 0);
	}
	ck_assert_int_eq(kmm_cache_free(checked, q), 0);
	ck_assert_int_eq(kmm_cache_free(checked, q), -ENOENT);
	ck_assert_ptr_nonnull(q = kmm_cache_alloc(checked, KMM_GFP_KERNEL | KMM_GFP_LOCAL));
	daemon_resume(&d);
	daemon_wait_serving(&d);
	ck_assert_int_eq(kmm_cache_free(checked, q), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_objects_active(&d), 0);
}
END_TEST

/* What needs the daemon waits for the next one. */
START_TEST(misses_wait_for_the_next_daemon)
{

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "waits", 500, 0, 0), 0);
	ck_assert_int_ge(peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), 0);
	daemon_hold(&d);
	daemon_kill(&d);
	peer_begin(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, 3000); /* more than magazines hold */
	peer_begin(&b, PEER_OBJECT_ALLOC, 700, KMM_GFP_KERNEL, PEER_NO_CACHE);
	daemon_resume(&d);
	ck_assert_int_eq(peer_end(&a), 3000);
	ck_assert_int_ge(peer_end(&b), 0);
	daemon_wait_serving(&d);
	ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "waits"), 3001);
	ck_assert(daemon_is_clean(&d));
}
END_TEST

START_TEST(parked_calls_are_parked_again)
{
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "parked", 4096, 0, 0), 0);
	ck_assert_int_eq(peer_do_text(&b, PEER_CACHE_OPEN, "parked", 0, 0, 0), 0);
	ck_assert_int_gt(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_NOWAIT, UINT64_MAX), 0);
	free(daemon_zone_frames(&d)); /* drops what is in lists */
	(void)peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_NOWAIT, UINT64_MAX);
	free(daemon_zone_frames(&d));
	(void)peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_NOWAIT, UINT64_MAX);
	peer_begin(&b, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	wait_until(daemon_session_number(&d, b.session, "parked") == 1);
	fixture_restart();
	/* what lay in lists may have served it */
	wait_until(daemon_session_number(&d, b.session, "parked") == 1 || peer_has_answered(&b));
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE, 0, 2, 0), 0);
	ck_assert_int_ge(peer_end(&b), 0);
}
END_TEST

/* Who waited is back before the others are: they hear of it when they come. */
START_TEST(who_comes_back_late_gives_what_it_caches)
{
	int64_t n = 0, before;

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "late", 4096, 0, 0), 0);
	ck_assert_int_eq(peer_do_text(&b, PEER_CACHE_OPEN, "late", 0, 0, 0), 0);
	do {
		before = n;
		n = peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_NOWAIT, UINT64_MAX);
		free(daemon_zone_frames(&d)); /* drops what is in lists */
	} while (n > before);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE, 0, 8, 0), 0);
	daemon_hold(&d);
	daemon_kill(&d);
	kill(a.pid, SIGSTOP);
	peer_begin(&b, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	daemon_resume(&d);
	daemon_wait_serving(&d);
	wait_until(daemon_session_number(&d, b.session, "parked") == 1 || peer_has_answered(&b));
	ck_assert(!peer_has_answered(&b));
	kill(a.pid, SIGCONT);
	ck_assert_int_ge(peer_end(&b), 0);
}
END_TEST

/* Clients that die while nobody watches are found out afterwards, with all they had. */
START_TEST(the_dead_are_swept_after_a_restart)
{
	struct kmm_cache *c = cache_new("swept", 88, 0, object_construct);
	kmm_session_id_t id = a.session;
	int64_t place;
	void *p;

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "swept", 88, 0, UINT64_C(1) << 32), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, 900), 900);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE, 0, 300, 0), 0);
	for (uint64_t i = 0; i < 600; i++) {
		place = peer_do(&a, PEER_HOARDED, i, 0, 0);
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, (uint64_t)place, 88, i), 0);
	}
	place = peer_do(&a, PEER_HOARDED, 77, 0, 0);
	p = kmm_adopt(k, (kmm_handle_t)peer_do(&a, PEER_THING_HANDLE, (uint64_t)place, 0, 0));
	ck_assert_ptr_nonnull(p);
	daemon_hold(&d);
	daemon_kill(&d);
	peer_kill(&a);
	daemon_resume(&d);
	daemon_wait_serving(&d);
	wait_until(!daemon_has_session(&d, id));
	ck_assert_uint_eq(daemon_cache_active(&d, "swept"), 1);
	ck_assert(object_check(p, 88, 77));
	ck_assert(daemon_is_clean(&d));
	/* a's were not left as a left them */
	for (int i = 0; i < 900; i++) {
		void *q = kmm_cache_alloc(c, KMM_GFP_KERNEL);

		ck_assert_ptr_nonnull(q);
		ck_assert_int_eq(memcmp(q, &(uint64_t){ OBJECT_MAGIC }, 8), 0);
	}
}
END_TEST

/* ---- under load ---- */

struct worker {
	pthread_t thread;
	struct kmm_cache *c;
	_Atomic bool *stop;
	_Atomic unsigned steps;
	unsigned id;
};

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	void *own[600] = { NULL };
	unsigned seed = w->id;

	while (!*w->stop) {
		unsigned at = (unsigned)rand_r(&seed) % 600;

		if (!own[at]) {
			must((own[at] = kmm_cache_alloc(w->c, KMM_GFP_KERNEL)) != NULL);
			object_fill(own[at], 64, w->id * 1000 + at);
		} else {
			must(object_check(own[at], 64, w->id * 1000 + at));
			must(kmm_cache_free(w->c, own[at]) == 0);
			own[at] = NULL;
		}
		if (rand_r(&seed) % 500 == 0)
			must(kmm_flush(k) == 0);
		w->steps++;
	}
	for (unsigned at = 0; at < 600; at++)
		if (own[at])
			must(kmm_cache_free(w->c, own[at]) == 0);
	return NULL;
}

START_TEST(threads_go_on_over_kills)
{
	enum { THREADS = 3, KILLS = 12 };
	struct kmm_cache *c = cache_new("load", 64, 0, NULL);
	_Atomic bool stop = false;
	struct worker w[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .c = c, .stop = &stop, .id = i + 1 };
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, worker_run, &w[i]), 0);
	}
	for (int n = 0; n < KILLS; n++) {
		unsigned from[THREADS];

		fixture_restart();
		for (int i = 0; i < THREADS; i++)
			from[i] = w[i].steps;
		for (int i = 0; i < THREADS; i++)
			wait_until(w[i].steps - from[i] > 2000);
	}
	stop = true;
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "load"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("restart with objects");
	TCase *t = tcase_create("restart with objects");

	tcase_add_checked_fixture(t, fixture_setup_supervised, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, objects_are_as_before);
	tcase_add_test(t, the_constructed_state_is_as_before);
	tcase_add_test(t, names_and_holds_are_as_before);
	tcase_add_test(t, magazines_work_while_the_daemon_is_away);
	tcase_add_test(t, misses_wait_for_the_next_daemon);
	tcase_add_test(t, parked_calls_are_parked_again);
	tcase_add_test(t, who_comes_back_late_gives_what_it_caches);
	tcase_add_test(t, the_dead_are_swept_after_a_restart);
	tcase_add_test(t, threads_go_on_over_kills);
	suite_add_tcase(s, t);
	return suite_run(s);
}
