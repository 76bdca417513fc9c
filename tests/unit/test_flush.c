/* SPDX-License-Identifier: MIT */
/*
 * FLUSHes: who is asked, who is waited for, and for how long (daemon/flush.c). The sessions are
 * those of test_domain.h; their streams of events are played: a session has one when `events` is
 * set, and what is noted in it is remembered here.
 */
#define event_note_flush noted
#include "daemon/flush.c"
#undef event_note_flush

#include "tests/suite.h"
#include "tests/unit/test_domain.h"

static struct test_domain t;
static struct session_table *table;
static struct session *s[4];

static struct {
	uint64_t serial;
	uint32_t cache;
} note[TD_SESSIONS];

void noted(struct session *to, uint64_t serial, uint32_t cache)
{
	note[to->id].serial = serial;
	note[to->id].cache = cache;
}

static void stream_begin(struct session *of)
{
	flush_stream_begun(of);
	of->events = (struct event_stream *)(void *)of; /* only whether there is one */
}

static void stream_end(struct session *of)
{
	LOCK_SCOPED(&table->lock);
	of->events = NULL;
	flush_stream_ended(of);
}

struct asker {
	struct flush_wait w; /* first */
	unsigned int done;
};

static void asker_done(struct flush_wait *w)
{
	((struct asker *)w)->done++;
}

static bool ask(struct asker *a, uint32_t cache, const struct session *but)
{
	*a = (struct asker){ .w = { .cache = cache, .but = but, .done = asker_done } };
	return flush_begin(table, &a->w);
}

static void setup(void)
{
	unsigned int i;

	td_init(&t);
	table = t.kmmd.sessions;
	memset(note, 0, sizeof(note));
	for (i = 0; i < 4; i++) {
		s[i] = td_session(&t, "member");
		if (i < 3)
			stream_begin(s[i]);
	}
}

static void teardown(void)
{
	unsigned int i;

	ck_assert_ptr_null(table->flush_first);
	ck_assert_ptr_eq(table->flush_last, &table->flush_first);
	for (i = 0; i < 4; i++)
		s[i]->events = NULL;
	td_check(&t);
	td_fini(&t);
}

START_TEST(all_who_listen_are_asked)
{
	struct asker a;

	ck_assert(ask(&a, 41, NULL));
	ck_assert_uint_eq(a.w.asked, 3);
	ck_assert_uint_eq(note[s[0]->id].serial, a.w.serial);
	ck_assert_uint_eq(note[s[0]->id].cache, 41);
	ck_assert_uint_eq(note[s[3]->id].serial, 0);
	ck_assert_int_eq(flush_answer(s[0], a.w.serial), 0);
	ck_assert_int_eq(flush_answer(s[0], a.w.serial), 0); /* twice counts once */
	ck_assert_int_eq(flush_answer(s[1], a.w.serial), 0);
	ck_assert_uint_eq(a.done, 0);
	ck_assert_uint_eq(flush_silent(table, &a.w), 1);
	ck_assert(flush_answered(s[0], a.w.serial));
	ck_assert(!flush_answered(s[2], a.w.serial));
	ck_assert(!flush_answered(s[3], a.w.serial));
	ck_assert_int_eq(flush_answer(s[2], a.w.serial), 0);
	ck_assert_uint_eq(a.done, 1);
	ck_assert_uint_eq(flush_silent(table, &a.w), 0);
	ck_assert(!flush_unwait(table, &a.w));
}
END_TEST

START_TEST(nobody_to_wait_for)
{
	struct asker a;
	unsigned int i;

	for (i = 0; i < 2; i++)
		stream_end(s[i]);
	ck_assert(!ask(&a, 0, s[2]));
	ck_assert_uint_eq(a.w.asked, 0);
	ck_assert_uint_eq(note[s[2]->id].serial, 0);
	stream_end(s[2]);
	ck_assert(!ask(&a, 0, NULL));
	ck_assert_uint_eq(a.done, 0);
	ck_assert(!flush_unwait(table, &a.w));
}
END_TEST

START_TEST(an_answer_is_for_all_before_it)
{
	struct asker a, b, c;

	ck_assert(ask(&a, 1, NULL));
	ck_assert(ask(&b, 2, s[0])); /* its own asker is not asked */
	ck_assert(ask(&c, 3, NULL));
	ck_assert_uint_eq(note[s[0]->id].cache, 3);
	ck_assert_int_eq(flush_answer(s[0], c.w.serial + 1), -EINVAL);
	ck_assert_int_eq(flush_answer(s[0], c.w.serial), 0);
	ck_assert_int_eq(flush_answer(s[1], b.w.serial), 0);
	ck_assert_int_eq(flush_answer(s[2], c.w.serial), 0);
	ck_assert_uint_eq(a.done, 1);
	ck_assert_uint_eq(b.done, 1);
	ck_assert_uint_eq(c.done, 0);
	ck_assert_int_eq(flush_answer(s[1], a.w.serial), 0); /* late, and below what it said */
	ck_assert_uint_eq(c.done, 0);
	ck_assert_int_eq(flush_answer(s[1], c.w.serial), 0);
	ck_assert_uint_eq(c.done, 1);
}
END_TEST

