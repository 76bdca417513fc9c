/* SPDX-License-Identifier: MIT */
/*
 * The fast paths of objects. They are written in <kmm/inline.h>, so that programs can have them
 * without the call; here are the exported functions. What they leave is done by object_slow.c and
 * kmalloc.c.
 *
 * The thread's cache is one load away (initial-exec TLS), the class of a cache an addition. An
 * allocation pops the thread's loaded magazine. A free proves that the pointer is the first byte of
 * an object of the cache that this session holds, and pushes it:
 *
 *   the address lies in the window                                            window_size
 *   its frame's descriptor says: a slab of the cache                          tag
 *   it is a multiple of the stride, where objects fill their slab; else       low
 *   offset in the slab, less colour and red zone, is slot * stride            control_cache_slot()
 *   the object's owner word says HELD by us, no handle, no further holder     held
 *
 * No atomic read-modify-write, no lock, no call. Another thread may want the magazines: `busy` is
 * set around each use, by a plain store, and the class's gate is looked at inside (seize.c). The
 * gate names the cache as long as fast paths may pass: not when the cache is destroyed, debugged or
 * unknown to the thread, not in a forked child (all is zero there), not under pressure, where what
 * is freed goes to the daemon at once.
 *
 * All loads are relaxed. Who holds an object has seen its descriptor and word by the exchange that
 * made it so, and nobody else changes them meanwhile; for who does not hold it the word says so,
 * whatever is seen.
 */
#include "client/object.h"

#include <string.h>

/* The two magazines change places when the loaded one cannot pop (freeing: take) n rounds, and the
 * other one can. */
static bool class_turn(struct thread_cache *tc, struct local_objects *o, const struct kmm_cache *c,
                       size_t n, bool freeing)
{
	struct local_class *lc = &o->class;
	struct kmm_cache *gate;
	bool turn = false;

	local_busy(tc);
	/* relaxed: see seize.c */
	gate = atomic_load_explicit(&lc->gate, memory_order_relaxed);
	if (likely(c ? gate == c : gate != NULL))
		turn = freeing ? lc->size - lc->loaded_n < n && lc->size - lc->previous_n >= n
		               : lc->loaded_n < n && lc->previous_n >= n;
	if (turn) {
		uint64_t *rounds = lc->loaded;
		uint32_t was = lc->loaded_n;

		lc->loaded = lc->previous;
		lc->loaded_n = lc->previous_n;
		lc->previous = rounds;
		lc->previous_n = was;
	}
	local_leave(tc);
	return turn;
}

static __attribute__((noinline)) void *cache_alloc_next(struct kmm_cache *c, kmm_gfp_t gfp)
{
	struct thread_cache *tc = thread_cache_now();
	void *p = NULL;

	if (likely(c && !(gfp & KMM_GFP_SLOW_1) && class_turn(tc, local_of(tc, c), c, 1, false)))
		p = kmm_cache_alloc_1(c, gfp);
	return p ? p : object_alloc_slow(c, gfp);
}

void *kmm_cache_alloc(struct kmm_cache *c, kmm_gfp_t gfp)
{
	void *p = kmm_cache_alloc_1(c, gfp);

	return likely(p) ? p : cache_alloc_next(c, gfp);
}

static __attribute__((noinline)) int cache_free_next(struct kmm_cache *c, void *p)
{
	struct thread_cache *tc = thread_cache_now();

	if (likely(c && class_turn(tc, local_of(tc, c), c, 1, true)) && kmm_cache_free_1(c, p))
		return 0;
	return object_free_slow(c, p);
}

int kmm_cache_free(struct kmm_cache *c, void *p)
{
	return likely(kmm_cache_free_1(c, p)) ? 0 : cache_free_next(c, p);
}

static __attribute__((noinline)) void *kmalloc_next(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	struct thread_cache *tc = thread_cache_now();
	void *p = NULL;

	if (size <= KMM_KMALLOC_1 &&
	    class_turn(tc, &tc->object[tc->kmalloc_id[(size + 7) / 8]], NULL, 1, false))
		p = kmm_kmalloc_1(k, size, gfp);
	return p ? p : kmalloc_slow(k, size, gfp);
}

