/* SPDX-License-Identifier: MIT */
/*
 * Making, comparing and copying rules for users: for what reads, prints and exchanges options.
 */
#ifndef DAEMON_QUOTA_RULES_H
#define DAEMON_QUOTA_RULES_H

#include "daemon/quota.h"

#define QUOTA_RULES_MAX 1024u /* [user NAME] and [group NAME] in all */

/* The number of a key, or -ENOENT. */
int quota_key_find(const char *key);
uint64_t quota_value(const struct quota *q, uint32_t key);
/* A name that the machine knows, or a number. */
bool quota_name_known(enum quota_kind kind, const char *name, uint32_t *id);

/* The one of that name, or NULL. */
struct quota_rule *quota_rules_find(const struct quota_rules *rules, enum quota_kind kind,
                                    const char *name);
/* The same, made at the end when there is none; NULL: no memory. Its id is unset. */
struct quota_rule *quota_rules_add(struct quota_rules **rules, enum quota_kind kind,
                                   const char *name);
void quota_rule_set(struct quota_rule *rule, uint32_t key, uint64_t value, uint32_t origin);
struct quota_rules *quota_rules_free(struct quota_rules *rules);
int quota_rules_copy(struct quota_rules **ret, const struct quota_rules *from);
bool quota_rules_equal(const struct quota_rules *a, const struct quota_rules *b);

#endif
