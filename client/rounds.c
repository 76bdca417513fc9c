/* SPDX-License-Identifier: MIT */
/*
 * What a magazine carries: rounds of a thread into a shared magazine and out of it, word by word.
 *
 *   out    words that name the magazine -> ours (HELD or RETURNED)       header LOADED by us
 *   into   words that are ours -> MAGAZINE m, and the round's granule    header LOADED by us
 *
 * Objects of a magazine come in runs of one slab. What follows from the slab, its descriptor, its
 * first word, its mark in the session's slab bits, is looked up where a run begins, and the owner
 * words of all rounds are asked of the memory before the first is read: another process wrote them
 * last, so each line has to come from its cache.
 *
 * Out takes no exchange of the word. While the header says LOADED by us nobody else may change a
 * word that names the magazine: not another taker, who would have to claim the magazine first, not
 * who holds, adopts or sends, because the word is not HELD, not the daemon, which fetches magazines
 * by their header, and sweeps and recovers those of the dead alone. A plain store is enough.
 * Into does take one: until then the object is the application's, and another session may come to
 * hold it (KEPT) at any moment.
 */
#include "client/object.h"

#include <stdio.h>

#define INDEX_NONE UINT32_MAX

/* ---- where objects are ---- */

/* A cache's geometry, and the slab at hand. */
struct run {
	struct kmm *k;
	const struct kmm_cache *c;
	size_t mask; /* bytes of a slab - 1 */
	size_t low;  /* an offset with none of these bits is an object's; of all others, computed */
	uint32_t inverse, objects, colour_off, offset;
	uint8_t shift, twos;
	bool marks;  /* slabs are marked in the session's record when a run begins */
	size_t slab; /* where it begins in the window; SIZE_MAX: none */
	uint32_t first, colour;
};

static void run_init(struct run *r, struct kmm *k, const struct kmm_cache *c, bool marks)
{
	const struct control_cache *v = c->view;

	*r = (struct run){
		.k = k,
		.c = c,
		.mask = ((size_t)4096 << v->order) - 1,
		.low = SIZE_MAX,
		.inverse = v->inverse,
		.objects = v->objects,
		.colour_off = v->colour_off,
		.offset = v->offset,
		.shift = v->shift,
		.twos = v->twos,
		.marks = marks,
		.slab = SIZE_MAX,
	};
	if ((v->stride & (v->stride - 1)) == 0 && v->offset == 0 &&
	    (size_t)v->objects * v->stride == r->mask + 1)
		r->low = v->stride - 1;
}

/* Another slab; false: none of the cache. */
static __attribute__((noinline)) bool run_begin(struct run *r, size_t slab)
{
	uint32_t pfn = (uint32_t)(slab >> FRAME_SHIFT);
	uint64_t d = desc_load(r->k, pfn);

	r->slab = SIZE_MAX;
	if (page_desc_kind(d) != PAGE_SLAB || page_desc_cache(d) != r->c->id)
		return false;
	r->first = page_desc_frame_word(d); /* its first frame's is the slab's */
	r->colour = page_desc_colour(d);
	if (r->marks) {
		object_mark(r->k, r->c->view, pfn);
		section_granted(r->k, pfn);
	}
	r->slab = slab;
	return true;
}

/* The index of the word of the object that begins there; INDEX_NONE: none does. at: below the window's
 * size. */
static inline uint32_t run_word(struct run *r, size_t at)
{
	size_t offset = at & r->mask;
	uint32_t slot;

	if (unlikely(at - offset != r->slab) && !run_begin(r, at - offset))
		return INDEX_NONE;
	if (unlikely(at & r->low)) {
		slot = ((uint32_t)offset - r->colour * r->colour_off - r->offset) * r->inverse;
		if ((slot >> r->twos | slot << (-r->twos & 31)) >= r->objects)
			return INDEX_NONE;
	}
	return r->first + (uint32_t)(offset >> r->shift);
}

/* ---- out ---- */

static uint32_t unload_objects(struct kmm *k, struct exchange x, uint32_t m, uint32_t count,
                               enum owner_kind kind, uint64_t out[])
{
	const struct magazine *mag = &k->control.magazine[m];
	const unsigned int shift = FRAME_SHIFT - k->granule_bits;
	uint32_t index[MAGAZINE_ROUNDS_MAX], i, n = 0;
	struct run run;

