/* SPDX-License-Identifier: MIT */
/*
 * Model test of sections that come and go: random operations against a naive model, the validator
 * after every step.
 *
 *     model                             mm
 *     owner[pfn] = block or none        state words; who is given what
 *     section[s]: IN, ISOLATED, OUT     types of pageblocks, zones
 *     fresh[s] & 1 << cpu               cpu was not drained since s was isolated: its lists may
 *                                       hold, and give, blocks of it; nobody else is given any
 *     managed, in ISOLATED not owned    mm_section_busy(), free_isolated, free + per-CPU counts
 *
 * Blocks move when a section is evacuated: the mover changes the model as the daemon's ledger. Now
 * and then the process dies, with sections in any state, also between a section's leaving and the
 * store of its word; recovery must find what the model owns.
 *
 * usage: hotplug_model [--steps N] [--seed S]
 */
#include <inttypes.h>
#include <time.h>

#include "mm/compaction.h"
#include "mm/buddy.h"
#include "tests/unit/test_mm.h"

#define MAX_MODEL_SECTIONS 16u

enum state { IN, ISOLATED, OUT };

struct block {
	pfn_t pfn;
	uint32_t tag;
	uint8_t order;
};

struct model {
	struct test_pool pool;
	enum state state[MAX_MODEL_SECTIONS];
	struct mm_isolation *isolation[MAX_MODEL_SECTIONS];
	uint32_t fresh[MAX_MODEL_SECTIONS];
	uint32_t managed[MAX_MODEL_SECTIONS];
	uint32_t owned[MAX_MODEL_SECTIONS]; /* frames */
	uint8_t *type;                      /* by pageblock, before it was isolated */
	uint32_t *owner;                    /* by pfn: index of the block plus one */
	struct block *blocks;
	uint32_t nr;
	uint32_t sections, section_frames;
	uint32_t refuse; /* one of so many moves */
	uint64_t random;
	uint64_t step;
	uint64_t counts[12];
};
enum {
	ALLOCATED,
	REFUSED,
	FREED,
	ISOLATES,
	UNDONE,
	LEFT,
	BUSY,
	CAME,
	MOVED,
	STAYED,
	NO_ROOM,
	DEATHS
};
static const char *const count_names[12] = { "allocated", "refused", "freed", "isolated",
	                                     "undone",    "left",    "busy",  "came",
	                                     "moved",     "stayed",  "no room", "deaths" };

static uint64_t seed;

#define CHECK(m, condition, ...)                                                                   \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "hotplug_model: seed %" PRIu64 " step %" PRIu64 ": %s: ",  \
			        seed, (m)->step, #condition);                                      \
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

static uint32_t section_of(const struct model *m, pfn_t pfn)
{
	return pfn / m->section_frames;
}

static uint32_t random_cpu(struct model *m)
{
	uint32_t cpu = below(m, m->pool.config.cpus + 1);

	return cpu == m->pool.config.cpus ? MM_CPU_NONE : cpu;
}

/* ---- blocks ---- */

static void own(struct model *m, uint32_t i)
{
	const struct block *b = &m->blocks[i];

	for (uint32_t k = 0; k < 1u << b->order; k++)
		m->owner[b->pfn + k] = i + 1;
}

static void took(struct model *m, pfn_t pfn, uint32_t order, uint32_t tag, uint32_t cpu)
{
	uint32_t s = section_of(m, pfn);

	CHECK(m, m->state[s] != OUT, "frame %u of a section that is out", pfn);
	CHECK(m, m->state[s] == IN || (cpu != MM_CPU_NONE && m->fresh[s] >> cpu & 1),
	      "frame %u of an isolated section", pfn);
	for (uint32_t k = 0; k < 1u << order; k++)
		CHECK(m, m->owner[pfn + k] == 0, "frame %u given twice", pfn + k);
	m->blocks[m->nr] = (struct block){ pfn, tag, (uint8_t)order };
	own(m, m->nr++);
	m->owned[s] += 1u << order;
}

static void gave(struct model *m, uint32_t i)
{
	struct block b = m->blocks[i];

	for (uint32_t k = 0; k < 1u << b.order; k++)
		m->owner[b.pfn + k] = 0;
	m->owned[section_of(m, b.pfn)] -= 1u << b.order;
	m->blocks[i] = m->blocks[--m->nr];
	if (i < m->nr)
		own(m, i);
}

