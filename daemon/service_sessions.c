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

#include "daemon/cache.h"
#include "daemon/domain.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"


/* What one session has: all that the words say. */
struct session_count {
	struct grant_count pages;
	struct object_count objects;
};

struct sessions_call {
	struct service_job job; /* first */
	uint32_t size;          /* of both arrays */
	uint32_t next;          /* id */
	struct grant_count *pages;
	struct object_count *objects;
	bool failed;
};

/* A message with its texts. */
struct session_item {
	Kmm__V1__Session m;
	struct session_about about;
	char state[32], domain[64];
};

/* False: there is no such session. */
static bool item_fill(struct session_item *i, const struct kmmd *k, struct session *s,
                      const struct grant_count *n, const struct object_count *o)
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
	m->away = i->about.away;
	m->restarts = i->about.restarts;
	/* relaxed, all: counters for a report */
	charge = atomic_load_explicit(&s->charge, memory_order_relaxed);
	m->charged = charge > 0 ? (uint64_t)charge : 0;
	m->channels = atomic_load_explicit(&s->channels, memory_order_relaxed);
	m->holds = atomic_load_explicit(&s->holds, memory_order_relaxed);
	m->parked = atomic_load_explicit(&s->parked, memory_order_relaxed);
	m->calls = atomic_load_explicit(&s->calls, memory_order_relaxed);
	m->refused = atomic_load_explicit(&s->refused, memory_order_relaxed);
	m->magazines = atomic_load_explicit(&s->magazines, memory_order_relaxed);
	m->frames_had = atomic_load_explicit(&s->frames_had, memory_order_relaxed);
	if (charge > 0 && m->frames_had < (uint64_t)charge)
		m->frames_had = (uint64_t)charge; /* one was read after the other */
	m->frames_back = m->frames_had - m->charged;
	m->objects_had = atomic_load_explicit(&s->objects_had, memory_order_relaxed);
	m->objects_back = atomic_load_explicit(&s->objects_back, memory_order_relaxed);
	m->granted = n->granted;
	m->cached = n->cached;
	m->objects = o->objects;
	m->object_bytes = o->bytes;
	m->objects_returned = o->returned;
	m->caches = cache_count_of(k->domain, s->id);
	m->names = name_count_of_user(k->domain->names, i->about.uid);
	return true;
}

/* ---- ListSessions ---- */

static void object_add(struct object_count *to, const struct object_count *n)
{
	to->objects += n->objects;
	to->bytes += n->bytes;
	to->returned += n->returned;
}

static void list_note(void *ctx, uint32_t session, struct cache *cache,
                      const struct object_count *n)
{
	struct sessions_call *c = ctx;

	(void)cache;
	if (session < c->size)
		object_add(&c->objects[session], n);
}

static void list_work(struct service_job *j)
{
	struct sessions_call *c = (struct sessions_call *)j;

	grant_census(j->kmmd->domain, c->pages, c->size);
	if (object_census(j->kmmd->domain, NULL, NULL, list_note, c) < 0)
		c->failed = true;
	service_job_done(j);
}

static void list_free(struct sessions_call *c)
{
	free(c->pages);
	free(c->objects);
	free(c);
}

static int list_send(struct service_job *j, uint32_t i)
{
	struct sessions_call *c = (struct sessions_call *)j;
	struct session *s = session_by_id(j->kmmd->sessions, i);
	struct session_item item;

	if (!item_fill(&item, j->kmmd, s, &c->pages[i], &c->objects[i]))
		return 0;
	return rpc_pending_item(&j->pending, &item.m.base) ? 1 : -1;
}

static void list_reply(struct service_job *j)
{
	struct sessions_call *c = (struct sessions_call *)j;
	Kmm__V1__ListSessionsRequest empty = KMM__V1__LIST_SESSIONS_REQUEST__INIT;

	if (service_job_list(j, &c->next, c->size, c->failed, list_send, &empty.base))
		list_free(c);
}

void service_list_sessions(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListSessionsRequest *q = (const Kmm__V1__ListSessionsRequest *)request;
	struct sessions_call *c;
	uint32_t size;

	if (!service_domain_known(call, q->domain))
		return;
	c = service_census_start(call, sizeof(*c));
	if (!c)
		return;
	size = session_table_size(call->kmmd->sessions);
	c->pages = calloc(size, sizeof(c->pages[0]));
	c->objects = calloc(size, sizeof(c->objects[0]));
	if (!c->pages || !c->objects) {
		list_free(c);
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	c->size = size;
	c->next = 1;
	service_job_start(call, &c->job, list_work, list_reply);
}

/* ---- GetSession ---- */

#define CACHES_SHOWN 32u /* kmm.options: Session.cache */

struct session_call {
	struct service_job job; /* first */
	struct session *s;
	struct session_count count;
	/* of which it holds most, the most first */
	uint32_t shown;
	struct {
		char name[64];
		struct object_count n;
	} cache[CACHES_SHOWN];
	bool failed;
};

static void get_note(void *ctx, uint32_t session, struct cache *cache,
                     const struct object_count *n)
{
	struct session_call *c = ctx;
	uint32_t i;

	(void)session;
	object_add(&c->count.objects, n);
	if (!n->objects)
		return;
	for (i = c->shown; i > 0 && c->cache[i - 1].n.bytes < n->bytes; i--)
		if (i < CACHES_SHOWN)
			c->cache[i] = c->cache[i - 1];
	if (i == CACHES_SHOWN)
		return;
	snprintf(c->cache[i].name, sizeof(c->cache[i].name), "%.63s",
	         kmem_cache_record(cache->slab)->name);
	c->cache[i].n = *n;
	c->shown += c->shown < CACHES_SHOWN;
}

static void get_work(struct service_job *j)
{
	struct session_call *c = (struct session_call *)j;

	grant_count(j->kmmd->domain, c->s, &c->count.pages);
	if (object_census(j->kmmd->domain, c->s, NULL, get_note, c) < 0)
		c->failed = true;
	service_job_done(j);
}

static void get_send(struct service_job *j, struct session_call *c, struct session_item *i)
{
	Kmm__V1__SessionCache cache[CACHES_SHOWN], *caches[CACHES_SHOWN];
	uint32_t k;

	for (k = 0; k < c->shown; k++) {
		kmm__v1__session_cache__init(&cache[k]);
		cache[k].name = c->cache[k].name;
		cache[k].objects = c->cache[k].n.objects;
		cache[k].bytes = c->cache[k].n.bytes;
		caches[k] = &cache[k];
	}
	i->m.n_blocks = NR_PAGE_ORDERS;
	i->m.blocks = c->count.pages.blocks;
	i->m.n_cache = c->shown;
	i->m.cache = caches;
	rpc_pending_reply(&j->pending, &i->m.base);
}

static void get_reply(struct service_job *j)
{
	struct session_call *c = (struct session_call *)j;
	struct session_item i;

	if (service_job_cancelled(j)) {
		free(c);
		return;
	}
	if (c->failed) {
		service_pending_refuse(&j->pending, -ENOMEM, "the daemon is out of memory");
	} else if (item_fill(&i, j->kmmd, c->s, &c->count.pages, &c->count.objects)) {
		get_send(j, c, &i);
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
	c = service_census_start(call, sizeof(*c));
	if (!c)
		return;
	c->s = s;
	service_job_start(call, &c->job, get_work, get_reply);
}
