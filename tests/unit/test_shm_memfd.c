/* SPDX-License-Identifier: MIT */
/*
 * Sealed memfds and mappings, with every backing for real. The tests of huge pages need a few of
 * them reserved (sysctl vm.nr_hugepages) and fail without.
 */
#include "shm/memfd.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "shm/guard.h"
#include "tests/suite.h"
#include "tests/unit/test_child.h"

#define MIB ((size_t)1 << 20)
#define SIZE (8 * MIB)

static int memfd_make(size_t size, enum shm_backing b)
{
	int fd = -1, r = shm_memfd_new(&fd, "test", size, b);

	ck_assert_msg(r == 0, "shm_memfd_new(%s): %s", shm_backing_name(b), strerror(-r));
	return fd;
}

static void huge_pages_demand(uint64_t n)
{
	struct shm_machine m;

	ck_assert_int_eq(shm_machine_read(&m), 0);
	ck_assert_msg(m.huge_2m_free >= m.huge_2m_reserved + n,
	              "%llu huge pages of 2 MiB are needed, %llu are free: sysctl vm.nr_hugepages=512",
	              (unsigned long long)n,
	              (unsigned long long)(m.huge_2m_free - m.huge_2m_reserved));
}

static const enum shm_backing kinds[] = { SHM_HUGETLB_2M, SHM_THP, SHM_4K };

START_TEST(memfds_are_sealed_private_and_checked)
{
	enum shm_backing b = kinds[_i];
	int fd = memfd_make(SIZE, b), plain, flags;
	const char *why = NULL;
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((size_t)st.st_size, SIZE);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	flags = fcntl(fd, F_GETFD);
	ck_assert(flags >= 0 && (flags & FD_CLOEXEC));
	ck_assert_int_eq(ftruncate(fd, (off_t)(SIZE / 2)), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(fd, (off_t)(SIZE * 2)), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(shm_memfd_check(fd, SIZE, b, &why), 0);
	ck_assert_int_eq(shm_memfd_check(fd, SIZE / 2, b, &why), -EUCLEAN);
	ck_assert_str_eq(why, "its size is wrong");
	ck_assert_int_eq(shm_memfd_check(fd, SIZE, b == SHM_4K ? SHM_HUGETLB_2M :
	                                 b == SHM_THP ? SHM_HUGETLB_1G : SHM_4K, &why), -EUCLEAN);
	ck_assert_str_eq(why, "it has pages of another kind");
	close(fd);

	plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_eq(ftruncate(plain, (off_t)SIZE), 0);
	ck_assert_int_eq(shm_memfd_check(plain, SIZE, SHM_4K, &why), -EUCLEAN);
	ck_assert_str_eq(why, "it is not sealed");
	close(plain);
}
END_TEST

START_TEST(impossible_memfds_are_refused)
{
	int fd = 77;

	ck_assert_int_eq(shm_memfd_new(&fd, "test", SIZE, SHM_AUTO), -EINVAL);
	ck_assert_int_eq(shm_memfd_new(&fd, "test", 0, SHM_4K), -EINVAL);
	ck_assert_int_eq(shm_memfd_new(&fd, "test", 4097, SHM_4K), -EINVAL);
	ck_assert_int_eq(shm_memfd_new(&fd, "test", MIB, SHM_HUGETLB_2M), -EINVAL);
	ck_assert_int_eq(fd, 77);
}
END_TEST

START_TEST(hugetlb_sections_are_on_huge_pages)
{
	int fd;
	void *p = NULL;
	uint64_t b4k, b2m, b1g;

	huge_pages_demand(SIZE / (2 * MIB));
	fd = memfd_make(SIZE, SHM_HUGETLB_2M);
	ck_assert_int_eq(shm_map_populate(&p, NULL, fd, SIZE, SHM_HUGETLB_2M), 0);
	ck_assert_int_eq(shm_page_sizes(p, SIZE, &b4k, &b2m, &b1g), 0);
	ck_assert_uint_eq(b2m, SIZE);
	ck_assert_uint_eq(b4k + b1g, 0);
	munmap(p, SIZE);
	close(fd);
}
END_TEST

START_TEST(hugetlb_beyond_what_is_free_is_refused_without_a_signal)
{
	struct shm_machine m;
	void *p = NULL;
	size_t size;
	int fd;

	huge_pages_demand(1);
	ck_assert_int_eq(shm_machine_read(&m), 0);
	size = (m.huge_2m_total + m.huge_2m_overcommit + 1) * 2 * MIB;
	fd = memfd_make(size, SHM_HUGETLB_2M);
	ck_assert_int_eq(shm_map_populate(&p, NULL, fd, size, SHM_HUGETLB_2M), -ENOMEM);
	ck_assert_ptr_null(p);
	close(fd);
}
END_TEST

START_TEST(thp_sections_are_on_huge_pages_where_the_machine_has_them)
{
	struct shm_machine m;
	void *window, *p;
	uint64_t b4k, b2m, b1g;
	int fd = memfd_make(SIZE, SHM_THP);

	ck_assert_int_eq(shm_machine_read(&m), 0);
	ck_assert_int_eq(shm_window_reserve(&window, SIZE, 4 * MIB), 0);
	ck_assert_int_eq(shm_map_populate(&p, window, fd, SIZE, SHM_THP), 0);
	ck_assert_ptr_eq(p, window);
	ck_assert_int_eq(shm_page_sizes(p, SIZE, &b4k, &b2m, &b1g), 0);
	ck_assert_uint_eq(b4k + b2m, SIZE); /* present in any case */
	if (m.shmem_huge)
		ck_assert_uint_ge(b2m, 2 * MIB);
	else
		ck_assert_uint_eq(b2m, 0);
	munmap(window, SIZE);
	close(fd);
}
END_TEST

START_TEST(small_page_sections_are_present_and_small)
{
	int fd = memfd_make(SIZE, SHM_4K);
	void *p;
	uint64_t b4k, b2m, b1g;

	ck_assert_int_eq(shm_map_populate(&p, NULL, fd, SIZE, SHM_4K), 0);
	ck_assert_int_eq(shm_page_sizes(p, SIZE, &b4k, &b2m, &b1g), 0);
	ck_assert_uint_eq(b4k, SIZE);
	ck_assert_uint_eq(b2m + b1g, 0);
	munmap(p, SIZE);
	close(fd);
}
END_TEST

/* madvise(MADV_POPULATE_WRITE) answers EINVAL, as before Linux 5.14. */
static void populate_without_madvise(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 23, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };
	size_t i;

	CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct stat st;
		void *p;
		int fd;

		CHILD_CHECK(shm_memfd_new(&fd, "old", SIZE, kinds[i]) == 0);
		CHILD_CHECK(shm_map_populate(&p, NULL, fd, SIZE, kinds[i]) == 0);
		CHILD_CHECK(fstat(fd, &st) == 0 && (size_t)st.st_blocks * 512 >= SIZE);
	}
}

