/* SPDX-License-Identifier: MIT */
/*
 * Changing settings of the running daemon: all of them by reading the configuration again (SIGHUP), one
 * by Admin.Set.
 *
 * Both make a whole new struct options first, the same way as at the start, and check it as a whole. Is
 * anything wrong, it is said and thrown away: nothing has changed. Else each live setting that differs
 * is exchanged with the one in force (setting_exchange); what cannot change in a running daemon is
 * named, and is in force from the next start on. Then those are told who keep something made of the
 * options (reload_tell).
 *
 * What was exchanged has the old texts, lists and rules, at which other threads may be looking. It is
 * freed when each reactor has run once more and the worker after them (reactor_broadcast): they look
 * only while they serve something. When there is no memory for that it is kept to the end.
 *
 * A setting that was set lasts until the daemon ends or reads its configuration again: the file and the
 * command line say what there is to be.
 */
#include "daemon/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon/access.h"
#include "daemon/config.h"
#include "daemon/http.h"
#include "daemon/kmmd.h"
#include "daemon/listener.h"
#include "daemon/log.h"
#include "daemon/pool.h"
#include "daemon/quota_rules.h"
#include "daemon/reload_said.h"
#include "daemon/user.h"

static const struct log_about about = { .event = LOG_RELOAD };

/* What was replaced. */
struct retired {
	struct retired *next;
	struct options *options;
	struct access_rules *access;
};

struct reload {
	struct kmmd *kmmd;
	const struct listener *listener;
	int argc;
	char **argv;
	struct options *read; /* what was read last, its live settings exchanged; NULL: not yet */
	struct retired *kept; /* those that could not be freed */
};

struct reload_count {
	unsigned int changed, later;
};

/* ---- what was replaced ---- */

static void retired_free(void *arg)
{
	struct retired *old = arg;

	options_free(old->options);
	access_rules_free(old->access);
	free(old);
}

/* Whoever runs it looks at nothing from before any more. */
static void reactor_pass(struct reactor *reactor, void *arg)
{
	(void)reactor;
	(void)arg;
}

static void retire(struct reload *r, struct options *o, struct access_rules *access)
{
	struct retired *old;

	if (!o && !access)
		return;
	old = calloc(1, sizeof(*old));
	if (!old) {
		/* both are small, and memory is short for everybody by now */
		log_event(LOG_LEVEL_ERROR, &about, "out of memory: what a reload replaced is not freed");
		return;
	}
	old->options = o;
	old->access = access;
	if (reactor_broadcast(r->kmmd, reactor_pass, retired_free, old) == 0)
		return;
	old->next = r->kept;
	r->kept = old;
}

/* ---- putting options in force ---- */

/* Those who made something of the options. */
static struct access_rules *reload_tell(struct reload *r)
{
	struct kmmd *k = r->kmmd;
	struct access_rules *old = NULL;

	log_init(k->options->log_level);
	log_set_limits(OPTION(k->options, log_refusals), OPTION(k->options, log_sessions));
	if (access_reload(k->access, k->options, &old) < 0)
		log_event(LOG_LEVEL_ERROR, &about, "out of memory: [access] stays as it was");
	listener_reload(r->listener, k->options);
	http_reload(k);
	user_table_reload(k);
	return old;
}

/* Afterwards `o` has what was in force, and of what is not live what was wanted. */
static struct reload_count reload_exchange(struct options *now, struct options *o, bool say)
{
	struct reload_count n = { 0 };
	struct quota_rules *rules;

	for (const struct setting *s = setting_table; s->key; s++) {
		size_t i = (size_t)(s - setting_table);
		bool equal = setting_equal(s, now, o);

		if (!equal && !s->live) {
			if (say)
				reload_say_later(s, now, o);
			n.later++;
			continue;
		}
		now->origin[i] = o->origin[i];
		if (equal)
			continue;
		setting_exchange(s, now, o);
		if (say)
			reload_say_changed(s, o, now);
		n.changed++;
	}
	if (!quota_rules_equal(now->user_rules, o->user_rules)) {
		if (say)
			reload_say_rules(now->user_rules, o->user_rules);
		n.changed++;
	}
	/* always: their lines may be others. acq_rel: see OPTION_POINTER() */
	rules = __atomic_exchange_n(&now->user_rules, o->user_rules, __ATOMIC_ACQ_REL);
	o->user_rules = rules;
	return n;
}

/* ---- all of it ---- */

static void say_error(void *ctx, const char *text)
{
	(void)ctx;
	log_event(LOG_LEVEL_ERROR, &about, "%s", text);
}

static void notify_reloading(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
	           (unsigned long long)t.tv_sec * 1000000 + (unsigned long long)t.tv_nsec / 1000);
}

