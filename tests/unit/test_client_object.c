/* SPDX-License-Identifier: MIT */
/*
 * Objects in libkmm (object.c, object_slow.c, exchange.c, magazine.c)
 * against a daemon played by fake_daemon.c: what owner words say after each step, what is refused,
 * where objects are after flushes and deaths of the daemon. Caches: test_client_cache.c; threads:
 * test_client_seize.c.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"
#include "tests/unit/fake_daemon.h"

#define K (&fake.k)
#define MANY 3000u

/* Ids of the caches that the tests use. */
enum { C64 = 40, C72, CHECKED, CTOR, BIG, OTHER };

static struct kmm_cache *c64, *c72, *checked, *with_ctor, *big;
static void *held[MANY];
static unsigned int constructed;

static void ctor(void *p)
{
	constructed++;
	memset(p, 0x5c, 48);
}

static void setup(void)
{
	static const uint32_t size[KMALLOC_CLASSES] = { 8,   16,  32,   64,   96,   128, 192,
		                                        256, 512, 1024, 2048, 4096, 8192 };
	uint32_t i;

	fake_start(4 << 20);
	for (i = 0; i < KMALLOC_CLASSES; i++)
		fake_cache_make(1 + i, "kmalloc", size[i], size[i], size[i] > 512 ? 3 : 0, 0, false);
	fake_cache_make(C64, "c64", 60, 64, 0, 0, false);
	fake_cache_make(C72, "c72", 72, 72, 1, 0, false);
	fake_cache_make(CHECKED, "checked", 64, 64, 0, KMM_SLAB_CONSISTENCY_CHECKS, false);
	fake_cache_make(CTOR, "ctor", 48, 48, 0, 0, true);
	fake_cache_make(BIG, "big", 20000, 20480, 3, 0, false);
	fake_cache_make(OTHER, "other", 64, 64, 0, 0, false);
	c64 = fake_cache(C64, NULL);
	c72 = fake_cache(C72, NULL);
	checked = fake_cache(CHECKED, NULL);
	with_ctor = fake_cache(CTOR, ctor);
	big = fake_cache(BIG, NULL);
	constructed = 0;
}

static void teardown(void)
{
	fake_stop();
}

static bool is(const void *p, enum owner_kind kind)
{
	return owner_is(owner_load(fake_word(p)), kind, kind == OWNER_FREE ? 0 : FAKE_ME);
}

static void *alloc(struct kmm_cache *c)
{
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	ck_assert_ptr_nonnull(p);
	ck_assert(is(p, OWNER_HELD));
	return p;
}

static struct kmm_cache *cache_of(int i)
{
	struct kmm_cache *all[] = { c64, c72, checked, with_ctor, big };

	return all[i];
}
#define CACHES 5

START_TEST(a_pair_needs_no_call)
{
	struct kmm_cache *c = cache_of(_i);
	unsigned int calls, i;
	void *p = alloc(c);

	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	calls = fake.exchanges + fake.allocs + fake.frees;
	for (i = 0; i < 1000; i++) {
		void *q = alloc(c);

		ck_assert_ptr_eq(q, p);
		ck_assert_int_eq(kmm_cache_free(c, q), 0);
	}
	ck_assert_uint_eq(fake.exchanges + fake.allocs + fake.frees, calls);
}
END_TEST

START_TEST(every_object_once_and_all_come_back)
{
	struct kmm_cache *c = cache_of(_i);
	uint32_t n = c == big ? 100 : MANY, i, j, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < n; i++) {
			held[i] = alloc(c);
			memset(held[i], (int)i, c->view->size);
		}
		for (i = 0; i < n; i++)
			for (j = 0; j < c->view->size; j += 16)
				ck_assert_uint_eq(((uint8_t *)held[i])[j], (uint8_t)i);
		for (i = 0; i < n; i++)
			ck_assert_int_eq(kmm_cache_free(c, held[i]), 0);
	}
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert_uint_eq(fake_out(c->id), 0);
	ck_assert_uint_eq(fake.events + fake.reports, 0);
}
END_TEST

