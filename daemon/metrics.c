/* SPDX-License-Identifier: MIT */
/*
 * Counting calls.
 *
 * Every reactor has counters of its own, which it alone writes: a relaxed load, an addition and a
 * relaxed store, no atomic operation on the bus and no line that two reactors write. Who reports sums
 * them; the sums are of no single instant, but no count is lost and none goes back.
 *
 *     input read ---- dispatched ---- handler ---- answers leave
 *          |                             '-- [waits: rpc_pending.c] ---- answer leaves
 *          '-------------------- latency ---------------------------------------'
 *
 * The clock is read when input is read (channel.c), and when the calls in it are served, which is when
 * their answers leave, in one message: the latency of all of them. A client that sends many calls at once
 * so pays two looks at the clock for all, and what one waited behind the others is part of its latency, as
 * the client sees it. Calls that wait look at it when they end.
 *
 * A call counts once, where its answer is made, also when the answer goes nowhere: of a NOTIFY nobody
 * wants it, and a client that has gone (CANCELLED) does not read it. What is refused before there is a
 * method counts for none (0).
 *
 * Buckets are powers of two of microseconds: where a latency belongs is one count of leading zeros.
 */
#include "daemon/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "daemon/kmmd.h"
#include "daemon/reactor.h"

#define TICK_NS UINT64_C(1000000000)

/* relaxed, here and below: one writer, and each number is read for itself */
static void add(_Atomic uint64_t *to, uint64_t n)
{
	atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n,
	                      memory_order_relaxed);
}

static void histogram_add(struct metrics_histogram *h, uint64_t ns)
{
	add(&h->bucket[metrics_bucket(ns)], 1);
	add(&h->sum_ns, ns);
}

int metrics_reactor_new(struct metrics_reactor **ret)
{
	struct metrics_reactor *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	*ret = m;
	return 0;
}

struct metrics_reactor *metrics_reactor_free(struct metrics_reactor *m)
{
	free(m);
	return NULL;
}

static struct metrics_method *method_of(struct metrics_reactor *m, uint32_t *method,
                                        enum status_code code)
{
	*method = *method < METRICS_METHODS ? *method : 0;
	add(&m->method[*method].code[(unsigned int)code < METRICS_CODES ? code : STATUS_UNKNOWN], 1);
	return &m->method[*method];
}

void metrics_answered(struct metrics_reactor *m, uint32_t method, enum status_code code)
{
	if (!m)
		return;
	method_of(m, &method, code);
	if (m->batch[method]++ == 0)
		m->touched[m->nr_touched++] = (uint8_t)method;
}

void metrics_batch(struct metrics_reactor *m, uint64_t began_ns)
{
	unsigned int bucket;
	uint64_t now, ns;

	if (!m || !m->nr_touched)
		return;
	now = uv_hrtime();
	ns = now > began_ns ? now - began_ns : 0;
	bucket = metrics_bucket(ns);
	while (m->nr_touched) {
		uint32_t method = m->touched[--m->nr_touched], n = m->batch[method];

		m->batch[method] = 0;
		add(&m->method[method].latency.bucket[bucket], n);
		add(&m->method[method].latency.sum_ns, n * ns);
	}
}

void metrics_ended(struct metrics_reactor *m, uint32_t method, enum status_code code,
                   uint64_t began_ns)
{
	uint64_t now;

	if (!m)
		return;
	now = uv_hrtime();
	histogram_add(&method_of(m, &method, code)->latency, now > began_ns ? now - began_ns : 0);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void metrics_tick(struct metrics_reactor *m, uint64_t now_ns)
{
	uint64_t due;

	if (!m)
		return;
	due = atomic_load_explicit(&m->tick_ns, memory_order_relaxed);
	if (due) {
		due += TICK_NS;
		histogram_add(&m->lag, now_ns > due ? now_ns - due : 0);
	}
	atomic_store_explicit(&m->tick_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&m->cpu_ns, thread_cpu_ns(), memory_order_relaxed);
}

static void move(_Atomic uint32_t *to, int more)
{
	atomic_store_explicit(to,
	                      atomic_load_explicit(to, memory_order_relaxed) + (uint32_t)more,
	                      memory_order_relaxed);
}

void metrics_channels(struct metrics_reactor *m, int more)
{
	if (m)
		move(&m->channels, more);
}

void metrics_pending(struct metrics_reactor *m, int more)
{
	if (m)
		move(&m->pending, more);
}

/* ---- sums ---- */

void metrics_sum_histogram(const struct metrics_histogram *h, struct metrics_sum *sum)
{
	unsigned int i;

	for (i = 0; i < METRICS_BUCKETS; i++) {
		uint64_t n = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);

		sum->bucket[i] += n;
		sum->count += n;
	}
	sum->sum_ns += atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
}

void metrics_sum_method(const struct kmmd *k, uint32_t method, uint64_t code[METRICS_CODES],
                        struct metrics_sum *latency)
{
	uint32_t r;
	unsigned int i;

	for (i = 0; i < METRICS_CODES; i++)
		code[i] = 0;
	*latency = (struct metrics_sum){ 0 };
	for (r = 0; r < k->nr_reactors; r++) {
		const struct metrics_method *m = &k->reactors[r]->metrics->method[method];

		for (i = 0; i < METRICS_CODES; i++)
			code[i] += atomic_load_explicit(&m->code[i], memory_order_relaxed);
		metrics_sum_histogram(&m->latency, latency);
	}
}
