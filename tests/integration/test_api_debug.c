/* SPDX-License-Identifier: MIT */
/*
 * The debugging flags of caches through a real daemon: what they find is told to the program
 * (error, event) and counted by the daemon; what is in order is never reported, whoever allocates,
 * frees, adopts, holds or dies, and across restarts of the daemon.
 *
 *      test process (k)  allocates ──> peer a writes, adopts, frees ──> the next finds it
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/fixture.h"

#define SIZE 100u
#define ALL_FLAGS                                                                   \
	(KMM_SLAB_CONSISTENCY_CHECKS | KMM_SLAB_RED_ZONE | KMM_SLAB_POISON | KMM_SLAB_STORE_USER)

/* ---- events ---- */

static struct {
	unsigned corrupt, bad_free;
	char text[512];
} heard;

static void hear(struct kmm *session, enum kmm_event event, void *arg)
{
	(void)session;
	(void)arg;
	if (event == KMM_EVENT_CORRUPT)
		heard.corrupt++;
	else if (event == KMM_EVENT_BAD_FREE)
		heard.bad_free++;
	else
		return;
	snprintf(heard.text, sizeof(heard.text), "%s", kmm_error_text());
}

static void session_begin(void)
{
	memset(&heard, 0, sizeof(heard));
	k = session_start(&d);
	ck_assert_int_ge(kmm_fd(k), 0); /* callbacks run in listen() only */
	ck_assert_int_eq(kmm_on_event(k, hear, NULL), 0);
}

static void setup(void)
{
	daemon_start(&d, NULL);
	fixture_note_memory();
	peer_start(&a, &d);
	session_begin();
}

/* So many of each were told since the last time, with the word in the last one's text. */
static void listen(unsigned corrupt, unsigned bad_free, const char *word)
{
	ck_assert_int_eq(kmm_dispatch(k), 0);
	ck_assert_msg(heard.corrupt == corrupt && heard.bad_free == bad_free,
		      "%u corrupt, %u bad frees: %s", heard.corrupt, heard.bad_free, heard.text);
	if (word)
		ck_assert_msg(strstr(heard.text, word) != NULL, "no \"%s\" in: %s", word,
			      heard.text);
	memset(&heard, 0, sizeof(heard));
}

/* What the daemon counted for the cache. */
static long reports(const char *cache)
{
	static const char *const args[] = { "--json", "slabinfo", NULL };
	char *text, *from, name[KMM_NAME_MAX + 16];
	long n;

	must(daemon_ctl(&d, &text, args) == 0);
	snprintf(name, sizeof(name), "\"%s\"", cache);
	must((from = strstr(text, name)) != NULL);
	must((from = strstr(from, "\"reports\"")) != NULL);
	must((from = strchr(from, ':')) != NULL);
	n = strtol(from + 1, NULL, 10);
	free(text);
	return n;
}

static struct kmm_cache *cache_new(const char *name, kmm_slab_flags_t flags)
{
	struct kmm_cache *c = kmm_cache_create(k, name, SIZE, 0, flags, NULL);

	ck_assert_msg(c != NULL, "%s: %s", name, kmm_error_text());
	return c;
}

static unsigned char *object_new(struct kmm_cache *c, uint64_t seed)
{
	unsigned char *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	object_fill(p, SIZE, seed);
	return p;
}

static kmm_slab_flags_t flags_by_number(int i)
{
	return (i & 1 ? KMM_SLAB_CONSISTENCY_CHECKS : 0u) | (i & 2 ? KMM_SLAB_RED_ZONE : 0u) |
	       (i & 4 ? KMM_SLAB_POISON : 0u) | (i & 8 ? KMM_SLAB_STORE_USER : 0u);
}

/* ---- what is in order ---- */

