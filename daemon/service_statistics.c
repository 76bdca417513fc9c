/* SPDX-License-Identifier: MIT */
/*
 * GetStatistics: what zones do not say of themselves.
 *
 *   counters   events since the start (mm/vmstat.h), in the order of enum Counter
 *   by node    frames in slabs; page blocks that somebody merely caches: marked RETURNED (threads), or
 *              listed in a magazine of the depot; frames that hugetlb backs
 *   areas      what clients' areas are made of (area.h), by kind
 *   pool       the memory map's frames, and the pool's huge pages
 *
 * What is cached shows only in the owner words, so the worker walks over all of them: one such call a
 * connection (service_census_start).
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/area.h"
#include "daemon/depot.h"
#include "daemon/grant.h"
#include "daemon/high.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "mm/slab.h"
#include "mm/vmstat.h"
#include "proto/kmm.pb-c.h"

_Static_assert((int)KMM__V1__COUNTER__ALLOCSTALL_MOVABLE == VM_ALLOCSTALL_LAST, "one numbering");
_Static_assert((int)KMM__V1__COUNTER__PGSTEAL_KSWAPD == VM_PGSTEAL_KSWAPD, "one numbering");
_Static_assert((int)KMM__V1__COUNTER__SLABS_SCANNED == VM_SLABS_SCANNED, "one numbering");
_Static_assert((int)KMM__V1__COUNTER__PGMIGRATE_SUCCESS == VM_PGMIGRATE_SUCCESS, "one numbering");
_Static_assert((int)KMM__V1__COUNTER__COMPACT_STALL == VM_COMPACT_STALL, "one numbering");
_Static_assert((int)KMM__V1__COUNTER__COMPACT_DAEMON_FREE_SCANNED + 1 == VM_NR_EVENTS, "all of them");

struct statistics_call {
	struct service_job job; /* first */
	Kmm__V1__Statistics reply;
	uint64_t counter[VM_NR_EVENTS];
	Kmm__V1__NodeStatistics node[MAX_NODES];
	Kmm__V1__NodeStatistics *nodes[MAX_NODES];
};

/* ---- walking, on the worker ---- */

static bool is_cached(const struct domain *d, uint64_t w)
{
	if (owner_kind(w) == OWNER_MAGAZINE)
		return owner_id(w) < depot_size(d->depot) &&
		       depot_rounds(d->depot, (magazine_id_t){ owner_id(w) }) > 0;
	return owner_kind(w) == OWNER_RETURNED;
}

static void count_cached(void *ctx, uint32_t page, uint64_t w)
{
	struct statistics_call *c = ctx;
	const struct domain *d = c->job.kmmd->domain;
	struct mm_block b;
	pfn_t pfn;

	if (is_cached(d, w) && domain_block_get(d, page, &pfn, &b) && b.node < c->reply.n_node)
		c->node[b.node].misc_reclaimable += UINT64_C(1) << b.order;
}

/* Whole huge pages that are free in the zones that lie on such pages. */
static uint64_t huge_free(const struct domain *d, const bool huge[MAX_NODES][MAX_NR_ZONES])
{
	struct mm_zone_stats z;
	uint32_t node, type;
	uint64_t n = 0;

	for (node = 0; node < mm_nr_nodes(d->zones); node++)
		for (type = 0; type < MAX_NR_ZONES; type++) {
			if (!huge[node][type])
				continue;
			mm_zone_stats(d->zones, node, (enum zone_type)type, &z);
			n += z.nr_free[PAGEBLOCK_ORDER] + 2 * z.nr_free[PAGEBLOCK_ORDER + 1];
		}
	return n;
}
_Static_assert(PAGEBLOCK_ORDER + 1 == MAX_PAGE_ORDER, "blocks of one and of two huge pages");

