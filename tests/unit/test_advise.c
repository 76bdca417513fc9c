/* SPDX-License-Identifier: MIT */
/*
 * kmmctl advise, from numbers made up here: each rule at its borders, and that what is printed can be
 * merged into a configuration.
 */
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/advise.h"
#include "tests/suite.h"
#include "tests/unit/test_report.h"

#define MIB UINT64_C(256) /* frames */
#define MIB_BYTES (UINT64_C(1) << 20)

static void zone(kmm_v1_History *h, const char *name, uint64_t managed, uint64_t peak)
{
	kmm_v1_ZonePeak *z = &h->zone[h->zone_count++];

	snprintf(z->zone, sizeof(z->zone), "%s", name);
	z->managed = managed;
	z->peak = peak;
	z->had = peak;
}

/* A pool of 1 GiB in sections of 4 MiB: 16 MiB DMA, 64 MiB HighMem, 8 MiB of tables, the rest DMA32, of
 * which half was used. */
static kmm_v1_History history(void)
{
	kmm_v1_History h = {
		.uptime_ms = 3600 * 1000,
		.allocated = 1024 * MIB,
		.frames = 1024 * MIB,
		.metadata = 8 * MIB,
		.section = 4 * MIB,
		.huge_page = 512,
		.nodes = 1,
		.machine_nodes = 1,
		.dma_size = 16 * MIB_BYTES,
		.dma32_size = 4096 * MIB_BYTES,
		.thread_cache = 4 * MIB_BYTES,
		.sessions = { .peak = 10, .limit = 4096, .room = 4095 },
		.holders = { .limit = 65536, .room = 65536 },
		.session_calls = { .limit = 1024 },
		.session_holders = { .limit = 16384 },
		.user_names = { .limit = 16384 },
		.huge_total = 600,
		.huge_free = 100,
		.huge_pool = 480,
	};

	strcpy(h.backing, "auto");
	zone(&h, "DMA", 16 * MIB, 0);
	zone(&h, "DMA32", 936 * MIB, 476 * MIB);
	zone(&h, "Normal", 0, 0);
	zone(&h, "HighMem", 64 * MIB, 40 * MIB);
	zone(&h, "Movable", 0, 0);
	return h;
}

static struct advise advised;

static const struct advise_line *find(const char *section, const char *key)
{
	for (size_t i = 0; i < advised.n; i++)
		if (strcmp(advised.line[i].section, section) == 0 &&
		    strcmp(advised.line[i].key, key) == 0)
			return &advised.line[i];
	return NULL;
}

static uint64_t value(const char *section, const char *key)
{
	const struct advise_line *l = find(section, key);

	ck_assert_msg(l != NULL, "no line %s.%s", section, key);
	ck_assert_msg(l->why[0] != '\0', "%s.%s has no reason", section, key);
	return l->value;
}

static uint64_t pool(const char *key)
{
	return value("pool", key) / MIB_BYTES;
}

static const char *noted(const char *what)
{
	for (size_t i = 0; i < advised.notes; i++)
		if (strstr(advised.note[i].what, what))
			return advised.note[i].what;
	return "";
}

START_TEST(rules_at_their_borders)
{
	/* a quarter more, or half as much again */
	ck_assert_uint_eq(advise_need(0, true), 0);
	ck_assert_uint_eq(advise_need(100, false), 125);
	ck_assert_uint_eq(advise_need(100, true), 150);
	/* kept when it suffices and is not more than twice */
	ck_assert_uint_eq(advise_fit(100, 101), 101);
	ck_assert_uint_eq(advise_fit(100, 100), 100);
	ck_assert_uint_eq(advise_fit(100, 50), 100);
	ck_assert_uint_eq(advise_fit(100, 49), 49);
	/* below three quarters as it is, else a power of two */
	ck_assert_uint_eq(advise_count(100, 74, 1000), 100);
	ck_assert_uint_eq(advise_count(100, 75, 1000), 256);
	ck_assert_uint_eq(advise_count(100, 75, 200), 200);
	ck_assert_uint_eq(advise_count(100, 100, 90), 100);
	ck_assert_uint_eq(advise_count(4, 2, 100), 4);
	ck_assert_uint_eq(advise_count(4, 3, 100), 8);
}
END_TEST

