/* SPDX-License-Identifier: MIT */
/*
 * A session's life: opening, closing, and the small functions about it.
 *
 * kmm_open connects (to the address in the options, else $KMM_ADDRESS, else the system's socket,
 * else the user's), says hello on the control connection, maps the domain's control memory that came
 * with the answer, and reserves a window as large as the pool, so that pool address and pointer
 * differ by a constant.
 *
 * kmm_close turns the state to CLOSING, wakes whoever waits, waits until they have left, ends the
 * keeper, and then tells the daemon on the connection that the keeper had, so that all is free when
 * it returns.
 */
#include "client/object.h"
#include "client/percpu.h"
#include "client/probes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/memfd.h"

#define TIMEOUT_DEFAULT_MS 30000u
#define CLOSE_RECONNECT_NS 2000000000u
#define SYSTEM_SOCKET "/run/kmmd/kmmd.sock"
#define GIB ((size_t)1 << 30)

/* ---- checks at the door ---- */

int session_check_present(struct kmm *k)
{
	if (!k)
		return error_set(EINVAL, "the session is NULL");
	if (k->mark != process_mark())
		return error_set(EOWNERDEAD, "the session belongs to the process that this one was "
		                             "forked from: open one of its own");
	return 0;
}

int session_check(struct kmm *k)
{
	int r = session_check_present(k);

	if (r < 0)
		return r;
	switch (session_state(k)) {
	case SESSION_LOST:
		return session_is_lost(k);
	case SESSION_CLOSING:
		return error_set(ECANCELED, "the session is being closed");
	default:
		return 0;
	}
}

int session_enter(struct kmm *k)
{
	int r = session_check_present(k);

	if (r < 0)
		return r;
	/* seq_cst: counted in before the state is read; kmm_close does both the other way round */
	atomic_fetch_add_explicit(&k->inside, 1, memory_order_seq_cst);
	r = session_check(k);
	if (r < 0)
		session_leave(k);
	return r;
}

void session_leave(struct kmm *k)
{
	bool closing = session_state(k) == SESSION_CLOSING;
	_Atomic uint32_t *inside = &k->inside;

	/* release: pairs with kmm_close's load. k may be gone right after; a wake-up touches only
	 * the address. kmm_close looks again by itself if the state was read too early. */
	atomic_fetch_sub_explicit(inside, 1, memory_order_release);
	if (closing)
		futex_wake_all(inside);
}

