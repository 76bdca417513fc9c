/* SPDX-License-Identifier: MIT */
/*
 * vmallocinfo: the areas that processes put together of blocks (vmalloc, per-CPU chunks, stacks with
 * a guard page), a line each; freed ones that are still mapped ("unpurged") come last.
 *
 * Addresses are those in the process that made the area: an area's pages lie anywhere in the pool. Who
 * is no admin of the daemon sees 0. Sizes include the guard page. As in Linux "vpages" says that
 * the list of the area's pages takes more than a page itself.
 *
 * Callers are what clients say. A text that is not symbol+0x1/0x2 is not shown: in its place stands
 * what makes such areas: Linux's function for per-CPU chunks and stacks, which readers know, else
 * kmm_vmalloc. Linux names pcpu_get_vm_areas for every per-CPU chunk, and so does the text here;
 * the client's own caller of such a one is in the JSON.
 */
#include "client/kmmctl/report.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "shm/control.h"

#define PAGE_BYTES UINT64_C(4096)
#define PERCPU_CALLER "pcpu_get_vm_areas"
#define LIST_PAGE_MAX (PAGE_BYTES / 8) /* pages that one page of pointers lists */

/* How many bytes at text are 0x and hexadecimal digits, 0: none. */
static size_t hex_length(const char *text)
{
	size_t n = strncmp(text, "0x", 2) == 0 ? strspn(text + 2, "0123456789abcdef") : 0;

	return n ? n + 2 : 0;
}

static bool is_caller(const char *text)
{
	size_t symbol = strcspn(text, "+"), n, i;

	for (i = 0; i < symbol; i++)
		if (!isgraph((unsigned char)text[i]))
			return false;
	if (symbol == 0 || text[symbol] != '+')
		return false;
	text += symbol + 1;
	n = hex_length(text);
	if (n == 0 || text[n] != '/')
		return false;
	text += n + 1;
	n = hex_length(text);
	return n > 0 && text[n] == '\0';
}

const char *report_area_caller(const kmm_v1_Area *a)
{
	if (is_caller(a->caller))
		return a->caller;
	switch (a->kind) {
	case CONTROL_AREA_PERCPU:
		return PERCPU_CALLER "+0x0/0x0";
	case CONTROL_AREA_STACK:
		return "kernel_clone+0x0/0x0";
	default:
		return "kmm_vmalloc+0x0/0x0";
	}
}

const char *report_area_kind(const kmm_v1_Area *a)
{
	switch (a->kind) {
	case CONTROL_AREA_VMALLOC:
		return "vmalloc";
	case CONTROL_AREA_PERCPU:
		return "percpu";
	case CONTROL_AREA_STACK:
		return "stack";
	case CONTROL_AREA_UNPURGED:
		return "unpurged";
	default:
		return "unknown";
	}
}

bool report_area_shown(const kmm_v1_Area *a)
{
	switch (a->kind) {
	case CONTROL_AREA_VMALLOC:
	case CONTROL_AREA_PERCPU:
	case CONTROL_AREA_UNPURGED:
		return true;
	case CONTROL_AREA_STACK: /* without a guard it is a block in the direct map, no area */
		return a->size > a->pages * PAGE_BYTES;
	default:
		return false;
	}
}

static void print_range(FILE *out, const kmm_v1_Area *a)
{
	fprintf(out, "0x%016" PRIx64 "-0x%016" PRIx64 " %7" PRIu64, a->start,
	        a->start ? a->start + a->size : 0, a->size);
}

/* As a line of text names it. */
static const char *caller_shown(const kmm_v1_Area *a)
{
	const char *caller = report_area_caller(a);

	if (a->kind == CONTROL_AREA_PERCPU &&
	    strncmp(caller, PERCPU_CALLER "+", strlen(PERCPU_CALLER "+")) != 0)
		return PERCPU_CALLER "+0x0/0x0";
	return caller;
}

static void print_area(FILE *out, const kmm_v1_Area *a)
{
	print_range(out, a);
	fprintf(out, " %s", caller_shown(a));
	if (a->pages)
		fprintf(out, " pages=%" PRIu64, a->pages);
	fputs(" vmalloc", out);
	if (a->pages > LIST_PAGE_MAX)
		fputs(" vpages", out);
	for (pb_size_t i = 0; i < a->node_pages_count; i++)
		if (a->node_pages[i])
			fprintf(out, " N%u=%" PRIu64, (unsigned int)i, a->node_pages[i]);
	fputc('\n', out);
}

void report_vmallocinfo(FILE *out, const kmm_v1_Area area[], size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (report_area_shown(&area[i]) && area[i].kind != CONTROL_AREA_UNPURGED)
			print_area(out, &area[i]);
	for (size_t i = 0; i < n; i++) {
		if (area[i].kind != CONTROL_AREA_UNPURGED)
			continue;
		print_range(out, &area[i]);
		fputs(" unpurged vm_area\n", out);
	}
}
