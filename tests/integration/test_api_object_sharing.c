/* SPDX-License-Identifier: MIT */
/*
 * Objects between processes through a real daemon: handles, adoption, sending, further holders,
 * names, frees in another process, and what each death leaves.
 *
 *      test process (k)           peer a              peer b
 *           owner ── handle ──> looks, adopts ──> holds, finds by name …
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/fixture.h"

#define SIZE 240

static struct kmm_cache *c;

static void setup_with(const char *config)
{
	daemon_start_configured(&d, config, NULL);
	fixture_note_memory();
	k = session_start(&d);
	c = kmm_cache_create(k, "sharing", SIZE, 0, 0, NULL);
	ck_assert_ptr_nonnull(c);
	peer_start(&a, &d);
	peer_start(&b, &d);
	/* b has not opened the cache: adopting and freeing need no cache */
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_OPEN, "sharing", 0, 0, 0), 0);
}

static void setup(void)
{
	setup_with("");
}

static void setup_few_names(void)
{
	setup_with("[limits]\nnames_per_user = 3\n");
}

/* Each test ends with nothing that lives. */
static void teardown(void)
{
	if (a.pid)
		peer_stop(&a);
	if (b.pid)
		peer_stop(&b);
	ck_assert_int_eq(kmm_flush(k), 0);
	wait_until(daemon_count_sessions(&d) == 1);
	ck_assert_uint_eq(daemon_objects_active(&d), 0);
	fixture_teardown();
}

static void *object_new(uint64_t seed)
{
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	ck_assert_msg(p != NULL, "errno %d, %s", errno, kmm_error_text());
	object_fill(p, SIZE, seed);
	return p;
}

/* errno of a handle or pointer function that gave nothing */
#define gives(error, call)                      \
	do {                                    \
		errno = 0;                      \
		ck_assert(!(call));             \
		ck_assert_int_eq(errno, error); \
	} while (0)

/* ---- handles ---- */

START_TEST(a_handle_names_the_object_everywhere)
{
	void *p[300];

	for (unsigned i = 0; i < 300; i++) {
		kmm_handle_t handle;
		uint64_t place;

		p[i] = object_new(i);
		place = place_of(k, p[i]);
		handle = kmm_handle(k, p[i]);
		ck_assert_uint_ne(handle, 0);
		ck_assert_uint_eq(kmm_handle(k, p[i]), handle);
		ck_assert_ptr_eq(kmm_pointer(k, handle), p[i]);
		ck_assert_int_eq(peer_do(&b, PEER_THING_POINTER, handle, 0, 0), (int64_t)place);
		ck_assert_int_eq(peer_do(&b, PEER_OBJECT_CHECK, place, SIZE, i), 1);
	}
	for (unsigned i = 0; i < 300; i++) {
		kmm_handle_t handle = kmm_handle(k, p[i]);
		uint64_t place = place_of(k, p[i]);

		/* looking does not make an owner */
		ck_assert_int_eq(peer_do(&b, PEER_THING_HANDLE, place, 0, 0), -EPERM);
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, place, 0), -EPERM);
		/* one memory, not a copy */
		ck_assert_int_eq(peer_do(&b, PEER_OBJECT_FILL, place, SIZE, 5), 0);
		ck_assert(object_check(p[i], SIZE, 5));
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
		ck_assert_int_eq(peer_do(&b, PEER_THING_POINTER, handle, 0, 0), -ESTALE);
		ck_assert_int_eq(peer_do(&b, PEER_THING_ADOPT, handle, 0, 0), -ESTALE);
		ck_assert_int_eq(peer_do(&b, PEER_THING_GET_HANDLE, handle, 0, 0), -ESTALE);
		gives(ESTALE, kmm_pointer(k, handle));
	}
}
END_TEST

/* The next object at the place does not answer to the old handle. */
START_TEST(handles_outlive_nothing)
{
	void *p = object_new(1), *q[2000];
	kmm_handle_t handle = kmm_handle(k, p);
	size_t n = 0;

	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	do
		ck_assert_ptr_nonnull(q[n] = object_new(2));
	while (q[n++] != p && n < 2000);
	ck_assert_ptr_eq(q[n - 1], p);
	gives(ESTALE, kmm_pointer(k, handle));
	gives(ESTALE, kmm_adopt(k, handle));
	ck_assert_uint_ne(kmm_handle(k, p), handle);
	ck_assert_ptr_eq(kmm_pointer(k, kmm_handle(k, p)), p);
	ck_assert_int_eq(kmm_cache_free_bulk(c, n, q), 0);
}
END_TEST

