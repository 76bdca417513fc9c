/* SPDX-License-Identifier: MIT */
/*
 * The worker: one thread for work that takes longer than a reactor may be busy. Jobs run in order
 * of submission, the later ones when no others wait; a job is a struct inside its sender's object.
 * Results go back by reactor_post.
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/kmmd.h"

struct worker_job {
	struct worker_job *next;
	void (*run)(struct worker_job *job);
};

int worker_new(struct worker **ret);
struct worker *worker_free(struct worker *w); /* runs what is queued, then joins */
void worker_submit(struct worker *w, struct worker_job *job); /* any thread */
/* The same for what clients ask for: behind all of worker_submit(). */
void worker_submit_later(struct worker *w, struct worker_job *job);
/* Returns when nothing is queued and nothing runs: the end of the daemon. */
void worker_wait_idle(struct worker *w);

/* For the watchdog. */
struct worker_progress {
	bool running;        /* a job runs, or waits to */
	uint64_t jobs;       /* ended so far */
	uint64_t cpu_ns;     /* that the thread has used */
	uint64_t job_cpu_ns; /* the same by the job that runs */
};
void worker_look(struct worker *w, struct worker_progress *p);

#endif
