/* SPDX-License-Identifier: MIT */
/*
 * What debugging flags check (client/debug.c), for every combination of flags and many sizes:
 *
 *     slot n-1 | red zone | object | red zone | user | padding | slot n+1
 *
 * The object may be written anywhere at any time; a byte beside it, or any byte while it is free,
 * is found where a flag promises it; the neighbours are never touched.
 */
#include "tests/suite.h"
#include "tests/unit/test_client.h"

#define CACHE 7u
#define SLAB 16u
#define FLAGS_N 8

static const uint32_t sizes[] = { 1, 7, 8, 9, 24, 63, 64, 100, 255, 1000 };
static struct kmm_cache cache;
static struct control_cache *v;
static uint8_t *object;

/* The layout of mm/slab.h. */
static void debug_cache(uint32_t flags, uint32_t size, uint32_t align)
{
	uint32_t offset = flags & KMM_SLAB_RED_ZONE ? align : 0;
	uint32_t end = (offset + size + 7) / 8 * 8;

	end += flags & KMM_SLAB_RED_ZONE ? 8 : 0;
	end += flags & KMM_SLAB_STORE_USER ? 16 : 0;
	v = cache_place(CACHE, "inode", size, (end + align - 1) / align * align, offset, 1, flags);
	slab_place(CACHE, SLAB, 512, 0);
	cache = (struct kmm_cache){ .k = &k, .id = CACHE, .life = 1, .view = v, .debug = true };
	object = slab_object(CACHE, SLAB, 0, 1);
	memset(k.window + SLAB * 4096, 0x11, 8192);
}

static uint32_t flags_of(int i)
{
	return (i & 1 ? KMM_SLAB_RED_ZONE : 0u) | (i & 2 ? KMM_SLAB_POISON : 0u) |
	       (i & 4 ? KMM_SLAB_STORE_USER : 0u);
}

static void check_neighbours(void)
{
	const uint8_t *slot = object - v->offset;
	uint32_t i;

	for (i = 0; i < v->stride; i++)
		ck_assert_uint_eq(slot[(int64_t)i - v->stride], 0x11);
	for (i = 0; i < v->stride; i++)
		ck_assert_uint_eq(slot[v->stride + i], 0x11);
}

START_TEST(what_is_allowed_is_not_reported)
{
	uint32_t flags = flags_of(_i), i, round;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		debug_cache(flags, sizes[i], i % 2 ? 8 : 64);
		for (round = 0; round < 4; round++) {
			ck_assert(debug_on_alloc(&cache, object, round > 0));
			memset(object, (int)round + 0x20, sizes[i]);
			ck_assert_int_eq(debug_on_free(&k, v, object), 0);
		}
		check_neighbours();
	}
	ck_assert_uint_eq(world.n, 0);
	ck_assert_uint_eq(world.events, 0);
}
END_TEST

/* Memory that no free has prepared says nothing. */
START_TEST(fresh_memory_is_not_judged)
{
	debug_cache(flags_of(_i), 100, 8);
	ck_assert(debug_on_alloc(&cache, object, false));
	ck_assert_uint_eq(world.n, 0);
}
END_TEST

static void check_report(kmm_v1_ReportRequest_Kind kind, enum kmm_event event)
{
	const kmm_v1_ReportRequest *q = world_request(Report);

	ck_assert_uint_eq(world.n, 1);
	ck_assert_uint_eq(world.method, kmm_v1_Method_ALLOCATOR_REPORT);
	ck_assert_uint_eq(q->kind, kind);
	ck_assert_uint_eq(q->granule, (uint32_t)(object - k.window) / 8);
	ck_assert_ptr_nonnull(strstr(q->text, "cache inode"));
	ck_assert_uint_eq(world.events, 1);
	ck_assert_uint_eq(world.event, event);
	ck_assert_ptr_nonnull(strstr(world.event_text, "cache inode"));
	world.n = world.events = 0;
}

