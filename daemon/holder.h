/* SPDX-License-Identifier: MIT */
/*
 * Holders besides the owner: sessions that said kmm_get, and session 0, which stands for all names
 * that the thing has (name.h). See holder.c. Thread-safe.
 *
 * `word` is the owner word of the thing that the granule names; a `generation` of 32 bits is what
 * handles carry.
 */
#ifndef DAEMON_HOLDER_H
#define DAEMON_HOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/record.h"
#include "mm/mm.h"
#include "shm/owner.h"

struct holder_table;

/* Takes over what `record` says. -ENOMEM, -EIO. */
int holder_table_new(struct holder_table **ret, struct holder_record *record, uint32_t n);
struct holder_table *holder_table_free(struct holder_table *t);

/* Adds the session to the thing's holders and sets KEPT. *added is false when it was one already.
 * room: the session may have one more. -ESTALE: the word is not HELD at that generation; -EDQUOT:
 * it would be one more and there is no room; -ENOSPC: the table is full. */
int holder_add(struct holder_table *t, uint32_t session, uint32_t granule, owner_word_t *word,
               uint32_t generation, bool room, bool *added);

enum holder_result {
	HOLDER_NONE,  /* there is nothing to do: no such holder, or the word moved on */
	HOLDER_LEFT,  /* the thing is held on */
	HOLDER_FREED, /* nobody holds it: the word says FREE, the block is the caller's to free */
};

/* Takes the session out. heir (HOLDER_LEFT): a remaining holder of a thing without owner, else 0:
 * who is charged for it now. 0 also when only names hold it. */
enum holder_result holder_remove(struct holder_table *t, uint32_t session, uint32_t granule,
                                 owner_word_t *word, uint32_t *heir);
/* The owner gives up a KEPT thing; w is what the caller saw in its word. */
enum holder_result holder_give_up(struct holder_table *t, uint32_t granule, owner_word_t *word,
                                  uint64_t w, uint32_t *heir);
/* Takes the next hold of a session away: false when there is none (from *cursor, 0 at first). */
bool holder_next_of(struct holder_table *t, uint32_t session, uint32_t *cursor, uint32_t *granule);
uint32_t holder_count(struct holder_table *t, uint32_t granule, uint64_t generation);
bool holder_has(struct holder_table *t, uint32_t session, uint32_t granule, uint64_t generation);
/* One of the holders that are sessions, 0: none. */
uint32_t holder_first(struct holder_table *t, uint32_t granule, uint64_t generation);

/* At the start: the entry is there from now on, whatever the thing's word says; -ENOSPC. */
int holder_restore(struct holder_table *t, uint32_t session, uint32_t granule,
                   uint64_t generation);
/* Removes the entry if it is of that generation, and leaves the word as it is: the thing is gone. */
void holder_drop(struct holder_table *t, uint32_t session, uint32_t granule, uint64_t generation);
/* At the start: `live` says whether session, granule and generation are what they claim; entries
 * that are not are dropped. Returns how many were. */
uint32_t holder_recover(struct holder_table *t,
                        bool (*live)(void *ctx, uint32_t session, uint32_t granule,
                                     uint64_t generation),
                        void *ctx);
/* Calls fn for every entry; under the table's lock. */
void holder_for_each(struct holder_table *t,
                     void (*fn)(void *ctx, uint32_t session, uint32_t granule, uint64_t generation),
                     void *ctx);
size_t holder_validate(struct holder_table *t, mm_report_fn report, void *ctx);

#endif
