/* SPDX-License-Identifier: MIT */
/*
 * Sharing between processes through a real daemon: handles, adoption, sending, further holders, and
 * what each death leaves.
 *
 *      test process (k)          peer a            peer b
 *           owner ── handle ──> looks, adopts ──> holds …
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/integration/fixture.h"

static void *block_new(unsigned order, uint64_t seed)
{
	void *p = kmm_get_free_pages(k, KMM_GFP_KERNEL, order);

	ck_assert_ptr_nonnull(p);
	block_fill(p, order, seed);
	return p;
}

static uint64_t pfn_of(const void *p)
{
	return kmm_page_to_pfn(k, kmm_virt_to_page(k, p));
}

START_TEST(a_handle_names_the_block_everywhere)
{
	unsigned order = (unsigned)_i;
	void *p = block_new(order, 11);
	kmm_handle_t handle = kmm_handle(k, p);

	ck_assert_uint_ne(handle, 0);
	ck_assert_uint_eq(kmm_handle(k, p), handle);
	ck_assert_ptr_eq(kmm_pointer(k, handle), p);
	ck_assert_int_eq(peer_do(&a, PEER_POINTER, handle, 0, 0), (int64_t)pfn_of(p));
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, pfn_of(p), order, 11), 1);
	ck_assert_int_eq(peer_do(&a, PEER_ORDER, pfn_of(p), 0, 0), order);
	/* one memory, not a copy */
	ck_assert_int_eq(peer_do(&a, PEER_FILL, pfn_of(p), order, 12), 0);
	ck_assert(block_check(p, order, 12));
	/* looking does not make an owner */
	ck_assert_int_eq(peer_do(&a, PEER_HANDLE, pfn_of(p), 0, 0), -EPERM);
	ck_assert_int_eq(peer_do(&a, PEER_FREE, pfn_of(p), order, 0), -EPERM);
	ck_assert_int_eq(kmm_free_page_addr(k, p, order), 0);
	ck_assert_int_eq(peer_do(&a, PEER_POINTER, handle, 0, 0), -ESTALE);
	ck_assert_int_eq(peer_do(&a, PEER_ADOPT, handle, 0, 0), -ESTALE);
	ck_assert_int_eq(peer_do(&a, PEER_GET_HANDLE, handle, 0, 0), -ESTALE);
}
END_TEST

/* The next life of the same frame does not answer to the old handle. */
START_TEST(handles_outlive_nothing)
{
	void *p = block_new(0, 1), *q;
	kmm_handle_t handle = kmm_handle(k, p), next;
	int tries = 0;

	ck_assert_int_eq(kmm_free_page_addr(k, p, 0), 0);
	do {
		q = kmm_get_free_pages(k, KMM_GFP_KERNEL, 0);
		ck_assert_ptr_nonnull(q);
	} while (q != p && ++tries < 16000);
	ck_assert_ptr_eq(q, p);
	errno = 0;
	ck_assert_ptr_null(kmm_pointer(k, handle));
	ck_assert_int_eq(errno, ESTALE);
	next = kmm_handle(k, q);
	ck_assert_uint_ne(next, handle);
	ck_assert_ptr_eq(kmm_pointer(k, next), q);
}
END_TEST

START_TEST(handles_that_never_were)
{
	static const kmm_handle_t wrong[] = {
		0, 1, 0x100000000, UINT64_MAX, 0x1ffffffff, 0x12345678
	};
	void *p = block_new(3, 1);
	int on_the_stack;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		errno = 0;
		ck_assert_ptr_null(kmm_pointer(k, wrong[i]));
		ck_assert_msg(errno == ESTALE || errno == ENOENT || errno == EINVAL ||
				      errno == EPERM,
			      "handle %zu: errno %d", i, errno);
		errno = 0;
		ck_assert_ptr_null(kmm_adopt(k, wrong[i]));
		ck_assert_int_ne(errno, 0);
		errno = 0;
		ck_assert_ptr_null(kmm_get_handle(k, wrong[i]));
		ck_assert_int_ne(errno, 0);
	}
	errno = 0;
	ck_assert_uint_eq(kmm_handle(k, (char *)p + KMM_PAGE_SIZE), 0);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_uint_eq(kmm_handle(k, (char *)p + 8), 0);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_uint_eq(kmm_handle(k, &on_the_stack), 0);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(kmm_free_page_addr(k, p, 3), 0);
	errno = 0;
	ck_assert_uint_eq(kmm_handle(k, p), 0);
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

