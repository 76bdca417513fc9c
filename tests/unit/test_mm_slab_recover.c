/* SPDX-License-Identifier: MIT */
/*
 * The slab layer after a restart: what a new process makes of the persistent tables, what it
 * refuses, that it may be interrupted anywhere, and that the validator sees each kind of damage.
 */
#include <check.h>

#include "tests/suite.h"
#include "tests/unit/test_mm_slab.h"

static struct test_slab t;
static struct slab_object obj[3000], big[20], mid[300];
static struct kmem_cache *c, *d, *e;

/* Three caches with objects out: 600 small ones, 20 large ones, 300 with colours. */
static void open_space(void)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = 0 };
	struct mm_config k;
	int error;

	mm_config_default(&k, 16384);
	k.cpus = 2;
	k.nodes = 2;
	test_slab_open(&t, &k, 64);
	c = test_cache(&t, "small", 24, 0, 0);
	d = test_cache(&t, "large", 9000, 0, SLAB_RECLAIM_ACCOUNT);
	e = test_cache(&t, "middle", 640, 0, 0);
	ck_assert_uint_eq(slab_alloc_bulk(c, &r, 1000, obj, &error), 1000);
	r.cpu = 1;
	ck_assert_uint_eq(slab_alloc_bulk(d, &r, 20, big, &error), 20);
	ck_assert_uint_eq(slab_alloc_bulk(e, &r, 300, mid, &error), 300);
	for (uint32_t i = 0; i < 400; i++)
		ck_assert(slab_free(&obj[600 + i], i % 2, false));
	ck_assert_uint_eq(test_slab_findings(&t), 0);
}

static void caches_again(void)
{
	c = kmem_cache_find(t.space, "small");
	d = kmem_cache_find(t.space, "large");
	e = kmem_cache_find(t.space, "middle");
	ck_assert(c && d && e);
}

static void check_out(const struct slab_object o[], uint32_t n, struct kmem_cache *of)
{
	for (uint32_t i = 0; i < n; i++) {
		struct slab_object now;
		bool out;

		ck_assert(slab_object_at(t.space, o[i].address, &now, &out));
		ck_assert(out);
		ck_assert_ptr_eq(now.cache, of);
		ck_assert_uint_eq(now.word, o[i].word);
		ck_assert_uint_eq(now.slot, o[i].slot);
	}
}

static struct kmem_cache_stats stats(const struct kmem_cache *of)
{
	struct kmem_cache_stats s;

	kmem_cache_stats(of, &s);
	return s;
}

START_TEST(everything_is_as_before)
{
	uint64_t life, frames;

	open_space();
	life = kmem_cache_life(e);
	frames = slab_frames(t.space);
	ck_assert_int_eq(test_slab_restart(&t, NULL, test_report), 0);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	caches_again();
	check_out(obj, 600, c);
	check_out(big, 20, d);
	check_out(mid, 300, e);
	ck_assert_uint_eq(stats(c).objects_out, 600);
	ck_assert_uint_eq(stats(c).in_cpu, 0);
	ck_assert_uint_eq(stats(d).objects_out, 20);
	ck_assert_uint_eq(stats(e).objects_out, 300);
	ck_assert_uint_eq(slab_frames(t.space), frames);
	ck_assert_uint_eq(slab_frames_reclaimable(t.space), stats(d).slabs * 4);
	ck_assert_uint_eq(kmem_cache_life(e), life);
	ck_assert_ptr_eq(kmem_cache_next(t.space, NULL), e);
	ck_assert_ptr_eq(kmem_cache_next(t.space, d), c);
	ck_assert_str_eq(kmem_cache_record(d)->name, "large");
	/* and it goes on */
	ck_assert_uint_gt(kmem_cache_life(test_cache(&t, "new", 8, 0, 0)), life);
	for (uint32_t i = 0; i < 600; i++) {
		obj[i].cache = c;
		ck_assert(slab_free(&obj[i], 1, false));
	}
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}
END_TEST

START_TEST(lives_grow_over_restarts)
{
	uint64_t life, out;
	uint32_t id;

	open_space();
	test_cache(&t, "last", 8, 0, 0);
	c = kmem_cache_find(t.space, "last");
	life = kmem_cache_life(c);
	id = kmem_cache_id(c);
	ck_assert_int_eq(kmem_cache_destroy(c, &out), 0);
	ck_assert_int_eq(test_slab_restart(&t, NULL, test_report), 0);
	c = test_cache(&t, "next", 8, 0, 0);
	ck_assert_uint_gt(kmem_cache_life(c), life);
	/* ids that were never used have been free for longer */
	ck_assert_uint_ne(kmem_cache_id(c), id);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}
END_TEST

static uint32_t asked;

