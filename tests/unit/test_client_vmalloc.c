/* SPDX-License-Identifier: MIT */
/*
 * Areas and stacks against a played daemon (test_vmalloc.h): what they are made of, how they are
 * mapped, what is kept of freed ones, what is undone when something fails. At random:
 * model/vmalloc_model.c.
 */
#include <sys/wait.h>

#include "tests/unit/test_vmalloc.h"

#include "tests/suite.h"

START_TEST(neighbours_are_one_mapping)
{
	struct block_list l = BLOCK_LIST_INIT;
	struct block_want want = { .gfp = VMALLOC_GFP, .pages = 64, .order_max = 0 };
	struct call_how how = { 0 };
	struct vmap *a;

	begin(12);
	want.gfp &= ~KMM_GFP_HIGHMEM;
	ck_assert_int_eq(blocks_alloc(&k, &how, &want, &l), 0);
	ck_assert_uint_eq(l.n, 64);
	ck_assert_int_eq(vmap_make(&k, CONTROL_AREA_VMALLOC, &l, &a), 0);
	ck_assert_uint_eq(a->mappings, 2); /* 64 pages in a row, and the guard */
	vmap_discard(&k, a);
	end();
}
END_TEST

START_TEST(scattered_pages_have_a_mapping_each)
{
	char *p;

	begin(12);
	for (uint32_t i = 0; i < FRAMES; i++)
		in_use[i] = i % 2;
	p = kmm_vmalloc(&k, 200 * KMM_PAGE_SIZE);
	ck_assert_ptr_nonnull(p);
	stamp(p, 200, 1000);
	for (unsigned i = 0; i < 200; i++)
		at_its_page(p, i, 1000);
	valid();
	ck_assert_int_eq(kmm_vfree(&k, p), 0);
	memset(in_use, 0, sizeof(in_use));
	for (uint32_t i = 0; i < FRAMES; i++)
		in_use[i] = order_at[i] != NOBODY;
	end();
}
END_TEST

/* In a pool of huge pages: whole ones, then small ones from the high zones, each for the other. */
START_TEST(what_areas_are_made_of)
{
	static const struct {
		size_t pages;
		uint32_t low, high; /* frames that it takes */
	} want[] = {
		{ 1, 0, 1 },       { 255, 0, 255 },   { 256, 512, 0 },     { 511, 512, 0 },
		{ 512, 512, 0 },   { 513, 512, 1 },   { 767, 512, 255 },   { 768, 1024, 0 },
		{ 1500, 1536, 0 }, { 4096, 4096, 0 }, { 4100, 4096, 4 },
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		uint32_t low = 0, high = 0, f;
		char *p;

		begin(21);
		p = kmm_vmalloc(&k, want[i].pages * KMM_PAGE_SIZE);
		ck_assert_ptr_nonnull(p);
		for (f = 0; f < FRAMES; f++)
			*(f < LOW ? &low : &high) += in_use[f];
		ck_assert_msg(low == want[i].low && high == want[i].high,
		              "%zu pages: %u low, %u high", want[i].pages, low, high);
		stamp(p, want[i].pages, 7);
		at_its_page(p, want[i].pages - 1, 7);
		ck_assert_int_eq(kmm_vfree(&k, p), 0);
		end();
	}
}
END_TEST

START_TEST(each_stands_in_for_the_other)
{
	char *p, *q;

	begin(21);
	memset(in_use + LOW, true, HIGH); /* no small pages */
	p = kmm_vmalloc(&k, KMM_PAGE_SIZE);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(used(), HIGH + 512);
	stamp(p, 512, 3); /* it is longer than asked for */
	ck_assert_int_eq(kmm_vfree(&k, p), 0);
	ck_assert_ptr_eq(kmm_vmalloc(&k, 4000), p); /* found by what was wanted */
	ck_assert_int_eq(kmm_vfree(&k, p), 0);
	memset(in_use + LOW, false, HIGH);
	vmalloc_purge(&k, true);

	memset(in_use, true, LOW); /* no huge ones */
	q = kmm_vmalloc(&k, 600 * KMM_PAGE_SIZE);
	ck_assert_ptr_nonnull(q);
	ck_assert_uint_eq(used(), LOW + 600);
	ck_assert_int_eq(kmm_vfree(&k, q), 0);
	memset(in_use, false, LOW);
	end();
}
END_TEST

