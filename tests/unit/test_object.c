/* SPDX-License-Identifier: MIT */
/*
 * Objects one by one, over a real slab layer and control memory in ordinary memory: offering,
 * taking back, sending, holding, counting, sessions that end. The test plays the clients. All
 * validators run after each step. Magazines: test_exchange_object.c. Restarts:
 * test_object_recover.c.
 */
#include "tests/suite.h"
#include "tests/unit/test_scene.h"

static struct session *a, *b;
static struct cache *c;

static void setup(void)
{
	scene_setup();
	a = td_session(&t, "a");
	b = td_session(&t, "b");
	c = td_cache(&t, a, "things", 200, false);
	td_check(&t);
}

static uint64_t word(uint32_t granule)
{
	return owner_load(td_word_of(&t, granule));
}

static uint64_t out(void)
{
	struct kmem_cache_stats n;

	kmem_cache_stats(c->slab, &n);
	return n.objects_out;
}

/* Nothing is left of anything. */
static void check_all_free(void)
{
	ck_assert_uint_eq(td_free_frames(&t), all_free);
	td_check(&t);
}

/* ---- one object ---- */

START_TEST(alloc_and_free)
{
	uint32_t granule = td_object(&t, c, a), again, pfn;
	uint64_t desc;

	td_check(&t);
	ck_assert_uint_eq(out(), 1);
	ck_assert_int_eq(bytes(a), kmem_cache_geometry(c->slab)->stride);
	pfn = control_pfn_of_granule(t.d->granule_shift, granule);
	desc = atomic_load(&t.d->control.desc[pfn]);
	ck_assert_uint_eq(page_desc_kind(desc), PAGE_SLAB);
	ck_assert_uint_eq(page_desc_cache(desc), c->id);
	ck_assert_uint_eq(page_desc_shift(desc), t.d->control.cache[c->id].shift);
	ck_assert_ptr_eq(&t.d->control.object[page_desc_word(
				 desc, (uint64_t)granule << t.d->granule_shift)],
	                 td_word_of(&t, granule));
	/* the slab bit was the daemon's to set */
	ck_assert(atomic_load(&control_slab_bits(&t.d->control, a->id)[pfn / 64]) >> pfn % 64 & 1);
	ck_assert_int_eq(td_object_free(&t, a, granule), 0);
	td_check(&t);
	ck_assert_uint_eq(out(), 0);
	ck_assert_int_eq(bytes(a), 0);
	again = td_object(&t, c, b);
	ck_assert_int_eq(td_object_free(&t, b, again), 0);
	check_all_free();
}
END_TEST

START_TEST(free_is_refused)
{
	uint32_t granule = td_object(&t, c, a), block;
	uint64_t g = owner_generation(word(granule));
	const char *why = NULL;

	ck_assert_int_eq(object_free(t.d, a, 0, granule, g, &why), -EPERM); /* not RETURNED */
	ck_assert_ptr_nonnull(why);
	ck_assert_int_eq(object_free(t.d, b, 0, granule, g, &why), -EPERM);
	ck_assert_int_eq(object_free(t.d, a, 0, granule, g + 1, &why), -ENOENT);
	ck_assert_int_eq(object_free(t.d, a, 0, granule + 1, g, &why), -ENOENT); /* interior */
	ck_assert_int_eq(object_free(t.d, a, 0, UINT32_MAX, g, &why), -EINVAL);
	block = domain_granule(t.d, td_alloc(&t, a, GFP_KERNEL, 0));
	ck_assert_int_eq(object_free(t.d, a, 0, block, td_generation(&t, block >> 9), &why),
	                 -EINVAL);
	ck_assert(td_object_change(&t, granule, OWNER_HELD, a->id, OWNER_RETURNED, a->id));
	ck_assert_int_eq(object_free(t.d, b, 0, granule, g, &why), -EPERM);
	td_check(&t);
	/* done, and done again; and again when the slab has gone */
	ck_assert_int_eq(object_free(t.d, a, 0, granule, g, &why), 0);
	ck_assert_int_eq(object_free(t.d, a, 0, granule, g, &why), 0);
	ck_assert_int_eq(bytes(a), 0);
	td_free_frames(&t);
	ck_assert_int_eq(object_free(t.d, a, 0, granule, g, &why), 0);
	ck_assert_uint_eq(atomic_load(&t.d->damaged), 0);
}
END_TEST

