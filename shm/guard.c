/* SPDX-License-Identifier: MIT */
/*
 * The SIGBUS guard. See guard.h.
 *
 * Ranges lie in a fixed table that the handler reads without a lock. A slot is filled size first,
 * start last (release); the handler loads start (acquire), size, and start again, so that a slot
 * that changes hands under it is not taken for either range. Adding and removing is serialised by
 * a mutex that the handler never touches; a range is removed only when nobody accesses it any more.
 *
 * What the handler does is three system calls at most: it maps a page of private zeroes over the
 * faulting one. In a hugetlb mapping only a whole huge page can be replaced, hence the sizes.
 */
#include "shm/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct guard_range {
	_Atomic uintptr_t start; /* 0: the slot is free */
	_Atomic size_t size;
	_Atomic bool spoiled;
};

static struct guard_range ranges[GUARD_RANGES_MAX];
static pthread_mutex_t ranges_lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed; /* guarded by ranges_lock */
static struct sigaction previous; /* written once, before the handler can run */

static struct guard_range *range_of(uintptr_t addr)
{
	size_t i;

	for (i = 0; i < GUARD_RANGES_MAX; i++) {
		struct guard_range *r = &ranges[i];
		/* acquire: pairs with the release store in guard_add() */
		uintptr_t start = atomic_load_explicit(&r->start, memory_order_acquire);
		size_t size = atomic_load_explicit(&r->size, memory_order_acquire);

		if (start == 0 || addr - start >= size)
			continue;
		/* acquire: the slot was not recycled between the two loads above */
		if (atomic_load_explicit(&r->start, memory_order_acquire) == start)
			return r;
	}
	return NULL;
}

static bool page_patch(uintptr_t addr)
{
	static const size_t sizes[] = { 4096, (size_t)2 << 20, (size_t)1 << 30 };
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		void *page = (void *)(addr & ~(uintptr_t)(sizes[i] - 1));

		/* Not mmap(): in a handler nothing of the C library or a sanitizer may be in between. */
		if (syscall(SYS_mmap, page, sizes[i], PROT_READ | PROT_WRITE,
		            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != -1)
			return true;
	}
	return false;
}

/* As if there were no guard: the handler that was there before, or the default action. */
static void signal_chain(int signo, siginfo_t *info, void *context)
{
	struct sigaction deadly = { .sa_handler = SIG_DFL };

	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signo, info, context);
		return;
	}
	if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signo);
		return;
	}
	if (info->si_code <= 0 && previous.sa_handler == SIG_IGN)
		return; /* sent by a process, not a fault */
	sigaction(signo, &deadly, NULL);
	/* A fault comes again when this returns; a signal that was sent has to be sent again. */
	if (info->si_code <= 0)
		raise(signo);
}

static void sigbus_handle(int signo, siginfo_t *info, void *context)
{
	int saved = errno;
	struct guard_range *r = NULL;

	if (info->si_code > 0)
		r = range_of((uintptr_t)info->si_addr);
	if (r && page_patch((uintptr_t)info->si_addr))
		/* release: pairs with the load in guard_spoiled(); the patch is in place */
		atomic_store_explicit(&r->spoiled, true, memory_order_release);
	else
		signal_chain(signo, info, context);
	errno = saved;
}

int guard_install(void)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
	int r = 0;

	sa.sa_sigaction = sigbus_handle;
	sigemptyset(&sa.sa_mask);
	pthread_mutex_lock(&ranges_lock);
	if (!installed) {
		if (sigaction(SIGBUS, NULL, &previous) < 0 || sigaction(SIGBUS, &sa, NULL) < 0)
			r = -errno;
		else
			installed = true;
	}
	pthread_mutex_unlock(&ranges_lock);
	return r;
}

int guard_add(const void *addr, size_t size)
{
	size_t i;
	int r = -ENOSPC;

	if (!addr || size == 0)
		return -EINVAL;
	pthread_mutex_lock(&ranges_lock);
	for (i = 0; i < GUARD_RANGES_MAX && r < 0; i++) {
		struct guard_range *g = &ranges[i];

		/* relaxed: only holders of the lock write it */
		if (atomic_load_explicit(&g->start, memory_order_relaxed) != 0)
			continue;
		atomic_store_explicit(&g->spoiled, false, memory_order_relaxed);
		atomic_store_explicit(&g->size, size, memory_order_relaxed);
		/* release: pairs with the handler's first load of start */
		atomic_store_explicit(&g->start, (uintptr_t)addr, memory_order_release);
		r = 0;
	}
	pthread_mutex_unlock(&ranges_lock);
	return r;
}

static struct guard_range *range_starting(const void *addr)
{
	size_t i;

	for (i = 0; addr && i < GUARD_RANGES_MAX; i++)
		/* acquire: pairs with guard_add() */
		if (atomic_load_explicit(&ranges[i].start, memory_order_acquire) == (uintptr_t)addr)
			return &ranges[i];
	return NULL;
}

void guard_remove(const void *addr)
{
	struct guard_range *r;

	pthread_mutex_lock(&ranges_lock);
	r = range_starting(addr);
	if (r)
		/* release: pairs with the handler's second load of start */
		atomic_store_explicit(&r->start, 0, memory_order_release);
	pthread_mutex_unlock(&ranges_lock);
}

bool guard_spoiled(const void *addr)
{
	struct guard_range *r = range_starting(addr);

	/* acquire: pairs with the store in the handler */
	return r && atomic_load_explicit(&r->spoiled, memory_order_acquire);
}

/* The kernel copies whole iovecs and stops at the first page that is not there. */
static int copy_checked(ssize_t n, size_t size)
{
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EFAULT;
}

int guard_copy_from(void *to, const void *from, size_t size)
{
	struct iovec local = { .iov_base = to, .iov_len = size };
	struct iovec remote = { .iov_base = (void *)from, .iov_len = size };

	return copy_checked(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), size);
}

int guard_copy_to(void *to, const void *from, size_t size)
{
	struct iovec local = { .iov_base = (void *)from, .iov_len = size };
	struct iovec remote = { .iov_base = to, .iov_len = size };

	return copy_checked(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), size);
}
