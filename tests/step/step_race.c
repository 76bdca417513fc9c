/* SPDX-License-Identifier: MIT */
/*
 * An adoption raced against the sweep of the owner, both in single steps.
 *
 *      owner     allocates, makes the handle, is killed
 *      adopter   stopped inside kmm_adopt        (a client under trace)
 *      sweeper   stopped inside the sweep        (the daemon's worker under trace)
 *
 * First each is stepped through alone, which shows its way and at which instructions it exchanges words
 * (locked instructions; of the adopter it is the last one). Then pairs of positions around these are
 * tried, and from a pair either of the two goes on first.
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
#include <sys/prctl.h>
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
	_Atomic uint32_t ready; /* release, acquire: what was asked of a process is done */
	_Atomic uint32_t over;  /* release, acquire: the cache may go */
	int adopted; /* 0: yes, else the error */
};

struct test {
	struct daemon d;
	struct observer *o;
	struct board *board;
	struct step_way adopter, sweeper;
	unsigned long runs, adopter_won, strayed;
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

/* Has the cache as long as the test runs. A process of its own: who forks has no session, whose thread
 * a forked process would not have. */
static void keeper_body(struct test *t)
{
	struct kmm *k = session_start(&t->d);
	struct kmm_cache *c = kmm_cache_create(k, CACHE, SIZE, 0, 0, NULL);

	must(c);
	atomic_store_explicit(&t->board->ready, 1, memory_order_release);
	wait_until(atomic_load_explicit(&t->board->over, memory_order_acquire));
	must(kmm_cache_destroy(c) == 0);
	must(kmm_close(k) == 0);
	_exit(0);
}

/* Ends with us at the latest. */
static pid_t process_start(struct test *t, void (*body)(struct test *t))
{
	pid_t pid, parent = getpid();

	atomic_store_explicit(&t->board->ready, 0, memory_order_release);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent);
		body(t);
	}
	wait_until(atomic_load_explicit(&t->board->ready, memory_order_acquire));
	return pid;
}

static pid_t owner_start(struct test *t)
{
	return process_start(t, owner_body);
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

/* The adopter's way, and the instruction after which the owner's session has lost the object: the last
 * locked one of kmm_adopt (the exchange of the owner word). */
static unsigned long adopter_exchange(struct test *t)
{
	pid_t owner = owner_start(t);
	struct step_client a;
	unsigned long at = 0;

	step_client_start(&a, adopter_body, t);
	while (!a.over) {
		if (step_thread_at_lock(a.pid))
			at = t->adopter.n;
		step_client_note(&a, &t->adopter);
	}
	step_way_end(&t->adopter);
	must(at > 0);
	must(step_client_finish(&a) == 0);
	owner_kill(owner);
	observer_wait_sessions(t->o, 1);
	printf("kmm_adopt: %lu instructions, the word changes hands at %lu\n", t->adopter.n, at);
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

/* The sweeper's way, and where in it words are exchanged: its locked instructions. */
static unsigned long sweeper_locks(struct test *t, unsigned long lock[LOCKS_MAX])
{
	struct step_way *way = &t->sweeper;
	unsigned long found = 0;
	struct step_thread w;
	uint64_t at;

	sweeper_seize(t, &w, owner_start(t), &way->end);
	while ((at = step_thread_at(&w)) != way->end) {
		if (step_thread_at_lock(w.tid) && found < LOCKS_MAX)
			lock[found++] = way->n;
		step_way_note(way, at);
		must(way->n < STEPS_MAX);
		must(step_thread_one(&w));
	}
	step_way_end(way);
	step_thread_release(&w);
	observer_wait_sessions(t->o, 1);
	printf("the sweep: %lu instructions, %lu of them locked\n", way->n, found);
	return found;
}

/* ---- racing ---- */

static void race(struct test *t, unsigned long a_at, unsigned long w_at, bool adopter_first)
{
	struct step_client a;
	struct step_thread w;
	pid_t owner = owner_start(t);
	int status;
	long active;

	step_client_start(&a, adopter_body, t);
	t->strayed += !step_client_follow(&a, &t->adopter, a_at);
	sweeper_seize(t, &w, owner, &t->sweeper.end);
	t->strayed += !step_way_follow(&t->sweeper, w.tid, w_at, &status);
	if (!adopter_first && step_thread_at(&w) != t->sweeper.end)
		must(step_run_to(w.tid, t->sweeper.end, 0, &status));
	if (!adopter_first)
		step_thread_release(&w);
	if (!a.over)
		step_client_go_on(&a);
	if (adopter_first)
		step_thread_release(&w);
	/* to the second stop: the result is on the board */
	step_client_go_on(&a);
	observer_wait_sessions(t->o, 2);
	active = observer_active(t->o, CACHE);
	if (t->board->adopted != 0 && t->board->adopted != ESTALE)
		fprintf(stderr, "adopter %lu, sweeper %lu: errno %d\n", a_at, w_at,
			t->board->adopted);
	must(t->board->adopted == 0 || t->board->adopted == ESTALE);
	t->adopter_won += t->board->adopted == 0;
	must(observer_clean(t->o));
	must(step_client_finish(&a) == 0);
	observer_wait_sessions(t->o, 1);
	must(active >= (t->board->adopted == 0));
	if (observer_active(t->o, CACHE) != 0) {
		fprintf(stderr, "adopter %lu, sweeper %lu: %ld objects are still out\n", a_at, w_at,
			observer_active(t->o, CACHE));
		must(!"all is free");
	}
	t->runs++;
}

int main(int argc, char *argv[])
{
	static unsigned long lock[LOCKS_MAX];
	unsigned long a_at, w_at, locks, i, near = step_all() ? 12 : 3;
	struct test t = { 0 };
	const char *const args[] = { "--config", t.d.config, "--pool-size", "16M", "--backing",
				     "4k",       "--reactors", "1",         NULL };
	pid_t keeper;
	int status;

	(void)argc;
	step_require();
	step_bind_now(argv);
	t.board = mmap(NULL, sizeof(*t.board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	must(t.board != MAP_FAILED);
	daemon_prepare(&t.d);
	daemon_configure(&t.d, STEP_SMALL_TABLES);
	daemon_launch(&t.d, args);
	t.o = observer_open(&t.d);
	keeper = process_start(&t, keeper_body);
	a_at = adopter_exchange(&t);
	locks = sweeper_locks(&t, lock);
	must(locks > 0);
	/* Each locked instruction of the sweep may be the exchange: all are tried, from a little before to
	 * just after, against the adopter before, just before and just after its own. */
	for (i = 0; i < locks; i++)
		for (w_at = lock[i] > near ? lock[i] - near : 0; w_at <= lock[i] + 1; w_at++) {
			race(&t, a_at, w_at, false);
			race(&t, a_at, w_at, true);
			race(&t, a_at + 1, w_at, true);
			race(&t, a_at - 1, w_at, false);
			race(&t, a_at + 1, w_at, false);
		}
	printf("%lu interleavings, %lu of them elsewhere; the adopter won %lu\n", t.runs, t.strayed,
	       t.adopter_won);
	must(t.adopter_won > 0 && t.adopter_won < t.runs);
	atomic_store_explicit(&t.board->over, 1, memory_order_release);
	must(waitpid(keeper, &status, 0) == keeper && status == 0);
	observer_close(t.o);
	step_way_clear(&t.adopter);
	step_way_clear(&t.sweeper);
	must(daemon_stop(&t.d) == 0);
	printf("1 passed, 0 failed\n");
	return 0;
}
