/* SPDX-License-Identifier: MIT */
/*
 * Mempools: what must get on, gets on.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

/* A block layer in small: a request needs a bio, and memory is written back by requests. So it must not
 * wait for memory: two bios are always there. */
struct bio {
	unsigned long sector;
	char data[PAGE_SIZE - 64];
	struct bio *next;
};

#define BIO_POOL_SIZE 2

static struct kmem_cache *bio_slab;
static mempool_t *bio_pool;

static int __init init_bio(void)
{
	bio_slab = KMEM_CACHE(bio, SLAB_HWCACHE_ALIGN | SLAB_PANIC);
	bio_pool = mempool_create_slab_pool(BIO_POOL_SIZE, bio_slab);
	if (!bio_pool) {
		kmem_cache_destroy(bio_slab);
		return -ENOMEM;
	}
	return 0;
}

static void __exit exit_bio(void)
{
	mempool_destroy(bio_pool);
	kmem_cache_destroy(bio_slab);
}

static struct bio *bio_alloc(gfp_t gfp, unsigned long sector)
{
	struct bio *b = mempool_alloc(bio_pool, gfp);

	if (b)
		b->sector = sector;
	return b;
}

static void bio_put(struct bio *b)
{
	mempool_free(b, bio_pool);
}

/* ---- the tests ---- */

START_TEST(the_reserve)
{
	struct bio *b[BIO_POOL_SIZE], *more;
	int i, round;

	ck_assert_int_eq(init_bio(), 0);
	kernel_take_memory();
	ck_assert(!kmem_cache_alloc(bio_slab, GFP_NOWAIT));
	for (round = 0; round < 3; round++) {
		for (i = 0; i < BIO_POOL_SIZE; i++) {
			b[i] = bio_alloc(GFP_NOWAIT, (unsigned long)i);
			ck_assert_msg(b[i] != NULL, "%s", kmm_error_text());
			memset(b[i]->data, i, sizeof(b[i]->data));
		}
		more = bio_alloc(GFP_NOWAIT, 9);
		ck_assert_ptr_null(more);
		for (i = 0; i < BIO_POOL_SIZE; i++) {
			ck_assert_uint_eq(b[i]->sector, (unsigned long)i);
			bio_put(b[i]);
		}
	}
	kernel_give_memory();
	exit_bio();
	kernel_is_clean();
}
END_TEST

#define WRITERS 5
#define WRITES 200

static void *writer(void *arg)
{
	unsigned long i, n = (unsigned long)(uintptr_t)arg;

	for (i = 0; i < WRITES; i++) {
		struct bio *b = bio_alloc(GFP_NOIO, n);

		if (!b)
			return arg;
		b->data[0] = (char)n;
		sched_yield();
		if (b->sector != n || b->data[0] != (char)n)
			return arg;
		bio_put(b);
	}
	return NULL;
}

/* More writers than bios, and no memory: all of them end. */
START_TEST(writers_get_on)
{
	pthread_t t[WRITERS];
	unsigned long i;
	void *failed;

	ck_assert_int_eq(init_bio(), 0);
	kernel_take_memory();
	for (i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, writer, (void *)(uintptr_t)(i + 1)), 0);
	for (i = 0; i < WRITERS; i++) {
		ck_assert_int_eq(pthread_join(t[i], &failed), 0);
		ck_assert_ptr_null(failed);
	}
	kernel_give_memory();
	exit_bio();
	kernel_is_clean();
}
END_TEST

/* A reserve without a cache of one's own: what kmalloc gives for a size. */
START_TEST(of_kmalloc)
{
	mempool_t *pool = mempool_create_kmalloc_pool(2, 100);
	char *p, *q;

	ck_assert_msg(pool != NULL, "%s", kmm_error_text());
	kernel_take_memory();
	while (kmalloc(100, GFP_NOWAIT))
		;
	p = mempool_alloc(pool, GFP_NOWAIT);
	q = mempool_alloc(pool, GFP_NOWAIT);
	ck_assert(p && q);
	ck_assert_uint_eq(ksize(p), 128);
	memset(p, 1, 100);
	ck_assert(!mempool_alloc(pool, GFP_NOWAIT));
	mempool_free(p, pool);
	ck_assert_ptr_eq(mempool_alloc(pool, GFP_NOWAIT), p);
	mempool_free(p, pool);
	mempool_free(q, pool);
	mempool_destroy(pool);
	kernel_give_memory();
	ck_assert_ptr_null(mempool_create_kmalloc_pool(2, 8193));
	ck_assert_ptr_null(mempool_create_kmalloc_pool(-1, 100));
}
END_TEST

START_TEST(refusals)
{
	mempool_t *none = mempool_create_slab_pool(2, NULL);
	struct bio *b;

	ck_assert_ptr_null(none);
	ck_assert_int_eq(init_bio(), 0);
	ck_assert(!mempool_alloc(NULL, GFP_KERNEL));
	mempool_free(NULL, bio_pool);
	b = bio_alloc(GFP_KERNEL, 1);
	mempool_free(b, NULL);
	ck_assert_ptr_null(mempool_create_slab_pool(-1, bio_slab));
	/* with one out it stays */
	mempool_destroy(bio_pool);
	bio_put(b);
	mempool_destroy(NULL);
	exit_bio();
	kernel_is_clean();
}
END_TEST

KERNEL_CASES(mempool)
{
	TCase *t = kernel_case(s, "mempool");

	tcase_add_test(t, the_reserve);
	tcase_add_test(t, writers_get_on);
	tcase_add_test(t, of_kmalloc);
	tcase_add_test(t, refusals);
}
