/* SPDX-License-Identifier: MIT */
/*
 * Lists of CPUs. A list is numbers and ranges between commas, in any order; what stands twice counts
 * once.
 */
#include "daemon/cpu_list.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool read_cpu(const char **text, unsigned long *ret)
{
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	errno = 0;
	*ret = strtoul(*text, &end, 10);
	*text = end;
	return !errno && *ret < CPU_SETSIZE;
}

static bool cpu_list_walk(const char *text, cpu_set_t *ret)
{
	for (;;) {
		unsigned long first, last;

		if (!read_cpu(&text, &first))
			return false;
		last = first;
		if (*text == '-') {
			text++;
			if (!read_cpu(&text, &last) || last < first)
				return false;
		}
		for (; first <= last; first++)
			CPU_SET(first, ret);
		if (!*text)
			return true;
		if (*text++ != ',')
			return false;
	}
}

bool cpu_list_valid(const char *text)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	return cpu_list_walk(text, &set);
}

void cpu_list_read(const char *text, cpu_set_t *ret)
{
	CPU_ZERO(ret);
	cpu_list_walk(text, ret);
}

void cpu_list_write(const cpu_set_t *cpus, char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	for (int first = 0, last; first < CPU_SETSIZE && n < size; first = last + 1) {
		last = first;
		if (!CPU_ISSET((unsigned int)first, cpus))
			continue;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET((unsigned int)last + 1, cpus))
			last++;
		n += (size_t)snprintf(text + n, size - n, "%s%d", n ? "," : "", first);
		if (last > first && n < size)
			n += (size_t)snprintf(text + n, size - n, "-%d", last);
	}
}

void cpu_list_allowed(cpu_set_t *ret)
{
	static cpu_set_t allowed;
	static bool known;

	if (!known && sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
		CPU_ZERO(&allowed);
		CPU_SET(0, &allowed);
	}
	known = true;
	*ret = allowed;
}
