/* SPDX-License-Identifier: MIT */
/*
 * How sessions end.
 *
 *   a channel closes   what was offered through it and not claimed is withdrawn (worker)
 *   the last one       DETACHED: the process lives, its memory stays (quarantine). A session that
 *                      was never used is ended instead: its hello was asked twice
 *   session_end()      SWEEPING in state and record; parked calls are woken
 *   the last leaves    the sweep goes to the worker: grant_sweep(), its caches are no longer open,
 *                      the record becomes FREE (the commit), those who wait are told
 *   main loop          the process is not watched any more: GONE
 *   nothing names it   FREE: no channel, no call, no block whose free is not through
 *
 * Once a second the worker looks after what nobody is told of: ids whose last charge went after their
 * session, and the objects of sessions that use the rack.
 *
 * A daemon that dies in the sweep finds the record SWEEPING and sweeps again.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/log_about.h"
#include "daemon/name.h"
#include "daemon/object.h"
#include "daemon/probes.h"
#include "daemon/session_private.h"
#include "daemon/wait_queue.h"

void session_release(struct session *s)
{
	struct session_table *t = s->table;

	LOCK_SCOPED(&t->lock);
	/* acquire: pairs with the releases of the last channel and the last reference */
	if (atomic_load_explicit(&s->state, memory_order_acquire) != SESSION_GONE ||
	    atomic_load_explicit(&s->channels, memory_order_acquire) ||
	    atomic_load_explicit(&s->refs, memory_order_acquire))
		return;
	/* acquire: pairs with charge_drop(). Who takes a block's tag away drops its charge a moment
	 * later, here and in the user's account; until then the id is nobody else's. */
	if (atomic_load_explicit(&s->charge, memory_order_acquire))
		/* relaxed: looked at once a second */
		atomic_store_explicit(&t->lingering, true, memory_order_relaxed);
	else
		session_push_free(t, s);
}

/* ---- once a second ---- */

#define RACKED_SHARE 200u /* of the worker's time, at most one part in so many */

/* The next session that passes magazines on by the rack, where nobody sees what it has. */
static struct session *next_racked(struct session_table *t)
{
	uint32_t looks;

	for (looks = 1; looks < t->size; looks++) {
		struct session *s;

		t->racked_next = t->racked_next + 1 < t->size ? t->racked_next + 1 : 1;
		s = &t->session[t->racked_next];
		/* relaxed: hints */
		if (atomic_load_explicit(&s->state, memory_order_relaxed) != SESSION_FREE &&
		    (atomic_load_explicit(&s->shared->racks, memory_order_relaxed) &
		     CONTROL_RACKS_USED))
			return s;
	}
	return NULL;
}

static void count_one(struct session_table *t, struct session *s)
{
	if (!session_enter(s))
		return;
	object_recount(t->kmmd->domain, s);
	session_leave(s);
}

/* One session a second, less often when it takes long. */
static void session_count_racked(struct session_table *t)
{
	uint64_t now = uv_hrtime();
	struct session *s;

	if (now < t->racked_ns)
		return;
	s = next_racked(t);
	if (!s)
		return;
	count_one(t, s);
	t->racked_ns = now + (uv_hrtime() - now) * RACKED_SHARE;
}

void session_table_count(struct session_table *t)
{
	uint32_t id;

	for (id = 1; id < t->size; id++)
		/* relaxed: hints */
		if (atomic_load_explicit(&t->session[id].state, memory_order_relaxed) !=
		            SESSION_FREE &&
		    (atomic_load_explicit(&t->session[id].shared->racks, memory_order_relaxed) &
		     CONTROL_RACKS_USED))
			count_one(t, &t->session[id]);
}

void session_table_tick(struct session_table *t)
{
	uint32_t id;

	session_count_racked(t);
	session_note_table(t);
	/* relaxed: as above */
	if (!atomic_exchange_explicit(&t->lingering, false, memory_order_relaxed))
		return;
	for (id = 1; id < t->size; id++)
		session_release(&t->session[id]);
}

/* ---- channels ---- */

