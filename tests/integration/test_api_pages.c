/* SPDX-License-Identifier: MIT */
/*
 * Page blocks through a real daemon: every order, zones and flags, each refusal, bulk calls, and
 * what threads cache.
 */
#include <check.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/harness.h"

static struct daemon d;
static struct kmm *k;

static void setup(void)
{
	daemon_start(&d, NULL);
	k = session_start(&d);
}

static void teardown(void)
{
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(kmm_close(k), 0);
	ck_assert_int_eq(daemon_stop(&d), 0);
}

START_TEST(every_order)
{
	unsigned order = (unsigned)_i;
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, order);
	uint64_t pfn = kmm_page_to_pfn(k, page);
	unsigned char *p = kmm_page_address(k, page);

	ck_assert_ptr_nonnull(page);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(pfn & ((1u << order) - 1), 0);
	ck_assert_int_eq(kmm_page_order(k, page), (int)order);
	ck_assert_int_eq(kmm_page_count(k, page), 1);
	ck_assert_ptr_eq(kmm_pfn_to_page(k, pfn), page);
	ck_assert_ptr_eq(kmm_virt_to_page(k, p), page);
	/* an address inside names its own frame */
	ck_assert_uint_eq(kmm_page_to_pfn(k, kmm_virt_to_page(k, p + (KMM_PAGE_SIZE << order) - 1)),
			  pfn + (1u << order) - 1);
	block_fill(p, order, pfn);
	ck_assert(block_check(p, order, pfn));
	ck_assert_int_eq(kmm_free_pages(k, page, order), 0);
	ck_assert_int_eq(kmm_page_count(k, page), 0);

	p = kmm_get_free_pages(k, KMM_GFP_KERNEL, order);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(kmm_free_page_addr(k, p, order), 0);
}
END_TEST

START_TEST(blocks_do_not_overlap)
{
	struct kmm_page *page[200];

	for (unsigned i = 0; i < 200; i++) {
		page[i] = kmm_alloc_pages(k, KMM_GFP_KERNEL, i % 5);
		ck_assert_ptr_nonnull(page[i]);
		block_fill(kmm_page_address(k, page[i]), i % 5, 1000003u * i);
	}
	for (unsigned i = 0; i < 200; i++)
		ck_assert(block_check(kmm_page_address(k, page[i]), i % 5, 1000003u * i));
	for (unsigned i = 0; i < 200; i++)
		ck_assert_int_eq(kmm_free_pages(k, page[i], i % 5), 0);
}
END_TEST

/* ---- flags ---- */

START_TEST(flags_that_are_refused)
{
	static const struct {
		kmm_gfp_t gfp;
		unsigned order;
		int error;
	} refused[] = {
		{ KMM_GFP_KERNEL, KMM_MAX_ORDER + 1, EINVAL },
		{ KMM_GFP_KERNEL, UINT32_MAX, EINVAL },
		{ KMM_GFP_KERNEL | KMM_GFP_DMA | KMM_GFP_DMA32, 0, EINVAL },
		{ KMM_GFP_KERNEL | KMM_GFP_DMA | KMM_GFP_HIGHMEM, 0, EINVAL },
		{ KMM_GFP_KERNEL | KMM_GFP_DMA32 | KMM_GFP_HIGHMEM, 0, EINVAL },
		{ KMM_GFP_KERNEL | KMM_GFP_MOVABLE | KMM_GFP_RECLAIMABLE, 0, EINVAL },
		{ KMM_GFP_KERNEL | KMM_GFP_MEMALLOC, 0, EPERM },
		{ KMM_GFP_KERNEL | 0x10000000u, 0, EINVAL },
	};
	uint64_t before = daemon_free_pages(&d);

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct kmm_page *page;

		errno = 0;
		ck_assert_ptr_null(kmm_alloc_pages(k, refused[i].gfp, refused[i].order));
		ck_assert_msg(errno == refused[i].error, "row %zu: errno %d", i, errno);
		ck_assert_str_ne(kmm_error_text(), "");
		errno = 0;
		ck_assert_uint_eq(
			kmm_alloc_pages_bulk(k, refused[i].gfp, refused[i].order, 1, &page), 0);
		ck_assert_msg(errno == refused[i].error, "row %zu, bulk: errno %d", i, errno);
	}
	errno = 0;
	ck_assert_ptr_null(kmm_get_free_pages(k, KMM_GFP_HIGHUSER, 0));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(daemon_free_pages(&d), before);
}
END_TEST

