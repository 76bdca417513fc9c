/* SPDX-License-Identifier: MIT */
/*
 * Memory as a whole: nodes, address ranges, areas, meminfo, vmstat.
 *
 * meminfo and vmstat are put together from several calls, one after the other. Where two of them
 * count the same thing at different moments, the smaller or the first counts: no difference becomes
 * negative.
 */
#include "client/kmmctl/fetch_private.h"

#include <stdlib.h>
#include <string.h>

#define KB_PER_FRAME 4u
#define HUGE_PAGE_KB 2048u
/* What one process may lay out: the lower half of its address space. */
#define ADDRESS_SPACE_KB (((UINT64_C(1) << 47) - 4096) / 1024)

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

enum connection_result fetch_pool(struct connection *c, kmm_v1_Pool *ret)
{
	kmm_v1_GetPoolRequest request = kmm_v1_GetPoolRequest_init_zero;

	return FETCH_CALL(c, INSPECTOR_GET_POOL, GetPool, &request, Pool, ret);
}

static enum connection_result fetch_statistics(struct connection *c, const char *domain,
                                               kmm_v1_Statistics *ret)
{
	kmm_v1_GetStatisticsRequest request = kmm_v1_GetStatisticsRequest_init_zero;

	if (!fetch_copy_domain(request.domain, sizeof(request.domain), domain))
		return CONNECTION_FAILED;
	return FETCH_CALL(c, INSPECTOR_GET_STATISTICS, GetStatistics, &request, Statistics, ret);
}

static bool is_high(const struct report_zone *z)
{
	return z->present && (strcmp(z->name, "HighMem") == 0 || strcmp(z->name, "Movable") == 0);
}

/* ---- nodes ---- */

static void node_from_message(struct report_node *node, const kmm_v1_NodeStatistics *m)
{
	report_node_stat_set(node, "nr_slab_reclaimable", m->slab_reclaimable);
	report_node_stat_set(node, "nr_slab_unreclaimable", m->slab_unreclaimable);
	report_node_stat_set(node, "nr_kernel_misc_reclaimable", m->misc_reclaimable);
	/* Linux counts stacks in kB */
	report_node_stat_set(node, "nr_kernel_stack", m->stack * KB_PER_FRAME);
	report_node_stat_set(node, "nr_hugetlb", m->hugetlb);
}

enum connection_result fetch_nodes(struct connection *c, const char *domain,
                                   struct report_node **ret, size_t *n)
{
	kmm_v1_Statistics *s = calloc(1, sizeof(*s));
	enum connection_result result = CONNECTION_FAILED;
	struct report_node *node = NULL;

	if (s)
		result = fetch_statistics(c, domain, s);
	if (result == CONNECTION_OK) {
		node = calloc(s->node_count ? s->node_count : 1, sizeof(*node));
		result = node ? CONNECTION_OK : CONNECTION_FAILED;
	}
	for (pb_size_t i = 0; node && i < s->node_count; i++)
		node_from_message(&node[i], &s->node[i]);
	if (node) {
		*ret = node;
		*n = s->node_count;
	}
	free(s);
	return result;
}

/* ---- address ranges, areas ---- */

static bool each_resource(void *ctx, const void *item)
{
	const kmm_v1_Resource *m = item;
	struct report_resource *r = vector_add(ctx);

	if (!r)
		return false;
	r->start = m->start;
	r->end = m->end;
	r->depth = m->depth < 5 ? m->depth : 4; /* Linux shows five levels */
	fetch_copy_text(r->name, sizeof(r->name), m->name);
	return true;
}

enum connection_result fetch_resources(struct connection *c, struct report_resource **ret,
                                       size_t *n)
{
	kmm_v1_ListResourcesRequest request = kmm_v1_ListResourcesRequest_init_zero;
	struct vector v = { .size = sizeof(struct report_resource) };
	kmm_v1_Resource item;
	enum connection_result result;

	result = connection_stream(c, kmm_v1_Method_INSPECTOR_LIST_RESOURCES,
	                           kmm_v1_ListResourcesRequest_fields, &request,
	                           kmm_v1_Resource_fields, &item, each_resource, &v);
	return vector_finish(&v, result, ret, n);
}