static void session_wake(struct kmm *k)
{
	uint64_t one = 1;

	/* acq_rel: what changed is seen by who sees the new number */
	atomic_fetch_add_explicit(&k->changes, 1, memory_order_acq_rel);
	futex_wake_all(&k->changes);
	if (write(k->wake_fd.fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: the keeper is awake already */
}

void session_untold(struct kmm *k)
{
	uint64_t one = 1;

	/* release: pairs with the keeper's exchange; the words were changed before */
	if (atomic_exchange_explicit(&k->untold, 1, memory_order_release) == 0 &&
	    session_state(k) == SESSION_UP && write(k->wake_fd.fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: the keeper is awake already */
}

bool session_set_state(struct kmm *k, enum session_state from, enum session_state to)
{
	uint32_t expected = from;

	/* acq_rel: pairs with session_state */
	if (!atomic_compare_exchange_strong_explicit(&k->state, &expected, to, memory_order_acq_rel,
	                                             memory_order_acquire))
		return false;
	session_wake(k);
	return true;
}

void session_break_channels(struct kmm *k, int error)
{
	uint32_t i;

	for (i = 0; i < k->nr_slots; i++) {
		struct channel *c;

		pthread_mutex_lock(&k->slot[i].lock);
		c = k->slot[i].channel ? channel_get(k->slot[i].channel) : NULL;
		pthread_mutex_unlock(&k->slot[i].lock);
		if (c) {
			channel_break(c, error);
			channel_put(c);
		}
	}
}

void session_lost(struct kmm *k, const char *why)
{
	pthread_mutex_lock(&k->event_lock);
	if (!k->lost[0])
		snprintf(k->lost, sizeof(k->lost), "%s", why);
	pthread_mutex_unlock(&k->event_lock);
	if (!session_set_state(k, SESSION_UP, SESSION_LOST) &&
	    !session_set_state(k, SESSION_DOWN, SESSION_LOST))
		return;
	probe_lost(k->id, k->lost);
	event_push(k, KMM_EVENT_LOST, k->lost);
	thread_cache_detach(k);
	session_break_channels(k, -ENOTRECOVERABLE);
	session_wake(k); /* the event is queued now */
}

int session_is_lost(struct kmm *k)
{
	return error_set(ENOTRECOVERABLE, "the pool that the session lived in is gone (%s): open a "
	                 "new one (kmm_open; with <kmm/kernel.h> kmm_kernel_exit)",
	                 k->lost);
}

/* ---- opening ---- */

static int option_string(char *to, size_t size, const char *from, const char *what)
{
	if (strlen(from) >= size)
		return error_set(EINVAL, "the %s has more than %zu bytes: %.80s...", what, size - 1,
		                 from);
	memcpy(to, from, strlen(from) + 1);
	return 0;
}

static int options_read(struct kmm_options *o, const struct kmm_options *from)
{
	size_t i;

	memset(o, 0, sizeof(*o));
	if (!from)
		return 0;
	if (from->size < offsetof(struct kmm_options, timeout_ms))
		return error_set(EINVAL,
		                 "options.size is %zu: set it to sizeof(struct kmm_options)",
		                 from->size);
	for (i = sizeof(*o); i < from->size; i++)
		if (((const uint8_t *)from)[i] != 0)
			return error_set(EINVAL,
			                 "the options ask for something that this version of the "
			                 "library does not know (byte %zu is not 0)",
			                 i);
	memcpy(o, from, from->size < sizeof(*o) ? from->size : sizeof(*o));
	if (o->flags != 0)
		return error_set(EINVAL, "options.flags is 0x%x: none are defined", o->flags);
	return 0;
}

static int options_apply(struct kmm *k, const struct kmm_options *o)
{
	char shortened[KMM_NAME_MAX + 1];
	int r;

	k->timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_DEFAULT_MS;
	snprintf(shortened, sizeof(shortened), "%s", program_invocation_short_name);
	r = option_string(k->name, sizeof(k->name), o->name ? o->name : shortened, "name");
	if (r == 0)
		r = option_string(k->domain, sizeof(k->domain), o->domain ? o->domain : "",
		                  "domain's name");
	return r;
}

static int control_hello(struct kmm *k, const char *address, uint64_t deadline,
                         kmm_v1_HelloReply *reply, int fds[3])
{
	int r = option_string(k->address, sizeof(k->address), address, "socket's path");

	if (r == 0)
		r = connect_socket(&k->control_fd, address, deadline);
	if (r == 0)
		r = connect_hello(k, k->control_fd.fd, true, 0, deadline, reply, fds);
	return r;
}

/* Finds the daemon. */
static int session_connect(struct kmm *k, const char *address, kmm_v1_HelloReply *reply, int fds[3])
{
	uint64_t deadline = deadline_in_ms(k->timeout_ms);
	const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
	char own[sizeof(k->address)], text[ERROR_TEXT_MAX];
	int r;

	if (!address) {
		address = secure_getenv("KMM_ADDRESS");
		if (address && !address[0])
			address = NULL;
	}
	if (address && !address[0])
		return error_set(EINVAL, "options.address is empty: NULL stands for the usual places");
	if (address)
		return control_hello(k, address, deadline, reply, fds);
	error_text_copy(text);
	r = control_hello(k, SYSTEM_SOCKET, deadline, reply, fds);
	if ((r != -ENOENT && r != -ECONNREFUSED) || !runtime || !runtime[0] ||
	    snprintf(own, sizeof(own), "%s/kmmd/kmmd.sock", runtime) >= (int)sizeof(own))
		return r;
	error_text_put(text);
	return control_hello(k, own, deadline, reply, fds);
}

static int session_take_reply(struct kmm *k, const kmm_v1_HelloReply *p,
                              struct control_geometry *g)
{
	uint64_t slots = p->reactors < p->channels_max ? p->reactors : p->channels_max;

	g->frames = p->frames;
	g->high_start = p->high_start;
	g->high_frames = p->high_frames;
	g->section_order = p->section_order;
	g->sessions = p->sessions;
	g->magazines = p->magazines;
	if (p->session == 0 || p->session >= p->sessions || p->reactors == 0 || slots == 0 ||
	    p->frames == 0 || p->frames > UINT32_MAX || p->section_order > 18 ||
	    p->high_frames > p->frames || p->nodes == 0 ||
	    p->map_shift > p->section_order + FRAME_SHIFT || control_pages(g) > UINT32_MAX ||
	    (control_pages(g) >> p->section_order) > CONTROL_SECTIONS_MAX)
		return error_set(EPROTO, "the daemon's account of its pool makes no sense");
	k->id = p->session;
	memcpy(k->token, p->token, sizeof(k->token));
	memcpy(k->uuid, p->uuid, sizeof(k->uuid));
	k->reactors = p->reactors;
	k->nr_slots = slots < SLOTS_MAX ? (uint32_t)slots : SLOTS_MAX;
	k->keepalive_ms = p->keepalive_ms;
	k->cache_bytes = p->thread_cache_bytes;
	k->nodes = p->nodes;
	k->racks = p->pages_max == 0;
	k->frames = (uint32_t)p->frames;
	k->pages = (uint32_t)control_pages(g);
	k->section_shift = p->section_order + FRAME_SHIFT;
	k->map_shift = p->map_shift > FRAME_SHIFT ? p->map_shift : FRAME_SHIFT;
	k->nr_sections = (uint32_t)(p->frames >> p->section_order);
	k->granule_bits = FRAME_SHIFT - control_granule_shift(k->pages);
	k->window_size = (size_t)p->frames << FRAME_SHIFT;
	return 0;
}

static int map_private(void **ret, size_t size, int advice)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	madvise(p, size, advice);
	*ret = p;
	return 0;
}

static int session_map(struct kmm *k, const struct control_geometry *g, const int fds[2])
{
	struct control_layout l;
	size_t section = (size_t)1 << k->section_shift;
	void *p;
	int r = control_layout_compute(&l, g);

	if (r < 0)
		return error_set(EPROTO, "the daemon's account of its pool makes no sense");
	r = shm_map(&k->words, NULL, fds[0], l.words_size, true);
	if (r == 0)
		k->words_size = l.words_size;
	if (r == 0)
		r = shm_map(&k->views, NULL, fds[1], l.views_size, false);
	if (r < 0)
		return error_set(-r, "the domain's control memory (%zu bytes) cannot be mapped",
		                 l.words_size + l.views_size);
	k->views_size = l.views_size;
	control_attach(&k->control, g, k->words, k->views);

	k->shared_size = ((size_t)k->pages + 63) / 64 * sizeof(uint64_t);
	r = map_private(&p, k->shared_size, MADV_DONTFORK);
	if (r < 0)
		return error_set(-r, "no memory for the session's records");
	k->shared = p;
	k->shared_objects_size = k->control.object_words;
	r = map_private(&p, k->shared_objects_size, MADV_DONTFORK);
	if (r < 0)
		return error_set(-r, "no memory for the session's records");
	k->shared_objects = p;
	k->given = calloc((g->magazines + 63) / 64 + 1, sizeof(k->given[0]));
	if (!k->given)
		return error_set(ENOMEM, "no memory for the session's records");
	r = shm_window_reserve(&p, k->window_size,
	                       k->window_size >= GIB && section < GIB ? GIB : section);
	if (r < 0)
		return error_set(-r,
		                 "the process has no room for a window of %zu MiB (is RLIMIT_AS "
		                 "too low?)",
		                 k->window_size >> 20);
	k->window = p;
	madvise(k->window, k->window_size, MADV_DONTFORK);
	madvise(k->window, k->window_size, MADV_DONTDUMP);
	return 0;
}

static struct kmm *session_new(void)
{
	struct kmm *k = calloc(1, sizeof(*k));
	pthread_mutex_t *locks[] = { &k->section_lock, &k->magazine_lock, &k->hold_lock,
		                     &k->event_lock, &k->cache_lock, &k->seize_lock,
		                     &k->shrinker_lock };
	size_t i;

	if (!k)
		return NULL;
	for (i = 0; i < sizeof(locks) / sizeof(locks[0]); i++)
		pthread_mutex_init(locks[i], NULL);
	for (i = 0; i < SLOTS_MAX; i++)
		pthread_mutex_init(&k->slot[i].lock, NULL);
	pthread_cond_init(&k->hold_done, NULL);
	pthread_cond_init(&k->event_done, NULL);
	pthread_cond_init(&k->shrinker_done, NULL);
	k->event_fd.fd = k->control_fd.fd = k->wake_fd.fd = k->lifeline_fd.fd = -1;
	k->control_in = malloc(FRAME_MAX);
	if (!k->control_in) {
		free(k);
		return NULL;
	}
	return k;
}

/* In a child the mappings do not exist, and their addresses may be in use again. */
static void session_free(struct kmm *k, bool child)
{
	uint32_t i;

	if (!child) {
		for (i = 0; i < k->nr_slots; i++)
			channel_put(k->slot[i].channel);
		vmalloc_end(k);
		if (k->window)
			munmap(k->window, k->window_size);
		if (k->shared)
			munmap((void *)k->shared, k->shared_size);
		if (k->shared_objects)
			munmap((void *)k->shared_objects, k->shared_objects_size);
		if (k->views_size)
			munmap(k->views, k->views_size);
		if (k->words_size)
			munmap(k->words, k->words_size);
		process_fd_close(&k->control_fd);
		process_fd_close(&k->wake_fd);
		process_fd_close(&k->lifeline_fd);
		process_fd_close(&k->event_fd);
	}
	if (!child) { /* the child's copies may be half changed */
		hold_free_all(k);
		mempool_free_all(k);
		shrinker_free_all(k);
		cache_free_all(k);
	}
	highmem_free(k, child);
	section_files_free(k, child);
	free((void *)k->given);
	free(k->control_in);
	free(k);
}

static int session_open(struct kmm *k, const struct kmm_options *o)
{
	kmm_v1_HelloReply reply;
	struct control_geometry g;
	int fds[3], r;

	r = options_apply(k, o);
	if (r == 0)
		r = cache_init(k);
	if (r == 0)
		r = session_connect(k, o->address, &reply, fds);
	if (r < 0)
		return r;
	r = session_take_reply(k, &reply, &g);
	if (r == 0)
		r = session_map(k, &g, fds);
	close(fds[0]);
	close(fds[1]);
	if (fds[2] >= 0)
		process_fd_take(&k->lifeline_fd, fds[2]);
	if (r < 0)
		return r;
	k->mark = process_mark();
	seize_init();
	r = keeper_events(k);
	return r < 0 ? r : keeper_start(k);
}

int kmm_open(struct kmm **ret, const struct kmm_options *opts)
{
	ERRNO_SCOPE;
	struct kmm_options o;
	struct kmm *k;
	int r;

	if (!ret)
		return error_set(EINVAL, "there is no place for the session: ret is NULL");
	r = options_read(&o, opts);
	if (r == 0)
		r = process_init();
	if (r < 0)
		return r;
	k = session_new();
	if (!k)
		return error_set(ENOMEM, "no memory for a session");
	r = session_open(k, &o);
	if (r < 0) {
		session_free(k, false);
		return r;
	}
	*ret = k;
	return 0;
}

/* ---- closing ---- */

static int session_say_close(struct kmm *k, enum session_state before)
{
	kmm_v1_CloseRequest q = kmm_v1_CloseRequest_init_zero;
	uint64_t deadline = deadline_in_ms(k->timeout_ms);
	uint64_t again = process_now() + CLOSE_RECONNECT_NS;
	int r;

	if (before == SESSION_LOST)
		return 0;
	r = before == SESSION_UP ? 0 : -ECONNRESET;
	for (;;) {
		if (r < 0)
			r = keeper_resume(k, again < deadline ? again : deadline);
		if (r == -ENOTRECOVERABLE)
			return 0;
		if (r == 0)
			r = keeper_call(k, kmm_v1_Method_ALLOCATOR_CLOSE,
			                kmm_v1_CloseRequest_fields, &q, deadline);
		if (r >= 0)
			return 0;
		if (process_now() >= again)
			return r;
	}
}

int kmm_close(struct kmm *k)
{
	ERRNO_SCOPE;
	enum session_state before;
	uint32_t inside;
	int r;

	if (!k)
		return 0;
	if (k->mark != process_mark()) {
		percpu_close(k);
		session_free(k, true);
		return 0;
	}
	if (event_is_runner(k))
		return error_set(EDEADLK, "kmm_close was called from an event callback of the "
		                          "session");
	/* seq_cst: pairs with session_enter */
	before = atomic_exchange_explicit(&k->state, SESSION_CLOSING, memory_order_seq_cst);
	session_wake(k);
	session_break_channels(k, -ECANCELED);
	thread_cache_detach(k);
	thread_reap();
	keeper_stop(k);
	while ((inside = atomic_load_explicit(&k->inside, memory_order_acquire)) > 0)
		futex_wait(&k->inside, inside, process_now() + 10000000u);
	highmem_end(k);
	percpu_close(k);
	r = session_say_close(k, before);
	session_free(k, false);
	if (r < 0)
		return error_set(EINPROGRESS, "the daemon is away: the session is closed here, and "
		                              "what it held is free when the daemon is back or "
		                              "this process ends");
	return 0;
}

/* ---- about a session ---- */

const char *kmm_version(void)
{
	return PACKAGE_VERSION;
}

kmm_session_id_t kmm_session_id(struct kmm *k)
{
	int r = session_check_present(k);

	if (r < 0) {
		errno = -r;
		return 0;
	}
	return k->id;
}

int kmm_set_timeout(struct kmm *k, uint32_t timeout_ms)
{
	ERRNO_SCOPE;
	struct thread_cache *tc;
	int r = session_check(k);

	if (r < 0)
		return r;
	tc = thread_cache_get(k);
	if (!tc)
		return error_set(ENOMEM, "no memory for the thread's state");
	tc->timeout_ms = timeout_ms;
	return 0;
}

int kmm_cancel(struct kmm *k)
{
	ERRNO_SCOPE;
	uint32_t i;
	int r = session_enter(k);

	if (r < 0)
		return r;
	/* acq_rel: a call that sees the new number is not cancelled, one that began before is */
	atomic_fetch_add_explicit(&k->cancels, 1, memory_order_acq_rel);
	session_wake(k);
	for (i = 0; i < k->nr_slots; i++) {
		struct channel *c;

		pthread_mutex_lock(&k->slot[i].lock);
		c = k->slot[i].channel ? channel_get(k->slot[i].channel) : NULL;
		pthread_mutex_unlock(&k->slot[i].lock);
		if (c) {
			channel_cancel(c, NULL);
			channel_put(c);
		}
	}
	session_leave(k);
	return 0;
}