START_TEST(flags_that_are_served)
{
	static const kmm_gfp_t served[] = {
		KMM_GFP_KERNEL,
		KMM_GFP_ATOMIC,
		KMM_GFP_NOWAIT,
		KMM_GFP_NOIO,
		KMM_GFP_NOFS,
		KMM_GFP_USER,
		KMM_GFP_HIGHUSER,
		KMM_GFP_HIGHUSER_MOVABLE,
		KMM_GFP_KERNEL | KMM_GFP_DMA,
		KMM_GFP_KERNEL | KMM_GFP_DMA32,
		KMM_GFP_KERNEL | KMM_GFP_MOVABLE,
		KMM_GFP_KERNEL | KMM_GFP_RECLAIMABLE,
		KMM_GFP_KERNEL | KMM_GFP_COMP,
		KMM_GFP_KERNEL | KMM_GFP_NORETRY,
		KMM_GFP_KERNEL | KMM_GFP_RETRY_MAYFAIL,
		KMM_GFP_KERNEL | KMM_GFP_NOFAIL,
		KMM_GFP_KERNEL | KMM_GFP_NOMEMALLOC,
		KMM_GFP_KERNEL | KMM_GFP_THISNODE,
		KMM_GFP_KERNEL | KMM_GFP_ACCOUNT,
		KMM_GFP_KERNEL | KMM_GFP_WRITE | KMM_GFP_NOWARN,
		0,
	};

	for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++)
		for (unsigned order = 0; order <= KMM_MAX_ORDER; order++) {
			struct kmm_page *page = kmm_alloc_pages(k, served[i], order);

			ck_assert_msg(page != NULL, "row %zu, order %u: errno %d, %s", i, order,
				      errno, kmm_error_text());
			if (served[i] & KMM_GFP_DMA)
				ck_assert_uint_lt(kmm_page_to_pfn(k, page),
						  (16u << 20) / KMM_PAGE_SIZE);
			ck_assert_int_eq(kmm_free_pages(k, page, order), 0);
		}
}
END_TEST

START_TEST(zeroed_when_asked)
{
	unsigned order = (unsigned)_i;

	/* some of these blocks are the dirty ones that were freed just before */
	for (int round = 0; round < 4; round++) {
		unsigned char *p = kmm_get_free_pages(k, KMM_GFP_KERNEL, order);

		ck_assert_ptr_nonnull(p);
		memset(p, 0xa5, KMM_PAGE_SIZE << order);
		ck_assert_int_eq(kmm_free_page_addr(k, p, order), 0);
		p = kmm_get_free_pages(k, KMM_GFP_KERNEL | KMM_GFP_ZERO, order);
		ck_assert_ptr_nonnull(p);
		for (size_t i = 0; i < KMM_PAGE_SIZE << order; i++)
			if (p[i])
				ck_abort_msg("byte %zu of order %u is 0x%x", i, order, p[i]);
		memset(p, 0x5a, KMM_PAGE_SIZE << order);
		ck_assert_int_eq(kmm_free_page_addr(k, p, order), 0);
	}
}
END_TEST

