/* SPDX-License-Identifier: MIT */
/*
 * Shrinkers: a cache of things that can be made again gives way when memory is short.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

/* Looked up, remembered, forgotten when need be. */
struct dentry {
	struct dentry *next;
	char name[4000];
};

static struct kmem_cache *dentry_cache;
static pthread_mutex_t dentry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct dentry *dentry_unused;
static unsigned long nr_unused, nr_pruned, nr_without_fs;

static unsigned long dentry_count(struct shrinker *shrink, struct shrink_control *sc)
{
	unsigned long n;

	(void)shrink;
	if (!(sc->gfp_mask & __GFP_FS))
		return 0;
	pthread_mutex_lock(&dentry_lock);
	n = nr_unused;
	pthread_mutex_unlock(&dentry_lock);
	return n;
}

static unsigned long dentry_scan(struct shrinker *shrink, struct shrink_control *sc)
{
	unsigned long freed = 0;

	(void)shrink;
	if (!(sc->gfp_mask & __GFP_FS)) {
		nr_without_fs++;
		return SHRINK_STOP;
	}
	if (pthread_mutex_trylock(&dentry_lock) != 0)
		return SHRINK_STOP; /* its holder may be waiting for memory */
	while (freed < sc->nr_to_scan && dentry_unused) {
		struct dentry *d = dentry_unused;

		dentry_unused = d->next;
		kmem_cache_free(dentry_cache, d);
		nr_unused--;
		freed++;
	}
	nr_pruned += freed;
	pthread_mutex_unlock(&dentry_lock);
	return freed;
}

static struct shrinker dentry_shrinker = {
	.count_objects = dentry_count,
	.scan_objects = dentry_scan,
	.seeks = DEFAULT_SEEKS,
};

static int __init dcache_init(void)
{
	dentry_cache = KMEM_CACHE(dentry, SLAB_RECLAIM_ACCOUNT);
	if (!dentry_cache)
		return -ENOMEM;
	return register_shrinker(&dentry_shrinker);
}

static bool dentry_remember(void)
{
	struct dentry *d = kmem_cache_alloc(dentry_cache, GFP_NOWAIT);

	if (!d)
		return false;
	pthread_mutex_lock(&dentry_lock);
	d->next = dentry_unused;
	dentry_unused = d;
	nr_unused++;
	pthread_mutex_unlock(&dentry_lock);
	return true;
}

static void __exit dcache_exit(void)
{
	unregister_shrinker(&dentry_shrinker);
	while (dentry_unused) {
		struct dentry *d = dentry_unused;

		dentry_unused = d->next;
		kmem_cache_free(dentry_cache, d);
	}
	nr_unused = 0;
	kmem_cache_destroy(dentry_cache);
}

/* ---- the tests ---- */

static unsigned long pruned(void)
{
	unsigned long n;

	pthread_mutex_lock(&dentry_lock);
	n = nr_pruned;
	pthread_mutex_unlock(&dentry_lock);
	return n;
}

START_TEST(a_cache_gives_way)
{
	struct page *pages[500], *page;
	unsigned long n = 0;
	unsigned long had;

	ck_assert_int_eq(dcache_init(), 0);
	while (dentry_remember())
		;
	kernel_take_memory(); /* what is left elsewhere */
	had = nr_unused;
	ck_assert_uint_gt(had, 1000);
	ck_assert_ptr_null(alloc_page(GFP_NOWAIT));
	/* the first may find what was overlooked */
	while (n < ARRAY_SIZE(pages) && pruned() == 0) {
		pages[n] = alloc_page(GFP_KERNEL);
		ck_assert_msg(pages[n] != NULL, "%s", kmm_error_text());
		n++;
	}
	ck_assert_uint_gt(pruned(), 0);
	ck_assert_uint_eq(nr_without_fs, 0);
	while (n > 0)
		__free_page(pages[--n]);
	/* a large block takes more of them, and shows that slabs become blocks again */
	page = alloc_pages(GFP_KERNEL, 5);
	ck_assert_msg(page != NULL, "%s", kmm_error_text());
	__free_pages(page, 5);
	kernel_give_memory();
	dcache_exit();
	kernel_is_clean();
}
END_TEST

/* A file system that allocates with GFP_NOFS is not called back. */
START_TEST(not_for_nofs)
{
	ck_assert_int_eq(dcache_init(), 0);
	while (dentry_remember())
		;
	kernel_take_memory();
	nr_pruned = 0;
	ck_assert_int_eq(kmm_set_timeout(kmm_kernel_session(), 200), 0);
	errno = 0;
	ck_assert_ptr_null(alloc_page(GFP_NOFS));
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_uint_eq(nr_pruned, 0);
	ck_assert_int_eq(kmm_set_timeout(kmm_kernel_session(), 0), 0);
	kernel_give_memory();
	dcache_exit();
}
END_TEST

START_TEST(registering)
{
	struct shrinker none;

	ck_assert_int_eq(dcache_init(), 0);
	ck_assert_int_eq(register_shrinker(&dentry_shrinker, "dentry-%d", 7), -EEXIST);
	ck_assert_int_eq(register_shrinker(NULL), -EINVAL);
	memset(&none, 0, sizeof(none));
	ck_assert_int_eq(register_shrinker(&none), -EINVAL);
	unregister_shrinker(NULL);
	unregister_shrinker(&none);
	dcache_exit();
}
END_TEST

KERNEL_CASES(shrinker)
{
	TCase *t = kernel_case(s, "shrinker");

	tcase_add_test(t, a_cache_gives_way);
	tcase_add_test(t, not_for_nofs);
	tcase_add_test(t, registering);
}
