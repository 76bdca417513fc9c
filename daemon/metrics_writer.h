/* SPDX-License-Identifier: MIT */
/*
 * Text of metrics, family by family. See metrics_writer.c. One thread a writer.
 */
#ifndef DAEMON_METRICS_WRITER_H
#define DAEMON_METRICS_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/metrics.h"
#include "daemon/metrics_text.h"

enum metrics_type {
	METRICS_GAUGE,
	METRICS_COUNTER, /* samples: _total */
	METRICS_INFO,    /* samples: _info, value 1 */
	METRICS_HISTOGRAM,
};

struct metrics_writer {
	enum metrics_format format;
	char *text; /* with NUL */
	size_t length, room;
	bool failed; /* no memory, or more than METRICS_TEXT_MAX: nothing is written any more */
	const char *family;
	enum metrics_type type;
};

/* A family begins: name without the ending of its samples; unit "" or what the name ends in; help in
 * one line, without quotes or backslashes. Its samples follow. */
void metrics_family(struct metrics_writer *w, enum metrics_type type, const char *name,
                    const char *unit, const char *help);

/* A sample. The labels as they are to stand between the braces (name="value",...); values that come
 * from outside went through metrics_label(). */
#define METRICS_NO_LABELS "%s", ""
void metrics_u64(struct metrics_writer *w, uint64_t value, const char *labels, ...)
	__attribute__((format(printf, 3, 4)));
/* In seconds. */
void metrics_ns(struct metrics_writer *w, uint64_t ns, const char *labels, ...)
	__attribute__((format(printf, 3, 4)));
void metrics_histogram(struct metrics_writer *w, const struct metrics_sum *sum, const char *labels,
                       ...) __attribute__((format(printf, 3, 4)));

/* After the last family. */
void metrics_end(struct metrics_writer *w);

/* Of a text of at most 64 bytes the value of a label, the same for no other text: ASCII and UTF-8 as
 * they are, other bytes and backslashes as \xNN. */
struct metrics_label {
	char text[64 * 5 + 1];
};
struct metrics_label metrics_label(const char *text);

#endif
