/* SPDX-License-Identifier: MIT */
/*
 * A set of {session, granule, generation}, persistent, with an index in ordinary memory.
 *
 * The records are the truth (record.h): one store of a record's word adds or removes an entry. The
 * index is a keyed hash (hash.h) of granules to chains of records, and a chain of free ones; it is
 * rebuilt at the start. Finding is O(1) on average, a session's holds are found by a walk of all
 * records.
 *
 * KEPT in the owner word tells everybody that entries exist, so that the owner's free comes here
 * (holder_give_up) instead of ending the thing's life. The order of the two writes:
 *
 *   add     the record, then KEPT. The word is exchanged from a state in which it was HELD at that
 *           generation, so a free that came first makes the exchange fail, and the record goes.
 *   remove  the record, then KEPT goes with the last one; a thing without an owner becomes FREE.
 *
 * A death in between leaves a record without KEPT, or KEPT without a record: domain_recover.c
 * corrects KEPT by the records. Everything happens under the table's lock, so two members of the
 * same set never pass each other; freeing the memory itself is left to the caller, outside.
 */
#include "daemon/holder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/hash.h"
#include "mm/lock.h"

#define HOLDER_VALID (UINT64_C(1) << 20)
#define HOLDER_GRANULE_SHIFT 32
#define HOLDER_END UINT32_MAX

struct holder_table {
	struct lock lock;
	struct holder_record *record;
	struct hash_key key;
	uint32_t n, mask;
	uint32_t used;
	/* guarded by lock */
	uint32_t free;
	uint32_t *next;   /* by record: in its chain */
	uint32_t *bucket; /* mask + 1 chains */
};

static uint64_t record_make(uint32_t session, uint32_t granule)
{
	return (uint64_t)granule << HOLDER_GRANULE_SHIFT | HOLDER_VALID | session;
}

static uint32_t record_session(uint64_t w)
{
	return (uint32_t)(w & OWNER_MAX);
}

static uint32_t record_granule(uint64_t w)
{
	return (uint32_t)(w >> HOLDER_GRANULE_SHIFT);
}

/* The records are written under the lock and read by nobody else: release is for the next process,
 * which finds a complete record or none. */
static uint64_t record_load(const struct holder_table *t, uint32_t i)
{
	return atomic_load_explicit(&t->record[i].word, memory_order_acquire);
}

static void record_store(struct holder_table *t, uint32_t i, uint64_t w)
{
	atomic_store_explicit(&t->record[i].word, w, memory_order_release);
}

static uint32_t *bucket_of(const struct holder_table *t, uint32_t granule)
{
	return &t->bucket[hash_granule(&t->key, granule) & t->mask];
}

/* The link that leads to the entry, or to the chain's end. */
static uint32_t *find(const struct holder_table *t, uint32_t session, uint32_t granule)
{
	uint32_t *link = bucket_of(t, granule);

	while (*link != HOLDER_END && record_load(t, *link) != record_make(session, granule))
		link = &t->next[*link];
	return link;
}

/* first: becomes one of them that is a session, if there is one. */
static uint32_t count(const struct holder_table *t, uint32_t granule, uint64_t generation,
                      uint32_t *first)
{
	uint32_t i, n = 0;

	for (i = *bucket_of(t, granule); i != HOLDER_END; i = t->next[i]) {
		uint64_t w = record_load(t, i);

		if (record_granule(w) != granule || t->record[i].generation != generation)
			continue;
		if (first && record_session(w))
			*first = record_session(w);
		n++;
	}
	return n;
}

static void unlink_record(struct holder_table *t, uint32_t *link)
{
	uint32_t i = *link;

	record_store(t, i, 0);
	*link = t->next[i];
	t->next[i] = t->free;
	t->free = i;
	t->used--;
}

/* A new entry; false: the table is full. */
static bool link_record(struct holder_table *t, uint32_t session, uint32_t granule,
                        uint64_t generation)
{
	uint32_t i = t->free, *link = bucket_of(t, granule);

	if (i == HOLDER_END)
		return false;
	t->free = t->next[i];
	t->record[i].generation = generation;
	record_store(t, i, record_make(session, granule));
	t->next[i] = *link;
	*link = i;
	t->used++;
	return true;
}

