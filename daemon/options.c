/* SPDX-License-Identifier: MIT */
/*
 * Options: defaults, then the file, then the command line; then the checks that need several
 * settings at once. The command line is walked twice: first for --config, --help and --version,
 * then for everything, so that it overrides the file wherever --config stands.
 */
#include "daemon/options.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
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
        "  --section-size SIZE    a power of two from 4M to 1G; default by the pool's size\n"
        "  --backing KIND         auto, hugetlb, thp or 4k\n"
        "  --nodes N              nodes that the pool is divided into, 1 to 64\n"
        "  --reactors N           threads that serve; default one a CPU that it may run on\n"
        "  --supervise            keep the memory in a small supervisor, which starts the daemon\n"
        "                         again when it dies\n"
        "  --check-config         check the settings, print them and exit\n"
        "  --version              print the version and exit\n"
        "  --help                 print this and exit\n"
        "\n"
        "SIGTERM stops it, SIGHUP makes it read its configuration again.\n"
        "Exit status: 0 stopped, 1 failed, 2 wrong command line or configuration, 3 the pool that\n"
        "it took over is damaged and is not served.\n";

static int options_default_socket(struct options *o)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0) {
		o->socket = strdup("/run/kmmd/kmmd.sock");
		return o->socket ? 0 : -ENOMEM;
	}
	if (!dir || !*dir)
		return 0;
	return asprintf(&o->socket, "%s/kmmd/kmmd.sock", dir) < 0 ? -ENOMEM : 0;
}

static int options_default(struct options *o)
{
	*o = (struct options){
	        .socket_mode = 0660,
	        .pool_size = UINT64_C(1) << 30,
	        .backing = SHM_AUTO,
	        .huge_page_size = UINT64_C(2) << 20,
	        .dma_size = UINT64_C(16) << 20,
	        .dma32_size = UINT64_C(4) << 30,
	        .highmem = OPTIONS_HIGHMEM_DEFAULT,
	        .nodes = 1,
	        .pin = true,
	        .grace_ms = 5000,
	        .sessions_max = 4096,
	        .channels_max = 8,
	        .calls_max = 1024,
	        .holders_max = 65536,
	        .holders_session_max = 16384,
	        .names_user_max = 16384,
	        .thread_cache = UINT64_C(4) << 20,
	        .log_level = LOG_LEVEL_INFO,
	};
	if (geteuid() == 0 && getgrnam("kmm")) {
		o->socket_group = strdup("kmm");
		if (!o->socket_group)
			return -ENOMEM;
	}
	return options_default_socket(o);
}

/* Refuses a setting that is no good together with others, and says where it came from. */
__attribute__((format(printf, 4, 5))) static int
options_refuse(const struct options *o, const char *section, const char *key, const char *fmt, ...)
{
	const struct setting *s = setting_find(section, key);
	uint32_t origin = o->origin[s - setting_table];
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (origin == OPTIONS_ORIGIN_COMMAND_LINE)
		fprintf(stderr, "kmmd: --%s %s\n", s->option, text);
	else if (origin == OPTIONS_ORIGIN_DEFAULT)
		fprintf(stderr, "kmmd: [%s] %s (default) = %s\n", section, key, text);
	else
		fprintf(stderr, "kmmd: %s:%u: [%s] %s = %s\n", o->config, origin, section, key, text);
	return -EINVAL;
}

static bool is_power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* section_size 0 stands for clamp(power of two >= pool / 512, 4 MiB, 1 GiB) */
static uint64_t options_section(const struct options *o)
{
	uint64_t size = UINT64_C(4) << 20;

	if (o->section_size)
		return o->section_size;
	while (size < o->pool_size / 512 && size < UINT64_C(1) << 30)
		size <<= 1;
	return size;
}

struct size_text {
	char text[32];
};

/* As it would be written: "64M". */
static struct size_text options_size(uint64_t size)
{
	static const char unit[] = {0, 'K', 'M', 'G', 'T', 0};
	struct size_text t;
	int u = 0;

	while (size && size % 1024 == 0 && unit[u + 1]) {
		size /= 1024;
		u++;
	}
	snprintf(t.text, sizeof(t.text), "%llu%c", (unsigned long long)size, unit[u]);
	return t;
}
#define SIZE(v) (options_size(v).text)

