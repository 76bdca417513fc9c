/* SPDX-License-Identifier: MIT */
/*
 * A pipeline of four processes under a daemon that is killed again and again.
 *
 *      produce ──ring──> change ──ring──> copy ──ring──> consume
 *
 * The rings lie in pool memory, in a block that the producer published; they carry handles. A
 * message is an object of random size (of kmalloc, of a cache of its own, sometimes a page block)
 * with a sequence number and a checksum over all of it. `change` works in place, `copy` passes on a
 * copy and frees what it got; each adopts what it takes and checks it. The consumer demands that
 * sequence numbers come without gap and twice never, that both stages were passed, and that the
 * contents are what they must be.
 *
 * The parent kills the daemon, waits until it serves and messages arrive, and so on: KILLS times,
 * one in eight into the recovery from the kill before. At the end nothing may be live.
 *
 * KMM_TEST_KILLS sets the number.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/integration/objects.h"
#include "tests/stress/victims.h"

#define KILLS 200
#define STAGES 4
#define RING 128
#define END_OF_STREAM UINT64_MAX
#define PROGRESS 200 /* messages between two kills, at least */
#define CACHE "pipeline-message"
#define CACHED 512
#define BATCH 8

/* One writer, one reader. */
struct ring {
	_Alignas(64) _Atomic uint64_t put; /* release by the writer, acquire by the reader */
	_Alignas(64) _Atomic uint64_t got; /* release by the reader, acquire by the writer */
	_Alignas(64) uint64_t handle[RING];
};

struct message {
	uint64_t sequence;
	uint32_t size;    /* of data */
	uint32_t checksum; /* of all but itself */
	uint32_t stages;
	uint32_t cached;  /* of the cache, else kmalloc's */
	unsigned char data[];
};
#define DATA_MAX 12000u /* more than the largest class of kmalloc */

enum phase { RUNNING, STOPPING, LEAVING };

/* Between the parent and all, in ordinary shared memory. */
struct shared {
	_Atomic unsigned phase;
	_Atomic uint64_t produced, consumed, bytes;
	_Atomic unsigned ready[STAGES]; /* 1: has its session; 2: all done, nothing held */
	_Atomic uint32_t session[STAGES];
};

struct stage {
	struct kmm *k;
	struct kmm_cache *cache;
	struct shared *shared;
	struct ring *ring; /* STAGES - 1 of them, in the pool */
	unsigned seed;
};

static void nap(void)
{
	nanosleep(&(struct timespec){ 0, 50000 }, NULL);
}

/* ---- messages ---- */

/* CRC-32 (IEEE 802.3), over the bytes. */
static uint32_t crc_add(uint32_t crc, const void *bytes, size_t n)
{
	static uint32_t table[256];
	const unsigned char *b = bytes;

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;

			for (int bit = 0; bit < 8; bit++)
				c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
			table[i] = c;
		}
	for (crc = ~crc; n > 0; n--)
		crc = table[(crc ^ *b++) & 255] ^ crc >> 8;
	return ~crc;
}

static uint32_t checksum(const struct message *m)
{
	uint32_t crc = crc_add(0, &m->sequence, sizeof(m->sequence));

	must(m->size <= DATA_MAX);
	crc = crc_add(crc, &m->size, sizeof(m->size));
	crc = crc_add(crc, &m->stages, 2 * sizeof(uint32_t));
	return crc_add(crc, m->data, m->size);
}

static struct message *message_new(struct stage *s, uint32_t size)
{
	bool cached = sizeof(struct message) + size <= CACHED && rand_r(&s->seed) % 2;
	struct message *m = cached ? kmm_cache_alloc(s->cache, KMM_GFP_KERNEL)
				   : kmm_kmalloc(s->k, sizeof(*m) + size, KMM_GFP_KERNEL);

	must(m);
	m->cached = cached;
	m->size = size;
	return m;
}

static void message_free(struct stage *s, struct message *m)
{
	if (m->cached && rand_r(&s->seed) % 2)
		must(kmm_cache_free(s->cache, m) == 0);
	else
		must(kmm_kfree(s->k, m) == 0);
}

static unsigned char byte_of(uint64_t sequence, size_t i)
{
	return (unsigned char)((sequence * 0x9e3779b97f4a7c15u + i * 0x2545f4914f6cdd1du) >> 53);
}

static unsigned char key_of(uint64_t sequence)
{
	return (unsigned char)(sequence * 167 + 13);
}

/* ---- rings ---- */

