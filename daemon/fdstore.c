/* SPDX-License-Identifier: MIT */
/*
 * The fd store, seen from the daemon. See fdstore.h.
 *
 * What the manager passed at the start comes in any order (systemd's reverses at each restart) and
 * is found by name: the entries are sorted once, so that taking the hundreds of sections of a pool
 * costs a binary search each. A name may come twice; each take gives one of them.
 *
 * A manager whose store is full drops what it is given and says nothing (systemd:
 * FileDescriptorStoreMax=), so that a push that succeeds proves only that the message left. The
 * pool's start therefore logs how many descriptors the store must hold.
 *
 * Descriptors in flight count against RLIMIT_NOFILE, hence the barrier after every FLIGHT_MAX of
 * them. Not thread-safe.
 */
#include "daemon/fdstore.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define FLIGHT_MAX 200u
#define BARRIER_USEC (UINT64_C(10) * 1000 * 1000)

struct fdstore_entry {
	char *name;
	int fd; /* -1: taken */
};

struct fdstore {
	bool present;
	struct fdstore_entry *entry; /* sorted by name */
	size_t nr;
	size_t left;
	size_t in_flight; /* pushes since the last barrier */
};

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct fdstore_entry *)a)->name,
	              ((const struct fdstore_entry *)b)->name);
}

int fdstore_new(struct fdstore **ret)
{
	struct fdstore *s;
	char **names = NULL;
	int n, i;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->present = getenv("NOTIFY_SOCKET") != NULL;
	n = sd_listen_fds_with_names(1, &names);
	if (n < 0) {
		free(s);
		return n;
	}
	s->entry = calloc((size_t)n + 1, sizeof(*s->entry));
	if (!s->entry) {
		for (i = 0; i < n; i++)
			free(names[i]);
		free(names);
		free(s);
		return -ENOMEM;
	}
	for (i = 0; i < n; i++)
		s->entry[i] = (struct fdstore_entry){ names[i], SD_LISTEN_FDS_START + i };
	free(names);
	s->nr = s->left = (size_t)n;
	qsort(s->entry, s->nr, sizeof(*s->entry), entry_compare);
	*ret = s;
	return 0;
}

struct fdstore *fdstore_free(struct fdstore *s)
{
	size_t i;

	if (!s)
		return NULL;
	for (i = 0; i < s->nr; i++) {
		if (s->entry[i].fd >= 0)
			close(s->entry[i].fd);
		free(s->entry[i].name);
	}
	free(s->entry);
	free(s);
	return NULL;
}

/* The first entry whose name is not less. */
static size_t entry_lower_bound(const struct fdstore *s, const char *name)
{
	size_t low = 0, high = s->nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(s->entry[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int fdstore_take(struct fdstore *s, const char *name)
{
	size_t i;

	for (i = entry_lower_bound(s, name); i < s->nr && strcmp(s->entry[i].name, name) == 0; i++) {
		int fd = s->entry[i].fd;

		if (fd < 0)
			continue;
		s->entry[i].fd = -1;
		s->left--;
		return fd;
	}
	return -1;
}

size_t fdstore_left(const struct fdstore *s)
{
	return s->left;
}

const char *fdstore_name(const struct fdstore *s, size_t i)
{
	size_t e;

	for (e = 0; e < s->nr; e++)
		if (s->entry[e].fd >= 0 && i-- == 0)
			return s->entry[e].name;
	return NULL;
}

int fdstore_push(struct fdstore *s, const char *name, int fd)
{
	char state[300];
	int r;

	if (!s->present)
		return 0;
	r = snprintf(state, sizeof(state), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	if (r < 0 || (size_t)r >= sizeof(state) || name[0] == '\0' || strpbrk(name, ":\n"))
		return -EINVAL;
	if (s->in_flight >= FLIGHT_MAX) {
		r = fdstore_barrier(s);
		if (r < 0)
			return r;
	}
	r = sd_pid_notify_with_fds(0, 0, state, &fd, 1);
	if (r < 0)
		return r;
	s->in_flight++;
	return 0;
}

int fdstore_remove(struct fdstore *s, const char *name)
{
	char state[300];
	int r;

	if (!s->present)
		return 0;
	r = snprintf(state, sizeof(state), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	if (r < 0 || (size_t)r >= sizeof(state) || name[0] == '\0' || strpbrk(name, ":\n"))
		return -EINVAL;
	r = sd_notify(0, state);
	return r < 0 ? r : 0;
}

int fdstore_barrier(struct fdstore *s)
{
	int r;

	if (!s->present)
		return 0;
	r = sd_notify_barrier(0, BARRIER_USEC);
	if (r < 0)
		return r;
	s->in_flight = 0;
	return 0;
}

bool fdstore_present(const struct fdstore *s)
{
	return s->present;
}
