/* SPDX-License-Identifier: MIT */
/*
 * High memory: pages without an address, until they are mapped.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

/* Copies between two pages, wherever they are. */
static void copy_highpage(struct page *to, struct page *from)
{
	void *vto = kmap_local_page(to);
	void *vfrom = kmap_local_page(from);

	memcpy(vto, vfrom, PAGE_SIZE);
	kunmap_local(vfrom);
	kunmap_local(vto);
}

static void clear_highpage(struct page *page)
{
	void *kaddr = kmap_local_page(page);

	memset(kaddr, 0, PAGE_SIZE);
	kunmap_local(kaddr);
}

/* ---- the tests ---- */

static struct page *high_page(void)
{
	struct page *page = alloc_page(GFP_HIGHUSER);

	ck_assert_msg(page != NULL, "%s", kmm_error_text());
	return page;
}

START_TEST(a_high_page_has_no_address)
{
	struct page *page = high_page();
	char *p, *q;

	ck_assert(page_address(page) == NULL);
	p = kmap(page);
	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	ck_assert_ptr_eq(page_address(page), p);
	strcpy(p, "here");
	/* nested: the same address, as long as one is left */
	q = kmap(page);
	ck_assert_ptr_eq(q, p);
	kunmap(page);
	ck_assert_str_eq(p, "here");
	kunmap(page);
	ck_assert(page_address(page) == NULL);
	p = kmap(page);
	ck_assert_str_eq(p, "here");
	kunmap(page);
	__free_page(page);
	kernel_is_clean();
}
END_TEST

START_TEST(low_pages_may_be_mapped_too)
{
	struct page *page = alloc_page(GFP_KERNEL);
	char *p = kmap(page);

	ck_assert_ptr_eq(page_address(page), p);
	kunmap(page);
	ck_assert_ptr_eq(page_address(page), p);
	p = kmap_atomic(page);
	ck_assert_ptr_nonnull(p);
	kunmap_atomic(p);
	__free_page(page);
}
END_TEST

START_TEST(pages_are_copied)
{
	struct page *page[3];
	unsigned long i;
	char *p;

	page[0] = alloc_page(GFP_KERNEL);
	page[1] = high_page();
	page[2] = high_page();
	p = page_address(page[0]);
	for (i = 0; i < PAGE_SIZE; i++)
		p[i] = (char)(i * 7);
	copy_highpage(page[1], page[0]);
	copy_highpage(page[2], page[1]);
	clear_highpage(page[0]);
	clear_highpage(page[1]);
	copy_highpage(page[0], page[2]);
	for (i = 0; i < PAGE_SIZE; i++)
		ck_assert_int_eq(p[i], (char)(i * 7));
	for (i = 0; i < 3; i++)
		__free_page(page[i]);
	kernel_is_clean();
}
END_TEST

/* Many more than are mapped at a time, and zeroed on request. */
START_TEST(many_pages)
{
	static struct page *page[500];
	unsigned long i;

	for (i = 0; i < ARRAY_SIZE(page); i++) {
		unsigned long *p;

		page[i] = alloc_page(GFP_HIGHUSER_MOVABLE | __GFP_ZERO);
		ck_assert_ptr_nonnull(page[i]);
		p = kmap_local_page(page[i]);
		ck_assert_uint_eq(p[PAGE_SIZE / sizeof(*p) - 1], 0);
		p[0] = i;
		kunmap_local(p);
	}
	for (i = 0; i < ARRAY_SIZE(page); i++) {
		unsigned long *p = kmap(page[i]);

		ck_assert_uint_eq(p[0], i);
		kunmap(page[i]);
		__free_page(page[i]);
	}
	kernel_is_clean();
}
END_TEST

static void add_common(TCase *t)
{
	tcase_add_test(t, a_high_page_has_no_address);
	tcase_add_test(t, pages_are_copied);
	tcase_add_test(t, many_pages);
}

KERNEL_CASES(kmap)
{
	TCase *t = kernel_case(s, "kmap");

	add_common(t);
	tcase_add_test(t, low_pages_may_be_mapped_too);
	add_common(kernel_case_huge(s, "kmap, huge pages"));
}
