/* SPDX-License-Identifier: MIT */
/*
 * AllocObject, FreeObject: objects one by one, for when memory is short or no magazine is free. As
 * AllocPages and FreePages are for blocks: what cannot be met at once goes to service_wait.c.
 */
#include <errno.h>

#include "daemon/object.h"
#include "daemon/service.h"
#include "daemon/service_wait.h"
#include "daemon/wait_queue.h"
#include "proto/kmm.pb-c.h"

static int alloc(struct rpc_call *call, const Kmm__V1__AllocObjectRequest *q, uint32_t *granule,
                 const char **why)
{
	struct domain *d = call->kmmd->domain;
	struct cache *c = cache_enter(d, q->cache, q->life);
	int rc;

	if (!c) {
		*why = grant_text("there is no cache %u that was created then (any more)",
		                  q->cache);
		return -ENOENT;
	}
	rc = object_alloc_node(c, call->session, call->reactor->index, q->node, q->gfp,
	                       q->constructed, granule, why);
	cache_leave(c);
	return rc;
}

void service_alloc_object(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__AllocObjectRequest *q = (const Kmm__V1__AllocObjectRequest *)request;
	struct wait_request want = { .gfp = q->gfp,
		                     .cache = q->cache,
		                     .life = q->life,
		                     .constructed = q->constructed,
		                     .node = q->node };
	struct domain *d = call->kmmd->domain;
	Kmm__V1__AllocObjectReply reply = KMM__V1__ALLOC_OBJECT_REPLY__INIT;
	const char *why;
	int rc;

	/* id 0 would be a block to those who wait */
	if (!q->cache) {
		service_refuse(call, -EINVAL, "no cache has the id 0");
		return;
	}
	if (!service_node_known(call, q->node))
		return;
	if ((q->gfp & __GFP_DIRECT_RECLAIM) && wait_queue_waiting(d->waiters)) {
		service_wait(call, &want, -ENOMEM, NULL);
		return;
	}
	rc = alloc(call, q, &reply.granule, &why);
	session_count_objects(call->session, rc == 0, 0);
	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_wait(call, &want, rc, why);
}

void service_free_object(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__FreeObjectRequest *q = (const Kmm__V1__FreeObjectRequest *)request;
	Kmm__V1__FreeObjectReply reply = KMM__V1__FREE_OBJECT_REPLY__INIT;
	const char *why;
	int rc = object_free(call->kmmd->domain, call->session, call->reactor->index, q->granule,
	                     q->generation, &why);

	session_count_objects(call->session, 0, rc == 0);
	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, rc, why);
}
