/* SPDX-License-Identifier: MIT */
/*
 * kmalloc and its family: memory in bytes.
 */
#include "tests/kernel/kernel_test.h"

/* ---- the code ---- */

struct dog {
	char name[20];
	int age;
	struct dog *next;
};

static struct dog *dog_new(const char *name, int age)
{
	struct dog *p = kmalloc(sizeof *p, GFP_KERNEL);

	if (!p)
		return NULL;
	strncpy(p->name, name, sizeof(p->name) - 1);
	p->name[sizeof(p->name) - 1] = 0;
	p->age = age;
	p->next = NULL;
	return p;
}

struct kennel {
	struct dog *first;
	unsigned int n;
};

static int kennel_add(struct kennel *k, const char *name, int age)
{
	struct dog *p = dog_new(name, age);

	if (!p)
		return -ENOMEM;
	p->next = k->first;
	k->first = p;
	k->n++;
	return 0;
}

static void kennel_free(struct kennel *k)
{
	struct dog *p;

	while ((p = k->first) != NULL) {
		k->first = p->next;
		kfree(p);
		k->n--;
	}
}

/* A buffer that grows. */
struct buffer {
	char *data;
	size_t size, used;
};

static int buffer_add(struct buffer *b, const char *text, size_t n)
{
	if (b->used + n > b->size) {
		size_t size = 2 * (b->used + n);
		char *data = krealloc(b->data, size, GFP_KERNEL);

		if (!data)
			return -ENOMEM; /* what there is stays */
		b->data = data;
		b->size = size;
	}
	memcpy(b->data + b->used, text, n);
	b->used += n;
	return 0;
}

static void buffer_free(struct buffer *b)
{
	kfree(b->data);
	memset(b, 0, sizeof(*b));
}

/* ---- the tests ---- */

START_TEST(structures)
{
	struct kennel k = { NULL, 0 };
	struct dog *p;
	char name[20];
	int i;

	for (i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "dog %d", i);
		ck_assert_int_eq(kennel_add(&k, name, i), 0);
	}
	for (p = k.first; p; p = p->next) {
		snprintf(name, sizeof(name), "dog %d", p->age);
		ck_assert_str_eq(p->name, name);
	}
	ck_assert_uint_eq(k.n, 1000);
	kennel_free(&k);
	kernel_is_clean();
}
END_TEST

START_TEST(a_growing_buffer)
{
	struct buffer b = { NULL, 0, 0 };
	size_t i;

	for (i = 0; i < 20000; i++)
		ck_assert_int_eq(buffer_add(&b, "0123456789", 10), 0);
	for (i = 0; i < b.used; i++)
		ck_assert_int_eq(b.data[i], '0' + (int)(i % 10));
	buffer_free(&b);
	kernel_is_clean();
}
END_TEST

/* "50 bytes come from kmalloc-64": the size is rounded up to that of a cache. */
START_TEST(sizes_are_rounded_up)
{
	static const size_t size[] = { 1, 8, 9, 50, 64, 65, 97, 128, 129, 193, 4096, 8000, 8192 };
	static const size_t is[] = { 8, 8, 16, 64, 64, 96, 128, 128, 192, 256, 4096, 8192, 8192 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(size); i++) {
		void *p = kmalloc(size[i], GFP_KERNEL);

		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq(ksize(p), is[i]);
		/* a power of two is aligned to itself */
		if ((is[i] & (is[i] - 1)) == 0)
			ck_assert_uint_eq((unsigned long)p % (is[i] < PAGE_SIZE ? is[i] : PAGE_SIZE),
					  0);
		memset(p, 1, is[i]);
		kfree(p);
	}
	ck_assert_uint_eq(ksize(NULL), 0);
}
END_TEST

