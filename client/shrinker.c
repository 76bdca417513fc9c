/* SPDX-License-Identifier: MIT */
/*
 * Shrinkers: what a program could do without, given back when somebody waits for memory.
 *
 * The daemon says PRESSURE as long as requests wait: the flags of one of them and a priority that
 * falls from 12 to 0 (daemon/pressure.c). Each time every registered shrinker is asked how many of its
 * objects it could free (count), and is told to free a share of them (scan), by the arithmetic of
 * Linux's do_shrink_slab:
 *
 *     delta = (freeable >> priority) * 4 / seeks        seeks: what an object costs to make again
 *     total = (deferred >> priority) + delta            at most 2 * freeable
 *     scan in batches of 128 while total >= 128 or total >= freeable
 *     deferred += delta - scanned                       what was left undone, at most 2 * freeable
 *
 * So a cache of millions gives a little at once, a small one only when nothing else helped. A scan that
 * returns SIZE_MAX ends its shrinker's turn; so does the end of the waiting, which is looked at between
 * batches, because what nobody waits for need not be freed.
 *
 * Who runs them. The session's own thread, or kmm_dispatch when the program took events over: one at a
 * time, in the order of registration, none when the waiting request has no __GFP_FS. Meanwhile the
 * thread's own requests neither wait nor call shrinkers (gfp_of_thread): it may be what they would
 * wait for.
 *
 * The list is guarded by shrinker_lock, which is not held over a callback. An entry whose callback runs
 * is `busy`, and stays on the list until it is not; who unregisters it waits for that, unless the
 * callback itself does: then the runner frees the entry.
 *
 * The session's record in control memory says how many there are, so that the daemon tells of pressure
 * again only those that can do something about it.
 */
#include "client/internal.h"

#include <stdlib.h>

#define SEEKS_DEFAULT 2
#define SHRINK_BATCH 128u

struct shrinker {
	struct shrinker *next;
	struct kmm_shrinker *s; /* the program's; NULL: not any more, the runner frees the entry */
	size_t deferred;        /* of who runs */
	bool busy;
	_Atomic bool gone; /* unregistered: its callbacks are called no more */
};

static size_t size_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static bool is_gone(const struct shrinker *e)
{
	/* relaxed: who needs to know that a callback is over waits for `busy` */
	return atomic_load_explicit(&e->gone, memory_order_relaxed);
}

/* One shrinker's share, how many objects it was asked for; no lock is held. */
static size_t shrink(struct kmm *k, struct shrinker *e, uint32_t gfp, uint32_t priority)
{
	struct kmm_shrinker *s = e->s; /* once a callback has unregistered it, it may be gone */
	size_t seeks = s->seeks ? (size_t)s->seeks : SEEKS_DEFAULT, freeable = s->count(s, gfp);
	size_t delta, total, scanned = 0, batch, left;

	if (is_gone(e) || freeable == 0 || freeable >= SIZE_MAX - 1) /* SHRINK_EMPTY of the kernel */
		return 0;
	freeable = size_min(freeable, SIZE_MAX / 4);
	delta = (freeable >> priority) * 4 / seeks;
	total = size_min((e->deferred >> priority) + delta, 2 * freeable);
	while ((total >= SHRINK_BATCH || total >= freeable) && pressure(k)) {
		batch = size_min(total, SHRINK_BATCH);
		if (s->scan(s, batch, gfp) == SIZE_MAX || is_gone(e))
			break;
		total -= batch;
		scanned += batch;
	}
	left = e->deferred + delta;
	e->deferred = size_min(left > scanned ? left - scanned : 0, 2 * freeable);
	return scanned;
}

/* Takes a dead entry off the list; shrinker_lock is held. */
static void shrinker_remove(struct kmm *k, struct shrinker *e)
{
	struct shrinker **link = &k->shrinkers;

	while (*link != e)
		link = &(*link)->next;
	*link = e->next;
	free(e);
}

/* Runs those that are registered, all that they were asked for; shrinker_lock is held, and released
 * meanwhile. */
static uint64_t shrink_all(struct kmm *k, uint32_t gfp, uint32_t priority)
{
	struct shrinker *e, *next;
	uint64_t scanned = 0;

	for (e = k->shrinkers; e; e = next) {
		if (is_gone(e)) { /* who unregisters it waits for the lock */
			next = e->next;
			continue;
		}
		e->busy = true;
		pthread_mutex_unlock(&k->shrinker_lock);
		thread_shrinking++;
		scanned += shrink(k, e, gfp, priority);
		thread_shrinking--;
		pthread_mutex_lock(&k->shrinker_lock);
		e->busy = false;
		next = e->next;
		if (!e->s)
			shrinker_remove(k, e);
		pthread_cond_broadcast(&k->shrinker_done);
	}
	return scanned;
}

