/* SPDX-License-Identifier: MIT */
/*
 * kmmctl advise and why, from numbers made up here: each rule at its borders, and that what is printed is
 * a configuration.
 */
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/advise.h"
#include "client/kmmctl/why.h"
#include "tests/suite.h"
#include "tests/unit/test_report.h"

#define MIB UINT64_C(256) /* frames */
#define MIB_BYTES (UINT64_C(1) << 20)

/* ---- advise ---- */

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
	return uid == 1000 ? "alice" : NULL;
}

/* Every line is a comment, a section, a setting, or empty; with too little history no setting is. */
START_TEST(what_is_printed_is_a_configuration)
{
	kmm_v1_History h = history();
	char *text, *line, *rest;
	struct capture c;
	size_t settings;

	h.user_count = 2;
	h.users = 3;
	h.user[0] = (kmm_v1_UserPeak){ .uid = 1000, .pages = { .peak = 2000 },
		                       .sessions = { .peak = 2 } };
	h.user[1] = (kmm_v1_UserPeak){ .uid = 7, .sessions = { .peak = 1 } };
	for (int little = 0; little < 2; little++) {
		if (little)
			h.uptime_ms = 0;
		advise_make(&advised, &h);
		report_advise(capture_start(&c), &advised, &h, name_of);
		text = capture_end(&c);
		ck_assert_ptr_nonnull(strstr(text, little ? "\n#size = 1G\n" : "\nsize = 1G\n"));
		ck_assert_ptr_nonnull(strstr(text, little ? "\n# alice\n#[user 1000]\n" :
		                                            "\n# alice\n[user 1000]\n"));
		ck_assert_ptr_nonnull(strstr(text, "\n# Users who had less: 1.\n"));
		ck_assert_int_eq(strstr(text, "TOO LITTLE") != NULL, little);
		settings = 0;
		for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
			if (line[0] == '#' || line[0] == '[')
				continue;
			ck_assert_ptr_nonnull(strstr(line, " = "));
			settings++;
		}
		ck_assert_uint_eq(settings, little ? 0 : advised.n);
		free(text);
	}
}
END_TEST

/* ---- why ---- */

static kmm_v1_Explanation failure(kmm_v1_Explanation_Reason reason)
{
	kmm_v1_Explanation e = { .session = 7, .uid = 1000, .pid = 42, .failures = 1, .when = 1000,
		                 .reason = reason, .gfp = 0x2800, .order = 4, .errno_value = ENOMEM,
		                 .looked = true, .managed = 10000 };

	strcpy(e.name, "loader");
	strcpy(e.method, "AllocPages");
	strcpy(e.gfp_text, "GFP_NOWAIT");
	strcpy(e.text, "no block");
	return e;
}

static kmm_v1_ZoneLook *zone_look(kmm_v1_Explanation *e, const char *name,
                                  kmm_v1_ZoneLook_Verdict verdict, int index)
{
	kmm_v1_ZoneLook *z = &e->zone[e->zone_count++];

	snprintf(z->zone, sizeof(z->zone), "%s", name);
	z->verdict = verdict;
	z->index = index;
	z->free = 100;
	z->managed = 1000;
	z->mark = 50;
	e->zones = e->zone_count;
	return z;
}

/* The commands in their order, "-" where there is none. */
static void assert_helps(const kmm_v1_Explanation *e, const char *expected)
{
	char text[1000] = "";
	struct why_help h;

	for (size_t i = 0; why_help(e, i, &h); i++) {
		ck_assert_str_ne(h.why, "");
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s|",
		         h.command[0] ? h.command : "-");
	}
	ck_assert_str_eq(text, expected);
}

START_TEST(quotas_name_their_key)
{
	kmm_v1_Explanation e = failure(kmm_v1_Explanation_Reason_USER_QUOTA);
	char text[WHY_TEXT];

	strcpy(e.quota, "pages");
	strcpy(e.section, "[user alice b.c]");
	e.quota_used = 90;
	e.quota_limit = 100;
	e.quota_more = 16;
	ck_assert_str_eq(why_reason_text(text, &e),
	                 "quota of the user: the sessions of user 1000 together have 90 of the 100 "
	                 "pages that [user alice b.c] pages allows; 16 more were asked for");
	assert_helps(&e, "kmmctl set 'user alice b.c.pages' 150|kmmctl session 7|");
	e.quota_more = 512;
	assert_helps(&e, "kmmctl set 'user alice b.c.pages' 612|kmmctl session 7|");
	e.reason = kmm_v1_Explanation_Reason_SESSION_QUOTA;
	strcpy(e.section, "[limits]");
	e.quota_more = 1;
	ck_assert_str_eq(why_reason_text(text, &e),
	                 "quota of the session: it has 90 of the 100 pages that [limits] pages "
	                 "allows; 1 more was asked for");
	assert_helps(&e, "kmmctl set 'limits.pages' 150|kmmctl session 7|");
}
END_TEST

