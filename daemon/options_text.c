/* SPDX-License-Identifier: MIT */
/*
 * Options as text: what is in force and where it is from, for --check-config, kmmctl settings and the
 * log. What is printed is a configuration file again.
 */
#include "daemon/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/cpu_list.h"
#include "daemon/quota_rules.h"
#include "daemon/setting.h"

#define COMMENT_COLUMN 32

void options_origin_text(const struct options *o, uint32_t origin, const struct setting *s,
                         char *text, size_t size)
{
	if (origin == OPTIONS_ORIGIN_DEFAULT)
		snprintf(text, size, "default");
	else if (origin == OPTIONS_ORIGIN_POOL)
		snprintf(text, size, "the pool");
	else if (origin == OPTIONS_ORIGIN_SET)
		snprintf(text, size, "set");
	else if (origin == OPTIONS_ORIGIN_COMMAND_LINE)
		snprintf(text, size, "--%s", s && s->option ? s->option : "");
	else
		snprintf(text, size, "%s:%" PRIu32, o->config ? o->config : "", origin);
}

static bool is_setting(const struct setting *s, const char *section, const char *key)
{
	return strcmp(s->section, section) == 0 && strcmp(s->key, key) == 0;
}

void options_effective(const struct options *o, const struct setting *s, char *text, size_t size)
{
	cpu_set_t cpus;

	if (is_setting(s, "pool", "section_size")) {
		setting_format_size(text, size, options_section(o));
	} else if (is_setting(s, "pool", "max_size")) {
		setting_format_size(text, size, options_pool_most(o));
	} else if (is_setting(s, "pool", "highmem") && o->highmem == OPTIONS_HIGHMEM_DEFAULT) {
		text[0] = '\0'; /* the pool's size and sections say how much */
	} else if (is_setting(s, "daemon", "cpus") && !o->cpus) {
		cpu_list_allowed(&cpus);
		cpu_list_write(&cpus, text, size);
	} else {
		setting_format(s, o, text, size);
		/* a zone's own */
		if (s->type == SETTING_BACKING && (s->min & 1) && strcmp(text, "auto") == 0)
			text[0] = '\0';
	}
}

static void print_line(FILE *out, const char *key, const char *value, const char *origin)
{
	int n = fprintf(out, "%s = %s", key, value);

	fprintf(out, "%*s ; %s\n", n < COMMENT_COLUMN ? COMMENT_COLUMN - n : 0, "", origin);
}

static void print_setting(const struct options *o, const struct setting *s, FILE *out)
{
	char value[SETTING_VALUE_MAX], origin[300];

	options_origin_text(o, o->origin[s - setting_table], s, origin, sizeof(origin));
	options_effective(o, s, value, sizeof(value));
	if (value[0] || s->type == SETTING_LIST)
		print_line(out, s->key, value, origin);
	else
		fprintf(out, "# %s: %s\n", s->key, s->otherwise ? s->otherwise : "not set");
}

static void print_rule(const struct options *o, const struct quota_rule *rule, FILE *out)
{
	char value[32], origin[300];

	fprintf(out, "\n[%s %s]\n", rule->kind == QUOTA_USER ? "user" : "group", rule->name);
	for (uint32_t i = 0; i < QUOTA_KEYS; i++) {
		if (!(rule->given >> i & 1))
			continue;
		options_origin_text(o, rule->origin[i], NULL, origin, sizeof(origin));
		snprintf(value, sizeof(value), "%" PRIu64, quota_value(&rule->quota, i));
		print_line(out, quota_key[i], value, origin);
	}
}

void options_print(const struct options *o, FILE *out)
{
	const char *section = "";

	fputs("# The configuration is valid. What is in force, and where it is from:\n", out);
	for (const struct setting *s = setting_table; s->key; s++) {
		if (strcmp(s->section, section) != 0)
			fprintf(out, "\n[%s]\n", s->section);
		section = s->section;
		print_setting(o, s, out);
	}
	for (size_t i = 0; o->user_rules && i < o->user_rules->n; i++)
		print_rule(o, &o->user_rules->rule[i], out);
}
