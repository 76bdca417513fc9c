/* SPDX-License-Identifier: MIT */
/*
 * Accounts of users over a real mm/ and control memory in ordinary memory: what is charged to whom, what
 * each quota refuses and with what text, what moves between users, what a restart finds. td_check(),
 * after each step, compares every user's account with the sum of its sessions' (user_validate()).
 */
#include "tests/suite.h"
#include "tests/unit/test_user.h"

static uint64_t refused(uid_t uid, enum user_count what)
{
	struct user_usage u;

	user_usage(user_of(uid), &u);
	return u.refused[what];
}

static void reload(void)
{
	user_table_reload(&t.kmmd);
}

/* ---- the table ---- */

START_TEST(counts_and_limits)
{
	struct user_usage u;
	struct user *a;
	unsigned int i;

	t.options.user_default = (struct quota){ .pages = 10, .objects = 20, .caches = 3,
		                                 .channels = 4, .calls = 5, .sessions = 6 };
	a = user_get(t.kmmd.users, ALICE);
	ck_assert_ptr_eq(user_of(ALICE), a);
	ck_assert_uint_eq(user_uid(a), ALICE);
	user_usage(a, &u);
	for (i = 0; i < NR_USER_COUNTS; i++) {
		uint64_t max = u.max[i];

		ck_assert_str_eq(user_count_name(i), quota_key[i]);
		ck_assert(user_limits(a, i));
		ck_assert(user_charge(a, i, max - 1));
		ck_assert(!user_charge(a, i, 2));
		ck_assert(user_charge(a, i, 1));
		ck_assert(!user_charge(a, i, 1));
		ck_assert(user_charge(a, i, 0));
		user_charge_always(a, i, 7); /* above it */
		ck_assert_uint_eq(user_charge_some(a, i, 1, 9), 0);
		user_usage(a, &u);
		ck_assert_uint_eq(u.used[i], max + 7);
		user_uncharge(a, i, 8);
		ck_assert_uint_eq(user_charge_some(a, i, 1, 9), 1);
		user_uncharge(a, i, max);
		user_refused(a, i);
		user_usage(a, &u);
		ck_assert_uint_eq(u.used[i], 0);
		ck_assert_uint_eq(u.peak[i], max + 7);
		ck_assert_uint_eq(u.refused[i], 1);
	}
	user_put(a);
	ck_assert(!user_limits(NULL, USER_PAGES));
	ck_assert(user_charge(NULL, USER_PAGES, 1));
	ck_assert_ptr_null(user_get(NULL, ALICE));
	ck_assert_str_eq(user_count_name(NR_USER_COUNTS), "?");
}
END_TEST

/* 10 pages: objects of 3000 bytes and frames are one sum. */
START_TEST(objects_are_pages_too)
{
	enum user_count what;
	struct user_usage u;
	struct user *a;

	t.options.user_default = (struct quota){ .pages = 10, .objects = 12 };
	a = user_get(t.kmmd.users, ALICE);
	ck_assert(user_charge(a, USER_PAGES, 2));
	ck_assert_uint_eq(user_charge_objects(a, 3000, 100, &what), 8 * PAGE_BYTES / 3000);
	ck_assert_int_eq(what, USER_PAGES);
	ck_assert_uint_eq(user_charge_objects(a, 3000, 1, &what), 0);
	user_usage(a, &u);
	ck_assert_uint_eq(u.used[USER_OBJECTS], 10);
	ck_assert_uint_eq(u.used[USER_PAGES], 10); /* 2 and 7.3 */
	ck_assert(!user_charge(a, USER_PAGES, 1));
	user_adjust_objects(a, -10, -30000);
	ck_assert_uint_eq(user_charge_objects(a, 8, 100, &what), 12);
	ck_assert_int_eq(what, USER_OBJECTS);
	user_adjust_objects(a, -12, -12 * 8);
	user_uncharge(a, USER_PAGES, 2);
	user_put(a);
}
END_TEST

static void note_uid(void *ctx, const struct user_usage *u)
{
	uid_t *most = ctx;

	*most = u->uid > *most ? u->uid : *most;
}

static void count_user(void *ctx, const struct user_usage *u)
{
	(void)u;
	++*(unsigned int *)ctx;
}

