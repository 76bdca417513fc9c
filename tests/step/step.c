/* SPDX-License-Identifier: MIT */
/*
 * Clients in single steps: one traces itself for its parent and stops by SIGSTOP where its steps begin
 * and end; that stop is seen by the tracer alone and holds up no other thread of the process. And what
 * is the same for all who are traced.
 */
#include "tests/step/step.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

bool step_all(void)
{
	const char *all = getenv("KMM_TEST_ALL");

	return all && *all == '1';
}

void step_require(void)
{
	if (geteuid() == 0)
		return;
	printf("skipped: stepping through the daemon, which is not dumpable, needs root\n");
	exit(77);
}

void step_bind_now(char *argv[])
{
	if (getenv("LD_BIND_NOW"))
		return;
	must(setenv("LD_BIND_NOW", "1", 1) == 0);
	execvp(argv[0], argv);
	must(!"the program can be executed again");
}

void step_same_cpu(pid_t tid)
{
	cpu_set_t all, one;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	/* it works without, too */
	if (sched_setaffinity(0, sizeof(one), &one) == 0 && tid)
		(void)!sched_setaffinity(tid, sizeof(one), &one);
}

int step_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, __WALL) < 0)
		must(errno == EINTR);
	return status;
}

/* ---- clients ---- */

void step_begin(void)
{
	raise(SIGSTOP);
}

void step_end(void)
{
	raise(SIGSTOP);
}

static bool stopped_by(int status, int signal)
{
	return WIFSTOPPED(status) && WSTOPSIG(status) == signal;
}

void step_client_start(struct step_client *c, step_body body, void *arg)
{
	pid_t parent = getpid();
	int status;

	c->over = false;
	step_same_cpu(0);
	c->pid = fork();
	must(c->pid >= 0);
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(1);
		body(arg);
		_exit(0);
	}
	status = step_wait(c->pid);
	must(stopped_by(status, SIGSTOP));
}

unsigned long step_client_run(struct step_client *c, unsigned long n)
{
	unsigned long i;

	for (i = 0; i < n && !c->over; i++) {
		int status;

		must(ptrace(PTRACE_SINGLESTEP, c->pid, NULL, NULL) == 0);
		status = step_wait(c->pid);
		c->over = stopped_by(status, SIGSTOP);
		must(c->over || stopped_by(status, SIGTRAP));
	}
	return i;
}

void step_client_note(struct step_client *c, struct step_way *w)
{
	struct user_regs_struct regs;

	must(ptrace(PTRACE_GETREGS, c->pid, NULL, &regs) == 0);
	step_way_note(w, regs.rip);
	step_client_run(c, 1);
}

void step_client_record(struct step_client *c, struct step_way *w)
{
	while (!c->over)
		step_client_note(c, w);
	step_way_end(w);
}

bool step_client_follow(struct step_client *c, const struct step_way *w, unsigned long i)
{
	int status;
	bool there = step_way_follow(w, c->pid, i, &status);

	c->over = stopped_by(status, SIGSTOP);
	must(c->over || !status || stopped_by(status, SIGTRAP));
	return there;
}

void step_client_go_on(struct step_client *c)
{
	must(ptrace(PTRACE_CONT, c->pid, NULL, NULL) == 0);
	must(stopped_by(step_wait(c->pid), SIGSTOP));
	c->over = true;
}

int step_client_finish(struct step_client *c)
{
	int status;

	do {
		must(ptrace(PTRACE_CONT, c->pid, NULL, NULL) == 0);
		status = step_wait(c->pid);
	} while (stopped_by(status, SIGSTOP) || stopped_by(status, SIGTRAP));
	c->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void step_client_kill(struct step_client *c)
{
	int status;

	must(kill(c->pid, SIGKILL) == 0);
	do
		status = step_wait(c->pid);
	while (!WIFSIGNALED(status) && !WIFEXITED(status));
	c->pid = 0;
}