START_TEST(memory_is_present_also_on_kernels_without_populate)
{
	huge_pages_demand(SIZE / (2 * MIB));
	ck_assert_int_eq(child_status(populate_without_madvise), 0);
}
END_TEST

START_TEST(populating_what_is_not_there_is_an_error_not_a_signal)
{
	int fd = memfd_create("short", MFD_CLOEXEC);
	void *p;

	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	ck_assert_int_eq(shm_map(&p, NULL, fd, 8192, true), 0);
	ck_assert_int_eq(shm_populate(p, fd, 0, 8192, SHM_4K), -ENOMEM);
	munmap(p, 8192);
	close(fd);
}
END_TEST

START_TEST(read_only_descriptors_cannot_be_mapped_writable)
{
	int fd = memfd_make(SIZE, SHM_4K), ro = -1;
	const char *why;
	char *rw;
	void *p;

	ck_assert_int_eq(shm_map(&p, NULL, fd, SIZE, true), 0);
	rw = p;
	rw[5] = 'x';
	ck_assert_int_eq(shm_reopen_readonly(&ro, fd), 0);
	ck_assert_int_eq(shm_map(&p, NULL, ro, SIZE, true), -EACCES);
	ck_assert_int_eq(shm_map(&p, NULL, ro, SIZE, false), 0);
	ck_assert_int_eq(((char *)p)[5], 'x');
	ck_assert_int_eq(mprotect(p, SIZE, PROT_READ | PROT_WRITE), -1);
	ck_assert_int_eq(shm_memfd_check(ro, SIZE, SHM_4K, &why), -EUCLEAN);
	ck_assert_str_eq(why, "it is not open for reading and writing");
	munmap(p, SIZE);
	munmap(rw, SIZE);
	close(ro);
	close(fd);
}
END_TEST