START_TEST(alloc_is_refused)
{
	const char *why = NULL;
	uint32_t granule = 7, stride = kmem_cache_geometry(c->slab)->stride, got;

	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL | __GFP_HIGHMEM, false, &granule, &why),
	                 -EINVAL);
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL | __GFP_MEMALLOC, false, &granule, &why),
	                 -EPERM);
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, true, &granule, &why), -ENOKEY);
	ck_assert_ptr_nonnull(strstr(why, "things"));
	a->pages_max = 1;
	for (got = 0; object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why) == 0; got++)
		ck_assert(td_object_change(&t, granule, OWNER_OFFERED, a->id, OWNER_HELD, a->id));
	ck_assert_uint_eq(got, 4096 / stride);
	granule = 7;
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	ck_assert_uint_eq(granule, 7);
	/* blocks and objects count together */
	ck_assert_uint_eq(charge_reserve(a, 0, 1), 0);
	a->pages_max = 2;
	ck_assert_uint_eq(charge_reserve(a, 0, 2), 1);
	ck_assert_uint_eq(charge_reserve_objects(a, stride, 100), 0);
	charge_return(a, 1);
	atomic_store(&t.d->spoiled, true);
	ck_assert_int_eq(object_alloc(c, b, 0, GFP_KERNEL, false, &granule, &why), -EIO);
	atomic_store(&t.d->spoiled, false);
	session_end(a);
	check_all_free();
}
END_TEST

START_TEST(exhaustion_rolls_back)
{
	const char *why;
	uint32_t granule;
	pfn_t pfn;

	while (grant_alloc(t.d, b, 0, GFP_KERNEL | __GFP_MOVABLE, 0, &pfn, &why) == 0)
		;
	while (object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why) == 0)
		;
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(why, "things"));
	ck_assert_uint_ne(atomic_load(&t.d->control.status->scarce), 0);
	td_check(&t);
	session_end(a);
	session_end(b);
	check_all_free();
}
END_TEST

START_TEST(withdrawn_offer_cannot_be_claimed)
{
	const char *why;
	uint32_t granule;
	uint64_t w;

	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), 0);
	w = word(granule);
	object_withdraw(t.d, b, 0, granule); /* not b's */
	ck_assert_uint_eq(word(granule), w);
	object_withdraw(t.d, a, 0, granule);
	ck_assert(!owner_cas(td_word_of(&t, granule), &w, owner_moved(w, OWNER_HELD, a->id)));
	object_withdraw(t.d, a, 0, granule);
	object_withdraw(t.d, a, 0, UINT32_MAX);
	ck_assert_int_eq(bytes(a), 0);
	/* a claimed one stays */
	granule = td_object(&t, c, a);
	object_withdraw(t.d, a, 0, granule);
	ck_assert(owner_is(word(granule), OWNER_HELD, a->id));
	/* all offers of a lost connection */
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), 0);
	grant_withdraw_all(t.d, a);
	ck_assert_uint_eq(out(), 1);
	td_check(&t);
}
END_TEST

/* The next life of a place never has a generation that was there before. */
START_TEST(generations_go_on)
{
	uint64_t last = 0;
	unsigned int i;

	for (i = 0; i < 6; i++) {
		struct cache *k = i % 2 ? c : td_cache(&t, a, i % 4 ? "small" : "large",
		                                       i % 4 ? 64 : 900, false);
		uint32_t granule = td_object(&t, k, a);
		pfn_t pfn = control_pfn_of_granule(t.d->granule_shift, granule);
		uint64_t g = owner_generation(word(granule));

		ck_assert_uint_gt(g, 0);
		ck_assert_uint_ge(g, owner_generation(owner_load(td_word(&t, pfn))));
		ck_assert_int_eq(td_object_free(&t, a, granule), 0);
		check_all_free();
		/* the slab has gone: its frame's word is ahead of what the object had */
		ck_assert_uint_eq(atomic_load(&t.d->control.desc[pfn]), 0);
		ck_assert_uint_gt(owner_generation(owner_load(td_word(&t, pfn))), g);
		last = owner_generation(owner_load(td_word(&t, pfn)));
	}
	ck_assert_uint_gt(last, 1);
}
END_TEST

