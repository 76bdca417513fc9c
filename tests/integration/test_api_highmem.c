/* SPDX-License-Identifier: MIT */
/*
 * High memory through real processes: pages without an address, mapped, handed on, held, named, kept
 * over deaths and restarts, in a pool of huge pages and in one of 4 KiB pages. That they move is
 * test_compact's matter.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/fixture.h"

#define HIGH KMM_GFP_HIGHUSER
#define MOVABLE KMM_GFP_HIGHUSER_MOVABLE
#define MANY 600

static void setup_with(const char *backing, bool supervised)
{
	fixture_setup_configured("[pool]\nhighmem = 8M\nmovable = 8M\n",
				 (const char *const[]){ "--section-size", "4M", "--backing", backing,
							supervised ? "--supervise" : NULL, NULL });
}

static void setup(void)
{
	setup_with("4k", false);
}

static void setup_huge(void)
{
	setup_with("hugetlb", false);
}

static void setup_supervised(void)
{
	setup_with("4k", true);
}

static bool is_high(struct kmm_page *p)
{
	int saved = errno;
	bool high = !kmm_page_address(k, p) && errno == ENOTSUP;

	errno = saved;
	return high;
}

static struct kmm_page *have(kmm_gfp_t gfp, unsigned int order)
{
	struct kmm_page *p = kmm_alloc_pages(k, gfp, order);

	ck_assert_msg(p != NULL, "%s", kmm_error_text());
	ck_assert(is_high(p));
	return p;
}

static uint8_t *map(struct kmm_page *p)
{
	uint8_t *at = kmm_kmap(k, p);

	ck_assert_msg(at != NULL, "%s", kmm_error_text());
	return at;
}

static void unmap(struct kmm_page *p)
{
	ck_assert_int_eq(kmm_kunmap(k, p), 0);
}

static void fill(struct kmm_page *p, unsigned int order, uint64_t seed)
{
	for (unsigned i = 0; i < 1u << order; i++) {
		block_fill(map(p + i), 0, seed + i);
		unmap(p + i);
	}
}

static void look(struct kmm_page *p, unsigned int order, uint64_t seed)
{
	for (unsigned i = 0; i < 1u << order; i++) {
		ck_assert(block_check(map(p + i), 0, seed + i));
		unmap(p + i);
	}
}

static void give_back(struct kmm_page *p, unsigned int order)
{
	ck_assert_int_eq(kmm_free_pages(k, p, order), 0);
}

static uint64_t pfn(const struct kmm_page *p)
{
	uint64_t n = kmm_page_to_pfn(k, p);

	ck_assert_uint_ne(n, UINT64_MAX);
	return n;
}

/* ---- one session ---- */

