/* SPDX-License-Identifier: MIT */
/*
 * The two formats of metrics.
 *
 *     OpenMetrics 1.0                                Prometheus 0.0.4
 *     # TYPE kmmd_swept_bytes counter                # HELP kmmd_swept_bytes_total ...
 *     # UNIT kmmd_swept_bytes bytes                  # TYPE kmmd_swept_bytes_total counter
 *     # HELP kmmd_swept_bytes ...
 *     kmmd_swept_bytes_total{...} 4096               kmmd_swept_bytes_total{...} 4096
 *     ...
 *     # EOF
 *
 * They have the same samples, so that queries need not know by which one was asked. What differs is what
 * a family is called, that the older format knows neither units nor infos (a gauge then), and the end.
 *
 * Histograms are cumulated here, over the bounds of metrics.h; the sum over the buckets is the count, so
 * that both always agree, however much is counted meanwhile.
 */
#include "daemon/metrics_writer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 65536u
#define LABELS_MAX 640u /* two texts of users, and their names */

static bool grow(struct metrics_writer *w, size_t more)
{
	size_t room = w->room ? w->room : ROOM_FIRST;
	char *text;

	while (room <= w->length + more && room <= METRICS_TEXT_MAX)
		room *= 2;
	if (room > METRICS_TEXT_MAX)
		return false;
	text = realloc(w->text, room);
	if (!text)
		return false;
	w->text = text;
	w->room = room;
	return true;
}

static void write_list(struct metrics_writer *w, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = w->failed ? 0 : vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0 || (!w->failed && w->length + (size_t)n >= w->room && !grow(w, (size_t)n)))
		w->failed = true;
	if (w->failed)
		return;
	vsnprintf(w->text + w->length, w->room - w->length, fmt, ap);
	w->length += (size_t)n;
}

__attribute__((format(printf, 2, 3))) static void put(struct metrics_writer *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	write_list(w, fmt, ap);
	va_end(ap);
}

static const char *sample_ending(enum metrics_type type)
{
	return type == METRICS_COUNTER ? "_total" : type == METRICS_INFO ? "_info" : "";
}

void metrics_family(struct metrics_writer *w, enum metrics_type type, const char *name,
                    const char *unit, const char *help)
{
	static const char *const types[] = { "gauge", "counter", "info", "histogram" };

	w->family = name;
	w->type = type;
	if (w->format == METRICS_PROMETHEUS) {
		const char *ending = sample_ending(type);

		put(w, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, ending, help, name, ending,
		    types[type == METRICS_INFO ? METRICS_GAUGE : type]);
		return;
	}
	put(w, "# TYPE %s %s\n", name, types[type]);
	if (*unit)
		put(w, "# UNIT %s %s\n", name, unit);
	put(w, "# HELP %s %s\n", name, help);
}

/* name{labels} */
static void sample_begin(struct metrics_writer *w, const char *labels, va_list ap)
{
	char given[LABELS_MAX];

	vsnprintf(given, sizeof(given), labels, ap);
	put(w, *given ? "%s%s{%s}" : "%s%s%s", w->family, sample_ending(w->type), given);
}

void metrics_u64(struct metrics_writer *w, uint64_t value, const char *labels, ...)
{
	va_list ap;

	va_start(ap, labels);
	sample_begin(w, labels, ap);
	va_end(ap);
	put(w, " %" PRIu64 "\n", value);
}

static void put_seconds(struct metrics_writer *w, uint64_t ns)
{
	put(w, " %" PRIu64 ".%09" PRIu64 "\n", ns / 1000000000, ns % 1000000000);
}

void metrics_ns(struct metrics_writer *w, uint64_t ns, const char *labels, ...)
{
	va_list ap;

	va_start(ap, labels);
	sample_begin(w, labels, ap);
	va_end(ap);
	put_seconds(w, ns);
}

/* Of 2^i microseconds, as both formats want a number written: one way, with a point. */
static void bound_text(char text[16], unsigned int i)
{
	uint64_t us = UINT64_C(1) << i;
	size_t n = (size_t)snprintf(text, 16, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);

	while (text[n - 1] == '0' && text[n - 2] != '.')
		text[--n] = '\0';
}

void metrics_histogram(struct metrics_writer *w, const struct metrics_sum *sum, const char *labels,
                       ...)
{
	char given[LABELS_MAX], le[16];
	uint64_t so_far = 0;
	unsigned int i;
	va_list ap;

	va_start(ap, labels);
	vsnprintf(given, sizeof(given), labels, ap);
	va_end(ap);
	for (i = 0; i < METRICS_BUCKETS; i++) {
		so_far += sum->bucket[i];
		if (i < METRICS_BOUNDS)
			bound_text(le, i);
		else
			strcpy(le, "+Inf");
		put(w, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", w->family, given,
		    *given ? "," : "", le, so_far);
	}
	put(w, *given ? "%s_count{%s} %" PRIu64 "\n" : "%s_count%s %" PRIu64 "\n", w->family, given,
	    so_far);
	put(w, *given ? "%s_sum{%s}" : "%s_sum%s", w->family, given);
	put_seconds(w, sum->sum_ns);
}

void metrics_end(struct metrics_writer *w)
{
	if (w->format == METRICS_OPENMETRICS)
		put(w, "# EOF\n");
}

/* ---- labels ---- */

/* Bytes of the character of several bytes that begins here; 0: none does. */
static unsigned int utf8_length(const unsigned char *s)
{
	unsigned int n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2, i;
	uint32_t c = s[0] & (0x7fu >> n);

	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) /* also the end */
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	/* the shortest form, no half of a pair, no control character */
	if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) ||
	    (c >= 0xd800 && c < 0xe000) || c < 0xa0)
		return 0;
	return n;
}

struct metrics_label metrics_label(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	struct metrics_label l;
	size_t at = 0;

	while (*s && at + 5 < sizeof(l.text)) {
		unsigned int n = utf8_length(s);

		if (n) {
			memcpy(l.text + at, s, n);
			at += n;
			s += n;
		} else if (*s >= 0x20 && *s < 0x7f && *s != '\\' && *s != '"') {
			l.text[at++] = (char)*s++;
		} else if (*s == '"') {
			at += (size_t)snprintf(l.text + at, 6, "\\\"");
			s++;
		} else {
			at += (size_t)snprintf(l.text + at, 6, "\\\\x%02x", *s);
			s++;
		}
	}
	l.text[at] = '\0';
	return l;
}
