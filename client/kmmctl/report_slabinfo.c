/* SPDX-License-Identifier: MIT */
/*
 * slabinfo and leaks: objects by cache, and by who has them.
 *
 * slabinfo is Linux's format 2.1, newest cache first. A row is 16 fields between single blanks or
 * more, so that a cache's name must not have any; the daemon takes no such name. As in the slab
 * allocator that Linux had until 6.7, tunables and slabdata are real: limit is the largest magazine
 * that a client's thread uses now, batchcount what a reactor moves at once, sharedfactor how many
 * full magazines the depot keeps, active_slabs are those that are not empty, and sharedavail are
 * the objects in the depot.
 */
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>

void report_slabinfo(FILE *out, const kmm_v1_Cache cache[], size_t n)
{
	fputs("slabinfo - version: 2.1\n"
	      "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> "
	      ": tunables <limit> <batchcount> <sharedfactor> "
	      ": slabdata <active_slabs> <num_slabs> <sharedavail>\n", out);
	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Cache *c = &cache[i];

		fprintf(out, "%-17s %6" PRIu64 " %6" PRIu64 " %6" PRIu32 " %4" PRIu32 " %4u",
		        c->name, c->active_objects, c->objects, c->stride, c->objects_per_slab,
		        report_slab_pages(c));
		fprintf(out, " : tunables %4" PRIu32 " %4" PRIu32 " %4" PRIu32, c->limit,
		        c->batchcount, c->shared);
		fprintf(out, " : slabdata %6" PRIu64 " %6" PRIu64 " %6" PRIu64 "\n",
		        c->active_slabs, c->slabs, c->shared_available);
	}
}

unsigned int report_slab_pages(const kmm_v1_Cache *c)
{
	/* An order beyond the largest is nonsense from the other side, and no shift. */
	return c->order < REPORT_ORDERS ? 1u << c->order : 0;
}

/* An earlier line is of the same session and not exact either. */
static bool told_before(const kmm_v1_Leak leak[], size_t i)
{
	for (size_t j = i; j > 0 && leak[j - 1].session == leak[i].session; j--)
		if (!leak[j - 1].flushed)
			return true;
	return false;
}

void report_leaks(FILE *out, const kmm_v1_Leak leak[], size_t n, uint64_t now)
{
	static const struct table_column columns[] = {
		{ "SESSION", TABLE_RIGHT }, { "PID", TABLE_RIGHT },   { "STATE", TABLE_LEFT },
		{ "AGE", TABLE_RIGHT },     { "CACHE", TABLE_LEFT },  { "OBJECTS", TABLE_RIGHT },
		{ "MEMORY", TABLE_RIGHT },  { "NAME", TABLE_LEFT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	char unit[TABLE_UNIT_SIZE];

	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Leak *l = &leak[i];

		if (l->session) {
			table_cell(t, "%" PRIu32, l->session);
			table_cell(t, "%" PRIu32, l->pid);
			table_cell(t, "%s", l->state);
			table_cell(t, "%s", table_age(unit, now > l->opened ? now - l->opened : 0));
		} else { /* its owner is gone: names and further holders keep it */
			table_cell(t, "-");
			table_cell(t, "-");
			table_cell(t, "%s", l->state);
			table_cell(t, "-");
		}
		table_cell(t, "%s", l->cache[0] ? l->cache : "(page blocks)");
		table_cell(t, "%" PRIu64, l->objects);
		table_cell(t, "%s", table_bytes(unit, l->bytes));
		table_cell(t, "%s", l->session ? l->name : "-");
	}
	table_print(out, t);
	table_free(t);
	for (size_t i = 0; i < n; i++)
		/* Once a session: its lines follow each other, blocks say that they are exact. */
		if (!leak[i].flushed && !told_before(leak, i))
			fprintf(out,
			        "session %" PRIu32 " did not answer: objects that its idle threads "
			        "merely cache are among these\n",
			        leak[i].session);
}
