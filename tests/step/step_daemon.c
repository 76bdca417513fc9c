/* SPDX-License-Identifier: MIT */
/*
 * The daemon killed at the instructions of what it does with objects.
 *
 *   a thread of the daemon, single-stepped, dies (with the whole daemon) n instructions into
 *      refill, return, one by one, creating, destroying, publishing      its reactor
 *      the sweep of a dead client                                        its worker
 *      a section that goes, or comes                                     its worker
 *      taking the pool over after such a death                           its main thread
 *   the supervisor starts the next one, which takes over; the client's call ends well; what the
 *   client has it has still, with what it wrote
 *
 * After each death, when the client has closed: no object is out, fsck has no finding.
 *
 * A phase is thousands of instructions, so every STRIDE-th is taken, beginning elsewhere in each
 * phase; KMM_TEST_ALL=1 takes each one (hours).
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/step/step.h"

#define CACHE "stepped"
#define SIZE 128
#define HELD 24        /* objects that the client keeps all the time */
#define DEATHS 30ul    /* a phase */
#define STEPS_MAX 20000000ul
#define RECOVERY_STEPS 2100ul

struct board {
	_Atomic uint32_t ready, go, done, check;
};

/* release, acquire: pairs of each other, so what the setter did before is seen */
static void board_set(_Atomic uint32_t *word)
{
	atomic_store_explicit(word, 1, memory_order_release);
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool board_is_set(_Atomic uint32_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire) != 0;
}

static void board_wait(_Atomic uint32_t *word)
{
	while (!board_is_set(word))
		syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

struct client {
	struct kmm *k;
	struct kmm_cache *c, *other;
	uint8_t *held[HELD];
	uint8_t *p;
};

struct phase {
	const char *name;
	void (*prepare)(struct client *x);
	void (*act)(struct client *x);
	void (*after)(struct client *x);
};

static void nothing(struct client *x)
{
	(void)x;
}

static void flush(struct client *x)
{
	must(kmm_flush(x->k) == 0);
}

static void allocate(struct client *x)
{
	x->p = kmm_cache_alloc(x->c, KMM_GFP_KERNEL);
	must(x->p);
	memset(x->p, 0xee, SIZE);
}

static void give_back(struct client *x)
{
	must(kmm_cache_free(x->c, x->p) == 0);
}

static void cached(struct client *x)
{
	allocate(x);
	give_back(x);
}

/* A flush begun before the daemon died may have been done by halves: what is cached is asked for when
 * the daemon is back. */
static void return_all(struct client *x)
{
	int r = kmm_flush(x->k);

	must(r == 0 || r == -EAGAIN || r == -EINPROGRESS);
}

static void create(struct client *x)
{
	x->other = kmm_cache_create(x->k, "stepped-other", 200, 0, 0, NULL);
	must(x->other || errno == EINPROGRESS);
	if (!x->other)
		x->other = kmm_cache_create(x->k, "stepped-other", 200, 0, 0, NULL);
	must(x->other);
}

static void destroy(struct client *x)
{
	int r = kmm_cache_destroy(x->other);

	must(r == 0 || r == -EINPROGRESS || r == -EAGAIN);
}

static void destroyed(struct client *x)
{
	struct kmm_cache *c = kmm_cache_open(x->k, "stepped-other");

	if (c)
		must(kmm_cache_destroy(c) == 0);
	else
		must(errno == ENOENT);
}

static void publish(struct client *x)
{
	int r = kmm_publish(x->k, "stepped-name", x->held[0]);

	must(r == 0 || r == -EINPROGRESS);
	if (r)
		must(kmm_publish(x->k, "stepped-name", x->held[0]) == 0);
}

static void unpublish(struct client *x)
{
	int r = kmm_unpublish(x->k, "stepped-name");

	must(r == 0 || r == -EINPROGRESS || r == -ENOENT);
}

static void unpublished(struct client *x)
{
	int r = kmm_unpublish(x->k, "stepped-name");

	must(r == -ENOENT || r == 0);
}

static const struct phase phases[] = {
	{ "refill", flush, allocate, give_back },
	{ "return", cached, return_all, nothing },
	{ "create", nothing, create, destroy },
	{ "destroy", create, destroy, destroyed },
	{ "publish", nothing, publish, unpublish },
	{ "unpublish", publish, unpublish, unpublished },
};

static void fill(struct client *x)
{
	unsigned i;

	for (i = 0; i < HELD; i++) {
		x->held[i] = kmm_cache_alloc(x->c, KMM_GFP_KERNEL);
		must(x->held[i]);
		memset(x->held[i], (int)i + 1, SIZE);
	}
}

static void check(struct client *x)
{
	unsigned i, j;

	for (i = 0; i < HELD; i++)
		for (j = 0; j < SIZE; j++)
			must(x->held[i][j] == i + 1);
}

static void client_body(const struct daemon *d, struct board *b, const struct phase *p)
{
	struct client x = { 0 };
	unsigned i;

	x.k = session_start(d);
	x.c = kmm_cache_create(x.k, CACHE, SIZE, 0, 0, NULL);
	must(x.c);
	fill(&x);
	if (p)
		p->prepare(&x);
	board_set(&b->ready);
	board_wait(&b->go);
	if (p)
		p->act(&x);
	board_set(&b->done);
	board_wait(&b->check);
	check(&x);
	if (p)
		p->after(&x);
	for (i = 0; i < HELD; i++)
		must(kmm_cache_free(x.c, x.held[i]) == 0);
	must(kmm_close(x.k) == 0);
	_exit(0);
}

/* ---- the test ---- */

struct test {
	struct daemon d;
	struct board *board;
	unsigned long deaths;
};

static pid_t client_start(struct test *t, const struct phase *p)
{
	pid_t parent = getpid(), pid;

	memset((void *)t->board, 0, sizeof(*t->board));
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		client_body(&t->d, t->board, p);
	}
	wait_until(board_is_set(&t->board->ready));
	return pid;
}

