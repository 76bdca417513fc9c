/* SPDX-License-Identifier: MIT */
/*
 * Calls: looking methods up, unpacking requests, packing replies.
 *
 * A request costs one look into an array, one unpacking into the reactor's arena, and one packing
 * straight into the channel's output. The clock is read for a batch of them (metrics.c), and for those
 * that carry a deadline.
 *
 * What can go wrong before a handler runs is told apart: a frame that makes no sense in the stream
 * (call 0, a reply from a client) ends the connection; everything else is a status for that call.
 */
#include "daemon/rpc.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/access.h"
#include "daemon/arena.h"
#include "daemon/channel_private.h"
#include "daemon/log_about.h"
#include "daemon/metrics.h"
#include "daemon/probes.h"
#include "daemon/rpc_private.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

/* ---- methods ---- */

#define RPC_METHODS_MAX 256u

static const struct rpc_method *const rpc_service[] = {service_allocator, service_inspector,
                                                       service_admin, service_health};
#define RPC_SERVICES (sizeof(rpc_service) / sizeof(rpc_service[0]))

static const struct rpc_method *rpc_table[RPC_METHODS_MAX];
static pthread_once_t rpc_table_once = PTHREAD_ONCE_INIT;

static void rpc_table_fill(void)
{
	for (size_t i = 0; i < RPC_SERVICES; i++)
		for (const struct rpc_method *m = rpc_service[i]; m->handle; m++)
			if (m->number < RPC_METHODS_MAX)
				rpc_table[m->number] = m;
}

const struct rpc_method *rpc_method_find(uint32_t number)
{
	pthread_once(&rpc_table_once, rpc_table_fill);
	return number < RPC_METHODS_MAX ? rpc_table[number] : NULL;
}

const struct rpc_method *rpc_method_next(const struct rpc_method *m)
{
	size_t i = 0;

	if (m) {
		while (i < RPC_SERVICES) {
			const struct rpc_method *n = rpc_service[i];

			while (n->handle && n != m)
				n++;
			if (n->handle)
				break;
			i++;
		}
		if (i == RPC_SERVICES)
			return NULL;
		m++;
		if (m->handle)
			return m;
		i++;
	}
	for (; i < RPC_SERVICES; i++)
		if (rpc_service[i]->handle)
			return rpc_service[i];
	return NULL;
}

enum status_code rpc_status_of(int errno_value)
{
	switch (errno_value) {
	case 0:
		return STATUS_OK;
	case EINVAL:
	case EBADMSG:
	case EMSGSIZE:
		return STATUS_INVALID_ARGUMENT;
	case EPERM:
	case EACCES:
		return STATUS_PERMISSION_DENIED;
	case ENOENT:
	case ENOKEY:
	case ESRCH:
		return STATUS_NOT_FOUND;
	case ENOMEM:
	case EDQUOT:
	case ENOSPC:
		return STATUS_RESOURCE_EXHAUSTED;
	case EEXIST:
		return STATUS_ALREADY_EXISTS;
	case ERANGE:
		return STATUS_OUT_OF_RANGE;
	case ETIMEDOUT:
		return STATUS_DEADLINE_EXCEEDED;
	case ECANCELED:
		return STATUS_CANCELLED;
	case EBUSY:
	case EPROTO:
		return STATUS_FAILED_PRECONDITION;
	case ESTALE:
		return STATUS_ABORTED;
	case EAGAIN:
		return STATUS_UNAVAILABLE;
	case ENOTRECOVERABLE:
		return STATUS_DATA_LOSS;
	case ENOSYS:
		return STATUS_UNIMPLEMENTED;
	default:
		return STATUS_INTERNAL;
	}
}

/* ---- answers ---- */

static void rpc_put_error(struct channel *c, uint32_t id, enum status_code code, int errno_value,
                          const char *text)
{
	Kmm__V1__Error e = KMM__V1__ERROR__INIT;
	char copy[RPC_TEXT_MAX + 1];

	snprintf(copy, sizeof(copy), "%s", text);
	e.errno_value = errno_value;
	e.text = copy;
	rpc_put(c, FRAME_REPLY, id, code, &e.base, NULL, 0);
}

int rpc_put(struct channel *c, enum frame_kind kind, uint32_t id, enum status_code code,
            const ProtobufCMessage *message, const int fd[], size_t nfds)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	struct frame f = {
	        .call = id,
	        .code = (uint16_t)code,
	        .kind = (uint8_t)kind,
	        .nfds = (uint8_t)nfds,
	};
	uint8_t *p;

	if (n > FRAME_BODY_MAX)
		return -EMSGSIZE;
	p = channel_output_reserve(c, FRAME_HEADER_SIZE + n);
	if (!p)
		return 0; /* it is closed */
	if (nfds) {
		int r = channel_output_attach(c, fd, nfds);

		if (r < 0)
			return r;
	}
	f.length = (uint32_t)n;
	frame_encode(p, &f);
	protobuf_c_message_pack(message, p + FRAME_HEADER_SIZE);
	channel_output_commit(c, FRAME_HEADER_SIZE + n);
	return 0;
}

