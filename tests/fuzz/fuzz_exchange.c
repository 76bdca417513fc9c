/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: a member of the domain who writes anything to all that it can write (owner words,
 * magazines, slab bits) while it and others call the daemon.
 *
 *     bytes ── operations ──> stores to control memory, calls of exchange_*, object_*, grant_*
 *
 * Each input begins with a fresh domain in ordinary memory: three sessions, three caches, some
 * objects out, a magazine in the depot and one lent. What must hold besides not crashing: at the
 * end, and over a restart that judges whatever the words say then, the private structures (slabs,
 * zones, caches, names) are whole, nobody is left inside a cache, and the domain's own check ends,
 * whatever it reports.
 *
 * Operands are taken so that they often hit: granules of objects that are out, words of their
 * slabs, magazines that are lent.
 */
#define TD_WITHOUT_CHECK
#define TD_LOG_LEVEL ((enum log_level)-1) /* nothing: damage is what is wanted */
#include "tests/unit/test_domain.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

enum { SESSIONS = 3, CACHES = 3, KNOWN = 64, OPERATIONS_MAX = 400 };

struct input {
	const uint8_t *at;
	size_t left;
};

struct world {
	struct test_domain t;
	uint32_t session[SESSIONS], cache[CACHES]; /* ids */
	uint32_t known[KNOWN];                     /* granules */
	uint32_t nr_known;
};

static uint64_t get(struct input *in, unsigned int bytes)
{
	uint64_t v = 0;

	while (bytes-- && in->left) {
		v = v << 8 | *in->at++;
		in->left--;
	}
	return v;
}

static struct session *session_get(struct world *w, struct input *in)
{
	return session_by_id(w->t.kmmd.sessions, w->session[get(in, 1) % SESSIONS]);
}

static struct cache *cache_get(struct world *w, struct input *in)
{
	return cache_by_id(w->t.d, w->cache[get(in, 1) % CACHES]);
}

static magazine_id_t magazine_get(struct input *in)
{
	return (magazine_id_t){ (uint32_t)get(in, 1) % (TD_MAGAZINES + 1) };
}

/* Mostly one that is or was an object's. */
static uint32_t granule_get(struct world *w, struct input *in)
{
	uint64_t how = get(in, 1);

	return how < 200 ? w->known[how % KNOWN] : (uint32_t)get(in, 4);
}

static void know(struct world *w, uint32_t granule)
{
	w->known[w->nr_known++ % KNOWN] = granule;
}

static uint64_t generation_get(struct world *w, struct input *in, uint32_t granule)
{
	struct thing t;

	if (get(in, 1) % 4 == 0 || !thing_granule_ok(w->t.d, granule))
		return get(in, 5);
	thing_find(w->t.d, granule, &t);
	return owner_generation(owner_load(t.word));
}

/* A word as a liar would write it: any kind, flags, owner, over the old generation or another. */
static uint64_t word_get(struct input *in, uint64_t old)
{
	uint64_t low = get(in, 3), how = get(in, 1);

	if (how % 8 == 0)
		old = get(in, 8);
	if (how % 4 == 1)
		low = (low & ~(uint64_t)OWNER_MAX) | (low & OWNER_MAX) % TD_MAGAZINES;
	return (old & ~((UINT64_C(1) << OWNER_GENERATION_SHIFT) - 1)) |
	       (low << 2 & ((UINT64_C(1) << OWNER_GENERATION_SHIFT) - 1)) | (how >> 6);
}

/* ---- stores ---- */

