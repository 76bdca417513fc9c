/* SPDX-License-Identifier: MIT */
/*
 * kmm.v1.Inspector: the table of its methods, and what shows the pool: its sums, its zones, its
 * address ranges. What shows sessions and caches is in service_sessions.c, service_list_caches.c and
 * service_leaks.c.
 *
 * Sums over owner words need a walk of all of them, which the worker makes. Zones and resources are
 * read where the call runs; each stream is bounded (nodes times zones; regions).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/depot.h"
#include "daemon/domain.h"
#include "daemon/name.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "daemon/wait_queue.h"
#include "proto/kmm.pb-c.h"

static void end_stream(struct rpc_call *call)
{
	Kmm__V1__ListZonesRequest empty = KMM__V1__LIST_ZONES_REQUEST__INIT;

	rpc_reply(call, &empty.base);
}

bool service_domain_known(struct rpc_call *call, const char *name)
{
	if (!*name || strcmp(name, call->kmmd->domain->name) == 0)
		return true;
	rpc_fail(call, STATUS_NOT_FOUND, ENOENT, "there is no domain \"%.63s\"; there is \"%s\"",
	         name, call->kmmd->domain->name);
	return false;
}

/* ---- GetPool ---- */

struct pool_call {
	struct service_job job;
	struct grant_count sum;
	uint32_t sessions;
};

static void pool_work(struct service_job *j)
{
	struct pool_call *c = (struct pool_call *)j;
	uint32_t id;

	grant_census(j->kmmd->domain, &c->sum, 1);
	for (id = 1; id < session_table_size(j->kmmd->sessions); id++) {
		struct session *s = session_by_id(j->kmmd->sessions, id);
		/* acquire: as everywhere */
		uint32_t state = atomic_load_explicit(&s->state, memory_order_acquire);

		c->sessions += state != SESSION_FREE && state != SESSION_GONE;
	}
	service_job_done(j);
}

static void pool_zones(const struct kmmd *k, Kmm__V1__Pool *p, uint64_t *low)
{
	const struct mm_domain *zones = k->domain->zones;
	struct mm_zone_stats z;
	struct mm_pcp_stats pcp;
	uint32_t node, cpu;
	unsigned int type;

	for (node = 0; node < mm_nr_nodes(zones); node++)
		for (type = 0; type < MAX_NR_ZONES; type++) {
			mm_zone_stats(zones, node, (enum zone_type)type, &z);
			p->managed += z.managed;
			p->free += z.free;
			*low += z.wmark[WMARK_LOW];
			for (cpu = 0; z.present && cpu < k->nr_reactors; cpu++) {
				mm_pcp_stats(zones, node, (enum zone_type)type, cpu, &pcp);
				p->per_cpu += pcp.count;
			}
		}
}

static void pool_reply(struct service_job *j)
{
	struct pool_call *c = (struct pool_call *)j;
	const struct kmmd *k = j->kmmd;
	Kmm__V1__Pool p = KMM__V1__POOL__INIT;
	struct pool_backing backing;
	uint64_t low = 0, reserve, again;

	if (service_job_cancelled(j)) {
		free(c);
		return;
	}
	p.uuid = (ProtobufCBinaryData){ .len = 16, .data = k->pool->uuid };
	p.epoch = k->pool->epoch;
	p.frames = k->pool->frames;
	p.section_order = k->pool->section_order;
	p.nodes = mm_nr_nodes(k->domain->zones);
	p.metadata = k->pool->metadata_frames;
	pool_backing_get(k->pool, &backing);
	p.bytes_4k = backing.bytes_4k;
	p.bytes_2m = backing.bytes_2m;
	p.bytes_1g = backing.bytes_1g;
	pool_zones(k, &p, &low);
	p.depot = depot_frames(k->domain->depot);
	p.cached = c->sum.cached;
	p.granted = c->sum.granted;
	p.sessions = c->sessions;
	p.parked = wait_queue_waiting(k->domain->waiters);
	p.slab = slab_frames(k->domain->slabs);
	p.slab_reclaimable = slab_frames_reclaimable(k->domain->slabs);
	p.caches = cache_total(k->domain);
	/* relaxed, both: a look at what others write */
	p.scarce = atomic_load_explicit(&k->domain->control.status->scarce, memory_order_relaxed);
	p.pressure =
		atomic_load_explicit(&k->domain->control.status->pressure, memory_order_relaxed);
	p.names = name_total(k->domain->names);
	/* meminfo's MemAvailable; depots, thread caches and what slabs say of themselves are what is
	 * reclaimable here */
	reserve = mm_total_reserve(k->domain->zones);
	again = p.depot + p.cached + p.slab_reclaimable;
	p.available = p.free + again - (again / 2 < low ? again / 2 : low);
	p.available = p.available > reserve ? p.available - reserve : 0;
	rpc_pending_reply(&j->pending, &p.base);
	free(c);
}

static void handle_get_pool(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct pool_call *c;

	(void)request;
	c = service_census_start(call, sizeof(*c));
	if (c)
		service_job_start(call, &c->job, pool_work, pool_reply);
}

/* ---- ListZones ---- */

