/* SPDX-License-Identifier: MIT */
/*
 * libmm alone: the patterns by which page frame allocators are compared (those of LLFree).
 *
 *   bulk allocate, bulk free      each thread takes its share of the pool by
 *                                 mm_alloc_pages_bulk(), 512 blocks a call, then gives it back;
 *                                 ns a block
 *   single allocate, single free  the same, one block a call
 *   repeat                        allocate one, free it; ns a pair
 *   random                        the pool 90 % full: free a random block, allocate one; ns a pair
 *
 * A pool of 1 GiB in the default shape (no memory behind it: libmm never touches frames), orders
 * 0, 3 and 9, one thread and two, each pinned to a core of its own and with per-CPU lists of its
 * own. Every row is measured once a run, all rows in turn, so that a slow moment of the machine
 * hits all alike; median, minimum and spread ((max - min) / median) are over the runs.
 *
 * usage: bench_mm [--table] [--runs N] [--only NAME]
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* affinity */
#endif
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "tests/unit/test_mm.h"

#define MAX_THREADS 2u
#define MAX_RUNS 99u
#define BULK 512u
#define REPEAT_PAIRS 1000000u
#define RANDOM_PAIRS 200000u

enum { BULK_ALLOC, BULK_FREE, SINGLE_ALLOC, SINGLE_FREE, REPEAT, RANDOM, NR_PATTERNS };

static const char *const names[NR_PATTERNS] = { "bulk allocate",   "bulk free", "single allocate",
	                                        "single free",     "repeat",    "random" };
static const uint32_t orders[] = { 0, 3, 9 };
#define NR_ORDERS 3u

struct bench {
	struct test_pool pool;
	pthread_barrier_t barrier;
	uint32_t order, threads;
	int core[MAX_THREADS];
	const char *only;
};

struct worker {
	struct bench *b;
	uint32_t cpu;
	size_t capacity;
	pfn_t *pfn;
	double ns[NR_PATTERNS]; /* of this run, an operation */
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_all(struct bench *b)
{
	pthread_barrier_wait(&b->barrier);
}

static double each(uint64_t since, size_t n)
{
	return n ? (double)(now() - since) / (double)n : 0;
}

static size_t fill(struct worker *w, size_t most, bool bulk)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .order = w->b->order, .cpu = w->cpu };
	struct mm_domain *d = w->b->pool.domain;
	size_t n = 0;

	if (bulk) {
		while (n < most) {
			size_t k = most - n < BULK ? most - n : BULK;
			size_t got = mm_alloc_pages_bulk(d, &r, k, w->pfn + n);

			n += got;
			if (got < k)
				break;
		}
		return n;
	}
	while (n < most && mm_alloc_pages(d, &r, &w->pfn[n]) == 0)
		n++;
	return n;
}

static void empty(struct worker *w, size_t n, bool bulk)
{
	struct mm_domain *d = w->b->pool.domain;

	if (bulk) {
		for (size_t i = 0; i < n; i += BULK)
			mm_free_pages_bulk(d, w->cpu, n - i < BULK ? n - i : BULK, w->pfn + i,
			                   MM_FREE_CACHED);
		return;
	}
	for (size_t i = 0; i < n; i++)
		mm_free_pages(d, w->cpu, w->pfn[i], MM_FREE_CACHED);
}

static void settle(struct worker *w)
{
	wait_all(w->b);
	mm_drain_cpu(w->b->pool.domain, w->cpu);
	wait_all(w->b);
	if (w->cpu == 0)
		mm_tick(w->b->pool.domain);
	wait_all(w->b);
}

/* Taken and given back several times, the more often the fewer blocks there are. */
static void run_bulk(struct worker *w, bool bulk, double *alloc, double *release)
{
	uint32_t rounds = w->b->order == 0 ? 4 : w->b->order == 3 ? 8 : 32;

	*alloc = 0;
	*release = 0;
	for (uint32_t i = 0; i < rounds; i++) {
		uint64_t start;
		size_t n;

		settle(w);
		start = now();
		n = fill(w, w->capacity, bulk);
		*alloc += each(start, n) / rounds;
		wait_all(w->b);
		start = now();
		empty(w, n, bulk);
		*release += each(start, n) / rounds;
	}
}

static void run_repeat(struct worker *w)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .order = w->b->order, .cpu = w->cpu };
	struct mm_domain *d = w->b->pool.domain;
	uint64_t start;
	pfn_t pfn;

	settle(w);
	start = now();
	for (uint32_t i = 0; i < REPEAT_PAIRS; i++) {
		if (mm_alloc_pages(d, &r, &pfn))
			abort();
		mm_free_pages(d, w->cpu, pfn, MM_FREE_CACHED);
	}
	w->ns[REPEAT] = each(start, REPEAT_PAIRS);
}

static void run_random(struct worker *w)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .order = w->b->order, .cpu = w->cpu };
	struct mm_domain *d = w->b->pool.domain;
	uint64_t random = 88172645463325252u + w->cpu, start;
	size_t n;

	settle(w);
	n = fill(w, w->capacity * 9 / 10, true);
	for (size_t i = n; i > 1; i--) {
		pfn_t t = w->pfn[i - 1];
		size_t j;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		j = (size_t)((random >> 20) % i);
		w->pfn[i - 1] = w->pfn[j];
		w->pfn[j] = t;
	}
	wait_all(w->b);
	start = now();
	for (uint32_t i = 0; i < RANDOM_PAIRS; i++) {
		size_t j;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		j = (size_t)(((random >> 32) * n) >> 32);
		mm_free_pages(d, w->cpu, w->pfn[j], MM_FREE_CACHED);
		if (mm_alloc_pages(d, &r, &w->pfn[j]))
			abort();
	}
	w->ns[RANDOM] = each(start, RANDOM_PAIRS);
	wait_all(w->b);
	empty(w, n, true);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(w->b->core[w->cpu], &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	run_bulk(w, true, &w->ns[BULK_ALLOC], &w->ns[BULK_FREE]);
	run_bulk(w, false, &w->ns[SINGLE_ALLOC], &w->ns[SINGLE_FREE]);
	run_repeat(w);
	run_random(w);
	settle(w);
	return NULL;
}

