/* SPDX-License-Identifier: MIT */
/*
 * Pages of the high zones over restarts: moved ones, a map that somebody overwrote, a death at any
 * instruction of a move; and movers that race with owners who map, free, send and hold.
 */
#include "tests/unit/test_move.h"

#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- restarts ---- */

START_TEST(moved_pages_survive_a_restart)
{
	uint32_t page[40], i, round;
	pfn_t at[40];

	for (i = 0; i < 40; i++) {
		page[i] = i % 2 ? high_page(a) : td_alloc(&t, b, GFP_HIGHUSER, 0);
		fill(page[i], i);
	}
	for (round = 0; round < 5; round++) {
		uint32_t b_id = b->id, a_id = a->id;

		for (i = 0; i < 40; i++)
			ck_assert_int_eq(move(page[(i * 7 + round) % 40]), 0);
		for (i = 0; i < 40; i++)
			at[i] = domain_frame_of(t.d, page[i]);
		td_restart(&t);
		td_check(&t);
		a = session_by_id(t.kmmd.sessions, a_id);
		b = session_by_id(t.kmmd.sessions, b_id);
		for (i = 0; i < 40; i++) {
			ck_assert_uint_eq(domain_frame_of(t.d, page[i]), at[i]);
			ck_assert(filled(page[i], i));
		}
		ck_assert_int_eq(atomic_load(&a->charge), 20);
	}
	for (i = 0; i < 40; i++)
		ck_assert_int_eq(td_free(&t, i % 2 ? a : b, page[i], 0), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

static uint32_t index_of(uint32_t page)
{
	return page - TD_FRAMES;
}

static int restart_fails(void)
{
	int r;

	td_stop(&t);
	r = td_start(&t, true);
	if (r < 0) {
		t.d = NULL;
		t.pool.mm = mm_free(t.pool.mm);
	}
	return r;
}

START_TEST(a_map_that_is_no_permutation)
{
	uint32_t page = high_page(a), id = a->id;
	_Atomic uint32_t *map = t.pool.ledger.high;
	uint32_t mine = map[index_of(page)], free1 = map[3], free2 = map[4];

	fill(page, 1);
	/* one pair is what a death leaves; the granted one keeps the frame */
	map[3] = mine;
	td_restart(&t);
	ck_assert_uint_eq(map[index_of(page)], mine);
	ck_assert_uint_eq(map[3], free1);
	a = session_by_id(t.kmmd.sessions, id);
	ck_assert(filled(page, 1));
	td_check(&t);
	/* also when it is found first or last */
	map[HIGH_FRAMES - 1] = mine;
	td_restart(&t);
	td_check(&t);
	ck_assert_uint_eq(map[index_of(page)], mine);
	ck_assert_uint_eq(map[HIGH_FRAMES - 1], HIGH_START + HIGH_FRAMES - 1);
	/* of two free ones, either */
	map[3] = free2;
	td_restart(&t);
	td_check(&t);
	/* more than that nobody has written */
	free1 = map[3];
	free2 = map[4];
	map[3] = map[4] = mine;
	ck_assert_int_eq(restart_fails(), -EUCLEAN);
	map[3] = HIGH_START - 1;
	map[4] = free2;
	ck_assert_int_eq(td_start(&t, true), -EUCLEAN);
	t.pool.mm = mm_free(t.pool.mm);
	map[3] = HIGH_START + HIGH_FRAMES;
	ck_assert_int_eq(td_start(&t, true), -EUCLEAN);
	t.pool.mm = mm_free(t.pool.mm);
	map[3] = free1;
	ck_assert_int_eq(td_start(&t, true), 0);
	ck_assert(filled(page, 1));
}
END_TEST

/* ---- deaths ---- */

static uint32_t death_page;
static pfn_t death_to;

/* The child: one move, then the end. */
static void child_moves(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	_exit(move_page(t.d, domain_frame_of(t.d, death_page), death_to) ? 1 : 0);
}

/* Kills a child after so many instructions; false: it had ended before. How many it took. */
static bool die_after(unsigned long steps, unsigned long *took)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		child_moves();
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSTOPPED(status));
	for (*took = 0; *took < steps && WIFSTOPPED(status); ++*took) {
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	}
	if (WIFEXITED(status)) {
		ck_assert_int_eq(WEXITSTATUS(status), 0);
		return false;
	}
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return true;
}

#define STEPS_MAX 1000000ul
#define DEATHS 60ul
#define STEPS_ALL 400000ul /* of all deaths together, about: instrumented builds take more each */

