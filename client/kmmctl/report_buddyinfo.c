/* SPDX-License-Identifier: MIT */
/*
 * buddyinfo and pagetypeinfo: free blocks of each populated zone by order, and by migrate type and
 * order. Every number is followed by a space, the last of a line too: parsers split on that.
 *
 * pagetypeinfo is one report a node. Linux counts its lists by walking them under the zone's lock
 * and gives up at 100,000 blocks, which shows as ">100000"; a pool has counters but shows the same,
 * so that the columns keep to what parsers have seen.
 */
#include "client/kmmctl/report.h"

#include <inttypes.h>

#define PAGETYPE_COUNT_MAX 100000u

const char *const report_type_names[REPORT_TYPES] = {
	"Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate",
};

void report_buddyinfo(FILE *out, const struct report_zone zone[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct report_zone *z = &zone[i];

		if (!z->present)
			continue;
		fprintf(out, "Node %" PRIu32 ", zone %8s ", z->node, z->name);
		for (uint32_t order = 0; order < REPORT_ORDERS; order++)
			fprintf(out, "%6" PRIu64 " ", z->nr_free[order]);
		fputc('\n', out);
	}
}

static void print_free(FILE *out, const struct report_zone zone[], size_t n)
{
	fprintf(out, "%-43s ", "Free pages count per migrate type at order");
	for (uint32_t order = 0; order < REPORT_ORDERS; order++)
		fprintf(out, "%6" PRIu32 " ", order);
	fputc('\n', out);
	for (size_t i = 0; i < n; i++) {
		const struct report_zone *z = &zone[i];

		if (!z->present)
			continue;
		for (uint32_t type = 0; type < REPORT_TYPES; type++) {
			fprintf(out, "Node %4" PRIu32 ", zone %8s, type %12s ", z->node, z->name,
			        report_type_names[type]);
			for (uint32_t order = 0; order < REPORT_ORDERS; order++) {
				uint64_t count = z->nr_free_type[type][order];

				if (count >= PAGETYPE_COUNT_MAX)
					fprintf(out, ">%6u ", PAGETYPE_COUNT_MAX);
				else
					fprintf(out, "%6" PRIu64 " ", count);
			}
			fputc('\n', out);
		}
	}
}

static void print_pageblocks(FILE *out, const struct report_zone zone[], size_t n)
{
	fprintf(out, "\n%-23s", "Number of blocks type ");
	for (uint32_t type = 0; type < REPORT_TYPES; type++)
		fprintf(out, "%12s ", report_type_names[type]);
	fputc('\n', out);
	for (size_t i = 0; i < n; i++) {
		const struct report_zone *z = &zone[i];

		if (!z->present)
			continue;
		fprintf(out, "Node %" PRIu32 ", zone %8s ", z->node, z->name);
		for (uint32_t type = 0; type < REPORT_TYPES; type++)
			fprintf(out, "%12" PRIu64 " ", z->pageblocks[type]);
		fputc('\n', out);
	}
}

static bool any_present(const struct report_zone zone[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (zone[i].present)
			return true;
	return false;
}

void report_pagetypeinfo(FILE *out, const struct report_zone zone[], size_t n)
{
	for (size_t first = 0, next; first < n; first = next) {
		for (next = first + 1; next < n && zone[next].node == zone[first].node; next++)
			;
		if (!any_present(&zone[first], next - first))
			continue;
		fprintf(out, "Page block order: %u\nPages per block:  %u\n\n",
		        REPORT_PAGEBLOCK_ORDER, 1u << REPORT_PAGEBLOCK_ORDER);
		print_free(out, &zone[first], next - first);
		print_pageblocks(out, &zone[first], next - first);
	}
}
