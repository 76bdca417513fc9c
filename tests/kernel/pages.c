/* SPDX-License-Identifier: MIT */
/*
 * Pages: blocks by their struct page and by their address, as the chapters on the page allocator of
 * books about kernel programming use them.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

/* A message buffer of eight pages that are contiguous. */
struct msgbuf {
	unsigned long area;
	unsigned int order;
};

static int msgbuf_open(struct msgbuf *m)
{
	m->order = 3;
	m->area = __get_free_pages(GFP_KERNEL, m->order);
	if (!m->area) {
		/* insufficient memory: this has to be handled */
		return -ENOMEM;
	}
	return 0;
}

static void msgbuf_close(struct msgbuf *m)
{
	free_pages(m->area, m->order);
	m->area = 0;
}

/* A page that goes to user space must not show what was in it. */
static unsigned long clean_page(void)
{
	unsigned long page = get_zeroed_page(GFP_KERNEL);

	if (!page)
		printk(KERN_ERR "clean_page: no memory\n");
	return page;
}

/* A ring of pages, by struct page. */
struct ring {
	struct page *page[16];
	unsigned int n;
};

static int ring_fill(struct ring *r)
{
	for (r->n = 0; r->n < ARRAY_SIZE(r->page); r->n++) {
		r->page[r->n] = alloc_page(GFP_KERNEL);
		if (!r->page[r->n])
			goto out;
		memset(page_address(r->page[r->n]), (int)r->n, PAGE_SIZE);
	}
	return 0;
out:
	while (r->n > 0)
		__free_page(r->page[--r->n]);
	return -ENOMEM;
}

static void ring_empty(struct ring *r)
{
	while (r->n > 0)
		__free_page(r->page[--r->n]);
}

/* ---- the tests ---- */

START_TEST(a_block_by_its_address)
{
	struct msgbuf m;
	unsigned long i;

	ck_assert_int_eq(msgbuf_open(&m), 0);
	ck_assert_uint_eq(m.area % (PAGE_SIZE << 3), 0); /* blocks are aligned to their size */
	for (i = 0; i < PAGE_SIZE << 3; i++)
		((char *)m.area)[i] = (char)(i / PAGE_SIZE);
	for (i = 0; i < PAGE_SIZE << 3; i++)
		ck_assert_int_eq(((char *)m.area)[i], (char)(i / PAGE_SIZE));
	msgbuf_close(&m);
	kernel_is_clean();
}
END_TEST

START_TEST(a_zeroed_page)
{
	unsigned long page, i;

	/* not because nobody has used it yet */
	page = __get_free_page(GFP_KERNEL);
	ck_assert_uint_ne(page, 0);
	memset((void *)page, 0x5a, PAGE_SIZE);
	free_page(page);
	page = clean_page();
	ck_assert_uint_ne(page, 0);
	for (i = 0; i < PAGE_SIZE; i++)
		ck_assert_int_eq(((char *)page)[i], 0);
	free_page(page);
	/* the name of former times */
	page = get_free_page(GFP_ATOMIC);
	ck_assert_uint_ne(page, 0);
	free_page(page);
}
END_TEST

START_TEST(pages_by_their_struct)
{
	struct ring r;
	unsigned int i;
	char *p;

	ck_assert_int_eq(ring_fill(&r), 0);
	for (i = 0; i < r.n; i++) {
		p = page_address(r.page[i]);
		ck_assert_int_eq(p[0], (char)i);
		ck_assert_int_eq(p[PAGE_SIZE - 1], (char)i);
		ck_assert_ptr_eq(virt_to_page(p), r.page[i]);
		ck_assert_ptr_eq(virt_to_page((unsigned long)p + 100), r.page[i]);
		ck_assert_ptr_eq(pfn_to_page(page_to_pfn(r.page[i])), r.page[i]);
		ck_assert_int_eq(page_count(r.page[i]), 1);
	}
	ring_empty(&r);
	kernel_is_clean();
}
END_TEST

/* The pages of a block are side by side, in struct page as in memory. */
START_TEST(a_compound_block)
{
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_COMP, 2);
	char *p;

	ck_assert_ptr_nonnull(page);
	p = page_address(page);
	ck_assert_ptr_eq(page_address(page + 3), p + 3 * PAGE_SIZE);
	ck_assert_ptr_eq(virt_to_page(p + 3 * PAGE_SIZE + 5), page + 3);
	ck_assert_ptr_eq(virt_to_head_page(p + 3 * PAGE_SIZE + 5), page);
	ck_assert_ptr_eq(virt_to_head_page((unsigned long)p), page);
	ck_assert_uint_eq(page_to_pfn(page + 3), page_to_pfn(page) + 3);
	__free_pages(page, 2);
	kernel_is_clean();
}
END_TEST

