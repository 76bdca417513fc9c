/* SPDX-License-Identifier: MIT */
/*
 * Blocks of several orders in one grant, and the table of areas, over a real mm/ and control
 * memory in ordinary memory. The test plays the clients.
 */
#define TD_HIGH 2u
#include "tests/suite.h"
#include "tests/unit/test_scene.h"

#include "daemon/area.h"
#include "daemon/blocks.h"
#include "daemon/high.h"

static struct block_list list;
static const char *why;

static int grant(struct session *s, gfp_t gfp, uint32_t pages, uint32_t most, uint32_t least)
{
	const struct block_request q = {
		.gfp = gfp, .pages = pages, .order_max = most, .order_min = least
	};

	why = "";
	return blocks_grant(t.d, s, 0, &q, &list, &why);
}

/* Each is offered to s, of its order, and no two share a frame. */
static void check_list(struct session *s)
{
	static bool seen[TD_FRAMES];
	uint32_t i, n = 0;

	memset(seen, 0, sizeof(seen));
	for (i = 0; i < list.n; i++) {
		pfn_t pfn, at;
		struct mm_block b;

		ck_assert(owner_is(owner_load(td_word(&t, list.page[i])), OWNER_OFFERED, s->id));
		ck_assert(domain_block_get(t.d, list.page[i], &pfn, &b));
		ck_assert_uint_eq(b.order, list.order[i]);
		ck_assert_uint_eq(b.tag, s->id);
		for (at = pfn; at < pfn + (1u << b.order); at++) {
			ck_assert(!seen[at]);
			seen[at] = true;
		}
		n += 1u << b.order;
	}
	ck_assert_uint_eq(n, list.pages);
	ck_assert_int_eq(charge(s), n);
	td_check(&t);
}

START_TEST(largest_first)
{
	static const struct {
		uint32_t pages, most, least;
		uint8_t order[8]; /* 255: the end */
	} want[] = {
		{ 1, 10, 0, { 0, 255 } },          { 21, 3, 0, { 3, 3, 2, 0, 255 } },
		{ 21, 10, 0, { 4, 2, 0, 255 } },   { 2048, 10, 9, { 10, 10, 255 } },
		{ 1536, 10, 9, { 10, 9, 255 } },   { 4, 0, 0, { 0, 0, 0, 0, 255 } },
		{ 12, 10, 2, { 3, 2, 255 } },      { 5, 1, 0, { 1, 1, 0, 255 } },
	};
	struct session *s = td_session(&t, "a");

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		uint32_t n;

		ck_assert_int_eq(grant(s, GFP_KERNEL, want[i].pages, want[i].most, want[i].least), 0);
		ck_assert_uint_eq(list.pages, want[i].pages);
		for (n = 0; want[i].order[n] != 255; n++)
			ck_assert_uint_eq(list.order[n], want[i].order[n]);
		ck_assert_uint_eq(list.n, n);
		check_list(s);
		blocks_withdraw(t.d, s, 0, &list);
		ck_assert_int_eq(charge(s), 0);
		ck_assert_uint_eq(td_free_frames(&t), all_free);
	}
}
END_TEST

