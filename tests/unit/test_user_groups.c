/* SPDX-License-Identifier: MIT */
/*
 * Which groups a user is taken to be in: those of the process of its last session, and where none told
 * them those of the user database, asked on the worker. The groups are numbers that the database knows
 * nothing of, so a quota that follows them shows that it was not asked; root and its group are what it
 * knows.
 */
#define TD_LOG_LEVEL LOG_LEVEL_WARNING

#include <unistd.h>

#include "daemon/quota_rules.h"
#include "daemon/user_groups.h"
#include "daemon/worker.h"
#include "tests/suite.h"
#include "tests/unit/test_user.h"

#define PUPILS 80001u
#define TEACHERS 80002u
#define STRANGER 4294967000u /* the database knows none of that number */

static FILE *said;
static int stderr_before;

static void setup(void)
{
	said = tmpfile();
	ck_assert_ptr_nonnull(said);
	stderr_before = dup(STDERR_FILENO);
	dup2(fileno(said), STDERR_FILENO);
	scene_setup();
	ck_assert_int_eq(worker_new(&t.kmmd.worker), 0);
}

static void teardown(void)
{
	t.kmmd.worker = worker_free(t.kmmd.worker);
	scene_teardown();
	t.options.user_rules = quota_rules_free(t.options.user_rules);
	dup2(stderr_before, STDERR_FILENO);
	close(stderr_before);
	fclose(said);
}

/* How often the log has that text. */
static unsigned int times_said(const char *what)
{
	unsigned int n = 0;
	char line[1000];

	rewind(said);
	while (fgets(line, sizeof(line), said))
		n += strstr(line, what) != NULL;
	fseek(said, 0, SEEK_END);
	return n;
}

static void rule(enum quota_kind kind, uint32_t id, uint64_t pages)
{
	struct quota_rule *r;
	char name[16];

	snprintf(name, sizeof(name), "%u", id);
	r = quota_rules_add(&t.options.user_rules, kind, name);
	ck_assert_ptr_nonnull(r);
	r->id = id;
	quota_rule_set(r, 0, pages, OPTIONS_ORIGIN_SET);
}

static void hello(uid_t uid, gid_t gid, gid_t group)
{
	struct user *u = user_get_with(t.kmmd.users, uid, user_groups_of_process(gid, &group, 1));

	ck_assert_ptr_nonnull(u);
	user_put(u);
}

/* Its quota of pages, and the section that says it. */
static void pages_are(uid_t uid, uint64_t pages, const char *section)
{
	struct user *u = user_of(uid);
	struct user_usage usage;

	user_usage(u, &usage);
	ck_assert_uint_eq(usage.max[USER_PAGES], pages);
	ck_assert_str_eq(user_section(u, USER_PAGES), section);
}

START_TEST(groups_of_the_process)
{
	struct user *a;
	const char *text;

	t.options.user_default.pages = 10;
	rule(QUOTA_GROUP, PUPILS, 20);
	rule(QUOTA_GROUP, TEACHERS, 30);
	hello(ALICE, 7, PUPILS);
	pages_are(ALICE, 20, "[group 80001]");
	hello(BOB, TEACHERS, 7);
	pages_are(BOB, 30, "[group 80002]");
	/* a reload keeps them, without asking anybody */
	user_table_reload(&t.kmmd);
	worker_wait_idle(t.kmmd.worker);
	pages_are(ALICE, 20, "[group 80001]");
	/* the next session's process has others; a text of before stays one */
	a = user_get(t.kmmd.users, ALICE);
	text = user_section(a, USER_PAGES);
	for (int i = 0; i < 1000; i++) {
		hello(ALICE, 7, TEACHERS);
		hello(ALICE, 7, 8);
	}
	pages_are(ALICE, 10, "[user]");
	hello(ALICE, PUPILS, TEACHERS);
	pages_are(ALICE, 20, "[group 80001]");
	ck_assert_str_eq(text, "[group 80001]");
	ck_assert_ptr_eq(user_section(a, USER_PAGES), text); /* not made anew each time */
	user_put(a);
	ck_assert_uint_eq(times_said("groups"), 0);
}
END_TEST

