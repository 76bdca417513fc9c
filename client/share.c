/* SPDX-License-Identifier: MIT */
/*
 * Things that pass between sessions: blocks and objects alike.
 *
 * A handle is a granule index and a generation: it means the thing at that place in that life. All
 * that looks at, adopts or takes back a thing by its handle is a load or one CAS of the owner word;
 * the daemon is asked only where its table of holders or another session's quota is concerned.
 *
 *   handle    {me, g}         -> {me, SHARED, g}      once; later calls only read
 *   adopt     {A, SHARED, g}  -> {me, g + 1}          one of many succeeds; CONSTRUCTED stays
 *   take back {me, SHARED, g} -> {me, g + 1}
 *
 * A page that can move is not handed on while its owner has it mapped: the former owner's address would
 * show whatever came to the frame afterwards.
 *
 * Before an adoption the thing is marked in the session's record (section or slab bit), so that the
 * sweep looks there, and its section is mapped, so that the adoption cannot fail half way.
 *
 * Owner words of objects serve one slab after the other, and a slab may end between the reading of
 * its descriptor and the CAS of a word. No harm: the daemon lets neither the generations of a place
 * nor those of a word repeat, so a word that serves another object by then has not the handle's
 * generation, and its CAS fails.
 *
 * Handing objects on is what message passing does most: kmm_handle and kmm_adopt have their common
 * case written out, for a thread that has a cache of the session (and so of one that is usable here
 * and now), and leave all else to the general one.
 */
#include "client/object.h"

#define ADOPT_AHEAD 32u /* handles of a bulk that are looked up at a time */

/* ---- the short ways ---- */

/* The calling thread has a cache of k: k is open, not lost, and of this process. (The cache of a
 * thread that has none is of session NULL.) */
static inline bool thread_uses(struct kmm *k)
{
	/* relaxed: a close by another thread while this one calls is excluded by contract */
	return likely(k && atomic_load_explicit(&thread_cache_now()->session,
	                                        memory_order_relaxed) == k);
}

/* 0: not that simple. */
static inline __attribute__((always_inline)) kmm_handle_t handle_quick(struct kmm *k, const void *p)
{
	uintptr_t at = (uintptr_t)p - (uintptr_t)k->window;
	uint32_t i;
	uint64_t d, w;

	if (unlikely(at >= k->window_size))
		return 0;
	d = desc_load(k, (uint32_t)(at >> FRAME_SHIFT));
	if (page_desc_kind(d) != PAGE_SLAB || !object_locate(&k->control, k->window, d, p, &i))
		return 0;
	w = owner_load(&k->control.object[i]);
	if (!owner_is(w, OWNER_HELD, k->id) ||
	    (!(w & OWNER_SHARED) && !owner_cas(&k->control.object[i], &w, w | OWNER_SHARED)))
		return 0;
	if (!object_shared_test(k, i))
		object_shared_set(k, i);
	return handle_make((uint32_t)(at >> (FRAME_SHIFT - k->granule_bits)), w);
}

/* Where the object of a handle and its word are. */
struct place {
	const struct control_cache *view;
	uint64_t at; /* in the window */
	uint32_t word;
};

/* False: not that simple. */
static inline __attribute__((always_inline)) bool adopt_find(struct kmm *k, kmm_handle_t handle,
                                                             struct place *l)
{
	uint64_t at = granule_offset(k, handle_granule(handle)), d;

	/* acquire: as in section_map */
	if (unlikely(at >= k->window_size ||
	             !atomic_load_explicit(&k->mapped[at >> k->section_shift],
	                                   memory_order_acquire)))
		return false;
	d = desc_load(k, (uint32_t)(at >> FRAME_SHIFT));
	if (page_desc_kind(d) != PAGE_SLAB ||
	    !object_locate(&k->control, k->window, d, k->window + at, &l->word))
		return false;
	l->view = &k->control.cache[page_desc_cache(d)];
	l->at = at;
	return true;
}

/* NULL: not that simple. */
static inline __attribute__((always_inline)) void *adopt_take(struct kmm *k, kmm_handle_t handle,
                                                              const struct place *l)
{
	owner_word_t *word = &k->control.object[l->word];
	uint64_t w = owner_load(word);

	if (unlikely(!handle_is_live(handle, w) ||
	             (w & (OWNER_SHARED | OWNER_KEPT)) != OWNER_SHARED))
		return NULL;
	object_mark(k, l->view, (uint32_t)(l->at >> FRAME_SHIFT));
	if (unlikely(!owner_cas(word, &w, owner_renewed(w, OWNER_HELD, k->id))))
		return NULL;
	object_shared_clear(k, l->word);
	return k->window + l->at;
}

