/* SPDX-License-Identifier: MIT */
/* Watermarks and reserves: see watermark.c. */
#ifndef MM_WATERMARK_H
#define MM_WATERMARK_H

#include "zone.h"

/* Computes every zone's watermarks and reserves from the managed frames. Hotplug lock. */
void watermark_setup(struct mm_domain *d);
/* min_free_kbytes for that much low memory. */
uint64_t watermark_min_free_kbytes(uint64_t lowmem_kbytes);
/* A pageblock was claimed in parts: raises the zone's boost. False when it is too small. Lock. */
bool watermark_boost(struct zone *z);
/* One step of the boost's decay. */
void watermark_decay(struct zone *z);

/* With the boost, as everybody reads them. */
static inline uint64_t zone_wmark(const struct zone *z, enum zone_watermark w)
{
	return relaxed_load(&z->wmark[w]) + relaxed_load(&z->boost);
}

/* How deep a request may go once it has met the low watermarks: enum alloc_flags. */
static inline uint32_t alloc_flags_of(gfp_t gfp, uint32_t order)
{
	uint32_t flags = 0;

	if (gfp & __GFP_KSWAPD_RECLAIM)
		flags |= ALLOC_KSWAPD;
	if (gfp & __GFP_HIGH)
		flags |= ALLOC_MIN_RESERVE;
	if (!(gfp & (__GFP_DIRECT_RECLAIM | __GFP_NOMEMALLOC))) {
		flags |= ALLOC_NON_BLOCK;
		if (order > 0 && (gfp & __GFP_HIGH))
			flags |= ALLOC_HIGHATOMIC;
	}
	return flags;
}

/* A block of that order would leave `mark` frames and the class's reserve, and exists. */
bool zone_watermark_ok(const struct zone *z, uint32_t order, uint64_t mark, uint32_t zone_class,
                       uint32_t flags);

/* The same without any reserve, at a glance: false may also mean that it takes a closer look. */
static inline bool zone_watermark_clear(const struct zone *z, uint32_t order, enum zone_watermark w,
                                        uint32_t zone_class)
{
	uint64_t need = zone_wmark(z, w) + relaxed_load(&z->reserve[zone_class]) +
	                relaxed_load(&z->nr_free_special);

	if (order == 0)
		return relaxed_load(&z->nr_free) > need;
	return relaxed_load(&z->nr_free) > need + ((uint64_t)1 << order) &&
	       (relaxed_load(&z->nonempty[MIGRATE_UNMOVABLE]) |
	        relaxed_load(&z->nonempty[MIGRATE_MOVABLE])) >> order != 0;
}

/* The same; most requests pass by the first comparison. */
static inline bool zone_watermark_fast(const struct zone *z, uint32_t order, enum zone_watermark w,
                                       uint32_t zone_class, uint32_t flags)
{
	uint64_t mark = zone_wmark(z, w);

	if (order == 0) {
		uint64_t need = mark + relaxed_load(&z->reserve[zone_class]);

		/* what nobody is given is as good as allocated */
		need += relaxed_load(flags & ALLOC_RESERVES ? &z->nr_free_isolated :
		                                              &z->nr_free_special);
		if (__builtin_expect(relaxed_load(&z->nr_free) > need, 1))
			return true;
	}
	if (zone_watermark_ok(z, order, mark, zone_class, flags))
		return true;
	/* the boost is there to make reclaim work harder, not to fail those that cannot wait */
	if (order == 0 && w == WMARK_MIN && (flags & ALLOC_MIN_RESERVE) && relaxed_load(&z->boost))
		return zone_watermark_ok(z, order, relaxed_load(&z->wmark[w]), zone_class, flags);
	return false;
}

#endif
