/* SPDX-License-Identifier: MIT */
/*
 * Many objects by one call.
 *
 * Allocating copies pointers from the top of the loaded magazine (inline.h). Freeing proves for each
 * object what object.c says, and so many proofs have much in common:
 *
 *   - What is the same for objects of one slab (descriptor, first owner word) is found once for those
 *     that follow each other: a *run*.
 *   - In classes of even objects (inline.h) an offset in the slab that has none of the bits `outside`
 *     is that of an object. The offsets of eight are gathered by or, and looked at together.
 *   - So is what owner words have that they should not.
 *
 * The rounds are written behind the loaded magazine's top meanwhile: only the new top makes them part
 * of it, and that is stored when all is proven. When one is not, the slow path finds out which.
 *
 * They are written last first, so that objects which are neighbours stay so: what is popped in order
 * and pushed in order would be cut where calls and magazines do not begin together, a bit each time,
 * until each object's owner word lies in a cache line of its own.
 */
#include "client/object.h"

#include <string.h>

_Static_assert(sizeof(void *) == sizeof(uint64_t), "rounds are pointers");

/* ---- allocating ---- */

static __attribute__((noinline)) size_t bulk_alloc_next(struct kmm_cache *c, kmm_gfp_t gfp, size_t n,
                                                        void *p[])
{
	size_t got = 0;

	if (likely(c && p && !(gfp & KMM_GFP_SLOW_1) &&
	           cache_turn(thread_cache_now(), c, n, false)))
		got = kmm_cache_alloc_bulk_1(c, gfp, n, p);
	return got ? got : object_alloc_bulk_slow(c, gfp, n, p);
}

size_t kmm_cache_alloc_bulk(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[])
{
	size_t got = kmm_cache_alloc_bulk_1(c, gfp, n, p);

	return likely(got) ? got : bulk_alloc_next(c, gfp, n, p);
}

/* ---- freeing: even objects, by runs ---- */

typedef uint64_t two_t __attribute__((vector_size(16), aligned(8), may_alias));

/* What even objects of one slab have in common. */
struct run {
	uint64_t slab;        /* its address */
	uint64_t outside;     /* bits that no object's offset has */
	const uint64_t *word; /* by address >> shift; plain loads, each word is looked at once */
	unsigned int shift;
	two_t held;
};

/* What the words of two have that they should not. */
static inline __attribute__((always_inline)) two_t run_against(const struct run *r, const void *p,
                                                               const void *q)
{
	two_t w = { r->word[(uintptr_t)p >> r->shift], r->word[(uintptr_t)q >> r->shift] };

	return w ^ r->held;
}

/* They lie in the slab, at its objects' first bytes: gathered of two each. */
static inline __attribute__((always_inline)) bool run_has(const struct run *r, two_t offsets)
{
	return likely(((offsets[0] | offsets[1]) & r->outside) == 0);
}

/* Downwards from `out`. What lies above the top is nobody's, so it is written before it is known to
 * belong there. False: not all are ours. */