START_TEST(who_ends_or_comes_is_not_waited_for)
{
	struct asker a, b;

	ck_assert(ask(&a, 0, NULL));
	stream_begin(s[3]); /* after it was asked */
	ck_assert(ask(&b, 0, NULL));
	ck_assert_uint_eq(b.w.asked, 4);
	stream_end(s[0]);
	stream_end(s[1]);
	ck_assert_uint_eq(a.done, 0);
	ck_assert_int_eq(flush_answer(s[2], b.w.serial), 0);
	ck_assert_uint_eq(a.done, 1);
	ck_assert_uint_eq(b.done, 0);
	ck_assert_uint_eq(flush_silent(table, &a.w), 0);
	ck_assert_uint_eq(flush_silent(table, &b.w), 1);
	stream_end(s[3]);
	ck_assert_uint_eq(b.done, 1);
}
END_TEST

START_TEST(nobody_waits_beyond_its_time)
{
	struct asker a, b, c;
	uint64_t next;

	ck_assert(ask(&a, 0, NULL));
	ck_assert(ask(&b, 0, NULL));
	ck_assert_uint_eq(b.w.until - a.w.until < UINT64_C(1000000000000), 1);
	ck_assert_int_eq(flush_answer(s[0], b.w.serial), 0);
	next = flush_expire(table, a.w.until - 1);
	ck_assert_uint_eq(next, a.w.until);
	ck_assert_uint_eq(a.done, 0);
	ck_assert_uint_eq(flush_expire(table, b.w.until), 0);
	ck_assert_uint_eq(a.done, 1);
	ck_assert_uint_eq(b.done, 1);
	ck_assert_uint_eq(flush_silent(table, &b.w), 2);
	/* The silent ones are asked, but not waited for any more, ... */
	ck_assert(ask(&a, 0, NULL));
	ck_assert_uint_eq(a.w.asked, 3);
	ck_assert_uint_eq(a.w.left, 1);
	ck_assert_int_eq(flush_answer(s[0], a.w.serial), 0);
	ck_assert_uint_eq(a.done, 1);
	ck_assert_uint_eq(flush_silent(table, &a.w), 2);
	/* ... until they have said something. */
	ck_assert_int_eq(flush_answer(s[1], b.w.serial), 0);
	ck_assert(ask(&c, 0, NULL));
	ck_assert_uint_eq(c.w.left, 2);
	ck_assert_int_eq(flush_answer(s[0], c.w.serial), 0);
	ck_assert_int_eq(flush_answer(s[1], c.w.serial), 0);
	ck_assert_uint_eq(c.done, 1);
	/* or began anew */
	stream_end(s[2]);
	stream_begin(s[2]);
	ck_assert(ask(&c, 0, NULL));
	ck_assert_uint_eq(c.w.left, 3);
	ck_assert(flush_unwait(table, &c.w));
}
END_TEST

/* Mute ones are counted down by waits from before they were, and by none twice. */
START_TEST(mute_between_two_waits)
{
	struct asker a, b, c;

	stream_end(s[1]);
	stream_end(s[2]);
	ck_assert(ask(&a, 0, NULL));
	a.w.until = 1;
	ck_assert(ask(&b, 0, NULL));
	flush_expire(table, 1);
	ck_assert_uint_eq(a.done, 1);
	ck_assert_uint_eq(b.done, 0);
	ck_assert(!ask(&c, 0, NULL)); /* s[0] is mute */
	ck_assert_uint_eq(b.done, 1);
	ck_assert_int_eq(flush_answer(s[0], c.w.serial), 0);
	ck_assert_uint_eq(b.done, 1);
	ck_assert(ask(&c, 0, NULL));
	ck_assert_int_eq(flush_answer(s[0], c.w.serial), 0);
	ck_assert_uint_eq(c.done, 1);
}
END_TEST

START_TEST(who_gives_up_waiting_is_told_nothing)
{
	struct asker a, b, c;

	ck_assert(ask(&a, 0, NULL));
	ck_assert(ask(&b, 0, NULL));
	ck_assert(ask(&c, 0, NULL));
	ck_assert(flush_unwait(table, &b.w));
	ck_assert(!flush_unwait(table, &b.w));
	ck_assert(flush_unwait(table, &c.w));
	flush_expire(table, UINT64_MAX);
	ck_assert_uint_eq(a.done, 1);
	ck_assert_uint_eq(b.done + c.done, 0);
}
END_TEST