struct zone_item {
	Kmm__V1__Zone zone;
	Kmm__V1__PerCpu cpu[MAX_CPUS];
	Kmm__V1__PerCpu *cpus[MAX_CPUS];
	uint64_t type[MIGRATE_TYPES * NR_PAGE_ORDERS];
};

static void zone_fill(struct zone_item *i, struct mm_zone_stats *z)
{
	Kmm__V1__Zone *m = &i->zone;

	m->free = z->free;
	m->boost = z->boost;
	m->min = z->wmark[WMARK_MIN];
	m->low = z->wmark[WMARK_LOW];
	m->high = z->wmark[WMARK_HIGH];
	m->promo = z->wmark[WMARK_PROMO];
	m->spanned = z->spanned;
	m->present = z->present;
	m->managed = z->managed;
	m->start_pfn = z->start_pfn;
	m->n_protection = MAX_NR_ZONES;
	m->protection = z->protection;
	m->free_blocks = z->free_blocks;
	m->numa_hit = z->numa_hit;
	m->numa_miss = z->numa_miss;
	m->numa_foreign = z->numa_foreign;
	m->numa_interleave = z->numa_interleave;
	m->numa_local = z->numa_local;
	m->numa_other = z->numa_other;
	m->n_nr_free = NR_PAGE_ORDERS;
	m->nr_free = z->nr_free;
	memcpy(i->type, z->nr_free_type, sizeof(i->type));
	_Static_assert(sizeof(z->nr_free_type) == sizeof(i->type), "by type, then order");
	m->n_nr_free_type = MIGRATE_TYPES * NR_PAGE_ORDERS;
	m->nr_free_type = i->type;
	m->n_pageblocks = MIGRATE_TYPES;
	m->pageblocks = z->pageblocks;
	m->nr_highatomic = z->nr_highatomic;
	m->stat_threshold = z->stat_threshold;
	m->alloc = z->alloc;
	m->freed = z->freed;
	m->fallback = z->fallback;
	m->steal = z->steal;
	m->claim = z->claim;
	m->alloc_fail = z->alloc_fail;
}

static void zone_send(struct rpc_call *call, struct zone_item *i, uint32_t node,
                      enum zone_type type)
{
	const struct kmmd *k = call->kmmd;
	struct mm_pcp_stats pcp;
	struct mm_zone_stats z;
	char name[16];
	uint32_t cpu;

	kmm__v1__zone__init(&i->zone);
	mm_zone_stats(k->domain->zones, node, type, &z);
	snprintf(name, sizeof(name), "%s", zone_names[type]);
	i->zone.node = node;
	i->zone.name = name;
	zone_fill(i, &z);
	for (cpu = 0; z.present && cpu < k->nr_reactors && cpu < MAX_CPUS; cpu++) {
		mm_pcp_stats(k->domain->zones, node, type, cpu, &pcp);
		kmm__v1__per_cpu__init(&i->cpu[cpu]);
		i->cpu[cpu].cpu = cpu;
		i->cpu[cpu].count = pcp.count;
		i->cpu[cpu].high = pcp.high;
		i->cpu[cpu].batch = pcp.batch;
		i->cpu[cpu].high_min = pcp.high_min;
		i->cpu[cpu].high_max = pcp.high_max;
		i->cpus[cpu] = &i->cpu[cpu];
	}
	i->zone.n_per_cpu = cpu;
	i->zone.per_cpu = i->cpus;
	rpc_item(call, &i->zone.base);
}

static void handle_list_zones(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__ListZonesRequest *q = (const Kmm__V1__ListZonesRequest *)request;
	struct zone_item *i;
	unsigned int type;
	uint32_t node;

	if (!service_domain_known(call, q->domain))
		return;
	i = malloc(sizeof(*i));
	if (!i) {
		service_refuse(call, -ENOMEM, "the daemon is out of memory");
		return;
	}
	for (node = 0; node < mm_nr_nodes(call->kmmd->domain->zones); node++)
		for (type = 0; type < MAX_NR_ZONES; type++)
			zone_send(call, i, node, (enum zone_type)type);
	free(i);
	end_stream(call);
}

/* ---- ListResources ---- */

static void resource_send(struct rpc_call *call, const char *name, uint64_t start, uint64_t size,
                          uint32_t depth)
{
	Kmm__V1__Resource item = KMM__V1__RESOURCE__INIT;
	char text[64];

	snprintf(text, sizeof(text), "%s", name);
	item.name = text;
	item.depth = depth;
	if (call->peer->admin) {
		item.start = start;
		item.end = start + size - 1;
	}
	rpc_item(call, &item.base);
}

/* The parts of reserved memory inside [start, start + size), in the order of their addresses. */
static void resource_children(struct rpc_call *call, uint64_t start, uint64_t size)
{
	const struct memblock_type *reserved = &call->kmmd->pool->memblock.reserved;
	uint32_t i;

	for (i = 0; i < reserved->nr; i++) {
		const struct memblock_region *r = &reserved->regions[i];

		/* What no table needs is reserved under the name of the whole. */
		if (r->base >= start && r->base - start < size && strcmp(r->name, "metadata") != 0)
			resource_send(call, *r->name ? r->name : "reserved", r->base, r->size, 1);
	}
}

