/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of sections that stay open, for mapping pieces of them.
 *
 *     session: by section --> file          those of all sessions: newest .. oldest used
 *
 * The daemon passes one on request, so none has to be kept: those that were used last are, at most a
 * quarter of RLIMIT_NOFILE in all sessions of the process together, so that programs keep the rest. The
 * limit is looked at whenever one is added. Who adds one takes room for it first; for that the file goes
 * that was used longest ago and is not in use. Uses are as short as a system call and never wait for the
 * daemon, so who finds all in use waits a moment.
 *
 * Everything is guarded by process_lock, which fork takes: a child finds the list as it was, whose
 * descriptors are closed (process.c), sees by the process's mark that it is the parent's, and begins
 * with an empty one. Cost: O(1), and O(those in use) where one has to go.
 */
#include "client/internal.h"

#include <stdlib.h>
#include <sys/resource.h>

struct section_file {
	struct process_fd fd;
	struct section_file *newer, *older;
	struct kmm *k;
	uint32_t section;
	uint32_t uses;
};

static struct {
	uint64_t mark; /* of the process that it is the list of */
	uint64_t n;    /* kept, and those that there is room for */
	struct section_file *newest, *oldest;
} files; /* process_lock */

/* ---- the list; process_lock is held ---- */

static void files_lock(void)
{
	uint64_t mark = process_mark();

	pthread_mutex_lock(&process_lock);
	if (unlikely(files.mark != mark)) {
		files.mark = mark;
		files.n = 0;
		files.newest = files.oldest = NULL;
	}
}

static void list_remove(struct section_file *f)
{
	*(f->newer ? &f->newer->older : &files.newest) = f->older;
	*(f->older ? &f->older->newer : &files.oldest) = f->newer;
}

static void list_push(struct section_file *f)
{
	f->newer = NULL;
	f->older = files.newest;
	*(f->older ? &f->older->newer : &files.oldest) = f;
	files.newest = f;
}

/* It is in nobody's reach any more. */
static void file_detach(struct section_file *f)
{
	list_remove(f);
	f->k->section_files[f->section] = NULL;
	files.n--;
}

static struct section_file *file_of(struct kmm *k, uint32_t section)
{
	return k->section_files && section < k->nr_sections ? k->section_files[section] : NULL;
}

/* ---- what section.c does with them ---- */

static uint64_t files_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur < 8)
		return 1;
	return l.rlim_cur / 4;
}

static void file_free(struct section_file *f)
{
	process_fd_close(&f->fd);
	free(f);
}

int section_file_use(struct kmm *k, uint32_t section)
{
	struct section_file *f;
	int fd = -1;

	files_lock();
	f = file_of(k, section);
	if (f) {
		list_remove(f);
		list_push(f);
		f->uses++;
		fd = f->fd.fd;
	}
	pthread_mutex_unlock(&process_lock);
	return fd;
}

void section_fd_put(struct kmm *k, uint32_t section)
{
	files_lock();
	file_of(k, section)->uses--;
	pthread_mutex_unlock(&process_lock);
}

bool section_file_room(void)
{
	uint64_t limit = files_limit();
	struct section_file *f;
	bool room;

	do {
		files_lock();
		for (f = files.n >= limit ? files.oldest : NULL; f && f->uses > 0;)
			f = f->newer;
		if (f)
			file_detach(f);
		room = files.n < limit;
		if (room)
			files.n++;
		pthread_mutex_unlock(&process_lock);
		if (f)
			file_free(f);
	} while (f && !room); /* the limit was lowered: another one goes */
	return room;
}

void section_file_no_room(void)
{
	files_lock();
	files.n--;
	pthread_mutex_unlock(&process_lock);
}

int section_file_add(struct kmm *k, uint32_t section, int fd)
{
	struct section_file *f = calloc(1, sizeof(*f)), **array = k->section_files;

	if (!array)
		array = calloc(k->nr_sections, sizeof(array[0]));
	if (!f || !array) {
		free(f);
		if (array != k->section_files)
			free(array);
		return error_set(ENOMEM, "no memory for the descriptors of sections");
	}
	process_fd_take(&f->fd, fd);
	f->k = k;
	f->section = section;
	f->uses = 1;
	files_lock();
	k->section_files = array;
	array[section] = f;
	list_push(f);
	pthread_mutex_unlock(&process_lock);
	return 0;
}

void section_files_free(struct kmm *k, bool child)
{
	uint32_t s;

	/* A child has no files open, and what list it has is the parent's, of which nothing is used. */
	for (s = 0; child && k->section_files && s < k->nr_sections; s++)
		free(k->section_files[s]);
	for (s = 0; !child && k->section_files && s < k->nr_sections; s++) {
		struct section_file *f;

		files_lock();
		f = file_of(k, s);
		if (f)
			file_detach(f);
		pthread_mutex_unlock(&process_lock);
		if (f)
			file_free(f);
	}
	free(k->section_files);
}