START_TEST(many_come_and_go)
{
	struct user *kept = user_get(t.kmmd.users, ALICE);
	unsigned int i, n = 0;
	uid_t most = 0;

	ck_assert(user_charge(kept, USER_CALLS, 1));
	for (i = 0; i < 5000; i++)
		user_put(user_get(t.kmmd.users, 10000 + i));
	user_each(t.kmmd.users, count_user, &n);
	ck_assert_uint_ge(n, 100);
	ck_assert_uint_lt(n, 5000);
	user_each(t.kmmd.users, note_uid, &most);
	ck_assert_uint_eq(most, 14999);
	ck_assert_ptr_eq(user_of(ALICE), kept);
	user_uncharge(kept, USER_CALLS, 1);
	user_put(kept);
	user_each(NULL, note_uid, NULL);
}
END_TEST

/* ---- blocks ---- */

START_TEST(pages_of_all_sessions)
{
	struct session *a, *b, *c;
	uint32_t page;
	const char *why;

	t.options.user_default.pages = 10;
	a = td_session_of(&t, "a", ALICE);
	b = td_session_of(&t, "b", ALICE);
	c = td_session_of(&t, "c", BOB);
	td_alloc(&t, a, GFP_KERNEL, 2);
	td_alloc(&t, b, GFP_KERNEL, 2);
	td_check(&t);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 8);
	ck_assert_int_eq(grant_alloc(t.d, b, 0, GFP_KERNEL, 2, &page, &why), -EDQUOT);
	ck_assert_str_eq(why, "the sessions of user 1000 have 8 of the 10 pages that they may have "
	                      "together; 4 more are asked for: free some, or raise pages in [user] "
	                      "of the configuration");
	ck_assert_ptr_eq(charge_obstacle().user, user_of(ALICE));
	ck_assert_int_eq(charge(b), 4);
	/* nobody else is kept out, and what fits is had */
	td_alloc(&t, c, GFP_KERNEL, 3);
	td_alloc(&t, b, GFP_KERNEL, 1);
	td_check(&t);
	/* the session's own quota comes first, and says so */
	b->pages_max = 6;
	ck_assert_int_eq(grant_alloc(t.d, b, 0, GFP_KERNEL, 0, &page, &why), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "the session holds 6 of the 6 pages it may"));
	ck_assert_ptr_null(charge_obstacle().user);
	session_end(a);
	td_check(&t);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 6);
	ck_assert_uint_eq(used(ALICE, USER_SESSIONS), 1);
	session_end(b);
	session_end(c);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 0);
	ck_assert_uint_eq(used(BOB, USER_PAGES), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* A magazine is filled as far as the quota goes. */
START_TEST(a_magazine_within_the_quota)
{
	struct session *a;
	magazine_id_t m;
	const char *why;
	uint32_t n;

	t.options.user_default.pages = 5;
	a = td_session_of(&t, "a", ALICE);
	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 0, 16, &m, &n, &why), 0);
	ck_assert_uint_eq(n, 5);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 5);
	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 0, 16, &m, &n, &why), -EDQUOT);
	td_check(&t);
}
END_TEST

START_TEST(send_between_users)
{
	struct session *a, *b, *c;
	uint32_t granule, g;
	const char *why;
	pfn_t pfn;

	t.options.user_default.pages = 4;
	a = td_session_of(&t, "a", ALICE);
	b = td_session_of(&t, "b", ALICE);
	c = td_session_of(&t, "c", BOB);
	pfn = td_alloc(&t, a, GFP_KERNEL, 2);
	granule = domain_granule(t.d, pfn);
	g = td_generation(&t, pfn);
	/* within a user nothing is asked: the account stays as it is, also at the limit */
	ck_assert_int_eq(grant_send(t.d, a, granule, g, b, &why), 0);
	ck_assert_int_eq(charge(b), 4);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 4);
	td_check(&t);
	td_alloc(&t, c, GFP_KERNEL, 0);
	ck_assert_int_eq(grant_send(t.d, b, granule, g, c, &why), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "cannot be given"));
	ck_assert_ptr_nonnull(strstr(why, "user 1001 have 1 of the 4 pages"));
	ck_assert_ptr_nonnull(strstr(why, "4 more are asked for"));
	t.options.user_default.pages = 5;
	reload();
	ck_assert_int_eq(grant_send(t.d, b, granule, g, c, &why), 0);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 0);
	ck_assert_uint_eq(used(BOB, USER_PAGES), 5);
	td_check(&t);
}
END_TEST

/* The word changes, and nobody is told: before a refusal it is found out, whichever session of the user
 * asks. */
