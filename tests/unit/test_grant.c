/* SPDX-License-Identifier: MIT */
/*
 * Granting, taking back, exchanging and waiting for blocks, over a real mm/ and control memory in
 * ordinary memory. The test plays the clients: it changes words and headers as they may. All
 * validators run after each step. Sessions that end and daemons that start again: test_sweep.c.
 */
#include "tests/suite.h"
#include "tests/unit/test_scene.h"

/* ---- one block ---- */

START_TEST(alloc_and_free)
{
	struct session *s = td_session(&t, "a");
	uint32_t order;

	for (order = 0; order <= MAX_PAGE_ORDER; order++) {
		pfn_t pfn = td_alloc(&t, s, GFP_KERNEL, order);
		uint64_t desc = atomic_load(&t.d->control.desc[pfn]);

		ck_assert_uint_eq(page_desc_kind(desc), PAGE_BLOCK);
		ck_assert_uint_eq(page_desc_order(desc), order);
		ck_assert_int_eq(!!(desc & PAGE_DESC_CACHEABLE), page_class(order, 0) >= 0);
		ck_assert_int_eq(charge(s), 1 << order);
		td_check(&t);
		ck_assert_int_eq(td_free(&t, s, pfn, order), 0);
		ck_assert_int_eq(charge(s), 0);
		ck_assert_uint_eq(atomic_load(&t.d->control.desc[pfn]), 0);
		td_check(&t);
	}
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(free_is_refused)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 2);
	uint64_t g = owner_generation(owner_load(td_word(&t, pfn)));
	const char *why = NULL;

	/* not marked returned; somebody else's; another order; no head; beyond the pool; never was
	 */
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 2, g, &why), -EPERM);
	ck_assert_ptr_nonnull(why);
	ck_assert_int_eq(grant_free(t.d, b, 0, pfn, 2, g, &why), -EPERM);
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 2, g + 1, &why), -ENOENT);
	ck_assert_int_eq(grant_free(t.d, a, 0, TD_FRAMES, 0, g, &why), -EINVAL);
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 11, g, &why), -EINVAL);
	ck_assert(td_change(&t, pfn, OWNER_HELD, a->id, OWNER_RETURNED, a->id));
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 1, g, &why), -EINVAL);
	ck_assert_int_eq(grant_free(t.d, b, 0, pfn, 2, g, &why), -EPERM);
	td_check(&t);
	ck_assert_int_eq(charge(a), 4);
	/* done, and done again */
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 2, g, &why), 0);
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 2, g, &why), 0);
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 2, g + 1, &why), -ENOENT);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
}
END_TEST

START_TEST(alloc_is_refused)
{
	struct session *s = td_session(&t, "a");
	const char *why = NULL;
	pfn_t pfn = 7;

	ck_assert_int_eq(grant_alloc(t.d, s, 0, GFP_KERNEL | __GFP_MEMALLOC, 0, &pfn, &why),
	                 -EPERM);
	ck_assert_int_eq(grant_alloc(t.d, s, 0, GFP_KERNEL, 11, &pfn, &why), -EINVAL);
	ck_assert_int_eq(grant_alloc(t.d, s, 0, __GFP_DMA | __GFP_DMA32, 0, &pfn, &why), -EINVAL);
	ck_assert_int_eq(grant_alloc(t.d, s, 0, 0x80000000u, 0, &pfn, &why), -EINVAL);
	s->pages_max = 3;
	ck_assert_int_eq(grant_alloc(t.d, s, 0, GFP_KERNEL, 2, &pfn, &why), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "3"));
	ck_assert_uint_eq(pfn, 7);
	ck_assert_int_eq(charge(s), 0);
}
END_TEST

