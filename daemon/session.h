/* SPDX-License-Identifier: MIT */
/*
 * Sessions: one client process's relation with the daemon.
 *
 *   (hello) -> LIVE <-> DETACHED (quarantine: no channel, process alive) -> SWEEPING -> GONE ->
 * free
 *
 * The persistent record (record.h) commits the session; this structure is derived from it. All
 * structures lie in one array for the daemon's life, so that an id is always safe to look up; what
 * they mean is guarded by `state` and `inside`.
 *
 * session_enter() lets a handler act for a session: it counts itself in and only then checks the
 * state. A sweep sets SWEEPING first and begins when nobody is inside any more, so that nothing is
 * granted behind it. A session dies when its process does (pidfd), when it says Close, or, without
 * a pidfd, never by itself. Ids are used again only after the sweep, the longest free first.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/channel.h"
#include "daemon/kmmd.h"
#include "daemon/reactor.h"
#include "daemon/record.h"
#include "daemon/user.h"
#include "daemon/worker.h"
#include "shm/control.h"

typedef struct {
	uint32_t nr;
} session_id_t;

enum session_state {
	SESSION_FREE,
	SESSION_LIVE,
	SESSION_DETACHED,
	SESSION_SWEEPING,
	SESSION_GONE, /* swept and not to be found any more; connections or calls still name it */
};
const char *session_state_name(enum session_state s);

struct event_stream;
struct session_end_wait;

struct session {
	uint32_t id;
	_Atomic uint32_t state;  /* enum session_state */
	_Atomic uint32_t inside; /* handlers acting for it */
	_Atomic uint32_t refs;   /* pending calls, jobs under way */
	struct kmmd *kmmd;
	struct session_table *table;
	struct session_record *record;
	struct control_session *shared;
	/* written before it is LIVE */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	struct user *user; /* NULL: none is counted; referenced until the id is free again */
	_Atomic uint64_t pages_max, objects_max; /* 0: no limit; follow the configuration */
	char name[64];
	int pidfd;                      /* -1: none; closed when it is swept */
	_Atomic uint32_t channels;      /* all; control channel included */
	_Atomic uint32_t data_channels; /* without the control channels */
	_Atomic int64_t charge;         /* frames granted and not given back */
	/* its objects, and their bytes with gaps: estimates, see charge.c */
	_Atomic int64_t objects, object_bytes;
	_Atomic bool object_bytes_low;  /* it adopted some: to be counted before more is granted */
	/* the pages of its slab bits that are known to be there; see object_note_slab() */
	_Atomic uint64_t slab_pages[8];
	_Atomic uint32_t calls_in_flight, holds, parked;
	_Atomic uint64_t calls, refused;
	/* for reports: frames charged to it so far; objects that its calls brought and gave back */
	_Atomic uint64_t frames_had, objects_had, objects_back;
	_Atomic uint32_t jobs;       /* its calls in the worker's queue */
	_Atomic uint64_t
		granted_from[CONTROL_SECTIONS_MAX / 64]; /* sections that the daemon offered from */
	_Atomic uint32_t magazines;                      /* lent to it */
	_Atomic uint32_t lent_lately[8], lent_next;      /* the last of these: ids + 1 */
	/* guarded by the table's lock */
	struct event_stream *events; /* its Events calls */
	struct session_end_wait *waits;
	bool swept; /* its waits were told */
	/* flush.c: numbers of FLUSHes, 0: none. Before its stream began; answered; up to which nobody
	 * waits for it */
	uint64_t flush_since, flush_answered, flush_settled;
	bool flush_mute; /* it let the time pass, and has not answered since */
	char last_error[256];
	uint32_t next_free;
	/* of the main loop */
	uv_poll_t *watch; /* on the pidfd */
	bool proven_dead; /* at the start; swept when the grace period ends */
	bool watch_retry; /* its process could not be watched: looked at once a second */
	/* session_away.c: since when it has no connection, 0: it has, or that was said; it was said */
	_Atomic uint64_t away_ns;
	_Atomic bool away_said;
	/* its end */
	unsigned int end_why; /* session_end.c; written before the sweep starts */
	_Atomic uint32_t sweep_started, withdraw_queued;
	struct worker_job sweep, withdraw;
	struct reactor_work watch_work, unwatch_work;
};

int session_table_new(struct session_table **ret, struct kmmd *kmmd);
/* At the daemon's end, on the main thread: no process is watched any more. The main loop still has
 * to run (reactor_free) before session_table_free(), which comes last. */
