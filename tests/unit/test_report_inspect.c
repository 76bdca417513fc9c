/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic and the pictures behind page, map, frag and top, from values made up here: formulas
 * of fragmentation against numbers worked out by hand, advice, letters and legends of the map, the
 * SVG's escapes, rates and orders of top.
 */
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/json_inspect.h"
#include "client/kmmctl/top.h"
#include "tests/suite.h"
#include "tests/unit/test_report.h"

/* ---- frag ---- */

START_TEST(indices_by_hand)
{
	/* 1000 - (1000 + 1000 * free / 2^order) / blocks; unusable: 1000 * (free - usable) / free */
	static const struct {
		uint64_t nr_free[REPORT_ORDERS];
		uint32_t order;
		int index, unusable;
	} row[] = {
		{ { 0 }, 0, 0, 1000 },                       /* nothing free */
		{ { 1 }, 0, FRAG_SUITABLE, 0 },              /* one of just that size */
		{ { 1 }, 1, -500, 1000 },                    /* 1000 - (1000 + 500) / 1 */
		{ { 1024 }, 10, 999, 1000 },                 /* 1000 - (1000 + 1000) / 1024 */
		{ { 512 }, 10, 998, 1000 },                  /* 1000 - (1000 + 500) / 512 = 1000 - 2 */
		{ { 4, 0, 1 }, 2, FRAG_SUITABLE, 500 },      /* 8 free, 4 usable */
		{ { 4, 0, 1 }, 3, 600, 1000 },               /* 1000 - (1000 + 1000) / 5 */
		{ { 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2 }, 10, FRAG_SUITABLE, 1 }, /* 3 of 2051 */
		{ { 0, 7 }, 4, 733, 1000 },                  /* 1000 - (1000 + 875) / 7 */
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		ck_assert_int_eq(frag_index(row[i].nr_free, row[i].order), row[i].index);
		ck_assert_int_eq(frag_unusable(row[i].nr_free, row[i].order), row[i].unusable);
	}
}
END_TEST

static struct report_zone zone_of(const char *name, uint64_t managed)
{
	struct report_zone z = { .present = managed, .managed = managed };

	snprintf(z.name, sizeof(z.name), "%s", name);
	return z;
}

static kmm_v1_Cache cache_of(const char *name, uint64_t active, uint64_t slabs)
{
	kmm_v1_Cache c = { .size = 100, .stride = 104, .order = 0, .objects_per_slab = 39,
		           .words = 64, .slabs = slabs };

	snprintf(c.name, sizeof(c.name), "%s", name);
	c.active_objects = active;
	c.objects = slabs * c.objects_per_slab;
	return c;
}

START_TEST(what_a_cache_loses_adds_up_to_its_slabs)
{
	kmm_v1_Cache cache[] = { cache_of("idle", 0, 0), cache_of("full", 78, 2),
		                 cache_of("sparse", 10, 8) };
	kmm_v1_Pool pool = { .managed = 1 << 20, .available = 1 << 20 };
	struct frag f;

	ck_assert(frag_make(&f, NULL, 0, cache, 3, &pool));
	ck_assert_uint_eq(f.caches, 2);
	ck_assert_str_eq(f.cache[0].cache->name, "sparse"); /* the most wasteful first */
	ck_assert_uint_eq(f.cache[1].asked, 7800);
	ck_assert_uint_eq(f.cache[1].padding, 78 * 4);
	ck_assert_uint_eq(f.cache[1].unused, 0);
	ck_assert_uint_eq(f.cache[1].ends, 2 * (4096 - 39 * 104));
	ck_assert_uint_eq(f.cache[1].words, 2 * 64 * 8);
	ck_assert_uint_eq(f.cache[0].unused, (8 * 39 - 10) * 104);
	ck_assert_uint_eq(f.total.asked + frag_waste(&f.total), 10 * 4096);
	frag_done(&f);
}
END_TEST

