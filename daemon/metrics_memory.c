/* SPDX-License-Identifier: MIT */
/*
 * Metrics of the pool: sections, zones, free blocks, reclaim and compaction.
 */
#include <stdlib.h>

#include "daemon/domain.h"
#include "daemon/kmmd.h"
#include "daemon/metrics_writer.h"
#include "daemon/pool.h"
#include "daemon/pressure.h"
#include "mm/mm.h"
#include "mm/vmstat.h"

struct zone_picture {
	struct mm_zone_stats stats;
	uint64_t percpu; /* frames on per-CPU lists */
	uint32_t node;
	const char *name;
};

/* Zones that have memory. */
struct zones {
	struct zone_picture *zone;
	uint32_t n;
};

static uint64_t bytes(uint64_t frames)
{
	return frames << PAGE_SHIFT;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0; /* of snapshots that do not fit each other quite */
}

static void zones_take(struct zones *z, const struct kmmd *k, struct zone_picture picture[])
{
	const struct mm_domain *d = k->domain->zones;
	uint32_t node, type, cpu;

	z->zone = picture;
	z->n = 0;
	for (node = 0; node < mm_nr_nodes(d); node++)
		for (type = 0; type < MAX_NR_ZONES; type++) {
			struct zone_picture *p = &z->zone[z->n];
			struct mm_pcp_stats pcp;

			mm_zone_stats(d, node, (enum zone_type)type, &p->stats);
			if (!p->stats.managed)
				continue;
			p->node = node;
			p->name = zone_names[type];
			p->percpu = 0;
			for (cpu = 0; cpu < k->nr_reactors; cpu++) {
				mm_pcp_stats(d, node, (enum zone_type)type, cpu, &pcp);
				p->percpu += pcp.count;
			}
			z->n++;
		}
}

#define ZONE_LABELS "node=\"%u\",zone=\"%s\""

static void write_zone_sizes(struct metrics_writer *w, const struct zones *z)
{
	static const char *const mark[] = { "min", "low", "high" };
	uint32_t i, m;

	metrics_family(w, METRICS_GAUGE, "kmmd_zone_size_bytes", "bytes",
	               "Memory that the zone manages.");
	for (i = 0; i < z->n; i++)
		metrics_u64(w, bytes(z->zone[i].stats.managed), ZONE_LABELS, z->zone[i].node,
		            z->zone[i].name);
	metrics_family(w, METRICS_GAUGE, "kmmd_zone_free_bytes", "bytes",
	               "Memory in the zone's free lists.");
	for (i = 0; i < z->n; i++)
		metrics_u64(w, bytes(z->zone[i].stats.free), ZONE_LABELS, z->zone[i].node,
		            z->zone[i].name);
	metrics_family(w, METRICS_GAUGE, "kmmd_zone_percpu_bytes", "bytes",
	               "Free memory on the reactors' own lists.");
	for (i = 0; i < z->n; i++)
		metrics_u64(w, bytes(z->zone[i].percpu), ZONE_LABELS, z->zone[i].node,
		            z->zone[i].name);
	metrics_family(w, METRICS_GAUGE, "kmmd_zone_used_bytes", "bytes",
	               "The rest: granted, cached by threads and depots, or in slabs.");
	for (i = 0; i < z->n; i++)
		metrics_u64(w,
		            bytes(less(z->zone[i].stats.managed,
		                       z->zone[i].stats.free + z->zone[i].percpu)),
		            ZONE_LABELS, z->zone[i].node, z->zone[i].name);
	metrics_family(w, METRICS_GAUGE, "kmmd_zone_watermark_bytes", "bytes",
	               "Watermarks: below low the daemon reclaims, below min only requests that may "
	               "use reserves are served.");
	for (i = 0; i < z->n; i++)
		for (m = WMARK_MIN; m <= WMARK_HIGH; m++)
			metrics_u64(w, bytes(z->zone[i].stats.wmark[m]), ZONE_LABELS ",mark=\"%s\"",
			            z->zone[i].node, z->zone[i].name, mark[m]);
}

static void write_buddy(struct metrics_writer *w, const struct zones *z)
{
	uint32_t i, order;

	metrics_family(w, METRICS_GAUGE, "kmmd_buddy_free_blocks", "",
	               "Free blocks of 2^order pages of 4 KiB.");
	for (i = 0; i < z->n; i++)
		for (order = 0; order < NR_PAGE_ORDERS; order++)
			metrics_u64(w, z->zone[i].stats.nr_free[order], ZONE_LABELS ",order=\"%u\"",
			            z->zone[i].node, z->zone[i].name, order);
}

