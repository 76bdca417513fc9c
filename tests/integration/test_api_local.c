/* SPDX-License-Identifier: MIT */
/*
 * KMM_GFP_LOCAL, in every function that takes it: what the calling thread caches, or nothing, and nobody
 * is asked. (Of mempools see test_api_mempool.c.)
 */
#include <check.h>
#include <errno.h>

#include "tests/integration/fixture.h"

static struct kmm_cache *c;

static void setup(void)
{
	fixture_setup();
	c = kmm_cache_create(k, "elements", 4096, 0, 0, NULL);
	ck_assert_ptr_nonnull(c);
}

/* Nothing is cached: every kind of request fails, and the daemon hears of none. */
START_TEST(local_asks_nobody)
{
	struct kmm_page *pages[4];
	void *p[4];
	long calls;

	ck_assert_int_eq(kmm_flush(k), 0);
	calls = daemon_session_number(&d, kmm_session_id(k), "calls");
	for (unsigned order = 0; order <= KMM_MAX_ORDER; order++) {
		kmm_gfp_t gfp = KMM_GFP_KERNEL | KMM_GFP_LOCAL;

		errno = 0;
		ck_assert_ptr_null(kmm_alloc_pages(k, gfp, order));
		ck_assert_int_eq(errno, ENOMEM);
		ck_assert_ptr_null(kmm_get_free_pages(k, gfp, order));
		ck_assert_ptr_null(kmm_alloc_pages(k, gfp | KMM_GFP_DMA32, order));
		ck_assert_ptr_null(kmm_alloc_pages(k, gfp | KMM_GFP_HIGHMEM, order));
		errno = 0;
		ck_assert_uint_eq(kmm_alloc_pages_bulk(k, gfp, order, 4, pages), 0);
		ck_assert_int_eq(errno, ENOMEM);
		errno = 0;
		ck_assert_ptr_null(kmm_kmalloc(k, (size_t)1 << (order + 12), gfp));
		ck_assert_int_eq(errno, ENOMEM);
	}
	for (size_t size = 1; size <= 8192; size *= 2) {
		ck_assert_ptr_null(kmm_kmalloc(k, size, KMM_GFP_LOCAL));
		ck_assert_ptr_null(kmm_kmalloc(k, size, KMM_GFP_LOCAL | KMM_GFP_RECLAIMABLE));
		ck_assert_ptr_null(kmm_kmalloc(k, size, KMM_GFP_LOCAL | KMM_GFP_DMA));
		ck_assert_ptr_null(kmm_kmalloc_aligned(k, size, 64, KMM_GFP_LOCAL));
		ck_assert_ptr_null(kmm_krealloc(k, NULL, size, KMM_GFP_LOCAL));
		ck_assert_int_eq(errno, ENOMEM);
	}
	errno = 0;
	ck_assert_ptr_null(kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_LOCAL));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL | KMM_GFP_LOCAL, 4, p), 0);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "calls"), calls);
}
END_TEST

/* What the thread caches it gets. */
START_TEST(local_takes_what_is_cached)
{
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0);
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL), *q;

	ck_assert_int_eq(kmm_free_pages(k, page, 0), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	page = kmm_alloc_pages(k, KMM_GFP_LOCAL | KMM_GFP_ZERO, 0);
	ck_assert_ptr_nonnull(page);
	ck_assert_ptr_nonnull(kmm_cache_alloc(c, KMM_GFP_LOCAL));
	q = kmm_kmalloc(k, 100, KMM_GFP_KERNEL);
	ck_assert_int_eq(kmm_kfree(k, q), 0);
	ck_assert_ptr_nonnull(kmm_kmalloc(k, 100, KMM_GFP_LOCAL | KMM_GFP_ZERO));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("local requests");
	TCase *t = fixture_case(s, "local", setup);

	tcase_add_test(t, local_asks_nobody);
	tcase_add_test(t, local_takes_what_is_cached);
	return suite_run(s);
}
