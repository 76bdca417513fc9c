/* SPDX-License-Identifier: MIT */
/*
 * From messages to values. A stream's items are gathered in a growing array; a message's lists have
 * the bounds of kmm.options, values beyond what a report has room for are dropped.
 */
#include "client/kmmctl/fetch_private.h"

#include <stdlib.h>
#include <string.h>

void *vector_add(struct vector *v)
{
	void *item;

	if (v->n == v->room) {
		size_t room = v->room ? 2 * v->room : 16;
		void *grown = reallocarray(v->item, room, v->size);

		if (!grown)
			return NULL;
		v->item = grown;
		v->room = room;
	}
	item = (char *)v->item + v->n++ * v->size;
	memset(item, 0, v->size);
	return item;
}

enum connection_result vector_finish(struct vector *v, enum connection_result result, void *ret,
                                     size_t *n)
{
	if (result != CONNECTION_OK) {
		free(v->item);
		return result;
	}
	memcpy(ret, &v->item, sizeof(v->item));
	*n = v->n;
	return CONNECTION_OK;
}

/* ---- calls and streams ---- */

/* A stream whose items are kept as they come, but for `clean`. */
struct list {
	struct vector v; /* first: what the stream's items are added to */
	void (*clean)(void *item);
};

static bool each_kept(void *ctx, const void *item)
{
	struct list *l = ctx;
	void *kept = vector_add(&l->v);

	if (!kept)
		return false;
	memcpy(kept, item, l->v.size);
	l->clean(kept);
	return true;
}

enum connection_result fetch_list(struct connection *c, kmm_v1_Method method,
                                  const pb_msgdesc_t *request_type, const void *request,
                                  const pb_msgdesc_t *item_type, size_t size,
                                  void (*clean)(void *item), void *ret, size_t *n)
{
	struct list l = { .v = { .size = size }, .clean = clean };
	void *item = calloc(1, size);
	enum connection_result result;

	if (!item)
		return CONNECTION_FAILED;
	result = connection_stream(c, method, request_type, request, item_type, item, each_kept,
	                           &l);
	free(item);
	return vector_finish(&l.v, result, ret, n);
}

/* ---- texts ---- */

/* Bytes of the valid UTF-8 character at s; 0: none, or a control character. */
static size_t character_length(const unsigned char *s)
{
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	uint32_t point;

	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	point = s[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (s[i] & 0x3f);
	}
	if (point < 0xa0 || (point >= 0xd800 && point < 0xe000) || point > 0x10ffff)
		return 0;
	if ((n == 3 && point < 0x800) || (n == 4 && point < 0x10000))
		return 0;
	return n;
}

void fetch_clean_text(char *text, bool lines)
{
	while (*text) {
		size_t n = character_length((const unsigned char *)text);

		if (n == 0) {
			if (!lines || (*text != '\n' && *text != '\t'))
				*text = '?';
			n = 1;
		}
		text += n;
	}
}

void fetch_copy_text(char *to, size_t room, const char *from)
{
	size_t n = strnlen(from, room - 1);

	memcpy(to, from, n);
	to[n] = '\0';
	fetch_clean_text(to, false);
}

bool fetch_copy_domain(char *to, size_t room, const char *domain)
{
	if (domain && strlen(domain) < room)
		strcpy(to, domain);
	return !domain || strlen(domain) < room;
}

/* ---- zones ---- */

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void copy_numbers(uint64_t *to, size_t room, const uint64_t *from, size_t n)
{
	memcpy(to, from, smaller(room, n) * sizeof(*to));
}

