/* SPDX-License-Identifier: MIT */
/* fallocate() is the test program's own, so that memory of a file can run out. */
#ifndef TESTS_UNIT_TEST_FALLOCATE_H
#define TESTS_UNIT_TEST_FALLOCATE_H

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned int fail_in; /* the call that fails: 1 is the next; 0: none */
static int fail_with = ENOSPC;

int fallocate(int fd, int mode, off_t offset, off_t size)
{
	if (fail_in && --fail_in == 0) {
		errno = fail_with;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

#endif
