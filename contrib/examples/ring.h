/* SPDX-License-Identifier: MIT */
/*
 * A ring of handles in a page of the pool, between one process that puts and one that takes.
 *
 * The page has a name in the domain, so that the two processes find it whichever comes first. A
 * full ring makes the putter wait, an empty one the taker. See ring.c.
 */
#ifndef EXAMPLES_RING_H
#define EXAMPLES_RING_H

#include <errno.h>
#include <kmm/kmm.h>
#include <stdbool.h>

enum ring_role { RING_PUTTER, RING_TAKER };

struct ring;

/* One process's end. */
struct ring_end {
	struct kmm *k;
	struct ring *ring;
	enum ring_role role;
	bool made; /* by us: we own the page; else we hold it */
};

/* The ring of that name, made when there is none. -EBUSY: another process has that end. Else what
 * libkmm says. */
int ring_open(struct ring_end *e, struct kmm *k, const char *name, enum ring_role role);
/* Puts a handle (0: the end). -EPIPE: the taker has died. */
int ring_put(struct ring_end *e, kmm_handle_t handle);
/* The next one, which stays in the ring until ring_taken(): adopt it before. -EPIPE: the putter has
 * died. */
int ring_take(struct ring_end *e, kmm_handle_t *handle);
void ring_taken(struct ring_end *e);
/* Waits until all that was put is taken: what is still in the ring is the putter's. -EPIPE. */
int ring_drain(struct ring_end *e);
/* Leaves the ring. */
int ring_close(struct ring_end *e);

/* The daemon stayed away for longer than the session's timeout, or went away with the call. All
 * that these programs ask of it may be asked again. */
static inline bool daemon_was_away(int error)
{
	return error == EAGAIN || error == EINPROGRESS;
}

#endif
