/* SPDX-License-Identifier: MIT */
/*
 * Compaction, as the daemon uses it. How it works is mm/compaction.c's matter, moving one page
 * move.c's; here is when it runs:
 *
 *   direct      A request for several frames that high zones may serve found none. It waits, or is
 *               settled before it is refused (service_wait.c); each round of pressure.c compacts for
 *               those that wait, after caches were emptied. A request that may not wait gets none.
 *   background  Linux's kcompactd: once a second the zones say which order was missed, or that they
 *               were boosted because migrate types mixed; or more than 90 per cent of a zone's free
 *               frames lie in blocks smaller than a pageblock.
 *   by order    of an operator: `kmmctl compact` (service_compact.c).
 *
 * Only HighMem and Movable have pages that move. All runs are the worker's, so they never meet; each
 * is cut into slices (COMPACT_SLICE) between which others have the worker, and one second's background
 * work is bounded.
 *
 * A run that failed defers the next ones (compaction_deferred()). A proactive one that did not lower
 * the score leaves the zone alone for a minute.
 *
 * Locks: none; what others than the worker touch are the counters of those that wait.
 */
#include "daemon/compact.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/move.h"
#include "daemon/wait_queue.h"
#include "mm/vmstat.h"

#define DIRECT_SLICES 8u      /* a direct run, before the others who wait are looked at again */
#define BACKGROUND_SLICES 64u /* of one second */
#define QUIET_TICKS 64u
#define HIGH_ZONES 2u /* HighMem, Movable */

struct compact {
	struct domain *d;
	/* by zone class and order: how many requests wait; relaxed, a count to look at */
	_Atomic uint32_t waiting[HIGH_ZONES][NR_PAGE_ORDERS];
	_Atomic uint32_t waiting_all;
	/* the worker's */
	struct worker_job job;
	bool active;                /* the job is queued */
	uint32_t slices;            /* that this second may still have */
	bool running;               /* a run is under way */
	struct compact_control run; /* it */
	uint32_t score;             /* of its zone when it began */
	uint32_t next;              /* zone to look at next, node * HIGH_ZONES + zone */
	uint8_t quiet[MAX_NODES * HIGH_ZONES]; /* ticks to leave it alone */
};

static bool move_one(void *ctx, pfn_t from, pfn_t to)
{
	return move_page(ctx, from, to) == 0;
}

static bool may_move(void *ctx, pfn_t from)
{
	return move_possible(ctx, from);
}

struct compact_control compact_control_of(struct domain *d, uint32_t node, enum zone_type zone,
                                          uint32_t order)
{
	return (struct compact_control){ .d = d->zones, .node = node, .zone = zone, .order = order,
		                         .class = zone, .movable = may_move, .move = move_one,
		                         .ctx = d };
}

/* ---- direct ---- */

bool compact_worth(gfp_t gfp, uint32_t order)
{
	uint32_t class = gfp_zone(gfp);

	return order > 0 && order <= MAX_PAGE_ORDER && (gfp & __GFP_IO) &&
	       (class == ZONE_HIGHMEM || class == ZONE_MOVABLE);
}

static void want(struct domain *d, gfp_t gfp, uint32_t order, uint32_t n)
{
	struct compact *c = d->compact;

	if (!compact_worth(gfp, order))
		return;
	/* relaxed: counts to look at */
	atomic_fetch_add_explicit(&c->waiting[gfp_zone(gfp) - ZONE_HIGHMEM][order], n,
	                          memory_order_relaxed);
	atomic_fetch_add_explicit(&c->waiting_all, n, memory_order_relaxed);
}

void compact_want(struct domain *d, gfp_t gfp, uint32_t order)
{
	want(d, gfp, order, 1);
}

void compact_unwant(struct domain *d, gfp_t gfp, uint32_t order)
{
	want(d, gfp, order, UINT32_MAX); /* one less */
}

/* A part of one zone, and what is to be thought of it the next time. */
static enum compact_result direct_zone(struct domain *d, uint32_t node, enum zone_type zone,
                                       uint32_t order, uint32_t class)
{
	struct compact_control cc = compact_control_of(d, node, zone, order);
	enum compact_result r;

	if (compaction_deferred(d->zones, node, zone, order))
		return COMPACT_DEFERRED;
	cc.class = class;
	r = compaction_begin(&cc);
	if (r != COMPACT_CONTINUE)
		return r;
	for (uint32_t i = 0; r == COMPACT_CONTINUE && i < DIRECT_SLICES; i++)
		r = compaction_step(&cc, COMPACT_SLICE);
	if (r == COMPACT_SUCCESS)
		compaction_defer_reset(d->zones, node, zone, order, true);
	else if (r != COMPACT_CONTINUE)
		compaction_defer(d->zones, node, zone, order);
	vm_count(d->zones, VM_COMPACT_STALL, 1);
	vm_count(d->zones, r == COMPACT_SUCCESS ? VM_COMPACT_SUCCESS : VM_COMPACT_FAIL, 1);
	return r;
}

