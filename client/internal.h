/* SPDX-License-Identifier: MIT */
/*
 * libkmm inside.
 *
 *   pages.c bulk.c info.c share.c     the public functions for blocks; for objects see object.h
 *   magazine.c seize.c                what threads cache; taking it from idle ones
 *   exchange.c rounds.c rack.c hold.c how magazines change hands; local holds
 *   percpu*.c                         per-CPU memory, see percpu.h
 *   section.c section_file.c          the window; descriptors of sections
 *   highmem.c kmap.c                  high memory, mapped page by page: see highmem.h
 *   blocks.c area.c                   blocks of several orders; the table of areas
 *   vmalloc*.c kvmalloc.c stack.c     what is mapped piece by piece: see vmalloc.h
 *   call.c channel.c connect.c        one call; a connection and who reads it; connecting
 *   session.c keeper.c event.c        a session's life, its own thread, its events
 *   shrinker.c mempool.c kernel.c     what pressure calls; reserves; the process's default session
 *   thread.c process.c error.c wait.c what a thread has; fork and descriptors; texts; futexes
 *
 * Locks, in the order in which they may be taken; none but section_lock (for GetSections, and so
 * never waited for by the keeper: call_wait_thread) is held while the daemon is waited for:
 *
 *   seize_lock > section_lock > slot.lock > channel.lock >
 *           magazine_lock, hold_lock, event_lock, cache_lock, shrinker_lock, vmaps.lock >
 *           percpu_lock > process_lock
 *
 * A mempool's lock ranks before all of these.
 *
 * The process lock and percpu_lock are the only ones that fork takes; they are held for a few
 * instructions at a time.
 *
 * Who may touch a session. Functions that may call the daemon count themselves in (session_enter)
 * and kmm_close waits for them after waking them. Fast paths are not counted: they touch their own
 * thread's cache and the session's mappings only, and the contract of kmm_close excludes them.
 */
#ifndef CLIENT_INTERNAL_H
#define CLIENT_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KMM_NO_INLINE /* of the exported functions; the paths themselves are used below */
#include <kmm/kmm.h>

#include <kmm/inline.h>

#include "proto/frame.h"
#include "proto/kmm.pb.h"
#include "shm/control.h"
#include "shm/fdpass.h"

#pragma GCC visibility push(hidden)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define FRAME_SHIFT KMM_PAGE_SHIFT
#define DEADLINE_NONE UINT64_MAX
#define ERROR_TEXT_MAX 512u

/* ---- error.c ---- */

/* Sets the thread's text and returns -err. */
int error_set(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void error_text_copy(char out[ERROR_TEXT_MAX]);
void error_text_put(const char *text);
/* For failures that the caller gets over: what the text was is again when the scope ends. */
#define ERROR_TEXT_SCOPE                                                                           \
	char error_text_saved[ERROR_TEXT_MAX] __attribute__((cleanup(error_text_restore)));        \
	error_text_copy(error_text_saved)
static inline void error_text_restore(char (*saved)[ERROR_TEXT_MAX])
{
	error_text_put(*saved);
}

/* Public functions that return int leave errno as it was. */
static inline void errno_restore(const int *saved)
{
	errno = *saved;
}
#define ERRNO_SCOPE int errno_saved __attribute__((cleanup(errno_restore), unused)) = errno

/* For functions that return a pointer. */
static inline void *errno_null(int r)
{
	errno = -r;
	return NULL;
}

/* ---- process.c: what the process has once; fork ---- */

/* A descriptor of the library: closed in forked children. */
struct process_fd {
	struct process_fd *next, **prev;
	int fd; /* -1: none */
};
enum process_fd_kind { PROCESS_SOCKET, PROCESS_EVENTFD };

extern pthread_mutex_t process_lock;
int process_init(void); /* repeatable */
/* Changes with each fork; 0 in a child that was not noticed yet. */
uint64_t process_mark(void);
int process_fd_open(struct process_fd *p, enum process_fd_kind kind);
/* Puts a descriptor that came from the daemon on the list. */
void process_fd_take(struct process_fd *p, int fd);
/* The descriptor, -1: none. Any thread. */
int process_fd_get(struct process_fd *p);
void process_fd_close(struct process_fd *p);

/* ---- wait.c ---- */

uint64_t process_now(void);        /* CLOCK_MONOTONIC, ns */
uint64_t process_now_coarse(void); /* the same, a few ms behind, cheaper */
/* UINT32_MAX: no limit. */
static inline uint64_t deadline_in_ms(uint32_t ms)
{
	return ms == UINT32_MAX ? DEADLINE_NONE : process_now() + ms * UINT64_C(1000000);
}

/* Waits while *word == value, until the deadline or a wake-up. Spurious returns are allowed. */
void futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline);
void futex_wake_all(_Atomic uint32_t *word);
void futex_wake_one(_Atomic uint32_t *word);

