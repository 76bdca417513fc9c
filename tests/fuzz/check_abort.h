/* SPDX-License-Identifier: MIT */
/*
 * What of libcheck's assertions unit/test_domain.h uses, for programs that are no unit tests: a
 * failure aborts, which is what a fuzzer looks for.
 */
#ifndef TESTS_FUZZ_CHECK_ABORT_H
#define TESTS_FUZZ_CHECK_ABORT_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK_ABORT(condition)                                                                 \
	((condition) ? (void)0 :                                                               \
	               (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))
#define ck_assert(x) CHECK_ABORT(x)
#define ck_assert_int_eq(a, b) CHECK_ABORT((a) == (b))
#define ck_assert_uint_eq(a, b) CHECK_ABORT((a) == (b))
#define ck_assert_ptr_nonnull(p) CHECK_ABORT((p) != NULL)
#define ck_assert_ptr_ne(a, b) CHECK_ABORT((a) != (b))

#endif
