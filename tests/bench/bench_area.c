/* SPDX-License-Identifier: MIT */
/*
 * Areas, and what the first touch of each kind of grant costs.
 *
 *     bench_area SOCKET [CPU]
 *
 * Rows, interleaved round by round:
 *   vmalloc+touch+vfree   64 KiB and 16 MiB, once warm: freed areas serve again
 *   mmap+touch+munmap     the same sizes, anonymous memory: the kernel's own way
 *   first touch: KIND     a new session is granted 1 MiB of that kind and writes to each of its 256
 *                         pages, ns a page: grant, mapping and page tables included
 *   kmap+kunmap           of a high page that was mapped before
 */
#include <errno.h>
#include <kmm/kmm.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/bench/bench.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define TOUCH_PAGES 256u

static const char *socket_path;

__attribute__((noreturn, cold)) static void fail(const char *what)
{
	fprintf(stderr, "bench_area: %s: %s (%s)\n", what, strerror(errno), kmm_error_text());
	exit(1);
}

static void touch(void *p, size_t size)
{
	for (size_t at = 0; at < size; at += KMM_PAGE_SIZE)
		((volatile char *)p)[at] = 1;
}

static struct kmm *session_open(void)
{
	struct kmm_options o = { .size = sizeof(o), .address = socket_path };
	struct kmm *k;

	if (kmm_open(&k, &o) != 0)
		fail("kmm_open");
	return k;
}

/* ---- areas ---- */

static double area_ns(struct kmm *k, size_t size, int rounds)
{
	double start = bench_now_ns();

	for (int i = 0; i < rounds; i++) {
		char *p = kmm_vmalloc(k, size);

		if (!p)
			fail("kmm_vmalloc");
		touch(p, size);
		if (kmm_vfree(k, p) != 0)
			fail("kmm_vfree");
	}
	return (bench_now_ns() - start) / rounds;
}

static double mmap_ns(size_t size, int rounds)
{
	double start = bench_now_ns();

	for (int i = 0; i < rounds; i++) {
		char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		               0);

		if (p == MAP_FAILED)
			fail("mmap");
		touch(p, size);
		munmap(p, size);
	}
	return (bench_now_ns() - start) / rounds;
}

/* ---- first touches: 1 MiB of a kind, in a session that has touched nothing yet ---- */

static void touch_block(struct kmm *k)
{
	void *p = kmm_get_free_pages(k, KMM_GFP_KERNEL, 8);

	if (!p)
		fail("kmm_get_free_pages");
	touch(p, MIB);
}

static void touch_kmalloc(struct kmm *k)
{
	for (unsigned i = 0; i < TOUCH_PAGES; i++) {
		void *p = kmm_kmalloc(k, KMM_PAGE_SIZE, KMM_GFP_KERNEL);

		if (!p)
			fail("kmm_kmalloc");
		touch(p, 1);
	}
}

static void touch_objects(struct kmm *k)
{
	struct kmm_cache *c = kmm_cache_create(k, "touch", 1000, 0, 0, NULL);

	if (!c)
		fail("kmm_cache_create");
	for (unsigned i = 0; i < 4 * TOUCH_PAGES; i++) {
		void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

		if (!p)
			fail("kmm_cache_alloc");
		touch(p, 1);
	}
}

static void touch_vmalloc(struct kmm *k)
{
	void *p = kmm_vmalloc(k, MIB);

	if (!p)
		fail("kmm_vmalloc");
	touch(p, MIB);
}

static void touch_kmap(struct kmm *k)
{
	for (unsigned i = 0; i < TOUCH_PAGES; i++) {
		struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_HIGHUSER_MOVABLE, 0);
		void *p = page ? kmm_kmap(k, page) : NULL;

		if (!p)
			fail("kmm_kmap");
		touch(p, 1);
	}
}