#include "client/local.h"

/* ---- call.c, channel.c, connect.c ---- */

#define CALL_REPLY_MAX 2592u
#define CALL_REQUEST_MAX 512u
_Static_assert(kmm_v1_ReportRequest_size <= CALL_REQUEST_MAX, "the largest request");

/* One unanswered call on a connection. The caller's; guarded by the channel's lock while queued. */
struct call {
	struct call *next;
	uint32_t id;
	bool cancellable;
	bool done; /* answered, or the connection is lost */
	int error; /* negative errno when lost */
	uint16_t status;
	uint16_t nfds;
	uint32_t reply_size;
	_Atomic uint32_t wake; /* futex of the waiting thread */
	uint64_t deadline;
	int fd[FRAME_FDS_MAX];
	uint8_t reply[CALL_REPLY_MAX];
};

struct channel; /* a connection: channel.c */

/* Connects and says hello for a further connection of k. */
int channel_open(struct channel **ret, struct kmm *k, uint32_t cpu, uint64_t deadline);
struct channel *channel_get(struct channel *c);
void channel_put(struct channel *c);
bool channel_broken(struct channel *c);
/* Queues and sends; `frame` holds a request with room for its header. Negative: nothing was queued,
 * the channel is broken. */
int channel_submit(struct channel *c, struct call *call, uint8_t *frame, size_t body_size,
                   uint16_t method, uint64_t timeout_us);
/* Sends a request that is not answered. What was sent may be lost when the channel breaks: the
 * keeper then has the daemon look at the words (session_untold). -ENOBUFS: the daemon does not read,
 * nothing was sent. Else negative: it is broken. */
int channel_notify(struct channel *c, uint8_t *frame, size_t body_size, uint16_t method);
/* Until the call is done: its error. -ETIMEDOUT: well past its deadline no answer came; the channel
 * is broken then. */
int channel_wait(struct channel *c, struct call *call);
/* Everybody's calls are lost. */
void channel_break(struct channel *c, int error);
/* Asks the daemon to end calls that may be cancelled: that one, or all (NULL). */
void channel_cancel(struct channel *c, struct call *only);
void call_close_fds(struct call *call);

/* A connection to a socket; reads and writes return EAGAIN after a tenth of a second. */
int connect_socket(struct process_fd *p, const char *address, uint64_t deadline);
/* Hello on a fresh connection. fds, for the control connection, else NULL: control memory's two, and the
 * pool's lifeline or -1. On refusal the text is set. */
int connect_hello(struct kmm *k, int fd, bool control, uint32_t cpu, uint64_t deadline,
                  kmm_v1_HelloReply *reply, int fds[3]);
/* Nobody keeps the pool any more: -ENOTRECOVERABLE with a text; 0: somebody does, or it is not known. */
int connect_lifeline(struct kmm *k);
/* An Error body as text and negative errno. */
int call_refused(uint16_t status, const uint8_t *body, size_t size);

