/* SPDX-License-Identifier: MIT */
/*
 * Explain: why a session's last allocation failed.
 *
 * Two parts. What was noted when it failed (failure.h) is read at once. Who has the memory is found out
 * now, by the worker, since it takes walks: what is charged to each session and user, what their threads
 * merely cache (one pass over all owner words), what lies in depots, on per-CPU lists and in slabs
 * without an object. It is a look at the pool as it is when somebody asks, and is said to be one.
 *
 * Of requests that wait at this moment the worker is told by the queue; O(waiting).
 *
 * A session may ask about itself. Whoever may not inspect learns what was noted and nothing of others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "daemon/access.h"
#include "daemon/cache.h"
#include "daemon/depot.h"
#include "daemon/domain.h"
#include "daemon/failure.h"
#include "daemon/log_kind.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "daemon/wait_queue.h"
#include "daemon/warn.h"
#include "proto/kmm.pb-c.h"

#define REASON(X) KMM__V1__EXPLANATION__REASON__##X
_Static_assert((int)REASON(SESSION_QUOTA) == FAILURE_SESSION_QUOTA, "one numbering");
_Static_assert((int)REASON(PASSED) + 1 == NR_FAILURE_REASONS, "all of them");
#define VERDICT(X) KMM__V1__ZONE_LOOK__VERDICT__##X
_Static_assert((int)VERDICT(SMALL) == MM_ZONE_SMALL && (int)VERDICT(NO_BLOCK) == MM_ZONE_NO_BLOCK,
               "one numbering");

#define HOARDS 8u /* kmm.options: Explanation.sessions, .users */

/* Who has how much: those with most, the most first. */
struct hoard {
	uint32_t session;
	uid_t uid;
	uint64_t frames, objects;
};

struct hoards {
	struct hoard of[HOARDS];
	uint32_t n;
};

struct explain_call {
	struct service_job job; /* first */
	struct session *s;
	struct failure f;
	bool failed, no_memory;
	struct session_about about;
	/* now */
	struct hoards sessions, users;
	uint64_t cached[HOARDS]; /* of the sessions */
	struct waiter waiter; /* the session's that has waited longest, when there are `waits` */
	uint32_t waits;
	uint64_t all_cached, per_cpu, slab_empty, quarantine, free, managed;
};

static void hoards_add(struct hoards *h, const struct hoard *new)
{
	uint32_t i;

	if (!new->frames)
		return;
	for (i = h->n; i > 0 && h->of[i - 1].frames < new->frames; i--)
		if (i < HOARDS)
			h->of[i] = h->of[i - 1];
	if (i == HOARDS)
		return;
	h->of[i] = *new;
	h->n += h->n < HOARDS;
}

/* ---- looking, on the worker ---- */

static uint64_t positive(int64_t n)
{
	return n > 0 ? (uint64_t)n : 0;
}

static void look_at_sessions(struct explain_call *c)
{
	struct session_table *t = c->job.kmmd->sessions;
	uint32_t id;

	for (id = 1; id < session_table_size(t); id++) {
		struct session *s = session_by_id(t, id);
		/* relaxed, all: numbers for a report */
		uint32_t state = atomic_load_explicit(&s->state, memory_order_relaxed);
		uint64_t frames = positive(atomic_load_explicit(&s->charge, memory_order_relaxed));
		uint64_t bytes =
			positive(atomic_load_explicit(&s->object_bytes, memory_order_relaxed));
		struct hoard h = { .session = id,
			           .objects = (bytes + GRANT_FRAME - 1) / GRANT_FRAME };

		if (state == SESSION_FREE || state == SESSION_GONE)
			continue;
		h.frames = frames + h.objects;
		if (state == SESSION_DETACHED)
			c->quarantine += h.frames;
		hoards_add(&c->sessions, &h);
	}
}

static void user_add(void *ctx, const struct user_usage *usage)
{
	struct explain_call *c = ctx;

	hoards_add(&c->users,
	           &(struct hoard){ .uid = usage->uid, .frames = usage->used[USER_PAGES] });
}

