/* SPDX-License-Identifier: MIT */
/*
 * Model test of mm/: random operations against a naive model.
 *
 * The model is an array that says for each frame which live block has it, and the list of live
 * blocks. After every operation the two must agree on what was touched; every few steps the
 * validator walks the real structures and the frame counts of both are compared:
 *
 *     model                        mm
 *     owner[pfn] = block or none   state words, free areas, per-CPU lists
 *     blocks[i] = {pfn, order, …}  mm_block_get()
 *     managed - owned              sum of free + per-CPU counts
 *
 * A round has one pool shape; the rounds' shapes cover several nodes, all zones, holes, reserved
 * frames, pools too small for migrate types. Each round swings between filling and emptying, so
 * that full, empty and fragmented pools are met. Now and then the volatile half is thrown away, as
 * if the process had died, and rebuilt while a random part of the blocks is kept.
 *
 * usage: mm_model [--steps N] [--seed S]
 */
#include <inttypes.h>
#include <time.h>

#include "tests/unit/test_mm.h"

struct block {
	pfn_t pfn;
	uint32_t tag;
	gfp_t gfp;
	uint8_t order;
};

struct model {
	struct test_pool pool;
	uint32_t *owner; /* by pfn: index of the block plus one */
	struct block *blocks;
	uint32_t nr;
	uint64_t owned; /* frames */
	uint64_t managed;
	bool *memory; /* by pfn: not reserved, not absent */
	uint64_t random;
	uint64_t step;
	uint64_t counts[8];
};

static uint64_t seed;

#define CHECK(m, condition, ...)                                                                   \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "mm_model: seed %" PRIu64 " step %" PRIu64 ": %s: ", seed, \
			        (m)->step, #condition);                                            \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static uint64_t draw(struct model *m)
{
	/* xorshift64* */
	m->random ^= m->random >> 12;
	m->random ^= m->random << 25;
	m->random ^= m->random >> 27;
	return m->random * 0x2545f4914f6cdd1dull;
}

static uint32_t below(struct model *m, uint32_t n)
{
	return (uint32_t)(draw(m) >> 33) % n;
}

static gfp_t random_gfp(struct model *m)
{
	static const gfp_t zones[] = { 0,
		                       0,
		                       0,
		                       __GFP_DMA,
		                       __GFP_DMA32,
		                       __GFP_HIGHMEM,
		                       __GFP_HIGHMEM | __GFP_MOVABLE,
		                       __GFP_HIGHMEM | __GFP_MOVABLE };
	static const gfp_t types[] = { 0, 0, __GFP_MOVABLE, __GFP_MOVABLE, __GFP_RECLAIMABLE };
	static const gfp_t ways[] = { GFP_KERNEL, GFP_KERNEL, GFP_ATOMIC, GFP_NOWAIT, GFP_NOIO };
	gfp_t gfp = zones[below(m, 8)] | ways[below(m, 5)];

	if (!(gfp & __GFP_MOVABLE))
		gfp |= types[below(m, 5)];
	if (below(m, 32) == 0)
		gfp |= __GFP_MEMALLOC;
	if (below(m, 8) == 0)
		gfp |= __GFP_THISNODE;
	return gfp;
}

static uint32_t random_order(struct model *m)
{
	static const uint8_t orders[] = { 0, 0, 0, 0, 0, 0, 1, 1, 2, 3,
		                          3, 4, 5, 6, 7, 8, 9, 9, 10 };

	return orders[below(m, sizeof(orders))];
}

static uint32_t random_cpu(struct model *m)
{
	uint32_t cpu = below(m, m->pool.config.cpus + 1);

	return cpu == m->pool.config.cpus ? MM_CPU_NONE : cpu;
}

