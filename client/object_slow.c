/* SPDX-License-Identifier: MIT */
/*
 * Objects by all the rules: what the fast paths of object.c leave.
 *
 *   alloc   the thread's magazines; else a magazine from the daemon; else, where memory is short or
 *           magazines are too large for the thread, one object: word OFFERED -> HELD by a CAS
 *   free    HELD by us; a handle becomes stale (generation + 1); with further holders the object is
 *           theirs from now on. Then it is cached, or marked RETURNED and the daemon is told
 *
 * What a thread caches stays HELD: two frees of the same object are noticed when its magazine leaves
 * the thread. In marked classes (caches with consistency checks; caches that the session has not
 * open, whose objects kmm_kfree was given) it is RETURNED: a second free is noticed at once, and the
 * daemon may collect it at any time, by its word.
 *
 * Constructors run when objects come, before anybody sees them; a cache with debugging flags has
 * every object made ready by debug.c instead, one at a time.
 */
#include "client/object.h"

#include <string.h>

/* ---- what a thread caches of a cache ---- */

/* Fast paths may pass from now on, if nothing speaks against it. */
static void gate_open(struct kmm *k, struct thread_cache *tc, struct local_objects *o,
                      struct kmm_cache *c)
{
	enum session_state state;

#ifdef __SANITIZE_THREAD__
	return; /* it knows nothing of membarrier: all goes by local_enter() */
#endif
	local_enter(tc);
	/* Looked at inside: whoever seizes for one of these changes it before. */
	if (local_size(&o->class) > 0 && o->class.kind == &local_held && !c->debug && !pressure(k) &&
	    atomic_load_explicit(&c->references, memory_order_acquire) > 0 && o->life == c->life)
		local_open(&o->class, k, c);
	/* seq_cst: the gate is stored before `seized` and the state are read; who seizes, or ends
	 * the session, stores those before he closes the gate: one of the two sees the other's. */
	atomic_thread_fence(memory_order_seq_cst);
	state = session_state(k);
	/* acquire: who gave up waiting for this thread, which was busy here for too long, set `drain`
	 * before `seized` was 0 again */
	if (atomic_load_explicit(&tc->seized, memory_order_acquire) ||
	    atomic_load_explicit(&tc->drain, memory_order_relaxed) || state == SESSION_LOST ||
	    state == SESSION_CLOSING)
		local_close(&o->class);
	local_leave(tc);
}

static void objects_copy(struct local_objects *o, struct kmm_cache *c, uint64_t life)
{
	const struct control_cache *v = c->view;

	o->life = life;
	o->class.order = v->order;
	o->inverse = v->inverse;
	o->objects = v->objects;
	o->colour_shift = (uint8_t)__builtin_ctz(v->colour_off);
	o->offset = v->offset;
	o->twos = v->twos;
	o->class.bytes = v->stride;
	/* Lemire, Kaser and Kurz 2019, "Faster remainder by direct computation": exact below 2^32.
	 * In a slab of one frame; in larger ones as long as frames are multiples of the stride.
	 * Behind the last object there may be one more multiple, but its owner word is FREE. */
	o->class.unit = 0;
	if (v->offset == 0 && v->colours == 1 &&
	    (v->order == 0 || KMM_PAGE_SIZE % v->stride == 0))
		o->class.unit = UINT64_MAX / v->stride + 1;
}

/* The thread's first use of a cache. */
static void objects_begin(struct thread_cache *tc, struct local_objects *o, struct kmm_cache *c)
{
	o->id = c->id;
	o->class.cache = c;
	o->class.kind = &local_held;
	/* relaxed, then release: others find it on the list whole */
	o->next = atomic_load_explicit(&tc->objects, memory_order_relaxed);
	atomic_store_explicit(&tc->objects, o, memory_order_release);
}