/* Allocated, written to the last byte, freed; many, in bulk, and in another process. */
START_TEST(what_is_in_order_is_not_reported)
{
	enum { N = 600 };
	struct kmm_cache *c = cache_new("ordered", flags_by_number(_i));
	static void *p[N];

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "ordered", SIZE, 0,
				      flags_by_number(_i)),
			 0);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < N; i++)
			p[i] = object_new(c, (uint64_t)i);
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, 0, N, 0), 0);
		for (int i = 0; i < N; i++) {
			ck_assert(object_check(p[i], SIZE, (uint64_t)i));
			if (i % 3 == 0) {
				uint64_t place = place_of(k, p[i]);

				ck_assert_int_eq(peer_do(&a, PEER_THING_ADOPT, kmm_handle(k, p[i]),
							 0, 0),
						 (int64_t)place);
				ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, place, SIZE, 3), 0);
				ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, place, 0), 0);
			} else if (i % 3 == 1) {
				ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
			} else {
				ck_assert_int_eq(kmm_kfree(k, p[i]), 0);
			}
		}
		ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, p), N);
		for (int i = 0; i < N; i++)
			memset(p[i], i, SIZE);
		ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), 0);
		ck_assert_int_eq(kmm_cache_shrink(c), 0);
	}
	ck_assert_int_eq(reports("ordered"), 0);
	listen(0, 0, NULL);
}
END_TEST

/* What the dead had, whole or not, is fresh memory. */
START_TEST(the_dead_are_not_blamed)
{
	struct kmm_cache *c = cache_new("dead", ALL_FLAGS);
	enum { N = 500 };
	static void *p[N];

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "dead", SIZE, 0, ALL_FLAGS), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, 0, N, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, N), N);
	for (unsigned i = 0; i < N; i++) {
		uint64_t place = (uint64_t)peer_do(&a, PEER_HOARDED, i, 0, 0);

		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, place - 8, SIZE + 20, i), 0);
	}
	peer_kill(&a);
	wait_until(daemon_count_sessions(&d) == 1);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, p), N);
	ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), 0);
	ck_assert_int_eq(reports("dead"), 0);
	listen(0, 0, NULL);
}
END_TEST

/* A free with further holders leaves the contents alone, and the last put is no free that
 * prepares. */
START_TEST(holders_read_on)
{
	struct kmm_cache *c = cache_new("held", ALL_FLAGS);
	unsigned char *p[200];

	for (unsigned i = 0; i < 200; i++) {
		p[i] = object_new(c, i);
		ck_assert_int_eq(peer_do(&a, PEER_THING_GET, place_of(k, p[i]), 0, 0), 0);
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	}
	for (unsigned i = 0; i < 200; i++) {
		uint64_t place = place_of(k, p[i]);

		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHECK, place, SIZE, i), 1);
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, place, SIZE, i + 1), 0);
		ck_assert_int_eq(peer_do(&a, PEER_THING_PUT, place, 0, 0), 0);
	}
	for (unsigned i = 0; i < 200; i++)
		p[i] = object_new(c, i);
	for (unsigned i = 0; i < 200; i++)
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	ck_assert_int_eq(reports("held"), 0);
	listen(0, 0, NULL);
}
END_TEST

/* A reader that gets the object by its handle while it is freed has it whole, or not at all. */
START_TEST(a_free_against_a_reader)
{
	struct kmm_cache *c = cache_new("read", ALL_FLAGS);
	unsigned got = 0;

	for (unsigned i = 0; i < 2000; i++) {
		unsigned char *p = object_new(c, i);
		uint64_t place = place_of(k, p);
		int64_t r;

		peer_begin(&a, PEER_THING_GET_HANDLE, kmm_handle(k, p), 0, 0);
		for (unsigned spin = 0; spin < i % 40 * 500; spin++)
			__asm__ volatile("");
		ck_assert_int_eq(kmm_cache_free(c, p), 0);
		r = peer_end(&a);
		ck_assert(r == (int64_t)place || r == -ESTALE);
		if (r < 0)
			continue;
		got++;
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHECK, place, SIZE, i), 1);
		ck_assert_int_eq(peer_do(&a, PEER_THING_PUT, place, 0, 0), 0);
	}
	fprintf(stderr, "%u of 2000 readers were in time\n", got);
	ck_assert_int_eq(reports("read"), 0);
	listen(0, 0, NULL);
}
END_TEST

