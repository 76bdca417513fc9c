/* SPDX-License-Identifier: MIT */
/*
 * Freeing blocks, and giving back what is cached.
 *
 * Concept: a freed block goes on the list of the cpu that frees it, of its order and pageblock's
 * type, where the next request finds it warm; or straight to its zone's free areas when it is of an
 * order without lists, when there is no cpu, when the caller wants others to find it at once, or
 * when in a bulk the lists are full, or when its pageblock is Isolate (hotplug.c). What goes to a zone
 * goes in batches, merged beforehand.
 *
 * Commit: the head's state word becomes 0 and the block is listed, in either order: nobody else
 * sees this cpu's lists, and a block reaches the zone only after its 0.
 *
 * Locking: none on the per-CPU path; the zone's lock below it. Complexity: O(1), amortised
 * O(orders).
 */
#include <assert.h>

#include "buddy.h"
#include "pcp.h"
#include "watermark.h"

/* How far ahead of its turn a state word is fetched. */
#define BULK_AHEAD 16u

static inline void events_free(struct zone *z, uint32_t cpu, uint32_t order)
{
	if (__builtin_expect(cpu != MM_CPU_NONE, 1))
		relaxed_add(&z->pcp[cpu].events.freed[order], 1);
	else
		/* relaxed: a counter */
		atomic_fetch_add_explicit(&z->events.freed[order], 1, memory_order_relaxed);
}

/* Ends the block's allocation; returns its order. */
static inline uint32_t block_uncommit(struct mm_domain *d, pfn_t pfn)
{
	struct page *page = &d->mm->page[pfn];
	uint64_t w = page_peek(page);

	assert((w & PAGE_ALLOCATED) && page_word_domain(w) == d->id);
	page_commit(page, 0);
	return page_word_order(w);
}

static inline struct cpu_hint *hint_of(struct mm_domain *d, uint32_t cpu, pfn_t pfn)
{
	uint32_t index = d->section_zone[pfn >> d->section_order];
	struct cpu_hint *h = &d->hint[cpu];

	if (__builtin_expect(h->index != index, 0)) {
		h->zone = &d->zones[index];
		h->pcp = &h->zone->pcp[cpu];
		h->index = index;
	}
	return h;
}

__attribute__((noinline)) static void free_general(struct mm_domain *d, uint32_t cpu, pfn_t pfn,
                                                   enum mm_free how)
{
	uint32_t order = block_uncommit(d, pfn);
	struct zone *z = domain_zone_of(d, pfn);

	events_free(z, cpu, order);
	if (cpu != MM_CPU_NONE && how == MM_FREE_CACHED && pcp_order_allowed(order))
		pcp_free(z, &z->pcp[cpu], pfn, order);
	else
		buddy_free_one(z, pfn, order);
}

/* As with allocating: a block whose list has room, and nothing to do besides. Order and type come
 * from memory that was perhaps written a moment ago; where they are compared with constants and
 * passed as such, the processor goes on with a guess instead of waiting for an address. */
__attribute__((always_inline)) static inline bool free_fast(struct mm_domain *d, uint32_t cpu,
                                                            pfn_t pfn, uint32_t order,
                                                            uint32_t list)
{
	struct cpu_hint *h = hint_of(d, cpu, pfn);
	struct pcp *p = h->pcp;

	if (!pcp_put(h->zone, p, pfn, order, list))
		return false;
	relaxed_add(&p->events.freed[order], 1);
	page_commit(&d->page[pfn], 0);
	return true;
}

void mm_free_pages(struct mm_domain *d, uint32_t cpu, pfn_t pfn, enum mm_free how)
{
	uint64_t w = page_peek(&d->page[pfn]);
	uint32_t order = page_word_order(w);
	uint32_t type = relaxed_load(&d->pageblock[pfn >> PAGEBLOCK_ORDER]);
	bool done = false;

	assert((w & PAGE_ALLOCATED) && page_word_domain(w) == d->id);
	if (cpu == MM_CPU_NONE || how != MM_FREE_CACHED || type >= MIGRATE_PCPTYPES)
		;
	else if (order == 0 && type == MIGRATE_UNMOVABLE)
		done = free_fast(d, cpu, pfn, 0, MIGRATE_UNMOVABLE);
	else if (order == 0 && type == MIGRATE_MOVABLE)
		done = free_fast(d, cpu, pfn, 0, MIGRATE_MOVABLE);
	else if (pcp_order_allowed(order))
		done = free_fast(d, cpu, pfn, order, pcp_list_index(order, type));
	if (__builtin_expect(!done, 0))
		free_general(d, cpu, pfn, how);
}

/* The cpu's lists have room for the block below their limit. */
static inline bool cached_fits(struct mm_domain *d, uint32_t cpu, pfn_t pfn, uint32_t order)
{
	const struct pcp *p = hint_of(d, cpu, pfn)->pcp;

	return pcp_order_allowed(order) &&
	       relaxed_load(&p->count) + (1u << order) < relaxed_load(&p->high);
}

void mm_free_pages_bulk(struct mm_domain *d, uint32_t cpu, size_t n, const pfn_t pfn[],
                        enum mm_free how)
{
	bool cached = cpu != MM_CPU_NONE && how == MM_FREE_CACHED;
	struct page *page = d->mm->page;
	struct buddy_batch batch;
	struct zone *of = NULL; /* whose blocks the batch holds */

	batch.nr = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t order;
		struct zone *z;

		if (i + BULK_AHEAD < n)
			__builtin_prefetch(&page[pfn[i + BULK_AHEAD]], 1);
		order = block_uncommit(d, pfn[i]);
		/* what the lists would only pass on goes to the zone directly, merged */
		if (cached && cached_fits(d, cpu, pfn[i], order)) {
			struct cpu_hint *h = &d->hint[cpu];

			relaxed_add(&h->pcp->events.freed[order], 1);
			pcp_free(h->zone, h->pcp, pfn[i], order);
			continue;
		}
		z = cached ? d->hint[cpu].zone : domain_zone_of(d, pfn[i]);
		events_free(z, cpu, order);
		if (batch.nr && (of != z || batch.nr == BUDDY_BATCH)) {
			buddy_free_batch(of, &batch);
			batch.nr = 0;
		}
		of = z;
		buddy_batch_push(z, &batch, pfn[i], order);
	}
	if (batch.nr)
		buddy_free_batch(of, &batch);
}

void mm_drain_cpu(struct mm_domain *d, uint32_t cpu)
{
	for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++) {
		struct zone *z = &d->zones[i];

		if (z->pcp && relaxed_load(&z->pcp[cpu].count))
			pcp_drain(z, &z->pcp[cpu], UINT32_MAX, 0);
	}
}

void mm_tick_cpu(struct mm_domain *d, uint32_t cpu)
{
	for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++)
		if (d->zones[i].pcp)
			pcp_decay(&d->zones[i], &d->zones[i].pcp[cpu]);
}

void mm_tick(struct mm_domain *d)
{
	for (uint32_t i = 0; i < d->mm->config.nodes * MAX_NR_ZONES; i++) {
		struct zone *z = &d->zones[i];

		watermark_decay(z);
		highatomic_unreserve(z, MIGRATE_MOVABLE, false);
		if (zone_test_flag(z, ZONE_BELOW_HIGH) &&
		    zone_watermark_ok(z, 0, zone_wmark(z, WMARK_HIGH), ZONE_MOVABLE, 0))
			zone_clear_flag(z, ZONE_BELOW_HIGH);
	}
}
