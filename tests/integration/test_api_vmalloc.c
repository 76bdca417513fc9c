/* SPDX-License-Identifier: MIT */
/*
 * vmalloc and kvmalloc through a real daemon: sizes, contents, guards, freed areas, refusals,
 * threads, forks, ends, on three kinds of pools (areas.h). When memory is short or in pieces:
 * test_api_vmalloc_memory.c.
 */
#include "tests/integration/areas.h"

/* ---- sizes and contents ---- */

START_TEST(every_size)
{
	for (size_t i = 0; i < SOME_SIZES; i++) {
		size_t size = some_sizes[i], end = (size + 4095) & ~(size_t)4095;
		char *p = area_new(size, i);

		ck_assert_uint_eq((uintptr_t)p % KMM_PAGE_SIZE, 0);
		ck_assert(object_check(p, size, i));
		/* a guard behind it, wherever it was rounded up to */
		while (can_be_read(p + end) && end < size + 3 * MIB)
			end += KMM_PAGE_SIZE;
		ck_assert_uint_lt(end, size + 2 * MIB);
		ck_assert(can_be_read(p + end - 1));
		ck_assert_int_eq(kmm_is_vmalloc_addr(k, p + size - 1), 1);
		ck_assert_int_eq(kmm_is_vmalloc_addr(k, p + end), 0);
		ck_assert_int_eq(kmm_vfree(k, p), 0);
		ck_assert_int_eq(kmm_is_vmalloc_addr(k, p), 0);
	}
}
END_TEST

/* Each page of it is a page of the pool, with the same bytes. */
START_TEST(its_pages_are_the_pools)
{
	for (size_t i = 0; i < SOME_SIZES; i++) {
		size_t size = some_sizes[i];
		char *p = area_new(size, i);

		for (size_t at = 0; at < size; at += size > MIB ? 37 * KMM_PAGE_SIZE : KMM_PAGE_SIZE) {
			struct kmm_page *page = kmm_vmalloc_to_page(k, p + at);
			size_t n = size - at < KMM_PAGE_SIZE ? size - at : KMM_PAGE_SIZE;
			char *same;

			ck_assert_msg(page != NULL, "%s", kmm_error_text());
			ck_assert_int_eq(kmm_page_count(k, page), 1);
			same = kmm_kmap(k, page);
			ck_assert_msg(same != NULL, "%s", kmm_error_text());
			ck_assert(memcmp(p + at, same, n) == 0);
			same[n / 2] ^= 0x55;
			ck_assert_int_eq(p[at + n / 2], same[n / 2]);
			ck_assert_int_eq(kmm_kunmap(k, page), 0);
		}
		ck_assert_int_eq(kmm_vfree(k, p), 0);
	}
	refused(kmm_vmalloc_to_page(k, some_sizes), EINVAL, "no vmalloc area");
}
END_TEST

START_TEST(zeroed)
{
	for (size_t i = 0; i < SOME_SIZES; i++)
		for (int again = 0; again < 2; again++) {
			char *p = kmm_vzalloc(k, some_sizes[i]);

			ck_assert_ptr_nonnull(p);
			for (size_t at = 0; at < some_sizes[i]; at++)
				if (p[at])
					ck_abort_msg("byte %zu of %zu", at, some_sizes[i]);
			memset(p, 0xa5, some_sizes[i]);
			ck_assert_int_eq(kmm_vfree(k, p), 0);
		}
}
END_TEST

START_TEST(freed_ones_serve_again)
{
	char *p = area_new(64 * KIB, 1), *q;
	uint64_t before;

	ck_assert_int_eq(kmm_vfree(k, p), 0);
	q = kmm_vmalloc(k, 64 * KIB - 100); /* as many pages */
	ck_assert_ptr_eq(p, q);
	ck_assert_int_eq(kmm_vfree(k, q), 0);
	/* Somebody else takes what it was made of: drop-caches collects it. */
	before = daemon_free_pages(&d);
	ck_assert_uint_eq(before, free_at_start);
	p = area_new(64 * KIB, 2);
	ck_assert(object_check(p, 64 * KIB, 2));
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	/* Nothing is kept after this, and nothing is mapped. */
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert(!can_be_read(p));
	refused_free(kmm_vfree(k, p), ENOENT, "freed before");
}
END_TEST

/* What was freed is bounded: all of it goes when it is too much. */
START_TEST(not_all_is_kept)
{
	char *p[12];

	for (unsigned i = 0; i < 12; i++)
		p[i] = area_new(2 * MIB + i * 2 * MIB / 12, i);
	for (unsigned i = 0; i < 12; i++)
		ck_assert_int_eq(kmm_vfree(k, p[i]), 0);
	ck_assert(!can_be_read(p[0]));
}
END_TEST

/* ---- refusals ---- */

