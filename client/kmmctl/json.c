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

static struct json_object *pagesets(const struct report_zone *z)
{
	struct json_object *a = json_object_new_array_ext((int)z->nr_pcp);

	for (uint32_t i = 0; i < z->nr_pcp; i++) {
		const struct report_pcp *p = &z->pcp[i];
		struct json_object *o = json_object_new_object();

		add_number(o, "cpu", p->cpu);
		add_number(o, "count", p->count);
		add_number(o, "high", p->high);
		add_number(o, "batch", p->batch);
		add_number(o, "high_min", p->high_min);
		add_number(o, "high_max", p->high_max);
		json_object_array_add(a, o);
	}
	return a;
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
	json_object_object_add(o, "pagesets", pagesets(z));
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

struct json_object *json_iomem(const struct report_resource resource[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		add_number(o, "start", resource[i].start);
		add_number(o, "end", resource[i].end);
		add_text(o, "name", resource[i].name);
		add_number(o, "depth", resource[i].depth);
		json_object_array_add(a, o);
	}
	return a;
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

struct json_object *json_vmallocinfo(const kmm_v1_Area area[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		add_number(o, "session", area[i].session);
		add_text(o, "kind", report_area_kind(&area[i]));
		add_number(o, "start", area[i].start);
		add_number(o, "end", area[i].start ? area[i].start + area[i].size : 0);
		add_number(o, "size", area[i].size);
		add_number(o, "pages", area[i].pages);
		add_number(o, "used", area[i].used);
		add_text(o, "caller", report_area_caller(&area[i]));
		add_numbers(o, "node_pages", area[i].node_pages, area[i].node_pages_count);
		json_object_array_add(a, o);
	}
	return a;
}

/* ---- sessions ---- */

static struct json_object *session_caches(const kmm_v1_Session *s)
{
	struct json_object *a = json_object_new_array();

	for (pb_size_t i = 0; i < s->cache_count; i++) {
		struct json_object *o = json_object_new_object();

		add_text(o, "name", s->cache[i].name);
		add_number(o, "objects", s->cache[i].objects);
		add_number(o, "bytes", s->cache[i].bytes);
		json_object_array_add(a, o);
	}
	return a;
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
		json_object_object_add(o, "cache", session_caches(s));
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
static struct json_object *cache_object(const kmm_v1_Cache *c)
{
	struct json_object *o = json_object_new_object();

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
	return o;
}

struct json_object *json_slabinfo(const kmm_v1_Cache cache[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_object_array_add(a, cache_object(&cache[i]));
	return a;
}

struct json_object *json_leaks(const kmm_v1_Leak leak[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		add_number(o, "session", leak[i].session);
		add_text(o, "name", leak[i].name);
		add_number(o, "pid", leak[i].pid);
		add_number(o, "opened", leak[i].opened);
		add_text(o, "state", leak[i].state);
		add_text(o, "cache", leak[i].cache);
		add_number(o, "objects", leak[i].objects);
		add_number(o, "bytes", leak[i].bytes);
		json_object_object_add(o, "flushed", json_object_new_boolean(leak[i].flushed));
		json_object_array_add(a, o);
	}
	return a;
}

struct json_object *json_names(const kmm_v1_Name name[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		add_text(o, "name", name[i].name);
		add_text(o, "cache", name[i].cache);
		add_number(o, "order", name[i].order);
		add_number(o, "bytes", name[i].bytes);
		add_number(o, "address", name[i].address);
		add_number(o, "session", name[i].session);
		add_number(o, "uid", name[i].uid);
		add_number(o, "owner", name[i].owner);
		add_number(o, "holders", name[i].holders);
		json_object_object_add(o, "stale", json_object_new_boolean(name[i].stale));
		json_object_array_add(a, o);
	}
	return a;
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
	add_text(o, "text", h->text);
	return o;
}

struct json_object *json_methods(const kmm_v1_MethodInfo method[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		add_number(o, "number", method[i].number);
		add_text(o, "name", method[i].name);
		json_object_object_add(o, "streaming",
		                       json_object_new_boolean(method[i].streaming));
		add_text(o, "request", method[i].request);
		add_text(o, "reply", method[i].reply);
		json_object_array_add(a, o);
	}
	return a;
}

struct json_object *json_findings(const kmm_v1_Finding finding[], size_t n)
{
	struct json_object *o = json_object_new_object(), *a = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_object_array_add(a, json_object_new_string(finding[i].text));
	json_object_object_add(o, "findings", a);
	return o;
}

struct json_object *json_compact(const kmm_v1_Compacted zone[], size_t n)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Compacted *z = &zone[i];
		struct json_object *o = json_object_new_object();

		add_number(o, "node", z->node);
		json_object_object_add(o, "zone", json_object_new_string(z->zone));
		add_number(o, "migrate_scanned", z->migrate_scanned);
		add_number(o, "free_scanned", z->free_scanned);
		add_number(o, "isolated", z->isolated);
		add_number(o, "moved", z->moved);
		add_number(o, "failed", z->failed);
		json_object_object_add(o, "gained", json_object_new_int64(z->gained));
		add_number(o, "score_before", z->score_before);
		add_number(o, "score_after", z->score_after);
		json_object_array_add(a, o);
	}
	return a;
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