/* With a constructor there is no poison: objects stay constructed, red zones are watched. */
START_TEST(constructed_objects_are_not_poisoned)
{
	struct kmm_cache *c = kmm_cache_create(k, "built", SIZE, 0, ALL_FLAGS, object_construct);
	unsigned char *p;

	ck_assert_msg(c != NULL, "%s", kmm_error_text());
	for (int i = 0; i < 300; i++) {
		p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
		ck_assert_ptr_nonnull(p);
		ck_assert(memcmp(p, &(uint64_t){ OBJECT_MAGIC }, 8) == 0);
		ck_assert_int_eq(kmm_cache_free(c, p), 0);
	}
	listen(0, 0, NULL);
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	p[SIZE] = 1;
	ck_assert_int_eq(kmm_cache_free(c, p), -EFAULT);
	listen(1, 0, "byte 100");
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	ck_assert(memcmp(p, &(uint64_t){ OBJECT_MAGIC }, 8) == 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
}
END_TEST

/* ---- what is found ---- */

START_TEST(an_overrun_shows_at_the_free)
{
	static const int places[] = { -1, -8, SIZE, SIZE + 1, SIZE + 3, SIZE + 4, SIZE + 11 };
	struct kmm_cache *c = cache_new("overrun", KMM_SLAB_RED_ZONE | flags_by_number(_i));
	long n = 0;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		unsigned char *p = object_new(c, 1);
		char byte[32];

		p[places[i]] ^= 1;
		errno = 4711;
		if (i % 2)
			ck_assert_int_eq(kmm_kfree(k, p), -EFAULT);
		else
			ck_assert_int_eq(kmm_cache_free(c, p), -EFAULT);
		ck_assert_int_eq(errno, 4711);
		snprintf(byte, sizeof(byte), "byte %d,", places[i]);
		ck_assert_msg(strstr(kmm_error_text(), byte) && strstr(kmm_error_text(), "overrun"),
			      "%s", kmm_error_text());
		listen(1, 0, byte);
		wait_until(reports("overrun") == (long)(i + 1));
		n++;
	}
	/* freed all the same */
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "overrun"), 0);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(kmm_cache_free(c, object_new(c, 2)), 0);
	ck_assert_int_eq(reports("overrun"), n);
	listen(0, 0, NULL);
}
END_TEST

START_TEST(an_overrun_by_another_process)
{
	char who[64];
	uint64_t place;
	int64_t handle;
	void *p;

	/* this process has the cache not open */
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "foreign", SIZE, 0, ALL_FLAGS), 0);
	place = (uint64_t)peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, place, SIZE + 1, 9), 0);
	handle = peer_do(&a, PEER_THING_HANDLE, place, 0, 0);
	ck_assert_ptr_nonnull(p = kmm_adopt(k, (kmm_handle_t)handle));
	ck_assert_int_eq(kmm_kfree(k, p), -EFAULT);
	snprintf(who, sizeof(who), "allocated by session %u", a.session);
	ck_assert_msg(strstr(kmm_error_text(), who) != NULL, "%s", kmm_error_text());
	listen(1, 0, who);
	wait_until(reports("foreign") == 1);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, 0, 500, 0), 0);
	ck_assert_int_eq(reports("foreign"), 1);
}
END_TEST

START_TEST(a_use_after_free_shows_at_the_next_allocation)
{
	static const unsigned places[] = { 0, 1, 50, SIZE - 2, SIZE - 1 };
	struct kmm_cache *c = cache_new("used", KMM_SLAB_POISON | flags_by_number(_i));
	enum { N = 300 };
	static void *all[N];

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		unsigned char *p = object_new(c, 1);
		char byte[32];
		unsigned n = 0;

		ck_assert_int_eq(kmm_cache_free(c, p), 0);
		p[places[i]] ^= 1;
		/* sooner or later it would be had again */
		while (n < N && (all[n] = kmm_cache_alloc(c, KMM_GFP_KERNEL)) != NULL)
			n++;
		ck_assert_uint_eq(n, N);
		snprintf(byte, sizeof(byte), "byte %u ", places[i]);
		listen(1, 0, byte);
		wait_until(reports("used") == (long)(i + 1));
		while (n > 0)
			ck_assert_int_eq(kmm_cache_free(c, all[--n]), 0);
	}
	listen(0, 0, NULL);
}
END_TEST

