/* SPDX-License-Identifier: MIT */
/*
 * What a reload says: a line for each setting that changed or will change; one line with the names of the
 * sections for users and groups that changed, of which there may be a thousand; and one with what Set had
 * set, since it is gone now and nothing else would say so. Lists of names end with how many more there are
 * when they are long.
 *
 * Cost: O(n log n) in the number of sections.
 */
#include "daemon/reload_said.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"

static const struct log_about about = { .event = LOG_RELOAD };

#define NAMES_ROOM 900u

struct names {
	char text[NAMES_ROOM];
	size_t n;
	unsigned int more; /* that did not fit */
};

__attribute__((format(printf, 2, 3))) static void names_add(struct names *l, const char *fmt, ...)
{
	char name[120];
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	n = strlen(name) + 2;
	if (l->more || l->n + n >= sizeof(l->text)) {
		l->more++;
		return;
	}
	l->n += (size_t)snprintf(l->text + l->n, sizeof(l->text) - l->n, "%s%s", l->n ? ", " : "", name);
}

static const char *names_end(struct names *l, char more[32])
{
	more[0] = '\0';
	if (l->more)
		snprintf(more, 32, " and %u more", l->more);
	return more;
}

/* ---- settings ---- */

void reload_say_changed(const struct setting *s, const struct options *was, const struct options *is)
{
	char a[SETTING_VALUE_MAX], b[SETTING_VALUE_MAX];

	setting_format(s, was, a, sizeof(a));
	setting_format(s, is, b, sizeof(b));
	log_event(LOG_LEVEL_NOTICE, &about, "[%s] %s = %s, was %s", s->section, s->key, b,
	          *a ? a : "not set");
}

void reload_say_later(const struct setting *s, const struct options *is, const struct options *o)
{
	char a[SETTING_VALUE_MAX], b[SETTING_VALUE_MAX];

	setting_format(s, is, a, sizeof(a));
	setting_format(s, o, b, sizeof(b));
	log_event(LOG_LEVEL_WARNING, &about,
	          "[%s] %s = %s: takes effect %s, until then it is %s", s->section, s->key,
	          *b ? b : "(the default)",
	          setting_of_pool(s) ? "when the pool is made anew (stop and start; not by a restart)" :
	                               "at the next start",
	          *a ? a : "(the default)");
}

/* ---- rules ---- */

static const char *kind_name(const struct quota_rule *rule)
{
	return rule->kind == QUOTA_USER ? "user" : "group";
}

static int compare(const void *a, const void *b)
{
	const struct quota_rule *p = *(const struct quota_rule *const *)a,
				*q = *(const struct quota_rule *const *)b;

	return p->kind != q->kind ? (int)p->kind - (int)q->kind : strcmp(p->name, q->name);
}

/* By kind and name; NULL: no memory, or none. */
static const struct quota_rule **sorted(const struct quota_rules *rules, size_t *n)
{
	const struct quota_rule **by_name;

	*n = rules ? rules->n : 0;
	by_name = *n ? calloc(*n, sizeof(const struct quota_rule *)) : NULL;
	if (!by_name) {
		*n = 0;
		return NULL;
	}
	for (size_t i = 0; i < *n; i++)
		by_name[i] = &rules->rule[i];
	qsort(by_name, *n, sizeof(const struct quota_rule *), compare);
	return by_name;
}

static bool same(const struct quota_rule *a, const struct quota_rule *b)
{
	return a->id == b->id && a->given == b->given &&
	       memcmp(&a->quota, &b->quota, sizeof(a->quota)) == 0;
}

void reload_say_rules(const struct quota_rules *was, const struct quota_rules *is)
{
	size_t nr_was, nr_is, i = 0, j = 0;
	const struct quota_rule **a = sorted(was, &nr_was), **b = sorted(is, &nr_is);
	struct names names = { .n = 0 };
	char more[32];

	while (i < nr_was || j < nr_is) {
		int c = i == nr_was ? 1 : j == nr_is ? -1 : compare(&a[i], &b[j]);

		if (c < 0)
			names_add(&names, "[%s %s] (no more)", kind_name(a[i]), a[i]->name);
		else if (c > 0)
			names_add(&names, "[%s %s] (new)", kind_name(b[j]), b[j]->name);
		else if (!same(a[i], b[j]))
			names_add(&names, "[%s %s]", kind_name(b[j]), b[j]->name);
		i += c <= 0;
		j += c >= 0;
	}
	free(a);
	free(b);
	if (!names.n)
		log_event(LOG_LEVEL_NOTICE, &about, "the order of [user NAME] and [group NAME] has changed");
	else
		log_event(LOG_LEVEL_NOTICE, &about, "rules have changed: %s%s", names.text,
		          names_end(&names, more));
}

/* ---- what was set ---- */

void reload_say_dropped(const struct options *was)
{
	const struct quota_rules *rules = was->user_rules;
	struct names names = { .n = 0 };
	char more[32];

	for (const struct setting *s = setting_table; s->key; s++)
		if (was->origin[s - setting_table] == OPTIONS_ORIGIN_SET)
			names_add(&names, "%s.%s", s->section, s->key);
	for (size_t i = 0; rules && i < rules->n; i++)
		for (uint32_t k = 0; k < QUOTA_KEYS; k++)
			if ((rules->rule[i].given >> k & 1) &&
			    rules->rule[i].origin[k] == OPTIONS_ORIGIN_SET)
				names_add(&names, "%s %s.%s", kind_name(&rules->rule[i]),
				          rules->rule[i].name, quota_key[k]);
	if (names.n)
		log_event(LOG_LEVEL_NOTICE, &about,
		          "what kmmctl set had changed is what the configuration says again: %s%s",
		          names.text, names_end(&names, more));
}
