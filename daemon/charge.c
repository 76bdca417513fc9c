/* SPDX-License-Identifier: MIT */
/*
 * Quotas: how much memory a session, and its user, are charged for.
 *
 * A block is charged to the session in its tag (20 bits of its private state word), which is the
 * one that the daemon offered it to; the session counts the frames of all blocks tagged with it:
 *
 *     session.charge == sum of 2^order over blocks whose tag is the session
 *
 * The sum holds whenever nobody is in the middle of a change: a charge is added before the tag is
 * set, and subtracted by whoever took the tag away with one compare-and-swap (mm_block_retag,
 * mm_block_take), so no frame is ever charged twice or dropped twice.
 *
 * What a session is charged its user is (user.c), under a limit of its own. A charge that is dropped
 * leaves the user's account before the session's: the id of a session whose charge is not 0 is not
 * given to another one (session_release()), so until then session.user is whose it was.
 *
 * Adoption is one exchange of the owner word that the daemon does not see, so tags lag behind
 * words. grant_recharge() walks the words and moves the charges; it runs before a refusal and in
 * the sweep of a session that dies, on the worker. Whoever is charged is also noted as having
 * blocks in that section, so that a sweep finds every block tagged with its session. When it is the
 * user's quota that refuses, it runs for all sessions of the user (charge_settle).
 *
 * Objects have no tags: how many a session has is an estimate, added when they are offered and
 * subtracted when they come back, never below zero. Adoption moves objects but no charge, so before a
 * refusal grant_recharge() counts the session's objects by their words and sets the sums.
 * When they are less than the estimate, somebody else has the difference: those that are met on the
 * way are refused once, so that theirs are counted too.
 * It counts in the slabs that the session marked. Of a magazine from the rack that is not emptied
 * yet these may be too few. Who has a quota uses no rack (rack.c); those that do are counted from
 * time to time (session_count_racked()).
 * Blocks and objects count to one limit of pages; objects to one of their number besides.
 */
#include "daemon/high.h"
#include "daemon/object.h"

#include <inttypes.h>

static _Thread_local struct charge_obstacle obstacle;

struct charge_obstacle charge_obstacle(void)
{
	return obstacle;
}

static void met(struct user *u, enum user_count what)
{
	obstacle = (struct charge_obstacle){ .user = u, .what = what };
}

/* relaxed, here and below: counters that limit; they order nothing */
static int64_t object_frames(const struct session *s)
{
	int64_t bytes = atomic_load_explicit(&s->object_bytes, memory_order_relaxed);

	return bytes > 0 ? (bytes + GRANT_FRAME - 1) >> PAGE_SHIFT : 0;
}

static uint64_t pages_max(const struct session *s)
{
	return atomic_load_explicit(&s->pages_max, memory_order_relaxed);
}

/* frames_had counts what is charged and not undone, for reports; what was given back since is
 * frames_had - charge. */
static void charge_add(struct session *s, int64_t frames)
{
	atomic_fetch_add_explicit(&s->charge, frames, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->frames_had, (uint64_t)frames, memory_order_relaxed);
}

static void charge_undo(struct session *s, int64_t frames)
{
	/* release: the user's account was changed before; pairs with session_release() */
	atomic_fetch_sub_explicit(&s->charge, frames, memory_order_release);
	atomic_fetch_sub_explicit(&s->frames_had, (uint64_t)frames, memory_order_relaxed);
}

/* The session's quota alone. */
static uint32_t reserve_own(struct session *s, uint32_t order, uint32_t want)
{
	int64_t frames = INT64_C(1) << order, old, limit, n = want;
	uint64_t max = pages_max(s);

	if (!max) {
		charge_add(s, n * frames);
		return want;
	}
	limit = (int64_t)max - object_frames(s);
	old = atomic_load_explicit(&s->charge, memory_order_relaxed);
	do {
		n = old < limit ? (limit - old) >> order : 0;
		if (n > want)
			n = want;
		if (!n)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(
		&s->charge, &old, old + n * frames, memory_order_relaxed, memory_order_relaxed));
	atomic_fetch_add_explicit(&s->frames_had, (uint64_t)(n * frames), memory_order_relaxed);
	return (uint32_t)n;
}

