/* SPDX-License-Identifier: MIT */
/*
 * Sessions: the table of all, a line each, and one in full. Memory is shown in units, because
 * people compare it; --json has the frames.
 */
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>
#include <time.h>

static const char *limit_text(char text[TABLE_UNIT_SIZE], uint64_t frames)
{
	if (frames == 0) {
		snprintf(text, TABLE_UNIT_SIZE, "none");
		return text;
	}
	return table_frames(text, frames);
}

static uint64_t age_of(const kmm_v1_Session *s, uint64_t now)
{
	return now > s->opened ? now - s->opened : 0;
}

void report_sessions(FILE *out, const kmm_v1_Session session[], size_t n, uint64_t now)
{
	static const struct table_column columns[] = {
		{ "ID", TABLE_RIGHT },       { "PID", TABLE_RIGHT },
		{ "UID", TABLE_RIGHT },      { "STATE", TABLE_LEFT },
		{ "DOMAIN", TABLE_LEFT },    { "GRANTED", TABLE_RIGHT },
		{ "CACHED", TABLE_RIGHT },   { "OBJECTS", TABLE_RIGHT },
		{ "OBJMEM", TABLE_RIGHT },   { "CHARGED", TABLE_RIGHT },
		{ "LIMIT", TABLE_RIGHT },    { "HOLDS", TABLE_RIGHT },
		{ "PARKED", TABLE_RIGHT },   { "CHANNELS", TABLE_RIGHT },
		{ "CALLS", TABLE_RIGHT },    { "REFUSED", TABLE_RIGHT },
		{ "AGE", TABLE_RIGHT },      { "NAME", TABLE_LEFT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	char unit[TABLE_UNIT_SIZE];

	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Session *s = &session[i];

		table_cell(t, "%" PRIu32, s->id);
		table_cell(t, "%" PRIu32, s->pid);
		table_cell(t, "%" PRIu32, s->uid);
		table_cell(t, "%s", s->state);
		table_cell(t, "%s", s->domain);
		table_cell(t, "%s", table_frames(unit, s->granted));
		table_cell(t, "%s", table_frames(unit, s->cached));
		table_cell(t, "%" PRIu64, s->objects);
		table_cell(t, "%s", table_bytes(unit, s->object_bytes));
		table_cell(t, "%s", table_frames(unit, s->charged));
		table_cell(t, "%s", limit_text(unit, s->pages_max));
		table_cell(t, "%" PRIu32, s->holds);
		table_cell(t, "%" PRIu32, s->parked);
		table_cell(t, "%" PRIu32, s->channels);
		table_cell(t, "%" PRIu64, s->calls);
		table_cell(t, "%" PRIu64, s->refused);
		table_cell(t, "%s", table_age(unit, age_of(s, now)));
		table_cell(t, "%s", s->name);
	}
	table_print(out, t);
	table_free(t);
}

static void print_frames(FILE *out, const char *label, uint64_t frames, const char *what)
{
	char unit[TABLE_UNIT_SIZE];

	fprintf(out, "%-10s %" PRIu64 " frames (%s)%s\n", label, frames, table_frames(unit, frames),
	        what);
}

static void print_objects(FILE *out, const kmm_v1_Session *s)
{
	char unit[TABLE_UNIT_SIZE];

	fprintf(out, "%-10s %" PRIu64 " (%s), those that its threads cache included\n", "objects",
	        s->objects, table_bytes(unit, s->object_bytes));
	for (uint32_t i = 0; i < s->cache_count; i++)
		fprintf(out, "%-10s %s: %" PRIu64 " (%s)\n", "of cache", s->cache[i].name,
		        s->cache[i].objects, table_bytes(unit, s->cache[i].bytes));
	if (s->objects_returned)
		fprintf(out, "%-10s %" PRIu64 " objects, taken back when memory is short\n",
		        "returned", s->objects_returned);
	fprintf(out, "%-10s %" PRIu32 " open\n", "caches", s->caches);
	fprintf(out, "%-10s %" PRIu32 " published by its user\n", "names", s->names);
}

void report_session(FILE *out, const kmm_v1_Session *s, uint64_t now)
{
	char unit[TABLE_UNIT_SIZE], when[32] = "?";
	time_t opened = (time_t)s->opened;
	struct tm tm;

	if (gmtime_r(&opened, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	fprintf(out, "%-10s %" PRIu32 "\n", "session", s->id);
	fprintf(out, "%-10s %s\n", "name", s->name);
	fprintf(out, "%-10s %s\n", "state", s->state);
	fprintf(out, "%-10s %s\n", "domain", s->domain);
	if (s->pid)
		fprintf(out, "%-10s pid %" PRIu32 ", uid %" PRIu32 ", gid %" PRIu32 "\n", "process",
		        s->pid, s->uid, s->gid);
	else
		fprintf(out,
		        "%-10s pid unknown (another pid namespace), uid %" PRIu32 ", gid %" PRIu32
		        "\n", "process", s->uid, s->gid);
	fprintf(out, "%-10s %s (%s ago)\n", "opened", when, table_age(unit, age_of(s, now)));
	if (s->restarts)
		fprintf(out, "%-10s %" PRIu32 " of the daemon came since\n", "restarts", s->restarts);
	if (s->away)
		fprintf(out, "%-10s for %s, without a connection\n", "away",
		        table_age(unit, now > s->away ? now - s->away : 0));
	print_frames(out, "granted", s->granted, "");
	print_frames(out, "cached", s->cached, ", taken back when memory is short");
	print_frames(out, "charged", s->charged, "");
	if (s->pages_max)
		print_frames(out, "limit", s->pages_max, "");
	else
		fprintf(out, "%-10s none\n", "limit");
	for (uint32_t order = 0; order < s->blocks_count; order++) {
		if (s->blocks[order])
			fprintf(out, "%-10s order %" PRIu32 ": %" PRIu64 "\n", "blocks", order,
			        s->blocks[order]);
	}
	print_objects(out, s);
	fprintf(out, "%-10s %" PRIu32 "\n", "magazines", s->magazines);
	fprintf(out, "%-10s %" PRIu32 "\n", "holds", s->holds);
	fprintf(out, "%-10s %" PRIu32 "\n", "channels", s->channels);
	fprintf(out, "%-10s %" PRIu64 ", %" PRIu64 " of them refused, %" PRIu32 " parked now\n",
	        "calls", s->calls, s->refused, s->parked);
	fprintf(out, "%-10s %s\n", "last error", s->last_error[0] ? s->last_error : "none");
}
