/* SPDX-License-Identifier: MIT */
/*
 * Inside the session table: shared by session.c (table), session_end.c (how sessions end),
 * session_watch.c (processes), session_note.c (history) and session_recover.c (after a restart).
 */
#ifndef DAEMON_SESSION_PRIVATE_H
#define DAEMON_SESSION_PRIVATE_H

#include <uv.h>

#include "daemon/session.h"
#include "mm/lock.h"

struct flush_wait;

struct session_table {
	struct kmmd *kmmd;
	uint32_t size;
	/* of the main loop */
	uv_timer_t *grace;
	uv_timer_t retry; /* while some pidfd cannot be watched */
	bool retry_ready;
	struct reactor_work grace_work;
	_Atomic bool away; /* some away_ns is set */
	/* of the main loop; see flush.c */
	uv_timer_t flush_timer;
	bool flush_timer_ready, flush_stopped;
	struct reactor_work flush_arm;
	struct lock lock;
	/* guarded by lock */
	uint32_t free_first, free_last; /* ids, the longest free first; 0: none */
	uint32_t nr_free;
	uint64_t flush_serial;          /* the last FLUSH's number */
	struct flush_wait *flush_first, **flush_last;
	bool flush_armed; /* flush_arm is posted, or the timer runs */
	_Atomic bool lingering; /* some id waits for its charge to be 0 */
	struct session_totals totals;
	/* of the worker; see session_count_racked() */
	uint32_t racked_next;
	uint64_t racked_ns; /* CLOCK_MONOTONIC: not before */
	struct session session[];
};

#define SESSION_RECORD_DOMAIN_SHIFT 4

/* ---- session.c ---- */

/* Who opens a session. pidfd: the session's from then on, also on failure; -1: none. user: charged and
 * referenced for it, the session's when there is one; NULL: nothing is counted. */
struct session_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd;
	struct user *user;
};
/* A session without a channel, which has the pidfd from now on: -EDQUOT, there is no id free; -EUSERS, none
 * for that user; -EIO. */
int session_create(struct session_table *t, const struct session_peer *peer, const char *name,
                   struct session **ret);
/* What the options allow a session. */
void session_set_quota(struct session *s);
/* Under the lock: the id becomes the last of the free ones. */
void session_push_free(struct session_table *t, struct session *s);

/* ---- session_end.c ---- */

void session_sweep_run(struct worker_job *job);
void session_withdraw_run(struct worker_job *job);
/* Ends it if it is DETACHED; whether that was so. The session is entered. */
bool session_end_detached(struct session *s);
/* Starts the sweep of a SWEEPING session when nobody is inside. */
void session_sweep_try(struct session *s);
/* GONE becomes FREE when nothing names it any more. */
void session_release(struct session *s);

/* ---- session_away.c ---- */

/* Its last connection is gone; it has one again. */
void session_away(struct session *s);
void session_back(struct session *s);
/* It is away for longer than it may: said at once. */
void session_away_say(struct session *s);

/* ---- session_note.c ---- */

/* Before the record is committed. */
void session_note_begin(struct session *s);
/* It has no connection any more, or has one. */
void session_note_away(struct session *s, bool away);
/* The counters of all there are. Worker, or the main thread at the daemon's end. */
void session_note_table(struct session_table *t);
/* After a restart, when what it has is counted. */
void session_note_restore(struct session *s);

/* ---- flush.c ---- */

void session_flush_arm_run(struct reactor *r, struct reactor_work *w);
/* At the daemon's end, on the main thread. */
void session_flush_stop(struct session_table *t);

/* ---- session_watch.c ---- */

/* From now on the end of the process ends the session. Any thread. */
void session_watch(struct session *s);
/* Stops that, closes the pidfd, then session_release(). Any thread. */
void session_unwatch(struct session *s);
void session_watch_run(struct reactor *r, struct reactor_work *w);
void session_unwatch_run(struct reactor *r, struct reactor_work *w);
/* At the daemon's end, on the main thread. */
void session_watch_drop(struct session *s);
/* Field 22 of /proc/PID/stat; 0: it cannot be read. */
uint64_t session_start_time(pid_t pid);
/* A pidfd of the process unless it is proven to be another than the one that started then (0: not
 * known); -1: it is proven, or it has ended. -2: no pidfd can be had. */
int session_process_open(pid_t pid, uint64_t start_time);

#endif
