/* SPDX-License-Identifier: MIT */
/*
 * The daemon as a whole: what every part may reach. Parts and threads:
 *
 *   main thread   acceptor, signals, watch on client processes, one-second tick
 *   reactors      one thread a core: channels, calls, their own per-CPU page lists
 *   worker        one thread for what takes long: sweeps, collecting, fsck
 *
 * Threads talk by mailboxes (reactor_post) and never wait for each other.
 */
#ifndef DAEMON_KMMD_H
#define DAEMON_KMMD_H

#include <stdint.h>

struct options;
struct pool;
struct domain;
struct reactor;
struct worker;
struct session_table;
struct acceptor;
struct fdstore;

struct kmmd {
	struct options *options;
	struct fdstore *fdstore;
	struct pool *pool;
	struct domain *domain; /* the one domain */
	struct session_table *sessions;
	struct reactor *main;      /* the main thread's loop and mailbox */
	struct reactor **reactors; /* nr_reactors of them */
	uint32_t nr_reactors;
	struct worker *worker;
	struct acceptor *acceptor;
	uint64_t started_ns; /* CLOCK_MONOTONIC */
};

#endif
