/* SPDX-License-Identifier: MIT */
/*
 * The supervisor. See supervise.h.
 *
 * One thread, one loop: it waits for signals (signalfd) and for the child's messages, and holds no
 * state but the kept descriptors, so that nothing in it can go wrong with the daemon.
 *
 *   child ends          meaning                                    what is done
 *   exit status 3       it refused the state that it was handed    end with 3
 *   exit, never READY   the command line or the machine is wrong   end with that status
 *   anything else       it crashed, was killed, or ended itself    start it again
 *
 * Whatever the child said before it died is read before the next one starts: its pushes count. The
 * death of a daemon is answered at once; only many in a row are slowed down (STARTS_A_SECOND, and
 * SLOW_MS after FAILURES_MAX starts that did not get ready). A child that is killed again and again
 * before the first READY of all ends the supervisor after FAILURES_MAX attempts.
 *
 * SIGTERM ends both, with 0; with the daemon's status when it fails to stop, but not when it was dead by
 * then: that is nobody's failure to stop.
 */
#include "daemon/supervise.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/supervise_store.h"

#define STATUS_USAGE 2
#define STATUS_REFUSED 3
#define STARTS_A_SECOND 20u
#define FAILURES_MAX 10u
#define SLOW_MS 1000
#define KILL_MS 10000

struct supervisor {
	struct supervise_store store;
	char **argv; /* of the child */
	int signals; /* signalfd */
	sigset_t old_mask;
	pid_t child; /* 0: none */
	bool ready_ever, ready, stopping;
	bool killed; /* the child, by us, since it did not stop */
	unsigned int failures; /* starts in a row that did not get ready */
	int64_t started[STARTS_A_SECOND]; /* ms, ring */
	unsigned int starts;
	int64_t start_at, kill_at; /* ms; 0: not */
	int exit_status;
	bool done;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What the descriptors of a large pool need, for itself and, inherited, for the daemon. */
static void limits_raise(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &l) < 0)
			log_warning("supervisor: cannot raise the limit of open files: %s",
			            strerror(errno));
	}
}

