/* SPDX-License-Identifier: MIT */
/*
 * Named caches through a real daemon: creating, joining, opening and destroying them from several
 * processes, each refusal with its reason, flags and alignments, constructors, shrinking.
 *
 *      test process (k)            peer a              peer b
 *      kmm_cache_create "c" ───> create, open "c" ──> …        one cache, three users
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/fixture.h"

static struct kmm_cache *cache_new(const char *name, size_t size)
{
	struct kmm_cache *c = kmm_cache_create(k, name, size, 0, 0, NULL);

	ck_assert_msg(c != NULL, "%s: errno %d, %s", name, errno, kmm_error_text());
	return c;
}

/* errno and a text with all of the words. */
static void refused(const void *result, int error, const char *word)
{
	int e = errno;

	ck_assert_ptr_null(result);
	ck_assert_msg(e == error, "errno %d (%s), not %d: %s", e, strerror(e), error,
		      kmm_error_text());
	ck_assert_msg(strstr(kmm_error_text(), word) != NULL, "\"%s\" is not in: %s", word,
		      kmm_error_text());
}

/* ---- creating, joining, opening ---- */

START_TEST(a_cache_is_the_domain_s)
{
	struct kmm_cache *c = cache_new("shared", 200), *o;
	struct cache_row row;
	char *p;

	ck_assert_uint_eq(kmm_cache_size(c), 200);
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "shared", 200, 0, 0), 0);
	ck_assert_int_eq(peer_do_text(&b, PEER_CACHE_OPEN, "shared", 0, 0, 0), 0);
	ck_assert(daemon_cache_row(&d, "shared", &row));
	ck_assert_uint_ge(row.size, 200);
	ck_assert_uint_eq(row.active, 0);
	p = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	ck_assert_ptr_nonnull(p);
	object_fill(p, 200, 1);
	ck_assert_int_ge(peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), 0);
	ck_assert_int_ge(peer_do(&b, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0), 0);
	ck_assert(object_check(p, 200, 1));
	/* one pointer a session, a reference for each call */
	ck_assert_ptr_eq(cache_new("shared", 200), c);
	o = kmm_cache_open(k, "shared");
	ck_assert_ptr_eq(o, c);
	ck_assert_int_eq(kmm_cache_destroy(o), 0);
	ck_assert_int_eq(kmm_cache_destroy(o), 0);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
	/* it lives on with its other users */
	ck_assert(daemon_cache_row(&d, "shared", &row));
	c = kmm_cache_open(k, "shared");
	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_nonnull(kmm_cache_alloc(c, KMM_GFP_KERNEL));
}
END_TEST

START_TEST(the_creation_that_differs_is_refused)
{
	static const struct {
		size_t size, align;
		kmm_slab_flags_t flags;
		void (*ctor)(void *);
		const char *word;
	} differs[] = {
		{ 97, 32, KMM_SLAB_RECLAIM_ACCOUNT, NULL, "96 bytes, not 97" },
		{ 96, 64, KMM_SLAB_RECLAIM_ACCOUNT, NULL, "align" },
		{ 96, 0, KMM_SLAB_RECLAIM_ACCOUNT, NULL, "align" },
		{ 96, 32, 0, NULL, "flags" },
		{ 96, 32, KMM_SLAB_RECLAIM_ACCOUNT | KMM_SLAB_HWCACHE_ALIGN, NULL,
		  "without SLAB_HWCACHE_ALIGN" },
		{ 96, 32, KMM_SLAB_RECLAIM_ACCOUNT | KMM_SLAB_ACCOUNT, NULL, "flags" },
		{ 96, 32, KMM_SLAB_RECLAIM_ACCOUNT, object_construct, "constructor" },
	};

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "differs", 96, 32,
				      KMM_SLAB_RECLAIM_ACCOUNT),
			 0);
	for (size_t i = 0; i < sizeof(differs) / sizeof(differs[0]); i++)
		refused(kmm_cache_create(k, "differs", differs[i].size, differs[i].align,
					 differs[i].flags, differs[i].ctor),
			EEXIST, differs[i].word);
	ck_assert_ptr_nonnull(
		kmm_cache_create(k, "differs", 96, 32, KMM_SLAB_RECLAIM_ACCOUNT, NULL));
	/* and where the first has one */
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "built", 96, 0, UINT64_C(1) << 32), 1);
	refused(kmm_cache_create(k, "built", 96, 0, 0, NULL), EEXIST, "constructor");
	ck_assert_int_eq(peer_do_text(&b, PEER_CACHE_CREATE, "built", 96, 0, 0), -EEXIST);
	ck_assert_int_eq(peer_do_text(&b, PEER_CACHE_CREATE, "built", 96, 0, UINT64_C(1) << 32), 0);
}
END_TEST

