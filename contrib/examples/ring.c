/* SPDX-License-Identifier: MIT */
/*
 * A single-producer single-consumer ring in shared memory.
 *
 * `head` counts what was put, `tail` what was taken; each is written by one process only, so
 * neither needs more than a store. Who finds the ring full or empty sleeps on the other's counter
 * with a futex: it says so in a flag, looks again, and sleeps. The other one stores its counter,
 * then looks at the flag. All four are sequentially consistent, so that one of the two sees the
 * other.
 *
 * `ends` has the process ids of both ends in one word. A process takes its end by one exchange of
 * that word; the one that makes it complete takes the name away, as a temporary file is unlinked
 * once it is open: both own or hold the page themselves, and nothing is left over whatever becomes
 * of them. A process that dies while it waits for the other leaves a ring with a name and a dead
 * end: of those who find it one, the `cleaner`, takes the name away. (Process ids are only
 * understood among processes of one pid namespace.)
 *
 * What the other process writes here is not trusted further than its handles are: an index is
 * masked, and a handle that makes no sense is refused by libkmm.
 */
#include "ring.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RING_SLOTS 256u /* a power of two */
#define LOOK_ROUND_NS 100000000 /* how often a sleeper looks whether the other end still lives */

struct ring {
	_Atomic uint64_t ends;    /* process ids: putter in the high half, taker in the low */
	_Atomic uint32_t cleaner; /* process id */
	_Alignas(64) _Atomic uint32_t head;
	_Atomic uint32_t taker_sleeps;
	_Alignas(64) _Atomic uint32_t tail;
	_Atomic uint32_t putter_sleeps;
	_Alignas(64) kmm_handle_t slot[RING_SLOTS];
};
_Static_assert(sizeof(struct ring) <= 4096, "a ring is one page");

static unsigned int end_shift(enum ring_role role)
{
	return role == RING_PUTTER ? 32 : 0;
}

static uint32_t end_pid(uint64_t ends, enum ring_role role)
{
	return (uint32_t)(ends >> end_shift(role));
}

static enum ring_role end_other(enum ring_role role)
{
	return role == RING_PUTTER ? RING_TAKER : RING_PUTTER;
}

