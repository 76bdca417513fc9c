/* SPDX-License-Identifier: MIT */
/*
 * What a thread keeps for itself: two magazines of each class (Bonwick and Adams 2001, 3.1).
 *
 * Allocating pops from `loaded`, freeing pushes to it; when it is empty or full the two change
 * places; only when that does not help is a whole magazine exchanged with the daemon. So a thread
 * that goes back and forth around any point makes no exchange.
 *
 * Page blocks and objects are cached by the same code; struct local_kind says in what they differ.
 *
 *   blocks   marked RETURNED in their owner words while cached; a round remembers the word's
 *            generation. The daemon may take a block away at any moment by exchanging its word; the
 *            thread's claim, an exchange to HELD, then fails, and the round is dropped.
 *   objects  stay HELD (or, where the cache says so, are marked as blocks are); whoever wants them
 *            from an idle thread takes them out of its magazines (seize.c). Therefore all that
 *            touches magazines of objects happens between local_enter() and local_leave(), and
 *            nothing that waits for the daemon does.
 *
 * Sizes. A magazine's rounds start where Bonwick's table puts the thing's size and move down the
 * table, and on to 512, each time that three misses fall into a tenth of a second. All that a
 * thread caches stays below a bound in bytes:
 *
 *     room = cap - bytes of blocks in magazines - bytes that magazines of objects can hold
 *
 * What does not fit goes back: blocks, the largest class first, and the objects of classes that were
 * not exchanged lately, whose magazines go with them.
 *
 * Arrays of rounds come in the table's sizes from the cache's arena; one that is out of use serves
 * the next class that needs its size.
 */
#include <string.h>

#include "client/internal.h"

#define MISSES_TO_GROW 3u
#define MISS_WINDOW_MS 100u
#define IDLE_MS 200u
#define WHOLE_SHARE 4 /* a class of objects gets at most this part of the bound */

/* Rounds for things above `above` bytes; the table's rows for smaller ones follow. */
static const struct {
	uint32_t rounds, above;
} magazine_table[MAGAZINE_ROWS] = {
	{ 1, 3200 }, { 3, 256 }, { 7, 64 }, { 15, 0 }, { 31, 0 }, { 47, 0 },
	{ 63, 0 },   { 95, 0 },  { 143, 0 }, { 255, 0 }, { MAGAZINE_ROUNDS_MAX, 0 },
};

static const unsigned int class_order[PAGE_CLASS_ORDERS] = { 0, 1, 2, 3, 9 };

static struct exchange class_exchange(const struct local_class *lc)
{
	return (struct exchange){ .cache = lc->cache,
		                  .order = lc->order,
		                  .marked = lc->kind == &local_marked };
}

static uint32_t clock_ms(void)
{
	return (uint32_t)(process_now_coarse() / 1000000u);
}

/* ---- sizes ---- */

/* Both magazines of a class full must fit the bound. */
static uint32_t size_bound(const struct thread_cache *tc, const struct local_class *lc)
{
	int64_t both = 2 * (int64_t)lc->bytes;
	int64_t n = tc->cap / (lc->kind->whole ? both * WHOLE_SHARE : both);

	if (n == 0)
		n = tc->cap >= (lc->kind->whole ? both : (int64_t)lc->bytes);
	return n < MAGAZINE_ROUNDS_MAX ? (uint32_t)n : MAGAZINE_ROUNDS_MAX;
}

static uint32_t size_first(const struct thread_cache *tc, const struct local_class *lc)
{
	uint32_t bound = size_bound(tc, lc);
	unsigned int row;

	for (row = 0; magazine_table[row].above >= lc->bytes; row++)
		;
	return magazine_table[row].rounds < bound ? magazine_table[row].rounds : bound;
}

/* The first row with room for `size` rounds. */
static unsigned int size_row(uint32_t size)
{
	unsigned int row;

	for (row = 0; magazine_table[row].rounds < size; row++)
		;
	return row;
}

