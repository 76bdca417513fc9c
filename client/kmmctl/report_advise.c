/* SPDX-License-Identifier: MIT */
/*
 * `kmmctl advise`: what comes out can be read as a kmmd.conf, and merged into one: what is as it is now
 * comes as a comment, `#key = value`. Where there is too little history all settings do, to be taken by
 * hand.
 */
#include <inttypes.h>
#include <string.h>

#include "client/kmmctl/advise.h"
#include "client/kmmctl/json_add.h"
#include "client/kmmctl/table.h"

/* As kmmd.conf takes it: "64M". */
static const char *value_text(char text[TABLE_UNIT_SIZE], const struct advise_line *l, uint64_t v)
{
	static const char unit[] = "KMGT";
	int i = -1;

	if (l->is_size)
		while (v && v % 1024 == 0 && unit[i + 1]) {
			v /= 1024;
			i++;
		}
	if (i >= 0)
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64 "%c", v, unit[i]);
	else
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64, v);
	return text;
}

static void print_head(FILE *out, const struct advise *a, const kmm_v1_History *h)
{
	char age[TABLE_UNIT_SIZE], used[TABLE_UNIT_SIZE], all[TABLE_UNIT_SIZE];

	fprintf(out,
	        "# What kmmd.conf could say, by what was used since the daemon started %s ago:\n"
	        "# %s of %s at most, by %" PRIu64 " sessions at most. Each line is to take the place of\n"
	        "# the one of that section and name, if there is one; comments are as it is now.\n",
	        table_age(age, h->uptime_ms / 1000), table_frames(used, h->used_peak),
	        table_frames(all, h->frames - h->metadata), h->sessions.peak);
	if (a->little[0])
		fprintf(out, "# TOO LITTLE HISTORY to advise: %s.\n"
		        "# The settings below are no more than what it would be, so far.\n", a->little);
}

/* The section of line i begins there. */
static void print_section(FILE *out, const struct advise *a, size_t i)
{
	const struct advise_line *l = &a->line[i];
	bool matters = false;

	for (size_t j = i; j < a->n && strcmp(a->line[j].section, l->section) == 0; j++)
		matters |= advise_line_matters(a, j);
	fputc('\n', out);
	if (strncmp(l->section, "user ", 5) == 0 && (l->section[5] < '0' || l->section[5] > '9'))
		fprintf(out, "# user %" PRIu32 "\n", l->uid);
	fprintf(out, "%s[%s]\n", matters ? "" : "#", l->section);
}

static void print_line(FILE *out, bool matters, const struct advise_line *l)
{
	char value[TABLE_UNIT_SIZE], now[TABLE_UNIT_SIZE];

	value_text(value, l, l->value);
	fprintf(out, "# %s; ", l->why);
	if (l->value == l->now)
		fputs("as it is\n", out);
	else
		fprintf(out, "now %s\n", value_text(now, l, l->now));
	fprintf(out, "%s%s = %s\n", matters ? "" : "#", l->key, value);
}

void report_advise(FILE *out, const struct advise *a, const kmm_v1_History *h)
{
	const char *section = "";

	print_head(out, a, h);
	for (size_t i = 0; i < a->n; i++) {
		if (strcmp(section, a->line[i].section) != 0)
			print_section(out, a, i);
		section = a->line[i].section;
		print_line(out, advise_line_matters(a, i), &a->line[i]);
	}
	if (h->users > h->user_count)
		fprintf(out, "\n# Users who had less: %" PRIu32 ".\n",
		        h->users - (uint32_t)h->user_count);
	if (a->notes)
		fputs("\n# Beside kmmd.conf:\n", out);
	for (size_t i = 0; i < a->notes; i++)
		fprintf(out, "#   %s%s%s\n", a->note[i].what, a->note[i].what[0] ? ": " : "",
		        a->note[i].why);
}

/* ---- JSON ---- */

