/* SPDX-License-Identifier: MIT */
/*
 * How caches end: by their last user, by themselves, by restarts in between; and that those who
 * work with a cache are never surprised by its end. The client's half is played by the test.
 */
#include <pthread.h>
#include <sched.h>

#include "tests/unit/test_cache.h"

static struct test_domain t;
static struct session *a, *b;

static void setup(void)
{
	td_init(&t);
	a = td_session(&t, "parser");
	b = td_session(&t, "writer");
}

static void restart(void)
{
	uint32_t x = a->id, y = b->id;

	td_restart(&t);
	a = session_by_id(t.kmmd.sessions, x);
	b = session_by_id(t.kmmd.sessions, y);
}

static void teardown(void)
{
	td_check(&t);
	td_fini(&t);
}

static void destroy(struct session *s, uint32_t id, bool removed)
{
	bool got = !removed;
	const char *why = "";
	int r = tc_destroy(&t, s, id, &got, &why);

	ck_assert_msg(r == 0, "%d %s", r, why);
	ck_assert_int_eq(got, removed);
}

static void busy(struct session *s, uint32_t id, const char *text)
{
	bool removed;
	const char *why = "";

	ck_assert_int_eq(tc_destroy(&t, s, id, &removed, &why), -EBUSY);
	ck_assert_str_eq(why, text);
	ck_assert_int_eq(cache_state(cache_by_id(t.d, id)), CACHE_LIVE);
}

/* ---- destroying ---- */

START_TEST(the_last_user_removes_it)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), again;
	uint64_t life = tc_life(&t, id), other;
	uint64_t frames = td_free_frames(&t);
	bool removed = false;
	const char *why;

	ck_assert_int_eq(cache_open(t.d, b, "dentry", &again, &other, &why), 0);
	td_object_free(&t, a, td_object(&t, cache_by_id(t.d, id), a)); /* a slab stays empty */
	destroy(a, id, false);
	destroy(a, id, false); /* none of its users any more */
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "dentry"));
	destroy(b, id, true);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
	ck_assert_ptr_null(cache_enter(t.d, id, 0));
	ck_assert_ptr_null(cache_enter_to_free(t.d, id));
	ck_assert_ptr_null(cache_enter_name(t.d, "dentry"));
	ck_assert_uint_eq(t.d->control.cache[id].life, 0);
	ck_assert_uint_eq(td_free_frames(&t), frames);
	/* gone is gone; and what is unknown was never there */
	ck_assert_int_eq(cache_destroy(t.d, b, id, life, &removed, &why), 0);
	ck_assert(removed);
	ck_assert_int_eq(cache_destroy(t.d, b, 0, 0, &removed, &why), 0);
	/* the name is free, for another kind too, and the old life does not come again */
	ck_assert_int_eq(tc_create(&t, a, "dentry", 64, 0, &again, &other, &why), 0);
	ck_assert(other != life);
	ck_assert_int_eq(cache_destroy(t.d, a, again, life, &removed, &why), 0);
	ck_assert_uint_eq(cache_by_id(t.d, again)->users, 1);
}
END_TEST

START_TEST(live_objects_are_told_with_their_holders)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), i, x[7], y[5];
	struct cache *c = cache_by_id(t.d, id);
	char text[200];

	for (i = 0; i < 7; i++)
		x[i] = td_object(&t, c, a);
	for (i = 0; i < 5; i++)
		y[i] = td_object(&t, c, b);
	snprintf(text, sizeof(text),
	         "12 objects are live: 7 of session %u (parser), 5 of session %u (writer)", a->id,
	         b->id);
	busy(a, id, text);
	/* the reference stays, and so does all else */
	ck_assert_uint_eq(cache_count_of(t.d, a->id), 1);
	td_check(&t);
	for (i = 0; i < 7; i++)
		ck_assert_int_eq(td_object_free(&t, a, x[i]), 0);
	for (i = 1; i < 5; i++)
		ck_assert_int_eq(td_object_free(&t, b, y[i]), 0);
	snprintf(text, sizeof(text), "1 object is live: 1 of session %u (writer)", b->id);
	busy(a, id, text);
	ck_assert_int_eq(td_object_free(&t, b, y[0]), 0);
	destroy(a, id, true);
}
END_TEST

