/* SPDX-License-Identifier: MIT */
/*
 * Everything that is cached goes back to the zones. See drain.c.
 */
#ifndef DAEMON_DRAIN_H
#define DAEMON_DRAIN_H

#include <stdint.h>

struct domain;
struct reactor;

/* What it took, in frames. */
struct drained {
	uint64_t depot, threads;
};

/* On each reactor, first: its per-CPU lists and its magazines of objects. Frames that lay on the lists. */
uint64_t drain_reactor(struct reactor *r);
/* On the worker, after all reactors: depot and rack, what clients' threads gave back and nobody has
 * collected yet, empty slabs. Objects that idle threads cache come by a FLUSH before (flush.h). */
void drain_domain(struct domain *d, struct drained *n);

#endif
