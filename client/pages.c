/* SPDX-License-Identifier: MIT */
/*
 * Blocks one at a time: granted, claimed, given back.
 *
 *   alloc   the thread's cache; else a magazine from the daemon; else, where such blocks are not
 *           cached, one from the daemon: word OFFERED -> HELD by a CAS, which fails when the
 *           offer was withdrawn
 *   free    the word says who and which life, the descriptor which order. HELD by us -> RETURNED
 *           by a CAS, which is the free: of two frees one succeeds. Then the block is cached, or the
 *           daemon is told; if that fails the word has said it already
 *
 * The fast paths make no call and take no lock: allocating is a pop and a CAS, freeing two loads, a
 * CAS and a push. They rest on the thread's cache naming the session: a cache of another session,
 * of a closed one or in a forked child leads to the slow path, which finds out why.
 */
#include "client/internal.h"

#include <string.h>

static const int8_t class_table[KMM_MAX_ORDER + 1][8] = {
	{ 0, 1, 2, -1, -1, -1, -1, -1 },    { 3, 4, 5, -1, -1, -1, -1, -1 },
	{ 6, 7, 8, -1, -1, -1, -1, -1 },    { 9, 10, 11, -1, -1, -1, -1, -1 },
	{ -1, -1, -1, -1, -1, -1, -1, -1 }, { -1, -1, -1, -1, -1, -1, -1, -1 },
	{ -1, -1, -1, -1, -1, -1, -1, -1 }, { -1, -1, -1, -1, -1, -1, -1, -1 },
	{ -1, -1, -1, -1, -1, -1, -1, -1 }, { 12, 13, 14, -1, -1, -1, -1, -1 },
	{ -1, -1, -1, -1, -1, -1, -1, -1 },
};
_Static_assert(PAGE_CLASSES == 15, "the table is page_class() of control.h");

/* ---- checks ---- */

int page_gfp_check(kmm_gfp_t gfp, unsigned int order)
{
	kmm_gfp_t zones = gfp & GFP_ZONES;

	if (order > KMM_MAX_ORDER)
		return error_set(EINVAL, "order %u: orders are 0 to %u", order, KMM_MAX_ORDER);
	if (gfp & ~GFP_DEFINED)
		return error_set(EINVAL, "gfp 0x%x has undefined bits: 0x%x", gfp,
		                 gfp & ~GFP_DEFINED);
	if (zones & (zones - 1))
		return error_set(EINVAL, "gfp 0x%x: at most one of DMA, DMA32 and HIGHMEM", gfp);
	if ((gfp & KMM_GFP_MOVABLE) && (gfp & KMM_GFP_RECLAIMABLE))
		return error_set(EINVAL, "gfp 0x%x: MOVABLE and RECLAIMABLE exclude each other",
		                 gfp);
	if (gfp & KMM_GFP_MEMALLOC)
		return error_set(EPERM, "gfp 0x%x: MEMALLOC is the daemon's own", gfp);
	return 0;
}

int page_pfn(struct kmm *k, const struct kmm_page *page, uint32_t *pfn)
{
	uintptr_t at = (uintptr_t)page - (uintptr_t)k->control.desc;

	if (at % sizeof(struct kmm_page) != 0 || at / sizeof(struct kmm_page) >= k->pages)
		return error_set(EINVAL, "%p is no page of the pool", (const void *)page);
	*pfn = (uint32_t)(at / sizeof(struct kmm_page));
	return 0;
}

static uint64_t page_desc(struct kmm *k, uint32_t pfn)
{
	/* acquire: pairs with the daemon's stores before it publishes the word */
	return atomic_load_explicit(&k->control.desc[pfn], memory_order_acquire);
}

