/* SPDX-License-Identifier: MIT */
/*
 * Requests that cannot be met at once.
 *
 *   -EDQUOT   the session's account may be behind (adoption is not told) and its threads cache
 *             things: the worker moves charges, counts objects and collects, then it is tried once
 *             more
 *   -ENOMEM   with __GFP_DIRECT_RECLAIM and if it can ever be met: it waits in the domain's queue.
 *             With __GFP_NORETRY besides: the worker fetches what is cached everywhere, then it is
 *             tried once more
 *   others    are refused
 *
 * With __GFP_RETRY_MAYFAIL it waits for as long as reclaim gets anywhere: after 16 rounds in which
 * nothing was freed it is refused. With __GFP_NOFAIL and __GFP_DIRECT_RECLAIM it waits whatever else
 * it says; the client gives it no deadline.
 *
 *     handler -> SETTLING (worker) -> tried on the reactor -> answered
 *        |                                    |
 *        +-----------> QUEUED (wait_queue) <--+
 *
 * A queued request is tried by whoever frees memory, on behalf of its session, under the queue's
 * lock; what it gets is offered to the session and answered from its reactor. If the call was
 * cancelled or its channel closed meanwhile, what it got is withdrawn, which serves the next one.
 *
 * A queued Exchange gets one round: the others who wait come first. A queued AllocBlocks gets what
 * is there, at most all that it asked for.
 *
 * Objects wait as blocks do, with the order and zone of their cache's slabs. The cache is not kept
 * from ending meanwhile: each try enters it, and a request for a cache that has gone is refused.
 */
#include "daemon/service_wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/compact.h"
#include "daemon/failure.h"
#include "daemon/object.h"
#include "daemon/options.h"
#include "daemon/peak.h"
#include "daemon/probes.h"
#include "daemon/reclaim.h"
#include "daemon/service.h"
#include "daemon/wait_queue.h"
#include "daemon/warn.h"
#include "daemon/worker.h"
#include "mm/vmstat.h"
#include "proto/kmm.pb-c.h"

enum wait_phase { WAIT_SETTLING, WAIT_QUEUED };

struct wait_call {
	struct rpc_pending pending; /* first */
	struct waiter waiter;
	struct worker_job settle;
	struct compact_direct compact; /* of the settling */
	struct domain *d;
	struct session *s; /* referenced on its own: outlives the pending call's reference */
	struct wait_request want;
	uint32_t node; /* that the request prefers, whoever serves it */
	uint64_t since; /* uv_hrtime() */
	enum wait_phase phase;
	bool settled;
	bool stalled;
	bool busy; /* the worker has enough of its session's calls */
	int cancelled; /* positive errno */
	/* what it got */
	int result;
	pfn_t pfn;
	uint32_t granule; /* of an object */
	magazine_id_t m;
	uint32_t rounds;
	struct block_list *list; /* of AllocBlocks: behind this structure */
	struct charge_obstacle obstacle; /* after -EDQUOT; the session keeps its user there */
	char why[256];
};

static struct wait_call *of_waiter(struct waiter *w)
{
	return (struct wait_call *)((char *)w - offsetof(struct wait_call, waiter));
}

/* ---- trying ---- */

/* -ENOMEM: the cache may be about to end, or not. */
static struct cache *enter_cache(struct domain *d, const struct wait_request *q, int *rc,
                                 const char **why)
{
	struct cache *c = cache_enter(d, q->cache, q->life), *at;

	if (c)
		return c;
	at = cache_by_id(d, q->cache);
	/* relaxed: if it ends this is seen the next time */
	*rc = at && atomic_load_explicit(&at->state, memory_order_relaxed) == CACHE_ENDING ?
	              -ENOMEM :
	              -ENOENT;
	*why = grant_text("there is no cache %u any more that was created then", q->cache);
	return NULL;
}

static int try_objects(struct wait_call *k, uint32_t cpu, uint32_t rounds, const char **why)
{
	const struct wait_request *q = &k->want;
	int rc;
	struct cache *c = enter_cache(k->d, q, &rc, why);

	if (!c)
		return rc;
	if (q->take)
		rc = exchange_take_objects_waiting(c, k->s, k->node, q->gfp, q->constructed,
		                                   rounds, &k->m, &k->rounds, why);
	else
		rc = object_alloc_near(c, k->s, cpu, k->node, q->gfp, q->constructed, &k->granule,
		                       why);
	cache_leave(c);
	return rc;
}