enum call_flags {
	CALL_CANCELLABLE = 1, /* may wait for memory: kmm_cancel ends it */
	CALL_NOWAIT = 2,      /* -EAGAIN at once when the daemon is away */
	CALL_ONCE = 4,        /* -EINPROGRESS when it was sent and not answered */
	CALL_REFUSABLE = 8,   /* UNAVAILABLE is an answer, not a reason to ask again */
};
struct call_how {
	uint64_t deadline;
	unsigned int flags;
	uint32_t cancels; /* of the session when the public call began */
	uint32_t node;    /* of memory that it asks for: preferred, + 1; 0: any */
	struct call_ticket *ticket; /* NULL: nobody but kmm_cancel ends it */
	bool repeated;    /* out: it was sent more than once */
};
/*
 * Lets another thread end a call that waits, because what it waits for has come from elsewhere
 * (mempool.c). The next call_begin() of the thread takes call_ticket_next, so that it is of one public
 * call and of none that a constructor makes inside.
 */
struct call_ticket {
	pthread_mutex_t lock;
	struct channel *channel; /* lock: where the call waits; NULL: nowhere */
	struct call *call;
	_Atomic uint32_t ended;
	uint64_t deadline; /* of all calls that have it */
};
extern __thread struct call_ticket *call_ticket_next;
/* Ends the call that has it, or will have it: -ECANCELED. */
void call_ticket_end(struct kmm *k, struct call_ticket *t);
/* The deadline by the thread's or session's timeout. */
struct call_how call_begin(struct kmm *k, unsigned int flags);
/* The same for a request for memory: NOFAIL, where it may wait, has no deadline. */
struct call_how call_begin_gfp(struct kmm *k, kmm_gfp_t gfp);
/* The request failed with *r: true when it is to be made again, after a moment. So a NOFAIL one that met
 * a quota. Else *r is what ends it. */
bool call_again(struct kmm *k, const struct call_how *how, kmm_gfp_t gfp, int *r);
/* A short wait for another thread of the process, which may itself wait for the daemon; again and
 * again until what is waited for is there. Never blocks the keeper, which reconnects instead.
 * Negative: the call is over. */
int call_wait_thread(struct kmm *k, const struct call_how *how);
int call_unary(struct kmm *k, struct call_how *how, uint16_t method,
               const pb_msgdesc_t *request_type, const void *request,
               const pb_msgdesc_t *reply_type, void *reply, int fds[], size_t *nfds);
/* Tells the daemon something without waiting for it: 0, -EAGAIN when there is no connection at hand,
 * -ENOBUFS when the daemon does not read. */
int call_notify(struct kmm *k, const struct call_how *how, uint16_t method,
                const pb_msgdesc_t *type, const void *request);
