/* SPDX-License-Identifier: MIT */
/*
 * Events: from whoever notices to the program's callback.
 *
 * A bounded queue; the keeper empties it into the callback, unless kmm_fd was called: then the
 * descriptor (an eventfd) becomes readable and kmm_dispatch empties it. One callback runs at a
 * time, in the order of the queue. Events that nobody asked for are not queued. A full queue drops
 * its oldest PRESSURE, else its oldest event. Shrinkers (shrinker.c) run in the same places, after the
 * callbacks.
 */
#include "client/internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct event *event_at(struct kmm *k, unsigned int i)
{
	return &k->event[(k->event_first + i) % EVENTS_MAX];
}

static void event_drop(struct kmm *k, unsigned int i)
{
	for (; i + 1 < k->nr_events; i++)
		*event_at(k, i) = *event_at(k, i + 1);
	k->nr_events--;
}

/* Which to drop for a newcomer; event_lock is held. */
static unsigned int event_victim(struct kmm *k)
{
	unsigned int i;

	for (i = 0; i < k->nr_events; i++)
		if (event_at(k, i)->kind == KMM_EVENT_PRESSURE)
			return i;
	return 0;
}

/* Whoever runs callbacks is told: the program by its descriptor, else the keeper. */
static void event_signal(struct kmm *k)
{
	uint64_t one = 1;
	int fd = k->event_by_fd ? k->event_fd.fd : k->wake_fd.fd;

	if (fd < 0 || (!k->event_by_fd && keeper_is_self(k)))
		return; /* the keeper delivers what it queued itself */
	if (write(fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: it is readable already */
}

void event_push(struct kmm *k, enum kmm_event kind, const char *text)
{
	struct event *e;

	pthread_mutex_lock(&k->event_lock);
	if (k->event_fn && !(kind == KMM_EVENT_PRESSURE && k->nr_events > 0 &&
	                     event_at(k, k->nr_events - 1)->kind == kind)) {
		if (k->nr_events == EVENTS_MAX)
			event_drop(k, event_victim(k));
		e = event_at(k, k->nr_events++);
		e->kind = kind;
		snprintf(e->text, sizeof(e->text), "%s", text);
		event_signal(k);
	}
	pthread_mutex_unlock(&k->event_lock);
}

void event_wake(struct kmm *k)
{
	pthread_mutex_lock(&k->event_lock);
	event_signal(k);
	pthread_mutex_unlock(&k->event_lock);
}

bool event_is_runner(struct kmm *k)
{
	bool is;

	pthread_mutex_lock(&k->event_lock);
	is = k->event_running && pthread_equal(k->event_runner, pthread_self());
	pthread_mutex_unlock(&k->event_lock);
	return is || shrinker_is_runner(k);
}

/* Runs callbacks for what is queued; event_lock is held, and released meanwhile. */
static void event_run(struct kmm *k, bool keeper)
{
	if (k->event_running)
		return; /* another thread does it, in order */
	k->event_running = true;
	k->event_runner = pthread_self();
	while (k->nr_events > 0 && k->event_fn && !(keeper && k->event_by_fd)) {
		struct event e = *event_at(k, 0);
		kmm_event_fn fn = k->event_fn;
		void *arg = k->event_arg;
		char text[ERROR_TEXT_MAX];

		k->event_first = (k->event_first + 1) % EVENTS_MAX;
		k->nr_events--;
		pthread_mutex_unlock(&k->event_lock);
		error_text_copy(text);
		error_text_put(e.text);
		fn(k, e.kind, arg);
		error_text_put(text); /* the thread's own failures are not the events' */
		pthread_mutex_lock(&k->event_lock);
	}
	k->event_running = false;
	pthread_cond_broadcast(&k->event_done);
}

/* Shrinkers run; the daemon counts what they were asked for (vmstat's slabs_scanned). */
static void event_shrink(struct kmm *k)
{
	kmm_v1_ReclaimedRequest q = { .scanned = shrinker_run(k) };
	struct call_how how;

	if (!q.scanned)
		return;
	how = call_begin(k, CALL_NOWAIT);
	call_notify(k, &how, kmm_v1_Method_ALLOCATOR_RECLAIMED, kmm_v1_ReclaimedRequest_fields, &q);
}

void event_deliver(struct kmm *k)
{
	bool keeper;

	pthread_mutex_lock(&k->event_lock);
	keeper = !k->event_by_fd;
	if (k->nr_events > 0 && keeper)
		event_run(k, true);
	pthread_mutex_unlock(&k->event_lock);
	if (keeper)
		event_shrink(k);
}

int kmm_on_event(struct kmm *k, kmm_event_fn fn, void *arg)
{
	ERRNO_SCOPE;
	int r = session_check_present(k);

	if (r < 0)
		return r;
	pthread_mutex_lock(&k->event_lock);
	k->event_fn = fn;
	k->event_arg = arg;
	if (!fn)
		k->nr_events = 0;
	/* The former callback runs no more on return, unless this is called from it. */
	while (k->event_running && !pthread_equal(k->event_runner, pthread_self()))
		pthread_cond_wait(&k->event_done, &k->event_lock);
	pthread_mutex_unlock(&k->event_lock);
	return 0;
}

int kmm_fd(struct kmm *k)
{
	ERRNO_SCOPE;
	int r = session_check_present(k);

	if (r < 0)
		return r;
	pthread_mutex_lock(&k->event_lock);
	if (!k->event_by_fd) {
		r = process_fd_open(&k->event_fd, PROCESS_EVENTFD);
		if (r == 0) {
			k->event_by_fd = true;
			if (k->nr_events > 0 || k->nr_shrinkers > 0)
				event_signal(k);
		}
	}
	if (r == 0)
		r = k->event_fd.fd;
	pthread_mutex_unlock(&k->event_lock);
	return r;
}

int kmm_dispatch(struct kmm *k)
{
	ERRNO_SCOPE;
	int r = session_check_present(k);
	uint64_t count;
	bool by_fd;

	if (r < 0)
		return r;
	if (event_is_runner(k))
		return error_set(EDEADLK, "kmm_dispatch was called from an event callback");
	pthread_mutex_lock(&k->event_lock);
	if (k->event_by_fd && read(k->event_fd.fd, &count, sizeof(count)) < 0)
		count = 0; /* EAGAIN: nothing was signalled */
	by_fd = k->event_by_fd;
	if (by_fd) /* before kmm_fd the keeper does it */
		event_run(k, false);
	pthread_mutex_unlock(&k->event_lock);
	if (by_fd)
		event_shrink(k);
	return 0;
}