START_TEST(pfns_that_are_not_ours)
{
	errno = 0;
	ck_assert_ptr_null(
		kmm_pfn_to_page(k, (64u << 20) / KMM_PAGE_SIZE - 1)); /* the superblock */
	ck_assert_int_eq(errno, EPERM);
	errno = 0;
	ck_assert_ptr_null(kmm_pfn_to_page(k, UINT64_MAX - 1));
	ck_assert(errno == EPERM || errno == EINVAL);
	errno = 0;
	ck_assert_ptr_null(kmm_virt_to_page(k, &d));
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert(kmm_page_to_pfn(k, (struct kmm_page *)(void *)&d) == UINT64_MAX);
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* ---- frees that are refused ---- */

START_TEST(free_of_a_wrong_order)
{
	unsigned order = (unsigned)_i, wrong = order == KMM_MAX_ORDER ? 0 : order + 1;
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, order);

	ck_assert_ptr_nonnull(page);
	ck_assert_int_eq(kmm_free_pages(k, page, wrong), -EINVAL);
	ck_assert_str_ne(kmm_error_text(), "");
	ck_assert_int_eq(kmm_free_page_addr(k, kmm_page_address(k, page), wrong), -EINVAL);
	ck_assert_int_eq(kmm_free_pages(k, page, KMM_MAX_ORDER + 1), -EINVAL);
	ck_assert_int_eq(kmm_free_pages_bulk(k, wrong, 1, &page), -EINVAL);
	ck_assert_int_eq(kmm_page_count(k, page), 1);
	ck_assert_int_eq(kmm_free_pages(k, page, order), 0);
}
END_TEST

START_TEST(double_free)
{
	unsigned order = (unsigned)_i;
	uint64_t before = daemon_free_pages(&d);
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, order);
	const void *p = kmm_page_address(k, page);

	ck_assert_int_eq(kmm_free_pages(k, page, order), 0);
	ck_assert_int_eq(kmm_free_pages(k, page, order), -ENOENT);
	ck_assert_int_eq(kmm_free_page_addr(k, p, order), -ENOENT);
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, 1, &page), -ENOENT);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(kmm_free_pages(k, page, order), -ENOENT);
	ck_assert_uint_eq(daemon_free_pages(&d), before);
}
END_TEST

START_TEST(free_of_an_interior_page)
{
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 3);
	char *p = kmm_page_address(k, page);

	ck_assert_int_eq(kmm_free_pages(k, kmm_virt_to_page(k, p + KMM_PAGE_SIZE), 0), -EINVAL);
	ck_assert_int_eq(kmm_free_pages(k, kmm_virt_to_page(k, p + 4 * KMM_PAGE_SIZE), 2), -EINVAL);
	ck_assert_int_eq(kmm_free_page_addr(k, p + 1, 3), -EINVAL);
	ck_assert_int_eq(kmm_free_page_addr(k, p + KMM_PAGE_SIZE, 3), -EINVAL);
	ck_assert_int_eq(kmm_free_page_addr(k, &d, 3), -EINVAL);
	ck_assert_int_eq(kmm_free_pages(k, (struct kmm_page *)(void *)&d, 3), -EINVAL);
	ck_assert_int_eq(kmm_page_count(k, page), 1);
	ck_assert_int_eq(kmm_free_pages(k, page, 3), 0);
}
END_TEST

START_TEST(foreign_free)
{
	unsigned order = (unsigned)_i;
	struct kmm_page *page;
	struct peer p;
	int64_t pfn;

	peer_start(&p, &d);
	pfn = peer_do(&p, PEER_ALLOC, KMM_GFP_KERNEL, order, 0);
	ck_assert_int_ge(pfn, 0);
	ck_assert_int_eq(peer_do(&p, PEER_FILL, (uint64_t)pfn, order, 7), 0);
	page = kmm_pfn_to_page(k, (uint64_t)pfn);
	ck_assert_ptr_nonnull(page);
	ck_assert_int_eq(kmm_page_order(k, page), (int)order);
	ck_assert_int_eq(kmm_page_count(k, page), 1);
	ck_assert_int_eq(kmm_free_pages(k, page, order), -EPERM);
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, 1, &page), -EPERM);
	ck_assert_int_eq(kmm_free_page_addr(k, kmm_page_address(k, page), order), -EPERM);
	ck_assert(block_check(kmm_page_address(k, page), order, 7));
	ck_assert_int_eq(peer_do(&p, PEER_FREE, (uint64_t)pfn, order, 0), 0);
	ck_assert_int_eq(kmm_free_pages(k, page, order), -ENOENT);
	peer_stop(&p);
}
END_TEST

