/* SPDX-License-Identifier: MIT */
/*
 * Builders of json-c objects, one a report. Keys are the words of the text reports and of
 * kmm.proto. Adding to an object hands the value over; json-c reports its own lack of memory by
 * NULL objects, which print as null.
 */
#include "client/kmmctl/json.h"

#include <string.h>

#include "client/kmmctl/json_add.h"

/* ---- zones ---- */

static struct json_object *zone_heading(const struct report_zone *z)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "node", z->node);
	add_text(o, "zone", z->name);
	return o;
}

static void add_pageset(struct json_object *o, const void *item)
{
	const struct report_pcp *p = item;

	add_number(o, "cpu", p->cpu);
	add_number(o, "count", p->count);
	add_number(o, "high", p->high);
	add_number(o, "batch", p->batch);
	add_number(o, "high_min", p->high_min);
	add_number(o, "high_max", p->high_max);
}

static struct json_object *zone_object(const struct report_zone *z)
{
	struct json_object *o = zone_heading(z);

	add_number(o, "free", z->free);
	add_number(o, "boost", z->boost);
	add_number(o, "min", z->min);
	add_number(o, "low", z->low);
	add_number(o, "high", z->high);
	add_number(o, "promo", z->promo);
	add_number(o, "spanned", z->spanned);
	add_number(o, "present", z->present);
	add_number(o, "managed", z->managed);
	add_number(o, "cma", z->cma);
	add_numbers(o, "protection", z->protection, z->nr_protection);
	if (!z->present)
		return o;
	for (size_t i = 0; i < REPORT_ZONE_STATS; i++)
		add_number(o, report_zone_stat_names[i], z->stat[i]);
	for (size_t i = 0; i < REPORT_NUMA_STATS; i++)
		add_number(o, report_numa_stat_names[i], z->numa[i]);
	json_object_object_add(o, "pagesets",
	                       array_of(z->pcp, z->nr_pcp, sizeof(z->pcp[0]), add_pageset));
	add_number(o, "vm_stats_threshold", z->stat_threshold);
	add_number(o, "start_pfn", z->start_pfn);
	add_number(o, "nr_highatomic", z->nr_highatomic);
	add_number(o, "alloc", z->alloc);
	add_number(o, "freed", z->freed);
	add_number(o, "fallback", z->fallback);
	add_number(o, "steal", z->steal);
	add_number(o, "claim", z->claim);
	add_number(o, "alloc_fail", z->alloc_fail);
	return o;
}

static struct json_object *node_stats(const struct report_node *node)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < REPORT_NODE_STATS; i++)
		add_number(o, report_node_stat_names[i], node ? node->stat[i] : 0);
	return o;
}

struct json_object *json_zoneinfo(const struct report_zone zone[], size_t n,
                                  const struct report_node node[], size_t nr_nodes)
{
	struct json_object *a = json_object_new_array(), *o;
	bool shown = false;

	for (size_t i = 0; i < n; i++) {
		const struct report_zone *z = &zone[i];

		if (i == 0 || z->node != zone[i - 1].node)
			shown = false;
		o = zone_object(z);
		if (z->present && !shown) {
			shown = true;
			json_object_object_add(o, "per_node_stats",
			                       node_stats(z->node < nr_nodes ? &node[z->node]
			                                                     : NULL));
		}
		json_object_array_add(a, o);
	}
	return a;
}

struct json_object *json_buddyinfo(const struct report_zone zone[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o;

		if (!zone[i].present)
			continue;
		o = zone_heading(&zone[i]);
		add_numbers(o, "free_blocks", zone[i].nr_free, REPORT_ORDERS);
		json_object_array_add(a, o);
	}
	return a;
}

struct json_object *json_pagetypeinfo(const struct report_zone zone[], size_t n)
{
	struct json_object *report = json_object_new_object(), *a = json_object_new_array();

	add_number(report, "page_block_order", REPORT_PAGEBLOCK_ORDER);
	add_number(report, "pages_per_block", 1u << REPORT_PAGEBLOCK_ORDER);
	for (size_t i = 0; i < n; i++) {
		struct json_object *o, *blocks, *count;

		if (!zone[i].present)
			continue;
		o = zone_heading(&zone[i]);
		blocks = json_object_new_object();
		count = json_object_new_object();
		for (size_t type = 0; type < REPORT_TYPES; type++) {
			add_numbers(blocks, report_type_names[type], zone[i].nr_free_type[type],
			            REPORT_ORDERS);
			add_number(count, report_type_names[type], zone[i].pageblocks[type]);
		}
		json_object_object_add(o, "free_blocks", blocks);
		json_object_object_add(o, "pageblocks", count);
		json_object_array_add(a, o);
	}
	json_object_object_add(report, "zones", a);
	return report;
}

/* ---- iomem, meminfo ---- */

