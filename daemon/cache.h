/* SPDX-License-Identifier: MIT */
/*
 * Caches as sessions see them: mm/'s kmem_cache with its users, its place in the views, and the
 * counts that reports show. See cache.c.
 *
 * Any thread. A cache is LIVE from its creation to its end; who works with one enters it, and it ends
 * only when nobody is inside.
 */
#ifndef DAEMON_CACHE_H
#define DAEMON_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/domain.h"
#include "daemon/session.h"
#include "mm/slab.h"

enum cache_state {
	CACHE_NONE,
	CACHE_LIVE,
	CACHE_ENDING, /* nobody enters any more */
};

/* One an id, for the daemon's life. */
struct cache {
	uint32_t id;
	_Atomic uint32_t state;  /* enum cache_state */
	_Atomic uint32_t inside; /* threads working with it */
	struct domain *d;
	struct kmem_cache *slab;     /* while LIVE or ENDING; never freed */
	bool builtin;                /* of the kmalloc families: never ends */
	_Atomic uint32_t users;      /* sessions that have it open */
	_Atomic uint32_t rounds_max; /* the largest magazine that a client asked for */
	_Atomic uint64_t exchanges, reports;
	_Atomic uint32_t node_next;  /* SLAB_MEM_SPREAD */
	/* of the worker, while it has no users: objects out when it last looked, looks since */
	uint64_t idle_out;
	uint32_t idle_looks;
};

struct cache_table;

/* The kmalloc families have the ids 1 to CACHE_BUILTIN_MAX: 1 + family * 13 + class. */
#define CACHE_BUILTIN_MAX 39u

/* d->slabs is there. Takes over what the records say (after slab_space_recover), or makes the
 * kmalloc families. -ENOMEM. */
int cache_table_new(struct cache_table **ret, struct domain *d);
struct cache_table *cache_table_free(struct cache_table *t);

/* The cache of that id and life (life 0: whatever lives), entered: paired with cache_leave(), and not
 * kept over anything that waits. NULL: there is none. Atomic operations only, except by name. */
struct cache *cache_enter(struct domain *d, uint32_t id, uint64_t life);
/* The same for who gives objects back: also while the cache may be about to end. From before the
 * object's out bit is cleared until slab_free() has returned. */
struct cache *cache_enter_to_free(struct domain *d, uint32_t id);
struct cache *cache_enter_name(struct domain *d, const char *name);
void cache_leave(struct cache *c);
/* Without entering, to look at counts and at what never changes; NULL: the id is out of range. */
struct cache *cache_by_id(struct domain *d, uint32_t id);
static inline struct cache *cache_of(struct domain *d, const struct kmem_cache *k)
{
	return cache_by_id(d, kmem_cache_id(k));
}

/* The session (entered) makes or joins one: 0 with id and life; negative with *why. -EAGAIN: the one of
 * that name is about to end or not, as the worker will know: to be asked again there, where it does
 * not happen. -EDQUOT, -EEXIST, -EINVAL, -ENOMEM. */
int cache_create(struct domain *d, struct session *s, const char *name, uint64_t size,
                 uint64_t align, uint32_t flags, bool ctor, uint32_t *id, uint64_t *life,
                 const char **why);
/* -ENOENT, -EAGAIN. */
int cache_open(struct domain *d, struct session *s, const char *name, uint32_t *id, uint64_t *life,
               const char **why);
/* Worker: it may look at all objects of the cache. 0 also when it is gone, or s is none of its users
 * (any more). -EBUSY with the count and holders. */
int cache_destroy(struct domain *d, struct session *s, uint32_t id, uint64_t life, bool *removed,
                  const char **why);
/* The session is swept: it has nothing open any more. Worker. */
void cache_forget_session(struct domain *d, struct session *s);
uint32_t cache_total(struct domain *d);
uint32_t cache_count_of(struct domain *d, uint32_t session); /* that it has open */
/* Once a second, worker: caches without users and objects end. */
void cache_tick(struct domain *d);
/* Depot, RETURNED words and empty slabs go back. Worker. */
void cache_shrink(struct cache *c);
/* Objects that are not in their slabs: with sessions, in depots, in per-CPU magazines. */
uint64_t cache_objects(const struct cache *c);
uint64_t cache_objects_all(struct domain *d);
/* Frames of its slabs that went back to the zones since the start. */
uint64_t cache_reaped(const struct cache *c);
size_t cache_validate(struct domain *d, mm_report_fn report, void *ctx);

#endif
