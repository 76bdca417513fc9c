/* SPDX-License-Identifier: MIT */
/*
 * Send, Hold, Release, GetHolders: blocks and objects between sessions (share.c).
 *
 * A Send that meets the receiver's quota is tried once more after the worker has settled the
 * receiver's account, as for allocations.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/holder.h"
#include "daemon/object.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"

/* ---- Send ---- */

struct send_call {
	struct service_job job;
	struct session *to; /* referenced */
	uint32_t granule;
	uint64_t generation;
	struct charge_obstacle obstacle; /* the receiver's, or its user's */
};

static void send_work(struct service_job *j)
{
	struct send_call *c = (struct send_call *)j;

	charge_settle(j->kmmd->domain, c->to, c->obstacle.user);
	service_job_done(j);
}

static int send_try(struct domain *d, struct session *from, struct session *to, uint32_t granule,
                    uint64_t generation, const char **why)
{
	int rc;

	if (!session_enter(to)) {
		*why = grant_text("session %u is not there (any more)", to->id);
		return -ESRCH;
	}
	rc = grant_send(d, from, granule, generation, to, why);
	session_leave(to);
	return rc;
}

static void send_reply(struct service_job *j)
{
	struct send_call *c = (struct send_call *)j;
	Kmm__V1__SendReply reply = KMM__V1__SEND_REPLY__INIT;
	struct session *from = j->pending.session;
	const char *why = "the session has ended";
	int rc = -ECANCELED;

	if (!service_job_cancelled(j)) {
		if (session_enter(from)) {
			rc = send_try(j->kmmd->domain, from, c->to, c->granule, c->generation,
			              &why);
			session_leave(from);
		}
		if (rc == -EDQUOT) {
			struct charge_obstacle o = charge_obstacle(); /* just now */

			user_refused(o.user, o.what);
		}
		if (rc)
			service_pending_refuse(&j->pending, rc, why);
		else
			rpc_pending_reply(&j->pending, &reply.base);
	}
	session_unref(c->to);
	free(c);
}

static void send_settle(struct rpc_call *call, struct session *to, uint32_t granule,
                        uint64_t generation)
{
	struct send_call *c = calloc(1, sizeof(*c));

	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	c->to = to;
	c->granule = granule;
	c->generation = generation;
	c->obstacle = charge_obstacle();
	if (!service_job_suspend(call, &c->job, send_reply))
		return;
	session_ref(to);
	service_job_submit(&c->job, send_work);
}

void service_send(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__SendRequest *q = (const Kmm__V1__SendRequest *)request;
	struct domain *d = call->kmmd->domain;
	struct session *to = session_by_id(call->kmmd->sessions, q->session);
	Kmm__V1__SendReply reply = KMM__V1__SEND_REPLY__INIT;
	const char *why;
	int rc;

	if (!to || !session_enter(to)) {
		rpc_fail(call, STATUS_NOT_FOUND, ESRCH, "there is no live session %u to send to",
		         q->session);
		return;
	}
	rc = grant_send(d, call->session, q->granule, q->generation, to, &why);
	if (rc == 0)
		rpc_reply(call, &reply.base);
	else if (rc == -EDQUOT)
		send_settle(call, to, q->granule, q->generation);
	else
		service_refuse(call, rc, why);
	session_leave(to);
}

/* ---- Hold, Release, GetHolders ---- */

void service_hold(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__HoldRequest *q = (const Kmm__V1__HoldRequest *)request;
	Kmm__V1__HoldReply reply = KMM__V1__HOLD_REPLY__INIT;
	const char *why;
	int rc = grant_hold(call->kmmd->domain, call->session, q->granule, (uint32_t)q->generation,
	                    &why);

	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, rc, why);
}

void service_release(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ReleaseRequest *q = (const Kmm__V1__ReleaseRequest *)request;
	Kmm__V1__ReleaseReply reply = KMM__V1__RELEASE_REPLY__INIT;
	const char *why;
	int rc = grant_release(call->kmmd->domain, call->session, call->reactor->index, q->granule,
	                       &why);

	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, rc, why);
}

void service_get_holders(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__GetHoldersRequest *q = (const Kmm__V1__GetHoldersRequest *)request;
	Kmm__V1__GetHoldersReply reply = KMM__V1__GET_HOLDERS_REPLY__INIT;
	struct domain *d = call->kmmd->domain;
	struct thing t;
	uint64_t w;

	if (!thing_granule_ok(d, q->granule)) {
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL, "granule %u is beyond the pool",
		         q->granule);
		return;
	}
	/* What is free has no holders. */
	w = thing_find(d, q->granule, &t) ? thing_word(d, &t) : 0;
	/* An owner that holds the thing besides counts twice, as a reference count would have it.
	 */
	if (owner_kind(w) == OWNER_HELD)
		reply.holders = holder_count(d->holders, q->granule, owner_generation(w)) +
		                (owner_id(w) != 0);
	rpc_reply(call, &reply.base);
}
