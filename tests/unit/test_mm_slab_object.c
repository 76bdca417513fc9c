/* SPDX-License-Identifier: MIT */
/*
 * Objects: which zone and node they come from and what is done when that is full; those that somebody
 * wants in particular; the walk over all of them; who wins a free.
 */
#include <check.h>
#include <pthread.h>

#include "tests/suite.h"
#include "tests/unit/test_mm_slab_object.h"

START_TEST(dma_caches_lie_in_their_zones)
{
	struct kmem_cache *c, *d;
	struct mm_config k;
	size_t n;

	mm_config_default(&k, 32768); /* 128 MiB: DMA 16, DMA32 16 more, Normal */
	k.dma32_end = 8192;
	test_slab_open(&t, &k, 64);
	c = test_cache(&t, "dma", 4096, 0, SLAB_CACHE_DMA);
	d = test_cache(&t, "dma32", 4096, 0, SLAB_CACHE_DMA32);
	n = get(c, 0, 20000, obj);
	ck_assert_uint_gt(n, 3000);
	ck_assert_uint_le(n, 4096);
	for (size_t i = 0; i < n; i++)
		ck_assert_uint_lt(obj[i].head, 4096);
	put(obj, n, MM_CPU_NONE, false);
	n = get(d, 0, 20000, obj);
	ck_assert_uint_gt(n, 6000);
	for (size_t i = 0; i < n; i++)
		ck_assert_uint_lt(obj[i].head, 8192);
	put(obj, n, MM_CPU_NONE, false);
	close_space();
}
END_TEST

START_TEST(nodes_serve_who_asks_for_them)
{
	struct mm_request r = { .gfp = GFP_KERNEL };
	struct kmem_cache *c;
	int error = 0;
	size_t n;

	open_with(4, 4); /* 4096 frames each */
	c = test_cache(&t, "c", 1024, 0, SLAB_MEM_SPREAD);
	for (uint32_t node = 0; node < 4; node++) {
		r.cpu = node % 2 ? MM_CPU_NONE : 0;
		r.node = MM_NODE(node);
		ck_assert_uint_eq(slab_alloc_bulk(c, &r, 10, obj + node * 10, &error), 10);
		for (uint32_t i = 0; i < 10; i++)
			ck_assert_uint_eq(obj[node * 10 + i].head / 4096, node);
	}
	/* a cpu's own node, and what comes home from others goes past its magazines */
	r.node = MM_NODE_ANY;
	for (uint32_t cpu = 0; cpu < 4; cpu++) {
		r.cpu = cpu;
		ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, obj + 40 + cpu, &error), 1);
		ck_assert_uint_eq(obj[40 + cpu].head / 4096, cpu);
	}
	put(obj, 44, 2, false);
	for (uint32_t node = 0; node < 4; node++)
		ck_assert_uint_le(c->node[node].free_objects, 24);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	/* only that node */
	r = (struct mm_request){ .gfp = GFP_KERNEL | __GFP_THISNODE, .cpu = MM_CPU_NONE,
		                 .node = MM_NODE(3) };
	n = slab_alloc_bulk(c, &r, 20000, obj, &error);
	ck_assert_uint_lt(n, 20000);
	ck_assert_uint_eq(error, 0);
	for (size_t i = 0; i < n; i++)
		ck_assert_uint_eq(obj[i].head / 4096, 3);
	put(obj, n, MM_CPU_NONE, true);
	/* that one first, then others */
	r.gfp = GFP_KERNEL;
	n = slab_alloc_bulk(c, &r, 20000, obj, &error);
	ck_assert_uint_eq(n, 20000);
	ck_assert_uint_eq(obj[0].head / 4096, 3);
	ck_assert_uint_ne(obj[n - 1].head / 4096, 3);
	put(obj, n, MM_CPU_NONE, false);
	close_space();
}
END_TEST