START_TEST(sizes_that_are_refused)
{
	refused(kmm_vmalloc(k, 0), EINVAL, "0 bytes");
	refused(kmm_vzalloc(k, 0), EINVAL, "0 bytes");
	refused(kmm_vmalloc(k, SIZE_MAX), ENOMEM, "more than the pool");
	refused(kmm_vmalloc(k, 65 * MIB), ENOMEM, "more than the pool");
	refused(kmm_vmalloc(k, 64 * MIB), ENOMEM, "can never be had");
	refused(kmm_vmalloc(NULL, 1), EINVAL, "NULL");
	ck_assert_uint_eq(daemon_free_pages(&d), free_at_start);
}
END_TEST

START_TEST(frees_that_are_refused)
{
	char *p = area_new(100 * KIB, 1), *b = kmm_kmalloc(k, 100, KMM_GFP_KERNEL), *s;
	int on_the_stack;

	ck_assert_int_eq(kmm_vfree(k, NULL), 0);
	refused_free(kmm_vfree(NULL, p), EINVAL, "NULL");
	refused_free(kmm_vfree(k, p + 1), EINVAL, "inside the vmalloc area");
	refused_free(kmm_vfree(k, p + 50 * KIB), EINVAL, "inside the vmalloc area");
	refused_free(kmm_vfree(k, b), EPERM, "window");
	refused_free(kmm_vfree(k, &on_the_stack), EPERM, "no vmalloc area of this session");
	s = kmm_alloc_stack(k, 2);
	ck_assert_ptr_nonnull(s);
	refused_free(kmm_vfree(k, s), EINVAL, "stack");
	ck_assert_int_eq(kmm_free_stack(k, s), 0);
	ck_assert(object_check(p, 100 * KIB, 1));
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	refused_free(kmm_vfree(k, p), ENOENT, "freed before");
	refused_free(kmm_kvfree(k, p), ENOENT, "freed before");
	ck_assert_int_lt(kmm_kfree(k, p), 0);
	ck_assert_int_eq(kmm_kfree(k, b), 0);
}
END_TEST

START_TEST(areas_are_their_sessions)
{
	struct kmm *other = session_start(&d);
	char *p = area_new(10 * KIB, 1);

	refused_free(kmm_vfree(other, p), EPERM, "no vmalloc area of this session");
	ck_assert_int_eq(kmm_is_vmalloc_addr(other, p), 0);
	ck_assert_int_eq(kmm_close(other), 0);
	ck_assert_int_eq(kmm_vfree(k, p), 0);
}
END_TEST

/* A page of it that the program frees as a page, or that another session adopts, is not freed twice. */
START_TEST(pages_that_leave_an_area)
{
	char *p = area_new(64 * KIB, 1);
	struct kmm_page *page = kmm_vmalloc_to_page(k, p);
	kmm_handle_t h;
	unsigned order;

	ck_assert_ptr_nonnull(page);
	order = (unsigned)kmm_page_order(k, page);
	h = kmm_handle(k, kmm_page_address(k, page) ? kmm_page_address(k, page) : (void *)page);
	ck_assert_msg(h != 0, "%s", kmm_error_text());
	ck_assert_int_ge(peer_do(&rich, PEER_ADOPT, h, 0, 0), 0);
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	refused_free(kmm_vfree(k, p), ENOENT, "freed before");
	ck_assert_int_eq(peer_do(&rich, PEER_FREE, kmm_page_to_pfn(k, page), order, 0), 0);

	p = area_new(64 * KIB, 1);
	page = kmm_vmalloc_to_page(k, p);
	ck_assert_int_eq(kmm_get(k, kmm_page_address(k, page) ? kmm_page_address(k, page) :
	                                                        (void *)page),
			 0);
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	ck_assert_int_eq(kmm_put(k, kmm_page_address(k, page) ? kmm_page_address(k, page) :
	                                                        (void *)page),
			 0);
}
END_TEST

/* ---- kvmalloc ---- */