START_TEST(creations_that_make_no_sense)
{
	char long_name[KMM_NAME_MAX + 2];
	const struct {
		const char *name;
		size_t size, align;
		kmm_slab_flags_t flags;
	} wrong[] = {
		{ "", 64, 0, 0 },
		{ long_name, 64, 0, 0 },
		{ "two words", 64, 0, 0 },
		{ "new\nline", 64, 0, 0 },
		{ "tab\tbed", 64, 0, 0 },
		{ "none", 0, 0, 0 },
		{ "large", (4u << 20) + 1, 0, 0 },
		{ "larger", SIZE_MAX, 0, 0 },
		{ "aligned", 64, 3, 0 },
		{ "aligned", 64, 48, 0 },
		{ "aligned", 64, SIZE_MAX, 0 },
		{ "aligned", 64, 1u << 23, 0 },
		{ "aligned", 4u << 20, 1u << 23, 0 },
		{ "flagged", 64, 0, 0x1u },
		{ "flagged", 64, 0, 0x80000000u },
		{ "flagged", 64, 0, KMM_SLAB_CACHE_DMA | KMM_SLAB_CACHE_DMA32 },
		{ "kmalloc-mine", 64, 0, 0 }, /* the pool's own */
		{ "kmalloc-rcl-mine", 64, 0, 0 },
		{ "dma-kmalloc-", 64, 0, 0 },
	};
	struct cache_row row;

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = 0;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		errno = 0;
		ck_assert_ptr_null(kmm_cache_create(k, wrong[i].name, wrong[i].size, wrong[i].align,
						    wrong[i].flags, NULL));
		ck_assert_msg(errno == EINVAL, "row %zu: errno %d, %s", i, errno, kmm_error_text());
		ck_assert_str_ne(kmm_error_text(), "");
		ck_assert(!daemon_cache_row(&d, wrong[i].name, &row));
	}
	/* the longest name there may be */
	long_name[KMM_NAME_MAX] = 0;
	ck_assert_ptr_nonnull(cache_new(long_name, 64));
	ck_assert(daemon_cache_row(&d, long_name, &row));
	/* also when it is one of the pool's; which may be opened, and names that only look alike */
	refused(kmm_cache_create(k, "kmalloc-64", 64, 64, 0, NULL), EINVAL, "kmalloc-64");
	ck_assert_ptr_nonnull(kmm_cache_open(k, "kmalloc-64"));
	ck_assert_ptr_nonnull(cache_new("kmalloc", 64));
	ck_assert_ptr_nonnull(cache_new("my-kmalloc-64", 64));
	refused(kmm_cache_open(k, "nobody's"), ENOENT, "nobody's");
	errno = 0;
	ck_assert_ptr_null(kmm_cache_open(k, ""));
	ck_assert(errno == ENOENT || errno == EINVAL);
}
END_TEST

START_TEST(null_is_refused_not_a_crash)
{
	struct kmm_cache *c = cache_new("null", 64);
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL), *many[2] = { p, NULL };

