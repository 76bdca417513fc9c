/* SPDX-License-Identifier: MIT */
/*
 * Events: a stream that lasts as long as its control connection.
 *
 * A stream is a suspended call, listed with its session under the table's lock. Whoever has an
 * event notes its kind in the stream and posts the stream's `notify` to its reactor, unless it is
 * on its way; there the noted kinds leave as items. So events of one kind that come faster than
 * they are sent become one, and nothing is allocated for an event. Of a FLUSH (flush.c) the last
 * number is kept, for an answer to it answers all before.
 *
 * A PRESSURE says for whom and how hard (pressure.c); of several the last is kept.
 *
 * Who begins to listen while somebody waits for memory is told at once: the news was out before,
 * and what his threads cache may be all that there is. So it is after a restart, when the one who
 * waited is back before the others.
 *
 * The end: cancel (the connection closed, or the client cancelled) unlists the stream and answers.
 * A notify that is still on its way frees the object when it arrives, else cancel does.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/domain.h"
#include "daemon/flush.h"
#include "daemon/pressure.h"
#include "daemon/service.h"
#include "daemon/session_private.h"
#include "proto/kmm.pb-c.h"

#define EVENT_KINDS 8u
#define FLUSH KMM__V1__EVENT__KIND__FLUSH
#define PRESSURE KMM__V1__EVENT__KIND__PRESSURE
_Static_assert(FLUSH < EVENT_KINDS, "kinds are bits of `noted`");

struct event_stream {
	struct rpc_pending pending; /* first */
	struct reactor_work notify;
	struct session *s; /* referenced */
	/* guarded by the table's lock */
	struct event_stream *next;
	uint32_t noted; /* a bit a kind */
	bool posted, ended;
	char text[EVENT_KINDS][200];
	uint64_t flush; /* its number */
	uint32_t cache; /* 0: all */
	struct pressure_said pressure;
};

static void stream_note(struct event_stream *e, uint32_t kind, const char *text);
static void stream_note_pressure(struct event_stream *e, struct pressure_said said);

static void stream_free(struct event_stream *e)
{
	session_unref(e->s);
	free(e);
}

static void notify_run(struct reactor *r, struct reactor_work *w)
{
	struct event_stream *e = (struct event_stream *)((char *)w -
	                                                 offsetof(struct event_stream, notify));
	struct session_table *t = e->s->table;
	char text[EVENT_KINDS][200];
	struct pressure_said pressure;
	uint32_t noted, kind, cache;
	uint64_t flush;
	bool ended;

	(void)r;
	lock_acquire(&t->lock);
	noted = e->noted;
	flush = e->flush;
	cache = e->cache;
	pressure = e->pressure;
	e->noted = 0;
	e->posted = false;
	ended = e->ended;
	for (kind = 0; kind < EVENT_KINDS; kind++)
		if (noted & 1u << kind)
			snprintf(text[kind], sizeof(text[kind]), "%s", e->text[kind]);
	lock_release(&t->lock);
	if (ended) {
		stream_free(e);
		return;
	}
	/* An item that closes the channel ends the stream: it is looked at no more then. */
	for (kind = 0; kind < EVENT_KINDS; kind++) {
		Kmm__V1__Event event = KMM__V1__EVENT__INIT;

		if (!(noted & 1u << kind))
			continue;
		event.kind = (Kmm__V1__Event__Kind)kind;
		event.text = text[kind];
		if (kind == FLUSH) {
			event.flush = flush;
			event.cache = cache;
		} else if (kind == PRESSURE) {
			event.gfp = pressure.gfp;
			event.priority = pressure.priority;
		}
		if (!rpc_pending_item(&e->pending, &event.base))
			return;
	}
}

static void events_resume(struct rpc_pending *p)
{
	(void)p; /* never posted */
}

