/* SPDX-License-Identifier: MIT */
/*
 * Published names. The daemon keeps them; a name is a holder of the thing, so the thing has a
 * handle that stays good as long as the name does. Looking a name up gives that handle.
 *
 * The publisher's word is marked SHARED first, as kmm_handle does: once the name is gone, a free
 * begins a new generation, and handles that were looked up are stale.
 */
#include "client/object.h"

#include <string.h>

static int name_check(const char *name, char out[KMM_NAME_MAX + 1])
{
	size_t n;

	if (!name)
		return error_set(EINVAL, "the name is NULL");
	n = strnlen(name, KMM_NAME_MAX + 1);
	if (n == 0)
		return error_set(EINVAL, "the name is empty");
	if (n > KMM_NAME_MAX)
		return error_set(EINVAL, "the name has more than %d bytes: %.40s...", KMM_NAME_MAX,
		                 name);
	memcpy(out, name, n + 1);
	return 0;
}

/* A call of this file begins: the session entered (left by the owner of *inside), the name
 * copied. */
static int name_enter(struct kmm *k, const char *name, struct kmm **inside,
                      char out[KMM_NAME_MAX + 1])
{
	int r = session_enter(k);

	if (r < 0)
		return r;
	*inside = k;
	return name_check(name, out);
}

int kmm_publish(struct kmm *k, const char *name, const void *p)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	kmm_v1_PublishRequest q = kmm_v1_PublishRequest_init_zero;
	kmm_v1_PublishReply reply = kmm_v1_PublishReply_init_zero;
	char what[THING_TEXT_MAX];
	struct call_how how;
	struct thing t;
	uint64_t w;
	int r = name_enter(k, name, &inside, q.name);

	if (r == 0)
		r = thing_of(k, p, &t);
	if (r < 0)
		return r;
	w = owner_load(t.word);
	if (!word_is_live(w))
		return error_set(ENOENT, "%s is not live", thing_text(k, &t, what));
	/* What another session owns may be held by this one: the daemon knows. */
	if (owner_is(w, OWNER_HELD, k->id)) {
		r = thing_share(k, &t, &w);
		if (r < 0)
			return r;
	}
	q.granule = t.granule;
	q.generation = owner_generation(w);
	how = call_begin(k, CALL_ONCE); /* the same again does nothing: an answer is an answer */
	r = CALL(k, &how, ALLOCATOR_PUBLISH, Publish, &q, &reply);
	return r == -ESTALE ? -ENOENT : r; /* no handle was given that could be stale */
}

static int lookup(struct kmm *k, const char *name, kmm_handle_t *ret)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	kmm_v1_LookupRequest q = kmm_v1_LookupRequest_init_zero;
	kmm_v1_LookupReply p = kmm_v1_LookupReply_init_zero;
	struct call_how how;
	int r = name_enter(k, name, &inside, q.name);

	if (r < 0)
		return r;
	how = call_begin(k, 0);
	r = CALL(k, &how, ALLOCATOR_LOOKUP, Lookup, &q, &p);
	if (r == 0)
		*ret = handle_make(p.granule, p.generation << OWNER_GENERATION_SHIFT);
	return r;
}

kmm_handle_t kmm_lookup(struct kmm *k, const char *name)
{
	kmm_handle_t handle = 0;
	int r = lookup(k, name, &handle);

	if (r < 0)
		errno = -r;
	return handle;
}

int kmm_unpublish(struct kmm *k, const char *name)
{
	ERRNO_SCOPE;
	struct kmm *inside __attribute__((cleanup(session_leave_scope))) = NULL;
	kmm_v1_UnpublishRequest q = kmm_v1_UnpublishRequest_init_zero;
	kmm_v1_UnpublishReply p = kmm_v1_UnpublishReply_init_zero;
	char text[ERROR_TEXT_MAX];
	struct call_how how;
	int r = name_enter(k, name, &inside, q.name);

	if (r < 0)
		return r;
	how = call_begin(k, CALL_ONCE);
	error_text_copy(text);
	r = CALL(k, &how, ALLOCATOR_UNPUBLISH, Unpublish, &q, &p);
	/* The first time may have done it, with the answer lost. */
	if (how.repeated && r == -ENOENT) {
		error_text_put(text);
		r = 0;
	}
	return r;
}
