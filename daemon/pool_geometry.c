/* SPDX-License-Identifier: MIT */
/*
 * The pool's geometry: how large its parts are and where its tables lie.
 *
 *      0                                                              pool size
 *     +---------------------------------------+---------------------------+
 *     | zones                                 | metadata sections         |
 *     +---------------------------------------+---------------------------+
 *                       section border -------^ (unused) holders sessions mem_map superblock
 *
 * Pure computation: the same options give the same layout, and the same superblock gives the layout
 * that it was made with, which recovery compares with the addresses that it holds. memblock lays
 * the tables out from the top down; what is left of the last metadata section is reserved too,
 * because a section is protected as a whole and clients map whole sections.
 *
 * With room to grow (max_size) all of that is laid out for the largest pool, and the sections that are to
 * come later are absent: the topmost ones below HighMem, of each node as many.
 *
 * Tables shrink with the pool: beyond a tenth of it (or one section, whichever is more) the number
 * of holders, then of sessions, is halved until they fit.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "daemon/backing.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/pool_private.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define POOL_MIN (16 * MIB)
#define SECTION_MIN (4 * MIB)
#define SECTION_MAX GIB
#define HOLDERS_MIN 1024u
#define SESSIONS_MIN 64u
#define MAGAZINES_MIN 1024u
#define MAGAZINES_MAX 16384u
#define HIGHMEM_POOL_MIN (64 * MIB) /* smaller pools have no HighMem unless asked */
#define HIGHMEM_PART 16u            /* of the pool, unless set */

static uint32_t frames_order(uint64_t bytes)
{
	return (uint32_t)__builtin_ctzll(bytes) - PAGE_SHIFT;
}

/* A power of two of at least a 512th of the pool, within the bounds. */
static uint64_t section_size_default(const struct options *o)
{
	uint64_t size = SECTION_MIN;

	if (o->huge_page_size == GIB && o->backing != SHM_THP && o->backing != SHM_4K)
		return SECTION_MAX;
	while (size < SECTION_MAX && size < options_pool_most(o) / 512)
		size <<= 1;
	return size;
}

static int sizes_check(uint64_t pool, uint64_t section)
{
	char a[32], b[32], c[32], d[32];

	if (section < SECTION_MIN || section > SECTION_MAX || (section & (section - 1)) != 0) {
		log_error("section size %s: it must be a power of two from 4 MiB to 1 GiB",
		          backing_size_text(a, section));
		return -EINVAL;
	}
	if (pool < POOL_MIN) {
		log_error("pool size %s: it must be at least %s", backing_size_text(a, pool),
		          backing_size_text(b, POOL_MIN));
		return -EINVAL;
	}
	if (pool % section != 0) {
		uint64_t below = pool / section * section;

		log_error("pool size %s (%" PRIu64 " bytes): it must be a multiple of the section size, "
		          "%s; the nearest are %s and %s (%" PRIu64 " and %" PRIu64 " MiB)",
		          backing_size_text(a, pool), pool, backing_size_text(b, section),
		          backing_size_text(c, below), backing_size_text(d, below + section),
		          below / MIB, (below + section) / MIB);
		return -EINVAL;
	}
	if (pool / section > MAX_SECTIONS || pool / section < 2) {
		log_error("pool size %s: %" PRIu64 " sections of %s; there may be 2 to %u, choose another "
		          "section size", backing_size_text(a, pool), pool / section,
		          backing_size_text(b, section), MAX_SECTIONS);
		return -EINVAL;
	}
	return 0;
}

