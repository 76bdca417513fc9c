/* SPDX-License-Identifier: MIT */
/*
 * top: who has how much, and who is busy. Rates are differences of two samples (top.c), shown by
 * report_top(); screen.h has the terminal, command_top.c the loop.
 */
#ifndef CLIENT_KMMCTL_TOP_H
#define CLIENT_KMMCTL_TOP_H

#include <json-c/json.h>

#include "client/kmmctl/fetch.h"

struct top_sample {
	bool taken;
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	kmm_v1_Pool pool;
	kmm_v1_Session *session;
	size_t n;
};

/* Takes the place of what *ret was (zeroed at first); untouched when the result is not OK. */
enum connection_result top_sample_take(struct connection *c, const char *domain,
                                       struct top_sample *ret);
/* Zeroed again. */
void top_sample_drop(struct top_sample *s);

enum top_key {
	TOP_ID,
	TOP_PID,
	TOP_MEM,
	TOP_CACHED,
	TOP_OBJECTS,
	TOP_CALLS,
	TOP_ALLOC,
	TOP_FREE,
	TOP_OBJ_IN,
	TOP_OBJ_OUT,
	TOP_REFUSED,
	TOP_PARKED,
	TOP_NAME,
	TOP_NR_KEYS,
};
extern const char *const top_key_names[TOP_NR_KEYS];
/* False: there is no such key. */
bool top_key_find(const char *name, enum top_key *ret);

/* A session with its rates, a second. */
struct top_row {
	const kmm_v1_Session *session;
	bool rated; /* it was in the sample before, too */
	double calls, refused, alloc, freed; /* frames */
	double objects_in, objects_out;
};

/* A frame of top: rows point into `now`. `before` may be one that was not taken: no rates then. */
struct top {
	const struct top_sample *now;
	double seconds; /* between the samples; 0: there is one only */
	enum top_key key;
	bool reverse;
	struct top_row *row;
	size_t n;
	size_t first; /* the row that is shown first; 0 from top_make() */
	double calls, alloc, freed; /* of all */
};
/* False: out of memory. To be ended by top_done(). */
bool top_make(struct top *t, const struct top_sample *before, const struct top_sample *now,
              enum top_key key, bool reverse);
void top_done(struct top *t);

/* Of what report_top() prints, the lines above the first row. */
#define TOP_HEAD_LINES 8u

enum top_move { TOP_STAY, TOP_UP, TOP_DOWN, TOP_PAGE_UP, TOP_PAGE_DOWN, TOP_HOME, TOP_END };
/* The row to show first, of n on `room` lines: moved, and so that no line stays empty that has
 * a row. */
size_t top_scroll(size_t first, enum top_move move, size_t n, size_t room);

/* `clock` is the time of day, or NULL: none is shown. interactive: with a line of keys. */
void report_top(FILE *out, const struct top *t, const char *clock, bool interactive);
struct json_object *json_top(const struct top *t);

#endif
