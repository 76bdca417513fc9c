/* SPDX-License-Identifier: MIT */
/*
 * Fair waiting. The rule: when memory is freed, the request that has waited longest gets the first
 * chance; a later one may overtake only where the earlier could not use the memory.
 *
 * Requests that the allocator cannot tell apart (same order, same flags that choose zone, type and
 * reserve) form a class with a FIFO of its own. wait_queue_kick() merges the classes by the age of
 * their oldest request:
 *
 *     class   order gfp      waiting (sequence numbers)
 *       0       0   0        12 -> 15 -> 19
 *       1       3   0        13 -> 14                  served: 12, 13 fails, 15, 19
 *       2       0   DMA      16                        then 16
 *
 * When a class fails it is out for this round, and with it every class of the same flags and a
 * larger order. The classes of a round are a heap by age, so it costs O(log classes) for each
 * request served or class that fails plus O(classes) in all, however many wait.
 *
 * Requests for objects form a class for each cache: free objects serve none but these, so a request
 * for blocks that fails says nothing of them, nor they of it.
 *
 * There is a class for every combination that can be asked for, at a place computed from it, so
 * that nobody's kinds of requests keep out another's; `active` lists those where somebody waits.
 * What was never waited for is memory never touched.
 *
 * No wakeup is lost: wait_queue_add() counts the request before the caller's kick tries it under
 * the zones' locks, and who frees looks at the count after having held such a lock.
 *
 * One lock (LOCK_RANK_WAITQ) is held for a round; whoever frees meanwhile waits for it briefly.
 */
#include "daemon/wait_queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mm/lock.h"

/* What the allocator looks at when it chooses from where to take, for requests that may wait and
 * have no __GFP_MEMALLOC. */
#define WAIT_GFP (GFP_ZONEMASK | GFP_MOVABLE_MASK | __GFP_HIGH | __GFP_THISNODE)
#define WAIT_CHOICES 64u /* of the flags without __GFP_THISNODE: six adjacent bits */
_Static_assert((WAIT_GFP & ~__GFP_THISNODE) == WAIT_CHOICES - 1, "they are an index");
/* by node (any will do, the cpu's own, or one of MAX_NODES), flags, order; then by cache */
#define WAIT_PAGE_CLASSES ((2 + MAX_NODES) * WAIT_CHOICES * NR_PAGE_ORDERS)
#define WAIT_CACHES 16384u
#define WAIT_CLASSES (WAIT_PAGE_CLASSES + WAIT_CACHES)
_Static_assert(WAIT_CLASSES <= UINT16_MAX, "entries of active");

struct wait_class {
	gfp_t gfp;
	uint32_t order;
	uint32_t node;               /* with __GFP_THISNODE, else 0 */
	uint32_t cache;              /* 0: blocks */
	struct waiter *first, *last; /* NULL: the class is unused */
	uint32_t at;                 /* in active, while used */
	bool failed;                 /* in this round */
};

struct wait_queue {
	_Atomic uint32_t waiting;
	const struct wait_queue_ops *ops;
	void *ctx;
	struct lock lock;
	/* guarded by lock */
	uint64_t sequence;
	uint32_t impatient; /* requests with patience */
	uint32_t nr_active;
	uint16_t active[WAIT_CLASSES];
	uint32_t heap_n;             /* classes in the round, the oldest at the front */
	uint16_t heap[WAIT_CLASSES];
	struct wait_class class[WAIT_CLASSES];
};

int wait_queue_new(struct wait_queue **ret, const struct wait_queue_ops *ops, void *ctx)
{
	struct wait_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->ops = ops;
	q->ctx = ctx;
	lock_init(&q->lock, LOCK_RANK_WAITQ);
	*ret = q;
	return 0;
}

struct wait_queue *wait_queue_free(struct wait_queue *q)
{
	free(q);
	return NULL;
}

uint32_t wait_queue_waiting(const struct wait_queue *q)
{
	/* seq_cst: ordered with the increment in wait_queue_add() and the zone's lock in between */
	return atomic_load_explicit(&q->waiting, memory_order_seq_cst);
}