START_TEST(a_spoiled_domain_grants_nothing)
{
	struct session *s = td_session(&t, "a");
	pfn_t pfn = td_alloc(&t, s, GFP_KERNEL, 0), none = 7;
	const char *why = NULL;
	magazine_id_t m;
	uint32_t n;

	atomic_store(&t.d->spoiled, true);
	ck_assert_int_eq(grant_alloc(t.d, s, 0, GFP_KERNEL, 0, &none, &why), -EIO);
	ck_assert_ptr_nonnull(strstr(why, "spoiled"));
	ck_assert_uint_eq(none, 7);
	ck_assert_int_eq(exchange_take(t.d, s, 0, GFP_KERNEL, 0, 4, &m, &n, &why), -EIO);
	ck_assert_int_eq(charge(s), 1);
	ck_assert_int_eq(td_free(&t, s, pfn, 0), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(exhaustion_rolls_back)
{
	struct session *s = td_session(&t, "a");
	const char *why;
	uint64_t n = 0;
	pfn_t pfn;
	int rc;

	while ((rc = grant_alloc(t.d, s, 0, GFP_NOWAIT, 10, &pfn, &why)) == 0)
		n++;
	ck_assert_int_eq(rc, -ENOMEM);
	ck_assert_int_eq(charge(s), (int64_t)(n << 10));
	td_check(&t);
	/* all are offers that nobody claimed */
	ck_assert_uint_eq(grant_withdraw_all(t.d, s), n << 10);
	ck_assert_int_eq(charge(s), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(withdrawn_offer_cannot_be_claimed)
{
	struct session *s = td_session(&t, "a");
	const char *why;
	pfn_t pfn;
	uint64_t w;

	ck_assert_int_eq(grant_alloc(t.d, s, 0, GFP_KERNEL, 0, &pfn, &why), 0);
	w = owner_load(td_word(&t, pfn));
	grant_withdraw(t.d, s, 0, pfn);
	ck_assert(!owner_cas(td_word(&t, pfn), &w, owner_moved(w, OWNER_HELD, s->id)));
	grant_withdraw(t.d, s, 0, pfn);
	/* a claimed one stays */
	pfn = td_alloc(&t, s, GFP_KERNEL, 0);
	grant_withdraw(t.d, s, 0, pfn);
	ck_assert_int_eq(charge(s), 1);
	td_check(&t);
}
END_TEST

START_TEST(collect_takes_what_is_cached)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t x = td_alloc(&t, a, GFP_KERNEL, 0), y = td_alloc(&t, a, GFP_KERNEL, 3);
	pfn_t z = td_alloc(&t, b, GFP_KERNEL, 0);

	ck_assert(td_change(&t, x, OWNER_HELD, a->id, OWNER_RETURNED, a->id));
	ck_assert(td_change(&t, z, OWNER_HELD, b->id, OWNER_RETURNED, b->id));
	ck_assert_uint_eq(grant_collect(t.d, a, MM_CPU_NONE), 1);
	td_check(&t);
	ck_assert(!td_change(&t, x, OWNER_RETURNED, a->id, OWNER_HELD, a->id));
	ck_assert_uint_eq(grant_collect(t.d, NULL, MM_CPU_NONE), 1);
	ck_assert_int_eq(charge(a), 8);
	ck_assert_int_eq(charge(b), 0);
	ck_assert_int_eq(td_free(&t, a, y, 3), 0);
}
END_TEST

/* ---- magazines ---- */

START_TEST(exchange_there_and_back)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t pfn[MAGAZINE_ROUNDS_MAX];
	uint32_t n, got, accepted, listed;
	magazine_id_t m, again;
	const char *why;

	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 0, 31, &m, &n, &why), 0);
	ck_assert_uint_eq(n, 31);
	td_check(&t);
	got = td_take(&t, a, m, pfn);
	ck_assert_uint_eq(got, 31);
	ck_assert_int_eq(charge(a), 31);
	td_check(&t);
	td_load(&t, a, m, pfn, got);
	exchange_give(t.d, a, 0, m, &accepted, &listed);
	ck_assert_uint_eq(accepted, 31);
	ck_assert_uint_eq(listed, 31);
	ck_assert_int_eq(charge(a), 0);
	ck_assert_uint_eq(depot_frames(t.d->depot), 31);
	td_check(&t);
	/* told again: nothing */
	exchange_give(t.d, a, 0, m, &accepted, &listed);
	ck_assert_uint_eq(listed, 0);
	/* another session gets that very magazine; what it did not ask for goes to the zones */
	ck_assert_int_eq(exchange_take(t.d, b, 0, GFP_KERNEL, 0, 20, &again, &n, &why), 0);
	ck_assert_uint_eq(again.nr, m.nr);
	ck_assert_uint_eq(n, 20);
	ck_assert_int_eq(charge(b), 20);
	ck_assert_uint_eq(depot_frames(t.d->depot), 0);
	td_check(&t);
	exchange_withdraw(t.d, b, 0, again);
	ck_assert_int_eq(charge(b), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(exchange_checks_rounds)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t mine[3], other = td_alloc(&t, b, GFP_KERNEL, 0);
	struct magazine *mag;
	uint32_t accepted, listed, i;
	magazine_id_t m;
	uint64_t h;

	for (i = 0; i < 3; i++)
		mine[i] = td_alloc(&t, a, GFP_KERNEL, 0);
	ck_assert_int_eq(exchange_empty(t.d, a, &m), 0);
	mag = &t.d->control.magazine[m.nr];
	td_load(&t, a, m, mine, 3);
	/* listed besides: somebody else's, one of them twice, nonsense, beyond the pool */
	atomic_store(&mag->round[3], domain_granule(t.d, other));
	atomic_store(&mag->round[4], domain_granule(t.d, mine[0]));
	atomic_store(&mag->round[5], 5);
	atomic_store(&mag->round[6], UINT32_MAX);
	h = magazine_load(mag);
	ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, 7)));
	exchange_give(t.d, a, 0, m, &accepted, &listed);
	ck_assert_uint_eq(listed, 7);
	ck_assert_uint_eq(accepted, 3); /* the one listed twice counts once */
	ck_assert_int_eq(charge(a), 0);
	ck_assert_int_eq(charge(b), 1);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
	td_check(&t);
	/* not its own magazine */
	exchange_give(t.d, b, 0, m, &accepted, &listed);
	ck_assert_uint_eq(listed, 0);
	exchange_give(t.d, b, 0, (magazine_id_t){ TD_MAGAZINES }, &accepted, &listed);
	ck_assert_uint_eq(listed, 0);
}
END_TEST

