/* SPDX-License-Identifier: MIT */
/*
 * wordcount: count the words of a file with several processes and no copies.
 *
 *      file ──read(2)──> page blocks ──8-byte handles──> N workers ──word counts──> sum
 *
 * The main process reads the file straight into blocks of the pool and writes one small message a
 * block into a pipe: the block's handle, how many bytes of it count, and whether the text before it
 * ended inside a word. Whichever worker is free takes the next message, adopts the block (it is
 * the owner from then on), counts where the bytes lie and frees the block. No text ever travels
 * through a pipe or through the daemon.
 *
 * The file may be larger than the pool: kmm_alloc_pages() with KMM_GFP_KERNEL waits until a worker
 * frees a block. Should a process be killed half-way, the daemon takes back what it held.
 *
 * A word is what `LC_ALL=C wc -w` of coreutils counts: a run of bytes between white space that has
 * at least one printable byte in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <kmm/kmm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK_ORDER 9u /* 2 MiB: one huge page */
#define WORKERS_MAX 64

/* From the reader to whichever worker takes it. Below PIPE_BUF, so it arrives in one piece. */
struct job {
	kmm_handle_t handle;
	uint32_t bytes;
	uint32_t in_word; /* the block begins inside a word that was counted before */
};

/* From a worker at its end. */
struct result {
	uint64_t words, bytes, blocks;
};

struct pipes {
	int job[2];    /* reader to workers; at its end the workers report */
	int result[2]; /* workers to reader */
	int hold[2];   /* --hold: the workers free their blocks when this one ends */
};

static const char *program = "wordcount";

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", program);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* What the last failed kmm_ call had to say. */
static const char *reason(int error)
{
	return *kmm_error_text() ? kmm_error_text() : strerror(error);
}

static struct kmm *session_open(const char *address, const char *name)
{
	struct kmm_options options = { .size = sizeof(options), .address = address, .name = name };
	struct kmm *k;
	int r = kmm_open(&k, &options);

	if (r < 0)
		die("cannot reach the daemon: %s", reason(-r));
	return k;
}

/* ---- words ---- */

