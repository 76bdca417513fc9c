/* SPDX-License-Identifier: MIT */
/*
 * Compaction against a model: who is where is an array here, as the daemon's ledger is there.
 *
 *     thing i  ──►  frame[i]         one frame each, tag i + 1
 *     holder[pfn] = i + 1, 0: none   the same the other way round
 *
 * The mover moves a thing by two stores into these, after it has claimed the source; it refuses at
 * random, and things that are pinned for good. After every step the validator walks the structures
 * and every thing must be found where the model says. A death is the persistent memory as it is at
 * that point and nothing else: the pool is rebuilt from it, keeping what the model holds.
 *
 *     zones of the pool: Normal (sections 0, 1)   HighMem (2 to 5)   Movable (6, 7)
 */
#include <check.h>
#include <setjmp.h>

#include "mm/compaction.h"
#include "mm/vmstat.h"
#include "mm/zone.h"
#include "tests/suite.h"
#include "tests/unit/test_mm.h"

#define SECTION_FRAMES (1u << MAX_PAGE_ORDER)
#define FRAMES (8 * SECTION_FRAMES)
#define HIGH_START (2 * SECTION_FRAMES)
#define HIGH_FRAMES (4 * SECTION_FRAMES)

enum death { DEATH_NONE, DEATH_BEFORE_WORD, DEATH_BEFORE, DEATH_COMMITTED, DEATH_CLAIMED, DEATH_CLEARED, DEATH_NR };

struct model {
	struct test_pool pool;
	pfn_t frame[FRAMES];
	uint32_t holder[FRAMES];
	bool pinned[FRAMES];
	uint32_t nr;
	uint32_t refuse; /* one of so many moves; 0: none */
	uint64_t moves;  /* so far */
	uint64_t random;
	enum death death;
	uint64_t die_at; /* that move */
	jmp_buf died;
};

static struct model m;

static uint32_t draw(uint32_t n)
{
	m.random = m.random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(m.random >> 33) % n;
}

static void check_things(void)
{
	ck_assert_uint_eq(mm_validate(m.pool.domain, test_report, NULL), 0);
	for (uint32_t i = 0; i < m.nr; i++) {
		struct mm_block b;

		if (m.frame[i] == PFN_NONE)
			continue;
		/* not by ck_assert: each of these is a system call */
		if (!mm_block_get(m.pool.mm, m.frame[i], &b) || b.tag != i + 1 || b.order != 0 ||
		    m.holder[m.frame[i]] != i + 1)
			ck_abort_msg("thing %u is not at frame %u", i, m.frame[i]);
	}
}

static uint32_t things(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m.nr; i++)
		n += m.frame[i] != PFN_NONE;
	return n;
}

static bool look(void *ctx, pfn_t from)
{
	(void)ctx;
	/* a thing, or a block that the test allocated without noting it */
	return m.holder[from] != 0 && !m.pinned[m.holder[from] - 1];
}

static bool mover(void *ctx, pfn_t from, pfn_t to)
{
	enum death death = ++m.moves == m.die_at ? m.death : DEATH_NONE;
	uint32_t i = m.holder[from] - 1;
	struct mm_block b;

	(void)ctx;
	if (m.holder[from] == 0 || m.holder[to] || to <= from ||
	    m.pool.mm->owner[to / SECTION_FRAMES] != m.pool.domain)
		ck_abort_msg("frame %u was to move to %u", from, to);
	if (mm_block_get(m.pool.mm, to, &b) || mm_block_take(m.pool.mm, to, &b))
		ck_abort_msg("somebody else can free frame %u, which is moved to", to);
	if (death == DEATH_BEFORE_WORD)
		atomic_store(&m.pool.mm->page[to].state, 0);
	if (death == DEATH_BEFORE_WORD || death == DEATH_BEFORE)
		longjmp(m.died, 1);
	if (m.refuse && draw(m.refuse) == 0)
		return false;
	mm_block_settle(m.pool.mm, to, i + 1);
	m.frame[i] = to;
	m.holder[to] = i + 1;
	m.holder[from] = 0;
	if (death == DEATH_COMMITTED)
		longjmp(m.died, 1);
	if (!mm_block_take(m.pool.mm, from, &b))
		ck_abort_msg("frame %u is nobody's", from);
	if (death == DEATH_CLEARED)
		atomic_store(&m.pool.mm->page[from].state, 0);
	if (death == DEATH_CLAIMED || death == DEATH_CLEARED)
		longjmp(m.died, 1);
	return true;
}

