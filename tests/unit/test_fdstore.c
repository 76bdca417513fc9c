/* SPDX-License-Identifier: MIT */
/*
 * The fd store protocol from both sides: what a daemon pushes, a manager keeps, and the next start
 * finds by name. The manager is the one of kmmd --supervise.
 */
#include "daemon/fdstore.h"

#include <check.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "tests/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_manager.h"

static struct manager manager;

static void setup(void)
{
	manager_init(&manager);
}

static void teardown(void)
{
	manager_fini(&manager);
}

static int numbered_memfd(unsigned int n)
{
	int fd = memfd_create("n", MFD_CLOEXEC);

	CHILD_CHECK(fd >= 0 && write(fd, &n, sizeof(n)) == sizeof(n));
	return fd;
}

static unsigned int number_of(int fd)
{
	unsigned int n = 0;

	CHILD_CHECK(pread(fd, &n, sizeof(n), 0) == sizeof(n));
	return n;
}

#define MANY 600u

static int push_many(void *arg)
{
	struct fdstore *s;
	unsigned int i;
	char name[16];

	(void)arg;
	CHILD_CHECK(fdstore_new(&s) == 0);
	CHILD_CHECK(fdstore_present(s) && fdstore_left(s) == 0);
	CHILD_CHECK(fdstore_take(s, "s1") == -1);
	for (i = 0; i < MANY; i++) {
		int fd = numbered_memfd(i);

		snprintf(name, sizeof(name), "s%u", i);
		CHILD_CHECK(fdstore_push(s, name, fd) == 0);
		close(fd);
	}
	CHILD_CHECK(fdstore_barrier(s) == 0);
	CHILD_CHECK(!getenv("LISTEN_FDS") && !getenv("LISTEN_PID"));
	fdstore_free(s);
	return 0;
}

