/* SPDX-License-Identifier: MIT */
/*
 * What a cell of the map looks like, by what it is asked for.
 *
 *   by        letter                                  hue, level
 *   fullness  . nothing used, 1..9 tenths, # all      the zone's, by tenths
 *   zone      the zone's                              the zone's, full
 *   type      the migrate type's, small when free     the type's, pale when free
 *   owner     the session's that has most of it       the session's, full
 *
 * Pageblocks outside the zones look the same in every view: = metadata, ~ in no domain, x lost.
 * What counts as used is what is not on the free lists or per-CPU lists: what threads cache is used,
 * as in meminfo.
 */
#include "client/kmmctl/map.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *const map_by_names[MAP_NR_BY] = { "fullness", "zone", "type", "owner" };
enum hue {
	HUE_ZONE = 0, /* and the zone */
	HUE_NONE = 5, /* what is nobody's */
	HUE_LOST = 6,
	HUE_METADATA = 7,
	HUE_TYPE = 8,   /* and the type */
	HUE_OWNER = 13, /* and more */
	HUE_OWNERS = MAP_HUES - HUE_OWNER,
};

const struct map_colour map_hues[MAP_HUES] = {
	{ 0xe8, 0x59, 0x0c }, { 0xe0, 0xa1, 0x00 }, { 0x2b, 0x9e, 0x4a }, /* DMA DMA32 Normal */
	{ 0x1c, 0x7e, 0xd6 }, { 0x9c, 0x46, 0xc5 },                       /* HighMem Movable */
	{ 0x86, 0x8e, 0x96 }, { 0xe0, 0x31, 0x31 }, { 0x4c, 0x5b, 0x7a },
	{ 0xd6, 0x55, 0x3c }, { 0x3b, 0x8e, 0xd6 }, { 0x39, 0xa8, 0x5b }, /* U M R */
	{ 0xd6, 0x9e, 0x2e }, { 0x86, 0x8e, 0x96 },                       /* H I */
	{ 0x3b, 0x8e, 0xd6 }, { 0xe8, 0x77, 0x2e }, { 0x39, 0xa8, 0x5b }, { 0xd6, 0x4f, 0x6a },
	{ 0x8f, 0x6b, 0xd6 }, { 0x2a, 0xa8, 0xa8 }, { 0xc9, 0x9a, 0x1e }, { 0xa3, 0x6a, 0x4a },
};

static bool in_zone(const kmm_v1_MapCell *c)
{
	return c->state == kmm_v1_Page_State_BLOCK;
}

/* ---- views ---- */

static int by_frames(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b; /* frames, id */

	return x[0] != y[0] ? (x[0] < y[0] ? 1 : -1) : (x[1] > y[1]) - (x[1] < y[1]);
}

/* Frames of cells in which the session has most, by session. */
static void find_owners(struct map_view *v)
{
	const struct map *m = v->map;
	uint64_t(*sum)[2] = calloc(m->nr_sessions + 1, sizeof(*sum));

	if (!sum)
		return; /* all look like others */
	for (size_t i = 0; i < m->nr_sessions; i++)
		sum[i][1] = m->session[i].id;
	for (size_t i = 0; i < m->n; i++) {
		const kmm_v1_Session *s = map_session(m, m->cell[i].owner);

		if (s)
			sum[s - m->session][0] += m->cell[i].owner_frames;
	}
	qsort(sum, m->nr_sessions, sizeof(*sum), by_frames);
	for (size_t i = 0; i < m->nr_sessions && v->owners < 26 && sum[i][0]; i++)
		v->owner[v->owners++] = (uint32_t)sum[i][1];
	free(sum);
}

void map_view_init(struct map_view *v, const struct map *m, enum map_by by)
{
	*v = (struct map_view){ .map = m, .by = by };
	if (by == MAP_BY_OWNER)
		find_owners(v);
}

static uint8_t level_of(uint64_t used, uint64_t frames)
{
	uint64_t tenths = used * 10 / frames;

	if (used == 0 || used == frames)
		return used ? MAP_LEVELS - 1 : 0;
	return (uint8_t)(tenths < 1 ? 1 : tenths);
}

static char fullness_letter(uint8_t level)
{
	return level == 0 ? '.' : level == MAP_LEVELS - 1 ? '#' : (char)('0' + level);
}

/* The most frequent type of the cells. */
static uint32_t type_of(const kmm_v1_MapCell cell[], size_t n)
{
	size_t count[5] = { 0 };
	uint32_t most = 0;

	for (size_t i = 0; i < n; i++)
		count[cell[i].type]++;
	for (uint32_t t = 1; t < 5; t++)
		if (count[t] > count[most])
			most = t;
	return most;
}

