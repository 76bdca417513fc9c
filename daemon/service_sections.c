/* SPDX-License-Identifier: MIT */
/*
 * GetSections: the memfds of sections, for a client that is about to touch them.
 *
 * Only sections that are online in the session's domain are given out; the kernel lets whoever has
 * such a memfd map all of it, so this check is what keeps domains apart. Which neighbours to fetch
 * along is the client's choice; a frame carries at most 16.
 */
#include <errno.h>

#include "daemon/domain.h"
#include "daemon/pool.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"

void service_get_sections(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__GetSectionsRequest *q = (const Kmm__V1__GetSectionsRequest *)request;
	Kmm__V1__GetSectionsReply reply = KMM__V1__GET_SECTIONS_REPLY__INIT;
	const struct domain *d = call->kmmd->domain;
	const struct pool *pool = call->kmmd->pool;
	uint32_t section[FRAME_FDS_MAX], backing[FRAME_FDS_MAX];
	int fd[FRAME_FDS_MAX];
	struct section_info info;
	size_t i = 0, k;

	if (q->n_section == 0 || q->n_section > FRAME_FDS_MAX) {
		rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
		         "%zu sections are asked for; ask for 1 to %u", q->n_section,
		         FRAME_FDS_MAX);
		return;
	}
	for (k = 0; k < q->n_section; k++) {
		section[i] = q->section[k];
		if (section[i] >= pool->nr_sections) {
			rpc_fail(call, STATUS_INVALID_ARGUMENT, EINVAL,
			         "there is no section %u; the pool has %u", section[i],
			         pool->nr_sections);
			return;
		}
		mm_section_get(d->mm, (section_id_t){ section[i] }, &info);
		fd[i] = pool->section_fd[section[i]];
		/* Those behind the first are asked for ahead of need, and may have gone meanwhile. */
		if (k > 0 && info.state == SECTION_ABSENT)
			continue;
		if (info.state != SECTION_ONLINE || info.domain != d->id || fd[i] < 0) {
			rpc_fail(call, STATUS_PERMISSION_DENIED, EPERM,
			         "section %u is not one of domain %s", section[i], d->name);
			return;
		}
		backing[i++] = info.backing;
	}
	reply.n_section = reply.n_backing = i;
	reply.section = section;
	reply.backing = backing;
	rpc_reply_fds(call, &reply.base, fd, i);
}