/* A frame that stands twice in a magazine of the depot is offered once. */
START_TEST(exchange_offers_once)
{
	struct session *a = td_session(&t, "a");
	pfn_t pfn[4], out[MAGAZINE_ROUNDS_MAX];
	uint32_t accepted, listed, i, n;
	magazine_id_t m;
	const char *why;

	for (i = 0; i < 4; i++)
		pfn[i] = td_alloc(&t, a, GFP_KERNEL, 0);
	ck_assert_int_eq(exchange_empty(t.d, a, &m), 0);
	td_load(&t, a, m, pfn, 4);
	exchange_give(t.d, a, 0, m, &accepted, &listed);
	ck_assert_uint_eq(depot_frames(t.d->depot), 4);
	atomic_store(&t.d->control.magazine[m.nr].round[1], domain_granule(t.d, pfn[0]));
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 0, 8, &m, &n, &why), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_int_eq(charge(a), 3);
	ck_assert_uint_eq(td_take(&t, a, m, out), 3);
	/* the scribbled-over one still names the magazine, which is lent: the sweep frees it */
	session_end(a);
	ck_assert_int_eq(charge(a), 0);
	ck_assert(td_free_frames(&t) + 1 >= all_free);
	/* what is lost to the scribbler is named by a word that no magazine lists; it comes back
	 * with the next start */
	td_restart(&t);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(exchange_limits)
{
	struct session *a = td_session(&t, "a");
	magazine_id_t m[TD_MAGAZINES];
	uint32_t n, lent = 0;
	const char *why;
	uint64_t h;

	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 5, 1, m, &n, &why), -EINVAL);
	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL | __GFP_DMA, 0, 1, m, &n, &why),
	                 -EINVAL);
	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL | __GFP_MEMALLOC, 0, 1, m, &n, &why),
	                 -EPERM);
	a->pages_max = 5;
	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 1, 8, m, &n, &why), 0);
	ck_assert_uint_eq(n, 2); /* what the quota allows */
	lent = 1;
	ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 1, 8, &m[1], &n, &why), -EDQUOT);
	while (exchange_empty(t.d, a, &m[lent]) == 0)
		lent++;
	ck_assert_uint_eq(lent, TD_MAGAZINES / 8);
	td_check(&t);
	/* the client gives one up by itself: it is found and lent again */
	h = magazine_load(&t.d->control.magazine[m[3].nr]);
	ck_assert(magazine_cas(&t.d->control.magazine[m[3].nr], &h,
	                       magazine_next(h, MAGAZINE_EMPTY, 0, 0)));
	ck_assert_int_eq(exchange_empty(t.d, a, &m[lent]), 0);
	td_check(&t);
	session_end(a);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(no_magazine_rolls_back)
{
	struct session *s[TD_MAGAZINES];
	magazine_id_t m;
	uint32_t i, n, lent = 0;
	const char *why;

	for (i = 0; lent < TD_MAGAZINES; i++) {
		s[i] = td_session(&t, "x");
		while (exchange_empty(t.d, s[i], &m) == 0)
			lent++;
	}
	s[i] = td_session(&t, "last");
	ck_assert_int_eq(exchange_take(t.d, s[i], 0, GFP_KERNEL, 0, 4, &m, &n, &why), -EAGAIN);
	ck_assert_int_eq(charge(s[i]), 0);
	ck_assert_uint_eq(atomic_load(&s[i]->magazines), 0);
}
END_TEST

/* ---- waiting ---- */

