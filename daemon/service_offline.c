/* SPDX-License-Identifier: MIT */
/*
 * Offline: a section goes out of service, and its memory back to the machine; as Linux takes memory out
 * (mm/memory_hotplug.c there).
 *
 *   worker     isolated: what is freed there stays there (mm/hotplug.c)
 *   reactor    sessions are asked for what idle threads cache (flush.c)
 *   reactors   drain; worker: drain (drain.c)
 *   worker     HighMem and Movable: pages move to other sections of the zone, in slices (mm/evacuate.c)
 *   worker     busy? Then it is told who has how much of it, and the section is as before
 *   worker     out of the zones; the mark, the word; watermarks and limits; the memory goes
 *
 * See hotplug.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/compact.h"
#include "daemon/drain.h"
#include "daemon/hotplug.h"
#include "daemon/log_about.h"
#include "daemon/pool.h"
#include "daemon/session.h"
#include "mm/slab.h"
#include "proto/kmm.pb-c.h"

#define NAMED_MAX 3u /* sessions that are said to have something */

struct offline_call {
	struct hotplug_call c; /* first */
	uint32_t section;
	struct section_info was;
	struct mm_isolation *isolation; /* NULL: not yet, or over */
	struct compact_control move;
	bool moving, asked;
	bool gone;    /* it is out of service */
	bool no_room; /* nothing was left for its pages to move to */
};

static struct offline_call *offline_of(struct worker_job *job)
{
	return (struct offline_call *)((char *)job - offsetof(struct offline_call, c.job.job));
}

/* The end; a section that is still isolated is as before. */
static void offline_undo(struct worker_job *job)
{
	struct offline_call *o = offline_of(job);

	if (o->isolation)
		o->isolation = mm_section_unisolate(o->isolation);
	service_job_done(&o->c.job);
}

/* Who has what of a section. */
struct holders {
	struct domain *d;
	uint64_t *of; /* by session, frames */
	uint64_t slabs, others;
	char cache[64]; /* one of those that have slabs there */
};

static void holders_count(struct holders *h, uint32_t section)
{
	pfn_t pfn = mm_section_start(h->d->mm, (section_id_t){ section });
	pfn_t end = pfn + (1u << mm_config(h->d->mm)->section_order);

	while (pfn < end) {
		struct slab_about slab;
		struct cache *cache;
		struct mm_block b;

		if (mm_block_get(h->d->mm, pfn, &b)) {
			if (b.tag && b.tag < session_table_size(h->d->kmmd->sessions))
				h->of[b.tag] += UINT64_C(1) << b.order;
			else
				h->others += UINT64_C(1) << b.order;
			pfn += (pfn_t)1 << b.order;
		} else if (slab_about_at(h->d->slabs, pfn, &slab) &&
		           (cache = cache_enter(h->d, kmem_cache_id(slab.cache), 0))) {
			uint32_t order = kmem_cache_geometry(cache->slab)->order;

			snprintf(h->cache, sizeof(h->cache), "%.63s", kmem_cache_record(cache->slab)->name);
			cache_leave(cache);
			h->slabs += UINT64_C(1) << order;
			pfn += (pfn_t)1 << order;
		} else {
			pfn++; /* free, or it comes or goes at this moment */
		}
	}
}

__attribute__((format(printf, 3, 4))) static void add(char *text, size_t size, const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + used, size - used, fmt, ap);
	va_end(ap);
}

/* Those with most, the most first. */
static void holders_say(struct holders *h, char *text, size_t size)
{
	uint32_t n = session_table_size(h->d->kmmd->sessions), said;
	uint64_t rest = h->others;

	for (said = 0; said <= NAMED_MAX; said++) {
		uint32_t most = 0;

		for (uint32_t id = 1; id < n; id++)
			if (h->of[id] > h->of[most])
				most = id;
		if (!most)
			break;
		if (said < NAMED_MAX) {
			const struct session *s = session_by_id(h->d->kmmd->sessions, most);

			add(text, size, "%s%" PRIu64 " by session %" PRIu32 " (%s, process %d)",
			    *text ? ", " : "", h->of[most], most, s->name, (int)s->pid);
			h->of[most] = 0;
		}
	}
	for (uint32_t id = 1; id < n; id++)
		rest += h->of[id];
	if (h->slabs)
		add(text, size, "%s%" PRIu64 " by objects (%s; kmmctl leaks says whose)",
		    *text ? ", " : "", h->slabs, h->cache);
	if (rest)
		add(text, size, "%s%" PRIu64 " by others", *text ? ", " : "", rest);
}

