/* SPDX-License-Identifier: MIT */
/*
 * Which format a scraper wants. See http_accept.c.
 */
#ifndef DAEMON_HTTP_ACCEPT_H
#define DAEMON_HTTP_ACCEPT_H

#include <stdbool.h>

/* Whether by that Accept header (NULL: there is none) OpenMetrics 1.0 is wanted rather than plain text. */
bool http_accept_openmetrics(const char *accept);

#endif