/* What CONSTRUCTED lives through, and what not. */
START_TEST(constructed_state)
{
	struct cache *k = td_cache(&t, a, "built", 200, true);
	uint32_t granule = td_object(&t, k, a), other;
	const char *why;

	ck_assert(!(word(granule) & OWNER_CONSTRUCTED));
	ck_assert_int_eq(object_alloc(k, b, 0, GFP_KERNEL, true, &other, &why), -ENOKEY);
	atomic_fetch_or(td_word_of(&t, granule), OWNER_CONSTRUCTED);
	ck_assert_int_eq(td_object_free(&t, a, granule), 0);
	slab_shrink(k->slab, 0, 8); /* out of the cpu's magazines */
	ck_assert(word(granule) & OWNER_CONSTRUCTED);
	ck_assert_int_eq(object_alloc(k, b, 0, GFP_KERNEL, true, &other, &why), 0);
	ck_assert_uint_eq(other, granule);
	ck_assert(word(granule) & OWNER_CONSTRUCTED);
	/* an offer withdrawn was never touched; what the dead had may be half done */
	object_withdraw(t.d, b, 0, granule);
	ck_assert(word(granule) & OWNER_CONSTRUCTED);
	slab_shrink(k->slab, 0, 8);
	ck_assert_int_eq(object_alloc(k, b, 0, GFP_KERNEL, true, &other, &why), 0);
	ck_assert(td_object_change(&t, granule, OWNER_OFFERED, b->id, OWNER_HELD, b->id));
	session_end(b);
	ck_assert(!(word(granule) & OWNER_CONSTRUCTED));
	td_check(&t);
}
END_TEST

START_TEST(collect_takes_what_is_marked)
{
	struct cache *k = td_cache(&t, b, "others", 64, false);
	uint32_t x = td_object(&t, c, a), y = td_object(&t, c, a), z = td_object(&t, k, b);

	td_object_change(&t, x, OWNER_HELD, a->id, OWNER_RETURNED, a->id);
	td_object_change(&t, z, OWNER_HELD, b->id, OWNER_RETURNED, b->id);
	ck_assert_uint_eq(object_collect(t.d, a, k, MM_CPU_NONE), 0);
	ck_assert_uint_eq(object_collect(t.d, a, NULL, MM_CPU_NONE), 1);
	td_check(&t);
	ck_assert(!td_object_change(&t, x, OWNER_RETURNED, a->id, OWNER_HELD, a->id));
	ck_assert_uint_eq(object_collect(t.d, NULL, c, MM_CPU_NONE), 0);
	ck_assert_uint_eq(object_collect(t.d, NULL, NULL, MM_CPU_NONE), 1);
	ck_assert_int_eq(bytes(b), 0);
	ck_assert(owner_is(word(y), OWNER_HELD, a->id));
	ck_assert_uint_eq(atomic_load(&k->inside), 0);
}
END_TEST

/* ---- several sessions ---- */

START_TEST(send_moves_it)
{
	uint32_t granule = td_object(&t, c, a), stride = kmem_cache_geometry(c->slab)->stride;
	uint64_t g = owner_generation(word(granule));
	struct session *third = td_session(&t, "third");
	const char *why;

	b->pages_max = 1;
	charge_set_objects(b, 1, 4096);
	ck_assert_int_eq(grant_send(t.d, third, granule, g, b, &why), -EPERM);
	ck_assert_int_eq(grant_send(t.d, a, granule, g, b, &why), -EDQUOT);
	ck_assert_int_eq(grant_send(t.d, a, granule, g + 1, b, &why), -ESTALE);
	ck_assert_int_eq(grant_send(t.d, a, granule + 1, g, b, &why), -ENOENT);
	ck_assert_int_eq(grant_send(t.d, a, UINT32_MAX, g, b, &why), -EINVAL);
	/* the receiver's account is counted anew before it is refused for good */
	grant_recharge(t.d, b);
	ck_assert_int_eq(bytes(b), 0);
	ck_assert_int_eq(grant_send(t.d, a, granule, g, b, &why), 0);
	ck_assert_int_eq(grant_send(t.d, a, granule, g, b, &why), 0); /* done */
	ck_assert_int_eq(grant_send(t.d, a, granule, g, third, &why), -EPERM);
	ck_assert_int_eq(bytes(a), 0);
	ck_assert_int_eq(bytes(b), stride);
	td_check(&t);
	session_end(a);
	td_check(&t);
	ck_assert(owner_is(word(granule), OWNER_HELD, b->id));
	session_end(b);
	check_all_free();
}
END_TEST

