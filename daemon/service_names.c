/* SPDX-License-Identifier: MIT */
/*
 * Publish, Lookup, Unpublish: names for blocks and objects (name.c). All are answered at once.
 */
#include "daemon/domain.h"
#include "daemon/name.h"
#include "daemon/service.h"
#include "daemon/session.h"
#include "proto/kmm.pb-c.h"

void service_publish(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__PublishRequest *q = (const Kmm__V1__PublishRequest *)request;
	Kmm__V1__PublishReply reply = KMM__V1__PUBLISH_REPLY__INIT;
	const char *why;
	int rc = name_publish(call->kmmd->domain->names, call->session, q->name, q->granule,
	                      q->generation, &why);

	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, rc, why);
}

void service_lookup(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__LookupRequest *q = (const Kmm__V1__LookupRequest *)request;
	Kmm__V1__LookupReply reply = KMM__V1__LOOKUP_REPLY__INIT;
	const char *why;
	int rc = name_lookup(call->kmmd->domain->names, q->name, &reply.granule, &reply.generation,
	                     &why);

	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, rc, why);
}

void service_unpublish(struct rpc_call *call, const ProtobufCMessage *request)
{
	const Kmm__V1__UnpublishRequest *q = (const Kmm__V1__UnpublishRequest *)request;
	Kmm__V1__UnpublishReply reply = KMM__V1__UNPUBLISH_REPLY__INIT;
	const char *why;
	int rc = name_unpublish(call->kmmd->domain->names, call->session, call->reactor->index,
	                        q->name, &why);

	if (rc == 0)
		rpc_reply(call, &reply.base);
	else
		service_refuse(call, rc, why);
}