static void clean_area(void *item)
{
	fetch_clean_text(((kmm_v1_Area *)item)->caller, false);
}

static int compare_areas(const void *a, const void *b)
{
	const kmm_v1_Area *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->session < y->session ? -1 : x->session > y->session;
}

enum connection_result fetch_areas(struct connection *c, const char *domain, kmm_v1_Area **ret,
                                   size_t *n)
{
	kmm_v1_ListAreasRequest request = kmm_v1_ListAreasRequest_init_zero;
	enum connection_result result;

	if (!fetch_copy_domain(request.domain, sizeof(request.domain), domain))
		return CONNECTION_FAILED;
	result = FETCH_LIST(c, INSPECTOR_LIST_AREAS, ListAreas, &request, Area, clean_area, ret, n);
	if (result == CONNECTION_OK && *n)
		qsort(*ret, *n, sizeof(**ret), compare_areas);
	return result;
}

/* ---- what meminfo and vmstat are made of ---- */

struct memory {
	kmm_v1_Pool pool;
	kmm_v1_Statistics statistics;
	struct report_zone *zone;
	size_t nr_zones;
	kmm_v1_NodeStatistics sum; /* of all nodes */
	bool highmem;
	uint64_t high_present, high_managed, high_free;
};

static struct memory *memory_free(struct memory *m)
{
	if (m)
		free(m->zone);
	free(m);
	return NULL;
}

static void memory_sum(struct memory *m)
{
	for (pb_size_t i = 0; i < m->statistics.node_count; i++) {
		const kmm_v1_NodeStatistics *s = &m->statistics.node[i];

		m->sum.slab_reclaimable += s->slab_reclaimable;
		m->sum.slab_unreclaimable += s->slab_unreclaimable;
		m->sum.misc_reclaimable += s->misc_reclaimable;
		m->sum.stack += s->stack;
		m->sum.hugetlb += s->hugetlb;
	}
	for (size_t i = 0; i < m->nr_zones; i++) {
		if (!is_high(&m->zone[i]))
			continue;
		m->highmem = true;
		m->high_present += m->zone[i].present;
		m->high_managed += m->zone[i].managed;
		m->high_free += m->zone[i].free;
	}
}

static enum connection_result fetch_memory(struct connection *c, const char *domain,
                                           struct memory **ret)
{
	struct memory *m = calloc(1, sizeof(*m));
	enum connection_result result = m ? fetch_pool(c, &m->pool) : CONNECTION_FAILED;

	if (result == CONNECTION_OK)
		result = fetch_statistics(c, domain, &m->statistics);
	if (result == CONNECTION_OK)
		result = fetch_zones(c, domain, &m->zone, &m->nr_zones);
	if (result != CONNECTION_OK) {
		memory_free(m);
		return result;
	}
	memory_sum(m);
	*ret = m;
	return CONNECTION_OK;
}

/* ---- meminfo ---- */

static void set_frames(struct report_meminfo *i, const char *label, uint64_t frames)
{
	report_meminfo_set(i, label, frames * KB_PER_FRAME);
}

static void set_highmem(struct report_meminfo *i, const struct memory *m)
{
	/* Two snapshots: the zone's may be the later one. */
	uint64_t free = m->high_free < m->pool.free ? m->high_free : m->pool.free;

	i->highmem = m->highmem;
	set_frames(i, "HighTotal", m->high_managed);
	set_frames(i, "HighFree", free);
	set_frames(i, "LowTotal", minus(m->pool.managed, m->high_managed));
	set_frames(i, "LowFree", m->pool.free - free);
}

/* Of one size, and of all sizes together: as in Linux. */
static void set_hugetlb(struct report_meminfo *i, const struct memory *m)
{
	report_meminfo_set(i, "HugePages_Total", m->statistics.huge_total);
	report_meminfo_set(i, "HugePages_Free", m->statistics.huge_free);
	report_meminfo_set(i, "Hugepagesize", HUGE_PAGE_KB);
	set_frames(i, "Hugetlb", m->sum.hugetlb);
}

