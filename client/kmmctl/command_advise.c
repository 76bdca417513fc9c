/* SPDX-License-Identifier: MIT */
/*
 * why, advise and domains: fetch one message, or a short list, and print it.
 */
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <time.h>

#include "client/kmmctl/advise.h"
#include "client/kmmctl/command_private.h"
#include "client/kmmctl/fetch_private.h"
#include "client/kmmctl/json_add.h"
#include "client/kmmctl/table.h"
#include "client/kmmctl/why.h"

/* ---- why ---- */

static void clean_hoards(kmm_v1_Hoard hoard[], pb_size_t n)
{
	for (pb_size_t i = 0; i < n; i++) {
		fetch_clean_text(hoard[i].name, false);
		fetch_clean_text(hoard[i].state, false);
	}
}

static void clean_explanation(kmm_v1_Explanation *e)
{
	fetch_clean_text(e->name, false);
	fetch_clean_text(e->method, false);
	fetch_clean_text(e->gfp_text, false);
	fetch_clean_text(e->cache, false);
	fetch_clean_text(e->text, false);
	fetch_clean_text(e->quota, false);
	fetch_clean_text(e->section, false);
	fetch_clean_text(e->waits.cache, false);
	fetch_clean_text(e->waits.gfp_text, false);
	for (pb_size_t i = 0; i < e->zone_count; i++)
		fetch_clean_text(e->zone[i].zone, false);
	clean_hoards(e->sessions, e->sessions_count);
	clean_hoards(e->users, e->users_count);
}

enum kmmctl_status command_why(struct command_context *x)
{
	kmm_v1_ExplainRequest request = kmm_v1_ExplainRequest_init_zero;
	enum connection_result result;
	static kmm_v1_Explanation e;

	if (!command_parse_id(x->argument, &request.session))
		return KMMCTL_USAGE;
	result = FETCH_CALL(x->connection, INSPECTOR_EXPLAIN, Explain, &request, Explanation, &e);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	clean_explanation(&e);
	if (x->json)
		return command_print_json(x, json_why(&e));
	report_why(x->out, &e, (uint64_t)time(NULL));
	return KMMCTL_DONE;
}

/* ---- advise ---- */

static const char *name_of(uint32_t uid)
{
	const struct passwd *pw = getpwuid(uid);

	return pw ? pw->pw_name : NULL;
}

enum kmmctl_status command_advise(struct command_context *x)
{
	kmm_v1_AdviseRequest request = kmm_v1_AdviseRequest_init_zero;
	enum connection_result result;
	static struct advise a;
	static kmm_v1_History h;

	result = FETCH_CALL(x->connection, INSPECTOR_ADVISE, Advise, &request, History, &h);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	fetch_clean_text(h.backing, false);
	for (pb_size_t i = 0; i < h.zone_count; i++)
		fetch_clean_text(h.zone[i].zone, false);
	advise_make(&a, &h);
	advise_name_users(&a, name_of);
	if (x->json)
		return command_print_json(x, json_advise(&a, &h));
	report_advise(x->out, &a, &h);
	return KMMCTL_DONE;
}

/* ---- domains ---- */

static void clean_domain(void *item)
{
	fetch_clean_text(((kmm_v1_Domain *)item)->name, false);
}

static const char *state_of(char text[32], const kmm_v1_Domain *d)
{
	if (d->spoiled)
		return "spoiled";
	if (!d->damaged)
		return "no";
	snprintf(text, 32, "%" PRIu32 " words", d->damaged);
	return text;
}

static void print_domains(FILE *out, const kmm_v1_Domain domain[], size_t n)
{
	static const struct table_column columns[] = {
		{ "NAME", TABLE_LEFT },      { "ID", TABLE_RIGHT },    { "SECTIONS", TABLE_RIGHT },
		{ "PAGES", TABLE_RIGHT },    { "FREE", TABLE_RIGHT },  { "SESSIONS", TABLE_RIGHT },
		{ "USERS", TABLE_RIGHT },    { "DAMAGED", TABLE_LEFT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));
	char text[32];

	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Domain *d = &domain[i];

		table_cell(t, "%s", d->name);
		table_cell(t, "%" PRIu32, d->id);
		table_cell(t, "%" PRIu32, d->sections);
		table_cell(t, "%" PRIu64, d->pages);
		table_cell(t, "%" PRIu64, d->free);
		table_cell(t, "%" PRIu32, d->sessions);
		table_cell(t, "%" PRIu32, d->users);
		table_cell(t, "%s", state_of(text, d));
	}
	table_print(out, t);
	table_free(t);
}

static void add_domain(struct json_object *o, const void *item)
{
	const kmm_v1_Domain *d = item;

	add_text(o, "name", d->name);
	add_number(o, "id", d->id);
	add_number(o, "sections", d->sections);
	add_number(o, "pages", d->pages);
	add_number(o, "free", d->free);
	add_number(o, "sessions", d->sessions);
	add_number(o, "users", d->users);
	add_number(o, "damaged", d->damaged);
	add_bool(o, "spoiled", d->spoiled);
}

enum kmmctl_status command_domains(struct command_context *x)
{
	kmm_v1_ListDomainsRequest request = kmm_v1_ListDomainsRequest_init_zero;
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Domain *domain;
	size_t n;

	result = FETCH_LIST(x->connection, INSPECTOR_LIST_DOMAINS, ListDomains, &request, Domain,
	                    clean_domain, &domain, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, array_of(domain, n, sizeof(domain[0]), add_domain));
	else
		print_domains(x->out, domain, n);
	free(domain);
	return status;
}
