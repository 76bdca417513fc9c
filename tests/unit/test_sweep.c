/* SPDX-License-Identifier: MIT */
/*
 * Blocks that several sessions have to do with, sessions that end, daemons that start again, and
 * members that scribble, over a real mm/ and control memory in ordinary memory. The test plays the
 * clients: it changes words and headers as they may, and as they may not. All validators run after
 * each step.
 */
#include "tests/suite.h"
#include "tests/unit/test_scene.h"

#include <unistd.h>

static int ends;

static void note_end(struct session_end_wait *w)
{
	(void)w;
	ends++;
}

/* ---- sharing ---- */

START_TEST(send_moves_the_charge)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 1);
	uint32_t g = td_generation(&t, pfn), granule = domain_granule(t.d, pfn);
	const char *why;

	b->pages_max = 1;
	ck_assert_int_eq(grant_send(t.d, a, granule, g, b, &why), -EDQUOT);
	/* whose it is comes before the quota */
	ck_assert_int_eq(grant_send(t.d, td_session(&t, "d"), granule, g, b, &why), -EPERM);
	ck_assert_int_eq(grant_send(t.d, a, granule, g + 1, b, &why), -ESTALE);
	ck_assert(owner_is(owner_load(td_word(&t, pfn)), OWNER_HELD, a->id));
	b->pages_max = 0;
	ck_assert_int_eq(grant_send(t.d, b, granule, g, a, &why), 0); /* a has it: as if done */
	ck_assert_int_eq(grant_send(t.d, a, granule, g + 1, b, &why), -ESTALE);
	ck_assert_int_eq(grant_send(t.d, a, granule, g, b, &why), 0);
	ck_assert_int_eq(grant_send(t.d, a, granule, g, b, &why), 0);
	ck_assert_int_eq(grant_send(t.d, a, granule, g, td_session(&t, "c"), &why), -EPERM);
	ck_assert_int_eq(charge(a), 0);
	ck_assert_int_eq(charge(b), 2);
	td_check(&t);
	/* the sender's end leaves it, the receiver's does not */
	session_end(a);
	td_check(&t);
	ck_assert(owner_is(owner_load(td_word(&t, pfn)), OWNER_HELD, b->id));
	session_end(b);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(holders_keep_a_block)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b"), *c = td_session(&t, "c");
	pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 0);
	uint32_t g = td_generation(&t, pfn), granule = domain_granule(t.d, pfn);
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, b, granule, g + 1, &why), -ESTALE);
	ck_assert_int_eq(grant_hold(t.d, b, granule + 1, g, &why), -ESTALE);
	ck_assert_int_eq(grant_hold(t.d, b, UINT32_MAX, g, &why), -EINVAL);
	ck_assert_int_eq(grant_hold(t.d, b, granule, g, &why), 0);
	ck_assert_int_eq(grant_hold(t.d, b, granule, g, &why), 0);
	ck_assert_uint_eq(atomic_load(&b->holds), 1);
	ck_assert_int_eq(grant_hold(t.d, c, granule, g, &why), 0);
	td_check(&t);
	/* the owner gives up: it lives on, a holder is charged, the handle stays good */
	ck_assert_int_eq(td_free(&t, a, pfn, 0), 0);
	ck_assert(owner_is(owner_load(td_word(&t, pfn)), OWNER_HELD, 0));
	ck_assert_uint_eq(td_generation(&t, pfn), g);
	ck_assert_int_eq(charge(a), 0);
	ck_assert_int_eq(charge(b) + charge(c), 1);
	td_check(&t);
	/* it can still be held, by whoever has a live pointer */
	ck_assert_int_eq(grant_hold(t.d, a, granule, g, &why), 0);
	ck_assert_int_eq(grant_release(t.d, a, 0, granule, &why), 0);
	session_end(b);
	ck_assert_int_eq(charge(c), 1);
	td_check(&t);
	ck_assert_int_eq(grant_release(t.d, c, 0, granule, &why), 0);
	ck_assert_int_eq(grant_release(t.d, c, 0, granule, &why), 0);
	ck_assert_uint_eq(atomic_load(&c->holds), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	ck_assert_int_eq(grant_hold(t.d, c, granule, g, &why), -ESTALE);
}
END_TEST