START_TEST(a_pool_that_fits_stays)
{
	kmm_v1_History h = history();

	advise_make(&advised, &h);
	ck_assert_str_eq(advised.little, "");
	for (size_t i = 0; i < advised.n; i++)
		ck_assert_msg(advised.line[i].value == advised.line[i].now, "%s changes",
		              advised.line[i].key);
	ck_assert_uint_eq(pool("size"), 1024);
	ck_assert_uint_eq(pool("highmem"), 64);
	ck_assert_ptr_null(find("pool", "section_size"));
	h.section_given = true;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("section_size"), 4);
}
END_TEST

START_TEST(the_low_zones)
{
	kmm_v1_History h = history();

	/* 952 MiB are there: from 761.6 used on a quarter more does not fit */
	h.zone[1].peak = 761 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 1024);
	h.zone[1].peak = 768 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 960 + 64 + 8);
	/* somebody was refused, or had to wait: half as much again */
	h.zone[1].lack = 1;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 1152 + 64 + 12); /* and more tables */
	h.zone[1].lack = 0;
	h.parked.peak = 1;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 1152 + 64 + 12);
	/* less than half of it is needed */
	h.parked.peak = 0;
	h.zone[1].peak = 380 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 1024);
	h.zone[1].peak = 376 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 472 + 64 + 8);
	/* never less than zone DMA, behind which HighMem begins, nor than a pool can be */
	h.zone[1].peak = 1;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 16 + 64 + 8);
	h.zone[3] = (kmm_v1_ZonePeak){ .zone = "HighMem" };
	h.dma_size = 0;
	h.metadata = 4 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 16);
	ck_assert_uint_eq(pool("highmem"), 0);
}
END_TEST

START_TEST(sections_grow_with_the_pool)
{
	kmm_v1_History h = history();

	/* 2 GiB are 512 sections of 4 MiB, more takes larger ones */
	h.zone[1].peak = h.zone[1].managed = 3000 * MIB;
	h.frames = 3000 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size") % 8, 0);
	ck_assert_uint_ge(pool("size"), 3750 + 64 + 8);
	h.section_given = true;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 3752 + 64 + 12);
	ck_assert_uint_eq(pool("section_size"), 4);
	/* 1024 sections of 4 MiB are the most */
	h.zone[1].peak = 3276 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_gt(pool("size"), 4096);
	ck_assert_uint_eq(pool("section_size"), 16);
	/* a pool has an end */
	h.zone[1].peak = (1024 * 1024 - 1) * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("size"), 1024 * 1024);
	ck_assert_uint_eq(pool("section_size"), 1024);
}
END_TEST

START_TEST(high_zones_and_borders)
{
	kmm_v1_History h = history();

	h.zone[3].peak = 52 * MIB; /* 65 */
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("highmem"), 68);
	ck_assert_uint_eq(pool("size"), 1028);
	h.zone[3].peak = 40 * MIB;
	h.zone[3].fragmentation = 1; /* 60 fit */
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("highmem"), 64);
	h.zone[3].peak = 60 * MIB; /* 90 */
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("highmem"), 92);
	/* never used: one section stays, areas of 4 KiB pages need it */
	h.zone[3].peak = h.zone[3].fragmentation = 0;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("highmem"), 4);
	/* there is none, and somebody missed it */
	h.zone[4].impossible = 1;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("movable"), 4);
	h.zone[4].impossible = 0;
	/* who could have had something else is no reason for it, but for more of that */
	h.zone[4].lack = 1;
	h.zone[3].peak = 60 * MIB;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("movable"), 0);
	ck_assert_uint_eq(pool("highmem"), 92);
	h.zone[4].lack = h.zone[3].peak = 0;
	/* borders: twice as much when requests failed, up to the next border */
	h.zone[0].lack = 1;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("dma_size"), 32);
	ck_assert_uint_eq(pool("dma32_size"), 4096);
	h.zone[1].impossible = 1;
	h.dma32_size = 24 * MIB_BYTES;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("dma32_size"), 48);
	h.zone[1].impossible = 0;
	advise_make(&advised, &h);
	ck_assert_uint_eq(pool("dma_size"), 24);
}
END_TEST

