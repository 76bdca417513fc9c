/* SPDX-License-Identifier: MIT */
/*
 * How objects lie in slabs: Linux's calculation for SLAB (mm/slab.c, calculate_slab_order and
 * calculate_alignment), with all metadata off the slab.
 *
 * Alignment: at least 8, at most that of the largest block. SLAB_HWCACHE_ALIGN asks for a cache line,
 * halved while the object fits half of it. Stride: the slot (object, red zones, user record) rounded
 * up to the alignment. Blocks are aligned to their own size, and the colour is a multiple of the
 * alignment, so that every object has it.
 *
 * Order: from 0 up, the first at which one object fits and one of these holds:
 *   - the cache is reclaimable: memory that goes back often should be easy to find again
 *   - the order is 1: larger blocks are harder to find than a few bytes are worth
 *   - what is left over is at most an eighth of the slab
 * and never one whose slab would need more than SLAB_WORDS_MAX owner words.
 *
 * Colour: what is left over shifts the first object of successive slabs by a cache line (or the
 * alignment, when that is larger) each, so that equal fields of equal objects do not all fall into
 * the same sets of the processor's cache.
 *
 * Worked by hand: 2,100 bytes. Stride 2,104. Order 0 holds 1, 1,992 are left, more than 512. Order 1
 * holds 3, 1,880 are left: 29 colours of 64 bytes. shift = 11, so 8192 >> 11 = 4 words.
 *
 * Pure functions; the texts of refusals live in a buffer of the calling thread.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "slab_private.h"

#define GEOMETRY_MAX_ORDER 1u /* larger ones only where one object needs it */
#define RED_ZONE_SIZE 8u
#define USER_SIZE 16u

_Static_assert(SLAB_WORDS_MAX <= 0x3ff, "a number of objects fits the shape");

const char *slab_why(const char *format, ...)
{
	static _Thread_local char text[SLAB_WHY_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	return text;
}

const char *cache_name_nonsense(const char *name)
{
	size_t n = name ? strnlen(name, SLAB_NAME_MAX + 1) : 0;

	if (n == 0)
		return "the cache's name is empty";
	if (n > SLAB_NAME_MAX)
		return slab_why("the cache's name is longer than %u bytes", SLAB_NAME_MAX);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f)
			return slab_why("byte %zu of the cache's name is a space or control "
			                "character",
			                i + 1);
	return NULL;
}

static const char *request_nonsense(const struct cache_request *q)
{
	const char *why = cache_name_nonsense(q->name);
	uint32_t unknown = (q->flags | q->flags_asked) & ~SLAB_FLAGS_DEFINED;

	if (why)
		return why;
	if (q->size == 0)
		return "the object size is 0";
	if (q->size > SLAB_SIZE_MAX)
		return slab_why("the object size is %llu: more than %llu bytes",
		                (unsigned long long)q->size, (unsigned long long)SLAB_SIZE_MAX);
	if (q->align & (q->align - 1))
		return slab_why("the alignment is %llu: not a power of two",
		                (unsigned long long)q->align);
	if (q->align > SLAB_SIZE_MAX)
		return slab_why("the alignment is %llu: more than %llu bytes",
		                (unsigned long long)q->align, (unsigned long long)SLAB_SIZE_MAX);
	if (unknown)
		return slab_why("unknown flags 0x%x", unknown);
	if ((q->flags & SLAB_CACHE_DMA) && (q->flags & SLAB_CACHE_DMA32))
		return "SLAB_CACHE_DMA and SLAB_CACHE_DMA32 exclude each other";
	return NULL;
}

static uint64_t round_up(uint64_t x, uint64_t to)
{
	return (x + to - 1) & ~(to - 1);
}

static uint32_t alignment(const struct cache_request *q)
{
	uint32_t line = MM_CACHE_LINE, align = (uint32_t)q->align;

	if (q->flags & SLAB_HWCACHE_ALIGN) {
		while (q->size <= line / 2)
			line /= 2;
		if (align < line)
			align = line;
	}
	return align < 8 ? 8 : align;
}

