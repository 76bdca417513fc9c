/* SPDX-License-Identifier: MIT */
/*
 * How caches begin: the kmalloc families, making and joining, what clients are shown, what a restart
 * finds; each step that can fail fails once. (How they end: test_cache_end.c.)
 */
#include "daemon/slab_debug.h"
#include "tests/suite.h"
#include "tests/unit/test_cache.h"
#include "tests/unit/test_fallocate.h"

static void teardown(void)
{
	fail_in = 0;
	tc_teardown();
}

/* ---- the kmalloc families ---- */

static const char *const family[] = { "kmalloc-", "kmalloc-rcl-", "dma-kmalloc-" };
static const uint32_t family_flags[] = { 0, SLAB_RECLAIM_ACCOUNT, SLAB_CACHE_DMA };
static const char *const class_name[] = { "8",   "16",  "32",  "64", "96", "128", "192",
	                                  "256", "512", "1k",  "2k", "4k", "8k" };
static const uint32_t class_size[] = { 8,   16,  32,   64,   96,   128, 192,
	                               256, 512, 1024, 2048, 4096, 8192 };

static void check_builtin(void)
{
	char name[64];
	uint32_t id;

	for (id = 1; id <= CACHE_BUILTIN_MAX; id++) {
		uint32_t class = (id - 1) % 13, size = class_size[class];
		const struct control_cache *v = &t.d->control.cache[id];
		struct cache *c = cache_enter(t.d, id, 0);

		ck_assert_ptr_nonnull(c);
		snprintf(name, sizeof(name), "%s%s", family[(id - 1) / 13], class_name[class]);
		ck_assert_str_eq(kmem_cache_record(c->slab)->name, name);
		ck_assert_str_eq(v->name, name);
		ck_assert_uint_eq(v->size, size);
		ck_assert_uint_eq(v->flags_asked, family_flags[(id - 1) / 13]);
		ck_assert_uint_eq(v->life, kmem_cache_life(c->slab));
		ck_assert_uint_eq(v->align, size == 96 ? 32 : size == 192 ? 64 : size < 4096 ? size :
		                                                                               4096);
		ck_assert_uint_eq(v->stride, size);
		ck_assert(c->builtin);
		ck_assert_uint_eq(c->users, 0);
		cache_leave(c);
		c = cache_enter_name(t.d, name);
		ck_assert_ptr_nonnull(c);
		ck_assert_uint_eq(c->id, id);
		cache_leave(c);
	}
	ck_assert_ptr_null(cache_enter(t.d, CACHE_BUILTIN_MAX + 1, 0));
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX);
}

START_TEST(the_kmalloc_families_come_with_the_pool)
{
	check_builtin();
	tc_restart();
	check_builtin();
}
END_TEST

/* A first start that died between two of them: the next makes the rest. */
START_TEST(a_first_start_that_died_is_completed)
{
	uint32_t there;

	for (there = 0; there < CACHE_BUILTIN_MAX; there += 6) {
		td_stop(&t);
		memset(&t.pool.ledger.cache[1 + there], 0,
		       (CACHE_BUILTIN_MAX - there) * sizeof(struct cache_record));
		ck_assert_int_eq(td_start(&t, true), 0);
		check_builtin();
		td_check(&t);
	}
}
END_TEST

START_TEST(they_are_joined_and_never_end)
{
	bool removed = true;
	const char *why;
	uint64_t life;
	uint32_t id;

	ck_assert_int_eq(cache_open(t.d, a, "kmalloc-64", &id, &life, &why), 0);
	ck_assert_uint_eq(id, 4);
	ck_assert_uint_eq(cache_count_of(t.d, a->id), 0);
	ck_assert_int_eq(cache_destroy(t.d, a, id, life, &removed, &why), 0);
	ck_assert(!removed);
	cache_tick(t.d);
	check_builtin();
}
END_TEST

