/* SPDX-License-Identifier: MIT */
/*
 * A service manager for tests: the supervisor's store, and starts of something that uses it, each
 * in a process of its own that is handed the kept descriptors.
 *
 *     test ── store (socket, kept fds)
 *       │ fork                       ▲ FDSTORE, BARRIER, READY
 *       └── start: fn(arg) ──────────┘   log = its stderr
 */
#ifndef TESTS_UNIT_TEST_MANAGER_H
#define TESTS_UNIT_TEST_MANAGER_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/supervise_store.h"

struct manager {
	struct supervise_store store;
	struct supervise_news news; /* of the last start */
	size_t kill_at;   /* kill the start once the store holds so many; 0: never */
	size_t kill_below; /* kill it once the store holds fewer than so many; 0: never */
	char log[8192];   /* of the last start */
};

static inline void manager_init(struct manager *m)
{
	memset(m, 0, sizeof(*m));
	if (supervise_store_init(&m->store) < 0)
		abort();
}

static inline void manager_fini(struct manager *m)
{
	supervise_store_fini(&m->store);
}

/* What it holds to keep: not what was pushed to see whether there is room (fdstore_room). */
static inline size_t manager_held(const struct manager *m)
{
	size_t i, n = 0;

	for (i = 0; i < m->store.nr; i++)
		n += strcmp(m->store.kept[i].name, "probe") != 0;
	return n;
}

static inline void manager_serve(struct manager *m, pid_t pid)
{
	struct pollfd p = { .fd = m->store.socket, .events = POLLIN };
	struct supervise_news news;

	poll(&p, 1, 5);
	if ((m->kill_at && manager_held(m) >= m->kill_at) || manager_held(m) < m->kill_below) {
		kill(pid, SIGKILL); /* it waits for the barrier, which nobody answers any more */
		return;
	}
	/* one by one, so that the kill comes exactly at its place */
	m->store.batch = m->kill_at || m->kill_below ? 1 : SUPERVISE_BATCH_ALL;
	supervise_store_receive(&m->store, pid, &news);
	m->news.ready |= news.ready;
	m->news.stopping |= news.stopping;
	if (news.status[0])
		memcpy(m->news.status, news.status, sizeof(news.status));
}

/* The exit status of fn's result; -signal when it was killed. */
static inline int manager_start(struct manager *m, int (*fn)(void *arg), void *arg)
{
	int log = memfd_create("log", MFD_CLOEXEC), status = 0;
	siginfo_t info = { 0 };
	ssize_t n;
	pid_t pid;

	memset(&m->news, 0, sizeof(m->news));
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(log, STDERR_FILENO);
		if (supervise_store_hand_over(&m->store) < 0)
			_exit(98);
		_exit(fn(arg));
	}
	if (pid < 0 || log < 0)
		abort();
	do {
		manager_serve(m, pid);
		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
			abort();
	} while (info.si_pid == 0);
	if (!m->kill_at && !m->kill_below)
		manager_serve(m, pid);
	if (waitpid(pid, &status, 0) != pid)
		abort();
	n = pread(log, m->log, sizeof(m->log) - 1, 0);
	m->log[n > 0 ? n : 0] = '\0';
	close(log);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The index of a kept descriptor, by name. */
static inline size_t manager_find(const struct manager *m, const char *name)
{
	size_t i;

	for (i = 0; i < m->store.nr; i++)
		if (strcmp(m->store.kept[i].name, name) == 0)
			return i;
	fprintf(stderr, "the store keeps no \"%s\"\n", name);
	abort();
}

/* Loses a kept descriptor, as a store that is too small does. */
static inline void manager_lose(struct manager *m, const char *name)
{
	size_t i = manager_find(m, name);

	close(m->store.kept[i].fd);
	free(m->store.kept[i].name);
	m->store.nr--;
	memmove(&m->store.kept[i], &m->store.kept[i + 1],
	        (m->store.nr - i) * sizeof(m->store.kept[0]));
}

#endif
