/* SPDX-License-Identifier: MIT */
/*
 * Caches of a session: a table by id of what it has open, or has met.
 *
 * An entry is made when an id is first met and stays as long as the session, so that a thread's
 * classes and a program's pointers always lead somewhere; `references` says whether the cache is
 * open. The daemon keeps the set of sessions that use a cache: a session's first create or open adds
 * it there (every one asks, because it compares what is wanted with what there is), its last destroy
 * takes it away.
 *
 * Destroying: references become 0, which closes the fast paths for good; what all threads of the
 * process cache goes back; the daemon is asked; if it refuses (live objects) the reference is as
 * before. Whoever creates or opens the same cache meanwhile waits, and asks again. Who frees
 * meanwhile is not refused: what is live keeps the cache, and is freed as into a cache that is not
 * open (object_slow.c), where the daemon finds it.
 *
 * The caches of kmalloc are there from the beginning and count no users: they are open when first
 * used.
 */
#include "client/object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cache_init(struct kmm *k)
{
	k->caches = calloc(CONTROL_CACHES_MAX, sizeof(*k->caches));
	return k->caches ? 0 : error_set(ENOMEM, "no memory for the session's caches");
}

void cache_free_all(struct kmm *k)
{
	uint32_t id;

	for (id = 0; k->caches && id < CONTROL_CACHES_MAX; id++)
		free(atomic_load_explicit(&k->caches[id], memory_order_relaxed));
	free((void *)k->caches);
}

struct kmm_cache *cache_entry(struct kmm *k, uint32_t id)
{
	struct kmm_cache *c;

	if (id == 0 || id >= CONTROL_CACHES_MAX)
		return NULL;
	/* acquire: pairs with the release below */
	c = atomic_load_explicit(&k->caches[id], memory_order_acquire);
	if (likely(c))
		return c;
	pthread_mutex_lock(&k->cache_lock);
	c = atomic_load_explicit(&k->caches[id], memory_order_relaxed);
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (c) {
			c->k = k;
			c->id = id;
			c->place = (uint32_t)(id * sizeof(struct local_objects));
			c->view = &k->control.cache[id];
			atomic_store_explicit(&k->caches[id], c, memory_order_release);
		}
	}
	pthread_mutex_unlock(&k->cache_lock);
	return c;
}

static uint64_t cache_life(const struct kmm_cache *c)
{
	/* acquire: pairs with the daemon, which writes the rest before */
	return atomic_load_explicit(&c->view->life, memory_order_acquire);
}

static uint32_t cache_references(const struct kmm_cache *c)
{
	/* acquire: pairs with the release in cache_join */
	return atomic_load_explicit(&c->references, memory_order_acquire);
}

int cache_check(struct kmm_cache *c)
{
	if (!c)
		return error_set(EINVAL, "the cache is NULL");
	if (cache_references(c) == 0)
		return error_set(EINVAL, "the cache is not open: it was destroyed before");
	return session_check(c->k);
}

/* The cache is just being destroyed here, or was not, after all. */
static bool cache_may_stay(struct kmm_cache *c)
{
	bool may;

	pthread_mutex_lock(&c->k->cache_lock);
	may = c->leaving || cache_references(c) > 0;
	pthread_mutex_unlock(&c->k->cache_lock);
	return may;
}

int cache_enter(struct kmm_cache *c, enum cache_use use, struct kmm **inside)
{
	int r;

	if (!c)
		return error_set(EINVAL, "the cache is NULL");
	r = session_enter(c->k);
	if (r < 0)
		return r;
	*inside = c->k;
	if (use == CACHE_TO_FREE && unlikely(cache_references(c) == 0) && cache_may_stay(c))
		return 0;
	return cache_check(c);
}

/* One more reference to the cache that has this life; cache_lock is held. */
static void cache_join(struct kmm_cache *c, uint64_t life, struct ctor ctor)
{
	uint32_t n = c->life == life ? cache_references(c) : 0;

	if (n == 0) {
		c->life = life;
		c->debug = c->view->flags & CACHE_DEBUG_FLAGS;
		c->marked = c->view->flags & KMM_SLAB_CONSISTENCY_CHECKS;
		c->ctor = NULL;
	}
	if (ctor.call) {
		c->style = ctor.style;
		c->ctor = ctor.call;
	}
	c->opened_only = c->view->ctor && !c->ctor;
	/* release: pairs with cache_references */
	atomic_store_explicit(&c->references, n + 1, memory_order_release);
}