/* ---- adoption ---- */

START_TEST(adoption_moves_the_owner)
{
	unsigned order = (unsigned)_i;
	void *p = block_new(order, 5);
	kmm_handle_t handle = kmm_handle(k, p);
	int64_t next;

	ck_assert_int_eq(peer_do(&a, PEER_ADOPT, handle, 0, 0), (int64_t)pfn_of(p));
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, pfn_of(p), order, 5), 1);
	/* the old owner and the old handle are out */
	ck_assert_int_eq(kmm_free_page_addr(k, p, order), -ESTALE);
	errno = 0;
	ck_assert_ptr_null(kmm_pointer(k, handle));
	ck_assert_int_eq(errno, ESTALE);
	errno = 0;
	ck_assert_ptr_null(kmm_adopt(k, handle));
	ck_assert_int_eq(errno, ESTALE);
	errno = 0;
	ck_assert_uint_eq(kmm_handle(k, p), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(peer_do(&b, PEER_ADOPT, handle, 0, 0), -ESTALE);
	/* the new owner hands it on */
	next = peer_do(&a, PEER_HANDLE, pfn_of(p), 0, 0);
	ck_assert_uint_ne((uint64_t)next, handle);
	ck_assert_int_eq(peer_do(&b, PEER_ADOPT, (uint64_t)next, 0, 0), (int64_t)pfn_of(p));
	ck_assert_int_eq(peer_do(&b, PEER_ORDER, pfn_of(p), 0, 0), order);
	ck_assert_int_eq(peer_do(&b, PEER_FREE, pfn_of(p), order, 0), 0);
}
END_TEST

START_TEST(adopting_ones_own_takes_it_back)
{
	void *p = block_new(2, 5);
	kmm_handle_t handle = kmm_handle(k, p);

	ck_assert_ptr_eq(kmm_adopt(k, handle), p);
	ck_assert(block_check(p, 2, 5));
	ck_assert_int_eq(kmm_page_count(k, kmm_virt_to_page(k, p)), 1);
	ck_assert_int_eq(peer_do(&a, PEER_ADOPT, handle, 0, 0), -ESTALE);
	ck_assert_int_eq(kmm_free_page_addr(k, p, 2), 0);
}
END_TEST

START_TEST(adopted_by_one_of_many)
{
	enum { PEERS = 4, ROUNDS = 200 };
	struct peer many[PEERS];
	int won = 0;

	for (int i = 0; i < PEERS; i++)
		peer_start(&many[i], &d);
	for (int round = 0; round < ROUNDS; round++) {
		void *p = block_new(0, 3);
		kmm_handle_t handle = kmm_handle(k, p);
		int winners = 0;

		for (int i = 0; i < PEERS; i++)
			peer_begin(&many[i], PEER_ADOPT, handle, 0, 0);
		for (int i = 0; i < PEERS; i++) {
			int64_t r = peer_end(&many[i]);

			ck_assert(r == (int64_t)pfn_of(p) || r == -ESTALE);
			if (r < 0)
				continue;
			winners++;
			ck_assert_int_eq(peer_do(&many[i], PEER_FREE, pfn_of(p), 0, 0), 0);
		}
		ck_assert_int_eq(winners, 1);
		won += winners;
	}
	ck_assert_int_eq(won, ROUNDS);
	for (int i = 0; i < PEERS; i++)
		peer_stop(&many[i]);
}
END_TEST

