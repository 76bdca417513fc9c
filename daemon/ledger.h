/* SPDX-License-Identifier: MIT */
/*
 * The ledger: private records that grow with what there is. Layout in record.h, theory in ledger.c.
 */
#ifndef DAEMON_LEDGER_H
#define DAEMON_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/record.h"
#include "mm/slab.h"
#include "shm/control.h"

struct ledger_layout {
	/* byte offsets, and the size of all */
	size_t caches, users, names, slabs, high, out, size;
	size_t users_stride; /* bytes from one cache's users to the next's */
	uint32_t nr_caches;  /* records that are used: ids 1 to nr_caches - 1 */
	size_t dense;        /* bytes that are populated at the start */
};

/* Follows from the geometry of control memory. -EINVAL */
int ledger_layout_compute(struct ledger_layout *l, const struct control_geometry *g);

struct ledger {
	int fd; /* -1: ordinary memory, which is all there */
	struct ledger_layout layout;
	struct ledger_head *head;
	struct cache_record *cache;
	uint8_t *users;
	struct name_record *name;
	_Atomic uint64_t *slab; /* one a frame */
	_Atomic uint32_t *high; /* the frame of each page that can move */
	_Atomic uint64_t *out;  /* bits */
};

/* Points into the mapping `at`. */
void ledger_attach(struct ledger *l, const struct ledger_layout *layout, int fd, void *at);
/* Which sessions have the cache open: bits, in words of 64. */
static inline _Atomic uint64_t *ledger_users(const struct ledger *l, uint32_t cache)
{
	return (_Atomic uint64_t *)(l->users + cache * l->layout.users_stride);
}

/* As in a new pool: each page that can move has the frame of its place. */
void ledger_init_high(const struct ledger *l, const struct control_geometry *g);
/* Makes a new one's memfd (*fd, the caller's) and head, maps it, populates what is dense. */
int ledger_create(struct ledger *l, int *fd, const struct control_geometry *g,
                  const uint8_t uuid[16]);
/* Maps the one of a pool that is taken over. */
int ledger_take(struct ledger *l, int fd, const struct control_geometry *g);
/* -EUCLEAN, with *why a static text: it is not that pool's. */
int ledger_check(const struct ledger *l, const struct control_geometry *g, const uint8_t uuid[16],
                 const char **why);
void ledger_unmap(struct ledger *l);

/* Memory for records that are about to be written; -ENOMEM. Any thread. */
int ledger_open_users(const struct ledger *l, uint32_t cache);
int ledger_open_names(const struct ledger *l, uint32_t first, uint32_t n);
int ledger_open_out(const struct ledger *l, uint64_t first_word, uint64_t n);
/* How many name records were ever written: those from there on are 0, and reading them would only
 * cost memory. */
uint32_t ledger_names_present(const struct ledger *l);

#endif
