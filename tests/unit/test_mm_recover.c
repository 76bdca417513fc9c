/* SPDX-License-Identifier: MIT */
/*
 * Recovery and validation: what a new process makes of the persistent words, which of them it
 * refuses, and that the validator sees each kind of damage.
 */
#include <check.h>

#include "mm/pcp.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

static struct test_pool pool;

static void open_pool(void)
{
	struct mm_config c;

	mm_config_default(&c, 16384); /* 64 MiB */
	c.cpus = 2;
	test_pool_prepare(&pool, &c);
	ck_assert_int_eq(memblock_reserve(&pool.mb, 20u << 20, 4096 * 3, "hole"), 0);
	test_pool_start(&pool);
	test_pool_online(&pool);
}

static pfn_t get(gfp_t gfp, uint32_t order, uint32_t tag)
{
	struct mm_request r = { .gfp = gfp, .order = order, .cpu = 0, .tag = tag };
	pfn_t pfn;

	ck_assert_int_eq(mm_alloc_pages(pool.domain, &r, &pfn), 0);
	return pfn;
}

static bool keep_odd(void *ctx, pfn_t pfn, const struct mm_block *b)
{
	(void)ctx;
	(void)pfn;
	return b->tag % 2;
}

START_TEST(what_is_kept_stays_the_rest_is_free)
{
	pfn_t pfn[40];
	uint64_t kept = 0;

	open_pool();
	for (uint32_t i = 0; i < 40; i++)
		pfn[i] = get(GFP_KERNEL, i % 8, i);
	test_pool_stop(&pool);
	test_pool_start(&pool);
	ck_assert_int_eq(mm_domain_recover(pool.domain, keep_odd, test_report, NULL), 0);
	for (uint32_t i = 0; i < 40; i++) {
		struct mm_block b;

		ck_assert_int_eq(mm_block_get(pool.mm, pfn[i], &b), i % 2);
		if (i % 2) {
			ck_assert_uint_eq(b.order, i % 8);
			ck_assert_uint_eq(b.tag, i);
			kept += 1u << b.order;
		}
	}
	ck_assert_uint_eq(mm_nr_free(pool.domain), 16384 - 3 - kept);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

START_TEST(everything_kept_can_be_done_again)
{
	struct mm_zone_stats a, b;

	open_pool();
	for (uint32_t i = 0; i < 100; i++)
		get(i % 3 ? GFP_KERNEL : GFP_KERNEL | __GFP_MOVABLE, i % 5, 1);
	ck_assert_int_eq(mm_domain_recover(pool.domain, keep_odd, test_report, NULL), 0);
	mm_zone_stats(pool.domain, 0, ZONE_DMA32, &a);
	test_pool_stop(&pool);
	test_pool_start(&pool);
	ck_assert_int_eq(mm_domain_recover(pool.domain, NULL, test_report, NULL), 0);
	mm_zone_stats(pool.domain, 0, ZONE_DMA32, &b);
	ck_assert_mem_eq(a.nr_free_type, b.nr_free_type, sizeof(a.nr_free_type));
	ck_assert_mem_eq(a.pageblocks, b.pageblocks, sizeof(a.pageblocks));
	ck_assert_uint_eq(a.managed, b.managed);
	test_pool_close(&pool);
}
END_TEST

START_TEST(sections_of_others_are_left_alone)
{
	open_pool();
	mm_section_set(pool.mm, (section_id_t){ 3 }, SECTION_RESERVE, 0, 0, 2);
	mm_section_set(pool.mm, (section_id_t){ 5 }, SECTION_ONLINE, TEST_DOMAIN + 1, 0, 2);
	pool.mm->page[5 * 1024].state = page_word(0, 0, TEST_DOMAIN + 1, 0);
	ck_assert_int_eq(mm_domain_recover(pool.domain, keep_odd, test_report, NULL), 0);
	ck_assert_uint_eq(mm_nr_free(pool.domain), 16384 - 2048); /* the hole was in 5 */
	ck_assert_uint_eq(pool.mm->page[5 * 1024].state, page_word(0, 0, TEST_DOMAIN + 1, 0));
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

/* Words of frames 100…, in section 0; each alone must be refused and nothing changed. */
static const struct {
	pfn_t pfn;
	uint64_t word;
	const char *what;
} nonsense[] = {
	{ 100, 2, "not allocated, but not 0" },
	{ 100, (uint64_t)1 << 46 | 1 | (uint64_t)TEST_DOMAIN << 28, "unknown bits" },
	{ 100, (uint64_t)1 << 63 | 1 | (uint64_t)TEST_DOMAIN << 28, "unknown bits" },
	{ 0, 1 | 11 << 1 | (uint64_t)TEST_DOMAIN << 28, "impossible order" },
	{ 100, 1 | 3 << 1 | (uint64_t)TEST_DOMAIN << 28, "not aligned" },
	{ 100, 1 | 3 << 5 | (uint64_t)TEST_DOMAIN << 28, "impossible migrate type" },
	{ 100, 1 | (uint64_t)(TEST_DOMAIN + 1) << 28, "of another domain" },
	{ 2050, 1 | (uint64_t)TEST_DOMAIN << 28, "inside another allocated block" },
	{ 5 * 1024 + 1, 1 | (uint64_t)TEST_DOMAIN << 28, "reserved or absent" },
	{ 5 * 1024, 1 | 3 << 1 | (uint64_t)TEST_DOMAIN << 28, "reserved or absent" },
};

static char last_report[200];

static void remember(void *ctx, const char *text)
{
	if (++*(size_t *)ctx == 1)
		snprintf(last_report, sizeof(last_report), "%s", text);
}

START_TEST(nonsense_is_refused_and_nothing_changes)
{
	size_t reports = 0, bytes;
	void *before;

	open_pool();
	pool.mm->page[2048].state = page_word(2, 0, TEST_DOMAIN, 2); /* would not be kept */
	ck_assert_int_eq(mm_domain_recover(pool.domain, NULL, test_report, NULL), 0);
	pool.mm->page[nonsense[_i].pfn].state = nonsense[_i].word;
	bytes = mm_persistent_bytes(&pool.config);
	before = malloc(bytes);
	ck_assert_ptr_nonnull(before);
	memcpy(before, pool.memory, bytes);
	test_pool_stop(&pool);
	test_pool_start(&pool);
	ck_assert_int_eq(mm_domain_recover(pool.domain, keep_odd, remember, &reports), -EUCLEAN);
	ck_assert_uint_ge(reports, 2); /* each finding, and how many */
	ck_assert_msg(strstr(last_report, nonsense[_i].what), "'%s' lacks '%s'", last_report,
	              nonsense[_i].what);
	ck_assert_mem_eq(before, pool.memory, bytes);
	ck_assert_uint_eq(mm_nr_free(pool.domain), 0); /* nothing is served */
	free(before);
	test_pool_close(&pool);
}
END_TEST

START_TEST(impossible_pageblocks_are_refused)
{
	size_t reports = 0;

	open_pool();
	mm_pageblock_set_type(pool.mm, 512, MIGRATE_TYPES);
	ck_assert_int_eq(mm_domain_recover(pool.domain, NULL, test_count, &reports), -EUCLEAN);
	ck_assert_uint_eq(reports, 2);
	/* an isolation cut short is not damage */
	mm_pageblock_set_type(pool.mm, 512, MIGRATE_ISOLATE);
	ck_assert_int_eq(mm_domain_recover(pool.domain, NULL, test_report, NULL), 0);
	ck_assert_uint_eq(mm_pageblock_type(pool.mm, 512), MIGRATE_MOVABLE);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

START_TEST(online_refuses_sections_in_use)
{
	struct mm_config c;

	mm_config_default(&c, 16384);
	test_pool_prepare(&pool, &c);
	test_pool_start(&pool);
	pool.mm->page[1500].state = page_word(0, 0, TEST_DOMAIN, 0);
	ck_assert_int_eq(mm_domain_online(pool.domain, (section_id_t){ 1 }), -EBUSY);
	ck_assert_int_eq(mm_domain_online(pool.domain, (section_id_t){ 2 }), 0);
	ck_assert_uint_eq(mm_nr_free(pool.domain), 1024);
	test_pool_close(&pool);
}
END_TEST

START_TEST(the_high_atomic_reserve_survives)
{
	struct mm_zone_stats s;
	struct mm_config c;
	struct zone *z;
	pfn_t pfn;

	mm_config_default(&c, 131072);
	test_pool_open(&pool, &c);
	z = &pool.domain->zones[ZONE_DMA32];
	pfn = get(GFP_KERNEL, 4, 1);
	highatomic_reserve(z, pfn, 4);
	test_pool_stop(&pool);
	test_pool_start(&pool);
	ck_assert_int_eq(mm_domain_recover(pool.domain, keep_odd, test_report, NULL), 0);
	mm_zone_stats(pool.domain, 0, ZONE_DMA32, &s);
	ck_assert_uint_eq(s.nr_highatomic, 512);
	ck_assert_uint_eq(zone_free_highatomic(&pool.domain->zones[ZONE_DMA32]), 496);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	test_pool_close(&pool);
}
END_TEST

/* Damage to the volatile structures, one kind each. */
static void damage(uint32_t kind, struct zone *z, pfn_t allocated)
{
	struct mm *mm = pool.mm;
	struct free_list *l = &z->list[10][MIGRATE_MOVABLE];
	struct pcp *p = &z->pcp[0];
	struct pcp_list *pl = &p->list[pcp_list_index(0, MIGRATE_UNMOVABLE)];

	switch (kind) {
	case 0: /* a block counted that is not there */
		l->nr++;
		break;
	case 1: /* a link back to nowhere */
		mm_link(mm, mm_link(mm, l->head, 10)->next, 10)->prev = 5;
		break;
	case 2: /* a block of which the list has lost hold */
		l->head = mm_link(mm, l->head, 10)->next;
		mm_link(mm, l->head, 10)->prev = PFN_NONE;
		l->nr--;
		relaxed_sub(&z->nr_free, 1024);
		break;
	case 3:
		relaxed_add(&z->nr_free, 1);
		break;
	case 4: /* free and allocated */
		page_commit(&mm->page[l->head], page_word(0, 0, TEST_DOMAIN, 0));
		break;
	case 5: /* lost: neither */
		page_commit(&mm->page[allocated], 0);
		break;
	case 6: /* cached twice */
		pl->slot[pl->bottom & pl->mask] = pl->slot[(pl->bottom + 1) & pl->mask];
		break;
	case 7:
		relaxed_add(&p->count, 1);
		break;
	case 8: /* the wrong mark */
		*mm_mark(mm, l->head, 10) ^= 1u << BUDDY_MT_SHIFT;
		break;
	case 9: /* marked free, on no list */
		mm->mark[allocated] = BUDDY_FREE | MIGRATE_UNMOVABLE << BUDDY_MT_SHIFT;
		break;
	case 10: /* pageblock of another type than its free block */
		mm_pageblock_set_type(mm, l->head, MIGRATE_RECLAIMABLE);
		break;
	case 11:
		z->pageblocks[MIGRATE_MOVABLE]--;
		break;
	case 12:
		relaxed_store(&z->nonempty[MIGRATE_MOVABLE], 0);
		break;
	case 13: /* a word that no allocation writes */
		page_commit(&mm->page[allocated],
		            page_peek(&mm->page[allocated]) | (uint64_t)1 << 50);
		break;
	case 14: /* buddies that should have merged */
		buddy_list_del(z, z->list[10][MIGRATE_MOVABLE].tail, 10, MIGRATE_MOVABLE);
		break;
	case 15:
		relaxed_add(&z->managed, 1);
		break;
	case 16: /* a list that runs out of the pool */
		mm_link(mm, l->head, 10)->next = 1u << 30;
		break;
	case 17:
		mm_section_set(mm, mm_section_of(mm, l->head), SECTION_RESERVE, 0, 0, 0);
		break;
	case 18:
		relaxed_add(&z->nr_reserved_highatomic, 512);
		break;
	case 19: /* a slot outside the pool */
		pl->slot[pl->bottom & pl->mask] = 1u << 30;
		break;
	case 20:
		relaxed_store(&z->wmark[WMARK_LOW], 0);
		break;
	default:
		ck_abort_msg("no such damage");
	}
}
#define NR_DAMAGES 21

START_TEST(the_validator_sees_each_damage)
{
	size_t reports = 0, findings;
	pfn_t pfn, cached[2];
	struct zone *z;

	open_pool();
	z = &pool.domain->zones[ZONE_DMA32];
	pfn = get(GFP_KERNEL, 0, 1);
	/* two on a per-CPU list */
	cached[0] = get(GFP_KERNEL, 0, 1);
	cached[1] = get(GFP_KERNEL, 0, 1);
	mm_free_pages(pool.domain, 0, cached[0], MM_FREE_CACHED);
	mm_free_pages(pool.domain, 0, cached[1], MM_FREE_CACHED);
	ck_assert_uint_eq(mm_validate(pool.domain, test_report, NULL), 0);
	if (_i == 14) {
		/* split by hand what is whole */
		pfn_t tail = z->list[10][MIGRATE_MOVABLE].tail;

		damage(14, z, pfn);
		buddy_list_add(z, tail, 9, MIGRATE_MOVABLE, false);
		buddy_list_add(z, tail + 512, 9, MIGRATE_MOVABLE, false);
	} else {
		damage((uint32_t)_i, z, pfn);
	}
	findings = mm_validate(pool.domain, test_count, &reports);
	ck_assert_uint_gt(findings, 0);
	ck_assert_uint_eq(findings, reports);
	test_pool_close(&pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_recover");
	TCase *t = tcase_create("recover");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_is_kept_stays_the_rest_is_free);
	tcase_add_test(t, everything_kept_can_be_done_again);
	tcase_add_test(t, sections_of_others_are_left_alone);
	tcase_add_loop_test(t, nonsense_is_refused_and_nothing_changes, 0,
	                    sizeof(nonsense) / sizeof(nonsense[0]));
	tcase_add_test(t, impossible_pageblocks_are_refused);
	tcase_add_test(t, online_refuses_sections_in_use);
	tcase_add_test(t, the_high_atomic_reserve_survives);
	tcase_add_loop_test(t, the_validator_sees_each_damage, 0, NR_DAMAGES);
	suite_add_tcase(s, t);
	return suite_status(s);
}