START_TEST(bulk_adoption_tries_all)
{
	kmm_handle_t handle[4] = { 0 };
	void *p[4] = { &d, &d, &d, &d };
	int64_t pfn[4];

	for (int i = 0; i < 4; i++) {
		pfn[i] = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, (uint64_t)i, 0);
		ck_assert_int_ge(pfn[i], 0);
		handle[i] = (kmm_handle_t)peer_do(&a, PEER_HANDLE, (uint64_t)pfn[i], 0, 0);
	}
	ck_assert_int_eq(peer_do(&b, PEER_ADOPT, handle[1], 0, 0), pfn[1]);
	ck_assert_uint_eq(kmm_adopt_bulk(k, 4, handle, p), 3);
	ck_assert_ptr_null(p[1]);
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			continue;
		ck_assert_int_eq((int64_t)pfn_of(p[i]), pfn[i]);
		ck_assert_int_eq(kmm_free_page_addr(k, p[i], (unsigned)i), 0);
	}
	errno = 0;
	ck_assert_uint_eq(kmm_adopt_bulk(k, 4, handle, p), 0);
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_int_eq(peer_do(&b, PEER_FREE, (uint64_t)pfn[1], 1, 0), 0);
}
END_TEST

/* ---- sending ---- */

START_TEST(sent_blocks_change_hands)
{
	unsigned order = (unsigned)_i;
	void *p = block_new(order, 9);
	kmm_handle_t handle = kmm_handle(k, p);
	uint64_t pfn = pfn_of(p);

	ck_assert_int_eq(kmm_send(k, p, a.session), 0);
	ck_assert_int_eq(kmm_free_page_addr(k, p, order), -EPERM);
	errno = 0;
	ck_assert_uint_eq(kmm_handle(k, p), 0);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(kmm_send(k, p, b.session), -EPERM);
	/* the handle that was made before is still good */
	ck_assert_int_eq(peer_do(&a, PEER_POINTER, handle, 0, 0), (int64_t)pfn);
	ck_assert_int_eq(peer_do(&a, PEER_ADOPT, handle, 0, 0), (int64_t)pfn);
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, pfn, order, 9), 1);
	ck_assert_int_eq(peer_do(&a, PEER_FREE, pfn, order, 0), 0);
}
END_TEST

START_TEST(sent_blocks_survive_their_sender)
{
	int64_t pfn = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, 1, 0), handle;
	kmm_session_id_t sender = a.session;
	void *p;

	ck_assert_int_eq(peer_do(&a, PEER_FILL, (uint64_t)pfn, 1, 77), 0);
	handle = peer_do(&a, PEER_HANDLE, (uint64_t)pfn, 0, 0);
	ck_assert_int_eq(peer_do(&a, PEER_SEND, (uint64_t)pfn, kmm_session_id(k), 0), 0);
	peer_kill(&a);
	wait_until(!daemon_has_session(&d, sender));
	p = kmm_pointer(k, (kmm_handle_t)handle);
	ck_assert_ptr_nonnull(p);
	ck_assert(block_check(p, 1, 77));
	ck_assert_int_eq(kmm_free_page_addr(k, p, 1), 0);
}
END_TEST

START_TEST(sends_that_are_refused)
{
	void *p = block_new(3, 1);
	kmm_session_id_t gone = b.session;

	ck_assert_int_eq(kmm_send(k, p, 0), -ESRCH);
	ck_assert_int_eq(kmm_send(k, p, 0xffffe), -ESRCH);
	ck_assert_int_eq(kmm_send(k, p, UINT32_MAX), -ESRCH);
	peer_stop(&b);
	wait_until(!daemon_has_session(&d, gone));
	ck_assert_int_eq(kmm_send(k, p, gone), -ESRCH);
	ck_assert_int_eq(kmm_send(k, (char *)p + KMM_PAGE_SIZE, a.session), -EINVAL);
	ck_assert_int_eq(kmm_send(k, &gone, a.session), -EINVAL);
	ck_assert(block_check(p, 3, 1));
	ck_assert_int_eq(kmm_free_page_addr(k, p, 3), 0);
	ck_assert_int_eq(kmm_send(k, p, a.session), -ENOENT);
}
END_TEST

