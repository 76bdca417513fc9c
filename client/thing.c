/* SPDX-License-Identifier: MIT */
/*
 * Things: what has an owner word, whether it is a page block or an object.
 *
 *     address --> frame --> descriptor --+-- BLOCK: the frame's own word
 *     page    -->   ^                    '-- SLAB:  cache, first word, colour --> slot --> its word
 *     granule ------'
 *
 * Pages that move are named by page alone: their granules lie behind the pool's, where no address is.
 *
 * A descriptor may change under who reads it: slabs and blocks come and go. What a thing says of a
 * place is true as long as somebody who holds it keeps it there. Who acts on a word that he does
 * not hold relies on its generation, which never comes again (share.c).
 *
 * What an address cannot tell: a thread keeps the objects that it freed, and their words still say
 * HELD by this session. So the functions that take an address see such an object as live, except in
 * caches whose cached objects are marked RETURNED (KMM_SLAB_CONSISTENCY_CHECKS). Handles are not
 * concerned: freeing an object that has one begins its next generation.
 */
#include "client/object.h"

#include <sched.h>
#include <stdio.h>

#define YIELDS 64u

uint64_t word_settled_slow(struct kmm *k, owner_word_t *word)
{
	struct call_how how = call_begin(k, 0);
	unsigned int turns;
	uint64_t w;

	for (turns = 0;; turns++) {
		w = owner_load(word);
		if (owner_kind(w) != OWNER_MOVING)
			return w;
		if (turns < YIELDS)
			sched_yield();
		else if (call_wait_thread(k, &how) < 0)
			return w; /* which the caller has words for */
	}
}

/* The object of a slab frame at a window offset; false: no object begins there. */
static bool thing_object(struct kmm *k, uint64_t desc, uint64_t at, struct thing *t)
{
	struct thing o = {
		.view = &k->control.cache[page_desc_cache(desc)],
		.granule = (uint32_t)(at >> (FRAME_SHIFT - k->granule_bits)),
		.pfn = (uint32_t)(at >> FRAME_SHIFT),
		.desc = desc,
		.cache = page_desc_cache(desc),
	};

	if (!object_locate(&k->control, k->window, desc, k->window + at, &o.word_index))
		return false;
	o.word = &k->control.object[o.word_index];
	o.order = o.view->order;
	*t = o;
	return true;
}

static void thing_block(struct kmm *k, uint32_t pfn, unsigned int order, struct thing *t)
{
	*t = (struct thing){
		.word = &k->control.word[pfn],
		.granule = granule_of(k, pfn),
		.pfn = pfn,
		.desc = desc_load(k, pfn),
		.order = order,
	};
}

/* By window offset; p: for the text. */
static int thing_in_window(struct kmm *k, uint64_t at, const void *p, struct thing *t)
{
	uint32_t pfn = (uint32_t)(at >> FRAME_SHIFT);
	uint64_t desc = desc_load(k, pfn);
	unsigned int order;
	int r;

	if (page_desc_kind(desc) == PAGE_SLAB) {
		if (likely(thing_object(k, desc, at, t)))
			return 0;
		return error_set(EINVAL,
		                 "%p is no object's first byte, but lies in a slab of cache %s", p,
		                 k->control.cache[page_desc_cache(desc)].name);
	}
	r = page_block_check(k, pfn, &order);
	if (r < 0)
		return r;
	if (at % KMM_PAGE_SIZE != 0)
		return word_is_live(owner_load(&k->control.word[pfn]))
		               ? error_set(EINVAL,
		                           "%p lies inside a frame: a block is named by its first "
		                           "byte",
		                           p)
		               : error_set(ENOENT, "nothing that is live begins at %p", p);
	thing_block(k, pfn, order, t);
	return 0;
}

int thing_of(struct kmm *k, const void *p, struct thing *t)
{
	uintptr_t at = (uintptr_t)p - (uintptr_t)k->window;
	unsigned int order;
	uint32_t pfn;
	int r;

	if (likely(p && at < k->window_size))
		return thing_in_window(k, at, p, t);
	if (!p)
		return error_set(EINVAL, "the address is NULL");
	if (((uintptr_t)p - (uintptr_t)k->control.desc) / sizeof(struct kmm_page) < k->pages)
		r = page_pfn(k, p, &pfn);
	else if (!highmem_page(k, p, &pfn))
		r = address_outside(k, p);
	else
		r = (uintptr_t)p % KMM_PAGE_SIZE == 0
		            ? 0
		            : error_set(EINVAL,
		                        "%p lies inside a page: a block is named by its first byte", p);
	if (r == 0)
		r = page_block_check(k, pfn, &order);
	if (r == 0)
		thing_block(k, pfn, order, t);
	return r;
}

