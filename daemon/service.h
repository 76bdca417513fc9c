/* SPDX-License-Identifier: MIT */
/*
 * What the services of the daemon share: handlers that live in files of their own, and how a
 * negative errno becomes a refusal.
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include "daemon/flush.h"
#include "daemon/rpc.h"
#include "daemon/worker.h"

/* Answers with the status of that negative errno and the text. */
void service_refuse(struct rpc_call *call, int rc, const char *why);
void service_pending_refuse(struct rpc_pending *p, int rc, const char *why);

/* A call whose work the worker does; embedded first in the service's object. */
struct service_job {
	struct rpc_pending pending;
	struct worker_job job;
	struct kmmd *kmmd;
	int cancelled;                        /* positive errno, 0: not; on the call's reactor */
	void (*work)(struct service_job *j);  /* on the worker; ends with service_job_done() */
	void (*reply)(struct service_job *j); /* on the call's reactor: answers, frees the object */
	struct flush_wait flush;
	void (*flushed)(struct service_job *j); /* NULL: no FLUSH is waited for */
};
/* Suspends the call and submits the work. The object is freed by free() when the call is refused.
 */
void service_job_start(struct rpc_call *call, struct service_job *j,
                       void (*work)(struct service_job *), void (*reply)(struct service_job *));
/* The same without submitting: for work that begins otherwise. False: refused and freed. */
bool service_job_suspend(struct rpc_call *call, struct service_job *j,
                         void (*reply)(struct service_job *));
/* After service_job_suspend(). */
void service_job_submit(struct service_job *j, void (*work)(struct service_job *));
/* The same when service_job_enter() was called for it before; from any thread. */
void service_job_resubmit(struct service_job *j, void (*work)(struct service_job *));
/* After service_job_suspend(), on the call's reactor: has the sessions give back what idle threads
 * cache of objects of a cache (0: of all), the caller's own excepted, which does so by itself. When
 * they have answered, or after FLUSH_WAIT_MS, then() runs there, unless the call was cancelled, which
 * is reply()'s. flush_silent(&j->flush) tells how many have not answered. */
void service_job_flush(struct service_job *j, uint32_t cache,
                       void (*then)(struct service_job *));
/* One more of the session's calls in the worker's queue; false: there are enough. Paired when it
 * leaves the queue. */
bool service_job_enter(struct session *s);
void service_job_leave(struct session *s);
#define SERVICE_JOBS_TEXT "four calls of this session wait for the worker already; try again later"
/* The zeroed object of a call that looks at all owner words, of which one may be under way on a
 * connection. NULL: there is one, or no memory, and the call is answered so. */
void *service_census_start(struct rpc_call *call, size_t size);
void service_job_done(struct service_job *j);
/* In reply(), of a list: sends items *next to n - 1 by send(), a slice of them, each time after what else
 * the reactor has to do and when the client has read what came before; then `end`. Or refuses, when the
 * call was cancelled or the work failed for want of memory. send(): 1 sent, 0 there is no such item (any
 * more), -1 the channel is gone. True: it is over, what the list was made of may go; false: reply() runs
 * again. */
bool service_job_list(struct service_job *j, uint32_t *next, uint32_t n, bool failed,
                      int (*send)(struct service_job *j, uint32_t i),
                      const ProtobufCMessage *end);
/* In reply(): the call was cancelled and is answered so. */
bool service_job_cancelled(struct service_job *j);

