/* SPDX-License-Identifier: MIT */
/*
 * Changing settings of the running daemon. See reload.c. Everything runs on the main thread, but
 * reload_post().
 */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/reactor.h"
#include "daemon/setting.h"

struct kmmd;
struct listener;
struct reload;

int reload_new(struct reload **ret, struct kmmd *kmmd, const struct listener *listener, int argc,
               char *argv[]);
/* After the worker and the reactors have ended. */
struct reload *reload_free(struct reload *r);

/* Reads configuration and command line again. What is wrong is logged, and nothing changes then. */
void reload_all(struct reload *r);

#define RELOAD_TEXT 400u

/* Sets one for that user: key is SECTION.KEY. 0, with what came of it in `text`; else a negative errno,
 * with why not: -ENOENT no such setting, -EINVAL not allowed, -EPERM not for that user, -EBUSY not in a
 * running daemon, -ENOMEM. */
int reload_set(struct reload *r, uid_t uid, const char *key, const char *value,
               char text[RELOAD_TEXT]);

/* One setting as it is now. */
struct reload_item {
	char section[64], key[32];
	char value[SETTING_VALUE_MAX];
	char next[SETTING_VALUE_MAX]; /* what the next start would make of it; "": the same */
	char from[300];
	const struct setting *setting; /* its row, of a rule for users [user]'s */
};
/* All of them, in the order of the file; an array for free(). */
int reload_list(const struct reload *r, struct reload_item **ret, size_t *n);

#endif
