/* SPDX-License-Identifier: MIT */
/*
 * How much a shrinker is asked to free: client/shrinker.c alone, against Linux's do_shrink_slab
 * (mm/shrinker.c) as its rules are written down: numbers for each case, then 20,000 random turns, each
 * call predicted. The session is a structure of the test's; nothing runs by itself.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/object.h"
#include "tests/suite.h"

/* ---- the rest of the library, as far as it is needed ---- */

__thread uint32_t thread_shrinking;

int error_set(int err, const char *fmt, ...)
{
	(void)fmt;
	return -err;
}
void error_text_copy(char out[ERROR_TEXT_MAX])
{
	out[0] = 0;
}
void error_text_put(const char *text)
{
	(void)text;
}
int session_check_present(struct kmm *k)
{
	return k ? 0 : -EINVAL;
}
int session_enter(struct kmm *k)
{
	return session_check_present(k);
}
void session_leave(struct kmm *k)
{
	(void)k;
}

/* ---- a shrinker that writes down how it was called ---- */

static struct kmm *k;
static struct control_session session[2];
static struct control_status status;

#define CALLS 64
struct cache {
	struct kmm_shrinker s;
	size_t freeable;
	int stop_after; /* scans; -1: never stops */
	bool end_pressure;
	unsigned counts, scans;
	size_t scan[CALLS], asked;
	uint32_t inside;
	kmm_gfp_t gfp;
};

/* Faster than an assertion, of which there would be millions. */
static void must_be(bool condition)
{
	if (!condition)
		ck_abort_msg("another gfp than count had");
}

static size_t cache_count(struct kmm_shrinker *s, kmm_gfp_t gfp)
{
	struct cache *c = s->private_data;

	c->counts++;
	c->gfp = gfp;
	c->inside = thread_shrinking;
	return c->freeable;
}

static size_t cache_scan(struct kmm_shrinker *s, size_t n, kmm_gfp_t gfp)
{
	struct cache *c = s->private_data;

	must_be(gfp == c->gfp);
	if (c->stop_after == (int)c->scans)
		return SIZE_MAX;
	if (c->scans < CALLS)
		c->scan[c->scans] = n;
	c->scans++;
	c->asked += n;
	if (c->end_pressure)
		atomic_store(&status.pressure, 0);
	return n;
}

static void cache_start(struct cache *c, size_t freeable)
{
	*c = (struct cache){ .freeable = freeable, .stop_after = -1 };
	c->s = (struct kmm_shrinker){ .count = cache_count, .scan = cache_scan };
	c->s.private_data = c;
	ck_assert_int_eq(kmm_register_shrinker(k, &c->s), 0);
}

static void press(uint32_t priority)
{
	if (shrinker_press(k, KMM_GFP_KERNEL, priority))
		shrinker_run(k);
}

/* What is asked for at one event. */
static size_t asked_at(struct cache *c, uint32_t priority)
{
	c->asked = 0;
	c->scans = 0;
	press(priority);
	return c->asked;
}

static void setup(void)
{
	k = calloc(1, sizeof(*k));
	ck_assert_ptr_nonnull(k);
	k->id = 1;
	k->control.session = session;
	k->control.status = &status;
	memset(session, 0, sizeof(session));
	atomic_store(&status.pressure, 1);
	pthread_mutex_init(&k->shrinker_lock, NULL);
	pthread_cond_init(&k->shrinker_done, NULL);
	atomic_store(&k->state, SESSION_UP);
}

static void teardown(void)
{
	shrinker_free_all(k);
	free(k);
}

/* ---- cases ---- */

/* (freeable >> priority) * 4 / 2, in batches of 128. */
START_TEST(a_share_by_priority)
{
	struct cache c;

	cache_start(&c, (size_t)1 << 20);
	ck_assert_uint_eq(asked_at(&c, 12), 512);
	ck_assert_uint_eq(c.scans, 4);
	for (int i = 0; i < 4; i++)
		ck_assert_uint_eq(c.scan[i], 128);
	ck_assert_uint_eq(asked_at(&c, 11), 1024);
	ck_assert_uint_eq(asked_at(&c, 4), 131072);
	ck_assert_uint_eq(asked_at(&c, 0), (size_t)2 << 20);
	ck_assert_uint_eq(c.gfp, KMM_GFP_KERNEL);
	ck_assert_uint_eq(c.inside, 1);
	ck_assert_uint_eq(thread_shrinking, 0);
}
END_TEST