START_TEST(a_full_node_lets_others_help)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = 1, .node = MM_NODE(1) };
	static struct slab_object more[20000];
	struct kmem_cache *c;
	int error = 0;
	size_t n, other = 0;

	open_with(2, 2); /* 8192 frames each */
	c = test_cache(&t, "c", 4096, 0, 0);
	n = slab_alloc_bulk(c, &r, 20000, obj, &error);
	ck_assert_uint_gt(n, 16000);
	for (size_t i = 0; i < n; i++)
		other += obj[i].head / 8192 == 0;
	ck_assert_uint_gt(other, 7500);
	ck_assert_uint_eq(obj[0].head / 8192, 1);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, more, &error), 0);
	ck_assert_int_eq(error, -ENOMEM);
	/* free objects of the other node, no frame needed */
	for (size_t i = 0; i < n; i++) {
		if (obj[i].head / 8192)
			continue;
		ck_assert(slab_free(&obj[i], 0, false));
		ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, &obj[i], &error), 0);
		break; /* it is in cpu 0's magazine, which only that cpu opens */
	}
	r.cpu = 0;
	r.node = MM_NODE(0);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, more, &error), 1);
	ck_assert(slab_free(&more[0], MM_CPU_NONE, false));
	r.cpu = 1;
	r.node = MM_NODE(1);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, more, &error), 1);
	ck_assert_uint_eq(more[0].head / 8192, 0);
	close_space();
}
END_TEST

START_TEST(the_last_objects_come_from_the_magazines)
{
	struct kmem_cache *c;
	size_t n;

	open_with(1, 1);
	c = test_cache(&t, "c", 4096, 0, 0);
	n = get(c, 0, 20000, obj);
	ck_assert_uint_gt(n, 15000);
	put(obj, 20, 0, false);
	ck_assert_uint_eq(stats(c).in_cpu, 20);
	ck_assert_uint_eq(get(c, 0, 500, obj), 20);
	ck_assert_uint_eq(get(c, 0, 500, obj + n), 0);
	put(obj, n, MM_CPU_NONE, false);
	close_space();
}
END_TEST

START_TEST(requests_that_make_no_sense)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = 2 };
	struct kmem_cache *c;
	int error = 0;

	open_with(2, 2);
	c = test_cache(&t, "c", 64, 0, 0);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, obj, &error), 0);
	ck_assert_int_eq(error, -EINVAL);
	r.cpu = 0;
	r.node = MM_NODE(2);
	error = 0;
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1, obj, &error), 0);
	ck_assert_int_eq(error, -EINVAL);
	/* zone, mobility, order and tag of the request do not count */
	r = (struct mm_request){ .gfp = GFP_KERNEL | __GFP_DMA | __GFP_DMA32 | __GFP_MOVABLE |
		                        __GFP_RECLAIMABLE,
		                 .order = 99,
		                 .tag = MM_TAG_MAX };
	error = 0;
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 5, obj, &error), 5);
	ck_assert_int_eq(error, 0);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 0, obj, &error), 0);
	ck_assert_int_eq(error, 0);
	put(obj, 5, 0, false);
	close_space();
}
END_TEST

START_TEST(what_clients_say_of_blocks_does_not_touch_slabs)
{
	struct mm_block b;
	struct kmem_cache *c;

	open_with(1, 1);
	c = test_cache(&t, "c", 64, 0, SLAB_RECLAIM_ACCOUNT);
	ck_assert_uint_eq(get(c, 0, 1, obj), 1);
	ck_assert(!mm_block_get(t.pool.mm, obj[0].head, &b));
	ck_assert(!mm_block_take(t.pool.mm, obj[0].head, &b));
	ck_assert(!mm_block_retag(t.pool.mm, obj[0].head, 0, 1));
	put(obj, 1, 0, false);
	close_space();
}
END_TEST

/* ---- some of them ---- */

static bool odd_slot(void *ctx, const struct slab_object *o)
{
	++*(uint32_t *)ctx;
	return o->slot % 2;
}