static void unlink_waiter(struct wait_queue *q, struct waiter *w)
{
	struct wait_class *c = &q->class[w->class];

	*(w->prev ? &w->prev->next : &c->first) = w->next;
	*(w->next ? &w->next->prev : &c->last) = w->prev;
	w->next = w->prev = NULL;
	w->queued = false;
	q->impatient -= w->patience != 0;
	if (!c->first) {
		uint16_t moved = q->active[--q->nr_active];

		q->active[c->at] = moved;
		q->class[moved].at = c->at;
	}
	if (atomic_fetch_sub_explicit(&q->waiting, 1, memory_order_seq_cst) == 1)
		q->ops->end(q->ctx);
}

/* Requests that only the high zones may serve form classes of their own: with DMA32 beside HIGHMEM,
 * which no request has. */
static gfp_t class_gfp(const struct waiter *w)
{
	return (w->gfp | (w->high_only ? __GFP_HIGHMEM | __GFP_DMA32 : 0)) & WAIT_GFP;
}

static uint32_t class_node(const struct waiter *w)
{
	return w->gfp & __GFP_THISNODE ? w->node : 0;
}

static uint32_t class_index(const struct waiter *w)
{
	uint32_t row = w->gfp & __GFP_THISNODE ? 1 + w->node : 0;

	if (w->cache)
		return WAIT_PAGE_CLASSES + w->cache;
	return (row * WAIT_CHOICES + (class_gfp(w) & (WAIT_CHOICES - 1))) * NR_PAGE_ORDERS +
	       w->order;
}

int wait_queue_add(struct wait_queue *q, struct waiter *w)
{
	struct wait_class *c;

	if (w->order >= NR_PAGE_ORDERS || w->node > MAX_NODES || w->cache >= WAIT_CACHES)
		return -EINVAL;
	LOCK_SCOPED(&q->lock);
	c = &q->class[class_index(w)];
	if (!c->first) {
		c->gfp = class_gfp(w);
		c->order = w->order;
		c->node = class_node(w);
		c->cache = w->cache;
		c->at = q->nr_active;
		q->active[q->nr_active++] = (uint16_t)(c - q->class);
	}
	w->class = (uint32_t)(c - q->class);
	w->sequence = ++q->sequence;
	w->next = NULL;
	w->prev = c->last;
	*(c->last ? &c->last->next : &c->first) = w;
	c->last = w;
	w->queued = true;
	q->impatient += w->patience != 0;
	if (!atomic_fetch_add_explicit(&q->waiting, 1, memory_order_seq_cst))
		q->ops->begin(q->ctx);
	return 0;
}

bool wait_queue_remove(struct wait_queue *q, struct waiter *w)
{
	LOCK_SCOPED(&q->lock);

	if (!w->queued)
		return false;
	unlink_waiter(q, w);
	return true;
}

static uint64_t age(const struct wait_queue *q, uint32_t at)
{
	return q->class[q->heap[at]].first->sequence;
}

/* The class at that place of the heap may be too young for it: it sinks. */
static void heap_sink(struct wait_queue *q, uint32_t at)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		uint16_t moved = q->heap[at];

		if (child >= q->heap_n)
			return;
		if (child + 1 < q->heap_n && age(q, child + 1) < age(q, child))
			child++;
		if (age(q, at) <= age(q, child))
			return;
		q->heap[at] = q->heap[child];
		q->heap[child] = moved;
		at = child;
	}
}

/* All classes take part in the round. */
static void round_begin(struct wait_queue *q)
{
	uint32_t i;

	q->heap_n = q->nr_active;
	for (i = 0; i < q->nr_active; i++) {
		q->class[q->active[i]].failed = false;
		q->heap[i] = q->active[i];
	}
	for (i = q->heap_n / 2; i-- > 0;)
		heap_sink(q, i);
}

/* The oldest leaves the round. */
static void round_drop(struct wait_queue *q)
{
	q->heap[0] = q->heap[--q->heap_n];
	heap_sink(q, 0);
}

/* Those of the same flags and node stand side by side, by order (class_index). */
static void fail_class(struct wait_queue *q, struct wait_class *failed)
{
	uint32_t order;

	failed->failed = true;
	for (order = failed->order + 1; !failed->cache && order < NR_PAGE_ORDERS; order++)
		failed[order - failed->order].failed = true;
	round_drop(q);
}

