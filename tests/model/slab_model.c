/* SPDX-License-Identifier: MIT */
/*
 * Model test of the slab layer: random operations against a naive model.
 *
 * The model knows which caches there are and which objects are out, and for each byte of the pool
 * whether an object or a page block has it. After every operation both must agree on what was
 * touched; every few steps the validators walk the real structures.
 *
 *     model                           slab layer
 *     of_word[word] = object or none  out bits, free maps, magazines
 *     taken[byte / 8]                 geometry, colours, slabs and blocks that never overlap
 *     caches[i].out                   kmem_cache_stats(), -EBUSY's count
 *
 * A round has one pool shape; it swings between filling and emptying. Page blocks come and go beside
 * the slabs, so that both run out of frames. Now and then the process dies: the volatile half is
 * thrown away and rebuilt while a judge keeps all objects or a random part of them.
 *
 * usage: slab_model [--steps N] [--seed S]
 */
#include <inttypes.h>
#include <time.h>

#include "tests/unit/test_mm_slab.h"

#define CACHES 24u
#define OBJECTS_MAX 120000u
#define BLOCKS_MAX 256u
#define BULK_MAX 700u

struct cache {
	struct kmem_cache *k; /* NULL: not there */
	char name[16];
	uint64_t size, align;
	uint32_t flags, id, out;
	uint64_t life;
};

struct object {
	struct slab_object o;
	uint32_t cache; /* index of the cache */
};

struct block {
	pfn_t pfn;
	uint32_t order;
};

struct model {
	struct test_slab t;
	struct cache cache[CACHES];
	struct object *object; /* that are out */
	uint32_t *of_word;     /* index of the object plus one */
	uint64_t *taken;       /* a bit 8 bytes */
	uint32_t nr;
	struct block block[BLOCKS_MAX];
	uint64_t random, step, counts[8];
	uint32_t keep; /* of 16 objects, at recovery */
};

static uint64_t seed;

#define CHECK(m, condition, ...)                                                                   \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "slab_model: seed %" PRIu64 " step %" PRIu64 ": %s: ",     \
			        seed, (m)->step, #condition);                                      \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static uint64_t draw_from(uint64_t *random)
{
	/* xorshift64* */
	*random ^= *random >> 12;
	*random ^= *random << 25;
	*random ^= *random >> 27;
	return *random * 0x2545f4914f6cdd1dull;
}

static uint32_t below(struct model *m, uint32_t n)
{
	return (uint32_t)(draw_from(&m->random) >> 33) % n;
}

static uint32_t random_cpu(struct model *m)
{
	uint32_t cpu = below(m, m->t.pool.config.cpus + 1);

	return cpu == m->t.pool.config.cpus ? MM_CPU_NONE : cpu;
}

/* ---- bytes of the pool ---- */

static void bytes_take(struct model *m, uint64_t address, uint64_t size, bool take)
{
	for (uint64_t i = address / 8; i < (address + size + 7) / 8; i++) {
		uint64_t bit = (uint64_t)1 << (i % 64);

		CHECK(m, !(m->taken[i / 64] & bit) == take, "byte %" PRIu64, i * 8);
		m->taken[i / 64] ^= bit;
	}
}

/* ---- objects ---- */

static void took(struct model *m, struct cache *c, const struct slab_object *o)
{
	const struct slab_geometry *g = kmem_cache_geometry(c->k);

	CHECK(m, o->cache == c->k && o->slot < g->objects, "cache %s", c->name);
	CHECK(m, o->address % g->align == 0 && o->address >> PAGE_SHIFT >= o->head &&
	              o->address + g->size <= ((uint64_t)o->head + (1u << g->order)) << PAGE_SHIFT,
	      "cache %s address %" PRIu64, c->name, o->address);
	CHECK(m, m->of_word[o->word] == 0, "owner word %u", o->word);
	bytes_take(m, o->address, g->size, true);
	m->object[m->nr++] = (struct object){ *o, (uint32_t)(c - m->cache) };
	m->of_word[o->word] = m->nr;
	c->out++;
}

static struct slab_object gave(struct model *m, uint32_t i)
{
	struct slab_object o = m->object[i].o;
	struct cache *c = &m->cache[m->object[i].cache];

	bytes_take(m, o.address, c->size, false);
	m->of_word[o.word] = 0;
	m->object[i] = m->object[--m->nr];
	if (i < m->nr)
		m->of_word[m->object[i].o.word] = i + 1;
	c->out--;
	return o;
}

