/* SPDX-License-Identifier: MIT */
/*
 * A channel: one connection, served by one reactor for its whole life. All functions run on that
 * reactor's thread.
 *
 * Input is read into a bounded buffer and cut into frames; every complete frame is dispatched
 * (rpc.h). Output is gathered in a bounded buffer and leaves in one send when the input at hand has
 * been served, or at the end of the loop iteration; a frame that carries descriptors begins a send
 * of its own, in order. A channel whose output is full is not read from until it drains; one that
 * makes no progress for half a minute is closed.
 */
#ifndef DAEMON_CHANNEL_H
#define DAEMON_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/reactor.h"

struct session;

struct peer {
	pid_t pid; /* 0: in another pid namespace */
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* nr_groups supplementary ones; owned as pidfd is */
	uint32_t nr_groups;
	int pidfd; /* -1: the kernel gives none; owned by whoever holds the struct */
	bool counted; /* in its user's share of connections; acceptor_peer_release() */
	/* access.h; rights as of that generation of the rules */
	uint32_t rights, rights_of;
	bool admin;   /* rights has ACCESS_ADMIN */
	bool refused; /* it may not connect: it is told so, and no more */
};

struct channel; /* private to channel.c */

/* Takes fd and peer over, also on failure. `head`: the bytes that the acceptor has read already. */
int channel_open(struct reactor *r, int fd, const struct peer *peer, const uint8_t *head, size_t n);
/* Safe at any time; the object lives on until its last pending call is finished. */
void channel_close(struct channel *c, const char *why);

const struct peer *channel_peer(const struct channel *c);
/* The pidfd becomes the caller's (the session's); -1 when there is none. */
int channel_take_pidfd(struct channel *c);
struct session *channel_session(const struct channel *c);
/* Joins the channel to a session (Hello); when the channel closes it calls
 * session_channel_closed(session, control) once. */
void channel_set_session(struct channel *c, struct session *s, bool control);
bool channel_is_control(const struct channel *c);

#endif