static void open_pool(void)
{
	struct mm_config c;

	memset(&m, 0, sizeof(m));
	m.random = 42;
	mm_config_default(&c, FRAMES);
	c.highmem_start = HIGH_START;
	c.movable_start = HIGH_START + HIGH_FRAMES;
	c.dma_end = c.dma32_end = 0;
	test_pool_open(&m.pool, &c);
}

static pfn_t alloc(gfp_t gfp, uint32_t order, uint32_t tag)
{
	struct mm_request r = { .gfp = gfp, .order = order, .cpu = MM_CPU_NONE, .tag = tag };
	pfn_t pfn;

	return mm_alloc_pages(m.pool.domain, &r, &pfn) == 0 ? pfn : PFN_NONE;
}

/* Things in all of HighMem, the reserve included; all below it is taken beforehand. */
static void fill(gfp_t gfp)
{
	pfn_t pfn;

	for (uint32_t order = NR_PAGE_ORDERS; order-- > 0;)
		while (alloc(__GFP_MEMALLOC, order, 0) != PFN_NONE)
			;
	while ((pfn = alloc(gfp | __GFP_MEMALLOC, 0, m.nr + 1)) != PFN_NONE) {
		m.frame[m.nr] = pfn;
		m.holder[pfn] = ++m.nr;
	}
}

static void drop(uint32_t i)
{
	pfn_t pfn = m.frame[i];

	m.frame[i] = PFN_NONE;
	m.holder[pfn] = 0;
	mm_free_pages(m.pool.domain, MM_CPU_NONE, pfn, MM_FREE_DIRECT);
}

/* Every other frame is free. */
static void checker(void)
{
	fill(__GFP_HIGHMEM);
	for (uint32_t i = 0; i < m.nr; i++)
		if (m.frame[i] % 2)
			drop(i);
}

static struct compact_control control(uint32_t order)
{
	return (struct compact_control){ .d = m.pool.domain, .zone = ZONE_HIGHMEM,
		                         .order = order, .class = ZONE_HIGHMEM,
		                         .movable = look, .move = mover };
}

static enum compact_result run(struct compact_control *cc)
{
	enum compact_result r = compaction_begin(cc);

	while (r == COMPACT_CONTINUE) {
		r = compaction_step(cc, 1 + draw(300));
		check_things();
	}
	return r;
}

static uint64_t zone_blocks(uint32_t order)
{
	struct mm_zone_stats s;
	uint64_t n = 0;

	mm_zone_stats(m.pool.domain, 0, ZONE_HIGHMEM, &s);
	for (uint32_t o = order; o < NR_PAGE_ORDERS; o++)
		n += s.nr_free[o] << (o - order);
	return n;
}

/* The zone's range has sections of another domain, in the middle of it and at its end. */
START_TEST(only_its_own_sections)
{
	struct compact_control cc;
	struct mm_request r = { .gfp = __GFP_HIGHMEM | __GFP_MEMALLOC, .cpu = MM_CPU_NONE };
	struct mm_domain *other;
	struct mm_config config;
	uint64_t small;
	pfn_t pfn;

	open_pool();
	config = m.pool.config;
	test_pool_close(&m.pool);
	test_pool_prepare(&m.pool, &config);
	test_pool_start(&m.pool);
	ck_assert_int_eq(mm_domain_new(&other, m.pool.mm, TEST_DOMAIN + 1), 0);
	for (uint32_t i = 2; i < 6; i++) {
		section_id_t id = { i };
		bool ours = i % 2 == 0;

		mm_section_set(m.pool.mm, id, SECTION_ONLINE, TEST_DOMAIN + !ours, 0, 1);
		ck_assert_int_eq(mm_domain_online(ours ? m.pool.domain : other, id), 0);
	}
	mm_domain_ready(m.pool.domain);
	mm_domain_ready(other);
	/* its free blocks are small ones, too */
	while (mm_alloc_pages(other, &r, &pfn) == 0)
		m.pinned[pfn] = true;
	for (pfn = 0; pfn < FRAMES; pfn += 2)
		if (m.pinned[pfn])
			mm_free_pages(other, MM_CPU_NONE, pfn, MM_FREE_DIRECT);
	memset(m.pinned, 0, sizeof(m.pinned));
	small = mm_nr_free(other);
	ck_assert_uint_eq(small, SECTION_FRAMES);
	checker();
	cc = control(COMPACT_ORDER_ALL);
	cc.whole_zone = true;
	ck_assert_int_ne(run(&cc), COMPACT_NOT_SUITABLE_ZONE);
	ck_assert_uint_gt(cc.moved, 0);
	ck_assert_uint_eq(mm_validate(other, test_report, NULL), 0);
	ck_assert_uint_eq(mm_nr_free(other), small);
	mm_domain_free(other);
	test_pool_close(&m.pool);
}
END_TEST

