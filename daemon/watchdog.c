/* SPDX-License-Identifier: MIT */
/*
 * The watchdog. The main loop says WATCHDOG=1 when all of these have shown a sign of life since it said so
 * the last time; the manager kills a daemon that does not say it for WatchdogSec=, and starts the next one,
 * which takes the pool over.
 *
 *   main loop   its timer runs: this code
 *   a reactor   it has run an item that was posted to its mailbox after the last WATCHDOG=1; or it stands
 *               in a rendezvous (fsck), where it waits for the worker: then the worker's sign is its own
 *   the worker  it is idle, or has ended a job, or the job that it runs uses the CPU. A long slice is
 *               progress, a wait for what does not come is none. A job that has used JOB_CPU_MAX of the
 *               CPU is taken for an endless loop
 *
 * The timer fires QUARTERS times within the time that the manager allows, so that one late sign does no
 * harm. Signs are kept until all are there: threads need not be seen alive at the same instant.
 *
 * A reactor's item is posted again only when it has run, so that a hung reactor's mailbox does not grow.
 * Everything here is the main thread's, but `answered`.
 */
#include "daemon/watchdog.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "daemon/log.h"
#include "daemon/reactor.h"
#include "daemon/worker.h"

#define QUARTERS 4u
#define JOB_CPU_MAX_NS (UINT64_C(600) * 1000000000)
#define CPU_STEP_NS UINT64_C(100000) /* less is what waking up for nothing takes */

struct watchdog_ping {
	struct reactor_work work;
	atomic_bool answered;
	bool alive; /* since the last WATCHDOG=1 */
};

struct watchdog {
	struct kmmd *kmmd;
	uv_timer_t timer;
	struct worker_progress worker; /* as of the last sign */
	bool worker_alive;
	unsigned int silent; /* how often the timer fired in vain */
	struct watchdog_ping ping[];
};

static void watchdog_answer(struct reactor *r, struct reactor_work *work)
{
	struct watchdog_ping *p = (struct watchdog_ping *)work;

	(void)r;
	/* release: pairs with the load in watchdog_look_at_reactors(); the item is the main thread's again */
	atomic_store_explicit(&p->answered, true, memory_order_release);
}

static void watchdog_ask(struct watchdog *w, uint32_t i)
{
	struct watchdog_ping *p = &w->ping[i];

	p->alive = false;
	/* relaxed: posting publishes it */
	atomic_store_explicit(&p->answered, false, memory_order_relaxed);
	reactor_post(w->kmmd->reactors[i], &p->work);
}

static void watchdog_look_at_worker(struct watchdog *w)
{
	struct worker_progress now;

	worker_look(w->kmmd->worker, &now);
	if (!now.running || now.jobs != w->worker.jobs) {
		w->worker_alive = true;
		w->worker = now;
	} else if (now.cpu_ns - w->worker.cpu_ns >= CPU_STEP_NS && now.job_cpu_ns < JOB_CPU_MAX_NS) {
		w->worker_alive = true;
		w->worker.cpu_ns = now.cpu_ns;
	}
}

/* Whether all of them are alive. */
static bool watchdog_look_at_reactors(struct watchdog *w)
{
	bool all = true;

	for (uint32_t i = 0; i < w->kmmd->nr_reactors; i++) {
		struct watchdog_ping *p = &w->ping[i];

		/* acquire: pairs with watchdog_answer() */
		if (atomic_load_explicit(&p->answered, memory_order_acquire))
			p->alive = true;
		/* relaxed: a hint; its answer comes when it stands no more */
		else if (w->worker_alive &&
		         atomic_load_explicit(&w->kmmd->reactors[i]->standing, memory_order_relaxed))
			p->alive = true;
		all &= p->alive;
	}
	return all;
}

/* Who is silent, once: the manager will end us, and its log should say why. */
static void watchdog_complain(struct watchdog *w)
{
	if (!w->worker_alive)
		log_error("the worker makes no progress: the service manager's watchdog will end the daemon");
	for (uint32_t i = 0; i < w->kmmd->nr_reactors; i++)
		if (!w->ping[i].alive)
			log_error("reactor %u does not answer: the service manager's watchdog will end the "
			          "daemon", i);
}

static void watchdog_on_timer(uv_timer_t *timer)
{
	struct watchdog *w = timer->data;
	bool all;

	watchdog_look_at_worker(w);
	all = watchdog_look_at_reactors(w) && w->worker_alive;
	if (!all) {
		if (++w->silent == QUARTERS - 1)
			watchdog_complain(w);
		return;
	}
	w->silent = 0;
	sd_notify(0, "WATCHDOG=1");
	w->worker_alive = false;
	for (uint32_t i = 0; i < w->kmmd->nr_reactors; i++) {
		/* One that stands has not answered: its item is still on its way. */
		if (atomic_load_explicit(&w->ping[i].answered, memory_order_acquire))
			watchdog_ask(w, i);
		else
			w->ping[i].alive = false;
	}
}

int watchdog_new(struct watchdog **ret, struct kmmd *kmmd)
{
	struct watchdog *w;
	uint64_t usec = 0, ms;
	int r = sd_watchdog_enabled(0, &usec);

	if (r <= 0) {
		if (r < 0)
			log_warning("the service manager's WATCHDOG_USEC makes no sense: no watchdog");
		*ret = NULL;
		return 0;
	}
	w = calloc(1, sizeof(*w) + kmmd->nr_reactors * sizeof(w->ping[0]));
	if (!w)
		return -ENOMEM;
	w->kmmd = kmmd;
	r = uv_timer_init(&kmmd->main->loop, &w->timer);
	if (r < 0) {
		free(w);
		return r;
	}
	w->timer.data = w;
	for (uint32_t i = 0; i < kmmd->nr_reactors; i++) {
		w->ping[i].work.run = watchdog_answer;
		watchdog_ask(w, i);
	}
	ms = usec / QUARTERS / 1000;
	uv_timer_start(&w->timer, watchdog_on_timer, ms ? ms : 1, ms ? ms : 1);
	*ret = w;
	return 0;
}

void watchdog_stop(struct watchdog *w)
{
	if (w)
		uv_close((uv_handle_t *)&w->timer, NULL);
}

struct watchdog *watchdog_free(struct watchdog *w)
{
	free(w);
	return NULL;
}
