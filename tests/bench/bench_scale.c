/* SPDX-License-Identifier: MIT */
/*
 * Many of everything at once, and what each costs then.
 *
 *     bench_scale all SOCKET KMMCTL LABEL CACHES OBJECTS SESSIONS
 *     bench_scale death SOCKET KMMCTL LABEL
 *
 * all: makes the caches, fills them evenly with objects of 64 bytes, opens sessions (in processes
 * of SESSIONS_EACH) with four threads each that all allocate, and with all of that in place
 * measures kmmctl slabinfo, the restart of the daemon after SIGKILL, and the deaths. The daemon must be
 * supervised. Before the end every object must still hold what was written to it.
 *
 * death: a process that holds so many objects is killed; the time until the last of them is free,
 * seen by its handle's becoming stale.
 *
 * Rows are named "LABEL what". Memory is the daemon's anonymous memory and its control memory, and
 * the clients' anonymous memory.
 */
#include <errno.h>
#include <kmm/kmm.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/overhead.h"

#define SIZE 64u
#define THREADS 4u
#define SESSIONS_EACH 50u
#define RESTARTS 5
#define DEATHS 5
#define SAMPLE 256u /* one handle in so many is watched */

static const char *socket_path, *kmmctl, *label;

__attribute__((noreturn, cold)) static void fail(const char *what)
{
	fprintf(stderr, "bench_scale: %s: %s (%s)\n", what, strerror(errno), kmm_error_text());
	exit(1);
}

static void row(const char *what, const char *unit, double v[], int n)
{
	char name[96];
	struct bench_row r = { .name = name, .unit = unit };

	snprintf(name, sizeof(name), "%s %s", label, what);
	for (int i = 0; i < n; i++)
		bench_add(&r, v[i]);
	bench_print("scale", &r);
}

static void row1(const char *what, const char *unit, double v)
{
	row(what, unit, &v, 1);
}

static struct kmm *session_open(void)
{
	struct kmm_options o = { .size = sizeof(o), .address = socket_path, .timeout_ms = 120000 };
	struct kmm *k;

	if (kmm_open(&k, &o) != 0)
		fail("kmm_open");
	return k;
}

static pid_t daemon_pid(void)
{
	char command[512], line[4096];
	long pid = 0;

	snprintf(command, sizeof(command), "%s --socket %s --json health", kmmctl, socket_path);
	FILE *f = popen(command, "r");

	if (!f)
		fail("kmmctl");
	while (fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "\"pid\"");

		if (p)
			pid = strtol(p + strcspn(p, "0123456789"), NULL, 10);
	}
	if (pclose(f) != 0 || pid <= 1)
		fail("kmmctl health says no pid");
	return (pid_t)pid;
}

static double daemon_memory(pid_t pid)
{
	return (double)(overhead_of_process(pid) + overhead_of_control(pid));
}

/* ---- caches and objects ---- */

struct crowd {
	struct kmm *k;
	struct kmm_cache **cache;
	size_t caches, objects;
	void **object;
};

static void caches_make(struct crowd *c, pid_t pid)
{
	double memory = daemon_memory(pid), start = bench_now_ns();
	char name[32];

	for (size_t i = 0; i < c->caches; i++) {
		snprintf(name, sizeof(name), "scale-%zu", i);
		c->cache[i] = kmm_cache_create(c->k, name, SIZE, 0, 0, NULL);
		if (!c->cache[i])
			fail("kmm_cache_create");
	}
	row1("cache made", "us", (bench_now_ns() - start) / (double)c->caches / 1e3);
	row1("cache: memory of the daemon", "bytes", (daemon_memory(pid) - memory) / (double)c->caches);
}

static uint64_t mark(size_t i)
{
	return i * UINT64_C(0x9e3779b97f4a7c15);
}

static void objects_make(struct crowd *c, pid_t pid)
{
	double memory = daemon_memory(pid), own = (double)overhead_of_process(getpid());
	double start = bench_now_ns();

	for (size_t i = 0; i < c->objects; i++) {
		c->object[i] = kmm_cache_alloc(c->cache[i * c->caches / c->objects], KMM_GFP_KERNEL);
		if (!c->object[i])
			fail("kmm_cache_alloc");
		*(uint64_t *)c->object[i] = mark(i);
	}
	row1("object allocated and written", "ns", (bench_now_ns() - start) / (double)c->objects);
	row1("object: memory of the daemon", "bytes",
	     (daemon_memory(pid) - memory) / (double)c->objects);
	row1("object: memory of the client", "bytes",
	     ((double)overhead_of_process(getpid()) - own) / (double)c->objects);
}

