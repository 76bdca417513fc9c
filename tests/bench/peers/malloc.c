/* SPDX-License-Identifier: MIT */
/*
 * malloc and free: built once for each library that has them, the same source for all. The rows of
 * objects that cross are between two threads, as no malloc knows more than one process.
 *
 *     peer_malloc-NAME
 */
#include "tests/bench/cross.h"
#include "tests/bench/overhead.h"

#define CROSS_OBJECTS 400000u

static struct cross *cross;

static void *get(size_t size)
{
	return malloc(size);
}

static void put(void *p)
{
	free(p);
}

static double one_at_a_time(void)
{
	return peer_pairs(get, put, PEER_PAIRS);
}

static void *one_at_a_time_thread(void *arg)
{
	struct peer_thread *t = peer_thread_enter(arg);

	t->ns = peer_pairs(get, put, PEER_PAIRS);
	return NULL;
}

static double two_threads(void)
{
	return peer_two_threads(one_at_a_time_thread);
}

static double batches(void)
{
	return peer_batches(get, put, PEER_PAIRS);
}

static double runs(void)
{
	return peer_runs(get, put, PEER_PAIRS);
}

static double random_sizes(void)
{
	return peer_random(get, put, PEER_PAIRS);
}

/* ---- crossing ---- */

static void send_burst(uint64_t *item, size_t burst)
{
	for (size_t i = 0; i < burst; i++)
		item[i] = (uint64_t)(uintptr_t)peer_use(get(PEER_SIZE));
}

static void free_burst(uint64_t *item, size_t burst)
{
	for (size_t i = 0; i < burst; i++)
		put((void *)(uintptr_t)item[i]);
}

static void *consumer(void *arg)
{
	(void)arg;
	cross_consume(cross, free_burst);
	return NULL;
}

static double cross_1(void)
{
	return cross_ns(cross, 1, CROSS_OBJECTS, send_burst);
}

static double cross_8(void)
{
	return cross_ns(cross, 8, CROSS_OBJECTS, send_burst);
}

static double cross_32(void)
{
	return cross_ns(cross, 32, CROSS_OBJECTS, send_burst);
}

/* ---- overhead ---- */

static uint64_t footprint(void)
{
	return overhead_of_process(getpid());
}

static double overhead(size_t size)
{
	return overhead_measure(size, get, footprint);
}

OVERHEAD_ROWS(overhead)

int main(void)
{
	static const struct peer_row row[] = {
		{ "64 B, one at a time", one_at_a_time },
		{ "64 B, one at a time, 2 threads", two_threads },
		{ "64 B, batches of 64", batches },
		{ "64 B, runs of 50000", runs },
		{ "16..1024 B at random, 1000 live", random_sizes },
		{ "crossing, bursts of 1", cross_1 },
		{ "crossing, bursts of 8", cross_8 },
		{ "crossing, bursts of 32", cross_32 },
		OVERHEAD_TABLE,
	};
	pthread_t thread;

	bench_pin(0);
	cross = cross_new();
	if (pthread_create(&thread, NULL, consumer, NULL) != 0)
		peer_fail("pthread_create");
	return peer_serve(row, PEER_COUNT(row));
}
