/* SPDX-License-Identifier: MIT */
/*
 * Caches in libkmm (cache.c, and what object_slow.c and debug.c do about the caches themselves)
 * against a daemon played by fake_daemon.c: destroying, also while others free; names; objects with
 * debugging flags.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"
#include "tests/unit/fake_daemon.h"

#define K (&fake.k)

/* Ids of the caches that the tests use. */
enum { C64 = 40, POISONED };

static struct kmm_cache *c64;
static void *held[5];

static void setup(void)
{
	fake_start(4 << 20);
	fake_cache_make(C64, "c64", 60, 64, 0, 0, false);
	c64 = fake_cache(C64, NULL);
}

static void teardown(void)
{
	fake_stop();
}

static void *alloc(struct kmm_cache *c)
{
	void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

	ck_assert_ptr_nonnull(p);
	ck_assert(owner_is(owner_load(fake_word(p)), OWNER_HELD, FAKE_ME));
	return p;
}

/* ---- destroying ---- */

START_TEST(destroyed_and_created_again)
{
	struct kmm_cache *again = fake_cache(C64, NULL);
	void *p = alloc(c64);

	ck_assert_ptr_eq(again, c64);
	ck_assert_int_eq(kmm_cache_destroy(again), 0);
	ck_assert_uint_eq(fake.destroyed, 0);
	ck_assert_int_eq(kmm_cache_destroy(c64), -EBUSY);
	ck_assert_int_eq(kmm_cache_free(c64, p), 0); /* the reference stays */
	ck_assert_int_eq(kmm_cache_destroy(c64), 0);
	ck_assert_uint_eq(fake_out(C64), 0);
	ck_assert_ptr_null(kmm_cache_alloc(c64, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(kmm_cache_destroy(c64), -EINVAL);
	ck_assert_int_eq(kmm_cache_destroy(NULL), 0);
	ck_assert_uint_eq(kmm_cache_size(c64), 0);
	/* another cache gets the id */
	K->control.cache[C64].life = 0;
	K->control.desc[16] = 0;
	free(fake.cache[C64].free);
	fake_cache_make(C64, "later", 100, 128, 1, 0, false);
	fake.cache[C64].nr_free = fake.cache[C64].total = 0;
	c64 = fake_cache(C64, NULL);
	ck_assert_uint_eq(kmm_cache_size(c64), 100);
	p = alloc(c64);
	ck_assert_int_eq(kmm_cache_free(c64, (uint8_t *)p + 64), -EINVAL);
	ck_assert_int_eq(kmm_cache_free(c64, p), 0);
}
END_TEST

/* Another thread frees while the cache is being destroyed. */
static void free_meanwhile(void)
{
	ck_assert_uint_eq(atomic_load(&c64->references), 0);
	ck_assert_int_eq(kmm_cache_free(c64, held[0]), 0);
	ck_assert_int_eq(kmm_cache_free_bulk(c64, 2, held + 1), 0);
	ck_assert_int_eq(kmm_kfree(K, held[3]), 0);
	ck_assert_int_eq(kmm_cache_free(c64, held[0]), -ENOENT);
	ck_assert_ptr_null(kmm_cache_alloc(c64, KMM_GFP_KERNEL));
	ck_assert_int_eq(errno, EINVAL);
	fake.on_destroy = NULL;
}

START_TEST(freed_while_it_is_destroyed)
{
	uint32_t i;

	for (i = 0; i < 5; i++)
		held[i] = alloc(c64);
	fake.on_destroy = free_meanwhile;
	ck_assert_int_eq(kmm_cache_destroy(c64), -EBUSY); /* one is live */
	ck_assert_ptr_null(fake.on_destroy);
	ck_assert_int_eq(kmm_cache_free(c64, held[4]), 0);
	ck_assert_int_eq(kmm_cache_free(c64, alloc(c64)), 0);
	ck_assert_int_eq(kmm_flush(K), 0);
	ck_assert_uint_eq(fake_out(C64), 0);
	ck_assert_int_eq(kmm_cache_destroy(c64), 0);
	ck_assert_int_eq(kmm_cache_free(c64, held[4]), -EINVAL); /* not open any more */
	ck_assert_uint_eq(fake.events, 0);
}
END_TEST

/* ---- debugging flags ---- */

/* An object that was sent to us lies where this process has no memory to map: its free succeeds, and
 * the next allocation does not take it for poisoned. */
START_TEST(freed_where_it_cannot_be_reached)
{
	struct kmm_cache *c;
	uint8_t *p, *q;
	uint32_t section;

	fake_cache_make(POISONED, "poisoned", 100, 128, 0,
	                KMM_SLAB_POISON | (_i ? KMM_SLAB_CONSISTENCY_CHECKS : 0u), false);
	c = fake_cache(POISONED, NULL);
	p = alloc(c);
	memset(p, 0x11, 100);
	section = (uint32_t)((size_t)(p - K->window) >> K->section_shift);
	ck_assert(owner_load(fake_word(p)) & OWNER_CONSTRUCTED);
	error_text_put("as before");
	K->mapped[section] = 0;
	fake.unmappable = true;
	ck_assert_int_eq(kmm_cache_free(c, p), 0);
	ck_assert_str_eq(kmm_error_text(), "as before");
	ck_assert(!(owner_load(fake_word(p)) & OWNER_CONSTRUCTED));
	ck_assert_uint_eq(p[0], 0x11); /* not a byte was touched */
	K->mapped[section] = 1;
	fake.unmappable = false;
	q = alloc(c);
	ck_assert_ptr_eq(q, p);
	ck_assert_uint_eq(fake.reports + fake.events, 0);
	/* from here on it is checked again */
	ck_assert_int_eq(kmm_cache_free(c, q), 0);
	ck_assert_uint_ne(q[0], 0x11);
	q[3] = 0;
	ck_assert_ptr_ne(alloc(c), q);
	ck_assert_uint_eq(fake.reports, 1);
}
END_TEST

START_TEST(names_are_checked)
{
	char name[70];

	memset(name, 'n', sizeof(name));
	name[64] = 0;
	ck_assert_ptr_null(kmm_cache_create(K, name, 64, 0, 0, NULL));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(kmm_cache_create(K, NULL, 64, 0, 0, NULL));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(kmm_cache_open(K, ""));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(kmm_cache_open(K, "nobody"));
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_ptr_null(kmm_cache_create(NULL, "a", 64, 0, 0, NULL));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(panic_aborts)
{
	kmm_cache_create(K, "nobody", 64, 0, KMM_SLAB_PANIC, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client_cache");
	TCase *t = tcase_create("cache");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, destroyed_and_created_again);
	tcase_add_test(t, freed_while_it_is_destroyed);
	tcase_add_loop_test(t, freed_where_it_cannot_be_reached, 0, 2);
	tcase_add_test(t, names_are_checked);
	if (suite_forks())
		tcase_add_test_raise_signal(t, panic_aborts, SIGABRT);
	suite_add_tcase(s, t);
	return suite_status(s);
}
