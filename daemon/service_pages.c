/* SPDX-License-Identifier: MIT */
/*
 * AllocPages, FreePages, Exchange, Collect: blocks, and magazines of blocks or objects, out and
 * back. (Objects one by one: service_objects.c.)
 *
 * Requests that can be met are answered at once, without an allocation, a clock or a lock beyond
 * the allocator's. The others are in service_wait.c: a request that may wait is parked; one that
 * meets the session's quota is tried again after the worker has settled accounts. While anybody
 * waits, a request that may wait goes to the end of the queue, not past it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "daemon/depot.h"
#include "daemon/log_about.h"
#include "daemon/object.h"
#include "daemon/reclaim.h"
#include "daemon/service.h"
#include "daemon/service_wait.h"
#include "daemon/wait_queue.h"
#include "proto/kmm.pb-c.h"

static bool must_queue(const struct domain *d, gfp_t gfp)
{
	return (gfp & __GFP_DIRECT_RECLAIM) && wait_queue_waiting(d->waiters);
}

bool service_node_known(struct rpc_call *call, uint32_t node)
{
	uint32_t nodes = mm_nr_nodes(call->kmmd->domain->zones);

	if (node <= nodes)
		return true;
	rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL, "there is no node %u: the pool has %u",
	         node - 1, nodes);
	return false;
}

void service_alloc_pages(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__AllocPagesRequest *q = (const Kmm__V1__AllocPagesRequest *)request;
	struct wait_request want = { .gfp = q->gfp, .order = q->order, .node = q->node };
	struct domain *d = call->kmmd->domain;
	Kmm__V1__AllocPagesReply reply = KMM__V1__ALLOC_PAGES_REPLY__INIT;
	const char *why;
	int rc;

	if (!service_node_known(call, q->node))
		return;
	if (must_queue(d, q->gfp)) {
		service_wait(call, &want, -ENOMEM, NULL);
		return;
	}
	rc = grant_alloc_near(d, call->session, call->reactor->index, q->node, q->gfp, q->order,
	                      &reply.pfn, &why);
	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_wait(call, &want, rc, why);
}

void service_free_pages(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__FreePagesRequest *q = (const Kmm__V1__FreePagesRequest *)request;
	Kmm__V1__FreePagesReply reply = KMM__V1__FREE_PAGES_REPLY__INIT;
	const char *why;
	int rc = grant_free(call->kmmd->domain, call->session, call->reactor->index, q->pfn,
	                    q->order, q->generation, &why);

	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, rc, why);
}

/* ---- Exchange ---- */

static bool exchange_check(struct rpc_call *call, const Kmm__V1__ExchangeRequest *q)
{
	uint32_t magazines = depot_size(call->kmmd->domain->depot);

	if (q->give > magazines)
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL, "there is no magazine %u, only %u",
		         q->give - 1, magazines);
	else if (q->rounds > MAGAZINE_ROUNDS_MAX)
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "%u rounds are asked for, a magazine has %u", q->rounds,
		         MAGAZINE_ROUNDS_MAX);
	else if (q->rounds && q->empty)
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "a full and an empty magazine are asked for: one call gives one");
	else
		return true;
	return false;
}

static void report_bad_rounds(struct rpc_call *call, uint32_t m, uint32_t accepted, uint32_t listed)
{
	struct log_about about = log_about_call(LOG_FINDING, call);
	const char *text = grant_text("magazine %u listed %u things, of which %u were not this "
	                              "session's to give back (freed twice?); they were left alone",
	                              m, listed, listed - accepted);

	log_event(LOG_LEVEL_WARNING, &about, "%s", text);
	session_event(call->session, KMM__V1__EVENT__KIND__BAD_FREE, text);
}

