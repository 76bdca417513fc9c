/* SPDX-License-Identifier: MIT */
/*
 * The HTTP listener: libmicrohttpd, in one thread of its own.
 *
 *     GET /metrics   metrics_text(), in OpenMetrics when the Accept header prefers it, else in
 *                    Prometheus's format
 *     GET /health    200 and a line, or 503 and a line that says why
 *
 * The thread makes the text itself: reactors, the worker and the main loop are neither asked nor waited
 * for, so that it answers also when one of them is busy, and tells of one that hangs (/health). It is one
 * thread, so what scrapers can make it do is bounded by one CPU; connections, their memory and their time
 * are bounded too, and who keeps them open keeps nobody out (http_connections.c).
 *
 * What is served can be read by everybody who may connect: local processes by TCP, the group by a Unix
 * socket. Nothing can be changed by it.
 *
 * A listener that cannot be made (a port in use) is no reason not to serve memory: it is said once, and
 * again when it fails for another reason, and tried again every RETRY_MS; that it goes is said, too. A
 * change of the configuration ends the one and begins the other.
 */
#include "daemon/http.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/domain.h"
#include "daemon/http_accept.h"
#include "daemon/http_address.h"
#include "daemon/http_connections.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/metrics_text.h"
#include "daemon/options.h"
#include "daemon/reactor.h"
#include "daemon/status.h"

#define RETRY_MS 5000u
#define CONNECTION_BYTES 16384u
#define CONNECTION_SECONDS 10u
#define SILENT_NS (UINT64_C(10) * 1000000000) /* a reactor ticks once a second */

struct http {
	struct kmmd *kmmd;
	struct MHD_Daemon *daemon; /* NULL: nothing is listened at */
	char *listen;              /* where it is, or would be; NULL: nowhere */
	struct http_address address;
	uv_timer_t retry;
	int complained; /* of what, a negative errno; 0: of nothing */
	struct http_connections connections;
};

/* ---- answers, on the listener's thread ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned int status, const char *type,
                              char *text, size_t n, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(n, text, mode);
	enum MHD_Result done;

	if (!r) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(text);
		return MHD_NO;
	}
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	done = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return done;
}

static enum MHD_Result answer_line(struct MHD_Connection *c, unsigned int status, const char *line)
{
	return answer(c, status, "text/plain; charset=utf-8", (char *)(uintptr_t)line, strlen(line),
	              MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result answer_metrics(struct MHD_Connection *c, struct kmmd *k)
{
	const char *accept =
		MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
	bool open = http_accept_openmetrics(accept);
	size_t n;
	char *text;

	if (metrics_text(k, open ? METRICS_OPENMETRICS : METRICS_PROMETHEUS, &text, &n) < 0)
		return answer_line(c, MHD_HTTP_INTERNAL_SERVER_ERROR,
		                   "the daemon is out of memory\n");
	return answer(c, MHD_HTTP_OK,
	              open ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
	                     "text/plain; version=0.0.4; charset=utf-8",
	              text, n, MHD_RESPMEM_MUST_FREE);
}

/* A reactor that has not run for too long; not one that stands still for fsck. */
static bool find_silent(const struct kmmd *k, uint32_t *which, uint64_t *seconds)
{
	uint64_t now = uv_hrtime();
	uint32_t r;

	for (r = 0; r < k->nr_reactors; r++) {
		/* relaxed, both: for a report */
		uint64_t tick = atomic_load_explicit(&k->reactors[r]->metrics->tick_ns,
		                                     memory_order_relaxed);

		if (!tick)
			tick = k->started_ns;
		if (now < tick + SILENT_NS ||
		    atomic_load_explicit(&k->reactors[r]->standing, memory_order_relaxed))
			continue;
		*which = r;
		*seconds = (now - tick) / 1000000000;
		return true;
	}
	return false;
}

static enum MHD_Result answer_health(struct MHD_Connection *c, const struct kmmd *k)
{
	char status[400], line[500];
	uint64_t seconds;
	uint32_t which;

	/* relaxed: for a report */
	if (atomic_load_explicit(&k->domain->spoiled, memory_order_relaxed))
		return answer_line(c, MHD_HTTP_SERVICE_UNAVAILABLE,
		                   "nothing is granted: a process destroyed control memory; restart "
		                   "the daemon by systemctl stop and start\n");
	if (find_silent(k, &which, &seconds)) {
		snprintf(line, sizeof(line),
		         "reactor %" PRIu32 " has not run for %" PRIu64 " seconds\n", which, seconds);
		return answer_line(c, MHD_HTTP_SERVICE_UNAVAILABLE, line);
	}
	status_text(status, sizeof(status), k);
	snprintf(line, sizeof(line), "serving: %s\n", status);
	return answer_line(c, MHD_HTTP_OK, line);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
	static char begun;
	struct http *h = ctx;