/* ---- further holders ---- */

START_TEST(a_held_block_outlives_its_owner_s_free)
{
	unsigned order = (unsigned)_i;
	void *p = block_new(order, 21);
	struct kmm_page *page = kmm_virt_to_page(k, p);
	kmm_handle_t handle = kmm_handle(k, p);
	uint64_t pfn = pfn_of(p);

	ck_assert_int_eq(peer_do(&a, PEER_GET_HANDLE, handle, 0, 0), (int64_t)pfn);
	ck_assert_int_eq(kmm_page_count(k, page), 2);
	ck_assert_int_eq(peer_do(&b, PEER_GET, pfn, 0, 0), 0);
	ck_assert_int_eq(kmm_page_count(k, page), 3);
	ck_assert_int_eq(peer_do(&b, PEER_ADOPT, handle, 0, 0), -EBUSY);
	ck_assert_int_eq(kmm_free_pages(k, page, order), 0);
	ck_assert_int_eq(peer_do(&a, PEER_COUNT, pfn, 0, 0), 2);
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, pfn, order, 21), 1);
	/* the handle stays with it */
	ck_assert_int_eq(peer_do(&b, PEER_POINTER, handle, 0, 0), (int64_t)pfn);
	ck_assert_int_eq(kmm_free_pages(k, page, order), -EPERM);
	ck_assert_int_eq(kmm_put(k, p), -EPERM);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), -EPERM);
	ck_assert_int_eq(peer_do(&b, PEER_COUNT, pfn, 0, 0), 1);
	ck_assert_int_eq(peer_do(&b, PEER_CHECK, pfn, order, 21), 1);
	/* the last hold frees */
	ck_assert_int_eq(peer_do(&b, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_COUNT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_POINTER, handle, 0, 0), -ESTALE);
	ck_assert_int_eq(peer_do(&b, PEER_GET, pfn, 0, 0), -ENOENT);
	ck_assert_uint_eq(daemon_free_pages(&d), free_at_start);
}
END_TEST

START_TEST(holds_of_one_session_are_counted)
{
	void *p = block_new(0, 2);
	kmm_handle_t handle = kmm_handle(k, p);
	uint64_t pfn = pfn_of(p);

	ck_assert_int_eq(kmm_get(k, p), 0); /* the owner may hold it too */
	ck_assert_int_eq(kmm_page_count(k, kmm_virt_to_page(k, p)), 2);
	ck_assert_int_eq(peer_do(&a, PEER_GET, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_GET, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_GET_HANDLE, handle, 0, 0), (int64_t)pfn);
	/* each sees the sessions that hold it, and its own holds one by one */
	ck_assert_int_eq(kmm_page_count(k, kmm_virt_to_page(k, p)), 3);
	ck_assert_int_eq(peer_do(&a, PEER_COUNT, pfn, 0, 0), 5);
	ck_assert_int_eq(kmm_free_page_addr(k, p, 0), 0);
	ck_assert_int_eq(kmm_put(k, p), 0);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, pfn, 0, 2), 1);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), -ENOENT);
}
END_TEST

START_TEST(adoption_works_again_after_the_last_put)
{
	void *p = block_new(9, 2);
	kmm_handle_t handle = kmm_handle(k, p);
	uint64_t pfn = pfn_of(p);

	ck_assert_int_eq(peer_do(&a, PEER_GET_HANDLE, handle, 0, 0), (int64_t)pfn);
	ck_assert_int_eq(peer_do(&b, PEER_ADOPT, handle, 0, 0), -EBUSY);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn, 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_ADOPT, handle, 0, 0), (int64_t)pfn);
	ck_assert_int_eq(peer_do(&b, PEER_FREE, pfn, 9, 0), 0);
}
END_TEST