static void objects_check(const struct crowd *c)
{
	for (size_t i = 0; i < c->objects; i++)
		if (*(uint64_t *)c->object[i] != mark(i))
			fail("an object lost its contents");
}

/* ---- sessions ---- */

struct sessions_report {
	double open_ns, first_ns; /* sums over the process's sessions */
	double session_bytes, thread_bytes;
};

struct member {
	struct kmm_cache *cache;
	sem_t *done;
	double ns;
};

static void *member_main(void *arg)
{
	struct member *m = (struct member *)arg;
	double start = bench_now_ns();

	if (!kmm_cache_alloc(m->cache, KMM_GFP_KERNEL))
		fail("a thread's kmm_cache_alloc");
	m->ns = bench_now_ns() - start;
	sem_post(m->done);
	for (;;)
		pause();
	return NULL;
}

/* A process with n sessions of THREADS threads: reports, then waits for its end. */
static void sessions_process(size_t first, size_t n, size_t caches, int report)
{
	struct kmm **k = calloc(n, sizeof(*k));
	struct member *member = calloc(n * THREADS, sizeof(*member));
	struct sessions_report r = { 0 };
	pthread_attr_t attr;
	char name[32];
	sem_t done;

	if (!k || !member)
		fail("memory");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	sem_init(&done, 0, 0);
	double memory = (double)overhead_of_process(getpid());

	for (size_t i = 0; i < n; i++) {
		double start = bench_now_ns();

		k[i] = session_open();
		r.open_ns += bench_now_ns() - start;
	}
	r.session_bytes = (double)overhead_of_process(getpid()) - memory;
	memory = (double)overhead_of_process(getpid());
	for (size_t i = 0; i < n * THREADS; i++) {
		pthread_t thread;

		snprintf(name, sizeof(name), "scale-%zu", (first + i / THREADS) % caches);
		member[i].cache = kmm_cache_open(k[i / THREADS], name);
		member[i].done = &done;
		if (!member[i].cache || pthread_create(&thread, &attr, member_main, &member[i]) != 0)
			fail("a thread and its cache");
		while (sem_wait(&done) != 0) /* one after the other: each is timed alone */
			;
	}
	for (size_t i = 0; i < n * THREADS; i++)
		r.first_ns += member[i].ns;
	r.thread_bytes = (double)overhead_of_process(getpid()) - memory;
	if (write(report, &r, sizeof(r)) != (ssize_t)sizeof(r))
		_exit(1);
	for (;;)
		pause();
}

/* Returns how many processes there are now, in child[]. */
static size_t sessions_make(size_t sessions, size_t caches, pid_t pid, pid_t child[])
{
	struct sessions_report sum = { 0 }, r;
	double memory = daemon_memory(pid);
	size_t n = 0;
	int end[2];

	if (pipe(end) != 0)
		fail("pipe");
	for (size_t first = 0; first < sessions; first += SESSIONS_EACH, n++) {
		size_t each = sessions - first < SESSIONS_EACH ? sessions - first : SESSIONS_EACH;

		child[n] = fork();
		if (child[n] < 0)
			fail("fork");
		if (child[n] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sessions_process(first, each, caches, end[1]);
		}
		if (read(end[0], &r, sizeof(r)) != (ssize_t)sizeof(r))
			fail("a process of sessions");
		sum.open_ns += r.open_ns;
		sum.first_ns += r.first_ns;
		sum.session_bytes += r.session_bytes;
		sum.thread_bytes += r.thread_bytes;
	}
	double s = (double)sessions;

	row1("session opened", "us", sum.open_ns / s / 1e3);
	row1("thread's first object", "us", sum.first_ns / s / THREADS / 1e3);
	row1("session of 4 threads: memory of the daemon", "bytes", (daemon_memory(pid) - memory) / s);
	row1("session: memory of the client", "bytes", sum.session_bytes / s);
	row1("thread and its cache: memory of the client", "bytes", sum.thread_bytes / s / THREADS);
	return n;
}

/* ---- with all of it in place ---- */

static void slabinfo_time(void)
{
	char command[512];
	double v[5];

	snprintf(command, sizeof(command), "%s --socket %s slabinfo >/dev/null", kmmctl, socket_path);
	for (int i = 0; i < 5; i++) {
		double start = bench_now_ns();

		if (system(command) != 0)
			fail("kmmctl slabinfo");
		v[i] = (bench_now_ns() - start) / 1e6;
	}
	row("kmmctl slabinfo", "ms", v, 5);
}

