/* SPDX-License-Identifier: MIT */
/* `kmmctl why`: text and JSON. */
#include <inttypes.h>
#include <string.h>

#include "client/kmmctl/json_add.h"
#include "client/kmmctl/table.h"
#include "client/kmmctl/why.h"

/* ---- text ---- */

static void print_who(FILE *out, const kmm_v1_Explanation *e)
{
	fprintf(out, "%-8s %" PRIu32 " (%s), ", "session", e->session, e->name);
	if (e->pid)
		fprintf(out, "pid %" PRIu32 ", ", e->pid);
	fprintf(out, "user %" PRIu32 "\n", e->uid);
}

static void print_asked(FILE *out, const kmm_v1_Explanation *e, uint64_t now)
{
	const char *error = strerrorname_np(e->errno_value);
	char unit[TABLE_UNIT_SIZE], text[WHY_TEXT];

	fprintf(out, "%-8s %s ago: %s", "failed",
	        table_age(unit, now > e->when ? now - e->when : 0), why_asked_text(text, e));
	if (e->node)
		fprintf(out, ", %s node %" PRIu32, e->this_node ? "only of" : "rather of", e->node - 1);
	fprintf(out, " (%s)", e->method);
	if (e->failures > 1)
		fprintf(out, "; the session's %" PRIu64 " failure%s before %s not kept", e->failures - 1,
		        e->failures == 2 ? "" : "s", e->failures == 2 ? "is" : "are");
	fputc('\n', out);
	if (e->gfp)
		fprintf(out, "%-8s %s (0x%" PRIx32 ")\n", "flags", e->gfp_text, e->gfp);
	fprintf(out, "%-8s %s", "answer", error ? error : "?");
	if (e->waited_ms)
		fprintf(out, " after %" PRIu64 " ms", e->waited_ms);
	fprintf(out, ": %s\n", e->text);
	fprintf(out, "%-8s %s\n", "reason", why_reason_text(text, e));
}

static void print_then(FILE *out, const kmm_v1_Explanation *e)
{
	char depot[TABLE_UNIT_SIZE], slab[TABLE_UNIT_SIZE], text[WHY_TEXT];

	for (pb_size_t i = 0; i < e->zone_count; i++)
		fprintf(out, "%-8s %s\n", "zone", why_zone_text(text, &e->zone[i], e->order));
	if (e->zones > e->zone_count)
		fprintf(out, "%-8s %" PRIu32 " more, on nodes farther away\n", "zone",
		        e->zones - (uint32_t)e->zone_count);
	if (!e->zone_count)
		return;
	fprintf(out, "%-8s %s in depots, %s in slabs, %" PRIu32 " requests waited\n", "then",
	        table_frames(depot, e->depot), table_frames(slab, e->slab), e->waiting);
}

static void print_session(FILE *out, const kmm_v1_Hoard *s)
{
	char unit[TABLE_UNIT_SIZE];

	fprintf(out, "%-8s session %" PRIu32 " (%s), ", "holder", s->session, s->name);
	if (s->pid)
		fprintf(out, "pid %" PRIu32 ", ", s->pid);
	fprintf(out, "user %" PRIu32 ": %s", s->uid, table_frames(unit, s->frames));
	if (s->objects)
		fprintf(out, ", %s of it objects", table_frames(unit, s->objects));
	if (s->cached)
		fprintf(out, ", %s of it only cached", table_frames(unit, s->cached));
	if (strcmp(s->state, "live") != 0)
		fprintf(out, " (%s)", strcmp(s->state, "detached") == 0 ? "in quarantine" : s->state);
	fputc('\n', out);
}