/* Every so many-th instruction, beginning with the first; KMM_TEST_ALL: each. */
START_TEST(a_death_at_any_instruction)
{
	unsigned long steps, stride, all, before = 0, after = 0;
	uint32_t page = high_page(a), id = a->id;
	bool died = true;

	fill(page, 9);
	death_page = page;
	death_to = target();
	ck_assert(!die_after(STEPS_MAX, &all));
	td_restart(&t);
	a = session_by_id(t.kmmd.sessions, id);
	stride = all / DEATHS > all * all / (2 * STEPS_ALL) ? all / DEATHS :
	                                                      all * all / (2 * STEPS_ALL);
	if (getenv("KMM_TEST_ALL") || !stride)
		stride = 1;
	for (steps = 0; died; steps += stride) {
		pfn_t from = domain_frame_of(t.d, page);

		death_page = page;
		death_to = target();
		died = die_after(steps, &all);
		td_restart(&t);
		td_check(&t);
		a = session_by_id(t.kmmd.sessions, id);
		ck_assert(owner_is(owner_load(td_word(&t, page)), OWNER_HELD, id));
		ck_assert(filled(page, 9));
		ck_assert_int_eq(atomic_load(&a->charge), 1);
		ck_assert_uint_eq(td_free_frames(&t), all_free - 1);
		if (domain_frame_of(t.d, page) == from)
			before++;
		else
			after++;
	}
	/* it came to its end, and died on both sides of the commit */
	ck_assert(!died);
	ck_assert_uint_gt(before, 5);
	ck_assert_uint_gt(after, 1);
}
END_TEST

/* ---- races ---- */

#define RACERS 3u
#define RACE_PAGES 24u
#define RACE_ROUNDS 4000u
#define RACE_ROUNDS_MAX 2000000u
#define RACE_MOVES 300u

static _Atomic bool race_over;
static _Atomic uint32_t race_moves, race_bad;

/* kmap, as a client does it: MAPPED, then the descriptor. */
static bool race_map(uint32_t page, struct session *s)
{
	uint64_t w = owner_load(td_word(&t, page));

	for (;;) {
		if (owner_is(w, OWNER_MOVING, s->id)) {
			sched_yield();
			w = owner_load(td_word(&t, page));
		} else if (!owner_is(w, OWNER_HELD, s->id)) {
			return false;
		} else if (owner_cas(td_word(&t, page), &w, w | OWNER_MAPPED)) {
			return true;
		}
	}
}

static uint8_t *race_memory(uint32_t page)
{
	return t.pool.window + (size_t)page_desc_other(desc_of(page)) * FRAME;
}

static bool race_filled(uint32_t page, uint8_t value)
{
	const uint8_t *p = race_memory(page);

	return p[0] == value && memcmp(p, p + 1, FRAME - 1) == 0;
}

static void race_unmap(uint32_t page)
{
	uint64_t w = owner_load(td_word(&t, page));

	while (!owner_cas(td_word(&t, page), &w, w & ~OWNER_MAPPED))
		;
}

static void race_free(uint32_t page, struct session *s)
{
	uint64_t w = owner_load(td_word(&t, page));
	const char *why;

	for (;;) {
		if (owner_kind(w) == OWNER_MOVING) {
			sched_yield();
			w = owner_load(td_word(&t, page));
		} else if (owner_cas(td_word(&t, page), &w,
		                     owner_given_back(w, OWNER_RETURNED, s->id))) {
			break;
		}
	}
	if (grant_free(t.d, s, MM_CPU_NONE, page, 0, owner_generation(owner_load(td_word(&t, page))),
	               &why))
		atomic_fetch_add(&race_bad, 1);
}

static uint32_t race_alloc(struct session *s, gfp_t gfp)
{
	const char *why;
	uint32_t page;

	if (grant_alloc(t.d, s, MM_CPU_NONE, gfp, 0, &page, &why) ||
	    !td_change(&t, page, OWNER_OFFERED, s->id, OWNER_HELD, s->id))
		return UINT32_MAX;
	return page;
}