static int refused(struct kmm_cache *c, void *p, int error)
{
	uint32_t out = fake_out(c->id);

	ck_assert_int_eq(kmm_cache_free(c, p), -error);
	ck_assert_int_eq(kmm_cache_free_bulk(c, 1, &p), -error);
	ck_assert_uint_eq(fake_out(c->id), out);
	return strlen(kmm_error_text()) > 0;
}

START_TEST(bad_frees_are_refused)
{
	struct kmm_cache *c = cache_of(_i);
	uint8_t *p = alloc(c), *q = alloc(c == c64 ? c72 : c64);
	owner_word_t *word = fake_word(p);
	uint64_t w = owner_load(word);
	int on_stack;

	for (int i = 1; i < 64; i++)
		if (i < (int)c->view->stride)
			ck_assert(refused(c, p + i, EINVAL));
	ck_assert(refused(c, q, EINVAL)); /* another cache's */
	ck_assert(refused(c, &on_stack, EINVAL));
	ck_assert(refused(c, K->window + 4096, ENOENT));
	ck_assert(refused(c, K->window + K->window_size, EINVAL));
	/* another session's, adopted by another, free */
	owner_store(word, owner_moved(w, OWNER_HELD, FAKE_OTHER));
	ck_assert(refused(c, p, EPERM));
	object_shared_set(K, (uint32_t)(word - K->control.object));
	ck_assert(refused(c, p, ESTALE));
	object_shared_clear(K, (uint32_t)(word - K->control.object));
	owner_store(word, owner_moved(w, OWNER_FREE, 0));
	ck_assert(refused(c, p, ENOENT));
	owner_store(word, w);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(c, NULL), 0);
	ck_assert_int_eq(kmm_cache_free(NULL, p), -EINVAL);
	ck_assert_ptr_null(kmm_cache_alloc(NULL, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(a_shared_object_is_renewed)
{
	struct kmm_cache *c = cache_of(_i);
	void *p = alloc(c);
	owner_word_t *word = fake_word(p);
	uint64_t w = owner_load(word);

	owner_store(word, w | OWNER_SHARED);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_uint_eq(owner_generation(owner_load(word)), owner_generation(w) + 1);
	ck_assert(!(owner_load(word) & OWNER_SHARED));
	ck_assert_ptr_eq(alloc(c), p);
}
END_TEST

START_TEST(a_kept_object_goes_to_its_holders)
{
	struct kmm_cache *c = cache_of(_i);
	void *p = alloc(c);
	owner_word_t *word = fake_word(p);

	owner_store(word, owner_load(word) | OWNER_KEPT | OWNER_SHARED);
	fake.frees = 0;
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_uint_eq(fake.frees, 1);
	ck_assert(is(p, OWNER_RETURNED) && (owner_load(word) & OWNER_KEPT));
	ck_assert_ptr_ne(alloc(c), p);
}
END_TEST

START_TEST(zeroed_when_asked)
{
	uint8_t *p = alloc(c64);
	unsigned int i;

	memset(p, 0xee, 60);
	kmm_cache_free(c64, p);
	p = kmm_cache_alloc(c64, KMM_GFP_KERNEL | KMM_GFP_ZERO);
	for (i = 0; i < 60; i++)
		ck_assert_uint_eq(p[i], 0);
	p = kmm_kmalloc(K, 100, KMM_GFP_KERNEL);
	memset(p, 0xee, 128);
	ck_assert_int_eq(kmm_kfree(K, p), 0);
	p = kmm_kmalloc(K, 100, KMM_GFP_KERNEL | KMM_GFP_ZERO);
	for (i = 0; i < 128; i++)
		ck_assert_uint_eq(p[i], 0);
}
END_TEST

START_TEST(flags_are_checked)
{
	static const struct {
		kmm_gfp_t gfp;
		int error;
	} bad[] = {
		{ KMM_GFP_KERNEL | KMM_GFP_HIGHMEM, EINVAL },
		{ KMM_GFP_KERNEL | 0x200u, EINVAL },
		{ KMM_GFP_KERNEL | KMM_GFP_MEMALLOC, EPERM },
		{ KMM_GFP_KERNEL | KMM_GFP_MOVABLE | KMM_GFP_RECLAIMABLE, EINVAL },
	};
	void *p[2];
	size_t i;

	kmm_cache_free(c64, alloc(c64));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_ptr_null(kmm_cache_alloc(c64, bad[i].gfp));
		ck_assert_int_eq(errno, bad[i].error);
		ck_assert_uint_eq(kmm_cache_alloc_bulk(c64, bad[i].gfp, 2, p), 0);
		ck_assert_int_eq(errno, bad[i].error);
	}
	ck_assert_ptr_null(kmm_cache_alloc(with_ctor, KMM_GFP_KERNEL | KMM_GFP_ZERO));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_nonnull(kmm_cache_alloc(c64, KMM_GFP_KERNEL | KMM_GFP_MOVABLE));
	ck_assert_ptr_nonnull(kmm_cache_alloc(c64, KMM_GFP_KERNEL | KMM_GFP_LOCAL));
	ck_assert_ptr_null(kmm_cache_alloc(big, KMM_GFP_KERNEL | KMM_GFP_LOCAL));
	ck_assert_int_eq(errno, ENOMEM);
}
END_TEST

START_TEST(constructed_once)
{
	uint32_t i, n;

	for (i = 0; i < 500; i++) {
		held[i] = alloc(with_ctor);
		ck_assert_uint_eq(*(uint8_t *)held[i], 0x5c);
		ck_assert(owner_load(fake_word(held[i])) & OWNER_CONSTRUCTED);
	}
	for (i = 0; i < 500; i++)
		kmm_cache_free(with_ctor, held[i]);
	n = constructed;
	ck_assert_uint_ge(n, 500);
	kmm_cache_shrink(with_ctor);
	for (i = 0; i < 200; i++) /* from the daemon again, constructed */
		held[i] = alloc(with_ctor);
	ck_assert_uint_eq(constructed, n);
}
END_TEST

START_TEST(opened_only_takes_no_raw_object)
{
	struct kmm_cache *c;
	void *p = alloc(with_ctor);

	kmm_cache_free(with_ctor, p);
	kmm_cache_shrink(with_ctor);
	ck_assert_int_eq(kmm_cache_destroy(with_ctor), 0);
	c = kmm_cache_open(K, "ctor");
	ck_assert_ptr_nonnull(c);
	/* the fake serves raw ones all the same: they are not handed out */
	do {
		errno = 0;
		held[0] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
		if (held[0])
			ck_assert(owner_load(fake_word(held[0])) & OWNER_CONSTRUCTED);
	} while (held[0]);
	ck_assert_int_eq(errno, ENOKEY);
	fake.no_magazines = true;
}
END_TEST

START_TEST(a_double_free_is_found_when_the_magazine_leaves)
{
	struct kmm_cache *c = _i ? c72 : c64;
	void *p = alloc(c);

	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_uint_eq(fake.events, 0);
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert_uint_eq(fake.events, 1);
	ck_assert_uint_eq(fake.reports, 1);
	ck_assert_ptr_nonnull(strstr(fake.event, c->view->name));
	ck_assert_uint_eq(fake_out(c->id), 0);
}
END_TEST

START_TEST(a_double_free_is_refused_where_it_is_checked)
{
	void *p = alloc(checked), *both[2];

	ck_assert_int_eq(kmm_cache_free(checked, p), 0);
	ck_assert(is(p, OWNER_RETURNED));
	ck_assert_int_eq(kmm_cache_free(checked, p), -ENOENT);
	ck_assert_int_eq(kmm_kfree(K, p), -ENOENT);
	p = alloc(checked);
	both[0] = both[1] = p;
	ck_assert_int_eq(kmm_cache_free_bulk(checked, 2, both), -ENOENT);
}
END_TEST

/* What is marked may be collected at any time: it is not handed out again. */
START_TEST(marked_objects_can_be_collected)
{
	uint32_t i, j;

	for (i = 0; i < 100; i++)
		held[i] = alloc(checked);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(kmm_cache_free(checked, held[i]), 0);
	ck_assert_int_eq(kmm_flush(K), 0);
	ck_assert_uint_eq(fake_out(CHECKED), 0);
	for (i = 0; i < 200; i++) {
		held[i] = alloc(checked);
		for (j = 0; j < i; j++)
			ck_assert_ptr_ne(held[i], held[j]);
	}
	ck_assert_uint_eq(fake.events, 0);
}
END_TEST

/* kmm_kfree takes objects of caches that the session has not open; others may end such a cache. */
START_TEST(freed_without_opening)
{
	kmm_v1_AllocObjectReply reply;
	kmm_v1_AllocObjectRequest q = { .cache = OTHER };
	struct call_how how = call_begin(K, 0);
	uint32_t i;

	for (i = 0; i < 100; i++) {
		owner_word_t *word;

		CALL(K, &how, ALLOCATOR_ALLOC_OBJECT, AllocObject, &q, &reply);
		held[i] = K->window + ((size_t)reply.granule << 3);
		word = fake_word(held[i]);
		owner_store(word, owner_moved(owner_load(word), OWNER_HELD, FAKE_ME)); /* adopted */
	}
	fake.frees = 0;
	for (i = 0; i < 100; i++) {
		ck_assert_int_eq(kmm_kfree(K, held[i]), 0);
		ck_assert(!is(held[i], OWNER_HELD));
		ck_assert_int_eq(kmm_kfree(K, held[i]), -ENOENT);
	}
	ck_assert_uint_lt(fake.frees, 20); /* by magazines */
	ck_assert_int_eq(kmm_flush(K), 0);
	ck_assert_uint_eq(fake_out(OTHER), 0);
	ck_assert_uint_eq(fake.events, 0);
}
END_TEST

START_TEST(bulk_is_all_or_nothing)
{
	struct kmm_cache *c = cache_of(_i);
	uint32_t n = c == big ? 50 : 1500, i, out;
	void *spoiled;

	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, n, held), n);
	for (i = 0; i < n; i++)
		ck_assert(is(held[i], OWNER_HELD));
	for (i = 0; i < n; i += 7) {
		spoiled = held[i];
		out = fake_out(c->id);
		held[i] = i % 2 ? NULL : (uint8_t *)held[i] + 8;
		ck_assert_int_eq(kmm_cache_free_bulk(c, n, held), -EINVAL);
		ck_assert_uint_eq(fake_out(c->id), out);
		held[i] = spoiled;
	}
	ck_assert_int_eq(kmm_cache_free_bulk(c, n, held), 0);
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert_uint_eq(fake_out(c->id), 0);
	ck_assert_int_eq(kmm_cache_free_bulk(c, 0, NULL), 0);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 0, NULL), 0);
	/* in part */
	fake.limit = fake.frame;
	errno = 0;
	n = (uint32_t)kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, MANY, held);
	ck_assert_uint_lt(n, MANY);
	ck_assert_int_eq(errno, ENOMEM);
	for (i = 0; i < n; i++)
		ck_assert_int_eq(kmm_cache_free(c, held[i]), 0);
	ck_assert_uint_eq(fake.events, 0);
}
END_TEST

