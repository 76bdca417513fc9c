/* SPDX-License-Identifier: MIT */
/*
 * Allocating blocks.
 *
 * Concept: a request names a zone class, a migrate type and how far it may go. The zonelist of its
 * node gives the zones in order; the first whose watermark allows it and that has a block serves
 * it, from the cpu's own list where there is one for that order, else from the free areas.
 *
 *   1. low watermark, without mixing migrate types where other zones could serve it
 *   2. the same, mixing
 *   3. min watermark, less what __GFP_HIGH and those that cannot wait may take of it, and the
 *      high-atomic reserve for several frames
 *   4. after the cpu's own lists were given back to the zones
 *   5. for those that may wait: after high-atomic pageblocks were given back, one by one
 *   6. -ENOMEM; waiting for others to free something is the caller's business
 *
 * Commit: the block is taken off its list first (volatile), then its state word is stored; a crash
 * in between leaves a free frame.
 *
 * Locking: none on the per-CPU path; the zone's lock below it. Complexity: O(zones) at worst, O(1)
 * when the first zone has memory.
 */
#include <errno.h>

#include "buddy.h"
#include "pcp.h"
#include "watermark.h"

/* Blocks that a bulk request takes from the free areas under one hold. */
#define BULK_MAX 1024u

struct alloc_context {
	struct mm_domain *d;
	const struct zonelist *zonelist;
	struct zone *preferred; /* first populated zone; NULL: none */
	uint32_t first;         /* its place in the list */
	uint32_t class;         /* highest zone allowed */
	uint32_t lowest;        /* lowest one */
	uint32_t type;          /* of the lists to use */
	uint32_t order;
	uint32_t cpu;
	bool interleave;
};

int mm_request_check(const struct mm_request *r, const char **why)
{
	if (r->order > MAX_PAGE_ORDER)
		*why = "the order is larger than 10";
	else if (r->gfp & ~GFP_ALL)
		*why = "unknown GFP bits";
	else if (gfp_zone(r->gfp) == GFP_ZONE_BAD)
		*why = "at most one of __GFP_DMA, __GFP_DMA32 and __GFP_HIGHMEM may be given";
	else if (gfp_migratetype(r->gfp) >= MIGRATE_PCPTYPES)
		*why = "__GFP_MOVABLE and __GFP_RECLAIMABLE exclude each other";
	else if (r->tag > MM_TAG_MAX)
		*why = "the tag has more than 20 bits";
	else
		return 0;
	return -EINVAL;
}

/* The request may be served from there. */
static inline bool zone_is_allowed(const struct alloc_context *ac, const struct zone *z)
{
	return z->index <= ac->class && z->index >= ac->lowest;
}

/* False: the request makes no sense. */
static inline bool context_init(struct alloc_context *ac, struct mm_domain *d,
                                const struct mm_request *r)
{
	const struct mm_config *c = &d->mm->config;
	uint32_t node = 0, zone = gfp_zone(r->gfp), type = gfp_migratetype(r->gfp);
	uint32_t kind = r->gfp & __GFP_THISNODE ? ZONELIST_NOFALLBACK : ZONELIST_FALLBACK;

	if (__builtin_expect(zone == GFP_ZONE_BAD || type >= MIGRATE_PCPTYPES ||
	                             r->order > MAX_PAGE_ORDER || r->tag > MM_TAG_MAX ||
	                             (r->cpu >= c->cpus && r->cpu != MM_CPU_NONE) ||
	                             r->node > c->nodes,
	                     0))
		return false;
	if (r->node != MM_NODE_ANY)
		node = r->node - 1;
	else if (c->nodes > 1 && r->cpu != MM_CPU_NONE)
		node = d->mm->cpu_node[r->cpu];
	ac->d = d;
	ac->zonelist = &d->lists[node * MAX_ZONELISTS + kind];
	ac->class = zone;
	ac->lowest = r->lowest;
	ac->type = relaxed_load(&d->grouping_disabled) ? (uint32_t)MIGRATE_UNMOVABLE : type;
	ac->order = r->order;
	ac->cpu = r->cpu;
	ac->interleave = r->interleave;
	ac->preferred = NULL;
	for (ac->first = ac->zonelist->first[zone]; ac->first < ac->zonelist->nr; ac->first++) {
		struct zone *z = ac->zonelist->zone[ac->first];

		if (zone_is_allowed(ac, z) && relaxed_load(&z->managed)) {
			ac->preferred = z;
			break;
		}
	}
	return true;
}

