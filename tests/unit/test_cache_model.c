/* SPDX-License-Identifier: MIT */
/*
 * Caches that come and go under use: two reactors and the worker at the same time, and random steps
 * against a naive model.
 */
#include <pthread.h>
#include <sched.h>

#include "tests/suite.h"
#include "tests/unit/test_cache.h"

/* ---- threads: two reactors make, join, use and leave; the worker ends ---- */

enum { ROUNDS = 3000, NAMES = 3 };
static _Atomic bool stop;

struct actor {
	struct session *s;
	uint32_t cpu;
	uint32_t made, used, gone;
};

static uint32_t claim(struct cache *c, const struct actor *me)
{
	const char *why = "";
	uint32_t granule;

	if (object_alloc(c, me->s, me->cpu, GFP_KERNEL, false, &granule, &why) < 0)
		return UINT32_MAX;
	return td_object_change(&t, granule, OWNER_OFFERED, me->s->id, OWNER_HELD, me->s->id) ?
	               granule :
	               UINT32_MAX;
}

static void give(struct actor *me, uint32_t granule)
{
	owner_word_t *word = td_word_of(&t, granule);
	uint64_t w = owner_load(word);
	const char *why = "";

	if (owner_is(w, OWNER_HELD, me->s->id) &&
	    owner_cas(word, &w, owner_given_back(w, OWNER_RETURNED, me->s->id)))
		object_free(t.d, me->s, me->cpu, granule, owner_generation(w), &why);
}

static void *act(void *arg)
{
	static const char *const name[NAMES] = { "one", "two", "three" };
	struct actor *me = arg;
	unsigned int seed = me->cpu + 1, i, k;

	for (i = 0; i < ROUNDS; i++) {
		uint32_t id = 0, held[4];
		uint64_t life = 0;
		const char *why = "";
		struct cache *c;
		int r = tc_create(&t, me->s, name[rand_r(&seed) % NAMES], 64, 0, &id, &life, &why);

		if (r == -EAGAIN) {
			sched_yield();
			continue;
		}
		ck_assert_int_eq(r, 0);
		me->made++;
		for (k = 0; k < 4; k++) {
			held[k] = UINT32_MAX;
			c = cache_enter(t.d, id, life);
			if (c) {
				held[k] = claim(c, me);
				me->used += held[k] != UINT32_MAX;
				cache_leave(c);
			} else {
				me->gone++;
			}
		}
		for (k = 0; k < 4; k++)
			if (held[k] != UINT32_MAX)
				give(me, held[k]);
	}
	return NULL;
}

static void *work(void *arg)
{
	uint32_t *ended = arg, id;
	const char *why;
	bool removed;

	while (!atomic_load(&stop)) {
		for (id = CACHE_BUILTIN_MAX + 1; id < CACHE_BUILTIN_MAX + 60; id++) {
			struct cache *c = cache_by_id(t.d, id);
			uint64_t life = t.d->control.cache[id].life;

			if (cache_state(c) == CACHE_NONE || !life)
				continue;
			removed = false;
			cache_destroy(t.d, a, id, life, &removed, &why);
			cache_destroy(t.d, b, id, life, &removed, &why);
			*ended += removed;
		}
		cache_tick(t.d);
	}
	return NULL;
}

START_TEST(ends_and_uses_at_the_same_time)
{
	struct actor x = { .s = a, .cpu = 0 }, y = { .s = b, .cpu = 1 };
	pthread_t thread[3];
	uint32_t ended = 0, i;

	atomic_store(&stop, false);
	ck_assert_int_eq(pthread_create(&thread[0], NULL, act, &x), 0);
	ck_assert_int_eq(pthread_create(&thread[1], NULL, act, &y), 0);
	ck_assert_int_eq(pthread_create(&thread[2], NULL, work, &ended), 0);
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	atomic_store(&stop, true);
	pthread_join(thread[2], NULL);
	ck_assert(x.made && y.made && x.used && y.used && ended);
	td_check(&t);
	for (i = 0; i < t.pool.ledger.layout.nr_caches; i++)
		if (i && cache_state(cache_by_id(t.d, i)) != CACHE_NONE) {
			ck_assert_uint_eq(atomic_load(&cache_by_id(t.d, i)->inside), 0);
			ck_assert_uint_eq(tc_out(&t, i), 0);
		}
	session_end(a);
	session_end(b);
	a = td_session(&t, "later");
	b = td_session(&t, "later too");
	cache_tick(t.d);
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX);
	slab_shrink_all(t.d->slabs, 0);
	slab_shrink_all(t.d->slabs, 1);
	ck_assert_uint_eq(slab_frames(t.d->slabs), 0);
}
END_TEST

/* ---- against a naive model ---- */

enum { MODEL_STEPS = 20000, MODEL_NAMES = 8, MODEL_SESSIONS = 4, MODEL_OBJECTS = 200 };

struct model {
	bool there[MODEL_NAMES], user[MODEL_NAMES][MODEL_SESSIONS];
	uint32_t id[MODEL_NAMES], objects[MODEL_NAMES];
	struct {
		uint32_t granule, name, session;
	} object[MODEL_OBJECTS];
	uint32_t n;
	struct session *s[MODEL_SESSIONS];
};