/* One a reactor: as many as there are CPUs that the process may run on, unless set. */
static uint32_t cpus(const struct options *o)
{
	cpu_set_t set;
	int n = (int)o->reactors;

	if (n == 0 && sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	return n < 1 ? 1 : n > (int)MAX_CPUS ? MAX_CPUS : (uint32_t)n;
}

/* Where the machine has several nodes the pool's lie on them in turn (sections_bind): as far from each
 * other as these are, and each reactor on the one of the CPU that it is pinned to. Without that mm/'s
 * own choice is as good. Good until the next call. */
static void topology(struct mm_config *c)
{
	static uint8_t distance[MAX_NODES * MAX_NODES], cpu_node[MAX_CPUS];
	unsigned int ids[MAX_NODES], on[MAX_NODES], machine = shm_nodes(ids, MAX_NODES), n;
	uint16_t node_of[CPU_SETSIZE];
	uint32_t reactor, shared;
	cpu_set_t set;
	int cpu = -1;

	if (machine < 2 || c->nodes < 2 || c->nodes > MAX_NODES)
		return;
	if (machine > MAX_NODES)
		machine = MAX_NODES;
	for (n = 0; n < c->nodes; n++)
		on[n] = ids[n % machine];
	shm_node_distances(NULL, on, c->nodes, distance);
	c->distance = distance;
	if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) == 0)
		return;
	shm_cpu_nodes(NULL, ids, machine, CPU_SETSIZE, node_of);
	/* as main.c pins them: the CPUs in order, again and again */
	for (reactor = 0; reactor < c->cpus; reactor++) {
		do {
			cpu = (cpu + 1) % CPU_SETSIZE;
		} while (!CPU_ISSET((unsigned int)cpu, &set));
		n = node_of[cpu] % c->nodes;
		/* of several pool nodes there the CPUs take one each in turn */
		shared = (c->nodes - n + machine - 1) / machine;
		cpu_node[reactor] = (uint8_t)(n + machine * (reactor % shared));
	}
	c->cpu_node = cpu_node;
}

static uint64_t page_up(uint64_t bytes)
{
	return (bytes + POOL_PAGE - 1) & ~(uint64_t)(POOL_PAGE - 1);
}

static uint64_t tables_size(const struct pool_geometry *g)
{
	return POOL_PAGE + page_up(mm_persistent_bytes(&g->mm)) +
	       page_up(g->sessions * sizeof(struct session_record)) +
	       page_up(g->holders * sizeof(struct holder_record));
}

static void tables_fit(struct pool_geometry *g)
{
	uint64_t limit = g->size / 10;

	if (limit < g->section_size)
		limit = g->section_size;
	while (tables_size(g) > limit && g->holders > HOLDERS_MIN)
		g->holders /= 2;
	while (tables_size(g) > limit && g->sessions > SESSIONS_MIN)
		g->sessions /= 2;
}

/* Memory by node, then the tables from the top. */
static int layout(struct pool_geometry *g, struct memblock *mb)
{
	uint64_t lowest, border;
	uint32_t n;
	int r = 0;

	memblock_init(mb);
	for (n = 0; n < g->mm.nodes && r == 0; n++) {
		uint64_t first = (uint64_t)g->nr_sections * n / g->mm.nodes;
		uint64_t end = (uint64_t)g->nr_sections * (n + 1) / g->mm.nodes;

		r = memblock_add(mb, first * g->section_size, (end - first) * g->section_size, n);
	}
	g->mm_size = mm_persistent_bytes(&g->mm);
	if (r == 0)
		r = memblock_alloc(mb, POOL_PAGE, POOL_PAGE, "superblock", &g->superblock);
	if (r == 0)
		r = memblock_alloc(mb, page_up(g->mm_size), POOL_PAGE, "mem_map", &g->mm_address);
	if (r == 0)
		r = memblock_alloc(mb, page_up(g->sessions * sizeof(struct session_record)), POOL_PAGE,
		                   "sessions", &g->session_address);
	if (r == 0)
		r = memblock_alloc(mb, page_up(g->holders * sizeof(struct holder_record)), POOL_PAGE,
		                   "holders", &g->holder_address);
	if (r < 0)
		return r;
	lowest = g->holder_address;
	border = lowest & ~(g->section_size - 1);
	if (lowest > border)
		r = memblock_reserve(mb, border, lowest - border, "metadata");
	if (r < 0)
		return r;
	g->first_metadata = (uint32_t)(border / g->section_size);
	/* The tables must lie in one piece at the top, and the zones must get something. */
	if (g->superblock != g->size - POOL_PAGE || g->first_metadata == 0 ||
	    g->size - lowest != tables_size(g))
		return -EINVAL;
	return 0;
}

uint64_t pool_sections_of(const struct pool_geometry *g, uint64_t bytes)
{
	return bytes / g->section_size + (bytes % g->section_size != 0);
}

