/* SPDX-License-Identifier: MIT */
/*
 * Asking the sessions to give back what their idle threads cache. See flush.c. Thread-safe.
 */
#ifndef DAEMON_FLUSH_H
#define DAEMON_FLUSH_H

#include "daemon/session.h"

#define FLUSH_WAIT_MS 1000u /* an answer is waited for so long */

/* Who waits for the answers to one FLUSH; embedded in its object. */
struct flush_wait {
	struct flush_wait *next, **prev;
	/* set before flush_begin() */
	uint32_t cache;            /* objects of it; 0: of all */
	const struct session *but; /* is not asked; NULL: all are */
	/* All have answered, or the time is up. Under the table's lock: posts, no more. */
	void (*done)(struct flush_wait *w);
	/* from flush_begin() on */
	uint64_t serial; /* of the FLUSH */
	uint64_t until;  /* uv_hrtime() */
	uint32_t asked;  /* sessions */
	uint32_t left;   /* that are waited for */
};

/* Asks every session that listens for events. False: there is nobody to wait for, done() does not
 * run. */
bool flush_begin(struct session_table *t, struct flush_wait *w);
/* False: done() runs or has run. */
bool flush_unwait(struct session_table *t, struct flush_wait *w);
/* Sessions that were asked and have not answered yet. */
uint32_t flush_silent(struct session_table *t, const struct flush_wait *w);
/* Whether that one has answered. */
bool flush_answered(struct session *s, uint64_t serial);
/* The session says that it has done all up to `serial`: 0; -EINVAL: none has that number yet. */
int flush_answer(struct session *s, uint64_t serial);
/* Ends the waits whose time is up at `now`; when the next one's is, 0: there is none. */
uint64_t flush_expire(struct session_table *t, uint64_t now);

/* ---- for service_events.c, under the table's lock ---- */

/* The session's first stream of events began, its last one ended. */
void flush_stream_begun(struct session *s);
void flush_stream_ended(struct session *s);
/* Notes a FLUSH in the session's streams. */
void event_note_flush(struct session *s, uint64_t serial, uint32_t cache);

#endif
