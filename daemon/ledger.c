/* SPDX-License-Identifier: MIT */
/*
 * The ledger memfd: made, checked, mapped, and given memory where it is about to be written.
 *
 * Its size follows from the pool's; most of it is a hole. A store into a hole can meet a machine
 * without memory, which would end the daemon (SIGBUS), so no store does: the dense parts (head, cache
 * records, slab words, high frames) are populated when the pool is made, and the pages of all others
 * are allocated by fallocate() before the first record on them is used, where the answer is -ENOMEM.
 * Nor is a hole read through the mapping: a read would allocate a page too.
 *
 *     head | cache records | users | name records | slab words | high frames | out bits
 *     dense  dense           hole    hole           dense        dense         hole
 *
 * How many caches there may be follows from the pool as well: an id for each 16 frames, 1,024 at
 * least, so that a small pool is not outweighed by the records of caches that it could never fill.
 *
 * Only the daemon maps the ledger, so no part of it is guarded, and what it says is private truth.
 * Finding things present costs a system call; nothing here takes a lock or allocates.
 */
#include "daemon/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/memfd.h"

#define PAGE 4096u
#define CACHES_MIN 1024u
#define FRAMES_PER_CACHE 16u

static uint32_t caches_of(uint64_t frames)
{
	uint64_t n = frames / FRAMES_PER_CACHE;

	return n < CACHES_MIN ? CACHES_MIN : n > CONTROL_CACHES_MAX ? CONTROL_CACHES_MAX : (uint32_t)n;
}