/* Nor does anything else that the memory becomes: a block, an object of another size. */
START_TEST(handles_outlive_no_slab)
{
	enum { N = 800 };
	static kmm_handle_t handle[N];
	static void *p[N];
	struct kmm_cache *other;

	for (int i = 0; i < N; i++)
		handle[i] = kmm_handle(k, p[i] = object_new(1));
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	for (int i = 0; i < N; i++)
		ck_assert_ptr_null(kmm_pointer(k, handle[i]));
	/* blocks over all places there are */
	ck_assert_int_gt(peer_do(&a, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0), 0);
	for (int i = 0; i < N; i++) {
		ck_assert_ptr_null(kmm_pointer(k, handle[i]));
		ck_assert_ptr_null(kmm_adopt(k, handle[i]));
		ck_assert_ptr_null(kmm_get_handle(k, handle[i]));
	}
	ck_assert_int_eq(peer_do(&a, PEER_RELEASE, UINT64_MAX, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
	free(daemon_zone_frames(&d)); /* drops the daemon's caches */
	other = kmm_cache_create(k, "other", 8, 0, 0, NULL);
	for (int i = 0; i < 20000; i++) {
		void *q = kmm_cache_alloc(other, KMM_GFP_KERNEL);

		ck_assert_ptr_nonnull(q);
		ck_assert_uint_ne(kmm_handle(k, q), 0);
	}
	for (int i = 0; i < N; i++) {
		ck_assert_ptr_null(kmm_pointer(k, handle[i]));
		ck_assert_ptr_null(kmm_adopt(k, handle[i]));
		ck_assert_int_lt(peer_do(&b, PEER_THING_GET_HANDLE, handle[i], 0, 0), 0);
	}
	ck_assert_int_eq(kmm_close(k), 0);
	k = session_start(&d);
}
END_TEST

START_TEST(handles_that_never_were)
{
	char *p = object_new(1);
	kmm_handle_t handle = kmm_handle(k, p);
	int on_the_stack;

	for (unsigned i = 1; i < SIZE / 8; i++) /* granules inside the object */
		ck_assert_ptr_null(kmm_pointer(k, handle + i));
	gives(ESTALE, kmm_pointer(k, handle + (UINT64_C(1) << 32)));
	gives(EINVAL, kmm_handle(k, p + 8));
	gives(EINVAL, kmm_handle(k, p + 1));
	gives(EINVAL, kmm_handle(k, &on_the_stack));
	ck_assert_int_eq(kmm_get(k, p + 8), -EINVAL);
	ck_assert_int_eq(kmm_put(k, p + 8), -EINVAL);
	ck_assert_int_eq(kmm_send(k, p + 8, a.session), -EINVAL);
	ck_assert_int_eq(kmm_publish(k, "inside", p + 8), -EINVAL);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert_uint_eq(kmm_handle(k, p), 0);
}
END_TEST

/* ---- adoption ---- */

START_TEST(allocated_here_freed_there)
{
	enum { N = 1000 };
	static kmm_handle_t handle[N];
	static void *p[N];

	for (unsigned i = 0; i < N; i++) {
		p[i] = object_new(i);
		handle[i] = kmm_handle(k, p[i]);
	}
	for (unsigned i = 0; i < N; i++) {
		struct peer *to = i % 2 ? &a : &b;

		ck_assert_int_eq(peer_do(to, PEER_THING_ADOPT, handle[i], 0, 0),
				 (int64_t)place_of(k, p[i]));
		ck_assert_int_eq(peer_do(to, PEER_OBJECT_CHECK, place_of(k, p[i]), SIZE, i), 1);
		/* the old owner and the old handle are out */
		ck_assert_int_eq(kmm_cache_free(c, p[i]), -ESTALE);
		ck_assert_int_eq(kmm_kfree(k, p[i]), -ESTALE);
		gives(ESTALE, kmm_pointer(k, handle[i]));
		gives(ESTALE, kmm_adopt(k, handle[i]));
		gives(EPERM, kmm_handle(k, p[i]));
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_leak(&d, a.session, "sharing"), N / 2);
	ck_assert_uint_eq(daemon_leak(&d, b.session, "sharing"), N / 2);
	ck_assert_uint_eq(daemon_leak(&d, kmm_session_id(k), "sharing"), 0);
	for (unsigned i = 0; i < N; i++)
		ck_assert_int_eq(peer_do(i % 2 ? &a : &b, PEER_OBJECT_FREE,
					 i % 2 ? 0 : PEER_NO_CACHE, place_of(k, p[i]), 0),
				 0);
	ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 0);
}
END_TEST

START_TEST(adopting_ones_own_takes_it_back)
{
	void *p = object_new(5);
	kmm_handle_t handle = kmm_handle(k, p);

	ck_assert_ptr_eq(kmm_adopt(k, handle), p);
	ck_assert(object_check(p, SIZE, 5));
	ck_assert_int_eq(peer_do(&a, PEER_THING_ADOPT, handle, 0, 0), -ESTALE);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
}
END_TEST

START_TEST(adopted_by_one_of_many)
{
	enum { PEERS = 4, ROUNDS = 300 };
	struct peer many[PEERS];

	for (int i = 0; i < PEERS; i++)
		peer_start(&many[i], &d);
	for (int round = 0; round < ROUNDS; round++) {
		void *p = object_new(3);
		kmm_handle_t handle = kmm_handle(k, p);
		uint64_t place = place_of(k, p);
		int winners = 0;

		for (int i = 0; i < PEERS; i++)
			peer_begin(&many[i], PEER_THING_ADOPT, handle, 0, 0);
		for (int i = 0; i < PEERS; i++) {
			int64_t r = peer_end(&many[i]);

			ck_assert(r == (int64_t)place || r == -ESTALE);
			if (r < 0)
				continue;
			winners++;
			ck_assert_int_eq(
				peer_do(&many[i], PEER_OBJECT_FREE, PEER_NO_CACHE, place, 0), 0);
		}
		ck_assert_int_eq(winners, 1);
	}
	for (int i = 0; i < PEERS; i++)
		peer_stop(&many[i]);
}
END_TEST

/* Owners that free against a thief that adopts: each object ends once. */
struct race {
	_Atomic uint64_t handle; /* 0: not there yet */
	_Atomic unsigned round, done;
	unsigned stolen;
};

static void *thief(void *arg)
{
	struct race *r = arg;
	struct kmm *own = session_start(&d);

	for (unsigned round = 1; round <= 3000; round++) {
		void *p;

		while (r->round != round)
			continue;
		p = kmm_adopt(own, r->handle);
		if (p) {
			must(kmm_kfree(own, p) == 0);
			r->stolen++;
		} else {
			must(errno == ESTALE || errno == ENOENT);
		}
		r->done = round;
	}
	must(kmm_close(own) == 0);
	return NULL;
}

START_TEST(a_free_against_an_adoption)
{
	struct race r = { 0 };
	unsigned freed = 0;
	pthread_t t;

	ck_assert_int_eq(pthread_create(&t, NULL, thief, &r), 0);
	for (unsigned round = 1; round <= 3000; round++) {
		void *p = object_new(round);
		int e;

		r.handle = kmm_handle(k, p);
		ck_assert(r.handle);
		r.round = round;
		e = kmm_cache_free(c, p);
		ck_assert(e == 0 || e == -ESTALE || e == -EPERM || e == -ENOENT);
		freed += e == 0;
		while (r.done != round)
			continue;
	}
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	ck_assert_uint_eq(freed + r.stolen, 3000);
}
END_TEST

START_TEST(bulk_adoption_tries_all)
{
	enum { N = 200 };
	kmm_handle_t handle[N];
	void *p[N];
	uint64_t place;

	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, N), N);
	for (uint64_t i = 0; i < N; i++) {
		place = (uint64_t)peer_do(&a, PEER_HOARDED, i, 0, 0);
		handle[i] = (kmm_handle_t)peer_do(&a, PEER_THING_HANDLE, place, 0, 0);
		p[i] = &d;
	}
	ck_assert_int_ge(peer_do(&b, PEER_THING_ADOPT, handle[7], 0, 0), 0);
	errno = 0;
	ck_assert_uint_eq(kmm_adopt_bulk(k, N, handle, p), N - 1);
	ck_assert_int_eq(errno, ESTALE);
	for (int i = 0; i < N; i++) {
		if (i == 7) {
			ck_assert_ptr_null(p[i]);
			continue;
		}
		ck_assert_ptr_nonnull(p[i]);
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	}
	errno = 0;
	ck_assert_uint_eq(kmm_adopt_bulk(k, N, handle, p), 0);
	ck_assert_int_eq(errno, ESTALE);
}
END_TEST

