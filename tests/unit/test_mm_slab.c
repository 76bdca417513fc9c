/* SPDX-License-Identifier: MIT */
/*
 * Slabs: where objects lie in them, on which lists they are, what magazines and empty slabs keep and
 * what goes back.
 */
#include <check.h>

#include "tests/suite.h"
#include "tests/unit/test_mm_slab_object.h"

START_TEST(objects_are_apart_aligned_and_found)
{
	static const uint32_t sizes[] = { 8, 24, 64, 96, 200, 640, 2100, 4096, 9000, 65536 };
	struct slab_object o;
	struct kmem_cache *c;
	bool out;

	open_with(1, 2);
	c = test_cache(&t, "c", sizes[_i], 0, _i % 2 ? SLAB_RED_ZONE : SLAB_HWCACHE_ALIGN);
	size_t n = sizes[_i] > 4096 ? 50 : 2000;
	const struct slab_geometry *g = kmem_cache_geometry(c);

	ck_assert_uint_eq(get(c, 0, n, obj), n);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	for (size_t i = 0; i < n; i++) {
		uint64_t head = (uint64_t)obj[i].head << PAGE_SHIFT;

		ck_assert_ptr_eq(obj[i].cache, c);
		ck_assert_uint_lt(obj[i].slot, g->objects);
		ck_assert_uint_eq(obj[i].address % g->align, 0);
		ck_assert_uint_ge(obj[i].address, head);
		ck_assert_uint_le(obj[i].address + g->size, head + (4096ull << g->order));
		ck_assert(slab_object_at(t.space, obj[i].address, &o, &out));
		ck_assert(out);
		ck_assert_uint_eq(o.word, obj[i].word);
		ck_assert_uint_eq(o.slot, obj[i].slot);
		ck_assert_uint_eq(o.head, obj[i].head);
		/* neither a byte before nor inside is an object */
		ck_assert(!slab_object_at(t.space, obj[i].address - 1, &o, &out));
		ck_assert(!slab_object_at(t.space, obj[i].address + 1, &o, &out));
		if (g->size > 8)
			ck_assert(!slab_object_at(t.space, obj[i].address + 8, &o, &out));
		ck_assert(slab_present(t.space, obj[i].head));
	}
	put(obj, n, 1, false);
	for (size_t i = 0; i < n; i++) {
		ck_assert(!slab_free(&obj[i], 1, false));
		if (slab_object_at(t.space, obj[i].address, &o, &out))
			ck_assert(!out);
	}
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	ck_assert(!slab_object_at(t.space, UINT64_MAX, &o, &out));
	ck_assert(!slab_object_at(t.space, 16384ull << PAGE_SHIFT, &o, &out));
	close_space();
}
END_TEST

START_TEST(lists_follow_what_is_free)
{
	struct kmem_cache_stats s;
	struct kmem_cache *c;

	open_with(1, 1);
	c = test_cache(&t, "c", 512, 0, 0); /* 8 a slab */
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 20, obj), 20);
	s = stats(c);
	ck_assert_uint_eq(s.slabs_full, 2);
	ck_assert_uint_eq(s.slabs_partial, 1);
	ck_assert_uint_eq(s.slabs_empty, 0);
	ck_assert_uint_eq(s.objects, 24);
	ck_assert_uint_eq(s.objects_out, 20);
	ck_assert_uint_eq(s.in_cpu, 0);
	put(obj + 16, 4, MM_CPU_NONE, false);
	ck_assert_uint_eq(stats(c).slabs_empty, 1);
	put(obj, 1, MM_CPU_NONE, false);
	s = stats(c);
	ck_assert_uint_eq(s.slabs_full, 1);
	ck_assert_uint_eq(s.slabs_partial, 1);
	ck_assert_uint_eq(s.slabs_empty, 1);
	/* partial ones first */
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 1, obj), 1);
	s = stats(c);
	ck_assert_uint_eq(s.slabs_full, 2);
	ck_assert_uint_eq(s.slabs_empty, 1);
	ck_assert_uint_eq(slab_frames(t.space), 3);
	ck_assert_uint_eq(slab_frames_reclaimable(t.space), 0);
	put(obj, 16, MM_CPU_NONE, false);
	close_space();
}
END_TEST

START_TEST(empty_slabs_are_kept_to_the_bound)
{
	struct kmem_cache_stats s;
	struct kmem_cache *c;
	uint64_t limit = (1 + 2) * 27 + 8; /* (1 + cpus) * batch + objects of a slab */

	open_with(1, 2);
	c = test_cache(&t, "c", 512, 0, 0);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 800, obj), 800);
	put(obj, 800, MM_CPU_NONE, false);
	s = stats(c);
	ck_assert_uint_le(s.slabs_empty * 8, limit);
	ck_assert_uint_gt(s.slabs_empty * 8, limit - 8);
	ck_assert_uint_eq(s.slabs, s.slabs_empty);
	ck_assert_uint_eq(s.reaped, 100 - s.slabs_empty);
	ck_assert_uint_eq(slab_frames(t.space), s.slabs);
	/* a direct free leaves none */
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 1, obj), 1);
	put(obj, 1, 0, true);
	ck_assert_uint_eq(stats(c).slabs, 0);
	ck_assert_uint_eq(slab_frames(t.space), 0);
	close_space();
}
END_TEST

