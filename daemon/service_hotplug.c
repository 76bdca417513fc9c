/* SPDX-License-Identifier: MIT */
/*
 * Grow, Offline: memory for the pool, and a section's back to the machine, while it is in use.
 *
 * Grow makes absent sections present, and puts all that were asked for into service, or none:
 *
 *   worker       their memory, piece by piece (pool_hotplug.c), each a job behind all others'
 *   worker       section by section: the word, the mark, the frames; then watermarks and limits
 *
 * Offline, as Linux takes memory out (mm/memory_hotplug.c there): nobody is given any of the section,
 * what is cached comes back, what can move moves, and then all of it must be free.
 *
 *   worker       isolated: what is freed there stays there (mm/hotplug.c)
 *   reactor      sessions are asked for what idle threads cache (flush.c)
 *   reactors     drain; worker: drain (drain.c)
 *   worker       HighMem and Movable: pages move to other sections of the zone, in slices
 *   worker       busy? Then it is told who has how much of it, and the section is as before
 *   worker       out of the zones; the mark, the word; watermarks and limits; the memory goes
 *
 * A death on the way leaves each section online and free to use, or absent, with memory perhaps that the next
 * start gives back. Whoever cancels has the answer when it is over: what has begun ends by itself, but for a
 * daemon that stops.
 *
 * One of them at a time: kmmd->hotplug. All of it is the worker's but where it says otherwise.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/backing.h"
#include "daemon/cache.h"
#include "daemon/compact.h"
#include "daemon/depot.h"
#include "daemon/drain.h"
#include "daemon/high.h"
#include "daemon/log_about.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "daemon/wait_queue.h"
#include "mm/slab.h"
#include "proto/kmm.pb-c.h"

#define WHY_MAX 480u
#define NAMED_MAX 3u /* sessions that are said to have something */

/* What both have in common. */
struct hotplug_call {
	struct service_job job; /* first */
	int result;             /* 0, or a negative errno and why */
	char why[WHY_MAX];
};

/* False: one is under way, and the call is answered so. */
static bool hotplug_begin(struct rpc_call *call)
{
	/* acquire: pairs with the release in hotplug_end() */
	if (!atomic_exchange_explicit(&call->kmmd->hotplug, true, memory_order_acquire))
		return true;
	service_refuse(call, -EBUSY, "sections are coming or going already; try again when that is done");
	return false;
}

static void hotplug_end(struct kmmd *k)
{
	if (wait_queue_waiting(k->domain->waiters))
		wait_queue_kick(k->domain->waiters);
	/* release: pairs with the exchange above */
	atomic_store_explicit(&k->hotplug, false, memory_order_release);
}

__attribute__((format(printf, 3, 4))) static void refuse(struct hotplug_call *c, int result,
                                                         const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	c->result = result;
}

/* Submits the next step, behind whoever waits for the worker. */
static void next_step(struct hotplug_call *c, void (*run)(struct worker_job *job))
{
	c->job.job.run = run;
	worker_submit_later(c->job.kmmd->worker, &c->job.job);
}

/* Watermarks, reserves, and what depots may keep go by what there is. */
static void limits_follow(struct kmmd *k)
{
	mm_domain_ready(k->domain->zones);
	depot_limit(k->domain->depot, pool_present(k->pool) / DOMAIN_DEPOT_PART);
}

/* ---- Grow ---- */

struct grow_call {
	struct hotplug_call c; /* first */
	uint32_t n, at;        /* sections wanted, populated */
	struct pool_section now;
	struct {
		uint32_t section;
		uint8_t backing; /* what it got */
	} s[MAX_SECTIONS];
};

static struct grow_call *grow_of(struct worker_job *job)
{
	return (struct grow_call *)((char *)job - offsetof(struct grow_call, c.job.job));
}

/* Those that came give their memory back. */
static void grow_undo(struct grow_call *g)
{
	while (g->at > 0)
		pool_section_release(g->c.job.kmmd->pool, g->s[--g->at].section);
}

