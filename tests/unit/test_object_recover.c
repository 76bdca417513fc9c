/* SPDX-License-Identifier: MIT */
/*
 * Objects over restarts of the daemon: what a death at any step of a transfer leaves, and what the
 * next start makes of it. Only the persistent memory is carried over (td_restart). The test sets
 * words, out bits and headers to each half-way state; what is honest gives neither damage nor
 * findings.
 */
#include "tests/suite.h"
#include "tests/unit/test_domain.h"

#include <errno.h>

static struct test_domain t;
static uint64_t all_free;
static uint32_t a_id, b_id, c_id;
static uint32_t out[MAGAZINE_ROUNDS_MAX];

/* Structures of the daemon's life are found anew after each start. */
static struct session *A(void)
{
	return session_by_id(t.kmmd.sessions, a_id);
}

static struct session *B(void)
{
	return session_by_id(t.kmmd.sessions, b_id);
}

static struct cache *C(void)
{
	return cache_by_id(t.d, c_id);
}

static void setup(void)
{
	td_init(&t);
	all_free = td_free_frames(&t);
	a_id = td_session(&t, "a")->id;
	b_id = td_session(&t, "b")->id;
	c_id = td_cache(&t, A(), "things", 120, true)->id;
}

static void teardown(void)
{
	td_check(&t);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
	td_fini(&t);
}

static void teardown_unchecked(void)
{
	td_fini(&t);
}

static uint64_t word(uint32_t granule)
{
	return owner_load(td_word_of(&t, granule));
}

static uint64_t objects_out(void)
{
	struct kmem_cache_stats n;

	kmem_cache_stats(C()->slab, &n);
	return n.objects_out;
}

static void set_word(uint32_t granule, uint64_t w)
{
	owner_store(td_word_of(&t, granule), w);
}

static struct slab_object object_of(uint32_t granule)
{
	struct thing thing;

	thing_find(t.d, granule, &thing);
	ck_assert(thing.is_object);
	return thing.object;
}

static void set_out(uint32_t granule, bool value)
{
	uint32_t at = object_of(granule).word;
	uint64_t bit = UINT64_C(1) << at % 64;

	if (value)
		atomic_fetch_or(&t.pool.ledger.out[at / 64], bit);
	else
		atomic_fetch_and(&t.pool.ledger.out[at / 64], ~bit);
}

static void restart(void)
{
	td_restart(&t);
	td_check(&t);
	/* once more: nothing changes */
	td_restart(&t);
	td_check(&t);
}

static void check_all_free(void)
{
	session_end(A());
	session_end(B());
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	td_check(&t);
}

/* ---- what is held ---- */

START_TEST(held_objects_stay)
{
	uint32_t stride = kmem_cache_geometry(C()->slab)->stride, i, x[300];
	uint64_t w[300];

	for (i = 0; i < 300; i++) {
		x[i] = td_object(&t, C(), i % 3 ? A() : B());
		if (i % 2)
			atomic_fetch_or(td_word_of(&t, x[i]), OWNER_CONSTRUCTED | OWNER_SHARED);
		w[i] = word(x[i]);
	}
	restart();
	ck_assert_str_eq(kmem_cache_record(C()->slab)->name, "things");
	ck_assert_uint_eq(objects_out(), 300);
	for (i = 0; i < 300; i++)
		ck_assert_uint_eq(word(x[i]), w[i]);
	ck_assert_int_eq(atomic_load(&A()->object_bytes), 200 * stride);
	ck_assert_int_eq(atomic_load(&B()->object_bytes), 100 * stride);
	for (i = 0; i < 300; i += 3)
		ck_assert_int_eq(td_object_free(&t, B(), x[i]), 0);
	ck_assert_int_eq(atomic_load(&B()->object_bytes), 0);
	check_all_free();
}
END_TEST