static void check_counts(struct model *m, struct cache *c)
{
	struct kmem_cache_stats s;

	kmem_cache_stats(c->k, &s);
	CHECK(m, s.objects_out == c->out, "cache %s: %" PRIu64 " out, not %u", c->name,
	      s.objects_out, c->out);
}

static void step_alloc(struct model *m, struct cache *c)
{
	static struct slab_object got[BULK_MAX];
	struct mm_request r = { .gfp = below(m, 8) ? GFP_KERNEL : GFP_ATOMIC,
		                .cpu = random_cpu(m) };
	uint32_t n = below(m, 4) ? 1 + below(m, 8) : 1 + below(m, BULK_MAX);
	int error = 0;
	size_t k;

	if (n > OBJECTS_MAX - m->nr)
		n = OBJECTS_MAX - m->nr;
	if (n == 0)
		return;
	if (below(m, 4) == 0)
		r.node = MM_NODE(below(m, m->t.pool.config.nodes));
	if (below(m, 16) == 0)
		r.gfp |= __GFP_THISNODE;
	k = slab_alloc_bulk(c->k, &r, n, got, &error);
	CHECK(m, k <= n && error == (k ? 0 : -ENOMEM), "%zu of %u, error %d", k, n, error);
	for (size_t i = 0; i < k; i++)
		took(m, c, &got[i]);
	m->counts[0] += k;
	m->counts[1] += k < n;
	check_counts(m, c);
}

static bool every_third(void *ctx, const struct slab_object *o)
{
	++*(uint32_t *)ctx;
	return o->word % 3 == 0;
}

static void step_some(struct model *m, struct cache *c)
{
	static struct slab_object got[64];
	uint32_t looked = 0, budget = 1 + below(m, 200);
	uint32_t room = OBJECTS_MAX - m->nr < 64 ? OBJECTS_MAX - m->nr : 64;
	size_t n = slab_alloc_some(c->k, below(m, room + 1), got, every_third, &looked, budget);

	CHECK(m, looked <= budget && n <= looked, "%zu of %u", n, looked);
	for (size_t i = 0; i < n; i++) {
		CHECK(m, got[i].word % 3 == 0, "%u", got[i].word);
		took(m, c, &got[i]);
	}
	check_counts(m, c);
}

static void step_free(struct model *m)
{
	struct slab_object o = gave(m, below(m, m->nr));
	uint32_t cpu = random_cpu(m);

	CHECK(m, slab_free(&o, cpu, below(m, 8) == 0), "word %u", o.word);
	CHECK(m, below(m, 8) || !slab_free(&o, cpu, false), "twice: word %u", o.word);
	m->counts[2]++;
}

static void step_look(struct model *m)
{
	uint64_t address = draw_from(&m->random) % (m->t.pool.config.frames << PAGE_SHIFT);
	struct slab_object o;
	bool out;

	if (m->nr && below(m, 2)) {
		const struct slab_object *known = &m->object[below(m, m->nr)].o;

		CHECK(m, slab_object_at(m->t.space, known->address, &o, &out) && out,
		      "address %" PRIu64, known->address);
		CHECK(m, o.word == known->word && o.slot == known->slot && o.head == known->head,
		      "address %" PRIu64, known->address);
		return;
	}
	address &= ~(uint64_t)7;
	if (!slab_object_at(m->t.space, address, &o, &out))
		return;
	CHECK(m, o.address == address, "%" PRIu64, address);
	CHECK(m, out == (m->of_word[o.word] != 0), "address %" PRIu64, address);
	CHECK(m, out || !slab_free(&o, MM_CPU_NONE, false), "address %" PRIu64, address);
}

/* ---- caches ---- */

static void step_create(struct model *m, struct cache *c)
{
	static const uint32_t sizes[] = { 8, 24, 40, 64, 64, 96, 200, 512, 640, 1024, 2100, 4096, 9000 };
	static const uint32_t flags[] = { 0, 0, 0, SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT,
		                          SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_CACHE_DMA };
	struct cache_request q = { c->name, 0, 0, 0, 0, false };
	const char *why = "";

	snprintf(c->name, sizeof(c->name), "cache-%u", (uint32_t)(c - m->cache));
	q.size = c->size = sizes[below(m, 13)] + (below(m, 3) ? 0 : below(m, 9));
	q.align = c->align = below(m, 4) ? 0 : 8u << below(m, 6);
	q.flags = q.flags_asked = c->flags = flags[below(m, 8)];
	CHECK(m, kmem_cache_create(m->t.space, &q, m->step, &c->k, &why) == 0, "%s", why);
	CHECK(m, kmem_cache_life(c->k) > c->life, "cache %s", c->name);
	c->life = kmem_cache_life(c->k);
	c->id = kmem_cache_id(c->k);
	c->out = 0;
	m->counts[3]++;
}