#define gives_einval(zero, call)                 \
	do {                                     \
		errno = 0;                       \
		ck_assert((call) == (zero));     \
		ck_assert_int_eq(errno, EINVAL); \
	} while (0)
	gives_einval(NULL, kmm_cache_create(NULL, "n", 8, 0, 0, NULL));
	gives_einval(NULL, kmm_cache_create(k, NULL, 8, 0, 0, NULL));
	gives_einval(NULL, kmm_cache_open(NULL, "null"));
	gives_einval(NULL, kmm_cache_open(k, NULL));
	gives_einval(NULL, kmm_cache_alloc(NULL, KMM_GFP_KERNEL));
	gives_einval(0, kmm_cache_alloc_bulk(NULL, KMM_GFP_KERNEL, 2, many));
	gives_einval(0, kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 2, NULL));
	gives_einval(0, kmm_cache_size(NULL));
	gives_einval(0, kmm_lookup(NULL, "n"));
	gives_einval(0, kmm_lookup(k, NULL));
#undef gives_einval
	errno = 0;
	ck_assert_int_eq(kmm_cache_destroy(NULL), 0);
	ck_assert_int_eq(kmm_cache_free(c, NULL), 0);
	ck_assert_int_eq(kmm_cache_free(NULL, p), -EINVAL);
	ck_assert_int_eq(kmm_cache_shrink(NULL), -EINVAL);
	ck_assert_int_eq(kmm_cache_free_bulk(NULL, 1, many), -EINVAL);
	ck_assert_int_eq(kmm_cache_free_bulk(c, 1, NULL), -EINVAL);
	ck_assert_int_eq(kmm_cache_free_bulk(c, 2, many), -EINVAL); /* all or none */
	ck_assert_int_eq(kmm_cache_free_bulk(c, 0, many), 0);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 0, many), 0);
	ck_assert_int_eq(kmm_publish(NULL, "n", p), -EINVAL);
	ck_assert_int_eq(kmm_publish(k, NULL, p), -EINVAL);
	ck_assert_int_eq(kmm_publish(k, "n", NULL), -EINVAL);
	ck_assert_int_eq(kmm_unpublish(NULL, "n"), -EINVAL);
	ck_assert_int_eq(kmm_unpublish(k, NULL), -EINVAL);
	ck_assert_int_eq(errno, 0);
	object_fill(p, 64, 3);
	ck_assert(object_check(p, 64, 3)); /* nobody freed it */
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
}
END_TEST

/* ---- destroying ---- */

START_TEST(a_cache_with_objects_is_not_destroyed)
{
	struct kmm_cache *c = cache_new("busy", 64);
	char id[16];
	void *p[7];

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "busy", 64, 0, 0), 0);
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 7, p), 7);
	ck_assert_int_eq(kmm_send(k, p[6], a.session), 0);
	/* a is no longer a user: k's reference is the last */
	ck_assert_int_eq(peer_do(&a, PEER_CACHE_DESTROY, 0, 0, 0), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), -EBUSY);
	ck_assert_msg(strstr(kmm_error_text(), "7") != NULL, "%s", kmm_error_text());
	snprintf(id, sizeof(id), "%u", a.session);
	ck_assert_msg(strstr(kmm_error_text(), id) != NULL, "%s", kmm_error_text());
	snprintf(id, sizeof(id), "%u", kmm_session_id(k));
	ck_assert_msg(strstr(kmm_error_text(), id) != NULL, "%s", kmm_error_text());
	/* nothing happened: the reference is still good */
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
	ck_assert_ptr_nonnull(p[0] = kmm_cache_alloc(c, KMM_GFP_KERNEL));
	ck_assert_int_eq(kmm_cache_free(c, p[0]), 0);
	ck_assert_int_eq(kmm_cache_destroy(c), -EBUSY);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FREE, PEER_NO_CACHE, place_of(k, p[6]), 0), 0);
	/* what threads of k and of a cache is no live object */
	ck_assert_int_eq(kmm_cache_destroy(c), 0);
	refused(kmm_cache_open(k, "busy"), ENOENT, "busy");
	/* the name is free for another */
	ck_assert_ptr_nonnull(kmm_cache_create(k, "busy", 1000, 16, 0, NULL));
}
END_TEST