/* ---- handles ---- */

int thing_share(struct kmm *k, const struct thing *t, uint64_t *w)
{
	uint64_t v = owner_load(t->word);

	do {
		if (unlikely(owner_kind(v) == OWNER_MOVING))
			v = word_settled(k, t->word);
		if (!owner_is(v, OWNER_HELD, k->id))
			return thing_not_mine(k, t, v, false);
	} while (!(v & OWNER_SHARED) && !owner_cas(t->word, &v, v | OWNER_SHARED));
	thing_shared_set(k, t);
	*w = v;
	return 0;
}

static __attribute__((noinline)) kmm_handle_t handle_of(struct kmm *k, const void *p)
{
	ERRNO_SCOPE;
	struct thing t;
	uint64_t w;
	int r = session_check(k);

	if (r == 0)
		r = thing_of(k, p, &t);
	if (r == 0)
		r = thing_share(k, &t, &w);
	if (r < 0) {
		errno_saved = -r;
		return 0;
	}
	thread_cache_get(k); /* the next one goes the short way */
	return handle_make(t.granule, w);
}

kmm_handle_t kmm_handle(struct kmm *k, const void *p)
{
	kmm_handle_t handle = thread_uses(k) ? handle_quick(k, p) : 0;

	return likely(handle) ? handle : handle_of(k, p);
}

/* What has a handle and is named in this process: one function of that shape, with the rules of
 * pointer functions. */
typedef int (*handle_fn)(struct kmm *k, kmm_handle_t handle, struct thing *t);

static __attribute__((noinline)) void *handle_name(struct kmm *k, kmm_handle_t handle, handle_fn fn)
{
	ERRNO_SCOPE;
	struct thing t;
	int r = session_check(k);

	if (r == 0)
		r = fn(k, handle, &t);
	if (r < 0) {
		errno_saved = -r;
		return NULL;
	}
	return thing_name(k, &t);
}

static int handle_find(struct kmm *k, kmm_handle_t handle, struct thing *t)
{
	uint64_t w;
	int r = thing_of_handle(k, handle, t, &w);

	return r < 0 ? r : thing_reach(k, t);
}

void *kmm_pointer(struct kmm *k, kmm_handle_t handle)
{
	return handle_name(k, handle, handle_find);
}

/* ---- adopting ---- */

/* A page that can move, mapped by its owner, who would else look at a frame that is not its own. */
static bool thing_mapped(struct kmm *k, const struct thing *t, uint64_t w)
{
	return !t->view && t->pfn >= k->frames && (w & OWNER_MAPPED);
}

static int adopt_try(struct kmm *k, kmm_handle_t handle, const struct thing *t)
{
	uint64_t w = owner_load(t->word);
	char what[THING_TEXT_MAX];

	do {
		bool same;

		if (unlikely(owner_kind(w) == OWNER_MOVING))
			w = word_settled(k, t->word);
		same = (uint32_t)owner_generation(w) == handle >> 32;
		if (same && thing_mapped(k, t, w) && owner_id(w) != k->id)
			return error_set(EBUSY, "%s is mapped by its owner, session %u, until it "
			                        "calls kmm_kunmap",
			                 thing_text(k, t, what), owner_id(w));
		if (same && word_is_live(w) && (w & OWNER_KEPT))
			return error_set(EBUSY, "%s is held by other sessions",
			                 thing_text(k, t, what));
		if (!same || owner_kind(w) != OWNER_HELD || !(w & OWNER_SHARED))
			return thing_stale(handle, w);
	} while (!owner_cas(t->word, &w, owner_renewed(w, OWNER_HELD, k->id)));
	return 0;
}

static int adopt(struct kmm *k, kmm_handle_t handle, struct thing *t)
{
	int r = handle_find(k, handle, t);

	if (r < 0)
		return r;
	thing_mark(k, t);
	r = adopt_try(k, handle, t);
	if (r < 0)
		return r;
	thing_shared_clear(k, t);
	thread_cache_get(k); /* the next one goes the short way */
	return 0;
}

void *kmm_adopt(struct kmm *k, kmm_handle_t handle)
{
	struct place l;
	void *p = NULL;

	if (thread_uses(k) && likely(adopt_find(k, handle, &l)))
		p = adopt_take(k, handle, &l);
	return likely(p) ? p : handle_name(k, handle, adopt);
}

/* Up to ADOPT_AHEAD handles: their owner words, and the objects, are asked of the memory all at
 * once before the first is exchanged. What is not that simple is NULL. */
