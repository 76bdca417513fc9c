/* SPDX-License-Identifier: MIT */
/*
 * The configuration file, cut into lines by inih and judged by the table of settings.
 *
 * inih calls back once a `key = value` line, after it has taken that line from our reader: so the
 * reader's count is the line's number. All lines are judged before the result is told, so that one
 * run names every mistake. An indented line goes on with a list; what inih makes of others (the line
 * before once more) is refused by the rule that a key stands once.
 *
 * Sections [user NAME] and [group NAME] are no rows of the table: their keys are those of [user], and
 * there are as many as there are names (quota.h).
 */
#include "daemon/config.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "daemon/quota_rules.h"
#include "daemon/setting.h"

/* inih cuts what is longer, without a word. */
#define SECTION_MAX 49

struct config_reader {
	FILE *file;
	const char *path;
	struct options *options;
	unsigned int line;
	unsigned int errors;
	bool indented;
	bool out_of_memory;
};

static void config_sections(char *text, size_t size)
{
	const char *last = "";
	size_t n = 0;

	text[0] = '\0';
	for (const struct setting *s = setting_table; s->key && n < size; s++) {
		if (strcmp(s->section, last) != 0)
			n += (size_t)snprintf(text + n, size - n, " [%s]", s->section);
		last = s->section;
	}
	if (n < size)
		snprintf(text + n, size - n, " [user NAME] [group NAME]");
}

static void config_keys(const char *section, char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	for (const struct setting *s = setting_table; s->key && n < size; s++)
		if (strcmp(s->section, section) == 0)
			n += (size_t)snprintf(text + n, size - n, " %s", s->key);
}

static void config_unknown(const struct options *o, const char *where, const char *section,
                           const char *key, const char *value)
{
	char known[512];

	if (!*section) {
		config_sections(known, sizeof(known));
		options_say(o, "%s%s = %s: stands in no section; there are%s", where, key, value,
		            known);
	} else if (!setting_section_known(section)) {
		config_sections(known, sizeof(known));
		options_say(o, "%s%s = %s: no section is called [%s]; there are%s", where, key,
		            value, section, known);
	} else {
		config_keys(section, known, sizeof(known));
		options_say(o, "%s%s = %s: no key of [%s] is called %s; there are%s", where, key,
		            value, section, key, known);
	}
}

static int config_twice(const struct options *o, const char *where, const char *section,
                        const char *key, const char *value, uint32_t line)
{
	options_say(o, "%s[%s] %s = %s: already set in line %u", where, section, key, value, line);
	return -EINVAL;
}

/* A line of the file stands once; what is set in the running daemon, or by the command line, is set
 * over what was there. */
static bool is_line(uint32_t origin)
{
	return origin != OPTIONS_ORIGIN_DEFAULT && origin < OPTIONS_ORIGIN_POOL;
}

static int config_setting(struct options *o, const char *where, uint32_t origin,
                          const struct setting *s, const char *section, const char *key,
                          const char *value, bool indented)
{
	uint32_t *seen = &o->origin[s - setting_table];
	int r;

	if (indented && *seen && s->type == SETTING_LIST) {
		r = setting_append(s, o, value);
	} else {
		if (is_line(*seen) && is_line(origin))
			return config_twice(o, where, section, key, value, *seen);
		*seen = origin;
		r = setting_apply(s, o, value);
	}
	if (r == -EINVAL)
		options_say(o, "%s[%s] %s = %s: not allowed; it takes %s", where, section, key, value,
		            s->allowed);
	return r;
}

/* "user alice": true, and the rest. */
static bool config_is_rule(const char *section, enum quota_kind *kind, const char **name)
{
	size_t n;

	if (strncmp(section, "user", n = 4) == 0)
		*kind = QUOTA_USER;
	else if (strncmp(section, "group", n = 5) == 0)
		*kind = QUOTA_GROUP;
	else
		return false;
	if (section[n] != ' ' && section[n] != '\t')
		return false;
	*name = section + n + strspn(section + n, " \t");
	return **name != '\0';
}

static int config_rule(struct options *o, const char *where, uint32_t origin, const char *section,
                       enum quota_kind kind, const char *name, const char *key, const char *value)
{
	const struct setting *s = setting_find("user", key);
	int number = s ? quota_key_find(key) : -ENOENT, r;
	struct options scratch = { .origin = { 0 } };
	struct quota_rule *rule;
	char known[256];
	uint32_t id;