static void client_finish(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid);
	must(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Nobody is there: nothing is out. */
static void verify(struct test *t, const char *phase, unsigned long at)
{
	struct observer *o;
	long active;

	daemon_wait_serving(&t->d);
	o = observer_open(&t->d);
	wait_until(observer_sessions(o) == 0);
	active = observer_active(o, CACHE);
	/* -1: nobody uses the cache any more, and it went */
	if (active > 0)
		fprintf(stderr, "%s, instruction %lu: %ld objects are still out\n", phase, at,
			active);
	must(active <= 0);
	if (!observer_clean(o)) {
		fprintf(stderr, "%s, instruction %lu\n", phase, at);
		must(!"fsck has no finding");
	}
	observer_close(o);
}

static unsigned long stride_of(unsigned long n)
{
	return step_all() || n < DEATHS ? 1 : n / DEATHS;
}

/* The reactor's instructions until the call is over, at most n; false: it was over before. */
static bool reactor_run(struct test *t, struct step_thread *r, unsigned long n,
			unsigned long *made)
{
	unsigned i;

	for (*made = 0; *made < n; ++*made) {
		if (step_thread_waits(r)) {
			for (i = 0; i < 20 && !board_is_set(&t->board->done); i++)
				usleep(100);
			if (board_is_set(&t->board->done))
				return false;
		}
		must(step_thread_one(r));
	}
	return true;
}

/* Whether the daemon died before the call was over. */
static bool reactor_death(struct test *t, const struct phase *p, unsigned long at,
			  unsigned long *made)
{
	pid_t client = client_start(t, p);
	struct step_thread r;
	bool busy;

	step_thread_seize(&r, daemon_serving_pid(&t->d), "kmmd-0");
	while (!step_thread_waits(&r))
		must(step_thread_one(&r));
	board_set(&t->board->go);
	busy = reactor_run(t, &r, at, made);
	if (busy) {
		step_thread_kill(&r);
		t->deaths++;
	} else {
		step_thread_release(&r);
	}
	wait_until(board_is_set(&t->board->done));
	daemon_wait_serving(&t->d);
	board_set(&t->board->check);
	client_finish(client);
	verify(t, p->name, at);
	return busy;
}

/* ---- sweep ---- */

static bool sweep_death(struct test *t, const struct phase *p, unsigned long at,
			unsigned long *made)
{
	pid_t client = client_start(t, NULL);
	struct step_thread w;
	uint64_t end;
	int status;

	(void)p;
	step_thread_seize(&w, daemon_serving_pid(&t->d), "kmmd-worker");
	must(kill(client, SIGKILL) == 0 && waitpid(client, &status, 0) == client);
	step_thread_run_to(&w, "object_sweep");
	end = step_thread_return(&w);
	for (*made = 0; *made < at; ++*made) {
		must(step_thread_one(&w));
		if (step_thread_at(&w) == end) {
			step_thread_release(&w);
			verify(t, "sweep", at);
			return false;
		}
	}
	step_thread_kill(&w);
	t->deaths++;
	verify(t, "sweep", at);
	return true;
}

/* ---- sections ---- */

#define SECTION "1" /* of a pool that nobody uses */

static pid_t ctl_start(const struct test *t, const char *command, const char *argument)
{
	const char *program = getenv("KMMCTL");
	pid_t pid = fork();

	must(pid >= 0);
	if (pid)
		return pid;
	must(freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr));
	execl(program ? program : "./kmmctl", "kmmctl", "--socket", t->d.socket, command, argument,
	      (char *)NULL);
	_exit(127);
}

