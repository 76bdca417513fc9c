/* SPDX-License-Identifier: MIT */
/*
 * Client processes killed with SIGKILL at random moments while they use objects of three caches.
 *
 *      parent: rounds of CHECK kills, AT_ONCE victims at a time; after each round: account
 *
 *      victim, survivor: allocate, free, in bulk, show a handle on the board, adopt or hold what is
 *              there, post a handle into somebody's letter box and send the object, publish, look
 *              names up, unpublish, flush, shrink
 *
 * Account: all victims are dead and swept. The two survivors let go of all holds and names, take
 * back what they showed (whoever did not adopt it left it with them), empty their letter boxes,
 * flush, and say how many objects of each cache they own. slabinfo must say exactly that many
 * active objects, `leaks` exactly that many of each survivor, and fsck nothing. Then they go on.
 *
 * Everybody writes a mark into what it owns and finds it there when it frees: an object that two
 * own is seen. Objects of the cache with a constructor are constructed whenever they are had.
 *
 * A second run does the same under a supervisor, and kills the daemon, too, once for each
 * DAEMON_EVERY clients.
 *
 * KMM_TEST_SEED makes a run like another one; KMM_TEST_KILLS sets the number, KMM_TEST_CHECK after
 * how many of them there is an account. Exhaustive: KMM_TEST_KILLS=10000 KMM_TEST_CHECK=4.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/stress/object_actor.h"
#include "tests/stress/victims.h"

#define KILLS 300
#define CHECK 50
#define LIFE_US 100000 /* at most */
#define DAEMON_EVERY 6

static pid_t actor_fork(const struct daemon *d, struct shared *s, unsigned id, unsigned *seed)
{
	unsigned own = (unsigned)rand_r(seed);
	pid_t pid = fork_child();

	if (pid == 0)
		actor_run(d, s, id, own);
	return pid;
}

static void victim_start(struct victim *v, const struct daemon *d, struct shared *s, unsigned id,
			 unsigned *seed)
{
	pid_t pid = actor_fork(d, s, id, seed);

	victim_begin(v, pid, (unsigned)rand_r(seed) % LIFE_US);
}

static void kill_many(const struct daemon *d, struct shared *s, unsigned kills, unsigned *seed)
{
	struct victim victim[AT_ONCE] = { { 0 } };

	for (unsigned killed = 0, started = 0; killed < kills; killed++) {
		struct victim *next = NULL;

		for (unsigned i = 0; i < AT_ONCE; i++) {
			if (!victim[i].pid && started < kills) {
				victim_start(&victim[i], d, s, i, seed);
				started++;
			}
			if (victim[i].pid && (!next || victim_dies_before(&victim[i], next)))
				next = &victim[i];
		}
		victim_end(next);
		if (d->supervised && killed % DAEMON_EVERY == 0) {
			wait_until(daemon_serving_pid(d) > 0);
			daemon_kill(d);
		}
	}
	daemon_wait_serving(d);
}

static pid_t survivor[SURVIVORS];

/* A survivor ends only when something was wrong, and has said what. */
static bool survivors_reached(struct shared *s, enum phase phase)
{
	int status;

	for (unsigned i = 0; i < SURVIVORS; i++) {
		if (waitpid(survivor[i], &status, WNOHANG) != 0) {
			fprintf(stderr, "survivor %u ended with status 0x%x\n", i, status);
			exit(1);
		}
		if (atomic_load_explicit(&s->reached[i], memory_order_acquire) !=
		    s->round * 4 + phase)
			return false;
	}
	return true;
}