/* The order, and with it how many objects; the stride and shift are there. */
static void choose_order(struct slab_geometry *g, uint32_t flags)
{
	for (uint32_t order = 0; order <= MAX_PAGE_ORDER; order++) {
		uint32_t bytes = 1u << (PAGE_SHIFT + order), objects = bytes / g->stride;

		if (objects == 0)
			continue;
		if (bytes >> g->shift > SLAB_WORDS_MAX)
			break;
		g->order = (uint8_t)order;
		g->objects = objects;
		if ((flags & SLAB_RECLAIM_ACCOUNT) || order >= GEOMETRY_MAX_ORDER ||
		    (bytes - objects * g->stride) * 8 <= bytes)
			break;
	}
}

int slab_geometry(struct slab_geometry *ret, const struct cache_request *q, const char **why)
{
	const char *nonsense = request_nonsense(q);
	struct slab_geometry g = { 0 };
	uint64_t offset = 0, end;
	uint32_t bytes;

	if (nonsense) {
		*why = nonsense;
		return -EINVAL;
	}
	g.size = (uint32_t)q->size;
	g.align = alignment(q);
	if (q->flags & SLAB_RED_ZONE)
		offset = round_up(RED_ZONE_SIZE, g.align);
	end = offset + round_up(g.size, 8);
	if (q->flags & SLAB_RED_ZONE)
		end += RED_ZONE_SIZE;
	if (q->flags & SLAB_STORE_USER)
		end += USER_SIZE;
	end = round_up(end, g.align);
	if (end > SLAB_SIZE_MAX || offset > UINT16_MAX) {
		*why = slab_why("%u bytes aligned to %u leave no room for red zones and the user's "
		                "record",
		                g.size, g.align);
		return -EINVAL;
	}
	g.offset = (uint16_t)offset;
	g.stride = (uint32_t)end;
	g.shift = (uint8_t)(31 - __builtin_clz(g.stride));
	choose_order(&g, q->flags);
	bytes = 1u << (PAGE_SHIFT + g.order);
	g.words = bytes >> g.shift;
	g.colour_off = g.align < MM_CACHE_LINE ? MM_CACHE_LINE : g.align;
	g.colours = (bytes - g.objects * g.stride) / g.colour_off;
	if (g.colours > SLAB_COLOURS_MAX)
		g.colours = SLAB_COLOURS_MAX;
	if (g.colours == 0)
		g.colours = 1;
	*ret = g;
	return 0;
}

/* What no version of the calculation above writes. A record may come from another one, which is
 * why it is not simply computed again. */
const char *geometry_nonsense(const struct slab_geometry *g)
{
	uint64_t bytes, used;

	if (g->order > MAX_PAGE_ORDER)
		return "impossible order";
	bytes = (uint64_t)1 << (PAGE_SHIFT + g->order);
	if (g->size == 0 || g->stride % 8 || g->offset % 8 ||
	    (uint64_t)g->offset + g->size > g->stride || g->stride > bytes)
		return "impossible size or stride";
	if (g->align < 8 || (g->align & (g->align - 1)) || g->stride % g->align ||
	    g->offset % g->align)
		return "impossible alignment";
	if (g->colour_off < MM_CACHE_LINE || g->colour_off > SLAB_SIZE_MAX ||
	    (g->colour_off & (g->colour_off - 1)) || g->colour_off % g->align ||
	    g->colours == 0 || g->colours > SLAB_COLOURS_MAX)
		return "impossible colours";
	used = (uint64_t)g->objects * g->stride + (uint64_t)(g->colours - 1) * g->colour_off;
	if (g->objects == 0 || g->objects > SLAB_WORDS_MAX || used > bytes)
		return "impossible number of objects";
	if (g->shift != 31 - __builtin_clz(g->stride) || g->words != bytes >> g->shift ||
	    g->words > SLAB_WORDS_MAX)
		return "impossible number of owner words";
	return NULL;
}
