/* SPDX-License-Identifier: MIT */
/*
 * Caches: creation, names, ids, order, the differences that are named, the end; and runs of owner
 * words (slab_words.c), which only slabs of many sizes exercise.
 */
#include <check.h>

#include "tests/suite.h"
#include "tests/unit/test_mm_slab.h"

static struct test_slab t;

static void open_space(uint32_t caches)
{
	struct mm_config c;

	mm_config_default(&c, 16384); /* 64 MiB */
	c.cpus = 2;
	test_slab_open(&t, &c, caches);
}

static void close_space(void)
{
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}

START_TEST(what_was_created_is_found)
{
	struct kmem_cache *a, *b;
	const struct cache_record *r;

	open_space(64);
	ck_assert_ptr_null(kmem_cache_find(t.space, "a"));
	a = test_cache(&t, "a", 100, 0, SLAB_HWCACHE_ALIGN);
	b = test_cache(&t, "b", 200, 32, SLAB_RECLAIM_ACCOUNT);
	ck_assert_ptr_eq(kmem_cache_find(t.space, "a"), a);
	ck_assert_ptr_eq(kmem_cache_find(t.space, "b"), b);
	ck_assert_ptr_null(kmem_cache_find(t.space, "c"));
	ck_assert_uint_eq(kmem_cache_id(a), 1);
	ck_assert_uint_eq(kmem_cache_id(b), 2);
	ck_assert_ptr_eq(kmem_cache_by_id(t.space, 1), a);
	ck_assert_ptr_eq(kmem_cache_by_id(t.space, 2), b);
	ck_assert_ptr_null(kmem_cache_by_id(t.space, 0));
	ck_assert_ptr_null(kmem_cache_by_id(t.space, 3));
	ck_assert_ptr_null(kmem_cache_by_id(t.space, 64));
	ck_assert_ptr_null(kmem_cache_by_id(t.space, UINT32_MAX));
	ck_assert_uint_gt(kmem_cache_life(b), kmem_cache_life(a));
	r = kmem_cache_record(b);
	ck_assert_str_eq(r->name, "b");
	ck_assert_uint_eq(r->flags, SLAB_RECLAIM_ACCOUNT);
	ck_assert_uint_eq(r->created, 1);
	ck_assert_uint_eq(kmem_cache_geometry(b)->stride, 224);
	close_space();
}
END_TEST

START_TEST(the_same_again_is_that_cache_and_others_are_told_apart)
{
	static const struct {
		uint64_t size, align;
		uint32_t flags;
		bool ctor;
		const char *why; /* NULL: the same */
	} again[] = {
		{ 100, 0, SLAB_RECLAIM_ACCOUNT, false, NULL },
		{ 100, 8, SLAB_RECLAIM_ACCOUNT, false, NULL }, /* what 0 means */
		{ 101, 0, SLAB_RECLAIM_ACCOUNT, false, "objects of 100 bytes, not 101" },
		{ 100, 64, SLAB_RECLAIM_ACCOUNT, false, "alignment 8, not 64" },
		{ 100, 0, SLAB_PANIC, false, "flags 0x20000, not 0x40000" },
		/* it changes the alignment, too: what the caller wrote is named */
		{ 100, 0, SLAB_RECLAIM_ACCOUNT | SLAB_HWCACHE_ALIGN, false,
		  "flags 0x20000, not 0x22000: without SLAB_HWCACHE_ALIGN" },
		{ 100, 0, SLAB_PANIC, false, "with SLAB_RECLAIM_ACCOUNT, without SLAB_PANIC" },
		{ 100, 0, SLAB_RECLAIM_ACCOUNT, true, "without a constructor" },
	};
	struct kmem_cache *a;

	open_space(64);
	a = test_cache(&t, "a", 100, 0, SLAB_RECLAIM_ACCOUNT);
	for (uint32_t i = 0; i < sizeof(again) / sizeof(again[0]); i++) {
		/* flags that the configuration adds are no difference */
		struct cache_request q = { "a", again[i].size, again[i].align,
			                   again[i].flags | SLAB_POISON, again[i].flags,
			                   again[i].ctor };
		struct kmem_cache *c = NULL;
		const char *why = NULL;

		ck_assert_int_eq(kmem_cache_create(t.space, &q, 9, &c, &why), -EEXIST);
		if (again[i].why) {
			ck_assert_ptr_null(c);
			ck_assert_msg(strstr(why, again[i].why), "'%s' lacks '%s'", why,
			              again[i].why);
		} else {
			ck_assert_ptr_eq(c, a);
		}
	}
	close_space();
}
END_TEST

