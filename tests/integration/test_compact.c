/* SPDX-License-Identifier: MIT */
/*
 * Pages of high memory move, and whoever has them does not notice: contents are right after the next
 * kmap, what is mapped or held stays where it is, a daemon that is killed meanwhile loses nothing.
 *
 *     HighMem of 16 MiB, every other page of it held:   #.#.#.#.#.#.#.#.   no block of two pages
 *     after compaction:                                 ........########
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_A ballast
#define FIXTURE_B other
#include "tests/integration/fixture.h"

#define HIGH_PAGES 4096u
#define HIGH KMM_GFP_HIGHMEM
#define ORDER 6u

static struct kmm_page *page[HIGH_PAGES];
static uint32_t nr;

static void setup_with(const char *backing, bool supervised)
{
	fixture_setup_configured("[pool]\nhighmem = 16M\n",
				 (const char *const[]){ "--backing", backing,
							supervised ? "--supervise" : NULL, NULL });
	nr = 0;
}

static void setup(void)
{
	setup_with("4k", false);
}

static void setup_huge(void)
{
	setup_with("auto", false);
}

static void setup_supervised(void)
{
	setup_with("4k", true);
}

static bool is_high(struct kmm_page *p)
{
	return kmm_page_address(k, p) == NULL && errno == ENOTSUP;
}

static void put(struct kmm_page *p, uint64_t seed)
{
	void *at = kmm_kmap(k, p);

	ck_assert_ptr_nonnull(at);
	block_fill(at, 0, seed);
	ck_assert_int_eq(kmm_kunmap(k, p), 0);
}

static void look(struct kmm_page *p, uint64_t seed)
{
	void *at = kmm_kmap(k, p);

	ck_assert_ptr_nonnull(at);
	if (!block_check(at, 0, seed))
		ck_abort_msg("page %lu is not what it was", (unsigned long)seed);
	ck_assert_int_eq(kmm_kunmap(k, p), 0);
}

static void look_at_all(void)
{
	for (uint32_t i = 0; i < nr; i++)
		if (page[i])
			look(page[i], i);
}

/* All of high memory that can be had, each page filled. */
static void take_high(void)
{
	while (nr < HIGH_PAGES) {
		struct kmm_page *p = kmm_alloc_pages(k, KMM_GFP_NOWAIT | HIGH, 0);

		if (!p)
			break;
		ck_assert(is_high(p));
		put(p, nr);
		page[nr++] = p;
	}
	ck_assert_uint_gt(nr, HIGH_PAGES / 2);
}

static void free_every_other(void)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (kmm_page_to_pfn(k, page[i]) % 2)
			continue;
		ck_assert_int_eq(kmm_free_pages(k, page[i], 0), 0);
		page[i] = NULL;
	}
}

static void free_all(void)
{
	for (uint32_t i = 0; i < nr; i++)
		if (page[i])
			ck_assert_int_eq(kmm_free_pages(k, page[i], 0), 0);
	nr = 0;
}

/* Low zones are full: a request that may use HighMem has that alone. */
static void fill_low(void)
{
	int64_t n = 0, before;

	do {
		before = n;
		n = peer_do(&ballast, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0);
		if (n < 0)
			n = before;
		free(daemon_zone_frames(&d)); /* drops caches */
	} while (n > before);
}

/* Of `kmmctl --json compact`, the one zone. */
static long compact(const char *key)
{
	char *out, *at, want[40];
	long value;

	ck_assert_int_eq(daemon_ctl(&d, &out, (const char *const[]){ "--json", "compact", NULL }), 0);
	snprintf(want, sizeof(want), "\"%s\":", key);
	at = strstr(out, want);
	ck_assert_ptr_nonnull(at);
	value = strtol(at + strlen(want), NULL, 10);
	ck_assert_ptr_nonnull(strstr(out, "HighMem"));
	free(out);
	return value;
}