START_TEST(families_of_another_order_are_refused)
{
	struct cache_record *r = t.pool.ledger.cache, copy;

	td_stop(&t);
	/* two names changed places */
	copy = r[3];
	memcpy(r[3].name, r[4].name, sizeof(copy.name));
	memcpy(r[4].name, copy.name, sizeof(copy.name));
	ck_assert_int_eq(td_start(&t, true), -EUCLEAN);
	memcpy(r[4].name, r[3].name, sizeof(copy.name));
	memcpy(r[3].name, copy.name, sizeof(copy.name));
	t.pool.mm = mm_free(t.pool.mm);
	ck_assert_int_eq(td_start(&t, true), 0);
	check_builtin();
}
END_TEST

/* ---- making and joining ---- */

START_TEST(a_cache_is_made_once_and_joined)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), again = 0;
	uint64_t life = 0;
	const char *why = "";

	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 1);
	ck_assert_int_eq(tc_create(&t, a, "dentry", 192, 0, &again, &life, &why), 0);
	ck_assert(again == id && life == tc_life(&t, id));
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 1); /* a set */
	ck_assert_int_eq(tc_create(&t, b, "dentry", 192, 0, &again, &life, &why), 0);
	ck_assert_uint_eq(again, id);
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 2);
	ck_assert_int_eq(cache_open(t.d, b, "dentry", &again, &life, &why), 0);
	ck_assert(again == id && life == tc_life(&t, id));
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 2);
	ck_assert_uint_eq(cache_count_of(t.d, a->id), 1);
	ck_assert_uint_eq(cache_count_of(t.d, b->id), 1);
	ck_assert_ptr_null(cache_enter(t.d, id, life + 1));
	ck_assert_ptr_null(cache_enter(t.d, 0, 0));
	ck_assert_ptr_null(cache_enter(t.d, UINT32_MAX, 0));
}
END_TEST

START_TEST(differences_are_named)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);
	const char *why = "";
	uint64_t life;

	ck_assert_int_eq(tc_create(&t, b, "dentry", 200, 0, &id, &life, &why), -EEXIST);
	ck_assert_msg(strstr(why, "dentry") && strstr(why, "192") && strstr(why, "200"), "%s", why);
	ck_assert_int_eq(cache_create(t.d, b, "dentry", 192, 64, 0, false, &id, &life, &why),
	                 -EEXIST);
	ck_assert_msg(strstr(why, "align") != NULL, "%s", why);
	ck_assert_int_eq(tc_create(&t, b, "dentry", 192, SLAB_ACCOUNT, &id, &life, &why),
	                 -EEXIST);
	ck_assert_msg(strstr(why, "flags") != NULL, "%s", why);
	ck_assert_int_eq(cache_create(t.d, b, "dentry", 192, 0, 0, true, &id, &life, &why), -EEXIST);
	ck_assert_msg(strstr(why, "constructor") != NULL, "%s", why);
	ck_assert_uint_eq(cache_count_of(t.d, b->id), 0);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
	char longname[80];
	const char *why;
	uint64_t life;
	uint32_t id;
	size_t i;
	const struct {
		const char *name;
		uint64_t size, align;
		uint32_t flags;
	} bad[] = {
		{ "", 64, 0, 0 },         { "a b", 64, 0, 0 },
		{ "a\tb", 64, 0, 0 },     { longname, 64, 0, 0 },
		{ "x", 0, 0, 0 },         { "x", SLAB_SIZE_MAX + 1, 0, 0 },
		{ "x", UINT64_MAX, 0, 0 }, { "x", 64, 3, 0 },
		{ "x", 64, SLAB_SIZE_MAX * 2, 0 }, { "x", 64, 0, 1 },
		{ "x", 64, 0, SLAB_CACHE_DMA | SLAB_CACHE_DMA32 },
	};

	memset(longname, 'n', sizeof(longname));
	longname[64] = '\0';
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = "";
		ck_assert_int_eq(cache_create(t.d, a, bad[i].name, bad[i].size, bad[i].align,
		                              bad[i].flags, false, &id, &life, &why),
		                 -EINVAL);
		ck_assert_uint_ge(strlen(why), 8);
	}
	why = "";
	ck_assert_int_eq(cache_open(t.d, a, "nowhere", &id, &life, &why), -ENOENT);
	ck_assert_msg(strstr(why, "nowhere") != NULL, "%s", why);
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX);
}
END_TEST