bool page_head(struct kmm *k, uint32_t pfn, uint32_t *head, unsigned int *order)
{
	unsigned int o;

	for (o = 0; o <= KMM_MAX_ORDER; o++) {
		uint32_t at = pfn & ~((UINT32_C(1) << o) - 1);
		uint64_t d = page_desc(k, at);

		if (page_desc_kind(d) != PAGE_BLOCK)
			continue;
		if (pfn - at >= UINT32_C(1) << page_desc_order(d))
			return false;
		*head = at;
		*order = page_desc_order(d);
		return true;
	}
	return false;
}

int page_frame(struct kmm *k, uint32_t page, uint32_t *frame)
{
	uint64_t d;

	if (likely(page < k->frames)) {
		*frame = page;
		return 0;
	}
	d = page_desc(k, page);
	if (page_desc_kind(d) != PAGE_BLOCK || !(d & PAGE_DESC_MOVABLE) ||
	    page_desc_other(d) >= k->frames)
		return error_set(ENOENT, "page %u has no frame: it is in no live block", page);
	*frame = page_desc_other(d);
	return 0;
}

int page_not_mine(uint32_t pfn, uint64_t w)
{
	if (owner_kind(w) == OWNER_MOVING)
		return error_set(EAGAIN,
		                 "the daemon went away while it moved page %u, and did not come "
		                 "back in time",
		                 pfn);
	if (owner_kind(w) != OWNER_HELD)
		return error_set(ENOENT, "no live block at frame %u: it was given back before",
		                 pfn);
	if (owner_id(w) == 0)
		return error_set(EPERM,
		                 "the block at frame %u has no owner any more: kmm_put drops a "
		                 "hold",
		                 pfn);
	return error_set(EPERM, "the block at frame %u is session %u's", pfn, owner_id(w));
}

int page_not_freed(struct kmm *k, uint32_t pfn, uint64_t w)
{
	if (shared_test(k, pfn) && !owner_is(w, OWNER_RETURNED, k->id))
		return error_set(ESTALE, "the block at frame %u was adopted by another session",
		                 pfn);
	return page_not_mine(pfn, w);
}

int page_block_check(struct kmm *k, uint32_t pfn, unsigned int *order)
{
	uint64_t d = page_desc(k, pfn);
	uint32_t head;

	if (likely(page_desc_kind(d) == PAGE_BLOCK)) {
		*order = page_desc_order(d);
		return 0;
	}
	if (page_desc_kind(d) == PAGE_SLAB)
		return error_set(EINVAL,
		                 "frame %u is no block's: it holds objects of cache %s, which "
		                 "kmm_kfree frees",
		                 pfn, k->control.cache[page_desc_cache(d)].name);
	if (section_state(k, pfn) == CONTROL_SECTION_NONE)
		return error_set(EPERM, "frame %u has no memory of the session's domain", pfn);
	if (page_head(k, pfn, &head, order) && word_is_live(owner_load(&k->control.word[head])))
		return error_set(EINVAL, "frame %u lies inside the block at frame %u", pfn, head);
	return error_set(ENOENT, "no live block at frame %u", pfn);
}

/* ---- allocating ---- */

/* One block that the daemon offers: claimed. */
static int alloc_one(struct kmm *k, kmm_gfp_t gfp, unsigned int order, struct call_how *how,
                     uint32_t *pfn)
{
	kmm_v1_AllocPagesRequest q = { .gfp = gfp, .order = order, .node = how->node };

	for (;;) {
		kmm_v1_AllocPagesReply p = kmm_v1_AllocPagesReply_init_zero;
		uint64_t w;
		int r = CALL(k, how, ALLOCATOR_ALLOC_PAGES, AllocPages, &q, &p);

		if (r < 0)
			return r;
		if (!page_fits(k, p.pfn, order))
			return error_set(EPROTO,
			                 "the daemon granted page %u, order %u: no such block",
			                 p.pfn, order);
		w = owner_load(&k->control.word[p.pfn]);
		if (!owner_is(w, OWNER_OFFERED, k->id) ||
		    !owner_cas(&k->control.word[p.pfn], &w, owner_moved(w, OWNER_HELD, k->id)))
			continue; /* withdrawn meanwhile */
		shared_clear(k, p.pfn);
		section_granted(k, p.pfn);
		*pfn = p.pfn;
		return 0;
	}
}