START_TEST(seeks_divide_it)
{
	static const int seeks[] = { 0, 1, 2, 4, 8 };
	static const size_t share[] = { 2048, 4096, 2048, 1024, 512 };
	struct cache c[5];

	for (int i = 0; i < 5; i++) {
		cache_start(&c[i], 1024 << 4);
		ck_assert_int_eq(kmm_unregister_shrinker(k, &c[i].s), 0);
		c[i].s.seeks = seeks[i];
		ck_assert_int_eq(kmm_register_shrinker(k, &c[i].s), 0);
	}
	press(4);
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(c[i].asked, share[i]);
}
END_TEST

/* Less than a batch is put off until it is one, or all that there is. */
START_TEST(small_shares_are_deferred)
{
	struct cache c;

	cache_start(&c, 1000);
	ck_assert_uint_eq(asked_at(&c, 12), 0);
	ck_assert_uint_eq(asked_at(&c, 5), 0);   /* 62 */
	ck_assert_uint_eq(asked_at(&c, 5), 0);   /* (62 >> 5) + 62 = 63; deferred 124 */
	ck_assert_uint_eq(asked_at(&c, 3), 256); /* (124 >> 3) + 250 = 265; deferred 118 */
	ck_assert_uint_eq(asked_at(&c, 0), 1920); /* of 118 + 2000 at most 2000; 80 are left */
	ck_assert_uint_eq(c.scans, 15);
}
END_TEST

START_TEST(few_objects_are_all_asked_for)
{
	struct cache c;

	cache_start(&c, 10);
	ck_assert_uint_eq(asked_at(&c, 2), 0); /* 4 of 10 */
	ck_assert_uint_eq(asked_at(&c, 0), 20);
	ck_assert_uint_eq(c.scans, 1);
	ck_assert_uint_eq(c.scan[0], 20);
}
END_TEST

START_TEST(nothing_to_free)
{
	static const size_t none[] = { 0, SIZE_MAX, SIZE_MAX - 1 };
	struct cache c;

	cache_start(&c, none[_i]);
	ck_assert_uint_eq(asked_at(&c, 0), 0);
	ck_assert_uint_eq(c.counts, 1);
	ck_assert_uint_eq(c.scans, 0);
}
END_TEST

/* Numbers beyond all reason overflow nothing. */
START_TEST(very_many)
{
	struct cache c;

	cache_start(&c, SIZE_MAX - 2);
	c.stop_after = 3;
	ck_assert_uint_eq(asked_at(&c, 0), 3 * 128);
	ck_assert_uint_eq(asked_at(&c, 40), 3 * 128);
	ck_assert_uint_eq(asked_at(&c, 63), 0);
	ck_assert_uint_eq(asked_at(&c, UINT32_MAX), 0);
}
END_TEST

START_TEST(stop_ends_the_turn)
{
	struct cache c[2];

	cache_start(&c[0], 10000);
	cache_start(&c[1], 10000);
	c[0].stop_after = 2;
	press(0);
	ck_assert_uint_eq(c[0].asked, 256);
	/* the others' turns come */
	ck_assert_uint_ge(c[1].asked, 20000 - 127);
}
END_TEST

/* When nobody waits any more nothing more is freed. */
START_TEST(the_end_of_waiting_ends_it)
{
	struct cache c[2];

	cache_start(&c[0], 10000);
	cache_start(&c[1], 10000);
	c[0].end_pressure = true;
	press(0);
	ck_assert_uint_eq(c[0].asked, 128);
	ck_assert_uint_eq(c[1].asked, 0);
}
END_TEST

START_TEST(not_without_fs)
{
	struct cache c;

	cache_start(&c, 10000);
	ck_assert(!shrinker_press(k, KMM_GFP_NOFS, 0));
	shrinker_run(k);
	ck_assert_uint_eq(c.counts, 0);
	ck_assert(!shrinker_press(k, 0, 0));
	ck_assert(shrinker_press(k, KMM_GFP_FS, 0));
	/* an event is good for one run */
	shrinker_run(k);
	shrinker_run(k);
	ck_assert_uint_eq(c.counts, 1);
}
END_TEST

/* Of several events before a run the last counts; without shrinkers there is nothing to run. */
START_TEST(events_become_one)
{
	struct cache c;

	ck_assert(!shrinker_press(k, KMM_GFP_KERNEL, 0));
	cache_start(&c, 1 << 20);
	shrinker_run(k);
	ck_assert_uint_eq(c.counts, 0);
	ck_assert(shrinker_press(k, KMM_GFP_KERNEL, 3));
	ck_assert(shrinker_press(k, KMM_GFP_USER, 12));
	shrinker_run(k);
	ck_assert_uint_eq(c.counts, 1);
	ck_assert_uint_eq(c.asked, 512);
	ck_assert_uint_eq(c.gfp, KMM_GFP_USER);
}
END_TEST