START_TEST(adoption_between_users)
{
	struct session *a, *b, *c;
	uint32_t page;
	const char *why;
	pfn_t pfn;

	t.options.user_default.pages = 4;
	a = td_session_of(&t, "a", ALICE);
	b = td_session_of(&t, "b", ALICE);
	c = td_session_of(&t, "c", BOB);
	pfn = td_alloc(&t, a, GFP_KERNEL, 2);
	ck_assert(td_change(&t, pfn, OWNER_HELD, a->id, OWNER_HELD, c->id));
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 4);
	ck_assert_int_eq(grant_alloc(t.d, b, 0, GFP_KERNEL, 0, &page, &why), -EDQUOT);
	charge_settle(t.d, b, NULL); /* b has nothing to settle */
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 4);
	charge_settle(t.d, b, charge_obstacle().user);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 0);
	ck_assert_uint_eq(used(BOB, USER_PAGES), 4);
	ck_assert_int_eq(charge(c), 4);
	td_check(&t);
	td_alloc(&t, b, GFP_KERNEL, 2);
	/* by the sweep of the session that is charged still */
	pfn = td_alloc(&t, td_session_of(&t, "d", 1003), GFP_KERNEL, 0);
	ck_assert_uint_eq(used(1003, USER_PAGES), 1);
	for (page = 1; session_by_id(t.kmmd.sessions, page)->uid != 1003; page++)
		;
	ck_assert(td_change(&t, pfn, OWNER_HELD, page, OWNER_HELD, c->id));
	session_end(session_by_id(t.kmmd.sessions, page));
	ck_assert_uint_eq(used(1003, USER_PAGES), 0);
	ck_assert_uint_eq(used(BOB, USER_PAGES), 5); /* above its quota: nobody was asked */
	td_check(&t);
}
END_TEST

/* An id whose last charge is on its way belongs to nobody else. */
START_TEST(late_frees_find_their_user)
{
	struct session *a = td_session_of(&t, "a", ALICE), *s = NULL;
	uint32_t id = a->id, i;

	/* a thread has taken a block's tag away and is about to drop its charge */
	atomic_fetch_add(&a->charge, 2);
	user_charge_always(a->user, USER_PAGES, 2);
	session_end(a);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 2);
	for (i = 1; i < TD_SESSIONS + 10; i++) {
		s = td_session_of(&t, "s", BOB);
		ck_assert_uint_ne(s->id, id);
		session_end(s);
		session_table_tick(t.kmmd.sessions);
	}
	charge_drop(t.d, id, 2);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 0);
	ck_assert_uint_eq(used(BOB, USER_PAGES), 0);
	session_table_tick(t.kmmd.sessions);
	for (i = 1; i < TD_SESSIONS + 10 && s->id != id; i++) {
		s = td_session_of(&t, "s", BOB);
		session_end(s);
	}
	ck_assert_uint_eq(s->id, id);
}
END_TEST

/* ---- objects ---- */

START_TEST(objects_of_a_session)
{
	struct session *a;
	struct cache *c;
	uint32_t granule, o[4], i;
	const char *why;

	t.options.objects_max = 4;
	a = td_session_of(&t, "a", ALICE);
	c = td_cache(&t, a, "c", 100, false);
	for (i = 0; i < 4; i++)
		o[i] = td_object(&t, c, a);
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	ck_assert_str_eq(why, "the session holds 4 of the 4 objects it may, those that its threads "
	                      "cache included; one more is asked for: free some, or raise objects "
	                      "in [limits] of the configuration");
	ck_assert_uint_eq(used(ALICE, USER_OBJECTS), 4);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 1);
	td_check(&t);
	ck_assert_int_eq(td_object_free(&t, a, o[0]), 0);
	o[0] = td_object(&t, c, a);
	t.options.objects_max = 3;
	reload();
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	t.options.objects_max = 0;
	reload();
	td_object(&t, c, a);
	td_check(&t);
}
END_TEST

