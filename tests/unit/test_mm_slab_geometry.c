/* SPDX-License-Identifier: MIT */
/*
 * How objects lie in slabs: sizes worked by hand, every legal combination within its bounds, and
 * each refusal with its reason.
 */
#include <check.h>

#include "tests/suite.h"
#include "tests/unit/test_mm_slab.h"

static struct slab_geometry of(uint64_t size, uint64_t align, uint32_t flags)
{
	struct cache_request q = { "c", size, align, flags, flags, false };
	struct slab_geometry g;
	const char *why = "";

	ck_assert_msg(slab_geometry(&g, &q, &why) == 0, "%s", why);
	return g;
}

/* Worked by hand from the rules at the top of mm/slab_geometry.c. */
static const struct {
	uint32_t size, align, flags;
	uint32_t ealign, stride, offset, objects, order, words, shift, colours, colour_off;
} known[] = {
	/* |64|64| … 64 times, nothing left */
	{ 64, 0, 0, 8, 64, 0, 64, 0, 64, 6, 1, 64 },
	{ 64, 0, SLAB_HWCACHE_ALIGN, 64, 64, 0, 64, 0, 64, 6, 1, 64 },
	/* 20: a line halved once is the smallest that holds it */
	{ 20, 0, SLAB_HWCACHE_ALIGN, 32, 32, 0, 128, 0, 128, 5, 1, 64 },
	{ 20, 0, 0, 8, 24, 0, 170, 0, 256, 4, 1, 64 },
	{ 1, 0, 0, 8, 8, 0, 512, 0, 512, 3, 1, 64 },
	{ 8, 16, 0, 16, 16, 0, 256, 0, 256, 4, 1, 64 },
	/* 5 * 800 = 4000, 96 left: one colour step */
	{ 800, 0, 0, 8, 800, 0, 5, 0, 8, 9, 1, 64 },
	/* 4096 - 6 * 640 = 256 left: colours 0, 64, 128, 192 */
	{ 640, 0, 0, 8, 640, 0, 6, 0, 8, 9, 4, 64 },
	/* order 0: 1, left 1992 > 512; order 1: 3 * 2104, 1880 left */
	{ 2100, 0, 0, 8, 2104, 0, 3, 1, 4, 11, 29, 64 },
	{ 2100, 0, SLAB_RECLAIM_ACCOUNT, 8, 2104, 0, 1, 0, 2, 11, 31, 64 },
	{ 2100, 256, 0, 256, 2304, 0, 3, 1, 4, 11, 5, 256 },
	/* larger than two frames: the first order that holds one */
	{ 9000, 0, 0, 8, 9000, 0, 1, 2, 2, 13, 115, 64 },
	{ 1u << 22, 4096, 0, 4096, 1u << 22, 0, 1, 10, 1, 22, 1, 4096 },
	/* half of it is left: as many colours as there are */
	{ (2u << 20) + 8, 0, 0, 8, (2u << 20) + 8, 0, 1, 10, 2, 21, 256, 64 },
	{ 1024, 0, 0, 8, 1024, 0, 4, 0, 4, 10, 1, 64 },
	{ 2048, 0, 0, 8, 2048, 0, 2, 0, 2, 11, 1, 64 },
	{ 4096, 0, 0, 8, 4096, 0, 1, 0, 1, 12, 1, 64 },
	/* | 8 red | 64 object | 8 red | = 80: 51 of them, 16 left */
	{ 64, 0, SLAB_RED_ZONE, 8, 80, 8, 51, 0, 64, 6, 1, 64 },
	/* | 64 red and padding | 60, 4 padding | 8 red, 56 padding | */
	{ 60, 64, SLAB_RED_ZONE, 64, 192, 64, 21, 0, 32, 7, 1, 64 },
	/* | 8 red | 20, 4 padding | 8 red | 16 user | = 56: 73 of them, 8 left */
	{ 20, 0, SLAB_RED_ZONE | SLAB_STORE_USER, 8, 56, 8, 73, 0, 128, 5, 1, 64 },
	/* | 20, 4 padding | 16 user | = 40: 102 of them, 16 left */
	{ 20, 0, SLAB_STORE_USER, 8, 40, 0, 102, 0, 128, 5, 1, 64 },
	/* the larger alignment counts */
	{ 200, 8, SLAB_HWCACHE_ALIGN, 64, 256, 0, 16, 0, 16, 8, 1, 64 },
	{ 200, 128, SLAB_HWCACHE_ALIGN, 128, 256, 0, 16, 0, 16, 8, 1, 128 },
	{ 200, 2, 0, 8, 200, 0, 20, 0, 32, 7, 1, 64 },
	{ 8192, 8192, 0, 8192, 8192, 0, 1, 1, 1, 13, 1, 8192 },
	/* beyond a page: blocks begin at multiples of their size */
	{ 100, 8192, 0, 8192, 8192, 0, 1, 1, 1, 13, 1, 8192 },
	{ 9000, 16384, 0, 16384, 16384, 0, 1, 2, 1, 14, 1, 16384 },
	{ 8, 1u << 22, 0, 1u << 22, 1u << 22, 0, 1, 10, 1, 22, 1, 1u << 22 },
};

