/* SPDX-License-Identifier: MIT */
/*
 * A domain: its zones (mm/), its control memory, its depots, its waiters.
 */
#ifndef DAEMON_DOMAIN_H
#define DAEMON_DOMAIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/kmmd.h"
#include "daemon/traffic.h"
#include "daemon/worker.h"
#include "mm/lock.h"
#include "mm/mm.h"
#include "shm/control.h"

struct depot;
struct rack;
struct holder_table;
struct slab_space;
struct cache_table;
struct name_table;
struct wait_queue;
struct pressure;
struct compact;
struct session;

/* What full magazines may hold in all: an eighth of the frames that there are. */
#define DOMAIN_DEPOT_PART 8u

struct domain {
	uint32_t id;
	const char *name; /* "default" */
	struct kmmd *kmmd;
	struct mm *mm;
	struct mm_domain *zones;
	struct control control;
	struct depot *depot;
	struct rack *rack;
	struct holder_table *holders;
	struct slab_space *slabs;   /* mm/'s half of caches and objects */
	struct cache_table *caches; /* cache.h */
	struct name_table *names;
	struct wait_queue *waiters;
	struct pressure *pressure; /* what happens while somebody waits */
	struct compact *compact;   /* pages that move, for larger blocks */
	struct worker_job tick;    /* what the worker does once a second */
	_Atomic bool ticking;
	unsigned int granule_shift;
	/* high.h: the frame of each page that can move, and the page of each frame there */
	_Atomic uint32_t *high_frame, *high_page;
	struct lock moving; /* one page at a time changes its frame */
	/* An object word whose slab has gone never begins a new life at or below this generation.
	 */
	_Atomic uint64_t object_floor;
	/* by session, from the recovery to domain_account_sessions() */
	struct object_sum {
		uint64_t objects, bytes;
	} *object_sum;
	struct traffic traffic; /* magazines that went to and from the members */
	/* requests that waited in the queue (service_wait.c), and how that ended */
	_Atomic uint64_t parked, parked_served, parked_late, parked_cancelled, parked_refused;
	_Atomic uint32_t damaged; /* words that made no sense */
	_Atomic bool spoiled;     /* a hole was punched into the words: nothing is granted */
};

/* Tells the sessions, once they are taken over, what they have: charges, sections, magazines,
 * holds. For session_table_recover(). */
void domain_account_sessions(struct domain *d);

/* Brings a new or a taken-over pool's sections and words into service (DESIGN 3.5, 8): words
 * decide, private state is corrected, depots and unclaimed offers become free, what names nobody
 * marks the domain damaged. Runs before the reactors start. */
int domain_new(struct domain **ret, struct kmmd *kmmd);
struct domain *domain_free(struct domain *d);

/* Once a second, on one reactor. */
void domain_tick(struct domain *d);
/* A word, a magazine or a table says what cannot be: the domain is marked damaged, the text goes to
 * the log (the first ones of many). Any thread. */