static int try_entered(struct wait_call *k, uint32_t cpu, uint32_t rounds)
{
	const struct wait_request *q = &k->want;
	const char *why = "";
	int rc;

	if (q->cache)
		rc = try_objects(k, cpu, rounds, &why);
	else if (q->blocks)
		rc = blocks_grant(k->d, k->s, cpu, &q->block, k->list, &why);
	else if (!q->take)
		rc = grant_alloc_near(k->d, k->s, cpu, k->node, q->gfp, q->order, &k->pfn, &why);
	else
		rc = exchange_take_waiting(k->d, k->s, k->node, q->gfp, q->order, rounds, &k->m,
		                           &k->rounds, &why);
	if (rc == -EDQUOT)
		k->obstacle = charge_obstacle();
	if (rc)
		snprintf(k->why, sizeof(k->why), "%s", why);
	return rc;
}

static int gone(struct wait_call *k)
{
	snprintf(k->why, sizeof(k->why), "the session has ended");
	return -ECANCELED;
}

/* What the zones were asked for. */
static struct mm_request request_of(const struct domain *d, const struct session *s, uint32_t cpu,
                                    uint32_t node, const struct wait_request *q)
{
	if (q->blocks)
		return blocks_request(d, s, cpu, &q->block);
	return (struct mm_request){
		.gfp = q->gfp, .order = q->order, .cpu = cpu, .node = node, .tag = s->id
	};
}

/* For the queue alone: it would wait for ever. */
#define WAIT_IMPOSSIBLE (-ENXIO)

static const char *impossible_text(const struct wait_request *want)
{
	return grant_text("a block%s of order %u with flags 0x%x can never be had from this pool, however "
	                  "much is freed", want->cache ? " for objects" : "", want->order, want->gfp);
}

static int waiter_try(struct waiter *w)
{
	struct wait_call *k = of_waiter(w);
	struct mm_request r;
	int rc;

	if (!session_enter(k->s))
		return gone(k);
	rc = try_entered(k, MM_CPU_NONE, 1);
	session_leave(k->s);
	if (rc != -ENOMEM)
		return rc;
	/* sections may have left its zones */
	r = request_of(k->d, k->s, MM_CPU_NONE, k->node, &k->want);
	return mm_request_possible(k->d->zones, &r) ? rc : WAIT_IMPOSSIBLE;
}

/* It is in the queue from now on, or no more. */
static void park(struct wait_call *k)
{
	probe_park(k->s->id, k->want.order, k->want.cache, k->want.gfp);
	/* relaxed: a counter for reports */
	atomic_fetch_add_explicit(&k->d->parked, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&k->s->parked, 1, memory_order_relaxed);
	peak_parked(k->d->kmmd->peak, wait_queue_waiting(k->d->waiters) + 1,
	            atomic_load_explicit(&k->s->calls_in_flight, memory_order_relaxed));
	compact_want(k->d, k->want.gfp, k->want.order);
}

static void unpark(struct wait_call *k, int rc)
{
	struct domain *d = k->d;
	_Atomic uint64_t *ended = rc == 0                              ? &d->parked_served :
	                          rc == -ETIMEDOUT                     ? &d->parked_late :
	                          rc == -ECANCELED || rc == -EPIPE ? &d->parked_cancelled :
	                                                                 &d->parked_refused;

	/* relaxed: a counter for reports */
	atomic_fetch_add_explicit(ended, 1, memory_order_relaxed);
	probe_unpark(k->s->id, k->want.order, k->want.cache, rc);
	atomic_fetch_sub_explicit(&k->s->parked, 1, memory_order_relaxed);
	compact_unwant(k->d, k->want.gfp, k->want.order);
}

