/* SPDX-License-Identifier: MIT */
/*
 * The fast paths of <kmm/kmm.h>, in the program itself: an allocation or free of an object that the
 * calling thread caches takes some twenty to forty instructions, less than the call of a function in
 * a shared library costs.
 *
 * Included by <kmm/kmm.h> where the compiler optimizes and understands GNU C; -DKMM_NO_INLINE leaves
 * it out. These are additional definitions of functions that libkmm exports: whatever is not done
 * here is done there, and a program's pointers to the functions are libkmm's.
 *
 * Everything in here belongs to the library. Programs have it compiled in, so it is never changed:
 * another layout gets another kmm_thread_N, and a libkmm that no longer uses this one leaves
 * kmm_thread_1 at a thread of zeroes, where every gate is closed and every call goes to the library.
 * How it works, and why it needs no lock and no atomic instruction, is said in client/object.c.
 */
#ifndef KMM_INLINE_H
#define KMM_INLINE_H

#ifndef KMM_KMM_H
#error "include <kmm/kmm.h>"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What a thread caches of a cache, and what frees are checked with: a cache line, and a rarer one.
 *
 * A path marks the class, by the byte of `top` that is 0 in every address, before it looks at the
 * gate; the new top, when there is one, takes the mark away.
 */
struct kmm_class_1 {
	struct kmm_cache *gate_cache, *gate_even;
	struct kmm *gate_session;
	uint64_t *top, *end;
	uint64_t unit;
	uint64_t *loaded;
	uint64_t cold[4];
	uint32_t cold_bytes;
	uint8_t order, cold_row;
	uint32_t inverse, objects, cold_id;
	uint16_t offset;
	uint8_t twos, colour_shift;
	uint64_t cold_end[2];
};

#define KMM_CLASSES_1 4096u /* where a thread's classes begin, in bytes; by cache id */
#define KMM_CLASS_MASK_1 UINT32_C(0x1fff80) /* a descriptor's cache, in bytes of classes */
#define KMM_KMALLOC_1 4096u

struct kmm_thread_1 {
	uint64_t cold[2];
	uint64_t held;
	unsigned char *window;
	uint64_t frames;
	const uint64_t *desc, *word;
	uint64_t cold_word;
	uint16_t kmalloc_place[KMM_KMALLOC_1 / 8 + 1]; /* as kmm_cache_1.place, by (size + 7) / 8 */
};

/* The head of struct kmm_cache. */
struct kmm_cache_1 {
	uint32_t place; /* of its class among a thread's, in bytes */
};

/* The calling thread's; never NULL. */
extern __thread struct kmm_thread_1 *kmm_thread_1 __attribute__((tls_model("initial-exec")));

#define KMM_INLINE_1 extern inline __attribute__((gnu_inline, always_inline, artificial))
#define KMM_LIKELY_1(x) __builtin_expect(!!(x), 1)
/* Requests that are more than a pop, whatever is cached. */
#define KMM_GFP_SLOW_1                                                                             \
	(KMM_GFP_DMA | KMM_GFP_DMA32 | KMM_GFP_HIGHMEM | KMM_GFP_MOVABLE | KMM_GFP_THISNODE |      \
	 KMM_GFP_MEMALLOC | KMM_GFP_ZERO | (kmm_gfp_t)0x7f800200u)
/* Kind and owner of an owner word, handles and further holders. */
#define KMM_WORD_MASK_1 UINT64_C(0x2ffffff)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KMM_MARK_1(o) ((unsigned char *)&(o)->top + 7)
#else
#define KMM_MARK_1(o) ((unsigned char *)&(o)->top)
#endif
#ifdef __SANITIZE_THREAD__
#define KMM_GATE_1(gate) __atomic_load_n(&(gate), __ATOMIC_RELAXED)
#else
#define KMM_GATE_1(gate) (gate) /* one instruction with the comparison */
#endif

/* Under other names, so that libkmm itself is made of them. */

KMM_INLINE_1 struct kmm_class_1 *kmm_class_at_1(struct kmm_thread_1 *t, uint64_t place)
{
	return (struct kmm_class_1 *)(void *)((unsigned char *)t + KMM_CLASSES_1 + place);
}

KMM_INLINE_1 uint32_t kmm_place_1(const struct kmm_cache *c)
{
	return ((const struct kmm_cache_1 *)(const void *)c)->place;
}

