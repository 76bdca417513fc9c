/* SPDX-License-Identifier: MIT */
/*
 * What a reload says in the log. See reload_said.c.
 */
#ifndef DAEMON_RELOAD_SAID_H
#define DAEMON_RELOAD_SAID_H

#include "daemon/options.h"
#include "daemon/quota_rules.h"
#include "daemon/setting.h"

/* A setting that changed, or one that will at the next start. */
void reload_say_changed(const struct setting *s, const struct options *was, const struct options *is);
void reload_say_later(const struct setting *s, const struct options *is, const struct options *o);
/* Which sections [user NAME] and [group NAME] changed; they are not equal. */
void reload_say_rules(const struct quota_rules *was, const struct quota_rules *is);
/* What was set in the running daemon and is not any more: of the options before. */
void reload_say_dropped(const struct options *was);

#endif
