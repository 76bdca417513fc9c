/* SPDX-License-Identifier: MIT */
/*
 * What to configure: from what was used at most since the daemon's start to the lines of a kmmd.conf.
 * A pure function. See advise.c.
 */
#ifndef CLIENT_KMMCTL_ADVISE_H
#define CLIENT_KMMCTL_ADVISE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/kmm.pb.h"

#define ADVISE_LINES 96u
#define ADVISE_NOTES 8u
#define ADVISE_TEXT 300u

struct advise_line {
	char section[64]; /* "pool", "user 1000", "user alice" */
	uint32_t uid;     /* of a section that names a user, else 0 */
	const char *key;
	bool is_size;     /* bytes, else a number */
	uint64_t value;
	uint64_t now;     /* what is set */
	char why[ADVISE_TEXT];
};

/* What is no line of kmmd.conf. */
struct advise_note {
	char what[96];    /* "vm.nr_hugepages = 512" */
	char why[ADVISE_TEXT];
};

struct advise {
	char little[ADVISE_TEXT]; /* why there is too little history; empty: there is enough */
	struct advise_line line[ADVISE_LINES];
	size_t n; /* by section */
	struct advise_note note[ADVISE_NOTES];
	size_t notes;
};

/* Less than that is too little history: milliseconds; a part of the pool that was allocated. */
#define ADVISE_UPTIME_MS (UINT64_C(10) * 60 * 1000)
#define ADVISE_USED_PART 64u

void advise_make(struct advise *a, const kmm_v1_History *h);

/* Rules by themselves. Frames and numbers. */

/* Room for what was used at most: a quarter more, half as much again when memory was short. */
uint64_t advise_need(uint64_t peak, bool was_short);
/* `now` when it suffices and is not more than twice what is needed, else what is needed. */
uint64_t advise_fit(uint64_t now, uint64_t need);
/* Of a table, or a quota: as it is below three quarters of it; else the power of two at or above twice
 * the peak, at most `max`. */
uint64_t advise_count(uint64_t now, uint64_t peak, uint64_t max);

/* Sections of users are told by their names, where name_of says one that a configuration can have. */
void advise_name_users(struct advise *a, const char *(*name_of)(uint32_t uid));
/* Whether that line is to be merged into a configuration. */
bool advise_line_matters(const struct advise *a, size_t i);

void report_advise(FILE *out, const struct advise *a, const kmm_v1_History *h);
struct json_object *json_advise(const struct advise *a, const kmm_v1_History *h);

#endif
