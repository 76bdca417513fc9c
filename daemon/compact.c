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
 * Only HighMem and Movable have pages that move. All runs are the worker's, and each is cut into
 * slices (COMPACT_SLICE): who runs it submits himself again after each, behind all others who want
 * the worker. So nobody waits for more than a slice, and slices of several runs alternate but never
 * meet. What a request has of a zone, and one second's background work, is bounded.
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
	uint32_t kind;                /* of those that wait, by zone class and order: the next */
	bool rounding;                /* a run for the one before is under way */
	struct compact_direct direct; /* it */
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

void compact_direct_begin(struct compact_direct *c, struct domain *d, gfp_t gfp, uint32_t order,
                          uint32_t node)
{
	*c = (struct compact_direct){ .d = d, .gfp = gfp, .order = order, .node = node };
}

static void direct_zone_begin(struct compact_direct *c, uint32_t node, enum zone_type zone)
{
	struct mm_domain *zones = c->d->zones;
	enum compact_result r;

	if (compaction_deferred(zones, node, zone, c->order))
		return;
	c->cc = compact_control_of(c->d, node, zone, c->order);
	c->cc.class = gfp_zone(c->gfp);
	r = compaction_begin(&c->cc);
	c->got = r == COMPACT_SUCCESS;
	c->slices = r == COMPACT_CONTINUE ? DIRECT_SLICES : 0;
}

/* What is to be thought of the zone the next time. */
static void direct_zone_end(struct compact_direct *c, enum compact_result r)
{
	const struct compact_control *cc = &c->cc;

	c->slices = 0;
	c->got = r == COMPACT_SUCCESS;
	if (c->got)
		compaction_defer_reset(cc->d, cc->node, cc->zone, c->order, true);
	else if (r != COMPACT_CONTINUE)
		compaction_defer(cc->d, cc->node, cc->zone, c->order);
	vm_count(cc->d, VM_COMPACT_STALL, 1);
	vm_count(cc->d, c->got ? VM_COMPACT_SUCCESS : VM_COMPACT_FAIL, 1);
}

/* Begins in the next zone that wants it, of each node from the request's own class down. */
static void direct_next(struct compact_direct *c)
{
	uint32_t class = gfp_zone(c->gfp), zones, all;

	if (!compact_worth(c->gfp, c->order))
		return;
	zones = class - ZONE_HIGHMEM + 1;
	all = mm_nr_nodes(c->d->zones) * zones;
	while (!c->got && !c->slices && c->next < all) {
		uint32_t node = c->next / zones, zone = class - c->next % zones;

		c->next++;
		if (!(c->gfp & __GFP_THISNODE) || c->node == MM_NODE_ANY || c->node == MM_NODE(node))
			direct_zone_begin(c, node, (enum zone_type)zone);
	}
}

bool compact_direct_step(struct compact_direct *c)
{
	if (c->slices) {
		enum compact_result r = compaction_step(&c->cc, COMPACT_SLICE);

		if (r != COMPACT_CONTINUE || --c->slices == 0)
			direct_zone_end(c, r);
	}
	direct_next(c);
	return c->slices > 0;
}

void compact_round_begin(struct domain *d)
{
	d->compact->kind = 0;
	d->compact->rounding = false;
}

/* A run for the next kind of which somebody waits. */
static bool round_next(struct compact *c)
{
	for (; c->kind < HIGH_ZONES * NR_PAGE_ORDERS; c->kind++) {
		uint32_t zone = c->kind / NR_PAGE_ORDERS, order = c->kind % NR_PAGE_ORDERS;

		if (!atomic_load_explicit(&c->waiting[zone][order], memory_order_relaxed))
			continue;
		compact_direct_begin(&c->direct, c->d,
		                     __GFP_IO | __GFP_HIGHMEM | (zone ? __GFP_MOVABLE : 0), order,
		                     MM_NODE_ANY);
		c->kind++;
		return true;
	}
	return false;
}

bool compact_round_step(struct domain *d, bool *got)
{
	struct compact *c = d->compact;

	*got = false;
	if (!atomic_load_explicit(&c->waiting_all, memory_order_relaxed))
		return false;
	if (!c->rounding)
		c->rounding = round_next(c);
	if (!c->rounding)
		return false;
	if (!compact_direct_step(&c->direct)) {
		*got = c->direct.got;
		c->rounding = false;
	}
	return true;
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