START_TEST(a_block_becomes_free)
{
	struct compact_control cc;
	uint32_t held;

	open_pool();
	checker();
	held = things();
	ck_assert_uint_eq(zone_blocks(1), 0);
	ck_assert_uint_eq(alloc(__GFP_HIGHMEM, 6, 0), PFN_NONE);
	cc = control(6);
	ck_assert_int_eq(run(&cc), COMPACT_SUCCESS);
	ck_assert_uint_gt(zone_blocks(6), 0);
	ck_assert_int_gt(cc.gained, 0);
	ck_assert_uint_gt(cc.moved, 0);
	ck_assert_uint_eq(cc.failed, 0);
	ck_assert_uint_eq(cc.isolated, 2 * cc.moved);
	ck_assert_uint_eq(things(), held);
	ck_assert_uint_ge(alloc(__GFP_HIGHMEM, 6, 0), HIGH_START);
	ck_assert_uint_eq(vm_counted(m.pool.domain, VM_PGMIGRATE_SUCCESS), cc.moved);
	ck_assert_uint_eq(vm_counted(m.pool.domain, VM_COMPACT_ISOLATED), cc.isolated);
	ck_assert_uint_eq(vm_counted(m.pool.domain, VM_COMPACT_MIGRATE_SCANNED),
	                  cc.migrate_scanned);
	ck_assert_uint_eq(vm_counted(m.pool.domain, VM_COMPACT_FREE_SCANNED), cc.free_scanned);
	ck_assert_uint_eq(vm_counted(m.pool.domain, VM_COMPACT_DAEMON_MIGRATE_SCANNED), 0);
	test_pool_close(&m.pool);
}
END_TEST

/* All that is held ends above all that is free. */
START_TEST(the_whole_zone)
{
	struct compact_control cc;
	pfn_t lowest = PFN_NONE;

	open_pool();
	checker();
	cc = control(COMPACT_ORDER_ALL);
	cc.whole_zone = cc.background = true;
	ck_assert_int_eq(run(&cc), COMPACT_COMPLETE);
	for (uint32_t i = 0; i < m.nr; i++)
		if (m.frame[i] < lowest)
			lowest = m.frame[i];
	ck_assert_uint_ge(lowest, HIGH_START + HIGH_FRAMES / 2 - 1);
	ck_assert_int_ge(cc.gained, HIGH_FRAMES / 2 / PAGEBLOCK_NR_PAGES - 1);
	ck_assert_uint_eq(vm_counted(m.pool.domain, VM_COMPACT_DAEMON_MIGRATE_SCANNED),
	                  cc.migrate_scanned);
	/* a second one finds nothing to do */
	cc = control(COMPACT_ORDER_ALL);
	cc.whole_zone = true;
	ck_assert_int_eq(run(&cc), COMPACT_COMPLETE);
	ck_assert_uint_eq(cc.moved, 0);
	ck_assert_int_eq(cc.gained, 0);
	test_pool_close(&m.pool);
}
END_TEST

