/* SPDX-License-Identifier: MIT */
/*
 * One picture of top: what the pool has, then the sessions. What matters most stands first,
 * because a terminal cuts off what it has no room for: 80 columns show all up to the rates of calls
 * and frames.
 */
#include "client/kmmctl/json_add.h"
#include "client/kmmctl/table.h"
#include "client/kmmctl/top.h"

#include <inttypes.h>

/* What a request that comes now would meet. */
static const char *pressure(const kmm_v1_Pool *p)
{
	if (p->parked || p->pressure)
		return "requests wait for memory";
	return p->scarce ? "a request found no memory a moment ago" : "none";
}

static void print_number(struct table *t, const struct top_row *r, double rate)
{
	if (!r->rated)
		table_cell(t, "-");
	else
		table_cell(t, rate > 0 && rate < 9.95 ? "%.1f" : "%.0f", rate);
}

static void print_head(FILE *out, const struct top *t, const char *clock)
{
	const kmm_v1_Pool *p = &t->now->pool;
	char a[TABLE_UNIT_SIZE], b[TABLE_UNIT_SIZE], c[TABLE_UNIT_SIZE], d[TABLE_UNIT_SIZE],
		e[TABLE_UNIT_SIZE];

	fprintf(out, "kmmctl top%s%s: %zu sessions, %" PRIu32 " parked, %" PRIu32 " caches\n",
	        clock ? " at " : "", clock ? clock : "", t->n, p->parked, p->caches);
	fprintf(out, "pressure  %s\n", pressure(p));
	fprintf(out, "memory    %s managed, %s free, %s available, %s granted, %s in slabs\n",
	        table_frames(a, p->managed), table_frames(b, p->free),
	        table_frames(c, p->available), table_frames(d, p->granted),
	        table_frames(e, p->slab));
	fprintf(out, "cached    %s by threads, %s in depots, %s on per-CPU lists\n",
	        table_frames(a, p->cached), table_frames(b, p->depot),
	        table_frames(c, p->per_cpu));
	if (t->seconds > 0)
		fprintf(out, "a second  %.0f calls, %.0f frames allocated, %.0f freed\n", t->calls,
		        t->alloc, t->freed);
	else
		fputs("a second  known after the next sample\n", out);
}

static void print_row(struct table *t, const struct top_row *r)
{
	const kmm_v1_Session *s = r->session;
	char unit[TABLE_UNIT_SIZE];

	table_cell(t, "%" PRIu32, s->id);
	table_cell(t, "%" PRIu32, s->pid);
	table_cell(t, "%s", s->name);
	table_cell(t, "%s", table_bytes(unit, s->granted * 4096 + s->object_bytes));
	print_number(t, r, r->calls);
	print_number(t, r, r->alloc);
	print_number(t, r, r->freed);
	table_cell(t, "%" PRIu32, s->parked);
	print_number(t, r, r->refused);
	table_cell(t, "%s", s->state);
	table_cell(t, "%s", table_frames(unit, s->cached));
	table_cell(t, "%" PRIu64, s->objects);
	print_number(t, r, r->objects_in);
	print_number(t, r, r->objects_out);
}

void report_top(FILE *out, const struct top *t, const char *clock, bool interactive)
{
	static const struct table_column columns[] = {
		{ "ID", TABLE_RIGHT },        { "PID", TABLE_RIGHT },
		{ "NAME", TABLE_LEFT },       { "MEM", TABLE_RIGHT },
		{ "CALLS/s", TABLE_RIGHT },   { "ALLOC/s", TABLE_RIGHT },
		{ "FREE/s", TABLE_RIGHT },    { "PARKED", TABLE_RIGHT },
		{ "REFUSED/s", TABLE_RIGHT }, { "STATE", TABLE_LEFT },
		{ "CACHED", TABLE_RIGHT },    { "OBJECTS", TABLE_RIGHT },
		{ "OBJ-IN/s", TABLE_RIGHT },  { "OBJ-OUT/s", TABLE_RIGHT },
	};
	struct table *table = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	print_head(out, t, clock);
	fprintf(out, "sorted by %s%s", top_key_names[t->key], t->reverse ? ", reversed" : "");
	if (t->first)
		fprintf(out, ", row %zu on", t->first + 1);
	fputs(interactive ? "; keys: < > column, R reverse, arrows scroll, space now, q quit\n\n"
	                  : "\n\n",
	      out);
	for (size_t i = t->first; i < t->n; i++)
		print_row(table, &t->row[i]);
	table_print(out, table);
	table_free(table);
}

/* ---- JSON ---- */

static void add_rate(struct json_object *o, const char *key, const struct top_row *r, double rate)
{
	json_object_object_add(o, key, r->rated ? json_object_new_double(rate) : NULL);
}

static struct json_object *row_object(const struct top_row *r)
{
	struct json_object *o = json_object_new_object();
	const kmm_v1_Session *s = r->session;

	add_number(o, "id", s->id);
	add_number(o, "pid", s->pid);
	add_text(o, "name", s->name);
	add_text(o, "state", s->state);
	add_number(o, "granted", s->granted);
	add_number(o, "cached", s->cached);
	add_number(o, "objects", s->objects);
	add_number(o, "object_bytes", s->object_bytes);
	add_number(o, "parked", s->parked);
	add_number(o, "calls", s->calls);
	add_number(o, "refused", s->refused);
	add_number(o, "frames_allocated", s->frames_had);
	add_number(o, "frames_freed", s->frames_back);
	add_number(o, "objects_in", s->objects_had);
	add_number(o, "objects_out", s->objects_back);
	add_rate(o, "calls_per_second", r, r->calls);
	add_rate(o, "refused_per_second", r, r->refused);
	add_rate(o, "frames_allocated_per_second", r, r->alloc);
	add_rate(o, "frames_freed_per_second", r, r->freed);
	add_rate(o, "objects_in_per_second", r, r->objects_in);
	add_rate(o, "objects_out_per_second", r, r->objects_out);
	return o;
}

struct json_object *json_top(const struct top *t)
{
	struct json_object *o = json_object_new_object(), *a = json_object_new_array();
	const kmm_v1_Pool *p = &t->now->pool;

	json_object_object_add(o, "seconds", t->seconds > 0 ? json_object_new_double(t->seconds) : NULL);
	add_number(o, "managed", p->managed);
	add_number(o, "free", p->free);
	add_number(o, "available", p->available);
	add_number(o, "granted", p->granted);
	add_number(o, "slab", p->slab);
	add_number(o, "cached", p->cached);
	add_number(o, "depot", p->depot);
	add_number(o, "per_cpu", p->per_cpu);
	add_number(o, "parked", p->parked);
	add_bool(o, "scarce", p->scarce);
	add_bool(o, "pressure", p->pressure);
	add_text(o, "sorted_by", top_key_names[t->key]);
	for (size_t i = 0; i < t->n; i++)
		json_object_array_add(a, row_object(&t->row[i]));
	json_object_object_add(o, "sessions", a);
	return o;
}