/* Of those that were out every third goes; of the others every seventh comes. */
static bool judge(void *ctx, const struct slab_object *o, bool was_out)
{
	(void)ctx;
	asked++;
	return was_out ? o->word % 3 != 0 : o->word % 7 == 0;
}

struct count {
	uint32_t nr, out;
};

static void count(void *ctx, const struct slab_object *o, bool out)
{
	struct count *n = ctx;

	(void)o;
	n->nr++;
	n->out += out;
}

START_TEST(the_judge_decides)
{
	struct count before = { 0, 0 }, after = { 0, 0 };
	uint32_t expected = 0;

	open_space();
	slab_walk(t.space, NULL, count, &before);
	for (uint32_t i = 0; i < 600; i++)
		expected += obj[i].word % 3 != 0;
	asked = 0;
	ck_assert_int_eq(test_slab_restart(&t, judge, test_report), 0);
	ck_assert_uint_eq(asked, before.nr);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	slab_walk(t.space, NULL, count, &after);
	ck_assert_uint_eq(after.nr, before.nr);
	caches_again();
	for (uint32_t i = 0; i < 600; i++) {
		struct slab_object o;
		bool out;

		ck_assert(slab_object_at(t.space, obj[i].address, &o, &out));
		ck_assert_int_eq(out, obj[i].word % 3 != 0);
	}
	for (uint32_t i = 0; i < 300; i++)
		expected += mid[i].word % 3 != 0;
	for (uint32_t i = 0; i < 20; i++)
		expected += big[i].word % 3 != 0;
	ck_assert_uint_ge(after.out, expected);
	ck_assert_uint_eq(after.out, stats(c).objects_out + stats(d).objects_out +
	                                     stats(e).objects_out);
	test_slab_close(&t);
}
END_TEST

static bool nobody(void *ctx, const struct slab_object *o, bool was_out)
{
	(void)ctx;
	(void)o;
	(void)was_out;
	return false;
}

START_TEST(empty_slabs_beyond_the_bound_go_later)
{
	open_space();
	ck_assert_int_eq(test_slab_restart(&t, nobody, test_report), 0);
	caches_again();
	ck_assert_uint_eq(stats(e).slabs_empty, stats(e).slabs);
	ck_assert_uint_gt(stats(e).objects, e->free_limit);
	for (uint32_t i = 0; i < 4; i++)
		slab_tick(t.space);
	ck_assert_uint_le(stats(e).objects, e->free_limit);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	ck_assert_uint_gt(slab_shrink_all(t.space, MM_CPU_NONE), 0);
	ck_assert_uint_eq(slab_frames(t.space), 0);
	ck_assert_uint_eq(test_pool_free_frames(&t.pool), 16384);
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}
END_TEST

/* Whoever gives the first object back does not pay for all of them. */
START_TEST(what_recovery_left_empty_goes_bit_by_bit)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = MM_CPU_NONE, .node = MM_NODE(1) };
	struct slab_object o;
	uint64_t reaped = 0;
	int error;

	open_space();
	ck_assert_int_eq(test_slab_restart(&t, nobody, test_report), 0);
	caches_again();
	ck_assert_uint_gt(stats(e).slabs_empty, 40);
	for (uint32_t i = 0; stats(e).objects > e->free_limit; i++) {
		ck_assert_uint_lt(i, 40);
		ck_assert_uint_eq(slab_alloc_bulk(e, &r, 1, &o, &error), 1);
		ck_assert(slab_free(&o, MM_CPU_NONE, i % 2));
		ck_assert_uint_gt(stats(e).reaped, reaped);
		ck_assert_uint_le(stats(e).reaped, reaped + 2 + e->free_limit / 6);
		reaped = stats(e).reaped;
	}
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}
END_TEST

/* What a process leaves that dies between two steps of making a slab or a cache. */
START_TEST(half_made_things_are_none)
{
	struct mm_request r = { .gfp = GFP_KERNEL, .cpu = MM_CPU_NONE, .slab = true };
	uint64_t frames;
	uint32_t id;
	pfn_t pfn;

	open_space();
	id = kmem_cache_id(test_cache(&t, "half", 64, 0, 0));
	ck_assert_int_eq(test_slab_restart(&t, NULL, test_report), 0);
	frames = test_pool_free_frames(&t.pool);
	ck_assert_int_eq(mm_alloc_pages(t.pool.domain, &r, &pfn), 0); /* no slab word yet */
	atomic_store(&t.memory.cache[id].word, 0);                    /* not committed yet */
	ck_assert_int_eq(test_slab_restart(&t, NULL, test_report), 0);
	ck_assert_uint_eq(test_pool_free_frames(&t.pool), frames);
	ck_assert_ptr_null(kmem_cache_find(t.space, "half"));
	ck_assert_uint_eq(test_slab_findings(&t), 0);
	test_slab_close(&t);
}
END_TEST