/* Offered, given back, in no session's hands: free, constructed state and all. */
START_TEST(unclaimed_objects_are_freed)
{
	uint32_t offered, returned, full, i, listed, accepted, n;
	magazine_id_t m;
	const char *why;

	ck_assert_int_eq(object_alloc(C(), A(), 0, GFP_KERNEL, false, &offered, &why), 0);
	returned = td_object(&t, C(), A());
	atomic_fetch_or(td_word_of(&t, returned), OWNER_CONSTRUCTED);
	td_object_change(&t, returned, OWNER_HELD, a_id, OWNER_RETURNED, a_id);
	ck_assert_int_eq(exchange_take_objects(C(), A(), 0, GFP_KERNEL, false, 20, &m, &n, &why),
	                 0);
	ck_assert_uint_eq(td_take_objects(&t, A(), m, out), 20);
	td_load_objects(&t, A(), m, out, 20);
	exchange_give(t.d, A(), 0, m, &accepted, &listed);
	full = out[0];
	ck_assert_int_eq(exchange_take_objects(C(), B(), 0, GFP_KERNEL, false, 4, &m, &n, &why), 0);
	restart();
	ck_assert_uint_eq(objects_out(), 0);
	ck_assert_int_eq(owner_kind(word(offered)), OWNER_FREE);
	ck_assert_int_eq(owner_kind(word(full)), OWNER_FREE);
	ck_assert(word(returned) & OWNER_CONSTRUCTED);
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(owner_kind(word(out[i])), OWNER_FREE);
	ck_assert_uint_eq(atomic_load(&A()->magazines) + atomic_load(&B()->magazines), 0);
	check_all_free();
}
END_TEST

/* A magazine that its session fills or empties stays with it, and what its words name too. */
START_TEST(loaded_magazines_stay)
{
	magazine_id_t m;
	const char *why;
	uint32_t n, i, accepted, listed;

	ck_assert_int_eq(exchange_take_objects(C(), A(), 0, GFP_KERNEL, false, 20, &m, &n, &why),
	                 0);
	ck_assert_uint_eq(td_take_objects(&t, A(), m, out), 20);
	for (i = 0; i < 7; i++)
		ck_assert(td_object_change(&t, out[i], OWNER_HELD, a_id, OWNER_MAGAZINE, m.nr));
	restart();
	ck_assert_uint_eq(objects_out(), 20);
	ck_assert_uint_eq(depot_lent_to(t.d->depot, m), a_id);
	ck_assert_uint_eq(atomic_load(&A()->magazines), 1);
	ck_assert_int_eq(atomic_load(&A()->object_bytes),
	                 20 * kmem_cache_geometry(C()->slab)->stride);
	/* the client goes on */
	for (i = 0; i < 7; i++)
		atomic_store(&t.d->control.magazine[m.nr].round[i], out[i]);
	{
		struct magazine *mag = &t.d->control.magazine[m.nr];
		uint64_t h = magazine_load(mag);

		ck_assert(magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, 7)));
	}
	exchange_give(t.d, A(), 0, m, &accepted, &listed);
	ck_assert_uint_eq(accepted, 7);
	check_all_free();
}
END_TEST

START_TEST(holders_and_names_stay)
{
	uint32_t x = td_object(&t, C(), A()), y = td_object(&t, C(), A());
	uint32_t z = td_object(&t, C(), A());
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, B(), x, (uint32_t)owner_generation(word(x)), &why), 0);
	ck_assert_int_eq(name_publish(t.d->names, A(), "y", y, owner_generation(word(y)), &why), 0);
	ck_assert_int_eq(grant_hold(t.d, B(), z, (uint32_t)owner_generation(word(z)), &why), 0);
	/* given up when the daemon died before it heard of it */
	td_object_change(&t, z, OWNER_HELD, a_id, OWNER_RETURNED, a_id);
	restart();
	ck_assert(owner_is(word(x), OWNER_HELD, a_id));
	ck_assert(word(x) & OWNER_KEPT);
	ck_assert(owner_is(word(z), OWNER_HELD, 0));
	session_end(A());
	restart();
	ck_assert_uint_eq(objects_out(), 3);
	ck_assert(owner_is(word(y), OWNER_HELD, 0));
	session_end(B());
	td_check(&t);
	ck_assert_uint_eq(objects_out(), 1);
	ck_assert_int_eq(name_unpublish(t.d->names, td_session(&t, "c"), 0, "y", &why), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
}
END_TEST

/* ---- half-way states ---- */

START_TEST(death_while_offering)
{
	uint32_t x = td_object(&t, C(), A()), y = td_object(&t, C(), A());
	uint64_t w;

	ck_assert_int_eq(td_object_free(&t, A(), y), 0);
	w = word(y);
	/* the out bit is set, the word not yet */
	set_out(y, true);
	restart();
	ck_assert_uint_eq(objects_out(), 1);
	ck_assert_uint_eq(word(y), w);
	ck_assert(owner_is(word(x), OWNER_HELD, a_id));
	check_all_free();
}
END_TEST