START_TEST(advice_follows_from_the_numbers)
{
	struct report_zone zone[] = { zone_of("Normal", 10000), zone_of("HighMem", 10000) };
	kmm_v1_Cache cache[] = { cache_of("dentry", 1000, 5000) };
	kmm_v1_Pool pool = { .managed = 20000, .available = 10000 };
	struct frag_advice a;
	struct frag f;

	/* large blocks, nothing cached */
	zone[0].nr_free[10] = zone[1].nr_free[10] = 4;
	zone[0].free = zone[1].free = 4096;
	ck_assert(frag_make(&f, zone, 2, NULL, 0, &pool));
	ck_assert(!frag_advise(&f, 0, &a));
	frag_done(&f);
	/* everything at once */
	zone[0].nr_free[10] = zone[1].nr_free[10] = 0;
	zone[0].nr_free[0] = zone[1].nr_free[0] = 4096;
	pool.depot = 3000;
	ck_assert(frag_make(&f, zone, 2, cache, 1, &pool));
	ck_assert(frag_advise(&f, 0, &a));
	ck_assert_str_eq(a.command, "kmmctl drop-caches");
	ck_assert(frag_advise(&f, 1, &a));
	ck_assert_str_eq(a.command, "kmmctl shrink dentry");
	ck_assert(frag_advise(&f, 2, &a));
	ck_assert_str_eq(a.command, "");
	ck_assert_ptr_nonnull(strstr(a.why, "zone Normal: 100.0%"));
	ck_assert(frag_advise(&f, 3, &a));
	ck_assert_str_eq(a.command, "kmmctl compact");
	ck_assert(!frag_advise(&f, 4, &a));
	frag_done(&f);
	/* full, nothing cached */
	zone[0].nr_free[0] = zone[1].nr_free[0] = 5;
	zone[0].free = zone[1].free = 5;
	pool.depot = 0;
	pool.available = 10;
	ck_assert(frag_make(&f, zone, 2, NULL, 0, &pool));
	ck_assert(frag_advise(&f, 0, &a));
	ck_assert_str_eq(a.command, "");
	ck_assert_ptr_nonnull(strstr(a.why, "10 of 20000 frames are to be had"));
	ck_assert(!frag_advise(&f, 1, &a));
	frag_done(&f);
}
END_TEST

START_TEST(indices_are_printed_with_their_sign)
{
	struct report_zone zone[] = { zone_of("DMA", 10) };
	kmm_v1_Pool pool = { .managed = 10, .available = 1 };
	struct capture c;
	struct frag f;
	char *text;

	zone[0].nr_free[0] = 1;
	ck_assert(frag_make(&f, zone, 1, NULL, 0, &pool));
	report_frag(capture_start(&c), &f);
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(text, "Node 0, zone      DMA -1.000 -0.500 -0.250 -0.125 "));
	ck_assert_ptr_nonnull(strstr(text, "Node 0, zone      DMA  0.000  1.000  1.000 "));
	free(text);
	frag_done(&f);
}
END_TEST

/* ---- map ---- */

#define ZONE_NORMAL 2

static kmm_v1_MapCell cell_of(uint32_t free_frames, uint32_t type)
{
	return (kmm_v1_MapCell){ .state = kmm_v1_Page_State_BLOCK, .zone = ZONE_NORMAL, .type = type,
		                 .free = free_frames, .blocks = 512 - free_frames };
}

static struct map_view view_of(const struct map *m, enum map_by by)
{
	struct map_view v;

	map_view_init(&v, m, by);
	return v;
}

