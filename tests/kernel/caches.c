/* SPDX-License-Identifier: MIT */
/*
 * Caches of objects, with and without a constructor, and with the constructors of older kernels.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

struct request {
	int state;
	char data[300];
	struct request *next;
};

#define REQUEST_IDLE 42

static struct kmem_cache *request_cache;
static unsigned int constructed;

/* Runs once for each object; who frees one leaves it so. */
static void request_construct(void *object)
{
	struct request *r = (struct request *)object;

	r->state = REQUEST_IDLE;
	r->next = NULL;
	constructed++;
}

static int __init request_init(void)
{
	request_cache = kmem_cache_create("request", sizeof(struct request), 0, SLAB_HWCACHE_ALIGN,
					  request_construct);
	if (!request_cache)
		return -ENOMEM;
	return 0;
}

static void __exit request_exit(void)
{
	kmem_cache_destroy(request_cache);
}

/* ---- the tests ---- */

START_TEST(with_a_constructor)
{
	struct request *r[50];
	unsigned int i, round;

	constructed = 0;
	ck_assert_int_eq(request_init(), 0);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < ARRAY_SIZE(r); i++) {
			r[i] = kmem_cache_alloc(request_cache, GFP_KERNEL);
			ck_assert_ptr_nonnull(r[i]);
			ck_assert_int_eq(r[i]->state, REQUEST_IDLE);
			ck_assert_uint_eq((unsigned long)r[i] % 64, 0);
			r[i]->state = 1;
		}
		for (i = 0; i < ARRAY_SIZE(r); i++) {
			r[i]->state = REQUEST_IDLE;
			kmem_cache_free(request_cache, r[i]);
		}
	}
	/* not at each allocation */
	ck_assert_uint_ge(constructed, ARRAY_SIZE(r));
	ck_assert_uint_lt(constructed, 3 * ARRAY_SIZE(r));
	request_exit();
	kernel_is_clean();
}
END_TEST

static struct kmem_cache *constructed_for;
static unsigned long constructor_flags;

/* As in Linux 2.6.23 and 2.6.24: the cache first. */
static void construct_of_2_6_24(struct kmem_cache *cachep, void *object)
{
	constructed_for = cachep;
	request_construct(object);
}

/* As before: the object first, and a flag. */
static void construct_of_2_6_22(void *object, struct kmem_cache *cachep, unsigned long flags)
{
	constructed_for = cachep;
	constructor_flags = flags;
	request_construct(object);
}

START_TEST(with_constructors_of_older_kernels)
{
	struct kmem_cache *c;
	struct request *r;

	c = _i ? kmem_cache_create("old", sizeof(struct request), 0, 0, construct_of_2_6_22)
	       : kmem_cache_create("old", sizeof(struct request), 0, 0, construct_of_2_6_24);
	ck_assert_ptr_nonnull(c);
	constructed_for = NULL;
	constructor_flags = 0;
	r = kmem_cache_alloc(c, GFP_KERNEL);
	ck_assert_int_eq(r->state, REQUEST_IDLE);
	ck_assert_ptr_eq(constructed_for, c);
	ck_assert_uint_eq(constructor_flags, _i ? 1 : 0);
	kmem_cache_free(c, r);
	kmem_cache_destroy(c);
	kernel_is_clean();
}
END_TEST

START_TEST(without_a_constructor)
{
	struct kmem_cache *c = KMEM_CACHE(request, SLAB_HWCACHE_ALIGN);
	struct request *r;
	void *p[200];
	int i, j;

	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(kmem_cache_size(c), sizeof(struct request));
	r = kmem_cache_alloc(c, GFP_KERNEL);
	memset(r, 0xff, sizeof(*r));
	kmem_cache_free(c, r);
	r = kmem_cache_zalloc(c, GFP_KERNEL);
	for (i = 0; i < (int)sizeof(*r); i++)
		ck_assert_int_eq(((char *)r)[i], 0);
	ck_assert_uint_eq(ksize(r), sizeof(struct request));
	kfree(r); /* of any cache */
	ck_assert_int_eq(kmem_cache_alloc_bulk(c, GFP_KERNEL, ARRAY_SIZE(p), p), ARRAY_SIZE(p));
	for (i = 0; i < (int)ARRAY_SIZE(p); i++)
		for (j = 0; j < i; j++)
			ck_assert_ptr_ne(p[i], p[j]);
	kmem_cache_free_bulk(c, ARRAY_SIZE(p), p);
	ck_assert_int_eq(kmem_cache_shrink(c), 0);
	ck_assert_uint_eq(daemon_cache_active(&kernel_daemon, "request"), 0);
	r = kmem_cache_alloc_node(c, GFP_KERNEL, 0);
	ck_assert_ptr_nonnull(r);
	kmem_cache_free(c, r);
	kmem_cache_destroy(c);
	kernel_is_clean();
}
END_TEST

