/* SPDX-License-Identifier: MIT */
/*
 * Reactors: loops, their threads and mailboxes.
 *
 * The mailbox is a stack: pushing is one compare-and-swap, draining one exchange, after which the
 * list is reversed, so that items of one sender run in the order of posting. Only the push that
 * finds it empty wakes the loop. A drained batch is finished before the mailbox is looked at again,
 * so posting from inside an item never starves the sockets.
 *
 * An iteration of a reactor: timers, then the poll phase (channels read, dispatch and send; the
 * mailbox runs), then the check phase, which sends what the mailbox produced for other channels.
 *
 * The end. reactor_stop() posts an item that closes all channels and leaves the loop; the thread
 * ends and says so (`exited`). The mailbox still takes items, which the main thread then runs in
 * reactor_pump(): nothing posted is ever lost, and nobody else touches the reactor any more.
 */
#include "daemon/reactor.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/arena.h"
#include "daemon/broadcast.h"
#include "daemon/channel_private.h"
#include "daemon/domain.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/session.h"
#include "mm/mm.h"
#include "mm/slab.h"

#define REACTOR_TICK_MS 1000

void reactor_post(struct reactor *r, struct reactor_work *w)
{
	/* relaxed: the compare-and-swap below confirms it */
	struct reactor_work *head = atomic_load_explicit(&r->mailbox, memory_order_relaxed);

	do
		w->next = head;
	/* release: pairs with the exchange in reactor_pump(), which sees what w points to */
	while (!atomic_compare_exchange_weak_explicit(&r->mailbox, &head, w, memory_order_release,
	                                              memory_order_relaxed));
	if (!head)
		uv_async_send(&r->async);
}

bool reactor_pump(struct reactor *r)
{
	struct reactor_work *list, *first = NULL;

	/* acquire: pairs with the push */
	list = atomic_exchange_explicit(&r->mailbox, NULL, memory_order_acquire);
	if (!list)
		return false;
	while (list) {
		struct reactor_work *next = list->next;

		list->next = first;
		first = list;
		list = next;
	}
	while (first) {
		struct reactor_work *w = first;

		first = w->next; /* w may be gone when it has run */
		w->run(r, w);
	}
	return true;
}

static void reactor_on_async(uv_async_t *async)
{
	struct reactor *r = async->data;

	reactor_pump(r);
}

static void reactor_on_tick(uv_timer_t *timer)
{
	struct reactor *r = timer->data;
	struct domain *d = r->kmmd->domain;

	if (r->index == UINT32_MAX)
		return;
	metrics_tick(r->metrics, uv_hrtime());
	if (d) {
		slab_tick_cpu(d->slabs, r->index);
		mm_tick_cpu(d->zones, r->index);
	}
	/* On a reactor, so that it stands still too while fsck looks (reactor_rendezvous). */
	if (d && r->index == 0)
		domain_tick(d);
	if (r->index == 0) {
		session_away_tick(r->kmmd->sessions);
		log_tick();
	}
	if (r->fds_unread)
		channel_tick(r);
	channel_flush_dirty(r);
}

static void reactor_on_check(uv_check_t *check)
{
	struct reactor *r = check->data;

	channel_flush_dirty(r);
}

static int reactor_init_handles(struct reactor *r)
{
	int e;

	e = uv_async_init(&r->loop, &r->async, reactor_on_async);
	if (e)
		return e;
	uv_timer_init(&r->loop, &r->tick);
	uv_check_init(&r->loop, &r->flush);
	r->async.data = r->tick.data = r->flush.data = r;
	uv_check_start(&r->flush, reactor_on_check);
	return uv_timer_start(&r->tick, reactor_on_tick, REACTOR_TICK_MS, REACTOR_TICK_MS);
}

int reactor_new(struct reactor **ret, struct kmmd *kmmd, uint32_t index)
{
	struct reactor *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->index = index;
	r->kmmd = kmmd;
	e = uv_loop_init(&r->loop);
	if (e) {
		free(r);
		return e;
	}
	e = reactor_init_handles(r);
	if (!e && index != UINT32_MAX)
		e = channel_buffers_new(&r->buffers);
	if (!e && index != UINT32_MAX)
		e = arena_new(&r->arena);
	if (!e && index != UINT32_MAX)
		e = metrics_reactor_new(&r->metrics);
	if (e) {
		reactor_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

static void reactor_main(void *arg)
{
	struct reactor *r = arg;
	char name[16];

	snprintf(name, sizeof(name), "kmmd-%u", r->index);
	pthread_setname_np(pthread_self(), name);
	uv_run(&r->loop, UV_RUN_DEFAULT);
	broadcast_reactor_exited(r);
}

int reactor_start(struct reactor *r, int pin_cpu)
{
	sigset_t all, old;
	cpu_set_t set;
	int e;

	/* Signals are the main loop's. But a fault that is blocked ends the process, guarded or not. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e = uv_thread_create(&r->thread, reactor_main, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e)
		return e;
	r->running = true;
	if (pin_cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((unsigned int)pin_cpu, &set);
		e = pthread_setaffinity_np(r->thread, sizeof(set), &set);
		if (e)
			log_warning("reactor %u cannot be bound to CPU %d: %s", r->index, pin_cpu,
			            strerror(e));
	}
	return 0;
}

static void reactor_run_stop(struct reactor *r, struct reactor_work *w)
{
	(void)w;
	if (r->stopping)
		return;
	r->stopping = true;
	channel_close_all(r, "the daemon stops");
	uv_timer_stop(&r->tick);
	uv_stop(&r->loop);
}

void reactor_stop(struct reactor *r)
{
	/* acq_rel: one of several callers posts the one item */
	if (atomic_exchange_explicit(&r->stop_posted, true, memory_order_acq_rel))
		return;
	r->stop.run = reactor_run_stop;
	reactor_post(r, &r->stop);
}

void reactor_join(struct reactor *r)
{
	if (r->running)
		uv_thread_join(&r->thread);
	else
		broadcast_reactor_exited(r); /* it never ran */
	r->running = false;
}

static void reactor_close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

struct reactor *reactor_free(struct reactor *r)
{
	if (!r)
		return NULL;
	reactor_join(r);
	while (reactor_pump(r))
		;
	uv_walk(&r->loop, reactor_close_handle, NULL);
	/* uv_stop() may still be noted: the first run clears it */
	while (uv_run(&r->loop, UV_RUN_DEFAULT))
		;
	if (uv_loop_close(&r->loop))
		log_error("a handle of reactor %u was left open", r->index);
	channel_buffers_free(r->buffers);
	arena_free(r->arena);
	metrics_reactor_free(r->metrics);
	free(r);
	return NULL;
}