static void write_zone_events(struct metrics_writer *w, const struct zones *z)
{
	static const struct {
		size_t offset;
		const char *name, *help;
		bool frames;
	} event[] = {
		{ offsetof(struct mm_zone_stats, alloc), "kmmd_zone_allocated_bytes",
		  "Memory allocated from the zone, for page blocks and slabs.", true },
		{ offsetof(struct mm_zone_stats, freed), "kmmd_zone_freed_bytes",
		  "Memory given back to the zone.", true },
		{ offsetof(struct mm_zone_stats, fallback), "kmmd_zone_fallbacks",
		  "Times that memory of another migrate type was used.", false },
		{ offsetof(struct mm_zone_stats, steal), "kmmd_zone_steals",
		  "Blocks taken from the lists of another migrate type.", false },
		{ offsetof(struct mm_zone_stats, claim), "kmmd_zone_claims",
		  "Free blocks that changed their migrate type for a request.", false },
		{ offsetof(struct mm_zone_stats, alloc_fail), "kmmd_zone_allocation_failures",
		  "Requests that found no block in any zone, counted at the zone they preferred.",
		  false },
	};
	uint32_t i, e;

	for (e = 0; e < sizeof(event) / sizeof(event[0]); e++) {
		metrics_family(w, METRICS_COUNTER, event[e].name, event[e].frames ? "bytes" : "",
		               event[e].help);
		for (i = 0; i < z->n; i++) {
			uint64_t n = *(const uint64_t *)((const char *)&z->zone[i].stats +
			                                 event[e].offset);

			metrics_u64(w, event[e].frames ? bytes(n) : n, ZONE_LABELS,
			            z->zone[i].node, z->zone[i].name);
		}
	}
}

static void write_pool(struct metrics_writer *w, const struct kmmd *k, const struct zones *z)
{
	const struct pool *p = k->pool;
	uint64_t free = 0, used = 0;
	struct pool_backing backing;
	uint32_t i;

	for (i = 0; i < z->n; i++) {
		free += z->zone[i].stats.free + z->zone[i].percpu;
		used += less(z->zone[i].stats.managed,
		             z->zone[i].stats.free + z->zone[i].percpu);
	}
	metrics_family(w, METRICS_GAUGE, "kmmd_pool_size_bytes", "bytes", "The pool.");
	metrics_u64(w, bytes(pool_present(p)), METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_pool_metadata_bytes", "bytes",
	               "Of the pool, its own tables.");
	metrics_u64(w, bytes(p->metadata_frames), METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_pool_free_bytes", "bytes",
	               "Of the pool, free: in all zones, with the reactors' own lists.");
	metrics_u64(w, bytes(free), METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_pool_used_bytes", "bytes",
	               "Of the pool, neither free nor tables.");
	metrics_u64(w, bytes(used), METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_pool_backing_bytes", "bytes",
	               "What backs the pool, by the size of its pages.");
	pool_backing_get(p, &backing);
	metrics_u64(w, backing.bytes_4k, "page=\"4k\"");
	metrics_u64(w, backing.bytes_2m, "page=\"2m\"");
	metrics_u64(w, backing.bytes_1g, "page=\"1g\"");
}

static void write_sections(struct metrics_writer *w, const struct kmmd *k)
{
	static const char *const name[SECTION_NR_STATES] = {
		[SECTION_ABSENT] = "absent",   [SECTION_RESERVE] = "reserve",
		[SECTION_ONLINE] = "online",   [SECTION_METADATA] = "metadata",
		[SECTION_RETIRED] = "retired",
	};
	uint32_t n[SECTION_NR_STATES] = { 0 }, i;
	struct section_info info;

	for (i = 0; i < mm_nr_sections(k->pool->mm); i++) {
		mm_section_get(k->pool->mm, (section_id_t){ i }, &info);
		n[info.state % SECTION_NR_STATES]++;
	}
	metrics_family(w, METRICS_GAUGE, "kmmd_sections", "",
	               "Sections by state; retired ones were lost to faults.");
	for (i = 0; i < SECTION_NR_STATES; i++)
		metrics_u64(w, n[i], "state=\"%s\"", name[i]);
}

/* ---- when memory is short ---- */

static void write_three(struct metrics_writer *w, const struct mm_domain *d, enum vm_event first)
{
	static const char *const by[] = { "background", "direct", "admin" };
	uint32_t i;

	for (i = 0; i < 3; i++)
		metrics_u64(w, bytes(vm_counted(d, first + i)), "by=\"%s\"", by[i]);
}

static void write_one(struct metrics_writer *w, const struct mm_domain *d, enum vm_event event,
                      const char *name, const char *help)
{
	metrics_family(w, METRICS_COUNTER, name, "", help);
	metrics_u64(w, vm_counted(d, event), METRICS_NO_LABELS);
}