/* get_page keeps a block over the owner's free, put_page is the other half. */
START_TEST(references)
{
	struct page *page = alloc_pages(GFP_KERNEL, 1);
	char *p = page_address(page);

	get_page(page);
	p[5000] = 7;
	__free_pages(page, 1);
	ck_assert_int_eq(p[5000], 7);
	ck_assert_int_eq(page_count(page), 1);
	put_page(page);
	ck_assert_int_eq(page_count(page), 0);
	/* a tail page counts for its block */
	page = alloc_pages(GFP_KERNEL, 1);
	get_page(page + 1);
	put_page(page + 1);
	ck_assert_int_eq(page_count(page), 1);
	/* the reference of the allocation is given up by put_page, too */
	errno = 17;
	put_page(page);
	ck_assert_int_eq(errno, 17);
	ck_assert_int_eq(page_count(page), 0);
	kernel_is_clean();
}
END_TEST

/* In Linux these corrupt the allocator; here they do nothing, and say so. */
START_TEST(wrong_frees)
{
	struct page *page = alloc_pages(GFP_KERNEL, 2);
	unsigned long addr = (unsigned long)page_address(page);

	__free_pages(page, 3);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "order 2, not 3"));
	free_pages(addr, 0);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "order 2, not 0"));
	free_page(addr + PAGE_SIZE);
	ck_assert_int_eq(page_count(page), 1);
	__free_pages(page, 2);
	ck_assert_int_eq(page_count(page), 0);
	__free_pages(page, 2);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "given back before"));
	__free_pages(NULL, 0);
	free_pages(0, 3);
	free_page(0);
	kernel_is_clean();
}
END_TEST

/* What may not wait fails at once; what asks for the impossible fails, too. */
START_TEST(failures)
{
	errno = 0;
	ck_assert_ptr_null(alloc_pages(GFP_KERNEL, MAX_PAGE_ORDER + 1));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(__get_free_pages(GFP_HIGHUSER, 0), 0); /* high memory has no address */
	ck_assert_ptr_null(pfn_to_page(~0UL));
	ck_assert_ptr_null(virt_to_page(&errno));
	kernel_take_memory();
	errno = 0;
	ck_assert_ptr_null(alloc_pages(GFP_NOWAIT, 0));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(get_zeroed_page(GFP_NOWAIT), 0);
	kernel_give_memory();
}
END_TEST

/* Interrupt handlers ask with GFP_ATOMIC, which reaches into the reserve. */
START_TEST(atomic_takes_from_the_reserve)
{
	struct page *page;

	kernel_take_memory();
	ck_assert_ptr_null(alloc_page(GFP_NOWAIT));
	page = alloc_page(GFP_ATOMIC);
	ck_assert_msg(page != NULL, "%s", kmm_error_text());
	__free_page(page);
	kernel_give_memory();
}
END_TEST

START_TEST(zones_and_nodes)
{
	static const gfp_t gfp[] = { GFP_DMA, GFP_DMA32, GFP_KERNEL, GFP_HIGHUSER,
				     GFP_HIGHUSER_MOVABLE, GFP_USER };
	struct page *page = alloc_pages(GFP_KERNEL | gfp[_i], 0);

	ck_assert_msg(page != NULL, "%s", kmm_error_text());
	__free_page(page);
	page = alloc_pages_node(0, GFP_KERNEL | __GFP_THISNODE, 0);
	ck_assert_ptr_nonnull(page);
	__free_page(page);
	page = alloc_pages_node(NUMA_NO_NODE, GFP_KERNEL, 1);
	ck_assert_ptr_nonnull(page);
	__free_pages(page, 1);
	ck_assert_ptr_null(alloc_pages_node(63, GFP_KERNEL, 0));
}
END_TEST

KERNEL_CASES(pages)
{
	TCase *t = kernel_case(s, "pages");

	tcase_add_test(t, a_block_by_its_address);
	tcase_add_test(t, a_zeroed_page);
	tcase_add_test(t, pages_by_their_struct);
	tcase_add_test(t, a_compound_block);
	tcase_add_test(t, references);
	tcase_add_test(t, wrong_frees);
	tcase_add_test(t, failures);
	tcase_add_test(t, atomic_takes_from_the_reserve);
	tcase_add_loop_test(t, zones_and_nodes, 0, 6);
}
