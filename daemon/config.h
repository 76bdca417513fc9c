/* SPDX-License-Identifier: MIT */
/*
 * The configuration file: [sections] of `key = value` lines, # comments (table: setting.h).
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include "daemon/options.h"

/* Applies the file at o->config to o. Every wrong line is reported on stderr as
 * "FILE:LINE: section, key, value, what is allowed": -EINVAL then, and o is of no use but for
 * options_free(). Also -EINVAL when the file cannot be read. */
int config_read(struct options *o);

#endif
