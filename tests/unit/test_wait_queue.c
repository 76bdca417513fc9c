/* SPDX-License-Identifier: MIT */
/*
 * Fairness of waiting: who is served when memory comes, in which order, and what begins and ends
 * with it. Memory is a number of frames by zone here; the queue only sees what try() answers.
 */
#include "daemon/wait_queue.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "mm/gfp.h"
#include "tests/suite.h"

static struct wait_queue *q;
static unsigned int begun, ended;
static uint32_t memory[2]; /* frames: DMA, others */
static unsigned int order_of_wake;

struct request {
	struct waiter w;
	int result;
	unsigned int woken; /* 1: first */
};

static void on_begin(void *ctx)
{
	(void)ctx;
	begun++;
}

static void on_end(void *ctx)
{
	(void)ctx;
	ended++;
}

static const struct wait_queue_ops ops = { .begin = on_begin, .end = on_end };

static void report(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  finding: %s\n", text);
}

static void check(void)
{
	ck_assert_uint_eq(wait_queue_validate(q, report, NULL), 0);
}

static int try(struct waiter *w)
{
	uint32_t *m = &memory[w->gfp & __GFP_DMA ? 0 : 1];

	if (*m < 1u << w->order)
		return -ENOMEM;
	*m -= 1u << w->order;
	return 0;
}

static int try_granted(struct waiter *w)
{
	(void)w;
	return 0;
}

static int try_refused(struct waiter *w)
{
	(void)w;
	return -EDQUOT;
}

static void wake(struct waiter *w, int result)
{
	struct request *r = (struct request *)w;

	r->result = result;
	r->woken = ++order_of_wake;
}

static void add(struct request *r, gfp_t gfp, uint32_t order, const void *whose)
{
	*r = (struct request){
		.w = { .gfp = gfp, .order = order, .whose = whose, .try = try, .wake = wake }
	};
	ck_assert_int_eq(wait_queue_add(q, &r->w), 0);
	check();
}

static void give(uint32_t frames, gfp_t gfp)
{
	memory[gfp & __GFP_DMA ? 0 : 1] += frames;
	wait_queue_kick(q);
	check();
}

static void setup(void)
{
	begun = ended = order_of_wake = 0;
	memory[0] = memory[1] = 0;
	ck_assert_int_eq(wait_queue_new(&q, &ops, NULL), 0);
}

static void teardown(void)
{
	check();
	ck_assert_ptr_null(wait_queue_free(q));
}

START_TEST(first_come_first_served)
{
	struct request r[5];
	unsigned int i;

	for (i = 0; i < 5; i++)
		add(&r[i], GFP_KERNEL, 0, NULL);
	ck_assert_uint_eq(wait_queue_waiting(q), 5);
	ck_assert_uint_eq(begun, 1);
	for (i = 0; i < 5; i++) {
		give(1, 0);
		ck_assert_uint_eq(r[i].woken, i + 1);
		ck_assert_int_eq(r[i].result, 0);
		ck_assert_uint_eq(wait_queue_waiting(q), 4 - i);
	}
	ck_assert_uint_eq(ended, 1);
}
END_TEST

/* A later one passes only where the earlier could not use the memory. */
START_TEST(overtaking)
{
	struct request large, small, dma, smaller;

	add(&large, GFP_KERNEL, 3, NULL);
	add(&small, GFP_KERNEL, 1, NULL);
	add(&dma, GFP_KERNEL | __GFP_DMA, 3, NULL);
	add(&smaller, GFP_KERNEL, 0, NULL);
	give(1, 0);
	ck_assert_uint_eq(smaller.woken, 1);
	give(8, __GFP_DMA);
	ck_assert_uint_eq(dma.woken, 2);
	give(8, 0);
	ck_assert_uint_eq(large.woken, 3);
	ck_assert_uint_eq(small.woken, 0);
	give(2, 0);
	ck_assert_uint_eq(small.woken, 4);
}
END_TEST

/* Two nodes are two kinds of memory for those who want no other. */
START_TEST(this_node_only)
{
	struct request far, near;

	far = (struct request){ .w = { .gfp = GFP_KERNEL | __GFP_THISNODE | __GFP_DMA,
		                       .node = 1,
		                       .try = try,
		                       .wake = wake } };
	ck_assert_int_eq(wait_queue_add(q, &far.w), 0);
	add(&near, GFP_KERNEL | __GFP_THISNODE | __GFP_DMA, 0, NULL);
	near.w.try = try_granted;
	give(0, 0);
	ck_assert_uint_eq(near.woken, 1);
	ck_assert_uint_eq(far.woken, 0);
	give(1, __GFP_DMA);
	ck_assert_uint_eq(far.woken, 2);
}
END_TEST