static void waiter_wake(struct waiter *w, int result)
{
	struct wait_call *k = of_waiter(w);

	if (result == WAIT_IMPOSSIBLE)
		snprintf(k->why, sizeof(k->why), "%s",
		         impossible_text(&k->want));
	else if (result == -ENOMEM)
		snprintf(k->why, sizeof(k->why),
		         "%u rounds of reclaim freed nothing for a block of order %u, and the request "
		         "may fail (__GFP_RETRY_MAYFAIL)",
		         WAIT_PATIENCE, k->want.order);
	if (result == -ECANCELED)
		snprintf(k->why, sizeof(k->why), "the session has ended");
	k->result = result == WAIT_IMPOSSIBLE ? -ENOMEM : result;
	unpark(k, k->result);
	rpc_pending_post(&k->pending);
}

/* ---- answering, on the call's reactor ---- */

static void wait_free(struct wait_call *k)
{
	session_unref(k->s);
	free(k);
}

static void take_back(struct wait_call *k)
{
	uint32_t cpu = k->pending.reactor->index;

	if (k->want.take && k->rounds)
		exchange_withdraw(k->d, k->s, cpu, k->m);
	else if (k->want.cache && !k->want.take)
		object_withdraw(k->d, k->s, cpu, k->granule);
	else if (k->want.blocks)
		blocks_withdraw(k->d, k->s, cpu, k->list);
	else if (!k->want.take)
		grant_withdraw(k->d, k->s, cpu, k->pfn);
}

static bool answer(struct wait_call *k)
{
	Kmm__V1__AllocPagesReply block = KMM__V1__ALLOC_PAGES_REPLY__INIT;
	Kmm__V1__AllocObjectReply object = KMM__V1__ALLOC_OBJECT_REPLY__INIT;
	Kmm__V1__ExchangeReply magazine = KMM__V1__EXCHANGE_REPLY__INIT;
	Kmm__V1__AllocBlocksReply blocks;

	if (k->want.cache)
		session_count_objects(k->s, k->want.take ? k->rounds : 1, 0);
	if (k->want.blocks) {
		blocks_reply(&blocks, k->list);
		return rpc_pending_reply(&k->pending, &blocks.base);
	}
	block.pfn = k->pfn;
	object.granule = k->granule;
	magazine.magazine = k->rounds ? k->m.nr + 1 : 0;
	magazine.rounds = k->rounds;
	magazine.accepted = k->want.accepted;
	return rpc_pending_reply(&k->pending, k->want.take    ? &magazine.base :
	                                      k->want.cache ? &object.base :
	                                                      &block.base);
}

/* What it waited for. */
static void wanted_text(const struct wait_call *k, char *text, size_t size)
{
	const struct wait_request *q = &k->want;
	struct cache *c = q->cache ? cache_enter(k->d, q->cache, q->life) : NULL;

	if (c)
		snprintf(text, size, "an object of cache %s (%u bytes, in blocks of order %u)",
		         kmem_cache_record(c->slab)->name, kmem_cache_geometry(c->slab)->size,
		         kmem_cache_geometry(c->slab)->order);
	else if (q->cache)
		snprintf(text, size, "an object of cache %u, which is gone", q->cache);
	else if (q->blocks)
		snprintf(text, size, "%u pages in blocks of order %u and more%s", q->block.pages,
		         q->block.order_min,
		         q->block.small ? ", mapped in pieces of 4 KiB" : "");
	else
		snprintf(text, size, "a block of order %u", q->order);
	if (c)
		cache_leave(c);
}

static uint64_t waited_ms(const struct wait_call *k)
{
	return (uv_hrtime() - k->since) / 1000000;
}

static void late_text(struct wait_call *k)
{
	char wanted[128];

	wanted_text(k, wanted, sizeof(wanted));
	snprintf(k->why, sizeof(k->why),
	         "the deadline passed: %llu ms were waited for %s; %llu frames are free, %u other "
	         "requests wait",
	         (unsigned long long)waited_ms(k), wanted,
	         (unsigned long long)mm_nr_free(k->d->zones), wait_queue_waiting(k->d->waiters));
}