static void count_sections(struct statistics_call *c)
{
	const struct domain *d = c->job.kmmd->domain;
	uint64_t frames = UINT64_C(1) << d->control.geometry.section_order;
	bool huge[MAX_NODES][MAX_NR_ZONES] = { { false } };
	struct section_info info;
	uint32_t nr;

	for (nr = 0; nr < mm_nr_sections(d->mm); nr++) {
		mm_section_get(d->mm, (section_id_t){ nr }, &info);
		if (info.state == SECTION_ABSENT || info.node >= c->reply.n_node ||
		    (info.backing != SHM_HUGETLB_2M && info.backing != SHM_HUGETLB_1G))
			continue;
		c->node[info.node].hugetlb += frames;
		if (info.backing == SHM_HUGETLB_2M) {
			c->reply.huge_total += frames >> PAGEBLOCK_ORDER;
			huge[info.node][info.zone] |= info.state == SECTION_ONLINE;
		}
	}
	c->reply.huge_free = huge_free(d, huge);
}

/* Areas are what clients say (area.h): an entry counts for no more than there is. */
static bool count_area(void *ctx, const struct area_about *a)
{
	struct statistics_call *c = ctx;
	uint64_t most = c->job.kmmd->domain->control.geometry.frames;
	uint64_t pages = a->pages < most ? a->pages : most;
	uint32_t i;

	if (a->kind == CONTROL_AREA_PERCPU)
		c->reply.percpu += pages;
	if (a->kind == CONTROL_AREA_VMALLOC ||
	    (a->kind == CONTROL_AREA_STACK && a->size > (uint64_t)a->pages << PAGE_SHIFT))
		c->reply.vmalloc += pages;
	if (a->kind != CONTROL_AREA_STACK)
		return true;
	c->reply.stack += pages;
	for (i = 0; i < sizeof(a->node_pages) / sizeof(a->node_pages[0]) && i < c->reply.n_node; i++)
		c->node[i].stack += a->node_pages[i] < most ? a->node_pages[i] : most;
	return true;
}

static uint64_t memmap_frames(const struct pool *p)
{
	const struct memblock_type *reserved = &p->memblock.reserved;
	uint64_t bytes = 0;
	uint32_t i;

	for (i = 0; i < reserved->nr; i++)
		if (strcmp(reserved->regions[i].name, "mem_map") == 0)
			bytes += reserved->regions[i].size;
	return bytes >> PAGE_SHIFT;
}

static void statistics_work(struct service_job *j)
{
	struct statistics_call *c = (struct statistics_call *)j;
	struct domain *d = j->kmmd->domain;
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];
	uint32_t i;

	for (i = 0; i < VM_NR_EVENTS; i++)
		c->counter[i] = vm_counted(d->zones, (enum vm_event)i);
	for (i = 0; i < c->reply.n_node; i++)
		slab_frames_node(d->slabs, i, &c->node[i].slab_reclaimable,
		                 &c->node[i].slab_unreclaimable);
	grant_sections(d, NULL, mask);
	grant_walk(d, mask, count_cached, c);
	count_sections(c);
	area_each(d, count_area, c);
	c->reply.memmap = memmap_frames(j->kmmd->pool);
	service_job_done(j);
}

/* ---- the call ---- */

static void statistics_reply(struct service_job *j)
{
	struct statistics_call *c = (struct statistics_call *)j;

	if (!service_job_cancelled(j))
		rpc_pending_reply(&j->pending, &c->reply.base);
	free(c);
}

void service_get_statistics(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__GetStatisticsRequest *q = (const Kmm__V1__GetStatisticsRequest *)request;
	struct statistics_call *c;
	uint32_t i;

	if (!service_domain_known(call, q->domain))
		return;
	c = service_census_start(call, sizeof(*c));
	if (!c)
		return;
	kmm__v1__statistics__init(&c->reply);
	c->reply.n_counter = VM_NR_EVENTS;
	c->reply.counter = c->counter;
	c->reply.n_node = mm_nr_nodes(call->kmmd->domain->zones);
	c->reply.node = c->nodes;
	for (i = 0; i < c->reply.n_node; i++) {
		kmm__v1__node_statistics__init(&c->node[i]);
		c->nodes[i] = &c->node[i];
	}
	service_job_start(call, &c->job, statistics_work, statistics_reply);
}
