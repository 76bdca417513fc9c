/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU memory: chunks, and the three functions of <kmm/kmm.h>.
 *
 * A chunk is one page block of the direct map, cut into units of equal size, one a CPU that there
 * can be (mm/percpu.c in Linux):
 *
 *            CPU 0          CPU 1          CPU 2          CPU 3
 *     |..AA..B......C|..AA..B......C|..AA..B......C|..AA..B......C|
 *      <--- unit --->
 *
 * An allocation has the same place in each unit, so that the copies of all CPUs follow from CPU 0's
 * by multiples of the unit, which is one number for the whole process. percpu_chunk.c keeps
 * account of one unit. A new allocation goes to the fullest chunk that has room, so that others may
 * become empty; one empty chunk a session is kept for what comes next, unless memory is short.
 *
 * What a program is given is CPU 0's address with a bit set that no address has (KMM_PERCPU_1): not
 * to be dereferenced, and CPU c's copy by a subtraction and an addition.
 *
 * The page block belongs to the session as any other, by its owner word: when the session ends,
 * however it ends, it is free again. An entry in the table of areas (area.h) tells reports of it,
 * and has a word a CPU in which threads that take a CPU leave their name (percpu_lock.c).
 *
 * A static variable that no session has memory for lives in a chunk of the process's own.
 *
 * Chunks are found by address in a list that percpu_lock guards; the daemon is called without it.
 */
#include "client/percpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/area.h"
#include "shm/memfd.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

pthread_mutex_t percpu_lock = PTHREAD_MUTEX_INITIALIZER;

struct percpu_chunk {
	struct percpu_chunk *next;
	struct kmm *k; /* NULL: memory of the process */
	uint8_t *base; /* of CPU 0's unit */
	uint32_t area; /* AREA_NONE: none */
	_Atomic uint64_t *records; /* of that area, a word a CPU; NULL: none */
	struct percpu_map map;
};

static struct percpu_chunk *chunks; /* percpu_lock */
static _Atomic uint64_t generation = 1;

uint64_t percpu_generation(void)
{
	/* acquire: pairs with the release when a chunk goes */
	return atomic_load_explicit(&generation, memory_order_acquire);
}

/* ---- chunks ---- */

static int chunk_memory(struct kmm *k, struct percpu_chunk *c)
{
	void *p;
	int r;

	if (k) {
		p = kmm_get_free_pages(k, KMM_GFP_KERNEL, percpu_machine()->order);
		if (!p)
			return -errno;
		c->base = p;
		return 0;
	}
	r = shm_window_reserve(&p, percpu_chunk_size(), percpu_chunk_size());
	if (r == 0 && mprotect(p, percpu_chunk_size(), PROT_READ | PROT_WRITE) < 0) {
		r = -errno;
		munmap(p, percpu_chunk_size());
	}
	if (r < 0)
		return error_set(-r, "no memory for per-CPU variables");
	c->base = p;
	return 0;
}

/* What reports are told of it. The page of its words for threads' names is made now, so that a
 * machine without memory answers and does not signal. */
static void chunk_area(struct kmm *k, struct percpu_chunk *c, const void *caller)
{
	char text[AREA_CALLER_MAX] = "";
	struct area_about a = { .kind = CONTROL_AREA_PERCPU,
		                .start = c->base,
		                .size = percpu_chunk_size(),
		                .pages = 1u << percpu_machine()->order,
		                .caller = text };

	area_caller(caller, text);
	area_count_nodes(k, (uint32_t)((size_t)(c->base - k->window) >> FRAME_SHIFT), a.pages,
	                 a.node_pages);
	if (area_claim(k, &a, &c->area) < 0) {
		c->area = AREA_NONE;
		return;
	}
	c->records = &k->control.area_lock[(size_t)c->area * CONTROL_AREA_CPUS];
	/* EINVAL: a kernel without it makes pages by touch alone */
	if (madvise((void *)((uintptr_t)c->records & ~(KMM_PAGE_SIZE - 1)), KMM_PAGE_SIZE,
	            MADV_POPULATE_WRITE) < 0 &&
	    errno != EINVAL)
		c->records = NULL;
}

static int chunk_new(struct percpu_chunk **ret, struct kmm *k, const void *caller)
{
	struct percpu_chunk *c = calloc(1, sizeof(*c));
	int r;

	if (!c || percpu_map_init(&c->map, percpu_machine()->unit) < 0) {
		free(c);
		return error_set(ENOMEM, "no memory for a per-CPU chunk's records");
	}
	c->k = k;
	c->area = AREA_NONE;
	r = chunk_memory(k, c);
	if (r < 0) {
		percpu_map_free(&c->map);
		free(c);
		return r;
	}
	if (k)
		chunk_area(k, c, caller);
	*ret = c;
	return 0;
}

/* It is on no list any more. In a session that has ended only the records go. */
static struct percpu_chunk *chunk_free(struct percpu_chunk *c, bool memory)
{
	ERROR_TEXT_SCOPE;

