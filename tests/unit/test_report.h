/* SPDX-License-Identifier: MIT */
/* What a report printed, and what its JSON says. */
#ifndef TESTS_UNIT_TEST_REPORT_H
#define TESTS_UNIT_TEST_REPORT_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/json.h"

/* A saved file of a Linux machine. */
static inline FILE *open_data(const char *name)
{
	const char *srcdir = getenv("KMM_SRCDIR");
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/data/%s", srcdir ? srcdir : ".", name);
	f = fopen(path, "re");
	if (!f)
		ck_abort_msg("%s: %s", path, strerror(errno));
	return f;
}

struct capture {
	FILE *out;
	char *text;
	size_t size;
};

static inline FILE *capture_start(struct capture *c)
{
	c->out = open_memstream(&c->text, &c->size);
	ck_assert_ptr_nonnull(c->out);
	return c->out;
}

/* What was printed, to be freed. */
static inline char *capture_end(struct capture *c)
{
	ck_assert_int_eq(fclose(c->out), 0);
	return c->text;
}

static inline void assert_printed(struct capture *c, const char *expected)
{
	char *printed = capture_end(c);

	ck_assert_str_eq(printed, expected);
	free(printed);
}

/* name(0) to name(n - 1) are there, and no more. */
static inline void assert_names(const char *(*name)(size_t i), size_t n)
{
	for (size_t i = 0; i < n; i++)
		ck_assert_ptr_nonnull(name(i));
	ck_assert_ptr_null(name(n));
}

static inline struct json_object *json_member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	ck_assert_msg(json_object_object_get_ex(o, key, &v), "no key %s", key);
	return v;
}

static inline int64_t json_int(struct json_object *o, const char *key)
{
	return json_object_get_int64(json_member(o, key));
}

#endif
