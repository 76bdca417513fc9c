/* SPDX-License-Identifier: MIT */
/*
 * What moves in magazines between threads and the depot, the rack, and the layers below: counted for
 * the metrics. See traffic.c. Any thread.
 */
#ifndef DAEMON_TRAFFIC_H
#define DAEMON_TRAFFIC_H

#include <stdatomic.h>
#include <stdint.h>

struct control_session;
struct domain;

enum traffic_way {
	/* what threads were given, and from where */
	TRAFFIC_PAGES_FROM_DEPOT,
	TRAFFIC_PAGES_FROM_ZONES,
	TRAFFIC_OBJECTS_FROM_RACK, /* by their own count */
	TRAFFIC_OBJECTS_FROM_DEPOT,
	TRAFFIC_OBJECTS_FROM_SLABS,
	/* what they gave back, and where it went */
	TRAFFIC_PAGES_TO_DEPOT,
	TRAFFIC_PAGES_TO_ZONES,
	TRAFFIC_OBJECTS_TO_RACK, /* by their own count */
	TRAFFIC_OBJECTS_TO_DEPOT,
	TRAFFIC_OBJECTS_TO_SLABS,
	TRAFFIC_WAYS
};

struct traffic {
	_Atomic uint64_t magazines[TRAFFIC_WAYS], rounds[TRAFFIC_WAYS];
};

/* A magazine with so many rounds. */
static inline void traffic_count(struct traffic *t, enum traffic_way way, uint32_t rounds)
{
	/* relaxed: counters for reports */
	atomic_fetch_add_explicit(&t->magazines[way], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->rounds[way], rounds, memory_order_relaxed);
}

/* A session is swept: what it counted stays counted, and its record begins anew. */
void traffic_end(struct domain *d, struct control_session *c);

struct traffic_sum {
	uint64_t magazines[TRAFFIC_WAYS], rounds[TRAFFIC_WAYS];
};
/* With what the sessions that there are have counted themselves. O(sessions). */
void traffic_sum(const struct domain *d, struct traffic_sum *sum);

#endif
