/* SPDX-License-Identifier: MIT */
/*
 * Between rpc.c (calls that are answered at once) and rpc_pending.c (those that are not).
 */
#ifndef DAEMON_RPC_PRIVATE_H
#define DAEMON_RPC_PRIVATE_H

#include "daemon/rpc.h"

#define RPC_TEXT_MAX 400 /* kmm.options: Error.text */

/* Queues one frame: 0, also when the channel is closed; -EMSGSIZE, -ENOSPC, -ENOMEM. */
int rpc_put(struct channel *c, enum frame_kind kind, uint32_t id, enum status_code code,
            const ProtobufCMessage *message, const int fd[], size_t nfds);
/* A line for a call that is refused, unless it was `said` before. */
void rpc_log_refusal(const struct session *s, const struct peer *peer,
                     const struct rpc_method *method, enum status_code code, int errno_value,
                     const char *text, bool said);
/* A client's CANCEL frame. */
void rpc_cancel(struct channel *c, uint32_t id);

#endif