void reload_all(struct reload *r)
{
	struct options *o, *now = r->kmmd->options;
	struct access_rules *access;
	struct reload_count n;
	int e;

	notify_reloading();
	e = options_parse_again(&o, r->argc, r->argv, say_error, NULL);
	if (e < 0) {
		log_event(LOG_LEVEL_ERROR, &about,
		          "the configuration was read again and refused: nothing has changed");
	} else {
		reload_say_dropped(now);
		n = reload_exchange(now, o, true);
		access = reload_tell(r);
		log_event(LOG_LEVEL_NOTICE, &about,
		          "the configuration was read again: %u settings changed, %u take effect at "
		          "the next start",
		          n.changed, n.later);
		retire(r, r->read, access);
		r->read = o;
	}
	sd_notify(0, "READY=1");
}

/* ---- one ---- */

/* The first thing that is wrong is what the caller is told. */
struct set_said {
	char *text;
	bool said;
};

static void say_set(void *ctx, const char *text)
{
	struct set_said *said = ctx;

	if (!said->said)
		snprintf(said->text, RELOAD_TEXT, "%s", text);
	said->said = true;
}

/* "limits.pages", "user alice.pages": at the last dot, since names may have some. */
static bool set_split(const char *key, char section[64], const char **rest)
{
	const char *dot = strrchr(key, '.');

	if (!dot || dot == key || !dot[1] || (size_t)(dot - key) >= 64)
		return false;
	memcpy(section, key, (size_t)(dot - key));
	section[dot - key] = '\0';
	*rest = dot + 1;
	return true;
}

static bool is_rule(const char *section)
{
	return strncmp(section, "user ", 5) == 0 || strncmp(section, "group ", 6) == 0;
}

static int set_refused(struct reload *r, const struct setting *s, char text[RELOAD_TEXT])
{
	const char *config = r->kmmd->options->config;

	snprintf(text, RELOAD_TEXT, "[%s] %s cannot change in a running daemon: set it in %s and %s",
	         s->section, s->key, config ? config : "a configuration file",
	         setting_of_pool(s) ? "stop and start the daemon, which ends the pool; a restart keeps "
	                              "the pool as it was made" :
	                              "restart the daemon");
	return -EBUSY;
}

/* "user.alice.pages" is meant to be "user alice.pages". */
static int set_unknown(const char *section, const char *name, const char *key, char text[RELOAD_TEXT])
{
	const char *dot = strchr(section, '.');
	int kind = dot ? (int)(dot - section) : 0;

	if (dot && dot[1] && setting_find("user", name) &&
	    (strncmp(section, "user.", 5) == 0 || strncmp(section, "group.", 6) == 0))
		snprintf(text, RELOAD_TEXT,
		         "there is no setting %.64s; of one %.*s it is named '%.*s %.48s.%s', in quotes",
		         key, kind, section, kind, section, dot + 1, name);
	else
		snprintf(text, RELOAD_TEXT,
		         "there is no setting %.64s; kmmctl settings lists them", key);
	return -ENOENT;
}

/* A socket's path makes a directory, and a file of the daemon's owner anywhere: that is for whoever may
 * write the configuration, not for all whom [access] admins names. */
static bool set_allowed(const struct setting *s, uid_t uid, const char *value)
{
	return s->offset != offsetof(struct options, metrics_listen) || *value != '/' || uid == 0 ||
	       uid == geteuid();
}

/* What a rule says of it now; "" nothing. */
static void rule_format(const struct reload *r, const char *section, const char *name, char *text,
                        size_t size)
{
	enum quota_kind kind = *section == 'u' ? QUOTA_USER : QUOTA_GROUP;
	const struct quota_rules *rules = r->kmmd->options->user_rules;
	const char *who = strchr(section, ' ');
	const struct quota_rule *rule = rules ? quota_rules_find(rules, kind, who + strspn(who, " \t")) : NULL;
	int key = quota_key_find(name);

	*text = '\0';
	if (rule && key >= 0 && (rule->given >> key & 1))
		snprintf(text, size, "%llu",
		         (unsigned long long)quota_value(&rule->quota, (uint32_t)key));
	else if (key >= 0)
		snprintf(text, size, "not set, so [user] %s = %llu", name,
		         (unsigned long long)quota_value(&r->kmmd->options->user_default,
		                                         (uint32_t)key));
}

int reload_set(struct reload *r, uid_t uid, const char *key, const char *value, char text[RELOAD_TEXT])
{
	struct set_said said = { .text = text };
	const struct setting *s;
	char section[64], was[SETTING_VALUE_MAX] = "";
	struct options *o;
	const char *name;
	int e;

	snprintf(text, RELOAD_TEXT, "the daemon is out of memory");
	if (!set_split(key, section, &name)) {
		snprintf(text, RELOAD_TEXT,
		         "%.64s: a setting is named SECTION.KEY, such as limits.pages; kmmctl "
		         "settings lists them",
		         key);
		return -ENOENT;
	}
	s = setting_find(section, name);
	if (!s && !is_rule(section))
		return set_unknown(section, name, key, text);
	if (s && !s->live)
		return set_refused(r, s, text);
	if (s && !set_allowed(s, uid, value)) {
		snprintf(text, RELOAD_TEXT,
		         "[metrics] listen can be set to a path by root and the daemon's own user alone; "
		         "127.0.0.1:PORT and [::1]:PORT are for all admins");
		return -EPERM;
	}
	if (s)
		setting_format(s, r->kmmd->options, was, sizeof(was));
	else
		rule_format(r, section, name, was, sizeof(was));
	if (options_copy(&o, r->kmmd->options) < 0)
		return -ENOMEM;
	o->say = say_set;
	o->say_ctx = &said;
	e = config_apply(o, "", OPTIONS_ORIGIN_SET, section, name, value, false);
	if (!e)
		e = options_check(o);
	o->say = NULL;
	if (e < 0) {
		options_free(o);
		return e;
	}
	reload_exchange(r->kmmd->options, o, false);
	retire(r, o, reload_tell(r));
	snprintf(text, RELOAD_TEXT,
	         "%.64s = %.100s%s%.100s; until the daemon ends or reads its configuration again", key,
	         value, *was ? ", was " : "", was);
	return 0;
}

