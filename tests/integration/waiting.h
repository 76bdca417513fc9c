/* SPDX-License-Identifier: MIT */
/*
 * What tests of waiting share: a rich peer takes all that there is, a poor one asks and is parked, as
 * kmmctl tells, and then memory comes in one of the ways there are.
 */
#ifndef TESTS_INTEGRATION_WAITING_H
#define TESTS_INTEGRATION_WAITING_H

#define FIXTURE_A rich
#define FIXTURE_B poor
#include "tests/integration/fixture.h"

/* A request that may not wait does not see what other reactors' per-CPU lists hold; one that parks has
 * them drained. So the rich one takes by that command, and lists are drained, until nothing is left. */
static inline int64_t take_by(unsigned op, uint64_t arg0, uint64_t arg1, uint64_t arg2)
{
	int64_t n = 0, before;

	do {
		before = n;
		n = peer_do(&rich, op, arg0, arg1, arg2);
		if (n < 0)
			n = before;
		free(daemon_zone_frames(&d)); /* drops caches first */
	} while (n > before);
	return n;
}

static inline bool is_parked(const struct peer *p)
{
	return daemon_session_number(&d, p->session, "parked") == 1;
}

/* That command waits now. */
static inline void park_by(struct peer *p, unsigned op, uint64_t arg0, uint64_t arg1)
{
	peer_begin(p, op, arg0, arg1, 0);
	wait_until(is_parked(p));
	ck_assert(!peer_has_answered(p));
}

/* Threads of the test's own session wait, and somebody cancels them. */
static inline void cancel_when_parked(int threads)
{
	wait_until(daemon_session_number(&d, kmm_session_id(k), "parked") == threads);
	ck_assert_int_eq(kmm_cancel(k), 0);
}

static inline void pressure_seen(struct kmm *session, enum kmm_event event, void *arg)
{
	(void)session;
	if (event == KMM_EVENT_PRESSURE)
		__atomic_fetch_add((int *)arg, 1, __ATOMIC_SEQ_CST);
}

#endif