/* One byte beside the object, at each place of both zones. */
START_TEST(an_overrun_shows_at_the_free)
{
	uint32_t flags = KMM_SLAB_RED_ZONE | flags_of(_i), i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int64_t at, right;

		debug_cache(flags, sizes[i], 16);
		right = (v->offset + sizes[i] + 7) / 8 * 8 + 8 - v->offset;
		for (at = -(int64_t)v->offset; at < right; at++) {
			char byte[32];

			if (at >= 0 && at < sizes[i])
				continue;
			ck_assert(debug_on_alloc(&cache, object, at > -(int64_t)v->offset));
			object[at] = 0;
			ck_assert_int_eq(debug_on_free(&k, v, object), -EFAULT);
			snprintf(byte, sizeof(byte), "byte %lld,", (long long)at);
			ck_assert_ptr_nonnull(strstr(last_text, byte));
			ck_assert_ptr_nonnull(strstr(world.event_text, byte));
			if (flags & KMM_SLAB_STORE_USER)
				ck_assert_uint_eq(world_request(Report)->allocated_by, ME);
			check_report(kmm_v1_ReportRequest_Kind_OVERRUN, KMM_EVENT_CORRUPT);
		}
		/* the object is as good as new */
		ck_assert(debug_on_alloc(&cache, object, true));
		ck_assert_int_eq(debug_on_free(&k, v, object), 0);
		check_neighbours();
	}
}
END_TEST

START_TEST(a_use_after_free_shows_at_the_next_allocation)
{
	uint32_t flags = KMM_SLAB_POISON | flags_of(_i), i, at;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		debug_cache(flags, sizes[i], 8);
		for (at = 0; at < sizes[i]; at++) {
			char byte[32];

			ck_assert(debug_on_alloc(&cache, object, false));
			ck_assert_int_eq(debug_on_free(&k, v, object), 0);
			object[at] ^= 1;
			ck_assert(!debug_on_alloc(&cache, object, true));
			snprintf(byte, sizeof(byte), "byte %u ", at);
			ck_assert_ptr_nonnull(strstr(world.event_text, byte));
			if (flags & KMM_SLAB_STORE_USER) {
				ck_assert_uint_eq(world_request(Report)->allocated_by, ME);
				ck_assert_uint_eq(world_request(Report)->freed_by, ME);
				ck_assert_ptr_nonnull(
				        strstr(world.event_text, "freed by session 3"));
			}
			check_report(kmm_v1_ReportRequest_Kind_USE_AFTER_FREE, KMM_EVENT_CORRUPT);
		}
		check_neighbours();
	}
}
END_TEST

/* A zone of a free object: without poison too. */
START_TEST(a_write_beside_a_free_object)
{
	debug_cache(KMM_SLAB_RED_ZONE, 100, 8);
	ck_assert(debug_on_alloc(&cache, object, false));
	ck_assert_int_eq(debug_on_free(&k, v, object), 0);
	object[-1] = 0;
	ck_assert(!debug_on_alloc(&cache, object, true));
	check_report(kmm_v1_ReportRequest_Kind_USE_AFTER_FREE, KMM_EVENT_CORRUPT);
	/* it was mended, and is watched on */
	ck_assert(debug_on_alloc(&cache, object, true));
	ck_assert_int_eq(debug_on_free(&k, v, object), 0);
	object[107] = 0;
	ck_assert(!debug_on_alloc(&cache, object, true));
	check_report(kmm_v1_ReportRequest_Kind_USE_AFTER_FREE, KMM_EVENT_CORRUPT);
}
END_TEST

/* Another session's free is known to the one that finds the damage. */
START_TEST(sessions_are_told_apart)
{
	debug_cache(KMM_SLAB_POISON | KMM_SLAB_STORE_USER, 100, 8);
	ck_assert(debug_on_alloc(&cache, object, false));
	k.id = OTHER;
	ck_assert_int_eq(debug_on_free(&k, v, object), 0);
	k.id = 6;
	object[50] = 0;
	ck_assert(!debug_on_alloc(&cache, object, true));
	ck_assert_uint_eq(world_request(Report)->allocated_by, ME);
	ck_assert_uint_eq(world_request(Report)->freed_by, OTHER);
	check_report(kmm_v1_ReportRequest_Kind_USE_AFTER_FREE, KMM_EVENT_CORRUPT);
}
END_TEST

