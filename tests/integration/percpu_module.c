/* SPDX-License-Identifier: MIT */
/* A shared library with per-CPU variables of its own, which also counts in one of the program's. */
#include "tests/integration/percpu_static.h"

static KMM_DEFINE_PER_CPU(long, hits) = 1000;
static KMM_DEFINE_PER_CPU_ALIGNED(long, apart) = 1;

static void count(long n)
{
	long i;

	for (i = 0; i < n; i++) {
		kmm_this_cpu_inc(hits);
		kmm_this_cpu_dec(apart);
		kmm_this_cpu_inc(percpu_of_c);
	}
}

static long sum(void)
{
	unsigned int cpu;
	long s = 0;

	kmm_for_each_possible_cpu(cpu)
		s += kmm_per_cpu(hits, cpu) + kmm_per_cpu(apart, cpu);
	return s;
}

static const void *place(void)
{
	return kmm_per_cpu_at(&hits, 0);
}

const struct percpu_module percpu_module;
const struct percpu_module percpu_module = { count, sum, place };
