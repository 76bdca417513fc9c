/* SPDX-License-Identifier: MIT */
/*
 * The depot: which magazine of a domain's control memory is where. See depot.c.
 *
 * The depot knows magazines, not what they carry: what the rounds are worth is exchange.c's
 * business. All functions may be called from any thread and take no lock.
 */
#ifndef DAEMON_DEPOT_H
#define DAEMON_DEPOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mm/mm.h"
#include "shm/control.h"

struct depot;

/* frames_max: what full magazines may hold in all. lent (NULL: none) says to which session each
 * magazine is lent, 0 none, DEPOT_LENT_MEMBERS: it counts for none; the header of a lent one is left
 * alone, the others are emptied. Before there are other threads. -ENOMEM. */
#define DEPOT_LENT_MEMBERS UINT32_MAX
int depot_new(struct depot **ret, const struct control *c, uint32_t nodes, uint64_t frames_max,
              const uint32_t lent[]);
struct depot *depot_free(struct depot *d);
/* From now on; what is there beyond stays until it is taken. Any thread. */
void depot_limit(struct depot *d, uint64_t frames_max);

/* ---- classes: what a full magazine carries ----
 *
 *   0 .. PAGE_CLASSES - 1                 page blocks (shm/control.h)
 *   PAGE_CLASSES + cache * nodes + node   objects of that cache, from that node
 */

unsigned int depot_class_objects(const struct depot *d, uint32_t cache, uint32_t node);
/* All classes that ever had a magazine are below. */
unsigned int depot_classes(const struct depot *d);
uint32_t depot_nodes(const struct depot *d);

/* What magazine.kind says of the class: the class, or for objects the cache | MAGAZINE_OF_OBJECTS.
 */
void depot_set_kind(struct depot *d, magazine_id_t m, unsigned int class);

/* The magazine that the functions below return is in the caller's hands: nobody else touches it
 * until it is put somewhere. */

/* An empty one; false: all are in use. */
bool depot_take_empty(struct depot *d, magazine_id_t *ret);
/* A full one of that class, with its rounds. */
bool depot_take_full(struct depot *d, unsigned int class, magazine_id_t *ret, uint32_t *rounds);
/* A full one of any class; false: there is none. */
bool depot_take_any(struct depot *d, magazine_id_t *ret, unsigned int *class, uint32_t *rounds);
/* A lent one back from its session: of several callers one wins. */
bool depot_claim(struct depot *d, magazine_id_t m, uint32_t session);
/* The same of whatever session it counts for, which is told. */
bool depot_claim_lent(struct depot *d, magazine_id_t m, uint32_t *session);

void depot_put_empty(struct depot *d, magazine_id_t m);
/* False when the depot has no room for the frames: the magazine stays in the caller's hands. */
bool depot_put_full(struct depot *d, magazine_id_t m, unsigned int class, uint32_t rounds,
                    uint32_t frames);
/* To the session: OFFERED with that many rounds, or LOADED and empty. */
void depot_lend(struct depot *d, magazine_id_t m, uint32_t session, enum magazine_state state,
                uint32_t rounds);
/* After a claim: it stays with the members and counts for the session (0: for none), its header
 * untouched. */
void depot_unclaim(struct depot *d, magazine_id_t m, uint32_t session);

/* The session that it counts for, 0: none. Members pass lent magazines on among themselves (the
 * rack), so the one that has it may be another: its header says which. */
uint32_t depot_lent_to(const struct depot *d, magazine_id_t m);
/* With the members, whichever it counts for. */
bool depot_is_lent(const struct depot *d, magazine_id_t m);
/* With them, or in one of our threads' hands, which may find that they have it. */
bool depot_is_out(const struct depot *d, magazine_id_t m);
/* In one of our threads' hands at this moment. */
bool depot_is_busy(const struct depot *d, magazine_id_t m);
/* Rounds of a full magazine, 0 for others. */
uint32_t depot_rounds(const struct depot *d, magazine_id_t m);
uint32_t depot_size(const struct depot *d);
/* Frames in full magazines. */
uint64_t depot_frames(const struct depot *d);

/* How many full magazines of the class nobody needed since the last call: the least that lay there
 * at any time (Bonwick and Adams 2001, 3.5.2). A new interval begins. */
uint32_t depot_trim(struct depot *d, unsigned int class);

struct depot_count {
	uint32_t full;   /* magazines */
	uint64_t rounds; /* in them */
};
void depot_count(const struct depot *d, unsigned int class, struct depot_count *n);
/* Of a cache on all nodes. */
void depot_count_cache(const struct depot *d, uint32_t cache, struct depot_count *n);

/* Magazines that their sessions emptied by themselves (LOADED -> EMPTY) come back: looks at the
 * others in turn until it has found `want` or has seen all, tells the session of each that it
 * found, returns how many. */
uint32_t depot_reap(struct depot *d, uint32_t want, void (*gone)(void *ctx, uint32_t session),
                    void *ctx);
/* The same for one magazine lent to that session, which stays in the caller's hands. */
bool depot_reap_one(struct depot *d, magazine_id_t m, uint32_t session);

/* Checks lists, places and headers while no other thread uses the depot; findings as mm_validate.
 * Rounds and words are domain_validate()'s. */
size_t depot_validate(const struct depot *d, mm_report_fn report, void *ctx);

#endif
