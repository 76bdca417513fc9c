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

/* What a thread caches of a cache, and what frees are checked with. */
struct kmm_class_1 {
	struct kmm_cache *gate;
	uint64_t *loaded;
	uint32_t loaded_n, size;
	uint64_t reserved[5];
	uint64_t tag, low;
	uint32_t slab_mask, inverse, objects, colour_off;
	uint16_t offset;
	uint8_t shift, twos;
	uint32_t cold[7];
};

#define KMM_CLASSES_1 4096u /* where a thread's classes begin, in bytes; by cache id */
#define KMM_CLASS_IDS_1 16384u
#define KMM_KMALLOC_1 8192u

struct kmm_thread_1 {
	struct kmm *session;
	uint32_t busy, reserved;
	uint64_t held;
	unsigned char *window;
	uint64_t window_size;
	const uint64_t *desc, *word;
	uint64_t cold;
	uint8_t kmalloc_id[KMM_KMALLOC_1 / 8 + 1];
};

/* The head of struct kmm_cache. */
struct kmm_cache_1 {
	uint32_t place;
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

/* Under other names, so that libkmm itself is made of them. */

KMM_INLINE_1 void *
kmm_pop_1(struct kmm_thread_1 *t, struct kmm_class_1 *o, const struct kmm_cache *c)
{
	void *p = NULL;
	struct kmm_cache *gate;
	uint32_t n;

	__atomic_store_n(&t->busy, 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	gate = __atomic_load_n(&o->gate, __ATOMIC_RELAXED);
	if (KMM_LIKELY_1((c ? gate == c : gate != NULL) && (n = o->loaded_n) > 0)) {
		p = (void *)(uintptr_t)o->loaded[n - 1];
		o->loaded_n = n - 1;
	}
	__atomic_store_n(&t->busy, 0, __ATOMIC_RELEASE);
	return p;
}

KMM_INLINE_1 int
kmm_push_1(struct kmm_thread_1 *t, struct kmm_class_1 *o, const struct kmm_cache *c, const void *p)
{
	struct kmm_cache *gate;
	int pushed = 0;
	uint32_t n;

	__atomic_store_n(&t->busy, 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	gate = __atomic_load_n(&o->gate, __ATOMIC_RELAXED);
	if (KMM_LIKELY_1((c ? gate == c : gate != NULL) && (n = o->loaded_n) < o->size)) {
		o->loaded[n] = (uintptr_t)p;
		o->loaded_n = n + 1;
		pushed = 1;
	}
	__atomic_store_n(&t->busy, 0, __ATOMIC_RELEASE);
	return pushed;
}

KMM_INLINE_1 struct kmm_class_1 *
kmm_class_of_1(struct kmm_thread_1 *t, uint32_t id)
{
	return (struct kmm_class_1 *)(void *)((char *)t + KMM_CLASSES_1) + id;
}

KMM_INLINE_1 struct kmm_class_1 *
kmm_class_of_cache_1(struct kmm_thread_1 *t, const struct kmm_cache *c)
{
	return (struct kmm_class_1 *)(void *)((char *)t +
	                                      ((const struct kmm_cache_1 *)(const void *)c)->place);
}

/* The descriptor says a slab of the class; `at`, an offset in the window, is that of the first byte
 * of an object there, which this session holds. */
KMM_INLINE_1 int
kmm_is_mine_1(const struct kmm_thread_1 *t, const struct kmm_class_1 *o, uint64_t desc, uint64_t at)
{
	uint32_t offset = (uint32_t)at & o->slab_mask, slot;
	uint32_t index = (uint32_t)(desc >> 24) + (offset >> o->shift);

	if (!KMM_LIKELY_1(desc << 40 == o->tag))
		return 0;
	if (!KMM_LIKELY_1((at & o->low) == 0)) {
		slot = (offset - (uint32_t)(desc >> 56) * o->colour_off - o->offset) * o->inverse;
		if ((slot >> o->twos | slot << (-(uint32_t)o->twos & 31)) >= o->objects)
			return 0;
	}
	return KMM_LIKELY_1((__atomic_load_n(&t->word[index], __ATOMIC_RELAXED) &
	                     KMM_WORD_MASK_1) == t->held);
}

KMM_INLINE_1 void *kmm_cache_alloc_1(struct kmm_cache *c,
                                                                     kmm_gfp_t gfp)
{
	struct kmm_thread_1 *t = kmm_thread_1;

	if (!KMM_LIKELY_1(c && !(gfp & KMM_GFP_SLOW_1)))
		return NULL;
	return kmm_pop_1(t, kmm_class_of_cache_1(t, c), c);
}

KMM_INLINE_1 int kmm_cache_free_1(struct kmm_cache *c, void *p)
{
	struct kmm_thread_1 *t = kmm_thread_1;
	uint64_t at = (uint64_t)((uintptr_t)p - (uintptr_t)t->window);
	struct kmm_class_1 *o;

	if (!KMM_LIKELY_1(c && at < t->window_size))
		return 0;
	o = kmm_class_of_cache_1(t, c);
	return kmm_is_mine_1(t, o, __atomic_load_n(&t->desc[at >> 12], __ATOMIC_RELAXED), at) &&
	       kmm_push_1(t, o, c, p);
}

KMM_INLINE_1 void *kmm_kmalloc_1(struct kmm *k, size_t size,
                                                                 kmm_gfp_t gfp)
{
	struct kmm_thread_1 *t = kmm_thread_1;

	if (!KMM_LIKELY_1(t->session == k && size <= KMM_KMALLOC_1 &&
	                  !(gfp & (KMM_GFP_SLOW_1 | KMM_GFP_RECLAIMABLE))))
		return NULL;
	return kmm_pop_1(t, kmm_class_of_1(t, t->kmalloc_id[(size + 7) / 8]), NULL);
}

KMM_INLINE_1 int kmm_kfree_1(struct kmm *k, const void *p)
{
	struct kmm_thread_1 *t = kmm_thread_1;
	uint64_t at = (uint64_t)((uintptr_t)p - (uintptr_t)t->window), desc;
	struct kmm_class_1 *o;

	if (!KMM_LIKELY_1(at < t->window_size && t->session == k))
		return 0;
	desc = __atomic_load_n(&t->desc[at >> 12], __ATOMIC_RELAXED);
	o = kmm_class_of_1(t, (uint32_t)(desc >> 4) % KMM_CLASS_IDS_1);
	return kmm_is_mine_1(t, o, desc, at) && kmm_push_1(t, o, NULL, p);
}

#if !defined(KMM_NO_INLINE) && defined(__OPTIMIZE__)

/* The library's functions, beyond these. */
extern void *kmm_cache_alloc_call(struct kmm_cache *c, kmm_gfp_t gfp) __asm__("kmm_cache_alloc");
extern int kmm_cache_free_call(struct kmm_cache *c, void *p) __asm__("kmm_cache_free");
extern void *kmm_kmalloc_call(struct kmm *k, size_t size, kmm_gfp_t gfp) __asm__("kmm_kmalloc");
extern int kmm_kfree_call(struct kmm *k, const void *p) __asm__("kmm_kfree");

KMM_INLINE_1 void *kmm_cache_alloc(struct kmm_cache *c, kmm_gfp_t gfp)
{
	void *p = kmm_cache_alloc_1(c, gfp);

	return KMM_LIKELY_1(p != NULL) ? p : kmm_cache_alloc_call(c, gfp);
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
