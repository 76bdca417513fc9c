/* SPDX-License-Identifier: MIT */
/*
 * The configuration file, cut into lines by inih and judged by the table of settings.
 *
 * inih calls back once a `key = value` line, after it has taken that line from our reader: so the
 * reader's count is the line's number. All lines are judged before the result is told, so that one
 * run names every mistake. What inih makes of indented lines (continuations of the line before) is
 * refused by the rule that a key stands once.
 */
#include "daemon/config.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "daemon/setting.h"

struct config_reader {
	FILE *file;
	const char *path;
	struct options *options;
	unsigned int line;
	unsigned int errors;
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
}

static void config_keys(const char *section, char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	for (const struct setting *s = setting_table; s->key && n < size; s++)
		if (strcmp(s->section, section) == 0)
			n += (size_t)snprintf(text + n, size - n, " %s", s->key);
}

/* One line for inih; a line that does not fit is taken whole and reported. */
static char *config_read_line(char *buffer, int size, void *stream)
{
	struct config_reader *c = stream;
	int ch = 0;

	if (!fgets(buffer, size, c->file))
		return NULL;
	c->line++;
	if (strchr(buffer, '\n') || feof(c->file))
		return buffer;
	ch = getc(c->file);
	if (ch == EOF || ch == '\n')
		return buffer;
	while (ch != EOF && ch != '\n')
		ch = getc(c->file);
	fprintf(stderr, "kmmd: %s:%u: the line is longer than %d bytes\n", c->path, c->line, size - 2);
	c->errors++;
	buffer[0] = '\0';
	return buffer;
}

static void config_unknown(struct config_reader *c, const char *section, const char *key,
                           const char *value)
{
	char known[512];

	c->errors++;
	if (!*section) {
		config_sections(known, sizeof(known));
		fprintf(stderr, "kmmd: %s:%u: %s = %s: stands in no section; there are%s\n", c->path,
		        c->line, key, value, known);
	} else if (!setting_section_known(section)) {
		config_sections(known, sizeof(known));
		fprintf(stderr, "kmmd: %s:%u: %s = %s: no section is called [%s]; there are%s\n",
		        c->path, c->line, key, value, section, known);
	} else {
		config_keys(section, known, sizeof(known));
		fprintf(stderr, "kmmd: %s:%u: %s = %s: no key of [%s] is called %s; there are%s\n",
		        c->path, c->line, key, value, section, key, known);
	}
}

static int config_line(void *user, const char *section, const char *key, const char *value)
{
	struct config_reader *c = user;
	const struct setting *s = setting_find(section, key);
	uint32_t *seen;
	int r;

	if (!s) {
		config_unknown(c, section, key, value);
		return 1;
	}
	seen = &c->options->origin[s - setting_table];
	if (*seen) {
		fprintf(stderr, "kmmd: %s:%u: [%s] %s = %s: already set in line %u\n", c->path, c->line,
		        section, key, value, *seen);
		c->errors++;
		return 1;
	}
	*seen = c->line;
	r = setting_apply(s, c->options, value);
	if (r == -ENOMEM)
		c->out_of_memory = true;
	if (r < 0) {
		fprintf(stderr, "kmmd: %s:%u: [%s] %s = %s: not allowed; it takes %s\n", c->path,
		        c->line, section, key, value, s->allowed);
		c->errors++;
	}
	return 1;
}

int config_read(struct options *o)
{
	struct config_reader c = {.path = o->config, .options = o};
	int r;

	c.file = fopen(o->config, "re");
	if (!c.file) {
		fprintf(stderr, "kmmd: --config %s: %s\n", o->config, strerror(errno));
		return -EINVAL;
	}
	r = ini_parse_stream(config_read_line, &c, config_line, &c);
	if (r > 0) {
		fprintf(stderr, "kmmd: %s:%d: neither [section] nor key = value\n", o->config, r);
		c.errors++;
	} else if (r < 0 || ferror(c.file)) {
		fprintf(stderr, "kmmd: %s: cannot be read\n", o->config);
		c.errors++;
	}
	fclose(c.file);
	if (c.out_of_memory)
		return -ENOMEM;
	return c.errors ? -EINVAL : 0;
}