static uint64_t *array_get(struct thread_cache *tc, unsigned int row)
{
	uint64_t *a = tc->spare_array[row];

	if (!a) {
		/* The 0 before it stops the fast paths, which look at nothing else; the other word
		 * keeps it aligned to 16. */
		a = thread_cache_memory(tc, (2 + magazine_table[row].rounds) * sizeof(*a));
		return a ? a + 2 : NULL;
	}
	tc->spare_array[row] = (uint64_t *)(uintptr_t)a[0];
	return a;
}

static void array_put(struct thread_cache *tc, unsigned int row, uint64_t *a)
{
	if (!a)
		return;
	a[0] = (uintptr_t)tc->spare_array[row];
	tc->spare_array[row] = a;
}

static void class_set_size(struct thread_cache *tc, struct local_class *lc, uint32_t size)
{
	int64_t more = 2 * ((int64_t)size - local_size(lc)) * lc->bytes;

	if (lc->kind->whole) {
		tc->room -= more;
		tc->whole += more;
	}
	lc->end = lc->loaded + size;
}

/* Larger magazines, when there are memory and room for them. What is in them stays. */
static bool class_grow(struct thread_cache *tc, struct local_class *lc, uint32_t size)
{
	unsigned int row = size_row(size);
	uint64_t *loaded, *previous;
	uint32_t n, had;

	if (lc->kind->whole && 2 * ((int64_t)size - local_size(lc)) * lc->bytes > tc->room)
		return false;
	if (!lc->loaded || row > lc->capacity) {
		loaded = array_get(tc, row);
		previous = array_get(tc, row);
		if (!loaded || !previous) {
			array_put(tc, row, loaded);
			array_put(tc, row, previous);
			return false;
		}
		n = local_loaded(lc);
		had = local_size(lc);
		if (lc->loaded) {
			memcpy(loaded, lc->loaded, n * sizeof(*loaded));
			memcpy(previous, lc->previous, lc->previous_n * sizeof(*previous));
		}
		array_put(tc, lc->capacity, lc->loaded);
		array_put(tc, lc->capacity, lc->previous);
		lc->loaded = loaded;
		lc->top = loaded + n;
		lc->end = loaded + had;
		lc->previous = previous;
		lc->capacity = (uint8_t)row;
	}
	class_set_size(tc, lc, size);
	return true;
}

/* An empty class of objects gives up its magazines. */
static void class_stop(struct thread_cache *tc, struct local_class *lc)
{
	local_close(lc);
	class_set_size(tc, lc, 0);
	array_put(tc, lc->capacity, lc->loaded);
	array_put(tc, lc->capacity, lc->previous);
	lc->loaded = lc->previous = lc->top = lc->end = NULL;
}

void thread_cache_report(struct kmm *k, struct thread_cache *tc)
{
	int64_t frames = (tc->cap - tc->room - tc->whole) >> FRAME_SHIFT;

	if (frames == tc->reported)
		return;
	/* relaxed: a hint for reports */
	atomic_fetch_add_explicit(&k->control.session[k->id].cached_pages,
	                          (uint64_t)(frames - tc->reported), memory_order_relaxed);
	tc->reported = frames;
}

/* Moves one magazine's rounds, the previous one's first, to `out`: how many. */
static uint32_t class_empty(struct thread_cache *tc, struct local_class *lc,
                            uint64_t out[MAGAZINE_ROUNDS_MAX])
{
	uint32_t n = lc->previous_n;

	if (n > 0) {
		memcpy(out, lc->previous, n * sizeof(out[0]));
		lc->previous_n = 0;
	} else if ((n = local_loaded(lc)) > 0) {
		memcpy(out, lc->loaded, n * sizeof(out[0]));
		lc->top = lc->loaded;
	}
	if (!lc->kind->whole)
		tc->room += (int64_t)n * lc->bytes;
	return n;
}

/* ---- room ---- */

static bool class_idle(const struct local_class *lc, uint32_t now)
{
	return now - lc->window > IDLE_MS;
}

/* What takes most room of what may be given up for lc; NULL: nothing. */
static struct local_class *room_victim(struct thread_cache *tc, const struct local_class *lc)
{
	struct local_class *most = NULL;
	uint32_t now = clock_ms();
	struct local_objects *o;
	uint64_t max = 0, has;
	unsigned int c;

