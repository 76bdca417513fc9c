/* SPDX-License-Identifier: MIT */
/*
 * Metrics of sessions, users, and requests that wait.
 *
 * Of users those USERS_MAX with most pages; there are no metrics by session, whose number has no such
 * bound in time: kmmctl sessions and kmmctl top have them.
 */
#include <stdlib.h>

#include "daemon/domain.h"
#include "daemon/kmmd.h"
#include "daemon/metrics_writer.h"
#include "daemon/session.h"
#include "daemon/user.h"
#include "daemon/wait_queue.h"

#define USERS_MAX 100u

/* What the sessions of a state have. */
struct state_sum {
	uint64_t sessions, frames, object_bytes;
};

static uint64_t positive(int64_t n)
{
	return n > 0 ? (uint64_t)n : 0;
}

static uint64_t cached_frames(const struct session *s, uint64_t most)
{
	/* relaxed: a hint, which the client writes */
	uint64_t n = atomic_load_explicit(&s->shared->cached_pages, memory_order_relaxed);

	return n < most ? n : most;
}

static void sum_sessions(const struct kmmd *k, struct state_sum sum[SESSION_GONE + 1],
                         uint64_t *cached)
{
	uint64_t most = k->domain->control.geometry.frames;
	uint32_t id;

	for (id = 1; id < session_table_size(k->sessions); id++) {
		const struct session *s = session_by_id(k->sessions, id);
		/* relaxed, all: counted for a report */
		uint32_t state = atomic_load_explicit(&s->state, memory_order_relaxed);
		struct state_sum *to = &sum[state <= SESSION_GONE ? state : SESSION_FREE];

		to->sessions++;
		if (state != SESSION_LIVE && state != SESSION_DETACHED)
			continue;
		to->frames += positive(atomic_load_explicit(&s->charge, memory_order_relaxed));
		to->object_bytes +=
			positive(atomic_load_explicit(&s->object_bytes, memory_order_relaxed));
		*cached += cached_frames(s, most);
	}
	if (*cached > most)
		*cached = most;
}

static void write_sessions(struct metrics_writer *w, const struct kmmd *k)
{
	static const enum session_state shown[] = { SESSION_LIVE, SESSION_DETACHED,
		                                    SESSION_SWEEPING };
	struct state_sum sum[SESSION_GONE + 1] = { { 0 } };
	uint64_t cached = 0;
	uint32_t i;

	sum_sessions(k, sum, &cached);
	metrics_family(w, METRICS_GAUGE, "kmmd_sessions", "",
	               "Sessions by state. Detached ones are in quarantine: they have no connection, "
	               "but their processes live.");
	for (i = 0; i < 3; i++)
		metrics_u64(w, sum[shown[i]].sessions, "state=\"%s\"",
		            session_state_name(shown[i]));
	metrics_family(w, METRICS_GAUGE, "kmmd_sessions_max", "",
	               "Sessions that there can be ([limits] sessions).");
	metrics_u64(w, session_table_size(k->sessions) - 1, METRICS_NO_LABELS);
	metrics_family(w, METRICS_GAUGE, "kmmd_granted_bytes", "bytes",
	               "Memory that is charged to sessions, what their threads cache included; "
	               "objects are an estimate.");
	for (i = 0; i < 2; i++) {
		metrics_u64(w, sum[shown[i]].frames << PAGE_SHIFT, "state=\"%s\",kind=\"pages\"",
		            session_state_name(shown[i]));
		metrics_u64(w, sum[shown[i]].object_bytes, "state=\"%s\",kind=\"objects\"",
		            session_state_name(shown[i]));
	}
	metrics_family(w, METRICS_GAUGE, "kmmd_thread_cached_bytes", "bytes",
	               "Page blocks that threads cache, as they say.");
	metrics_u64(w, cached << PAGE_SHIFT, METRICS_NO_LABELS);
}

static uint64_t total(const _Atomic uint64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed); /* for a report */
}