static void scribble(struct world *w, struct input *in)
{
	struct control *c = &w->t.d->control;
	magazine_id_t m = { (uint32_t)get(in, 1) % TD_MAGAZINES };
	struct magazine *mag = &c->magazine[m.nr];
	owner_word_t *word;
	struct thing t;
	uint32_t i;

	switch (get(in, 1) % 6) {
	case 0: /* the word of an object */
		i = w->known[m.nr % KNOWN];
		if (!thing_granule_ok(w->t.d, i))
			return;
		thing_find(w->t.d, i, &t);
		owner_store(t.word, word_get(in, owner_load(t.word)));
		break;
	case 1: /* any word */
		i = (uint32_t)get(in, 3);
		word = i & 1 ? &c->object[i / 2 % 4096] : &c->word[i / 2 % TD_FRAMES];
		owner_store(word, word_get(in, owner_load(word)));
		break;
	case 2: /* rounds */
		for (i = (uint32_t)get(in, 1) % 16; i > 0; i--) {
			uint32_t slot = (uint32_t)get(in, 2) % MAGAZINE_ROUNDS_MAX;

			atomic_store(&mag->round[slot], granule_get(w, in));
		}
		break;
	case 3: /* a header that is likely to be taken */
		i = (uint32_t)get(in, 2);
		atomic_store(&mag->header,
		             magazine_next(magazine_load(mag), (enum magazine_state)(i % 5), i / 5 % 5,
		                           (uint32_t)get(in, 2) % 1024));
		break;
	case 4: /* any header and kind */
		atomic_store(&mag->header, get(in, 8));
		atomic_store(&mag->kind, (uint32_t)get(in, 4));
		break;
	case 5: /* slab bits */
		i = (uint32_t)get(in, 2) % (TD_FRAMES / 64);
		atomic_store(&control_slab_bits(c, m.nr)[i], get(in, 8));
		break;
	}
}

/* An honest give, up to its last store: known objects of the session into a lent magazine. */
static void load(struct world *w, struct input *in)
{
	struct session *s = session_get(w, in);
	magazine_id_t m = { (uint32_t)get(in, 1) % TD_MAGAZINES };
	struct magazine *mag = &w->t.d->control.magazine[m.nr];
	uint32_t i, n = 0;

	for (i = 0; i < KNOWN; i++) {
		struct thing t;
		uint64_t word;

		if (!thing_granule_ok(w->t.d, w->known[i]))
			continue;
		thing_find(w->t.d, w->known[i], &t);
		word = owner_load(t.word);
		if (owner_is(word, OWNER_HELD, s->id) &&
		    owner_cas(t.word, &word, owner_given_back(word, OWNER_MAGAZINE, m.nr)))
			atomic_store(&mag->round[n++], w->known[i]);
	}
	atomic_store(&mag->header, magazine_next(magazine_load(mag), MAGAZINE_DEPOT, 0, n));
}

/* ---- calls ---- */

static void take(struct world *w, struct input *in, struct session *s)
{
	struct cache *c = cache_get(w, in);
	uint32_t rounds = (uint32_t)get(in, 2), n = 0, i;
	bool constructed = get(in, 1) & 1;
	const char *why;
	magazine_id_t m;

	if (exchange_take_objects(c, s, rounds & 1, GFP_KERNEL, constructed, rounds % 600 + 1, &m,
	                          &n, &why))
		return;
	REQUIRE(n >= 1 && n <= MAGAZINE_ROUNDS_MAX);
	for (i = 0; i < n && i < 8; i++)
		know(w, atomic_load(&w->t.d->control.magazine[m.nr].round[i]));
}

static void object(struct world *w, struct input *in, struct session *s)
{
	struct domain *d = w->t.d;
	uint32_t granule = granule_get(w, in);
	uint64_t generation = generation_get(w, in, granule);
	const char *why;

	switch (get(in, 1) % 6) {
	case 0:
		if (object_alloc(cache_get(w, in), s, 0, GFP_KERNEL, false, &granule, &why) == 0)
			know(w, granule);
		break;
	case 1:
		object_free(d, s, 1, granule, generation, &why);
		break;
	case 2:
		object_withdraw(d, s, 0, granule);
		break;
	case 3:
		grant_hold(d, s, granule, (uint32_t)generation, &why);
		break;
	case 4:
		grant_release(d, s, 0, granule, &why);
		break;
	case 5:
		grant_send(d, s, granule, generation, session_get(w, in), &why);
		break;
	}
}

