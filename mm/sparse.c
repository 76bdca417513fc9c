/* SPDX-License-Identifier: MIT */
/*
 * Sections: the unit in which memory exists, is protected, and changes hands.
 *
 * Concept: the pool is an array of equal sections. What a section is at the moment (absent, in
 * reserve, online in a domain, metadata, retired) is one persistent word, changed by one store.
 * Where it lies, that is its node and zone, and how many of its frames are memory and not reserved
 * follows from the configuration and memblock, and never changes while the pool lives.
 *
 * Geometry: node n owns sections [S*n/N, S*(n+1)/N). Zone borders are rounded up to sections, so a
 * section has one node and one zone, and as a section is a power of two of at least the largest
 * block, no block ever crosses a section, zone or node. Sections at the top of the pool in which
 * every frame is reserved hold metadata and lie outside all zones.
 *
 * Locking: words are atomic; who may change one is the callers' business (one at a time a section).
 * Complexity: O(1), sparse_init() O(frames).
 */
#include <errno.h>
#include <string.h>

#include "memblock.h"
#include "sparse.h"

enum zone_type sparse_zone_of(const struct mm_config *c, uint64_t pfn)
{
	uint64_t frames = (uint64_t)1 << c->section_order;
	/* the section's start is what counts: borders inside a section move to its end */
	uint64_t start = pfn & ~(frames - 1);

	if (start >= c->movable_start)
		return ZONE_MOVABLE;
	if (start >= c->highmem_start)
		return ZONE_HIGHMEM;
	if (start < c->dma_end)
		return ZONE_DMA;
	if (start < c->dma32_end)
		return ZONE_DMA32;
	return ZONE_NORMAL;
}

static void range_frames(uint64_t base, uint64_t size, uint64_t limit, uint64_t *first,
                         uint64_t *end)
{
	*first = (base >> PAGE_SHIFT) + ((base & ((1u << PAGE_SHIFT) - 1)) != 0);
	*end = (base + size) >> PAGE_SHIFT;
	if (*end > limit)
		*end = limit;
}

static void geometry_count(struct mm *mm, const struct memblock *mb)
{
	uint64_t frames = mm->config.frames, first, end, cursor = 0, base, size;

	memset(mm->unmanaged, 0xff, (frames + 63) / 64 * 8);
	while (memblock_next_free(mb, &cursor, &base, &size)) {
		range_frames(base, size, frames, &first, &end);
		for (uint64_t pfn = first; pfn < end; pfn++) {
			mm->unmanaged[pfn / 64] &= ~((uint64_t)1 << (pfn % 64));
			mm->geometry[pfn >> mm->config.section_order].managed++;
		}
	}
	for (uint32_t i = 0; i < mb->memory.nr; i++) {
		const struct memblock_region *m = &mb->memory.regions[i];

		range_frames(m->base, m->size, frames, &first, &end);
		while (first < end) {
			uint64_t s = first >> mm->config.section_order;
			uint64_t stop = (s + 1) << mm->config.section_order;

			if (stop > end)
				stop = end;
			mm->geometry[s].present += (uint32_t)(stop - first);
			first = stop;
		}
	}
}

/* The order of the largest block that fits [start, end) by alignment, plus one. */
static uint32_t range_max_order(uint64_t start, uint64_t end)
{
	for (uint32_t order = NR_PAGE_ORDERS; order-- > 0;) {
		uint64_t size = (uint64_t)1 << order;

		if (((start + size - 1) & ~(size - 1)) + size <= end)
			return order + 1;
	}
	return 0;
}

