/* SPDX-License-Identifier: MIT */
/*
 * The configuration file: [sections] of `key = value` lines, # comments (table: setting.h).
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include "daemon/options.h"

/* Applies the file at o->config to o. Every wrong line is said as
 * "FILE:LINE: section, key, value, what is allowed": -EINVAL then, and o is of no use but for
 * options_free(). Also -EINVAL when the file cannot be read. */
int config_read(struct options *o);

/* Applies one line, from wherever: a setting, or a key of a [user NAME] or [group NAME] section. What
 * is wrong is said behind `where`. -EINVAL, -ENOMEM. `indented`: the line goes on with the list of the
 * one before. */
int config_apply(struct options *o, const char *where, uint32_t origin, const char *section,
                 const char *key, const char *value, bool indented);

#endif