static void step_alloc(struct model *m)
{
	static const gfp_t gfps[] = { GFP_KERNEL, GFP_ATOMIC, GFP_KERNEL | __GFP_RECLAIMABLE,
		                      GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER,
		                      GFP_KERNEL | __GFP_MEMALLOC,
		                      GFP_HIGHUSER_MOVABLE | __GFP_MEMALLOC };
	struct mm_request r = { .gfp = gfps[below(m, 8)], .cpu = random_cpu(m),
		                .tag = below(m, MM_TAG_MAX) + 1 };
	pfn_t pfn[32];
	size_t n;

	if (below(m, 3) == 0)
		r.order = below(m, below(m, 4) ? 4 : NR_PAGE_ORDERS);
	n = mm_alloc_pages_bulk(m->pool.domain, &r, below(m, 4) ? 1 : 32u >> r.order, pfn);
	for (size_t i = 0; i < n; i++)
		took(m, pfn[i], r.order, r.tag, r.cpu);
	m->counts[n ? ALLOCATED : REFUSED]++;
	/* the reserve is filled by who cannot wait */
	if (n && r.order && below(m, 16) == 0)
		highatomic_reserve(domain_zone_of(m->pool.domain, pfn[0]), pfn[0], r.order);
}

static void step_free(struct model *m)
{
	uint32_t n = below(m, 4) ? 1 : below(m, 40), cpu = random_cpu(m);
	enum mm_free how = below(m, 4) ? MM_FREE_CACHED : MM_FREE_DIRECT;
	pfn_t pfn[40];

	if (n > m->nr)
		n = m->nr;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = below(m, m->nr);

		pfn[i] = m->blocks[at].pfn;
		gave(m, at);
	}
	if (n == 1)
		mm_free_pages(m->pool.domain, cpu, pfn[0], how);
	else
		mm_free_pages_bulk(m->pool.domain, cpu, n, pfn, how);
	m->counts[FREED] += n;
}

/* What is in use in the section is given back, most of it or all. */
static void step_free_section(struct model *m, uint32_t s)
{
	uint32_t keep = below(m, 2) ? 0 : 8;

	for (uint32_t i = 0; i < m->nr; i++) {
		pfn_t pfn = m->blocks[i].pfn;

		if (section_of(m, pfn) != s || (keep && below(m, keep) == 0))
			continue;
		gave(m, i--);
		mm_free_pages(m->pool.domain, random_cpu(m), pfn, MM_FREE_CACHED);
	}
}

static void step_drain(struct model *m)
{
	uint32_t cpu = below(m, m->pool.config.cpus);

	mm_drain_cpu(m->pool.domain, cpu);
	for (uint32_t s = 0; s < m->sections; s++)
		m->fresh[s] &= ~(1u << cpu);
}

/* ---- sections ---- */

static void check_busy(struct model *m, uint32_t s)
{
	uint64_t busy = mm_section_busy(m->isolation[s]);

	CHECK(m, busy >= m->owned[s] && busy <= m->managed[s], "section %u", s);
	/* what is neither owned nor on the list of a cpu that was not drained is free */
	CHECK(m, m->fresh[s] || busy == m->owned[s], "section %u: %" PRIu64 ", model %u", s, busy,
	      m->owned[s]);
}

static void step_isolate(struct model *m, uint32_t s)
{
	uint32_t blocks = m->section_frames / PAGEBLOCK_NR_PAGES;
	uint8_t type[1024];
	int err;

	for (uint32_t i = 0; i < blocks; i++)
		type[i] = (uint8_t)mm_pageblock_type(m->pool.mm, s * m->section_frames +
		                                                         i * PAGEBLOCK_NR_PAGES);
	err = mm_section_isolate(&m->isolation[s], m->pool.domain, (section_id_t){ s });
	CHECK(m, err == (m->state[s] == IN ? 0 : m->state[s] == ISOLATED ? -EBUSY : -ENOENT), "%d",
	      err);
	if (err)
		return;
	memcpy(m->type + s * blocks, type, blocks);
	m->state[s] = ISOLATED;
	m->fresh[s] = (1u << m->pool.config.cpus) - 1;
	m->counts[ISOLATES]++;
	check_busy(m, s);
}

