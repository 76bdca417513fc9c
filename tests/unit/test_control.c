/* SPDX-License-Identifier: MIT */
/* The layout of control memory, granules, and the classes of cached blocks. */
#include "shm/control.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct control_geometry sane = {
	.frames = 16384, .section_order = 10, .sessions = 100, .magazines = 1024
};

START_TEST(parts_follow_each_other_on_page_borders)
{
	struct control_geometry g = sane;
	struct control_layout l;
	uint32_t order;

	for (order = 10; order <= 18; order++) {
		g.section_order = order;
		g.frames = UINT64_C(7) << order;
		g.sessions = 2 + order * 31;
		g.magazines = order * 77;
		ck_assert_int_eq(control_layout_compute(&l, &g), 0);
		ck_assert_uint_eq(l.words, 0);
		ck_assert_uint_ge(l.sessions, l.words + g.frames * 8);
		ck_assert_uint_ge(l.magazines, l.sessions + g.sessions * 192);
		ck_assert_uint_ge(l.words_size, l.magazines + g.magazines * 2112);
		ck_assert_uint_lt(l.words_size, g.frames * 8 + g.sessions * 192 +
		                                        g.magazines * 2112 + 3 * 4096);
		ck_assert_uint_eq(l.status, 0);
		ck_assert_uint_eq(l.sections, 4096);
		ck_assert_uint_eq(l.descriptors, 8192);
		ck_assert_uint_ge(l.views_size, l.descriptors + g.frames * 8);
		ck_assert_uint_eq((l.sessions | l.magazines | l.words_size | l.views_size) % 4096, 0);
	}
}
END_TEST

START_TEST(impossible_geometries_are_refused)
{
	struct control_layout l, untouched;
	struct control_geometry g;
	size_t i;
	const struct control_geometry bad[] = {
		{ 0, 10, 100, 1024 },
		{ 16384 + 1, 10, 100, 1024 },             /* no whole sections */
		{ 16384, 9, 100, 1024 },
		{ UINT64_C(1) << 19, 19, 100, 1024 },
		{ UINT64_C(1025) << 10, 10, 100, 1024 },  /* too many sections */
		{ UINT64_C(1) << 32, 18, 100, 1024 },
		{ 16384, 10, 1, 1024 },
		{ 16384, 10, (1u << 20) + 1, 1024 },
		{ 16384, 10, 100, 0 },
		{ 16384, 10, 100, (1u << 20) + 1 },
		{ UINT64_MAX, 10, 100, 1024 },
	};

	memset(&l, 0x5a, sizeof(l));
	untouched = l;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(control_layout_compute(&l, &bad[i]), -EINVAL);
		ck_assert_mem_eq(&l, &untouched, sizeof(l));
	}
	g = (struct control_geometry){ UINT64_C(1024) << 18, 18, 1u << 20, 1u << 20 };
	ck_assert_int_eq(control_layout_compute(&l, &g), 0);
}
END_TEST

START_TEST(attached_parts_lie_inside_and_apart)
{
	struct control_layout l;
	struct control c;
	uint8_t *words, *views;

	ck_assert_int_eq(control_layout_compute(&l, &sane), 0);
	words = aligned_alloc(4096, l.words_size);
	views = aligned_alloc(4096, l.views_size);
	ck_assert(words && views);
	memset(words, 0, l.words_size);
	memset(views, 0, l.views_size);
	control_attach(&c, &sane, words, views);
	atomic_store(&c.word[sane.frames - 1], 1);
	atomic_store(&c.session[0].section[0], 2);
	c.session[sane.sessions - 1].reserved[6] = 3;
	atomic_store(&c.magazine[0].header, 4);
	c.magazine[sane.magazines - 1].pad[47] = 5;
	c.status->version = 6;
	atomic_store(&c.section[15], 7);
	atomic_store(&c.desc[sane.frames - 1], 8);
	ck_assert_uint_eq(atomic_load(&c.word[sane.frames - 1]), 1);
	ck_assert_uint_eq(atomic_load(&c.session[0].section[0]), 2);
	ck_assert_uint_eq(c.session[sane.sessions - 1].reserved[6], 3);
	ck_assert_uint_eq(atomic_load(&c.magazine[0].header), 4);
	ck_assert_uint_eq(c.status->version, 6);
	ck_assert_uint_eq(atomic_load(&c.section[15]), 7);
	ck_assert_uint_lt((uintptr_t)&c.magazine[sane.magazines - 1].pad[47] - (uintptr_t)words,
	                  l.words_size);
	ck_assert_uint_lt((uintptr_t)&c.desc[sane.frames - 1] - (uintptr_t)views, l.views_size);
	free(words);
	free(views);
}
END_TEST

