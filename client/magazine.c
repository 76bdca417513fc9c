/* SPDX-License-Identifier: MIT */
/*
 * What a thread keeps for itself: two magazines of each class (Bonwick and Adams 2001, 3.1).
 *
 * Allocating pops from `loaded`, freeing pushes to it; when it is empty or full the two change
 * places; only when that does not help is a whole magazine exchanged with the daemon. So a thread
 * that goes back and forth around any point makes no exchange.
 *
 * What is cached is marked RETURNED in its owner word, and a round remembers that word. The daemon
 * may take a block away at any moment by exchanging its word; the thread's claim, an exchange from
 * the remembered word to HELD, then fails, and the round is dropped. Nothing has to be asked of an
 * idle thread.
 *
 * Sizes. A magazine's rounds start where Bonwick's table puts the block's size and move down the
 * table, and on to 512, each time that three misses fall into a tenth of a second. All that a
 * thread caches stays below a bound in bytes; what does not fit goes back, the largest class first.
 *
 *     room = cap - bytes in all magazines         0 <= count <= size <= 512
 */
#include "client/internal.h"

#define MISSES_TO_GROW 3u
#define MISS_WINDOW_NS 100000000u

/* Rounds for blocks above `above` bytes; the table's rows for smaller ones follow. */
static const struct {
	uint32_t rounds, above;
} magazine_table[] = {
	{ 1, 3200 }, { 3, 256 }, { 7, 64 }, { 15, 0 }, { 31, 0 }, { 47, 0 },
	{ 63, 0 },   { 95, 0 },  { 143, 0 }, { 255, 0 }, { MAGAZINE_ROUNDS_MAX, 0 },
};
#define TABLE_ROWS (sizeof(magazine_table) / sizeof(magazine_table[0]))

static const unsigned int class_order[PAGE_CLASS_ORDERS] = { 0, 1, 2, 3, 9 };

/* Both magazines of a class full must fit the bound. */
static uint32_t size_bound(const struct thread_cache *tc, const struct local_class *lc)
{
	int64_t n = tc->cap / (2 * (int64_t)lc->bytes);

	if (n == 0)
		n = tc->cap >= (int64_t)lc->bytes;
	return n < MAGAZINE_ROUNDS_MAX ? (uint32_t)n : MAGAZINE_ROUNDS_MAX;
}

void local_class_init(struct thread_cache *tc)
{
	unsigned int c, row;

	for (c = 0; c < PAGE_CLASSES; c++) {
		struct local_class *lc = &tc->class[c];

		lc->order = class_order[c / 3];
		lc->bytes = (uint32_t)(KMM_PAGE_SIZE << lc->order);
		for (row = 0; magazine_table[row].above >= lc->bytes; row++)
			;
		lc->size = magazine_table[row].rounds;
		if (lc->size > size_bound(tc, lc))
			lc->size = size_bound(tc, lc);
		/* The arrays are reached through the cache, so that in a child, where all is zero,
		 * they are not. */
		lc->loaded = tc->rounds[c][0];
		lc->previous = tc->rounds[c][1];
	}
}

/* An exchange was needed: three in short time, and the magazines are too small. */
static void class_missed(struct thread_cache *tc, struct local_class *lc)
{
	uint64_t now = process_now_coarse();
	uint32_t bound = size_bound(tc, lc);
	unsigned int row;

	if (now - lc->window > MISS_WINDOW_NS) {
		lc->window = now;
		lc->misses = 0;
	}
	if (++lc->misses < MISSES_TO_GROW || lc->size >= bound)
		return;
	lc->misses = 0;
	for (row = 0; row < TABLE_ROWS - 1 && magazine_table[row].rounds <= lc->size; row++)
		;
	lc->size = magazine_table[row].rounds < bound ? magazine_table[row].rounds : bound;
}

static void class_swap(struct local_class *lc)
{
	struct round *r = lc->loaded;
	uint32_t n = lc->loaded_n;

	lc->loaded = lc->previous;
	lc->loaded_n = lc->previous_n;
	lc->previous = r;
	lc->previous_n = n;
}

void thread_cache_report(struct kmm *k, struct thread_cache *tc)
{
	int64_t frames = (tc->cap - tc->room) >> FRAME_SHIFT;

	if (frames == tc->reported)
		return;
	/* relaxed: a hint for reports */
	atomic_fetch_add_explicit(&k->control.session[k->id].cached_pages,
	                          (uint64_t)(frames - tc->reported), memory_order_relaxed);
	tc->reported = frames;
}

/* ---- allocating ---- */