/* The thread's class for a cache, ready, with its gate open when it may be. */
static struct local_objects *objects_get(struct kmm *k, struct thread_cache *tc,
                                         struct kmm_cache *c)
{
	/* acquire: pairs with cache.c, which sets all else before; and with the daemon */
	bool open = atomic_load_explicit(&c->references, memory_order_acquire) > 0;
	uint64_t life = atomic_load_explicit(&c->view->life, memory_order_acquire);
	const struct local_kind *kind = open && !c->marked ? &local_held : &local_marked;
	struct local_objects *o = local_of(tc, c);

	local_drain(k, tc);
	if (unlikely(!o->class.kind))
		objects_begin(tc, o, c);
	if (unlikely(o->life != life || o->class.kind != kind)) {
		local_close(&o->class);
		local_flush_class(k, tc, &o->class, false);
		local_class_stop(tc, &o->class);
		local_enter(tc);
		o->class.kind = kind;
		objects_copy(o, c, life);
		local_leave(tc);
	}
	if (unlikely(local_size(&o->class) == 0))
		local_class_start(k, tc, &o->class);
	gate_open(k, tc, o, c);
	return o;
}

static owner_word_t *word_of(struct kmm *k, const void *p)
{
	uint32_t pfn = (uint32_t)((size_t)((const uint8_t *)p - k->window) >> FRAME_SHIFT), index;
	/* acquire: pairs with the daemon's stores before it publishes the word */
	uint64_t d = atomic_load_explicit(&k->control.desc[pfn], memory_order_acquire);

	if (page_desc_kind(d) != PAGE_SLAB ||
	    !object_locate(&k->control, k->window, d, p, &index))
		return NULL;
	return &k->control.object[index];
}

/* ---- one object, to and from the daemon ---- */

int object_free_tell(struct kmm *k, uint32_t granule, uint64_t word, bool wait)
{
	kmm_v1_FreeObjectRequest q = { .granule = granule, .generation = owner_generation(word) };
	kmm_v1_FreeObjectReply p = kmm_v1_FreeObjectReply_init_zero;
	struct call_how how = call_begin(k, CALL_NOWAIT);
	char text[ERROR_TEXT_MAX];
	int r = -EAGAIN;

	error_text_copy(text);
	/* Where memory is short, what is freed is to be there for others on return; and who looks
	 * at a kept object is to see that one holder less has it. */
	if (!wait && !pressure(k) && !scarce(k) && !(word & OWNER_KEPT)) {
		r = call_notify(k, &how, kmm_v1_Method_ALLOCATOR_FREE_OBJECT,
		                kmm_v1_FreeObjectRequest_fields, &q);
		if (r == 0)
			return 0;
	}
	if (r != -ENOBUFS && session_state(k) == SESSION_UP)
		r = CALL(k, &how, ALLOCATOR_FREE_OBJECT, FreeObject, &q, &p);
	if (r != -EAGAIN && r != -ENOBUFS && r != -ECANCELED && r != -ETIMEDOUT &&
	    r != -ENOTRECOVERABLE)
		return r;
	error_text_put(text);
	session_untold(k); /* the word says it; the daemon looks when it is back */
	return 0;
}

/* An object of ours that cannot be used goes back. */
static void give_back(struct kmm *k, struct kmm_cache *c, void *p)
{
	ERROR_TEXT_SCOPE;
	struct exchange x = { .cache = c };
	uint32_t granule;
	uint64_t w;

	if (exchange_return(k, x, (uintptr_t)p, &w, &granule))
		object_free_tell(k, granule, w, false);
}

