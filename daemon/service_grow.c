/* SPDX-License-Identifier: MIT */
/*
 * Grow: absent sections get memory, and all that were asked for go into service, or none.
 *
 *   populate   is there that much? then their memory, piece by piece (pool_hotplug.c); what fails gives
 *              back what came
 *   online     section by section: the word, the mark, the frames; then watermarks and limits
 *
 * The lowest ones, of each node in turn, or one by its number. See hotplug.c.
 */
#include <errno.h>
#include <stdlib.h>

#include "daemon/backing.h"
#include "daemon/domain.h"
#include "daemon/hotplug.h"
#include "daemon/log_about.h"
#include "daemon/pool.h"
#include "proto/kmm.pb-c.h"

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
		hotplug_next(&g->c, grow_online);
		return;
	}
	hotplug_limits(g->c.job.kmmd);
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
		hotplug_refuse(&g->c, -ECANCELED, "the daemon stops");
		g->at++; /* what came of this one goes, too */
		grow_undo(g);
		service_job_done(&g->c.job);
		return;
	}
	if (r < 0) {
		hotplug_refuse(&g->c, r, "the machine has no memory for section %u (%u of %u), somebody else took it: "
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
	hotplug_next(&g->c, g->at < g->n ? grow_populate : grow_online);
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
		hotplug_next(&g->c, grow_populate);
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
		hotplug_next(&g->c, grow_begin);
		return;
	} else {
		g = NULL; /* freed */
	}
	free(g);
	hotplug_end(call->kmmd);
}