int page_zero(struct kmm *k, uint32_t pfn, unsigned int order)
{
	int r;

	if (page_is_high(k, pfn))
		return highmem_zero(k, pfn, order);
	r = section_map(k, pfn);
	if (r == 0)
		memset(section_address(k, pfn), 0, KMM_PAGE_SIZE << order);
	return r;
}

int page_alloc(struct kmm *k, struct thread_cache *tc, kmm_gfp_t gfp, unsigned int order,
               struct call_how *how, uint32_t *pfn)
{
	int c = tc && !(gfp & GFP_UNCACHED) ? class_table[order][gfp >> 3 & 3] : -1;
	kmm_gfp_t ask = gfp & ~(KMM_GFP_LOCAL | KMM_GFP_ZERO);
	char text[ERROR_TEXT_MAX];
	uint64_t round;
	int r = -EAGAIN;

	if (c >= 0 && (!how->node || node_has_top(k, &tc->class[c], how->node)) &&
	    local_take(tc, &tc->class[c], &round)) {
		*pfn = (uint32_t)round;
		r = 0;
	} else if (gfp & KMM_GFP_LOCAL) {
		return error_set(ENOMEM, "this thread caches no block of order %u", order);
	} else {
		how->flags |= CALL_CANCELLABLE;
		if (!(gfp & KMM_GFP_DIRECT_RECLAIM))
			how->flags |= CALL_NOWAIT;
		error_text_copy(text);
		/* What is short, or comes from the reserves, is not taken in advance. */
		if (c >= 0 && !how->node && !pressure(k) && !(gfp & KMM_GFP_HIGH)) {
			r = local_refill(k, tc, &tc->class[c], ask, how, &round);
			if (r == 0)
				*pfn = (uint32_t)round;
		}
		if (r == -EAGAIN) /* not worth a magazine, or none is free */
			r = alloc_one(k, ask, order, how, pfn);
		while (r < 0 && call_again(k, how, gfp, &r))
			r = alloc_one(k, ask, order, how, pfn);
		if (r == 0)
			error_text_put(text); /* what came before was got over */
	}
	if (r == 0 && (gfp & KMM_GFP_ZERO)) {
		r = page_zero(k, *pfn, order);
		if (r < 0) {
			error_text_copy(text);
			page_free(k, *pfn, order);
			error_text_put(text);
		}
	}
	return r;
}

static int alloc_slow(struct kmm *k, kmm_gfp_t gfp, unsigned int order, uint32_t *pfn)
{
	SESSION_SCOPE(k, r);
	struct call_how how;

	if (r < 0)
		return r;
	r = page_gfp_check(gfp, order);
	if (r < 0)
		return r;
	how = call_begin_gfp(k, gfp_of_thread(gfp));
	return page_alloc(k, thread_cache_get(k), gfp_of_thread(gfp), order, &how, pfn);
}

struct kmm_page *kmm_alloc_pages(struct kmm *k, kmm_gfp_t gfp, unsigned int order)
{
	struct thread_cache *tc = thread_cache_now();
	uint32_t pfn;
	int r;

	/* relaxed: a close by another thread while this one calls is excluded by contract */
	if (likely(atomic_load_explicit(&tc->session, memory_order_relaxed) == k &&
	           order <= KMM_MAX_ORDER && !(gfp & (GFP_UNCACHED | KMM_GFP_ZERO)))) {
		int c = class_table[order][gfp >> 3 & 3];

		if (likely(c >= 0 && tc->class[c].top != tc->class[c].loaded)) {
			struct local_class *lc = &tc->class[c];
			uint64_t round = *--lc->top;

			tc->room += lc->bytes;
			if (likely(round_claim_block(tc, round)))
				return (struct kmm_page *)&tc->desc[(uint32_t)round];
		}
	}
	r = alloc_slow(k, gfp, order, &pfn);
	return r < 0 ? errno_null(r) : page_at(k, pfn);
}

