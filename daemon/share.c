/* SPDX-License-Identifier: MIT */
/*
 * Things (blocks and objects) that pass from one session to another through the daemon, or that
 * several hold.
 *
 * Sending is one exchange of the owner word, generation and flags kept, so a handle made before
 * stays valid for the receiver. Whose thing it is is looked at first, so that a foreign one costs
 * the receiver nothing; its quota is tested then and the section or slab noted for its sweep;
 * whichever of the two dies at whatever point, the word says whose thing it is.
 *
 * Holding adds an entry to the holder table (holder.c); who leaves last frees. A block that its
 * owner gave up is charged to one of its holders, so that holding is no way around a quota; an
 * object is charged to nobody then.
 */
#include <errno.h>
#include <inttypes.h>

#include "daemon/high.h"
#include "daemon/holder.h"
#include "daemon/move.h"
#include "daemon/object.h"
#include "daemon/options.h"

#define MOVING_RACES_MAX 64u /* tries to hold what is being moved */

/* ---- things that move (move.h) ---- */

uint64_t thing_word(struct domain *d, const struct thing *t)
{
	return move_word(d, t->word, t->granule);
}

int thing_hold(struct domain *d, uint32_t session, const struct thing *t, uint32_t generation,
               bool room, bool *added)
{
	unsigned int race;
	int rc = -ESTALE;

	for (race = 0; race < MOVING_RACES_MAX && rc == -ESTALE; race++) {
		uint64_t w;

		rc = holder_add(d->holders, session, t->granule, t->word, generation, room, added);
		if (rc != -ESTALE || t->is_object || !domain_page_moves(d, t->page))
			break;
		/* It cannot be held while it is moved, but perhaps now. */
		w = thing_word(d, t);
		if (owner_kind(w) != OWNER_HELD || (uint32_t)owner_generation(w) != generation)
			break;
	}
	return rc;
}

/* ---- granules from outside ---- */

static int check_granule(const struct domain *d, uint32_t granule, const char **why)
{
	if (thing_granule_ok(d, granule))
		return 0;
	*why = grant_text("granule %u is beyond the pool's %" PRIu64 " pages", granule,
	                  control_pages(&d->control.geometry));
	return -EINVAL;
}

static int check_thing(struct domain *d, uint32_t granule, struct thing *t, const char **why)
{
	int rc = check_granule(d, granule, why);

	if (rc || thing_find(d, granule, t))
		return rc;
	*why = grant_text("nothing is granted at granule %u", granule);
	return -ENOENT;
}

/* ---- Send ---- */

enum send_state {
	SEND_MAY,
	SEND_DONE, /* before */
};

/* enum send_state, or a refusal. */
static int send_judge(uint64_t w, const struct session *from, const struct thing *t,
                      uint64_t generation, const struct session *to, const char **why)
{
	if ((uint32_t)owner_generation(w) != (uint32_t)generation) {
		*why = grant_text("%s was freed or adopted", thing_text(t));
		return -ESTALE;
	}
	if (owner_is(w, OWNER_HELD, to->id))
		return SEND_DONE;
	if (owner_is(w, OWNER_HELD, from->id))
		return SEND_MAY;
	*why = grant_text("%s is not this session's to send; its owner word names %u",
	                  thing_text(t), owner_id(w));
	return -EPERM;
}

static int send_refuse(const struct thing *t, const struct session *to, uint64_t pages,
                       const char **why)
{
	struct charge_obstacle o = charge_obstacle();
	bool objects = o.what == USER_OBJECTS;
	/* relaxed: for a text */
	uint64_t max = atomic_load_explicit(objects ? &to->objects_max : &to->pages_max,
	                                    memory_order_relaxed);

	if (o.user)
		*why = grant_text("the receiver, session %u, cannot be given %s: %s", to->id,
		                  thing_text(t), user_text(o.user, o.what, objects ? 1 : pages));
	else
		*why = grant_text("the receiver, session %u, may hold %" PRIu64
		                  " %s and would exceed them by %s: raise %s in [limits] of the "
		                  "configuration",
		                  to->id, max, user_count_name(o.what), thing_text(t),
		                  user_count_name(o.what));
	return -EDQUOT;
}

/* The receiver has room for it. For a block this is a test only: the charge moves with the tag. */
static int send_reserve(struct domain *d, const struct thing *t, const struct session *from,
                        struct session *to, const char **why)
{
	struct mm_block b;
	uint32_t stride;
	pfn_t pfn;

