/* SPDX-License-Identifier: MIT */
/*
 * Processes stopped, and killed, at a chosen instruction (ptrace single steps), and a look into the
 * daemon afterwards. What the tests of this folder share.
 *
 *      test ── traces ──> victim (a client, or a thread of the daemon)
 *       └──── observes ─> kmmd: sessions, live objects, fsck
 *
 * A client victim marks where the steps begin and end by stopping itself: step_begin(), step_end().
 */
#ifndef TESTS_STEP_STEP_H
#define TESTS_STEP_STEP_H

#include "tests/integration/harness.h"

/* ---- an observer, over one connection ---- */

struct observer;
struct observer *observer_open(const struct daemon *d);
struct observer *observer_close(struct observer *o);
/* Sessions of whatever state, the observer not among them. */
unsigned observer_sessions(struct observer *o);
/* Objects of the cache that are out: held by a session, in its magazines included; -1: no such cache. */
long observer_active(struct observer *o, const char *cache);
/* fsck has no finding; prints them. */
bool observer_clean(struct observer *o);

/* ---- clients ---- */

struct step_client {
	pid_t pid;
	bool over; /* it reached step_end() */
};
typedef void (*step_body)(void *arg);

/* Starts a process that runs body under trace; returns when it has come to step_begin(). */
void step_client_start(struct step_client *c, step_body body, void *arg);
/* Up to n instructions further; how many were made before step_end(). */
unsigned long step_client_run(struct step_client *c, unsigned long n);
/* On without tracing, to the process's end; its exit status. */
int step_client_finish(struct step_client *c);
void step_client_kill(struct step_client *c);
void step_begin(void);
void step_end(void);

/* ---- one thread of the daemon ---- */

struct step_thread {
	pid_t process, tid;
};
/* The thread of that name ("kmmd-worker", …), stopped. */
void step_thread_seize(struct step_thread *t, pid_t process, const char *name);
/* Runs it until it comes to that function of kmmd, which is about to begin then. No other thread may
 * come there meanwhile. */
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

/* KMM_TEST_ALL=1: every instruction, however long it takes. */
bool step_all(void);
/* Says why and exits with 77 (skipped) where processes cannot be traced. */
void step_require(void);

#endif