/* What refuses stays, what is larger than a frame stays, and neither is lost. */
START_TEST(random_refusals)
{
	for (uint32_t round = 0; round < 12; round++) {
		struct compact_control cc;
		struct { pfn_t pfn; uint8_t order; } large[64];
		uint32_t nr_large = 0, held;
		struct mm_block b;

		open_pool();
		m.random = round + 1;
		for (uint32_t i = 0; i < 64; i++) {
			uint32_t order = 1 + draw(4);
			pfn_t pfn = alloc(__GFP_HIGHMEM | (draw(2) ? __GFP_RECLAIMABLE : 0), order,
			                  MM_TAG_MAX);

			if (pfn == PFN_NONE || pfn < HIGH_START)
				continue;
			large[nr_large].pfn = pfn;
			large[nr_large++].order = (uint8_t)order;
		}
		fill(__GFP_HIGHMEM | (round % 2 ? 0 : __GFP_RECLAIMABLE));
		for (uint32_t i = 0; i < m.nr; i++) {
			if (draw(100) < 10 + 7 * round)
				drop(i);
			else if (draw(20) == 0)
				m.pinned[i] = true;
		}
		m.refuse = 1 + draw(6);
		held = things();
		for (uint32_t k = 0; k < 4; k++) {
			bool all = k == 3 || draw(2);

			cc = control(all ? COMPACT_ORDER_ALL : 1 + draw(MAX_PAGE_ORDER));
			cc.whole_zone = all && draw(2);
			run(&cc);
			ck_assert_uint_eq(things(), held);
			compaction_tick(m.pool.domain);
		}
		for (uint32_t i = 0; i < nr_large; i++) {
			ck_assert(mm_block_get(m.pool.mm, large[i].pfn, &b));
			ck_assert_uint_eq(b.order, large[i].order);
		}
		test_pool_close(&m.pool);
	}
}
END_TEST

static bool keep(void *ctx, pfn_t pfn, const struct mm_block *b)
{
	(void)ctx;
	if (m.holder[pfn] && b->order)
		ck_abort_msg("frame %u has order %u", pfn, b->order);
	return m.holder[pfn] != 0;
}

/* In a function of its own: what it has in registers does not outlive the jump. */
static void run_to_death(void)
{
	struct compact_control cc = control(COMPACT_ORDER_ALL);

	cc.whole_zone = true;
	if (setjmp(m.died) == 0) {
		run(&cc);
		ck_abort_msg("it was to die");
	}
}

static void die_and_recover(enum death death, uint64_t at)
{
	struct compact_control cc;
	uint32_t held;

	open_pool();
	checker();
	held = things();
	m.death = death;
	m.die_at = at;
	run_to_death();
	test_pool_stop(&m.pool);
	test_pool_start(&m.pool);
	ck_assert_int_eq(mm_domain_recover(m.pool.domain, keep, test_report, NULL), 0);
	check_things();
	ck_assert_uint_eq(things(), held);
	ck_assert_uint_eq(test_pool_managed(&m.pool) - test_pool_free_frames(&m.pool), held);
	/* and it goes on */
	m.die_at = 0;
	cc = control(COMPACT_ORDER_ALL);
	ck_assert_int_eq(run(&cc), COMPACT_COMPLETE);
	test_pool_close(&m.pool);
}

/* Whoever dies in whatever step of a move: the pool begins again with what the model holds. */
START_TEST(death_at_each_point)
{
	for (enum death death = DEATH_BEFORE_WORD; death < DEATH_NR; death++)
		for (uint64_t at = 1; at < 400; at = at * 3 + 1)
			die_and_recover(death, at);
}
END_TEST

/* Neither scanner outlasts the step by more than one look under the lock, and each step gets on. */
START_TEST(a_step_is_bounded)
{
	struct compact_control cc;
	enum compact_result r;
	uint64_t was = 0;

	open_pool();
	fill(__GFP_HIGHMEM);
	drop(1); /* every frame but one is a source that finds nothing above it */
	cc = control(COMPACT_ORDER_ALL);
	ck_assert_int_eq(compaction_begin(&cc), COMPACT_CONTINUE);
	do {
		pfn_t free_pfn = cc.free_pfn, migrate_pfn = cc.migrate_pfn;

		r = compaction_step(&cc, 8);
		ck_assert(r != COMPACT_CONTINUE || cc.free_pfn < free_pfn ||
		          cc.migrate_pfn > migrate_pfn);
		ck_assert_uint_le(cc.migrate_scanned + cc.free_scanned, was + 8 + 32);
		was = cc.migrate_scanned + cc.free_scanned;
	} while (r == COMPACT_CONTINUE);
	ck_assert_int_eq(r, COMPACT_COMPLETE);
	check_things();
	test_pool_close(&m.pool);
}
END_TEST

