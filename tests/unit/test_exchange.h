/* SPDX-License-Identifier: MIT */
/*
 * What the tests of objects in magazines share: two sessions, a cache of 64-byte objects, and the
 * client's half of an exchange.
 */
#ifndef TESTS_UNIT_TEST_EXCHANGE_H
#define TESTS_UNIT_TEST_EXCHANGE_H

#include "tests/unit/test_scene.h"

static struct session *a, *b;
static struct cache *c;
static uint32_t out[MAGAZINE_ROUNDS_MAX];

static inline void setup(void)
{
	scene_setup();
	a = td_session(&t, "a");
	b = td_session(&t, "b");
	c = td_cache(&t, a, "things", 64, false);
	td_check(&t);
}

static inline uint64_t objects_out(void)
{
	struct kmem_cache_stats n;

	kmem_cache_stats(c->slab, &n);
	return n.objects_out;
}

static inline uint64_t in_depot(void)
{
	struct depot_count n;

	depot_count_cache(t.d->depot, c->id, &n);
	return n.rounds;
}

static inline int take(struct session *s, uint32_t rounds, magazine_id_t *m, uint32_t *n)
{
	const char *why = "";

	return exchange_take_objects(c, s, 0, GFP_KERNEL, false, rounds, m, n, &why);
}

/* That many objects, HELD, in out[]; the magazine stays with s. */
static inline magazine_id_t take_held(struct session *s, uint32_t rounds)
{
	magazine_id_t m;
	uint32_t n;

	ck_assert_int_eq(take(s, rounds, &m, &n), 0);
	ck_assert_uint_eq(n, rounds);
	ck_assert_uint_eq(td_take_objects(&t, s, m, out), rounds);
	return m;
}

static inline uint32_t give(struct session *s, magazine_id_t m, uint32_t *listed)
{
	uint32_t accepted;

	exchange_give(t.d, s, 0, m, &accepted, listed);
	return accepted;
}

static inline void check_all_free(void)
{
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	ck_assert_uint_eq(objects_out(), 0);
	td_check(&t);
}

#endif
