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
 *   its frame is one of the window's                                          frames
 *   the frame's descriptor says: a slab of the cache. What is no slab leads   gate_cache, or for
 *   to the class of cache 0, which has no gate open                           kmalloc gate_session
 *   its offset in the frame is a multiple of the stride; or, where objects    unit
 *   cross frames or do not begin at the slab's first byte, its offset in      control_cache_slot()
 *   the slab, less colour and red zone, is slot * stride
 *   the object's owner word says HELD by us, no handle, no further holder     held
 *
 * Where the stride is a power of two and objects fill their slabs (gate_even), the shift that finds
 * the owner word is the test, too: what it shifts out must be 0. What is behind the last object of
 * a slab may pass for one; its owner word is FREE.
 *
 * No atomic read-modify-write, no lock, no call. Another thread may want the magazines: a class is
 * marked around each use, in the highest byte of its `top`, by a plain store, and its gate is
 * looked at inside; the store of the new top takes the mark away (seize.c). Gates name the cache,
 * and its session, as long as fast paths may pass: not when the cache is destroyed, debugged or
 * unknown to the thread, not in a forked child (all is zero there), not under pressure, where what
 * is freed goes to the daemon at once. An empty magazine needs no count: the word before it is 0,
 * which is no object.
 *
 * All loads are relaxed. Who holds an object has seen its descriptor and word by the exchange that
 * made it so, and nobody else changes them meanwhile; for who does not hold it the word says so,
 * whatever is seen.
 */
#include "client/object.h"

/* The two magazines change places when the loaded one cannot pop (freeing: take) n rounds, and the
 * other one can. By the gate of the cache, or of the session where c is NULL. */
static bool class_turn(struct thread_cache *tc, struct local_class *lc, const struct kmm_cache *c,
                       const struct kmm *k, size_t n, bool freeing)
{
	bool turn = false;

	local_busy(tc);
	/* relaxed: see seize.c */
	if (likely(c ? atomic_load_explicit(&lc->gate_cache, memory_order_relaxed) == c
	             : atomic_load_explicit(&lc->gate_session, memory_order_relaxed) == k))
		turn = freeing ? (size_t)(lc->end - lc->top) < n &&
		                         local_size(lc) - lc->previous_n >= n
		               : local_loaded(lc) < n && lc->previous_n >= n;
	if (turn)
		local_swap(lc);
	local_leave(tc);
	return turn;
}

bool cache_turn(struct thread_cache *tc, const struct kmm_cache *c, size_t n, bool freeing)
{
	return class_turn(tc, &local_of(tc, c)->class, c, NULL, n, freeing);
}

static __attribute__((noinline)) void *cache_alloc_next(struct kmm_cache *c, kmm_gfp_t gfp)
{
	struct thread_cache *tc = thread_cache_now();
	void *p = NULL;

	if (likely(c && !(gfp & KMM_GFP_SLOW_1) && cache_turn(tc, c, 1, false)))
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

	if (likely(c && cache_turn(tc, c, 1, true)) && kmm_cache_free_1(c, p))
		return 0;
	return object_free_slow(c, p);
}

int kmm_cache_free(struct kmm_cache *c, void *p)
{
	return likely(kmm_cache_free_1(c, p)) ? 0 : cache_free_next(c, p);
}

/* Also for the largest class, which the inline path does not know. */
static __attribute__((noinline)) void *kmalloc_next(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	struct thread_cache *tc = thread_cache_now();
	uint64_t round = 0;

	if (likely(k && size <= KMALLOC_MAX &&
	           !(gfp & (KMM_GFP_SLOW_1 | KMM_GFP_RECLAIMABLE)))) {
		struct local_class *lc = &tc->object[1 + kmalloc_class(size)].class;

		class_turn(tc, lc, NULL, k, 1, false);
		local_busy(tc);
		if (likely(atomic_load_explicit(&lc->gate_session, memory_order_relaxed) == k &&
		           lc->top != lc->loaded))
			round = *--lc->top;
		local_leave(tc);
	}
	return round ? (void *)(uintptr_t)round : kmalloc_slow(k, size, gfp);
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

	if (k && at >> FRAME_SHIFT < tc->frames) {
		/* relaxed: which class; what it is is looked at again */
		uint64_t d = atomic_load_explicit(&tc->desc[at >> FRAME_SHIFT],
		                                  memory_order_relaxed);

		struct local_class *lc = &tc->object[page_desc_cache(d) % CONTROL_CACHES_MAX].class;

		if (class_turn(tc, lc, NULL, k, 1, true) && kmm_kfree_1(k, p))
			return 0;
	}
	return kfree_slow(k, p);
}

int kmm_kfree(struct kmm *k, const void *p)
{
	return likely(kmm_kfree_1(k, p)) ? 0 : kfree_next(k, p);
}