static _Noreturn void child_run(struct supervisor *s, pid_t parent)
{
	int r;

	/* The daemon makes no sense without what keeps its memory. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	r = supervise_store_hand_over(&s->store);
	if (r < 0) {
		log_error("supervisor: cannot hand over %zu descriptors: %s (limit of open files?)",
		          s->store.nr, strerror(-r));
		_exit(EXIT_FAILURE);
	}
	sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
	execv("/proc/self/exe", s->argv);
	log_error("supervisor: cannot run the daemon: %s", strerror(errno));
	_exit(EXIT_FAILURE);
}

static void child_start(struct supervisor *s)
{
	pid_t parent = getpid(), pid;

	s->start_at = 0;
	s->ready = false;
	pid = fork();
	if (pid == 0)
		child_run(s, parent);
	if (pid < 0) {
		log_error("supervisor: cannot fork: %s", strerror(errno));
		s->start_at = now_ms() + SLOW_MS;
		return;
	}
	s->child = pid;
	s->started[s->starts++ % STARTS_A_SECOND] = now_ms();
}

/* The time of the next start: at once, unless there were many. */
static int64_t start_time(const struct supervisor *s)
{
	int64_t now = now_ms(), at = now, first;

	if (s->starts >= STARTS_A_SECOND) {
		first = s->started[s->starts % STARTS_A_SECOND];
		if (first + 1000 > at)
			at = first + 1000;
	}
	if (s->failures >= FAILURES_MAX)
		at = now + SLOW_MS;
	return at;
}

static void news_handle(struct supervisor *s)
{
	struct supervise_news news;
	char line[300];

	supervise_store_receive(&s->store, s->child, &news);
	if (news.status[0]) {
		snprintf(line, sizeof(line), "STATUS=%s", news.status);
		sd_notify(0, line);
	}
	if (!news.ready)
		return;
	s->failures = 0;
	s->ready = true;
	if (!s->ready_ever) {
		s->ready_ever = true;
		sd_notify(0, "READY=1");
	}
}

static void supervisor_end(struct supervisor *s, int status)
{
	s->exit_status = status;
	s->done = true;
}

/* Somebody else's SIGKILL may have hit it before our SIGTERM and be seen after it: it ended all the
 * same. */
static int stop_status(const struct supervisor *s, int status)
{
	if (status == 128 + SIGTERM || status == 128 + SIGINT)
		return 0;
	return status == 128 + SIGKILL && !s->killed ? 0 : status;
}

static void child_ended(struct supervisor *s, const siginfo_t *info)
{
	bool exited = info->si_code == CLD_EXITED;
	int status = exited ? info->si_status : 128 + info->si_status;

	if (s->stopping) {
		supervisor_end(s, stop_status(s, status));
		return;
	}
	if (!s->ready)
		s->failures++;
	if (exited && status == STATUS_REFUSED) {
		log_error("supervisor: the daemon refused its state; it is not started again");
		supervisor_end(s, status);
	} else if (!s->ready_ever && (exited || s->failures >= FAILURES_MAX)) {
		if (status != 0)
			log_error("supervisor: the daemon did not start (status %d)", status);
		supervisor_end(s, status);
	} else {
		log_warning("supervisor: the daemon ended (%s %d); starting it again with %zu "
		            "descriptors", exited ? "status" : "signal", info->si_status,
		            s->store.nr);
		if (exited && status == STATUS_USAGE)
			log_error("supervisor: its configuration is wrong, as it said above: the pool is "
			          "kept, correct the file; it is tried again meanwhile");
		s->start_at = start_time(s);
	}
}

static void child_reap(struct supervisor *s)
{
	siginfo_t info = { 0 };

	/* Not reaped yet, so its pid still tells its last messages from others'. */
	if (s->child == 0 ||
	    waitid(P_PID, (id_t)s->child, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	    info.si_pid == 0)
		return;
	news_handle(s);
	waitid(P_PID, (id_t)s->child, &info, WEXITED);
	s->child = 0;
	child_ended(s, &info);
}

static void stop(struct supervisor *s)
{
	siginfo_t info = { 0 };

	/* Dead already, however: what is asked for is so, and nobody waits for another one. */
	if (s->child == 0 ||
	    (!s->stopping &&
	     waitid(P_PID, (id_t)s->child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	     info.si_pid == s->child)) {
		supervisor_end(s, 0);
		return;
	}
	kill(s->child, SIGTERM);
	if (s->stopping)
		return;
	s->stopping = true;
	s->kill_at = now_ms() + KILL_MS;
	sd_notify(0, "STOPPING=1");
}

static void signals_handle(struct supervisor *s)
{
	struct signalfd_siginfo si;

	while (read(s->signals, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGTERM:
		case SIGINT:
			stop(s);
			break;
		case SIGHUP:
			if (s->child > 0)
				kill(s->child, SIGHUP);
			break;
		default: /* SIGCHLD: looked for after each wait */
			break;
		}
	}
}

static int timeout_ms(const struct supervisor *s)
{
	int64_t at = s->start_at ? s->start_at : s->kill_at, left;

	if (at == 0)
		return -1;
	left = at - now_ms();
	return left < 0 ? 0 : (int)left;
}

static void supervisor_loop(struct supervisor *s)
{
	struct pollfd p[2] = {
		{ .fd = s->signals, .events = POLLIN },
		{ .fd = s->store.socket, .events = POLLIN },
	};

	while (!s->done) {
		if (poll(p, 2, timeout_ms(s)) < 0 && errno != EINTR)
			log_error("supervisor: poll: %s", strerror(errno));
		signals_handle(s);
		news_handle(s);
		child_reap(s);
		if (s->done)
			break;
		if (s->kill_at && now_ms() >= s->kill_at && s->child > 0) {
			log_warning("supervisor: the daemon did not end in %d s; killing it",
			            KILL_MS / 1000);
			kill(s->child, SIGKILL);
			s->killed = true;
			s->kill_at = now_ms() + KILL_MS;
		}
		if (s->start_at && now_ms() >= s->start_at)
			child_start(s);
	}
}

/* What a service manager passed to the supervisor itself goes on to the daemon. */
static void inherited_keep(struct supervisor *s)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names), i;

	for (i = 0; i < n; i++) {
		if (supervise_store_keep(&s->store, names[i], SD_LISTEN_FDS_START + i) < 0)
			log_warning("supervisor: descriptor \"%s\" is not passed on", names[i]);
		free(names[i]);
	}
	free(names);
}

static char **child_argv(int argc, char *argv[])
{
	char **copy = calloc((size_t)argc + 1, sizeof(*copy));
	int i, n = 0;

	for (i = 0; copy && i < argc; i++)
		if (i == 0 || strcmp(argv[i], "--supervise") != 0)
			copy[n++] = argv[i];
	return copy;
}

int supervise_run(int argc, char *argv[])
{
	struct supervisor s = { .exit_status = EXIT_FAILURE };
	sigset_t mask;
	int r;

	limits_raise();
	/* Who kills kmmd by name means the daemon, not what keeps its memory. */
	prctl(PR_SET_NAME, "kmm-supervisor");
	s.argv = child_argv(argc, argv);
	if (!s.argv)
		return EXIT_FAILURE;
	r = supervise_store_init(&s.store);
	if (r < 0) {
		log_error("supervisor: cannot make the notify socket: %s", strerror(-r));
		free(s.argv);
		return EXIT_FAILURE;
	}
	inherited_keep(&s);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, &s.old_mask);
	s.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s.signals < 0) {
		log_error("supervisor: signalfd: %s", strerror(errno));
	} else {
		child_start(&s);
		supervisor_loop(&s);
		close(s.signals);
	}
	sigprocmask(SIG_SETMASK, &s.old_mask, NULL);
	supervise_store_fini(&s.store);
	free(s.argv);
	return s.exit_status;
}