static void house(struct world *w, struct input *in, struct session *s)
{
	struct domain *d = w->t.d;
	unsigned int i;

	switch (get(in, 1) % 8) {
	case 0:
		exchange_trim(d, 0);
		break;
	case 1:
		exchange_drain(d, 1);
		break;
	case 2:
		grant_withdraw_all(d, s);
		break;
	case 3:
		object_collect(d, get(in, 1) & 1 ? s : NULL, NULL, MM_CPU_NONE);
		break;
	case 4:
		grant_recharge(d, s);
		break;
	case 5:
		slab_shrink_all(d->slabs, 0);
		break;
	case 6:
		domain_validate(d, td_silent, NULL);
		break;
	case 7:
		for (i = 0; i < SESSIONS; i++)
			if (w->session[i] == s->id) {
				session_end(s);
				w->session[i] = td_session(&w->t, "again")->id;
				break;
			}
		break;
	}
}

static void operate(struct world *w, struct input *in)
{
	uint64_t code = get(in, 1);
	uint32_t accepted, listed;
	struct session *s;

	if (code < 110) {
		scribble(w, in);
		return;
	}
	s = session_get(w, in);
	if (code < 125) {
		load(w, in);
	} else if (code < 155) {
		exchange_give(w->t.d, s, code & 1, magazine_get(in), &accepted, &listed);
		REQUIRE(accepted <= listed && listed <= MAGAZINE_ROUNDS_MAX);
	} else if (code < 185) {
		take(w, in, s);
	} else if (code < 195) {
		exchange_withdraw(w->t.d, s, 0,
		                  (magazine_id_t){ (uint32_t)get(in, 1) % TD_MAGAZINES });
	} else if (code < 240) {
		object(w, in, s);
	} else {
		house(w, in, s);
	}
}

/* ---- the world ---- */

static void world_new(struct world *w)
{
	static const char *const name[CACHES] = { "small", "odd", "large" };
	static const uint64_t size[CACHES] = { 32, 200, 5000 };
	uint32_t i, accepted, listed, n;
	const char *why;
	magazine_id_t m;

	memset(w, 0, sizeof(*w));
	td_init(&w->t);
	for (i = 0; i < SESSIONS; i++)
		w->session[i] = td_session(&w->t, "s")->id;
	for (i = 0; i < CACHES; i++)
		w->cache[i] = td_cache(&w->t, session_by_id(w->t.kmmd.sessions, w->session[i]),
		                       name[i], size[i], i == 1)
		                      ->id;
	for (i = 0; i < KNOWN; i++)
		know(w, td_object(&w->t, cache_by_id(w->t.d, w->cache[i % CACHES]),
		                  session_by_id(w->t.kmmd.sessions, w->session[i % SESSIONS])));
	for (i = 0; i < 2; i++) {
		struct session *s = session_by_id(w->t.kmmd.sessions, w->session[i]);
		uint32_t out[MAGAZINE_ROUNDS_MAX];

		REQUIRE(exchange_take_objects(cache_by_id(w->t.d, w->cache[0]), s, 0, GFP_KERNEL,
		                              false, 40, &m, &n, &why) == 0);
		REQUIRE(td_take_objects(&w->t, s, m, out) == 40);
		td_load_objects(&w->t, s, m, out, 40);
		if (i == 0)
			exchange_give(w->t.d, s, 0, m, &accepted, &listed);
	}
}

static void world_check(struct world *w)
{
	uint32_t i;

	domain_validate(w->t.d, td_silent, NULL);
	REQUIRE(slab_validate(w->t.d->slabs, td_report, NULL) == 0);
	REQUIRE(mm_validate(w->t.d->zones, td_report, NULL) == 0);
	REQUIRE(cache_validate(w->t.d, td_report, NULL) == 0);
	for (i = 0; i < CACHES; i++)
		REQUIRE(atomic_load(&cache_by_id(w->t.d, w->cache[i])->inside) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .at = data, .left = size };
	bool restart = get(&in, 1) & 1;
	static struct world w;
	uint32_t i;

	world_new(&w);
	for (i = 0; i < OPERATIONS_MAX && in.left; i++)
		operate(&w, &in);
	world_check(&w);
	if (restart) {
		td_restart(&w.t);
		world_check(&w);
	}
	for (i = 0; i < SESSIONS; i++)
		session_end(session_by_id(w.t.kmmd.sessions, w.session[i]));
	world_check(&w);
	td_fini(&w.t);
	return 0;
}
