/* SPDX-License-Identifier: MIT */
/*
 * Which areas a session has, and those that were freed and are kept.
 *
 *     area[]    all, by address: binary search               live live FREE live FREE
 *     free[]    by kind and size: the freed ones, the         |         |         |
 *               last freed first                              '- block words RETURNED
 *
 * Freeing an area marks its blocks RETURNED and keeps it mapped: the next of the same size takes
 * it by one exchange a block, RETURNED -> HELD, without a system call. Meanwhile the daemon may
 * collect the blocks whenever memory is short, as it does with those that threads cache; then the
 * exchange fails, and the area is ended. What a freed area shows is nobody's business: it may be
 * another's memory of the same domain by then.
 *
 * All freed areas are ended (purged) when they are more than fls(CPUs) x 32 MiB, as in Linux, or
 * a quarter of the pool; when somebody waits for memory; by kmm_flush; and when the process needs
 * their mappings.
 *
 *     LIVE --free--> BUSY --> FREE --reuse--> BUSY --> LIVE            BUSY: one thread's
 *                     '--> ended                '--> ended
 *
 * One lock guards the array, the lists and every `state`; it is held for a look and a few stores.
 * What takes longer (exchanges, system calls, the daemon) is done on BUSY areas without it.
 *
 * Addresses that were freed lately and are no area's any more are remembered, so that a second
 * free is told from a wrong one.
 *
 * Complexity: O(log areas) to find, O(areas) to add or end one, O(blocks) to free or take again.
 */
#include "client/vmalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUCKETS 64u
#define GONE 64u
#define CALLERS 64u
#define FREE_BYTES_PER_STEP ((uint64_t)32 << 20)

struct caller {
	const void *address; /* NULL: unused */
	char text[AREA_CALLER_MAX];
};

struct vmaps {
	pthread_mutex_t lock;
	struct vmap **area; /* by start */
	uint32_t n, room;
	struct vmap *free[BUCKETS];
	uint64_t free_pages, free_max;
	const void *gone[GONE];
	uint32_t gone_next;
	struct caller caller[CALLERS];
};

/* ---- the table itself ---- */

/* A quarter of the pool at most: a small one is not to be kept by one process. */
static uint64_t free_limit(struct kmm *k)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int fls = 0;
	uint64_t pages;

	for (; cpus > 0; cpus >>= 1)
		fls++;
	pages = (fls ? fls : 1) * FREE_BYTES_PER_STEP >> FRAME_SHIFT;
	return pages < k->frames / 4 ? pages : k->frames / 4;
}

static struct vmaps *vmaps_find(struct kmm *k)
{
	/* acquire: pairs with the exchange below */
	return atomic_load_explicit(&k->vmaps, memory_order_acquire);
}

