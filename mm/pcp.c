/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU page lists: why allocating a frame takes no lock.
 *
 * Concept: each cpu keeps, for each zone, lists of free blocks of orders 0 to 3 (for the three
 * migrate types) and 9 (movable, other). Allocation takes from them, free puts on them; only when
 * a list is empty, or all of them hold too much, do blocks move from or to the zone's free areas,
 * many under one hold of its lock.
 *
 * Structure: a list is an array used as a stack of frame numbers (what was freed last is warm) from
 * whose other end (cold) blocks go back. It begins small and doubles when it must; where memory
 * for that is not to be had, blocks go back to the zone instead. A block on a list has no mark
 * anywhere else: its state word is 0 and its buddy byte too.
 *
 * How much, after Linux:
 *   batch     what one refill or drain moves, by the zone's size
 *   high_min  a cpu's share of the low watermark; high_max its share of an eighth of the zone
 *   high      at this count the lists are drained; moves between the two, up while refills or
 *             drains show that a larger cache would have helped, down when the zone runs low and
 *             by and by (pcp_decay)
 *   alloc_factor doubles the refill each time nothing was freed since the last one, up to 32 times
 *   free_count   drains more the more was freed without allocating, up to 32 batches
 *
 * Invariant: count = sum over the lists of (top - bottom) << order.
 *
 * Locking: none; a set belongs to one thread. count, high and the limits are atomic because others
 * read them (or, the limits, write them), relaxed: they order nothing.
 * Complexity: O(1), amortised O(orders) a block.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pcp.h"
#include "watermark.h"

#define PCP_LIST_MIN 64u

int pcp_new(struct pcp **ret, uint32_t cpus)
{
	struct pcp *p = aligned_alloc(alignof(struct pcp), cpus * sizeof(*p));

	if (!p)
		return -ENOMEM;
	memset(p, 0, cpus * sizeof(*p));
	for (uint32_t c = 0; c < cpus; c++)
		for (uint32_t i = 0; i < NR_PCP_LISTS; i++)
			p[c].list[i].mask = UINT32_MAX; /* no slots: grows at the first use */
	*ret = p;
	return 0;
}

struct pcp *pcp_free_all(struct pcp *p, uint32_t cpus)
{
	for (uint32_t c = 0; p && c < cpus; c++)
		for (uint32_t i = 0; i < NR_PCP_LISTS; i++)
			free(p[c].list[i].slot);
	free(p);
	return NULL;
}

void pcp_reset(struct pcp *p)
{
	for (uint32_t i = 0; i < NR_PCP_LISTS; i++)
		p->list[i].top = p->list[i].bottom = 0;
	relaxed_store(&p->count, 0);
	p->free_count = 0;
	p->alloc_factor = 0;
}

uint32_t pcp_batch(uint64_t managed)
{
	uint64_t batch = managed >> 10;

	if (batch > 256)
		batch = 256;
	batch /= 4;
	if (batch == 0)
		batch = 1;
	batch += batch / 2;
	/* one less than a power of two, so that batches do not beat in step with block sizes */
	batch = ((uint64_t)1 << (63 - __builtin_clzll(batch))) - 1;
	return batch ? (uint32_t)batch : 1;
}

void pcp_setup(struct zone *z)
{
	uint32_t cpus = z->mm->config.cpus;
	uint64_t managed = relaxed_load(&z->managed);
	uint32_t batch = pcp_batch(managed);
	uint64_t low = relaxed_load(&z->wmark[WMARK_LOW]) / cpus, most = managed / 8 / cpus;

	if (!z->pcp)
		return;
	if (low < 4 * batch)
		low = 4 * batch;
	if (most < 4 * batch)
		most = 4 * batch;
	for (uint32_t c = 0; c < cpus; c++) {
		relaxed_store(&z->pcp[c].high_min, (uint32_t)low);
		relaxed_store(&z->pcp[c].high_max, (uint32_t)most);
		relaxed_store(&z->pcp[c].batch, batch);
	}
}

