/* SPDX-License-Identifier: MIT */
/*
 * What the bench programs share: pinned threads, a clock, samples, and one JSON line a row, which
 * tests/bench/run collects into a table:
 *
 *     {"bench": "grant", "row": "cached pair, order 0", "unit": "ns", "samples": [...]}
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_ROUNDS 9

struct bench_row {
	const char *name, *unit;
	double sample[256];
	int n;
};

static inline double bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		perror("sched_setaffinity");
}

/* The arguments SOCKET [CPU] of most: pins the thread to that CPU, or without one to `cpu` (-1: to
 * none). The socket. */
static inline const char *bench_begin(int argc, char *argv[], const char *program, int cpu)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s SOCKET [CPU]\n", program);
		exit(2);
	}
	if (argc > 2)
		cpu = atoi(argv[2]);
	if (cpu >= 0)
		bench_pin(cpu);
	return argv[1];
}

static inline void bench_add(struct bench_row *row, double value)
{
	if (row->n < (int)(sizeof(row->sample) / sizeof(row->sample[0])))
		row->sample[row->n++] = value;
}

static inline void bench_print(const char *bench, const struct bench_row *row)
{
	printf("{\"bench\": \"%s\", \"row\": \"%s\", \"unit\": \"%s\", \"samples\": [", bench, row->name,
	       row->unit);
	for (int i = 0; i < row->n; i++)
		printf("%s%.3f", i ? ", " : "", row->sample[i]);
	printf("]}\n");
	fflush(stdout);
}

static inline void bench_print_all(const char *bench, const struct bench_row row[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		bench_print(bench, &row[i]);
}

static inline int bench_compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts v. */
static inline double bench_median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), bench_compare_doubles);
	return v[n / 2];
}

#endif
