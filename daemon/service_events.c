/* SPDX-License-Identifier: MIT */
/*
 * Events: a stream that lasts as long as its control connection.
 *
 * A stream is a suspended call, listed with its session under the table's lock. Whoever has an
 * event notes its kind in the stream and posts the stream's `notify` to its reactor, unless it is
 * on its way; there the noted kinds leave as items. So events of one kind that come faster than
 * they are sent become one, and nothing is allocated for an event.
 *
 * The end: cancel (the connection closed, or the client cancelled) unlists the stream and answers.
 * A notify that is still on its way frees the object when it arrives, else cancel does.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/service.h"
#include "daemon/session_private.h"
#include "proto/kmm.pb-c.h"

#define EVENT_KINDS 8u

struct event_stream {
	struct rpc_pending pending; /* first */
	struct reactor_work notify;
	struct session *s; /* referenced */
	/* guarded by the table's lock */
	struct event_stream *next;
	uint32_t noted; /* a bit a kind */
	bool posted, ended;
	char text[EVENT_KINDS][200];
};

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
	uint32_t noted, kind;
	bool ended;

	(void)r;
	lock_acquire(&t->lock);
	noted = e->noted;
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
	e->next = s->events;
	s->events = e;
	lock_release(&s->table->lock);
}

/* ---- from any thread ---- */

/* Under the table's lock. */
static void event_note(struct session *s, uint32_t kind, const char *text)
{
	struct event_stream *e;

	for (e = s->events; e; e = e->next) {
		if (kind >= EVENT_KINDS)
			continue;
		e->noted |= 1u << kind;
		snprintf(e->text[kind], sizeof(e->text[kind]), "%s", text);
		if (!e->posted) {
			e->posted = true;
			reactor_post(e->pending.reactor, &e->notify);
		}
	}
}

void session_event(struct session *s, uint32_t kind, const char *text)
{
	lock_acquire(&s->table->lock);
	event_note(s, kind, text);
	lock_release(&s->table->lock);
}

void session_broadcast_event(struct session_table *t, uint32_t kind, const char *text)
{
	uint32_t id;

	lock_acquire(&t->lock);
	for (id = 1; id < t->size; id++)
		event_note(&t->session[id], kind, text);
	lock_release(&t->lock);
}
