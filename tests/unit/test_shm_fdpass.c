/* SPDX-License-Identifier: MIT */
/* Descriptors over a socket: limits, truncation, and that nothing leaks. */
#include "shm/fdpass.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/suite.h"
#include "tests/unit/test_child.h"

static int pair[2];

static void setup(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void teardown(void)
{
	close(pair[0]);
	close(pair[1]);
}

static ssize_t send_n(const int fd[], size_t n)
{
	struct iovec iov[2] = { { (void *)"ab", 2 }, { (void *)"cd", 2 } };

	return fdpass_send(pair[0], iov, 2, fd, n);
}

START_TEST(the_most_that_a_message_carries_arrives)
{
	int out[FDPASS_MAX + 1], in[FDPASS_MAX], memfd = memfd_create("fd", 0);
	size_t n = FDPASS_MAX, i, before = fds_open();
	char buf[16];

	for (i = 0; i < FDPASS_MAX + 1; i++)
		out[i] = memfd;
	ck_assert_int_eq(send_n(out, FDPASS_MAX + 1), -EINVAL);
	ck_assert_int_eq(send_n(out, FDPASS_MAX), 4);
	ck_assert_int_eq(fdpass_receive(pair[1], buf, sizeof(buf), in, &n, 0), 4);
	ck_assert_mem_eq(buf, "abcd", 4);
	ck_assert_uint_eq(n, FDPASS_MAX);
	for (i = 0; i < n; i++) {
		ck_assert_int_eq(fcntl(in[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		close(in[i]);
	}
	ck_assert_uint_eq(fds_open(), before);
	close(memfd);
}
END_TEST

START_TEST(more_than_there_is_room_for_is_an_error_and_leaks_nothing)
{
	int out[4] = { 0, 0, 0, 0 }, in[3];
	size_t n, room, before = fds_open();
	char buf[16];

	for (room = 0; room < 4; room++) {
		n = room;
		ck_assert_int_eq(send_n(out, 4), 4);
		ck_assert_int_eq(fdpass_receive(pair[1], buf, sizeof(buf), in, &n, 0), -EPROTO);
		ck_assert_uint_eq(n, room);
		ck_assert_uint_eq(fds_open(), before);
	}
}
END_TEST

/* At the limit of open files the kernel drops descriptors and says MSG_CTRUNC. */
static void receive_at_the_limit(void)
{
	int out[4] = { 0, 0, 0, 0 }, in[4], top = dup(0);
	struct rlimit l = { (rlim_t)top + 2, (rlim_t)top + 2 };
	size_t n = 4;
	char buf[16];

	close(top);
	CHILD_CHECK(send_n(out, 4) == 4);
	CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &l) == 0);
	CHILD_CHECK(fdpass_receive(pair[1], buf, sizeof(buf), in, &n, 0) == -EPROTO);
	CHILD_CHECK(dup(0) == top); /* those that came were closed */
}

START_TEST(truncation_is_an_error_and_leaks_nothing)
{
	ck_assert_int_eq(child_status(receive_at_the_limit), 0);
}
END_TEST

START_TEST(messages_without_descriptors_pass)
{
	int in[1];
	size_t n = 1;
	char buf[16];

	ck_assert_int_eq(send_n(NULL, 0), 4);
	ck_assert_int_eq(fdpass_receive(pair[1], buf, sizeof(buf), in, &n, 0), 4);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(fdpass_receive(pair[1], buf, sizeof(buf), in, &n, MSG_DONTWAIT), -EAGAIN);
}
END_TEST

START_TEST(full_and_closed_sockets_are_errors_not_signals)
{
	int in[1];
	size_t n = 1;
	ssize_t sent;
	char buf[16];

	while ((sent = send_n(NULL, 0)) > 0)
		;
	ck_assert_int_eq(sent, -EAGAIN);
	close(pair[1]);
	ck_assert_int_eq(send_n(NULL, 0), -EPIPE);
	pair[1] = dup(pair[0]);
	ck_assert_int_eq(fdpass_receive(pair[0], buf, sizeof(buf), in, &n, 0), -ECONNRESET);
	n = 1;
	ck_assert_int_eq(fdpass_receive(pair[0], buf, sizeof(buf), in, &n, 0), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shm_fdpass");
	TCase *t = tcase_create("fdpass");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_most_that_a_message_carries_arrives);
	tcase_add_test(t, more_than_there_is_room_for_is_an_error_and_leaks_nothing);
	tcase_add_test(t, truncation_is_an_error_and_leaks_nothing);
	tcase_add_test(t, messages_without_descriptors_pass);
	tcase_add_test(t, full_and_closed_sockets_are_errors_not_signals);
	suite_add_tcase(s, t);
	return suite_status(s);
}