static int get_free(struct kmm *k, kmm_gfp_t gfp, unsigned int order, void **ret)
{
	struct kmm_page *page;
	uint32_t pfn;
	int r;

	if (gfp & KMM_GFP_HIGHMEM)
		return session_check(k) < 0 ? session_check(k)
		                            : error_set(EINVAL, "HighMem has no addresses: use "
		                                                "kmm_alloc_pages, or no HIGHMEM");
	page = kmm_alloc_pages(k, gfp, order);
	if (!page)
		return -errno;
	pfn = (uint32_t)((page_desc_t *)page - k->control.desc);
	r = section_map(k, pfn);
	if (r < 0) {
		char text[ERROR_TEXT_MAX];

		error_text_copy(text);
		kmm_free_pages(k, page, order);
		error_text_put(text);
		return r;
	}
	*ret = section_address(k, pfn);
	return 0;
}

void *kmm_get_free_pages(struct kmm *k, kmm_gfp_t gfp, unsigned int order)
{
	int saved = errno, r;
	void *p;

	r = get_free(k, gfp, order, &p);
	errno = saved;
	return r < 0 ? errno_null(r) : p;
}

/* ---- giving back ---- */

int page_free_tell(struct kmm *k, uint32_t pfn, unsigned int order, uint64_t word)
{
	kmm_v1_FreePagesRequest q = { .pfn = pfn, .order = order,
		                      .generation = owner_generation(word) };
	kmm_v1_FreePagesReply p = kmm_v1_FreePagesReply_init_zero;
	struct call_how how = call_begin(k, CALL_NOWAIT);
	char text[ERROR_TEXT_MAX];
	int r = -EAGAIN;

	error_text_copy(text);
	/* Where memory is short, what is freed is to be there for others on return; and who looks
	 * at a kept block is to see that one holder less has it. */
	if (!pressure(k) && !scarce(k) && !(word & OWNER_KEPT)) {
		r = call_notify(k, &how, kmm_v1_Method_ALLOCATOR_FREE_PAGES,
		                kmm_v1_FreePagesRequest_fields, &q);
		if (r == 0)
			return 0;
	}
	if (r != -ENOBUFS && session_state(k) == SESSION_UP)
		r = CALL(k, &how, ALLOCATOR_FREE_PAGES, FreePages, &q, &p);
	if (r != -EAGAIN && r != -ENOBUFS && r != -ECANCELED && r != -ETIMEDOUT &&
	    r != -ENOTRECOVERABLE)
		return r;
	error_text_put(text);
	session_untold(k); /* the word says it; the daemon looks when it is back */
	return 0;
}

int page_mapped(struct kmm *k, uint32_t page, unsigned int order, uint64_t w)
{
	if (likely(!page_is_high(k, page)) ||
	    (!(page >= k->frames && (w & OWNER_MAPPED)) && !highmem_mapped(k, page, order)))
		return 0;
	return error_set(EBUSY, "%s %u is mapped: kmm_kunmap ends that",
	                 page < k->frames ? "a page of the block at frame" : "page", page);
}

int page_free(struct kmm *k, uint32_t pfn, unsigned int order)
{
	owner_word_t *word = &k->control.word[pfn];
	uint64_t w = word_settled(k, word), back;
	struct thread_cache *tc;
	unsigned int is;
	uint64_t d;
	int r = page_block_check(k, pfn, &is);

	if (r < 0)
		return r == -ENOENT ? page_not_freed(k, pfn, w) : r;
	do {
		if (unlikely(owner_kind(w) == OWNER_MOVING))
			w = word_settled(k, word);
		if (!owner_is(w, OWNER_HELD, k->id))
			return page_not_freed(k, pfn, w);
		if (is != order)
			return error_set(EINVAL, "the block at frame %u has order %u, not %u", pfn,
			                 is, order);
		r = page_mapped(k, pfn, order, w);
		if (r < 0)
			return r;
		d = page_desc(k, pfn);
		back = owner_given_back(w, OWNER_RETURNED, k->id);
	} while (!owner_cas(word, &w, back));
	shared_clear(k, pfn);
	tc = thread_cache_get(k);
	if (tc && (d & PAGE_DESC_CACHEABLE) && !(back & OWNER_KEPT) && !pressure(k)) {
		int c = class_table[order][page_desc_type(d)];

		if (c >= 0 && local_keep(k, tc, &tc->class[c], round_of_block(pfn, back)))
			return 0;
	}
	return page_free_tell(k, pfn, order, back);
}

