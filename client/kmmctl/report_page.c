/* SPDX-License-Identifier: MIT */
/*
 * One page. The first lines carry the names of the kernel's struct page (include/linux/mm_types.h),
 * of its flags (page-flags.h) and of the dumps that it prints; the others are kmmd's own.
 *
 * What the kernel's fields are here:
 *
 *   flags            decoded; the bits have other places, so no number is shown
 *   _refcount        0 free or a tail; else the owner, each further holder, and one for all names
 *   _mapcount        1 while its owner has it mapped by kmap; the direct map does not count
 *   private          of a free block's head: its order
 *   mapping, index   whose it is; which page of its block
 *   lru              the list that it lies on
 *   virtual          its place in each process's window, NULL without direct map
 *   dma_addr         its pool address
 */
#include "client/kmmctl/page.h"

#include <inttypes.h>
#include <string.h>

#include "client/kmmctl/fetch_private.h"
#include "client/kmmctl/map.h"
#include "client/kmmctl/table.h"

#define LABEL "%-15s "

const char *const page_flag_names[PAGE_FLAGS] = {
	"locked",   "reclaim", "head",    "tail",     "slab",        "buddy",   "pcp",    "reserved",
	"private",  "movable", "isolated", "unevictable", "offline", "nopage",  "hwpoison",
};

/* ---- fetching ---- */