static void events_cancel(struct rpc_pending *p, int reason)
{
	struct event_stream *e = (struct event_stream *)p, **link;
	struct session_table *t = e->s->table;
	bool posted;

	lock_acquire(&t->lock);
	for (link = &e->s->events; *link != e; link = &(*link)->next)
		;
	*link = e->next;
	if (!e->s->events)
		flush_stream_ended(e->s);
	e->ended = true;
	posted = e->posted;
	lock_release(&t->lock);
	if (reason == EPIPE)
		rpc_pending_drop(p);
	else
		service_pending_refuse(p, -reason, "the stream of events was ended");
	if (!posted)
		stream_free(e);
}

void service_events(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct session *s = call->session;
	struct event_stream *e;

	(void)request;
	if (!channel_is_control(call->channel)) {
		rpc_fail(call, STATUS_FAILED_PRECONDITION, EBUSY,
		         "events go to the control connection: say control in its hello");
		return;
	}
	e = calloc(1, sizeof(*e));
	if (!e) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	if (rpc_suspend(call, &e->pending, events_resume, events_cancel) < 0) {
		free(e);
		return;
	}
	e->notify.run = notify_run;
	e->s = session_ref(s);
	lock_acquire(&s->table->lock);
	if (!s->events)
		flush_stream_begun(s);
	e->next = s->events;
	s->events = e;
	/* Listed first: whoever sets the flag later finds the stream. */
	if (pressure_is_on(s->kmmd->domain))
		stream_note_pressure(e, pressure_said(s->kmmd->domain->pressure));
	lock_release(&s->table->lock);
}

/* ---- from any thread ---- */

/* Under the table's lock. */
static void stream_note(struct event_stream *e, uint32_t kind, const char *text)
{
	e->noted |= 1u << kind;
	snprintf(e->text[kind], sizeof(e->text[kind]), "%s", text);
	if (!e->posted) {
		e->posted = true;
		reactor_post(e->pending.reactor, &e->notify);
	}
}

/* The same. */
static void event_note(struct session *s, uint32_t kind, const char *text)
{
	struct event_stream *e;

	for (e = s->events; e && kind < EVENT_KINDS; e = e->next)
		stream_note(e, kind, text);
}

void event_note_flush(struct session *s, uint64_t serial, uint32_t cache)
{
	struct event_stream *e;

	for (e = s->events; e; e = e->next) {
		/* Two that become one, of different caches, are of all. */
		e->cache = e->noted & 1u << FLUSH && e->cache != cache ? 0 : cache;
		e->flush = serial;
		stream_note(e, FLUSH, "give back what idle threads cache");
	}
}

/* The same. */
static void stream_note_pressure(struct event_stream *e, struct pressure_said said)
{
	e->pressure = said;
	stream_note(e, PRESSURE, PRESSURE_TEXT);
}

void session_event(struct session *s, uint32_t kind, const char *text)
{
	lock_acquire(&s->table->lock);
	event_note(s, kind, text);
	lock_release(&s->table->lock);
}

void session_broadcast_pressure(struct session_table *t, uint32_t gfp, uint32_t priority, bool again)
{
	struct pressure_said said = { .gfp = gfp, .priority = priority };
	struct event_stream *e;
	uint32_t id;

	lock_acquire(&t->lock);
	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];

		/* relaxed: a hint, which the next one sees */
		if (again && (!s->events || !atomic_load_explicit(&s->shared->shrinkers,
		                                                  memory_order_relaxed)))
			continue;
		for (e = s->events; e; e = e->next)
			stream_note_pressure(e, said);
	}
	lock_release(&t->lock);
}

/* ---- Flushed ---- */

void service_flushed(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__FlushedRequest *q = (const Kmm__V1__FlushedRequest *)request;
	Kmm__V1__FlushedReply reply = KMM__V1__FLUSHED_REPLY__INIT;

	if (flush_answer(call->session, q->flush) == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, -EINVAL, "no FLUSH has that number");
}
