/* SPDX-License-Identifier: MIT */
/*
 * Metrics of calls and reactors.
 *
 * A method has a line for each status that it ended with, and always one for OK, so that rates of it
 * begin at 0; and a histogram once it was called. Events has none: it lasts as its connection does.
 */
#include "daemon/kmmd.h"
#include "daemon/metrics_writer.h"
#include "daemon/reactor.h"
#include "daemon/rpc.h"
#include "proto/kmm.pb-c.h"

#define NO_METHOD "unknown" /* what a call asked for that is no method */

static const char *method_name(const struct rpc_method *m)
{
	return m ? m->name : NO_METHOD;
}

static void write_codes(struct metrics_writer *w, const struct kmmd *k, const struct rpc_method *m)
{
	uint64_t code[METRICS_CODES];
	struct metrics_sum latency;
	unsigned int i;

	metrics_sum_method(k, m ? m->number : 0, code, &latency);
	for (i = 0; i < METRICS_CODES; i++)
		if (code[i] || (i == STATUS_OK && m))
			metrics_u64(w, code[i], "method=\"%s\",status=\"%s\"", method_name(m),
			            status_name((enum status_code)i));
}

static void write_latency(struct metrics_writer *w, const struct kmmd *k, const struct rpc_method *m)
{
	uint64_t code[METRICS_CODES];
	struct metrics_sum latency;

	if (m && m->number == KMM__V1__METHOD__ALLOCATOR_EVENTS)
		return;
	metrics_sum_method(k, m ? m->number : 0, code, &latency);
	if (latency.count)
		metrics_histogram(w, &latency, "method=\"%s\"", method_name(m));
}

static void write_methods(struct metrics_writer *w, const struct kmmd *k)
{
	const struct rpc_method *m;

	metrics_family(w, METRICS_COUNTER, "kmmd_calls", "",
	               "Calls that were answered, by method and status.");
	for (m = rpc_method_next(NULL); m; m = rpc_method_next(m))
		write_codes(w, k, m);
	write_codes(w, k, NULL);
	metrics_family(w, METRICS_HISTOGRAM, "kmmd_call_duration_seconds", "seconds",
	               "Time from when a call was read to its answer, waiting for memory included.");
	for (m = rpc_method_next(NULL); m; m = rpc_method_next(m))
		write_latency(w, k, m);
	write_latency(w, k, NULL);
}

/* One of the reactors' own numbers. */
static void write_each(struct metrics_writer *w, const struct kmmd *k, enum metrics_type type,
                       const char *name, const char *help, size_t offset)
{
	uint32_t r;

	metrics_family(w, type, name, "", help);
	for (r = 0; r < k->nr_reactors; r++) {
		const char *m = (const char *)k->reactors[r]->metrics;

		/* relaxed: for a report */
		metrics_u64(w,
		            atomic_load_explicit((const _Atomic uint32_t *)(m + offset),
		                                 memory_order_relaxed),
		            "reactor=\"%u\"", r);
	}
}

static void write_reactors(struct metrics_writer *w, const struct kmmd *k)
{
	uint32_t r;

	metrics_family(w, METRICS_GAUGE, "kmmd_reactors", "", "Threads that serve calls.");
	metrics_u64(w, k->nr_reactors, METRICS_NO_LABELS);
	write_each(w, k, METRICS_GAUGE, "kmmd_connections", "Connections that are open.",
	           offsetof(struct metrics_reactor, channels));
	write_each(w, k, METRICS_GAUGE, "kmmd_calls_pending",
	           "Calls that are not answered yet: they wait for memory, or for the worker, or "
	           "stream (each session's Events).",
	           offsetof(struct metrics_reactor, pending));
	metrics_family(w, METRICS_COUNTER, "kmmd_reactor_cpu_seconds", "seconds",
	               "CPU time of the reactor, as of its last tick.");
	for (r = 0; r < k->nr_reactors; r++)
		metrics_ns(w,
		           atomic_load_explicit(&k->reactors[r]->metrics->cpu_ns,
		                                memory_order_relaxed),
		           "reactor=\"%u\"", r);
	metrics_family(w, METRICS_HISTOGRAM, "kmmd_reactor_lag_seconds", "seconds",
	               "How late the reactor's timer of once a second ran: what was served "
	               "meanwhile, or a CPU that was not to be had.");
	for (r = 0; r < k->nr_reactors; r++) {
		struct metrics_sum lag = { .count = 0 };

		metrics_sum_histogram(&k->reactors[r]->metrics->lag, &lag);
		metrics_histogram(w, &lag, "reactor=\"%u\"", r);
	}
}

void metrics_write_calls(struct metrics_writer *w, struct kmmd *k)
{
	write_methods(w, k);
	write_reactors(w, k);
}
