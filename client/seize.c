/* SPDX-License-Identifier: MIT */
/*
 * Taking objects out of the magazines of other threads, which may be idle.
 *
 * A thread's fast paths use neither locks nor ordered instructions:
 *
 *     owner                               who seizes
 *     -----                               ----------
 *     mark the class                      seized = 1, then all three gates = NULL
 *     gate open? pop or push              membarrier
 *     store top, without the mark         wait for no mark and no busy; the magazines are ours
 *                                         seized = 0
 *
 * The mark is the highest byte of the class's top, 0 in every address: the store of the new top,
 * which a path has to make anyway, takes it away. The owner's other paths set the thread's `busy`
 * instead: by local_busy() where they look at a gate as above, else by local_enter().
 *
 * The membarrier makes every running thread of the process pass a full barrier: either the owner's
 * mark was stored before it, then it is seen and waited for, or the owner looks at the gate after
 * it and finds it closed. Then it takes the mark away again, byte by byte as it set it, so that a
 * top that was stored meanwhile stays. A closed gate leads to the slow path, which takes the
 * magazines by local_enter: busy, a full barrier, and then it waits as long as `seized` is set.
 * Gates are opened again only by the owner, in its slow path, after it has looked at why they may
 * have been closed; then it looks at `seized` once more, because the gate may have been closed in
 * between.
 *
 * An owner that is marked or busy for long (it was preempted), or a kernel without membarrier: the
 * thread is asked to give its objects back at its next call, which the closed gates lead to the
 * slow path.
 *
 * A cache that is seized is not unmapped by its thread until `seized` is 0. What was taken out is
 * given to the daemon afterwards, without a lock.
 */
#include "client/object.h"
#include "client/percpu.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEIZE_WAIT_NS 2000000u
#define SPINS 100u
#define PATIENCE 20u /* looks at threads that were in their magazines */
#define PATIENCE_NS 5000000u
#define ENTER_NAP_NS 10000000u

void local_enter(struct thread_cache *tc)
{
	for (;;) {
		atomic_store_explicit(&tc->busy, 1, memory_order_relaxed);
		/* seq_cst: busy is seen before `seized` is read; pairs with the barrier of who
		 * seizes, which sets `seized` before it reads busy */
		atomic_thread_fence(memory_order_seq_cst);
		/* acquire: pairs with the release that ends the seizing */
		if (likely(atomic_load_explicit(&tc->seized, memory_order_acquire) == 0))
			return;
		local_leave(tc);
		futex_wait(&tc->seized, 1, process_now() + ENTER_NAP_NS);
	}
}

void local_drain(struct kmm *k, struct thread_cache *tc)
{
	/* acquire: pairs with the release of who asks */
	if (atomic_exchange_explicit(&tc->drain, 0, memory_order_acquire))
		local_flush_objects(k, tc, false);
}

static int barrier_all(int command)
{
	return (int)syscall(SYS_membarrier, command, 0, 0);
}

