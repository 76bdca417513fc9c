/* SPDX-License-Identifier: MIT */
/*
 * Broadcast and rendezvous: the two ways to have something done on all reactors.
 *
 * Broadcast: one object with one mailbox item a reactor and a count of those that have not run; the
 * one that runs last submits `done` to the worker and the object with it.
 *
 * Rendezvous: a job on the worker posts an item to every reactor, waits until all have arrived or
 * have ended, runs fn while they stand, and lets them go. The worker being one thread, two
 * rendezvous never overlap, so reactors that arrived at different ones cannot wait for each other.
 * An item that runs late (its reactor ended; the main thread runs it) finds the doors open.
 *
 * Locking: `rendezvous_lock` guards arrived and open of every rendezvous, and the reactors' end.
 * It is held for a few instructions and never while fn runs.
 */
#include "daemon/broadcast.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "daemon/kmmd.h"
#include "daemon/reactor.h"
#include "daemon/worker.h"

/* ---- broadcast ---- */

struct broadcast;

struct broadcast_item {
	struct reactor_work work;
	struct broadcast *broadcast;
};

struct broadcast {
	struct worker_job job;
	struct kmmd *kmmd;
	void (*fn)(struct reactor *r, void *arg);
	void (*done)(void *arg);
	void *arg;
	_Atomic uint32_t left;
	struct broadcast_item item[];
};

static void broadcast_done(struct worker_job *job)
{
	struct broadcast *b = (struct broadcast *)job;

	if (b->done)
		b->done(b->arg);
	free(b);
}

static void broadcast_run(struct reactor *r, struct reactor_work *w)
{
	struct broadcast *b = ((struct broadcast_item *)w)->broadcast;

	b->fn(r, b->arg);
	/* acq_rel: the last one, and done() after it, see what every fn did */
	if (atomic_fetch_sub_explicit(&b->left, 1, memory_order_acq_rel) == 1) {
		b->job.run = broadcast_done;
		worker_submit(b->kmmd->worker, &b->job);
	}
}

int reactor_broadcast(struct kmmd *kmmd, void (*fn)(struct reactor *r, void *arg),
                      void (*done)(void *arg), void *arg)
{
	uint32_t n = kmmd->nr_reactors;
	struct broadcast *b = calloc(1, sizeof(*b) + n * sizeof(b->item[0]));

	if (!b)
		return -ENOMEM;
	b->kmmd = kmmd;
	b->fn = fn;
	b->done = done;
	b->arg = arg;
	/* relaxed: posting publishes it */
	atomic_store_explicit(&b->left, n, memory_order_relaxed);
	for (uint32_t i = 0; i < n; i++) {
		b->item[i].broadcast = b;
		b->item[i].work.run = broadcast_run;
	}
	for (uint32_t i = 0; i < n; i++)
		reactor_post(kmmd->reactors[i], &b->item[i].work);
	return 0;
}

/* ---- rendezvous ---- */

struct rendezvous;

struct rendezvous_item {
	struct reactor_work work;
	struct rendezvous *rendezvous;
	bool arrived;
};

struct rendezvous {
	struct worker_job job;
	struct kmmd *kmmd;
	void (*fn)(void *arg);
	void (*done)(void *arg);
	void *arg;
	bool open;
	uint32_t refs; /* items that have not run, and the worker */
	struct rendezvous_item item[];
};

static pthread_mutex_t rendezvous_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t rendezvous_arrival = PTHREAD_COND_INITIALIZER;
static pthread_cond_t rendezvous_open = PTHREAD_COND_INITIALIZER;

static void rendezvous_unref_unlock(struct rendezvous *v)
{
	bool last = --v->refs == 0;

	pthread_mutex_unlock(&rendezvous_lock);
	if (last)
		free(v);
}

static void rendezvous_run_item(struct reactor *r, struct reactor_work *w)
{
	struct rendezvous_item *item = (struct rendezvous_item *)w;
	struct rendezvous *v = item->rendezvous;

	/* relaxed, both: a hint for the watchdog */
	atomic_store_explicit(&r->standing, true, memory_order_relaxed);
	pthread_mutex_lock(&rendezvous_lock);
	item->arrived = true;
	pthread_cond_signal(&rendezvous_arrival);
	while (!v->open)
		pthread_cond_wait(&rendezvous_open, &rendezvous_lock);
	atomic_store_explicit(&r->standing, false, memory_order_relaxed);
	rendezvous_unref_unlock(v);
}

void broadcast_reactor_exited(struct reactor *r)
{
	pthread_mutex_lock(&rendezvous_lock);
	/* release: who sees it sees all that the thread did */
	atomic_store_explicit(&r->exited, true, memory_order_release);
	pthread_cond_signal(&rendezvous_arrival);
	pthread_mutex_unlock(&rendezvous_lock);
}

static bool rendezvous_complete(const struct rendezvous *v)
{
	for (uint32_t i = 0; i < v->kmmd->nr_reactors; i++)
		/* acquire: pairs with broadcast_reactor_exited() */
		if (!v->item[i].arrived &&
		    !atomic_load_explicit(&v->kmmd->reactors[i]->exited, memory_order_acquire))
			return false;
	return true;
}

static void rendezvous_run(struct worker_job *job)
{
	struct rendezvous *v = (struct rendezvous *)job;

	for (uint32_t i = 0; i < v->kmmd->nr_reactors; i++)
		reactor_post(v->kmmd->reactors[i], &v->item[i].work);
	pthread_mutex_lock(&rendezvous_lock);
	while (!rendezvous_complete(v))
		pthread_cond_wait(&rendezvous_arrival, &rendezvous_lock);
	pthread_mutex_unlock(&rendezvous_lock);
	v->fn(v->arg);
	pthread_mutex_lock(&rendezvous_lock);
	v->open = true;
	pthread_cond_broadcast(&rendezvous_open);
	pthread_mutex_unlock(&rendezvous_lock);
	if (v->done)
		v->done(v->arg);
	pthread_mutex_lock(&rendezvous_lock);
	rendezvous_unref_unlock(v);
}

int reactor_rendezvous(struct kmmd *kmmd, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	uint32_t n = kmmd->nr_reactors;
	struct rendezvous *v = calloc(1, sizeof(*v) + n * sizeof(v->item[0]));

	if (!v)
		return -ENOMEM;
	v->kmmd = kmmd;
	v->fn = fn;
	v->done = done;
	v->arg = arg;
	v->refs = n + 1;
	for (uint32_t i = 0; i < n; i++) {
		v->item[i].rendezvous = v;
		v->item[i].work.run = rendezvous_run_item;
	}
	v->job.run = rendezvous_run;
	worker_submit(kmmd->worker, &v->job);
	return 0;
}