static void set_slabs(struct report_meminfo *i, const struct memory *m)
{
	set_frames(i, "KReclaimable", m->sum.slab_reclaimable + m->sum.misc_reclaimable);
	set_frames(i, "Slab", m->sum.slab_reclaimable + m->sum.slab_unreclaimable);
	set_frames(i, "SReclaimable", m->sum.slab_reclaimable);
	set_frames(i, "SUnreclaim", m->sum.slab_unreclaimable);
}

enum connection_result fetch_meminfo(struct connection *c, const char *domain,
                                     struct report_meminfo *ret)
{
	struct report_meminfo i = { .highmem = false };
	enum connection_result result;
	struct memory *m;

	result = fetch_memory(c, domain, &m);
	if (result != CONNECTION_OK)
		return result;
	set_frames(&i, "MemTotal", m->pool.managed);
	set_frames(&i, "MemFree", m->pool.free);
	set_frames(&i, "MemAvailable", m->pool.available);
	set_highmem(&i, m);
	set_slabs(&i, m);
	set_frames(&i, "KernelStack", m->statistics.stack);
	/* A pool never promises more than it has. */
	set_frames(&i, "CommitLimit", m->pool.managed);
	set_frames(&i, "Committed_AS", m->pool.granted + m->pool.slab);
	report_meminfo_set(&i, "VmallocTotal", ADDRESS_SPACE_KB);
	set_frames(&i, "VmallocUsed", m->statistics.vmalloc);
	set_frames(&i, "Percpu", m->statistics.percpu);
	set_hugetlb(&i, m);
	/* High memory is in nobody's direct map. */
	report_meminfo_set(&i, "DirectMap4k",
	                   minus(m->pool.bytes_4k / 1024, m->high_present * KB_PER_FRAME));
	report_meminfo_set(&i, "DirectMap2M", m->pool.bytes_2m / 1024);
	report_meminfo_set(&i, "DirectMap1G", m->pool.bytes_1g / 1024);
	memory_free(m);
	*ret = i;
	return CONNECTION_OK;
}

/* ---- vmstat ---- */

/* By enum Counter. */
static const char *const counter_names[] = {
	[kmm_v1_Counter_ALLOCSTALL_DMA] = "allocstall_dma",
	[kmm_v1_Counter_ALLOCSTALL_DMA32] = "allocstall_dma32",
	[kmm_v1_Counter_ALLOCSTALL_NORMAL] = "allocstall_normal",
	[kmm_v1_Counter_ALLOCSTALL_HIGH] = "allocstall_high",
	[kmm_v1_Counter_ALLOCSTALL_MOVABLE] = "allocstall_movable",
	[kmm_v1_Counter_PGSTEAL_KSWAPD] = "pgsteal_kswapd",
	[kmm_v1_Counter_PGSTEAL_DIRECT] = "pgsteal_direct",
	[kmm_v1_Counter_PGSTEAL_PROACTIVE] = "pgsteal_proactive",
	[kmm_v1_Counter_PGSCAN_KSWAPD] = "pgscan_kswapd",
	[kmm_v1_Counter_PGSCAN_DIRECT] = "pgscan_direct",
	[kmm_v1_Counter_PGSCAN_PROACTIVE] = "pgscan_proactive",
	[kmm_v1_Counter_SLABS_SCANNED] = "slabs_scanned",
	[kmm_v1_Counter_PAGEOUTRUN] = "pageoutrun",
	[kmm_v1_Counter_DROP_PAGECACHE] = "drop_pagecache",
	[kmm_v1_Counter_DROP_SLAB] = "drop_slab",
	[kmm_v1_Counter_PGMIGRATE_SUCCESS] = "pgmigrate_success",
	[kmm_v1_Counter_PGMIGRATE_FAIL] = "pgmigrate_fail",
	[kmm_v1_Counter_COMPACT_MIGRATE_SCANNED] = "compact_migrate_scanned",
	[kmm_v1_Counter_COMPACT_FREE_SCANNED] = "compact_free_scanned",
	[kmm_v1_Counter_COMPACT_ISOLATED] = "compact_isolated",
	[kmm_v1_Counter_COMPACT_STALL] = "compact_stall",
	[kmm_v1_Counter_COMPACT_FAIL] = "compact_fail",
	[kmm_v1_Counter_COMPACT_SUCCESS] = "compact_success",
	[kmm_v1_Counter_COMPACT_DAEMON_WAKE] = "compact_daemon_wake",
	[kmm_v1_Counter_COMPACT_DAEMON_MIGRATE_SCANNED] = "compact_daemon_migrate_scanned",
	[kmm_v1_Counter_COMPACT_DAEMON_FREE_SCANNED] = "compact_daemon_free_scanned",
};
#define COUNTERS (sizeof(counter_names) / sizeof(counter_names[0]))