START_TEST(numbers_of_things)
{
	kmm_v1_History h = history();

	h.sessions.peak = 3071; /* of 4095 */
	h.session_calls.peak = 767;
	h.session_holders.peak = 12287;
	h.user_names.peak = 12287;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "sessions"), 4096);
	ck_assert_uint_eq(value("limits", "calls"), 1024);
	ck_assert_uint_eq(value("limits", "holders_per_session"), 16384);
	ck_assert_uint_eq(value("limits", "names_per_user"), 16384);
	h.sessions.peak = 3072;
	h.session_calls.peak = 768;
	h.holders.peak = 49152;
	h.session_holders.peak = 12288;
	h.user_names.peak = 12288;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "sessions"), 8192);
	ck_assert_uint_eq(value("limits", "calls"), 2048);
	ck_assert_uint_eq(value("limits", "holders"), 131072);
	ck_assert_uint_eq(value("limits", "holders_per_session"), 32768);
	ck_assert_uint_eq(value("limits", "names_per_user"), 32768);
	/* as many as may be */
	h.sessions = (kmm_v1_PeakCount){ .peak = 65000, .limit = 65535, .room = 65534 };
	h.user_names = (kmm_v1_PeakCount){ .peak = 60000, .limit = 65536 };
	advise_make(&advised, &h);
	ck_assert_uint_le(value("limits", "sessions"), 65535);
	ck_assert_uint_eq(value("limits", "names_per_user"), 65536);
	/* a table that turned out smaller than it was to be: it takes a larger pool */
	h.sessions = (kmm_v1_PeakCount){ .peak = 400, .limit = 4096, .room = 511 };
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "sessions"), 4096);
}
END_TEST

START_TEST(quotas_of_sessions)
{
	kmm_v1_History h = history();

	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "pages"), 0);
	ck_assert_uint_eq(value("limits", "objects"), 0);
	/* one had more than half when others found nothing */
	h.session_pages.peak = 508 * MIB;
	h.zone[1].lack = 1;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "pages"), 0);
	h.session_pages.peak = 508 * MIB + 1;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "pages"), (pool("size") - 8) * MIB / 4 * 3);
	h.zone[1].lack = 0;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "pages"), 0);
	/* a quota that there is */
	h.session_pages = (kmm_v1_PeakCount){ .peak = 7499, .limit = 10000 };
	h.session_objects = (kmm_v1_PeakCount){ .peak = 749, .limit = 1000 };
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "pages"), 10000);
	ck_assert_uint_eq(value("limits", "objects"), 1000);
	h.session_pages.peak = 7500;
	h.session_objects.peak = 750;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "pages"), 11264); /* 11250 in steps of 1024 */
	ck_assert_uint_eq(value("limits", "objects"), 2048);
}
END_TEST

START_TEST(what_threads_cache)
{
	kmm_v1_History h = history();

	/* 1016 MiB / 4 / sessions */
	h.sessions.peak = 64;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "thread_cache"), 4 * MIB_BYTES);
	h.zone[1].lack = 1;
	h.sessions.peak = 63;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "thread_cache"), 4 * MIB_BYTES);
	h.sessions.peak = 64;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "thread_cache"), 2 * MIB_BYTES);
	h.sessions.peak = 60000;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "thread_cache"), 64 * 1024);
	h.thread_cache = 0;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("limits", "thread_cache"), 0);
}
END_TEST

START_TEST(quotas_of_users)
{
	kmm_v1_History h = history();

	h.user_count = 3;
	h.user[0] = (kmm_v1_UserPeak){ .uid = 1000, .pages = { .peak = 2000 },
		                       .sessions = { .peak = 2 } };
	h.user[1] = (kmm_v1_UserPeak){ .uid = 1001,
		                       .pages = { .peak = 4096, .limit = 4096, .refused = 3 },
		                       .sessions = { .peak = 1, .limit = 4 },
		                       .objects = { .peak = 75, .limit = 100 },
		                       .calls = { .peak = 4, .limit = 4, .refused = 1 } };
	h.user[2] = (kmm_v1_UserPeak){ .uid = 1002 }; /* never opened a session */
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("user 1000", "pages"), 3072); /* 3000 in steps of 1024 */
	ck_assert_ptr_null(find("user 1000", "sessions"));
	ck_assert_uint_eq(value("user 1001", "pages"), 8192);
	ck_assert_uint_eq(value("user 1001", "sessions"), 4);
	ck_assert_uint_eq(value("user 1001", "objects"), 256);
	ck_assert_uint_eq(value("user 1001", "calls"), 8);
	ck_assert_ptr_null(find("user 1001", "caches"));
	ck_assert_ptr_null(find("user 1002", "pages"));
	/* a quota that fits, and one that is nearly reached */
	h.user[1].pages = (kmm_v1_PeakCount){ .peak = 3071, .limit = 4096 };
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("user 1001", "pages"), 4096);
	h.user[1].pages.peak = 3072;
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("user 1001", "pages"), 5120);
	/* not more than there is */
	h.user[1].pages = (kmm_v1_PeakCount){ .peak = 1000 * MIB };
	advise_make(&advised, &h);
	ck_assert_uint_eq(value("user 1001", "pages"), (pool("size") - 8) * MIB);
}
END_TEST