static void clean_peers(kmm_v1_PageSession peer[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		fetch_clean_text(peer[i].name, false);
}

enum connection_result page_fetch(struct connection *c, uint32_t page, kmm_v1_Page *ret)
{
	kmm_v1_GetPageRequest request = { .page = page };
	enum connection_result result;

	result = FETCH_CALL(c, INSPECTOR_GET_PAGE, GetPage, &request, Page, ret);
	if (result != CONNECTION_OK)
		return result;
	clean_peers(ret->owner, ret->owner_count);
	clean_peers(ret->holder, ret->holder_count);
	for (pb_size_t i = 0; i < ret->name_count; i++)
		fetch_clean_text(ret->name[i], false);
	fetch_clean_text(ret->cache, false);
	return CONNECTION_OK;
}

/* ---- words ---- */

const char *page_kind_name(uint32_t kind)
{
	static const char *const name[] = { "free",     "offered", "held",  "in a magazine",
		                            "returned", "area",    "moving" };

	return kind < sizeof(name) / sizeof(name[0]) ? name[kind] : "unknown";
}

const char *page_state_name(kmm_v1_Page_State state)
{
	static const char *const name[] = { "absent",   "offline", "metadata", "retired", "reserved",
		                            "free",     "per-cpu", "block",    "slab",    "unused" };

	return (size_t)state < sizeof(name) / sizeof(name[0]) ? name[state] : "unknown";
}

const char *page_type_name(const kmm_v1_Page *p)
{
	switch (p->state) {
	case kmm_v1_Page_State_FREE:
		return "buddy";
	case kmm_v1_Page_State_SLAB:
		return "slab";
	case kmm_v1_Page_State_OFFLINE:
		return "offline";
	default:
		return "none";
	}
}

bool page_has_word(const kmm_v1_Page *p)
{
	return p->state == kmm_v1_Page_State_BLOCK || p->state == kmm_v1_Page_State_FREE ||
	       p->state == kmm_v1_Page_State_UNUSED;
}

const char *page_mapping(char text[PAGE_TEXT_SIZE], const kmm_v1_Page *p)
{
	if (p->state == kmm_v1_Page_State_SLAB)
		snprintf(text, PAGE_TEXT_SIZE, "cache %s", p->cache);
	else if (p->state == kmm_v1_Page_State_BLOCK && p->owner_count)
		snprintf(text, PAGE_TEXT_SIZE, "session %" PRIu32, p->owner[0].session);
	else
		snprintf(text, PAGE_TEXT_SIZE, "NULL");
	return text;
}

static const char *migratetype(uint32_t type)
{
	return type < 5 ? map_type_names[type] : "unknown";
}

const char *page_lru(char text[PAGE_TEXT_SIZE], const kmm_v1_Page *p)
{
	if (p->state == kmm_v1_Page_State_FREE)
		snprintf(text, PAGE_TEXT_SIZE, "free_area[%" PRIu32 "].free_list[%s]", p->order,
		         migratetype(p->pageblock_type));
	else if (p->state == kmm_v1_Page_State_PER_CPU)
		snprintf(text, PAGE_TEXT_SIZE, "per-CPU list");
	else
		snprintf(text, PAGE_TEXT_SIZE, "none");
	return text;
}

/* ---- where ---- */

static void print_place(FILE *out, const kmm_v1_Page *p)
{
	char size[TABLE_UNIT_SIZE];

	fprintf(out, LABEL "%" PRIu32 " (%#" PRIx32 ")%s\n", "page", p->page, p->page,
	        p->page != p->frame ? ", one that can move" : "");
	if (p->page != p->frame)
		fprintf(out, LABEL "%" PRIu32 " (%#" PRIx32 ")%s\n", "frame", p->frame, p->frame,
		        p->state == kmm_v1_Page_State_UNUSED ? ", would be its" : ", at the moment");
	else if (p->moves)
		fprintf(out, LABEL "the frame, at the moment, of page %" PRIu32 " (%#" PRIx32
		        "), which can move\n", "alias", p->page_of, p->page_of);
	fprintf(out, LABEL "%" PRIu32 " of %s: %s, backed by %s, %s\n", "section", p->section,
	        table_frames(size, p->section_frames), p->section_state, p->backing,
	        p->direct ? "mapped in clients' windows" : "not in clients' windows");
	if (p->state < kmm_v1_Page_State_RESERVED)
		return;
	fprintf(out, LABEL "%" PRIu32 "\n", "node", p->node);
	fprintf(out, LABEL "%s\n", "zone", p->zone);
	fprintf(out, LABEL "%" PRIu32 ", %s\n", "pageblock", p->frame / MAP_BLOCK_FRAMES,
	        migratetype(p->pageblock_type));
}

static void print_block(FILE *out, const kmm_v1_Page *p, const char *what)
{
	fprintf(out, "%s of order %" PRIu32 ": frames %" PRIu32 " to %" PRIu32, what, p->order,
	        p->head, p->head + (1u << (p->order & 15)) - 1);
	if (p->order)
		fprintf(out, ", this is number %" PRIu32, p->frame - p->head);
}

static void print_state(FILE *out, const kmm_v1_Page *p)
{
	fprintf(out, LABEL, "state");
	switch (p->state) {
	case kmm_v1_Page_State_ABSENT:
		fputs("no memory is there", out);
		break;
	case kmm_v1_Page_State_OFFLINE:
		fputs("in no domain", out);
		break;
	case kmm_v1_Page_State_METADATA:
		fputs("the pool's own tables", out);
		break;
	case kmm_v1_Page_State_RETIRED:
		fputs("lost to a fault, never used again", out);
		break;
	case kmm_v1_Page_State_RESERVED:
		fputs("reserved, not managed by the zone", out);
		break;
	case kmm_v1_Page_State_FREE:
		print_block(out, p, "free block");
		break;
	case kmm_v1_Page_State_PER_CPU:
		fputs("free, on a per-CPU list or on its way", out);
		break;
	case kmm_v1_Page_State_BLOCK:
		print_block(out, p, "block");
		break;
	case kmm_v1_Page_State_SLAB:
		print_block(out, p, "slab");
		break;
	case kmm_v1_Page_State_UNUSED:
		fputs("free: a page that can move, and no block is there", out);
		break;
	}
	fputc('\n', out);
}

/* ---- struct page ---- */

static void print_flags(FILE *out, const kmm_v1_Page *p)
{
	const char *between = "";

	fprintf(out, LABEL, "flags");
	for (uint32_t i = 0; i < PAGE_FLAGS; i++) {
		if (!(p->flags >> i & 1))
			continue;
		fprintf(out, "%s%s", between, page_flag_names[i]);
		between = "|";
	}
	fprintf(out, "%s\n", *between ? "" : "none");
}

static void print_struct(FILE *out, const kmm_v1_Page *p)
{
	char text[PAGE_TEXT_SIZE];
	bool allocated = p->state == kmm_v1_Page_State_BLOCK || p->state == kmm_v1_Page_State_SLAB;

	print_flags(out, p);
	fprintf(out, LABEL "%" PRIu32 "\n", "_refcount", p->refcount);
	fprintf(out, LABEL "%" PRIu32 "\n", "_mapcount", p->mapcount);
	fprintf(out, LABEL "%s\n", "page_type", page_type_name(p));
	if (p->state == kmm_v1_Page_State_FREE && p->frame == p->head)
		fprintf(out, LABEL "%" PRIu32 "\n", "private", p->order);
	fprintf(out, LABEL "%s\n", "mapping", page_mapping(text, p));
	fprintf(out, LABEL "%" PRIu32 "\n", "index", allocated ? p->frame - p->head : 0);
	fprintf(out, LABEL "%s\n", "lru", page_lru(text, p));
	if (allocated && p->order) {
		fprintf(out, LABEL "%" PRIu32 "\n", "compound_head", p->head);
		fprintf(out, LABEL "%" PRIu32 "\n", "compound_order", p->order);
	}
	if (p->direct)
		fprintf(out, LABEL "window + %#" PRIx64 "\n", "virtual", (uint64_t)p->frame << 12);
	else
		fprintf(out, LABEL "NULL\n", "virtual");
	fprintf(out, LABEL "%#" PRIx64 "\n", "dma_addr", (uint64_t)p->frame << 12);
}

/* ---- kmmd's own ---- */

static void print_peer(FILE *out, const char *label, const kmm_v1_PageSession *s)
{
	if (!s->session)
		fprintf(out, LABEL "names\n", label);
	else if (!s->pid)
		fprintf(out, LABEL "session %" PRIu32 " \"%s\", uid %" PRIu32, label, s->session,
		        s->name, s->uid);
	else
		fprintf(out, LABEL "session %" PRIu32 " \"%s\", pid %" PRIu32 ", uid %" PRIu32, label,
		        s->session, s->name, s->pid, s->uid);
}

static void print_owners(FILE *out, const kmm_v1_Page *p)
{
	for (pb_size_t i = 0; i < p->owner_count; i++) {
		print_peer(out, "owner", &p->owner[i]);
		if (p->state == kmm_v1_Page_State_SLAB)
			fprintf(out, ": %" PRIu32 " objects", p->owner[i].objects);
		fputc('\n', out);
	}
	for (pb_size_t i = 0; i < p->holder_count; i++) {
		print_peer(out, "holder", &p->holder[i]);
		if (p->holder[i].session)
			fputc('\n', out);
	}
	if (p->holders > p->holder_count)
		fprintf(out, LABEL "%" PRIu32 " in all\n", "holders", p->holders);
	for (pb_size_t i = 0; i < p->name_count; i++)
		fprintf(out, LABEL "\"%s\"\n", "name", p->name[i]);
	if (p->names > p->name_count)
		fprintf(out, LABEL "%" PRIu32 " in all\n", "names", p->names);
}

static void print_word(FILE *out, const kmm_v1_Page *p)
{
	fprintf(out, LABEL "%s", "owner word", page_kind_name(p->kind));
	if (p->kind == kmm_v1_Page_Kind_MAGAZINE && p->magazine)
		fprintf(out, " %" PRIu32 ", %s", p->magazine - 1, p->magazine_state);
	else if (p->kind == kmm_v1_Page_Kind_HELD && !p->owner_count)
		fputs(" by its holders alone", out);
	fprintf(out, ", generation %" PRIu64 "%s%s%s\n", p->generation, p->shared ? ", SHARED" : "",
	        p->mapped ? p->moves ? ", MAPPED" : ", CONSTRUCTED" : "", p->kept ? ", KEPT" : "");
}

static void print_slab(FILE *out, const kmm_v1_Page *p)
{
	const char *between = ": ";

	fprintf(out, LABEL "%s: objects of %" PRIu32 " bytes, one every %" PRIu32 "\n", "slab_cache",
	        p->cache[0] ? p->cache : "(about to come or go)", p->size, p->stride);
	fprintf(out, LABEL "%" PRIu32, "inuse", p->inuse);
	for (pb_size_t i = 1; i < p->words_count; i++) {
		if (!p->words[i])
			continue;
		fprintf(out, "%s%" PRIu32 " %s", between, p->words[i], page_kind_name(i));
		between = ", ";
	}
	fprintf(out, "\n" LABEL "%" PRIu32 ", the first at offset %" PRIu32 "\n", "objects",
	        p->objects, p->colour);
	if (p->page_objects)
		fprintf(out, LABEL "%" PRIu32 " to %" PRIu32 " lie on this page, the first at offset %"
		        PRIu32 " of the slab\n", "here", p->first_object,
		        p->first_object + p->page_objects - 1, p->first_offset);
	else
		fprintf(out, LABEL "no object lies on this page\n", "here");
}

void report_page(FILE *out, const kmm_v1_Page *p)
{
	print_place(out, p);
	print_state(out, p);
	print_struct(out, p);
	if (p->state == kmm_v1_Page_State_SLAB)
		print_slab(out, p);
	if (page_has_word(p))
		print_word(out, p);
	if (p->state == kmm_v1_Page_State_BLOCK) {
		fprintf(out, LABEL "%s\n", "asked for as", migratetype(p->type));
		if (p->charged)
			fprintf(out, LABEL "session %" PRIu32 "\n", "charged to", p->charged);
	}
	print_owners(out, p);
}
