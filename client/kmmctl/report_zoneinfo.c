/* SPDX-License-Identifier: MIT */
/*
 * zoneinfo: every zone of every node, empty ones too.
 *
 * A node's statistics follow the heading of its first populated zone. A zone without frames ends
 * after its protection line. The names are those of the kernel whose output tests/data/zoneinfo
 * keeps; a pool counts few of the things they mean and shows 0 for the others, because parsers
 * count on the lines.
 */
#include "client/kmmctl/report.h"

#include <inttypes.h>
#include <string.h>

const char *const report_node_stat_names[REPORT_NODE_STATS] = {
	"nr_inactive_anon",
	"nr_active_anon",
	"nr_inactive_file",
	"nr_active_file",
	"nr_unevictable",
	"nr_slab_reclaimable",
	"nr_slab_unreclaimable",
	"nr_isolated_anon",
	"nr_isolated_file",
	"workingset_nodes",
	"workingset_refault_anon",
	"workingset_refault_file",
	"workingset_activate_anon",
	"workingset_activate_file",
	"workingset_restore_anon",
	"workingset_restore_file",
	"workingset_nodereclaim",
	"nr_anon_pages",
	"nr_mapped",
	"nr_file_pages",
	"nr_dirty",
	"nr_writeback",
	"nr_shmem",
	"nr_shmem_hugepages",
	"nr_shmem_pmdmapped",
	"nr_file_hugepages",
	"nr_file_pmdmapped",
	"nr_anon_transparent_hugepages",
	"nr_vmscan_write",
	"nr_vmscan_immediate_reclaim",
	"nr_dirtied",
	"nr_written",
	"nr_throttled_written",
	"nr_kernel_misc_reclaimable",
	"nr_foll_pin_acquired",
	"nr_foll_pin_released",
	"nr_kernel_stack",
	"nr_page_table_pages",
	"nr_sec_page_table_pages",
	"nr_iommu_pages",
	"nr_swapcached",
	"pgpromote_success",
	"pgpromote_candidate",
	"pgpromote_candidate_nrl",
	"pgdemote_kswapd",
	"pgdemote_direct",
	"pgdemote_khugepaged",
	"pgdemote_proactive",
	"nr_hugetlb",
	"nr_balloon_pages",
	"nr_kernel_file_pages",
};

const char *const report_zone_stat_names[REPORT_ZONE_STATS] = {
	"nr_free_pages",
	"nr_free_pages_blocks",
	"nr_zone_inactive_anon",
	"nr_zone_active_anon",
	"nr_zone_inactive_file",
	"nr_zone_active_file",
	"nr_zone_unevictable",
	"nr_zone_write_pending",
	"nr_mlock",
	"nr_zspages",
	"nr_free_cma",
};

const char *const report_numa_stat_names[REPORT_NUMA_STATS] = {
	"numa_hit",
	"numa_miss",
	"numa_foreign",
	"numa_interleave",
	"numa_local",
	"numa_other",
};

bool report_node_stat_set(struct report_node *node, const char *name, uint64_t value)
{
	for (size_t i = 0; i < REPORT_NODE_STATS; i++) {
		if (strcmp(report_node_stat_names[i], name) == 0) {
			node->stat[i] = value;
			return true;
		}
	}
	return false;
}

static void print_stats(FILE *out, const char *const name[], const uint64_t value[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, "\n      %-12s %" PRIu64, name[i], value ? value[i] : 0);
}

static void print_pages(FILE *out, const struct report_zone *z)
{
	fprintf(out,
	        "\n  pages free     %" PRIu64
	        "\n        boost    %" PRIu64
	        "\n        min      %" PRIu64
	        "\n        low      %" PRIu64
	        "\n        high     %" PRIu64
	        "\n        promo    %" PRIu64
	        "\n        spanned  %" PRIu64
	        "\n        present  %" PRIu64
	        "\n        managed  %" PRIu64
	        "\n        cma      %" PRIu64,
	        z->free, z->boost, z->min, z->low, z->high, z->promo, z->spanned, z->present,
	        z->managed, z->cma);
	fprintf(out, "\n        protection: (");
	for (uint32_t i = 0; i < z->nr_protection; i++)
		fprintf(out, "%s%" PRIu64, i ? ", " : "", z->protection[i]);
	fputc(')', out);
}

static void print_pagesets(FILE *out, const struct report_zone *z)
{
	fprintf(out, "\n  pagesets");
	for (uint32_t i = 0; i < z->nr_pcp; i++) {
		const struct report_pcp *p = &z->pcp[i];

		fprintf(out,
		        "\n    cpu: %" PRIu32
		        "\n              count:    %" PRIu32
		        "\n              high:     %" PRIu32
		        "\n              batch:    %" PRIu32
		        "\n              high_min: %" PRIu32
		        "\n              high_max: %" PRIu32
		        "\n  vm stats threshold: %" PRIu32,
		        p->cpu, p->count, p->high, p->batch, p->high_min, p->high_max,
		        z->stat_threshold);
	}
}

void report_zoneinfo(FILE *out, const struct report_zone zone[], size_t n,
                     const struct report_node node[], size_t nr_nodes)
{
	bool node_shown = false;

	for (size_t i = 0; i < n; i++) {
		const struct report_zone *z = &zone[i];

		if (i == 0 || z->node != zone[i - 1].node)
			node_shown = false;
		fprintf(out, "Node %" PRIu32 ", zone %8s", z->node, z->name);
		if (z->present && !node_shown) {
			node_shown = true;
			fprintf(out, "\n  per-node stats");
			print_stats(out, report_node_stat_names,
			            z->node < nr_nodes ? node[z->node].stat : NULL,
			            REPORT_NODE_STATS);
		}
		print_pages(out, z);
		if (z->present) {
			print_stats(out, report_zone_stat_names, z->stat, REPORT_ZONE_STATS);
			print_stats(out, report_numa_stat_names, z->numa, REPORT_NUMA_STATS);
			print_pagesets(out, z);
			fprintf(out, "\n  node_unreclaimable:  0\n  start_pfn:           %" PRIu64,
			        z->start_pfn);
		}
		fputc('\n', out);
	}
}
