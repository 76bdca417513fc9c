/* SPDX-License-Identifier: MIT */
/*
 * The daemon's half of the rack: fetching what members left there, sweeping who died at each step of
 * a give and a take, and what members may scribble over it. The test plays the clients' half.
 */
#include "daemon/rack.h"
#include "tests/suite.h"
#include "tests/unit/test_exchange.h"

static struct magazine *shared(magazine_id_t m)
{
	return &t.d->control.magazine[m.nr];
}

static void change(magazine_id_t m, enum magazine_state state, uint32_t owner, uint32_t n)
{
	uint64_t h = magazine_load(shared(m));

	ck_assert(magazine_cas(shared(m), &h, magazine_next(h, state, owner, n)));
}

/* The header's half of a give: HELD objects of s into the magazine, then the rack; no slot. */
static void give_header(struct session *s, magazine_id_t m, const uint32_t granule[], uint32_t n)
{
	uint32_t i;

	atomic_store(&s->shared->racks, 1);
	for (i = 0; i < n; i++) {
		ck_assert(td_object_change(&t, granule[i], OWNER_HELD, s->id, OWNER_MAGAZINE,
		                           m.nr));
		atomic_store(&shared(m)->round[i], granule[i]);
	}
	atomic_store(&shared(m)->kind, MAGAZINE_OF_OBJECTS | c->id);
	change(m, MAGAZINE_RACK, 0, n);
}

static void give_slot(magazine_id_t m)
{
	ck_assert(control_rack_put(&t.d->control.rack[c->id], m.nr));
}

/* n objects of s in the rack. */
static magazine_id_t racked(struct session *s, uint32_t n)
{
	magazine_id_t m = take_held(s, n);

	give_header(s, m, out, n);
	give_slot(m);
	return m;
}

static void claim(struct session *s, magazine_id_t m)
{
	atomic_store(&s->shared->racks, 1);
	change(m, MAGAZINE_LOADED, s->id, magazine_count(magazine_load(shared(m))));
}

/* The words of n rounds become s's. */
static void unload(struct session *s, magazine_id_t m, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		uint32_t granule = atomic_load(&shared(m)->round[i]);

		td_note(&t, s, granule);
		ck_assert(td_object_change(&t, granule, OWNER_MAGAZINE, m.nr, OWNER_HELD, s->id));
	}
}

static uint64_t in_rack(void)
{
	struct rack_count *n = calloc(CONTROL_CACHES_MAX, sizeof(*n));
	uint64_t rounds;

	ck_assert_ptr_nonnull(n);
	rack_count(t.d, n);
	rounds = n[c->id].rounds;
	free(n);
	return rounds;
}

static uint32_t magazines(const struct session *s)
{
	return atomic_load(&s->magazines);
}

START_TEST(collected_into_the_depot_or_the_slabs)
{
	struct cache *other = td_cache(&t, a, "others", 64, false);
	magazine_id_t m = racked(a, 20);

	ck_assert_uint_eq(in_rack(), 20);
	ck_assert_uint_eq(magazines(a), 1);
	td_check(&t);
	ck_assert_uint_eq(rack_collect(t.d, other->id, 0, true), 0);
	ck_assert_uint_eq(rack_collect(t.d, c->id, 0, true), 20);
	ck_assert(!control_rack_says(&t.d->control.rack[c->id], m.nr));
	ck_assert_uint_eq(in_rack(), 0);
	ck_assert_uint_eq(in_depot(), 20);
	ck_assert_uint_eq(magazines(a), 0);
	td_check(&t);
	racked(b, 9);
	ck_assert_uint_eq(in_depot() + in_rack(), 9); /* the rest of the full one went to the slabs */
	ck_assert_uint_eq(rack_collect(t.d, 0, 0, false), 9);
	ck_assert_uint_eq(objects_out(), in_depot());
	check_all_free();
}
END_TEST

START_TEST(drains_include_it)
{
	racked(a, 20);
	ck_assert_uint_eq(exchange_drain_cache(t.d, c, MM_CPU_NONE), 20);
	ck_assert_uint_eq(objects_out(), 0);
	racked(a, 5);
	exchange_drain(t.d, 0);
	ck_assert_uint_eq(objects_out(), 0);
	check_all_free();
}
END_TEST

