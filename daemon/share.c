/* SPDX-License-Identifier: MIT */
/*
 * Blocks that pass from one session to another through the daemon, or that several hold.
 *
 * Sending is one exchange of the owner word, generation and flags kept, so a handle made before
 * stays valid for the receiver. Whose block it is is looked at first, so that a foreign one costs
 * the receiver nothing; its quota is tested then and the section noted for its sweep;
 * whichever of the two dies at whatever point, the word says whose block it is.
 *
 * Holding adds an entry to the holder table (holder.c); who leaves last frees. A block that its
 * owner gave up is charged to one of its holders, so that holding is no way around a quota.
 */
#include "daemon/grant.h"

#include <errno.h>
#include <inttypes.h>

#include "daemon/holder.h"
#include "daemon/options.h"

static int check_frame(const struct domain *d, pfn_t pfn, const char **why)
{
	if (pfn < d->control.geometry.frames)
		return 0;
	*why = grant_text("frame %u is beyond the pool's %" PRIu64 " frames", pfn,
	                  d->control.geometry.frames);
	return -EINVAL;
}

enum send_state {
	SEND_MAY,
	SEND_DONE, /* before */
};

/* enum send_state, or a refusal. */
static int send_judge(uint64_t w, const struct session *from, pfn_t pfn, uint64_t generation,
                      const struct session *to, const char **why)
{
	if ((uint32_t)owner_generation(w) != (uint32_t)generation) {
		*why = grant_text("the block at frame %u was freed or adopted", pfn);
		return -ESTALE;
	}
	if (owner_is(w, OWNER_HELD, to->id))
		return SEND_DONE;
	if (owner_is(w, OWNER_HELD, from->id))
		return SEND_MAY;
	*why = grant_text("the block at frame %u is not this session's to send; its owner word "
	                  "names %u",
	                  pfn, owner_id(w));
	return -EPERM;
}

int grant_send(struct domain *d, struct session *from, pfn_t pfn, uint64_t generation,
               struct session *to, const char **why)
{
	struct mm_block b;
	uint64_t w;
	int rc = check_frame(d, pfn, why);

	if (rc)
		return rc;
	w = owner_load(&d->control.word[pfn]);
	if (!mm_block_get(d->mm, pfn, &b) || owner_kind(w) == OWNER_FREE) {
		*why = grant_text("no block is granted at frame %u", pfn);
		return -ENOENT;
	}
	rc = send_judge(w, from, pfn, generation, to, why);
	if (rc < 0)
		return rc;
	/* Charged first; it costs nothing when the receiver is charged already. */
	if (rc == SEND_MAY && b.tag != to->id && !charge_reserve(to, b.order, 1)) {
		*why = grant_text("the receiver, session %u, may hold %" PRIu64
		                  " pages and would exceed "
		                  "them by this block of order %u",
		                  to->id, to->pages_max, b.order);
		return -EDQUOT;
	}
	if (rc == SEND_MAY && b.tag != to->id)
		charge_return(to, UINT64_C(1) << b.order);
	grant_note_section(d, to, pfn);
	while (rc == SEND_MAY &&
	       !owner_cas(&d->control.word[pfn], &w, owner_moved(w, OWNER_HELD, to->id)))
		rc = send_judge(w, from, pfn, generation, to, why);
	if (rc < 0)
		return rc;
	charge_move(d, pfn, to->id);
	return 0;
}

int grant_hold(struct domain *d, struct session *s, uint32_t granule, uint32_t generation,
               const char **why)
{
	uint32_t limit = d->kmmd->options->holders_session_max;
	bool added, room;
	pfn_t pfn;
	int rc;

	if (!domain_granule_pfn(d, granule, &pfn)) {
		*why = grant_text("granule %u is not the first of a frame of the pool", granule);
		return -EINVAL;
	}
	/* relaxed: a counter that limits. At the limit what is held already may be held again. */
	room = atomic_fetch_add_explicit(&s->holds, 1, memory_order_relaxed) < limit;
	rc = holder_add(d->holders, s->id, granule, &d->control.word[pfn], generation, room,
	                &added);
	if (!rc && added)
		return 0;
	atomic_fetch_sub_explicit(&s->holds, 1, memory_order_relaxed);
	if (!rc)
		return 0;
	if (rc == -EDQUOT) {
		*why = grant_text(
			"the session holds %u blocks of others, the most it may; put some back",
			limit);
		return -EDQUOT;
	}
	if (rc == -ENOSPC) {
		*why = grant_text("all %u entries for holders are in use; put some back, or raise "
		                  "holders_max",
		                  d->kmmd->options->holders_max);
		return -EDQUOT;
	}
	*why = grant_text("the block at frame %u was freed or adopted before it could be held",
	                  pfn);
	return -ESTALE;
}

int grant_release(struct domain *d, struct session *s, uint32_t cpu, uint32_t granule,
                  const char **why)
{
	struct grant_batch batch;
	enum holder_result result;
	struct mm_block b;
	bool is_block;
	uint32_t heir;
	pfn_t pfn;

	if (!domain_granule_pfn(d, granule, &pfn)) {
		*why = grant_text("granule %u is not the first of a frame of the pool", granule);
		return -EINVAL;
	}
	is_block = mm_block_get(d->mm, pfn, &b);
	result = holder_remove(d->holders, s->id, granule, &d->control.word[pfn], &heir);
	if (result == HOLDER_NONE)
		return 0;
	atomic_fetch_sub_explicit(&s->holds, 1, memory_order_relaxed);
	if (result == HOLDER_LEFT) {
		if (heir && is_block)
			charge_inherit(d, pfn, &b, heir);
		return 0;
	}
	grant_batch_init(&batch, d, cpu);
	grant_leave(&batch, pfn);
	grant_batch_flush(&batch);
	return 0;
}