START_TEST(zones_say_what_was_in_the_way)
{
	kmm_v1_Explanation e = failure(kmm_v1_Explanation_Reason_LACK);
	kmm_v1_ZoneLook *z = zone_look(&e, "HighMem", kmm_v1_ZoneLook_Verdict_NO_BLOCK, 501);
	char text[WHY_TEXT];

	ck_assert_str_eq(why_zone_text(text, z, 4),
	                 "node 0, zone HighMem: 100 of 1000 pages free, 50 to be left: no free block "
	                 "of order 4; fragmentation index 0.501: fragmentation");
	z->index = 500;
	z->protection = 20;
	ck_assert_str_eq(why_zone_text(text, z, 4),
	                 "node 0, zone HighMem: 100 of 1000 pages free, 50 to be left (20 of them for "
	                 "requests that can use no higher zone): no free block of order 4; "
	                 "fragmentation index 0.500: rather lack of memory");
	z->index = -1000;
	ck_assert_ptr_nonnull(strstr(why_zone_text(text, z, 4), "are kept for atomic requests"));
	z->verdict = kmm_v1_ZoneLook_Verdict_BELOW;
	ck_assert_ptr_nonnull(strstr(why_zone_text(text, z, 4), ": below the watermark: lack"));
	z->verdict = kmm_v1_ZoneLook_Verdict_SMALL;
	ck_assert_ptr_nonnull(strstr(why_zone_text(text, z, 4), ": too small: "));
	z->verdict = kmm_v1_ZoneLook_Verdict_SERVES;
	ck_assert_ptr_nonnull(strstr(why_zone_text(text, z, 4), "a moment later"));
}
END_TEST

START_TEST(help_follows_from_the_reason)
{
	kmm_v1_Explanation e = failure(kmm_v1_Explanation_Reason_LACK);

	assert_helps(&e, "-|kmmctl advise|"); /* a request that may wait */
	e.gfp |= 0x400;
	assert_helps(&e, "kmmctl advise|");
	/* a fiftieth of the pool is worth a command */
	e.depot_now = 199;
	assert_helps(&e, "kmmctl advise|");
	e.slab_empty = 1;
	assert_helps(&e, "kmmctl drop-caches|kmmctl advise|");
	e.slab_empty = 0;
	e.sessions_count = 2;
	e.sessions[0] = (kmm_v1_Hoard){ .session = 3, .frames = 199, .state = "live" };
	e.sessions[1] = (kmm_v1_Hoard){ .session = 9, .frames = 50, .state = "live" };
	assert_helps(&e, "kmmctl advise|");
	e.sessions[0].frames = 200;
	strcpy(e.sessions[1].state, "detached");
	assert_helps(&e, "kmmctl kill 9|kmmctl session 3|kmmctl advise|");
	e.sessions_count = 0;
	/* scattered memory: where pages move, and where they do not */
	e.reason = kmm_v1_Explanation_Reason_FRAGMENTATION;
	zone_look(&e, "HighMem", kmm_v1_ZoneLook_Verdict_NO_BLOCK, 501);
	assert_helps(&e, "kmmctl compact|kmmctl advise|");
	zone_look(&e, "DMA32", kmm_v1_ZoneLook_Verdict_NO_BLOCK, 501);
	assert_helps(&e, "kmmctl compact|-|kmmctl advise|");
	e.zone[0].index = e.zone[1].index = 500;
	assert_helps(&e, "kmmctl advise|");
	e.this_node = true;
	e.node = 2;
	e.gfp |= 1;
	assert_helps(&e, "-|-|kmmctl advise|");
	e.reason = kmm_v1_Explanation_Reason_IMPOSSIBLE;
	assert_helps(&e, "-|-|-|kmmctl advise|");
	e.reason = kmm_v1_Explanation_Reason_NONE;
	assert_helps(&e, "");
	e.reason = (kmm_v1_Explanation_Reason)99;
	assert_helps(&e, "");
	ck_assert_str_eq(why_reason_name(e.reason), "unknown");
}
END_TEST

START_TEST(the_report)
{
	kmm_v1_Explanation e = failure(kmm_v1_Explanation_Reason_LACK);
	struct json_object *o;
	struct capture c;

	zone_look(&e, "DMA", kmm_v1_ZoneLook_Verdict_BELOW, 0);
	e.zones = 3;
	e.failures = 3;
	e.waited_ms = 20;
	e.free = 100;
	report_why(capture_start(&c), &e, 1012);
	assert_printed(&c,
	               "session  7 (loader), pid 42, user 1000\n"
	               "failed   12s ago: a block of order 4 (64K) (AllocPages); the session's 2 "
	               "failures before are not kept\n"
	               "flags    GFP_NOWAIT (0x2800)\n"
	               "answer   ENOMEM after 20 ms: no block\n"
	               "reason   memory is short in every zone that it may use\n"
	               "zone     node 0, zone DMA: 100 of 1000 pages free, 50 to be left: below the "
	               "watermark: lack of memory\n"
	               "zone     2 more, on nodes farther away\n"
	               "then     0 in depots, 0 in slabs, 0 requests waited\n"
	               "now      400K of 39M free; only cached: 0 in depots, 0 on per-CPU lists, 0 by "
	               "threads, 0 in empty slabs\n"
	               "helps    a request that may wait (GFP_KERNEL): for it what is only cached is "
	               "taken back first\n"
	               "helps    kmmctl advise: says what sizes fit what was used since the start\n");
	o = json_why(&e);
	ck_assert_str_eq(json_object_get_string(json_member(o, "reason")), "lack");
	ck_assert_int_eq(json_int(o, "failures"), 3);
	ck_assert_uint_eq(json_object_array_length(json_member(o, "zones")), 1);
	ck_assert_uint_eq(json_object_array_length(json_member(o, "helps")), 2);
	json_object_put(o);
	e.reason = kmm_v1_Explanation_Reason_NONE;
	report_why(capture_start(&c), &e, 1012);
	assert_printed(&c, "session  7 (loader), pid 42, user 1000\nno allocation has failed\n");
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
	tcase_add_test(tcase, what_is_printed_is_a_configuration);
	suite_add_tcase(suite, tcase);
	tcase = tcase_create("why");
	tcase_add_test(tcase, quotas_name_their_key);
	tcase_add_test(tcase, zones_say_what_was_in_the_way);
	tcase_add_test(tcase, help_follows_from_the_reason);
	tcase_add_test(tcase, the_report);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
