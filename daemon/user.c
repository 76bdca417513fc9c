/* SPDX-License-Identifier: MIT */
/*
 * The accounts of users.
 *
 * A user is one uid and what its sessions have together: six counters, each with what is used, the
 * most that may be, the most that ever was, and how often it refused something.
 *
 *     used[what] == the sum over the sessions whose user it is          (user_validate())
 *
 * holds whenever nobody is in the middle of a change. Whoever changes a session's account changes the
 * user's, too: charge.c for pages and objects, cache.c, session.c for channels and sessions,
 * rpc_pending.c for calls. Nothing of it is persistent: a restart counts the sessions again
 * (session_recover.c).
 *
 * Pages are counted in bytes, frames and objects in one number, so that one compare-and-swap says
 * whether a charge is within the quota; all that is told is rounded up to pages. What was reserved and
 * not used is given back and was charged meanwhile, so a peak may be a magazine above what was had.
 *
 * Cost. A call that allocates or frees pays one atomic operation a counter, in a cache line that only
 * calls of the same uid change. What threads have from their own magazines costs nothing.
 *
 * Life. A session references its user from its opening until its id is free again (session_end.c), so
 * that what is freed late finds the right account. Users without references are kept, for their peaks:
 * about USERS_KEPT in all. Above that whoever comes makes a hand go on by HAND_STEPS users and drops
 * those without references that it passes: O(1) for each, however many are in use. The lock
 * (LOCK_RANK_USER) guards the list and the buckets, and is taken when sessions are opened and for reports;
 * charging takes none.
 *
 * Quotas follow from the options, the uid and the user's groups, and are made under the lock when one of
 * these changes: the options first, then user_table_reload(), so a user that comes meanwhile gets the new
 * ones, too. Groups: user_ask.c.
 */
#include "daemon/user.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cache.h"
#include "daemon/domain.h"
#include "daemon/options.h"
#include "daemon/session.h"
#include "daemon/user_private.h"

#define USERS_KEPT 1024u
#define HAND_STEPS 8u

static const struct {
	const char *name, *advice;
} about[NR_USER_COUNTS] = {
	[USER_PAGES] = { "pages", "free some" },
	[USER_OBJECTS] = { "objects", "free some" },
	[USER_CACHES] = { "caches", "destroy some" },
	[USER_CHANNELS] = { "channels", "share them" },
	[USER_CALLS] = { "calls", "let some end" },
	[USER_SESSIONS] = { "sessions", "end some" },
};
_Static_assert(NR_USER_COUNTS == QUOTA_KEYS, "in the order of quota_key[]");

const char *user_count_name(enum user_count what)
{
	return (unsigned int)what < NR_USER_COUNTS ? about[what].name : "?";
}

/* ---- units ---- */

static unsigned int shift_of(enum user_count what)
{
	return what == USER_PAGES ? PAGE_SHIFT : 0;
}

/* As reports have it. */
static uint64_t told(enum user_count what, int64_t n)
{
	uint64_t part = (UINT64_C(1) << shift_of(what)) - 1;

	return n > 0 ? ((uint64_t)n + part) >> shift_of(what) : 0;
}

static void set_quota(struct user *u, const struct quota *q)
{
	const uint64_t max[NR_USER_COUNTS] = {
		[USER_PAGES] = q->pages,   [USER_OBJECTS] = q->objects,
		[USER_CACHES] = q->caches, [USER_CHANNELS] = q->channels,
		[USER_CALLS] = q->calls,   [USER_SESSIONS] = q->sessions,
	};
	unsigned int i;

	for (i = 0; i < NR_USER_COUNTS; i++) {
		uint64_t most = (uint64_t)INT64_MAX >> shift_of(i);

		/* relaxed: a limit; whoever charges meanwhile meets the old one or the new one */
		atomic_store_explicit(&u->max[i],
		                      (max[i] < most ? max[i] : most) << shift_of(i),
		                      memory_order_relaxed);
	}
}

static const struct user_origin *origin_of(const struct user *u)
{
	/* acquire: pairs with the release of set_origin() */
	return atomic_load_explicit(&u->origin, memory_order_acquire);
}

/* Under the lock. There are no more than the sections that were ever the user's: one that goes to and
 * fro between groups makes none anew. Out of memory: texts say what they said. */
