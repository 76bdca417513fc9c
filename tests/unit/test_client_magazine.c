/* SPDX-License-Identifier: MIT */
/*
 * What a thread caches (client/magazine.c), alone: the daemon is a supply of blocks in this file.
 *
 *     supply --take--> magazines --alloc--> held by the test --free--> magazines --give--> supply
 *
 * Every block is in exactly one of these places; its owner word says which. Objects are numbers that
 * the supply hands out: what counts for them is the room that their magazines take.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"
#include "tests/suite.h"

#define FRAMES (1u << 16)
#define ME 7u
#define OBJECTS 8192u

static struct kmm k;
static struct thread_cache *tc;
static owner_word_t *word;
static struct control_session sessions[ME + 1];

static uint64_t now_ns;
static unsigned int exchanges, told, untold;
static uint8_t *arena;
static size_t arena_used;
static bool object_out[OBJECTS + 1]; /* from 1 */
static unsigned int object_gives;

enum place { SUPPLY, CACHED, HELD };

static enum place place_of(uint32_t i)
{
	uint64_t w = owner_load(&word[i]);

	return owner_is(w, OWNER_HELD, ME)       ? HELD
	       : owner_is(w, OWNER_RETURNED, ME) ? CACHED
	                                         : SUPPLY;
}

/* ---- what magazine.c asks of others ---- */

uint64_t process_now_coarse(void)
{
	return now_ns;
}

int exchange_take(struct kmm *s, struct call_how *how, struct exchange x, uint32_t gfp,
                  enum owner_kind kind, uint32_t rounds, uint64_t out[], uint32_t *n)
{
	uint32_t i, got = 0;

	(void)how;
	(void)gfp;
	ck_assert_ptr_eq(s, &k);
	ck_assert_uint_ge(rounds, 1);
	ck_assert_uint_le(rounds, MAGAZINE_ROUNDS_MAX);
	ck_assert_uint_eq(tc->busy, 0);
	exchanges++;
	for (i = 0; i < FRAMES && got < rounds; i += 1u << x.order) {
		uint64_t w = owner_load(&word[i]);

		if (place_of(i) != SUPPLY)
			continue;
		w = owner_reborn(w, kind, ME);
		owner_store(&word[i], w);
		out[got++] = round_of_block(i, w);
	}
	*n = got;
	return got ? 0 : -ENOMEM;
}

static void supply_back(uint32_t i)
{
	owner_store(&word[i], owner_reborn(owner_load(&word[i]), OWNER_FREE, 0));
}

uint32_t exchange_give(struct kmm *s, struct exchange x, uint64_t r[], uint32_t n)
{
	uint32_t i, left = 0;

	ck_assert_ptr_null(x.cache);
	ck_assert_ptr_eq(s, &k);
	ck_assert_uint_eq(tc->busy, 0);
	exchanges++;
	for (i = 0; i < n; i++) {
		if (round_of_block((uint32_t)r[i], owner_load(&word[(uint32_t)r[i]])) == r[i])
			supply_back((uint32_t)r[i]);
		else
			r[left++] = r[i];
	}
	return left;
}

int page_free_tell(struct kmm *s, uint32_t pfn, unsigned int order, uint64_t w)
{
	(void)order;
	ck_assert_ptr_eq(s, &k);
	ck_assert(owner_load(&word[pfn]) == w);
	told++;
	supply_back(pfn);
	return 0;
}

void session_untold(struct kmm *s)
{
	ck_assert_ptr_eq(s, &k);
	untold++;
}

void *thread_cache_memory(struct thread_cache *t, size_t size)
{
	void *p = arena + arena_used;

	ck_assert_ptr_eq(t, tc);
	arena_used += (size + 63) & ~(size_t)63;
	ck_assert_uint_le(arena_used, ARENA_NEXT);
	return p;
}

void local_enter(struct thread_cache *t)
{
	ck_assert_uint_eq(t->busy, 0);
	t->busy = 1;
}

