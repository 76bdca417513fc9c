/* SPDX-License-Identifier: MIT */
/*
 * How caches end: by their last user, by themselves, by restarts in between; and that those who
 * work with a cache are never surprised by its end. The client's half is played by the test.
 */
#include <pthread.h>
#include <sched.h>

#include "tests/suite.h"
#include "tests/unit/test_cache.h"

static void destroy(struct session *s, uint32_t id, bool removed)
{
	bool got = !removed;
	const char *why = "";
	int r = tc_destroy(&t, s, id, &got, &why);

	ck_assert_msg(r == 0, "%d %s", r, why);
	ck_assert_int_eq(got, removed);
}

static void busy(struct session *s, uint32_t id, const char *text)
{
	bool removed;
	const char *why = "";

	ck_assert_int_eq(tc_destroy(&t, s, id, &removed, &why), -EBUSY);
	ck_assert_str_eq(why, text);
	ck_assert_int_eq(cache_state(cache_by_id(t.d, id)), CACHE_LIVE);
}

/* ---- destroying ---- */

START_TEST(the_last_user_removes_it)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), again;
	uint64_t life = tc_life(&t, id), other;
	uint64_t frames = td_free_frames(&t);
	bool removed = false;
	const char *why;

	ck_assert_int_eq(cache_open(t.d, b, "dentry", &again, &other, &why), 0);
	td_object_free(&t, a, td_object(&t, cache_by_id(t.d, id), a)); /* a slab stays empty */
	destroy(a, id, false);
	destroy(a, id, false); /* none of its users any more */
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "dentry"));
	destroy(b, id, true);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
	ck_assert_ptr_null(cache_enter(t.d, id, 0));
	ck_assert_ptr_null(cache_enter_to_free(t.d, id));
	ck_assert_ptr_null(cache_enter_name(t.d, "dentry"));
	ck_assert_uint_eq(t.d->control.cache[id].life, 0);
	ck_assert_uint_eq(td_free_frames(&t), frames);
	/* gone is gone; and what is unknown was never there */
	ck_assert_int_eq(cache_destroy(t.d, b, id, life, &removed, &why), 0);
	ck_assert(removed);
	ck_assert_int_eq(cache_destroy(t.d, b, 0, 0, &removed, &why), 0);
	/* the name is free, for another kind too, and the old life does not come again */
	ck_assert_int_eq(tc_create(&t, a, "dentry", 64, 0, &again, &other, &why), 0);
	ck_assert(other != life);
	ck_assert_int_eq(cache_destroy(t.d, a, again, life, &removed, &why), 0);
	ck_assert_uint_eq(cache_by_id(t.d, again)->users, 1);
}
END_TEST

START_TEST(live_objects_are_told_with_their_holders)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), i, x[7], y[5];
	struct cache *c = cache_by_id(t.d, id);
	char text[200];

	for (i = 0; i < 7; i++)
		x[i] = td_object(&t, c, a);
	for (i = 0; i < 5; i++)
		y[i] = td_object(&t, c, b);
	snprintf(text, sizeof(text),
	         "12 objects are live: 7 of session %u (parser), 5 of session %u (writer)", a->id,
	         b->id);
	busy(a, id, text);
	/* the reference stays, and so does all else */
	ck_assert_uint_eq(cache_count_of(t.d, a->id), 1);
	td_check(&t);
	for (i = 0; i < 7; i++)
		ck_assert_int_eq(td_object_free(&t, a, x[i]), 0);
	for (i = 1; i < 5; i++)
		ck_assert_int_eq(td_object_free(&t, b, y[i]), 0);
	snprintf(text, sizeof(text), "1 object is live: 1 of session %u (writer)", b->id);
	busy(a, id, text);
	ck_assert_int_eq(td_object_free(&t, b, y[0]), 0);
	destroy(a, id, true);
}
END_TEST

START_TEST(many_holders_are_summed_up)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), i, k;
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	bool removed;
	char name[32];

	for (i = 1; i <= 7; i++) {
		struct session *s;

		snprintf(name, sizeof(name), "member%u", i);
		s = td_session(&t, name);
		for (k = 0; k < i; k++)
			td_object(&t, c, s);
	}
	ck_assert_int_eq(tc_destroy(&t, a, id, &removed, &why), -EBUSY);
	ck_assert_msg(strncmp(why, "28 objects are live: 7 of session ", 34) == 0, "%s", why);
	ck_assert_msg(strstr(why, "(member7), 6 of") && strstr(why, "(member4), and of 3 more"), "%s",
	              why);
}
END_TEST

