/* SPDX-License-Identifier: MIT */
/* Objects out and back, for the tests of a space's behaviour: one space, one array of objects. */
#ifndef TESTS_UNIT_TEST_MM_SLAB_OBJECT_H
#define TESTS_UNIT_TEST_MM_SLAB_OBJECT_H

#include "tests/unit/test_mm_slab.h"

static struct test_slab t;
static struct slab_object obj[20000];

static inline void open_with(uint32_t nodes, uint32_t cpus)
{
	struct mm_config c;

	mm_config_default(&c, 16384); /* 64 MiB */
	c.cpus = cpus;
	c.nodes = nodes;
	test_slab_open(&t, &c, 256);
}

static inline void close_space(void)
{
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}

static inline size_t get(struct kmem_cache *c, uint32_t cpu, size_t n, struct slab_object o[])
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = cpu };
	int error = 0;
	size_t got = slab_alloc_bulk(c, &r, n, o, &error);

	ck_assert_int_eq(error, got || !n ? 0 : -ENOMEM);
	return got;
}

static inline void put(const struct slab_object o[], size_t n, uint32_t cpu, bool direct)
{
	for (size_t i = 0; i < n; i++)
		ck_assert(slab_free(&o[i], cpu, direct));
}

static inline struct kmem_cache_stats stats(const struct kmem_cache *c)
{
	struct kmem_cache_stats s;

	kmem_cache_stats(c, &s);
	ck_assert_uint_eq(s.slabs, s.slabs_full + s.slabs_partial + s.slabs_empty);
	ck_assert_uint_eq(s.slabs, s.grown - s.reaped);
	return s;
}

#endif
