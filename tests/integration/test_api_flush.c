/* SPDX-License-Identifier: MIT */
/*
 * What idle threads cache of objects, in this process and in others: who asks for it gets it back.
 *
 *     kmmctl drop-caches, shrink CACHE, leaks      kmm_cache_shrink, kmm_cache_destroy
 *                          \                      /
 *                           FLUSH to every session: its own thread empties the others' magazines
 *
 * A session that does not answer in time is told of. Where a test wants all to have answered it
 * asks until they have: a busy machine may take longer than the daemon waits.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/objects.h"

#define CACHE "idle"
#define OTHER "other"
#define SIZE 128
#define N 200u

static struct daemon d;
static struct kmm *k;
static struct kmm_cache *c;
static struct peer a, b;
static uint64_t free_at_start;

static void peer_ready(struct peer *p)
{
	peer_start(p, &d);
	ck_assert_int_eq(peer_do_text(p, PEER_CACHE_OPEN, CACHE, 0, 0, 0), 0);
}

/* What a command that gives back says. */
struct said {
	unsigned long objects, slabs, asked, silent;
};

static unsigned long number(const char *text, const char *key)
{
	char quoted[32];
	const char *p;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	p = strstr(text, quoted);
	ck_assert_msg(p != NULL, "%s: %s", key, text);
	return strtoul(p + strlen(quoted), NULL, 10);
}

static struct said give_back(const char *command, const char *argument)
{
	const char *const args[] = { "--json", command, argument, NULL };
	struct said s;
	char *text;

	ck_assert_int_eq(daemon_ctl(&d, &text, args), 0);
	s.objects = number(text, "objects");
	s.slabs = number(text, argument ? "pages" : "slabs");
	s.asked = number(text, "asked");
	s.silent = number(text, "silent");
	free(text);
	return s;
}

/* Until all have answered; the sums of all rounds. */
static struct said all_give_back(const char *command, const char *argument)
{
	struct said sum = { 0 }, s;

	do {
		s = give_back(command, argument);
		sum.objects += s.objects;
		sum.slabs += s.slabs;
		sum.asked = s.asked;
	} while (s.silent);
	return sum;
}

static void start(void)
{
	free_at_start = daemon_free_pages(&d);
	k = session_start(&d);
	c = kmm_cache_create(k, CACHE, SIZE, 0, 0, NULL);
	ck_assert_ptr_nonnull(c);
	peer_ready(&a);
	peer_ready(&b);
	wait_until(give_back("drop-caches", NULL).asked == 3); /* all listen */
}

static void setup(void)
{
	daemon_start(&d, NULL);
	start();
}

static void setup_supervised(void)
{
	daemon_start_supervised(&d, NULL);
	start();
}

static void teardown(void)
{
	if (a.pid)
		peer_stop(&a);
	if (b.pid)
		peer_stop(&b);
	ck_assert_int_eq(kmm_close(k), 0);
	wait_until(daemon_count_sessions(&d) == 0);
	wait_until(daemon_free_pages(&d) == free_at_start);
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(daemon_stop(&d), 0);
}

static void churn(struct peer *p)
{
	ck_assert_int_eq(peer_do(p, PEER_OBJECT_CHURN, 0, N, 0), 0);
}

static struct cache_row row(const char *name)
{
	struct cache_row r;

	ck_assert(daemon_cache_row(&d, name, &r));
	return r;
}

/* ---- another process ---- */

START_TEST(dropping_caches_reaches_idle_threads)
{
	struct said s;

	churn(&a);
	churn(&b);
	ck_assert_uint_ge(row(CACHE).active, 2);
	s = all_give_back("drop-caches", NULL);
	ck_assert_uint_eq(s.asked, 3);
	ck_assert_uint_eq(row(CACHE).active, 0);
	ck_assert_uint_eq(row(CACHE).slabs, 0);
	/* N objects each, at least as many slabs as a process's need */
	ck_assert_uint_ge(s.objects, N);
	ck_assert_uint_ge(s.slabs, N * SIZE / KMM_PAGE_SIZE);
	ck_assert_uint_eq(daemon_session_number(&d, a.session, "objects"), 0);
	ck_assert_uint_eq(daemon_objects_active(&d), 0);
	churn(&a); /* as before */
	s = all_give_back("drop-caches", NULL);
	ck_assert_uint_ge(s.objects, 1);
	s = all_give_back("drop-caches", NULL);
	ck_assert_uint_eq(s.objects, 0);
}
END_TEST