START_TEST(holders_keep_it)
{
	uint32_t granule = td_object(&t, c, a);
	uint64_t g = owner_generation(word(granule));
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, b, granule, (uint32_t)g + 1, &why), -ESTALE);
	ck_assert_int_eq(grant_hold(t.d, b, granule + 1, (uint32_t)g, &why), -ESTALE);
	ck_assert_int_eq(grant_hold(t.d, b, granule, (uint32_t)g, &why), 0);
	ck_assert_int_eq(grant_hold(t.d, b, granule, (uint32_t)g, &why), 0);
	ck_assert_uint_eq(atomic_load(&b->holds), 1);
	ck_assert(word(granule) & OWNER_KEPT);
	td_check(&t);
	ck_assert_int_eq(td_object_free(&t, a, granule), 0);
	ck_assert(owner_is(word(granule), OWNER_HELD, 0));
	ck_assert_uint_eq(owner_generation(word(granule)), g);
	ck_assert_int_eq(bytes(a), 0);
	/* told again */
	ck_assert_int_eq(object_free(t.d, a, 0, granule, g, &why), 0);
	td_check(&t);
	session_end(a);
	td_check(&t);
	ck_assert_int_eq(grant_release(t.d, b, 0, granule, &why), 0);
	ck_assert_int_eq(grant_release(t.d, b, 0, granule, &why), 0);
	ck_assert_int_eq(grant_hold(t.d, b, granule, (uint32_t)g, &why), -ESTALE);
	ck_assert_uint_eq(out(), 0);
	check_all_free();
}
END_TEST

START_TEST(ending_holders_let_go)
{
	uint32_t x = td_object(&t, c, a), y = td_object(&t, c, b);
	const char *why;

	ck_assert_int_eq(grant_hold(t.d, b, x, (uint32_t)owner_generation(word(x)), &why), 0);
	ck_assert_int_eq(grant_hold(t.d, a, y, (uint32_t)owner_generation(word(y)), &why), 0);
	session_end(b);
	td_check(&t);
	ck_assert(!(word(x) & OWNER_KEPT));
	ck_assert(owner_is(word(y), OWNER_HELD, 0));
	session_end(a);
	check_all_free();
}
END_TEST

/* Names hold as sessions do, and outlive them. */
START_TEST(names_keep_it)
{
	uint32_t granule = td_object(&t, c, a);
	uint32_t block = domain_granule(t.d, td_alloc(&t, a, GFP_KERNEL, 0));
	uint64_t g = owner_generation(word(granule)), gb = td_generation(&t, block >> 9);
	const char *why;

	ck_assert_int_eq(name_publish(t.d->names, a, "x", granule, g, &why), 0);
	ck_assert_int_eq(name_publish(t.d->names, a, "y", block, gb, &why), 0);
	td_check(&t);
	session_end(a);
	td_check(&t);
	ck_assert(owner_is(word(granule), OWNER_HELD, 0));
	ck_assert_int_eq(grant_hold(t.d, b, block, (uint32_t)gb, &why), 0);
	ck_assert_int_eq(grant_release(t.d, b, 0, block, &why), 0);
	td_check(&t);
	ck_assert_int_eq(name_unpublish(t.d->names, b, 0, "x", &why), 0);
	ck_assert_int_eq(name_unpublish(t.d->names, b, 0, "y", &why), 0);
	check_all_free();
}
END_TEST

/* Adoption is not told: the account lags, and is counted anew. */
START_TEST(recount_is_exact)
{
	uint32_t stride = kmem_cache_geometry(c->slab)->stride, x[10], i;

	for (i = 0; i < 10; i++)
		x[i] = td_object(&t, c, a);
	for (i = 0; i < 7; i++) {
		td_note(&t, b, x[i]);
		ck_assert(td_object_change(&t, x[i], OWNER_HELD, a->id, OWNER_HELD, b->id));
	}
	ck_assert_int_eq(bytes(a), 10 * stride);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(td_object_free(&t, b, x[i]), 0);
	ck_assert_int_eq(bytes(b), 0); /* never below */
	grant_recharge(t.d, a);
	grant_recharge(t.d, b);
	ck_assert_int_eq(bytes(a), 3 * stride);
	ck_assert_int_eq(bytes(b), 3 * stride);
}
END_TEST

