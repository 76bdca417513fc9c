/* SPDX-License-Identifier: MIT */
/*
 * Blocks many at a time.
 *
 * Granting fills from the thread's cache, then by whole magazines, whose blocks are claimed as HELD
 * at once. Only the first block may be waited for: from then on the request loses its
 * DIRECT_RECLAIM.
 *
 * Giving back is all or nothing: every entry is checked first, also for being named twice.
 * Ascending pages, the usual case, need no memory for that; else a bit a page does, kept by the
 * thread. What a thread's magazines can take is cached, more goes to the daemon in magazines.
 */
#include "client/internal.h"

#include <sys/mman.h>

struct bulk {
	struct kmm *k;
	struct thread_cache *tc;
	struct call_how how;
	kmm_gfp_t gfp;
	unsigned int order;
	int class; /* -1: not cached */
};

/* ---- granting ---- */

/* Up to `want` further blocks. */
static int bulk_take(struct bulk *b, bool first, size_t want, uint64_t r[], uint32_t *n)
{
	kmm_gfp_t gfp = b->gfp & ~(KMM_GFP_ZERO | KMM_GFP_LOCAL);
	struct exchange x = { .order = b->order };
	uint32_t pfn;
	int rc;

	if (!first) {
		gfp &= ~KMM_GFP_DIRECT_RECLAIM;
		b->how.flags |= CALL_NOWAIT;
	}
	if (b->class >= 0 && want > 1 && !pressure(b->k) && !(gfp & KMM_GFP_HIGH)) {
		rc = exchange_take(
			b->k, &b->how, x, gfp, OWNER_HELD,
			want < MAGAZINE_ROUNDS_MAX ? (uint32_t)want : MAGAZINE_ROUNDS_MAX, r, n);
		if (rc != -EAGAIN)
			return rc;
	}
	rc = page_alloc(b->k, NULL, gfp, b->order, &b->how, &pfn);
	if (rc < 0)
		return rc;
	*n = 1;
	r[0] = pfn;
	return 0;
}

static int bulk_alloc(struct bulk *b, size_t n, struct kmm_page *pages[], size_t *got)
{
	uint64_t r[MAGAZINE_ROUNDS_MAX];
	uint32_t pfn, m, i;
	int rc = 0;

	while (*got < n && b->class >= 0 && b->tc &&
	       local_take(b->tc, &b->tc->class[b->class], r)) {
		pfn = (uint32_t)r[0];
		if ((b->gfp & KMM_GFP_ZERO) && (rc = page_zero(b->k, pfn, b->order)) < 0) {
			page_free(b->k, pfn, b->order);
			return rc;
		}
		pages[(*got)++] = page_at(b->k, pfn);
	}
	if (*got < n && (b->gfp & KMM_GFP_LOCAL))
		return error_set(ENOMEM, "this thread caches no more blocks of order %u", b->order);
	while (*got < n && rc == 0) {
		rc = bulk_take(b, *got == 0, n - *got, r, &m);
		for (i = 0; rc == 0 && i < m; i++) {
			if (b->gfp & KMM_GFP_ZERO)
				rc = page_zero(b->k, (uint32_t)r[i], b->order);
			if (rc == 0)
				pages[(*got)++] = page_at(b->k, (uint32_t)r[i]);
		}
		if (rc < 0 && i > 0) /* one could not be zeroed: it and the rest go back */
			for (i--; i < m; i++)
				page_free(b->k, (uint32_t)r[i], b->order);
	}
	return rc;
}

static int bulk_alloc_begin(struct kmm *k, kmm_gfp_t gfp, unsigned int order, size_t n,
                            struct kmm_page *pages[], size_t *got)
{
	SESSION_SCOPE(k, r);
	struct bulk b = { .k = k, .gfp = gfp, .order = order };

	if (r < 0)
		return r;
	r = page_gfp_check(gfp, order);
	if (r < 0)
		return r;
	if (n == 0)
		return 0;
	if (!pages)
		return error_set(EINVAL, "there is no place for the pages");
	b.gfp = gfp = gfp_of_thread(gfp);
	b.how = call_begin_gfp(k, gfp);
	b.how.flags |= CALL_CANCELLABLE | (gfp & KMM_GFP_DIRECT_RECLAIM ? 0 : CALL_NOWAIT);
	b.tc = thread_cache_get(k);
	b.class = gfp & GFP_UNCACHED ? -1 : page_class(order, gfp >> 3 & 3);
	return bulk_alloc(&b, n, pages, got);
}

size_t kmm_alloc_pages_bulk(struct kmm *k, kmm_gfp_t gfp, unsigned int order, size_t n,
                            struct kmm_page *pages[])
{
	size_t got = 0;
	int r = bulk_alloc_begin(k, gfp, order, n, pages, &got);

	if (r < 0)
		errno = -r;
	return got;
}

/* ---- giving back ---- */

static int marks_get(struct kmm *k, struct thread_cache *tc)
{
	size_t size = ((size_t)k->pages + 63) / 64 * sizeof(uint64_t);
	void *p;

	if (tc->marks)
		return 0;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	         -1, 0);
	if (p == MAP_FAILED)
		return error_set(ENOMEM, "no memory to check %u pages", k->pages);
	madvise(p, size, MADV_DONTFORK);
	tc->marks = p;
	tc->marks_size = size;
	return 0;
}