/* ---- sending ---- */

START_TEST(sent_objects_survive_their_sender)
{
	int64_t place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), handle;
	kmm_session_id_t sender = a.session;
	void *p, *q = object_new(1);

	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, (uint64_t)place, SIZE, 77), 0);
	handle = peer_do(&a, PEER_THING_HANDLE, (uint64_t)place, 0, 0);
	ck_assert_int_eq(peer_do(&a, PEER_THING_SEND, (uint64_t)place, kmm_session_id(k), 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, (uint64_t)place, 0), -EPERM);
	ck_assert_int_eq(peer_do(&a, PEER_THING_HANDLE, (uint64_t)place, 0, 0), -EPERM);
	ck_assert_int_eq(peer_do(&a, PEER_THING_SEND, (uint64_t)place, b.session, 0), -EPERM);
	peer_kill(&a);
	wait_until(!daemon_has_session(&d, sender));
	p = kmm_pointer(k, (kmm_handle_t)handle);
	ck_assert_ptr_nonnull(p);
	ck_assert(object_check(p, SIZE, 77));
	ck_assert_ptr_eq(kmm_adopt(k, (kmm_handle_t)handle), p);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	/* to nobody */
	ck_assert_int_eq(kmm_send(k, q, 0), -ESRCH);
	ck_assert_int_eq(kmm_send(k, q, 0xffffe), -ESRCH);
	ck_assert_int_eq(kmm_send(k, q, sender), -ESRCH);
	ck_assert_int_eq(kmm_cache_free(c, q), 0);
}
END_TEST