static void set_origin(struct user *u, const char section[NR_USER_COUNTS][QUOTA_SECTION_MAX])
{
	struct user_origin *o = u->all_origins;

	while (o && memcmp(o->section, section, sizeof(o->section)) != 0)
		o = o->before;
	if (!o) {
		o = malloc(sizeof(*o));
		if (!o)
			return;
		memcpy(o->section, section, sizeof(o->section));
		o->before = u->all_origins;
		u->all_origins = o;
	}
	/* release: its text; pairs with origin_of() */
	atomic_store_explicit(&u->origin, o, memory_order_release);
}

static bool is_limited(const struct user *u)
{
	return user_limits(u, USER_PAGES) || user_limits(u, USER_OBJECTS);
}

bool user_read_quota(struct user *u, const struct options *o)
{
	char section[NR_USER_COUNTS][QUOTA_SECTION_MAX] = { 0 };
	bool limited = is_limited(u);
	struct quota q;

	quota_of(o, u->uid, u->groups, &q, section);
	set_quota(u, &q);
	set_origin(u, section);
	return is_limited(u) != limited;
}

static struct user *user_free(struct user *u)
{
	struct user_origin *o = u->all_origins, *before;

	for (; o; o = before) {
		before = o->before;
		free(o);
	}
	user_groups_free(u->groups);
	free(u);
	return NULL;
}

/* ---- the table ---- */

int user_table_new(struct user_table **ret, struct kmmd *kmmd)
{
	struct user_table *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	r = hash_key_draw(&t->key);
	if (r < 0) {
		free(t);
		return r;
	}
	t->kmmd = kmmd;
	lock_init(&t->lock, LOCK_RANK_USER);
	TAILQ_INIT(&t->users);
	t->ask.run = user_ask_run;
	*ret = t;
	return 0;
}

/* Under the lock. */
static void drop(struct user_table *t, struct user *u)
{
	if (t->hand == u)
		t->hand = TAILQ_NEXT(u, link);
	TAILQ_REMOVE(&t->users, u, link);
	LIST_REMOVE(u, same);
	t->n--;
	user_free(u);
}

struct user_table *user_table_free(struct user_table *t)
{
	if (!t)
		return NULL;
	while (!TAILQ_EMPTY(&t->users))
		drop(t, TAILQ_FIRST(&t->users));
	free(t);
	return NULL;
}

static uint32_t bucket_of(const struct user_table *t, uid_t uid)
{
	return (uint32_t)(hash_bytes(&t->key, &uid, sizeof(uid)) % USER_BUCKETS);
}

/* Under the lock: referenced. */
static struct user *find(struct user_table *t, uid_t uid)
{
	struct user *u;

	LIST_FOREACH(u, &t->bucket[bucket_of(t, uid)], same)
		if (u->uid == uid)
			return user_ref(u);
	return NULL;
}

/* Under the lock: makes room for one more. */
static void forget_some(struct user_table *t)
{
	for (uint32_t i = 0; i < HAND_STEPS && t->n >= USERS_KEPT; i++) {
		struct user *u = t->hand ? t->hand : TAILQ_FIRST(&t->users);

		t->hand = TAILQ_NEXT(u, link);
		/* acquire: pairs with user_put(); references from none come under the lock only */
		if (!atomic_load_explicit(&u->refs, memory_order_acquire))
			drop(t, u);
	}
}

struct user *user_find_or_make(struct user_table *t, uid_t uid)
{
	struct user *u = find(t, uid);

	if (u)
		return u;
	u = aligned_alloc(_Alignof(struct user), sizeof(*u));
	if (!u)
		return NULL;
	*u = (struct user){ .uid = uid, .refs = 1 };
	user_read_quota(u, t->kmmd->options);
	forget_some(t);
	TAILQ_INSERT_TAIL(&t->users, u, link);
	LIST_INSERT_HEAD(&t->bucket[bucket_of(t, uid)], u, same);
	t->n++;
	return u;
}

struct user *user_get(struct user_table *t, uid_t uid)
{
	if (!t)
		return NULL;
	LOCK_SCOPED(&t->lock);
	return user_find_or_make(t, uid);
}

struct user *user_ref(struct user *u)
{
	/* relaxed: from another reference, or under the table's lock */
	if (u)
		atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
	return u;
}