	if (number < 0) {
		config_keys("user", known, sizeof(known));
		options_say(o, "%s%s = %s: no key of [%s] is called %s; there are%s", where, key,
		            value, section, key, known);
		return -EINVAL;
	}
	if (strlen(section) >= SECTION_MAX) {
		options_say(o, "%s[%s]: the name is too long; a number will do", where, section);
		return -EINVAL;
	}
	if (!quota_name_known(kind, name, &id)) {
		options_say(o, "%s[%s] %s = %s: there is no such %s; it takes a name or a number", where,
		            section, key, value, kind == QUOTA_USER ? "user" : "group");
		return -EINVAL;
	}
	r = setting_apply(s, &scratch, value);
	if (r == -EINVAL)
		options_say(o, "%s[%s] %s = %s: not allowed; it takes %s", where, section, key,
		            value, s->allowed);
	if (r < 0)
		return r;
	if (o->user_rules && o->user_rules->n >= QUOTA_RULES_MAX &&
	    !quota_rules_find(o->user_rules, kind, name)) {
		options_say(o, "%s[%s] %s = %s: there are %u sections [user NAME] and [group NAME], and "
		               "there can be no more; what [user] says is for everybody",
		            where, section, key, value, QUOTA_RULES_MAX);
		return -EINVAL;
	}
	rule = quota_rules_add(&o->user_rules, kind, name);
	if (!rule)
		return -ENOMEM;
	rule->id = id;
	if ((rule->given >> number & 1) && is_line(rule->origin[number]) && is_line(origin))
		return config_twice(o, where, section, key, value, rule->origin[number]);
	quota_rule_set(rule, (uint32_t)number,
	               quota_value(&scratch.user_default, (uint32_t)number), origin);
	return 0;
}

int config_apply(struct options *o, const char *where, uint32_t origin, const char *section,
                 const char *key, const char *value, bool indented)
{
	const struct setting *s = setting_find(section, key);
	enum quota_kind kind;
	const char *name;

	if (s)
		return config_setting(o, where, origin, s, section, key, value, indented);
	if (config_is_rule(section, &kind, &name))
		return config_rule(o, where, origin, section, kind, name, key, value);
	config_unknown(o, where, section, key, value);
	return -EINVAL;
}

/* ---- the file ---- */

/* inih does so itself but in indented lines. The line stays one. */
static void config_cut_comment(char *line)
{
	for (char *p = line + 1; *p; p++)
		if (*p == ';' && (p[-1] == ' ' || p[-1] == '\t') && p[1]) {
			strcpy(p, "\n");
			return;
		}
}

/* One line for inih; a line that does not fit is taken whole and reported. */
static char *config_read_line(char *buffer, int size, void *stream)
{
	struct config_reader *c = stream;
	int ch = 0;
	bool whole;

	if (!fgets(buffer, size, c->file))
		return NULL;
	c->line++;
	c->indented = buffer[0] == ' ' || buffer[0] == '\t';
	whole = strchr(buffer, '\n') || feof(c->file);
	if (!whole) {
		ch = getc(c->file);
		whole = ch == EOF || ch == '\n';
	}
	if (whole) {
		if (c->indented)
			config_cut_comment(buffer);
		return buffer;
	}
	while (ch != EOF && ch != '\n')
		ch = getc(c->file);
	options_say(c->options, "%s:%u: the line is longer than %d bytes", c->path, c->line,
	            size - 2);
	c->errors++;
	buffer[0] = '\0';
	return buffer;
}

static int config_line(void *user, const char *section, const char *key, const char *value)
{
	struct config_reader *c = user;
	char where[4200];
	int r;

	snprintf(where, sizeof(where), "%s:%u: ", c->path, c->line);
	r = config_apply(c->options, where, c->line, section, key, value, c->indented);
	if (r == -ENOMEM)
		c->out_of_memory = true;
	if (r < 0)
		c->errors++;
	return 1;
}

int config_read(struct options *o)
{
	struct config_reader c = {.path = o->config, .options = o};
	int r;

	c.file = fopen(o->config, "re");
	if (!c.file) {
		options_say(o, "--config %s: %s", o->config, strerror(errno));
		return -EINVAL;
	}
	r = ini_parse_stream(config_read_line, &c, config_line, &c);
	if (r > 0) {
		options_say(o, "%s:%d: neither [section] nor key = value", o->config, r);
		c.errors++;
	} else if (r < 0 || ferror(c.file)) {
		options_say(o, "%s: cannot be read", o->config);
		c.errors++;
	}
	fclose(c.file);
	if (c.out_of_memory)
		return -ENOMEM;
	return c.errors ? -EINVAL : 0;
}
