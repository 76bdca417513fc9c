/* SPDX-License-Identifier: MIT */
/*
 * What grant.c, exchange.c, sweep.c, charge.c and domain_*.c share: the steps in which a block
 * leaves the zones and comes back. See grant.c.
 */
#ifndef DAEMON_GRANT_H
#define DAEMON_GRANT_H

#include "daemon/domain.h"
#include "daemon/session.h"

#define GRANT_ROUNDS_MAX MAGAZINE_ROUNDS_MAX
#define GRANT_FRAME (INT64_C(1) << PAGE_SHIFT) /* bytes */

/* Requests that thread caches may serve. */
#define GRANT_UNCACHED_GFP (__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM | __GFP_THISNODE)

/* A text in the calling thread's buffer, good until the next call. */
const char *grant_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Blocks on their way to the zones, freed many under one lock hold. */
struct grant_batch {
	struct domain *d;
	uint32_t cpu;
	uint32_t n;
	uint64_t frames; /* of all that went through */
	uint64_t blocks; /* likewise */
	uint64_t scanned, noted; /* for reclaim.h: of all looked at, since the last flush; of `frames`, noted */
	pfn_t pfn[64];
};
void grant_batch_init(struct grant_batch *b, struct domain *d, uint32_t cpu);
void grant_batch_add(struct grant_batch *b, pfn_t pfn, uint32_t order);
void grant_batch_flush(struct grant_batch *b);

/* A request found no memory: for a second or two who frees waits for the daemon. */
void grant_note_scarce(struct domain *d);
/* -EIO with *why: nothing is granted from the domain any more, its words cannot be trusted. */
int grant_check_domain(const struct domain *d, const char **why);
/* Legal for clients? -EPERM, -EINVAL with *why. */
int grant_check(const struct mm_request *r, const char **why);
/* Publishes a block just had from mm/: its descriptor, then its word. */
void grant_publish(struct domain *d, uint32_t page, gfp_t gfp, enum owner_kind kind, uint32_t id);
/* The sweep will look at the section of the page when s dies. */
void grant_note_section(struct domain *d, struct session *s, uint32_t page);

enum grant_back {
	GRANT_BACK_FREED,   /* in the batch */
	GRANT_BACK_KEPT,    /* lives on for its holders */
	GRANT_BACK_CHANGED, /* the word was not w any more: somebody else decided */
	GRANT_BACK_DAMAGED,
};
/* Ends what the word w says of the page's block: steps 2 to 4 of a free, the batch does the fifth.
 */
enum grant_back grant_take_back(struct grant_batch *batch, uint32_t page, uint64_t w);
/* The word says FREE by the caller's own exchange: steps 3 and 4. */
bool grant_leave(struct grant_batch *batch, uint32_t page);

/* Who has the block whose word is w: a session, or 0. */
uint32_t grant_holder_of(const struct domain *d, uint64_t w);

/* Calls fn for each word that is not FREE in the sections (of pages) of `mask` that are the
 * domain's. */
typedef void (*grant_walk_fn)(void *ctx, uint32_t page, uint64_t w);
void grant_walk(struct domain *d, const uint64_t mask[CONTROL_SECTIONS_MAX / 64], grant_walk_fn fn,
                void *ctx);
/* The sections that may have blocks of s (NULL: all). */
void grant_sections(struct domain *d, struct session *s, uint64_t mask[CONTROL_SECTIONS_MAX / 64]);

/* ---- charge.c ---- */

/* Charges up to `want` blocks of 2^order frames, as many as the quotas allow; how many. */
uint32_t charge_reserve(struct session *s, uint32_t order, uint32_t want);
void charge_return(struct session *s, uint64_t frames);
/* A block that `from` is charged for (NULL: somebody else) could be charged to `to`, both entered. */
bool charge_room(struct session *to, const struct session *from, uint32_t order);
/* The block that was charged to `tag` is free. */
void charge_drop(struct domain *d, uint32_t tag, uint64_t frames);
/* The page's block is charged to `to` (0: nobody) from now on. */
void charge_move(struct domain *d, uint32_t page, uint32_t to);
/* The same for a holder who was not entered, of the block that was b: nothing when the holder ends,
 * or when b.tag is not charged for it any more. heir 0: only names hold it, nobody is charged. */
void charge_inherit(struct domain *d, uint32_t page, const struct mm_block *b, uint32_t heir);
/* What a reservation of this thread met last, and why it was refused then. */
struct charge_obstacle {
	struct user *user; /* NULL: the session's own quota */
	enum user_count what;
};
struct charge_obstacle charge_obstacle(void);
const char *charge_text(const struct session *s, uint32_t order);
const char *charge_text_pages(const struct session *s, uint32_t pages);
/* Some quota of pages or objects is the session's or its user's. */
bool charge_limited(const struct session *s);
/* Before a refusal: what threads of s cache and marked is collected, what was adopted is charged to who
 * has it, objects are counted. user: the same for its other sessions; NULL: s is the one that met its
 * quota. Worker. */
void charge_settle(struct domain *d, struct session *s, const struct user *user);

#endif