static void took(struct model *m, const struct mm_request *r, pfn_t pfn)
{
	struct mm_block b;

	CHECK(m, pfn < m->pool.config.frames, "%u", pfn);
	CHECK(m, (pfn & ((1u << r->order) - 1)) == 0, "frame %u order %u", pfn, r->order);
	CHECK(m, mm_block_get(m->pool.mm, pfn, &b), "frame %u", pfn);
	CHECK(m, b.order == r->order && b.tag == r->tag && b.domain == TEST_DOMAIN, "frame %u",
	      pfn);
	CHECK(m, b.zone <= gfp_zone(r->gfp), "frame %u in zone %u for class %u", pfn, b.zone,
	      gfp_zone(r->gfp));
	CHECK(m, b.migratetype == gfp_migratetype(r->gfp), "frame %u", pfn);
	if (r->gfp & __GFP_THISNODE) {
		uint32_t node = r->node != MM_NODE_ANY ? r->node - 1 :
		                r->cpu == MM_CPU_NONE ? 0 : r->cpu % m->pool.config.nodes;

		CHECK(m, b.node == node, "frame %u of node %u, not %u", pfn, b.node, node);
	}
	m->blocks[m->nr++] = (struct block){ pfn, r->tag, r->gfp, (uint8_t)r->order };
	for (uint32_t i = 0; i < 1u << r->order; i++) {
		CHECK(m, m->memory[pfn + i], "frame %u is not to be given", pfn + i);
		CHECK(m, m->owner[pfn + i] == 0, "frame %u given twice", pfn + i);
		m->owner[pfn + i] = m->nr;
	}
	m->owned += 1u << r->order;
}

static void gave(struct model *m, uint32_t i)
{
	struct block b = m->blocks[i];

	for (uint32_t k = 0; k < 1u << b.order; k++)
		m->owner[b.pfn + k] = 0;
	m->owned -= 1u << b.order;
	m->blocks[i] = m->blocks[--m->nr];
	if (i < m->nr)
		for (uint32_t k = 0; k < 1u << m->blocks[i].order; k++)
			m->owner[m->blocks[i].pfn + k] = i + 1;
}

static void random_request(struct model *m, struct mm_request *r)
{
	*r = (struct mm_request){ .gfp = random_gfp(m),
		                  .order = random_order(m),
		                  .cpu = random_cpu(m),
		                  .tag = below(m, MM_TAG_MAX + 1) };
	if (below(m, 8) == 0)
		r->node = MM_NODE(below(m, m->pool.config.nodes));
}

/* Nothing that the request could have had may be left in the free areas. */
static void check_exhausted(struct model *m, const struct mm_request *r)
{
	if (r->order != 0 || !(r->gfp & __GFP_MEMALLOC) || (r->gfp & __GFP_THISNODE))
		return;
	for (uint32_t n = 0; n < m->pool.config.nodes; n++) {
		for (uint32_t z = 0; z <= gfp_zone(r->gfp); z++) {
			struct mm_zone_stats s;

			mm_zone_stats(m->pool.domain, n, (enum zone_type)z, &s);
			/* the reserve is for those that cannot wait, and given back for those
			 * that can */
			CHECK(m, s.free == 0, "refused with %" PRIu64 " frames free in zone %u",
			      s.free, z);
		}
	}
}

static void step_alloc(struct model *m)
{
	struct mm_request r;
	pfn_t pfn = PFN_NONE;
	int err;

	random_request(m, &r);
	err = mm_alloc_pages(m->pool.domain, &r, &pfn);
	if (err == 0) {
		took(m, &r, pfn);
		m->counts[0]++;
		return;
	}
	CHECK(m, err == -ENOMEM && pfn == PFN_NONE, "%d", err);
	check_exhausted(m, &r);
	m->counts[1]++;
}

static void step_alloc_bulk(struct model *m)
{
	struct mm_request r;
	pfn_t pfn[300];
	size_t n, want;

	random_request(m, &r);
	want = below(m, (300 >> (r.order > 4 ? 4 : r.order)) + 1);
	n = mm_alloc_pages_bulk(m->pool.domain, &r, want, pfn);
	CHECK(m, n <= want, "%zu of %zu", n, want);
	for (size_t i = 0; i < n; i++)
		took(m, &r, pfn[i]);
	m->counts[2] += n;
}

