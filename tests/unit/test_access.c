/* SPDX-License-Identifier: MIT */
/*
 * Who may do what, and which quota is whose: rules made of options, asked about peers that are made up.
 *
 * Users and groups are numbers that the machine need not know; where the user database matters the test
 * takes what it has: root, in its own group.
 */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/access.h"
#include "daemon/channel.h"
#include "daemon/config.h"
#include "daemon/quota_rules.h"
#include "daemon/setting.h"
#include "daemon/user_groups.h"
#include "tests/suite.h"

#define ALL (ACCESS_CONNECT | ACCESS_SESSION | ACCESS_INSPECT | ACCESS_ADMIN)
#define USER (ACCESS_CONNECT | ACCESS_SESSION)
#define LOOK (ACCESS_CONNECT | ACCESS_INSPECT)

static struct options o;
static struct access *rules;
static char said[4096];

static void say(void *ctx, const char *text)
{
	(void)ctx;
	strncat(said, text, sizeof(said) - strlen(said) - 2);
	strcat(said, "\n");
}

static int set(const char *section, const char *key, const char *value)
{
	said[0] = '\0';
	return config_apply(&o, "line: ", 7, section, key, value, false);
}

static void setup(void)
{
	memset(&o, 0, sizeof(o));
	o.say = say;
}

static void teardown(void)
{
	for (const struct setting *s = setting_table; s->key; s++)
		setting_clear(s, &o);
	o.user_rules = quota_rules_free(o.user_rules);
	rules = access_free(rules);
}

static void make(const char *users, const char *inspectors, const char *admins)
{
	memset(o.origin, 0, sizeof(o.origin));
	ck_assert_int_eq(set("access", "users", users), 0);
	ck_assert_int_eq(set("access", "inspectors", inspectors), 0);
	ck_assert_int_eq(set("access", "admins", admins), 0);
}

static uint32_t rights(uid_t uid, gid_t gid, gid_t a, gid_t b)
{
	gid_t group[2] = { a, b };
	struct peer p = { .uid = uid, .gid = gid, .groups = group, .nr_groups = 2, .pidfd = -1 };

	return access_rights(rules, &p);
}

START_TEST(nothing_is_said)
{
	ck_assert_int_eq(access_new(&rules, &o), 0);
	ck_assert_uint_eq(rights(0, 0, 0, 0), ALL);
	ck_assert_uint_eq(rights(geteuid(), 77, 0, 0), ALL);
	ck_assert_uint_eq(rights(70001, 70001, 70001, 70002), USER | LOOK);
}
END_TEST

START_TEST(lists)
{
	static const struct {
		const char *users, *inspectors, *admins;
		/* of user 70001; of user 70002 in group 80001; of one in group 80002 by the way; of
		 * somebody else */
		uint32_t one, group, supplementary, other;
	} row[] = {
		{ "70001", "", "", USER | LOOK, 0, 0, 0 },
		{ "70001, @80001", "", "", USER | LOOK, USER | LOOK, 0, 0 },
		{ "@80002", "", "", 0, 0, USER | LOOK, 0 },
		{ "", "70001", "", USER | LOOK, USER, USER, USER },
		{ "70001", "@80001", "", USER, LOOK, 0, 0 },
		{ "@80001", "@80001 @80002", "70001", ALL, USER | LOOK, LOOK, 0 },
		{ "", "", "@80002", USER | LOOK, USER | LOOK, ALL, USER | LOOK },
		{ "80001", "@70001", "", 0, 0, 0, 0 }, /* users are no groups */
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		make(row[i].users, row[i].inspectors, row[i].admins);
		ck_assert_int_eq(access_new(&rules, &o), 0);
		ck_assert_msg(rights(70001, 1, 2, 3) == row[i].one, "row %zu: one", i);
		ck_assert_msg(rights(70002, 80001, 2, 3) == row[i].group, "row %zu: group", i);
		ck_assert_msg(rights(70003, 1, 2, 80002) == row[i].supplementary,
		              "row %zu: supplementary", i);
		ck_assert_msg(rights(70009, 1, 2, 3) == row[i].other, "row %zu: other", i);
		ck_assert_uint_eq(rights(0, 0, 0, 0), ALL);
		rules = access_free(rules);
	}
}
END_TEST

