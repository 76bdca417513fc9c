/* SPDX-License-Identifier: MIT */
/*
 * How much is lost to fragmentation, and what would help.
 *
 * External, by Mel Gorman's two measures as Linux's mm/vmstat.c computes them (debugfs: extfrag/), in
 * thousandths, for blocks of 2^order frames of a zone:
 *
 *   suitable     = sum over orders k >= order of free blocks of k * 2^(k - order)
 *   unusable     = 1000 * (free frames - suitable * 2^order) / free frames; 1000 when nothing is free
 *   index        = -1000 where suitable > 0
 *                  0 where nothing is free
 *                  1000 - (1000 + 1000 * free frames / 2^order) / free blocks
 *
 * The index says why a request for such a block fails: towards 0 because there is not enough memory,
 * towards 1000 because what there is lies scattered.
 *
 * Internal, for each cache, in bytes, from its line in slabinfo:
 *
 *   slabs * size of a slab = asked + padding + unused + ends
 *
 * A program that asks kmalloc for 50 bytes gets an object of kmalloc-64; these 14 bytes are the
 * program's secret and count as asked for.
 */
#include "client/kmmctl/frag.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/table.h"

#define FRAME 4096u
#define PART_WORTH_IT 20u /* what is less than a 20th of the pool is not worth a command */
#define ORDER_WANTED 9u   /* of a pageblock: what large requests want */
#define UNUSABLE_MUCH 500 /* of free memory */

struct free_sum {
	uint64_t frames, blocks, suitable;
};

static struct free_sum sum_free(const uint64_t nr_free[REPORT_ORDERS], uint32_t order)
{
	struct free_sum s = { 0 };

	for (uint32_t k = 0; k < REPORT_ORDERS; k++) {
		s.frames += nr_free[k] << k;
		s.blocks += nr_free[k];
		if (k >= order)
			s.suitable += nr_free[k] << (k - order);
	}
	return s;
}

int frag_index(const uint64_t nr_free[REPORT_ORDERS], uint32_t order)
{
	struct free_sum s = sum_free(nr_free, order);

	if (s.blocks == 0)
		return 0;
	if (s.suitable)
		return FRAG_SUITABLE;
	return 1000 - (int)((1000 + (s.frames * 1000 >> order)) / s.blocks);
}

int frag_unusable(const uint64_t nr_free[REPORT_ORDERS], uint32_t order)
{
	struct free_sum s = sum_free(nr_free, order);

	return s.frames ? (int)((s.frames - (s.suitable << order)) * 1000 / s.frames) : 1000;
}

uint64_t frag_waste(const struct frag_cache *c)
{
	return c->padding + c->unused + c->ends;
}

static void cache_fill(struct frag_cache *f, const kmm_v1_Cache *c)
{
	uint64_t slab = (uint64_t)FRAME << (c->order & 15);
	uint64_t places = (uint64_t)c->objects_per_slab * c->stride;
	uint64_t stride = c->stride > c->size ? c->stride - c->size : 0;

	f->cache = c;
	f->objects = c->active_objects;
	f->asked = c->active_objects * c->size;
	f->padding = c->active_objects * stride;
	f->unused = c->objects > c->active_objects ?
	                    (c->objects - c->active_objects) * c->stride :
	                    0;
	f->ends = slab > places ? c->slabs * (slab - places) : 0;
	f->words = c->slabs * c->words * 8;
}

static void cache_add(struct frag_cache *sum, const struct frag_cache *c)
{
	sum->objects += c->objects;
	sum->asked += c->asked;
	sum->padding += c->padding;
	sum->unused += c->unused;
	sum->ends += c->ends;
	sum->words += c->words;
}

static int by_waste(const void *a, const void *b)
{
	const struct frag_cache *x = a, *y = b;
	uint64_t m = frag_waste(x), n = frag_waste(y);

	return m != n ? (m < n ? 1 : -1) : strcmp(x->cache->name, y->cache->name);
}