/* Without users a cache ends; with objects that somebody holds it ends after the last. */
static void *destroy_at_last(void *cache)
{
	int r;

	do
		r = kmm_cache_destroy(cache);
	while (r == -EBUSY);
	ck_assert_int_eq(r, 0);
	return NULL;
}

START_TEST(objects_are_freed_while_it_is_destroyed)
{
	enum { N = 3000 };
	static void *p[N];
	struct kmm_cache *c = cache_new("ending", 64);
	pthread_t thread;
	int i;

	for (i = 0; i < N; i++)
		p[i] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
	ck_assert_int_eq(pthread_create(&thread, NULL, destroy_at_last, c), 0);
	for (i = 0; i + 3 <= N; i += 3) {
		ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
		ck_assert_int_eq(kmm_cache_free_bulk(c, 2, p + i + 1), 0);
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	refused(kmm_cache_open(k, "ending"), ENOENT, "ending");
}
END_TEST

START_TEST(caches_end_after_their_users)
{
	struct cache_row row;
	int64_t place;
	kmm_handle_t handle;
	void *p;

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "left", 128, 0, 0), 0);
	place = peer_do(&a, PEER_OBJECT_ALLOC, 0, KMM_GFP_KERNEL, 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL, (uint64_t)place, 128, 5), 0);
	handle = (kmm_handle_t)peer_do(&a, PEER_THING_HANDLE, (uint64_t)place, 0, 0);
	p = kmm_adopt(k, handle);
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(place_of(k, p), (uint64_t)place);
	peer_kill(&a);
	wait_until(!daemon_has_session(&d, a.session));
	ck_assert(object_check(p, 128, 5));
	ck_assert(daemon_cache_row(&d, "left", &row));
	ck_assert_uint_eq(row.active, 1);
	ck_assert_uint_eq(kmm_ksize(k, p), 128);
	ck_assert_int_eq(kmm_kfree(k, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	wait_until(!daemon_cache_row(&d, "left", &row));
}
END_TEST

/* ---- layout ---- */

START_TEST(objects_are_aligned_and_do_not_overlap)
{
	static const struct {
		size_t size, align;
		kmm_slab_flags_t flags;
		size_t aligned;
	} kind[] = {
		{ 1, 0, 0, 8 },           { 8, 0, 0, 8 },
		{ 24, 0, 0, 8 },          { 24, 16, 0, 16 },
		{ 40, 0, KMM_SLAB_HWCACHE_ALIGN, 64 },
		{ 100, 64, 0, 64 },       { 72, 128, 0, 128 },
		{ 700, 0, 0, 8 },         { 1000, 512, 0, 512 },
		{ 4096, 4096, 0, 4096 },  { 5000, 0, 0, 8 },
		{ 100, 8192, 0, 8192 },   { 8192, 8192, 0, 8192 },
		{ 30000, 0, 0, 8 },       { 300000, 8, 0, 8 },
		{ 64, 0, KMM_SLAB_MEM_SPREAD | KMM_SLAB_PANIC | KMM_SLAB_ACCOUNT, 8 },
		{ 64, 0, KMM_SLAB_RECLAIM_ACCOUNT, 8 },
	};
	enum { N = 24 };
	char *p[sizeof(kind) / sizeof(kind[0])][N];

	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++) {
		char name[32];
		struct kmm_cache *c;

		snprintf(name, sizeof(name), "kind-%zu", i);
		c = kmm_cache_create(k, name, kind[i].size, kind[i].align, kind[i].flags, NULL);
		ck_assert_msg(c != NULL, "row %zu: %s", i, kmm_error_text());
		ck_assert_uint_eq(kmm_cache_size(c), kind[i].size);
		for (int j = 0; j < N; j++) {
			p[i][j] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
			ck_assert_msg(p[i][j] != NULL, "row %zu: %s", i, kmm_error_text());
			ck_assert_uint_eq((uintptr_t)p[i][j] % kind[i].aligned, 0);
			object_fill(p[i][j], kind[i].size, i * N + (unsigned)j);
		}
	}
	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++)
		for (unsigned j = 0; j < N; j++) {
			ck_assert(object_check(p[i][j], kind[i].size, i * N + j));
			ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHECK, place_of(k, p[i][j]),
						 kind[i].size, i * N + j),
					 1);
		}
	ck_assert(daemon_is_clean(&d));
}
END_TEST

