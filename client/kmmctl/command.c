/* SPDX-License-Identifier: MIT */
/*
 * A command is fetch, then print: text by report.h, or the same values as JSON. Nothing is printed
 * to the output before everything was fetched, so that a refusal leaves the output empty.
 */
#include "client/kmmctl/command_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/kmmctl/fetch.h"
#include "client/kmmctl/json.h"
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"

#define SESSION_ID_MAX 0xfffffu /* 20 bits */

enum kmmctl_status command_failed(struct command_context *x, enum connection_result result)
{
	fprintf(stderr, "kmmctl: %s\n", connection_error(x->connection));
	return command_broke(x, result);
}

enum kmmctl_status command_broke(struct command_context *x, enum connection_result result)
{
	if (result != CONNECTION_REFUSED)
		x->connection = connection_close(x->connection);
	return result == CONNECTION_NO_DAEMON ? KMMCTL_NO_DAEMON : KMMCTL_FAILED;
}

enum kmmctl_status command_print_json(struct command_context *x, struct json_object *o)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE;
	const char *text;

	if (!x->lines)
		flags |= JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED;
	text = o ? json_object_to_json_string_ext(o, flags) : NULL;
	if (text)
		fprintf(x->out, "%s\n", text);
	else
		fputs("kmmctl: out of memory\n", stderr);
	json_object_put(o);
	return text ? KMMCTL_DONE : KMMCTL_FAILED;
}

bool command_parse_id(const char *text, uint32_t *id)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] < '0' || text[0] > '9' || value == 0 ||
	    value > SESSION_ID_MAX)
		return false;
	*id = (uint32_t)value;
	return true;
}

static uint64_t seconds_now(void)
{
	return (uint64_t)time(NULL);
}

/* ---- Linux's formats ---- */

static enum kmmctl_status run_zoneinfo(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	struct report_node *node = NULL;
	struct report_zone *zone;
	size_t n, nodes;

	result = fetch_zones(x->connection, x->domain, &zone, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	result = fetch_nodes(x->connection, x->domain, &node, &nodes);
	if (result != CONNECTION_OK)
		status = command_failed(x, result);
	else if (x->json)
		status = command_print_json(x, json_zoneinfo(zone, n, node, nodes));
	else
		report_zoneinfo(x->out, zone, n, node, nodes);
	free(node);
	free(zone);
	return status;
}

/* Reports of zones alone. */
static enum kmmctl_status run_zones(struct command_context *x,
                                    struct json_object *(*json)(const struct report_zone *, size_t),
                                    void (*print)(FILE *, const struct report_zone *, size_t))
{
	struct report_zone *zone;
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	size_t n;

	result = fetch_zones(x->connection, x->domain, &zone, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json(zone, n));
	else
		print(x->out, zone, n);
	free(zone);
	return status;
}

static enum kmmctl_status run_buddyinfo(struct command_context *x)
{
	return run_zones(x, json_buddyinfo, report_buddyinfo);
}

static enum kmmctl_status run_pagetypeinfo(struct command_context *x)
{
	return run_zones(x, json_pagetypeinfo, report_pagetypeinfo);
}

static enum kmmctl_status run_iomem(struct command_context *x)
{
	struct report_resource *resource;
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	size_t n;

	result = fetch_resources(x->connection, &resource, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json_iomem(resource, n));
	else
		report_iomem(x->out, resource, n);
	free(resource);
	return status;
}

static enum kmmctl_status run_meminfo(struct command_context *x)
{
	struct report_meminfo m;
	enum connection_result result = fetch_meminfo(x->connection, x->domain, &m);

	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_meminfo(&m));
	report_meminfo(x->out, &m);
	return KMMCTL_DONE;
}

static enum kmmctl_status run_vmstat(struct command_context *x)
{
	struct report_vmstat v;
	enum connection_result result = fetch_vmstat(x->connection, x->domain, &v);

	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_vmstat(&v));
	report_vmstat(x->out, &v);
	return KMMCTL_DONE;
}

static enum kmmctl_status run_vmallocinfo(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Area *area;
	size_t n;

	result = fetch_areas(x->connection, x->domain, &area, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json_vmallocinfo(area, n));
	else
		report_vmallocinfo(x->out, area, n);
	free(area);
	return status;
}

static enum kmmctl_status run_slabinfo(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Cache *cache;
	size_t n;

	result = fetch_caches(x->connection, x->domain, &cache, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json_slabinfo(cache, n));
	else
		report_slabinfo(x->out, cache, n);
	free(cache);
	return status;
}

