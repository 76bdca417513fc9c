/* SPDX-License-Identifier: MIT */
/*
 * Magazines in shared memory: how many blocks or objects at a time move between a thread and the
 * domain's rack (rack.c), or the daemon. The protocol is that of shm/magazine.h.
 *
 *   take   one of the rack; else ask the daemon, which offers a full magazine: header OFFERED ->
 *          LOADED by us. Each word that names it -> ours; what is left is an empty magazine, LOADED
 *          by us
 *   give   into an empty magazine LOADED by us: each word -> MAGAZINE, rounds written; then to the
 *          rack, or header LOADED -> DEPOT and tell the daemon
 *
 * A few empty magazines are kept for gives; further ones go to the rack, or back (EMPTY). Without
 * one, a give takes one of the rack, or asks the daemon for one first, and each give that it tells
 * asks for the next in the same call.
 *
 * Nothing is lost: a take whose answer is lost was withdrawn by the daemon with the connection, so
 * our CAS of its header would fail; a give whose answer is lost is told again when the session is
 * up again (exchange_repeat), and telling twice does nothing. Words that could not be given stay
 * RETURNED, where the daemon finds them.
 *
 * An object that a thread cached as HELD and whose word is another's when it is to be given was freed
 * twice: it is left out and reported (rounds.c).
 */
#include "client/object.h"
#include "client/probes.h"

/* An empty magazine, LOADED by us, of the session's stock: false when there is none. */
static bool spare_pop(struct kmm *k, uint32_t *m)
{
	bool had;

	pthread_mutex_lock(&k->magazine_lock);
	had = k->nr_spare > 0;
	if (had)
		*m = k->spare[--k->nr_spare];
	pthread_mutex_unlock(&k->magazine_lock);
	return had;
}

/* Keeps an empty magazine or gives it up; its header says LOADED by us. */
static void spare_push(struct kmm *k, uint32_t m)
{
	struct magazine *mag = &k->control.magazine[m];
	uint64_t h = magazine_load(mag);
	bool kept;

	if (!magazine_is(h, MAGAZINE_LOADED, k->id))
		return;
	pthread_mutex_lock(&k->magazine_lock);
	kept = k->nr_spare < SPARE_MAX;
	if (kept)
		k->spare[k->nr_spare++] = m;
	pthread_mutex_unlock(&k->magazine_lock);
	if (!kept && !rack_put_empty(k, m, h))
		magazine_cas(mag, &h, magazine_next(h, MAGAZINE_EMPTY, 0, 0));
}

static int exchange_call(struct kmm *k, struct call_how *how, const kmm_v1_ExchangeRequest *q,
                         kmm_v1_ExchangeReply *p)
{
	int r;

	how->flags |= CALL_REFUSABLE;
	r = CALL(k, how, ALLOCATOR_EXCHANGE, Exchange, q, p);
	if (r == 0 && p->magazine > k->control.geometry.magazines)
		return error_set(EPROTO, "the daemon named a magazine that does not exist");
	return r;
}

/* The empty magazine of a reply: LOADED by us from now on. */
static bool take_empty(struct kmm *k, const kmm_v1_ExchangeReply *p, uint32_t *m)
{
	uint64_t h;

	if (p->magazine == 0)
		return false;
	*m = p->magazine - 1;
	h = magazine_load(&k->control.magazine[*m]);
	return magazine_is(h, MAGAZINE_LOADED, k->id) ||
	       (magazine_is(h, MAGAZINE_OFFERED, k->id) &&
	        magazine_cas(&k->control.magazine[*m], &h,
	                     magazine_next(h, MAGAZINE_LOADED, k->id, 0)));
}

/* ---- take ---- */

static bool take_racked(struct kmm *k, struct exchange x, uint32_t gfp, enum owner_kind kind,
                        uint32_t rounds, uint64_t out[], uint32_t *n)
{
	for (;;) {
		uint32_t count, m;

		if (gfp & KMM_GFP_THISNODE || !rack_take(k, x, x.room ? x.room : rounds, &m, &count))
			return false;
		count = rounds_unload(k, x, m, count, kind, out);
		spare_push(k, m);
		if (count > 0) {
			*n = count;
			return true;
		}
	}
}

static int take_asked(struct kmm *k, struct call_how *how, struct exchange x, uint32_t gfp,
                      enum owner_kind kind, uint32_t rounds, uint64_t out[], uint32_t *n)
{
	kmm_v1_ExchangeRequest q = { .gfp = gfp, .order = x.order, .rounds = rounds };
	uint32_t wanted = x.cache ? MAGAZINE_OF_OBJECTS | x.cache->id :
	                            (uint32_t)page_class(x.order, gfp >> 3 & 3);

	if (x.cache) {
		q.cache = x.cache->id;
		q.life = x.cache->life;
		q.constructed = x.cache->opened_only;
	}
	for (;;) {
		kmm_v1_ExchangeReply p = kmm_v1_ExchangeReply_init_zero;
		struct magazine *mag;
		uint32_t count, m;
		uint64_t h;
		int r = exchange_call(k, how, &q, &p);

		if (r < 0)
			return r;
		if (p.magazine == 0)
			return error_set(EAGAIN, "the daemon offered no magazine");
		m = p.magazine - 1;
		mag = &k->control.magazine[m];
		h = magazine_load(mag);
		count = magazine_count(h);
		/* Withdrawn meanwhile, or that and offered again to another thread of the session,
		 * which asked for something else: the tag makes the look and the exchange one.
		 * relaxed: the header was read with acquire after it was written */
		if (!magazine_is(h, MAGAZINE_OFFERED, k->id) || count > rounds ||
		    atomic_load_explicit(&mag->kind, memory_order_relaxed) != wanted ||
		    !magazine_cas(mag, &h, magazine_next(h, MAGAZINE_LOADED, k->id, count)))
			continue;
		count = rounds_unload(k, x, m, count, kind, out);
		spare_push(k, m);
		if (count > 0) {
			*n = count;
			return 0;
		}
	}
}

