/* SPDX-License-Identifier: MIT */
/*
 * The commands page, map and frag.
 *
 * A map goes to the terminal, to an SVG file, or out as JSON. The file is written beside its place and
 * renamed, so that who watches it never sees half a picture.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/kmmctl/command_private.h"
#include "client/kmmctl/frag.h"
#include "client/kmmctl/json_inspect.h"
#include "client/kmmctl/map.h"
#include "client/kmmctl/page.h"
#include "client/kmmctl/screen.h"

#define COLUMNS_DEFAULT 80u
#define LINES_DEFAULT 50u /* of what is no terminal */

/* ---- page ---- */

bool command_parse_page(const char *text, uint32_t *page)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = text + (hex ? 2 : 0);
	unsigned long value;
	char *end;

	if (!*digits || strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789") != strlen(digits))
		return false;
	errno = 0;
	value = strtoul(digits, &end, hex ? 16 : 10);
	if (errno || *end || value > UINT32_MAX)
		return false;
	*page = (uint32_t)value;
	return true;
}

enum kmmctl_status command_page(struct command_context *x)
{
	enum connection_result result;
	uint32_t page = 0;
	kmm_v1_Page p;

	if (!command_parse_page(x->argument, &page))
		return KMMCTL_USAGE;
	result = page_fetch(x->connection, page, &p);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	if (x->json)
		return command_print_json(x, json_page(&p));
	report_page(x->out, &p);
	return KMMCTL_DONE;
}

/* ---- map ---- */

static bool wants_colour(const struct command_context *x)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (x->colour != COMMAND_COLOUR_AUTO)
		return x->colour == COMMAND_COLOUR_ALWAYS;
	return isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static enum kmmctl_status cannot_write(const char *path)
{
	fprintf(stderr, "kmmctl: cannot write %s: %s\n", path, strerror(errno));
	return KMMCTL_FAILED;
}

static enum kmmctl_status write_svg(const char *path, const struct map_view *v)
{
	char *beside = NULL;
	bool good;
	FILE *out;

	if (asprintf(&beside, "%s.%ld", path, (long)getpid()) < 0) {
		errno = ENOMEM;
		return cannot_write(path);
	}
	out = fopen(beside, "w");
	if (!out) {
		free(beside);
		return cannot_write(path);
	}
	map_svg(out, v);
	good = !ferror(out);
	good = fclose(out) == 0 && good && rename(beside, path) == 0;
	if (!good) {
		int error = errno;

		unlink(beside);
		errno = error;
	}
	free(beside);
	return good ? KMMCTL_DONE : cannot_write(path);
}

enum kmmctl_status command_map(struct command_context *x)
{
	struct map_screen screen = { COLUMNS_DEFAULT, LINES_DEFAULT, wants_colour(x) };
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	struct map_view v;
	struct map m;

	result = map_fetch(x->connection, x->domain, &m);
	if (result != CONNECTION_OK)
		return command_failed(x, result);
	map_view_init(&v, &m, x->by);
	if (x->json) {
		status = command_print_json(x, json_map(&m));
	} else if (x->svg && strcmp(x->svg, "-") == 0) {
		map_svg(x->out, &v);
	} else if (x->svg) {
		status = write_svg(x->svg, &v);
	} else {
		screen_size(&screen.columns, &screen.lines);
		report_map(x->out, &v, &screen);
	}
	map_done(&m);
	return status;
}

/* ---- frag ---- */

enum kmmctl_status command_frag(struct command_context *x)
{
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;
	struct report_zone *zone = NULL;
	kmm_v1_Cache *cache = NULL;
	size_t zones = 0, caches = 0;
	kmm_v1_Pool pool;
	struct frag f;

	result = fetch_pool(x->connection, &pool);
	if (result == CONNECTION_OK)
		result = fetch_zones(x->connection, x->domain, &zone, &zones);
	if (result == CONNECTION_OK)
		result = fetch_caches(x->connection, x->domain, &cache, &caches);
	if (result != CONNECTION_OK) {
		status = command_failed(x, result);
	} else if (!frag_make(&f, zone, zones, cache, caches, &pool)) {
		fputs("kmmctl: out of memory\n", stderr);
		status = KMMCTL_FAILED;
	} else {
		if (x->json)
			status = command_print_json(x, json_frag(&f));
		else
			report_frag(x->out, &f);
		frag_done(&f);
	}
	free(zone);
	free(cache);
	return status;
}