static int objects_take(struct kmm *s, struct exchange x, uint32_t gfp, struct call_how *how,
                        uint32_t want, uint64_t out[], uint32_t *n)
{
	uint32_t i;

	(void)s;
	(void)x;
	(void)gfp;
	(void)how;
	ck_assert_uint_eq(tc->busy, 0);
	exchanges++;
	for (*n = 0, i = 1; i <= OBJECTS && *n < want; i++)
		if (!object_out[i]) {
			object_out[i] = true;
			out[(*n)++] = i;
		}
	return *n ? 0 : -ENOMEM;
}

static void objects_give(struct kmm *s, struct exchange x, uint64_t r[], uint32_t n, bool wait)
{
	uint32_t i;

	(void)s;
	(void)x;
	(void)wait;
	ck_assert_uint_eq(tc->busy, 0);
	object_gives++;
	for (i = 0; i < n; i++) {
		ck_assert(object_out[r[i]]);
		object_out[r[i]] = false;
	}
}

const struct local_kind local_held = { .take = objects_take, .give = objects_give, .whole = true };
const struct local_kind local_marked = { .take = objects_take,
	                                 .give = objects_give,
	                                 .whole = true };

/* ---- the test's side ---- */

static void cache_new(int64_t cap)
{
	memset(arena, 0, ARENA_NEXT);
	arena_used = 0;
	memset(tc, 0, sizeof(*tc));
	tc->id = ME;
	tc->frames = FRAMES;
	tc->word = word;
	tc->cap = tc->room = cap;
	local_class_init(tc);
}

static void setup(void)
{
	word = calloc(FRAMES, sizeof(*word));
	tc = aligned_alloc(_Alignof(struct thread_cache), sizeof(*tc));
	arena = aligned_alloc(64, ARENA_NEXT);
	ck_assert(word && tc && arena);
	memset(object_out, 0, sizeof(object_out));
	object_gives = 0;
	memset(&k, 0, sizeof(k));
	k.id = ME;
	k.frames = k.pages = FRAMES;
	k.control.word = word;
	k.control.session = sessions;
	now_ns = 1;
	exchanges = told = untold = 0;
	cache_new(4 << 20);
}

static void teardown(void)
{
	free(arena);
	free(tc);
	free(word);
}

/* The bound holds, the counts fit, and every round is a cached block, named once. */
static void check_cache(void)
{
	static uint8_t seen[FRAMES];
	struct local_objects *o;
	int64_t bytes = 0, whole = 0;
	unsigned int c;
	uint32_t i;

	memset(seen, 0, sizeof(seen));
	for (c = 0; c < PAGE_CLASSES; c++) {
		struct local_class *lc = &tc->class[c];

		ck_assert_uint_le(local_size(lc), MAGAZINE_ROUNDS_MAX);
		ck_assert_uint_le(local_loaded(lc), MAGAZINE_ROUNDS_MAX);
		bytes += (int64_t)(local_loaded(lc) + lc->previous_n) * lc->bytes;
		for (i = 0; i < local_loaded(lc) + lc->previous_n; i++) {
			uint64_t r = i < local_loaded(lc) ? lc->loaded[i]
			                              : lc->previous[i - local_loaded(lc)];

			ck_assert(!seen[(uint32_t)r]++);
		}
	}
	for (o = tc->objects; o; o = o->next) {
		ck_assert_uint_le(local_loaded(&o->class), local_size(&o->class));
		ck_assert_uint_le(o->class.previous_n, local_size(&o->class));
		whole += 2 * (int64_t)local_size(&o->class) * o->class.bytes;
	}
	ck_assert_int_eq(tc->whole, whole);
	ck_assert_int_eq(tc->cap - tc->room, bytes + whole);
	ck_assert_int_ge(tc->room, 0);
}