static bool is_space(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_printable(unsigned char c)
{
	return c > ' ' && c < 0x7f;
}

/* Words that begin in the text; a word counts at its first printable byte. */
static uint64_t words_count(const unsigned char *text, size_t bytes, bool in_word)
{
	uint64_t words = 0;

	for (size_t i = 0; i < bytes; i++) {
		if (is_space(text[i])) {
			in_word = false;
		} else if (!in_word && is_printable(text[i])) {
			in_word = true;
			words++;
		}
	}
	return words;
}

/* Whether the text ends inside a word that was counted: looks back to the last white space. */
static bool words_end_inside(const unsigned char *text, size_t bytes, bool in_word)
{
	while (bytes > 0 && !is_space(text[bytes - 1]))
		if (is_printable(text[--bytes]))
			return true;
	return bytes == 0 && in_word;
}

/* ---- a worker process ---- */

static void block_free(struct kmm *k, void *block)
{
	/* The order is the giver's choice; the page knows it. */
	int order = kmm_page_order(k, kmm_virt_to_page(k, block));
	int r = order < 0 ? order : kmm_free_page_addr(k, block, (unsigned int)order);

	if (r < 0)
		die("cannot free a block: %s", reason(-r));
}

static void worker_run(const char *address, const struct pipes *p, bool hold)
{
	struct kmm *k = session_open(address, "wordcount worker");
	struct result sum = { 0, 0, 0 };
	void **held = NULL;
	struct job job;

	while (read(p->job[0], &job, sizeof(job)) == (ssize_t)sizeof(job)) {
		void *block = kmm_adopt(k, job.handle); /* ours now: the reader may forget it */

		if (!block)
			die("cannot adopt a block: %s", reason(errno));
		sum.words += words_count(block, job.bytes, job.in_word);
		sum.bytes += job.bytes;
		if (hold) {
			held = realloc(held, (sum.blocks + 1) * sizeof(*held));
			if (!held)
				die("out of memory");
			held[sum.blocks] = block;
		} else {
			block_free(k, block);
		}
		sum.blocks++;
	}
	if (write(p->result[1], &sum, sizeof(sum)) != (ssize_t)sizeof(sum))
		die("cannot report: %s", strerror(errno));
	if (hold) {
		char c;

		while (read(p->hold[0], &c, 1) < 0 && errno == EINTR)
			continue;
		for (uint64_t i = 0; i < sum.blocks; i++)
			block_free(k, held[i]);
		free(held);
	}
	kmm_close(k);
}

/* ---- the reader ---- */

/* Reads until the block is full or the file ends. */
static size_t read_full(int fd, unsigned char *to, size_t size)
{
	size_t n = 0;

	while (n < size) {
		ssize_t r = read(fd, to + n, size - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			die("cannot read: %s", strerror(errno));
		if (r == 0)
			break;
		n += (size_t)r;
	}
	return n;
}

/* The smallest order that holds that many bytes. */
static unsigned int order_for(size_t bytes)
{
	unsigned int order = 0;

	while ((KMM_PAGE_SIZE << order) < bytes)
		order++;
	return order;
}

/* A file that knows its size gets a last block no larger than it needs. */
static size_t bytes_left(int fd)
{
	off_t at = lseek(fd, 0, SEEK_CUR), end = lseek(fd, 0, SEEK_END);

	if (at < 0 || end < 0 || lseek(fd, at, SEEK_SET) < 0)
		return SIZE_MAX; /* a pipe */
	return end > at ? (size_t)(end - at) : 0;
}

static void file_hand_out(struct kmm *k, int fd, int jobs)
{
	size_t left = bytes_left(fd);
	bool in_word = false;

	for (;;) {
		unsigned int order =
			left < (KMM_PAGE_SIZE << BLOCK_ORDER) ? order_for(left) : BLOCK_ORDER;
		struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL, order);
		struct job job;

		if (!page)
			die("cannot allocate a block of order %u: %s", order, reason(errno));

		unsigned char *text = kmm_page_address(k, page);
		size_t bytes = text ? read_full(fd, text, KMM_PAGE_SIZE << order) : 0;

		if (bytes == 0) {
			kmm_free_pages(k, page, order);
			return;
		}
		job.handle = kmm_handle(k, text);
		job.bytes = (uint32_t)bytes;
		job.in_word = in_word;
		if (!job.handle)
			die("cannot share a block: %s", reason(errno));
		/* Look before it is handed on: afterwards the block is somebody else's. */
		in_word = words_end_inside(text, bytes, in_word);
		if (write(jobs, &job, sizeof(job)) != (ssize_t)sizeof(job))
			die("the workers are gone");
		if (left != SIZE_MAX)
			left -= bytes < left ? bytes : left;
	}
}

/* ---- options and processes ---- */

static void __attribute__((noreturn)) usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: %s [--workers N] [--socket PATH] [--hold] [FILE]\n"
		"Counts the words of FILE (or of standard input) in pages of a kmmd pool.\n"
		"  --workers N    processes that count, 1 to %d (default 4)\n"
		"  --socket PATH  the daemon's socket (default: as kmm_open says)\n"
		"  --hold         keep all blocks until standard input ends\n",
		program, WORKERS_MAX);
	exit(status);
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "workers", required_argument, NULL, 'w' },
		{ "socket", required_argument, NULL, 's' },
		{ "hold", no_argument, NULL, 'h' },
		{ "help", no_argument, NULL, '?' + 128 },
		{ NULL, 0, NULL, 0 },
	};
	struct result sum = { 0, 0, 0 }, one;
	const char *address = NULL;
	long workers = 4;
	bool hold = false, failed = false;
	struct pipes p;
	char *end;

	for (int c; (c = getopt_long(argc, argv, "w:s:", options, NULL)) != -1;) {
		switch (c) {
		case 'w':
			workers = strtol(optarg, &end, 10);
			if (*end || workers < 1 || workers > WORKERS_MAX)
				die("--workers %s: a number from 1 to %d is wanted", optarg,
				    WORKERS_MAX);
			break;
		case 's':
			address = optarg;
			break;
		case 'h':
			hold = true;
			break;
		default:
			usage(c == '?' ? 2 : 0);
		}
	}
	if (argc - optind > 1 || (hold && argc == optind))
		usage(2);

	const char *name = argc > optind ? argv[optind] : "-";
	int fd = argc > optind ? open(name, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;

	if (fd < 0)
		die("%s: %s", name, strerror(errno));
	signal(SIGPIPE, SIG_IGN); /* workers that die show as a failed write */
	if (pipe(p.job) || pipe(p.result) || pipe(p.hold))
		die("pipe: %s", strerror(errno));

	/* A session belongs to one process: fork first, then let each open its own. */
	for (long i = 0; i < workers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork: %s", strerror(errno));
		if (pid == 0) {
			close(p.job[1]);
			close(p.hold[1]);
			worker_run(address, &p, hold);
			exit(0);
		}
	}
	close(p.job[0]);
	close(p.result[1]);
	close(p.hold[0]);

	struct kmm *k = session_open(address, "wordcount reader");

	file_hand_out(k, fd, p.job[1]);
	close(p.job[1]); /* no more blocks: the workers report */
	for (long i = 0; i < workers; i++) {
		if (read(p.result[0], &one, sizeof(one)) != (ssize_t)sizeof(one))
			die("a worker failed");
		sum.words += one.words;
		sum.bytes += one.bytes;
		sum.blocks += one.blocks;
	}
	printf("%llu %s\n", (unsigned long long)sum.words, name); /* as wc -w prints it */
	fflush(stdout);
	fprintf(stderr, "%llu bytes in %llu blocks, counted by %ld processes\n",
		(unsigned long long)sum.bytes, (unsigned long long)sum.blocks, workers);
	if (hold) {
		char c;

		while (read(STDIN_FILENO, &c, 1) > 0)
			continue;
	}
	close(p.hold[1]);
	for (int status; wait(&status) > 0;)
		failed |= status != 0;
	kmm_close(k);
	return failed;
}
