/* SPDX-License-Identifier: MIT */
/*
 * The session table.
 *
 * An array of structures that live as long as the daemon, one an id, beside the persistent records
 * (record.h) and the records that the clients write (control_session). Ids are handed out from a
 * queue, the longest free first, so that an id seen lately (in a scribbled word, in a log) names
 * nobody for as long as possible.
 *
 * Entering. session_enter() counts itself in, then looks at the state; session_end() changes the
 * state, then looks at the count. Both pairs are sequentially consistent, so either the entrant
 * sees SWEEPING and leaves, or the end sees the entrant and leaves the start of the sweep to the
 * last session_leave(). `sweep_started` makes it one start.
 *
 *     enter:  inside++ ; state?              end:  state = SWEEPING ; inside == 0?
 *
 * The last eighth of the ids is for users who have less than an eighth of them. So no user's sessions,
 * those in quarantine among them, keep others out, whatever quotas there are.
 *
 * An id is free again when the session is swept, its process is not watched any more, and no
 * connection (`channels`) or pending call (`refs`) names its structure.
 *
 * Locking: the table's lock (LOCK_RANK_SESSION_TABLE) guards the queue of free ids, the changes of
 * state except the one to SWEEPING, event streams, waits and the texts. session_enter() and
 * session_leave() take none.
 */
#include "daemon/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/grant.h"
#include "daemon/log_about.h"
#include "daemon/options.h"
#include "daemon/pool.h"
#include "daemon/probes.h"
#include "daemon/session_private.h"
#include "daemon/user_groups.h"

#define SESSION_CONTROL_CHANNELS_MAX 4u

const char *session_state_name(enum session_state s)
{
	static const char *const names[] = {
		[SESSION_FREE] = "free",         [SESSION_LIVE] = "live",
		[SESSION_DETACHED] = "detached", [SESSION_SWEEPING] = "sweeping",
		[SESSION_GONE] = "gone",
	};

	return (unsigned int)s < sizeof(names) / sizeof(names[0]) ? names[s] : "?";
}

void session_push_free(struct session_table *t, struct session *s)
{
	/* release: pairs with the acquire loads of those who look an id up */
	atomic_store_explicit(&s->state, SESSION_FREE, memory_order_release);
	user_put(s->user);
	s->user = NULL;
	s->next_free = 0;
	if (t->free_last)
		t->session[t->free_last].next_free = s->id;
	else
		t->free_first = s->id;
	t->free_last = s->id;
	t->nr_free++;
}

/* Under the lock. The user's new session is counted already. */
static bool share_allows(const struct session_table *t, const struct user *u)
{
	struct user_usage usage;
	uint32_t eighth = t->size / 8;

	if (!u || !eighth || t->nr_free > eighth)
		return true;
	user_usage(u, &usage);
	return usage.used[USER_SESSIONS] <= eighth;
}

static struct session *pop_free(struct session_table *t)
{
	struct session *s = t->free_first ? &t->session[t->free_first] : NULL;

	if (!s)
		return NULL;
	t->free_first = s->next_free;
	if (!t->free_first)
		t->free_last = 0;
	t->nr_free--;
	return s;
}

int session_table_new(struct session_table **ret, struct kmmd *kmmd)
{
	struct pool *pool = kmmd->pool;
	uint32_t n = pool->nr_sessions, id;
	struct session_table *t = calloc(1, sizeof(*t) + (size_t)n * sizeof(t->session[0]));

	if (!t)
		return -ENOMEM;
	t->kmmd = kmmd;
	t->size = n;
	lock_init(&t->lock, LOCK_RANK_SESSION_TABLE);
	t->flush_last = &t->flush_first;
	t->flush_arm.run = session_flush_arm_run;
	for (id = 0; id < n; id++) {
		struct session *s = &t->session[id];

		s->id = id;
		s->kmmd = kmmd;
		s->table = t;
		s->record = &pool->session[id];
		s->shared = &pool->control.session[id];
		s->pidfd = -1;
		s->sweep.run = session_sweep_run;
		s->withdraw.run = session_withdraw_run;
		s->watch_work.run = session_watch_run;
		s->unwatch_work.run = session_unwatch_run;
		/* acquire: the record's fields were written before its word */
		if (id && !atomic_load_explicit(&s->record->word, memory_order_acquire))
			session_push_free(t, s);
	}
	*ret = t;
	return 0;
}

static void grace_closed(uv_handle_t *handle)
{
	free(handle);
}

void session_table_stop(struct session_table *t)
{
	uint32_t id;

	if (!t)
		return;
	session_note_table(t);
	for (id = 0; id < t->size; id++)
		session_watch_drop(&t->session[id]);
	if (t->grace)
		uv_close((uv_handle_t *)t->grace, grace_closed);
	t->grace = NULL;
	if (t->retry_ready)
		uv_close((uv_handle_t *)&t->retry, NULL);
	t->retry_ready = false;
	session_flush_stop(t);
}

