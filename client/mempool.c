/* SPDX-License-Identifier: MIT */
/*
 * Mempools: a reserve of objects for those that must get on, as in Linux (mm/mempool.c).
 *
 *     alloc   1. the cache, without waiting and without reserves of the daemon
 *             2. the reserve
 *             3. with DIRECT_RECLAIM: what comes first, memory or an object that another thread frees
 *                to the pool; until the deadline
 *     free    1. to the thread that has waited longest in 3
 *             2. to the reserve, as long as it is short
 *             3. to the cache
 *
 * So as many objects as the reserve has can be out at any time whatever happens to memory, and who
 * waits for more waits no longer than until one of the pool's is freed. The reserve is an array of
 * objects that this session holds: neither pressure nor a flush nor dropped caches nor the daemon's
 * death concern it.
 *
 * Waiting at two places. The call of 3 carries a ticket (struct call_ticket), and its thread stands in
 * the pool's queue. Who frees to it hands the object over in the queue's entry and ends the call. When
 * the daemon had granted something at that very moment, the thread has two objects, and frees one.
 * Requests that the daemon refuses though they may wait (a quota) wait for a free alone, and look
 * again now and then.
 *
 * What goes to the reserve is checked as any free is (ours, of this cache, not there already), its
 * handles end, and where the cache has debugging flags its red zones are looked at and it is poisoned,
 * as a free object. What others hold (kmm_get, a name) cannot go there: it goes to the cache, and the
 * reserve is filled from the cache, if that can be done at once, else by a later free.
 *
 * The lock guards queue and reserve. It is taken only when the cache failed or the reserve is short:
 * who frees an object has it from an allocation before, and sees the reserve at least as that left
 * it. Freeing to the reserve costs O(reserve), everything else O(1).
 */
#include "client/object.h"

#include <stdlib.h>
#include <string.h>

/* How long a request that the daemon refuses goes without asking again. */
#define REFUSED_NS 50000000u

struct pool_waiter {
	struct pool_waiter *next;
	struct call_ticket ticket;
	void *given; /* NULL: it is queued */
};

struct kmm_mempool {
	struct kmm *k;
	struct kmm_cache *c;
	struct kmm_mempool *next, **prev; /* of the session; cache_lock */
	_Atomic size_t out;               /* allocated and not freed */
	size_t min;
	pthread_mutex_t lock;
	_Atomic size_t n;                 /* of the reserve; written under lock */
	struct pool_waiter *first, **last;
	void *reserve[];
};

/* ---- the reserve; the lock is held ---- */

static bool reserve_short(struct kmm_mempool *m)
{
	/* relaxed: see above; or the lock is held */
	return atomic_load_explicit(&m->n, memory_order_relaxed) < m->min;
}

static void reserve_push(struct kmm_mempool *m, void *p)
{
	size_t n = atomic_load_explicit(&m->n, memory_order_relaxed);

	m->reserve[n] = p;
	atomic_store_explicit(&m->n, n + 1, memory_order_relaxed);
}

static void *reserve_pop(struct kmm_mempool *m)
{
	size_t n = atomic_load_explicit(&m->n, memory_order_relaxed);

	if (n == 0)
		return NULL;
	atomic_store_explicit(&m->n, n - 1, memory_order_relaxed);
	return m->reserve[n - 1];
}

static bool reserve_has(struct kmm_mempool *m, const void *p)
{
	size_t n = atomic_load_explicit(&m->n, memory_order_relaxed), i;

	for (i = 0; i < n; i++)
		if (m->reserve[i] == p)
			return true;
	return false;
}

/* To the thread that waits longest, else to the reserve; false: neither needs it. */
static bool pool_put(struct kmm_mempool *m, void *p)
{
	struct pool_waiter *w = m->first;

	if (w) {
		m->first = w->next;
		if (!m->first)
			m->last = &m->first;
		w->given = p;
		call_ticket_end(m->k, &w->ticket);
		return true;
	}
	if (!reserve_short(m))
		return false;
	reserve_push(m, p);
	return true;
}

/* ---- what leaves the reserve, and what comes to it ---- */

/* Free in the reserve's sense -> in use. */
static void *pool_take(struct kmm_mempool *m, void *p, kmm_gfp_t gfp)
{
	/* What was written to it meanwhile is reported, and mended: it is used all the same. */
	if (m->c->debug && !debug_on_alloc(m->c, p, true))
		debug_on_alloc(m->c, p, true);
	if (gfp & KMM_GFP_ZERO)
		memset(p, 0, m->c->view->size);
	return p;
}

