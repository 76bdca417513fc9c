/* SPDX-License-Identifier: MIT */
/*
 * Settings: one table of everything that can be set, whether by a line of the configuration file, by
 * an option of the command line or in the running daemon, with its type, its bounds and its place in
 * struct options. What prints, checks, compares, documents or changes settings walks that table; so a
 * new one is a row of it, a field of struct options, and a paragraph of kmmd.conf(5), which a test
 * compares with the row.
 */
#ifndef DAEMON_SETTING_H
#define DAEMON_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/options.h"

enum setting_type {
	SETTING_TEXT,     /* char *, NULL as long as it is not set */
	SETTING_LIST,     /* char **: words between commas or blanks */
	SETTING_SIZE,     /* uint64_t, bytes: digits and K, M, G or T */
	SETTING_NUMBER,   /* uint32_t */
	SETTING_NUMBER64, /* uint64_t */
	SETTING_BOOL,     /* bool: yes or no */
	SETTING_MODE,     /* mode_t, octal */
	SETTING_TIME,     /* uint32_t, milliseconds: 5s, 500ms, 5 (seconds) */
	SETTING_BACKING,  /* enum shm_backing; min: bits of those that are not allowed */
	SETTING_LEVEL,    /* enum log_level */
	SETTING_DEBUG,    /* char *: slab_debug.h */
	SETTING_CPUS,     /* char *: 0-3,8 */
};

struct setting {
	const char *section, *key; /* in the file */
	const char *option;        /* on the command line, without dashes; NULL: none */
	enum setting_type type;
	size_t offset; /* in struct options */
	uint64_t min, max;
	bool live;           /* can change in a running daemon */
	const char *initial; /* the default as it would be written; NULL: `otherwise` says what it is */
	const char *otherwise;
	const char *unit;    /* of a plain number: "bytes", "pages"; "" */
	const char *allowed; /* for messages: "it takes ..." */
};

/* setting_table.c. Ended by a row without key. */
extern const struct setting setting_table[];

/* It shapes the pool, so a daemon that takes one over has it from there. */
bool setting_of_pool(const struct setting *s);
/* Also by a name that it had in an earlier version. */
const struct setting *setting_find(const char *section, const char *key);
const struct setting *setting_find_option(const char *option);
bool setting_section_known(const char *section);

/* Sets it from text: 0, -EINVAL the text is not what is allowed (nothing changed), -ENOMEM. */
int setting_apply(const struct setting *s, struct options *o, const char *value);
/* The words of a list on top of those that it has. */
int setting_append(const struct setting *s, struct options *o, const char *value);
/* Its default; 0 or -ENOMEM. */
int setting_reset(const struct setting *s, struct options *o);
/* Releases what it holds. */
void setting_clear(const struct setting *s, struct options *o);
bool setting_equal(const struct setting *s, const struct options *a, const struct options *b);
/* After a plain copy of the whole struct: makes what it points to its own. -ENOMEM: NULL then. */
int setting_own(const struct setting *s, struct options *o);
/* The two change places, while others read `now` on other threads: numbers by atomic loads, texts and
 * lists by pointers that stay valid (reload.h). */
void setting_exchange(const struct setting *s, struct options *now, struct options *other);

/* As it would be written, "" for what is not set. */
#define SETTING_VALUE_MAX 1000u
void setting_format(const struct setting *s, const struct options *o, char *text, size_t size);
/* "64M" */
void setting_format_size(char *text, size_t size, uint64_t v);

#endif
