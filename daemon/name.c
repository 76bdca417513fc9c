/* SPDX-License-Identifier: MIT */
/*
 * Published names: a map from names to things, persistent, with two indices in ordinary memory.
 *
 * The records are the truth (record.h): one store of a record's word adds or removes a name. They are
 * used from the first one on, so that those ever written are the front of the table and the rest may
 * stay a hole (ledger.c). The indices, keyed hashes (hash.h) of names and of granules to chains
 * of records, are rebuilt at the start.
 *
 * What keeps the thing is one entry among the holders (holder.c), of session 0, for all names that
 * it has. The order of the two writes:
 *
 *   publish     the holder's entry, when it is the first name; then the record
 *   unpublish   the record; then the entry, when it was the last name
 *
 * A death in between leaves an entry without a name, which recovery drops: the publisher never had
 * an answer, or the name was to go. Both happen under the table's lock, so that of two threads one
 * sees the other's name. What unpublish frees it frees after the lock is released.
 *
 * A thing that was freed or adopted all the same (a member scribbled over KEPT, or adopted what was
 * published: adoption ends a thing's life) leaves a name that leads to a stale handle; the name gives
 * way to whoever publishes it next, and to the next start.
 *
 * Locking: the table's lock (LOCK_RANK_NAME) is held over the holders'. O(1) on average.
 */
#include "daemon/name_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/grant.h"
#include "daemon/holder.h"
#include "daemon/object.h"
#include "daemon/options.h"
#include "daemon/pool.h"

/* ---- records and chains ---- */

/* Under the lock; release is for the next process. */
static void record_store(struct name_table *t, uint32_t i, uint64_t w)
{
	atomic_store_explicit(&t->record[i].word, w, memory_order_release);
}

static uint32_t *name_bucket(const struct name_table *t, const char *name)
{
	return &t->by_name[hash_text(&t->key, name) & t->mask];
}

static uint32_t *thing_bucket(const struct name_table *t, uint32_t granule)
{
	return &t->by_thing[hash_granule(&t->key, granule) & t->mask];
}

uint32_t name_find(const struct name_table *t, const char *name)
{
	uint32_t i = *name_bucket(t, name);

	while (i != NAME_END && strcmp(t->record[i].name, name) != 0)
		i = t->next_name[i];
	return i;
}

/* Whether link i of a thing's chain is a name of it in that life. */
static bool names(const struct name_table *t, uint32_t i, uint32_t granule, uint64_t generation)
{
	return name_record_granule(t, i) == granule && t->record[i].generation == generation;
}

/* Stops at the first: a thing may have all the names. */
static bool any(const struct name_table *t, uint32_t granule, uint64_t generation)
{
	uint32_t i = *thing_bucket(t, granule);

	while (i != NAME_END && !names(t, i, granule, generation))
		i = t->next_thing[i];
	return i != NAME_END;
}

/* ---- publishers, and users: the latter few, and looked at one by one ---- */

/* How many names have the record's publisher; NULL: it is gone. */
static uint32_t *published_by(struct name_table *t, uint32_t i)
{
	uint32_t id = t->record[i].publisher;

	return id && id < t->sessions ? &t->published[id] : NULL;
}

static struct name_user *user_find(const struct name_table *t, uint32_t uid)
{
	uint32_t i;

	for (i = 0; i < t->users; i++)
		if (t->user[i].uid == uid)
			return &t->user[i];
	return NULL;
}

