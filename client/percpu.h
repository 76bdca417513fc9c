/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU memory inside the library.
 *
 *   percpu_chunk.c   the map of a unit: what of it is allocated
 *   percpu.c         chunks; kmm_alloc_percpu and its like
 *   percpu_static.c  static variables: modules and their copies
 *   percpu_rseq.c    the CPUs; operations that the program's own sequences leave to the library
 *   percpu_lock.c    kmm_get_cpu and kmm_put_cpu
 */
#ifndef CLIENT_PERCPU_H
#define CLIENT_PERCPU_H

#include "client/internal.h"

#define KMM_PERCPU_INSIDE_1 /* the macros are for programs */
#include <kmm/percpu.h>

#pragma GCC visibility push(hidden)

/* ---- percpu_chunk.c ---- */

/* Regions of a unit in order; each begins at at[i] and ends where the next does. Bit 0: allocated.
 * */
struct percpu_map {
	uint32_t *at;
	uint32_t n, capacity; /* regions; at[n] is the end */
	uint32_t free;        /* bytes */
	uint32_t first;       /* no region before it is free */
	uint32_t largest;     /* no free region is larger */
};

#define PERCPU_GRAIN 4u /* sizes and places are multiples */

int percpu_map_init(struct percpu_map *m, uint32_t unit);
void percpu_map_free(struct percpu_map *m);
/* -ENOSPC: no room in this unit; -ENOMEM. */
int percpu_map_take(struct percpu_map *m, uint32_t size, uint32_t align, uint32_t *offset);
/* -EINVAL: inside a region; -ENOENT: not allocated. */
int percpu_map_give(struct percpu_map *m, uint32_t offset);
bool percpu_map_valid(const struct percpu_map *m, uint32_t unit);

/* ---- percpu_rseq.c ---- */

/* How it is with CPUs here; the same for the life of the process. */
struct percpu_machine {
	unsigned int nr_cpus;
	unsigned int order; /* of a chunk's page block */
	uint32_t unit;      /* bytes */
	bool sequences;
};
const struct percpu_machine *percpu_machine(void);

static inline size_t percpu_chunk_size(void)
{
	return (size_t)KMM_PAGE_SIZE << percpu_machine()->order;
}

/* The line of a CPU, which is below nr_cpus. */
struct kmm_cpu_1 *percpu_cpu(unsigned int cpu);

/* What a thread has. */
struct percpu_thread {
	uint32_t tid;        /* 0: not asked for yet */
	uint32_t cpu, depth; /* that it has taken, how many times */
	bool sequences;      /* it may use them */
	bool noticed;        /* its end is */
	/* percpu_find(): of the chunk that it met last */
	uint64_t generation; /* of all chunks then */
	uintptr_t chunk;     /* its first byte */
	uint32_t unit;       /* its size; 0: none was met */
	_Atomic uint64_t *records;
	uint32_t session;    /* 0: memory of the process */
	/* percpu_lock.c: where its name stands */
	_Atomic uint64_t *record;
	uint64_t record_generation;
	uintptr_t record_chunk;
};
struct percpu_thread *percpu_self(void);

/* Takes a CPU: the one that the thread runs on when it succeeds. */
unsigned int percpu_take(struct percpu_thread *t);
void percpu_give(unsigned int cpu);
/* The thread's further operations come to the library; to the program again. */
void percpu_sequences_off(struct percpu_thread *t);
void percpu_sequences_on(struct percpu_thread *t);
/* In a forked child: what other threads had taken is free. */
void percpu_cpus_in_child(void);

/* ---- percpu.c ---- */

/* Memory for a copy each: the address of CPU 0's. k NULL: of the process. -EINVAL and what
 * allocating pages gives; the text is set. */
int percpu_region_alloc(struct kmm *k, size_t size, size_t align, const void *caller,
                        uintptr_t *base);
/* Gives it back; base is CPU 0's first byte. No error when its session was closed. */
int percpu_region_free(uintptr_t base);
/* The session that a region belongs to lives in this process; percpu_lock is held. */
bool percpu_region_lives(uintptr_t base);
/* Moves whenever a chunk goes. */
uint64_t percpu_generation(void);
/* The chunk with the address, in *t: 0; -EINVAL there is none; -EOWNERDEAD with the text. */
int percpu_find(struct percpu_thread *t, uintptr_t base);
/* It is the one that the thread met last. */
static inline bool percpu_met(const struct percpu_thread *t, uintptr_t base)
{
	return t->generation == percpu_generation() && base - t->chunk < t->unit;
}
/* k gives back chunks with nothing in them; k ends, and with it all of them. */
void percpu_trim(struct kmm *k);
void percpu_close(struct kmm *k);
/* From now on fork holds the lock that chunks and modules are guarded by, and a child has none of
 * its parent's. After the handlers of process.c, which tell the child from the parent. */
void percpu_fork_watch(void);

/* ---- percpu_static.c; the same lock ---- */

extern pthread_mutex_t percpu_lock;

/* Bytes of the largest module. */
size_t percpu_largest_module(void);
/* A static variable of any module lies there; takes the lock. */
bool percpu_static_has(uintptr_t at);
/* Modules whose copies went with their session, or stayed with the parent, have none; locked. */
void percpu_modules_check(void);

#pragma GCC visibility pop
#endif
