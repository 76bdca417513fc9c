/* SPDX-License-Identifier: MIT */
/*
 * Magazines and rounds by way.
 *
 *     thread's magazines  <-- rack   counted by the thread, in its session's record (shm/control.h)
 *                         <-- depot  counted by exchange.c and exchange_object.c
 *                         <-- zones, slabs
 *
 * A thread's own allocations and frees are counted nowhere: they are a few instructions. What it was
 * given is at least what it allocated from its magazines with no more than one step in so many rounds;
 * so 1 - magazines / rounds is the least that its hit rate can be.
 *
 * What a session counted itself is added to the domain's when it is swept, with the record cleared, and
 * a sum takes what is in the records of those that are not: both under one lock, so that nothing counts
 * twice and no sum is less than one before. Members write the records: a session that writes nonsense
 * spoils these numbers, up to RECORD_MAX, and nothing else.
 */
#include "daemon/traffic.h"

#include <pthread.h>

#include "daemon/domain.h"
#include "daemon/session.h"

#define RECORD_MAX (UINT64_C(1) << 48) /* more than a session comes to in years */

/* A leaf. */
static pthread_mutex_t traffic_lock = PTHREAD_MUTEX_INITIALIZER;

struct record_count {
	_Atomic uint64_t *from;
	enum traffic_way way;
	bool rounds;
};

#define RECORD_COUNTS 4u

static void record_counts(struct control_session *c, struct record_count n[RECORD_COUNTS])
{
	n[0] = (struct record_count){ &c->rack_use.taken, TRAFFIC_OBJECTS_FROM_RACK, false };
	n[1] = (struct record_count){ &c->rack_use.taken_rounds, TRAFFIC_OBJECTS_FROM_RACK, true };
	n[2] = (struct record_count){ &c->rack_use.given, TRAFFIC_OBJECTS_TO_RACK, false };
	n[3] = (struct record_count){ &c->rack_use.given_rounds, TRAFFIC_OBJECTS_TO_RACK, true };
}

static uint64_t believed(uint64_t n)
{
	return n < RECORD_MAX ? n : RECORD_MAX;
}

void traffic_end(struct domain *d, struct control_session *c)
{
	struct record_count n[RECORD_COUNTS];
	unsigned int i;

	record_counts(c, n);
	pthread_mutex_lock(&traffic_lock);
	for (i = 0; i < RECORD_COUNTS; i++) {
		/* relaxed, all here: counters for reports */
		uint64_t had = atomic_exchange_explicit(n[i].from, 0, memory_order_relaxed);

		atomic_fetch_add_explicit(n[i].rounds ? &d->traffic.rounds[n[i].way] :
		                                        &d->traffic.magazines[n[i].way],
		                          believed(had), memory_order_relaxed);
	}
	pthread_mutex_unlock(&traffic_lock);
}

static void add_record(struct control_session *c, struct traffic_sum *sum)
{
	struct record_count n[RECORD_COUNTS];
	unsigned int i;

	record_counts(c, n);
	for (i = 0; i < RECORD_COUNTS; i++) {
		uint64_t had = believed(atomic_load_explicit(n[i].from, memory_order_relaxed));

		if (n[i].rounds)
			sum->rounds[n[i].way] += had;
		else
			sum->magazines[n[i].way] += had;
	}
}

void traffic_sum(const struct domain *d, struct traffic_sum *sum)
{
	struct session_table *t = d->kmmd->sessions;
	uint32_t id;
	unsigned int i;

	pthread_mutex_lock(&traffic_lock);
	for (i = 0; i < TRAFFIC_WAYS; i++) {
		sum->magazines[i] =
			atomic_load_explicit(&d->traffic.magazines[i], memory_order_relaxed);
		sum->rounds[i] = atomic_load_explicit(&d->traffic.rounds[i], memory_order_relaxed);
	}
	for (id = 1; id < session_table_size(t); id++) {
		const struct session *s = session_by_id(t, id);
		uint32_t state = atomic_load_explicit(&s->state, memory_order_relaxed);

		/* Of others the record is nobody's. */
		if (state == SESSION_LIVE || state == SESSION_DETACHED || state == SESSION_SWEEPING)
			add_record(s->shared, sum);
	}
	pthread_mutex_unlock(&traffic_lock);
}