START_TEST(known_sizes_are_as_worked_by_hand)
{
	struct slab_geometry g = of(known[_i].size, known[_i].align, known[_i].flags);

	ck_assert_uint_eq(g.size, known[_i].size);
	ck_assert_uint_eq(g.align, known[_i].ealign);
	ck_assert_uint_eq(g.stride, known[_i].stride);
	ck_assert_uint_eq(g.offset, known[_i].offset);
	ck_assert_uint_eq(g.objects, known[_i].objects);
	ck_assert_uint_eq(g.order, known[_i].order);
	ck_assert_uint_eq(g.words, known[_i].words);
	ck_assert_uint_eq(g.shift, known[_i].shift);
	ck_assert_uint_eq(g.colours, known[_i].colours);
	ck_assert_uint_eq(g.colour_off, known[_i].colour_off);
}
END_TEST

START_TEST(kmalloc_classes_waste_nothing)
{
	static const uint32_t classes[] = { 8,   16,  32,   64,   96,   128, 192,
		                            256, 512, 1024, 2048, 4096, 8192 };
	static const uint32_t objects[] = { 512, 256, 128, 64, 42, 32, 21, 16, 8, 4, 2, 1, 1 };

	for (uint32_t i = 0; i < 13; i++) {
		uint32_t align = classes[i] & -classes[i];
		struct slab_geometry g = of(classes[i], align < 4096 ? align : 4096, 0);

		ck_assert_uint_eq(g.stride, classes[i]);
		ck_assert_uint_eq(g.objects, objects[i]);
		ck_assert_uint_eq(g.order, classes[i] == 8192);
		ck_assert_uint_eq(g.offset, 0);
	}
}
END_TEST

/* The invariants that every reader of a geometry counts on, over many requests. */
START_TEST(all_geometries_are_within_bounds)
{
	static const uint32_t flags[] = { 0, SLAB_HWCACHE_ALIGN, SLAB_RED_ZONE, SLAB_STORE_USER,
		                          SLAB_RED_ZONE | SLAB_STORE_USER | SLAB_POISON,
		                          SLAB_RECLAIM_ACCOUNT };

	for (uint64_t size = 1; size <= SLAB_SIZE_MAX - 8192; size += 1 + size / 50) {
		for (uint64_t align = 0; align <= SLAB_SIZE_MAX; align = align ? align * 2 : 1) {
			uint32_t f = flags[size % 6];
			struct slab_geometry g;
			struct slab_shape sh;
			uint32_t previous = UINT32_MAX;

			/* what debugging adds has no room there */
			if ((f & SLAB_RED_ZONE) && align > 32768)
				break;
			if ((f & SLAB_DEBUG_FLAGS) && size > SLAB_SIZE_MAX - 2 * align)
				break;
			g = of(size, align, f);
			sh = shape_unpack(shape_pack(&g));

			ck_assert_ptr_null(geometry_nonsense(&g));
			ck_assert_uint_ge(g.align, align);
			ck_assert_uint_eq(sh.stride, g.stride);
			ck_assert_uint_eq(sh.objects, g.objects);
			ck_assert_uint_eq(sh.offset, g.offset);
			ck_assert_uint_eq(sh.colour_off, g.colour_off);
			ck_assert_uint_eq(sh.order, g.order);
			ck_assert_uint_eq(sh.shift, g.shift);
			ck_assert_uint_eq(shape_words(&sh), g.words);
			/* each object has a word of its own, also at the last colour */
			for (uint32_t i = 0; i < g.objects; i++) {
				uint32_t at = (g.colours - 1) * g.colour_off + g.offset +
				              i * g.stride;

				ck_assert_uint_eq(at % g.align, 0);
				ck_assert_uint_ne(at >> g.shift, previous);
				previous = at >> g.shift;
				ck_assert_uint_lt(previous, g.words);
			}
		}
	}
}
END_TEST

static const char name_63[] = "123456789012345678901234567890123456789012345678901234567890123";
static const char name_64[] = "1234567890123456789012345678901234567890123456789012345678901234";

