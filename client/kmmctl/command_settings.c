/* SPDX-License-Identifier: MIT */
/*
 * settings and set: the configuration of the running daemon, a line each: what is in force, where it is
 * from, and when a change takes effect.
 */
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/command_private.h"
#include "client/kmmctl/fetch_private.h"
#include "client/kmmctl/json_add.h"
#include "client/kmmctl/table.h"

static void clean_setting(void *item)
{
	kmm_v1_Setting *s = item;

	fetch_clean_text(s->section, false);
	fetch_clean_text(s->key, false);
	fetch_clean_text(s->value, false);
	fetch_clean_text(s->origin, false);
	fetch_clean_text(s->standard, false);
	fetch_clean_text(s->unit, false);
	fetch_clean_text(s->allowed, false);
	fetch_clean_text(s->next, false);
}

static enum connection_result fetch_settings(struct connection *c, kmm_v1_Setting **ret, size_t *n)
{
	kmm_v1_GetSettingsRequest request = kmm_v1_GetSettingsRequest_init_zero;

	return FETCH_LIST(c, INSPECTOR_GET_SETTINGS, GetSettings, &request, Setting, clean_setting,
	                  ret, n);
}

static void print_settings(FILE *out, const kmm_v1_Setting setting[], size_t n)
{
	static const struct table_column columns[] = {
		{ "SETTING", TABLE_LEFT },
		{ "VALUE", TABLE_LEFT },
		{ "FROM", TABLE_LEFT },
		{ "CHANGE", TABLE_LEFT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	for (size_t i = 0; i < n; i++) {
		const kmm_v1_Setting *s = &setting[i];

		table_cell(t, "%s.%s", s->section, s->key);
		if (s->value[0])
			table_cell(t, "%s", s->value);
		else
			table_cell(t, "(%s)", s->standard);
		table_cell(t, "%s", s->origin);
		if (s->next[0])
			table_cell(t, "%s: %s", s->of_pool ? "new pool" : "restart", s->next);
		else
			table_cell(t, "%s", s->live ? "live" : s->of_pool ? "new pool" : "restart");
	}
	table_print(out, t);
	table_free(t);
}

static void add_setting(struct json_object *o, const void *item)
{
	const kmm_v1_Setting *s = item;

	add_text(o, "section", s->section);
	add_text(o, "key", s->key);
	add_text(o, "value", s->value);
	add_text(o, "from", s->origin);
	add_bool(o, "live", s->live);
	add_bool(o, "pool", s->of_pool);
	add_text(o, "default", s->standard);
	add_text(o, "unit", s->unit);
	add_text(o, "allowed", s->allowed);
	if (s->next[0])
		add_text(o, "next", s->next);
}

enum kmmctl_status command_settings(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	kmm_v1_Setting *setting;
	size_t n;

	result = fetch_settings(x->connection, &setting, &n);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		status = command_print_json(x, array_of(setting, n, sizeof(*setting), add_setting));
	else
		print_settings(x->out, setting, n);
	free(setting);
	return status;
}

bool command_check_set(const char *key, const char *value)
{
	if (!key || !value)
		fputs("kmmctl: set wants a setting and its value, such as limits.pages 10000; kmmctl "
		      "settings lists them\n", stderr);
	else if (!key[0] || strlen(key) >= sizeof(((kmm_v1_SetRequest *)0)->key))
		fprintf(stderr, "kmmctl: set: a setting's name has 1 to %zu bytes, not %zu\n",
		        sizeof(((kmm_v1_SetRequest *)0)->key) - 1, strlen(key));
	else if (strlen(value) >= sizeof(((kmm_v1_SetRequest *)0)->value))
		fprintf(stderr, "kmmctl: set: a value has at most %zu bytes, not %zu\n",
		        sizeof(((kmm_v1_SetRequest *)0)->value) - 1, strlen(value));
	else
		return true;
	return false;
}

enum kmmctl_status command_set(struct command_context *x)
{
	kmm_v1_SetRequest request = kmm_v1_SetRequest_init_zero;
	enum connection_result result;
	kmm_v1_SetReply reply;

	/* Both fit: command_check_set(). */
	memcpy(request.key, x->argument, strlen(x->argument));
	memcpy(request.value, x->value, strlen(x->value));
	result = FETCH_CALL(x->connection, ADMIN_SET, Set, &request, SetReply, &reply);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	fetch_clean_text(reply.text, false);
	if (x->json) {
		struct json_object *o = json_object_new_object();

		add_text(o, "set", x->argument);
		add_text(o, "value", x->value);
		add_text(o, "text", reply.text);
		return command_print_json(x, o);
	}
	fprintf(x->out, "%s\n", reply.text);
	return KMMCTL_DONE;
}
