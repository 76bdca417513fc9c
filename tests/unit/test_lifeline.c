/* SPDX-License-Identifier: MIT */
/*
 * The pool's lifeline, with a store that takes what the test says.
 */
#include "daemon/lifeline.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/fdstore.h"
#include "daemon/pool.h"
#include "tests/suite.h"
#include "tests/unit/test_child.h"

#define NOBODY 65534

/* ---- the store ---- */

static struct {
	size_t room;
	int room_error, push_error, barrier_error;
	unsigned int pushes, barriers;
	int kept; /* -1: nothing */
} store;

int fdstore_room(struct fdstore *s, size_t n, size_t *room)
{
	(void)s;
	if (store.room_error == 0)
		*room = store.room < n ? store.room : n;
	return store.room_error;
}

int fdstore_push(struct fdstore *s, const char *name, int fd)
{
	(void)s;
	ck_assert_str_eq(name, "life0");
	store.pushes++;
	if (store.push_error == 0)
		store.kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return store.push_error;
}

int fdstore_barrier(struct fdstore *s)
{
	(void)s;
	ck_assert_uint_eq(store.pushes, 1);
	store.barriers++;
	return store.barrier_error;
}

/* ---- */

static struct pool pool;
static size_t fds_before;

static void setup(void)
{
	memset(&store, 0, sizeof(store));
	store.kept = -1;
	memset(&pool, 0, sizeof(pool));
	pool.lifeline_fd = pool.lifeline_view = -1;
	fds_before = fds_open();
}

static void teardown(void)
{
	lifeline_close(&pool);
	ck_assert_int_eq(pool.lifeline_fd, -1);
	ck_assert_int_eq(pool.lifeline_view, -1);
	if (store.kept >= 0)
		close(store.kept);
	ck_assert_uint_eq(fds_open(), fds_before);
}

static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	ck_assert_int_ge(poll(&p, 1, 0), 0);
	return p.revents & POLLHUP;
}

START_TEST(it_ends_with_the_last_who_keeps_it)
{
	int client;

	store.room = 1;
	ck_assert_int_eq(lifeline_add(&pool, NULL), 0);
	ck_assert_uint_eq(store.barriers, 1);
	client = fcntl(pool.lifeline_view, F_DUPFD_CLOEXEC, 3);
	ck_assert(!hung_up(client));
	/* the daemon ends */
	lifeline_close(&pool);
	ck_assert(!hung_up(client));
	/* the next one */
	ck_assert_int_eq(lifeline_take(&pool, fcntl(store.kept, F_DUPFD_CLOEXEC, 3), NULL), 0);
	ck_assert(!hung_up(pool.lifeline_view));
	lifeline_close(&pool);
	ck_assert(!hung_up(client));
	/* the store is emptied */
	close(store.kept);
	store.kept = -1;
	ck_assert(hung_up(client));
	close(client);
}
END_TEST

START_TEST(without_room_in_the_store_there_is_none)
{
	ck_assert_int_eq(lifeline_add(&pool, NULL), 0);
	ck_assert_int_eq(pool.lifeline_fd, -1);
	ck_assert_int_eq(pool.lifeline_view, -1);
	ck_assert_uint_eq(store.pushes, 0);
}
END_TEST

START_TEST(errors_leave_none_behind)
{
	store.room = 1;
	store.room_error = -EMFILE;
	ck_assert_int_eq(lifeline_add(&pool, NULL), -EMFILE);
	ck_assert_uint_eq(store.pushes, 0);
	store.room_error = 0;
	store.push_error = -EPIPE;
	ck_assert_int_eq(lifeline_add(&pool, NULL), -EPIPE);
	ck_assert_int_eq(pool.lifeline_fd, -1);
	ck_assert_uint_eq(store.barriers, 0);
	store.push_error = 0;
	store.pushes = 0;
	store.barrier_error = -ETIMEDOUT;
	ck_assert_int_eq(lifeline_add(&pool, NULL), -ETIMEDOUT);
	ck_assert_int_eq(pool.lifeline_fd, -1);
	ck_assert_int_eq(pool.lifeline_view, -1);
}
END_TEST

START_TEST(what_is_none_is_not_taken)
{
	const char *why = "";
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(lifeline_take(&pool, ends[0], &why), -EUCLEAN); /* the wrong end */
	ck_assert_ptr_nonnull(strstr(why, "not the writing end"));
	ck_assert_int_eq(pool.lifeline_fd, -1);
	ck_assert_int_eq(lifeline_take(&pool, memfd_create("none", MFD_CLOEXEC), &why), -EUCLEAN);
	ck_assert_int_eq(lifeline_take(&pool, ends[1], &why), 0);
}
END_TEST

/* A client has the reading end alone, and can make himself no other one. */
static void be_somebody_else(void)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", pool.lifeline_view);
	close(pool.lifeline_fd);
	CHILD_CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0);
	CHILD_CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
	CHILD_CHECK(open(path, O_WRONLY | O_NONBLOCK) < 0 && errno == EACCES);
	CHILD_CHECK(open(path, O_RDWR | O_NONBLOCK) < 0 && errno == EACCES);
	CHILD_CHECK(write(pool.lifeline_view, "x", 1) < 0 && errno == EBADF);
	CHILD_CHECK(!hung_up(pool.lifeline_view));
}

START_TEST(nobody_else_can_keep_it_up)
{
	int status;

	ck_assert_int_eq(geteuid(), 0);
	ck_assert_int_eq(lifeline_new(&pool), 0);
	ck_assert_int_eq(fcntl(pool.lifeline_view, F_GETFL) & O_ACCMODE, O_RDONLY);
	status = child_status(be_somebody_else);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned int)status);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("lifeline");
	TCase *t = tcase_create("lifeline");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, it_ends_with_the_last_who_keeps_it);
	tcase_add_test(t, without_room_in_the_store_there_is_none);
	tcase_add_test(t, errors_leave_none_behind);
	tcase_add_test(t, what_is_none_is_not_taken);
	tcase_add_test(t, nobody_else_can_keep_it_up);
	suite_add_tcase(s, t);
	return suite_status(s);
}