static void restart_time(struct kmm *k)
{
	double v[RESTARTS];

	for (int i = 0; i < RESTARTS; i++) {
		pid_t pid = daemon_pid();
		double start = bench_now_ns();

		kill(pid, SIGKILL);
		while (kill(pid, 0) == 0)
			sched_yield();
		struct kmm_page *p = kmm_alloc_pages(k, KMM_GFP_KERNEL, 5); /* nothing caches these */

		if (!p)
			fail("allocation after the kill");
		v[i] = (bench_now_ns() - start) / 1e6;
		kmm_free_pages(k, p, 5);
	}
	row("restart, kill to first answer", "ms", v, RESTARTS);
}

/* A session with n objects, in a process that tells the handles of some of them and waits. */
static void death_victim(size_t n, kmm_handle_t handle[], int ready)
{
	struct kmm *k = session_open();
	struct kmm_cache *c = kmm_cache_create(k, "scale-death", SIZE, 0, 0, NULL);

	for (size_t i = 0; c && i < n; i++) {
		void *p = kmm_cache_alloc(c, KMM_GFP_KERNEL);

		if (!p)
			break;
		if (i % SAMPLE == 0 || i == n - 1)
			handle[i / SAMPLE] = kmm_handle(k, p); /* the last may take its sample's place */
	}
	if (!c || handle[(n - 1) / SAMPLE] == 0 || write(ready, "", 1) != 1)
		fail("a session that is to die");
	for (;;)
		pause();
}

static double death_time(struct kmm *k, size_t n)
{
	size_t handles = (n - 1) / SAMPLE + 1;
	kmm_handle_t *handle = mmap(NULL, handles * sizeof(*handle), PROT_READ | PROT_WRITE,
	                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ready[2];
	char byte;

	if (handle == MAP_FAILED || pipe(ready) != 0)
		fail("handles");
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		death_victim(n, handle, ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		fail("the session that is to die");
	close(ready[0]);
	for (size_t i = 0; i < handles; i++)
		if (!kmm_pointer(k, handle[i]))
			fail("a live object's handle");
	double start = bench_now_ns();

	kill(pid, SIGKILL);
	for (size_t i = 0; i < handles;) {
		if (kmm_pointer(k, handle[i]))
			usleep(50); /* the daemon needs the processor more */
		else
			i++;
	}
	double ms = (bench_now_ns() - start) / 1e6;

	waitpid(pid, NULL, 0);
	munmap(handle, handles * sizeof(*handle));
	return ms;
}

static void deaths(struct kmm *k)
{
	static const size_t n[] = { 1000, 10000, 100000, 1000000 };

	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
		double v[DEATHS];
		char what[64];

		for (int j = 0; j < DEATHS; j++)
			v[j] = death_time(k, n[i]);
		snprintf(what, sizeof(what), "death of a session with %zu objects", n[i]);
		row(what, "ms", v, DEATHS);
	}
}

int main(int argc, char *argv[])
{
	struct rlimit files;

	if (argc < 5 || (strcmp(argv[1], "all") == 0 && argc != 8)) {
		fprintf(stderr, "usage: bench_scale all SOCKET KMMCTL LABEL CACHES OBJECTS SESSIONS\n"
		                "       bench_scale death SOCKET KMMCTL LABEL\n");
		return 2;
	}
	socket_path = argv[2];
	kmmctl = argv[3];
	label = argv[4];
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	struct crowd c = { .k = session_open() };

	if (strcmp(argv[1], "death") == 0) {
		deaths(c.k);
		kmm_close(c.k);
		return 0;
	}
	c.caches = strtoul(argv[5], NULL, 10);
	c.objects = strtoul(argv[6], NULL, 10);
	size_t sessions = strtoul(argv[7], NULL, 10);
	pid_t *child = calloc(sessions / SESSIONS_EACH + 1, sizeof(*child));
	pid_t pid = daemon_pid();

	c.cache = calloc(c.caches, sizeof(struct kmm_cache *));
	c.object = mmap(NULL, c.objects * sizeof(void *), PROT_READ | PROT_WRITE,
	                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (!c.cache || !child || c.object == MAP_FAILED)
		fail("memory");
	/* the end of a forked process is not to pay for it */
	madvise(c.object, c.objects * sizeof(void *), MADV_DONTFORK);
	caches_make(&c, pid);
	objects_make(&c, pid);
	size_t processes = sessions_make(sessions, c.caches, pid, child);

	slabinfo_time();
	deaths(c.k);
	restart_time(c.k);
	objects_check(&c);

	double start = bench_now_ns();

	for (size_t i = 0; i < processes; i++)
		kill(child[i], SIGKILL);
	for (size_t i = 0; i < processes; i++)
		waitpid(child[i], NULL, 0);
	row1("all those processes gone, each", "ms",
	     (bench_now_ns() - start) / 1e6 / (double)(processes ? processes : 1));
	kmm_close(c.k);
	free(child);
	return 0;
}
