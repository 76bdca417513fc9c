/* SPDX-License-Identifier: MIT */
/*
 * The terminal of a program that draws over and over: see screen.c. One at a time, from one thread.
 */
#ifndef CLIENT_KMMCTL_SCREEN_H
#define CLIENT_KMMCTL_SCREEN_H

#include <stdbool.h>

/* Takes the terminal: keys come one by one without echo, on a screen of its own. It is given back by
 * screen_leave(), by exit(), and before any signal ends or stops the program. False: input or output
 * is no terminal. */
bool screen_enter(void);
void screen_leave(void);

/* Of the terminal that standard output is; else $COLUMNS and $LINES, else what was in them. */
void screen_size(unsigned int *columns, unsigned int *lines);

/* Shows the text from the top, cut to the screen, and clears the rest. False: it cannot be written. */
bool screen_draw(const char *text);

enum { SCREEN_TIMEOUT = 0, SCREEN_RESIZED = -1, SCREEN_CLOSED = -2 };
/* Keys that send several bytes; any other of those is SCREEN_OTHER. */
enum {
	SCREEN_OTHER = 256,
	SCREEN_UP,
	SCREEN_DOWN,
	SCREEN_HOME,
	SCREEN_END,
	SCREEN_PAGE_UP,
	SCREEN_PAGE_DOWN,
};
/* The next key (a byte, or one of the second list), or one of the first. Resized: or continued
 * after a stop. */
int screen_key(int timeout_ms);

#endif
