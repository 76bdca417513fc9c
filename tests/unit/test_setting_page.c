/* SPDX-License-Identifier: MIT */
/*
 * The table of settings, the manual page and the configuration file to begin with say the same.
 *
 * kmmd.conf(5) has for each setting, below the heading of its section,
 *
 *   .TP
 *   .B key
 *   ...
 *   Takes WHAT IS ALLOWED (UNIT). Default: DEFAULT. Live: yes.
 *
 * where the last line is made of the table's row. kmmd.conf has a line `#key = value`.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/setting.h"
#include "tests/suite.h"

#define TEXT_MAX (256u << 10)

static char text[TEXT_MAX];

/* A file of the source, \- as -. */
static void read_source(const char *name)
{
	const char *src = getenv("KMM_SRCDIR");
	char path[4096];
	size_t n = 0;
	FILE *f;
	int ch;

	snprintf(path, sizeof(path), "%s/%s", src ? src : ".", name);
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s cannot be read", path);
	while ((ch = getc(f)) != EOF && n < TEXT_MAX - 1) {
		if (ch == '\\') {
			ch = getc(f);
			if (ch != '-')
				continue;
		}
		text[n++] = (char)ch;
	}
	text[n] = '\0';
	fclose(f);
	ck_assert_uint_gt(n, 1000);
}

/* What a page says of a setting between its heading and the next one; NULL: nothing. */
static const char *paragraph_of(const struct setting *s, char *copy, size_t size)
{
	char heading[64], item[64];
	const char *begin, *end, *section_end;

	snprintf(heading, sizeof(heading), "\n.SS [%s]\n", s->section);
	snprintf(item, sizeof(item), "\n.TP\n.B %s\n", s->key);
	begin = strstr(text, heading);
	if (!begin)
		return NULL;
	section_end = strstr(begin + 1, "\n.S");
	begin = strstr(begin, item);
	if (!begin || (section_end && begin > section_end))
		return NULL;
	end = strstr(begin + strlen(item), "\n.TP\n");
	if (!end || (section_end && end > section_end))
		end = section_end;
	ck_assert(end != NULL && (size_t)(end - begin) < size);
	memcpy(copy, begin, (size_t)(end - begin));
	copy[end - begin] = '\0';
	return copy;
}

START_TEST(every_setting_is_on_the_page)
{
	char fact[800], copy[4096];

	read_source("man/kmmd.conf.5");
	for (const struct setting *s = setting_table; s->key; s++) {
		const char *paragraph = paragraph_of(s, copy, sizeof(copy));

		ck_assert_msg(paragraph != NULL, "kmmd.conf(5), [%s], has no paragraph .B %s",
		              s->section, s->key);
		snprintf(fact, sizeof(fact), "\nTakes %s%s%s%s. Default: %s. Live: %s.", s->allowed,
		         *s->unit ? " (" : "", s->unit, *s->unit ? ")" : "",
		         s->initial ? s->initial : s->otherwise, s->live ? "yes" : "no");
		ck_assert_msg(strstr(paragraph, fact) != NULL,
		              "kmmd.conf(5), [%s] %s, does not say:%s\nbut:%s", s->section, s->key,
		              fact, paragraph);
	}
}
END_TEST

START_TEST(nothing_else_is_on_the_page)
{
	char section[32] = "", key[64];
	unsigned int n = 0, settings = 0;
	char *line, *rest = text;

	read_source("man/kmmd.conf.5");
	while ((line = strsep(&rest, "\n"))) {
		if (strncmp(line, ".S", 2) == 0)
			section[0] = '\0';
		sscanf(line, ".SS [%31[a-z]]", section);
		if (!section[0] || sscanf(line, ".B %63[a-z0-9_]", key) != 1 ||
		    line[3 + strlen(key)] || !setting_find(section, key)) {
			/* within the text: no key stands behind .TP unless it is known */
			ck_assert_msg(!section[0] || strcmp(line, ".TP") != 0 ||
			                      (rest && sscanf(rest, ".B %63[a-z0-9_]", key) == 1 &&
			                       setting_find(section, key)),
			              "kmmd.conf(5), [%s]: there is no setting %.40s", section,
			              rest ? rest : "");
			continue;
		}
		n++;
	}
	for (const struct setting *s = setting_table; s->key; s++)
		settings++;
	ck_assert_uint_ge(n, settings);
}
END_TEST

/* What the file to begin with says in a comment is a setting, and the default where there is a plain
 * one. */
START_TEST(the_file_to_begin_with)
{
	unsigned int seen[OPTIONS_SETTINGS_MAX] = {0};
	char section[32] = "", key[64], value[256];
	char *line, *rest = text;
	struct options o;

	read_source("contrib/systemd/kmmd.conf");
	while ((line = strsep(&rest, "\n"))) {
		const struct setting *s;

		if (sscanf(line, "[%31[a-z]]", section) == 1)
			continue;
		if (sscanf(line, "#%63[a-z0-9_] = %255[^\n]", key, value) != 2)
			continue;
		s = setting_find(section, key);
		ck_assert_msg(s != NULL, "kmmd.conf: [%s] %s: there is no such setting", section, key);
		seen[s - setting_table]++;
		memset(&o, 0, sizeof(o));
		ck_assert_msg(setting_apply(s, &o, value) == 0, "kmmd.conf: [%s] %s = %s", section,
		              key, value);
		setting_clear(s, &o);
		if (s->initial)
			ck_assert_str_eq(value, s->initial);
	}
	for (const struct setting *s = setting_table; s->key; s++)
		ck_assert_msg(seen[s - setting_table] == 1, "kmmd.conf has [%s] %s %u times", s->section,
		              s->key, seen[s - setting_table]);
}
END_TEST

START_TEST(the_table_is_in_order)
{
	char value[SETTING_VALUE_MAX];
	struct options o, again;

	memset(&o, 0, sizeof(o));
	memset(&again, 0, sizeof(again));
	for (const struct setting *s = setting_table; s->key; s++) {
		ck_assert(s->allowed && s->unit && (s->initial || s->otherwise));
		ck_assert_ptr_eq(setting_find(s->section, s->key), s);
		ck_assert_int_eq(setting_reset(s, &o), 0);
		if (!s->initial)
			continue;
		/* what is printed reads as what it was */
		setting_format(s, &o, value, sizeof(value));
		ck_assert_str_eq(value, s->initial);
		ck_assert_int_eq(setting_apply(s, &again, value), 0);
		ck_assert(setting_equal(s, &o, &again));
	}
	for (const struct setting *s = setting_table; s->key; s++) {
		setting_clear(s, &o);
		setting_clear(s, &again);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("setting_page");
	TCase *tcase = tcase_create("setting_page");

	tcase_add_test(tcase, every_setting_is_on_the_page);
	tcase_add_test(tcase, nothing_else_is_on_the_page);
	tcase_add_test(tcase, the_file_to_begin_with);
	tcase_add_test(tcase, the_table_is_in_order);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