static int check_one(struct bulk *b, size_t i, const struct kmm_page *page, uint32_t *pfn)
{
	unsigned int order;
	uint64_t w;
	int r;

	if (!page)
		return error_set(EINVAL, "entry %zu is NULL", i);
	r = page_pfn(b->k, page, pfn);
	if (r < 0)
		return r;
	r = page_block_check(b->k, *pfn, &order);
	w = word_settled(b->k, &b->k->control.word[*pfn]);
	if (r == -ENOENT || (r == 0 && !owner_is(w, OWNER_HELD, b->k->id)))
		return page_not_freed(b->k, *pfn, w);
	if (r < 0)
		return r;
	if (order != b->order)
		return error_set(EINVAL, "entry %zu: the block at frame %u has order %u, not %u", i,
		                 *pfn, order, b->order);
	return page_mapped(b->k, *pfn, order, w);
}

static uint32_t pfn_of(struct bulk *b, const struct kmm_page *page)
{
	return (uint32_t)((const page_desc_t *)page - b->k->control.desc);
}

/* Marks every frame; -EINVAL at the first that was marked before. No mark is left. */
static int check_twice(struct bulk *b, size_t n, struct kmm_page *const pages[])
{
	uint64_t *marks;
	size_t i, marked;
	int r;

	if (!b->tc)
		return error_set(ENOMEM, "no memory to check the entries");
	r = marks_get(b->k, b->tc);
	if (r < 0)
		return r;
	marks = b->tc->marks;
	for (i = 0; i < n && r == 0; i++) {
		uint32_t pfn = pfn_of(b, pages[i]);

		if (marks[pfn / 64] >> pfn % 64 & 1)
			r = error_set(EINVAL, "entry %zu: the block at frame %u is named twice", i,
			              pfn);
		marks[pfn / 64] |= UINT64_C(1) << pfn % 64;
	}
	for (marked = i, i = 0; i < marked; i++) {
		uint32_t pfn = pfn_of(b, pages[i]);

		marks[pfn / 64] &= ~(UINT64_C(1) << pfn % 64);
	}
	return r;
}

static int check_all(struct bulk *b, size_t n, struct kmm_page *const pages[])
{
	bool ascending = true;
	uint32_t last = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		uint32_t pfn;
		int r = check_one(b, i, pages[i], &pfn);

		if (r < 0)
			return r;
		if (i > 0 && pfn <= last)
			ascending = false;
		last = pfn;
	}
	return ascending ? 0 : check_twice(b, n, pages);
}

/* Up to a magazine's worth; blocks that must go one by one do. */
static int free_some(struct bulk *b, size_t n, struct kmm_page *const pages[], bool many)
{
	struct kmm *k = b->k;
	struct exchange x = { .order = b->order };
	uint64_t r[MAGAZINE_ROUNDS_MAX];
	uint32_t given = 0, i, left;
	int rc = 0, one;

	for (i = 0; i < n; i++) {
		uint32_t pfn = pfn_of(b, pages[i]);
		/* acquire: pairs with the daemon's stores before it publishes the word */
		uint64_t d = atomic_load_explicit(&k->control.desc[pfn], memory_order_acquire);
		uint64_t w = owner_load(&k->control.word[pfn]);

		if (many && (d & PAGE_DESC_CACHEABLE) && owner_is(w, OWNER_HELD, k->id) &&
		    !(w & OWNER_KEPT)) {
			r[given++] = round_of_block(pfn, w);
			continue;
		}
		one = page_free(k, pfn, b->order);
		rc = rc ? rc : one;
	}
	left = given ? exchange_give(k, x, r, given) : 0;
	for (i = 0; i < left; i++) {
		one = page_free(k, (uint32_t)r[i], b->order);
		rc = rc ? rc : one;
	}
	return rc;
}

int kmm_free_pages_bulk(struct kmm *k, unsigned int order, size_t n,
                        struct kmm_page *const pages[])
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	struct bulk b = { .k = k, .order = order };
	size_t i;
	bool many;
	int r = session_enter(k), rc = 0;

	if (r < 0)
		return r;
	inside = k;
	if (order > KMM_MAX_ORDER)
		return error_set(EINVAL, "order %u: orders are 0 to %u", order, KMM_MAX_ORDER);
	if (n == 0)
		return 0;
	if (!pages)
		return error_set(EINVAL, "the pages are NULL");
	b.tc = thread_cache_get(k);
	r = check_all(&b, n, pages);
	if (r < 0)
		return r;
	b.class = page_class(order, 0);
	many = b.class >= 0 && session_state(k) == SESSION_UP &&
	       (!b.tc || n > 2 * (size_t)local_size(&b.tc->class[b.class]));
	for (i = 0; i < n; i += MAGAZINE_ROUNDS_MAX) {
		size_t some = n - i < MAGAZINE_ROUNDS_MAX ? n - i : MAGAZINE_ROUNDS_MAX;

		r = free_some(&b, some, pages + i, many);
		rc = rc ? rc : r;
	}
	return rc;
}
