/* SPDX-License-Identifier: MIT */
/* The layout of control memory, granules, and the classes of cached blocks. */
#include "shm/control.h"
#include "tests/suite.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct control_geometry sane = {
	.frames = 16384, .high_start = 12288, .high_frames = 3072, .section_order = 10,
	.sessions = 100, .magazines = 1024
};

START_TEST(parts_follow_each_other_on_page_borders)
{
	struct control_geometry g = sane;
	struct control_layout l;
	uint64_t pages;
	uint32_t order;

	for (order = 10; order <= 18; order++) {
		g.section_order = order;
		g.frames = UINT64_C(7) << order;
		g.high_start = UINT64_C(4) << order;
		g.high_frames = UINT64_C(2) << order;
		pages = UINT64_C(9) << order;
		g.sessions = 2 + order * 31;
		g.magazines = order * 77;
		ck_assert_int_eq(control_layout_compute(&l, &g), 0);
		ck_assert_uint_eq(l.words, 0);
		ck_assert_uint_ge(l.sessions, l.words + pages * 8);
		ck_assert_uint_ge(l.magazines, l.sessions + g.sessions * 320);
		ck_assert_uint_ge(l.words_dense, l.magazines + g.magazines * 2112);
		ck_assert_uint_lt(l.words_dense, pages * 8 + g.sessions * 320 +
		                                        g.magazines * 2112 + 3 * 4096);
		ck_assert_uint_eq(l.objects, l.words_dense); /* the sparse parts are the end */
		ck_assert_uint_eq(l.object_words, g.frames * 128);
		ck_assert_uint_eq(l.slab_bits, l.objects + l.object_words * 8);
		ck_assert_uint_ge(l.slab_bits_stride * 8, g.frames);
		ck_assert_uint_lt(l.slab_bits_stride * 8, g.frames + 8 * 4096);
		ck_assert_uint_eq(l.racks, l.slab_bits + g.sessions * l.slab_bits_stride);
		ck_assert_uint_eq(l.areas, l.racks + CONTROL_CACHES_MAX * 64);
		ck_assert_uint_eq(l.locks, l.areas + CONTROL_AREAS_MAX * 128);
		ck_assert_uint_eq(l.words_size,
		                  l.locks + CONTROL_AREAS_MAX * CONTROL_AREA_CPUS * 8);
		ck_assert_uint_eq(l.status, 0);
		ck_assert_uint_eq(l.sections, 4096);
		ck_assert_uint_eq(l.descriptors, 8192);
		ck_assert_uint_ge(l.views_dense, l.descriptors + pages * 8);
		ck_assert_uint_eq(l.caches, l.views_dense);
		ck_assert_uint_eq(l.views_size, l.caches + CONTROL_CACHES_MAX * 128);
		ck_assert_uint_eq((l.sessions | l.magazines | l.words_size | l.views_size |
		                   l.objects | l.slab_bits | l.slab_bits_stride | l.racks |
		                   l.areas | l.locks | l.caches) %
		                          4096,
		                  0);
	}
}
END_TEST

START_TEST(impossible_geometries_are_refused)
{
	struct control_layout l, untouched;
	struct control_geometry g;
	size_t i;
	const struct control_geometry bad[] = {
		{ 0, 0, 0, 10, 100, 1024 },
		{ 16384 + 1, 16384, 0, 10, 100, 1024 },             /* no whole sections */
		{ 16384, 16384, 0, 9, 100, 1024 },
		{ UINT64_C(1) << 19, 0, 0, 19, 100, 1024 },
		{ UINT64_C(2049) << 10, 0, 0, 10, 100, 1024 },      /* too many sections */
		{ UINT64_C(1025) << 10, 0, UINT64_C(1024) << 10, 10, 100, 1024 },
		{ UINT64_C(1) << 32, 0, 0, 18, 100, 1024 },
		{ 16384, 16384, 0, 10, 1, 1024 },
		{ 16384, 16384, 0, 10, (1u << 20) + 1, 1024 },
		{ 16384, 16384, 0, 10, 100, 0 },
		{ 16384, 16384, 0, 10, 100, (1u << 20) + 1 },
		{ 16384, 8192, 1000, 10, 100, 1024 },               /* no whole high sections */
		{ 16384, 16384 - 1024, 2048, 10, 100, 1024 },       /* beyond the pool */
		{ 16384, 16385, 0, 10, 100, 1024 },
		{ 16384, 0, 32768, 10, 100, 1024 },
		{ UINT64_MAX, 0, 0, 10, 100, 1024 },
	};

	memset(&l, 0x5a, sizeof(l));
	untouched = l;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(control_layout_compute(&l, &bad[i]), -EINVAL);
		ck_assert_mem_eq(&l, &untouched, sizeof(l));
	}
	g = (struct control_geometry){
		UINT64_C(1024) << 18, UINT64_C(512) << 18, UINT64_C(512) << 18, 18, 1u << 20, 1u << 20
	};
	ck_assert_int_eq(control_layout_compute(&l, &g), 0);
}
END_TEST

