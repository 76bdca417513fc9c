/* SPDX-License-Identifier: MIT */
/*
 * kmap and kunmap. A page of the window is where it is; mapping it does nothing. One of high memory is
 * mapped by highmem.c, but the case that counts, a page of our own whose slot still shows its frame, is
 * written out here: no call, no lock, for a thread that has a cache of the session (and so of one that
 * is usable here and now).
 */
#include "client/highmem.h"

/* NULL: not that simple. */
static inline __attribute__((always_inline)) void *kmap_quick(struct kmm *k, struct highmem *h,
                                                              uint32_t page)
{
	entry_t *e = entry_of(h, page);
	uint64_t v = entry_load(e);
	uint32_t slot = entry_slot(v), frame;

	if (v & ENTRY_COUNT)
		return (v & ENTRY_COUNT) < ENTRY_COUNT && entry_cas(e, &v, v + 1)
		               ? slot_address(h, slot)
		               : NULL;
	if (unlikely(page < k->frames || slot == HIGHMEM_SLOT_NONE || (v & ENTRY_BUSY) ||
	             !entry_cas(e, &v, v | ENTRY_BUSY)))
		return NULL;
	if (likely(highmem_word_pin(k, page))) {
		frame = page_desc_other(desc_load(k, page));
		if (likely(frame == slot_frame(h, slot))) {
			entry_store(e, (v + 1) | ENTRY_OURS);
			return slot_address(h, slot);
		}
		highmem_word_unpin(k, page);
	}
	entry_store(e, v);
	return NULL;
}

static int kmap(struct kmm *k, const struct kmm_page *p, void **ret)
{
	SESSION_SCOPE(k, r);
	uint32_t page;

	if (r < 0)
		return r;
	r = page_pfn(k, p, &page);
	if (r < 0)
		return r;
	if (page_is_high(k, page)) {
		r = highmem_map(k, page, ret);
	} else {
		r = section_map(k, page);
		if (r == 0)
			*ret = section_address(k, page);
	}
	if (r == 0)
		thread_cache_get(k); /* the next one goes the short way */
	return r;
}

void *kmm_kmap(struct kmm *k, struct kmm_page *page)
{
	struct thread_cache *tc = thread_cache_now();
	uintptr_t at = (uintptr_t)page - (uintptr_t)tc->desc;
	uintptr_t i = at / sizeof(*page);
	void *p = NULL;
	int r;

	/* relaxed: a close by another thread while this one calls is excluded by contract */
	if (likely(k && atomic_load_explicit(&tc->session, memory_order_relaxed) == k &&
	           at % sizeof(*page) == 0 && i < k->pages)) {
		struct highmem *h = highmem_of(k);

		/* acquire: pairs with the release after the mapping */
		if (atomic_load_explicit(&k->mapped[i >> (k->section_shift - FRAME_SHIFT)],
		                         memory_order_acquire))
			return section_address(k, (uint32_t)i);
		if (likely(h && i >= h->first))
			p = kmap_quick(k, h, (uint32_t)i);
	}
	if (likely(p))
		return p;
	r = kmap(k, page, &p);
	return r < 0 ? errno_null(r) : p;
}

static int kunmap(struct kmm *k, uint32_t page)
{
	if (page_is_high(k, page))
		return highmem_unmap(k, page);
	if (section_state(k, page) == CONTROL_SECTION_NONE)
		return error_set(EPERM, "frame %u has no memory of the session's domain", page);
	return 0; /* an address in the window stays */
}

static int kunmap_slow(struct kmm *k, const struct kmm_page *p)
{
	SESSION_SCOPE(k, r);
	uint32_t page;

	if (r < 0)
		return r;
	r = page_pfn(k, p, &page);
	return r < 0 ? r : kunmap(k, page);
}

/* The daemon is told: a call, of which kmm_close is to know. A session that ends has no holds. */
static __attribute__((noinline)) void kunmap_hold(struct kmm *k, uint32_t page)
{
	ERRNO_SCOPE;
	ERROR_TEXT_SCOPE;

	if (session_enter(k) < 0)
		return;
	hold_unpin(k, granule_of(k, page));
	session_leave(k);
}

int kmm_kunmap(struct kmm *k, struct kmm_page *page)
{
	struct thread_cache *tc = thread_cache_now();
	uintptr_t at = (uintptr_t)page - (uintptr_t)tc->desc;
	uintptr_t i = at / sizeof(*page);

	/* relaxed: as in kmm_kmap */
	if (likely(k && atomic_load_explicit(&tc->session, memory_order_relaxed) == k &&
	           at % sizeof(*page) == 0 && i < k->pages)) {
		struct highmem *h = highmem_of(k);
		bool hold;

		/* acquire: as in kmm_kmap */
		if (atomic_load_explicit(&k->mapped[i >> (k->section_shift - FRAME_SHIFT)],
		                         memory_order_acquire))
			return 0;
		if (likely(h && i >= h->first &&
		           highmem_unmap_entry(k, entry_of(h, (uint32_t)i), (uint32_t)i, &hold))) {
			if (unlikely(hold))
				kunmap_hold(k, (uint32_t)i);
			return 0;
		}
	}
	return kunmap_slow(k, page);
}

void *kmm_kmap_local(struct kmm *k, struct kmm_page *page)
{
	return kmm_kmap(k, page);
}

int kmm_kunmap_local(struct kmm *k, const void *addr)
{
	uint32_t page;
	int r = session_check(k);

	if (r < 0)
		return r;
	if ((uintptr_t)addr - (uintptr_t)k->window < k->window_size)
		return 0;
	if (!highmem_page(k, addr, &page))
		return error_set(EINVAL, "%p is no address that kmm_kmap_local gave, or is not "
		                         "mapped any more",
		                 addr);
	return kmm_kunmap(k, page_at(k, page));
}
