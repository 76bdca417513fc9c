/* SPDX-License-Identifier: MIT */
/*
 * Texts of failures, one a thread. A failing function sets the text and returns the negative errno
 * that goes with it; success leaves the text alone. A thread for which the system has no memory
 * gets a fixed text.
 */
#include "client/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread bool error_without_memory;

int error_set(int err, const char *fmt, ...)
{
	int saved = errno;
	struct thread *t = thread_self();
	va_list ap;

	error_without_memory = !t;
	if (t) {
		va_start(ap, fmt);
		vsnprintf(t->text, sizeof(t->text), fmt, ap);
		va_end(ap);
	}
	errno = saved;
	return -err;
}

void error_text_copy(char out[ERROR_TEXT_MAX])
{
	struct thread *t = thread_self();

	strcpy(out, t ? t->text : "");
}

void error_text_put(const char *text)
{
	struct thread *t = thread_self();

	if (t)
		snprintf(t->text, sizeof(t->text), "%s", text);
}

const char *kmm_error_text(void)
{
	ERRNO_SCOPE;
	struct thread *t;

	if (error_without_memory)
		return "the system has no memory left for the text of this failure";
	t = thread_self();
	return t ? t->text : "";
}