static uint32_t take(unsigned int c)
{
	struct exchange x = { .order = tc->class[c].order };
	struct call_how how = { 0 };
	uint64_t r = UINT64_MAX;
	uint32_t n;

	if (local_take(tc, &tc->class[c], &r))
		return (uint32_t)r;
	if (local_refill(&k, tc, &tc->class[c], KMM_GFP_KERNEL, &how, &r) < 0) {
		ck_assert_int_eq(exchange_take(&k, &how, x, 0, OWNER_HELD, 1, &r, &n), 0);
		exchanges--;
	}
	return (uint32_t)r;
}

static void give(unsigned int c, uint32_t i)
{
	uint64_t w = owner_load(&word[i]);

	ck_assert(owner_is(w, OWNER_HELD, ME));
	w = owner_given_back(w, OWNER_RETURNED, ME);
	owner_store(&word[i], w);
	if (!local_keep(&k, tc, &tc->class[c], round_of_block(i, w)))
		page_free_tell(&k, i, tc->class[c].order, w);
}

START_TEST(a_pair_needs_no_exchange)
{
	unsigned int c = (unsigned int)_i, i;
	uint32_t first = take(c);

	give(c, first);
	exchanges = told = 0;
	for (i = 0; i < 1000; i++) {
		ck_assert_uint_eq(take(c), first);
		ck_assert_int_eq(place_of(first), HELD);
		give(c, first);
		ck_assert_int_eq(place_of(first), CACHED);
	}
	ck_assert_uint_eq(exchanges + told, 0);
	check_cache();
}
END_TEST

/* Around whatever level: what moves back and forth by less than a magazine stays in the thread. */
START_TEST(back_and_forth_needs_no_exchange)
{
	uint32_t held[2000], n = 0, level, size, i;
	unsigned int round;

	while (local_size(&tc->class[0]) < 63)
		held[n++] = take(0);
	size = local_size(&tc->class[0]);
	for (level = 0; level < 5; level++) {
		for (i = 0; i < size; i++)
			held[n++] = take(0);
		for (i = 0; i < size - 1; i++)
			give(0, held[--n]);
		exchanges = told = 0;
		for (round = 0; round < 20; round++) {
			for (i = 0; i < size - 1; i++)
				held[n++] = take(0);
			for (i = 0; i < size - 1; i++)
				give(0, held[--n]);
		}
		ck_assert_uint_eq(exchanges + told, 0);
		check_cache();
	}
}
END_TEST

START_TEST(collected_blocks_are_dropped)
{
	uint32_t held[64], i;
	uint64_t r;

	for (i = 0; i < 64; i++)
		held[i] = take(0);
	for (i = 0; i < 64; i++)
		give(0, held[i]);
	for (i = 0; i < FRAMES; i++)
		if (place_of(i) == CACHED)
			supply_back(i);
	ck_assert(!local_take(tc, &tc->class[0], &r));
	ck_assert_int_eq(tc->room, tc->cap);
	check_cache();
}
END_TEST

START_TEST(sizes_follow_the_misses)
{
	uint32_t size = local_size(&tc->class[0]), i;

	ck_assert_uint_eq(size, 1);
	/* rare misses: one a second */
	for (i = 0; i < 20; i++) {
		now_ns += 1000000000u;
		take(0);
	}
	ck_assert_uint_eq(local_size(&tc->class[0]), 1);
	for (i = 0; i < 4000; i++) {
		take(0);
		ck_assert_uint_ge(local_size(&tc->class[0]), size);
		size = local_size(&tc->class[0]);
	}
	ck_assert_uint_eq(size, MAGAZINE_ROUNDS_MAX);
	/* larger blocks are bounded by what a thread may cache: two magazines of them */
	ck_assert_uint_eq(local_size(&tc->class[3 * 4]), 1);
}
END_TEST

START_TEST(the_bound_holds)
{
	uint32_t big[4], small[1500], i;

	for (i = 0; i < 4; i++)
		big[i] = take(12);
	for (i = 0; i < 1500; i++)
		small[i] = take(0);
	for (i = 0; i < 1500; i++) {
		give(0, small[i]);
		check_cache();
	}
	for (i = 0; i < 4; i++) {
		give(12, big[i]);
		check_cache();
	}
	/* 4 MiB: two blocks of order 9 at most */
	ck_assert_uint_le(local_loaded(&tc->class[12]) + tc->class[12].previous_n, 2);
}
END_TEST

