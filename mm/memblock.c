/* SPDX-License-Identifier: MIT */
/*
 * memblock: the boot-time map of the pool.
 *
 * Concept: before zones exist somebody must know where memory is and must be able to set some of
 * it aside for the tables of the allocator proper. Two arrays of regions do: `memory` is what
 * there is, `reserved` what must not be handed out; free = memory minus reserved. When the zones
 * have taken over the free frames the map has done its work and is only looked at.
 *
 * Structure: each array is sorted by base and free of overlaps. Neighbours merge when they are
 * alike (one node; one name), so the arrays stay short and 128 entries suffice.
 *
 * Invariants: base + size does not overflow; size > 0; regions[i].end <= regions[i+1].base.
 *
 * Locking: none, one thread at start. Complexity: O(regions) for everything.
 */
#include <errno.h>
#include <string.h>

#include "memblock.h"

static uint64_t region_end(const struct memblock_region *r)
{
	return r->base + r->size;
}

static bool region_alike(const struct memblock_region *a, const struct memblock_region *b)
{
	return a->nid == b->nid && strcmp(a->name, b->name) == 0;
}

static void type_remove(struct memblock_type *t, uint32_t i)
{
	memmove(&t->regions[i], &t->regions[i + 1], (t->nr - i - 1) * sizeof(t->regions[0]));
	t->nr--;
}

static int type_insert(struct memblock_type *t, const struct memblock_region *n)
{
	uint32_t i = 0;

	while (i < t->nr && t->regions[i].base < n->base)
		i++;
	if (i < t->nr && region_end(n) > t->regions[i].base)
		return -EEXIST;
	if (i > 0 && region_end(&t->regions[i - 1]) > n->base)
		return -EEXIST;

	bool below = i > 0 && region_end(&t->regions[i - 1]) == n->base &&
	             region_alike(&t->regions[i - 1], n);
	bool above = i < t->nr && region_end(n) == t->regions[i].base &&
	             region_alike(&t->regions[i], n);

	if (below) {
		t->regions[i - 1].size += n->size;
		if (above) {
			t->regions[i - 1].size += t->regions[i].size;
			type_remove(t, i);
		}
		return 0;
	}
	if (above) {
		t->regions[i].base = n->base;
		t->regions[i].size += n->size;
		return 0;
	}
	if (t->nr == MEMBLOCK_MAX_REGIONS)
		return -ENOSPC;
	memmove(&t->regions[i + 1], &t->regions[i], (t->nr - i) * sizeof(t->regions[0]));
	t->regions[i] = *n;
	t->nr++;
	return 0;
}

static int type_add(struct memblock_type *t, uint64_t base, uint64_t size, uint32_t nid,
                    const char *name)
{
	struct memblock_region n = { .base = base, .size = size, .nid = nid };
	uint64_t end;

	if (size == 0 || __builtin_add_overflow(base, size, &end))
		return -EINVAL;
	if (name)
		memcpy(n.name, name, strnlen(name, sizeof(n.name) - 1));
	return type_insert(t, &n);
}

void memblock_init(struct memblock *mb)
{
	memset(mb, 0, sizeof(*mb));
	mb->memory.name = "memory";
	mb->reserved.name = "reserved";
}

int memblock_add(struct memblock *mb, uint64_t base, uint64_t size, uint32_t nid)
{
	return type_add(&mb->memory, base, size, nid, NULL);
}

int memblock_reserve(struct memblock *mb, uint64_t base, uint64_t size, const char *name)
{
	return type_add(&mb->reserved, base, size, 0, name);
}

bool memblock_next_free(const struct memblock *mb, uint64_t *cursor, uint64_t *base,
                        uint64_t *size)
{
	uint64_t at = *cursor;

	for (uint32_t i = 0; i < mb->memory.nr; i++) {
		const struct memblock_region *m = &mb->memory.regions[i];
		uint64_t end = region_end(m);

		if (at >= end)
			continue;
		if (at < m->base)
			at = m->base;
		for (uint32_t j = 0; j < mb->reserved.nr && at < end; j++) {
			const struct memblock_region *r = &mb->reserved.regions[j];

			if (region_end(r) <= at)
				continue;
			if (r->base <= at) {
				at = region_end(r);
				continue;
			}
			if (r->base < end)
				end = r->base;
			break;
		}
		if (at >= end)
			continue;
		*base = at;
		*size = end - at;
		*cursor = end;
		return true;
	}
	return false;
}

int memblock_alloc(struct memblock *mb, uint64_t size, uint64_t align, const char *name,
                   uint64_t *base)
{
	uint64_t cursor = 0, b, s, best = 0;
	bool found = false;

	if (size == 0 || align == 0 || (align & (align - 1)) != 0)
		return -EINVAL;
	while (memblock_next_free(mb, &cursor, &b, &s)) {
		if (s < size)
			continue;

		uint64_t at = (b + s - size) & ~(align - 1);

		if (at < b)
			continue;
		best = at; /* ranges come in ascending order: the last that fits is the highest */
		found = true;
	}
	if (!found)
		return -ENOMEM;

	int err = memblock_reserve(mb, best, size, name);

	if (err)
		return err;
	*base = best;
	return 0;
}