START_TEST(ids_are_used_again_the_longest_free_first)
{
	struct cache_request q = { "x", 8, 0, 0, 0, false };
	struct kmem_cache *c[4], *x = NULL;
	const char *why = "";
	uint64_t out, life;

	open_space(5); /* ids 1 to 4 */
	c[0] = test_cache(&t, "c0", 8, 0, 0);
	c[1] = test_cache(&t, "c1", 16, 0, 0);
	c[2] = test_cache(&t, "c2", 24, 0, 0);
	c[3] = test_cache(&t, "c3", 32, 0, 0);
	ck_assert_int_eq(kmem_cache_create(t.space, &q, 1, &x, &why), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "4 caches"));
	ck_assert_ptr_null(x);
	life = kmem_cache_life(c[3]);
	ck_assert_int_eq(kmem_cache_destroy(c[2], &out), 0);
	ck_assert_int_eq(kmem_cache_destroy(c[0], &out), 0);
	ck_assert_ptr_null(kmem_cache_by_id(t.space, 1));
	ck_assert_ptr_null(kmem_cache_find(t.space, "c0"));
	x = test_cache(&t, "x", 2100, 0, 0);
	ck_assert_uint_eq(kmem_cache_id(x), 3);
	ck_assert_uint_eq(kmem_cache_life(x), life + 1);
	ck_assert_uint_eq(kmem_cache_geometry(x)->stride, 2104);
	x = test_cache(&t, "y", 8, 0, 0);
	ck_assert_uint_eq(kmem_cache_id(x), 1);
	close_space();
}
END_TEST

START_TEST(the_order_of_creation_is_kept)
{
	struct kmem_cache *c[5], *at;
	uint64_t out;
	char name[8];

	open_space(64);
	ck_assert_ptr_null(kmem_cache_next(t.space, NULL));
	for (uint32_t i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		c[i] = test_cache(&t, name, 8, 0, 0);
	}
	at = NULL;
	for (uint32_t i = 5; i-- > 0;) {
		at = kmem_cache_next(t.space, at);
		ck_assert_ptr_eq(at, c[i]);
	}
	ck_assert_ptr_null(kmem_cache_next(t.space, at));
	/* one goes while the walk is at it */
	ck_assert_int_eq(kmem_cache_destroy(c[2], &out), 0);
	ck_assert_ptr_eq(kmem_cache_next(t.space, c[3]), c[1]);
	ck_assert_ptr_eq(kmem_cache_next(t.space, c[2]), c[1]);
	ck_assert_int_eq(kmem_cache_destroy(c[4], &out), 0);
	ck_assert_ptr_eq(kmem_cache_next(t.space, NULL), c[3]);
	ck_assert_int_eq(kmem_cache_destroy(c[0], &out), 0);
	ck_assert_ptr_null(kmem_cache_next(t.space, c[1]));
	close_space();
}
END_TEST

START_TEST(a_cache_with_objects_out_does_not_end)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = 1 };
	struct slab_object o[10];
	struct kmem_cache *c;
	uint64_t out = 77, frames;
	int error = 0;

	open_space(64);
	frames = test_pool_free_frames(&t.pool);
	c = test_cache(&t, "c", 500, 0, 0);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 10, o, &error), 10);
	for (uint32_t i = 3; i < 10; i++)
		ck_assert(slab_free(&o[i], 1, false));
	ck_assert_int_eq(kmem_cache_destroy(c, &out), -EBUSY);
	ck_assert_uint_eq(out, 3);
	/* it goes on as before */
	ck_assert_ptr_eq(kmem_cache_find(t.space, "c"), c);
	ck_assert_ptr_eq(kmem_cache_by_id(t.space, 1), c);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, o + 3, &error), 1);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	for (uint32_t i = 0; i < 4; i++)
		ck_assert(slab_free(&o[i], i % 2 ? 1 : MM_CPU_NONE, false));
	ck_assert_int_eq(kmem_cache_destroy(c, &out), 0);
	ck_assert_uint_eq(slab_frames(t.space), 0);
	ck_assert_uint_eq(t.born, t.dying);
	ck_assert_uint_eq(test_pool_free_frames(&t.pool), frames);
	/* what somebody kept is refused */
	ck_assert(!slab_free(&o[0], 0, false));
	close_space();
}
END_TEST

