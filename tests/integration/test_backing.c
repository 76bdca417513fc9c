/* SPDX-License-Identifier: MIT */
/*
 * What memory a pool gets, by the kernel's own account: the client's smaps shows the page size
 * behind a granted block. hugetlb needs 40 free huge pages of 2 MiB; without them this fails.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/harness.h"

/* A number of kB from the mapping that holds p, in /proc/self/smaps. */
static long smaps_number(const void *p, const char *key)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long from = 0, to = 0, at = (unsigned long)p;
	char line[512];
	long value = -1;

	must(f);
	while (value < 0 && fgets(line, sizeof(line), f)) {
		unsigned long x, y;

		if (sscanf(line, "%lx-%lx ", &x, &y) == 2) {
			from = x;
			to = y;
		} else if (from <= at && at < to && strncmp(line, key, strlen(key)) == 0 &&
			   line[strlen(key)] == ':') {
			value = strtol(line + strlen(key) + 1, NULL, 10);
		}
	}
	fclose(f);
	return value;
}

static long huge_pages_free(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[256];
	long n = -1;

	must(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "HugePages_Free: %ld", &n) == 1)
			break;
	fclose(f);
	return n;
}

static void need_huge_pages(void)
{
	ck_assert_msg(huge_pages_free() >= 40,
		      "%ld huge pages are free, 40 are needed: sysctl vm.nr_hugepages=64 "
		      "(quickstart check "
		      "does that)",
		      huge_pages_free());
}

static void start(struct daemon *d, const char *backing)
{
	const char *const args[] = { "--pool-size", "64M", "--backing", backing, NULL };

	daemon_prepare(d);
	daemon_launch(d, args);
}

static void expect_in_health(const struct daemon *d, const char *text)
{
	static const char *const args[] = { "health", NULL };
	char *out;

	ck_assert_int_eq(daemon_ctl(d, &out, args), 0);
	ck_assert_msg(strstr(out, text) != NULL, "health does not say \"%s\":\n%s", text, out);
	free(out);
}

/* Pages of the high zones lie on small pages, whatever the rest does. */
static void check_high(struct kmm *k)
{
	int high = 0;

	for (int i = 0; i < 100; i++) {
		struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_HIGHUSER_MOVABLE | KMM_GFP_NOWAIT, 0);
		char *p;

		if (!page)
			break;
		high += kmm_page_address(k, page) == NULL;
		p = kmm_kmap(k, page);
		ck_assert_ptr_nonnull(p);
		p[0] = p[KMM_PAGE_SIZE - 1] = 1;
		if (kmm_page_address(k, page) == NULL)
			ck_assert_int_eq(smaps_number(p, "KernelPageSize"), 4);
	}
	ck_assert_int_eq(high, 100);
}

/* Grants over the whole pool, each looked up in smaps; first and last byte of each page written. */
static void check_pages(const struct daemon *d, long page_kb, bool pmd_mapped)
{
	struct kmm *k = session_start(d);
	struct kmm_page *page;
	int blocks = 0;

	while ((page = kmm_alloc_pages(k, KMM_GFP_NOWAIT, 9)) != NULL) {
		char *p = kmm_page_address(k, page);

		for (size_t i = 0; i < KMM_PAGE_SIZE << 9; i += KMM_PAGE_SIZE)
			p[i] = p[i + KMM_PAGE_SIZE - 1] = 1;
		ck_assert_int_eq(smaps_number(p, "KernelPageSize"), page_kb);
		if (pmd_mapped)
			ck_assert_int_gt(smaps_number(p, "ShmemPmdMapped"), 0);
		blocks++;
	}
	ck_assert_int_ge(blocks, 20);
	page = kmm_alloc_pages(k, KMM_GFP_NOWAIT, 0);
	if (page)
		ck_assert_int_eq(smaps_number(kmm_page_address(k, page), "KernelPageSize"),
				 page_kb);
	check_high(k);
	ck_assert_int_eq(kmm_close(k), 0);
}

START_TEST(hugetlb)
{
	struct daemon d;

	need_huge_pages();
	start(&d, "hugetlb");
	check_pages(&d, 2048, false);
	expect_in_health(&d, "huge");
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(shmem_of_4_kib)
{
	struct daemon d;

	start(&d, "4k");
	check_pages(&d, 4, false);
	expect_in_health(&d, "4 KiB");
	ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(shmem_of_huge_pages)
{
	struct daemon d;

	start(&d, "thp");
	check_pages(&d, 4, true);
	ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(automatic_takes_the_best)
{
	struct daemon d;

	need_huge_pages();
	start(&d, "auto");
	check_pages(&d, 2048, false);
	ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

/* A pool taken over by the next daemon still lies on the same pages. */
START_TEST(hugetlb_after_a_kill)
{
	const char *const args[] = { "--pool-size", "64M",         "--backing",
				     "hugetlb",     "--supervise", NULL };
	struct daemon d;
	struct kmm *k;
	void *p;
	pid_t old;

	need_huge_pages();
	daemon_prepare(&d);
	daemon_launch(&d, args);
	k = session_start(&d);
	p = kmm_get_free_pages(k, KMM_GFP_KERNEL, 10);
	block_fill(p, 10, 17);
	old = daemon_kill(&d);
	wait_until(daemon_serving_pid(&d) > 0 && daemon_serving_pid(&d) != old);
	daemon_wait_serving(&d);
	ck_assert(block_check(p, 10, 17));
	ck_assert_int_eq(kmm_free_page_addr(k, p, 10), 0);
	check_pages(&d, 2048, false);
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(kmm_close(k), 0);
	ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

/* Runs the daemon to its end, which has to be a refusal: what it said. */
static char *refusal(const char *size, const char *backing, const struct daemon *d)
{
	const char *daemon = getenv("KMMD");
	static char text[8192];
	size_t n = 0;
	int fd[2], status;
	ssize_t r;
	pid_t pid;

	must(pipe(fd) == 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fd[1], STDERR_FILENO);
		close(fd[0]);
		close(fd[1]);
		execl(daemon ? daemon : "./kmmd", "kmmd", "--socket", d->socket, "--pool-size",
		      size, "--backing", backing, NULL);
		_exit(127);
	}
	close(fd[1]);
	while (n < sizeof(text) - 1 && (r = read(fd[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)r;
	text[n] = 0;
	close(fd[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 127,
		      "status 0x%x, %s", status, text);
	return text;
}

START_TEST(a_pool_that_does_not_fit_is_refused_with_the_numbers)
{
	struct daemon d;
	char *text;

	daemon_prepare(&d);
	text = refusal("1T", "4k", &d);
	ck_assert_msg(strstr(text, "1.01 TiB of memory are needed"), "it says: %s", text);
	text = refusal("512G", "hugetlb", &d);
	ck_assert_msg(strstr(text, "245760") != NULL, "it says: %s", text); /* 480 GiB: a sixteenth is small */
	ck_assert_ptr_nonnull(strstr(text, "huge"));
	rmdir(d.dir);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backing");
	TCase *t = tcase_create("backing");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, hugetlb);
	tcase_add_test(t, shmem_of_4_kib);
	tcase_add_test(t, shmem_of_huge_pages);
	tcase_add_test(t, automatic_takes_the_best);
	tcase_add_test(t, hugetlb_after_a_kill);
	tcase_add_test(t, a_pool_that_does_not_fit_is_refused_with_the_numbers);
	suite_add_tcase(s, t);
	return suite_run(s);
}
