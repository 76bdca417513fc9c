/* SPDX-License-Identifier: MIT */
/*
 * Model test of what a thread caches (client/magazine.c): random operations on several classes of
 * blocks and objects that share one bound, against a naive model.
 *
 * The daemon is a supply in this file. Every thing is in one of three places, and of each thing
 * that a claim can lose (blocks; objects of marked caches) the life is counted, so that a round of
 * a life that was collected is known as one:
 *
 *     SUPPLY --take--> CACHED <--take, keep--> HELD       CACHED --give, collect, seize--> SUPPLY
 *
 * Counts and the bound are checked after every step; every so many steps each round of each
 * magazine: a cached thing of that class and life, named once.
 *
 * environment: KMM_TEST_STEPS (1000000), KMM_TEST_SEED (printed)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/internal.h"

#define ME 7u
#define CLASS_FRAMES 4096u /* of the pool for each class of blocks */
#define FRAMES (PAGE_CLASSES * CLASS_FRAMES)
#define OBJECT_CLASSES 6u
#define CLASSES (PAGE_CLASSES + OBJECT_CLASSES)
#define THINGS 2048u
#define EVERY 500u

enum where { SUPPLY, CACHED, HELD, NR_WHERE };

struct thing {
	enum where where;
	uint32_t pos, life;
};

struct kind {
	bool objects, marked;
	uint32_t n, nr[NR_WHERE], list[NR_WHERE][THINGS];
	struct thing thing[THINGS];
	struct local_objects *o;
};

static struct kmm k;
static struct thread_cache *tc;
static owner_word_t *word;
static struct control_session sessions[ME + 1];
static struct kind kinds[CLASSES];
static char caches[OBJECT_CLASSES]; /* stand for caches, which are only compared */
static uint64_t seed, rnd, step, now_ns = 1, counts[8];
static uint8_t *arena, *arena_at;

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "magazine_model: seed %" PRIu64 " step %" PRIu64           \
			                ": line %d: %s\n", seed, step, __LINE__, #condition);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static uint32_t below(uint32_t n)
{
	/* xorshift64* */
	rnd ^= rnd >> 12;
	rnd ^= rnd << 25;
	rnd ^= rnd >> 27;
	return (uint32_t)((rnd * 0x2545f4914f6cdd1dull) >> 33) % n;
}

/* ---- things and rounds ---- */

static void move(struct kind *x, uint32_t i, enum where to)
{
	struct thing *t = &x->thing[i];
	uint32_t *list = x->list[t->where];

	list[t->pos] = list[--x->nr[t->where]];
	x->thing[list[t->pos]].pos = t->pos;
	t->where = to;
	t->pos = x->nr[to];
	x->list[to][x->nr[to]++] = i;
}

static owner_word_t *block_word(const struct kind *x, uint32_t i)
{
	uint32_t c = (uint32_t)(x - kinds);

	return &word[c * CLASS_FRAMES + (i << tc->class[c].order)];
}

/* An object's round is its address: here its class, life and number. */
static uint64_t round_of(const struct kind *x, uint32_t i)
{
	if (!x->objects)
		return round_of_block((uint32_t)(block_word(x, i) - word),
		                      owner_load(block_word(x, i)));
	return (uint64_t)(x - kinds) << 56 | (uint64_t)x->thing[i].life << 16 | i;
}

/* The thing of a round, whatever its life; *now: the round is of its present one. */
static uint32_t thing_of(struct kind *x, uint64_t round, bool *now)
{
	uint32_t c = (uint32_t)(x - kinds), i;

	if (x->objects) {
		CHECK(round >> 56 == c);
		i = (uint32_t)round & 0xffff;
	} else {
		CHECK((uint32_t)round / CLASS_FRAMES == c);
		i = (uint32_t)round % CLASS_FRAMES >> tc->class[c].order;
	}
	CHECK(i < x->n);
	*now = round == round_of(x, i);
	return i;
}