/* Who is to end a cache looks how many objects are out, also while magazines are given back: what
 * goes from a magazine to its slab is never counted twice, so that none that is out is overlooked.
 */
START_TEST(what_is_out_is_not_overlooked_meanwhile)
{
	struct mm_request r = { .gfp = GFP_KERNEL };
	struct slab_object o[60];
	struct kmem_cache_stats s;
	struct kmem_cache *c;
	int error;

	open_space(64);
	c = test_cache(&t, "c", 8192, 0, 0);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 60, o, &error), 60);
	for (t.out = 60; t.out > 20;) {
		t.out--;
		ck_assert(slab_free(&o[t.out], 0, false)); /* full magazines go back */
	}
	ck_assert_uint_gt(t.dying, 0);
	t.dying = 0;
	for (uint32_t i = 0; i < 40; i++)
		slab_tick_cpu(t.space, 0); /* idle ones too */
	ck_assert_uint_gt(t.dying, 0);
	kmem_cache_stats(c, &s);
	ck_assert_uint_eq(s.in_cpu, 0);
	ck_assert_uint_eq(s.objects_out, 20);
	t.out = 0;
	for (uint32_t i = 0; i < 20; i++)
		ck_assert(slab_free(&o[i], 0, true));
	close_space();
}
END_TEST

START_TEST(a_thousand_caches)
{
	char name[16];
	uint64_t out;

	open_space(4096);
	for (uint32_t i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "cache-%u", i);
		test_cache(&t, name, 8 + i, 0, 0);
	}
	for (uint32_t i = 0; i < 3000; i += 3) {
		snprintf(name, sizeof(name), "cache-%u", i);
		ck_assert_int_eq(kmem_cache_destroy(kmem_cache_find(t.space, name), &out), 0);
	}
	for (uint32_t i = 0; i < 3000; i++) {
		struct kmem_cache *c;

		snprintf(name, sizeof(name), "cache-%u", i);
		c = kmem_cache_find(t.space, name);
		ck_assert_int_eq(c != NULL, i % 3 != 0);
		if (c)
			ck_assert_uint_eq(kmem_cache_geometry(c)->size, 8 + i);
	}
	close_space();
}
END_TEST

/* ---- owner words ---- */

START_TEST(runs_are_aligned_apart_and_given_back)
{
	struct slab_words *w;
	static uint32_t first[4096 * 8], n[4096 * 8];
	static uint8_t taken[4096 * 8];
	uint32_t nr = 0;
	uint64_t random = 88172645463325252ull, used = 0;

	open_space(8);
	ck_assert_int_eq(slab_words_new(&w, 4096 * 8, &test_slab_ops, &t), 0);
	for (uint32_t step = 0; step < 200000; step++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (random % 1000 < (step / 5000 % 2 ? 350 : 650)) {
			uint32_t size = 1u << (random >> 20) % 10, at;

			if (slab_words_get(w, size, &at)) {
				/* the space is used up, as far as runs of that size go */
				ck_assert_uint_gt(used + size, 4096 * 8 / 4);
				continue;
			}
			ck_assert_uint_eq(at % size, 0);
			ck_assert(slab_words_used(w, at, size));
			for (uint32_t k = 0; k < size; k++)
				ck_assert(!taken[at + k]++);
			first[nr] = at;
			n[nr++] = size;
			used += size;
		} else if (nr) {
			uint32_t i = (uint32_t)(random >> 32) % nr;

			memset(taken + first[i], 0, n[i]);
			slab_words_put(w, first[i], n[i]);
			used -= n[i];
			first[i] = first[--nr];
			n[i] = n[nr];
		}
		if (step % 100 == 0) {
			ck_assert_uint_eq(slab_words_count(w), used);
			ck_assert_ptr_null(slab_words_nonsense(w));
			for (uint32_t i = 0; step % 10000 == 0 && i < 4096 * 8; i++)
				ck_assert_int_eq(slab_words_used(w, i, 1), taken[i]);
		}
	}
	while (nr--)
		slab_words_put(w, first[nr], n[nr]);
	ck_assert_ptr_null(slab_words_nonsense(w));
	/* one page stays open */
	ck_assert_uint_eq(t.opened - t.closed, 512);
	ck_assert_uint_eq(t.misuse, 0);
	slab_words_free(w);
	close_space();
}
END_TEST