/* HighMem and Movable go to the top of what the tables leave. -EINVAL: too little is left. */
static int high_place(struct pool_geometry *g, const struct options *o, uint64_t absent,
                      const char **why)
{
	uint64_t dma = pool_sections_of(g, o->dma_size), movable = pool_sections_of(g, o->movable);
	uint64_t highmem;
	uint64_t low = (dma ? dma : 1) + absent;
	uint64_t room = g->first_metadata > low ? g->first_metadata - low : 0;

	if (o->highmem != OPTIONS_HIGHMEM_DEFAULT) {
		highmem = pool_sections_of(g, o->highmem);
	} else {
		highmem = o->pool_size < HIGHMEM_POOL_MIN ?
		                  0 : pool_sections_of(g, o->pool_size / HIGHMEM_PART);
		if (highmem > g->nr_sections / 4 || highmem + movable > room)
			highmem = 0;
	}
	if (highmem + movable > room && highmem + movable > 0) {
		*why = "its zones HighMem and Movable (highmem, movable) leave no room for zone DMA "
		       "(dma_size) and the tables";
		return -EINVAL;
	}
	g->first_high = g->first_metadata - (uint32_t)(highmem + movable);
	if (highmem)
		g->mm.highmem_start = (uint64_t)g->first_high << g->mm.section_order;
	if (movable)
		g->mm.movable_start = (g->first_high + highmem) << g->mm.section_order;
	return 0;
}

/* `n` sections are for later: each node in turn gives its topmost that is not in a high zone. -EINVAL:
 * nothing but these would be left. */
static int absent_place(struct pool_geometry *g, uint64_t n, const char **why)
{
	uint64_t end[MAX_NODES];
	uint32_t node, idle = 0;

	for (node = 0; node < g->mm.nodes; node++) {
		end[node] = (uint64_t)g->nr_sections * (node + 1) / g->mm.nodes;
		if (end[node] > g->first_high)
			end[node] = g->first_high;
	}
	for (node = 0; n > 0 && idle < g->mm.nodes; node = (node + 1) % g->mm.nodes) {
		uint64_t first = (uint64_t)g->nr_sections * node / g->mm.nodes;

		/* what a pool begins with stays: section 0 at least */
		if (end[node] <= first + (node == 0)) {
			idle++;
			continue;
		}
		idle = 0;
		pool_section_set_absent(g, (uint32_t)--end[node]);
		n--;
	}
	*why = "size leaves no memory beside HighMem, Movable and the tables, which are as large as max_size "
	       "wants them: make size larger, or max_size smaller";
	return n ? -EINVAL : 0;
}

/* The same from the superblock's numbers; false: they cannot be ours. */
static bool high_find(struct pool_geometry *g)
{
	uint64_t end = (uint64_t)g->first_metadata << g->mm.section_order, first = end;
	uint64_t mask = (UINT64_C(1) << g->mm.section_order) - 1;

	if (g->mm.movable_start != UINT64_MAX)
		first = g->mm.movable_start;
	if (first & mask || first > end)
		return false;
	if (g->mm.highmem_start != UINT64_MAX) {
		if (g->mm.highmem_start & mask || g->mm.highmem_start > first)
			return false;
		first = g->mm.highmem_start;
	}
	g->first_high = (uint32_t)(first >> g->mm.section_order);
	return true;
}

static int control_size(struct pool_geometry *g)
{
	uint64_t high = g->first_metadata - g->first_high;
	int r;

	g->control = (struct control_geometry){
		.frames = g->mm.frames,
		.high_start = high ? (uint64_t)g->first_high << g->mm.section_order :
		                     g->mm.frames,
		.high_frames = high << g->mm.section_order,
		.section_order = g->mm.section_order,
		.sessions = g->sessions,
		.magazines = g->magazines,
	};
	r = control_layout_compute(&g->layout, &g->control);
	return r < 0 ? r : ledger_layout_compute(&g->ledger, &g->control);
}

int pool_geometry_from_options(struct pool_geometry *g, const struct options *o,
                               struct memblock *mb)
{
	const char *why = "its tables do not fit";
	uint64_t magazines, absent;
	int r;

