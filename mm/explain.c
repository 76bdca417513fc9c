/* SPDX-License-Identifier: MIT */
/*
 * Why a request could not be met.
 *
 * The path of an allocation (page_alloc.c) asks each zone of its list the same question, first at the
 * low watermark, in the end at the deepest that the request may go to. Here the last one is asked once
 * more, by the same functions, and the answer is taken apart:
 *
 *   SMALL      the zone never had such a block, or all of its frames would not do
 *   BELOW      free - 2^order + 1 <= mark: memory is short
 *   NO_BLOCK   enough is free, but in smaller blocks: memory is scattered, more or less, which
 *              fragmentation_index() of Linux's mm/vmstat.c says in thousandths
 *   SERVES     none of these: it was so a moment ago
 *
 * Locking: a zone's lock while its lists are counted, one zone after the other. Complexity: O(zones).
 */
#include "explain.h"

#include "watermark.h"

int mm_fragmentation_index(const uint32_t nr_free[NR_PAGE_ORDERS], uint32_t order)
{
	uint64_t frames = 0, blocks = 0;

	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++) {
		frames += (uint64_t)nr_free[o] << o;
		blocks += nr_free[o];
		if (o >= order && nr_free[o])
			return MM_INDEX_SUITABLE;
	}
	return blocks ? 1000 - (int)((1000 + (frames * 1000 >> order)) / blocks) : 0;
}

/* The share of the min watermark that the request must leave: as zone_watermark_ok() has it. */
static uint64_t mark_of(uint64_t min, uint32_t flags)
{
	if (flags & ALLOC_MIN_RESERVE)
		min -= min / 2;
	if ((flags & ALLOC_MIN_RESERVE) && (flags & ALLOC_NON_BLOCK))
		min -= min / 4;
	return min;
}

static enum mm_verdict judge(const struct zone *z, const struct mm_zone_look *l, uint32_t order,
                             uint32_t class, uint32_t flags)
{
	/* without the boost, which goes by itself */
	uint64_t least = mark_of(relaxed_load(&z->wmark[WMARK_MIN]), flags) + l->protection;
	uint64_t usable = l->free, kept = ((uint64_t)1 << order) - 1;

	if (relaxed_load(&z->max_order) <= order || l->managed < least + ((uint64_t)1 << order))
		return MM_ZONE_SMALL;
	if (zone_watermark_ok(z, order, zone_wmark(z, WMARK_MIN), class, flags))
		return MM_ZONE_SERVES;
	if (!(flags & ALLOC_RESERVES))
		kept += l->highatomic;
	return usable <= l->mark + kept ? MM_ZONE_BELOW : MM_ZONE_NO_BLOCK;
}

static void look_at(struct zone *z, uint32_t order, uint32_t class, uint32_t flags,
                    struct mm_zone_look *l)
{
	LOCK_SCOPED(&z->lock);

	*l = (struct mm_zone_look){
		.node = z->node,
		.zone = z->index,
		.free = (uint32_t)(relaxed_load(&z->nr_free) -
		                   relaxed_load(&z->nr_free_isolated)),
		.managed = (uint32_t)relaxed_load(&z->managed),
		.protection = (uint32_t)relaxed_load(&z->reserve[class]),
		.min = (uint32_t)zone_wmark(z, WMARK_MIN),
		.low = (uint32_t)zone_wmark(z, WMARK_LOW),
		.high = (uint32_t)zone_wmark(z, WMARK_HIGH),
		.highatomic = (uint32_t)zone_free_highatomic(z),
	};
	l->mark = (uint32_t)mark_of(l->min, flags) + l->protection;
	for (uint32_t o = 0; o < NR_PAGE_ORDERS; o++)
		for (uint32_t t = 0; t < MIGRATE_ISOLATE; t++)
			l->nr_free[o] += z->list[o][t].nr;
	l->verdict = (uint8_t)judge(z, l, order, class, flags);
}

static uint32_t node_of(const struct mm_domain *d, const struct mm_request *r)
{
	if (r->node != MM_NODE_ANY)
		return r->node - 1;
	return r->cpu < d->mm->config.cpus ? d->mm->cpu_node[r->cpu] : 0;
}

uint32_t mm_request_look(const struct mm_domain *d, const struct mm_request *r,
                         struct mm_zone_look look[], uint32_t n)
{
	uint32_t class = gfp_zone(r->gfp), flags = alloc_flags_of(r->gfp, r->order), found = 0;
	uint32_t kind = r->gfp & __GFP_THISNODE ? ZONELIST_NOFALLBACK : ZONELIST_FALLBACK;
	const struct zonelist *l;
	const char *why;

	if (mm_request_check(r, &why) < 0 || r->node > d->mm->config.nodes)
		return 0;
	l = &d->lists[node_of(d, r) * MAX_ZONELISTS + kind];
	for (uint32_t i = l->first[class]; i < l->nr; i++) {
		struct zone *z = l->zone[i];

		if (z->index > class || z->index < r->lowest || relaxed_load(&z->managed) == 0)
			continue;
		if (found < n)
			look_at(z, r->order, class, flags, &look[found]);
		found++;
	}
	return found;
}