/* There is a place to count the names of that user; -ENOMEM. */
static int user_prepare(struct name_table *t, uint32_t uid)
{
	struct name_user *more;
	uint32_t room, i;

	if (user_find(t, uid))
		return 0;
	for (i = 0; i < t->users; i++)
		if (!t->user[i].names) { /* one who has none any more makes room */
			t->user[i].uid = uid;
			return 0;
		}
	if (t->users == t->users_room) {
		room = t->users_room ? t->users_room * 2 : 8;
		more = reallocarray(t->user, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		t->user = more;
		t->users_room = room;
	}
	t->user[t->users++] = (struct name_user){ .uid = uid };
	return 0;
}

/* The record is there, its user is prepared. */
static void chain_add(struct name_table *t, uint32_t i)
{
	uint32_t *published = published_by(t, i);
	uint32_t *name = name_bucket(t, t->record[i].name);
	uint32_t *thing = thing_bucket(t, name_record_granule(t, i));

	t->next_name[i] = *name;
	*name = i;
	t->next_thing[i] = *thing;
	*thing = i;
	t->used++;
	user_find(t, t->record[i].uid)->names++;
	if (published)
		++*published;
}

static void chain_free(struct name_table *t, uint32_t i)
{
	t->next_name[i] = t->free;
	t->free = i;
}

static void unlink_from(uint32_t *link, uint32_t *next, uint32_t i)
{
	while (*link != i)
		link = &next[*link];
	*link = next[i];
}

static void remove_record(struct name_table *t, uint32_t i)
{
	uint32_t *published = published_by(t, i);

	unlink_from(name_bucket(t, t->record[i].name), t->next_name, i);
	unlink_from(thing_bucket(t, name_record_granule(t, i)), t->next_thing, i);
	record_store(t, i, 0);
	chain_free(t, i);
	t->used--;
	user_find(t, t->record[i].uid)->names--;
	if (published)
		--*published;
}

void name_remove_dead(struct name_table *t, uint32_t i)
{
	uint32_t granule = name_record_granule(t, i);
	uint64_t generation = t->record[i].generation;

	remove_record(t, i);
	if (!any(t, granule, generation))
		holder_drop(t->d->holders, NAME_HOLDER, granule, generation);
}

/* A free record whose memory is there: 0, -EDQUOT, -ENOMEM. */
static int take_record(struct name_table *t, uint32_t *ret)
{
	uint32_t more = t->n - t->opened, i;
	int r;

	if (t->free == NAME_END) {
		if (!more)
			return -EDQUOT;
		if (more > NAMES_AT_ONCE)
			more = NAMES_AT_ONCE;
		r = ledger_open_names(&t->d->kmmd->pool->ledger, t->opened, more);
		if (r < 0)
			return r;
		for (i = t->opened + more; i > t->opened; i--)
			chain_free(t, i - 1);
		t->opened += more;
	}
	*ret = t->free;
	t->free = t->next_name[t->free];
	return 0;
}

/* ---- the table ---- */

static bool record_sane(const struct name_table *t, uint32_t i)
{
	return (name_record_load(t, i) & NAME_VALID) && thing_granule_ok(t->d, name_record_granule(t, i)) &&
	       memchr(t->record[i].name, '\0', sizeof(t->record[i].name));
}

static bool session_there(const struct name_table *t, uint32_t id)
{
	/* acquire: pairs with the commit of the record */
	return id && id < t->sessions &&
	       atomic_load_explicit(&t->d->kmmd->pool->session[id].word, memory_order_acquire);
}

int name_table_new(struct name_table **ret, struct domain *d, struct name_record *record,
                   uint32_t n)
{
	struct name_table *t = calloc(1, sizeof(*t));
	uint32_t i, size = 64;

	if (!t)
		return -ENOMEM;
	while (size < n && size < UINT32_C(1) << 30)
		size *= 2;
	t->d = d;
	t->record = record;
	t->n = n;
	t->mask = size - 1;
	t->by_name = malloc(size * sizeof(t->by_name[0]));
	t->by_thing = malloc(size * sizeof(t->by_thing[0]));
	t->next_name = malloc((n + 1) * sizeof(t->next_name[0]));
	t->next_thing = malloc((n + 1) * sizeof(t->next_thing[0]));
	t->sessions = d->control.geometry.sessions;
	t->published = calloc(t->sessions, sizeof(t->published[0]));
	if (!t->by_name || !t->by_thing || !t->next_name || !t->next_thing || !t->published) {
		name_table_free(t);
		return -ENOMEM;
	}
	if (hash_key_draw(&t->key) < 0) {
		name_table_free(t);
		return -EIO;
	}
	lock_init(&t->lock, LOCK_RANK_NAME);
	memset(t->by_name, 0xff, size * sizeof(t->by_name[0]));
	memset(t->by_thing, 0xff, size * sizeof(t->by_thing[0]));
	t->free = NAME_END;
	t->opened = ledger_names_present(&d->kmmd->pool->ledger);
	if (t->opened > n)
		t->opened = n;
	for (i = t->opened; i > 0; i--) {
		if (record_sane(t, i - 1)) {
			if (!session_there(t, t->record[i - 1].publisher))
				t->record[i - 1].publisher = 0;
			if (user_prepare(t, t->record[i - 1].uid) < 0) {
				name_table_free(t);
				return -ENOMEM;
			}
			chain_add(t, i - 1);
			continue;
		}
		record_store(t, i - 1, 0);
		chain_free(t, i - 1);
	}
	*ret = t;
	return 0;
}

struct name_table *name_table_free(struct name_table *t)
{
	if (!t)
		return NULL;
	free(t->by_name);
	free(t->by_thing);
	free(t->next_name);
	free(t->next_thing);
	free(t->user);
	free(t->published);
	free(t);
	return NULL;
}

/* ---- publishing ---- */

static int name_check(const char *name, const char **why)
{
	size_t n = strlen(name);

	if (n >= 1 && n <= NAME_MAX_BYTES)
		return 0;
	*why = n ? grant_text("the name has %zu bytes, at most %u are allowed", n, NAME_MAX_BYTES) :
	           "the name is empty";
	return -EINVAL;
}

/* The thing is there in that life (*generation becomes all of it), and s owns or holds it. */
static int thing_check(struct name_table *t, struct session *s, uint32_t granule,
                       uint64_t *generation, struct thing *thing, const char **why)
{
	uint64_t w;

	if (!thing_granule_ok(t->d, granule)) {
		*why = "what is to be published lies beyond the pool";
		return -EINVAL;
	}
	if (!thing_find(t->d, granule, thing)) {
		*why = "what is to be published is no block or object that anybody has";
		return -ENOENT;
	}
	w = thing_word(t->d, thing);
	if (owner_kind(w) == OWNER_FREE) {
		*why = "what is to be published is free";
		return -ENOENT;
	}
	if ((uint32_t)owner_generation(w) != (uint32_t)*generation) {
		*why = "what is to be published was freed or adopted meanwhile";
		return -ESTALE;
	}
	*generation = owner_generation(w);
	if (owner_is(w, OWNER_HELD, s->id) || holder_has(t->d->holders, s->id, granule, *generation))
		return 0;
	*why = "the session may not publish what it neither owns nor holds";
	return -EPERM;
}

/* What a taken name leads to, in words that a program's user knows. */
static const char *taken_text(const struct name_table *t, const struct name_record *r,
                              const struct thing *thing)
{
	uint64_t w = owner_load(thing->word);
	char what[SLAB_NAME_MAX + 32], who[48] = "which no session owns any more";
	struct mm_block b;

	if (thing->is_object)
		snprintf(what, sizeof(what), "an object of cache %s",
		         kmem_cache_record(thing->object.cache)->name);
	else if (mm_block_get(t->d->mm, thing->pfn, &b) && b.order)
		snprintf(what, sizeof(what), "a block of %u pages", 1u << b.order);
	else
		snprintf(what, sizeof(what), "a page");
	if (owner_kind(w) == OWNER_HELD && owner_id(w))
		snprintf(who, sizeof(who), "which session %u has", owner_id(w));
	return grant_text("the name \"%s\" is taken: user %u gave it to %s, %s", r->name, r->uid,
	                  what, who);
}

/* A name that is there already: 1 when nothing is left to do, 0 when it led nowhere and is gone. */
static int name_taken(struct name_table *t, struct session *s, uint32_t i, uint32_t granule,
                      uint64_t generation, const char **why)
{
	const struct name_record *r = &t->record[i];
	struct thing was;

	if (name_record_granule(t, i) == granule && r->generation == generation && r->uid == s->uid)
		return 1;
	if (thing_find(t->d, name_record_granule(t, i), &was) &&
	    owner_generation(owner_load(was.word)) == r->generation) {
		*why = taken_text(t, r, &was);
		return -EEXIST;
	}
	name_remove_dead(t, i);
	return 0;
}

/* The names' entry among the holders of the thing. */
static int hold(struct name_table *t, const struct thing *thing, uint64_t generation,
                const char **why)
{
	uint64_t w;
	bool added;
	int r = thing_hold(t->d, NAME_HOLDER, thing, (uint32_t)generation, true, &added);

	if (r == -ENOSPC) {
		*why = grant_text("all %u entries for holders are in use; put some back, or raise "
		                  "holders", t->d->kmmd->options->holders_max);
		return -EDQUOT;
	}
	if (r < 0) {
		*why = "what is to be published was freed or adopted meanwhile";
		return r;
	}
	/* Handles of it will be made from the name: they are to be stale when it is freed. */
	w = owner_load(thing->word);
	while (owner_generation(w) == generation && owner_kind(w) == OWNER_HELD &&
	       !(w & OWNER_SHARED) && !owner_cas(thing->word, &w, w | OWNER_SHARED))
		;
	return 0;
}

/* One more name for that user: 0, -EDQUOT, -ENOMEM. */
static int user_admit(struct name_table *t, uint32_t uid, const char **why)
{
	uint32_t most = OPTION(t->d->kmmd->options, names_user_max);
	const struct name_user *u = user_find(t, uid);

	if (u && u->names >= most) {
		*why = grant_text("user %u has published %u names, and may have %u: unpublish some, "
		                  "or raise names_per_user in [limits] of the configuration", uid,
		                  u->names, most);
		return -EDQUOT;
	}
	if (user_prepare(t, uid) == 0)
		return 0;
	*why = "the daemon's machine has no memory for another name";
	return -ENOMEM;
}

static void fill_record(struct name_table *t, uint32_t i, const struct session *s, const char *name,
                        uint32_t granule, uint64_t generation)
{
	struct name_record *r = &t->record[i];

	r->generation = generation;
	r->uid = s->uid;
	r->publisher = s->id;
	memset(r->name, 0, sizeof(r->name));
	memcpy(r->name, name, strlen(name));
	record_store(t, i, (uint64_t)granule << NAME_GRANULE_SHIFT | NAME_VALID);
	chain_add(t, i);
}

int name_publish(struct name_table *t, struct session *s, const char *name, uint32_t granule,
                 uint64_t generation, const char **why)
{
	LOCK_SCOPED(&t->lock);
	struct thing thing;
	uint32_t i = 0, old;
	int r = name_check(name, why);

	if (r == 0)
		r = thing_check(t, s, granule, &generation, &thing, why);
	if (r < 0)
		return r;
	old = name_find(t, name);
	if (old != NAME_END)
		r = name_taken(t, s, old, granule, generation, why);
	if (r != 0)
		return r > 0 ? 0 : r;
	r = user_admit(t, s->uid, why);
	if (r < 0)
		return r;
	r = take_record(t, &i);
	if (r < 0) {
		*why = r == -EDQUOT ? grant_text("all %u names are in use; unpublish some", t->n) :
		                      "the daemon's machine has no memory for another name";
		return r;
	}
	r = hold(t, &thing, generation, why);
	if (r < 0) {
		chain_free(t, i);
		return r;
	}
	fill_record(t, i, s, name, granule, generation);
	return 0;
}

int name_lookup(struct name_table *t, const char *name, uint32_t *granule, uint64_t *generation,
                const char **why)
{
	LOCK_SCOPED(&t->lock);
	int r = name_check(name, why);
	uint32_t i;

	if (r < 0)
		return r;
	i = name_find(t, name);
	if (i == NAME_END) {
		*why = grant_text("nothing is published as \"%s\"", name);
		return -ENOENT;
	}
	*granule = name_record_granule(t, i);
	*generation = t->record[i].generation;
	return 0;
}

/* Removes the name; whether its thing is the caller's to free now. */
static int unpublish(struct name_table *t, const struct session *s, const char *name,
                     struct thing *thing, const char **why)
{
	LOCK_SCOPED(&t->lock);
	uint32_t i = name_find(t, name), granule, heir;
	uint64_t generation;

	if (i == NAME_END) {
		*why = grant_text("nothing is published as \"%s\"", name);
		return -ENOENT;
	}
	if (t->record[i].uid != s->uid) {
		*why = grant_text("\"%s\" was published by user %u, who alone may take it away",
		                  name, t->record[i].uid);
		return -EPERM;
	}
	granule = name_record_granule(t, i);
	generation = t->record[i].generation;
	if (!thing_find(t->d, granule, thing) ||
	    owner_generation(owner_load(thing->word)) != generation) {
		name_remove_dead(t, i);
		return 0;
	}
	remove_record(t, i);
	if (any(t, granule, generation) ||
	    !holder_has(t->d->holders, NAME_HOLDER, granule, generation))
		return 0;
	return holder_remove(t->d->holders, NAME_HOLDER, granule, thing->word, &heir) ==
	       HOLDER_FREED;
}

int name_unpublish(struct name_table *t, struct session *s, uint32_t cpu, const char *name,
                   const char **why)
{
	struct thing thing;
	int r = name_check(name, why);

	if (r == 0)
		r = unpublish(t, s, name, &thing, why);
	if (r > 0)
		thing_leave(t->d, cpu, &thing);
	return r < 0 ? r : 0;
}

/* ---- counts ---- */

bool name_has(const struct name_table *t, uint32_t granule, uint64_t generation)
{
	return t && any(t, granule, generation);
}

uint32_t name_total(struct name_table *t)
{
	LOCK_SCOPED(&t->lock);

	return t->used;
}

uint32_t name_count_of_user(struct name_table *t, uint32_t uid)
{
	LOCK_SCOPED(&t->lock);
	const struct name_user *u = user_find(t, uid);

	return u ? u->names : 0;
}

/* ---- the end of a publisher; listing ---- */

void name_forget_session(struct name_table *t, uint32_t session)
{
	LOCK_SCOPED(&t->lock);
	uint32_t i;

	for (i = 0; i < t->opened && t->published[session]; i++) {
		if (!name_record_load(t, i) || t->record[i].publisher != session)
			continue;
		t->record[i].publisher = 0;
		t->published[session]--;
	}
}

bool name_next(struct name_table *t, uint32_t *cursor, struct name_about *ret)
{
	LOCK_SCOPED(&t->lock);

	for (; *cursor < t->opened; ++*cursor) {
		const struct name_record *r = &t->record[*cursor];

		if (!name_record_load(t, *cursor))
			continue;
		*ret = (struct name_about){ .granule = name_record_granule(t, *cursor),
			                    .generation = r->generation,
			                    .uid = r->uid,
			                    .publisher = r->publisher };
		memcpy(ret->name, r->name, sizeof(ret->name));
		++*cursor;
		return true;
	}
	return false;
}