START_TEST(what_nobody_has_does_not_hinder)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), n = 0, got, accepted, listed, out[64];
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	magazine_id_t m;

	/* marked RETURNED: cached by a thread of a session that has it not open */
	out[0] = td_object(&t, c, b);
	ck_assert(td_object_change(&t, out[0], OWNER_HELD, b->id, OWNER_RETURNED, b->id));
	/* in the depot */
	ck_assert_int_eq(exchange_take_objects(c, a, 0, GFP_KERNEL, false, 20, &m, &n, &why), 0);
	got = td_take_objects(&t, a, m, out);
	ck_assert_uint_eq(got, n);
	ck_assert_uint_eq(td_load_objects(&t, a, m, out, got), got);
	exchange_give(t.d, a, 0, m, &accepted, &listed);
	ck_assert_uint_eq(accepted, got);
	ck_assert_uint_eq(tc_out(&t, id), got + 1);
	destroy(a, id, true);
}
END_TEST

START_TEST(what_is_on_its_way_is_told)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), n = 0, i, out[64];
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	char text[100];
	bool removed;
	magazine_id_t m;
	uint64_t w;

	ck_assert_int_eq(exchange_take_objects(c, a, 0, GFP_KERNEL, false, 4, &m, &n, &why), 0);
	ck_assert_int_eq(tc_destroy(&t, a, id, &removed, &why), -EBUSY);
	snprintf(text, sizeof(text), "4 objects are live: 4 of session %u (parser)", a->id);
	ck_assert_str_eq(why, text);
	ck_assert_uint_eq(td_take_objects(&t, a, m, out), n);
	for (i = 1; i < n; i++)
		ck_assert_int_eq(td_object_free(&t, a, out[i]), 0);
	/* a thread of the daemon has freed its word, and is about to free the object */
	w = owner_load(td_word_of(&t, out[0]));
	owner_store(td_word_of(&t, out[0]), owner_renewed(w, OWNER_FREE, 0));
	busy(a, id, "1 object is live: 1 on their way");
	owner_store(td_word_of(&t, out[0]), w);
	ck_assert_int_eq(td_object_free(&t, a, out[0]), 0);
	destroy(a, id, true);
}
END_TEST

/* Another thread frees the last object at any moment of the destroying: who is told that it is busy is
 * told by whom. */
struct freeing {
	struct session *s;
	uint32_t granule;
	_Atomic int start;
};

static void *free_one(void *arg)
{
	struct freeing *f = arg;

	atomic_store(&f->start, 1);
	ck_assert_int_eq(td_object_free(&t, f->s, f->granule), 0);
	return NULL;
}

START_TEST(nobody_is_told_of_no_object)
{
	unsigned int i;

	for (i = 0; i < 300; i++) {
		uint32_t id = tc_new(&t, a, "dentry", 192);
		struct freeing f = { .s = b, .granule = td_object(&t, cache_by_id(t.d, id), b) };
		const char *why = "";
		bool removed = false;
		pthread_t thread;

		ck_assert_int_eq(pthread_create(&thread, NULL, free_one, &f), 0);
		while (!atomic_load(&f.start))
			;
		while (tc_destroy(&t, a, id, &removed, &why) == -EBUSY)
			ck_assert_msg(strncmp(why, "1 object is live: 1 o", 21) == 0, "%s", why);
		ck_assert(removed);
		pthread_join(thread, NULL);
	}
}
END_TEST

/* ---- ending by itself ---- */

START_TEST(a_cache_without_users_and_objects_ends)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);
	uint32_t granule = td_object(&t, cache_by_id(t.d, id), b);

	cache_tick(t.d);
	ck_assert_int_eq(cache_state(cache_by_id(t.d, id)), CACHE_LIVE);
	session_end(a); /* swept at once */
	a = td_session(&t, "another");
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 0);
	cache_tick(t.d);
	ck_assert_int_eq(cache_state(cache_by_id(t.d, id)), CACHE_LIVE);
	ck_assert_int_eq(td_object_free(&t, b, granule), 0);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX);
}
END_TEST

/* What threads of others have marked is looked for when the number changes, or after a while. */
START_TEST(returned_objects_are_looked_for)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), i;
	uint32_t granule = td_object(&t, cache_by_id(t.d, id), b);

	session_end(a);
	a = td_session(&t, "another");
	cache_tick(t.d); /* looks, and finds it held */
	ck_assert(td_object_change(&t, granule, OWNER_HELD, b->id, OWNER_RETURNED, b->id));
	cache_tick(t.d);
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "dentry"));
	for (i = 0; i < 20 && kmem_cache_find(t.d->slabs, "dentry"); i++)
		cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
}
END_TEST