static void write_ends(struct metrics_writer *w, const struct kmmd *k)
{
	const struct session_totals *t = session_table_totals(k->sessions);

	metrics_family(w, METRICS_COUNTER, "kmmd_sessions_opened", "", "Sessions that were opened.");
	metrics_u64(w, total(&t->opened), METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_sessions_ended", "",
	               "Sessions that ended: closed by their processes, died with them, killed by an "
	               "admin, or never used.");
	metrics_u64(w, total(&t->closed), "reason=\"closed\"");
	metrics_u64(w, total(&t->died), "reason=\"died\"");
	metrics_u64(w, total(&t->ended), "reason=\"killed\"");
	metrics_u64(w, total(&t->unused), "reason=\"unused\"");
	metrics_family(w, METRICS_COUNTER, "kmmd_sweeps", "",
	               "Ended sessions whose memory was taken back.");
	metrics_u64(w, total(&t->sweeps), METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_sweep_seconds", "seconds", "Time that took.");
	metrics_ns(w, total(&t->sweep_ns), METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_swept_bytes", "bytes",
	               "Page blocks that came back by it.");
	metrics_u64(w, total(&t->swept_pages) << PAGE_SHIFT, METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_swept_objects", "",
	               "Objects that came back by it.");
	metrics_u64(w, total(&t->swept_objects), METRICS_NO_LABELS);
}

static void write_waiting(struct metrics_writer *w, const struct domain *d)
{
	metrics_family(w, METRICS_GAUGE, "kmmd_requests_waiting", "",
	               "Requests that wait for memory now.");
	metrics_u64(w, wait_queue_waiting(d->waiters), METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_requests_parked", "",
	               "Requests that began to wait for memory.");
	metrics_u64(w, total(&d->parked), METRICS_NO_LABELS);
	metrics_family(w, METRICS_COUNTER, "kmmd_requests_unparked", "",
	               "How their waiting ended: with memory, past the deadline, cancelled (or the "
	               "client went), or refused.");
	metrics_u64(w, total(&d->parked_served), "result=\"served\"");
	metrics_u64(w, total(&d->parked_late), "result=\"timeout\"");
	metrics_u64(w, total(&d->parked_cancelled), "result=\"cancelled\"");
	metrics_u64(w, total(&d->parked_refused), "result=\"refused\"");
}

/* ---- users ---- */

struct users {
	struct user_usage *user;
	uint32_t n, room;
	bool failed;
};

static void user_add(void *ctx, const struct user_usage *usage)
{
	struct users *l = ctx;

	if (l->n == l->room && !l->failed) {
		uint32_t room = l->room ? l->room * 2 : 64;
		struct user_usage *more = reallocarray(l->user, room, sizeof(*more));

		if (more) {
			l->user = more;
			l->room = room;
		}
		l->failed = !more;
	}
	if (!l->failed)
		l->user[l->n++] = *usage;
}

static int by_pages(const void *a, const void *b)
{
	const struct user_usage *x = a, *y = b;

	if (x->used[USER_PAGES] != y->used[USER_PAGES])
		return x->used[USER_PAGES] < y->used[USER_PAGES] ? 1 : -1;
	return (x->uid > y->uid) - (x->uid < y->uid);
}

static void write_user_counts(struct metrics_writer *w, const struct users *l,
                              enum metrics_type type, const char *name, const char *help,
                              size_t offset, bool zeroes)
{
	uint32_t i, what;

	metrics_family(w, type, name, "", help);
	for (i = 0; i < l->n && i < USERS_MAX; i++)
		for (what = 0; what < NR_USER_COUNTS; what++) {
			const uint64_t *n =
				(const uint64_t *)((const char *)&l->user[i] + offset) + what;

			if (*n || zeroes)
				metrics_u64(w, *n, "uid=\"%u\",resource=\"%s\"", l->user[i].uid,
				            user_count_name((enum user_count)what));
		}
}

static void write_users(struct metrics_writer *w, const struct kmmd *k)
{
	struct users l = { .n = 0 };

	user_each(k->users, user_add, &l);
	if (l.failed) {
		w->failed = true;
		free(l.user);
		return;
	}
	if (l.n)
		qsort(l.user, l.n, sizeof(l.user[0]), by_pages);
	metrics_family(w, METRICS_GAUGE, "kmmd_users", "",
	               "Users that have or lately had sessions. Those with most pages have metrics "
	               "of their own.");
	metrics_u64(w, l.n, METRICS_NO_LABELS);
	write_user_counts(w, &l, METRICS_GAUGE, "kmmd_user_used",
	                  "What the user's sessions have together: pages of 4 KiB, objects, caches, "
	                  "channels, calls, sessions.",
	                  offsetof(struct user_usage, used), true);
	write_user_counts(w, &l, METRICS_GAUGE, "kmmd_user_peak",
	                  "The most that they had since the daemon's start.",
	                  offsetof(struct user_usage, peak), true);
	write_user_counts(w, &l, METRICS_GAUGE, "kmmd_user_limit",
	                  "The most that they may have; left out where there is no limit.",
	                  offsetof(struct user_usage, max), false);
	write_user_counts(w, &l, METRICS_COUNTER, "kmmd_user_refused",
	                  "Requests that the user's quota refused.",
	                  offsetof(struct user_usage, refused), true);
	free(l.user);
}

void metrics_write_sessions(struct metrics_writer *w, struct kmmd *k)
{
	write_sessions(w, k);
	write_ends(w, k);
	write_waiting(w, k->domain);
	write_users(w, k);
}
