/* SPDX-License-Identifier: MIT */
/*
 * Sealed memfds.
 *
 * A memfd is the unit of protection: whoever holds the fd can map all of it. Its size is sealed, so
 * that no holder can truncate it under the others, and the seals are sealed. Its inode would have
 * mode 0777 and could be reopened writable through /proc by anybody who holds it read-only: mode
 * 0600 leaves that to its creator's user.
 */
#include "shm/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MFD_HUGE_1GB
#define MFD_HUGE_1GB (30U << 26)
#endif

#define HUGETLBFS_TYPE 0x958458f6
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static const struct {
	const char *name;
	size_t page;
	unsigned int flags;
} backings[SHM_NR_BACKINGS] = {
	[SHM_AUTO] = { "auto", 4096, 0 },
	[SHM_HUGETLB_2M] = { "hugetlb-2M", (size_t)2 << 20, MFD_HUGETLB | MFD_HUGE_2MB },
	[SHM_HUGETLB_1G] = { "hugetlb-1G", (size_t)1 << 30, MFD_HUGETLB | MFD_HUGE_1GB },
	[SHM_THP] = { "thp", (size_t)2 << 20, 0 },
	[SHM_4K] = { "4k", 4096, 0 },
};

static bool is_hugetlb(enum shm_backing b)
{
	return b == SHM_HUGETLB_2M || b == SHM_HUGETLB_1G;
}

const char *shm_backing_name(enum shm_backing b)
{
	return (unsigned int)b < SHM_NR_BACKINGS ? backings[b].name : "unknown";
}

static int memfd_open(const char *name, unsigned int flags)
{
	int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

	/* Kernels before 6.3 do not know the flag. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	if (fd >= 0)
		return fd;
	/* No such huge page size, or a kernel without huge pages. */
	if ((errno == ENODEV || errno == EINVAL || errno == ENOENT) && (flags & MFD_HUGETLB))
		return -ENOSYS;
	return -errno;
}

int shm_memfd_new(int *ret, const char *name, size_t size, enum shm_backing b)
{
	int fd, r;

	if (b == SHM_AUTO || (unsigned int)b >= SHM_NR_BACKINGS || size == 0 ||
	    size % backings[b].page != 0)
		return -EINVAL;
	fd = memfd_open(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | backings[b].flags);
	if (fd < 0)
		return fd;
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, SEALS) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret = fd;
	return 0;
}

int shm_memfd_check(int fd, size_t size, enum shm_backing b, const char **why)
{
	struct stat st;
	struct statfs fs;
	int flags;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0 || !S_ISREG(st.st_mode)) {
		*why = "it is no memory file";
	} else if (st.st_size < 0 || (size_t)st.st_size != size) {
		*why = "its size is wrong";
	} else if (is_hugetlb(b) != ((unsigned long)fs.f_type == HUGETLBFS_TYPE) ||
	           (is_hugetlb(b) && (size_t)fs.f_bsize != backings[b].page)) {
		*why = "it has pages of another kind";
	} else if ((fcntl(fd, F_GET_SEALS) & SEALS) != SEALS) {
		*why = "it is not sealed";
	} else if ((flags = fcntl(fd, F_GETFL)) < 0 || (flags & O_ACCMODE) != O_RDWR) {
		*why = "it is not open for reading and writing";
	} else {
		return 0;
	}
	return -EUCLEAN;
}

int shm_reopen_readonly(int *ret, int fd)
{
	char path[64];
	int f;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	f = open(path, O_RDONLY | O_CLOEXEC);
	if (f < 0)
		return -errno;
	*ret = f;
	return 0;
}