static void look_at_words(struct explain_call *c)
{
	uint32_t size = session_table_size(c->job.kmmd->sessions), i;
	struct grant_count *n = calloc(size, sizeof(*n));

	c->no_memory = !n;
	if (!n)
		return;
	grant_census(c->job.kmmd->domain, n, size);
	for (i = 0; i < size; i++)
		c->all_cached += n[i].cached;
	for (i = 0; i < c->sessions.n; i++)
		c->cached[i] = n[c->sessions.of[i].session].cached;
	free(n);
}

static void look_at_zones(struct explain_call *c)
{
	const struct mm_domain *zones = c->job.kmmd->domain->zones;
	struct mm_zone_stats z;
	struct mm_pcp_stats pcp;
	uint32_t node, cpu;
	unsigned int type;

	for (node = 0; node < mm_nr_nodes(zones); node++)
		for (type = 0; type < MAX_NR_ZONES; type++) {
			mm_zone_stats(zones, node, (enum zone_type)type, &z);
			c->managed += z.managed;
			c->free += z.free;
			for (cpu = 0; z.present && cpu < c->job.kmmd->nr_reactors; cpu++) {
				mm_pcp_stats(zones, node, (enum zone_type)type, cpu, &pcp);
				c->per_cpu += pcp.count;
			}
		}
}

static void look_at_slabs(struct explain_call *c)
{
	struct domain *d = c->job.kmmd->domain;
	uint32_t id;

	for (id = 1; id < CONTROL_CACHES_MAX; id++) {
		struct cache *cache = cache_enter(d, id, 0);
		struct kmem_cache_stats s;

		if (!cache)
			continue;
		kmem_cache_stats(cache->slab, &s);
		c->slab_empty += s.slabs_empty << kmem_cache_geometry(cache->slab)->order;
		cache_leave(cache);
	}
}

static void explain_work(struct service_job *j)
{
	struct explain_call *c = (struct explain_call *)j;

	look_at_sessions(c);
	user_each(j->kmmd->users, user_add, c);
	look_at_words(c);
	look_at_zones(c);
	look_at_slabs(c);
	c->waits = wait_queue_look(j->kmmd->domain->waiters, c->s, &c->waiter);
	service_job_done(j);
}

/* ---- telling ---- */

/* A message with its texts and lists. */
struct explain_reply {
	Kmm__V1__Explanation m;
	char gfp[GFP_TEXT_SIZE], method[64], quota[32], cache[64];
	Kmm__V1__Waits waits;
	char waits_gfp[GFP_TEXT_SIZE], waits_cache[64];
	Kmm__V1__ZoneLook zone[FAILURE_ZONES], *zones[FAILURE_ZONES];
	char zone_name[FAILURE_ZONES][16];
	Kmm__V1__Hoard session[HOARDS], *sessions[HOARDS], user[HOARDS], *users[HOARDS];
	struct session_about about[HOARDS];
	char state[HOARDS][32];
};

static void fill_zone(struct explain_reply *r, uint32_t i, struct mm_zone_look *l, uint32_t order)
{
	Kmm__V1__ZoneLook *m = &r->zone[i];

	kmm__v1__zone_look__init(m);
	snprintf(r->zone_name[i], sizeof(r->zone_name[i]), "%s", zone_names[l->zone]);
	m->verdict = (Kmm__V1__ZoneLook__Verdict)l->verdict;
	m->node = l->node;
	m->zone = r->zone_name[i];
	m->free = l->free;
	m->managed = l->managed;
	m->mark = l->mark;
	m->protection = l->protection;
	m->min = l->min;
	m->low = l->low;
	m->high = l->high;
	m->highatomic = l->highatomic;
	m->n_nr_free = NR_PAGE_ORDERS;
	m->nr_free = l->nr_free;
	m->index = mm_fragmentation_index(l->nr_free, order);
	r->zones[i] = m;
}

/* The cache may be gone by now, and another one be in its place. */
static void fill_cache(struct explain_reply *r, struct domain *d, const struct failure *f)
{
	struct cache *c = cache_enter(d, f->cache, f->life);

	if (!c) {
		snprintf(r->cache, sizeof(r->cache), "number %u, which is gone", f->cache);
		return;
	}
	snprintf(r->cache, sizeof(r->cache), "%.63s", kmem_cache_record(c->slab)->name);
	r->m.size = kmem_cache_geometry(c->slab)->size;
	cache_leave(c);
}

