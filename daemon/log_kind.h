/* SPDX-License-Identifier: MIT */
/*
 * What each kind of event is called, for the log, the journal and those who search it. Ids never
 * change; a kind that is given up leaves its id unused.
 */
#ifndef DAEMON_LOG_KIND_H
#define DAEMON_LOG_KIND_H

#include "daemon/log.h"

/* How many lines of it a user may cause. */
enum log_limit {
	LOG_UNLIMITED, /* nobody causes it at will, or its own place bounds it */
	LOG_LIMIT_REFUSALS,
	LOG_LIMIT_SESSIONS,
	NR_LOG_LIMITS,
};

struct log_kind_about {
	const char *name; /* KMM_EVENT; NULL for LOG_PLAIN */
	const char *id;   /* MESSAGE_ID */
	enum log_limit limit;
};

const struct log_kind_about *log_kind_about(enum log_kind kind);

#endif