uint32_t charge_reserve(struct session *s, uint32_t order, uint32_t want)
{
	uint32_t n = reserve_own(s, order, want), m;

	if (n < want)
		met(NULL, USER_PAGES);
	m = (uint32_t)user_charge_some(s->user, USER_PAGES, UINT64_C(1) << order, n);
	if (m < n) {
		met(s->user, USER_PAGES);
		charge_undo(s, (int64_t)(n - m) << order);
	}
	return m;
}

void charge_return(struct session *s, uint64_t frames)
{
	user_uncharge(s->user, USER_PAGES, frames);
	charge_undo(s, (int64_t)frames);
}

bool charge_room(struct session *to, const struct session *from, uint32_t order)
{
	uint64_t frames = UINT64_C(1) << order;

	if (!reserve_own(to, order, 1)) {
		met(NULL, USER_PAGES);
		return false;
	}
	charge_undo(to, (int64_t)frames);
	if (from && from->user == to->user)
		return true;
	if (!user_charge(to->user, USER_PAGES, frames)) {
		met(to->user, USER_PAGES);
		return false;
	}
	user_uncharge(to->user, USER_PAGES, frames);
	return true;
}

void charge_drop(struct domain *d, uint32_t tag, uint64_t frames)
{
	struct session *s = tag ? session_by_id(d->kmmd->sessions, tag) : NULL;

	if (!s)
		return;
	user_uncharge(s->user, USER_PAGES, frames);
	/* release: as in charge_undo() */
	atomic_fetch_sub_explicit(&s->charge, (int64_t)frames, memory_order_release);
}

/* The block of that many frames was charged to `from` and is charged to s (already), or nobody. */
static void charge_pass(struct domain *d, uint32_t from, struct session *s, uint64_t frames)
{
	struct session *f = from ? session_by_id(d->kmmd->sessions, from) : NULL;

	/* Between two sessions of one user nothing changes for the user. */
	if (s && (!f || f->user != s->user))
		user_charge_always(s->user, USER_PAGES, frames);
	if (!f)
		return;
	if (!s || f->user != s->user)
		user_uncharge(f->user, USER_PAGES, frames);
	atomic_fetch_sub_explicit(&f->charge, (int64_t)frames, memory_order_release);
}

/* s: whom `to` means, NULL: nobody. */
static void charge_retag(struct domain *d, uint32_t page, uint32_t to, struct session *s)
{
	struct mm_block b;
	pfn_t pfn;

	while (domain_block_get(d, page, &pfn, &b) && b.tag != to) {
		int64_t frames = INT64_C(1) << b.order;

		if (s)
			charge_add(s, frames);
		if (mm_block_retag(d->mm, pfn, b.tag, to)) {
			charge_pass(d, b.tag, s, (uint64_t)frames);
			return;
		}
		if (s)
			charge_undo(s, frames);
	}
}

void charge_move(struct domain *d, uint32_t page, uint32_t to)
{
	struct session *s = to ? session_by_id(d->kmmd->sessions, to) : NULL;

	if (s)
		grant_note_section(d, s, page);
	else
		to = 0;
	if (!domain_page_moves(d, page)) {
		charge_retag(d, page, to, s);
		return;
	}
	/* It keeps its frame meanwhile. */
	LOCK_SCOPED(&d->moving);
	charge_retag(d, page, to, s);
}

void charge_inherit(struct domain *d, uint32_t page, const struct mm_block *b, uint32_t heir)
{
	struct session *s = session_by_id(d->kmmd->sessions, heir);
	int64_t frames = INT64_C(1) << b->order;
	pfn_t pfn = domain_frame_of(d, page); /* of a KEPT one, which does not move */

	/* Names only: nobody is charged. */
	if (!heir && b->tag && mm_block_retag(d->mm, pfn, b->tag, 0))
		charge_drop(d, b->tag, (uint64_t)frames);
	/* Who ends has its entry among the holders still, and names the next heir when it goes. */
	if (!heir || !s || b->tag == heir || !session_enter(s))
		return;
	grant_note_section(d, s, page);
	charge_add(s, frames);
	/* Once: another tag means that the block was freed, or was settled by somebody else. */
	if (mm_block_retag(d->mm, pfn, b->tag, heir))
		charge_pass(d, b->tag, s, (uint64_t)frames);
	else
		charge_undo(s, frames);
	session_leave(s);
}

const char *charge_text(const struct session *s, uint32_t order)
{
	return charge_text_pages(s, 1u << order);
}