static void step_destroy(struct model *m, struct cache *c)
{
	uint64_t out = 0;
	int err = kmem_cache_destroy(c->k, &out);

	if (c->out) {
		CHECK(m, err == -EBUSY && out == c->out, "cache %s: %" PRIu64, c->name, out);
		return;
	}
	CHECK(m, err == 0, "cache %s: %d", c->name, err);
	CHECK(m, !kmem_cache_find(m->t.space, c->name), "cache %s", c->name);
	c->k = NULL;
	m->counts[4]++;
}

static void step_empty(struct model *m, struct cache *c)
{
	uint32_t cpu = random_cpu(m);

	for (uint32_t i = m->nr; i-- > 0;) {
		struct slab_object o;

		if (&m->cache[m->object[i].cache] != c)
			continue;
		o = gave(m, i);
		CHECK(m, slab_free(&o, cpu, false), "word %u", o.word);
	}
	check_counts(m, c);
}

/* ---- page blocks beside them ---- */

static void step_block(struct model *m)
{
	struct mm_request r = { .gfp = GFP_KERNEL | __GFP_MOVABLE, .order = below(m, 10),
		                .cpu = random_cpu(m) };
	struct block *b = &m->block[below(m, BLOCKS_MAX)];

	if (b->pfn != PFN_NONE) {
		bytes_take(m, (uint64_t)b->pfn << PAGE_SHIFT, 4096ull << b->order, false);
		mm_free_pages(m->t.pool.domain, r.cpu, b->pfn, MM_FREE_CACHED);
		b->pfn = PFN_NONE;
		return;
	}
	if (mm_alloc_pages(m->t.pool.domain, &r, &b->pfn)) {
		b->pfn = PFN_NONE;
		return;
	}
	b->order = r.order;
	bytes_take(m, (uint64_t)b->pfn << PAGE_SHIFT, 4096ull << b->order, true);
}

/* ---- the process dies ---- */

static struct model *judging;

static bool kept(const struct model *m, uint32_t word)
{
	return word * 2654435761u >> 28 < m->keep;
}

static bool judge(void *ctx, const struct slab_object *o, bool was_out)
{
	struct model *m = judging;

	(void)ctx;
	CHECK(m, was_out == (m->of_word[o->word] != 0), "word %u", o->word);
	return was_out && kept(m, o->word);
}

static void step_restart(struct model *m)
{
	m->keep = below(m, 3) ? 16 : below(m, 17);
	judging = m;
	CHECK(m, test_slab_restart(&m->t, judge, test_report) == 0, "recovery");
	for (uint32_t i = m->nr; i-- > 0;)
		if (!kept(m, m->object[i].o.word))
			gave(m, i);
	/* the structs are others now, ids and lives are the same */
	for (uint32_t i = 0; i < CACHES; i++) {
		struct cache *c = &m->cache[i];

		if (!c->k)
			continue;
		c->k = kmem_cache_find(m->t.space, c->name);
		CHECK(m, c->k && kmem_cache_id(c->k) == c->id && kmem_cache_life(c->k) == c->life,
		      "cache %s", c->name);
		check_counts(m, c);
	}
	for (uint32_t i = 0; i < m->nr; i++) {
		struct slab_object o, was = m->object[i].o;
		bool out;

		CHECK(m, slab_object_at(m->t.space, was.address, &o, &out) && out,
		      "address %" PRIu64, was.address);
		CHECK(m, o.word == was.word && o.slot == was.slot && o.head == was.head &&
		              o.cache == m->cache[m->object[i].cache].k,
		      "address %" PRIu64, was.address);
		m->object[i].o = o;
	}
	m->counts[5]++;
}

/* ---- rounds ---- */

static void check_all(struct model *m)
{
	CHECK(m, test_slab_findings(&m->t) == 0, "validators");
	m->counts[6]++;
}

static void step_housekeeping(struct model *m, struct cache *c)
{
	uint32_t cpu = random_cpu(m);

	switch (below(m, 5)) {
	case 0:
		slab_tick(m->t.space);
		break;
	case 1:
		if (cpu != MM_CPU_NONE)
			slab_tick_cpu(m->t.space, cpu);
		break;
	case 2:
		slab_shrink_all(m->t.space, cpu);
		break;
	case 3:
		if (cpu != MM_CPU_NONE)
			mm_drain_cpu(m->t.pool.domain, cpu);
		break;
	default:
		slab_shrink(c->k, cpu, below(m, 4));
		break;
	}
}

