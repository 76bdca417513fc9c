/* SPDX-License-Identifier: MIT */
/*
 * The last failure of each session.
 *
 * Concept: who is refused memory hears one line, and when somebody asks, a minute later, the pool looks
 * otherwise. So the state that explains the refusal is noted where it is decided (service_wait.c), once,
 * when nothing more will be tried: what was asked, which quota was met, or what each zone had and had to
 * keep. Only the last failure of a session is kept, and how many there were.
 *
 * What would take a walk is not noted: who has the memory is found out when somebody asks
 * (service_explain.c), and by then may have changed; what can be had at once (zones, depots, slabs) is.
 *
 * Reasons. A quota is what the charge met (charge_obstacle()). Memory: the zones are asked once more
 * (mm/explain.h). When all say that such a block can never be had, it is IMPOSSIBLE; when one has enough
 * free frames and no block, and the fragmentation index of the order says so, FRAGMENTATION; when one
 * could serve it by now, PASSED; else LACK.
 *
 * Structure: an array of pointers by session id; a record is allocated with the first failure of an id
 * and stays for the next session with that id, so a table is bounded by the sessions that there were at
 * once. A record belongs to the session whose token it carries.
 *
 * Locking: LOCK_RANK_FAILURE while a record is read or written. Complexity: O(zones that may serve).
 */
#include "daemon/failure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/cache.h"
#include "daemon/depot.h"
#include "daemon/options.h"
#include "daemon/peak.h"
#include "daemon/wait_queue.h"
#include "mm/lock.h"
#include "mm/slab.h"

struct failure_record {
	uint8_t token[16]; /* of the session */
	struct failure f;
};

struct failure_table {
	struct lock lock;
	uint32_t size;
	struct failure_record *of[]; /* by id; guarded by the lock */
};

int failure_table_new(struct failure_table **ret, uint32_t sessions)
{
	struct failure_table *t = calloc(1, sizeof(*t) + sessions * sizeof(t->of[0]));

	if (!t)
		return -ENOMEM;
	lock_init(&t->lock, LOCK_RANK_FAILURE);
	t->size = sessions;
	*ret = t;
	return 0;
}

struct failure_table *failure_table_free(struct failure_table *t)
{
	uint32_t i;

	for (i = 0; t && i < t->size; i++)
		free(t->of[i]);
	free(t);
	return NULL;
}

/* ---- what to note ---- */

static bool is_scattered(const struct mm_zone_look *l, uint32_t order)
{
	return l->verdict == MM_ZONE_NO_BLOCK &&
	       mm_fragmentation_index(l->nr_free, order) > MM_INDEX_SCATTERED;
}

static enum failure_reason reason_of(const struct failure *f, uint32_t order)
{
	uint32_t n = f->zones < FAILURE_ZONES ? f->zones : FAILURE_ZONES, small = 0, i;
	bool scattered = false, serves = false;

	for (i = 0; i < n; i++) {
		small += f->zone[i].verdict == MM_ZONE_SMALL;
		serves |= f->zone[i].verdict == MM_ZONE_SERVES;
		scattered |= is_scattered(&f->zone[i], order);
	}
	if (small == f->zones)
		return FAILURE_IMPOSSIBLE;
	if (serves)
		return FAILURE_PASSED;
	return scattered ? FAILURE_FRAGMENTATION : FAILURE_LACK;
}

static void note_memory(struct failure *f, const struct domain *d, const struct failure_about *a)
{
	f->zones = mm_request_look(d->zones, a->request, f->zone, FAILURE_ZONES);
	f->depot = depot_frames(d->depot);
	f->slab = slab_frames(d->slabs);
	f->waiting = wait_queue_waiting(d->waiters);
	if (!f->reason)
		f->reason = reason_of(f, a->request->order);
}

