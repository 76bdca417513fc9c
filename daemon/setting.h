/* SPDX-License-Identifier: MIT */
/*
 * Settings: one table of everything that can be set, whether by a line of the configuration file or
 * by an option of the command line, with its type, its bounds and its place in struct options.
 */
#ifndef DAEMON_SETTING_H
#define DAEMON_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/options.h"

enum setting_type {
	SETTING_TEXT,     /* char *, not empty */
	SETTING_LIST,     /* char **: words between commas or blanks */
	SETTING_SIZE,     /* uint64_t, bytes: digits and K, M, G or T */
	SETTING_NUMBER,   /* uint32_t */
	SETTING_NUMBER64, /* uint64_t */
	SETTING_BOOL,     /* bool: yes or no */
	SETTING_MODE,     /* mode_t, octal */
	SETTING_TIME,     /* uint32_t, milliseconds: 5s, 500ms, 5 (seconds) */
	SETTING_BACKING,  /* enum shm_backing */
	SETTING_LEVEL,    /* enum log_level */
	SETTING_DEBUG,    /* char *: slab_debug.h */
};

struct setting {
	const char *section, *key; /* in the file */
	const char *option;        /* on the command line, without dashes; NULL: none */
	enum setting_type type;
	size_t offset; /* in struct options */
	uint64_t min, max;
	bool restart;        /* a change needs a restart */
	const char *allowed; /* for messages */
};

/* Ended by a row without key. */
extern const struct setting setting_table[];

const struct setting *setting_find(const char *section, const char *key);
const struct setting *setting_find_option(const char *option);
bool setting_section_known(const char *section);

/* Sets it from text: 0, -EINVAL the text is not what is allowed (nothing changed), -ENOMEM. */
int setting_apply(const struct setting *s, struct options *o, const char *value);
/* Releases what it holds. */
void setting_clear(const struct setting *s, struct options *o);
bool setting_equal(const struct setting *s, const struct options *a, const struct options *b);

#endif
