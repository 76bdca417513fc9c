/* SPDX-License-Identifier: MIT */
/*
 * High memory between sessions (client/highmem.c, hold.c, share.c, pages.c, bulk.c): other sessions'
 * pages, pages that are freed, handed on or kept while they are mapped; against a daemon in the test
 * (fake_pages.h).
 */
#include "tests/suite.h"
#include "tests/unit/fake_pages.h"

#define K (&fake.k)

static struct kmm_page *moved_page;

/* ---- other sessions' pages ---- */

START_TEST(another_sessions_page_is_held_while_it_is_mapped)
{
	struct kmm_page *p = page_of_other();
	uint32_t page = index_of(p);
	uint8_t *at;

	frame_bytes(fake_frame(page))[9] = 9;
	at = map(p);
	ck_assert_uint_eq(at[9], 9);
	ck_assert(fake.held[page]);
	ck_assert(!is_mapped(p));
	ck_assert(!fake_move(page, NULL));
	ck_assert_ptr_eq(map(p), at);
	unmap(p);
	ck_assert_uint_eq(fake.holds, 1);
	ck_assert(fake.held[page]);
	/* that hold is the mapping's */
	ck_assert_int_eq(kmm_put(K, p), -EPERM);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "kmm_kunmap"));
	ck_assert_int_eq(kmm_get(K, p), 0);
	ck_assert_int_eq(kmm_put(K, p), 0);
	ck_assert_int_eq(kmm_put(K, p), -EPERM);
	unmap(p);
	ck_assert(!fake.held[page]);
	ck_assert_uint_eq(fake.releases, 1);
	ck_assert(fake_move(page, NULL));
	ck_assert_uint_eq(map(p)[9], 9);
	/* what was mapped without a hold of its own is gone with the last mapping */
	owner_store(word_at(page), owner_moved(owner_load(word_at(page)), OWNER_HELD, 0));
	ck_assert_ptr_eq(map(p), at);
	unmap(p);
	unmap(p);
	no_map(p, ENOENT);
}
END_TEST

/* The hold's end is a call: inside the session, and nothing of it is left in errno. */
static void call_that_fails_inside(uint16_t method)
{
	if (method == kmm_v1_Method_ALLOCATOR_RELEASE) {
		ck_assert_int_eq(fake.inside, 1);
		errno = EPIPE;
	}
}

START_TEST(the_end_of_a_hold_leaves_errno_alone)
{
	struct kmm_page *p = page_of_other();

	map(p);
	fake.on_call = call_that_fails_inside;
	errno = 7;
	unmap(p);
	ck_assert_int_eq(errno, 7);
	ck_assert_uint_eq(fake.releases, 1);
	ck_assert_int_eq(fake.inside, 0);
}
END_TEST

/* With a hold of the program's own a mapping costs no call. */
START_TEST(a_held_page_is_mapped_without_calls)
{
	struct kmm_page *p = page_of_other();
	int i;

	ck_assert_int_eq(kmm_get(K, p), 0);
	for (i = 0; i < 3; i++) {
		map(p);
		unmap(p);
	}
	ck_assert_uint_eq(fake.holds, 1);
	ck_assert_uint_eq(fake.releases, 0);
	map(p);
	ck_assert_int_eq(kmm_put(K, p), 0);
	ck_assert(fake.held[index_of(p)]);
	unmap(p);
	ck_assert(!fake.held[index_of(p)]);
}
END_TEST

START_TEST(the_daemon_is_away)
{
	struct kmm_page *p = page_of_other(), *mine = page_new();
	uint32_t page = index_of(p);

	map(p);
	unmap(p);
	fake.refuse = -EAGAIN;
	no_map(p, EAGAIN);
	map(mine); /* the section is at hand */
	unmap(mine);
	fake.refuse = 0;
	map(p);
	fake.refuse = -EINPROGRESS;
	unmap(p); /* no failure */
	ck_assert_uint_eq(fake.untold, 1);
	ck_assert(fake.held[page]);
	ck_assert(!hold_repeat(K));
	fake.refuse = 0;
	ck_assert(hold_repeat(K));
	ck_assert(!fake.held[page]);
	fake.releases = 0;
	ck_assert(hold_repeat(K)); /* once is enough */
	ck_assert_uint_eq(fake.releases, 0);
	/* mapped again before it could be told */
	map(p);
	fake.refuse = -EINPROGRESS;
	unmap(p);
	fake.refuse = 0;
	map(p);
	ck_assert(hold_repeat(K));
	ck_assert(fake.held[page]);
	unmap(p);
	ck_assert(!fake.held[page]);
}
END_TEST

static void gone(uint16_t method)
{
	if (method == kmm_v1_Method_ALLOCATOR_HOLD)
		ungrant(index_of(moved_page));
}

/* Its owner frees it when we have looked and before we hold it. */
START_TEST(gone_before_it_is_held)
{
	moved_page = page_of_other();
	fake.on_call = gone;
	no_map(moved_page, ENOENT);
	fake.on_call = NULL;
	moved_page = page_of_other();
	fake.refuse = -EDQUOT;
	no_map(moved_page, EDQUOT);
	fake.refuse = 0;
	ck_assert(!fake.held[index_of(moved_page)]);
}
END_TEST

/* ---- freeing and handing on ---- */