void session_withdraw_run(struct worker_job *job)
{
	struct session *s = (struct session *)((char *)job - offsetof(struct session, withdraw));

	/* release: a channel that closes from now on submits anew */
	atomic_store_explicit(&s->withdraw_queued, 0, memory_order_release);
	if (session_enter(s)) {
		grant_withdraw_all(s->kmmd->domain, s);
		session_leave(s);
	}
	session_unref(s);
}

static void withdraw_submit(struct session *s)
{
	/* acq_rel: pairs with the clearing above */
	if (!s->kmmd->worker ||
	    atomic_exchange_explicit(&s->withdraw_queued, 1, memory_order_acq_rel))
		return;
	session_ref(s);
	worker_submit(s->kmmd->worker, &s->withdraw);
}

enum end_why { END_BEFORE, END_CLOSED, END_DIED, END_KILLED, END_UNUSED };

static bool end_from(struct session *s, bool live_too, enum end_why why);

void session_channel_closed(struct session *s, bool control)
{
	struct session_table *t = s->table;
	bool last, detached, unused = false;
	uint32_t live = SESSION_LIVE;

	/* The control channel carries no grants, unless it is all that there is. */
	if ((!control || atomic_load_explicit(&s->channels, memory_order_relaxed) == 1) &&
	    session_enter(s)) {
		withdraw_submit(s);
		session_leave(s);
	}
	lock_acquire(&t->lock);
	if (!control) {
		atomic_fetch_sub_explicit(&s->data_channels, 1, memory_order_relaxed);
		user_uncharge(s->user, USER_CHANNELS, 1);
	}
	last = atomic_fetch_sub_explicit(&s->channels, 1, memory_order_acq_rel) == 1;
	detached = last && atomic_compare_exchange_strong_explicit(
				   &s->state, &live, SESSION_DETACHED, memory_order_seq_cst,
				   memory_order_seq_cst);
	if (detached)
		unused = !atomic_load_explicit(&s->calls, memory_order_relaxed) &&
		         !atomic_load_explicit(&s->charge, memory_order_relaxed) &&
		         !atomic_load_explicit(&s->object_bytes, memory_order_relaxed);
	/* Under the lock: without it, it may be back by now, or the id another session's. */
	if (detached && !unused)
		session_away(s);
	lock_release(&t->lock);
	if (unused)
		end_from(s, false, END_UNUSED);
	else if (last)
		session_release(s);
}

/* ---- the end ---- */

const struct session_totals *session_table_totals(const struct session_table *t)
{
	return &t->totals;
}

