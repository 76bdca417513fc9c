/* SPDX-License-Identifier: MIT */
/*
 * CreateCache, OpenCache, DestroyCache, ShrinkCache, and Admin's Shrink.
 *
 * Making and joining is answered at once, unless the cache of that name may be about to end: what
 * ends caches is the worker, so the request is asked again there, where it is decided. Destroying
 * looks at objects, perhaps at all of the cache, and is the worker's from the start.
 *
 * Shrinking asks the sessions for what their idle threads cache (flush.c), then goes over all
 * reactors, which empty their per-CPU magazines of the cache, then to the worker. Nobody stays in the
 * cache in between: it is found anew by id and life. What went back is told by counts from before and
 * after, because objects and slabs go on the way, by whichever thread.
 *
 * A destroy that finds objects out asks the sessions, too, and the worker looks once more.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/cache.h"
#include "daemon/failure.h"
#include "daemon/log_about.h"
#include "daemon/options.h"
#include "daemon/reclaim.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"

#define NO_MEMORY_TEXT "the daemon is out of memory"

/* ---- CreateCache, OpenCache ---- */

struct make_request {
	bool open;
	char name[SLAB_NAME_MAX + 1];
	uint64_t size, align;
	uint32_t flags;
	bool ctor;
};

struct make_call {
	struct service_job job; /* first */
	struct make_request q;
	int rc;
	uint32_t id;
	uint64_t life;
	char why[320];
};

static int make_try(struct domain *d, struct session *s, const struct make_request *q,
                    const char *name, uint32_t *id, uint64_t *life, const char **why)
{
	if (q->open)
		return cache_open(d, s, name, id, life, why);
	return cache_create(d, s, name, q->size, q->align, q->flags, q->ctor, id, life, why);
}

/* For kmmctl why. */
static void make_refused(struct session *s, const struct make_request *q, int rc, const char *why)
{
	struct domain *d = s->kmmd->domain;
	uint64_t max = OPTION(s->kmmd->options, caches_max);
	struct charge_obstacle met = { .what = USER_CACHES };
	struct failure_about a = { .method = q->open ? "OpenCache" : "CreateCache",
		                   .rc = rc,
		                   .why = why,
		                   .more = 1,
		                   .reason = FAILURE_TABLE };
	struct user_usage usage;

	if (rc != -EDQUOT)
		return;
	if (s->user)
		user_usage(s->user, &usage);
	if (max && cache_count_of(d, s->id) >= max) {
		a.obstacle = &met;
	} else if (s->user && usage.max[USER_CACHES] &&
	           usage.used[USER_CACHES] >= usage.max[USER_CACHES]) {
		met.user = s->user;
		a.obstacle = &met;
	}
	failure_note(s, &a);
}

static void make_work(struct service_job *j)
{
	struct make_call *c = (struct make_call *)j;
	const char *why = "the session has ended";

	c->rc = -ECANCELED;
	if (session_enter(j->pending.session)) {
		c->rc = make_try(j->kmmd->domain, j->pending.session, &c->q, c->q.name, &c->id,
		                 &c->life, &why);
		make_refused(j->pending.session, &c->q, c->rc, why);
		session_leave(j->pending.session);
	}
	if (c->rc < 0)
		snprintf(c->why, sizeof(c->why), "%s", why);
	service_job_done(j);
}

static void make_reply(struct service_job *j)
{
	struct make_call *c = (struct make_call *)j;
	Kmm__V1__CacheReply reply = KMM__V1__CACHE_REPLY__INIT;

	if (service_job_cancelled(j)) {
		free(c);
		return;
	}
	reply.cache = c->id;
	reply.life = c->life;
	if (c->rc < 0)
		service_pending_refuse(&j->pending, c->rc, c->why);
	else
		rpc_pending_reply(&j->pending, &reply.base);
	free(c);
}

