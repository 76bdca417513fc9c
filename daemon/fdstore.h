/* SPDX-License-Identifier: MIT */
/*
 * The service manager's fd store: what keeps the memory while the daemon is away. systemd's
 * protocol (FDSTORE=1, FDNAME=, BARRIER=1 on NOTIFY_SOCKET; LISTEN_FDS, LISTEN_FDNAMES at the
 * start), served by systemd or by kmmd --supervise. Without either, nothing is kept: pushes succeed
 * and do nothing.
 *
 * Names: "listen" the listening socket, "s<index>" a section of the zones, "m<index>" one of
 * metadata, "words<domain>", "views<domain>" control memory, "ledger<domain>" what is private and
 * grows, "life<domain>" a pipe that says that all this is kept (lifeline.h), "probe" for a moment (fdstore_room).
 */
#ifndef DAEMON_FDSTORE_H
#define DAEMON_FDSTORE_H

#include <stdbool.h>
#include <stddef.h>

struct fdstore;

/* Takes over what the manager passed (close-on-exec set, environment cleared). */
int fdstore_new(struct fdstore **ret);
struct fdstore *fdstore_free(struct fdstore *s); /* closes what nobody took */
/* The fd of that name, now the caller's; -1: none. */
int fdstore_take(struct fdstore *s, const char *name);
size_t fdstore_left(const struct fdstore *s);
const char *fdstore_name(const struct fdstore *s, size_t i); /* of those left */
int fdstore_push(struct fdstore *s, const char *name, int fd);
int fdstore_remove(struct fdstore *s, const char *name);
/* Returns when the manager has stored all that was pushed before: 0, -ETIMEDOUT. */
int fdstore_barrier(struct fdstore *s);
/* How many descriptors, up to n, the store still takes; without a manager n. 0, -EMFILE: n are more than
 * the process may open, -ENOMEM, -ETIMEDOUT. */
int fdstore_room(struct fdstore *s, size_t n, size_t *room);
bool fdstore_present(const struct fdstore *s); /* there is a manager */
/* How many descriptors it keeps for us, by what passed in and out of our hands; the most that it takes, 0:
 * it does not say (systemd does from version 254 on). Any thread. */
size_t fdstore_kept(const struct fdstore *s);
size_t fdstore_limit(const struct fdstore *s);

#endif
