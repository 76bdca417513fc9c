/* SPDX-License-Identifier: MIT */
/*
 * Blocks that pass between sessions.
 *
 * A handle is a granule index and a generation: it means the block at that place in that life. All
 * that looks at, adopts or takes back a block by its handle is a load or one CAS of the owner word;
 * the daemon is asked only where its table of holders or another session's quota is concerned.
 *
 *   handle    {me, g}         -> {me, SHARED, g}      once; later calls only read
 *   adopt     {A, SHARED, g}  -> {me, g + 1}          one of many succeeds
 *   take back {me, SHARED, g} -> {me, g + 1}
 *
 * Before an adoption the section is marked in the session's record, so that the sweep looks there,
 * and mapped, so that the adoption cannot fail half way.
 */
#include "client/internal.h"

/* A block named by address or, for HighMem, by page. */
static int block_pfn(struct kmm *k, const void *p, uint32_t *pfn)
{
	uintptr_t at = (uintptr_t)p - (uintptr_t)k->window;

	if (!p)
		return error_set(EINVAL, "the block's address is NULL");
	if (at >= k->window_size) {
		uintptr_t page = (uintptr_t)p - (uintptr_t)k->control.desc;

		if (page / sizeof(struct kmm_page) < k->frames)
			return page_pfn(k, p, pfn);
		return error_set(EINVAL, "%p lies outside the pool's window", p);
	}
	if (at % KMM_PAGE_SIZE != 0)
		return error_set(EINVAL,
		                 "%p lies inside a frame: a block is named by its first byte", p);
	*pfn = (uint32_t)(at >> FRAME_SHIFT);
	return 0;
}

/* How a block is named in this process; its section is mapped. */
static void *block_name(struct kmm *k, uint32_t pfn)
{
	return section_state(k, pfn) == CONTROL_SECTION_HIGH ? (void *)page_at(k, pfn)
	                                                      : section_address(k, pfn);
}

static int block_reach(struct kmm *k, uint32_t pfn)
{
	return section_state(k, pfn) == CONTROL_SECTION_HIGH ? 0 : section_map(k, pfn);
}

/* ---- handles ---- */

static int handle_of(struct kmm *k, const void *p, kmm_handle_t *ret)
{
	ERRNO_SCOPE;
	unsigned int order;
	uint32_t pfn;
	uint64_t w;
	int r = session_check(k);

	if (r == 0)
		r = block_pfn(k, p, &pfn);
	if (r == 0)
		r = page_block_check(k, pfn, &order);
	if (r < 0)
		return r;
	w = owner_load(&k->control.word[pfn]);
	do {
		if (!owner_is(w, OWNER_HELD, k->id))
			return page_not_mine(pfn, w);
	} while (!(w & OWNER_SHARED) && !owner_cas(&k->control.word[pfn], &w, w | OWNER_SHARED));
	if (!shared_test(k, pfn))
		shared_set(k, pfn);
	*ret = handle_make(granule_of(k, pfn), w);
	return 0;
}

kmm_handle_t kmm_handle(struct kmm *k, const void *p)
{
	kmm_handle_t handle = 0;
	int r = handle_of(k, p, &handle);

	if (r < 0) {
		errno = -r;
		return 0;
	}
	return handle;
}

static int handle_stale(uint64_t handle)
{
	return error_set(ESTALE, "the block of handle 0x%llx was freed or adopted",
	                 (unsigned long long)handle);
}

/* The handle's block: live and of that generation; its word. */
static int handle_find(struct kmm *k, kmm_handle_t handle, uint32_t *ret, uint64_t *w)
{
	uint32_t granule = handle_granule(handle), pfn;
	int r = session_check(k);

	if (r < 0)
		return r;
	pfn = granule >> k->granule_bits;
	if (handle == 0)
		return error_set(EINVAL, "handle 0 is none");
	if (pfn >= k->frames || granule_of(k, pfn) != granule ||
	    section_state(k, pfn) == CONTROL_SECTION_NONE)
		return error_set(ENOENT, "handle 0x%llx names no place of the session's domain",
		                 (unsigned long long)handle);
	*w = owner_load(&k->control.word[pfn]);
	if (!word_is_live(*w) || (uint32_t)owner_generation(*w) != handle >> 32 ||
	    page_desc_kind(atomic_load_explicit(&k->control.desc[pfn], memory_order_acquire)) !=
	            PAGE_BLOCK)
		return handle_stale(handle);
	*ret = pfn;
	return 0;
}

static int pointer_of(struct kmm *k, kmm_handle_t handle, void **ret)
{
	ERRNO_SCOPE;
	uint32_t pfn;
	uint64_t w;
	int r = handle_find(k, handle, &pfn, &w);

	if (r == 0)
		r = block_reach(k, pfn);
	if (r == 0)
		*ret = block_name(k, pfn);
	return r;
}

void *kmm_pointer(struct kmm *k, kmm_handle_t handle)
{
	void *p = NULL;
	int r = pointer_of(k, handle, &p);

	return r < 0 ? errno_null(r) : p;
}

/* ---- adopting ---- */

