/* SPDX-License-Identifier: MIT */
/*
 * The daemon is killed again and again under its supervisor while client processes use it.
 *
 *      parent: SIGKILL the daemon, wait until it serves and every client went on, …   KILLS times
 *
 *      client i: blocks, each filled with a pattern that only this life of this block has
 *          allocate and fill      free after checking
 *          check                  hold and let go (kmm_get, kmm_put)
 *          give: handle into the box of client j, which adopts and checks the pattern
 *          send: kmm_send to client j's session, its pfn into the box
 *
 * A call may end with EINPROGRESS and is asked again then; no other failure is allowed.
 * Nothing may be lost: a pattern that is not there any more, a free or an adoption that is refused.
 * Nothing may be doubled: a block granted to two is written by two, and one of them sees it. At the
 * end the clients stand still and the daemon's account of each is compared with its own; then all
 * is freed and every zone is as at the start.
 *
 * One kill in eight falls into the recovery from the kill before.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/stress/victims.h"

#define KILLS 200
#define CLIENTS 4
#define BLOCKS 160
#define FRAMES_MAX 3000 /* a client's, so that nobody waits for memory */
#define BOX 64
#define PROGRESS 25 /* steps between two kills, of each client at least */

enum gift_kind { GIFT_HANDLE = 1, GIFT_SENT = 2 };

struct gift {
	uint64_t kind, what, seed; /* what: handle or pfn */
	unsigned order;
};

/* One writer and one reader: a box for each pair. */
struct box {
	_Atomic unsigned put, got; /* release by the writer (reader), acquire by the other */
	struct gift gift[BOX];
};

enum phase { PHASE_RUN, PHASE_DRAIN, PHASE_STAND, PHASE_END };

struct shared {
	_Atomic unsigned phase;            /* of the parent; release, acquire */
	_Atomic unsigned reached[CLIENTS]; /* the phase that the client is in */
	_Atomic uint64_t steps[CLIENTS];   /* relaxed counters */
	_Atomic uint64_t frames[CLIENTS];  /* that the client owns, by its own account */
	_Atomic uint32_t session[CLIENTS];
	struct box box[CLIENTS][CLIENTS]; /* from, to */
};

struct block {
	struct kmm_page *page; /* NULL: none */
	uint64_t seed;
	unsigned order;
	bool held; /* once more, by kmm_get */
};

struct client {
	struct kmm *k;
	struct shared *shared;
	unsigned id, seed;
	uint64_t sequence, frames;
	struct block block[BLOCKS];
};

static unsigned draw(struct client *c, unsigned n)
{
	return (unsigned)rand_r(&c->seed) % n;
}

static void check(struct client *c, const struct block *b)
{
	must(block_check(kmm_page_address(c->k, b->page), b->order, b->seed));
}

/* EINPROGRESS: the daemon died over the call. It may be asked again, which does nothing where it was
 * done; what shows that it was done is then no error. */
#define settled(call, done)                                               \
	({                                                                \
		int r_ = (call);                                          \
		bool unknown_ = r_ == -EINPROGRESS;                       \
		while (r_ == -EINPROGRESS)                                \
			r_ = (call);                                      \
		r_ == 0 || (unknown_ && r_ == (done));                    \
	})

static void allocate(struct client *c, struct block *b)
{
	static const unsigned char orders[] = { 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 9 };
	unsigned order = orders[draw(c, sizeof(orders))];
	kmm_gfp_t gfp = draw(c, 4) ? KMM_GFP_KERNEL : KMM_GFP_KERNEL | KMM_GFP_MOVABLE;

	if (c->frames + (1u << order) > FRAMES_MAX)
		return;
	b->page = kmm_alloc_pages(c->k, gfp, order);
	must(b->page);
	b->order = order;
	b->seed = (uint64_t)(c->id + 1) << 56 | ++c->sequence << 20;
	b->held = false;
	block_fill(kmm_page_address(c->k, b->page), order, b->seed);
	c->frames += 1u << order;
}

static void let_go(struct client *c, struct block *b)
{
	if (b->held)
		must(settled(kmm_put(c->k, kmm_page_address(c->k, b->page)), -EPERM));
	b->held = false;
}

static void release(struct client *c, struct block *b)
{
	check(c, b);
	let_go(c, b);
	check(c, b);
	must(kmm_free_pages(c->k, b->page, b->order) == 0);
	c->frames -= 1u << b->order;
	b->page = NULL;
}

