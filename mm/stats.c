/* SPDX-License-Identifier: MIT */
/*
 * What the reports show: snapshots of one zone or per-CPU set.
 *
 * The zone's lock is held while its lists' counts are copied (a hundred or so words), so that they
 * agree with each other; counters of other threads are read relaxed and may be a moment old.
 */
#include <string.h>

#include "pcp.h"
#include "watermark.h"

static uint32_t fls(uint64_t x)
{
	return x ? 64 - (uint32_t)__builtin_clzll(x) : 0;
}

static uint32_t stat_threshold(uint32_t cpus, uint64_t managed)
{
	uint32_t t = 2 * fls(cpus) * (1 + fls(managed >> 15));

	return t < 125 ? t : 125;
}

static void add_events(struct mm_zone_stats *s, uint64_t *blocks, const struct zone_events *e)
{
	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
		*blocks += relaxed_load(&e->alloc[o]);
		s->alloc += relaxed_load(&e->alloc[o]) << o;
		s->freed += relaxed_load(&e->freed[o]) << o;
	}
	s->numa_miss += relaxed_load(&e->miss);
	s->numa_foreign += relaxed_load(&e->foreign);
	s->numa_other += relaxed_load(&e->other);
	s->numa_interleave += relaxed_load(&e->interleave);
}

static void copy_lists(const struct zone *z, struct mm_zone_stats *s)
{
	s->free = relaxed_load(&z->nr_free);
	s->free_least = relaxed_load(&z->nr_free_least);
	s->boost = relaxed_load(&z->boost);
	s->nr_highatomic = relaxed_load(&z->nr_reserved_highatomic);
	s->free_isolated = relaxed_load(&z->nr_free_isolated);
	s->fallback = z->fallback;
	s->steal = z->steal;
	s->claim = z->claim;
	for (uint32_t w = 0; w < NR_WMARK; w++)
		s->wmark[w] = zone_wmark(z, (enum zone_watermark)w);
	for (uint32_t t = 0; t < MIGRATE_TYPES; t++) {
		s->pageblocks[t] = z->pageblocks[t];
		for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
			s->nr_free_type[t][o] = z->list[o][t].nr;
			s->nr_free[o] += z->list[o][t].nr;
		}
	}
	for (uint32_t o = PAGEBLOCK_ORDER; o < NR_PAGE_ORDERS; o++)
		s->free_blocks += s->nr_free[o] << o;
}

uint32_t mm_nr_nodes(const struct mm_domain *d)
{
	return d->mm->config.nodes;
}

void mm_zone_stats(const struct mm_domain *d, uint32_t node, enum zone_type zt,
                   struct mm_zone_stats *s)
{
	struct zone *z = domain_zone(d, node, zt);
	uint64_t blocks = 0;

	memset(s, 0, sizeof(*s));
	{
		LOCK_SCOPED(&z->lock);
		copy_lists(z, s);
	}
	s->present = relaxed_load(&z->present);
	s->managed = relaxed_load(&z->managed);
	s->spanned = s->present ? z->span : 0;
	s->start_pfn = s->present ? z->start : 0;
	for (uint32_t j = 0; j < MAX_NR_ZONES; j++)
		s->protection[j] = relaxed_load(&z->reserve[j]);
	add_events(s, &blocks, &z->events);
	for (uint32_t c = 0; z->pcp && c < d->mm->config.cpus; c++)
		add_events(s, &blocks, &z->pcp[c].events);
	s->numa_hit = blocks - s->numa_miss;
	s->numa_local = blocks - s->numa_other;
	s->alloc_fail = relaxed_load(&z->alloc_fail);
	s->stat_threshold = stat_threshold(d->mm->config.cpus, s->managed);
}

void mm_pcp_stats(const struct mm_domain *d, uint32_t node, enum zone_type zt, uint32_t cpu,
                  struct mm_pcp_stats *s)
{
	const struct zone *z = domain_zone(d, node, zt);
	const struct pcp *p;

	memset(s, 0, sizeof(*s));
	if (!z->pcp || cpu >= d->mm->config.cpus)
		return;
	p = &z->pcp[cpu];
	s->count = relaxed_load(&p->count);
	s->high = relaxed_load(&p->high);
	s->batch = relaxed_load(&p->batch);
	s->high_min = relaxed_load(&p->high_min);
	s->high_max = relaxed_load(&p->high_max);
}

uint64_t mm_total_reserve(const struct mm_domain *d)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++) {
		const struct zone *z = &d->zones[i];
		uint64_t most = 0, managed = relaxed_load(&z->managed);

		for (uint32_t j = 0; j < MAX_NR_ZONES; j++)
			if (relaxed_load(&z->reserve[j]) > most)
				most = relaxed_load(&z->reserve[j]);
		most += relaxed_load(&z->wmark[WMARK_HIGH]);
		sum += most < managed ? most : managed;
	}
	return sum;
}

uint64_t mm_nr_free(const struct mm_domain *d)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++)
		sum += relaxed_load(&d->zones[i].nr_free);
	return sum;
}
