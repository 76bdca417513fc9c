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
 *   nothing names it   FREE
 *
 * A daemon that dies in the sweep finds the record SWEEPING and sweeps again.
 */
#include <errno.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/log.h"
#include "daemon/name.h"
#include "daemon/session_private.h"
#include "daemon/wait_queue.h"

void session_release(struct session *s)
{
	struct session_table *t = s->table;

	lock_acquire(&t->lock);
	/* acquire: pairs with the releases of the last channel and the last reference */
	if (atomic_load_explicit(&s->state, memory_order_acquire) == SESSION_GONE &&
	    !atomic_load_explicit(&s->channels, memory_order_acquire) &&
	    !atomic_load_explicit(&s->refs, memory_order_acquire))
		session_push_free(t, s);
	lock_release(&t->lock);
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

static bool end_from(struct session *s, bool live_too);

void session_channel_closed(struct session *s, bool control)
{
	struct session_table *t = s->table;
	bool last, unused = false;
	uint32_t live = SESSION_LIVE;

	/* The control channel carries no grants, unless it is all that there is. */
	if ((!control || atomic_load_explicit(&s->channels, memory_order_relaxed) == 1) &&
	    session_enter(s)) {
		withdraw_submit(s);
		session_leave(s);
	}
	lock_acquire(&t->lock);
	if (!control)
		atomic_fetch_sub_explicit(&s->data_channels, 1, memory_order_relaxed);
	last = atomic_fetch_sub_explicit(&s->channels, 1, memory_order_acq_rel) == 1;
	if (last &&
	    atomic_compare_exchange_strong_explicit(&s->state, &live, SESSION_DETACHED,
	                                            memory_order_seq_cst, memory_order_seq_cst))
		unused = !atomic_load_explicit(&s->calls, memory_order_relaxed) &&
		         !atomic_load_explicit(&s->charge, memory_order_relaxed) &&
		         !atomic_load_explicit(&s->object_bytes, memory_order_relaxed);
	lock_release(&t->lock);
	if (unused)
		end_from(s, false);
	else if (last)
		session_release(s);
}

/* ---- the end ---- */

/* Whether it was this call that ended it. Counted in, so that nobody sweeps before the record says
 * so; whoever leaves last starts the sweep. */
static bool end_from(struct session *s, bool live_too)
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
	session_leave(s);
	return true;
}

bool session_end_detached(struct session *s)
{
	return end_from(s, false);
}

void session_end(struct session *s)
{
	end_from(s, true);
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

void session_sweep_run(struct worker_job *job)
{
	struct session *s = (struct session *)((char *)job - offsetof(struct session, sweep));
	struct domain *d = s->kmmd->domain;
	uint64_t frames;

	/* Those who were inside when it ended may have parked. */
	wait_queue_cancel(d->waiters, s, -ECANCELED);
	frames = grant_sweep(d, s);
	cache_forget_session(d, s);
	name_forget_session(d->names, s->id);
	memset(s->record->token, 0, sizeof(s->record->token));
	/* release: the commit of the sweep; all that it freed is before it */
	atomic_store_explicit(&s->record->word, 0, memory_order_release);
	log_info("session %u (%s, process %d) ended: %llu pages freed", s->id, s->name, (int)s->pid,
	         (unsigned long long)frames);
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
