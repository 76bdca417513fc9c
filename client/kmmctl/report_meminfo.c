/* SPDX-License-Identifier: MIT */
/*
 * meminfo and iomem.
 *
 * meminfo is a list of labels in a fixed order; a line's value is looked up by its label. Lines
 * that mean nothing for a pool (page cache, swap, …) are 0. HugePages_* are numbers of pages and
 * have no unit, everything else is in kB. The lines of high memory come only with high memory.
 *
 * iomem is a tree by indentation, addresses in at least eight digits.
 */
#include "client/kmmctl/report.h"

#include <inttypes.h>
#include <string.h>

enum meminfo_kind { MEMINFO_KB, MEMINFO_HIGHMEM, MEMINFO_PAGES };

static const struct {
	const char *label;
	enum meminfo_kind kind;
} meminfo_lines[REPORT_MEMINFO_LINES] = {
	{ "MemTotal", MEMINFO_KB },
	{ "MemFree", MEMINFO_KB },
	{ "MemAvailable", MEMINFO_KB },
	{ "Buffers", MEMINFO_KB },
	{ "Cached", MEMINFO_KB },
	{ "SwapCached", MEMINFO_KB },
	{ "Active", MEMINFO_KB },
	{ "Inactive", MEMINFO_KB },
	{ "Active(anon)", MEMINFO_KB },
	{ "Inactive(anon)", MEMINFO_KB },
	{ "Active(file)", MEMINFO_KB },
	{ "Inactive(file)", MEMINFO_KB },
	{ "Unevictable", MEMINFO_KB },
	{ "Mlocked", MEMINFO_KB },
	{ "HighTotal", MEMINFO_HIGHMEM },
	{ "HighFree", MEMINFO_HIGHMEM },
	{ "LowTotal", MEMINFO_HIGHMEM },
	{ "LowFree", MEMINFO_HIGHMEM },
	{ "SwapTotal", MEMINFO_KB },
	{ "SwapFree", MEMINFO_KB },
	{ "Zswap", MEMINFO_KB },
	{ "Zswapped", MEMINFO_KB },
	{ "Dirty", MEMINFO_KB },
	{ "Writeback", MEMINFO_KB },
	{ "AnonPages", MEMINFO_KB },
	{ "Mapped", MEMINFO_KB },
	{ "Shmem", MEMINFO_KB },
	{ "KReclaimable", MEMINFO_KB },
	{ "Slab", MEMINFO_KB },
	{ "SReclaimable", MEMINFO_KB },
	{ "SUnreclaim", MEMINFO_KB },
	{ "KernelStack", MEMINFO_KB },
	{ "PageTables", MEMINFO_KB },
	{ "SecPageTables", MEMINFO_KB },
	{ "NFS_Unstable", MEMINFO_KB },
	{ "Bounce", MEMINFO_KB },
	{ "WritebackTmp", MEMINFO_KB },
	{ "CommitLimit", MEMINFO_KB },
	{ "Committed_AS", MEMINFO_KB },
	{ "VmallocTotal", MEMINFO_KB },
	{ "VmallocUsed", MEMINFO_KB },
	{ "VmallocChunk", MEMINFO_KB },
	{ "Percpu", MEMINFO_KB },
	{ "AnonHugePages", MEMINFO_KB },
	{ "ShmemHugePages", MEMINFO_KB },
	{ "ShmemPmdMapped", MEMINFO_KB },
	{ "FileHugePages", MEMINFO_KB },
	{ "FilePmdMapped", MEMINFO_KB },
	{ "Balloon", MEMINFO_KB },
	{ "HugePages_Total", MEMINFO_PAGES },
	{ "HugePages_Free", MEMINFO_PAGES },
	{ "HugePages_Rsvd", MEMINFO_PAGES },
	{ "HugePages_Surp", MEMINFO_PAGES },
	{ "Hugepagesize", MEMINFO_KB },
	{ "Hugetlb", MEMINFO_KB },
	{ "DirectMap4k", MEMINFO_KB },
	{ "DirectMap2M", MEMINFO_KB },
	{ "DirectMap1G", MEMINFO_KB },
};

const char *report_meminfo_label(size_t i)
{
	return i < REPORT_MEMINFO_LINES ? meminfo_lines[i].label : NULL;
}

bool report_meminfo_shown(const struct report_meminfo *m, size_t i)
{
	return i < REPORT_MEMINFO_LINES &&
	       (m->highmem || meminfo_lines[i].kind != MEMINFO_HIGHMEM);
}

bool report_meminfo_set(struct report_meminfo *m, const char *label, uint64_t value)
{
	for (size_t i = 0; i < REPORT_MEMINFO_LINES; i++) {
		if (strcmp(meminfo_lines[i].label, label) == 0) {
			m->value[i] = value;
			return true;
		}
	}
	return false;
}

void report_meminfo(FILE *out, const struct report_meminfo *m)
{
	for (size_t i = 0; i < REPORT_MEMINFO_LINES; i++) {
		char label[32];

		if (!report_meminfo_shown(m, i))
			continue;
		snprintf(label, sizeof(label), "%s:", meminfo_lines[i].label);
		fprintf(out, "%-16s%8" PRIu64 "%s\n", label, m->value[i],
		        meminfo_lines[i].kind == MEMINFO_PAGES ? "" : " kB");
	}
}

void report_iomem(FILE *out, const struct report_resource resource[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct report_resource *r = &resource[i];

		fprintf(out, "%*s%08" PRIx64 "-%08" PRIx64 " : %s\n", 2 * (int)r->depth, "",
		        r->start, r->end, r->name);
	}
}