/* Once a second the daemon compacts what looks like the checker, and would be done before the test
 * asks. A run that improved nothing has it leave the zone alone for a minute: so it gets one while all
 * is taken, and its slices are over when those of the run by order are, which began later. */
static void checker(void)
{
	fill_low();
	take_high();
	wait_until(daemon_counter(&d, "compact_daemon_wake") > 0);
	compact("moved");
	free_every_other();
}

static struct kmm_page *high_block(kmm_gfp_t gfp, unsigned int order)
{
	struct kmm_page *p = kmm_alloc_pages(k, gfp | HIGH, order);

	if (p)
		ck_assert(is_high(p));
	return p;
}

START_TEST(an_operator_compacts)
{
	uint64_t scanned, isolated, moved;
	struct kmm_page *block;
	char *out;

	checker();
	scanned = daemon_counter(&d, "compact_migrate_scanned");
	isolated = daemon_counter(&d, "compact_isolated");
	moved = daemon_counter(&d, "pgmigrate_success");
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_NOWAIT | HIGH, ORDER));
	ck_assert_int_gt(compact("gained"), 0);
	ck_assert_uint_gt(daemon_counter(&d, "compact_migrate_scanned"), scanned);
	ck_assert_uint_gt(daemon_counter(&d, "compact_isolated"), isolated);
	ck_assert_uint_gt(daemon_counter(&d, "pgmigrate_success"), moved);
	ck_assert_uint_eq(daemon_counter(&d, "compact_stall"), 0);
	block = high_block(KMM_GFP_NOWAIT, ORDER);
	ck_assert_ptr_nonnull(block);
	look_at_all();
	ck_assert(daemon_is_clean(&d));
	/* and once more: there is nothing left to move */
	ck_assert_int_eq(compact("moved"), 0);
	ck_assert_int_eq(daemon_ctl(&d, &out, (const char *const[]){ "compact", NULL }), 0);
	ck_assert_ptr_nonnull(strstr(out, "HighMem"));
	free(out);
	ck_assert_int_eq(kmm_free_pages(k, block, ORDER), 0);
	free_all();
}
END_TEST

/* A handle names the page, not its frame; who holds it, mapped it or has its name keeps it in place. */
START_TEST(what_is_used_stays)
{
	uint32_t mapped[8], n = 0;
	uint8_t *at[8];
	kmm_handle_t handle = 0;

	checker();
	for (uint32_t i = 0; i < nr && n < 8; i += 40) {
		while (i < nr && !page[i])
			i++;
		mapped[n] = i;
		at[n] = kmm_kmap(k, page[i]);
		ck_assert_ptr_nonnull(at[n]);
		n++;
	}
	ck_assert_uint_eq(n, 8);
	for (uint32_t i = nr; i-- > 0 && !handle;)
		if (page[i])
			handle = kmm_handle(k, page[i]);
	ck_assert_uint_ne(handle, 0);
	ck_assert_int_gt(compact("moved"), 0);
	for (uint32_t i = 0; i < n; i++) {
		ck_assert(block_check(at[i], 0, mapped[i]));
		/* it is still the page's memory: others see what is written there */
		block_fill(at[i], 0, mapped[i] + 100000);
		ck_assert_int_eq(kmm_kunmap(k, page[mapped[i]]), 0);
		look(page[mapped[i]], mapped[i] + 100000);
		put(page[mapped[i]], mapped[i]);
	}
	look_at_all();
	/* now these move, too */
	ck_assert_int_gt(compact("moved"), 0);
	look_at_all();
	ck_assert_ptr_nonnull(kmm_pointer(k, handle));
	ck_assert(daemon_is_clean(&d));
	free_all();
}
END_TEST

