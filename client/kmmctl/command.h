/* SPDX-License-Identifier: MIT */
/*
 * kmmctl's commands: each asks the daemon and prints one report.
 */
#ifndef CLIENT_KMMCTL_COMMAND_H
#define CLIENT_KMMCTL_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "client/kmmctl/connection.h"
#include "client/kmmctl/map.h"

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
	const char *value;             /* the one after it, of set */
	bool json;
	bool lines; /* JSON on one line: one document of many */
	FILE *out;
	/* of map */
	const char *svg; /* a file, "-": the output; NULL: none */
	enum map_by by;
	enum command_colour {
		COMMAND_COLOUR_AUTO,
		COMMAND_COLOUR_ALWAYS,
		COMMAND_COLOUR_NEVER,
	} colour;
	/* of top */
	const char *sort; /* a key; NULL: the default */
	bool batch;
	uint32_t count;  /* frames; 0: no end */
	double interval; /* seconds between them; 0: the default */
};

enum command_argument {
	COMMAND_NO_ARGUMENT,
	COMMAND_MAY_ARGUMENT, /* a method's name, or none */
	COMMAND_SESSION,      /* a session's id */
	COMMAND_CACHE,        /* a cache's name */
	COMMAND_PAGE,         /* a page's number */
	COMMAND_SETTING,      /* a setting's name, and a value */
	COMMAND_SECTION,      /* a section's number */
	COMMAND_SIZE,         /* bytes, with K, M, G, T */
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
bool command_check(const struct command *command, const char *argument, const char *value);
/* It waits between its frames by itself: --watch is its interval. */
bool command_paces(const struct command *command);
/* Opens x->connection; of a failure that says why, too. */
enum connection_result command_connect(struct command_context *x);

#endif
