/* SPDX-License-Identifier: MIT */
/*
 * kmalloc through a real daemon: sizes, classes and families, alignment, resizing, freeing what
 * came from anywhere, refusals, and all of it between two processes.
 *
 *      test process (k)   kmm_kmalloc ──handle──> peer a adopts, frees; and the other way round
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/fixture.h"

#define LARGEST ((size_t)4 << 20)

static void setup(void)
{
	daemon_start(&d, NULL);
	fixture_note_memory();
	peer_start(&a, &d);
	k = session_start(&d);
}

/* What kmm_ksize is to say. */
static size_t usable(size_t size)
{
	size_t n = 8;

	if (size > 64 && size <= 96)
		return 96;
	if (size > 128 && size <= 192)
		return 192;
	if (size > 8192)
		n = 4096;
	while (n < size)
		n *= 2;
	return n;
}

static size_t aligned_to(size_t n)
{
	return n >= KMM_PAGE_SIZE ? KMM_PAGE_SIZE : n & -n;
}

static char *bytes_new(size_t size, uint64_t seed)
{
	char *p = kmm_kmalloc(k, size, KMM_GFP_KERNEL);

	ck_assert_msg(p != NULL, "%zu bytes: errno %d, %s", size, errno, kmm_error_text());
	object_fill(p, size, seed);
	return p;
}

/* errno and a reason. */
static void refused(const void *result, int error)
{
	int e = errno;

	ck_assert_ptr_null(result);
	ck_assert_msg(e == error, "errno %d, not %d: %s", e, error, kmm_error_text());
	ck_assert_str_ne(kmm_error_text(), "");
}

/* ---- sizes ---- */

/* The i-th size that is tried: all small ones, some in between, those around powers of two. */
static bool size_by_number(size_t i, size_t *size)
{
	static const size_t large[] = { 8191,  8192,    8193,          12288,       16384,  16385,
		                        65537, 1 << 20, (1 << 20) + 1, LARGEST - 1, LARGEST };

	if (i < 300)
		*size = i;
	else if (300 + (i - 300) * 61 < 8192)
		*size = 300 + (i - 300) * 61;
	else if (i >= 430 && i - 430 < sizeof(large) / sizeof(large[0]))
		*size = large[i - 430];
	else
		return false;
	return true;
}

START_TEST(every_size)
{
	enum { LIVE = 64 };
	char *p[LIVE] = { NULL };
	size_t had[LIVE] = { 0 }, size, i, at;

	for (i = 0; size_by_number(i, &size); i++) {
		at = i % LIVE;
		ck_assert(!p[at] || object_check(p[at], had[at], had[at]));
		ck_assert_int_eq(kmm_kfree(k, p[at]), 0);
		p[at] = bytes_new(size, size);
		had[at] = size;
		ck_assert_uint_eq(kmm_ksize(k, p[at]), usable(size));
		ck_assert_uint_eq(place_of(k, p[at]) % aligned_to(usable(size)), 0);
		ck_assert_uint_eq((uintptr_t)p[at] % aligned_to(usable(size)), 0);
		memset(p[at] + size, 0x5a, usable(size) - size); /* all of it may be used */
	}
	for (at = 0; at < LIVE; at++) {
		ck_assert(!p[at] || object_check(p[at], had[at], had[at]));
		ck_assert_int_eq(kmm_kfree(k, p[at]), 0);
	}
}
END_TEST

START_TEST(families_have_caches_of_their_own)
{
	static const struct {
		kmm_gfp_t gfp;
		const char *prefix;
	} family[] = {
		{ KMM_GFP_KERNEL, "kmalloc" },
		{ KMM_GFP_KERNEL | KMM_GFP_RECLAIMABLE, "kmalloc-rcl" },
		{ KMM_GFP_KERNEL | KMM_GFP_DMA, "dma-kmalloc" },
	};
	static const struct {
		size_t size;
		const char *suffix;
	} class[] = { { 8, "8" }, { 96, "96" }, { 192, "192" }, { 1024, "1k" }, { 8192, "8k" } };

	for (unsigned f = 0; f < 3; f++)
		for (unsigned c = 0; c < sizeof(class) / sizeof(class[0]); c++) {
			char name[64];
			unsigned long before;
			void *p;

			snprintf(name, sizeof(name), "%s-%s", family[f].prefix, class[c].suffix);
			before = daemon_cache_active(&d, name);
			p = kmm_kmalloc(k, class[c].size, family[f].gfp);
			ck_assert_ptr_nonnull(p);
			ck_assert_uint_gt(daemon_cache_active(&d, name), before);
			ck_assert_uint_eq(kmm_ksize(k, p), class[c].size);
			if (f == 2)
				ck_assert_uint_lt(place_of(k, p), 16u << 20); /* ZONE_DMA */
			ck_assert_int_eq(kmm_kfree(k, p), 0);
		}
}
END_TEST

