/* SPDX-License-Identifier: MIT */
/*
 * The worker: two queues of jobs under a mutex and one thread that runs each in order, the later one
 * only while the first is empty. What clients ask for is later, so that however much they ask, the
 * end of a session, which gives memory back, waits for no more than the job that runs.
 *
 * `running` covers the time between taking a job and its return, so that worker_wait_idle() means
 * what it says. A job may be submitted again from inside its own run: it left the queue before.
 */
#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct worker_queue {
	struct worker_job *first, **last;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	/* guarded by lock */
	struct worker_queue queue[2]; /* first, later */
	bool running, stopping;
	uint64_t jobs;         /* ended */
	uint64_t job_begun_ns; /* of the thread's CPU time: when the job that runs began */
};

static uint64_t worker_cpu_ns(clockid_t clock)
{
	struct timespec t = {0};

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static struct worker_job *worker_next(struct worker *w)
{
	struct worker_queue *q = w->queue[0].first ? &w->queue[0] : &w->queue[1];
	struct worker_job *job = q->first;

	if (!job)
		return NULL;
	q->first = job->next;
	if (!q->first)
		q->last = &q->first;
	return job;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	pthread_setname_np(pthread_self(), "kmmd-worker");
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct worker_job *job = worker_next(w);

		if (!job) {
			pthread_cond_broadcast(&w->idle);
			if (w->stopping)
				break;
			pthread_cond_wait(&w->work, &w->lock);
			continue;
		}
		w->running = true;
		w->job_begun_ns = worker_cpu_ns(CLOCK_THREAD_CPUTIME_ID);
		pthread_mutex_unlock(&w->lock);
		job->run(job);
		pthread_mutex_lock(&w->lock);
		w->running = false;
		w->jobs++;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int worker_new(struct worker **ret)
{
	struct worker *w = calloc(1, sizeof(*w));
	sigset_t all, old;
	int r;

	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->idle, NULL);
	for (int i = 0; i < 2; i++)
		w->queue[i].last = &w->queue[i].first;
	/* Signals are the main loop's. But a fault that is blocked ends the process, guarded or not. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		free(w);
		return -r;
	}
	*ret = w;
	return 0;
}

void worker_wait_idle(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->queue[0].first || w->queue[1].first || w->running)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

void worker_look(struct worker *w, struct worker_progress *p)
{
	clockid_t clock;
	uint64_t begun;

	pthread_mutex_lock(&w->lock);
	p->running = w->running || w->queue[0].first || w->queue[1].first;
	p->jobs = w->jobs;
	begun = w->job_begun_ns;
	pthread_mutex_unlock(&w->lock);
	/* Of another thread: fails only when that has ended, and then nothing runs. */
	p->cpu_ns = pthread_getcpuclockid(w->thread, &clock) ? 0 : worker_cpu_ns(clock);
	p->job_cpu_ns = p->cpu_ns > begun ? p->cpu_ns - begun : 0;
}

struct worker *worker_free(struct worker *w)
{
	if (!w)
		return NULL;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->idle);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}

static void submit(struct worker *w, struct worker_queue *q, struct worker_job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&w->lock);
	*q->last = job;
	q->last = &job->next;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

void worker_submit(struct worker *w, struct worker_job *job)
{
	submit(w, &w->queue[0], job);
}

void worker_submit_later(struct worker *w, struct worker_job *job)
{
	submit(w, &w->queue[1], job);
}
