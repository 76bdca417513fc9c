/* SPDX-License-Identifier: MIT */
/*
 * The arena: a bump pointer. Freeing is nothing, resetting is one store; the cap is the block.
 * Under AddressSanitizer what is not handed out is poisoned, so that a message used after its
 * request shows.
 */
#include "daemon/arena.h"

#include <errno.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define ARENA_POISON(p, n) __asan_poison_memory_region(p, n)
#define ARENA_UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define ARENA_POISON(p, n) ((void)(p), (void)(n))
#define ARENA_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

struct arena {
	ProtobufCAllocator allocator;
	size_t used;
	bool overflowed;
	alignas(max_align_t) uint8_t block[ARENA_SIZE];
};

static void *arena_take(void *data, size_t size)
{
	struct arena *a = data;
	size_t align = alignof(max_align_t), rounded;
	void *p;

	if (__builtin_add_overflow(size, align - 1, &rounded) ||
	    (rounded & ~(align - 1)) > ARENA_SIZE - a->used) {
		a->overflowed = true;
		return NULL;
	}
	p = a->block + a->used;
	a->used += rounded & ~(align - 1);
	ARENA_UNPOISON(p, size);
	return p;
}

static void arena_give(void *data, void *p)
{
	(void)data;
	(void)p;
}

int arena_new(struct arena **ret)
{
	struct arena *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->allocator = (ProtobufCAllocator){arena_take, arena_give, a};
	a->used = ARENA_SIZE;
	arena_reset(a);
	*ret = a;
	return 0;
}

struct arena *arena_free(struct arena *a)
{
	if (a)
		ARENA_UNPOISON(a->block, ARENA_SIZE);
	free(a);
	return NULL;
}

void arena_reset(struct arena *a)
{
	ARENA_POISON(a->block, a->used);
	a->used = 0;
	a->overflowed = false;
}

ProtobufCAllocator *arena_allocator(struct arena *a)
{
	return &a->allocator;
}

bool arena_overflowed(const struct arena *a)
{
	return a->overflowed;
}