/* Freed here, written to here, found there. */
START_TEST(a_use_after_free_found_by_another_process)
{
	struct kmm_cache *c = cache_new("late", ALL_FLAGS);
	unsigned char *p = object_new(c, 1);

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "late", SIZE, 0, ALL_FLAGS), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	p[10] = 1;
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, 500), 500);
	wait_until(reports("late") == 1);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE, 0, 500, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, 0, 500, 0), 0);
	ck_assert_int_eq(reports("late"), 1);
	listen(0, 0, NULL);
}
END_TEST

/* Each refused free is told with the sessions that had the object. */
START_TEST(bad_frees_name_the_sessions)
{
	struct kmm_cache *c = cache_new("twice", ALL_FLAGS);
	unsigned char *p = object_new(c, 1);
	char who[64];
	int64_t theirs;

	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), -ENOENT);
	snprintf(who, sizeof(who), "freed by session %u", kmm_session_id(k));
	ck_assert_msg(strstr(kmm_error_text(), who) != NULL, "%s", kmm_error_text());
	listen(0, 1, who);
	ck_assert_int_eq(kmm_kfree(k, p), -ENOENT);
	listen(0, 1, who);
	wait_until(reports("twice") == 2);

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_OPEN, "twice", 0, 0, 0), 0);
	theirs = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	ck_assert_int_gt(theirs, 0);
	ck_assert_int_eq(kmm_cache_free(c, place_pointer(k, (uint64_t)theirs)), -EPERM);
	snprintf(who, sizeof(who), "allocated by session %u", a.session);
	listen(0, 1, who);
	wait_until(reports("twice") == 3);

	p = object_new(c, 1);
	ck_assert_int_eq(peer_do(&a, PEER_THING_ADOPT, kmm_handle(k, p), 0, 0),
			 (int64_t)place_of(k, p));
	ck_assert_int_eq(kmm_cache_free(c, p), -ESTALE);
	listen(0, 1, "twice");
	/* nothing changed by any of them */
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHECK, place_of(k, p), SIZE, 1), 1);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, place_of(k, p), 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, 0, (uint64_t)theirs, 0), 0);
}
END_TEST