void *kmm_kmalloc(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	void *p = kmm_kmalloc_1(k, size, gfp);

	return likely(p) ? p : kmalloc_next(k, size, gfp);
}

static __attribute__((noinline)) int kfree_next(struct kmm *k, const void *p)
{
	struct thread_cache *tc = thread_cache_now();
	uintptr_t at = (uintptr_t)p - (uintptr_t)tc->window;

	if (at < tc->window_size) {
		/* relaxed: which class; what it is is looked at again */
		uint64_t d = atomic_load_explicit(&tc->desc[at >> FRAME_SHIFT],
		                                  memory_order_relaxed);

		if (page_desc_kind(d) == PAGE_SLAB &&
		    class_turn(tc, &tc->object[page_desc_cache(d) % CONTROL_CACHES_MAX], NULL, 1,
		               true) &&
		    kmm_kfree_1(k, p))
			return 0;
	}
	return kfree_slow(k, p);
}

int kmm_kfree(struct kmm *k, const void *p)
{
	return likely(kmm_kfree_1(k, p)) ? 0 : kfree_next(k, p);
}

/* ---- many ---- */

_Static_assert(sizeof(void *) == sizeof(uint64_t), "rounds are pointers");

/* Four at a time: most are few, and a call would cost as much. */
static inline void rounds_copy(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	for (; n >= 4; n -= 4, t += 32, f += 32)
		memcpy(t, f, 32);
	for (; n > 0; n--, t += 8, f += 8)
		memcpy(t, f, 8);
}

static bool bulk_pop(struct thread_cache *tc, struct local_objects *o, const struct kmm_cache *c,
                     size_t n, void *p[])
{
	bool done = false;

	local_busy(tc);
	/* relaxed: see seize.c */
	if (likely(atomic_load_explicit(&o->class.gate, memory_order_relaxed) == c &&
	           n <= o->class.loaded_n)) {
		o->class.loaded_n -= (uint32_t)n;
		rounds_copy(p, o->class.loaded + o->class.loaded_n, n);
		done = true;
	}
	local_leave(tc);
	return done;
}

size_t kmm_cache_alloc_bulk(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[])
{
	struct thread_cache *tc = thread_cache_now();
	struct local_objects *o;

	if (unlikely(!c || !p || (gfp & KMM_GFP_SLOW_1)))
		return object_alloc_bulk_slow(c, gfp, n, p);
	o = local_of(tc, c);
	if (likely(bulk_pop(tc, o, c, n, p)) ||
	    (class_turn(tc, o, c, n, false) && bulk_pop(tc, o, c, n, p)))
		return n;
	return object_alloc_bulk_slow(c, gfp, n, p);
}

/*
 * Proves that all n are objects of the cache that this session holds, and writes them behind the
 * loaded magazine's top meanwhile: only the count makes them part of it.
 */
static inline __attribute__((always_inline)) bool
objects_prove(const struct thread_cache *tc, const struct local_objects *o, size_t n,
              void *const p[], uint64_t out[])
{
	const uintptr_t window = (uintptr_t)tc->window, size = tc->window_size;
	const struct kmm_thread_1 *t = (const void *)tc;
	const struct kmm_class_1 *class = (const void *)o;
	size_t i;

	for (i = 0; i < n; i++) {
		uintptr_t at = (uintptr_t)p[i] - window;
		uint64_t d;

		out[i] = (uintptr_t)p[i];
		if (unlikely(at >= size))
			return false;
		d = atomic_load_explicit(&tc->desc[at >> FRAME_SHIFT], memory_order_relaxed);
		if (unlikely(!kmm_is_mine_1(t, class, d, at)))
			return false;
	}
	return true;
}

