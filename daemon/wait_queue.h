/* SPDX-License-Identifier: MIT */
/*
 * Requests that wait for memory, in order of arrival. See wait_queue.c. Thread-safe.
 */
#ifndef DAEMON_WAIT_QUEUE_H
#define DAEMON_WAIT_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mm/mm.h"

struct wait_queue;

/* One waiting request; embedded in its service's object. */
struct waiter {
	struct waiter *next, *prev; /* of its class, while queued */
	uint64_t sequence;
	uint32_t class;
	bool queued; /* guarded by the queue's lock, like the links */
	/* set by the owner before wait_queue_add() */
	gfp_t gfp;
	uint32_t order;
	uint32_t cache;    /* 0: blocks; else objects of that cache, in slabs of that order */
	uint32_t node;     /* of mm_request; tells requests with __GFP_THISNODE apart */
	bool high_only;    /* only HighMem and Movable may serve it (mm_request.lowest) */
	/* Rounds without progress that it still bears (wait_queue_round()); 0: any number. */
	uint32_t patience;
	const void *whose; /* for wait_queue_cancel() */
	uint64_t since_ns; /* for wait_queue_look() */
	/* Tries to be served: 0; -ENOMEM still not; else it fails with that. Under the queue's
	 * lock: takes no lock that ranks before LOCK_RANK_DEPOT and frees nothing. */
	int (*try)(struct waiter *w);
	/* It left the queue with that result. Under the queue's lock: posts, no more. */
	void (*wake)(struct waiter *w, int result);
};

struct wait_queue_ops {
	void (*begin)(void *ctx); /* the first began to wait; under the queue's lock */
	void (*end)(void *ctx);   /* the last one left */
};

int wait_queue_new(struct wait_queue **ret, const struct wait_queue_ops *ops, void *ctx);
struct wait_queue *wait_queue_free(struct wait_queue *q);

/* Queues w behind all others; wait_queue_kick() must follow. -EINVAL: no such order, node or
 * cache. */
int wait_queue_add(struct wait_queue *q, struct waiter *w);
/* False: it left already, wake() ran. */
bool wait_queue_remove(struct wait_queue *q, struct waiter *w);
/* Memory was freed: serves who can be served, the longest waiting first. */
void wait_queue_kick(struct wait_queue *q);
/* A round of reclaim is over, with or without progress: who has borne so many of the latter fails with
 * -ENOMEM; progress lets everybody begin anew. */
#define WAIT_PATIENCE 16u
void wait_queue_round(struct wait_queue *q, bool progress);
/* Wakes all of one owner with that result; how many. */
uint32_t wait_queue_cancel(struct wait_queue *q, const void *whose, int result);
/* How many of one owner wait; *oldest is a copy of the one that has waited longest. O(waiting). */
uint32_t wait_queue_look(struct wait_queue *q, const void *whose, struct waiter *oldest);
/* The flags of the longest waiting request whose reclaim may do most: of one with __GFP_FS, when there
 * is one, else of any. 0: nobody waits. O(waiting). */
gfp_t wait_queue_gfp(struct wait_queue *q);
/* How many wait; one atomic load. */
uint32_t wait_queue_waiting(const struct wait_queue *q);
size_t wait_queue_validate(struct wait_queue *q, mm_report_fn report, void *ctx);

#endif