void domain_damage(struct domain *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Granules name pages (high.h). */
static inline uint32_t domain_granule(const struct domain *d, uint32_t page)
{
	return control_granule_of_pfn(d->granule_shift, page);
}

/* False when the granule is not the first of a page. */
static inline bool domain_granule_page(const struct domain *d, uint32_t granule, uint32_t *page)
{
	*page = control_pfn_of_granule(d->granule_shift, granule);
	return *page < control_pages(&d->control.geometry) && domain_granule(d, *page) == granule;
}

/* ---- grant.c: offering and taking back ---- */

/* Offers a block to s (entered): 0; -ENOMEM not now; -EDQUOT; -EINVAL; -EPERM. *why is a text
 * (static or in thread-local storage) that says what was wrong and what to do. */
int grant_alloc(struct domain *d, struct session *s, uint32_t cpu, gfp_t gfp, uint32_t order,
                uint32_t *page, const char **why);
/* The same for another cpu's request: node as in struct mm_request. */
int grant_alloc_near(struct domain *d, struct session *s, uint32_t cpu, uint32_t node, gfp_t gfp,
                     uint32_t order, uint32_t *page, const char **why);
/* The client never learned of it: the offer is withdrawn if it is still one. */
void grant_withdraw(struct domain *d, struct session *s, uint32_t cpu, uint32_t page);
/* Takes a block whose word says RETURNED by s at that generation; 0 also when the word has moved
 * on. -EINVAL, -ENOENT, -EPERM for what was never a block of s. */
int grant_free(struct domain *d, struct session *s, uint32_t cpu, uint32_t page, uint32_t order,
               uint64_t generation, const char **why);
/* Frees what words of s (NULL: of anybody) say RETURNED; frames. Worker or reactor. */
uint64_t grant_collect(struct domain *d, struct session *s, uint32_t cpu);
/* Takes back what was offered to s and not claimed, on the word of a connection lost; frames.
 * Worker. */
uint64_t grant_withdraw_all(struct domain *d, struct session *s);
/* Frees all that names s: words, magazines lent to it, its holds. s is SWEEPING, nobody acts for
 * it. May be interrupted by a death and run again. *n is what came back. Worker. */
struct sweep_count {
	uint64_t blocks, pages, objects;
	uint32_t holds, magazines; /* that it had */
};
void grant_sweep(struct domain *d, struct session *s, struct sweep_count *n);
/* Moves the charge of blocks that changed hands by adoption to their owners, and counts the objects
 * of s; worker or reactor. */
void grant_recharge(struct domain *d, struct session *s);
/* The three below: of a block or an object. -EINVAL: the granule cannot be one's first byte. */
int grant_send(struct domain *d, struct session *from, uint32_t granule, uint64_t generation,
               struct session *to, const char **why);
/* The session joins or leaves the holders (kmm_get, kmm_put). -ESTALE not that life of the thing,
 * or free; -EDQUOT the session's or the daemon's limit. Leaving what it does not hold is 0. */
int grant_hold(struct domain *d, struct session *s, uint32_t granule, uint32_t generation,
               const char **why);
int grant_release(struct domain *d, struct session *s, uint32_t cpu, uint32_t granule,
                  const char **why);

/* ---- exchange.c: blocks in magazines (objects: object.h) ---- */

/* Takes the magazine that s gave (header DEPOT, whichever session it counts for), with blocks or objects, to the depot or frees what
 * it lists. *accepted is how
 * many of its rounds were what they claimed to be, *listed how many it listed; both 0 when s has no
 * such magazine (any more). */
void exchange_give(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m,
                   uint32_t *accepted, uint32_t *listed);
/* Offers s a magazine with up to `rounds` blocks (at least one): 0; -ENOMEM; -EDQUOT; -EINVAL;
 * -EPERM; -EAGAIN: no magazine is free, blocks can be had one by one. */
int exchange_take(struct domain *d, struct session *s, uint32_t cpu, gfp_t gfp, uint32_t order,
                  uint32_t rounds, magazine_id_t *ret, uint32_t *n, const char **why);
/* The same from the zones alone, freeing nothing: for a request that waited (wait_queue.h). */
int exchange_take_waiting(struct domain *d, struct session *s, uint32_t node, gfp_t gfp,
                          uint32_t order, uint32_t rounds, magazine_id_t *ret, uint32_t *n,
                          const char **why);
/* Offers s an empty one; -EAGAIN as above. */
int exchange_empty(struct domain *d, struct session *s, magazine_id_t *ret);
/* The session that has a lent magazine, 0: none. */
uint32_t exchange_holder(const struct domain *d, magazine_id_t m);
/* The client never learned of the offer: takes it back if it is still one. */
void exchange_withdraw(struct domain *d, struct session *s, uint32_t cpu, magazine_id_t m);
/* The depot's magazines, and the rack's, back to the zones and slabs; frames that they held. Any
 * thread. */
uint64_t exchange_drain(struct domain *d, uint32_t cpu);
/* The same of those with page blocks alone. */
uint64_t exchange_drain_pages(struct domain *d, uint32_t cpu);
/* The same of one cache (entered); objects. */
struct cache;
uint64_t exchange_drain_cache(struct domain *d, struct cache *c, uint32_t cpu);
/* What the depot did not need since the last call goes back. One thread at a time. */
uint64_t exchange_trim(struct domain *d, uint32_t cpu);

/* ---- reports ---- */

/* Counts of a session by walking the words of its sections. */
struct grant_count {
	uint64_t granted, cached; /* frames */
	uint64_t blocks[NR_PAGE_ORDERS];
};
void grant_count(struct domain *d, struct session *s, struct grant_count *n);
/* The same for all sessions at once: n[id], `size` of them; n[0] takes what names none. */
void grant_census(struct domain *d, struct grant_count *n, uint32_t size);
/* Cross-checks words, descriptors, depots, holders and private state; findings as mm_validate. */
size_t domain_validate(struct domain *d, mm_report_fn report, void *ctx);

#endif
