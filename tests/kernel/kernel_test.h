/* SPDX-License-Identifier: MIT */
/*
 * Kernel code as tests. Each file here holds code as kernel documentation shows it, for one group of
 * functions, in module-like bodies, and tests that run it against a real daemon. All of it is compiled
 * twice, as C and as C++, into kernel_c and kernel_cxx: nothing in it may be for one language alone.
 *
 *     file.c    KERNEL_CASES(name) { ... }   adds cases of kernel_case() to the suite
 *     main.c    the list of files
 *
 * A test begins with a fresh daemon and no session: the first use of any function opens it. At its end
 * nothing may be out.
 */
#ifndef TESTS_KERNEL_KERNEL_TEST_H
#define TESTS_KERNEL_KERNEL_TEST_H

#define KMM_KERNEL_MODULE
#include <kmm/kernel.h>

#include <check.h>
#include <pthread.h>

#ifdef __cplusplus
#define KERNEL_C extern "C"
extern "C" {
#else
#define KERNEL_C
#endif

#include "tests/integration/harness.h"

/* Of objects.h, which is no C++. */
unsigned long daemon_cache_active(const struct daemon *d, const char *name);

extern struct daemon kernel_daemon;

/* A case of tests that begin and end as said above; sized 64 MiB, 4 of them high memory. */
TCase *kernel_case(Suite *s, const char *name);
/* The same with pages of 2 MiB. */
TCase *kernel_case_huge(Suite *s, const char *name);
/* All that is in use, of whatever kind: nothing. The session stays open. */
void kernel_is_clean(void);
/* Takes all memory that may be had; gives it back. */
void kernel_take_memory(void);
void kernel_give_memory(void);
size_t kernel_taken(void);
/* Gives back n pages of it, at most. */
size_t kernel_give_pages(size_t n);

#ifdef __cplusplus
}
#endif

#define KERNEL_CASES(name)                \
	KERNEL_C void name##_cases(Suite *s); \
	void name##_cases(Suite *s)

#endif
