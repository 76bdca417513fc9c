/* SPDX-License-Identifier: MIT */
/*
 * The table of areas: one line for each thing that the process puts together of blocks, for those
 * who look at it from outside. It decides nothing: whose the blocks are say their own words.
 *
 * An entry is claimed by an exchange of its word from FREE to HELD by this session, filled in,
 * and shown by a store of its kind, which comes last; it is given up the other way round. A
 * session that dies in between leaves words that name it, which the sweep frees.
 *
 *     word HELD(s) --> fields --> kind            kind NONE --> word FREE
 *
 * Where to look for a free entry is a hint: the lowest place that this session knows to be free. It
 * begins at a page of the table that follows from the session's number, so that sessions do not
 * look through each other's entries, and a session's own lie together.
 *
 * The table lies in a sparse part of the file. A page of it that is not there yet is made before it
 * is looked at, so that a machine without memory answers and does not signal.
 *
 * Complexity: O(1) for a session that has few, at worst O(entries).
 */
#include "client/area.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE_ENTRIES ((uint32_t)(KMM_PAGE_SIZE / sizeof(struct control_area)))

/* ---- the memory of the table ---- */

/* The entry can be touched. */
static bool entry_open(struct kmm *k, uint32_t index)
{
	uint32_t page = index / PAGE_ENTRIES;
	uint64_t bit = UINT64_C(1) << page % 64;
	struct control_area *first = &k->control.area[page * PAGE_ENTRIES];

	/* relaxed, both: the memory is there for good, for every thread */
	if (likely(atomic_load_explicit(&k->area_pages[page / 64], memory_order_relaxed) & bit))
		return true;
	/* EINVAL: a kernel without it makes pages by touch alone */
	if (madvise(first, KMM_PAGE_SIZE, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
		return false;
	atomic_fetch_or_explicit(&k->area_pages[page / 64], bit, memory_order_relaxed);
	return true;
}

/* The session's record says that it has entries. */
static void area_note(struct kmm *k)
{
	_Atomic uint32_t *areas = &k->control.session[k->id].areas;

	/* relaxed: set by this process, or not at all */
	if (unlikely(!atomic_load_explicit(areas, memory_order_relaxed)))
		/* seq_cst: before the exchange of the word; pairs with the sweep's acquire */
		atomic_store_explicit(areas, 1, memory_order_seq_cst);
}

/* ---- entries ---- */

static bool entry_claim(struct kmm *k, struct control_area *e)
{
	uint64_t w = owner_load(&e->word);

	return owner_kind(w) == OWNER_FREE &&
	       owner_cas(&e->word, &w, owner_reborn(w, OWNER_HELD, k->id));
}

static uint32_t hint_first(struct kmm *k)
{
	return k->id % (CONTROL_AREAS_MAX / PAGE_ENTRIES) * PAGE_ENTRIES;
}

static int area_find(struct kmm *k, uint32_t *index)
{
	/* relaxed: a hint; relative to the session's first place, so that 0 is its beginning */
	uint32_t hint = atomic_load_explicit(&k->area_hint, memory_order_relaxed);
	uint32_t first = hint_first(k), i;

	for (i = 0; i < CONTROL_AREAS_MAX; i++) {
		uint32_t at = (hint + i) % CONTROL_AREAS_MAX;
		uint32_t place = (first + at) % CONTROL_AREAS_MAX;

		if (!entry_open(k, place))
			return -ENOMEM;
		if (!entry_claim(k, &k->control.area[place]))
			continue;
		atomic_store_explicit(&k->area_hint, at + 1, memory_order_relaxed);
		*index = place;
		return 0;
	}
	return -ENOSPC;
}

static void caller_store(struct control_area *e, const char *caller)
{
	memset(e->caller, 0, sizeof(e->caller));
	if (caller)
		strncpy(e->caller, caller, sizeof(e->caller) - 1);
}

int area_claim(struct kmm *k, const struct area_about *a, uint32_t *index)
{
	struct control_area *e;
	uint32_t i;
	int r;

	area_note(k);
	r = area_find(k, &i);
	if (r < 0)
		return r;
	e = &k->control.area[i];
	e->start = (uintptr_t)a->start;
	e->size = a->size;
	e->pages = a->pages;
	e->used = a->used;
	memcpy(e->node_pages, a->node_pages, sizeof(e->node_pages));
	caller_store(e, a->caller);
	area_set_kind(k, i, a->kind);
	*index = i;
	return 0;
}

void area_set_kind(struct kmm *k, uint32_t index, enum control_area_kind kind)
{
	if (index != AREA_NONE)
		/* release: pairs with the acquire of who reads the entry */
		__atomic_store_n(&k->control.area[index].kind, (uint32_t)kind, __ATOMIC_RELEASE);
}

void area_set_used(struct kmm *k, uint32_t index, uint64_t used)
{
	if (index != AREA_NONE)
		/* relaxed: a number of its own */
		__atomic_store_n(&k->control.area[index].used, used, __ATOMIC_RELAXED);
}

void area_set_caller(struct kmm *k, uint32_t index, const char *caller)
{
	if (index != AREA_NONE)
		caller_store(&k->control.area[index], caller);
}

void area_release(struct kmm *k, uint32_t index)
{
	struct control_area *e = &k->control.area[index];
	uint32_t at, hint;
	uint64_t w;

	if (index == AREA_NONE)
		return;
	area_set_kind(k, index, CONTROL_AREA_NONE);
	w = owner_load(&e->word);
	/* Not ours: a member scribbles. */
	if (!owner_is(w, OWNER_HELD, k->id) ||
	    !owner_cas(&e->word, &w, owner_reborn(w, OWNER_FREE, 0)))
		return;
	at = (index + CONTROL_AREAS_MAX - hint_first(k)) % CONTROL_AREAS_MAX;
	/* relaxed: as in area_find */
	hint = atomic_load_explicit(&k->area_hint, memory_order_relaxed);
	if (at < hint)
		atomic_store_explicit(&k->area_hint, at, memory_order_relaxed);
}

void area_count_nodes(struct kmm *k, uint32_t frame, uint32_t pages, uint32_t node_pages[AREA_NODES])
{
	uint32_t n = page_node(k, frame);

	if (n < AREA_NODES)
		node_pages[n] += pages;
}

/* ---- who called ---- */

void area_caller(const void *return_address, char text[AREA_CALLER_MAX])
{
	const ElfW(Sym) *symbol = NULL;
	void *extra = NULL;
	const char *name;
	size_t offset, size = 0;
	Dl_info info;
	char tail[40];
	int n;

	text[0] = '\0';
	/* The call itself, which is before where it returns to. */
	if (!dladdr1((const char *)return_address - 1, &info, &extra, RTLD_DL_SYMENT))
		return;
	symbol = extra;
	if (info.dli_sname && symbol) {
		name = info.dli_sname;
		offset = (size_t)((const char *)return_address - (const char *)info.dli_saddr);
		size = symbol->st_size;
	} else {
		name = info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
		name = name ? name + 1 : info.dli_fname ? info.dli_fname : "";
		offset = (size_t)((const char *)return_address - (const char *)info.dli_fbase);
	}
	if (!*name)
		return;
	n = snprintf(tail, sizeof(tail), "+0x%zx/0x%zx", offset, size);
	snprintf(text, AREA_CALLER_MAX, "%.*s%s", (int)AREA_CALLER_MAX - 1 - n, name, tail);
}
