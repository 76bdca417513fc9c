/* SPDX-License-Identifier: MIT */
/*
 * Calls: from a frame to a method and back.
 *
 * A method is a row of a service's table: number, name, message descriptors, what it demands, and a
 * handler. The dispatcher looks the method up, unpacks the body with a capped arena (no malloc a
 * request), enters the session, and runs the handler on the channel's reactor. The handler answers
 * at once (rpc_reply, rpc_fail), or streams items and answers, or suspends the call.
 *
 * A suspended call (struct rpc_pending, embedded in the service's own object) holds neither reactor
 * nor channel. It ends in one of two ways, both on the channel's reactor:
 *   - the service calls rpc_pending_post() from any thread; `resume` runs and answers;
 *   - the deadline passes (ETIMEDOUT), the client cancels (ECANCELED) or the channel closes
 *     (EPIPE): `cancel` runs. When the service can still withdraw the call it does and answers by
 *     rpc_pending_fail() (a no-op on a closed channel) or rpc_pending_drop(); when a post is on its
 *     way it does nothing, resume will run.
 * In resume, rpc_pending_reply() returns false when the channel is gone: what was granted is to be
 * taken back. Exactly one of reply, fail, drop ends it; the object may be freed afterwards.
 */
#ifndef DAEMON_RPC_H
#define DAEMON_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/channel.h"
#include "daemon/reactor.h"
#include "proto/frame.h"

struct rpc_call {
	struct channel *channel;
	struct reactor *reactor;
	struct kmmd *kmmd;
	struct session *session; /* NULL before Hello and for observers; entered (session_enter) */
	const struct peer *peer;
	const struct rpc_method *method;
	uint32_t id;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	bool answered;
	bool silent; /* a NOTIFY: what it would answer is not sent */
	bool said;   /* why it is refused stands in the log already */
};

enum rpc_demand {
	RPC_ANYBODY = 0, /* also without a session */
	RPC_SESSION = 1,
	RPC_ADMIN = 2,
	RPC_INSPECTOR = 3,
};


struct rpc_method {
	uint32_t number; /* enum Method */
	const char *name; /* "kmm.v1.Allocator/AllocPages" */
	enum rpc_demand demand;
	bool streaming;
	const ProtobufCMessageDescriptor *request, *reply;
	void (*handle)(struct rpc_call *call, const ProtobufCMessage *request);
	bool notifiable; /* unary, answered at once: may come as a NOTIFY */
};

/* Each service is a table ended by a row with handle NULL. */
extern const struct rpc_method service_allocator[], service_inspector[], service_admin[],
        service_health[];
const struct rpc_method *rpc_method_find(uint32_t number);
const struct rpc_method *rpc_method_next(const struct rpc_method *m); /* NULL: first; all tables */

/* Called by the channel for each complete frame. */
void rpc_dispatch(struct channel *c, const struct frame *f, const uint8_t *body);

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *reply);
/* fds are duplicated into the kernel by sendmsg and stay the caller's; they must stay open until
 * the reply has left: sections and control memfds live as long as the daemon. */
void rpc_reply_fds(struct rpc_call *call, const ProtobufCMessage *reply, const int fd[], size_t n);
void rpc_item(struct rpc_call *call, const ProtobufCMessage *item);
void rpc_fail(struct rpc_call *call, enum status_code code, int errno_value, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));

struct rpc_pending {
	struct reactor_work work;
	struct rpc_pending *next, **prev; /* of its channel */
	struct channel *channel;
	struct reactor *reactor;
	struct session *session; /* referenced, not entered; NULL when the call had none */
	const struct rpc_method *method;
	uint32_t id;
	uint64_t deadline_ns;
	uint64_t began_ns; /* when its frame was read */
	void (*resume)(struct rpc_pending *p);
	void (*cancel)(struct rpc_pending *p, int reason);
	bool cancelled; /* cancel ran, and left it to resume */
	bool waits_room; /* see rpc_pending_post_room() */
	bool said; /* as in rpc_call */
};

/* -EDQUOT: too many calls in flight; the call is then answered already. */
int rpc_suspend(struct rpc_call *call, struct rpc_pending *p, void (*resume)(struct rpc_pending *),
                void (*cancel)(struct rpc_pending *, int reason));
void rpc_pending_post(struct rpc_pending *p); /* any thread, once */
/* The same from the call's reactor, for the next part of a stream: not before its client has read so
 * much that the channel has room. resume also runs when the call is cancelled meanwhile, after
 * cancel, which is to leave it that. */
void rpc_pending_post_room(struct rpc_pending *p);
bool rpc_pending_reply(struct rpc_pending *p, const ProtobufCMessage *reply);
/* Streaming methods: an item of a suspended call; false when the channel is gone. */
bool rpc_pending_item(struct rpc_pending *p, const ProtobufCMessage *item);
void rpc_pending_fail(struct rpc_pending *p, enum status_code code, int errno_value,
                      const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void rpc_pending_drop(struct rpc_pending *p);

/* The status that goes with a positive errno. */
enum status_code rpc_status_of(int errno_value);

/* ---- for channel.c ---- */

/* Cancels the pending calls of a channel that closed. */
void rpc_channel_closed(struct channel *c);
/* Streams that waited for room in the output go on. */
void rpc_channel_room(struct channel *c);
/* Cancels those whose deadline has passed; the next deadline, 0: none. */
uint64_t rpc_channel_expire(struct channel *c, uint64_t now_ns);
/* The last Error of a stream that makes no sense, with call 0. */
void rpc_refuse_stream(struct channel *c, int errno_value, const char *text);

#endif
