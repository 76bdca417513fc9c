/* SPDX-License-Identifier: MIT */
/*
 * One call, from the arguments to the answer, whatever happens to the daemon meanwhile.
 *
 * The request is encoded once, on the stack. It goes to the reactor of the CPU that the thread runs
 * on, over a connection that is opened when first needed. A connection that breaks costs the call
 * nothing but time: every call may be asked again, so it is, as soon as the session is up again.
 *
 * Only the deadline, kmm_cancel, a close and the loss of the pool end a call that finds no daemon:
 *   EAGAIN       it was never sent, or what it may have been granted is withdrawn with its
 *                connection
 *   EINPROGRESS  it was sent, was not answered, and cannot be withdrawn (CALL_ONCE)
 */
#include "client/internal.h"
#include "client/probes.h"

#include <pb_decode.h>
#include <pb_encode.h>
#include <sched.h>
#include <string.h>

#define NAP_MIN_NS 1000000u
#define NAP_MAX_NS 100000000u
#define CONNECT_NS 5000000000u
#define PEEK_NS 10000000u

__thread struct call_ticket *call_ticket_next;

static uint64_t deadline_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

struct call_how call_begin(struct kmm *k, unsigned int flags)
{
	struct thread_cache *tc = thread_cache_find(k);
	uint32_t ms = tc && tc->timeout_ms ? tc->timeout_ms : k->timeout_ms;
	struct call_how how = {
		.flags = flags,
		.deadline = deadline_in_ms(ms),
		.cancels = atomic_load_explicit(&k->cancels, memory_order_acquire),
	};

	if (keeper_is_self(k) && k->keeper_until)
		how.deadline = deadline_min(how.deadline, k->keeper_until);
	if (unlikely(call_ticket_next)) {
		how.ticket = call_ticket_next;
		call_ticket_next = NULL;
		how.deadline = deadline_min(how.deadline, how.ticket->deadline);
	}
	return how;
}

#define GFP_UNFAILING (KMM_GFP_NOFAIL | KMM_GFP_DIRECT_RECLAIM)

struct call_how call_begin_gfp(struct kmm *k, kmm_gfp_t gfp)
{
	struct call_how how = call_begin(k, 0);

	/* in a callback somebody else waits for the thread */
	if ((gfp & GFP_UNFAILING) == GFP_UNFAILING && !keeper_is_self(k))
		how.deadline = how.ticket ? how.ticket->deadline : DEADLINE_NONE;
	return how;
}

bool call_again(struct kmm *k, const struct call_how *how, kmm_gfp_t gfp, int *r)
{
	int over;

	if (*r != -EDQUOT || (gfp & GFP_UNFAILING) != GFP_UNFAILING || keeper_is_self(k))
		return false;
	/* what another thread gives back is told by nobody: look again after a moment */
	over = call_wait_thread(k, how);
	if (over < 0)
		*r = over;
	return over == 0;
}

static bool cancelled(struct kmm *k, const struct call_how *how)
{
	/* acquire, both: pairs with kmm_cancel, with call_ticket_end */
	return atomic_load_explicit(&k->cancels, memory_order_acquire) != how->cancels ||
	       (how->ticket && atomic_load_explicit(&how->ticket->ended, memory_order_acquire));
}

/* Where the call waits from now on; NULL: nowhere. */
static void ticket_note(struct call_ticket *t, struct channel *c, struct call *call)
{
	if (likely(!t))
		return;
	pthread_mutex_lock(&t->lock);
	t->channel = c;
	t->call = call;
	pthread_mutex_unlock(&t->lock);
}

void call_ticket_end(struct kmm *k, struct call_ticket *t)
{
	/* release: pairs with the acquire in cancelled(); it is noted in the ticket before it looks */
	atomic_store_explicit(&t->ended, 1, memory_order_release);
	pthread_mutex_lock(&t->lock);
	if (t->channel)
		channel_cancel(t->channel, t->call);
	pthread_mutex_unlock(&t->lock);
	/* acq_rel: as session_wake; for calls that wait for the daemon to come back */
	atomic_fetch_add_explicit(&k->changes, 1, memory_order_acq_rel);
	futex_wake_all(&k->changes);
}

static int call_away(const struct call_how *how, bool sent)
{
	if (sent && (how->flags & CALL_ONCE))
		return error_set(EINPROGRESS, "the daemon went away before it answered; whether "
		                              "the call was done shows when it is back");
	return error_set(EAGAIN, how->flags & CALL_NOWAIT
	                                 ? "the daemon is away, and the request may not wait for it"
	                                 : "the daemon is away and did not come back in time; the "
	                                   "call may be repeated");
}