/* What a session's client caches passes by the daemon as soon as its user is limited. */
START_TEST(sessions_follow)
{
	struct session *a = td_session_of(&t, "a", ALICE), *b = td_session_of(&t, "b", BOB);

	rule(QUOTA_GROUP, PUPILS, 20);
	hello(ALICE, 7, 8);
	ck_assert(!(atomic_load(&a->shared->racks) & CONTROL_RACKS_OFF));
	hello(ALICE, 7, PUPILS);
	ck_assert(atomic_load(&a->shared->racks) & CONTROL_RACKS_OFF);
	ck_assert(!(atomic_load(&b->shared->racks) & CONTROL_RACKS_OFF));
	hello(ALICE, 7, 8);
	ck_assert(!(atomic_load(&a->shared->racks) & CONTROL_RACKS_OFF));
}
END_TEST

/* Sessions that a restart took over: the worker asks, for the users that no process has told about. */
START_TEST(groups_of_the_database)
{
	struct session *root = td_session_of(&t, "root", 0);

	td_session_of(&t, "alice", ALICE);
	t.options.user_default.pages = 10;
	rule(QUOTA_GROUP, 0, 20);
	rule(QUOTA_GROUP, PUPILS, 30);
	hello(ALICE, 7, PUPILS);
	user_table_ask(t.kmmd.users);
	worker_wait_idle(t.kmmd.worker);
	pages_are(0, 20, "[group 0]");
	ck_assert(atomic_load(&root->shared->racks) & CONTROL_RACKS_OFF);
	pages_are(ALICE, 30, "[group 80001]");
	/* a process knows better */
	hello(0, 7, 8);
	pages_are(0, 10, "[user]");
	user_table_reload(&t.kmmd);
	worker_wait_idle(t.kmmd.worker);
	pages_are(0, 10, "[user]");
	user_table_ask(NULL);
}
END_TEST

/* It is asked where a rule is about groups, once, and again after a reload; one line says it, another
 * one of how many more it is true. */
START_TEST(who_cannot_be_found)
{
	struct user *u = user_get_with(t.kmmd.users, STRANGER, NULL),
		    *v = user_get_with(t.kmmd.users, STRANGER + 1, NULL),
		    *w = user_get_with(t.kmmd.users, STRANGER + 2, NULL);

	ck_assert(u && v && w);
	worker_wait_idle(t.kmmd.worker);
	ck_assert_uint_eq(times_said("groups"), 0);
	rule(QUOTA_GROUP, PUPILS, 30);
	user_table_reload(&t.kmmd);
	worker_wait_idle(t.kmmd.worker);
	ck_assert_uint_eq(times_said("user 4294967000: the user's groups cannot be learnt: the user database "
	                             "does not know it"), 1);
	ck_assert_uint_eq(times_said("the groups of 2 more users cannot be learnt either"), 1);
	user_put(user_get_with(t.kmmd.users, STRANGER, NULL));
	worker_wait_idle(t.kmmd.worker);
	ck_assert_uint_eq(times_said("groups"), 2);
	user_put(user_get_with(t.kmmd.users, STRANGER + 9, NULL)); /* new: it alone */
	worker_wait_idle(t.kmmd.worker);
	user_put(v);
	user_put(w);
	user_table_reload(&t.kmmd);
	worker_wait_idle(t.kmmd.worker);
	ck_assert_uint_eq(times_said("user 4294967000: the user's groups"), 2);
	ck_assert_uint_eq(times_said("more users"), 1);
	user_put(u);
}
END_TEST

static void count_user(void *ctx, const struct user_usage *u)
{
	(void)u;
	++*(unsigned int *)ctx;
}

/* Users in use are never forgotten, however many; idle ones are, also when these lie before them. */
START_TEST(more_than_are_kept)
{
	static struct user *held[1500];
	unsigned int i, n = 0;

	for (i = 0; i < 1500; i++)
		held[i] = user_get(t.kmmd.users, 10000 + i);
	for (i = 0; i < 3000; i++)
		user_put(user_get(t.kmmd.users, 20000 + i));
	user_each(t.kmmd.users, count_user, &n);
	ck_assert_uint_ge(n, 1500);
	ck_assert_uint_lt(n, 2000);
	for (i = 0; i < 1500; i++) {
		ck_assert_ptr_eq(user_of(10000 + i), held[i]);
		user_put(held[i]);
	}
	for (i = 0; i < 3000; i++)
		user_put(user_get(t.kmmd.users, 30000 + i));
	n = 0;
	user_each(t.kmmd.users, count_user, &n);
	ck_assert_uint_le(n, 1024);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("user groups");
	TCase *c = tcase_create("groups");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, groups_of_the_process);
	tcase_add_test(c, sessions_follow);
	tcase_add_test(c, groups_of_the_database);
	tcase_add_test(c, who_cannot_be_found);
	tcase_add_test(c, more_than_are_kept);
	suite_add_tcase(s, c);
	return suite_status(s);
}
