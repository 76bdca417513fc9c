/* SPDX-License-Identifier: MIT */
/*
 * Rate limits of lines that users cause.
 *
 * Each pair of a kind of event and a user has a budget of its own: so many lines in a window of a
 * minute, which begins with its first line. What is beyond is counted, and told by the first line
 * after the window, or by log_tick() when none comes. So a user who has his calls refused without end
 * neither fills the log, nor hides what happens to others, nor what else happens to himself.
 *
 * Structure. A table of SETS sets of WAYS entries; a pair belongs into one set, by a hash with a seed
 * that nobody can guess. An entry whose window is over and told is free. When all of a set are in use
 * (thousands of users at once) the pair shares an entry of its kind with all others like it: the log
 * stays bounded, and who is left out is counted with strangers.
 *
 * Locking: one mutex, a leaf: nothing is called under it. Costs O(WAYS) a line that a user causes.
 */
#include "daemon/log_rate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#define SETS 256u
#define WAYS 8u

struct entry {
	uint64_t since; /* 0: free */
	uid_t uid;
	enum log_kind kind;
	uint32_t lines, left_out;
};

static struct {
	pthread_mutex_t lock;
	bool seeded;
	uint32_t seed;
	uint32_t left; /* entries with lines left out, at most: 0 spares the tick a look at all */
	struct entry set[SETS][WAYS];
	struct entry others[NR_LOG_KINDS];
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Read without the lock: relaxed, a number guards nothing. */
static _Atomic uint32_t limits[NR_LOG_LIMITS];
static _Atomic uint64_t left_out_total[NR_LOG_KINDS];

void log_rate_set(enum log_limit limit, uint32_t lines)
{
	atomic_store_explicit(&limits[limit], lines, memory_order_relaxed);
}

/* Another thread's look at the clock may be a little behind. */
static bool window_over(const struct entry *e, uint64_t now)
{
	return now > e->since && now - e->since >= LOG_RATE_WINDOW_NS;
}

/* All below: under the lock. */

static uint32_t set_of(enum log_kind kind, uid_t uid)
{
	uint32_t h;

	if (!table.seeded) {
		if (getrandom(&table.seed, sizeof(table.seed), GRND_NONBLOCK) !=
		    sizeof(table.seed))
			table.seed = (uint32_t)(uintptr_t)&h; /* early at boot: the stack's place */
		table.seeded = true;
	}
	h = (uid ^ table.seed) * UINT32_C(2654435761);
	h = (h ^ h >> 15 ^ (uint32_t)kind) * UINT32_C(2246822519);
	return (h ^ h >> 13) % SETS;
}

static struct entry *entry_find(enum log_kind kind, uid_t uid, uint64_t now)
{
	struct entry *set = table.set[set_of(kind, uid)], *unused = NULL;

	for (uint32_t i = 0; i < WAYS; i++) {
		struct entry *e = &set[i];

		if (e->since && e->kind == kind && e->uid == uid)
			return e;
		if (!unused && (!e->since || (!e->left_out && window_over(e, now))))
			unused = e;
	}
	if (!unused)
		return &table.others[kind];
	*unused = (struct entry){ .uid = uid, .kind = kind };
	return unused;
}

bool log_rate_allow(enum log_kind kind, uid_t uid, uint64_t now_ns, uint32_t *left_out)
{
	uint32_t most = atomic_load_explicit(&limits[log_kind_about(kind)->limit],
	                                     memory_order_relaxed);
	struct entry *e;
	bool may;

	*left_out = 0;
	if (log_kind_about(kind)->limit == LOG_UNLIMITED || !most)
		return true;
	pthread_mutex_lock(&table.lock);
	e = entry_find(kind, uid, now_ns);
	if (!e->since || window_over(e, now_ns)) {
		*left_out = e->left_out;
		table.left -= e->left_out != 0;
		e->kind = kind;
		e->since = now_ns ? now_ns : 1;
		e->lines = 0;
		e->left_out = 0;
	}
	may = e->lines < most;
	if (may) {
		e->lines++;
	} else {
		table.left += e->left_out == 0;
		if (e->left_out < UINT32_MAX)
			e->left_out++;
		atomic_fetch_add_explicit(&left_out_total[kind], 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&table.lock);
	return may;
}

uint64_t log_rate_left_out(enum log_kind kind)
{
	return atomic_load_explicit(&left_out_total[kind], memory_order_relaxed);
}

static bool entry_take_left(struct entry *e, uint64_t now, struct log_rate_left *left)
{
	if (!e->since || !e->left_out || !window_over(e, now))
		return false;
	left->kind = e->kind;
	left->uid = e->uid;
	left->lines = e->left_out;
	*e = (struct entry){ 0 };
	table.left--;
	return true;
}

bool log_rate_take_left(uint64_t now_ns, struct log_rate_left *left)
{
	bool found = false;

	pthread_mutex_lock(&table.lock);
	if (!table.left)
		goto out;
	left->user = true;
	for (uint32_t i = 0; i < SETS * WAYS && !found; i++)
		found = entry_take_left(&table.set[i / WAYS][i % WAYS], now_ns, left);
	if (found)
		goto out;
	left->user = false;
	for (uint32_t i = 0; i < NR_LOG_KINDS && !found; i++)
		found = entry_take_left(&table.others[i], now_ns, left);
out:
	pthread_mutex_unlock(&table.lock);
	return found;
}
