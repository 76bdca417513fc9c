/* SPDX-License-Identifier: MIT */
/*
 * Sessions in quarantine, in the log.
 *
 * A session whose last connection is gone while its process lives keeps its memory until it comes back
 * or the process ends: an operator wants to know. But a process that ends closes its sockets first, and
 * one that meets a restart is back at once: neither is worth a line. So the time is noted, and reactor 0
 * looks once a second who has been away for a second by then. A session that was said to be away is also
 * said to be back.
 *
 * Threads: session_away() and session_back() under the table's lock or where the state was changed;
 * the tick enters the session. No line for one that ends meanwhile: its sweep has one.
 */
#include <inttypes.h>

#include "daemon/log_about.h"
#include "daemon/session_private.h"

#define AWAY_NS UINT64_C(1000000000)

/* All here relaxed: for a line of the log, nothing else follows from it. */

void session_away(struct session *s)
{
	session_note_away(s, true);
	atomic_store_explicit(&s->away_ns, uv_hrtime(), memory_order_relaxed);
	atomic_store_explicit(&s->table->away, true, memory_order_relaxed);
}

void session_back(struct session *s)
{
	struct log_about about = log_about_session(LOG_RETURN, s);

	session_note_away(s, false);
	atomic_store_explicit(&s->away_ns, 0, memory_order_relaxed);
	if (atomic_exchange_explicit(&s->away_said, false, memory_order_relaxed))
		log_event(LOG_LEVEL_INFO, &about, "came back from quarantine");
}

void session_away_say(struct session *s)
{
	struct log_about about = log_about_session(LOG_QUARANTINE, s);

	atomic_store_explicit(&s->away_ns, 0, memory_order_relaxed);
	atomic_store_explicit(&s->away_said, true, memory_order_relaxed);
	log_event(LOG_LEVEL_INFO, &about,
	          "has no connection; its %" PRId64 " pages and about %" PRId64
	          " objects stay its own until it comes back or its process ends",
	          atomic_load_explicit(&s->charge, memory_order_relaxed),
	          atomic_load_explicit(&s->objects, memory_order_relaxed));
}

/* Whether it is to be looked at again. */
static bool look(struct session *s, uint64_t now)
{
	uint64_t since = atomic_load_explicit(&s->away_ns, memory_order_relaxed);
	bool again = false;

	if (!since || !session_enter(s))
		return false;
	if (atomic_load_explicit(&s->state, memory_order_relaxed) != SESSION_DETACHED)
		atomic_store_explicit(&s->away_ns, 0, memory_order_relaxed);
	else if (now - since >= AWAY_NS)
		session_away_say(s);
	else
		again = true;
	session_leave(s);
	return again;
}

void session_away_tick(struct session_table *t)
{
	uint64_t now = uv_hrtime();
	bool again = false;

	if (!t || !atomic_exchange_explicit(&t->away, false, memory_order_relaxed))
		return;
	for (uint32_t id = 1; id < t->size; id++)
		again |= look(&t->session[id], now);
	if (again)
		atomic_store_explicit(&t->away, true, memory_order_relaxed);
}
