/* SPDX-License-Identifier: MIT */
/*
 * What the machine offers and what a mapping got, by the kernel's own account: /sys, /proc/meminfo,
 * the control group's limits, smaps. Everything missing counts as "none" (or "no limit"): the
 * figures serve choices and messages; whether memory is there decides populating it.
 */
#include "shm/memfd.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_PAGE ((size_t)2 << 20)
#define CGROUP_ROOT "/sys/fs/cgroup"

static bool number_read(const char *path, uint64_t *ret)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return false;
	ok = fscanf(f, "%" SCNu64, ret) == 1;
	fclose(f);
	return ok;
}

/* The number after `key` at the beginning of a line of a file. */
static bool field_read(const char *path, const char *key, uint64_t *ret)
{
	FILE *f = fopen(path, "re");
	char line[256];
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = strncmp(line, key, strlen(key)) == 0 &&
		        sscanf(line + strlen(key), "%" SCNu64, ret) == 1;
	fclose(f);
	return found;
}

static uint64_t huge_read(const char *size, const char *name)
{
	char path[128];
	uint64_t n = 0;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%s/%s", size, name);
	number_read(path, &n);
	return n;
}

/* Whether one huge page of shmem can be had, by trying. */
static bool shmem_huge_try(void)
{
	bool got = false;
	void *window, *p;
	uint64_t b4k, b2m, b1g;
	int fd;

	if (shm_memfd_new(&fd, "kmm-try", HUGE_PAGE, SHM_THP) < 0)
		return false;
	if (shm_window_reserve(&window, HUGE_PAGE, HUGE_PAGE) == 0) {
		if (shm_map_populate(&p, window, fd, HUGE_PAGE, SHM_THP) == 0)
			got = shm_page_sizes(p, HUGE_PAGE, &b4k, &b2m, &b1g) == 0 && b2m == HUGE_PAGE;
		munmap(window, HUGE_PAGE);
	}
	close(fd);
	return got;
}

/* What one control group leaves: its limit less what is used and could not be dropped. */
static void cgroup_apply(const char *path, struct shm_machine *m)
{
	char name[PATH_MAX + 64];
	uint64_t max, used = 0, inactive = 0, active = 0, left;

	snprintf(name, sizeof(name), "%s/memory.max", path);
	if (!number_read(name, &max)) /* absent, or "max" */
		return;
	snprintf(name, sizeof(name), "%s/memory.current", path);
	number_read(name, &used);
	snprintf(name, sizeof(name), "%s/memory.stat", path);
	field_read(name, "inactive_file ", &inactive);
	field_read(name, "active_file ", &active);
	used -= inactive + active < used ? inactive + active : used;
	left = max > used ? max - used : 0;
	if (max < m->memory_limit)
		m->memory_limit = max;
	if (left < m->memory_available)
		m->memory_available = left;
}

/* The limits of the process's own group and of all above it. */
static void cgroup_read(struct shm_machine *m)
{
	char line[PATH_MAX], path[PATH_MAX + sizeof(CGROUP_ROOT)];
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;

	if (!f)
		return;
	while (!found && fgets(line, sizeof(line), f))
		found = strncmp(line, "0::/", 4) == 0;
	fclose(f);
	if (!found)
		return;
	line[strcspn(line, "\n")] = '\0';
	snprintf(path, sizeof(path), "%s%s", CGROUP_ROOT, line + 3);
	for (;;) {
		char *slash;

		cgroup_apply(path, m);
		slash = strrchr(path, '/');
		if (!slash || (size_t)(slash - path) < strlen(CGROUP_ROOT))
			break;
		*slash = '\0';
	}
}

int shm_machine_read(struct shm_machine *m)
{
	struct shm_machine n = { .memory_limit = UINT64_MAX };
	uint64_t overcommit, surplus, kb;

	n.huge_2m_total = huge_read("2048kB", "nr_hugepages");
	n.huge_2m_free = huge_read("2048kB", "free_hugepages");
	n.huge_2m_reserved = huge_read("2048kB", "resv_hugepages");
	overcommit = huge_read("2048kB", "nr_overcommit_hugepages");
	surplus = huge_read("2048kB", "surplus_hugepages");
	n.huge_2m_overcommit = overcommit > surplus ? overcommit - surplus : 0;
	n.huge_1g_total = huge_read("1048576kB", "nr_hugepages");
	n.huge_1g_free = huge_read("1048576kB", "free_hugepages");
	n.huge_1g_reserved = huge_read("1048576kB", "resv_hugepages");
	if (!field_read("/proc/meminfo", "MemAvailable:", &kb))
		return -ENOSYS;
	n.memory_available = kb * 1024;
	cgroup_read(&n);
	n.shmem_huge = shmem_huge_try();
	*m = n;
	return 0;
}

/* Counts of one mapping that lies within the range. */
struct smaps_entry {
	uint64_t size;
	uint64_t kernel_page, rss, pmd_mapped, hugetlb; /* bytes */
};

