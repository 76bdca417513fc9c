/* SPDX-License-Identifier: MIT */
/*
 * Debugging flags by the names of caches, in the notation of Linux's slab_debug= parameter:
 *
 *     FLAGS[,PATTERN...][;FLAGS[,PATTERN...]]...      F consistency checks  Z red zones
 *                                                     P poison              U who used it
 *
 * A pattern is a shell's (fnmatch); flags without one are for every cache, those of kmalloc
 * included. A cache gets the flags of all parts that match it. The text is read each time that a
 * cache is made, which is seldom.
 */
#include "daemon/slab_debug.h"

#include <fnmatch.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "mm/slab.h"

#define PATTERN_MAX 128u

static uint32_t letter_flag(char c)
{
	switch (c) {
	case 'F':
		return SLAB_CONSISTENCY_CHECKS;
	case 'Z':
		return SLAB_RED_ZONE;
	case 'P':
		return SLAB_POISON;
	case 'U':
		return SLAB_STORE_USER;
	default:
		return 0;
	}
}

/* The letters at the front of a part; 0: none, or something else. */
static uint32_t part_flags(const char *part, size_t letters)
{
	uint32_t flags = 0;
	size_t i;

	for (i = 0; i < letters; i++) {
		uint32_t flag = letter_flag(part[i]);

		if (!flag)
			return 0;
		flags |= flag;
	}
	return flags;
}

static bool pattern_matches(const char *pattern, size_t n, const char *name)
{
	char copy[PATTERN_MAX];

	if (n >= sizeof(copy))
		return false;
	snprintf(copy, sizeof(copy), "%.*s", (int)n, pattern);
	return fnmatch(copy, name, 0) == 0;
}

/* Any of the patterns behind the letters, or there is none. */
static bool part_matches(const char *at, const char *end, const char *name)
{
	if (at == end)
		return true;
	while (at < end) {
		size_t n = strcspn(++at, ",;");

		if (pattern_matches(at, n, name))
			return true;
		at += n;
	}
	return false;
}

static bool patterns_valid(const char *at, const char *end)
{
	while (at < end) {
		size_t n = strcspn(++at, ",;");

		if (!n || n >= PATTERN_MAX)
			return false;
		at += n;
	}
	return true;
}

bool slab_debug_valid(const char *text)
{
	for (;;) {
		size_t part = strcspn(text, ";"), letters = strcspn(text, ",;");

		if (!part_flags(text, letters) || !patterns_valid(text + letters, text + part))
			return false;
		if (!text[part])
			return true;
		text += part + 1;
	}
}

uint32_t slab_debug_flags(const char *text, const char *name)
{
	uint32_t flags = 0;

	while (text && *text) {
		size_t part = strcspn(text, ";"), letters = strcspn(text, ",;");

		if (part_matches(text + letters, text + part, name))
			flags |= part_flags(text, letters);
		text += part + (text[part] != '\0');
	}
	return flags;
}