static void hold(struct client *c, struct block *b)
{
	void *p = kmm_page_address(c->k, b->page);

	if (b->held) {
		let_go(c, b);
		return;
	}
	must(settled(kmm_get(c->k, p), 0));
	b->held = true;
	must(kmm_page_count(c->k, b->page) >= 1);
	check(c, b);
}

static void give(struct client *c, struct block *b)
{
	unsigned to = (c->id + 1 + draw(c, CLIENTS - 1)) % CLIENTS;
	struct box *box = &c->shared->box[c->id][to];
	unsigned put = atomic_load_explicit(&box->put, memory_order_relaxed);
	void *p = kmm_page_address(c->k, b->page);
	struct gift *g = &box->gift[put % BOX];

	if (put - atomic_load_explicit(&box->got, memory_order_acquire) == BOX)
		return;
	check(c, b);
	let_go(c, b);
	g->seed = b->seed;
	g->order = b->order;
	if (draw(c, 2)) {
		g->kind = GIFT_HANDLE;
		g->what = kmm_handle(c->k, p);
		must(g->what);
	} else {
		g->kind = GIFT_SENT;
		g->what = kmm_page_to_pfn(c->k, b->page);
		must(settled(kmm_send(c->k, p, c->shared->session[to]), -EPERM));
	}
	c->frames -= 1u << b->order;
	b->page = NULL;
	atomic_store_explicit(&box->put, put + 1, memory_order_release);
}

/* Takes what is in the boxes as far as there is room; true when they are empty. */
static bool receive(struct client *c)
{
	bool empty = true;

	for (unsigned from = 0; from < CLIENTS; from++) {
		struct box *box = &c->shared->box[from][c->id];
		unsigned got = atomic_load_explicit(&box->got, memory_order_relaxed);

		while (got != atomic_load_explicit(&box->put, memory_order_acquire)) {
			struct gift *g = &box->gift[got % BOX];
			struct block *b = NULL;

			for (size_t i = 0; i < BLOCKS && !b; i++)
				if (!c->block[i].page)
					b = &c->block[i];
			if (!b) {
				empty = false;
				break;
			}
			if (g->kind == GIFT_HANDLE) {
				void *p = kmm_adopt(c->k, g->what);

				must(p);
				b->page = kmm_virt_to_page(c->k, p);
			} else {
				b->page = kmm_pfn_to_page(c->k, g->what);
			}
			must(b->page && kmm_page_order(c->k, b->page) == (int)g->order);
			b->seed = g->seed;
			b->order = g->order;
			b->held = false;
			c->frames += 1u << b->order;
			check(c, b);
			atomic_store_explicit(&box->got, ++got, memory_order_release);
		}
	}
	return empty;
}

static void step(struct client *c)
{
	struct block *b = &c->block[draw(c, BLOCKS)];
	unsigned what = draw(c, 100);

	receive(c);
	if (!b->page)
		allocate(c, b);
	else if (what < 40)
		release(c, b);
	else if (what < 60)
		give(c, b);
	else if (what < 70)
		hold(c, b);
	else if (what < 71)
		must(kmm_flush(c->k) == 0);
	else
		check(c, b);
	atomic_fetch_add_explicit(&c->shared->steps[c->id], 1, memory_order_relaxed);
}

static unsigned phase_of(struct shared *s)
{
	return atomic_load_explicit(&s->phase, memory_order_acquire);
}

static void client_run(const struct daemon *d, struct shared *s, unsigned id)
{
	struct client c = { .shared = s, .id = id, .seed = 4711 + id };

	c.k = session_start(d);
	atomic_store(&s->session[id], kmm_session_id(c.k));
	for (unsigned i = 0; i < CLIENTS; i++)
		wait_until(atomic_load(&s->session[i]) != 0);
	while (phase_of(s) == PHASE_RUN)
		step(&c);
	/* DRAIN: nothing is given any more; STAND: every box is empty */
	atomic_store_explicit(&s->reached[id], PHASE_DRAIN, memory_order_release);
	for (unsigned i = 0; i < CLIENTS; i++)
		wait_until(atomic_load_explicit(&s->reached[i], memory_order_acquire) >=
			   PHASE_DRAIN);
	while (!receive(&c))
		for (size_t i = 0; i < BLOCKS / 2; i++)
			if (c.block[i].page)
				release(&c, &c.block[i]);
	for (size_t i = 0; i < BLOCKS; i++)
		if (c.block[i].page)
			check(&c, &c.block[i]);
	must(kmm_flush(c.k) == 0);
	atomic_store(&s->frames[id], c.frames);
	atomic_store_explicit(&s->reached[id], PHASE_STAND, memory_order_release);
	wait_until(phase_of(s) == PHASE_END);
	for (size_t i = 0; i < BLOCKS; i++)
		if (c.block[i].page)
			release(&c, &c.block[i]);
	must(c.frames == 0);
	must(kmm_session_id(c.k) == s->session[id]);
	must(kmm_close(c.k) == 0);
	_exit(0);
}