/* relaxed: numbers for a report */
static void note_session_quota(struct failure *f, const struct session *s)
{
	int64_t bytes = atomic_load_explicit(&s->object_bytes, memory_order_relaxed),
		used = atomic_load_explicit(&s->charge, memory_order_relaxed);
	const struct options *o = s->kmmd->options;

	f->reason = FAILURE_SESSION_QUOTA;
	snprintf(f->section, sizeof(f->section), "[limits]");
	switch (f->quota) {
	case USER_OBJECTS:
		used = atomic_load_explicit(&s->objects, memory_order_relaxed);
		f->limit = atomic_load_explicit(&s->objects_max, memory_order_relaxed);
		break;
	case USER_CALLS:
		used = atomic_load_explicit(&s->calls_in_flight, memory_order_relaxed);
		f->limit = OPTION(o, calls_max);
		break;
	case USER_CACHES:
		used = cache_count_of(s->kmmd->domain, s->id);
		f->limit = OPTION(o, caches_max);
		break;
	default:
		used += (bytes > 0 ? bytes : 0) / GRANT_FRAME + (bytes > 0 && bytes % GRANT_FRAME);
		f->limit = atomic_load_explicit(&s->pages_max, memory_order_relaxed);
		break;
	}
	f->used = used > 0 ? (uint64_t)used : 0;
}

static void note_user_quota(struct failure *f, const struct user *u)
{
	struct user_usage usage;

	user_usage(u, &usage);
	f->reason = FAILURE_USER_QUOTA;
	snprintf(f->section, sizeof(f->section), "%s", user_section(u, f->quota));
	f->used = usage.used[f->quota];
	f->limit = usage.max[f->quota];
}

static const char *method_name(const char *method)
{
	const char *slash = strrchr(method, '/');

	return slash ? slash + 1 : method;
}

static void fill(struct failure *f, struct session *s, const struct failure_about *a)
{
	*f = (struct failure){ .reason = a->reason,
		               .when = (uint64_t)time(NULL),
		               .waited_ms = a->waited_ms,
		               .method = method_name(a->method),
		               .gfp = a->gfp,
		               .order = a->order,
		               .pages = a->pages,
		               .cache = a->cache,
		               .life = a->life,
		               .node = a->node,
		               .rc = a->rc,
		               .more = a->more };
	snprintf(f->text, sizeof(f->text), "%s", a->why ? a->why : "");
	if (a->obstacle) {
		f->quota = a->obstacle->what;
		if (a->obstacle->user)
			note_user_quota(f, a->obstacle->user);
		else
			note_session_quota(f, s);
	} else if (a->request) {
		note_memory(f, s->kmmd->domain, a);
	}
}

/* ---- keeping it ---- */

/* Under the lock. NULL: there is no memory for it. */
static struct failure_record *record_of(struct failure_table *t, const struct session *s)
{
	struct failure_record *r = t->of[s->id];

	if (!r)
		r = t->of[s->id] = calloc(1, sizeof(*r));
	if (r && memcmp(r->token, s->record->token, sizeof(r->token)) != 0) {
		memcpy(r->token, s->record->token, sizeof(r->token));
		r->f.count = 0;
	}
	return r;
}

void failure_note(struct session *s, const struct failure_about *a)
{
	struct failure_table *t = s->kmmd->failures;
	struct failure_record *r;
	struct failure f;

	if (!t || s->id >= t->size)
		return;
	fill(&f, s, a);
	peak_failure(s->kmmd->peak, &f);
	LOCK_SCOPED(&t->lock);
	r = record_of(t, s);
	if (!r)
		return;
	f.count = r->f.count + 1;
	r->f = f;
}

bool failure_get(struct session *s, struct failure *ret)
{
	struct failure_table *t = s->kmmd->failures;
	const struct failure_record *r;

	if (!t || s->id >= t->size)
		return false;
	LOCK_SCOPED(&t->lock);
	r = t->of[s->id];
	if (!r || memcmp(r->token, s->record->token, sizeof(r->token)) != 0)
		return false;
	*ret = r->f;
	return true;
}
