/* SPDX-License-Identifier: MIT */
/*
 * The log. A line is put together on the stack and leaves by one system call, so that lines of several
 * threads never mix and nothing is locked.
 *
 * Under the journal an entry has these fields:
 *
 *   MESSAGE             the line, without time and level
 *   PRIORITY            as syslog numbers it
 *   SYSLOG_IDENTIFIER   kmmd
 *   KMM_EVENT           the kind of event, in a word     } of events only
 *   MESSAGE_ID          the kind's id                    }
 *   KMM_UID, KMM_PID, KMM_SESSION, KMM_REQUEST           as far as they are known
 *
 * An entry that the journal does not take goes to stderr, with its priority before it. Elsewhere a line
 * begins with the time and the level.
 *
 * Names of sessions and what clients report stand in lines, so a line is searched for what they must
 * not do: begin another line or move the cursor (control characters), turn the reading direction, or be
 * no UTF-8, since journalctl shows such a message as "blob data" only.
 */
#include "daemon/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "daemon/log_rate.h"

#define LOG_LINE_MAX 2048u
#define LOG_FIELDS_MAX 9u
#define LOG_FIELD_MAX 80u
#define LOG_NO_UID ((uid_t)-1)

/* Read by every thread, written by log_init(): relaxed, for a level guards no other data. */
static _Atomic int log_max = LOG_LEVEL_INFO;
static atomic_bool log_journal;

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

void log_set_limits(uint32_t refusals, uint32_t sessions)
{
	log_rate_set(LOG_LIMIT_REFUSALS, refusals);
	log_rate_set(LOG_LIMIT_SESSIONS, sessions);
}

bool log_wanted(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_max, memory_order_relaxed);
}

/* ---- what must not be in a line ---- */

/* A whole UTF-8 sequence at s that may be shown: its bytes; 0: none. */
static size_t sequence_length(const unsigned char *s, size_t n)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 :
	                s[0] < 0xf5 ? 4 : 0;
	uint32_t c;

	if (!length || length > n)
		return 0;
	c = length == 1 ? s[0] : s[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	if (c < 0x20 || (c >= 0x7f && c < 0xa0))
		return 0; /* control characters */
	if (c == 0x200e || c == 0x200f || c == 0x061c || (c >= 0x2028 && c <= 0x202e) ||
	    (c >= 0x2066 && c <= 0x2069))
		return 0; /* line separators, reading direction */
	return length;
}

void log_sanitise(char *text, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t length = sequence_length((const unsigned char *)text + i, n - i);

		if (length) {
			i += length;
			continue;
		}
		/* ours: texts of several lines become one */
		text[i] = text[i] == '\n' || text[i] == '\t' ? ' ' : '?';
		i++;
	}
}

/* ---- writing ---- */

struct line {
	char text[LOG_LINE_MAX];
	size_t n;
};

static void line_vadd(struct line *l, const char *fmt, va_list ap)
{
	/* two bytes are left for the line's end */
	size_t room = sizeof(l->text) - 1 - l->n;
	int r = vsnprintf(l->text + l->n, room, fmt, ap);

	if (r > 0)
		l->n += (size_t)r < room ? (size_t)r : room - 1;
}

static void __attribute__((format(printf, 2, 3))) line_add(struct line *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line_vadd(l, fmt, ap);
	va_end(ap);
}

static void line_write(struct line *l)
{
	l->text[l->n++] = '\n';
	while (write(STDERR_FILENO, l->text, l->n) < 0 && errno == EINTR)
		;
}

static void line_begin(struct line *l, enum log_level level)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	l->n = strftime(l->text, sizeof(l->text), "%F %T", &tm);
	line_add(l, ".%03ld kmmd %s: ", now.tv_nsec / 1000000, log_word[level]);
}

struct entry {
	struct iovec field[LOG_FIELDS_MAX];
	char text[LOG_FIELDS_MAX][LOG_FIELD_MAX];
	int n;
};

static void __attribute__((format(printf, 2, 3))) entry_add(struct entry *e, const char *fmt, ...)
{
	char *text = e->text[e->n];
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vsnprintf(text, LOG_FIELD_MAX, fmt, ap);
	va_end(ap);
	if (r < 0)
		return;
	e->field[e->n].iov_base = text;
	e->field[e->n].iov_len = (size_t)r < LOG_FIELD_MAX ? (size_t)r : LOG_FIELD_MAX - 1;
	e->n++;
}