static void *child_address;

static void child_touch(void)
{
	signal(SIGSEGV, SIG_DFL); /* sanitizers would report it at length */
	*(volatile char *)child_address = 1;
}

/* The address may be in use again, by something else. */
static void child_look(void)
{
	char there[64];

	CHILD_CHECK(guard_copy_from(there, child_address, sizeof(there)) == -EFAULT ||
	            memcmp(there, "mine", 4) != 0);
}

START_TEST(children_do_not_inherit_mappings)
{
	int fd = memfd_make(SIZE, SHM_4K);

	ck_assert_int_eq(shm_map(&child_address, NULL, fd, SIZE, true), 0);
	memcpy(child_address, "mine", 4);
	ck_assert_int_eq(child_status(child_look), 0);
	munmap(child_address, SIZE);
	close(fd);
}
END_TEST

START_TEST(windows_are_aligned_and_inaccessible)
{
	size_t align;

	for (align = 4096; align <= 1024 * MIB; align *= 4) {
		void *w;

		ck_assert_int_eq(shm_window_reserve(&w, 16 * MIB, align), 0);
		ck_assert_uint_eq((uintptr_t)w % align, 0);
		child_address = w;
		ck_assert(WIFSIGNALED(child_status(child_touch)) ||
		          WEXITSTATUS(child_status(child_touch)) != 0);
		munmap(w, 16 * MIB);
	}
	ck_assert_int_eq(shm_window_reserve(&child_address, 16 * MIB, 4097), -EINVAL);
	ck_assert_int_eq(shm_window_reserve(&child_address, 0, 4096), -EINVAL);
	ck_assert_int_eq(shm_window_reserve(&child_address, SIZE_MAX - 4095, 4096), -EINVAL);
	ck_assert_int_eq(shm_window_reserve(&child_address, (size_t)1 << 62, 4096), -ENOMEM);
}
END_TEST

START_TEST(parts_of_a_window_can_be_released)
{
	int fd = memfd_make(SIZE, SHM_4K);
	void *w, *p;

	ck_assert_int_eq(shm_window_reserve(&w, 2 * SIZE, SIZE), 0);
	ck_assert_int_eq(shm_map(&p, (char *)w + SIZE, fd, SIZE, true), 0);
	((char *)p)[0] = 7;
	ck_assert_int_eq(shm_window_release(p, SIZE), 0);
	child_address = p;
	ck_assert_int_ne(child_status(child_touch), 0);
	ck_assert_int_eq(shm_map(&p, (char *)w + SIZE, fd, SIZE, true), 0);
	ck_assert_int_eq(((char *)p)[0], 7);
	munmap(w, 2 * SIZE);
	close(fd);
}
END_TEST

START_TEST(the_machine_is_described)
{
	struct shm_machine m;
	unsigned int ids[4] = { 99, 99, 99, 99 };
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "re");
	unsigned long long total;

	ck_assert_int_eq(shm_machine_read(&m), 0);
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%llu", &total), 1);
	fclose(f);
	ck_assert_uint_eq(m.huge_2m_total, total);
	ck_assert_uint_le(m.huge_2m_free, m.huge_2m_total);
	ck_assert_uint_gt(m.memory_available, MIB);
	ck_assert_uint_ge(shm_nodes(ids, 4), 1);
	ck_assert_uint_ne(ids[0], 99);
}
END_TEST

START_TEST(memory_binds_to_a_node_of_the_machine)
{
	int fd = memfd_make(SIZE, SHM_4K);
	unsigned int id;
	void *p;

	shm_nodes(&id, 1);
	ck_assert_int_eq(shm_map(&p, NULL, fd, SIZE, true), 0);
	ck_assert_int_eq(shm_bind_node(p, SIZE, id), 0);
	ck_assert_int_eq(shm_populate(p, fd, 0, SIZE, SHM_4K), 0);
	munmap(p, SIZE);
	close(fd);
}
END_TEST

static void file_write(const char *dir, const char *name, const char *text)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