static size_t page_up(size_t bytes)
{
	return (bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
}

int ledger_layout_compute(struct ledger_layout *l, const struct control_geometry *g)
{
	struct ledger_layout n = { 0 };
	struct control_layout c;

	/* Bounds all numbers: nothing below overflows. */
	if (control_layout_compute(&c, g) < 0)
		return -EINVAL;
	n.nr_caches = caches_of(g->frames);
	n.users_stride = (g->sessions + 63) / 64 * sizeof(uint64_t);
	n.caches = page_up(sizeof(struct ledger_head));
	n.users = n.caches + page_up(CONTROL_CACHES_MAX * sizeof(struct cache_record));
	n.names = n.users + page_up(CONTROL_CACHES_MAX * n.users_stride);
	n.slabs = n.names + page_up(LEDGER_NAMES_MAX * sizeof(struct name_record));
	n.high = n.slabs + page_up(g->frames * sizeof(uint64_t));
	n.out = n.high + page_up(g->high_frames * sizeof(uint32_t));
	n.size = n.out + page_up(c.object_words / 8);
	n.dense = page_up(n.caches + n.nr_caches * sizeof(struct cache_record)) + (n.out - n.slabs);
	*l = n;
	return 0;
}

void ledger_attach(struct ledger *l, const struct ledger_layout *layout, int fd, void *at)
{
	uint8_t *p = at;

	l->fd = fd;
	l->layout = *layout;
	l->head = at;
	l->cache = (struct cache_record *)(p + layout->caches);
	l->users = p + layout->users;
	l->name = (struct name_record *)(p + layout->names);
	l->slab = (_Atomic uint64_t *)(p + layout->slabs);
	l->high = (_Atomic uint32_t *)(p + layout->high);
	l->out = (_Atomic uint64_t *)(p + layout->out);
}

static int ledger_map(struct ledger *l, int fd, const struct control_geometry *g)
{
	struct ledger_layout layout;
	void *at;
	int r = ledger_layout_compute(&layout, g);

	if (r == 0)
		r = shm_map(&at, NULL, fd, layout.size, true);
	if (r < 0)
		return r;
	madvise(at, layout.size, MADV_NOHUGEPAGE); /* also where the policy is "always" */
	ledger_attach(l, &layout, fd, at);
	return 0;
}

void ledger_unmap(struct ledger *l)
{
	if (l->head && l->fd >= 0)
		munmap(l->head, l->layout.size);
	l->head = NULL;
	l->fd = -1;
}

static int ledger_populate(const struct ledger *l)
{
	const struct ledger_layout *y = &l->layout;
	size_t first = y->dense - (y->out - y->slabs);
	int r = shm_populate(l->head, l->fd, 0, first, SHM_4K);

	return r < 0 ? r :
	               shm_populate((void *)l->slab, l->fd, y->slabs, y->out - y->slabs, SHM_4K);
}

void ledger_init_high(const struct ledger *l, const struct control_geometry *g)
{
	uint64_t i;

	/* relaxed: whoever publishes the ledger orders it */
	for (i = 0; i < g->high_frames; i++)
		atomic_store_explicit(&l->high[i], (uint32_t)(g->high_start + i),
		                      memory_order_relaxed);
}

int ledger_create(struct ledger *l, int *fd, const struct control_geometry *g,
                  const uint8_t uuid[16])
{
	struct ledger_layout layout;
	struct control_layout c;
	int r = ledger_layout_compute(&layout, g);

	if (r == 0)
		r = control_layout_compute(&c, g);
	if (r == 0)
		r = shm_memfd_new(fd, "kmm-ledger0", layout.size, SHM_4K);
	if (r == 0)
		r = ledger_map(l, *fd, g);
	if (r == 0)
		r = ledger_populate(l);
	if (r < 0)
		return r;
	*l->head = (struct ledger_head){
		.magic = LEDGER_MAGIC,
		.version = METADATA_VERSION,
		.frames = g->frames,
		.sessions = g->sessions,
		.object_words = c.object_words,
		.high_start = g->high_start,
		.high_frames = g->high_frames,
	};
	ledger_init_high(l, g);
	memcpy(l->head->uuid, uuid, sizeof(l->head->uuid));
	return 0;
}

int ledger_take(struct ledger *l, int fd, const struct control_geometry *g)
{
	return ledger_map(l, fd, g);
}

int ledger_check(const struct ledger *l, const struct control_geometry *g, const uint8_t uuid[16],
                 const char **why)
{
	const struct ledger_head *h = l->head;
	struct control_layout c;

	if (control_layout_compute(&c, g) < 0)
		*why = "the pool's geometry is impossible";
	else if (h->magic != LEDGER_MAGIC)
		*why = "it is no ledger: it was lost, or its contents";
	else if (h->version != METADATA_VERSION && h->version != METADATA_VERSION_BEFORE)
		*why = "it is of another version than the pool's metadata";
	else if (memcmp(h->uuid, uuid, sizeof(h->uuid)) != 0)
		*why = "it is of another pool";
	else if (h->frames != g->frames || h->sessions != g->sessions ||
	         h->object_words != c.object_words || h->high_frames != g->high_frames ||
	         (g->high_frames && h->high_start != g->high_start))
		*why = "it was made for a pool of another size";
	else
		return 0;
	return -EUCLEAN;
}

/* ---- memory for what is about to be written ---- */

static int range_open(const struct ledger *l, size_t offset, size_t size)
{
	size_t first = offset & ~(size_t)(PAGE - 1), end = page_up(offset + size);

	if (l->fd < 0)
		return 0;
	while (fallocate(l->fd, 0, (off_t)first, (off_t)(end - first)) < 0)
		if (errno != EINTR)
			return -ENOMEM;
	return 0;
}

int ledger_open_users(const struct ledger *l, uint32_t cache)
{
	return range_open(l, l->layout.users + cache * l->layout.users_stride,
	                  l->layout.users_stride);
}

int ledger_open_names(const struct ledger *l, uint32_t first, uint32_t n)
{
	return range_open(l, l->layout.names + first * sizeof(struct name_record),
	                  n * sizeof(struct name_record));
}

int ledger_open_out(const struct ledger *l, uint64_t first_word, uint64_t n)
{
	size_t first = first_word / 8;

	return range_open(l, l->layout.out + first, (first_word + n + 7) / 8 - first);
}

uint32_t ledger_names_present(const struct ledger *l)
{
	off_t hole;

	if (l->fd < 0)
		return LEDGER_NAMES_MAX;
	/* Names are written from the first on, so that what was written is one run of pages. */
	hole = lseek(l->fd, (off_t)l->layout.names, SEEK_HOLE);
	if (hole < 0 || (size_t)hole >= l->layout.slabs)
		return LEDGER_NAMES_MAX;
	return (uint32_t)(((size_t)hole - l->layout.names) / sizeof(struct name_record));
}