START_TEST(granules_cover_the_pool_in_32_bits)
{
	uint64_t frames;

	for (frames = 4096; frames <= UINT64_C(1) << 28; frames += frames / 3 + 1) {
		unsigned int shift = control_granule_shift(frames);
		uint64_t bytes = frames << 12;
		uint32_t last = (uint32_t)(frames - 1);

		ck_assert_uint_ge(shift, 3);
		ck_assert_uint_le(shift, 12);
		ck_assert((bytes - 1) >> shift <= UINT32_MAX);
		if (shift > 3) /* the least that does */
			ck_assert((bytes - 1) >> (shift - 1) > UINT32_MAX);
		ck_assert_uint_eq(control_pfn_of_granule(shift, control_granule_of_pfn(shift, last)),
		                  last);
	}
	ck_assert_uint_eq(control_granule_shift(UINT64_C(1) << 23), 3); /* 32 GiB */
	ck_assert_uint_eq(control_granule_shift((UINT64_C(1) << 23) + 1), 4);
	ck_assert_uint_eq(control_granule_shift(UINT64_C(1) << 24), 4);
	ck_assert_uint_eq(control_granule_of_pfn(3, 5), 5 * 512);
}
END_TEST

START_TEST(classes_of_cached_blocks)
{
	unsigned int order, type, seen = 0;
	int expected = 0;

	for (order = 0; order <= 10; order++)
		for (type = 0; type < 5; type++) {
			bool cached = (order <= 3 || order == 9) && type < 3;

			ck_assert_int_eq(page_class(order, type), cached ? expected : -1);
			if (cached) {
				expected++;
				seen++;
			}
		}
	ck_assert_uint_eq(seen, PAGE_CLASSES);
}
END_TEST

START_TEST(generations_and_handles_are_never_zero)
{
	uint64_t w = owner_reborn(0, OWNER_FREE, 0), last;

	ck_assert_uint_eq(owner_generation(w), 1);
	ck_assert(owner_is(w, OWNER_FREE, 0));
	last = UINT64_C(0xffffffff) << OWNER_GENERATION_SHIFT;
	w = owner_reborn(last, OWNER_HELD, 9);
	ck_assert_uint_ne((uint32_t)owner_generation(w), 0);
	ck_assert(handle_is_live(handle_make(0, w), w));
	ck_assert(!handle_is_live(handle_make(0, last), w));
	w = owner_reborn(UINT64_MAX, OWNER_HELD, OWNER_MAX);
	ck_assert_uint_eq(owner_generation(w), 1);
	w |= OWNER_SHARED;
	ck_assert_uint_eq(owner_generation(owner_given_back(w, OWNER_RETURNED, 1)), 2);
	ck_assert_uint_eq(owner_generation(owner_given_back(w | OWNER_KEPT, OWNER_HELD, 0)), 1);
}
END_TEST

START_TEST(magazine_headers_are_bounded)
{
	uint64_t h = magazine_next(0, MAGAZINE_LOADED, 77, 512), n;

	ck_assert(magazine_is(h, MAGAZINE_LOADED, 77));
	ck_assert_uint_eq(magazine_count(h), 512);
	n = magazine_next(h, MAGAZINE_DEPOT, 0, 512);
	ck_assert(magazine_is(n, MAGAZINE_DEPOT, 0));
	ck_assert_uint_ne(n >> MAGAZINE_TAG_SHIFT, h >> MAGAZINE_TAG_SHIFT);
	ck_assert_uint_le(magazine_count(UINT64_MAX), MAGAZINE_ROUNDS_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("control");
	TCase *t = tcase_create("control");
	SRunner *r;
	int failed;

	tcase_add_test(t, parts_follow_each_other_on_page_borders);
	tcase_add_test(t, impossible_geometries_are_refused);
	tcase_add_test(t, attached_parts_lie_inside_and_apart);
	tcase_add_test(t, granules_cover_the_pool_in_32_bits);
	tcase_add_test(t, classes_of_cached_blocks);
	tcase_add_test(t, generations_and_handles_are_never_zero);
	tcase_add_test(t, magazine_headers_are_bounded);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
