/* SPDX-License-Identifier: MIT */
/*
 * The service manager's watchdog: it is told that the daemon is alive only while every thread is.
 */
#ifndef DAEMON_WATCHDOG_H
#define DAEMON_WATCHDOG_H

#include <stdbool.h>

#include "daemon/kmmd.h"

struct watchdog;

/* When the manager asked for it (WatchdogSec=); else *ret is NULL. Reactors and worker exist; main thread.
 * 0 or a negative errno. */
int watchdog_new(struct watchdog **ret, struct kmmd *kmmd);
/* Once the reactors have been joined. The main loop still closes a handle (reactor_free). */
void watchdog_stop(struct watchdog *w);
/* After the main loop's end. */
struct watchdog *watchdog_free(struct watchdog *w);

#endif
