/* SPDX-License-Identifier: MIT */
/*
 * What the per-CPU tests share: threads that wander over the CPUs, and this program once more with
 * another environment.
 */
#ifndef TESTS_INTEGRATION_PERCPU_H
#define TESTS_INTEGRATION_PERCPU_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kmm/percpu.h>

#include "client/internal.h" /* the table of areas */
#include "shm/area_lock.h"

#define FIXTURE_A one
#define FIXTURE_B two
#include "tests/integration/fixture.h"

#define PERCPU_THREADS 8u

/* A variable. */
struct counters {
	uint64_t a;
	uint32_t b;
	uint16_t c;
	uint8_t d;
	int64_t held;
	uint64_t pair[2];
	void *p;
};

static inline struct counters *counters_new(void)
{
	struct counters *p = (struct counters *)kmm_alloc_percpu(k, sizeof(*p), _Alignof(*p));

	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	return p;
}

static inline int counters_free(struct counters *p)
{
	return kmm_free_percpu((struct kmm_percpu *)p);
}

/* Entries of the table that are this kind, and a session's: their number; *last is the last. */
static inline unsigned int areas_of(uint32_t session, uint32_t *last)
{
	unsigned int n = 0;
	uint32_t i;

	for (i = 0; i < CONTROL_AREAS_MAX; i++) {
		const struct control_area *e = &k->control.area[i];

		if (owner_is(owner_load(&e->word), OWNER_HELD, session) &&
		    e->kind == CONTROL_AREA_PERCPU) {
			*last = i;
			n++;
		}
	}
	return n;
}

static inline uint64_t sum_a(struct counters *p)
{
	uint64_t sum = 0;
	int cpu; /* as kernel code has it */

	kmm_for_each_possible_cpu(cpu)
		sum += kmm_per_cpu(p->a, cpu);
	return sum;
}

/* CPUs that this process may run on. */
static inline unsigned int percpu_allowed(unsigned int cpus[KMM_CPUS_1])
{
	unsigned int n = 0, i;
	cpu_set_t set;

	CPU_ZERO(&set);
	must(sched_getaffinity(0, sizeof(set), &set) == 0);
	for (i = 0; i < KMM_CPUS_1; i++)
		if (CPU_ISSET(i, &set))
			cpus[n++] = i;
	must(n > 0);
	return n;
}

static inline void percpu_pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(sched_setaffinity(0, sizeof(set), &set) == 0);
}

/* The i-th step of a thread: every now and then it goes to another CPU. */
static inline void percpu_wander(const unsigned int cpus[], unsigned int nr, unsigned int i)
{
	if (i % 4096 == 0)
		percpu_pin(cpus[i / 4096 % nr]);
	else if (i % 1024 == 0)
		sched_yield();
}

/* glibc 2.35 and newer. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));

/* After the calling thread's first operation: it uses the kernel's restartable sequences. */
static inline bool percpu_uses_sequences(void)
{
	return &__rseq_offset &&
	       (char *)kmm_percpu_thread_1.rseq ==
	               (char *)__builtin_thread_pointer() + __rseq_offset;
}

static inline bool percpu_without_sequences(void)
{
	const char *tunables = getenv("GLIBC_TUNABLES");

	return tunables && strstr(tunables, "rseq=0");
}

/* This program with one argument and an environment variable: its exit status. */
static inline int percpu_run_self(const char *argument, const char *variable, const char *value)
{
	int status;
	pid_t pid = fork();

	must(pid >= 0);
	if (pid == 0) {
		must(setenv(variable, value, 1) == 0);
		execl("/proc/self/exe", "percpu", argument, (char *)NULL);
		must(!"exec");
	}
	must(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
