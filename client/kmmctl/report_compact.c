/* SPDX-License-Identifier: MIT */
/*
 * compact: what moved, a line a zone. FRAGMENTED is the share of the free frames that lie in blocks
 * smaller than a pageblock, before and after.
 */
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>

void report_compact(FILE *out, const kmm_v1_Compacted zone[], size_t n)
{
	static const struct table_column columns[] = {
		{ "NODE", TABLE_RIGHT },    { "ZONE", TABLE_LEFT },       { "SCANNED", TABLE_RIGHT },
		{ "MOVED", TABLE_RIGHT },   { "FAILED", TABLE_RIGHT },    { "PAGEBLOCKS", TABLE_RIGHT },
		{ "FRAGMENTED", TABLE_RIGHT },
	};
	struct table *t;

	if (n == 0) {
		fputs("no zone has pages that move: [pool] highmem and movable give it some\n", out);
		return;
	}
	t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Compacted *z = &zone[i];

		table_cell(t, "%" PRIu32, z->node);
		table_cell(t, "%s", z->zone);
		table_cell(t, "%" PRIu64, z->migrate_scanned + z->free_scanned);
		table_cell(t, "%" PRIu64, z->moved);
		table_cell(t, "%" PRIu64, z->failed);
		table_cell(t, "%+" PRId64, z->gained);
		table_cell(t, "%" PRIu32 "%%->%" PRIu32 "%%", z->score_before, z->score_after);
	}
	table_print(out, t);
	table_free(t);
}
