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

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct options;
struct access;
struct reload;
struct pool;
struct domain;
struct reactor;
struct worker;
struct session_table;
struct user_table;
struct failure_table;
struct peak;
struct acceptor;
struct fdstore;
struct http;

struct kmmd {
	struct options *options; /* live settings change: OPTION(), options.h */
	struct access *access;   /* who may do what */
	struct reload *reload;   /* changes settings; NULL before the daemon serves */
	struct fdstore *fdstore;
	struct pool *pool;
	struct domain *domain; /* the one domain */
	struct session_table *sessions;
	struct user_table *users;
	struct failure_table *failures; /* the last failed allocation of each session */
	struct peak *peak;              /* high-water marks since the start */
	struct reactor *main;      /* the main thread's loop and mailbox */
	struct reactor **reactors; /* nr_reactors of them */
	uint32_t nr_reactors;
	struct worker *worker;
	struct acceptor *acceptor;
	_Atomic bool stopping; /* what takes long and can end early does */
	_Atomic bool hotplug; /* sections are coming or going (hotplug.c) */
	struct http *http; /* serves metrics; NULL before the daemon serves */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
};

#endif