static long left;
static uint8_t *snapshot;

/* At the given question the tables are as a death there would leave them: what was decided before
 * is in the out bits, the rest is not. */
static bool judge_until(void *ctx, const struct slab_object *o, bool was_out)
{
	if (left-- == 0)
		memcpy(snapshot, (const void *)t.memory.out, t.memory.words / 8);
	return judge(ctx, o, was_out);
}

START_TEST(interrupted_anywhere_it_is_done_again)
{
	open_space();
	snapshot = malloc(t.memory.words / 8);
	ck_assert_ptr_nonnull(snapshot);
	t.space = slab_space_free(t.space);
	test_slab_space_start(&t);
	left = 37 * _i;
	ck_assert_int_eq(slab_space_recover(t.space, judge_until, test_report, NULL), 0);
	if (left < 0) {
		struct slab_object o;
		bool out;

		memcpy((void *)t.memory.out, snapshot, t.memory.words / 8);
		/* a judge that asks the owner words would say the same again; this one asks the
		 * out bits, so it is told to leave them alone */
		ck_assert_int_eq(test_slab_restart(&t, NULL, test_report), 0);
		ck_assert_uint_eq(test_slab_findings(&t), 0);
		for (uint32_t i = 0; i < 600; i++)
			if (obj[i].word % 3)
				ck_assert(slab_object_at(t.space, obj[i].address, &o, &out) && out);
	}
	free(snapshot);
	test_slab_close(&t);
}
END_TEST

/* ---- damage to the persistent tables ---- */

static char reports[20][200];
static size_t nr_reports;

static void remember(void *ctx, const char *text)
{
	(void)ctx;
	if (nr_reports < 20)
		snprintf(reports[nr_reports], sizeof(reports[0]), "%s", text);
	nr_reports++;
}

static const struct {
	const char *what;
} table_damages[] = {
	{ "of a cache that there is not" },      { "is no slab word" },
	{ "no slab block begins here" },         { "not of the cache's order" },
	{ "another slab's" },                    { "impossible colour" },
	{ "another slab's" },                    { "the cache's name is empty" },
	{ "impossible size or stride" },         { "another one has the name" },
	{ "created at once" },                   { "unknown flags" },
	{ "is no slab word" },                   { "longer than 63" },
	{ "another slab's" },
};
#define NR_TABLE_DAMAGES (sizeof(table_damages) / sizeof(table_damages[0]))

static void damage_tables(int kind)
{
	struct cache_record *r = &t.memory.cache[kmem_cache_id(e)];
	_Atomic uint64_t *w = &t.memory.slab[mid[0].head];
	_Atomic uint64_t *large = &t.memory.slab[big[0].head];

	switch (kind) {
	case 0:
		*w = slab_word(9, slab_word_first(*w), 0);
		break;
	case 1:
		*w &= ~SLAB_WORD_LIVE;
		break;
	case 2:
		large[1] = *large;
		break;
	case 3:
		*large = slab_word(kmem_cache_id(e), slab_word_first(*large), 0);
		break;
	case 4:
		*w = slab_word(kmem_cache_id(e), slab_word_first(*large), 0);
		break;
	case 5:
		*w = slab_word(kmem_cache_id(e), slab_word_first(*w), 4);
		break;
	case 6:
		*w = slab_word(kmem_cache_id(e), (uint32_t)t.memory.words, 0);
		break;
	case 7:
		r->name[0] = 0;
		break;
	case 8:
		r->geometry.stride = 8;
		break;
	case 9:
		memcpy(r->name, "small", 6);
		break;
	case 10:
		atomic_store(&r->word, t.memory.cache[kmem_cache_id(c)].word);
		break;
	case 11:
		r->flags |= 1;
		break;
	case 12:
		*w |= (uint64_t)1 << 62;
		break;
	case 13:
		memset(r->name, 'x', sizeof(r->name));
		break;
	default: /* a run of two words inside one of eight */
		*large = slab_word(kmem_cache_id(d), slab_word_first(*w) + 2, 0);
		break;
	}
}

START_TEST(damaged_tables_are_refused)
{
	size_t bytes;
	void *before;
	bool found = false;

	open_space();
	damage_tables(_i);
	bytes = t.memory.words / 8;
	before = malloc(bytes);
	ck_assert_ptr_nonnull(before);
	memcpy(before, (const void *)t.memory.out, bytes);
	nr_reports = asked = 0;
	ck_assert_int_eq(test_slab_restart(&t, judge, remember), -EUCLEAN);
	ck_assert_uint_ge(nr_reports, 2); /* each finding, and how many */
	for (size_t i = 0; i < nr_reports && i < 20; i++)
		found |= strstr(reports[i], table_damages[_i].what) != NULL;
	ck_assert_msg(found, "'%s' lacks '%s'", reports[0], table_damages[_i].what);
	/* nothing is changed, nothing served */
	ck_assert_uint_eq(asked, 0);
	ck_assert_mem_eq(before, (const void *)t.memory.out, bytes);
	ck_assert_ptr_null(kmem_cache_find(t.space, "small"));
	ck_assert_uint_eq(slab_frames(t.space), 0);
	free(before);
	test_slab_close(&t);
}
END_TEST

