/* SPDX-License-Identifier: MIT */
/* What the stress tests share: numbers from the environment, processes that end with the test, and
 * clients that are killed at a moment drawn before. */
#ifndef TESTS_STRESS_VICTIMS_H
#define TESTS_STRESS_VICTIMS_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/harness.h"

static inline unsigned number_from(const char *variable, unsigned fallback)
{
	const char *text = getenv(variable);

	return text && *text ? (unsigned)strtoul(text, NULL, 10) : fallback;
}

/* fork() of a process that dies with this one. */
static inline pid_t fork_child(void)
{
	pid_t parent = getpid(), pid = fork();

	must(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

/* SIGKILL, which finds it alive: one that ended by itself has failed. */
static inline void kill_child(pid_t pid)
{
	int status;

	must(kill(pid, SIGKILL) == 0);
	must(waitpid(pid, &status, 0) == pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		fprintf(stderr, "client %d ended before, with status 0x%x\n", (int)pid, status);
		exit(1);
	}
}

struct victim {
	pid_t pid;
	struct timespec dies;
};

static inline bool victim_dies_before(const struct victim *a, const struct victim *b)
{
	return a->dies.tv_sec != b->dies.tv_sec ? a->dies.tv_sec < b->dies.tv_sec :
						  a->dies.tv_nsec < b->dies.tv_nsec;
}

static inline void victim_begin(struct victim *v, pid_t pid, unsigned life_us)
{
	v->pid = pid;
	clock_gettime(CLOCK_MONOTONIC, &v->dies);
	v->dies.tv_nsec += (long)life_us * 1000;
	if (v->dies.tv_nsec >= 1000000000) {
		v->dies.tv_nsec -= 1000000000;
		v->dies.tv_sec++;
	}
}

/* Slept for, because the moment is to be one that nothing in the client tells. */
static inline void victim_end(struct victim *v)
{
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &v->dies, NULL) != 0)
		continue;
	kill_child(v->pid);
	v->pid = 0;
}

#endif