/* ---- against a naive model ---- */

enum { MODEL_STEPS = 100000, MODEL_ASKERS = 6 };

struct model {
	struct asker a[MODEL_ASKERS];
	bool waiting[MODEL_ASKERS], counts[MODEL_ASKERS][4];
	bool mute[4];
};

static bool model_left(const struct model *m, unsigned int i)
{
	return m->counts[i][0] || m->counts[i][1] || m->counts[i][2] || m->counts[i][3];
}

static void model_settle(struct model *m, unsigned int x, uint64_t serial)
{
	unsigned int i;

	for (i = 0; i < MODEL_ASKERS; i++)
		if (m->waiting[i] && m->a[i].w.serial <= serial)
			m->counts[i][x] = false;
}

static void model_check(struct model *m)
{
	unsigned int i;

	for (i = 0; i < MODEL_ASKERS; i++) {
		if (!m->waiting[i])
			continue;
		ck_assert_uint_eq(m->a[i].done, !model_left(m, i));
		m->waiting[i] = model_left(m, i);
	}
}

static void model_ask(struct model *m, unsigned int i, unsigned int but)
{
	unsigned int x;
	bool waits;

	if (m->waiting[i])
		return;
	waits = ask(&m->a[i], 0, but < 4 ? s[but] : NULL);
	for (x = 0; x < 4; x++) {
		m->counts[i][x] = s[x]->events && x != but && !m->mute[x];
		if (s[x]->events && x != but && m->mute[x])
			model_settle(m, x, m->a[i].w.serial);
	}
	m->waiting[i] = model_left(m, i);
	ck_assert_int_eq(waits, m->waiting[i]);
}

static void model_expire(struct model *m)
{
	unsigned int i, x, first = MODEL_ASKERS;

	for (i = 0; i < MODEL_ASKERS; i++)
		if (m->waiting[i] &&
		    (first == MODEL_ASKERS || m->a[i].w.serial < m->a[first].w.serial))
			first = i;
	if (first == MODEL_ASKERS)
		return;
	for (x = 0; x < 4; x++) {
		m->mute[x] |= m->counts[first][x];
		m->counts[first][x] = false;
	}
	/* of those that began in the same moment, the first alone */
	table->flush_first->until = 1;
	flush_expire(table, 1);
}

START_TEST(as_a_model_says)
{
	const char *seed = getenv("KMM_TEST_SEED");
	unsigned int r = seed ? (unsigned int)strtoul(seed, NULL, 0) : 1, step, x;
	static struct model m;

	memset(&m, 0, sizeof(m));
	fprintf(stderr, "KMM_TEST_SEED=%u\n", r);
	for (step = 0; step < MODEL_STEPS; step++) {
		uint64_t last = table->flush_serial;

		x = (unsigned int)rand_r(&r) % 4;
		switch (rand_r(&r) % 8) {
		case 0:
			if (s[x]->events)
				stream_end(s[x]);
			else
				stream_begin(s[x]);
			model_settle(&m, x, last);
			m.mute[x] = s[x]->events ? false : m.mute[x];
			break;
		case 1:
			model_expire(&m);
			break;
		case 2:
		case 3:
			model_ask(&m, (unsigned int)rand_r(&r) % MODEL_ASKERS,
			          (unsigned int)rand_r(&r) % 8);
			break;
		default:
			if (!s[x]->events)
				break;
			last -= last ? (uint64_t)rand_r(&r) % (last < 4 ? last : 4) : 0;
			ck_assert_int_eq(flush_answer(s[x], last), 0);
			model_settle(&m, x, last);
			m.mute[x] = false;
			break;
		}
		model_check(&m);
	}
	for (x = 0; x < 4; x++)
		if (s[x]->events)
			stream_end(s[x]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("flush");
	TCase *c = tcase_create("flush");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, all_who_listen_are_asked);
	tcase_add_test(c, nobody_to_wait_for);
	tcase_add_test(c, an_answer_is_for_all_before_it);
	tcase_add_test(c, who_ends_or_comes_is_not_waited_for);
	tcase_add_test(c, nobody_waits_beyond_its_time);
	tcase_add_test(c, mute_between_two_waits);
	tcase_add_test(c, who_gives_up_waiting_is_told_nothing);
	tcase_add_test(c, as_a_model_says);
	suite_add_tcase(suite, c);
	return suite_status(suite);
}