START_TEST(beside_the_file)
{
	kmm_v1_History h = history();

	/* (1024 - 64) / 2 for the pool, 20 that others use: 600 - 100 - 480 */
	advise_make(&advised, &h);
	ck_assert_str_eq(noted("huge"), "vm.nr_hugepages = 500 (sysctl)");
	ck_assert_str_eq(noted("FileDescriptor"), "FileDescriptorStoreMax=288 (kmmd.service)");
	ck_assert_uint_eq(advised.notes, 2);
	h.machine_nodes = 2;
	advise_make(&advised, &h);
	ck_assert_ptr_nonnull(strstr(advised.note[0].why, "on each of 2 nodes 250;"));
	/* 64 MiB of the low zones lie on something else, by configuration */
	h.huge_pool = 448;
	h.huge_total = 448;
	h.huge_free = 0;
	advise_make(&advised, &h);
	ck_assert_str_eq(noted("huge"), "vm.nr_hugepages = 448 (sysctl)");
	/* there were none, and they are wanted */
	h.huge_pool = h.huge_total = 0;
	advise_make(&advised, &h);
	ck_assert_str_eq(noted("huge"), "vm.nr_hugepages = 480 (sysctl)");
	strcpy(h.backing, "4k");
	advise_make(&advised, &h);
	ck_assert_str_eq(noted("huge"), "");
	/* what failed */
	h.zone[1].fragmentation = 2;
	h.order_peak = 6;
	advise_make(&advised, &h);
	ck_assert_uint_eq(advised.notes, 3);
	ck_assert_ptr_nonnull(strstr(advised.note[1].why, "2 because it lay scattered"));
	ck_assert_ptr_nonnull(strstr(advised.note[1].why, "is of order 5"));
}
END_TEST

START_TEST(too_little_history)
{
	kmm_v1_History h = history();

	h.uptime_ms = ADVISE_UPTIME_MS;
	h.allocated = 1016 * MIB / ADVISE_USED_PART;
	advise_make(&advised, &h);
	ck_assert_str_eq(advised.little, "");
	h.uptime_ms--;
	advise_make(&advised, &h);
	ck_assert_str_eq(advised.little,
	                 "the daemon has run for 9m59s, and ten minutes are the least");
	h.uptime_ms++;
	h.allocated--;
	advise_make(&advised, &h);
	ck_assert_ptr_nonnull(strstr(advised.little, "less than a 64th of the pool"));
	h.sessions.peak = 0;
	advise_make(&advised, &h);
	ck_assert_str_eq(advised.little, "no session was opened since the start");
}
END_TEST

static const char *name_of(uint32_t uid)
{
	static const struct {
		uint32_t uid;
		const char *name;
	} known[] = {
		{ 1000, "alice" }, { 7, "12x" }, { 8, "a b" }, { 9, "b]" }, { 10, "" },
		{ 11, "a-name-of-more-than-forty-bytes-in-one-row" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].uid == uid)
			return known[i].name;
	return NULL;
}