static int adopt(struct kmm *k, kmm_handle_t handle, void **ret)
{
	ERRNO_SCOPE;
	uint32_t pfn;
	uint64_t w;
	int r = handle_find(k, handle, &pfn, &w);

	if (r == 0)
		r = block_reach(k, pfn);
	if (r < 0)
		return r;
	section_mark(k, pfn);
	do {
		if (!handle_is_live(handle, w) || !(w & OWNER_SHARED)) {
			if (word_is_live(w) && (w & OWNER_KEPT) &&
			    (uint32_t)owner_generation(w) == handle >> 32)
				return error_set(EBUSY,
				                 "the block at frame %u is held by other sessions",
				                 pfn);
			return handle_stale(handle);
		}
		if (w & OWNER_KEPT)
			return error_set(EBUSY, "the block at frame %u is held by other sessions",
			                 pfn);
	} while (!owner_cas(&k->control.word[pfn], &w, owner_reborn(w, OWNER_HELD, k->id)));
	shared_clear(k, pfn);
	*ret = block_name(k, pfn);
	return 0;
}

void *kmm_adopt(struct kmm *k, kmm_handle_t handle)
{
	void *p = NULL;
	int r = adopt(k, handle, &p);

	return r < 0 ? errno_null(r) : p;
}

size_t kmm_adopt_bulk(struct kmm *k, size_t n, const kmm_handle_t handles[], void *p[])
{
	int r = session_check(k), first = 0;
	char text[ERROR_TEXT_MAX] = "";
	size_t i, done = 0;

	if (r == 0 && n > 0 && (!handles || !p))
		r = error_set(EINVAL, "handles or p is NULL");
	if (r < 0) {
		errno = -r;
		return 0;
	}
	for (i = 0; i < n; i++) {
		void *q = NULL;

		r = adopt(k, handles[i], &q);
		p[i] = q;
		if (r == 0) {
			done++;
		} else if (first == 0) {
			first = r;
			error_text_copy(text);
		}
	}
	if (first < 0) {
		error_text_put(text);
		errno = -first;
	}
	return done;
}

/* ---- sending ---- */

int kmm_send(struct kmm *k, const void *p, kmm_session_id_t session)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	kmm_v1_SendRequest q = { .session = session };
	kmm_v1_SendReply reply = kmm_v1_SendReply_init_zero;
	char text[ERROR_TEXT_MAX];
	struct call_how how;
	unsigned int order;
	uint32_t pfn;
	uint64_t w;
	int r = session_enter(k);

	if (r < 0)
		return r;
	inside = k;
	r = block_pfn(k, p, &pfn);
	if (r == 0)
		r = page_block_check(k, pfn, &order);
	if (r < 0)
		return r;
	w = owner_load(&k->control.word[pfn]);
	if (!owner_is(w, OWNER_HELD, k->id))
		return page_not_mine(pfn, w);
	if (session == 0 || session > OWNER_MAX)
		return error_set(ESRCH, "no session has the id %u", session);
	q.granule = granule_of(k, pfn);
	q.generation = owner_generation(w);
	how = call_begin(k, CALL_ONCE);
	error_text_copy(text);
	r = CALL(k, &how, ALLOCATOR_SEND, Send, &q, &reply);
	/* The block was ours before it was asked the first time, and only that took it away. */
	if (how.repeated && (r == -ESTALE || r == -EPERM || r == -ENOENT)) {
		error_text_put(text);
		r = 0;
	}
	if (r == 0 && session != k->id)
		shared_clear(k, pfn); /* sent, not adopted: a later free is a stranger's */
	return r;
}

/* ---- holding ---- */

int kmm_get(struct kmm *k, const void *p)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	unsigned int order;
	uint32_t pfn;
	uint64_t w;
	int r = session_enter(k);

	if (r < 0)
		return r;
	inside = k;
	r = block_pfn(k, p, &pfn);
	if (r == 0)
		r = page_block_check(k, pfn, &order);
	if (r < 0)
		return r;
	w = owner_load(&k->control.word[pfn]);
	if (!word_is_live(w))
		return error_set(ENOENT, "no live block at frame %u", pfn);
	r = hold_get(k, pfn, (uint32_t)owner_generation(w));
	/* Without a handle there is no claim that could be stale: it is just gone. */
	return r == -ESTALE ? -ENOENT : r;
}

static int get_handle(struct kmm *k, kmm_handle_t handle, void **ret)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	uint32_t pfn;
	uint64_t w;
	int r = session_enter(k);

	if (r < 0)
		return r;
	inside = k;
	r = handle_find(k, handle, &pfn, &w);
	if (r == 0)
		r = block_reach(k, pfn);
	if (r == 0)
		r = hold_get(k, pfn, (uint32_t)(handle >> 32));
	if (r < 0)
		return r;
	*ret = block_name(k, pfn);
	return 0;
}

void *kmm_get_handle(struct kmm *k, kmm_handle_t handle)
{
	void *p = NULL;
	int r = get_handle(k, handle, &p);

	return r < 0 ? errno_null(r) : p;
}

int kmm_put(struct kmm *k, const void *p)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	uint32_t pfn;
	int r = session_enter(k);

	if (r < 0)
		return r;
	inside = k;
	r = block_pfn(k, p, &pfn);
	return r < 0 ? r : hold_put(k, pfn);
}