START_TEST(letters_of_the_views)
{
	kmm_v1_MapCell cell[] = { cell_of(512, 1), cell_of(511, 0), cell_of(256, 2), cell_of(1, 3),
		                  cell_of(0, 4), { .state = kmm_v1_Page_State_METADATA },
		                  { .state = kmm_v1_Page_State_OFFLINE },
		                  { .state = kmm_v1_Page_State_RETIRED },
		                  { .state = kmm_v1_Page_State_ABSENT } };
	static const char *const expected[MAP_NR_BY] = { ".159#=~x ", "NNNNN=~x ", "mURHI=~x ",
		                                         ".a-b-=~x " };
	kmm_v1_Session session[] = { { .id = 7, .name = "seven" }, { .id = 9, .name = "nine" } };
	struct map m = { cell, 9, session, 2 };

	cell[1].owner = 9;
	cell[1].owner_frames = 300;
	cell[3].owner = 7;
	cell[3].owner_frames = 100;
	for (enum map_by by = 0; by < MAP_NR_BY; by++) {
		struct map_view v = view_of(&m, by);

		for (size_t i = 0; i < 9; i++)
			ck_assert_int_eq(map_look(&v, i, 1).letter, expected[by][i]);
	}
}
END_TEST

START_TEST(what_lies_on_per_cpu_lists_is_not_in_use)
{
	kmm_v1_MapCell cell[] = { cell_of(500, 1), cell_of(500, 1) };
	struct map m = { cell, 2, NULL, 0 };
	struct map_view v = view_of(&m, MAP_BY_FULLNESS);

	cell[0].per_cpu = 12;
	ck_assert_int_eq(map_look(&v, 0, 1).letter, '.');
	ck_assert_int_eq(map_look(&v, 1, 1).letter, '1');
}
END_TEST

START_TEST(several_pageblocks_are_one_cell)
{
	kmm_v1_MapCell cell[] = { cell_of(512, 1), cell_of(0, 0), cell_of(512, 0), cell_of(512, 1) };
	kmm_v1_Session session[] = { { .id = 7 } };
	struct map m = { cell, 4, session, 1 };
	struct map_view v = view_of(&m, MAP_BY_FULLNESS);

	ck_assert_int_eq(map_look(&v, 0, 4).letter, '2');
	ck_assert_int_eq(map_look(&v, 0, 2).letter, '5');
	v = view_of(&m, MAP_BY_TYPE);
	ck_assert_int_eq(map_look(&v, 1, 3).letter, 'U');
	cell[1].owner = 7;
	cell[1].owner_frames = 512;
	v = view_of(&m, MAP_BY_OWNER);
	ck_assert_int_eq(map_look(&v, 0, 4).letter, 'a');
}
END_TEST

/* 4096 pageblocks (8 GiB), the upper half of another zone. */
START_TEST(a_large_pool_fits_the_screen)
{
	static kmm_v1_MapCell cell[4096];
	struct map m = { cell, 4096, NULL, 0 };
	struct map_view v;
	struct capture c;
	size_t lines = 0, widest = 0, at = 0;
	char *text;

	for (size_t i = 0; i < 4096; i++) {
		cell[i] = cell_of(i % 513, 1);
		cell[i].zone = i < 2048 ? 1 : ZONE_NORMAL;
	}
	v = view_of(&m, MAP_BY_FULLNESS);
	report_map(capture_start(&c), &v, &(struct map_screen){ 80, 24, false });
	text = capture_end(&c);
	for (const char *p = text; *p; p++) {
		at = *p == '\n' ? 0 : at + 1;
		widest = at > widest ? at : widest;
		lines += *p == '\n';
	}
	ck_assert_uint_le(lines, 24);
	ck_assert_uint_le(widest, 80);
	ck_assert_ptr_nonnull(strstr(text, "pool of 8G, a cell is "));
	ck_assert_ptr_nonnull(strstr(text, "Node 0, zone DMA32: 4G"));
	ck_assert_ptr_nonnull(strstr(text, "Node 0, zone Normal: 4G"));
	free(text);
}
END_TEST

