/* SPDX-License-Identifier: MIT */
/*
 * Runs of owner words.
 *
 * Concept: a slab needs as many owner words as it has slots at most, rounded up to a power of two
 * from 1 to 512, next to each other. There are two levels, alike but for their unit:
 *
 *     coarse   units of 8 words, pages of 512     runs of 8 to 512 words
 *     fine     units of 1 word,  pages of 64      runs of 1, 2 and 4 words
 *
 * A page has one 64-bit map, a bit a unit, and a run is 1 to 64 units on a multiple of its size. A
 * fine page is a run of 64 words of the coarse level. A coarse page is opened (the caller provides
 * memory) when it is first needed and closed when nothing in it is used, but one such page stays
 * open: a slab that comes and goes at a border must not open and close a page each time.
 *
 * Structure, by level: pages are listed by the largest aligned run that is free in them, 1, 2, 4 … 64
 * units; a full page is on no list. A request takes from the first list that can serve it, so that
 * pages fill before others are touched. Closed coarse pages are a stack, below them lies what was
 * never open.
 *
 *     never open  ◄── top     pages [0, top) were open once
 *     closed      ◄── a stack of those of them that are closed
 *
 * A page that comes or goes is on no list: nobody else can use it while the lock is not held and the
 * caller's function, or the coarse level, runs.
 *
 * Invariant: the fine map of 64 words is not 0 if and only if they are a fine page, but for one that
 * comes or goes.
 *
 * Locking: one lock (LOCK_RANK_SLAB_WORDS), released while words_open and words_close run.
 * Complexity: O(1). Memory: 16 bytes a page of either level, touched when it is first used.
 */
#include <errno.h>
#include <stdlib.h>

#include "lock.h"
#include "slab_words.h"

#define WORDS_CLASSES 7u /* log2 of 1 to 64 units */
#define FINE_PAGE 64u    /* words */
#define FINE_MAX 4u      /* words of its largest run: a unit of the coarse level is 8 */
#define PAGE_NONE UINT32_MAX
#define CLASS_FULL (-1)

_Static_assert(SLAB_WORDS_MAX == WORDS_PAGE, "no run is larger than a page");
_Static_assert(SLAB_WORDS_MIN == 1, "the fine level's unit");

struct words_link {
	uint32_t next, prev;
};

struct words_level {
	uint32_t unit;                /* log2 of the words of a unit; 64 of them are a page */
	uint32_t keep;                /* so many pages with nothing in use stay */
	uint32_t whole;               /* listed pages with nothing in use */
	uint32_t list[WORDS_CLASSES]; /* first page, or PAGE_NONE */
	uint64_t *used;               /* maps, by page */
	struct words_link *link;      /* by page */
};

struct slab_words {
	const struct slab_ops *ops;
	void *ctx;
	uint32_t pages; /* coarse ones */
	struct lock lock;
	/* under the lock */
	uint32_t top;
	uint32_t closed; /* linked by next */
	struct words_level coarse, fine;
};

/* ---- maps ---- */

/* Bits where an aligned free run of 2^k units begins. */
static uint64_t free_runs(uint64_t used, uint32_t k)
{
	static const uint64_t aligned[WORDS_CLASSES] = {
		UINT64_MAX,         0x5555555555555555, 0x1111111111111111, 0x0101010101010101,
		0x0001000100010001, 0x0000000100000001, 1,
	};
	uint64_t f = ~used;

	for (uint32_t i = 0; i < k; i++)
		f &= f >> (1u << i);
	return f & aligned[k];
}

static int map_class(uint64_t used)
{
	int k = (int)WORDS_CLASSES - 1;

	while (k >= 0 && !free_runs(used, (uint32_t)k))
		k--;
	return k;
}

static uint64_t run_bits(uint32_t units, uint32_t at)
{
	return (units == 64 ? UINT64_MAX : ((uint64_t)1 << units) - 1) << at;
}

/* ---- a level; lock held, or no other thread ---- */