/* What a section is part of: a run of one zone, the metadata, lost, or nothing, as it has no memory. */
#define SECTION_NOTHING (UINT32_MAX - 1)
static uint32_t section_key(const struct mm *mm, uint32_t nr)
{
	struct section_info info;

	mm_section_get(mm, (section_id_t){ nr }, &info);
	if (info.state == SECTION_ABSENT)
		return SECTION_NOTHING;
	if (info.state == SECTION_ONLINE || info.state == SECTION_RESERVE)
		return 1 + (uint32_t)info.node * MAX_NR_ZONES + info.zone;
	return info.state == SECTION_METADATA ? UINT32_MAX : 0;
}

/* The zone of a run, where that is more than an address: what clients do not map as a whole. */
static void resource_zone(struct rpc_call *call, uint32_t key, uint64_t start, uint64_t size)
{
	uint32_t zone = (key - 1) % MAX_NR_ZONES;

	if (zone == ZONE_HIGHMEM || zone == ZONE_MOVABLE)
		resource_send(call, zone_names[zone], start, size, 1);
}

static void handle_list_resources(struct rpc_call *call, const ProtobufCMessage *request)
{
	const struct mm *mm = call->kmmd->pool->mm;
	uint64_t section = UINT64_C(1) << (call->kmmd->pool->section_order + PAGE_SHIFT);
	uint32_t nr, n = mm_nr_sections(mm), first;

	(void)request;
	for (first = 0; first < n; first = nr) {
		uint32_t key = section_key(mm, first);

		for (nr = first + 1; nr < n && section_key(mm, nr) == key; nr++)
			;
		if (key == SECTION_NOTHING)
			continue;
		if (key && key != UINT32_MAX) {
			resource_send(call, "System RAM", first * section, (nr - first) * section,
			              0);
			resource_zone(call, key, first * section, (nr - first) * section);
		} else if (key) {
			resource_send(call, "Reserved", first * section, (nr - first) * section, 0);
			resource_children(call, first * section, (nr - first) * section);
		} else {
			resource_send(call, "Unusable memory", first * section,
			              (nr - first) * section, 0);
		}
	}
	end_stream(call);
}

/* ---- the table ---- */

#define METHOD(NUMBER, NAME, STREAM, REQUEST, REPLY, HANDLER)                                    \
	{                                                                                        \
		.number = KMM__V1__METHOD__INSPECTOR_##NUMBER, .name = "kmm.v1.Inspector/" NAME, \
		.demand = RPC_INSPECTOR, .streaming = STREAM,                                    \
		.request = &kmm__v1__##REQUEST##_request__descriptor,                            \
		.reply = &kmm__v1__##REPLY##__descriptor, .handle = HANDLER                      \
	}

const struct rpc_method service_inspector[] = {
	METHOD(GET_POOL, "GetPool", false, get_pool, pool, handle_get_pool),
	METHOD(LIST_ZONES, "ListZones", true, list_zones, zone, handle_list_zones),
	METHOD(LIST_RESOURCES, "ListResources", true, list_resources, resource,
	       handle_list_resources),
	METHOD(LIST_SESSIONS, "ListSessions", true, list_sessions, session, service_list_sessions),
	METHOD(GET_SESSION, "GetSession", false, get_session, session, service_get_session),
	METHOD(LIST_CACHES, "ListCaches", true, list_caches, cache, service_list_caches),
	METHOD(LIST_LEAKS, "ListLeaks", true, list_leaks, leak, service_list_leaks),
	METHOD(LIST_NAMES, "ListNames", true, list_names, name, service_list_names),
	METHOD(LIST_USERS, "ListUsers", true, list_users, user, service_list_users),
	METHOD(ADVISE, "Advise", false, advise, history, service_advise),
	METHOD(LIST_DOMAINS, "ListDomains", true, list_domains, domain, service_list_domains),
	/* whether the caller may is the handler's to say: about itself everybody may ask */
	{ .number = KMM__V1__METHOD__INSPECTOR_EXPLAIN,
	  .name = "kmm.v1.Inspector/Explain",
	  .demand = RPC_ANYBODY,
	  .request = &kmm__v1__explain_request__descriptor,
	  .reply = &kmm__v1__explanation__descriptor,
	  .handle = service_explain },
	METHOD(LIST_AREAS, "ListAreas", true, list_areas, area, service_list_areas),
	METHOD(GET_PAGE, "GetPage", false, get_page, page, service_get_page),
	METHOD(GET_MAP, "GetMap", true, get_map, map_part, service_get_map),
	METHOD(GET_METRICS, "GetMetrics", true, get_metrics, metrics_part, service_get_metrics),
	METHOD(GET_STATISTICS, "GetStatistics", false, get_statistics, statistics,
	       service_get_statistics),
	METHOD(LIST_SECTIONS, "ListSections", true, list_sections, section, service_list_sections),
	METHOD(GET_SETTINGS, "GetSettings", true, get_settings, setting, service_get_settings),
	{ .handle = NULL },
};