void user_put(struct user *u)
{
	/* release: pairs with forget_some() */
	if (u)
		atomic_fetch_sub_explicit(&u->refs, 1, memory_order_release);
}

uid_t user_uid(const struct user *u)
{
	return u->uid;
}

static void reload_users(struct user_table *t)
{
	struct user *u, *next;

	{
		LOCK_SCOPED(&t->lock);

		u = user_ref(TAILQ_FIRST(&t->users));
	}
	/* Those that come from now on have the new quotas. */
	while (u) {
		{
			LOCK_SCOPED(&t->lock);

			u->asked = false;
			user_read_quota(u, t->kmmd->options);
			next = user_ref(TAILQ_NEXT(u, link));
		}
		user_put(u);
		u = next;
	}
	user_table_ask(t);
}

void user_table_reload(struct kmmd *kmmd)
{
	if (kmmd->users)
		reload_users(kmmd->users);
	if (kmmd->sessions)
		session_table_reload(kmmd->sessions, NULL);
}

/* ---- charging ---- */

/* relaxed, all of it: counters that limit; they order nothing */
static void note_peak(struct user *u, enum user_count what, int64_t now)
{
	int64_t peak = atomic_load_explicit(&u->peak[what], memory_order_relaxed);

	while (now > peak &&
	       !atomic_compare_exchange_weak_explicit(&u->peak[what], &peak, now,
	                                              memory_order_relaxed, memory_order_relaxed))
		;
}

static void add(struct user *u, enum user_count what, int64_t n)
{
	note_peak(u, what,
	          atomic_fetch_add_explicit(&u->used[what], n, memory_order_relaxed) + n);
}

static void subtract(struct user *u, enum user_count what, int64_t n)
{
	atomic_fetch_sub_explicit(&u->used[what], n, memory_order_relaxed);
}

/* As many times `each`, in internal units, as the quota allows, at most `want`; how many. */
static uint64_t take(struct user *u, enum user_count what, int64_t each, uint64_t want)
{
	int64_t max = (int64_t)atomic_load_explicit(&u->max[what], memory_order_relaxed), old;
	uint64_t n;

	if (!max) {
		add(u, what, (int64_t)want * each);
		return want;
	}
	old = atomic_load_explicit(&u->used[what], memory_order_relaxed);
	do {
		n = old < max ? (uint64_t)((max - old) / each) : 0;
		if (n > want)
			n = want;
		if (!n)
			return 0;
	} while (!atomic_compare_exchange_weak_explicit(&u->used[what], &old,
	                                                old + (int64_t)n * each,
	                                                memory_order_relaxed,
	                                                memory_order_relaxed));
	note_peak(u, what, old + (int64_t)n * each);
	return n;
}

uint64_t user_charge_some(struct user *u, enum user_count what, uint64_t each, uint64_t want)
{
	if (!u || !want)
		return want;
	return take(u, what, (int64_t)(each << shift_of(what)), want);
}

bool user_charge(struct user *u, enum user_count what, uint64_t n)
{
	return !n || user_charge_some(u, what, n, 1) == 1;
}

void user_charge_always(struct user *u, enum user_count what, uint64_t n)
{
	if (u && n)
		add(u, what, (int64_t)(n << shift_of(what)));
}

void user_uncharge(struct user *u, enum user_count what, uint64_t n)
{
	if (u && n)
		subtract(u, what, (int64_t)(n << shift_of(what)));
}

uint64_t user_charge_objects(struct user *u, uint64_t each, uint64_t want, enum user_count *what)
{
	uint64_t n, m;

	if (!u || !want)
		return want;
	n = take(u, USER_OBJECTS, 1, want);
	m = n ? take(u, USER_PAGES, (int64_t)each, n) : 0;
	*what = n < want ? USER_OBJECTS : USER_PAGES;
	if (m < n) {
		subtract(u, USER_OBJECTS, (int64_t)(n - m));
		*what = USER_PAGES;
	}
	return m;
}

void user_adjust_objects(struct user *u, int64_t objects, int64_t bytes)
{
	if (u && objects)
		add(u, USER_OBJECTS, objects);
	if (u && bytes)
		add(u, USER_PAGES, bytes);
}