/* l: "MESSAGE=..." */
static void entry_send(enum log_level level, const struct log_about *a, struct line *l)
{
	static const char head[] = "MESSAGE=";
	const struct log_kind_about *kind = log_kind_about(a->event);
	struct entry e = { .n = 1 };
	struct line plain = { .n = 0 };

	e.field[0] = (struct iovec){ .iov_base = l->text, .iov_len = l->n };
	entry_add(&e, "PRIORITY=%d", log_priority[level]);
	entry_add(&e, "SYSLOG_IDENTIFIER=kmmd");
	if (kind->name) {
		entry_add(&e, "MESSAGE_ID=%s", kind->id);
		entry_add(&e, "KMM_EVENT=%s", kind->name);
	}
	if (a->user)
		entry_add(&e, "KMM_UID=%" PRIu32, (uint32_t)a->uid);
	if (a->pid)
		entry_add(&e, "KMM_PID=%d", (int)a->pid);
	if (a->session)
		entry_add(&e, "KMM_SESSION=%" PRIu32, a->session);
	if (a->request)
		entry_add(&e, "KMM_REQUEST=%s", a->request);
	if (sd_journal_sendv(e.field, e.n) >= 0)
		return;
	line_add(&plain, "<%d>%.*s", log_priority[level], (int)(l->n - strlen(head)),
	         l->text + strlen(head));
	line_write(&plain);
}

static void who_add(struct line *l, const struct log_about *a)
{
	if (a->session) {
		line_add(l, "session %" PRIu32 " (", a->session);
		if (a->name)
			line_add(l, "%s, ", a->name);
		line_add(l, "process %d, user %" PRIu32 "): ", (int)a->pid, (uint32_t)a->uid);
	} else if (a->pid) {
		line_add(l, "process %d, user %" PRIu32 ": ", (int)a->pid, (uint32_t)a->uid);
	} else if (a->user) {
		line_add(l, "user %" PRIu32 ": ", (uint32_t)a->uid);
	}
}

static void __attribute__((format(printf, 4, 0)))
put(enum log_level level, const struct log_about *a, uint32_t left_out, const char *fmt, va_list ap)
{
	bool journal = atomic_load_explicit(&log_journal, memory_order_relaxed);
	int saved = errno;
	struct line l;
	size_t from;

	l.n = 0;
	if (journal)
		line_add(&l, "MESSAGE=");
	else
		line_begin(&l, level);
	from = l.n;
	who_add(&l, a);
	line_vadd(&l, fmt, ap);
	if (left_out)
		line_add(&l, "; %" PRIu32 " such lines were left out before this one", left_out);
	log_sanitise(l.text + from, l.n - from);
	if (journal)
		entry_send(level, a, &l);
	else
		line_write(&l);
	errno = saved;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const struct log_about nobody = { .event = LOG_PLAIN };
	va_list ap;

	if (!log_wanted(level))
		return;
	va_start(ap, fmt);
	put(level, &nobody, 0, fmt, ap);
	va_end(ap);
}

/* ---- events ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

void log_event(enum log_level level, const struct log_about *about, const char *fmt, ...)
{
	uint32_t left_out;
	va_list ap;

	if (!log_wanted(level) ||
	    !log_rate_allow(about->event, about->user ? about->uid : LOG_NO_UID, now_ns(), &left_out))
		return;
	va_start(ap, fmt);
	put(level, about, left_out, fmt, ap);
	va_end(ap);
}

static void __attribute__((format(printf, 2, 3))) say_left(const struct log_about *a,
                                                          const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(LOG_LEVEL_NOTICE, a, 0, fmt, ap);
	va_end(ap);
}

void log_tick(void)
{
	struct log_rate_left left;

	while (log_rate_take_left(now_ns(), &left)) {
		struct log_about a = {
			.event = left.kind,
			.user = left.user && left.uid != LOG_NO_UID,
			.uid = left.uid,
		};

		say_left(&a, "%" PRIu32 " more lines of the kind \"%s\" were left out%s", left.lines,
		         log_kind_about(left.kind)->name, a.user ? "" : ", of several users");
	}
}
