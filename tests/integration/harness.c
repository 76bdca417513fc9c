/* SPDX-License-Identifier: MIT */
/*
 * Daemons for tests: start, stop, kill, look inside. A daemon dies with the test that started it
 * (parent-death signal), so a failed assertion leaves none behind.
 */
#include <check.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/harness.h"

#define PATIENCE_S 300

void must_fail(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: not so in process %d: %s (errno %d, %s; library: %s)\n", file, line,
		(int)getpid(), condition, errno, strerror(errno), kmm_error_text());
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void wait_step(struct wait *w, const char *file, int line, const char *condition)
{
	struct timespec nap = { 0, 2000000 };

	if (!w->deadline_ns)
		w->deadline_ns = now_ns() + PATIENCE_S * 1000000000ull;
	if (now_ns() > w->deadline_ns) {
		fprintf(stderr, "%s:%d: waited %d s in vain for: %s\n", file, line, PATIENCE_S,
			condition);
		_exit(1);
	}
	nanosleep(&nap, NULL);
}

static const char *program(const char *variable, const char *fallback)
{
	const char *p = getenv(variable);

	return p && *p ? p : fallback;
}

/* ---- the daemon ---- */

/* Of suite_run(): a test that failed leaves its directory to that process. */
static pid_t suite_pid;

void daemon_prepare(struct daemon *d)
{
	memset(d, 0, sizeof(*d));
	snprintf(d->dir, sizeof(d->dir), "/tmp/kmmd-test-%d-XXXXXX", (int)suite_pid);
	must(mkdtemp(d->dir));
	snprintf(d->socket, sizeof(d->socket), "%s/kmmd.sock", d->dir);
	snprintf(d->config, sizeof(d->config), "%s/kmmd.conf", d->dir);
}

void daemon_configure(const struct daemon *d, const char *text)
{
	FILE *f = fopen(d->config, "we");

	must(f);
	must(fputs(text, f) >= 0);
	must(fclose(f) == 0);
}

static bool daemon_accepts(const struct daemon *d)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	must(fd >= 0);
	strcpy(a.sun_path, d->socket);
	ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	return ok;
}

/* Listening is not enough: kmmctl health is a call that a reactor answers. */
void daemon_wait_serving(const struct daemon *d)
{
	static const char *const health[] = { "health", NULL };
	struct wait w = { 0 };
	int status;

	for (;;) {
		if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
			fprintf(stderr, "the daemon ended while it was waited for, status 0x%x\n",
				status);
			_exit(1);
		}
		if (daemon_accepts(d) && daemon_ctl(d, NULL, health) == 0)
			return;
		wait_step(&w, __FILE__, __LINE__, "the daemon serves");
	}
}

void daemon_launch(struct daemon *d, const char *const args[])
{
	const char *argv[32] = { "kmmd", "--socket", d->socket };
	size_t n = 3;
	pid_t parent = getpid();

	d->supervised = false;
	for (; *args; args++) {
		must(n < 31);
		argv[n++] = *args;
		d->supervised |= strcmp(*args, "--supervise") == 0;
	}
	d->pid = fork();
	must(d->pid >= 0);
	if (d->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(1);
		execv(program("KMMD", "./kmmd"), (char *const *)argv);
		must(!"kmmd can be executed");
	}
	daemon_wait_serving(d);
}

/* Of two options of one name the last counts. text: NULL for no configuration file. */
static void daemon_start_with(struct daemon *d, bool supervise, const char *text,
			      const char *const args[])
{
	const char *argv[32] = { "--pool-size", "64M", "--backing", "4k", "--reactors", "2" };
	size_t n = 6;

	daemon_prepare(d);
	if (supervise)
		argv[n++] = "--supervise";
	if (text) {
		daemon_configure(d, text);
		argv[n++] = "--config";
		argv[n++] = d->config;
	}
	for (; args && *args; args++) {
		must(n < 31);
		argv[n++] = *args;
	}
	daemon_launch(d, argv);
}

void daemon_start(struct daemon *d, const char *const args[])
{
	daemon_start_with(d, false, NULL, args);
}

void daemon_start_configured(struct daemon *d, const char *text, const char *const args[])
{
	daemon_start_with(d, false, text, args);
}

void daemon_start_supervised(struct daemon *d, const char *const args[])
{
	daemon_start_with(d, true, NULL, args);
}

/* Where the installed service stands in for a daemon of one's own (tests/system/installed.py): its control
 * group. The process that was started as "kmmd" only speaks for it. */
static const char *service_group(void)
{
	const char *group = getenv("KMM_SERVICE");

	return group && *group ? group : NULL;
}

bool daemon_is_service(void)
{
	return service_group();
}

/* Of the group's processes the one that is kmmd; 0: none at the moment. */
static pid_t service_pid(const char *group)
{
	char path[256], comm[32];
	pid_t found = 0;
	long pid;
	FILE *f, *g;

	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	f = fopen(path, "re");
	while (f && !found && fscanf(f, "%ld", &pid) == 1) {
		snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
		g = fopen(path, "re");
		if (g && fscanf(g, "%31s", comm) == 1 && strcmp(comm, "kmmd") == 0)
			found = (pid_t)pid;
		if (g)
			fclose(g);
	}
	if (f)
		fclose(f);
	return found;
}