/* Who adopted more than he may have is found out when the giver is counted. */
START_TEST(adopters_are_counted_too)
{
	uint32_t stride = kmem_cache_geometry(c->slab)->stride, n = 4096 / stride, i, granule;
	const char *why;

	a->pages_max = b->pages_max = 1;
	for (i = 0; i < n; i++) {
		granule = td_object(&t, c, a);
		td_note(&t, b, granule);
		ck_assert(td_object_change(&t, granule, OWNER_HELD, a->id, OWNER_HELD, b->id));
	}
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
	grant_recharge(t.d, a);
	ck_assert_int_eq(object_alloc(c, a, 0, GFP_KERNEL, false, &granule, &why), 0);
	/* once to be counted, then because it is so */
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(object_alloc(c, b, 0, GFP_KERNEL, false, &granule, &why), -EDQUOT);
		grant_recharge(t.d, b);
		ck_assert_int_eq(bytes(b), n * stride);
	}
	/* and no further: nothing left b */
	ck_assert_uint_eq(charge_reserve_objects(a, stride, 1), 1);
	charge_return_objects(a, stride, 1);
}
END_TEST

struct seen {
	uint64_t objects[4], returned, calls;
};

static void see(void *ctx, uint32_t session, struct cache *cache, const struct object_count *n)
{
	struct seen *s = ctx;

	ck_assert_uint_eq(n->bytes, n->objects * kmem_cache_geometry(cache->slab)->stride);
	ck_assert_uint_lt(session, 4);
	s->objects[session] += n->objects;
	s->returned += n->returned;
	s->calls++;
}

START_TEST(census)
{
	struct cache *k = td_cache(&t, b, "others", 64, false);
	struct seen n = { 0 };
	const char *why;
	uint32_t x, i;

	for (i = 0; i < 300; i++)
		td_object(&t, i % 3 ? c : k, i % 2 ? a : b);
	x = td_object(&t, c, a);
	ck_assert_int_eq(grant_hold(t.d, b, x, (uint32_t)owner_generation(word(x)), &why), 0);
	ck_assert_int_eq(td_object_free(&t, a, x), 0);
	x = td_object(&t, c, a);
	td_object_change(&t, x, OWNER_HELD, a->id, OWNER_RETURNED, a->id);
	ck_assert_int_eq(object_census(t.d, NULL, NULL, see, &n), 0);
	ck_assert_uint_eq(n.objects[0], 1);
	ck_assert_uint_eq(n.objects[a->id], 150);
	ck_assert_uint_eq(n.objects[b->id], 150);
	ck_assert_uint_eq(n.returned, 1);
	ck_assert_uint_eq(n.calls, 5);
	n = (struct seen){ 0 };
	ck_assert_int_eq(object_census(t.d, b, NULL, see, &n), 0);
	ck_assert_uint_eq(n.objects[a->id] + n.objects[0], 0);
	ck_assert_uint_eq(n.objects[b->id], 150);
	n = (struct seen){ 0 };
	ck_assert_int_eq(object_census(t.d, a, k, see, &n), 0);
	ck_assert_uint_eq(n.calls, 1);
	ck_assert_uint_eq(n.objects[a->id], 50);
}
END_TEST

/* ---- the end of a session ---- */