void wait_queue_kick(struct wait_queue *q)
{
	LOCK_SCOPED(&q->lock);

	round_begin(q);
	while (q->heap_n) {
		struct wait_class *c = &q->class[q->heap[0]];
		struct waiter *w = c->first;
		int result;

		if (c->failed) {
			round_drop(q);
			continue;
		}
		result = w->try(w);
		if (result == -ENOMEM) {
			fail_class(q, c);
			continue;
		}
		unlink_waiter(q, w);
		w->wake(w, result);
		if (c->first)
			heap_sink(q, 0);
		else
			round_drop(q);
	}
}

void wait_queue_round(struct wait_queue *q, bool progress)
{
	LOCK_SCOPED(&q->lock);
	uint32_t i;

	if (!q->impatient)
		return;
	/* backwards: an emptied class's place is taken by the last one's */
	for (i = q->nr_active; i-- > 0;) {
		struct waiter *w, *next;

		for (w = q->class[q->active[i]].first; w; w = next) {
			next = w->next;
			if (!w->patience)
				continue;
			if (progress) {
				w->patience = WAIT_PATIENCE;
			} else if (w->patience > 1) {
				w->patience--;
			} else {
				unlink_waiter(q, w);
				w->wake(w, -ENOMEM);
			}
		}
	}
}

uint32_t wait_queue_cancel(struct wait_queue *q, const void *whose, int result)
{
	LOCK_SCOPED(&q->lock);
	uint32_t i, n = 0;

	/* backwards: an emptied class's place is taken by the last one's */
	for (i = q->nr_active; i-- > 0;) {
		struct waiter *w, *next;

		for (w = q->class[q->active[i]].first; w; w = next) {
			next = w->next;
			if (w->whose != whose)
				continue;
			unlink_waiter(q, w);
			w->wake(w, result);
			n++;
		}
	}
	return n;
}

uint32_t wait_queue_look(struct wait_queue *q, const void *whose, struct waiter *oldest)
{
	LOCK_SCOPED(&q->lock);
	const struct waiter *first = NULL, *w;
	uint32_t i, n = 0;

	for (i = 0; i < q->nr_active; i++)
		for (w = q->class[q->active[i]].first; w; w = w->next) {
			if (w->whose != whose)
				continue;
			n++;
			if (!first || w->sequence < first->sequence)
				first = w;
		}
	if (first)
		*oldest = *first;
	return n;
}

/* The oldest of a class that has __GFP_FS, or just the oldest. */
static const struct waiter *class_freest(const struct wait_class *c)
{
	const struct waiter *w;

	for (w = c->first; w && !(w->gfp & __GFP_FS); w = w->next)
		;
	return w ? w : c->first;
}

gfp_t wait_queue_gfp(struct wait_queue *q)
{
	LOCK_SCOPED(&q->lock);
	const struct waiter *best = NULL;
	uint32_t i;

	for (i = 0; i < q->nr_active; i++) {
		const struct waiter *w = class_freest(&q->class[q->active[i]]);
		bool fs = w->gfp & __GFP_FS, best_fs = best && (best->gfp & __GFP_FS);

		if (!best || fs > best_fs || (fs == best_fs && w->sequence < best->sequence))
			best = w;
	}
	return best ? best->gfp : 0;
}

size_t wait_queue_validate(struct wait_queue *q, mm_report_fn report, void *ctx)
{
	LOCK_SCOPED(&q->lock);
	const struct waiter *w, *prev;
	uint32_t i, n = 0;
	size_t findings = 0;
	char text[120];

	for (i = 0; i < q->nr_active; i++) {
		const struct wait_class *c = &q->class[q->active[i]];

		for (prev = NULL, w = c->first; w; prev = w, w = w->next) {
			n++;
			if (w->prev == prev && w->queued && w->class == q->active[i] &&
			    w->cache == c->cache &&
			    (c->cache || (w->order == c->order && class_gfp(w) == c->gfp &&
			                  class_node(w) == c->node)) &&
			    (!prev || prev->sequence < w->sequence))
				continue;
			snprintf(text, sizeof(text), "wait queue: request %llu is out of place",
			         (unsigned long long)w->sequence);
			report(ctx, text);
			findings++;
		}
		if (!prev || c->last != prev || c->at != i) {
			snprintf(text, sizeof(text), "wait queue: class %u ends wrongly",
			         q->active[i]);
			report(ctx, text);
			findings++;
		}
	}
	if (n != wait_queue_waiting(q)) {
		snprintf(text, sizeof(text), "wait queue: %u wait, the counter says %u", n,
		         wait_queue_waiting(q));
		report(ctx, text);
		findings++;
	}
	return findings;
}
