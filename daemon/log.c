/* SPDX-License-Identifier: MIT */
/*
 * The log. A line is put together on the stack and leaves by one write(2), so that lines of several
 * threads never mix and nothing is locked. Under the journal (JOURNAL_STREAM names the very file
 * that stderr is) a line begins with its priority, else with the time and the level.
 */
#include "daemon/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048

/* Read by every thread, written by log_init(): relaxed, for a level guards no other data. */
static _Atomic int log_max = LOG_LEVEL_INFO;
static atomic_bool log_journal;

/* As syslog numbers them. */
static const int log_priority[] = {
        [LOG_LEVEL_ERROR] = 3, [LOG_LEVEL_WARNING] = 4, [LOG_LEVEL_NOTICE] = 5,
        [LOG_LEVEL_INFO] = 6,  [LOG_LEVEL_DEBUG] = 7,
};
static const char *const log_word[] = {
        [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
        [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

static bool log_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_init(enum log_level max)
{
	atomic_store_explicit(&log_max, (int)max, memory_order_relaxed);
	atomic_store_explicit(&log_journal, log_is_journal(), memory_order_relaxed);
}

static size_t log_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	if (atomic_load_explicit(&log_journal, memory_order_relaxed))
		return (size_t)snprintf(line, size, "<%d>", log_priority[level]);
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	n = strftime(line, size, "%F %T", &tm);
	return n + (size_t)snprintf(line + n, size - n, ".%03ld kmmd %s: ", now.tv_nsec / 1000000,
	                            log_word[level]);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	char line[LOG_LINE_MAX];
	size_t n, end;
	va_list ap;
	int r;

	if ((int)level > atomic_load_explicit(&log_max, memory_order_relaxed))
		return;
	n = log_prefix(line, sizeof(line), level);
	va_start(ap, fmt);
	r = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (r > 0) {
		end = n + (size_t)r;
		if (end > sizeof(line) - 2)
			end = sizeof(line) - 2;
		/* What a client may have a hand in must not begin a line of its own. */
		for (size_t i = n; i < end; i++)
			if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
				line[i] = ' ';
		n = end;
	}
	line[n++] = '\n';
	while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
		;
	errno = saved;
}
