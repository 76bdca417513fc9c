/* SPDX-License-Identifier: MIT */
/*
 * kmmctl's own reports, compared with text written out here; its JSON; names that are meant to harm a
 * terminal; the command line.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/command.h"
#include "client/kmmctl/fetch.h"
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"
#include "tests/suite.h"
#include "tests/unit/test_report.h"

/* ---- kmmd's own reports ---- */

static void make_session(kmm_v1_Session *s, uint32_t id, const char *name)
{
	*s = (kmm_v1_Session)kmm_v1_Session_init_zero;
	s->id = id;
	s->pid = 4000 + id;
	s->uid = 1000;
	s->opened = 100;
	strcpy(s->state, "live");
	strcpy(s->domain, "default");
	strcpy(s->name, name);
}

START_TEST(session_table_is_aligned)
{
	static kmm_v1_Session s[2];
	struct capture c;

	make_session(&s[0], 7, "feed");
	s[0].granted = 3;
	make_session(&s[1], 12345, "größer");
	s[1].granted = 1u << 19;
	s[1].objects = 70;
	s[1].object_bytes = 4480;
	s[1].pages_max = 1u << 20;
	report_sessions(capture_start(&c), s, 2, 165);
	assert_printed(&c,
	               "   ID    PID   UID  STATE  DOMAIN   GRANTED  CACHED  OBJECTS  OBJMEM"
	               "  CHARGED  LIMIT  HOLDS  PARKED  CHANNELS  CALLS  REFUSED   AGE  NAME\n"
	               "    7   4007  1000  live   default      12K       0        0       0"
	               "        0   none      0       0         0      0        0  1m5s  feed\n"
	               "12345  16345  1000  live   default       2G       0       70    4.3K"
	               "        0     4G      0       0         0      0        0  1m5s  größer\n");
}
END_TEST

START_TEST(session_in_full)
{
	static kmm_v1_Session s;
	struct capture c;

	make_session(&s, 7, "feed");
	s.granted = 516;
	s.blocks_count = 11;
	s.blocks[0] = 4;
	s.blocks[9] = 1;
	s.objects = 300;
	s.object_bytes = 38400;
	s.objects_returned = 31;
	s.caches = 2;
	s.names = 1;
	s.cache_count = 2;
	strcpy(s.cache[0].name, "message");
	s.cache[0].objects = 200;
	s.cache[0].bytes = 25600;
	strcpy(s.cache[1].name, "kmalloc-128");
	s.cache[1].objects = 100;
	s.cache[1].bytes = 12800;
	s.calls = 10;
	s.refused = 2;
	strcpy(s.last_error, "order 11 is above 10");
	report_session(capture_start(&c), &s, 165);
	assert_printed(&c, "session    7\n"
	                   "name       feed\n"
	                   "state      live\n"
	                   "domain     default\n"
	                   "process    pid 4007, uid 1000, gid 0\n"
	                   "opened     1970-01-01 00:01:40 UTC (1m5s ago)\n"
	                   "granted    516 frames (2M)\n"
	                   "cached     0 frames (0), taken back when memory is short\n"
	                   "charged    0 frames (0)\n"
	                   "limit      none\n"
	                   "blocks     order 0: 4\n"
	                   "blocks     order 9: 1\n"
	                   "objects    300 (37.5K), those that its threads cache included\n"
	                   "of cache   message: 200 (25K)\n"
	                   "of cache   kmalloc-128: 100 (12.5K)\n"
	                   "returned   31 objects, taken back when memory is short\n"
	                   "caches     2 open\n"
	                   "names      1 published by its user\n"
	                   "magazines  0\n"
	                   "holds      0\n"
	                   "channels   0\n"
	                   "calls      10, 2 of them refused, 0 parked now\n"
	                   "last error order 11 is above 10\n");
}
END_TEST