START_TEST(nothing_is_cached_without_room)
{
	uint32_t i;

	cache_new(_i);
	i = take(0);
	give(0, i);
	ck_assert_int_eq(place_of(i), _i >= 4096 ? CACHED : SUPPLY);
	check_cache();
}
END_TEST

START_TEST(flushed_and_forgotten)
{
	uint32_t held[300], i, c;

	for (c = 0; c < 4; c++) {
		for (i = 0; i < 300; i++)
			held[i] = take(3 * c);
		for (i = 0; i < 300; i++)
			give(3 * c, held[i]);
	}
	local_flush(&k, tc);
	ck_assert_int_eq(tc->room, tc->cap);
	for (i = 0; i < FRAMES; i++)
		ck_assert_int_eq(place_of(i), SUPPLY);
	check_cache();

	/* The daemon is away: the words say enough. */
	give(0, take(0));
	atomic_store(&k.state, SESSION_DOWN);
	exchanges = told = 0;
	local_flush(&k, tc);
	ck_assert_uint_eq(untold, 1);
	ck_assert_uint_eq(exchanges + told, 0);
	ck_assert_int_eq(tc->room, tc->cap);
}
END_TEST

/* ---- objects: what counts is how much their magazines can hold ---- */

static struct local_objects *objects_new(uint32_t id, uint32_t bytes)
{
	struct local_objects *o = &tc->object[id];

	o->id = id;
	o->class.kind = &local_held;
	o->class.bytes = bytes;
	o->next = tc->objects;
	tc->objects = o;
	local_class_start(&k, tc, &o->class);
	return o;
}

static uint64_t object_take(struct local_objects *o)
{
	struct call_how how = { 0 };
	uint64_t r = 0;
	uint32_t n;

	if (local_size(&o->class) == 0)
		local_class_start(&k, tc, &o->class);
	if (local_take(tc, &o->class, &r))
		return r;
	if (local_refill(&k, tc, &o->class, KMM_GFP_KERNEL, &how, &r) < 0) /* one by one */
		ck_assert_int_eq(objects_take(&k, (struct exchange){ 0 }, 0, NULL, 1, &r, &n), 0);
	return r;
}

static uint32_t objects_out(void)
{
	uint32_t i, n = 0;

	for (i = 1; i <= OBJECTS; i++)
		n += object_out[i];
	return n;
}

START_TEST(objects_grow_and_go_back)
{
	struct local_objects *o = objects_new(40, 64);
	static uint64_t held[6000];
	uint32_t i;

	ck_assert_uint_eq(local_size(&o->class), 15);
	for (i = 0; i < 6000; i++) {
		held[i] = object_take(o);
		ck_assert_uint_ne(held[i], 0);
	}
	ck_assert_uint_eq(local_size(&o->class), MAGAZINE_ROUNDS_MAX);
	check_cache();
	for (i = 0; i < 6000; i++)
		ck_assert(local_keep(&k, tc, &o->class, held[i]));
	check_cache();
	ck_assert_uint_eq(objects_out(), local_loaded(&o->class) + o->class.previous_n);
	local_flush_objects(&k, tc, true);
	ck_assert_uint_eq(objects_out(), 0);
	check_cache();
}
END_TEST

/* A magazine that fits is used; what fits the bound no more has none. */
START_TEST(large_objects_get_small_magazines)
{
	ck_assert_uint_eq(local_size(&objects_new(1, 8192)->class), 1);
	ck_assert_uint_eq(local_size(&objects_new(2, 1 << 20)->class), 1);
	ck_assert_uint_eq(local_size(&objects_new(3, (4 << 20))->class), 0);
	check_cache();
}
END_TEST