/* A request that waits, and one that does not retry, have the daemon compact for them. */
START_TEST(a_request_compacts)
{
	kmm_gfp_t gfp = _i ? KMM_GFP_KERNEL | KMM_GFP_NORETRY : KMM_GFP_KERNEL;
	struct kmm_page *block;

	checker();
	block = high_block(gfp, ORDER);
	ck_assert_ptr_nonnull(block);
	ck_assert_uint_gt(daemon_counter(&d, "compact_stall"), 0);
	ck_assert_uint_gt(daemon_counter(&d, "compact_success"), 0);
	ck_assert_uint_gt(daemon_counter(&d, "allocstall_high"), 0);
	look_at_all();
	ck_assert_int_eq(kmm_free_pages(k, block, ORDER), 0);
	free_all();
}
END_TEST

/* Moving pages is input and output of a kind: without __GFP_IO nobody does it for the request. */
START_TEST(not_without_io)
{
	checker();
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_NOIO | KMM_GFP_NORETRY | HIGH, ORDER));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(daemon_counter(&d, "compact_stall"), 0);
	free_all();
}
END_TEST

/* One that cannot wait fails, but what it missed is made in the background. */
START_TEST(in_the_background)
{
	struct kmm_page *block = NULL;
	uint64_t wake, scanned;

	checker();
	wake = daemon_counter(&d, "compact_daemon_wake");
	scanned = daemon_counter(&d, "compact_daemon_migrate_scanned");
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_NOWAIT | HIGH, ORDER));
	wait_until((block = high_block(KMM_GFP_NOWAIT, ORDER)) != NULL);
	ck_assert_uint_gt(daemon_counter(&d, "compact_daemon_wake"), wake);
	ck_assert_uint_gt(daemon_counter(&d, "compact_daemon_migrate_scanned"), scanned);
	ck_assert_uint_eq(daemon_counter(&d, "compact_stall"), 0);
	look_at_all();
	ck_assert_int_eq(kmm_free_pages(k, block, ORDER), 0);
	free_all();
}
END_TEST

struct user {
	pthread_t thread;
	uint32_t half;
	_Atomic bool *stop;
	uint64_t looks;
	bool bad;
};

static void *use(void *arg)
{
	struct user *u = arg;

	while (!*u->stop && !u->bad)
		for (uint32_t i = 0; i < nr && !u->bad; i++) {
			uint64_t *at;

			if (!page[i] || i / 2 % 2 != u->half)
				continue;
			at = kmm_kmap(k, page[i]);
			if (!at || !block_check(at, 0, i))
				u->bad = true;
			else
				block_fill(at, 0, i);
			if (at && kmm_kunmap(k, page[i]) < 0)
				u->bad = true;
			u->looks++;
		}
	return NULL;
}

/* Pages are mapped, written and read all the time while they move. */
START_TEST(under_use)
{
	_Atomic bool stop = false;
	struct user u[2];
	long moved = 0;

	checker();
	for (uint32_t i = 0; i < 2; i++) {
		u[i] = (struct user){ .half = i, .stop = &stop };
		ck_assert_int_eq(pthread_create(&u[i].thread, NULL, use, &u[i]), 0);
	}
	for (uint32_t round = 0; round < 6; round++) {
		moved += compact("moved");
		/* holes for the next round: pages that go and come back */
		for (uint32_t i = round; i < nr; i += 7)
			if (!page[i]) {
				struct kmm_page *p = kmm_alloc_pages(k, KMM_GFP_NOWAIT | HIGH, 0);

				if (p)
					ck_assert_int_eq(kmm_free_pages(k, p, 0), 0);
			}
	}
	stop = true;
	for (uint32_t i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(u[i].thread, NULL), 0);
		ck_assert(!u[i].bad);
		ck_assert_uint_gt(u[i].looks, 0);
	}
	ck_assert_int_gt(moved, 0);
	look_at_all();
	ck_assert(daemon_is_clean(&d));
	free_all();
}
END_TEST

static void *compact_again(void *arg)
{
	_Atomic bool *stop = arg;

	while (!*stop)
		daemon_ctl(&d, NULL, (const char *const[]){ "compact", NULL });
	return NULL;
}

