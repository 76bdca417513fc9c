/* SPDX-License-Identifier: MIT */
/*
 * kmm.v1.Admin: checking, draining, killing.
 *
 *   Fsck          all reactors stand still while the worker walks every structure
 *   DropCaches    all that is cached goes to the zones (drain.c)
 *   Shrink        one cache, by name (service_caches.c)
 *   Grow, Offline sections come and go (hotplug.c)
 *   KillSession   SIGKILL through the pidfd; answered when the session is swept
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/drain.h"
#include "daemon/log_about.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "daemon/wait_queue.h"
#include "mm/vmstat.h"
#include "proto/kmm.pb-c.h"

/* ---- Fsck ---- */

#define FINDINGS_MAX 1000u
#define FINDING_TEXT 300u

struct fsck_call {
	struct service_job job; /* first */
	size_t found;           /* may exceed FINDINGS_MAX */
	char text[FINDINGS_MAX][FINDING_TEXT];
};

static void fsck_note(void *ctx, const char *text)
{
	struct fsck_call *c = ctx;

	if (c->found < FINDINGS_MAX)
		snprintf(c->text[c->found], FINDING_TEXT, "%s", text);
	c->found++;
}

static void fsck_walk(void *arg)
{
	struct fsck_call *c = arg;
	struct domain *d = c->job.kmmd->domain;

	mm_validate(d->zones, fsck_note, c);
	slab_validate(d->slabs, fsck_note, c);
	domain_validate(d, fsck_note, c);
	cache_validate(d, fsck_note, c);
	name_validate(d->names, fsck_note, c);
}

static void fsck_done(void *arg)
{
	service_job_done(&((struct fsck_call *)arg)->job);
}

static void fsck_reply(struct service_job *j)
{
	struct fsck_call *c = (struct fsck_call *)j;
	Kmm__V1__FsckRequest empty = KMM__V1__FSCK_REQUEST__INIT;
	Kmm__V1__Finding item = KMM__V1__FINDING__INIT;
	struct log_about about;
	char more[80];
	size_t i;

	if (service_job_cancelled(j)) {
		free(c);
		return;
	}
	for (i = 0; i < c->found && i < FINDINGS_MAX; i++) {
		item.text = c->text[i];
		rpc_pending_item(&j->pending, &item.base);
	}
	if (c->found > FINDINGS_MAX) {
		snprintf(more, sizeof(more), "%zu further findings are left out",
		         c->found - FINDINGS_MAX);
		item.text = more;
		rpc_pending_item(&j->pending, &item.base);
	}
	about = log_about_pending(LOG_ADMIN, &j->pending);
	if (c->found)
		log_event(LOG_LEVEL_ERROR, &about, "fsck: %zu findings; the first: %s", c->found,
		          c->text[0]);
	else
		log_event(LOG_LEVEL_INFO, &about, "fsck: no findings");
	rpc_pending_reply(&j->pending, &empty.base);
	free(c);
}

static void handle_fsck(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct fsck_call *c = calloc(1, sizeof(*c));

	(void)request;
	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	if (!service_job_suspend(call, &c->job, fsck_reply))
		return;
	if (reactor_rendezvous(call->kmmd, fsck_walk, fsck_done, c) < 0) {
		service_pending_refuse(&c->job.pending, -ENOMEM, "the daemon is out of memory");
		free(c);
	}
}

/* ---- DropCaches ---- */

struct drop_call {
	struct service_job job; /* first */
	_Atomic uint64_t per_cpu;
	struct drained drained;
	/* as they were before: objects that were not in their slabs, frames that slabs gave back */
	uint64_t objects, slabs;
	uint64_t objects_back;
};

/* On each reactor. */
static void drop_drain(struct reactor *r, void *arg)
{
	struct drop_call *c = arg;

	/* relaxed: read after the broadcast's own ordering */
	atomic_fetch_add_explicit(&c->per_cpu, drain_reactor(r), memory_order_relaxed);
}

/* On the worker. */
static void drop_collect(void *arg)
{
	struct drop_call *c = arg;
	struct domain *d = c->job.kmmd->domain;
	uint64_t left;

	drain_domain(d, &c->drained);
	vm_count(d->zones, VM_DROP_PAGECACHE, 1);
	vm_count(d->zones, VM_DROP_SLAB, 1);
	c->slabs = slab_frames_reaped(d->slabs) - c->slabs;
	left = cache_objects_all(d);
	c->objects_back = c->objects > left ? c->objects - left : 0;
	service_job_done(&c->job);
}

static void drop_reply(struct service_job *j)
{
	struct drop_call *c = (struct drop_call *)j;
	Kmm__V1__DropCachesReply reply = KMM__V1__DROP_CACHES_REPLY__INIT;
	struct log_about about;

	if (!service_job_cancelled(j)) {
		reply.per_cpu = atomic_load_explicit(&c->per_cpu, memory_order_relaxed);
		reply.slabs = c->slabs;
		reply.depot = c->drained.depot;
		reply.threads = c->drained.threads;
		reply.objects = c->objects_back;
		reply.asked = j->flush.asked;
		reply.silent = flush_silent(j->kmmd->sessions, &j->flush);
		about = log_about_pending(LOG_ADMIN, &j->pending);
		log_event(LOG_LEVEL_NOTICE, &about,
		          "dropped caches: %llu pages of CPUs, %llu of the depot, %llu of threads, "
		          "%llu of slabs, %llu objects",
		          (unsigned long long)reply.per_cpu, (unsigned long long)reply.depot,
		          (unsigned long long)reply.threads, (unsigned long long)reply.slabs,
		          (unsigned long long)reply.objects);
		rpc_pending_reply(&j->pending, &reply.base);
	}
	/* What was drained by the reactors may serve who waits. */
	if (wait_queue_waiting(j->kmmd->domain->waiters))
		wait_queue_kick(j->kmmd->domain->waiters);
	free(c);
}