/* A peer keeps its rights until the rules change, and has the new ones at the next look. */
START_TEST(rules_that_change)
{
	struct peer p = { .uid = 70001, .gid = 1, .pidfd = -1 };
	struct access_rules *old;

	make("", "", "");
	ck_assert_int_eq(access_new(&rules, &o), 0);
	access_refresh(rules, &p);
	ck_assert_uint_eq(p.rights, USER | LOOK);
	ck_assert(!p.admin);
	make("70002", "", "70001");
	access_refresh(rules, &p);
	ck_assert_uint_eq(p.rights, USER | LOOK);
	ck_assert_int_eq(access_reload(rules, &o, &old), 0);
	access_rules_free(old);
	access_refresh(rules, &p);
	ck_assert_uint_eq(p.rights, ALL);
	ck_assert(p.admin);
	make("70002", "70003", "");
	ck_assert_int_eq(access_reload(rules, &o, &old), 0);
	access_rules_free(old);
	access_refresh(rules, &p);
	ck_assert_uint_eq(p.rights, 0);
	ck_assert(!p.admin);
}
END_TEST

/* A name that has gone since the options were checked must not open the door. */
START_TEST(names_that_have_gone)
{
	make("nobody-of-that-name", "", "");
	ck_assert_int_eq(access_new(&rules, &o), 0);
	ck_assert_uint_eq(rights(70001, 1, 2, 3), 0);
	ck_assert_uint_eq(rights((uid_t)-1, 1, 2, 3), 0);
	ck_assert(access_name_known("root") && access_name_known("0") && access_name_known("@0"));
	ck_assert(access_name_known("@root") && access_name_known("4294967294"));
	ck_assert(!access_name_known("") && !access_name_known("@") && !access_name_known("12x"));
	ck_assert(!access_name_known("4294967295") && !access_name_known("-1") &&
	          !access_name_known("+1") && !access_name_known("nobody-of-that-name"));
}
END_TEST

/* ---- quotas ---- */

/* A user in these two groups. */
static void quota_is(uid_t uid, gid_t a, gid_t b, struct quota want, uint32_t key, const char *section)
{
	struct user_groups *groups = user_groups_of_process(a, &b, 1);
	char sections[QUOTA_KEYS][QUOTA_SECTION_MAX];
	struct quota q;

	ck_assert_ptr_nonnull(groups);
	quota_of(&o, uid, groups, &q, sections);
	user_groups_free(groups);
	ck_assert_mem_eq(&q, &want, sizeof(q));
	ck_assert_str_eq(sections[key], section);
}

START_TEST(whose_quota)
{
	struct quota named = { .pages = 300, .caches = 4, .calls = 9 }, all = { .pages = 100, .calls = 9 },
		     group = { .pages = 200, .calls = 9, .sessions = 3 }, q;
	char sections[QUOTA_KEYS][QUOTA_SECTION_MAX];

	ck_assert(!quota_has_groups(&o));
	ck_assert_int_eq(set("user", "pages", "100"), 0);
	ck_assert_int_eq(set("user", "calls", "9"), 0);
	ck_assert_int_eq(set("user 70001", "pages", "300"), 0);
	ck_assert_int_eq(set("user 70001", "caches", "4"), 0);
	ck_assert(!quota_has_groups(&o));
	ck_assert_int_eq(set("group root", "pages", "200"), 0);
	ck_assert_int_eq(set("group root", "sessions", "3"), 0);
	ck_assert_int_eq(set("group 80001", "pages", "250"), 0);
	ck_assert(quota_has_groups(&o));
	quota_is(70002, 7, 8, all, 0, "[user]");
	quota_is(70001, 7, 8, named, 0, "[user 70001]");
	quota_is(70001, 7, 8, named, 4, "[user]");
	/* in a group, by its own or by the way; of two the first one in the file wins */
	quota_is(70002, 0, 8, group, 5, "[group root]");
	quota_is(70002, 7, 0, group, 4, "[user]");
	quota_is(70002, 80001, 0, group, 0, "[group root]");
	quota_is(70002, 80001, 80001, (struct quota){ .pages = 250, .calls = 9 }, 0, "[group 80001]");
	/* a section of its own is before any group */
	quota_is(70001, 0, 80001, named, 0, "[user 70001]");
	/* groups that are not known are none */
	quota_of(&o, 70002, NULL, &q, sections);
	ck_assert_mem_eq(&q, &all, sizeof(q));
}
END_TEST

