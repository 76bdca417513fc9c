/* SPDX-License-Identifier: MIT */
/*
 * The clients of kill_objects.c: what they share with its parent, and their life.
 */
#ifndef TESTS_STRESS_OBJECT_ACTOR_H
#define TESTS_STRESS_OBJECT_ACTOR_H

#include "tests/integration/objects.h"

#define AT_ONCE 4 /* victims: actors 0 to 3 */
#define SURVIVORS 2
#define ACTORS (AT_ONCE + SURVIVORS)
#define BOARD 32
#define LETTERS 16
#define NAMES 12
#define CACHES 3

struct object_kind {
	const char *name;
	size_t size;
	kmm_slab_flags_t flags;
	void (*ctor)(void *);
};
extern const struct object_kind kind[CACHES];

enum phase { RUN, LET_GO, TAKE_BACK, END };

enum done { ALLOCATED, BULK, ADOPTED, HELD, SENT, POSTED, PUBLISHED, FOUND, DONE };

struct shared {
	_Atomic uint64_t board[BOARD];             /* relaxed: handles are only numbers */
	_Atomic uint64_t letter[ACTORS][LETTERS];
	_Atomic uint32_t session[ACTORS];          /* the last that the actor had */
	_Atomic uint64_t done[DONE];               /* to see that the test does its work */
	_Atomic unsigned phase;                    /* of the parent: release, acquire */
	_Atomic unsigned round;
	_Atomic unsigned reached[SURVIVORS];       /* round * 4 + phase */
	_Atomic uint64_t owned[SURVIVORS][CACHES];
};

/* Name i of NAMES. */
const char *name_of(unsigned i, char buf[16]);
/* The actor of that id, in a process of its own: until it is killed or, surviving, the END. */
void actor_run(const struct daemon *d, struct shared *s, unsigned id, unsigned seed)
	__attribute__((noreturn));

#endif