bool user_limits(const struct user *u, enum user_count what)
{
	return u && atomic_load_explicit(&u->max[what], memory_order_relaxed);
}

void user_refused(struct user *u, enum user_count what)
{
	if (u)
		atomic_fetch_add_explicit(&u->refused[what], 1, memory_order_relaxed);
}

/* ---- reports ---- */

void user_usage(const struct user *u, struct user_usage *usage)
{
	unsigned int i;

	usage->uid = u->uid;
	for (i = 0; i < NR_USER_COUNTS; i++) {
		usage->used[i] = told(i, atomic_load_explicit(&u->used[i], memory_order_relaxed));
		usage->peak[i] = told(i, atomic_load_explicit(&u->peak[i], memory_order_relaxed));
		usage->max[i] = atomic_load_explicit(&u->max[i], memory_order_relaxed) >>
		                shift_of(i);
		usage->refused[i] = atomic_load_explicit(&u->refused[i], memory_order_relaxed);
	}
}

const char *user_section(const struct user *u, enum user_count what)
{
	const struct user_origin *o = origin_of(u);

	return o ? o->section[what] : "[user]";
}

const char *user_text(const struct user *u, enum user_count what, uint64_t more)
{
	static _Thread_local char text[256];
	const char *name = user_count_name(what);
	struct user_usage usage;

	user_usage(u, &usage);
	snprintf(text, sizeof(text),
	         "the sessions of user %u have %" PRIu64 " of the %" PRIu64 " %s that they may have "
	         "together; %" PRIu64 " more %s asked for: %s, or raise %s in %s of the "
	         "configuration",
	         u->uid, usage.used[what], usage.max[what], name, more, more == 1 ? "is" : "are",
	         about[what].advice, name, user_section(u, what));
	return text;
}

void user_each(struct user_table *t, user_each_fn fn, void *ctx)
{
	struct user_usage usage;
	struct user *u;

	if (!t)
		return;
	LOCK_SCOPED(&t->lock);
	TAILQ_FOREACH(u, &t->users, link) {
		user_usage(u, &usage);
		fn(ctx, &usage);
	}
}

/* ---- checking ---- */

static void add_session(void *ctx, struct session *s)
{
	struct kmmd *kmmd = ctx;
	int64_t *sum = s->user->sum;

	/* relaxed: those who change them stand still */
	sum[USER_PAGES] += (atomic_load_explicit(&s->charge, memory_order_relaxed) << PAGE_SHIFT) +
	                   atomic_load_explicit(&s->object_bytes, memory_order_relaxed);
	sum[USER_OBJECTS] += atomic_load_explicit(&s->objects, memory_order_relaxed);
	sum[USER_CACHES] += cache_count_of(kmmd->domain, s->id);
	sum[USER_CHANNELS] += atomic_load_explicit(&s->data_channels, memory_order_relaxed);
	sum[USER_CALLS] += atomic_load_explicit(&s->calls_in_flight, memory_order_relaxed);
	sum[USER_SESSIONS] += atomic_load_explicit(&s->record->word, memory_order_relaxed) != 0;
}

static void clear_sums(struct user_table *t)
{
	LOCK_SCOPED(&t->lock);
	struct user *u;
	unsigned int i;

	TAILQ_FOREACH(u, &t->users, link)
		for (i = 0; i < NR_USER_COUNTS; i++)
			u->sum[i] = 0;
}

size_t user_validate(struct kmmd *kmmd, mm_report_fn report, void *ctx)
{
	struct user_table *t = kmmd->users;
	size_t findings = 0;
	char text[160];
	struct user *u;
	unsigned int i;

	if (!t)
		return 0;
	clear_sums(t);
	session_each_user(kmmd->sessions, add_session, kmmd);
	LOCK_SCOPED(&t->lock);
	TAILQ_FOREACH(u, &t->users, link)
		for (i = 0; i < NR_USER_COUNTS; i++) {
			int64_t used = atomic_load_explicit(&u->used[i], memory_order_relaxed);

			if (used == u->sum[i])
				continue;
			snprintf(text, sizeof(text),
			         "user %u is charged %" PRId64 " %s, its sessions %" PRId64, u->uid,
			         used, i == USER_PAGES ? "bytes" : about[i].name, u->sum[i]);
			report(ctx, text);
			findings++;
		}
	return findings;
}
