/* SPDX-License-Identifier: MIT */
/*
 * iceoryx 2.0: loan and release of a chunk, and loan, publish, take, release between two processes,
 * one at a time (a publisher may hold eight loans, so there are no larger bursts). iox-roudi runs.
 * The way to the other process is iceoryx's own queue, with back-pressure, instead of our ring.
 */
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>

#include "tests/bench/cross.h"

#define SLOW_PAIRS 200000u
#define CROSS_OBJECTS 50000u

static struct cross *cross;
static iox::popo::UntypedPublisher *publisher;

static void *get(size_t size)
{
	void *p = nullptr;

	publisher->loan((uint32_t)size).and_then([&](void *payload) { p = payload; });
	return p;
}

static void put(void *p)
{
	publisher->release(p);
}

static double one_at_a_time(void)
{
	return peer_pairs(get, put, SLOW_PAIRS);
}

static void lap(uint32_t objects)
{
	struct cross_lap command = { 1, objects };
	uint64_t before = __atomic_load_n(&cross->done, __ATOMIC_RELAXED); /* nobody writes it now */

	if (write(cross->command[1], &command, sizeof(command)) != (ssize_t)sizeof(command))
		peer_fail("the other side is gone");
	for (uint32_t i = 0; i < objects; i++)
		publisher->publish(peer_use(get(PEER_SIZE)));
	/* acquire: pairs with consume's store */
	while (__atomic_load_n(&cross->done, __ATOMIC_ACQUIRE) != before + objects)
		__builtin_ia32_pause();
}

static double cross_1(void)
{
	lap(CROSS_OBJECTS / CROSS_WARM + 1);
	double start = bench_now_ns();

	lap(CROSS_OBJECTS);
	return (bench_now_ns() - start) / CROSS_OBJECTS;
}

static iox::capro::ServiceDescription service(pid_t pid)
{
	return { "kmmd", "bench", iox::capro::IdString_t(iox::cxx::TruncateToCapacity,
	                                                 std::to_string(pid)) };
}

static void consume(iox::popo::UntypedSubscriber *subscriber)
{
	struct cross_lap command;

	bench_pin(1);
	while (read(cross->command[0], &command, sizeof(command)) == (ssize_t)sizeof(command)) {
		for (uint32_t got = 0; got < command.bursts;)
			subscriber->take().and_then([&](const void *payload) {
				subscriber->release(payload);
				got++;
			});
		/* release: all is given back; pairs with lap's load */
		__atomic_store_n(&cross->done, cross->done + command.bursts, __ATOMIC_RELEASE);
	}
}

int main(void)
{
	static const struct peer_row row[] = {
		{ "64 B, one at a time", one_at_a_time },
		{ "crossing, bursts of 1", cross_1 },
	};
	pid_t parent = getpid();
	char name[64];

	bench_pin(0);
	cross = cross_new();
	snprintf(name, sizeof(name), "kmmd-bench-%d", (int)parent);
	if (cross_fork(cross)) {
		strcat(name, "-b");
		iox::runtime::PoshRuntime::initRuntime(
			iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name));
		iox::popo::SubscriberOptions o;

		o.queueCapacity = 256;
		o.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
		iox::popo::UntypedSubscriber subscriber(service(parent), o);

		consume(&subscriber);
		_exit(0);
	}
	iox::runtime::PoshRuntime::initRuntime(
		iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name));
	iox::popo::PublisherOptions o;

	o.historyCapacity = 0;
	o.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
	iox::popo::UntypedPublisher own(service(parent), o);

	publisher = &own;
	while (!own.hasSubscribers())
		usleep(1000);
	return peer_serve(row, PEER_COUNT(row));
}