START_TEST(an_ending_holder_inherits_nothing)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b"), *c = td_session(&t, "c");
	pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 0);
	uint32_t g = td_generation(&t, pfn), granule = domain_granule(t.d, pfn);
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, b, granule, g, &why), 0);
	ck_assert(session_enter(b));
	session_end(b);
	/* b is the heir, but it ends: a is charged until the sweep of b names the next */
	ck_assert_int_eq(td_free(&t, a, pfn, 0), 0);
	ck_assert_int_eq(charge(a), 1);
	ck_assert_int_eq(charge(b), 0);
	ck_assert_int_eq(grant_hold(t.d, c, granule, g, &why), 0);
	session_leave(b);
	ck_assert_int_eq(charge(a), 0);
	ck_assert_int_eq(charge(c), 1);
	td_check(&t);
	session_end(c);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(ends_are_told_once)
{
	struct session *s = td_session(&t, "a");
	struct session_end_wait early = { .done = note_end }, inside = { .done = note_end }, late;

	ends = 0;
	ck_assert(session_end_wait(s, &early));
	ck_assert(session_enter(s));
	session_end(s);
	ck_assert(session_end_wait(s, &inside)); /* ended, not swept */
	ck_assert_int_eq(ends, 0);
	session_leave(s);
	ck_assert_int_eq(ends, 2);
	ck_assert(!session_end_wait(s, &late));
}
END_TEST

START_TEST(killing_without_a_process)
{
	struct session *s = td_session(&t, "a");

	td_alloc(&t, s, GFP_KERNEL, 0);
	ck_assert(session_enter(s));
	ck_assert_int_eq(session_kill(s), -ESRCH);
	atomic_store(&s->state, SESSION_DETACHED);
	ck_assert_int_eq(session_kill(s), 0);
	ck_assert_uint_eq(atomic_load(&s->state), SESSION_SWEEPING);
	session_leave(s);
	ck_assert_uint_eq(atomic_load(&s->state), SESSION_FREE);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(what_proves_a_death)
{
	uint64_t start = session_start_time(getpid());
	int fd;

	ck_assert_uint_ne(start, 0);
	fd = session_process_open(getpid(), start);
	ck_assert_int_ge(fd, 0);
	close(fd);
	fd = session_process_open(getpid(), 0); /* not known: not proven */
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(session_process_open(getpid(), start + 1), -1);
}
END_TEST

START_TEST(hold_limits)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t held = PFN_NONE;
	const char *why;
	uint32_t i;

	for (i = 0; i < TD_HOLDERS - 1; i++) {
		pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 0);

		held = pfn;
		ck_assert_int_eq(
			grant_hold(t.d, b, domain_granule(t.d, pfn), td_generation(&t, pfn), &why),
			0);
	}
	for (i = 0; i < 2; i++) { /* the session's limit, then the table's */
		pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 0);
		int rc = grant_hold(t.d, i ? a : b, domain_granule(t.d, pfn),
		                    td_generation(&t, pfn), &why);

		ck_assert_int_eq(rc, i ? 0 : -EDQUOT);
		/* at the limit, what it holds already */
		ck_assert_int_eq(grant_hold(t.d, b, domain_granule(t.d, held),
		                            td_generation(&t, held), &why),
		                 0);
		ck_assert_uint_eq(atomic_load(&b->holds), TD_HOLDERS - 1);
	}
	{
		pfn_t pfn = td_alloc(&t, a, GFP_KERNEL, 0);

		ck_assert_int_eq(
			grant_hold(t.d, a, domain_granule(t.d, pfn), td_generation(&t, pfn), &why),
			-EDQUOT);
		ck_assert_uint_eq(atomic_load(&a->holds), 1);
	}
	td_check(&t);
	session_end(b);
	session_end(a);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(adoption_is_charged_later)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t x = td_alloc(&t, a, GFP_KERNEL, 0), y = td_alloc(&t, a, GFP_KERNEL, 0);

	/* b adopts x without telling the daemon */
	atomic_fetch_or(&b->shared->section[0], UINT64_C(1) << (x >> TD_SECTION_ORDER));
	ck_assert(td_change(&t, x, OWNER_HELD, a->id, OWNER_HELD, b->id));
	ck_assert_int_eq(charge(a), 2);
	td_check(&t);
	grant_recharge(t.d, a);
	ck_assert_int_eq(charge(a), 1);
	ck_assert_int_eq(charge(b), 1);
	td_check(&t);
	/* adopted back, and the lender dies without a recharge */
	ck_assert(td_change(&t, y, OWNER_HELD, a->id, OWNER_HELD, b->id));
	session_end(a);
	ck_assert_int_eq(charge(a), 0);
	ck_assert_int_eq(charge(b), 2);
	td_check(&t);
	session_end(b);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* ---- sweeps ---- */

