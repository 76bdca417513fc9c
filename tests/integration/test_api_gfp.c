/* SPDX-License-Identifier: MIT */
/*
 * Every GFP flag through a real daemon, and what it changes (the table in libkmm(3)).
 *
 * Reserves and waiting are shown in zone DMA, which one request flag names and whose numbers zoneinfo
 * tells: 4096 frames, watermark min, and no other zone to fall back to. `hoard` takes it down to the
 * mark that a kind of request may reach.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIXTURE_A rich
#define FIXTURE_B poor
#include "tests/integration/fixture.h"

#define DMA KMM_GFP_DMA
#define DMA_FRAMES 4096u

static struct kmm_page *page[2 * DMA_FRAMES];
static size_t nr;
static char log_path[96];

/* One reactor: no other's per-CPU lists are in the way. Its log goes to a file. */
static void setup_with(const char *config)
{
	int saved = dup(STDERR_FILENO), log;

	daemon_prepare(&d);
	daemon_configure(&d, config);
	snprintf(log_path, sizeof(log_path), "%s.log", d.dir);
	ck_assert_int_ge(saved, 0);
	log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	ck_assert_int_ge(log, 0);
	ck_assert_int_eq(dup2(log, STDERR_FILENO), STDERR_FILENO);
	close(log);
	daemon_launch(&d, (const char *const[]){ "--config", d.config, "--pool-size", "64M", "--backing",
						 "4k", "--reactors", "1", NULL });
	ck_assert_int_eq(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	close(saved);
	fixture_begin();
	nr = 0;
}

static void setup(void)
{
	setup_with("");
}

static void setup_quota(void)
{
	setup_with("[limits]\npages = 64\n");
}

static void teardown(void)
{
	fixture_teardown();
	unlink(log_path);
}

static unsigned count_lines(const char *text)
{
	return daemon_said(&d, log_path, text);
}

/* A number of zone DMA in zoneinfo. */
static uint64_t zone_number(const char *name)
{
	char *out, *at, want[40];
	uint64_t value;

	ck_assert_int_eq(daemon_ctl(&d, &out, (const char *const[]){ "zoneinfo", NULL }), 0);
	snprintf(want, sizeof(want), "\n        %-9s", name);
	at = strstr(out, want);
	if (!at) {
		snprintf(want, sizeof(want), "\n  pages %-9s", name);
		at = strstr(out, want);
	}
	ck_assert_ptr_nonnull(at);
	value = strtoull(at + strlen(want), NULL, 10);
	free(out);
	return value;
}

/* Until it fails; how far down that is. */
static uint64_t hoard(kmm_gfp_t gfp)
{
	for (;;) {
		struct kmm_page *p = kmm_alloc_pages(k, gfp | DMA, 0);

		if (!p)
			break;
		ck_assert_uint_lt(kmm_page_to_pfn(k, p), DMA_FRAMES);
		page[nr++] = p;
	}
	ck_assert_int_eq(errno, ENOMEM);
	return zone_number("free");
}

static void release_all(void)
{
	while (nr > 0)
		ck_assert_int_eq(kmm_free_pages(k, page[--nr], 0), 0);
}

/* ---- reserves: HIGH, ATOMIC, NOMEMALLOC ---- */

START_TEST(how_deep_each_reaches)
{
	uint64_t min = zone_number("min");

	ck_assert_uint_gt(min, 8);
	/* the mark itself for who has nothing special, waits or not */
	ck_assert_uint_eq(hoard(KMM_GFP_KERNEL | KMM_GFP_NORETRY), min);
	ck_assert_uint_eq(hoard(KMM_GFP_NOWAIT), min);
	/* half of it for __GFP_HIGH that could wait, or that is told to spare the reserve */
	ck_assert_uint_eq(hoard(KMM_GFP_KERNEL | KMM_GFP_HIGH | KMM_GFP_NORETRY), min - min / 2);
	ck_assert_uint_eq(hoard(KMM_GFP_ATOMIC | KMM_GFP_NOMEMALLOC), min - min / 2);
	/* three eighths for __GFP_HIGH that cannot */
	ck_assert_uint_eq(hoard(KMM_GFP_ATOMIC), min - min / 2 - (min - min / 2) / 4);
	/* to the last frame for nobody from outside */
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_ATOMIC | KMM_GFP_MEMALLOC | DMA, 0));
	ck_assert_int_eq(errno, EPERM);
	release_all();
}
END_TEST