static int level_init(struct words_level *l, uint32_t unit, uint32_t keep, uint64_t pages)
{
	l->unit = unit;
	l->keep = keep;
	l->used = calloc(pages ? pages : 1, sizeof(*l->used));
	l->link = calloc(pages ? pages : 1, sizeof(*l->link));
	return l->used && l->link ? 0 : -ENOMEM;
}

static uint32_t level_page(const struct words_level *l, uint32_t first)
{
	return first >> l->unit >> 6;
}

static uint64_t level_bits(const struct words_level *l, uint32_t first, uint32_t n)
{
	return run_bits(n >> l->unit, first >> l->unit & 63);
}

static void page_add(struct words_level *l, uint32_t page)
{
	int class = map_class(l->used[page]);
	uint32_t next;

	if (class == CLASS_FULL)
		return;
	next = l->list[class];
	l->link[page] = (struct words_link){ .next = next, .prev = PAGE_NONE };
	if (next != PAGE_NONE)
		l->link[next].prev = page;
	l->list[class] = page;
}

static void page_del(struct words_level *l, uint32_t page, int class)
{
	struct words_link k = l->link[page];

	if (class == CLASS_FULL)
		return;
	if (k.prev != PAGE_NONE)
		l->link[k.prev].next = k.next;
	else
		l->list[class] = k.next;
	if (k.next != PAGE_NONE)
		l->link[k.next].prev = k.prev;
}

/* A run of n words from a listed page; false: none has one. */
static bool level_take(struct words_level *l, uint32_t n, uint32_t *first)
{
	uint32_t k = (uint32_t)__builtin_ctz(n >> l->unit);

	for (uint32_t class = k; class < WORDS_CLASSES; class++) {
		uint32_t page = l->list[class], at;

		if (page == PAGE_NONE)
			continue;
		if (l->used[page] == 0)
			l->whole--;
		at = (uint32_t)__builtin_ctzll(free_runs(l->used[page], k));
		l->used[page] |= run_bits(1u << k, at);
		if (map_class(l->used[page]) != (int)class) {
			page_del(l, page, (int)class);
			page_add(l, page);
		}
		*first = (page * 64 + at) << l->unit;
		return true;
	}
	return false;
}

/* The first run of a page that has come. */
static void level_begin(struct words_level *l, uint32_t first, uint32_t n)
{
	uint32_t page = level_page(l, first);

	l->used[page] = level_bits(l, first, n);
	page_add(l, page);
}

/* True: nothing in its page is in use, and the page, on no list now, is to go. */
static bool level_give(struct words_level *l, uint32_t first, uint32_t n)
{
	uint32_t page = level_page(l, first);
	int before = map_class(l->used[page]);

	l->used[page] &= ~level_bits(l, first, n);
	if (l->used[page] == 0 && l->whole == l->keep) {
		page_del(l, page, before);
		return true;
	}
	l->whole += l->used[page] == 0;
	if (map_class(l->used[page]) != before) {
		page_del(l, page, before);
		page_add(l, page);
	}
	return false;
}

/* False: some of the run is in use. */
static bool level_reserve(struct words_level *l, uint32_t first, uint32_t n)
{
	uint64_t bits = level_bits(l, first, n), *used = &l->used[level_page(l, first)];

	if (*used & bits)
		return false;
	*used |= bits;
	return true;
}

static void level_reset(struct words_level *l, uint32_t pages)
{
	for (uint32_t page = 0; page < pages; page++)
		if (l->used[page]) /* only read, memory stays untouched */
			l->used[page] = 0;
	for (uint32_t class = 0; class < WORDS_CLASSES; class++)
		l->list[class] = PAGE_NONE;
	l->whole = 0;
}

/* ---- runs ---- */

static struct words_level *level_of(struct slab_words *w, uint32_t n)
{
	return n <= FINE_MAX ? &w->fine : &w->coarse;
}

static bool run_legal(const struct slab_words *w, uint32_t first, uint32_t n)
{
	return n >= SLAB_WORDS_MIN && n <= SLAB_WORDS_MAX && (n & (n - 1)) == 0 &&
	       first % n == 0 && first / WORDS_PAGE < w->pages;
}

