/* SPDX-License-Identifier: MIT */
/*
 * An adoption raced against the sweep of the owner, both in single steps.
 *
 *      owner     allocates, makes the handle, is killed
 *      adopter   stopped inside kmm_adopt        (a client under trace)
 *      sweeper   stopped inside the sweep        (the daemon's worker under trace)
 *
 * First each is measured alone: at which instructions it exchanges words (locked instructions; of the
 * adopter it is the last one). Then pairs of positions around these are tried, and from a pair either
 * of the two goes on first.
 * Exactly one wins: the adopter has the object, which is out once, or it is told ESTALE, and nothing
 * is out. fsck has no finding either way.
 *
 * KMM_TEST_ALL=1 tries more positions before each exchange.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/step/step.h"

#define CACHE "raced"
#define SIZE 64
#define STEPS_MAX 3000000ul
#define LOCKS_MAX 4096

/* What the processes tell each other. */
struct board {
	kmm_handle_t handle;
	_Atomic uint32_t ready; /* release, acquire: the handle is there */
	int adopted; /* 0: yes, else the error */
};

struct test {
	struct daemon d;
	struct observer *o;
	struct board *board;
	unsigned long runs, adopter_won;
};

static void owner_body(struct test *t)
{
	struct kmm *k = session_start(&t->d);
	struct kmm_cache *c = kmm_cache_open(k, CACHE);
	void *p;

	must(c);
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	must(p);
	t->board->handle = kmm_handle(k, p);
	must(t->board->handle);
	atomic_store_explicit(&t->board->ready, 1, memory_order_release);
	for (;;)
		pause();
}

static pid_t owner_start(struct test *t)
{
	pid_t pid;

	atomic_store_explicit(&t->board->ready, 0, memory_order_release);
	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		owner_body(t);
	wait_until(atomic_load_explicit(&t->board->ready, memory_order_acquire));
	return pid;
}

static void owner_kill(pid_t pid)
{
	int status;

	must(kill(pid, SIGKILL) == 0);
	must(waitpid(pid, &status, 0) == pid);
}

static void adopter_body(void *arg)
{
	struct test *t = arg;
	struct kmm *k = session_start(&t->d);
	struct kmm_cache *c = kmm_cache_open(k, CACHE);
	void *p;

	must(c);
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL); /* the section is mapped, all symbols are bound */
	must(p && kmm_handle(k, p) && kmm_adopt(k, kmm_handle(k, p)));
	must(kmm_cache_free(c, p) == 0);
	step_begin();
	p = kmm_adopt(k, t->board->handle);
	step_end();
	t->board->adopted = p ? 0 : errno;
	step_end();
	/* what was adopted is given back by rule, so that all must be free */
	must(kmm_close(k) == 0);
}

/* ---- measuring ---- */

/* The instruction of the adopter after which the owner's session has lost the object: the last locked
 * one of kmm_adopt (the exchange of the owner word). */
static unsigned long adopter_exchange(struct test *t)
{
	unsigned long n = 0, at = 0;
	pid_t owner = owner_start(t);
	struct step_client a;

	step_client_start(&a, adopter_body, t);
	while (!a.over) {
		if (step_thread_at_lock(a.pid))
			at = n;
		n += step_client_run(&a, 1);
	}
	must(at > 0);
	step_client_run(&a, 0);
	must(step_client_finish(&a) == 0);
	owner_kill(owner);
	wait_until(observer_sessions(t->o) == 1);
	printf("kmm_adopt: %lu instructions, the word changes hands at %lu\n", n, at);
	return at;
}

/* Kills the owner and stops the worker where the sweep of the owner's objects begins; *end is where it
 * is over. */
static void sweeper_seize(struct test *t, struct step_thread *w, pid_t owner, uint64_t *end)
{
	step_thread_seize(w, daemon_serving_pid(&t->d), "kmmd-worker");
	owner_kill(owner);
	step_thread_run_to(w, "object_sweep");
	*end = step_thread_return(w);
}

/* At most n instructions; true: the sweep was over before. */
static bool sweeper_run(struct step_thread *w, unsigned long n, uint64_t end)
{
	unsigned long i;

	for (i = 0; i < n; i++) {
		must(step_thread_one(w));
		if (step_thread_at(w) == end)
			return true;
	}
	return false;
}