START_TEST(wanted_objects_are_looked_for_among_the_free)
{
	uint32_t looked = 0;
	struct kmem_cache *c;

	open_with(1, 1);
	c = test_cache(&t, "c", 512, 0, 0);
	ck_assert_uint_eq(slab_alloc_some(c, 4, obj, odd_slot, &looked, 100), 0);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 80, obj), 80);
	put(obj, 40, MM_CPU_NONE, false);
	/* 5 empty slabs: 20 odd slots */
	ck_assert_uint_eq(slab_alloc_some(c, 12, obj, odd_slot, &looked, 1000), 12);
	for (uint32_t i = 0; i < 12; i++)
		ck_assert_uint_eq(obj[i].slot % 2, 1);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	ck_assert_uint_eq(stats(c).objects_out, 52);
	looked = 0;
	ck_assert_uint_le(slab_alloc_some(c, 12, obj + 12, odd_slot, &looked, 3), 3);
	ck_assert_uint_eq(looked, 3);
	/* and an empty slab that was needed is no sign of too many */
	put(obj + 40, 40, MM_CPU_NONE, false);
	for (uint32_t i = 0; i < 4; i++)
		slab_tick(t.space);
	ck_assert_uint_eq(slab_alloc_some(c, 12, obj, odd_slot, &looked, 1000), 12);
	looked = (uint32_t)stats(c).slabs_empty;
	for (uint32_t i = 0; i < 4; i++)
		slab_tick(t.space);
	ck_assert_uint_eq(stats(c).slabs_empty, looked);
	close_space();
}
END_TEST

static bool none(void *ctx, const struct slab_object *o)
{
	uint8_t *seen = ctx;

	seen[o->head]++;
	return false;
}

START_TEST(looking_in_vain_goes_on_elsewhere_the_next_time)
{
	uint8_t *seen = calloc(16384, 1);
	uint32_t slabs = 0;
	struct kmem_cache *c;

	open_with(1, 1);
	c = test_cache(&t, "c", 512, 0, 0);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 80, obj), 80);
	for (uint32_t i = 0; i < 80; i += 2)
		put(obj + i, 1, MM_CPU_NONE, false); /* ten partial ones, four free each */
	for (uint32_t i = 0; i < 10; i++)
		ck_assert_uint_eq(slab_alloc_some(c, 1, obj, none, seen, 4), 0);
	for (uint32_t i = 0; i < 16384; i++)
		slabs += seen[i] == 4;
	ck_assert_uint_eq(slabs, 10);
	free(seen);
	close_space();
}
END_TEST

/* ---- walking ---- */

struct seen {
	uint32_t nr, out;
	uint8_t *word;
};

static void see(void *ctx, const struct slab_object *o, bool out)
{
	struct seen *s = ctx;

	ck_assert_uint_eq(s->word[o->word], 0);
	s->word[o->word] = 1;
	s->nr++;
	s->out += out;
}

START_TEST(a_walk_tells_each_object_once)
{
	struct seen s = { .word = calloc(16384, 128) };
	struct kmem_cache *c, *d;

	open_with(2, 2);
	c = test_cache(&t, "c", 24, 0, 0);   /* 170 a slab */
	d = test_cache(&t, "d", 9000, 0, 0); /* 1 */
	ck_assert_uint_eq(get(c, 0, 600, obj), 600);
	ck_assert_uint_eq(get(d, 1, 7, obj + 600), 7);
	put(obj, 100, MM_CPU_NONE, false);
	slab_walk(t.space, NULL, see, &s);
	ck_assert_uint_eq(s.nr, 4 * 170 + stats(d).objects);
	ck_assert_uint_eq(s.out, 507);
	memset(s.word, 0, 16384 * 128);
	s.nr = s.out = 0;
	slab_walk(t.space, c, see, &s);
	ck_assert_uint_eq(s.nr, 4 * 170);
	ck_assert_uint_eq(s.out, 500);
	memset(s.word, 0, 16384 * 128);
	s.nr = s.out = 0;
	ck_assert(slab_walk_one(t.space, obj[600].head, see, &s));
	ck_assert_uint_eq(s.nr, 1);
	ck_assert(!slab_walk_one(t.space, obj[600].head + 1, see, &s));
	ck_assert(!slab_walk_one(t.space, UINT32_MAX, see, &s));
	free(s.word);
	close_space();
}
END_TEST