static void compare_accounts(const struct daemon *d, struct shared *s, unsigned killed)
{
	bool same = true;

	wait_until(daemon_count_sessions(d) == SURVIVORS);
	s->round++;
	atomic_store_explicit(&s->phase, LET_GO, memory_order_release);
	wait_until(survivors_reached(s, LET_GO));
	atomic_store_explicit(&s->phase, TAKE_BACK, memory_order_release);
	wait_until(survivors_reached(s, TAKE_BACK));
	for (unsigned c = 0; c < CACHES; c++) {
		unsigned long active = daemon_cache_active(d, kind[c].name), sum = 0;

		for (unsigned i = 0; i < SURVIVORS; i++) {
			unsigned long leaks = daemon_leak(d, s->session[AT_ONCE + i], kind[c].name);

			sum += s->owned[i][c];
			if (leaks == s->owned[i][c])
				continue;
			fprintf(stderr, "%s: survivor %u (session %u) has %lu, leaks says %lu\n",
				kind[c].name, i, (unsigned)s->session[AT_ONCE + i],
				(unsigned long)s->owned[i][c], leaks);
			same = false;
		}
		if (active != sum) {
			fprintf(stderr, "%s: the survivors have %lu, slabinfo says %lu\n",
				kind[c].name, sum, active);
			same = false;
		}
	}
	if (!daemon_is_clean(d) || !same) {
		fprintf(stderr, "after %u kills\n", killed);
		exit(1);
	}
	atomic_store_explicit(&s->phase, RUN, memory_order_release);
}

static void names_remove(const struct daemon *d)
{
	struct kmm *k = session_start(d);

	for (unsigned i = 0; i < NAMES; i++) {
		char text[16];
		int r = kmm_unpublish(k, name_of(i, text));

		must(r == 0 || r == -ENOENT);
	}
	must(kmm_close(k) == 0);
}

static void run(bool supervised, unsigned seed, unsigned kills, unsigned check)
{
	static const char *const name[DONE] = { "allocated", "in bulk", "adopted",   "held",
						"sent",      "posted",  "published", "found" };
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct daemon d;
	const char *const args[] = { "--pool-size", "128M", supervised ? "--supervise" : NULL,
				     NULL };
	uint64_t before;

	must(s != MAP_FAILED);
	daemon_start_configured(&d, "[daemon]\ngrace = 200ms\n", args);
	before = daemon_free_pages(&d);
	printf("seed %u, %u clients%s, an account after each %u; %llu frames free\n", seed, kills,
	       supervised ? " and the daemon" : "", check, (unsigned long long)before);
	fflush(stdout);
	for (unsigned i = 0; i < SURVIVORS; i++) {
		survivor[i] = actor_fork(&d, s, AT_ONCE + i, &seed);
		wait_until(s->session[AT_ONCE + i] != 0);
	}
	for (unsigned killed = 0; killed < kills;) {
		unsigned n = kills - killed < check ? kills - killed : check;

		kill_many(&d, s, n, &seed);
		killed += n;
		compare_accounts(&d, s, killed);
	}
	atomic_store_explicit(&s->phase, END, memory_order_release);
	for (unsigned i = 0; i < SURVIVORS; i++) {
		int status;

		must(waitpid(survivor[i], &status, 0) == survivor[i]);
		must(status == 0);
	}
	for (unsigned i = 0; i < DONE; i++) {
		printf("%s %llu\n", name[i], (unsigned long long)s->done[i]);
		must(s->done[i] > 0);
	}
	/* names outlive their publishers: those since the last account */
	names_remove(&d);
	wait_until(daemon_count_sessions(&d) == 0);
	must(daemon_objects_active(&d) == 0);
	wait_until(daemon_free_pages(&d) == before);
	must(daemon_is_clean(&d));
	must(daemon_stop(&d) == 0);
	munmap(s, sizeof(*s));
}

int main(void)
{
	unsigned seed = number_from("KMM_TEST_SEED", 1),
		 kills = number_from("KMM_TEST_KILLS", KILLS),
		 check = number_from("KMM_TEST_CHECK", CHECK);

	must(check > 0);
	run(false, seed, kills, check);
	run(true, seed, kills / 2 ? kills / 2 : 1, check);
	printf("2 passed, 0 failed\n");
	return 0;
}