bool frag_make(struct frag *f, const struct report_zone zone[], size_t zones,
               const kmm_v1_Cache cache[], size_t caches, const kmm_v1_Pool *pool)
{
	*f = (struct frag){ .managed = pool->managed,
		            .available = pool->available,
		            .per_cpu = pool->per_cpu,
		            .depot = pool->depot,
		            .cached = pool->cached };
	f->zone = calloc(zones + 1, sizeof(f->zone[0]));
	f->cache = calloc(caches + 1, sizeof(f->cache[0]));
	if (!f->zone || !f->cache) {
		frag_done(f);
		return false;
	}
	for (size_t i = 0; i < zones; i++) {
		struct frag_zone *z = &f->zone[f->zones];

		if (!zone[i].present)
			continue;
		z->zone = &zone[i];
		for (uint32_t o = 0; o < REPORT_ORDERS; o++) {
			z->unusable[o] = frag_unusable(zone[i].nr_free, o);
			z->index[o] = frag_index(zone[i].nr_free, o);
		}
		f->zones++;
	}
	for (size_t i = 0; i < caches; i++) {
		if (!cache[i].slabs)
			continue;
		cache_fill(&f->cache[f->caches], &cache[i]);
		cache_add(&f->total, &f->cache[f->caches++]);
	}
	qsort(f->cache, f->caches, sizeof(f->cache[0]), by_waste);
	return true;
}

void frag_done(struct frag *f)
{
	free(f->zone);
	free(f->cache);
}

/* ---- what would help ---- */

static bool worth_it(const struct frag *f, uint64_t frames)
{
	return frames && frames >= f->managed / PART_WORTH_IT;
}

/* Memory that lies in caches: pages of threads and depots, per-CPU lists. */
static bool advise_drop(const struct frag *f, struct frag_advice *a)
{
	uint64_t frames = f->cached + f->depot + f->per_cpu;
	char unit[TABLE_UNIT_SIZE];

	if (!worth_it(f, frames))
		return false;
	snprintf(a->command, sizeof(a->command), "kmmctl drop-caches");
	snprintf(a->why, sizeof(a->why),
	         "%s lie on per-CPU lists, in depots and in what threads cache of pages",
	         table_frames(unit, frames));
	return true;
}

/* The i-th cache whose free places are worth it. */
static bool advise_shrink(const struct frag *f, size_t *i, struct frag_advice *a)
{
	char unit[TABLE_UNIT_SIZE];

	for (size_t k = 0; k < f->caches; k++) {
		const struct frag_cache *c = &f->cache[k];

		if (!worth_it(f, c->unused / FRAME) || (*i)--)
			continue;
		snprintf(a->command, sizeof(a->command), "kmmctl shrink %s", c->cache->name);
		snprintf(a->why, sizeof(a->why),
		         "%s of its slabs' memory are places without an object (%" PRIu64 " of %" PRIu64
		         " in use)", table_bytes(unit, c->unused), c->cache->active_objects,
		         c->cache->objects);
		return true;
	}
	return false;
}

/* The i-th zone where large blocks fail because memory lies scattered. */
static bool advise_zone(const struct frag *f, size_t *i, struct frag_advice *a)
{
	for (size_t k = 0; k < f->zones; k++) {
		const struct frag_zone *z = &f->zone[k];
		bool moves = strcmp(z->zone->name, "HighMem") == 0 ||
		             strcmp(z->zone->name, "Movable") == 0;

		if (z->unusable[ORDER_WANTED] < UNUSABLE_MUCH ||
		    !worth_it(f, z->zone->free) || (*i)--)
			continue;
		snprintf(a->command, sizeof(a->command), "%s", moves ? "kmmctl compact" : "");
		snprintf(a->why, sizeof(a->why),
		         "node %" PRIu32 ", zone %s: %d.%d%% of the free memory lie in blocks smaller "
		         "than 2M%s", z->zone->node, z->zone->name, z->unusable[ORDER_WANTED] / 10,
		         z->unusable[ORDER_WANTED] % 10,
		         moves ? "" : "; pages there do not move: vmalloc takes such memory");
		return true;
	}
	return false;
}

/* Memory is short altogether: free or not, little can be had without falling below reserves. */
static bool advise_size(const struct frag *f, struct frag_advice *a)
{
	if (worth_it(f, f->available))
		return false;
	a->command[0] = '\0';
	snprintf(a->why, sizeof(a->why),
	         "%" PRIu64 " of %" PRIu64 " frames are to be had: memory is short, not "
	         "fragmented; kmmctl leaks and kmmctl top show who has it", f->available,
	         f->managed);
	return true;
}

bool frag_advise(const struct frag *f, size_t i, struct frag_advice *ret)
{
	if (advise_drop(f, ret) && i-- == 0)
		return true;
	if (advise_shrink(f, &i, ret) || advise_zone(f, &i, ret))
		return true;
	return advise_size(f, ret) && i == 0;
}