START_TEST(a_border_is_not_crossed_each_time)
{
	struct slab_words *w;
	uint32_t a, b;

	open_space(8);
	ck_assert_int_eq(slab_words_new(&w, 4096, &test_slab_ops, &t), 0);
	ck_assert_int_eq(slab_words_get(w, 512, &a), 0);
	for (uint32_t i = 0; i < 100; i++) {
		ck_assert_int_eq(slab_words_get(w, 64, &b), 0);
		slab_words_put(w, b, 64);
	}
	ck_assert_uint_eq(t.opened, 1024);
	ck_assert_uint_eq(t.closed, 0);
	/* the second one to become free goes */
	slab_words_put(w, a, 512);
	ck_assert_uint_eq(t.closed, 512);
	/* and what was closed is used first */
	ck_assert_int_eq(slab_words_get(w, 512, &a), 0);
	ck_assert_int_eq(slab_words_get(w, 512, &b), 0);
	ck_assert_uint_lt(a, 1024);
	ck_assert_uint_lt(b, 1024);
	slab_words_free(w);
	close_space();
}
END_TEST

START_TEST(small_runs_fill_pages_before_others_are_opened)
{
	struct slab_words *w;
	uint32_t at;

	open_space(8);
	ck_assert_int_eq(slab_words_new(&w, 4096, &test_slab_ops, &t), 0);
	for (uint32_t i = 0; i < 64; i++)
		ck_assert_int_eq(slab_words_get(w, 8, &at), 0);
	ck_assert_uint_eq(t.opened, 512);
	for (uint32_t i = 0; i < 7; i++)
		ck_assert_int_eq(slab_words_get(w, 512, &at), 0);
	ck_assert_int_eq(slab_words_get(w, 8, &at), -ENOMEM);
	slab_words_put(w, 64, 8);
	t.refuse = 1; /* no page needs to be opened for this one */
	ck_assert_int_eq(slab_words_get(w, 8, &at), 0);
	ck_assert_uint_eq(at, 64);
	slab_words_put(w, 512, 512);
	slab_words_put(w, 1024, 512);
	ck_assert_int_eq(slab_words_get(w, 512, &at), 0); /* the one that stayed open */
	ck_assert_int_eq(slab_words_get(w, 512, &at), -ENOMEM);
	t.refuse = 0;
	ck_assert_int_eq(slab_words_get(w, 512, &at), 0);
	ck_assert_ptr_null(slab_words_nonsense(w));
	slab_words_free(w);
	close_space();
}
END_TEST