int holder_table_new(struct holder_table **ret, struct holder_record *record, uint32_t n)
{
	struct holder_table *t = calloc(1, sizeof(*t));
	uint32_t i, size = 64;

	if (!t)
		return -ENOMEM;
	while (size < n && size < UINT32_C(1) << 30)
		size *= 2;
	t->record = record;
	t->n = n;
	t->mask = size - 1;
	t->next = malloc(((size_t)n + 1) * sizeof(t->next[0]));
	t->bucket = malloc((size_t)size * sizeof(t->bucket[0]));
	if (!t->next || !t->bucket) {
		holder_table_free(t);
		return -ENOMEM;
	}
	if (hash_key_draw(&t->key) < 0) {
		holder_table_free(t);
		return -EIO;
	}
	lock_init(&t->lock, LOCK_RANK_HOLDER);
	for (i = 0; i < size; i++)
		t->bucket[i] = HOLDER_END;
	t->free = HOLDER_END;
	for (i = n; i > 0; i--) {
		uint64_t w = record_load(t, i - 1);
		uint32_t *chain = w & HOLDER_VALID ? bucket_of(t, record_granule(w)) : &t->free;

		if (w & HOLDER_VALID)
			t->used++;
		t->next[i - 1] = *chain;
		*chain = i - 1;
	}
	*ret = t;
	return 0;
}

struct holder_table *holder_table_free(struct holder_table *t)
{
	if (!t)
		return NULL;
	free(t->next);
	free(t->bucket);
	free(t);
	return NULL;
}

int holder_add(struct holder_table *t, uint32_t session, uint32_t granule, owner_word_t *word,
               uint32_t generation, bool room, bool *added)
{
	LOCK_SCOPED(&t->lock);
	uint64_t w = owner_load(word), generation_held;
	uint32_t *link = find(t, session, granule);
	bool have = *link != HOLDER_END;

	if (owner_kind(w) != OWNER_HELD || (uint32_t)owner_generation(w) != generation)
		return -ESTALE;
	if (have && t->record[*link].generation != owner_generation(w)) {
		/* of an earlier life of the place, which lost its KEPT: it holds nothing any more
		 */
		unlink_record(t, link);
		have = false;
	}
	if (!have) {
		if (!room)
			return -EDQUOT;
		if (!link_record(t, session, granule, owner_generation(w)))
			return -ENOSPC;
	}
	generation_held = owner_generation(w);
	while (!owner_cas(word, &w, w | OWNER_KEPT)) {
		if (owner_kind(w) == OWNER_HELD && generation_held == owner_generation(w))
			continue;
		/* freed or adopted meanwhile */
		unlink_record(t, find(t, session, granule));
		return -ESTALE;
	}
	*added = !have;
	return 0;
}

/* The records of that life of the thing changed: the word follows. */
static enum holder_result word_follow(struct holder_table *t, uint32_t granule, owner_word_t *word,
                                      uint64_t generation, uint32_t *heir)
{
	uint64_t w = owner_load(word);
	uint32_t first = 0, n = count(t, granule, generation, &first);

	for (;;) {
		bool orphan = owner_is(w, OWNER_HELD, 0);

		if (owner_generation(w) != generation || !(w & OWNER_KEPT))
			return HOLDER_LEFT;
		if (n) {
			*heir = orphan ? first : 0;
			return HOLDER_LEFT;
		}
		if (owner_cas(word, &w, orphan ? owner_reborn(w, OWNER_FREE, 0) : w & ~OWNER_KEPT))
			return orphan ? HOLDER_FREED : HOLDER_LEFT;
	}
}

enum holder_result holder_remove(struct holder_table *t, uint32_t session, uint32_t granule,
                                 owner_word_t *word, uint32_t *heir)
{
	LOCK_SCOPED(&t->lock);
	uint32_t *link = find(t, session, granule);
	uint64_t generation;

	*heir = 0;
	if (*link == HOLDER_END)
		return HOLDER_NONE;
	generation = t->record[*link].generation;
	unlink_record(t, link);
	return word_follow(t, granule, word, generation, heir);
}

enum holder_result holder_give_up(struct holder_table *t, uint32_t granule, owner_word_t *word,
                                  uint64_t w, uint32_t *heir)
{
	LOCK_SCOPED(&t->lock);
	uint32_t first = 0, n = count(t, granule, owner_generation(w), &first);
	uint64_t desired = n ? owner_moved(w, OWNER_HELD, 0) : owner_reborn(w, OWNER_FREE, 0);

	if (!owner_cas(word, &w, desired))
		return HOLDER_NONE;
	*heir = first;
	return n ? HOLDER_LEFT : HOLDER_FREED;
}

