/* SPDX-License-Identifier: MIT */
/*
 * Metrics and health by HTTP, where the configuration says so ([metrics] listen). See http.c. All
 * functions on the main thread.
 */
#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

struct http;
struct kmmd;

/* The daemon serves. A place that cannot be listened at is logged and tried again now and then: -ENOMEM
 * alone. */
int http_new(struct http **ret, struct kmmd *kmmd);
/* The options have changed. */
void http_reload(struct kmmd *kmmd);
/* The daemon ends: nothing is served any more. The main loop still has to run before http_free(). */
void http_stop(struct http *h);
struct http *http_free(struct http *h);

#endif
