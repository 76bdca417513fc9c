/* SPDX-License-Identifier: MIT */
/*
 * Memory of the OS: sections and control memory as sealed memfds.
 */
#ifndef SHM_MEMFD_H
#define SHM_MEMFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shm_backing {
	SHM_AUTO,       /* hugetlb, then THP, then 4 KiB */
	SHM_HUGETLB_2M,
	SHM_HUGETLB_1G,
	SHM_THP,
	SHM_4K,
	SHM_NR_BACKINGS,
};
const char *shm_backing_name(enum shm_backing b); /* "hugetlb-2M" "hugetlb-1G" "thp" "4k" "auto" */

/* Makes a memfd of that backing (not AUTO), sized and sealed against shrinking, growing and further
 * seals, close-on-exec, mode 0600. Reserves nothing yet but hugetlb's own reservation when mapped.
 * -ENOMEM, -ENOSYS, -EINVAL size no multiple of the page. */
int shm_memfd_new(int *ret, const char *name, size_t size, enum shm_backing b);

/* Maps it at addr (NULL: anywhere), shared, read-write, kept out of core dumps and of children
 * (MADV_DONTDUMP, MADV_DONTFORK), and makes every page present, so that no later touch can fail:
 * -ENOMEM when the memory is not there (never SIGBUS). For THP the pages are collapsed. */
int shm_map_populate(void **ret, void *addr, int fd, size_t size, enum shm_backing b);
/* Makes `size` bytes of a writable mapping of fd, from `offset` of the file, present as above; may
 * run in several threads on parts of one mapping. offset and size: multiples of the page. */
int shm_populate(void *addr, int fd, uint64_t offset, size_t size, enum shm_backing b);
/* The same without populating; writable false: read-only. */
int shm_map(void **ret, void *addr, int fd, size_t size, bool writable);
/* The same, writable, at addr, and without reserving huge pages for what the file lacks. */
int shm_map_unreserved(void **ret, void *addr, int fd, size_t size);
/* Memory for that part of fd, mapped or not: it is there from now on, and the system clears it when
 * it is touched first. For 4 KiB pages several times faster than shm_populate(). -ENOMEM. */
int shm_reserve(int fd, uint64_t offset, size_t size);

/* A second descriptor of the same memory that can only be mapped read-only. */
int shm_reopen_readonly(int *ret, int fd);

/* Reserves an inaccessible range of address space aligned to `align` (a power of two). */
int shm_window_reserve(void **ret, size_t size, size_t align);
/* Makes part of a window inaccessible again. */
int shm_window_release(void *addr, size_t size);

/* What the machine offers, for the choice and for messages. */
struct shm_machine {
	uint64_t huge_2m_total, huge_2m_free, huge_2m_reserved; /* pages */
	uint64_t huge_1g_total, huge_1g_free, huge_1g_reserved;
	uint64_t huge_2m_overcommit; /* pages that the kernel may still add to the 2 MiB pool */
	bool shmem_huge; /* THP for shmem can be had: by advise or by MADV_COLLAPSE */
	uint64_t memory_available; /* bytes, also by the limits of the control group */
	uint64_t memory_limit;     /* bytes: of the control group, UINT64_MAX: none below the machine */
};
int shm_machine_read(struct shm_machine *m);

/* How many present bytes of the mappings that lie within a range are on pages of 4 KiB, 2 MiB,
 * 1 GiB, by the kernel's own account (smaps: KernelPageSize, ShmemPmdMapped). */
int shm_page_sizes(const void *addr, size_t size, uint64_t *b4k, uint64_t *b2m, uint64_t *b1g);

/* What recovery asks about a memfd: 0, or -EUCLEAN with *why set to a static text when fd is no
 * memfd of that backing, has another size, lacks a seal or is not open for reading and writing. */
int shm_memfd_check(int fd, size_t size, enum shm_backing b, const char **why);

/* A kernel's list like "0-3,8": how many numbers, the first `max` of them in ids. */
unsigned int shm_list_parse(const char *text, unsigned int ids[], unsigned int max);
/* The NUMA nodes of the machine that have memory: how many (at least 1), the first `max` in ids. */
unsigned int shm_nodes(unsigned int ids[], unsigned int max);
/* Distances between these of them, as the machine tells (10: to itself), a row of n for each; two that
 * are one node of the machine are 11 apart. root NULL: /sys/devices/system/node. False, and 10 and 20
 * everywhere: it does not tell. */
bool shm_node_distances(const char *root, const unsigned int ids[], unsigned int n, uint8_t ret[]);
/* For each CPU below `cpus` which of these nodes it is on, an index into ids; 0 where the machine does
 * not tell. root as above. */
void shm_cpu_nodes(const char *root, const unsigned int ids[], unsigned int n, unsigned int cpus,
                   uint16_t ret[]);
/* Binds a mapping's future pages to a NUMA node of the machine; 0 also where there is only one. */
int shm_bind_node(void *addr, size_t size, unsigned int node);

#endif
