/* SPDX-License-Identifier: MIT */
/*
 * Compact: an operator wants the free frames of HighMem and Movable together.
 *
 *   reactors   drain their per-CPU page lists, whose frames would stand in the way
 *   worker     zone after zone, from end to end, in slices of COMPACT_SLICE frames: each is a job
 *              behind all others' (worker.h), so that nobody waits for more than one of them
 *   reactor    an item a zone: what was looked at, what moved, how many pageblocks are free more
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/compact.h"
#include "daemon/log_about.h"
#include "daemon/service.h"
#include "daemon/wait_queue.h"
#include "proto/kmm.pb-c.h"

#define ZONES_MAX (MAX_NODES * 2u) /* HighMem, Movable */

struct compact_zone {
	struct compact_control cc;
	uint32_t before, after; /* score */
};

struct compact_call {
	struct service_job job; /* first */
	uint32_t n, at, next;   /* zones, done, sent */
	bool said;              /* in the log */
	struct compact_zone zone[ZONES_MAX];
};

static void compact_slice(struct worker_job *job)
{
	struct compact_call *c = (struct compact_call *)((char *)job -
	                                                 offsetof(struct compact_call, job.job));
	struct compact_zone *z = &c->zone[c->at];
	struct kmmd *kmmd = c->job.kmmd;
	struct mm_domain *zones = kmmd->domain->zones;

	if (c->at == c->n) {
		if (wait_queue_waiting(kmmd->domain->waiters))
			wait_queue_kick(kmmd->domain->waiters);
		service_job_done(&c->job);
		return;
	}
	if (!z->cc.free_pfn) {
		z->before = compaction_score(zones, z->cc.node, z->cc.zone);
		compaction_begin(&z->cc);
	}
	if (compaction_step(&z->cc, COMPACT_SLICE) != COMPACT_CONTINUE) {
		z->after = compaction_score(zones, z->cc.node, z->cc.zone);
		c->at++;
	}
	worker_submit_later(kmmd->worker, job);
}

static void compact_drain(struct reactor *r, void *arg)
{
	(void)arg;
	mm_drain_cpu(r->kmmd->domain->zones, r->index);
}

static void compact_drained(void *arg)
{
	struct compact_call *c = arg;

	c->job.job.run = compact_slice;
	worker_submit_later(c->job.kmmd->worker, &c->job.job);
}

static int compact_send(struct service_job *j, uint32_t i)
{
	const struct compact_zone *z = &((struct compact_call *)j)->zone[i];
	Kmm__V1__Compacted m = KMM__V1__COMPACTED__INIT;

	m.node = z->cc.node;
	m.zone = (char *)(uintptr_t)zone_names[z->cc.zone];
	m.migrate_scanned = z->cc.migrate_scanned;
	m.free_scanned = z->cc.free_scanned;
	m.isolated = z->cc.isolated;
	m.moved = z->cc.moved;
	m.failed = z->cc.failed;
	m.gained = z->cc.gained;
	m.score_before = z->before;
	m.score_after = z->after;
	return rpc_pending_item(&j->pending, &m.base) ? 1 : -1;
}

static void compact_say(struct compact_call *c)
{
	struct log_about about = log_about_pending(LOG_ADMIN, &c->job.pending);
	uint64_t moved = 0, failed = 0;

	c->said = true;
	for (uint32_t i = 0; i < c->n; i++) {
		moved += c->zone[i].cc.moved;
		failed += c->zone[i].cc.failed;
	}
	log_event(LOG_LEVEL_NOTICE, &about,
	          "compacted %u zones: %llu pages moved, %llu could not be moved", c->n,
	          (unsigned long long)moved, (unsigned long long)failed);
}

static void compact_reply(struct service_job *j)
{
	struct compact_call *c = (struct compact_call *)j;
	Kmm__V1__CompactRequest empty = KMM__V1__COMPACT_REQUEST__INIT;

	if (!c->said && !j->cancelled)
		compact_say(c);
	if (service_job_list(j, &c->next, c->n, false, compact_send, &empty.base))
		free(c);
}

/* The zones that the call is about. */
static void compact_zones(struct compact_call *c, struct domain *d)
{
	struct mm_zone_stats s;

	for (uint32_t node = 0; node < mm_nr_nodes(d->zones); node++)
		for (unsigned int zone = ZONE_HIGHMEM; zone <= ZONE_MOVABLE; zone++) {
			mm_zone_stats(d->zones, node, (enum zone_type)zone, &s);
			if (!s.managed)
				continue;
			c->zone[c->n].cc = compact_control_of(d, node, (enum zone_type)zone,
			                                      COMPACT_ORDER_ALL);
			c->zone[c->n++].cc.whole_zone = true;
		}
}

void service_compact(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__CompactRequest *q = (const Kmm__V1__CompactRequest *)request;
	struct compact_call *c;

	if (!service_domain_known(call, q->domain))
		return;
	c = calloc(1, sizeof(*c));
	if (!c) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	compact_zones(c, call->kmmd->domain);
	if (!service_job_suspend(call, &c->job, compact_reply))
		return;
	if (reactor_broadcast(call->kmmd, compact_drain, compact_drained, c) < 0) {
		service_pending_refuse(&c->job.pending, -ENOMEM, "the daemon is out of memory");
		free(c);
	}
}
