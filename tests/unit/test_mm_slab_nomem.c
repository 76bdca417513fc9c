/* SPDX-License-Identifier: MIT */
/*
 * The slab layer when memory runs out: each allocation of ordinary memory that it makes is failed in
 * turn, alone and with all that follow; the caller refuses owner words; the pool has no frames. What
 * was begun is undone, what is left works, and with memory again everything works again.
 *
 * The C library's allocator is replaced by one that counts and fails on demand; sanitizers bring
 * their own, so in their builds the failures are not injected and the rest still holds.
 */
#include <check.h>

#include "tests/suite.h"
#include "tests/unit/test_mm_slab.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define INJECT 1
#else
#define INJECT 0
#endif

static long countdown = -1; /* allocations until the failure; -1: none */
static bool persistent;     /* and all after it */
static bool failed;

#if INJECT
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_memalign(size_t align, size_t size);

static bool fails(void)
{
	if (countdown < 0)
		return false;
	if (countdown > 0) {
		countdown--;
		return false;
	}
	if (!persistent)
		countdown = -1;
	failed = true;
	return true;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : __libc_memalign(align, size);
}
#endif

static struct test_slab t;
static struct slab_object obj[40000];

static void open_space(void)
{
	struct mm_config c;

	mm_config_default(&c, 4096); /* 16 MiB */
	c.cpus = 2;
	test_slab_open(&t, &c, 64);
}

static void close_space(void)
{
	countdown = -1;
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}

/* Fails the nth allocation from now on and all after it, in a build that can. The test framework
 * allocates too: nothing may be asserted until memory_is_back(). */
static void memory_ends(long nth)
{
	persistent = true;
	countdown = INJECT ? nth : -1;
}

static void memory_is_back(void)
{
	countdown = -1;
}

static size_t get(struct kmem_cache *c, uint32_t cpu, size_t n, struct slab_object o[])
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = cpu };
	int error = 0;
	size_t got = slab_alloc_bulk(c, &r, n, o, &error);

	return error == (got ? 0 : -ENOMEM) ? got : SIZE_MAX;
}

START_TEST(a_space_that_cannot_be_is_not)
{
	long n;

	open_space();
	t.space = slab_space_free(t.space);
	for (n = 0; INJECT; n++) {
		struct slab_space *s = (struct slab_space *)1;
		int err;

		failed = false;
		persistent = _i;
		countdown = n;
		err = slab_space_new(&s, t.pool.mm, t.pool.domain, &t.memory, &test_slab_ops, &t);
		countdown = -1;
		if (!failed) {
			ck_assert_int_eq(err, 0);
			slab_space_free(s);
			break;
		}
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_ptr_eq(s, (struct slab_space *)1);
	}
	if (INJECT)
		ck_assert_int_ge(n, 9);
	test_slab_space_start(&t);
	close_space();
}
END_TEST

START_TEST(a_cache_that_cannot_be_is_not)
{
	struct cache_request q = { "c", 24, 0, 0, 0, false };
	struct kmem_cache *c;
	const char *why = NULL;
	long n;

	open_space();
	for (n = 0; INJECT; n++) {
		int err;

		c = NULL;
		failed = false;
		persistent = _i;
		countdown = n;
		err = kmem_cache_create(t.space, &q, 1, &c, &why);
		countdown = -1;
		if (!failed) {
			ck_assert_int_eq(err, 0);
			break;
		}
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_ptr_nonnull(why);
		ck_assert_ptr_null(c);
		ck_assert_ptr_null(kmem_cache_find(t.space, "c"));
		ck_assert_ptr_null(kmem_cache_by_id(t.space, 1));
		ck_assert_uint_eq(test_slab_findings(&t), 0);
	}
	if (INJECT) {
		ck_assert_int_eq(n, 3);
		ck_assert_uint_eq(kmem_cache_id(c), 1); /* no id was lost */
	}
	close_space();
}
END_TEST

START_TEST(without_maps_no_slab)
{
	struct kmem_cache *c;
	uint64_t frames;

	open_space();
	c = test_cache(&t, "c", 24, 0, 0); /* 170 a slab: its map is ordinary memory */
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 1, obj), 1);
	ck_assert(slab_free(&obj[0], MM_CPU_NONE, true));
	frames = test_pool_free_frames(&t.pool);
	if (INJECT) {
		size_t n;

		memory_ends(0);
		n = get(c, MM_CPU_NONE, 100, obj);
		memory_is_back();
		ck_assert_uint_eq(n, 0);
		ck_assert_uint_eq(test_pool_free_frames(&t.pool), frames);
		ck_assert_uint_eq(slab_frames(t.space), 0);
		ck_assert_uint_eq(test_slab_findings(&t), 0);
		/* the second of three slabs cannot be: what there is is given */
		memory_ends(1);
		n = get(c, MM_CPU_NONE, 500, obj);
		memory_is_back();
		ck_assert_uint_eq(n, 170);
		ck_assert_uint_eq(get(c, MM_CPU_NONE, 330, obj + 170), 330);
	}
	close_space();
}
END_TEST