/* Of pages of 1 GiB only the high zones can be mapped in pieces. */
START_TEST(huge_pages_too_large_to_use)
{
	char *p;

	begin(30);
	p = kmm_vmalloc(&k, 1000 * KMM_PAGE_SIZE);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(used(), 1000);
	ck_assert(!in_use[0] && !in_use[LOW - 1]);
	ck_assert_ptr_null(kmm_vmalloc(&k, (HIGH + 1) * KMM_PAGE_SIZE));
	ck_assert_int_eq(kmm_vfree(&k, p), 0);
	end();
	begin(30);
	k.pages = k.frames; /* there are none */
	ck_assert_ptr_null(kmm_vmalloc(&k, KMM_PAGE_SIZE));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_nonnull(strstr(last_text, "highmem"));
	end();
}
END_TEST

START_TEST(pages_that_move_are_pinned)
{
	char *p;
	unsigned int n = 0;

	begin(12);
	for (uint32_t i = 0; i < FRAMES; i++)
		in_use[i] = i < LOW || i % 2;
	p = kmm_vmalloc(&k, 50 * KMM_PAGE_SIZE);
	ck_assert_ptr_nonnull(p);
	for (uint32_t page = FRAMES; page < k.pages; page++) {
		uint64_t w = owner_load(&k.control.word[page]);

		ck_assert_int_eq(owner_is(w, OWNER_HELD, ME), page_pinned(&k, page));
		if (owner_is(w, OWNER_HELD, ME)) {
			ck_assert(w & OWNER_MAPPED);
			n++;
		}
	}
	ck_assert_uint_eq(n, 50);
	valid();
	ck_assert_int_eq(kmm_vfree(&k, p), 0);
	vmalloc_purge(&k, true);
	for (uint32_t page = FRAMES; page < k.pages; page++)
		ck_assert(!page_pinned(&k, page));
	for (uint32_t i = 0; i < FRAMES; i++)
		in_use[i] = false;
	end();
}
END_TEST

START_TEST(collected_ones_are_not_used_again)
{
	char *p, *q;

	begin(12);
	p = kmm_vmalloc(&k, 100 * KMM_PAGE_SIZE);
	ck_assert_int_eq(kmm_vfree(&k, p), 0);
	ck_assert_uint_eq(vmap_free_pages(&k), 100);
	ck_assert_uint_gt(collect(1), 0);
	alloc_calls = 0;
	q = kmm_vmalloc(&k, 100 * KMM_PAGE_SIZE);
	ck_assert_uint_eq(alloc_calls, 1);
	ck_assert_uint_eq(vmap_free_pages(&k), 0);
	ck_assert_ptr_nonnull(q);
	ck_assert_int_eq(kmm_vfree(&k, q), 0);
	alloc_calls = 0;
	ck_assert_ptr_eq(kmm_vmalloc(&k, 100 * KMM_PAGE_SIZE), q);
	ck_assert_uint_eq(alloc_calls, 0);
	/* Where memory is short nothing is kept. */
	atomic_store(&k.control.status->pressure, 1);
	ck_assert_int_eq(kmm_vfree(&k, q), 0);
	ck_assert_uint_eq(used(), 0);
	end();
}
END_TEST

START_TEST(overruns_are_reported)
{
	begin(12);
	for (unsigned order = 0; order < 3; order++) {
		char *p = kmm_alloc_stack(&k, order);

		ck_assert_ptr_nonnull(p);
		p[7]++;
		ck_assert_int_eq(kmm_free_stack(&k, p), -EFAULT);
		ck_assert_int_eq(kmm_free_stack(&k, p), -ENOENT);
	}
	ck_assert_uint_eq(reports, 3);
	ck_assert_uint_eq(events, 3);
	end();
}
END_TEST

