/* SPDX-License-Identifier: MIT */
/*
 * All metrics, and those of the daemon as a process.
 *
 * The text is made whenever somebody asks, from counters and snapshots that need nobody's help: no
 * reactor is asked, nothing stands still, locks are held for moments. With c caches, u users, s ids of
 * sessions, z zones and r reactors it costs O(c log c + u log u + s + zr), besides one look at each section
 * and at each class of magazines; no walk over pages or objects. What a walk would find (granted and
 * cached pages, exactly) is in kmmctl's reports; here the accounts say it.
 *
 * The number of lines is bounded: users and caches beyond the largest are left out, and their number is
 * told.
 *
 * Names are those of the Prometheus conventions: kmmd_ in front, base units (bytes, seconds) at the end,
 * counters in _total. A name that is there once does not change its meaning.
 */
#include "daemon/metrics_text.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <uv.h>

#include "daemon/fdstore.h"
#include "daemon/kmmd.h"
#include "daemon/log_rate.h"
#include "daemon/metrics_writer.h"
#include "daemon/pool.h"
#include "daemon/worker.h"

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t = { 0 };

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* 0: it cannot be seen. */
static uint64_t open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint64_t n = 0;
	struct dirent *e;

	if (!d)
		return 0;
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n - 1; /* the directory's own */
}

/* As the clock had it when somebody asked for the first time: it is set now and then, and the start does
 * not move by that. */
static uint64_t start_time_ns(uint64_t up)
{
	static _Atomic uint64_t start;
	uint64_t none = 0;

	/* relaxed: a number by itself; the first one stays */
	atomic_compare_exchange_strong_explicit(&start, &none, clock_ns(CLOCK_REALTIME) - up,
	                                        memory_order_relaxed, memory_order_relaxed);
	return atomic_load_explicit(&start, memory_order_relaxed);
}

static void write_build(struct metrics_writer *w, const struct kmmd *k)
{
	uint64_t up = uv_hrtime() - k->started_ns;

	metrics_family(w, METRICS_INFO, "kmmd_build", "", "The daemon's version.");
	metrics_u64(w, 1, "version=\"%s\"", PACKAGE_VERSION);
	metrics_family(w, METRICS_GAUGE, "kmmd_uptime_seconds", "seconds",
	               "Time since the daemon was started.");
	metrics_ns(w, up, METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_start_time_seconds", "seconds",
	               "When the daemon was started, since the epoch.");
	metrics_ns(w, start_time_ns(up), METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_starts", "",
	               "Starts of the daemon on this pool: 1 when it is new, one more with each "
	               "restart that took it over.");
	metrics_u64(w, k->pool->epoch, METRICS_NO_LABELS);
}

static void write_process(struct metrics_writer *w, const struct kmmd *k)
{
	uint64_t fds = open_descriptors();
	struct worker_progress worker;
	struct rlimit l;

	metrics_family(w, METRICS_COUNTER, "process_cpu_seconds", "seconds",
	               "CPU time of all threads of the daemon.");
	metrics_ns(w, clock_ns(CLOCK_PROCESS_CPUTIME_ID), METRICS_NO_LABELS);
	if (fds) {
		metrics_family(w, METRICS_GAUGE, "process_open_fds", "",
		               "Descriptors that the daemon has open.");
		metrics_u64(w, fds, METRICS_NO_LABELS);
	}
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		metrics_family(w, METRICS_GAUGE, "process_max_fds", "",
		               "Descriptors that it may have open (LimitNOFILE=).");
		metrics_u64(w, l.rlim_cur, METRICS_NO_LABELS);
	}
	worker_look(k->worker, &worker);
	metrics_family(w, METRICS_COUNTER, "kmmd_worker_jobs", "",
	               "Jobs that the worker has done: sweeps, reports, collecting.");
	metrics_u64(w, worker.jobs, METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_worker_cpu_seconds", "seconds",
	               "CPU time of the worker.");
	metrics_ns(w, worker.cpu_ns, METRICS_NO_LABELS);
}

static void write_fdstore(struct metrics_writer *w, const struct kmmd *k)
{
	size_t limit = fdstore_limit(k->fdstore);

	metrics_family(w, METRICS_GAUGE, "kmmd_fdstore_present", "",
	               "1 when a service manager keeps the memory over a restart.");
	metrics_u64(w, fdstore_present(k->fdstore), METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_fdstore_descriptors", "",
	               "Descriptors that the service manager keeps: sections, tables, control memory, "
	               "the socket.");
	metrics_u64(w, fdstore_kept(k->fdstore), METRICS_NO_LABELS);
	if (!limit)
		return;
	metrics_family(w, METRICS_GAUGE, "kmmd_fdstore_descriptors_max", "",
	               "The most that it keeps (FileDescriptorStoreMax=); left out where it does not "
	               "say.");
	metrics_u64(w, limit, METRICS_NO_LABELS);
}

static void write_log(struct metrics_writer *w)
{
	enum log_kind kind;

	metrics_family(w, METRICS_COUNTER, "kmmd_log_lines_left_out", "",
	               "Lines that were not logged because a user caused too many ([log] "
	               "refusals_per_minute, sessions_per_minute).");
	for (kind = LOG_PLAIN; kind < NR_LOG_KINDS; kind++)
		if (log_kind_about(kind)->limit != LOG_UNLIMITED)
			metrics_u64(w, log_rate_left_out(kind), "event=\"%s\"",
			            log_kind_about(kind)->name);
}

int metrics_text(struct kmmd *k, enum metrics_format format, char **ret, size_t *length)
{
	struct metrics_writer w = { .format = format };

	write_build(&w, k);
	write_process(&w, k);
	metrics_write_memory(&w, k);
	metrics_write_caches(&w, k);
	metrics_write_calls(&w, k);
	metrics_write_sessions(&w, k);
	write_fdstore(&w, k);
	write_log(&w);
	metrics_end(&w);
	if (w.failed) {
		free(w.text);
		return -ENOMEM;
	}
	*ret = w.text;
	*length = w.length;
	return 0;
}