int daemon_wait_exit(struct daemon *d)
{
	int status = 0;

	while (waitpid(d->pid, &status, 0) < 0)
		must(errno == EINTR);
	/* a stand-in that was killed is gone before the service that it stands for (steward.py) */
	wait_until(!service_group() || access("/run/kmmd-steward.busy", F_OK) != 0);
	d->pid = 0;
	unlink(d->socket);
	unlink(d->config);
	rmdir(d->dir);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int daemon_stop(struct daemon *d)
{
	if (!d->pid)
		return 0;
	kill(d->pid, SIGTERM);
	return daemon_wait_exit(d);
}

pid_t daemon_serving_pid(const struct daemon *d)
{
	char path[64], text[256] = "";
	int fd;

	if (service_group())
		return service_pid(service_group());
	if (!d->supervised)
		return d->pid;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)d->pid, (int)d->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0);
	must(read(fd, text, sizeof(text) - 1) >= 0);
	close(fd);
	return (pid_t)strtol(text, NULL, 10);
}

/* Gone or a zombie: it has no memory and no descriptor any more. */
static bool process_is_dead(pid_t pid)
{
	char path[64], text[512] = "", *p;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	p = n > 0 ? strrchr(text, ')') : NULL;
	return !p || p[2] == 'Z' || p[2] == 'X';
}

pid_t daemon_kill(const struct daemon *d)
{
	pid_t pid;

	/* the supervisor may be about to start it again */
	wait_until((pid = daemon_serving_pid(d)) > 0);
	if (!service_group())
		must(kill(pid, SIGKILL) == 0 || errno == ESRCH);
	else if (d->supervised) /* the stand-in passes it on, or has the manager restart the service */
		must(kill(d->pid, SIGUSR2) == 0);
	else /* nobody is to start another: with its stand-in the service ends */
		must(kill(d->pid, SIGKILL) == 0);
	wait_until(process_is_dead(pid));
	return pid;
}

/* A stand-in is to hear what else it is told. */
void daemon_hold(const struct daemon *d)
{
	must(kill(d->pid, service_group() ? SIGUSR1 : SIGSTOP) == 0);
}

void daemon_resume(const struct daemon *d)
{
	must(kill(d->pid, SIGCONT) == 0);
}

static unsigned count_lines(const char *path, const char *text)
{
	FILE *f = fopen(path, "re");
	char line[1024];
	unsigned n = 0;

	must(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	fclose(f);
	return n;
}

/* What the service says comes by way of the journal: it is asked for, and a line says when it is there. */
unsigned daemon_said(const struct daemon *d, const char *path, const char *text)
{
	static const char synced[] = "-- all that was said before --";
	unsigned before;

	if (service_group()) {
		before = count_lines(path, synced);
		must(kill(d->pid, SIGURG) == 0);
		wait_until(count_lines(path, synced) > before);
	}
	return count_lines(path, text);
}

unsigned daemon_count_fds(const struct daemon *d)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)daemon_serving_pid(d));
	dir = opendir(path);
	must(dir);
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		n += isdigit((unsigned char)e->d_name[0]) != 0;
	closedir(dir);
	return n;
}

/* ---- looking inside ---- */

int daemon_ctl(const struct daemon *d, char **out, const char *const args[])
{
	const char *argv[16] = { "kmmctl", "--socket", d->socket };
	size_t n = 3, used = 0, size = 1 << 16;
	char *text = malloc(size);
	int pipefd[2], status;
	ssize_t r;
	pid_t pid;

	must(text && pipe2(pipefd, O_CLOEXEC) == 0);
	for (; *args; args++) {
		must(n < 15);
		argv[n++] = *args;
	}
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		dup2(pipefd[1], STDOUT_FILENO);
		if (!out) /* asked only whether it works */
			dup2(pipefd[1], STDERR_FILENO);
		execv(program("KMMCTL", "./kmmctl"), (char *const *)argv);
		must(!"kmmctl can be executed");
	}
	close(pipefd[1]);
	while ((r = read(pipefd[0], text + used, size - used - 1)) != 0) {
		if (r < 0) {
			must(errno == EINTR);
			continue;
		}
		used += (size_t)r;
		if (used + 1 == size)
			must((text = realloc(text, size *= 2)) != NULL);
	}
	close(pipefd[0]);
	text[used] = 0;
	while (waitpid(pid, &status, 0) < 0)
		must(errno == EINTR);
	if (out)
		*out = text;
	else
		free(text);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