/* Makes room for `n` more. */
static bool list_reserve(struct pcp_list *l, uint32_t n)
{
	uint32_t used = l->top - l->bottom, size = l->slot ? l->mask + 1 : PCP_LIST_MIN;
	pfn_t *slot;

	if (l->slot && used + n <= size)
		return true;
	while (size < used + n)
		size *= 2;
	/* cache lines of its own: two cpus must not meet at the border of their lists */
	slot = aligned_alloc(alignof(struct pcp), size * sizeof(*slot));
	if (!slot)
		return false;
	for (uint32_t i = 0; i < used; i++)
		slot[i] = l->slot[(l->bottom + i) & l->mask];
	free(l->slot);
	*l = (struct pcp_list){ .slot = slot, .mask = size - 1, .top = used, .bottom = 0 };
	return true;
}

static uint32_t clamp(uint32_t x, uint32_t low, uint32_t high)
{
	if (x < low)
		return low;
	return x > high ? high : x;
}

/* high within its limits, which may have moved */
static uint32_t high_clamp(struct pcp *p)
{
	uint32_t high = clamp(relaxed_load(&p->high), relaxed_load(&p->high_min),
	                      relaxed_load(&p->high_max));

	relaxed_store(&p->high, high);
	return high;
}

/* How many blocks a refill should bring. */
static uint32_t refill_size(struct zone *z, struct pcp *p, uint32_t order)
{
	uint32_t base = relaxed_load(&p->batch), batch = base;
	uint32_t most = relaxed_load(&p->high_max), high = high_clamp(p);

	if (high < base)
		return 1;
	if (order == 0)
		batch <<= p->alloc_factor;
	/* a larger cache would have had it */
	if (relaxed_load(&p->high_min) != most && !zone_test_flag(z, ZONE_BELOW_HIGH)) {
		high = high + batch < most ? high + batch : most;
		relaxed_store(&p->high, high);
	}
	if (order == 0) {
		uint32_t held = relaxed_load(&p->count) + base;
		uint32_t room = high > held + base ? high - held : base;

		if (batch <= room && p->alloc_factor < PCP_BATCH_SCALE_MAX)
			p->alloc_factor++;
		if (batch > room)
			batch = room;
	}
	if (batch > 1)
		batch = batch >> order > 2 ? batch >> order : 2;
	return batch;
}

/* Large refills end at the low watermark: what lies below is for those in need, on any cpu. */
static uint32_t refill_limit(const struct zone *z, const struct pcp *p, uint32_t order,
                             uint32_t want)
{
	uint64_t low = zone_wmark(z, WMARK_LOW) + relaxed_load(&z->nr_free_isolated);
	uint64_t free = relaxed_load(&z->nr_free);
	uint64_t room = free > low ? (free - low) >> order : 0;
	uint32_t least = relaxed_load(&p->batch) >> order;

	if (least == 0)
		least = 1;
	if (room < least)
		room = least;
	return want < room ? want : (uint32_t)room;
}

bool pcp_refill(struct zone *z, struct pcp *p, struct pcp_list *l, uint32_t order, uint32_t type,
                uint32_t flags)
{
	uint32_t want = refill_limit(z, p, order, refill_size(z, p, order)), got;
	struct buddy_batch batch;

	if (!list_reserve(l, want))
		return false;
	batch.nr = 0;
	/* the high-atomic reserve is not for caches */
	got = buddy_alloc(z, order, type, want, flags & (ALLOC_NOFRAGMENT | ALLOC_KSWAPD), &batch);
	if (got == 0)
		return false;
	/* the last in first, so that they are used in the order in which they were taken */
	for (uint32_t i = batch.nr; i-- > 0;) {
		pfn_t first = batch.block[i].pfn;
		pfn_t pfn = first + ((pfn_t)1 << batch.block[i].order);

		while (pfn != first) {
			pfn -= (pfn_t)1 << order;
			l->slot[l->top++ & l->mask] = pfn;
		}
	}
	relaxed_add(&p->count, got << order);
	return true;
}

