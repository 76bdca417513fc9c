/* SPDX-License-Identifier: MIT */
/*
 * pipeline: three processes that hand each other messages in shared memory.
 *
 *    FILE ──> parse ──ring──> transform ──ring──> write ──> standard output
 *               │                 │                 │
 *            allocates         adopts,           adopts,
 *            messages          changes           prints, frees
 *
 * parse makes a message of each line and notes where its columns are. transform drops what does not
 * match, chooses columns and turns letters into capitals, in place. write prints. A message is an
 * object of a cache that all three share ("pipeline-message"; what is too long for it comes from
 * kmm_kmalloc). Only its handle travels, 8 bytes in a ring of one page (ring.c): the receiver
 * adopts the message, owns it from then on, and frees it or hands it on. No text is copied on its
 * way.
 *
 * The pipeline does what this one does, for any text:
 *
 *    grep -F MATCH FILE | awk -F, -v OFS=, '{ print $3, $1 }' | tr a-z A-Z
 *
 * A slow writer fills its ring, a full ring makes the sender wait, and so on back to the reader, so
 * that a file of any size needs the memory of a few thousand messages. When the daemon is killed
 * they go on with what their threads cache, then wait until it is back. When one of the three is
 * killed the others end with an error, and all that they had is free again.
 *
 * "pipeline run FILE" starts the three; each can be started by itself as well, in any order.
 */
#include <ctype.h>
#include <errno.h>
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

#include "ring.h"

#define CACHE_NAME "pipeline-message"
#define MESSAGE_SIZE 256u /* of the cache's objects */
#define MESSAGE_MAX ((size_t)4 << 20)
#define COLUMNS_MAX 16u
#define STAGES 3

struct span {
	uint32_t begin, end; /* in text */
};

struct message {
	uint32_t columns;
	uint32_t size; /* of text */
	struct span column[COLUMNS_MAX];
	char text[];
};

struct settings {
	const char *address, *name, *match;
	char delimiter;
	uint32_t columns;
	uint32_t column[COLUMNS_MAX]; /* from 1; none chosen: all as they are */
	const char *file;             /* NULL: standard input */
};

static const char *program = "pipeline";

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
	if (error == EPIPE)
		return "the process at the other end has died";
	if (error == EBUSY)
		return "another pipeline of that name is running (see --name)";
	return *kmm_error_text() ? kmm_error_text() : strerror(error);
}

static void must(const char *what, int r)
{
	if (r < 0)
		die("%s: %s", what, reason(-r));
}

/* ---- messages ---- */

static struct kmm_cache *cache_open(struct kmm *k)
{
	struct kmm_cache *c;

	/* Whichever comes first makes it, the others join. */
	do
		c = kmm_cache_create(k, CACHE_NAME, MESSAGE_SIZE, 0, KMM_SLAB_HWCACHE_ALIGN, NULL);
	while (!c && daemon_was_away(errno));
	if (!c)
		die("cannot create the cache %s: %s", CACHE_NAME, reason(errno));
	return c;
}

static struct message *message_new(struct kmm *k, struct kmm_cache *c, const char *text,
                                   size_t size)
{
	struct message *m;

	if (size > MESSAGE_MAX - sizeof(*m))
		die("a line of %zu bytes is too long", size);
	do
		m = sizeof(*m) + size <= MESSAGE_SIZE ?
		            kmm_cache_alloc(c, KMM_GFP_KERNEL) :
		            kmm_kmalloc(k, sizeof(*m) + size, KMM_GFP_KERNEL);
	while (!m && daemon_was_away(errno));
	if (!m)
		die("cannot allocate a message: %s", reason(errno));
	m->columns = 0;
	m->size = (uint32_t)size;
	memcpy(m->text, text, size);
	return m;
}

static void message_free(struct kmm *k, struct message *m)
{
	must("cannot free a message", kmm_kfree(k, m)); /* of whichever cache */
}

static void message_put(struct kmm *k, struct ring_end *to, const struct message *m)
{
	kmm_handle_t handle = kmm_handle(k, m);

	if (!handle)
		die("cannot share a message: %s", reason(errno));
	must("cannot hand a message on", ring_put(to, handle));
}

/* NULL: there are no more. */
static struct message *message_take(struct kmm *k, struct ring_end *from)
{
	struct message *m = NULL;
	kmm_handle_t handle;

	must("cannot take a message", ring_take(from, &handle));
	while (handle && !(m = kmm_adopt(k, handle)))
		if (!daemon_was_away(errno))
			die("cannot adopt a message: %s", reason(errno));
	ring_taken(from); /* only now: until it was adopted it was the sender's */
	return m;
}

/* ---- the stages ---- */

