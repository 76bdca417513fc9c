/* SPDX-License-Identifier: MIT */
/*
 * Pages of the high zones: how they are named and granted, and that they can be moved: what stays,
 * what is refused, what a member may scribble. Validators run after each step.
 */
#include "tests/unit/test_move.h"

/* ---- names ---- */

START_TEST(a_page_has_a_frame_and_the_frame_leads_back)
{
	uint32_t page = high_page(a);
	pfn_t pfn = domain_frame_of(t.d, page);
	uint64_t desc = desc_of(page);

	ck_assert(domain_frame_high(t.d, pfn) && domain_page_moves(t.d, page));
	ck_assert_uint_eq(domain_page_of(t.d, pfn), page);
	ck_assert_uint_eq(page_desc_kind(desc), PAGE_BLOCK);
	ck_assert(desc & PAGE_DESC_MOVABLE);
	ck_assert(!(desc & PAGE_DESC_CACHEABLE));
	ck_assert_uint_eq(page_desc_other(desc), pfn);
	ck_assert_uint_eq(page_desc_zone(desc), ZONE_MOVABLE);
	ck_assert_uint_eq(page_desc_type(desc), MIGRATE_MOVABLE);
	ck_assert_uint_eq(page_desc_kind(desc_of(pfn)), PAGE_ALIAS);
	ck_assert_uint_eq(page_desc_other(desc_of(pfn)), page);
	ck_assert_uint_eq(owner_kind(owner_load(td_word(&t, pfn))), OWNER_FREE);
	td_check(&t);
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
	ck_assert_uint_eq(desc_of(page), 0);
	ck_assert_uint_eq(desc_of(pfn), 0);
	ck_assert_int_eq(atomic_load(&a->charge), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(larger_blocks_are_named_by_their_frame)
{
	uint32_t order;

	for (order = 1; order < PAGEBLOCK_ORDER; order++) {
		uint32_t page = td_alloc(&t, a, GFP_HIGHUSER, order);
		uint64_t desc = desc_of(page);

		ck_assert(domain_frame_high(t.d, page));
		ck_assert_uint_eq(domain_frame_of(t.d, page), page);
		ck_assert_uint_eq(domain_page_of(t.d, page), page);
		ck_assert_uint_eq(page_desc_kind(desc), PAGE_BLOCK);
		ck_assert_uint_eq(page_desc_order(desc), order);
		ck_assert(!(desc & (PAGE_DESC_MOVABLE | PAGE_DESC_CACHEABLE)));
		ck_assert(!move_possible(t.d, page));
		td_check(&t);
		ck_assert_int_eq(td_free(&t, a, page, order), 0);
	}
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* GFP_KERNEL never gets high memory, whatever is short; GFP_HIGHUSER gets all. */
START_TEST(only_who_asks_for_it_gets_high_memory)
{
	static const gfp_t low[] = { GFP_KERNEL, GFP_ATOMIC, GFP_USER, GFP_KERNEL | __GFP_MOVABLE };
	const char *why;
	uint32_t page, i, n = 0, highs = 0;

	for (i = 0; i < 4; i++)
		while (grant_alloc(t.d, a, 0, low[i] | __GFP_NOWARN, 0, &page, &why) == 0) {
			ck_assert(!domain_frame_high(t.d, page));
			ck_assert_uint_lt(page, HIGH_START);
			n++;
		}
	ck_assert_uint_gt(n, 10000);
	while (grant_alloc(t.d, a, 0, GFP_HIGHUSER, 0, &page, &why) == 0)
		highs += domain_frame_high(t.d, domain_frame_of(t.d, page));
	ck_assert_uint_gt(highs, 900);
	ck_assert_uint_le(highs, 1024); /* HighMem alone: not movable */
	while (grant_alloc(t.d, a, 0, GFP_HIGHUSER_MOVABLE, 0, &page, &why) == 0)
		highs += page >= TD_FRAMES;
	ck_assert_uint_gt(highs, 1900);
	td_check(&t);
	session_end(a);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(sections_of_pages_are_noted_and_swept)
{
	uint32_t page[8], i, bit;

	for (i = 0; i < 8; i++)
		page[i] = high_page(a);
	for (i = 0; i < 8; i += 2)
		ck_assert_int_eq(move(page[i]), 0);
	bit = page[0] >> TD_SECTION_ORDER;
	ck_assert_uint_ge(bit, SECTIONS);
	ck_assert(atomic_load(&a->granted_from[bit / 64]) >> bit % 64 & 1);
	session_end(a);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	td_check(&t);
}
END_TEST

/* ---- moving ---- */

START_TEST(a_moved_page_is_the_same_page)
{
	uint32_t page = high_page(a), i;
	uint64_t w = owner_load(td_word(&t, page));

	fill(page, 7);
	for (i = 0; i < 50; i++) {
		pfn_t from = domain_frame_of(t.d, page), to = target();
		uint32_t spare = domain_block_page(t.d, to, 0);
		struct mm_block block;

		ck_assert(move_possible(t.d, from));
		ck_assert_int_eq(move_page(t.d, from, to), 0);
		/* what moved */
		ck_assert_uint_eq(domain_frame_of(t.d, page), to);
		ck_assert_uint_eq(domain_block_page(t.d, to, 0), page);
		ck_assert_uint_eq(domain_frame_of(t.d, spare), from);
		ck_assert(mm_block_get(t.d->mm, to, &block));
		ck_assert_uint_eq(block.tag, a->id);
		ck_assert(!mm_block_get(t.d->mm, from, &block));
		ck_assert_uint_eq(page_desc_other(desc_of(page)), to);
		ck_assert_uint_eq(page_desc_other(desc_of(to)), page);
		ck_assert_uint_eq(desc_of(from), 0);
		/* what did not */
		ck_assert_uint_eq(owner_load(td_word(&t, page)), w);
		ck_assert_int_eq(atomic_load(&a->charge), 1);
		ck_assert(filled(page, 7));
		put(from);
		td_check(&t);
	}
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
	ck_assert_int_eq(atomic_load(&a->charge), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(between_the_zones)
{
	uint32_t page = high_page(a), low = td_alloc(&t, b, GFP_HIGHUSER, 0);
	pfn_t from = domain_frame_of(t.d, page), to = domain_frame_of(t.d, low);
	struct mm_request r = { .gfp = GFP_HIGHUSER, .cpu = MM_CPU_NONE };
	struct mm_block block;

	ck_assert_uint_eq(page_desc_zone(desc_of(page)), ZONE_MOVABLE);
	ck_assert_int_eq(td_free(&t, b, low, 0), 0);
	ck_assert_int_eq(mm_alloc_pages(t.d->zones, &r, &to), 0);
	ck_assert(mm_block_take(t.d->mm, to, &block));
	fill(page, 3);
	ck_assert_int_eq(move_page(t.d, from, to), 0);
	put(from);
	ck_assert_uint_eq(page_desc_zone(desc_of(page)), ZONE_HIGHMEM);
	ck_assert(filled(page, 3));
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
}
END_TEST

static int refusal(uint32_t page)
{
	pfn_t from = domain_frame_of(t.d, page);
	uint64_t w = owner_load(td_word(&t, page));
	int r = move(page);

	ck_assert_uint_eq(domain_frame_of(t.d, page), from);
	ck_assert_uint_eq(owner_load(td_word(&t, page)), w);
	ck_assert(r == 0 || !move_possible(t.d, from));
	td_check(&t);
	return r;
}

START_TEST(what_may_not_move)
{
	uint32_t page = high_page(a), low = td_alloc(&t, a, GFP_KERNEL, 0);
	uint32_t large = td_alloc(&t, a, GFP_HIGHUSER, 2), offered;
	uint64_t w = owner_load(td_word(&t, page));
	const char *why;
	pfn_t to;

	/* mapped */
	ck_assert(owner_cas(td_word(&t, page), &w, w | OWNER_MAPPED));
	ck_assert_int_eq(refusal(page), -EBUSY);
	owner_store(td_word(&t, page), w);
	/* kept, also when its owner has given it up */
	ck_assert_int_eq(grant_hold(t.d, b, domain_granule(t.d, page), td_generation(&t, page), &why),
	                 0);
	ck_assert_int_eq(refusal(page), -EBUSY);
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
	ck_assert(owner_is(owner_load(td_word(&t, page)), OWNER_HELD, 0));
	ck_assert_int_eq(atomic_load(&b->charge), 1);
	ck_assert_int_eq(refusal(page), -EBUSY);
	ck_assert_int_eq(grant_release(t.d, b, 0, domain_granule(t.d, page), &why), 0);
	/* cached; offered */
	page = high_page(a);
	ck_assert(td_change(&t, page, OWNER_HELD, a->id, OWNER_RETURNED, a->id));
	ck_assert_int_eq(refusal(page), -EBUSY);
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
	ck_assert_int_eq(grant_alloc(t.d, a, 0, GFP_HIGHUSER, 0, &offered, &why), 0);
	ck_assert_int_eq(refusal(offered), -EBUSY);
	grant_withdraw(t.d, a, 0, offered);
	/* free; of the low zones; of a higher order; the middle of a block; no frame */
	to = target();
	ck_assert_int_eq(move_page(t.d, domain_frame_of(t.d, page), to), -EBUSY);
	ck_assert_int_eq(move_page(t.d, low, to), -EBUSY);
	ck_assert_int_eq(move_page(t.d, large, to), -EBUSY);
	ck_assert_int_eq(move_page(t.d, large + 1, to), -EBUSY);
	ck_assert_int_eq(move_page(t.d, TD_FRAMES + 3, to), -EBUSY);
	ck_assert_int_eq(move_page(t.d, PFN_NONE, to), -EBUSY);
	/* targets that are none: granted, low, large, itself, beyond the pool */
	page = high_page(a);
	offered = high_page(a);
	ck_assert_int_eq(move_page(t.d, domain_frame_of(t.d, page), low), -EINVAL);
	ck_assert_int_eq(move_page(t.d, domain_frame_of(t.d, page), domain_frame_of(t.d, offered)),
	                 -EINVAL);
	ck_assert_int_eq(move_page(t.d, domain_frame_of(t.d, page), large), -EINVAL);
	ck_assert_int_eq(move_page(t.d, domain_frame_of(t.d, page), domain_frame_of(t.d, page)), -EINVAL);
	ck_assert_int_eq(move_page(t.d, domain_frame_of(t.d, page), TD_FRAMES + 1), -EINVAL);
	ck_assert_int_eq(move_page(t.d, to, to), -EBUSY);
	put(to);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
	td_check(&t);
}
END_TEST

/* A member writes what it likes into the word of the page that has the target: no free gets at it. */
START_TEST(a_member_cannot_free_the_target)
{
	uint32_t page = high_page(a), spare;
	pfn_t from = domain_frame_of(t.d, page), to = target();

	fill(page, 3);
	spare = domain_block_page(t.d, to, 0);
	ck_assert(td_change(&t, spare, OWNER_FREE, 0, OWNER_RETURNED, a->id));
	ck_assert_int_eq(td_free(&t, a, spare, 0), -ENOENT);
	ck_assert(td_change(&t, spare, OWNER_RETURNED, a->id, OWNER_FREE, 0));
	ck_assert_int_eq(move_page(t.d, from, to), 0);
	ck_assert(filled(page, 3));
	put(from);
	td_check(&t);
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

START_TEST(memory_that_cannot_be_read)
{
	uint32_t page = high_page(a);
	pfn_t from = domain_frame_of(t.d, page), to = target();

	fill(page, 5);
	ck_assert_int_eq(mprotect(memory_of(page), FRAME, PROT_NONE), 0);
	ck_assert_int_eq(move_page(t.d, from, to), -EFAULT);
	ck_assert_int_eq(mprotect(memory_of(page), FRAME, PROT_READ | PROT_WRITE), 0);
	ck_assert_uint_eq(domain_frame_of(t.d, page), from);
	ck_assert_int_eq(mprotect(t.pool.window + (size_t)to * FRAME, FRAME, PROT_READ), 0);
	ck_assert_int_eq(move_page(t.d, from, to), -EFAULT);
	ck_assert_int_eq(mprotect(t.pool.window + (size_t)to * FRAME, FRAME, PROT_READ | PROT_WRITE), 0);
	ck_assert_int_eq(move_page(t.d, from, to), 0);
	ck_assert(filled(page, 5));
	put(from);
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
}
END_TEST

START_TEST(sent_held_and_named_pages)
{
	uint32_t page = high_page(a), granule = domain_granule(t.d, page);
	uint64_t w = owner_load(td_word(&t, page));
	const char *why = "";

	fill(page, 11);
	owner_store(td_word(&t, page), w | OWNER_SHARED | OWNER_MAPPED);
	ck_assert_int_eq(grant_send(t.d, a, granule, td_generation(&t, page), b, &why), 0);
	/* the receiver has not mapped it */
	ck_assert_uint_eq(owner_load(td_word(&t, page)),
	                  owner_moved(w, OWNER_HELD, b->id) | OWNER_SHARED);
	ck_assert_int_eq(atomic_load(&a->charge), 0);
	ck_assert_int_eq(atomic_load(&b->charge), 1);
	ck_assert_int_eq(move(page), 0);
	ck_assert_int_eq(atomic_load(&b->charge), 1);
	ck_assert(filled(page, 11));
	ck_assert_int_eq(grant_hold(t.d, a, granule, td_generation(&t, page), &why), 0);
	ck_assert_int_eq(move(page), -EBUSY);
	ck_assert_int_eq(grant_release(t.d, a, 0, granule, &why), 0);
	ck_assert_int_eq(move(page), 0);
	ck_assert(filled(page, 11));
	ck_assert_int_eq(td_free(&t, b, page, 0), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* ---- what members scribble ---- */

START_TEST(words_under_the_wrong_name)
{
	uint32_t page = high_page(a), large = td_alloc(&t, a, GFP_HIGHUSER, 1);
	pfn_t pfn = domain_frame_of(t.d, page);
	uint64_t generation = owner_generation(owner_load(td_word(&t, pfn)));
	uint64_t free_word = owner_load(td_word(&t, pfn));
	uint32_t twin = domain_block_page(t.d, large, 0);
	uint64_t twin_word = owner_load(td_word(&t, twin));
	const char *why;

	fill(page, 2);
	owner_store(td_word(&t, pfn), owner_moved(free_word, OWNER_RETURNED, a->id));
	ck_assert_int_eq(grant_free(t.d, a, 0, pfn, 0, generation, &why), -ENOENT);
	owner_store(td_word(&t, twin), owner_moved(twin_word, OWNER_RETURNED, a->id));
	ck_assert_int_eq(grant_free(t.d, a, 0, twin, 0, owner_generation(twin_word), &why), -ENOENT);
	ck_assert_uint_eq(grant_collect(t.d, NULL, 0), 0);
	ck_assert_uint_ge(atomic_load(&t.d->damaged), 4);
	ck_assert(filled(page, 2));
	ck_assert_uint_eq(domain_validate(t.d, td_silent, NULL), 2);
	owner_store(td_word(&t, pfn), free_word);
	owner_store(td_word(&t, twin), twin_word);
	td_check(&t);
	ck_assert_int_eq(grant_free(t.d, a, 0, TD_FRAMES + HIGH_FRAMES, 0, 1, &why), -EINVAL);
	ck_assert_int_eq(td_free(&t, a, page, 0), 0);
	ck_assert_int_eq(td_free(&t, a, large, 1), 0);
}
END_TEST

START_TEST(a_scribbled_moving_word_is_held)
{
	uint32_t page = high_page(a), other = high_page(b), b_id = b->id;
	const char *why;

	ck_assert(td_change(&t, page, OWNER_HELD, a->id, OWNER_MOVING, a->id));
	ck_assert(td_change(&t, other, OWNER_HELD, b->id, OWNER_MOVING, b->id));
	ck_assert_int_eq(move(page), -EBUSY);
	ck_assert_int_eq(grant_send(t.d, a, domain_granule(t.d, page), td_generation(&t, page), b,
	                            &why), -EPERM);
	ck_assert_int_eq(grant_hold(t.d, b, domain_granule(t.d, page), td_generation(&t, page), &why),
	                 -ESTALE);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 2);
	session_end(a);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 3);
	ck_assert_uint_eq(owner_kind(owner_load(td_word(&t, page))), OWNER_FREE);
	td_restart(&t);
	ck_assert(owner_is(owner_load(td_word(&t, other)), OWNER_HELD, b_id));
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0); /* as after a death in a move */
}
END_TEST

/* A page that cannot move says that it is moved; one that is another session's says so. */
START_TEST(a_scribbled_moving_word_is_not_believed)
{
	uint32_t low = td_alloc(&t, a, GFP_KERNEL, 0), other = high_page(b);
	uint64_t word = owner_load(td_word(&t, other));
	const char *why;

	ck_assert(td_change(&t, low, OWNER_HELD, a->id, OWNER_MOVING, a->id));
	owner_store(td_word(&t, other), owner_moved(word, OWNER_MOVING, a->id));
	ck_assert_int_eq(grant_send(t.d, a, domain_granule(t.d, low), td_generation(&t, low), b,
	                            &why), -EPERM);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 1);
	/* the sweep visits b's page by its word, and leaves it alone by its charge */
	grant_note_section(t.d, a, other);
	session_end(a);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 3);
	ck_assert_uint_eq(owner_kind(owner_load(td_word(&t, low))), OWNER_FREE);
	ck_assert_uint_eq(owner_kind(owner_load(td_word(&t, other))), OWNER_MOVING);
	owner_store(td_word(&t, other), word);
	td_check(&t);
}
END_TEST

START_TEST(one_page_moved_when_the_daemon_died)
{
	uint32_t page[3] = { high_page(a), high_page(a), high_page(a) }, a_id = a->id, i;
	uint32_t low = td_alloc(&t, a, GFP_KERNEL, 0);

	for (i = 0; i < 3; i++)
		ck_assert(td_change(&t, page[i], OWNER_HELD, a->id, OWNER_MOVING, a->id));
	ck_assert(td_change(&t, low, OWNER_HELD, a->id, OWNER_MOVING, a->id));
	td_restart(&t);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 3);
	for (i = 0; i < 3; i++)
		ck_assert(owner_is(owner_load(td_word(&t, page[i])), OWNER_HELD, a_id));
	/* out of use until somebody looks */
	ck_assert(td_change(&t, low, OWNER_MOVING, a_id, OWNER_HELD, a_id));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("move");
	TCase *c = tcase_create("move");

	tcase_add_checked_fixture(c, setup, scene_teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_page_has_a_frame_and_the_frame_leads_back);
	tcase_add_test(c, larger_blocks_are_named_by_their_frame);
	tcase_add_test(c, only_who_asks_for_it_gets_high_memory);
	tcase_add_test(c, sections_of_pages_are_noted_and_swept);
	tcase_add_test(c, a_moved_page_is_the_same_page);
	tcase_add_test(c, between_the_zones);
	tcase_add_test(c, what_may_not_move);
	tcase_add_test(c, a_member_cannot_free_the_target);
	tcase_add_test(c, memory_that_cannot_be_read);
	tcase_add_test(c, sent_held_and_named_pages);
	tcase_add_test(c, words_under_the_wrong_name);
	tcase_add_test(c, a_scribbled_moving_word_is_held);
	tcase_add_test(c, a_scribbled_moving_word_is_not_believed);
	tcase_add_test(c, one_page_moved_when_the_daemon_died);
	suite_add_tcase(s, c);
	return suite_status(s);
}