START_TEST(a_page)
{
	struct kmm_page *p = have(_i ? MOVABLE : HIGH, 0);
	uint8_t *at = map(p);

	ck_assert_ptr_eq(kmm_page_address(k, p), at);
	ck_assert_ptr_eq(kmm_virt_to_page(k, at + 77), p);
	ck_assert_ptr_eq(kmm_kmap_local(k, p), at);
	ck_assert_ptr_eq(kmm_pfn_to_page(k, pfn(p)), p);
	ck_assert_int_eq(kmm_page_order(k, p), 0);
	ck_assert_int_eq(kmm_page_count(k, p), 1);
	block_fill(at, 0, 5);
	ck_assert_int_eq(kmm_free_pages(k, p, 0), -EBUSY);
	ck_assert_int_eq(kmm_kunmap_local(k, at + 4095), 0);
	ck_assert_int_eq(kmm_free_pages(k, p, 0), -EBUSY);
	unmap(p);
	ck_assert_int_eq(kmm_kunmap(k, p), -ENOENT);
	ck_assert(is_high(p));
	look(p, 0, 5);
	give_back(p, 0);
	ck_assert_int_eq(kmm_free_pages(k, p, 0), -ENOENT);
	ck_assert_ptr_null(kmm_kmap(k, p));
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(blocks_of_all_orders)
{
	for (unsigned order = 0; order <= 10; order++) {
		struct kmm_page *block = have(HIGH, order);

		ck_assert_int_eq(kmm_page_order(k, block), (int)order);
		fill(block, order, order * 10000);
		if (order > 0) {
			ck_assert_uint_eq(pfn(block + 1), pfn(block) + 1);
			ck_assert_int_eq(kmm_free_pages(k, block + 1, order), -EINVAL);
			map(block + (1u << order) - 1);
			ck_assert_int_eq(kmm_free_pages(k, block, order), -EBUSY);
			unmap(block + (1u << order) - 1);
		}
		look(block, order, order * 10000);
		give_back(block, order);
		block = have(HIGH | KMM_GFP_ZERO, order);
		for (unsigned i = 0; i < 1u << order; i++) {
			uint8_t *at = map(block + i);

			ck_assert(at[0] == 0 && memcmp(at, at + 1, 4095) == 0);
			unmap(block + i);
		}
		give_back(block, order);
	}
}
END_TEST

START_TEST(many_at_once)
{
	static struct kmm_page *p[MANY];

	ck_assert_uint_eq(kmm_alloc_pages_bulk(k, MOVABLE | KMM_GFP_ZERO, 0, MANY, p), MANY);
	for (int i = 0; i < MANY; i++) {
		ck_assert(is_high(p[i]));
		fill(p[i], 0, (uint64_t)i);
	}
	for (int i = 0; i < MANY; i++)
		look(p[i], 0, (uint64_t)i);
	map(p[MANY / 2]);
	ck_assert_int_eq(kmm_free_pages_bulk(k, 0, MANY, p), -EBUSY);
	look(p[MANY - 1], 0, MANY - 1);
	unmap(p[MANY / 2]);
	ck_assert_int_eq(kmm_free_pages_bulk(k, 0, MANY, p), 0);
}
END_TEST

/* High memory runs out: what follows comes from below, and kmap does not mind. */
START_TEST(when_it_runs_out)
{
	static struct kmm_page *p[8192];
	uint32_t n = 0, high = 0;

	while (n < 8192 && (p[n] = kmm_alloc_pages(k, KMM_GFP_NOWAIT | KMM_GFP_HIGHMEM, 0))) {
		*(uint32_t *)(void *)map(p[n]) = n;
		unmap(p[n]);
		if (is_high(p[n++]))
			high++;
		else if (n - high == 100)
			break;
	}
	ck_assert_uint_gt(high, 1000);
	ck_assert_uint_eq(n - high, 100);
	for (uint32_t i = 0; i < n; i++) {
		ck_assert_uint_eq(*(uint32_t *)(void *)map(p[i]), i);
		unmap(p[i]);
		give_back(p[i], 0);
	}
}
END_TEST

struct user {
	pthread_t thread;
	struct kmm_page **page;
	unsigned int seed, rounds;
};

static void *use(void *arg)
{
	struct user *u = arg;

	for (u->rounds = 0; u->rounds < 20000; u->rounds++) {
		unsigned int n = (unsigned int)rand_r(&u->seed) % 5;
		uint64_t *at = kmm_kmap(k, u->page[n]), *again;

		must(at && at[0] == n);
		__atomic_fetch_add(&at[1], 1, __ATOMIC_RELAXED);
		again = kmm_kmap_local(k, u->page[n]);
		must(again == at);
		must(kmm_kunmap(k, u->page[n]) == 0);
		must(kmm_kunmap_local(k, again) == 0);
	}
	return NULL;
}

START_TEST(threads_share_mappings)
{
	struct kmm_page *p[5];
	struct user u[4];
	uint64_t sum = 0;

	for (unsigned n = 0; n < 5; n++) {
		p[n] = have(MOVABLE | KMM_GFP_ZERO, 0);
		*(uint64_t *)(void *)map(p[n]) = n;
		unmap(p[n]);
	}
	for (unsigned i = 0; i < 4; i++) {
		u[i] = (struct user){ .page = p, .seed = i };
		ck_assert_int_eq(pthread_create(&u[i].thread, NULL, use, &u[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(u[i].thread, NULL), 0);
	for (unsigned n = 0; n < 5; n++) {
		sum += ((uint64_t *)(void *)map(p[n]))[1];
		unmap(p[n]);
		ck_assert_int_eq(kmm_kunmap(k, p[n]), -ENOENT);
		give_back(p[n], 0);
	}
	ck_assert_uint_eq(sum, 4 * 20000);
}
END_TEST

/* ---- between sessions ---- */

START_TEST(handed_on)
{
	unsigned order = (unsigned)_i;
	struct kmm_page *p = have(HIGH, order);
	uint64_t at = pfn(p);
	kmm_handle_t handle = kmm_handle(k, p);

	ck_assert_uint_ne(handle, 0);
	ck_assert_ptr_eq(kmm_pointer(k, handle), p);
	fill(p, order, 77);
	if (order == 0) { /* what moves is not handed on while it is mapped */
		map(p);
		ck_assert_int_eq(peer_do(&a, PEER_ADOPT, handle, 0, 0), -EBUSY);
		ck_assert_int_eq(kmm_send(k, p, a.session), -EBUSY);
		unmap(p);
	}
	ck_assert_int_eq(peer_do(&a, PEER_ADOPT, handle, 0, 0), (int64_t)at);
	ck_assert_int_eq(kmm_free_pages(k, p, order), -ESTALE);
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, at, order, 77), 1);
	ck_assert_int_eq(peer_do(&a, PEER_ORDER, at, 0, 0), order);
	ck_assert_int_eq(peer_do(&a, PEER_SEND, at, b.session, 0), 0);
	ck_assert_int_eq(peer_do(&b, PEER_FILL, at, order, 78), 0);
	handle = (kmm_handle_t)peer_do(&b, PEER_HANDLE, at, 0, 0);
	ck_assert_ptr_eq(kmm_adopt(k, handle), p);
	look(p, order, 78);
	give_back(p, order);
}
END_TEST

/* Who maps another's page holds it. */
START_TEST(mapped_by_another)
{
	struct kmm_page *p = have(MOVABLE, 0);
	uint64_t at = pfn(p);

	fill(p, 0, 3);
	ck_assert_int_eq(peer_do(&a, PEER_KMAP, at, 0, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_KMAP, at, 0, 0), 0);
	ck_assert_int_eq(kmm_page_count(k, p), 2);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, at, 0, 0), -EPERM);
	ck_assert_int_eq(peer_do(&b, PEER_ADOPT, kmm_handle(k, p), 0, 0), -EBUSY);
	map(p); /* both at a time */
	unmap(p);
	give_back(p, 0);
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, at, 0, 3), 1);
	ck_assert_int_eq(peer_do(&a, PEER_KUNMAP, at, 0, 0), 0);
	ck_assert_int_eq(kmm_page_count(k, p), 1);
	ck_assert_int_eq(peer_do(&a, PEER_KUNMAP, at, 0, 0), 0);
	wait_until(kmm_page_count(k, p) == 0);
	/* the place may be anybody's now */
	ck_assert_ptr_null(kmm_kmap(k, p));
	ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(a_name_keeps_it)
{
	struct kmm_page *p = have(MOVABLE, 0);
	kmm_handle_t handle;

	fill(p, 0, 9);
	ck_assert_int_eq(kmm_publish(k, "high", p), 0);
	give_back(p, 0);
	handle = kmm_lookup(k, "high");
	ck_assert_uint_ne(handle, 0);
	ck_assert_ptr_eq(kmm_pointer(k, handle), p);
	ck_assert_int_eq(peer_do(&a, PEER_GET_HANDLE, handle, 0, 0), (int64_t)pfn(p));
	look(p, 0, 9);
	ck_assert_int_eq(kmm_unpublish(k, "high"), 0);
	ck_assert_int_eq(peer_do(&a, PEER_CHECK, pfn(p), 0, 9), 1);
	ck_assert_int_eq(peer_do(&a, PEER_PUT, pfn(p), 0, 0), 0);
	wait_until(kmm_page_count(k, p) == 0);
}
END_TEST