static uint32_t model_users(const struct model *m, uint32_t x)
{
	uint32_t i, n = 0;

	for (i = 0; i < MODEL_SESSIONS; i++)
		n += m->user[x][i];
	return n;
}

static void model_make(struct model *m, uint32_t x, uint32_t who, bool create)
{
	const char *why = "";
	uint64_t life = 0;
	char name[16];
	uint32_t id;
	int r;

	snprintf(name, sizeof(name), "m%u", x);
	r = create ? tc_create(&t, m->s[who], name, 64 + 64 * x, 0, &id, &life, &why) :
	             cache_open(t.d, m->s[who], name, &id, &life, &why);
	ck_assert_int_eq(r, create || m->there[x] ? 0 : -ENOENT);
	if (r)
		return;
	ck_assert(!m->there[x] || m->id[x] == id);
	m->id[x] = id;
	m->there[x] = m->user[x][who] = true;
}

static void model_destroy(struct model *m, uint32_t x, uint32_t who)
{
	bool removed = false, last = m->user[x][who] && model_users(m, x) == 1;
	const char *why = "";
	int r;

	if (!m->there[x])
		return;
	r = tc_destroy(&t, m->s[who], m->id[x], &removed, &why);
	ck_assert_int_eq(r, last && m->objects[x] ? -EBUSY : 0);
	if (r)
		return;
	ck_assert_int_eq(removed, last);
	m->user[x][who] = false;
	m->there[x] = !last;
}

static void model_tick(struct model *m)
{
	uint32_t x;

	cache_tick(t.d);
	for (x = 0; x < MODEL_NAMES; x++)
		if (!m->objects[x] && !model_users(m, x))
			m->there[x] = false;
}

static void model_object(struct model *m, uint32_t x, uint32_t who)
{
	if (m->n < MODEL_OBJECTS && m->there[x] && rand() % 2) {
		m->object[m->n].granule = td_object(&t, cache_by_id(t.d, m->id[x]), m->s[who]);
		m->object[m->n].name = x;
		m->object[m->n++].session = who;
		m->objects[x]++;
	} else if (m->n) {
		uint32_t i = (uint32_t)rand() % m->n;

		ck_assert_int_eq(td_object_free(&t, m->s[m->object[i].session],
		                                m->object[i].granule),
		                 0);
		m->objects[m->object[i].name]--;
		m->object[i] = m->object[--m->n];
	}
}

static void model_end_session(struct model *m, uint32_t who)
{
	uint32_t i = 0, x;

	session_end(m->s[who]);
	m->s[who] = td_session(&t, "new");
	for (x = 0; x < MODEL_NAMES; x++)
		m->user[x][who] = false;
	while (i < m->n)
		if (m->object[i].session == who) {
			m->objects[m->object[i].name]--;
			m->object[i] = m->object[--m->n];
		} else {
			i++;
		}
}

static void model_restart(struct model *m)
{
	uint32_t id[MODEL_SESSIONS], i;

	for (i = 0; i < MODEL_SESSIONS; i++)
		id[i] = m->s[i]->id;
	tc_restart();
	for (i = 0; i < MODEL_SESSIONS; i++)
		m->s[i] = session_by_id(t.kmmd.sessions, id[i]);
}

static void model_compare(struct model *m)
{
	uint32_t x, there = 0, i;

	for (x = 0; x < MODEL_NAMES; x++) {
		there += m->there[x];
		if (!m->there[x])
			continue;
		ck_assert_uint_eq(cache_by_id(t.d, m->id[x])->users, model_users(m, x));
		ck_assert_uint_eq(tc_out(&t, m->id[x]), m->objects[x]);
	}
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX + there);
	for (i = 0; i < MODEL_SESSIONS; i++) {
		uint32_t n = 0;

		for (x = 0; x < MODEL_NAMES; x++)
			n += m->user[x][i];
		ck_assert_uint_eq(cache_count_of(t.d, m->s[i]->id), n);
	}
}

START_TEST(random_operations)
{
	static struct model m;
	uint32_t step, i;

	memset(&m, 0, sizeof(m));
	srand(11);
	for (i = 0; i < MODEL_SESSIONS; i++)
		m.s[i] = td_session(&t, "m");
	for (step = 0; step < MODEL_STEPS; step++) {
		uint32_t x = (uint32_t)rand() % MODEL_NAMES;
		uint32_t who = (uint32_t)rand() % MODEL_SESSIONS;

		switch (rand() % 16) {
		case 0:
		case 1:
			model_make(&m, x, who, true);
			break;
		case 2:
			model_make(&m, x, who, false);
			break;
		case 3:
		case 4:
			model_destroy(&m, x, who);
			break;
		case 5:
			model_tick(&m);
			break;
		case 6:
			if (rand() % 32 == 0)
				model_end_session(&m, who);
			break;
		case 7:
			if (rand() % 64 == 0)
				model_restart(&m);
			break;
		default:
			model_object(&m, x, who);
			break;
		}
		model_compare(&m);
		if (step % 64 == 0)
			td_check(&t);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cache_model");
	TCase *c = tcase_create("cache_model");

	tcase_set_timeout(c, 240);
	tcase_add_checked_fixture(c, tc_setup, tc_teardown);
	tcase_add_test(c, ends_and_uses_at_the_same_time);
	tcase_add_test(c, random_operations);
	suite_add_tcase(s, c);
	return suite_status(s);
}
