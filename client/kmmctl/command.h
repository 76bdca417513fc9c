/* SPDX-License-Identifier: MIT */
/*
 * kmmctl's commands: each asks the daemon and prints one report.
 */
#ifndef CLIENT_KMMCTL_COMMAND_H
#define CLIENT_KMMCTL_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "client/kmmctl/connection.h"

enum kmmctl_status {
	KMMCTL_DONE = 0,
	KMMCTL_FAILED = 1, /* refused, failed, or fsck found something */
	KMMCTL_USAGE = 2,
	KMMCTL_NO_DAEMON = 3,
};

struct command_context {
	struct connection *connection; /* NULL until the first call, and after it broke */
	const char *address;           /* NULL: the default */
	const char *domain;            /* NULL: the default */
	const char *argument;          /* NULL: none given */
	bool json;
	bool lines; /* JSON on one line: one document of many */
	FILE *out;
};

enum command_argument {
	COMMAND_NO_ARGUMENT,
	COMMAND_MAY_ARGUMENT, /* a method's name, or none */
	COMMAND_SESSION,      /* a session's id */
	COMMAND_CACHE,        /* a cache's name */
};

struct command {
	const char *name;
	const char *argument_name; /* "ID" */
	enum command_argument argument;
	bool once; /* makes no sense with --watch */
	const char *help;
	enum kmmctl_status (*run)(struct command_context *x);
};

/* NULL: no such command. */
const struct command *command_find(const char *name);
/* The table, ended by a row without a name. */
extern const struct command command_table[];

/* Connects if need be, runs, and closes a connection that broke. Reasons go to stderr. */
enum kmmctl_status command_run(const struct command *command, struct command_context *x);
/* False, with the reason on stderr, when the argument is missing, superfluous, or cannot be what
 * the command wants. */
bool command_check(const struct command *command, const char *argument);

#endif
