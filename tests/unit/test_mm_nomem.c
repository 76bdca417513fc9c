/* SPDX-License-Identifier: MIT */
/*
 * What mm/ does when the process has no ordinary memory left: every allocation that it makes is
 * failed in turn, alone and with all that follow. Constructors must give back what they had and
 * leave the result alone; per-CPU lists that cannot grow must pass blocks on to the zone.
 *
 * The C library's allocator is replaced by one that counts and fails on demand; sanitizers bring
 * their own, so in their builds the failures are not injected and the rest still holds.
 */
#include <check.h>

#include "tests/suite.h"
#include "tests/unit/test_mm.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define INJECT 1
#else
#define INJECT 0
#endif

static long countdown = -1; /* allocations until the failure; -1: none */
static bool persistent;     /* and all after it */
static long live;           /* blocks allocated and not freed */
static bool failed;

#if INJECT
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static bool fails(void)
{
	if (countdown < 0)
		return false;
	if (countdown > 0) {
		countdown--;
		return false;
	}
	if (!persistent)
		countdown = -1;
	failed = true;
	return true;
}

static void *counted(void *p)
{
	live += p != NULL;
	return p;
}

void *malloc(size_t size)
{
	return fails() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : counted(__libc_calloc(n, size));
}

void *aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : counted(__libc_memalign(align, size));
}

void free(void *p)
{
	live -= p != NULL;
	__libc_free(p);
}
#endif

static struct test_pool pool;

static void prepare(void)
{
	struct mm_config c;

	mm_config_default(&c, 16384);
	c.nodes = 2;
	c.cpus = 2;
	test_pool_prepare(&pool, &c);
}

/* Fails the n-th allocation; returns whether there was one. */
static bool construct(long n, bool all_after)
{
	struct mm_domain *d = (struct mm_domain *)&pool; /* any value that must stay */
	struct mm *mm = (struct mm *)&pool;
	long before = live;
	int err;

	failed = false;
	persistent = all_after;
	countdown = n;
	err = mm_init(&mm, &pool.config, pool.memory, &pool.mb);
	if (err == 0) {
		err = mm_domain_new(&d, mm, TEST_DOMAIN);
		countdown = -1;
		ck_assert((err == 0) == !failed);
		if (err)
			ck_assert_ptr_eq(d, &pool);
		else
			mm_domain_free(d);
		mm_free(mm);
	} else {
		countdown = -1;
		ck_assert(failed);
		ck_assert_ptr_eq(mm, &pool);
	}
	ck_assert(err == 0 || err == -ENOMEM);
	ck_assert_int_eq(live, before);
	return failed;
}

START_TEST(constructors_give_back_what_they_had)
{
	prepare();
	for (int all_after = 0; all_after < 2; all_after++) {
		long n = 0;

		while (construct(n, all_after))
			n++;
		/* tables, zones, lists, hints, per-CPU sets of each zone */
		ck_assert_int_ge(n, INJECT ? 12 : 0);
	}
	free(pool.memory);
}
END_TEST

START_TEST(lists_that_cannot_grow_pass_blocks_on)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = 0 };
	static pfn_t pfn[4096];
	struct mm_pcp_stats s;
	uint32_t got = 0;

	prepare();
	test_pool_start(&pool);
	test_pool_online(&pool);
	persistent = true;
	countdown = 0; /* from here on libcheck could not allocate either: no checks */
	while (got < 4096 && mm_alloc_pages(pool.domain, &r, &pfn[got]) == 0)
		got++;
	for (uint32_t i = 0; i < got; i++)
		mm_free_pages(pool.domain, 0, pfn[i], MM_FREE_CACHED);
	countdown = -1;
	ck_assert_uint_eq(got, 4096);
	ck_assert(failed || !INJECT);
	mm_pcp_stats(pool.domain, 0, ZONE_DMA32, 0, &s);
	if (INJECT)
		ck_assert_uint_eq(s.count, 0);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	/* and with memory again they work again */
	for (uint32_t i = 0; i < 4096; i++)
		ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn[i]), 0);
	mm_free_pages_bulk(pool.domain, 0, 4096, pfn, MM_FREE_CACHED);
	mm_pcp_stats(pool.domain, 0, ZONE_DMA32, 0, &s);
	ck_assert_uint_gt(s.count, 0);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

START_TEST(a_section_is_not_isolated)
{
	struct mm_isolation *isolation = (struct mm_isolation *)&pool; /* any value that must stay */
	struct mm_zone_stats s;
	int err;

	prepare();
	test_pool_start(&pool);
	test_pool_online(&pool);
	if (INJECT) {
		persistent = false;
		countdown = 0;
		err = mm_section_isolate(&isolation, pool.domain, (section_id_t){ 5 });
		ck_assert_int_eq(err, -ENOMEM);
		ck_assert_ptr_eq(isolation, &pool);
		mm_zone_stats(pool.domain, 0, ZONE_DMA32, &s);
		ck_assert_uint_eq(s.free_isolated, 0);
		ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	}
	ck_assert_int_eq(mm_section_isolate(&isolation, pool.domain, (section_id_t){ 5 }), 0);
	ck_assert_uint_eq(mm_section_busy(isolation), 0);
	mm_section_unisolate(isolation);
	test_pool_close(&pool);
}
END_TEST

START_TEST(the_validator_says_that_it_could_not)
{
	size_t reports = 0;

	prepare();
	test_pool_start(&pool);
	test_pool_online(&pool);
	for (long n = 0; INJECT && n < 2; n++) {
		size_t findings;

		persistent = false;
		countdown = n;
		findings = mm_validate(pool.domain, test_count, &reports);
		ck_assert_uint_eq(findings, 1);
		ck_assert_uint_eq(reports, (size_t)n + 1);
	}
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_nomem");
	TCase *t = tcase_create("nomem");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, constructors_give_back_what_they_had);
	tcase_add_test(t, lists_that_cannot_grow_pass_blocks_on);
	tcase_add_test(t, a_section_is_not_isolated);
	tcase_add_test(t, the_validator_says_that_it_could_not);
	suite_add_tcase(s, t);
	return suite_status(s);
}
