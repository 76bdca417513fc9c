/* SPDX-License-Identifier: MIT */
/*
 * vmalloc where memory is in pieces, short, limited, moved or taken over: fragmented pools,
 * compaction, mappings that fail, quotas, waiting, restarts. On the kinds of pools of areas.h.
 */
#include "tests/integration/areas.h"

/* ---- a fragmented pool ---- */

#define HOARD 16384u

struct hoard {
	struct kmm_page *page[HOARD];
	uint8_t order[HOARD];
	unsigned n;
	unsigned mapped; /* the first so many, which therefore do not move */
};

/* All blocks of the order that are to be had. */
static void hoard_order(struct hoard *h, struct kmm *of, unsigned order)
{
	unsigned before;

	do {
		before = h->n;
		while (h->n < HOARD && (h->page[h->n] = kmm_alloc_pages(
						of, KMM_GFP_NOWAIT | KMM_GFP_HIGHMEM, order)))
			h->order[h->n++] = (uint8_t)order;
		free(daemon_zone_frames(&d)); /* drops caches */
	} while (h->n > before);
}

/* All of the pool in single pages, then every second one free, and no two beside each other. `fixed`: nor
 * will there be, for compaction finds nothing that may move. */
static struct hoard *fragment(struct kmm *of, bool fixed)
{
	struct hoard *h = calloc(1, sizeof(*h));

	ck_assert_ptr_nonnull(h);
	hoard_order(h, of, 0);
	ck_assert_uint_gt(h->n, 10000);
	for (unsigned i = 0; i < h->n; i++)
		if (kmm_page_to_pfn(of, h->page[i]) % 2 == 0) {
			ck_assert_int_eq(kmm_free_pages(of, h->page[i], 0), 0);
			h->page[i] = NULL;
		}
	for (; fixed && h->mapped < h->n; h->mapped++)
		if (h->page[h->mapped])
			ck_assert_ptr_nonnull(kmm_kmap(of, h->page[h->mapped]));
	ck_assert_int_eq(kmm_flush(of), 0);
	for (unsigned order = KMM_MAX_ORDER; order > 0; order--) /* the reserves were whole */
		hoard_order(h, of, order);
	return h;
}

static void unfragment(struct kmm *of, struct hoard *h)
{
	for (unsigned i = 0; i < h->n; i++) {
		if (!h->page[i])
			continue;
		if (i < h->mapped)
			ck_assert_int_eq(kmm_kunmap(of, h->page[i]), 0);
		ck_assert_int_eq(kmm_free_pages(of, h->page[i], h->order[i]), 0);
	}
	free(h);
}

/* kmalloc of the size fails, vmalloc succeeds. Not in a pool of huge pages alone, where nothing smaller
 * than one can be mapped. */
START_TEST(fragmented_pool)
{
	static const size_t sizes[] = { 16 * KIB, 64 * KIB, 1 * MIB - 4096, 3 * MIB };
	struct kmm *other = session_start(&d);
	struct hoard *h = fragment(other, false);

	for (unsigned i = 0; i < 4; i++) {
		char *p;

		refused(kmm_kmalloc(k, sizes[i], KMM_GFP_NOWAIT), ENOMEM, "");
		p = area_new(sizes[i], i);
		ck_assert(object_check(p, sizes[i], i));
		ck_assert_int_eq(kmm_vfree(k, p), 0);
		/* kvmalloc finds the way by itself */
		p = kmm_kvmalloc(k, sizes[i], KMM_GFP_KERNEL);
		ck_assert_msg(p != NULL, "%s", kmm_error_text());
		ck_assert_int_eq(kmm_is_vmalloc_addr(k, p), 1);
		object_fill(p, sizes[i], i);
		ck_assert(object_check(p, sizes[i], i));
		ck_assert_int_eq(kmm_kvfree(k, p), 0);
	}
	ck_assert_int_eq(kmm_flush(k), 0);
	unfragment(other, h);
	ck_assert_int_eq(kmm_close(other), 0);
}
END_TEST

/* Pages of high memory that an area has stay where they are, also when they are mapped and unmapped by
 * themselves meanwhile; others around them move. */