static void rpc_count(const struct rpc_call *call, enum status_code code)
{
	metrics_answered(call->reactor->metrics, call->method ? call->method->number : 0, code);
}

void rpc_reply_fds(struct rpc_call *call, const ProtobufCMessage *reply, const int fd[], size_t n)
{
	int r;

	if (call->answered)
		return;
	call->answered = true;
	r = call->silent ? 0 :
	                   rpc_put(call->channel, FRAME_REPLY, call->id, STATUS_OK, reply, fd, n);
	if (r < 0) {
		log_error("%s: its reply cannot be sent: %s", call->method->name, strerror(-r));
		rpc_put_error(call->channel, call->id, STATUS_INTERNAL, -r,
		              "the reply is longer than a frame may be");
	}
	rpc_count(call, r < 0 ? STATUS_INTERNAL : STATUS_OK);
}

void rpc_reply(struct rpc_call *call, const ProtobufCMessage *reply)
{
	rpc_reply_fds(call, reply, NULL, 0);
}

void rpc_item(struct rpc_call *call, const ProtobufCMessage *item)
{
	if (!call->answered &&
	    rpc_put(call->channel, FRAME_ITEM, call->id, STATUS_OK, item, NULL, 0) < 0)
		log_error("%s: an item is longer than a frame may be and was left out",
		          call->method->name);
}

/* What a client may ask at any time to learn that it is not so, or asked for itself: nobody's trouble. */
static bool refusal_is_answer(const struct rpc_method *m, enum status_code code)
{
	if (code == STATUS_CANCELLED || code == STATUS_UNAVAILABLE)
		return true;
	/* names are there for who comes second to find that somebody was first */
	if (m && code == STATUS_ALREADY_EXISTS)
		return m->number == KMM__V1__METHOD__ALLOCATOR_PUBLISH;
	return m && code == STATUS_NOT_FOUND &&
	       (m->number == KMM__V1__METHOD__ALLOCATOR_LOOKUP ||
	        m->number == KMM__V1__METHOD__ALLOCATOR_OPEN_CACHE);
}

static enum log_level refusal_level(const struct rpc_method *m, enum status_code code, bool said)
{
	if (said || refusal_is_answer(m, code))
		return LOG_LEVEL_DEBUG;
	switch (code) {
	case STATUS_INTERNAL:
		return LOG_LEVEL_ERROR;
	case STATUS_PERMISSION_DENIED:
		return LOG_LEVEL_WARNING;
	case STATUS_RESOURCE_EXHAUSTED:
		return LOG_LEVEL_NOTICE;
	default:
		return LOG_LEVEL_INFO;
	}
}

void rpc_log_refusal(const struct session *s, const struct peer *peer,
                     const struct rpc_method *method, enum status_code code, int errno_value,
                     const char *text, bool said)
{
	enum log_level level = refusal_level(method, code, said);
	const char *name = strerrorname_np(errno_value);
	enum log_kind kind = peer->refused          ? LOG_CONNECTION :
	                     errno_value == EDQUOT ? LOG_QUOTA :
	                                             LOG_REFUSAL;
	struct log_about about = log_about_request(kind, s, peer, method ? method->name : NULL);

	probe_refuse(about.session, method ? method->number : 0, about.uid, errno_value, text);
	if (log_wanted(level))
		log_event(level, &about, "%s was refused (%s): %s", method ? method->name : "a call",
		          name ? name : "?", text);
}

void rpc_fail(struct rpc_call *call, enum status_code code, int errno_value, const char *fmt, ...)
{
	char text[RPC_TEXT_MAX + 1];
	va_list ap;

	if (call->answered)
		return;
	call->answered = true;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!call->silent)
		rpc_put_error(call->channel, call->id, code, errno_value, text);
	rpc_count(call, code);
	rpc_log_refusal(call->session, call->peer, call->method, code, errno_value, text, call->said);
	if (call->session)
		session_refused(call->session, text);
}

void rpc_refuse_stream(struct channel *c, int errno_value, const char *text)
{
	rpc_put_error(c, 0, STATUS_INVALID_ARGUMENT, errno_value, text);
}

/* ---- requests ---- */

/* Who may not connect learns it from the answer to what it asks first, whatever that is. */
static bool rpc_welcome(struct rpc_call *call, struct channel *c)
{
	if (!c->peer.refused)
		return true;
	rpc_fail(call, STATUS_PERMISSION_DENIED, EACCES,
	         "user %u may not use this daemon: [access] users names neither the user nor a group "
	         "of the process, and nor do inspectors and admins",
	         c->peer.uid);
	channel_end(c);
	return false;
}