static void zone_from_message(struct report_zone *z, const kmm_v1_Zone *m)
{
	z->node = m->node;
	fetch_copy_text(z->name, sizeof(z->name), m->name);
	z->free = m->free;
	z->boost = m->boost;
	z->min = m->min;
	z->low = m->low;
	z->high = m->high;
	z->promo = m->promo;
	z->spanned = m->spanned;
	z->present = m->present;
	z->managed = m->managed;
	z->nr_protection = (uint32_t)smaller(m->protection_count, REPORT_PROTECTION_MAX);
	copy_numbers(z->protection, REPORT_PROTECTION_MAX, m->protection, m->protection_count);
	z->stat[0] = m->free;
	z->stat[1] = m->free_blocks;
	z->numa[0] = m->numa_hit;
	z->numa[1] = m->numa_miss;
	z->numa[2] = m->numa_foreign;
	z->numa[3] = m->numa_interleave;
	z->numa[4] = m->numa_local;
	z->numa[5] = m->numa_other;
	z->nr_pcp = (uint32_t)smaller(m->per_cpu_count, REPORT_CPUS_MAX);
	for (uint32_t i = 0; i < z->nr_pcp; i++) {
		const kmm_v1_PerCpu *p = &m->per_cpu[i];

		z->pcp[i] = (struct report_pcp){ p->cpu, p->count, p->high, p->batch, p->high_min,
		                                 p->high_max };
	}
	z->stat_threshold = m->stat_threshold;
	z->start_pfn = m->start_pfn;
	copy_numbers(z->nr_free, REPORT_ORDERS, m->nr_free, m->nr_free_count);
	copy_numbers(&z->nr_free_type[0][0], REPORT_TYPES * REPORT_ORDERS, m->nr_free_type,
	             m->nr_free_type_count);
	copy_numbers(z->pageblocks, REPORT_TYPES, m->pageblocks, m->pageblocks_count);
	z->alloc = m->alloc;
	z->freed = m->freed;
	z->fallback = m->fallback;
	z->steal = m->steal;
	z->claim = m->claim;
	z->alloc_fail = m->alloc_fail;
	z->nr_highatomic = m->nr_highatomic;
}

/* Behind the last zone of a node, unless the daemon has sent it. */
static bool add_device(struct vector *v)
{
	const struct report_zone *last;
	struct report_zone *device;

	if (v->n == 0)
		return true;
	last = (struct report_zone *)v->item + (v->n - 1);
	if (strcmp(last->name, REPORT_ZONE_DEVICE) == 0)
		return true;
	device = vector_add(v);
	if (!device)
		return false;
	last = device - 1; /* the array may have moved */
	device->node = last->node;
	strcpy(device->name, REPORT_ZONE_DEVICE);
	device->nr_protection = last->nr_protection;
	return true;
}

static bool each_zone(void *ctx, const void *item)
{
	const kmm_v1_Zone *m = item;
	struct vector *v = ctx;
	struct report_zone *z;

	if (v->n > 0 && ((struct report_zone *)v->item)[v->n - 1].node != m->node && !add_device(v))
		return false;
	z = vector_add(v);
	if (z)
		zone_from_message(z, m);
	return z != NULL;
}

enum connection_result fetch_zones(struct connection *c, const char *domain,
                                   struct report_zone **ret, size_t *n)
{
	struct vector v = { .size = sizeof(struct report_zone) };
	enum connection_result result;

	result = FETCH_STREAM(c, domain, INSPECTOR_LIST_ZONES, ListZones, Zone, each_zone, &v);
	if (result == CONNECTION_OK && !add_device(&v))
		result = CONNECTION_FAILED;
	return vector_finish(&v, result, ret, n);
}

/* ---- sessions ---- */

static void clean_session(void *item)
{
	kmm_v1_Session *s = item;

	fetch_clean_text(s->name, false);
	fetch_clean_text(s->state, false);
	fetch_clean_text(s->domain, false);
	fetch_clean_text(s->last_error, false);
	for (pb_size_t i = 0; i < s->cache_count; i++)
		fetch_clean_text(s->cache[i].name, false);
}

enum connection_result fetch_sessions(struct connection *c, const char *domain,
                                      kmm_v1_Session **ret, size_t *n)
{
	return FETCH_DOMAIN(c, domain, INSPECTOR_LIST_SESSIONS, ListSessions, Session,
	                    clean_session, ret, n);
}

enum connection_result fetch_session(struct connection *c, uint32_t id, kmm_v1_Session *ret)
{
	kmm_v1_GetSessionRequest request = { .session = id };
	enum connection_result result;
	kmm_v1_Session s;

	result = FETCH_CALL(c, INSPECTOR_GET_SESSION, GetSession, &request, Session, &s);
	if (result == CONNECTION_OK) {
		clean_session(&s);
		*ret = s;
	}
	return result;
}

enum connection_result fetch_kill(struct connection *c, uint32_t id)
{
	kmm_v1_KillSessionRequest request = { .session = id };
	kmm_v1_KillSessionReply reply;

	return FETCH_CALL(c, ADMIN_KILL_SESSION, KillSession, &request, KillSessionReply, &reply);
}

/* ---- caches of objects ---- */

