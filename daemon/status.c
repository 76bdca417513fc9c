/* SPDX-License-Identifier: MIT */
/*
 * STATUS=: pool, sessions, pressure, in one line.
 *
 * Once a second the main loop makes the line anew. It is sent when it has changed, and at most every
 * STATUS_INTERVAL_NS; at once, though, when something needs a look: requests begin or cease to wait for
 * memory, the pool is degraded. The manager tells everybody who watches the unit of each line, hence the
 * bound; and use is said in whole per cent, hence quiet pools have quiet lines.
 */
#include "daemon/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "daemon/domain.h"
#include "daemon/pool.h"
#include "daemon/pressure.h"
#include "daemon/reactor.h"
#include "daemon/session.h"
#include "mm/mm.h"

#define STATUS_TICK_MS 1000
#define STATUS_INTERVAL_NS (UINT64_C(5) * 1000000000)

struct status {
	struct kmmd *kmmd;
	uv_timer_t timer;
	char said[400];
	bool pressure, degraded; /* as said */
	uint64_t said_ns;
};

struct status_now {
	uint64_t frames, used;
	uint32_t sessions, detached, parked;
	bool pressure, degraded;
};

static void status_look(struct status_now *n, const struct kmmd *k)
{
	uint64_t free = mm_nr_free(k->domain->zones);

	*n = (struct status_now){.frames = pool_present(k->pool) - k->pool->metadata_frames};
	n->used = n->frames > free ? n->frames - free : 0;
	for (uint32_t id = 1; id < session_table_size(k->sessions); id++) {
		const struct session *s = session_by_id(k->sessions, id);

		/* relaxed: counted for a report */
		switch (atomic_load_explicit(&s->state, memory_order_relaxed)) {
		case SESSION_DETACHED:
			n->detached++;
			/* fall through */
		case SESSION_LIVE:
			n->sessions++;
			n->parked += atomic_load_explicit(&s->parked, memory_order_relaxed);
			break;
		default:
			break;
		}
	}
	n->pressure = pressure_is_on(k->domain);
	/* relaxed: a counter for a report */
	n->degraded = atomic_load_explicit(&k->domain->damaged, memory_order_relaxed) != 0;
}

static void status_write(char *text, size_t size, const struct kmmd *k, const struct status_now *n)
{
	char waiting[64] = "no pressure", quarantine[48] = "";
	struct pool_backing backing;

	if (n->detached)
		snprintf(quarantine, sizeof(quarantine), ", %" PRIu32 " in quarantine", n->detached);
	if (n->pressure)
		snprintf(waiting, sizeof(waiting), "PRESSURE: %" PRIu32 " requests wait for memory",
		         n->parked);
	pool_backing_get(k->pool, &backing);
	snprintf(text, size, "%s%s, %" PRIu64 "%% in use; %" PRIu32 " sessions%s; %s",
	         n->degraded ? "DEGRADED (kmmctl health says why): " : "", backing.text,
	         n->frames ? n->used * 100 / n->frames : 0, n->sessions, quarantine, waiting);
}

void status_text(char *text, size_t size, const struct kmmd *kmmd)
{
	struct status_now n;

	status_look(&n, kmmd);
	status_write(text, size, kmmd, &n);
}

static void status_on_timer(uv_timer_t *timer)
{
	struct status *s = timer->data;
	uint64_t now = uv_now(timer->loop) * 1000000;
	struct status_now n;
	char text[sizeof(s->said)];
	bool urgent;

	status_look(&n, s->kmmd);
	urgent = n.pressure != s->pressure || n.degraded != s->degraded;
	if (!urgent && now - s->said_ns < STATUS_INTERVAL_NS)
		return;
	status_write(text, sizeof(text), s->kmmd, &n);
	if (strcmp(text, s->said) == 0)
		return;
	memcpy(s->said, text, sizeof(text));
	s->pressure = n.pressure;
	s->degraded = n.degraded;
	s->said_ns = now;
	sd_notifyf(0, "STATUS=%s", text);
}

int status_new(struct status **ret, struct kmmd *kmmd)
{
	struct status *s = calloc(1, sizeof(*s));
	char text[400];
	int r;

	status_text(text, sizeof(text), kmmd);
	sd_notifyf(0, "READY=1\nSTATUS=%s", text);
	if (!s)
		return -ENOMEM;
	s->kmmd = kmmd;
	memcpy(s->said, text, sizeof(text));
	r = uv_timer_init(&kmmd->main->loop, &s->timer);
	if (r < 0) {
		free(s);
		return r;
	}
	s->timer.data = s;
	uv_timer_start(&s->timer, status_on_timer, STATUS_TICK_MS, STATUS_TICK_MS);
	*ret = s;
	return 0;
}

void status_stop(struct status *s)
{
	if (s)
		uv_close((uv_handle_t *)&s->timer, NULL);
}

struct status *status_free(struct status *s)
{
	free(s);
	return NULL;
}
