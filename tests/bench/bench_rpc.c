/* SPDX-License-Identifier: MIT */
/*
 * Calls against a bare libuv echo server of the same frame sizes, both on one core.
 *
 *     bench_rpc SOCKET [CPU]
 *
 * The echo server (a child) reads with recv on a uv_poll_t and answers each request's worth of
 * bytes with a reply's worth, in one send an iteration: what no server on libuv can beat. Rows,
 * interleaved round by round:
 *   round trip      p50 of one request at a time: echo, AllocPages through libkmm
 *   2 MiB block     p50 of kmm_alloc_pages + kmm_free_pages past all caches (DMA32)
 *   32 in flight    requests a second, one write a batch: echo; AllocPages and FreePages frames
 */
#include <errno.h>
#include <kmm/kmm.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <uv.h>

#include "tests/bench/raw.h"

#define TRIPS 4096
#define BATCH 32
#define BATCHES 2000
#define BLOCK_ORDER 5 /* an order that no thread caches */

static void fail(const char *what)
{
	fprintf(stderr, "bench_rpc: %s: %s (%s)\n", what, strerror(errno), kmm_error_text());
	exit(1);
}

/* ---- the echo server ---- */

static size_t request_size, reply_size;

static void echo_ready(uv_poll_t *poll, int status, int events)
{
	static uint8_t in[65536], out[65536];
	static size_t have;
	int fd;

	(void)events;
	if (status < 0 || uv_fileno((uv_handle_t *)poll, &fd) != 0)
		_exit(1);
	ssize_t n = recv(fd, in, sizeof(in), MSG_DONTWAIT);

	if (n <= 0)
		_exit(0);
	have += (size_t)n;
	size_t answers = have / request_size;

	have %= request_size;
	if (answers && send(fd, out, answers * reply_size, MSG_NOSIGNAL) < 0)
		_exit(1);
}

static int echo_start(int cpu)
{
	int pair[2];
	uv_loop_t loop;
	uv_poll_t poll;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		fail("socketpair");
	if (fork() != 0) {
		close(pair[1]);
		return pair[0];
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(pair[0]);
	bench_pin(cpu);
	uv_loop_init(&loop);
	uv_poll_init(&loop, &poll, pair[1]);
	uv_poll_start(&poll, UV_READABLE, echo_ready);
	uv_run(&loop, UV_RUN_DEFAULT);
	_exit(0);
}

static double echo_p50_ns(int fd)
{
	static double t[TRIPS];
	uint8_t buf[4096] = { 0 };

	for (int i = 0; i < TRIPS; i++) {
		double start = bench_now_ns();

		raw_send(fd, buf, request_size);
		raw_receive(fd, buf, reply_size);
		t[i] = bench_now_ns() - start;
	}
	return bench_median(t, TRIPS);
}

static double echo_rate(int fd)
{
	static uint8_t out[BATCH * 256], in[BATCH * 256];
	double start = bench_now_ns();

	for (int i = 0; i < BATCHES; i++) {
		raw_send(fd, out, BATCH * request_size);
		raw_receive(fd, in, BATCH * reply_size);
	}
	return BATCH * (double)BATCHES / (bench_now_ns() - start) * 1e9;
}

/* ---- the daemon, as bare frames ---- */

/* What a client does between AllocPages and FreePages, without using the block: OFFERED to HELD to
 * RETURNED. */
static uint64_t raw_claim_and_return(struct raw *r, uint32_t pfn)
{
	owner_word_t *word = &r->control.word[pfn];
	uint64_t w = owner_load(word);

	if (!owner_is(w, OWNER_OFFERED, r->session) ||
	    !owner_cas(word, &w, owner_moved(w, OWNER_HELD, r->session)))
		fail("claim");
	w = owner_load(word);
	if (!owner_cas(word, &w, owner_moved(w, OWNER_RETURNED, r->session)))
		fail("return");
	return owner_generation(w);
}

/* One batch of n allocations, then n frees. */
static void raw_batch(struct raw *r, unsigned int order, int n)
{
	static uint8_t out[BATCH * 128], in[BATCH * 256];
	uint32_t pfn[BATCH];
	size_t size = 0;
	kmm_v1_AllocPagesRequest request = { .gfp = KMM_GFP_KERNEL, .order = order };

	for (int i = 0; i < n; i++)
		size += raw_put_frame(out + size, (uint32_t)i + 1, kmm_v1_Method_ALLOCATOR_ALLOC_PAGES,
		                      kmm_v1_AllocPagesRequest_fields, &request);
	raw_send(r->fd, out, size);

	size_t have = 0, at = 0;

	for (int i = 0; i < n;) {
		ssize_t got = recv(r->fd, in + have, sizeof(in) - have, 0);
		struct frame f;
		const char *why;

		if (got <= 0)
			fail("recv");
		have += (size_t)got;
		while (i < n && frame_decode(&f, in + at, have - at, &why) == 0 &&
		       have - at >= FRAME_HEADER_SIZE + f.length) {
			kmm_v1_AllocPagesReply reply = kmm_v1_AllocPagesReply_init_zero;
			pb_istream_t s = pb_istream_from_buffer(in + at + FRAME_HEADER_SIZE, f.length);

			if (f.code != STATUS_OK || !pb_decode(&s, kmm_v1_AllocPagesReply_fields, &reply))
				fail("AllocPages");
			pfn[i++] = reply.pfn;
			at += FRAME_HEADER_SIZE + f.length;
		}
	}
	size = 0;
	for (int i = 0; i < n; i++) {
		kmm_v1_FreePagesRequest give = {
			.pfn = pfn[i],
			.order = order,
			.generation = raw_claim_and_return(r, pfn[i]),
		};

		size += raw_put_frame(out + size, (uint32_t)i + 1, kmm_v1_Method_ALLOCATOR_FREE_PAGES,
		                      kmm_v1_FreePagesRequest_fields, &give);
	}
	raw_send(r->fd, out, size);
	raw_receive(r->fd, in, (size_t)n * FRAME_HEADER_SIZE); /* empty replies */
}

static double raw_rate(struct raw *r)
{
	double start = bench_now_ns();

	for (int i = 0; i < BATCHES / 2; i++)
		raw_batch(r, BLOCK_ORDER, BATCH);
	return BATCH * (double)BATCHES / (bench_now_ns() - start) * 1e9;
}

/* Allocations alone: the frees, which nobody waits for, come in between, and one untimed call lets
 * the daemon finish them. */
static double alloc_p50_ns(struct kmm *k)
{
	static double t[TRIPS];
	struct kmm_page *page[BATCH + 1];

	for (int i = 0; i < TRIPS; i += BATCH) {
		page[BATCH] = kmm_alloc_pages(k, KMM_GFP_KERNEL, BLOCK_ORDER);
		for (int j = 0; j < BATCH; j++) {
			double start = bench_now_ns();

			page[j] = kmm_alloc_pages(k, KMM_GFP_KERNEL, BLOCK_ORDER);
			t[i + j] = bench_now_ns() - start;
		}
		for (int j = 0; j <= BATCH; j++)
			if (!page[j] || kmm_free_pages(k, page[j], BLOCK_ORDER) != 0)
				fail("pair");
	}
	return bench_median(t, TRIPS);
}

/* A 2 MiB block that no cache gives or takes: granted by one round trip, freed by one message. */
static double huge_pair_p50_ns(struct kmm *k)
{
	static double t[TRIPS / 2];

	for (int i = 0; i < TRIPS / 2; i++) {
		double start = bench_now_ns();
		struct kmm_page *page = kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_DMA32, 9);

		if (!page || kmm_free_pages(k, page, 9) != 0)
			fail("2 MiB");
		t[i] = bench_now_ns() - start;
	}
	return bench_median(t, TRIPS / 2);
}