/* ---- sessions ---- */

static enum kmmctl_status run_sessions(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Session *session;
	size_t n;

	result = fetch_sessions(x->connection, x->domain, &session, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json_sessions(session, n));
	else
		report_sessions(x->out, session, n, seconds_now());
	free(session);
	return status;
}

static enum kmmctl_status run_session(struct command_context *x)
{
	enum connection_result result;
	kmm_v1_Session s;
	uint32_t id = 0;

	if (!command_parse_id(x->argument, &id))
		return KMMCTL_USAGE;
	result = fetch_session(x->connection, id, &s);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_session(&s));
	report_session(x->out, &s, seconds_now());
	return KMMCTL_DONE;
}

static enum kmmctl_status run_kill(struct command_context *x)
{
	enum connection_result result;
	uint32_t id = 0;

	if (!command_parse_id(x->argument, &id))
		return KMMCTL_USAGE;
	result = fetch_kill(x->connection, id);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_kill(id));
	fprintf(x->out, "session %" PRIu32 " killed\n", id);
	return KMMCTL_DONE;
}

static enum kmmctl_status run_leaks(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Leak *leak;
	size_t n;

	result = fetch_leaks(x->connection, x->domain, &leak, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json_leaks(leak, n));
	else
		report_leaks(x->out, leak, n, seconds_now());
	free(leak);
	return status;
}

static enum kmmctl_status run_names(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Name *name;
	size_t n;

	result = fetch_names(x->connection, x->domain, &name, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json_names(name, n));
	else
		report_names(x->out, name, n);
	free(name);
	return status;
}

/* ---- health, methods, fsck, caches ---- */

static enum kmmctl_status run_health(struct command_context *x)
{
	kmm_v1_CheckReply h;
	enum connection_result result = fetch_health(x->connection, &h);

	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_health(&h));
	report_health(x->out, &h);
	return KMMCTL_DONE;
}

static enum kmmctl_status run_methods(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_MethodInfo *method;
	size_t n;

	result = fetch_methods(x->connection, x->argument ? x->argument : "", &method, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->argument && n == 0) {
		fprintf(stderr, "kmmctl: no method is named %s; kmmctl methods lists them\n",
		        x->argument);
		status = KMMCTL_FAILED;
	} else if (x->json) {
		status = command_print_json(x, json_methods(method, n));
	} else if (x->argument) {
		report_method(x->out, &method[0]);
	} else {
		report_methods(x->out, method, n);
	}
	free(method);
	return status;
}

static enum kmmctl_status run_fsck(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Finding *finding;
	size_t n;

	result = fetch_findings(x->connection, &finding, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json) {
		status = command_print_json(x, json_findings(finding, n));
	} else {
		for (size_t i = 0; i < n; i++)
			fprintf(x->out, "%s\n", finding[i].text);
		if (n == 0)
			fputs("clean\n", x->out);
		else
			fprintf(x->out, "%zu finding%s\n", n, n == 1 ? "" : "s");
	}
	free(finding);
	return n ? KMMCTL_FAILED : status;
}

/* Sessions whose idle threads may still cache objects. */
static void print_silent(struct command_context *x, uint32_t silent, uint32_t asked)
{
	if (silent)
		fprintf(x->out,
		        "%" PRIu32 " of %" PRIu32 " sessions did not answer: what their idle "
		        "threads cache of objects is not among it\n",
		        silent, asked);
}

static enum kmmctl_status run_drop_caches(struct command_context *x)
{
	char per_cpu[TABLE_UNIT_SIZE], depot[TABLE_UNIT_SIZE], threads[TABLE_UNIT_SIZE],
		slabs[TABLE_UNIT_SIZE];
	kmm_v1_DropCachesReply r;
	enum connection_result result = fetch_drop_caches(x->connection, &r);

	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_drop_caches(&r));
	fprintf(x->out,
	        "given back: %s by per-CPU lists, %s by depots, %s by clients' threads, %s by "
	        "slabs; %" PRIu64 " objects to their slabs\n",
	        table_frames(per_cpu, r.per_cpu), table_frames(depot, r.depot),
	        table_frames(threads, r.threads), table_frames(slabs, r.slabs), r.objects);
	print_silent(x, r.silent, r.asked);
	return KMMCTL_DONE;
}