/* Columns are nodes that are online, of which some may have no memory. */
START_TEST(distances_are_read_by_online_node)
{
	static const uint8_t expect[16] = {
		10, 32, 11, 21, 32, 10, 32, 17, 11, 32, 10, 21, 21, 17, 21, 10,
	};
	static const uint8_t none[4] = { 10, 20, 20, 10 };
	unsigned int ids[4] = { 0, 3, 0, 2 };
	char dir[] = "/tmp/kmm-nodes-XXXXXX", path[64];
	static const uint16_t expect_node[6] = { 1, 0, 1, 1, 0, 0 };
	uint16_t cpu_node[6];
	uint8_t d[16];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (unsigned int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/node%u", dir, i);
		ck_assert_int_eq(mkdir(path, 0700), 0);
	}
	file_write(dir, "online", "0,2-3\n");
	file_write(dir, "node0/distance", "10 21 32\n");
	file_write(dir, "node2/distance", "21 10 17\n");
	file_write(dir, "node3/distance", "32 17 10\n");
	ck_assert(shm_node_distances(dir, ids, 4, d));
	ck_assert_mem_eq(d, expect, sizeof(expect));
	/* nonsense, too short, absent: as if nothing was told */
	file_write(dir, "node2/distance", "21 10\n");
	ids[0] = 2;
	ck_assert(!shm_node_distances(dir, ids, 2, d));
	ck_assert_mem_eq(d, none, sizeof(none));
	file_write(dir, "node2/distance", "21 10 5\n");
	ck_assert(!shm_node_distances(dir, ids, 2, d));
	ck_assert(!shm_node_distances("/nonexistent", ids, 2, d));
	file_write(dir, "node2/cpulist", "1,4-5,700\n");
	file_write(dir, "node3/cpulist", "0,2-3\n");
	shm_cpu_nodes(dir, ids, 2, 6, cpu_node); /* of nodes 2 and 3 */
	ck_assert_mem_eq(cpu_node, expect_node, sizeof(cpu_node));
	ck_assert_mem_eq(d, none, sizeof(none));
	for (unsigned int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/node%u/cpulist", dir, i);
		remove(path);
		snprintf(path, sizeof(path), "%s/node%u/distance", dir, i);
		remove(path);
		*strrchr(path, '/') = 0;
		ck_assert_int_eq(rmdir(path), 0);
	}
	snprintf(path, sizeof(path), "%s/online", dir);
	ck_assert_int_eq(remove(path), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(backings_have_names)
{
	ck_assert_str_eq(shm_backing_name(SHM_AUTO), "auto");
	ck_assert_str_eq(shm_backing_name(SHM_HUGETLB_2M), "hugetlb-2M");
	ck_assert_str_eq(shm_backing_name(SHM_HUGETLB_1G), "hugetlb-1G");
	ck_assert_str_eq(shm_backing_name(SHM_THP), "thp");
	ck_assert_str_eq(shm_backing_name(SHM_4K), "4k");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shm_memfd");
	TCase *t = tcase_create("memfd");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, memfds_are_sealed_private_and_checked, 0, 3);
	tcase_add_test(t, impossible_memfds_are_refused);
	tcase_add_test(t, hugetlb_sections_are_on_huge_pages);
	tcase_add_test(t, hugetlb_beyond_what_is_free_is_refused_without_a_signal);
	tcase_add_test(t, thp_sections_are_on_huge_pages_where_the_machine_has_them);
	tcase_add_test(t, small_page_sections_are_present_and_small);
	tcase_add_test(t, memory_is_present_also_on_kernels_without_populate);
	tcase_add_test(t, populating_what_is_not_there_is_an_error_not_a_signal);
	tcase_add_test(t, read_only_descriptors_cannot_be_mapped_writable);
	tcase_add_test(t, children_do_not_inherit_mappings);
	tcase_add_test(t, windows_are_aligned_and_inaccessible);
	tcase_add_test(t, parts_of_a_window_can_be_released);
	tcase_add_test(t, the_machine_is_described);
	tcase_add_test(t, memory_binds_to_a_node_of_the_machine);
	tcase_add_test(t, distances_are_read_by_online_node);
	tcase_add_test(t, backings_have_names);
	suite_add_tcase(s, t);
	return suite_status(s);
}