uint64_t shrinker_run(struct kmm *k)
{
	uint64_t scanned = 0;

	pthread_mutex_lock(&k->shrinker_lock);
	while (k->shrink_wanted && !k->shrinker_running && session_state(k) == SESSION_UP) {
		ERROR_TEXT_SCOPE; /* what callbacks fail in is their own */
		ERRNO_SCOPE;

		k->shrink_wanted = false;
		k->shrinker_running = true;
		k->shrinker_runner = pthread_self();
		scanned += shrink_all(k, k->shrink_gfp, k->shrink_priority);
		k->shrinker_running = false;
	}
	pthread_mutex_unlock(&k->shrinker_lock);
	return scanned;
}

bool shrinker_press(struct kmm *k, uint32_t gfp, uint32_t priority)
{
	bool wanted = false;

	pthread_mutex_lock(&k->shrinker_lock);
	if (k->shrinkers && (gfp & KMM_GFP_FS)) {
		wanted = k->shrink_wanted = true;
		k->shrink_gfp = gfp;
		k->shrink_priority = priority < 64 ? priority : 63;
	}
	pthread_mutex_unlock(&k->shrinker_lock);
	return wanted;
}

bool shrinker_is_runner(struct kmm *k)
{
	bool is;

	pthread_mutex_lock(&k->shrinker_lock);
	is = k->shrinker_running && pthread_equal(k->shrinker_runner, pthread_self());
	pthread_mutex_unlock(&k->shrinker_lock);
	return is;
}

void shrinker_free_all(struct kmm *k)
{
	while (k->shrinkers)
		shrinker_remove(k, k->shrinkers);
}

/* ---- registering ---- */

/* shrinker_lock is held. */
static struct shrinker *shrinker_find(struct kmm *k, const struct kmm_shrinker *s)
{
	struct shrinker *e;

	for (e = k->shrinkers; e && (e->s != s || is_gone(e)); e = e->next)
		;
	return e;
}

static void shrinkers_count(struct kmm *k, uint32_t n)
{
	k->nr_shrinkers = n;
	/* relaxed: a hint for the daemon */
	atomic_store_explicit(&k->control.session[k->id].shrinkers, n, memory_order_relaxed);
}

static int shrinker_add(struct kmm *k, struct kmm_shrinker *s)
{
	struct shrinker *e = calloc(1, sizeof(*e)), **link;

	if (!e)
		return error_set(ENOMEM, "no memory for a shrinker");
	e->s = s;
	pthread_mutex_lock(&k->shrinker_lock);
	if (shrinker_find(k, s)) {
		pthread_mutex_unlock(&k->shrinker_lock);
		free(e);
		return error_set(EEXIST, "the shrinker is registered already");
	}
	for (link = &k->shrinkers; *link; link = &(*link)->next)
		;
	*link = e;
	shrinkers_count(k, k->nr_shrinkers + 1);
	pthread_mutex_unlock(&k->shrinker_lock);
	return 0;
}

int kmm_register_shrinker(struct kmm *k, struct kmm_shrinker *s)
{
	SESSION_SCOPE(k, r);

	if (r < 0)
		return r;
	if (!s)
		return error_set(EINVAL, "the shrinker is NULL");
	if (!s->count || !s->scan)
		return error_set(EINVAL, "a shrinker has two functions, count and scan");
	if (s->seeks < 0)
		return error_set(EINVAL, "seeks is %d: a number of 1 and more, or 0 for %d",
		                 s->seeks, SEEKS_DEFAULT);
	return shrinker_add(k, s);
}

/* shrinker_lock is held. */
static int shrinker_end(struct kmm *k, const struct kmm_shrinker *s)
{
	struct shrinker *e = shrinker_find(k, s);

	if (!e)
		return error_set(ENOENT, "the shrinker is not registered");
	atomic_store_explicit(&e->gone, true, memory_order_relaxed);
	shrinkers_count(k, k->nr_shrinkers - 1);
	if (e->busy && pthread_equal(k->shrinker_runner, pthread_self())) {
		e->s = NULL; /* by its own callback: the runner frees it */
		return 0;
	}
	while (e->busy)
		pthread_cond_wait(&k->shrinker_done, &k->shrinker_lock);
	shrinker_remove(k, e);
	return 0;
}

int kmm_unregister_shrinker(struct kmm *k, struct kmm_shrinker *s)
{
	ERRNO_SCOPE;
	int r = session_check_present(k);

	if (r < 0)
		return r;
	if (!s)
		return error_set(EINVAL, "the shrinker is NULL");
	pthread_mutex_lock(&k->shrinker_lock);
	r = shrinker_end(k, s);
	pthread_mutex_unlock(&k->shrinker_lock);
	return r;
}
