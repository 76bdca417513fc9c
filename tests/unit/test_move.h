/* SPDX-License-Identifier: MIT */
/*
 * A domain with two high sections, HighMem and Movable, 2,048 frames in all, two sessions, and what
 * tests of pages that move do with them. What is persistent is shared memory, so that a child can
 * move a page, be stopped after any instruction, and its parent take over.
 */
#ifndef TESTS_UNIT_TEST_MOVE_H
#define TESTS_UNIT_TEST_MOVE_H

#define TD_HIGH 2u
#define TD_MAPPING MAP_SHARED
#include "tests/suite.h"
#include "tests/unit/test_scene.h"

#include "daemon/high.h"
#include "daemon/move.h"

#define FRAME 4096u
#define HIGH_START (13u << TD_SECTION_ORDER)
#define HIGH_FRAMES (2u << TD_SECTION_ORDER)
#define SECTIONS (TD_FRAMES >> TD_SECTION_ORDER)

static struct session *a, *b;

static inline void setup(void)
{
	scene_setup();
	a = td_session(&t, "a");
	b = td_session(&t, "b");
	td_check(&t);
}

static inline uint64_t desc_of(uint32_t page)
{
	return atomic_load(&t.d->control.desc[page]);
}

static inline uint8_t *memory_of(uint32_t page)
{
	return t.pool.window + (size_t)domain_frame_of(t.d, page) * FRAME;
}

static inline void fill(uint32_t page, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < FRAME / 4; i++)
		((uint32_t *)memory_of(page))[i] = seed * 2654435761u + i;
}

static inline bool filled(uint32_t page, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < FRAME / 4; i++)
		if (((uint32_t *)memory_of(page))[i] != seed * 2654435761u + i)
			return false;
	return true;
}

/* A frame that compaction has at hand to move something to. */
static inline pfn_t target(void)
{
	struct mm_request r = { .gfp = GFP_HIGHUSER_MOVABLE, .cpu = MM_CPU_NONE };
	struct mm_block claimed;
	pfn_t pfn;

	ck_assert_int_eq(mm_alloc_pages(t.d->zones, &r, &pfn), 0);
	ck_assert(domain_frame_high(t.d, pfn));
	ck_assert(mm_block_take(t.d->mm, pfn, &claimed));
	return pfn;
}

static inline void put(pfn_t pfn)
{
	mm_free_pages(t.d->zones, MM_CPU_NONE, pfn, MM_FREE_DIRECT);
}

static inline int move(uint32_t page)
{
	pfn_t from = domain_frame_of(t.d, page), to = target();
	int r = move_page(t.d, from, to);

	put(r ? to : from);
	return r;
}

static inline uint32_t high_page(struct session *s)
{
	uint32_t page = td_alloc(&t, s, GFP_HIGHUSER_MOVABLE, 0);

	ck_assert_uint_ge(page, TD_FRAMES);
	return page;
}

#endif
