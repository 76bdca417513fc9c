/* SPDX-License-Identifier: MIT */
/*
 * Suspended calls.
 *
 * A channel has two lists of them: `pending`, those that deadline, CANCEL and close may still
 * cancel, and `orphans`, those that were cancelled but whose resume is on its way. A call is moved
 * to the orphans before its cancel runs, so that cancel is told at most once; most end inside it.
 *
 * Streams: a list longer than the output may be leaves in parts. The call waits for the next one
 * until the client has read (waits_room); a channel without room remembers that somebody does.
 *
 * Counts: a pending call holds a reference of its channel and of its session, and one of the
 * session's and its user's calls in flight. All are given back when it ends, on the channel's reactor.
 *
 * Deadlines: the channel's timer is armed for the earliest; when it fires, the list (bounded by the
 * session's calls in flight) is walked once.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/channel_private.h"
#include "daemon/kmmd.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/options.h"
#include "daemon/rpc_private.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

#define CLOSES_MAX 16u
#define CALLS_WITHOUT_SESSION 16u /* pending on a connection that joined no session */

static void pending_link(struct rpc_pending **list, struct rpc_pending *p)
{
	p->next = *list;
	if (p->next)
		p->next->prev = &p->next;
	p->prev = list;
	*list = p;
}

static void pending_unlink(struct rpc_pending *p)
{
	*p->prev = p->next;
	if (p->next)
		p->next->prev = p->prev;
}

static void pending_cancel(struct rpc_pending *p, int reason)
{
	pending_unlink(p);
	pending_link(&p->channel->orphans, p);
	p->cancelled = true;
	if (p->waits_room) {
		p->waits_room = false;
		rpc_pending_post(p);
	}
	p->cancel(p, reason);
}

static void pending_run(struct reactor *r, struct reactor_work *w)
{
	struct rpc_pending *p = (struct rpc_pending *)w;

	(void)r;
	p->resume(p);
}

/* Everything that the call held is given back; p may be freed by its owner now. Nobody is there to be
 * told `code` when the channel is closed. */
static void pending_end(struct rpc_pending *p, enum status_code code)
{
	metrics_ended(p->reactor->metrics, p->method->number,
	              p->channel->closed ? STATUS_CANCELLED : code, p->began_ns);
	metrics_pending(p->reactor->metrics, -1);
	pending_unlink(p);
	if (p->session) {
		/* relaxed: a count checked against a limit, nothing is published by it */
		atomic_fetch_sub_explicit(&p->session->calls_in_flight, 1, memory_order_relaxed);
		user_uncharge(p->session->user, USER_CALLS, 1);
		session_unref(p->session);
	}
	channel_unref(p->channel);
}

/* Close comes on top: it is what ends all the others. */
static bool is_close(const struct rpc_call *call)
{
	return call->method->number == KMM__V1__METHOD__ALLOCATOR_CLOSE;
}

static uint32_t pending_limit(const struct rpc_call *call)
{
	uint32_t limit = OPTION(call->kmmd->options, calls_max);

	return is_close(call) ? limit + CLOSES_MAX : limit;
}

/* The same of its user. */
static bool pending_admit_user(struct rpc_call *call, struct user *u)
{
	if (is_close(call)) {
		user_charge_always(u, USER_CALLS, 1);
		return true;
	}
	if (user_charge(u, USER_CALLS, 1))
		return true;
	user_refused(u, USER_CALLS);
	rpc_fail(call, STATUS_RESOURCE_EXHAUSTED, EDQUOT, "%s", user_text(u, USER_CALLS, 1));
	return false;
}

static bool pending_admit(struct rpc_call *call)
{
	struct session *s = call->session;
	uint32_t limit = pending_limit(call), n = 0;

	for (const struct rpc_pending *p = call->channel->pending; p; p = p->next) {
		if (p->id == call->id) {
			rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
			         "call number %u is in use by a call that is not answered yet", call->id);
			return false;
		}
		n++;
	}
	if (!s) {
		if (n < CALLS_WITHOUT_SESSION)
			return true;
		rpc_fail(call, STATUS_RESOURCE_EXHAUSTED, EDQUOT,
		         "%u calls are in flight on this connection, as many as are allowed without a "
		         "session",
		         n);
		return false;
	}
	/* relaxed: see pending_end() */
	if (atomic_fetch_add_explicit(&s->calls_in_flight, 1, memory_order_relaxed) < limit) {
		if (pending_admit_user(call, s->user))
			return true;
		atomic_fetch_sub_explicit(&s->calls_in_flight, 1, memory_order_relaxed);
		return false;
	}
	atomic_fetch_sub_explicit(&s->calls_in_flight, 1, memory_order_relaxed);
	rpc_fail(call, STATUS_RESOURCE_EXHAUSTED, EDQUOT,
	         "%u calls of session %u wait already, as many as [limits] calls allows", limit, s->id);
	return false;
}