/* Those that only the high zones may serve say nothing of those who could use any. */
START_TEST(high_zones_only)
{
	struct request high, any;

	high = (struct request){
		.w = { .gfp = GFP_HIGHUSER, .high_only = true, .try = try, .wake = wake }
	};
	ck_assert_int_eq(wait_queue_add(q, &high.w), 0);
	add(&any, GFP_HIGHUSER, 3, NULL);
	any.w.try = try_granted;
	give(0, 0);
	ck_assert_uint_eq(any.woken, 1);
	ck_assert_uint_eq(high.woken, 0);
	give(1, 0);
	ck_assert_uint_eq(high.woken, 2);
}
END_TEST

START_TEST(much_at_once_serves_by_age)
{
	struct request r[6];
	static const uint32_t order[6] = { 2, 0, 2, 1, 0, 2 };
	unsigned int i;

	for (i = 0; i < 6; i++)
		add(&r[i], GFP_KERNEL, order[i], NULL);
	give(12, 0); /* 4 1 4 2 1 = 12 */
	for (i = 0; i < 5; i++)
		ck_assert_uint_eq(r[i].woken, i + 1);
	ck_assert_uint_eq(r[5].woken, 0);
	ck_assert(wait_queue_remove(q, &r[5].w));
}
END_TEST

static int try_two_of_three(struct waiter *w)
{
	return w->cache % 3 ? 0 : -ENOMEM;
}

/* Many kinds at once: each that can be served is, the oldest first, and a kind that fails is asked
 * once a round and stands in nobody's way. */
START_TEST(many_caches_and_blocks_by_age)
{
	enum { CACHES = 500 };
	static struct request object[2 * CACHES], block[2 * CACHES];
	unsigned int i, last = 0, served = 0;

	for (i = 0; i < 2 * CACHES; i++) {
		/* each cache twice, in another order the second time */
		uint32_t cache = 1 + (i < CACHES ? i : i * 7 % CACHES);

		object[i] = (struct request){ .w = { .gfp = GFP_KERNEL,
			                             .cache = cache,
			                             .whose = &object,
			                             .try = try_two_of_three,
			                             .wake = wake } };
		ck_assert_int_eq(wait_queue_add(q, &object[i].w), 0);
		block[i] = (struct request){ .w = { .gfp = GFP_KERNEL,
			                            .order = 1 + i % 3,
			                            .whose = &block,
			                            .try = try,
			                            .wake = wake } };
		ck_assert_int_eq(wait_queue_add(q, &block[i].w), 0);
	}
	give(0, 0);
	for (i = 0; i < 2 * CACHES; i++) {
		ck_assert_uint_eq(block[i].woken, 0);
		ck_assert_int_eq(!object[i].woken, object[i].w.cache % 3 == 0);
		if (!object[i].woken)
			continue;
		ck_assert_uint_gt(object[i].woken, last);
		last = object[i].woken;
		served++;
	}
	ck_assert_uint_eq(served, order_of_wake);
	ck_assert_uint_eq(wait_queue_cancel(q, &object, -ECANCELED), 2 * CACHES - served);
	last = order_of_wake;
	give(UINT32_C(1) << 20, 0);
	for (i = 0; i < 2 * CACHES; i++)
		ck_assert_uint_eq(block[i].woken, last + i + 1);
	ck_assert_uint_eq(wait_queue_waiting(q), 0);
}
END_TEST

START_TEST(removing)
{
	struct request a, b, c;

	add(&a, GFP_KERNEL, 0, NULL);
	add(&b, GFP_KERNEL, 0, NULL);
	add(&c, GFP_KERNEL, 0, NULL);
	ck_assert(wait_queue_remove(q, &b.w));
	ck_assert(!wait_queue_remove(q, &b.w));
	check();
	give(2, 0);
	ck_assert_uint_eq(a.woken, 1);
	ck_assert_uint_eq(b.woken, 0);
	ck_assert_uint_eq(c.woken, 2);
	ck_assert(!wait_queue_remove(q, &a.w));
	ck_assert_uint_eq(ended, 1);
	add(&a, GFP_KERNEL, 0, NULL);
	ck_assert_uint_eq(begun, 2);
	ck_assert(wait_queue_remove(q, &a.w));
	ck_assert_uint_eq(ended, 2);
}
END_TEST

START_TEST(cancelling_one_owner)
{
	struct request r[6];
	int one, two;
	unsigned int i;

	for (i = 0; i < 6; i++)
		add(&r[i], GFP_KERNEL, i % 3, i % 2 ? &one : &two);
	ck_assert_uint_eq(wait_queue_cancel(q, &one, -ECANCELED), 3);
	check();
	for (i = 0; i < 6; i++) {
		ck_assert_int_eq(!!r[i].woken, i % 2);
		if (i % 2)
			ck_assert_int_eq(r[i].result, -ECANCELED);
	}
	ck_assert_uint_eq(wait_queue_cancel(q, &one, -ECANCELED), 0);
	ck_assert_uint_eq(wait_queue_cancel(q, &two, -ECANCELED), 3);
	ck_assert_uint_eq(wait_queue_waiting(q), 0);
}
END_TEST

