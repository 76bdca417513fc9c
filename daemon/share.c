/* SPDX-License-Identifier: MIT */
/*
 * Blocks that pass from one session to another through the daemon, or that several hold.
 *
 * Sending is one exchange of the owner word, generation and flags kept, so a handle made before
 * stays valid for the receiver. The receiver is charged before and the section noted for its sweep;
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
	/* Charged first; it costs nothing when the receiver is charged already. */
	if (b.tag != to->id && !charge_reserve(to, b.order, 1)) {
		*why = grant_text("the receiver, session %u, may hold %" PRIu64
		                  " pages and would exceed "
		                  "them by this block of order %u",
		                  to->id, to->pages_max, b.order);
		return -EDQUOT;
	}
	if (b.tag != to->id)
		charge_return(to, UINT64_C(1) << b.order);
	grant_note_section(d, to, pfn);
	for (;;) {
		if (owner_is(w, OWNER_HELD, to->id) &&
		    (uint32_t)owner_generation(w) == (uint32_t)generation)
			break; /* done before */
		if ((uint32_t)owner_generation(w) != (uint32_t)generation) {
			*why = grant_text("the block at frame %u was freed or adopted", pfn);
			return -ESTALE;
		}
		if (!owner_is(w, OWNER_HELD, from->id)) {
			*why = grant_text(
				"the block at frame %u is not this session's to send; its owner "
				"word names %u",
				pfn, owner_id(w));
			return -EPERM;
		}
		if (owner_cas(&d->control.word[pfn], &w, owner_moved(w, OWNER_HELD, to->id)))
			break;
	}
	charge_move(d, pfn, to->id);
	return 0;
}

int grant_hold(struct domain *d, struct session *s, uint32_t granule, uint32_t generation,
               const char **why)
{
	uint32_t limit = d->kmmd->options->holders_session_max;
	bool added;
	pfn_t pfn;
	int rc;

	if (!domain_granule_pfn(d, granule, &pfn)) {
		*why = grant_text("granule %u is not the first of a frame of the pool", granule);
		return -EINVAL;
	}
	/* relaxed: a counter that limits */
	if (atomic_fetch_add_explicit(&s->holds, 1, memory_order_relaxed) >= limit) {
		atomic_fetch_sub_explicit(&s->holds, 1, memory_order_relaxed);
		*why = grant_text(
			"the session holds %u blocks of others, the most it may; put some back",
			limit);
		return -EDQUOT;
	}
	rc = holder_add(d->holders, s->id, granule, &d->control.word[pfn], generation, &added);
	if (!rc && added)
		return 0;
	atomic_fetch_sub_explicit(&s->holds, 1, memory_order_relaxed);
	if (!rc)
		return 0;
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
	uint32_t heir;
	pfn_t pfn;

	if (!domain_granule_pfn(d, granule, &pfn)) {
		*why = grant_text("granule %u is not the first of a frame of the pool", granule);
		return -EINVAL;
	}
	result = holder_remove(d->holders, s->id, granule, &d->control.word[pfn], &heir);
	if (result == HOLDER_NONE)
		return 0;
	atomic_fetch_sub_explicit(&s->holds, 1, memory_order_relaxed);
	if (result == HOLDER_LEFT) {
		if (heir)
			charge_move(d, pfn, heir);
		return 0;
	}
	grant_batch_init(&batch, d, cpu);
	grant_leave(&batch, pfn);
	grant_batch_flush(&batch);
	return 0;
}