/* ---- waiting: DIRECT_RECLAIM, NORETRY, RETRY_MAYFAIL, NOFAIL ---- */

static void *free_one_when_parked(void *arg)
{
	(void)arg;
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == 1);
	must(kmm_free_pages(k, page[--nr], 0) == 0);
	return NULL;
}

static void *cancel_when_parked(void *arg)
{
	(void)arg;
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == 1);
	must(kmm_cancel(k) == 0);
	return NULL;
}

static struct kmm_page *alloc_while(void *(*other)(void *), kmm_gfp_t gfp)
{
	struct kmm_page *p;
	pthread_t thread;
	int e;

	ck_assert_int_eq(pthread_create(&thread, NULL, other, NULL), 0);
	p = kmm_alloc_pages(k, gfp | DMA, 0);
	e = errno;
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	errno = e;
	return p;
}

START_TEST(who_waits)
{
	static const kmm_gfp_t waits[] = { KMM_GFP_KERNEL,
		                           KMM_GFP_NOIO,
		                           KMM_GFP_NOFS,
		                           KMM_GFP_USER,
		                           KMM_GFP_DIRECT_RECLAIM,
		                           KMM_GFP_KERNEL | KMM_GFP_HIGH,
		                           KMM_GFP_KERNEL | KMM_GFP_NOFAIL,
		                           KMM_GFP_KERNEL | KMM_GFP_NOFAIL | KMM_GFP_NORETRY };
	static const kmm_gfp_t does_not[] = { 0,
		                              KMM_GFP_NOWAIT,
		                              KMM_GFP_ATOMIC,
		                              KMM_GFP_NOWAIT | KMM_GFP_NOFAIL,
		                              KMM_GFP_NOWAIT | KMM_GFP_RETRY_MAYFAIL,
		                              KMM_GFP_IO | KMM_GFP_FS,
		                              KMM_GFP_KERNEL | KMM_GFP_NORETRY };
	struct kmm_page *p;

	hoard(KMM_GFP_ATOMIC);
	for (size_t i = 0; i < sizeof(does_not) / sizeof(does_not[0]); i++) {
		errno = 0;
		ck_assert_ptr_null(kmm_alloc_pages(k, does_not[i] | DMA, 0));
		ck_assert_int_eq(errno, ENOMEM);
	}
	release_all();
	hoard(KMM_GFP_NOWAIT);
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		if (waits[i] & KMM_GFP_HIGH)
			hoard(KMM_GFP_KERNEL | KMM_GFP_HIGH | KMM_GFP_NORETRY);
		p = alloc_while(free_one_when_parked, waits[i]);
		ck_assert_ptr_nonnull(p);
		page[nr++] = p;
		if (waits[i] & KMM_GFP_HIGH) {
			release_all();
			hoard(KMM_GFP_NOWAIT);
		}
	}
	ck_assert_uint_gt(daemon_counter(&d, "allocstall_dma"), 0);
	release_all();
}
END_TEST

/* A deadline ends every wait but that of NOFAIL; a cancel ends that, too. */
START_TEST(how_waits_end)
{
	hoard(KMM_GFP_NOWAIT);
	ck_assert_int_eq(kmm_set_timeout(k, 60), 0);
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | DMA, 0));
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_ptr_null(alloc_while(cancel_when_parked, KMM_GFP_KERNEL | KMM_GFP_NOFAIL));
	ck_assert_int_eq(errno, ECANCELED);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	/* may fail: not before reclaim got nowhere for a while, and with another error */
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_RETRY_MAYFAIL | DMA, 0));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_nonnull(strstr(kmm_error_text(), "RETRY_MAYFAIL"));
	release_all();
}
END_TEST