START_TEST(compaction_moves_no_area)
{
	static const char *const compact[] = { "compact", NULL };
	struct kmm *other = session_start(&d);
	struct hoard *h = fragment(other, false);
	char *p[20];

	for (unsigned i = 0; i < 20; i++) {
		p[i] = area_new(20 * KIB, i);
		for (size_t at = 0; at < 20 * KIB; at += KMM_PAGE_SIZE) {
			struct kmm_page *page = kmm_vmalloc_to_page(k, p[i] + at);

			ck_assert_ptr_nonnull(kmm_kmap(k, page));
			ck_assert_int_eq(kmm_kunmap(k, page), 0);
		}
	}
	for (unsigned i = 0; i < h->n; i += 3)
		if (h->page[i]) {
			ck_assert_int_eq(kmm_free_pages(other, h->page[i], h->order[i]), 0);
			h->page[i] = NULL;
		}
	for (unsigned round = 0; round < 4; round++) {
		ck_assert_int_eq(daemon_ctl(&d, NULL, compact), 0);
		for (unsigned i = 0; i < 20; i++) {
			ck_assert(object_check(p[i], 20 * KIB, i));
			object_fill(p[i], 20 * KIB, i);
		}
	}
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_eq(kmm_vfree(k, p[i]), 0);
	unfragment(other, h);
	ck_assert_int_eq(kmm_close(other), 0);
}
END_TEST

/* Huge pages alone: a fragmented pool has none left, and says so. */
START_TEST(fragmented_huge_pool)
{
	struct kmm *other = session_start(&d);
	struct hoard *h = fragment(other, false);

	ck_assert_int_eq(kmm_set_timeout(k, 50), 0);
	refused(kmm_vmalloc(k, 64 * KIB), ETIMEDOUT, "512 pages");
	unfragment(other, h);
	ck_assert_int_eq(kmm_close(other), 0);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	ck_assert_int_eq(kmm_vfree(k, area_new(64 * KIB, 1)), 0);
}
END_TEST

/* The high zones serve small areas; when they are exhausted huge pages do. */
START_TEST(huge_pages_stand_in)
{
	char *p[14];
	unsigned rounded = 0;

	for (unsigned i = 0; i < 14; i++)
		p[i] = area_new(700 * KIB, i);
	for (unsigned i = 0; i < 14; i++) {
		rounded += kmm_page_order(k, kmm_vmalloc_to_page(k, p[i])) >= 9;
		ck_assert(object_check(p[i], 700 * KIB, i));
	}
	ck_assert_uint_gt(rounded, 0);
	ck_assert_uint_lt(rounded, 14);
	for (unsigned i = 0; i < 14; i++)
		ck_assert_int_eq(kmm_vfree(k, p[i]), 0);
}
END_TEST

/* ---- mappings that fail ---- */

START_TEST(failed_mappings_are_undone)
{
	struct kmm *other = session_start(&d);
	struct hoard *h = fragment(other, true);
	uint64_t free_before = daemon_free_pages(&d);
	int n;

	/* 40 pages in 40 pieces, and in fewer where the zones' ends left some in one */
	for (n = 1; n < 100; n++) {
		char *p;

		fail_after = n;
		p = kmm_vmalloc(k, 160 * KIB);
		if (p) {
			fail_after = 0;
			ck_assert_int_eq(kmm_vfree(k, p), 0);
			break;
		}
		ck_assert_int_eq(fail_after, 0);
		refused(p, ENOMEM, "cannot be mapped");
		wait_until(daemon_free_pages(&d) == free_before);
	}
	ck_assert_int_gt(n, 3);
	ck_assert_int_lt(n, 42);
	fail_after = 1;
	refused(kmm_alloc_stack(k, 1), ENOMEM, "cannot be mapped");
	ck_assert_int_eq(kmm_flush(k), 0);
	wait_until(daemon_free_pages(&d) == free_before);
	unfragment(other, h);
	ck_assert_int_eq(kmm_close(other), 0);
}
END_TEST

/* ---- quotas and waiting ---- */

static void setup_quota(void)
{
	fixture_setup_configured("[limits]\npages = 1024\n", NULL);
}

START_TEST(quotas_count_areas)
{
	char *p = area_new(3 * MIB, 1), *q;

	refused(kmm_vmalloc(k, 2 * MIB), EDQUOT, "768 of the 1024 pages");
	q = area_new(1 * MIB, 2);
	refused(kmm_vmalloc(k, 1), EDQUOT, "1024 of the 1024 pages");
	refused(kmm_alloc_stack(k, 0), EDQUOT, "1024 of the 1024 pages");
	ck_assert(object_check(p, 3 * MIB, 1) && object_check(q, 1 * MIB, 2));
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	/* What is kept counts, until it stands in the way. */
	p = area_new(2 * MIB, 3);
	ck_assert(object_check(q, 1 * MIB, 2));
	ck_assert_int_eq(kmm_vfree(k, p), 0);
	ck_assert_int_eq(kmm_vfree(k, q), 0);
}
END_TEST

static void *vmalloc_thread(void *size)
{
	return kmm_vmalloc(k, *(size_t *)size);
}