/* A run that is given up leaves nothing behind, and the next one goes on where it was. */
START_TEST(given_up)
{
	struct compact_control cc, next;

	open_pool();
	checker();
	cc = control(COMPACT_ORDER_ALL);
	ck_assert_int_eq(compaction_begin(&cc), COMPACT_CONTINUE);
	ck_assert_int_eq(compaction_step(&cc, 700), COMPACT_CONTINUE);
	check_things();
	next = control(COMPACT_ORDER_ALL);
	ck_assert_int_eq(compaction_begin(&next), COMPACT_CONTINUE);
	ck_assert_uint_eq(next.migrate_pfn, cc.migrate_pfn);
	ck_assert_uint_eq(next.free_pfn, cc.free_pfn);
	/* from the middle: not the whole zone */
	while (compaction_step(&next, 100) == COMPACT_CONTINUE)
		;
	next = control(COMPACT_ORDER_ALL);
	ck_assert_int_eq(compaction_begin(&next), COMPACT_CONTINUE);
	ck_assert_uint_eq(next.migrate_pfn, HIGH_START);
	check_things();
	test_pool_close(&m.pool);
}
END_TEST

/* A pageblock where nothing moved is passed by, until the tick. */
START_TEST(what_did_not_move_is_passed_by)
{
	struct compact_control cc;
	uint64_t first;

	open_pool();
	checker();
	for (uint32_t i = 0; i < m.nr; i++)
		m.pinned[i] = true;
	cc = control(COMPACT_ORDER_ALL);
	ck_assert_int_eq(run(&cc), COMPACT_COMPLETE);
	first = cc.migrate_scanned;
	ck_assert_uint_ge(first, HIGH_FRAMES - 1);
	cc = control(COMPACT_ORDER_ALL);
	ck_assert_int_eq(run(&cc), COMPACT_COMPLETE);
	ck_assert_uint_lt(cc.migrate_scanned, PAGEBLOCK_NR_PAGES + 1);
	/* an operator's run looks at all */
	cc = control(COMPACT_ORDER_ALL);
	cc.whole_zone = true;
	run(&cc);
	ck_assert_uint_eq(cc.migrate_scanned, first);
	compaction_tick(m.pool.domain);
	cc = control(COMPACT_ORDER_ALL);
	run(&cc);
	ck_assert_uint_eq(cc.migrate_scanned, first);
	test_pool_close(&m.pool);
}
END_TEST

START_TEST(suitability_and_index)
{
	struct mm_domain *d;
	uint32_t order;

	open_pool();
	d = m.pool.domain;
	/* nothing is allocated: nothing is missing */
	ck_assert_int_eq(compaction_suitable(d, 0, ZONE_HIGHMEM, 9, ZONE_HIGHMEM), COMPACT_SUCCESS);
	ck_assert_int_eq(compaction_fragmentation_index(d, 0, ZONE_HIGHMEM, 9), -1000);
	ck_assert_uint_eq(compaction_score(d, 0, ZONE_HIGHMEM), 0);
	ck_assert_int_eq(compaction_suitable(d, 0, ZONE_DMA, 0, ZONE_HIGHMEM),
	                 COMPACT_NOT_SUITABLE_ZONE);
	checker();
	ck_assert_uint_eq(compaction_score(d, 0, ZONE_HIGHMEM), 100);
	for (order = 1; order <= MAX_PAGE_ORDER; order++) {
		uint64_t n = zone_blocks(0), low = 32 + HIGH_FRAMES / 1000;
		int64_t index = 1000 - (int64_t)((1000 + n * 1000 / (1u << order)) / n);

		ck_assert_int_eq(compaction_fragmentation_index(d, 0, ZONE_HIGHMEM, order), index);
		if (n <= (order > 3 ? low : 32) + (2u << order))
			ck_assert_int_eq(compaction_suitable(d, 0, ZONE_HIGHMEM, order,
			                                     ZONE_HIGHMEM), COMPACT_SKIPPED);
		else
			ck_assert_int_eq(compaction_suitable(d, 0, ZONE_HIGHMEM, order,
			                                     ZONE_HIGHMEM), COMPACT_CONTINUE);
	}
	test_pool_close(&m.pool);
	/* three quarters of each section free, in two pieces: order 10 is not for compaction to make */
	open_pool();
	d = m.pool.domain;
	fill(__GFP_HIGHMEM);
	for (pfn_t pfn = HIGH_START; pfn < HIGH_START + HIGH_FRAMES; pfn++)
		if (pfn % SECTION_FRAMES < SECTION_FRAMES / 4 * 3)
			drop(m.holder[pfn] - 1);
	ck_assert_int_eq(compaction_fragmentation_index(d, 0, ZONE_HIGHMEM, 10), 500);
	ck_assert_int_eq(compaction_suitable(d, 0, ZONE_HIGHMEM, 10, ZONE_HIGHMEM),
	                 COMPACT_NOT_SUITABLE_ZONE);
	test_pool_close(&m.pool);
}
END_TEST