/* What can never be served any more leaves with its reason and holds up nobody. */
START_TEST(failing)
{
	struct request a, b;

	add(&a, GFP_KERNEL, 0, NULL);
	a.w.try = try_refused;
	add(&b, GFP_KERNEL, 0, NULL);
	give(1, 0);
	ck_assert_int_eq(a.result, -EDQUOT);
	ck_assert_uint_eq(b.woken, 2);
}
END_TEST

static void add_patient(struct request *r, uint32_t patience)
{
	*r = (struct request){ .w = { .gfp = GFP_KERNEL, .patience = patience, .try = try,
		                      .wake = wake } };
	ck_assert_int_eq(wait_queue_add(q, &r->w), 0);
}

/* Rounds without progress wear out who may fail; a round with it begins the count anew, for all. */
START_TEST(patience_ends)
{
	struct request a, b, c;
	unsigned int i;

	add_patient(&a, WAIT_PATIENCE);
	add_patient(&b, 0);
	for (i = 1; i < WAIT_PATIENCE; i++)
		wait_queue_round(q, false);
	ck_assert_uint_eq(a.woken, 0);
	wait_queue_round(q, true);
	add_patient(&c, 2);
	for (i = 1; i < WAIT_PATIENCE; i++)
		wait_queue_round(q, false);
	check();
	ck_assert_uint_eq(a.woken, 0);
	ck_assert_uint_eq(c.woken, 1);
	ck_assert_int_eq(c.result, -ENOMEM);
	wait_queue_round(q, false);
	ck_assert_uint_eq(a.woken, 2);
	ck_assert_int_eq(a.result, -ENOMEM);
	/* who has no patience to lose waits on */
	for (i = 0; i < 4 * WAIT_PATIENCE; i++)
		wait_queue_round(q, false);
	ck_assert_uint_eq(wait_queue_waiting(q), 1);
	give(1, 0);
	ck_assert_int_eq(b.result, 0);
	check();
}
END_TEST

/* However many kinds wait, another kind finds its place, and each is served by its own memory. */
START_TEST(all_kinds_may_wait)
{
	static const gfp_t zone[] = { 0, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM };
	static const gfp_t type[] = { 0, __GFP_MOVABLE, __GFP_RECLAIMABLE };
	static struct request r[4 * 3 * 2 * NR_PAGE_ORDERS], last, same;
	unsigned int n = 0, order, i;

	for (order = 0; order < NR_PAGE_ORDERS; order++)
		for (i = 0; i < 4 * 3 * 2; i++, n++)
			add(&r[n], zone[i % 4] | type[i / 4 % 3] | (i / 12 ? __GFP_HIGH : 0),
			    order, &r);
	last = (struct request){ .w = { .gfp = __GFP_THISNODE,
		                        .node = MM_NODE(MAX_NODES - 1),
		                        .order = NR_PAGE_ORDERS - 1,
		                        .try = try_granted,
		                        .wake = wake } };
	ck_assert_int_eq(wait_queue_add(q, &last.w), 0);
	check();
	add(&same, __GFP_ZERO | __GFP_NOWARN | __GFP_NOMEMALLOC, 0, NULL);
	give(2, 0);
	ck_assert_uint_eq(r[0].woken, 1);
	ck_assert_uint_eq(last.woken, 3);
	ck_assert_uint_eq(same.woken, 0); /* others of order 0 are older */
	ck_assert_uint_eq(wait_queue_cancel(q, &r, -ECANCELED), n - 2);
	check();
	ck_assert_uint_eq(wait_queue_waiting(q), 1);
	give(1, 0);
	ck_assert_int_eq(same.result, 0);
	ck_assert_uint_eq(same.woken, n + 2);
	last.w.order = NR_PAGE_ORDERS;
	ck_assert_int_eq(wait_queue_add(q, &last.w), -EINVAL);
	last.w.order = 0;
	last.w.node = MM_NODE(MAX_NODES);
	ck_assert_int_eq(wait_queue_add(q, &last.w), -EINVAL);
}
END_TEST

/* ---- threads: no wakeup is lost ---- */

enum { THREADS = 3, ROUNDS = 5000 };

static _Atomic uint32_t pool_frames;

struct blocking {
	struct waiter w;
	_Atomic int woken;
};

static int try_shared(struct waiter *w)
{
	uint32_t n = atomic_load(&pool_frames);

	(void)w;
	while (n)
		if (atomic_compare_exchange_weak(&pool_frames, &n, n - 1))
			return 0;
	return -ENOMEM;
}

