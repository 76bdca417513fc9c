/* SPDX-License-Identifier: MIT */
/*
 * Tables for people: columns as wide as their widest cell, numbers to the right; and the units that
 * their cells are written in.
 */
#ifndef CLIENT_KMMCTL_TABLE_H
#define CLIENT_KMMCTL_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 20u

struct table;

struct table_column {
	const char *heading;
	enum table_align { TABLE_LEFT, TABLE_RIGHT } align;
};

/* NULL: out of memory. `column` must outlive the table. At most TABLE_COLUMNS_MAX. */
struct table *table_new(const struct table_column column[], size_t n);
struct table *table_free(struct table *t);
/* Appends one cell, row by row from the left; a table without the memory for a cell says so when
 * it is printed. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_print(FILE *out, const struct table *t);

/* "0", "4K", "1.5M", "12G": at most one decimal. Returns text. */
#define TABLE_UNIT_SIZE 24u
const char *table_bytes(char text[TABLE_UNIT_SIZE], uint64_t bytes);
const char *table_frames(char text[TABLE_UNIT_SIZE], uint64_t frames);
/* "12s", "3m20s", "5h10m", "4d2h" */
const char *table_age(char text[TABLE_UNIT_SIZE], uint64_t seconds);

#endif