/* -ENOENT: there is no such cache. */
static int take_objects(struct rpc_call *call, const Kmm__V1__ExchangeRequest *q, magazine_id_t *m,
                        uint32_t *n, const char **why)
{
	struct cache *c = cache_enter(call->kmmd->domain, q->cache, q->life);
	int rc;

	if (!c) {
		*why = grant_text("there is no cache %u that was created then (any more)",
		                  q->cache);
		return -ENOENT;
	}
	if (q->node)
		rc = exchange_take_objects_waiting(c, call->session, q->node, q->gfp,
		                                   q->constructed, q->rounds, m, n, why);
	else
		rc = exchange_take_objects(c, call->session, call->reactor->index, q->gfp,
		                           q->constructed, q->rounds, m, n, why);
	cache_leave(c);
	return rc;
}

void service_exchange(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ExchangeRequest *q = (const Kmm__V1__ExchangeRequest *)request;
	struct domain *d = call->kmmd->domain;
	struct wait_request want = {
		.take = true,
		.gfp = q->gfp,
		.order = q->order,
		.rounds = q->rounds,
		.cache = q->cache,
		.life = q->life,
		.constructed = q->constructed,
		.node = q->node,
	};
	Kmm__V1__ExchangeReply reply = KMM__V1__EXCHANGE_REPLY__INIT;
	uint32_t listed;
	magazine_id_t m;
	const char *why;
	int rc = 0;

	if (!exchange_check(call, q) || !service_node_known(call, q->node))
		return;
	if (q->give) {
		exchange_give(d, call->session, call->reactor->index,
		              (magazine_id_t){ q->give - 1 }, &reply.accepted, &listed);
		if (reply.accepted < listed)
			report_bad_rounds(call, q->give - 1, reply.accepted, listed);
		/* relaxed: what the client says that it carried, good enough for a report */
		if (atomic_load_explicit(&d->control.magazine[q->give - 1].kind,
		                         memory_order_relaxed) &
		    MAGAZINE_OF_OBJECTS)
			session_count_objects(call->session, 0, reply.accepted);
	}
	want.accepted = reply.accepted;
	if (q->rounds && must_queue(d, q->gfp)) {
		service_wait(call, &want, -ENOMEM, NULL);
		return;
	}
	if (q->rounds && q->cache)
		rc = take_objects(call, q, &m, &reply.rounds, &why);
	else if (q->rounds && q->node)
		/* magazines are not kept by node: a fresh one */
		rc = exchange_take_waiting(d, call->session, q->node, q->gfp, q->order, q->rounds,
		                           &m, &reply.rounds, &why);
	else if (q->rounds)
		rc = exchange_take(d, call->session, call->reactor->index, q->gfp, q->order,
		                   q->rounds, &m, &reply.rounds, &why);
	else if (q->empty)
		rc = exchange_empty(d, call->session, &m);
	if (rc && rc != -EAGAIN) {
		service_wait(call, &want, rc, why);
		return;
	}
	if (!rc && (q->rounds || q->empty))
		reply.magazine = m.nr + 1;
	if (q->cache)
		session_count_objects(call->session, reply.rounds, 0);
	rpc_reply(call, &reply.base);
}

/* ---- Collect ---- */

struct collect_call {
	struct service_job job;
	uint64_t pages;
};

static void collect_work(struct service_job *j)
{
	struct collect_call *c = (struct collect_call *)j;
	struct session *s = j->pending.session;

	if (session_enter(s)) {
		reclaim_begin(RECLAIM_PROACTIVE);
		c->pages = grant_collect(j->kmmd->domain, s, MM_CPU_NONE);
		object_collect(j->kmmd->domain, s, NULL, MM_CPU_NONE);
		reclaim_end();
		session_leave(s);
	}
	service_job_done(j);
}

static void collect_reply(struct service_job *j)
{
	Kmm__V1__CollectReply reply = KMM__V1__COLLECT_REPLY__INIT;

	reply.pages = ((struct collect_call *)j)->pages;
	if (!service_job_cancelled(j))
		rpc_pending_reply(&j->pending, &reply.base);
	free(j);
}

void service_collect(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct collect_call *c = calloc(1, sizeof(*c));

	(void)request;
	if (c)
		service_job_start(call, &c->job, collect_work, collect_reply);
	else
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
}