START_TEST(leaks_name_who_holds_what)
{
	static kmm_v1_Leak l[3] = {
		{ .session = 7, .name = "feed", .pid = 4007, .opened = 100, .state = "live",
		  .cache = "message", .objects = 12, .bytes = 1536, .flushed = true },
		{ .session = 7, .name = "feed", .pid = 4007, .opened = 100, .state = "live",
		  .objects = 3, .bytes = 3 * 4096, .flushed = true },
		{ .state = "holders", .cache = "config", .objects = 1, .bytes = 64,
		  .flushed = true },
	};
	struct capture c;

	report_leaks(capture_start(&c), l, 3, 165);
	assert_printed(&c, "SESSION   PID  STATE     AGE  CACHE          OBJECTS  MEMORY  NAME\n"
	                   "      7  4007  live     1m5s  message             12    1.5K  feed\n"
	                   "      7  4007  live     1m5s  (page blocks)        3     12K  feed\n"
	                   "      -     -  holders     -  config               1      64  -\n");
}
END_TEST

/* A session that did not answer is named once, below. */
START_TEST(leaks_tell_what_may_be_cached_only)
{
	static kmm_v1_Leak l[4] = {
		{ .session = 3, .name = "a", .state = "live", .cache = "message", .objects = 2 },
		{ .session = 3, .name = "a", .state = "live", .objects = 1, .flushed = true },
		{ .session = 3, .name = "a", .state = "live", .cache = "config", .objects = 1 },
		{ .session = 9, .name = "b", .state = "live", .cache = "config", .objects = 1 },
	};
	struct capture c;

	report_leaks(capture_start(&c), l, 4, 0);
	assert_printed(&c, "SESSION  PID  STATE  AGE  CACHE          OBJECTS  MEMORY  NAME\n"
	                   "      3    0  live    0s  message              2       0  a\n"
	                   "      3    0  live    0s  (page blocks)        1       0  a\n"
	                   "      3    0  live    0s  config               1       0  a\n"
	                   "      9    0  live    0s  config               1       0  b\n"
	                   "session 3 did not answer: objects that its idle threads merely cache are "
	                   "among these\n"
	                   "session 9 did not answer: objects that its idle threads merely cache are "
	                   "among these\n");
}
END_TEST

static kmm_v1_Name three_names[3] = {
	{ .name = "config", .cache = "settings", .bytes = 192, .session = 7, .uid = 1000,
	  .owner = 7, .holders = 3 },
	{ .name = "ring", .order = 3, .bytes = 8 * 4096, .uid = 0, .holders = 1 },
	{ .name = "was", .bytes = 64, .session = 2, .uid = 5, .stale = true },
};

START_TEST(names_tell_what_they_keep)
{
	struct capture c;

	report_names(capture_start(&c), three_names, 3);
	assert_printed(&c, "NAME    WHAT                SIZE  SESSION   UID  OWNER  HOLDERS\n"
	                   "config  object of settings   192        7  1000      7        3\n"
	                   "ring    block of order 3     32K        -     0      -        1\n"
	                   "was     (freed or adopted)     -        2     5      -        0\n");
}
END_TEST

START_TEST(health_is_loud_about_backing)
{
	static kmm_v1_CheckReply h = { .status = kmm_v1_CheckReply_Status_DEGRADED,
		                       .version = "0.1.0", .pid = 42, .epoch = 3,
		                       .uptime_ms = 61500, .bytes_4k = 1u << 26,
		                       .backing = "64 MiB of 4 KiB pages",
		                       .advice = "reserve huge pages\nand start again",
		                       .text = "one\ntwo\n", .damaged_domains = 1 };
	struct capture c;

	report_health(capture_start(&c), &h);
	assert_printed(&c, "status     DEGRADED\n"
	                   "daemon     kmmd 0.1.0, pid 42, start 3 of this pool, up 1m1s\n"
	                   "BACKING    64 MiB of 4 KiB pages\n"
	                   "           in pages of 4K: 64M, of 2M: 0, of 1G: 0\n"
	                   "ADVICE     reserve huge pages\n"
	                   "           and start again\n"
	                   "DAMAGED    1 domain(s): shared words that make no sense; "
	                   "see kmmctl fsck\n"
	                   "facts      one\n"
	                   "           two\n");
}
END_TEST

