/* SPDX-License-Identifier: MIT */
/*
 * The layout of control memory: a pure function of the geometry, computed alike by the daemon and
 * by every client, so that nothing inside the memory has to be believed.
 */
#include "shm/control.h"

#include <errno.h>
#include <stdbool.h>

#define PAGE 4096u
#define SECTION_ORDER_MIN 10u /* 4 MiB */
#define SECTION_ORDER_MAX 18u /* 1 GiB */
#define FRAMES_MAX (UINT64_C(1) << 32)
#define GRANULE_SHIFT_MIN 3u
#define FRAME_SHIFT 12u
#define OBJECT_WORDS_PER_FRAME 128u
#define OBJECT_WORDS_MAX (UINT64_C(1) << 32)

/* Places a part of n elements at the end of what there is, on a page boundary. */
static bool part_place(size_t *end, size_t *offset, uint64_t n, size_t element)
{
	size_t bytes, next;

	if (__builtin_mul_overflow(n, element, &bytes) ||
	    __builtin_add_overflow(bytes, (size_t)PAGE - 1, &bytes) ||
	    __builtin_add_overflow(*end, bytes & ~(size_t)(PAGE - 1), &next))
		return false;
	*offset = *end;
	*end = next;
	return true;
}

static bool geometry_valid(const struct control_geometry *g)
{
	uint64_t section_frames;

	if (g->section_order < SECTION_ORDER_MIN || g->section_order > SECTION_ORDER_MAX)
		return false;
	section_frames = UINT64_C(1) << g->section_order;
	if (g->frames == 0 || g->frames >= FRAMES_MAX || g->frames % section_frames != 0 ||
	    g->high_frames % section_frames != 0 || g->high_frames > g->frames ||
	    g->high_start > g->frames || g->high_frames > g->frames - g->high_start ||
	    control_pages(g) >= FRAMES_MAX || control_pages(g) / section_frames > CONTROL_SECTIONS_MAX)
		return false;
	if (g->sessions < 2 || g->sessions > OWNER_MAX + 1)
		return false;
	return g->magazines >= 1 && g->magazines <= OWNER_MAX + 1;
}

/* A quarter of the granules may be objects of their own: all of the pool in objects of 32
 * bytes and more. Indices fit 32 bits. */
static uint64_t object_words(uint64_t frames)
{
	uint64_t n = frames * OBJECT_WORDS_PER_FRAME;

	return n < OBJECT_WORDS_MAX ? n : OBJECT_WORDS_MAX;
}

static size_t slab_bits_stride(uint64_t frames)
{
	return (size_t)((frames / 8 + PAGE - 1) / PAGE * PAGE);
}

int control_layout_compute(struct control_layout *l, const struct control_geometry *g)
{
	struct control_layout n = { 0 };
	size_t words = 0, views = 0;

	if (!geometry_valid(g))
		return -EINVAL;
	n.object_words = object_words(g->frames);
	n.slab_bits_stride = slab_bits_stride(g->frames);
	if (!part_place(&words, &n.words, control_pages(g), sizeof(owner_word_t)) ||
	    !part_place(&words, &n.sessions, g->sessions, sizeof(struct control_session)) ||
	    !part_place(&words, &n.magazines, g->magazines, sizeof(struct magazine)))
		return -EINVAL;
	n.words_dense = words;
	if (!part_place(&words, &n.objects, n.object_words, sizeof(owner_word_t)) ||
	    !part_place(&words, &n.slab_bits, g->sessions, n.slab_bits_stride) ||
	    !part_place(&words, &n.racks, CONTROL_CACHES_MAX, sizeof(struct control_rack)) ||
	    !part_place(&words, &n.areas, CONTROL_AREAS_MAX, sizeof(struct control_area)) ||
	    !part_place(&words, &n.locks, CONTROL_AREAS_MAX,
	                CONTROL_AREA_CPUS * sizeof(uint64_t)))
		return -EINVAL;
	if (!part_place(&views, &n.status, 1, sizeof(struct control_status)) ||
	    !part_place(&views, &n.sections, control_pages(g) >> g->section_order,
	                sizeof(uint8_t)) ||
	    !part_place(&views, &n.descriptors, control_pages(g), sizeof(page_desc_t)))
		return -EINVAL;
	n.views_dense = views;
	if (!part_place(&views, &n.caches, CONTROL_CACHES_MAX, sizeof(struct control_cache)))
		return -EINVAL;
	n.words_size = words;
	n.views_size = views;
	*l = n;
	return 0;
}

_Static_assert(sizeof(struct control_status) <= PAGE, "the status is one page");

void control_attach(struct control *c, const struct control_geometry *g, void *words, void *views)
{
	struct control_layout l;
	uint8_t *w = words, *v = views;

	if (control_layout_compute(&l, g) < 0)
		__builtin_trap(); /* the caller sized the mappings by the same computation */
	c->geometry = *g;
	c->word = (owner_word_t *)(w + l.words);
	c->session = (struct control_session *)(w + l.sessions);
	c->magazine = (struct magazine *)(w + l.magazines);
	c->status = (struct control_status *)(v + l.status);
	c->section = (_Atomic uint8_t *)(v + l.sections);
	c->desc = (page_desc_t *)(v + l.descriptors);
	c->object = (owner_word_t *)(w + l.objects);
	c->object_words = l.object_words;
	c->slab_bits = w + l.slab_bits;
	c->slab_bits_stride = l.slab_bits_stride;
	c->rack = (struct control_rack *)(w + l.racks);
	c->area = (struct control_area *)(w + l.areas);
	c->area_lock = (_Atomic uint64_t *)(w + l.locks);
	c->cache = (struct control_cache *)(v + l.caches);
}

unsigned int control_granule_shift(uint64_t pages)
{
	unsigned int shift = GRANULE_SHIFT_MIN;

	/* 2^32 granules cover 2^(32 + shift) bytes */
	while (shift < FRAME_SHIFT && pages > UINT64_C(1) << (32 + shift - FRAME_SHIFT))
		shift++;
	return shift;
}