int thing_at(struct kmm *k, uint32_t granule, struct thing *t)
{
	uint64_t at = granule_offset(k, granule);

	if (at >> FRAME_SHIFT >= k->pages)
		return error_set(ENOENT, "place 0x%x is not in the pool", granule);
	if (section_state(k, (uint32_t)(at >> FRAME_SHIFT)) == CONTROL_SECTION_NONE)
		return error_set(EPERM, "place 0x%x has no memory of the session's domain",
		                 granule);
	return thing_in_window(k, at, k->window + at, t);
}

int thing_stale(kmm_handle_t handle, uint64_t w)
{
	/* Generations only grow; they are 32 bits here, so that "later" is the shorter way round. */
	int32_t later = (int32_t)((uint32_t)(handle >> 32) - (uint32_t)owner_generation(w));

	if (later < 0)
		return error_set(ESTALE, "what handle 0x%llx was made for was freed or adopted",
		                 (unsigned long long)handle);
	/* What is freed or adopted with a handle has another generation then. */
	return error_set(ESTALE,
	                 "0x%llx is no handle that kmm_handle made: %s",
	                 (unsigned long long)handle,
	                 later ? "nothing at its place has come to that life yet"
	                       : "what is at its place was not shared in that life");
}

static int thing_none(kmm_handle_t handle)
{
	return error_set(ESTALE,
	                 "nothing begins at the place of handle 0x%llx: what it was made for was "
	                 "freed, or it was never made",
	                 (unsigned long long)handle);
}

int thing_of_handle(struct kmm *k, kmm_handle_t handle, struct thing *t, uint64_t *w)
{
	uint64_t at = granule_offset(k, handle_granule(handle));
	uint32_t pfn = (uint32_t)(at >> FRAME_SHIFT);
	struct thing found;
	uint64_t desc, now;

	if (handle == 0)
		return error_set(EINVAL, "handle 0 is none");
	if (at >> FRAME_SHIFT >= k->pages || section_state(k, pfn) == CONTROL_SECTION_NONE)
		return error_set(ENOENT, "handle 0x%llx names no place of the session's domain",
		                 (unsigned long long)handle);
	desc = desc_load(k, pfn);
	if (page_desc_kind(desc) == PAGE_SLAB) {
		if (!thing_object(k, desc, at, &found))
			return thing_none(handle);
	} else if (page_desc_kind(desc) == PAGE_BLOCK && at % KMM_PAGE_SIZE == 0) {
		thing_block(k, pfn, page_desc_order(desc), &found);
	} else {
		return thing_none(handle);
	}
	now = word_settled(k, found.word);
	if (!word_is_live(now) || (uint32_t)owner_generation(now) != handle >> 32)
		return thing_stale(handle, now);
	*w = now;
	*t = found;
	return 0;
}

void thing_mark(struct kmm *k, const struct thing *t)
{
	if (t->view)
		object_mark(k, t->view, t->pfn);
	else
		section_mark(k, t->pfn);
}

int thing_reach(struct kmm *k, const struct thing *t)
{
	if (!t->view && page_is_high(k, t->pfn))
		return 0;
	return section_map(k, t->pfn);
}

void *thing_name(struct kmm *k, const struct thing *t)
{
	if (!t->view && page_is_high(k, t->pfn))
		return page_at(k, t->pfn);
	return object_address(k, t->granule);
}

const char *thing_text(struct kmm *k, const struct thing *t, char buf[THING_TEXT_MAX])
{
	if (t->view)
		snprintf(buf, THING_TEXT_MAX, "the object at %p of cache %s", thing_name(k, t),
		         t->view->name);
	else
		snprintf(buf, THING_TEXT_MAX, t->pfn < k->frames ? "the block at frame %u" : "page %u",
		         t->pfn);
	return buf;
}

int thing_not_mine(struct kmm *k, const struct thing *t, uint64_t w, bool freeing)
{
	char what[THING_TEXT_MAX];

	if (!t->view)
		return freeing ? page_not_freed(k, t->pfn, w) : page_not_mine(t->pfn, w);
	thing_text(k, t, what);
	if (freeing && object_shared_test(k, t->word_index) &&
	    !owner_is(w, OWNER_RETURNED, k->id))
		return error_set(ESTALE, "%s was adopted by another session", what);
	if (owner_kind(w) != OWNER_HELD)
		return error_set(ENOENT, "%s is not live: it was given back before", what);
	if (owner_id(w) == 0)
		return error_set(EPERM, "%s has no owner any more: kmm_put drops a hold", what);
	return error_set(EPERM, "%s is session %u's", what, owner_id(w));
}