/* Root is in its group by the user database, which knows no user of that number. */
START_TEST(groups)
{
	gid_t many[2 * USER_GROUPS_MAX];
	struct user_groups *a, *b = NULL;

	for (unsigned int i = 0; i < 2 * USER_GROUPS_MAX; i++)
		many[i] = 2 * USER_GROUPS_MAX - i;
	a = user_groups_of_process(5, many, 3);
	ck_assert_uint_eq(a->n, 4);
	ck_assert(user_groups_have(a, 5) && user_groups_have(a, many[0]) && user_groups_have(a, many[2]));
	ck_assert(!user_groups_have(a, 6) && !user_groups_have(a, many[3]) && !user_groups_have(NULL, 5));
	b = user_groups_of_process(many[2], (gid_t[]){ 5, many[0], 5, many[1] }, 4);
	ck_assert(user_groups_equal(a, b) && user_groups_equal(NULL, NULL));
	ck_assert(!user_groups_equal(a, NULL) && !user_groups_equal(NULL, b));
	user_groups_free(b);
	b = user_groups_of_process(5, many, 2);
	ck_assert(!user_groups_equal(a, b));
	user_groups_free(a);
	user_groups_free(b);
	a = user_groups_of_process(5, many, 2 * USER_GROUPS_MAX);
	ck_assert_uint_eq(a->n, USER_GROUPS_MAX);
	user_groups_free(a);
	a = user_groups_of_process(5, NULL, 0);
	ck_assert(a->n == 1 && user_groups_have(a, 5));
	user_groups_free(a);
	ck_assert_int_eq(user_groups_of_database(&a, 0), 0);
	ck_assert(user_groups_have(a, 0));
	user_groups_free(a);
	ck_assert_int_eq(user_groups_of_database(&a, 4294967000u), -ENOENT);
}
END_TEST

START_TEST(rules_that_are_wrong)
{
	static const struct {
		const char *section, *key, *value, *text;
	} row[] = {
		{ "user nobody-of-that-name", "pages", "1",
		  "line: [user nobody-of-that-name] pages = 1: there is no such user; it takes a name or "
		  "a number\n" },
		{ "group 12x", "pages", "1", "line: [group 12x] pages = 1: there is no such group" },
		{ "user root", "page", "1",
		  "line: page = 1: no key of [user root] is called page; there are pages objects caches" },
		{ "user root", "pages", "many",
		  "line: [user root] pages = many: not allowed; it takes a number" },
		{ "user ", "pages", "1", "line: pages = 1: no section is called [user ]" },
		{ "users root", "pages", "1", "line: pages = 1: no section is called [users root]" },
		{ "user", "grace", "1", "line: grace = 1: no key of [user] is called grace" },
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		ck_assert_int_eq(set(row[i].section, row[i].key, row[i].value), -EINVAL);
		ck_assert_msg(strncmp(said, row[i].text, strlen(row[i].text)) == 0, "%s", said);
	}
	ck_assert_int_eq(set("user root", "pages", "1"), 0);
	ck_assert_int_eq(set("user root", "pages", "2"), -EINVAL);
	ck_assert_str_eq(said, "line: [user root] pages = 2: already set in line 7\n");
	ck_assert_int_eq(set("user 0", "pages", "2"), 0);
	ck_assert_int_eq(options_check(&o), -EINVAL);
	ck_assert_msg(strstr(said, "[user 0]: is the same user as [user root]; one section is enough"),
	              "%s", said);
}
END_TEST

START_TEST(rules_are_copied_and_compared)
{
	struct quota_rules *copy = NULL;

	ck_assert(quota_rules_equal(NULL, NULL));
	ck_assert_int_eq(quota_rules_copy(&copy, NULL), 0);
	ck_assert_ptr_null(copy);
	ck_assert_int_eq(set("user root", "pages", "1"), 0);
	ck_assert(!quota_rules_equal(o.user_rules, NULL));
	ck_assert_int_eq(quota_rules_copy(&copy, o.user_rules), 0);
	ck_assert(quota_rules_equal(o.user_rules, copy));
	/* set in the running daemon: over what the file says */
	ck_assert_int_eq(config_apply(&o, "", OPTIONS_ORIGIN_SET, "user root", "pages", "2", false), 0);
	ck_assert(!quota_rules_equal(o.user_rules, copy));
	ck_assert_int_eq(set("group root", "pages", "1"), 0);
	ck_assert_uint_eq(o.user_rules->n, 2);
	quota_rules_free(copy);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("access");
	TCase *tcase = tcase_create("access");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, nothing_is_said);
	tcase_add_test(tcase, lists);
	tcase_add_test(tcase, rules_that_change);
	tcase_add_test(tcase, names_that_have_gone);
	tcase_add_test(tcase, whose_quota);
	tcase_add_test(tcase, groups);
	tcase_add_test(tcase, rules_that_are_wrong);
	tcase_add_test(tcase, rules_are_copied_and_compared);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