START_TEST(holds_that_are_refused)
{
	char *p = block_new(3, 1);

	ck_assert_int_eq(kmm_put(k, p), -EPERM);
	ck_assert_int_eq(kmm_get(k, p + KMM_PAGE_SIZE), -EINVAL);
	ck_assert_int_eq(kmm_get(k, p + 1), -EINVAL);
	ck_assert_int_eq(kmm_put(k, p + KMM_PAGE_SIZE), -EINVAL);
	ck_assert_int_eq(kmm_get(k, &p), -EINVAL);
	ck_assert_int_eq(kmm_put(k, &p), -EINVAL);
	ck_assert_int_eq(kmm_free_page_addr(k, p, 3), 0);
	ck_assert_int_eq(kmm_get(k, p), -ENOENT);
	ck_assert_int_eq(kmm_put(k, p), -ENOENT);
}
END_TEST

START_TEST(a_holder_that_dies_lets_go)
{
	void *p = block_new(4, 3);
	struct kmm_page *page = kmm_virt_to_page(k, p);

	ck_assert_int_eq(peer_do(&a, PEER_GET, pfn_of(p), 0, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_GET, pfn_of(p), 0, 0), 0);
	ck_assert_int_eq(kmm_page_count(k, page), 3);
	peer_kill(&a);
	wait_until(kmm_page_count(k, page) == 2);
	ck_assert_int_eq(kmm_free_pages(k, page, 4), 0);
	peer_kill(&b);
	wait_until(daemon_free_pages(&d) == free_at_start);
}
END_TEST

START_TEST(a_holder_keeps_what_the_dead_owned)
{
	int64_t pfn = peer_do(&a, PEER_ALLOC, KMM_GFP_KERNEL, 2, 0), handle;
	kmm_session_id_t owner = a.session;

	ck_assert_int_eq(peer_do(&a, PEER_FILL, (uint64_t)pfn, 2, 99), 0);
	handle = peer_do(&a, PEER_HANDLE, (uint64_t)pfn, 0, 0);
	ck_assert_int_eq(peer_do(&b, PEER_GET_HANDLE, (uint64_t)handle, 0, 0), pfn);
	peer_kill(&a);
	wait_until(!daemon_has_session(&d, owner));
	ck_assert_int_eq(peer_do(&b, PEER_COUNT, (uint64_t)pfn, 0, 0), 1);
	ck_assert_int_eq(peer_do(&b, PEER_CHECK, (uint64_t)pfn, 2, 99), 1);
	ck_assert_uint_eq(daemon_free_pages(&d), free_at_start - 4);
	ck_assert_int_eq(peer_do(&b, PEER_PUT, (uint64_t)pfn, 0, 0), 0);
	ck_assert_uint_eq(daemon_free_pages(&d), free_at_start);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sharing");
	TCase *t = tcase_create("sharing");

	tcase_add_checked_fixture(t, fixture_setup, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, a_handle_names_the_block_everywhere, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, handles_outlive_nothing);
	tcase_add_test(t, handles_that_never_were);
	tcase_add_loop_test(t, adoption_moves_the_owner, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, adopting_ones_own_takes_it_back);
	tcase_add_test(t, adopted_by_one_of_many);
	tcase_add_test(t, bulk_adoption_tries_all);
	tcase_add_loop_test(t, sent_blocks_change_hands, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, sent_blocks_survive_their_sender);
	tcase_add_test(t, sends_that_are_refused);
	tcase_add_loop_test(t, a_held_block_outlives_its_owner_s_free, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, holds_of_one_session_are_counted);
	tcase_add_test(t, adoption_works_again_after_the_last_put);
	tcase_add_test(t, holds_that_are_refused);
	tcase_add_test(t, a_holder_that_dies_lets_go);
	tcase_add_test(t, a_holder_keeps_what_the_dead_owned);
	suite_add_tcase(s, t);
	return suite_run(s);
}
