/* SPDX-License-Identifier: MIT */
/*
 * Fragmentation. External: free memory that is there, but in blocks too small for a request. Internal:
 * memory that is taken and serves nothing. See frag.c for the formulas.
 */
#ifndef CLIENT_KMMCTL_FRAG_H
#define CLIENT_KMMCTL_FRAG_H

#include "client/kmmctl/fetch.h"

/* Thousandths. */
#define FRAG_SUITABLE (-1000)

struct frag_zone {
	const struct report_zone *zone;
	int unusable[REPORT_ORDERS]; /* share of free memory in blocks too small for the order */
	int index[REPORT_ORDERS];    /* FRAG_SUITABLE; else 0: memory is short … 1000: fragmented */
};

/* Bytes. asked + padding + unused + ends is what the slabs take. */
struct frag_cache {
	const kmm_v1_Cache *cache; /* NULL: of all */
	uint64_t objects;          /* in use */
	uint64_t asked;            /* these, as long as they were asked for */
	uint64_t padding;          /* between them */
	uint64_t unused;           /* free places, on slabs, in magazines and depots */
	uint64_t ends;             /* behind the last object of each slab, and in front of the first */
	uint64_t words;            /* owner words, in control memory, beside the pool */
};

struct frag {
	struct frag_zone *zone; /* populated ones */
	size_t zones;
	struct frag_cache *cache; /* those with slabs, the most wasteful first */
	size_t caches;
	struct frag_cache total;
	uint64_t managed, available, per_cpu, depot, cached; /* frames, of the pool */
};

int frag_index(const uint64_t nr_free[REPORT_ORDERS], uint32_t order);
int frag_unusable(const uint64_t nr_free[REPORT_ORDERS], uint32_t order);
uint64_t frag_waste(const struct frag_cache *c);

/* Points into the arrays; false: out of memory. To be ended by frag_done(). */
bool frag_make(struct frag *f, const struct report_zone zone[], size_t zones,
               const kmm_v1_Cache cache[], size_t caches, const kmm_v1_Pool *pool);
void frag_done(struct frag *f);

/* What would help, the first thing first: a command and why. False: there is no i-th. */
struct frag_advice {
	char command[96]; /* "kmmctl shrink dentry", or empty: no command does it */
	char why[200];
};
bool frag_advise(const struct frag *f, size_t i, struct frag_advice *ret);

void report_frag(FILE *out, const struct frag *f);

#endif
