/* SPDX-License-Identifier: MIT */
/*
 * Objects for the integration tests (objects.h): contents, places, the daemon's account of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/objects.h"

/* ---- contents ---- */

_Atomic uint64_t objects_constructed;

void object_construct(void *p)
{
	memcpy(p, &(uint64_t){ OBJECT_MAGIC }, 8);
	atomic_fetch_add_explicit(&objects_constructed, 1, memory_order_relaxed);
}

static unsigned char pattern(uint64_t seed, size_t i)
{
	return (unsigned char)(((seed + 1) * 0x9e3779b97f4a7c15u + i * 0xd1b54a32d192ed03u) >> 56);
}

void object_fill(void *p, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		((unsigned char *)p)[i] = pattern(seed, i);
}

bool object_check(const void *p, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		if (((const unsigned char *)p)[i] != pattern(seed, i))
			return false;
	return true;
}

/* ---- places ---- */

uint64_t place_of(struct kmm *k, const void *p)
{
	uint64_t pfn = kmm_page_to_pfn(k, kmm_virt_to_page(k, p));

	must(pfn != UINT64_MAX);
	return pfn << KMM_PAGE_SHIFT | ((uintptr_t)p & (KMM_PAGE_SIZE - 1));
}

void *place_pointer(struct kmm *k, uint64_t place)
{
	struct kmm_page *page = kmm_pfn_to_page(k, place >> KMM_PAGE_SHIFT);
	char *p = page ? kmm_page_address(k, page) : NULL;

	must(p);
	return p + (place & (KMM_PAGE_SIZE - 1));
}

/* ---- what the daemon says ---- */

/* Calls fn for each line of slabinfo, until it says stop. */
static void rows_read(const struct daemon *d,
		      bool (*fn)(void *ctx, const char *name, const struct cache_row *row), void *ctx)
{
	static const char *const args[] = { "slabinfo", NULL };
	char *text, *line, *next;
	unsigned n = 0;

	must(daemon_ctl(d, &text, args) == 0);
	must(strncmp(text, "slabinfo - version: 2.1\n", 24) == 0);
	for (line = text; (next = strchr(line, '\n')) != NULL; line = next + 1) {
		struct cache_row r;
		char name[KMM_NAME_MAX + 1];

		*next = 0;
		if (n++ < 2)
			continue;
		must(sscanf(line,
			    "%63s %lu %lu %lu %lu %lu : tunables %lu %lu %lu : slabdata %lu %lu %lu",
			    name, &r.active, &r.objects, &r.size, &r.per_slab, &r.pages_per_slab,
			    &r.limit, &r.batchcount, &r.shared, &r.active_slabs, &r.slabs,
			    &r.available) == 12);
		if (fn(ctx, name, &r))
			break;
	}
	free(text);
}

struct wanted {
	const char *name;
	struct cache_row *row;
	bool found;
};

static bool row_by_name(void *ctx, const char *name, const struct cache_row *row)
{
	struct wanted *w = ctx;

	if (strcmp(name, w->name) != 0)
		return false;
	*w->row = *row;
	return w->found = true;
}

bool daemon_cache_row(const struct daemon *d, const char *name, struct cache_row *row)
{
	struct wanted w = { name, row, false };

	rows_read(d, row_by_name, &w);
	return w.found;
}

unsigned long daemon_cache_active(const struct daemon *d, const char *name)
{
	struct cache_row row;

	return daemon_cache_row(d, name, &row) ? row.active : 0;
}

static bool row_sum(void *ctx, const char *name, const struct cache_row *row)
{
	(void)name;
	*(unsigned long *)ctx += row->active;
	return false;
}

unsigned long daemon_objects_active(const struct daemon *d)
{
	unsigned long sum = 0;

	rows_read(d, row_sum, &sum);
	return sum;
}

/* The number behind "key": between the two places, -1 when it is not there. */
static long number_between(const char *from, const char *to, const char *key)
{
	char quoted[64];
	const char *p;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	p = strstr(from, quoted);
	return p && p < to ? strtol(p + strlen(quoted), NULL, 10) : -1;
}

/* The flat JSON objects of `kmmctl --json COMMAND` one by one, until fn says stop. */
static void items_read(const struct daemon *d, const char *command,
		       bool (*fn)(void *ctx, const char *from, const char *to), void *ctx)
{
	const char *const args[] = { "--json", command, NULL };
	char *text, *from, *to;

	must(daemon_ctl(d, &text, args) == 0);
	for (from = text; (from = strchr(from, '{')) != NULL; from = to) {
		to = strchr(from, '}');
		must(to);
		if (memchr(from + 1, '{', (size_t)(to - from) - 1)) /* an outer one */
			to = from + 1;
		else if (fn(ctx, from, to))
			break;
	}
	free(text);
}

static bool text_is(const char *from, const char *to, const char *key, const char *value)
{
	char wanted[2 * KMM_NAME_MAX];
	const char *p;

	snprintf(wanted, sizeof(wanted), "\"%s\":\"%s\"", key, value);
	p = strstr(from, wanted);
	if (!p || p > to) {
		snprintf(wanted, sizeof(wanted), "\"%s\": \"%s\"", key, value);
		p = strstr(from, wanted);
	}
	return p && p < to;
}

struct question {
	const char *cache, *key;
	kmm_session_id_t session;
	unsigned long answer;
};

static bool leak_of(void *ctx, const char *from, const char *to)
{
	struct question *q = ctx;

	if (number_between(from, to, "session") == (long)q->session &&
	    text_is(from, to, "cache", q->cache))
		q->answer += (unsigned long)number_between(from, to, "objects");
	return false;
}

unsigned long daemon_leak(const struct daemon *d, kmm_session_id_t session, const char *cache)
{
	struct question q = { .cache = cache, .session = session };

	items_read(d, "leaks", leak_of, &q);
	return q.answer;
}

static bool number_of(void *ctx, const char *from, const char *to)
{
	struct question *q = ctx;

	if (!text_is(from, to, "name", q->cache))
		return false;
	q->answer = (unsigned long)number_between(from, to, q->key);
	return true;
}

unsigned long daemon_cache_number(const struct daemon *d, const char *name, const char *key)
{
	struct question q = { .cache = name, .key = key };

	items_read(d, "slabinfo", number_of, &q);
	return q.answer;
}
