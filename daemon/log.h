/* SPDX-License-Identifier: MIT */
/*
 * The log. Two kinds of lines:
 *
 *   log_notice(...) and the like   said in passing, for who reads the log from top to bottom
 *   log_event(level, about, ...)   something happened to somebody: a kind with a name and a stable id,
 *                                  and about whom. The line begins with who it is ("session 3 (worker,
 *                                  process 12, user 1000): "); what its kind allows for each user and
 *                                  minute is written, the rest is counted (log_rate.h)
 *
 * Under the journal (JOURNAL_STREAM names the very file that stderr is) a line is an entry with fields,
 * which log.c lists; else a line of text on stderr, which never has them. In both, what could begin a
 * line of its own, turn the reading direction or hide a message from journalctl is taken out.
 *
 * Thread-safe, under any lock of ours; one system call a line.
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Each is a row in log_kind.c, with its id, and described in kmmd(8) and the journal's catalog. */
enum log_kind {
	LOG_PLAIN,      /* none: a line in passing */
	LOG_START,      /* the daemon serves a new pool */
	LOG_RESTART,    /* it serves one that it took over: sessions taken over, swept, time */
	LOG_STOP,       /* it stops */
	LOG_RELOAD,     /* the configuration was read again, or a setting was changed by an admin */
	LOG_CONNECTION, /* a connection was refused before it was served */
	LOG_PROTOCOL,   /* a connection was closed: what came makes no sense, or its peer does not read */
	LOG_REFUSAL,    /* a call was refused, for whatever reason but the next two */
	LOG_QUOTA,      /* a call was refused: a limit of the session or user, or of the daemon */
	LOG_FAILURE,    /* memory could not be had: who, order, flags */
	LOG_FINDING,    /* a client did what no client may, or found that another did */
	LOG_OPEN,       /* a session began */
	LOG_DEATH,      /* a session's process ended, without Close */
	LOG_SWEEP,      /* what came back of a session that ended */
	LOG_QUARANTINE, /* a session has no connection any more, its process lives */
	LOG_RETURN,     /* it came back */
	LOG_ADMIN,      /* an admin did something to others: kill, drop caches, fsck ... */
	LOG_DAMAGE,     /* what the pool says makes no sense */
	NR_LOG_KINDS,
};

/* About whom a line is. What is not known stays zero. */
struct log_about {
	enum log_kind event;
	bool user; /* uid is known */
	uid_t uid;
	pid_t pid;
	uint32_t session;
	const char *name;    /* the session's; NULL: not said */
	const char *request; /* "kmm.v1.Allocator/AllocPages" */
};

void log_init(enum log_level max);
/* Lines a minute, of each user and kind: refusals, failures, findings and the like; sessions that
 * begin, die and are swept. 0: no limit. */
void log_set_limits(uint32_t refusals, uint32_t sessions);
/* Once a second: says what was left out and is not followed by a line. */
void log_tick(void);
/* Whether a line of that level would be written. */
bool log_wanted(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_event(enum log_level level, const struct log_about *about, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Takes out in place what must not be in a line: see above. The length stays. */
void log_sanitise(char *text, size_t n);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
