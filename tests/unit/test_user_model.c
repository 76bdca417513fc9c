/* SPDX-License-Identifier: MIT */
/*
 * Accounts of users by random steps: blocks and objects are had, freed, sent, adopted by exchange of
 * their words, sessions end, the daemon starts anew; a naive model knows whose each thing is.
 *
 *     uid     1000      1001      1002
 *     session 0  1      2  3      4  5
 *
 * After each step every user has what the model says, and no more than its quota unless it adopted;
 * td_check() compares every account with the sum of its sessions'.
 */
#include "tests/suite.h"
#include "tests/unit/test_user.h"

#define SESSIONS 6u
#define THINGS 64u
#define MOST_PAGES 60u
#define MOST_OBJECTS 25u

static uint64_t seed;

static uint32_t below(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

struct model {
	struct session *s[SESSIONS];
	struct {
		bool object;
		uint32_t who, order, at; /* at: page or granule */
	} thing[THINGS];
	uint32_t n;
	struct cache *k;
};

static void model_open(struct model *m, uint32_t who)
{
	uint64_t life;
	const char *why;
	uint32_t id;

	m->s[who] = td_session_of(&t, "m", ALICE + who / 2);
	ck_assert_int_eq(cache_create(t.d, m->s[who], "model", 700, 0, 0, false, &id, &life, &why),
	                 0);
	m->k = cache_by_id(t.d, id);
}

/* Sessions 2i and 2i + 1 are of one user. */
static void model_compare(struct model *m)
{
	uint64_t pages[SESSIONS / 2] = { 0 }, objects[SESSIONS / 2] = { 0 };
	uint32_t i;

	for (i = 0; i < m->n; i++) {
		if (m->thing[i].object)
			objects[m->thing[i].who / 2]++;
		else
			pages[m->thing[i].who / 2] += 1u << m->thing[i].order;
	}
	for (i = 0; i < SESSIONS / 2; i++) {
		uint64_t bytes = objects[i] * kmem_cache_geometry(m->k->slab)->stride;

		ck_assert_uint_eq(used(ALICE + i, USER_OBJECTS), objects[i]);
		ck_assert_uint_eq(used(ALICE + i, USER_PAGES),
		                  pages[i] + (bytes + PAGE_BYTES - 1) / PAGE_BYTES);
		ck_assert_uint_eq(used(ALICE + i, USER_SESSIONS), 2);
		ck_assert_uint_eq(used(ALICE + i, USER_CACHES), 2);
	}
}

static void model_alloc(struct model *m, uint32_t who, bool object)
{
	uint32_t order = below(3), at = 0, user = ALICE + who / 2;
	uint64_t pages = used(user, USER_PAGES), objects = used(user, USER_OBJECTS);
	const char *why = "";
	int rc = -EDQUOT, tries;

	if (m->n == THINGS)
		return;
	/* as requests are: who adopted something is counted, then it is tried again */
	for (tries = 0; rc && tries < 2; tries++) {
		if (tries)
			charge_settle(t.d, m->s[who], charge_obstacle().user);
		rc = object ? object_alloc(m->k, m->s[who], 0, GFP_KERNEL, false, &at, &why) :
		              grant_alloc(t.d, m->s[who], 0, GFP_KERNEL, order, &at, &why);
	}
	if (rc) {
		ck_assert_int_eq(rc, -EDQUOT);
		ck_assert(pages + (object ? 1 : 1u << order) > MOST_PAGES ||
		          (object && objects == MOST_OBJECTS));
		return;
	}
	ck_assert_uint_le(used(user, USER_PAGES), MOST_PAGES);
	ck_assert_uint_le(used(user, USER_OBJECTS), MOST_OBJECTS);
	ck_assert(object ? td_object_change(&t, at, OWNER_OFFERED, m->s[who]->id, OWNER_HELD,
	                                    m->s[who]->id) :
	                   td_change(&t, at, OWNER_OFFERED, m->s[who]->id, OWNER_HELD,
	                             m->s[who]->id));
	m->thing[m->n].object = object;
	m->thing[m->n].who = who;
	m->thing[m->n].order = order;
	m->thing[m->n++].at = at;
}

static void model_free(struct model *m, uint32_t i)
{
	struct session *s = m->s[m->thing[i].who];

	ck_assert_int_eq(m->thing[i].object ? td_object_free(&t, s, m->thing[i].at) :
	                                      td_free(&t, s, m->thing[i].at, m->thing[i].order),
	                 0);
	m->thing[i] = m->thing[--m->n];
}

static void model_send(struct model *m, uint32_t i, uint32_t to)
{
	uint32_t at = m->thing[i].at, user = ALICE + to / 2;
	owner_word_t *word = m->thing[i].object ? td_word_of(&t, at) : td_word(&t, at);
	const char *why = "";
	int rc = -EDQUOT, tries;

	for (tries = 0; rc && tries < 2; tries++) {
		if (tries)
			charge_settle(t.d, m->s[to], charge_obstacle().user);
		rc = grant_send(t.d, m->s[m->thing[i].who],
		                m->thing[i].object ? at : domain_granule(t.d, at),
		                owner_generation(owner_load(word)), m->s[to], &why);
	}
	if (rc == 0) {
		m->thing[i].who = to;
		return;
	}
	ck_assert_int_eq(rc, -EDQUOT);
	ck_assert_uint_ne(m->thing[i].who / 2, to / 2);
	ck_assert(used(user, USER_PAGES) + 4 > MOST_PAGES ||
	          used(user, USER_OBJECTS) == MOST_OBJECTS);
}

/* By exchange of the word, then the accounts are settled. */
static void model_adopt(struct model *m, uint32_t i, uint32_t to)
{
	uint32_t from = m->s[m->thing[i].who]->id, id = m->s[to]->id, at = m->thing[i].at;
	uint32_t k;

	if (m->thing[i].object) {
		td_note(&t, m->s[to], at);
		ck_assert(td_object_change(&t, at, OWNER_HELD, from, OWNER_HELD, id));
	} else {
		grant_note_section(t.d, m->s[to], at);
		ck_assert(td_change(&t, at, OWNER_HELD, from, OWNER_HELD, id));
	}
	m->thing[i].who = to;
	td_check(&t); /* behind, but in step */
	for (k = 0; k < SESSIONS; k++)
		charge_settle(t.d, m->s[k], NULL);
}

static void model_end(struct model *m, uint32_t who)
{
	uint32_t i;

	session_end(m->s[who]);
	for (i = 0; i < m->n;)
		if (m->thing[i].who == who)
			m->thing[i] = m->thing[--m->n];
		else
			i++;
	model_open(m, who);
}

static void model_restart(struct model *m)
{
	uint32_t id[SESSIONS], cache = m->k->id, i;

	for (i = 0; i < SESSIONS; i++)
		id[i] = m->s[i]->id;
	td_restart(&t);
	for (i = 0; i < SESSIONS; i++)
		m->s[i] = session_by_id(t.kmmd.sessions, id[i]);
	m->k = cache_by_id(t.d, cache);
}

START_TEST(random_steps)
{
	struct model m = { .n = 0 };
	uint32_t step, i;

	seed = 20 + (uint64_t)_i;
	t.options.user_default = (struct quota){ .pages = MOST_PAGES, .objects = MOST_OBJECTS };
	for (i = 0; i < SESSIONS; i++)
		model_open(&m, i);
	for (step = 0; step < 3000; step++) {
		uint32_t what = below(100), who = below(SESSIONS);

		if (what < 30)
			model_alloc(&m, who, false);
		else if (what < 55)
			model_alloc(&m, who, true);
		else if (m.n && what < 78)
			model_free(&m, below(m.n));
		else if (m.n && what < 90)
			model_send(&m, below(m.n), who);
		else if (m.n && what < 96)
			model_adopt(&m, below(m.n), who);
		else if (what == 96)
			model_end(&m, who);
		else if (what == 97 && step % 8 == 0)
			model_restart(&m);
		model_compare(&m);
		if (step % 16 == 0)
			td_check(&t);
	}
	for (i = 0; i < SESSIONS; i++)
		session_end(m.s[i]);
	ck_assert_uint_eq(used(ALICE, USER_PAGES), 0);
	ck_assert_uint_eq(used(ALICE, USER_SESSIONS), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("user model");
	TCase *c = tcase_create("user model");

	tcase_add_checked_fixture(c, scene_setup, scene_teardown);
	tcase_set_timeout(c, 120);
	tcase_add_loop_test(c, random_steps, 0, 3);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