/* An object in use becomes one of the reserve. false: it cannot, kmm_cache_free says why or frees
 * it. *r: 0, or -EFAULT, an overrun. */
static bool pool_keep(struct kmm_mempool *m, void *p, int *r)
{
	struct kmm *k = m->k;
	struct thing t;
	uint64_t w;

	if (thing_of(k, p, &t) < 0 || t.cache != m->c->id || section_map(k, t.pfn) < 0)
		return false;
	w = owner_load(t.word);
	do {
		if (!owner_is(w, OWNER_HELD, k->id) || (w & OWNER_KEPT))
			return false;
	} while ((w & OWNER_SHARED) && !owner_cas(t.word, &w, owner_renewed(w, OWNER_HELD, k->id)));
	thing_shared_clear(k, &t);
	*r = m->c->debug ? debug_on_free(k, t.view, p) : 0;
	return true;
}

/* ---- making, ending ---- */

static int pool_fill(struct kmm_mempool *m)
{
	size_t n = 0;

	while (n < m->min) {
		size_t got = kmm_cache_alloc_bulk(m->c, KMM_GFP_KERNEL, m->min - n, m->reserve + n);

		if (got == 0)
			return -errno;
		n += got;
		atomic_store_explicit(&m->n, n, memory_order_relaxed);
	}
	return 0;
}

static void pool_link(struct kmm_mempool *m)
{
	struct kmm *k = m->k;

	pthread_mutex_lock(&k->cache_lock);
	m->next = k->mempools;
	m->prev = &k->mempools;
	if (m->next)
		m->next->prev = &m->next;
	k->mempools = m;
	pthread_mutex_unlock(&k->cache_lock);
}

static void pool_free(struct kmm_mempool *m)
{
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* The reserve goes to the cache, which may have been destroyed here meanwhile. */
static void pool_empty(struct kmm_mempool *m)
{
	ERROR_TEXT_SCOPE;
	void *p;

	while ((p = reserve_pop(m)) != NULL)
		kmm_kfree(m->k, pool_take(m, p, 0));
}

static int pool_create(struct kmm_cache *c, size_t min, struct kmm_mempool **ret)
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	struct kmm_mempool *m;
	int r = cache_enter(c, CACHE_TO_USE, &k);

	if (r < 0)
		return r;
	if (min > k->window_size / c->view->size)
		return error_set(ENOMEM, "a reserve of %zu objects of %u bytes is more than the pool",
		                 min, c->view->size);
	if (min == 0)
		min = 1; /* as in Linux: without any, nobody could be sure to get on */
	m = calloc(1, sizeof(*m) + min * sizeof(m->reserve[0]));
	if (!m)
		return error_set(ENOMEM, "no memory for a mempool");
	m->k = k;
	m->c = c;
	m->min = min;
	m->last = &m->first;
	pthread_mutex_init(&m->lock, NULL);
	r = pool_fill(m);
	if (r < 0) {
		pool_empty(m);
		pool_free(m);
		return r;
	}
	for (size_t i = 0; c->debug && i < min; i++)
		debug_on_free(k, c->view, m->reserve[i]);
	pool_link(m);
	*ret = m;
	return 0;
}

struct kmm_mempool *kmm_mempool_create(struct kmm_cache *c, size_t min_nr)
{
	struct kmm_mempool *m = NULL;
	int r = pool_create(c, min_nr, &m);

	return r < 0 ? errno_null(r) : m;
}

int kmm_mempool_destroy(struct kmm_mempool *m)
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	size_t out;
	int r;

	if (!m)
		return 0;
	r = session_enter(m->k);
	if (r < 0)
		return r;
	k = m->k;
	/* acquire: pairs with the release of who freed last */
	out = atomic_load_explicit(&m->out, memory_order_acquire);
	if (out > 0)
		return error_set(EBUSY, "%zu object%s of the mempool (cache %s) %s out", out,
		                 out == 1 ? "" : "s", m->c->view->name, out == 1 ? "is" : "are");
	pthread_mutex_lock(&k->cache_lock);
	*m->prev = m->next;
	if (m->next)
		m->next->prev = m->prev;
	pthread_mutex_unlock(&k->cache_lock);
	pool_empty(m);
	pool_free(m);
	return 0;
}

