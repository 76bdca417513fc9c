/* SPDX-License-Identifier: MIT */
/*
 * What a thread's miss costs when the daemon serves it, by the size of the magazine.
 *
 *     bench_miss SOCKET [CPU]
 *
 * A session by hand (raw.h) takes objects of 64 bytes in magazines of 64, 256 and 512 rounds and
 * gives them back, with everything that a client does for it: the call, the header's exchanges,
 * each object's owner word. The daemon is on the same core. ns an object:
 *   depot    a magazine that was given is taken again
 *   slab     the depot has none: objects of slabs, made for it where there are none
 *   give     a full magazine is given to the depot
 */
#include <kmm/kmm.h>
#include <stdbool.h>

#include "tests/bench/raw.h"

#define CACHE "bench_miss"
#define OBJECTS 32768u /* taken at a stretch from the slabs: below what the depot takes in */
#define LAPS 100
#define TRIES 64

struct held {
	uint32_t magazine, count;
	uint32_t granule[MAGAZINE_ROUNDS_MAX];
};

static struct raw raw;
static uint32_t cache;
static uint64_t life;

static owner_word_t *word_of(uint32_t granule)
{
	struct control *c = &raw.control;
	uint64_t at = (uint64_t)granule << raw.granule_shift;
	uint64_t desc = atomic_load_explicit(&c->desc[at >> 12], memory_order_acquire);

	return &c->object[page_desc_word(desc, at)];
}

static void take(struct held *h, uint32_t rounds)
{
	kmm_v1_ExchangeRequest q = kmm_v1_ExchangeRequest_init_zero;
	kmm_v1_ExchangeReply a = kmm_v1_ExchangeReply_init_zero;

	q.gfp = KMM_GFP_KERNEL;
	q.cache = cache;
	q.life = life;
	q.rounds = rounds;
	/* Magazines that we released are found when they are looked for, some at a time. */
	for (int i = 0; i < TRIES && a.magazine == 0; i++)
		raw_call(&raw, kmm_v1_Method_ALLOCATOR_EXCHANGE, kmm_v1_ExchangeRequest_fields, &q,
		         kmm_v1_ExchangeReply_fields, &a);
	if (a.magazine == 0)
		raw_fail("no magazine");
	h->magazine = a.magazine - 1;
	struct magazine *m = &raw.control.magazine[h->magazine];
	uint64_t header = magazine_load(m);

	if (!magazine_is(header, MAGAZINE_OFFERED, raw.session) ||
	    !magazine_cas(m, &header, magazine_next(header, MAGAZINE_LOADED, raw.session,
	                                            magazine_count(header))))
		raw_fail("the offer is gone");
	uint32_t n = magazine_count(header);

	h->count = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t granule = atomic_load_explicit(&m->round[i], memory_order_relaxed);
		owner_word_t *word = word_of(granule);
		uint64_t w = owner_load(word);

		if (owner_is(w, OWNER_MAGAZINE, h->magazine) &&
		    owner_cas(word, &w, owner_moved(w, OWNER_HELD, raw.session)))
			h->granule[h->count++] = granule;
	}
	if (h->count != rounds)
		raw_fail("a magazine of another size");
}

/* Objects without a magazine: a session keeps few. */
static void release_magazine(const struct held *h)
{
	struct magazine *m = &raw.control.magazine[h->magazine];
	uint64_t header = magazine_load(m);

	if (!magazine_cas(m, &header, magazine_next(header, MAGAZINE_EMPTY, 0, 0)))
		raw_fail("the magazine is not ours any more");
}

static void ask_for_magazine(struct held *h)
{
	kmm_v1_ExchangeRequest q = kmm_v1_ExchangeRequest_init_zero;
	kmm_v1_ExchangeReply a = kmm_v1_ExchangeReply_init_zero;

	q.empty = true;
	for (int i = 0; i < TRIES && a.magazine == 0; i++)
		raw_call(&raw, kmm_v1_Method_ALLOCATOR_EXCHANGE, kmm_v1_ExchangeRequest_fields, &q,
		         kmm_v1_ExchangeReply_fields, &a);
	if (a.magazine == 0)
		raw_fail("no empty magazine");
	h->magazine = a.magazine - 1;
}

