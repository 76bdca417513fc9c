/* SPDX-License-Identifier: MIT */
/*
 * Clients killed with SIGKILL at random moments while they make and free vmalloc areas and stacks.
 *
 *      parent: fork ─> client ─> ... ─> SIGKILL        KILLS times, AT_ONCE at a time
 *
 * once in a pool of 4 KiB pages, once in one of huge pages with high memory. Each client watches
 * that nobody writes into what it has. Afterwards nothing may be left: every zone has as many
 * free frames as at the start, fsck has no finding, no line of vmallocinfo remains, and the
 * daemon has the descriptors that it had.
 *
 * KMM_TEST_SEED makes a run like another one, KMM_TEST_KILLS sets the number.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/stress/victims.h"

#define KILLS 300
#define AT_ONCE 4
#define LIFE_US 20000 /* at most */
#define AREAS 24

struct shared {
	_Atomic uint64_t areas, stacks; /* relaxed: to see that the test does its work */
};

struct area {
	char *at; /* NULL: none */
	size_t size;
	uint64_t with;
	bool stack;
};

struct client {
	struct kmm *k;
	struct shared *shared;
	struct area area[AREAS];
	unsigned seed;
};

static unsigned draw(struct client *c, unsigned n)
{
	return (unsigned)rand_r(&c->seed) % n;
}

static uint64_t *word_in(const struct area *a, size_t page)
{
	return (uint64_t *)(void *)(a->at + page * KMM_PAGE_SIZE + 128);
}

static void make(struct client *c, struct area *a)
{
	unsigned order = draw(c, 4);

	a->stack = draw(c, 3) == 0;
	a->size = a->stack    ? KMM_PAGE_SIZE << order :
	          draw(c, 10) ? KMM_PAGE_SIZE * (1 + draw(c, 40)) :
	                        KMM_PAGE_SIZE * (1 + draw(c, 900));
	a->at = a->stack    ? kmm_alloc_stack(c->k, order) :
	        draw(c, 2) ? kmm_vmalloc(c->k, a->size) :
	                     kmm_kvmalloc(c->k, a->size, KMM_GFP_KERNEL);
	must(a->at || errno == ENOMEM || errno == ETIMEDOUT);
	if (!a->at)
		return;
	a->with = (uint64_t)getpid() << 32 | draw(c, 1u << 30);
	for (size_t i = 0; i < a->size / KMM_PAGE_SIZE; i++)
		*word_in(a, i) = a->with + i;
	atomic_fetch_add_explicit(a->stack ? &c->shared->stacks : &c->shared->areas, 1,
	                          memory_order_relaxed);
}

static void end(struct client *c, struct area *a)
{
	for (size_t i = 0; i < a->size / KMM_PAGE_SIZE; i++)
		must(*word_in(a, i) == a->with + i);
	must((a->stack ? kmm_free_stack(c->k, a->at) : kmm_kvfree(c->k, a->at)) == 0);
	a->at = NULL;
}

static void __attribute__((noreturn))
client_run(const struct daemon *d, struct shared *s, unsigned seed)
{
	struct client c = { .shared = s, .seed = seed };

	c.k = session_start(d);
	must(kmm_set_timeout(c.k, 1000) == 0);
	for (;;) {
		struct area *a = &c.area[draw(&c, AREAS)];

		if (draw(&c, 50) == 0)
			must(kmm_flush(c.k) == 0);
		else if (a->at)
			end(&c, a);
		else
			make(&c, a);
	}
}

/* ---- the parent ---- */

static pid_t client_start(const struct daemon *d, struct shared *s, unsigned seed)
{
	pid_t pid = fork_child();

	if (pid == 0)
		client_run(d, s, seed);
	return pid;
}

static bool no_areas(const struct daemon *d)
{
	static const char *const args[] = { "vmallocinfo", NULL };
	char *out;
	bool none;

	must(daemon_ctl(d, &out, args) == 0);
	none = !strstr(out, " pages=");
	free(out);
	return none;
}

static void run(const char *backing, unsigned kills, unsigned *seed)
{
	const char *const args[] = { "--backing", backing, NULL };
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *before, *after;
	pid_t pid[AT_ONCE];
	struct daemon d;
	unsigned fds;

	must(s != MAP_FAILED);
	daemon_start(&d, args);
	before = daemon_zone_frames(&d);
	fds = daemon_count_fds(&d);
	for (unsigned i = 0; i < AT_ONCE; i++)
		pid[i] = client_start(&d, s, (unsigned)rand_r(seed));
	for (unsigned killed = 0; killed < kills; killed++) {
		struct timespec nap = { 0, (long)((unsigned)rand_r(seed) % (LIFE_US / AT_ONCE)) *
			                           1000 };
		unsigned i = (unsigned)rand_r(seed) % AT_ONCE;

		nanosleep(&nap, NULL); /* the moment of the next kill is random */
		kill_child(pid[i]);
		pid[i] = client_start(&d, s, (unsigned)rand_r(seed));
	}
	for (unsigned i = 0; i < AT_ONCE; i++)
		kill_child(pid[i]);
	wait_until(daemon_count_sessions(&d) == 0);
	after = daemon_zone_frames(&d);
	printf("%s, %u clients, %llu areas, %llu stacks; at the end\n%s", backing, kills,
	       (unsigned long long)s->areas, (unsigned long long)s->stacks, after);
	fflush(stdout);
	must(strcmp(before, after) == 0);
	must(daemon_is_clean(&d));
	must(no_areas(&d));
	wait_until(daemon_count_fds(&d) <= fds);
	must(s->areas > 0 && s->stacks > 0);
	must(daemon_stop(&d) == 0);
	free(before);
	free(after);
	munmap(s, sizeof(*s));
}

int main(void)
{
	unsigned seed = number_from("KMM_TEST_SEED", 1);
	unsigned kills = number_from("KMM_TEST_KILLS", KILLS);

	printf("seed %u\n", seed);
	fflush(stdout);
	run("4k", kills, &seed);
	run("hugetlb", kills, &seed);
	printf("1 passed, 0 failed\n");
	return 0;
}