static int free_slow(struct kmm *k, const struct kmm_page *page, unsigned int order)
{
	SESSION_SCOPE(k, r);
	uint32_t pfn = 0;

	if (r < 0)
		return r;
	if (!page)
		return 0;
	if (order > KMM_MAX_ORDER)
		return error_set(EINVAL, "order %u: orders are 0 to %u", order, KMM_MAX_ORDER);
	r = page_pfn(k, page, &pfn);
	return r < 0 ? r : page_free(k, pfn, order);
}

#define DESC_MASK (UINT64_C(0x7f) | PAGE_DESC_CACHEABLE) /* kind and order */

int kmm_free_pages(struct kmm *k, struct kmm_page *page, unsigned int order)
{
	struct thread_cache *tc = thread_cache_now();
	uintptr_t at = (uintptr_t)page - (uintptr_t)tc->desc;
	uintptr_t pfn = at / sizeof(struct kmm_page);

	/* relaxed: as in kmm_alloc_pages. A cache of no session has no frames. */
	if (likely(atomic_load_explicit(&tc->session, memory_order_relaxed) == k &&
	           pfn < tc->frames && at % sizeof(struct kmm_page) == 0)) {
		/* acquire: pairs with the daemon's stores before it publishes the word */
		uint64_t d = atomic_load_explicit(&tc->desc[pfn], memory_order_acquire);
		uint64_t w = owner_load(&tc->word[pfn]);

		if (likely((d & DESC_MASK) ==
		                   (order | PAGE_BLOCK << PAGE_DESC_KIND_SHIFT |
		                    PAGE_DESC_CACHEABLE) &&
		           owner_is(w, OWNER_HELD, tc->id) && !(w & (OWNER_KEPT | OWNER_SHARED)))) {
			struct local_class *lc =
			        &tc->class[class_table[order][page_desc_type(d)]];
			uint64_t back = owner_moved(w, OWNER_RETURNED, tc->id);

			/* relaxed: a wish of the daemon */
			if (likely(lc->top != lc->end && tc->room >= (int64_t)lc->bytes &&
			           atomic_load_explicit(&tc->status->pressure,
			                                memory_order_relaxed) == 0 &&
			           owner_cas(&tc->word[pfn], &w, back))) {
				*lc->top++ = round_of_block((uint32_t)pfn, back);
				tc->room -= lc->bytes;
				return 0;
			}
		}
	}
	return free_slow(k, page, order);
}

int kmm_free_page_addr(struct kmm *k, const void *addr, unsigned int order)
{
	ERRNO_SCOPE;
	uintptr_t at;
	int r = session_check(k);

	if (r < 0)
		return r;
	if (!addr)
		return 0;
	at = (uintptr_t)addr - (uintptr_t)k->window;
	if (at >= k->window_size)
		return address_outside(k, addr);
	if (at % KMM_PAGE_SIZE != 0 &&
	    page_desc_kind(page_desc(k, (uint32_t)(at >> FRAME_SHIFT))) != PAGE_SLAB)
		return error_set(
			EINVAL, "%p lies inside a frame: a block is named by its first byte", addr);
	return kmm_free_pages(k, page_at(k, (uint32_t)(at >> FRAME_SHIFT)), order);
}
