/* SPDX-License-Identifier: MIT */
/* What tests of blocks and objects share: a domain all of whose memory is free at first, and that is
 * sound at the end. */
#ifndef TESTS_UNIT_TEST_SCENE_H
#define TESTS_UNIT_TEST_SCENE_H

#include "tests/unit/test_domain.h"

#include <errno.h>

static struct test_domain t;
static uint64_t all_free;

static inline void scene_setup(void)
{
	td_init(&t);
	all_free = td_free_frames(&t);
	td_check(&t);
}

/* What leaves findings behind ends so. */
static inline void scene_teardown_unchecked(void)
{
	td_fini(&t);
}

static inline void scene_teardown(void)
{
	td_check(&t);
	scene_teardown_unchecked();
}

static inline int64_t charge(const struct session *s)
{
	return atomic_load(&s->charge);
}

/* Its objects', which count for themselves. */
static inline int64_t bytes(const struct session *s)
{
	return atomic_load(&s->object_bytes);
}

#endif