static void offline_busy(struct offline_call *o, uint64_t busy)
{
	struct domain *d = o->c.job.kmmd->domain;
	struct holders h = { .d = d };
	char text[300] = "";

	h.of = calloc(session_table_size(d->kmmd->sessions), sizeof(*h.of));
	if (h.of) {
		holders_count(&h, o->section);
		holders_say(&h, text, sizeof(text));
	}
	free(h.of);
	hotplug_refuse(&o->c, -EBUSY,
	       "%" PRIu64 " of the %u pages of section %u are in use: %s; it stays as it is%s", busy,
	       1u << mm_config(d->mm)->section_order, o->section,
	       *text ? text : "on their way from one owner to another",
	       o->no_room ? "; the zone has no free pages left that they could move to; bring sections of it back "
	                    "first (kmmctl online)" :
	                    ", try again when they are given back");
}

static void offline_commit(struct offline_call *o)
{
	struct domain *d = o->c.job.kmmd->domain;

	if (mm_domain_offline(o->isolation) < 0) {
		/* It was free, and nobody is given any of it: fsck would tell. */
		hotplug_refuse(&o->c, -EBUSY, "section %u is in use again; it stays as it is", o->section);
		return;
	}
	o->isolation = NULL;
	o->gone = true;
	pool_section_mark(o->c.job.kmmd->pool, o->section, false);
	mm_section_set(d->mm, (section_id_t){ o->section }, SECTION_ABSENT, 0, o->was.backing,
	               o->was.epoch + 1);
	hotplug_limits(o->c.job.kmmd);
	pool_section_release(o->c.job.kmmd->pool, o->section);
}

static void offline_check(struct offline_call *o)
{
	uint64_t busy = mm_section_busy(o->isolation);

	if (busy)
		offline_busy(o, busy);
	else
		offline_commit(o);
	offline_undo(&o->c.job.job);
}

static void offline_move(struct worker_job *job)
{
	struct offline_call *o = offline_of(job);
	struct domain *d = o->c.job.kmmd->domain;
	enum compact_result r;

	if (!o->moving) {
		o->move = compact_control_of(d, o->was.node, (enum zone_type)o->was.zone,
		                             COMPACT_ORDER_ALL);
		compaction_evacuate_begin(&o->move, (section_id_t){ o->section });
		o->moving = true;
	}
	r = compaction_evacuate_step(&o->move, COMPACT_SLICE);
	o->no_room = r == COMPACT_PARTIAL_SKIPPED;
	if (r == COMPACT_CONTINUE)
		hotplug_next(&o->c, offline_move);
	else
		offline_check(o);
}

static void offline_drain(struct reactor *r, void *arg)
{
	(void)arg;
	drain_reactor(r);
}

static void offline_drained(void *arg)
{
	struct offline_call *o = arg;
	struct drained n;

	drain_domain(o->c.job.kmmd->domain, &n);
	if (o->was.zone >= ZONE_HIGHMEM)
		hotplug_next(&o->c, offline_move);
	else
		offline_check(o);
}

/* The sessions have answered. */
static void offline_flushed(struct service_job *j)
{
	struct offline_call *o = (struct offline_call *)j;

	if (reactor_broadcast(j->kmmd, offline_drain, offline_drained, o) == 0)
		return;
	hotplug_refuse(&o->c, -ENOMEM, "the daemon is out of memory");
	hotplug_next(&o->c, offline_undo);
}