static void one_step(struct model *m, bool filling)
{
	struct cache *c = &m->cache[below(m, CACHES)];
	uint32_t what = below(m, 1000);

	if (what < 20 && !c->k) {
		step_create(m, c);
	} else if (what == 20 && below(m, 8) == 0) {
		step_restart(m);
	} else if (what < 40) {
		step_block(m);
	} else if (!c->k || what >= (filling ? 400u : 300u)) {
		for (uint32_t i = 0; m->nr && i < (filling ? 2u : 8u); i++)
			step_free(m);
	} else if (what < 41) {
		if (filling == (below(m, 4) != 0))
			step_empty(m, c);
		step_destroy(m, c);
	} else if (what < 50) {
		step_housekeeping(m, c);
	} else if (what < 60) {
		step_some(m, c);
	} else if (what < 200) {
		step_look(m);
	} else {
		step_alloc(m, c);
	}
}

struct shape {
	const char *name;
	uint32_t mib, nodes, cpus, every; /* validated every so many steps */
};

static const struct shape shapes[] = {
	{ "one zone", 8, 1, 1, 200 },
	{ "two cpus", 32, 1, 2, 1000 },
	{ "four nodes", 64, 4, 3, 2500 },
	{ "two nodes", 128, 2, 2, 5000 },
};

static void *zeroed(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		abort();
	return p;
}

static void round_open(struct model *m, const struct shape *s)
{
	uint64_t frames = ((uint64_t)s->mib << 20) >> PAGE_SHIFT;
	struct mm_config c;

	mm_config_default(&c, frames);
	c.nodes = s->nodes;
	c.cpus = s->cpus;
	test_slab_open(&m->t, &c, 48);
	m->object = zeroed(OBJECTS_MAX, sizeof(*m->object));
	m->of_word = zeroed(m->t.memory.words, sizeof(*m->of_word));
	m->taken = zeroed(frames * 8, sizeof(*m->taken));
	m->nr = 0;
	memset(m->cache, 0, sizeof(m->cache));
	memset(m->counts, 0, sizeof(m->counts));
	for (uint32_t i = 0; i < BLOCKS_MAX; i++)
		m->block[i].pfn = PFN_NONE;
}

static void round_close(struct model *m, const struct shape *s)
{
	uint64_t out;

	while (m->nr)
		step_free(m);
	for (uint32_t i = 0; i < BLOCKS_MAX; i++)
		if (m->block[i].pfn != PFN_NONE)
			mm_free_pages(m->t.pool.domain, 0, m->block[i].pfn, MM_FREE_DIRECT);
	check_all(m);
	for (uint32_t i = 0; i < CACHES; i++)
		CHECK(m, !m->cache[i].k || kmem_cache_destroy(m->cache[i].k, &out) == 0,
		      "cache %s", m->cache[i].name);
	check_all(m);
	CHECK(m, test_pool_free_frames(&m->t.pool) == m->t.pool.config.frames, "frames lost");
	printf("%-12s out %" PRIu64 " short %" PRIu64 " freed %" PRIu64 " caches %" PRIu64 " -%" PRIu64
	       " recovered %" PRIu64 " validated %" PRIu64 "\n",
	       s->name, m->counts[0], m->counts[1], m->counts[2], m->counts[3], m->counts[4],
	       m->counts[5], m->counts[6]);
	test_slab_close(&m->t);
	free(m->object);
	free(m->of_word);
	free(m->taken);
}

int main(int argc, char **argv)
{
	uint64_t steps = 1000000;
	uint32_t nr = sizeof(shapes) / sizeof(shapes[0]);
	static struct model m;

	seed = (uint64_t)time(NULL) * 1000003u;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
			steps = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else {
			fprintf(stderr, "usage: slab_model [--steps N] [--seed S]\n");
			return 2;
		}
	}
	printf("slab_model: --steps %" PRIu64 " --seed %" PRIu64 "\n", steps, seed);
	fflush(stdout);
	m.random = (seed ^ 0x9e3779b97f4a7c15ull) | 1;
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t end = steps * (i + 1) / nr;
		bool filling = true;

		round_open(&m, &shapes[i]);
		for (; m.step < end; m.step++) {
			if (m.step % 4096 == 0)
				filling = below(&m, 5) != 0;
			one_step(&m, filling);
			if (m.step % shapes[i].every == 0)
				check_all(&m);
		}
		round_close(&m, &shapes[i]);
	}
	printf("slab_model: ok\n");
	return 0;
}