	for (c = 0; c < PAGE_CLASSES; c++) {
		has = (uint64_t)(local_loaded(&tc->class[c]) + tc->class[c].previous_n) *
		      tc->class[c].bytes;
		if (has > max && (!lc->kind->whole || class_idle(&tc->class[c], now))) {
			max = has;
			most = &tc->class[c];
		}
	}
	/* relaxed: the thread's own list */
	for (o = atomic_load_explicit(&tc->objects, memory_order_relaxed); o; o = o->next) {
		has = (uint64_t)2 * local_size(&o->class) * o->class.bytes;
		if (has > max && &o->class != lc && class_idle(&o->class, now)) {
			max = has;
			most = &o->class;
		}
	}
	return most;
}

/* Makes room for `bytes` more by giving up what takes most. */
static bool make_room(struct kmm *k, struct thread_cache *tc, const struct local_class *lc,
                      int64_t bytes)
{
	uint64_t r[MAGAZINE_ROUNDS_MAX];

	while (tc->room < bytes) {
		struct local_class *most = room_victim(tc, lc);
		uint32_t n;

		if (!most)
			return false;
		local_enter(tc);
		n = class_empty(tc, most, r);
		if (n == 0 && most->kind->whole)
			class_stop(tc, most);
		local_leave(tc);
		if (n > 0)
			most->kind->give(k, class_exchange(most), r, n, false);
	}
	return true;
}

/* An exchange was needed: three in short time, and the magazines are too small. */
static void class_missed(struct kmm *k, struct thread_cache *tc, struct local_class *lc)
{
	uint32_t now = clock_ms(), bound = size_bound(tc, lc), size, had = local_size(lc);
	unsigned int row;

	if (now - lc->window > MISS_WINDOW_MS) {
		lc->window = now;
		lc->misses = 0;
	}
	if (++lc->misses < MISSES_TO_GROW || had >= bound)
		return;
	lc->misses = 0;
	for (row = 0; row < MAGAZINE_ROWS - 1 && magazine_table[row].rounds <= had; row++)
		;
	size = magazine_table[row].rounds < bound ? magazine_table[row].rounds : bound;
	if (lc->kind->whole)
		make_room(k, tc, lc, 2 * (int64_t)(size - had) * lc->bytes);
	local_enter(tc);
	class_grow(tc, lc, size);
	local_leave(tc);
}

void local_class_want(struct kmm *k, struct thread_cache *tc, struct local_class *lc, size_t n)
{
	uint32_t bound = size_bound(tc, lc), size, had = local_size(lc);

	if (n > bound)
		n = bound;
	if (had == 0 || had >= n)
		return;
	size = magazine_table[size_row((uint32_t)n)].rounds;
	if (size > bound)
		size = bound;
	if (lc->kind->whole)
		make_room(k, tc, lc, 2 * (int64_t)(size - had) * lc->bytes);
	local_enter(tc);
	class_grow(tc, lc, size);
	local_leave(tc);
}

void local_class_start(struct kmm *k, struct thread_cache *tc, struct local_class *lc)
{
	uint32_t size = size_first(tc, lc);

	lc->window = clock_ms();
	lc->misses = 0;
	if (size == 0)
		return;
	make_room(k, tc, lc, 2 * (int64_t)size * lc->bytes);
	local_enter(tc);
	while (!class_grow(tc, lc, size) && size > 1)
		size /= 2;
	local_leave(tc);
}

void local_class_stop(struct thread_cache *tc, struct local_class *lc)
{
	local_enter(tc);
	if (local_size(lc) > 0 && local_loaded(lc) + lc->previous_n == 0)
		class_stop(tc, lc);
	local_leave(tc);
}

void local_class_init(struct thread_cache *tc)
{
	unsigned int c;

	for (c = 0; c < PAGE_CLASSES; c++) {
		struct local_class *lc = &tc->class[c];

		lc->kind = &local_blocks;
		lc->order = (uint8_t)class_order[c / 3];
		lc->bytes = (uint32_t)(KMM_PAGE_SIZE << lc->order);
		class_grow(tc, lc, size_first(tc, lc));
	}
}