START_TEST(objects_of_all_sessions)
{
	struct session *a, *b, *c;
	struct cache *k;
	uint32_t granule, o;
	const char *why;

	t.options.user_default.objects = 3;
	a = td_session_of(&t, "a", ALICE);
	b = td_session_of(&t, "b", ALICE);
	c = td_session_of(&t, "c", BOB);
	k = td_cache(&t, a, "k", 2048, false);
	td_object(&t, k, a);
	td_object(&t, k, a);
	o = td_object(&t, k, b);
	ck_assert_int_eq(object_alloc(k, b, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	ck_assert_str_eq(why, "the sessions of user 1000 have 3 of the 3 objects that they may have "
	                      "together; 1 more is asked for: free some, or raise objects in "
	                      "[user] of the configuration");
	td_check(&t);
	/* within the user, at the limit; then to another one */
	ck_assert_int_eq(grant_send(t.d, b, o, owner_generation(owner_load(td_word_of(&t, o))), a,
	                            &why), 0);
	ck_assert_uint_eq(used(ALICE, USER_OBJECTS), 3);
	td_check(&t);
	ck_assert_int_eq(grant_send(t.d, a, o, owner_generation(owner_load(td_word_of(&t, o))), c,
	                            &why), 0);
	ck_assert_uint_eq(used(ALICE, USER_OBJECTS), 2);
	ck_assert_uint_eq(used(BOB, USER_OBJECTS), 1);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 1);
	td_check(&t);
	/* a's magazine goes as far as the quota does; its end gives all back */
	session_end(a);
	ck_assert_uint_eq(used(ALICE, USER_OBJECTS), 0);
	td_check(&t);
}
END_TEST

/* Adopted objects are counted before somebody is refused. */
START_TEST(adopted_objects)
{
	struct session *a, *b, *c;
	struct cache *k;
	uint32_t granule, o;
	const char *why;

	t.options.user_default.objects = 1;
	a = td_session_of(&t, "a", ALICE);
	b = td_session_of(&t, "b", ALICE);
	c = td_session_of(&t, "c", BOB);
	k = td_cache(&t, a, "k", 512, false);
	o = td_object(&t, k, a);
	td_note(&t, c, o);
	ck_assert(td_object_change(&t, o, OWNER_HELD, a->id, OWNER_HELD, c->id));
	ck_assert_int_eq(object_alloc(k, b, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	charge_settle(t.d, b, charge_obstacle().user);
	ck_assert_uint_eq(used(ALICE, USER_OBJECTS), 0);
	td_object(&t, k, b);
	/* the other one was met on the way: it is counted before it is given more */
	ck_assert_int_eq(object_alloc(k, c, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	charge_settle(t.d, c, charge_obstacle().user);
	ck_assert_uint_eq(used(BOB, USER_OBJECTS), 1);
	ck_assert_int_eq(object_alloc(k, c, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	td_check(&t);
}
END_TEST

/* ---- caches ---- */

static int make_cache(struct session *s, const char *name, const char **why)
{
	uint64_t life;
	uint32_t id;

	return cache_create(t.d, s, name, 64, 0, 0, false, &id, &life, why);
}

START_TEST(caches_of_sessions_and_users)
{
	struct session *a, *b, *c;
	uint32_t total, id;
	const char *why;
	uint64_t life;
	bool removed;

	t.options.caches_max = 2;
	t.options.user_default.caches = 3;
	a = td_session_of(&t, "a", ALICE);
	b = td_session_of(&t, "b", ALICE);
	c = td_session_of(&t, "c", BOB);
	ck_assert_int_eq(make_cache(a, "one", &why), 0);
	ck_assert_int_eq(make_cache(a, "two", &why), 0);
	ck_assert_int_eq(make_cache(a, "two", &why), 0); /* it has it open already */
	total = cache_total(t.d);
	ck_assert_int_eq(make_cache(a, "three", &why), -EDQUOT);
	ck_assert_str_eq(why, "the session has 2 of the 2 caches open that it may: destroy some, or "
	                      "raise caches in [limits] of the configuration");
	ck_assert_int_eq(make_cache(b, "three", &why), 0);
	ck_assert_int_eq(make_cache(b, "four", &why), -EDQUOT);
	ck_assert_str_eq(why, "the sessions of user 1000 have 3 of the 3 caches that they may have "
	                      "together; 1 more is asked for: destroy some, or raise caches in "
	                      "[user] of the configuration");
	ck_assert_uint_eq(refused(ALICE, USER_CACHES), 1);
	ck_assert_uint_eq(cache_total(t.d), total + 1); /* nothing was made to be refused */
	ck_assert_int_eq(cache_open(t.d, b, "one", &id, &life, &why), -EDQUOT);
	ck_assert_int_eq(cache_open(t.d, b, "kmalloc-64", &id, &life, &why), 0);
	ck_assert_int_eq(cache_open(t.d, c, "one", &id, &life, &why), 0);
	td_check(&t);
	ck_assert_uint_eq(used(ALICE, USER_CACHES), 3);
	ck_assert_int_eq(cache_destroy(t.d, a, id, life, &removed, &why), 0);
	ck_assert(!removed); /* c has it */
	ck_assert_int_eq(make_cache(b, "four", &why), 0);
	td_check(&t);
	session_end(b);
	ck_assert_uint_eq(used(ALICE, USER_CACHES), 1);
	td_check(&t);
}
END_TEST

/* ---- restarts, reloads ---- */

START_TEST(a_restart_counts_anew)
{
	struct session *a, *b;
	struct cache *k;
	uint64_t pages;
	unsigned int i;

	a = td_session_of(&t, "a", ALICE);
	b = td_session_of(&t, "b", ALICE);
	td_alloc(&t, td_session_of(&t, "c", BOB), GFP_KERNEL, 1);
	td_alloc(&t, a, GFP_KERNEL, 3);
	td_alloc(&t, b, GFP_KERNEL, 0);
	k = td_cache(&t, b, "k", 1000, false);
	for (i = 0; i < 9; i++)
		td_object(&t, k, b);
	pages = used(ALICE, USER_PAGES);
	ck_assert_uint_eq(pages, 9 + 3);
	t.options.user_default.pages = 7; /* less than there is: it stays, nothing more comes */
	td_restart(&t);
	td_check(&t);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), pages);
	ck_assert_uint_eq(used(ALICE, USER_OBJECTS), 9);
	ck_assert_uint_eq(used(ALICE, USER_CACHES), 1);
	ck_assert_uint_eq(used(ALICE, USER_SESSIONS), 2);
	ck_assert_uint_eq(used(BOB, USER_PAGES), 2);
	ck_assert_uint_eq(used(BOB, USER_SESSIONS), 1);
	ck_assert_uint_eq(charge_reserve(session_by_id(t.kmmd.sessions, 1), 0, 1), 0);
}
END_TEST

START_TEST(a_reload_is_followed)
{
	struct session *a = td_session_of(&t, "a", ALICE);
	struct user *bob = user_get(t.kmmd.users, BOB); /* has no session */
	uint32_t page;
	const char *why;

	td_alloc(&t, a, GFP_KERNEL, 1);
	t.options.user_default.pages = 2;
	ck_assert_uint_eq(charge_reserve(a, 0, 1), 1); /* not read yet */
	charge_return(a, 1);
	ck_assert(!charge_limited(a));
	ck_assert(!(atomic_load(&a->shared->racks) & CONTROL_RACKS_OFF));
	reload();
	/* what it has is to pass by the daemon from now on */
	ck_assert(charge_limited(a));
	ck_assert(atomic_load(&a->shared->racks) & CONTROL_RACKS_OFF);
	ck_assert(atomic_load(&td_session_of(&t, "b", ALICE)->shared->racks) & CONTROL_RACKS_OFF);
	ck_assert_int_eq(grant_alloc(t.d, a, 0, GFP_KERNEL, 0, &page, &why), -EDQUOT);
	ck_assert_uint_eq(user_charge_some(bob, USER_PAGES, 1, 5), 2);
	user_uncharge(bob, USER_PAGES, 2);
	t.options.user_default.pages = 0;
	t.options.pages_max = 3;
	reload();
	ck_assert_uint_eq(charge_reserve(a, 0, 5), 1);
	charge_return(a, 1);
	ck_assert_uint_eq(user_charge_some(bob, USER_PAGES, 1, 5), 5);
	user_uncharge(bob, USER_PAGES, 5);
	user_put(bob);
	t.options.pages_max = 0;
	reload();
	ck_assert(!(atomic_load(&a->shared->racks) & CONTROL_RACKS_OFF));
}
END_TEST

/* ---- what is wrong is found ---- */

static unsigned int found;

static void note_finding(void *ctx, const char *text)
{
	found += strstr(text, ctx) != NULL;
}

START_TEST(a_wrong_sum_is_found)
{
	struct session *a = td_session_of(&t, "a", ALICE);

	user_charge_always(a->user, USER_CALLS, 1);
	ck_assert_uint_eq(user_validate(&t.kmmd, note_finding,
	                                (char *)(uintptr_t)"user 1000 is charged 1 calls, its "
	                                                   "sessions 0"), 1);
	ck_assert_uint_eq(found, 1);
	ck_assert_uint_eq(domain_validate(t.d, td_silent, NULL), 1);
	user_uncharge(a->user, USER_CALLS, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("user");
	TCase *c = tcase_create("user");

	tcase_add_checked_fixture(c, scene_setup, scene_teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, counts_and_limits);
	tcase_add_test(c, objects_are_pages_too);
	tcase_add_test(c, many_come_and_go);
	tcase_add_test(c, pages_of_all_sessions);
	tcase_add_test(c, a_magazine_within_the_quota);
	tcase_add_test(c, send_between_users);
	tcase_add_test(c, adoption_between_users);
	tcase_add_test(c, late_frees_find_their_user);
	tcase_add_test(c, objects_of_a_session);
	tcase_add_test(c, objects_of_all_sessions);
	tcase_add_test(c, adopted_objects);
	tcase_add_test(c, caches_of_sessions_and_users);
	tcase_add_test(c, a_restart_counts_anew);
	tcase_add_test(c, a_reload_is_followed);
	tcase_add_test(c, a_wrong_sum_is_found);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