/* The first pass keeps migrate types apart where a lower zone can take what does not fit. */
static inline uint32_t flags_nofragment(const struct alloc_context *ac)
{
	const struct mm_domain *d = ac->d;
	const struct zone *z = ac->preferred;

	if (z->index != ZONE_NORMAL)
		return 0;
	if (d->mm->config.nodes > 1 &&
	    relaxed_load(&domain_zone(d, z->node, ZONE_DMA32)->managed) == 0)
		return 0;
	return ALLOC_NOFRAGMENT;
}

static void events_elsewhere(const struct alloc_context *ac, struct zone *z, uint64_t blocks)
{
	/* nodes are told apart only where there are several; adds are atomic: the preferred zone's
	 * set belongs to nobody here. relaxed: counters */
	if (z->node != ac->preferred->node) {
		atomic_fetch_add_explicit(&z->events.miss, blocks, memory_order_relaxed);
		atomic_fetch_add_explicit(&ac->preferred->events.foreign, blocks,
		                          memory_order_relaxed);
	} else if (ac->interleave) {
		atomic_fetch_add_explicit(&z->events.interleave, blocks, memory_order_relaxed);
	}
	if (ac->cpu != MM_CPU_NONE && z->node != ac->d->mm->cpu_node[ac->cpu])
		atomic_fetch_add_explicit(&z->events.other, blocks, memory_order_relaxed);
}

static inline void events_alloc(const struct alloc_context *ac, struct zone *z, uint64_t blocks)
{
	if (__builtin_expect(ac->cpu != MM_CPU_NONE, 1)) {
		relaxed_add(&z->pcp[ac->cpu].events.alloc[ac->order], blocks);
	} else {
		/* relaxed: a counter */
		atomic_fetch_add_explicit(&z->events.alloc[ac->order], blocks,
		                          memory_order_relaxed);
	}
	if (__builtin_expect(ac->d->mm->config.nodes > 1, 0))
		events_elsewhere(ac, z, blocks);
}

static inline bool zone_allows(struct zone *z, const struct alloc_context *ac,
                               enum zone_watermark w, uint32_t flags)
{
	if (flags & ALLOC_NO_WATERMARKS)
		return true;
	if (!zone_test_flag(z, ZONE_BELOW_HIGH)) {
		if (__builtin_expect(
		            zone_watermark_fast(z, ac->order, WMARK_HIGH, ac->class, flags), 1))
			return true;
		zone_set_flag(z, ZONE_BELOW_HIGH);
	}
	return zone_watermark_fast(z, ac->order, w, ac->class, flags);
}

static pfn_t zone_alloc_direct(struct zone *z, const struct alloc_context *ac, uint32_t flags)
{
	struct buddy_batch batch;

	batch.nr = 0;
	if (buddy_alloc(z, ac->order, ac->type, 1, flags, &batch) == 0)
		return PFN_NONE;
	return batch.block[0].pfn;
}

static inline pfn_t zone_alloc(struct zone *z, const struct alloc_context *ac, uint32_t flags)
{
	pfn_t pfn = PFN_NONE;

	if (ac->cpu != MM_CPU_NONE && !(flags & ALLOC_DIRECT) && pcp_order_allowed(ac->order))
		pfn = pcp_alloc(z, &z->pcp[ac->cpu], ac->order, ac->type, flags);
	/* a list that stayed empty leaves the reserve to those that may use it */
	if (__builtin_expect(pfn == PFN_NONE, 0))
		pfn = zone_alloc_direct(z, ac, flags);
	if (__builtin_expect(pfn != PFN_NONE && (flags & ALLOC_HIGHATOMIC), 0))
		highatomic_reserve(z, pfn, ac->order);
	return pfn;
}

static inline bool zone_is_remote(const struct zone *z, const struct alloc_context *ac)
{
	return z->node != ac->preferred->node;
}

