/* SPDX-License-Identifier: MIT */
/*
 * What makes sense only together: settings against each other, and names against the machine. All that
 * is wrong is said, each with where it was set and with the other setting that it does not go with, so
 * that one look mends a file.
 */
#include "daemon/options.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/access.h"
#include "daemon/cpu_list.h"
#include "daemon/http_address.h"
#include "daemon/quota_rules.h"
#include "daemon/setting.h"
#include "mm/types.h"

struct checker {
	const struct options *o;
	unsigned int errors;
};

/* Notes a setting that is no good together with others, and says where it came from. */
__attribute__((format(printf, 4, 5))) static void
refuse(struct checker *c, const char *section, const char *key, const char *fmt, ...)
{
	const struct setting *s = setting_find(section, key);
	uint32_t origin = c->o->origin[s - setting_table];
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->errors++;
	if (origin == OPTIONS_ORIGIN_COMMAND_LINE)
		options_say(c->o, "--%s %s", s->option, text);
	else if (origin == OPTIONS_ORIGIN_DEFAULT)
		options_say(c->o, "[%s] %s (default) = %s", section, key, text);
	else if (origin == OPTIONS_ORIGIN_SET)
		options_say(c->o, "[%s] %s = %s", section, key, text);
	else
		options_say(c->o, "%s:%u: [%s] %s = %s", c->o->config, origin, section, key, text);
}

static bool is_power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* clamp(power of two >= pool / 512, 4 MiB, 1 GiB), unless it is set; huge pages of 1 GiB need all. As
 * pool_geometry.c has it. */
uint64_t options_section(const struct options *o)
{
	uint64_t size = UINT64_C(4) << 20;

	if (o->section_size)
		return o->section_size;
	if (o->huge_page_size == UINT64_C(1) << 30 && o->backing != SHM_THP && o->backing != SHM_4K)
		return UINT64_C(1) << 30;
	while (size < options_pool_most(o) / 512 && size < UINT64_C(1) << 30)
		size <<= 1;
	return size;
}

uint64_t options_pool_most(const struct options *o)
{
	return o->pool_max > o->pool_size ? o->pool_max : o->pool_size;
}

struct size_text {
	char text[32];
};

static struct size_text size_text(uint64_t size)
{
	struct size_text t;

	setting_format_size(t.text, sizeof(t.text), size);
	return t;
}
#define SIZE(v) (size_text(v).text)

static void check_pool(struct checker *c)
{
	const struct options *o = c->o;
	uint64_t pool = o->pool_size, section = options_section(o), n = pool / section;

	if (!is_power_of_two(section)) {
		refuse(c, "pool", "section_size",
		       "%s: not allowed; it takes a power of two from 4M to 1G", SIZE(section));
		return; /* the rest hangs on it */
	}
	if (pool % section)
		refuse(c, "pool", "size", "%s: no multiple of the section size, %s", SIZE(pool),
		       SIZE(section));
	if (o->pool_max && o->pool_max < pool)
		refuse(c, "pool", "max_size", "%s: smaller than size, %s", SIZE(o->pool_max), SIZE(pool));
	else if (o->pool_max % section)
		refuse(c, "pool", "max_size", "%s: no multiple of the section size, %s",
		       SIZE(o->pool_max), SIZE(section));
	else if (o->pool_max / section > MAX_SECTIONS)
		refuse(c, "pool", "max_size",
		       "%s: makes %u sections of %s; up to %u are possible, set another section size",
		       SIZE(o->pool_max), (unsigned int)(o->pool_max / section), SIZE(section),
		       MAX_SECTIONS);
	if (n > MAX_SECTIONS || n < 2)
		refuse(c, "pool", "size",
		       "%s: makes %u sections of %s; 2 to %u are possible, set another section size",
		       SIZE(pool), (unsigned int)n, SIZE(section), MAX_SECTIONS);
	else if (n < o->nodes)
		refuse(c, "pool", "nodes", "%u: more than the pool's %u sections", o->nodes,
		       (unsigned int)n);
	if (o->dma_size > o->dma32_size)
		refuse(c, "pool", "dma_size", "%s: larger than dma32_size, %s", SIZE(o->dma_size),
		       SIZE(o->dma32_size));
	if (o->highmem != OPTIONS_HIGHMEM_DEFAULT && o->highmem >= pool)
		refuse(c, "pool", "highmem", "%s: as much as the pool, %s, or more",
		       SIZE(o->highmem), SIZE(pool));
	if (o->movable >= pool)
		refuse(c, "pool", "movable", "%s: as much as the pool, %s, or more",
		       SIZE(o->movable), SIZE(pool));
}