START_TEST(a_mapped_page_is_not_freed)
{
	struct kmm_page *p = page_new(), *q = page_new(), *pages[2] = { q, p };
	uint64_t w;

	map(p);
	w = owner_load(word_at(index_of(p)));
	ck_assert_int_eq(kmm_free_pages(K, p, 0), -EBUSY);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "kmm_kunmap"));
	ck_assert_int_eq(kmm_free_pages_bulk(K, 0, 2, pages), -EBUSY);
	ck_assert_uint_eq(fake.frees, 0);
	ck_assert_uint_eq(owner_load(word_at(index_of(p))), w);
	unmap(p);
	ck_assert_int_eq(kmm_free_pages_bulk(K, 0, 2, pages), 0);
	ck_assert_uint_eq(fake.frees, 2);
	ck_assert_int_eq(kmm_free_pages(K, p, 0), -ENOENT);
}
END_TEST

START_TEST(pages_in_bulk)
{
	struct kmm_page *pages[64];
	uint32_t i;

	ck_assert_uint_eq(kmm_alloc_pages_bulk(K, KMM_GFP_HIGHUSER | KMM_GFP_ZERO, 0, 64, pages), 64);
	for (i = 0; i < 64; i++) {
		uint8_t *at = map(pages[i]);

		ck_assert(!at[0] && !memcmp(at, at + 1, 4095));
		unmap(pages[i]);
	}
	pages[3] = pages[60];
	ck_assert_int_eq(kmm_free_pages_bulk(K, 0, 64, pages), -EINVAL);
	ck_assert_uint_eq(fake.frees, 0);
	pages[3] = page_new();
	ck_assert_int_eq(kmm_free_pages_bulk(K, 0, 64, pages), 0);
}
END_TEST

START_TEST(a_mapped_page_is_not_handed_on)
{
	struct kmm_page *p = page_new(), *q = page_of_other();
	kmm_handle_t handle, theirs;
	uint64_t w;

	handle = kmm_handle(K, p);
	ck_assert_uint_ne(handle, 0);
	ck_assert_ptr_eq(kmm_pointer(K, handle), p);
	map(p);
	ck_assert_uint_eq(kmm_handle(K, kmm_page_address(K, p)), handle);
	ck_assert_uint_eq(kmm_handle(K, (char *)kmm_page_address(K, p) + 8), 0);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(kmm_send(K, p, OTHER), -EBUSY);
	ck_assert_ptr_eq(kmm_adopt(K, handle), p); /* one's own: taken back, still mapped */
	ck_assert(is_mapped(p));
	unmap(p);
	ck_assert_int_eq(kmm_send(K, p, OTHER), 0);

	w = owner_load(word_at(index_of(q))) | OWNER_SHARED;
	theirs = handle_make(granule_of(K, index_of(q)), w);
	owner_store(word_at(index_of(q)), w | OWNER_MAPPED);
	errno = 0;
	ck_assert_ptr_null(kmm_adopt(K, theirs));
	ck_assert_int_eq(errno, EBUSY);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "session 5"));
	owner_store(word_at(index_of(q)), w);
	map(q); /* held by that */
	ck_assert_ptr_null(kmm_adopt(K, theirs));
	ck_assert_int_eq(errno, EBUSY);
	unmap(q);
	ck_assert_ptr_eq(kmm_adopt(K, theirs), q);
	ck_assert(!is_mapped(q));
	map(q);
	ck_assert(is_mapped(q));
	unmap(q);
	free_page(q);
}
END_TEST

/* It was mapped as another's and became ours: the mapping ends as it began. */
START_TEST(a_page_that_comes_to_us_while_we_map_it)
{
	struct kmm_page *p = page_of_other();
	uint32_t page = index_of(p);

	map(p);
	owner_store(word_at(page), owner_moved(owner_load(word_at(page)), OWNER_HELD, ME));
	map(p);
	unmap(p);
	ck_assert(fake.held[page]);
	ck_assert_int_eq(kmm_free_pages(K, p, 0), -EBUSY);
	unmap(p);
	ck_assert(!fake.held[page]);
	map(p);
	ck_assert(is_mapped(p));
	unmap(p);
	free_page(p);
}
END_TEST

/* A session that ends leaves nothing pinned. */
START_TEST(the_end_unpins)
{
	struct kmm_page *p = page_new(), *q = page_new(), *r = page_of_other();

	map(p);
	map(p);
	map(q);
	unmap(q);
	map(r);
	highmem_end(K);
	ck_assert(!is_mapped(p));
	ck_assert(!is_mapped(q));
	ck_assert(fake.held[index_of(r)]); /* the daemon takes it from who closes */
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		another_sessions_page_is_held_while_it_is_mapped,
		the_end_of_a_hold_leaves_errno_alone,
		a_held_page_is_mapped_without_calls,
		the_daemon_is_away,
		gone_before_it_is_held,
		a_mapped_page_is_not_freed,
		pages_in_bulk,
		a_mapped_page_is_not_handed_on,
		a_page_that_comes_to_us_while_we_map_it,
		the_end_unpins,
	};
	Suite *s = suite_create("client_highmem_share");
	TCase *c = tcase_create("between sessions");
	size_t i;

	tcase_add_checked_fixture(c, fake_start, fake_stop);
	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return suite_status(s);
}
