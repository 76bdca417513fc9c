/* SPDX-License-Identifier: MIT */
/*
 * The fd store, seen from the daemon. See fdstore.h.
 *
 * What the manager passed at the start comes in any order (systemd's reverses at each restart) and
 * is found by name: the entries are sorted once, so that taking the hundreds of sections of a pool
 * costs a binary search each. A name may come twice; each take gives one of them.
 *
 * A manager whose store is full drops what it is given and says nothing (systemd:
 * FileDescriptorStoreMax=), so that a push that succeeds proves only that the message left. What the
 * store takes is therefore tried before a pool is made (fdstore_room): it is given the writing ends of
 * as many pipes. Those that it dropped are closed, which their reading ends show.
 *
 * Descriptors in flight count against RLIMIT_NOFILE, hence the barrier after every FLIGHT_MAX of
 * them. Not thread-safe.
 */
#include "daemon/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define FLIGHT_MAX 200u
#define PROBE "probe"
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
	size_t limit; /* of what it keeps; 0: it does not say */
	_Atomic size_t kept; /* in the store, probes not counted; for reports: relaxed */
};

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct fdstore_entry *)a)->name,
	              ((const struct fdstore_entry *)b)->name);
}

/* Not one that systemd made for the socket unit, by whose name it goes. */
static bool entry_is_kept(const char *name)
{
	const char *dot = strrchr(name, '.');

	return strcmp(name, PROBE) != 0 && !(dot && strcmp(dot, ".socket") == 0);
}

/* Of a daemon that died while it tried what the store takes. */
static void fdstore_drop_probes(struct fdstore *s)
{
	bool any = false;
	int fd;

	while ((fd = fdstore_take(s, PROBE)) >= 0) {
		close(fd);
		any = true;
	}
	if (any)
		fdstore_remove(s, PROBE);
}

/* FileDescriptorStoreMax=, as systemd tells from version 254 on. */
static size_t fdstore_read_limit(void)
{
	const char *text = getenv("FDSTORE");
	char *end;
	unsigned long n;

	if (!text || text[0] < '0' || text[0] > '9')
		return 0;
	n = strtoul(text, &end, 10);
	return *end ? 0 : n;
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
	s->limit = fdstore_read_limit();
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
	for (i = 0; i < n; i++)
		if (entry_is_kept(s->entry[i].name))
			atomic_fetch_add_explicit(&s->kept, 1, memory_order_relaxed);
	qsort(s->entry, s->nr, sizeof(*s->entry), entry_compare);
	fdstore_drop_probes(s);
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
	if (entry_is_kept(name))
		atomic_fetch_add_explicit(&s->kept, 1, memory_order_relaxed);
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
	if (r >= 0 && entry_is_kept(name) &&
	    atomic_load_explicit(&s->kept, memory_order_relaxed) > 0)
		atomic_fetch_sub_explicit(&s->kept, 1, memory_order_relaxed);
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

/* n pipes: the reading ends; the writing ends went to the store. */
static int fdstore_probe_push(struct fdstore *s, struct pollfd *probe, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) < 0)
			return -errno;
		probe[i].fd = ends[0];
		r = fdstore_push(s, PROBE, ends[1]);
		close(ends[1]);
	}
	return r < 0 ? r : fdstore_barrier(s);
}

int fdstore_room(struct fdstore *s, size_t n, size_t *room)
{
	struct pollfd *probe;
	size_t i, kept = 0;
	int r;

	if (!s->present) {
		*room = n;
		return 0;
	}
	probe = calloc(n + 1, sizeof(*probe));
	if (!probe)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		probe[i].fd = -1;
	r = fdstore_probe_push(s, probe, n);
	if (r == 0 && poll(probe, n, 0) < 0)
		r = -errno;
	for (i = 0; i < n; i++) {
		kept += !(probe[i].revents & POLLHUP);
		if (probe[i].fd >= 0)
			close(probe[i].fd);
	}
	free(probe);
	/* Also when they are not all there: what follows finds the store as it was. */
	if (fdstore_remove(s, PROBE) < 0 && r == 0)
		r = -EIO;
	if (r == 0)
		*room = kept;
	return r;
}

bool fdstore_present(const struct fdstore *s)
{
	return s->present;
}

size_t fdstore_kept(const struct fdstore *s)
{
	return atomic_load_explicit(&s->kept, memory_order_relaxed);
}

size_t fdstore_limit(const struct fdstore *s)
{
	return s->limit;
}