/* Makes a HELD object usable: reachable, and constructed where that is done here. */
static int object_prepare(struct kmm *k, struct kmm_cache *c, void *p)
{
	uint32_t pfn = (uint32_t)((size_t)((uint8_t *)p - k->window) >> FRAME_SHIFT);
	owner_word_t *word;
	int r = section_map(k, pfn);

	if (r < 0 || !c->view->ctor || c->debug)
		return r;
	word = word_of(k, p);
	if (!word)
		return error_set(EPROTO, "the daemon passed what is no object of the cache");
	if (owner_load(word) & OWNER_CONSTRUCTED)
		return 0;
	if (!c->ctor)
		return error_set(ENOKEY,
		                 "an object of cache %s is not constructed, and this session has "
		                 "only opened the cache",
		                 c->view->name);
	cache_construct(c, p);
	/* release: what the constructor wrote comes before */
	atomic_fetch_or_explicit(word, OWNER_CONSTRUCTED, memory_order_release);
	return 0;
}

static int alloc_one(struct kmm *k, struct kmm_cache *c, uint32_t gfp, struct call_how *how,
                     void **ret)
{
	kmm_v1_AllocObjectRequest q = { .cache = c->id,
		                        .life = c->life,
		                        .gfp = gfp,
		                        .constructed = c->opened_only,
		                        .node = how->node };

	for (;;) {
		kmm_v1_AllocObjectReply reply = kmm_v1_AllocObjectReply_init_zero;
		owner_word_t *word;
		uint64_t w;
		void *p;
		int r = CALL(k, how, ALLOCATOR_ALLOC_OBJECT, AllocObject, &q, &reply);

		if (r < 0)
			return r;
		p = object_address(k, reply.granule);
		word = reply.granule >> k->granule_bits < k->frames ? word_of(k, p) : NULL;
		if (!word)
			return error_set(EPROTO, "the daemon granted object %u, which is none",
			                 reply.granule);
		object_mark(k, c->view, reply.granule >> k->granule_bits);
		w = owner_load(word);
		if (!owner_is(w, OWNER_OFFERED, k->id) ||
		    !owner_cas(word, &w, owner_moved(w, OWNER_HELD, k->id)))
			continue; /* withdrawn meanwhile */
		object_shared_clear(k, (uint32_t)(word - k->control.object));
		r = object_prepare(k, c, p);
		if (r < 0)
			give_back(k, c, p);
		else
			*ret = p;
		return r;
	}
}

/* ---- by magazines: struct local_kind ---- */

static int held_take(struct kmm *k, struct exchange x, uint32_t gfp, struct call_how *how,
                     uint32_t want, uint64_t out[], uint32_t *n)
{
	bool plain = !x.cache->view->ctor || x.cache->debug;
	uint32_t got = 0, i, good = 0;
	int r = exchange_take(k, how, x, gfp, OWNER_HELD, want, out, &got), failed = 0;

	if (r < 0)
		return r;
	for (i = 0; i < got; i++) {
		void *p = (void *)(uintptr_t)out[i];

		/* Most need nothing: no constructor, and a section that is there. */
		if (likely(plain && section_mapped(k, p))) {
			out[good++] = out[i];
			continue;
		}
		r = object_prepare(k, x.cache, p);
		if (r < 0) {
			failed = r;
			give_back(k, x.cache, p);
		} else {
			out[good++] = out[i];
		}
	}
	if (good == 0)
		return failed;
	*n = good;
	return 0;
}

static int marked_take(struct kmm *k, struct exchange x, uint32_t gfp, struct call_how *how,
                       uint32_t want, uint64_t out[], uint32_t *n)
{
	return exchange_take(k, how, x, gfp, OWNER_RETURNED, want, out, n);
}

static void objects_give(struct kmm *k, struct exchange x, uint64_t r[], uint32_t n, bool wait)
{
	bool up = session_state(k) == SESSION_UP;
	uint32_t i, left = n, granule;
	uint64_t w;

	x.told = wait;
	if (up && n > 1)
		left = exchange_give(k, x, r, n);
	for (i = 0; i < left; i++)
		if (exchange_return(k, x, r[i], &w, &granule) && up)
			object_free_tell(k, granule, w, wait);
	if (!up)
		session_untold(k);
}

/* The word is loaded between two looks at the descriptor: as long as it does not change, the object
 * stays, so that word and address belong together when the exchange succeeds. */