START_TEST(the_dead_are_no_users)
{
	uint32_t x = tc_new(&t, a, "x", 8), y = tc_new(&t, a, "y", 16), id;
	uint64_t life;
	const char *why;

	ck_assert_int_eq(cache_open(t.d, b, "y", &id, &life, &why), 0);
	session_end(a);
	a = td_session(&t, "another");
	ck_assert_uint_eq(cache_by_id(t.d, x)->users, 0);
	ck_assert_uint_eq(cache_by_id(t.d, y)->users, 1);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "x"));
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "y"));
}
END_TEST

/* ---- deaths of the daemon ---- */

/* Between the record and its creator's bit. */
START_TEST(a_cache_that_was_only_begun_ends)
{
	struct cache_request q = { .name = "half", .size = 64 };
	struct kmem_cache *k = NULL;
	const char *why = "";

	ck_assert_int_eq(kmem_cache_create(t.d->slabs, &q, 1, &k, &why), 0);
	tc_restart();
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "half"));
	td_check(&t);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "half"));
	ck_assert_uint_eq(t.d->control.cache[CACHE_BUILTIN_MAX + 1].life, 0);
}
END_TEST

/* Between its last user's bit and the record. */
START_TEST(an_end_that_was_only_begun_is_completed)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);

	td_object_free(&t, a, td_object(&t, cache_by_id(t.d, id), a));
	atomic_store(&ledger_users(&t.pool.ledger, id)[0], 0);
	tc_restart();
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 0);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
}
END_TEST

START_TEST(objects_outlive_their_users_and_the_daemon)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);
	uint32_t granule = td_object(&t, cache_by_id(t.d, id), b);

	session_end(a);
	a = td_session(&t, "another");
	tc_restart();
	cache_tick(t.d);
	ck_assert_uint_eq(tc_out(&t, id), 1);
	ck_assert_int_eq(td_object_free(&t, b, granule), 0);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
}
END_TEST

/* ---- while it is about to end ---- */

START_TEST(who_comes_while_it_is_ending_asks_again)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), got = 99;
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	uint64_t life = 99;

	cache_set_state(c, CACHE_ENDING);
	ck_assert_int_eq(tc_create(&t, b, "dentry", 192, 0, &got, &life, &why), -EAGAIN);
	ck_assert_int_eq(cache_open(t.d, b, "dentry", &got, &life, &why), -EAGAIN);
	ck_assert(got == 99 && life == 99);
	ck_assert_ptr_null(cache_enter(t.d, id, 0));
	ck_assert_ptr_eq(cache_enter_to_free(t.d, id), c);
	cache_leave(c);
	ck_assert_uint_eq(atomic_load(&c->inside), 0);
	cache_set_state(c, CACHE_LIVE);
	ck_assert_int_eq(cache_open(t.d, b, "dentry", &got, &life, &why), 0);
}
END_TEST

START_TEST(shrinking_gives_all_back)
{
	uint32_t id = tc_new(&t, a, "dentry", 4000), out[40], i;
	struct cache *c = cache_enter(t.d, id, 0);
	struct kmem_cache_stats s;

	for (i = 0; i < 40; i++)
		out[i] = td_object(&t, c, b);
	for (i = 1; i < 40; i++)
		ck_assert(td_object_change(&t, out[i], OWNER_HELD, b->id, OWNER_RETURNED, b->id));
	cache_shrink(c);
	cache_leave(c);
	slab_shrink(c->slab, 0, 0);
	kmem_cache_stats(c->slab, &s);
	ck_assert_uint_eq(s.objects_out, 1);
	ck_assert_uint_eq(s.slabs, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cache_end");
	TCase *c = tcase_create("cache_end");

	tcase_set_timeout(c, 240);
	tcase_add_checked_fixture(c, tc_setup, tc_teardown);
	tcase_add_test(c, the_last_user_removes_it);
	tcase_add_test(c, live_objects_are_told_with_their_holders);
	tcase_add_test(c, many_holders_are_summed_up);
	tcase_add_test(c, what_nobody_has_does_not_hinder);
	tcase_add_test(c, what_is_on_its_way_is_told);
	tcase_add_test(c, nobody_is_told_of_no_object);
	tcase_add_test(c, a_cache_without_users_and_objects_ends);
	tcase_add_test(c, returned_objects_are_looked_for);
	tcase_add_test(c, the_dead_are_no_users);
	tcase_add_test(c, a_cache_that_was_only_begun_ends);
	tcase_add_test(c, an_end_that_was_only_begun_is_completed);
	tcase_add_test(c, objects_outlive_their_users_and_the_daemon);
	tcase_add_test(c, who_comes_while_it_is_ending_asks_again);
	tcase_add_test(c, shrinking_gives_all_back);
	suite_add_tcase(s, c);
	return suite_status(s);
}