void session_table_stop(struct session_table *t);
struct session_table *session_table_free(struct session_table *t);
/* After a restart: every record that is not free becomes a session again, DETACHED; those proven
 * dead (pid and start time) are swept when the grace period ends, the living get their pidfd
 * watched. Runs before the reactors start. */
int session_table_recover(struct session_table *t);

/* The options, or the quotas of that user, have changed: those of the sessions that there are follow. NULL:
 * all users'. Any thread. */
void session_table_reload(struct session_table *t, const struct user *user);
/* Once a second, worker: ids that waited for their last charge to go are free again; the objects of
 * sessions that pass magazines on without the daemon are counted now and then. */
void session_table_tick(struct session_table *t);
/* Counts the objects of all those now. Worker. */
void session_table_count(struct session_table *t);

/* A new session for the peer of a channel, which joins it: 0; -EDQUOT (too many) with *why, -ENOMEM,
 * -EIO. */
int session_open(struct session_table *t, struct channel *c, const char *name, bool control,
                 struct session **ret, const char **why);
/* An existing one whose token the peer shows: 0; -ENOENT no such session; -EACCES wrong token, user
 * or process; -EDQUOT, with *why: it, or its user, has all the channels that it may (a control channel
 * is not counted). */
int session_resume(struct session_table *t, uint32_t id, const uint8_t token[16], struct channel *c,
                   bool control, struct session **ret, const char **why);
/* False when it is not LIVE or DETACHED. Each true is paired with session_leave(). */
bool session_enter(struct session *s);
void session_leave(struct session *s);
struct session *session_ref(struct session *s);
void session_unref(struct session *s);
/* NULL when the id is out of range; the state is the caller's to check (session_enter). */
struct session *session_by_id(struct session_table *t, uint32_t id);
uint32_t session_table_size(const struct session_table *t); /* ids 1..size-1 */
/* Each that has a user: of all whose id is not free. fn runs under the table's lock. */
void session_each_user(struct session_table *t, void (*fn)(void *ctx, struct session *s), void *ctx);

void session_channel_closed(struct session *s, bool control);
/* Close, or a death proven: starts the sweep, once. Any thread. */
void session_end(struct session *s);
/* The same when its process has ended by itself. */
void session_end_dead(struct session *s);
/* Who waits for the end of a session. */
struct session_end_wait {
	struct session_end_wait *next;
	void (*done)(struct session_end_wait *w); /* on the worker, when it is swept */
};
/* The session is entered, or a channel is in it. False: it is swept already, done() does not
 * run. */
bool session_end_wait(struct session *s, struct session_end_wait *w);
/* False: done() runs or has run. */
bool session_end_unwait(struct session *s, struct session_end_wait *w);
/* SIGKILL for its process, through the pidfd; the session is entered. A DETACHED session without a
 * pidfd is ended. -ESRCH: it has no pidfd, or the process is dead already; -EPERM. */
int session_kill(struct session *s);

/* Objects that a call of the session brought, or gave back: for reports. */
static inline void session_count_objects(struct session *s, uint32_t had, uint32_t back)
{
	/* relaxed, both: counters */
	if (had)
		atomic_fetch_add_explicit(&s->objects_had, had, memory_order_relaxed);
	if (back)
		atomic_fetch_add_explicit(&s->objects_back, back, memory_order_relaxed);
}
/* Reactor 0, once a second: says who has no connection. */
void session_away_tick(struct session_table *t);
/* Remembered for kmmctl session ID and counted. */
void session_refused(struct session *s, const char *text);
/* Since the daemon's start. relaxed, all: counters for reports. */
struct session_totals {
	_Atomic uint64_t opened, closed, died, ended, unused; /* ended: by an admin, or before a restart */
	_Atomic uint64_t sweeps, swept_pages, swept_objects, sweep_ns;
};
const struct session_totals *session_table_totals(const struct session_table *t);
/* What reports say of a session; false when there is none. */
struct session_about {
	enum session_state state;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	uint64_t pages_max, opened;
	uint64_t away; /* seconds since the epoch: it has had no connection since; 0: it has one */
	uint32_t restarts;
	char name[64], last_error[256];
};
bool session_describe(struct session *s, struct session_about *a);
/* Sends an Event to a live session. Any thread; holds no lock that ranks after the table's. */
void session_event(struct session *s, uint32_t kind, const char *text);
/* PRESSURE, to all; or again, to those that have shrinkers. */
void session_broadcast_pressure(struct session_table *t, uint32_t gfp, uint32_t priority, bool again);

#endif