static bool marked_claim(struct thread_cache *tc, const struct local_class *lc, uint64_t round)
{
	const struct local_objects *o = (const struct local_objects *)lc;
	size_t at = (size_t)((uintptr_t)round - (uintptr_t)tc->window);
	uint32_t index, again;
	owner_word_t *word;
	uint64_t w;

	if (!local_locate(tc, o, at, &index))
		return false;
	word = &tc->object_word[index];
	w = owner_load(word);
	return owner_is(w, OWNER_RETURNED, tc->id) && local_locate(tc, o, at, &again) &&
	       again == index && owner_cas(word, &w, owner_moved(w, OWNER_HELD, tc->id));
}

const struct local_kind local_held = {
	.take = held_take,
	.give = objects_give,
	.whole = true,
};
const struct local_kind local_marked = {
	.take = marked_take,
	.give = objects_give,
	.claim = marked_claim,
	.whole = true,
};

/* ---- allocating ---- */

/* Where an object comes from is its cache's business. */
static uint32_t gfp_asked(kmm_gfp_t gfp)
{
	return gfp & ~(KMM_GFP_LOCAL | KMM_GFP_ZERO | GFP_ZONES | KMM_GFP_MOVABLE |
	               KMM_GFP_RECLAIMABLE);
}

/* What was marked while it was cached, and is HELD now, came without object_prepare(). */
static int object_reach(struct kmm *k, struct kmm_cache *c, const struct local_objects *o, void *p)
{
	uint32_t pfn = (uint32_t)((size_t)((uint8_t *)p - k->window) >> FRAME_SHIFT);
	int r = o->class.kind == &local_marked ? section_map(k, pfn) : 0;

	if (r < 0)
		give_back(k, c, p);
	return r;
}

/* HELD by us, not yet looked at by debug.c. */
static int object_take(struct kmm *k, struct thread_cache *tc, struct kmm_cache *c, kmm_gfp_t gfp,
                       struct call_how *how, void **p)
{
	struct local_objects *o =
		tc && !(gfp & KMM_GFP_THISNODE) ? objects_get(k, tc, c) : NULL;
	uint32_t ask = gfp_asked(gfp);
	char text[ERROR_TEXT_MAX];
	uint64_t round;
	int r = -EAGAIN;

	if (o && (!how->node || node_has_top(k, &o->class, how->node)) &&
	    local_take(tc, &o->class, &round))
		return object_reach(k, c, o, *p = (void *)(uintptr_t)round);
	if (gfp & KMM_GFP_LOCAL)
		return error_set(ENOMEM, "this thread caches no object of %s", c->view->name);
	how->flags |= CALL_CANCELLABLE;
	if (!(gfp & KMM_GFP_DIRECT_RECLAIM))
		how->flags |= CALL_NOWAIT;
	error_text_copy(text);
	/* What is short, or comes from the reserves, is not taken in advance. */
	if (o && !how->node && local_size(&o->class) > 0 && !pressure(k) &&
	    !(gfp & KMM_GFP_HIGH)) {
		r = local_refill(k, tc, &o->class, ask, how, &round);
		if (r == 0)
			return object_reach(k, c, o, *p = (void *)(uintptr_t)round);
	}
	if (r == -EAGAIN) /* not worth a magazine, or none is free */
		r = alloc_one(k, c, ask, how, p);
	while (r < 0 && call_again(k, how, gfp, &r))
		r = alloc_one(k, c, ask, how, p);
	if (r == 0)
		error_text_put(text); /* what came before was got over */
	return r;
}