static void print_now(FILE *out, const kmm_v1_Explanation *e)
{
	char free[TABLE_UNIT_SIZE], managed[TABLE_UNIT_SIZE], depot[TABLE_UNIT_SIZE],
		cpu[TABLE_UNIT_SIZE], cached[TABLE_UNIT_SIZE], slab[TABLE_UNIT_SIZE];

	fprintf(out,
	        "%-8s %s of %s free; only cached: %s in depots, %s on per-CPU lists, %s by threads, "
	        "%s in empty slabs\n", "now", table_frames(free, e->free),
	        table_frames(managed, e->managed), table_frames(depot, e->depot_now),
	        table_frames(cpu, e->per_cpu), table_frames(cached, e->cached),
	        table_frames(slab, e->slab_empty));
	if (e->quarantine)
		fprintf(out, "%-8s %s have sessions in quarantine\n", "",
		        table_frames(free, e->quarantine));
	for (pb_size_t i = 0; i < e->sessions_count; i++)
		print_session(out, &e->sessions[i]);
	for (pb_size_t i = 0; i < e->users_count; i++)
		fprintf(out, "%-8s user %" PRIu32 ": %s\n", "holder", e->users[i].uid,
		        table_frames(free, e->users[i].frames));
}

static void print_help(FILE *out, const struct why_help *h)
{
	if (h->command[0])
		fprintf(out, "%-8s %s: %s\n", "helps", h->command, h->why);
	else
		fprintf(out, "%-8s %s\n", "helps", h->why);
}

static void print_waits(FILE *out, const kmm_v1_Waits *w)
{
	uint32_t others = w->all > w->requests ? w->all - w->requests : 0;
	char text[WHY_TEXT];

	fprintf(out, "%-8s %s", "waits", why_waits_text(text, w));
	if (w->requests > 1)
		fprintf(out, "; %" PRIu32 " more of its requests wait", w->requests - 1);
	if (others)
		fprintf(out, "; %" PRIu32 " of other sessions", others);
	fprintf(out, "\n%-8s %s (0x%" PRIx32 ")\n", "flags", w->gfp_text, w->gfp);
}

void report_why(FILE *out, const kmm_v1_Explanation *e, uint64_t now)
{
	bool quota = e->reason == kmm_v1_Explanation_Reason_SESSION_QUOTA ||
	             e->reason == kmm_v1_Explanation_Reason_USER_QUOTA;
	struct why_help h;

	print_who(out, e);
	if (e->has_waits)
		print_waits(out, &e->waits);
	if (e->reason != kmm_v1_Explanation_Reason_NONE) {
		print_asked(out, e, now);
		print_then(out, e);
	} else {
		fputs("no allocation has failed\n", out);
		quota = true; /* nor is anything short */
	}
	if (e->looked && (!quota || e->has_waits))
		print_now(out, e);
	for (size_t i = 0; why_help(e, i, &h); i++)
		print_help(out, &h);
}

/* ---- JSON ---- */

static void add_zone(struct json_object *o, const void *item)
{
	const kmm_v1_ZoneLook *z = item;
	uint64_t nr_free[16];

	add_number(o, "node", z->node);
	add_text(o, "zone", z->zone);
	add_text(o, "verdict", why_verdict_name(z->verdict));
	add_number(o, "free", z->free);
	add_number(o, "managed", z->managed);
	add_number(o, "mark", z->mark);
	add_number(o, "protection", z->protection);
	add_number(o, "min", z->min);
	add_number(o, "low", z->low);
	add_number(o, "high", z->high);
	add_number(o, "highatomic", z->highatomic);
	for (pb_size_t i = 0; i < z->nr_free_count; i++)
		nr_free[i] = z->nr_free[i];
	add_numbers(o, "free_blocks", nr_free, z->nr_free_count);
	json_object_object_add(o, "extfrag_index", json_object_new_double(z->index / 1000.0));
}

static void add_holder(struct json_object *o, const void *item)
{
	const kmm_v1_Hoard *h = item;

	if (h->session) {
		add_number(o, "session", h->session);
		add_text(o, "name", h->name);
		add_number(o, "pid", h->pid);
		add_text(o, "state", h->state);
	}
	add_number(o, "uid", h->uid);
	add_number(o, "frames", h->frames);
	if (h->session) {
		add_number(o, "objects", h->objects);
		add_number(o, "cached", h->cached);
	}
}

