/* SPDX-License-Identifier: MIT */
/*
 * Between exchange.c (magazines, blocks in them) and exchange_object.c (objects in them).
 */
#ifndef DAEMON_EXCHANGE_PRIVATE_H
#define DAEMON_EXCHANGE_PRIVATE_H

#include "daemon/depot.h"
#include "daemon/object.h"

static inline struct magazine *exchange_magazine(const struct domain *d, magazine_id_t m)
{
	return &d->control.magazine[m.nr];
}

/* relaxed: the header was read with acquire after the rounds were written */
static inline uint32_t exchange_round(const struct domain *d, magazine_id_t m, uint32_t i)
{
	return atomic_load_explicit(&exchange_magazine(d, m)->round[i], memory_order_relaxed);
}

/* relaxed: published by the header */
static inline void exchange_set_round(const struct domain *d, magazine_id_t m, uint32_t i,
                                      uint32_t granule)
{
	atomic_store_explicit(&exchange_magazine(d, m)->round[i], granule, memory_order_relaxed);
}

/* ---- exchange.c ---- */

/* A magazine that counted for the session (0: for none) has left the members. */
void exchange_gone(struct domain *d, uint32_t session);
/* A magazine in our hands, given by s (NULL: by whoever), goes to the depot (if `keep`), or what it
 * lists to zones and slabs. How many of its rounds were right. */
uint32_t exchange_put(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                      uint32_t listed, bool keep);

/* An empty magazine in our hands, counted to s; false: none. may_free: a full one of the depot may
 * be emptied for it. */
bool exchange_take_empty(struct domain *d, struct session *s, bool may_free, magazine_id_t *m);
/* To s, OFFERED with that many rounds. */
void exchange_lend(struct domain *d, struct session *s, magazine_id_t m, uint32_t rounds);
/* That one back, or one that s had. */
void exchange_put_empty(struct domain *d, struct session *s, magazine_id_t m);
/* What a full magazine lists that was just taken from the depot goes back to the zones and slabs;
 * the magazine stays in our hands. Frames, rounded down. */
uint64_t exchange_empty_full(struct domain *d, uint32_t cpu, magazine_id_t m, unsigned int class,
                             uint32_t listed);
/* Empties the full magazines that the class has now: those that come meanwhile stay, so that who
 * gives without end holds up nobody. Frames, rounded down. */
uint64_t exchange_drain_class(struct domain *d, uint32_t cpu, unsigned int class);
/* Rounds of whatever kind that name the magazine still are freed on behalf of s (NULL: nobody is
 * charged), one by one; how many. keep_constructed: as for object_batch_take_back(). */
uint32_t exchange_free_mixed(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                             uint32_t listed, bool keep_constructed);

/* ---- exchange_object.c ---- */

/* The first round that lists an object that is out and whose word names the magazine; false: none.
 */
bool exchange_lists_objects(struct domain *d, magazine_id_t m, uint32_t listed, uint64_t *address);
/* The magazine in our hands, given by s (NULL: by whoever), lists an object at `address`: keeps it in the depot (if
 * `keep`) or frees its objects and returns it to the empty ones. How many were right. */
uint32_t exchange_give_objects(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                               uint32_t listed, uint64_t address, bool keep);
/* exchange_empty_full() of a class of objects; objects. */
uint64_t exchange_empty_objects(struct domain *d, uint32_t cpu, magazine_id_t m,
                                uint32_t listed);

#endif