static void add_line(struct json_object *o, const void *item)
{
	const struct advise_line *l = item;
	char text[TABLE_UNIT_SIZE];

	add_text(o, "section", l->section);
	add_text(o, "key", l->key);
	add_text(o, "value", value_text(text, l, l->value));
	add_text(o, "now", value_text(text, l, l->now));
	add_bool(o, "changed", l->value != l->now);
	add_text(o, "why", l->why);
}

static void add_note(struct json_object *o, const void *item)
{
	const struct advise_note *n = item;

	add_text(o, "what", n->what);
	add_text(o, "why", n->why);
}

static void add_peak(struct json_object *o, const char *key, const kmm_v1_PeakCount *c)
{
	struct json_object *n = json_object_new_object();

	add_number(n, "peak", c->peak);
	add_number(n, "limit", c->limit);
	json_object_object_add(o, key, n);
}

static void add_zone(struct json_object *o, const void *item)
{
	const kmm_v1_ZonePeak *z = item;

	add_text(o, "zone", z->zone);
	add_number(o, "managed", z->managed);
	add_number(o, "peak", z->peak);
	add_number(o, "allocated", z->had);
	add_number(o, "failed_lack", z->lack);
	add_number(o, "failed_fragmentation", z->fragmentation);
	add_number(o, "failed_impossible", z->impossible);
}

static void add_user(struct json_object *o, const void *item)
{
	const kmm_v1_UserPeak *u = item;

	add_number(o, "uid", u->uid);
	add_peak(o, "pages", &u->pages);
	add_peak(o, "objects", &u->objects);
	add_peak(o, "caches", &u->caches);
	add_peak(o, "channels", &u->channels);
	add_peak(o, "calls", &u->calls);
	add_peak(o, "sessions", &u->sessions);
}

static struct json_object *history_object(const kmm_v1_History *h)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "uptime_ms", h->uptime_ms);
	add_number(o, "calls", h->calls);
	add_number(o, "allocated", h->allocated);
	add_number(o, "frames", h->frames);
	add_number(o, "metadata", h->metadata);
	add_number(o, "section", h->section);
	add_number(o, "sections", h->sections);
	add_text(o, "backing", h->backing);
	add_bool(o, "kept", h->kept);
	add_number(o, "used_peak", h->used_peak);
	json_object_object_add(o, "order_failed",
	                       json_object_new_int((int)h->order_peak - 1));
	add_number(o, "failed_quota", h->quota_failures);
	add_number(o, "stalls", h->stalls);
	add_peak(o, "sessions", &h->sessions);
	add_peak(o, "holders", &h->holders);
	add_peak(o, "names", &h->names);
	add_peak(o, "caches", &h->caches);
	add_peak(o, "parked", &h->parked);
	add_peak(o, "session_pages", &h->session_pages);
	add_peak(o, "session_objects", &h->session_objects);
	add_peak(o, "session_channels", &h->session_channels);
	add_peak(o, "session_calls", &h->session_calls);
	add_peak(o, "session_holders", &h->session_holders);
	add_peak(o, "user_names", &h->user_names);
	add_number(o, "huge_total", h->huge_total);
	add_number(o, "huge_free", h->huge_free);
	add_number(o, "huge_pool", h->huge_pool);
	json_object_object_add(o, "zones", array_of(h->zone, h->zone_count, sizeof(h->zone[0]),
	                                            add_zone));
	json_object_object_add(o, "users", array_of(h->user, h->user_count, sizeof(h->user[0]),
	                                            add_user));
	return o;
}

struct json_object *json_advise(const struct advise *a, const kmm_v1_History *h)
{
	struct json_object *o = json_object_new_object();

	add_bool(o, "enough", !a->little[0]);
	add_text(o, "little", a->little);
	json_object_object_add(o, "settings", array_of(a->line, a->n, sizeof(a->line[0]), add_line));
	json_object_object_add(o, "notes", array_of(a->note, a->notes, sizeof(a->note[0]), add_note));
	json_object_object_add(o, "history", history_object(h));
	return o;
}