bool holder_next_of(struct holder_table *t, uint32_t session, uint32_t *cursor, uint32_t *granule)
{
	LOCK_SCOPED(&t->lock);

	for (; *cursor < t->n; ++*cursor) {
		uint64_t w = record_load(t, *cursor);

		if ((w & HOLDER_VALID) && record_session(w) == session) {
			*granule = record_granule(w);
			++*cursor;
			return true;
		}
	}
	return false;
}

uint32_t holder_count(struct holder_table *t, uint32_t granule, uint64_t generation)
{
	LOCK_SCOPED(&t->lock);

	return count(t, granule, generation, NULL);
}

bool holder_has(struct holder_table *t, uint32_t session, uint32_t granule, uint64_t generation)
{
	LOCK_SCOPED(&t->lock);
	uint32_t i = *find(t, session, granule);

	return i != HOLDER_END && t->record[i].generation == generation;
}

uint32_t holder_first(struct holder_table *t, uint32_t granule, uint64_t generation)
{
	LOCK_SCOPED(&t->lock);
	uint32_t first = 0;

	count(t, granule, generation, &first);
	return first;
}

int holder_restore(struct holder_table *t, uint32_t session, uint32_t granule, uint64_t generation)
{
	LOCK_SCOPED(&t->lock);
	uint32_t *link = find(t, session, granule);

	if (*link != HOLDER_END && t->record[*link].generation == generation)
		return 0;
	if (*link != HOLDER_END)
		unlink_record(t, link); /* of an earlier life */
	return link_record(t, session, granule, generation) ? 0 : -ENOSPC;
}

void holder_drop(struct holder_table *t, uint32_t session, uint32_t granule, uint64_t generation)
{
	LOCK_SCOPED(&t->lock);
	uint32_t *link = find(t, session, granule);

	if (*link != HOLDER_END && t->record[*link].generation == generation)
		unlink_record(t, link);
}

uint32_t holder_recover(struct holder_table *t,
                        bool (*live)(void *ctx, uint32_t session, uint32_t granule,
                                     uint64_t generation),
                        void *ctx)
{
	LOCK_SCOPED(&t->lock);
	uint32_t i, dropped = 0;

	for (i = 0; i < t->n; i++) {
		uint64_t w = record_load(t, i);
		uint32_t *link;

		if (!(w & HOLDER_VALID) ||
		    live(ctx, record_session(w), record_granule(w), t->record[i].generation))
			continue;
		for (link = bucket_of(t, record_granule(w)); *link != i; link = &t->next[*link])
			;
		unlink_record(t, link);
		dropped++;
	}
	return dropped;
}

void holder_for_each(struct holder_table *t,
                     void (*fn)(void *ctx, uint32_t session, uint32_t granule, uint64_t generation),
                     void *ctx)
{
	LOCK_SCOPED(&t->lock);
	uint32_t i;

	for (i = 0; i < t->n; i++) {
		uint64_t w = record_load(t, i);

		if (w & HOLDER_VALID)
			fn(ctx, record_session(w), record_granule(w), t->record[i].generation);
	}
}

static size_t finding(mm_report_fn report, void *ctx, const char *what, uint32_t i)
{
	char text[120];

	snprintf(text, sizeof(text), "holder table: record %u %s", i, what);
	report(ctx, text);
	return 1;
}

size_t holder_validate(struct holder_table *t, mm_report_fn report, void *ctx)
{
	LOCK_SCOPED(&t->lock);
	size_t findings = 0, chained = 0, free = 0, valid = 0;
	uint32_t i, b;

	for (b = 0; b <= t->mask; b++)
		for (i = t->bucket[b]; i != HOLDER_END && chained <= t->n; i = t->next[i]) {
			uint64_t w = record_load(t, i);

			chained++;
			if (!(w & HOLDER_VALID) || bucket_of(t, record_granule(w)) != &t->bucket[b])
				findings += finding(report, ctx, "is in a wrong chain", i);
			else if (*find(t, record_session(w), record_granule(w)) != i)
				findings += finding(report, ctx, "is there twice", i);
		}
	for (i = t->free; i != HOLDER_END && free <= t->n; i = t->next[i]) {
		free++;
		if (record_load(t, i))
			findings += finding(report, ctx, "is free but not empty", i);
	}
	for (i = 0; i < t->n; i++)
		valid += record_load(t, i) & HOLDER_VALID ? 1 : 0;
	if (chained != valid || chained + free != t->n || valid != t->used)
		findings += finding(report, ctx, "and others are on no chain or counted wrongly",
		                    t->n);
	return findings;
}