/* ---- bulk ---- */

static int by_address(const void *a, const void *b)
{
	const struct kmm_page *x = *(struct kmm_page *const *)a, *y = *(struct kmm_page *const *)b;

	return (x > y) - (x < y);
}

START_TEST(bulk_allocates_and_frees)
{
	static const unsigned orders[] = { 0, 1, 3, 4, 9 };
	static const size_t counts[] = { 1500, 700, 300, 100, 5 };
	unsigned order = orders[_i];
	size_t n = counts[_i];
	uint64_t before = daemon_free_pages(&d);
	struct kmm_page **page = calloc(n, sizeof(*page));

	ck_assert_uint_eq(kmm_alloc_pages_bulk(k, KMM_GFP_KERNEL, order, n, page), n);
	qsort(page, n, sizeof(*page), by_address);
	for (size_t i = 0; i < n; i++) {
		ck_assert(i == 0 || page[i] != page[i - 1]);
		ck_assert_int_eq(kmm_page_count(k, page[i]), 1);
		ck_assert_int_eq(kmm_page_order(k, page[i]), (int)order);
		block_fill(kmm_page_address(k, page[i]), order, i);
	}
	for (size_t i = 0; i < n; i++)
		ck_assert(block_check(kmm_page_address(k, page[i]), order, i));
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, n, page), 0);
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(kmm_page_count(k, page[i]), 0);
	ck_assert_uint_eq(daemon_free_pages(&d), before);
	free(page);
}
END_TEST

START_TEST(bulk_in_part_when_memory_ends)
{
	enum { N = 64 }; /* of 4 MiB: four pools full */
	struct kmm_page *page[N];
	size_t r;

	for (size_t i = 0; i < N; i++)
		page[i] = (struct kmm_page *)&d;
	errno = 0;
	r = kmm_alloc_pages_bulk(k, KMM_GFP_KERNEL, KMM_MAX_ORDER, N, page);
	ck_assert_uint_gt(r, 0);
	ck_assert_uint_lt(r, N);
	ck_assert_int_eq(errno, ENOMEM);
	for (size_t i = r; i < N; i++)
		ck_assert_ptr_eq(page[i], (struct kmm_page *)&d);
	ck_assert_int_eq(kmm_free_pages_bulk(k, KMM_MAX_ORDER, r, page), 0);
}
END_TEST

START_TEST(bulk_free_is_all_or_nothing)
{
	unsigned order = (unsigned)_i;
	struct kmm_page *page[4], *bad;
	struct peer p;
	int64_t pfn;

	peer_start(&p, &d);
	pfn = peer_do(&p, PEER_ALLOC, KMM_GFP_KERNEL, order, 0);
	ck_assert_uint_eq(kmm_alloc_pages_bulk(k, KMM_GFP_KERNEL, order, 4, page), 4);
	bad = page[2];

	page[2] = NULL;
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, 4, page), -EINVAL);
	page[2] = kmm_pfn_to_page(k, (uint64_t)pfn);
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, 4, page), -EPERM);
	page[2] = page[0]; /* twice in one call */
	ck_assert_int_lt(kmm_free_pages_bulk(k, order, 4, page), 0);
	page[2] = bad;
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(kmm_page_count(k, page[i]), 1);
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, 4, page), 0);
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, 4, page), -ENOENT);
	ck_assert_int_eq(kmm_free_pages_bulk(k, order, 0, page), 0);
	peer_stop(&p);
}
END_TEST

/* ---- memory ends ---- */