/* ---- who wins ---- */

START_TEST(a_place_that_became_anothers_is_not_freed)
{
	struct slab_object old, now;
	struct kmem_cache *c, *d;
	uint32_t tries = 0;

	open_with(1, 1);
	c = test_cache(&t, "c", 64, 0, 0);
	d = test_cache(&t, "d", 96, 0, 0);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 1, &old), 1);
	ck_assert(slab_free(&old, MM_CPU_NONE, true)); /* its slab is gone */
	ck_assert_uint_eq(stats(c).slabs, 0);
	/* the same owner word is out again, for an object of another cache */
	do {
		ck_assert_uint_eq(get(d, MM_CPU_NONE, 1, &now), 1);
		obj[tries] = now;
	} while (now.word != old.word && ++tries < 10000);
	ck_assert_uint_eq(now.word, old.word);
	ck_assert(!slab_free(&old, MM_CPU_NONE, false));
	ck_assert(slab_out_bit(t.space, now.word));
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	/* nor by a description that never was right */
	for (uint32_t i = 0; i < 6; i++) {
		struct slab_object o = now;

		switch (i) {
		case 0: o.cache = c; break;
		case 1: o.slot++; break;
		case 2: o.head = UINT32_MAX; break;
		case 3: o.word = UINT32_MAX; break;
		case 4: o.address += 8; break;
		default: o.slot = 5000; break;
		}
		ck_assert(!slab_free(&o, MM_CPU_NONE, false));
		ck_assert_uint_eq(test_slab_findings(&t), 0);
	}
	ck_assert(slab_free(&now, MM_CPU_NONE, false));
	close_space();
}
END_TEST

static _Atomic uint32_t wins, ready;

static void *free_all(void *ctx)
{
	uint32_t cpu = (uint32_t)(uintptr_t)ctx;

	ready++;
	while (ready < 3)
		;
	for (uint32_t i = 0; i < 5000; i++)
		wins += slab_free(&obj[i], cpu, false);
	return NULL;
}

START_TEST(of_several_frees_one_wins)
{
	struct kmem_cache *c;
	pthread_t thread[3];

	open_with(1, 3);
	c = test_cache(&t, "c", 200, 0, 0);
	for (uint32_t round = 0; round < 20; round++) {
		ck_assert_uint_eq(get(c, MM_CPU_NONE, 5000, obj), 5000);
		wins = ready = 0;
		for (uintptr_t i = 0; i < 3; i++)
			ck_assert_int_eq(pthread_create(&thread[i], NULL, free_all, (void *)i), 0);
		for (uint32_t i = 0; i < 3; i++)
			pthread_join(thread[i], NULL);
		ck_assert_uint_eq(wins, 5000);
		ck_assert_uint_eq(test_slab_findings(&t), 0);
	}
	close_space();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_slab_object");
	TCase *c = tcase_create("objects");

	tcase_set_timeout(c, 120);
	tcase_add_test(c, dma_caches_lie_in_their_zones);
	tcase_add_test(c, nodes_serve_who_asks_for_them);
	tcase_add_test(c, a_full_node_lets_others_help);
	tcase_add_test(c, the_last_objects_come_from_the_magazines);
	tcase_add_test(c, requests_that_make_no_sense);
	tcase_add_test(c, what_clients_say_of_blocks_does_not_touch_slabs);
	tcase_add_test(c, wanted_objects_are_looked_for_among_the_free);
	tcase_add_test(c, looking_in_vain_goes_on_elsewhere_the_next_time);
	tcase_add_test(c, a_walk_tells_each_object_once);
	tcase_add_test(c, a_place_that_became_anothers_is_not_freed);
	tcase_add_test(c, of_several_frees_one_wins);
	suite_add_tcase(s, c);
	return suite_status(s);
}
