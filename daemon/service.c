/* SPDX-License-Identifier: MIT */
/*
 * What the services share.
 *
 * Jobs. A call that takes longer than a reactor may be busy is suspended; the worker does the work
 * and posts; the reply is made on the call's reactor. A deadline or a cancel that comes meanwhile
 * is noted and becomes the answer, so the object always lives until its work is done.
 *
 * One worker serves all: a session has at most JOBS_MAX calls in its queue or waiting for a FLUSH
 * (flush.c), and a connection one look at all owner words under way, also one that was cancelled and
 * is not done yet.
 */
#include "daemon/service.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/channel_private.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

#define LIST_SLICE 128u /* items of a list that leave at once */
#define JOBS_MAX 4u

void service_refuse(struct rpc_call *call, int rc, const char *why)
{
	rpc_fail(call, rpc_status_of(-rc), -rc, "%s", why);
}

void service_pending_refuse(struct rpc_pending *p, int rc, const char *why)
{
	rpc_pending_fail(p, rpc_status_of(-rc), -rc, "%s", why);
}

bool service_job_enter(struct session *s)
{
	/* relaxed: a count checked against a limit, nothing is published by it */
	if (atomic_fetch_add_explicit(&s->jobs, 1, memory_order_relaxed) < JOBS_MAX)
		return true;
	atomic_fetch_sub_explicit(&s->jobs, 1, memory_order_relaxed);
	return false;
}

void service_job_leave(struct session *s)
{
	atomic_fetch_sub_explicit(&s->jobs, 1, memory_order_relaxed);
}

static bool census_among(const struct rpc_pending *p)
{
	for (; p; p = p->next)
		if (p->method->number == KMM__V1__METHOD__INSPECTOR_LIST_SESSIONS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_GET_SESSION ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_LIST_CACHES ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_LIST_LEAKS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_LIST_NAMES ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_LIST_AREAS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_LIST_USERS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_GET_METRICS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_GET_SETTINGS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_EXPLAIN ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_ADVISE ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_GET_STATISTICS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_GET_PAGE ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_GET_MAP ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_LIST_SECTIONS ||
		    p->method->number == KMM__V1__METHOD__INSPECTOR_GET_POOL)
			return true;
	return false;
}

static bool census_admit(struct rpc_call *call)
{
	if (!census_among(call->channel->pending) && !census_among(call->channel->orphans))
		return true;
	service_refuse(call, -EDQUOT,
	               "a GetPool, GetStatistics, GetPage, GetMap, ListSessions, GetSession, "
	               "ListCaches, ListLeaks, ListNames, ListAreas, ListUsers, GetMetrics, "
	               "GetSettings, ListSections, Explain or Advise of this connection is under way already, "
	               "one at a time is allowed");
	return false;
}

void *service_census_start(struct rpc_call *call, size_t size)
{
	void *c;

	if (!census_admit(call))
		return NULL;
	c = calloc(1, size);
	if (!c)
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
	return c;
}

static struct service_job *job_of(struct rpc_pending *p)
{
	return (struct service_job *)p; /* its first member */
}

/* What waited for a FLUSH waits no more. */
static void flush_over(struct service_job *j)
{
	j->flushed = NULL;
	if (j->pending.session)
		service_job_leave(j->pending.session);
}

static void job_resume(struct rpc_pending *p)
{
	struct service_job *j = job_of(p);
	void (*then)(struct service_job *) = j->flushed;

	if (then)
		flush_over(j);
	if (then && !j->cancelled)
		then(j);
	else
		j->reply(j);
}

static void job_cancel(struct rpc_pending *p, int reason)
{
	struct service_job *j = job_of(p);

	j->cancelled = reason;
	if (!j->flushed || !flush_unwait(j->kmmd->sessions, &j->flush))
		return; /* resume will run */
	flush_over(j);
	j->reply(j);
}

static void job_run(struct worker_job *job)
{
	struct service_job *j = (struct service_job *)((char *)job -
	                                               offsetof(struct service_job, job));

	if (j->pending.session)
		service_job_leave(j->pending.session);
	j->work(j);
}

bool service_job_suspend(struct rpc_call *call, struct service_job *j,
                         void (*reply)(struct service_job *))
{
	j->kmmd = call->kmmd;
	j->reply = reply;
	if (rpc_suspend(call, &j->pending, job_resume, job_cancel) == 0)
		return true;
	free(j);
	return false;
}

void service_job_start(struct rpc_call *call, struct service_job *j,
                       void (*work)(struct service_job *), void (*reply)(struct service_job *))
{
	if (service_job_suspend(call, j, reply))
		service_job_submit(j, work);
}

void service_job_submit(struct service_job *j, void (*work)(struct service_job *))
{
	if (j->pending.session && !service_job_enter(j->pending.session)) {
		j->cancelled = EDQUOT;
		service_job_done(j);
		return;
	}
	service_job_resubmit(j, work);
}

void service_job_resubmit(struct service_job *j, void (*work)(struct service_job *))
{
	j->work = work;
	j->job.run = job_run;
	worker_submit_later(j->kmmd->worker, &j->job);
}

static void job_flushed(struct flush_wait *w)
{
	struct service_job *j = (struct service_job *)((char *)w -
	                                               offsetof(struct service_job, flush));

	rpc_pending_post(&j->pending);
}

void service_job_flush(struct service_job *j, uint32_t cache, void (*then)(struct service_job *))
{
	struct session *s = j->pending.session;

	if (s && !service_job_enter(s)) {
		j->cancelled = EDQUOT;
		j->reply(j);
		return;
	}
	j->flush.cache = cache;
	j->flush.but = s;
	j->flush.done = job_flushed;
	j->flushed = then;
	if (!flush_begin(j->kmmd->sessions, &j->flush)) {
		flush_over(j);
		then(j);
	}
}

void service_job_done(struct service_job *j)
{
	rpc_pending_post(&j->pending);
}

bool service_job_cancelled(struct service_job *j)
{
	if (!j->cancelled)
		return false;
	service_pending_refuse(&j->pending, -j->cancelled,
	                       j->cancelled == EDQUOT    ? SERVICE_JOBS_TEXT :
	                       j->cancelled == ETIMEDOUT ? "the deadline passed before it was done" :
	                                                   "the call was cancelled");
	return true;
}

bool service_job_list(struct service_job *j, uint32_t *next, uint32_t n, bool failed,
                      int (*send)(struct service_job *j, uint32_t i),
                      const ProtobufCMessage *end)
{
	uint32_t sent = 0;
	int r;

	if (service_job_cancelled(j))
		return true;
	if (failed) {
		service_pending_refuse(&j->pending, -ENOMEM, "the daemon is out of memory");
		return true;
	}
	while (*next < n && sent < LIST_SLICE) {
		r = send(j, (*next)++);
		if (r < 0)
			*next = n; /* cancelled, if it closed under this very item */
		else
			sent += (uint32_t)r;
	}
	if (*next < n) {
		rpc_pending_post_room(&j->pending);
		return false;
	}
	rpc_pending_reply(&j->pending, end);
	return true;
}
