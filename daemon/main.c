/* SPDX-License-Identifier: MIT */
/*
 * kmmd: what starts and ends, in which order.
 *
 *   options, fd store, pool, worker, reactors (objects), domain, sessions, reactors (threads),
 *   listening socket, READY=1
 *
 * The end is the reverse, with one difficulty: reactors, worker and main loop post work to each
 * other. So the acceptor stops first, then the reactors' threads; then the main thread runs what is
 * left in all mailboxes and waits for the worker, again and again until nobody has anything; only
 * then is anything freed, the sessions last, since items of the main loop's mailbox lie in them.
 * Sessions are not ended by it: with a manager that keeps the memory their
 * processes go on with the next daemon.
 *
 * Exit status: 0 stopped; 1 failed; 2 wrong command line or configuration; 3 the pool that was
 * taken over is damaged or of another version; 4 the pool that is wanted cannot be had here (memory,
 * huge pages, descriptors). After 2 to 4 it is no use to try again, and the unit says so to the manager
 * (RestartPreventExitStatus=). But a unit that has failed keeps no descriptors: with KMMD_REFUSED=retry
 * (the unit sets it) and while the manager keeps a pool a refusal ends with 1, and so is tried again until
 * somebody has repaired the configuration, put the right version back, or given the pool up by stopping
 * the unit. A pause comes before: neither the manager nor clients that connect to its socket make the
 * machine busy with refusals. A variable, since the command line may be what is wrong.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "daemon/access.h"
#include "daemon/acceptor.h"
#include "daemon/cpu_list.h"
#include "daemon/domain.h"
#include "daemon/failure.h"
#include "daemon/fdstore.h"
#include "daemon/http.h"
#include "daemon/kmmd.h"
#include "daemon/listener.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/peak.h"
#include "daemon/pool.h"
#include "daemon/reactor.h"
#include "daemon/reload.h"
#include "daemon/reserve.h"
#include "daemon/session.h"
#include "daemon/status.h"
#include "daemon/supervise.h"
#include "daemon/watchdog.h"
#include "daemon/worker.h"
#include "shm/guard.h"

enum {
	EXIT_USAGE = 2,
	EXIT_REFUSED = 3,
	EXIT_UNFIT = 4,
};

#define REFUSAL_PAUSE_S 2

#define SIGNALS 3

struct daemon_main {
	struct kmmd kmmd;
	struct listener listener;
	struct watchdog *watchdog;
	struct status *status;
	uv_signal_t signal[SIGNALS];
	cpu_set_t cpus; /* that it may run on */
	int argc;
	char **argv;
};

/* ---- signals ---- */

static void main_on_signal(uv_signal_t *handle, int signum)
{
	static const struct log_about stop = { .event = LOG_STOP };
	struct daemon_main *m = handle->data;

	if (signum == SIGHUP) {
		reload_all(m->kmmd.reload);
		return;
	}
	log_event(LOG_LEVEL_NOTICE, &stop, "stopping: %s", strsignal(signum));
	sd_notify(0, "STOPPING=1");
	uv_stop(&m->kmmd.main->loop);
}

static int main_watch_signals(struct daemon_main *m)
{
	static const int signum[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

	for (int i = 0; i < SIGNALS; i++) {
		int e = uv_signal_init(&m->kmmd.main->loop, &m->signal[i]);

		if (!e) {
			m->signal[i].data = m;
			e = uv_signal_start(&m->signal[i], main_on_signal, signum[i]);
		}
		if (e)
			return e;
	}
	return 0;
}

/* ---- start ---- */

static void main_raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* To the CPUs that it is told: all threads inherit them. */
static void main_confine(struct daemon_main *m)
{
	cpu_set_t wanted;

	cpu_list_allowed(&m->cpus);
	if (!m->kmmd.options->cpus)
		return;
	cpu_list_read(m->kmmd.options->cpus, &wanted);
	CPU_AND(&m->cpus, &m->cpus, &wanted); /* some are left: options_check() */
	if (sched_setaffinity(0, sizeof(m->cpus), &m->cpus) < 0)
		log_warning("[daemon] cpus = %s: the daemon cannot be confined to them: %s",
		            m->kmmd.options->cpus, strerror(errno));
}

/* The CPU that the nth reactor is bound to. */
static int main_cpu(const struct daemon_main *m, uint32_t n)
{
	uint32_t count = (uint32_t)CPU_COUNT(&m->cpus), seen = 0;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((unsigned int)cpu, &m->cpus) && seen++ == n % count)
			return cpu;
	return -1;
}