/* What a word has that it would not have if the session held the object, and nobody else. */
static inline __attribute__((always_inline)) uint64_t word_against(const owner_word_t *word,
                                                                   uint64_t held)
{
	return held ^ atomic_load_explicit(word, memory_order_relaxed);
}

/*
 * The same where objects fill their slabs: what speaks against one is gathered, and looked at in the
 * end; what objects of one slab have in common, once for those that follow each other. The mask is
 * all ones, so that the offsets of four are within the slab when what they are together is.
 */
static inline __attribute__((always_inline)) bool
objects_prove_even(const struct thread_cache *tc, const struct local_objects *o, size_t n,
                   void *const p[], uint64_t out[])
{
	const uintptr_t window = (uintptr_t)tc->window, size = tc->window_size;
	const uintptr_t mask = o->slab_mask;
	const unsigned int shift = o->shift;
	const uint64_t held = tc->held;
	uint64_t low = 0, against = 0;
	size_t i = 0;

	while (i < n) {
		const uintptr_t at = (uintptr_t)p[i] - window;
		const uintptr_t slab = (uintptr_t)p[i] - (at & mask);
		const owner_word_t *word;
		uint64_t d;

		if (unlikely(at >= size))
			return false;
		d = atomic_load_explicit(&tc->desc[at >> FRAME_SHIFT], memory_order_relaxed);
		if (unlikely(d << LOCAL_TAG_SHIFT != o->tag))
			return false;
		word = tc->object_word + page_desc_first_word(d);
		__asm__("" : "+r"(word)); /* one sum for all */
		for (; n - i >= 4; i += 4) {
			const uintptr_t a = (uintptr_t)p[i] - slab, b = (uintptr_t)p[i + 1] - slab;
			const uintptr_t c = (uintptr_t)p[i + 2] - slab;
			const uintptr_t e = (uintptr_t)p[i + 3] - slab;

			if (unlikely((a | b | c | e) > mask))
				break;
			low |= a | b | c | e;
			against |= word_against(&word[a >> shift], held) |
			           word_against(&word[b >> shift], held) |
			           word_against(&word[c >> shift], held) |
			           word_against(&word[e >> shift], held);
			memcpy(out + i, p + i, 4 * sizeof(p[0]));
		}
		for (; i < n && (uintptr_t)p[i] - slab <= mask; i++) {
			low |= (uintptr_t)p[i] - slab;
			against |= word_against(&word[((uintptr_t)p[i] - slab) >> shift], held);
			out[i] = (uintptr_t)p[i];
		}
	}
	return ((low & o->low) | (against & KMM_WORD_MASK_1)) == 0;
}

/* -EAGAIN: there is no place; -EINVAL: not all are ours, the slow path finds out why. */
static int bulk_push(struct thread_cache *tc, struct local_objects *o, const struct kmm_cache *c,
                     size_t n, void *const p[])
{
	struct local_class *lc = &o->class;
	int r = -EAGAIN;

	local_busy(tc);
	if (likely(atomic_load_explicit(&lc->gate, memory_order_relaxed) == c &&
	           n <= lc->size - lc->loaded_n)) {
		uint64_t *top = lc->loaded + lc->loaded_n;

		if (likely(o->low == SIZE_MAX ? objects_prove(tc, o, n, p, top)
		                              : objects_prove_even(tc, o, n, p, top))) {
			lc->loaded_n += (uint32_t)n;
			r = 0;
		} else {
			r = -EINVAL;
		}
	}
	local_leave(tc);
	return r;
}

int kmm_cache_free_bulk(struct kmm_cache *c, size_t n, void *const p[])
{
	struct thread_cache *tc = thread_cache_now();
	struct local_objects *o;
	int r;

	if (unlikely(!c || !p))
		return object_free_bulk_slow(c, n, p);
	o = local_of(tc, c);
	r = bulk_push(tc, o, c, n, p);
	if (unlikely(r == -EAGAIN) && class_turn(tc, o, c, n, true))
		r = bulk_push(tc, o, c, n, p);
	return likely(r == 0) ? 0 : object_free_bulk_slow(c, n, p);
}