START_TEST(death_while_freeing)
{
	uint32_t x = td_object(&t, C(), A());
	uint64_t w;

	td_object_change(&t, x, OWNER_HELD, a_id, OWNER_RETURNED, a_id);
	w = word(x);
	/* the word is exchanged, the out bit still set */
	set_word(x, owner_renewed(w, OWNER_FREE, 0));
	restart();
	ck_assert_uint_eq(objects_out(), 0);
	ck_assert_uint_eq(word(x), owner_renewed(w, OWNER_FREE, 0));
	check_all_free();
}
END_TEST

START_TEST(death_between_holder_and_kept)
{
	uint32_t x = td_object(&t, C(), A()), y = td_object(&t, C(), A());
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, B(), x, (uint32_t)owner_generation(word(x)), &why), 0);
	set_word(x, word(x) & ~OWNER_KEPT);
	set_word(y, word(y) | OWNER_KEPT);
	ck_assert_uint_eq(domain_validate(t.d, td_silent, NULL), 2);
	restart();
	ck_assert(word(x) & OWNER_KEPT);
	ck_assert(!(word(y) & OWNER_KEPT));
	/* nobody has it: its holders are gone */
	set_word(y, owner_moved(word(y), OWNER_HELD, 0) | OWNER_KEPT);
	restart();
	ck_assert_uint_eq(objects_out(), 1);
	check_all_free();
}
END_TEST

/* A slab that was being made: descriptors and words are there, the slab word is not. */
START_TEST(death_while_a_slab_is_born)
{
	uint32_t x = td_object(&t, C(), A()), i;
	struct slab_object o = object_of(x);
	uint64_t desc = atomic_load(&t.d->control.desc[o.head]);

	ck_assert_int_eq(td_object_free(&t, A(), x), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	for (i = 0; i < 1u << kmem_cache_geometry(C()->slab)->order; i++)
		atomic_store(&t.d->control.desc[o.head + i], desc);
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	restart();
	ck_assert_uint_eq(atomic_load(&t.d->control.desc[o.head]), 0);
	check_all_free();
}
END_TEST

/* One that was going: frame words and descriptors are changed, the slab word still there. */
START_TEST(death_while_a_slab_dies)
{
	uint32_t x = td_object(&t, C(), A());
	struct slab_object o = object_of(x);
	struct slab_about s;
	uint64_t desc = atomic_load(&t.d->control.desc[o.head]);

	ck_assert_int_eq(td_object_free(&t, A(), x), 0);
	ck_assert(slab_about_at(t.d->slabs, o.head, &s));
	object_slab_ops.dying(t.d, &s);
	ck_assert_uint_eq(atomic_load(&t.d->control.desc[o.head]), 0);
	restart();
	ck_assert_uint_eq(atomic_load(&t.d->control.desc[o.head]), desc);
	x = td_object(&t, C(), A());
	ck_assert_int_eq(td_object_free(&t, A(), x), 0);
	check_all_free();
}
END_TEST

/* The sweep had only begun; or all was freed and the bits were going. */
START_TEST(death_while_sweeping)
{
	unsigned int step;
	uint32_t i;

	for (step = 0; step < 2; step++) {
		struct session *s = td_session(&t, "dying");
		uint32_t id = s->id;

		for (i = 0; i < 40; i++)
			out[i] = td_object(&t, C(), s);
		if (step == 1)
			for (i = 0; i < 40; i++)
				set_word(out[i], owner_reborn(word(out[i]), OWNER_FREE, 0));
		atomic_store(&s->record->word, SESSION_RECORD_SWEEPING);
		restart();
		ck_assert_uint_eq(objects_out(), 0);
		ck_assert_uint_eq(
			atomic_load(&session_by_id(t.kmmd.sessions, id)->record->word), 0);
	}
	check_all_free();
}
END_TEST

/* A word whose memory went back (punched: zeroes) serves another place after the restart: there, too,
 * above what anybody may remember of it. */
START_TEST(generations_of_words_outlive_their_memory)
{
	uint32_t x = 0, i, at;
	uint64_t generation;
	pfn_t head;

	for (i = 0; i < 50; i++) {
		x = td_object(&t, C(), A());
		ck_assert_int_eq(td_object_free(&t, A(), x), 0);
	}
	x = td_object(&t, C(), A());
	at = object_of(x).word;
	head = object_of(x).head;
	generation = owner_generation(word(x));
	ck_assert_uint_gt(generation, 50);
	ck_assert_int_eq(td_object_free(&t, A(), x), 0);
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	for (i = 0; i < 4096; i++)
		owner_store(&t.d->control.object[i], 0);
	restart();
	/* another slab, elsewhere, with the same words */
	for (i = 0; i < TD_FRAMES && td_alloc(&t, A(), GFP_KERNEL, 0) != head; i++)
		;
	ck_assert_uint_lt(i, TD_FRAMES);
	x = td_object(&t, C(), A());
	ck_assert_uint_ne(object_of(x).head, head);
	ck_assert_uint_le(object_of(x).word, at);
	ck_assert_uint_gt(owner_generation(owner_load(&t.d->control.object[at])), generation);
	check_all_free();
}
END_TEST

/* ---- damage ---- */

START_TEST(words_of_nobody)
{
	uint32_t x = td_object(&t, C(), A()), y = td_object(&t, C(), A());
	uint32_t z = td_object(&t, C(), A());
	pfn_t frame = object_of(x).head;

	ck_assert_int_eq(td_object_free(&t, A(), z), 0);
	set_word(x, owner_moved(word(x), OWNER_HELD, 200)); /* no such session */
	set_word(y, owner_moved(word(y), OWNER_AREA, 3));
	set_word(z, owner_moved(word(z), OWNER_HELD, a_id)); /* never out */
	owner_store(td_word(&t, frame),
	            owner_moved(owner_load(td_word(&t, frame)), OWNER_HELD, a_id));
	td_restart(&t);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 4);
	ck_assert_uint_eq(objects_out(), 2); /* out of use */
	ck_assert_int_eq(owner_kind(word(z)), OWNER_FREE);
	ck_assert_int_eq(owner_kind(owner_load(td_word(&t, frame))), OWNER_FREE);
	ck_assert_uint_eq(domain_validate(t.d, td_silent, NULL), 2);
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
	/* mended by hand */
	set_word(x, owner_reborn(word(x), OWNER_FREE, 0));
	set_word(y, owner_reborn(word(y), OWNER_FREE, 0));
	restart();
	check_all_free();
}
END_TEST