/* What a thread's magazines of a cache hold. */
static uint32_t cached(struct kmm_cache *c)
{
	struct local_class *lc = &thread_cache_find(K)->object[c->id].class;

	return local_loaded(lc) + lc->previous_n;
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return (x > y) - (x < y);
}

/* Where the thread's magazines have room: a wrong one at any place among those of one slab and of
 * several, and nothing is freed; else all are, without a call. */
START_TEST(small_bulks_are_all_or_nothing)
{
	struct kmm_cache *c = _i % 2 ? c72 : c64, *other = _i % 2 ? c64 : c72;
	enum { N = 37 };
	void *p[N], *back[N], *stranger = alloc(other);
	uint32_t i, j, before;
	unsigned int calls;

	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 4 * N, held), 4 * N);
	ck_assert_int_eq(kmm_cache_free_bulk(c, 4 * N, held), 0);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, MANY, held), MANY);
	/* neighbours, from many slabs, by turns from two */
	for (i = 0; i < N; i++)
		p[i] = held[_i < 2 ? i : _i < 4 ? i * 80 : i % 2 * 1500 + i];
	before = cached(c);
	for (i = 0; i < N; i++) {
		uint8_t *right = p[i];
		owner_word_t *word = fake_word(right);
		uint64_t w = owner_load(word);
		void *const wrong[] = { NULL, right + 8, right - 8, stranger, K->window - 64,
			                K->window + K->window_size, K->window + 4096 };

		for (j = 0; j < sizeof(wrong) / sizeof(wrong[0]); j++) {
			p[i] = wrong[j];
			ck_assert_int_lt(kmm_cache_free_bulk(c, N, p), 0);
			ck_assert_uint_eq(cached(c), before);
		}
		p[i] = right;
		owner_store(word, owner_moved(w, OWNER_HELD, FAKE_OTHER));
		ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), -EPERM);
		owner_store(word, owner_moved(w, OWNER_RETURNED, FAKE_ME));
		ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), -ENOENT);
		owner_store(word, w);
		ck_assert_uint_eq(cached(c), before);
	}
	calls = fake.exchanges + fake.allocs + fake.frees;
	ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), 0);
	ck_assert_uint_eq(cached(c), before + N);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, back), N);
	qsort(back, N, sizeof(back[0]), by_address); /* in which order is nobody's business */
	qsort(p, N, sizeof(p[0]), by_address);
	ck_assert_mem_eq(back, p, sizeof(p));
	ck_assert_uint_eq(fake.exchanges + fake.allocs + fake.frees, calls);
	for (i = 0; i < N; i++)
		ck_assert(is(p[i], OWNER_HELD));
}
END_TEST

