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

/* What the options say for that uid. May look users and groups up. */
void quota_of(const struct options *o, uid_t uid, struct quota *q);
/* The same with the section that says each: both by one look at the user's groups, which may take long
 * where they are kept by a service of the network. */
#define QUOTA_SECTION_MAX 72u
void quota_and_sections_of(const struct options *o, uid_t uid, struct quota *q,
                           char section[QUOTA_KEYS][QUOTA_SECTION_MAX]);
/* The section that says it, "[user alice]": for texts. */
void quota_section_of(const struct options *o, uid_t uid, uint32_t key, char *text, size_t size);

#endif