/* NOFAIL past the deadline of the session: one that came after it has met its own. */
static void *free_one_late(void *arg)
{
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == 1);
	/* on a busy machine this thread's first call may spend its time on connecting */
	do
		must(!kmm_alloc_pages(k, KMM_GFP_KERNEL | DMA, 0));
	while (errno == EAGAIN);
	must(errno == ETIMEDOUT);
	return free_one_when_parked(arg);
}

START_TEST(nofail_has_no_deadline)
{
	struct kmm_page *p;

	hoard(KMM_GFP_NOWAIT);
	ck_assert_int_eq(kmm_set_timeout(k, 50), 0);
	p = alloc_while(free_one_late, KMM_GFP_KERNEL | KMM_GFP_NOFAIL);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	page[nr++] = p;
	release_all();
}
END_TEST

/* Late: the one that waits has met the quota by then, too. */
static void *give_back_one(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 100; i++)
		must(!kmm_alloc_pages(k, KMM_GFP_KERNEL | DMA, 0) && errno == EDQUOT);
	must(kmm_free_pages(k, page[--nr], 0) == 0);
	return NULL;
}

/* Nor does a quota make it fail: it waits until the session gives something back. */
START_TEST(nofail_and_a_quota)
{
	struct kmm_page *p;
	char text[512];

	while ((p = kmm_alloc_pages(k, KMM_GFP_KERNEL | DMA, 0)) != NULL)
		page[nr++] = p;
	ck_assert_int_eq(errno, EDQUOT);
	ck_assert_uint_eq(nr, 64);
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_LOCAL, 10));
	snprintf(text, sizeof(text), "%s", kmm_error_text());
	ck_assert_ptr_null(strstr(text, "quota"));
	p = alloc_while(give_back_one, KMM_GFP_KERNEL | KMM_GFP_NOFAIL);
	ck_assert_ptr_nonnull(p);
	ck_assert_str_eq(kmm_error_text(), text); /* that it met the quota was got over */
	page[nr++] = p;
	release_all();
}
END_TEST

/* ---- zones and types ---- */

static uint64_t pfn_of(kmm_gfp_t gfp, unsigned int order)
{
	struct kmm_page *p = kmm_alloc_pages(k, gfp, order);
	uint64_t pfn;

	ck_assert_ptr_nonnull(p);
	pfn = kmm_page_to_pfn(k, p);
	ck_assert_int_eq(kmm_free_pages(k, p, order), 0);
	return pfn;
}

START_TEST(zones)
{
	for (unsigned order = 0; order <= 10; order++) {
		ck_assert_uint_lt(pfn_of(KMM_GFP_KERNEL | DMA, order), DMA_FRAMES);
		ck_assert_uint_lt(pfn_of(KMM_GFP_ATOMIC | DMA, order), DMA_FRAMES);
		ck_assert_uint_lt(pfn_of(KMM_GFP_KERNEL | DMA | KMM_GFP_MOVABLE, order), DMA_FRAMES);
		/* its address fits 32 bits, as all of this pool do */
		ck_assert_uint_lt(pfn_of(KMM_GFP_KERNEL | KMM_GFP_DMA32, order), UINT32_MAX >> 12);
		pfn_of(KMM_GFP_KERNEL | KMM_GFP_MOVABLE, order);
		pfn_of(KMM_GFP_KERNEL | KMM_GFP_RECLAIMABLE, order);
	}
	for (kmm_gfp_t zone = 0; zone < 8; zone++) {
		kmm_gfp_t gfp = (zone & 1 ? KMM_GFP_DMA : 0) | (zone & 2 ? KMM_GFP_DMA32 : 0) |
				(zone & 4 ? KMM_GFP_HIGHMEM : 0);

		if (__builtin_popcount(zone) < 2)
			continue;
		errno = 0;
		ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | gfp, 0));
		ck_assert_int_eq(errno, EINVAL);
	}
	errno = 0;
	ck_assert_ptr_null(kmm_alloc_pages(
		k, KMM_GFP_KERNEL | KMM_GFP_MOVABLE | KMM_GFP_RECLAIMABLE, 0));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* High memory has no address until it is mapped; MOVABLE alone has one. */