/* There are no classes for it: a block, whose address fits 32 bits. */
START_TEST(dma32_is_served_by_blocks)
{
	void *p = kmm_kmalloc(k, 100, KMM_GFP_KERNEL | KMM_GFP_DMA32);

	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(kmm_ksize(k, p), KMM_PAGE_SIZE);
	ck_assert_int_eq(kmm_page_order(k, kmm_virt_to_page(k, p)), 0);
	ck_assert_int_eq(kmm_kfree(k, p), 0);
}
END_TEST

START_TEST(aligned_as_asked)
{
	static const size_t sizes[] = { 0, 1, 24, 65, 96, 100, 192, 700, 4096, 8192, 10000 };

	for (size_t align = 1; align <= LARGEST; align *= 2)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			void *p = kmm_kmalloc_aligned(k, sizes[i], align, KMM_GFP_KERNEL);

			ck_assert_msg(p != NULL, "%zu at %zu: %s", sizes[i], align,
				      kmm_error_text());
			ck_assert_uint_eq((uintptr_t)p % align, 0);
			ck_assert_uint_ge(kmm_ksize(k, p), sizes[i]);
			object_fill(p, sizes[i], align);
			ck_assert_int_eq(kmm_kfree(k, p), 0);
		}
}
END_TEST

START_TEST(zeroed_when_asked)
{
	static const size_t sizes[] = { 0, 1, 9, 70, 96, 500, 8192, 8193, 100000 };

	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			char *p = kmm_kmalloc(k, sizes[i], KMM_GFP_KERNEL | KMM_GFP_ZERO);
			size_t n = usable(sizes[i]);

			ck_assert_ptr_nonnull(p);
			for (size_t at = 0; at < n; at++)
				ck_assert_int_eq(p[at], 0);
			memset(p, 0xee, n);
			ck_assert_int_eq(kmm_kfree(k, p), 0);
		}
}
END_TEST

/* ---- resizing ---- */

START_TEST(resized_contents_stay)
{
	static const size_t steps[] = { 5,    8,     9,       96,   97,   192, 193,  8192, 8193,
		                        9000, 70000, LARGEST, 4096, 4097, 1,   5000, 0,    10 };
	char *p = kmm_krealloc(k, NULL, 3, KMM_GFP_KERNEL);
	size_t had = 3;

	ck_assert_ptr_nonnull(p);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		size_t room = kmm_ksize(k, p), least = had < steps[i] ? had : steps[i];
		char *q;

		object_fill(p, had, i);
		q = kmm_krealloc(k, p, steps[i], KMM_GFP_KERNEL);
		ck_assert_ptr_nonnull(q);
		ck_assert(object_check(q, least, i));
		ck_assert_uint_ge(kmm_ksize(k, q), steps[i]);
		if (steps[i] > 0 && steps[i] <= room)
			ck_assert_ptr_eq(q, p);
		if (steps[i] == 0)
			ck_assert_uint_eq(kmm_ksize(k, q), 8);
		p = q;
		had = steps[i];
	}
	ck_assert_int_eq(kmm_kfree(k, p), 0);
}
END_TEST

START_TEST(resized_with_zeroes)
{
	char *p = kmm_kmalloc(k, 10, KMM_GFP_KERNEL | KMM_GFP_ZERO);
	size_t had = 10;

	for (size_t size = 11; size < 100000; size += size / 3) {
		memset(p, 0x31, had);
		p = kmm_krealloc(k, p, size, KMM_GFP_KERNEL | KMM_GFP_ZERO);
		ck_assert_ptr_nonnull(p);
		for (size_t at = 0; at < size; at++)
			ck_assert_int_eq(p[at], at < had ? 0x31 : 0);
		had = size;
		if (size % 2) { /* smaller for a moment: what was cut off is gone */
			ck_assert_ptr_eq(kmm_krealloc(k, p, size / 2,
						      KMM_GFP_KERNEL | KMM_GFP_ZERO), p);
			had = size / 2;
		}
	}
	ck_assert_int_eq(kmm_kfree(k, p), 0);
}
END_TEST