START_TEST(bad_frees_name_the_sessions)
{
	struct thing t;

	debug_cache(KMM_SLAB_CONSISTENCY_CHECKS | KMM_SLAB_STORE_USER, 100, 8);
	ck_assert(debug_on_alloc(&cache, object, false));
	k.id = OTHER;
	ck_assert_int_eq(debug_on_free(&k, v, object), 0);
	k.id = ME;
	ck_assert_int_eq(thing_of(&k, object, &t), 0);
	error_set(ENOENT, "cache inode: given back before");
	debug_on_bad_free(&k, &t, -ENOENT);
	ck_assert_ptr_nonnull(strstr(last_text, "given back before; session 3 frees it again"));
	ck_assert_ptr_nonnull(strstr(last_text, "allocated by session 3"));
	ck_assert_ptr_nonnull(strstr(last_text, "freed by session 5"));
	check_report(kmm_v1_ReportRequest_Kind_DOUBLE_FREE, KMM_EVENT_BAD_FREE);
	error_set(EPERM, "cache inode: session 5's");
	debug_on_bad_free(&k, &t, -EPERM);
	ck_assert_ptr_nonnull(strstr(last_text, "session 3 frees it"));
	check_report(kmm_v1_ReportRequest_Kind_FOREIGN_FREE, KMM_EVENT_BAD_FREE);
}
END_TEST

/* What another session holds may lie in a section that this one never mapped. */
START_TEST(a_foreign_free_of_what_is_out_of_reach)
{
	struct thing t;

	debug_cache(KMM_SLAB_RED_ZONE | KMM_SLAB_STORE_USER, 100, 8);
	ck_assert_int_eq(thing_of(&k, object, &t), 0);
	k.mapped[0] = 0;
	ck_assert_int_eq(mprotect(k.window, k.window_size, PROT_NONE), 0);
	error_set(EPERM, "cache inode: session 5's");
	debug_on_bad_free(&k, &t, -EPERM);
	ck_assert_ptr_nonnull(strstr(last_text, "session 5's; session 3 frees it"));
	ck_assert_uint_eq(world_request(Report)->allocated_by, 0);
	check_report(kmm_v1_ReportRequest_Kind_FOREIGN_FREE, KMM_EVENT_BAD_FREE);
}
END_TEST

/* A daemon that is away, and words beside the object that were written over: no harm. */
START_TEST(nothing_helps_and_nothing_breaks)
{
	debug_cache(KMM_SLAB_POISON | KMM_SLAB_STORE_USER | KMM_SLAB_RED_ZONE, 100, 8);
	ck_assert(debug_on_alloc(&cache, object, false));
	memset(object, 0xff, v->stride - v->offset);
	world.answer = -EAGAIN;
	error_set(EINVAL, "before");
	ck_assert_int_eq(debug_on_free(&k, v, object), -EFAULT);
	ck_assert_uint_eq(world.events, 1);
	ck_assert(debug_on_alloc(&cache, object, true));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client debug");
	TCase *t = tcase_create("client debug");

	tcase_add_checked_fixture(t, world_setup, world_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, what_is_allowed_is_not_reported, 0, FLAGS_N);
	tcase_add_loop_test(t, fresh_memory_is_not_judged, 0, FLAGS_N);
	tcase_add_loop_test(t, an_overrun_shows_at_the_free, 0, FLAGS_N);
	tcase_add_loop_test(t, a_use_after_free_shows_at_the_next_allocation, 0, FLAGS_N);
	tcase_add_test(t, a_write_beside_a_free_object);
	tcase_add_test(t, sessions_are_told_apart);
	tcase_add_test(t, bad_frees_name_the_sessions);
	tcase_add_test(t, a_foreign_free_of_what_is_out_of_reach);
	tcase_add_test(t, nothing_helps_and_nothing_breaks);
	suite_add_tcase(s, t);
	return suite_status(s);
}
