/* SPDX-License-Identifier: MIT */
/*
 * The lifeline: how clients learn that nobody keeps the pool any more. See lifeline.c.
 */
#ifndef DAEMON_LIFELINE_H
#define DAEMON_LIFELINE_H

#include <stdbool.h>

struct fdstore;
struct pool;

#define LIFELINE_NAME "life0"

/* A new one: both ends are the pool's; it is pushed to the store with the rest. -EMFILE. */
int lifeline_new(struct pool *p);
/* The end that the store kept. -EUCLEAN with *why: it is no lifeline; p has none then. */
int lifeline_take(struct pool *p, int fd, const char **why);
/* For a pool that was made without: a new one, if the store takes it. When this returns 0 the store keeps
 * it, or there is none. Said to the log where there is none. */
int lifeline_add(struct pool *p, struct fdstore *store);
void lifeline_close(struct pool *p);

#endif
