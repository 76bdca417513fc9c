/* SPDX-License-Identifier: MIT */
/*
 * Client processes killed with SIGKILL at random moments while they allocate, free and share.
 *
 *      parent: fork ─> client ─> ... ─> SIGKILL        KILLS times, AT_ONCE at a time
 *                        │  ▲
 *                        ▼  │ handles
 *                   board: BOARD words that all clients share; whoever finds a handle there looks,
 *                   holds or adopts, whether its owner still lives or not
 *
 * Afterwards nothing may be left: every zone has as many free frames as at the start (after
 * drop-caches), fsck has no finding, and the daemon has the descriptors that it had.
 *
 * A client also watches that nobody writes into what it owns, and that calls that cannot fail do
 * not: it then says so and exits, which the parent takes for a failure.
 *
 * KMM_TEST_SEED makes a run like another one, KMM_TEST_KILLS sets the number.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/stress/victims.h"

#define KILLS 1000
#define AT_ONCE 8
#define LIFE_US 25000 /* at most */
#define BOARD 32
#define BLOCKS 96

struct shared {
	_Atomic uint64_t board[BOARD]; /* relaxed: handles are only numbers */
	_Atomic uint64_t done[3]; /* allocated, adopted, held: to see that the test does its work */
};

struct block {
	void *address;       /* NULL: none */
	kmm_handle_t handle; /* not 0: shown on the board, so others may have adopted it */
	unsigned order;
	bool held; /* by kmm_get_handle, not owned */
};

struct client {
	struct kmm *k;
	struct shared *shared;
	struct block block[BLOCKS];
	unsigned seed;
};

static unsigned draw(struct client *c, unsigned n)
{
	return (unsigned)rand_r(&c->seed) % n;
}

static void mark(const struct client *c, const struct block *b)
{
	*(uint64_t *)b->address = (uint64_t)getpid() << 32 | (uint64_t)(b - c->block);
}

static void allocate(struct client *c, struct block *b)
{
	static const kmm_gfp_t gfp[] = {
		KMM_GFP_KERNEL,
		KMM_GFP_NOWAIT,
		KMM_GFP_ATOMIC,
		KMM_GFP_KERNEL | KMM_GFP_MOVABLE,
		KMM_GFP_KERNEL | KMM_GFP_ZERO,
		KMM_GFP_KERNEL | KMM_GFP_DMA,
		KMM_GFP_NOWAIT | KMM_GFP_RECLAIMABLE,
	};
	static const unsigned char order[] = { 0, 0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 9 };

	b->order = order[draw(c, sizeof(order))];
	b->address = kmm_get_free_pages(c->k, gfp[draw(c, sizeof(gfp) / sizeof(gfp[0]))], b->order);
	b->handle = 0;
	b->held = false;
	must(b->address || errno == ENOMEM);
	if (!b->address)
		return;
	mark(c, b);
	atomic_fetch_add_explicit(&c->shared->done[0], 1, memory_order_relaxed);
}

static void allocate_bulk(struct client *c)
{
	struct kmm_page *page[BLOCKS];
	size_t room = 0, n;

	for (size_t i = 0; i < BLOCKS; i++)
		room += !c->block[i].address;
	n = kmm_alloc_pages_bulk(c->k, KMM_GFP_NOWAIT, 0, room, page);
	for (size_t i = 0; n > 0; i++) {
		if (c->block[i].address)
			continue;
		c->block[i] = (struct block){ .address = kmm_page_address(c->k, page[--n]) };
		mark(c, &c->block[i]);
	}
}

static void release(struct client *c, struct block *b)
{
	void *p = b->address;

	b->address = NULL;
	if (b->held) {
		must(kmm_put(c->k, p) == 0);
		return;
	}
	if (b->handle) {
		/* is it still ours? taking it back decides */
		if (!kmm_adopt(c->k, b->handle)) {
			int r;

			must(errno == ESTALE || errno == EBUSY);
			if (errno == ESTALE)
				return;
			/* held by others, so still ours, unless they let go and it is adopted right
			 * now */
			r = kmm_free_page_addr(c->k, p, b->order);
			must(r == 0 || r == -ESTALE || r == -EPERM || r == -ENOENT);
			return;
		}
	} else {
		must(*(uint64_t *)p == ((uint64_t)getpid() << 32 | (uint64_t)(b - c->block)));
	}
	must(kmm_free_page_addr(c->k, p, b->order) == 0);
}

