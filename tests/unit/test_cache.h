/* SPDX-License-Identifier: MIT */
/*
 * Caches in the domain of test_domain.h.
 */
#ifndef TESTS_UNIT_TEST_CACHE_H
#define TESTS_UNIT_TEST_CACHE_H

#include <errno.h>

#include "daemon/cache_private.h"
#include "daemon/object.h"
#include "tests/unit/test_domain.h"

static inline int tc_create(struct test_domain *t, struct session *s, const char *name,
                            uint64_t size, uint32_t flags, uint32_t *id, uint64_t *life,
                            const char **why)
{
	return cache_create(t->d, s, name, size, 0, flags, false, id, life, why);
}

/* One that must work. */
static inline uint32_t tc_new(struct test_domain *t, struct session *s, const char *name,
                              uint64_t size)
{
	const char *why = "";
	uint64_t life = 0;
	uint32_t id = 0;
	int r = tc_create(t, s, name, size, 0, &id, &life, &why);

	ck_assert_msg(r == 0, "%s: %d %s", name, r, why);
	ck_assert_uint_gt(id, CACHE_BUILTIN_MAX);
	ck_assert_uint_ne(life, 0);
	return id;
}

static inline uint64_t tc_life(struct test_domain *t, uint32_t id)
{
	return kmem_cache_life(cache_by_id(t->d, id)->slab);
}

static inline int tc_destroy(struct test_domain *t, struct session *s, uint32_t id, bool *removed,
                             const char **why)
{
	return cache_destroy(t->d, s, id, tc_life(t, id), removed, why);
}

static inline uint64_t tc_out(struct test_domain *t, uint32_t id)
{
	struct kmem_cache_stats s;

	kmem_cache_stats(cache_by_id(t->d, id)->slab, &s);
	return s.objects_out;
}

/* ---- a domain with two sessions ---- */

static struct test_domain t;
static struct session *a, *b;

static inline void tc_setup(void)
{
	td_init(&t);
	a = td_session(&t, "parser");
	b = td_session(&t, "writer");
}

/* The daemon dies; the sessions are the same, their structures are not. */
static inline void tc_restart(void)
{
	uint32_t x = a->id, y = b->id;

	td_restart(&t);
	a = session_by_id(t.kmmd.sessions, x);
	b = session_by_id(t.kmmd.sessions, y);
}

static inline void tc_teardown(void)
{
	td_check(&t);
	td_fini(&t);
}

#endif