static void make_later(struct rpc_call *call, const struct make_request *q, const char *name)
{
	struct make_call *c = calloc(1, sizeof(*c));

	if (!c) {
		service_refuse(call, -ENOMEM, NO_MEMORY_TEXT);
		return;
	}
	c->q = *q;
	/* a cache has that name, so it fits */
	snprintf(c->q.name, sizeof(c->q.name), "%s", name);
	service_job_start(call, &c->job, make_work, make_reply);
}

static void make(struct rpc_call *call, const struct make_request *q, const char *name)
{
	Kmm__V1__CacheReply reply = KMM__V1__CACHE_REPLY__INIT;
	const char *why = "";
	int rc = make_try(call->kmmd->domain, call->session, q, name, &reply.cache, &reply.life,
	                  &why);

	make_refused(call->session, q, rc, why);
	if (rc == 0)
		rpc_reply(call, &reply.base);
	else if (rc == -EAGAIN)
		make_later(call, q, name);
	else
		service_refuse(call, rc, why);
}

void service_create_cache(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__CreateCacheRequest *q = (const Kmm__V1__CreateCacheRequest *)request;
	const struct make_request m = {
		.size = q->size, .align = q->align, .flags = q->flags, .ctor = q->ctor,
	};

	make(call, &m, q->name);
}

void service_open_cache(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__OpenCacheRequest *q = (const Kmm__V1__OpenCacheRequest *)request;
	const struct make_request m = { .open = true };

	make(call, &m, q->name);
}

/* ---- DestroyCache ---- */

struct destroy_call {
	struct service_job job; /* first */
	uint32_t id;
	uint64_t life;
	int rc;
	bool removed, again;
	char why[320];
};

static void destroy_work(struct service_job *j)
{
	struct destroy_call *c = (struct destroy_call *)j;
	const char *why = "the session has ended";

	c->rc = -ECANCELED;
	if (session_enter(j->pending.session)) {
		c->rc = cache_destroy(j->kmmd->domain, j->pending.session, c->id, c->life,
		                      &c->removed, &why);
		session_leave(j->pending.session);
	}
	if (c->rc < 0)
		snprintf(c->why, sizeof(c->why), "%s", why);
	service_job_done(j);
}

/* Idle threads have given back what they cached. */
static void destroy_flushed(struct service_job *j)
{
	service_job_submit(j, destroy_work);
}

static void destroy_reply(struct service_job *j)
{
	struct destroy_call *c = (struct destroy_call *)j;
	Kmm__V1__DestroyCacheReply reply = KMM__V1__DESTROY_CACHE_REPLY__INIT;

	if (service_job_cancelled(j)) {
		free(c);
		return;
	}
	if (c->rc == -EBUSY && !c->again) {
		c->again = true;
		service_job_flush(j, c->id, destroy_flushed);
		return;
	}
	reply.removed = c->removed;
	if (c->rc < 0)
		service_pending_refuse(&j->pending, c->rc, c->why);
	else
		rpc_pending_reply(&j->pending, &reply.base);
	free(c);
}

void service_destroy_cache(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__DestroyCacheRequest *q = (const Kmm__V1__DestroyCacheRequest *)request;
	struct destroy_call *c = calloc(1, sizeof(*c));

	if (!c) {
		service_refuse(call, -ENOMEM, NO_MEMORY_TEXT);
		return;
	}
	c->id = q->cache;
	c->life = q->life;
	service_job_start(call, &c->job, destroy_work, destroy_reply);
}

/* ---- ShrinkCache, Shrink ---- */

struct shrink_call {
	struct service_job job; /* first */
	uint32_t id;
	uint64_t life;
	/* as they were before: objects that were not in their slabs, frames that these gave back */
	uint64_t objects, frames;
	uint64_t objects_back, frames_back;
};

