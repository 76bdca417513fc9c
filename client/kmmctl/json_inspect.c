/* SPDX-License-Identifier: MIT */
/*
 * page, map and frag as JSON. Members have the names of the text; fields of the kernel's struct page
 * keep theirs.
 */
#include "client/kmmctl/json_inspect.h"

#include "client/kmmctl/json_add.h"

/* ---- page ---- */

static struct json_object *flags_array(uint32_t flags)
{
	struct json_object *a = json_object_new_array();

	for (uint32_t i = 0; i < PAGE_FLAGS; i++)
		if (flags >> i & 1)
			json_object_array_add(a, json_object_new_string(page_flag_names[i]));
	return a;
}

static void add_peer(struct json_object *o, const void *item)
{
	const kmm_v1_PageSession *s = item;

	add_number(o, "session", s->session);
	add_text(o, "name", s->session ? s->name : "(names)");
	add_number(o, "pid", s->pid);
	add_number(o, "uid", s->uid);
	add_number(o, "objects", s->objects);
}

static struct json_object *peers(const kmm_v1_PageSession peer[], size_t n)
{
	return array_of(peer, n, sizeof(peer[0]), add_peer);
}

static struct json_object *word_object(const kmm_v1_Page *p)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "kind", page_kind_name(p->kind));
	if (p->magazine) {
		add_number(o, "magazine", p->magazine - 1);
		add_text(o, "magazine_state", p->magazine_state);
	}
	add_number(o, "generation", p->generation);
	add_bool(o, "shared", p->shared);
	add_bool(o, p->moves ? "mapped" : "constructed", p->mapped);
	add_bool(o, "kept", p->kept);
	return o;
}

static void add_slab(struct json_object *o, const kmm_v1_Page *p)
{
	struct json_object *words = json_object_new_object();

	add_text(o, "slab_cache", p->cache);
	add_number(o, "size", p->size);
	add_number(o, "stride", p->stride);
	add_number(o, "objects", p->objects);
	add_number(o, "inuse", p->inuse);
	for (pb_size_t i = 0; i < p->words_count; i++)
		if (p->words[i])
			add_number(words, page_kind_name(i), p->words[i]);
	json_object_object_add(o, "owner_words", words);
	add_number(o, "colour", p->colour);
	add_number(o, "objects_here", p->page_objects);
	if (p->page_objects) {
		add_number(o, "first_object", p->first_object);
		add_number(o, "first_offset", p->first_offset);
	}
}

static void add_struct(struct json_object *o, const kmm_v1_Page *p)
{
	bool allocated = p->state == kmm_v1_Page_State_BLOCK || p->state == kmm_v1_Page_State_SLAB;
	char text[PAGE_TEXT_SIZE];

	json_object_object_add(o, "flags", flags_array(p->flags));
	add_number(o, "_refcount", p->refcount);
	add_number(o, "_mapcount", p->mapcount);
	add_text(o, "page_type", page_type_name(p));
	if (p->state == kmm_v1_Page_State_FREE && p->frame == p->head)
		add_number(o, "private", p->order);
	add_text(o, "mapping", page_mapping(text, p));
	add_number(o, "index", allocated ? p->frame - p->head : 0);
	add_text(o, "lru", page_lru(text, p));
	if (allocated && p->order) {
		add_number(o, "compound_head", p->head);
		add_number(o, "compound_order", p->order);
	}
	add_number(o, "dma_addr", (uint64_t)p->frame << 12);
}

struct json_object *json_page(const kmm_v1_Page *p)
{
	struct json_object *o = json_object_new_object(), *names = json_object_new_array();

	add_number(o, "page", p->page);
	add_number(o, "frame", p->frame);
	add_bool(o, "moves", p->moves);
	add_number(o, "page_of", p->page_of);
	add_number(o, "section", p->section);
	add_number(o, "section_frames", p->section_frames);
	add_text(o, "section_state", p->section_state);
	add_text(o, "backing", p->backing);
	add_bool(o, "direct", p->direct);
	add_text(o, "state", page_state_name(p->state));
	if (p->state >= kmm_v1_Page_State_RESERVED) {
		add_number(o, "node", p->node);
		add_text(o, "zone", p->zone);
		add_number(o, "pageblock", p->frame / MAP_BLOCK_FRAMES);
		add_text(o, "pageblock_type",
		         p->pageblock_type < 5 ? map_type_names[p->pageblock_type] : "unknown");
		add_number(o, "head", p->head);
		add_number(o, "order", p->order);
	}
	add_struct(o, p);
	if (p->state == kmm_v1_Page_State_SLAB)
		add_slab(o, p);
	if (page_has_word(p))
		json_object_object_add(o, "owner_word", word_object(p));
	if (p->state == kmm_v1_Page_State_BLOCK) {
		add_text(o, "type", p->type < 5 ? map_type_names[p->type] : "unknown");
		add_number(o, "charged", p->charged);
	}
	json_object_object_add(o, "owner", peers(p->owner, p->owner_count));
	json_object_object_add(o, "holder", peers(p->holder, p->holder_count));
	add_number(o, "holders", p->holders);
	for (pb_size_t i = 0; i < p->name_count; i++)
		json_object_array_add(names, json_object_new_string(p->name[i]));
	json_object_object_add(o, "name", names);
	add_number(o, "names", p->names);
	return o;
}