	(void)version;
	(void)upload;
	/* Called first when the header is there, then for each piece of a body, then to be answered. */
	if (!*state || *upload_size) {
		http_connections_asked(&h->connections, c);
		*state = &begun;
		*upload_size = 0; /* thrown away */
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_line(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET /metrics or /health\n");
	if (strcmp(url, "/metrics") == 0)
		return answer_metrics(c, h->kmmd);
	if (strcmp(url, "/health") == 0)
		return answer_health(c, h->kmmd);
	return answer_line(c, MHD_HTTP_NOT_FOUND, "there are /metrics and /health\n");
}

/* ---- the listener, on the main thread ---- */

static int http_listen(struct http *h)
{
	enum log_level level = h->complained ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR;
	sigset_t all, old;
	int fd, r = http_address_listen(&h->address, h->kmmd->options, level, &fd);

	if (r < 0)
		return r;
	/* Signals are the main loop's: its thread inherits that. SIGBUS is the guard's (shm/guard.h). */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	h->daemon = MHD_start_daemon(
		MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, on_request, h,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS_LIMIT,
		MHD_OPTION_NOTIFY_CONNECTION, http_connections_notify, &h->connections,
		MHD_OPTION_NOTIFY_COMPLETED, http_connections_answered, &h->connections,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
		MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_SECONDS, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (h->daemon)
		return 0;
	close(fd);
	if (http_address_is_path(&h->address))
		unlink(h->address.at.un.sun_path);
	return -ENOMEM;
}

static void on_retry(uv_timer_t *timer);

static void http_begin(struct http *h)
{
	int r = http_listen(h);

	if (r == 0) {
		uv_timer_stop(&h->retry);
		h->complained = 0;
		log_notice("metrics are served at %s", h->listen);
		return;
	}
	if (r != h->complained)
		log_error("[metrics] listen = %s: cannot be listened at: %s; it is tried again every "
		          "%u seconds",
		          h->listen, strerror(-r), RETRY_MS / 1000);
	h->complained = r;
	uv_timer_start(&h->retry, on_retry, RETRY_MS, 0);
}

static void on_retry(uv_timer_t *timer)
{
	http_begin(timer->data);
}

static void http_end(struct http *h)
{
	uv_timer_stop(&h->retry);
	if (h->daemon) {
		MHD_stop_daemon(h->daemon); /* joins its thread, closes its socket */
		h->daemon = NULL;
		if (http_address_is_path(&h->address))
			unlink(h->address.at.un.sun_path);
	}
	free(h->listen);
	h->listen = NULL;
	h->complained = 0;
}

static void http_configure(struct http *h)
{
	const char *want = OPTION_POINTER(h->kmmd->options, metrics_listen), *why;

	if (want && !*want)
		want = NULL;
	if (want && h->listen && strcmp(want, h->listen) == 0)
		return;
	if (h->daemon && !want)
		log_notice("metrics are not served at %s any more", h->listen);
	http_end(h);
	if (!want)
		return;
	h->listen = strdup(want);
	if (!h->listen)
		log_error("[metrics] listen = %s: out of memory: nothing is served there before the "
		          "configuration is read again",
		          want);
	/* It was checked with the other options. */
	else if (http_address_parse(&h->address, want, &why) == 0)
		http_begin(h);
}

int http_new(struct http **ret, struct kmmd *kmmd)
{
	struct http *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->kmmd = kmmd;
	http_connections_init(&h->connections);
	r = uv_timer_init(&kmmd->main->loop, &h->retry);
	if (r < 0) {
		free(h);
		return r;
	}
	h->retry.data = h;
	http_configure(h);
	*ret = h;
	return 0;
}

void http_reload(struct kmmd *kmmd)
{
	if (kmmd->http)
		http_configure(kmmd->http);
}

void http_stop(struct http *h)
{
	if (!h)
		return;
	http_end(h);
	uv_close((uv_handle_t *)&h->retry, NULL);
}

struct http *http_free(struct http *h)
{
	free(h);
	return NULL;
}