/* Index in v->owner of who has most of the cells; v->owners: somebody without a letter; -1: no
 * session. */
static int owner_of(const struct map_view *v, const kmm_v1_MapCell cell[], size_t n)
{
	uint64_t sum[33] = { 0 };
	size_t most = 0;

	for (size_t i = 0; i < n; i++) {
		size_t k = 0;

		if (!cell[i].owner)
			continue;
		while (k < v->owners && v->owner[k] != cell[i].owner)
			k++;
		sum[k] += cell[i].owner_frames;
	}
	for (size_t k = 1; k <= v->owners; k++)
		if (sum[k] > sum[most])
			most = k;
	return sum[most] ? (int)most : -1;
}

static struct map_look look_at_owner(int owner, size_t owners, uint64_t used)
{
	if (owner >= 0 && (size_t)owner < owners)
		return (struct map_look){ (char)('a' + owner),
			                  (uint8_t)(HUE_OWNER + owner % HUE_OWNERS),
			                  MAP_LEVELS - 1 };
	if (owner >= 0)
		return (struct map_look){ '+', HUE_NONE, MAP_LEVELS - 1 };
	return used ? (struct map_look){ '-', HUE_NONE, 5 } : (struct map_look){ '.', HUE_NONE, 0 };
}

static struct map_look look_outside(kmm_v1_Page_State state)
{
	switch (state) {
	case kmm_v1_Page_State_METADATA:
		return (struct map_look){ '=', HUE_METADATA, MAP_LEVELS - 1 };
	case kmm_v1_Page_State_OFFLINE:
		return (struct map_look){ '~', HUE_NONE, 2 };
	case kmm_v1_Page_State_RETIRED:
		return (struct map_look){ 'x', HUE_LOST, MAP_LEVELS - 1 };
	default:
		return (struct map_look){ ' ', HUE_NONE, 0 };
	}
}

static const char zone_letter[] = "D3NHM", type_letter[] = "UMRHI";

struct map_look map_look(const struct map_view *v, size_t first, size_t n)
{
	const kmm_v1_MapCell *cell = &v->map->cell[first];
	uint64_t frames = (uint64_t)n * MAP_BLOCK_FRAMES, used = frames;
	uint8_t zone = (uint8_t)cell->zone, level, type;

	if (!in_zone(cell))
		return look_outside(cell->state);
	for (size_t i = 0; i < n; i++) {
		uint64_t less = cell[i].free + cell[i].per_cpu;

		used -= less < used ? less : used;
	}
	level = level_of(used, frames);
	switch (v->by) {
	case MAP_BY_ZONE:
		return (struct map_look){ zone_letter[zone], (uint8_t)(HUE_ZONE + zone),
			                  MAP_LEVELS - 1 };
	case MAP_BY_TYPE:
		type = (uint8_t)type_of(cell, n);
		return (struct map_look){ (char)(type_letter[type] + (level ? 0 : 'a' - 'A')),
			                  (uint8_t)(HUE_TYPE + type),
			                  level ? MAP_LEVELS - 1 : 1 };
	case MAP_BY_OWNER:
		return look_at_owner(owner_of(v, cell, n), v->owners, used);
	default:
		return (struct map_look){ fullness_letter(level), (uint8_t)(HUE_ZONE + zone),
			                  level };
	}
}

/* ---- colours ---- */

static uint8_t mix(uint8_t from, uint8_t to, unsigned int part, unsigned int whole)
{
	return (uint8_t)((from * (whole - part) + to * part) / whole);
}

struct map_colour map_colour(const struct map_look *look, bool dark)
{
	/* Little of the hue on the ground to all of it; a wide step between free and hardly used,
	 * which is what one looks for. */
	static const struct map_colour ground[] = { { 0xf4, 0xf5, 0xf7 }, { 0x1f, 0x24, 0x2b } };
	const struct map_colour *to = &map_hues[look->hue], *from = &ground[dark];
	unsigned int part = look->level ? look->level + 4u : 1u, whole = MAP_LEVELS + 3u;

	return (struct map_colour){ mix(from->red, to->red, part, whole),
		                    mix(from->green, to->green, part, whole),
		                    mix(from->blue, to->blue, part, whole) };
}

/* ---- legend ---- */

static bool outside_present(const struct map *m, kmm_v1_Page_State state)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->cell[i].state == state)
			return true;
	return false;
}