/* ---- the parent ---- */

static pid_t clients[CLIENTS];

/* A client ends only when something was wrong, and has said what. */
static void clients_live(void)
{
	int status;

	for (unsigned i = 0; i < CLIENTS; i++)
		if (waitpid(clients[i], &status, WNOHANG) != 0) {
			fprintf(stderr, "client %u ended with status 0x%x\n", i, status);
			exit(1);
		}
}

static bool all_went_on(struct shared *s, const uint64_t from[CLIENTS])
{
	clients_live();
	for (unsigned i = 0; i < CLIENTS; i++)
		if (atomic_load_explicit(&s->steps[i], memory_order_relaxed) < from[i] + PROGRESS)
			return false;
	return true;
}

static void kill_and_go_on(const struct daemon *d, struct shared *s, unsigned n, unsigned *seed)
{
	struct timespec nap = { 0, (long)((unsigned)rand_r(seed) % 20000) * 1000 };
	pid_t old = daemon_kill(d);
	uint64_t from[CLIENTS];

	wait_until(daemon_serving_pid(d) > 0 && daemon_serving_pid(d) != old);
	if (n % 8 == 7) { /* into the recovery, somewhere */
		nap.tv_nsec /= 4;
		nanosleep(&nap, NULL);
		return;
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		from[i] = atomic_load_explicit(&s->steps[i], memory_order_relaxed);
	wait_until(all_went_on(s, from));
	if (n % 20 == 0) {
		daemon_wait_serving(d);
		must(daemon_is_clean(d));
	}
	nanosleep(&nap, NULL); /* the moment of the next kill is random */
}

static void compare_accounts(const struct daemon *d, struct shared *s)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		long granted = daemon_session_number(d, s->session[i], "granted");

		printf("client %u: %llu steps, %llu frames, by the daemon's account %ld\n", i,
		       (unsigned long long)s->steps[i], (unsigned long long)s->frames[i], granted);
		must(granted == (long)s->frames[i]);
	}
	fflush(stdout);
}

int main(void)
{
	const char *const args[] = { "--pool-size", "128M", NULL };
	unsigned seed = 1, kills = number_from("KMM_TEST_KILLS", KILLS);
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *before, *after;
	struct daemon d;

	must(s != MAP_FAILED);
	daemon_start_supervised(&d, args);
	before = daemon_zone_frames(&d);
	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i] = fork_child();
		if (clients[i] == 0)
			client_run(&d, s, i);
	}
	for (unsigned i = 0; i < CLIENTS; i++) /* kmm_open itself does not wait for a daemon */
		wait_until((clients_live(), atomic_load(&s->session[i]) != 0));
	for (unsigned n = 0; n < kills; n++)
		kill_and_go_on(&d, s, n, &seed);
	daemon_wait_serving(&d);
	atomic_store_explicit(&s->phase, PHASE_DRAIN, memory_order_release);
	for (unsigned i = 0; i < CLIENTS; i++)
		wait_until((clients_live(),
			    atomic_load_explicit(&s->reached[i], memory_order_acquire) >=
				    PHASE_STAND));
	must(daemon_is_clean(&d));
	compare_accounts(&d, s);
	atomic_store_explicit(&s->phase, PHASE_END, memory_order_release);
	for (unsigned i = 0; i < CLIENTS; i++) {
		int status;

		must(waitpid(clients[i], &status, 0) == clients[i]);
		must(status == 0);
	}
	wait_until(daemon_count_sessions(&d) == 0);
	after = daemon_zone_frames(&d);
	printf("%u kills; at the start\n%sat the end\n%s", kills, before, after);
	must(strcmp(before, after) == 0);
	must(daemon_is_clean(&d));
	must(daemon_stop(&d) == 0);
	free(before);
	free(after);
	printf("1 passed, 0 failed\n");
	return 0;
}
