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

#include "daemon/cpu_list.h"
#include "daemon/options.h"
#include "daemon/quota_rules.h"
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
	ck_assert_uint_ge(o->reactors, 1);
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
	                                  "dma_backing = 4k\ndma32_backing = thp\n"
	                                  "normal_backing = hugetlb\nhighmem_backing = thp\n"
	                                  "movable_backing = 4k\n"
	                                  "[daemon]\nsocket_mode = 0600\nreactors = 3\npin = no\n"
	                                  "grace = 250ms\nlog_level = debug\n"
	                                  "slab_debug = FZ,pars*,dentry;P\n"
	                                  "[limits]\nsessions = 10\nchannels = 2\ncalls = 20\n"
	                                  "pages = 1000\nholders = 300\nholders_per_session = 30\n"
	                                  "names_per_user = 40\nthread_cache = 1M\n"
	                                  "objects = 2000\ncaches = 50\n"
	                                  "[access]\nadmins = root, 12345\n"
	                                  "users = 1,@0\n  2 ; and so on\ninspectors =\n"
	                                  "[user]\npages = 1\nobjects = 2\ncaches = 3\n"
	                                  "channels = 4\ncalls = 5\nsessions = 6\n"
	                                  "[group 0]\ncalls = 7\n[user root]\npages = 8\n"),
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
	ck_assert_str_eq(o->access_admins[0], "root");
	ck_assert_str_eq(o->access_admins[1], "12345");
	ck_assert_ptr_null(o->access_admins[2]);
	ck_assert(o->dma_backing == SHM_4K && o->dma32_backing == SHM_THP &&
	          o->normal_backing == SHM_HUGETLB_2M && o->highmem_backing == SHM_THP &&
	          o->movable_backing == SHM_4K);
	ck_assert(o->objects_max == 2000 && o->caches_max == 50);
	ck_assert_str_eq(o->access_users[0], "1");
	ck_assert_str_eq(o->access_users[1], "@0");
	ck_assert_str_eq(o->access_users[2], "2");
	ck_assert_ptr_null(o->access_users[3]);
	ck_assert(!o->access_inspectors || !o->access_inspectors[0]);
	ck_assert(o->user_default.pages == 1 && o->user_default.objects == 2 &&
	          o->user_default.caches == 3 && o->user_default.channels == 4 &&
	          o->user_default.calls == 5 && o->user_default.sessions == 6);
	ck_assert_uint_eq(o->user_rules->n, 2);
	ck_assert_str_eq(o->user_rules->rule[1].name, "root");
	ck_assert_uint_eq(o->user_rules->rule[1].quota.pages, 8);
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
	        {"[access]\nusers = root,\n  @no-such-group\n",
	         ":2: [access] users = @no-such-group: there is no such group"},
	        {"[access]\ninspectors = nobody-of-that-name\n",
	         ":2: [access] inspectors = nobody-of-that-name: there is no such user"},
	        {"[daemon]\ncpus = 1000-1023\n", ":2: [daemon] cpus = 1000-1023: it may run on none"},
	        {"[daemon]\ncpus = 3-1\n", ":2: [daemon] cpus = 3-1: not allowed; it takes numbers"},
	        {"[pool]\nhighmem_backing = hugetlb\n",
	         ":2: [pool] highmem_backing = hugetlb: not allowed; it takes thp or 4k"},
	        {"[pool]\ndma_backing = auto\n", ":2: [pool] dma_backing = auto: not allowed; it takes"},
	        {"[pool]\nhuge_page_size = 1G\nnormal_backing = hugetlb\nbacking = 4k\n",
	         ":2: [pool] huge_page_size = 1G: larger than a section, 4M"},
	        {"[pool]\nsize = 64M\nhighmem = 64M\n", ":3: [pool] highmem = 64M: as much as the pool"},
	        {"[pool]\nsize = 64M\nmovable = 1G\n", ":3: [pool] movable = 1G: as much as the pool"},
	        {"[user no-such-user]\npages = 1\n",
	         ":2: [user no-such-user] pages = 1: there is no such user"},
	        {"[user root]\npages = 1\n[user 0]\npages = 1\n", "[user 0]: is the same user as"},
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

/* All that is wrong, in one go: of the lines, or of the settings together. */
START_TEST(everything_that_is_wrong_is_said)
{
	struct options *o;

	ck_assert_int_eq(parse_config(&o, "[pool]\nsize = 66M\ndma32_size = 1M\n[daemon]\n"
	                                  "socket_group = no-such-group\n[access]\n"
	                                  "admins = no-such-user\n"),
	                 -EINVAL);
	assert_said(":2: [pool] size");
	assert_said("[pool] dma_size (default)");
	assert_said(":5: [daemon] socket_group");
	assert_said(":7: [access] admins");
}
END_TEST