START_TEST(shrinking_gives_back_what_it_says)
{
	struct kmem_cache *c, *d;
	uint64_t frames;

	open_with(1, 2);
	frames = test_pool_free_frames(&t.pool);
	c = test_cache(&t, "c", 2100, 0, 0); /* order 1 */
	d = test_cache(&t, "d", 8, 0, SLAB_RECLAIM_ACCOUNT);
	ck_assert_uint_eq(get(c, 0, 30, obj), 30);
	put(obj, 30, 0, false);
	ck_assert_uint_eq(get(c, 1, 3, obj), 3);
	put(obj, 3, 1, false);
	ck_assert_uint_gt(stats(c).in_cpu, 0);
	/* cpu 1's magazines hold objects of some slabs; those of cpu 0 go first */
	slab_shrink(c, 0, 2);
	ck_assert_uint_eq(stats(c).slabs_empty, 2);
	slab_shrink(c, 0, 0);
	ck_assert_uint_eq(stats(c).slabs_empty, 0);
	ck_assert_uint_gt(slab_shrink(c, 1, 0), 0);
	ck_assert_uint_eq(stats(c).slabs, 0);
	ck_assert_uint_eq(get(d, 0, 600, obj), 600);
	ck_assert_uint_eq(slab_frames_reclaimable(t.space), 2);
	put(obj, 600, MM_CPU_NONE, false);
	/* 1024 free ones were more than the bound: one slab went at once */
	ck_assert_uint_eq(slab_shrink_all(t.space, MM_CPU_NONE), 1);
	ck_assert_uint_eq(slab_frames(t.space), 0);
	ck_assert_uint_eq(slab_frames_reclaimable(t.space), 0);
	ck_assert_uint_eq(test_pool_free_frames(&t.pool), frames);
	close_space();
}
END_TEST

/* A cpu gives what it caches, and leaves the empty slabs that may stay to who has the time. */
START_TEST(draining_a_cpu_empties_its_magazines)
{
	struct kmem_cache *c, *d;

	open_with(1, 2);
	c = test_cache(&t, "c", 2100, 0, 0);
	d = test_cache(&t, "d", 64, 0, 0);
	for (uint32_t cpu = 0; cpu < 2; cpu++) {
		ck_assert_uint_eq(get(c, cpu, 5, obj), 5);
		put(obj, 5, cpu, false);
		ck_assert_uint_eq(get(d, cpu, 20, obj), 20);
		put(obj, 20, cpu, false);
	}
	slab_drain_cpu(t.space, 0);
	ck_assert_uint_gt(stats(c).in_cpu, 0);
	ck_assert_uint_gt(stats(d).in_cpu, 0);
	slab_drain_cpu(t.space, 1);
	ck_assert_uint_eq(stats(c).in_cpu, 0);
	ck_assert_uint_eq(stats(d).in_cpu, 0);
	ck_assert_uint_gt(stats(d).slabs_empty, 0);
	ck_assert_uint_eq(stats(d).slabs_empty, stats(d).slabs);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	close_space();
}
END_TEST

START_TEST(colours_go_round)
{
	const struct slab_geometry *g;
	struct kmem_cache *c;

	open_with(1, 1);
	c = test_cache(&t, "c", 2100, 0, 0);
	g = kmem_cache_geometry(c);
	ck_assert_uint_eq(g->colours, 29);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 3 * 60, obj), 3 * 60);
	for (uint32_t i = 0; i < 60; i++) {
		struct slab_object first;
		struct slab_about a;

		ck_assert(slab_about_at(t.space, obj[i * 3].head, &a));
		ck_assert_uint_eq(a.colour, i % 29);
		ck_assert_ptr_eq(a.cache, c);
		slab_object_of(&a, 0, &first);
		ck_assert_uint_eq(first.address, ((uint64_t)a.head << 12) + i % 29 * 64);
		ck_assert_uint_eq(first.word, a.first_word + (i % 29 * 64 >> 11));
	}
	put(obj, 3 * 60, MM_CPU_NONE, false);
	close_space();
}
END_TEST