static void smaps_line(struct smaps_entry *e, const char *line)
{
	uint64_t kb;

	if (sscanf(line, "KernelPageSize: %" SCNu64, &kb) == 1)
		e->kernel_page = kb * 1024;
	else if (sscanf(line, "Rss: %" SCNu64, &kb) == 1)
		e->rss = kb * 1024;
	else if (sscanf(line, "ShmemPmdMapped: %" SCNu64, &kb) == 1)
		e->pmd_mapped = kb * 1024;
	else if (sscanf(line, "Shared_Hugetlb: %" SCNu64, &kb) == 1 ||
	         sscanf(line, "Private_Hugetlb: %" SCNu64, &kb) == 1)
		e->hugetlb += kb * 1024;
}

int shm_page_sizes(const void *addr, size_t size, uint64_t *b4k, uint64_t *b2m, uint64_t *b1g)
{
	uint64_t from = (uintptr_t)addr, to = from + size, n4k = 0, n2m = 0, n1g = 0, start, end;
	struct smaps_entry e = { 0 };
	char *line = NULL;
	size_t room = 0;
	bool inside = false, more = true;
	FILE *f = fopen("/proc/self/smaps", "re");

	if (!f)
		return -errno;
	while (more) {
		more = getline(&line, &room, f) > 0;
		if (more && sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) != 2) {
			if (inside)
				smaps_line(&e, line);
			continue;
		}
		/* the next mapping, or the end: account the one before */
		if (inside && e.kernel_page > HUGE_PAGE)
			n1g += e.hugetlb;
		else if (inside && e.kernel_page == HUGE_PAGE)
			n2m += e.hugetlb;
		else if (inside) {
			n2m += e.pmd_mapped;
			n4k += e.rss > e.pmd_mapped ? e.rss - e.pmd_mapped : 0;
		}
		if (more && start >= to)
			break;
		memset(&e, 0, sizeof(e));
		inside = more && start >= from && end <= to;
	}
	free(line);
	fclose(f);
	*b4k = n4k;
	*b2m = n2m;
	*b1g = n1g;
	return 0;
}

/* ---- NUMA distances ---- */

#define NODES "/sys/devices/system/node"
#define NODE_IDS 1024u
#define DISTANCE_SELF 10u
#define DISTANCE_NEAR 11u
#define DISTANCE_FAR 20u

static bool line_read(const char *root, const char *name, char *line, size_t room)
{
	char path[PATH_MAX];
	bool ok = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	f = fopen(path, "re");
	if (f) {
		ok = fgets(line, (int)room, f) != NULL;
		fclose(f);
	}
	return ok;
}

/* The row of one node: a number for each node that is online, in order. 0: not told. */
static unsigned int distance_read(const char *root, unsigned int from, unsigned int to)
{
	char line[4096], name[40], *at = line, *end;
	unsigned int online[NODE_IDS], n = 0, value;

	if (line_read(root, "online", line, sizeof(line)))
		n = shm_list_parse(line, online, NODE_IDS);
	snprintf(name, sizeof(name), "node%u/distance", from);
	if (!line_read(root, name, line, sizeof(line)))
		return 0;
	for (unsigned int i = 0; i < n && i < NODE_IDS; i++, at = end) {
		value = (unsigned int)strtoul(at, &end, 10);
		if (end == at)
			return 0;
		if (online[i] == to)
			return value > DISTANCE_SELF && value < 255 ? value : 0;
	}
	return 0;
}

bool shm_node_distances(const char *root, const unsigned int ids[], unsigned int n, uint8_t ret[])
{
	bool told = true;

	for (unsigned int i = 0; i < n; i++)
		for (unsigned int k = 0; k < n; k++) {
			unsigned int d = i == k          ? DISTANCE_SELF :
			                 ids[i] == ids[k] ? DISTANCE_NEAR :
			                                   distance_read(root ? root : NODES, ids[i],
			                                                 ids[k]);

			told = told && d != 0;
			ret[i * n + k] = (uint8_t)d;
		}
	for (unsigned int i = 0; !told && i < n * n; i++)
		ret[i] = i % (n + 1) ? DISTANCE_FAR : DISTANCE_SELF;
	return told;
}

void shm_cpu_nodes(const char *root, const unsigned int ids[], unsigned int n, unsigned int cpus,
                   uint16_t ret[])
{
	char line[4096], name[40];
	unsigned int cpu[NODE_IDS], found;

	memset(ret, 0, cpus * sizeof(*ret));
	for (unsigned int i = n; i-- > 0;) {
		snprintf(name, sizeof(name), "node%u/cpulist", ids[i]);
		if (!line_read(root ? root : NODES, name, line, sizeof(line)))
			continue;
		found = shm_list_parse(line, cpu, NODE_IDS);
		for (unsigned int k = 0; k < found && k < NODE_IDS; k++)
			if (cpu[k] < cpus)
				ret[cpu[k]] = (uint16_t)i;
	}
}
