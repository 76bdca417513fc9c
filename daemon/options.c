/* SPDX-License-Identifier: MIT */
/*
 * Options: defaults, then the file, then the command line; then the checks that need several
 * settings at once (options_check.c). The command line is walked twice: first for --config, --help and
 * --version, then for everything, so that it overrides the file wherever --config stands.
 */
#include "daemon/options.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/cpu_list.h"
#include "daemon/pool_private.h"
#include "daemon/quota_rules.h"
#include "daemon/setting.h"
#include "mm/types.h"

static const char options_help[] =
        "Usage: kmmd [OPTION]...\n"
        "Owns a pool of shared memory and grants its pages to processes of this machine.\n"
        "\n"
        "  --config FILE          read settings from FILE; the options below override it\n"
        "  --socket PATH          where to listen (root: /run/kmmd/kmmd.sock, else\n"
        "                         $XDG_RUNTIME_DIR/kmmd/kmmd.sock)\n"
        "  --pool-size SIZE       default 1G; sizes take K, M, G, T\n"
        "  --section-size SIZE    a power of two from 4M to 1G; default by max_size\n"
        "  --backing KIND         auto, hugetlb, thp or 4k\n"
        "  --nodes N              nodes that the pool is divided into, 1 to 64\n"
        "  --reactors N           threads that serve; default one a CPU that it may run on\n"
        "  --supervise            keep the memory in a small supervisor, which starts the daemon\n"
        "                         again when it dies\n"
        "  --check-config         check the settings, print them and exit\n"
        "  --reserve-huge-pages   reserve as many huge pages as the pool takes and exit\n"
        "  --version              print the version and exit\n"
        "  --help                 print this and exit\n"
        "\n"
        "SIGTERM stops it, SIGHUP makes it read its configuration again.\n"
        "Exit status: 0 stopped, 1 failed, 2 wrong command line or configuration, 3 the pool that\n"
        "it took over is damaged and is not served, 4 there is no memory, or too few descriptors, for\n"
        "the pool.\n";

static int options_default_socket(struct options *o)
{
	const char *dir = getenv("XDG_RUNTIME_DIR"), *ours = getenv("RUNTIME_DIRECTORY");

	if (geteuid() == 0) {
		o->socket = strdup("/run/kmmd/kmmd.sock");
		return o->socket ? 0 : -ENOMEM;
	}
	/* systemd's RuntimeDirectory= for a service with a user of its own: the first of them */
	if (ours && *ours)
		return asprintf(&o->socket, "%.*s/kmmd.sock", (int)strcspn(ours, ":"), ours) < 0 ?
		               -ENOMEM : 0;
	if (!dir || !*dir)
		return 0;
	return asprintf(&o->socket, "%s/kmmd/kmmd.sock", dir) < 0 ? -ENOMEM : 0;
}

static int options_default(struct options *o)
{
	o->highmem = OPTIONS_HIGHMEM_DEFAULT;
	for (const struct setting *t = setting_table; t->key; t++) {
		int r = setting_reset(t, o);

		if (r < 0)
			return r;
	}
	if (geteuid() == 0 && getgrnam("kmm")) {
		o->socket_group = strdup("kmm");
		if (!o->socket_group)
			return -ENOMEM;
	}
	return options_default_socket(o);
}

static void options_say_stderr(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "kmmd: %s\n", text);
}