static bool rpc_demand_met(struct rpc_call *call)
{
	if (call->method->demand == RPC_SESSION && !channel_session(call->channel)) {
		rpc_fail(call, STATUS_FAILED_PRECONDITION, EPROTO,
		         "%s needs a session: call kmm.v1.Allocator/Hello first", call->method->name);
		return false;
	}
	if (call->method->demand == RPC_ADMIN && !(call->peer->rights & ACCESS_ADMIN)) {
		rpc_fail(call, STATUS_PERMISSION_DENIED, EPERM,
		         "%s is for admins: root, the daemon's own user, and those of [access] admins; "
		         "you are user %u",
		         call->method->name, call->peer->uid);
		return false;
	}
	if (call->method->demand == RPC_INSPECTOR && !(call->peer->rights & ACCESS_INSPECT)) {
		rpc_fail(call, STATUS_PERMISSION_DENIED, EPERM,
		         "%s is for inspectors: admins, and those of [access] inspectors; you are "
		         "user %u",
		         call->method->name, call->peer->uid);
		return false;
	}
	return true;
}

/* The deadline is counted from when the frame was read: others of the same read, or a full output,
 * may have kept it waiting. */
static bool rpc_in_time(struct rpc_call *call, const struct frame *f)
{
	struct reactor *r = call->reactor;
	uint64_t now = uv_hrtime(), ns;

	if (__builtin_mul_overflow(f->timeout_us, UINT64_C(1000), &ns) ||
	    __builtin_add_overflow(ns, r->read_ns, &call->deadline_ns)) {
		call->deadline_ns = 0; /* longer than the clock runs */
		return true;
	}
	if (now < call->deadline_ns)
		return true;
	rpc_fail(call, STATUS_DEADLINE_EXCEEDED, ETIMEDOUT,
	         "the deadline had passed before the call was looked at");
	return false;
}

static ProtobufCMessage *rpc_unpack(struct rpc_call *call, const struct frame *f,
                                    const uint8_t *body)
{
	struct arena *arena = call->reactor->arena;
	ProtobufCMessage *m;

	arena_reset(arena);
	m = protobuf_c_message_unpack(call->method->request, arena_allocator(arena), f->length, body);
	if (!m)
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EBADMSG,
		         arena_overflowed(arena) ? "the body of %u bytes has more fields than a %s may "
		                                   "have"
		                                 : "the body of %u bytes is no %s",
		         f->length, call->method->request->name);
	return m;
}

static void rpc_run(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct session *s = channel_session(call->channel);

	/* Health and Admin answer also when the session has ended meanwhile. */
	if (s && !session_enter(s)) {
		if (call->method->demand == RPC_SESSION) {
			rpc_fail(call, STATUS_NOT_FOUND, ESRCH, "session %u has ended", s->id);
			return;
		}
		s = NULL;
	}
	if (s) {
		call->session = s;
		atomic_fetch_add_explicit(&s->calls, 1, memory_order_relaxed);
	}
	probe_request(s ? s->id : 0, call->method->number, call->peer->uid);
	call->method->handle(call, request);
	if (!call->answered)
		rpc_fail(call, STATUS_INTERNAL, EIO, "%s gave no answer", call->method->name);
	if (s)
		session_leave(s);
}

static void rpc_request(struct channel *c, const struct frame *f, const uint8_t *body)
{
	struct rpc_call call = {
	        .channel = c,
	        .reactor = c->reactor,
	        .kmmd = c->reactor->kmmd,
	        .peer = &c->peer,
	        .method = rpc_method_find(f->code),
	        .id = f->call,
	        .silent = f->kind == FRAME_NOTIFY,
	};
	ProtobufCMessage *request;

	if (!rpc_welcome(&call, c))
		return;
	if (c->reactor->kmmd->access)
		access_refresh(c->reactor->kmmd->access, &c->peer);
	if (call.silent && call.method && !call.method->notifiable) {
		channel_protocol_error(c, EBADMSG, "a notification of a method that must be answered");
		return;
	}
	if (!call.method) {
		rpc_fail(&call, STATUS_UNIMPLEMENTED, ENOSYS,
		         "there is no method %u; kmm.v1.Health/ListMethods lists them", f->code);
		return;
	}
	if (f->timeout_us && !rpc_in_time(&call, f))
		return;
	if (!rpc_demand_met(&call))
		return;
	request = rpc_unpack(&call, f, body);
	if (request)
		rpc_run(&call, request);
}

void rpc_dispatch(struct channel *c, const struct frame *f, const uint8_t *body)
{
	switch ((enum frame_kind)f->kind) {
	case FRAME_REQUEST:
		if (f->call == 0)
			channel_protocol_error(c, EBADMSG, "a request has call number 0");
		else
			rpc_request(c, f, body);
		return;
	case FRAME_NOTIFY:
		if (f->call != 0)
			channel_protocol_error(c, EBADMSG, "a notification has a call number");
		else
			rpc_request(c, f, body);
		return;
	case FRAME_CANCEL:
		rpc_cancel(c, f->call);
		return;
	case FRAME_REPLY:
	case FRAME_ITEM:
		break;
	}
	channel_protocol_error(c, EBADMSG, "a client sent a reply; clients send requests and cancels");
}