START_TEST(colour_is_reset_and_absent_without)
{
	kmm_v1_MapCell cell[] = { cell_of(512, 1), cell_of(0, 1) };
	struct map m = { cell, 2, NULL, 0 };
	struct map_view v = view_of(&m, MAP_BY_FULLNESS);
	struct capture c;
	char *text;

	report_map(capture_start(&c), &v, &(struct map_screen){ 80, 24, true });
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(text, "\033[48;5;"));
	for (const char *p = text; (p = strstr(p, "\033[48;5;")) != NULL; p++)
		ck_assert(strstr(p, "\033[0m") < strchr(p, '\n'));
	free(text);
	report_map(capture_start(&c), &v, &(struct map_screen){ 80, 24, false });
	text = capture_end(&c);
	ck_assert_ptr_null(strchr(text, '\033'));
	ck_assert_ptr_nonnull(strstr(text, "0x0000000000 .#\n"));
	free(text);
}
END_TEST

START_TEST(free_and_hardly_used_differ)
{
	for (uint8_t h = 0; h < MAP_HUES; h++) {
		for (int dark = 0; dark < 2; dark++) {
			struct map_colour a = map_colour(&(struct map_look){ '.', h, 0 }, dark);
			struct map_colour b = map_colour(&(struct map_look){ '1', h, 1 }, dark);

			ck_assert_int_ge(abs(a.red - b.red) + abs(a.green - b.green) +
			                 abs(a.blue - b.blue), 40);
		}
	}
}
END_TEST

START_TEST(names_are_escaped_in_the_svg)
{
	kmm_v1_MapCell cell[] = { cell_of(0, 1) };
	kmm_v1_Session session[] = { { .id = 7, .name = "a<b>&\"c" } };
	struct map m = { cell, 1, session, 1 };
	struct map_view v;
	struct capture c;
	char *text;

	cell[0].owner = 7;
	cell[0].owner_frames = 512;
	v = view_of(&m, MAP_BY_OWNER);
	map_svg(capture_start(&c), &v);
	text = capture_end(&c);
	ck_assert_ptr_null(strstr(text, "a<b"));
	ck_assert_ptr_nonnull(strstr(text, "session 7 a&lt;b&gt;&amp;&quot;c has most: 512</title>"));
	ck_assert_ptr_nonnull(strstr(text, ">session 7 a&lt;b&gt;&amp;&quot;c</text>"));
	free(text);
}
END_TEST

/* ---- top ---- */

static kmm_v1_Session session_of(uint32_t id, const char *name, uint64_t opened)
{
	kmm_v1_Session s = { .id = id, .pid = 100 + id, .opened = opened };

	snprintf(s.name, sizeof(s.name), "%s", name);
	return s;
}

START_TEST(rates_are_differences_by_time)
{
	kmm_v1_Session old[] = { session_of(1, "one", 5), session_of(2, "two", 5) };
	kmm_v1_Session new[] = { session_of(3, "three", 9), session_of(1, "one", 5),
		                 session_of(2, "another", 8) };
	struct top_sample before = { true, 1000000000, { .free = 1 }, old, 2 };
	struct top_sample now = { true, 3000000000, { .free = 2 }, new, 3 };
	struct top t;

	old[0].calls = 100;
	new[1].calls = 150;
	old[0].frames_had = 10;
	new[1].frames_had = 1034;
	old[0].frames_back = 6; /* fewer later: a daemon that started anew */
	new[1].frames_back = 2;
	new[2].calls = 1000000;
	ck_assert(top_make(&t, &before, &now, TOP_ID, false));
	ck_assert_double_eq(t.seconds, 2.0);
	ck_assert_uint_eq(t.row[0].session->id, 1);
	ck_assert(t.row[0].rated);
	ck_assert_double_eq(t.row[0].calls, 25.0);
	ck_assert_double_eq(t.row[0].alloc, 512.0);
	ck_assert_double_eq(t.row[0].freed, 0.0);
	ck_assert(!t.row[1].rated); /* the number was given to another */
	ck_assert(!t.row[2].rated);
	ck_assert_double_eq(t.calls, 25.0);
	top_done(&t);
	before.taken = false;
	ck_assert(top_make(&t, &before, &now, TOP_ID, false));
	ck_assert_double_eq(t.seconds, 0.0);
	ck_assert(!t.row[0].rated);
	top_done(&t);
}
END_TEST

