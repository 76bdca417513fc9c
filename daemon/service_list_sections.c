/* SPDX-License-Identifier: MIT */
/*
 * ListSections: what each section of the pool is, lies on, and has in use; what Offline is asked about.
 *
 * The worker looks at the frames of every section, as of a moment each (mm/inspect.c); the reactor
 * sends what it saw. O(frames).
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/domain.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "mm/inspect.h"
#include "proto/kmm.pb-c.h"

struct section_look {
	struct section_info info;
	uint64_t used, movable;
};

struct sections_call {
	struct service_job job; /* first */
	uint32_t n, next;
	struct section_look look[MAX_SECTIONS];
};

/* In blocks and slabs; of these in blocks that can move. */
static void look_at(const struct domain *d, uint32_t section, struct section_look *l)
{
	struct mm_run run[MM_SCAN_FRAMES];
	pfn_t pfn = mm_section_start(d->mm, (section_id_t){ section });
	pfn_t end = pfn + (1u << mm_config(d->mm)->section_order);
	bool high;

	mm_section_get(d->mm, (section_id_t){ section }, &l->info);
	if (l->info.state != SECTION_ONLINE)
		return;
	high = l->info.zone == ZONE_HIGHMEM || l->info.zone == ZONE_MOVABLE;
	for (; pfn < end; pfn += MM_SCAN_FRAMES) {
		uint32_t n = mm_scan(d->zones, pfn, run);

		for (uint32_t i = 0; i < n; i++) {
			if (run[i].state != MM_FRAME_BLOCK && run[i].state != MM_FRAME_SLAB)
				continue;
			l->used += run[i].frames;
			if (high && run[i].state == MM_FRAME_BLOCK && run[i].order == 0)
				l->movable += run[i].frames;
		}
	}
}

static void sections_work(struct service_job *j)
{
	struct sections_call *c = (struct sections_call *)j;

	c->n = mm_nr_sections(j->kmmd->domain->mm);
	for (uint32_t s = 0; s < c->n; s++)
		look_at(j->kmmd->domain, s, &c->look[s]);
	service_job_done(j);
}

static int sections_send(struct service_job *j, uint32_t i)
{
	const struct section_look *l = &((struct sections_call *)j)->look[i];
	static const char *const state[SECTION_NR_STATES] = {
		[SECTION_ABSENT] = "absent",     [SECTION_RESERVE] = "reserve",
		[SECTION_ONLINE] = "online",     [SECTION_METADATA] = "metadata",
		[SECTION_RETIRED] = "retired",
	};
	bool zoned = l->info.state == SECTION_ONLINE || l->info.state == SECTION_ABSENT ||
	             l->info.state == SECTION_RESERVE;
	Kmm__V1__Section m = KMM__V1__SECTION__INIT;

	m.section = i;
	m.state = (char *)(uintptr_t)state[l->info.state % SECTION_NR_STATES];
	m.node = l->info.node;
	m.zone = (char *)(uintptr_t)(zoned ? zone_names[l->info.zone] : "");
	m.backing = (char *)(uintptr_t)(l->info.state == SECTION_ABSENT ?
	                                        "" : shm_backing_name((enum shm_backing)l->info.backing));
	m.frames = UINT64_C(1) << j->kmmd->pool->section_order;
	m.used = l->used;
	m.movable = l->movable;
	m.epoch = l->info.epoch;
	return rpc_pending_item(&j->pending, &m.base) ? 1 : -1;
}

static void sections_reply(struct service_job *j)
{
	struct sections_call *c = (struct sections_call *)j;
	Kmm__V1__ListSectionsRequest empty = KMM__V1__LIST_SECTIONS_REQUEST__INIT;

	if (service_job_list(j, &c->next, c->n, false, sections_send, &empty.base))
		free(c);
}

void service_list_sections(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct sections_call *c = service_census_start(call, sizeof(*c));

	(void)request;
	if (c)
		service_job_start(call, &c->job, sections_work, sections_reply);
}
