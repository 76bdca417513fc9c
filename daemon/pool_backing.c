/* SPDX-License-Identifier: MIT */
/*
 * What each section of the pool lies on.
 *
 * The pool has a backing (backing.c), and a zone may have one of its own, by the configuration:
 *
 *   metadata             as the pool
 *   HighMem, Movable     4 KiB pages, because they are mapped page by page; or as they are told
 *   DMA, DMA32, Normal   as the pool; or as they are told
 *
 * A zone begins and ends between sections, so a section has one backing. It can be told again from the
 * superblock, whose word for it has the pool's in the low byte and three bits for each zone, 0 where
 * the zone has none of its own.
 */
#include <string.h>

#include "daemon/backing.h"
#include "daemon/options.h"
#include "daemon/pool_private.h"
#include "mm/sparse.h"

#define GIB (UINT64_C(1) << 30)

void pool_zone_backings(struct pool_geometry *g, const struct options *o)
{
	const enum shm_backing set[MAX_NR_ZONES] = {
		[ZONE_DMA] = o->dma_backing,
		[ZONE_DMA32] = o->dma32_backing,
		[ZONE_NORMAL] = o->normal_backing,
		[ZONE_HIGHMEM] = o->highmem_backing,
		[ZONE_MOVABLE] = o->movable_backing,
	};
	unsigned int zone;

	for (zone = 0; zone < MAX_NR_ZONES; zone++) {
		g->zone_backing[zone] = set[zone];
		if (set[zone] == SHM_HUGETLB_2M && o->huge_page_size == GIB)
			g->zone_backing[zone] = SHM_HUGETLB_1G;
		if (zone >= ZONE_HIGHMEM && set[zone] == SHM_4K)
			g->zone_backing[zone] = SHM_AUTO; /* which it is for these */
	}
}

enum shm_backing pool_section_backing(const struct pool_geometry *g, uint32_t section,
                                      enum shm_backing b)
{
	enum zone_type zone;

	if (section >= g->first_metadata)
		return b;
	zone = sparse_zone_of(&g->mm, (uint64_t)section << g->mm.section_order);
	if (g->zone_backing[zone] != SHM_AUTO)
		return g->zone_backing[zone];
	return section >= g->first_high ? SHM_4K : b;
}

void pool_backing_need(const struct pool_geometry *g, struct backing_need *need)
{
	uint32_t s;

	need->small = need->thp = need->huge = 0;
	for (s = 0; s < g->first_metadata; s++)
		switch (pool_section_absent(g, s) ? SHM_AUTO : pool_section_backing(g, s, SHM_AUTO)) {
		case SHM_HUGETLB_2M:
		case SHM_HUGETLB_1G:
			need->huge += g->section_size;
			break;
		case SHM_THP:
			need->thp += g->section_size;
			break;
		case SHM_4K:
			need->small += g->section_size;
			break;
		default: /* as the pool's, or absent */
			break;
		}
}

#define BACKING_ZONE_SHIFT 8u
#define BACKING_ZONE_BITS 3u
_Static_assert(SHM_NR_BACKINGS <= 1u << BACKING_ZONE_BITS &&
                       BACKING_ZONE_SHIFT + MAX_NR_ZONES * BACKING_ZONE_BITS <= 32,
               "they fit the word");

uint32_t pool_backing_pack(const struct pool_geometry *g, enum shm_backing b)
{
	uint32_t word = (uint32_t)b;
	unsigned int zone;

	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		word |= (uint32_t)g->zone_backing[zone]
			<< (BACKING_ZONE_SHIFT + zone * BACKING_ZONE_BITS);
	return word;
}

bool pool_backing_unpack(uint32_t word, enum shm_backing zone[MAX_NR_ZONES])
{
	uint32_t rest = word >> BACKING_ZONE_SHIFT;
	unsigned int z;

	for (z = 0; z < MAX_NR_ZONES; z++) {
		zone[z] = (enum shm_backing)(rest & ((1u << BACKING_ZONE_BITS) - 1));
		if (zone[z] >= SHM_NR_BACKINGS)
			return false;
		rest >>= BACKING_ZONE_BITS;
	}
	return !rest && SUPERBLOCK_BACKING(word) != SHM_AUTO &&
	       SUPERBLOCK_BACKING(word) < SHM_NR_BACKINGS;
}

/* ---- what it really lies on ---- */

