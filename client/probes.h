/* SPDX-License-Identifier: MIT */
/*
 * Probes of the library, as daemon/probes.h has the daemon's: one no-operation instruction each, seen
 * only by a tracer. man/kmmd-probes.7 lists them.
 *
 * They stand where a thread goes to the daemon, or what it sees of it changes: refills, gives, calls,
 * mapping, connections. Nothing on the fast paths: these are inline in programs (kmm/inline.h), a few
 * instructions long. A probe there would be a note in every program instead of one in the library, would
 * make sdt.h a need of everybody who compiles with libkmm, and its arguments would have to be kept in
 * registers at a place where there is no use for them. What the fast path does is seen by what it does
 * not do: refills, each of which stands for the rounds that it brought.
 */
#ifndef CLIENT_PROBES_H
#define CLIENT_PROBES_H

#include <stdint.h>

#ifdef ENABLE_PROBES
#include <sys/sdt.h>
#define PROBE2(name, a, b) STAP_PROBE2(kmm, name, a, b)
#define PROBE3(name, a, b, c) STAP_PROBE3(kmm, name, a, b, c)
#define PROBE4(name, a, b, c, d) STAP_PROBE4(kmm, name, a, b, c, d)
#define PROBE5(name, a, b, c, d, e) STAP_PROBE5(kmm, name, a, b, c, d, e)
#else
#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#define PROBE5(name, a, b, c, d, e) ((void)(a), (void)(b), (void)(c), (void)(d), (void)(e))
#endif

#define PROBE_INLINE static inline __attribute__((always_inline)) void

/* A thread's magazine is empty. cache 0: page blocks of that order. */
PROBE_INLINE probe_refill_begin(uint32_t session, uint32_t cache, uint32_t order, uint32_t wanted)
{
	PROBE4(refill_begin, session, cache, order, wanted);
}

/* asked: the daemon had to be asked; else it came from another thread, by the rack */
PROBE_INLINE probe_refill_end(uint32_t session, uint32_t cache, uint32_t got, int rc, int asked)
{
	PROBE5(refill_end, session, cache, got, rc, asked);
}

/* A thread gives so many away. */
PROBE_INLINE probe_give(uint32_t session, uint32_t cache, uint32_t order, uint32_t rounds)
{
	PROBE4(give, session, cache, order, rounds);
}

/* ---- calls of the daemon ---- */

PROBE_INLINE probe_call_begin(uint32_t session, uint32_t method)
{
	PROBE2(call_begin, session, method);
}

PROBE_INLINE probe_call_end(uint32_t session, uint32_t method, int rc)
{
	PROBE3(call_end, session, method, rc);
}

/* ---- the window, the connection ---- */

PROBE_INLINE probe_section_map(uint32_t session, uint32_t section, uint64_t bytes)
{
	PROBE3(section_map, session, section, bytes);
}

PROBE_INLINE probe_disconnect(uint32_t session, const char *why)
{
	PROBE2(disconnect, session, why);
}

/* ns: how long it took to be connected again */
PROBE_INLINE probe_reconnect(uint32_t session, uint64_t ns)
{
	PROBE2(reconnect, session, ns);
}

PROBE_INLINE probe_lost(uint32_t session, const char *why)
{
	PROBE2(lost, session, why);
}

#endif