static int options_check_pool(const struct options *o)
{
	uint64_t pool = o->pool_size, section = options_section(o), n = pool / section;

	if (!is_power_of_two(section))
		return options_refuse(o, "pool", "section_size",
		                      "%s: not allowed; it takes a power of two from 4M to 1G",
		                      SIZE(section));
	if (pool % section)
		return options_refuse(o, "pool", "size", "%s: no multiple of the section size, %s",
		                      SIZE(pool), SIZE(section));
	if (n > MAX_SECTIONS || n < 2)
		return options_refuse(o, "pool", "size",
		                      "%s: makes %u sections of %s; 2 to %u are possible, set another "
		                      "section size",
		                      SIZE(pool), (unsigned int)n, SIZE(section), MAX_SECTIONS);
	if (n < o->nodes)
		return options_refuse(o, "pool", "nodes", "%u: more than the pool's %u sections",
		                      o->nodes, (unsigned int)n);
	if (o->huge_page_size != UINT64_C(2) << 20 && o->huge_page_size != UINT64_C(1) << 30)
		return options_refuse(o, "pool", "huge_page_size",
		                      "%s: not allowed; it takes 2M or 1G", SIZE(o->huge_page_size));
	if (o->backing == SHM_HUGETLB_2M && section % o->huge_page_size)
		return options_refuse(o, "pool", "huge_page_size", "%s: larger than a section, %s",
		                      SIZE(o->huge_page_size), SIZE(section));
	if (o->dma_size > o->dma32_size)
		return options_refuse(o, "pool", "dma_size", "%s: larger than dma32_size, %s",
		                      SIZE(o->dma_size), SIZE(o->dma32_size));
	return 0;
}

/* A number or a name that the machine knows. */
static bool options_user_known(const char *user)
{
	char *end;

	errno = 0;
	(void)strtoul(user, &end, 10);
	return (!errno && !*end) || getpwnam(user);
}

static int options_check(const struct options *o)
{
	int r = options_check_pool(o);

	if (r < 0)
		return r;
	if (!o->socket) {
		fputs("kmmd: no place to listen at: XDG_RUNTIME_DIR is not set and neither --socket nor "
		      "[daemon] socket is given\n",
		      stderr);
		return -EINVAL;
	}
	if (o->socket[0] != '/' || strlen(o->socket) > 107)
		return options_refuse(o, "daemon", "socket",
		                      "%.120s: not allowed; it takes a path of at most 107 bytes that "
		                      "begins with /",
		                      o->socket);
	if (o->socket_group && !getgrnam(o->socket_group))
		return options_refuse(o, "daemon", "socket_group", "%s: there is no such group",
		                      o->socket_group);
	if (o->holders_session_max > o->holders_max)
		return options_refuse(o, "limits", "holders_per_session",
		                      "%u: larger than holders, %u", o->holders_session_max,
		                      o->holders_max);
	for (char **user = o->admin_users; user && *user; user++)
		if (!options_user_known(*user))
			return options_refuse(o, "access", "admins", "%.64s: there is no such user",
			                      *user);
	return 0;
}

/* Splits "--name=value" or takes the next argument. */
static int options_value(int argc, char *argv[], int *i, const char *name, const char **ret)
{
	const char *equals = strchr(argv[*i], '=');

	if (equals) {
		*ret = equals + 1;
		return 0;
	}
	if (*i + 1 >= argc) {
		fprintf(stderr, "kmmd: --%s needs a value\n", name);
		return -EINVAL;
	}
	*ret = argv[++*i];
	return 0;
}

static int options_apply(struct options *o, const char *name, const char *value)
{
	const struct setting *s = setting_find_option(name);
	int r = setting_apply(s, o, value);

	if (r < 0)
		fprintf(stderr, "kmmd: --%s %s: not allowed; it takes %s\n", name, value, s->allowed);
	else
		o->origin[s - setting_table] = OPTIONS_ORIGIN_COMMAND_LINE;
	return r;
}

static bool options_flag(struct options *o, const char *name)
{
	if (strcmp(name, "supervise") == 0)
		o->supervise = true;
	else if (strcmp(name, "check-config") == 0)
		o->check_config = true;
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
			fprintf(stderr, "kmmd: %s: not an option; --help lists them\n", argv[i]);
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
			fprintf(stderr, "kmmd: %s: no such option; --help lists them\n", argv[i]);
			return -EINVAL;
		}
		r = options_value(argc, argv, &i, name, &value);
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

static void options_print(const struct options *o)
{
	printf("configuration is valid: socket %s, pool %llu bytes in sections of %llu, %u node%s\n",
	       o->socket, (unsigned long long)o->pool_size, (unsigned long long)options_section(o),
	       o->nodes, o->nodes == 1 ? "" : "s");
}

int options_parse(struct options **ret, int argc, char *argv[])
{
	struct options *o = malloc(sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	r = options_default(o);
	if (!r)
		r = options_walk(o, argc, argv, true);
	if (!r && o->config)
		r = config_read(o);
	if (!r)
		r = options_walk(o, argc, argv, false);
	if (!r)
		r = options_check(o);
	if (!r && o->check_config) {
		options_print(o);
		r = 1;
	}
	if (r == -ENOMEM)
		fputs("kmmd: out of memory\n", stderr);
	if (r) {
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
	free(o->config);
	free(o);
	return NULL;
}
