/* SPDX-License-Identifier: MIT */
/*
 * What the files of users share. See user.c.
 */
#ifndef DAEMON_USER_PRIVATE_H
#define DAEMON_USER_PRIVATE_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "daemon/hash.h"
#include "daemon/user.h"
#include "daemon/user_groups.h"
#include "daemon/worker.h"
#include "mm/lock.h"

#define USER_BUCKETS 256u

/* Which section says each quota. Never changed; another that says otherwise takes its place, and all are
 * kept as long as the user, since somebody may be reading one. */
struct user_origin {
	struct user_origin *before;
	char section[NR_USER_COUNTS][QUOTA_SECTION_MAX];
};

struct user {
	/* internal units: bytes for USER_PAGES */
	_Alignas(64) _Atomic int64_t used[NR_USER_COUNTS];
	_Alignas(64) _Atomic uint64_t max[NR_USER_COUNTS]; /* 0: no limit */
	_Atomic int64_t peak[NR_USER_COUNTS];
	_Atomic uint64_t refused[NR_USER_COUNTS];
	_Atomic(const struct user_origin *) origin;
	_Atomic uint32_t refs;
	uid_t uid;
	/* guarded by the table's lock */
	struct user_origin *all_origins;
	TAILQ_ENTRY(user) link;
	LIST_ENTRY(user) same; /* of its bucket */
	struct user_groups *groups; /* NULL: not known */
	bool of_process; /* a process told them; else the database */
	bool asked;      /* the database, since the last reload */
	int64_t sum[NR_USER_COUNTS]; /* of user_validate(), which runs once at a time */
};

struct user_table {
	struct kmmd *kmmd;
	struct hash_key key;
	struct lock lock;
	/* guarded by it */
	TAILQ_HEAD(, user) users; /* the longest known first */
	LIST_HEAD(, user) bucket[USER_BUCKETS];
	uint32_t n;
	struct user *hand; /* who is looked at next; NULL: the first */
	bool asking;       /* `ask` is on its way */
	uint32_t unknown;  /* users whose groups could not be learnt since it was sent */
	struct worker_job ask;
};

/* Under the table's lock, all of it. */

/* The user of the uid, referenced; made when there is none. NULL: no memory. */
struct user *user_find_or_make(struct user_table *t, uid_t uid);
/* Its quotas are what the options say. Whether they limit its sessions otherwise than before:
 * session_table_reload(). */
bool user_read_quota(struct user *u, const struct options *o);

/* user_ask.c */
void user_ask_run(struct worker_job *job);

#endif