static int take_many(void *arg)
{
	struct fdstore *s;
	unsigned int i;
	char name[16];

	(void)arg;
	CHILD_CHECK(fdstore_new(&s) == 0);
	CHILD_CHECK(!getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES"));
	CHILD_CHECK(fdstore_left(s) == MANY);
	for (i = 0; i < MANY; i++) {
		int fd;

		snprintf(name, sizeof(name), "s%u", i);
		fd = fdstore_take(s, name);
		CHILD_CHECK(fd >= 0 && number_of(fd) == i);
		CHILD_CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		CHILD_CHECK(fdstore_take(s, name) == -1);
		close(fd);
	}
	CHILD_CHECK(fdstore_left(s) == 0 && fdstore_name(s, 0) == NULL);
	fdstore_free(s);
	return 0;
}

START_TEST(what_is_pushed_is_found_by_name_after_a_restart)
{
	ck_assert_msg(manager_start(&manager, push_many, NULL) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, MANY);
	ck_assert_msg(manager_start(&manager, take_many, NULL) == 0, "%s", manager.log);
	ck_assert_msg(manager_start(&manager, take_many, NULL) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, MANY);
}
END_TEST

static int push_twice(void *arg)
{
	int a = numbered_memfd(1), b = numbered_memfd(2);
	struct fdstore *s;

	(void)arg;
	CHILD_CHECK(fdstore_new(&s) == 0);
	CHILD_CHECK(fdstore_push(s, "a", a) == 0);
	CHILD_CHECK(fdstore_push(s, "a", a) == 0); /* the same file: kept once */
	CHILD_CHECK(fdstore_push(s, "a", b) == 0); /* another one of that name */
	CHILD_CHECK(fdstore_push(s, "b", b) == 0);
	CHILD_CHECK(fdstore_push(s, "c", b) == 0);
	CHILD_CHECK(fdstore_remove(s, "b") == 0);
	CHILD_CHECK(fdstore_push(s, "", b) == -EINVAL);
	CHILD_CHECK(fdstore_push(s, "x:y", b) == -EINVAL);
	CHILD_CHECK(fdstore_push(s, "x\ny", b) == -EINVAL);
	CHILD_CHECK(fdstore_push(s, "bad", 9999) == -EBADF);
	CHILD_CHECK(fdstore_barrier(s) == 0);
	fdstore_free(s);
	return 0;
}

static int take_twice(void *arg)
{
	struct fdstore *s;
	int x, y;

	(void)arg;
	CHILD_CHECK(fdstore_new(&s) == 0);
	CHILD_CHECK(fdstore_left(s) == 3 && strcmp(fdstore_name(s, 2), "c") == 0);
	x = fdstore_take(s, "a");
	y = fdstore_take(s, "a");
	CHILD_CHECK(x >= 0 && y >= 0 && number_of(x) + number_of(y) == 3);
	CHILD_CHECK(fdstore_take(s, "a") == -1 && fdstore_take(s, "b") == -1);
	CHILD_CHECK(fdstore_left(s) == 1 && strcmp(fdstore_name(s, 0), "c") == 0);
	fdstore_free(s); /* closes c */
	return 0;
}

START_TEST(names_may_repeat_and_be_removed)
{
	ck_assert_msg(manager_start(&manager, push_twice, NULL) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, 3);
	ck_assert_msg(manager_start(&manager, take_twice, NULL) == 0, "%s", manager.log);
}
END_TEST

static int announce(void *arg)
{
	(void)arg;
	CHILD_CHECK(sd_notify(0, "READY=1\nSTATUS=serving") > 0);
	CHILD_CHECK(sd_notify(0, "STOPPING=1") > 0);
	return 0;
}

START_TEST(states_reach_the_manager)
{
	ck_assert_msg(manager_start(&manager, announce, NULL) == 0, "%s", manager.log);
	ck_assert(manager.news.ready && manager.news.stopping);
	ck_assert_str_eq(manager.news.status, "serving");
}
END_TEST

static int announce_through_child(void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(announce(arg));
	CHILD_CHECK(waitpid(pid, &status, 0) == pid);
	return status != 0;
}

START_TEST(other_processes_are_not_listened_to)
{
	size_t before = fds_open();

	ck_assert_msg(manager_start(&manager, announce_through_child, NULL) == 0, "%s", manager.log);
	ck_assert(!manager.news.ready && !manager.news.stopping);
	ck_assert_uint_eq(fds_open(), before);
}
END_TEST

static int alone(void *arg)
{
	struct fdstore *s;

	(void)arg;
	unsetenv("NOTIFY_SOCKET");
	CHILD_CHECK(fdstore_new(&s) == 0);
	CHILD_CHECK(!fdstore_present(s));
	CHILD_CHECK(fdstore_push(s, "a", 0) == 0 && fdstore_remove(s, "a") == 0);
	CHILD_CHECK(fdstore_barrier(s) == 0);
	fdstore_free(s);
	return 0;
}

START_TEST(without_a_manager_nothing_is_kept_and_nothing_fails)
{
	ck_assert_msg(manager_start(&manager, alone, NULL) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, 0);
}
END_TEST

static int manager_gone(void *arg)
{
	struct fdstore *s;

	(void)arg;
	setenv("NOTIFY_SOCKET", "@kmmd-test-nobody-listens-here", 1);
	CHILD_CHECK(fdstore_new(&s) == 0);
	CHILD_CHECK(fdstore_push(s, "a", 0) < 0);
	CHILD_CHECK(fdstore_barrier(s) < 0);
	fdstore_free(s);
	return 0;
}

START_TEST(a_manager_that_is_gone_is_an_error)
{
	ck_assert_msg(manager_start(&manager, manager_gone, NULL) == 0, "%s", manager.log);
}
END_TEST

START_TEST(the_store_is_bounded_and_checks_names)
{
	unsigned int i;
	char name[300];
	size_t before = fds_open();
	struct rlimit l;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = l.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
	memset(name, 'n', sizeof(name));
	name[299] = '\0';
	ck_assert_int_eq(supervise_store_keep(&manager.store, name, dup(0)), -EINVAL);
	ck_assert_int_eq(supervise_store_keep(&manager.store, "a b", dup(0)), -EINVAL);
	ck_assert_int_eq(supervise_store_keep(&manager.store, "a:b", dup(0)), -EINVAL);
	ck_assert_int_eq(supervise_store_keep(&manager.store, "", dup(0)), -EINVAL);
	ck_assert_uint_eq(fds_open(), before);
	for (i = 0; i < 4096; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(supervise_store_keep(&manager.store, name, dup(0)), 0);
	}
	ck_assert_int_eq(supervise_store_keep(&manager.store, "more", dup(0)), -ENOSPC);
	ck_assert_uint_eq(fds_open(), before + 4096);
}
END_TEST

/* ---- what the store takes ---- */

#define FREE_PLACES 70u

static int room_is(void *arg)
{
	size_t room = 0, expected = *(size_t *)arg, fds;
	struct fdstore *s;

	CHILD_CHECK(fdstore_new(&s) == 0);
	fds = fds_open();
	CHILD_CHECK(fdstore_room(s, FREE_PLACES + 5, &room) == 0);
	fprintf(stderr, "room: %zu\n", room);
	CHILD_CHECK(room == expected);
	CHILD_CHECK(fds_open() == fds);
	CHILD_CHECK(fdstore_push(s, "after", numbered_memfd(1)) == 0 && fdstore_barrier(s) == 0);
	return 0;
}

START_TEST(a_store_with_room_says_so_and_keeps_nothing_of_the_trial)
{
	size_t expected = FREE_PLACES + 5;

	ck_assert_msg(manager_start(&manager, room_is, &expected) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, 1);
}
END_TEST

START_TEST(a_store_that_is_nearly_full_says_how_much_it_takes)
{
	size_t expected = FREE_PLACES;
	struct rlimit l;
	char name[16];

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = l.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
	for (unsigned int i = 0; i < 4096 - FREE_PLACES; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		ck_assert_int_eq(supervise_store_keep(&manager.store, name, dup(0)), 0);
	}
	ck_assert_msg(manager_start(&manager, room_is, &expected) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, 4096 - FREE_PLACES + 1);
}
END_TEST

static int die_in_the_trial(void *arg)
{
	struct fdstore *s;
	int ends[2];

	(void)arg;
	CHILD_CHECK(fdstore_new(&s) == 0 && pipe2(ends, O_CLOEXEC) == 0);
	CHILD_CHECK(fdstore_push(s, "probe", ends[1]) == 0 && fdstore_barrier(s) == 0);
	return 0;
}

static int nothing_is_left(void *arg)
{
	struct fdstore *s;

	(void)arg;
	CHILD_CHECK(fdstore_new(&s) == 0 && fdstore_left(s) == 0 && fdstore_barrier(s) == 0);
	return 0;
}

START_TEST(what_a_dead_daemon_tried_with_goes)
{
	ck_assert_msg(manager_start(&manager, die_in_the_trial, NULL) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, 1);
	ck_assert_msg(manager_start(&manager, nothing_is_left, NULL) == 0, "%s", manager.log);
	ck_assert_uint_eq(manager.store.nr, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fdstore");
	TCase *t = tcase_create("fdstore");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_is_pushed_is_found_by_name_after_a_restart);
	tcase_add_test(t, names_may_repeat_and_be_removed);
	tcase_add_test(t, states_reach_the_manager);
	tcase_add_test(t, other_processes_are_not_listened_to);
	tcase_add_test(t, without_a_manager_nothing_is_kept_and_nothing_fails);
	tcase_add_test(t, a_manager_that_is_gone_is_an_error);
	tcase_add_test(t, the_store_is_bounded_and_checks_names);
	tcase_add_test(t, a_store_with_room_says_so_and_keeps_nothing_of_the_trial);
	tcase_add_test(t, a_store_that_is_nearly_full_says_how_much_it_takes);
	tcase_add_test(t, what_a_dead_daemon_tried_with_goes);
	suite_add_tcase(s, t);
	return suite_status(s);
}