START_TEST(runs_below_eight_share_pages_of_their_own)
{
	uint32_t at, large, small[128];
	struct slab_words *w;

	open_space(8);
	ck_assert_int_eq(slab_words_new(&w, 1024, &test_slab_ops, &t), 0);
	ck_assert_int_eq(slab_words_get(w, 8, &large), 0);
	for (uint32_t i = 0; i < 128; i++)
		ck_assert_int_eq(slab_words_get(w, 1, &small[i]), 0);
	/* 8 words, and two pages of 64 beside them */
	ck_assert_uint_eq(t.opened, 512);
	ck_assert_uint_eq(slab_words_count(w), 8 + 128);
	ck_assert(!slab_words_used(w, large + 8, 1));
	for (uint32_t i = 0; i < 128; i++)
		ck_assert_uint_ne(small[i] / 64, large / 64);
	/* two neighbours make room for a pair, four for a run of four */
	for (uint32_t i = 0; i < 4; i++)
		slab_words_put(w, small[0] / 64 * 64 + 20 + i, 1);
	ck_assert(!slab_words_used(w, small[0] / 64 * 64 + 20, 4));
	ck_assert_int_eq(slab_words_get(w, 2, &at), 0);
	ck_assert_uint_eq(at / 2, (small[0] / 64 * 64 + 20) / 2);
	slab_words_put(w, at, 2);
	ck_assert_int_eq(slab_words_get(w, 4, &at), 0);
	ck_assert_uint_eq(at, small[0] / 64 * 64 + 20);
	ck_assert(slab_words_used(w, at, 4));
	ck_assert(slab_words_used(w, at - 4, 8));
	ck_assert_ptr_null(slab_words_nonsense(w));
	/* the last one of a page gives it back to larger runs */
	slab_words_put(w, at, 4);
	for (uint32_t i = 0; i < 128; i++)
		if (small[i] < at || small[i] >= at + 4)
			slab_words_put(w, small[i], 1);
	ck_assert_uint_eq(slab_words_count(w), 8);
	ck_assert_ptr_null(slab_words_nonsense(w));
	ck_assert_int_eq(slab_words_get(w, 256, &at), 0);
	ck_assert_int_eq(slab_words_get(w, 128, &at), 0);
	ck_assert_uint_eq(t.opened, 512);
	/* no page, no single word */
	ck_assert_int_eq(slab_words_get(w, 512, &at), 0);
	ck_assert_int_eq(slab_words_get(w, 64, &at), 0);
	at = 7;
	ck_assert_int_eq(slab_words_get(w, 1, &at), -ENOMEM);
	ck_assert_uint_eq(at, 7);
	ck_assert_ptr_null(slab_words_nonsense(w));
	slab_words_free(w);
	close_space();
}
END_TEST

START_TEST(a_refused_page_refuses_small_runs_too)
{
	struct slab_words *w;
	uint32_t at;

	open_space(8);
	ck_assert_int_eq(slab_words_new(&w, 4096, &test_slab_ops, &t), 0);
	t.refuse = 1;
	for (uint32_t n = 1; n <= 512; n *= 2)
		ck_assert_int_eq(slab_words_get(w, n, &at), -ENOMEM);
	ck_assert_uint_eq(slab_words_count(w), 0);
	ck_assert_ptr_null(slab_words_nonsense(w));
	t.refuse = 0;
	for (uint32_t n = 1; n <= 512; n *= 2)
		ck_assert_int_eq(slab_words_get(w, n, &at), 0);
	ck_assert_uint_eq(slab_words_count(w), 1023);
	ck_assert_ptr_null(slab_words_nonsense(w));
	slab_words_free(w);
	close_space();
}
END_TEST

START_TEST(reserved_runs_must_be_runs_and_apart)
{
	struct slab_words *w;
	uint32_t at;

	open_space(8);
	ck_assert_int_eq(slab_words_new(&w, 4096, &test_slab_ops, &t), 0);
	ck_assert(slab_words_reserve(w, 1024, 64));
	ck_assert(slab_words_reserve(w, 1024 + 64, 64));
	ck_assert(!slab_words_reserve(w, 1024, 128));     /* overlaps */
	ck_assert(!slab_words_reserve(w, 1024 + 72, 8));  /* inside another */
	ck_assert(!slab_words_reserve(w, 8, 16));         /* not aligned */
	ck_assert(!slab_words_reserve(w, 0, 24));         /* no power of two */
	ck_assert(!slab_words_reserve(w, 0, 0));          /* nothing */
	ck_assert(!slab_words_reserve(w, 0, 1024));       /* too large */
	ck_assert(!slab_words_reserve(w, 4096, 8));       /* outside */
	slab_words_ready(w);
	ck_assert_ptr_null(slab_words_nonsense(w));
	ck_assert_uint_eq(slab_words_count(w), 128);
	ck_assert_uint_eq(slab_words_end(w), 1536);
	ck_assert_int_eq(slab_words_get(w, 256, &at), 0);
	ck_assert_uint_eq(at, 1024 + 256);
	ck_assert_int_eq(slab_words_get(w, 256, &at), 0);
	ck_assert_uint_eq(at, 0);
	slab_words_reset(w);
	ck_assert_uint_eq(slab_words_count(w), 0);
	slab_words_free(w);
	test_slab_close(&t);
}
END_TEST

