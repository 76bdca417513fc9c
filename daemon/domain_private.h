/* SPDX-License-Identifier: MIT */
/*
 * Between domain.c, domain_recover.c, domain_validate.c and object_recover.c.
 */
#ifndef DAEMON_DOMAIN_PRIVATE_H
#define DAEMON_DOMAIN_PRIVATE_H

#include "daemon/domain.h"
#include "mm/slab.h"

struct pool;

/* Judges every word of a pool that was taken over and rebuilds the slabs and the zones. lent[m]
 * (in: zeroes) is set to the session that has magazine m. d has its zones (empty), holders, slab
 * space (empty) and names; not yet its depot and caches. -EUCLEAN: mm/ refuses its own words. May
 * be interrupted and run again. */
int domain_recover(struct domain *d, const struct pool *pool, uint32_t lent[]);

#define RECOVERY_RACES_MAX 64 /* a client that never lets go spoils its own domain only */

struct recovery {
	struct domain *d;
	const struct pool *pool;
	uint32_t *lent;
	uint64_t kept, freed;                 /* frames */
	uint64_t objects_kept, objects_freed;
	uint32_t moving;                      /* pages whose words said MOVING */
};

/* Its record is not free. */
bool recovery_session_known(const struct recovery *r, uint32_t id);

/* What is to become of the thing whose word is w. */
enum recovery_verdict {
	VERDICT_FREE,
	VERDICT_KEEP,
	VERDICT_HOLDERS, /* nobody owns it, its holders keep it */
	VERDICT_DAMAGED,
};
enum recovery_verdict recovery_judge(const struct recovery *r, uint32_t granule, uint64_t w);
/* KEPT as the holder table says. */
void recovery_correct_kept(const struct recovery *r, uint32_t granule, owner_word_t *word);

/* object_recover.c: slab_judge_fn of the recovery (ctx). */
bool object_judge(void *ctx, const struct slab_object *o, bool was_out);
/* The descriptors of the slab's frames are what they ought to be. */
void object_correct_slab(struct domain *d, const struct slab_about *s);
uint64_t object_slab_descriptor(const struct slab_about *s, uint32_t frame);

#endif