static int vmaps_get(struct kmm *k, struct vmaps **ret)
{
	struct vmaps *t = vmaps_find(k), *there = NULL;

	if (likely(t != NULL)) {
		*ret = t;
		return 0;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(ENOMEM, "no memory for the session's areas");
	pthread_mutex_init(&t->lock, NULL);
	t->free_max = free_limit(k);
	if (!atomic_compare_exchange_strong_explicit(&k->vmaps, &there, t, memory_order_acq_rel,
	                                             memory_order_acquire)) {
		free(t);
		t = there;
	}
	*ret = t;
	return 0;
}

/* The place of the first area that begins behind p; the lock is held, here and below. */
static uint32_t place_behind(const struct vmaps *t, const void *p)
{
	uint32_t low = 0, high = t->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if ((const uint8_t *)p < t->area[mid]->start)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* The area that p lies in. */
static struct vmap *area_at(const struct vmaps *t, const void *p)
{
	uint32_t i = place_behind(t, p);
	struct vmap *a = i ? t->area[i - 1] : NULL;

	return a && (size_t)((const uint8_t *)p - a->start) < a->size ? a : NULL;
}

static int area_insert(struct vmaps *t, struct vmap *a)
{
	uint32_t i;

	if (t->n == t->room) {
		uint32_t room = t->room ? t->room * 2 : 64;
		struct vmap **more = reallocarray(t->area, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		t->area = more;
		t->room = room;
	}
	i = place_behind(t, a->start);
	memmove(t->area + i + 1, t->area + i, (t->n - i) * sizeof(*t->area));
	t->area[i] = a;
	t->n++;
	return 0;
}

static void area_delete(struct vmaps *t, struct vmap *a)
{
	uint32_t i = place_behind(t, a->start) - 1;

	t->n--;
	memmove(t->area + i, t->area + i + 1, (t->n - i) * sizeof(*t->area));
	t->gone[t->gone_next++ % GONE] = a->start;
}

static struct vmap **bucket(struct vmaps *t, enum control_area_kind kind, uint32_t wanted)
{
	return &t->free[(wanted * UINT32_C(0x9e3779b1) + kind) >> 26];
}

static void free_push(struct vmaps *t, struct vmap *a)
{
	struct vmap **first = bucket(t, a->kind, a->wanted);

	a->state = VMAP_FREE;
	a->next = *first;
	a->prev = first;
	if (*first)
		(*first)->prev = &a->next;
	*first = a;
	t->free_pages += a->pages;
}

static void free_pop(struct vmaps *t, struct vmap *a)
{
	a->state = VMAP_BUSY;
	*a->prev = a->next;
	if (a->next)
		a->next->prev = a->prev;
	t->free_pages -= a->pages;
}

/* ---- who called ---- */

static struct caller *caller_place(struct vmaps *t, const void *address)
{
	return &t->caller[((uintptr_t)address >> 2) % CALLERS];
}

/* The loader has locks of its own, so it is asked without ours. */
static void caller_text(struct vmaps *t, const void *address, char text[AREA_CALLER_MAX])
{
	struct caller *c = caller_place(t, address);
	bool known;

	pthread_mutex_lock(&t->lock);
	known = c->address == address;
	if (known)
		memcpy(text, c->text, AREA_CALLER_MAX);
	pthread_mutex_unlock(&t->lock);
	if (known)
		return;
	memset(text, 0, AREA_CALLER_MAX);
	area_caller(address, text);
	pthread_mutex_lock(&t->lock);
	c->address = address;
	memcpy(c->text, text, AREA_CALLER_MAX);
	pthread_mutex_unlock(&t->lock);
}

/* ---- ending ---- */

/* Of an area that is on no list, whose blocks are not HELD any more. told: those of them that still
 * say what they said go to the daemon. */
static void vmap_free(struct kmm *k, struct vmap *a, bool told)
{
	struct block b[64];
	uint32_t i, n = 0;

	vmap_unmap(k, a);
	for (i = 0; i < a->nr_blocks; i++) {
		b[n] = (struct block){ .word = a->block[i].word, .page = a->block[i].page };
		b[n].order = 31 - (unsigned int)__builtin_clz(vmap_block_pages(a, i));
		if (!told || !owner_is(b[n].word, OWNER_RETURNED, k->id))
			continue;
		if (++n == sizeof(b) / sizeof(b[0])) {
			blocks_tell(k, b, n);
			n = 0;
		}
	}
	blocks_tell(k, b, n);
	free(a);
}

/* A BUSY area: it is nobody's on return. */
static void area_end(struct kmm *k, struct vmaps *t, struct vmap *a, bool told)
{
	pthread_mutex_lock(&t->lock);
	area_delete(t, a);
	pthread_mutex_unlock(&t->lock);
	area_release(k, a->entry);
	vmap_free(k, a, told);
}

/* Takes all freed areas off the table's lists. */
static struct vmap *free_pop_all(struct vmaps *t)
{
	struct vmap *all = NULL, *a;
	uint32_t i;

	pthread_mutex_lock(&t->lock);
	for (i = 0; i < BUCKETS; i++)
		while ((a = t->free[i])) {
			free_pop(t, a);
			a->next = all;
			all = a;
		}
	pthread_mutex_unlock(&t->lock);
	return all;
}

void vmalloc_purge(struct kmm *k, bool told)
{
	struct vmaps *t = vmaps_find(k);
	struct vmap *a, *next;

	if (!t)
		return;
	a = free_pop_all(t);
	if (a && !told)
		session_untold(k);
	for (; a; a = next) {
		next = a->next;
		area_end(k, t, a, told);
	}
}

void vmalloc_end(struct kmm *k)
{
	struct vmaps *t = vmaps_find(k);
	uint32_t i;

	blocks_pins_free(k);
	if (!t)
		return;
	for (i = 0; i < t->n; i++) {
		vmap_unmap(k, t->area[i]);
		free(t->area[i]);
	}
	pthread_mutex_destroy(&t->lock);
	free(t->area);
	free(t);
}

/* ---- taking and freeing ---- */

/* All blocks HELD again; false: the daemon has collected some, the rest says RETURNED still. */
static bool blocks_hold(struct kmm *k, struct vmap *a)
{
	uint32_t i;

	for (i = 0; i < a->nr_blocks; i++) {
		struct block b = { .word = a->block[i].word, .page = a->block[i].page };
		bool kept;

		if (block_again(k, &b)) {
			a->block[i].word = b.word;
			continue;
		}
		a->block[i].word = 0;
		while (i-- > 0) {
			b = (struct block){ .word = a->block[i].word, .page = a->block[i].page };
			a->block[i].word = block_return(k, &b, &kept) ? b.word : 0;
		}
		return false;
	}
	return true;
}

struct vmap *vmap_reuse(struct kmm *k, enum control_area_kind kind, uint32_t wanted, size_t used,
                        const void *caller)
{
	struct vmaps *t = vmaps_find(k);
	char text[AREA_CALLER_MAX];
	struct vmap *a;

	if (!t)
		return NULL;
	for (;;) {
		pthread_mutex_lock(&t->lock);
		for (a = *bucket(t, kind, wanted); a; a = a->next)
			if (a->wanted == wanted && a->kind == kind)
				break;
		if (a)
			free_pop(t, a);
		pthread_mutex_unlock(&t->lock);
		if (!a)
			return NULL;
		if (blocks_hold(k, a))
			break;
		area_end(k, t, a, true);
	}
	if (a->caller != caller) {
		a->caller = caller;
		caller_text(t, caller, text);
		area_set_caller(k, a->entry, text);
	}
	area_set_used(k, a->entry, used);
	area_set_kind(k, a->entry, kind);
	pthread_mutex_lock(&t->lock);
	a->state = VMAP_LIVE;
	pthread_mutex_unlock(&t->lock);
	return a;
}

int vmap_add(struct kmm *k, struct vmap *a, size_t used, const void *caller)
{
	char text[AREA_CALLER_MAX];
	struct area_about about = {
		.kind = a->kind,
		.start = a->start,
		.size = a->map ? a->size + KMM_PAGE_SIZE : a->size,
		.pages = a->pages,
		.used = used,
		.caller = text,
	};
	struct vmaps *t = NULL;
	uint32_t i;
	int r = vmaps_get(k, &t);

	if (r < 0)
		return r;
	caller_text(t, caller, text);
	a->caller = caller;
	for (i = 0; i < a->nr_blocks; i++)
		area_count_nodes(k, vmap_block_frame(k, &a->block[i]), vmap_block_pages(a, i),
		                 about.node_pages);
	if (area_claim(k, &about, &a->entry) < 0)
		a->entry = AREA_NONE;
	a->state = VMAP_LIVE;
	pthread_mutex_lock(&t->lock);
	r = area_insert(t, a);
	pthread_mutex_unlock(&t->lock);
	if (r < 0) {
		area_release(k, a->entry);
		return error_set(ENOMEM, "no memory for the session's areas");
	}
	return 0;
}

/* What is wrong with p, of which no live area of the kind begins; the lock is held. */
static int not_taken(struct kmm *k, const struct vmaps *t, const struct vmap *a, const void *p,
                     enum control_area_kind kind)
{
	const char *what = kind == CONTROL_AREA_STACK ? "stack" : "vmalloc area";
	uint32_t i;

	if (a && a->state == VMAP_LIVE && a->kind != kind)
		return error_set(EINVAL, "%p lies in a %s: it is no %s", p,
		                 kind == CONTROL_AREA_STACK ? "vmalloc area, which kmm_vfree frees"
		                                            : "stack, which kmm_free_stack frees",
		                 what);
	if (a && a->state == VMAP_LIVE)
		return error_set(EINVAL,
		                 "%p lies inside the %s at %p, which is named by its first byte", p,
		                 what, (void *)a->start);
	for (i = 0; !a && t && i < GONE; i++)
		if (t->gone[i] == p)
			break;
	if (a || (t && i < GONE))
		return error_set(ENOENT, "no live %s is at %p: it was freed before", what, p);
	if ((uintptr_t)p - (uintptr_t)k->window < k->window_size)
		return error_set(EPERM,
		                 "%p is no %s of this session: it lies in the pool's window, where "
		                 "kmm_kfree frees",
		                 p, what);
	return error_set(EPERM, "%p is no %s of this session", p, what);
}

int vmap_take(struct kmm *k, enum control_area_kind kind, const void *p, struct vmap **ret)
{
	struct vmaps *t = vmaps_find(k);
	struct vmap *a;
	int r = 0;

	if (!t)
		return not_taken(k, NULL, NULL, p, kind);
	pthread_mutex_lock(&t->lock);
	a = area_at(t, p);
	if (likely(a && a->start == p && a->state == VMAP_LIVE && a->kind == kind)) {
		a->state = VMAP_BUSY;
		*ret = a;
	} else {
		r = not_taken(k, t, a, p, kind);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* All blocks RETURNED; false: not all are this session's alone any more. */
static bool blocks_return(struct kmm *k, struct vmap *a)
{
	bool all = true, kept;
	uint32_t i;

	for (i = 0; i < a->nr_blocks; i++) {
		struct block b = { .word = a->block[i].word, .page = a->block[i].page };

		if (likely(block_return(k, &b, &kept))) {
			a->block[i].word = b.word;
			all = all && !kept;
		} else {
			a->block[i].word = 0; /* freed or adopted by itself */
			all = false;
		}
	}
	return all;
}

void vmap_discard(struct kmm *k, struct vmap *a)
{
	blocks_return(k, a);
	vmap_free(k, a, true);
}

void vmap_release(struct kmm *k, struct vmap *a)
{
	struct vmaps *t = vmaps_find(k);
	/* Where memory is short, what is freed is to be there for others on return. */
	bool keep = blocks_return(k, a) && !pressure(k) && !scarce(k), full;

	if (!keep || a->pages > t->free_max) {
		area_end(k, t, a, true);
		return;
	}
	area_set_kind(k, a->entry, CONTROL_AREA_UNPURGED);
	pthread_mutex_lock(&t->lock);
	free_push(t, a);
	full = t->free_pages > t->free_max;
	pthread_mutex_unlock(&t->lock);
	if (full)
		vmalloc_purge(k, true);
}

bool vmap_find(struct kmm *k, enum control_area_kind kind, const void *p, uint32_t *page)
{
	struct vmaps *t = vmaps_find(k);
	uint32_t at, low = 0, high;
	struct vmap *a;
	bool found;

	if (!t)
		return false;
	pthread_mutex_lock(&t->lock);
	a = area_at(t, p);
	found = a && a->state == VMAP_LIVE && a->kind == kind;
	if (found) {
		at = (uint32_t)((size_t)((const uint8_t *)p - a->start) >> FRAME_SHIFT);
		/* the last block that begins at or before it */
		for (high = a->nr_blocks; high - low > 1;) {
			uint32_t mid = low + (high - low) / 2;

			if (a->block[mid].at <= at)
				low = mid;
			else
				high = mid;
		}
		*page = a->block[low].page + (at - a->block[low].at);
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

uint64_t vmap_free_pages(struct kmm *k)
{
	struct vmaps *t = vmaps_find(k);

	return t ? t->free_pages : 0;
}

/* ---- validating ---- */

static bool is_listed(struct vmaps *t, const struct vmap *a)
{
	const struct vmap *f;

	for (f = *bucket(t, a->kind, a->wanted); f; f = f->next)
		if (f == a)
			return true;
	return false;
}

static const char *area_wrong(struct kmm *k, struct vmaps *t, const struct vmap *a)
{
	uint32_t i;

	if (a->state == VMAP_BUSY)
		return "an area is nobody's";
	if ((a->state == VMAP_FREE) != is_listed(t, a))
		return "an area is on the wrong list";
	if (a->size != (size_t)a->pages << FRAME_SHIFT || !a->nr_blocks || a->block[0].at)
		return "an area has another size than its pages";
	if (a->map && (a->start < a->map ||
	               a->start + a->size + KMM_PAGE_SIZE != a->map + a->map_size))
		return "an area has no guard";
	for (i = 0; i < a->nr_blocks; i++) {
		uint32_t pages = vmap_block_pages(a, i);
		uint64_t w = owner_load(&k->control.word[a->block[i].page]);

		if (!pages || pages & (pages - 1))
			return "a block's size is no power of two";
		if (a->state == VMAP_LIVE && (!owner_is(w, OWNER_HELD, k->id) ||
		                              w >> OWNER_GENERATION_SHIFT !=
		                                      a->block[i].word >> OWNER_GENERATION_SHIFT))
			return "a block of a live area is not held";
		if (a->state == VMAP_LIVE && a->block[i].page >= k->frames &&
		    (!page_pinned(k, a->block[i].page) || !(w & OWNER_MAPPED)))
			return "a page that can move is not pinned";
	}
	return NULL;
}

size_t vmap_validate(struct kmm *k, void (*report)(const char *text))
{
	struct vmaps *t = vmaps_find(k);
	uint64_t free_pages = 0;
	size_t findings = 0;
	uint32_t i;

	for (i = 0; t && i < t->n; i++) {
		const struct vmap *a = t->area[i];
		const char *wrong = area_wrong(k, t, a);

		if (!wrong && i && t->area[i - 1]->start + t->area[i - 1]->size > a->start)
			wrong = "areas overlap, or are out of order";
		if (a->state == VMAP_FREE)
			free_pages += a->pages;
		if (!wrong)
			continue;
		findings++;
		report(wrong);
	}
	if (t && free_pages != t->free_pages) {
		findings++;
		report("the freed areas have another number of pages than is counted");
	}
	return findings;
}