const char *charge_text_pages(const struct session *s, uint32_t pages)
{
	if (obstacle.user)
		return user_text(obstacle.user, obstacle.what, pages);
	return grant_text("the session holds %" PRId64 " of the %" PRIu64 " pages it may; %u more "
	                  "are asked for: free some, or raise pages in [limits] of the configuration",
	                  atomic_load_explicit(&s->charge, memory_order_relaxed) +
	                          object_frames(s),
	                  pages_max(s), pages);
}

/* ---- objects ---- */

bool charge_limited(const struct session *s)
{
	return pages_max(s) || atomic_load_explicit(&s->objects_max, memory_order_relaxed) ||
	       user_limits(s->user, USER_PAGES) || user_limits(s->user, USER_OBJECTS);
}

/* Up to `want` times `each` more in the counter, not above the limit. */
static int64_t add_within(_Atomic int64_t *counter, int64_t limit, int64_t each, int64_t want)
{
	int64_t old = atomic_load_explicit(counter, memory_order_relaxed), n;

	do {
		n = old < limit ? (limit - old) / each : 0;
		if (n > want)
			n = want;
		if (!n)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(counter, &old, old + n * each,
	                                                memory_order_relaxed,
	                                                memory_order_relaxed));
	return n;
}

/* Not below zero; by how much. */
static int64_t subtract_some(_Atomic int64_t *counter, int64_t by)
{
	int64_t old = atomic_load_explicit(counter, memory_order_relaxed), n;

	do {
		n = old < by ? old : by;
		if (n <= 0)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(counter, &old, old - n,
	                                                memory_order_relaxed,
	                                                memory_order_relaxed));
	return n;
}

/* The session's quotas alone. */
static int64_t reserve_own_objects(struct session *s, uint32_t stride, int64_t want)
{
	uint64_t pages = pages_max(s),
		 objects = atomic_load_explicit(&s->objects_max, memory_order_relaxed);
	int64_t n = want, m, frames;

	if (objects > INT64_MAX)
		objects = INT64_MAX;
	if (objects)
		n = add_within(&s->objects, (int64_t)objects, 1, want);
	else
		atomic_fetch_add_explicit(&s->objects, n, memory_order_relaxed);
	if (n < want)
		met(NULL, USER_OBJECTS);
	if (!pages) {
		atomic_fetch_add_explicit(&s->object_bytes, n * stride, memory_order_relaxed);
		return n;
	}
	frames = (int64_t)pages - atomic_load_explicit(&s->charge, memory_order_relaxed);
	m = n ? add_within(&s->object_bytes, frames * GRANT_FRAME, stride, n) : 0;
	if (m < n) {
		met(NULL, USER_PAGES);
		subtract_some(&s->objects, n - m);
	}
	return m;
}

/* It adopted some, and is to be counted before anything is decided. */
static bool is_low(struct session *s)
{
	bool objects = atomic_load_explicit(&s->objects_max, memory_order_relaxed);

	if (!atomic_load_explicit(&s->object_bytes_low, memory_order_relaxed) || !charge_limited(s))
		return false;
	if (objects || pages_max(s))
		met(NULL, objects ? USER_OBJECTS : USER_PAGES);
	else
		met(s->user, user_limits(s->user, USER_OBJECTS) ? USER_OBJECTS : USER_PAGES);
	return true;
}

uint32_t charge_reserve_objects(struct session *s, uint32_t stride, uint32_t want)
{
	enum user_count what = USER_OBJECTS;
	int64_t n, m;

	if (is_low(s))
		return 0;
	n = reserve_own_objects(s, stride, want);
	m = (int64_t)user_charge_objects(s->user, stride, (uint64_t)n, &what);
	if (m < n) {
		met(s->user, what);
		subtract_some(&s->objects, n - m);
		subtract_some(&s->object_bytes, (n - m) * stride);
	}
	return (uint32_t)m;
}

void charge_return_objects(struct session *s, uint32_t stride, uint32_t n)
{
	int64_t objects = subtract_some(&s->objects, n),
		bytes = subtract_some(&s->object_bytes, (int64_t)n * stride);

	user_adjust_objects(s->user, -objects, -bytes);
}

bool charge_receive_object(struct session *to, const struct session *from, uint32_t stride)
{
	if (to->user != from->user)
		return charge_reserve_objects(to, stride, 1) == 1;
	return !is_low(to) && reserve_own_objects(to, stride, 1) == 1;
}

