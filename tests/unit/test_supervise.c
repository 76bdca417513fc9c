/* SPDX-License-Identifier: MIT */
/*
 * The supervisor, with this program as the daemon: supervise_run() executes /proc/self/exe, and
 * main() plays a daemon when its first argument says so. What the plays did is read from a memfd
 * that all processes inherit at NOTES_FD.
 */
#include "daemon/supervise.h"

#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>

#include "daemon/fdstore.h"
#include "daemon/log.h"
#include "tests/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_manager.h"

#define NOTES_FD 700

struct notes {
	_Atomic uint32_t starts, hups, terms, found; /* found: starts that had their fd back */
	_Atomic int32_t pid;
};
static struct notes *notes;

static void notes_map(void)
{
	notes = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED, NOTES_FD, 0);
	CHILD_CHECK(notes != MAP_FAILED);
}

/* ---- plays: what a daemon may do ---- */

static volatile sig_atomic_t got_hup, got_term;

static void on_signal(int signo)
{
	if (signo == SIGHUP)
		got_hup = 1;
	else
		got_term = 1;
}

/* Finds its counter in the store or pushes it; the counter tells which start this is. */
static uint32_t play_counter(void)
{
	struct fdstore *store;
	uint32_t n = 0;
	int fd;

	CHILD_CHECK(fdstore_new(&store) == 0 && fdstore_present(store));
	fd = fdstore_take(store, "counter");
	if (fd < 0) {
		fd = memfd_create("counter", MFD_CLOEXEC);
		CHILD_CHECK(fdstore_push(store, "counter", fd) == 0);
		CHILD_CHECK(fdstore_barrier(store) == 0);
	} else {
		atomic_fetch_add(&notes->found, 1);
		CHILD_CHECK(pread(fd, &n, sizeof(n), 0) == sizeof(n));
	}
	n++;
	CHILD_CHECK(pwrite(fd, &n, sizeof(n), 0) == sizeof(n));
	close(fd);
	fdstore_free(store);
	return n;
}

static int play_serve(void)
{
	sigset_t none, block;

	/* the supervisor's own mask is not inherited */
	CHILD_CHECK(sigprocmask(SIG_SETMASK, NULL, &none) == 0);
	CHILD_CHECK(!sigismember(&none, SIGTERM) && !sigismember(&none, SIGCHLD));
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGHUP);
	sigprocmask(SIG_BLOCK, &block, NULL);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	atomic_store(&notes->pid, getpid());
	CHILD_CHECK(sd_notify(0, "READY=1\nSTATUS=playing") > 0);
	while (!got_term) {
		sigsuspend(&none);
		if (got_hup)
			atomic_fetch_add(&notes->hups, 1);
		got_hup = 0;
	}
	atomic_fetch_add(&notes->terms, 1);
	return 0;
}

static int play(const char *name)
{
	uint32_t n;

	notes_map();
	atomic_fetch_add(&notes->starts, 1);
	if (strcmp(name, "exit7") == 0)
		return 7;
	if (strcmp(name, "exit0") == 0)
		return 0;
	if (strcmp(name, "killed") == 0)
		raise(SIGKILL);
	n = play_counter();
	if (strcmp(name, "serve") == 0)
		return play_serve();
	/* "deaths": four of different kinds, then state that is refused */
	if (n == 2)
		raise(SIGKILL); /* not ready: it was killed while it started */
	CHILD_CHECK(sd_notify(0, "READY=1") > 0);
	if (n == 1)
		raise(SIGKILL);
	if (n == 3)
		abort();
	return n == 4 ? 1 : n == 5 ? 0 : 3;
}

/* ---- the tests' side ---- */

static void setup(void)
{
	int fd = memfd_create("notes", 0);

	ck_assert(fd >= 0 && ftruncate(fd, 4096) == 0);
	ck_assert_int_eq(dup2(fd, NOTES_FD), NOTES_FD);
	close(fd);
	notes_map();
}

static void teardown(void)
{
	munmap(notes, sizeof(*notes));
	close(NOTES_FD);
}

static int supervise(const char *name)
{
	char *argv[] = { (char *)"test", (char *)"--supervise", (char *)"play", (char *)name, NULL };

	log_init(LOG_LEVEL_ERROR);
	return supervise_run(4, argv);
}

static pid_t supervisor_start(const char *name)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(supervise(name));
	ck_assert_int_gt(pid, 0);
	return pid;
}