/* b has by the rack what counts for a, and gives it to the daemon. */
START_TEST(given_by_another)
{
	magazine_id_t m = racked(a, 20);
	uint32_t listed;

	claim(b, m);
	unload(b, m, 20);
	td_check(&t);
	ck_assert_uint_eq(magazines(a), 1);
	ck_assert_uint_eq(td_load_objects(&t, b, m, out, 20), 20);
	ck_assert_uint_eq(give(b, m, &listed), 20);
	ck_assert_uint_eq(listed, 20);
	ck_assert_uint_eq(magazines(a) + magazines(b), 0);
	ck_assert_uint_eq(in_depot(), 20);
	/* told twice */
	ck_assert_uint_eq(give(a, m, &listed), 0);
	ck_assert_uint_eq(listed, 0);
	check_all_free();
}
END_TEST

/* It dies when it has claimed the magazine, and marked no slab but those of the first rounds. */
START_TEST(taker_dies)
{
	magazine_id_t m = racked(a, 200);

	claim(b, m);
	if (_i)
		unload(b, m, (uint32_t)_i);
	session_end(b);
	ck_assert_uint_eq(objects_out(), 0);
	ck_assert_uint_eq(magazines(a), 0);
	ck_assert(magazine_is(magazine_load(shared(m)), MAGAZINE_EMPTY, 0));
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
	check_all_free();
}
END_TEST

/* It dies with the header exchanged: in a slot it stays, and counts for nobody; in none it is found. */
START_TEST(giver_dies)
{
	magazine_id_t m = take_held(a, 20);

	give_header(a, m, out, 20);
	if (_i)
		give_slot(m);
	session_end(a);
	ck_assert_uint_eq(in_rack(), _i ? 20 : 0);
	ck_assert_uint_eq(in_depot(), _i ? 0 : 20);
	ck_assert_uint_eq(depot_is_lent(t.d->depot, m), _i);
	ck_assert_uint_eq(depot_lent_to(t.d->depot, m), 0);
	td_check(&t);
	check_all_free();
}
END_TEST

/* It dies while it gives: words of it and words of the magazine. */
START_TEST(giver_dies_before_the_header)
{
	magazine_id_t m = take_held(a, 20);
	uint32_t i;

	for (i = 0; i < 7; i++) {
		ck_assert(td_object_change(&t, out[i], OWNER_HELD, a->id, OWNER_MAGAZINE, m.nr));
		atomic_store(&shared(m)->round[i], out[i]);
	}
	session_end(a);
	check_all_free();
}
END_TEST

/* The same, while a thread of ours has claimed the magazine, which it saw in the rack before the dead had
 * it: what names the magazine is the dead's still. */
START_TEST(giver_dies_while_another_looks)
{
	magazine_id_t m = take_held(a, 20);
	uint32_t i, of;

	for (i = 0; i < 7; i++)
		ck_assert(td_object_change(&t, out[i], OWNER_HELD, a->id, OWNER_MAGAZINE, m.nr));
	ck_assert(depot_claim_lent(t.d->depot, m, &of));
	ck_assert_uint_eq(object_sweep(t.d, a), 20);
	depot_unclaim(t.d->depot, m, of);
	session_end(a);
	check_all_free();
}
END_TEST

/* The header says that it is for the daemon, the call never comes. Whoever it counts for. */
START_TEST(given_by_who_is_dead)
{
	magazine_id_t m = racked(a, 20);

	claim(b, m);
	unload(b, m, 20);
	ck_assert_uint_eq(td_load_objects(&t, b, m, out, 20), 20);
	session_end(_i ? a : b);
	ck_assert_uint_eq(in_depot(), 20);
	ck_assert_uint_eq(magazines(_i ? b : a), 0);
	check_all_free();
}
END_TEST

/* What counts for the dead, but others have, stays with them. */
START_TEST(magazines_of_the_dead_are_others)
{
	magazine_id_t m = racked(a, 20);

	claim(b, m);
	unload(b, m, 12);
	session_end(a);
	ck_assert_uint_eq(depot_lent_to(t.d->depot, m), b->id);
	ck_assert_uint_eq(magazines(b), 1);
	ck_assert_uint_eq(objects_out(), 20);
	td_check(&t);
	session_end(b);
	check_all_free();
}
END_TEST

