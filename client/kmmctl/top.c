/* SPDX-License-Identifier: MIT */
/*
 * Samples, rates, order.
 *
 * The daemon counts, since a session was opened, its calls and refusals, the frames charged to it and
 * given back, and the objects that its calls brought and gave back. A rate is the difference of two
 * samples by the time between their arrivals here. A session is the same in both when number, opening
 * time and process agree (numbers are used again); of one that came in between there are no rates yet.
 *
 * What threads allocate from and free to their own caches never reaches the daemon, so it is in no
 * rate: these tell how much the daemon has to do for a session, and how fast its memory turns over.
 */
#include "client/kmmctl/top.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAME UINT64_C(4096)

const char *const top_key_names[TOP_NR_KEYS] = {
	"id",   "pid",    "mem",     "cached",  "objects", "calls",  "alloc",
	"free", "obj-in", "obj-out", "refused", "parked",  "name",
};

bool top_key_find(const char *name, enum top_key *ret)
{
	for (unsigned int k = 0; k < TOP_NR_KEYS; k++) {
		if (strcmp(name, top_key_names[k]) == 0) {
			*ret = (enum top_key)k;
			return true;
		}
	}
	return false;
}

/* ---- samples ---- */

enum connection_result top_sample_take(struct connection *c, const char *domain,
                                       struct top_sample *ret)
{
	struct top_sample s = { .taken = true };
	enum connection_result result = fetch_pool(c, &s.pool);
	struct timespec t;

	if (result == CONNECTION_OK)
		result = fetch_sessions(c, domain, &s.session, &s.n);
	if (result != CONNECTION_OK)
		return result;
	clock_gettime(CLOCK_MONOTONIC, &t);
	s.at_ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	top_sample_drop(ret);
	*ret = s;
	return CONNECTION_OK;
}

void top_sample_drop(struct top_sample *s)
{
	free(s->session);
	memset(s, 0, sizeof(*s));
}

/* Samples are of tens of sessions, and the same one mostly has the same place. */
static const kmm_v1_Session *find(const struct top_sample *s, const kmm_v1_Session *like, size_t at)
{
	for (size_t i = 0; i < s->n; i++) {
		const kmm_v1_Session *o = &s->session[(at + i) % s->n];

		if (o->id == like->id && o->opened == like->opened && o->pid == like->pid)
			return o;
	}
	return NULL;
}

/* ---- rates ---- */

/* Counters of a session whose daemon started anew begin again. */
static double rate(uint64_t before, uint64_t now, double seconds)
{
	return now > before ? (double)(now - before) / seconds : 0;
}

static void row_fill(struct top_row *r, const kmm_v1_Session *before, const kmm_v1_Session *now,
                     double seconds)
{
	*r = (struct top_row){ .session = now };
	if (!before || seconds <= 0)
		return;
	r->rated = true;
	r->calls = rate(before->calls, now->calls, seconds);
	r->refused = rate(before->refused, now->refused, seconds);
	r->alloc = rate(before->frames_had, now->frames_had, seconds);
	r->freed = rate(before->frames_back, now->frames_back, seconds);
	r->objects_in = rate(before->objects_had, now->objects_had, seconds);
	r->objects_out = rate(before->objects_back, now->objects_back, seconds);
}

/* ---- order ---- */

static double key_value(const struct top_row *r, enum top_key key)
{
	const kmm_v1_Session *s = r->session;

	switch (key) {
	case TOP_ID:
		return s->id;
	case TOP_PID:
		return s->pid;
	case TOP_MEM:
		return (double)(s->granted * FRAME + s->object_bytes);
	case TOP_CACHED:
		return (double)s->cached;
	case TOP_OBJECTS:
		return (double)s->objects;
	case TOP_CALLS:
		return r->calls;
	case TOP_ALLOC:
		return r->alloc;
	case TOP_FREE:
		return r->freed;
	case TOP_OBJ_IN:
		return r->objects_in;
	case TOP_OBJ_OUT:
		return r->objects_out;
	case TOP_REFUSED:
		return r->refused;
	case TOP_PARKED:
		return s->parked;
	default:
		return 0;
	}
}

/* Names, numbers and processes from the least on, all else the most first. */
static bool rises(enum top_key key)
{
	return key == TOP_ID || key == TOP_PID || key == TOP_NAME;
}

static int compare(const void *a, const void *b, void *ctx)
{
	const struct top *t = ctx;
	const struct top_row *x = a, *y = b;
	double m = key_value(x, t->key), n = key_value(y, t->key);
	int order = (m > n) - (m < n);

	if (t->key == TOP_NAME)
		order = strcmp(x->session->name, y->session->name);
	if (rises(t->key) == t->reverse)
		order = -order;
	return order ? order :
	               (x->session->id > y->session->id) - (x->session->id < y->session->id);
}

bool top_make(struct top *t, const struct top_sample *before, const struct top_sample *now,
              enum top_key key, bool reverse)
{
	*t = (struct top){ .now = now, .key = key, .reverse = reverse, .n = now->n };
	t->row = calloc(now->n + 1, sizeof(t->row[0]));
	if (!t->row)
		return false;
	if (before->taken && now->at_ns > before->at_ns)
		t->seconds = (double)(now->at_ns - before->at_ns) / 1e9;
	for (size_t i = 0; i < now->n; i++) {
		const kmm_v1_Session *s = &now->session[i];
		struct top_row *r = &t->row[i];

		row_fill(r, find(before, s, i), s, t->seconds);
		t->calls += r->calls;
		t->alloc += r->alloc;
		t->freed += r->freed;
	}
	qsort_r(t->row, t->n, sizeof(t->row[0]), compare, t);
	return true;
}

void top_done(struct top *t)
{
	free(t->row);
}

size_t top_scroll(size_t first, enum top_move move, size_t n, size_t room)
{
	size_t last = n > room ? n - room : 0, page = room > 1 ? room : 1;

	switch (move) {
	case TOP_STAY:
		break;
	case TOP_UP:
		first -= first > 0;
		break;
	case TOP_DOWN:
		first++;
		break;
	case TOP_PAGE_UP:
		first -= first < page ? first : page;
		break;
	case TOP_PAGE_DOWN:
		first += page;
		break;
	case TOP_HOME:
		first = 0;
		break;
	case TOP_END:
		first = last;
		break;
	}
	return first < last ? first : last;
}
