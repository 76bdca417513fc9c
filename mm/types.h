/* SPDX-License-Identifier: MIT */
/*
 * The words that every file of mm/ shares: frames, orders, zones, migrate types.
 *
 * A pool is addressed by frame number (pfn = pool address >> 12). Links between the objects of mm/
 * are frame numbers, never pointers, so that the state can be mapped at any address and outlive the
 * process that wrote it. Names and values are Linux's (include/linux/mmzone.h).
 */
#ifndef MM_TYPES_H
#define MM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t pfn_t;
#define PFN_NONE ((pfn_t)UINT32_MAX)

typedef struct {
	uint32_t nr;
} section_id_t;

#define PAGE_SHIFT 12
#define MAX_PAGE_ORDER 10u /* inclusive, as since Linux 6.4 */
#define NR_PAGE_ORDERS (MAX_PAGE_ORDER + 1)
#define PAGEBLOCK_ORDER 9u
#define PAGEBLOCK_NR_PAGES (1u << PAGEBLOCK_ORDER)
#define PAGE_ALLOC_COSTLY_ORDER 3u

#define MAX_NODES 64u /* nodes a pool may be divided into */
#define MAX_CPUS 256u /* sets of per-CPU page lists: one a reactor */
#define MAX_SECTIONS 1024u

enum zone_type {
	ZONE_DMA,
	ZONE_DMA32,
	ZONE_NORMAL,
	ZONE_HIGHMEM,
	ZONE_MOVABLE,
	MAX_NR_ZONES,
};

enum migratetype {
	MIGRATE_UNMOVABLE,
	MIGRATE_MOVABLE,
	MIGRATE_RECLAIMABLE,
	MIGRATE_PCPTYPES, /* the types above have per-CPU lists */
	MIGRATE_HIGHATOMIC = MIGRATE_PCPTYPES,
	MIGRATE_ISOLATE,
	MIGRATE_TYPES,
};

extern const char *const zone_names[MAX_NR_ZONES];      /* "DMA" … "Movable" */
extern const char *const migratetype_names[MIGRATE_TYPES]; /* "Unmovable" … "Isolate" */

#endif