static bool process_is_dead(uint32_t pid)
{
	return pid && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* ---- finding each other ---- */

static int ring_leave(struct ring_end *e)
{
	/* A page that is held by others, or by a name, lives on without its owner. */
	return e->made ? kmm_free_page_addr(e->k, e->ring, 0) : kmm_put(e->k, e->ring);
}

static int ring_unpublish(struct kmm *k, const char *name)
{
	int r;

	do
		r = kmm_unpublish(k, name);
	while (daemon_was_away(-r));
	return r == -ENOENT ? 0 : r; /* also when asked again */
}

/* -EEXIST: another process was faster. */
static int ring_make(struct ring_end *e, const char *name)
{
	int r;

	do
		e->ring = kmm_get_free_pages(e->k, KMM_GFP_KERNEL | KMM_GFP_ZERO, 0);
	while (!e->ring && daemon_was_away(errno));
	if (!e->ring)
		return -errno;
	e->made = true;
	do
		r = kmm_publish(e->k, name, e->ring);
	while (daemon_was_away(-r));
	if (r < 0)
		kmm_free_page_addr(e->k, e->ring, 0);
	return r;
}

static int ring_find(struct ring_end *e, const char *name)
{
	for (;;) {
		kmm_handle_t handle = kmm_lookup(e->k, name);
		int r;

		e->ring = handle ? kmm_get_handle(e->k, handle) : NULL;
		if (e->ring) {
			e->made = false;
			return 0;
		}
		/* Stale: the name was taken away between the two calls. */
		if (handle && (errno == ESTALE || errno == ENOENT))
			continue;
		if (daemon_was_away(errno))
			continue;
		if (errno != ENOENT)
			return -errno;
		r = ring_make(e, name);
		if (r != -EEXIST)
			return r;
	}
}

/* The ring is a leftover. -EAGAIN: look again. */
static int ring_clean(struct ring_end *e, const char *name)
{
	uint32_t cleaner = 0;
	int r;

	do {
		if (cleaner && !process_is_dead(cleaner)) {
			sched_yield();
			return -EAGAIN;
		}
	} while (!atomic_compare_exchange_weak(&e->ring->cleaner, &cleaner, (uint32_t)getpid()));
	r = ring_unpublish(e->k, name);
	return r < 0 ? r : -EAGAIN;
}

/* Takes our end. -EAGAIN: look again. */
static int ring_attach(struct ring_end *e, const char *name)
{
	uint64_t mine = (uint64_t)getpid() << end_shift(e->role);
	uint64_t ends = atomic_load(&e->ring->ends);
	uint32_t own, other;

	do {
		own = end_pid(ends, e->role);
		other = end_pid(ends, end_other(e->role));
		if (process_is_dead(own) || process_is_dead(other))
			return ring_clean(e, name);
		if (own)
			return -EBUSY;
	} while (!atomic_compare_exchange_weak(&e->ring->ends, &ends, ends | mine));
	return other ? ring_unpublish(e->k, name) : 0;
}

int ring_open(struct ring_end *e, struct kmm *k, const char *name, enum ring_role role)
{
	int r;

	*e = (struct ring_end){ .k = k, .role = role };
	do {
		r = ring_find(e, name);
		if (r < 0)
			return r;
		r = ring_attach(e, name);
		if (r < 0)
			ring_leave(e);
	} while (r == -EAGAIN);
	return r;
}

int ring_close(struct ring_end *e)
{
	int r;

	do
		r = ring_leave(e);
	while (daemon_was_away(-r));
	return r;
}

/* ---- putting and taking ---- */

static void ring_wake(_Atomic uint32_t *counter, _Atomic uint32_t *sleeps)
{
	if (atomic_load(sleeps)) {
		atomic_store(sleeps, 0);
		syscall(SYS_futex, counter, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}

/* Until *counter, which the other end writes, is not `seen` any more; may return for nothing. */
static int ring_sleep(struct ring_end *e, _Atomic uint32_t *counter, uint32_t seen,
                      _Atomic uint32_t *sleeps)
{
	static const struct timespec limit = { .tv_nsec = LOOK_ROUND_NS };
	uint32_t other;

	atomic_store(sleeps, 1);
	if (atomic_load(counter) != seen)
		return 0;
	if (syscall(SYS_futex, counter, FUTEX_WAIT, seen, &limit, NULL, 0) == 0 ||
	    errno != ETIMEDOUT)
		return 0;
	other = end_pid(atomic_load(&e->ring->ends), end_other(e->role));
	/* Dead, and it did nothing more before. */
	return process_is_dead(other) && atomic_load(counter) == seen ? -EPIPE : 0;
}

int ring_put(struct ring_end *e, kmm_handle_t handle)
{
	struct ring *ring = e->ring;
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed); /* ours */
	uint32_t tail;
	int r;

	/* Acquire by being seq_cst, with the taker's store of tail: the slot has been read. */
	while (head - (tail = atomic_load(&ring->tail)) >= RING_SLOTS) {
		r = ring_sleep(e, &ring->tail, tail, &ring->putter_sleeps);
		if (r < 0)
			return r;
	}
	ring->slot[head % RING_SLOTS] = handle;
	/* Release by being seq_cst: slot and message are there for who sees the new head. */
	atomic_store(&ring->head, head + 1);
	ring_wake(&ring->head, &ring->taker_sleeps);
	return 0;
}

int ring_take(struct ring_end *e, kmm_handle_t *handle)
{
	struct ring *ring = e->ring;
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed); /* ours */
	uint32_t head;
	int r;

	while ((head = atomic_load(&ring->head)) == tail) {
		r = ring_sleep(e, &ring->head, head, &ring->taker_sleeps);
		if (r < 0)
			return r;
	}
	*handle = ring->slot[tail % RING_SLOTS];
	return 0;
}

void ring_taken(struct ring_end *e)
{
	struct ring *ring = e->ring;
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed) + 1;

	atomic_store(&ring->tail, tail);
	/* A putter that sleeps before a full ring is woken once half of it is free. */
	if (atomic_load_explicit(&ring->head, memory_order_relaxed) - tail <= RING_SLOTS / 2)
		ring_wake(&ring->tail, &ring->putter_sleeps);
}

int ring_drain(struct ring_end *e)
{
	struct ring *ring = e->ring;
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed), tail;

	while ((tail = atomic_load(&ring->tail)) != head) {
		int r = ring_sleep(e, &ring->tail, tail, &ring->putter_sleeps);

		if (r < 0)
			return r;
	}
	return 0;
}