/* Why the call cannot go on at the moment: 0 when it can. */
static int call_state(struct kmm *k, const struct call_how *how)
{
	switch (session_state(k)) {
	case SESSION_LOST:
		return session_is_lost(k);
	case SESSION_CLOSING:
		return error_set(ECANCELED, "the session is being closed");
	default:
		return cancelled(k, how) ? error_set(ECANCELED, "the call was cancelled") : 0;
	}
}

/* Until the session is up. */
static int call_wait_up(struct kmm *k, struct call_how *how, bool sent)
{
	for (;;) {
		/* acquire: read before the state, so that no later change is slept over */
		uint32_t seen = atomic_load_explicit(&k->changes, memory_order_acquire);
		int r;

		if (likely(session_state(k) == SESSION_UP))
			return 0;
		r = call_state(k, how);
		if (r < 0)
			return r;
		if ((how->flags & CALL_NOWAIT) || process_now() >= how->deadline)
			return call_away(how, sent);
		if (keeper_is_self(k)) /* in a callback: nobody else will reconnect */
			keeper_resume(k, how->deadline);
		else
			futex_wait(&k->changes, seen, how->deadline);
	}
}

int call_wait_thread(struct kmm *k, const struct call_how *how)
{
	/* acquire: as in call_wait_up */
	uint32_t seen = atomic_load_explicit(&k->changes, memory_order_acquire);
	uint64_t now = process_now();
	int r = call_state(k, how);

	if (r < 0)
		return r;
	if (now >= how->deadline || ((how->flags & CALL_NOWAIT) && session_state(k) != SESSION_UP))
		return call_away(how, false);
	if (keeper_is_self(k)) {
		keeper_look(k);
		if (session_state(k) == SESSION_DOWN) {
			keeper_resume(k, how->deadline);
			return 0;
		}
	}
	futex_wait(&k->changes, seen, deadline_min(how->deadline, now + PEEK_NS));
	return 0;
}

/* No connection though the session is up: the keeper has not seen it yet, or the daemon is busy. */
static int call_nap(struct kmm *k, struct call_how *how, uint64_t *nap, bool sent)
{
	uint64_t now = process_now();
	int r = call_state(k, how);

	if (r < 0)
		return r;
	if (now >= how->deadline)
		return call_away(how, sent);
	if (keeper_is_self(k))
		keeper_look(k);
	futex_wait(&k->changes, atomic_load_explicit(&k->changes, memory_order_acquire),
	           deadline_min(how->deadline, now + *nap));
	*nap = *nap * 2 < NAP_MAX_NS ? *nap * 2 : NAP_MAX_NS;
	return 0;
}

static bool is_away(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED || r == -ETIMEDOUT || r == -EACCES ||
	       r == -ECONNRESET || r == -EAGAIN || r == -ECANCELED;
}

/* The connection to the reactor of this CPU; a reference for the caller. */
static int slot_channel(struct kmm *k, const struct call_how *how, struct channel **ret)
{
	int cpu = sched_getcpu();
	uint32_t i = (cpu < 0 ? 0 : (uint32_t)cpu) % k->reactors % k->nr_slots;
	struct slot *s = &k->slot[i];
	struct channel *c;
	int r;

	pthread_mutex_lock(&s->lock);
	while (s->opening) {
		uint32_t seen = atomic_load_explicit(&k->changes, memory_order_acquire);
		uint64_t now = process_now();

		pthread_mutex_unlock(&s->lock);
		if (now >= how->deadline || session_state(k) != SESSION_UP || cancelled(k, how))
			return -ETIMEDOUT; /* the caller sees which */
		futex_wait(&k->changes, seen, deadline_min(how->deadline, now + NAP_MAX_NS));
		pthread_mutex_lock(&s->lock);
	}
	if (likely(s->channel && !channel_broken(s->channel))) {
		*ret = channel_get(s->channel);
		pthread_mutex_unlock(&s->lock);
		return 0;
	}
	channel_put(s->channel);
	s->channel = NULL;
	if (cancelled(k, how)) {
		pthread_mutex_unlock(&s->lock);
		return -ECANCELED;
	}
	s->opening = true;
	pthread_mutex_unlock(&s->lock);

	r = channel_open(&c, k, i, deadline_min(how->deadline, process_now() + CONNECT_NS));

	pthread_mutex_lock(&s->lock);
	s->opening = false;
	if (r == 0) {
		s->channel = c;
		*ret = channel_get(c);
	}
	pthread_mutex_unlock(&s->lock);
	atomic_fetch_add_explicit(&k->changes, 1, memory_order_acq_rel);
	futex_wake_all(&k->changes);
	/* A close or a loss that looked at the slot before the connection was in it. */
	if (r == 0 && session_state(k) != SESSION_UP)
		channel_break(c, -ECONNRESET);
	return r;
}