/* ---- allocating ---- */

uint32_t local_take_many(struct thread_cache *tc, struct local_class *lc, uint64_t out[],
                         uint32_t n)
{
	uint32_t got = 0;

	local_enter(tc);
	while (got < n) {
		uint64_t r;

		if (lc->top == lc->loaded) {
			if (lc->previous_n == 0)
				break;
			local_swap(lc);
		}
		r = *--lc->top;
		if (!lc->kind->whole)
			tc->room += lc->bytes;
		if (!lc->kind->claim || lc->kind->claim(tc, lc, r))
			out[got++] = r;
	}
	local_leave(tc);
	return got;
}

bool local_take(struct thread_cache *tc, struct local_class *lc, uint64_t *round)
{
	return local_take_many(tc, lc, round, 1) == 1;
}

/* Puts rounds into the magazines, the last first: how many are left. */
static uint32_t class_fill(struct thread_cache *tc, struct local_class *lc, const uint64_t r[],
                           uint32_t n)
{
	local_enter(tc);
	while (n > 0) {
		uint32_t some = (uint32_t)(lc->end - lc->top);

		if (some > n)
			some = n;
		if (!lc->kind->whole && (int64_t)some * lc->bytes > tc->room)
			some = (uint32_t)(tc->room / lc->bytes);
		if (some == 0) {
			if (lc->previous_n >= local_loaded(lc))
				break;
			local_swap(lc);
			if (lc->top == lc->end)
				break;
			continue;
		}
		n -= some;
		memcpy(lc->top, r + n, some * sizeof(r[0]));
		lc->top += some;
		if (!lc->kind->whole)
			tc->room -= (int64_t)some * lc->bytes;
	}
	local_leave(tc);
	return n;
}

int local_refill(struct kmm *k, struct thread_cache *tc, struct local_class *lc, uint32_t gfp,
                 struct call_how *how, uint64_t *round)
{
	uint64_t out[MAGAZINE_ROUNDS_MAX];
	uint32_t want, n = 0;
	struct exchange x;
	bool have = false;
	int r = 0;

	class_missed(k, tc, lc);
	want = local_size(lc);
	x = class_exchange(lc);
	x.room = 2 * want < MAGAZINE_ROUNDS_MAX ? 2 * want : MAGAZINE_ROUNDS_MAX;
	if (!lc->kind->whole && (int64_t)want * lc->bytes > tc->room)
		want = (uint32_t)(tc->room / lc->bytes);
	if (want < 2)
		return -EAGAIN;
	thread_cache_pin(tc); /* a constructor may do anything */
	while (!have && r == 0) { /* again when all was collected at once */
		r = lc->kind->take(k, x, gfp, how, want, out, &n);
		while (r == 0 && !have && n > 0) {
			*round = out[--n];
			have = !lc->kind->claim || lc->kind->claim(tc, lc, *round);
		}
	}
	if (r == 0) {
		n = class_fill(tc, lc, out, n);
		if (n > 0)
			lc->kind->give(k, class_exchange(lc), out, n, false);
	}
	thread_cache_unpin(tc);
	thread_cache_report(k, tc);
	return r;
}

/* ---- freeing ---- */

/* `loaded` is full: the two change places, and what the other held goes back. */
static void class_overflow(struct kmm *k, struct thread_cache *tc, struct local_class *lc)
{
	uint64_t r[MAGAZINE_ROUNDS_MAX];
	uint32_t n = 0;
	bool both;

	local_enter(tc);
	both = lc->previous_n > 0;
	local_leave(tc);
	if (both)
		class_missed(k, tc, lc);
	local_enter(tc);
	if (lc->previous_n > 0)
		n = class_empty(tc, lc, r);
	local_swap(lc);
	local_leave(tc);
	if (n > 0)
		lc->kind->give(k, class_exchange(lc), r, n, false);
}

