/* SPDX-License-Identifier: MIT */
/*
 * kmmctl: look into a pool.
 *
 * The command line names one command. It runs once, or with --watch again and again until the
 * program is interrupted; a watched daemon that goes away is reported and waited for.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/kmmctl/command.h"
#include "client/kmmctl/top.h"

#define WATCH_MIN 0.1
#define WATCH_MAX 86400.0
#define CLEAR_SCREEN "\033[H\033[2J\033[3J"

struct settings {
	const char *address;
	const char *domain;
	bool json;
	double watch; /* seconds, 0: once */
	uint32_t given; /* options of one command, a bit a row of command_options */
	const char *svg, *sort;
	enum map_by by;
	enum command_colour colour;
	bool batch, once;
	uint32_t count;
};

enum {
	OPTION_SOCKET = 256,
	OPTION_DOMAIN,
	OPTION_JSON,
	OPTION_WATCH,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_SVG,
	OPTION_BY,
	OPTION_COLOUR,
	OPTION_SORT,
	OPTION_ONCE,
	OPTION_COUNT,
};

/* Options that mean something to one command alone. */
static const struct {
	int option;
	const char *text, *command;
} command_options[] = {
	{ OPTION_SVG, "--svg", "map" },     { OPTION_BY, "--by", "map" },
	{ OPTION_COLOUR, "--color", "map" }, { OPTION_SORT, "--sort", "top" },
	{ 'b', "-b", "top" },               { OPTION_ONCE, "--once", "top" },
	{ OPTION_COUNT, "--count", "top" },
};
#define COMMAND_OPTIONS (sizeof(command_options) / sizeof(command_options[0]))
#define COUNT_MAX 1000000000.0

static void print_help(FILE *out)
{
	fputs("Usage: kmmctl [OPTION]... COMMAND\n"
	      "Shows and manages the memory pool of kmmd.\n"
	      "\n"
	      "Commands:\n", out);
	for (const struct command *c = command_table; c->name; c++) {
		char name[32];

		snprintf(name, sizeof(name),
		         c->argument == COMMAND_MAY_ARGUMENT ? "%s [%s]" : "%s %s", c->name,
		         c->argument_name ? c->argument_name : "");
		fprintf(out, "  %-16s %s\n", name, c->help);
	}
	fputs("\n"
	      "Options:\n"
	      "      --socket PATH    the daemon's socket; default $KMM_ADDRESS, else\n"
	      "                       /run/kmmd/kmmd.sock, else $XDG_RUNTIME_DIR/kmmd/kmmd.sock\n"
	      "      --domain NAME    of that domain alone\n"
	      "      --json           as JSON\n"
	      "      --watch SECONDS  again every so many seconds\n"
	      "      --by VIEW        map: by fullness, zone, type or owner\n"
	      "      --color WHEN     map: auto, always or never\n"
	      "      --svg FILE       map: as an SVG file; -: to standard output\n"
	      "      --sort KEY       top: id, pid, mem, cached, objects, calls, alloc, free,\n"
	      "                       obj-in, obj-out, refused, parked or name\n"
	      "      -b               top: in batches, for programs\n"
	      "      --count N        top: so many samples\n"
	      "      --once           top: one sample\n"
	      "      --help           this text\n"
	      "      --version        the version\n"
	      "\n"
	      "Exit status: 0 done, 1 refused or failed or found by fsck, 2 usage, 3 no daemon.\n",
	      out);
}

static void usage_hint(void)
{
	fputs("kmmctl: see kmmctl --help\n", stderr);
}

static bool parse_seconds(const char *text, double *ret)
{
	char *end;
	double value;

	errno = 0;
	value = strtod(text, &end);
	/* Written so that a NaN fails. */
	if (errno || end == text || *end || !(value >= WATCH_MIN && value <= WATCH_MAX)) {
		fprintf(stderr, "kmmctl: --watch wants seconds from %.1f to %.0f, not \"%s\"\n",
		        WATCH_MIN, WATCH_MAX, text);
		return false;
	}
	*ret = value;
	return true;
}

