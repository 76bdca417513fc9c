/* SPDX-License-Identifier: MIT */
/*
 * The command top: sample, show, wait for the time or a key, again.
 *
 * On a terminal it shows what there is at once, and rates from the second sample on; keys change the
 * order, and a daemon that goes away is reported in its place and waited for. In batch mode (-b,
 * --once, --count, --json, or no terminal) each frame has rates: the first comes one interval after the
 * start. Where a number of samples was asked for, a daemon that goes away ends the program.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client/kmmctl/command_private.h"
#include "client/kmmctl/screen.h"
#include "client/kmmctl/top.h"

#define INTERVAL_DEFAULT 2.0

struct run {
	struct command_context *x;
	struct top_sample before, now;
	enum top_key key;
	bool reverse;
	size_t first; /* row on the screen */
	enum top_move move; /* what the last key wants of it */
	double interval;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static enum connection_result sample(struct run *r)
{
	struct top_sample s = { .taken = false };
	enum connection_result result = CONNECTION_OK;

	if (!r->x->connection)
		result = command_connect(r->x);
	if (result == CONNECTION_OK)
		result = top_sample_take(r->x->connection, r->x->domain, &s);
	if (result != CONNECTION_OK)
		return result;
	top_sample_drop(&r->before);
	r->before = r->now;
	r->now = s;
	return CONNECTION_OK;
}

/* ---- in batches ---- */

static void pause_for(double seconds)
{
	struct timespec t = { .tv_sec = (time_t)seconds };

	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
		;
}

static enum kmmctl_status print_frame(struct run *r)
{
	enum kmmctl_status status = KMMCTL_DONE;
	struct top t;

	if (!top_make(&t, &r->before, &r->now, r->key, r->reverse)) {
		fputs("kmmctl: out of memory\n", stderr);
		return KMMCTL_FAILED;
	}
	if (r->x->json)
		status = command_print_json(r->x, json_top(&t));
	else
		report_top(r->x->out, &t, NULL, false);
	top_done(&t);
	return status;
}

/* count 0: until the output takes no more. */
static enum kmmctl_status batch(struct run *r, uint32_t count)
{
	enum connection_result result = sample(r);
	enum kmmctl_status status = KMMCTL_DONE;

	if (count != 1)
		r->x->lines = true;
	for (uint32_t i = 0; count == 0 || i < count; i++) {
		if (result != CONNECTION_OK) {
			status = command_failed(r->x, result);
			if (count)
				return status;
		}
		pause_for(r->interval);
		result = sample(r);
		if (result != CONNECTION_OK)
			continue;
		if (i > 0 && !r->x->json)
			fputs("---\n", r->x->out);
		status = print_frame(r);
		if (fflush(r->x->out) == EOF || ferror(r->x->out))
			break;
	}
	return result == CONNECTION_OK ? status : command_failed(r->x, result);
}

/* ---- on a terminal ---- */

static bool draw(struct run *r, enum connection_result result)
{
	unsigned int above = TOP_HEAD_LINES + (result == CONNECTION_OK ? 0 : 3);
	unsigned int columns = 80, lines = 24;
	char clock[16] = "", *text = NULL;
	time_t seconds = time(NULL);
	size_t size;
	struct tm tm;
	struct top t;
	FILE *out;
	bool good;

	out = open_memstream(&text, &size);
	if (!out)
		return false;
	if (localtime_r(&seconds, &tm))
		strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	if (result != CONNECTION_OK) {
		fprintf(out, "kmmctl top at %s: %s\nq quits; else it is tried again\n\n", clock,
		        connection_error(r->x->connection));
	}
	if (r->now.taken && top_make(&t, &r->before, &r->now, r->key, r->reverse)) {
		screen_size(&columns, &lines);
		t.first = r->first = top_scroll(r->first, r->move, t.n,
		                                lines > above ? lines - above : 0);
		r->move = TOP_STAY;
		report_top(out, &t, clock, true);
		top_done(&t);
	}
	good = fclose(out) == 0 && screen_draw(text);
	free(text);
	return good;
}

enum action { REDRAW, AGAIN, QUIT };

static enum top_move move_of(int key)
{
	switch (key) {
	case SCREEN_UP:
	case 'k':
		return TOP_UP;
	case SCREEN_DOWN:
	case 'j':
		return TOP_DOWN;
	case SCREEN_PAGE_UP:
		return TOP_PAGE_UP;
	case SCREEN_PAGE_DOWN:
		return TOP_PAGE_DOWN;
	case SCREEN_HOME:
		return TOP_HOME;
	case SCREEN_END:
		return TOP_END;
	default:
		return TOP_STAY;
	}
}

static enum action on_key(struct run *r, int key)
{
	r->move = move_of(key);
	switch (key) {
	case 'q':
	case 'Q':
	case 4: /* Ctrl-D */
	case SCREEN_CLOSED:
		return QUIT;
	case '>':
	case '.':
		r->key = (enum top_key)((r->key + 1) % TOP_NR_KEYS);
		return REDRAW;
	case '<':
	case ',':
		r->key = (enum top_key)((r->key + TOP_NR_KEYS - 1) % TOP_NR_KEYS);
		return REDRAW;
	case 'R':
	case 'r':
		r->reverse = !r->reverse;
		return REDRAW;
	case ' ':
	case SCREEN_TIMEOUT:
		return AGAIN;
	default:
		return REDRAW;
	}
}

static enum kmmctl_status interactive(struct run *r)
{
	enum action action = AGAIN;

	while (action != QUIT) {
		enum connection_result result = sample(r);
		uint64_t until = now_ms() + (uint64_t)(r->interval * 1000);

		do {
			uint64_t now = now_ms();

			if (!draw(r, result))
				return KMMCTL_FAILED;
			action = now < until ? on_key(r, screen_key((int)(until - now))) : AGAIN;
		} while (action == REDRAW);
		if (result != CONNECTION_OK)
			command_broke(r->x, result);
	}
	return KMMCTL_DONE;
}

enum kmmctl_status command_top(struct command_context *x)
{
	struct run r = { .x = x,
		         .key = TOP_MEM,
		         .interval = x->interval > 0 ? x->interval : INTERVAL_DEFAULT };
	bool in_batch = x->batch || x->count || x->json;
	enum kmmctl_status status;

	if (x->sort && !top_key_find(x->sort, &r.key))
		return KMMCTL_USAGE;
	if (!in_batch && screen_enter()) {
		status = interactive(&r);
		screen_leave();
	} else {
		/* what is no terminal is not filled without end, unless asked to */
		status = batch(&r, x->batch && !x->count ? 0 : x->count ? x->count : 1);
	}
	top_sample_drop(&r.before);
	top_sample_drop(&r.now);
	return status;
}
