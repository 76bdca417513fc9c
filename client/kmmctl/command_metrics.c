/* SPDX-License-Identifier: MIT */
/*
 * metrics: the daemon's metrics as it renders them, OpenMetrics text, for who looks and for collectors
 * that read the output of programs.
 */
#include <stdlib.h>
#include <string.h>

#include "client/kmmctl/command_private.h"
#include "client/kmmctl/fetch_private.h"
#include "client/kmmctl/json_add.h"

struct text {
	char *bytes;
	size_t length;
};

static bool each_part(void *ctx, const void *item)
{
	const kmm_v1_MetricsPart *part = item;
	struct text *t = ctx;
	char *more = realloc(t->bytes, t->length + part->text.size + 1);

	if (!more)
		return false;
	t->bytes = more;
	memcpy(t->bytes + t->length, part->text.bytes, part->text.size);
	t->length += part->text.size;
	t->bytes[t->length] = '\0';
	return true;
}

enum kmmctl_status command_metrics(struct command_context *x)
{
	kmm_v1_GetMetricsRequest request = kmm_v1_GetMetricsRequest_init_zero;
	kmm_v1_MetricsPart part = kmm_v1_MetricsPart_init_zero;
	struct text t = { NULL, 0 };
	enum kmmctl_status status = KMMCTL_DONE;
	enum connection_result result;

	result = connection_stream(x->connection, kmm_v1_Method_INSPECTOR_GET_METRICS,
	                           kmm_v1_GetMetricsRequest_fields, &request,
	                           kmm_v1_MetricsPart_fields, &part, each_part, &t);
	if (result != CONNECTION_OK) {
		free(t.bytes);
		return command_failed(x, result);
	}
	if (t.bytes)
		fetch_clean_text(t.bytes, true);
	if (x->json) {
		struct json_object *o = json_object_new_object();

		add_text(o, "format", "OpenMetrics 1.0.0");
		add_text(o, "text", t.bytes ? t.bytes : "");
		status = command_print_json(x, o);
	} else {
		fputs(t.bytes ? t.bytes : "", x->out);
	}
	free(t.bytes);
	return status;
}
