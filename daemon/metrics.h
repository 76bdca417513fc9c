/* SPDX-License-Identifier: MIT */
/*
 * What each reactor counts of itself: its calls by method, how they ended and how long they took; and
 * whether it runs in time. See metrics.c. What is made of it for reports: metrics_text.h.
 */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "proto/frame.h"

struct reactor;

#define METRICS_METHODS 128u /* numbers of methods are below; 0: no method of ours */
#define METRICS_CODES (STATUS_UNAUTHENTICATED + 1)
#define METRICS_BOUNDS 25u /* 1 us, 2 us, 4 us ... 2^24 us, which is 16.8 s */
#define METRICS_BUCKETS (METRICS_BOUNDS + 1) /* the last: longer */

struct metrics_histogram {
	_Atomic uint64_t bucket[METRICS_BUCKETS]; /* not cumulated */
	_Atomic uint64_t sum_ns;
};

struct metrics_method {
	_Atomic uint64_t code[METRICS_CODES];
	struct metrics_histogram latency;
};

/* Written by the reactor alone; read by anybody. */
struct metrics_reactor {
	struct metrics_method method[METRICS_METHODS];
	struct metrics_histogram lag; /* how late the timer of once a second ran */
	_Atomic uint64_t tick_ns;     /* when it ran last; 0: not yet */
	_Atomic uint64_t cpu_ns;      /* that the thread has used, as of then */
	_Atomic uint32_t channels;    /* open */
	_Atomic uint32_t pending;     /* calls that are not answered yet */
	/* of the batch of input at hand, the reactor's alone: answered calls by method, and of which
	 * methods there are some */
	uint32_t batch[METRICS_METHODS];
	uint8_t touched[METRICS_METHODS];
	uint32_t nr_touched;
};
_Static_assert(METRICS_METHODS <= 256, "a method fits `touched`");

int metrics_reactor_new(struct metrics_reactor **ret);
struct metrics_reactor *metrics_reactor_free(struct metrics_reactor *m);

/* On the reactor; m NULL: nobody counts. */

/* A call of the batch at hand was answered. */
void metrics_answered(struct metrics_reactor *m, uint32_t method, enum status_code code);
/* The batch, which was read then, is served. */
void metrics_batch(struct metrics_reactor *m, uint64_t began_ns);
/* A call that was not answered at once is answered, or over without an answer; it began (its frame was
 * read) then. */
void metrics_ended(struct metrics_reactor *m, uint32_t method, enum status_code code,
                   uint64_t began_ns);
/* Once a second. */
void metrics_tick(struct metrics_reactor *m, uint64_t now_ns);
void metrics_channels(struct metrics_reactor *m, int more);
void metrics_pending(struct metrics_reactor *m, int more);

/* The first bucket whose bound is not below. */
static inline unsigned int metrics_bucket(uint64_t ns)
{
	uint64_t over = ns ? (ns - 1) / 1000 : 0; /* whole microseconds below it */
	unsigned int i = over ? 64u - (unsigned int)__builtin_clzll(over) : 0;

	return i < METRICS_BOUNDS ? i : METRICS_BOUNDS;
}

/* ---- sums over all reactors, by anybody ---- */

struct metrics_sum {
	uint64_t bucket[METRICS_BUCKETS];
	uint64_t sum_ns, count;
};

struct kmmd;
void metrics_sum_method(const struct kmmd *k, uint32_t method, uint64_t code[METRICS_CODES],
                        struct metrics_sum *latency);
void metrics_sum_histogram(const struct metrics_histogram *h, struct metrics_sum *sum);

#endif
