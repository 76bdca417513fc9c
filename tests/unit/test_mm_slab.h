/* SPDX-License-Identifier: MIT */
/* A pool with a slab space, for the tests of the slab layer that link libmm only. The caller's side
 * (owner words, descriptors) is played by counters that notice what must not happen. */
#ifndef TESTS_UNIT_TEST_MM_SLAB_H
#define TESTS_UNIT_TEST_MM_SLAB_H

#include "mm/slab_private.h"
#include "tests/unit/test_mm.h"

struct test_slab {
	struct test_pool pool;
	struct slab_memory memory; /* persistent, as is pool.memory */
	struct slab_space *space;
	/* what the operations saw; atomic: several threads */
	_Atomic uint64_t opened, closed; /* owner words */
	_Atomic uint64_t born, dying;
	_Atomic uint64_t misuse;  /* calls that make no sense */
	_Atomic uint8_t *open;    /* by page of 512 words */
	_Atomic uint8_t *is_slab; /* by head frame */
	_Atomic uint32_t refuse;  /* words_open says -ENOMEM */
	uint64_t out; /* so many objects at least are out of the cache whose slab is dying */
};

static inline int test_words_open(void *ctx, uint32_t first, uint32_t n)
{
	struct test_slab *t = ctx;

	if (t->refuse)
		return -ENOMEM;
	if (first % 512 || n % 512 || n == 0 || first + (uint64_t)n > t->memory.words)
		t->misuse++;
	for (uint32_t i = first / 512; i < (first + n) / 512; i++)
		if (t->open[i]++)
			t->misuse++;
	t->opened += n;
	return 0;
}

static inline void test_words_close(void *ctx, uint32_t first, uint32_t n)
{
	struct test_slab *t = ctx;

	for (uint32_t i = first / 512; i < (first + n) / 512; i++)
		if (t->open[i]-- != 1)
			t->misuse++;
	t->closed += n;
}

static inline void test_born(void *ctx, const struct slab_about *a)
{
	struct test_slab *t = ctx;

	if (t->is_slab[a->head]++ || !t->open[a->first_word / 512] ||
	    atomic_load(&t->memory.slab[a->head]) != 0)
		t->misuse++;
	t->born++;
}

static inline void test_dying(void *ctx, const struct slab_about *a)
{
	struct test_slab *t = ctx;
	struct kmem_cache_stats s;

	kmem_cache_stats(a->cache, &s);
	if (s.objects_out < t->out || t->is_slab[a->head]-- != 1 || atomic_load(&t->memory.slab[a->head]) == 0)
		t->misuse++;
	t->dying++;
}

static const struct slab_ops test_slab_ops = {
	.words_open = test_words_open,
	.words_close = test_words_close,
	.born = test_born,
	.dying = test_dying,
};

static inline void *test_zeroed(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

static inline void test_slab_space_start(struct test_slab *t)
{
	if (slab_space_new(&t->space, t->pool.mm, t->pool.domain, &t->memory, &test_slab_ops, t))
		abort();
}

static inline void test_slab_prepare(struct test_slab *t, const struct mm_config *c, uint32_t caches)
{
	memset(t, 0, sizeof(*t));
	test_pool_prepare(&t->pool, c);
	t->memory.caches = caches;
	t->memory.words = c->frames * 128;
	t->memory.cache = test_zeroed(caches * sizeof(struct cache_record));
	t->memory.slab = test_zeroed(c->frames * 8);
	t->memory.out = test_zeroed(t->memory.words / 8);
	t->open = test_zeroed(t->memory.words / 512);
	t->is_slab = test_zeroed(c->frames);
}

static inline void test_slab_open(struct test_slab *t, const struct mm_config *c, uint32_t caches)
{
	test_slab_prepare(t, c, caches);
	test_pool_start(&t->pool);
	test_pool_online(&t->pool);
	test_slab_space_start(t);
}

static inline bool test_slab_keep(void *ctx, pfn_t pfn, const struct mm_block *b)
{
	struct test_slab *t = ctx;

	return !b->slab || slab_present(t->space, pfn);
}

/* The process dies and another begins: 0, or what recovery said. */
static inline int test_slab_restart(struct test_slab *t, slab_judge_fn judge, mm_report_fn report)
{
	int err;

	t->space = slab_space_free(t->space);
	test_pool_stop(&t->pool);
	test_pool_start(&t->pool);
	test_slab_space_start(t);
	err = slab_space_recover(t->space, judge, report, t);
	/* pages that were open without a slab are as good as closed now */
	for (uint32_t first = 0; first < t->memory.words; first += 512) {
		t->open[first / 512] = 0;
		for (uint32_t i = 0; first < slab_words_end(t->space->words) && i < 512; i++)
			t->open[first / 512] |= slab_words_used(t->space->words, first + i, 1);
	}
	return err ? err : mm_domain_recover(t->pool.domain, test_slab_keep, report, t);
}

static inline void test_slab_close(struct test_slab *t)
{
	t->space = slab_space_free(t->space);
	test_pool_close(&t->pool);
	free(t->memory.cache);
	free((void *)t->memory.slab);
	free((void *)t->memory.out);
	free((void *)t->open);
	free((void *)t->is_slab);
}

/* Findings of both validators, and of the operations. */
static inline size_t test_slab_findings(struct test_slab *t)
{
	if (t->misuse)
		fprintf(stderr, "  %llu calls that make no sense\n", (unsigned long long)t->misuse);
	return slab_validate(t->space, test_report, NULL) +
	       mm_validate(t->pool.domain, test_report, NULL) + t->misuse;
}

static inline struct kmem_cache *test_cache(struct test_slab *t, const char *name, uint64_t size,
                                            uint64_t align, uint32_t flags)
{
	struct cache_request q = { name, size, align, flags, flags, false };
	struct kmem_cache *c = NULL;
	const char *why = "";

	if (kmem_cache_create(t->space, &q, 1, &c, &why)) {
		fprintf(stderr, "  cache %s: %s\n", name, why);
		abort();
	}
	return c;
}

#endif
