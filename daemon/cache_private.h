/* SPDX-License-Identifier: MIT */
/*
 * Between cache.c (the table), cache_make.c (how caches begin) and cache_end.c (how they end).
 */
#ifndef DAEMON_CACHE_PRIVATE_H
#define DAEMON_CACHE_PRIVATE_H

#include "daemon/cache.h"
#include "daemon/ledger.h"
#include "mm/lock.h"

struct cache_table {
	struct domain *d;
	const struct ledger *ledger;
	uint32_t n;           /* ids 1 to n - 1 */
	_Atomic uint32_t end; /* no id from here on was ever in use */
	struct lock lock;     /* of users; and one cache begins at a time */
	uint32_t *open;       /* how many each session has open; guarded by lock */
	struct cache cache[];
};

static inline enum cache_state cache_state(const struct cache *c)
{
	/* seq_cst: see cache_enter() */
	return (enum cache_state)atomic_load_explicit(&c->state, memory_order_seq_cst);
}

static inline void cache_set_state(struct cache *c, enum cache_state state)
{
	atomic_store_explicit(&c->state, state, memory_order_seq_cst);
}

/* ---- under the lock ---- */

bool cache_is_user(const struct cache_table *t, const struct cache *c, uint32_t session);
void cache_add_user(struct cache_table *t, struct cache *c, uint32_t session);
void cache_drop_user(struct cache_table *t, struct cache *c, uint32_t session);
/* k is known to the table and to the clients from now on. */
void cache_begin(struct cache_table *t, struct kmem_cache *k);

/* ---- cache_make.c ---- */

/* Those of the kmalloc families that are not there. */
int cache_make_builtin(struct cache_table *t);

#endif