static void write_reclaim(struct metrics_writer *w, const struct mm_domain *d)
{
	uint32_t i;

	metrics_family(w, METRICS_COUNTER, "kmmd_allocation_stalls", "",
	               "Requests that had to wait for memory, by the highest zone that would do.");
	for (i = 0; i < MAX_NR_ZONES; i++)
		metrics_u64(w, vm_counted(d, VM_ALLOCSTALL + i), "zone=\"%s\"", zone_names[i]);
	metrics_family(w, METRICS_COUNTER, "kmmd_reclaimed_bytes", "bytes",
	               "Page blocks that reclaim took back from threads, depots and sessions.");
	write_three(w, d, VM_PGSTEAL_KSWAPD);
	metrics_family(w, METRICS_COUNTER, "kmmd_reclaim_scanned_bytes", "bytes",
	               "Memory that reclaim looked at for it.");
	write_three(w, d, VM_PGSCAN_KSWAPD);
	write_one(w, d, VM_SLABS_SCANNED, "kmmd_reclaim_scanned_objects",
	          "Objects that reclaim asked shrinkers for, or took from depots and threads.");
	write_one(w, d, VM_PAGEOUTRUN, "kmmd_reclaim_runs", "Rounds of background reclaim.");
	metrics_family(w, METRICS_COUNTER, "kmmd_caches_dropped", "",
	               "Times that an admin dropped what is cached.");
	metrics_u64(w, vm_counted(d, VM_DROP_PAGECACHE), "kind=\"pages\"");
	metrics_u64(w, vm_counted(d, VM_DROP_SLAB), "kind=\"slabs\"");
}

static void write_compaction(struct metrics_writer *w, const struct mm_domain *d)
{
	metrics_family(w, METRICS_COUNTER, "kmmd_migrated_pages", "",
	               "Pages of high memory that were moved to another frame, or could not be.");
	metrics_u64(w, vm_counted(d, VM_PGMIGRATE_SUCCESS), "result=\"success\"");
	metrics_u64(w, vm_counted(d, VM_PGMIGRATE_FAIL), "result=\"failure\"");
	metrics_family(w, METRICS_COUNTER, "kmmd_compaction_scanned_bytes", "bytes",
	               "Memory that compaction looked at, for pages to move or free frames.");
	metrics_u64(w, bytes(vm_counted(d, VM_COMPACT_MIGRATE_SCANNED)), "scanner=\"migrate\"");
	metrics_u64(w, bytes(vm_counted(d, VM_COMPACT_FREE_SCANNED)), "scanner=\"free\"");
	write_one(w, d, VM_COMPACT_STALL, "kmmd_compaction_stalls",
	          "Requests that compacted for themselves.");
	metrics_family(w, METRICS_COUNTER, "kmmd_compactions", "",
	               "How the compactions that requests made ended.");
	metrics_u64(w, vm_counted(d, VM_COMPACT_SUCCESS), "result=\"success\"");
	metrics_u64(w, vm_counted(d, VM_COMPACT_FAIL), "result=\"failure\"");
	write_one(w, d, VM_COMPACT_DAEMON_WAKE, "kmmd_compaction_background_runs",
	          "Compactions in the background.");
}

static void write_state(struct metrics_writer *w, const struct domain *d)
{
	metrics_family(w, METRICS_GAUGE, "kmmd_pressure", "",
	               "1 while a request waits for memory: threads give back what they cache.");
	metrics_u64(w, pressure_is_on(d), METRICS_NO_LABELS);
	/* relaxed, all: for a report */
	metrics_family(w, METRICS_GAUGE, "kmmd_scarce", "",
	               "1 for a while after a request found no memory.");
	metrics_u64(w, atomic_load_explicit(&d->control.status->scarce, memory_order_relaxed) != 0,
	            METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_damage_findings", "",
	               "Words of the pool that made no sense: some process wrote where it must not. "
	               "kmmctl fsck lists them.");
	metrics_u64(w, atomic_load_explicit(&d->damaged, memory_order_relaxed), METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_spoiled", "",
	               "1 when control memory was destroyed by a process: nothing is granted any "
	               "more.");
	metrics_u64(w, atomic_load_explicit(&d->spoiled, memory_order_relaxed), METRICS_NO_LABELS);
}

void metrics_write_memory(struct metrics_writer *w, struct kmmd *k)
{
	/* As many as there can be, some kilobytes each: not on a thread's stack. */
	struct zone_picture *picture =
		calloc((size_t)mm_nr_nodes(k->domain->zones) * MAX_NR_ZONES, sizeof(*picture));
	struct zones z;

	if (!picture) {
		w->failed = true;
		return;
	}
	zones_take(&z, k, picture);
	write_pool(w, k, &z);
	write_sections(w, k);
	write_zone_sizes(w, &z);
	write_buddy(w, &z);
	write_zone_events(w, &z);
	write_reclaim(w, k->domain->zones);
	write_compaction(w, k->domain->zones);
	write_state(w, k->domain);
	free(picture);
}
