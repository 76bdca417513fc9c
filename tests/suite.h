/* SPDX-License-Identifier: MIT */
/* How main() of a libcheck program ends. (The integration tests have suite_run() of harness.h, which
 * cleans up behind tests that failed, too.) */
#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Runs the suite, as loudly as CK_VERBOSITY says; the exit status. */
static inline int suite_status(Suite *s)
{
	SRunner *r = srunner_create(s);
	int failed;

	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Each test has a process of its own, which it may end: not under CK_FORK=no. */
static inline bool suite_forks(void)
{
	const char *fork = getenv("CK_FORK");

	return !fork || strcmp(fork, "no") != 0;
}

#endif