START_TEST(the_largest_object)
{
	struct kmm_cache *c = cache_new("largest", 4u << 20);
	char *p = kmm_cache_alloc(c, KMM_GFP_KERNEL), *q = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	ck_assert_ptr_nonnull(p);
	ck_assert_ptr_nonnull(q);
	object_fill(p, 4u << 20, 1);
	object_fill(q, 4u << 20, 2);
	ck_assert(object_check(p, 4u << 20, 1));
	ck_assert_int_eq(kmm_cache_free(c, p + (2u << 20)), -EINVAL);
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_int_eq(kmm_cache_free(c, q), 0);
}
END_TEST

START_TEST(caches_of_dma_memory)
{
	struct kmm_cache *c = kmm_cache_create(k, "dma", 100, 0, KMM_SLAB_CACHE_DMA, NULL);
	struct kmm_cache *c32 = kmm_cache_create(k, "dma32", 100, 0, KMM_SLAB_CACHE_DMA32, NULL);

	for (int i = 0; i < 200; i++) {
		void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL), *q;

		ck_assert_ptr_nonnull(p);
		ck_assert_uint_lt(place_of(k, p), 16u << 20);
		q = kmm_cache_alloc(c32, KMM_GFP_KERNEL);
		ck_assert_ptr_nonnull(q);
		ck_assert_uint_lt(place_of(k, q), UINT64_C(1) << 32);
	}
}
END_TEST

/* ---- constructors ---- */

static bool is_constructed(const void *p)
{
	return memcmp(p, &(uint64_t){ OBJECT_MAGIC }, 8) == 0;
}

/* Once for each object and the life of its slab, whichever process allocates and frees. */
START_TEST(objects_are_constructed_once)
{
	enum { N = 150, ROUNDS = 20 }; /* few: so that no slab is given back meanwhile */
	struct kmm_cache *c = kmm_cache_create(k, "once", 80, 0, 0, object_construct);
	static void *p[N];
	unsigned long there_were;
	struct cache_row row;
	int64_t theirs;

	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "once", 80, 0, UINT64_C(1) << 32), 0);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N; i++) {
			ck_assert_ptr_nonnull(p[i] = kmm_cache_alloc(c, KMM_GFP_KERNEL));
			ck_assert(is_constructed(p[i]));
			object_fill((char *)p[i] + 8, 72, (unsigned)i);
		}
		if (round == 0)
			ck_assert_uint_ge(objects_constructed, N);
		for (int i = 0; i < N; i++) {
			ck_assert(object_check((char *)p[i] + 8, 72, (unsigned)i));
			ck_assert_int_eq(kmm_cache_free(c, p[i]), 0);
		}
		if (round % 2) { /* what k constructed serves a */
			ck_assert_int_eq(kmm_flush(k), 0);
			ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, N), N);
			ck_assert_int_eq(peer_do(&a, PEER_OBJECT_RELEASE, 0, N, 0), 0);
			ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
		}
	}
	theirs = peer_do(&a, PEER_CONSTRUCTED, 0, 0, 0);
	there_were = daemon_cache_number(&d, "once", "grown") *
		     daemon_cache_number(&d, "once", "objperslab");
	ck_assert_msg(objects_constructed + (uint64_t)theirs <= there_were,
		      "%llu and %lld constructed, there were %lu",
		      (unsigned long long)objects_constructed, (long long)theirs, there_were);
	/* the slabs' next life */
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert(daemon_cache_row(&d, "once", &row));
	ck_assert_uint_eq(row.slabs, 0);
	objects_constructed = 0;
	ck_assert_ptr_nonnull(p[0] = kmm_cache_alloc(c, KMM_GFP_KERNEL));
	ck_assert(is_constructed(p[0]));
	ck_assert_uint_ge(objects_constructed, 1);
}
END_TEST

