/* SPDX-License-Identifier: MIT */
/*
 * kmm.v1.Allocator: the table of its methods, and the beginning and the end of a session.
 *
 * Hello. The first call of every connection: it opens a session (no token), joins or resumes one
 * (session, token and the pool's uuid), or only observes. What the client must know about the pool
 * is in the reply; on the control connection the two memfds of control memory ride along, and for
 * clients that know what it is the pool's lifeline (lifeline.c). A session
 * whose pool is gone, or that ended, cannot be resumed: DATA_LOSS.
 *
 * Close. The sweep begins when this handler has left; the reply is made when it is done.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/access.h"
#include "daemon/domain.h"
#include "daemon/grant.h"
#include "daemon/options.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

#define KEEPALIVE_MS 10000u

/* ---- Hello ---- */

static bool bytes_ok(const ProtobufCBinaryData *b)
{
	return b->len == 0 || b->len == 16;
}

static bool bytes_zero(const ProtobufCBinaryData *b)
{
	size_t i;

	for (i = 0; i < b->len; i++)
		if (b->data[i])
			return false;
	return true;
}

static bool hello_check(struct rpc_call *call, const Kmm__V1__HelloRequest *q)
{
	struct session *joined = channel_session(call->channel);

	if (q->version != PROTOCOL_VERSION)
		rpc_fail(call, STATUS_FAILED_PRECONDITION, EPROTO,
		         "the client speaks protocol version %u, this daemon %u: upgrade the older "
		         "one",
		         q->version, PROTOCOL_VERSION);
	else if (joined)
		rpc_fail(call, STATUS_FAILED_PRECONDITION, EPROTO,
		         "this connection has joined session %u already", joined->id);
	else if (*q->domain && strcmp(q->domain, call->kmmd->domain->name) != 0)
		rpc_fail(
			call, STATUS_NOT_FOUND, ENOENT,
			"there is no domain \"%.63s\"; leave it empty for your default one, \"%s\"",
			q->domain, call->kmmd->domain->name);
	else if (!bytes_ok(&q->token) || !bytes_ok(&q->uuid))
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "token and uuid have 16 bytes or none, these have %zu and %zu",
		         q->token.len, q->uuid.len);
	else if (strlen(q->name) > 63)
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "the session's name has %zu bytes, at most 63 are allowed",
		         strlen(q->name));
	else
		return true;
	return false;
}

static struct session *hello_open(struct rpc_call *call, const Kmm__V1__HelloRequest *q)
{
	const char *why = "";
	struct session *s;
	int r = session_open(call->kmmd->sessions, call->channel, q->name, q->control, &s, &why);

	if (r == 0)
		return s;
	if (r == -EDQUOT)
		rpc_fail(call, STATUS_RESOURCE_EXHAUSTED, EDQUOT, "%s", why);
	else
		rpc_fail(call, STATUS_INTERNAL, -r, "no session can be opened: %s", strerror(-r));
	return NULL;
}

static struct session *hello_resume(struct rpc_call *call, const Kmm__V1__HelloRequest *q)
{
	static const uint8_t none[16];
	const uint8_t *token = q->token.len ? q->token.data : none;
	const char *why = "";
	struct session *s;

	if (!bytes_zero(&q->uuid) && memcmp(q->uuid.data, call->kmmd->pool->uuid, 16) != 0) {
		rpc_fail(call, STATUS_DATA_LOSS, ENOTRECOVERABLE,
		         "session %u lived in another pool, which is gone: open a new one",
		         q->session);
		return NULL;
	}
	switch (session_resume(call->kmmd->sessions, q->session, token, call->channel, q->control,
	                       &s, &why)) {
	case 0:
		return s;
	case -ENOENT:
		rpc_fail(call, STATUS_DATA_LOSS, ENOTRECOVERABLE,
		         "there is no session %u (any more): open a new one", q->session);
		return NULL;
	case -EDQUOT:
		rpc_fail(call, STATUS_RESOURCE_EXHAUSTED, EDQUOT, "%s", why);
		return NULL;
	default:
		rpc_fail(call, STATUS_PERMISSION_DENIED, EACCES,
		         "session %u is not this process's: token, user or process differ",
		         q->session);
		return NULL;
	}
}

