/* SPDX-License-Identifier: MIT */
/*
 * A table gathers its cells in one array, row-major, and learns each column's width on the way;
 * printing is then one pass. Widths are counted in characters, not bytes: names may be UTF-8.
 */
#include "client/kmmctl/table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

struct table {
	const struct table_column *column;
	size_t columns;
	size_t width[TABLE_COLUMNS_MAX];
	char **cell;
	size_t cells, room;
	bool short_of_memory;
};

/* Characters of valid UTF-8: bytes that do not continue one. */
static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

struct table *table_new(const struct table_column column[], size_t n)
{
	struct table *t;

	if (n == 0 || n > TABLE_COLUMNS_MAX)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->column = column;
	t->columns = n;
	for (size_t i = 0; i < n; i++)
		t->width[i] = text_width(column[i].heading);
	return t;
}

struct table *table_free(struct table *t)
{
	if (t) {
		for (size_t i = 0; i < t->cells; i++)
			free(t->cell[i]);
		free(t->cell);
		free(t);
	}
	return NULL;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	size_t *width;
	va_list args;
	char *text;
	int r;

	if (!t || t->short_of_memory)
		return;
	if (t->cells == t->room) {
		size_t room = t->room ? 2 * t->room : 64;
		char **cell = reallocarray(t->cell, room, sizeof(*cell));

		if (!cell) {
			t->short_of_memory = true;
			return;
		}
		t->cell = cell;
		t->room = room;
	}
	va_start(args, fmt);
	r = vasprintf(&text, fmt, args);
	va_end(args);
	if (r < 0) {
		t->short_of_memory = true;
		return;
	}
	width = &t->width[t->cells % t->columns];
	t->cell[t->cells++] = text;
	if (text_width(text) > *width)
		*width = text_width(text);
}

static void print_cell(FILE *out, const struct table *t, size_t column, const char *text)
{
	int padding = (int)(t->width[column] - text_width(text));
	bool last = column + 1 == t->columns;

	if (column > 0)
		fputs("  ", out);
	if (t->column[column].align == TABLE_RIGHT)
		fprintf(out, "%*s%s", padding, "", text);
	else
		fprintf(out, "%s%*s", text, last ? 0 : padding, "");
	if (last)
		fputc('\n', out);
}

void table_print(FILE *out, const struct table *t)
{
	if (!t || t->short_of_memory) {
		fputs("out of memory\n", out);
		return;
	}
	for (size_t i = 0; i < t->columns; i++)
		print_cell(out, t, i, t->column[i].heading);
	for (size_t i = 0; i < t->cells; i++)
		print_cell(out, t, i % t->columns, t->cell[i]);
}

const char *table_bytes(char text[TABLE_UNIT_SIZE], uint64_t bytes)
{
	static const char unit[] = "KMGTPE";
	size_t u = 0;
	uint64_t tenths;

	if (bytes < 1024) {
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64, bytes);
		return text;
	}
	/* The unit in which it is below 1024; bytes >> 10 * (u + 1) are whole units. */
	while (u + 2 < sizeof(unit) && bytes >> (10 * (u + 2)))
		u++;
	tenths = (bytes >> (10 * u)) % 1024 * 10 / 1024;
	if (tenths)
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64 ".%" PRIu64 "%c",
		         bytes >> (10 * (u + 1)), tenths, unit[u]);
	else
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64 "%c", bytes >> (10 * (u + 1)), unit[u]);
	return text;
}

const char *table_frames(char text[TABLE_UNIT_SIZE], uint64_t frames)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(frames, (uint64_t)4096, &bytes)) {
		snprintf(text, TABLE_UNIT_SIZE, "unlimited");
		return text;
	}
	return table_bytes(text, bytes);
}

const char *table_age(char text[TABLE_UNIT_SIZE], uint64_t seconds)
{
	uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

	if (minutes == 0)
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64 "s", seconds);
	else if (hours == 0)
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64 "m%" PRIu64 "s", minutes, seconds % 60);
	else if (days == 0)
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64 "h%" PRIu64 "m", hours, minutes % 60);
	else
		snprintf(text, TABLE_UNIT_SIZE, "%" PRIu64 "d%" PRIu64 "h", days, hours % 24);
	return text;
}