/* What the dead had may be in any state: it is constructed again. */
START_TEST(objects_of_the_dead_are_constructed_again)
{
	struct kmm_cache *c = kmm_cache_create(k, "again", 64, 0, 0, object_construct);
	enum { N = 300 };

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "again", 64, 0, UINT64_C(1) << 32), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_HOARD, 0, KMM_GFP_KERNEL, N), N);
	for (uint64_t i = 0; i < N; i++) /* over the magic, too */
		ck_assert_int_eq(peer_do(&a, PEER_OBJECT_FILL,
					 (uint64_t)peer_do(&a, PEER_HOARDED, i, 0, 0), 64, i),
				 0);
	peer_kill(&a);
	wait_until(!daemon_has_session(&d, a.session));
	ck_assert_uint_eq(daemon_cache_active(&d, "again"), 0);
	for (int i = 0; i < 2 * N; i++) {
		void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

		ck_assert_ptr_nonnull(p);
		ck_assert(is_constructed(p));
	}
}
END_TEST

/* Opened by name alone there is no constructor: only what others constructed is served. */
START_TEST(who_only_opens_gets_constructed_objects)
{
	struct kmm_cache *c;
	enum { N = 100 };
	void *p[N + 1];
	int n = 0;

	ck_assert_int_eq(peer_do_text(&a, PEER_CACHE_CREATE, "opened", 96, 0, UINT64_C(1) << 32),
			 0);
	c = kmm_cache_open(k, "opened");
	ck_assert_ptr_nonnull(c);
	refused(kmm_cache_alloc(c, KMM_GFP_KERNEL), ENOKEY, "opened");
	errno = 0;
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, 4, p), 0);
	ck_assert_int_eq(errno, ENOKEY);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, 0, N, 0), 0);
	ck_assert_int_eq(peer_do(&a, PEER_FLUSH, 0, 0, 0), 0);
	for (n = 0; n < N; n++) {
		p[n] = kmm_cache_alloc(c, KMM_GFP_KERNEL);
		ck_assert_msg(p[n] != NULL, "object %d: %s", n, kmm_error_text());
		ck_assert(is_constructed(p[n]));
	}
	while (n > 0)
		ck_assert_int_eq(kmm_cache_free(c, p[--n]), 0);
	/* a gets back what k freed as it was */
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(peer_do(&a, PEER_OBJECT_CHURN, 0, N, 0), 0);
}
END_TEST

