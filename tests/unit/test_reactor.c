/* SPDX-License-Identifier: MIT */
/*
 * Reactors and the worker: order of the mailbox, broadcast, rendezvous, and that nothing posted is
 * lost at the end.
 *
 *     test (main thread) ── post ──> reactor 0, 1 ── work ──> worker
 */
#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "daemon/acceptor.h"
#include "daemon/channel.h"
#include "daemon/kmmd.h"
#include "daemon/options.h"
#include "daemon/reactor.h"
#include "daemon/worker.h"
#include "tests/suite.h"

#define REACTORS 3u
#define ITEMS 2000u

static struct kmmd kmmd;
static struct options options;

static void start(void)
{
	memset(&kmmd, 0, sizeof(kmmd));
	kmmd.options = &options;
	ck_assert_int_eq(worker_new(&kmmd.worker), 0);
	kmmd.reactors = calloc(REACTORS, sizeof(struct reactor *));
	ck_assert_ptr_nonnull(kmmd.reactors);
	for (uint32_t i = 0; i < REACTORS; i++)
		ck_assert_int_eq(reactor_new(&kmmd.reactors[i], &kmmd, i), 0);
	kmmd.nr_reactors = REACTORS;
	for (uint32_t i = 0; i < REACTORS; i++)
		ck_assert_int_eq(reactor_start(kmmd.reactors[i], -1), 0);
}

/* As main() ends the daemon. */
static void stop(void)
{
	bool again;

	for (uint32_t i = 0; i < REACTORS; i++)
		reactor_stop(kmmd.reactors[i]);
	for (uint32_t i = 0; i < REACTORS; i++)
		reactor_join(kmmd.reactors[i]);
	do {
		again = false;
		worker_wait_idle(kmmd.worker);
		for (uint32_t i = 0; i < REACTORS; i++)
			again |= reactor_pump(kmmd.reactors[i]);
	} while (again);
	kmmd.worker = worker_free(kmmd.worker);
	for (uint32_t i = 0; i < REACTORS; i++)
		reactor_free(kmmd.reactors[i]);
	free(kmmd.reactors);
}

/* ---- mailbox ---- */

struct numbered {
	struct reactor_work work;
	uint32_t number;
};
static uint32_t next_number[REACTORS];

static void run_numbered(struct reactor *r, struct reactor_work *w)
{
	struct numbered *n = (struct numbered *)w;

	ck_assert_uint_eq(n->number, next_number[r->index]);
	next_number[r->index]++;
	free(n);
}

static void post_numbered(uint32_t reactor, uint32_t number)
{
	struct numbered *n = calloc(1, sizeof(*n));

	ck_assert_ptr_nonnull(n);
	n->work.run = run_numbered;
	n->number = number;
	reactor_post(kmmd.reactors[reactor], &n->work);
}

START_TEST(items_of_one_sender_run_in_order_and_none_is_lost)
{
	memset(next_number, 0, sizeof(next_number));
	start();
	for (uint32_t i = 0; i < ITEMS; i++)
		for (uint32_t r = 0; r < REACTORS; r++)
			post_numbered(r, i);
	for (uint32_t r = 0; r < REACTORS; r++)
		reactor_stop(kmmd.reactors[r]);
	for (uint32_t r = 0; r < REACTORS; r++)
		reactor_join(kmmd.reactors[r]);
	/* these find the threads gone */
	for (uint32_t r = 0; r < REACTORS; r++)
		post_numbered(r, ITEMS);
	stop();
	for (uint32_t r = 0; r < REACTORS; r++)
		ck_assert_uint_eq(next_number[r], ITEMS + 1);
}
END_TEST

/* ---- worker ---- */

struct numbered_job {
	struct worker_job job;
	uint32_t number;
};
static uint32_t jobs_run;

static void run_job(struct worker_job *job)
{
	struct numbered_job *n = (struct numbered_job *)job;

	ck_assert_uint_eq(n->number, jobs_run);
	jobs_run++;
}

START_TEST(jobs_run_in_order_of_submission)
{
	static struct numbered_job job[ITEMS];
	struct worker *w;

	jobs_run = 0;
	ck_assert_int_eq(worker_new(&w), 0);
	for (uint32_t i = 0; i < ITEMS / 2; i++) {
		job[i] = (struct numbered_job){{NULL, run_job}, i};
		worker_submit(w, &job[i].job);
	}
	worker_wait_idle(w);
	ck_assert_uint_eq(jobs_run, ITEMS / 2);
	for (uint32_t i = ITEMS / 2; i < ITEMS; i++) {
		job[i] = (struct numbered_job){{NULL, run_job}, i};
		worker_submit(w, &job[i].job);
	}
	worker_free(w);
	ck_assert_uint_eq(jobs_run, ITEMS);
}
END_TEST

/* ---- what clients ask for comes behind the rest ---- */

static atomic_bool gate;

static void wait_at_gate(struct worker_job *job)
{
	(void)job;
	while (!atomic_load(&gate))
		sched_yield();
}

START_TEST(later_jobs_run_behind_all_others)
{
	static struct numbered_job job[4];
	struct worker_job first = {NULL, wait_at_gate};
	struct worker *w;

	jobs_run = 0;
	atomic_store(&gate, false);
	ck_assert_int_eq(worker_new(&w), 0);
	worker_submit(w, &first);
	for (uint32_t i = 0; i < 4; i++)
		job[i] = (struct numbered_job){{NULL, run_job}, i};
	worker_submit_later(w, &job[2].job);
	worker_submit(w, &job[0].job);
	worker_submit_later(w, &job[3].job);
	worker_submit(w, &job[1].job);
	atomic_store(&gate, true);
	worker_wait_idle(w);
	ck_assert_uint_eq(jobs_run, 4);
	worker_free(w);
}
END_TEST