/* A cached object has no owner for who asks by address. */
START_TEST(freed_objects_are_not_live)
{
	struct kmm_cache *c = cache_new("gone", KMM_SLAB_CONSISTENCY_CHECKS);
	unsigned char *p = object_new(c, 1);

	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	errno = 0;
	ck_assert_uint_eq(kmm_handle(k, p), 0);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(kmm_get(k, p), -ENOENT);
	ck_assert_int_eq(kmm_send(k, p, a.session), -ENOENT);
	ck_assert_int_eq(kmm_publish(k, "gone", p), -ENOENT);
	errno = 0;
	ck_assert_ptr_null(kmm_krealloc(k, p, 10, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, ENOENT);
	errno = 0;
	ck_assert_uint_eq(kmm_ksize(k, p), 0);
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

/* Zeroed objects are zero, poison or not. */
START_TEST(zeroed_all_the_same)
{
	struct kmm_cache *c = cache_new("zeroed", ALL_FLAGS);

	for (int i = 0; i < 50; i++) {
		unsigned char *p = kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_ZERO);

		ck_assert_ptr_nonnull(p);
		for (unsigned at = 0; at < SIZE; at++)
			ck_assert_uint_eq(p[at], 0);
		object_fill(p, SIZE, 1);
		ck_assert_int_eq(kmm_cache_free(c, p), 0);
	}
	listen(0, 0, NULL);
}
END_TEST

/* ---- the daemon's part ---- */

/* slab_debug adds flags to caches by name, those of kmalloc too. */
START_TEST(flags_by_configuration)
{
	struct kmm_cache *plain, *c;
	unsigned char *p;

	fixture_teardown();
	daemon_start_configured(&d, "[daemon]\nslab_debug = FZPU,kmalloc-128,watched-*\n", NULL);
	fixture_note_memory();
	peer_start(&a, &d);
	session_begin();
	plain = cache_new("plain", 0);
	c = cache_new("watched-1", 0);
	ck_assert_uint_eq(kmm_cache_size(c), SIZE);
	p = object_new(c, 1);
	p[SIZE] = 0;
	ck_assert_int_eq(kmm_cache_free(c, p), -EFAULT);
	listen(1, 0, "watched-1");
	/* the flags that were asked for are compared, not those that were added */
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "watched-1", SIZE, 0, 0), 0);
	ck_assert_ptr_nonnull(p = kmm_kmalloc(k, 120, KMM_GFP_KERNEL));
	ck_assert_uint_eq(kmm_ksize(k, p), 128);
	ck_assert_uint_eq((uintptr_t)p % 128, 0);
	memset(p, 1, 128);
	ck_assert_int_eq(kmm_kfree(k, p), 0);
	ck_assert_ptr_nonnull(p = kmm_kmalloc(k, 120, KMM_GFP_KERNEL));
	p[128] = 0;
	ck_assert_int_eq(kmm_kfree(k, p), -EFAULT);
	listen(1, 0, "kmalloc-128");
	ck_assert_int_eq(kmm_kfree(k, p), -ENOENT);
	listen(0, 1, "kmalloc-128");
	ck_assert_ptr_nonnull(p = object_new(plain, 1));
	ck_assert_int_eq(kmm_cache_free(plain, p), 0);
	wait_until(reports("kmalloc-128") == 2);
	ck_assert_int_eq(reports("plain"), 0);
}
END_TEST

START_TEST(a_restart_changes_nothing)
{
	enum { N = 300 };
	static unsigned char *p[N];
	struct kmm_cache *c;

	fixture_teardown();
	daemon_start_supervised(&d, NULL);
	fixture_note_memory();
	peer_start(&a, &d);
	session_begin();
	c = cache_new("lasting", ALL_FLAGS);
	for (unsigned i = 0; i < N; i++)
		p[i] = object_new(c, i);
	for (unsigned i = 0; i < N; i += 2)
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	daemon_kill(&d);
	for (unsigned i = 0; i < N; i += 2)
		p[i] = object_new(c, i);
	daemon_kill(&d);
	for (unsigned i = 0; i < N; i++) {
		ck_assert(object_check(p[i], SIZE, i));
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	}
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	for (unsigned i = 0; i < N; i++)
		p[i] = object_new(c, i);
	p[7][SIZE] = 0;
	ck_assert_int_eq(kmm_cache_free(c, p[7]), -EFAULT);
	listen(1, 0, "lasting");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("debug");
	TCase *t = tcase_create("debug");

	tcase_add_checked_fixture(t, setup, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, what_is_in_order_is_not_reported, 0, 16);
	tcase_add_test(t, the_dead_are_not_blamed);
	tcase_add_test(t, holders_read_on);
	tcase_add_test(t, a_free_against_a_reader);
	tcase_add_test(t, constructed_objects_are_not_poisoned);
	tcase_add_loop_test(t, an_overrun_shows_at_the_free, 0, 16);
	tcase_add_test(t, an_overrun_by_another_process);
	tcase_add_loop_test(t, a_use_after_free_shows_at_the_next_allocation, 0, 16);
	tcase_add_test(t, a_use_after_free_found_by_another_process);
	tcase_add_test(t, bad_frees_name_the_sessions);
	tcase_add_test(t, freed_objects_are_not_live);
	tcase_add_test(t, zeroed_all_the_same);
	tcase_add_test(t, flags_by_configuration);
	tcase_add_test(t, a_restart_changes_nothing);
	suite_add_tcase(s, t);
	return suite_run(s);
}