/* On each reactor. */
static void shrink_cpu(struct reactor *r, void *arg)
{
	struct shrink_call *s = arg;
	struct cache *c = cache_enter(r->kmmd->domain, s->id, s->life);

	if (!c)
		return;
	/* its magazines alone: giving slabs back is the worker's */
	slab_shrink(c->slab, r->index, UINT32_MAX);
	cache_leave(c);
}

static void shrink_work(struct service_job *j)
{
	struct shrink_call *s = (struct shrink_call *)j;
	struct cache *c = cache_enter(j->kmmd->domain, s->id, s->life);
	uint64_t left;

	if (c) {
		reclaim_begin(RECLAIM_PROACTIVE);
		cache_shrink(c);
		reclaim_end();
		left = cache_objects(c);
		s->objects_back = s->objects > left ? s->objects - left : 0;
		s->frames_back = cache_reaped(c) - s->frames;
		cache_leave(c);
	}
	service_job_done(j);
}

/* On the worker, before all that clients asked for: it goes behind that. */
static void shrink_rest(void *arg)
{
	service_job_resubmit(arg, shrink_work);
}

static void shrink_reply(struct service_job *j)
{
	struct shrink_call *s = (struct shrink_call *)j;
	Kmm__V1__ShrinkCacheReply reply = KMM__V1__SHRINK_CACHE_REPLY__INIT;
	struct log_about about;

	if (!service_job_cancelled(j)) {
		reply.pages = s->frames_back;
		reply.objects = s->objects_back;
		reply.asked = j->flush.asked;
		reply.silent = flush_silent(j->kmmd->sessions, &j->flush);
		about = log_about_pending(LOG_ADMIN, &j->pending);
		if (j->pending.method->demand == RPC_ADMIN)
			log_event(LOG_LEVEL_NOTICE, &about,
			          "shrank cache %u: %llu pages and %llu objects came back", s->id,
			          (unsigned long long)reply.pages, (unsigned long long)reply.objects);
		rpc_pending_reply(&j->pending, &reply.base);
	}
	free(s);
}

/* The sessions have answered. */
static void shrink_flushed(struct service_job *j)
{
	struct session *s = j->pending.session;

	if (s && !service_job_enter(s)) {
		service_pending_refuse(&j->pending, -EDQUOT, SERVICE_JOBS_TEXT);
		free(j);
	} else if (reactor_broadcast(j->kmmd, shrink_cpu, shrink_rest, j) < 0) {
		if (s)
			service_job_leave(s);
		service_pending_refuse(&j->pending, -ENOMEM, NO_MEMORY_TEXT);
		free(j);
	}
}

/* c is entered, and is left here. */
static void shrink(struct rpc_call *call, struct cache *c)
{
	struct shrink_call *s = calloc(1, sizeof(*s));

	if (s) {
		s->id = c->id;
		s->life = kmem_cache_life(c->slab);
		s->objects = cache_objects(c);
		s->frames = cache_reaped(c);
	}
	cache_leave(c);
	if (!s)
		service_refuse(call, -ENOMEM, NO_MEMORY_TEXT);
	else if (service_job_suspend(call, &s->job, shrink_reply))
		service_job_flush(&s->job, s->id, shrink_flushed);
}

void service_shrink_cache(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ShrinkCacheRequest *q = (const Kmm__V1__ShrinkCacheRequest *)request;
	struct cache *c = q->life ? cache_enter(call->kmmd->domain, q->cache, q->life) : NULL;

	if (c)
		shrink(call, c);
	else
		rpc_fail(call, STATUS_NOT_FOUND, ENOENT, "there is no cache %u (any more)",
		         q->cache);
}

void service_shrink_by_name(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ShrinkRequest *q = (const Kmm__V1__ShrinkRequest *)request;
	struct cache *c = cache_enter_name(call->kmmd->domain, q->cache);

	if (c)
		shrink(call, c);
	else
		rpc_fail(call, STATUS_NOT_FOUND, ENOENT,
		         "there is no cache \"%.63s\"; kmmctl slabinfo lists them", q->cache);
}
