/* SPDX-License-Identifier: MIT */
/*
 * sections, grow, online and offline: the unit in which memory comes to the pool and goes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/command_private.h"
#include "client/kmmctl/fetch_private.h"
#include "client/kmmctl/json_add.h"
#include "client/kmmctl/table.h"

#define PATIENCE_MS 3600000u /* much memory takes long */

/* ---- sections ---- */

static void clean_section(void *item)
{
	kmm_v1_Section *s = item;

	fetch_clean_text(s->state, false);
	fetch_clean_text(s->zone, false);
	fetch_clean_text(s->backing, false);
}

static void print_sections(FILE *out, const kmm_v1_Section section[], size_t n)
{
	static const struct table_column columns[] = {
		{ "SECTION", TABLE_RIGHT }, { "STATE", TABLE_LEFT },   { "NODE", TABLE_RIGHT },
		{ "ZONE", TABLE_LEFT },     { "BACKING", TABLE_LEFT }, { "SIZE", TABLE_RIGHT },
		{ "USED", TABLE_RIGHT },    { "MOVABLE", TABLE_RIGHT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	char unit[TABLE_UNIT_SIZE];

	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Section *s = &section[i];
		bool online = strcmp(s->state, "online") == 0;

		table_cell(t, "%" PRIu32, s->section);
		table_cell(t, "%s", s->state);
		table_cell(t, "%" PRIu32, s->node);
		table_cell(t, "%s", s->zone[0] ? s->zone : "-");
		table_cell(t, "%s", s->backing[0] ? s->backing : "-");
		table_cell(t, "%s", table_frames(unit, s->frames));
		table_cell(t, "%s", online ? table_frames(unit, s->used) : "-");
		table_cell(t, "%s", online ? table_frames(unit, s->movable) : "-");
	}
	table_print(out, t);
	table_free(t);
}

static void add_section(struct json_object *o, const void *item)
{
	const kmm_v1_Section *s = item;

	add_number(o, "section", s->section);
	add_text(o, "state", s->state);
	add_number(o, "node", s->node);
	add_text(o, "zone", s->zone);
	add_text(o, "backing", s->backing);
	add_number(o, "pages", s->frames);
	add_number(o, "used", s->used);
	add_number(o, "movable", s->movable);
	add_number(o, "epoch", s->epoch);
}

enum kmmctl_status command_sections(struct command_context *x)
{
	kmm_v1_ListSectionsRequest request = kmm_v1_ListSectionsRequest_init_zero;
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Section *section;
	size_t n;

	result = FETCH_LIST(x->connection, INSPECTOR_LIST_SECTIONS, ListSections, &request, Section,
	                    clean_section, &section, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, array_of(section, n, sizeof(*section), add_section));
	else
		print_sections(x->out, section, n);
	free(section);
	return status;
}

/* ---- grow ---- */

/* "64M"; false: no size of 1 byte or more. */
static bool parse_size(const char *text, uint64_t *size)
{
	static const char suffix[] = "KMGT";
	const char *unit;
	char *end;
	uint64_t n;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || n == 0)
		return false;
	if (*end && end[1])
		return false;
	unit = *end ? strchr(suffix, *end >= 'a' ? *end - 'a' + 'A' : *end) : NULL;
	if (*end && !unit)
		return false;
	return !__builtin_mul_overflow(n, unit ? UINT64_C(1024) << 10 * (unit - suffix) : 1, size);
}

bool command_check_size(const struct command *command, const char *argument)
{
	uint64_t size;

	if (!argument)
		fprintf(stderr, "kmmctl: %s wants a size, such as 64M\n", command->name);
	else if (!parse_size(argument, &size))
		fprintf(stderr,
		        "kmmctl: %s: a size is a number above 0, with K, M, G or T behind it for powers "
		        "of 1024, not %s\n", command->name, argument);
	else
		return true;
	return false;
}