static int main_new_reactors(struct daemon_main *m)
{
	struct kmmd *k = &m->kmmd;
	int r;

	k->reactors = calloc(k->options->reactors, sizeof(struct reactor *));
	if (!k->reactors)
		return -ENOMEM;
	for (uint32_t i = 0; i < k->options->reactors; i++) {
		r = reactor_new(&k->reactors[i], k, i);
		if (r < 0)
			return r;
		k->nr_reactors++;
	}
	return 0;
}

static int main_start_reactors(struct daemon_main *m)
{
	struct kmmd *k = &m->kmmd;

	for (uint32_t i = 0; i < k->nr_reactors; i++) {
		int r = reactor_start(k->reactors[i], k->options->pin ? main_cpu(m, i) : -1);

		if (r < 0)
			return r;
	}
	return 0;
}

static int main_failed(const char *what, int r)
{
	log_error("%s: %s", what, strerror(-r));
	return r;
}

/* 0 or a negative errno; the caller stops what was started. */
static int main_start(struct daemon_main *m)
{
	struct kmmd *k = &m->kmmd;
	int r;

	r = reactor_new(&k->main, k, UINT32_MAX);
	if (!r)
		r = main_watch_signals(m);
	if (!r)
		r = guard_install();
	if (r)
		return main_failed("the main loop cannot be set up", r);
	r = fdstore_new(&k->fdstore);
	if (r)
		return main_failed("the descriptors kept by the service manager cannot be taken over", r);
	/* Before the pool: what a second daemon made would be huge pages that the first one lacks. */
	r = listener_look(k->options, k->fdstore);
	if (r)
		return main_failed("there is no socket to listen at", r);
	r = pool_open(&k->pool, k->options, k->fdstore);
	if (r)
		return main_failed("there is no pool to serve", r);
	r = worker_new(&k->worker);
	if (!r)
		r = main_new_reactors(m);
	if (r)
		return main_failed("threads cannot be set up", r);
	r = domain_new(&k->domain, k);
	if (r)
		return main_failed("the domain cannot be brought into service", r);
	r = peak_new(&k->peak);
	if (!r)
		r = user_table_new(&k->users, k);
	if (!r)
		r = session_table_new(&k->sessions, k);
	if (!r)
		r = failure_table_new(&k->failures, session_table_size(k->sessions));
	if (!r)
		r = session_table_recover(k->sessions);
	if (r)
		return main_failed("the session table cannot be read", r);
	r = access_new(&k->access, k->options);
	if (!r)
		r = reload_new(&k->reload, k, &m->listener, m->argc, m->argv);
	if (r)
		return main_failed("the rules of access cannot be made", r);
	r = listener_open(&m->listener, k->options, k->fdstore);
	if (r)
		return main_failed("there is no socket to listen at", r);
	r = main_start_reactors(m);
	if (!r)
		r = acceptor_new(&k->acceptor, k, &m->listener);
	if (r)
		return main_failed("threads cannot be started", r);
	return 0;
}

static void main_ready(struct daemon_main *m)
{
	struct kmmd *k = &m->kmmd;
	unsigned long long mib = pool_present(k->pool) >> (20 - PAGE_SHIFT);
	struct pool_backing backing;
	const struct log_about about = { .event = k->pool->recovered ? LOG_RESTART : LOG_START };

	pool_backing_get(k->pool, &backing);
	log_event(LOG_LEVEL_NOTICE, &about,
	          "serving %llu MiB (%s) at %s with %u reactors, %.1f ms after %s", mib,
	          backing.text, m->listener.path, k->nr_reactors,
	          (double)(uv_hrtime() - k->started_ns) / 1e6,
	          k->pool->recovered ? "the restart" : "the start");
	if (watchdog_new(&m->watchdog, k) < 0)
		log_error("there is no memory to look after the threads: no watchdog");
	if (http_new(&k->http, k) < 0)
		log_error("there is no memory for the metrics' listener");
	if (status_new(&m->status, k) < 0)
		log_error("there is no memory for the service's status line");
}

/* ---- end ---- */

/* Lets everybody finish what others asked of them. */
static void main_settle(struct kmmd *k)
{
	bool again;

	/* The loop first: a process that is seen to have ended gives the worker a sweep, which posts to
	 * this loop. Once the worker is idle and every mailbox empty, nothing is on its way. */
	do {
		again = false;
		uv_run(&k->main->loop, UV_RUN_NOWAIT);
		if (k->worker)
			worker_wait_idle(k->worker);
		for (uint32_t i = 0; i < k->nr_reactors; i++)
			again |= reactor_pump(k->reactors[i]);
		again |= reactor_pump(k->main);
	} while (again);
}