START_TEST(small_runs_are_reserved_beside_large_ones)
{
	struct slab_words *w;
	uint32_t at;

	open_space(8);
	ck_assert_int_eq(slab_words_new(&w, 4096, &test_slab_ops, &t), 0);
	for (uint32_t again = 0; again < 2; again++) {
		ck_assert(slab_words_reserve(w, 512 + 64, 1));
		ck_assert(slab_words_reserve(w, 512 + 66, 2));
		ck_assert(slab_words_reserve(w, 512 + 68, 4));
		ck_assert(slab_words_reserve(w, 512 + 128, 8));
		ck_assert(slab_words_reserve(w, 4095, 1));
		ck_assert(!slab_words_reserve(w, 512 + 64, 1));  /* twice */
		ck_assert(!slab_words_reserve(w, 512 + 64, 4));  /* overlaps */
		ck_assert(!slab_words_reserve(w, 512 + 69, 1));  /* inside another */
		ck_assert(!slab_words_reserve(w, 512 + 65, 2));  /* not aligned */
		ck_assert(!slab_words_reserve(w, 512 + 72, 8));  /* among small ones */
		ck_assert(!slab_words_reserve(w, 512, 512));     /* above them */
		ck_assert(!slab_words_reserve(w, 512 + 129, 1)); /* inside a large one */
		ck_assert(!slab_words_reserve(w, 512 + 136, 1)); /* beside it: no page of its own */
		ck_assert(!slab_words_reserve(w, 4096, 1));      /* outside */
		slab_words_ready(w);
		ck_assert_ptr_null(slab_words_nonsense(w));
		ck_assert_uint_eq(slab_words_count(w), 1 + 2 + 4 + 8 + 1);
		ck_assert_uint_eq(slab_words_end(w), 4096);
		ck_assert(slab_words_used(w, 512 + 66, 2));
		ck_assert(!slab_words_used(w, 512 + 64, 2));
		ck_assert(!slab_words_used(w, 512 + 64, 8));
		/* the hole is found */
		for (uint32_t i = 0; i < 2 * 63 - 6; i++) {
			ck_assert_int_eq(slab_words_get(w, 1, &at), 0);
			ck_assert(at / 64 == 512 / 64 + 1 || at / 64 == 63);
		}
		ck_assert_ptr_null(slab_words_nonsense(w));
		ck_assert(slab_words_used(w, 512 + 64, 64));
		ck_assert_uint_eq(t.opened, 0);
		slab_words_reset(w);
		ck_assert_uint_eq(slab_words_count(w), 0);
		ck_assert(!slab_words_used(w, 512 + 64, 1));
	}
	slab_words_free(w);
	test_slab_close(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_slab_cache");
	TCase *c = tcase_create("cache");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, what_was_created_is_found);
	tcase_add_test(c, the_same_again_is_that_cache_and_others_are_told_apart);
	tcase_add_test(c, ids_are_used_again_the_longest_free_first);
	tcase_add_test(c, the_order_of_creation_is_kept);
	tcase_add_test(c, a_cache_with_objects_out_does_not_end);
	tcase_add_test(c, what_is_out_is_not_overlooked_meanwhile);
	tcase_add_test(c, a_thousand_caches);
	tcase_add_test(c, runs_are_aligned_apart_and_given_back);
	tcase_add_test(c, a_border_is_not_crossed_each_time);
	tcase_add_test(c, small_runs_fill_pages_before_others_are_opened);
	tcase_add_test(c, runs_below_eight_share_pages_of_their_own);
	tcase_add_test(c, a_refused_page_refuses_small_runs_too);
	tcase_add_test(c, reserved_runs_must_be_runs_and_apart);
	tcase_add_test(c, small_runs_are_reserved_beside_large_ones);
	suite_add_tcase(s, c);
	return suite_status(s);
}
