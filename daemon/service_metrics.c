/* SPDX-License-Identifier: MIT */
/*
 * GetMetrics: all metrics as OpenMetrics text.
 *
 * The worker makes the text (metrics_text.c), whole, so that what a client gets is of one moment; it
 * leaves in parts, as its client reads them.
 */
#include <stdlib.h>

#include "daemon/metrics_text.h"
#include "daemon/service.h"
#include "proto/kmm.pb-c.h"

#define PART_BYTES 8192u /* kmm.options: MetricsPart.text */

struct metrics_call {
	struct service_job job; /* first */
	char *text;
	size_t length;
	uint32_t next;
	bool failed;
};

static void metrics_work(struct service_job *j)
{
	struct metrics_call *c = (struct metrics_call *)j;

	c->failed = metrics_text(j->kmmd, METRICS_OPENMETRICS, &c->text, &c->length) < 0;
	service_job_done(j);
}

static int metrics_send(struct service_job *j, uint32_t i)
{
	struct metrics_call *c = (struct metrics_call *)j;
	Kmm__V1__MetricsPart part = KMM__V1__METRICS_PART__INIT;
	size_t at = (size_t)i * PART_BYTES, left = c->length - at;

	part.text.data = (uint8_t *)c->text + at;
	part.text.len = left < PART_BYTES ? left : PART_BYTES;
	return rpc_pending_item(&j->pending, &part.base) ? 1 : -1;
}

static void metrics_reply(struct service_job *j)
{
	struct metrics_call *c = (struct metrics_call *)j;
	Kmm__V1__GetMetricsRequest empty = KMM__V1__GET_METRICS_REQUEST__INIT;
	uint32_t parts = (uint32_t)((c->length + PART_BYTES - 1) / PART_BYTES);

	if (!service_job_list(j, &c->next, parts, c->failed, metrics_send, &empty.base))
		return;
	free(c->text);
	free(c);
}

void service_get_metrics(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct metrics_call *c = service_census_start(call, sizeof(*c));

	(void)request;
	if (c)
		service_job_start(call, &c->job, metrics_work, metrics_reply);
}
