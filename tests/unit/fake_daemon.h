/* SPDX-License-Identifier: MIT */
/*
 * A daemon played in the test's own process, for libkmm's objects: control memory, a pool, caches of
 * one slab order, and answers to the calls that client/ makes. It has no locks: one thread calls at a
 * time, except where a test says otherwise (fake.lock).
 *
 * An object is free (on its cache's list, word FREE), in a depot magazine, or out. Every object that
 * comes back is checked for what its word says.
 */
#ifndef TESTS_UNIT_FAKE_DAEMON_H
#define TESTS_UNIT_FAKE_DAEMON_H

#include <pthread.h>

#include "client/object.h"

#define FAKE_ME 7u
#define FAKE_OTHER 9u
#define FAKE_FRAMES (1u << 13)
#define FAKE_MAGAZINES 64u
#define FAKE_CACHES 64u
#define FAKE_OBJECTS 65536u

struct fake_cache {
	uint32_t nr_free, total;
	uint32_t *free; /* granules */
	uint32_t users;
};

struct fake {
	struct kmm k;
	void *words, *views;
	uint32_t frame, word; /* next free ones */
	uint32_t limit;       /* frames that may be used */
	struct fake_cache cache[FAKE_CACHES];
	unsigned int exchanges, gives, allocs, frees, notices, collects, reports, untold, events;
	unsigned int created, destroyed, shrunk;
	uint64_t lives; /* of caches, ids used again included */
	char event[256];
	bool no_magazines; /* exchanges are refused: one by one */
	bool away;         /* calls fail with EAGAIN */
	bool unmappable;   /* sections whose `mapped` a test clears stay so: ENOMEM */
	void (*on_destroy)(void); /* runs while DestroyCache is under way */
	pthread_mutex_t lock;
};
extern struct fake fake;

void fake_start(int64_t cache_bytes);
void fake_stop(void);
/* Makes a cache as the daemon would; ids from 1. */
void fake_cache_make(uint32_t id, const char *name, uint32_t size, uint32_t stride, uint32_t order,
                     uint32_t flags, bool ctor);
/* The open reference to it, as kmm_cache_create gives. */
struct kmm_cache *fake_cache(uint32_t id, void (*ctor)(void *));
owner_word_t *fake_word(const void *p);
/* Objects of a cache that are not on its free list. */
uint32_t fake_out(uint32_t id);

#endif