static void ring_put(struct stage *s, struct ring *r, struct message *m)
{
	uint64_t put = atomic_load_explicit(&r->put, memory_order_relaxed);
	kmm_handle_t handle = END_OF_STREAM;

	if (m) {
		m->checksum = checksum(m);
		handle = kmm_handle(s->k, m);
		must(handle);
	}
	while (put - atomic_load_explicit(&r->got, memory_order_acquire) == RING)
		nap();
	r->handle[put % RING] = handle;
	atomic_store_explicit(&r->put, put + 1, memory_order_release);
}

/* Up to n messages, at least one; 0 at the end. They are this process's. */
static size_t ring_get(struct stage *s, struct ring *r, struct message *m[], size_t n)
{
	uint64_t got = atomic_load_explicit(&r->got, memory_order_relaxed), put;
	kmm_handle_t handle[BATCH];
	void *p[BATCH];
	size_t i;

	while ((put = atomic_load_explicit(&r->put, memory_order_acquire)) == got)
		nap();
	n = n < put - got ? n : put - got;
	for (i = 0; i < n && r->handle[(got + i) % RING] != END_OF_STREAM; i++)
		handle[i] = r->handle[(got + i) % RING];
	n = i;
	if (n == 1)
		must((p[0] = kmm_adopt(s->k, handle[0])) != NULL);
	else if (n > 1)
		must(kmm_adopt_bulk(s->k, n, handle, p) == n);
	for (i = 0; i < n; i++) {
		m[i] = p[i];
		must(checksum(m[i]) == m[i]->checksum);
	}
	atomic_store_explicit(&r->got, got + n, memory_order_release);
	return n;
}

/* ---- the four ---- */

static void produce(struct stage *s)
{
	for (uint64_t sequence = 1; s->shared->phase == RUNNING; sequence++) {
		unsigned bits = 4 + (unsigned)rand_r(&s->seed) % 9;
		uint32_t size = (uint32_t)rand_r(&s->seed) & ((1u << bits) - 1);
		struct message *m;

		if (rand_r(&s->seed) % 64 == 0)
			size = (uint32_t)rand_r(&s->seed) % (DATA_MAX + 1);
		m = message_new(s, size);
		m->sequence = sequence;
		m->stages = 0;
		for (uint32_t i = 0; i < size; i++)
			m->data[i] = byte_of(sequence, i);
		ring_put(s, &s->ring[0], m);
		atomic_store_explicit(&s->shared->produced, sequence, memory_order_release);
	}
	ring_put(s, &s->ring[0], NULL);
}

static void change(struct stage *s)
{
	struct message *m[BATCH];
	size_t n;

	while ((n = ring_get(s, &s->ring[0], m, 1 + (size_t)rand_r(&s->seed) % BATCH)) > 0)
		for (size_t i = 0; i < n; i++) {
			for (uint32_t j = 0; j < m[i]->size; j++)
				m[i]->data[j] ^= key_of(m[i]->sequence);
			m[i]->stages |= 1;
			ring_put(s, &s->ring[1], m[i]);
		}
	ring_put(s, &s->ring[1], NULL);
}

static void copy(struct stage *s)
{
	struct message *m[BATCH];
	size_t n;

	while ((n = ring_get(s, &s->ring[1], m, 1 + (size_t)rand_r(&s->seed) % BATCH)) > 0)
		for (size_t i = 0; i < n; i++) {
			struct message *c = message_new(s, m[i]->size);

			c->sequence = m[i]->sequence;
			c->stages = m[i]->stages | 2;
			memcpy(c->data, m[i]->data, c->size);
			message_free(s, m[i]);
			ring_put(s, &s->ring[2], c);
		}
	ring_put(s, &s->ring[2], NULL);
}

static void consume(struct stage *s)
{
	uint64_t expected = 1;
	struct message *m[BATCH];
	size_t n;

	while ((n = ring_get(s, &s->ring[2], m, 1 + (size_t)rand_r(&s->seed) % BATCH)) > 0)
		for (size_t i = 0; i < n; i++) {
			must(m[i]->sequence == expected && m[i]->stages == 3);
			for (uint32_t j = 0; j < m[i]->size; j++)
				must(m[i]->data[j] == (byte_of(expected, j) ^ key_of(expected)));
			s->shared->bytes += m[i]->size;
			message_free(s, m[i]);
			atomic_store_explicit(&s->shared->consumed, expected++,
					      memory_order_release);
		}
}