static int ctl_end(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid);
	must(WIFEXITED(status) && WEXITSTATUS(status) != 127);
	return WEXITSTATUS(status);
}

static const struct phase offline_phase = { .name = "offline" }, online_phase = { .name = "online" };

/* From where the section leaves the zone, or gets its word, until the worker has nothing more to do. What a
 * death leaves is the one or the other, and can be had again. */
static bool section_death(struct test *t, const struct phase *p, unsigned long at,
			  unsigned long *made)
{
	bool offline = p == &offline_phase, over = false;
	struct step_thread w;
	pid_t ctl;

	/* it may be so already */
	ctl_end(ctl_start(t, offline ? "online" : "offline", SECTION));
	step_thread_seize(&w, daemon_serving_pid(&t->d), "kmmd-worker");
	ctl = ctl_start(t, p->name, SECTION);
	step_thread_run_to(&w, offline ? "mm_domain_offline" : "mm_section_set");
	for (*made = 0; *made < at && !over; ++*made) {
		must(step_thread_one(&w));
		over = step_thread_waits(&w);
	}
	if (over) {
		step_thread_release(&w);
		must(ctl_end(ctl) == 0);
	} else {
		step_thread_kill(&w);
		t->deaths++;
		ctl_end(ctl);
	}
	verify(t, p->name, at);
	return !over;
}

/* ---- all over a phase ---- */

typedef bool (*death_fn)(struct test *t, const struct phase *p, unsigned long at, unsigned long *made);

/* Deaths that are equally far from each other. The first run may have been a long one, which looked for
 * something to do more often: when another is over before, that is the phase's length. */
static void spread(struct test *t, const char *name, death_fn death, const struct phase *p,
		   unsigned long shift)
{
	unsigned long n, made, stride, at, deaths = t->deaths;

	must(!death(t, p, STEPS_MAX, &n));
	stride = stride_of(n);
	at = shift * 7 % stride;
	while (at < n) {
		if (death(t, p, at, &made)) {
			at += stride;
			continue;
		}
		n = made;
		if (t->deaths - deaths < DEATHS / 2 && stride > 1) {
			stride = stride_of(n);
			at = stride / 2;
		}
	}
	printf("%-10s %7lu instructions, killed %lu times, at every %lu\n", name, n,
	       t->deaths - deaths, stride);
	fflush(stdout);
}

/* ---- recovery ---- */