void options_say(const struct options *o, const char *fmt, ...)
{
	char text[4500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (o->say)
		o->say(o->say_ctx, text);
	else
		options_say_stderr(NULL, text);
}

/* Splits "--name=value" or takes the next argument. */
static int options_value(const struct options *o, int argc, char *argv[], int *i, const char *name,
                         const char **ret)
{
	const char *equals = strchr(argv[*i], '=');

	if (equals) {
		*ret = equals + 1;
		return 0;
	}
	if (*i + 1 >= argc) {
		options_say(o, "--%s needs a value", name);
		return -EINVAL;
	}
	*ret = argv[++*i];
	return 0;
}

static int options_apply(struct options *o, const char *name, const char *value)
{
	const struct setting *s = setting_find_option(name);
	int r = setting_apply(s, o, value);

	if (r == -EINVAL)
		options_say(o, "--%s %s: not allowed; it takes %s", name, value, s->allowed);
	if (!r)
		o->origin[s - setting_table] = OPTIONS_ORIGIN_COMMAND_LINE;
	return r;
}

static bool options_flag(struct options *o, const char *name)
{
	if (strcmp(name, "supervise") == 0)
		o->supervise = true;
	else if (strcmp(name, "check-config") == 0)
		o->check_config = true;
	else if (strcmp(name, "reserve-huge-pages") == 0)
		o->reserve_huge_pages = true;
	else
		return false;
	return true;
}

/* One walk over the command line: `first` looks for --config, --help and --version alone and
 * refuses what is no option, the second applies the rest. */
static int options_walk(struct options *o, int argc, char *argv[], bool first)
{
	for (int i = 1; i < argc; i++) {
		const char *value;
		char name[32];
		int r;

		if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2]) {
			options_say(o, "%s: not an option; --help lists them", argv[i]);
			return -EINVAL;
		}
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(argv[i] + 2, "="), argv[i] + 2);
		if (!strchr(argv[i], '=')) {
			if (strcmp(name, "help") == 0) {
				fputs(options_help, stdout);
				return 1;
			}
			if (strcmp(name, "version") == 0) {
				puts("kmmd " PACKAGE_VERSION);
				return 1;
			}
			if (options_flag(o, name))
				continue;
		}
		if (strcmp(name, "config") != 0 && !setting_find_option(name)) {
			options_say(o, "%s: no such option; --help lists them", argv[i]);
			return -EINVAL;
		}
		r = options_value(o, argc, argv, &i, name, &value);
		if (r < 0)
			return r;
		if (strcmp(name, "config") == 0) {
			if (!first)
				continue;
			free(o->config);
			o->config = strdup(value);
			if (!o->config)
				return -ENOMEM;
		} else if (!first) {
			r = options_apply(o, name, value);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* One a CPU, when it is not set. */
static void options_resolve(struct options *o)
{
	cpu_set_t cpus;

	if (o->reactors)
		return;
	if (o->cpus)
		cpu_list_read(o->cpus, &cpus);
	else
		cpu_list_allowed(&cpus);
	o->reactors = (uint32_t)CPU_COUNT(&cpus);
	if (o->reactors > MAX_CPUS)
		o->reactors = MAX_CPUS;
}

/* What only the whole layout shows: zones and tables that leave no room for each other. It says so. */
static int options_check_geometry(const struct options *o)
{
	struct pool_geometry g;
	struct memblock mb;

	if (pool_geometry_from_options(&g, o, &mb) == 0)
		return 0;
	options_say(o, "[pool]: the pool that it describes cannot be made");
	return -EINVAL;
}

/* 0, 1 (the first walk said all that there is to say) or a negative errno. */
static int options_read(struct options *o, int argc, char *argv[])
{
	int r = options_default(o), file = 0;

	if (!r)
		r = options_walk(o, argc, argv, true);
	if (r)
		return r;
	if (o->config)
		file = config_read(o);
	if (file == -ENOMEM)
		return file;
	r = options_walk(o, argc, argv, false);
	if (!r && !file)
		r = options_check(o);
	if (!r && !file)
		options_resolve(o);
	if (!r && !file)
		r = options_check_geometry(o);
	return r ? r : file;
}

static int options_new(struct options **ret, int argc, char *argv[],
                       void (*say)(void *ctx, const char *text), void *ctx)
{
	struct options *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	o->say = say;
	o->say_ctx = ctx;
	r = options_read(o, argc, argv);
	if (r == -ENOMEM)
		options_say(o, "out of memory");
	if (r) {
		options_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

int options_parse(struct options **ret, int argc, char *argv[])
{
	struct options *o;
	int r = options_new(&o, argc, argv, options_say_stderr, NULL);

	if (r)
		return r;
	if (o->check_config) {
		options_print(o, stdout);
		options_free(o);
		return 1;
	}
	*ret = o;
	return 0;
}

int options_parse_again(struct options **ret, int argc, char *argv[],
                        void (*say)(void *ctx, const char *text), void *ctx)
{
	int r = options_new(ret, argc, argv, say, ctx);

	return r > 0 ? -EINVAL : r;
}

int options_copy(struct options **ret, const struct options *from)
{
	struct options *o = malloc(sizeof(*o));
	int r = 0;

	if (!o)
		return -ENOMEM;
	*o = *from;
	/* every pointer first: what is freed when one fails is its own */
	for (const struct setting *s = setting_table; s->key; s++)
		if (setting_own(s, o) < 0)
			r = -ENOMEM;
	o->user_rules = NULL;
	if (quota_rules_copy(&o->user_rules, from->user_rules) < 0)
		r = -ENOMEM;
	o->config = from->config ? strdup(from->config) : NULL;
	if (from->config && !o->config)
		r = -ENOMEM;
	if (r < 0) {
		options_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

struct options *options_free(struct options *o)
{
	if (!o)
		return NULL;
	for (const struct setting *s = setting_table; s->key; s++)
		setting_clear(s, o);
	quota_rules_free(o->user_rules);
	free(o->config);
	free(o);
	return NULL;
}
