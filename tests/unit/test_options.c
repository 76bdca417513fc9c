/* SPDX-License-Identifier: MIT */
/*
 * Options: defaults, file, command line over file, and what a refusal says.
 *
 * stderr is caught in a file, so that the messages can be looked at.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/options.h"
#include "daemon/setting.h"
#include "tests/suite.h"

static char config_path[64];
static char said[8192];

/* Parses with the words given; what it says goes to `said`. */
static int parse(struct options **ret, const char *const word[])
{
	char *argv[32] = {(char *)"kmmd"};
	FILE *catch = tmpfile();
	int argc = 1, saved, r;
	size_t n;

	ck_assert_ptr_nonnull(catch);
	for (; word[argc - 1]; argc++)
		argv[argc] = (char *)word[argc - 1];
	fflush(stderr);
	saved = dup(STDERR_FILENO);
	ck_assert_int_ge(dup2(fileno(catch), STDERR_FILENO), 0);
	*ret = NULL;
	r = options_parse(ret, argc, argv);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(catch);
	n = fread(said, 1, sizeof(said) - 1, catch);
	said[n] = '\0';
	fclose(catch);
	return r;
}

#define PARSE(ret, ...) parse(ret, (const char *const[]){__VA_ARGS__, NULL})

static void write_config(const char *text)
{
	FILE *f;

	snprintf(config_path, sizeof(config_path), "/tmp/test_options.%d", (int)getpid());
	f = fopen(config_path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void cleanup(void)
{
	if (config_path[0])
		unlink(config_path);
}

#define CONFIG "--socket", "/tmp/none", "--config", config_path

static int parse_config(struct options **ret, const char *text)
{
	int r;

	write_config(text);
	r = PARSE(ret, CONFIG);
	unlink(config_path);
	return r;
}

static void assert_said(const char *text)
{
	if (!strstr(said, text))
		ck_abort_msg("\"%s\" is not in \"%s\"", text, said);
}

START_TEST(defaults_are_the_documented_ones)
{
	struct options *o;

	ck_assert_int_eq(PARSE(&o, "--socket", "/tmp/none"), 0);
	ck_assert_uint_eq(o->pool_size, UINT64_C(1) << 30);
	ck_assert_uint_eq(o->section_size, 0);
	ck_assert_int_eq(o->backing, SHM_AUTO);
	ck_assert(o->highmem == OPTIONS_HIGHMEM_DEFAULT && o->movable == 0);
	ck_assert_uint_eq(o->nodes, 1);
	ck_assert_uint_eq(o->reactors, 0);
	ck_assert_uint_eq(o->grace_ms, 5000);
	ck_assert_uint_eq(o->socket_mode, 0660);
	ck_assert_uint_eq(o->channels_max, 8);
	ck_assert_uint_eq(o->thread_cache, 4 << 20);
	ck_assert(o->pin && !o->supervise && !o->check_config);
	options_free(o);
}
END_TEST

START_TEST(the_file_sets_everything)
{
	struct options *o;

	ck_assert_int_eq(parse_config(&o, "# all keys\n"
	                                  "[pool]\nsize = 256M\nsection_size = 8m\nbacking = thp\n"
	                                  "huge_page_size = 2M\nnodes = 4\ndma_size = 32M\n"
	                                  "dma32_size = 64M\nhighmem = 12M\nmovable = 8M\n"
	                                  "[daemon]\nsocket_mode = 0600\nreactors = 3\npin = no\n"
	                                  "grace = 250ms\nlog_level = debug\n"
	                                  "slab_debug = FZ,pars*,dentry;P\n"
	                                  "[limits]\nsessions = 10\nchannels = 2\ncalls = 20\n"
	                                  "pages = 1000\nholders = 300\nholders_per_session = 30\n"
	                                  "names_per_user = 40\nthread_cache = 1M\n"
	                                  "[access]\nadmins = root, 12345\n"),
	                 0);
	ck_assert_str_eq(said, "");
	ck_assert_uint_eq(o->pool_size, 256 << 20);
	ck_assert_uint_eq(o->section_size, 8 << 20);
	ck_assert_int_eq(o->backing, SHM_THP);
	ck_assert_uint_eq(o->nodes, 4);
	ck_assert_uint_eq(o->dma_size, 32 << 20);
	ck_assert_uint_eq(o->dma32_size, 64 << 20);
	ck_assert_uint_eq(o->highmem, 12 << 20);
	ck_assert_uint_eq(o->movable, 8 << 20);
	ck_assert_uint_eq(o->socket_mode, 0600);
	ck_assert_uint_eq(o->reactors, 3);
	ck_assert(!o->pin);
	ck_assert_uint_eq(o->grace_ms, 250);
	ck_assert_int_eq(o->log_level, LOG_LEVEL_DEBUG);
	ck_assert_str_eq(o->slab_debug, "FZ,pars*,dentry;P");
	ck_assert_uint_eq(o->sessions_max, 10);
	ck_assert_uint_eq(o->channels_max, 2);
	ck_assert_uint_eq(o->calls_max, 20);
	ck_assert_uint_eq(o->pages_max, 1000);
	ck_assert_uint_eq(o->holders_max, 300);
	ck_assert_uint_eq(o->holders_session_max, 30);
	ck_assert_uint_eq(o->names_user_max, 40);
	ck_assert_uint_eq(o->thread_cache, 1 << 20);
	ck_assert_str_eq(o->admin_users[0], "root");
	ck_assert_str_eq(o->admin_users[1], "12345");
	ck_assert_ptr_null(o->admin_users[2]);
	options_free(o);
}
END_TEST

START_TEST(the_command_line_overrides_the_file)
{
	struct options *o;

	write_config("[pool]\nsize = 128M\nnodes = 2\n");
	ck_assert_int_eq(PARSE(&o, "--pool-size=64M", CONFIG), 0);
	ck_assert_uint_eq(o->pool_size, 64 << 20);
	ck_assert_uint_eq(o->nodes, 2);
	options_free(o);
}
END_TEST

START_TEST(sizes_take_units_and_overflow_is_seen)
{
	static const struct {
		const char *text;
		uint64_t size; /* 0: refused */
	} row[] = {
	        {"1073741824", UINT64_C(1) << 30},
	        {"1048576K", UINT64_C(1) << 30},
	        {"64M", UINT64_C(64) << 20},
	        {"2g", UINT64_C(2) << 30},
	        {"1T", UINT64_C(1) << 40},
	        {"", 0},
	        {"G", 0},
	        {"1GB", 0},
	        {"1 G", 0},
	        {"-1G", 0},
	        {"+1G", 0},
	        {"1.5G", 0},
	        {"0x1000000", 0},
	        {"18446744073709551616", 0},
	        {"18446744073709551615T", 0},
	        {"16777216T", 0},
	        {"2T", 0},
	};
	const struct setting *s = setting_find("pool", "size");

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct options o = {.pool_size = 77};

		ck_assert_int_eq(setting_apply(s, &o, row[i].text), row[i].size ? 0 : -EINVAL);
		ck_assert_uint_eq(o.pool_size, row[i].size ? row[i].size : 77);
	}
}
END_TEST

START_TEST(every_setting_refuses_nonsense_and_stays)
{
	for (const struct setting *s = setting_table; s->key; s++) {
		struct options o;

		memset(&o, 0, sizeof(o));
		ck_assert(s->allowed && *s->allowed);
		if (s->type == SETTING_LIST || s->type == SETTING_TEXT)
			continue;
		ck_assert_int_eq(setting_apply(s, &o, "no such value"), -EINVAL);
		ck_assert_int_eq(setting_apply(s, &o, ""), -EINVAL);
		for (size_t i = 0; i < sizeof(o); i++)
			ck_assert_int_eq(((const char *)&o)[i], 0);
	}
}
END_TEST

START_TEST(every_wrong_line_is_named)
{
	char expected[128];
	struct options *o;

	ck_assert_int_eq(parse_config(&o, "[pool]\n"
	                                  "size = lots\n"
	                                  "sise = 1G\n"
	                                  "\n"
	                                  "[poll]\n"
	                                  "size = 1G\n"
	                                  "[daemon]\n"
	                                  "reactors = 999\n"
	                                  "reactors = 1\n"
	                                  "slab_debug = FZX,dentry\n"),
	                 -EINVAL);
	ck_assert_ptr_null(o);
	snprintf(expected, sizeof(expected), "%s:2: [pool] size = lots: not allowed; it takes a size",
	         config_path);
	assert_said(expected);
	snprintf(expected, sizeof(expected), "%s:3: sise = 1G: no key of [pool]", config_path);
	assert_said(expected);
	snprintf(expected, sizeof(expected), "%s:6: size = 1G: no section is called [poll]",
	         config_path);
	assert_said(expected);
	snprintf(expected, sizeof(expected), "%s:8: [daemon] reactors = 999", config_path);
	assert_said(expected);
	snprintf(expected, sizeof(expected), "%s:10: [daemon] slab_debug = FZX,dentry: not allowed",
	         config_path);
	assert_said(expected);
	snprintf(expected, sizeof(expected), "%s:9: [daemon] reactors = 1: already set in line 8",
	         config_path);
	assert_said(expected);
}
END_TEST

START_TEST(values_that_do_not_fit_together_name_their_line)
{
	static const struct {
		const char *text, *expected;
	} row[] = {
	        {"[pool]\nsize = 66M\n", ":2: [pool] size = 66M: no multiple of the section size, 4M"},
	        {"[pool]\nsection_size = 5M\n", ":2: [pool] section_size = 5M: not allowed"},
	        {"[pool]\nsize = 64M\n\nnodes = 20\n", ":4: [pool] nodes = 20: more than"},
	        {"[pool]\nhuge_page_size = 4M\n", ":2: [pool] huge_page_size = 4M"},
	        {"[pool]\ndma32_size = 1M\n", "[pool] dma_size (default) = 16M: larger than"},
	        {"[pool]\nsize = 16M\nsection_size = 16M\n", ":2: [pool] size = 16M: makes 1"},
	        {"[limits]\nholders_per_session = 100000\n", ":2: [limits] holders_per_session"},
	        {"[access]\nadmins = root,nobody-of-that-name\n",
	         ":2: [access] admins = nobody-of-that-name: there is no such user"},
	        {"[daemon]\nsocket_group = no-such-group\n", ":2: [daemon] socket_group = no-such-group"},
	};
	struct options *o;

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		ck_assert_int_eq(parse_config(&o, row[i].text), -EINVAL);
		ck_assert_ptr_null(o);
		assert_said(row[i].expected);
	}
}
END_TEST