/* Which of the names it is; -1, with the reason on stderr: none. */
static int parse_name(const char *option, const char *text, const char *const name[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(text, name[i]) == 0)
			return (int)i;
	fprintf(stderr, "kmmctl: %s wants ", option);
	for (size_t i = 0; i < n; i++)
		fprintf(stderr, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", name[i]);
	fprintf(stderr, ", not \"%s\"\n", text);
	return -1;
}

static bool parse_by(const char *text, enum map_by *ret)
{
	int i = parse_name("--by", text, map_by_names, MAP_NR_BY);

	if (i >= 0)
		*ret = (enum map_by)i;
	return i >= 0;
}

static bool parse_colour(const char *text, enum command_colour *ret)
{
	static const char *const name[] = { "auto", "always", "never" };
	int i = parse_name("--color", text, name, 3);

	if (i >= 0)
		*ret = (enum command_colour)i;
	return i >= 0;
}

static bool parse_count(const char *text, uint32_t *ret)
{
	double value;
	char *end;

	value = strtod(text, &end);
	if (text[0] < '0' || text[0] > '9' || *end || !(value >= 1 && value <= COUNT_MAX) ||
	    value != (double)(uint32_t)value) {
		fprintf(stderr, "kmmctl: --count wants a number of samples, not \"%s\"\n", text);
		return false;
	}
	*ret = (uint32_t)value;
	return true;
}

static bool parse_domain(const char *text, const char **ret)
{
	if (!text[0] || strlen(text) >= sizeof(((kmm_v1_HelloRequest *)0)->domain)) {
		fprintf(stderr,
		        "kmmctl: --domain wants a name of 1 to %zu bytes, not \"%s\"\n",
		        sizeof(((kmm_v1_HelloRequest *)0)->domain) - 1, text);
		return false;
	}
	*ret = text;
	return true;
}

/* False, with the reason on stderr: the option's value makes no sense, or there is no such option. */
static bool take_option(struct settings *s, int o)
{
	for (size_t i = 0; i < COMMAND_OPTIONS; i++)
		if (command_options[i].option == o)
			s->given |= 1u << i;
	switch (o) {
	case OPTION_SOCKET:
		s->address = optarg;
		return true;
	case OPTION_DOMAIN:
		return parse_domain(optarg, &s->domain);
	case OPTION_JSON:
		s->json = true;
		return true;
	case OPTION_WATCH:
		return parse_seconds(optarg, &s->watch);
	case OPTION_SVG:
		s->svg = optarg;
		return true;
	case OPTION_BY:
		return parse_by(optarg, &s->by);
	case OPTION_COLOUR:
		return parse_colour(optarg, &s->colour);
	case OPTION_SORT:
		s->sort = optarg;
		return parse_name("--sort", optarg, top_key_names, TOP_NR_KEYS) >= 0;
	case 'b':
		s->batch = true;
		return true;
	case OPTION_ONCE:
		s->once = true;
		return true;
	case OPTION_COUNT:
		return parse_count(optarg, &s->count);
	case '0':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		fprintf(stderr, "kmmctl: -%c is no option; PFN is a number of 0 or more, "
		        "ID of 1 or more\n", o);
		return false;
	default:
		usage_hint();
		return false;
	}
}

/* *done: nothing is left to do, the result is the exit status. */
static enum kmmctl_status parse_options(struct settings *s, int argc, char *argv[], bool *done)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, OPTION_SOCKET },
		{ "domain", required_argument, NULL, OPTION_DOMAIN },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "watch", required_argument, NULL, OPTION_WATCH },
		{ "svg", required_argument, NULL, OPTION_SVG },
		{ "by", required_argument, NULL, OPTION_BY },
		{ "color", required_argument, NULL, OPTION_COLOUR },
		{ "sort", required_argument, NULL, OPTION_SORT },
		{ "once", no_argument, NULL, OPTION_ONCE },
		{ "count", required_argument, NULL, OPTION_COUNT },
		{ "help", no_argument, NULL, OPTION_HELP },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	*done = true;
	/* Digits as options, so that a negative number is answered as what it is. */
	while ((o = getopt_long(argc, argv, "b0123456789", options, NULL)) != -1) {
		switch (o) {
		case OPTION_HELP:
			print_help(stdout);
			return KMMCTL_DONE;
		case OPTION_VERSION:
			puts("kmmctl " PACKAGE_VERSION);
			return KMMCTL_DONE;
		default:
			if (!take_option(s, o))
				return KMMCTL_USAGE;
		}
	}
	*done = false;
	return KMMCTL_DONE;
}

