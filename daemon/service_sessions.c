/* SPDX-License-Identifier: MIT */
/*
 * ListSessions and GetSession: who is there and what he has.
 *
 * What a session has is what the words say: the worker walks them once for all sessions asked for.
 * The list leaves in slices of SLICE items, each an item of the reactor's mailbox, so that
 * thousands of sessions hold up nobody.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/domain.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

#define SLICE 128u

struct sessions_call {
	struct service_job job; /* first */
	uint32_t size;          /* of count */
	uint32_t next;          /* id */
	struct grant_count count[];
};

/* A message with its texts. */
struct session_item {
	Kmm__V1__Session m;
	struct session_about about;
	char state[32], domain[64];
};

/* False: there is no such session. */
static bool item_fill(struct session_item *i, const struct kmmd *k, struct session *s,
                      const struct grant_count *n)
{
	Kmm__V1__Session *m = &i->m;
	int64_t charge;

	if (!session_describe(s, &i->about))
		return false;
	kmm__v1__session__init(m);
	snprintf(i->state, sizeof(i->state), "%s", session_state_name(i->about.state));
	snprintf(i->domain, sizeof(i->domain), "%s", k->domain->name);
	m->id = s->id;
	m->name = i->about.name;
	m->uid = i->about.uid;
	m->gid = i->about.gid;
	m->pid = (uint32_t)i->about.pid;
	m->state = i->state;
	m->domain = i->domain;
	m->last_error = i->about.last_error;
	m->pages_max = i->about.pages_max;
	m->opened = i->about.opened;
	/* relaxed, all: counters for a report */
	charge = atomic_load_explicit(&s->charge, memory_order_relaxed);
	m->charged = charge > 0 ? (uint64_t)charge : 0;
	m->channels = atomic_load_explicit(&s->channels, memory_order_relaxed);
	m->holds = atomic_load_explicit(&s->holds, memory_order_relaxed);
	m->parked = atomic_load_explicit(&s->parked, memory_order_relaxed);
	m->calls = atomic_load_explicit(&s->calls, memory_order_relaxed);
	m->refused = atomic_load_explicit(&s->refused, memory_order_relaxed);
	m->magazines = atomic_load_explicit(&s->magazines, memory_order_relaxed);
	m->granted = n->granted;
	m->cached = n->cached;
	return true;
}

/* ---- ListSessions ---- */

static void list_work(struct service_job *j)
{
	struct sessions_call *c = (struct sessions_call *)j;

	grant_census(j->kmmd->domain, c->count, c->size);
	service_job_done(j);
}

static void list_reply(struct service_job *j)
{
	struct sessions_call *c = (struct sessions_call *)j;
	Kmm__V1__ListSessionsRequest empty = KMM__V1__LIST_SESSIONS_REQUEST__INIT;
	struct session_item i;
	uint32_t sent = 0;

	if (service_job_cancelled(j)) {
		free(c);
		return;
	}
	for (; c->next < c->size && sent < SLICE; c->next++) {
		struct session *s = session_by_id(j->kmmd->sessions, c->next);

		if (!item_fill(&i, j->kmmd, s, &c->count[c->next]))
			continue;
		sent++;
		if (!rpc_pending_item(&j->pending, &i.m.base)) {
			/* the channel is gone: cancelled, if it closed under this very item */
			c->next = c->size;
			break;
		}
	}
	if (c->next < c->size) {
		service_job_done(j); /* the next slice, after what else the reactor has to do */
		return;
	}
	rpc_pending_reply(&j->pending, &empty.base);
	free(c);
}

void service_list_sessions(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListSessionsRequest *q = (const Kmm__V1__ListSessionsRequest *)request;
	struct sessions_call *c;
	uint32_t size;

	if (!service_domain_known(call, q->domain))
		return;
	if (!service_census_admit(call))
		return;
	size = session_table_size(call->kmmd->sessions);
	c = calloc(1, sizeof(*c) + size * sizeof(c->count[0]));
	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	c->size = size;
	c->next = 1;
	service_job_start(call, &c->job, list_work, list_reply);
}

/* ---- GetSession ---- */

struct session_call {
	struct service_job job; /* first */
	struct session *s;
	struct grant_count count;
};

static void get_work(struct service_job *j)
{
	struct session_call *c = (struct session_call *)j;

	grant_count(j->kmmd->domain, c->s, &c->count);
	service_job_done(j);
}

static void get_reply(struct service_job *j)
{
	struct session_call *c = (struct session_call *)j;
	struct session_item i;

	if (service_job_cancelled(j)) {
		free(c);
		return;
	}
	if (item_fill(&i, j->kmmd, c->s, &c->count)) {
		i.m.n_blocks = NR_PAGE_ORDERS;
		i.m.blocks = c->count.blocks;
		rpc_pending_reply(&j->pending, &i.m.base);
	} else {
		service_pending_refuse(&j->pending, -ENOENT, "the session has ended");
	}
	free(c);
}

void service_get_session(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__GetSessionRequest *q = (const Kmm__V1__GetSessionRequest *)request;
	struct session *s = session_by_id(call->kmmd->sessions, q->session);
	struct session_call *c;
	uint32_t state = SESSION_FREE;

	if (s)
		state = atomic_load_explicit(&s->state, memory_order_acquire);
	if (state == SESSION_FREE || state == SESSION_GONE) {
		rpc_fail(call, STATUS_NOT_FOUND, ENOENT,
		         "there is no session %u; kmmctl sessions lists them", q->session);
		return;
	}
	if (!service_census_admit(call))
		return;
	c = calloc(1, sizeof(*c));
	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	c->s = s;
	service_job_start(call, &c->job, get_work, get_reply);
}