START_TEST(all_ids_in_use)
{
	uint32_t n = t.pool.ledger.layout.nr_caches, i, id;
	bool removed = false;
	const char *why = "";
	uint64_t life;
	char name[32];

	for (i = CACHE_BUILTIN_MAX + 1; i < n; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		ck_assert_uint_eq(tc_new(&t, a, name, 8 + i % 500), i);
	}
	ck_assert_int_eq(tc_create(&t, a, "more", 8, 0, &id, &life, &why), -EDQUOT);
	ck_assert_msg(strstr(why, "1023") != NULL, "%s", why);
	ck_assert_uint_eq(cache_total(t.d), n - 1);
	tc_restart();
	ck_assert_uint_eq(cache_count_of(t.d, a->id), n - 1 - CACHE_BUILTIN_MAX);
	td_check(&t);
	ck_assert_int_eq(tc_destroy(&t, a, 100, &removed, &why), 0);
	ck_assert(removed);
	ck_assert_uint_eq(tc_new(&t, a, "more", 8), 100);
}
END_TEST

START_TEST(without_memory_for_users_there_is_no_cache)
{
	int fd = -1;
	const char *why = "";
	uint64_t life;
	uint32_t id;

	ck_assert_int_eq(shm_memfd_new(&fd, "ledger", t.ledger_size, SHM_4K), 0);
	t.pool.ledger.fd = fd; /* asked for memory from now on; the mapping has all of it */
	fail_in = 1;
	ck_assert_int_eq(tc_create(&t, a, "dentry", 192, 0, &id, &life, &why), -ENOMEM);
	ck_assert_msg(strstr(why, "no memory") != NULL, "%s", why);
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX);
	ck_assert_ptr_null(kmem_cache_find(t.d->slabs, "dentry"));
	td_check(&t);
	id = tc_new(&t, a, "dentry", 192);
	t.pool.ledger.fd = -1;
	close(fd);
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 1);
}
END_TEST

START_TEST(a_start_without_memory_fails_cleanly)
{
	int fd = -1;

	tc_new(&t, a, "dentry", 192);
	td_stop(&t);
	ck_assert_int_eq(shm_memfd_new(&fd, "ledger", t.ledger_size, SHM_4K), 0);
	t.pool.ledger.fd = fd;
	fail_in = 1;
	ck_assert_int_eq(td_start(&t, true), -ENOMEM);
	t.pool.ledger.fd = -1;
	close(fd);
	t.pool.mm = mm_free(t.pool.mm);
	ck_assert_int_eq(td_start(&t, true), 0);
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX + 1);
}
END_TEST

/* ---- what clients see ---- */