static void step_undo(struct model *m, uint32_t s)
{
	uint32_t blocks = m->section_frames / PAGEBLOCK_NR_PAGES;

	if (m->state[s] != ISOLATED)
		return;
	m->isolation[s] = mm_section_unisolate(m->isolation[s]);
	m->state[s] = IN;
	m->counts[UNDONE]++;
	for (uint32_t i = 0; i < blocks; i++) {
		pfn_t pfn = s * m->section_frames + i * PAGEBLOCK_NR_PAGES;
		pfn_t chunk = pfn & ~((1u << MAX_PAGE_ORDER) - 1);
		uint32_t was = m->type[s * blocks + i], is = mm_pageblock_type(m->pool.mm, pfn);

		if (was == MIGRATE_HIGHATOMIC)
			was = MIGRATE_MOVABLE;
		/* two that are free as a whole are of one type */
		CHECK(m, is == was || (is < MIGRATE_PCPTYPES &&
		                       mm_is_free(m->pool.mm, chunk, MAX_PAGE_ORDER)),
		      "frame %u: type %u, was %u", pfn, is, was);
	}
}

static void step_recover(struct model *m, bool anew);

static void step_offline(struct model *m, uint32_t s)
{
	uint64_t busy;
	int err;

	if (m->state[s] != ISOLATED)
		return;
	check_busy(m, s);
	busy = mm_section_busy(m->isolation[s]);
	err = mm_domain_offline(m->isolation[s]);
	CHECK(m, err == (busy ? -EBUSY : 0), "%d with %" PRIu64 " frames busy", err, busy);
	if (err) {
		m->counts[BUSY]++;
		return;
	}
	CHECK(m, m->owned[s] == 0, "%u", m->owned[s]);
	m->isolation[s] = NULL;
	m->counts[LEFT]++;
	if (below(m, 8) == 0) {
		/* it is online and free then */
		m->state[s] = IN;
		step_recover(m, true);
		return;
	}
	m->state[s] = OUT;
	mm_domain_ready(m->pool.domain);
	mm_section_set(m->pool.mm, (section_id_t){ s }, SECTION_ABSENT, 0, 1, (uint32_t)m->step);
}

static void step_online(struct model *m, uint32_t s)
{
	bool first = below(m, 2);
	int err;

	/* the word may be stored before or after */
	if (first && m->state[s] == OUT)
		mm_section_set(m->pool.mm, (section_id_t){ s }, SECTION_ONLINE, TEST_DOMAIN, 1, 1);
	err = mm_domain_online(m->pool.domain, (section_id_t){ s });
	CHECK(m, err == (m->state[s] == OUT ? 0 : -EEXIST), "%d", err);
	if (err)
		return;
	mm_section_set(m->pool.mm, (section_id_t){ s }, SECTION_ONLINE, TEST_DOMAIN, 1, 1);
	mm_domain_ready(m->pool.domain);
	m->state[s] = IN;
	m->counts[CAME]++;
}

/* ---- evacuation ---- */

static bool block_movable(void *ctx, pfn_t from)
{
	struct model *m = ctx;

	return m->owner[from] != 0 && m->blocks[m->owner[from] - 1].tag % 16 != 0;
}

static bool block_move(void *ctx, pfn_t from, pfn_t to)
{
	struct model *m = ctx;
	uint32_t i = m->owner[from] - 1, s = section_of(m, to);
	struct mm_block b;

	CHECK(m, m->state[s] == IN && m->owner[to] == 0, "frame %u to %u", from, to);
	CHECK(m, m->pool.mm->section_zone[s] == m->pool.mm->section_zone[section_of(m, from)],
	      "frame %u to %u", from, to);
	if (below(m, m->refuse) == 0) {
		m->counts[STAYED]++;
		return false;
	}
	mm_block_settle(m->pool.mm, to, m->blocks[i].tag);
	CHECK(m, mm_block_take(m->pool.mm, from, &b), "frame %u", from);
	m->owner[from] = 0;
	m->owned[section_of(m, from)]--;
	m->blocks[i].pfn = to;
	m->owner[to] = i + 1;
	m->owned[s]++;
	m->counts[MOVED]++;
	return true;
}

static uint32_t blocks_of(const struct model *m, uint32_t s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->nr; i++)
		n += section_of(m, m->blocks[i].pfn) == s;
	return n;
}

