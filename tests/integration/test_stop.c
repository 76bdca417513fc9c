/* SPDX-License-Identifier: MIT */
/*
 * What a stop means for clients: they are told, once and for good, that the pool is gone, and what they
 * hold stays readable; a restart, however it comes about and however long it takes, never says so.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/harness.h"

static struct daemon d;
static struct kmm *k;
static struct peer a, b;
static void *held;

/* Events in their order: "du" down, up. */
static struct {
	char text[64];
	unsigned int n;
	char why[256]; /* of LOST */
} seen;

static void event_note(struct kmm *session, enum kmm_event event, void *arg)
{
	static const char letter[] = "?pdul";

	(void)session;
	(void)arg;
	if (event > KMM_EVENT_LOST || event == KMM_EVENT_PRESSURE)
		return;
	if (event == KMM_EVENT_LOST)
		snprintf(seen.why, sizeof(seen.why), "%s", kmm_error_text());
	if (seen.n < sizeof(seen.text) - 1)
		seen.text[seen.n] = letter[event];
	__atomic_fetch_add(&seen.n, 1, __ATOMIC_SEQ_CST);
}

/* Of this process. */
static unsigned int count_pipes(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	unsigned int n = 0;

	must(dir != NULL);
	while ((e = readdir(dir))) {
		char to[64] = "";

		if (readlinkat(dirfd(dir), e->d_name, to, sizeof(to) - 1) > 0)
			n += strncmp(to, "pipe:", 5) == 0;
	}
	closedir(dir);
	return n;
}

static unsigned int pipes_before; /* the session has one */

static bool has_seen(char event)
{
	unsigned int n = __atomic_load_n(&seen.n, __ATOMIC_SEQ_CST);

	/* what lies behind is being written */
	return memchr(seen.text, event, n < sizeof(seen.text) ? n : sizeof(seen.text)) != NULL;
}

static void clients_start(void)
{
	memset(&seen, 0, sizeof(seen));
	pipes_before = count_pipes();
	k = session_start(&d);
	ck_assert_uint_eq(count_pipes(), pipes_before + 1);
	ck_assert_int_eq(kmm_on_event(k, event_note, NULL), 0);
	held = kmm_get_free_pages(k, KMM_GFP_KERNEL, 5);
	ck_assert_ptr_nonnull(held);
	block_fill(held, 5, 42);
	peer_start(&a, &d);
	peer_start(&b, &d);
}

static void setup(void)
{
	daemon_start_supervised(&d, NULL);
	clients_start();
}

static void setup_alone(void)
{
	daemon_start(&d, NULL);
	clients_start();
}

static void teardown(void)
{
	ck_assert_int_eq(kmm_close(k), 0);
	ck_assert_uint_eq(count_pipes(), pipes_before);
	peer_stop(&a);
	peer_stop(&b);
	if (d.pid)
		ck_assert_int_eq(daemon_stop(&d), 0);
}

static void all_is_lost(void)
{
	wait_until(has_seen('l'));
	ck_assert_str_eq(seen.text, "dl");
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL, 4));
	ck_assert_int_eq(errno, ENOTRECOVERABLE);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "open a new one"));
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_LOCAL, 0));
	ck_assert_int_eq(errno, ENOTRECOVERABLE);
	/* nobody took it away, and nobody else gets it */
	ck_assert(block_check(held, 5, 42));
	block_fill(held, 5, 43);
	ck_assert_int_eq(peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, 3, 0), -ENOTRECOVERABLE);
	/* once is enough */
	ck_assert_str_eq(seen.text, "dl");
}

START_TEST(a_stop_is_told)
{
	ck_assert_int_eq(daemon_stop(&d), 0);
	all_is_lost();
	ck_assert_msg(strstr(seen.why, "stopped") != NULL, "%s", seen.why);
}
END_TEST

START_TEST(a_stop_ends_calls_that_wait)
{
	ck_assert_int_gt(peer_do(&a, PEER_EXHAUST, KMM_GFP_NOWAIT, 4, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_TIMEOUT, UINT32_MAX, 0, 0), 0);
	peer_begin(&b, PEER_ALLOC, KMM_GFP_KERNEL, 4, 0);
	wait_until(daemon_session_number(&d, b.session, "parked") == 1);
	ck_assert_int_eq(daemon_stop(&d), 0);
	ck_assert_int_eq(peer_end(&b), -ENOTRECOVERABLE);
	all_is_lost();
}
END_TEST