/* service_pages.c */
/* node as in the messages, + 1; false: there is none, and the call is answered so. */
bool service_node_known(struct rpc_call *call, uint32_t node);
void service_alloc_pages(struct rpc_call *call, const ProtobufCMessage *request);
void service_free_pages(struct rpc_call *call, const ProtobufCMessage *request);
void service_exchange(struct rpc_call *call, const ProtobufCMessage *request);
void service_collect(struct rpc_call *call, const ProtobufCMessage *request);
/* service_blocks.c */
void service_alloc_blocks(struct rpc_call *call, const ProtobufCMessage *request);
/* service_share.c */
void service_send(struct rpc_call *call, const ProtobufCMessage *request);
void service_hold(struct rpc_call *call, const ProtobufCMessage *request);
void service_release(struct rpc_call *call, const ProtobufCMessage *request);
void service_get_holders(struct rpc_call *call, const ProtobufCMessage *request);
/* service_caches.c */
void service_create_cache(struct rpc_call *call, const ProtobufCMessage *request);
void service_open_cache(struct rpc_call *call, const ProtobufCMessage *request);
void service_destroy_cache(struct rpc_call *call, const ProtobufCMessage *request);
void service_shrink_cache(struct rpc_call *call, const ProtobufCMessage *request);
void service_shrink_by_name(struct rpc_call *call, const ProtobufCMessage *request);
/* service_objects.c */
void service_alloc_object(struct rpc_call *call, const ProtobufCMessage *request);
void service_free_object(struct rpc_call *call, const ProtobufCMessage *request);
/* service_names.c */
void service_publish(struct rpc_call *call, const ProtobufCMessage *request);
void service_lookup(struct rpc_call *call, const ProtobufCMessage *request);
void service_unpublish(struct rpc_call *call, const ProtobufCMessage *request);
/* service_report.c */
void service_report(struct rpc_call *call, const ProtobufCMessage *request);
void service_reclaimed(struct rpc_call *call, const ProtobufCMessage *request);
/* service_list_areas.c, service_list_caches.c, service_leaks.c, service_list_names.c,
 * service_list_users.c */
void service_list_areas(struct rpc_call *call, const ProtobufCMessage *request);
void service_list_caches(struct rpc_call *call, const ProtobufCMessage *request);
void service_list_leaks(struct rpc_call *call, const ProtobufCMessage *request);
void service_list_names(struct rpc_call *call, const ProtobufCMessage *request);
void service_list_users(struct rpc_call *call, const ProtobufCMessage *request);
/* service_explain.c, service_advise.c, service_domains.c */
void service_explain(struct rpc_call *call, const ProtobufCMessage *request);
void service_advise(struct rpc_call *call, const ProtobufCMessage *request);
void service_list_domains(struct rpc_call *call, const ProtobufCMessage *request);
/* service_statistics.c */
void service_get_statistics(struct rpc_call *call, const ProtobufCMessage *request);
/* service_metrics.c */
void service_get_metrics(struct rpc_call *call, const ProtobufCMessage *request);
/* service_page.c, service_map.c */
void service_get_page(struct rpc_call *call, const ProtobufCMessage *request);
void service_get_map(struct rpc_call *call, const ProtobufCMessage *request);
/* service_grow.c, service_offline.c, service_list_sections.c */
void service_grow(struct rpc_call *call, const ProtobufCMessage *request);
void service_offline(struct rpc_call *call, const ProtobufCMessage *request);
void service_list_sections(struct rpc_call *call, const ProtobufCMessage *request);
/* service_settings.c */
void service_get_settings(struct rpc_call *call, const ProtobufCMessage *request);
void service_set(struct rpc_call *call, const ProtobufCMessage *request);
/* service_sections.c */
void service_get_sections(struct rpc_call *call, const ProtobufCMessage *request);
/* service_events.c */
void service_events(struct rpc_call *call, const ProtobufCMessage *request);
void service_flushed(struct rpc_call *call, const ProtobufCMessage *request);
/* service_inspector.c: false: it is none, and the call is answered so. */
bool service_domain_known(struct rpc_call *call, const char *name);
/* service_compact.c */
void service_compact(struct rpc_call *call, const ProtobufCMessage *request);
/* service_sessions.c */
void service_list_sessions(struct rpc_call *call, const ProtobufCMessage *request);
void service_get_session(struct rpc_call *call, const ProtobufCMessage *request);

#endif