static void add_resource(struct json_object *o, const void *item)
{
	const struct report_resource *r = item;

	add_number(o, "start", r->start);
	add_number(o, "end", r->end);
	add_text(o, "name", r->name);
	add_number(o, "depth", r->depth);
}

struct json_object *json_iomem(const struct report_resource resource[], size_t n)
{
	return array_of(resource, n, sizeof(resource[0]), add_resource);
}

struct json_object *json_meminfo(const struct report_meminfo *m)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < REPORT_MEMINFO_LINES; i++)
		if (report_meminfo_shown(m, i))
			add_number(o, report_meminfo_label(i), m->value[i]);
	return o;
}

struct json_object *json_vmstat(const struct report_vmstat *v)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < REPORT_VMSTAT_LINES; i++)
		if (report_vmstat_shown(v, i))
			add_number(o, report_vmstat_name(i), v->value[i]);
	return o;
}

static void add_area(struct json_object *o, const void *item)
{
	const kmm_v1_Area *m = item;

	add_number(o, "session", m->session);
	add_text(o, "kind", report_area_kind(m));
	add_number(o, "start", m->start);
	add_number(o, "end", m->start ? m->start + m->size : 0);
	add_number(o, "size", m->size);
	add_number(o, "pages", m->pages);
	add_number(o, "used", m->used);
	add_text(o, "caller", report_area_caller(m));
	add_numbers(o, "node_pages", m->node_pages, m->node_pages_count);
}

struct json_object *json_vmallocinfo(const kmm_v1_Area area[], size_t n)
{
	return array_of(area, n, sizeof(area[0]), add_area);
}

/* ---- sessions ---- */

static void add_session_cache(struct json_object *o, const void *item)
{
	const kmm_v1_SessionCache *c = item;

	add_text(o, "name", c->name);
	add_number(o, "objects", c->objects);
	add_number(o, "bytes", c->bytes);
}

struct json_object *json_session(const kmm_v1_Session *s)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "id", s->id);
	add_text(o, "name", s->name);
	add_text(o, "state", s->state);
	add_text(o, "domain", s->domain);
	add_number(o, "pid", s->pid);
	add_number(o, "uid", s->uid);
	add_number(o, "gid", s->gid);
	add_number(o, "opened", s->opened);
	add_number(o, "away", s->away);
	add_number(o, "restarts", s->restarts);
	add_number(o, "granted", s->granted);
	add_number(o, "cached", s->cached);
	add_number(o, "objects", s->objects);
	add_number(o, "object_bytes", s->object_bytes);
	add_number(o, "objects_returned", s->objects_returned);
	add_number(o, "caches", s->caches);
	add_number(o, "names", s->names);
	add_number(o, "charged", s->charged);
	add_number(o, "pages_max", s->pages_max);
	add_number(o, "holds", s->holds);
	add_number(o, "parked", s->parked);
	add_number(o, "channels", s->channels);
	add_number(o, "magazines", s->magazines);
	add_number(o, "calls", s->calls);
	add_number(o, "refused", s->refused);
	if (s->blocks_count)
		add_numbers(o, "blocks", s->blocks, s->blocks_count);
	if (s->cache_count)
		json_object_object_add(o, "cache",
		                       array_of(s->cache, s->cache_count, sizeof(s->cache[0]),
		                                add_session_cache));
	add_text(o, "last_error", s->last_error);
	return o;
}

struct json_object *json_sessions(const kmm_v1_Session session[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_object_array_add(a, json_session(&session[i]));
	return a;
}

struct json_object *json_kill(uint32_t id)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "killed", id);
	return o;
}

/* ---- caches of objects ---- */

/* The text's fields by their names there, and what it has no room for. */
static void add_cache(struct json_object *o, const void *item)
{
	const kmm_v1_Cache *c = item;

	add_text(o, "name", c->name);
	add_number(o, "active_objs", c->active_objects);
	add_number(o, "num_objs", c->objects);
	add_number(o, "objsize", c->stride);
	add_number(o, "objperslab", c->objects_per_slab);
	add_number(o, "pagesperslab", report_slab_pages(c));
	add_number(o, "limit", c->limit);
	add_number(o, "batchcount", c->batchcount);
	add_number(o, "sharedfactor", c->shared);
	add_number(o, "active_slabs", c->active_slabs);
	add_number(o, "num_slabs", c->slabs);
	add_number(o, "sharedavail", c->shared_available);
	add_number(o, "id", c->id);
	add_number(o, "size", c->size);
	add_number(o, "align", c->align);
	add_number(o, "flags", c->flags);
	add_bool(o, "ctor", c->ctor);
	add_number(o, "users", c->users);
	add_number(o, "reports", c->reports);
	add_number(o, "created", c->created);
	add_number(o, "per_cpu", c->per_cpu);
	add_number(o, "exchanges", c->exchanges);
	add_number(o, "grown", c->grown);
	add_number(o, "reaped", c->reaped);
}