enum compact_result compact_direct(struct domain *d, gfp_t gfp, uint32_t order, uint32_t node)
{
	enum compact_result best = COMPACT_NOT_SUITABLE_ZONE;
	uint32_t nodes = mm_nr_nodes(d->zones), class = gfp_zone(gfp);

	if (!compact_worth(gfp, order))
		return COMPACT_SKIPPED;
	for (uint32_t n = 0; n < nodes && best != COMPACT_SUCCESS; n++) {
		if ((gfp & __GFP_THISNODE) && node != MM_NODE_ANY && node != MM_NODE(n))
			continue;
		for (uint32_t z = class; z >= ZONE_HIGHMEM && best != COMPACT_SUCCESS; z--) {
			enum compact_result r = direct_zone(d, n, (enum zone_type)z, order, class);

			if (r > best)
				best = r;
		}
	}
	return best;
}

bool compact_round(struct domain *d)
{
	struct compact *c = d->compact;
	bool any = false;

	if (!atomic_load_explicit(&c->waiting_all, memory_order_relaxed))
		return false;
	for (uint32_t z = 0; z < HIGH_ZONES; z++) {
		gfp_t gfp = __GFP_IO | __GFP_HIGHMEM | (z ? __GFP_MOVABLE : 0);

		for (uint32_t order = 1; order < NR_PAGE_ORDERS; order++)
			if (atomic_load_explicit(&c->waiting[z][order], memory_order_relaxed))
				any |= compact_direct(d, gfp, order, MM_NODE_ANY) ==
				       COMPACT_SUCCESS;
	}
	return any;
}

/* ---- in the background ---- */

/* There is reason to begin a run in that zone. */
static bool background_begin(struct compact *c, uint32_t index)
{
	struct domain *d = c->d;
	uint32_t node = index / HIGH_ZONES, class, order;
	enum zone_type zone = (enum zone_type)(ZONE_HIGHMEM + index % HIGH_ZONES);

	c->run = compact_control_of(d, node, zone, COMPACT_ORDER_ALL);
	c->run.background = true;
	order = compaction_wanted(d->zones, node, zone, &class);
	if (order && !compaction_deferred(d->zones, node, zone, order)) {
		c->run.order = order;
		c->run.class = class;
		if (compaction_begin(&c->run) == COMPACT_CONTINUE)
			return true;
		c->run.order = COMPACT_ORDER_ALL;
		c->run.class = zone;
	}
	if (c->quiet[index]) {
		c->quiet[index]--;
		return false;
	}
	c->score = compaction_score(d->zones, node, zone);
	c->run.proactive = true;
	return c->score > COMPACT_SCORE_HIGH && compaction_begin(&c->run) == COMPACT_CONTINUE;
}

static void background_end(struct compact *c, enum compact_result r)
{
	struct compact_control *cc = &c->run;
	uint32_t index = cc->node * HIGH_ZONES + (cc->zone - ZONE_HIGHMEM);

	c->running = false;
	if (cc->proactive) {
		if (compaction_score(cc->d, cc->node, cc->zone) >= c->score)
			c->quiet[index] = QUIET_TICKS;
	} else if (r == COMPACT_SUCCESS) {
		compaction_defer_reset(cc->d, cc->node, cc->zone, cc->order, false);
	} else {
		compaction_defer(cc->d, cc->node, cc->zone, cc->order);
	}
	if (wait_queue_waiting(c->d->waiters))
		wait_queue_kick(c->d->waiters);
}

/* The next zone that wants it. False: none, all were looked at. */
static bool background_next(struct compact *c)
{
	uint32_t zones = mm_nr_nodes(c->d->zones) * HIGH_ZONES;

	while (c->next < zones && !c->running)
		c->running = background_begin(c, c->next++);
	if (c->running)
		vm_count(c->d->zones, VM_COMPACT_DAEMON_WAKE, 1);
	return c->running;
}

static void background_run(struct worker_job *job)
{
	struct compact *c = (struct compact *)((char *)job - offsetof(struct compact, job));
	enum compact_result r;

	c->active = false;
	if (c->running) {
		r = compaction_step(&c->run, COMPACT_SLICE);
		if (r != COMPACT_CONTINUE)
			background_end(c, r);
	}
	if ((!c->running && !background_next(c)) || --c->slices == 0)
		return;
	c->active = true;
	worker_submit_later(c->d->kmmd->worker, &c->job);
}

void compact_tick(struct domain *d)
{
	struct compact *c = d->compact;

	compaction_tick(d->zones);
	if (c->active || !d->kmmd->worker)
		return;
	c->slices = BACKGROUND_SLICES;
	if (!c->running)
		c->next = 0;
	if (!c->running && !background_next(c))
		return;
	c->active = true;
	c->job.run = background_run;
	worker_submit_later(d->kmmd->worker, &c->job);
}

/* ---- life ---- */

int compact_new(struct compact **ret, struct domain *d)
{
	struct compact *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->d = d;
	*ret = c;
	return 0;
}

struct compact *compact_free(struct compact *c)
{
	free(c);
	return NULL;
}
