/* SPDX-License-Identifier: MIT */
/*
 * Reactors: one libuv loop a thread, with a single mailbox through which other threads reach it.
 *
 * A posted work item is a struct inside its sender's object; nothing is allocated, nothing waits.
 * The mailbox is a lock-free stack (push: CAS release; drain: exchange acquire) and one uv_async_t.
 */
#ifndef DAEMON_REACTOR_H
#define DAEMON_REACTOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/kmmd.h"

struct reactor_work {
	struct reactor_work *next;
	void (*run)(struct reactor *r, struct reactor_work *w);
};

struct channel;
struct channel_buffers; /* channel_buffer.h */
struct arena;
struct metrics_reactor;

struct reactor {
	uv_loop_t loop;
	uint32_t index; /* cpu of mm/; UINT32_MAX: the main loop (MM_CPU_NONE) */
	struct kmmd *kmmd;
	uv_thread_t thread;
	uv_async_t async;
	_Atomic(struct reactor_work *) mailbox;
	uv_timer_t tick;           /* once a second */
	uv_check_t flush;          /* sends what the iteration produced */
	struct channel *channels;  /* all that it serves */
	struct channel *dirty;     /* with unsent replies */
	struct channel_buffers *buffers; /* what its channels share; NULL on the main loop */
	struct arena *arena;             /* of the request being served */
	uint64_t read_ns;          /* when the input at hand was read */
	struct metrics_reactor *metrics; /* what it counts of its calls; NULL on the main loop */
	uint32_t fds_unread;       /* channels whose peer may not have read descriptors yet */
	bool running;              /* has a thread; main thread's */
	bool stopping;
	struct reactor_work stop;
	atomic_bool stop_posted;
	atomic_bool standing;      /* in a rendezvous: it waits for the worker */
	atomic_bool exited;        /* its thread ended: it stands still for good */
};

int reactor_new(struct reactor **ret, struct kmmd *kmmd, uint32_t index);
int reactor_start(struct reactor *r, int pin_cpu); /* thread; pin_cpu < 0: not pinned */
void reactor_stop(struct reactor *r);              /* any thread; reactor_free joins */
struct reactor *reactor_free(struct reactor *r);
/* The end of the daemon, on the main thread: joins the stopped thread; then runs what was posted
 * since, on the caller's thread, and says whether there was anything. */
void reactor_join(struct reactor *r);
bool reactor_pump(struct reactor *r);

/* Any thread. Items of one sender run in the order of posting; w is the reactor's until run. */
void reactor_post(struct reactor *r, struct reactor_work *w);

/* Runs fn(r, arg) on every reactor and, when the last has done it, done(arg) on the worker. Any
 * thread; bounded allocation inside; -ENOMEM. */
int reactor_broadcast(struct kmmd *kmmd, void (*fn)(struct reactor *r, void *arg),
                      void (*done)(void *arg), void *arg);
/* The same, but all reactors stand still inside while fn runs once, on the worker: fsck. */
int reactor_rendezvous(struct kmmd *kmmd, void (*fn)(void *arg), void (*done)(void *arg), void *arg);

#endif