static const char *alloc_name(const char *zone)
{
	static const struct {
		const char *zone, *name;
	} names[] = {
		{ "DMA", "pgalloc_dma" },     { "DMA32", "pgalloc_dma32" },
		{ "Normal", "pgalloc_normal" }, { "HighMem", "pgalloc_high" },
		{ "Movable", "pgalloc_movable" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].zone, zone) == 0)
			return names[i].name;
	return "";
}

static void add_zones(struct report_vmstat *v, const struct memory *m)
{
	for (size_t i = 0; i < m->nr_zones; i++) {
		const struct report_zone *z = &m->zone[i];

		for (size_t k = 0; k < REPORT_ZONE_STATS; k++)
			report_vmstat_add(v, report_zone_stat_names[k], z->stat[k]);
		for (size_t k = 0; k < REPORT_NUMA_STATS; k++)
			report_vmstat_add(v, report_numa_stat_names[k], z->numa[k]);
		report_vmstat_add(v, alloc_name(z->name), z->alloc);
		report_vmstat_add(v, "pgfree", z->freed);
	}
}

static void add_nodes(struct report_vmstat *v, const struct memory *m)
{
	for (pb_size_t i = 0; i < m->statistics.node_count; i++) {
		struct report_node node = { { 0 } };

		node_from_message(&node, &m->statistics.node[i]);
		for (size_t k = 0; k < REPORT_NODE_STATS; k++)
			report_vmstat_add(v, report_node_stat_names[k], node.stat[k]);
	}
}

static uint64_t counter(const struct memory *m, kmm_v1_Counter i)
{
	return i < m->statistics.counter_count ? m->statistics.counter[i] : 0;
}

static void add_events(struct report_vmstat *v, const struct memory *m)
{
	for (size_t i = 0; i < COUNTERS; i++)
		report_vmstat_add(v, counter_names[i], counter(m, (kmm_v1_Counter)i));
	/* A pool has no page cache: all that is reclaimed is of the other kind. */
	report_vmstat_add(v, "pgscan_anon",
	                  counter(m, kmm_v1_Counter_PGSCAN_KSWAPD) +
	                          counter(m, kmm_v1_Counter_PGSCAN_DIRECT) +
	                          counter(m, kmm_v1_Counter_PGSCAN_PROACTIVE));
	report_vmstat_add(v, "pgsteal_anon",
	                  counter(m, kmm_v1_Counter_PGSTEAL_KSWAPD) +
	                          counter(m, kmm_v1_Counter_PGSTEAL_DIRECT) +
	                          counter(m, kmm_v1_Counter_PGSTEAL_PROACTIVE));
}

enum connection_result fetch_vmstat(struct connection *c, const char *domain,
                                    struct report_vmstat *ret)
{
	struct report_vmstat v = { .highmem = false };
	enum connection_result result;
	struct memory *m;

	result = fetch_memory(c, domain, &m);
	if (result != CONNECTION_OK)
		return result;
	v.highmem = m->highmem;
	add_zones(&v, m);
	add_nodes(&v, m);
	add_events(&v, m);
	report_vmstat_add(&v, "nr_memmap_boot_pages", m->statistics.memmap);
	memory_free(m);
	*ret = v;
	return CONNECTION_OK;
}