START_TEST(kvmalloc_takes_either)
{
	static const size_t sizes[] = { 0, 1, 100, 4096, 8192, 8193, 100 * KIB, 4 * MIB, 5 * MIB };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *p = kmm_kvmalloc(k, sizes[i], KMM_GFP_KERNEL | KMM_GFP_ZERO);

		ck_assert_msg(p != NULL, "%zu bytes: %s", sizes[i], kmm_error_text());
		ck_assert_int_eq(kmm_is_vmalloc_addr(k, p), sizes[i] > 4 * MIB);
		for (size_t at = 0; at < sizes[i]; at++)
			if (p[at])
				ck_abort_msg("byte %zu of %zu", at, sizes[i]);
		memset(p, 0x5a, sizes[i]);
		ck_assert_int_eq(kmm_kvfree(k, p), 0);
	}
	ck_assert_int_eq(kmm_kvfree(k, NULL), 0);
	refused(kmm_kvmalloc(k, 5 * MIB, KMM_GFP_NOWAIT), ENOMEM, "may wait");
	refused(kmm_kvmalloc(k, 5 * MIB, KMM_GFP_KERNEL | KMM_GFP_HIGHMEM), EINVAL, "HighMem");
	refused(kmm_kvmalloc(k, 100, KMM_GFP_KERNEL | KMM_GFP_HIGHMEM), EINVAL, "HighMem");
	refused(kmm_kvmalloc(k, 65 * MIB, KMM_GFP_KERNEL), ENOMEM, "pool");
	refused(kmm_kvmalloc(NULL, 1, KMM_GFP_KERNEL), EINVAL, "NULL");
}
END_TEST

/* ---- threads, forks, ends ---- */

#define THREADS 4

static void *random_thread(void *arg)
{
	enum { LIVE = 6 };
	unsigned seed = (unsigned)(uintptr_t)arg;
	char *p[LIVE] = { NULL };
	size_t size[LIVE] = { 0 };
	uint64_t with[LIVE] = { 0 };

	for (unsigned step = 0; step < 400; step++) {
		unsigned i = (unsigned)rand_r(&seed) % LIVE;

		if (p[i]) {
			must(object_check(p[i], size[i], with[i]));
			must(kmm_vfree(k, p[i]) == 0);
			p[i] = NULL;
			continue;
		}
		size[i] = rand_r(&seed) % 3 ? (size_t)(rand_r(&seed) % 8 + 1) * 8192 :
		                              (size_t)rand_r(&seed) % (400 * KIB) + 1;
		with[i] = (uint64_t)rand_r(&seed);
		p[i] = kmm_vmalloc(k, size[i]);
		must(p[i] || errno == ENOMEM);
		if (p[i])
			object_fill(p[i], size[i], with[i]);
		if (step % 100 == 99)
			must(kmm_flush(k) == 0);
	}
	for (unsigned i = 0; i < LIVE; i++)
		must(kmm_vfree(k, p[i]) == 0);
	return NULL;
}

START_TEST(threads)
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, random_thread, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}
END_TEST

START_TEST(children_have_none)
{
	char *p = area_new(100 * KIB, 1);
	pid_t child = fork();
	int status;

	if (child == 0) {
		int r = can_be_read(p) ? 1 : kmm_vfree(k, p) != -EOWNERDEAD ? 2 : 0;

		_exit(r ? r : kmm_close(k));
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert(object_check(p, 100 * KIB, 1));
	ck_assert_int_eq(kmm_vfree(k, p), 0);
}
END_TEST

START_TEST(closing_ends_all)
{
	struct kmm *other = session_start(&d);
	char *live = kmm_vmalloc(other, 100 * KIB), *freed = kmm_vmalloc(other, 50 * KIB);
	char *stack = kmm_alloc_stack(other, 2);

	ck_assert(live && freed && stack);
	ck_assert_int_eq(kmm_vfree(other, freed), 0);
	ck_assert_int_eq(kmm_close(other), 0);
	ck_assert(!can_be_read(live) && !can_be_read(freed));
	ck_assert_uint_eq(daemon_free_pages(&d), free_at_start);
}
END_TEST

static void take_areas_and_stacks(struct kmm *own)
{
	for (size_t i = 0; i < SOME_SIZES; i++)
		must(kmm_vmalloc(own, some_sizes[i] / 2 + 1) && kmm_alloc_stack(own, 1));
}

START_TEST(death_gives_all_back)
{
	killed_after(take_areas_and_stacks);
}
END_TEST

static void add_common(TCase *t)
{
	tcase_add_test(t, every_size);
	tcase_add_test(t, its_pages_are_the_pools);
	tcase_add_test(t, zeroed);
	tcase_add_test(t, freed_ones_serve_again);
	tcase_add_test(t, not_all_is_kept);
	tcase_add_test(t, sizes_that_are_refused);
	tcase_add_test(t, frees_that_are_refused);
	tcase_add_test(t, areas_are_their_sessions);
	tcase_add_test(t, pages_that_leave_an_area);
	tcase_add_test(t, kvmalloc_takes_either);
	tcase_add_test(t, threads);
	tcase_add_test(t, closing_ends_all);
	tcase_add_test(t, death_gives_all_back);
}

int main(void)
{
	Suite *s = suite_create("vmalloc");
	TCase *small = fixture_case_long(s, "4k", setup_4k);

	add_common(small);
	tcase_add_test(small, children_have_none);
	add_common(fixture_case_long(s, "hugetlb", setup_hugetlb));
	add_common(fixture_case_long(s, "huge", setup_huge));
	return suite_run(s);
}
