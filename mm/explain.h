/* SPDX-License-Identifier: MIT */
/*
 * Why a request for a block could not be met: each zone that may serve it, and what is in its way.
 * See explain.c.
 */
#ifndef MM_EXPLAIN_H
#define MM_EXPLAIN_H

#include "mm.h"

enum mm_verdict {
	MM_ZONE_SERVES,   /* it could now: memory came back, or another cpu's list has it */
	MM_ZONE_SMALL,    /* no block of that order exists there at all, or not above the reserves */
	MM_ZONE_BELOW,    /* too few frames are free: fewer would be left than the request must leave */
	MM_ZONE_NO_BLOCK, /* enough are free, none of them in a block of that order */
};

/* Frames; as of one moment each, all zones within microseconds. */
struct mm_zone_look {
	uint8_t node, zone;     /* enum zone_type */
	uint8_t verdict;        /* enum mm_verdict */
	uint32_t free, managed; /* free: but for sections that are being taken out */
	uint32_t mark;          /* what the request must leave: its share of min, and the protection */
	uint32_t protection;    /* of that, kept for requests that can use no higher zone */
	uint32_t min, low, high; /* with the boost */
	uint32_t highatomic;    /* of `free`, kept for atomic requests of several frames */
	uint32_t nr_free[NR_PAGE_ORDERS];
};

/* The zones that may serve the request, in the order in which they are tried, at most n of them: how
 * many there are in all. 0: none, or the request makes no sense. Takes each zone's lock for a moment. */
uint32_t mm_request_look(const struct mm_domain *d, const struct mm_request *r,
                         struct mm_zone_look look[], uint32_t n);

/* Linux's fragmentation index in thousandths: of why there is no block of that order among the free
 * ones. 0: memory is short … 1000: it lies scattered; MM_INDEX_SUITABLE: there is one. */
#define MM_INDEX_SUITABLE (-1000)
/* Linux's extfrag_threshold: above it, compaction helps rather than more memory. */
#define MM_INDEX_SCATTERED 500
int mm_fragmentation_index(const uint32_t nr_free[NR_PAGE_ORDERS], uint32_t order);

#endif