START_TEST(no_memory_and_reserves)
{
	static struct kmm_page *page[1 << 15];
	size_t n = 0, normal;
	struct kmm_page *p;

	while ((p = kmm_alloc_pages(k, KMM_GFP_NOWAIT, 0)) != NULL)
		page[n++] = p;
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_str_ne(kmm_error_text(), "");
	normal = n;
	/* atomic requests reach into what the watermark min keeps back */
	while ((p = kmm_alloc_pages(k, KMM_GFP_ATOMIC, 0)) != NULL)
		page[n++] = p;
	ck_assert_uint_gt(n, normal);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert(daemon_is_clean(&d));
	while (n > 0)
		ck_assert_int_eq(kmm_free_pages(k, page[--n], 0), 0);
	ck_assert_ptr_nonnull(p = kmm_alloc_pages(k, KMM_GFP_NOWAIT, 0));
	ck_assert_int_eq(kmm_free_pages(k, p, 0), 0);
}
END_TEST

/* ---- what threads cache ---- */

static void *free_in_other_thread(void *page)
{
	return (void *)(intptr_t)kmm_free_pages(k, page, 0);
}

START_TEST(freed_by_another_thread)
{
	struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0);
	uint64_t before;
	pthread_t t;
	void *r;

	ck_assert_int_eq(kmm_flush(k), 0);
	before = daemon_free_pages(&d);
	ck_assert_int_eq(pthread_create(&t, NULL, free_in_other_thread, page), 0);
	ck_assert_int_eq(pthread_join(t, &r), 0);
	ck_assert_ptr_null(r);
	ck_assert_int_eq(kmm_free_pages(k, page, 0), -ENOENT);
	/* the thread is gone, and its cache with it */
	ck_assert_uint_eq(daemon_free_pages(&d), before + 1);
}
END_TEST

static void *local_of_fresh_thread(void *arg)
{
	const char **wrong = arg;
	struct kmm_page *page;

	errno = 0;
	if (kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_LOCAL, 1) || errno != ENOMEM)
		*wrong = "a fresh thread has nothing cached";
	page = kmm_alloc_pages(k, KMM_GFP_KERNEL, 1);
	if (!page || kmm_free_pages(k, page, 1))
		*wrong = "an ordinary pair works";
	page = kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_LOCAL, 1);
	if (!page || kmm_free_pages(k, page, 1))
		*wrong = "what was just freed is cached";
	return NULL;
}

START_TEST(local_is_only_what_the_thread_caches)
{
	const char *wrong = NULL;
	pthread_t t;

	ck_assert_int_eq(pthread_create(&t, NULL, local_of_fresh_thread, &wrong), 0);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	ck_assert_msg(!wrong, "not so: %s", wrong);
}
END_TEST

START_TEST(flush_gives_back_what_is_cached)
{
	struct kmm_page *page[256];
	uint64_t granted = (uint64_t)daemon_session_number(&d, kmm_session_id(k), "charged");

	for (int i = 0; i < 256; i++)
		ck_assert_ptr_nonnull(page[i] = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0));
	for (int i = 0; i < 256; i++)
		ck_assert_int_eq(kmm_free_pages(k, page[i], 0), 0);
	ck_assert_int_gt(daemon_session_number(&d, kmm_session_id(k), "charged"), (long)granted);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "charged"), (long)granted);
	/* and everything goes on as before */
	ck_assert_ptr_nonnull(page[0] = kmm_alloc_pages(k, KMM_GFP_KERNEL, 0));
	ck_assert_int_eq(kmm_free_pages(k, page[0], 0), 0);
}
END_TEST

/* Any system call but exit_group ends the process from here on. (AddressSanitizer calls sigaltstack
 * before a function that does not return.) */
static void forbid_system_calls(void)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sigaltstack, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(rules) / sizeof(rules[0]), rules };

	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

