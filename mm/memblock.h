/* SPDX-License-Identifier: MIT */
/*
 * The pool before there is an allocator: two short sorted arrays of byte ranges, what is memory
 * and what of it is reserved. Not thread-safe. See memblock.c.
 */
#ifndef MM_MEMBLOCK_H
#define MM_MEMBLOCK_H

#include "types.h"

#define MEMBLOCK_MAX_REGIONS 128u

struct memblock_region {
	uint64_t base;
	uint64_t size; /* bytes */
	uint32_t nid;  /* of memory; 0 for what is reserved */
	char name[32]; /* of what is reserved; "" for memory */
};

struct memblock_type {
	const char *name; /* "memory" or "reserved" */
	uint32_t nr;
	struct memblock_region regions[MEMBLOCK_MAX_REGIONS];
};

struct memblock {
	struct memblock_type memory;
	struct memblock_type reserved;
};

void memblock_init(struct memblock *mb);

/* Adds [base, base + size). -EINVAL: empty or beyond 2^64; -EEXIST: overlaps a region of the same
 * array; -ENOSPC: the array is full. Memory regions that touch merge when they are of one node,
 * reserved ones when they have one name (longer names are cut to 31 bytes). */
int memblock_add(struct memblock *mb, uint64_t base, uint64_t size, uint32_t nid);
int memblock_reserve(struct memblock *mb, uint64_t base, uint64_t size, const char *name);

/* Reserves `size` bytes at the highest address that is a multiple of `align` (a power of two) in
 * free memory. -ENOMEM: no free range is large enough; else as memblock_reserve(). */
int memblock_alloc(struct memblock *mb, uint64_t size, uint64_t align, const char *name,
                   uint64_t *base);

/* The next range of memory that is not reserved, at or above *cursor (0 to begin); moves the
 * cursor behind it. Ranges end at region borders, so that neighbours of two nodes come apart.
 * False: there is none. */
bool memblock_next_free(const struct memblock *mb, uint64_t *cursor, uint64_t *base,
                        uint64_t *size);

#endif