START_TEST(lines_that_are_too_long_or_no_lines_at_all)
{
	char text[2000], expected[128];
	struct options *o;

	snprintf(text, sizeof(text), "[pool]\nbacking = %0*d\n", 1500, 0);
	ck_assert_int_eq(parse_config(&o, text), -EINVAL);
	snprintf(expected, sizeof(expected), "%s:2: the line is longer than", config_path);
	assert_said(expected);
	ck_assert_int_eq(parse_config(&o, "[pool]\nsize = 64M\nwhatever\n"), -EINVAL);
	snprintf(expected, sizeof(expected), "%s:3: neither [section] nor key = value", config_path);
	assert_said(expected);
	ck_assert_int_eq(PARSE(&o, "--config", "/nonexistent/kmmd.conf"), -EINVAL);
	assert_said("--config /nonexistent/kmmd.conf");
}
END_TEST

START_TEST(wrong_command_lines_name_the_word)
{
	static const struct {
		const char *word[4], *expected;
	} row[] = {
	        {{"--no-such"}, "--no-such: no such option"},
	        {{"whatever"}, "whatever: not an option"},
	        {{"--"}, "--: not an option"},
	        {{"--pool-size"}, "--pool-size needs a value"},
	        {{"--pool-size", "lots"}, "--pool-size lots: not allowed; it takes a size"},
	        {{"--pool-size=65M"}, "--pool-size 65M: no multiple"},
	        {{"--nodes", "0"}, "--nodes 0: not allowed"},
	        {{"--reactors="}, "--reactors : not allowed"},
	        {{"--socket", "relative"}, "--socket relative: not allowed"},
	        {{"--supervise=yes"}, "--supervise=yes: no such option"},
	};
	struct options *o;

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		ck_assert_int_eq(parse(&o, row[i].word), -EINVAL);
		ck_assert_ptr_null(o);
		assert_said(row[i].expected);
	}
}
END_TEST