/* ---- telling ---- */

static void item_setting(const struct reload *r, const struct setting *s, struct reload_item *item)
{
	const struct options *o = r->kmmd->options;

	snprintf(item->section, sizeof(item->section), "%s", s->section);
	snprintf(item->key, sizeof(item->key), "%s", s->key);
	item->setting = s;
	options_effective(o, s, item->value, sizeof(item->value));
	options_origin_text(o, o->origin[s - setting_table], s, item->from, sizeof(item->from));
	if (!s->live && r->read && !setting_equal(s, o, r->read))
		options_effective(r->read, s, item->next, sizeof(item->next));
}

static size_t item_rule(const struct reload *r, const struct quota_rule *rule,
                        struct reload_item *item)
{
	size_t n = 0;

	for (uint32_t i = 0; i < QUOTA_KEYS; i++) {
		if (!(rule->given >> i & 1))
			continue;
		snprintf(item[n].section, sizeof(item[n].section), "%s %s",
		         rule->kind == QUOTA_USER ? "user" : "group", rule->name);
		snprintf(item[n].key, sizeof(item[n].key), "%s", quota_key[i]);
		snprintf(item[n].value, sizeof(item[n].value), "%llu",
		         (unsigned long long)quota_value(&rule->quota, i));
		options_origin_text(r->kmmd->options, rule->origin[i], NULL, item[n].from,
		                    sizeof(item[n].from));
		item[n].setting = setting_find("user", quota_key[i]);
		n++;
	}
	return n;
}

int reload_list(const struct reload *r, struct reload_item **ret, size_t *count)
{
	const struct quota_rules *rules = r->kmmd->options->user_rules;
	size_t room = OPTIONS_SETTINGS_MAX + (rules ? rules->n * QUOTA_KEYS : 0), n = 0;
	struct reload_item *item = calloc(room, sizeof(*item));

	if (!item)
		return -ENOMEM;
	for (const struct setting *s = setting_table; s->key; s++)
		item_setting(r, s, &item[n++]);
	for (size_t i = 0; rules && i < rules->n; i++)
		n += item_rule(r, &rules->rule[i], &item[n]);
	*ret = item;
	*count = n;
	return 0;
}

/* ---- life ---- */

/* The pool is as it was made, whatever the file says by now: that is what is in force, and the file's is
 * for the next pool. */
static int options_of_pool(struct reload *r)
{
	struct options *o = r->kmmd->options;
	const struct pool *pool = r->kmmd->pool;
	uint64_t section = UINT64_C(1) << (pool->section_order + PAGE_SHIFT);

	if (!pool->recovered)
		return 0;
	if (options_copy(&r->read, o) < 0)
		return -ENOMEM;
	if (options_section(o) != section) {
		o->section_size = section;
		o->origin[setting_find("pool", "section_size") - setting_table] = OPTIONS_ORIGIN_POOL;
	}
	if (o->pool_size != pool_present(pool) << PAGE_SHIFT) {
		o->pool_size = pool_present(pool) << PAGE_SHIFT;
		o->origin[setting_find("pool", "size") - setting_table] = OPTIONS_ORIGIN_POOL;
	}
	if (options_pool_most(o) != pool->frames << PAGE_SHIFT) {
		o->pool_max = pool->frames << PAGE_SHIFT;
		o->origin[setting_find("pool", "max_size") - setting_table] = OPTIONS_ORIGIN_POOL;
	}
	if (o->nodes != pool->superblock->nodes) {
		o->nodes = pool->superblock->nodes;
		o->origin[setting_find("pool", "nodes") - setting_table] = OPTIONS_ORIGIN_POOL;
	}
	return 0;
}

int reload_new(struct reload **ret, struct kmmd *kmmd, const struct listener *listener, int argc,
               char *argv[])
{
	struct reload *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->kmmd = kmmd;
	r->listener = listener;
	r->argc = argc;
	r->argv = argv;
	if (options_of_pool(r) < 0) {
		free(r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

struct reload *reload_free(struct reload *r)
{
	if (!r)
		return NULL;
	while (r->kept) {
		struct retired *old = r->kept;

		r->kept = old->next;
		retired_free(old);
	}
	options_free(r->read);
	free(r);
	return NULL;
}