/* Adoption, step by step, and the sweep of the owner after each: exactly one has it. */
START_TEST(adopt_or_sweep)
{
	unsigned int step;

	for (step = 0; step < 4; step++) {
		struct session *owner = td_session(&t, "owner");
		uint32_t granule = td_object(&t, c, owner);
		owner_word_t *p = td_word_of(&t, granule);
		uint64_t w;
		bool adopted = false;

		atomic_fetch_or(p, OWNER_SHARED);
		w = owner_load(p); /* 0: handle known, 1: word read, 2: noted, 3: adopted */
		if (step >= 2)
			td_note(&t, b, granule);
		if (step >= 3)
			adopted = owner_cas(p, &w, owner_renewed(w, OWNER_HELD, b->id));
		session_end(owner);
		td_check(&t);
		if (!adopted)
			ck_assert(!owner_cas(p, &w, owner_renewed(w, OWNER_HELD, b->id)));
		ck_assert_int_eq(adopted, step == 3);
		ck_assert_uint_eq(out(), adopted);
		if (adopted)
			ck_assert_int_eq(td_object_free(&t, b, granule), 0);
		check_all_free();
	}
}
END_TEST

/* The adopter dies instead: what it noted and did not take is left alone. */
START_TEST(a_dying_adopter)
{
	uint32_t granule = td_object(&t, c, a), more = td_object(&t, c, a);

	td_note(&t, b, granule);
	session_end(b);
	ck_assert(owner_is(word(granule), OWNER_HELD, a->id));
	ck_assert(owner_is(word(more), OWNER_HELD, a->id));
	ck_assert_uint_eq(atomic_load(&control_slab_bits(&t.d->control, b->id)[granule >> 15]), 0);
	td_check(&t);
}
END_TEST

/* Whatever kind a word has, the sweep takes what names the dead and nothing else. */
START_TEST(sweep_takes_every_kind)
{
	struct session *s = td_session(&t, "dying");
	uint32_t held = td_object(&t, c, s), returned = td_object(&t, c, s), offered, kept, mine, i;
	const char *why;

	ck_assert_int_eq(object_alloc(c, s, 0, GFP_KERNEL, false, &offered, &why), 0);
	kept = td_object(&t, c, s);
	mine = td_object(&t, c, a);
	td_object_change(&t, returned, OWNER_HELD, s->id, OWNER_RETURNED, s->id);
	ck_assert_int_eq(grant_hold(t.d, b, kept, (uint32_t)owner_generation(word(kept)), &why), 0);
	for (i = 0; i < 500; i++)
		td_object(&t, c, s);
	session_end(s);
	td_check(&t);
	ck_assert_uint_eq(out(), 2);
	ck_assert(owner_is(word(kept), OWNER_HELD, 0));
	ck_assert(owner_is(word(mine), OWNER_HELD, a->id));
	ck_assert_int_eq(owner_kind(word(held)), OWNER_FREE);
	ck_assert_int_eq(owner_kind(word(offered)), OWNER_FREE);
	ck_assert_uint_eq(atomic_load(&c->inside), 0);
}
END_TEST

/* ---- members that scribble ---- */

START_TEST(words_of_free_objects)
{
	uint32_t x = td_object(&t, c, a), y = td_object(&t, c, a), z;
	uint64_t w;

	ck_assert_int_eq(td_object_free(&t, a, y), 0);
	w = word(y);
	/* a free object that is said to be b's: nothing is freed twice */
	owner_store(td_word_of(&t, y), owner_moved(w, OWNER_RETURNED, b->id));
	td_note(&t, b, y);
	ck_assert_uint_gt(domain_validate(t.d, td_silent, NULL), 0);
	ck_assert_uint_eq(object_collect(t.d, NULL, NULL, MM_CPU_NONE), 0);
	session_end(b);
	ck_assert_uint_gt(atomic_load(&t.d->damaged), 0);
	ck_assert_int_eq(owner_kind(word(y)), OWNER_FREE);
	/* or is found when the object is offered */
	owner_store(td_word_of(&t, y), owner_moved(word(y), OWNER_AREA, 7));
	do
		z = td_object(&t, c, a);
	while (z != y);
	ck_assert(owner_is(word(y), OWNER_HELD, a->id));
	ck_assert(owner_is(word(x), OWNER_HELD, a->id));
	td_check(&t);
	session_end(a);
	check_all_free();
}
END_TEST

/* The same object freed by two who both were told that it is theirs: one wins. */
START_TEST(freed_twice_by_scribbling)
{
	uint32_t x = td_object(&t, c, a);
	uint64_t w;
	const char *why;

	td_object_change(&t, x, OWNER_HELD, a->id, OWNER_RETURNED, a->id);
	w = word(x);
	ck_assert_int_eq(object_free(t.d, a, 0, x, owner_generation(w), &why), 0);
	owner_store(td_word_of(&t, x), w);
	ck_assert_int_eq(object_free(t.d, a, 0, x, owner_generation(w), &why), -ENOENT);
	ck_assert_uint_eq(out(), 0);
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
}
END_TEST