START_TEST(high_memory)
{
	struct kmm_page *p = kmm_alloc_pages(k, KMM_GFP_HIGHUSER_MOVABLE, 0), *q;

	ck_assert_ptr_nonnull(p);
	ck_assert_ptr_null(kmm_page_address(k, p));
	ck_assert_int_eq(errno, ENOTSUP);
	ck_assert_ptr_nonnull(kmm_kmap(k, p));
	ck_assert_int_eq(kmm_kunmap(k, p), 0);
	q = kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_MOVABLE, 0);
	ck_assert_ptr_nonnull(q);
	ck_assert_ptr_nonnull(kmm_page_address(k, q));
	ck_assert_int_eq(kmm_free_pages(k, p, 0), 0);
	ck_assert_int_eq(kmm_free_pages(k, q, 0), 0);
}
END_TEST

START_TEST(kmalloc_families)
{
	void *dma = kmm_kmalloc(k, 100, KMM_GFP_KERNEL | DMA);
	void *rcl = kmm_kmalloc(k, 100, KMM_GFP_KERNEL | KMM_GFP_RECLAIMABLE);
	void *plain = kmm_kmalloc(k, 100, KMM_GFP_KERNEL);
	void *account = kmm_kmalloc(k, 100, KMM_GFP_KERNEL | KMM_GFP_ACCOUNT);

	ck_assert(dma && rcl && plain && account);
	ck_assert_uint_lt(kmm_page_to_pfn(k, kmm_virt_to_page(k, dma)), DMA_FRAMES);
	ck_assert_uint_gt(daemon_cache_active(&d, "dma-kmalloc-128"), 0);
	ck_assert_uint_gt(daemon_cache_active(&d, "kmalloc-rcl-128"), 0);
	ck_assert_uint_gt(daemon_cache_active(&d, "kmalloc-128"), 0);
	ck_assert_int_eq(kmm_kfree(k, dma), 0);
	ck_assert_int_eq(kmm_kfree(k, rcl), 0);
	ck_assert_int_eq(kmm_kfree(k, plain), 0);
	ck_assert_int_eq(kmm_kfree(k, account), 0);
}
END_TEST

/* ---- what is done to the memory: ZERO, COMP; what changes nothing: WRITE, HARDWALL, ACCOUNT ---- */

START_TEST(zeroed)
{
	static const kmm_gfp_t zone[] = { 0, KMM_GFP_DMA, KMM_GFP_MOVABLE, KMM_GFP_HIGHMEM };

	for (size_t z = 0; z < 4; z++)
		for (unsigned order = 0; order < 4; order += 3)
			for (int round = 0; round < 3; round++) {
				struct kmm_page *p = kmm_alloc_pages(
					k, KMM_GFP_KERNEL | KMM_GFP_ZERO | zone[z], order);
				uint8_t *at;

				ck_assert_ptr_nonnull(p);
				for (unsigned i = 0; i < 1u << order; i++) {
					at = kmm_kmap(k, p + i);
					ck_assert_ptr_nonnull(at);
					for (size_t b = 0; b < KMM_PAGE_SIZE; b += 8)
						if (*(uint64_t *)(at + b))
							ck_abort_msg("byte %zu is not zero", b);
					memset(at, 0xa5, KMM_PAGE_SIZE);
					ck_assert_int_eq(kmm_kunmap(k, p + i), 0);
				}
				ck_assert_int_eq(kmm_free_pages(k, p, order), 0);
			}
}
END_TEST