	run_init(&run, k, x.cache, true);
	for (i = 0; i < count; i++) {
		/* relaxed: the header's exchange ordered it */
		size_t at = (size_t)atomic_load_explicit(&mag->round[i], memory_order_relaxed)
		            << shift;

		index[i] = at < k->window_size ? run_word(&run, at) : INDEX_NONE;
		if (unlikely(index[i] == INDEX_NONE))
			continue;
		/* read once: a member may write the round again, but not what was made of it */
		out[i] = (uintptr_t)k->window + at;
		__builtin_prefetch((const void *)&k->control.object[index[i]], 1);
	}
	for (i = 0; i < count; i++) {
		owner_word_t *word;
		uint64_t w;

		if (unlikely(index[i] == INDEX_NONE))
			continue;
		word = &k->control.object[index[i]];
		w = owner_load(word);
		if (unlikely(!owner_is(w, OWNER_MAGAZINE, m)))
			continue;
		owner_store(word, owner_moved(w, kind, k->id));
		object_shared_clear(k, index[i]);
		out[n++] = out[i];
	}
	return n;
}

static uint32_t unload_blocks(struct kmm *k, uint32_t m, uint32_t count, enum owner_kind kind,
                              uint64_t out[])
{
	const struct magazine *mag = &k->control.magazine[m];
	uint32_t i, n = 0;

	for (i = 0; i < count; i++) {
		uint32_t granule = atomic_load_explicit(&mag->round[i], memory_order_relaxed);
		uint32_t pfn = granule >> k->granule_bits;
		uint64_t w;

		if (pfn >= k->pages || granule_of(k, pfn) != granule)
			continue;
		w = owner_load(&k->control.word[pfn]);
		if (!owner_is(w, OWNER_MAGAZINE, m))
			continue;
		section_mark(k, pfn);
		w = owner_moved(w, kind, k->id);
		owner_store(&k->control.word[pfn], w);
		shared_clear(k, pfn);
		section_granted(k, pfn);
		out[n++] = round_of_block(pfn, w);
	}
	return n;
}

uint32_t rounds_unload(struct kmm *k, struct exchange x, uint32_t m, uint32_t count,
                       enum owner_kind kind, uint64_t out[])
{
	return x.cache ? unload_objects(k, x, m, count, kind, out) :
	                 unload_blocks(k, m, count, kind, out);
}

/* ---- into ---- */

/* An object whose word is no longer ours. */
static void freed_twice(struct kmm *k, struct exchange x, size_t at, uint64_t w)
{
	struct call_how how = call_begin(k, CALL_NOWAIT);
	kmm_v1_ReportRequest q = kmm_v1_ReportRequest_init_zero;
	char who[48], text[sizeof(q.text)];

	if (owner_kind(w) == OWNER_HELD && owner_id(w) != 0)
		snprintf(who, sizeof(who), "session %u has it", owner_id(w));
	else if (owner_kind(w) == OWNER_OFFERED || owner_kind(w) == OWNER_RETURNED)
		snprintf(who, sizeof(who), "session %u had it last", owner_id(w));
	else
		snprintf(who, sizeof(who), "it is free");
	snprintf(text, sizeof(text), "object %p of cache %s was freed twice by session %u: %s",
	         (void *)(k->window + at), x.cache->view->name, k->id, who);
	event_push(k, KMM_EVENT_BAD_FREE, text);
	q.kind = kmm_v1_ReportRequest_Kind_DOUBLE_FREE;
	q.granule = (uint32_t)(at >> (FRAME_SHIFT - k->granule_bits));
	q.freed_by = k->id;
	snprintf(q.text, sizeof(q.text), "%s", text);
	call_notify(k, &how, kmm_v1_Method_ALLOCATOR_REPORT, kmm_v1_ReportRequest_fields, &q);
}

/* The object's word says that it may be given. HELD, an object of a marked class is in use: the daemon
 * collected it, it came back to us in another magazine, and this round is of its former life here. */
