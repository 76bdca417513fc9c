/* SPDX-License-Identifier: MIT */
/*
 * GFP flags: what a request for memory promises and permits.
 *
 * Values are Linux's long-standing ones and part of the wire protocol. Four low bits choose the
 * highest zone that may serve the request, two the migrate type; the rest says how far the
 * allocator may go for it. A promise is noted as such: the allocator relies on it.
 */
#ifndef MM_GFP_H
#define MM_GFP_H

#include "types.h"

typedef uint32_t gfp_t;

/* zone: at most one of DMA, HIGHMEM, DMA32 */
#define __GFP_DMA ((gfp_t)0x00000001u)
#define __GFP_HIGHMEM ((gfp_t)0x00000002u)
#define __GFP_DMA32 ((gfp_t)0x00000004u)
/* mobility: promises that the holder bears migration (MOVABLE, not at the same time RECLAIMABLE)
 * or gives the memory back on demand (RECLAIMABLE) */
#define __GFP_MOVABLE ((gfp_t)0x00000008u)
#define __GFP_RECLAIMABLE ((gfp_t)0x00000010u)
/* may use half of the min reserve */
#define __GFP_HIGH ((gfp_t)0x00000020u)
/* what reclaim on its behalf may do in Linux (IO: write, FS: call back); without effect here */
#define __GFP_IO ((gfp_t)0x00000040u)
#define __GFP_FS ((gfp_t)0x00000080u)
/* zeroed; done by whoever maps the block, never here */
#define __GFP_ZERO ((gfp_t)0x00000100u)
/* the caller may wait; background reclaim may be woken */
#define __GFP_DIRECT_RECLAIM ((gfp_t)0x00000400u)
#define __GFP_KSWAPD_RECLAIM ((gfp_t)0x00000800u)
#define __GFP_WRITE ((gfp_t)0x00001000u)
#define __GFP_NOWARN ((gfp_t)0x00002000u)
#define __GFP_RETRY_MAYFAIL ((gfp_t)0x00004000u)
#define __GFP_NOFAIL ((gfp_t)0x00008000u)
#define __GFP_NORETRY ((gfp_t)0x00010000u)
/* promises that more memory is freed soon than is taken: no watermark; NOMEMALLOC overrides */
#define __GFP_MEMALLOC ((gfp_t)0x00020000u)
#define __GFP_COMP ((gfp_t)0x00040000u)
#define __GFP_NOMEMALLOC ((gfp_t)0x00080000u)
#define __GFP_HARDWALL ((gfp_t)0x00100000u)
/* no other node than the preferred one */
#define __GFP_THISNODE ((gfp_t)0x00200000u)
#define __GFP_ACCOUNT ((gfp_t)0x00400000u)

#define __GFP_RECLAIM (__GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM)
#define __GFP_WAIT __GFP_RECLAIM /* its name before Linux 4.4 */

#define GFP_KERNEL (__GFP_RECLAIM | __GFP_IO | __GFP_FS)
#define GFP_ATOMIC (__GFP_HIGH | __GFP_KSWAPD_RECLAIM)
#define GFP_NOWAIT (__GFP_KSWAPD_RECLAIM | __GFP_NOWARN)
#define GFP_NOIO __GFP_RECLAIM
#define GFP_NOFS (__GFP_RECLAIM | __GFP_IO)
#define GFP_USER (GFP_KERNEL | __GFP_HARDWALL)
#define GFP_DMA __GFP_DMA
#define GFP_DMA32 __GFP_DMA32
#define GFP_HIGHUSER (GFP_USER | __GFP_HIGHMEM)
#define GFP_HIGHUSER_MOVABLE (GFP_HIGHUSER | __GFP_MOVABLE)

#define GFP_ZONEMASK ((gfp_t)0x0fu)
#define GFP_MOVABLE_MASK (__GFP_MOVABLE | __GFP_RECLAIMABLE)
#define GFP_MOVABLE_SHIFT 3
#define GFP_ALL ((gfp_t)0x007ffdffu)

#define GFP_ZONE_BAD 7u

/* Four bits a row, by the zone bits: the zone class (highest zone allowed), 7 where two of DMA,
 * HIGHMEM and DMA32 meet. Rows: none, DMA, HIGHMEM, DMA+HIGHMEM, DMA32, … then with MOVABLE. */
#define GFP_ZONE_ROW(bits, zone) ((uint64_t)(zone) << ((bits)*4u))
#define GFP_ZONE_TABLE                                                                             \
	(GFP_ZONE_ROW(0x0u, ZONE_NORMAL) | GFP_ZONE_ROW(0x1u, ZONE_DMA) |                          \
	 GFP_ZONE_ROW(0x2u, ZONE_HIGHMEM) | GFP_ZONE_ROW(0x3u, GFP_ZONE_BAD) |                     \
	 GFP_ZONE_ROW(0x4u, ZONE_DMA32) | GFP_ZONE_ROW(0x5u, GFP_ZONE_BAD) |                       \
	 GFP_ZONE_ROW(0x6u, GFP_ZONE_BAD) | GFP_ZONE_ROW(0x7u, GFP_ZONE_BAD) |                     \
	 GFP_ZONE_ROW(0x8u, ZONE_NORMAL) | GFP_ZONE_ROW(0x9u, ZONE_DMA) |                          \
	 GFP_ZONE_ROW(0xau, ZONE_MOVABLE) | GFP_ZONE_ROW(0xbu, GFP_ZONE_BAD) |                     \
	 GFP_ZONE_ROW(0xcu, ZONE_DMA32) | GFP_ZONE_ROW(0xdu, GFP_ZONE_BAD) |                       \
	 GFP_ZONE_ROW(0xeu, GFP_ZONE_BAD) | GFP_ZONE_ROW(0xfu, GFP_ZONE_BAD))

/* The zone class, or GFP_ZONE_BAD. */
static inline uint32_t gfp_zone(gfp_t gfp)
{
	return (uint32_t)(GFP_ZONE_TABLE >> ((gfp & GFP_ZONEMASK) * 4)) & 0xfu;
}

/* The migrate type, or 3 (MIGRATE_PCPTYPES) where MOVABLE and RECLAIMABLE meet. */
static inline uint32_t gfp_migratetype(gfp_t gfp)
{
	return (gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT;
}

#endif
