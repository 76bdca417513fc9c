/* SPDX-License-Identifier: MIT */
/*
 * The groups of a user, as [group NAME] of the configuration counts them. See user_groups.c.
 */
#ifndef DAEMON_USER_GROUPS_H
#define DAEMON_USER_GROUPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define USER_GROUPS_MAX 1024u /* of one user that are looked at */

/* Never changed. */
struct user_groups {
	uint32_t n;
	gid_t gid[]; /* ascending, each once */
};

/* Those that a process has: its group and its supplementary ones. NULL: no memory. */
struct user_groups *user_groups_of_process(gid_t gid, const gid_t group[], uint32_t n);
/* Those that the user database says. May take as long as a service of the network: for the worker. 0,
 * or a negative errno: -ENOENT, it knows no such user. */
int user_groups_of_database(struct user_groups **ret, uid_t uid);
struct user_groups *user_groups_free(struct user_groups *g);
/* NULL equals nothing but NULL. */
bool user_groups_equal(const struct user_groups *a, const struct user_groups *b);
/* NULL has none. */
bool user_groups_have(const struct user_groups *g, gid_t gid);

#endif
