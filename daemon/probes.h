/* SPDX-License-Identifier: MIT */
/*
 * Probes of the daemon: places where a tracer (bpftrace, perf, gdb, systemtap) may look in, without
 * the daemon knowing. man/kmmd-probes.7 lists them for users; a test compares it with the program.
 *
 * Each is one no-operation instruction and a note in the file that says where it is and where its
 * arguments are (sys/sdt.h). So arguments are values that are there anyway; nothing is computed, and no
 * clock read, for a probe alone. Two probes around something let the tracer measure the time.
 *
 * A probe is an inline function here, so that its arguments have types; where the system has no sdt.h
 * (configure says so) the functions are empty. Names and arguments are kept as options are: an argument
 * may be added at the end, what there is stays.
 */
#ifndef DAEMON_PROBES_H
#define DAEMON_PROBES_H

#include <stdint.h>
#include <sys/types.h>

#ifdef ENABLE_PROBES
#include <sys/sdt.h>
#define PROBE1(name, a) STAP_PROBE1(kmmd, name, a)
#define PROBE2(name, a, b) STAP_PROBE2(kmmd, name, a, b)
#define PROBE3(name, a, b, c) STAP_PROBE3(kmmd, name, a, b, c)
#define PROBE4(name, a, b, c, d) STAP_PROBE4(kmmd, name, a, b, c, d)
#define PROBE5(name, a, b, c, d, e) STAP_PROBE5(kmmd, name, a, b, c, d, e)
#else
#define PROBE1(name, a) ((void)(a))
#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#define PROBE5(name, a, b, c, d, e) ((void)(a), (void)(b), (void)(c), (void)(d), (void)(e))
#endif

#define PROBE_INLINE static inline __attribute__((always_inline)) void

/* ---- memory granted and given back, one by one ---- */

PROBE_INLINE probe_alloc_pages(uint32_t session, uint32_t order, uint32_t gfp, uint32_t page)
{
	PROBE4(alloc_pages, session, order, gfp, page);
}

PROBE_INLINE probe_alloc_blocks(uint32_t session, uint32_t pages, uint32_t blocks, uint32_t gfp)
{
	PROBE4(alloc_blocks, session, pages, blocks, gfp);
}

PROBE_INLINE probe_alloc_object(uint32_t session, uint32_t cache, uint32_t granule, uint32_t bytes)
{
	PROBE4(alloc_object, session, cache, granule, bytes);
}

/* For good, for want of memory; cache 0: blocks. */
PROBE_INLINE probe_alloc_fail(uint32_t session, uint32_t order, uint32_t cache, uint32_t gfp, int rc)
{
	PROBE5(alloc_fail, session, order, cache, gfp, rc);
}

PROBE_INLINE probe_free_pages(uint32_t session, uint32_t page, uint32_t order)
{
	PROBE3(free_pages, session, page, order);
}

PROBE_INLINE probe_free_object(uint32_t session, uint32_t granule)
{
	PROBE2(free_object, session, granule);
}

/* ---- magazines: what refills threads ---- */

PROBE_INLINE probe_exchange_take(uint32_t session, uint32_t cache, uint32_t order, uint32_t rounds)
{
	PROBE4(exchange_take, session, cache, order, rounds);
}

PROBE_INLINE probe_exchange_give(uint32_t session, uint32_t magazine, uint32_t accepted,
                                 uint32_t listed)
{
	PROBE4(exchange_give, session, magazine, accepted, listed);
}

/* ---- calls ---- */

PROBE_INLINE probe_request(uint32_t session, uint32_t method, uint32_t uid)
{
	PROBE3(request, session, method, uid);
}

PROBE_INLINE probe_refuse(uint32_t session, uint32_t method, uint32_t uid, int errno_value,
                          const char *text)
{
	PROBE5(refuse, session, method, uid, errno_value, text);
}

/* ---- waiting ---- */

PROBE_INLINE probe_park(uint32_t session, uint32_t order, uint32_t cache, uint32_t gfp)
{
	PROBE4(park, session, order, cache, gfp);
}

PROBE_INLINE probe_unpark(uint32_t session, uint32_t order, uint32_t cache, int rc)
{
	PROBE4(unpark, session, order, cache, rc);
}

/* why: enum reclaim_why */
PROBE_INLINE probe_reclaim_begin(uint32_t why)
{
	PROBE1(reclaim_begin, why);
}

PROBE_INLINE probe_reclaim_end(uint32_t why, uint64_t pages, uint64_t objects)
{
	PROBE3(reclaim_end, why, pages, objects);
}

/* ---- sessions ---- */

PROBE_INLINE probe_session_open(uint32_t session, uint32_t uid, pid_t pid, const char *name)
{
	PROBE4(session_open, session, uid, pid, name);
}

/* died: its process ended, or was ended */
PROBE_INLINE probe_session_close(uint32_t session, uint32_t uid, pid_t pid, int died)
{
	PROBE4(session_close, session, uid, pid, died);
}

PROBE_INLINE probe_sweep_begin(uint32_t session, int64_t charged)
{
	PROBE2(sweep_begin, session, charged);
}

PROBE_INLINE probe_sweep_end(uint32_t session, uint64_t pages, uint64_t objects, uint64_t ns)
{
	PROBE4(sweep_end, session, pages, objects, ns);
}

/* ---- a pool taken over ---- */

PROBE_INLINE probe_recover_begin(uint64_t epoch, uint64_t frames)
{
	PROBE2(recover_begin, epoch, frames);
}

PROBE_INLINE probe_recover_end(uint64_t epoch, uint64_t pages, uint64_t objects)
{
	PROBE3(recover_end, epoch, pages, objects);
}

#endif