/* For kmmctl why. */
static void note_failure(struct session *s, const struct wait_request *q,
                         const struct mm_request *r, struct failure_about *a)
{
	struct cache *c = q->cache ? cache_enter(s->kmmd->domain, q->cache, q->life) : NULL;

	a->request = r;
	a->gfp = q->gfp;
	a->order = q->order;
	a->pages = q->blocks ? q->block.pages : 0;
	a->cache = q->cache;
	a->node = q->gfp & __GFP_THISNODE && r ? r->node : q->node;
	a->life = q->life;
	a->more = q->blocks ? q->block.pages : UINT64_C(1) << (q->order & 15);
	if (q->cache)
		a->more = 1;
	if (c && a->obstacle && a->obstacle->what == USER_PAGES)
		a->more = (kmem_cache_geometry(c->slab)->stride + GRANT_FRAME - 1) / GRANT_FRAME;
	if (c)
		cache_leave(c);
	failure_note(s, a);
}

static void note_refused(struct wait_call *k, int rc)
{
	struct mm_request r = request_of(k->d, k->s, k->pending.reactor->index, k->node, &k->want);
	struct failure_about a = { .method = k->pending.method->name,
		                   .rc = rc,
		                   .why = k->why,
		                   .waited_ms = waited_ms(k) };

	if (rc == -EDQUOT && k->busy)
		a.reason = FAILURE_BUSY;
	else if (rc == -EDQUOT)
		a.obstacle = &k->obstacle;
	note_failure(k->s, &k->want, &r, &a);
}

static void refuse(struct wait_call *k, int rc)
{
	if (rc == -ETIMEDOUT)
		late_text(k);
	if (rc == -EDQUOT)
		user_refused(k->obstacle.user, k->obstacle.what);
	if (rc == -ENOMEM || rc == -ETIMEDOUT) {
		warn_alloc(k->s, k->want.gfp, k->want.order, k->want.cache, rc);
		k->pending.said = true;
	}
	if (rc == -ENOMEM || rc == -ETIMEDOUT || rc == -EDQUOT)
		note_refused(k, rc);
	switch (rc) {
	case -ETIMEDOUT:
		rpc_pending_fail(&k->pending, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT, "%s", k->why);
		break;
	case -EPIPE:
		rpc_pending_drop(&k->pending);
		break;
	default:
		service_pending_refuse(&k->pending, rc,
		                       *k->why ? k->why :
		                                 "the request was cancelled while it waited");
		break;
	}
	wait_free(k);
}

static void finish(struct wait_call *k, int rc)
{
	/* no magazine was free: the client asks for blocks one by one */
	if (rc == -EAGAIN && k->want.take)
		rc = 0;
	if (k->cancelled) {
		if (rc == 0)
			take_back(k);
		k->why[0] = '\0';
		refuse(k, -k->cancelled);
	} else if (rc) {
		refuse(k, rc);
	} else {
		if (!answer(k))
			take_back(k);
		wait_free(k);
	}
}

/* Linux's allocstall: by the highest zone that would do. Once a request. */
static void note_stall(struct wait_call *k)
{
	if (!k->stalled)
		vm_count(k->d->zones, VM_ALLOCSTALL + gfp_zone(k->want.gfp), 1);
	k->stalled = true;
}

static bool high_only(const struct wait_call *k)
{
	return k->want.blocks &&
	       blocks_request(k->d, k->s, MM_CPU_NONE, &k->want.block).lowest == ZONE_HIGHMEM;
}

/* __GFP_RETRY_MAYFAIL gives up when reclaim gets nowhere; __GFP_NOFAIL never does. */
static uint32_t patience_of(gfp_t gfp)
{
	return (gfp & (__GFP_RETRY_MAYFAIL | __GFP_NOFAIL)) == __GFP_RETRY_MAYFAIL ? WAIT_PATIENCE :
	                                                                              0;
}

static void queue(struct wait_call *k)
{
	note_stall(k);
	k->phase = WAIT_QUEUED;
	k->waiter = (struct waiter){ .gfp = k->want.gfp,
		                     .order = k->want.order,
		                     .cache = k->want.cache,
		                     .node = k->node,
		                     .high_only = high_only(k),
		                     .patience = patience_of(k->want.gfp),
		                     .whose = k->s,
		                     .since_ns = k->since,
		                     .try = waiter_try,
		                     .wake = waiter_wake };
	park(k);
	if (wait_queue_add(k->d->waiters, &k->waiter) < 0) {
		unpark(k, -EINVAL);
		snprintf(k->why, sizeof(k->why), "nothing of order %u is to be waited for",
		         k->want.order);
		finish(k, -EINVAL);
		return;
	}
	wait_queue_kick(k->d->waiters);
}