START_TEST(attached_parts_lie_inside_and_apart)
{
	struct control_layout l;
	struct control c;
	uint8_t *words, *views, *words_at, *views_at;

	ck_assert_int_eq(control_layout_compute(&l, &sane), 0);
	words = calloc(1, l.words_size + 64);
	views = calloc(1, l.views_size + 64);
	ck_assert(words && views);
	words_at = words;
	views_at = views;
	words += -(uintptr_t)words & 63;
	views += -(uintptr_t)views & 63;
	control_attach(&c, &sane, words, views);
	atomic_store(&c.word[sane.frames - 1], 1);
	atomic_store(&c.session[0].section[0], 2);
	c.session[sane.sessions - 1].reserved[0] = 3;
	atomic_store(&c.magazine[0].header, 4);
	c.magazine[sane.magazines - 1].pad[47] = 5;
	c.status->version = 6;
	atomic_store(&c.section[15], 7);
	atomic_store(&c.desc[sane.frames - 1], 8);
	atomic_store(&c.word[control_pages(&sane) - 1], 17);
	atomic_store(&c.desc[control_pages(&sane) - 1], 18);
	atomic_store(&c.section[18], 19);
	owner_store(&c.area[CONTROL_AREAS_MAX - 1].word, 20);
	atomic_store(&c.area_lock[(size_t)CONTROL_AREAS_MAX * CONTROL_AREA_CPUS - 1], 21);
	atomic_store(&c.object[0], 9);
	atomic_store(&c.object[c.object_words - 1], 10);
	atomic_store(&control_slab_bits(&c, 0)[0], 11);
	atomic_store(&control_slab_bits(&c, sane.sessions - 1)[sane.frames / 64 - 1], 12);
	atomic_store(&c.cache[0].life, 13);
	atomic_store(&c.rack[0].slot[0], 15);
	atomic_store(&c.rack[CONTROL_CACHES_MAX - 1].slot[CONTROL_RACK_SLOTS - 1], 16);
	c.cache[CONTROL_CACHES_MAX - 1].name[63] = 14;
	ck_assert_uint_eq(atomic_load(&c.object[0]), 9);
	ck_assert_uint_eq(atomic_load(&c.object[c.object_words - 1]), 10);
	ck_assert_uint_eq(atomic_load(&control_slab_bits(&c, 0)[0]), 11);
	ck_assert_uint_eq(atomic_load(&control_slab_bits(&c, sane.sessions - 1)[sane.frames / 64 - 1]),
	                  12);
	ck_assert_uint_eq(atomic_load(&c.cache[0].life), 13);
	ck_assert_uint_eq(atomic_load(&c.rack[0].slot[0]), 15);
	ck_assert_uint_eq((uintptr_t)&c.area_lock[(size_t)CONTROL_AREAS_MAX * CONTROL_AREA_CPUS] -
	                          (uintptr_t)words,
	                  l.words_size);
	ck_assert_uint_eq(atomic_load(&c.word[control_pages(&sane) - 1]), 17);
	ck_assert_uint_eq(atomic_load(&c.desc[control_pages(&sane) - 1]), 18);
	ck_assert_uint_eq(atomic_load(&c.section[18]), 19);
	ck_assert_uint_eq(owner_load(&c.area[CONTROL_AREAS_MAX - 1].word), 20);
	ck_assert_uint_eq(
	        atomic_load(&c.area_lock[(size_t)CONTROL_AREAS_MAX * CONTROL_AREA_CPUS - 1]), 21);
	ck_assert_uint_lt((uintptr_t)&control_slab_bits(&c, sane.sessions - 1)[sane.frames / 64 - 1] -
	                          (uintptr_t)words,
	                  l.words_size);
	ck_assert_uint_lt((uintptr_t)&c.cache[CONTROL_CACHES_MAX - 1].name[63] - (uintptr_t)views,
	                  l.views_size);
	ck_assert_uint_eq(atomic_load(&c.word[sane.frames - 1]), 1);
	ck_assert_uint_eq(atomic_load(&c.session[0].section[0]), 2);
	ck_assert_uint_eq(c.session[sane.sessions - 1].reserved[0], 3);
	ck_assert_uint_eq(atomic_load(&c.magazine[0].header), 4);
	ck_assert_uint_eq(c.status->version, 6);
	ck_assert_uint_eq(atomic_load(&c.section[15]), 7);
	ck_assert_uint_lt((uintptr_t)&c.magazine[sane.magazines - 1].pad[47] - (uintptr_t)words,
	                  l.words_size);
	ck_assert_uint_lt((uintptr_t)&c.desc[sane.frames - 1] - (uintptr_t)views, l.views_size);
	free(words_at);
	free(views_at);
}
END_TEST