bool local_take(struct thread_cache *tc, unsigned int c, uint32_t *index)
{
	struct local_class *lc = &tc->class[c];

	for (;;) {
		if (lc->loaded_n == 0) {
			if (lc->previous_n == 0)
				return false;
			class_swap(lc);
		}
		while (lc->loaded_n > 0) {
			struct round *r = &lc->loaded[--lc->loaded_n];
			uint64_t w = r->word;

			tc->room += lc->bytes;
			if (owner_cas(&tc->word[r->index], &w,
			              owner_moved(w, OWNER_HELD, tc->id))) {
				*index = r->index;
				return true;
			}
		}
	}
}

int local_refill(struct kmm *k, struct thread_cache *tc, unsigned int c, uint32_t gfp,
                 struct call_how *how, uint32_t *index)
{
	struct local_class *lc = &tc->class[c];
	uint32_t want = lc->size, n;
	int r;

	class_missed(tc, lc);
	if ((int64_t)want * lc->bytes > tc->room)
		want = (uint32_t)(tc->room / lc->bytes);
	if (want < 2)
		return -EAGAIN;
	do {
		/* `loaded` is empty: local_take found nothing */
		r = exchange_take(k, how, gfp, lc->order, OWNER_RETURNED, want, lc->loaded, &n);
		if (r < 0)
			return r;
		lc->loaded_n = n;
		tc->room -= (int64_t)n * lc->bytes;
	} while (!local_take(tc, c, index)); /* collected at once: ask again */
	thread_cache_report(k, tc);
	return 0;
}

/* ---- freeing ---- */

/* Gives a magazine's rounds to the daemon. */
static void give_rounds(struct kmm *k, struct thread_cache *tc, struct local_class *lc,
                        struct round *r, uint32_t n)
{
	uint32_t i, left = n;

	tc->room += (int64_t)n * lc->bytes;
	if (session_state(k) != SESSION_UP) {
		session_untold(k);
		return;
	}
	if (n > 1)
		left = exchange_give(k, lc->order, r, n);
	for (i = 0; i < left; i++) {
		/* relaxed: only whether it is still ours to tell */
		uint64_t w = atomic_load_explicit(&tc->word[r[i].index], memory_order_relaxed);

		if (w == r[i].word)
			page_free_tell(k, r[i].index, lc->order, w);
	}
}

static void give_previous(struct kmm *k, struct thread_cache *tc, struct local_class *lc)
{
	uint32_t n = lc->previous_n;

	lc->previous_n = 0;
	give_rounds(k, tc, lc, lc->previous, n);
}

static void give_loaded(struct kmm *k, struct thread_cache *tc, struct local_class *lc)
{
	uint32_t n = lc->loaded_n;

	lc->loaded_n = 0;
	give_rounds(k, tc, lc, lc->loaded, n);
}

/* Makes room for `bytes` more by giving up what takes most. */
static bool make_room(struct kmm *k, struct thread_cache *tc, int64_t bytes)
{
	while (tc->room < bytes) {
		struct local_class *most = NULL;
		uint64_t max = 0;
		unsigned int c;

		for (c = 0; c < PAGE_CLASSES; c++) {
			struct local_class *lc = &tc->class[c];
			uint64_t has = (uint64_t)(lc->loaded_n + lc->previous_n) * lc->bytes;

			if (has > max) {
				max = has;
				most = lc;
			}
		}
		if (!most)
			return false;
		if (most->previous_n > 0)
			give_previous(k, tc, most);
		else
			give_loaded(k, tc, most);
	}
	return true;
}

bool local_keep(struct kmm *k, struct thread_cache *tc, unsigned int c, uint32_t index,
                uint64_t word)
{
	struct local_class *lc = &tc->class[c];

	if (lc->size == 0)
		return false;
	if (lc->loaded_n >= lc->size) {
		if (lc->previous_n > 0) {
			class_missed(tc, lc);
			give_previous(k, tc, lc);
		}
		class_swap(lc);
	}
	if (tc->room < (int64_t)lc->bytes && !make_room(k, tc, lc->bytes))
		return false;
	lc->loaded[lc->loaded_n].word = word;
	lc->loaded[lc->loaded_n++].index = index;
	tc->room -= lc->bytes;
	thread_cache_report(k, tc);
	return true;
}

/* ---- all at once ---- */

void local_flush(struct kmm *k, struct thread_cache *tc)
{
	unsigned int c;

	for (c = 0; c < PAGE_CLASSES; c++) {
		if (tc->class[c].previous_n > 0)
			give_previous(k, tc, &tc->class[c]);
		if (tc->class[c].loaded_n > 0)
			give_loaded(k, tc, &tc->class[c]);
	}
	thread_cache_report(k, tc);
}

void local_forget(struct thread_cache *tc)
{
	unsigned int c;

	for (c = 0; c < PAGE_CLASSES; c++)
		tc->class[c].loaded_n = tc->class[c].previous_n = 0;
	tc->room = tc->cap;
}