static bool may_wait(const struct wait_call *k)
{
	gfp_t gfp = k->want.gfp;

	/* as in Linux: a request that must not fail waits, whatever else it says */
	return (gfp & __GFP_DIRECT_RECLAIM) && (!(gfp & __GFP_NORETRY) || (gfp & __GFP_NOFAIL));
}

static void settle(struct wait_call *k);

/* After settling. The session is entered until the request is tried and, if need be, in the queue:
 * a session that ends cancels what it finds there, and nothing comes behind that. */
static void resume_settled(struct wait_call *k, uint32_t cpu)
{
	struct mm_request r = request_of(k->d, k->s, cpu, k->node, &k->want);
	int rc;

	if (!session_enter(k->s)) {
		finish(k, gone(k));
		return;
	}
	/* Those who wait already come first. */
	if (may_wait(k) && wait_queue_waiting(k->d->waiters))
		rc = -ENOMEM;
	else
		rc = try_entered(k, cpu, k->want.rounds);
	if (rc == -ENOMEM && may_wait(k) && mm_request_possible(k->d->zones, &r)) {
		struct session *s = k->s;

		queue(k); /* k may be gone */
		session_leave(s);
		return;
	}
	session_leave(k->s);
	finish(k, rc);
}

static void wait_resume(struct rpc_pending *p)
{
	struct wait_call *k = (struct wait_call *)p;
	int rc = k->result;

	if (k->cancelled) {
		finish(k, k->phase == WAIT_SETTLING ? -k->cancelled : rc);
		return;
	}
	if (k->phase == WAIT_SETTLING)
		resume_settled(k, p->reactor->index);
	else if (rc == -EDQUOT && !k->settled)
		settle(k);
	else
		finish(k, rc);
}

static void wait_cancel(struct rpc_pending *p, int reason)
{
	struct wait_call *k = (struct wait_call *)p;

	k->cancelled = reason;
	/* Woken or with the worker: resume will run. */
	if (k->phase != WAIT_QUEUED || !wait_queue_remove(k->d->waiters, &k->waiter))
		return;
	unpark(k, -reason);
	refuse(k, -reason);
}

/* ---- settling, on the worker ---- */

static struct wait_call *of_settle(struct worker_job *job)
{
	return (struct wait_call *)((char *)job - offsetof(struct wait_call, settle));
}

static void settle_session(struct wait_call *k)
{
	service_job_leave(k->s);
	reclaim_begin(RECLAIM_DIRECT);
	charge_settle(k->d, k->s, k->obstacle.user);
	reclaim_end();
	rpc_pending_post(&k->pending);
}

static void settle_compact(struct worker_job *job)
{
	struct wait_call *k = of_settle(job);

	if (compact_direct_step(&k->compact))
		worker_submit_later(k->d->kmmd->worker, job);
	else
		settle_session(k);
}

static void settle_run(struct worker_job *job)
{
	struct wait_call *k = of_settle(job);

	if (!(k->want.gfp & __GFP_NORETRY)) {
		settle_session(k);
		return;
	}
	reclaim_begin(RECLAIM_DIRECT);
	exchange_drain(k->d, MM_CPU_NONE);
	grant_collect(k->d, NULL, MM_CPU_NONE);
	object_collect(k->d, NULL, NULL, MM_CPU_NONE);
	slab_shrink_all(k->d->slabs, MM_CPU_NONE);
	reclaim_end();
	compact_direct_begin(&k->compact, k->d, k->want.gfp, k->want.order, k->node);
	job->run = settle_compact;
	settle_compact(job);
}