/* The time of the slowest thread counts. */
static void run_once(struct bench *b, double ns[NR_PATTERNS])
{
	uint64_t before = mm_nr_free(b->pool.domain);
	struct worker w[MAX_THREADS] = { 0 };
	pthread_t thread[MAX_THREADS];

	pthread_barrier_init(&b->barrier, NULL, b->threads);
	for (uint32_t t = 0; t < b->threads; t++) {
		w[t].b = b;
		w[t].cpu = t;
		w[t].capacity = (size_t)(b->pool.config.frames >> b->order) / b->threads;
		w[t].pfn = malloc(w[t].capacity * sizeof(pfn_t));
		if (!w[t].pfn)
			abort();
		memset(w[t].pfn, 0, w[t].capacity * sizeof(pfn_t));
	}
	for (uint32_t t = 0; t < b->threads; t++)
		if (pthread_create(&thread[t], NULL, work, &w[t]))
			abort();
	for (uint32_t i = 0; i < NR_PATTERNS; i++)
		ns[i] = 0;
	for (uint32_t t = 0; t < b->threads; t++) {
		pthread_join(thread[t], NULL);
		for (uint32_t i = 0; i < NR_PATTERNS; i++)
			if (w[t].ns[i] > ns[i])
				ns[i] = w[t].ns[i];
		free(w[t].pfn);
	}
	pthread_barrier_destroy(&b->barrier);
	if (mm_nr_free(b->pool.domain) != before)
		abort(); /* frames were lost: no figure is worth anything */
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_row(const char *name, uint32_t order, uint32_t threads, double *ns, uint32_t runs,
                      bool table)
{
	double median, spread;

	qsort(ns, runs, sizeof(*ns), compare);
	median = ns[runs / 2];
	spread = median > 0 ? (ns[runs - 1] - ns[0]) / median : 0;
	if (table) {
		printf("%-16s order %u  threads %u  median %7.1f  min %7.1f  spread %4.0f %%\n",
		       name, order, threads, median, ns[0], spread * 100);
		return;
	}
	/* "row" and "samples" are what tests/bench/run reads */
	printf("{\"bench\": \"mm\", \"row\": \"%s, order %u, %u thread%s\", \"unit\": \"ns\", "
	       "\"name\": \"%s\", \"order\": %u, \"threads\": %u, \"median\": %.2f, "
	       "\"min\": %.2f, \"spread\": %.3f, \"samples\": [",
	       name, order, threads, threads == 1 ? "" : "s", name, order, threads, median, ns[0],
	       spread);
	for (uint32_t i = 0; i < runs; i++)
		printf("%s%.3f", i ? ", " : "", ns[i]);
	printf("]}\n");
}

static uint32_t find_cores(struct bench *b)
{
	cpu_set_t set;
	uint32_t n = 0;

	CPU_ZERO(&set);
	sched_getaffinity(0, sizeof(set), &set);
	for (int c = 0; c < CPU_SETSIZE && n < MAX_THREADS; c++)
		if (CPU_ISSET(c, &set))
			b->core[n++] = c;
	return n;
}

int main(int argc, char **argv)
{
	static double ns[NR_ORDERS][MAX_THREADS][NR_PATTERNS][MAX_RUNS];
	uint32_t runs = 9, cores;
	struct bench b = { 0 };
	struct mm_config c;
	bool table = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--table") == 0) {
			table = true;
		} else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc) {
			runs = (uint32_t)strtoul(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
			b.only = argv[++i];
		} else {
			fprintf(stderr, "usage: bench_mm [--table] [--runs N] [--only NAME]\n");
			return 2;
		}
	}
	if (runs == 0 || runs > MAX_RUNS) {
		fprintf(stderr, "bench_mm: 1 to %u runs\n", MAX_RUNS);
		return 2;
	}
	cores = find_cores(&b);
	mm_config_default(&c, ((uint64_t)1 << 30) >> PAGE_SHIFT);
	c.cpus = MAX_THREADS;
	test_pool_open(&b.pool, &c);
	for (uint32_t run = 0; run < runs; run++) {
		for (uint32_t o = 0; o < NR_ORDERS; o++) {
			for (uint32_t t = 0; t < cores; t++) {
				double row[NR_PATTERNS];

				b.order = orders[o];
				b.threads = t + 1;
				run_once(&b, row);
				for (uint32_t i = 0; i < NR_PATTERNS; i++)
					ns[o][t][i][run] = row[i];
			}
		}
	}
	for (uint32_t i = 0; i < NR_PATTERNS; i++)
		for (uint32_t o = 0; o < NR_ORDERS; o++)
			for (uint32_t t = 0; t < cores; t++)
				if (!b.only || strcmp(b.only, names[i]) == 0)
					print_row(names[i], orders[o], t + 1, ns[o][t][i], runs,
					          table);
	test_pool_close(&b.pool);
	return 0;
}