/* The supervisor's next child, stopped right after its exec. */
static pid_t next_daemon(pid_t supervisor)
{
	unsigned long child = 0;
	int status;

	for (;;) {
		status = step_wait(supervisor);
		must(WIFSTOPPED(status));
		if (status >> 16 == PTRACE_EVENT_FORK || status >> 16 == PTRACE_EVENT_VFORK ||
		    status >> 16 == PTRACE_EVENT_CLONE) {
			must(ptrace(PTRACE_GETEVENTMSG, supervisor, NULL, &child) == 0);
			break;
		}
		must(ptrace(PTRACE_CONT, supervisor, NULL,
			    status >> 16 ? 0 : WSTOPSIG(status)) == 0);
	}
	/* detached, so that it goes on by itself */
	must(ptrace(PTRACE_DETACH, supervisor, NULL, NULL) == 0);
	for (;;) {
		status = step_wait((pid_t)child);
		must(WIFSTOPPED(status));
		if (status >> 16 == PTRACE_EVENT_EXEC)
			return (pid_t)child;
		must(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
	}
}

/* `at` instructions into the function; false: it was over before. */
static bool recovery_death(struct test *t, const char *function, unsigned long at)
{
	struct step_thread m;
	pid_t client = client_start(t, NULL), supervisor = t->d.pid, pid;
	unsigned long made;
	uint64_t end;
	bool over = false;

	must(ptrace(PTRACE_SEIZE, supervisor, NULL,
		    PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			    PTRACE_O_TRACEEXEC) == 0);
	must(kill(daemon_serving_pid(&t->d), SIGKILL) == 0);
	pid = next_daemon(supervisor);
	m = (struct step_thread){ .process = pid, .tid = pid };
	step_thread_run_to(&m, function);
	end = step_thread_return(&m);
	for (made = 0; made < at && !over; made++) {
		must(step_thread_one(&m));
		over = step_thread_at(&m) == end;
	}
	if (over) {
		step_thread_release(&m);
	} else {
		step_thread_kill(&m);
		t->deaths++;
	}
	daemon_wait_serving(&t->d);
	board_set(&t->board->go);
	wait_until(board_is_set(&t->board->done));
	board_set(&t->board->check);
	client_finish(client);
	verify(t, function, at);
	return !over;
}

/* Taking over looks at all frames and tables, which is a million instructions: from the begin of each
 * of its parts RECOVERY_STEPS are looked at, in a few places. */
static void recovery_phase(struct test *t)
{
	static const char *const part[] = { "domain_recover", "holder_recover",
					    "slab_space_recover", "object_judge",
					    "mm_domain_recover", "name_recover" };
	unsigned long at, deaths = t->deaths, stride = step_all() ? 1 : RECOVERY_STEPS / 7,
		      steps = step_all() ? STEPS_MAX : RECOVERY_STEPS;
	unsigned i;

	for (i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		for (at = step_all() ? 0 : i * 13; at < steps; at += stride)
			if (!recovery_death(t, part[i], at))
				break;
	printf("%-10s killed %lu times\n", "recovery", t->deaths - deaths);
	fflush(stdout);
}

int main(int argc, char *argv[])
{
	static const char *const args[] = { "--supervise", "--pool-size", "16M", "--backing", "4k",
					    "--reactors",  "1",           NULL };
	struct test t = { 0 };
	unsigned i;

	step_require();
	t.board = mmap(NULL, sizeof(*t.board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	must(t.board != MAP_FAILED);
	daemon_prepare(&t.d);
	daemon_launch(&t.d, args);
	for (i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		if (argc < 2 || strcmp(argv[1], phases[i].name) == 0)
			spread(&t, phases[i].name, reactor_death, &phases[i], i);
	if (argc < 2 || strcmp(argv[1], "sweep") == 0)
		spread(&t, "sweep", sweep_death, NULL, 3);
	if (argc < 2 || strcmp(argv[1], "offline") == 0)
		spread(&t, "offline", section_death, &offline_phase, 2);
	if (argc < 2 || strcmp(argv[1], "online") == 0)
		spread(&t, "online", section_death, &online_phase, 5);
	if (argc < 2 || strcmp(argv[1], "recovery") == 0)
		recovery_phase(&t);
	printf("%lu deaths of the daemon\n", t.deaths);
	must(daemon_stop(&t.d) == 0);
	printf("1 passed, 0 failed\n");
	return 0;
}