START_TEST(not_more_than_a_reply_holds)
{
	struct session *s = td_session(&t, "a");

	ck_assert_int_eq(grant(s, GFP_KERNEL, 2000, 0, 0), 0);
	ck_assert_uint_eq(list.n, BLOCKS_MAX);
	check_list(s);
	session_end(s);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* What there is, then nothing; what was claimed stays when the rest is withdrawn. */
START_TEST(all_or_what_there_is)
{
	struct session *s = td_session(&t, "a"), *b = td_session(&t, "b");
	uint32_t had = 0, first;

	ck_assert_int_eq(grant(s, GFP_KERNEL, 8, 3, 0), 0);
	first = list.page[0];
	ck_assert(td_change(&t, first, OWNER_OFFERED, s->id, OWNER_HELD, s->id));
	while (grant(b, GFP_KERNEL | __GFP_HIGHMEM | __GFP_MOVABLE, 14u << 10, 10, 0) == 0)
		had += list.pages;
	ck_assert_ptr_nonnull(strstr(why, "no block of order 0"));
	ck_assert_uint_gt(had, (14u << 10) - 600); /* down to the watermarks */
	ck_assert_int_eq(charge(b), had);
	td_check(&t);
	session_end(b);
	ck_assert_int_eq(charge(s), 8);
	ck_assert_int_eq(td_free(&t, s, first, 3), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* Single pages of the high zones are pages of their own; larger blocks are their frames. */
START_TEST(high_pages)
{
	struct session *s = td_session(&t, "a");
	uint32_t i;

	ck_assert_int_eq(grant(s, GFP_HIGHUSER_MOVABLE, 3, 1, 0), 0);
	ck_assert_uint_eq(list.n, 2);
	for (i = 0; i < list.n; i++)
		ck_assert_int_eq(domain_page_moves(t.d, list.page[i]), list.order[i] == 0);
	check_list(s);
	blocks_withdraw(t.d, s, 0, &list);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* In a pool of huge pages `small` is a matter of the high zones alone. */
START_TEST(small_in_a_pool_of_huge_pages)
{
	struct session *s = td_session(&t, "a");
	struct block_request q = { .gfp = GFP_HIGHUSER, .pages = 256, .order_max = 10, .small = true };
	uint32_t i, had = 0;

	ck_assert_uint_eq(blocks_request(t.d, s, 0, &q).lowest, 0);
	for (i = 0; i < 13; i++)
		mm_section_set(t.pool.mm, (section_id_t){ i }, SECTION_ONLINE, 0, SHM_HUGETLB_2M, 1);
	t.pool.map_shift = 21;
	ck_assert_uint_eq(blocks_request(t.d, s, 0, &q).lowest, ZONE_HIGHMEM);
	while (blocks_grant(t.d, s, 0, &q, &list, &why) == 0)
		for (i = 0; i < list.n; i++) {
			ck_assert(domain_frame_high(t.d, domain_frame_of(t.d, list.page[i])));
			had += 1u << list.order[i];
		}
	ck_assert_uint_gt(had, 900); /* of HighMem's 1,024; Movable is not for it */
	ck_assert_uint_le(had, 1024);
	ck_assert_ptr_nonnull(strstr(why, "4 KiB pages"));
	/* nor is any zone below it, whatever the flags */
	q.gfp = GFP_KERNEL;
	ck_assert_int_eq(blocks_grant(t.d, s, 0, &q, &list, &why), -ENOMEM);
	q.small = false;
	ck_assert_int_eq(blocks_grant(t.d, s, 0, &q, &list, &why), 0);
	session_end(s);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(the_quota_is_asked_for_all)
{
	struct session *s = td_session(&t, "a");

	s->pages_max = 100;
	ck_assert_int_eq(grant(s, GFP_KERNEL, 101, 10, 0), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "101 more are asked for"));
	ck_assert_int_eq(charge(s), 0);
	ck_assert_int_eq(grant(s, GFP_KERNEL, 60, 10, 0), 0);
	check_list(s);
	ck_assert_int_eq(grant(s, GFP_KERNEL, 41, 10, 0), -EDQUOT);
	ck_assert_int_eq(charge(s), 60);
	session_end(s);
}
END_TEST

START_TEST(what_is_refused)
{
	struct session *s = td_session(&t, "a");
	struct block_request q = { .gfp = GFP_KERNEL, .pages = 4, .order_max = 2, .node = 3 };

	ck_assert_int_eq(grant(s, GFP_KERNEL, 0, 10, 0), -EINVAL);
	ck_assert_int_eq(grant(s, GFP_KERNEL, 4, 11, 0), -EINVAL);
	ck_assert_int_eq(grant(s, GFP_KERNEL, 4, 1, 2), -EINVAL);
	ck_assert_int_eq(grant(s, GFP_KERNEL, 5, 10, 1), -EINVAL);
	ck_assert_int_eq(grant(s, GFP_KERNEL | __GFP_MEMALLOC, 4, 2, 0), -EPERM);
	ck_assert_int_eq(grant(s, __GFP_DMA | __GFP_DMA32, 4, 2, 0), -EINVAL);
	ck_assert_int_eq(blocks_grant(t.d, s, 0, &q, &list, &why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "no node 2"));
	atomic_store(&t.d->spoiled, true);
	ck_assert_int_eq(grant(s, GFP_KERNEL, 4, 2, 0), -EIO);
	atomic_store(&t.d->spoiled, false);
	ck_assert_int_eq(charge(s), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* A daemon that dies over it: what was not claimed is free, what was stays. */
START_TEST(restart)
{
	struct session *s = td_session(&t, "a");
	uint32_t id = s->id, i;

	ck_assert_int_eq(grant(s, GFP_HIGHUSER, 100, 3, 0), 0);
	for (i = 0; i < list.n; i += 2)
		ck_assert(td_change(&t, list.page[i], OWNER_OFFERED, id, OWNER_HELD, id));
	td_restart(&t);
	for (i = 0; i < list.n; i++)
		ck_assert_int_eq(owner_is(owner_load(td_word(&t, list.page[i])), OWNER_HELD, id),
		                 i % 2 == 0);
	session_end(session_by_id(t.kmmd.sessions, id));
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* ---- the table of areas ---- */

static struct control_area *entry(uint32_t i)
{
	return &t.d->control.area[i];
}

static void claim(uint32_t i, const struct session *s, uint32_t kind)
{
	uint64_t w = owner_load(&entry(i)->word);

	ck_assert(owner_cas(&entry(i)->word, &w, owner_reborn(w, OWNER_HELD, s->id)));
	entry(i)->kind = kind;
	entry(i)->start = 0x1000u * i;
	entry(i)->pages = i + 1;
	entry(i)->node_pages[0] = i + 1;
	snprintf(entry(i)->caller, sizeof(entry(i)->caller), "f%u+0x1/0x2", i);
	atomic_store(&s->shared->areas, 1);
}

struct found {
	uint32_t n;
	struct area_about a[16];
};

static bool note(void *ctx, const struct area_about *a)
{
	struct found *f = ctx;

	ck_assert_uint_lt(f->n, 16);
	f->a[f->n++] = *a;
	return true;
}

static struct found look(void)
{
	struct found f = { 0 };

	area_each(t.d, note, &f);
	return f;
}

START_TEST(areas_are_told_as_they_are_said)
{
	struct session *a = td_session(&t, "a"), *b = td_session(&t, "b");
	struct found f;

	claim(0, a, CONTROL_AREA_VMALLOC);
	claim(31, b, CONTROL_AREA_STACK);
	claim(CONTROL_AREAS_MAX - 1, a, CONTROL_AREA_UNPURGED);
	f = look();
	ck_assert_uint_eq(f.n, 3);
	ck_assert_uint_eq(f.a[0].session, a->id);
	ck_assert_uint_eq(f.a[1].session, b->id);
	ck_assert_uint_eq(f.a[1].kind, CONTROL_AREA_STACK);
	ck_assert_uint_eq(f.a[1].pages, 32);
	ck_assert_uint_eq(f.a[1].node_pages[0], 32);
	ck_assert_str_eq(f.a[1].caller, "f31+0x1/0x2");
	ck_assert_uint_eq(f.a[2].start, 0x1000u * (CONTROL_AREAS_MAX - 1));
	/* one that ends, and what it had */
	session_end(a);
	f = look();
	ck_assert_uint_eq(f.n, 1);
	ck_assert_uint_eq(f.a[0].session, b->id);
	ck_assert_uint_eq(owner_kind(owner_load(&entry(0)->word)), OWNER_FREE);
	session_end(b);
	ck_assert_uint_eq(look().n, 0);
}
END_TEST

START_TEST(areas_that_make_no_sense)
{
	struct session *a = td_session(&t, "a");
	struct found f;
	size_t i;

	claim(0, a, CONTROL_AREA_NONE);
	claim(1, a, 99);
	claim(2, a, CONTROL_AREA_VMALLOC);
	owner_store(&entry(2)->word, owner_who(OWNER_HELD, TD_SESSIONS + 7));
	claim(3, a, CONTROL_AREA_VMALLOC);
	owner_store(&entry(3)->word, owner_who(OWNER_HELD, a->id + 1)); /* nobody's */
	claim(4, a, CONTROL_AREA_VMALLOC);
	owner_store(&entry(4)->word, owner_who(OWNER_HELD, 0));
	claim(5, a, CONTROL_AREA_VMALLOC);
	memset(entry(5)->caller, '\n', sizeof(entry(5)->caller));
	entry(5)->pages = UINT32_MAX;
	f = look();
	ck_assert_uint_eq(f.n, 1);
	ck_assert_uint_eq(f.a[0].pages, UINT32_MAX);
	ck_assert_uint_eq(strlen(f.a[0].caller), sizeof(f.a[0].caller) - 1);
	for (i = 0; f.a[0].caller[i]; i++)
		ck_assert_int_eq(f.a[0].caller[i], '?');
	session_end(a);
	ck_assert_uint_eq(look().n, 0);
	/* What named it is free; what it scribbled is not its any more. */
	ck_assert_uint_eq(owner_kind(owner_load(&entry(5)->word)), OWNER_FREE);
	ck_assert(owner_is(owner_load(&entry(4)->word), OWNER_HELD, 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blocks");
	TCase *c = tcase_create("blocks"), *a = tcase_create("areas");

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, scene_setup, scene_teardown);
	tcase_add_test(c, largest_first);
	tcase_add_test(c, not_more_than_a_reply_holds);
	tcase_add_test(c, all_or_what_there_is);
	tcase_add_test(c, high_pages);
	tcase_add_test(c, small_in_a_pool_of_huge_pages);
	tcase_add_test(c, the_quota_is_asked_for_all);
	tcase_add_test(c, what_is_refused);
	tcase_add_test(c, restart);
	suite_add_tcase(s, c);
	tcase_add_checked_fixture(a, scene_setup, scene_teardown);
	tcase_add_test(a, areas_are_told_as_they_are_said);
	tcase_add_test(a, areas_that_make_no_sense);
	suite_add_tcase(s, a);
	return suite_status(s);
}
