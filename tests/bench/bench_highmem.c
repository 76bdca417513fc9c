/* SPDX-License-Identifier: MIT */
/*
 * High memory as a program maps it, against the system's own way to a page of shared memory.
 *
 *     bench_highmem SOCKET [CPU]
 *
 * Rows, interleaved round by round:
 *   kmap+kunmap pair     of one page again and again; of 1024 in turn, which all have been mapped
 *   nested               of a page that is mapped meanwhile
 *   low memory           of a page that has its place in the window
 *   pair, no slot left   each of more pages than the session keeps mapped: system calls each time
 *   mmap, munmap         of a page of a memfd, touched
 */
#include <kmm/kmm.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define PAIRS 1000000
#define TURNS 1024
#define MANY 6000 /* more than can be mapped at a time */

static struct kmm *k;
static struct kmm_page *page[MANY];

__attribute__((noreturn, cold)) static void fail(const char *what)
{
	fprintf(stderr, "bench_highmem: %s: %s\n", what, kmm_error_text());
	exit(1);
}

/* Pages page[0..n) in turn, `pairs` in all. */
static double pair_ns(unsigned int n, int pairs)
{
	double start = bench_now_ns();
	unsigned int at = 0;

	for (int i = 0; i < pairs; i++) {
		char *p = kmm_kmap(k, page[at]);

		if (!p)
			fail("kmm_kmap");
		__asm__ volatile("" : : "r"(p) : "memory");
		if (kmm_kunmap(k, page[at]) != 0)
			fail("kmm_kunmap");
		at = at + 1 == n ? 0 : at + 1;
	}
	return (bench_now_ns() - start) / pairs;
}

static double nested_ns(void)
{
	double ns;

	if (!kmm_kmap(k, page[0]))
		fail("kmm_kmap");
	ns = pair_ns(1, PAIRS);
	if (kmm_kunmap(k, page[0]) != 0)
		fail("kmm_kunmap");
	return ns;
}

static double low_ns(struct kmm_page *low)
{
	struct kmm_page *first = page[0];
	double ns;

	page[0] = low;
	ns = pair_ns(1, PAIRS);
	page[0] = first;
	return ns;
}

static double mmap_ns(int fd, int rounds)
{
	double start = bench_now_ns();

	for (int i = 0; i < rounds; i++) {
		char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED)
			fail("mmap");
		*(volatile char *)p = 1;
		munmap(p, 4096);
	}
	return (bench_now_ns() - start) / rounds;
}

int main(int argc, char *argv[])
{
	struct kmm_options o = { .size = sizeof(o) };
	struct bench_row rows[] = {
		{ .name = "kmap+kunmap pair", .unit = "ns" },
		{ .name = "kmap+kunmap pair, 1024 pages in turn", .unit = "ns" },
		{ .name = "kmap+kunmap pair, nested", .unit = "ns" },
		{ .name = "kmap+kunmap pair, low memory", .unit = "ns" },
		{ .name = "kmap+kunmap pair, no slot left", .unit = "ns" },
		{ .name = "page of a memfd: mmap, touch, munmap", .unit = "ns" },
	};
	struct kmm_page *low;
	unsigned int n;
	int fd;

	o.address = bench_begin(argc, argv, "bench_highmem", 0);
	if (kmm_open(&k, &o) != 0)
		fail("kmm_open");
	low = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0);
	n = (unsigned int)kmm_alloc_pages_bulk(k, KMM_GFP_HIGHUSER_MOVABLE, 0, MANY, page);
	if (!low || n < MANY || kmm_page_address(k, page[n - 1]))
		fail("the pool needs 24 MiB of high memory");
	fd = memfd_create("bench", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 4096) < 0)
		fail("memfd_create");
	pair_ns(MANY, MANY);
	for (int i = 0; i < BENCH_ROUNDS; i++) {
		pair_ns(TURNS, TURNS);
		bench_add(&rows[0], pair_ns(1, PAIRS));
		bench_add(&rows[1], pair_ns(TURNS, PAIRS));
		bench_add(&rows[2], nested_ns());
		bench_add(&rows[3], low_ns(low));
		bench_add(&rows[4], pair_ns(MANY, 5 * MANY));
		bench_add(&rows[5], mmap_ns(fd, 20000));
	}
	bench_print_all("highmem", rows, sizeof(rows) / sizeof(rows[0]));
	close(fd);
	return kmm_close(k) == 0 ? 0 : 1;
}