/* ---- map ---- */

static struct json_object *cell_object(const struct map *m, size_t i)
{
	struct json_object *o = json_object_new_object();
	const kmm_v1_MapCell *c = &m->cell[i];

	add_number(o, "pageblock", i);
	add_number(o, "address", (uint64_t)i * MAP_BLOCK_FRAMES * 4096);
	add_text(o, "state", map_state_name(c->state));
	if (c->state != kmm_v1_Page_State_BLOCK)
		return o;
	add_number(o, "node", c->node);
	add_text(o, "zone", map_zone_names[c->zone]);
	add_text(o, "type", map_type_names[c->type]);
	add_number(o, "free", c->free);
	json_object_object_add(o, "largest_order", json_object_new_int((int)c->largest - 1));
	add_number(o, "per_cpu", c->per_cpu);
	add_number(o, "reserved", c->reserved);
	add_number(o, "blocks", c->blocks);
	add_number(o, "slab", c->slab);
	add_number(o, "cached", c->cached);
	add_number(o, "movable", c->movable);
	add_number(o, "kept", c->kept);
	add_number(o, "owner", c->owner);
	add_number(o, "owner_frames", c->owner_frames);
	return o;
}

static void add_session(struct json_object *o, const void *item)
{
	const kmm_v1_Session *s = item;

	add_number(o, "id", s->id);
	add_text(o, "name", s->name);
	add_number(o, "pid", s->pid);
}

struct json_object *json_map(const struct map *m)
{
	struct json_object *o = json_object_new_object(), *cells = json_object_new_array();

	add_number(o, "pageblock_frames", MAP_BLOCK_FRAMES);
	for (size_t i = 0; i < m->n; i++)
		json_object_array_add(cells, cell_object(m, i));
	json_object_object_add(o, "cells", cells);
	json_object_object_add(o, "sessions", array_of(m->session, m->nr_sessions,
	                                               sizeof(m->session[0]), add_session));
	return o;
}

/* ---- frag ---- */

static void add_thousandths(struct json_object *o, const char *key, const int value[])
{
	struct json_object *a = json_object_new_array();

	for (uint32_t i = 0; i < REPORT_ORDERS; i++)
		json_object_array_add(a, json_object_new_double(value[i] / 1000.0));
	json_object_object_add(o, key, a);
}

static struct json_object *losses(const struct frag_cache *c)
{
	struct json_object *o = json_object_new_object();

	if (c->cache) {
		add_text(o, "name", c->cache->name);
		add_number(o, "size", c->cache->size);
		add_number(o, "stride", c->cache->stride);
		add_number(o, "slabs", c->cache->slabs);
	}
	add_number(o, "objects", c->objects);
	add_number(o, "asked_bytes", c->asked);
	add_number(o, "padding_bytes", c->padding);
	add_number(o, "unused_bytes", c->unused);
	add_number(o, "ends_bytes", c->ends);
	add_number(o, "words_bytes", c->words);
	add_number(o, "waste_bytes", frag_waste(c));
	return o;
}

struct json_object *json_frag(const struct frag *f)
{
	struct json_object *o = json_object_new_object(), *zones = json_object_new_array(),
			   *caches = json_object_new_array(), *advice = json_object_new_array();
	struct frag_advice a;

	for (size_t i = 0; i < f->zones; i++) {
		struct json_object *z = json_object_new_object();

		add_number(z, "node", f->zone[i].zone->node);
		add_text(z, "zone", f->zone[i].zone->name);
		add_number(z, "free", f->zone[i].zone->free);
		add_numbers(z, "free_blocks", f->zone[i].zone->nr_free, REPORT_ORDERS);
		add_thousandths(z, "unusable_index", f->zone[i].unusable);
		add_thousandths(z, "extfrag_index", f->zone[i].index);
		json_object_array_add(zones, z);
	}
	json_object_object_add(o, "zones", zones);
	for (size_t i = 0; i < f->caches; i++)
		json_object_array_add(caches, losses(&f->cache[i]));
	json_object_object_add(o, "caches", caches);
	json_object_object_add(o, "total", losses(&f->total));
	for (size_t i = 0; frag_advise(f, i, &a); i++) {
		struct json_object *v = json_object_new_object();

		add_text(v, "command", a.command);
		add_text(v, "why", a.why);
		json_object_array_add(advice, v);
	}
	json_object_object_add(o, "advice", advice);
	return o;
}