int exchange_take(struct kmm *k, struct call_how *how, struct exchange x, uint32_t gfp,
                  enum owner_kind kind, uint32_t rounds, uint64_t out[], uint32_t *n)
{
	uint32_t cache = x.cache ? x.cache->id : 0, got = 0;
	int r;

	probe_refill_begin(k->id, cache, x.order, rounds);
	if (take_racked(k, x, gfp, kind, rounds, out, &got)) {
		probe_refill_end(k->id, cache, got, 0, 0);
		*n = got;
		return 0;
	}
	r = take_asked(k, how, x, gfp, kind, rounds, out, &got);
	probe_refill_end(k->id, cache, got, r, 1);
	if (r == 0)
		*n = got;
	return r;
}

/* ---- give ---- */

/* Remembers a give that nobody answered. */
static void given_push(struct kmm *k, uint32_t m)
{
	/* release: pairs with the exchange in exchange_repeat; the header says DEPOT */
	atomic_fetch_or_explicit(&k->given[m / 64], UINT64_C(1) << (m % 64), memory_order_release);
}

/* What a give came to: a refusal is an answer, too. */
static bool unanswered(int r)
{
	return r == -EAGAIN || r == -ECANCELED || r == -ETIMEDOUT || r == -EINPROGRESS;
}

/* An empty magazine for a give: from the stock, or from the daemon. */
static int spare_get(struct kmm *k, struct call_how *how, uint32_t *m)
{
	kmm_v1_ExchangeRequest q = { .empty = true };
	kmm_v1_ExchangeReply p = kmm_v1_ExchangeReply_init_zero;
	int r;

	if (spare_pop(k, m) || rack_take_empty(k, m))
		return 0;
	r = exchange_call(k, how, &q, &p);
	if (r < 0)
		return r;
	return take_empty(k, &p, m) ? 0 : -EAGAIN;
}

/* One magazine of rounds: how many of them are done with. */
static uint32_t give_one(struct kmm *k, struct call_how *how, struct exchange x, uint64_t round[],
                         uint32_t n, uint32_t *failed)
{
	kmm_v1_ExchangeRequest q = { .order = x.order };
	kmm_v1_ExchangeReply p = kmm_v1_ExchangeReply_init_zero;
	struct magazine *mag;
	uint32_t m, count, spare;
	uint64_t h;
	int r;

	if (spare_get(k, how, &m) < 0)
		return 0;
	mag = &k->control.magazine[m];
	if (n > MAGAZINE_ROUNDS_MAX)
		n = MAGAZINE_ROUNDS_MAX;
	count = rounds_load(k, x, m, round, n, failed);
	h = magazine_load(mag);
	if (count == 0) {
		spare_push(k, m);
		return n;
	}
	/* relaxed: the header's exchange publishes it */
	atomic_store_explicit(&mag->kind, x.cache ? MAGAZINE_OF_OBJECTS | x.cache->id : x.order,
	                      memory_order_relaxed);
	if (!magazine_is(h, MAGAZINE_LOADED, k->id))
		return n; /* scribbled over: the daemon's sweep finds the words */
	if (rack_give(k, x, m, &h, count))
		return n;
	if (magazine_state(h) == MAGAZINE_LOADED &&
	    !magazine_cas(mag, &h, magazine_next(h, MAGAZINE_DEPOT, 0, count)))
		return n; /* as above */
	q.give = m + 1;
	pthread_mutex_lock(&k->magazine_lock);
	q.empty = k->nr_spare == 0;
	pthread_mutex_unlock(&k->magazine_lock);
	r = exchange_call(k, how, &q, &p);
	if (unanswered(r)) {
		given_push(k, m);
		session_untold(k);
	} else if (r == 0 && take_empty(k, &p, &spare)) {
		spare_push(k, spare);
	}
	return n;
}

uint32_t exchange_give(struct kmm *k, struct exchange x, uint64_t r[], uint32_t n)
{
	/* Without the daemon there is no hurry: the words say what has to be said. */
	ERROR_TEXT_SCOPE;
	struct call_how how = call_begin(k, CALL_NOWAIT);
	uint32_t at = 0, kept = 0;

	probe_give(k->id, x.cache ? x.cache->id : 0, x.order, n);
	while (at < n) {
		uint32_t failed = 0, i;
		uint32_t done = give_one(k, &how, x, r + at, n - at, &failed);

		for (i = 0; i < failed; i++)
			r[kept + i] = r[at + i];
		kept += failed;
		if (done == 0)
			break;
		at += done;
	}
	while (at < n) /* no magazine to be had: for the caller to give one by one */
		r[kept++] = r[at++];
	return kept;
}

bool exchange_repeat(struct kmm *k, struct call_how *how)
{
	uint32_t i, n = ((uint32_t)k->control.geometry.magazines + 63) / 64;
	bool all = true;

	for (i = 0; i < n; i++) {
		/* acquire: pairs with given_push */
		uint64_t left = atomic_exchange_explicit(&k->given[i], 0, memory_order_acquire);

		for (; left; left &= left - 1) {
			uint32_t m = i * 64 + (uint32_t)__builtin_ctzll(left);
			kmm_v1_ExchangeRequest q = { .give = m + 1 };
			kmm_v1_ExchangeReply p = kmm_v1_ExchangeReply_init_zero;

			if (unanswered(exchange_call(k, how, &q, &p))) {
				given_push(k, m);
				all = false;
			}
		}
	}
	return all;
}