static void to_supply(struct kind *x, uint32_t i)
{
	move(x, i, SUPPLY);
	x->thing[i].life++;
	if (!x->objects)
		owner_store(block_word(x, i),
		            owner_reborn(owner_load(block_word(x, i)), OWNER_FREE, 0));
}

static void from_supply(struct kind *x, uint32_t i, enum where to)
{
	move(x, i, to);
	if (!x->objects)
		owner_store(block_word(x, i),
		            owner_moved(owner_load(block_word(x, i)),
		                        to == HELD ? OWNER_HELD : OWNER_RETURNED, ME));
}

/* ---- the daemon ---- */

static int supply_take(struct kind *x, uint32_t want, uint64_t out[], uint32_t *n)
{
	uint32_t i;

	CHECK(want >= 1 && want <= MAGAZINE_ROUNDS_MAX && tc->busy == 0);
	if (want > 1 && below(4) == 0)
		want = 1 + below(want); /* fewer than asked for */
	for (*n = 0; *n < want && x->nr[SUPPLY]; ++*n) {
		i = x->list[SUPPLY][below(x->nr[SUPPLY])];
		from_supply(x, i, CACHED);
		out[*n] = round_of(x, i);
	}
	counts[0]++;
	return *n ? 0 : -ENOMEM;
}

/* Rounds leave the thread: those that are nothing any more are dropped. */
static void supply_give(struct kind *x, const uint64_t r[], uint32_t n)
{
	uint32_t i, at;
	bool now;

	CHECK(n >= 1 && n <= MAGAZINE_ROUNDS_MAX && tc->busy == 0);
	for (i = 0; i < n; i++) {
		at = thing_of(x, r[i], &now);
		CHECK(now || !x->objects || x->marked);
		/* claimed, it is in no magazine: a round of this life is of a cached thing */
		CHECK(!now || x->thing[at].where == CACHED);
		if (now)
			to_supply(x, at);
	}
	counts[1]++;
}

static struct kind *kind_of_cache(const struct kmm_cache *c)
{
	return &kinds[PAGE_CLASSES + (uint32_t)((const char *)c - caches)];
}

int exchange_take(struct kmm *s, struct call_how *how, struct exchange x, uint32_t gfp,
                  enum owner_kind kind, uint32_t rounds, uint64_t out[], uint32_t *n)
{
	(void)s;
	(void)how;
	CHECK(!x.cache && kind == OWNER_RETURNED && tc->class[gfp].order == x.order);
	return supply_take(&kinds[gfp], rounds, out, n); /* the test asks with the class as gfp */
}

uint32_t exchange_give(struct kmm *s, struct exchange x, uint64_t r[], uint32_t n)
{
	uint32_t keep = below(4) == 0 ? below(n + 1) : 0; /* no magazine: one by one */

	(void)s;
	CHECK(!x.cache);
	if (n > keep)
		supply_give(&kinds[(uint32_t)r[keep] / CLASS_FRAMES], r + keep, n - keep);
	return keep;
}

int page_free_tell(struct kmm *s, uint32_t pfn, unsigned int order, uint64_t w)
{
	uint64_t r = round_of_block(pfn, w);

	(void)s;
	CHECK(tc->class[pfn / CLASS_FRAMES].order == order);
	supply_give(&kinds[pfn / CLASS_FRAMES], &r, 1);
	return 0;
}

static int objects_take(struct kmm *s, struct exchange x, uint32_t gfp, struct call_how *how,
                        uint32_t want, uint64_t out[], uint32_t *n)
{
	(void)s;
	(void)gfp;
	(void)how;
	return supply_take(kind_of_cache(x.cache), want, out, n);
}

static void objects_give(struct kmm *s, struct exchange x, uint64_t r[], uint32_t n, bool wait)
{
	(void)s;
	(void)wait;
	CHECK(x.marked == kind_of_cache(x.cache)->marked);
	supply_give(kind_of_cache(x.cache), r, n);
}