START_TEST(resizes_that_are_refused)
{
	char *p = bytes_new(100, 7);
	int64_t theirs = peer_do(&a, PEER_OBJECT_ALLOC, 100, KMM_GFP_KERNEL, PEER_NO_CACHE);
	char *block = bytes_new(20000, 8);
	int here;

	ck_assert_int_gt(theirs, 0);
	refused(kmm_krealloc(k, p, LARGEST + 1, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_krealloc(k, p, 50, KMM_GFP_KERNEL | KMM_GFP_HIGHMEM), EINVAL);
	refused(kmm_krealloc(k, p + 8, 50, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_krealloc(k, block + KMM_PAGE_SIZE, 50, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_krealloc(k, &here, 50, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_krealloc(NULL, p, 50, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_krealloc(k, place_pointer(k, (uint64_t)theirs), 5000, KMM_GFP_KERNEL), EPERM);
	refused(kmm_krealloc(k, place_pointer(k, (uint64_t)theirs), 50, KMM_GFP_KERNEL), EPERM);
	/* no memory for a larger one: the old one stays */
	ck_assert_int_gt(peer_do(&a, PEER_EXHAUST, KMM_GFP_NOWAIT, 10, 0), 0);
	ck_assert_int_ge(peer_do(&a, PEER_TIMEOUT, 1, 0, 0), 0);
	refused(kmm_krealloc(k, p, LARGEST, KMM_GFP_NOWAIT), ENOMEM);
	ck_assert(object_check(p, 100, 7));
	ck_assert(object_check(block, 20000, 8));
	ck_assert_int_eq(kmm_kfree(k, p), 0);
	ck_assert_int_eq(kmm_kfree(k, block), 0);
}
END_TEST

/* ---- freeing ---- */

START_TEST(kfree_takes_whatever_is_mine)
{
	struct kmm_cache *c = kmm_cache_create(k, "named", 300, 0, 0, NULL);
	void *p;

	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(kmm_kfree(k, NULL), 0);
	for (int i = 0; i < 100; i++) {
		ck_assert_ptr_nonnull(p = kmm_cache_alloc(c, KMM_GFP_KERNEL));
		ck_assert_uint_eq(kmm_ksize(k, p), 300);
		ck_assert_int_eq(kmm_kfree(k, p), 0);
		ck_assert_ptr_nonnull(p = kmm_get_free_pages(k, KMM_GFP_KERNEL, 3));
		ck_assert_uint_eq(kmm_ksize(k, p), KMM_PAGE_SIZE << 3);
		ck_assert_int_eq(kmm_kfree(k, p), 0);
		ck_assert_int_eq(kmm_kfree(k, p), -ENOENT);
		/* a large kmalloc is a block by any name */
		ck_assert_ptr_nonnull(p = kmm_kmalloc(k, 20000, KMM_GFP_KERNEL));
		ck_assert_int_eq(kmm_free_page_addr(k, p, 3), 0);
	}
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
}
END_TEST

/* Objects of a cache that this process has not open. */
START_TEST(kfree_of_a_cache_unknown_here)
{
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "theirs", 120, 0, 0), 0);
	for (int i = 0; i < 300; i++) {
		int64_t place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
		int64_t handle = peer_do(&a, PEER_THING_HANDLE, (uint64_t)place, 0, 0);
		void *p = kmm_adopt(k, (kmm_handle_t)handle);

		ck_assert_ptr_nonnull(p);
		ck_assert_int_eq((int64_t)place_of(k, p), place);
		ck_assert_uint_eq(kmm_ksize(k, p), 120);
		ck_assert_int_eq(kmm_kfree(k, p), 0);
	}
	/* none stays behind in this process */
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_CACHE_SHRINK, 0, 0, 0), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, "theirs"), 0);
	ck_assert_int_eq(peer_do(&a, PEER_CACHE_DESTROY, 0, 0, 0), 0);
}
END_TEST

