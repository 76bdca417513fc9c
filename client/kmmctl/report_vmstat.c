/* SPDX-License-Identifier: MIT */
/*
 * vmstat: counts and events, a line each, in a fixed order.
 *
 *     zones' statistics   numa   nodes' statistics   limits, memory map, events
 *     as in zoneinfo, summed                          event_names
 *
 * The names are those of the kernel whose output tests/data/vmstat keeps. What a pool does not have
 * (page cache, swap, transparent huge pages, page faults) is 0. With high memory three lines more
 * stand between those of Normal and Movable, as in kernels with CONFIG_HIGHMEM.
 */
#include "client/kmmctl/report.h"

#include <inttypes.h>
#include <string.h>

#define EVENTS (REPORT_VMSTAT_LINES - REPORT_ZONE_STATS - REPORT_NUMA_STATS - REPORT_NODE_STATS)

static const char *const event_names[EVENTS] = {
	"nr_dirty_threshold",
	"nr_dirty_background_threshold",
	"nr_memmap_pages",
	"nr_memmap_boot_pages",
	"pgpgin",
	"pgpgout",
	"pswpin",
	"pswpout",
	"pgalloc_dma",
	"pgalloc_dma32",
	"pgalloc_normal",
	"pgalloc_high",
	"pgalloc_movable",
	"pgalloc_device",
	"allocstall_dma",
	"allocstall_dma32",
	"allocstall_normal",
	"allocstall_high",
	"allocstall_movable",
	"allocstall_device",
	"pgskip_dma",
	"pgskip_dma32",
	"pgskip_normal",
	"pgskip_high",
	"pgskip_movable",
	"pgskip_device",
	"pgfree",
	"pgactivate",
	"pgdeactivate",
	"pglazyfree",
	"pgfault",
	"pgmajfault",
	"pglazyfreed",
	"pgrefill",
	"pgreuse",
	"pgsteal_kswapd",
	"pgsteal_direct",
	"pgsteal_khugepaged",
	"pgsteal_proactive",
	"pgscan_kswapd",
	"pgscan_direct",
	"pgscan_khugepaged",
	"pgscan_proactive",
	"pgscan_direct_throttle",
	"pgscan_anon",
	"pgscan_file",
	"pgsteal_anon",
	"pgsteal_file",
	"zone_reclaim_success",
	"zone_reclaim_failed",
	"pginodesteal",
	"slabs_scanned",
	"kswapd_inodesteal",
	"kswapd_low_wmark_hit_quickly",
	"kswapd_high_wmark_hit_quickly",
	"pageoutrun",
	"pgrotated",
	"drop_pagecache",
	"drop_slab",
	"oom_kill",
	"numa_pte_updates",
	"numa_huge_pte_updates",
	"numa_hint_faults",
	"numa_hint_faults_local",
	"numa_pages_migrated",
	"pgmigrate_success",
	"pgmigrate_fail",
	"thp_migration_success",
	"thp_migration_fail",
	"thp_migration_split",
	"compact_migrate_scanned",
	"compact_free_scanned",
	"compact_isolated",
	"compact_stall",
	"compact_fail",
	"compact_success",
	"compact_daemon_wake",
	"compact_daemon_migrate_scanned",
	"compact_daemon_free_scanned",
	"htlb_buddy_alloc_success",
	"htlb_buddy_alloc_fail",
	"unevictable_pgs_culled",
	"unevictable_pgs_scanned",
	"unevictable_pgs_rescued",
	"unevictable_pgs_mlocked",
	"unevictable_pgs_munlocked",
	"unevictable_pgs_cleared",
	"unevictable_pgs_stranded",
	"thp_fault_alloc",
	"thp_fault_fallback",
	"thp_fault_fallback_charge",
	"thp_collapse_alloc",
	"thp_collapse_alloc_failed",
	"thp_file_alloc",
	"thp_file_fallback",
	"thp_file_fallback_charge",
	"thp_file_mapped",
	"thp_split_page",
	"thp_split_page_failed",
	"thp_deferred_split_page",
	"thp_underused_split_page",
	"thp_split_pmd",
	"thp_scan_exceed_none_pte",
	"thp_scan_exceed_swap_pte",
	"thp_scan_exceed_share_pte",
	"thp_split_pud",
	"thp_zero_page_alloc",
	"thp_zero_page_alloc_failed",
	"thp_swpout",
	"thp_swpout_fallback",
	"balloon_inflate",
	"balloon_deflate",
	"balloon_migrate",
	"swap_ra",
	"swap_ra_hit",
	"swpin_zero",
	"swpout_zero",
	"ksm_swpin_copy",
	"cow_ksm",
	"zswpin",
	"zswpout",
	"zswpwb",
	"direct_map_level2_splits",
	"direct_map_level3_splits",
	"direct_map_level2_collapses",
	"direct_map_level3_collapses",
	"nr_unstable",
};

const char *report_vmstat_name(size_t i)
{
	if (i < REPORT_ZONE_STATS)
		return report_zone_stat_names[i];
	i -= REPORT_ZONE_STATS;
	if (i < REPORT_NUMA_STATS)
		return report_numa_stat_names[i];
	i -= REPORT_NUMA_STATS;
	if (i < REPORT_NODE_STATS)
		return report_node_stat_names[i];
	i -= REPORT_NODE_STATS;
	return i < EVENTS ? event_names[i] : NULL;
}

bool report_vmstat_shown(const struct report_vmstat *v, size_t i)
{
	const char *name = report_vmstat_name(i);

	if (!name)
		return false;
	return v->highmem || (strcmp(name, "pgalloc_high") != 0 &&
	                      strcmp(name, "allocstall_high") != 0 &&
	                      strcmp(name, "pgskip_high") != 0);
}

bool report_vmstat_add(struct report_vmstat *v, const char *name, uint64_t value)
{
	for (size_t i = 0; i < REPORT_VMSTAT_LINES; i++) {
		if (strcmp(report_vmstat_name(i), name) == 0) {
			v->value[i] += value;
			return true;
		}
	}
	return false;
}

void report_vmstat(FILE *out, const struct report_vmstat *v)
{
	for (size_t i = 0; i < REPORT_VMSTAT_LINES; i++)
		if (report_vmstat_shown(v, i))
			fprintf(out, "%s %" PRIu64 "\n", report_vmstat_name(i), v->value[i]);
}