static void step_free(struct model *m)
{
	uint32_t i = below(m, m->nr), cpu = random_cpu(m);
	pfn_t pfn = m->blocks[i].pfn;
	struct mm_block b;

	CHECK(m, mm_block_get(m->pool.mm, pfn, &b) && b.tag == m->blocks[i].tag, "frame %u", pfn);
	mm_free_pages(m->pool.domain, cpu, pfn, below(m, 4) ? MM_FREE_CACHED : MM_FREE_DIRECT);
	CHECK(m, !mm_block_get(m->pool.mm, pfn, &b), "frame %u", pfn);
	gave(m, i);
	m->counts[3]++;
}

static void step_free_bulk(struct model *m)
{
	uint32_t n = below(m, 200), cpu = random_cpu(m);
	bool together = below(m, 2);
	pfn_t pfn[200];

	if (n > m->nr)
		n = m->nr;
	for (uint32_t i = 0; i < n; i++) {
		/* the latest, which often lie side by side, or any */
		uint32_t at = together ? m->nr - 1 : below(m, m->nr);

		pfn[i] = m->blocks[at].pfn;
		gave(m, at);
	}
	mm_free_pages_bulk(m->pool.domain, cpu, n, pfn,
	                   below(m, 4) ? MM_FREE_CACHED : MM_FREE_DIRECT);
	m->counts[4] += n;
}

static void step_tag(struct model *m)
{
	struct block *b = &m->blocks[below(m, m->nr)];

	b->tag = below(m, MM_TAG_MAX + 1);
	mm_block_set_tag(m->pool.mm, b->pfn, b->tag);
}

static bool keep_some(void *ctx, pfn_t pfn, const struct mm_block *b)
{
	struct model *m = ctx;
	uint32_t i = m->owner[pfn];

	CHECK(m, i != 0 && m->blocks[i - 1].pfn == pfn, "frame %u recovered, but not owned", pfn);
	CHECK(m, m->blocks[i - 1].order == b->order && m->blocks[i - 1].tag == b->tag, "frame %u",
	      pfn);
	m->counts[7]++;
	if (below(m, 4))
		return true;
	gave(m, i - 1);
	return false;
}

static void step_recover(struct model *m)
{
	uint32_t nr = m->nr;

	m->counts[7] = 0;
	/* half of the time a new process, else the same structures again */
	if (below(m, 2)) {
		test_pool_stop(&m->pool);
		test_pool_start(&m->pool);
	}
	CHECK(m, mm_domain_recover(m->pool.domain, keep_some, test_report, m) == 0, "refused");
	CHECK(m, m->counts[7] == nr, "%" PRIu64 " blocks recovered of %u", m->counts[7], nr);
	m->counts[5]++;
}

static void check_all(struct model *m)
{
	uint64_t free = test_pool_free_frames(&m->pool);

	CHECK(m, mm_validate(m->pool.domain, test_report, NULL) == 0, "findings above");
	CHECK(m, free == m->managed - m->owned, "%" PRIu64 " free, model %" PRIu64, free,
	      m->managed - m->owned);
	m->counts[6]++;
}

static void one_step(struct model *m, bool filling)
{
	uint32_t what = below(m, 1000);

	if (what < 2) {
		mm_tick(m->pool.domain);
		for (uint32_t c = 0; c < m->pool.config.cpus; c++)
			mm_tick_cpu(m->pool.domain, c);
	} else if (what < 4) {
		mm_drain_cpu(m->pool.domain, below(m, m->pool.config.cpus));
	} else if (what < 5 && below(m, 20) == 0) {
		step_recover(m);
	} else if (what < 15 && m->nr) {
		step_tag(m);
	} else if (what < (filling ? 45u : 30u)) {
		step_alloc_bulk(m);
	} else if (what < 60) {
		step_free_bulk(m);
	} else if (m->nr && what >= (filling ? 700u : 450u)) {
		step_free(m);
	} else {
		step_alloc(m);
	}
}

struct shape {
	const char *name;
	uint32_t mib, nodes, cpus;
	uint32_t dma_mib, dma32_mib, highmem_mib, movable_mib; /* 0: none */
	bool holes;
};

static const struct shape shapes[] = {
	{ "one zone, no grouping", 8, 1, 1, 16, 4096, 0, 0, false },
	{ "two zones", 64, 1, 2, 16, 4096, 0, 0, false },
	{ "Normal, holes", 96, 1, 2, 4, 16, 0, 0, true },
	{ "all zones, four nodes", 256, 4, 3, 16, 48, 128, 192, true },
	{ "two nodes", 512, 2, 2, 16, 64, 0, 384, false },
};