static int supervisor_wait(pid_t pid)
{
	int status = 0;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void pause_briefly(void)
{
	poll(NULL, 0, 2);
}

static void serving_await(void)
{
	while (atomic_load(&notes->pid) == 0)
		pause_briefly();
}

START_TEST(every_death_is_answered_until_the_state_is_refused)
{
	ck_assert_int_eq(supervisor_wait(supervisor_start("deaths")), 3);
	ck_assert_uint_eq(atomic_load(&notes->starts), 6);
	ck_assert_uint_eq(atomic_load(&notes->found), 5);
}
END_TEST

START_TEST(a_daemon_that_cannot_start_is_not_tried_again)
{
	ck_assert_int_eq(supervisor_wait(supervisor_start("exit7")), 7);
	ck_assert_uint_eq(atomic_load(&notes->starts), 1);
	ck_assert_int_eq(supervisor_wait(supervisor_start("exit0")), 0);
	ck_assert_uint_eq(atomic_load(&notes->starts), 2);
}
END_TEST

START_TEST(a_daemon_that_always_dies_starting_is_given_up)
{
	ck_assert_int_eq(supervisor_wait(supervisor_start("killed")), 128 + SIGKILL);
	ck_assert_uint_eq(atomic_load(&notes->starts), 10);
}
END_TEST

START_TEST(signals_reach_the_daemon_and_end_both)
{
	static const int ends[] = { SIGTERM, SIGINT };
	pid_t pid = supervisor_start("serve");

	serving_await();
	kill(pid, SIGHUP);
	while (atomic_load(&notes->hups) == 0)
		pause_briefly();
	kill(pid, ends[_i]);
	ck_assert_int_eq(supervisor_wait(pid), 0);
	ck_assert_uint_eq(atomic_load(&notes->terms), 1);
	ck_assert_uint_eq(atomic_load(&notes->starts), 1);
}
END_TEST

/* Its parent has not seen its end. */
static void zombie_await(pid_t pid)
{
	char path[64], line[200] = "";
	const char *state = NULL;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	while (!state || state[2] != 'Z') {
		pause_briefly();
		f = fopen(path, "r");
		ck_assert_ptr_nonnull(f);
		ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
		fclose(f);
		state = strrchr(line, ')');
		ck_assert_ptr_nonnull(state);
	}
}

START_TEST(a_stop_finds_the_daemon_dead)
{
	static const int ends[] = { SIGKILL, SIGABRT };
	pid_t pid = supervisor_start("serve"), child;

	serving_await();
	child = atomic_load(&notes->pid);
	kill(pid, SIGSTOP);
	kill(child, ends[_i]);
	zombie_await(child);
	kill(pid, SIGTERM);
	kill(pid, SIGCONT);
	ck_assert_int_eq(supervisor_wait(pid), 0);
	ck_assert_uint_eq(atomic_load(&notes->starts), 1);
}
END_TEST

START_TEST(the_daemon_ends_with_its_supervisor)
{
	pid_t pid, child;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = supervisor_start("serve");
	serving_await();
	child = atomic_load(&notes->pid);
	kill(pid, SIGKILL);
	ck_assert_int_eq(supervisor_wait(pid), -SIGKILL);
	ck_assert_int_eq(supervisor_wait(child), 0);
	ck_assert_uint_eq(atomic_load(&notes->terms), 1);
}
END_TEST

START_TEST(many_kills_lose_nothing)
{
	pid_t pid = supervisor_start("serve");
	int i;

	for (i = 0; i < 30; i++) {
		serving_await();
		kill(atomic_exchange(&notes->pid, 0), SIGKILL);
	}
	serving_await();
	kill(pid, SIGTERM);
	ck_assert_int_eq(supervisor_wait(pid), 0);
	ck_assert_uint_eq(atomic_load(&notes->starts), 31);
	ck_assert_uint_eq(atomic_load(&notes->found), 30);
}
END_TEST

static int supervise_under_manager(void *arg)
{
	return supervise(arg);
}

START_TEST(readiness_reaches_the_supervisors_own_manager)
{
	struct manager m;

	manager_init(&m);
	ck_assert_msg(manager_start(&m, supervise_under_manager, (void *)"deaths") == 3, "%s", m.log);
	ck_assert(m.news.ready);
	ck_assert_uint_eq(m.store.nr, 0); /* the supervisor keeps them itself */
	/* what the manager passes to the supervisor reaches the daemon */
	ck_assert_int_eq(supervise_store_keep(&m.store, "other", dup(0)), 0);
	ck_assert_msg(manager_start(&m, supervise_under_manager, (void *)"deaths") == 3, "%s", m.log);
	manager_fini(&m);
}
END_TEST

int main(int argc, char *argv[])
{
	Suite *s;
	TCase *t;

	if (argc == 3 && strcmp(argv[1], "play") == 0)
		return play(argv[2]);
	s = suite_create("supervise");
	t = tcase_create("supervise");
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, every_death_is_answered_until_the_state_is_refused);
	tcase_add_test(t, a_daemon_that_cannot_start_is_not_tried_again);
	tcase_add_test(t, a_daemon_that_always_dies_starting_is_given_up);
	tcase_add_loop_test(t, signals_reach_the_daemon_and_end_both, 0, 2);
	tcase_add_loop_test(t, a_stop_finds_the_daemon_dead, 0, 2);
	tcase_add_test(t, the_daemon_ends_with_its_supervisor);
	tcase_add_test(t, many_kills_lose_nothing);
	tcase_add_test(t, readiness_reaches_the_supervisors_own_manager);
	suite_add_tcase(s, t);
	return suite_status(s);
}