/* ---- further holders ---- */

START_TEST(a_held_object_outlives_its_owner_s_free)
{
	void *p = object_new(21);
	kmm_handle_t handle = kmm_handle(k, p);
	uint64_t place = place_of(k, p);

	ck_assert_int_eq(peer_do(&a, PEER_THING_GET_HANDLE, handle, 0, 0), (int64_t)place);
	ck_assert_int_eq(peer_do(&b, PEER_THING_GET, place, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_THING_GET, place, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_THING_ADOPT, handle, 0, 0), -EBUSY);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), -EPERM);
	ck_assert_int_eq(kmm_put(k, p), -EPERM);
	/* it is not in k's caches now: k's next objects are others */
	for (int i = 0; i < 100; i++) {
		void *q = object_new(1);

		ck_assert_ptr_ne(q, p);
		ck_assert_int_eq(kmm_cache_free(c, q), 0);
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 1);
	/* the handle stays with it */
	ck_assert_int_eq(peer_do(&b, PEER_THING_POINTER, handle, 0, 0), (int64_t)place);
	ck_assert_int_eq(peer_do(&a, PEER_THING_PUT, place, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_THING_PUT, place, 0, 0), -EPERM);
	ck_assert_int_eq(peer_do(&b, PEER_THING_PUT, place, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_OBJECT_CHECK, place, SIZE, 21), 1);
	/* the last hold frees */
	ck_assert_int_eq(peer_do(&b, PEER_THING_PUT, place, 0, 0), 0);
	ck_assert_int_lt(peer_do(&b, PEER_THING_PUT, place, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_THING_POINTER, handle, 0, 0), -ESTALE);
	ck_assert_int_eq(peer_do(&b, PEER_THING_GET, place, 0, 0), -ENOENT);
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 0);
}
END_TEST

START_TEST(adoption_works_again_after_the_last_put)
{
	void *p = object_new(2);
	kmm_handle_t handle = kmm_handle(k, p);
	uint64_t place = place_of(k, p);

	ck_assert_int_eq(kmm_get(k, p), 0); /* the owner may hold it, too */
	ck_assert_int_eq(peer_do(&a, PEER_THING_GET_HANDLE, handle, 0, 0), (int64_t)place);
	ck_assert_int_eq(peer_do(&b, PEER_THING_ADOPT, handle, 0, 0), -EBUSY);
	ck_assert_int_eq(peer_do(&a, PEER_THING_PUT, place, 0, 0), 0);
	ck_assert_int_eq(kmm_put(k, p), 0);
	ck_assert_int_eq(peer_do(&b, PEER_THING_ADOPT, handle, 0, 0), (int64_t)place);
	ck_assert_int_eq(peer_do(&b, PEER_OBJECT_FREE, PEER_NO_CACHE, place, 0), 0);
}
END_TEST