/* One pass over the zones. */
static pfn_t alloc_pass(const struct alloc_context *ac, enum zone_watermark w, uint32_t flags)
{
	const struct zonelist *l = ac->zonelist;

	for (;;) {
		for (uint32_t i = ac->first; i < l->nr; i++) {
			struct zone *z = l->zone[i];
			pfn_t pfn;

			if (!zone_is_allowed(ac, z) || relaxed_load(&z->managed) == 0)
				continue;
			/* a near mixed block is better than a far clean one */
			if ((flags & ALLOC_NOFRAGMENT) && zone_is_remote(z, ac))
				break;
			if (!zone_allows(z, ac, w, flags))
				continue;
			pfn = zone_alloc(z, ac, flags);
			if (__builtin_expect(pfn != PFN_NONE, 1)) {
				events_alloc(ac, z, 1);
				return pfn;
			}
		}
		if (!(flags & ALLOC_NOFRAGMENT))
			return PFN_NONE;
		flags &= ~(uint32_t)ALLOC_NOFRAGMENT;
	}
}

static bool drain_own(const struct alloc_context *ac)
{
	bool any = false;

	if (ac->cpu == MM_CPU_NONE)
		return false;
	for (uint32_t i = ac->first; i < ac->zonelist->nr; i++) {
		struct zone *z = ac->zonelist->zone[i];
		struct pcp *p = &z->pcp[ac->cpu];

		if (!zone_is_allowed(ac, z) || relaxed_load(&p->count) == 0)
			continue;
		pcp_drain(z, p, UINT32_MAX, 0);
		any = true;
	}
	return any;
}

static bool unreserve_any(const struct alloc_context *ac)
{
	for (uint32_t i = ac->first; i < ac->zonelist->nr; i++) {
		struct zone *z = ac->zonelist->zone[i];

		if (zone_is_allowed(ac, z) && highatomic_unreserve(z, ac->type, true))
			return true;
	}
	return false;
}

/* A block of several frames is missing: background compaction may make one. */
static void note_wanted(const struct alloc_context *ac)
{
	for (uint32_t i = ac->first; i < ac->zonelist->nr; i++) {
		struct zone *z = ac->zonelist->zone[i];
		uint32_t was;

		if (!zone_is_allowed(ac, z))
			continue;
		/* relaxed, and one of two at a time may be lost: a wish */
		was = relaxed_load(&z->compact_wanted);
		if (ac->order > COMPACT_WANTED_ORDER(was))
			relaxed_store(&z->compact_wanted, COMPACT_WANTED(ac->order, ac->class));
	}
}

__attribute__((noinline)) static pfn_t alloc_slow(const struct alloc_context *ac, gfp_t gfp)
{
	/* this near the end a refill would only be drained again for the next one in need */
	uint32_t flags = alloc_flags_of(gfp, ac->order) | ALLOC_DIRECT;
	pfn_t pfn;

	/* relaxed: a wish; seen again while it is one */
	if ((gfp & __GFP_KSWAPD_RECLAIM) && !relaxed_load(&ac->d->reclaim_wanted))
		relaxed_store(&ac->d->reclaim_wanted, true);
	pfn = alloc_pass(ac, WMARK_MIN, flags);

	if (pfn == PFN_NONE && (gfp & __GFP_MEMALLOC) && !(gfp & __GFP_NOMEMALLOC)) {
		flags |= ALLOC_NO_WATERMARKS;
		pfn = alloc_pass(ac, WMARK_MIN, flags);
	}
	if (pfn == PFN_NONE && drain_own(ac))
		pfn = alloc_pass(ac, WMARK_MIN, flags);
	while (pfn == PFN_NONE && (gfp & __GFP_DIRECT_RECLAIM) && unreserve_any(ac))
		pfn = alloc_pass(ac, WMARK_MIN, flags);
	if (pfn == PFN_NONE) {
		/* relaxed: a counter */
		atomic_fetch_add_explicit(&ac->preferred->alloc_fail, 1, memory_order_relaxed);
		if (ac->order && (gfp & __GFP_KSWAPD_RECLAIM))
			note_wanted(ac);
	}
	return pfn;
}

