/* SPDX-License-Identifier: MIT */
/*
 * What happens while requests wait for memory. See pressure.c.
 */
#ifndef DAEMON_PRESSURE_H
#define DAEMON_PRESSURE_H

#include <stdbool.h>

#include "daemon/wait_queue.h"

struct domain;
struct pressure;

int pressure_new(struct pressure **ret, struct domain *d);
struct pressure *
pressure_free(struct pressure *p);               /* main thread; the loop still closes a handle */
/* Somebody waits. */
bool pressure_is_on(const struct domain *d);
#define PRESSURE_TEXT "requests wait for memory: give back what is only cached"
/* What the last PRESSURE event said. Any thread. */
struct pressure_said {
	uint32_t gfp, priority;
};
struct pressure_said pressure_said(const struct pressure *p);
/* Once a second, any one thread: what the depot does not need goes back every 15 seconds. */
void pressure_tick(struct pressure *p);
extern const struct wait_queue_ops pressure_ops; /* their ctx is the struct pressure */

#endif