START_TEST(holders_that_die_let_go)
{
	void *p = object_new(3);
	int64_t theirs = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), handle;
	kmm_session_id_t id = a.session;

	ck_assert_int_eq(peer_do(&a, PEER_THING_GET, place_of(k, p), 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, (uint64_t)theirs, SIZE, 99), 0);
	handle = peer_do(&a, PEER_THING_HANDLE, (uint64_t)theirs, 0, 0);
	ck_assert_int_eq(peer_do(&b, PEER_THING_GET_HANDLE, (uint64_t)handle, 0, 0), theirs);
	peer_kill(&a);
	wait_until(!daemon_has_session(&d, id));
	/* k's is k's alone again, a's lives on for its holder */
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 1);
	ck_assert_int_eq(peer_do(&b, PEER_OBJECT_CHECK, (uint64_t)theirs, SIZE, 99), 1);
	ck_assert_int_eq(peer_do(&b, PEER_THING_PUT, (uint64_t)theirs, 0, 0), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 0);
}
END_TEST

/* ---- names ---- */

START_TEST(names_outlive_their_publisher)
{
	int64_t place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	kmm_session_id_t publisher = a.session;
	kmm_handle_t handle;
	void *p;

	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, (uint64_t)place, SIZE, 13), 0);
	gives(ENOENT, kmm_lookup(k, "thirteen"));
	ck_assert_int_eq(peer_do_text(&a, PEER_PUBLISH, "thirteen", (uint64_t)place, 0, 0), 0);
	handle = kmm_lookup(k, "thirteen");
	ck_assert_uint_ne(handle, 0);
	ck_assert_int_eq(peer_do_text(&b, PEER_LOOKUP, "thirteen", 0, 0, 0), (int64_t)handle);
	p = kmm_pointer(k, handle);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(place_of(k, p), (uint64_t)place);
	/* held, so not for the taking */
	gives(EBUSY, kmm_adopt(k, handle));
	if (_i == 0)
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, (uint64_t)place, 0), 0);
	peer_kill(&a);
	wait_until(!daemon_has_session(&d, publisher));
	ck_assert_uint_eq(kmm_lookup(k, "thirteen"), handle);
	ck_assert(object_check(p, SIZE, 13));
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 1);
	/* a hold of one's own outlives the name */
	ck_assert_ptr_eq(kmm_get_handle(k, handle), p);
	ck_assert_int_eq(peer_do_text(&b, PEER_UNPUBLISH, "thirteen", 0, 0, 0), 0);
	gives(ENOENT, kmm_lookup(k, "thirteen"));
	ck_assert_int_eq(kmm_unpublish(k, "thirteen"), -ENOENT);
	ck_assert(object_check(p, SIZE, 13));
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 1);
	ck_assert_int_eq(kmm_put(k, p), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "sharing"), 0);
	gives(ESTALE, kmm_pointer(k, handle));
}
END_TEST

START_TEST(names_of_what_stays_its_owner_s)
{
	void *p = object_new(4), *q = object_new(5);
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 2);
	void *block = kmm_page_address(k, page);

	ck_assert_int_eq(kmm_publish(k, "p", p), 0);
	ck_assert_int_eq(kmm_publish(k, "p again", p), 0); /* a thing may have many */
	ck_assert_int_eq(kmm_publish(k, "p", p), 0);       /* the same once more is no other */
	ck_assert_int_eq(kmm_publish(k, "p", q), -EEXIST);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "an object of cache "));
	ck_assert_int_eq(kmm_publish(k, "block", block), 0); /* blocks have names like objects */
	ck_assert_int_eq(kmm_page_count(k, page), 2);
	ck_assert_int_ge(peer_do_text(&a, PEER_LOOKUP, "block", 0, 0, 0), 1);
	ck_assert_int_eq(kmm_unpublish(k, "p"), 0);
	ck_assert_int_eq(kmm_publish(k, "p", q), 0);
	ck_assert_int_eq(kmm_unpublish(k, "p again"), 0);
	ck_assert_int_eq(kmm_unpublish(k, "p"), 0);
	ck_assert_int_eq(kmm_unpublish(k, "block"), 0);
	ck_assert_int_eq(kmm_page_count(k, page), 1);
	/* still k's */
	ck_assert(object_check(p, SIZE, 4));
	ck_assert(object_check(q, SIZE, 5));
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(c, q), 0);
	ck_assert_int_eq(kmm_free_pages(k, page, 2), 0);
}
END_TEST

