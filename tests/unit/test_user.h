/* SPDX-License-Identifier: MIT */
/* What the tests of user.c share: users by uid in a domain in ordinary memory. */
#ifndef TESTS_UNIT_TEST_USER_H
#define TESTS_UNIT_TEST_USER_H

#include "tests/unit/test_scene.h"

#define ALICE 1000u
#define BOB 1001u
#define PAGE_BYTES 4096u

static inline struct user *user_of(uid_t uid)
{
	struct user *u = user_get(t.kmmd.users, uid);

	ck_assert_ptr_nonnull(u);
	user_put(u); /* the table keeps it */
	return u;
}

static inline uint64_t used(uid_t uid, enum user_count what)
{
	struct user_usage u;

	user_usage(user_of(uid), &u);
	return u.used[what];
}

#endif
