/* SPDX-License-Identifier: MIT */
/*
 * About whom an event is: a session, a connection's peer, or a call.
 */
#ifndef DAEMON_LOG_ABOUT_H
#define DAEMON_LOG_ABOUT_H

#include "daemon/log.h"
#include "daemon/rpc.h"
#include "daemon/session.h"

/* The session is entered, or keeps its id for another reason. */
static inline struct log_about log_about_session(enum log_kind event, const struct session *s)
{
	return (struct log_about){ .event = event,
		                   .user = true,
		                   .uid = s->uid,
		                   .pid = s->pid,
		                   .session = s->id,
		                   .name = s->name };
}

static inline struct log_about log_about_peer(enum log_kind event, const struct peer *p)
{
	return (struct log_about){ .event = event, .user = true, .uid = p->uid, .pid = p->pid };
}

/* A call on behalf of a session, or of the connection's peer alone. */
static inline struct log_about log_about_request(enum log_kind event, const struct session *s,
                                                 const struct peer *p, const char *request)
{
	struct log_about a = s ? log_about_session(event, s) : log_about_peer(event, p);

	a.request = request;
	return a;
}

static inline struct log_about log_about_call(enum log_kind event, const struct rpc_call *call)
{
	return log_about_request(event, call->session, call->peer,
	                         call->method ? call->method->name : NULL);
}

static inline struct log_about log_about_pending(enum log_kind event, const struct rpc_pending *p)
{
	return log_about_request(event, p->session, channel_peer(p->channel), p->method->name);
}

#endif