/* Every block knows its head and order, with __GFP_COMP or without. */
START_TEST(compound)
{
	for (int comp = 0; comp < 2; comp++) {
		kmm_gfp_t gfp = KMM_GFP_KERNEL | (comp ? KMM_GFP_COMP : 0);
		uint8_t *p = kmm_get_free_pages(k, gfp, 3);

		ck_assert_ptr_nonnull(p);
		ck_assert_int_eq(kmm_page_order(k, kmm_virt_to_page(k, p)), 3);
		/* a tail is no block of its own */
		ck_assert_int_eq(kmm_free_page_addr(k, p + KMM_PAGE_SIZE, 0), -EINVAL);
		ck_assert_int_eq(kmm_free_page_addr(k, p, 3), 0);
	}
}
END_TEST

START_TEST(without_effect)
{
	static const kmm_gfp_t hint[] = { KMM_GFP_WRITE, KMM_GFP_HARDWALL, KMM_GFP_ACCOUNT, KMM_GFP_FS,
		                          KMM_GFP_KSWAPD_RECLAIM };

	for (size_t i = 0; i < sizeof(hint) / sizeof(hint[0]); i++) {
		struct kmm_page *p = kmm_alloc_pages(k, KMM_GFP_KERNEL | hint[i] | DMA, 0);

		ck_assert_ptr_nonnull(p);
		/* charged to the session, as every block is */
		ck_assert_int_eq(daemon_session_number(&d, kmm_session_id(k), "granted"), 1);
		ck_assert_int_eq(kmm_free_pages(k, p, 0), 0);
	}
}
END_TEST

/* LOCAL: what the thread caches, and nobody is asked. */
START_TEST(local)
{
	struct kmm_page *p;

	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_LOCAL, 2));
	ck_assert_int_eq(errno, ENOMEM);
	p = kmm_alloc_pages(k, KMM_GFP_KERNEL, 2);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(kmm_free_pages(k, p, 2), 0);
	p = kmm_alloc_pages(k, KMM_GFP_LOCAL, 2);
	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(kmm_free_pages(k, p, 2), 0);
}
END_TEST

/* ---- NOWARN ---- */

START_TEST(failures_are_logged)
{
	hoard(KMM_GFP_NOWAIT);
	ck_assert_uint_eq(count_lines("page allocation"), 0);
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_NORETRY | KMM_GFP_NOWARN | DMA, 0));
	ck_assert_uint_eq(count_lines("page allocation"), 0);
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | KMM_GFP_NORETRY | DMA, 3));
	wait_until(count_lines("page allocation failure: order:3, mode:0x10cc1("
	                       "GFP_KERNEL|GFP_DMA|__GFP_NORETRY)") == 1);
	ck_assert_int_eq(kmm_set_timeout(k, 20), 0);
	ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KERNEL | DMA, 0));
	ck_assert_int_eq(errno, ETIMEDOUT);
	ck_assert_int_eq(kmm_set_timeout(k, 0), 0);
	wait_until(count_lines("page allocation stall: order:0") == 1);
	/* however often it fails, the log does not grow without bound */
	for (int i = 0; i < 300; i++)
		ck_assert_ptr_null(kmm_alloc_pages(k, KMM_GFP_KSWAPD_RECLAIM | DMA, 3));
	ck_assert_uint_lt(count_lines("page allocation"), 100);
	release_all();
}
END_TEST

/* ---- KSWAPD_RECLAIM ---- */

/* What depots keep goes back in the background when memory is low, though nobody waits. */
START_TEST(background_reclaim)
{
	uint64_t runs = daemon_counter(&d, "pageoutrun");

	ck_assert_int_gt(peer_do(&rich, PEER_EXHAUST, KMM_GFP_NOWAIT, 0, 0), 0);
	ck_assert_int_eq(peer_do(&poor, PEER_ALLOC, KMM_GFP_NOWAIT, 0, 0), -ENOMEM);
	wait_until(daemon_counter(&d, "pageoutrun") > runs);
	ck_assert_uint_eq(daemon_counter(&d, "allocstall_normal"), 0);
}
END_TEST

