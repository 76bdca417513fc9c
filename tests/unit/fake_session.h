/* SPDX-License-Identifier: MIT */
/*
 * A session of libkmm whose shared memory is the test's own, for tests of single files of client/:
 * control memory, window and bits of a geometry; and what all that play its daemon answer alike.
 * Included once a program.
 */
#ifndef TESTS_UNIT_FAKE_SESSION_H
#define TESTS_UNIT_FAKE_SESSION_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/object.h"

static inline void *map_zeroes(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

static inline void fake_session_map(struct kmm *k, const struct control_geometry *g)
{
	struct control_layout l;

	ck_assert_int_eq(control_layout_compute(&l, g), 0);
	k->words = map_zeroes(k->words_size = l.words_size);
	k->views = map_zeroes(k->views_size = l.views_size);
	control_attach(&k->control, g, k->words, k->views);
	k->frames = (uint32_t)g->frames;
	k->pages = (uint32_t)control_pages(g);
	k->section_shift = g->section_order + FRAME_SHIFT;
	k->nr_sections = (uint32_t)(g->frames >> g->section_order);
	k->granule_bits = FRAME_SHIFT - control_granule_shift(k->pages);
	k->window = map_zeroes(k->window_size = (size_t)k->frames << FRAME_SHIFT);
	k->shared = map_zeroes(k->shared_size = (k->pages + 63) / 64 * 8);
	k->shared_objects = map_zeroes(k->shared_objects_size = l.object_words);
}

static inline void fake_session_unmap(struct kmm *k)
{
	munmap(k->words, k->words_size);
	munmap(k->views, k->views_size);
	munmap(k->window, k->window_size);
	munmap((void *)k->shared, k->shared_size);
	munmap((void *)k->shared_objects, k->shared_objects_size);
}

/* The calling thread's part of it, to be freed. */
static inline struct thread_cache *fake_thread_new(uint32_t id)
{
	struct thread_cache *tc = aligned_alloc(_Alignof(struct thread_cache), sizeof(*tc));

	ck_assert_ptr_nonnull(tc);
	memset(tc, 0, sizeof(*tc));
	tc->id = id;
	return tc;
}

struct call_how call_begin_gfp(struct kmm *k, kmm_gfp_t gfp)
{
	(void)gfp;
	return call_begin(k, 0);
}

bool call_again(struct kmm *k, const struct call_how *how, kmm_gfp_t gfp, int *r)
{
	(void)k, (void)how, (void)gfp, (void)r;
	return false;
}

#endif