static inline pfn_t alloc_one(const struct alloc_context *ac, gfp_t gfp)
{
	uint32_t flags;
	pfn_t pfn;

	if (__builtin_expect(!ac->preferred, 0))
		return PFN_NONE;
	flags = flags_nofragment(ac);
	if (gfp & __GFP_KSWAPD_RECLAIM)
		flags |= ALLOC_KSWAPD;
	pfn = alloc_pass(ac, WMARK_LOW, flags);
	if (__builtin_expect(pfn == PFN_NONE, 0))
		pfn = alloc_slow(ac, gfp);
	return pfn;
}

/* The order is a constant where it is known to be one. */
static inline uint64_t request_word(const struct mm_domain *d, const struct mm_request *r,
                                    uint32_t order)
{
	return page_word(order, gfp_migratetype(r->gfp), d->id, r->tag) |
	       (r->slab ? PAGE_OF_SLAB : 0);
}

__attribute__((noinline)) static int alloc_general(struct mm_domain *d, const struct mm_request *r,
                                                   pfn_t *ret)
{
	struct alloc_context ac;
	pfn_t pfn;

	if (!context_init(&ac, d, r))
		return -EINVAL;
	pfn = alloc_one(&ac, r->gfp);
	if (pfn == PFN_NONE)
		return -ENOMEM;
	page_commit(&d->mm->page[pfn], request_word(d, r, r->order));
	*ret = pfn;
	return 0;
}

/* What most requests need and no more: one node, the first zone of the list well above its marks,
 * a block on the cpu's own list. False, and nothing done: look at it properly. The order is a
 * constant where it is known to be 0. */
__attribute__((always_inline)) static inline bool alloc_fast(struct mm_domain *d,
                                                             const struct mm_request *r,
                                                             uint32_t order, pfn_t *ret)
{
	uint32_t fast = relaxed_load(&d->fast[r->gfp & 31]);
	struct pcp_list *list;
	struct zone *z;
	struct pcp *p;
	pfn_t pfn;

	if (!fast || r->cpu >= d->cpus || r->tag > MM_TAG_MAX || r->node > 1 || r->lowest)
		return false;
	z = &d->zones[FAST_ZONE(fast)];
	p = &z->pcp[r->cpu];
	list = &p->list[order == 0 ? FAST_TYPE(fast) : pcp_list_index(order, FAST_TYPE(fast))];
	if (list->top == list->bottom || zone_test_flag(z, ZONE_BELOW_HIGH) ||
	    !zone_watermark_clear(z, order, WMARK_HIGH, FAST_CLASS(fast)))
		return false;
	p->free_count >>= 1;
	relaxed_sub(&p->count, 1u << order);
	relaxed_add(&p->events.alloc[order], 1);
	pfn = list->slot[--list->top & list->mask];
	page_commit(&d->page[pfn], request_word(d, r, order));
	*ret = pfn;
	return true;
}

int mm_alloc_pages(struct mm_domain *d, const struct mm_request *r, pfn_t *ret)
{
	if (__builtin_expect(r->order == 0, 1)) {
		if (__builtin_expect(alloc_fast(d, r, 0, ret), 1))
			return 0;
	} else if (pcp_order_allowed(r->order) && alloc_fast(d, r, r->order, ret)) {
		return 0;
	}
	return alloc_general(d, r, ret);
}

/* How many blocks the preferred zone may give above the low watermark. */
static uint64_t bulk_room(const struct alloc_context *ac)
{
	const struct zone *z = ac->preferred;
	uint64_t free = relaxed_load(&z->nr_free);
	uint64_t need = zone_wmark(z, WMARK_LOW) + relaxed_load(&z->reserve[ac->class]) +
	                relaxed_load(&z->nr_free_special) + 1;

	return free > need ? (free - need) >> ac->order : 0;
}