static inline bool object_is_ours(struct kmm *k, struct exchange x, uint64_t w)
{
	return owner_is(w, OWNER_RETURNED, k->id) ||
	       (!x.marked && owner_is(w, OWNER_HELD, k->id));
}

static bool block_is_ours(struct kmm *k, uint64_t round, uint64_t w)
{
	return (owner_is(w, OWNER_RETURNED, k->id) || owner_is(w, OWNER_HELD, k->id)) &&
	       round_of_block((uint32_t)round, w) == round;
}

static uint32_t load_objects(struct kmm *k, struct exchange x, uint32_t m, uint64_t r[], uint32_t n,
                             uint32_t *failed)
{
	struct magazine *mag = &k->control.magazine[m];
	const unsigned int shift = FRAME_SHIFT - k->granule_bits;
	uint32_t index[MAGAZINE_ROUNDS_MAX], i, count = 0;
	struct run run;

	run_init(&run, k, x.cache, false);
	for (i = 0; i < n; i++) {
		/* A marked object may have been collected, and its slab with it, at any time. */
		if (x.marked)
			run.slab = SIZE_MAX;
		index[i] = run_word(&run, (size_t)(r[i] - (uintptr_t)k->window));
		if (likely(index[i] != INDEX_NONE))
			__builtin_prefetch((const void *)&k->control.object[index[i]], 1);
	}
	for (i = 0; i < n; i++) {
		size_t at = (size_t)(r[i] - (uintptr_t)k->window);
		owner_word_t *word;
		uint64_t w;

		if (unlikely(index[i] == INDEX_NONE))
			continue;
		word = &k->control.object[index[i]];
		w = owner_load(word);
		if (unlikely(!object_is_ours(k, x, w))) {
			if (!x.marked)
				freed_twice(k, x, at, w);
			continue;
		}
		if (unlikely(w & OWNER_KEPT) ||
		    unlikely(!owner_cas(word, &w, owner_given_back(w, OWNER_MAGAZINE, m)))) {
			r[(*failed)++] = r[i];
			continue;
		}
		object_shared_clear(k, index[i]);
		/* relaxed: the header's exchange publishes it */
		atomic_store_explicit(&mag->round[count++], (uint32_t)(at >> shift),
		                      memory_order_relaxed);
	}
	return count;
}

static uint32_t load_blocks(struct kmm *k, uint32_t m, uint64_t r[], uint32_t n, uint32_t *failed)
{
	struct magazine *mag = &k->control.magazine[m];
	uint32_t i, count = 0;

	for (i = 0; i < n; i++) {
		uint32_t pfn = (uint32_t)r[i];
		uint64_t w = owner_load(&k->control.word[pfn]);

		if (!block_is_ours(k, r[i], w) || (w & OWNER_KEPT) ||
		    !owner_cas(&k->control.word[pfn], &w, owner_given_back(w, OWNER_MAGAZINE, m))) {
			r[(*failed)++] = r[i];
			continue;
		}
		shared_clear(k, pfn);
		atomic_store_explicit(&mag->round[count++], granule_of(k, pfn),
		                      memory_order_relaxed);
	}
	return count;
}

uint32_t rounds_load(struct kmm *k, struct exchange x, uint32_t m, uint64_t r[], uint32_t n,
                     uint32_t *failed)
{
	return x.cache ? load_objects(k, x, m, r, n, failed) : load_blocks(k, m, r, n, failed);
}

bool exchange_return(struct kmm *k, struct exchange x, uint64_t round, uint64_t *word,
                     uint32_t *granule)
{
	size_t at = (size_t)(round - (uintptr_t)k->window);
	owner_word_t *place;
	struct run run;
	uint32_t index;
	uint64_t w, back;

	run_init(&run, k, x.cache, false);
	index = run_word(&run, at);
	if (index == INDEX_NONE)
		return false;
	place = &k->control.object[index];
	w = owner_load(place);
	do {
		if (!object_is_ours(k, x, w)) {
			if (!x.marked)
				freed_twice(k, x, at, w);
			return false;
		}
		back = owner_given_back(w, OWNER_RETURNED, k->id);
	} while (!owner_cas(place, &w, back));
	object_shared_clear(k, index);
	*word = back;
	*granule = (uint32_t)(at >> (FRAME_SHIFT - k->granule_bits));
	return true;
}