static void add_quota(struct json_object *o, const kmm_v1_Explanation *e)
{
	struct json_object *q = json_object_new_object();

	add_text(q, "section", e->section);
	add_text(q, "key", e->quota);
	add_number(q, "used", e->quota_used);
	add_number(q, "limit", e->quota_limit);
	add_number(q, "asked", e->quota_more);
	json_object_object_add(o, "quota", q);
}

static void add_now(struct json_object *o, const kmm_v1_Explanation *e)
{
	struct json_object *now = json_object_new_object();

	add_number(now, "free", e->free);
	add_number(now, "managed", e->managed);
	add_number(now, "depot", e->depot_now);
	add_number(now, "per_cpu", e->per_cpu);
	add_number(now, "cached", e->cached);
	add_number(now, "slab_empty", e->slab_empty);
	add_number(now, "quarantine", e->quarantine);
	json_object_object_add(now, "sessions",
	                       array_of(e->sessions, e->sessions_count, sizeof(e->sessions[0]),
	                                add_holder));
	json_object_object_add(now, "users", array_of(e->users, e->users_count,
	                                              sizeof(e->users[0]), add_holder));
	json_object_object_add(o, "now", now);
}

static void add_waits(struct json_object *o, const kmm_v1_Waits *w)
{
	struct json_object *waits = json_object_new_object();
	char text[WHY_TEXT];

	add_number(waits, "requests", w->requests);
	add_number(waits, "ms", w->ms);
	add_number(waits, "order", w->order);
	add_text(waits, "cache", w->cache);
	add_number(waits, "gfp", w->gfp);
	add_text(waits, "gfp_text", w->gfp_text);
	add_number(waits, "all", w->all);
	add_text(waits, "text", why_waits_text(text, w));
	json_object_object_add(o, "waits", waits);
}

static struct json_object *helps(const kmm_v1_Explanation *e)
{
	struct json_object *a = json_object_new_array();
	struct why_help h;

	for (size_t i = 0; why_help(e, i, &h); i++) {
		struct json_object *o = json_object_new_object();

		add_text(o, "command", h.command);
		add_text(o, "why", h.why);
		json_object_array_add(a, o);
	}
	return a;
}

static void add_failure(struct json_object *o, const kmm_v1_Explanation *e)
{
	const char *error = strerrorname_np(e->errno_value);
	char text[WHY_TEXT];

	add_text(o, "reason_text", why_reason_text(text, e));
	add_number(o, "when", e->when);
	add_number(o, "waited_ms", e->waited_ms);
	add_text(o, "method", e->method);
	add_number(o, "gfp", e->gfp);
	add_text(o, "gfp_text", e->gfp_text);
	add_number(o, "order", e->order);
	add_number(o, "pages", e->pages);
	add_text(o, "cache", e->cache);
	if (e->node)
		add_number(o, "node", e->node - 1);
	add_bool(o, "this_node", e->this_node);
	add_text(o, "errno", error ? error : "?");
	add_text(o, "text", e->text);
	if (e->section[0])
		add_quota(o, e);
	json_object_object_add(o, "zones", array_of(e->zone, e->zone_count, sizeof(e->zone[0]),
	                                            add_zone));
	add_number(o, "depot", e->depot);
	add_number(o, "slab", e->slab);
	add_number(o, "waiting", e->waiting);
}

struct json_object *json_why(const kmm_v1_Explanation *e)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "session", e->session);
	add_text(o, "name", e->name);
	add_number(o, "pid", e->pid);
	add_number(o, "uid", e->uid);
	add_number(o, "failures", e->failures);
	add_text(o, "reason", why_reason_name(e->reason));
	if (e->has_waits)
		add_waits(o, &e->waits);
	if (e->reason != kmm_v1_Explanation_Reason_NONE)
		add_failure(o, e);
	if (e->looked)
		add_now(o, e);
	json_object_object_add(o, "helps", helps(e));
	return o;
}
