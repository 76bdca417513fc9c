/* SPDX-License-Identifier: MIT */
/*
 * Who may do what. See access.c.
 */
#ifndef DAEMON_ACCESS_H
#define DAEMON_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct kmmd;
struct options;
struct peer;

enum access_right {
	ACCESS_CONNECT = 1, /* anything at all */
	ACCESS_SESSION = 2, /* sessions: memory */
	ACCESS_INSPECT = 4, /* kmm.v1.Inspector */
	ACCESS_ADMIN = 8,   /* kmm.v1.Admin, and addresses in reports */
};

struct access;
struct access_rules;

/* NAME, NUMBER or @GROUP (name or number) that the machine knows. */
bool access_name_known(const char *text);

int access_new(struct access **ret, const struct options *o);
struct access *access_free(struct access *a);

/* The rights of a peer, a sum of enum access_right. Any thread of the daemon that runs in its
 * mailboxes. */
uint32_t access_rights(const struct access *a, const struct peer *p);
/* Brings peer->rights and peer->admin up to date when the rules have changed since. On the thread that
 * owns the peer. */
void access_refresh(const struct access *a, struct peer *p);

/* Makes the rules anew from the options; the ones before, to be freed when nobody looks at them any
 * more, are *old. 0 or -ENOMEM. Main thread. */
int access_reload(struct access *a, const struct options *o, struct access_rules **old);
struct access_rules *access_rules_free(struct access_rules *rules);

#endif
