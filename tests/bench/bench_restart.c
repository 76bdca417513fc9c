/* SPDX-License-Identifier: MIT */
/*
 * How long a killed daemon is away, with many grants out.
 *
 *     bench_restart SOCKET GRANTS ROUNDS KMMCTL [NAME]
 *
 * Holds GRANTS pages, then ROUNDS times: kills the daemon (SIGKILL), waits until that process is
 * gone, and asks for a block that no cache can give. The row, of that name, is the time from the kill to
 * the answer; a second one is its 99th percentile. At the end every page must still hold what was written
 * to it.
 */
#include <errno.h>
#include <kmm/kmm.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"

static void fail(const char *what)
{
	fprintf(stderr, "bench_restart: %s: %s (%s)\n", what, strerror(errno), kmm_error_text());
	exit(1);
}

static pid_t daemon_pid(const char *kmmctl, const char *socket)
{
	char command[512], line[4096];
	long pid = 0;

	snprintf(command, sizeof(command), "%s --socket %s --json health", kmmctl, socket);
	FILE *f = popen(command, "r");

	if (!f)
		fail("kmmctl");
	while (fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "\"pid\"");

		if (p)
			pid = strtol(p + strcspn(p, "0123456789"), NULL, 10);
	}
	if (pclose(f) != 0 || pid <= 1)
		fail("kmmctl health says no pid");
	return (pid_t)pid;
}

int main(int argc, char *argv[])
{
	static struct bench_row row = { .name = "restart, kill to first answer", .unit = "ms" };
	static struct bench_row worst = { .unit = "ms" };
	char worst_name[96];
	struct kmm_options o = { .size = sizeof(o) };
	struct kmm *k;

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: bench_restart SOCKET GRANTS ROUNDS KMMCTL [NAME]\n");
		return 2;
	}
	if (argc == 6)
		row.name = argv[5];
	size_t grants = strtoul(argv[2], NULL, 10), have = 0;
	struct kmm_page **page = calloc(grants, sizeof(struct kmm_page *));

	o.address = argv[1];
	if (!page || kmm_open(&k, &o) != 0)
		fail("open");
	while (have < grants) {
		size_t n = grants - have < 512 ? grants - have : 512;
		size_t got = kmm_alloc_pages_bulk(k, KMM_GFP_KERNEL, 0, n, page + have);

		if (got == 0)
			fail("bulk");
		have += got;
	}
	for (size_t i = 0; i < grants; i++)
		*(uint64_t *)kmm_page_address(k, page[i]) = i ^ UINT64_C(0x9e3779b97f4a7c15);

	for (int round = 0; round < atoi(argv[3]); round++) {
		pid_t pid = daemon_pid(argv[4], argv[1]);
		double start = bench_now_ns();

		kill(pid, SIGKILL);
		while (kill(pid, 0) == 0)
			sched_yield();
		struct kmm_page *p = kmm_alloc_pages(k, KMM_GFP_KERNEL, 5);

		if (!p)
			fail("allocation after the kill");
		bench_add(&row, (bench_now_ns() - start) / 1e6);
		kmm_free_pages(k, p, 5);
	}
	for (size_t i = 0; i < grants; i++)
		if (*(uint64_t *)kmm_page_address(k, page[i]) != (i ^ UINT64_C(0x9e3779b97f4a7c15)))
			fail("a page lost its contents");
	bench_print("restart", &row);
	qsort(row.sample, (size_t)row.n, sizeof(row.sample[0]), bench_compare_doubles);
	snprintf(worst_name, sizeof(worst_name), "%s, p99", row.name);
	worst.name = worst_name;
	bench_add(&worst, row.sample[(row.n * 99 + 99) / 100 - 1]);
	bench_print("restart", &worst);
	kmm_close(k);
	free(page);
	return 0;
}
