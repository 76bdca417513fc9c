/* SPDX-License-Identifier: MIT */
/*
 * Work in a child of the test's own, for what ends processes or changes them for good (signals,
 * limits, filters). Also where the test runner itself does not fork.
 */
#ifndef TESTS_UNIT_TEST_CHILD_H
#define TESTS_UNIT_TEST_CHILD_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: ends it with a message when cond is false. */
#define CHILD_CHECK(cond)                                                              \
	do {                                                                           \
		if (!(cond)) {                                                         \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);     \
			_exit(99);                                                     \
		}                                                                      \
	} while (0)

/* The wait status of a child that ran fn. */
static inline int child_status(void (*fn)(void))
{
	int status = -1;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		fn();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		abort();
	return status;
}

/* Open descriptors of this process. */
static inline size_t fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	if (!d)
		abort();
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

#endif
