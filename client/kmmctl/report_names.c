/* SPDX-License-Identifier: MIT */
/*
 * names: what is published, a line each. Who published it may be gone, and need not own it: a name
 * keeps its thing for everybody until it is taken away.
 */
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>

static void cell_what(struct table *t, const kmm_v1_Name *m)
{
	if (m->stale)
		table_cell(t, "(freed or adopted)");
	else if (m->cache[0])
		table_cell(t, "object of %s", m->cache);
	else
		table_cell(t, "block of order %" PRIu32, m->order);
}

static void cell_session(struct table *t, uint32_t id)
{
	if (id)
		table_cell(t, "%" PRIu32, id);
	else
		table_cell(t, "-");
}

void report_names(FILE *out, const kmm_v1_Name name[], size_t n)
{
	static const struct table_column columns[] = {
		{ "NAME", TABLE_LEFT },     { "WHAT", TABLE_LEFT }, { "SIZE", TABLE_RIGHT },
		{ "SESSION", TABLE_RIGHT }, { "UID", TABLE_RIGHT }, { "OWNER", TABLE_RIGHT },
		{ "HOLDERS", TABLE_RIGHT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	char unit[TABLE_UNIT_SIZE];

	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Name *m = &name[i];

		table_cell(t, "%s", m->name);
		cell_what(t, m);
		table_cell(t, "%s", m->stale ? "-" : table_bytes(unit, m->bytes));
		cell_session(t, m->session);
		table_cell(t, "%" PRIu32, m->uid);
		cell_session(t, m->owner);
		table_cell(t, "%" PRIu32, m->holders);
	}
	table_print(out, t);
	table_free(t);
}
