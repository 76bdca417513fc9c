/* SPDX-License-Identifier: MIT */
/*
 * The kinds of events: one row each. A kind stands in four places, which a test compares
 * (tests/check-log.sh): here, in log.h, in kmmd(8), and in the journal's catalog
 * (contrib/systemd/kmmd.catalog), which explains it to who asks journalctl -x.
 */
#include "daemon/log_kind.h"

static const struct log_kind_about kinds[NR_LOG_KINDS] = {
	[LOG_PLAIN] = { NULL, NULL, LOG_UNLIMITED },
	[LOG_START] = { "start", "6b3c5294875240f08d4c93b764db2d63", LOG_UNLIMITED },
	[LOG_RESTART] = { "restart", "3905c6ecb6c64974a08736b58e03a57a", LOG_UNLIMITED },
	[LOG_STOP] = { "stop", "f4c818876110445c9d83790228983a3f", LOG_UNLIMITED },
	[LOG_RELOAD] = { "reload", "2be92887cf6943098c0758047f56054b", LOG_UNLIMITED },
	[LOG_CONNECTION] = { "connection", "461c542e3c644d1582253fa1ee7cb6cb", LOG_LIMIT_REFUSALS },
	[LOG_PROTOCOL] = { "protocol", "43751a95db0a430c8aa0a8971ea0e74c", LOG_LIMIT_REFUSALS },
	[LOG_REFUSAL] = { "refusal", "193d2701218e457d89b9dc95b2244111", LOG_LIMIT_REFUSALS },
	[LOG_QUOTA] = { "quota", "da5575169b154710af4070ad714a504f", LOG_LIMIT_REFUSALS },
	[LOG_FAILURE] = { "failure", "4fb6ce5fc77f4ae8987b524c4f914c0f", LOG_LIMIT_REFUSALS },
	[LOG_FINDING] = { "finding", "efa3cca0c307426f89118a19a2976a17", LOG_LIMIT_REFUSALS },
	[LOG_OPEN] = { "open", "507de71c29314735ad76b5d17399e109", LOG_LIMIT_SESSIONS },
	[LOG_DEATH] = { "death", "8040c94a9c66445396e5d2a67c2192e2", LOG_LIMIT_SESSIONS },
	[LOG_SWEEP] = { "sweep", "4d69b3fd113647f8954937f3c4486e50", LOG_LIMIT_SESSIONS },
	[LOG_QUARANTINE] = { "quarantine", "91f1f43ac082486596998c99312a6e7d", LOG_LIMIT_SESSIONS },
	[LOG_RETURN] = { "return", "a9db2ba818b540beb191cb9b9f7b200b", LOG_LIMIT_SESSIONS },
	[LOG_ADMIN] = { "admin", "0139c238fa0f490aa88c676bcd8c3943", LOG_LIMIT_REFUSALS },
	[LOG_DAMAGE] = { "damage", "e35bb55c7c9443e98337da467dfb1cbd", LOG_UNLIMITED },
};

const struct log_kind_about *log_kind_about(enum log_kind kind)
{
	return &kinds[(unsigned int)kind < NR_LOG_KINDS ? kind : LOG_PLAIN];
}