static void round_open(struct model *m, const struct shape *s)
{
	uint64_t frames = ((uint64_t)s->mib << 20) >> PAGE_SHIFT;
	struct mm_config c;
	const char *why = "";

	mm_config_default(&c, frames);
	c.nodes = s->nodes;
	c.cpus = s->cpus;
	c.dma_end = ((uint64_t)s->dma_mib << 20) >> PAGE_SHIFT;
	c.dma32_end = ((uint64_t)s->dma32_mib << 20) >> PAGE_SHIFT;
	if (s->highmem_mib)
		c.highmem_start = ((uint64_t)s->highmem_mib << 20) >> PAGE_SHIFT;
	if (s->movable_mib)
		c.movable_start = ((uint64_t)s->movable_mib << 20) >> PAGE_SHIFT;
	CHECK(m, mm_config_check(&c, &why) == 0, "%s", why);
	test_pool_prepare(&m->pool, &c);
	m->memory = malloc(frames);
	m->owner = calloc(frames, sizeof(*m->owner));
	m->blocks = calloc(frames, sizeof(*m->blocks));
	CHECK(m, m->memory && m->owner && m->blocks, "out of memory");
	memset(m->memory, true, frames);
	for (uint32_t i = 0; s->holes && i < 20; i++) {
		uint64_t base = below(m, (uint32_t)frames), size = 1 + below(m, 600);

		if (base + size > frames ||
		    memblock_reserve(&m->pool.mb, base << PAGE_SHIFT, size << PAGE_SHIFT, "hole"))
			continue;
		memset(m->memory + base, false, size);
	}
	test_pool_start(&m->pool);
	test_pool_online(&m->pool);
	m->managed = test_pool_managed(&m->pool);
	m->nr = 0;
	m->owned = 0;
	memset(m->counts, 0, sizeof(m->counts));
}

static void round_close(struct model *m, const struct shape *s)
{
	while (m->nr) {
		mm_free_pages(m->pool.domain, 0, m->blocks[m->nr - 1].pfn, MM_FREE_CACHED);
		gave(m, m->nr - 1);
	}
	for (uint32_t c = 0; c < s->cpus; c++)
		mm_drain_cpu(m->pool.domain, c);
	check_all(m);
	CHECK(m, mm_nr_free(m->pool.domain) == m->managed, "frames lost");
	printf("%-24s alloc %" PRIu64 " refused %" PRIu64 " bulk %" PRIu64 " free %" PRIu64
	       " bulk %" PRIu64 " recovered %" PRIu64 " validated %" PRIu64 "\n",
	       s->name, m->counts[0], m->counts[1], m->counts[2], m->counts[3], m->counts[4],
	       m->counts[5], m->counts[6]);
	test_pool_close(&m->pool);
	free(m->memory);
	free(m->owner);
	free(m->blocks);
}

int main(int argc, char **argv)
{
	uint64_t steps = 1000000;
	uint32_t nr = sizeof(shapes) / sizeof(shapes[0]);
	struct model m = { 0 };

	seed = (uint64_t)time(NULL) * 1000003u;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
			steps = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else {
			fprintf(stderr, "usage: mm_model [--steps N] [--seed S]\n");
			return 2;
		}
	}
	printf("mm_model: --steps %" PRIu64 " --seed %" PRIu64 "\n", steps, seed);
	fflush(stdout);
	m.random = seed ^ 0x9e3779b97f4a7c15ull;
	if (m.random == 0)
		m.random = 1;
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t end = steps * (i + 1) / nr;
		bool filling = true;

		round_open(&m, &shapes[i]);
		for (; m.step < end; m.step++) {
			if (m.step % 4096 == 0)
				filling = below(&m, 5) != 0;
			one_step(&m, filling);
			if (m.step % (m.pool.config.frames / 64) == 0)
				check_all(&m);
		}
		round_close(&m, &shapes[i]);
	}
	printf("mm_model: ok\n");
	return 0;
}