START_TEST(magazines_hold_half_the_limit_each)
{
	struct kmem_cache_stats s;
	struct kmem_cache *c;

	open_with(1, 2);
	c = test_cache(&t, "c", 64, 0, 0); /* limit 120 */
	ck_assert_uint_eq(get(c, 0, 1, obj), 1);
	s = stats(c);
	ck_assert_uint_eq(s.limit, 120);
	ck_assert_uint_eq(s.batchcount, 60);
	ck_assert_uint_eq(s.in_cpu, 59); /* one refill, one taken */
	ck_assert_uint_eq(s.objects_out, 1);
	/* a large request goes past them */
	ck_assert_uint_eq(get(c, 0, 400, obj + 1), 400);
	ck_assert_uint_eq(stats(c).in_cpu, 59);
	put(obj, 61, 0, false);
	ck_assert_uint_eq(stats(c).in_cpu, 120);
	put(obj + 61, 1, 0, false);
	ck_assert_uint_eq(stats(c).in_cpu, 61); /* one magazine went */
	/* to and fro over the border: nothing moves but between the two */
	for (uint32_t i = 0; i < 100; i++) {
		ck_assert_uint_eq(get(c, 0, 2, obj), 2);
		put(obj, 2, 0, false);
	}
	ck_assert_uint_eq(stats(c).in_cpu, 61);
	/* the other cpu has its own */
	ck_assert_uint_eq(get(c, 1, 5, obj), 5);
	ck_assert_uint_eq(stats(c).in_cpu, 61 + 55);
	put(obj, 5, 0, false);
	put(obj + 62, 339, MM_CPU_NONE, false);
	ck_assert_uint_eq(stats(c).objects_out, 0);
	close_space();
}
END_TEST

START_TEST(idle_magazines_go_back_by_fifths)
{
	struct kmem_cache *c;

	open_with(1, 1);
	c = test_cache(&t, "c", 64, 0, 0);
	ck_assert_uint_eq(get(c, 0, 150, obj), 150);
	put(obj, 120, 0, false);
	ck_assert_uint_eq(stats(c).in_cpu, 120);
	slab_tick_cpu(t.space, 0);
	slab_tick_cpu(t.space, 0);
	ck_assert_uint_eq(stats(c).in_cpu, 120);
	slab_tick_cpu(t.space, 0);
	ck_assert_uint_eq(stats(c).in_cpu, 96);
	slab_tick_cpu(t.space, 0);
	ck_assert_uint_eq(stats(c).in_cpu, 96);
	slab_tick_cpu(t.space, 0);
	ck_assert_uint_eq(stats(c).in_cpu, 72);
	/* use keeps them */
	ck_assert_uint_eq(get(c, 0, 1, obj), 1);
	put(obj, 1, 0, false);
	slab_tick_cpu(t.space, 0);
	slab_tick_cpu(t.space, 0);
	ck_assert_uint_eq(stats(c).in_cpu, 72);
	for (uint32_t i = 0; i < 40; i++)
		slab_tick_cpu(t.space, 0);
	ck_assert_uint_eq(stats(c).in_cpu, 0);
	put(obj + 120, 30, 0, true);
	close_space();
}
END_TEST

START_TEST(unused_empty_slabs_go_back_by_and_by)
{
	struct kmem_cache *c;
	uint64_t before;

	open_with(1, 2);
	c = test_cache(&t, "c", 512, 0, 0);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 88, obj), 88);
	put(obj, 88, MM_CPU_NONE, false);
	before = stats(c).slabs_empty;
	ck_assert_uint_eq(before, 11);
	for (uint32_t i = 0; i < 4; i++)
		slab_tick(t.space); /* it was used since the last time */
	ck_assert_uint_eq(stats(c).slabs_empty, before);
	for (uint32_t i = 0; i < 4; i++)
		slab_tick(t.space);
	/* (89 + 5 * 8 - 1) / (5 * 8) = 3 */
	ck_assert_uint_eq(stats(c).slabs_empty, before - 3);
	for (uint32_t i = 0; i < 40; i++)
		slab_tick(t.space);
	ck_assert_uint_eq(stats(c).slabs_empty, 0);
	close_space();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_slab");
	TCase *c = tcase_create("slabs");

	tcase_set_timeout(c, 120);
	tcase_add_loop_test(c, objects_are_apart_aligned_and_found, 0, 10);
	tcase_add_test(c, lists_follow_what_is_free);
	tcase_add_test(c, empty_slabs_are_kept_to_the_bound);
	tcase_add_test(c, shrinking_gives_back_what_it_says);
	tcase_add_test(c, draining_a_cpu_empties_its_magazines);
	tcase_add_test(c, colours_go_round);
	tcase_add_test(c, magazines_hold_half_the_limit_each);
	tcase_add_test(c, idle_magazines_go_back_by_fifths);
	tcase_add_test(c, unused_empty_slabs_go_back_by_and_by);
	suite_add_tcase(s, c);
	return suite_status(s);
}