static void settle(struct wait_call *k)
{
	if (!service_job_enter(k->s)) {
		snprintf(k->why, sizeof(k->why), "%s", SERVICE_JOBS_TEXT);
		k->busy = true;
		finish(k, -EDQUOT);
		return;
	}
	k->phase = WAIT_SETTLING;
	k->settled = true;
	k->settle.run = settle_run;
	worker_submit_later(k->d->kmmd->worker, &k->settle);
}

/* ---- from the handlers ---- */

/* What a slab of theirs takes is what they wait for. */
static int check_objects(struct rpc_call *call, struct wait_request *want, struct mm_request *r,
                         const char **why)
{
	int rc;
	struct cache *c = enter_cache(call->kmmd->domain, want, &rc, why);

	if (!c)
		return rc;
	rc = object_request(c, r->cpu, want->node, want->gfp, r, why);
	cache_leave(c);
	want->gfp = r->gfp;
	want->order = r->order;
	return rc;
}

/* 0: it waits or is settled. -ENOMEM may come from a look at the queue alone: nothing was checked
 * yet. */
static int check(struct rpc_call *call, struct wait_request *want, int rc, const char **why)
{
	struct mm_request r = request_of(call->kmmd->domain, call->session,
	                                 call->reactor->index, want->node, want);
	int bad;

	if (rc != -ENOMEM && rc != -EDQUOT)
		return rc;
	bad = want->cache ? check_objects(call, want, &r, why) : grant_check(&r, why);
	if (bad || rc == -EDQUOT)
		return bad ? bad : rc;
	if (!(want->gfp & __GFP_DIRECT_RECLAIM))
		return rc;
	if (!mm_request_possible(call->kmmd->domain->zones, &r)) {
		*why = impossible_text(want);
		return rc;
	}
	return 0;
}

/* It does not even wait. */
static void note_at_once(struct rpc_call *call, const struct wait_request *want, const char *why)
{
	struct mm_request r = request_of(call->kmmd->domain, call->session, call->reactor->index,
	                                 want->node, want);
	struct failure_about a = { .method = call->method->name, .rc = -ENOMEM, .why = why };

	note_failure(call->session, want, &r, &a);
}

/* Nor may one more wait. */
static void note_calls(struct rpc_call *call, const struct wait_request *want)
{
	struct session *s = call->session;
	struct charge_obstacle met = { .what = USER_CALLS };
	struct failure_about a = { .method = call->method->name,
		                   .rc = -EDQUOT,
		                   .why = "as many of its calls wait already as may",
		                   .obstacle = &met };

	/* relaxed: rpc_suspend() has just looked at it */
	if (atomic_load_explicit(&s->calls_in_flight, memory_order_relaxed) <
	    OPTION(call->kmmd->options, calls_max))
		met.user = s->user;
	note_failure(s, want, NULL, &a);
}

void service_wait(struct rpc_call *call, const struct wait_request *request, int rc,
                  const char *why)
{
	struct wait_request want = *request;
	struct wait_call *k;
	int bad = check(call, &want, rc, &why);

	if (bad && bad != -EDQUOT) {
		if (bad == -ENOMEM) {
			warn_alloc(call->session, want.gfp, want.order, want.cache, bad);
			call->said = true;
			note_at_once(call, &want, why);
		}
		service_refuse(call, bad, why);
		return;
	}
	k = calloc(1, sizeof(*k) + (want.blocks ? sizeof(*k->list) : 0));
	if (!k) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	if (rpc_suspend(call, &k->pending, wait_resume, wait_cancel) < 0) {
		note_calls(call, &want);
		free(k);
		return;
	}
	k->d = call->kmmd->domain;
	k->s = session_ref(call->session);
	k->want = want;
	k->since = uv_hrtime();
	if (rc == -EDQUOT)
		k->obstacle = charge_obstacle(); /* of this thread, just now */
	k->node = want.node ? want.node : MM_NODE(mm_cpu_node(k->d->mm, call->reactor->index));
	if (want.blocks) {
		k->list = (struct block_list *)(k + 1);
		if (want.block.node)
			k->node = want.block.node;
		else
			k->want.block.node = k->node;
	}
	if (rc == -ENOMEM)
		note_stall(k);
	if (rc == -EDQUOT || !may_wait(k))
		settle(k);
	else
		queue(k);
}