/* A name that a configuration cannot have, or could take for a number, is none. */
START_TEST(users_are_named)
{
	static const struct {
		const char *section, *named;
	} row[] = {
		{ "pool", "pool" },       { "user", "user" },       { "user 1000", "user alice" },
		{ "user 6", "user 6" },   { "user 7", "user 7" },   { "user 8", "user 8" },
		{ "user 9", "user 9" },   { "user 10", "user 10" }, { "user 11", "user 11" },
	};
	static struct advise a;

	a = (struct advise){ .n = sizeof(row) / sizeof(row[0]) };
	for (size_t i = 0; i < a.n; i++)
		strcpy(a.line[i].section, row[i].section);
	advise_name_users(&a, name_of);
	for (size_t i = 0; i < a.n; i++)
		ck_assert_str_eq(a.line[i].section, row[i].named);
	ck_assert_uint_eq(a.line[2].uid, 1000);
}
END_TEST

/* Every line is a comment, a section, a setting, or empty. Settings are those that change, and all of the
 * pool when one of it does; with too little history none is. */
START_TEST(what_is_printed_is_to_be_merged)
{
	kmm_v1_History h = history();
	size_t settings, matter;
	char *text, *line, *rest;
	struct capture c;

	h.user_count = 2;
	h.users = 3;
	h.user[0] = (kmm_v1_UserPeak){ .uid = 1000, .pages = { .peak = 2000, .limit = 2000, .refused = 1 },
		                       .sessions = { .peak = 2, .limit = 8 } };
	h.user[1] = (kmm_v1_UserPeak){ .uid = 7, .sessions = { .peak = 1, .limit = 8 } };
	for (int little = 0; little < 2; little++) {
		if (little)
			h.uptime_ms = 0;
		advise_make(&advised, &h);
		advise_name_users(&advised, name_of);
		report_advise(capture_start(&c), &advised, &h);
		text = capture_end(&c);
		ck_assert_msg(strstr(text, little ? "\n# user 1000\n#[user alice]\n" :
		                                    "\n# user 1000\n[user alice]\n"), "%s", text);
		ck_assert_ptr_nonnull(strstr(text, little ? "\n#pages = " : "\npages = "));
		ck_assert_msg(strstr(text, "\n#sessions = 8\n"), "%s", text);
		ck_assert_ptr_nonnull(strstr(text, "\n# Users who had less: 1.\n"));
		ck_assert_int_eq(strstr(text, "TOO LITTLE") != NULL, little);
		settings = matter = 0;
		for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
			if (line[0] == '#' || line[0] == '[')
				continue;
			ck_assert_ptr_nonnull(strstr(line, " = "));
			settings++;
		}
		for (size_t i = 0; i < advised.n; i++)
			matter += advise_line_matters(&advised, i);
		ck_assert_uint_eq(settings, matter);
		ck_assert_int_eq(matter == 0, little);
		ck_assert_uint_lt(matter, advised.n);
		free(text);
	}
}
END_TEST

START_TEST(the_pool_is_said_as_a_whole)
{
	static struct advise a;

	a = (struct advise){ .n = 3,
		             .line = { { .section = "pool", .value = 5, .now = 5 },
		                       { .section = "pool", .value = 5, .now = 5 },
		                       { .section = "limits", .value = 1, .now = 1 } } };
	for (size_t i = 0; i < a.n; i++)
		ck_assert(!advise_line_matters(&a, i));
	a.line[1].now = 4;
	ck_assert(advise_line_matters(&a, 0) && advise_line_matters(&a, 1) && !advise_line_matters(&a, 2));
	a.line[2].value = 2;
	ck_assert(advise_line_matters(&a, 2));
	strcpy(a.little, "short");
	for (size_t i = 0; i < a.n; i++)
		ck_assert(!advise_line_matters(&a, i));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("advise");
	TCase *tcase = tcase_create("advise");

	tcase_add_test(tcase, rules_at_their_borders);
	tcase_add_test(tcase, a_pool_that_fits_stays);
	tcase_add_test(tcase, the_low_zones);
	tcase_add_test(tcase, sections_grow_with_the_pool);
	tcase_add_test(tcase, high_zones_and_borders);
	tcase_add_test(tcase, numbers_of_things);
	tcase_add_test(tcase, quotas_of_sessions);
	tcase_add_test(tcase, what_threads_cache);
	tcase_add_test(tcase, quotas_of_users);
	tcase_add_test(tcase, beside_the_file);
	tcase_add_test(tcase, too_little_history);
	tcase_add_test(tcase, users_are_named);
	tcase_add_test(tcase, what_is_printed_is_to_be_merged);
	tcase_add_test(tcase, the_pool_is_said_as_a_whole);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