	memset(g, 0, sizeof(*g));
	g->size = options_pool_most(o);
	g->section_size = o->section_size ? o->section_size : section_size_default(o);
	r = sizes_check(g->size, g->section_size);
	if (r == 0 && o->pool_size != g->size)
		r = sizes_check(o->pool_size, g->section_size);
	if (r < 0)
		return r;
	absent = (g->size - o->pool_size) / g->section_size;
	g->nr_sections = (uint32_t)(g->size / g->section_size);
	mm_config_default(&g->mm, g->size >> PAGE_SHIFT);
	g->mm.section_order = frames_order(g->section_size);
	g->mm.nodes = o->nodes;
	g->mm.cpus = cpus(o);
	g->mm.dma_end = o->dma_size >> PAGE_SHIFT;
	g->mm.dma32_end = o->dma32_size >> PAGE_SHIFT;
	magazines = g->mm.frames / 64;
	g->magazines = magazines < MAGAZINES_MIN ? MAGAZINES_MIN :
	               magazines > MAGAZINES_MAX ? MAGAZINES_MAX : (uint32_t)magazines;
	/* ids begin at 1 */
	g->sessions = o->sessions_max < OWNER_MAX ? o->sessions_max + 1 : OWNER_MAX + 1;
	if (g->sessions < 2)
		g->sessions = 2;
	g->holders = o->holders_max ? o->holders_max : 1;
	pool_zone_backings(g, o);
	topology(&g->mm);
	r = mm_config_check(&g->mm, &why);
	if (r == 0) {
		tables_fit(g);
		r = layout(g, mb);
	}
	if (r == 0)
		r = high_place(g, o, absent, &why);
	if (r == 0)
		r = absent_place(g, absent, &why);
	if (r == 0)
		r = control_size(g);
	if (r < 0) {
		char a[32], b[32], c[32], most[64] = "";

		if (absent)
			snprintf(most, sizeof(most), " that can grow to %s", backing_size_text(c, g->size));
		log_error("a pool of %s%s in sections of %s, %u nodes: %s",
		          backing_size_text(a, o->pool_size), most, backing_size_text(b, g->section_size),
		          g->mm.nodes, why);
		return -EINVAL;
	}
	return 0;
}

int pool_geometry_from_superblock(struct pool_geometry *g, const struct superblock *sb,
                                  const struct options *o, struct memblock *mb, const char **why)
{
	memset(g, 0, sizeof(*g));
	g->mm = (struct mm_config){
		.frames = sb->frames,
		.section_order = sb->section_order,
		.nodes = sb->nodes,
		.cpus = cpus(o),
		.dma_end = sb->dma_end,
		.dma32_end = sb->dma32_end,
		.highmem_start = sb->highmem_start,
		.movable_start = sb->movable_start,
	};
	topology(&g->mm);
	if (mm_config_check(&g->mm, why) < 0)
		return -EUCLEAN;
	g->size = sb->frames << PAGE_SHIFT;
	g->section_size = UINT64_C(1) << (sb->section_order + PAGE_SHIFT);
	g->nr_sections = (uint32_t)(sb->frames >> sb->section_order);
	g->sessions = sb->sessions;
	g->holders = sb->holders;
	g->magazines = sb->magazines;
	if (control_size(g) < 0) { /* with the high zones when it is known where they end */
		*why = "the numbers of sessions and magazines are out of range";
		return -EUCLEAN;
	}
	if (layout(g, mb) < 0 || g->mm_address != sb->mm_address || g->mm_size != sb->mm_size ||
	    g->session_address != sb->session_address || g->holder_address != sb->holder_address) {
		*why = "its tables lie elsewhere than this version lays them out";
		return -EUCLEAN;
	}
	if (!pool_backing_unpack(sb->backing, g->zone_backing)) {
		*why = "its zones lie on memory that there is not";
		return -EUCLEAN;
	}
	if (!high_find(g) || control_size(g) < 0) {
		*why = "its zones HighMem and Movable lie where they cannot";
		return -EUCLEAN;
	}
	return 0;
}

uint64_t pool_high_bytes(const struct pool_geometry *g)
{
	uint64_t n = 0;

	for (uint32_t s = g->first_high; s < g->first_metadata; s++)
		n += !pool_section_absent(g, s);
	return n * g->section_size;
}

uint64_t pool_absent_bytes(const struct pool_geometry *g)
{
	uint64_t n = 0;

	for (uint32_t s = 0; s < g->nr_sections; s++)
		n += pool_section_absent(g, s);
	return n * g->section_size;
}
