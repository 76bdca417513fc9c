/* SPDX-License-Identifier: MIT */
/*
 * Grants as a program sees them through libkmm, against the kernel's own way to a huge page.
 *
 *     bench_grant SOCKET [CPU]
 *
 * Rows, interleaved round by round:
 *   cached pair         kmm_alloc_pages + kmm_free_pages, orders 0, 3 and 9, from the thread's cache
 *   fresh huge page     mmap(MAP_HUGETLB) of 2 MiB, first touch, munmap
 *   no system call      10^6 cached pairs under seccomp's strict mode: one call would end the thread
 */
#include <errno.h>
#include <kmm/kmm.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define PAIRS 1000000
#define HUGE_PAGE ((size_t)2 << 20)

static void fail(const char *what)
{
	fprintf(stderr, "bench_grant: %s: %s (%s)\n", what, strerror(errno), kmm_error_text());
	exit(1);
}

static double pair_ns(struct kmm *k, unsigned int order, int pairs)
{
	double start = bench_now_ns();

	for (int i = 0; i < pairs; i++) {
		struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, order);

		if (!page || kmm_free_pages(k, page, order) != 0)
			fail("pair");
	}
	return (bench_now_ns() - start) / pairs;
}

static double fresh_huge_page_ns(int rounds)
{
	double start = bench_now_ns();

	for (int i = 0; i < rounds; i++) {
		char *p = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE,
		               MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

		if (p == MAP_FAILED)
			fail("mmap of a huge page (reserve some: sysctl vm.nr_hugepages=N)");
		*(volatile char *)p = 1;
		munmap(p, HUGE_PAGE);
	}
	return (bench_now_ns() - start) / rounds;
}

/* In a child of its own, because seccomp cannot be taken back. */
static int pairs_without_system_call(const char *socket)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct kmm_options o = { .size = sizeof(o), .address = socket };
		struct kmm *k;

		if (kmm_open(&k, &o) != 0)
			_exit(2);
		pair_ns(k, 0, 1000);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
			_exit(3);
		for (int i = 0; i < PAIRS; i++) {
			struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0);

			if (!page || kmm_free_pages(k, page, 0) != 0)
				syscall(SYS_exit, 4);
		}
		syscall(SYS_exit, 0); /* this thread; the keeper's end is the process's */
	}
	/* The child's other thread lives on: the main thread's fate shows in its state. */
	char path[64], state = '?';

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, pid);
	for (;;) {
		FILE *f = fopen(path, "r");
		int waited = waitpid(pid, &status, WNOHANG);

		if (waited == pid) {
			if (f)
				fclose(f);
			return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
		}
		if (f && fscanf(f, "%*d %*s %c", &state) == 1 && state == 'Z') {
			fclose(f);
			kill(pid, SIGKILL); /* its other thread blocks all that can be blocked */
			waitpid(pid, &status, 0);
			return 0;
		}
		if (f)
			fclose(f);
		usleep(1000);
	}
}

int main(int argc, char *argv[])
{
	static struct bench_row row[] = {
		{ .name = "cached pair, order 0", .unit = "ns" },
		{ .name = "cached pair, order 3", .unit = "ns" },
		{ .name = "cached pair, order 9", .unit = "ns" },
		{ .name = "fresh huge page: mmap, touch, munmap", .unit = "ns" },
		{ .name = "system calls in 1000000 cached pairs", .unit = "calls" },
	};
	struct kmm_options o = { .size = sizeof(o) };
	struct kmm *k;

	o.address = bench_begin(argc, argv, "bench_grant", -1);
	int verdict = pairs_without_system_call(argv[1]);

	if (verdict != 0) {
		fprintf(stderr, "bench_grant: a cached pair made a system call (%d)\n", verdict);
		return 1;
	}
	bench_add(&row[4], 0);
	if (kmm_open(&k, &o) != 0)
		fail("open");
	for (int round = 0; round < BENCH_ROUNDS; round++) {
		bench_add(&row[0], pair_ns(k, 0, PAIRS));
		bench_add(&row[1], pair_ns(k, 3, PAIRS));
		bench_add(&row[2], pair_ns(k, 9, PAIRS));
		bench_add(&row[3], fresh_huge_page_ns(200));
	}
	bench_print_all("grant", row, sizeof(row) / sizeof(row[0]));
	kmm_close(k);
	return 0;
}