/* ---- kmalloc's ---- */

struct kmm_cache *cache_open_by_id(struct kmm *k, uint32_t id)
{
	struct kmm_cache *c = cache_entry(k, id);

	if (!c)
		return NULL;
	if (unlikely(cache_references(c) == 0 && id <= KMALLOC_FAMILIES * KMALLOC_CLASSES)) {
		pthread_mutex_lock(&k->cache_lock);
		if (cache_references(c) == 0 && cache_life(c) != 0)
			cache_join(c, cache_life(c), (struct ctor){ 0 });
		pthread_mutex_unlock(&k->cache_lock);
	}
	return cache_references(c) > 0 && c->life == cache_life(c) ? c : NULL;
}

struct kmm_cache *cache_of_class(struct kmm *k, unsigned int family, unsigned int class, int *error)
{
	struct kmm_cache *c = cache_open_by_id(k, 1 + family * KMALLOC_CLASSES + class);

	if (!c)
		*error = error_set(ENOMEM, "the cache of kmalloc's class %u is not there, or there "
		                           "is no memory to use it", class);
	return c;
}

/* ---- creating, opening ---- */

static int cache_name_check(const char *name)
{
	size_t n;

	if (!name)
		return error_set(EINVAL, "the cache's name is NULL");
	n = strlen(name);
	if (n == 0 || n > KMM_NAME_MAX)
		return error_set(EINVAL, "the cache's name has %zu bytes: 1 to %d are allowed", n,
		                 KMM_NAME_MAX);
	return 0;
}

/* Takes in the daemon's answer: a reference; -EAGAIN: it is just being destroyed here. */
static int cache_take_reply(struct kmm *k, const kmm_v1_CacheReply *p, struct ctor ctor,
                            struct kmm_cache **ret)
{
	struct kmm_cache *c = cache_entry(k, p->cache);
	int r = 0;

	if (!c)
		return p->cache == 0 || p->cache >= CONTROL_CACHES_MAX
		               ? error_set(EPROTO, "the daemon named cache %u, beyond all", p->cache)
		               : error_set(ENOMEM, "no memory for a cache");
	pthread_mutex_lock(&k->cache_lock);
	if (c->leaving)
		r = -EAGAIN;
	else if (p->life == 0 || cache_life(c) != p->life)
		r = -EAGAIN; /* gone again: its other users died, or it was destroyed */
	else
		cache_join(c, p->life, ctor);
	pthread_mutex_unlock(&k->cache_lock);
	if (r == 0)
		*ret = c;
	return r;
}

static int cache_ask(struct kmm *k, uint16_t method, const pb_msgdesc_t *type, const void *request,
                     struct ctor ctor, struct kmm_cache **ret)
{
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	struct call_how how;
	int r = session_enter(k);

	if (r < 0)
		return r;
	inside = k;
	how = call_begin(k, 0);
	for (;;) {
		kmm_v1_CacheReply p = kmm_v1_CacheReply_init_zero;

		r = call_unary(k, &how, method, type, request, kmm_v1_CacheReply_fields, &p, NULL,
		               NULL);
		if (r == 0)
			r = cache_take_reply(k, &p, ctor, ret);
		if (r != -EAGAIN || session_state(k) != SESSION_UP)
			return r;
		r = call_wait_thread(k, &how);
		if (r < 0)
			return r;
	}
}

static int cache_create(struct kmm *k, const char *name, size_t size, size_t align,
                        kmm_slab_flags_t flags, struct ctor ctor, struct kmm_cache **ret)
{
	ERRNO_SCOPE;
	kmm_v1_CreateCacheRequest q = kmm_v1_CreateCacheRequest_init_zero;
	int r = session_check(k);

	if (r == 0)
		r = cache_name_check(name);
	if (r < 0)
		return r;
	memcpy(q.name, name, strlen(name) + 1);
	q.size = size;
	q.align = align;
	q.flags = flags;
	q.ctor = ctor.call != NULL;
	return cache_ask(k, kmm_v1_Method_ALLOCATOR_CREATE_CACHE, kmm_v1_CreateCacheRequest_fields,
	                 &q, ctor, ret);
}

void cache_panic(const char *name)
{
	fprintf(stderr, "libkmm: cache %s with SLAB_PANIC cannot be created: %s\n",
	        name ? name : "(null)", kmm_error_text());
	abort();
}