/* The sessions have answered. */
static void drop_flushed(struct service_job *j)
{
	if (reactor_broadcast(j->kmmd, drop_drain, drop_collect, j) == 0)
		return;
	service_pending_refuse(&j->pending, -ENOMEM, "the daemon is out of memory");
	free(j);
}

static void handle_drop_caches(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct drop_call *c = calloc(1, sizeof(*c));
	struct domain *d = call->kmmd->domain;

	(void)request;
	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	c->objects = cache_objects_all(d);
	c->slabs = slab_frames_reaped(d->slabs);
	if (service_job_suspend(call, &c->job, drop_reply))
		service_job_flush(&c->job, 0, drop_flushed);
}

/* ---- KillSession ---- */

struct kill_call {
	struct rpc_pending pending; /* first */
	struct session_end_wait wait;
	struct session *s;
	int cancelled;
};

static void kill_swept(struct session_end_wait *w)
{
	struct kill_call *c = (struct kill_call *)((char *)w - offsetof(struct kill_call, wait));

	rpc_pending_post(&c->pending);
}

static void kill_refuse(struct kill_call *c, int reason)
{
	rpc_pending_fail(&c->pending, rpc_status_of(reason), reason,
	                 "the process of session %u was sent SIGKILL but has not ended yet",
	                 c->s->id);
	free(c);
}

static void kill_resume(struct rpc_pending *p)
{
	struct kill_call *c = (struct kill_call *)p;
	Kmm__V1__KillSessionReply reply = KMM__V1__KILL_SESSION_REPLY__INIT;

	rpc_pending_reply(p, &reply.base);
	free(c);
}

static void kill_cancel(struct rpc_pending *p, int reason)
{
	struct kill_call *c = (struct kill_call *)p;

	if (session_end_unwait(c->s, &c->wait))
		kill_refuse(c, reason);
}

static void handle_kill_session(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__KillSessionRequest *q = (const Kmm__V1__KillSessionRequest *)request;
	struct session *s = session_by_id(call->kmmd->sessions, q->session);
	struct log_about about;
	struct kill_call *c;
	int r;

	if (!s || !session_enter(s)) {
		rpc_fail(call, STATUS_NOT_FOUND, ENOENT,
		         "there is no live session %u; kmmctl sessions lists them", q->session);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		goto leave;
	}
	if (rpc_suspend(call, &c->pending, kill_resume, kill_cancel) < 0) {
		free(c);
		goto leave;
	}
	c->s = s;
	c->wait.done = kill_swept;
	session_end_wait(s, &c->wait);
	r = session_kill(s);
	if (r == 0) {
		about = log_about_call(LOG_ADMIN, call);
		log_event(LOG_LEVEL_NOTICE, &about, "kills session %u (%s, process %d, user %u)",
		          s->id, s->name, (int)s->pid, s->uid);
		goto leave;
	}
	/* It may have died by itself meanwhile: then the wait is over or will be. */
	if (r == -ESRCH && s->pidfd >= 0)
		goto leave;
	session_end_unwait(s, &c->wait); /* cannot have been told: s is entered */
	rpc_pending_fail(&c->pending, rpc_status_of(-r), -r,
	                 "the process of session %u cannot be killed: %s", q->session,
	                 r == -ESRCH ? "it is not known (another pid namespace?)" : strerror(-r));
	free(c);
leave:
	session_leave(s);
}

/* ---- the table ---- */

#define METHOD(NUMBER, NAME, STREAM, REQUEST, REPLY, HANDLER)                            \
	{                                                                                \
		.number = KMM__V1__METHOD__ADMIN_##NUMBER, .name = "kmm.v1.Admin/" NAME, \
		.demand = RPC_ADMIN, .streaming = STREAM,                                \
		.request = &kmm__v1__##REQUEST##_request__descriptor,                    \
		.reply = &kmm__v1__##REPLY##__descriptor, .handle = HANDLER              \
	}

const struct rpc_method service_admin[] = {
	METHOD(FSCK, "Fsck", true, fsck, finding, handle_fsck),
	METHOD(DROP_CACHES, "DropCaches", false, drop_caches, drop_caches_reply,
	       handle_drop_caches),
	METHOD(KILL_SESSION, "KillSession", false, kill_session, kill_session_reply,
	       handle_kill_session),
	METHOD(SHRINK, "Shrink", false, shrink, shrink_cache_reply, service_shrink_by_name),
	METHOD(COMPACT, "Compact", true, compact, compacted, service_compact),
	METHOD(GROW, "Grow", false, grow, grow_reply, service_grow),
	METHOD(OFFLINE, "Offline", false, offline, offline_reply, service_offline),
	METHOD(SET, "Set", false, set, set_reply, service_set),
	{ .handle = NULL },
};