/* A session in the middle of everything. */
static struct session *busy_session(struct session *other, pfn_t *theirs)
{
	struct session *s = td_session(&t, "busy");
	pfn_t out[MAGAZINE_ROUNDS_MAX], pfn;
	const char *why;
	magazine_id_t m;
	uint32_t n, got;

	td_alloc(&t, s, GFP_KERNEL, 4);                                         /* held */
	ck_assert_int_eq(grant_alloc(t.d, s, 0, GFP_KERNEL, 0, &pfn, &why), 0); /* offered */
	pfn = td_alloc(&t, s, GFP_KERNEL, 0);
	ck_assert(td_change(&t, pfn, OWNER_HELD, s->id, OWNER_RETURNED, s->id));       /* cached */
	ck_assert_int_eq(exchange_take(t.d, s, 0, GFP_KERNEL, 0, 7, &m, &n, &why), 0); /* offered */
	ck_assert_int_eq(exchange_take(t.d, s, 0, GFP_KERNEL, 1, 7, &m, &n, &why), 0);
	got = td_take(&t, s, m, out); /* loaded, half of it back in the magazine */
	ck_assert(td_change(&t, out[0], OWNER_HELD, s->id, OWNER_MAGAZINE, m.nr));
	ck_assert(td_change(&t, out[1], OWNER_HELD, s->id, OWNER_MAGAZINE, m.nr));
	ck_assert_uint_gt(got, 2);
	ck_assert_int_eq(exchange_take(t.d, s, 0, GFP_KERNEL, 2, 3, &m, &n, &why), 0);
	got = td_take(&t, s, m, out);
	td_load(&t, s, m, out, got); /* given, but not told */
	*theirs = td_alloc(&t, other, GFP_KERNEL, 0);
	ck_assert_int_eq(
		grant_hold(t.d, s, domain_granule(t.d, *theirs), td_generation(&t, *theirs), &why),
		0);
	ck_assert_int_eq(td_free(&t, other, *theirs, 0), 0); /* only s holds it now */
	td_check(&t);
	return s;
}

START_TEST(sweep_frees_everything)
{
	struct session *other = td_session(&t, "other"), *s;
	uint32_t id;
	pfn_t pfn;

	s = busy_session(other, &pfn);
	id = s->id;
	ck_assert_int_gt(charge(s), 0);
	session_end(s);
	ck_assert_int_eq(charge(s), 0);
	ck_assert_uint_eq(atomic_load(&s->state), SESSION_FREE);
	ck_assert_uint_eq(atomic_load(&s->record->word), 0);
	td_check(&t);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	/* the id is the last to be used again */
	ck_assert_uint_ne(td_session(&t, "next")->id, id);
}
END_TEST