/* As blocks, of which magazine.c knows how. */
static bool objects_claim(struct thread_cache *t, const struct local_class *lc, uint64_t round)
{
	struct kind *x = kind_of_cache(lc->cache);
	bool now;
	uint32_t i = thing_of(x, round, &now);

	(void)t;
	if (!now || x->thing[i].where != CACHED)
		return false;
	move(x, i, HELD);
	return true;
}

const struct local_kind local_held = { .take = objects_take, .give = objects_give, .whole = true };
const struct local_kind local_marked = { .take = objects_take,
	                                 .give = objects_give,
	                                 .claim = objects_claim,
	                                 .whole = true };

/* ---- the rest of the library ---- */

uint64_t process_now_coarse(void)
{
	return now_ns;
}

void session_untold(struct kmm *s)
{
	(void)s;
	CHECK(!"told while the session is up");
}

void *thread_cache_memory(struct thread_cache *t, size_t size)
{
	uint8_t *p = arena_at;

	(void)t;
	if (below(8) == 0 || (size_t)(arena + ARENA_NEXT - arena_at) < size)
		return NULL;
	arena_at += (size + 63) & ~(size_t)63;
	return p;
}

void local_enter(struct thread_cache *t)
{
	CHECK(t->busy == 0);
	t->busy = 1;
}

/* ---- the thread's steps ---- */

static struct local_class *class_of(struct kind *x)
{
	return x->objects ? &x->o->class : &tc->class[x - kinds];
}

/* Out of the magazines: claimed, or the thread's by position alone. */
static void taken(struct kind *x, uint64_t round)
{
	bool now;
	uint32_t i = thing_of(x, round, &now);

	CHECK(now);
	if (x->thing[i].where == CACHED && (!x->objects || !x->marked))
		move(x, i, HELD);
	CHECK(x->thing[i].where == HELD);
	if (!x->objects)
		CHECK(owner_is(owner_load(block_word(x, i)), OWNER_HELD, ME));
}

static void step_alloc(struct kind *x)
{
	struct local_class *lc = class_of(x);
	struct call_how how = { 0 };
	uint64_t round;
	int r;

	if (local_take(tc, lc, &round)) {
		taken(x, round);
		return;
	}
	r = local_refill(&k, tc, lc, (uint32_t)(x - kinds), &how, &round);
	CHECK(r == 0 || r == -EAGAIN || (r == -ENOMEM && !x->nr[SUPPLY]));
	if (r == 0)
		taken(x, round);
	else if (r == -EAGAIN && x->nr[SUPPLY]) /* not worth a magazine: one by itself */
		from_supply(x, x->list[SUPPLY][0], HELD);
	counts[2]++;
}

static uint64_t held_becomes_cached(struct kind *x)
{
	uint32_t i = x->list[HELD][below(x->nr[HELD])];
	uint64_t w;

	if (!x->objects) {
		w = owner_load(block_word(x, i));
		owner_store(block_word(x, i), owner_given_back(w, OWNER_RETURNED, ME));
	}
	move(x, i, CACHED);
	return round_of(x, i);
}

static void step_free(struct kind *x)
{
	uint64_t r;

	if (!x->nr[HELD])
		return;
	r = held_becomes_cached(x);
	if (!local_keep(&k, tc, class_of(x), r))
		supply_give(x, &r, 1);
}

static void step_many(struct kind *x)
{
	uint64_t r[MAGAZINE_ROUNDS_MAX];
	uint32_t n = 1 + below(below(2) ? 32 : 300), i, got;

	if (below(2)) {
		got = local_take_many(tc, class_of(x), r, n);
		CHECK(got <= n);
		for (i = 0; i < got; i++)
			taken(x, r[i]);
		return;
	}
	for (i = 0; i < n && x->nr[HELD]; i++)
		r[i] = held_becomes_cached(x);
	if (i > 0 && local_size(class_of(x)))
		local_keep_many(&k, tc, class_of(x), r, i);
	else if (i > 0)
		supply_give(x, r, i);
}