/* All or none, as in Linux. */
START_TEST(bulk_is_all_or_nothing)
{
	struct kmem_cache *c = kmem_cache_create("page-sized", PAGE_SIZE, 0, 0, NULL);
	static void *p[4096];

	kernel_take_memory();
	ck_assert_uint_eq(kernel_give_pages(20), 20);
	ck_assert_int_eq(kmem_cache_alloc_bulk(c, GFP_NOWAIT, ARRAY_SIZE(p), p), 0);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_int_eq(kmm_flush(kmm_kernel_session()), 0);
	ck_assert_uint_eq(daemon_cache_active(&kernel_daemon, "page-sized"), 0);
	kernel_give_memory();
	kmem_cache_destroy(c);
}
END_TEST

START_TEST(cache_flags)
{
	static const slab_flags_t flags[] = { SLAB_HWCACHE_ALIGN, SLAB_CACHE_DMA, SLAB_CACHE_DMA32,
					      SLAB_RECLAIM_ACCOUNT, SLAB_PANIC, SLAB_MEM_SPREAD,
					      SLAB_ACCOUNT, SLAB_RED_ZONE | SLAB_POISON,
					      SLAB_CONSISTENCY_CHECKS, SLAB_STORE_USER };
	struct kmem_cache *c = kmem_cache_create("flagged", 100, 0, flags[_i], NULL);
	void *p;

	ck_assert_msg(c != NULL, "%s", kmm_error_text());
	p = kmem_cache_alloc(c, GFP_KERNEL);
	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	if (flags[_i] & SLAB_HWCACHE_ALIGN)
		ck_assert_uint_eq((unsigned long)p % 64, 0);
	memset(p, 1, 100);
	kmem_cache_free(c, p);
	kmem_cache_destroy(c);
	kernel_is_clean();
}
END_TEST

/* Refused, not a crash. */
START_TEST(wrong_frees)
{
	struct kmem_cache *a = kmem_cache_create("a", 100, 0, 0, NULL);
	struct kmem_cache *b = kmem_cache_create("b", 200, 0, 0, NULL);
	char *p = kmem_cache_alloc(a, GFP_KERNEL);

	p[0] = 'x';
	kmem_cache_free(NULL, p);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "the cache is NULL"));
	kmem_cache_free(b, p);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "not of b"));
	kmem_cache_free(a, p + 1);
	ck_assert_int_eq(p[0], 'x');
	ck_assert_ptr_ne((char *)kmem_cache_alloc(a, GFP_KERNEL), p);
	/* a cache with live objects is not destroyed */
	kmem_cache_destroy(a);
	ck_assert_uint_eq(kmem_cache_size(a), 100);
	kmem_cache_free(a, p);
	kmem_cache_free(a, NULL);
	kmem_cache_destroy(b);
	kmem_cache_destroy(NULL);
	ck_assert(!kmem_cache_alloc(NULL, GFP_KERNEL));
}
END_TEST

START_TEST(names)
{
	struct kmem_cache *c = kmem_cache_create("twins", 100, 0, 0, NULL);

	/* one of the same kind is joined; of another it is an error */
	ck_assert_ptr_eq(kmem_cache_create("twins", 100, 0, 0, NULL), c);
	ck_assert_ptr_null(kmem_cache_create("twins", 108, 0, 0, NULL));
	ck_assert_int_eq(errno, EEXIST);
	ck_assert_ptr_null(kmem_cache_create("twins", 100, 0, 0, request_construct));
	ck_assert_ptr_null(kmem_cache_create(NULL, 100, 0, 0, NULL));
	kmem_cache_destroy(c);
	kmem_cache_destroy(c);
}
END_TEST

KERNEL_CASES(caches)
{
	TCase *t = kernel_case(s, "caches");

	tcase_add_test(t, with_a_constructor);
	tcase_add_loop_test(t, with_constructors_of_older_kernels, 0, 2);
	tcase_add_test(t, without_a_constructor);
	tcase_add_test(t, bulk_is_all_or_nothing);
	tcase_add_loop_test(t, cache_flags, 0, 10);
	tcase_add_test(t, wrong_frees);
	tcase_add_test(t, names);
}