static void count_end(struct session_table *t, enum end_why why)
{
	_Atomic uint64_t *n = why == END_CLOSED ? &t->totals.closed :
	                      why == END_DIED   ? &t->totals.died :
	                      why == END_UNUSED ? &t->totals.unused :
	                                          &t->totals.ended;

	atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

static void count_sweep(struct session_table *t, const struct sweep_count *n, uint64_t ns)
{
	atomic_fetch_add_explicit(&t->totals.sweeps, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->totals.swept_pages, n->pages, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->totals.swept_objects, n->objects, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->totals.sweep_ns, ns, memory_order_relaxed);
}

static void say_end(const struct session *s, enum end_why why)
{
	struct log_about about = log_about_session(LOG_DEATH, s);

	count_end(s->table, why);
	probe_session_close(s->id, s->uid, s->pid, why == END_DIED);
	/* relaxed: for the line; what others adopt meanwhile is off by itself */
	if (why == END_DIED)
		log_event(LOG_LEVEL_INFO, &about,
		          "its process ended, with %" PRId64 " pages and about %" PRId64
		          " objects that it had not given back",
		          atomic_load_explicit(&s->charge, memory_order_relaxed),
		          atomic_load_explicit(&s->objects, memory_order_relaxed));
}

/* Whether it was this call that ended it. Counted in, so that nobody sweeps before the record says
 * so; whoever leaves last starts the sweep. */
static bool end_from(struct session *s, bool live_too, enum end_why why)
{
	uint32_t state;

	/* seq_cst: see session.c */
	atomic_fetch_add_explicit(&s->inside, 1, memory_order_seq_cst);
	state = atomic_load_explicit(&s->state, memory_order_seq_cst);
	do {
		if (state != SESSION_DETACHED && !(live_too && state == SESSION_LIVE)) {
			session_leave(s);
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&s->state, &state, SESSION_SWEEPING, memory_order_seq_cst, memory_order_seq_cst));
	/* release: for the next daemon, should this one die before the sweep ends */
	atomic_store_explicit(&s->record->word,
	                      SESSION_RECORD_SWEEPING | (uint64_t)s->kmmd->domain->id
	                                                        << SESSION_RECORD_DOMAIN_SHIFT,
	                      memory_order_release);
	wait_queue_cancel(s->kmmd->domain->waiters, s, -ECANCELED);
	s->end_why = why;
	say_end(s, why);
	session_leave(s);
	return true;
}

bool session_end_detached(struct session *s)
{
	return end_from(s, false, END_KILLED);
}

void session_end(struct session *s)
{
	end_from(s, true, END_CLOSED);
}

void session_end_dead(struct session *s)
{
	end_from(s, true, END_DIED);
}

void session_sweep_try(struct session *s)
{
	/* seq_cst: see session.c */
	if (atomic_load_explicit(&s->state, memory_order_seq_cst) != SESSION_SWEEPING ||
	    atomic_load_explicit(&s->inside, memory_order_seq_cst) ||
	    atomic_exchange_explicit(&s->sweep_started, 1, memory_order_seq_cst))
		return;
	if (s->kmmd->worker)
		worker_submit(s->kmmd->worker, &s->sweep);
	else
		session_sweep_run(&s->sweep);
}

static void tell_waits(struct session *s)
{
	struct session_end_wait *w, *next;

	lock_acquire(&s->table->lock);
	w = s->waits;
	s->waits = NULL;
	s->swept = true;
	lock_release(&s->table->lock);
	for (; w; w = next) {
		next = w->next;
		w->done(w);
	}
}

static void say_swept(const struct session *s, const struct sweep_count *n, uint64_t ns)
{
	static const char *const why[] = { [END_BEFORE] = "had ended before the restart",
		                           [END_CLOSED] = "was closed",
		                           [END_DIED] = "died",
		                           [END_KILLED] = "was ended by an admin",
		                           [END_UNUSED] = "was never used" };
	struct log_about about = log_about_session(LOG_SWEEP, s);

	log_event(s->end_why == END_UNUSED ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, &about,
	          "%s; %" PRIu64 " blocks of %" PRIu64 " pages and %" PRIu64
	          " objects came back, %u holds and %u magazines, in %.3f ms",
	          why[s->end_why], n->blocks, n->pages, n->objects, n->holds, n->magazines,
	          (double)ns / 1e6);
}

void session_sweep_run(struct worker_job *job)
{
	struct session *s = (struct session *)((char *)job - offsetof(struct session, sweep));
	struct domain *d = s->kmmd->domain;
	uint64_t began = uv_hrtime(), ns;
	struct sweep_count n;

	/* relaxed: for a tracer */
	probe_sweep_begin(s->id, atomic_load_explicit(&s->charge, memory_order_relaxed));
	/* Those who were inside when it ended may have parked. */
	wait_queue_cancel(d->waiters, s, -ECANCELED);
	grant_sweep(d, s, &n);
	cache_forget_session(d, s);
	name_forget_session(d->names, s->id);
	memset(s->record->token, 0, sizeof(s->record->token));
	/* release: the commit of the sweep; all that it freed is before it */
	atomic_store_explicit(&s->record->word, 0, memory_order_release);
	/* before those who wait are told: they may open another one */
	user_uncharge(s->user, USER_SESSIONS, 1);
	ns = uv_hrtime() - began;
	probe_sweep_end(s->id, n.pages, n.objects, ns);
	count_sweep(s->table, &n, ns);
	say_swept(s, &n, ns);
	tell_waits(s);
	session_unwatch(s);
}

bool session_end_wait(struct session *s, struct session_end_wait *w)
{
	LOCK_SCOPED(&s->table->lock);

	if (s->swept)
		return false;
	w->next = s->waits;
	s->waits = w;
	return true;
}

bool session_end_unwait(struct session *s, struct session_end_wait *w)
{
	struct session_end_wait **link;
	bool found;

	lock_acquire(&s->table->lock);
	for (link = &s->waits; *link && *link != w; link = &(*link)->next)
		;
	found = *link;
	if (found)
		*link = w->next;
	lock_release(&s->table->lock);
	return found;
}