/* As in Linux: 2, 4, … 64 are deferred, smaller orders are not, success ends it. */
START_TEST(deferral)
{
	struct mm_domain *d;

	open_pool();
	d = m.pool.domain;
	ck_assert(!compaction_deferred(d, 0, ZONE_HIGHMEM, 5));
	compaction_defer_reset(d, 0, ZONE_HIGHMEM, 5, false);
	for (uint32_t shift = 1; shift <= 8; shift++) {
		uint32_t n = 0;

		compaction_defer(d, 0, ZONE_HIGHMEM, 5);
		ck_assert(!compaction_deferred(d, 0, ZONE_HIGHMEM, 4));
		while (compaction_deferred(d, 0, ZONE_HIGHMEM, 6))
			n++;
		ck_assert_uint_eq(n, (1u << (shift < 6 ? shift : 6)) - 1);
	}
	/* another zone is another matter */
	ck_assert(!compaction_deferred(d, 0, ZONE_MOVABLE, 6));
	compaction_defer_reset(d, 0, ZONE_HIGHMEM, 6, true);
	ck_assert(!compaction_deferred(d, 0, ZONE_HIGHMEM, 6));
	ck_assert(!compaction_deferred(d, 0, ZONE_HIGHMEM, 7));
	test_pool_close(&m.pool);
}
END_TEST

/* A request that missed several frames leaves a note, its zone class with it. */
START_TEST(what_was_missed_is_noted)
{
	uint32_t class;

	open_pool();
	checker();
	ck_assert_uint_eq(compaction_wanted(m.pool.domain, 0, ZONE_HIGHMEM, &class), 0);
	ck_assert_uint_eq(alloc(GFP_NOWAIT | __GFP_HIGHMEM, 4, 0), PFN_NONE);
	ck_assert_uint_eq(alloc(GFP_NOWAIT | __GFP_HIGHMEM, 3, 0), PFN_NONE);
	ck_assert_uint_eq(alloc(__GFP_HIGHMEM, 7, 0), PFN_NONE); /* wakes nobody */
	ck_assert_uint_eq(compaction_wanted(m.pool.domain, 0, ZONE_HIGHMEM, &class), 4);
	ck_assert_uint_eq(class, ZONE_HIGHMEM);
	ck_assert_uint_eq(compaction_wanted(m.pool.domain, 0, ZONE_HIGHMEM, &class), 0);
	test_pool_close(&m.pool);
}
END_TEST

/* Proactive: until the score is 80. */
START_TEST(until_the_score_is_low)
{
	struct compact_control cc;

	open_pool();
	checker();
	ck_assert_uint_gt(compaction_score(m.pool.domain, 0, ZONE_HIGHMEM), COMPACT_SCORE_HIGH);
	cc = control(COMPACT_ORDER_ALL);
	cc.proactive = true;
	ck_assert_int_eq(run(&cc), COMPACT_SUCCESS);
	ck_assert_uint_le(compaction_score(m.pool.domain, 0, ZONE_HIGHMEM), COMPACT_SCORE_LOW);
	/* no further than that */
	ck_assert_uint_gt(compaction_score(m.pool.domain, 0, ZONE_HIGHMEM), COMPACT_SCORE_LOW / 2);
	test_pool_close(&m.pool);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_compaction");
	TCase *t = tcase_create("compaction");

	tcase_add_test(t, only_its_own_sections);
	tcase_add_test(t, a_block_becomes_free);
	tcase_add_test(t, the_whole_zone);
	tcase_add_test(t, random_refusals);
	tcase_add_test(t, death_at_each_point);
	tcase_add_test(t, a_step_is_bounded);
	tcase_add_test(t, given_up);
	tcase_add_test(t, what_did_not_move_is_passed_by);
	tcase_add_test(t, suitability_and_index);
	tcase_add_test(t, deferral);
	tcase_add_test(t, what_was_missed_is_noted);
	tcase_add_test(t, until_the_score_is_low);
	suite_add_tcase(s, t);
	return suite_status(s);
}