static inline __attribute__((always_inline)) bool
push_even(const struct kmm_thread_1 *t, const struct local_objects *o, uint32_t place, uint64_t *out,
          void *const *p, void *const *end)
{
	const uint64_t mask = slab_mask(o);
	struct run r = { .outside = ~(mask & -(uint64_t)o->class.bytes),
		         .held = { t->held, t->held } };
	two_t against = { 0, 0 };

	while (p < end) {
		const uint64_t at = (uintptr_t)*p, frame = (at - (uintptr_t)t->window) >> FRAME_SHIFT;
		two_t slab;
		uint64_t d;

		r.slab = at & ~mask; /* windows are aligned to their sections */
		if (unlikely(frame >= t->frames))
			return false;
		d = kmm_desc_1(t, frame);
		if (unlikely(((uint32_t)d & KMM_CLASS_MASK_1) != place ||
		             ((at - r.slab) & r.outside)))
			return false;
		r.shift = page_desc_shift(d);
		r.word = t->word + page_desc_frame_word(d) -
		         ((at & ~(KMM_PAGE_SIZE - 1)) >> r.shift);
		slab = (two_t){ r.slab, r.slab };
		for (; p + 8 <= end; p += 8, out -= 8) {
			const two_t *from = (const two_t *)(const void *)p;
			two_t *to = (two_t *)(void *)out;
			two_t a = from[0], b = from[1], c = from[2], e = from[3];

			to[-1] = __builtin_shufflevector(a, a, 1, 0);
			to[-2] = __builtin_shufflevector(b, b, 1, 0);
			to[-3] = __builtin_shufflevector(c, c, 1, 0);
			to[-4] = __builtin_shufflevector(e, e, 1, 0);
			if (!run_has(&r, (a - slab) | (b - slab) | (c - slab) | (e - slab)))
				break;
			against |= run_against(&r, p[0], p[1]) | run_against(&r, p[2], p[3]) |
			           (run_against(&r, p[4], p[5]) | run_against(&r, p[6], p[7]));
		}
		for (; p + 2 <= end; p += 2, out -= 2) {
			two_t a = *(const two_t *)(const void *)p;

			((two_t *)(void *)out)[-1] = __builtin_shufflevector(a, a, 1, 0);
			if (!run_has(&r, a - slab))
				break;
			against |= run_against(&r, p[0], p[1]);
		}
		for (; p < end && (((uintptr_t)*p - r.slab) & r.outside) == 0; p++) {
			*--out = (uintptr_t)*p;
			against |= run_against(&r, *p, *p);
		}
	}
	return ((against[0] | against[1]) & KMM_WORD_MASK_1) == 0;
}

/* False: also where they are not even. */
static inline __attribute__((always_inline)) bool bulk_push(const struct kmm_cache *c, size_t n,
                                                            void *const p[])
{
	struct kmm_thread_1 *t = kmm_thread_1;
	struct kmm_class_1 *o = kmm_class_at_1(t, c->place);
	uint64_t *top = kmm_enter_1(o);

	if (likely(KMM_GATE_1(o->gate_even) == c && n <= (size_t)(o->end - top) &&
	           push_even(t, (const struct local_objects *)(void *)o, c->place, top + n, p,
	                     p + n))) {
		kmm_leave_at_1(o, top + n);
		return true;
	}
	kmm_leave_1(o);
	return false;
}

/* ---- the others, one by one ---- */

static bool prove_each(const struct local_objects *o, size_t n, void *const p[], uint64_t out[])
{
	const struct thread_cache *tc = thread_cache_now();
	const uint64_t window = (uintptr_t)tc->window, held = tc->held;
	uint32_t index;
	size_t i;

	for (i = 0; i < n; i++) {
		uint64_t at = (uintptr_t)p[i] - window, w;

		out[n - 1 - i] = (uintptr_t)p[i];
		if (unlikely(at >> FRAME_SHIFT >= tc->frames || !local_locate(tc, o, at, &index)))
			return false;
		w = atomic_load_explicit(&tc->object_word[index], memory_order_relaxed);
		if (unlikely((w & KMM_WORD_MASK_1) != held))
			return false;
	}
	return true;
}

static bool bulk_push_odd(const struct kmm_cache *c, size_t n, void *const p[])
{
	struct local_objects *o = local_of(thread_cache_now(), c);
	struct kmm_class_1 *class = (struct kmm_class_1 *)(void *)o;
	uint64_t *top = kmm_enter_1(class);

	if (likely(KMM_GATE_1(class->gate_cache) == c && !KMM_GATE_1(class->gate_even) &&
	           n <= (size_t)(class->end - top) && prove_each(o, n, p, top))) {
		kmm_leave_at_1(class, top + n);
		return true;
	}
	kmm_leave_1(class);
	return false;
}

static __attribute__((noinline)) int bulk_free_next(struct kmm_cache *c, size_t n, void *const p[])
{
	if (likely(c && p)) {
		if (likely(bulk_push_odd(c, n, p)))
			return 0;
		if (cache_turn(thread_cache_now(), c, n, true) &&
		    (bulk_push(c, n, p) || bulk_push_odd(c, n, p)))
			return 0;
	}
	return object_free_bulk_slow(c, n, p);
}

int kmm_cache_free_bulk(struct kmm_cache *c, size_t n, void *const p[])
{
	return likely(c && p && bulk_push(c, n, p)) ? 0 : bulk_free_next(c, n, p);
}
