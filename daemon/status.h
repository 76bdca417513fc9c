/* SPDX-License-Identifier: MIT */
/*
 * The line that the service manager shows of the daemon: `systemctl status kmmd`.
 */
#ifndef DAEMON_STATUS_H
#define DAEMON_STATUS_H

#include <stddef.h>

#include "daemon/kmmd.h"

struct status;

/* READY=1 with the first line; from then on a timer of the main loop looks after it. 0, -errno: the line
 * stays as it is (READY=1 was said). Main thread. */
int status_new(struct status **ret, struct kmmd *kmmd);
/* Before the main loop ends: it closes a handle. */
void status_stop(struct status *s);
struct status *status_free(struct status *s);

/* "1024 MiB (...), 37% in use; 12 sessions, 1 in quarantine; no pressure" */
void status_text(char *text, size_t size, const struct kmmd *kmmd);

#endif