static void fill_failure(struct explain_reply *r, struct domain *d, struct failure *f)
{
	uint32_t n = f->zones < FAILURE_ZONES ? f->zones : FAILURE_ZONES, i;
	Kmm__V1__Explanation *m = &r->m;

	m->failures = f->count;
	m->reason = (Kmm__V1__Explanation__Reason)f->reason;
	m->when = f->when;
	m->waited_ms = f->waited_ms;
	snprintf(r->method, sizeof(r->method), "%s", f->method);
	m->method = r->method;
	m->gfp = f->gfp;
	m->gfp_text = (char *)(uintptr_t)gfp_text(r->gfp, f->gfp);
	m->order = f->order;
	m->pages = f->pages;
	if (f->cache)
		fill_cache(r, d, f);
	m->cache = r->cache;
	m->node = f->node;
	m->this_node = f->gfp & __GFP_THISNODE;
	m->errno_value = -f->rc;
	m->text = f->text;
	if (f->reason == FAILURE_SESSION_QUOTA || f->reason == FAILURE_USER_QUOTA) {
		snprintf(r->quota, sizeof(r->quota), "%s", user_count_name(f->quota));
		m->section = f->section;
		m->quota_used = f->used;
		m->quota_limit = f->limit;
		m->quota_more = f->more;
	}
	m->quota = r->quota;
	for (i = 0; i < n; i++)
		fill_zone(r, i, &f->zone[i], f->order);
	m->n_zone = n;
	m->zone = r->zones;
	m->zones = f->zones;
	m->depot = f->depot;
	m->slab = f->slab;
	m->waiting = f->waiting;
}

static void fill_session(struct explain_reply *r, struct explain_call *c, uint32_t i)
{
	const struct hoard *h = &c->sessions.of[i];
	Kmm__V1__Hoard *m = &r->session[r->m.n_sessions];
	struct session_about *about = &r->about[r->m.n_sessions];
	char *state = r->state[r->m.n_sessions];

	/* it may have ended meanwhile */
	if (!session_describe(session_by_id(c->job.kmmd->sessions, h->session), about))
		return;
	kmm__v1__hoard__init(m);
	snprintf(state, sizeof(r->state[0]), "%s", session_state_name(about->state));
	m->session = h->session;
	m->name = about->name;
	m->uid = about->uid;
	m->pid = (uint32_t)about->pid;
	m->state = state;
	m->frames = h->frames;
	m->objects = h->objects;
	m->cached = c->cached[i];
	r->sessions[r->m.n_sessions++] = m;
}

static void fill_waits(struct explain_reply *r, const struct explain_call *c)
{
	struct domain *d = c->job.kmmd->domain;
	const struct waiter *w = &c->waiter;
	struct cache *cache = w->cache ? cache_enter(d, w->cache, 0) : NULL;
	Kmm__V1__Waits *m = &r->waits;

	kmm__v1__waits__init(m);
	m->requests = c->waits;
	m->ms = (uv_hrtime() - w->since_ns) / 1000000;
	m->order = w->order;
	m->gfp = w->gfp;
	m->gfp_text = (char *)(uintptr_t)gfp_text(r->waits_gfp, w->gfp);
	if (cache)
		snprintf(r->waits_cache, sizeof(r->waits_cache), "%.63s",
		         kmem_cache_record(cache->slab)->name);
	else if (w->cache)
		snprintf(r->waits_cache, sizeof(r->waits_cache), "number %u, which is gone", w->cache);
	if (cache)
		cache_leave(cache);
	m->cache = r->waits_cache;
	m->all = wait_queue_waiting(d->waiters);
	r->m.waits = m;
}

