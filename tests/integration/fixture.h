/* SPDX-License-Identifier: MIT */
/*
 * The usual scene of a test program: a daemon, the test's own session and two peers. At its end all is
 * as it was at the start, which each test thereby asserts: nothing is out, all memory is free zone by
 * zone, fsck has no finding.
 *
 * The peers are a and b, unless the program calls them otherwise before it includes this; one that needs
 * only the first starts only that.
 */
#ifndef TESTS_INTEGRATION_FIXTURE_H
#define TESTS_INTEGRATION_FIXTURE_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/integration/objects.h"

#ifndef FIXTURE_A
#define FIXTURE_A a
#define FIXTURE_B b
#endif

static struct daemon d;
static struct kmm *k;
static struct peer FIXTURE_A, FIXTURE_B;
static char *zones_at_start;
static uint64_t free_at_start;

static inline void fixture_note_memory(void)
{
	zones_at_start = daemon_zone_frames(&d);
	free_at_start = daemon_free_pages(&d);
}

/* The daemon serves already. */
static inline void fixture_begin(void)
{
	fixture_note_memory();
	peer_start(&FIXTURE_A, &d);
	peer_start(&FIXTURE_B, &d);
	k = session_start(&d);
}

static inline void fixture_setup(void)
{
	daemon_start(&d, NULL);
	fixture_begin();
}

static inline void fixture_setup_configured(const char *text, const char *const args[])
{
	daemon_start_configured(&d, text, args);
	fixture_begin();
}

static inline void fixture_setup_supervised(void)
{
	daemon_start_supervised(&d, NULL);
	fixture_begin();
}

static inline bool fixture_zones_are_as_at_start(void)
{
	char *zones = daemon_zone_frames(&d);
	bool same = strcmp(zones, zones_at_start) == 0;

	free(zones);
	return same;
}

/* Peers that a test killed or stopped are none any more. */
static inline void fixture_teardown(void)
{
	if (FIXTURE_A.pid)
		peer_stop(&FIXTURE_A);
	if (FIXTURE_B.pid)
		peer_stop(&FIXTURE_B);
	ck_assert_int_eq(kmm_close(k), 0);
	wait_until(daemon_count_sessions(&d) == 0);
	ck_assert_uint_eq(daemon_objects_active(&d), 0);
	wait_until(fixture_zones_are_as_at_start());
	free(zones_at_start);
	ck_assert(daemon_is_clean(&d));
	ck_assert_int_eq(daemon_stop(&d), 0);
}

/* A case of tests that begin so, and end as above. */
static inline TCase *fixture_case(Suite *s, const char *name, void (*setup)(void))
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, setup, fixture_teardown);
	suite_add_tcase(s, t);
	return t;
}

/* Its tests may take two minutes each on a busy machine. */
static inline TCase *fixture_case_long(Suite *s, const char *name, void (*setup)(void))
{
	TCase *t = fixture_case(s, name, setup);

	tcase_set_timeout(t, 120);
	return t;
}

/* Nothing is cached in a thread of the three: what is active is what they hold. */
static inline void fixture_flush(void)
{
	ck_assert_int_eq(kmm_flush(k), 0);
	ck_assert_int_eq(peer_do(&FIXTURE_A, PEER_FLUSH, 0, 0, 0), 0);
	ck_assert_int_eq(peer_do(&FIXTURE_B, PEER_FLUSH, 0, 0, 0), 0);
}

/* The daemon is killed, and the supervisor's next one serves. */
static inline void fixture_restart(void)
{
	pid_t old = daemon_kill(&d);

	wait_until(daemon_serving_pid(&d) > 0 && daemon_serving_pid(&d) != old);
	daemon_wait_serving(&d);
	ck_assert(daemon_is_clean(&d));
}

#endif