/* Makes an object of a cache with debugging flags ready; false: it went back, spoiled. */
static bool object_debug(struct kmm *k, struct kmm_cache *c, void *p)
{
	owner_word_t *word = word_of(k, p);
	bool prepared = word && (owner_load(word) & OWNER_CONSTRUCTED);

	if (!word)
		return false;
	if (!prepared && c->opened_only) { /* left so by object_free_debug(): we cannot mend it */
		give_back(k, c, p);
		return false;
	}
	if (!debug_on_alloc(c, p, prepared)) { /* reported, and mended: for whoever is next */
		give_back(k, c, p);
		return false;
	}
	if (!prepared && c->ctor)
		cache_construct(c, p);
	if (!prepared) /* release: what was written comes before */
		atomic_fetch_or_explicit(word, OWNER_CONSTRUCTED, memory_order_release);
	return true;
}

static int object_get(struct kmm *k, struct thread_cache *tc, struct kmm_cache *c, kmm_gfp_t gfp,
                      struct call_how *how, void **ret)
{
	void *p = NULL;
	int r;

	do {
		r = object_take(k, tc, c, gfp, how, &p);
		if (r < 0)
			return r;
	} while (c->debug && !object_debug(k, c, p));
	if (gfp & KMM_GFP_ZERO)
		memset(p, 0, c->view->size);
	*ret = p;
	return 0;
}

int object_alloc_node(struct kmm_cache *c, kmm_gfp_t gfp, uint32_t node, void **p)
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	struct call_how how;
	int r = cache_enter(c, CACHE_TO_USE, &k);

	if (r == 0)
		r = object_gfp_check(c, gfp);
	if (r < 0)
		return r;
	how = call_begin_gfp(k, gfp_of_thread(gfp));
	how.node = node;
	return object_get(k, thread_cache_get(k), c, gfp_of_thread(gfp), &how, p);
}

int object_alloc(struct kmm_cache *c, kmm_gfp_t gfp, void **p)
{
	return object_alloc_node(c, gfp, 0, p);
}

void *object_alloc_slow(struct kmm_cache *c, kmm_gfp_t gfp)
{
	void *p = NULL;
	int r = object_alloc(c, gfp, &p);

	return r < 0 ? errno_null(r) : p;
}

/* Up to n, straight from a magazine: 0 with how many. */
static int bulk_some(struct kmm *k, struct thread_cache *tc, struct kmm_cache *c, kmm_gfp_t gfp,
                     struct call_how *how, size_t n, void *p[], uint32_t *got)
{
	struct local_objects *o = tc && !c->debug ? objects_get(k, tc, c) : NULL;
	uint32_t want = n < MAGAZINE_ROUNDS_MAX ? (uint32_t)n : MAGAZINE_ROUNDS_MAX, i;
	struct exchange x = { .cache = c };
	int r = -EAGAIN;

	*got = 0;
	if (o && !(gfp & KMM_GFP_THISNODE)) {
		local_class_want(k, tc, &o->class, 2 * n); /* the next time they are at hand */
		*got = local_take_many(tc, &o->class, (uint64_t *)(void *)p, want);
		if (*got == 0 && want > 2 * local_size(&o->class) && !pressure(k) &&
		    !(gfp & (KMM_GFP_HIGH | KMM_GFP_LOCAL)))
			r = held_take(k, x, gfp_asked(gfp), how, want, (uint64_t *)(void *)p, got);
		for (i = 0; (gfp & KMM_GFP_ZERO) && i < *got; i++)
			memset(p[i], 0, c->view->size);
	}
	if (*got > 0)
		return 0;
	if (r == -EAGAIN) {
		r = object_get(k, tc, c, gfp, how, &p[0]);
		*got = r == 0;
	}
	return r;
}