	if (memory && c->area != AREA_NONE)
		area_release(c->k, c->area);
	if (memory)
		kmm_free_page_addr(c->k, c->base, percpu_machine()->order);
	percpu_map_free(&c->map);
	free(c);
	return NULL;
}

static void chunk_count(struct percpu_chunk *c)
{
	if (c->area != AREA_NONE)
		area_set_used(c->k, c->area, percpu_machine()->unit - c->map.free);
}

/* The functions below: percpu_lock is held. */

static struct percpu_chunk *chunk_find(uintptr_t address)
{
	struct percpu_chunk *c;

	for (c = chunks; c; c = c->next)
		if (address - (uintptr_t)c->base < percpu_machine()->unit)
			return c;
	return NULL;
}

/* -EINVAL: there is none; -EOWNERDEAD, with the text. */
static int chunk_check(struct percpu_chunk *c)
{
	if (!c)
		return -EINVAL;
	return c->k ? session_check_present(c->k) : 0;
}

static bool chunk_is_empty(const struct percpu_chunk *c)
{
	return c->map.free == percpu_machine()->unit;
}

/* Takes a chunk off the list. */
static void chunk_unlink(struct percpu_chunk *c)
{
	struct percpu_chunk **p;

	for (p = &chunks; *p != c; p = &(*p)->next)
		;
	*p = c->next;
	/* release: pairs with percpu_generation() */
	atomic_fetch_add_explicit(&generation, 1, memory_order_release);
}

/* The next chunk of a session after `than` (NULL: the first), from the fullest on, that may have
 * room for the size. */
static struct percpu_chunk *chunk_next(struct kmm *k, uint32_t size,
                                       const struct percpu_chunk *than)
{
	struct percpu_chunk *c, *next = NULL;

	for (c = chunks; c; c = c->next) {
		if (c->k != k || c->map.largest < size ||
		    (than && (c->map.free < than->map.free ||
		              (c->map.free == than->map.free && c <= than))))
			continue;
		if (!next || c->map.free < next->map.free ||
		    (c->map.free == next->map.free && c < next))
			next = c;
	}
	return next;
}

/* CPU 0's address in *base; -ENOSPC: no chunk has room. */
static int chunks_take(struct kmm *k, uint32_t size, uint32_t align, uintptr_t *base)
{
	struct percpu_chunk *c = NULL;
	uint32_t offset;
	int r = -ENOSPC;

	while (r == -ENOSPC && (c = chunk_next(k, size, c)))
		r = percpu_map_take(&c->map, size, align, &offset);
	if (r == 0) {
		chunk_count(c);
		*base = (uintptr_t)c->base + offset;
	}
	return r;
}

/* Another empty one of the session. */
static bool chunks_have_spare(const struct percpu_chunk *than)
{
	struct percpu_chunk *c;

	for (c = chunks; c; c = c->next)
		if (c != than && c->k == than->k && chunk_is_empty(c))
			return true;
	return false;
}

/* ---- regions ---- */

int percpu_region_alloc(struct kmm *k, size_t size, size_t align, const void *caller,
                        uintptr_t *base)
{
	const struct percpu_machine *m = percpu_machine();
	uint32_t fit = align ? (uint32_t)align : 8, offset = 0;
	struct percpu_chunk *c = NULL;
	int r;

	if (size == 0 || size > m->unit)
		return error_set(EINVAL, "%zu bytes a CPU: per-CPU variables have 1 to %u", size,
		                 m->unit);
	if (align > KMM_PAGE_SIZE || (align & (align - 1)) != 0)
		return error_set(EINVAL,
		                 "alignment %zu: per-CPU variables are aligned to a power of two "
		                 "up to %zu",
		                 align, KMM_PAGE_SIZE);
	pthread_mutex_lock(&percpu_lock);
	r = chunks_take(k, (uint32_t)size, fit, base);
	pthread_mutex_unlock(&percpu_lock);
	if (r == -ENOMEM)
		return error_set(ENOMEM, "no memory for a per-CPU chunk's records");
	if (r == 0)
		return 0;
	r = chunk_new(&c, k, caller);
	if (r < 0)
		return r;
	/* Taken before others see it: threads that make chunks at the same time use all of them. */
	r = percpu_map_take(&c->map, (uint32_t)size, fit, &offset);
	chunk_count(c);
	*base = (uintptr_t)c->base + offset;
	pthread_mutex_lock(&percpu_lock);
	c->next = chunks;
	chunks = c;
	pthread_mutex_unlock(&percpu_lock);
	return r;
}

int percpu_region_free(uintptr_t base)
{
	struct percpu_chunk *c, *gone = NULL;
	int r;

	pthread_mutex_lock(&percpu_lock);
	c = chunk_find(base);
	r = chunk_check(c);
	if (r == 0)
		r = percpu_map_give(&c->map, (uint32_t)(base - (uintptr_t)c->base));
	if (r == 0)
		chunk_count(c);
	if (r == 0 && c->k && chunk_is_empty(c) && (pressure(c->k) || chunks_have_spare(c))) {
		chunk_unlink(c);
		gone = c;
	}
	pthread_mutex_unlock(&percpu_lock);
	if (gone)
		chunk_free(gone, true);
	return r;
}