int slab_words_new(struct slab_words **ret, uint64_t words, const struct slab_ops *ops, void *ctx)
{
	struct slab_words *w;

	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->ops = ops;
	w->ctx = ctx;
	w->pages = (uint32_t)(words / WORDS_PAGE);
	lock_init(&w->lock, LOCK_RANK_SLAB_WORDS);
	if (level_init(&w->coarse, 3, 1, w->pages) ||
	    level_init(&w->fine, 0, 0, words / FINE_PAGE)) {
		slab_words_free(w);
		return -ENOMEM;
	}
	slab_words_reset(w);
	*ret = w;
	return 0;
}

struct slab_words *slab_words_free(struct slab_words *w)
{
	if (!w)
		return NULL;
	free(w->coarse.used);
	free(w->coarse.link);
	free(w->fine.used);
	free(w->fine.link);
	free(w);
	return NULL;
}

static void page_close(struct slab_words *w, uint32_t page)
{
	w->coarse.link[page].next = w->closed;
	w->closed = page;
}

/* Opens a coarse page: its first word. */
static int page_open(struct slab_words *w, uint32_t *first)
{
	uint32_t page;

	{
		LOCK_SCOPED(&w->lock);
		page = w->closed;
		if (page != PAGE_NONE)
			w->closed = w->coarse.link[page].next;
		else if (w->top < w->pages)
			page = w->top++;
		else
			return -ENOMEM;
	}
	if (w->ops->words_open(w->ctx, page * WORDS_PAGE, WORDS_PAGE)) {
		LOCK_SCOPED(&w->lock);
		page_close(w, page);
		return -ENOMEM;
	}
	*first = page * WORDS_PAGE;
	return 0;
}

int slab_words_get(struct slab_words *w, uint32_t n, uint32_t *first)
{
	struct words_level *l = level_of(w, n);
	int err;

	{
		LOCK_SCOPED(&w->lock);
		if (level_take(l, n, first))
			return 0;
	}
	err = l == &w->fine ? slab_words_get(w, FINE_PAGE, first) : page_open(w, first);
	if (err)
		return err;
	LOCK_SCOPED(&w->lock);
	level_begin(l, *first, n);
	return 0;
}

void slab_words_put(struct slab_words *w, uint32_t first, uint32_t n)
{
	struct words_level *l = level_of(w, n);

	{
		LOCK_SCOPED(&w->lock);
		if (!level_give(l, first, n))
			return;
	}
	if (l == &w->fine) {
		slab_words_put(w, first & ~(FINE_PAGE - 1), FINE_PAGE);
		return;
	}
	first &= ~(WORDS_PAGE - 1);
	w->ops->words_close(w->ctx, first, WORDS_PAGE);
	LOCK_SCOPED(&w->lock);
	page_close(w, first / WORDS_PAGE);
}

/* ---- recovery ---- */

void slab_words_reset(struct slab_words *w)
{
	level_reset(&w->fine, w->top * (WORDS_PAGE / FINE_PAGE));
	level_reset(&w->coarse, w->top);
	w->top = 0;
	w->closed = PAGE_NONE;
}

bool slab_words_reserve(struct slab_words *w, uint32_t first, uint32_t n)
{
	uint32_t page = first / WORDS_PAGE;

	if (!run_legal(w, first, n))
		return false;
	if (n > FINE_MAX) {
		if (!level_reserve(&w->coarse, first, n))
			return false;
	} else {
		/* the first one there takes all the fine page, unless it is another run's */
		if (!w->fine.used[level_page(&w->fine, first)] &&
		    !level_reserve(&w->coarse, first & ~(FINE_PAGE - 1), FINE_PAGE))
			return false;
		if (!level_reserve(&w->fine, first, n))
			return false;
	}
	if (page >= w->top)
		w->top = page + 1;
	return true;
}

void slab_words_ready(struct slab_words *w)
{
	for (uint32_t page = w->top; page-- > 0;) {
		if (w->coarse.used[page])
			page_add(&w->coarse, page);
		else
			page_close(w, page);
	}
	for (uint32_t page = w->top * (WORDS_PAGE / FINE_PAGE); page-- > 0;)
		if (w->fine.used[page])
			page_add(&w->fine, page);
}