static void add_sizes(struct json_object *o, uint64_t frames, uint64_t present, uint64_t free,
                      uint64_t absent)
{
	add_number(o, "pages", frames);
	add_number(o, "present", present);
	add_number(o, "free", free);
	add_number(o, "absent", absent);
}

/* What the pool has now. */
static void print_sizes(FILE *out, uint64_t present, uint64_t free, uint64_t absent)
{
	char has[TABLE_UNIT_SIZE], can[TABLE_UNIT_SIZE], left[TABLE_UNIT_SIZE];

	fprintf(out, "the pool has %s, %s of it free, and room for %s more\n",
	        table_frames(has, present), table_frames(left, free), table_frames(can, absent));
}

static enum kmmctl_status grow(struct command_context *x, const kmm_v1_GrowRequest *request)
{
	enum connection_result result;
	char unit[TABLE_UNIT_SIZE];
	kmm_v1_GrowReply r;

	connection_patience(x->connection, PATIENCE_MS);
	result = FETCH_CALL(x->connection, ADMIN_GROW, Grow, request, GrowReply, &r);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json) {
		struct json_object *o = json_object_new_object();

		add_number(o, "sections", r.sections);
		add_sizes(o, r.frames, r.present, r.free, r.absent);
		return command_print_json(x, o);
	}
	fprintf(x->out, "%" PRIu32 " section%s more, %s; ", r.sections, r.sections == 1 ? "" : "s",
	        table_frames(unit, r.frames));
	print_sizes(x->out, r.present, r.free, r.absent);
	return KMMCTL_DONE;
}

enum kmmctl_status command_grow(struct command_context *x)
{
	kmm_v1_GrowRequest request = kmm_v1_GrowRequest_init_zero;

	return parse_size(x->argument, &request.bytes) ? grow(x, &request) : KMMCTL_USAGE;
}

enum kmmctl_status command_online(struct command_context *x)
{
	kmm_v1_GrowRequest request = kmm_v1_GrowRequest_init_zero;

	if (!command_parse_page(x->argument, &request.section) || request.section++ == UINT32_MAX)
		return KMMCTL_USAGE;
	return grow(x, &request);
}

/* ---- offline ---- */

bool command_check_section(const struct command *command, const char *argument)
{
	uint32_t section;

	if (!argument)
		fprintf(stderr, "kmmctl: %s wants a section's number; kmmctl sections lists them\n",
		        command->name);
	else if (!command_parse_page(argument, &section))
		fprintf(stderr, "kmmctl: %s: a section is a number of 0 or more, not %s; kmmctl sections "
		        "lists them\n", command->name, argument);
	else
		return true;
	return false;
}

enum kmmctl_status command_offline(struct command_context *x)
{
	kmm_v1_OfflineRequest request = kmm_v1_OfflineRequest_init_zero;
	enum connection_result result;
	kmm_v1_OfflineReply r;
	char unit[TABLE_UNIT_SIZE];

	if (!command_parse_page(x->argument, &request.section))
		return KMMCTL_USAGE;
	connection_patience(x->connection, PATIENCE_MS);
	result = FETCH_CALL(x->connection, ADMIN_OFFLINE, Offline, &request, OfflineReply, &r);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	fetch_clean_text(r.empty, false);
	if (x->json) {
		struct json_object *o = json_object_new_object();

		add_number(o, "section", r.section);
		add_number(o, "moved", r.moved);
		add_sizes(o, r.frames, r.present, r.free, r.absent);
		add_text(o, "empty", r.empty);
		return command_print_json(x, o);
	}
	fprintf(x->out, "section %" PRIu32 ", %s, is out of service, %" PRIu64 " pages moved; ",
	        r.section, table_frames(unit, r.frames), r.moved);
	print_sizes(x->out, r.present, r.free, r.absent);
	if (r.empty[0])
		fprintf(x->out, "zone %s has no memory any more: what asks for it by name gets none (kmmctl "
		        "online brings a section back)\n", r.empty);
	return KMMCTL_DONE;
}
