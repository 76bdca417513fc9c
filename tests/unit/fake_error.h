/* SPDX-License-Identifier: MIT */
/*
 * For tests that link neither the library's errors nor its sessions: the last error's text, and a
 * session that anybody may enter. Included once a program.
 */
#ifndef TESTS_UNIT_FAKE_ERROR_H
#define TESTS_UNIT_FAKE_ERROR_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "client/internal.h"

static char last_text[ERROR_TEXT_MAX];

int error_set(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(last_text, sizeof(last_text), fmt, ap);
	va_end(ap);
	return -err;
}

void error_text_copy(char out[ERROR_TEXT_MAX])
{
	memcpy(out, last_text, ERROR_TEXT_MAX);
}

void error_text_put(const char *text)
{
	snprintf(last_text, sizeof(last_text), "%s", text);
}

int session_check(struct kmm *k)
{
	return k ? 0 : error_set(EINVAL, "the session is NULL");
}

int session_enter(struct kmm *k)
{
	return session_check(k);
}

void session_leave(struct kmm *k)
{
	(void)k;
}

struct call_how call_begin(struct kmm *k, unsigned int flags)
{
	(void)k;
	return (struct call_how){ .flags = flags };
}

#endif