/* From 8 KiB on whole orders of pages, up to 4 MiB. */
START_TEST(limits)
{
	void *p;
	size_t size;

	for (size = 16384; size <= KMALLOC_MAX_SIZE; size *= 2) {
		p = kmalloc(size - 100, GFP_KERNEL);
		ck_assert_msg(p != NULL, "%zu bytes: %s", size, kmm_error_text());
		ck_assert_uint_eq(ksize(p), size);
		kfree(p);
	}
	errno = 0;
	ck_assert(!kmalloc(KMALLOC_MAX_SIZE + 1, GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* Zero bytes are a place that may be freed, and no more. */
START_TEST(zero_bytes)
{
	void *p = kmalloc(0, GFP_KERNEL), *q;

	ck_assert_ptr_nonnull(p);
	q = kmalloc(0, GFP_KERNEL);
	ck_assert_ptr_nonnull(q);
	kfree(p);
	p = krealloc(q, 0, GFP_KERNEL);
	ck_assert_ptr_nonnull(p);
	kfree(p);
	kfree(NULL);
	kernel_is_clean();
}
END_TEST

START_TEST(zeroed)
{
	int *p, i;

	p = kmalloc(400, GFP_KERNEL);
	memset(p, 0xff, 400);
	kfree(p);
	p = kzalloc(400, GFP_KERNEL);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(p[i], 0);
	memset(p, 0xff, 400);
	kfree(p);
	p = kcalloc(100, sizeof(int), GFP_KERNEL);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(p[i], 0);
	kfree(p);
}
END_TEST

/* A count from outside times a size: no small buffer for many things. */
START_TEST(arrays_do_not_overflow)
{
	long *p = kmalloc_array(100, sizeof(long), GFP_KERNEL);

	ck_assert_ptr_nonnull(p);
	p[99] = 1;
	kfree(p);
	ck_assert(!kmalloc_array(SIZE_MAX / 4, 8, GFP_KERNEL));
	ck_assert(!kcalloc(SIZE_MAX / 2 + 2, 2, GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(aligned)
{
	size_t align;

	for (align = 8; align <= 65536; align *= 2) {
		char *p = kmalloc_align(100, align, GFP_KERNEL);

		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq((unsigned long)p % align, 0);
		p[99] = 1;
		kfree(p);
	}
	ck_assert(!kmalloc_align(100, 24, GFP_KERNEL));
}
END_TEST

/* What held a key is not to be found in the next one's memory. */
START_TEST(secrets)
{
	struct kmem_cache *c = kmem_cache_create("keys", 512, 0, 0, NULL);
	char *p = kmem_cache_alloc(c, GFP_KERNEL), *q;
	int i;

	memset(p, 'k', 512);
	kfree_sensitive(p);
	q = kmem_cache_alloc(c, GFP_KERNEL);
	ck_assert_ptr_eq(q, p); /* the thread's last one */
	for (i = 0; i < 512; i++)
		ck_assert_int_eq(q[i], 0);
	kmem_cache_free(c, q);
	p = kmalloc(20000, GFP_KERNEL);
	memset(p, 'k', 20000);
	kfree_sensitive(p);
	kfree_sensitive(NULL);
	/* what is not ours is neither freed nor written over */
	strcpy((char *)(p = kmalloc(8, GFP_KERNEL)), "keep");
	kfree_sensitive(p + 1);
	ck_assert_str_eq(p, "keep");
	kfree(p);
	kmem_cache_destroy(c);
	kernel_is_clean();
}
END_TEST

START_TEST(contexts)
{
	static const gfp_t gfp[] = {
		GFP_KERNEL, GFP_ATOMIC, GFP_NOWAIT, GFP_NOIO, GFP_NOFS, GFP_USER, GFP_KERNEL | GFP_DMA,
		GFP_KERNEL | __GFP_NOWARN, __GFP_WAIT | __GFP_IO | __GFP_FS,
		GFP_KERNEL | __GFP_RETRY_MAYFAIL, GFP_KERNEL | __GFP_NORETRY,
		GFP_KERNEL | __GFP_NOFAIL, GFP_KERNEL_ACCOUNT, GFP_KERNEL | __GFP_RECLAIMABLE,
		GFP_KERNEL | __GFP_NOMEMALLOC,
	};
	size_t i;

	ck_assert_uint_eq(GFP_KERNEL, __GFP_WAIT | __GFP_IO | __GFP_FS);
	for (i = 0; i < ARRAY_SIZE(gfp); i++) {
		void *p = kmalloc(100, gfp[i]);

		ck_assert_msg(p != NULL, "gfp %x: %s", gfp[i], kmm_error_text());
		kfree(p);
	}
	ck_assert(!kmalloc(100, GFP_KERNEL | __GFP_MEMALLOC)); /* the daemon's own */
	ck_assert_int_eq(errno, EPERM);
	kfree(kmalloc_node(100, GFP_KERNEL | __GFP_THISNODE, 0));
	kfree(kzalloc_node(100, GFP_KERNEL, NUMA_NO_NODE));
}
END_TEST

/* Success says nothing: neither errno nor the text of an earlier failure changes. */
START_TEST(success_leaves_errno_alone)
{
	char text[200];
	void *p;

	ck_assert(!kmalloc(KMALLOC_MAX_SIZE * 2, GFP_KERNEL));
	strncpy(text, kmm_error_text(), sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	errno = 4711;
	p = kmalloc(100, GFP_KERNEL);
	p = krealloc(p, 1000, GFP_KERNEL);
	kfree(p);
	ck_assert_int_eq(errno, 4711);
	ck_assert_str_eq(kmm_error_text(), text);
}
END_TEST

KERNEL_CASES(kmalloc)
{
	TCase *t = kernel_case(s, "kmalloc");

	tcase_add_test(t, structures);
	tcase_add_test(t, a_growing_buffer);
	tcase_add_test(t, sizes_are_rounded_up);
	tcase_add_test(t, limits);
	tcase_add_test(t, zero_bytes);
	tcase_add_test(t, zeroed);
	tcase_add_test(t, arrays_do_not_overflow);
	tcase_add_test(t, aligned);
	tcase_add_test(t, secrets);
	tcase_add_test(t, contexts);
	tcase_add_test(t, success_leaves_errno_alone);
}