START_TEST(many_holders_are_summed_up)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), i, k;
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	bool removed;
	char name[32];

	for (i = 1; i <= 7; i++) {
		struct session *s;

		snprintf(name, sizeof(name), "member%u", i);
		s = td_session(&t, name);
		for (k = 0; k < i; k++)
			td_object(&t, c, s);
	}
	ck_assert_int_eq(tc_destroy(&t, a, id, &removed, &why), -EBUSY);
	ck_assert_msg(strncmp(why, "28 objects are live: 7 of session ", 34) == 0, "%s", why);
	ck_assert_msg(strstr(why, "(member7), 6 of") && strstr(why, "(member4), and of 3 more"), "%s",
	              why);
}
END_TEST

START_TEST(what_nobody_has_does_not_hinder)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), n = 0, got, accepted, listed, out[64];
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	magazine_id_t m;

	/* marked RETURNED: cached by a thread of a session that has it not open */
	out[0] = td_object(&t, c, b);
	ck_assert(td_object_change(&t, out[0], OWNER_HELD, b->id, OWNER_RETURNED, b->id));
	/* in the depot */
	ck_assert_int_eq(exchange_take_objects(c, a, 0, GFP_KERNEL, false, 20, &m, &n, &why), 0);
	got = td_take_objects(&t, a, m, out);
	ck_assert_uint_eq(got, n);
	ck_assert_uint_eq(td_load_objects(&t, a, m, out, got), got);
	exchange_give(t.d, a, 0, m, &accepted, &listed);
	ck_assert_uint_eq(accepted, got);
	ck_assert_uint_eq(tc_out(&t, id), got + 1);
	destroy(a, id, true);
}
END_TEST

START_TEST(what_is_on_its_way_is_told)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), n = 0, i, out[64];
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	bool removed;
	magazine_id_t m;

	ck_assert_int_eq(exchange_take_objects(c, a, 0, GFP_KERNEL, false, 4, &m, &n, &why), 0);
	ck_assert_int_eq(tc_destroy(&t, a, id, &removed, &why), -EBUSY);
	ck_assert_msg(strstr(why, "objects are live: ") && strstr(why, " on their way"), "%s", why);
	ck_assert_uint_eq(td_take_objects(&t, a, m, out), n);
	for (i = 0; i < n; i++)
		ck_assert_int_eq(td_object_free(&t, a, out[i]), 0);
	destroy(a, id, true);
}
END_TEST

/* ---- ending by itself ---- */

START_TEST(a_cache_without_users_and_objects_ends)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);
	uint32_t granule = td_object(&t, cache_by_id(t.d, id), b);

	cache_tick(t.d);
	ck_assert_int_eq(cache_state(cache_by_id(t.d, id)), CACHE_LIVE);
	session_end(a); /* swept at once */
	a = td_session(&t, "another");
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 0);
	cache_tick(t.d);
	ck_assert_int_eq(cache_state(cache_by_id(t.d, id)), CACHE_LIVE);
	ck_assert_int_eq(td_object_free(&t, b, granule), 0);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX);
}
END_TEST

/* What threads of others have marked is looked for when the number changes, or after a while. */
START_TEST(returned_objects_are_looked_for)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), i;
	uint32_t granule = td_object(&t, cache_by_id(t.d, id), b);

	session_end(a);
	a = td_session(&t, "another");
	cache_tick(t.d); /* looks, and finds it held */
	ck_assert(td_object_change(&t, granule, OWNER_HELD, b->id, OWNER_RETURNED, b->id));
	cache_tick(t.d);
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "dentry"));
	for (i = 0; i < 20 && kmem_cache_find(t.d->slabs, "dentry"); i++)
		cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
}
END_TEST

START_TEST(the_dead_are_no_users)
{
	uint32_t x = tc_new(&t, a, "x", 8), y = tc_new(&t, a, "y", 16), id;
	uint64_t life;
	const char *why;

	ck_assert_int_eq(cache_open(t.d, b, "y", &id, &life, &why), 0);
	session_end(a);
	a = td_session(&t, "another");
	ck_assert_uint_eq(cache_by_id(t.d, x)->users, 0);
	ck_assert_uint_eq(cache_by_id(t.d, y)->users, 1);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "x"));
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "y"));
}
END_TEST

/* ---- deaths of the daemon ---- */