/* Seized by another thread: the magazines are emptied, no more. */
static void step_seize(struct kind *x)
{
	struct local_class *lc = class_of(x);

	if (local_loaded(lc))
		supply_give(x, lc->loaded, local_loaded(lc));
	if (lc->previous_n)
		supply_give(x, lc->previous, lc->previous_n);
	lc->top = lc->loaded;
	lc->previous_n = 0;
}

static void step_collect(struct kind *x)
{
	uint32_t n;

	if (x->objects && !x->marked)
		return;
	for (n = below(20); n && x->nr[CACHED]; n--)
		to_supply(x, x->list[CACHED][below(x->nr[CACHED])]);
	counts[3]++;
}

static void one_step(struct kind *x, bool filling)
{
	uint32_t what = below(1000);

	now_ns += below(16) ? 2000 : (uint64_t)below(100) * 1000000;
	if (x->objects && local_size(class_of(x)) == 0 && below(2))
		local_class_start(&k, tc, class_of(x));
	if (what < 2)
		local_flush_class(&k, tc, class_of(x), below(2));
	else if (what < 3)
		local_flush(&k, tc);
	else if (what < 5 && x->objects)
		step_seize(x);
	else if (what < 6 && x->objects)
		local_class_stop(tc, class_of(x));
	else if (what < 10)
		local_class_want(&k, tc, class_of(x), 1 + below(600));
	else if (what < 30)
		step_collect(x);
	else if (what < 80)
		step_many(x);
	else if (what < (filling ? 620u : 460u))
		step_alloc(x);
	else
		step_free(x);
}

/* ---- checks ---- */

static void check_counts(void)
{
	int64_t bytes = 0, whole = 0;
	uint32_t c;

	for (c = 0; c < CLASSES; c++) {
		const struct kind *x = &kinds[c];
		const struct local_class *lc = class_of(&kinds[c]);
		uint32_t n = local_loaded(lc) + lc->previous_n;

		CHECK(local_size(lc) <= MAGAZINE_ROUNDS_MAX && lc->top <= lc->end &&
		      lc->previous_n <= local_size(lc));
		/* what stops the fast paths */
		CHECK(!lc->loaded || (lc->loaded[-1] == 0 && lc->previous[-1] == 0));
		/* what was collected leaves its round behind, no more */
		CHECK(x->objects && !x->marked ? x->nr[CACHED] == n : x->nr[CACHED] <= n);
		if (x->objects)
			whole += 2 * (int64_t)local_size(lc) * lc->bytes;
		else
			bytes += (int64_t)n * lc->bytes;
	}
	CHECK(tc->whole == whole && tc->cap - tc->room == whole + bytes && tc->room >= 0);
	CHECK(tc->busy == 0 && tc->pins == 0);
}

static void check_magazine(struct kind *x, const uint64_t *r, uint32_t n, uint32_t *cached)
{
	static uint64_t seen[CLASSES][THINGS]; /* step at which it was */
	uint32_t i, at;
	bool now;

	for (i = 0; i < n; i++) {
		at = thing_of(x, r[i], &now);
		if (!now)
			continue;
		CHECK(x->thing[at].where == CACHED && seen[x - kinds][at] != step + 1);
		seen[x - kinds][at] = step + 1;
		++*cached;
	}
}

static void check_rounds(void)
{
	uint32_t c, d, cached;

	for (c = 0; c < CLASSES; c++) {
		struct kind *x = &kinds[c];
		const struct local_class *lc = class_of(x);

		cached = 0;
		check_magazine(x, lc->loaded, local_loaded(lc), &cached);
		check_magazine(x, lc->previous, lc->previous_n, &cached);
		CHECK(cached == x->nr[CACHED]);
		CHECK(!lc->loaded || lc->loaded != lc->previous);
		for (d = 0; d < c; d++) /* arrays serve one class at a time */
			CHECK(!lc->loaded || (class_of(&kinds[d])->loaded != lc->loaded &&
			                      class_of(&kinds[d])->loaded != lc->previous &&
			                      class_of(&kinds[d])->previous != lc->loaded));
	}
}