START_TEST(shrinking_reaches_idle_threads)
{
	int64_t other = peer_do_text(&a, PEER_CACHE_CREATE, OTHER, SIZE, 0, 0);
	unsigned long others;
	struct said s;

	ck_assert_int_ge(other, 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, (uint64_t)other, N, 0), 0);
	others = row(OTHER).active;
	ck_assert_uint_gt(others, 0);
	churn(&a);
	churn(&b);
	if (_i == 0) {
		unsigned long were = row(CACHE).active, slabs = row(CACHE).slabs;

		s = all_give_back("shrink", CACHE);
		/* what was active, and what lay in the depot and per CPU */
		ck_assert_uint_ge(s.objects, were);
		ck_assert_uint_eq(s.slabs, slabs * row(CACHE).pages_per_slab);
	} else {
		do {
			ck_assert_int_eq(kmm_cache_shrink(c), 0);
		} while (row(CACHE).slabs && daemon_has_session(&d, a.session));
	}
	ck_assert_uint_eq(row(CACHE).active, 0);
	ck_assert_uint_eq(row(CACHE).slabs, 0);
	ck_assert_uint_eq(row(OTHER).active, others);
}
END_TEST

static bool leaks_are_exact(void)
{
	char *text;
	bool are;

	ck_assert_int_eq(daemon_ctl(&d, &text, (const char *const[]){ "leaks", NULL }), 0);
	are = !strstr(text, "did not answer");
	free(text);
	return are;
}

START_TEST(leaks_leave_out_what_is_only_cached)
{
	int64_t place;

	churn(&a);
	place = peer_do(&b, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	ck_assert_int_ge(place, 0);
	ck_assert_int_gt(daemon_session_number(&d, a.session, "objects"), 0);
	wait_until(daemon_leak(&d, a.session, CACHE) == 0);
	wait_until(daemon_leak(&d, b.session, CACHE) == 1);
	ck_assert_int_eq(daemon_session_number(&d, a.session, "objects"), 0);
	wait_until(leaks_are_exact());
	ck_assert_int_eq(peer_do(&b, PEER_OBJECT_FREE, 0, (uint64_t)place, 0), 0);
}
END_TEST

/* A process that stands still holds nobody up for long, and is told of. */
START_TEST(who_does_not_answer_is_told_of)
{
	struct said s;
	char *text, line[80];

	churn(&a);
	churn(&b);
	ck_assert_int_eq(kill(a.pid, SIGSTOP), 0);
	s = give_back("drop-caches", NULL);
	ck_assert_uint_eq(s.asked, 3);
	ck_assert_uint_ge(s.silent, 1);
	ck_assert_uint_gt(row(CACHE).active, 0);
	ck_assert_int_eq(daemon_ctl(&d, &text, (const char *const[]){ "shrink", CACHE, NULL }), 0);
	ck_assert_msg(strstr(text, " of 3 sessions did not answer: "), "%s", text);
	free(text);
	ck_assert_uint_gt(daemon_leak(&d, a.session, CACHE), 0);
	ck_assert_int_eq(daemon_ctl(&d, &text, (const char *const[]){ "leaks", NULL }), 0);
	snprintf(line, sizeof(line), "\nsession %u did not answer: ", a.session);
	ck_assert_msg(strstr(text, line), "%s", text);
	free(text);
	ck_assert_int_eq(kill(a.pid, SIGCONT), 0);
	/* it does when it can, and is waited for again */
	wait_until(row(CACHE).active == 0);
	churn(&a);
	all_give_back("drop-caches", NULL);
	ck_assert_uint_eq(row(CACHE).active, 0);
}
END_TEST

START_TEST(who_died_is_not_waited_for)
{
	churn(&a);
	churn(&b);
	peer_kill(&a);
	a.pid = 0;
	all_give_back("drop-caches", NULL);
	wait_until(row(CACHE).active == 0);
}
END_TEST

START_TEST(after_the_daemon_died)
{
	churn(&a);
	daemon_kill(&d);
	daemon_wait_serving(&d);
	churn(&b);
	/* a session that is not back yet is not asked */
	while (row(CACHE).active)
		all_give_back("drop-caches", NULL);
	ck_assert_uint_eq(row(CACHE).slabs, 0);
	churn(&a);
}
END_TEST

/* ---- this process ---- */

struct idle {
	pthread_barrier_t cached, done;
};

static void *idle_thread(void *arg)
{
	struct idle *i = arg;
	void *p[N];

	must(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, p) == N);
	for (unsigned j = 0; j < N; j++)
		must(kmm_cache_free(c, p[j]) == 0);
	pthread_barrier_wait(&i->cached);
	pthread_barrier_wait(&i->done);
	must((p[0] = kmm_cache_alloc(c, KMM_GFP_KERNEL)) != NULL);
	must(kmm_cache_free(c, p[0]) == 0);
	return NULL;
}

START_TEST(of_this_process_s_threads)
{
	struct idle i;
	pthread_t t;
	void *p;

	pthread_barrier_init(&i.cached, NULL, 2);
	pthread_barrier_init(&i.done, NULL, 2);
	ck_assert_int_eq(pthread_create(&t, NULL, idle_thread, &i), 0);
	pthread_barrier_wait(&i.cached);
	ck_assert_ptr_nonnull(p = kmm_cache_alloc(c, KMM_GFP_KERNEL));
	object_fill(p, SIZE, 1);
	ck_assert_int_gt(daemon_session_number(&d, kmm_session_id(k), "objects"), 1);
	all_give_back("drop-caches", NULL);
	/* what the program has stays */
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "objects"), 1);
	ck_assert(object_check(p, SIZE, 1));
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	pthread_barrier_wait(&i.done);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
}
END_TEST

