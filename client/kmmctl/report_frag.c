/* SPDX-License-Identifier: MIT */
/*
 * Fragmentation as text: free blocks, unusable share and index of each zone by order (the two in the
 * format of Linux's debugfs files), what each cache loses, and what would help.
 */
#include "client/kmmctl/frag.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>
#include <stdlib.h>

static void print_thousandths(FILE *out, int value)
{
	fprintf(out, "%s%d.%03d ", value < 0 ? "-" : " ", abs(value) / 1000, abs(value) % 1000);
}

static void print_rows(FILE *out, const struct frag *f, const char *title, size_t at)
{
	fprintf(out, "\n%s\n", title);
	for (size_t i = 0; i < f->zones; i++) {
		const struct frag_zone *z = &f->zone[i];
		const int *value = (const int *)((const char *)z + at);

		fprintf(out, "Node %" PRIu32 ", zone %8s ", z->zone->node, z->zone->name);
		for (uint32_t o = 0; o < REPORT_ORDERS; o++)
			print_thousandths(out, value[o]);
		fputc('\n', out);
	}
}

static void print_external(FILE *out, const struct frag *f)
{
	fputs("External fragmentation: free memory by the blocks that it lies in\n\n"
	      "free blocks of 2^0 to 2^10 frames\n", out);
	for (size_t i = 0; i < f->zones; i++) {
		const struct report_zone *z = f->zone[i].zone;

		fprintf(out, "Node %" PRIu32 ", zone %8s ", z->node, z->name);
		for (uint32_t o = 0; o < REPORT_ORDERS; o++)
			fprintf(out, "%6" PRIu64 " ", z->nr_free[o]);
		fputc('\n', out);
	}
	print_rows(out, f, "share of free memory that is of no use for a block of that order",
	           offsetof(struct frag_zone, unusable));
	print_rows(out, f,
	           "fragmentation index: -1.000 a block is there; near 0 memory is short; near 1 it "
	           "is scattered", offsetof(struct frag_zone, index));
}

static void print_cache(struct table *t, const struct frag_cache *c)
{
	uint64_t waste = frag_waste(c), all = waste + c->asked;
	char unit[TABLE_UNIT_SIZE];

	if (c->cache) {
		table_cell(t, "%s", c->cache->name);
		table_cell(t, "%" PRIu32, c->cache->size);
		table_cell(t, "%" PRIu32, c->cache->stride);
	} else {
		table_cell(t, "all");
		table_cell(t, "%s", "");
		table_cell(t, "%s", "");
	}
	table_cell(t, "%" PRIu64, c->objects);
	table_cell(t, "%s", table_bytes(unit, c->asked));
	table_cell(t, "%s", table_bytes(unit, c->padding));
	table_cell(t, "%s", table_bytes(unit, c->unused));
	table_cell(t, "%s", table_bytes(unit, c->ends));
	table_cell(t, "%s", table_bytes(unit, c->words));
	table_cell(t, "%" PRIu64 "%%", all ? (waste * 100 + all / 2) / all : 0);
}

static void print_internal(FILE *out, const struct frag *f)
{
	static const struct table_column columns[] = {
		{ "CACHE", TABLE_LEFT },    { "SIZE", TABLE_RIGHT },   { "STRIDE", TABLE_RIGHT },
		{ "OBJECTS", TABLE_RIGHT }, { "ASKED", TABLE_RIGHT },  { "PADDING", TABLE_RIGHT },
		{ "UNUSED", TABLE_RIGHT },  { "ENDS", TABLE_RIGHT },   { "WORDS", TABLE_RIGHT },
		{ "WASTE", TABLE_RIGHT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	fputs("\nInternal fragmentation: slabs = asked + padding + unused + ends; owner words beside "
	      "the pool\n\n", out);
	for (size_t i = 0; i < f->caches; i++)
		print_cache(t, &f->cache[i]);
	print_cache(t, &f->total);
	table_print(out, t);
	table_free(t);
}

void report_frag(FILE *out, const struct frag *f)
{
	struct frag_advice a;

	print_external(out, f);
	print_internal(out, f);
	fputs("\nWhat would help\n", out);
	if (!frag_advise(f, 0, &a))
		fputs("Nothing is needed: free memory is there, in large blocks, and slabs and caches "
		      "keep little.\n", out);
	for (size_t i = 0; frag_advise(f, i, &a); i++)
		fprintf(out, "%s%s%s.\n", a.command, a.command[0] ? ": " : "", a.why);
}