static void adopt_some(struct kmm *k, size_t n, const kmm_handle_t handles[], void *p[])
{
	struct place l[ADOPT_AHEAD];
	size_t i;

	for (i = 0; i < n; i++) {
		p[i] = NULL;
		if (unlikely(!adopt_find(k, handles[i], &l[i]))) {
			l[i].view = NULL;
			continue;
		}
		__builtin_prefetch((const void *)&k->control.object[l[i].word], 1);
		__builtin_prefetch(k->window + l[i].at);
	}
	for (i = 0; i < n; i++)
		if (likely(l[i].view))
			p[i] = adopt_take(k, handles[i], &l[i]);
}

size_t kmm_adopt_bulk(struct kmm *k, size_t n, const kmm_handle_t handles[], void *p[])
{
	int r = session_check(k), first = 0, saved = errno;
	char text[ERROR_TEXT_MAX] = "";
	size_t i, done = 0;

	if (r == 0 && n > 0 && (!handles || !p))
		r = error_set(EINVAL, "handles or p is NULL");
	if (r < 0) {
		errno = -r;
		return 0;
	}
	for (i = 0; i < n; i++) {
		size_t left = n - i;

		if (i % ADOPT_AHEAD == 0)
			adopt_some(k, left < ADOPT_AHEAD ? left : ADOPT_AHEAD, handles + i, p + i);
		if (unlikely(!p[i]))
			p[i] = handle_name(k, handles[i], adopt);
		if (likely(p[i])) {
			done++;
		} else if (first == 0) {
			first = errno;
			error_text_copy(text);
		}
	}
	errno = first ? first : saved;
	if (first)
		error_text_put(text);
	return done;
}

/* ---- calls by address ---- */

/* Counts the caller in and finds the thing; *inside is left by its owner's scope. */
static int thing_enter(struct kmm *k, const void *p, struct kmm **inside, struct thing *t)
{
	int r = session_enter(k);

	if (r < 0)
		return r;
	*inside = k;
	return thing_of(k, p, t);
}

int kmm_send(struct kmm *k, const void *p, kmm_session_id_t session)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	kmm_v1_SendRequest q = { .session = session };
	kmm_v1_SendReply reply = kmm_v1_SendReply_init_zero;
	char text[ERROR_TEXT_MAX], what[THING_TEXT_MAX];
	struct call_how how;
	struct thing t;
	uint64_t w;
	int r = thing_enter(k, p, &inside, &t);

	if (r < 0)
		return r;
	w = word_settled(k, t.word);
	if (!owner_is(w, OWNER_HELD, k->id))
		return thing_not_mine(k, &t, w, false);
	if (thing_mapped(k, &t, w) && session != k->id)
		return error_set(EBUSY, "%s is mapped: kmm_kunmap ends that",
		                 thing_text(k, &t, what));
	if (session == 0 || session > OWNER_MAX)
		return error_set(ESRCH, "no session has the id %u", session);
	q.granule = t.granule;
	q.generation = owner_generation(w);
	how = call_begin(k, CALL_ONCE);
	error_text_copy(text);
	r = CALL(k, &how, ALLOCATOR_SEND, Send, &q, &reply);
	/* It was ours before it was asked the first time, and only that took it away. */
	if (how.repeated && (r == -ESTALE || r == -EPERM || r == -ENOENT)) {
		error_text_put(text);
		r = 0;
	}
	if (r == 0 && session != k->id)
		thing_shared_clear(k, &t); /* sent, not adopted: a later free is a stranger's */
	return r;
}

int kmm_get(struct kmm *k, const void *p)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	char what[THING_TEXT_MAX];
	struct thing t;
	uint64_t w;
	int r = thing_enter(k, p, &inside, &t);

	if (r < 0)
		return r;
	w = owner_load(t.word);
	if (!word_is_live(w))
		return error_set(ENOENT, "%s is not live", thing_text(k, &t, what));
	r = hold_get(k, t.granule, (uint32_t)owner_generation(w));
	/* Without a handle there is no claim that could be stale: it is just gone. */
	return r == -ESTALE ? -ENOENT : r;
}

static int get_handle(struct kmm *k, kmm_handle_t handle, struct thing *t)
{
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	int r = session_enter(k);

	if (r < 0)
		return r;
	inside = k;
	r = handle_find(k, handle, t);
	return r < 0 ? r : hold_get(k, t->granule, (uint32_t)(handle >> 32));
}

void *kmm_get_handle(struct kmm *k, kmm_handle_t handle)
{
	return handle_name(k, handle, get_handle);
}

int kmm_put(struct kmm *k, const void *p)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	struct thing t;
	int r = thing_enter(k, p, &inside, &t);

	return r < 0 ? r : hold_put(k, t.granule);
}