static void wake_shared(struct waiter *w, int result)
{
	atomic_store(&((struct blocking *)w)->woken, result ? result : 1);
}

static void *take_and_give(void *arg)
{
	unsigned int i;

	(void)arg;
	for (i = 0; i < ROUNDS; i++) {
		struct blocking b = {
			.w = { .gfp = GFP_KERNEL, .try = try_shared, .wake = wake_shared }
		};

		if (wait_queue_waiting(q) || try_shared(&b.w) != 0) {
			ck_assert_int_eq(wait_queue_add(q, &b.w), 0);
			wait_queue_kick(q);
			while (!atomic_load(&b.woken))
				sched_yield();
		}
		atomic_fetch_add(&pool_frames, 1);
		if (wait_queue_waiting(q))
			wait_queue_kick(q);
	}
	return NULL;
}

START_TEST(no_wakeup_is_lost)
{
	pthread_t thread[THREADS];
	unsigned int i;

	atomic_store(&pool_frames, 1); /* fewer than threads: somebody waits all the time */
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, take_and_give, NULL), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(atomic_load(&pool_frames), 1);
	ck_assert_uint_eq(wait_queue_waiting(q), 0);
	ck_assert_uint_eq(begun, ended);
}
END_TEST

/* Whose flags reclaim goes by. */
START_TEST(reclaim_is_for_the_freest)
{
	struct request r[4];

	ck_assert_uint_eq(wait_queue_gfp(q), 0);
	add(&r[0], GFP_NOFS, 0, NULL);
	ck_assert_uint_eq(wait_queue_gfp(q), GFP_NOFS);
	add(&r[1], GFP_NOIO, 3, NULL);
	ck_assert_uint_eq(wait_queue_gfp(q), GFP_NOFS);
	/* behind others of its class, and younger than all */
	add(&r[2], GFP_KERNEL, 0, NULL);
	ck_assert_uint_eq(wait_queue_gfp(q), GFP_KERNEL);
	add(&r[3], GFP_KERNEL | __GFP_DMA, 0, NULL);
	ck_assert_uint_eq(wait_queue_gfp(q), GFP_KERNEL);
	ck_assert(wait_queue_remove(q, &r[2].w));
	ck_assert_uint_eq(wait_queue_gfp(q), GFP_KERNEL | __GFP_DMA);
	ck_assert(wait_queue_remove(q, &r[3].w));
	ck_assert(wait_queue_remove(q, &r[0].w));
	ck_assert_uint_eq(wait_queue_gfp(q), GFP_NOIO);
	ck_assert(wait_queue_remove(q, &r[1].w));
	ck_assert_uint_eq(wait_queue_gfp(q), 0);
}
END_TEST

START_TEST(whose_wait)
{
	static char alice, bob, carol;
	struct waiter oldest = { .sequence = 77 };
	struct request r[4];

	add(&r[0], 0, 3, &bob);
	add(&r[1], __GFP_DMA, 5, &alice);
	add(&r[2], 0, 2, &alice);
	add(&r[3], 0, 3, &alice);
	ck_assert_uint_eq(wait_queue_look(q, &carol, &oldest), 0);
	ck_assert_uint_eq(oldest.sequence, 77);
	ck_assert_uint_eq(wait_queue_look(q, &alice, &oldest), 3);
	ck_assert_uint_eq(oldest.order, 5);
	ck_assert_uint_eq(oldest.sequence, r[1].w.sequence);
	ck_assert(wait_queue_remove(q, &r[1].w));
	ck_assert_uint_eq(wait_queue_look(q, &alice, &oldest), 2);
	ck_assert_uint_eq(oldest.order, 2);
	ck_assert_uint_eq(wait_queue_look(q, &bob, &oldest), 1);
	ck_assert_uint_eq(wait_queue_cancel(q, &alice, -ECANCELED), 2);
	ck_assert_uint_eq(wait_queue_look(q, &alice, &oldest), 0);
	ck_assert(wait_queue_remove(q, &r[0].w));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wait_queue");
	TCase *c = tcase_create("wait_queue");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, first_come_first_served);
	tcase_add_test(c, overtaking);
	tcase_add_test(c, this_node_only);
	tcase_add_test(c, high_zones_only);
	tcase_add_test(c, much_at_once_serves_by_age);
	tcase_add_test(c, many_caches_and_blocks_by_age);
	tcase_add_test(c, removing);
	tcase_add_test(c, cancelling_one_owner);
	tcase_add_test(c, failing);
	tcase_add_test(c, patience_ends);
	tcase_add_test(c, reclaim_is_for_the_freest);
	tcase_add_test(c, all_kinds_may_wait);
	tcase_add_test(c, whose_wait);
	tcase_add_test(c, no_wakeup_is_lost);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