void mempool_free_all(struct kmm *k)
{
	struct kmm_mempool *m;

	while ((m = k->mempools)) {
		k->mempools = m->next;
		pool_free(m);
	}
}

/* ---- allocating ---- */

/* What the first attempt is not to do, and what it is. */
#define POOL_WAITS (KMM_GFP_DIRECT_RECLAIM | KMM_GFP_IO | KMM_GFP_NOFAIL | KMM_GFP_RETRY_MAYFAIL)
#define POOL_TRIES (KMM_GFP_NORETRY | KMM_GFP_NOWARN | KMM_GFP_NOMEMALLOC)

/* Of that kind is no failure that an object of the reserve could make good. */
static bool is_refusal(int r)
{
	return r == -EINVAL || r == -EPERM || r == -EOWNERDEAD || r == -ENOTRECOVERABLE;
}

/* No memory for the request, though it may wait: but a free may come. */
static bool is_shortage(int r)
{
	return r == -ENOMEM || r == -EDQUOT || r == -ENOKEY;
}

static bool was_given(struct pool_waiter *w)
{
	/* acquire: pairs with the release in call_ticket_end(); `given` was written before */
	return atomic_load_explicit(&w->ticket.ended, memory_order_acquire) != 0;
}

/* Waits for memory or a free: 0 when it got memory, or was given something. */
static int wait_for_either(struct kmm_mempool *m, kmm_gfp_t gfp, struct pool_waiter *w,
                           uint32_t cancels, void **ret)
{
	struct kmm *k = m->k;
	int r;

	for (;;) {
		/* acquire: read before the looks, so that no change is slept over */
		uint32_t seen = atomic_load_explicit(&k->changes, memory_order_acquire);
		uint64_t now;

		call_ticket_next = &w->ticket;
		r = object_alloc(m->c, gfp, ret);
		call_ticket_next = NULL;
		if (was_given(w))
			return 0;
		if (r == 0 || !is_shortage(r))
			return r;
		if (atomic_load_explicit(&k->cancels, memory_order_acquire) != cancels)
			return error_set(ECANCELED, "the call was cancelled");
		now = process_now();
		if (now >= w->ticket.deadline)
			return error_set(ETIMEDOUT, "no object of the mempool (cache %s) was freed in "
			                            "time, and the cache has none", m->c->view->name);
		now += REFUSED_NS;
		futex_wait(&k->changes, seen, now < w->ticket.deadline ? now : w->ticket.deadline);
	}
}

static void waiter_unqueue(struct kmm_mempool *m, struct pool_waiter *w)
{
	struct pool_waiter **link = &m->first;

	if (w->given)
		return;
	while (*link != w)
		link = &(*link)->next;
	*link = w->next;
	if (!*link)
		m->last = link;
}

static int pool_wait(struct kmm_mempool *m, kmm_gfp_t gfp, struct call_how how, void **ret)
{
	struct pool_waiter w = { .ticket.deadline = how.deadline };
	void *p = NULL;
	int r;

	pthread_mutex_lock(&m->lock);
	*ret = reserve_pop(m); /* it was empty a moment ago */
	if (!*ret) {
		pthread_mutex_init(&w.ticket.lock, NULL);
		*m->last = &w;
		m->last = &w.next;
	}
	pthread_mutex_unlock(&m->lock);
	if (*ret) {
		pool_take(m, *ret, gfp);
		return 0;
	}
	r = wait_for_either(m, gfp & ~(KMM_GFP_NORETRY | KMM_GFP_RETRY_MAYFAIL), &w, how.cancels, &p);
	pthread_mutex_lock(&m->lock);
	waiter_unqueue(m, &w);
	pthread_mutex_unlock(&m->lock);
	pthread_mutex_destroy(&w.ticket.lock);
	if (!w.given) {
		*ret = p;
		return r;
	}
	if (p) /* both came */
		kmm_cache_free(m->c, p);
	*ret = pool_take(m, w.given, gfp);
	return 0;
}