static void fill_now(struct explain_reply *r, struct explain_call *c)
{
	Kmm__V1__Explanation *m = &r->m;
	uint32_t i;

	m->looked = true;
	m->free = c->free;
	m->managed = c->managed;
	m->depot_now = depot_frames(c->job.kmmd->domain->depot);
	m->per_cpu = c->per_cpu;
	m->cached = c->all_cached;
	m->slab_empty = c->slab_empty;
	m->quarantine = c->quarantine;
	for (i = 0; i < c->sessions.n; i++)
		fill_session(r, c, i);
	m->sessions = r->sessions;
	for (i = 0; i < c->users.n; i++) {
		kmm__v1__hoard__init(&r->user[i]);
		r->user[i].uid = c->users.of[i].uid;
		r->user[i].frames = c->users.of[i].frames;
		r->users[i] = &r->user[i];
	}
	m->n_users = c->users.n;
	m->users = r->users;
	if (c->waits)
		fill_waits(r, c);
}

static struct explain_reply *reply_new(struct kmmd *k, struct session *s,
                                       struct session_about *about, struct failure *f, bool failed)
{
	struct explain_reply *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	kmm__v1__explanation__init(&r->m);
	r->m.session = s->id;
	r->m.name = about->name;
	r->m.uid = about->uid;
	r->m.pid = (uint32_t)about->pid;
	if (failed)
		fill_failure(r, k->domain, f);
	return r;
}

static void explain_reply(struct service_job *j)
{
	struct explain_call *c = (struct explain_call *)j;
	struct explain_reply *r = NULL;

	if (!service_job_cancelled(j)) {
		if (!c->no_memory)
			r = reply_new(j->kmmd, c->s, &c->about, &c->f, c->failed);
		if (r)
			fill_now(r, c);
		if (r)
			rpc_pending_reply(&j->pending, &r->m.base);
		else
			service_pending_refuse(&j->pending, -ENOMEM, "the daemon is out of memory");
	}
	free(r);
	free(c);
}

/* ---- the call ---- */

/* What was noted, and no more. */
static void explain_noted(struct rpc_call *call, struct session *s, struct session_about *about,
                          struct failure *f, bool failed)
{
	struct explain_reply *r = reply_new(call->kmmd, s, about, f, failed);

	if (r)
		rpc_reply(call, &r->m.base);
	else
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
	free(r);
}

/* False: there is no such session. */
static bool look_up(struct session *s, struct session_about *about, struct failure *f, bool *failed)
{
	bool there;

	if (!s || !session_enter(s))
		return false;
	there = session_describe(s, about);
	*failed = failure_get(s, f);
	session_leave(s);
	return there;
}

static bool may_ask(struct rpc_call *call, uint32_t id)
{
	if ((call->peer->rights & ACCESS_INSPECT) || (call->session && call->session->id == id))
		return true;
	rpc_fail(call, STATUS_PERMISSION_DENIED, EPERM,
	         "%s about another session than one's own is for inspectors: admins, and those of "
	         "[access] inspectors; you are user %u",
	         call->method->name, call->peer->uid);
	return false;
}

void service_explain(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ExplainRequest *q = (const Kmm__V1__ExplainRequest *)request;
	uint32_t id = q->session ? q->session : call->session ? call->session->id : 0;
	struct session *s = id ? session_by_id(call->kmmd->sessions, id) : NULL;
	struct session_about about;
	struct explain_call *c;
	struct failure f;
	bool failed;

	if (!may_ask(call, id))
		return;
	if (!look_up(s, &about, &f, &failed)) {
		rpc_fail(call, STATUS_NOT_FOUND, ENOENT,
		         "there is no session %u; kmmctl sessions lists them. When it has ended, the log "
		         "says what failed before: journalctl KMM_SESSION=%u MESSAGE_ID=%s",
		         id, id, log_kind_about(LOG_FAILURE)->id);
		return;
	}
	if (!(call->peer->rights & ACCESS_INSPECT)) {
		explain_noted(call, s, &about, &f, failed);
		return;
	}
	c = service_census_start(call, sizeof(*c));
	if (!c)
		return;
	c->s = s;
	c->about = about;
	c->failed = failed;
	if (failed)
		c->f = f;
	service_job_start(call, &c->job, explain_work, explain_reply);
}