/* Killed at whatever point of whatever move. */
START_TEST(a_daemon_that_is_killed)
{
	_Atomic bool stop = false;
	pthread_t thread;

	fill_low();
	take_high();
	ck_assert_int_eq(pthread_create(&thread, NULL, compact_again, &stop), 0);
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = round; i < nr; i += 5)
			if (page[i] && i % 3) {
				ck_assert_int_eq(kmm_free_pages(k, page[i], 0), 0);
				page[i] = NULL;
			}
		fixture_restart();
		look_at_all();
	}
	stop = true;
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	look_at_all();
	ck_assert_int_ge(compact("moved"), 0);
	look_at_all();
	free_all();
}
END_TEST

/* `kmmctl offline`; *text is what it said. */
static int offline(uint32_t section, char **text)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", section);
	return daemon_ctl(&d, text, (const char *const[]){ "offline", number, NULL });
}

static uint32_t section_of(struct kmm_page *p)
{
	return (uint32_t)(kmm_page_to_pfn(k, p) >> 10);
}

/* A section whose pages can move goes out of service under them; who has one mapped keeps it, and where
 * there is no room left they stay. */
START_TEST(their_sections_go)
{
	uint32_t first = UINT32_MAX, mapped = UINT32_MAX;
	char *out;

	checker();
	for (uint32_t i = 0, kept = 0; i < nr; i++) {
		if (!page[i])
			continue;
		if (kept++ % 2) {
			ck_assert_int_eq(kmm_free_pages(k, page[i], 0), 0);
			page[i] = NULL;
		} else if (section_of(page[i]) < first) {
			first = section_of(page[i]);
		}
	}
	for (uint32_t i = 0; i < nr && mapped == UINT32_MAX; i++)
		if (page[i] && section_of(page[i]) == first + 1)
			mapped = i;
	ck_assert_uint_ne(mapped, UINT32_MAX);
	ck_assert_ptr_nonnull(kmm_kmap(k, page[mapped]));

	ck_assert_int_eq(offline(first, &out), 0);
	free(out);
	look_at_all();
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(offline(first + 1, &out), 1);
	free(out);
	ck_assert_uint_eq(section_of(page[mapped]), first + 1);
	look_at_all();
	ck_assert_int_eq(kmm_kunmap(k, page[mapped]), 0);
	ck_assert_int_eq(offline(first + 1, &out), 0);
	free(out);
	ck_assert_uint_ne(section_of(page[mapped]), first + 1);
	look_at_all();
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(offline(first + 2, &out), 0);
	free(out);
	ck_assert_int_eq(offline(first + 3, &out), 1);
	free(out);
	for (uint32_t i = 0; i < nr; i++)
		ck_assert(!page[i] || section_of(page[i]) == first + 3);
	look_at_all();
	ck_assert_int_eq(daemon_ctl(&d, &out, (const char *const[]){ "grow", "12M", NULL }), 0);
	free(out);
	ck_assert_int_eq(offline(first + 3, &out), 0);
	free(out);
	look_at_all();
	free_all();
	/* as it was */
	ck_assert_int_eq(daemon_ctl(&d, &out, (const char *const[]){ "grow", "4M", NULL }), 0);
	free(out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("compact");
	TCase *t = fixture_case(s, "compact", setup);

	tcase_add_test(t, an_operator_compacts);
	tcase_add_test(t, what_is_used_stays);
	tcase_add_loop_test(t, a_request_compacts, 0, 2);
	tcase_add_test(t, not_without_io);
	tcase_add_test(t, in_the_background);
	tcase_add_test(t, under_use);
	tcase_add_test(t, their_sections_go);
	t = fixture_case(s, "huge", setup_huge);
	tcase_add_test(t, an_operator_compacts);
	tcase_add_test(t, their_sections_go);
	t = fixture_case(s, "restart", setup_supervised);
	tcase_add_test(t, a_daemon_that_is_killed);
	return suite_run(s);
}