START_TEST(views_follow_the_records)
{
	static const struct {
		uint32_t size, flags;
	} kind[] = {
		{ 8, 0 },      { 24, 0 },    { 100, SLAB_HWCACHE_ALIGN },
		{ 56, SLAB_RED_ZONE | SLAB_STORE_USER }, { 4097, 0 }, { 65536, SLAB_RED_ZONE },
		{ 200, SLAB_POISON | SLAB_CONSISTENCY_CHECKS },
	};
	uint32_t i, id;
	const char *why;
	uint64_t life;
	char name[32];

	for (i = 0; i < sizeof(kind) / sizeof(kind[0]); i++) {
		const struct control_cache *v;
		const struct slab_geometry *g;
		uint32_t slot, colour;

		snprintf(name, sizeof(name), "c%u", i);
		ck_assert_int_eq(tc_create(&t, a, name, kind[i].size, kind[i].flags, &id, &life,
		                           &why),
		                 0);
		v = &t.d->control.cache[id];
		g = kmem_cache_geometry(cache_by_id(t.d, id)->slab);
		ck_assert_uint_eq(v->life, life);
		ck_assert_uint_eq(v->size, kind[i].size);
		ck_assert_uint_eq(v->flags, kind[i].flags);
		ck_assert_str_eq(v->name, name);
		ck_assert_uint_eq(v->stride, g->stride);
		ck_assert_uint_eq(v->objects, g->objects);
		ck_assert_uint_eq(v->order, g->order);
		ck_assert_uint_eq(v->inverse * (g->stride >> v->twos), 1);
		for (colour = 0; colour < g->colours && colour < 4; colour++)
			for (slot = 0; slot < g->objects; slot++) {
				uint32_t at = colour * g->colour_off + slot * g->stride + g->offset;

				ck_assert_uint_eq(control_cache_slot(v, at, colour), slot);
				ck_assert_uint_ge(control_cache_slot(v, at + 1, colour),
				                  g->objects);
			}
	}
	tc_restart();
	td_check(&t);
}
END_TEST

/* In a pool of 256 GiB a granule has 64 bytes, and every object begins on one. */
START_TEST(objects_begin_on_granules)
{
	static const struct {
		uint32_t size, align, flags;
	} kind[] = {
		{ 1, 0, 0 }, { 8, 8, 0 }, { 72, 16, SLAB_RED_ZONE }, { 100, 128, 0 }, { 4000, 0, 0 },
	};
	const char *why = "";
	uint64_t life;
	char name[32];
	uint32_t id, i;

	t.d->granule_shift = 6;
	for (i = 0; i < sizeof(kind) / sizeof(kind[0]); i++) {
		const struct control_cache *v;
		int r;

		snprintf(name, sizeof(name), "c%u", i);
		r = cache_create(t.d, a, name, kind[i].size, kind[i].align, kind[i].flags, false,
		                 &id, &life, &why);
		ck_assert_msg(r == 0, "%s", why);
		v = &t.d->control.cache[id];
		ck_assert_uint_eq((v->stride | v->offset | v->colour_off) % 64, 0);
		ck_assert_uint_ge(v->align, kind[i].align);
		/* who asks for the same gets it */
		ck_assert_int_eq(cache_create(t.d, b, name, kind[i].size, kind[i].align,
		                              kind[i].flags, false, &id, &life, &why),
		                 0);
	}
	ck_assert_int_eq(cache_create(t.d, a, "x", 8, 3, 0, false, &id, &life, &why), -EINVAL);
	t.d->granule_shift = control_granule_shift(TD_FRAMES);
}
END_TEST

START_TEST(a_spoiled_view_is_found_and_mended)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);

	t.d->control.cache[id].stride++;
	ck_assert_uint_eq(cache_validate(t.d, td_silent, NULL), 1);
	t.d->control.cache[id].stride--;
	atomic_store(&t.d->control.cache[id + 1].life, 77); /* a death before it was cleared */
	ck_assert_uint_eq(cache_validate(t.d, td_silent, NULL), 1);
	tc_restart();
	ck_assert_uint_eq(t.d->control.cache[id + 1].life, 0);
	atomic_store(&t.d->control.cache[id].life, 0); /* a death before it was written */
	memset(t.d->control.cache[id].name, 'x', 64);
	tc_restart();
	ck_assert_str_eq(t.d->control.cache[id].name, "dentry");
	ck_assert_uint_eq(t.d->control.cache[id].life, tc_life(&t, id));
}
END_TEST