static bool last_section(const struct mm *mm)
{
	struct section_info info;
	uint32_t n = 0;

	for (uint32_t s = 0; s < mm_nr_sections(mm); s++) {
		mm_section_get(mm, (section_id_t){ s }, &info);
		n += info.state == SECTION_ONLINE;
	}
	return n <= 1;
}

static void offline_isolate(struct worker_job *job)
{
	struct offline_call *o = offline_of(job);
	struct domain *d = o->c.job.kmmd->domain;
	int r;

	mm_section_get(d->mm, (section_id_t){ o->section }, &o->was);
	if (o->was.state == SECTION_METADATA)
		hotplug_refuse(&o->c, -EINVAL, "section %u holds the pool's own tables and must stay", o->section);
	else if (o->was.state != SECTION_ONLINE)
		hotplug_refuse(&o->c, -EINVAL, "section %u is out of service already (kmmctl sections)", o->section);
	else if (last_section(d->mm))
		hotplug_refuse(&o->c, -EINVAL, "section %u is the last that has memory for anybody", o->section);
	else if ((r = mm_section_isolate(&o->isolation, d->zones, (section_id_t){ o->section })) < 0)
		hotplug_refuse(&o->c, r, "section %u cannot be isolated: %s", o->section, strerror(-r));
	service_job_done(&o->c.job);
}

static void offline_answer(struct offline_call *o)
{
	struct service_job *j = &o->c.job;
	const struct pool *p = j->kmmd->pool;
	Kmm__V1__OfflineReply reply = KMM__V1__OFFLINE_REPLY__INIT;
	struct mm_zone_stats zone;
	struct log_about about = log_about_pending(LOG_ADMIN, &j->pending);

	reply.section = o->section;
	reply.frames = UINT64_C(1) << p->section_order;
	reply.moved = o->move.moved;
	reply.present = pool_present(p);
	reply.absent = p->frames - reply.present;
	reply.free = mm_nr_free(j->kmmd->domain->zones);
	mm_zone_stats(j->kmmd->domain->zones, o->was.node, (enum zone_type)o->was.zone, &zone);
	if (!zone.managed)
		reply.empty = (char *)(uintptr_t)zone_names[o->was.zone];
	hotplug_end(j->kmmd);
	if (o->gone)
		log_event(LOG_LEVEL_NOTICE, &about,
		          "section %u went out of service (%llu pages moved): the pool has %llu MiB",
		          o->section, (unsigned long long)o->move.moved,
		          (unsigned long long)reply.present >> (20 - PAGE_SHIFT));
	if (service_job_cancelled(j))
		;
	else if (!o->gone)
		service_pending_refuse(&j->pending, o->c.result, o->c.why);
	else
		rpc_pending_reply(&j->pending, &reply.base);
	free(o);
}

/* Twice: when it is isolated, and at the end. */
static void offline_reply(struct service_job *j)
{
	struct offline_call *o = (struct offline_call *)j;

	if (!o->isolation) {
		offline_answer(o);
	} else if (j->cancelled) {
		hotplug_next(&o->c, offline_undo);
	} else if (!o->asked) {
		o->asked = true;
		service_job_flush(j, 0, offline_flushed);
	}
}

void service_offline(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__OfflineRequest *q = (const Kmm__V1__OfflineRequest *)request;
	uint32_t n = mm_nr_sections(call->kmmd->pool->mm);
	struct offline_call *o;

	if (q->section >= n) {
		rpc_fail(call, STATUS_OUT_OF_RANGE, ERANGE,
		         "there is no section %u; the pool has 0 to %u (kmmctl sections)", q->section, n - 1);
		return;
	}
	if (!hotplug_begin(call))
		return;
	o = calloc(1, sizeof(*o));
	if (!o) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
	} else {
		o->section = q->section;
		if (service_job_suspend(call, &o->c.job, offline_reply)) {
			hotplug_next(&o->c, offline_isolate);
			return;
		}
	}
	hotplug_end(call->kmmd);
}