START_TEST(waits_for_memory)
{
	size_t size = 3 * MIB;
	int64_t n = take_by(PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0);
	pthread_t t;
	void *p;

	ck_assert_int_gt(n, 1000);
	/* The high zone is nobody's so far: one area takes it. */
	while (kmm_kvmalloc(k, 4 * MIB + 1, KMM_GFP_NOWAIT)) /* never: it may not wait */
		;
	ck_assert_int_eq(kmm_set_timeout(k, 50), 0);
	for (unsigned i = 0; i < 16; i++)
		if (!kmm_vmalloc(k, 1 * MIB))
			break;
	refused(kmm_vmalloc(k, size), ETIMEDOUT, "the deadline passed");
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);

	pthread_create(&t, NULL, vmalloc_thread, &size);
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == 1);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, 2000, 0, 0), 0);
	pthread_join(t, &p);
	ck_assert_ptr_nonnull(p);
	object_fill(p, size, 7);
	ck_assert(object_check(p, size, 7));
	ck_assert_int_eq(kmm_vfree(k, p), 0);
}
END_TEST

START_TEST(waits_until_cancelled)
{
	size_t size = 20 * MIB;
	pthread_t t;
	void *p;

	take_by(PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0);
	pthread_create(&t, NULL, vmalloc_thread, &size);
	cancel_when_parked(1);
	pthread_join(t, &p);
	ck_assert_ptr_null(p);
}
END_TEST

/* What freed areas keep is nobody's when others need it, and is unmapped then. */
START_TEST(kept_areas_serve_others)
{
	char *p[4];
	int64_t n, pfn;

	for (unsigned i = 0; i < 4; i++)
		p[i] = area_new(3 * MIB, i);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(kmm_vfree(k, p[i]), 0);
	ck_assert(can_be_read(p[0]) && can_be_read(p[3]));
	/* All that is free; then somebody who may wait. */
	n = peer_do(&rich, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0);
	ck_assert_int_gt(n, 9000);
	pfn = peer_do(&poor, PEER_ALLOC, KMM_GFP_KERNEL, 6, 0);
	ck_assert_int_ge(pfn, 0);
	wait_until(!can_be_read(p[0]) && !can_be_read(p[3]));
	ck_assert_int_eq(peer_do(&poor, PEER_FREE, (uint64_t)pfn, 6, 0), 0);
	ck_assert_int_eq(peer_do(&rich, PEER_RELEASE, (uint64_t)n, 0, 0), 0);
	for (unsigned i = 0; i < 4; i++) {
		p[i] = area_new(3 * MIB, i);
		ck_assert_int_eq(kmm_vfree(k, p[i]), 0);
	}
}
END_TEST

/* ---- restart ---- */

static void setup_supervised_huge(void)
{
	static const char *const args[] = { "--backing", "hugetlb", NULL };

	daemon_start_supervised(&d, args);
	fixture_begin();
}

START_TEST(restart_under_areas)
{
	char *p[SOME_SIZES], *kept;

	for (size_t i = 0; i < SOME_SIZES - 1; i++)
		p[i] = area_new(some_sizes[i], i);
	kept = area_new(20 * KIB, 1);
	ck_assert_int_eq(kmm_vfree(k, kept), 0);
	fixture_restart();
	for (size_t i = 0; i < SOME_SIZES - 1; i++)
		ck_assert(object_check(p[i], some_sizes[i], i));
	kept = area_new(20 * KIB, 2); /* another one: the start collected what was kept */
	for (size_t i = 0; i < SOME_SIZES - 1; i++) {
		ck_assert(object_check(p[i], some_sizes[i], i));
		ck_assert_int_eq(kmm_vfree(k, p[i]), 0);
	}
	ck_assert(object_check(kept, 20 * KIB, 2));
	fixture_restart();
	ck_assert_int_eq(kmm_vfree(k, kept), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmalloc, memory");
	TCase *small = fixture_case_long(s, "4k", setup_4k);
	TCase *hugetlb = fixture_case_long(s, "hugetlb", setup_hugetlb);
	TCase *huge = fixture_case(s, "huge", setup_huge);
	TCase *quota = fixture_case(s, "quotas", setup_quota);
	TCase *restart = fixture_case(s, "restart", fixture_setup_supervised);
	TCase *again = fixture_case(s, "restart, hugetlb", setup_supervised_huge);

	tcase_add_test(small, fragmented_pool);
	tcase_add_test(small, compaction_moves_no_area);
	tcase_add_test(small, failed_mappings_are_undone);
	tcase_add_test(small, waits_for_memory);
	tcase_add_test(small, waits_until_cancelled);
	tcase_add_test(small, kept_areas_serve_others);
	tcase_add_test(hugetlb, fragmented_pool);
	tcase_add_test(hugetlb, compaction_moves_no_area);
	tcase_add_test(hugetlb, failed_mappings_are_undone);
	tcase_add_test(hugetlb, huge_pages_stand_in);
	tcase_add_test(huge, fragmented_huge_pool);
	tcase_add_test(quota, quotas_count_areas);
	tcase_add_test(restart, restart_under_areas);
	tcase_add_test(again, restart_under_areas);
	return suite_run(s);
}