START_TEST(zeroed_when_asked)
{
	struct kmm_cache *c = cache_new("zero", 320), *built;

	for (int i = 0; i < 500; i++) {
		unsigned char *p = kmm_cache_alloc(c, KMM_GFP_KERNEL | KMM_GFP_ZERO);

		ck_assert_ptr_nonnull(p);
		for (int j = 0; j < 320; j++)
			ck_assert_int_eq(p[j], 0);
		memset(p, 0xa5, 320);
		ck_assert_int_eq(kmm_cache_free(c, p), 0);
	}
	built = kmm_cache_create(k, "built", 320, 0, 0, object_construct);
	errno = 0;
	ck_assert_ptr_null(kmm_cache_alloc(built, KMM_GFP_KERNEL | KMM_GFP_ZERO));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* ---- giving back ---- */

START_TEST(shrinking_gives_the_slabs_back)
{
	struct kmm_cache *c = cache_new("shrinks", 1000);
	enum { N = 4000 };
	static void *p[N];
	struct cache_row row;
	uint64_t before = daemon_free_pages(&d);

	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, p), N);
	ck_assert_uint_le(daemon_free_pages(&d), before - N / 4); /* four a page */
	ck_assert(daemon_cache_row(&d, "shrinks", &row));
	ck_assert_uint_ge(row.active, N);
	ck_assert_uint_le(row.active_slabs, row.slabs);
	ck_assert_uint_le(row.active, row.objects);
	ck_assert_uint_eq(row.objects, row.slabs * row.per_slab);
	ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), 0);
	/* threads, depot and empty slabs of all: */
	ck_assert_int_eq(kmm_cache_shrink(c), 0);
	ck_assert(daemon_cache_row(&d, "shrinks", &row));
	ck_assert_uint_eq(row.active, 0);
	ck_assert_uint_eq(row.slabs, 0);
	ck_assert_uint_eq(daemon_free_pages(&d), before);
	/* by an operator */
	ck_assert_uint_eq(kmm_cache_alloc_bulk(c, KMM_GFP_KERNEL, N, p), N);
	ck_assert_int_eq(kmm_cache_free_bulk(c, N, p), 0);
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(daemon_ctl(&d, NULL, (const char *const[]){ "shrink", "shrinks", NULL }),
			 0);
	ck_assert(daemon_cache_row(&d, "shrinks", &row));
	ck_assert_uint_eq(row.slabs, 0);
	ck_assert_int_eq(daemon_ctl(&d, NULL, (const char *const[]){ "shrink", "nobody's", NULL }),
			 1);
}
END_TEST

START_TEST(many_caches)
{
	enum { N = 500 };
	static struct kmm_cache *c[N];
	struct cache_row row;
	char name[32];

	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "many-%d", i);
		ck_assert_ptr_nonnull(c[i] = kmm_cache_create(k, name, 16 + (unsigned)i, 0, 0, NULL));
		ck_assert_ptr_nonnull(kmm_cache_alloc(c[i], KMM_GFP_KERNEL));
	}
	for (int i = 0; i < N; i += 50) {
		snprintf(name, sizeof(name), "many-%d", i);
		ck_assert_int_ge(peer_do_text(&a, PEER_CACHE_OPEN, name, 0, 0, 0), 0);
		ck_assert(daemon_cache_row(&d, name, &row));
		ck_assert_uint_ge(row.active, 1);
	}
	ck_assert(daemon_is_clean(&d));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("caches");
	TCase *t = tcase_create("caches");

	tcase_add_checked_fixture(t, fixture_setup, fixture_teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_cache_is_the_domain_s);
	tcase_add_test(t, the_creation_that_differs_is_refused);
	tcase_add_test(t, creations_that_make_no_sense);
	tcase_add_test(t, null_is_refused_not_a_crash);
	tcase_add_test(t, a_cache_with_objects_is_not_destroyed);
	tcase_add_test(t, objects_are_freed_while_it_is_destroyed);
	tcase_add_test(t, caches_end_after_their_users);
	tcase_add_test(t, objects_are_aligned_and_do_not_overlap);
	tcase_add_test(t, the_largest_object);
	tcase_add_test(t, caches_of_dma_memory);
	tcase_add_test(t, objects_are_constructed_once);
	tcase_add_test(t, objects_of_the_dead_are_constructed_again);
	tcase_add_test(t, who_only_opens_gets_constructed_objects);
	tcase_add_test(t, zeroed_when_asked);
	tcase_add_test(t, shrinking_gives_the_slabs_back);
	tcase_add_test(t, many_caches);
	suite_add_tcase(s, t);
	return suite_run(s);
}
