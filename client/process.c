/* SPDX-License-Identifier: MIT */
/*
 * What the process has once: the library's descriptors, the mark that tells a forked child from its
 * parent, and what happens at fork.
 *
 * A child must not use its parent's sessions: it does not have the parent's memory (MADV_DONTFORK),
 * and its own death must not be its parent's. Three things see to that:
 *
 *  - The mark, one word in a page that reads as zero in a child (MADV_WIPEONFORK) and gets a new
 *    value there. A session remembers the mark of the process that opened it.
 *  - Thread caches lie in such memory too (thread.c), so the fast paths see an empty cache.
 *  - The library's descriptors are on a list and are closed in the child: otherwise the daemon
 *    would take a dead parent for living as long as the child lives.
 *
 * The process lock guards the lists and is held for a few instructions at a time. fork takes it, so
 * that the child finds the lists whole; no other lock of the library is needed in a child, because
 * no session is used there.
 */
#include "client/internal.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static bool initialised;                  /* init_lock */
static _Atomic(_Atomic uint64_t *) mark;  /* one page; NULL until the first kmm_open */
static uint64_t mark_last = 0;            /* process_lock, and the child */
static struct process_fd *fds;            /* process_lock */

static void fork_prepare(void)
{
	pthread_mutex_lock(&process_lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&process_lock);
}

/* A child's clean start; process_lock is held, or of no meaning yet. */
static void child_reset(void)
{
	_Atomic uint64_t *m = atomic_load_explicit(&mark, memory_order_relaxed);
	struct process_fd *p;

	for (p = fds; p; p = p->next) {
		close(p->fd);
		p->fd = -1;
	}
	fds = NULL;
	thread_forget_in_child();
	if (m)
		atomic_store_explicit(m, ++mark_last, memory_order_relaxed);
}

static void fork_child(void)
{
	child_reset();
	pthread_mutex_unlock(&process_lock);
}

static int process_init_once(void)
{
	void *p;
	int r;

	p = mmap(NULL, KMM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return error_set(errno, "no memory for the library's state");
	if (madvise(p, KMM_PAGE_SIZE, MADV_WIPEONFORK) < 0) {
		r = error_set(ENOSYS, "the kernel lacks MADV_WIPEONFORK (Linux 4.14 or newer is "
		                      "needed)");
		munmap(p, KMM_PAGE_SIZE);
		return r;
	}
	r = thread_init();
	if (r == 0)
		r = -pthread_atfork(fork_prepare, fork_parent, fork_child);
	if (r < 0) {
		munmap(p, KMM_PAGE_SIZE);
		return error_set(-r, "no memory for the library's state");
	}
	*(uint64_t *)p = ++mark_last;
	/* release: pairs with the acquire in process_mark */
	atomic_store_explicit(&mark, (_Atomic uint64_t *)p, memory_order_release);
	return 0;
}

int process_init(void)
{
	int r = 0;

	/* A child that came into being without the handlers (clone) has an unset mark. */
	if (atomic_load_explicit(&mark, memory_order_acquire) && process_mark() == 0) {
		pthread_mutex_init(&init_lock, NULL);
		pthread_mutex_init(&process_lock, NULL);
		child_reset();
	}
	pthread_mutex_lock(&init_lock);
	if (!initialised)
		r = process_init_once();
	initialised = initialised || r == 0;
	pthread_mutex_unlock(&init_lock);
	return r;
}

uint64_t process_mark(void)
{
	_Atomic uint64_t *m = atomic_load_explicit(&mark, memory_order_acquire);

	/* relaxed: changes only in a child, by the thread that made it */
	return m ? atomic_load_explicit(m, memory_order_relaxed) : 0;
}

/* The lock is held. */
static void fd_enlist(struct process_fd *p)
{
	p->next = fds;
	p->prev = &fds;
	if (fds)
		fds->prev = &p->next;
	fds = p;
}

int process_fd_open(struct process_fd *p, enum process_fd_kind kind)
{
	int r = 0;

	pthread_mutex_lock(&process_lock);
	p->fd = kind == PROCESS_SOCKET ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
	                               : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->fd < 0)
		r = -errno;
	else
		fd_enlist(p);
	pthread_mutex_unlock(&process_lock);
	return r < 0 ? error_set(-r, "the process can open no further descriptor") : 0;
}

void process_fd_take(struct process_fd *p, int fd)
{
	pthread_mutex_lock(&process_lock);
	p->fd = fd;
	fd_enlist(p);
	pthread_mutex_unlock(&process_lock);
}

int process_fd_get(struct process_fd *p)
{
	int fd;

	pthread_mutex_lock(&process_lock);
	fd = p->fd;
	pthread_mutex_unlock(&process_lock);
	return fd;
}

void process_fd_close(struct process_fd *p)
{
	pthread_mutex_lock(&process_lock);
	if (p->fd >= 0) {
		close(p->fd);
		p->fd = -1;
		*p->prev = p->next;
		if (p->next)
			p->next->prev = p->prev;
	}
	pthread_mutex_unlock(&process_lock);
}