static void begin(int64_t cap)
{
	static const uint32_t bytes[OBJECT_CLASSES] = { 16, 64, 64, 520, 4096, 100000 };
	uint32_t c, i;

	memset(arena, 0, ARENA_NEXT);
	arena_at = arena;
	memset(tc, 0, sizeof(*tc));
	memset(kinds, 0, sizeof(kinds));
	tc->id = ME;
	tc->frames = FRAMES;
	tc->word = word;
	tc->cap = tc->room = cap;
	local_class_init(tc);
	for (c = 0; c < CLASSES; c++) {
		struct kind *x = &kinds[c];

		x->objects = c >= PAGE_CLASSES;
		x->n = x->objects ? THINGS : CLASS_FRAMES >> tc->class[c].order;
		if (x->n > THINGS)
			x->n = THINGS;
		for (i = 0; i < x->n; i++) {
			x->thing[i] = (struct thing){ SUPPLY, i, 1 };
			x->list[SUPPLY][i] = i;
			if (!x->objects)
				owner_store(block_word(x, i),
				            owner_reborn(owner_load(block_word(x, i)),
				                 OWNER_FREE, 0));
		}
		x->nr[SUPPLY] = x->n;
		if (!x->objects)
			continue;
		i = c - PAGE_CLASSES;
		x->marked = i == 2;
		x->o = &tc->object[i + 1];
		x->o->class.kind = x->marked ? &local_marked : &local_held;
		x->o->class.cache = (struct kmm_cache *)(void *)&caches[i];
		x->o->class.bytes = bytes[i];
		x->o->next = tc->objects;
		tc->objects = x->o;
	}
}

static uint64_t from_environment(const char *name, uint64_t value)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : value;
}

int main(void)
{
	/* bounds: nothing fits, little does, the default, all does */
	static const int64_t caps[] = { 0, 40000, 300000, 4 << 20, 64 << 20 };
	uint64_t steps = from_environment("KMM_TEST_STEPS", 1000000), rounds = 20, round;

	seed = from_environment("KMM_TEST_SEED", (uint64_t)time(NULL) * 1000003u);
	printf("magazine_model: KMM_TEST_STEPS=%" PRIu64 " KMM_TEST_SEED=%" PRIu64 "\n", steps,
	       seed);
	fflush(stdout);
	rnd = (seed * 2 + 1) * 0x9e3779b97f4a7c15ull;
	word = calloc(FRAMES, sizeof(*word));
	tc = aligned_alloc(_Alignof(struct thread_cache), sizeof(*tc));
	arena = aligned_alloc(64, ARENA_NEXT);
	if (!word || !tc || !arena)
		return 1;
	k.id = ME;
	k.frames = k.pages = FRAMES;
	k.control.word = word;
	k.control.session = sessions;
	for (round = 0; round < rounds; round++) {
		uint32_t first = below(CLASSES), used = 1 + below(CLASSES);
		bool filling = true;

		begin(caps[round % (sizeof(caps) / sizeof(caps[0]))]);
		for (; step < steps * (round + 1) / rounds; step++) {
			if (step % 2048 == 0) {
				filling = below(2);
				first = below(CLASSES);
				used = 1 + below(CLASSES);
			}
			one_step(&kinds[(first + below(used)) % CLASSES], filling);
			check_counts();
			if (step % EVERY == 0)
				check_rounds();
		}
		local_flush(&k, tc);
		check_counts();
		check_rounds();
	}
	printf("takes %" PRIu64 " gives %" PRIu64 " misses %" PRIu64 " collections %" PRIu64 "\n",
	       counts[0], counts[1], counts[2], counts[3]);
	printf("magazine_model: ok\n");
	free(arena);
	free(tc);
	free(word);
	return 0;
}
