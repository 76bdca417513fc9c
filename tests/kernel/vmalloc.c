/* SPDX-License-Identifier: MIT */
/*
 * vmalloc: memory in one piece for the program, of pages that are scattered.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

/* A module's large buffer: of no device's interest, so its pages may lie anywhere. */
#define LOG_BYTES (16 * PAGE_SIZE)

static char *log_buffer;
static unsigned long log_used;

static int __init log_init(void)
{
	log_buffer = vmalloc(LOG_BYTES);
	if (!log_buffer)
		return -ENOMEM;
	log_used = 0;
	return 0;
}

static int log_add(const char *text)
{
	unsigned long n = strlen(text);

	if (log_used + n > LOG_BYTES)
		return -ENOSPC;
	memcpy(log_buffer + log_used, text, n);
	log_used += n;
	return 0;
}

static void __exit log_exit(void)
{
	vfree(log_buffer);
	log_buffer = NULL;
}

/* A table whose size the user chooses: small ones from kmalloc, large ones wherever they fit. */
static unsigned int *table_new(size_t n)
{
	return kvzalloc(n * sizeof(unsigned int), GFP_KERNEL);
}

/* ---- the tests ---- */

START_TEST(a_modules_buffer)
{
	unsigned long i;

	ck_assert_int_eq(log_init(), 0);
	while (log_add("0123456789abcdef") == 0)
		;
	ck_assert_uint_eq(log_used, LOG_BYTES);
	for (i = 0; i < LOG_BYTES; i++)
		ck_assert_int_eq(log_buffer[i], "0123456789abcdef"[i % 16]);
	log_exit();
	vfree(NULL);
	kernel_is_clean();
}
END_TEST

/* Each page has a struct page, and is not what kmalloc's addresses are. */
START_TEST(pages_of_an_area)
{
	char *p = vmalloc(5 * PAGE_SIZE), *q = kmalloc(5 * PAGE_SIZE, GFP_KERNEL);
	struct page *page[5];
	int i, j;

	ck_assert_ptr_nonnull(p);
	ck_assert(is_vmalloc_addr(p));
	ck_assert(is_vmalloc_addr(p + 5 * PAGE_SIZE - 1));
	ck_assert(!is_vmalloc_addr(q));
	ck_assert(!is_vmalloc_addr(&i));
	for (i = 0; i < 5; i++) {
		page[i] = vmalloc_to_page(p + i * PAGE_SIZE + 7);
		ck_assert_ptr_nonnull(page[i]);
		for (j = 0; j < i; j++)
			ck_assert_ptr_ne(page[i], page[j]);
	}
	ck_assert_ptr_null(vmalloc_to_page(q));
	kfree(q);
	vfree(p);
}
END_TEST

START_TEST(zeroed)
{
	unsigned long n = 3 * 1024 * 1024, i;
	char *p = vmalloc(n);

	ck_assert_ptr_nonnull(p);
	memset(p, 0xff, n);
	vfree(p);
	p = vzalloc(n);
	ck_assert_ptr_nonnull(p);
	for (i = 0; i < n; i += 64)
		ck_assert_int_eq(p[i], 0);
	vfree(p);
	kernel_is_clean();
}
END_TEST

START_TEST(with_flags)
{
	unsigned long n = 5 * PAGE_SIZE, i;
	char *p = __vmalloc(n, GFP_KERNEL);

	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	ck_assert(is_vmalloc_addr(p));
	memset(p, 0xff, n);
	vfree(p);
	p = __vmalloc(n, GFP_NOWAIT | __GFP_ZERO);
	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	for (i = 0; i < n; i++)
		ck_assert_int_eq(p[i], 0);
	vfree(p);
	ck_assert(!__vmalloc(n, GFP_KERNEL | __GFP_MEMALLOC));
	kernel_is_clean();
}
END_TEST

START_TEST(tables_of_any_size)
{
	static const size_t n[] = { 10, 5000, 3000000 };
	size_t k, i;

	for (k = 0; k < ARRAY_SIZE(n); k++) {
		unsigned int *t = table_new(n[k]);

		ck_assert_msg(t != NULL, "%zu: %s", n[k], kmm_error_text());
		for (i = 0; i < n[k]; i++) {
			ck_assert_uint_eq(t[i], 0);
			t[i] = (unsigned int)i;
		}
		ck_assert_uint_eq(t[n[k] - 1], n[k] - 1);
		kvfree(t);
	}
	/* more than 4 MiB cannot have been kmalloc's */
	void *large = kvmalloc(KMALLOC_MAX_SIZE + 1, GFP_KERNEL);
	ck_assert(is_vmalloc_addr(large));
	kvfree(large);
	kvfree(NULL);
	kernel_is_clean();
}
END_TEST

/* What vmalloc is for: memory that is there, but nowhere in one piece. */
START_TEST(serves_where_kmalloc_cannot)
{
	static struct page *page[1 << 15];
	size_t n = 0, i;
	void *p;

	while (n < ARRAY_SIZE(page) && (page[n] = alloc_page(GFP_NOWAIT)) != NULL)
		n++;
	/* every other one is free again */
	for (i = 0; i < n; i += 2)
		__free_page(page[i]);
	ck_assert_int_eq(kmm_flush(kmm_kernel_session()), 0);
	ck_assert(!kmalloc(1024 * 1024, GFP_NOWAIT));
	p = vmalloc(1024 * 1024);
	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	memset(p, 1, 1024 * 1024);
	vfree(p);
	p = kvmalloc(1024 * 1024, GFP_KERNEL);
	ck_assert(is_vmalloc_addr(p));
	kvfree(p);
	for (i = 1; i < n; i += 2)
		__free_page(page[i]);
	kernel_is_clean();
}
END_TEST

static void add_common(TCase *t)
{
	tcase_add_test(t, a_modules_buffer);
	tcase_add_test(t, pages_of_an_area);
	tcase_add_test(t, zeroed);
	tcase_add_test(t, with_flags);
}

KERNEL_CASES(vmalloc)
{
	TCase *t = kernel_case(s, "vmalloc");

	add_common(t);
	tcase_add_test(t, tables_of_any_size);
	tcase_add_test(t, serves_where_kmalloc_cannot);
	add_common(kernel_case_huge(s, "vmalloc, huge pages"));
}