static void stage_run(const struct daemon *d, struct shared *shared, unsigned id)
{
	static void (*const run[STAGES])(struct stage *) = { produce, change, copy, consume };
	struct stage s = { .shared = shared, .seed = 4711 + id };
	size_t size = sizeof(struct ring) * (STAGES - 1);
	unsigned order = 0;

	s.k = session_start(d);
	must((s.cache = kmm_cache_create(s.k, CACHE, CACHED, 0, 0, NULL)) != NULL);
	while (KMM_PAGE_SIZE << order < size)
		order++;
	if (id == 0) {
		s.ring = kmm_get_free_pages(s.k, KMM_GFP_KERNEL | KMM_GFP_ZERO, order);
		must(s.ring && kmm_publish(s.k, "pipeline", s.ring) == 0);
	} else {
		kmm_handle_t handle = kmm_lookup(s.k, "pipeline");

		must(handle && (s.ring = kmm_get_handle(s.k, handle)) != NULL);
	}
	shared->session[id] = kmm_session_id(s.k);
	shared->ready[id] = 1;
	for (unsigned i = 0; i < STAGES; i++)
		wait_until(shared->ready[i] > 0);
	run[id](&s);
	must(kmm_flush(s.k) == 0);
	shared->ready[id] = 2;
	wait_until(shared->phase == LEAVING);
	must(kmm_session_id(s.k) == shared->session[id]);
	if (id == 0) {
		must(kmm_unpublish(s.k, "pipeline") == 0);
		must(kmm_free_page_addr(s.k, s.ring, order) == 0);
	} else {
		must(kmm_put(s.k, s.ring) == 0);
	}
	must(kmm_cache_destroy(s.cache) == 0);
	must(kmm_close(s.k) == 0);
	_exit(0);
}

/* ---- the parent ---- */

static pid_t stage[STAGES];

/* A stage ends only when something was wrong, and has said what. */
static bool stages_live(void)
{
	int status;

	for (unsigned i = 0; i < STAGES; i++)
		if (waitpid(stage[i], &status, WNOHANG) != 0) {
			fprintf(stderr, "stage %u ended with status 0x%x\n", i, status);
			exit(1);
		}
	return true;
}

static void kill_and_go_on(const struct daemon *d, struct shared *s, unsigned n, unsigned *seed)
{
	struct timespec t = { 0, (long)((unsigned)rand_r(seed) % 20000) * 1000 };
	pid_t old = daemon_kill(d);
	uint64_t from;

	wait_until(daemon_serving_pid(d) > 0 && daemon_serving_pid(d) != old);
	if (n % 8 == 7) { /* into the recovery, somewhere */
		t.tv_nsec /= 4;
		nanosleep(&t, NULL);
		return;
	}
	from = s->consumed;
	wait_until(stages_live() && s->consumed >= from + PROGRESS);
	if (n % 20 == 0) {
		daemon_wait_serving(d);
		must(daemon_is_clean(d));
	}
	nanosleep(&t, NULL); /* the moment of the next kill is random */
}

int main(void)
{
	unsigned seed = 1, kills = number_from("KMM_TEST_KILLS", KILLS);
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t before;
	struct daemon d;

	must(s != MAP_FAILED);
	daemon_start_supervised(&d, NULL);
	before = daemon_free_pages(&d);
	for (unsigned i = 0; i < STAGES; i++) {
		stage[i] = fork_child();
		if (stage[i] == 0)
			stage_run(&d, s, i);
		wait_until(s->ready[i] > 0); /* the rings are there for the next */
	}
	for (unsigned n = 0; n < kills; n++)
		kill_and_go_on(&d, s, n, &seed);
	daemon_wait_serving(&d);
	s->phase = STOPPING;
	for (unsigned i = 0; i < STAGES; i++)
		wait_until(stages_live() && s->ready[i] == 2);
	printf("%u kills, %llu messages of %llu bytes in all, %llu arrived\n", kills,
	       (unsigned long long)s->produced, (unsigned long long)s->bytes,
	       (unsigned long long)s->consumed);
	fflush(stdout);
	must(s->produced == s->consumed && s->consumed >= (uint64_t)kills * PROGRESS / 2);
	/* all messages are free; the rings are all that is left */
	must(daemon_objects_active(&d) == 0);
	must(daemon_is_clean(&d));
	for (unsigned i = 1; i < STAGES; i++)
		must(daemon_session_number(&d, s->session[i], "granted") == 0);
	s->phase = LEAVING;
	for (unsigned i = 0; i < STAGES; i++) {
		int status;

		must(waitpid(stage[i], &status, 0) == stage[i]);
		must(status == 0);
	}
	wait_until(daemon_count_sessions(&d) == 0);
	wait_until(daemon_free_pages(&d) == before);
	must(daemon_is_clean(&d));
	must(daemon_stop(&d) == 0);
	printf("1 passed, 0 failed\n");
	return 0;
}