	if (t->is_object) {
		stride = kmem_cache_geometry(t->object.cache)->stride;
		return charge_receive_object(to, from, stride) ?
		               0 :
		               send_refuse(t, to, (stride + GRANT_FRAME - 1) >> PAGE_SHIFT, why);
	}
	/* It costs nothing when the receiver is charged already. */
	if (!domain_block_get(d, t->page, &pfn, &b) || b.tag == to->id ||
	    charge_room(to, b.tag == from->id ? from : NULL, b.order))
		return 0;
	return send_refuse(t, to, UINT64_C(1) << b.order, why);
}

/* The exchange was made, or not. */
static void send_charge(struct domain *d, const struct thing *t, struct session *from,
                        struct session *to, bool sent)
{
	if (t->is_object)
		charge_received_object(to, from, kmem_cache_geometry(t->object.cache)->stride,
		                       sent);
	else if (sent)
		charge_move(d, t->page, to->id);
}

/* Sent: the receiver has mapped nothing yet. */
static uint64_t word_sent(const struct domain *d, const struct thing *t, uint64_t w, uint32_t to)
{
	w = owner_moved(w, OWNER_HELD, to);
	return !t->is_object && domain_page_moves(d, t->page) ? w & ~OWNER_MAPPED : w;
}

int grant_send(struct domain *d, struct session *from, uint32_t granule, uint64_t generation,
               struct session *to, const char **why)
{
	struct thing t;
	uint64_t w;
	int rc = check_thing(d, granule, &t, why);

	if (rc)
		return rc;
	w = thing_word(d, &t);
	if (owner_kind(w) == OWNER_FREE) {
		*why = grant_text("%s is free", thing_text(&t));
		return -ENOENT;
	}
	rc = send_judge(w, from, &t, generation, to, why);
	if (rc < 0)
		return rc;
	if (rc == SEND_DONE) {
		if (!t.is_object)
			charge_move(d, t.page, to->id);
		return 0;
	}
	if (thing_note(d, to, &t) < 0) {
		*why = "the daemon is out of memory";
		return -ENOMEM;
	}
	rc = send_reserve(d, &t, from, to, why);
	if (rc)
		return rc;
	rc = SEND_MAY;
	while (rc == SEND_MAY && !owner_cas(t.word, &w, word_sent(d, &t, w, to->id))) {
		if (owner_kind(w) == OWNER_MOVING)
			w = thing_word(d, &t);
		rc = send_judge(w, from, &t, generation, to, why);
	}
	/* SEND_DONE: by another call meanwhile, which moved the charge */
	send_charge(d, &t, from, to, rc == SEND_MAY);
	return rc < 0 ? rc : 0;
}

/* ---- Hold, Release ---- */

int grant_hold(struct domain *d, struct session *s, uint32_t granule, uint32_t generation,
               const char **why)
{
	uint32_t limit = OPTION(d->kmmd->options, holders_session_max);
	struct thing t;
	bool added, room;
	int rc = check_granule(d, granule, why);

	if (rc)
		return rc;
	if (!thing_find(d, granule, &t)) {
		*why = grant_text("what was at granule %u was freed before it could be held",
		                  granule);
		return -ESTALE;
	}
	/* relaxed: a counter that limits. At the limit what is held already may be held again. */
	room = atomic_fetch_add_explicit(&s->holds, 1, memory_order_relaxed) < limit;
	rc = thing_hold(d, s->id, &t, generation, room, &added);
	if (!rc && added)
		return 0;
	atomic_fetch_sub_explicit(&s->holds, 1, memory_order_relaxed);
	if (!rc)
		return 0;
	if (rc == -EDQUOT) {
		*why = grant_text(
			"the session holds %u things of others, the most it may; put some back",
			limit);
		return -EDQUOT;
	}
	if (rc == -ENOSPC) {
		*why = grant_text("all %u entries for holders are in use; put some back, or raise "
		                  "holders",
		                  d->kmmd->options->holders_max);
		return -EDQUOT;
	}
	*why = grant_text("%s was freed or adopted before it could be held", thing_text(&t));
	return -ESTALE;
}

int grant_release(struct domain *d, struct session *s, uint32_t cpu, uint32_t granule,
                  const char **why)
{
	enum holder_result result;
	struct thing t;
	uint32_t heir;
	int rc = check_granule(d, granule, why);

	if (rc)
		return rc;
	/* Also where nothing is (any more): adoption leaves entries that hold nothing. */
	thing_find(d, granule, &t);
	result = holder_remove(d->holders, s->id, granule, t.word, &heir);
	if (result == HOLDER_NONE)
		return 0;
	atomic_fetch_sub_explicit(&s->holds, 1, memory_order_relaxed);
	if (result == HOLDER_FREED)
		thing_leave(d, cpu, &t);
	else
		thing_left(d, &t, s->id, heir);
	return 0;
}