START_TEST(each_failure_is_undone)
{
	for (int n = 1; n < 200; n++) {
		char *p;

		begin(12);
		for (uint32_t i = 0; i < FRAMES; i++)
			in_use[i] = i < LOW || i % 3;
		fail_map = n;
		p = kmm_vmalloc(&k, 60 * KMM_PAGE_SIZE);
		ck_assert_int_eq(p == NULL, n <= 60);
		if (p)
			ck_assert_int_eq(kmm_vfree(&k, p), 0);
		vmalloc_purge(&k, true);
		for (uint32_t i = 0; i < FRAMES; i++) {
			ck_assert_int_eq(in_use[i], i < LOW || i % 3);
			in_use[i] = false;
		}
		end();
		if (p)
			return;
	}
	ck_abort_msg("it never succeeds");
}
END_TEST

/* A quarter of what the kernel allows a process, for all areas together. */
START_TEST(mappings_are_bounded)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	unsigned int limit = 0, had = 0;
	char *p[64];

	ck_assert(f && fscanf(f, "%u", &limit) == 1);
	fclose(f);
	begin(12);
	for (uint32_t i = 0; i < FRAMES; i++)
		in_use[i] = i % 2;
	/* All that there is at once takes less than the bound here; what counts is the sum. */
	while (had < 64 && (p[had] = kmm_vmalloc(&k, 1000 * KMM_PAGE_SIZE)))
		had++;
	ck_assert_uint_gt(had, 3);
	ck_assert(errno == ENOMEM);
	if (limit / 4 < 5000)
		ck_assert_ptr_nonnull(strstr(last_text, "max_map_count"));
	while (had > 0)
		ck_assert_int_eq(kmm_vfree(&k, p[--had]), 0);
	vmalloc_purge(&k, true);
	memset(in_use, 0, sizeof(in_use));
	end();
}
END_TEST

/* What the daemon says is looked at: an area, and a stack in the window, are as large as asked for. */
START_TEST(offers_of_other_orders)
{
	static const int wrong[] = { 8, 11, 63 };

	for (int i = 0; i < 3; i++) {
		begin(21);
		offer_order = wrong[i];
		ck_assert_ptr_null(kmm_vmalloc(&k, 512 * KMM_PAGE_SIZE));
		ck_assert_int_eq(errno, EPROTO);
		ck_assert_ptr_nonnull(strstr(last_text, "no such block"));
		for (uint32_t page = 0; page < LOW; page++)
			if (owner_is(owner_load(&k.control.word[page]), OWNER_OFFERED, ME))
				take_back(page);
		end();
	}
}
END_TEST

/* Areas do not come into a child, and so do not count there. depth: that many in a row. */
static int child_of_many(unsigned int depth)
{
	int status;
	pid_t pid;

	begin(12);
	for (uint32_t i = 0; i < FRAMES; i++)
		in_use[i] = i % 2;
	for (int i = 0; i < 5; i++)
		if (!kmm_vmalloc(&k, 1000 * KMM_PAGE_SIZE))
			return 1;
	if (depth == 0)
		return 0;
	pid = fork();
	if (pid == 0)
		_exit(child_of_many(depth - 1));
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status)
	               ? WEXITSTATUS(status)
	               : 2;
}

START_TEST(a_childs_mappings_are_its_own)
{
	ck_assert_int_eq(child_of_many(4), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client vmalloc");
	TCase *t = tcase_create("areas");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, neighbours_are_one_mapping);
	tcase_add_test(t, scattered_pages_have_a_mapping_each);
	tcase_add_test(t, what_areas_are_made_of);
	tcase_add_test(t, each_stands_in_for_the_other);
	tcase_add_test(t, huge_pages_too_large_to_use);
	tcase_add_test(t, pages_that_move_are_pinned);
	tcase_add_test(t, collected_ones_are_not_used_again);
	tcase_add_test(t, overruns_are_reported);
	tcase_add_test(t, each_failure_is_undone);
	tcase_add_test(t, mappings_are_bounded);
	tcase_add_test(t, offers_of_other_orders);
	tcase_add_test(t, a_childs_mappings_are_its_own);
	suite_add_tcase(s, t);
	return suite_status(s);
}
