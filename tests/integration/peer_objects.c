/* SPDX-License-Identifier: MIT */
/*
 * A peer's half of objects.h: caches by number, objects by place.
 */
#include <errno.h>
#include <stdlib.h>

#include "tests/integration/objects.h"

#define CACHES 64
#define HOARD (1 << 18)

static struct kmm_cache *cache[CACHES];
static void *hoard[HOARD];
static size_t hoarded;

static struct kmm_cache *cache_by(uint64_t number)
{
	must(number < CACHES && cache[number]);
	return cache[number];
}

static int64_t cache_add(struct kmm_cache *c)
{
	int64_t i = 0;

	if (!c)
		return -errno;
	while (cache[i])
		must(++i < CACHES);
	cache[i] = c;
	return i;
}

static int64_t cache_remove(uint64_t number)
{
	int r = kmm_cache_destroy(cache_by(number));

	if (r == 0)
		cache[number] = NULL;
	return r;
}

static int64_t place_or_error(struct kmm *k, const void *p)
{
	return p ? (int64_t)place_of(k, p) : -errno;
}

static int64_t handle_or_error(kmm_handle_t handle)
{
	return handle ? (int64_t)handle : -errno;
}

static int64_t object_release(struct kmm *k, uint64_t number, void *p)
{
	return number == PEER_NO_CACHE ? kmm_kfree(k, p) : kmm_cache_free(cache_by(number), p);
}

static int64_t hoard_fill(uint64_t number, kmm_gfp_t gfp, uint64_t n)
{
	struct kmm_cache *c = cache_by(number);
	size_t before = hoarded;

	while (n-- > 0) {
		must(hoarded < HOARD);
		hoard[hoarded] = kmm_cache_alloc(c, gfp);
		if (!hoard[hoarded])
			break;
		hoarded++;
	}
	return hoarded > before ? (int64_t)hoarded : -errno;
}

static int64_t hoard_release(struct kmm *k, uint64_t number, uint64_t n, bool bulk)
{
	n = n < hoarded ? n : hoarded;
	hoarded -= n;
	if (bulk)
		return kmm_cache_free_bulk(cache_by(number), n, hoard + hoarded);
	for (size_t i = 0; i < n; i++) {
		int64_t r = object_release(k, number, hoard[hoarded + i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int64_t churn(uint64_t number, size_t n)
{
	struct kmm_cache *c = cache_by(number);
	void **p = calloc(n, sizeof(*p));
	int r = 0;

	must(p);
	for (size_t i = 0; i < n; i++)
		must((p[i] = kmm_cache_alloc(c, KMM_GFP_KERNEL)) != NULL);
	for (size_t i = 0; i < n && r == 0; i++)
		r = kmm_cache_free(c, p[i]);
	free(p);
	return r;
}

int64_t peer_run_objects(struct kmm *k, const struct peer_command *c)
{
	switch ((enum peer_object_op)c->op) {
	case PEER_CACHE_CREATE:
		return cache_add(kmm_cache_create(k, c->text, c->a, c->b, (kmm_slab_flags_t)c->c,
						  c->c >> 32 ? object_construct : NULL));
	case PEER_CACHE_OPEN:
		return cache_add(kmm_cache_open(k, c->text));
	case PEER_CACHE_DESTROY:
		return cache_remove(c->a);
	case PEER_CACHE_SHRINK:
		return kmm_cache_shrink(cache_by(c->a));
	case PEER_CONSTRUCTED:
		return (int64_t)objects_constructed;
	case PEER_OBJECT_ALLOC:
		return place_or_error(k, c->c == PEER_NO_CACHE
						 ? kmm_kmalloc(k, c->a, (kmm_gfp_t)c->b)
						 : kmm_cache_alloc(cache_by(c->a), (kmm_gfp_t)c->b));
	case PEER_OBJECT_FREE:
		return object_release(k, c->a, place_pointer(k, c->b));
	case PEER_OBJECT_FILL:
		object_fill(place_pointer(k, c->a), c->b, c->c);
		return 0;
	case PEER_OBJECT_CHECK:
		return object_check(place_pointer(k, c->a), c->b, c->c);
	case PEER_OBJECT_HOARD:
		return hoard_fill(c->a, (kmm_gfp_t)c->b, c->c);
	case PEER_OBJECT_RELEASE:
		return hoard_release(k, c->a, c->b, false);
	case PEER_OBJECT_RELEASE_BULK:
		return hoard_release(k, c->a, c->b, true);
	case PEER_OBJECT_CHURN:
		return churn(c->a, c->b);
	case PEER_HOARDED:
		must(c->a < hoarded);
		return (int64_t)place_of(k, hoard[c->a]);
	case PEER_THING_HANDLE:
		return handle_or_error(kmm_handle(k, place_pointer(k, c->a)));
	case PEER_THING_POINTER:
		return place_or_error(k, kmm_pointer(k, c->a));
	case PEER_THING_ADOPT:
		return place_or_error(k, kmm_adopt(k, c->a));
	case PEER_THING_SEND:
		return kmm_send(k, place_pointer(k, c->a), (kmm_session_id_t)c->b);
	case PEER_THING_GET:
		return kmm_get(k, place_pointer(k, c->a));
	case PEER_THING_GET_HANDLE:
		return place_or_error(k, kmm_get_handle(k, c->a));
	case PEER_THING_PUT:
		return kmm_put(k, place_pointer(k, c->a));
	case PEER_PUBLISH:
		return kmm_publish(k, c->text, place_pointer(k, c->a));
	case PEER_LOOKUP:
		return handle_or_error(kmm_lookup(k, c->text));
	case PEER_UNPUBLISH:
		return kmm_unpublish(k, c->text);
	}
	must(!"an operation that exists");
}