START_TEST(units)
{
	char text[TABLE_UNIT_SIZE];

	ck_assert_str_eq(table_bytes(text, 0), "0");
	ck_assert_str_eq(table_bytes(text, 1023), "1023");
	ck_assert_str_eq(table_bytes(text, 1024), "1K");
	ck_assert_str_eq(table_bytes(text, 1536), "1.5K");
	ck_assert_str_eq(table_bytes(text, 1048575), "1023.9K");
	ck_assert_str_eq(table_bytes(text, 1u << 30), "1G");
	ck_assert_str_eq(table_bytes(text, UINT64_MAX), "15.9E");
	ck_assert_str_eq(table_frames(text, 1), "4K");
	ck_assert_str_eq(table_frames(text, UINT64_MAX), "unlimited");
	ck_assert_str_eq(table_age(text, 59), "59s");
	ck_assert_str_eq(table_age(text, 3600), "1h0m");
	ck_assert_str_eq(table_age(text, 90000), "1d1h");
}
END_TEST

START_TEST(texts_from_clients_are_harmless)
{
	static const struct {
		const char *text, *clean;
	} cases[] = {
		{ "plain", "plain" },
		{ "größer €", "größer €" },
		{ "\xf0\x9f\x90\xa7", "\xf0\x9f\x90\xa7" },
		{ "a\033[2Jb\177", "a?[2Jb?" },
		{ "line\nbreak\ttab", "line?break?tab" },
		{ "\xc2\x9b" "2J", "??2J" },              /* C1 control */
		{ "\xff\xfe", "??" },                     /* no UTF-8 */
		{ "\xc0\xaf", "??" },                     /* overlong */
		{ "\xe0\x80\xaf", "???" },                /* overlong */
		{ "\xed\xa0\x80", "???" },                /* surrogate */
		{ "cut \xe2\x82", "cut ??" },             /* ends within a character */
	};
	char text[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		strcpy(text, cases[i].text);
		fetch_clean_text(text, false);
		ck_assert_str_eq(text, cases[i].clean);
	}
	strcpy(text, "two\nlines\033");
	fetch_clean_text(text, true);
	ck_assert_str_eq(text, "two\nlines?");
}
END_TEST

/* ---- JSON ---- */

START_TEST(json_of_caches_and_leaks)
{
	static kmm_v1_Cache cache = { .name = "message", .active_objects = 7, .objects = 32,
		                      .stride = 128, .order = 1, .objects_per_slab = 64,
		                      .ctor = true, .reports = 2 };
	static kmm_v1_Leak leak = { .session = 3, .cache = "message", .objects = 7, .bytes = 896 };
	static kmm_v1_Session s;
	kmm_v1_ShrinkCacheReply r = { .pages = 9, .objects = 77, .asked = 2, .silent = 1 };
	struct json_object *o, *first, *v = NULL;

	o = json_slabinfo(&cache, 1);
	ck_assert_uint_eq(json_object_array_length(o), 1);
	first = json_object_array_get_idx(o, 0);
	ck_assert_int_eq(json_int(first, "active_objs"), 7);
	ck_assert_int_eq(json_int(first, "objsize"), 128);
	ck_assert_int_eq(json_int(first, "pagesperslab"), 2);
	ck_assert_int_eq(json_int(first, "reports"), 2);
	ck_assert_int_eq(json_int(first, "ctor"), 1);
	json_object_put(o);

	o = json_leaks(&leak, 1);
	first = json_object_array_get_idx(o, 0);
	ck_assert_int_eq(json_int(first, "session"), 3);
	ck_assert_int_eq(json_int(first, "bytes"), 896);
	json_object_put(o);

	make_session(&s, 7, "feed");
	s.cache_count = 1;
	strcpy(s.cache[0].name, "message");
	s.cache[0].objects = 5;
	o = json_session(&s);
	ck_assert(json_object_object_get_ex(o, "cache", &v));
	ck_assert_int_eq(json_int(json_object_array_get_idx(v, 0), "objects"), 5);
	json_object_put(o);

	o = json_names(three_names, 3);
	ck_assert_uint_eq(json_object_array_length(o), 3);
	ck_assert_int_eq(json_int(json_object_array_get_idx(o, 0), "holders"), 3);
	ck_assert_int_eq(json_int(json_object_array_get_idx(o, 1), "order"), 3);
	ck_assert_int_eq(json_int(json_object_array_get_idx(o, 2), "stale"), 1);
	json_object_put(o);

	o = json_shrink(&r);
	ck_assert_int_eq(json_int(o, "pages"), 9);
	ck_assert_int_eq(json_int(o, "objects"), 77);
	ck_assert_int_eq(json_int(o, "silent"), 1);
	json_object_put(o);
}
END_TEST