struct waiting {
	struct waiter w;
	struct session *s;
	pfn_t pfn;
	int result;
	unsigned int woken;
};

static int waiting_try(struct waiter *w)
{
	struct waiting *x = (struct waiting *)w;
	const char *why;

	return grant_alloc(t.d, x->s, MM_CPU_NONE, w->gfp, w->order, &x->pfn, &why);
}

static void waiting_wake(struct waiter *w, int result)
{
	((struct waiting *)w)->result = result;
	((struct waiting *)w)->woken++;
}

START_TEST(frees_serve_who_waits)
{
	struct session *s = td_session(&t, "a");
	struct waiting x = {
		.w = { .gfp = GFP_KERNEL, .order = 3, .try = waiting_try, .wake = waiting_wake },
		.s = s
	};
	const char *why;
	pfn_t pfn, last = PFN_NONE;

	while (grant_alloc(t.d, s, 0, GFP_KERNEL, 3, &pfn, &why) == 0) {
		ck_assert(td_change(&t, pfn, OWNER_OFFERED, s->id, OWNER_HELD, s->id));
		last = pfn;
	}
	ck_assert_int_eq(wait_queue_add(t.d->waiters, &x.w), 0);
	wait_queue_kick(t.d->waiters);
	ck_assert_uint_eq(x.woken, 0);
	ck_assert_uint_eq(atomic_load(&t.d->control.status->pressure), 1);
	ck_assert_int_eq(td_free(&t, s, last, 3), 0);
	ck_assert_uint_eq(x.woken, 1);
	ck_assert_int_eq(x.result, 0);
	ck_assert_uint_eq(x.pfn, last);
	ck_assert_uint_eq(atomic_load(&t.d->control.status->pressure), 0);
	td_check(&t);
	session_end(s);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* ---- everything at random ---- */

START_TEST(random_operations)
{
	enum { SESSIONS = 4, BLOCKS = 400, STEPS = 20000 };
	struct session *s[SESSIONS];
	struct {
		pfn_t pfn;
		uint32_t order, who;
	} b[BLOCKS];
	uint32_t n = 0, i, step;
	const char *why;

	srand(42);
	for (i = 0; i < SESSIONS; i++)
		s[i] = td_session(&t, "r");
	for (step = 0; step < STEPS; step++) {
		uint32_t who = (uint32_t)rand() % SESSIONS, at = n ? (uint32_t)rand() % n : 0;
		uint32_t to = (uint32_t)rand() % SESSIONS;

		switch (rand() % 8) {
		case 0:
		case 1:
		case 2:
		case 3:
			if (n == BLOCKS)
				break;
			b[n].order = (uint32_t)rand() % 4;
			b[n].who = who;
			b[n].pfn = td_alloc(&t, s[who], GFP_KERNEL, b[n].order);
			n++;
			break;
		case 4:
		case 5:
			if (!n)
				break;
			ck_assert_int_eq(td_free(&t, s[b[at].who], b[at].pfn, b[at].order), 0);
			b[at] = b[--n];
			break;
		case 6:
			if (!n)
				break;
			ck_assert_int_eq(grant_send(t.d, s[b[at].who],
			                            domain_granule(t.d, b[at].pfn),
			                            td_generation(&t, b[at].pfn), s[to], &why),
			                 0);
			b[at].who = to;
			break;
		case 7:
			if (rand() % 50)
				break;
			session_end(s[who]);
			for (i = 0; i < n;)
				if (b[i].who == who)
					b[i] = b[--n];
				else
					i++;
			s[who] = td_session(&t, "r");
			break;
		}
		if (step % 500 == 0)
			td_check(&t);
	}
	for (i = 0; i < SESSIONS; i++)
		session_end(s[i]);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("grant");
	TCase *c = tcase_create("grant");

	tcase_add_checked_fixture(c, scene_setup, scene_teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, alloc_and_free);
	tcase_add_test(c, free_is_refused);
	tcase_add_test(c, alloc_is_refused);
	tcase_add_test(c, a_spoiled_domain_grants_nothing);
	tcase_add_test(c, exhaustion_rolls_back);
	tcase_add_test(c, withdrawn_offer_cannot_be_claimed);
	tcase_add_test(c, collect_takes_what_is_cached);
	tcase_add_test(c, exchange_there_and_back);
	tcase_add_test(c, exchange_checks_rounds);
	tcase_add_test(c, exchange_offers_once);
	tcase_add_test(c, exchange_limits);
	tcase_add_test(c, no_magazine_rolls_back);
	tcase_add_test(c, frees_serve_who_waits);
	tcase_add_test(c, random_operations);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
