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

#define WATCH_MIN 0.1
#define WATCH_MAX 86400.0
#define CLEAR_SCREEN "\033[H\033[2J\033[3J"

struct settings {
	const char *address;
	const char *domain;
	bool json;
	double watch; /* seconds, 0: once */
};

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

/* *done: nothing is left to do, the result is the exit status. */
static enum kmmctl_status parse_options(struct settings *s, int argc, char *argv[], bool *done)
{
	enum {
		OPTION_SOCKET = 256,
		OPTION_DOMAIN,
		OPTION_JSON,
		OPTION_WATCH,
		OPTION_HELP,
		OPTION_VERSION,
	};
	static const struct option options[] = {
		{ "socket", required_argument, NULL, OPTION_SOCKET },
		{ "domain", required_argument, NULL, OPTION_DOMAIN },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "watch", required_argument, NULL, OPTION_WATCH },
		{ "help", no_argument, NULL, OPTION_HELP },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	int o;

	*done = true;
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case OPTION_SOCKET:
			s->address = optarg;
			break;
		case OPTION_DOMAIN:
			if (!optarg[0] ||
			    strlen(optarg) >= sizeof(((kmm_v1_HelloRequest *)0)->domain)) {
				fprintf(stderr,
				        "kmmctl: --domain wants a name of 1 to %zu bytes, not "
				        "\"%s\"\n",
				        sizeof(((kmm_v1_HelloRequest *)0)->domain) - 1, optarg);
				return KMMCTL_USAGE;
			}
			s->domain = optarg;
			break;
		case OPTION_JSON:
			s->json = true;
			break;
		case OPTION_WATCH:
			if (!parse_seconds(optarg, &s->watch))
				return KMMCTL_USAGE;
			break;
		case OPTION_HELP:
			print_help(stdout);
			return KMMCTL_DONE;
		case OPTION_VERSION:
			puts("kmmctl " PACKAGE_VERSION);
			return KMMCTL_DONE;
		default:
			usage_hint();
			return KMMCTL_USAGE;
		}
	}
	*done = false;
	return KMMCTL_DONE;
}

/* NULL, with the reason on stderr: the command line makes no sense. */
static const struct command *parse_command(int argc, char *argv[], const char **argument)
{
	const struct command *command;

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
	if (argc - optind > 2) {
		fprintf(stderr, "kmmctl: %s: too many arguments: %s\n", command->name,
		        argv[optind + 2]);
		return NULL;
	}
	*argument = argv[optind + 1];
	return command_check(command, *argument) ? command : NULL;
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
	bool tty = isatty(STDOUT_FILENO);

	x->lines = true;
	for (bool first = true;; first = false) {
		if (tty)
			fputs(CLEAR_SCREEN, stdout);
		else if (!first && !x->json)
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
		command = parse_command(argc, argv, &x.argument);
		if (!command)
			return KMMCTL_USAGE;
		if (s.watch > 0 && command->once) {
			fprintf(stderr, "kmmctl: %s is not for --watch\n", command->name);
			return KMMCTL_USAGE;
		}
		x.address = s.address;
		x.domain = s.domain;
		x.json = s.json;
		if (s.watch > 0)
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