static void touch_percpu(struct kmm *k)
{
	for (unsigned i = 0; i < TOUCH_PAGES / 8; i++) {
		struct kmm_percpu *pc = kmm_alloc_percpu(k, 8 * KMM_PAGE_SIZE, 8);
		void *p = pc ? kmm_per_cpu_ptr(pc, 0) : NULL;

		if (!p)
			fail("kmm_alloc_percpu");
		touch(p, 8 * KMM_PAGE_SIZE);
	}
}

static void touch_stacks(struct kmm *k)
{
	for (unsigned i = 0; i < TOUCH_PAGES / 4; i++) {
		void *p = kmm_alloc_stack(k, 2);

		if (!p)
			fail("kmm_alloc_stack");
		touch(p, 4 * KMM_PAGE_SIZE);
	}
}

static double first_touch_ns(void (*grant)(struct kmm *k))
{
	struct kmm *k = session_open();
	double start = bench_now_ns(), ns;

	grant(k);
	ns = (bench_now_ns() - start) / TOUCH_PAGES;
	kmm_close(k);
	return ns;
}

/* ---- kmap ---- */

static double kmap_ns(struct kmm *k, struct kmm_page *page, int pairs)
{
	double start = bench_now_ns();

	for (int i = 0; i < pairs; i++)
		if (!kmm_kmap(k, page) || kmm_kunmap(k, page) != 0)
			fail("kmap");
	return (bench_now_ns() - start) / pairs;
}

int main(int argc, char *argv[])
{
	static const struct {
		const char *row;
		void (*grant)(struct kmm *k);
	} kind[] = {
		{ "first touch: page block", touch_block },
		{ "first touch: kmalloc, 4 KiB each", touch_kmalloc },
		{ "first touch: cache object, 1000 B each", touch_objects },
		{ "first touch: vmalloc", touch_vmalloc },
		{ "first touch: high page by kmap", touch_kmap },
		{ "first touch: per-CPU, 32 KiB each", touch_percpu },
		{ "first touch: stack, 16 KiB each", touch_stacks },
	};
	enum { KINDS = sizeof(kind) / sizeof(kind[0]) };
	static struct bench_row row[6] = {
		{ .name = "vmalloc+touch+vfree, 64 KiB", .unit = "ns" },
		{ .name = "mmap+touch+munmap, 64 KiB", .unit = "ns" },
		{ .name = "vmalloc+touch+vfree, 16 MiB", .unit = "ns" },
		{ .name = "mmap+touch+munmap, 16 MiB", .unit = "ns" },
		{ .name = "kmap+kunmap of a high page", .unit = "ns" },
		{ .name = "first touch: mmap", .unit = "ns/page" },
	};
	static struct bench_row first[KINDS];
	struct kmm_page *high;
	struct kmm *k;

	socket_path = bench_begin(argc, argv, "bench_area", -1);
	k = session_open();
	high = kmm_alloc_pages(k, KMM_GFP_HIGHUSER_MOVABLE, 0);
	if (!high)
		fail("kmm_alloc_pages");
	for (int i = 0; i < KINDS; i++)
		first[i] = (struct bench_row){ .name = kind[i].row, .unit = "ns/page" };
	area_ns(k, 64 * KIB, 10);
	area_ns(k, 16 * MIB, 2);
	for (int round = 0; round < BENCH_ROUNDS; round++) {
		bench_add(&row[0], area_ns(k, 64 * KIB, 1000));
		bench_add(&row[1], mmap_ns(64 * KIB, 200));
		bench_add(&row[2], area_ns(k, 16 * MIB, 20));
		bench_add(&row[3], mmap_ns(16 * MIB, 4));
		bench_add(&row[4], kmap_ns(k, high, 100000));
		bench_add(&row[5], mmap_ns(MIB, 4) / TOUCH_PAGES);
		for (int i = 0; i < KINDS; i++)
			bench_add(&first[i], first_touch_ns(kind[i].grant));
	}
	bench_print_all("area", row, sizeof(row) / sizeof(row[0]));
	bench_print_all("area", first, KINDS);
	kmm_close(k);
	return 0;
}