static void check_huge_pages(struct checker *c)
{
	const struct options *o = c->o;

	if (o->huge_page_size != UINT64_C(2) << 20 && o->huge_page_size != UINT64_C(1) << 30)
		refuse(c, "pool", "huge_page_size", "%s: not allowed; it takes 2M or 1G",
		       SIZE(o->huge_page_size));
	else if ((o->backing == SHM_HUGETLB_2M || o->dma_backing == SHM_HUGETLB_2M ||
	          o->dma32_backing == SHM_HUGETLB_2M || o->normal_backing == SHM_HUGETLB_2M) &&
	         options_section(o) % o->huge_page_size)
		refuse(c, "pool", "huge_page_size", "%s: larger than a section, %s",
		       SIZE(o->huge_page_size), SIZE(options_section(o)));
}

static void check_daemon(struct checker *c)
{
	const struct options *o = c->o;
	cpu_set_t allowed, both;
	char text[200];

	if (!o->socket) {
		c->errors++;
		options_say(o, "no place to listen at: XDG_RUNTIME_DIR is not set and neither "
		               "--socket nor [daemon] socket is given");
	} else if (o->socket[0] != '/' || strlen(o->socket) > 107) {
		refuse(c, "daemon", "socket",
		       "%.120s: not allowed; it takes a path of at most 107 bytes that begins with /",
		       o->socket);
	}
	if (o->socket_group && !getgrnam(o->socket_group))
		refuse(c, "daemon", "socket_group", "%s: there is no such group", o->socket_group);
	if (!o->cpus)
		return;
	cpu_list_allowed(&allowed);
	cpu_list_read(o->cpus, &both);
	CPU_AND(&both, &both, &allowed);
	cpu_list_write(&allowed, text, sizeof(text));
	if (CPU_COUNT(&both) == 0)
		refuse(c, "daemon", "cpus", "%s: it may run on none of these; it may on %s", o->cpus,
		       text);
}

static void check_metrics(struct checker *c)
{
	const char *listen = c->o->metrics_listen, *why;
	struct http_address a;

	if (!listen || !*listen)
		return;
	if (http_address_parse(&a, listen, &why) < 0)
		refuse(c, "metrics", "listen", "%.120s: not allowed: %s", listen, why);
	else if (c->o->socket && strcmp(listen, c->o->socket) == 0)
		refuse(c, "metrics", "listen", "%.120s: is the daemon's own socket", listen);
}

static void check_names(struct checker *c, const char *key, char *const *name)
{
	for (; name && *name; name++)
		if (!access_name_known(*name))
			refuse(c, "access", key, "%.64s: there is no such %s", *name,
			       **name == '@' ? "group" : "user");
}

/* One user by two names: which of them is meant? */
static void check_rules(struct checker *c)
{
	const struct quota_rules *rules = c->o->user_rules;

	for (size_t i = 0; rules && i < rules->n; i++)
		for (size_t j = 0; j < i; j++) {
			const struct quota_rule *a = &rules->rule[j], *b = &rules->rule[i];
			const char *kind = a->kind == QUOTA_USER ? "user" : "group";

			if (a->kind != b->kind || a->id != b->id)
				continue;
			c->errors++;
			options_say(c->o, "[%s %s]: is the same %s as [%s %s]; one section is enough",
			            kind, b->name, kind, kind, a->name);
		}
}

int options_check(const struct options *o)
{
	struct checker c = { .o = o };

	check_pool(&c);
	check_huge_pages(&c);
	check_daemon(&c);
	check_metrics(&c);
	if (o->holders_session_max > o->holders_max)
		refuse(&c, "limits", "holders_per_session", "%u: larger than holders, %u",
		       o->holders_session_max, o->holders_max);
	check_names(&c, "users", o->access_users);
	check_names(&c, "inspectors", o->access_inspectors);
	check_names(&c, "admins", o->access_admins);
	check_rules(&c);
	return c.errors ? -EINVAL : 0;
}
