/* SPDX-License-Identifier: MIT */
/*
 * A connection to kmmd as an observer: no session, so only Inspector, Admin and Health calls.
 *
 * Blocking and for one thread; one call at a time. A failed call says why in connection_error().
 * Errors of the transport (the daemon went away, it answers nonsense, no answer in time) end the
 * connection: it is to be closed. A refusal by the daemon leaves it usable.
 */
#ifndef CLIENT_KMMCTL_CONNECTION_H
#define CLIENT_KMMCTL_CONNECTION_H

#include <pb.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/kmm.pb.h"

struct connection;

enum connection_result {
	CONNECTION_OK = 0,
	CONNECTION_REFUSED = 1,   /* the daemon said no, with a reason */
	CONNECTION_NO_DAEMON = 2, /* nobody listens, or the daemon went away */
	CONNECTION_FAILED = 3,    /* no memory, no answer in time, an answer that makes no sense */
};

#define CONNECTION_TIMEOUT_MS 30000u

/* Connects and says Hello for `domain` (NULL: the caller's default domain). `address` is a socket's
 * path; NULL: $KMM_ADDRESS, else /run/kmmd/kmmd.sock, else $XDG_RUNTIME_DIR/kmmd/kmmd.sock. The
 * connection is made, to carry the text, also when the result is not OK; it is NULL only when
 * memory is short. */
enum connection_result connection_open(struct connection **ret, const char *address,
                                       const char *domain);
struct connection *connection_close(struct connection *c);

/* What went wrong last and what to do; of a refusal, the daemon's own text. NULL-safe. */
const char *connection_error(const struct connection *c);
/* What the daemon said at Hello. */
const kmm_v1_HelloReply *connection_hello(const struct connection *c);

/* How long an answer may take from now on; CONNECTION_TIMEOUT_MS at first. */
void connection_patience(struct connection *c, uint32_t ms);
/* A unary call: `request` goes, `reply` (a struct of that type) is filled in when OK. */
enum connection_result connection_call(struct connection *c, kmm_v1_Method method,
                                       const pb_msgdesc_t *request_type, const void *request,
                                       const pb_msgdesc_t *reply_type, void *reply);

/* A stream: `item` is filled and `each` called for every message. `each` returns false when memory
 * is short; the call then fails. */
typedef bool (*connection_item_fn)(void *ctx, const void *item);
enum connection_result connection_stream(struct connection *c, kmm_v1_Method method,
                                         const pb_msgdesc_t *request_type, const void *request,
                                         const pb_msgdesc_t *item_type, void *item,
                                         connection_item_fn each, void *ctx);

#endif
