/* SPDX-License-Identifier: MIT */
/*
 * What concerns all reactors at once: reactor_broadcast() and reactor_rendezvous() (reactor.h).
 */
#ifndef DAEMON_BROADCAST_H
#define DAEMON_BROADCAST_H

struct reactor;

/* The reactor's thread ends: it stands still for good, and a rendezvous need not wait for it. */
void broadcast_reactor_exited(struct reactor *r);

#endif
