/* SPDX-License-Identifier: MIT */
/* kmmctl why, from failures made up here: what is said of each reason, and what helps. */
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/why.h"
#include "tests/suite.h"
#include "tests/unit/test_report.h"

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

START_TEST(what_waits)
{
	kmm_v1_Explanation e = failure(kmm_v1_Explanation_Reason_NONE);
	char text[WHY_TEXT];

	e.has_waits = true;
	e.waits = (kmm_v1_Waits){ .requests = 3, .ms = 61050, .order = 4, .gfp = 0xcc0, .all = 10 };
	strcpy(e.waits.gfp_text, "GFP_KERNEL");
	e.depot_now = 5000;
	assert_helps(&e, "kmmctl drop-caches|kmmctl advise|");
	ck_assert_str_eq(why_waits_text(text, &e.waits),
	                 "61.0 s so far: a block of order 4 (64K), until others free memory");
	strcpy(e.waits.cache, "things");
	e.waits.ms = 999;
	ck_assert_str_eq(why_waits_text(text, &e.waits),
	                 "0.9 s so far: objects of cache things, in slabs of order 4 (64K), until others "
	                 "free memory");
	/* what failed before has its own help */
	e.reason = kmm_v1_Explanation_Reason_IMPOSSIBLE;
	assert_helps(&e, "-|kmmctl advise|");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("why");
	TCase *tcase = tcase_create("why");

	tcase_add_test(tcase, quotas_name_their_key);
	tcase_add_test(tcase, zones_say_what_was_in_the_way);
	tcase_add_test(tcase, help_follows_from_the_reason);
	tcase_add_test(tcase, the_report);
	tcase_add_test(tcase, what_waits);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