START_TEST(racks_say_what_was_put)
{
	struct control_rack r = { 0 };
	uint32_t i;

	for (i = 0; i < CONTROL_RACK_SLOTS; i++) {
		ck_assert(control_rack_has_room(&r));
		ck_assert(!control_rack_says(&r, i));
		ck_assert(control_rack_put(&r, i));
		ck_assert(control_rack_says(&r, i));
	}
	ck_assert(!control_rack_has_room(&r));
	ck_assert(!control_rack_put(&r, 99));
	control_rack_clear(&r, 3, 3); /* it says 4 */
	ck_assert(control_rack_says(&r, 3));
	control_rack_clear(&r, 3, 4);
	ck_assert(!control_rack_says(&r, 3));
	ck_assert(control_rack_put(&r, 99));
	ck_assert_uint_eq(atomic_load(&r.slot[3]), 100);
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

/* The slot of every address of a slab, against division: only first bytes have one. */
START_TEST(slots_are_found_without_division)
{
	static const uint32_t strides[] = { 8, 16, 24, 56, 64, 72, 96, 104, 192, 200, 1000, 3200,
		                            4096, 5000 - 5000 % 8, 8192, 65536 };
	struct control_cache c = { .colour_off = 64 };
	size_t i;

	for (i = 0; i < sizeof(strides) / sizeof(strides[0]); i++) {
		uint32_t stride = strides[i], odd, x, slab, colour, at, wrong = 0;

		c.stride = stride;
		c.twos = (uint8_t)__builtin_ctz(stride);
		odd = stride >> c.twos;
		for (x = 1; x * odd != 1;) /* Newton's step, until it is the inverse */
			x *= 2 - x * odd;
		c.inverse = x;
		c.offset = stride > 64 ? 8 : 0;
		for (slab = 4096; slab < stride * 8; slab *= 2)
			;
		c.objects = slab / stride;
		for (colour = 0; colour < 3; colour++)
			for (at = 0; at < slab; at++) {
				uint32_t from = at - colour * c.colour_off - c.offset;
				bool first = at >= colour * c.colour_off + c.offset &&
				             from % stride == 0 && from / stride < c.objects;
				uint32_t slot = control_cache_slot(&c, at, colour);

				wrong += first ? slot != from / stride : slot < c.objects;
			}
		ck_assert_msg(!wrong, "stride %u: %u addresses", stride, wrong);
	}
}
END_TEST

START_TEST(descriptors_of_slabs_keep_their_fields)
{
	static const uint32_t words[] = { 0, 1, 512, 0xffffffffu };
	static const uint32_t colours[] = { 0, 1, PAGE_DESC_COLOURS - 1 };
	size_t i, k;

	for (i = 0; i < 4; i++)
		for (k = 0; k < 3; k++) {
			uint32_t shift = 3 + (uint32_t)(i * 3 + k) % 20;
			uint64_t d = page_desc_slab(CONTROL_CACHES_MAX - 1, colours[k], shift,
			                            words[i], 0);

			ck_assert_uint_eq(page_desc_kind(d), PAGE_SLAB);
			ck_assert_uint_eq(page_desc_cache(d), CONTROL_CACHES_MAX - 1);
			ck_assert_uint_eq(page_desc_frame_word(d), words[i]);
			ck_assert_uint_eq(page_desc_colour(d), colours[k]);
			ck_assert_uint_eq(page_desc_shift(d), shift);
		}
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
	/* what was constructed stays so through frees and adoptions, not through a death */
	w |= OWNER_CONSTRUCTED;
	ck_assert(owner_given_back(w, OWNER_RETURNED, 1) & OWNER_CONSTRUCTED);
	ck_assert(owner_renewed(w, OWNER_HELD, 1) & OWNER_CONSTRUCTED);
	ck_assert(!(owner_renewed(w, OWNER_HELD, 1) & OWNER_SHARED));
	ck_assert(!(owner_reborn(w, OWNER_FREE, 0) & OWNER_CONSTRUCTED));
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

	tcase_add_test(t, parts_follow_each_other_on_page_borders);
	tcase_add_test(t, impossible_geometries_are_refused);
	tcase_add_test(t, attached_parts_lie_inside_and_apart);
	tcase_add_test(t, racks_say_what_was_put);
	tcase_add_test(t, granules_cover_the_pool_in_32_bits);
	tcase_add_test(t, classes_of_cached_blocks);
	tcase_add_test(t, slots_are_found_without_division);
	tcase_add_test(t, descriptors_of_slabs_keep_their_fields);
	tcase_add_test(t, generations_and_handles_are_never_zero);
	tcase_add_test(t, magazine_headers_are_bounded);
	suite_add_tcase(s, t);
	return suite_status(s);
}