void charge_received_object(struct session *to, struct session *from, uint32_t stride, bool sent)
{
	struct session *s = sent ? from : to;
	int64_t objects, bytes;

	if (to->user != from->user) {
		charge_return_objects(s, stride, 1);
		return;
	}
	objects = subtract_some(&s->objects, 1);
	bytes = subtract_some(&s->object_bytes, stride);
	/* nothing, unless the sender's was not counted */
	user_adjust_objects(to->user, 1 - objects, stride - bytes);
}

void charge_drop_objects(struct domain *d, uint32_t session, uint32_t stride)
{
	struct session *s = session ? session_by_id(d->kmmd->sessions, session) : NULL;

	/* Of one that ends all is dropped by its sweep. */
	if (!s || !session_enter(s))
		return;
	charge_return_objects(s, stride, 1);
	session_leave(s);
}

void charge_set_objects(struct session *s, int64_t objects, int64_t bytes)
{
	int64_t had = atomic_exchange_explicit(&s->objects, objects, memory_order_relaxed),
		had_bytes = atomic_exchange_explicit(&s->object_bytes, bytes, memory_order_relaxed);

	user_adjust_objects(s->user, objects - had, bytes - had_bytes);
}

const char *charge_text_objects(const struct session *s, uint32_t stride)
{
	if (obstacle.user)
		return user_text(obstacle.user, obstacle.what,
		                 obstacle.what == USER_OBJECTS ?
		                         1 :
		                         (stride + GRANT_FRAME - 1) >> PAGE_SHIFT);
	if (obstacle.what == USER_OBJECTS)
		return grant_text("the session holds %" PRId64 " of the %" PRIu64 " objects it may, "
		                  "those that its threads cache included; one more is asked for: "
		                  "free some, or raise objects in [limits] of the configuration",
		                  atomic_load_explicit(&s->objects, memory_order_relaxed),
		                  atomic_load_explicit(&s->objects_max, memory_order_relaxed));
	return grant_text("the session holds %" PRId64 " of the %" PRIu64 " pages it may, %" PRId64
	                  " of them as objects; one of %u bytes more is asked for: free some, or "
	                  "raise pages in [limits] of the configuration",
	                  atomic_load_explicit(&s->charge, memory_order_relaxed) +
	                          object_frames(s),
	                  pages_max(s), object_frames(s), stride);
}

/* ---- settling ---- */

struct recharge {
	struct domain *d;
	struct session *s;
};

static void recharge_one(void *ctx, uint32_t page, uint64_t w)
{
	struct recharge *r = ctx;
	struct session *t;
	struct mm_block b;
	uint32_t holder;
	pfn_t pfn;

	if (!domain_block_get(r->d, page, &pfn, &b) || b.tag != r->s->id)
		return;
	holder = grant_holder_of(r->d, w);
	if (holder == r->s->id || !holder)
		return;
	t = session_by_id(r->d->kmmd->sessions, holder);
	/* Of one that ends, its sweep frees it. */
	if (!t || !session_enter(t))
		return;
	charge_move(r->d, page, holder);
	session_leave(t);
}

void grant_recharge(struct domain *d, struct session *s)
{
	struct recharge r = { .d = d, .s = s };
	uint64_t mask[CONTROL_SECTIONS_MAX / 64];

	grant_sections(d, s, mask);
	grant_walk(d, mask, recharge_one, &r);
	object_recount(d, s);
}

/* user: NULL, or whose it has to be. */
static void settle_one(struct domain *d, struct session *s, const struct user *user)
{
	if (!session_enter(s))
		return;
	if (!user || s->user == user) {
		grant_collect(d, s, MM_CPU_NONE);
		object_collect(d, s, NULL, MM_CPU_NONE);
		grant_recharge(d, s);
	}
	session_leave(s);
}

void charge_settle(struct domain *d, struct session *s, const struct user *user)
{
	uint32_t id;

	for (id = 1; user && id < session_table_size(d->kmmd->sessions); id++) {
		struct session *o = session_by_id(d->kmmd->sessions, id);

		/* relaxed: one that begins or ends meanwhile is left out */
		if (o != s &&
		    atomic_load_explicit(&o->state, memory_order_relaxed) != SESSION_FREE)
			settle_one(d, o, user);
	}
	settle_one(d, s, NULL);
}