static void main_stop(struct daemon_main *m)
{
	struct kmmd *k = &m->kmmd;
	struct http *http = k->http;

	/* release: pairs with the loads of the worker's jobs */
	atomic_store_explicit(&k->stopping, true, memory_order_release);
	http_stop(http);
	k->http = NULL; /* a reload that is still on its way listens at nothing anew */
	if (k->acceptor)
		acceptor_stop(k->acceptor);
	for (uint32_t i = 0; i < k->nr_reactors; i++)
		reactor_stop(k->reactors[i]);
	for (uint32_t i = 0; i < k->nr_reactors; i++)
		reactor_join(k->reactors[i]);
	status_stop(m->status);
	watchdog_stop(m->watchdog);
	if (k->main)
		main_settle(k);
	session_table_stop(k->sessions);
	for (uint32_t i = 0; i < k->nr_reactors; i++)
		k->reactors[i] = reactor_free(k->reactors[i]);
	/* The last channels may have ended sessions: their sweeps need the domain. */
	do {
		if (k->worker)
			worker_wait_idle(k->worker);
	} while (k->main && reactor_pump(k->main));
	k->worker = worker_free(k->worker);
	free(k->reactors);
	k->domain = domain_free(k->domain);
	/* Runs what is left in the mailbox and the close callbacks: both lie in sessions. */
	k->main = reactor_free(k->main);
	m->status = status_free(m->status);
	m->watchdog = watchdog_free(m->watchdog);
	http_free(http);
	k->sessions = session_table_free(k->sessions);
	k->failures = failure_table_free(k->failures);
	k->peak = peak_free(k->peak);
	k->users = user_table_free(k->users);
	k->acceptor = acceptor_free(k->acceptor);
	k->access = access_free(k->access);
	k->reload = reload_free(k->reload);
	listener_close(&m->listener);
	k->pool = pool_close(k->pool);
	k->fdstore = fdstore_free(k->fdstore);
}

static bool main_retries(void)
{
	const char *refused = getenv("KMMD_REFUSED");

	return refused && strcmp(refused, "retry") == 0;
}

/* Of what the manager passed; the environment is still as it was set. */
static bool main_pool_is_kept(void)
{
	const char *names = getenv("LISTEN_FDNAMES");

	return names && strstr(names, "words0");
}

/* What to end with after a refusal: see the head of this file. */
static int main_refuse(bool kept, int status)
{
	static const struct timespec pause = {REFUSAL_PAUSE_S, 0};

	if (!main_retries())
		return status;
	if (kept) {
		log_error("the service manager still keeps a pool, which stays: it is tried again until "
		          "this is put right (or stop and start the service, which gives the pool and all "
		          "in it up)");
		sd_notify(0, "STATUS=Refuses to serve the pool that is kept; the log says why");
	}
	nanosleep(&pause, NULL); /* SIGTERM ends it */
	return kept ? EXIT_FAILURE : status;
}

int main(int argc, char *argv[])
{
	static struct daemon_main m;
	struct options *o = NULL;
	bool kept = main_pool_is_kept();
	int r;

	r = options_parse(&o, argc, argv);
	if (r)
		return r > 0 ? EXIT_SUCCESS : main_refuse(kept, EXIT_USAGE);
	log_init(o->log_level);
	log_set_limits(o->log_refusals, o->log_sessions);
	if (o->reserve_huge_pages) {
		r = reserve_huge_pages(o);
		options_free(o);
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	if (o->supervise) {
		r = supervise_run(argc, argv);
		options_free(o);
		return r;
	}
	m = (struct daemon_main){.argc = argc, .argv = argv, .listener = {.fd = -1}};
	m.kmmd.options = o;
	m.kmmd.started_ns = uv_hrtime();
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "kmmd"); /* the supervisor starts it as /proc/self/exe */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		log_warning("the daemon's memory can be dumped: %s", strerror(errno));
	main_raise_limits();
	main_confine(&m);
	r = main_start(&m);
	if (!r) {
		main_ready(&m);
		uv_run(&m.kmmd.main->loop, UV_RUN_DEFAULT);
	}
	main_stop(&m);
	options_free(o);
	if (r == -EUCLEAN)
		return main_refuse(kept, EXIT_REFUSED);
	if (r == -ENOMEM || r == -ENOSPC || r == -EMFILE)
		return main_refuse(kept, EXIT_UNFIT);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
