/* SPDX-License-Identifier: MIT */
/*
 * Quotas by user: the rules, and which of them is a user's.
 *
 * At most QUOTA_RULES_MAX of them are one list in the file's order; a user is looked for when it comes, in
 * O(rules). What a rule does not say is [user]'s, which is looked up when somebody asks.
 */
#include "daemon/quota.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/options.h"
#include "daemon/quota_rules.h"
#include "daemon/user_groups.h"

const char *const quota_key[QUOTA_KEYS] = { "pages", "objects", "caches", "channels", "calls",
	                                    "sessions" };
_Static_assert(sizeof(struct quota) == QUOTA_KEYS * sizeof(uint64_t), "a number for each key");

/* Also `const`: who asks for a field reads it atomically. */
static uint64_t *quota_field(const struct quota *q, uint32_t key)
{
	return (uint64_t *)(uintptr_t)q + key;
}

int quota_key_find(const char *key)
{
	for (uint32_t i = 0; i < QUOTA_KEYS; i++)
		if (strcmp(quota_key[i], key) == 0)
			return (int)i;
	return -ENOENT;
}

/* ---- names ---- */

bool quota_name_known(enum quota_kind kind, const char *name, uint32_t *id)
{
	const struct passwd *pw = kind == QUOTA_USER ? getpwnam(name) : NULL;
	const struct group *gr = kind == QUOTA_GROUP ? getgrnam(name) : NULL;
	unsigned long v;
	char *end;

	if (pw || gr) {
		*id = pw ? pw->pw_uid : gr->gr_gid;
		return true;
	}
	if (*name < '0' || *name > '9')
		return false;
	errno = 0;
	v = strtoul(name, &end, 10);
	/* the last one stands for "nobody in particular" in the system's calls */
	if (errno || *end || v >= UINT32_MAX)
		return false;
	*id = (uint32_t)v;
	return true;
}

/* ---- which is whose ---- */

static const struct quota_rule *rule_of_user(const struct quota_rules *rules, uid_t uid)
{
	for (size_t i = 0; i < rules->n; i++)
		if (rules->rule[i].kind == QUOTA_USER && rules->rule[i].id == uid)
			return &rules->rule[i];
	return NULL;
}

static const struct quota_rule *rule_of_groups(const struct quota_rules *rules,
                                               const struct user_groups *groups)
{
	for (size_t i = 0; groups && i < rules->n; i++)
		if (rules->rule[i].kind == QUOTA_GROUP && user_groups_have(groups, rules->rule[i].id))
			return &rules->rule[i];
	return NULL;
}

/* NULL: [user] alone. */
static const struct quota_rule *rule_of(const struct options *o, uid_t uid,
                                        const struct user_groups *groups)
{
	const struct quota_rules *rules = OPTION_POINTER(o, user_rules);
	const struct quota_rule *rule;

	if (!rules)
		return NULL;
	rule = rule_of_user(rules, uid);
	return rule ? rule : rule_of_groups(rules, groups);
}

bool quota_has_groups(const struct options *o)
{
	const struct quota_rules *rules = OPTION_POINTER(o, user_rules);

	for (size_t i = 0; rules && i < rules->n; i++)
		if (rules->rule[i].kind == QUOTA_GROUP)
			return true;
	return false;
}

static void quota_fill(const struct options *o, const struct quota_rule *rule, struct quota *ret)
{
	for (uint32_t i = 0; i < QUOTA_KEYS; i++)
		*quota_field(ret, i) =
			rule && (rule->given >> i & 1) ?
				*quota_field(&rule->quota, i) :
				/* relaxed: see OPTION() */
				__atomic_load_n(quota_field(&o->user_default, i), __ATOMIC_RELAXED);
}

static void section_fill(const struct quota_rule *rule, uint32_t key, char *text, size_t size)
{
	if (rule && (rule->given >> key & 1))
		snprintf(text, size, "[%s %s]", rule->kind == QUOTA_USER ? "user" : "group",
		         rule->name);
	else
		snprintf(text, size, "[user]");
}

void quota_of(const struct options *o, uid_t uid, const struct user_groups *groups,
              struct quota *ret, char section[QUOTA_KEYS][QUOTA_SECTION_MAX])
{
	const struct quota_rule *rule = rule_of(o, uid, groups);

	quota_fill(o, rule, ret);
	for (uint32_t i = 0; i < QUOTA_KEYS; i++)
		section_fill(rule, i, section[i], QUOTA_SECTION_MAX);
}

/* ---- the list ---- */

struct quota_rules *quota_rules_free(struct quota_rules *rules)
{
	for (size_t i = 0; rules && i < rules->n; i++)
		free(rules->rule[i].name);
	free(rules);
	return NULL;
}

int quota_rules_copy(struct quota_rules **ret, const struct quota_rules *from)
{
	struct quota_rules *rules;

	if (!from) {
		*ret = NULL;
		return 0;
	}
	rules = calloc(1, sizeof(*rules) + from->n * sizeof(rules->rule[0]));
	if (!rules)
		return -ENOMEM;
	for (; rules->n < from->n; rules->n++) {
		rules->rule[rules->n] = from->rule[rules->n];
		rules->rule[rules->n].name = strdup(from->rule[rules->n].name);
		if (!rules->rule[rules->n].name) {
			quota_rules_free(rules);
			return -ENOMEM;
		}
	}
	*ret = rules;
	return 0;
}

bool quota_rules_equal(const struct quota_rules *a, const struct quota_rules *b)
{
	size_t n = a ? a->n : 0;

	if (n != (b ? b->n : 0))
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct quota_rule *p = &a->rule[i], *q = &b->rule[i];

		if (p->kind != q->kind || p->id != q->id || p->given != q->given ||
		    strcmp(p->name, q->name) != 0 ||
		    memcmp(&p->quota, &q->quota, sizeof(p->quota)) != 0)
			return false;
	}
	return true;
}

struct quota_rule *quota_rules_find(const struct quota_rules *rules, enum quota_kind kind,
                                    const char *name)
{
	/* From the end: a section's lines come one after the other. */
	for (size_t i = rules ? rules->n : 0; i-- > 0;)
		if (rules->rule[i].kind == kind && strcmp(rules->rule[i].name, name) == 0)
			return (struct quota_rule *)(uintptr_t)&rules->rule[i];
	return NULL;
}

struct quota_rule *quota_rules_add(struct quota_rules **rules, enum quota_kind kind,
                                   const char *name)
{
	struct quota_rule *rule = quota_rules_find(*rules, kind, name);
	size_t n = *rules ? (*rules)->n : 0;
	struct quota_rules *more;

	if (rule)
		return rule;
	more = realloc(*rules, sizeof(*more) + (n + 1) * sizeof(more->rule[0]));
	if (!more)
		return NULL;
	*rules = more;
	rule = &more->rule[n];
	*rule = (struct quota_rule){ .kind = kind, .name = strdup(name) };
	more->n = n;
	if (!rule->name)
		return NULL;
	more->n = n + 1;
	return rule;
}

void quota_rule_set(struct quota_rule *rule, uint32_t key, uint64_t value, uint32_t origin)
{
	*quota_field(&rule->quota, key) = value;
	rule->given |= 1u << key;
	rule->origin[key] = origin;
}

uint64_t quota_value(const struct quota *q, uint32_t key)
{
	return *quota_field(q, key);
}
