/* SPDX-License-Identifier: MIT */
/*
 * The SIGBUS guard. Each test runs in a child of its own: it changes the process's handlers, and
 * some end by the signal.
 */
#include "shm/guard.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/suite.h"
#include "tests/unit/test_child.h"

#define PAGE 4096u
#define HUGE ((size_t)2 << 20)

/* Pages whose file is gone: every touch raises SIGBUS. */
static char *gone_map(size_t size, unsigned int flags)
{
	int fd = memfd_create("gone", MFD_CLOEXEC | flags);
	char *p;

	CHILD_CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHILD_CHECK(p != MAP_FAILED);
	memset(p, 'x', size);
	CHILD_CHECK(ftruncate(fd, 0) == 0);
	close(fd);
	return p;
}

/* Sanitizers have handlers of their own; the guard is tested against the default. */
static void handler_default(void)
{
	signal(SIGBUS, SIG_DFL);
}

static void patch_run(void)
{
	char *spoiled = gone_map(4 * PAGE, 0), *whole = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
	                                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	handler_default();
	CHILD_CHECK(guard_install() == 0);
	CHILD_CHECK(guard_install() == 0);
	CHILD_CHECK(guard_add(spoiled, 4 * PAGE) == 0);
	CHILD_CHECK(guard_add(whole, PAGE) == 0);
	CHILD_CHECK(!guard_spoiled(spoiled));
	errno = 12345;
	CHILD_CHECK(((volatile char *)spoiled)[2 * PAGE + 7] == 0);
	CHILD_CHECK(errno == 12345);
	CHILD_CHECK(guard_spoiled(spoiled) && !guard_spoiled(whole));
	((volatile char *)spoiled)[2 * PAGE + 7] = 3;
	((volatile char *)spoiled)[0] = 4;
	CHILD_CHECK(spoiled[2 * PAGE + 7] == 3 && spoiled[0] == 4 && spoiled[3 * PAGE] == 0);
	guard_remove(spoiled);
	CHILD_CHECK(!guard_spoiled(spoiled));
}

static void patch_huge_run(void)
{
	char *p = gone_map(2 * HUGE, MFD_HUGETLB);

	handler_default();
	CHILD_CHECK(guard_install() == 0 && guard_add(p, 2 * HUGE) == 0);
	CHILD_CHECK(((volatile char *)p)[HUGE + 5 * PAGE] == 0);
	CHILD_CHECK(guard_spoiled(p));
}

static void outside_run(void)
{
	char *p = gone_map(PAGE, 0), *q = gone_map(PAGE, 0);

	handler_default();
	CHILD_CHECK(guard_install() == 0 && guard_add(p, PAGE) == 0);
	*(volatile char *)q = 1;
}

static void removed_run(void)
{
	char *p = gone_map(PAGE, 0);

	handler_default();
	CHILD_CHECK(guard_install() == 0 && guard_add(p, PAGE) == 0);
	guard_remove(p);
	*(volatile char *)p = 1;
}

static void sent_run(void)
{
	handler_default();
	CHILD_CHECK(guard_install() == 0);
	raise(SIGBUS);
}

static sigjmp_buf back;
static volatile sig_atomic_t chained;

static void other_handler(int signo, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	chained = signo;
	siglongjmp(back, 1);
}

static void chain_run(void)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO };
	char *q = gone_map(PAGE, 0);

	sa.sa_sigaction = other_handler;
	CHILD_CHECK(sigaction(SIGBUS, &sa, NULL) == 0);
	CHILD_CHECK(guard_install() == 0);
	if (sigsetjmp(back, 1) == 0) {
		*(volatile char *)q = 1;
		CHILD_CHECK(0);
	}
	CHILD_CHECK(chained == SIGBUS);
}

static char *shared_range;

static void *touch_all(void *arg)
{
	size_t i;

	(void)arg;
	for (i = 0; i < 512; i++)
		CHILD_CHECK(((volatile char *)shared_range)[i * PAGE] == 0);
	return NULL;
}

static void threads_run(void)
{
	pthread_t t[4];
	size_t i;

	handler_default();
	shared_range = gone_map(512 * PAGE, 0);
	CHILD_CHECK(guard_install() == 0 && guard_add(shared_range, 512 * PAGE) == 0);
	for (i = 0; i < 4; i++)
		CHILD_CHECK(pthread_create(&t[i], NULL, touch_all, NULL) == 0);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

static void full_run(void)
{
	static char area[GUARD_RANGES_MAX + 1][16];
	size_t i;

	for (i = 0; i < GUARD_RANGES_MAX; i++)
		CHILD_CHECK(guard_add(area[i], 16) == 0);
	CHILD_CHECK(guard_add(area[i], 16) == -ENOSPC);
	guard_remove(area[5]);
	CHILD_CHECK(guard_add(area[i], 16) == 0);
	CHILD_CHECK(guard_add(NULL, 16) == -EINVAL);
	CHILD_CHECK(guard_add(area[5], 0) == -EINVAL);
}

static void copy_run(void)
{
	char *gone = gone_map(2 * PAGE, 0), *here = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
	                                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char buf[2 * PAGE];

	memset(here, 'h', 2 * PAGE);
	CHILD_CHECK(guard_copy_from(buf, here, 2 * PAGE) == 0 && buf[2 * PAGE - 1] == 'h');
	buf[0] = 'n';
	CHILD_CHECK(guard_copy_to(here, buf, 2 * PAGE) == 0 && here[0] == 'n');
	CHILD_CHECK(guard_copy_from(buf, gone, PAGE) == -EFAULT);
	CHILD_CHECK(guard_copy_to(gone, buf, PAGE) == -EFAULT);
	munmap(here + PAGE, PAGE);
	CHILD_CHECK(guard_copy_from(buf, here, 2 * PAGE) == -EFAULT); /* half of it */
	CHILD_CHECK(guard_copy_to(here, buf, 2 * PAGE) == -EFAULT);
}

START_TEST(faults_in_a_range_read_zeroes_and_mark_it)
{
	ck_assert_int_eq(child_status(patch_run), 0);
}
END_TEST

START_TEST(huge_pages_are_patched_whole)
{
	ck_assert_msg(child_status(patch_huge_run) == 0,
	              "needs 2 free huge pages: sysctl vm.nr_hugepages=512");
}
END_TEST

START_TEST(faults_elsewhere_end_the_process)
{
	int status = child_status(outside_run);

	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	status = child_status(removed_run);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	status = child_status(sent_run);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}
END_TEST

START_TEST(an_earlier_handler_is_chained)
{
	ck_assert_int_eq(child_status(chain_run), 0);
}
END_TEST

START_TEST(threads_may_fault_at_once)
{
	ck_assert_int_eq(child_status(threads_run), 0);
}
END_TEST

START_TEST(the_table_of_ranges_is_bounded)
{
	ck_assert_int_eq(child_status(full_run), 0);
}
END_TEST

START_TEST(copies_fail_instead_of_faulting)
{
	ck_assert_int_eq(child_status(copy_run), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shm_guard");
	TCase *t = tcase_create("guard");

	tcase_add_test(t, faults_in_a_range_read_zeroes_and_mark_it);
	tcase_add_test(t, huge_pages_are_patched_whole);
	tcase_add_test(t, faults_elsewhere_end_the_process);
	tcase_add_test(t, an_earlier_handler_is_chained);
	tcase_add_test(t, threads_may_fault_at_once);
	tcase_add_test(t, the_table_of_ranges_is_bounded);
	tcase_add_test(t, copies_fail_instead_of_faulting);
	suite_add_tcase(s, t);
	return suite_status(s);
}