START_TEST(wrong_users_are_found)
{
	uint32_t id = tc_new(&t, a, "dentry", 192);

	atomic_fetch_or(&ledger_users(&t.pool.ledger, id)[0], UINT64_C(1) << 63);
	/* a session that is none, and the counts of both sides are wrong */
	ck_assert_uint_eq(cache_validate(t.d, td_silent, NULL), 3);
	tc_restart();
	ck_assert_uint_eq(cache_by_id(t.d, id)->users, 1);
	ck_assert_uint_eq(atomic_load(&ledger_users(&t.pool.ledger, id)[0]), UINT64_C(1) << a->id);
}
END_TEST

/* ---- restarts ---- */

START_TEST(caches_and_users_survive_restarts)
{
	uint32_t x = tc_new(&t, a, "dentry", 192), y = tc_new(&t, b, "inode", 600), id;
	uint64_t life = tc_life(&t, x), again;
	const char *why;

	ck_assert_int_eq(cache_open(t.d, b, "dentry", &id, &again, &why), 0);
	tc_restart();
	ck_assert_uint_eq(tc_life(&t, x), life);
	ck_assert_uint_eq(cache_by_id(t.d, x)->users, 2);
	ck_assert_uint_eq(cache_by_id(t.d, y)->users, 1);
	ck_assert_uint_eq(cache_total(t.d), CACHE_BUILTIN_MAX + 2);
	ck_assert_int_eq(tc_create(&t, a, "dentry", 200, 0, &id, &again, &why), -EEXIST);
	/* the table is the same for who comes next */
	ck_assert_uint_eq(tc_new(&t, a, "third", 8), y + 1);
	ck_assert_uint_gt(tc_life(&t, y + 1), life);
}
END_TEST

/* What no daemon can have written is refused, and served again once it is as it was. */
START_TEST(a_ledger_that_makes_no_sense_is_refused)
{
	uint32_t id = tc_new(&t, a, "dentry", 192), other = tc_new(&t, a, "inode", 600);
	struct cache_record *r = t.pool.ledger.cache, good, good_other = r[other];
	uint32_t granule = td_object(&t, cache_by_id(t.d, id), a);
	uint32_t head = granule >> (12 - t.d->granule_shift);
	uint64_t word;
	unsigned int kind;

	while (!atomic_load(&t.pool.ledger.slab[head]))
		head--;
	word = atomic_load(&t.pool.ledger.slab[head]);
	good = r[id];
	td_stop(&t);
	for (kind = 0; kind < 8; kind++) {
		switch (kind) {
		case 0:
			r[id].geometry.stride = 0;
			break;
		case 1:
			r[id].geometry.objects = 100000;
			break;
		case 2:
			memset(r[id].name, 'x', sizeof(r[id].name));
			break;
		case 3:
			memcpy(r[other].name, r[id].name, sizeof(r[id].name));
			break;
		case 4:
			r[id].flags |= 1;
			break;
		case 5:
			atomic_store(&t.pool.ledger.slab[head], UINT64_MAX);
			break;
		case 6:
			atomic_store(&t.pool.ledger.slab[head + 1], word);
			break;
		default:
			atomic_store(&r[id].word, 0); /* a slab of no cache */
			break;
		}
		ck_assert_msg(td_start(&t, true) == -EUCLEAN, "kind %u", kind);
		t.pool.mm = mm_free(t.pool.mm);
		r[id] = good;
		r[other] = good_other;
		atomic_store(&t.pool.ledger.slab[head], word);
		atomic_store(&t.pool.ledger.slab[head + 1], 0);
	}
	ck_assert_int_eq(td_start(&t, true), 0);
	ck_assert_uint_eq(tc_out(&t, id), 1);
}
END_TEST

/* ---- debugging flags by name ---- */

