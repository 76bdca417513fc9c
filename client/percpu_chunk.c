/* SPDX-License-Identifier: MIT */
/*
 * The map of a per-CPU chunk: which parts of a unit are allocated, as in Linux's mm/percpu.c before
 * bitmaps. All units of a chunk are alike, so one map does for all CPUs.
 *
 *     at   [ 0* | 24 | 32* | 96 | unit ]        *: allocated, by bit 0 of the offset
 *            ####      ####
 *
 * Neighbouring free regions are always one. Allocation is first fit: the first free region that
 * holds the size at the alignment is cut into what lies before, the allocation, and what is left.
 * Two hints keep it from looking where there is nothing: `first`, before which no region is free,
 * and `largest`, a bound on what is free in one piece; both may be too generous, never too strict.
 *
 * Freeing finds the region by its beginning (binary search) and joins it with free neighbours.
 *
 * The owner locks. Complexity: O(regions), of four bytes each.
 */
#include "client/percpu.h"

#include <stdlib.h>
#include <string.h>

#define TAKEN 1u
#define CAPACITY_FIRST 32u

static uint32_t region_at(const struct percpu_map *m, uint32_t i)
{
	return m->at[i] & ~TAKEN;
}

static uint32_t region_size(const struct percpu_map *m, uint32_t i)
{
	return region_at(m, i + 1) - region_at(m, i);
}

static bool region_taken(const struct percpu_map *m, uint32_t i)
{
	return m->at[i] & TAKEN;
}

int percpu_map_init(struct percpu_map *m, uint32_t unit)
{
	*m = (struct percpu_map){ .n = 1, .capacity = CAPACITY_FIRST, .free = unit,
		                  .largest = unit };
	m->at = malloc((m->capacity + 1) * sizeof(m->at[0]));
	if (!m->at)
		return -ENOMEM;
	m->at[0] = 0;
	m->at[1] = unit;
	return 0;
}

void percpu_map_free(struct percpu_map *m)
{
	free(m->at);
	m->at = NULL;
}

/* Room for two more regions. */
static int map_grow(struct percpu_map *m)
{
	uint32_t capacity = m->capacity * 2;
	uint32_t *at;

	if (m->n + 2 <= m->capacity)
		return 0;
	at = realloc(m->at, (capacity + 1) * sizeof(at[0]));
	if (!at)
		return -ENOMEM;
	m->at = at;
	m->capacity = capacity;
	return 0;
}

/* A region begins at the offset, inside region i; it becomes region i + 1. */
static void map_cut(struct percpu_map *m, uint32_t i, uint32_t offset)
{
	memmove(&m->at[i + 2], &m->at[i + 1], (m->n - i) * sizeof(m->at[0]));
	m->at[i + 1] = offset | (m->at[i] & TAKEN);
	m->n++;
}

/* Region i + 1 joins region i. */
static void map_join(struct percpu_map *m, uint32_t i)
{
	memmove(&m->at[i + 1], &m->at[i + 2], (m->n - i - 1) * sizeof(m->at[0]));
	m->n--;
}

int percpu_map_take(struct percpu_map *m, uint32_t size, uint32_t align, uint32_t *offset)
{
	uint32_t i, largest = 0;
	int r;

	if (align < PERCPU_GRAIN)
		align = PERCPU_GRAIN;
	size = (size + PERCPU_GRAIN - 1) & ~(PERCPU_GRAIN - 1);
	if (size > m->largest)
		return -ENOSPC;
	r = map_grow(m);
	if (r < 0)
		return r;
	while (m->first < m->n && region_taken(m, m->first))
		m->first++;
	for (i = m->first; i < m->n; i++) {
		uint32_t at = region_at(m, i), end = region_at(m, i + 1);
		uint32_t start = (at + align - 1) & ~(align - 1);

		if (region_taken(m, i))
			continue;
		if (start > end || end - start < size) {
			if (end - at > largest)
				largest = end - at;
			continue;
		}
		if (start > at)
			map_cut(m, i++, start);
		if (start + size < end)
			map_cut(m, i, start + size);
		m->at[i] |= TAKEN;
		m->free -= size;
		*offset = start;
		return 0;
	}
	m->largest = largest; /* all were looked at */
	return -ENOSPC;
}

int percpu_map_give(struct percpu_map *m, uint32_t offset)
{
	uint32_t low = 0, high = m->n, size;

	/* the last region that begins at or before the offset */
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (region_at(m, middle) <= offset)
			low = middle;
		else
			high = middle;
	}
	if (!region_taken(m, low))
		return -ENOENT;
	if (region_at(m, low) != offset)
		return -EINVAL;
	m->free += region_size(m, low);
	m->at[low] &= ~TAKEN;
	if (low + 1 < m->n && !region_taken(m, low + 1))
		map_join(m, low);
	if (low > 0 && !region_taken(m, low - 1))
		map_join(m, --low);
	if (low < m->first)
		m->first = low;
	size = region_size(m, low);
	if (size > m->largest)
		m->largest = size;
	return 0;
}

bool percpu_map_valid(const struct percpu_map *m, uint32_t unit)
{
	uint32_t i, unused = 0;

	if (m->n == 0 || m->n > m->capacity || m->at[0] > TAKEN || m->at[m->n] != unit)
		return false;
	for (i = 0; i < m->n; i++) {
		if (region_at(m, i) >= region_at(m, i + 1) || region_at(m, i) % PERCPU_GRAIN)
			return false;
		if (region_taken(m, i))
			continue;
		if (i < m->first || region_size(m, i) > m->largest ||
		    (i + 1 < m->n && !region_taken(m, i + 1)))
			return false;
		unused += region_size(m, i);
	}
	return unused == m->free;
}