static void hello_reply(struct rpc_call *call, const Kmm__V1__HelloRequest *q, struct session *s)
{
	const struct kmmd *k = call->kmmd;
	const struct control_geometry *g = &k->pool->control.geometry;
	Kmm__V1__HelloReply reply = KMM__V1__HELLO_REPLY__INIT;
	char version[] = PACKAGE_VERSION;
	uint8_t token[16] = { 0 };
	int fds[3] = { k->pool->words_fd, k->pool->views_fd, k->pool->lifeline_view };
	bool memory = s && q->control;
	bool lifeline = memory && fds[2] >= 0 && (q->features & KMM__V1__FEATURE__LIFELINE);
	uint64_t thread_cache;

	/* The token is the session's as long as it lives. */
	if (s && session_enter(s)) {
		memcpy(token, s->record->token, sizeof(token));
		session_leave(s);
	}
	reply.version = PROTOCOL_VERSION;
	reply.session = s ? s->id : 0;
	reply.token = (ProtobufCBinaryData){ .len = sizeof(token), .data = token };
	reply.uuid = (ProtobufCBinaryData){ .len = 16, .data = k->pool->uuid };
	reply.epoch = k->pool->epoch;
	reply.reactors = k->nr_reactors;
	reply.frames = g->frames;
	reply.high_start = g->high_start;
	reply.high_frames = g->high_frames;
	reply.map_shift = k->pool->map_shift;
	reply.section_order = g->section_order;
	reply.sessions = g->sessions;
	reply.magazines = g->magazines;
	reply.channels_max = OPTION(k->options, channels_max);
	reply.calls_max = OPTION(k->options, calls_max);
	/* relaxed: a limit that may change at any time */
	reply.pages_max = s ? atomic_load_explicit(&s->pages_max, memory_order_relaxed) : 0;
	thread_cache = OPTION(k->options, thread_cache);
	reply.thread_cache_bytes = thread_cache < UINT32_MAX ? (uint32_t)thread_cache : UINT32_MAX;
	reply.keepalive_ms = KEEPALIVE_MS;
	reply.daemon_version = version;
	reply.admin = call->peer->admin;
	reply.nodes = mm_nr_nodes(k->domain->zones);
	reply.features = lifeline ? KMM__V1__FEATURE__LIFELINE : 0;
	rpc_reply_fds(call, &reply.base, fds, memory ? 2 + (size_t)lifeline : 0);
}

/* A session, that is. */
static bool hello_allowed(struct rpc_call *call)
{
	if (call->peer->rights & ACCESS_SESSION)
		return true;
	rpc_fail(call, STATUS_PERMISSION_DENIED, EACCES,
	         "user %u may look on, not have memory: [access] users names neither the user nor a "
	         "group of the process",
	         call->peer->uid);
	return false;
}

static void handle_hello(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__HelloRequest *q = (const Kmm__V1__HelloRequest *)request;
	struct session *s = NULL;

	if (!hello_check(call, q))
		return;
	if (!q->observe) {
		if (!hello_allowed(call))
			return;
		s = q->session || !bytes_zero(&q->token) ? hello_resume(call, q) :
		                                           hello_open(call, q);
		if (!s)
			return;
		channel_set_session(call->channel, s, q->control);
	}
	hello_reply(call, q, s);
}

/* ---- Close ---- */

struct close_call {
	struct service_job job;
	struct session_end_wait wait;
};

static void close_swept(struct session_end_wait *w)
{
	service_job_done(
		&((struct close_call *)((char *)w - offsetof(struct close_call, wait)))->job);
}

static void close_reply(struct service_job *j)
{
	Kmm__V1__CloseReply reply = KMM__V1__CLOSE_REPLY__INIT;

	if (!service_job_cancelled(j))
		rpc_pending_reply(&j->pending, &reply.base);
	free(j);
}

static void handle_close(struct rpc_call *call, const ProtobufCMessage *request)
{
	/* Also one that has ended, but may not be swept yet: the channel keeps its id from others. */
	struct session *s = channel_session(call->channel);
	struct close_call *c;

	(void)request;
	if (!s) {
		rpc_fail(call, STATUS_FAILED_PRECONDITION, EPROTO,
		         "this connection has no session to close");
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		rpc_fail(call, STATUS_RESOURCE_EXHAUSTED, ENOMEM, "the daemon is out of memory");
		return;
	}
	c->wait.done = close_swept;
	if (!service_job_suspend(call, &c->job, close_reply))
		return;
	if (!session_end_wait(s, &c->wait))
		service_job_done(&c->job);
	else
		session_end(s);
}

/* ---- the table ---- */