START_TEST(names_that_are_refused)
{
	int64_t place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), handle;
	char long_name[KMM_NAME_MAX + 2];
	void *p = object_new(1);

	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = 0;
	ck_assert_int_eq(kmm_publish(k, "", p), -EINVAL);
	ck_assert_int_eq(kmm_publish(k, long_name, p), -EINVAL);
	ck_assert_int_eq(kmm_publish(k, "foreign", place_pointer(k, (uint64_t)place)), -EPERM);
	ck_assert_int_eq(kmm_publish(k, "stack", &place), -EINVAL);
	gives(EINVAL, kmm_lookup(k, ""));
	ck_assert_int_eq(kmm_unpublish(k, "nobody's"), -ENOENT);
	long_name[KMM_NAME_MAX] = 0;
	ck_assert_int_eq(kmm_publish(k, long_name, p), 0);
	ck_assert_uint_ne(kmm_lookup(k, long_name), 0);
	ck_assert_int_eq(kmm_unpublish(k, long_name), 0);
	/* a holder may, too */
	handle = peer_do(&a, PEER_THING_HANDLE, (uint64_t)place, 0, 0);
	ck_assert_ptr_nonnull(kmm_get_handle(k, (kmm_handle_t)handle));
	ck_assert_int_eq(kmm_publish(k, "held", place_pointer(k, (uint64_t)place)), 0);
	ck_assert_int_eq(kmm_put(k, place_pointer(k, (uint64_t)place)), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, (uint64_t)place, 0), 0);
	ck_assert_int_eq(kmm_unpublish(k, "held"), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(kmm_publish(k, "free", p), -ENOENT);
	gives(ENOENT, kmm_lookup(k, "free"));
}
END_TEST

/* All of a user's processes have their names together. */
START_TEST(a_user_s_names_are_counted)
{
	int64_t place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	void *p = object_new(1);
	char *text, line[80];

	ck_assert_int_eq(kmm_publish(k, "one", p), 0);
	ck_assert_int_eq(kmm_publish(k, "two", p), 0);
	ck_assert_int_eq(peer_do_text(&a, PEER_PUBLISH, "three", (uint64_t)place, 0, 0), 0);
	ck_assert_int_eq(peer_do_text(&a, PEER_PUBLISH, "four", (uint64_t)place, 0, 0), -EDQUOT);
	ck_assert_int_eq(kmm_publish(k, "four", p), -EDQUOT);
	ck_assert_msg(strstr(kmm_error_text(), "has published 3 names, and may have 3") &&
	              strstr(kmm_error_text(), "names_per_user"), "%s", kmm_error_text());
	ck_assert_int_eq(kmm_publish(k, "two", p), 0); /* it is there */
	/* kmmctl tells what they are */
	ck_assert_int_eq(daemon_ctl(&d, &text, (const char *const[]){ "names", NULL }), 0);
	snprintf(line, sizeof(line), "three  object of sharing   %u  ", (unsigned)SIZE);
	ck_assert_msg(strstr(text, line), "no \"%s\" in\n%s", line, text);
	free(text);
	ck_assert_int_eq(kmm_unpublish(k, "three"), 0);
	ck_assert_int_eq(peer_do_text(&a, PEER_PUBLISH, "four", (uint64_t)place, 0, 0), 0);
	ck_assert_int_eq(kmm_unpublish(k, "one"), 0);
	ck_assert_int_eq(kmm_unpublish(k, "two"), 0);
	ck_assert_int_eq(kmm_unpublish(k, "four"), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("object sharing");
	TCase *t = tcase_create("object sharing"), *few = tcase_create("few names");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_handle_names_the_object_everywhere);
	tcase_add_test(t, handles_outlive_nothing);
	tcase_add_test(t, handles_outlive_no_slab);
	tcase_add_test(t, handles_that_never_were);
	tcase_add_test(t, allocated_here_freed_there);
	tcase_add_test(t, adopting_ones_own_takes_it_back);
	tcase_add_test(t, adopted_by_one_of_many);
	tcase_add_test(t, a_free_against_an_adoption);
	tcase_add_test(t, bulk_adoption_tries_all);
	tcase_add_test(t, sent_objects_survive_their_sender);
	tcase_add_test(t, a_held_object_outlives_its_owner_s_free);
	tcase_add_test(t, adoption_works_again_after_the_last_put);
	tcase_add_test(t, holders_that_die_let_go);
	tcase_add_loop_test(t, names_outlive_their_publisher, 0, 2);
	tcase_add_test(t, names_of_what_stays_its_owner_s);
	tcase_add_test(t, names_that_are_refused);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(few, setup_few_names, teardown);
	tcase_add_test(few, a_user_s_names_are_counted);
	suite_add_tcase(s, few);
	return suite_run(s);
}