static uint32_t geometry_max_order(const struct mm *mm, section_id_t s)
{
	pfn_t pfn = mm_section_start(mm, s), end = pfn + (1u << mm->config.section_order);
	uint32_t largest = 0;

	while (pfn < end) {
		uint32_t order;
		pfn_t first;

		while (pfn < end && !mm_frame_managed(mm, pfn))
			pfn += mm->unmanaged[pfn / 64] == UINT64_MAX ? 64 - pfn % 64 : 1;
		first = pfn;
		while (pfn < end && mm_frame_managed(mm, pfn))
			pfn += mm->unmanaged[pfn / 64] == 0 ? 64 - pfn % 64 : 1;
		order = range_max_order(first, pfn);
		if (order > largest)
			largest = order;
	}
	return largest;
}

int sparse_init(struct mm *mm, const struct memblock *mb)
{
	const struct mm_config *c = &mm->config;

	for (uint32_t i = 0; i < mb->memory.nr; i++)
		if (mb->memory.regions[i].nid >= c->nodes)
			return -EINVAL;
	geometry_count(mm, mb);
	for (uint32_t n = 0; n < c->nodes; n++) {
		uint64_t first = (uint64_t)mm->nr_sections * n / c->nodes;
		uint64_t end = (uint64_t)mm->nr_sections * (n + 1) / c->nodes;

		for (uint64_t s = first; s < end; s++)
			mm->geometry[s].node = (uint8_t)n;
	}
	mm->zones_end = mm->nr_sections;
	while (mm->zones_end > 0 && mm->geometry[mm->zones_end - 1].managed == 0)
		mm->zones_end--;

	for (uint32_t s = 0; s < mm->nr_sections; s++) {
		struct section_geometry *g = &mm->geometry[s];

		g->zone = (uint8_t)sparse_zone_of(c, (uint64_t)s << c->section_order);
		g->max_order = geometry_max_order(mm, (section_id_t){ s });
		mm->section_zone[s] = (uint16_t)(g->node * MAX_NR_ZONES + g->zone);
		/* a section that was taken out says so by a word that is not 0 */
		if (sparse_section_word(mm, (section_id_t){ s }) != 0 || g->present == 0)
			continue;
		mm_section_set(mm, (section_id_t){ s },
		               g->managed ? SECTION_RESERVE : SECTION_METADATA, 0, 0, 0);
	}
	return 0;
}

uint64_t sparse_section_word(const struct mm *mm, section_id_t s)
{
	/* acquire pairs with the release in mm_section_set() */
	return atomic_load_explicit(&mm->section[s.nr], memory_order_acquire);
}

uint32_t mm_nr_sections(const struct mm *mm)
{
	return mm->nr_sections;
}

void mm_section_get(const struct mm *mm, section_id_t s, struct section_info *info)
{
	uint64_t w = sparse_section_word(mm, s);

	*info = (struct section_info){
		.state = (enum section_state)section_word_state(w),
		.domain = section_word_domain(w),
		.backing = (uint8_t)(w >> SECTION_BACKING_SHIFT & SECTION_BACKING_MASK),
		.node = mm->geometry[s.nr].node,
		.zone = mm->geometry[s.nr].zone,
		.epoch = (uint32_t)(w >> SECTION_EPOCH_SHIFT),
	};
}

void mm_section_set(struct mm *mm, section_id_t s, enum section_state state, uint32_t domain,
                    uint8_t backing, uint32_t epoch)
{
	if (state != SECTION_ONLINE)
		domain = 0;

	uint64_t w = (uint64_t)state | (uint64_t)(domain & SECTION_DOMAIN_MASK)
	                                       << SECTION_DOMAIN_SHIFT |
	             (uint64_t)backing << SECTION_BACKING_SHIFT |
	             (uint64_t)epoch << SECTION_EPOCH_SHIFT;

	/* release pairs with the acquire in sparse_section_word() */
	atomic_store_explicit(&mm->section[s.nr], w, memory_order_release);
}

section_id_t mm_section_of(const struct mm *mm, pfn_t pfn)
{
	return (section_id_t){ pfn >> mm->config.section_order };
}

pfn_t mm_section_start(const struct mm *mm, section_id_t s)
{
	return (pfn_t)((uint64_t)s.nr << mm->config.section_order);
}