#define CALL(k, how, method, Type, request, reply)                                                \
	call_unary(k, how, kmm_v1_Method_##method, kmm_v1_##Type##Request_fields, request,        \
	           kmm_v1_##Type##Reply_fields, reply, NULL, NULL)

/* ---- session.c, keeper.c ---- */

enum session_state {
	SESSION_UP,
	SESSION_DOWN,    /* the keeper tries to reconnect */
	SESSION_LOST,    /* the pool is gone */
	SESSION_CLOSING, /* kmm_close has begun */
};

/* A place for one connection to one reactor, opened when first used. */
struct slot {
	pthread_mutex_t lock;
	bool opening; /* one thread connects, without the lock */
	struct channel *channel;
};

#define SLOTS_MAX 64u
#define SPARE_MAX 4u
#define EVENTS_MAX 32u

struct event {
	enum kmm_event kind;
	char text[ERROR_TEXT_MAX - 64];
};

struct hold;
struct shrinker;
struct section_file;
struct highmem;
struct vmaps;

struct kmm {
	/* What kmm_open learned; never changes. */
	uint32_t id;
	uint64_t mark; /* process_mark() of the process that it belongs to */
	uint8_t token[16], uuid[16];
	char address[108], name[64], domain[64];
	uint32_t timeout_ms, keepalive_ms, reactors, nr_slots;
	uint64_t cache_bytes;
	struct control control;
	void *words, *views;
	size_t words_size, views_size;
	uint8_t *window;
	size_t window_size;
	uint32_t frames, nr_sections; /* of the pool, and of the window */
	uint32_t pages; /* frames, and the pages that move behind them (shm/control.h) */
	uint32_t nodes;
	bool racks; /* it may pass magazines on without the daemon: it has no quota */
	unsigned int section_shift; /* bytes */
	unsigned int granule_bits;  /* granule = pfn << granule_bits */
	unsigned int map_shift;     /* bytes: the pieces that can be mapped, below the high zones */
	_Atomic uint64_t *shared;   /* a bit a frame: a handle was made and not taken back */
	size_t shared_size;
	_Atomic uint8_t *shared_objects; /* the same, a byte an object word */
	size_t shared_objects_size;

	/* State. `changes` is a futex: it moves with each change of state and each cancel. */
	_Atomic uint32_t state, changes, cancels, inside;
	_Atomic uint32_t untold; /* words say RETURNED that the daemon was not told of */
	char lost[ERROR_TEXT_MAX - 64]; /* why; event_lock, written once before LOST */

	/* section.c */
	pthread_mutex_t section_lock;
	uint32_t sections_mapped;                          /* section_lock */
	_Atomic uint8_t mapped[CONTROL_SECTIONS_MAX];      /* 1: at its place in the window */
	_Atomic uint64_t marked[CONTROL_SECTIONS_MAX / 64]; /* bits set in control memory */
	struct section_file **section_files; /* process_lock: by section; NULL until one is kept */

	/* highmem.c; NULL until used */
	_Atomic(struct highmem *) highmem;

	/* vmalloc_table.c, blocks.c: NULL until used; area.c */
	_Atomic(struct vmaps *) vmaps;
	_Atomic(_Atomic uint8_t *) pinned; /* a byte a page that can move: how many areas have it */
	_Atomic uint64_t area_pages[CONTROL_AREAS_MAX * sizeof(struct control_area) /
	                            KMM_PAGE_SIZE / 64]; /* a bit a page of the table: it is there */
	_Atomic uint32_t area_hint;

	/* exchange.c; magazine_lock */
	pthread_mutex_t magazine_lock;
	uint32_t spare[SPARE_MAX], nr_spare; /* empty magazines, LOADED by this session */
	_Atomic uint64_t *given; /* without the lock: a bit a magazine, gives that were not answered */

	/* cache.c; cache_lock for making entries and counting references */
	pthread_mutex_t cache_lock;
	_Atomic(struct kmm_cache *) *caches; /* CONTROL_CACHES_MAX of them, by id */
	struct kmm_mempool *mempools;        /* mempool.c; cache_lock */

	/* seize.c */
	pthread_mutex_t seize_lock;

	/* hold.c; hold_lock */
	pthread_mutex_t hold_lock;
	pthread_cond_t hold_done;
	struct hold **holds;
	size_t nr_holds, hold_buckets;

	/* event.c; event_lock */
	pthread_mutex_t event_lock;
	pthread_cond_t event_done;
	kmm_event_fn event_fn;
	void *event_arg;
	bool event_running, event_by_fd;
	pthread_t event_runner;
	struct process_fd event_fd;
	struct event event[EVENTS_MAX];
	unsigned int event_first, nr_events;

	/* shrinker.c; shrinker_lock */
	pthread_mutex_t shrinker_lock;
	pthread_cond_t shrinker_done;
	struct shrinker *shrinkers;
	_Atomic uint32_t nr_shrinkers;
	bool shrinker_running;
	pthread_t shrinker_runner;
	bool shrink_wanted; /* PRESSURE came, and they have not run for it yet; with: */
	uint32_t shrink_gfp, shrink_priority;

	/* keeper.c */
	pthread_t keeper;
	struct process_fd control_fd, wake_fd;
	struct process_fd lifeline_fd; /* hangs up when nobody keeps the pool any more; -1: none */
	uint8_t *control_in; /* FRAME_MAX bytes */
	size_t control_used;
	uint32_t control_call;
	uint64_t heard, pinged;
	uint64_t keeper_until; /* its own calls end by then; 0: it is in none */
	_Atomic uint32_t pressed; /* PRESSURE came, and nothing was given back for it yet */
	uint64_t flush;           /* FLUSH came and is not answered: its number; 0: none */
	uint32_t flush_cache;     /* that it is of; 0: all */

	struct slot slot[SLOTS_MAX];
};

/* NULL, forked, lost and closing sessions are refused with a text. */
int session_check(struct kmm *k);
int session_enter(struct kmm *k); /* each 0 is paired with session_leave() */
void session_leave(struct kmm *k);
static inline void session_leave_scope(struct kmm **k)
{
	if (*k)
		session_leave(*k);
}
/* For public functions that return int. Declares the int `r`: 0, inside the session until the scope
 * ends; or why not. */
#define SESSION_SCOPE(k, r)                                                                        \
	ERRNO_SCOPE;                                                                               \
	int r = session_enter(k);                                                                  \
	struct kmm *session_inside __attribute__((cleanup(session_leave_scope), unused)) =         \
		r < 0 ? NULL : (k)
/* Like session_check, but lost ones pass. */
int session_check_present(struct kmm *k);
bool session_set_state(struct kmm *k, enum session_state from, enum session_state to);
void session_lost(struct kmm *k, const char *why);
int session_is_lost(struct kmm *k); /* -ENOTRECOVERABLE with the reason */
void session_break_channels(struct kmm *k, int error);
/* Words say RETURNED that the daemon was not told of: the keeper sees to it. */
void session_untold(struct kmm *k);

static inline enum session_state session_state(struct kmm *k)
{
	return atomic_load_explicit(&k->state, memory_order_acquire);
}

int keeper_start(struct kmm *k);
/* Asks for the session's events on the control connection. */
int keeper_events(struct kmm *k);
/* Ends the thread, takes the control connection over. */
void keeper_stop(struct kmm *k);
/* Connects the control connection again and resumes: 0, -ENOTRECOVERABLE, or why not. */
int keeper_resume(struct kmm *k, uint64_t deadline);
bool keeper_is_self(struct kmm *k);
/* For the keeper inside a callback: notices that the connection ended. */
void keeper_look(struct kmm *k);
/* A unary call on the control connection, for the keeper or who stopped it. */
int keeper_call(struct kmm *k, uint16_t method, const pb_msgdesc_t *type, const void *request,
                uint64_t deadline);

/* ---- event.c ---- */

void event_push(struct kmm *k, enum kmm_event kind, const char *text);
/* Runs callbacks in the keeper unless the program took them over. */
void event_deliver(struct kmm *k);
bool event_is_runner(struct kmm *k);
/* Whoever runs callbacks is told that there is something to run. */
void event_wake(struct kmm *k);

/* ---- shrinker.c ---- */

/* PRESSURE came. True: shrinkers are to run for it. */
bool shrinker_press(struct kmm *k, uint32_t gfp, uint32_t priority);
/* Runs them for the last PRESSURE, if they did not yet: how many objects they were asked for. */
uint64_t shrinker_run(struct kmm *k);
bool shrinker_is_runner(struct kmm *k);
void shrinker_free_all(struct kmm *k);

/* ---- mempool.c ---- */

void mempool_free_all(struct kmm *k);

#include "client/page.h"

/* ---- exchange.c ---- */

/* Takes up to `rounds` things (or x.room, see there) as `kind` (HELD or RETURNED): how many came in *n,
 * at least one. */
int exchange_take(struct kmm *k, struct call_how *how, struct exchange x, uint32_t gfp,
                  enum owner_kind kind, uint32_t rounds, uint64_t out[], uint32_t *n);
/* Gives rounds whose words are HELD or RETURNED by this session. Those that could not be given so
 * are moved to the front; returns how many. Objects whose word had changed are not among them:
 * they were freed twice, which is reported. */
uint32_t exchange_give(struct kmm *k, struct exchange x, uint64_t r[], uint32_t n);
/* Repeats gives that were not answered: false when one is not answered again. */
bool exchange_repeat(struct kmm *k, struct call_how *how);

/* ---- rounds.c ---- */

/* Moves the rounds of a magazine that we loaded into `out`; those whose word moved on are none. */
uint32_t rounds_unload(struct kmm *k, struct exchange x, uint32_t m, uint32_t count,
                       enum owner_kind kind, uint64_t out[]);
/* Points the words of up to n rounds at magazine m and writes them there: how many. What had changed,
 * or has other holders, is moved to the front of r, *failed of them. */
uint32_t rounds_load(struct kmm *k, struct exchange x, uint32_t m, uint64_t r[], uint32_t n,
                     uint32_t *failed);
/* Marks one object HELD or RETURNED by this session as RETURNED, for the daemon to be told; its word
 * and granule. false: it is not ours, which is reported where it means a double free. */
bool exchange_return(struct kmm *k, struct exchange x, uint64_t round, uint64_t *word,
                     uint32_t *granule);

/* ---- rack.c ---- */

/* A magazine that we filled, header *h: is it done with? Else the header is still *h, or says DEPOT, as
 * *h then does: for the daemon. */
bool rack_give(struct kmm *k, struct exchange x, uint32_t m, uint64_t *h, uint32_t count);
/* A magazine with up to `most` objects, LOADED by us; false: there is none. */
bool rack_take(struct kmm *k, struct exchange x, uint32_t most, uint32_t *m, uint32_t *count);
/* The same for empty ones; false: no room. */
bool rack_put_empty(struct kmm *k, uint32_t m, uint64_t h);
bool rack_take_empty(struct kmm *k, uint32_t *m);

/* ---- share.c, hold.c ---- */

/* Things are named by granule: blocks and objects alike. */
int hold_get(struct kmm *k, uint32_t granule, uint32_t generation);
int hold_put(struct kmm *k, uint32_t granule);
/* Holds of this session beyond the one that the daemon knows of. */
int hold_repeated(struct kmm *k, uint32_t granule);
void hold_free_all(struct kmm *k);
/* A hold on a page that this session maps and does not own: at most one at a time a mapping. */
int hold_pin(struct kmm *k, uint32_t granule, uint32_t generation);
void hold_unpin(struct kmm *k, uint32_t granule);
/* Tells the daemon of holds that ended while it was away; false: it is again. */
bool hold_repeat(struct kmm *k);

static inline uint32_t granule_of(struct kmm *k, uint32_t pfn)
{
	return pfn << k->granule_bits;
}

/* Somebody holds it at this moment, this session or another. A kept block in the instant between
 * its owner's free and the daemon's answer counts: its holders are there. */
static inline bool word_is_live(uint64_t w)
{
	return owner_kind(w) == OWNER_HELD || owner_kind(w) == OWNER_MOVING ||
	       (owner_kind(w) == OWNER_RETURNED && (w & OWNER_KEPT));
}

/* ---- thing.c ---- */

/* A word as it is when the daemon does not move the page: still MOVING only when the daemon went away
 * over that and did not come back in time. */
uint64_t word_settled_slow(struct kmm *k, owner_word_t *word);
static inline uint64_t word_settled(struct kmm *k, owner_word_t *word)
{
	uint64_t w = owner_load(word);

	return likely(owner_kind(w) != OWNER_MOVING) ? w : word_settled_slow(k, word);
}

#pragma GCC visibility pop
#endif