START_TEST(frees_that_are_refused)
{
	static const size_t sizes[] = { 8, 96, 100, 4096, 8192, 20000 };
	int64_t theirs;
	int here;

	ck_assert_int_eq(kmm_kfree(NULL, NULL), -EINVAL);
	ck_assert_int_eq(kmm_kfree(k, &here), -EINVAL);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *p = bytes_new(sizes[i], i);
		struct kmm_page *page = kmm_virt_to_page(k, p);

		ck_assert_int_eq(kmm_kfree(k, page), -EINVAL);
		for (size_t at = 1; at < sizes[i] && at < 300; at++)
			ck_assert_int_eq(kmm_kfree(k, p + at), -EINVAL);
		ck_assert_int_eq(kmm_kfree(k, p + sizes[i] / 2), -EINVAL);
		errno = 0;
		ck_assert_uint_eq(kmm_ksize(k, p + sizes[i] / 2), 0);
		ck_assert_int_eq(errno, EINVAL);
		theirs = peer_do(&a, PEER_OBJECT_ALLOC, sizes[i], KMM_GFP_KERNEL, PEER_NO_CACHE);
		ck_assert_int_gt(theirs, 0);
		ck_assert_int_eq(kmm_kfree(k, place_pointer(k, (uint64_t)theirs)), -EPERM);
		ck_assert(strstr(kmm_error_text(), "session") != NULL);
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, PEER_NO_CACHE, place_of(k, p), 0),
				 -EPERM);
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, PEER_NO_CACHE, (uint64_t)theirs, 0),
				 0);
		ck_assert(object_check(p, sizes[i], i));
		ck_assert_int_eq(kmm_kfree(k, p), 0);
	}
}
END_TEST

/* Page functions on memory that holds objects. */
START_TEST(objects_are_no_pages)
{
	char *p = bytes_new(64, 1), *q = bytes_new(8192, 2);
	char *both[] = { p, q, q + KMM_PAGE_SIZE };

	for (int i = 0; i < 3; i++) {
		struct kmm_page *page = kmm_virt_to_page(k, both[i]);

		ck_assert_ptr_nonnull(page);
		ck_assert_ptr_eq(kmm_page_address(k, page),
				 both[i] - (uintptr_t)both[i] % KMM_PAGE_SIZE);
		ck_assert_int_eq(kmm_page_order(k, page), -ENOENT);
		ck_assert_int_eq(kmm_page_count(k, page), 0);
		ck_assert_int_eq(kmm_free_pages(k, page, 0), -EINVAL);
		ck_assert_msg(strstr(kmm_error_text(), "kmalloc-") &&
				      strstr(kmm_error_text(), "kmm_kfree"),
			      "%s", kmm_error_text());
		ck_assert_int_eq(kmm_free_pages_bulk(k, 0, 1, &page), -EINVAL);
		ck_assert_int_eq(kmm_free_page_addr(k, both[i], 0), -EINVAL);
	}
	ck_assert(object_check(p, 64, 1));
	ck_assert(object_check(q, 8192, 2));
	ck_assert_int_eq(kmm_kfree(k, p), 0);
	ck_assert_int_eq(kmm_kfree(k, q), 0);
}
END_TEST