/* Few at a time make no more exchanges than magazines are filled. */
START_TEST(small_bulks_go_by_whole_magazines)
{
	uint32_t i;

	for (i = 0; i < MANY; i++)
		held[i] = alloc(c64);
	kmm_cache_shrink(c64); /* magazines of some size, empty */
	fake.exchanges = fake.gives = fake.frees = 0;
	for (i = 0; i < MANY; i += 8)
		ck_assert_int_eq(kmm_cache_free_bulk(c64, 8, held + i), 0);
	ck_assert_uint_le(fake.gives, MANY / 64);
	ck_assert_uint_eq(fake.frees, 0);
	kmm_cache_shrink(c64);
	ck_assert_uint_eq(fake_out(C64), 0);
	fake.exchanges = fake.allocs = 0;
	for (i = 0; i < MANY; i += 8)
		ck_assert_uint_eq(kmm_cache_alloc_bulk(c64, KMM_GFP_KERNEL, 8, held + i), 8);
	ck_assert_uint_le(fake.exchanges, MANY / 64);
	ck_assert_uint_eq(fake.allocs, 0);
	ck_assert_uint_eq(fake.events, 0);
}
END_TEST

/* Memory is short: nothing is cached. */
START_TEST(under_pressure_one_by_one)
{
	struct kmm_cache *c = cache_of(_i);
	void *p = alloc(c), *q;

	kmm_cache_free(c, p);
	p = alloc(c);
	seize_objects(K, NULL, false);
	atomic_store(&K->control.status->pressure, 1);
	local_flush_objects(K, thread_cache_find(K), true);
	local_close(&thread_cache_find(K)->object[c->id].class); /* as the keeper does for others */
	fake.frees = fake.allocs = fake.exchanges = 0;
	q = alloc(c);
	ck_assert_uint_eq(fake.allocs, 1);
	ck_assert_int_eq(kmm_cache_free(c, q), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_uint_eq(fake.frees, 2);
	ck_assert_uint_eq(fake.exchanges, 0);
	ck_assert_uint_eq(fake_out(c->id), 0);
	atomic_store(&K->control.status->pressure, 0);
	p = alloc(c);
	fake.frees = 0;
	kmm_cache_free(c, p);
	ck_assert_uint_eq(fake.frees, 0);
}
END_TEST

START_TEST(without_magazines_one_by_one)
{
	struct kmm_cache *c = cache_of(_i);
	uint32_t i;

	fake.no_magazines = true;
	for (i = 0; i < 200; i++)
		held[i] = alloc(c);
	for (i = 0; i < 200; i++)
		ck_assert_int_eq(kmm_cache_free(c, held[i]), 0);
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert_uint_eq(fake_out(c->id), 0);
}
END_TEST

/* The daemon is away: what finds no place is marked, and told later. */
START_TEST(away)
{
	struct kmm_cache *c = cache_of(_i);
	uint32_t i, returned = 0;

	for (i = 0; i < 100; i++)
		held[i] = alloc(c);
	atomic_store(&K->state, SESSION_DOWN);
	fake.away = true;
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(kmm_cache_free(c, held[i]), 0);
	for (i = 0; i < 100; i++)
		returned += is(held[i], OWNER_RETURNED);
	ck_assert_uint_gt(returned, 0);
	ck_assert_uint_gt(fake.untold, 0);
	ck_assert_ptr_nonnull(kmm_cache_alloc(c, KMM_GFP_KERNEL)); /* from the magazines */
	fake.away = false;
	atomic_store(&K->state, SESSION_UP);
	ck_assert_int_eq(kmm_flush(K), 0);
	ck_assert_uint_eq(fake_out(c->id), 1);
	ck_assert_uint_eq(fake.events, 0);
}
END_TEST

/* Random use of several caches, checked against a list; the daemon collects now and then. */
START_TEST(random_steps)
{
	static struct {
		void *p;
		struct kmm_cache *c;
	} live[1000];
	unsigned int seed = 99u + (unsigned int)_i;
	uint32_t n = 0, step, i;

	for (step = 0; step < 100000; step++) {
		unsigned int what = (unsigned int)rand_r(&seed) >> 4;
		struct kmm_cache *c = cache_of((int)(what % (CACHES - 1)));

		what /= 16;
		if (what % 5000 == 0) {
			ck_assert_int_eq(kmm_flush(K), 0);
		} else if (what % 1000 == 1) {
			ck_assert_int_eq(kmm_cache_shrink(c), 0);
		} else if (what % 2 && n < 1000) {
			live[n].c = c;
			live[n].p = alloc(c);
			*(uint32_t *)live[n].p = n;
			n++;
		} else if (n > 0) {
			i = what / 2 % n;
			ck_assert_uint_eq(*(uint32_t *)live[i].p, i);
			*(uint32_t *)live[i].p = 0x5c5c5c5c;
			ck_assert_int_eq(what % 3 ? kmm_cache_free(live[i].c, live[i].p)
			                          : kmm_kfree(K, live[i].p),
			                 0);
			live[i] = live[--n];
			if (i < n)
				*(uint32_t *)live[i].p = i;
		}
	}
	while (n-- > 0)
		kmm_cache_free(live[n].c, live[n].p);
	ck_assert_int_eq(kmm_flush(K), 0);
	for (i = C64; i <= BIG; i++)
		ck_assert_uint_eq(fake_out(i), 0);
	ck_assert_uint_eq(fake.events + fake.reports, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client_object");
	TCase *t = tcase_create("object");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, a_pair_needs_no_call, 0, CACHES);
	tcase_add_loop_test(t, every_object_once_and_all_come_back, 0, CACHES);
	tcase_add_loop_test(t, bad_frees_are_refused, 0, CACHES);
	tcase_add_loop_test(t, a_shared_object_is_renewed, 0, CACHES);
	tcase_add_loop_test(t, a_kept_object_goes_to_its_holders, 0, CACHES);
	tcase_add_test(t, zeroed_when_asked);
	tcase_add_test(t, flags_are_checked);
	tcase_add_test(t, constructed_once);
	tcase_add_test(t, opened_only_takes_no_raw_object);
	tcase_add_loop_test(t, a_double_free_is_found_when_the_magazine_leaves, 0, 2);
	tcase_add_test(t, a_double_free_is_refused_where_it_is_checked);
	tcase_add_test(t, marked_objects_can_be_collected);
	tcase_add_test(t, freed_without_opening);
	tcase_add_loop_test(t, bulk_is_all_or_nothing, 0, CACHES);
	tcase_add_loop_test(t, small_bulks_are_all_or_nothing, 0, 6);
	tcase_add_test(t, small_bulks_go_by_whole_magazines);
	tcase_add_loop_test(t, under_pressure_one_by_one, 0, CACHES);
	tcase_add_loop_test(t, without_magazines_one_by_one, 0, CACHES);
	tcase_add_loop_test(t, away, 0, CACHES);
	tcase_add_loop_test(t, random_steps, 0, 4);
	suite_add_tcase(s, t);
	return suite_status(s);
}
