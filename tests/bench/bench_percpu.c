/* SPDX-License-Identifier: MIT */
/*
 * Counting per CPU against atomic counters.
 *
 *     bench_percpu SOCKET [CPU]
 *
 * ns an increment, interleaved round by round:
 *   this_cpu_add, allocated      a variable of kmm_alloc_percpu
 *   this_cpu_add, static         one of KMM_DEFINE_PER_CPU
 *   atomic add, own              a counter that only this thread has
 *   plain add, own               the same without the lock prefix: what it costs at least
 *   get_cpu_var, add, put        with the CPU taken
 *   ..., 2 threads               both threads at it, on two CPUs where there are; the atomic one is
 *                                shared by them
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <kmm/percpu.h>

#include "tests/bench/bench.h"

#define ADDS 100000

static KMM_DEFINE_PER_CPU(long, hits);
static long *allocated; /* a per-CPU pointer */
static _Atomic long shared;

__attribute__((noreturn, cold)) static void fail(const char *what)
{
	fprintf(stderr, "bench_percpu: %s: %s (%s)\n", what, strerror(errno), kmm_error_text());
	exit(1);
}

enum what { ALLOCATED, STATIC, ATOMIC, ATOMIC_OWN, PLAIN_OWN, GET_PUT, NR_WHAT };

static void add(enum what what)
{
	_Atomic long own = 0;
	volatile long plain = 0;

	for (int i = 0; i < ADDS; i++)
		switch (what) {
		case ALLOCATED:
			kmm_this_cpu_add(*allocated, 1);
			break;
		case STATIC:
			kmm_this_cpu_add(hits, 1);
			break;
		case ATOMIC:
			atomic_fetch_add_explicit(&shared, 1, memory_order_relaxed);
			break;
		case ATOMIC_OWN:
			atomic_fetch_add_explicit(&own, 1, memory_order_relaxed);
			break;
		case PLAIN_OWN:
			plain++;
			break;
		default:
			kmm_get_cpu_var(hits)++;
			kmm_put_cpu_var(hits);
		}
}

static double add_ns(enum what what)
{
	double start = bench_now_ns();

	add(what);
	return (bench_now_ns() - start) / ADDS;
}

/* ---- two threads ---- */

static struct {
	pthread_barrier_t barrier;
	enum what what;
	int cpu[2], rounds;
	double ns[2];
} pair;

static void *pair_thread(void *arg)
{
	int me = *(int *)arg;

	bench_pin(pair.cpu[me]);
	add(pair.what); /* its first time */
	pthread_barrier_wait(&pair.barrier);
	double start = bench_now_ns();

	for (int i = 0; i < pair.rounds; i++)
		add(pair.what);
	pair.ns[me] = (bench_now_ns() - start) / pair.rounds / ADDS;
	return NULL;
}

static double pair_ns(enum what what)
{
	static int number[2] = { 0, 1 };
	pthread_t t[2];

	pair.what = what;
	pair.rounds = 10;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&t[i], NULL, pair_thread, &number[i]) != 0)
			fail("pthread_create");
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	return (pair.ns[0] + pair.ns[1]) / 2;
}

static void pair_prepare(void)
{
	cpu_set_t set;
	int n = 0;

	sched_getaffinity(0, sizeof(set), &set);
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &set))
			pair.cpu[n++] = i;
	if (n == 1)
		pair.cpu[1] = pair.cpu[0];
	if (pthread_barrier_init(&pair.barrier, NULL, 2) != 0)
		fail("pthread_barrier_init");
}

int main(int argc, char **argv)
{
	static struct bench_row one[NR_WHAT] = {
		{ .name = "this_cpu_add, allocated", .unit = "ns" },
		{ .name = "this_cpu_add, static", .unit = "ns" },
		{ .name = "atomic add, shared counter, 1 thread", .unit = "ns" },
		{ .name = "atomic add, counter of its own", .unit = "ns" },
		{ .name = "plain add, counter of its own", .unit = "ns" },
		{ .name = "get_cpu_var, add, put_cpu_var", .unit = "ns" },
	};
	static struct bench_row two[3] = {
		{ .name = "this_cpu_add, allocated, 2 threads", .unit = "ns" },
		{ .name = "this_cpu_add, static, 2 threads", .unit = "ns" },
		{ .name = "atomic add, shared counter, 2 threads", .unit = "ns" },
	};

	pair_prepare();
	struct kmm_options o = { .size = sizeof(o),
		                 .address = bench_begin(argc, argv, "bench_percpu", -1) };

	if (kmm_kernel_init(&o) != 0)
		fail("kmm_kernel_init");
	allocated = (long *)kmm_alloc_percpu(kmm_kernel_session(), sizeof(long), _Alignof(long));
	if (!allocated)
		fail("kmm_alloc_percpu");
	for (int round = 0; round < BENCH_ROUNDS; round++) {
		for (int w = 0; w < NR_WHAT; w++)
			bench_add(&one[w], add_ns((enum what)w));
		for (int w = 0; w < 3; w++)
			bench_add(&two[w], pair_ns((enum what)w));
	}
	bench_print_all("percpu", one, NR_WHAT);
	bench_print_all("percpu", two, sizeof(two) / sizeof(two[0]));
	kmm_free_percpu((struct kmm_percpu *)allocated);
	return 0;
}