static const struct {
	const char *name;
	uint64_t size, align;
	uint32_t flags;
	const char *why; /* NULL: legal */
} requests[] = {
	{ name_63, 8, 0, 0, NULL },
	{ "a-b_c.d/e", 8, 0, 0, NULL },
	{ "c", SLAB_SIZE_MAX, 0, 0, NULL },
	{ "c", 8192, 8192, 0, NULL },
	{ "c", 8, 4096, 0, NULL },
	{ "c", 8191, 8192, 0, NULL },
	{ "c", 8, SLAB_SIZE_MAX, 0, NULL },
	{ NULL, 8, 0, 0, "empty" },
	{ "", 8, 0, 0, "empty" },
	{ name_64, 8, 0, 0, "longer than 63" },
	{ "a b", 8, 0, 0, "byte 2 of the cache's name" },
	{ "ab\n", 8, 0, 0, "byte 3 of the cache's name" },
	{ "\177", 8, 0, 0, "byte 1 of the cache's name" },
	{ "c", 0, 0, 0, "size is 0" },
	{ "c", SLAB_SIZE_MAX + 1, 0, 0, "more than 4194304" },
	{ "c", UINT64_MAX, 0, 0, "more than 4194304" },
	{ "c", 8, 24, 0, "not a power of two" },
	{ "c", 8, UINT64_MAX, 0, "not a power of two" },
	{ "c", 8, SLAB_SIZE_MAX * 2, 0, "more than 4194304" },
	{ "c", SLAB_SIZE_MAX, SLAB_SIZE_MAX * 2, 0, "more than 4194304" },
	{ "c", 8, (uint64_t)1 << 63, 0, "more than 4194304" },
	{ "c", 8, 0, 0x80000000u, "unknown flags 0x80000000" },
	{ "c", 8, 0, 1, "unknown flags 0x1" },
	{ "c", 8, 0, SLAB_CACHE_DMA | SLAB_CACHE_DMA32, "exclude each other" },
	{ "c", SLAB_SIZE_MAX, 0, SLAB_RED_ZONE, "no room for red zones" },
	{ "c", SLAB_SIZE_MAX, 0, SLAB_STORE_USER, "no room for red zones" },
	{ "c", 65536, 65536, SLAB_RED_ZONE, "no room for red zones" },
	{ "c", 32768, 32768, SLAB_RED_ZONE, NULL },
};

START_TEST(nonsense_is_refused_with_its_reason)
{
	struct cache_request q = { requests[_i].name, requests[_i].size, requests[_i].align,
		                   requests[_i].flags, 0, false };
	struct slab_geometry g = { .size = 12345 };
	const char *why = NULL;
	int err = slab_geometry(&g, &q, &why);

	if (!requests[_i].why) {
		ck_assert_int_eq(err, 0);
		ck_assert_uint_eq(g.size, requests[_i].size);
		return;
	}
	ck_assert_int_eq(err, -EINVAL);
	ck_assert_uint_eq(g.size, 12345);
	ck_assert_msg(strstr(why, requests[_i].why), "'%s' lacks '%s'", why, requests[_i].why);
}
END_TEST

START_TEST(the_limit_of_the_cpus_follows_the_stride)
{
	ck_assert_uint_eq(slab_cpu_limit(8), 120);
	ck_assert_uint_eq(slab_cpu_limit(256), 120);
	ck_assert_uint_eq(slab_cpu_limit(264), 54);
	ck_assert_uint_eq(slab_cpu_limit(1024), 54);
	ck_assert_uint_eq(slab_cpu_limit(1032), 24);
	ck_assert_uint_eq(slab_cpu_limit(4096), 24);
	ck_assert_uint_eq(slab_cpu_limit(4104), 8);
	ck_assert_uint_eq(slab_cpu_limit(128 << 10), 8);
	ck_assert_uint_eq(slab_cpu_limit((128 << 10) + 8), 1);
}
END_TEST

/* Records that recovery must not believe: one field of a good geometry changed. */
START_TEST(damaged_geometries_are_seen)
{
	struct slab_geometry good = of(640, 0, 0);

	for (uint32_t i = 0; i < 16; i++) {
		struct slab_geometry g = good;

		switch (i) {
		case 0: g.size = 0; break;
		case 1: g.size = 641; break;
		case 2: g.align = 12; break;
		case 3: g.align = 4; break;
		case 4: g.stride = 632; break;
		case 5: g.stride = 8192; break;
		case 6: g.objects = 0; break;
		case 7: g.objects = 7; break;
		case 8: g.words = 16; break;
		case 9: g.colours = 0; break;
		case 10: g.colours = 6; break;
		case 11: g.colour_off = 96; break;
		case 12: g.offset = 8; break;
		case 13: g.order = 11; break;
		case 14: g.shift = 8; break;
		default: g.colour_off = 32; break;
		}
		ck_assert_msg(geometry_nonsense(&g) != NULL, "change %u", i);
	}
	ck_assert_ptr_null(geometry_nonsense(&good));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_slab_geometry");
	TCase *t = tcase_create("geometry");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, known_sizes_are_as_worked_by_hand, 0,
	                    sizeof(known) / sizeof(known[0]));
	tcase_add_test(t, kmalloc_classes_waste_nothing);
	tcase_add_test(t, all_geometries_are_within_bounds);
	tcase_add_loop_test(t, nonsense_is_refused_with_its_reason, 0,
	                    sizeof(requests) / sizeof(requests[0]));
	tcase_add_test(t, the_limit_of_the_cpus_follows_the_stride);
	tcase_add_test(t, damaged_geometries_are_seen);
	suite_add_tcase(s, t);
	return suite_status(s);
}