struct json_object *json_slabinfo(const kmm_v1_Cache cache[], size_t n)
{
	return array_of(cache, n, sizeof(cache[0]), add_cache);
}

static void add_leak(struct json_object *o, const void *item)
{
	const kmm_v1_Leak *l = item;

	add_number(o, "session", l->session);
	add_text(o, "name", l->name);
	add_number(o, "pid", l->pid);
	add_number(o, "opened", l->opened);
	add_text(o, "state", l->state);
	add_text(o, "cache", l->cache);
	add_number(o, "objects", l->objects);
	add_number(o, "bytes", l->bytes);
	add_bool(o, "flushed", l->flushed);
}

struct json_object *json_leaks(const kmm_v1_Leak leak[], size_t n)
{
	return array_of(leak, n, sizeof(leak[0]), add_leak);
}

static void add_name(struct json_object *o, const void *item)
{
	const kmm_v1_Name *m = item;

	add_text(o, "name", m->name);
	add_text(o, "cache", m->cache);
	add_number(o, "order", m->order);
	add_number(o, "bytes", m->bytes);
	add_number(o, "address", m->address);
	add_number(o, "session", m->session);
	add_number(o, "uid", m->uid);
	add_number(o, "owner", m->owner);
	add_number(o, "holders", m->holders);
	add_bool(o, "stale", m->stale);
}

struct json_object *json_names(const kmm_v1_Name name[], size_t n)
{
	return array_of(name, n, sizeof(name[0]), add_name);
}

struct json_object *json_shrink(const kmm_v1_ShrinkCacheReply *r)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "pages", r->pages);
	add_number(o, "objects", r->objects);
	add_number(o, "asked", r->asked);
	add_number(o, "silent", r->silent);
	return o;
}

/* ---- health, methods, fsck, drop-caches ---- */

struct json_object *json_health(const kmm_v1_CheckReply *h)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "status", report_health_status(h->status));
	add_text(o, "version", h->version);
	add_number(o, "pid", h->pid);
	add_number(o, "epoch", h->epoch);
	add_number(o, "uptime_ms", h->uptime_ms);
	add_text(o, "backing", h->backing);
	add_text(o, "advice", h->advice);
	add_number(o, "bytes_4k", h->bytes_4k);
	add_number(o, "bytes_2m", h->bytes_2m);
	add_number(o, "bytes_1g", h->bytes_1g);
	add_number(o, "damaged_domains", h->damaged_domains);
	add_number(o, "retired_sections", h->retired_sections);
	add_number(o, "created", h->created);
	add_number(o, "metadata_version", h->metadata_version);
	add_number(o, "metadata_made_version", h->metadata_made_version);
	add_text(o, "text", h->text);
	return o;
}

static void add_method(struct json_object *o, const void *item)
{
	const kmm_v1_MethodInfo *m = item;

	add_number(o, "number", m->number);
	add_text(o, "name", m->name);
	add_bool(o, "streaming", m->streaming);
	add_text(o, "request", m->request);
	add_text(o, "reply", m->reply);
}

struct json_object *json_methods(const kmm_v1_MethodInfo method[], size_t n)
{
	return array_of(method, n, sizeof(method[0]), add_method);
}

struct json_object *json_findings(const kmm_v1_Finding finding[], size_t n)
{
	struct json_object *o = json_object_new_object(), *a = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_object_array_add(a, json_object_new_string(finding[i].text));
	json_object_object_add(o, "findings", a);
	return o;
}

static void add_compacted(struct json_object *o, const void *item)
{
	const kmm_v1_Compacted *z = item;

	add_number(o, "node", z->node);
	add_text(o, "zone", z->zone);
	add_number(o, "migrate_scanned", z->migrate_scanned);
	add_number(o, "free_scanned", z->free_scanned);
	add_number(o, "isolated", z->isolated);
	add_number(o, "moved", z->moved);
	add_number(o, "failed", z->failed);
	json_object_object_add(o, "gained", json_object_new_int64(z->gained));
	add_number(o, "score_before", z->score_before);
	add_number(o, "score_after", z->score_after);
}

struct json_object *json_compact(const kmm_v1_Compacted zone[], size_t n)
{
	return array_of(zone, n, sizeof(zone[0]), add_compacted);
}

struct json_object *json_drop_caches(const kmm_v1_DropCachesReply *r)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "per_cpu", r->per_cpu);
	add_number(o, "depot", r->depot);
	add_number(o, "threads", r->threads);
	add_number(o, "slabs", r->slabs);
	add_number(o, "objects", r->objects);
	add_number(o, "asked", r->asked);
	add_number(o, "silent", r->silent);
	return o;
}