START_TEST(sweep_waits_for_those_inside)
{
	struct session *s = td_session(&t, "a");

	td_alloc(&t, s, GFP_KERNEL, 0);
	ck_assert(session_enter(s));
	session_end(s);
	ck_assert_uint_eq(atomic_load(&s->state), SESSION_SWEEPING);
	ck_assert(!session_enter(s));
	ck_assert_int_eq(charge(s), 1);
	session_leave(s);
	ck_assert_uint_eq(atomic_load(&s->state), SESSION_FREE);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(session_ids_run_out)
{
	struct session_peer peer = { .pidfd = -1 };
	struct session *s = NULL, *first = td_session(&t, "first");
	uint32_t n = 1;

	while (session_create(t.kmmd.sessions, &peer, "more", &s) == 0)
		n++;
	ck_assert_uint_eq(n, TD_SESSIONS - 1);
	ck_assert_int_eq(session_create(t.kmmd.sessions, &peer, "more", &s), -EDQUOT);
	session_end(first);
	ck_assert_int_eq(session_create(t.kmmd.sessions, &peer, "again", &s), 0);
	ck_assert_ptr_eq(s, first);
}
END_TEST

/* ---- damage ---- */

START_TEST(scribbled_words_do_no_harm)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t x = td_alloc(&t, a, GFP_KERNEL, 1), y = td_alloc(&t, a, GFP_KERNEL, 0);
	const char *why;
	uint64_t w;

	/* an inner frame and a free one are said to be returned */
	w = owner_load(td_word(&t, x + 1));
	owner_store(td_word(&t, x + 1), owner_moved(w, OWNER_RETURNED, a->id));
	ck_assert_int_eq(grant_free(t.d, a, 0, x + 1, 0, owner_generation(w), &why), -ENOENT);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 1);
	ck_assert_uint_eq(atomic_load(&t.d->control.status->damaged), 1);
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
	grant_collect(t.d, NULL, MM_CPU_NONE);
	ck_assert_int_eq(charge(a), 3);
	owner_store(td_word(&t, x + 1), w);
	td_check(&t);
	/* kinds and owners of nobody */
	w = owner_load(td_word(&t, y));
	owner_store(td_word(&t, y), owner_moved(w, (enum owner_kind)7, 99));
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	grant_recharge(t.d, a);
	session_end(b);
	owner_store(td_word(&t, y), owner_moved(w, OWNER_HELD, b->id));
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	session_end(a);
	ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
	ck_assert_int_eq(charge(a), 0);
	owner_store(td_word(&t, y), owner_moved(w, OWNER_RETURNED, b->id));
	grant_collect(t.d, NULL, MM_CPU_NONE);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(scribbled_magazines_do_no_harm)
{
	struct session *a = td_session(&t, "a");
	uint32_t m, i, n;
	magazine_id_t got;
	const char *why;

	srand(1);
	for (m = 0; m < TD_MAGAZINES; m++) {
		atomic_store(&t.d->control.magazine[m].header,
		             (uint64_t)rand() << 40 ^ (uint64_t)rand() << 20 ^ (uint64_t)rand());
		for (i = 0; i < MAGAZINE_ROUNDS_MAX; i++)
			atomic_store(&t.d->control.magazine[m].round[i], (uint32_t)rand() * 3u);
	}
	for (i = 0; i < 6; i++)
		ck_assert_int_eq(exchange_take(t.d, a, 0, GFP_KERNEL, 0, 10, &got, &n, &why), 0);
	grant_withdraw_all(t.d, a);
	session_end(a);
	ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	td_restart(&t);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* ---- restart ---- */

START_TEST(restart_keeps_what_is_held)
{
	struct session *other = td_session(&t, "other"), *s;
	uint32_t id, other_id = other->id, token;
	pfn_t pfn, held[3], i;

	for (i = 0; i < 3; i++)
		held[i] = td_alloc(&t, other, GFP_KERNEL | __GFP_MOVABLE, i);
	s = busy_session(other, &pfn);
	id = s->id;
	memcpy(&token, s->record->token, 4);
	td_restart(&t);
	td_check(&t);
	s = session_by_id(t.kmmd.sessions, id);
	other = session_by_id(t.kmmd.sessions, other_id);
	ck_assert_uint_eq(atomic_load(&s->state), SESSION_DETACHED);
	ck_assert_mem_eq(&token, s->record->token, 4);
	ck_assert_int_eq(charge(other), 7);
	for (i = 0; i < 3; i++)
		ck_assert(owner_is(owner_load(td_word(&t, held[i])), OWNER_HELD, other_id));
	/* held 16, of the magazine it was emptying 7 * 2, and what it alone holds of the other's */
	ck_assert_int_eq(charge(s), 16 + 14 + 1);
	ck_assert_uint_eq(atomic_load(&s->holds), 1);
	ck_assert_uint_eq(atomic_load(&s->magazines), 1);
	/* once more, then the end */
	td_restart(&t);
	td_check(&t);
	s = session_by_id(t.kmmd.sessions, id);
	session_end(s);
	td_check(&t);
	session_end(session_by_id(t.kmmd.sessions, other_id));
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(restart_sweeps_again)
{
	struct session *other = td_session(&t, "other"), *s;
	uint32_t id, other_id = other->id;
	pfn_t pfn;

	s = busy_session(other, &pfn);
	id = s->id;
	/* dead when the sweep had only begun */
	atomic_store(&s->record->word, SESSION_RECORD_SWEEPING);
	td_restart(&t);
	td_check(&t);
	ck_assert_uint_eq(atomic_load(&session_by_id(t.kmmd.sessions, id)->record->word), 0);
	session_end(session_by_id(t.kmmd.sessions, other_id));
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(restart_reports_words_of_nobody)
{
	struct session *s = td_session(&t, "a");
	pfn_t x = td_alloc(&t, s, GFP_KERNEL, 0), y = td_alloc(&t, s, GFP_KERNEL, 0);
	uint64_t w = owner_load(td_word(&t, x));
	uint32_t id = s->id;

	owner_store(td_word(&t, x), owner_moved(w, OWNER_HELD, 200)); /* no such session */
	owner_store(td_word(&t, y + 1000),
	            owner_moved(owner_load(td_word(&t, y + 1000)), OWNER_AREA, 3));
	td_restart(&t);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 2);
	ck_assert_uint_eq(domain_validate(t.d, td_silent, NULL),
	                  1); /* the block stays out of use */
	session_end(session_by_id(t.kmmd.sessions, id));
	ck_assert_uint_eq(td_free_frames(&t), all_free - 1);
	owner_store(td_word(&t, x), owner_reborn(w, OWNER_FREE, 0));
	td_restart(&t);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* KEPT and the holder table part when the daemon dies between the two. */
START_TEST(restart_corrects_kept)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	pfn_t x = td_alloc(&t, a, GFP_KERNEL, 0), y = td_alloc(&t, a, GFP_KERNEL, 0);
	uint32_t a_id = a->id, b_id = b->id;
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, b, domain_granule(t.d, x), td_generation(&t, x), &why), 0);
	atomic_fetch_and(td_word(&t, x), ~OWNER_KEPT);
	atomic_fetch_or(td_word(&t, y), OWNER_KEPT);
	ck_assert_uint_eq(domain_validate(t.d, td_silent, NULL), 2);
	td_restart(&t);
	td_check(&t);
	ck_assert(owner_load(td_word(&t, x)) & OWNER_KEPT);
	ck_assert(!(owner_load(td_word(&t, y)) & OWNER_KEPT));
	session_end(session_by_id(t.kmmd.sessions, a_id));
	ck_assert_uint_eq(td_free_frames(&t), all_free - 1);
	session_end(session_by_id(t.kmmd.sessions, b_id));
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sweep");
	TCase *c = tcase_create("sweep");

	tcase_add_checked_fixture(c, scene_setup, scene_teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, send_moves_the_charge);
	tcase_add_test(c, holders_keep_a_block);
	tcase_add_test(c, an_ending_holder_inherits_nothing);
	tcase_add_test(c, hold_limits);
	tcase_add_test(c, ends_are_told_once);
	tcase_add_test(c, killing_without_a_process);
	tcase_add_test(c, what_proves_a_death);
	tcase_add_test(c, adoption_is_charged_later);
	tcase_add_test(c, sweep_frees_everything);
	tcase_add_test(c, sweep_waits_for_those_inside);
	tcase_add_test(c, session_ids_run_out);
	tcase_add_test(c, restart_keeps_what_is_held);
	tcase_add_test(c, restart_sweeps_again);
	tcase_add_test(c, restart_corrects_kept);
	suite_add_tcase(suite, c);
	/* these leave findings behind: no validation at their end */
	c = tcase_create("damage");
	tcase_add_checked_fixture(c, scene_setup, scene_teardown_unchecked);
	tcase_add_test(c, scribbled_words_do_no_harm);
	tcase_add_test(c, scribbled_magazines_do_no_harm);
	tcase_add_test(c, restart_reports_words_of_nobody);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
