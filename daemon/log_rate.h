/* SPDX-License-Identifier: MIT */
/*
 * How many lines a user may cause. See log_rate.c. Thread-safe.
 */
#ifndef DAEMON_LOG_RATE_H
#define DAEMON_LOG_RATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/log_kind.h"

#define LOG_RATE_WINDOW_NS UINT64_C(60000000000)

/* Lines of each user and kind in a window; 0: no limit. */
void log_rate_set(enum log_limit limit, uint32_t lines);

/* Whether a line may be written now; then *left_out is how many were not, since the last. now_ns is a
 * clock that does not go back. */
bool log_rate_allow(enum log_kind kind, uid_t uid, uint64_t now_ns, uint32_t *left_out);

/* How many lines of that kind were left out since the start. */
uint64_t log_rate_left_out(enum log_kind kind);

/* Lines that were left out in a window that is over, and that no line has told of. */
struct log_rate_left {
	enum log_kind kind;
	bool user; /* of uid; else of several */
	uid_t uid;
	uint32_t lines;
};
/* The next of them, which is then told; false: none. */
bool log_rate_take_left(uint64_t now_ns, struct log_rate_left *left);

#endif
