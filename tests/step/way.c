/* SPDX-License-Identifier: MIT */
/*
 * The way of a traced thread through its instructions, and how to come to one of them again.
 *
 *      i       0   1   2   3   4   5   6   7   8   9
 *      at      a   b   c   b   c   b   c   d   e   c       a loop over b, c; then d, e; c once more
 *      first   0   1   2   2   2   2   2   7   8   8       the last place so far that was new then
 *      passed  1   1   1   2   2   3   3   1   1   4       how often the place was come to so far
 *
 * Two ways lead to the i-th instruction: to the last new place by a breakpoint there, which stops at
 * the first passage, and from there by single steps; or by a breakpoint at the place itself that is
 * passed as often as it takes. Most code is straight, where the first is short; in long loops it is the
 * second.
 *
 * That it is the right place in the end is looked at. A thread that took another turn (a lock that was
 * held, a message that was longer) is told apart, unless it came to the same place by a detour, which is
 * as good a place to die at.
 *
 * The breakpoint is the processor's: it belongs to the thread alone, others of the same process pass.
 *
 * Noting is O(1), the end of a way O(n), following a few switches of processes.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "tests/step/step.h"

void step_way_note(struct step_way *w, uint64_t at)
{
	if (w->n == w->room) {
		w->room = w->room ? 2 * w->room : 4096;
		must((w->at = reallocarray(w->at, w->room, sizeof(*w->at))) != NULL);
	}
	w->at[w->n++] = at;
}

/* Which places were come to before, and how often: a hash table of them, 0 where it is empty. */
void step_way_end(struct step_way *w)
{
	unsigned long size = 64, i, slot;
	struct place {
		uint64_t at;
		uint32_t passed;
	} *place;

	must(w->n > 0);
	while (size < 2 * w->n)
		size *= 2;
	place = calloc(size, sizeof(*place));
	w->first = calloc(w->n, sizeof(*w->first));
	w->passed = calloc(w->n, sizeof(*w->passed));
	must(place && w->first && w->passed);
	for (i = 0; i < w->n; i++) {
		slot = w->at[i] * 0x9e3779b97f4a7c15u % size;
		while (place[slot].at && place[slot].at != w->at[i])
			slot = (slot + 1) % size;
		place[slot].at = w->at[i];
		w->passed[i] = ++place[slot].passed;
		w->first[i] = w->passed[i] > 1 ? w->first[i - 1] : (uint32_t)i;
	}
	free(place);
}

void step_way_clear(struct step_way *w)
{
	free(w->at);
	free(w->first);
	free(w->passed);
	*w = (struct step_way){ 0 };
}

static uint64_t stands_at(pid_t tid)
{
	struct user_regs_struct regs;

	must(ptrace(PTRACE_GETREGS, tid, NULL, &regs) == 0);
	return regs.rip;
}

/* Debug registers 0 and 1, for execution; 7 switches them on. */
static void breakpoints_set(pid_t tid, uint64_t address, uint64_t end)
{
	must(ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, u_debugreg[0]), address) == 0);
	must(ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, u_debugreg[1]), end) == 0);
	must(ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, u_debugreg[7]), end ? 5ul : 1ul) ==
	     0);
}

static void breakpoints_clear(pid_t tid)
{
	must(ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, u_debugreg[7]), 0ul) == 0);
}

static bool trapped(int status)
{
	return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP && status >> 16 == 0;
}

bool step_run_to(pid_t tid, uint64_t address, uint64_t end, int *status)
{
	unsigned long child;

	breakpoints_set(tid, address, end);
	for (;;) {
		must(ptrace(PTRACE_CONT, tid, NULL, NULL) == 0);
		*status = step_wait(tid);
		if (!WIFSTOPPED(*status))
			return false;
		if (*status >> 16 != PTRACE_EVENT_CLONE)
			break;
		/* a thread of it was seized along: it runs by itself */
		must(ptrace(PTRACE_GETEVENTMSG, tid, NULL, &child) == 0);
		step_wait((pid_t)child);
		ptrace(PTRACE_DETACH, child, NULL, NULL);
	}
	breakpoints_clear(tid);
	return trapped(*status) && stands_at(tid) == address;
}

bool step_way_follow(const struct step_way *w, pid_t tid, unsigned long i, int *status)
{
	unsigned long first, passages;

	must(i < w->n);
	first = w->first[i];
	passages = w->passed[i] - (w->at[i] == w->at[0]); /* it stands there already */
	*status = 0;
	if (i - first > passages) {
		while (passages--)
			if (!step_run_to(tid, w->at[i], w->end, status))
				return false;
		return true;
	}
	if (first > 0 && !step_run_to(tid, w->at[first], w->end, status))
		return false;
	for (; first < i; first++) {
		must(ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL) == 0);
		*status = step_wait(tid);
		if (!trapped(*status))
			return false;
	}
	return stands_at(tid) == w->at[i];
}
