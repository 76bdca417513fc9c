/* SPDX-License-Identifier: MIT */
/*
 * Static per-CPU variables of several object files, one of them C++, and of a shared library that
 * is loaded while the program runs.
 */
#ifndef TESTS_INTEGRATION_PERCPU_STATIC_H
#define TESTS_INTEGRATION_PERCPU_STATIC_H

#include <kmm/percpu.h>

#ifdef __cplusplus
extern "C" {
#endif

struct percpu_both {
	long in, out;
};

/* percpu_static.cc */
KMM_DECLARE_PER_CPU(struct percpu_both, percpu_of_cxx);
void percpu_cxx_count(long n);
/* What its own template and namespace variables add up to. */
long percpu_cxx_sum(void);
/* Everything that the macros can do, in C++; 0, or the line that is wrong. */
int percpu_cxx_operations(struct percpu_both *p);

/* test_api_percpu_static.c */
KMM_DECLARE_PER_CPU(long, percpu_of_c);

/* percpu_module.c: the shared library */
struct percpu_module {
	void (*count)(long n); /* hits of its own, and percpu_of_c of the program */
	long (*sum)(void);
	const void *(*place)(void); /* CPU 0's copy of its hits */
};

#ifdef __cplusplus
}
#endif
#endif