START_TEST(trimmed_when_idle)
{
	magazine_id_t m = racked(a, 20), n = racked(a, 10);

	rack_trim(t.d, 0);
	ck_assert_uint_eq(in_rack(), 30);
	/* another hand */
	claim(b, n);
	change(n, MAGAZINE_RACK, 0, 10);
	rack_trim(t.d, 0);
	ck_assert_uint_eq(in_rack(), 10);
	ck_assert_uint_eq(in_depot(), 20);
	ck_assert(!depot_is_lent(t.d->depot, m));
	rack_trim(t.d, 0);
	ck_assert_uint_eq(in_rack(), 0);
	ck_assert_uint_eq(in_depot(), 30);
	check_all_free();
}
END_TEST

/* All magazines lie there, empty or full: exchanges go on. */
START_TEST(reclaimed_when_none_is_left)
{
	struct session *s = a;
	magazine_id_t m;
	uint32_t i, n = 0;

	for (i = 0; n < TD_MAGAZINES; i++) {
		while (n < TD_MAGAZINES && exchange_empty(t.d, s, &m) == 0) {
			change(m, MAGAZINE_RACK, 0, 0);
			n++;
			if (n % 8 == 0)
				break;
		}
		s = td_session(&t, "more");
	}
	ck_assert_uint_ge(n, TD_MAGAZINES / 8);
	ck_assert_int_eq(exchange_empty(t.d, b, &m), 0);
	td_check(&t);
	/* at its own limit, by full ones */
	for (i = 0; i < TD_MAGAZINES; i++)
		racked(b, 3);
	td_check(&t);
	ck_assert_uint_le(magazines(b), TD_MAGAZINES / 8);
}
END_TEST

/* Who wants constructed objects gets those, too. */
START_TEST(constructed_ones_are_found)
{
	struct cache *k = td_cache(&t, a, "constructed", 64, true);
	const char *why = "";
	uint32_t i, n, granule;
	magazine_id_t m;

	ck_assert_int_eq(exchange_take_objects(k, a, 0, GFP_KERNEL, false, 8, &m, &n, &why), 0);
	ck_assert_uint_eq(td_take_objects(&t, a, m, out), 8);
	for (i = 0; i < 8; i++)
		atomic_fetch_or(td_word_of(&t, out[i]), OWNER_CONSTRUCTED);
	c = k;
	give_header(a, m, out, 8);
	ck_assert_int_eq(exchange_take_objects(k, b, 0, GFP_KERNEL, true, 4, &m, &n, &why), 0);
	ck_assert_uint_eq(n, 4);
	ck_assert_uint_eq(td_take_objects(&t, b, m, out), 4);
	give_header(b, m, out, 4);
	ck_assert_int_eq(object_alloc(k, b, 0, GFP_KERNEL, true, &granule, &why), 0);
	td_check(&t);
	session_end(b);
	session_end(a);
	check_all_free();
}
END_TEST

START_TEST(restarts)
{
	magazine_id_t m = racked(a, 20), n = racked(b, 10);
	uint32_t id = b->id, cache = c->id;

	claim(b, n);
	unload(b, n, 4);
	td_restart(&t);
	c = cache_by_id(t.d, cache);
	b = session_by_id(t.kmmd.sessions, id);
	ck_assert(magazine_is(magazine_load(shared(m)), MAGAZINE_EMPTY, 0));
	ck_assert_uint_eq(objects_out(), 10);
	ck_assert_uint_eq(depot_lent_to(t.d->depot, n), id);
	td_check(&t);
	/* put there while the daemon was taking over, it is as any other */
	change(n, MAGAZINE_RACK, 0, 10);
	rack_collect(t.d, 0, 0, false);
	ck_assert_uint_eq(objects_out(), 4);
	session_end(b);
	ck_assert_uint_eq(objects_out(), 0);
}
END_TEST

START_TEST(findings)
{
	magazine_id_t m = racked(a, 20);

	ck_assert(td_object_change(&t, out[3], OWNER_MAGAZINE, m.nr, OWNER_HELD, a->id));
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	ck_assert(td_object_change(&t, out[3], OWNER_HELD, a->id, OWNER_MAGAZINE, m.nr));
	td_check(&t);
	atomic_store(&t.d->control.rack[c->id].slot[5], TD_MAGAZINES + 1);
	ck_assert_uint_eq(domain_validate(t.d, td_silent, NULL), 1);
	atomic_store(&t.d->control.rack[c->id].slot[5], TD_MAGAZINES);
	td_check(&t); /* stale, no more */
	/* cleared for the next cache of that id */
	ck_assert_int_eq(rack_begin(t.d, c->id), 0);
	ck_assert(!control_rack_says(&t.d->control.rack[c->id], m.nr));
	ck_assert_uint_eq(rack_collect(t.d, 0, 0, false), 20);
	check_all_free();
}
END_TEST

