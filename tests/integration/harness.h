/* SPDX-License-Identifier: MIT */
/*
 * What the integration tests share: a real daemon of one's own, kmmctl, and client processes that
 * do as they are told.
 *
 *      test process ── kmm_* ──────────────┐
 *           │ commands over a socketpair   ├──> kmmd (own directory, own socket)
 *      peer process ── kmm_* ──────────────┘
 *
 * A peer (peer.c) is a process with a session of its own. The test calls peer_do(), which runs one
 * kmm_ function over there and hands back its result, so a test between two processes reads from
 * top to bottom like one within one process. Blocks are named by pfn or by handle.
 *
 * Everything here ends the process with a message when the surroundings fail (no daemon, no fork);
 * what a test wants to know it asserts itself.
 *
 * The programs are found through the environment: KMMD, KMMCTL and KMM_BUILDDIR, by default ./kmmd,
 * ./kmmctl and the working directory. KMM_SERVICE: KMMD stands for the installed service, whose control
 * group this is (tests/system/installed.py).
 */
#ifndef TESTS_INTEGRATION_HARNESS_H
#define TESTS_INTEGRATION_HARNESS_H

#include <kmm/kmm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Ends the process, wherever it runs (libcheck's assertions belong to the test process alone). */
#define must(condition) ((condition) ? (void)0 : must_fail(__FILE__, __LINE__, #condition))
void must_fail(const char *file, int line, const char *condition) __attribute__((noreturn));

/* Until the condition holds; ends the process when it does not within a minute. For states of
 * other processes that send no event. */