#define METHOD(NUMBER, NAME, DEMAND, STREAM, MESSAGE, HANDLER)                                   \
	{                                                                                        \
		.number = KMM__V1__METHOD__ALLOCATOR_##NUMBER, .name = "kmm.v1.Allocator/" NAME, \
		.demand = DEMAND, .streaming = STREAM,                                           \
		.request = &kmm__v1__##MESSAGE##_request__descriptor,                            \
		.reply = &kmm__v1__##MESSAGE##_reply__descriptor, .handle = HANDLER              \
	}

/* Unary, answered at once: may come as a NOTIFY. */
#define NOTIFIABLE(NUMBER, NAME, MESSAGE, HANDLER)                                               \
	{                                                                                        \
		.number = KMM__V1__METHOD__ALLOCATOR_##NUMBER, .name = "kmm.v1.Allocator/" NAME, \
		.demand = RPC_SESSION, .request = &kmm__v1__##MESSAGE##_request__descriptor,     \
		.reply = &kmm__v1__##MESSAGE##_reply__descriptor, .handle = HANDLER,             \
		.notifiable = true                                                               \
	}

/* Both answer with the cache. */
#define CACHE_METHOD(NUMBER, NAME, MESSAGE, HANDLER)                                             \
	{                                                                                        \
		.number = KMM__V1__METHOD__ALLOCATOR_##NUMBER, .name = "kmm.v1.Allocator/" NAME, \
		.demand = RPC_SESSION, .request = &kmm__v1__##MESSAGE##_request__descriptor,     \
		.reply = &kmm__v1__cache_reply__descriptor, .handle = HANDLER                    \
	}

const struct rpc_method service_allocator[] = {
	METHOD(HELLO, "Hello", RPC_ANYBODY, false, hello, handle_hello),
	METHOD(CLOSE, "Close", RPC_ANYBODY, false, close, handle_close),
	METHOD(ALLOC_PAGES, "AllocPages", RPC_SESSION, false, alloc_pages, service_alloc_pages),
	NOTIFIABLE(FREE_PAGES, "FreePages", free_pages, service_free_pages),
	METHOD(EXCHANGE, "Exchange", RPC_SESSION, false, exchange, service_exchange),
	METHOD(GET_SECTIONS, "GetSections", RPC_SESSION, false, get_sections, service_get_sections),
	METHOD(SEND, "Send", RPC_SESSION, false, send, service_send),
	METHOD(HOLD, "Hold", RPC_SESSION, false, hold, service_hold),
	METHOD(RELEASE, "Release", RPC_SESSION, false, release, service_release),
	METHOD(COLLECT, "Collect", RPC_SESSION, false, collect, service_collect),
	{ .number = KMM__V1__METHOD__ALLOCATOR_EVENTS,
	  .name = "kmm.v1.Allocator/Events",
	  .demand = RPC_SESSION,
	  .streaming = true,
	  .request = &kmm__v1__events_request__descriptor,
	  .reply = &kmm__v1__event__descriptor,
	  .handle = service_events },
	METHOD(GET_HOLDERS, "GetHolders", RPC_SESSION, false, get_holders, service_get_holders),
	CACHE_METHOD(CREATE_CACHE, "CreateCache", create_cache, service_create_cache),
	CACHE_METHOD(OPEN_CACHE, "OpenCache", open_cache, service_open_cache),
	METHOD(DESTROY_CACHE, "DestroyCache", RPC_SESSION, false, destroy_cache,
	       service_destroy_cache),
	METHOD(SHRINK_CACHE, "ShrinkCache", RPC_SESSION, false, shrink_cache,
	       service_shrink_cache),
	METHOD(ALLOC_OBJECT, "AllocObject", RPC_SESSION, false, alloc_object,
	       service_alloc_object),
	NOTIFIABLE(FREE_OBJECT, "FreeObject", free_object, service_free_object),
	METHOD(PUBLISH, "Publish", RPC_SESSION, false, publish, service_publish),
	METHOD(LOOKUP, "Lookup", RPC_SESSION, false, lookup, service_lookup),
	METHOD(UNPUBLISH, "Unpublish", RPC_SESSION, false, unpublish, service_unpublish),
	METHOD(ALLOC_BLOCKS, "AllocBlocks", RPC_SESSION, false, alloc_blocks,
	       service_alloc_blocks),
	NOTIFIABLE(REPORT, "Report", report, service_report),
	NOTIFIABLE(FLUSHED, "Flushed", flushed, service_flushed),
	NOTIFIABLE(RECLAIMED, "Reclaimed", reclaimed, service_reclaimed),
	{ .handle = NULL },
};