/* Between the record and its creator's bit. */
START_TEST(a_cache_that_was_only_begun_ends)
{
	struct cache_request q = { .name = "half", .size = 64 };
	struct kmem_cache *k = NULL;
	const char *why = "";

	ck_assert_int_eq(kmem_cache_create(t.d->slabs, &q, 1, &k, &why), 0);
	restart();
	ck_assert_ptr_nonnull(kmem_cache_find(t.d->slabs, "half"));
	td_check(&t);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "half"));
	ck_assert_uint_eq(t.d->control.cache[CACHE_BUILTIN_MAX + 1].life, 0);
}
END_TEST

/* Between its last user's bit and the record. */
START_TEST(an_end_that_was_only_begun_is_completed)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);

	td_object_free(&t, a, td_object(&t, cache_by_id(t.d, id), a));
	atomic_store(&ledger_users(&t.pool.ledger, id)[0], 0);
	restart();
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 0);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
}
END_TEST

START_TEST(objects_outlive_their_users_and_the_daemon)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);
	uint32_t granule = td_object(&t, cache_by_id(t.d, id), b);

	session_end(a);
	a = td_session(&t, "another");
	restart();
	cache_tick(t.d);
	ck_assert_uint_eq(tc_out(&t, id), 1);
	ck_assert_int_eq(td_object_free(&t, b, granule), 0);
	cache_tick(t.d);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
}
END_TEST

/* ---- while it is about to end ---- */

START_TEST(who_comes_while_it_is_ending_asks_again)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), got = 99;
	struct cache *c = cache_by_id(t.d, id);
	const char *why = "";
	uint64_t life = 99;

	cache_set_state(c, CACHE_ENDING);
	ck_assert_int_eq(tc_create(&t, b, "dentry", 192, 0, &got, &life, &why), -EAGAIN);
	ck_assert_int_eq(cache_open(t.d, b, "dentry", &got, &life, &why), -EAGAIN);
	ck_assert(got == 99 && life == 99);
	ck_assert_ptr_null(cache_enter(t.d, id, 0));
	ck_assert_ptr_eq(cache_enter_to_free(t.d, id), c);
	cache_leave(c);
	ck_assert_uint_eq(atomic_load(&c->inside), 0);
	cache_set_state(c, CACHE_LIVE);
	ck_assert_int_eq(cache_open(t.d, b, "dentry", &got, &life, &why), 0);
}
END_TEST

START_TEST(shrinking_gives_all_back)
{
	uint32_t id = tc_new(&t, a, "dentry", 4000), out[40], i;
	struct cache *c = cache_enter(t.d, id, 0);
	struct kmem_cache_stats s;

	for (i = 0; i < 40; i++)
		out[i] = td_object(&t, c, b);
	for (i = 1; i < 40; i++)
		ck_assert(td_object_change(&t, out[i], OWNER_HELD, b->id, OWNER_RETURNED, b->id));
	cache_shrink(c);
	cache_leave(c);
	slab_shrink(c->slab, 0, 0);
	kmem_cache_stats(c->slab, &s);
	ck_assert_uint_eq(s.objects_out, 1);
	ck_assert_uint_eq(s.slabs, 1);
}
END_TEST

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
	restart();
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
	Suite *s = suite_create("cache_end");
	TCase *c = tcase_create("cache_end");
	SRunner *r;
	int failed;

	tcase_set_timeout(c, 240);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, the_last_user_removes_it);
	tcase_add_test(c, live_objects_are_told_with_their_holders);
	tcase_add_test(c, many_holders_are_summed_up);
	tcase_add_test(c, what_nobody_has_does_not_hinder);
	tcase_add_test(c, what_is_on_its_way_is_told);
	tcase_add_test(c, a_cache_without_users_and_objects_ends);
	tcase_add_test(c, returned_objects_are_looked_for);
	tcase_add_test(c, the_dead_are_no_users);
	tcase_add_test(c, a_cache_that_was_only_begun_ends);
	tcase_add_test(c, an_end_that_was_only_begun_is_completed);
	tcase_add_test(c, objects_outlive_their_users_and_the_daemon);
	tcase_add_test(c, who_comes_while_it_is_ending_asks_again);
	tcase_add_test(c, shrinking_gives_all_back);
	tcase_add_test(c, ends_and_uses_at_the_same_time);
	tcase_add_test(c, random_operations);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