/* ---- machine addresses ---- */

/* Bytes that the daemon has locked. */
static uint64_t locked(void)
{
	char path[64], line[256];
	unsigned long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)daemon_serving_pid(&d));
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "VmLck: %lu", &kb) != 1)
		;
	fclose(f);
	return kb * 1024;
}

/* Zone DMA stays in memory; where the daemon may not lock so much it says so. */
START_TEST(zone_dma_is_resident)
{
	if (count_lines("zone DMA is not locked in memory"))
		ck_assert(geteuid() != 0 || daemon_is_service());
	else
		ck_assert_uint_ge(locked(), DMA_FRAMES * KMM_PAGE_SIZE);
}
END_TEST

START_TEST(machine_address)
{
	uint8_t *p = kmm_get_free_pages(k, KMM_GFP_KERNEL | DMA, 1);
	uint64_t a = 0, b = 0;
	int r, status;
	pid_t pid;

	ck_assert_ptr_nonnull(p);
	r = kmm_dma_address(k, p, &a);
	if (r == 0) {
		ck_assert_uint_ne(a, 0);
		ck_assert_uint_eq(a % KMM_PAGE_SIZE, 0);
		ck_assert_int_eq(kmm_dma_address(k, p + 123, &b), 0);
		ck_assert_uint_eq(b, a + 123);
		/* it stays there */
		memset(p, 1, KMM_PAGE_SIZE);
		ck_assert_int_eq(kmm_dma_address(k, p, &b), 0);
		ck_assert_uint_eq(b, a);
	} else {
		ck_assert_int_eq(r, -ENOTSUP);
		ck_assert_uint_gt(strlen(kmm_error_text()), 0);
		ck_assert_uint_eq(a, 0);
	}
	ck_assert_int_eq(kmm_dma_address(k, &a, &a), -EINVAL);
	ck_assert_int_eq(kmm_dma_address(k, p, NULL), -EINVAL);
	ck_assert_int_eq(kmm_free_page_addr(k, p, 1), 0);
	/* another user is not told, and learns why */
	pid = fork();
	if (pid == 0) {
		struct kmm_options o = { .size = sizeof(o), .address = d.socket };
		struct kmm *mine;
		uint8_t *q;

		if (kmm_open(&mine, &o) < 0)
			_exit(1);
		q = kmm_get_free_pages(mine, KMM_GFP_KERNEL | DMA, 0);
		if (!q || (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
			_exit(2);
		r = kmm_dma_address(mine, q, &a);
		if (r != -ENOTSUP || !strstr(kmm_error_text(), "machine addresses"))
			_exit(3);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	/* freed: nobody's */
	wait_until(daemon_count_sessions(&d) == 3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_gfp");
	TCase *t = tcase_create("gfp");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, how_deep_each_reaches);
	tcase_add_test(t, who_waits);
	tcase_add_test(t, how_waits_end);
	tcase_add_test(t, nofail_has_no_deadline);
	tcase_add_test(t, zones);
	tcase_add_test(t, high_memory);
	tcase_add_test(t, kmalloc_families);
	tcase_add_test(t, zeroed);
	tcase_add_test(t, compound);
	tcase_add_test(t, without_effect);
	tcase_add_test(t, local);
	tcase_add_test(t, failures_are_logged);
	tcase_add_test(t, background_reclaim);
	tcase_add_test(t, zone_dma_is_resident);
	tcase_add_test(t, machine_address);
	suite_add_tcase(s, t);
	t = tcase_create("quota");
	tcase_add_checked_fixture(t, setup_quota, teardown);
	tcase_add_test(t, nofail_and_a_quota);
	suite_add_tcase(s, t);
	return suite_run(s);
}