static void clean_cache(void *item)
{
	fetch_clean_text(((kmm_v1_Cache *)item)->name, false);
}

enum connection_result fetch_caches(struct connection *c, const char *domain, kmm_v1_Cache **ret,
                                    size_t *n)
{
	return FETCH_DOMAIN(c, domain, INSPECTOR_LIST_CACHES, ListCaches, Cache, clean_cache, ret, n);
}

static void clean_leak(void *item)
{
	kmm_v1_Leak *l = item;

	fetch_clean_text(l->name, false);
	fetch_clean_text(l->state, false);
	fetch_clean_text(l->cache, false);
}

enum connection_result fetch_leaks(struct connection *c, const char *domain, kmm_v1_Leak **ret,
                                   size_t *n)
{
	return FETCH_DOMAIN(c, domain, INSPECTOR_LIST_LEAKS, ListLeaks, Leak, clean_leak, ret, n);
}

static void clean_name(void *item)
{
	kmm_v1_Name *m = item;

	fetch_clean_text(m->name, false);
	fetch_clean_text(m->cache, false);
}

enum connection_result fetch_names(struct connection *c, const char *domain, kmm_v1_Name **ret,
                                   size_t *n)
{
	return FETCH_DOMAIN(c, domain, INSPECTOR_LIST_NAMES, ListNames, Name, clean_name, ret, n);
}

enum connection_result fetch_shrink(struct connection *c, const char *cache,
                                    kmm_v1_ShrinkCacheReply *ret)
{
	kmm_v1_ShrinkRequest request = kmm_v1_ShrinkRequest_init_zero;

	memcpy(request.cache, cache, strnlen(cache, sizeof(request.cache) - 1));
	return FETCH_CALL(c, ADMIN_SHRINK, Shrink, &request, ShrinkCacheReply, ret);
}

/* ---- health, methods, fsck, drop-caches ---- */

enum connection_result fetch_health(struct connection *c, kmm_v1_CheckReply *ret)
{
	kmm_v1_CheckRequest request = kmm_v1_CheckRequest_init_zero;
	enum connection_result result;
	kmm_v1_CheckReply reply;

	result = FETCH_CALL(c, HEALTH_CHECK, Check, &request, CheckReply, &reply);
	if (result == CONNECTION_OK) {
		fetch_clean_text(reply.text, true);
		fetch_clean_text(reply.backing, true);
		fetch_clean_text(reply.advice, true);
		fetch_clean_text(reply.version, false);
		*ret = reply;
	}
	return result;
}

static void clean_method(void *item)
{
	kmm_v1_MethodInfo *m = item;

	fetch_clean_text(m->name, false);
	fetch_clean_text(m->request, true);
	fetch_clean_text(m->reply, true);
}

enum connection_result fetch_methods(struct connection *c, const char *name,
                                     kmm_v1_MethodInfo **ret, size_t *n)
{
	kmm_v1_ListMethodsRequest request = kmm_v1_ListMethodsRequest_init_zero;

	fetch_copy_text(request.name, sizeof(request.name), name);
	return FETCH_LIST(c, HEALTH_LIST_METHODS, ListMethods, &request, MethodInfo, clean_method,
	                  ret, n);
}

static void clean_finding(void *item)
{
	fetch_clean_text(((kmm_v1_Finding *)item)->text, false);
}

enum connection_result fetch_findings(struct connection *c, kmm_v1_Finding **ret, size_t *n)
{
	kmm_v1_FsckRequest request = kmm_v1_FsckRequest_init_zero;

	return FETCH_LIST(c, ADMIN_FSCK, Fsck, &request, Finding, clean_finding, ret, n);
}

static void clean_compacted(void *item)
{
	fetch_clean_text(((kmm_v1_Compacted *)item)->zone, false);
}

enum connection_result fetch_compact(struct connection *c, const char *domain, kmm_v1_Compacted **ret,
                                     size_t *n)
{
	return FETCH_DOMAIN(c, domain, ADMIN_COMPACT, Compact, Compacted, clean_compacted, ret, n);
}

enum connection_result fetch_drop_caches(struct connection *c, kmm_v1_DropCachesReply *ret)
{
	kmm_v1_DropCachesRequest request = kmm_v1_DropCachesRequest_init_zero;

	return FETCH_CALL(c, ADMIN_DROP_CACHES, DropCaches, &request, DropCachesReply, ret);
}