/* Up to n blocks from the preferred zone: the cpu's list, then the free areas, one hold. */
static size_t bulk_take(const struct alloc_context *ac, gfp_t gfp, size_t n, uint64_t word,
                        pfn_t ret[])
{
	struct zone *z = ac->preferred;
	struct page *page = ac->d->mm->page;
	uint64_t room = bulk_room(ac);
	uint32_t flags = flags_nofragment(ac) | (gfp & __GFP_KSWAPD_RECLAIM ? ALLOC_KSWAPD : 0);
	struct buddy_batch batch;
	size_t got = 0;

	if (n > room)
		n = (size_t)room;
	if (n > BULK_MAX)
		n = BULK_MAX;
	if (ac->cpu != MM_CPU_NONE && pcp_order_allowed(ac->order)) {
		struct pcp *p = &z->pcp[ac->cpu];
		struct pcp_list *l = &p->list[pcp_list_index(ac->order, ac->type)];

		while (got < n && l->top != l->bottom) {
			ret[got] = l->slot[--l->top & l->mask];
			page_commit(&page[ret[got++]], word);
		}
		relaxed_sub(&p->count, (uint32_t)got << ac->order);
		p->free_count >>= got < 31 ? got : 31;
	}
	if (got == n)
		return got;
	batch.nr = 0;
	buddy_alloc(z, ac->order, ac->type, (uint32_t)(n - got), flags, &batch);
	for (uint32_t i = 0; i < batch.nr; i++)
		__builtin_prefetch(&page[batch.block[i].pfn], 1);
	for (uint32_t i = 0; i < batch.nr; i++) {
		pfn_t pfn = batch.block[i].pfn, end = pfn + ((pfn_t)1 << batch.block[i].order);

		for (; pfn != end; pfn += (pfn_t)1 << ac->order) {
			ret[got++] = pfn;
			page_commit(&page[pfn], word);
		}
	}
	return got;
}

size_t mm_alloc_pages_bulk(struct mm_domain *d, const struct mm_request *r, size_t n, pfn_t ret[])
{
	struct alloc_context ac;
	uint64_t word;
	size_t got = 0;

	if (!context_init(&ac, d, r) || !ac.preferred)
		return 0;
	word = request_word(d, r, r->order);
	while (got < n) {
		size_t k = bulk_take(&ac, r->gfp, n - got, word, ret + got);
		pfn_t pfn;

		got += k;
		if (k) {
			events_alloc(&ac, ac.preferred, k);
			continue;
		}
		/* other zones, lower watermarks */
		pfn = alloc_one(&ac, r->gfp);
		if (pfn == PFN_NONE)
			break;
		page_commit(&d->mm->page[pfn], word);
		ret[got++] = pfn;
	}
	return got;
}

bool mm_request_possible(const struct mm_domain *d, const struct mm_request *r)
{
	struct alloc_context ac;
	uint32_t flags;

	/* the context does not write to the domain */
	if (!context_init(&ac, (struct mm_domain *)(uintptr_t)d, r) || !ac.preferred)
		return false;
	flags = alloc_flags_of(r->gfp, r->order);
	for (uint32_t i = ac.first; i < ac.zonelist->nr; i++) {
		const struct zone *z = ac.zonelist->zone[i];
		uint64_t min = relaxed_load(&z->wmark[WMARK_MIN]);

		if (!zone_is_allowed(&ac, z) || relaxed_load(&z->max_order) <= r->order)
			continue;
		if ((r->gfp & __GFP_MEMALLOC) && !(r->gfp & __GFP_NOMEMALLOC))
			return true;
		if (flags & ALLOC_MIN_RESERVE)
			min -= min / 2;
		if ((flags & ALLOC_MIN_RESERVE) && (flags & ALLOC_NON_BLOCK))
			min -= min / 4;
		if (relaxed_load(&z->managed) >= min + relaxed_load(&z->reserve[ac.class]) +
		                                         ((uint64_t)1 << r->order))
			return true;
	}
	return false;
}

bool mm_reclaim_wanted(struct mm_domain *d)
{
	/* relaxed: a wish */
	if (!atomic_exchange_explicit(&d->reclaim_wanted, false, memory_order_relaxed))
		return false;
	/* as kswapd: one zone that is well off is enough; what needs DMA alone waits for its own */
	for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++) {
		const struct zone *z = &d->zones[i];

		if (z->index == ZONE_NORMAL || z->index == ZONE_DMA32)
			if (relaxed_load(&z->managed) &&
			    zone_watermark_ok(z, 0, zone_wmark(z, WMARK_HIGH), ZONE_NORMAL, 0))
				return false;
	}
	return true;
}