bool pool_zones_differ(const struct pool_geometry *g)
{
	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		if (g->zone_backing[zone] != SHM_AUTO)
			return true;
	return false;
}

enum shm_backing pool_section_tag(const struct pool *p, const struct pool_geometry *g,
                                  uint32_t section, enum shm_backing b,
                                  const uint64_t bytes[SHM_NR_BACKINGS])
{
	enum shm_backing is = pool_section_backing(g, section, b);
	uint64_t b4k, b2m, b1g;

	if (is != SHM_THP || pool_section_absent(g, section) ||
	    (bytes && !pool_zones_differ(g) && bytes[SHM_4K] == pool_high_bytes(g)))
		return is;
	if (shm_page_sizes(p->window + section * g->section_size, g->section_size, &b4k, &b2m,
	                   &b1g) < 0)
		return SHM_4K;
	return b2m == g->section_size ? SHM_THP : SHM_4K;
}

/* The kernel tells it of a range, and slowly: once for each run of sections alike. */
static void account_run(const struct pool *p, const struct pool_geometry *g, uint32_t first,
                        uint32_t end, enum shm_backing is, uint64_t bytes[SHM_NR_BACKINGS])
{
	uint64_t all = (end - first) * g->section_size, b4k, b2m, b1g;

	if (is != SHM_THP) {
		bytes[is] += all;
		return;
	}
	if (shm_page_sizes(p->window + first * g->section_size, all, &b4k, &b2m, &b1g) < 0)
		b2m = 0;
	bytes[SHM_THP] += b2m;
	bytes[SHM_4K] += all - b2m;
}

void pool_backing_account(const struct pool *p, const struct pool_geometry *g, enum shm_backing b,
                          uint64_t bytes[SHM_NR_BACKINGS])
{
	uint32_t first, end;

	memset(bytes, 0, SHM_NR_BACKINGS * sizeof(bytes[0]));
	for (first = 0; first < g->nr_sections; first = end) {
		enum shm_backing is = pool_section_backing(g, first, b);
		bool absent = pool_section_absent(g, first);

		for (end = first + 1; end < g->nr_sections; end++)
			if (pool_section_backing(g, end, b) != is || pool_section_absent(g, end) != absent)
				break;
		if (!absent)
			account_run(p, g, first, end, is, bytes);
	}
}

uint64_t pool_present(const struct pool *p)
{
	struct section_info info;
	uint64_t n = 0;

	for (uint32_t s = 0; s < p->nr_sections; s++) {
		mm_section_get(p->mm, (section_id_t){ s }, &info);
		n += info.state != SECTION_ABSENT;
	}
	return n << p->section_order;
}

void pool_backing_get(const struct pool *p, struct pool_backing *ret)
{
	uint64_t bytes[SHM_NR_BACKINGS] = { 0 }, section = UINT64_C(1) << (p->section_order + PAGE_SHIFT);
	uint32_t word = p->superblock->backing;
	struct section_info info;

	for (uint32_t s = 0; s < p->nr_sections; s++) {
		mm_section_get(p->mm, (section_id_t){ s }, &info);
		if (info.state != SECTION_ABSENT)
			bytes[info.backing > SHM_AUTO && info.backing < SHM_NR_BACKINGS ? info.backing :
			                                                                 SHM_4K] += section;
	}
	ret->bytes_4k = bytes[SHM_4K];
	ret->bytes_2m = bytes[SHM_HUGETLB_2M] + bytes[SHM_THP];
	ret->bytes_1g = bytes[SHM_HUGETLB_1G];
	if (word >> BACKING_ZONE_SHIFT)
		backing_describe_mixed(ret->text, sizeof(ret->text), bytes[SHM_4K], bytes[SHM_THP],
		                       bytes[SHM_HUGETLB_2M], bytes[SHM_HUGETLB_1G]);
	else
		backing_describe(ret->text, sizeof(ret->text), SUPERBLOCK_BACKING(word), ret->bytes_4k,
		                 ret->bytes_2m, ret->bytes_1g);
}

uint32_t pool_map_shift_of(const struct pool_geometry *g, enum shm_backing b)
{
	uint32_t shift = 12;

	for (uint32_t s = 0; s < g->first_high; s++) {
		enum shm_backing is = pool_section_backing(g, s, b);
		uint32_t of = is == SHM_HUGETLB_1G ? 30 : is == SHM_HUGETLB_2M ? 21 : 12;

		if (of > shift)
			shift = of;
	}
	return shift;
}