/* Marks the class: its top as it was. Then the gate decides. */
KMM_INLINE_1 uint64_t *kmm_enter_1(struct kmm_class_1 *o)
{
	uint64_t *top = __atomic_load_n(&o->top, __ATOMIC_RELAXED);

	/* relaxed: who closes the gate has a barrier between that and its look at the mark */
	__atomic_store_n(KMM_MARK_1(o), 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* the compiler keeps the order */
	return top;
}

/* release: what was read and written before is over for who sees no mark any more */
KMM_INLINE_1 void kmm_leave_1(struct kmm_class_1 *o)
{
	__atomic_store_n(KMM_MARK_1(o), 0, __ATOMIC_RELEASE);
}

KMM_INLINE_1 void kmm_leave_at_1(struct kmm_class_1 *o, uint64_t *top)
{
	__atomic_store_n(&o->top, top, __ATOMIC_RELEASE);
}

/* An object of the class, whose gate is the cache's (of the session's, when c is NULL). */
KMM_INLINE_1 void *
kmm_pop_1(struct kmm_class_1 *o, const struct kmm_cache *c, const struct kmm *k)
{
	uint64_t *top = kmm_enter_1(o), round;

	if (KMM_LIKELY_1(c ? KMM_GATE_1(o->gate_cache) == c : KMM_GATE_1(o->gate_session) == k)) {
		round = top[-1];
		if (KMM_LIKELY_1(round != 0)) {
			kmm_leave_at_1(o, top - 1);
			return (void *)(uintptr_t)round;
		}
	}
	kmm_leave_1(o);
	return NULL;
}

KMM_INLINE_1 uint64_t kmm_desc_1(const struct kmm_thread_1 *t, uint64_t frame)
{
	return __atomic_load_n(&t->desc[frame], __ATOMIC_RELAXED);
}

/* The address is that of an object of the class, by calculation; its word. The fence: nothing of it is
 * done, or kept for it, before it is known to be needed. */
KMM_INLINE_1 int kmm_is_object_1(const struct kmm_thread_1 *t, const struct kmm_class_1 *o,
                                 const void *p, uint32_t *word)
{
	uint64_t at, desc, unit;
	uint32_t in_frame, offset, slot;

	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	at = (uint64_t)((uintptr_t)p - (uintptr_t)t->window);
	desc = kmm_desc_1(t, at >> 12);
	in_frame = (uint32_t)at & 4095;
	*word = (uint32_t)(desc >> 32) + (in_frame >> (desc & 31));
	unit = o->unit;
	if (in_frame * unit < unit)
		return 1;
	offset = (uint32_t)at & ((UINT32_C(4096) << o->order) - 1);
	slot = (offset - ((uint32_t)desc >> 24 << o->colour_shift) - o->offset) * o->inverse;
	return (slot >> o->twos | slot << (-(uint32_t)o->twos & 31)) < o->objects;
}

/* Pushes p, which is an object, when this session holds it and there is room. */
KMM_INLINE_1 int kmm_push_1(const struct kmm_thread_1 *t, struct kmm_class_1 *o, uint64_t *top,
                            uint32_t word, const void *p)
{
	if (KMM_LIKELY_1((__atomic_load_n(&t->word[word], __ATOMIC_RELAXED) & KMM_WORD_MASK_1) ==
	                 t->held && top != o->end)) {
		*top = (uintptr_t)p;
		kmm_leave_at_1(o, top + 1);
		return 1;
	}
	kmm_leave_1(o);
	return 0;
}

/* The thread is looked up before anything else: only so do compilers do it once for a loop. */

KMM_INLINE_1 void *kmm_cache_alloc_1(struct kmm_cache *c, kmm_gfp_t gfp)
{
	struct kmm_thread_1 *t = kmm_thread_1;

	if (!KMM_LIKELY_1(c && !(gfp & KMM_GFP_SLOW_1)))
		return NULL;
	return kmm_pop_1(kmm_class_at_1(t, kmm_place_1(c)), c, NULL);
}

KMM_INLINE_1 size_t
kmm_cache_alloc_bulk_1(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[])
{
	struct kmm_thread_1 *t = kmm_thread_1;
	struct kmm_class_1 *o;
	uint64_t *top;
	size_t i;

	if (!KMM_LIKELY_1(c && p && !(gfp & KMM_GFP_SLOW_1)))
		return 0;
	o = kmm_class_at_1(t, kmm_place_1(c));
	top = kmm_enter_1(o);
	if (!KMM_LIKELY_1(KMM_GATE_1(o->gate_cache) == c && n <= (size_t)(top - o->loaded))) {
		kmm_leave_1(o);
		return 0;
	}
	top -= n;
	for (i = 0; i < n / 8; i++) /* most are few: a call would cost as much */
		__builtin_memcpy(p + 8 * i, top + 8 * i, 8 * sizeof(*p));
	for (i = n & ~(size_t)7; i < n; i++)
		p[i] = (void *)(uintptr_t)top[i];
	kmm_leave_at_1(o, top);
	return n;
}

/* By the cache the class is known before the descriptor is there. Objects that are a power of two and
 * fill their slab are proven by what is shifted out of the offset: nothing. */
KMM_INLINE_1 int kmm_cache_free_1(struct kmm_cache *c, void *p)
{
	struct kmm_thread_1 *t = kmm_thread_1;
	uint64_t frame = (uint64_t)((uintptr_t)p - (uintptr_t)t->window) >> 12, desc, *top;
	uint32_t in_frame = (uint32_t)(uintptr_t)p & 4095, shift, place, word;
	struct kmm_class_1 *o;

	if (!KMM_LIKELY_1(c && frame < t->frames))
		return 0;
	desc = kmm_desc_1(t, frame);
	shift = (uint32_t)desc & 31;
	place = kmm_place_1(c);
	o = kmm_class_at_1(t, place);
	top = kmm_enter_1(o);
	in_frame = in_frame >> shift | in_frame << (-shift & 31);
	word = (uint32_t)(desc >> 32) + in_frame;
	if (KMM_LIKELY_1(((uint32_t)desc & KMM_CLASS_MASK_1) == place) &&
	    (KMM_LIKELY_1(KMM_GATE_1(o->gate_even) == c && in_frame < 4096) ||
	     (KMM_GATE_1(o->gate_cache) == c && kmm_is_object_1(t, o, p, &word))))
		return kmm_push_1(t, o, top, word, p);
	kmm_leave_1(o);
	return 0;
}

KMM_INLINE_1 void *kmm_kmalloc_1(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	struct kmm_thread_1 *t = kmm_thread_1;

	if (!KMM_LIKELY_1(k && size <= KMM_KMALLOC_1 &&
	                  !(gfp & (KMM_GFP_SLOW_1 | KMM_GFP_RECLAIMABLE))))
		return NULL;
	return kmm_pop_1(kmm_class_at_1(t, t->kmalloc_place[(size + 7) / 8]), NULL, k);
}

/* Of any class: no branch here depends on which it is. */
KMM_INLINE_1 int kmm_kfree_1(struct kmm *k, const void *p)
{
	struct kmm_thread_1 *t = kmm_thread_1;
	uint64_t frame = (uint64_t)((uintptr_t)p - (uintptr_t)t->window) >> 12, desc, *top;
	uint32_t in_frame = (uint32_t)(uintptr_t)p & 4095, word;
	struct kmm_class_1 *o;

	if (!KMM_LIKELY_1(k && frame < t->frames))
		return 0;
	desc = kmm_desc_1(t, frame);
	o = kmm_class_at_1(t, (uint32_t)desc & KMM_CLASS_MASK_1);
	top = kmm_enter_1(o);
	word = (uint32_t)(desc >> 32) + (in_frame >> (desc & 31));
	if (KMM_LIKELY_1(KMM_GATE_1(o->gate_session) == k) &&
	    (KMM_LIKELY_1(in_frame * o->unit < o->unit) || kmm_is_object_1(t, o, p, &word)))
		return kmm_push_1(t, o, top, word, p);
	kmm_leave_1(o);
	return 0;
}

#if !defined(KMM_NO_INLINE) && defined(__OPTIMIZE__)

/* The library's functions, beyond these. */
extern void *kmm_cache_alloc_call(struct kmm_cache *c, kmm_gfp_t gfp) __asm__("kmm_cache_alloc");
extern size_t kmm_cache_alloc_bulk_call(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[])
	__asm__("kmm_cache_alloc_bulk");
extern int kmm_cache_free_call(struct kmm_cache *c, void *p) __asm__("kmm_cache_free");
extern void *kmm_kmalloc_call(struct kmm *k, size_t size, kmm_gfp_t gfp) __asm__("kmm_kmalloc");
extern int kmm_kfree_call(struct kmm *k, const void *p) __asm__("kmm_kfree");

KMM_INLINE_1 void *kmm_cache_alloc(struct kmm_cache *c, kmm_gfp_t gfp)
{
	void *p = kmm_cache_alloc_1(c, gfp);

	return KMM_LIKELY_1(p != NULL) ? p : kmm_cache_alloc_call(c, gfp);
}

KMM_INLINE_1 size_t kmm_cache_alloc_bulk(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[])
{
	size_t got = kmm_cache_alloc_bulk_1(c, gfp, n, p);

	return KMM_LIKELY_1(got != 0) ? got : kmm_cache_alloc_bulk_call(c, gfp, n, p);
}

KMM_INLINE_1 int kmm_cache_free(struct kmm_cache *c, void *p)
{
	return KMM_LIKELY_1(kmm_cache_free_1(c, p)) ? 0 : kmm_cache_free_call(c, p);
}

KMM_INLINE_1 void *kmm_kmalloc(struct kmm *k, size_t size, kmm_gfp_t gfp)
{
	void *p = kmm_kmalloc_1(k, size, gfp);

	return KMM_LIKELY_1(p != NULL) ? p : kmm_kmalloc_call(k, size, gfp);
}

KMM_INLINE_1 int kmm_kfree(struct kmm *k, const void *p)
{
	return KMM_LIKELY_1(kmm_kfree_1(k, p)) ? 0 : kmm_kfree_call(k, p);
}

#endif

#ifdef __cplusplus
}
#endif
#endif
