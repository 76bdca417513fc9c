/* SPDX-License-Identifier: MIT */
/*
 * Users: what all sessions of one uid have together, and how much of it they may. See user.c.
 *
 * Any thread, unless said otherwise. A user is found by uid and referenced: by each session until its
 * id is free again, and by who looks at it. Where a user may be NULL nothing is counted or limited
 * (tests of other parts).
 */
#ifndef DAEMON_USER_H
#define DAEMON_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/kmmd.h"
#include "daemon/quota.h"
#include "mm/mm.h"

enum user_count {
	USER_PAGES,    /* of 4 KiB: frames charged to its sessions, and its objects' bytes rounded up */
	USER_OBJECTS,  /* those that its sessions' threads cache included */
	USER_CACHES,   /* open, by session */
	USER_CHANNELS, /* of its sessions, without the control channels */
	USER_CALLS,    /* in flight: not answered yet, parked ones included */
	USER_SESSIONS, /* until they are swept: also those in quarantine */
	NR_USER_COUNTS
};
/* "pages": as the keys of [user] and [limits] are called. */
const char *user_count_name(enum user_count what);

struct user;
struct user_groups;
struct user_table;

int user_table_new(struct user_table **ret, struct kmmd *kmmd);
/* Nobody has a reference any more. */
struct user_table *user_table_free(struct user_table *t);
/* The options have changed: quotas of the users and sessions that there are follow. Main thread. */
void user_table_reload(struct kmmd *kmmd);

/* The user of the uid, referenced; made when there is none. NULL: no memory, or t is NULL. */
struct user *user_get(struct user_table *t, uid_t uid);
/* The same for a process that opens a session: its groups (user_groups.h) are the user's from now on.
 * They are taken over; NULL: not known. Waits for nothing but the table's lock. */
struct user *user_get_with(struct user_table *t, uid_t uid, struct user_groups *groups);
/* Sessions were taken over by a restart: has the worker learn the groups of users that no process has told
 * about, where a rule asks for groups. */
void user_table_ask(struct user_table *t);
struct user *user_ref(struct user *u);
/* NULL may be put. Takes no lock. */
void user_put(struct user *u);
uid_t user_uid(const struct user *u);

/* n more, all or none: false when the quota does not allow it. */
bool user_charge(struct user *u, enum user_count what, uint64_t n);
/* As many times `each` as the quota allows, at most `want`: how many. */
uint64_t user_charge_some(struct user *u, enum user_count what, uint64_t each, uint64_t want);
/* Whatever the quota says: after a restart, and for what changes hands without being asked. */
void user_charge_always(struct user *u, enum user_count what, uint64_t n);
void user_uncharge(struct user *u, enum user_count what, uint64_t n);
/* The same for objects, which count as pages, too: `want` objects of `each` bytes. When it is fewer,
 * *what is the quota that was met. */
uint64_t user_charge_objects(struct user *u, uint64_t each, uint64_t want, enum user_count *what);
/* What an estimate was corrected by: either may be negative. */
void user_adjust_objects(struct user *u, int64_t objects, int64_t bytes);

/* There is a limit at the moment. */
bool user_limits(const struct user *u, enum user_count what);
/* Its quota refused something for good: counted for reports. */
void user_refused(struct user *u, enum user_count what);
/* Why, in the calling thread's buffer until its next call: which quota, how much is used, the limit
 * and the key to raise. `more`: how many are asked for. */
const char *user_text(const struct user *u, enum user_count what, uint64_t more);

/* The section that says its quota: "[user alice]". As long as the user is referenced. */
const char *user_section(const struct user *u, enum user_count what);

struct user_usage {
	uid_t uid;
	/* by enum user_count; max 0: no limit. peak and refused: since the daemon's start, or since
	 * the user came back after many others had come */
	uint64_t used[NR_USER_COUNTS], peak[NR_USER_COUNTS], max[NR_USER_COUNTS],
		refused[NR_USER_COUNTS];
};
void user_usage(const struct user *u, struct user_usage *usage);
/* Each user that there is or was lately, the longest known first. fn runs under the table's lock
 * (LOCK_RANK_USER): it copies, and calls nothing of this file. */
typedef void (*user_each_fn)(void *ctx, const struct user_usage *usage);
void user_each(struct user_table *t, user_each_fn fn, void *ctx);

/* Each user's account is the sum of its sessions'; while all who change them stand still. */
size_t user_validate(struct kmmd *kmmd, mm_report_fn report, void *ctx);

#endif