static void show(struct client *c, struct block *b)
{
	if (b->held || b->handle)
		return;
	b->handle = kmm_handle(c->k, b->address);
	must(b->handle);
	atomic_store_explicit(&c->shared->board[draw(c, BOARD)], b->handle, memory_order_relaxed);
}

static void take(struct client *c, struct block *b)
{
	kmm_handle_t handle =
		atomic_load_explicit(&c->shared->board[draw(c, BOARD)], memory_order_relaxed);
	bool adopt = draw(c, 2);
	void *p;

	if (!handle)
		return;
	for (size_t i = 0; i < BLOCKS; i++)
		if (c->block[i].address && c->block[i].handle == handle)
			return; /* our own */
	p = adopt ? kmm_adopt(c->k, handle) : kmm_get_handle(c->k, handle);
	if (!p) {
		must(errno == ESTALE || errno == EBUSY || errno == ENOENT);
		return;
	}
	atomic_fetch_add_explicit(&c->shared->done[adopt ? 1 : 2], 1, memory_order_relaxed);
	*b = (struct block){ .address = p, .held = !adopt };
	if (adopt) {
		int order = kmm_page_order(c->k, kmm_virt_to_page(c->k, p));

		must(order >= 0);
		b->order = (unsigned)order;
		mark(c, b);
	}
}

static void step(struct client *c)
{
	struct block *b = &c->block[draw(c, BLOCKS)];
	unsigned what = draw(c, 100);

	if (what == 0)
		allocate_bulk(c);
	else if (what == 1)
		must(kmm_flush(c->k) == 0);
	else if (!b->address && what < 30)
		take(c, b);
	else if (!b->address)
		allocate(c, b);
	else if (what < 25)
		show(c, b);
	else
		release(c, b);
}

static void __attribute__((noreturn))
client_run(const struct daemon *d, struct shared *s, unsigned seed)
{
	struct client c = { .shared = s, .seed = seed };

	c.k = session_start(d);
	must(kmm_set_timeout(c.k, 10000) == 0);
	for (;;)
		step(&c);
}

/* ---- the parent ---- */

static void victim_start(struct victim *v, const struct daemon *d, struct shared *s, unsigned *seed)
{
	unsigned own = (unsigned)rand_r(seed);
	pid_t pid = fork_child();

	if (pid == 0)
		client_run(d, s, own);
	victim_begin(v, pid, (unsigned)rand_r(seed) % LIFE_US);
}

int main(void)
{
	unsigned seed = number_from("KMM_TEST_SEED", 1),
		 kills = number_from("KMM_TEST_KILLS", KILLS), fds;
	struct victim victim[AT_ONCE] = { { 0 } };
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *before, *after;
	struct daemon d;

	must(s != MAP_FAILED);
	daemon_start(&d, NULL);
	before = daemon_zone_frames(&d);
	fds = daemon_count_fds(&d);
	printf("seed %u, %u clients; at the start %u descriptors and\n%s", seed, kills, fds,
	       before);
	fflush(stdout);
	for (unsigned killed = 0, started = 0; killed < kills;) {
		struct victim *next = NULL;

		for (int i = 0; i < AT_ONCE; i++) {
			if (!victim[i].pid && started < kills) {
				victim_start(&victim[i], &d, s, &seed);
				started++;
			}
			if (victim[i].pid && (!next || victim_dies_before(&victim[i], next)))
				next = &victim[i];
		}
		victim_end(next);
		killed++;
	}
	wait_until(daemon_count_sessions(&d) == 0);
	after = daemon_zone_frames(&d);
	printf("at the end, after %llu allocations, %llu adoptions, %llu holds\n%s",
	       (unsigned long long)s->done[0], (unsigned long long)s->done[1],
	       (unsigned long long)s->done[2], after);
	must(strcmp(before, after) == 0);
	must(daemon_is_clean(&d));
	wait_until(daemon_count_fds(&d) <= fds);
	must(s->done[0] > kills && s->done[1] > 0 && s->done[2] > 0);
	must(daemon_stop(&d) == 0);
	free(before);
	free(after);
	printf("1 passed, 0 failed\n");
	return 0;
}