START_TEST(json_quotes_names)
{
	static kmm_v1_Session s;
	struct json_object *o, *v = NULL, *again;

	make_session(&s, 7, "a\"b\\c");
	s.granted = UINT64_MAX;
	o = json_session(&s);
	again = json_tokener_parse(json_object_to_json_string(o));
	ck_assert_ptr_nonnull(again);
	ck_assert(json_object_object_get_ex(again, "name", &v));
	ck_assert_str_eq(json_object_get_string(v), "a\"b\\c");
	ck_assert(json_object_object_get_ex(again, "granted", &v));
	ck_assert_uint_eq(json_object_get_uint64(v), UINT64_MAX);
	json_object_put(again);
	json_object_put(o);
}
END_TEST

/* ---- the command line ---- */

START_TEST(commands_check_their_argument)
{
	/* What they say goes to stderr; only the verdict matters here. */
	ck_assert_ptr_null(command_find("slabinfo "));
	ck_assert_ptr_null(command_find(""));
	ck_assert(command_check(command_find("zoneinfo"), NULL, NULL));
	ck_assert(!command_check(command_find("zoneinfo"), "0", NULL));
	ck_assert(!command_check(command_find("session"), NULL, NULL));
	ck_assert(command_check(command_find("session"), "1048575", NULL));
	ck_assert(!command_check(command_find("session"), "1048576", NULL));
	ck_assert(!command_check(command_find("session"), "0", NULL));
	ck_assert(!command_check(command_find("session"), "-1", NULL));
	ck_assert(!command_check(command_find("session"), " 1", NULL));
	ck_assert(!command_check(command_find("session"), "1x", NULL));
	ck_assert(!command_check(command_find("kill"), "99999999999999999999", NULL));
	ck_assert(command_check(command_find("slabinfo"), NULL, NULL));
	ck_assert(!command_check(command_find("leaks"), "message", NULL));
	ck_assert(!command_check(command_find("shrink"), NULL, NULL));
	ck_assert(!command_check(command_find("shrink"), "", NULL));
	ck_assert(command_check(command_find("shrink"), "message", NULL));
	ck_assert(command_check(command_find("shrink"), "123456789012345678901234567890123456789"
	                                                "012345678901234567890123", NULL));
	ck_assert(!command_check(command_find("shrink"), "123456789012345678901234567890123456789"
	                                                 "0123456789012345678901234", NULL));
	ck_assert(command_check(command_find("methods"), NULL, NULL));
	ck_assert(command_check(command_find("methods"), "kmm.v1.Health/Check", NULL));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("report");
	TCase *tcase = tcase_create("report");

	tcase_add_test(tcase, session_table_is_aligned);
	tcase_add_test(tcase, session_in_full);
	tcase_add_test(tcase, leaks_name_who_holds_what);
	tcase_add_test(tcase, leaks_tell_what_may_be_cached_only);
	tcase_add_test(tcase, names_tell_what_they_keep);
	tcase_add_test(tcase, health_is_loud_about_backing);
	tcase_add_test(tcase, units);
	tcase_add_test(tcase, texts_from_clients_are_harmless);
	tcase_add_test(tcase, json_of_caches_and_leaks);
	tcase_add_test(tcase, json_quotes_names);
	tcase_add_test(tcase, commands_check_their_argument);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