#define wait_until(condition)                                           \
	do {                                                            \
		struct wait w_ = { 0 };                                 \
		while (!(condition))                                    \
			wait_step(&w_, __FILE__, __LINE__, #condition); \
	} while (0)
struct wait {
	uint64_t deadline_ns;
};
void wait_step(struct wait *w, const char *file, int line, const char *condition);

/* ---- the daemon ---- */

struct daemon {
	pid_t pid; /* of the process started: the supervisor with --supervise; 0: not running */
	bool supervised;
	char dir[64];
	char socket[96];
	char config[96]; /* a place for a configuration file */
};

/* A private directory; the rest is done by daemon_launch(). */
void daemon_prepare(struct daemon *d);
/* Writes d->config. */
void daemon_configure(const struct daemon *d, const char *text);
/* kmmd --socket d->socket ARGS…, NULL at the end; returns when it serves. */
void daemon_launch(struct daemon *d, const char *const args[]);
/* prepare and launch: 64 MiB of 4 KiB pages, two reactors, and what else is given. */
void daemon_start(struct daemon *d, const char *const args[]);
/* The same with a configuration file of that text. */
void daemon_start_configured(struct daemon *d, const char *text, const char *const args[]);
/* As daemon_start(), under --supervise. */
void daemon_start_supervised(struct daemon *d, const char *const args[]);
void daemon_wait_serving(const struct daemon *d);
/* SIGTERM; its exit status, -signal when it was killed. Removes the directory. */
int daemon_stop(struct daemon *d);
/* Reaps it without asking it to end: its exit status. */
int daemon_wait_exit(struct daemon *d);
/* The process that serves: the supervisor's child. 0: none at the moment. */
pid_t daemon_serving_pid(const struct daemon *d);
/* SIGKILL to the process that serves; returns its pid once it is gone. */
pid_t daemon_kill(const struct daemon *d);
/* It is the installed service, under its own user, that stands in for a daemon of one's own. */
bool daemon_is_service(void);
/* Lines with that text in the file that its standard error goes to. */
unsigned daemon_said(const struct daemon *d, const char *path, const char *text);
/* Nobody starts the next one until it is resumed. */
void daemon_hold(const struct daemon *d);
void daemon_resume(const struct daemon *d);
unsigned daemon_count_fds(const struct daemon *d);

/* ---- looking inside ---- */

/* kmmctl --socket … ARGS: its exit status; *out is what it printed (to be freed), unless NULL. */
int daemon_ctl(const struct daemon *d, char **out, const char *const args[]);
/* Free frames in all zones by buddyinfo, after drop-caches. */
uint64_t daemon_free_pages(const struct daemon *d);
/* buddyinfo reduced to "zone NAME: FRAMES" lines, after drop-caches; to be freed. */
char *daemon_zone_frames(const struct daemon *d);
/* A line of vmstat. */
uint64_t daemon_counter(const struct daemon *d, const char *name);
/* Migrate types mixed, and a zone keeps back more than else for some seconds: what was all there is may
 * not be all in the end. */
bool daemon_is_boosted(const struct daemon *d);
/* fsck has no finding; says what it found otherwise. */
bool daemon_is_clean(const struct daemon *d);
bool daemon_has_session(const struct daemon *d, kmm_session_id_t id);
unsigned daemon_count_sessions(const struct daemon *d);
/* A number from `kmmctl --json session ID`. */
long daemon_session_number(const struct daemon *d, kmm_session_id_t id, const char *key);

/* ---- this process's session ---- */

struct kmm *session_start(const struct daemon *d);

/* Writes a pattern that depends on the seed over a block; tells whether it is still there. */
void block_fill(void *block, unsigned order, uint64_t seed);
bool block_check(const void *block, unsigned order, uint64_t seed);

/* ---- peers ---- */

enum peer_op {
	PEER_ID,         /*                       session id */
	PEER_ALLOC,      /* gfp, order            pfn */
	PEER_FREE,       /* pfn, order            r */
	PEER_HANDLE,     /* pfn                   handle */
	PEER_POINTER,    /* handle                pfn */
	PEER_ADOPT,      /* handle                pfn */
	PEER_SEND,       /* pfn, session          r */
	PEER_GET,        /* pfn                   r */
	PEER_GET_HANDLE, /* handle                pfn */
	PEER_PUT,        /* pfn                   r */
	PEER_COUNT,      /* pfn                   r */
	PEER_ORDER,      /* pfn                   r */
	PEER_FILL,       /* pfn, order, seed      0 */
	PEER_CHECK,      /* pfn, order, seed      1 or 0 */
	PEER_EXHAUST,    /* gfp, order            blocks had until the first failure */
	PEER_CACHE,      /* order, blocks         allocated, then freed: its thread caches them */
	PEER_RELEASE,    /* blocks                frees that many of what EXHAUST had */
	PEER_FLUSH,      /*                       r */
	PEER_CANCEL,     /*                       r */
	PEER_KMAP,       /* pfn                   0 or -errno */
	PEER_KUNMAP,     /* pfn                   r */
	PEER_TIMEOUT,    /* ms                    r */
	PEER_CLOSE,      /*                       r; the session ends, the process waits */
	PEER_EXIT,       /* by peer_exit() alone */
	PEER_OBJECTS = 64, /* from here on: objects.h */
};

#define PEER_FD 3

struct peer_command {
	uint64_t op, a, b, c;
	char text[88]; /* with NUL; names of caches and things */
};

struct peer {
	pid_t pid;
	int fd;
	kmm_session_id_t session;
};

void peer_start(struct peer *p, const struct daemon *d);
/* What the function returned; a pointer or handle function that failed: -errno. */
int64_t peer_do(struct peer *p, unsigned op, uint64_t a, uint64_t b, uint64_t c);
int64_t peer_do_text(struct peer *p, unsigned op, const char *text, uint64_t a, uint64_t b,
		     uint64_t c);
/* The two halves of peer_do, for calls that wait. */
void peer_begin(struct peer *p, unsigned op, uint64_t a, uint64_t b, uint64_t c);
int64_t peer_end(struct peer *p);
bool peer_has_answered(struct peer *p);
void peer_kill(struct peer *p); /* SIGKILL; reaped on return */
void peer_stop(struct peer *p); /* kmm_close and exit */
void peer_exit(struct peer *p); /* exit without kmm_close; reaped on return */

/* ---- main of a libcheck program ---- */

struct Suite;
/* Runs it; the last line says "N passed, N failed". */
int suite_run(struct Suite *s);

#endif