static void give(struct held *h)
{
	struct magazine *m = &raw.control.magazine[h->magazine];
	kmm_v1_ExchangeRequest q = kmm_v1_ExchangeRequest_init_zero;
	kmm_v1_ExchangeReply a = kmm_v1_ExchangeReply_init_zero;

	for (uint32_t i = 0; i < h->count; i++) {
		owner_word_t *word = word_of(h->granule[i]);
		uint64_t w = owner_load(word);

		if (!owner_is(w, OWNER_HELD, raw.session) ||
		    !owner_cas(word, &w, owner_given_back(w, OWNER_MAGAZINE, h->magazine)))
			raw_fail("an object is not ours any more");
		atomic_store_explicit(&m->round[i], h->granule[i], memory_order_relaxed);
	}
	uint64_t header = magazine_load(m);

	/* publishes the rounds, which the daemon reads after it has read the header */
	atomic_store_explicit(&m->kind, cache | 0x80000000u, memory_order_relaxed);
	if (!magazine_cas(m, &header, magazine_next(header, MAGAZINE_DEPOT, 0, h->count)))
		raw_fail("the magazine is not ours any more");
	q.gfp = KMM_GFP_KERNEL;
	q.cache = cache;
	q.life = life;
	q.give = h->magazine + 1;
	raw_call(&raw, kmm_v1_Method_ALLOCATOR_EXCHANGE, kmm_v1_ExchangeRequest_fields, &q,
	         kmm_v1_ExchangeReply_fields, &a);
}

static void depot_ns(uint32_t rounds, struct bench_row *taken, struct bench_row *given)
{
	static struct held h;
	double take_ns = 0, give_ns = 0;

	take(&h, rounds);
	give(&h);
	for (int i = 0; i < LAPS; i++) {
		double start = bench_now_ns();

		take(&h, rounds);
		double middle = bench_now_ns();

		give(&h);
		take_ns += middle - start;
		give_ns += bench_now_ns() - middle;
	}
	bench_add(taken, take_ns / LAPS / rounds);
	bench_add(given, give_ns / LAPS / rounds);
}

static void slab_ns(uint32_t rounds, struct kmm_cache *c, struct bench_row *taken)
{
	static struct held h[OBJECTS / 64];
	uint32_t n = OBJECTS / rounds;

	if (kmm_cache_shrink(c) != 0)
		raw_fail(kmm_error_text());
	double start = bench_now_ns();

	for (uint32_t i = 0; i < n; i++) {
		take(&h[i], rounds);
		release_magazine(&h[i]);
	}
	bench_add(taken, (bench_now_ns() - start) / ((double)n * rounds));
	for (uint32_t i = 0; i < n; i++) {
		ask_for_magazine(&h[i]);
		give(&h[i]);
	}
	if (kmm_cache_shrink(c) != 0)
		raw_fail(kmm_error_text());
}

int main(int argc, char *argv[])
{
	static const uint32_t rounds[] = { 64, 256, 512 };
	static struct bench_row row[] = {
		{ .name = "miss, 64 rounds of the depot", .unit = "ns" },
		{ .name = "miss, 256 rounds of the depot", .unit = "ns" },
		{ .name = "miss, 512 rounds of the depot", .unit = "ns" },
		{ .name = "miss, 64 rounds of new slabs", .unit = "ns" },
		{ .name = "miss, 256 rounds of new slabs", .unit = "ns" },
		{ .name = "miss, 512 rounds of new slabs", .unit = "ns" },
		{ .name = "full magazine of 64 given", .unit = "ns" },
		{ .name = "full magazine of 256 given", .unit = "ns" },
		{ .name = "full magazine of 512 given", .unit = "ns" },
	};
	kmm_v1_CreateCacheRequest q = kmm_v1_CreateCacheRequest_init_zero;
	kmm_v1_CacheReply a = kmm_v1_CacheReply_init_zero;
	struct kmm_options o = { .size = sizeof(o) };
	struct kmm_cache *c;
	struct kmm *k;

	o.address = bench_begin(argc, argv, "bench_miss", 0);
	if (kmm_open(&k, &o) != 0)
		raw_fail(kmm_error_text());
	c = kmm_cache_create(k, CACHE, 64, 0, 0, NULL);
	if (!c)
		raw_fail(kmm_error_text());
	raw_open(&raw, argv[1], "bench_miss");
	snprintf(q.name, sizeof(q.name), "%s", CACHE);
	q.size = 64;
	raw_call(&raw, kmm_v1_Method_ALLOCATOR_CREATE_CACHE, kmm_v1_CreateCacheRequest_fields, &q,
	         kmm_v1_CacheReply_fields, &a);
	cache = a.cache;
	life = a.life;
	for (int round = 0; round < BENCH_ROUNDS; round++)
		for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++) {
			depot_ns(rounds[i], &row[i], &row[i + 6]);
			slab_ns(rounds[i], c, &row[i + 3]);
		}
	bench_print_all("miss", row, sizeof(row) / sizeof(row[0]));
	kmm_close(k);
	return 0;
}