/* ---- damage to what is derived, one kind each ---- */

static void damage_derived(int kind)
{
	pfn_t head = mid[0].head;
	struct slab *sl = &t.space->slab[head];
	struct cache_node *k = &e->node[sl->node];
	struct slab_cpu *p = atomic_load(&c->cpu[0]);

	switch (kind) {
	case 0:
		sl->free++;
		break;
	case 1: /* free and out */
		slab_map(e, sl)[0] |= (uint64_t)1 << mid[0].slot;
		break;
	case 2: /* neither */
		t.memory.out[mid[0].word / 64] &= ~((uint64_t)1 << (mid[0].word % 64));
		break;
	case 3:
		k->free_objects++;
		break;
	case 4:
		k->list[SLAB_FULL].nr--;
		break;
	case 5:
		t.space->slab[k->list[SLAB_FULL].head].prev = 5;
		break;
	case 6: /* on the wrong list */
		sl->state = SLAB_EMPTY;
		break;
	case 7:
		sl->cache = kmem_cache_id(d);
		break;
	case 8:
		sl->node ^= 1;
		break;
	case 9:
		t.memory.slab[head] ^= (uint64_t)1 << SLAB_WORD_COLOUR_SHIFT;
		break;
	case 10:
		t.space->head[head / 64] &= ~((uint64_t)1 << (head % 64));
		break;
	case 11:
		t.space->section[0]++;
		break;
	case 12:
		t.space->frames++;
		break;
	case 13:
		slab_words_put(t.space->words, sl->first, 8);
		break;
	case 14: /* cached twice */
		p->round[p->loaded][0] = p->round[p->loaded][1];
		break;
	case 15:
		p->count++;
		break;
	case 16: /* another cache's in a magazine */
		p->round[p->loaded][0] = (struct slab_round){ head, 0 };
		break;
	case 17:
		t.memory.cache[kmem_cache_id(e)].word ^= 4;
		break;
	case 18:
		e->shape ^= 1;
		break;
	case 19:
		t.space->newest = t.space->newest->older;
		break;
	case 20:
		e->life = d->life;
		break;
	case 21:
		memcpy(t.memory.cache[kmem_cache_id(e)].name, "other", 6);
		break;
	case 22: /* out, but no object's: 170 slots use 170 of 256 words */
	{
		uint32_t first = t.space->slab[obj[0].head].first, last = first + 255;

		t.memory.out[last / 64] |= (uint64_t)1 << (last % 64);
		break;
	}
	case 23:
		t.pool.mm->page[head].state = 0;
		break;
	case 24:
		k->colour_next = 4;
		break;
	case 25:
		p->nr[0] = 200;
		break;
	case 26: /* free objects beyond the last slot: 6 of them */
		slab_map(e, sl)[0] |= 1u << 6;
		break;
	case 27: /* a run of two words */
		slab_words_put(t.space->words, t.space->slab[big[0].head].first, 2);
		break;
	default:
		ck_abort_msg("no such damage");
	}
}
#define NR_DERIVED_DAMAGES 28

START_TEST(the_validator_sees_each_damage)
{
	size_t n = 0;

	open_space();
	damage_derived(_i);
	ck_assert_uint_gt(slab_validate(t.space, test_count, &n), 0);
	ck_assert_uint_gt(n, 0);
	test_slab_close(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mm_slab_recover");
	TCase *k = tcase_create("recover"), *v = tcase_create("damage");

	tcase_set_timeout(k, 60);
	tcase_add_test(k, everything_is_as_before);
	tcase_add_test(k, lives_grow_over_restarts);
	tcase_add_test(k, the_judge_decides);
	tcase_add_test(k, empty_slabs_beyond_the_bound_go_later);
	tcase_add_test(k, what_recovery_left_empty_goes_bit_by_bit);
	tcase_add_test(k, half_made_things_are_none);
	tcase_add_loop_test(k, interrupted_anywhere_it_is_done_again, 0, 40);
	tcase_add_loop_test(k, damaged_tables_are_refused, 0, NR_TABLE_DAMAGES);
	suite_add_tcase(s, k);
	tcase_set_timeout(v, 60);
	tcase_add_loop_test(v, the_validator_sees_each_damage, 0, NR_DERIVED_DAMAGES);
	suite_add_tcase(s, v);
	return suite_status(s);
}
