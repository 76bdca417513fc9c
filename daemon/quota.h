/* SPDX-License-Identifier: MIT */
/*
 * Quotas of users: the most that all sessions of one uid may have together. [user] of the
 * configuration says it for each uid; [user NAME] says otherwise for one, [group NAME] for those who
 * are in the group. [user NAME] wins; of several groups the first in the file's order does. What the
 * section that wins does not say is [user]'s.
 *
 * Rules are made once, from the text, and never changed: a reload puts others in their place and frees
 * the old ones when every reactor and the worker have passed their mailboxes (reload.c). So any thread of
 * the daemon that works from a mailbox may ask; no lock is taken.
 */
#ifndef DAEMON_QUOTA_H
#define DAEMON_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct options;
struct user_groups;

/* 0: no limit. */
struct quota {
	uint64_t pages, objects, caches, channels, calls, sessions;
};
#define QUOTA_KEYS 6u
extern const char *const quota_key[QUOTA_KEYS]; /* in the order of the fields */

enum quota_kind {
	QUOTA_USER,
	QUOTA_GROUP,
};

/* A section [user NAME] or [group NAME]. */
struct quota_rule {
	enum quota_kind kind;
	char *name;
	uint32_t id;    /* uid or gid */
	uint32_t given; /* bit i: quota_key[i] is said */
	struct quota quota;
	uint32_t origin[QUOTA_KEYS]; /* as in struct options */
};

/* In the file's order. */
struct quota_rules {
	size_t n;
	struct quota_rule rule[];
};

/* What the options say for that uid and its groups, NULL when they are not known; and the section that
 * says each. */
#define QUOTA_SECTION_MAX 72u
void quota_of(const struct options *o, uid_t uid, const struct user_groups *groups, struct quota *q,
              char section[QUOTA_KEYS][QUOTA_SECTION_MAX]);
/* There is a [group NAME]: groups matter. */
bool quota_has_groups(const struct options *o);

#endif