char *daemon_zone_frames(const struct daemon *d)
{
	static const char *const drop[] = { "drop-caches", NULL }, *const info[] = { "buddyinfo",
										     NULL };
	char *text, *result = NULL, *line, *next;
	size_t size = 0;
	FILE *f = open_memstream(&result, &size);

	must(f && daemon_ctl(d, NULL, drop) == 0 && daemon_ctl(d, &text, info) == 0);
	for (line = text; (next = strchr(line, '\n')) != NULL; line = next + 1) {
		unsigned long count, frames = 0;
		char zone[16];
		int node, at, used;

		*next = 0;
		must(sscanf(line, "Node %d, zone %15s%n", &node, zone, &at) == 2);
		for (unsigned order = 0; order <= KMM_MAX_ORDER; order++, at += used) {
			must(sscanf(line + at, "%lu%n", &count, &used) == 1);
			frames += count << order;
		}
		fprintf(f, "node %d zone %s: %lu\n", node, zone, frames);
	}
	free(text);
	must(fclose(f) == 0);
	return result;
}

uint64_t daemon_free_pages(const struct daemon *d)
{
	char *text = daemon_zone_frames(d), *p = text;
	uint64_t sum = 0;

	while ((p = strstr(p, ": ")) != NULL) {
		p += 2;
		sum += strtoull(p, NULL, 10);
	}
	free(text);
	return sum;
}

uint64_t daemon_counter(const struct daemon *d, const char *name)
{
	static const char *const args[] = { "vmstat", NULL };
	char *text, *at, line[64];
	uint64_t value;

	must(daemon_ctl(d, &text, args) == 0);
	snprintf(line, sizeof(line), "\n%s ", name);
	at = strstr(text, line);
	must(at);
	value = strtoull(at + strlen(line), NULL, 10);
	free(text);
	return value;
}

bool daemon_is_boosted(const struct daemon *d)
{
	static const char *const args[] = { "zoneinfo", NULL };
	char *text, *at;
	bool is = false;

	must(daemon_ctl(d, &text, args) == 0);
	for (at = text; (at = strstr(at, " boost ")) != NULL; at += 7)
		is |= strtoul(at + 7, NULL, 10) != 0;
	free(text);
	return is;
}

bool daemon_is_clean(const struct daemon *d)
{
	static const char *const fsck[] = { "fsck", NULL };
	char *text;
	int status = daemon_ctl(d, &text, fsck);

	if (status != 0)
		fprintf(stderr, "fsck: status %d\n%s", status, text);
	free(text);
	return status == 0;
}

/* "KEY": NUMBER in JSON text, -1 when it is not there. */
static long json_number(const char *text, const char *key)
{
	char quoted[64];
	const char *p;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	p = strstr(text, quoted);
	return p ? strtol(p + strlen(quoted), NULL, 10) : -1;
}

bool daemon_has_session(const struct daemon *d, kmm_session_id_t id)
{
	char number[16];
	const char *const args[] = { "session", number, NULL };

	snprintf(number, sizeof(number), "%u", id);
	return daemon_ctl(d, NULL, args) == 0;
}

unsigned daemon_count_sessions(const struct daemon *d)
{
	static const char *const args[] = { "--json", "sessions", NULL };
	unsigned n = 0;
	char *text;

	must(daemon_ctl(d, &text, args) == 0);
	for (const char *p = text; (p = strstr(p, "\"pid\"")) != NULL; p++)
		n++;
	free(text);
	return n;
}

long daemon_session_number(const struct daemon *d, kmm_session_id_t id, const char *key)
{
	char number[16], *text;
	const char *const args[] = { "--json", "session", number, NULL };
	long value;

	snprintf(number, sizeof(number), "%u", id);
	value = daemon_ctl(d, &text, args) == 0 ? json_number(text, key) : -1;
	free(text);
	return value;
}

/* ---- this process's session ---- */

struct kmm *session_start(const struct daemon *d)
{
	struct kmm_options o = { .size = sizeof(o), .address = d->socket };
	struct kmm *k;

	must(kmm_open(&k, &o) == 0);
	return k;
}

void block_fill(void *block, unsigned order, uint64_t seed)
{
	uint64_t *w = block;

	for (size_t i = 0; i < (KMM_PAGE_SIZE << order) / sizeof(*w); i++)
		w[i] = (seed + i) * 0x9e3779b97f4a7c15u;
}

bool block_check(const void *block, unsigned order, uint64_t seed)
{
	const uint64_t *w = block;

	for (size_t i = 0; i < (KMM_PAGE_SIZE << order) / sizeof(*w); i++)
		if (w[i] != (seed + i) * 0x9e3779b97f4a7c15u)
			return false;
	return true;
}

static void directories_remove(const char *pattern)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			if (remove(found.gl_pathv[i]) != 0)
				perror(found.gl_pathv[i]);
	globfree(&found);
}

int suite_run(struct Suite *s)
{
	SRunner *sr = srunner_create(s);
	char pattern[64];
	int run, failed;

	suite_pid = getpid();
	srunner_run_all(sr, CK_NORMAL);
	snprintf(pattern, sizeof(pattern), "/tmp/kmmd-test-%d-*/*", (int)suite_pid);
	directories_remove(pattern);
	snprintf(pattern, sizeof(pattern), "/tmp/kmmd-test-%d-*", (int)suite_pid);
	directories_remove(pattern);
	run = srunner_ntests_run(sr);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	printf("%d passed, %d failed\n", run - failed, failed);
	return failed || !run;
}