static void ring_name(char name[KMM_NAME_MAX + 1], const struct settings *s, const char *what)
{
	snprintf(name, KMM_NAME_MAX + 1, "%s-%s", s->name, what);
}

static void stage_open(struct ring_end *e, struct kmm *k, const struct settings *s,
                       const char *what, enum ring_role role)
{
	char name[KMM_NAME_MAX + 1];

	ring_name(name, s, what);
	must(name, ring_open(e, k, name, role));
}

static void stage_end(struct ring_end *to)
{
	must("cannot end the ring", ring_put(to, 0));
	must("cannot end the ring", ring_drain(to));
	must("cannot leave the ring", ring_close(to));
}

static void columns_find(struct message *m, char delimiter)
{
	const char *at = m->text, *end = m->text + m->size, *stop;

	for (; m->columns < COLUMNS_MAX; at = stop + 1) {
		stop = memchr(at, delimiter, (size_t)(end - at));
		stop = stop ? stop : end;
		m->column[m->columns++] = (struct span){ (uint32_t)(at - m->text),
			                                 (uint32_t)(stop - m->text) };
		if (stop == end)
			break;
	}
}

static void stage_parse(struct kmm *k, const struct settings *s)
{
	FILE *in = s->file ? fopen(s->file, "re") : stdin;
	unsigned long long lines = 0;
	struct kmm_cache *cache;
	struct ring_end to;
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	if (!in)
		die("%s: %s", s->file, strerror(errno));
	cache = cache_open(k);
	stage_open(&to, k, s, "parsed", RING_PUTTER);
	for (; (n = getline(&line, &room, in)) >= 0; lines++) {
		struct message *m;

		if (n > 0 && line[n - 1] == '\n')
			n--;
		m = message_new(k, cache, line, (size_t)n);
		columns_find(m, s->delimiter);
		message_put(k, &to, m);
	}
	if (ferror(in))
		die("cannot read: %s", strerror(errno));
	stage_end(&to);
	free(line);
	if (in != stdin)
		fclose(in);
	fprintf(stderr, "parse: %llu lines\n", lines);
}

/* The columns that were asked for, in that order; one that the line does not have is empty. */
static void columns_choose(struct message *m, const struct settings *s)
{
	struct span chosen[COLUMNS_MAX];

	if (s->columns == 0) {
		m->columns = 1;
		m->column[0] = (struct span){ 0, m->size };
		return;
	}
	for (uint32_t i = 0; i < s->columns; i++)
		chosen[i] = s->column[i] <= m->columns ? m->column[s->column[i] - 1]
		                                       : (struct span){ 0, 0 };
	memcpy(m->column, chosen, s->columns * sizeof(chosen[0]));
	m->columns = s->columns;
}

static void stage_transform(struct kmm *k, const struct settings *s)
{
	unsigned long long messages = 0, dropped = 0;
	struct ring_end from, to;
	struct message *m;

	cache_open(k);
	stage_open(&from, k, s, "parsed", RING_TAKER);
	stage_open(&to, k, s, "transformed", RING_PUTTER);
	for (; (m = message_take(k, &from)); messages++) {
		if (s->match && !memmem(m->text, m->size, s->match, strlen(s->match))) {
			message_free(k, m); /* it is ours, whoever allocated it */
			dropped++;
			continue;
		}
		columns_choose(m, s);
		for (uint32_t i = 0; i < m->size; i++)
			m->text[i] -= m->text[i] >= 'a' && m->text[i] <= 'z' ? 'a' - 'A' : 0;
		message_put(k, &to, m);
	}
	stage_end(&to);
	must("cannot leave the ring", ring_close(&from));
	fprintf(stderr, "transform: %llu messages, %llu dropped\n", messages, dropped);
}

static void stage_write(struct kmm *k, const struct settings *s)
{
	unsigned long long lines = 0;
	struct ring_end from;
	struct message *m;

	cache_open(k);
	stage_open(&from, k, s, "transformed", RING_TAKER);
	for (; (m = message_take(k, &from)); lines++) {
		for (uint32_t i = 0; i < m->columns; i++) {
			if (i > 0)
				putchar(s->delimiter);
			fwrite(m->text + m->column[i].begin, 1,
			       m->column[i].end - m->column[i].begin, stdout);
		}
		putchar('\n');
		message_free(k, m);
	}
	if (fflush(stdout) == EOF || ferror(stdout))
		die("cannot write: %s", strerror(errno));
	must("cannot leave the ring", ring_close(&from));
	fprintf(stderr, "write: %llu lines\n", lines);
}

/* ---- processes ---- */

static const struct stage {
	const char *name;
	void (*run)(struct kmm *k, const struct settings *s);
} stages[STAGES] = {
	{ "parse", stage_parse },
	{ "transform", stage_transform },
	{ "write", stage_write },
};