static bool legend_outside(const struct map *m, size_t i, struct map_look *look, char *text)
{
	static const struct {
		kmm_v1_Page_State state;
		const char *text;
	} line[] = {
		{ kmm_v1_Page_State_METADATA, "metadata" },
		{ kmm_v1_Page_State_OFFLINE, "offline, in no domain" },
		{ kmm_v1_Page_State_RETIRED, "retired, lost to a fault" },
	};

	for (size_t k = 0; k < sizeof(line) / sizeof(line[0]); k++) {
		if (!outside_present(m, line[k].state) || i--)
			continue;
		*look = look_outside(line[k].state);
		snprintf(text, MAP_LEGEND_SIZE, "%s", line[k].text);
		return true;
	}
	return false;
}

static bool zone_present(const struct map *m, uint32_t zone)
{
	for (size_t i = 0; i < m->n; i++)
		if (in_zone(&m->cell[i]) && m->cell[i].zone == zone)
			return true;
	return false;
}

static bool legend_zone(const struct map_view *v, size_t *i, struct map_look *look, char *text)
{
	for (uint8_t z = 0; z < 5; z++) {
		if (!zone_present(v->map, z) || (*i)--)
			continue;
		*look = (struct map_look){ zone_letter[z], (uint8_t)(HUE_ZONE + z),
			                   MAP_LEVELS - 1 };
		snprintf(text, MAP_LEGEND_SIZE, "zone %s", map_zone_names[z]);
		return true;
	}
	return false;
}

/* Fullness in grey, as what holds for every zone; then the zones' own colours. */
static bool legend_fullness(const struct map_view *v, size_t *i, struct map_look *look, char *text)
{
	static const struct {
		uint8_t level;
		const char *text;
	} line[] = { { 0, "all free" },
		     { 5, "partly in use: 1 to 9 tenths" },
		     { MAP_LEVELS - 1, "nothing free" } };

	if (*i < sizeof(line) / sizeof(line[0])) {
		*look = (struct map_look){ fullness_letter(line[*i].level), HUE_NONE,
			                   line[*i].level };
		snprintf(text, MAP_LEGEND_SIZE, "%s", line[*i].text);
		return true;
	}
	*i -= sizeof(line) / sizeof(line[0]);
	if (!legend_zone(v, i, look, text))
		return false;
	look->letter = ' '; /* here the hue alone says it */
	snprintf(text + strlen(text), MAP_LEGEND_SIZE - strlen(text), ", in shades of this");
	return true;
}

static bool legend_type(const struct map_view *v, size_t *i, struct map_look *look, char *text)
{
	if (*i < 5) {
		*look = (struct map_look){ type_letter[*i], (uint8_t)(HUE_TYPE + *i),
			                   MAP_LEVELS - 1 };
		snprintf(text, MAP_LEGEND_SIZE, "%s", map_type_names[*i]);
		return true;
	}
	if (*i == 5) {
		*look = (struct map_look){ 'm', HUE_TYPE + 1, 1 };
		snprintf(text, MAP_LEGEND_SIZE, "%s: all free",
		         v->letterless ? "weak colour" : "weak colour, small letter");
		return true;
	}
	*i -= 6;
	return false;
}

static bool legend_owner(const struct map_view *v, size_t *i, struct map_look *look, char *text)
{
	static const char *const rest[] = { "other sessions", "in use by no session: cached, kept",
		                            "all free" };

	if (*i < v->owners) {
		const kmm_v1_Session *s = map_session(v->map, v->owner[*i]);

		*look = look_at_owner((int)*i, v->owners, 1);
		snprintf(text, MAP_LEGEND_SIZE, "session %" PRIu32 " %s", v->owner[*i],
		         s ? s->name : "");
		return true;
	}
	*i -= v->owners;
	if (*i < sizeof(rest) / sizeof(rest[0])) {
		*look = look_at_owner(*i == 0 ? (int)v->owners : -1, v->owners, *i < 2);
		snprintf(text, MAP_LEGEND_SIZE, "%s", rest[*i]);
		return true;
	}
	*i -= sizeof(rest) / sizeof(rest[0]);
	return false;
}

bool map_legend(const struct map_view *v, size_t i, struct map_look *look,
                char text[MAP_LEGEND_SIZE])
{
	bool found;

	switch (v->by) {
	case MAP_BY_ZONE:
		found = legend_zone(v, &i, look, text);
		break;
	case MAP_BY_TYPE:
		found = legend_type(v, &i, look, text);
		break;
	case MAP_BY_OWNER:
		found = legend_owner(v, &i, look, text);
		break;
	default:
		found = legend_fullness(v, &i, look, text);
	}
	return found || legend_outside(v->map, i, look, text);
}
