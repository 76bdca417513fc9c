/* SPDX-License-Identifier: MIT */
/* Requests for memory that failed, in the log. See warn.c. */
#ifndef DAEMON_WARN_H
#define DAEMON_WARN_H

#include "mm/gfp.h"

struct session;

/* The session's request failed with rc (-ENOMEM, -ETIMEDOUT): a line, unless it has __GFP_NOWARN. cache:
 * of an object, else 0. Any thread. */
void warn_alloc(const struct session *s, gfp_t gfp, uint32_t order, uint32_t cache, int rc);
/* The flags by name, as Linux's %pGg: "GFP_KERNEL|__GFP_ZERO". Returns text. */
#define GFP_TEXT_SIZE 400u
const char *gfp_text(char text[GFP_TEXT_SIZE], gfp_t gfp);

#endif