START_TEST(every_key_sorts_and_reverses)
{
	kmm_v1_Session s[] = { session_of(1, "m", 5), session_of(2, "z", 5), session_of(3, "a", 5) };
	struct top_sample none = { .taken = false }, now = { true, 1, { .free = 1 }, s, 3 };
	enum top_key key;
	struct top t;

	s[1].granted = 3;
	s[2].object_bytes = 4096 * 4;
	s[0].cached = 9;
	s[2].parked = 1;
	for (unsigned int k = 0; k < TOP_NR_KEYS; k++) {
		ck_assert(top_key_find(top_key_names[k], &key));
		ck_assert_uint_eq(key, k);
	}
	ck_assert(!top_key_find("size", &key));
	ck_assert(top_make(&t, &none, &now, TOP_MEM, false));
	ck_assert_uint_eq(t.row[0].session->id, 3);
	ck_assert_uint_eq(t.row[1].session->id, 2);
	top_done(&t);
	ck_assert(top_make(&t, &none, &now, TOP_MEM, true));
	ck_assert_uint_eq(t.row[0].session->id, 1);
	top_done(&t);
	ck_assert(top_make(&t, &none, &now, TOP_NAME, false));
	ck_assert_str_eq(t.row[0].session->name, "a");
	top_done(&t);
	ck_assert(top_make(&t, &none, &now, TOP_NAME, true));
	ck_assert_str_eq(t.row[0].session->name, "z");
	top_done(&t);
	ck_assert(top_make(&t, &none, &now, TOP_CACHED, false));
	ck_assert_uint_eq(t.row[0].session->id, 1);
	ck_assert_uint_eq(t.row[1].session->id, 2); /* the same: by number */
	top_done(&t);
	ck_assert(top_make(&t, &none, &now, TOP_PARKED, false));
	ck_assert_uint_eq(t.row[0].session->id, 3);
	top_done(&t);
}
END_TEST

START_TEST(pressure_is_told)
{
	struct top_sample none = { .taken = false }, now = { .taken = true };
	struct capture c;
	struct top t;
	char *text;

	for (int i = 0; i < 3; i++) {
		static const char *const said[] = { "pressure  none\n",
			                            "pressure  a request found no memory",
			                            "pressure  requests wait for memory\n" };

		now.pool.scarce = i == 1;
		now.pool.parked = i == 2;
		ck_assert(top_make(&t, &none, &now, TOP_MEM, false));
		report_top(capture_start(&c), &t, NULL, false);
		text = capture_end(&c);
		ck_assert_ptr_nonnull(strstr(text, said[i]));
		free(text);
		top_done(&t);
	}
}
END_TEST

/* ---- page ---- */

START_TEST(every_flag_has_a_name)
{
	kmm_v1_Page p = { .flags = (1u << PAGE_FLAGS) - 1, .state = kmm_v1_Page_State_METADATA };
	struct capture c;
	char *text;

	ck_assert_uint_eq(PAGE_FLAGS, _kmm_v1_Page_Flag_ARRAYSIZE);
	report_page(capture_start(&c), &p);
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(
		text, "flags           locked|reclaim|head|tail|slab|buddy|pcp|reserved|private|movable|"
	        "isolated|unevictable|offline|nopage|hwpoison\n"));
	free(text);
	p.flags = 0;
	report_page(capture_start(&c), &p);
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(text, "flags           none\n"));
	free(text);
}
END_TEST

