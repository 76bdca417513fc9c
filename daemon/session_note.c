/* SPDX-License-Identifier: MIT */
/*
 * What a session's record remembers for reports: its counters, how many restarts it has come through,
 * and since when it has no connection.
 *
 * Nobody decides by these; they are there so that a restart, or an upgrade, does not begin the history
 * of its clients anew: kmmctl shows what a session did since it was opened, not since the daemon was
 * started, and for how long the process of one in quarantine has not been heard of.
 *
 *   counters   noted once a second by the worker, and at the daemon's end: a daemon that is killed
 *              forgets a second of them. Each is a word of its own; they mean something together as
 *              far as they do in the session itself
 *   away       noted when the last connection goes and when one comes back. Who had one when the
 *              daemon ended is away since then
 *   restarts   counted at the start
 *
 * With the counters goes the superblock's note that the pool is served.
 *
 * The record's word commits the session; notes are written after it as well, into the record of a
 * session that is entered, so that they never get into that of the next one with the same id.
 */
#include <time.h>

#include "daemon/pool.h"
#include "daemon/session_private.h"

/* All here relaxed: for reports; the commit of the record orders what begins it. */

#define LOAD(FIELD) atomic_load_explicit(&(FIELD), memory_order_relaxed)
#define STORE(FIELD, VALUE) atomic_store_explicit(&(FIELD), VALUE, memory_order_relaxed)

static void note(struct session *s)
{
	struct session_record *r = s->record;

	STORE(r->calls, LOAD(s->calls));
	STORE(r->refused, LOAD(s->refused));
	STORE(r->frames_had, LOAD(s->frames_had));
	STORE(r->objects_had, LOAD(s->objects_had));
	STORE(r->objects_back, LOAD(s->objects_back));
}

void session_note_begin(struct session *s)
{
	s->record->restarts = 0;
	STORE(s->record->away, 0);
	note(s);
}

void session_note_away(struct session *s, bool away)
{
	STORE(s->record->away, away ? (uint64_t)time(NULL) : 0);
}

void session_note_table(struct session_table *t)
{
	struct superblock *sb = t->kmmd->pool->superblock;

	if (sb)
		STORE(sb->served, (uint64_t)time(NULL));
	for (uint32_t id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];

		if (LOAD(s->state) == SESSION_FREE || !session_enter(s))
			continue;
		note(s);
		session_leave(s);
	}
}

void session_note_restore(struct session *s)
{
	const struct superblock *sb = s->kmmd->pool->superblock;
	uint64_t served = sb ? LOAD(sb->served) : 0;
	struct session_record *r = s->record;
	uint64_t had = LOAD(r->frames_had);

	r->restarts++;
	if (!LOAD(r->away))
		STORE(r->away, served ? served : (uint64_t)time(NULL));
	STORE(s->calls, LOAD(r->calls));
	STORE(s->refused, LOAD(r->refused));
	STORE(s->objects_had, LOAD(r->objects_had));
	STORE(s->objects_back, LOAD(r->objects_back));
	/* What it has was counted just now; what was never noted was had all the same. */
	if (had > LOAD(s->frames_had))
		STORE(s->frames_had, had);
}
