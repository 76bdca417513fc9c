/* SPDX-License-Identifier: MIT */
/*
 * Between name.c (the table) and name_check.c (the start, and checking).
 */
#ifndef DAEMON_NAME_PRIVATE_H
#define DAEMON_NAME_PRIVATE_H

#include "daemon/hash.h"
#include "daemon/name.h"
#include "mm/lock.h"

#define NAME_VALID UINT64_C(1)
#define NAME_GRANULE_SHIFT 32
#define NAME_END UINT32_MAX
#define NAME_MAX_BYTES 63u
#define NAMES_AT_ONCE 32u /* a page of records */
#define NAME_HOLDER 0u    /* session of the holders' entry */

struct name_user {
	uint32_t uid, names;
};

struct name_table {
	struct lock lock;
	struct domain *d;
	struct name_record *record;
	struct hash_key key;
	uint32_t n, mask;
	/* guarded by lock */
	uint32_t used;
	uint32_t opened;     /* records from here on have no memory, and are 0 */
	uint32_t free;       /* chain of free ones among the opened */
	uint32_t *by_name;   /* mask + 1 chains */
	uint32_t *next_name; /* by record; of free ones: the chain */
	uint32_t *by_thing, *next_thing;
	struct name_user *user; /* who ever published */
	uint32_t users, users_room;
	uint32_t *published; /* names whose record says that session */
	uint32_t sessions;   /* ids below */
};

/* The records are written under the lock and read by nobody else: release is for the next process. */
static inline uint64_t name_record_load(const struct name_table *t, uint32_t i)
{
	return atomic_load_explicit(&t->record[i].word, memory_order_acquire);
}

static inline uint32_t name_record_granule(const struct name_table *t, uint32_t i)
{
	return (uint32_t)(name_record_load(t, i) >> NAME_GRANULE_SHIFT);
}

/* The record of that name, or NAME_END. */
uint32_t name_find(const struct name_table *t, const char *name);
/* Removes a name that leads nowhere: nothing is left to free, only the entry among the holders goes
 * with the last one. */
void name_remove_dead(struct name_table *t, uint32_t i);

#endif