static int object_alloc_bulk(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[], size_t *done)
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	struct thread_cache *tc;
	struct call_how how;
	uint32_t got;
	int r = cache_enter(c, CACHE_TO_USE, &k);

	if (r == 0)
		r = object_gfp_check(c, gfp);
	if (r == 0 && n > 0 && !p)
		r = error_set(EINVAL, "there is no place for the objects");
	if (r < 0)
		return r;
	gfp = gfp_of_thread(gfp);
	how = call_begin_gfp(k, gfp);
	how.flags |= CALL_CANCELLABLE | (gfp & KMM_GFP_DIRECT_RECLAIM ? 0 : CALL_NOWAIT);
	tc = thread_cache_get(k);
	thread_cache_pin(tc); /* a constructor may do anything */
	while (*done < n && r == 0) {
		r = bulk_some(k, tc, c, gfp, &how, n - *done, p + *done, &got);
		*done += got;
		gfp &= ~KMM_GFP_DIRECT_RECLAIM; /* the first is waited for, no more */
		how.flags |= CALL_NOWAIT;
	}
	thread_cache_unpin(tc);
	return r;
}

size_t object_alloc_bulk_slow(struct kmm_cache *c, kmm_gfp_t gfp, size_t n, void *p[])
{
	size_t done = 0;
	int r = object_alloc_bulk(c, gfp, n, p, &done);

	if (r < 0)
		errno = -r;
	return done;
}

/* ---- freeing ---- */

/* The word of what is freed no longer says that it is in use; false: it is not ours. */
static bool object_let_go(struct kmm *k, const struct thing *t, bool cached, uint64_t *ret)
{
	uint64_t w = owner_load(t->word), back;

	do {
		if (!owner_is(w, OWNER_HELD, k->id)) {
			*ret = w;
			return false;
		}
		if (cached && !(w & OWNER_KEPT))
			back = w & OWNER_SHARED ? owner_renewed(w, OWNER_HELD, k->id) : w;
		else
			back = owner_given_back(w, OWNER_RETURNED, k->id);
	} while (back != w && !owner_cas(t->word, &w, back));
	thing_shared_clear(k, t);
	*ret = back;
	return true;
}

static int object_not_freed(struct kmm *k, const struct thing *t, uint64_t w)
{
	int r = thing_not_mine(k, t, w, true);

	if (t->view->flags & CACHE_DEBUG_FLAGS)
		debug_on_bad_free(k, t, r);
	return r;
}

/* Checks what is still HELD by us alone, and makes it as a free object is. Where it cannot be reached
 * (sent to us, never touched, and no memory to map it) it is freed all the same, not CONSTRUCTED any
 * more: nobody is to judge it by what no free has written. */
static int object_free_debug(struct kmm *k, const struct thing *t, void *p)
{
	char text[ERROR_TEXT_MAX];

	error_text_copy(text);
	if (section_map(k, t->pfn) == 0)
		return debug_on_free(k, t->view, p);
	error_text_put(text);
	/* relaxed: no byte of it was written here */
	atomic_fetch_and_explicit(t->word, ~OWNER_CONSTRUCTED, memory_order_relaxed);
	return 0;
}

int object_free(struct kmm *k, struct kmm_cache *c, const struct thing *t)
{
	struct kmm_cache *entry = c ? c : cache_entry(k, t->cache);
	struct thread_cache *tc = thread_cache_get(k);
	struct local_objects *o = NULL;
	void *p = object_address(k, t->granule);
	bool debug = t->view->flags & CACHE_DEBUG_FLAGS, held;
	uint64_t w = owner_load(t->word);
	int r = 0, told = 0;

	if (!owner_is(w, OWNER_HELD, k->id))
		return object_not_freed(k, t, w);
	if (debug) {
		/* Its handles end first, so that nobody gets hold of it while it is poisoned. What
		 * others hold is still read by them. */
		if (!object_let_go(k, t, true, &w))
			return object_not_freed(k, t, w);
		if (!(w & OWNER_KEPT))
			r = object_free_debug(k, t, p);
	}
	if (tc && entry && !pressure(k))
		o = objects_get(k, tc, entry);
	if (o && local_size(&o->class) == 0)
		o = NULL;
	held = o && o->class.kind == &local_held;
	if (!(debug && (w & OWNER_KEPT)) && !object_let_go(k, t, held, &w))
		return object_not_freed(k, t, w);
	if (o && !(w & OWNER_KEPT) && local_keep(k, tc, &o->class, (uintptr_t)p))
		return r;
	if (owner_is(w, OWNER_HELD, k->id))
		give_back(k, entry, p);
	else
		told = object_free_tell(k, t->granule, w, false);
	return r < 0 ? r : told;
}