static enum kmmctl_status run_compact(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Compacted *zone;
	size_t n;

	result = fetch_compact(x->connection, x->domain, &zone, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, json_compact(zone, n));
	else
		report_compact(x->out, zone, n);
	free(zone);
	return status;
}

static enum kmmctl_status run_shrink(struct command_context *x)
{
	enum connection_result result;
	kmm_v1_ShrinkCacheReply r;
	char unit[TABLE_UNIT_SIZE];

	result = fetch_shrink(x->connection, x->argument, &r);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_shrink(&r));
	fprintf(x->out, "given back: %s by %s, %" PRIu64 " objects to its slabs\n",
	        table_frames(unit, r.pages), x->argument, r.objects);
	print_silent(x, r.silent, r.asked);
	return KMMCTL_DONE;
}

/* ---- the table ---- */

const struct command command_table[] = {
	{ "zoneinfo", NULL, COMMAND_NO_ARGUMENT, false,
	  "zones of every node: free frames, watermarks, per-CPU lists", run_zoneinfo },
	{ "buddyinfo", NULL, COMMAND_NO_ARGUMENT, false, "free blocks of each zone by order",
	  run_buddyinfo },
	{ "pagetypeinfo", NULL, COMMAND_NO_ARGUMENT, false,
	  "free blocks by migrate type and order, page blocks by type", run_pagetypeinfo },
	{ "slabinfo", NULL, COMMAND_NO_ARGUMENT, false,
	  "caches: objects, slabs, magazines; newest first", run_slabinfo },
	{ "vmallocinfo", NULL, COMMAND_NO_ARGUMENT, false,
	  "areas that processes put together: address, size, caller, pages", run_vmallocinfo },
	{ "iomem", NULL, COMMAND_NO_ARGUMENT, false, "what lies where in the pool", run_iomem },
	{ "meminfo", NULL, COMMAND_NO_ARGUMENT, false, "totals", run_meminfo },
	{ "vmstat", NULL, COMMAND_NO_ARGUMENT, false,
	  "counts and events: allocations, stalls, reclaim, compaction", run_vmstat },
	{ "sessions", NULL, COMMAND_NO_ARGUMENT, false, "who holds how much", run_sessions },
	{ "session", "ID", COMMAND_SESSION, false, "one session in full", run_session },
	{ "users", NULL, COMMAND_NO_ARGUMENT, false,
	  "what each user has, had and may have, and was refused", command_users },
	{ "domains", NULL, COMMAND_NO_ARGUMENT, false,
	  "the pool's domains: sections, pages, sessions, users", command_domains },
	{ "sections", NULL, COMMAND_NO_ARGUMENT, false,
	  "the sections: state, zone, backing, pages in use", command_sections },
	{ "leaks", NULL, COMMAND_NO_ARGUMENT, false,
	  "who holds how many objects of what, the oldest session first", run_leaks },
	{ "names", NULL, COMMAND_NO_ARGUMENT, false,
	  "what is published: name, thing, publisher, holders", run_names },
	{ "top", NULL, COMMAND_NO_ARGUMENT, false,
	  "sessions with what they do a second, over and over", command_top },
	{ "page", "PFN", COMMAND_PAGE, false,
	  "one page: state, flags, owner, cache, holders", command_page },
	{ "map", NULL, COMMAND_NO_ARGUMENT, false,
	  "a picture of the pool, a cell for each 2 MiB; --svg: as a file", command_map },
	{ "frag", NULL, COMMAND_NO_ARGUMENT, false,
	  "fragmentation by order and by cache, and what would help", command_frag },
	{ "metrics", NULL, COMMAND_NO_ARGUMENT, false,
	  "all metrics, as OpenMetrics text", command_metrics },
	{ "why", "ID", COMMAND_SESSION, false,
	  "why a session's last allocation failed, and what would help", command_why },
	{ "advise", NULL, COMMAND_NO_ARGUMENT, false,
	  "what to configure, by what was used since the start", command_advise },
	{ "health", NULL, COMMAND_NO_ARGUMENT, false,
	  "is it serving, what backs the pool, how to get better", run_health },
	{ "settings", NULL, COMMAND_NO_ARGUMENT, false,
	  "what is configured: in force, from where, when a change takes effect", command_settings },
	{ "set", "KEY VALUE", COMMAND_SETTING, true,
	  "change a setting of the running daemon", command_set },
	{ "methods", "NAME", COMMAND_MAY_ARGUMENT, false,
	  "the protocol's methods, or one with its messages", run_methods },
	{ "fsck", NULL, COMMAND_NO_ARGUMENT, false,
	  "check every structure; status 1 when something is wrong", run_fsck },
	{ "drop-caches", NULL, COMMAND_NO_ARGUMENT, false,
	  "give cached memory back to the zones", run_drop_caches },
	{ "compact", NULL, COMMAND_NO_ARGUMENT, false,
	  "move pages of HighMem and Movable together, for larger free blocks", run_compact },
	{ "grow", "SIZE", COMMAND_SIZE, true,
	  "memory for sections that have none, as many as the size takes", command_grow },
	{ "online", "SECTION", COMMAND_SECTION, true,
	  "memory for that section, which has none", command_online },
	{ "offline", "SECTION", COMMAND_SECTION, true,
	  "take a section out of service and give its memory back to the machine", command_offline },
	{ "shrink", "CACHE", COMMAND_CACHE, false,
	  "give a cache's free objects and empty slabs back to the zones", run_shrink },
	{ "kill", "ID", COMMAND_SESSION, true,
	  "kill a session's process and free what only it held", run_kill },
	{ NULL, NULL, COMMAND_NO_ARGUMENT, false, NULL, NULL },
};

