/* SPDX-License-Identifier: MIT */
/* What a report printed, and what its JSON says. */
#ifndef TESTS_UNIT_TEST_REPORT_H
#define TESTS_UNIT_TEST_REPORT_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/kmmctl/json.h"

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

static inline int64_t json_int(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	ck_assert_msg(json_object_object_get_ex(o, key, &v), "no key %s", key);
	return json_object_get_int64(v);
}

#endif
