/* SPDX-License-Identifier: MIT */
/*
 * kmalloc and its family: memory in bytes.
 */
#include "tests/kernel/kernel_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

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
	snprintf(p->name, sizeof(p->name), "%s", name);
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

/* Functions without a result tell of a refusal by errno and the text. */
START_TEST(refusals_show_in_errno)
{
	static DEFINE_PER_CPU(int, fixed);
	struct kmem_cache *c = kmem_cache_create("refused", 64, 0, 0, NULL);
	struct page *page = alloc_page(GFP_KERNEL | __GFP_HIGHMEM);
	char *p = kmalloc(64, GFP_KERNEL), *v = vmalloc(PAGE_SIZE * 3);
	int *counter = alloc_percpu(int);

#define REFUSED(call, error, what)                                                          \
	do {                                                                                \
		errno = 0;                                                                  \
		call;                                                                       \
		ck_assert_int_eq(errno, error);                                             \
		ck_assert_msg(strstr(kmm_error_text(), what) != NULL, "%s", kmm_error_text()); \
	} while (0)
	ck_assert(p && v && counter && page && c);
	REFUSED(kfree(p + 1), EINVAL, "");
	REFUSED(kfree(v), EINVAL, "vfree");
	REFUSED(kfree(counter), EINVAL, "free_percpu");
	REFUSED(kfree(&errno), EINVAL, "outside");
	REFUSED(free_pages((unsigned long)v, 0), EINVAL, "vfree");
	REFUSED(kmem_cache_free(c, p), EINVAL, "");
	REFUSED(vfree(p), EPERM, "kmm_kfree");
	REFUSED(free_percpu(p), EINVAL, "no per-CPU pointer");
	REFUSED(free_percpu(&fixed), EINVAL, "static");
	REFUSED(kunmap_local(&errno), EINVAL, "");
	REFUSED((void)virt_to_page(v), EINVAL, "kmm_vmalloc_to_page");
	REFUSED((void)pfn_to_page(1UL << 31), EPERM, "frames");
	REFUSED((void)!kmalloc(8, GFP_KERNEL | __GFP_HIGHMEM), EINVAL, "leave out HIGHMEM");
	REFUSED((void)!kmalloc(8, GFP_KERNEL | __GFP_HIGHMEM | 1U << 30), EINVAL, "undefined");
#undef REFUSED
	errno = 4711;
	kfree(p);
	vfree(v);
	free_percpu(counter);
	__free_page(page);
	kmem_cache_destroy(c);
	ck_assert_int_eq(errno, 4711);
	kernel_is_clean();
}
END_TEST

START_TEST(copies_and_arrays)
{
	char *text = kstrdup("seven", GFP_KERNEL), *copy = kmemdup("seven", 6, GFP_KERNEL);
	long *p = kvcalloc(3, sizeof(long), GFP_KERNEL);

	ck_assert_str_eq(text, "seven");
	ck_assert_str_eq(copy, "seven");
	ck_assert(!kstrdup(NULL, GFP_KERNEL));
	ck_assert(ZERO_OR_NULL_PTR(NULL) && !ZERO_OR_NULL_PTR(text));
	kfree(text);
	kfree(copy);
	ck_assert(p && p[2] == 0);
	kvfree(p);
	p = krealloc_array(NULL, 5, sizeof(long), GFP_KERNEL);
	ck_assert_ptr_nonnull(p);
	ck_assert(!krealloc_array(p, SIZE_MAX / 4, 8, GFP_KERNEL));
	ck_assert(!kvmalloc_array(SIZE_MAX / 4, 8, GFP_KERNEL));
	kfree(p);
	p = vmalloc_user(PAGE_SIZE * 2);
	ck_assert(p && p[PAGE_SIZE / sizeof(long)] == 0);
	vfree(p);
	p = vmalloc_node(PAGE_SIZE * 2, 0);
	ck_assert_ptr_nonnull(p);
	vfree(p);
	kernel_is_clean();
}
END_TEST

/* The child says why on stderr before it aborts. */
START_TEST(panic_says_why)
{
	char line[300] = "";
	int fd[2], status;
	ssize_t n;
	pid_t pid;

	ck_assert_int_eq(pipe(fd), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		dup2(fd[1], STDERR_FILENO);
		kmem_cache_create("panics", 0, 0, SLAB_PANIC, NULL);
		_exit(0);
	}
	close(fd[1]);
	n = read(fd[0], line, sizeof(line) - 1);
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(line[n - 1], '\n');
	ck_assert_msg(strstr(line, "panics") != NULL, "%s", line);
	close(fd[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
END_TEST

/* Success says nothing: neither errno nor the text of an earlier failure changes. */
START_TEST(success_leaves_errno_alone)
{
	char text[200];
	void *p;

	ck_assert(!kmalloc(KMALLOC_MAX_SIZE * 2, GFP_KERNEL));
	snprintf(text, sizeof(text), "%s", kmm_error_text());
	errno = 4711;
	p = kmalloc(100, GFP_KERNEL);
	p = krealloc(p, 1000, GFP_KERNEL);
	kfree(p);
	ck_assert_int_eq(errno, 4711);
	ck_assert_str_eq(kmm_error_text(), text);
}
END_TEST

/* What is returned is compared as any pointer, in C++, too. */
START_TEST(compared)
{
	struct page *page = alloc_page(GFP_KERNEL);
	char *p = page_address(page);
	const void *q = p;

	ck_assert(page_address(page) == p);
	ck_assert(q == page_address(page));
	ck_assert(page_address(page) != p + 1);
	ck_assert(page_address(page) == page_address(page));
	ck_assert(NULL != page_address(page));
	ck_assert(page_address(page) != 0);
	ck_assert_uint_eq((unsigned long)page_address(page), (unsigned long)p);
	__free_page(page);
	ck_assert((p = kmalloc(KMALLOC_MAX_SIZE + 1, GFP_KERNEL)) == NULL);
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
	tcase_add_test(t, refusals_show_in_errno);
	tcase_add_test(t, copies_and_arrays);
	tcase_add_test(t, panic_says_why);
	tcase_add_test(t, success_leaves_errno_alone);
	tcase_add_test(t, compared);
}
