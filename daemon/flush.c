/* SPDX-License-Identifier: MIT */
/*
 * What idle threads cache of objects says HELD, and lies in memory that only their process can
 * see: the daemon cannot take it, so it asks. A FLUSH is an event with a number; the library's own
 * thread empties the magazines of the process's threads, gives the objects back, and answers with
 * the number (Flushed). Numbers grow, and an answer is one for all before it, so that a stream in
 * which an event is not sent yet needs place for one alone.
 *
 *     asker                   daemon                        each session
 *     -----                   ------                        ------------
 *     flush_begin() ------->  serial++, FLUSH(serial) --->  threads' magazines -> Exchange, ...
 *       waits                                         <---  Flushed(serial)
 *     done() <--------------  the last one, or a second
 *
 * Who does not answer holds nobody up for longer than FLUSH_WAIT_MS, and that once: a session that
 * let the time pass is `mute`. It is asked the next time, too, but not waited for, until it has
 * answered something. Sessions without a stream of events (in quarantine, or about to connect) are
 * not asked.
 *
 * Counting. A wait counts the sessions that it waits for (`left`); a session is counted by the
 * waits with a number above its `flush_settled`, which moves up when it answers, when its last
 * stream ends, and, as long as it is mute, with each new wait. So each is counted down once. An
 * answer costs O(waits), of which each session has no more than service.c lets it have.
 *
 * The timer is the main loop's: the first wait posts `arm`, and it runs while there are waits.
 *
 * Locking: all is guarded by the session table's lock.
 */
#include "daemon/flush.h"

#include <errno.h>
#include <uv.h>

#include "daemon/session_private.h"

#define MS UINT64_C(1000000)

/* ---- the list; under the lock ---- */

static void wait_link(struct session_table *t, struct flush_wait *w)
{
	*t->flush_last = w;
	w->prev = t->flush_last;
	w->next = NULL;
	t->flush_last = &w->next;
}

static void wait_unlink(struct session_table *t, struct flush_wait *w)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		t->flush_last = w->prev;
	w->prev = NULL;
}

static void wait_done(struct session_table *t, struct flush_wait *w)
{
	wait_unlink(t, w);
	w->done(w);
}

/* No wait up to `serial` counts the session any more. */
static void settle(struct session *s, uint64_t serial)
{
	struct session_table *t = s->table;
	struct flush_wait *w, *next;

	for (w = t->flush_first; w; w = next) {
		next = w->next;
		if (w->serial > s->flush_settled && w->serial <= serial && w->but != s &&
		    --w->left == 0)
			wait_done(t, w);
	}
	if (serial > s->flush_settled)
		s->flush_settled = serial;
}

void flush_stream_begun(struct session *s)
{
	s->flush_since = s->flush_settled = s->table->flush_serial;
	s->flush_answered = 0;
	s->flush_mute = false;
}

void flush_stream_ended(struct session *s)
{
	settle(s, s->table->flush_serial);
}

/* ---- the timer, on the main loop ---- */

static void timer_run(uv_timer_t *timer);

static void timer_next(struct session_table *t)
{
	uint64_t now = uv_hrtime(), next = flush_expire(t, now);

	if (!next)
		return;
	uv_update_time(t->flush_timer.loop);
	uv_timer_start(&t->flush_timer, timer_run, (next - now) / MS + 1, 0);
}

static void timer_run(uv_timer_t *timer)
{
	timer_next(timer->data);
}

void session_flush_arm_run(struct reactor *r, struct reactor_work *work)
{
	struct session_table *t = (struct session_table *)((char *)work -
	                                                   offsetof(struct session_table, flush_arm));

	if (t->flush_stopped)
		return;
	if (!t->flush_timer_ready) {
		uv_timer_init(&r->loop, &t->flush_timer);
		t->flush_timer.data = t;
		t->flush_timer_ready = true;
	}
	timer_next(t);
}

void session_flush_stop(struct session_table *t)
{
	if (t->flush_timer_ready)
		uv_close((uv_handle_t *)&t->flush_timer, NULL);
	t->flush_timer_ready = false;
	t->flush_stopped = true;
}

/* ---- asking ---- */

bool flush_begin(struct session_table *t, struct flush_wait *w)
{
	LOCK_SCOPED(&t->lock);
	uint32_t id;

	w->serial = ++t->flush_serial;
	w->until = uv_hrtime() + FLUSH_WAIT_MS * MS;
	w->asked = w->left = 0;
	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];

		if (!s->events || s == w->but)
			continue;
		event_note_flush(s, w->serial, w->cache);
		w->asked++;
		if (s->flush_mute)
			settle(s, w->serial);
		else
			w->left++;
	}
	if (!w->left)
		return false;
	wait_link(t, w);
	if (!t->flush_armed && t->kmmd->main) {
		t->flush_armed = true;
		reactor_post(t->kmmd->main, &t->flush_arm);
	}
	return true;
}

bool flush_unwait(struct session_table *t, struct flush_wait *w)
{
	LOCK_SCOPED(&t->lock);

	if (!w->prev)
		return false;
	wait_unlink(t, w);
	return true;
}

/* ---- answers ---- */

int flush_answer(struct session *s, uint64_t serial)
{
	struct session_table *t = s->table;
	LOCK_SCOPED(&t->lock);

	if (serial > t->flush_serial)
		return -EINVAL;
	if (serial > s->flush_answered)
		s->flush_answered = serial;
	s->flush_mute = false;
	settle(s, serial);
	return 0;
}

bool flush_answered(struct session *s, uint64_t serial)
{
	LOCK_SCOPED(&s->table->lock);

	return s->flush_answered >= serial;
}

uint32_t flush_silent(struct session_table *t, const struct flush_wait *w)
{
	LOCK_SCOPED(&t->lock);
	uint32_t id, n = 0;

	for (id = 1; id < t->size; id++) {
		const struct session *s = &t->session[id];

		n += s->events && s != w->but && s->flush_since < w->serial &&
		     s->flush_answered < w->serial;
	}
	return n;
}

/* The time of w is up: who kept it waiting does so no more. */
static void expire(struct session_table *t, struct flush_wait *w)
{
	uint32_t id;

	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];

		if (s->events && s != w->but && s->flush_settled < w->serial)
			s->flush_mute = true;
	}
	wait_done(t, w);
}

uint64_t flush_expire(struct session_table *t, uint64_t now)
{
	LOCK_SCOPED(&t->lock);

	/* they were linked in the order of their times */
	while (t->flush_first && t->flush_first->until <= now)
		expire(t, t->flush_first);
	t->flush_armed = t->flush_first != NULL;
	return t->flush_first ? t->flush_first->until : 0;
}
