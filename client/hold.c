/* SPDX-License-Identifier: MIT */
/*
 * Holds of this session: how often it got each block or object. The daemon's table of holders is a
 * set of sessions, so only a session's first hold and its last put are calls.
 *
 * One entry a held thing, in a hash table by granule. While an entry's call is under way it is
 * `busy` and others who want it wait: a first get and a last put of the same block never overtake
 * each other. The lock is not held during calls. A call that ended without an answer leaves its
 * entry with count 0: the daemon may know of the hold or not, and both calls may be asked again.
 *
 * A page that can move and is another session's is held while it is mapped (highmem.c): a pin is a hold
 * that kmm_put does not drop. Its end is never waited for; where the daemon is not told of it, the
 * entry stays, marked, and the keeper tells it later (hold_repeat).
 */
#include "client/object.h"

#include <limits.h>
#include <stdlib.h>
#include <time.h>

#define BUCKETS_MIN 64u
#define WAIT_NS 100000000u

struct hold {
	struct hold *next;
	uint32_t granule, generation;
	uint64_t count; /* pins included */
	uint32_t pins;
	bool busy;
	bool untold; /* count is 0, and the daemon may know of the hold still */
};

/* Fibonacci hashing: granules of blocks and slabs end in many zeroes. */
static size_t hold_bucket(uint32_t granule, size_t buckets)
{
	return (granule * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (buckets - 1);
}

static struct hold **hold_find(struct kmm *k, uint32_t granule)
{
	struct hold **p = &k->holds[hold_bucket(granule, k->hold_buckets)];

	while (*p && (*p)->granule != granule)
		p = &(*p)->next;
	return p;
}

/* Doubles the table when it is full; the lock is held. */
static bool hold_grow(struct kmm *k)
{
	size_t n = k->hold_buckets ? k->hold_buckets * 2 : BUCKETS_MIN, i;
	struct hold **table;

	if (k->nr_holds < k->hold_buckets)
		return true;
	table = calloc(n, sizeof(*table));
	if (!table)
		return k->hold_buckets > 0; /* longer chains will do */
	for (i = 0; i < k->hold_buckets; i++) {
		struct hold *h, *next;

		for (h = k->holds[i]; h; h = next) {
			size_t b = hold_bucket(h->granule, n);

			next = h->next;
			h->next = table[b];
			table[b] = h;
		}
	}
	free(k->holds);
	k->holds = table;
	k->hold_buckets = n;
	return true;
}

/* The entry of a thing, not busy, or NULL; waits. The lock is held. The keeper does not wait for
 * who waits for it. */
static int hold_wait(struct kmm *k, uint32_t granule, struct hold **ret)
{
	struct call_how how = call_begin(k, 0);
	struct hold *h;
	int r;

	while (k->hold_buckets > 0 && (h = *hold_find(k, granule))) {
		uint64_t at = process_now() + WAIT_NS;
		struct timespec t = { .tv_sec = (time_t)(at / 1000000000u),
			              .tv_nsec = (long)(at % 1000000000u) };

		if (!h->busy) {
			*ret = h;
			return 0;
		}
		if (!keeper_is_self(k) && pthread_cond_clockwait(&k->hold_done, &k->hold_lock,
		                                                 CLOCK_MONOTONIC, &t) == 0)
			continue;
		pthread_mutex_unlock(&k->hold_lock);
		r = call_wait_thread(k, &how);
		pthread_mutex_lock(&k->hold_lock);
		if (r < 0)
			return r;
	}
	*ret = NULL;
	return 0;
}

static void hold_remove(struct kmm *k, struct hold *h)
{
	struct hold **p = hold_find(k, h->granule);

	*p = h->next;
	k->nr_holds--;
	free(h);
}

static int hold_call(struct kmm *k, uint32_t granule, uint32_t generation)
{
	kmm_v1_HoldRequest q = { .granule = granule, .generation = generation };
	kmm_v1_HoldReply p = kmm_v1_HoldReply_init_zero;
	struct call_how how = call_begin(k, CALL_ONCE);

	return CALL(k, &how, ALLOCATOR_HOLD, Hold, &q, &p);
}

static int release_call(struct kmm *k, uint32_t granule, uint32_t generation, unsigned int flags)
{
	kmm_v1_ReleaseRequest q = { .granule = granule, .generation = generation };
	kmm_v1_ReleaseReply p = kmm_v1_ReleaseReply_init_zero;
	struct call_how how = call_begin(k, CALL_ONCE | flags);

	return CALL(k, &how, ALLOCATOR_RELEASE, Release, &q, &p);
}

/* A call that may have been done. */
static bool unanswered(int r)
{
	return r == -EINPROGRESS || r == -ECANCELED;
}

/* An entry with count 0; the lock is held. */
static struct hold *hold_add(struct kmm *k, uint32_t granule, uint32_t generation)
{
	struct hold *h = malloc(sizeof(*h));
	struct hold **p;

	if (!h || !hold_grow(k)) {
		free(h);
		return NULL;
	}
	h->granule = granule;
	h->generation = generation;
	h->count = 0;
	h->pins = 0;
	h->busy = false;
	h->untold = false;
	p = &k->holds[hold_bucket(granule, k->hold_buckets)];
	h->next = *p;
	*p = h;
	k->nr_holds++;
	return h;
}

/* The lock is held, and released during the call. */
static int hold_first(struct kmm *k, struct hold *h)
{
	int r;

	h->busy = true;
	h->untold = false;
	pthread_mutex_unlock(&k->hold_lock);
	r = hold_call(k, h->granule, h->generation);
	pthread_mutex_lock(&k->hold_lock);
	h->busy = false;
	if (r == 0)
		h->count = 1;
	else if (!unanswered(r))
		hold_remove(k, h);
	pthread_cond_broadcast(&k->hold_done);
	return r;
}

static int hold_take(struct kmm *k, uint32_t granule, uint32_t generation, uint32_t pins)
{
	struct hold *h;
	int r;

	pthread_mutex_lock(&k->hold_lock);
	r = hold_wait(k, granule, &h);
	if (r == 0 && h && h->generation != generation) {
		/* of an earlier life of the place, which a sweep of the daemon ended */
		hold_remove(k, h);
		h = NULL;
	}
	if (r == 0 && !h) {
		h = hold_add(k, granule, generation);
		if (!h)
			r = error_set(ENOMEM, "no memory to count a hold");
	}
	if (r == 0 && h->count > 0)
		h->count++;
	else if (r == 0)
		r = hold_first(k, h);
	if (r == 0)
		h->pins += pins;
	pthread_mutex_unlock(&k->hold_lock);
	return r;
}

int hold_get(struct kmm *k, uint32_t granule, uint32_t generation)
{
	return hold_take(k, granule, generation, 0);
}

int hold_pin(struct kmm *k, uint32_t granule, uint32_t generation)
{
	return hold_take(k, granule, generation, 1);
}

/* Why there is nothing to put. */
static int hold_none(struct kmm *k, uint32_t granule, bool pinned)
{
	char what[THING_TEXT_MAX];
	struct thing t;
	int r = thing_at(k, granule, &t);

	if (r < 0)
		return r;
	thing_text(k, &t, what);
	if (!word_is_live(owner_load(t.word)))
		return error_set(ENOENT, "%s is not live", what);
	return error_set(EPERM, "this session has no hold on %s%s", what,
	                 pinned ? " but that of its mapping, which kmm_kunmap ends" : "");
}

/* Tells the daemon of the last hold's end; what it came to is in the entry, if that is left. The lock is
 * held, and released during the call. */
static int hold_last(struct kmm *k, struct hold *h, unsigned int flags)
{
	int r;

	h->busy = true;
	h->untold = false;
	pthread_mutex_unlock(&k->hold_lock);
	r = release_call(k, h->granule, h->generation, flags);
	pthread_mutex_lock(&k->hold_lock);
	h->busy = false;
	if (r == 0 || r == -ENOENT || r == -ESTALE || r == -EPERM)
		hold_remove(k, h); /* the daemon has no such hold any more, either way */
	else if (unanswered(r))
		h->count = 0;
	pthread_cond_broadcast(&k->hold_done);
	return r;
}

int hold_put(struct kmm *k, uint32_t granule)
{
	struct hold *h;
	int r;

	pthread_mutex_lock(&k->hold_lock);
	r = hold_wait(k, granule, &h);
	if (r < 0) {
		/* the call is over */
	} else if (!h || (h->pins > 0 && h->count == h->pins)) {
		r = hold_none(k, granule, h != NULL);
	} else if (h->count > 1) {
		h->count--;
	} else {
		r = hold_last(k, h, 0);
	}
	pthread_mutex_unlock(&k->hold_lock);
	return r;
}

void hold_unpin(struct kmm *k, uint32_t granule)
{
	ERROR_TEXT_SCOPE;
	struct hold *h;
	bool untold = false;
	int r;

	pthread_mutex_lock(&k->hold_lock);
	/* Nobody else ends a hold that has pins, so it is not busy. */
	h = k->hold_buckets > 0 ? *hold_find(k, granule) : NULL;
	if (h && h->pins > 0) {
		h->pins--;
		if (h->count > 1) {
			h->count--;
		} else {
			r = hold_last(k, h, CALL_NOWAIT);
			untold = r != 0 && r != -ENOENT && r != -ESTALE && r != -EPERM;
			if (untold) {
				h->count = 0;
				h->untold = true;
			}
		}
	}
	pthread_mutex_unlock(&k->hold_lock);
	if (untold)
		session_untold(k);
}

static struct hold *hold_untold(struct kmm *k)
{
	struct hold *h;
	size_t i;

	for (i = 0; i < k->hold_buckets; i++)
		for (h = k->holds[i]; h; h = h->next)
			if (h->untold && !h->busy)
				return h;
	return NULL;
}

bool hold_repeat(struct kmm *k)
{
	struct hold *h;
	int r = 0;

	pthread_mutex_lock(&k->hold_lock);
	while (r == 0 && (h = hold_untold(k))) {
		r = hold_last(k, h, CALL_NOWAIT);
		if (r == -ENOENT || r == -ESTALE || r == -EPERM)
			r = 0;
		else if (r < 0)
			h->untold = true;
	}
	pthread_mutex_unlock(&k->hold_lock);
	return r == 0;
}

int hold_repeated(struct kmm *k, uint32_t granule)
{
	struct hold *h;
	int n = 0;

	pthread_mutex_lock(&k->hold_lock);
	h = k->hold_buckets > 0 ? *hold_find(k, granule) : NULL; /* a busy one is no second hold */
	if (h && h->count > 1)
		n = h->count - 1 < INT_MAX / 2 ? (int)(h->count - 1) : INT_MAX / 2;
	pthread_mutex_unlock(&k->hold_lock);
	return n;
}

void hold_free_all(struct kmm *k)
{
	size_t i;

	for (i = 0; i < k->hold_buckets; i++) {
		struct hold *h, *next;

		for (h = k->holds[i]; h; h = next) {
			next = h->next;
			free(h);
		}
	}
	free(k->holds);
}
