/* SPDX-License-Identifier: MIT */
/*
 * Draining: what lies in a cache of ours is nobody's, and goes back to the zones.
 *
 *   sessions   idle threads' objects, asked for by a FLUSH (flush.c); before all that follows
 *   reactors   their magazines of objects, whose slabs then go to the lists of pages, then these lists
 *   worker     magazines of the depot and of the rack; blocks whose words say RETURNED; objects
 *              likewise; slabs that are empty by now
 *
 * Each layer may fill the next, so the order matters. Used where an operator wants the memory
 * (DropCaches) or a whole section (Offline).
 */
#include "daemon/drain.h"

#include "daemon/domain.h"
#include "daemon/object.h"
#include "daemon/reactor.h"
#include "daemon/reclaim.h"

uint64_t drain_reactor(struct reactor *r)
{
	struct mm_domain *zones = r->kmmd->domain->zones;
	struct mm_pcp_stats s;
	uint64_t n = 0;
	uint32_t node;
	unsigned int type;

	for (node = 0; node < mm_nr_nodes(zones); node++)
		for (type = 0; type < MAX_NR_ZONES; type++) {
			mm_pcp_stats(zones, node, (enum zone_type)type, r->index, &s);
			n += s.count;
		}
	/* first: its slabs go to the lists that are drained next */
	slab_drain_cpu(r->kmmd->domain->slabs, r->index);
	mm_drain_cpu(zones, r->index);
	return n;
}

void drain_domain(struct domain *d, struct drained *n)
{
	reclaim_begin(RECLAIM_PROACTIVE);
	/* Page blocks; of objects the depot's magazines count as such, and their slabs below. */
	n->depot = exchange_drain_pages(d, MM_CPU_NONE);
	exchange_drain(d, MM_CPU_NONE);
	n->threads = grant_collect(d, NULL, MM_CPU_NONE);
	object_collect(d, NULL, NULL, MM_CPU_NONE);
	slab_shrink_all(d->slabs, MM_CPU_NONE);
	reclaim_end();
}
