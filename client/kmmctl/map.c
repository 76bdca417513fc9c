/* SPDX-License-Identifier: MIT */
/*
 * The map as the daemon tells it: cells from GetMap, sessions for their names, and the runs of cells
 * that stand under one heading. What they look like is map_view.c's business.
 */
#include "client/kmmctl/map.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/fetch_private.h"
#include "client/kmmctl/table.h"

const char *const map_zone_names[5] = { "DMA", "DMA32", "Normal", "HighMem", "Movable" };
const char *const map_type_names[5] = { "Unmovable", "Movable", "Reclaimable", "HighAtomic",
	                                "Isolate" };

static bool each_part(void *ctx, const void *item)
{
	const kmm_v1_MapPart *part = item;

	for (pb_size_t i = 0; i < part->cell_count; i++) {
		kmm_v1_MapCell *cell = vector_add(ctx);

		if (!cell)
			return false;
		*cell = part->cell[i];
		if (cell->zone > 4)
			cell->zone = 4;
		if (cell->type > 4)
			cell->type = 4;
	}
	return true;
}

enum connection_result map_fetch(struct connection *c, const char *domain, struct map *ret)
{
	struct vector v = { .size = sizeof(kmm_v1_MapCell) };
	enum connection_result result;
	struct map m = { .n = 0 };

	result = FETCH_STREAM(c, domain, INSPECTOR_GET_MAP, GetMap, MapPart, each_part, &v);
	result = vector_finish(&v, result, &m.cell, &m.n);
	if (result != CONNECTION_OK)
		return result;
	result = fetch_sessions(c, domain, &m.session, &m.nr_sessions);
	if (result == CONNECTION_OK)
		*ret = m;
	else
		free(m.cell);
	return result;
}

void map_done(struct map *m)
{
	free(m->cell);
	free(m->session);
}

const kmm_v1_Session *map_session(const struct map *m, uint32_t id)
{
	for (size_t i = 0; id && i < m->nr_sessions; i++)
		if (m->session[i].id == id)
			return &m->session[i];
	return NULL;
}

const char *map_state_name(kmm_v1_Page_State state)
{
	switch (state) {
	case kmm_v1_Page_State_BLOCK:
		return "zone";
	case kmm_v1_Page_State_METADATA:
		return "metadata";
	case kmm_v1_Page_State_OFFLINE:
		return "offline";
	case kmm_v1_Page_State_RETIRED:
		return "retired";
	default:
		return "absent";
	}
}

/* ---- groups ---- */

static bool in_zone(const kmm_v1_MapCell *c)
{
	return c->state == kmm_v1_Page_State_BLOCK;
}

void map_group_at(const struct map *m, size_t first, struct map_group *g)
{
	const kmm_v1_MapCell *a = &m->cell[first];

	*g = (struct map_group){ .first = first };
	for (size_t i = first; i < m->n; i++) {
		const kmm_v1_MapCell *c = &m->cell[i];

		if (c->state != a->state ||
		    (in_zone(a) && (c->node != a->node || c->zone != a->zone)))
			break;
		g->n++;
		g->frames += MAP_BLOCK_FRAMES;
		g->free += c->free + c->per_cpu;
		g->cached += c->cached;
	}
}

const char *map_heading(char text[MAP_HEADING_SIZE], const struct map *m,
                        const struct map_group *g)
{
	char size[TABLE_UNIT_SIZE], free_frames[TABLE_UNIT_SIZE], cached[TABLE_UNIT_SIZE];
	const kmm_v1_MapCell *c = &m->cell[g->first];

	table_frames(size, g->frames);
	switch (c->state) {
	case kmm_v1_Page_State_BLOCK:
		snprintf(text, MAP_HEADING_SIZE,
		         "Node %" PRIu32 ", zone %s: %s, %s free, %s cached by threads and depots",
		         c->node, map_zone_names[c->zone], size,
		         table_frames(free_frames, g->free), table_frames(cached, g->cached));
		break;
	case kmm_v1_Page_State_METADATA:
		snprintf(text, MAP_HEADING_SIZE, "Metadata: %s", size);
		break;
	case kmm_v1_Page_State_RETIRED:
		snprintf(text, MAP_HEADING_SIZE, "Retired, lost to a fault: %s", size);
		break;
	case kmm_v1_Page_State_OFFLINE:
		snprintf(text, MAP_HEADING_SIZE, "Offline, in no domain: %s", size);
		break;
	default:
		snprintf(text, MAP_HEADING_SIZE, "Absent: %s", size);
	}
	return text;
}

/* ---- words ---- */

const char *map_text(char text[MAP_TEXT_SIZE], const struct map *m, size_t i)
{
	const kmm_v1_MapCell *c = &m->cell[i];
	const kmm_v1_Session *s = map_session(m, c->owner);
	char largest[32] = "";
	int n;

	n = snprintf(text, MAP_TEXT_SIZE, "pageblock %zu at %#" PRIx64 ": ", i,
	             (uint64_t)i * MAP_BLOCK_FRAMES * 4096);
	if (!in_zone(c)) {
		snprintf(text + n, MAP_TEXT_SIZE - (size_t)n, "%s", map_state_name(c->state));
		return text;
	}
	if (c->largest)
		snprintf(largest, sizeof(largest), " (largest order %" PRIu32 ")", c->largest - 1);
	n += snprintf(text + n, MAP_TEXT_SIZE - (size_t)n,
	              "node %" PRIu32 ", zone %s, %s; frames: %" PRIu32 " free%s, %" PRIu32
	              " in blocks, %" PRIu32 " in slabs", c->node, map_zone_names[c->zone],
	              map_type_names[c->type], c->free, largest, c->blocks, c->slab);
	if (c->per_cpu)
		n += snprintf(text + n, MAP_TEXT_SIZE - (size_t)n, ", %" PRIu32
		              " on per-CPU lists", c->per_cpu);
	if (c->reserved)
		n += snprintf(text + n, MAP_TEXT_SIZE - (size_t)n, ", %" PRIu32 " reserved",
		              c->reserved);
	if (c->cached)
		n += snprintf(text + n, MAP_TEXT_SIZE - (size_t)n, "; %" PRIu32 " of them cached",
		              c->cached);
	if (c->movable)
		n += snprintf(text + n, MAP_TEXT_SIZE - (size_t)n, "; %" PRIu32 " can move",
		              c->movable);
	if (c->owner)
		snprintf(text + n, MAP_TEXT_SIZE - (size_t)n, "; session %" PRIu32
		         " %s has most: %" PRIu32, c->owner, s ? s->name : "", c->owner_frames);
	return text;
}