START_TEST(configured_flags_are_added)
{
	char text[] = "F;ZU,pars*,dentry;P,dentry";
	const struct control_cache *v = t.d->control.cache;
	const char *why = "";
	uint64_t life;
	uint32_t id;

	t.options.slab_debug = text;
	id = tc_new(&t, a, "parser", 64);
	ck_assert_uint_eq(v[id].flags,
	                  SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_STORE_USER);
	ck_assert_uint_eq(v[id].flags_asked, 0);
	ck_assert_int_eq(cache_create(t.d, a, "dentry", 64, 0, 0, true, &id, &life, &why), 0);
	ck_assert_uint_eq(v[id].flags, /* a poisoned one would not come back constructed */
	                  SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_STORE_USER);
	ck_assert_int_eq(tc_create(&t, a, "other", 64, SLAB_POISON, &id, &life, &why), 0);
	ck_assert_uint_eq(v[id].flags, SLAB_CONSISTENCY_CHECKS | SLAB_POISON);
	/* who joins is compared with what was asked for */
	ck_assert_int_eq(tc_create(&t, b, "parser", 64, 0, &id, &life, &why), 0);
	ck_assert_int_eq(tc_create(&t, b, "parser", 64, SLAB_RED_ZONE, &id, &life, &why), -EEXIST);
	t.options.slab_debug = NULL;
	tc_restart();
	ck_assert_uint_eq(v[CACHE_BUILTIN_MAX + 1].flags,
	                  SLAB_CONSISTENCY_CHECKS | SLAB_RED_ZONE | SLAB_STORE_USER);
}
END_TEST

START_TEST(the_notation_of_debugging_flags)
{
	static const char *const good[] = { "F", "FZPU", "F,a", "F,a,b*;Z", "Z,[ab]?;U,kmalloc-*" };
	static const char *const bad[] = { "", ";", "X", "Fx", "F,", "F;", "F,,a", ",a", "F;;Z", "f" };
	char longest[300];
	size_t i;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_msg(slab_debug_valid(good[i]), "%s", good[i]);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!slab_debug_valid(bad[i]), "%s", bad[i]);
	memset(longest, 'a', sizeof(longest));
	longest[0] = 'F';
	longest[1] = ',';
	longest[sizeof(longest) - 1] = '\0';
	ck_assert(!slab_debug_valid(longest));
	ck_assert_uint_eq(slab_debug_flags(NULL, "x"), 0);
	ck_assert_uint_eq(slab_debug_flags("F,a*;P,*b", "ab"), SLAB_CONSISTENCY_CHECKS | SLAB_POISON);
	ck_assert_uint_eq(slab_debug_flags("F,a*;P,*b", "b"), SLAB_POISON);
	ck_assert_uint_eq(slab_debug_flags("F,a*;P,*b", "c"), 0);
	ck_assert_uint_eq(slab_debug_flags("U", "kmalloc-8"), SLAB_STORE_USER);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cache");
	TCase *c = tcase_create("cache");

	tcase_set_timeout(c, 120);
	tcase_add_checked_fixture(c, tc_setup, teardown);
	tcase_add_test(c, the_kmalloc_families_come_with_the_pool);
	tcase_add_test(c, a_first_start_that_died_is_completed);
	tcase_add_test(c, they_are_joined_and_never_end);
	tcase_add_test(c, families_of_another_order_are_refused);
	tcase_add_test(c, a_cache_is_made_once_and_joined);
	tcase_add_test(c, differences_are_named);
	tcase_add_test(c, what_makes_no_sense_is_refused);
	tcase_add_test(c, all_ids_in_use);
	tcase_add_test(c, without_memory_for_users_there_is_no_cache);
	tcase_add_test(c, a_start_without_memory_fails_cleanly);
	tcase_add_test(c, views_follow_the_records);
	tcase_add_test(c, objects_begin_on_granules);
	tcase_add_test(c, a_spoiled_view_is_found_and_mended);
	tcase_add_test(c, wrong_users_are_found);
	tcase_add_test(c, caches_and_users_survive_restarts);
	tcase_add_test(c, a_ledger_that_makes_no_sense_is_refused);
	tcase_add_test(c, configured_flags_are_added);
	tcase_add_test(c, the_notation_of_debugging_flags);
	suite_add_tcase(s, c);
	return suite_status(s);
}