/* Any content of the words at a start: served on, and private truth stays whole. */
START_TEST(random_words_at_a_start)
{
	uint32_t i, round;

	srand(5);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 200; i++)
			out[i] = td_object(&t, C(), i % 2 ? A() : B());
		for (i = 0; i < 4096; i++)
			if (rand() % 8 == 0)
				owner_store(&t.d->control.object[i],
				            (uint64_t)rand() << 33 | (uint64_t)rand());
		for (i = 0; i < TD_MAGAZINES; i++)
			atomic_store(&t.d->control.magazine[i].header,
			             (uint64_t)rand() << 32 | (uint64_t)rand());
		td_restart(&t);
		ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
		ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
		domain_validate(t.d, td_silent, NULL);
		object_collect(t.d, NULL, NULL, MM_CPU_NONE);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recovery of objects");
	TCase *k = tcase_create("recovery");

	tcase_add_checked_fixture(k, setup, teardown);
	tcase_set_timeout(k, 120);
	tcase_add_test(k, held_objects_stay);
	tcase_add_test(k, unclaimed_objects_are_freed);
	tcase_add_test(k, loaded_magazines_stay);
	tcase_add_test(k, holders_and_names_stay);
	tcase_add_test(k, death_while_offering);
	tcase_add_test(k, death_while_freeing);
	tcase_add_test(k, death_between_holder_and_kept);
	tcase_add_test(k, death_while_a_slab_is_born);
	tcase_add_test(k, death_while_a_slab_dies);
	tcase_add_test(k, death_while_sweeping);
	tcase_add_test(k, generations_of_words_outlive_their_memory);
	suite_add_tcase(suite, k);
	/* these leave findings behind: no validation at their end */
	k = tcase_create("damage");
	tcase_add_checked_fixture(k, setup, teardown_unchecked);
	tcase_set_timeout(k, 120);
	tcase_add_test(k, words_of_nobody);
	tcase_add_test(k, random_words_at_a_start);
	suite_add_tcase(suite, k);
	return suite_status(suite);
}
