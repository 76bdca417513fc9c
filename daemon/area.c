/* SPDX-License-Identifier: MIT */
/*
 * The daemon's part in the table of areas: reading it for reports, and freeing the entries of the
 * dead.
 *
 * The table lies in a sparse part of control memory, where clients make pages as they need them.
 * To look at a place that has no page yet would make one, so the daemon asks the file first where
 * there is something (SEEK_DATA) and looks only there:
 *
 *     file   |....hole....|page|page|....hole....|page|......|
 *                          ^    ^                 ^
 *
 * What an entry says is its session's own statement. It is copied, once, and bounded where somebody
 * relies on it: the session is one that there is, text ends and is printable. All the rest is shown
 * as it stands, and decides nothing: whose memory it is say the blocks' owner words.
 *
 * A session says by `areas` in its record that it may have entries: a sweep of one that has not
 * costs nothing.
 *
 * Complexity: O(entries of pages that are there).
 */
#include "daemon/area.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/area_lock.h"
#include "daemon/domain.h"
#include "daemon/pool.h"

#define TABLE_PAGE 4096u
#define PAGE_ENTRIES (TABLE_PAGE / sizeof(struct control_area))

/* Where the table begins in its file. */
static off_t table_offset(const struct domain *d)
{
	return (off_t)((uintptr_t)d->control.area - (uintptr_t)d->control.word);
}

/* The next entries, from *i on, that memory is behind: [*i, *end). False: none. */
static bool table_next(const struct domain *d, uint32_t *i, uint32_t *end)
{
	off_t base = table_offset(d), data, hole;
	int fd = d->kmmd->pool->words_fd;

	if (*i >= CONTROL_AREAS_MAX)
		return false;
	*end = CONTROL_AREAS_MAX;
	if (fd < 0) /* ordinary memory */
		return true;
	data = lseek(fd, base + (off_t)(*i * sizeof(struct control_area)), SEEK_DATA);
	if (data < 0 || (data -= base) >= (off_t)(CONTROL_AREAS_MAX * sizeof(struct control_area)))
		return false;
	hole = lseek(fd, base + data, SEEK_HOLE);
	*i = (uint32_t)((size_t)data / TABLE_PAGE * PAGE_ENTRIES);
	if (hole >= 0 && (size_t)(hole - base) < CONTROL_AREAS_MAX * sizeof(struct control_area))
		*end = (uint32_t)(((size_t)(hole - base) + TABLE_PAGE - 1) / TABLE_PAGE *
		                  PAGE_ENTRIES);
	/* A member made the hole just now: the walk goes on all the same. */
	if (*end <= *i)
		*end = *i + (uint32_t)PAGE_ENTRIES;
	return true;
}

/* ---- the dead ---- */

void area_sweep(struct domain *d, struct session *s)
{
	uint32_t i = 0, end;

	/* acquire: pairs with the client's setting it before its first entry */
	if (!atomic_load_explicit(&s->shared->areas, memory_order_acquire))
		return;
	for (; table_next(d, &i, &end); i = end)
		for (; i < end; i++) {
			owner_word_t *word = &d->control.area[i].word;
			uint64_t w = owner_load(word);

			if (owner_is(w, OWNER_HELD, s->id) &&
			    __atomic_load_n(&d->control.area[i].kind, __ATOMIC_RELAXED) ==
			            CONTROL_AREA_PERCPU)
				area_lock_break(d, i, s->id);
			/* Nobody acts for the dead: a store is enough, and ends also where a
			 * member scribbles. */
			if (owner_is(w, OWNER_HELD, s->id))
				owner_store(word, owner_reborn(w, OWNER_FREE, 0));
		}
	/* relaxed: as the rest of the record, see grant_sweep() */
	atomic_store_explicit(&s->shared->areas, 0, memory_order_relaxed);
}

/* ---- reading ---- */

/* Graphic ASCII, as a report's field is to be; ends at the first NUL. */
static void caller_copy(char *to, const char *from, size_t size)
{
	size_t i;

	for (i = 0; i + 1 < size && from[i]; i++)
		to[i] = from[i] > 0x20 && from[i] < 0x7f ? from[i] : '?';
	to[i] = '\0';
}

static bool area_read(struct domain *d, uint32_t i, struct area_about *a)
{
	struct control_area *e = &d->control.area[i], copy;
	uint64_t w = owner_load(&e->word);
	struct session *s;

	if (owner_kind(w) != OWNER_HELD || !owner_id(w))
		return false;
	/* acquire: pairs with the client's store of it, after the rest was written */
	copy.kind = __atomic_load_n(&e->kind, __ATOMIC_ACQUIRE);
	if (copy.kind == CONTROL_AREA_NONE || copy.kind > CONTROL_AREA_UNPURGED)
		return false;
	memcpy((uint8_t *)&copy + sizeof(copy.word), (const uint8_t *)e + sizeof(e->word),
	       sizeof(copy) - sizeof(copy.word));
	/* It may have become another's meanwhile, and its fields a mixture. */
	if (owner_load(&e->word) != w)
		return false;
	s = session_by_id(d->kmmd->sessions, owner_id(w));
	/* acquire: pairs with the stores that end or begin its life */
	if (!s || atomic_load_explicit(&s->state, memory_order_acquire) == SESSION_FREE)
		return false;
	*a = (struct area_about){ .session = owner_id(w),
		                  .kind = __atomic_load_n(&e->kind, __ATOMIC_RELAXED),
		                  .pages = copy.pages,
		                  .start = copy.start,
		                  .size = copy.size,
		                  .used = copy.used };
	if (a->kind == CONTROL_AREA_NONE || a->kind > CONTROL_AREA_UNPURGED)
		return false;
	memcpy(a->node_pages, copy.node_pages, sizeof(a->node_pages));
	copy.caller[sizeof(copy.caller) - 1] = '\0';
	caller_copy(a->caller, copy.caller, sizeof(a->caller));
	return true;
}

void area_each(struct domain *d, bool (*fn)(void *ctx, const struct area_about *a), void *ctx)
{
	struct area_about a;
	uint32_t i = 0, end;

	for (; table_next(d, &i, &end); i = end)
		for (; i < end; i++)
			if (area_read(d, i, &a) && !fn(ctx, &a))
				return;
}
