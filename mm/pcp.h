/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU page lists: the paths that run for every allocation and free are here, the rest, and the
 * theory, in pcp.c.
 */
#ifndef MM_PCP_H
#define MM_PCP_H

#include "buddy.h"

#define PCP_LOW_ORDERS (PAGE_ALLOC_COSTLY_ORDER + 1)
#define PCP_LOW_LISTS (PCP_LOW_ORDERS * MIGRATE_PCPTYPES)
/* order 9: one list for movable blocks, one for the rest */
#define NR_PCP_LISTS (PCP_LOW_LISTS + 2)
#define PCP_BATCH_SCALE_MAX 5

/* A stack whose bottom can be taken too: slots [bottom, top), modulo the power of two mask + 1
 * (0, wrapped, while there are no slots yet). */
struct pcp_list {
	pfn_t *slot;
	uint32_t mask;
	uint32_t top, bottom;
};

/* One cpu's lists of one zone. Used by that cpu's thread only; others look at the counters. */
struct pcp {
	alignas(2 * MM_CACHE_LINE) _Atomic uint32_t count; /* frames on all lists */
	_Atomic uint32_t high;                             /* free some from here on */
	_Atomic uint32_t batch, high_min, high_max;        /* set by pcp_setup() */
	uint32_t free_count;                               /* freed of late without allocating */
	uint32_t alloc_factor;                             /* refilled of late without freeing */
	struct zone_events events;
	struct pcp_list list[NR_PCP_LISTS];
};

int pcp_new(struct pcp **ret, uint32_t cpus);
struct pcp *pcp_free_all(struct pcp *p, uint32_t cpus);
/* Forgets what is on the lists. */
void pcp_reset(struct pcp *p);
/* Limits by the zone's size. Hotplug lock. */
void pcp_setup(struct zone *z);
uint32_t pcp_batch(uint64_t managed);

/* Called by the fast paths. */
bool pcp_refill(struct zone *z, struct pcp *p, struct pcp_list *l, uint32_t order, uint32_t type,
                uint32_t flags);
/* Puts a block on its list, and drains when it is time to. */
void pcp_free(struct zone *z, struct pcp *p, pfn_t pfn, uint32_t order);

/* Gives at least `frames` frames back, or all; list: where to begin. */
void pcp_drain(struct zone *z, struct pcp *p, uint32_t frames, uint32_t list);
void pcp_decay(struct zone *z, struct pcp *p);

static inline bool pcp_order_allowed(uint32_t order)
{
	return order <= PAGE_ALLOC_COSTLY_ORDER || order == PAGEBLOCK_ORDER;
}

static inline uint32_t pcp_list_index(uint32_t order, uint32_t type)
{
	if (order <= PAGE_ALLOC_COSTLY_ORDER)
		return order * MIGRATE_PCPTYPES + type;
	return PCP_LOW_LISTS + (type == MIGRATE_MOVABLE);
}

static inline uint32_t pcp_list_order(uint32_t list)
{
	return list < PCP_LOW_LISTS ? list / MIGRATE_PCPTYPES : PAGEBLOCK_ORDER;
}

static inline pfn_t pcp_alloc(struct zone *z, struct pcp *p, uint32_t order, uint32_t type,
                              uint32_t flags)
{
	struct pcp_list *l = &p->list[pcp_list_index(order, type)];

	p->free_count >>= 1;
	if (__builtin_expect(l->top == l->bottom, 0) && !pcp_refill(z, p, l, order, type, flags))
		return PFN_NONE;
	relaxed_sub(&p->count, 1u << order);
	return l->slot[--l->top & l->mask];
}

/* Puts the block on list i, which is of its order. False, and nothing done: there is more to do
 * than that, use pcp_free(). */
static inline bool pcp_put(struct zone *z, struct pcp *p, pfn_t pfn, uint32_t order, uint32_t i)
{
	struct pcp_list *l = &p->list[i];
	uint32_t count = relaxed_load(&p->count) + (1u << order);

	if (__builtin_expect(l->top - l->bottom == l->mask + 1 ||
	                             count >= relaxed_load(&p->high) ||
	                             zone_test_flag(z, ZONE_BELOW_HIGH | ZONE_RECLAIM_ACTIVE),
	                     0))
		return false;
	l->slot[l->top++ & l->mask] = pfn;
	relaxed_store(&p->count, count);
	if (p->alloc_factor)
		p->alloc_factor >>= 1;
	if (p->free_count < relaxed_load(&p->batch) << PCP_BATCH_SCALE_MAX)
		p->free_count += 1u << order;
	return true;
}

#endif