int call_notify(struct kmm *k, const struct call_how *how, uint16_t method,
                const pb_msgdesc_t *type, const void *request)
{
	uint8_t frame[FRAME_HEADER_SIZE + CALL_REQUEST_MAX];
	pb_ostream_t out = pb_ostream_from_buffer(frame + FRAME_HEADER_SIZE, CALL_REQUEST_MAX);
	struct channel *c;
	int r;

	if (session_state(k) != SESSION_UP || !pb_encode(&out, type, request))
		return -EAGAIN;
	r = slot_channel(k, how, &c);
	if (r < 0)
		return -EAGAIN;
	r = channel_notify(c, frame, out.bytes_written, method);
	channel_put(c);
	return r < 0 && r != -ENOBUFS ? -EAGAIN : r;
}

/* Sends it once and waits: 0 with an answer in `call`, or the loss of the connection. */
static int call_once(struct kmm *k, struct call_how *how, struct channel *c, struct call *call,
                     uint8_t *frame, size_t size, uint16_t method, bool *sent)
{
	uint64_t timeout_us = 0, now;
	int r;

	if (how->deadline != DEADLINE_NONE) {
		now = process_now();
		timeout_us = now < how->deadline ? (how->deadline - now) / 1000 + 1 : 1;
	}
	call->cancellable = how->flags & CALL_CANCELLABLE;
	call->deadline = how->deadline;
	probe_call_begin(k->id, method);
	r = channel_submit(c, call, frame, size, method, timeout_us);
	if (r < 0) {
		probe_call_end(k->id, method, r);
		return r;
	}
	how->repeated = *sent;
	*sent = true;
	ticket_note(how->ticket, c, call);
	if (unlikely(cancelled(k, how))) /* kmm_cancel came before the call was queued */
		channel_cancel(c, call);
	r = channel_wait(c, call);
	probe_call_end(k->id, method, r < 0 ? r : (int)call->status);
	ticket_note(how->ticket, NULL, NULL);
	return r;
}

static int call_answer(struct kmm *k, struct call *call, const pb_msgdesc_t *type, void *reply,
                       int fds[], size_t *nfds)
{
	pb_istream_t in = pb_istream_from_buffer(call->reply, call->reply_size);
	int r;

	if (call->status != STATUS_OK) {
		call_close_fds(call);
		r = call_refused(call->status, call->reply, call->reply_size);
		if (r == -ENOTRECOVERABLE)
			session_lost(k, kmm_error_text());
		return r;
	}
	if (type && !pb_decode(&in, type, reply)) {
		call_close_fds(call);
		return error_set(EPROTO, "the daemon's answer makes no sense");
	}
	if (!fds) {
		call_close_fds(call);
		return 0;
	}
	memcpy(fds, call->fd, call->nfds * sizeof(fds[0]));
	*nfds = call->nfds;
	return 0;
}

int call_unary(struct kmm *k, struct call_how *how, uint16_t method,
               const pb_msgdesc_t *request_type, const void *request,
               const pb_msgdesc_t *reply_type, void *reply, int fds[], size_t *nfds)
{
	uint8_t frame[FRAME_HEADER_SIZE + CALL_REQUEST_MAX];
	pb_ostream_t out = pb_ostream_from_buffer(frame + FRAME_HEADER_SIZE, CALL_REQUEST_MAX);
	uint64_t nap = NAP_MIN_NS;
	char text[ERROR_TEXT_MAX];
	struct call call;
	bool sent = false;
	int r, failed = 0;

	if (request && !pb_encode(&out, request_type, request))
		return error_set(EPROTO, "the request does not fit its frame");
	how->repeated = false;
	error_text_copy(text);
	for (;;) {
		struct channel *c;

		r = call_wait_up(k, how, sent);
		if (r < 0)
			return r;
		r = slot_channel(k, how, &c);
		if (likely(r == 0)) {
			r = call_once(k, how, c, &call, frame, out.bytes_written, method, &sent);
			channel_put(c);
			if (likely(r == 0 && (call.status != STATUS_UNAVAILABLE ||
			                      (how->flags & CALL_REFUSABLE)))) {
				if (failed)
					error_text_put(text); /* it was got over */
				return call_answer(k, &call, reply_type, reply, fds, nfds);
			}
			if (r == 0)
				call_close_fds(&call);
			else if (failed++ == 0 && r != -ETIMEDOUT)
				continue; /* it was idle and had died: a fresh one may do */
		} else if (r == -ENOTRECOVERABLE) {
			session_lost(k, kmm_error_text());
			continue;
		} else if (!is_away(r)) {
			return r;
		}
		failed++;
		if (how->flags & CALL_NOWAIT)
			return call_away(how, sent);
		r = call_nap(k, how, &nap, sent);
		if (r < 0)
			return r;
	}
}