struct session_table *session_table_free(struct session_table *t)
{
	session_table_stop(t);
	free(t);
	return NULL;
}

struct session *session_by_id(struct session_table *t, uint32_t id)
{
	return t && id && id < t->size ? &t->session[id] : NULL;
}

uint32_t session_table_size(const struct session_table *t)
{
	return t->size;
}

void session_each_user(struct session_table *t, void (*fn)(void *ctx, struct session *s), void *ctx)
{
	LOCK_SCOPED(&t->lock);
	uint32_t id;

	for (id = 1; id < t->size; id++)
		if (t->session[id].user)
			fn(ctx, &t->session[id]);
}

/* ---- opening ---- */

/* What kmmctl prints: no control characters, whole UTF-8 sequences where it is cut. */
static void copy_name(char to[64], const char *from)
{
	size_t n = strnlen(from, 63), i;

	while (n < strlen(from) && n > 0 && ((unsigned char)from[n] & 0xc0) == 0x80)
		n--;
	for (i = 0; i < n; i++)
		to[i] = (unsigned char)from[i] < 0x20 || from[i] == 0x7f ? '?' : from[i];
	memset(to + n, 0, 64 - n);
}

static void record_commit(struct session *s, const uint8_t token[16])
{
	struct session_record *r = s->record;

	memcpy(r->token, token, sizeof(r->token));
	r->uid = s->uid;
	r->gid = s->gid;
	r->pid = (uint32_t)s->pid;
	r->start_time = s->pid ? session_start_time(s->pid) : 0;
	r->opened = (uint64_t)time(NULL);
	r->pages_max = 0;
	session_note_begin(s);
	memcpy(r->name, s->name, sizeof(r->name));
	/* release: the fields first; pairs with the load at the next start */
	atomic_store_explicit(&r->word,
	                      SESSION_RECORD_LIVE | (uint64_t)s->kmmd->domain->id
	                                                    << SESSION_RECORD_DOMAIN_SHIFT,
	                      memory_order_release);
}

void session_set_quota(struct session *s)
{
	const struct options *o = s->kmmd->options;
	bool limited;

	/* relaxed: limits; whoever charges meanwhile meets the old ones or the new ones */
	atomic_store_explicit(&s->pages_max, OPTION(o, pages_max), memory_order_relaxed);
	atomic_store_explicit(&s->objects_max, OPTION(o, objects_max), memory_order_relaxed);
	/* From now on the client's magazines pass by the daemon, or need not. acq_rel: two may do this at
	 * once; whoever changes the word last has seen what the other had seen, and looks once more. */
	do {
		limited = charge_limited(s);
		if (limited)
			atomic_fetch_or_explicit(&s->shared->racks, CONTROL_RACKS_OFF,
			                         memory_order_acq_rel);
		else
			atomic_fetch_and_explicit(&s->shared->racks, ~CONTROL_RACKS_OFF,
			                          memory_order_acq_rel);
	} while (charge_limited(s) != limited);
}

void session_table_reload(struct session_table *t, const struct user *user)
{
	uint32_t id;

	for (id = 1; id < t->size; id++) {
		struct session *s = &t->session[id];

		if (!session_enter(s))
			continue;
		if (!user || s->user == user)
			session_set_quota(s);
		session_leave(s);
	}
}

static void session_init(struct session *s, const struct session_peer *peer, const char *name)
{
	unsigned int i;

	s->uid = peer->uid;
	s->gid = peer->gid;
	s->pid = peer->pid;
	s->pidfd = peer->pidfd;
	s->user = peer->user;
	session_set_quota(s);
	s->proven_dead = false;
	s->swept = false;
	s->last_error[0] = '\0';
	copy_name(s->name, name);
	/* relaxed: the release of the state publishes all. `charge` is 0: see session_release() */
	atomic_store_explicit(&s->calls, 0, memory_order_relaxed);
	atomic_store_explicit(&s->refused, 0, memory_order_relaxed);
	atomic_store_explicit(&s->frames_had, 0, memory_order_relaxed);
	atomic_store_explicit(&s->objects_had, 0, memory_order_relaxed);
	atomic_store_explicit(&s->objects_back, 0, memory_order_relaxed);
	atomic_store_explicit(&s->holds, 0, memory_order_relaxed);
	atomic_store_explicit(&s->magazines, 0, memory_order_relaxed);
	atomic_store_explicit(&s->sweep_started, 0, memory_order_relaxed);
	atomic_store_explicit(&s->away_ns, 0, memory_order_relaxed);
	atomic_store_explicit(&s->away_said, false, memory_order_relaxed);
	for (i = 0; i < CONTROL_SECTIONS_MAX / 64; i++) {
		atomic_store_explicit(&s->granted_from[i], 0, memory_order_relaxed);
		atomic_store_explicit(&s->shared->section[i], 0, memory_order_relaxed);
	}
}