START_TEST(what_a_setting_was_called_before)
{
	struct options *o;

	ck_assert_int_eq(parse_config(&o, "[log]\nlevel = warning\n"), 0);
	ck_assert_int_eq(o->log_level, LOG_LEVEL_WARNING);
	options_free(o);
	ck_assert_int_eq(parse_config(&o, "[daemon]\nlog_level = error\n"), 0);
	ck_assert_int_eq(o->log_level, LOG_LEVEL_ERROR);
	options_free(o);
	ck_assert_int_eq(parse_config(&o, "[daemon]\nlog_level = error\n[log]\nlevel = info\n"),
	                 -EINVAL);
	assert_said(":4: [log] level = info: already set in line 2");
	/* a refusal has the name that was written */
	ck_assert_int_eq(parse_config(&o, "[daemon]\nlog_level = loud\n"), -EINVAL);
	assert_said(":2: [daemon] log_level = loud: not allowed; it takes error, warning");
}
END_TEST

/* What --check-config prints is a configuration that says the same. */
START_TEST(what_is_printed_reads_again)
{
	struct options *o, *again;
	char value[SETTING_VALUE_MAX], other[SETTING_VALUE_MAX];
	FILE *f;

	ck_assert_int_eq(parse_config(&o, "[pool]\nsize = 256M\nnodes = 2\nnormal_backing = thp\n"
	                                  "[daemon]\ngrace = 1500ms\nslab_debug = FZ,a*;P,b\n"
	                                  "[access]\nusers = root, @root\n[user]\npages = 9\n"
	                                  "[user root]\ncalls = 5\npages = 6\n"
	                                  "[group root]\nsessions = 7\n"),
	                 0);
	f = fopen(config_path, "w");
	ck_assert_ptr_nonnull(f);
	options_print(o, f);
	fclose(f);
	ck_assert_int_eq(PARSE(&again, CONFIG), 0);
	ck_assert_str_eq(said, "");
	for (const struct setting *s = setting_table; s->key; s++) {
		options_effective(o, s, value, sizeof(value));
		options_effective(again, s, other, sizeof(other));
		ck_assert_str_eq(value, other);
	}
	ck_assert(quota_rules_equal(o->user_rules, again->user_rules));
	options_free(o);
	options_free(again);
}
END_TEST

START_TEST(a_copy_is_the_same_and_its_own)
{
	struct options *o, *copy;

	ck_assert_int_eq(parse_config(&o, "[daemon]\nslab_debug = F\ncpus = 0\n[access]\nusers = 1, 2\n"
	                                  "[user root]\ncalls = 5\n"),
	                 0);
	ck_assert_int_eq(options_copy(&copy, o), 0);
	for (const struct setting *s = setting_table; s->key; s++)
		ck_assert(setting_equal(s, o, copy));
	ck_assert(quota_rules_equal(o->user_rules, copy->user_rules));
	ck_assert_ptr_ne(o->slab_debug, copy->slab_debug);
	options_free(o);
	ck_assert_str_eq(copy->slab_debug, "F");
	ck_assert_str_eq(copy->access_users[1], "2");
	options_free(copy);
}
END_TEST

START_TEST(settings_change_places)
{
	struct options *a, *b;

	ck_assert_int_eq(parse_config(&a, "[limits]\npages = 1\ncalls = 2\n[daemon]\npin = no\n"
	                                  "[access]\nusers = 1\n"),
	                 0);
	ck_assert_int_eq(parse_config(&b, "[limits]\npages = 3\ncalls = 4\n[daemon]\nslab_debug = F\n"),
	                 0);
	for (const struct setting *s = setting_table; s->key; s++)
		setting_exchange(s, a, b);
	ck_assert(a->pages_max == 3 && a->calls_max == 4 && a->pin && !a->access_users);
	ck_assert(b->pages_max == 1 && b->calls_max == 2 && !b->pin && !b->slab_debug);
	ck_assert_str_eq(a->slab_debug, "F");
	ck_assert_str_eq(b->access_users[0], "1");
	options_free(a);
	options_free(b);
}
END_TEST

START_TEST(lists_of_cpus)
{
	static const char *const wrong[] = { "", "-", "1-", "-1", "1,,2", "1,", ",1", "2-1", "a", "1024",
		                             "0-1024", "1 2", "99999999999999999999" };
	static const struct {
		const char *text, *written;
	} row[] = {
		{ "0", "0" },         { "3,1,2", "1-3" },    { "0-3,8", "0-3,8" },
		{ "5,5-5,6", "5-6" }, { "0-1,3", "0-1,3" }, { "1023", "1023" },
	};
	char text[200];
	cpu_set_t set;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(!cpu_list_valid(wrong[i]), "%s", wrong[i]);
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		ck_assert_msg(cpu_list_valid(row[i].text), "%s", row[i].text);
		cpu_list_read(row[i].text, &set);
		cpu_list_write(&set, text, sizeof(text));
		ck_assert_str_eq(text, row[i].written);
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
	tcase_add_test(tcase, everything_that_is_wrong_is_said);
	tcase_add_test(tcase, what_a_setting_was_called_before);
	tcase_add_test(tcase, what_is_printed_reads_again);
	tcase_add_test(tcase, a_copy_is_the_same_and_its_own);
	tcase_add_test(tcase, settings_change_places);
	tcase_add_test(tcase, lists_of_cpus);
	tcase_add_test(tcase, flags);
	tcase_add_test(tcase, settings_compare);
	suite_add_tcase(suite, tcase);
	return suite_status(suite);
}