/* Where in the sweep words are exchanged: its locked instructions. */
static unsigned long sweeper_locks(struct test *t, unsigned long lock[LOCKS_MAX])
{
	unsigned long n = 0, found = 0;
	struct step_thread w;
	uint64_t end;

	sweeper_seize(t, &w, owner_start(t), &end);
	do {
		if (step_thread_at_lock(w.tid) && found < LOCKS_MAX)
			lock[found++] = n;
		n++;
	} while (!sweeper_run(&w, 1, end) && n < STEPS_MAX);
	step_thread_release(&w);
	must(n < STEPS_MAX);
	wait_until(observer_sessions(t->o) == 1);
	printf("the sweep: %lu instructions, %lu of them locked\n", n, found);
	return found;
}

/* ---- racing ---- */

static void race(struct test *t, unsigned long a_at, unsigned long w_at, bool adopter_first)
{
	struct step_client a;
	struct step_thread w;
	pid_t owner = owner_start(t);
	uint64_t end;
	bool over;
	long active;

	step_client_start(&a, adopter_body, t);
	step_client_run(&a, a_at);
	sweeper_seize(t, &w, owner, &end);
	over = sweeper_run(&w, w_at, end);
	if (adopter_first) {
		while (!a.over)
			step_client_run(&a, 1000);
		step_thread_release(&w);
	} else {
		while (!over)
			over = sweeper_run(&w, STEPS_MAX, end);
		step_thread_release(&w);
		while (!a.over)
			step_client_run(&a, 1000);
	}
	/* to the second stop: the result is on the board */
	a.over = false;
	step_client_run(&a, STEPS_MAX);
	must(a.over);
	wait_until(observer_sessions(t->o) == 2);
	active = observer_active(t->o, CACHE);
	if (t->board->adopted != 0 && t->board->adopted != ESTALE)
		fprintf(stderr, "adopter %lu, sweeper %lu: errno %d\n", a_at, w_at,
			t->board->adopted);
	must(t->board->adopted == 0 || t->board->adopted == ESTALE);
	t->adopter_won += t->board->adopted == 0;
	must(observer_clean(t->o));
	must(step_client_finish(&a) == 0);
	wait_until(observer_sessions(t->o) == 1);
	must(active >= (t->board->adopted == 0));
	if (observer_active(t->o, CACHE) != 0) {
		fprintf(stderr, "adopter %lu, sweeper %lu: %ld objects are still out\n", a_at, w_at,
			observer_active(t->o, CACHE));
		must(!"all is free");
	}
	t->runs++;
}

int main(void)
{
	static const char *const args[] = { "--pool-size", "16M", NULL };
	static unsigned long lock[LOCKS_MAX];
	unsigned long a_at, w_at, locks, i, near = step_all() ? 12 : 0;
	struct test t = { 0 };
	struct kmm_cache *c;
	struct kmm *k;

	step_require();
	t.board = mmap(NULL, sizeof(*t.board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	must(t.board != MAP_FAILED);
	daemon_start(&t.d, args);
	t.o = observer_open(&t.d);
	k = session_start(&t.d);
	c = kmm_cache_create(k, CACHE, SIZE, 0, 0, NULL);
	must(c);
	a_at = adopter_exchange(&t);
	locks = sweeper_locks(&t, lock);
	must(locks > 0);
	/* Each locked instruction of the sweep may be the exchange: all are tried, just before and just
	 * after, against the adopter just before and just after its own. */
	for (i = 0; i < locks; i++)
		for (w_at = lock[i] > near ? lock[i] - near : 0; w_at <= lock[i] + 1; w_at++) {
			race(&t, a_at, w_at, false);
			race(&t, a_at, w_at, true);
			race(&t, a_at + 1, w_at, true);
			if (step_all()) {
				race(&t, a_at - 1, w_at, false);
				race(&t, a_at + 1, w_at, false);
			}
		}
	printf("%lu interleavings; the adopter won %lu of them\n", t.runs, t.adopter_won);
	must(t.adopter_won > 0 && t.adopter_won < t.runs);
	must(kmm_cache_destroy(c) == 0);
	must(kmm_close(k) == 0);
	observer_close(t.o);
	must(daemon_stop(&t.d) == 0);
	printf("1 passed, 0 failed\n");
	return 0;
}
