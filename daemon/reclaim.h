/* SPDX-License-Identifier: MIT */
/*
 * What reclaim takes back, counted. See reclaim.c.
 */
#ifndef DAEMON_RECLAIM_H
#define DAEMON_RECLAIM_H

#include <stdint.h>

struct domain;

enum reclaim_why {
	RECLAIM_NONE,
	RECLAIM_BACKGROUND, /* nobody asked: what lay unused */
	RECLAIM_DIRECT,     /* a request waits, or would exceed its quota */
	RECLAIM_PROACTIVE,  /* a session or an operator asked */
};

/* From here to reclaim_end() what the calling thread takes back counts for that reason. */
void reclaim_begin(enum reclaim_why why);
void reclaim_end(void);

/* By what takes back: frames of page blocks looked at, of these on their way to the zones. Nothing
 * is counted outside of reclaim. */
void reclaim_note_blocks(struct domain *d, uint64_t scanned, uint64_t freed);
/* Objects that went back to their slabs. */
void reclaim_note_objects(struct domain *d, uint64_t n);

#endif
