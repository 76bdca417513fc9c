/* SPDX-License-Identifier: MIT */
/*
 * Learning the groups of users, for the rules of [group NAME].
 *
 * A user is in the groups of the process that opened its last session: the kernel told them when it
 * connected, so nobody waits for anything. Where no process has told (users of sessions that a restart
 * took over, as long as they open no other; all, on a kernel that does not tell groups) and a rule asks for
 * groups, the worker asks the user database, one user a job, so that what is more urgent gets in
 * between. Until it knows, no [group NAME] counts for the user. It asks once, and again after a reload.
 *
 * A user whose processes have different groups, which is what newgrp and dropped groups make, changes its
 * quota with each session. It costs a look at the rules, and, when the user is limited now and was not, or
 * the other way round, one at all sessions.
 *
 * Locking: as in user.c. Nothing is asked of the database under the lock.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/session.h"
#include "daemon/user_private.h"

/* Under the lock: takes the groups over. As user_read_quota(). */
static bool set_groups(struct user_table *t, struct user *u, struct user_groups *groups,
                       bool of_process)
{
	bool same = user_groups_equal(u->groups, groups);

	user_groups_free(u->groups);
	u->groups = groups;
	u->of_process = of_process;
	return !same && user_read_quota(u, t->kmmd->options);
}

/* Under the lock. */
static void ask_begin(struct user_table *t)
{
	if (t->asking || !t->kmmd->worker || !quota_has_groups(t->kmmd->options))
		return;
	t->asking = true;
	t->unknown = 0;
	worker_submit_later(t->kmmd->worker, &t->ask);
}

struct user *user_get_with(struct user_table *t, uid_t uid, struct user_groups *groups)
{
	struct user *u = NULL;
	bool other = false;

	if (t) {
		LOCK_SCOPED(&t->lock);

		u = user_find_or_make(t, uid);
		if (u && groups) {
			other = set_groups(t, u, groups, true);
			groups = NULL;
		}
		if (u && !u->groups)
			ask_begin(t);
	}
	user_groups_free(groups);
	if (other)
		session_table_reload(t->kmmd->sessions, u);
	return u;
}

/* Under the lock: the next whom to ask about, referenced. */
static struct user *ask_next(struct user_table *t)
{
	struct user *u;

	TAILQ_FOREACH(u, &t->users, link)
		/* relaxed: who is not in use at this moment is asked about when it comes */
		if (!u->asked && !u->of_process &&
		    atomic_load_explicit(&u->refs, memory_order_relaxed)) {
			u->asked = true;
			return user_ref(u);
		}
	return NULL;
}

/* Under the lock. The first one is said; of the others how many there are, at the end. */
static void ask_failed(struct user_table *t, const struct user *u, int r)
{
	const struct log_about about = { .event = LOG_RELOAD, .user = true, .uid = u->uid };

	if (t->unknown++ == 0)
		log_event(LOG_LEVEL_WARNING, &about,
		          "the user's groups cannot be learnt: %s; until its next session no "
		          "[group NAME] of the configuration counts for it",
		          r == -ENOENT ? "the user database does not know it" : strerror(-r));
}

/* On the worker. */
static bool ask_about(struct user_table *t, struct user *u)
{
	struct user_groups *groups = NULL;
	int r = user_groups_of_database(&groups, u->uid);

	LOCK_SCOPED(&t->lock);
	if (u->of_process) { /* a session came meanwhile */
		user_groups_free(groups);
		return false;
	}
	if (r == 0)
		return set_groups(t, u, groups, false);
	ask_failed(t, u, r);
	return false; /* what it knew before stays */
}

void user_ask_run(struct worker_job *job)
{
	struct user_table *t = (struct user_table *)((char *)job - offsetof(struct user_table, ask));
	const struct log_about about = { .event = LOG_RELOAD };
	struct user *u;

	{
		LOCK_SCOPED(&t->lock);

		u = ask_next(t);
		if (!u) {
			if (t->unknown > 1)
				log_event(LOG_LEVEL_WARNING, &about,
				          "the groups of %u more users cannot be learnt either",
				          t->unknown - 1);
			t->asking = false;
			return;
		}
	}
	if (ask_about(t, u))
		session_table_reload(t->kmmd->sessions, u);
	user_put(u);
	worker_submit_later(t->kmmd->worker, job);
}

void user_table_ask(struct user_table *t)
{
	if (!t)
		return;
	LOCK_SCOPED(&t->lock);
	ask_begin(t);
}