START_TEST(pages_that_move_name_their_other_number)
{
	kmm_v1_Page p = { .page = 20000, .frame = 15000, .page_of = 20000, .moves = true,
		          .state = kmm_v1_Page_State_BLOCK, .head = 15000,
		          .kind = kmm_v1_Page_Kind_HELD, .mapped = true, .mapcount = 1,
		          .refcount = 1 };
	struct json_object *o;
	struct capture c;
	char *text;

	report_page(capture_start(&c), &p);
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(text, "page            20000 (0x4e20), one that can move\n"));
	ck_assert_ptr_nonnull(strstr(text, "frame           15000 (0x3a98), at the moment\n"));
	ck_assert_ptr_nonnull(strstr(text, "MAPPED"));
	free(text);
	p.page = p.frame;
	report_page(capture_start(&c), &p);
	text = capture_end(&c);
	ck_assert_ptr_nonnull(strstr(text, "alias           the frame, at the moment, of page 20000"));
	free(text);
	o = json_page(&p);
	ck_assert_int_eq(json_int(o, "page_of"), 20000);
	ck_assert_int_eq(json_int(o, "dma_addr"), 15000 * 4096);
	json_object_put(o);
}
END_TEST

START_TEST(top_scrolls)
{
	static const struct {
		size_t first, n, room;
		enum top_move move;
		size_t then;
	} row[] = {
		{ 0, 5, 10, TOP_DOWN, 0 },       { 0, 5, 10, TOP_PAGE_DOWN, 0 }, /* all are there */
		{ 0, 5, 5, TOP_DOWN, 0 },        { 0, 5, 4, TOP_DOWN, 1 },
		{ 1, 5, 4, TOP_DOWN, 1 },        { 1, 5, 4, TOP_UP, 0 },
		{ 0, 5, 4, TOP_UP, 0 },          { 0, 30, 10, TOP_PAGE_DOWN, 10 },
		{ 10, 30, 10, TOP_PAGE_DOWN, 20 }, { 15, 30, 10, TOP_PAGE_DOWN, 20 },
		{ 20, 30, 10, TOP_PAGE_UP, 10 }, { 3, 30, 10, TOP_PAGE_UP, 0 },
		{ 3, 30, 10, TOP_END, 20 },      { 3, 30, 10, TOP_HOME, 0 },
		{ 12, 30, 10, TOP_STAY, 12 },    { 20, 15, 10, TOP_STAY, 5 }, /* sessions ended */
		{ 20, 30, 25, TOP_STAY, 5 },     { 20, 0, 10, TOP_STAY, 0 }, /* the window grew */
		{ 0, 3, 0, TOP_PAGE_DOWN, 1 },   { 2, 3, 0, TOP_PAGE_UP, 1 }, /* no room at all */
	};

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		ck_assert_uint_eq(top_scroll(row[i].first, row[i].move, row[i].n, row[i].room),
		                  row[i].then);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("report_inspect");
	TCase *tcase = tcase_create("frag");

	tcase_add_test(tcase, indices_by_hand);
	tcase_add_test(tcase, what_a_cache_loses_adds_up_to_its_slabs);
	tcase_add_test(tcase, advice_follows_from_the_numbers);
	tcase_add_test(tcase, indices_are_printed_with_their_sign);
	suite_add_tcase(suite, tcase);
	tcase = tcase_create("map");
	tcase_add_test(tcase, letters_of_the_views);
	tcase_add_test(tcase, what_lies_on_per_cpu_lists_is_not_in_use);
	tcase_add_test(tcase, several_pageblocks_are_one_cell);
	tcase_add_test(tcase, a_large_pool_fits_the_screen);
	tcase_add_test(tcase, colour_is_reset_and_absent_without);
	tcase_add_test(tcase, free_and_hardly_used_differ);
	tcase_add_test(tcase, names_are_escaped_in_the_svg);
	suite_add_tcase(suite, tcase);
	tcase = tcase_create("top");
	tcase_add_test(tcase, rates_are_differences_by_time);
	tcase_add_test(tcase, every_key_sorts_and_reverses);
	tcase_add_test(tcase, pressure_is_told);
	tcase_add_test(tcase, top_scrolls);
	suite_add_tcase(suite, tcase);
	tcase = tcase_create("page");
	tcase_add_test(tcase, every_flag_has_a_name);
	tcase_add_test(tcase, pages_that_move_name_their_other_number);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
