/* SPDX-License-Identifier: MIT */
/*
 * The pool as a picture: a cell for each pageblock (2 MiB), or for several.
 *
 * A map is what GetMap and ListSessions told. A view decides what a cell looks like: a letter, for
 * terminals and files without colour, and a colour. report_map() draws it on a terminal, map_svg()
 * as an SVG file; both show the same colours and legend, the
 * terminal letters besides.
 */
#ifndef CLIENT_KMMCTL_MAP_H
#define CLIENT_KMMCTL_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "client/kmmctl/connection.h"

#define MAP_BLOCK_FRAMES 512u /* of a pageblock */

struct map {
	kmm_v1_MapCell *cell; /* by pageblock */
	size_t n;
	kmm_v1_Session *session;
	size_t nr_sessions;
};

/* Asks for both; to be freed by map_done() when OK. */
enum connection_result map_fetch(struct connection *c, const char *domain, struct map *ret);
void map_done(struct map *m);
/* NULL: it has ended meanwhile, or 0. */
const kmm_v1_Session *map_session(const struct map *m, uint32_t id);

/* ---- views (map_view.c) ---- */

enum map_by { MAP_BY_FULLNESS, MAP_BY_ZONE, MAP_BY_TYPE, MAP_BY_OWNER, MAP_NR_BY };
extern const char *const map_by_names[MAP_NR_BY];
extern const char *const map_zone_names[5];
extern const char *const map_type_names[5];
/* "zone", "metadata", … of MapCell.state */
const char *map_state_name(kmm_v1_Page_State state);

/* Neighbours of one section state, node and zone: a heading each. */
struct map_group {
	size_t first, n; /* pageblocks */
	uint64_t frames, free, cached;
};
/* The group that begins at pageblock `first`. */
void map_group_at(const struct map *m, size_t first, struct map_group *g);
/* "Node 0, zone Normal: 44M, 12M free" */
#define MAP_HEADING_SIZE 160u
const char *map_heading(char text[MAP_HEADING_SIZE], const struct map *m,
                        const struct map_group *g);

struct map_look {
	char letter;
	uint8_t hue;   /* of map_hues */
	uint8_t level; /* 0 pale … MAP_LEVELS - 1 full colour */
};
#define MAP_LEVELS 11u
#define MAP_HUES 21u
struct map_colour {
	uint8_t red, green, blue;
};
/* Of a hue at full level, good on dark and on light ground. */
extern const struct map_colour map_hues[MAP_HUES];
/* The colour of a look on dark or light ground. */
struct map_colour map_colour(const struct map_look *look, bool dark);

struct map_view {
	const struct map *map;
	enum map_by by;
	bool letterless; /* the legend speaks of colours alone: there are no letters */
	uint32_t owner[32]; /* sessions with letters, those that have most first; MAP_BY_OWNER */
	size_t owners;
};
void map_view_init(struct map_view *v, const struct map *m, enum map_by by);
/* Of pageblocks [first, first + n), which are of one group. */
struct map_look map_look(const struct map_view *v, size_t first, size_t n);
/* Line i of the legend; false: there are no more. */
#define MAP_LEGEND_SIZE 128u
bool map_legend(const struct map_view *v, size_t i, struct map_look *look,
                char text[MAP_LEGEND_SIZE]);
/* What a cell is, in words. */
#define MAP_TEXT_SIZE 400u
const char *map_text(char text[MAP_TEXT_SIZE], const struct map *m, size_t i);

/* ---- drawing ---- */

struct map_screen {
	unsigned int columns, lines;
	bool colour; /* 256 colours by ANSI sequences */
};
void report_map(FILE *out, const struct map_view *v, const struct map_screen *screen);
void map_svg(FILE *out, const struct map_view *v);

#endif