START_TEST(requests_that_make_no_sense)
{
	refused(kmm_kmalloc(k, LARGEST + 1, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_kmalloc(k, SIZE_MAX, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_kmalloc(NULL, 8, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_kmalloc(k, 8, KMM_GFP_KERNEL | KMM_GFP_HIGHMEM), EINVAL);
	refused(kmm_kmalloc(k, 8, KMM_GFP_KERNEL | KMM_GFP_DMA | KMM_GFP_DMA32), EINVAL);
	refused(kmm_kmalloc(k, 8, KMM_GFP_KERNEL | KMM_GFP_MOVABLE | KMM_GFP_RECLAIMABLE), EINVAL);
	refused(kmm_kmalloc(k, 8, KMM_GFP_KERNEL | 0x200), EINVAL);
	refused(kmm_kmalloc(k, 8, KMM_GFP_KERNEL | KMM_GFP_MEMALLOC), EPERM);
	refused(kmm_kmalloc_aligned(k, 8, 0, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_kmalloc_aligned(k, 8, 24, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_kmalloc_aligned(k, 8, LARGEST * 2, KMM_GFP_KERNEL), EINVAL);
	refused(kmm_kmalloc_aligned(k, LARGEST + 1, 8, KMM_GFP_KERNEL), EINVAL);
	errno = 0;
	ck_assert_uint_eq(kmm_ksize(NULL, NULL), 0);
	ck_assert_int_eq(errno, EINVAL);
	errno = 4711;
	ck_assert_uint_eq(kmm_ksize(k, NULL), 0);
	ck_assert_int_eq(errno, 4711);
}
END_TEST

/* ---- between processes ---- */

START_TEST(allocated_here_freed_there)
{
	static const size_t sizes[] = { 8, 24, 96, 256, 1000, 8192, 20000, LARGEST };

	for (int round = 0; round < 40; round++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			char *p = bytes_new(sizes[i], i);
			kmm_handle_t handle = kmm_handle(k, p);
			int64_t back;

			ck_assert_int_eq(peer_do(&a, PEER_THING_ADOPT, handle, 0, 0),
					 (int64_t)place_of(k, p));
			ck_assert_int_eq(kmm_kfree(k, p), -ESTALE);
			ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHECK, place_of(k, p), sizes[i],
						 i),
					 1);
			if (round % 2) {
				back = peer_do(&a, PEER_THING_HANDLE, place_of(k, p), 0, 0);
				ck_assert_ptr_eq(kmm_adopt(k, (kmm_handle_t)back), p);
				p = kmm_krealloc(k, p, sizes[i] / 2 + 1, KMM_GFP_KERNEL);
				ck_assert_ptr_nonnull(p);
				ck_assert(object_check(p, sizes[i] / 2 + 1, i));
				ck_assert_int_eq(kmm_kfree(k, p), 0);
			} else {
				ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, PEER_NO_CACHE,
							 place_of(k, p), 0),
						 0);
			}
		}
}
END_TEST

/* Random operations against a list of what must be live. */
START_TEST(random_against_a_list)
{
	enum { LIVE = 500, STEPS = 30000 };
	static struct {
		char *p;
		size_t size;
		uint64_t seed;
	} live[LIVE];
	unsigned random = (unsigned)_i * 7919 + 1;

	memset(live, 0, sizeof(live));
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (random = random * 1103515245 + 12345) / 65536 % LIVE;
		size_t size = (random = random * 1103515245 + 12345) / 65536 % 2000;

		if (step % 512 == 0)
			size *= 20;
		if (live[i].p)
			ck_assert(object_check(live[i].p, live[i].size, live[i].seed));
		if (live[i].p && step % 3 == 0) {
			size_t least = size < live[i].size ? size : live[i].size;

			live[i].p = kmm_krealloc(k, live[i].p, size, KMM_GFP_KERNEL);
			ck_assert_ptr_nonnull(live[i].p);
			ck_assert(object_check(live[i].p, least, live[i].seed));
		} else {
			ck_assert_int_eq(kmm_kfree(k, live[i].p), 0);
			live[i].p = NULL;
			if (step % 4 == 0)
				continue;
			live[i].p = kmm_kmalloc(k, size, KMM_GFP_KERNEL);
			ck_assert_ptr_nonnull(live[i].p);
		}
		live[i].size = size;
		live[i].seed = step;
		object_fill(live[i].p, size, step);
	}
	for (unsigned i = 0; i < LIVE; i++)
		ck_assert_int_eq(kmm_kfree(k, live[i].p), 0);
}
END_TEST

START_TEST(all_comes_back_when_a_process_ends)
{
	for (size_t size = 1; size < 100000; size *= 3)
		ck_assert_int_gt(peer_do(&a, PEER_OBJECT_ALLOC, size, KMM_GFP_KERNEL,
					 PEER_NO_CACHE),
				 0);
	ck_assert_uint_gt(daemon_objects_active(&d), 0);
	peer_kill(&a);
	wait_until(daemon_objects_active(&d) == 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kmalloc");
	TCase *t = tcase_create("kmalloc");

	tcase_add_checked_fixture(t, setup, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, every_size);
	tcase_add_test(t, families_have_caches_of_their_own);
	tcase_add_test(t, dma32_is_served_by_blocks);
	tcase_add_test(t, aligned_as_asked);
	tcase_add_test(t, zeroed_when_asked);
	tcase_add_test(t, resized_contents_stay);
	tcase_add_test(t, resized_with_zeroes);
	tcase_add_test(t, resizes_that_are_refused);
	tcase_add_test(t, kfree_takes_whatever_is_mine);
	tcase_add_test(t, kfree_of_a_cache_unknown_here);
	tcase_add_test(t, frees_that_are_refused);
	tcase_add_test(t, objects_are_no_pages);
	tcase_add_test(t, requests_that_make_no_sense);
	tcase_add_test(t, allocated_here_freed_there);
	tcase_add_loop_test(t, random_against_a_list, 0, 2);
	tcase_add_test(t, all_comes_back_when_a_process_ends);
	suite_add_tcase(s, t);
	return suite_run(s);
}