bool local_keep(struct kmm *k, struct thread_cache *tc, struct local_class *lc, uint64_t round)
{
	bool kept, full;

	if (lc->end == lc->loaded)
		return false;
	local_enter(tc);
	full = lc->top == lc->end;
	local_leave(tc);
	if (full)
		class_overflow(k, tc, lc);
	if (!lc->kind->whole && tc->room < (int64_t)lc->bytes &&
	    !make_room(k, tc, lc, lc->bytes))
		return false;
	local_enter(tc);
	kept = lc->top != lc->end;
	if (kept) {
		*lc->top++ = round;
		if (!lc->kind->whole)
			tc->room -= lc->bytes;
	}
	local_leave(tc);
	thread_cache_report(k, tc);
	return kept;
}

void local_keep_many(struct kmm *k, struct thread_cache *tc, struct local_class *lc, uint64_t r[],
                     uint32_t n)
{
	n = class_fill(tc, lc, r, n);
	if (n == 0)
		return;
	if (n <= local_size(lc)) /* a whole magazine goes, not these few */
		class_overflow(k, tc, lc);
	else
		class_missed(k, tc, lc);
	n = class_fill(tc, lc, r, n);
	if (n > 0)
		lc->kind->give(k, class_exchange(lc), r, n, false);
}

/* ---- all at once ---- */

void local_flush_class(struct kmm *k, struct thread_cache *tc, struct local_class *lc, bool wait)
{
	uint64_t r[MAGAZINE_ROUNDS_MAX];
	uint32_t n;

	for (;;) {
		local_enter(tc);
		n = class_empty(tc, lc, r);
		local_leave(tc);
		if (n == 0)
			break;
		lc->kind->give(k, class_exchange(lc), r, n, wait);
	}
}

void local_flush_objects(struct kmm *k, struct thread_cache *tc, bool wait)
{
	struct local_objects *o;

	/* relaxed: the thread's own list */
	for (o = atomic_load_explicit(&tc->objects, memory_order_relaxed); o; o = o->next)
		if (o->class.kind)
			local_flush_class(k, tc, &o->class, wait);
}

void local_flush(struct kmm *k, struct thread_cache *tc)
{
	unsigned int c;

	for (c = 0; c < PAGE_CLASSES; c++)
		local_flush_class(k, tc, &tc->class[c], false);
	local_flush_objects(k, tc, false);
	thread_cache_report(k, tc);
}

void local_forget(struct thread_cache *tc)
{
	unsigned int c;

	for (c = 0; c < PAGE_CLASSES; c++) {
		tc->class[c].top = tc->class[c].loaded;
		tc->class[c].previous_n = 0;
	}
	tc->room = tc->cap - tc->whole;
}

/* ---- page blocks ---- */

static int blocks_take(struct kmm *k, struct exchange x, uint32_t gfp, struct call_how *how,
                       uint32_t want, uint64_t out[], uint32_t *n)
{
	return exchange_take(k, how, x, gfp, OWNER_RETURNED, want, out, n);
}

/* The words say it already: whoever takes a block is done with it, and the daemon may look. */
static void blocks_give(struct kmm *k, struct exchange x, uint64_t r[], uint32_t n, bool wait)
{
	uint32_t i, left = n;

	(void)wait;
	if (session_state(k) != SESSION_UP) {
		session_untold(k);
		return;
	}
	if (n > 1)
		left = exchange_give(k, x, r, n);
	for (i = 0; i < left; i++) {
		uint32_t pfn = (uint32_t)r[i];
		/* relaxed: only whether it is still ours to tell */
		uint64_t w = atomic_load_explicit(&k->control.word[pfn], memory_order_relaxed);

		if (owner_is(w, OWNER_RETURNED, k->id) && round_of_block(pfn, w) == r[i])
			page_free_tell(k, pfn, x.order, w);
	}
}

static bool blocks_claim(struct thread_cache *tc, const struct local_class *lc, uint64_t round)
{
	(void)lc;
	return round_claim_block(tc, round);
}

const struct local_kind local_blocks = {
	.take = blocks_take,
	.give = blocks_give,
	.claim = blocks_claim,
};