static void step_evacuate(struct model *m, uint32_t s)
{
	struct compact_control cc = { .d = m->pool.domain, .movable = block_movable,
		                      .move = block_move, .ctx = m };
	uint32_t before = blocks_of(m, s);
	enum compact_result r;

	if (m->state[s] != ISOLATED)
		return;
	m->refuse = 2 + below(m, 30);
	compaction_evacuate_begin(&cc, (section_id_t){ s });
	while ((r = compaction_evacuate_step(&cc, 1 + below(m, 1000))) == COMPACT_CONTINUE)
		;
	CHECK(m, before - cc.moved == blocks_of(m, s), "section %u", s);
	if (r == COMPACT_COMPLETE) {
		CHECK(m, cc.failed == blocks_of(m, s), "section %u: %" PRIu64 " failed", s,
		      cc.failed);
		return;
	}
	CHECK(m, r == COMPACT_PARTIAL_SKIPPED, "%d", r);
	m->counts[NO_ROOM]++;
	{
		struct mm_zone_stats z;

		mm_zone_stats(m->pool.domain, cc.node, cc.zone, &z);
		for (uint32_t t = 0; t < MIGRATE_PCPTYPES; t++)
			for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++)
				CHECK(m, z.nr_free_type[t][o] == 0, "type %u order %u", t, o);
	}
}

/* ---- deaths ---- */

static bool keep_owned(void *ctx, pfn_t pfn, const struct mm_block *b)
{
	struct model *m = ctx;
	uint32_t i = m->owner[pfn];

	CHECK(m, i != 0 && m->blocks[i - 1].pfn == pfn, "frame %u recovered, but not owned", pfn);
	CHECK(m, m->blocks[i - 1].order == b->order && m->blocks[i - 1].tag == b->tag, "frame %u",
	      pfn);
	m->counts[DEATHS]++; /* borrowed by step_recover() */
	return true;
}

static void step_recover(struct model *m, bool anew)
{
	uint64_t deaths = m->counts[DEATHS];

	if (anew) {
		test_pool_stop(&m->pool);
		test_pool_start(&m->pool);
	}
	m->counts[DEATHS] = 0;
	CHECK(m, mm_domain_recover(m->pool.domain, keep_owned, test_report, m) == 0, "refused");
	CHECK(m, m->counts[DEATHS] == m->nr, "%" PRIu64 " blocks recovered of %u",
	      m->counts[DEATHS], m->nr);
	m->counts[DEATHS] = deaths + 1;
	for (uint32_t s = 0; s < m->sections; s++) {
		m->isolation[s] = NULL;
		m->fresh[s] = 0;
		if (m->state[s] == ISOLATED)
			m->state[s] = IN;
	}
}

/* ---- all of it ---- */

static void check_all(struct model *m)
{
	uint64_t free = test_pool_free_frames(&m->pool), expected = 0, managed = 0, isolated = 0;
	uint64_t least = 0, most = 0;

	CHECK(m, mm_validate(m->pool.domain, test_report, NULL) == 0, "findings above");
	for (uint32_t s = 0; s < m->sections; s++) {
		if (m->state[s] == OUT)
			continue;
		expected += m->managed[s] - m->owned[s];
		managed += m->managed[s];
		if (m->state[s] != ISOLATED)
			continue;
		check_busy(m, s);
		most += m->managed[s] - m->owned[s];
		least += m->fresh[s] ? 0 : m->managed[s] - m->owned[s];
	}
	for (uint32_t z = 0; z < MAX_NR_ZONES; z++) {
		struct mm_zone_stats stats;

		mm_zone_stats(m->pool.domain, 0, (enum zone_type)z, &stats);
		isolated += stats.free_isolated;
	}
	CHECK(m, free == expected, "%" PRIu64 " free, model %" PRIu64, free, expected);
	CHECK(m, test_pool_managed(&m->pool) == managed, "model %" PRIu64, managed);
	CHECK(m, isolated >= least && isolated <= most, "%" PRIu64 " isolated, model %" PRIu64
	      " to %" PRIu64, isolated, least, most);
}

static void one_step(struct model *m, bool filling)
{
	uint32_t what = below(m, 1000), s = below(m, m->sections);

	if (what < 20)
		step_isolate(m, s);
	else if (what < 30)
		step_undo(m, s);
	else if (what < 70)
		step_offline(m, s);
	else if (what < 90)
		step_online(m, s);
	else if (what < 110)
		step_evacuate(m, s);
	else if (what < 125 && m->state[s] == ISOLATED)
		step_free_section(m, s);
	else if (what < 170)
		step_drain(m);
	else if (what < 172)
		step_recover(m, below(m, 2));
	else if (what < 180) {
		mm_tick(m->pool.domain);
		compaction_tick(m->pool.domain);
		for (uint32_t c = 0; c < m->pool.config.cpus; c++)
			mm_tick_cpu(m->pool.domain, c);
	} else if (m->nr && what >= (filling ? 700u : 450u))
		step_free(m);
	else
		step_alloc(m);
}

