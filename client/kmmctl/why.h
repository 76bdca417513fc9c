/* SPDX-License-Identifier: MIT */
/*
 * Why an allocation failed: what the daemon noted, in words, and what would help. Pure functions. See
 * why.c.
 */
#ifndef CLIENT_KMMCTL_WHY_H
#define CLIENT_KMMCTL_WHY_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "proto/kmm.pb.h"

#define WHY_TEXT 400u

/* "fragmentation", "quota of the session": one word for programs, a sentence for people. */
const char *why_reason_name(kmm_v1_Explanation_Reason reason);
const char *why_reason_text(char text[WHY_TEXT], const kmm_v1_Explanation *e);
/* "a block of order 4 (64K)" */
const char *why_asked_text(char text[WHY_TEXT], const kmm_v1_Explanation *e);
/* What it waits for now: e->has_waits. */
const char *why_waits_text(char text[WHY_TEXT], const kmm_v1_Waits *w);
/* Why that zone could not serve it. */
const char *why_zone_text(char text[WHY_TEXT], const kmm_v1_ZoneLook *z, uint32_t order);
const char *why_verdict_name(kmm_v1_ZoneLook_Verdict verdict);

/* What would help, the first thing first. False: there is no i-th. */
struct why_help {
	char command[96]; /* empty: no command does it */
	char why[300];
};
bool why_help(const kmm_v1_Explanation *e, size_t i, struct why_help *ret);

/* now: seconds since the epoch */
void report_why(FILE *out, const kmm_v1_Explanation *e, uint64_t now);
struct json_object *json_why(const kmm_v1_Explanation *e);

#endif