bool percpu_region_lives(uintptr_t base)
{
	struct percpu_chunk *c = chunk_find(base);

	return c && (!c->k || c->k->mark == process_mark());
}

int percpu_find(struct percpu_thread *t, uintptr_t base)
{
	uint64_t now = percpu_generation();
	struct percpu_chunk *c;
	int r;

	if (likely(percpu_met(t, base)))
		return 0;
	pthread_mutex_lock(&percpu_lock);
	c = chunk_find(base);
	r = chunk_check(c);
	if (r == 0) {
		/* what it was before the chunk was looked up: one that goes meanwhile is noticed */
		t->generation = now;
		t->chunk = (uintptr_t)c->base;
		t->unit = percpu_machine()->unit;
		t->records = c->records;
		t->session = c->k ? c->k->id : 0;
	}
	pthread_mutex_unlock(&percpu_lock);
	return r;
}

void percpu_trim(struct kmm *k)
{
	struct percpu_chunk *c;

	do {
		pthread_mutex_lock(&percpu_lock);
		for (c = chunks; c && !(c->k == k && chunk_is_empty(c)); c = c->next)
			;
		if (c)
			chunk_unlink(c);
		pthread_mutex_unlock(&percpu_lock);
		if (c)
			chunk_free(c, true);
	} while (c);
}

void percpu_close(struct kmm *k)
{
	struct percpu_chunk *c, *next;

	pthread_mutex_lock(&percpu_lock);
	for (c = chunks; c; c = next) {
		next = c->next;
		if (c->k == k) {
			chunk_unlink(c);
			chunk_free(c, false);
		}
	}
	percpu_modules_check();
	pthread_mutex_unlock(&percpu_lock);
}

/* ---- fork ---- */

static void fork_prepare(void)
{
	pthread_mutex_lock(&percpu_lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&percpu_lock);
}

/* The chunks of the parent's sessions stay on the list, so that their use is told from nonsense,
 * until those are closed here. */
static void fork_child(void)
{
	/* release: as when one goes */
	atomic_fetch_add_explicit(&generation, 1, memory_order_release);
	percpu_modules_check();
	pthread_mutex_unlock(&percpu_lock);
	percpu_cpus_in_child();
}

void percpu_fork_watch(void)
{
	/* Without it there is no session, and so no chunk of one. */
	if (process_init() == 0)
		pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* ---- the public functions ---- */

struct kmm_percpu *kmm_alloc_percpu(struct kmm *k, size_t size, size_t align)
{
	int saved = errno, r = session_enter(k);
	uintptr_t base = 0;
	unsigned int cpu;

	if (r < 0)
		return errno_null(r);
	r = percpu_region_alloc(k, size, align, __builtin_return_address(0), &base);
	session_leave(k);
	if (r < 0)
		return errno_null(r);
	for (cpu = 0; cpu < percpu_machine()->nr_cpus; cpu++)
		memset((void *)(base + percpu_cpu(cpu)->offset), 0, size);
	errno = saved;
	return (struct kmm_percpu *)(base | KMM_PERCPU_1);
}

void *kmm_per_cpu_ptr(struct kmm_percpu *pc, unsigned int cpu)
{
	uintptr_t base = (uintptr_t)pc & ~KMM_PERCPU_1;
	int r;

	if (!((uintptr_t)pc & KMM_PERCPU_1)) {
		r = error_set(EINVAL, "%p is no per-CPU pointer", (void *)pc);
		return errno_null(r);
	}
	if (cpu >= percpu_machine()->nr_cpus) {
		r = error_set(EINVAL, "CPU %u: there are %u", cpu, percpu_machine()->nr_cpus);
		return errno_null(r);
	}
	r = percpu_find(percpu_self(), base);
	if (r == -EINVAL)
		error_set(EINVAL, "%p is in no per-CPU memory of an open session", (void *)pc);
	return r < 0 ? errno_null(r) : (void *)(base + percpu_cpu(cpu)->offset);
}

int kmm_free_percpu(struct kmm_percpu *pc)
{
	ERRNO_SCOPE;
	int r;

	if (!pc)
		return 0;
	if (percpu_static_has((uintptr_t)pc))
		return error_set(EINVAL, "%p is a static per-CPU variable, which lasts as long as its "
		                         "module",
		                 (void *)pc);
	if (!((uintptr_t)pc & KMM_PERCPU_1))
		return error_set(EINVAL, "%p is no per-CPU pointer", (void *)pc);
	r = percpu_region_free((uintptr_t)pc & ~KMM_PERCPU_1);
	if (r == -ENOENT)
		return error_set(ENOENT, "%p was freed before", (void *)pc);
	if (r == -EINVAL)
		return error_set(EINVAL,
		                 "%p lies inside a per-CPU variable, or in no open session",
		                 (void *)pc);
	return r;
}