int rpc_suspend(struct rpc_call *call, struct rpc_pending *p, void (*resume)(struct rpc_pending *),
                void (*cancel)(struct rpc_pending *, int reason))
{
	if (!pending_admit(call))
		return -EDQUOT;
	*p = (struct rpc_pending){
	        .work = {.run = pending_run},
	        .channel = call->channel,
	        .reactor = call->reactor,
	        .session = call->session ? session_ref(call->session) : NULL,
	        .method = call->method,
	        .id = call->id,
	        .deadline_ns = call->deadline_ns,
	        .began_ns = call->reactor->read_ns,
	        .resume = resume,
	        .cancel = cancel,
	};
	channel_ref(p->channel);
	metrics_pending(p->reactor->metrics, 1);
	pending_link(&p->channel->pending, p);
	if (p->deadline_ns)
		channel_arm(p->channel, p->deadline_ns);
	call->answered = true;
	return 0;
}

void rpc_pending_post(struct rpc_pending *p)
{
	reactor_post(p->reactor, &p->work);
}

void rpc_pending_post_room(struct rpc_pending *p)
{
	struct channel *c = p->channel;

	if (p->cancelled || c->closed || !channel_output_full(c)) {
		rpc_pending_post(p);
		return;
	}
	p->waits_room = true;
	c->streams_wait = true;
}

void rpc_channel_room(struct channel *c)
{
	c->streams_wait = false;
	for (struct rpc_pending *p = c->pending; p; p = p->next) {
		if (!p->waits_room)
			continue;
		p->waits_room = false;
		rpc_pending_post(p);
	}
}

bool rpc_pending_reply(struct rpc_pending *p, const ProtobufCMessage *reply)
{
	bool open = !p->channel->closed;

	if (open && rpc_put(p->channel, FRAME_REPLY, p->id, STATUS_OK, reply, NULL, 0) < 0)
		log_error("%s: a reply is longer than a frame may be", p->method->name);
	open = !p->channel->closed;
	pending_end(p, STATUS_OK);
	return open;
}

bool rpc_pending_item(struct rpc_pending *p, const ProtobufCMessage *item)
{
	if (!p->channel->closed &&
	    rpc_put(p->channel, FRAME_ITEM, p->id, STATUS_OK, item, NULL, 0) < 0)
		log_error("%s: an item is longer than a frame may be and was left out", p->method->name);
	return !p->channel->closed;
}

void rpc_pending_fail(struct rpc_pending *p, enum status_code code, int errno_value,
                      const char *fmt, ...)
{
	Kmm__V1__Error e = KMM__V1__ERROR__INIT;
	char text[RPC_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e.errno_value = errno_value;
	e.text = text;
	if (!p->channel->closed)
		rpc_put(p->channel, FRAME_REPLY, p->id, code, &e.base, NULL, 0);
	rpc_log_refusal(p->session, &p->channel->peer, p->method, code, errno_value, text,
	                p->said || p->channel->closed);
	if (p->session)
		session_refused(p->session, text);
	pending_end(p, code);
}

void rpc_pending_drop(struct rpc_pending *p)
{
	pending_end(p, STATUS_CANCELLED);
}

/* ---- cancelling ---- */

void rpc_cancel(struct channel *c, uint32_t id)
{
	for (struct rpc_pending *p = c->pending; p; p = p->next) {
		if (p->id == id) {
			pending_cancel(p, ECANCELED);
			return;
		}
	}
}

void rpc_channel_closed(struct channel *c)
{
	while (c->pending)
		pending_cancel(c->pending, EPIPE);
}

uint64_t rpc_channel_expire(struct channel *c, uint64_t now_ns)
{
	struct rpc_pending *expired = NULL, *next;
	uint64_t earliest = 0;

	for (struct rpc_pending *p = c->pending; p; p = next) {
		next = p->next;
		if (!p->deadline_ns)
			continue;
		if (p->deadline_ns <= now_ns) {
			pending_unlink(p);
			pending_link(&expired, p);
		} else if (!earliest || p->deadline_ns < earliest) {
			earliest = p->deadline_ns;
		}
	}
	/* Cancelling one may end others: each is on a list that it can leave by itself. */
	while (expired)
		pending_cancel(expired, ETIMEDOUT);
	return earliest;
}