static _Atomic bool stop;

static void *busy_thread(void *arg)
{
	unsigned seed = *(unsigned *)arg, n = 0, was;
	unsigned char *mine[64], last;

	while (!atomic_load(&stop) || n > 0) {
		if (n < 64 && !atomic_load(&stop) && rand_r(&seed) % 2) {
			must((mine[n] = kmm_cache_alloc(c, KMM_GFP_KERNEL)) != NULL);
			object_fill(mine[n], SIZE, seed ^ n);
			memcpy(mine[n], &seed, sizeof(seed));
			n++;
		} else if (n > 0) {
			n--;
			memcpy(&was, mine[n], sizeof(was));
			last = mine[n][SIZE - 1];
			object_fill(mine[n], SIZE, was ^ n);
			must(mine[n][SIZE - 1] == last); /* nobody else had it */
			must(kmm_cache_free(c, mine[n]) == 0);
		}
	}
	return NULL;
}

/* Asked at any moment of what threads do, nothing is lost and nothing served twice. */
START_TEST(of_busy_threads)
{
	unsigned seed[3] = { 1, 2, 3 };
	pthread_t t[3];

	atomic_store(&stop, false);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, busy_thread, &seed[i]), 0);
	for (int i = 0; i < 60; i++) {
		if (i % 3 == 0)
			give_back("shrink", CACHE);
		else if (i % 3 == 1)
			give_back("drop-caches", NULL);
		else
			ck_assert_int_eq(peer_do(&a, PEER_CACHE_SHRINK, 0, 0, 0), 0);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_join(t[i], NULL), 0);
	wait_until(give_back("drop-caches", NULL).silent == 0 && row(CACHE).active == 0);
	ck_assert(daemon_is_clean(&d));
}
END_TEST

/* An event's callback runs in the thread that would answer: its own session is not waited for. */
static _Atomic int shrunk;

static void shrink_in_callback(struct kmm *session, enum kmm_event event, void *arg)
{
	(void)session;
	(void)arg;
	if (event == KMM_EVENT_BAD_FREE)
		atomic_store(&shrunk, 1 + -kmm_cache_shrink(c));
}

START_TEST(asked_from_a_callback)
{
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	churn(&a);
	ck_assert_int_eq(kmm_on_event(k, shrink_in_callback, NULL), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0); /* seen when it leaves */
	ck_assert_int_eq(kmm_flush(k), 0);
	wait_until(atomic_load(&shrunk) != 0);
	ck_assert_int_eq(atomic_load(&shrunk), 1);
	ck_assert_int_eq(kmm_on_event(k, NULL, NULL), 0);
}
END_TEST

/* ---- destroying ---- */

START_TEST(the_last_user_asks_before_it_is_refused)
{
	int64_t place;
	char who[48];

	churn(&a);
	churn(&b);
	place = peer_do(&b, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	ck_assert_int_eq(peer_do(&a, PEER_CACHE_DESTROY, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_CACHE_DESTROY, 0, 0, 0), 0);
	if (_i == 1) /* it cannot answer */
		ck_assert_int_eq(kill(b.pid, SIGSTOP), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), -EBUSY);
	snprintf(who, sizeof(who), "1 object is live: 1 of session %u", b.session);
	ck_assert_msg(strstr(kmm_error_text(), who), "%s", kmm_error_text());
	if (_i == 1)
		ck_assert_int_eq(kill(b.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_do(&b, PEER_OBJECT_FREE, PEER_NO_CACHE, (uint64_t)place, 0), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
	ck_assert_uint_eq(daemon_cache_active(&d, CACHE), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("flush");
	TCase *t = tcase_create("asked"), *r = tcase_create("restart");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, dropping_caches_reaches_idle_threads);
	tcase_add_loop_test(t, shrinking_reaches_idle_threads, 0, 2);
	tcase_add_test(t, leaks_leave_out_what_is_only_cached);
	tcase_add_test(t, who_does_not_answer_is_told_of);
	tcase_add_test(t, who_died_is_not_waited_for);
	tcase_add_test(t, of_this_process_s_threads);
	tcase_add_test(t, of_busy_threads);
	tcase_add_test(t, asked_from_a_callback);
	tcase_add_loop_test(t, the_last_user_asks_before_it_is_refused, 0, 2);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(r, setup_supervised, teardown);
	tcase_set_timeout(r, 120);
	tcase_add_test(r, after_the_daemon_died);
	suite_add_tcase(s, r);
	return suite_run(s);
}