/* A section goes into service; after the last one the limits follow. */
static void grow_online(struct worker_job *job)
{
	struct grow_call *g = grow_of(job);
	struct domain *d = g->c.job.kmmd->domain;
	section_id_t s = { g->s[--g->at].section };
	struct section_info info;

	mm_section_get(d->mm, s, &info);
	mm_section_set(d->mm, s, SECTION_ONLINE, d->id, g->s[g->at].backing, info.epoch + 1);
	pool_section_mark(g->c.job.kmmd->pool, s.nr, true);
	mm_domain_online(d->zones, s); /* cannot fail: its frames are nobody's */
	if (g->at > 0) {
		next_step(&g->c, grow_online);
		return;
	}
	limits_follow(g->c.job.kmmd);
	service_job_done(&g->c.job);
}

static void grow_populate(struct worker_job *job)
{
	struct grow_call *g = grow_of(job);
	struct kmmd *k = g->c.job.kmmd;
	int r;

	g->now.section = g->s[g->at].section;
	r = pool_section_populate(k->pool, &g->now);
	/* acquire: pairs with the release in main_stop() */
	if (r >= 0 && atomic_load_explicit(&k->stopping, memory_order_acquire)) {
		refuse(&g->c, -ECANCELED, "the daemon stops");
		g->at++; /* what came of this one goes, too */
		grow_undo(g);
		service_job_done(&g->c.job);
		return;
	}
	if (r < 0) {
		refuse(&g->c, r, "the machine has no memory for section %u (%u of %u), somebody else took it: "
		       "nothing was changed",
		       g->now.section, g->at + 1, g->n);
		grow_undo(g);
		service_job_done(&g->c.job);
		return;
	}
	if (r == 0) {
		g->s[g->at++].backing = (uint8_t)pool_section_backing_tag(k->pool, g->now.section);
		g->now = (struct pool_section){ .done = 0 };
	}
	next_step(&g->c, g->at < g->n ? grow_populate : grow_online);
}

/* Before the first: a machine that has not that much is not brought to its limits. */
static void grow_begin(struct worker_job *job)
{
	struct grow_call *g = grow_of(job);
	uint64_t section[MAX_SECTIONS / 64] = { 0 };
	int r;

	for (uint32_t i = 0; i < g->n; i++)
		section[g->s[i].section / 64] |= UINT64_C(1) << (g->s[i].section % 64);
	r = pool_sections_fit(g->c.job.kmmd->pool, section, g->c.why, sizeof(g->c.why));
	if (r == 0) {
		next_step(&g->c, grow_populate);
		return;
	}
	g->c.result = r;
	service_job_done(&g->c.job);
}

static void grow_reply(struct service_job *j)
{
	struct grow_call *g = (struct grow_call *)j;
	const struct pool *p = j->kmmd->pool;
	Kmm__V1__GrowReply reply = KMM__V1__GROW_REPLY__INIT;
	struct log_about about = log_about_pending(LOG_ADMIN, &j->pending);

	reply.sections = g->n;
	reply.frames = (uint64_t)g->n << p->section_order;
	reply.present = pool_present(p);
	reply.absent = p->frames - reply.present;
	reply.free = mm_nr_free(j->kmmd->domain->zones);
	hotplug_end(j->kmmd);
	if (!g->c.result)
		log_event(LOG_LEVEL_NOTICE, &about, "the pool grew by %u section%s to %llu MiB", g->n,
		          g->n == 1 ? "" : "s",
		          (unsigned long long)reply.present >> (20 - PAGE_SHIFT));
	if (service_job_cancelled(j))
		;
	else if (g->c.result)
		service_pending_refuse(&j->pending, g->c.result, g->c.why);
	else
		rpc_pending_reply(&j->pending, &reply.base);
	free(g);
}

/* The lowest absent section of that node from `from` on; the number of sections: there is none. */
static uint32_t absent_next(const struct mm *mm, uint32_t node, uint32_t from)
{
	struct section_info info;

	for (; from < mm_nr_sections(mm); from++) {
		mm_section_get(mm, (section_id_t){ from }, &info);
		if (info.state == SECTION_ABSENT && info.node == node)
			break;
	}
	return from;
}

/* The lowest absent sections, of each node in turn: how many there are, at most as many as wanted. */
static uint32_t grow_choose(struct grow_call *g, const struct mm *mm, uint64_t wanted)
{
	uint32_t nodes = mm_config(mm)->nodes, n = 0, idle = 0, from[MAX_NODES] = { 0 };

	for (uint32_t node = 0; n < wanted && idle < nodes; node = (node + 1) % nodes) {
		uint32_t s = absent_next(mm, node, from[node]);

		idle = s < mm_nr_sections(mm) ? 0 : idle + 1;
		if (idle)
			continue;
		g->s[n++].section = s;
		from[node] = s + 1;
	}
	return n;
}