/* ---- ends ---- */

/* What a dead session had mapped is free, or its holders', and not pinned. */
START_TEST(death_with_mappings)
{
	int64_t kept = peer_do(&a, PEER_ALLOC, MOVABLE, 0, 0), other;
	struct kmm_page *p, *mine = have(MOVABLE, 0);
	kmm_handle_t handle;

	ck_assert_int_ge(kept, 0);
	ck_assert_int_eq(peer_do(&a, PEER_FILL, (uint64_t)kept, 0, 11), 0);
	p = kmm_pfn_to_page(k, (uint64_t)kept);
	handle = (kmm_handle_t)peer_do(&a, PEER_HANDLE, (uint64_t)kept, 0, 0);
	ck_assert_int_eq(kmm_get(k, p), 0);
	ck_assert_int_eq(peer_do(&a, PEER_KMAP, (uint64_t)kept, 0, 0), 0);
	for (int i = 0; i < 50; i++) {
		other = peer_do(&a, PEER_ALLOC, MOVABLE, i % 3, 0);
		ck_assert_int_ge(other, 0);
		ck_assert_int_eq(peer_do(&a, PEER_KMAP, (uint64_t)other, 0, 0), 0);
	}
	fill(mine, 0, 12);
	ck_assert_int_eq(peer_do(&a, PEER_KMAP, pfn(mine), 0, 0), 0);
	ck_assert_int_eq(kmm_page_count(k, mine), 2);
	peer_kill(&a);
	a.pid = 0;
	wait_until(daemon_count_sessions(&d) == 2);
	wait_until(kmm_page_count(k, mine) == 1);
	look(mine, 0, 12);
	look(p, 0, 11);
	ck_assert_int_eq(kmm_page_count(k, p), 1);
	ck_assert_ptr_eq(kmm_pointer(k, handle), p);
	ck_assert_int_eq(kmm_put(k, p), 0);
	wait_until(kmm_page_count(k, p) == 0);
	give_back(mine, 0);
}
END_TEST