int main(int argc, char *argv[])
{
	static struct bench_row row[] = {
		{ .name = "round trip, bare libuv echo, p50", .unit = "ns" },
		{ .name = "round trip, kmm_alloc_pages by the daemon, p50", .unit = "ns" },
		{ .name = "32 in flight, bare libuv echo", .unit = "req/s" },
		{ .name = "32 in flight, AllocPages and FreePages", .unit = "req/s" },
		{ .name = "2 MiB block by the daemon, granted and freed", .unit = "ns" },
	};
	struct kmm_options o = { .size = sizeof(o) };
	struct raw raw;
	struct kmm *k;
	uint8_t buf[512];

	o.address = bench_begin(argc, argv, "bench_rpc", 0);
	kmm_v1_AllocPagesRequest request = { .gfp = KMM_GFP_KERNEL, .order = BLOCK_ORDER };

	request_size = raw_put_frame(buf, 1, kmm_v1_Method_ALLOCATOR_ALLOC_PAGES,
	                             kmm_v1_AllocPagesRequest_fields, &request);
	reply_size = FRAME_HEADER_SIZE + 4; /* a pfn of three bytes and its tag */
	int echo = echo_start(argc > 2 ? atoi(argv[2]) : 0);

	if (kmm_open(&k, &o) != 0)
		fail("open");
	raw_open(&raw, argv[1], "bench_rpc");
	for (int round = 0; round < BENCH_ROUNDS; round++) {
		bench_add(&row[0], echo_p50_ns(echo));
		bench_add(&row[1], alloc_p50_ns(k));
		bench_add(&row[2], echo_rate(echo));
		bench_add(&row[3], raw_rate(&raw));
		bench_add(&row[4], huge_pair_p50_ns(k));
	}
	bench_print_all("rpc", row, sizeof(row) / sizeof(row[0]));
	kmm_close(k);
	return 0;
}
