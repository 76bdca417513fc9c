/* SPDX-License-Identifier: MIT */
/*
 * Processes stopped, and killed, at a chosen instruction (ptrace single steps), and a look into the
 * daemon afterwards. What the tests of this folder share.
 *
 *      test ── traces ──> victim (a client, or a thread of the daemon)
 *       └──── observes ─> kmmd: sessions, live objects, fsck
 *
 * A client victim marks where the steps begin and end by stopping itself: step_begin(), step_end().
 *
 * A step costs two switches of processes and an exception, which virtual machines make dear. So only
 * the first victim of a kind is stepped through all: it leaves its *way* behind, where each of its
 * instructions stood. The next ones run freely to a breakpoint near their end and step from there.
 */
#ifndef TESTS_STEP_STEP_H
#define TESTS_STEP_STEP_H

#include "tests/integration/harness.h"

/* ---- an observer, over one connection (observer.c) ---- */

struct observer;
struct observer *observer_open(const struct daemon *d);
struct observer *observer_close(struct observer *o);
/* Sessions of whatever state, the observer not among them. */
unsigned observer_sessions(struct observer *o);
/* Until there are n: the others were swept. */
void observer_wait_sessions(struct observer *o, unsigned n);
/* Objects of the cache that are out: held by a session, in its magazines included; -1: no such cache. */
long observer_active(struct observer *o, const char *cache);
/* The same of all caches together. */
long observer_active_all(struct observer *o);
/* fsck has no finding; prints them. */
bool observer_clean(struct observer *o);

/* ---- ways (way.c) ---- */

struct step_way {
	uint64_t *at;    /* where the i-th instruction stood */
	uint32_t *first; /* the last one up to i whose place was new then */
	uint32_t *passed; /* how often its place had been come to, itself included */
	unsigned long n, room;
	uint64_t end; /* where it ends for who goes on behind it; 0: it stops there by itself */
};
/* One more instruction. */
void step_way_note(struct step_way *w, uint64_t at);
/* That was the last one: the way can be followed now. */
void step_way_end(struct step_way *w);
void step_way_clear(struct step_way *w);
/* From the way's begin to the i-th instruction. False: the thread stopped before, as *status says, or
 * stands elsewhere: it did not go the same way. */
bool step_way_follow(const struct step_way *w, pid_t tid, unsigned long i, int *status);
/* Runs it to that address; false: it stopped elsewhere, as *status says, or at the end (0: none). */
bool step_run_to(pid_t tid, uint64_t address, uint64_t end, int *status);

/* ---- clients (step.c) ---- */

struct step_client {
	pid_t pid;
	bool over; /* it reached step_end() */
};
typedef void (*step_body)(void *arg);

/* Starts a process that runs body under trace; returns when it has come to step_begin(). */
void step_client_start(struct step_client *c, step_body body, void *arg);
/* Up to n instructions further; how many were made before step_end(). */
unsigned long step_client_run(struct step_client *c, unsigned long n);
/* One instruction, noted. */
void step_client_note(struct step_client *c, struct step_way *w);
/* Through all instructions up to step_end(); leaves the way. */
void step_client_record(struct step_client *c, struct step_way *w);
/* To the i-th instruction of the way; false: this one went another way, or is over. */
bool step_client_follow(struct step_client *c, const struct step_way *w, unsigned long i);
/* On without steps to the next step_begin() or step_end(). */
void step_client_go_on(struct step_client *c);
/* On without tracing, to the process's end; its exit status. */
int step_client_finish(struct step_client *c);
void step_client_kill(struct step_client *c);
void step_begin(void);
void step_end(void);

/* ---- one thread of the daemon (step_thread.c) ---- */

struct step_thread {
	pid_t process, tid;
};
/* The thread of that name ("kmmd-worker", …), stopped. */
void step_thread_seize(struct step_thread *t, pid_t process, const char *name);
/* Runs it until it comes to that function of kmmd, which is about to begin then. */
void step_thread_run_to(struct step_thread *t, const char *function);
/* Where a function begins, or the address on top of the stack: the caller's, right at the begin. */
uint64_t step_thread_address(const struct step_thread *t, const char *function);
uint64_t step_thread_return(const struct step_thread *t);
uint64_t step_thread_at(const struct step_thread *t);
/* One instruction; a system call counts as one, also when it sleeps. False: the thread is gone. */
bool step_thread_one(struct step_thread *t);
/* It is about to wait in the kernel for something to do (epoll_wait, futex, poll). */
bool step_thread_waits(struct step_thread *t);
/* It is about to exchange a word: a locked instruction. */
bool step_thread_at_lock(pid_t tid);
void step_thread_release(struct step_thread *t);
/* SIGKILL to the whole process, reaped as far as it is ours. */
void step_thread_kill(struct step_thread *t);

/* ---- all of them ---- */

/* For the daemon's configuration: each death is followed by a look at all tables. */
#define STEP_SMALL_TABLES "[limits]\nsessions = 16\nholders = 256\nholders_per_session = 64\n"

/* The tracer and who is traced take turns, which is several times faster on one CPU than on two.
 * 0: the caller alone, and whom it starts from then on. */
void step_same_cpu(pid_t tid);
int step_wait(pid_t pid);
/* Binds all symbols now: else the first call of each function is a walk through the dynamic linker,
 * which is not what is tested and changes with every version of it. Begins the program anew. */
void step_bind_now(char *argv[]);
/* KMM_TEST_ALL=1: every instruction, however long it takes. */
bool step_all(void);
/* Says why and exits with 77 (skipped) where processes cannot be traced. */
void step_require(void);

#endif