/* A session that closes with mappings leaves none. */
START_TEST(close_with_mappings)
{
	struct kmm *second = session_start(&d);
	struct kmm_page *p = kmm_alloc_pages(second, MOVABLE, 0), *mine;
	kmm_handle_t handle;

	ck_assert_ptr_nonnull(p);
	block_fill(kmm_kmap(second, p), 0, 21);
	ck_assert_int_eq(kmm_publish(second, "left", p), 0);
	ck_assert_ptr_nonnull(kmm_kmap(second, kmm_alloc_pages(second, HIGH, 2)));
	ck_assert_int_eq(kmm_close(second), 0);
	handle = kmm_lookup(k, "left");
	mine = kmm_pointer(k, handle);
	ck_assert_ptr_nonnull(mine);
	look(mine, 0, 21);
	ck_assert_int_eq(kmm_unpublish(k, "left"), 0);
	wait_until(kmm_page_count(k, mine) == 0);
}
END_TEST

START_TEST(a_child_has_none)
{
	struct kmm_page *p = have(MOVABLE, 0);
	kmm_handle_t handle = kmm_handle(k, p);
	uint8_t *at = map(p);
	int status;
	pid_t pid;

	ck_assert_uint_ne(handle, 0);
	block_fill(at, 0, 31);
	pid = fork();
	if (pid == 0) {
		must(!kmm_kmap(k, p) && errno == EOWNERDEAD);
		must(kmm_kunmap(k, p) == -EOWNERDEAD);
		must(kmm_kunmap_local(k, at) == -EOWNERDEAD);
		must(write(-1, at, 1) < 0);
		must(kmm_close(k) == 0);
#ifndef __SANITIZE_THREAD__ /* which allows a forked child no thread, so no session */
		struct kmm *own = session_start(&d);
		struct kmm_page *q = kmm_pointer(own, handle);

		must(q && block_check(kmm_kmap(own, q), 0, 31));
		must(kmm_kunmap(own, q) == 0);
		must(kmm_close(own) == 0);
#endif
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert(block_check(at, 0, 31));
	unmap(p);
	give_back(p, 0);
}
END_TEST

/* ---- restarts ---- */

static unsigned long compacted(void)
{
	char *out, *at;
	unsigned long moved = 0;

	ck_assert_int_eq(daemon_ctl(&d, &out, (const char *const[]){ "--json", "compact", NULL }), 0);
	for (at = out; (at = strstr(at, "\"moved\":")); at++)
		moved += strtoul(at + 8, NULL, 10);
	free(out);
	return moved;
}

START_TEST(restart_with_mappings)
{
	static struct kmm_page *p[MANY];
	struct kmm_page *theirs = have(MOVABLE, 0), *block = have(HIGH, 3);
	uint8_t *at[4], *in_block;
	uint64_t was[4];

	ck_assert_uint_eq(kmm_alloc_pages_bulk(k, MOVABLE, 0, MANY, p), MANY);
	for (int i = 0; i < MANY; i++)
		fill(p[i], 0, (uint64_t)i);
	for (int i = 0; i < 4; i++) {
		at[i] = map(p[2 * i + 1]);
		was[i] = pfn(p[2 * i + 1]);
	}
	in_block = map(block + 5);
	block_fill(in_block, 0, 500);
	fill(theirs, 0, 41);
	ck_assert_int_eq(peer_do(&a, PEER_KMAP, pfn(theirs), 0, 0), 0);
	daemon_kill(&d);
	/* while it is away, and then */
	ck_assert(block_check(at[2], 0, 5));
	block_fill(at[2], 0, 5);
	unmap(p[7]);
	ck_assert_ptr_eq(map(p[7]), at[3]);
	look(p[100], 0, 100);
	daemon_wait_serving(&d);
	wait_until(daemon_is_clean(&d));
	/* every other page goes, and the rest is moved together: but for what is mapped */
	for (int i = 0; i < MANY; i += 2) {
		give_back(p[i], 0);
		p[i] = NULL;
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_gt(compacted(), 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(pfn(p[2 * i + 1]), was[i]);
		ck_assert(block_check(at[i], 0, (uint64_t)(2 * i + 1)));
		unmap(p[2 * i + 1]);
	}
	for (int i = 1; i < MANY; i += 2) {
		look(p[i], 0, (uint64_t)i);
		give_back(p[i], 0);
	}
	ck_assert(block_check(in_block, 0, 500));
	unmap(block + 5);
	give_back(block, 3);
	ck_assert_int_eq(kmm_page_count(k, theirs), 2);
	ck_assert_int_eq(peer_do(&a, PEER_KUNMAP, pfn(theirs), 0, 0), 0);
	wait_until(kmm_page_count(k, theirs) == 1);
	look(theirs, 0, 41);
	give_back(theirs, 0);
}
END_TEST

/* The end of another's page's mapping is told to the daemon when that is back. */
START_TEST(unmapped_while_the_daemon_is_away)
{
	int64_t at = peer_do(&a, PEER_ALLOC, MOVABLE, 0, 0);
	struct kmm_page *p = kmm_pfn_to_page(k, (uint64_t)at);
	pid_t serving = daemon_serving_pid(&d);

	ck_assert_ptr_nonnull(p);
	map(p);
	ck_assert_int_eq(kmm_page_count(k, p), 2);
	daemon_hold(&d);
	ck_assert_int_eq(daemon_kill(&d), serving);
	unmap(p);
	daemon_resume(&d);
	wait_until(daemon_serving_pid(&d) > 0 && daemon_serving_pid(&d) != serving);
	daemon_wait_serving(&d);
	wait_until(kmm_page_count(k, p) == 1);
	ck_assert_int_eq(peer_do(&a, PEER_FREE, (uint64_t)at, 0, 0), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_highmem");
	TCase *t;
	int i;

	for (i = 0; i < 2; i++) {
		t = i ? fixture_case(s, "huge pages", setup_huge) : fixture_case(s, "4 KiB pages", setup);
		tcase_add_loop_test(t, a_page, 0, 2);
		tcase_add_test(t, blocks_of_all_orders);
		tcase_add_test(t, many_at_once);
		tcase_add_test(t, when_it_runs_out);
		tcase_add_test(t, threads_share_mappings);
		tcase_add_loop_test(t, handed_on, 0, 3);
		tcase_add_test(t, mapped_by_another);
		tcase_add_test(t, a_name_keeps_it);
		tcase_add_test(t, death_with_mappings);
		tcase_add_test(t, close_with_mappings);
		tcase_add_test(t, a_child_has_none);
	}
	t = fixture_case(s, "restart", setup_supervised);
	tcase_add_test(t, restart_with_mappings);
	tcase_add_test(t, unmapped_while_the_daemon_is_away);
	return suite_run(s);
}