/* An object of c, live or not. */
static int object_of(struct kmm *k, struct kmm_cache *c, const void *p, struct thing *t)
{
	int r = thing_of(k, p, t);

	if (r < 0)
		return r;
	if (!t->view)
		return error_set(EINVAL, "%p is a page block, no object of cache %s", p,
		                 c->view->name);
	if (t->cache != c->id)
		return error_set(EINVAL, "%p is an object of cache %s, not of %s", p,
		                 t->view->name, c->view->name);
	return 0;
}

int object_free_slow(struct kmm_cache *c, void *p)
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	struct thing t;
	int r = cache_enter(c, CACHE_TO_FREE, &k);

	if (r < 0 || !p)
		return r;
	r = object_of(k, c, p, &t);
	return r < 0 ? r : object_free(k, c, &t);
}

static int bulk_check(struct kmm *k, struct kmm_cache *c, size_t n, void *const p[])
{
	size_t i;

	for (i = 0; i < n; i++) {
		struct thing t;
		uint64_t w;
		int r;

		if (!p[i])
			return error_set(EINVAL, "entry %zu is NULL", i);
		r = object_of(k, c, p[i], &t);
		if (r < 0)
			return r;
		w = owner_load(t.word);
		if (!owner_is(w, OWNER_HELD, k->id))
			return object_not_freed(k, &t, w);
	}
	return 0;
}

/* Up to a magazine's worth; what must go one by one does. */
static int bulk_free_some(struct kmm *k, struct kmm_cache *c, size_t n, void *const p[])
{
	struct thread_cache *tc = thread_cache_get(k);
	struct local_objects *o = tc && !c->debug && !pressure(k) ? objects_get(k, tc, c) : NULL;
	uint64_t r[MAGAZINE_ROUNDS_MAX];
	uint32_t many = 0;
	int rc = 0, one;
	size_t i;

	if (o)
		local_class_want(k, tc, &o->class, 2 * n);
	thread_cache_pin(tc); /* object_free() asks for it, too: the session may be lost by then */
	for (i = 0; i < n; i++) {
		struct thing t;
		uint64_t w;

		one = object_of(k, c, p[i], &t);
		if (one == 0) {
			w = owner_load(t.word);
			if (o && o->class.kind == &local_held &&
			    owner_is(w, OWNER_HELD, k->id) && !(w & (OWNER_SHARED | OWNER_KEPT))) {
				r[many++] = (uintptr_t)p[i];
				continue;
			}
			one = object_free(k, c, &t);
		}
		rc = rc ? rc : one;
	}
	if (many > 0)
		local_keep_many(k, tc, &o->class, r, many);
	thread_cache_unpin(tc);
	return rc;
}

int object_free_bulk_slow(struct kmm_cache *c, size_t n, void *const p[])
{
	ERRNO_SCOPE;
	struct kmm *k __attribute__((cleanup(session_leave_scope))) = NULL;
	size_t i;
	int r = cache_enter(c, CACHE_TO_FREE, &k), rc = 0;

	if (r == 0 && n > 0 && !p)
		r = error_set(EINVAL, "the objects are NULL");
	if (r == 0)
		r = bulk_check(k, c, n, p);
	if (r < 0)
		return r;
	for (i = 0; i < n; i += MAGAZINE_ROUNDS_MAX) {
		size_t some = n - i < MAGAZINE_ROUNDS_MAX ? n - i : MAGAZINE_ROUNDS_MAX;

		r = bulk_free_some(k, c, some, p + i);
		rc = rc ? rc : r;
	}
	return rc;
}
