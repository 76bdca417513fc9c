/* SPDX-License-Identifier: MIT */
/*
 * Health, and the methods that the daemon answers.
 *
 * What backs the pool and how to get better is what an operator most often gets wrong, so that both
 * stand in lines of their own that cannot be overlooked.
 */
#include "client/kmmctl/report.h"
#include "client/kmmctl/table.h"

#include <inttypes.h>
#include <string.h>

const char *report_health_status(kmm_v1_CheckReply_Status status)
{
	switch (status) {
	case kmm_v1_CheckReply_Status_SERVING:
		return "SERVING";
	case kmm_v1_CheckReply_Status_DEGRADED:
		return "DEGRADED";
	default:
		return "UNKNOWN";
	}
}

/* Each line of text behind `label`, or behind blanks of its length. */
static void print_lines(FILE *out, const char *label, const char *text)
{
	size_t width = strlen(label);

	while (*text) {
		size_t n = strcspn(text, "\n");

		if (n)
			fprintf(out, "%-*s%.*s\n", (int)width, label, (int)n, text);
		label = "";
		text += n + (text[n] == '\n');
	}
}

void report_health(FILE *out, const kmm_v1_CheckReply *h)
{
	char age[TABLE_UNIT_SIZE], small[TABLE_UNIT_SIZE], large[TABLE_UNIT_SIZE],
	        giant[TABLE_UNIT_SIZE];

	fprintf(out, "status     %s\n", report_health_status(h->status));
	fprintf(out, "daemon     kmmd %s, pid %" PRIu32 ", start %" PRIu64 " of this pool, up %s\n",
	        h->version, h->pid, h->epoch, table_age(age, h->uptime_ms / 1000));
	print_lines(out, "BACKING    ", h->backing[0] ? h->backing : "unknown");
	fprintf(out, "           in pages of 4K: %s, of 2M: %s, of 1G: %s\n",
	        table_bytes(small, h->bytes_4k), table_bytes(large, h->bytes_2m),
	        table_bytes(giant, h->bytes_1g));
	print_lines(out, "ADVICE     ", h->advice[0] ? h->advice : "none: it cannot be better");
	if (h->damaged_domains)
		fprintf(out, "DAMAGED    %" PRIu32 " domain(s): shared words that make no sense; "
		        "see kmmctl fsck\n", h->damaged_domains);
	if (h->retired_sections)
		fprintf(out, "RETIRED    %" PRIu32 " section(s): their memory is lost to use until "
		        "the pool is made anew\n", h->retired_sections);
	print_lines(out, "facts      ", h->text);
}

void report_methods(FILE *out, const kmm_v1_MethodInfo method[], size_t n)
{
	static const struct table_column columns[] = {
		{ "NUMBER", TABLE_RIGHT }, { "METHOD", TABLE_LEFT }, { "ANSWER", TABLE_LEFT },
	};
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	for (size_t i = 0; i < n; i++) {
		table_cell(t, "%" PRIu32, method[i].number);
		table_cell(t, "%s", method[i].name);
		table_cell(t, "%s", method[i].streaming ? "stream" : "one");
	}
	table_print(out, t);
	table_free(t);
}

static void print_schema(FILE *out, const char *schema)
{
	size_t n = strlen(schema);

	fprintf(out, "%s%s", schema, n && schema[n - 1] != '\n' ? "\n" : "");
}

void report_method(FILE *out, const kmm_v1_MethodInfo *m)
{
	fprintf(out, "%s: method %" PRIu32 ", answers %s\n", m->name, m->number,
	        m->streaming ? "a stream" : "once");
	fputs("\nrequest:\n", out);
	print_schema(out, m->request);
	fputs("\nreply:\n", out);
	print_schema(out, m->reply);
}