/* The cache had none at once. */
static int pool_alloc_slow(struct kmm_mempool *m, kmm_gfp_t gfp, int failed, void **ret)
{
	void *p;

	pthread_mutex_lock(&m->lock);
	p = reserve_pop(m);
	pthread_mutex_unlock(&m->lock);
	if (p) {
		*ret = pool_take(m, p, gfp);
		return 0;
	}
	if (!(gfp & KMM_GFP_DIRECT_RECLAIM) || (gfp & KMM_GFP_LOCAL) || failed == -ECANCELED)
		return failed;
	return pool_wait(m, gfp, call_begin_gfp(m->k, gfp), ret);
}

static int pool_alloc(struct kmm_mempool *m, kmm_gfp_t gfp, void **ret)
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	char text[ERROR_TEXT_MAX];
	int r = session_enter(m->k);

	if (r < 0)
		return r;
	k = m->k;
	gfp = gfp_of_thread(gfp);
	error_text_copy(text);
	r = object_alloc(m->c, (gfp & ~POOL_WAITS) | POOL_TRIES, ret);
	if (r < 0 && !is_refusal(r)) {
		r = pool_alloc_slow(m, gfp, r, ret);
		if (r == 0)
			error_text_put(text);
	}
	return r;
}

void *kmm_mempool_alloc(struct kmm_mempool *m, kmm_gfp_t gfp)
{
	void *p;
	int r;

	if (!m)
		return errno_null(error_set(EINVAL, "the mempool is NULL"));
	p = kmm_cache_alloc_1(m->c, gfp);
	if (!p) {
		r = pool_alloc(m, gfp, &p);
		if (r < 0)
			return errno_null(r);
	}
	/* relaxed: for who frees it; kmm_mempool_destroy is no matter for other threads */
	atomic_fetch_add_explicit(&m->out, 1, memory_order_relaxed);
	return p;
}

/* ---- freeing ---- */

/* The lock is held. */
static int reserve_check(struct kmm_mempool *m, const void *p)
{
	return reserve_has(m, p) ? error_set(ENOENT, "%p is in the mempool's reserve: it was freed "
	                                             "before", p)
	                         : 0;
}

/* What pool_keep() made free goes where it is wanted; true: it did, or *r says why not. */
static bool pool_give(struct kmm_mempool *m, void *p, int *r)
{
	int twice;
	bool given = true;

	pthread_mutex_lock(&m->lock);
	twice = reserve_check(m, p); /* another thread frees it, too */
	if (twice < 0)
		*r = twice;
	else
		given = pool_put(m, p);
	pthread_mutex_unlock(&m->lock);
	return given;
}

/* What was freed went where the reserve cannot have it: another in its place. */
static void pool_refill(struct kmm_mempool *m)
{
	ERROR_TEXT_SCOPE;
	void *p = kmm_cache_alloc(m->c, KMM_GFP_NOWAIT | KMM_GFP_NOMEMALLOC);
	int r = 0;

	if (!p)
		return;
	if (m->c->debug)
		debug_on_free(m->k, m->c->view, p);
	if (!pool_give(m, p, &r))
		kmm_cache_free(m->c, pool_take(m, p, 0));
}

/* The reserve is short, or somebody waits. */
static int pool_free_slow(struct kmm_mempool *m, void *p)
{
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	int r = session_enter(m->k);

	if (r < 0)
		return r;
	k = m->k;
	pthread_mutex_lock(&m->lock);
	r = reserve_check(m, p);
	pthread_mutex_unlock(&m->lock);
	if (r < 0)
		return r;
	if (pool_keep(m, p, &r)) {
		if (pool_give(m, p, &r))
			return r;
		pool_take(m, p, 0); /* others were faster */
	}
	r = kmm_cache_free(m->c, p);
	if (r == 0 || r == -EFAULT)
		pool_refill(m);
	return r;
}

int kmm_mempool_free(struct kmm_mempool *m, void *p)
{
	ERRNO_SCOPE;
	int r;

	if (!m)
		return error_set(EINVAL, "the mempool is NULL");
	if (!p)
		return 0;
	if (atomic_load_explicit(&m->out, memory_order_relaxed) == 0)
		return error_set(EINVAL, "no object of the mempool (cache %s) is out",
		                 m->c->view->name);
	r = reserve_short(m) ? pool_free_slow(m, p) : kmm_cache_free(m->c, p);
	if (r == 0 || r == -EFAULT)
		/* release: pairs with the acquire in kmm_mempool_destroy() */
		atomic_fetch_sub_explicit(&m->out, 1, memory_order_release);
	return r;
}