START_TEST(not_while_the_daemon_is_away)
{
	struct cache c;

	cache_start(&c, 10000);
	ck_assert(shrinker_press(k, KMM_GFP_KERNEL, 0));
	atomic_store(&k->state, SESSION_DOWN);
	shrinker_run(k);
	ck_assert_uint_eq(c.counts, 0);
	atomic_store(&k->state, SESSION_UP);
	shrinker_run(k);
	ck_assert_uint_eq(c.counts, 1);
}
END_TEST

/* The daemon is told how many there are. */
START_TEST(the_record_counts_them)
{
	struct cache c[3];

	for (int i = 0; i < 3; i++) {
		cache_start(&c[i], 0);
		ck_assert_uint_eq(atomic_load(&session[1].shrinkers), i + 1);
	}
	ck_assert_int_eq(kmm_register_shrinker(k, &c[1].s), -EEXIST);
	ck_assert_uint_eq(atomic_load(&session[1].shrinkers), 3);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &c[1].s), 0);
	ck_assert_int_eq(kmm_unregister_shrinker(k, &c[1].s), -ENOENT);
	ck_assert_uint_eq(atomic_load(&session[1].shrinkers), 2);
	press(0);
	ck_assert_uint_eq(c[0].counts + c[2].counts, 2);
	ck_assert_uint_eq(c[1].counts, 0);
}
END_TEST

/* ---- random turns ---- */

static uint64_t random_state;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* do_shrink_slab, with what Linux calls nr_deferred. */
static size_t predict(size_t *deferred, size_t freeable, uint32_t priority, size_t seeks)
{
	size_t delta = (freeable >> priority) * 4 / seeks;
	size_t total = (*deferred >> priority) + delta, scanned = 0, next;

	if (total > 2 * freeable)
		total = 2 * freeable;
	while (total >= 128 || total >= freeable) {
		size_t n = total < 128 ? total : 128;

		total -= n;
		scanned += n;
	}
	next = *deferred + delta > scanned ? *deferred + delta - scanned : 0;
	*deferred = next < 2 * freeable ? next : 2 * freeable;
	return scanned;
}

START_TEST(as_predicted)
{
	const char *given = getenv("KMM_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 20260111;
	size_t deferred = 0;
	struct cache c;

	random_state = seed * 2 + 1;
	cache_start(&c, 0);
	for (int i = 0; i < 20000; i++) {
		uint32_t priority = (uint32_t)(random_next() % 13);
		size_t want;

		c.freeable = 1 + (size_t)(random_next() % (random_next() % 8 ? 3000 : 100000));
		c.s.seeks = (int)(random_next() % 10);
		want = predict(&deferred, c.freeable, priority, c.s.seeks ? (size_t)c.s.seeks : 2);
		ck_assert_msg(asked_at(&c, priority) == want,
			      "seed %llu, turn %d: %zu freeable, priority %u, seeks %d: %zu, not %zu",
			      (unsigned long long)seed, i, c.freeable, priority, c.s.seeks, c.asked,
			      want);
	}
}
END_TEST

/* Unregistered by its own callback, and gone at once: nobody looks at it again. */
static size_t count_of_the_last(struct kmm_shrinker *s, kmm_gfp_t gfp)
{
	(void)gfp;
	ck_assert_int_eq(kmm_unregister_shrinker(k, s), 0);
	munmap(s, 4096);
	return 1000;
}

START_TEST(gone_in_its_callback)
{
	struct kmm_shrinker *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct cache c;

	ck_assert_ptr_ne(s, MAP_FAILED);
	*s = (struct kmm_shrinker){ .count = count_of_the_last, .scan = cache_scan };
	ck_assert_int_eq(kmm_register_shrinker(k, s), 0);
	cache_start(&c, 1000);
	press(0);
	ck_assert_uint_eq(c.counts, 1);
	ck_assert_uint_eq(session[1].shrinkers, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shrinkers' shares");
	TCase *t = tcase_create("turns");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_share_by_priority);
	tcase_add_test(t, seeks_divide_it);
	tcase_add_test(t, small_shares_are_deferred);
	tcase_add_test(t, few_objects_are_all_asked_for);
	tcase_add_loop_test(t, nothing_to_free, 0, 3);
	tcase_add_test(t, very_many);
	tcase_add_test(t, stop_ends_the_turn);
	tcase_add_test(t, the_end_of_waiting_ends_it);
	tcase_add_test(t, not_without_fs);
	tcase_add_test(t, events_become_one);
	tcase_add_test(t, not_while_the_daemon_is_away);
	tcase_add_test(t, the_record_counts_them);
	tcase_add_test(t, gone_in_its_callback);
	tcase_add_test(t, as_predicted);
	suite_add_tcase(s, t);
	return suite_status(s);
}
