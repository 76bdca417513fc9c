/* SPDX-License-Identifier: MIT */
/*
 * Sessions after a restart of the daemon.
 *
 * Every record that is not free becomes a session again, without channels. Its process is looked up
 * (pid and start time): if it lives it is watched from now on; if it is provably dead the session
 * waits for the end of the grace period all the same, and is swept then unless it came back with
 * its token. Sessions whose death cannot be proven stay in quarantine. A record that says SWEEPING
 * is swept at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/cache.h"
#include "daemon/log_about.h"
#include "daemon/options.h"
#include "daemon/pool.h"
#include "daemon/session_private.h"

static void grace_end(uv_timer_t *timer)
{
	struct session_table *t = timer->data;
	const struct log_about about = { .event = LOG_RESTART };
	uint32_t id, dead = 0, away = 0;

	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];

		if (atomic_load_explicit(&s->state, memory_order_acquire) != SESSION_DETACHED)
			continue;
		if (s->proven_dead) {
			session_end_dead(s);
			dead++;
		} else if (session_enter(s)) {
			session_away_say(s);
			session_leave(s);
			away++;
		}
	}
	log_event(LOG_LEVEL_NOTICE, &about,
	          "the grace period is over: %u sessions of dead processes are swept, %u have not "
	          "come back and stay in quarantine",
	          dead, away);
}

static void grace_start(struct reactor *r, struct reactor_work *w)
{
	struct session_table *t =
		(struct session_table *)((char *)w - offsetof(struct session_table, grace_work));

	t->grace = calloc(1, sizeof(*t->grace));
	if (!t->grace) {
		log_error(
			"no memory for the grace period's timer: dead sessions stay in quarantine");
		return;
	}
	uv_timer_init(&r->loop, t->grace);
	t->grace->data = t;
	uv_timer_start(t->grace, grace_end, r->kmmd->options->grace_ms, 0);
}

static void session_restore(struct session *s, uint64_t word)
{
	const struct session_record *r = s->record;

	s->uid = r->uid;
	s->gid = r->gid;
	s->pid = (pid_t)r->pid;
	memcpy(s->name, r->name, sizeof(s->name));
	s->name[sizeof(s->name) - 1] = '\0';
	s->pidfd = session_process_open(s->pid, r->start_time);
	s->proven_dead = s->pidfd == -1;
	if (s->pidfd < 0)
		s->pidfd = -1;
	/* seq_cst: as every change of state */
	atomic_store_explicit(
		&s->state, (word & 15) == SESSION_RECORD_LIVE ? SESSION_DETACHED : SESSION_SWEEPING,
		memory_order_seq_cst);
}

/* What it has is its user's from now on, also beyond the quotas. */
static void account_user(struct session *s)
{
	if (!s->user)
		return;
	/* relaxed: nobody else is there yet */
	user_charge_always(s->user, USER_SESSIONS, 1);
	user_charge_always(s->user, USER_PAGES,
	                   (uint64_t)atomic_load_explicit(&s->charge, memory_order_relaxed));
	user_adjust_objects(s->user, atomic_load_explicit(&s->objects, memory_order_relaxed),
	                    atomic_load_explicit(&s->object_bytes, memory_order_relaxed));
	user_charge_always(s->user, USER_CACHES, cache_count_of(s->kmmd->domain, s->id));
}

int session_table_recover(struct session_table *t)
{
	const struct log_about about = { .event = LOG_RESTART };
	struct kmmd *kmmd = t->kmmd;
	uint32_t id, found = 0, dead = 0;

	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];
		/* acquire: the fields were written before the word */
		uint64_t word = atomic_load_explicit(&s->record->word, memory_order_acquire);

		if (!word)
			continue;
		session_restore(s, word);
		s->user = user_get(kmmd->users, s->uid);
		if (!s->user && kmmd->users)
			return -ENOMEM;
		session_set_quota(s); /* the configuration's, not what they were */
		found++;
		dead += s->proven_dead;
	}
	domain_account_sessions(kmmd->domain);
	for (id = 1; id < t->size; id++) {
		account_user(&t->session[id]);
		/* relaxed: nobody else is there yet */
		if (atomic_load_explicit(&t->session[id].record->word, memory_order_relaxed))
			session_note_restore(&t->session[id]);
	}
	if (kmmd->pool->recovered && !found)
		log_event(LOG_LEVEL_NOTICE, &about, "there are no sessions to take over");
	else if (found)
		log_event(LOG_LEVEL_NOTICE, &about,
		          "%u sessions taken over, %u of them of dead processes; they have %u ms to "
		          "come back",
		          found, dead, kmmd->options->grace_ms);
	if (!found)
		return 0;
	user_table_ask(kmmd->users);
	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];
		uint32_t state = atomic_load_explicit(&s->state, memory_order_acquire);

		if (state == SESSION_SWEEPING)
			session_sweep_try(s);
		else if (state == SESSION_DETACHED)
			session_watch(s);
	}
	t->grace_work.run = grace_start;
	if (kmmd->main)
		reactor_post(kmmd->main, &t->grace_work);
	return 0;
}