struct shape {
	const char *name;
	uint32_t sections, section_order, high_first, movable_first;
	bool holes;
	uint32_t until; /* per cent of the steps: a large pool takes long to validate */
};

static const struct shape shapes[] = {
	{ "one zone", 8, 10, UINT32_MAX, UINT32_MAX, false, 35 },
	{ "three zones", 9, 11, 3, 6, false, 60 },
	{ "three zones, holes", 12, 10, 5, 8, true, 95 },
	/* large enough for the high-atomic reserve */
	{ "Normal", 13, 12, UINT32_MAX, UINT32_MAX, false, 100 },
};

static void round_open(struct model *m, const struct shape *s)
{
	uint64_t frames = (uint64_t)s->sections << s->section_order;
	struct mm_config c;
	const char *why = "";

	mm_config_default(&c, frames);
	c.section_order = s->section_order;
	c.cpus = 2;
	c.dma_end = c.dma32_end = 0;
	if (s->high_first != UINT32_MAX) {
		c.highmem_start = (uint64_t)s->high_first << s->section_order;
		c.movable_start = (uint64_t)s->movable_first << s->section_order;
	}
	CHECK(m, mm_config_check(&c, &why) == 0, "%s", why);
	test_pool_prepare(&m->pool, &c);
	for (uint32_t i = 0; s->holes && i < 20; i++) {
		uint64_t base = below(m, (uint32_t)frames), size = 1 + below(m, 600);

		if (i < 3) {
			base &= ~(uint64_t)(PAGEBLOCK_NR_PAGES - 1);
			size = PAGEBLOCK_NR_PAGES;
		}
		/* the last frame of each section stays: one without any would be metadata */
		if (base >> s->section_order == (base + size) >> s->section_order)
			(void)memblock_reserve(&m->pool.mb, base << PAGE_SHIFT, size << PAGE_SHIFT,
			                       "hole");
	}
	m->sections = s->sections;
	m->section_frames = 1u << s->section_order;
	m->owner = calloc(frames, sizeof(*m->owner));
	m->blocks = calloc(frames, sizeof(*m->blocks));
	m->type = calloc(frames >> PAGEBLOCK_ORDER, 1);
	CHECK(m, m->owner && m->blocks && m->type, "out of memory");
	test_pool_start(&m->pool);
	test_pool_online(&m->pool);
	for (uint32_t i = 0; i < s->sections; i++) {
		m->state[i] = IN;
		m->isolation[i] = NULL;
		m->owned[i] = m->fresh[i] = 0;
		m->managed[i] = m->pool.mm->geometry[i].managed;
	}
	m->nr = 0;
	memset(m->counts, 0, sizeof(m->counts));
}

static void round_close(struct model *m, const struct shape *s)
{
	while (m->nr) {
		mm_free_pages(m->pool.domain, 0, m->blocks[m->nr - 1].pfn, MM_FREE_CACHED);
		gave(m, m->nr - 1);
	}
	step_drain(m);
	step_drain(m);
	check_all(m);
	printf("%-20s", s->name);
	for (uint32_t i = 0; i < 12; i++)
		printf(" %s %" PRIu64, count_names[i], m->counts[i]);
	printf("\n");
	test_pool_close(&m->pool);
	free(m->owner);
	free(m->blocks);
	free(m->type);
}

int main(int argc, char **argv)
{
	uint64_t steps = 100000;
	uint32_t nr = sizeof(shapes) / sizeof(shapes[0]);
	struct model m = { 0 };

	seed = (uint64_t)time(NULL) * 1000003u;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
			steps = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			seed = strtoull(argv[++i], NULL, 0);
		} else {
			fprintf(stderr, "usage: hotplug_model [--steps N] [--seed S]\n");
			return 2;
		}
	}
	printf("hotplug_model: --steps %" PRIu64 " --seed %" PRIu64 "\n", steps, seed);
	fflush(stdout);
	m.random = seed ^ 0x9e3779b97f4a7c15ull;
	if (m.random == 0)
		m.random = 1;
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t end = steps * shapes[i].until / 100;
		bool filling = true;

		round_open(&m, &shapes[i]);
		for (; m.step < end; m.step++) {
			if (m.step % 1024 == 0)
				filling = below(&m, 4) != 0;
			one_step(&m, filling);
			check_all(&m);
		}
		round_close(&m, &shapes[i]);
	}
	printf("hotplug_model: ok\n");
	return 0;
}