const struct command *command_find(const char *name)
{
	for (const struct command *c = command_table; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static bool check_session(const struct command *command, const char *argument)
{
	uint32_t id;

	if (!argument)
		fprintf(stderr, "kmmctl: %s wants a session's %s; kmmctl sessions lists them\n",
		        command->name, command->argument_name);
	else if (!command_parse_id(argument, &id))
		fprintf(stderr, "kmmctl: %s: a session's id is a number from 1 to %u, not %s\n",
		        command->name, SESSION_ID_MAX, argument);
	else
		return true;
	return false;
}

static bool check_page(const struct command *command, const char *argument)
{
	uint32_t page;

	if (!argument)
		fprintf(stderr, "kmmctl: %s wants the number of a page: a frame of the pool\n",
		        command->name);
	else if (!command_parse_page(argument, &page))
		fprintf(stderr,
		        "kmmctl: %s: PFN is a number of 0 or more, below 2^32, or behind 0x in "
		        "hexadecimal, not %s\n", command->name, argument);
	else
		return true;
	return false;
}

static bool check_cache(const struct command *command, const char *argument)
{
	if (!argument)
		fprintf(stderr, "kmmctl: %s wants a cache's name; kmmctl slabinfo lists them\n",
		        command->name);
	else if (!argument[0] || strlen(argument) > REPORT_NAME_MAX)
		fprintf(stderr, "kmmctl: %s: a cache's name has 1 to %u bytes, not %zu\n",
		        command->name, REPORT_NAME_MAX, strlen(argument));
	else
		return true;
	return false;
}

bool command_check(const struct command *command, const char *argument, const char *value)
{
	switch (command->argument) {
	case COMMAND_SESSION:
		return check_session(command, argument);
	case COMMAND_CACHE:
		return check_cache(command, argument);
	case COMMAND_PAGE:
		return check_page(command, argument);
	case COMMAND_SECTION:
		return command_check_section(command, argument);
	case COMMAND_SIZE:
		return command_check_size(command, argument);
	case COMMAND_SETTING:
		return command_check_set(argument, value);
	case COMMAND_MAY_ARGUMENT:
		if (!argument || strlen(argument) < sizeof(((kmm_v1_ListMethodsRequest *)0)->name))
			return true;
		fprintf(stderr, "kmmctl: %s: the argument is too long\n", command->name);
		return false;
	case COMMAND_NO_ARGUMENT:
		if (argument)
			fprintf(stderr, "kmmctl: %s takes no argument: %s\n", command->name,
			        argument);
		return !argument;
	}
	return false;
}

bool command_paces(const struct command *command)
{
	return command->run == command_top;
}

enum connection_result command_connect(struct command_context *x)
{
	return connection_open(&x->connection, x->address, x->domain);
}

enum kmmctl_status command_run(const struct command *command, struct command_context *x)
{
	enum connection_result result;

	if (!x->connection) {
		result = command_connect(x);
		if (result != CONNECTION_OK) {
			enum kmmctl_status status = command_failed(x, result);

			/* A refused Hello leaves a connection that is of no use. */
			x->connection = connection_close(x->connection);
			return status;
		}
	}
	return command->run(x);
}
