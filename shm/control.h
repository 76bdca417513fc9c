/* SPDX-License-Identifier: MIT */
/*
 * Control memory: what a domain's members and the daemon share besides the pool itself.
 *
 * Two memfds of 4 KiB shmem a domain. Where things lie follows from three numbers that the daemon
 * tells in its hello, never from anything inside the memory:
 *
 *   words (clients: read-write)                 views (clients: read-only)
 *   +----------------------------------+        +----------------------------------+
 *   | owner words       8 B a frame    |        | struct control_status    4 KiB   |
 *   +----------------------------------+        +----------------------------------+
 *   | struct control_session a session |        | section states  1 B a section    |
 *   +----------------------------------+        +----------------------------------+
 *   | struct magazine   a magazine     |        | page descriptors   8 B a frame   |
 *   +----------------------------------+        +----------------------------------+
 *
 * Every part starts on a page boundary. The descriptors are what libkmm calls struct kmm_page: one
 * 64-bit word a frame, set on the head of a granted block, zero elsewhere:
 *
 *     bits 0..3 kind   4..7 order   8..10 zone   11..13 migrate type   14..21 node   22 cacheable
 *     (slab pages: bits 4..23 cache, 24..55 first owner word of the slab)
 */
#ifndef SHM_CONTROL_H
#define SHM_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "shm/magazine.h"
#include "shm/owner.h"

#define CONTROL_SECTIONS_MAX 1024u
#define CONTROL_VERSION 1u

/* A session's own record. The sweep looks only at the sections whose bit is set here or that the
 * daemon itself granted from; a bit is set before anything in the section is adopted or taken. */
struct control_session {
	_Alignas(64) _Atomic uint64_t section[CONTROL_SECTIONS_MAX / 64];
	_Atomic uint64_t cached_pages; /* what its threads cache, in frames: a hint for reports */
	uint64_t reserved[7];
};
_Static_assert(sizeof(struct control_session) == 192, "three cache lines");

/* Written by the daemon only. */
struct control_status {
	uint32_t version;
	_Atomic uint32_t scarce;   /* not 0 for a while after a request found no memory: who frees
	                              waits until the daemon has the block */
	_Atomic uint64_t epoch;    /* starts of the daemon on this pool */
	_Atomic uint32_t pressure; /* not 0 while a request waits: what is freed goes to the daemon */
	_Atomic uint32_t damaged;  /* a word in the domain made no sense */
	uint8_t uuid[16];
};
_Static_assert(sizeof(struct control_status) == 40, "shared layout");

enum control_section_state {
	CONTROL_SECTION_NONE, /* absent, metadata, or another domain's */
	CONTROL_SECTION_DIRECT, /* mapped at its place in the window */
	CONTROL_SECTION_HIGH,   /* reached by kmap */
};

enum page_kind {
	PAGE_NONE, /* free, or inside a block */
	PAGE_BLOCK,
	PAGE_SLAB,
	PAGE_AREA,
};

#define PAGE_DESC_ORDER_SHIFT 4
#define PAGE_DESC_ZONE_SHIFT 8
#define PAGE_DESC_TYPE_SHIFT 11
#define PAGE_DESC_NODE_SHIFT 14
#define PAGE_DESC_CACHEABLE (UINT64_C(1) << 22)

typedef _Atomic uint64_t page_desc_t;

static inline enum page_kind page_desc_kind(uint64_t d)
{
	return (enum page_kind)(d & 15);
}

static inline unsigned page_desc_order(uint64_t d)
{
	return d >> PAGE_DESC_ORDER_SHIFT & 15;
}

static inline unsigned page_desc_type(uint64_t d)
{
	return d >> PAGE_DESC_TYPE_SHIFT & 7;
}

static inline unsigned page_desc_zone(uint64_t d)
{
	return d >> PAGE_DESC_ZONE_SHIFT & 7;
}

/* What the hello tells; the rest follows. */
struct control_geometry {
	uint64_t frames;        /* of the pool */
	uint32_t section_order; /* log2 of the frames of a section */
	uint32_t sessions;      /* records: ids 1 to sessions - 1 */
	uint32_t magazines;
};

struct control_layout {
	size_t words, sessions, magazines, words_size; /* byte offsets in, size of, the first memfd */
	size_t status, sections, descriptors, views_size;
};

/* -EINVAL when the numbers are out of range or overflow. */
int control_layout_compute(struct control_layout *l, const struct control_geometry *g);

/* Pointers into the two mappings. */
struct control {
	struct control_geometry geometry;
	owner_word_t *word;
	struct control_session *session;
	struct magazine *magazine;
	struct control_status *status;
	_Atomic uint8_t *section;
	page_desc_t *desc;
};
void control_attach(struct control *c, const struct control_geometry *g, void *words, void *views);

/* log2 of the bytes of a granule, in which handles, rounds and messages name places of the pool:
 * 3 up to a pool of 32 GiB, above that the least that makes granule indices fit 32 bits. */
unsigned int control_granule_shift(uint64_t frames);

static inline uint32_t control_granule_of_pfn(unsigned int granule_shift, uint32_t pfn)
{
	return (uint32_t)((uint64_t)pfn << (12 - granule_shift));
}

/* The frame that a granule lies in; not bounded by the pool. */
static inline uint32_t control_pfn_of_granule(unsigned int granule_shift, uint32_t granule)
{
	return (uint32_t)(granule >> (12 - granule_shift));
}

/* ---- classes of page blocks that threads cache ---- */

/* Orders 0 to 3 and 9, three migrate types: class = index of order * 3 + type. */
#define PAGE_CLASS_ORDERS 5u
#define PAGE_CLASSES (PAGE_CLASS_ORDERS * 3)

static inline int page_class_of_order(unsigned order)
{
	return order <= 3 ? (int)order : order == 9 ? 4 : -1;
}

/* -1 when blocks of that order are not cached. */
static inline int page_class(unsigned order, unsigned migratetype)
{
	int o = page_class_of_order(order);

	return o < 0 || migratetype > 2 ? -1 : o * 3 + (int)migratetype;
}

#endif