int session_create(struct session_table *t, const struct session_peer *peer, const char *name,
                   struct session **ret)
{
	uint8_t token[16];
	struct session *s;
	bool allowed;

	if (getrandom(token, sizeof(token), 0) != sizeof(token))
		return -EIO;
	lock_acquire(&t->lock);
	allowed = share_allows(t, peer->user);
	s = allowed ? pop_free(t) : NULL;
	lock_release(&t->lock);
	if (!s)
		return allowed ? -EDQUOT : -EUSERS;
	session_init(s, peer, name);
	record_commit(s, token);
	/* seq_cst: pairs with session_enter() */
	atomic_store_explicit(&s->state, SESSION_LIVE, memory_order_seq_cst);
	/* A reload that found it not yet LIVE has changed the options before. seq_cst: the store
	 * first; pairs with session_enter() in session_table_reload() */
	atomic_thread_fence(memory_order_seq_cst);
	session_set_quota(s);
	*ret = s;
	return 0;
}

static const char *channels_text(const struct session *s, bool control)
{
	if (control)
		return grant_text("session %u has several control channels already", s->id);
	return grant_text("session %u has its %u channels; share them, or raise [limits] channels",
	                  s->id, OPTION(s->kmmd->options, channels_max));
}

/* Under the table's lock. charged: to the user, already. */
static bool channel_join(struct session *s, bool control, bool charged, const char **why)
{
	uint32_t data = atomic_load_explicit(&s->data_channels, memory_order_relaxed);
	uint32_t all = atomic_load_explicit(&s->channels, memory_order_relaxed);

	/* One control channel, and those that it replaces but whose end was not seen yet. */
	if (control ? all - data >= SESSION_CONTROL_CHANNELS_MAX :
	              data >= OPTION(s->kmmd->options, channels_max)) {
		*why = channels_text(s, control);
		return false;
	}
	if (!control && !charged && !user_charge(s->user, USER_CHANNELS, 1)) {
		user_refused(s->user, USER_CHANNELS);
		*why = user_text(s->user, USER_CHANNELS, 1);
		return false;
	}
	atomic_fetch_add_explicit(&s->channels, 1, memory_order_relaxed);
	if (!control)
		atomic_fetch_add_explicit(&s->data_channels, 1, memory_order_relaxed);
	return true;
}

/* A session more, and its channel. */
static bool user_admit(struct user *u, bool control, const char **why)
{
	enum user_count met = USER_SESSIONS;

	if (user_charge(u, USER_SESSIONS, 1)) {
		met = USER_CHANNELS;
		if (control || user_charge(u, USER_CHANNELS, 1))
			return true;
		user_uncharge(u, USER_SESSIONS, 1);
	}
	user_refused(u, met);
	*why = user_text(u, met, 1);
	return false;
}

static void say_open(const struct session *s)
{
	struct log_about about = log_about_session(LOG_OPEN, s);

	atomic_fetch_add_explicit(&s->table->totals.opened, 1, memory_order_relaxed);
	probe_session_open(s->id, s->uid, s->pid, s->name);
	log_event(LOG_LEVEL_DEBUG, &about, "began");
}

static int open_for(struct session_table *t, struct channel *c, struct user *u, const char *name,
                    bool control, struct session **ret, const char **why)
{
	const struct peer *p = channel_peer(c);
	struct session_peer peer = {
		.pid = p->pid, .uid = p->uid, .gid = p->gid, .pidfd = p->pidfd, .user = u
	};
	int r;

	if (!user_admit(u, control, why))
		return -EDQUOT;
	r = session_create(t, &peer, name, ret);
	if (r == 0) {
		/* Not before: who is refused may ask again, and must be seen to die then, too. */
		channel_take_pidfd(c);
		say_open(*ret);
		return 0;
	}
	user_uncharge(u, USER_SESSIONS, 1);
	user_uncharge(u, USER_CHANNELS, !control);
	if (r == -EDQUOT)
		*why = grant_text("all %u sessions are in use; end some, or raise [limits] sessions",
		                  t->size - 1);
	if (r == -EUSERS) {
		user_refused(u, USER_SESSIONS);
		*why = grant_text("the last %u of the %u sessions are for other users than %u, who has so "
		                  "many: end some, or raise [limits] sessions",
		                  t->size / 8, t->size - 1, user_uid(u));
		r = -EDQUOT;
	}
	return r;
}

int session_open(struct session_table *t, struct channel *c, const char *name, bool control,
                 struct session **ret, const char **why)
{
	const struct peer *p = channel_peer(c);
	struct user_groups *groups = NULL;
	struct session *s;
	struct user *u;
	int r;

