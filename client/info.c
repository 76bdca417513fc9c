/* SPDX-License-Identifier: MIT */
/*
 * Pages, frames and addresses: three names of one thing, and what is known about it.
 *
 * All three are arithmetic on the window and on the array of descriptors; only the section that an
 * address lies in may have to be mapped first. Of pages that move (shm/control.h) the descriptors tell
 * page from frame and frame from page, and the address is that of a mapping (highmem.c). What a block
 * is is read from its descriptor and its owner word.
 */
#include "client/internal.h"

static int page_address(struct kmm *k, const struct kmm_page *page, void **ret)
{
	ERRNO_SCOPE;
	uint32_t pfn;
	void *p;
	int r = session_check(k);

	if (r == 0)
		r = page_pfn(k, page, &pfn);
	if (r < 0)
		return r;
	if (page_is_high(k, pfn) && (p = highmem_address(k, pfn))) {
		*ret = p;
		return 0;
	}
	r = section_map(k, pfn);
	if (r == 0)
		*ret = section_address(k, pfn);
	return r;
}

void *kmm_page_address(struct kmm *k, const struct kmm_page *page)
{
	void *p = NULL;
	int r = page_address(k, page, &p);

	return r < 0 ? errno_null(r) : p;
}

struct kmm_page *kmm_virt_to_page(struct kmm *k, const void *addr)
{
	uintptr_t at;
	uint32_t pfn;
	int r = session_check(k);

	if (r < 0)
		return errno_null(r);
	at = (uintptr_t)addr - (uintptr_t)k->window;
	if (at >= k->window_size && highmem_page(k, addr, &pfn))
		return page_at(k, pfn);
	if (at >= k->window_size)
		return errno_null(address_outside(k, addr));
	pfn = (uint32_t)(at >> FRAME_SHIFT);
	if (section_state(k, pfn) != CONTROL_SECTION_DIRECT)
		return errno_null(
			error_set(EPERM, "%p: no memory of the session's domain is there", addr));
	return page_at(k, pfn);
}

uint64_t kmm_page_to_pfn(struct kmm *k, const struct kmm_page *page)
{
	uint32_t pfn, frame;
	int r = session_check(k);

	if (r == 0)
		r = page_pfn(k, page, &pfn);
	if (r == 0)
		r = page_frame(k, pfn, &frame);
	if (r < 0) {
		errno = -r;
		return UINT64_MAX;
	}
	return frame;
}

struct kmm_page *kmm_pfn_to_page(struct kmm *k, uint64_t pfn)
{
	int r = session_check(k);
	uint64_t d;

	if (r < 0)
		return errno_null(r);
	if (pfn >= k->frames)
		return errno_null(error_set(EPERM, "frame %llu: the pool has %u frames",
		                            (unsigned long long)pfn, k->frames));
	if (section_state(k, (uint32_t)pfn) == CONTROL_SECTION_NONE)
		return errno_null(error_set(EPERM, "frame %llu is not of the session's domain",
		                            (unsigned long long)pfn));
	/* acquire: pairs with the daemon's stores before it publishes the page's word */
	d = atomic_load_explicit(&k->control.desc[pfn], memory_order_acquire);
	if (unlikely(page_desc_kind(d) == PAGE_ALIAS) && page_desc_other(d) < k->pages)
		return page_at(k, page_desc_other(d));
	return page_at(k, (uint32_t)pfn);
}

static int count_holders(struct kmm *k, uint32_t head)
{
	kmm_v1_GetHoldersRequest q = { .granule = granule_of(k, head) };
	kmm_v1_GetHoldersReply p = kmm_v1_GetHoldersReply_init_zero;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	struct call_how how;
	int r = session_enter(k);

	if (r < 0)
		return r;
	inside = k;
	how = call_begin(k, 0);
	r = CALL(k, &how, ALLOCATOR_GET_HOLDERS, GetHolders, &q, &p);
	return r < 0 ? r : (int)p.holders;
}

/* The live block that a page belongs to: its head and word. -ENOENT: none. */
static int live_block(struct kmm *k, const struct kmm_page *page, uint32_t *head,
                      unsigned int *order, uint64_t *w)
{
	uint32_t pfn;
	int r = session_check(k);

	if (r == 0)
		r = page_pfn(k, page, &pfn);
	if (r < 0)
		return r;
	if (section_state(k, pfn) == CONTROL_SECTION_NONE)
		return error_set(EPERM, "frame %u has no memory of the session's domain", pfn);
	if (!page_head(k, pfn, head, order))
		return error_set(ENOENT, "frame %u is in no live block", pfn);
	*w = owner_load(&k->control.word[*head]);
	if (!word_is_live(*w))
		return error_set(ENOENT, "frame %u is in no live block", pfn);
	return 0;
}

int kmm_page_count(struct kmm *k, const struct kmm_page *page)
{
	ERRNO_SCOPE;
	char text[ERROR_TEXT_MAX];
	unsigned int order;
	uint32_t head;
	uint64_t w;
	int r;

	error_text_copy(text);
	r = live_block(k, page, &head, &order, &w);
	if (r == -ENOENT) {
		error_text_put(text); /* an answer, no failure */
		return 0;
	}
	if (r < 0)
		return r;
	if (!(w & OWNER_KEPT))
		return 1;
	r = count_holders(k, head);
	return r > 0 ? r + hold_repeated(k, granule_of(k, head)) : r;
}

int kmm_page_order(struct kmm *k, const struct kmm_page *page)
{
	ERRNO_SCOPE;
	unsigned int order;
	uint32_t head;
	uint64_t w;
	int r = live_block(k, page, &head, &order, &w);

	return r < 0 ? r : (int)order;
}