START_TEST(so_is_the_end_of_who_keeps_the_memory)
{
	kill(d.pid, SIGKILL);
	daemon_wait_exit(&d);
	all_is_lost();
}
END_TEST

/* Nobody kept the memory but the daemon itself. */
START_TEST(a_daemon_alone_takes_its_pool_along)
{
	kill(d.pid, _i ? SIGKILL : SIGTERM);
	daemon_wait_exit(&d);
	all_is_lost();
}
END_TEST

static void go_on(void)
{
	int64_t pfn;

	wait_until(has_seen('u'));
	daemon_wait_serving(&d);
	ck_assert(!has_seen('l'));
	ck_assert(block_check(held, 5, 42));
	pfn = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, 3, 0);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(peer_do(&a, PEER_FREE, (uint64_t)pfn, 3, 0), 0);
	ck_assert_int_eq(kmm_free_page_addr(k, held, 5), 0);
	ck_assert_str_eq(seen.text, "du");
}

START_TEST(a_death_is_none)
{
	daemon_kill(&d);
	go_on();
}
END_TEST

/* The daemon ends in order and by itself, as for `systemctl restart`: it cannot know what comes. */
START_TEST(a_restart_is_none)
{
	pid_t old = daemon_serving_pid(&d);

	kill(old, SIGTERM);
	wait_until(daemon_serving_pid(&d) > 0 && daemon_serving_pid(&d) != old);
	go_on();
}
END_TEST

/* For as long as nobody serves, clients have been told nothing but that. */
START_TEST(a_long_absence_is_none)
{
	int64_t pfn;

	daemon_hold(&d);
	daemon_kill(&d);
	wait_until(has_seen('d'));
	ck_assert_int_eq(peer_do(&b, PEER_TIMEOUT, 50, 0, 0), 0);
	for (int i = 0; i < 20; i++) {
		int64_t r = peer_do(&b, PEER_ALLOC, KMM_GFP_KERNEL, 6, 0);

		ck_assert(r == -ETIMEDOUT || r == -EAGAIN);
	}
	ck_assert_str_eq(seen.text, "d");
	peer_begin(&a, PEER_ALLOC, KMM_GFP_KERNEL, 6, 0);
	daemon_resume(&d);
	pfn = peer_end(&a);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(peer_do(&a, PEER_FREE, (uint64_t)pfn, 6, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_TIMEOUT, 0, 0, 0), 0);
	go_on();
}
END_TEST

/* A stop after restarts: each daemon hands on what the first one made. */
START_TEST(a_stop_after_restarts_is_told)
{
	for (unsigned int i = 1; i <= 3; i++) {
		daemon_kill(&d);
		wait_until(__atomic_load_n(&seen.n, __ATOMIC_SEQ_CST) == 2 * i);
	}
	ck_assert_str_eq(seen.text, "dududu");
	ck_assert_int_eq(daemon_stop(&d), 0);
	wait_until(has_seen('l'));
	ck_assert_str_eq(seen.text, "dudududl");
}
END_TEST

START_TEST(a_child_keeps_nothing_of_it)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		bool got = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0) != NULL;

		/* the library closes what it inherited */
		_exit(got || count_pipes() != pipes_before);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(daemon_stop(&d), 0);
	all_is_lost();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stop");
	TCase *t = tcase_create("kept"), *alone = tcase_create("alone");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_stop_is_told);
	tcase_add_test(t, a_stop_ends_calls_that_wait);
	tcase_add_test(t, so_is_the_end_of_who_keeps_the_memory);
	tcase_add_test(t, a_death_is_none);
	tcase_add_test(t, a_restart_is_none);
	tcase_add_test(t, a_long_absence_is_none);
	tcase_add_test(t, a_stop_after_restarts_is_told);
	tcase_add_test(t, a_child_keeps_nothing_of_it);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(alone, setup_alone, teardown);
	tcase_set_timeout(alone, 120);
	tcase_add_loop_test(alone, a_daemon_alone_takes_its_pool_along, 0, 2);
	suite_add_tcase(s, alone);
	return suite_run(s);
}
