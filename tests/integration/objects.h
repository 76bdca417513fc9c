/* SPDX-License-Identifier: MIT */
/*
 * Objects for the integration tests: what harness.h is for page blocks.
 *
 * Objects are named between the processes by handle, or by *place*: the pool address of the first
 * byte, which is the same in all of them. Caches are named by a peer's own number, which
 * PEER_CACHE_CREATE and PEER_CACHE_OPEN return.
 */
#ifndef TESTS_INTEGRATION_OBJECTS_H
#define TESTS_INTEGRATION_OBJECTS_H

#include <stdatomic.h>

#include "tests/integration/harness.h"

/* ---- contents ---- */

/* The constructor of the tests: the first word says that it ran. */
#define OBJECT_MAGIC UINT64_C(0x6b6d6d2d6f626a21)
void object_construct(void *p);
extern _Atomic uint64_t objects_constructed; /* how often, in this process */

/* A pattern that depends on the seed over all bytes; tells whether it is still there. */
void object_fill(void *p, size_t size, uint64_t seed);
bool object_check(const void *p, size_t size, uint64_t seed);

/* ---- places ---- */

uint64_t place_of(struct kmm *k, const void *p);
void *place_pointer(struct kmm *k, uint64_t place);

/* ---- what the daemon says ---- */

/* A line of slabinfo. */
struct cache_row {
	unsigned long active, objects, size, per_slab, pages_per_slab;
	unsigned long limit, batchcount, shared;
	unsigned long active_slabs, slabs, available;
};
/* False: no cache has the name. */
bool daemon_cache_row(const struct daemon *d, const char *name, struct cache_row *row);
/* Its active objects; 0 when there is no such cache. */
unsigned long daemon_cache_active(const struct daemon *d, const char *name);
/* Active objects of all caches. */
unsigned long daemon_objects_active(const struct daemon *d);
/* A number from `kmmctl --json slabinfo`; 0 when there is no such cache. */
unsigned long daemon_cache_number(const struct daemon *d, const char *name, const char *key);
/* What `leaks` says that the session holds of the cache (0: no line). */
unsigned long daemon_leak(const struct daemon *d, kmm_session_id_t session, const char *cache);

/* ---- peers ---- */

#define PEER_NO_CACHE UINT64_MAX /* kmm_kmalloc and kmm_kfree instead of a cache's functions */

enum peer_object_op {
	PEER_CACHE_CREATE = PEER_OBJECTS, /* text; size, align, flags (bit 32: with constructor)
	                                                        number */
	PEER_CACHE_OPEN,     /* text                            number */
	PEER_CACHE_DESTROY,  /* cache                           r */
	PEER_CACHE_SHRINK,   /* cache                           r */
	PEER_CONSTRUCTED,    /*                                 objects_constructed */
	PEER_OBJECT_ALLOC,   /* cache or size, gfp, no cache?   place; c = PEER_NO_CACHE: kmalloc */
	PEER_OBJECT_FREE,    /* cache, place                    r */
	PEER_OBJECT_FILL,    /* place, size, seed               0 */
	PEER_OBJECT_CHECK,   /* place, size, seed               1 or 0 */
	PEER_OBJECT_HOARD,   /* cache, gfp, n                   had until the first failure, in all;
	                                                        -errno of it when none */
	PEER_OBJECT_RELEASE, /* cache, n                        frees that many of them, one by one */
	PEER_OBJECT_RELEASE_BULK, /* cache, n                   the same in one call */
	PEER_OBJECT_CHURN,   /* cache, n                        n allocated, n freed: cached now */
	PEER_HOARDED,        /* i                               place of the i-th */
	PEER_THING_HANDLE,   /* place                           handle */
	PEER_THING_POINTER,  /* handle                          place */
	PEER_THING_ADOPT,    /* handle                          place */
	PEER_THING_SEND,     /* place, session                  r */
	PEER_THING_GET,      /* place                           r */
	PEER_THING_GET_HANDLE, /* handle                        place */
	PEER_THING_PUT,      /* place                           r */
	PEER_PUBLISH,        /* text; place                     r */
	PEER_LOOKUP,         /* text                            handle */
	PEER_UNPUBLISH,      /* text                            r */
};

/* Of the peer: runs one of them. */
int64_t peer_run_objects(struct kmm *k, const struct peer_command *c);

#endif