void pcp_drain(struct zone *z, struct pcp *p, uint32_t frames, uint32_t list)
{
	struct buddy_batch batch;
	uint32_t done = 0;

	batch.nr = 0;
	for (uint32_t tried = 0; tried < NR_PCP_LISTS && done < frames; tried++) {
		uint32_t i = (list + tried) % NR_PCP_LISTS, order = pcp_list_order(i);
		struct pcp_list *l = &p->list[i];

		while (l->bottom != l->top && done < frames) {
			if (batch.nr == BUDDY_BATCH) {
				buddy_free_batch(z, &batch);
				batch.nr = 0;
			}
			buddy_batch_push(z, &batch, l->slot[l->bottom++ & l->mask], order);
			done += 1u << order;
		}
	}
	if (batch.nr)
		buddy_free_batch(z, &batch);
	relaxed_sub(&p->count, done);
}

/* At how many frames to drain now. */
static uint32_t drain_threshold(struct zone *z, struct pcp *p)
{
	uint32_t batch = relaxed_load(&p->batch), least = relaxed_load(&p->high_min);
	uint32_t most = relaxed_load(&p->high_max), high = high_clamp(p);
	uint32_t count = relaxed_load(&p->count);
	uint32_t shrink = p->free_count > batch ? p->free_count : batch;

	if (zone_test_flag(z, ZONE_RECLAIM_ACTIVE)) {
		high = high > least + shrink ? high - shrink : least;
		relaxed_store(&p->high, high);
		return batch * 4 < high ? batch * 4 : high;
	}
	if (least == most)
		return high;
	if (zone_test_flag(z, ZONE_BELOW_HIGH)) {
		relaxed_store(&p->high, high > least + shrink ? high - shrink : least);
		return count > least ? count : least;
	}
	if (count >= high) {
		/* what is freed in one go should fit */
		uint32_t need = p->free_count + batch;

		if (high < need)
			relaxed_store(&p->high, clamp(need, least, most));
	}
	return high;
}

static void drain_some(struct zone *z, struct pcp *p, uint32_t list)
{
	uint32_t batch = relaxed_load(&p->batch), high = drain_threshold(z, p);

	if (relaxed_load(&p->count) < high)
		return;
	if (high < batch)
		pcp_drain(z, p, 1, list);
	else
		pcp_drain(z, p, clamp(p->free_count, batch, high - batch), list);
	if (zone_test_flag(z, ZONE_BELOW_HIGH) &&
	    zone_watermark_ok(z, 0, zone_wmark(z, WMARK_HIGH), ZONE_MOVABLE, 0))
		zone_clear_flag(z, ZONE_BELOW_HIGH);
}

void pcp_free(struct zone *z, struct pcp *p, pfn_t pfn, uint32_t order)
{
	uint32_t type = mm_pageblock_type(z->mm, pfn), i;
	struct pcp_list *l;

	/* the high-atomic reserve gets its blocks back when the list is drained */
	if (type == MIGRATE_HIGHATOMIC)
		type = MIGRATE_MOVABLE;
	/* Isolate: nobody may find it here. The type was read without the lock, so a block may
	 * still come to a list while its pageblock becomes Isolate; the drain that follows every
	 * isolation brings it to where it belongs, and later frees see the new type */
	if (type >= MIGRATE_PCPTYPES) {
		buddy_free_one(z, pfn, order);
		return;
	}
	i = pcp_list_index(order, type);
	l = &p->list[i];
	if (!list_reserve(l, 1)) {
		buddy_free_one(z, pfn, order);
		return;
	}
	l->slot[l->top++ & l->mask] = pfn;
	relaxed_add(&p->count, 1u << order);
	p->alloc_factor >>= 1;
	if (p->free_count < relaxed_load(&p->batch) << PCP_BATCH_SCALE_MAX)
		p->free_count += 1u << order;
	drain_some(z, p, i);
}

void pcp_decay(struct zone *z, struct pcp *p)
{
	uint32_t least = relaxed_load(&p->high_min), high = relaxed_load(&p->high);
	uint32_t most = relaxed_load(&p->high_max);
	uint32_t spare = relaxed_load(&p->batch) << PCP_BATCH_SCALE_MAX;
	uint32_t count = relaxed_load(&p->count);

	/* the zone has become smaller */
	if (high > most)
		relaxed_store(&p->high, high = most);
	if (high > least) {
		high -= high / 8;
		if (count > spare && high < count - spare)
			high = count - spare;
		if (high < least)
			high = least;
		relaxed_store(&p->high, high);
	}
	if (high && count > high)
		pcp_drain(z, p, count - high, 0);
}