	if (p->groups) { /* NULL: the kernel does not tell */
		groups = user_groups_of_process(p->gid, p->groups, p->nr_groups);
		if (!groups)
			return -ENOMEM;
	}
	u = user_get_with(t->kmmd->users, p->uid, groups);
	if (!u && t->kmmd->users)
		return -ENOMEM;
	r = open_for(t, c, u, name, control, &s, why);
	if (r < 0) {
		user_put(u);
		return r;
	}
	lock_acquire(&t->lock);
	channel_join(s, control, true, why);
	lock_release(&t->lock);
	session_watch(s);
	*ret = s;
	return 0;
}

static bool token_equal(const uint8_t a[16], const uint8_t b[16])
{
	unsigned int i, differ = 0;

	for (i = 0; i < 16; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

int session_resume(struct session_table *t, uint32_t id, const uint8_t token[16], struct channel *c,
                   bool control, struct session **ret, const char **why)
{
	struct session *s = session_by_id(t, id);
	const struct peer *p = channel_peer(c);
	bool watch = false, back = false;

	if (!s || !session_enter(s))
		return -ENOENT;
	if (!token_equal(s->record->token, token) || p->uid != s->uid ||
	    (p->pid && s->pid && p->pid != s->pid)) {
		session_leave(s);
		return -EACCES;
	}
	lock_acquire(&t->lock);
	if (!channel_join(s, control, false, why)) {
		lock_release(&t->lock);
		session_leave(s);
		return -EDQUOT;
	}
	if (atomic_load_explicit(&s->state, memory_order_relaxed) == SESSION_DETACHED) {
		uint32_t detached = SESSION_DETACHED;

		/* A session_end() may come in between: then it is SWEEPING and stays so. */
		atomic_compare_exchange_strong_explicit(&s->state, &detached, SESSION_LIVE,
		                                        memory_order_seq_cst, memory_order_seq_cst);
		back = true;
	}
	if (s->pidfd < 0 && p->pidfd >= 0) {
		/* it came back before its death could be disproved */
		s->pidfd = channel_take_pidfd(c);
		watch = true;
	}
	lock_release(&t->lock);
	/* Who shows the token has read the answer to the first hello: the session is in use, also
	 * when this channel closes before a call (session_channel_closed). relaxed: a counter */
	atomic_fetch_add_explicit(&s->calls, 1, memory_order_relaxed);
	if (back)
		session_back(s);
	if (watch)
		session_watch(s);
	session_leave(s);
	*ret = s;
	return 0;
}

/* ---- entering ---- */

bool session_enter(struct session *s)
{
	uint32_t state;

	/* seq_cst, here and in session_end(): see the theory above */
	atomic_fetch_add_explicit(&s->inside, 1, memory_order_seq_cst);
	state = atomic_load_explicit(&s->state, memory_order_seq_cst);
	if (state == SESSION_LIVE || state == SESSION_DETACHED)
		return true;
	session_leave(s);
	return false;
}

void session_leave(struct session *s)
{
	if (atomic_fetch_sub_explicit(&s->inside, 1, memory_order_seq_cst) == 1)
		session_sweep_try(s);
}

struct session *session_ref(struct session *s)
{
	/* relaxed: whoever refs has entered, or holds a reference */
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void session_unref(struct session *s)
{
	/* acq_rel: the last one's release sees what the others did */
	if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
		session_release(s);
}

void session_refused(struct session *s, const char *text)
{
	/* relaxed: a counter for reports */
	atomic_fetch_add_explicit(&s->refused, 1, memory_order_relaxed);
	lock_acquire(&s->table->lock);
	snprintf(s->last_error, sizeof(s->last_error), "%s", text);
	lock_release(&s->table->lock);
}

bool session_describe(struct session *s, struct session_about *a)
{
	LOCK_SCOPED(&s->table->lock);

	/* acquire: what was written before it became LIVE is seen; it becomes FREE only under the
	 * lock, so nothing of it changes meanwhile */
	a->state = (enum session_state)atomic_load_explicit(&s->state, memory_order_acquire);
	if (a->state == SESSION_FREE || a->state == SESSION_GONE)
		return false;
	a->uid = s->uid;
	a->gid = s->gid;
	a->pid = s->pid;
	a->pages_max = atomic_load_explicit(&s->pages_max, memory_order_relaxed);
	a->opened = s->record->opened;
	a->restarts = s->record->restarts;
	/* relaxed: for a report */
	a->away = atomic_load_explicit(&s->record->away, memory_order_relaxed);
	memcpy(a->name, s->name, sizeof(a->name));
	memcpy(a->last_error, s->last_error, sizeof(a->last_error));
	return true;
}
