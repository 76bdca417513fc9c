/* SPDX-License-Identifier: MIT */
/*
 * All metrics as text: for kmmctl metrics (service_metrics.c) and for HTTP (http.c).
 */
#ifndef DAEMON_METRICS_TEXT_H
#define DAEMON_METRICS_TEXT_H

#include <stddef.h>

struct kmmd;
struct metrics_writer;

enum metrics_format {
	METRICS_OPENMETRICS, /* 1.0.0 */
	METRICS_PROMETHEUS,  /* Prometheus's text format 0.0.4 */
};

#define METRICS_TEXT_MAX ((size_t)16 << 20)

/* A text for free(); its length without the NUL. -ENOMEM. Any thread that may take long, while the
 * daemon serves. */
int metrics_text(struct kmmd *k, enum metrics_format format, char **ret, size_t *length);

/* ---- its parts ---- */

void metrics_write_memory(struct metrics_writer *w, struct kmmd *k);  /* metrics_memory.c */
void metrics_write_caches(struct metrics_writer *w, struct kmmd *k);  /* metrics_caches.c */
void metrics_write_calls(struct metrics_writer *w, struct kmmd *k);   /* metrics_calls.c */
void metrics_write_sessions(struct metrics_writer *w, struct kmmd *k); /* metrics_sessions.c */

#endif
