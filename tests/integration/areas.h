/* SPDX-License-Identifier: MIT */
/*
 * What the tests of vmalloc areas share: three kinds of pools, an mmap that fails when a test
 * wants it to, and what is asked of areas and refusals.
 *
 *     4k        everything can be mapped in pieces of 4 KiB
 *     hugetlb   2 MiB pages, and high memory on 4 KiB pages
 *     huge      2 MiB pages alone: every area is whole huge pages
 */
#ifndef TESTS_INTEGRATION_AREAS_H
#define TESTS_INTEGRATION_AREAS_H

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/waiting.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { POOL_4K, POOL_HUGETLB, POOL_HUGE, POOLS };

/* ---- mappings that fail ---- */

static _Thread_local int fail_after; /* the n-th fixed mapping of this thread from now fails; 0: none */

void *mmap(void *addr, size_t size, int prot, int flags, int fd, off_t at)
{
	if (fail_after > 0 && fd >= 0 && (flags & MAP_FIXED) && --fail_after == 0) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, addr, size, prot, flags, fd, at);
}

/* ---- the scene ---- */

static inline void setup_pool(int pool)
{
	static const char *const backing[POOLS] = { "4k", "hugetlb", "hugetlb" };

	fixture_setup_configured(pool == POOL_HUGE ? "[pool]\nhighmem = 0\n" : "[pool]\nhighmem = 8M\n",
				 (const char *const[]){ "--backing", backing[pool], NULL });
}

static inline void setup_4k(void)
{
	setup_pool(POOL_4K);
}

static inline void setup_hugetlb(void)
{
	setup_pool(POOL_HUGETLB);
}

static inline void setup_huge(void)
{
	setup_pool(POOL_HUGE);
}

static inline void refused(const void *result, int error, const char *says)
{
	int e = errno;

	ck_assert_ptr_null(result);
	ck_assert_msg(e == error, "errno %d, not %d: %s", e, error, kmm_error_text());
	ck_assert_msg(strstr(kmm_error_text(), says) != NULL, "\"%s\" does not say \"%s\"",
		      kmm_error_text(), says);
}

static inline void refused_free(int r, int error, const char *says)
{
	ck_assert_msg(r == -error, "%d, not %d: %s", r, -error, kmm_error_text());
	ck_assert_msg(strstr(kmm_error_text(), says) != NULL, "\"%s\" does not say \"%s\"",
		      kmm_error_text(), says);
}

static inline char *area_new(size_t size, uint64_t seed)
{
	char *p = kmm_vmalloc(k, size);

	ck_assert_msg(p != NULL, "%zu bytes: errno %d, %s", size, errno, kmm_error_text());
	object_fill(p, size, seed);
	return p;
}

/* Without a signal: the kernel copies for us, or says EFAULT. */
static inline bool can_be_read(const void *p)
{
	char byte;
	struct iovec to = { &byte, 1 }, from = { (void *)(uintptr_t)p, 1 };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

/* A process that is killed after fn with a session of its own: all of it comes back. */
static inline void killed_after(void (*fn)(struct kmm *own))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		fn(session_start(&d));
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	wait_until(daemon_free_pages(&d) == free_at_start);
}

static const size_t some_sizes[] __attribute__((unused)) = { 1,
	                             4095,
	                             4096,
	                             4097,
	                             64 * KIB,
	                             65 * KIB,
	                             300 * KIB,
	                             1 * MIB - 1,
	                             1 * MIB,
	                             1 * MIB + 1,
	                             2 * MIB,
	                             2 * MIB + 12 * KIB,
	                             5 * MIB + 12 * KIB,
	                             16 * MIB };
#define SOME_SIZES (sizeof(some_sizes) / sizeof(some_sizes[0]))

#endif
