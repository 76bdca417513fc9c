/* SPDX-License-Identifier: MIT */
/*
 * The memory in which a request is unpacked: one block a reactor, taken from the front, given back
 * all at once. A message that would need more than the block is refused.
 */
#ifndef DAEMON_ARENA_H
#define DAEMON_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#define ARENA_SIZE 65536u

struct arena;

int arena_new(struct arena **ret);
struct arena *arena_free(struct arena *a);
/* Everything taken so far is gone. */
void arena_reset(struct arena *a);
/* For protobuf-c; valid as long as the arena. */
ProtobufCAllocator *arena_allocator(struct arena *a);
/* An allocation failed since the last reset. */
bool arena_overflowed(const struct arena *a);

#endif