/* False, with the reason on stderr: the options do not go with the command or each other. */
static bool check_options(const struct settings *s, const struct command *command)
{
	for (size_t i = 0; i < COMMAND_OPTIONS; i++) {
		if ((s->given >> i & 1) && strcmp(command_options[i].command, command->name) != 0) {
			fprintf(stderr, "kmmctl: %s is an option of %s, not of %s\n",
			        command_options[i].text, command_options[i].command,
			        command->name);
			return false;
		}
	}
	if (s->once && s->count) {
		fputs("kmmctl: --once and --count are two different numbers of samples\n", stderr);
		return false;
	}
	if (s->watch > 0 && command->once) {
		fprintf(stderr, "kmmctl: %s is not for --watch\n", command->name);
		return false;
	}
	if (s->svg && (s->json || !s->svg[0])) {
		fputs(s->json ? "kmmctl: --svg and --json are two different outputs\n" :
		                "kmmctl: --svg wants a file's name\n", stderr);
		return false;
	}
	return true;
}

/* NULL, with the reason on stderr: the command line makes no sense. */
static const struct command *parse_command(int argc, char *argv[], const char **argument,
                                           const char **value)
{
	const struct command *command;
	int words;

	if (optind == argc) {
		fputs("kmmctl: a command is missing\n", stderr);
		usage_hint();
		return NULL;
	}
	command = command_find(argv[optind]);
	if (!command) {
		fprintf(stderr, "kmmctl: there is no command \"%s\"\n", argv[optind]);
		usage_hint();
		return NULL;
	}
	words = command->argument == COMMAND_SETTING ? 3 : 2;
	if (argc - optind > words) {
		fprintf(stderr, "kmmctl: %s: too many arguments: %s\n", command->name,
		        argv[optind + words]);
		return NULL;
	}
	*argument = argv[optind + 1];
	if (argc - optind > 2)
		*value = argv[optind + 2];
	return command_check(command, *argument, *value) ? command : NULL;
}

static void pause_for(double seconds)
{
	struct timespec t;

	t.tv_sec = (time_t)seconds;
	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
		;
}

/* Ends by a signal, or when the output can take no more. */
static void watch(const struct command *command, struct command_context *x, double seconds)
{
	bool elsewhere = x->svg && strcmp(x->svg, "-") != 0; /* nothing comes to the output */
	bool tty = isatty(STDOUT_FILENO);

	x->lines = true;
	for (bool first = true;; first = false) {
		if (tty && !elsewhere)
			fputs(CLEAR_SCREEN, stdout);
		else if (!first && !x->json && !elsewhere)
			puts("---");
		fflush(stdout);
		command_run(command, x);
		if (fflush(stdout) == EOF || ferror(stdout))
			return;
		pause_for(seconds);
	}
}

int main(int argc, char *argv[])
{
	struct command_context x = { .out = stdout };
	enum kmmctl_status status;
	const struct command *command;
	struct settings s = { 0 };
	bool done;

	status = parse_options(&s, argc, argv, &done);
	if (!done) {
		command = parse_command(argc, argv, &x.argument, &x.value);
		if (!command)
			return KMMCTL_USAGE;
		if (!check_options(&s, command))
			return KMMCTL_USAGE;
		x.address = s.address;
		x.domain = s.domain;
		x.json = s.json;
		x.svg = s.svg;
		x.by = s.by;
		x.colour = s.colour;
		x.sort = s.sort;
		x.batch = s.batch;
		x.count = s.once ? 1 : s.count;
		x.interval = s.watch;
		if (s.watch > 0 && !command_paces(command))
			watch(command, &x, s.watch);
		else
			status = command_run(command, &x);
		connection_close(x.connection);
	}
	if (fflush(stdout) == EOF || ferror(stdout)) {
		fprintf(stderr, "kmmctl: cannot write: %s\n", strerror(errno));
		return KMMCTL_FAILED;
	}
	return status;
}
