/* SPDX-License-Identifier: MIT */
/*
 * What growing and going offline have in common. See hotplug.c.
 */
#ifndef DAEMON_HOTPLUG_H
#define DAEMON_HOTPLUG_H

#include "daemon/service.h"

/* A call that brings sections or takes one; first in its object. */
struct hotplug_call {
	struct service_job job; /* first */
	int result;             /* 0, or a negative errno and why */
	char why[480];
};

/* False: one is under way, and the call is answered so. Paired with hotplug_end(). */
bool hotplug_begin(struct rpc_call *call);
void hotplug_end(struct kmmd *k);
/* What it ends with; the text becomes the caller's. */
void hotplug_refuse(struct hotplug_call *c, int result, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Submits the next step, behind whoever waits for the worker. */
void hotplug_next(struct hotplug_call *c, void (*run)(struct worker_job *job));
/* Watermarks, reserves, and what depots may keep go by what there is. After sections came or went; on the
 * worker. */
void hotplug_limits(struct kmmd *k);

#endif