static struct kmm *session_open(const struct settings *s, const char *what)
{
	char name[KMM_NAME_MAX + 1];
	struct kmm_options options = { .size = sizeof(options), .address = s->address,
		                       .name = name };
	struct kmm *k;

	snprintf(name, sizeof(name), "pipeline %s", what);
	must("cannot reach the daemon", kmm_open(&k, &options));
	return k;
}

static void stage_run(const struct stage *stage, const struct settings *s)
{
	struct kmm *k = session_open(s, stage->name);

	stage->run(k, s);
	kmm_close(k); /* closes the cache as well */
}

/* A stage that died may have left the name of a ring that nobody else has found yet. */
static void names_remove(const struct settings *s)
{
	static const char *const rings[] = { "parsed", "transformed" };
	struct kmm *k = session_open(s, "cleaner");
	char name[KMM_NAME_MAX + 1];

	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		ring_name(name, s, rings[i]);
		while (daemon_was_away(-kmm_unpublish(k, name)))
			continue;
	}
	kmm_close(k);
}

/* A session belongs to one process: fork first, then let each open its own. */
static int run_all(const struct settings *s)
{
	pid_t pid[STAGES];
	int failed = 0, status;

	for (int i = 0; i < STAGES; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			die("fork: %s", strerror(errno));
		if (pid[i] == 0) {
			stage_run(&stages[i], s);
			exit(0);
		}
	}
	for (pid_t ended; (ended = wait(&status)) > 0;) {
		for (int i = 0; i < STAGES; i++) {
			if (pid[i] == ended)
				pid[i] = 0;
			else if (status && pid[i])
				kill(pid[i], SIGTERM);
		}
		failed |= status;
	}
	if (failed)
		names_remove(s);
	return failed != 0;
}

/* ---- the command line ---- */

static void __attribute__((noreturn)) usage(int status)
{
	fprintf(status ? stderr : stdout,
	        "usage: %s run [OPTION]... [FILE]        all of these at once:\n"
	        "       %s parse [OPTION]... [FILE]      makes a message of each line\n"
	        "       %s transform [OPTION]...         drops, chooses columns, capitals\n"
	        "       %s write [OPTION]...             prints\n"
	        "  --delimiter C      between columns; no letter or digit (default ,)\n"
	        "  --columns N,N,...  which and in what order, from 1 to %u (default: all)\n"
	        "  --match TEXT       only lines with it\n"
	        "  --name NAME        of the pipeline, when there are several (default pipeline)\n"
	        "  --socket PATH      the daemon's socket (default: as kmm_open says)\n",
	        program, program, program, program, COLUMNS_MAX);
	exit(status);
}

static void columns_parse(struct settings *s, const char *list)
{
	char *end;

	for (s->columns = 0;; list = end + 1) {
		unsigned long n = strtoul(list, &end, 10);

		if (end == list || n < 1 || n > COLUMNS_MAX || (*end && *end != ',') ||
		    s->columns == COLUMNS_MAX)
			die("--columns wants numbers from 1 to %u between commas", COLUMNS_MAX);
		s->column[s->columns++] = (uint32_t)n;
		if (!*end)
			return;
	}
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "columns", required_argument, NULL, 'c' },
		{ "delimiter", required_argument, NULL, 'd' },
		{ "match", required_argument, NULL, 'm' },
		{ "name", required_argument, NULL, 'n' },
		{ "socket", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct settings s = { .delimiter = ',' };
	char own_name[32];
	const char *what;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 'c':
			columns_parse(&s, optarg);
			break;
		case 'd':
			if (strlen(optarg) != 1 || isalnum((unsigned char)*optarg))
				die("--delimiter wants one character, no letter or digit");
			s.delimiter = *optarg;
			break;
		case 'm':
			s.match = optarg;
			break;
		case 'n':
			if (!*optarg || strlen(optarg) > 40)
				die("--name wants 1 to 40 bytes");
			s.name = optarg;
			break;
		case 's':
			s.address = optarg;
			break;
		default:
			usage(c == 'h' ? 0 : 2);
		}
	}
	if (argc - optind < 1 || argc - optind > 2)
		usage(2);
	what = argv[optind];
	s.file = argv[optind + 1];
	if (strcmp(what, "run") == 0) {
		snprintf(own_name, sizeof(own_name), "pipeline.%ld", (long)getpid());
		s.name = s.name ? s.name : own_name;
		return run_all(&s);
	}
	s.name = s.name ? s.name : "pipeline";
	for (int i = 0; i < STAGES; i++) {
		if (strcmp(what, stages[i].name) == 0 && (i == 0 || !s.file)) {
			stage_run(&stages[i], &s);
			return 0;
		}
	}
	usage(2);
}