static uint32_t below(uint32_t n)
{
	return (uint32_t)rand() % n;
}

/* Headers, kinds, rounds and slots are what members make of them. */
START_TEST(scribbled_over)
{
	struct session *s[2] = { a, b };
	uint32_t i, j, cache = c->id;
	magazine_id_t m;

	srand((unsigned int)_i + 1);
	for (i = 0; i < 600; i++) {
		const char *why = "";
		uint32_t n;

		if (exchange_take_objects(c, s[i % 2], 0, GFP_KERNEL, false, 1 + below(40), &m, &n,
		                          &why) == 0) {
			for (j = 0; j < n; j++)
				if (below(8))
					atomic_store(&shared(m)->kind,
					             MAGAZINE_OF_OBJECTS | below(CONTROL_CACHES_MAX * 2));
			change(m, below(2) ? MAGAZINE_RACK : (enum magazine_state)below(8),
			       below(2) ? 0 : below(TD_SESSIONS * 2), below(600));
		}
		m.nr = below(TD_MAGAZINES);
		atomic_store(&shared(m)->round[below(MAGAZINE_ROUNDS_MAX)], (uint32_t)rand());
		atomic_store(&t.d->control.rack[below(64)].slot[below(CONTROL_RACK_SLOTS)],
		             below(2) ? (uint32_t)rand() : below(TD_MAGAZINES + 2));
		if (below(4) == 0)
			change(m, (enum magazine_state)below(8), below(TD_SESSIONS * 2), below(1024));
		switch (below(6)) {
		case 0:
			rack_collect(t.d, below(2) ? 0 : c->id, below(2), below(2));
			break;
		case 1:
			rack_trim(t.d, 0);
			break;
		case 2:
			rack_reclaim(t.d, below(2) ? 0 : a->id, 4, below(2));
			break;
		case 3:
			exchange_drain_cache(t.d, c, 0);
			break;
		case 4:
			domain_validate(t.d, td_silent, NULL);
			break;
		default:
			atomic_store(&s[i % 2]->shared->racks, below(2));
			if (below(8))
				break;
			session_end(s[i % 2]);
			s[i % 2] = td_session(&t, "next");
			break;
		}
		if (s[0] != a)
			a = s[0];
	}
	session_end(s[0]);
	session_end(s[1]);
	ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
	/* what words say that nobody lists comes back with the next start */
	td_restart(&t);
	td_restart(&t);
	c = cache_by_id(t.d, cache);
	for (i = 0; i < 40; i++)
		cache_tick(t.d);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rack");
	TCase *k = tcase_create("rack"), *lies = tcase_create("lies");

	tcase_add_checked_fixture(k, setup, scene_teardown);
	tcase_add_test(k, collected_into_the_depot_or_the_slabs);
	tcase_add_test(k, drains_include_it);
	tcase_add_test(k, given_by_another);
	tcase_add_loop_test(k, taker_dies, 0, 4);
	tcase_add_loop_test(k, giver_dies, 0, 2);
	tcase_add_test(k, giver_dies_before_the_header);
	tcase_add_test(k, giver_dies_while_another_looks);
	tcase_add_loop_test(k, given_by_who_is_dead, 0, 2);
	tcase_add_test(k, magazines_of_the_dead_are_others);
	tcase_add_test(k, trimmed_when_idle);
	tcase_add_test(k, reclaimed_when_none_is_left);
	tcase_add_test(k, constructed_ones_are_found);
	tcase_add_test(k, restarts);
	tcase_add_test(k, findings);
	suite_add_tcase(suite, k);
	tcase_add_checked_fixture(lies, setup, scene_teardown_unchecked);
	tcase_set_timeout(lies, 120);
	tcase_add_loop_test(lies, scribbled_over, 0, 8);
	suite_add_tcase(suite, lies);
	return suite_status(suite);
}
