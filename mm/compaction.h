/* SPDX-License-Identifier: MIT */
/*
 * Compaction: larger free blocks out of small ones, by moving blocks of one frame. See compaction.c.
 *
 * All calls for one domain come from one thread at a time. Between two calls nothing is held: no
 * lock, no frame; a run may be given up at any point, and its struct forgotten.
 */
#ifndef MM_COMPACTION_H
#define MM_COMPACTION_H

#include "mm.h"

/* Linux's (include/linux/compaction.h), in its order: of several zones the largest counts. */
enum compact_result {
	COMPACT_NOT_SUITABLE_ZONE, /* it is not for want of movement that the block is missing */
	COMPACT_SKIPPED,           /* too little is free to move things around */
	COMPACT_DEFERRED,          /* it failed of late: not yet again */
	COMPACT_NO_SUITABLE_PAGE,
	COMPACT_CONTINUE,          /* there is more to do */
	COMPACT_COMPLETE,          /* the zone was gone through as a whole */
	COMPACT_PARTIAL_SKIPPED,   /* the rest of it, from where an earlier run ended */
	COMPACT_CONTENDED,
	COMPACT_SUCCESS,           /* a block of the order is free */
};

#define COMPACT_ORDER_ALL UINT32_MAX /* no block in particular: the zone as a whole */
/* per cent of a zone's free frames in blocks smaller than a pageblock: begin above, stop below */
#define COMPACT_SCORE_HIGH 90u
#define COMPACT_SCORE_LOW 80u

struct compact_control {
	/* ---- set by the caller ---- */
	struct mm_domain *d;
	uint32_t node;
	enum zone_type zone;
	uint32_t order;     /* of the block that is wanted, or COMPACT_ORDER_ALL */
	uint32_t class;     /* highest zone that the request may use: whose reserve is left alone */
	bool proactive;     /* with COMPACT_ORDER_ALL: until the score is low enough */
	bool background;    /* nobody waits for it: it counts as the daemon's */
	bool whole_zone;    /* from end to end, also where nothing moved the last time */
	/* A look: what holds the frame might move. NULL: try. */
	bool (*movable)(void *ctx, pfn_t from);
	/* Moves what is at `from`, an allocated block of one frame, to `to`, one that is claimed as by
	 * mm_block_take(). True: `to` serves in its stead, with its tag (mm_block_settle), and the block
	 * at `from` is claimed. False: nothing has changed. Called without locks. */
	bool (*move)(void *ctx, pfn_t from, pfn_t to);
	void *ctx;
	/* ---- what came of it; the caller zeroes them (vmstat counts them, too) ---- */
	uint64_t migrate_scanned, free_scanned; /* frames */
	uint64_t isolated;                      /* frames, those moved to included */
	uint64_t moved, failed;                 /* blocks */
	int64_t gained; /* free blocks of the order (ALL: pageblocks) more than at the beginning */
	/* ---- private ---- */
	pfn_t migrate_pfn, free_pfn; /* scanned: below, and from there on */
	uint64_t stop;               /* the step ends when so many frames are scanned in all */
	pfn_t block;                 /* a frame of the pageblock being scanned, PFN_NONE: none */
	bool block_moved;            /* something of it */
	bool whole;                  /* from the zone's one end to the other */
	uint64_t blocks;             /* at the beginning */
};

/* COMPACT_CONTINUE: go on with compaction_step(). Else that is the result. -EINVAL and the like do
 * not exist: a zone without frames is COMPACT_NOT_SUITABLE_ZONE. */
enum compact_result compaction_begin(struct compact_control *cc);
/* Looks at `frames` frames more, and moves what is found there; at a few more than that, to come to
 * the end of what is looked at under one hold of a lock. COMPACT_CONTINUE: call again. */
enum compact_result compaction_step(struct compact_control *cc, uint32_t frames);

/* ---- emptying a section (evacuate.c) ---- */

/* Moves what can be moved out of an isolated section (mm_section_isolate) to other free frames of
 * its zone, of whatever type and in blocks of whatever order; frames on per-CPU lists are none of
 * them, drain these before. The caller sets d, movable, move and ctx; node and zone become the
 * section's, the rest does not matter. */
void compaction_evacuate_begin(struct compact_control *cc, section_id_t s);
/* Looks at about `frames` frames. COMPACT_CONTINUE: call again; COMPACT_COMPLETE: all of the
 * section was looked at (cc->failed: blocks that would not move, or cannot: larger ones, slabs,
 * such as are about to be freed); COMPACT_PARTIAL_SKIPPED: no free frame is left to move to;
 * when one may be, call again, it goes on where it stands. */
enum compact_result compaction_evacuate_step(struct compact_control *cc, uint32_t frames);

/* ---- when to, and when not ---- */

/* As compaction_begin() judges for a block of the order: CONTINUE, SUCCESS (there is one), SKIPPED,
 * NOT_SUITABLE_ZONE. */
enum compact_result compaction_suitable(const struct mm_domain *d, uint32_t node, enum zone_type zone,
                                        uint32_t order, uint32_t class);
/* Why a block of the order is missing: towards 0 for want of memory, towards 1000 because of
 * fragmentation; -1000: it is not missing. Linux's fragmentation index. */
int32_t compaction_fragmentation_index(const struct mm_domain *d, uint32_t node, enum zone_type zone,
                                       uint32_t order);
/* Per cent of the free frames that lie in blocks smaller than a pageblock; 0 when none is free. */
uint32_t compaction_score(const struct mm_domain *d, uint32_t node, enum zone_type zone);

/* A run that ended without a block: the next 2, 4, … 64 requests of that order or a larger one find
 * compaction_deferred() true. */
void compaction_defer(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t order);
bool compaction_deferred(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t order);
/* A run ended well (got false), or even the allocation after it (got true). */
void compaction_defer_reset(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t order,
                            bool got);
/* Once a second or so: forgets where nothing moved, when a run has gone through the zone since. */
void compaction_tick(struct mm_domain *d);
/* The largest order that a request missed in the zone since the last call, 0: none; *class is its
 * zone class. What wakes background compaction. Any thread. */
uint32_t compaction_wanted(struct mm_domain *d, uint32_t node, enum zone_type zone, uint32_t *class);

#endif