static uint32_t grow_one(struct grow_call *g, const struct mm *mm, uint32_t section)
{
	struct section_info info;

	if (section >= mm_nr_sections(mm))
		return 0;
	mm_section_get(mm, (section_id_t){ section }, &info);
	g->s[0].section = section;
	return info.state == SECTION_ABSENT;
}

/* No section, or too many. */
static void grow_refuse(struct rpc_call *call, uint64_t wanted)
{
	const struct pool *p = call->kmmd->pool;
	uint64_t absent = p->frames - pool_present(p);
	char can[32], size[32];

	backing_size_text(can, absent << PAGE_SHIFT);
	backing_size_text(size, UINT64_C(1) << (p->section_order + PAGE_SHIFT));
	if (wanted == 0)
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "by how much? A size of at least a section, which is %s here", size);
	else if (absent == 0)
		rpc_fail(call, STATUS_OUT_OF_RANGE, ERANGE,
		         "the pool has all the memory that it has room for: [pool] max_size says how much "
		         "a pool can grow to, when it is made");
	else
		rpc_fail(call, STATUS_OUT_OF_RANGE, ERANGE,
		         "the pool has room for %s more, in sections of %s", can, size);
}

void service_grow(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__GrowRequest *q = (const Kmm__V1__GrowRequest *)request;
	const struct pool *p = call->kmmd->pool;
	uint64_t size = UINT64_C(1) << (p->section_order + PAGE_SHIFT);
	uint64_t wanted = q->bytes / size + (q->bytes % size != 0);
	struct grow_call *g;

	if (!hotplug_begin(call))
		return;
	g = calloc(1, sizeof(*g));
	if (g && q->section)
		g->n = grow_one(g, p->mm, q->section - 1);
	else if (g)
		g->n = grow_choose(g, p->mm, wanted);
	if (!g)
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
	else if (q->section && !g->n)
		rpc_fail(call, STATUS_FAILED_PRECONDITION, EINVAL,
		         "section %u is none that has no memory (kmmctl sections)", q->section - 1);
	else if (!q->section && (!wanted || g->n < wanted))
		grow_refuse(call, wanted);
	else if (service_job_suspend(call, &g->c.job, grow_reply)) {
		next_step(&g->c, grow_begin);
		return;
	} else {
		g = NULL; /* freed */
	}
	free(g);
	hotplug_end(call->kmmd);
}

/* ---- Offline ---- */

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
	refuse(&o->c, -EBUSY,
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
		refuse(&o->c, -EBUSY, "section %u is in use again; it stays as it is", o->section);
		return;
	}
	o->isolation = NULL;
	o->gone = true;
	pool_section_mark(o->c.job.kmmd->pool, o->section, false);
	mm_section_set(d->mm, (section_id_t){ o->section }, SECTION_ABSENT, 0, o->was.backing,
	               o->was.epoch + 1);
	limits_follow(o->c.job.kmmd);
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
		next_step(&o->c, offline_move);
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
		next_step(&o->c, offline_move);
	else
		offline_check(o);
}

/* The sessions have answered. */
static void offline_flushed(struct service_job *j)
{
	struct offline_call *o = (struct offline_call *)j;

	if (reactor_broadcast(j->kmmd, offline_drain, offline_drained, o) == 0)
		return;
	refuse(&o->c, -ENOMEM, "the daemon is out of memory");
	next_step(&o->c, offline_undo);
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
		refuse(&o->c, -EINVAL, "section %u holds the pool's own tables and must stay", o->section);
	else if (o->was.state != SECTION_ONLINE)
		refuse(&o->c, -EINVAL, "section %u is out of service already (kmmctl sections)", o->section);
	else if (last_section(d->mm))
		refuse(&o->c, -EINVAL, "section %u is the last that has memory for anybody", o->section);
	else if ((r = mm_section_isolate(&o->isolation, d->zones, (section_id_t){ o->section })) < 0)
		refuse(&o->c, r, "section %u cannot be isolated: %s", o->section, strerror(-r));
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
		next_step(&o->c, offline_undo);
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
			next_step(&o->c, offline_isolate);
			return;
		}
	}
	hotplug_end(call->kmmd);
}