/* Allocates, writes, reads, hands on to its other session, holds, frees. */
static void *racer(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg * 77 + 1, i, round;
	struct session *own[2] = { td_session(&t, "one"), td_session(&t, "two") };
	uint32_t page[RACE_PAGES], value[RACE_PAGES], of[RACE_PAGES] = { 0 };
	const char *why;

	for (i = 0; i < RACE_PAGES; i++)
		page[i] = UINT32_MAX;
	for (round = 0; round < RACE_ROUNDS_MAX &&
	                (round < RACE_ROUNDS || atomic_load(&race_moves) < RACE_MOVES); round++) {
		seed = seed * 1664525 + 1013904223;
		i = seed >> 8 & 15;
		if (page[i] == UINT32_MAX) {
			of[i] = 0;
			page[i] = race_alloc(own[0], seed >> 20 & 1 ? GFP_HIGHUSER_MOVABLE :
			                                              GFP_HIGHUSER);
			if (page[i] == UINT32_MAX || page[i] < TD_FRAMES) {
				if (page[i] != UINT32_MAX)
					race_free(page[i], own[0]);
				page[i] = UINT32_MAX;
				continue;
			}
			value[i] = seed;
		}
		if (!race_map(page[i], own[of[i]])) {
			atomic_fetch_add(&race_bad, 1);
			continue;
		}
		if (value[i] != seed && !race_filled(page[i], (uint8_t)value[i]))
			atomic_fetch_add(&race_bad, 1);
		value[i] = seed;
		memset(race_memory(page[i]), (int)(value[i] & 0xff), FRAME);
		race_unmap(page[i]);
		switch (seed >> 26 & 7) {
		case 0:
			race_free(page[i], own[of[i]]);
			page[i] = UINT32_MAX;
			break;
		case 1:
			if (grant_send(t.d, own[of[i]], domain_granule(t.d, page[i]),
			               td_generation(&t, page[i]), own[!of[i]], &why))
				atomic_fetch_add(&race_bad, 1);
			of[i] = !of[i];
			break;
		case 2:
			if (grant_hold(t.d, own[!of[i]], domain_granule(t.d, page[i]),
			               td_generation(&t, page[i]), &why) ||
			    grant_release(t.d, own[!of[i]], MM_CPU_NONE,
			                  domain_granule(t.d, page[i]), &why))
				atomic_fetch_add(&race_bad, 1);
			break;
		default:
			break;
		}
	}
	for (i = 0; i < RACE_PAGES; i += 2)
		if (page[i] != UINT32_MAX)
			race_free(page[i], own[of[i]]);
	return NULL;
}

static void *mover(void *arg)
{
	uint32_t seed = 4711;

	(void)arg;
	while (!atomic_load(&race_over)) {
		struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = MM_CPU_NONE };
		struct mm_block claimed;
		pfn_t from, to;

		if (mm_alloc_pages(t.d->zones, &r, &to) || !mm_block_take(t.d->mm, to, &claimed))
			continue;
		do {
			seed = seed * 1664525 + 1013904223;
			from = HIGH_START + (seed >> 8) % HIGH_FRAMES;
		} while (!move_possible(t.d, from) && !atomic_load(&race_over));
		if (domain_frame_high(t.d, to) && move_page(t.d, from, to) == 0) {
			atomic_fetch_add(&race_moves, 1);
			to = from;
		}
		mm_free_pages(t.d->zones, MM_CPU_NONE, to, MM_FREE_DIRECT);
	}
	return NULL;
}

START_TEST(movers_race_with_owners)
{
	pthread_t thread[RACERS], moving;
	uintptr_t i;

	ck_assert_int_eq(pthread_create(&moving, NULL, mover, NULL), 0);
	for (i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, racer, (void *)i), 0);
	for (i = 0; i < RACERS; i++)
		pthread_join(thread[i], NULL);
	atomic_store(&race_over, true);
	pthread_join(moving, NULL);
	ck_assert_uint_eq(atomic_load(&race_bad), 0);
	ck_assert_uint_ge(atomic_load(&race_moves), RACE_MOVES);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
	td_check(&t);
	for (i = 1; i < TD_SESSIONS; i++) {
		struct session *s = session_by_id(t.kmmd.sessions, (uint32_t)i);

		if (s && s != a && s != b && atomic_load(&s->state) == SESSION_LIVE)
			session_end(s);
	}
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("move-recover");
	TCase *c = tcase_create("move-recover");

	tcase_add_checked_fixture(c, setup, scene_teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, moved_pages_survive_a_restart);
	tcase_add_test(c, a_map_that_is_no_permutation);
	tcase_add_test(c, a_death_at_any_instruction);
	tcase_add_test(c, movers_race_with_owners);
	suite_add_tcase(s, c);
	return suite_status(s);
}