START_TEST(a_cached_pair_makes_no_system_call)
{
	static const unsigned orders[] = { 0, 1, 2, 3, 9 };
	unsigned order = orders[_i];
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct kmm *own = session_start(&d);
		struct kmm_page *page = kmm_alloc_pages(own, KMM_GFP_KERNEL, order);

		must(page && kmm_free_pages(own, page, order) == 0);
		forbid_system_calls();
		for (int i = 0; i < 1000000; i++) {
			page = kmm_alloc_pages(own, KMM_GFP_KERNEL, order);
			if (!page || kmm_free_pages(own, page, order))
				_exit(1);
		}
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(status == 0, "order %u: the process ended with status 0x%x", order, status);
}
END_TEST

struct churn {
	pthread_t thread;
	unsigned seed;
	const char *wrong;
};

static void *churn(void *arg)
{
	struct churn *c = arg;
	struct kmm_page *page[64] = { NULL };
	unsigned order[64];

	for (int i = 0; i < 20000 && !c->wrong; i++) {
		unsigned s = (unsigned)rand_r(&c->seed) % 64;
		uint64_t *p;

		if (page[s]) {
			p = kmm_page_address(k, page[s]);
			if (*p != (uint64_t)(uintptr_t)&page[s])
				c->wrong = "a block was written by somebody else";
			if (kmm_free_pages(k, page[s], order[s]))
				c->wrong = "a free was refused";
			page[s] = NULL;
			continue;
		}
		order[s] = (unsigned)rand_r(&c->seed) % 5;
		page[s] = kmm_alloc_pages(k, KMM_GFP_KERNEL, order[s]);
		if (!page[s]) {
			c->wrong = "an allocation failed";
			continue;
		}
		p = kmm_page_address(k, page[s]);
		*p = (uint64_t)(uintptr_t)&page[s];
	}
	for (int s = 0; s < 64; s++)
		if (page[s] && kmm_free_pages(k, page[s], order[s]))
			c->wrong = "the last frees work";
	return NULL;
}

START_TEST(threads_share_a_session)
{
	uint64_t before = daemon_free_pages(&d);
	struct churn c[6] = { { .seed = 0 } };

	for (unsigned i = 0; i < 6; i++) {
		c[i].seed = i + 1;
		ck_assert_int_eq(pthread_create(&c[i].thread, NULL, churn, &c[i]), 0);
	}
	for (int i = 0; i < 6; i++) {
		ck_assert_int_eq(pthread_join(c[i].thread, NULL), 0);
		ck_assert_msg(!c[i].wrong, "thread %d: %s", i, c[i].wrong);
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_uint_eq(daemon_free_pages(&d), before);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pages");
	TCase *t = tcase_create("pages");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, every_order, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, blocks_do_not_overlap);
	tcase_add_test(t, flags_that_are_refused);
	tcase_add_test(t, flags_that_are_served);
	tcase_add_loop_test(t, zeroed_when_asked, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, pfns_that_are_not_ours);
	tcase_add_loop_test(t, free_of_a_wrong_order, 0, KMM_MAX_ORDER + 1);
	tcase_add_loop_test(t, double_free, 0, KMM_MAX_ORDER + 1);
	tcase_add_test(t, free_of_an_interior_page);
	tcase_add_loop_test(t, foreign_free, 0, KMM_MAX_ORDER + 1);
	tcase_add_loop_test(t, bulk_allocates_and_frees, 0, 5);
	tcase_add_test(t, bulk_in_part_when_memory_ends);
	tcase_add_loop_test(t, bulk_free_is_all_or_nothing, 0, 6);
	tcase_add_test(t, no_memory_and_reserves);
	tcase_add_test(t, freed_by_another_thread);
	tcase_add_test(t, local_is_only_what_the_thread_caches);
	tcase_add_test(t, flush_gives_back_what_is_cached);
	tcase_add_loop_test(t, a_cached_pair_makes_no_system_call, 0, 5);
	tcase_add_test(t, threads_share_a_session);
	suite_add_tcase(s, t);
	return suite_run(s);
}
