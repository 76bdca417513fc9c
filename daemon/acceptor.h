/* SPDX-License-Identifier: MIT */
/*
 * The acceptor: takes connections on the main loop, learns who the peer is, reads the header of the
 * first frame and hands the connection to the reactor of the CPU named there.
 */
#ifndef DAEMON_ACCEPTOR_H
#define DAEMON_ACCEPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/kmmd.h"

struct listener;
struct peer;

/* Takes the listener's descriptor for the time until acceptor_stop(). Main thread. */
int acceptor_new(struct acceptor **ret, struct kmmd *kmmd, const struct listener *l);
/* Accepts nothing more and drops the connections that have not been handed on. */
void acceptor_stop(struct acceptor *a);
/* Counts the connection for the peer's user; false: its share of `budget` is used up. What the user
 * had and what all had. */
bool acceptor_share_take(struct peer *peer, uint32_t budget, uint32_t *mine, uint32_t *all);
/* Closes its pidfd and gives its share back. Any thread. */
void acceptor_peer_release(struct peer *peer);
/* After the main loop has run once more since acceptor_stop(). */
struct acceptor *acceptor_free(struct acceptor *a);

#endif
