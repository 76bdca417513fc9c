/* SPDX-License-Identifier: MIT */
/*
 * The setting slab_debug: which caches get which debugging flags, by name.
 */
#ifndef DAEMON_SLAB_DEBUG_H
#define DAEMON_SLAB_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

/* FLAGS[,PATTERN...][;FLAGS[,PATTERN...]]... */
bool slab_debug_valid(const char *text);
/* The flags (SLAB_*) that it adds to a cache of that name; text NULL: none. */
uint32_t slab_debug_flags(const char *text, const char *name);

#endif