/* Room comes from classes that were not exchanged lately, with their magazines. */
START_TEST(idle_classes_make_room)
{
	struct local_objects *o[4], *late;
	uint64_t held[2000];
	uint32_t i, n;

	for (n = 0; n < 4; n++) {
		o[n] = objects_new(10 + n, 4096);
		for (i = 0; i < 2000; i++)
			held[i] = object_take(o[n]);
		for (i = 0; i < 2000; i++)
			if (!local_keep(&k, tc, &o[n]->class, held[i]))
				objects_give(&k, (struct exchange){ 0 }, &held[i], 1, false);
		ck_assert_uint_gt(local_size(&o[n]->class), 60);
		check_cache();
	}
	/* all of the room is taken, and nobody is idle: small magazines */
	late = objects_new(20, 512);
	n = local_size(&late->class);
	for (i = 0; i < 2000; i++)
		object_take(late);
	check_cache();
	now_ns += 1000000000u;
	for (i = 0; i < 2000; i++)
		object_take(late);
	ck_assert_uint_gt(local_size(&late->class), n);
	ck_assert_uint_lt(local_size(&o[0]->class) + local_size(&o[1]->class) + local_size(&o[2]->class) +
	                          local_size(&o[3]->class),
	                  4u * 128);
	check_cache();
	local_flush_objects(&k, tc, true);
	check_cache();
}
END_TEST

START_TEST(many_at_once)
{
	struct local_objects *o = objects_new(40, 64);
	uint64_t r[MAGAZINE_ROUNDS_MAX];
	uint32_t n, i;

	objects_take(&k, (struct exchange){ 0 }, 0, NULL, 500, r, &n);
	local_keep_many(&k, tc, &o->class, r, n);
	check_cache();
	ck_assert_uint_eq(objects_out(), 30); /* two magazines of 15 */
	n = local_take_many(tc, &o->class, r, 512);
	ck_assert_uint_eq(n, 30);
	for (i = 0; i < n; i++)
		ck_assert(object_out[r[i]]);
	check_cache();
}
END_TEST

/* Random takes and frees, with time passing and the daemon collecting. */
START_TEST(random_against_the_words)
{
	static uint32_t held[3000];
	uint32_t n = 0, step, i;
	unsigned int seed = 12345u + (unsigned int)_i;

	for (step = 0; step < 60000; step++) {
		unsigned int what = (unsigned int)rand_r(&seed);

		now_ns += what % 5000000;
		if (what % 1000 == 0) {
			for (i = 0; i < FRAMES; i++)
				if (place_of(i) == CACHED && rand_r(&seed) % 2)
					supply_back(i);
		} else if ((what >> 12) % 16 < 8 && n < 3000 / (1 + step / 20000)) {
			held[n] = take(0);
			ck_assert_int_eq(place_of(held[n]), HELD);
			n++;
		} else if (n > 0) {
			i = what % n;
			give(0, held[i]);
			held[i] = held[--n];
		}
		if (step % 1000 == 0)
			check_cache();
	}
	while (n > 0)
		give(0, held[--n]);
	check_cache();
	local_flush(&k, tc);
	for (i = 0; i < FRAMES; i++)
		ck_assert_int_eq(place_of(i), SUPPLY);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client_magazine");
	TCase *t = tcase_create("magazine");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, a_pair_needs_no_exchange, 0, PAGE_CLASSES);
	tcase_add_test(t, back_and_forth_needs_no_exchange);
	tcase_add_test(t, collected_blocks_are_dropped);
	tcase_add_test(t, sizes_follow_the_misses);
	tcase_add_test(t, the_bound_holds);
	tcase_add_loop_test(t, nothing_is_cached_without_room, 4095, 4097);
	tcase_add_test(t, flushed_and_forgotten);
	tcase_add_test(t, objects_grow_and_go_back);
	tcase_add_test(t, large_objects_get_small_magazines);
	tcase_add_test(t, idle_classes_make_room);
	tcase_add_test(t, many_at_once);
	tcase_add_loop_test(t, random_against_the_words, 0, 4);
	suite_add_tcase(s, t);
	return suite_status(s);
}