struct kmm_cache *cache_create_styled(struct kmm *k, const char *name, size_t size, size_t align,
                                      kmm_slab_flags_t flags, struct ctor ctor)
{
	struct kmm_cache *c = NULL;
	int r = cache_create(k, name, size, align, flags, ctor, &c);

	if (r < 0 && (flags & KMM_SLAB_PANIC))
		cache_panic(name);
	return r < 0 ? errno_null(r) : c;
}

struct kmm_cache *kmm_cache_create(struct kmm *k, const char *name, size_t size, size_t align,
                                   kmm_slab_flags_t flags, void (*ctor)(void *object))
{
	return cache_create_styled(k, name, size, align, flags, (struct ctor){ .call = ctor });
}

static int cache_open(struct kmm *k, const char *name, struct kmm_cache **ret)
{
	ERRNO_SCOPE;
	kmm_v1_OpenCacheRequest q = kmm_v1_OpenCacheRequest_init_zero;
	int r = session_check(k);

	if (r == 0)
		r = cache_name_check(name);
	if (r < 0)
		return r;
	memcpy(q.name, name, strlen(name) + 1);
	return cache_ask(k, kmm_v1_Method_ALLOCATOR_OPEN_CACHE, kmm_v1_OpenCacheRequest_fields, &q,
	                 (struct ctor){ 0 }, ret);
}

struct kmm_cache *kmm_cache_open(struct kmm *k, const char *name)
{
	struct kmm_cache *c = NULL;
	int r = cache_open(k, name, &c);

	return r < 0 ? errno_null(r) : c;
}

/* ---- giving back ---- */

/* All that the process's threads cache of it. */
static void cache_flush(struct kmm *k, struct kmm_cache *c)
{
	struct thread_cache *tc = thread_cache_find(k);
	struct local_objects *o = tc ? local_of(tc, c) : NULL;

	if (o && o->class.kind) {
		local_close(&o->class);
		local_flush_class(k, tc, &o->class, true);
	}
	seize_patiently(k, c);
}

/* The last reference: gone from here; on failure it is as before. */
static int cache_leave(struct kmm *k, struct kmm_cache *c)
{
	kmm_v1_DestroyCacheRequest q = { .cache = c->id, .life = c->life };
	kmm_v1_DestroyCacheReply p = kmm_v1_DestroyCacheReply_init_zero;
	struct call_how how = call_begin(k, 0);
	int r;

	cache_flush(k, c);
	r = CALL(k, &how, ALLOCATOR_DESTROY_CACHE, DestroyCache, &q, &p);
	if (r == -ENOENT)
		r = 0; /* gone is gone */
	pthread_mutex_lock(&k->cache_lock);
	c->leaving = false;
	if (r < 0)
		atomic_store_explicit(&c->references, 1, memory_order_release);
	pthread_mutex_unlock(&k->cache_lock);
	return r;
}

int kmm_cache_destroy(struct kmm_cache *c)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	struct kmm *k;
	uint32_t n;
	int r;

	if (!c)
		return 0;
	k = c->k;
	r = session_enter(k);
	if (r < 0)
		return r;
	inside = k;
	pthread_mutex_lock(&k->cache_lock);
	n = cache_references(c);
	if (n > 0) {
		c->leaving = n == 1;
		atomic_store_explicit(&c->references, n - 1, memory_order_release);
	}
	pthread_mutex_unlock(&k->cache_lock);
	if (n == 0)
		return error_set(EINVAL, "the cache is not open: it was destroyed before");
	return n == 1 ? cache_leave(k, c) : 0;
}

int kmm_cache_shrink(struct kmm_cache *c)
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	kmm_v1_ShrinkCacheRequest q = kmm_v1_ShrinkCacheRequest_init_zero;
	kmm_v1_ShrinkCacheReply p = kmm_v1_ShrinkCacheReply_init_zero;
	struct call_how how;
	int r = cache_enter(c, CACHE_TO_USE, &k);

	if (r < 0)
		return r;
	cache_flush(k, c);
	q.cache = c->id;
	q.life = c->life;
	how = call_begin(k, 0);
	return CALL(k, &how, ALLOCATOR_SHRINK_CACHE, ShrinkCache, &q, &p);
}

size_t kmm_cache_size(struct kmm_cache *c)
{
	int r = cache_check(c);

	if (r < 0) {
		errno = -r;
		return 0;
	}
	return c->view->size;
}