START_TEST(flags)
{
	struct options *o;

	ck_assert_int_eq(PARSE(&o, "--socket", "/tmp/none", "--supervise"), 0);
	ck_assert(o->supervise);
	options_free(o);
	ck_assert_int_eq(PARSE(&o, "--socket", "/tmp/none", "--check-config"), 1);
	ck_assert_int_eq(PARSE(&o, "--help"), 1);
	ck_assert_int_eq(PARSE(&o, "--version"), 1);
}
END_TEST

START_TEST(settings_compare)
{
	struct options a, b;

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	for (const struct setting *s = setting_table; s->key; s++)
		ck_assert(setting_equal(s, &a, &b));
	ck_assert_int_eq(setting_apply(setting_find("access", "admins"), &a, "x y"), 0);
	ck_assert(!setting_equal(setting_find("access", "admins"), &a, &b));
	ck_assert_int_eq(setting_apply(setting_find("access", "admins"), &b, "x,y"), 0);
	ck_assert(setting_equal(setting_find("access", "admins"), &a, &b));
	ck_assert_int_eq(setting_apply(setting_find("daemon", "slab_debug"), &a, "F"), 0);
	ck_assert(!setting_equal(setting_find("daemon", "slab_debug"), &a, &b));
	ck_assert_int_eq(setting_apply(setting_find("daemon", "slab_debug"), &a, "Z;"), -EINVAL);
	ck_assert_str_eq(a.slab_debug, "F");
	ck_assert_int_eq(setting_apply(setting_find("daemon", "grace"), &a, "7"), 0);
	ck_assert(!setting_equal(setting_find("daemon", "grace"), &a, &b));
	for (const struct setting *s = setting_table; s->key; s++) {
		setting_clear(s, &a);
		setting_clear(s, &b);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("options");
	TCase *tcase = tcase_create("options");

	tcase_add_checked_fixture(tcase, NULL, cleanup);
	tcase_add_test(tcase, defaults_are_the_documented_ones);
	tcase_add_test(tcase, the_file_sets_everything);
	tcase_add_test(tcase, the_command_line_overrides_the_file);
	tcase_add_test(tcase, sizes_take_units_and_overflow_is_seen);
	tcase_add_test(tcase, every_setting_refuses_nonsense_and_stays);
	tcase_add_test(tcase, every_wrong_line_is_named);
	tcase_add_test(tcase, values_that_do_not_fit_together_name_their_line);
	tcase_add_test(tcase, lines_that_are_too_long_or_no_lines_at_all);
	tcase_add_test(tcase, wrong_command_lines_name_the_word);
	tcase_add_test(tcase, flags);
	tcase_add_test(tcase, settings_compare);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