void seize_init(void)
{
	/* Refused by old kernels and sandboxes: then seize_objects is, each time. */
	barrier_all(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

/* Rounds that were taken out. */
struct seized {
	struct seized *next;
	struct exchange x;
	const struct local_kind *kind;
	uint32_t n;
	uint64_t round[];
};

struct seizing {
	struct kmm_cache *only;
	const struct thread_cache *own;
	struct thread_cache *first; /* by seize_next */
	struct seized *taken;
	unsigned int missed; /* threads */
};

/* Closes a cache's gates; process_lock is held. */
static void seize_begin(struct thread_cache *tc, void *arg)
{
	struct seizing *s = arg;
	struct local_objects *o;
	bool any = false;

	if (tc == s->own)
		return;
	/* acquire: pairs with the release that put them on the list */
	for (o = atomic_load_explicit(&tc->objects, memory_order_acquire); o; o = o->next) {
		if (s->only && o->id != s->only->id)
			continue;
		if (!any) {
			atomic_store_explicit(&tc->seized, 1, memory_order_relaxed);
			/* seq_cst: before the gates; pairs with the one in gate_open */
			atomic_thread_fence(memory_order_seq_cst);
		}
		any = true;
		local_close(&o->class);
	}
	if (!any)
		return;
	tc->seize_next = s->first;
	s->first = tc;
}

/* A path that passed the gates before they were closed is still at it. */
static bool thread_is_busy(const struct seizing *s, struct thread_cache *tc)
{
	struct local_objects *o;

	/* acquire, here and in local_is_marked(): pairs with local_leave and the fast paths' last store */
	if (atomic_load_explicit(&tc->busy, memory_order_acquire))
		return true;
	for (o = atomic_load_explicit(&tc->objects, memory_order_acquire); o; o = o->next)
		if ((!s->only || o->id == s->only->id) && local_is_marked(&o->class))
			return true;
	return false;
}

static bool seize_wait(const struct seizing *s, struct thread_cache *tc)
{
	uint64_t end = 0;
	unsigned int i;

	for (i = 0; thread_is_busy(s, tc); i++) {
		if (i < SPINS)
			continue;
		if (!end)
			end = process_now() + SEIZE_WAIT_NS;
		else if (process_now() >= end)
			return false;
		sched_yield();
	}
	return true;
}

/* Takes out what a class holds; false: no memory to carry it. */
static bool seize_class(struct seizing *s, struct local_class *lc)
{
	/* The owner may be marking and unmarking it, in vain. */
	uint32_t loaded = (uint32_t)(local_top(lc) - lc->loaded), n = loaded + lc->previous_n;
	struct seized *t;

	if (n == 0)
		return true;
	t = malloc(sizeof(*t) + n * sizeof(t->round[0]));
	if (!t)
		return false;
	t->x = (struct exchange){ .cache = lc->cache, .marked = lc->kind == &local_marked };
	t->kind = lc->kind;
	t->n = n;
	memcpy(t->round, lc->loaded, loaded * sizeof(t->round[0]));
	memcpy(t->round + loaded, lc->previous, lc->previous_n * sizeof(t->round[0]));
	local_set_top(lc, lc->loaded);
	lc->previous_n = 0;
	t->next = s->taken;
	s->taken = t;
	return true;
}

static void seize_one(struct seizing *s, struct thread_cache *tc, bool barrier)
{
	bool done = barrier && seize_wait(s, tc);
	struct local_objects *o;

	for (o = atomic_load_explicit(&tc->objects, memory_order_acquire); done && o; o = o->next)
		if (!s->only || o->id == s->only->id)
			done = seize_class(s, &o->class);
	if (!done) {
		atomic_store_explicit(&tc->drain, 1, memory_order_release);
		s->missed++;
	}
	/* release: pairs with local_enter. The cache may be gone right after; a wake-up touches
	 * only the address. */
	atomic_store_explicit(&tc->seized, 0, memory_order_release);
	futex_wake_all(&tc->seized);
}

unsigned int seize_objects(struct kmm *k, struct kmm_cache *c, bool wait)
{
	struct seizing s = { .only = c, .own = thread_cache_find(k) };
	struct thread_cache *tc, *next;
	struct seized *t;
	bool barrier;

	pthread_mutex_lock(&k->seize_lock);
	pthread_mutex_lock(&process_lock);
	thread_cache_each(k, seize_begin, &s);
	pthread_mutex_unlock(&process_lock);
	if (s.first) {
		/* seq_cst: what membarrier does for the fast paths, for local_enter alone */
		atomic_thread_fence(memory_order_seq_cst);
		barrier = barrier_all(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
		for (tc = s.first; tc; tc = next) {
			next = tc->seize_next;
			seize_one(&s, tc, barrier);
		}
	}
	pthread_mutex_unlock(&k->seize_lock);
	while ((t = s.taken)) {
		uint32_t at, n;

		s.taken = t->next;
		for (at = 0; at < t->n; at += n) {
			n = t->n - at < MAGAZINE_ROUNDS_MAX ? t->n - at : MAGAZINE_ROUNDS_MAX;
			t->kind->give(k, t->x, t->round + at, n, wait);
		}
		free(t);
	}
	return s.missed;
}

void seize_patiently(struct kmm *k, struct kmm_cache *c)
{
	unsigned int i;

	for (i = 0; seize_objects(k, c, true) > 0 && i < PATIENCE; i++) {
		/* acquire: a session that ends or is cancelled is left at once */
		uint32_t seen = atomic_load_explicit(&k->changes, memory_order_acquire);

		if (session_state(k) != SESSION_UP)
			return;
		futex_wait(&k->changes, seen, process_now() + PATIENCE_NS);
	}
}

void seize_idle(struct kmm *k, uint32_t id)
{
	struct thread_cache *tc = thread_cache_find(k); /* callbacks use one */
	struct kmm_cache *c = NULL;

	if (id) {
		/* acquire: pairs with cache_entry() */
		c = id < CONTROL_CACHES_MAX ?
		            atomic_load_explicit(&k->caches[id], memory_order_acquire) :
		            NULL;
		if (!c)
			return; /* never met */
	}
	if (tc && !c)
		local_flush_objects(k, tc, true);
	else if (tc && local_of(tc, c)->class.kind)
		local_flush_class(k, tc, &local_of(tc, c)->class, true);
	seize_patiently(k, c);
}

int kmm_flush(struct kmm *k)
{
	SESSION_SCOPE(k, r);
	kmm_v1_CollectRequest q = kmm_v1_CollectRequest_init_zero;
	kmm_v1_CollectReply p = kmm_v1_CollectReply_init_zero;
	struct thread_cache *tc;
	struct call_how how;

	if (r < 0)
		return r;
	how = call_begin(k, 0);
	percpu_trim(k);
	/* Objects are taken out of all magazines; what is marked RETURNED the daemon collects. */
	tc = thread_cache_get(k);
	if (tc)
		local_flush_objects(k, tc, true);
	seize_objects(k, NULL, true);
	vmalloc_purge(k, true);
	r = CALL(k, &how, ALLOCATOR_COLLECT, Collect, &q, &p);
	if (r < 0)
		return r;
	/* What other threads keep of blocks is stale now: their next claim of each fails. */
	if (tc) {
		local_forget(tc);
		thread_cache_report(k, tc);
	}
	return 0;
}