/* ---- validation ---- */

bool slab_words_used(const struct slab_words *w, uint32_t first, uint32_t n)
{
	uint32_t unit = 1u << w->coarse.unit;
	uint64_t bits;

	if (!run_legal(w, first, n))
		return false;
	bits = level_bits(&w->coarse, first, n < unit ? unit : n);
	if ((w->coarse.used[level_page(&w->coarse, first)] & bits) != bits)
		return false;
	for (uint32_t at = first; at < first + n; at += FINE_PAGE) {
		uint64_t used = w->fine.used[level_page(&w->fine, at)];

		bits = level_bits(&w->fine, at, n < FINE_PAGE ? n : FINE_PAGE);
		if (used && (used & bits) != bits)
			return false;
	}
	return true;
}

uint64_t slab_words_count(const struct slab_words *w)
{
	uint64_t n = 0;

	for (uint32_t page = 0; page < w->top; page++)
		n += (uint64_t)__builtin_popcountll(w->coarse.used[page]) << w->coarse.unit;
	for (uint32_t page = 0; page < w->top * (WORDS_PAGE / FINE_PAGE); page++)
		if (w->fine.used[page])
			n -= FINE_PAGE - (uint32_t)__builtin_popcountll(w->fine.used[page]);
	return n;
}

uint64_t slab_words_end(const struct slab_words *w)
{
	return (uint64_t)w->top * WORDS_PAGE;
}

/* Of the lists; how many pages they have, all of them below `pages`, is added to *listed. */
static const char *lists_nonsense(const struct words_level *l, uint32_t pages, uint32_t *listed)
{
	uint32_t whole = 0;

	for (uint32_t class = 0; class < WORDS_CLASSES; class++) {
		uint32_t previous = PAGE_NONE;

		for (uint32_t page = l->list[class]; page != PAGE_NONE;
		     page = l->link[page].next) {
			if (page >= pages || (*listed)++ >= pages)
				return "a list of word pages leads out of the space, or round";
			if (l->link[page].prev != previous)
				return "a word page's link back is broken";
			if (map_class(l->used[page]) != (int)class)
				return "a word page is on the list of another size";
			whole += l->used[page] == 0;
			previous = page;
		}
	}
	return whole == l->whole && whole <= l->keep ?
	               NULL :
	               "wholly free word pages: not as counted, or too many";
}

static const char *fine_nonsense(const struct slab_words *w)
{
	uint32_t pages = w->top * (WORDS_PAGE / FINE_PAGE), listed = 0, nr = 0, full = 0;
	const char *why = lists_nonsense(&w->fine, pages, &listed);

	for (uint32_t page = 0; page < pages && !why; page++) {
		uint32_t first = page * FINE_PAGE;
		uint64_t bits = level_bits(&w->coarse, first, FINE_PAGE);

		if (!w->fine.used[page])
			continue;
		nr++;
		full += map_class(w->fine.used[page]) == CLASS_FULL;
		if ((w->coarse.used[level_page(&w->coarse, first)] & bits) != bits)
			why = "a page of single words is not in use as a whole";
	}
	return why || listed + full == nr ? why : "a page of single words is lost";
}

const char *slab_words_nonsense(const struct slab_words *w)
{
	uint32_t listed = 0, full = 0;
	const char *why = lists_nonsense(&w->coarse, w->top, &listed);

	if (why)
		return why;
	for (uint32_t page = w->closed; page != PAGE_NONE; page = w->coarse.link[page].next) {
		if (page >= w->top || listed++ >= w->top)
			return "the closed word pages lead out of the space, or round";
		if (w->coarse.used[page])
			return "a closed word page is in use";
	}
	for (uint32_t page = 0; page < w->top; page++)
		full += map_class(w->coarse.used[page]) == CLASS_FULL;
	return listed + full == w->top ? fine_nonsense(w) : "a word page is lost";
}