START_TEST(without_magazines_objects_go_to_the_slabs)
{
	struct kmem_cache_stats s;
	struct kmem_cache *c;
	size_t freed = 0, got = 0;

	open_space();
	c = test_cache(&t, "c", 64, 0, 0);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 200, obj), 200);
	memory_ends(0);
	for (uint32_t i = 0; i < 100; i++)
		freed += slab_free(&obj[i], 0, false);
	for (uint32_t i = 0; i < 50; i++)
		got += get(c, 0, 1, &obj[i]);
	memory_is_back();
	ck_assert_uint_eq(freed, 100);
	ck_assert_uint_eq(got, 50);
	kmem_cache_stats(c, &s);
	ck_assert_uint_eq(s.objects_out, 150);
	if (INJECT)
		ck_assert_uint_eq(s.in_cpu, 0);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	ck_assert_uint_eq(get(c, 0, 1, &obj[50]), 1);
	kmem_cache_stats(c, &s);
	ck_assert_uint_gt(s.in_cpu, 0);
	close_space();
}
END_TEST

START_TEST(words_that_are_refused_undo_the_slab)
{
	struct kmem_cache *c;
	uint64_t frames;

	open_space();
	frames = test_pool_free_frames(&t.pool);
	c = test_cache(&t, "c", 8, 0, 0); /* 512 words a slab */
	t.refuse = 1;
	for (uint32_t i = 0; i < 3; i++) {
		ck_assert_uint_eq(get(c, i % 2 ? 0 : MM_CPU_NONE, 10, obj), 0);
		ck_assert_uint_eq(test_pool_free_frames(&t.pool), frames);
		ck_assert_uint_eq(test_slab_findings(&t), 0);
	}
	ck_assert_uint_eq(t.born, 0);
	t.refuse = 0;
	ck_assert_uint_eq(get(c, 0, 1000, obj), 1000);
	close_space();
}
END_TEST

START_TEST(a_pool_without_frames)
{
	struct kmem_cache *c, *d;
	size_t n, m;

	open_space();
	c = test_cache(&t, "c", 4096, 0, 0);
	d = test_cache(&t, "d", 2100, 0, 0);
	n = get(c, 0, 40000, obj);
	ck_assert_uint_gt(n, 3500);
	ck_assert_uint_eq(get(d, 0, 3, obj + n), 0);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	for (size_t i = 0; i < 200; i++)
		ck_assert(slab_free(&obj[i], 0, true));
	m = get(d, 0, 40000 - n, obj + n);
	ck_assert_uint_gt(m, 3);
	ck_assert_uint_le(m, 300);
	close_space();
}
END_TEST

START_TEST(owner_words_run_out)
{
	struct mm_config k;
	struct kmem_cache *c;
	size_t n;

	mm_config_default(&k, 4096);
	test_slab_prepare(&t, &k, 64);
	t.memory.words = 4096;
	test_pool_start(&t.pool);
	test_pool_online(&t.pool);
	test_slab_space_start(&t);
	c = test_cache(&t, "c", 64, 0, 0);
	n = get(c, MM_CPU_NONE, 40000, obj);
	ck_assert_uint_eq(n, 4096);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 1, obj + n), 0);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	for (size_t i = 0; i < n; i++)
		ck_assert(slab_free(&obj[i], MM_CPU_NONE, true));
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 40000, obj), 4096);
	close_space();
}
END_TEST

START_TEST(a_recovery_that_cannot_be_can_be_done_again)
{
	struct kmem_cache *c;
	long n;

	open_space();
	c = test_cache(&t, "c", 24, 0, 0);
	test_cache(&t, "d", 64, 0, 0);
	ck_assert_uint_eq(get(c, MM_CPU_NONE, 400, obj), 400);
	t.space = slab_space_free(t.space);
	test_slab_space_start(&t);
	for (n = 0; INJECT; n++) {
		int err;

		failed = false;
		persistent = _i;
		countdown = n;
		err = slab_space_recover(t.space, NULL, test_report, NULL);
		countdown = -1;
		if (!failed) {
			ck_assert_int_eq(err, 0);
			break;
		}
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_uint_eq(slab_frames(t.space), 0);
		ck_assert_ptr_null(kmem_cache_find(t.space, "c"));
	}
	/* one by one it got on: structures of ids that it made before are used again */
	if (INJECT)
		ck_assert_int_ge(n, 4);
	else
		ck_assert_int_eq(slab_space_recover(t.space, NULL, test_report, NULL), 0);
	c = kmem_cache_find(t.space, "c");
	ck_assert_ptr_nonnull(c);
	for (uint32_t i = 0; i < 400; i++) {
		obj[i].cache = c;
		ck_assert(slab_free(&obj[i], 0, false));
	}
	close_space();
}
END_TEST

START_TEST(the_validator_says_that_it_could_not)
{
	size_t n = 0, findings;

	open_space();
	memory_ends(0);
	findings = slab_validate(t.space, test_count, &n);
	memory_is_back();
	ck_assert_uint_eq(findings, INJECT);
	ck_assert_uint_eq(n, INJECT);
	close_space();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_slab_nomem");
	TCase *c = tcase_create("nomem");

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, a_space_that_cannot_be_is_not, 0, 2);
	tcase_add_loop_test(c, a_cache_that_cannot_be_is_not, 0, 2);
	tcase_add_test(c, without_maps_no_slab);
	tcase_add_test(c, without_magazines_objects_go_to_the_slabs);
	tcase_add_test(c, words_that_are_refused_undo_the_slab);
	tcase_add_test(c, a_pool_without_frames);
	tcase_add_test(c, owner_words_run_out);
	tcase_add_loop_test(c, a_recovery_that_cannot_be_can_be_done_again, 0, 2);
	tcase_add_test(c, the_validator_says_that_it_could_not);
	suite_add_tcase(s, c);
	return suite_status(s);
}