/* ---- users' shares of the connections ---- */

START_TEST(one_user_leaves_connections_to_others)
{
	struct peer a[8], b = {.uid = 2, .pidfd = -1}, c = {.uid = 3, .pidfd = -1};
	uint32_t mine, all;

	for (int i = 0; i < 8; i++)
		a[i] = (struct peer){.uid = 1, .pidfd = -1};
	for (int i = 0; i < 4; i++)
		ck_assert(acceptor_share_take(&a[i], 8, &mine, &all));
	ck_assert(!acceptor_share_take(&a[4], 8, &mine, &all));
	ck_assert_uint_eq(mine, 4);
	ck_assert_uint_eq(all, 4);
	ck_assert(acceptor_share_take(&b, 8, &mine, &all));
	ck_assert(acceptor_share_take(&c, 8, &mine, &all));
	acceptor_peer_release(&a[4]); /* never counted */
	ck_assert(!acceptor_share_take(&a[4], 8, &mine, &all));
	ck_assert_uint_eq(mine, 4);
	ck_assert_uint_eq(all, 6);
	for (int i = 0; i < 3; i++)
		acceptor_peer_release(&a[i]);
	acceptor_peer_release(&a[0]); /* once */
	ck_assert(acceptor_share_take(&a[4], 8, &mine, &all));
	ck_assert_uint_eq(mine, 1);
	ck_assert_uint_eq(all, 3);
	acceptor_peer_release(&a[3]);
	acceptor_peer_release(&a[4]);
	acceptor_peer_release(&b);
	acceptor_peer_release(&c);
	ck_assert(acceptor_share_take(&b, 1, &mine, &all));
	ck_assert_uint_eq(all, 0);
	acceptor_peer_release(&b);
}
END_TEST

/* ---- broadcast ---- */

static atomic_uint seen[REACTORS], seen_all, done_all;

static void broadcast_fn(struct reactor *r, void *arg)
{
	ck_assert_ptr_eq(arg, &kmmd);
	atomic_fetch_add(&seen[r->index], 1);
	atomic_fetch_add(&seen_all, 1);
}

static void broadcast_end(void *arg)
{
	ck_assert_ptr_eq(arg, &kmmd);
	atomic_fetch_add(&done_all, 1);
	/* every reactor was there before any end was told */
	ck_assert_uint_ge(atomic_load(&seen_all), REACTORS * atomic_load(&done_all));
}

START_TEST(broadcast_runs_on_each_and_then_ends)
{
	memset(seen, 0, sizeof(seen));
	seen_all = done_all = 0;
	start();
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(reactor_broadcast(&kmmd, broadcast_fn, broadcast_end, &kmmd), 0);
	stop();
	for (uint32_t r = 0; r < REACTORS; r++)
		ck_assert_uint_eq(seen[r], 100);
	ck_assert_uint_eq(done_all, 100);
}
END_TEST

/* ---- rendezvous ---- */

/* Every reactor counts all the time; while they stand still the counts do not move. */
struct counter {
	struct reactor_work work;
	atomic_ulong count;
	atomic_bool ended;
};
static struct counter counter[REACTORS];
static atomic_uint standing, resumed;

static void run_counter(struct reactor *r, struct reactor_work *w)
{
	struct counter *c = (struct counter *)w;

	atomic_fetch_add(&c->count, 1);
	if (!r->stopping && !atomic_load(&c->ended))
		reactor_post(r, w);
}

static void rendezvous_fn(void *arg)
{
	unsigned long before[REACTORS];

	(void)arg;
	for (uint32_t r = 0; r < REACTORS; r++)
		before[r] = atomic_load(&counter[r].count);
	for (int i = 0; i < 100; i++)
		sched_yield();
	for (uint32_t r = 0; r < REACTORS; r++)
		ck_assert_uint_eq(before[r], atomic_load(&counter[r].count));
	atomic_fetch_add(&standing, 1);
}

static void rendezvous_end(void *arg)
{
	(void)arg;
	atomic_fetch_add(&resumed, 1);
}

START_TEST(all_stand_still_at_a_rendezvous)
{
	standing = resumed = 0;
	start();
	for (uint32_t r = 0; r < REACTORS; r++) {
		memset(&counter[r], 0, sizeof(counter[r]));
		counter[r].work.run = run_counter;
		reactor_post(kmmd.reactors[r], &counter[r].work);
	}
	for (int i = 0; i < 50; i++)
		ck_assert_int_eq(reactor_rendezvous(&kmmd, rendezvous_fn, rendezvous_end, NULL), 0);
	worker_wait_idle(kmmd.worker);
	ck_assert_uint_eq(standing, 50);
	ck_assert_uint_eq(resumed, 50);
	/* and while the daemon stops: those that ended stand still too */
	for (int i = 0; i < 50; i++)
		ck_assert_int_eq(reactor_rendezvous(&kmmd, rendezvous_fn, rendezvous_end, NULL), 0);
	for (uint32_t r = 0; r < REACTORS; r++)
		atomic_store(&counter[r].ended, true);
	stop();
	ck_assert_uint_eq(standing, 100);
	ck_assert_uint_eq(resumed, 100);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reactor");
	TCase *tcase = tcase_create("reactor");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, items_of_one_sender_run_in_order_and_none_is_lost);
	tcase_add_test(tcase, jobs_run_in_order_of_submission);
	tcase_add_test(tcase, later_jobs_run_behind_all_others);
	tcase_add_test(tcase, one_user_leaves_connections_to_others);
	tcase_add_test(tcase, broadcast_runs_on_each_and_then_ends);
	tcase_add_test(tcase, all_stand_still_at_a_rendezvous);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