START_TEST(random_words)
{
	enum { OBJECTS = 200, STEPS = 4000 };
	struct session *s[3] = { a, b, td_session(&t, "third") };
	uint32_t g[OBJECTS], i, step;
	const char *why;

	srand(7);
	for (i = 0; i < OBJECTS; i++)
		g[i] = td_object(&t, c, s[i % 3]);
	for (step = 0; step < STEPS; step++) {
		uint32_t x = g[(uint32_t)rand() % OBJECTS];
		owner_word_t *p = td_word_of(&t, x);
		uint64_t w = owner_load(p) & ~((UINT64_C(1) << 26) - 1);

		if (rand() % 2)
			owner_store(p, w | ((uint64_t)rand() & 63) << OWNER_KIND_SHIFT |
			                       (uint64_t)(rand() % 5));
		switch (rand() % 9) {
		case 0:
			object_free(t.d, s[rand() % 3], 0, x, owner_generation(owner_load(p)),
			            &why);
			break;
		case 1:
			object_collect(t.d, s[rand() % 3], NULL, MM_CPU_NONE);
			break;
		case 2:
			grant_hold(t.d, s[rand() % 3], x, (uint32_t)owner_generation(owner_load(p)),
			           &why);
			break;
		case 3:
			grant_release(t.d, s[rand() % 3], 0, x, &why);
			break;
		case 4:
			grant_send(t.d, s[rand() % 3], x, owner_generation(owner_load(p)),
			           s[rand() % 3], &why);
			break;
		case 5:
			object_withdraw(t.d, s[rand() % 3], 0, x);
			break;
		case 6:
			object_alloc(c, s[rand() % 3], 1, GFP_KERNEL, false, &g[rand() % OBJECTS],
			             &why);
			break;
		case 7:
			if (rand() % 100 == 0)
				domain_validate(t.d, td_silent, NULL);
			break;
		case 8:
			if (rand() % 40)
				break;
			i = (uint32_t)rand() % 3;
			session_end(s[i]);
			s[i] = td_session(&t, "again");
			break;
		}
		if (step % 500 == 0)
			ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
	}
	for (i = 0; i < 3; i++)
		session_end(s[i]);
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
	ck_assert_uint_eq(mm_validate(t.d->zones, td_report, NULL), 0);
	td_restart(&t);
	ck_assert_uint_eq(slab_validate(t.d->slabs, td_report, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("object");
	TCase *k = tcase_create("object");

	tcase_add_checked_fixture(k, setup, scene_teardown);
	tcase_set_timeout(k, 120);
	tcase_add_test(k, alloc_and_free);
	tcase_add_test(k, free_is_refused);
	tcase_add_test(k, alloc_is_refused);
	tcase_add_test(k, exhaustion_rolls_back);
	tcase_add_test(k, withdrawn_offer_cannot_be_claimed);
	tcase_add_test(k, generations_go_on);
	tcase_add_test(k, constructed_state);
	tcase_add_test(k, collect_takes_what_is_marked);
	tcase_add_test(k, send_moves_it);
	tcase_add_test(k, holders_keep_it);
	tcase_add_test(k, ending_holders_let_go);
	tcase_add_test(k, names_keep_it);
	tcase_add_test(k, recount_is_exact);
	tcase_add_test(k, adopters_are_counted_too);
	tcase_add_test(k, census);
	tcase_add_test(k, adopt_or_sweep);
	tcase_add_test(k, a_dying_adopter);
	tcase_add_test(k, sweep_takes_every_kind);
	suite_add_tcase(suite, k);
	/* these leave findings behind: no validation at their end */
	k = tcase_create("damage");
	tcase_add_checked_fixture(k, setup, scene_teardown_unchecked);
	tcase_set_timeout(k, 120);
	tcase_add_test(k, words_of_free_objects);
	tcase_add_test(k, freed_twice_by_scribbling);
	tcase_add_test(k, random_words);
	suite_add_tcase(suite, k);
	return suite_status(suite);
}
