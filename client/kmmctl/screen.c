/* SPDX-License-Identifier: MIT */
/*
 * Taking a terminal and giving it back.
 *
 * Plain ANSI sequences, which every terminal of today understands; the alternate screen keeps what was
 * there before. However the program ends, the terminal has to be as it was:
 *
 *   return, exit()                 atexit(screen_leave)
 *   SIGINT, SIGTERM, … a crash     on_end: leaves, then the signal does what it would have done
 *   SIGTSTP (Ctrl-Z)               on_stop: leaves, then stops
 *   SIGCONT                        on_continue: takes it again, when in the foreground
 *   SIGKILL                        nobody can; the shell's `reset`
 *
 * tcsetattr(), write() and tcgetpgrp() may be called in signal handlers, so they do the work at once,
 * whatever the program is waiting for. State is in static variables: a process has one terminal.
 */
#include "client/kmmctl/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE_MS 50 /* within which the bytes of one key come */
#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE "\033[K"
#define CLEAR_BELOW "\033[J"

static struct termios before;
static volatile sig_atomic_t entered, changed;

/* A terminal that takes no more is lost, and the program notices when it draws. */
static void put(const char *text, size_t n)
{
	while (n > 0) {
		ssize_t r = write(STDOUT_FILENO, text, n);

		if (r <= 0)
			return;
		text += r;
		n -= (size_t)r;
	}
}

static void take(void)
{
	struct termios raw = before;

	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	entered = 1; /* first: a signal in between gives back what was not taken, which is harmless */
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	put(ENTER, sizeof(ENTER) - 1);
}

void screen_leave(void)
{
	int error = errno;

	if (entered) {
		put(LEAVE, sizeof(LEAVE) - 1);
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
		entered = 0;
	}
	errno = error;
}

/* ---- signals ---- */

static void on_end(int sig)
{
	screen_leave();
	signal(sig, SIG_DFL);
	raise(sig); /* when this handler returns */
}

static void on_stop(int sig)
{
	screen_leave();
	(void)sig;
	raise(SIGSTOP); /* here: what on_continue() does comes before the next statement */
}

static void on_continue(int sig)
{
	int error = errno;

	(void)sig;
	if (!entered && tcgetpgrp(STDIN_FILENO) == getpgrp())
		take();
	changed = 1;
	errno = error;
}

static void on_resize(int sig)
{
	(void)sig;
	changed = 1;
}

static void handle(int sig, void (*handler)(int))
{
	struct sigaction a = { .sa_handler = handler }, old;

	sigemptyset(&a.sa_mask);
	/* What is ignored (nohup) stays so. */
	if (sigaction(sig, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(sig, &a, NULL);
}

bool screen_enter(void)
{
	static const int end[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGUSR1,
		                   SIGUSR2, SIGABRT, SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGXCPU };
	static bool prepared;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0)
		return false;
	if (!prepared) {
		prepared = true;
		atexit(screen_leave);
		for (size_t i = 0; i < sizeof(end) / sizeof(end[0]); i++)
			handle(end[i], on_end);
		handle(SIGTSTP, on_stop);
		handle(SIGCONT, on_continue);
		handle(SIGWINCH, on_resize);
	}
	take();
	return true;
}

/* ---- drawing ---- */

static unsigned int number_of(const char *name, unsigned int otherwise)
{
	const char *text = getenv(name);
	unsigned long n;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return otherwise;
	n = strtoul(text, &end, 10);
	return *end || n < 1 || n > 10000 ? otherwise : (unsigned int)n;
}

void screen_size(unsigned int *columns, unsigned int *lines)
{
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0) {
		*columns = w.ws_col;
		*lines = w.ws_row;
		return;
	}
	*columns = number_of("COLUMNS", *columns);
	*lines = number_of("LINES", *lines);
}

/* Bytes of the first `columns` characters of the n bytes of a line. */
static size_t cut(const char *line, size_t n, unsigned int columns)
{
	size_t i = 0;

	for (; i < n; i++)
		if (((unsigned char)line[i] & 0xc0) != 0x80 && columns-- == 0)
			break;
	return i;
}

bool screen_draw(const char *text)
{
	unsigned int columns = 80, lines = 24;

	changed = 0; /* before the size is asked for */
	screen_size(&columns, &lines);
	fputs(HOME, stdout);
	for (unsigned int y = 0; y < lines && *text; y++) {
		size_t n = strcspn(text, "\n");

		/* no newline on the last line: it would scroll */
		fprintf(stdout, "%s%.*s" CLEAR_LINE, y ? "\r\n" : "", (int)cut(text, n, columns),
		        text);
		text += n + (text[n] == '\n');
	}
	fputs(CLEAR_BELOW, stdout);
	return fflush(stdout) == 0 && !ferror(stdout);
}

/* What follows an escape byte, which a terminal sends in one go; nothing does after the key
 * itself. */
static int escape_key(void)
{
	static const struct {
		const char *bytes;
		int key;
	} keys[] = {
		{ "[A", SCREEN_UP },   { "OA", SCREEN_UP },   { "[B", SCREEN_DOWN },
		{ "OB", SCREEN_DOWN }, { "[H", SCREEN_HOME }, { "OH", SCREEN_HOME },
		{ "[1~", SCREEN_HOME }, { "[F", SCREEN_END }, { "OF", SCREEN_END },
		{ "[4~", SCREEN_END }, { "[5~", SCREEN_PAGE_UP }, { "[6~", SCREEN_PAGE_DOWN },
	};
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char bytes[8] = "";
	size_t n = 0;

	while (n < sizeof(bytes) - 1 && poll(&p, 1, ESCAPE_MS) > 0 &&
	       read(STDIN_FILENO, &bytes[n], 1) == 1) {
		char last = bytes[n++];

		if (n > 1 && (bytes[0] == 'O' || (last >= '@' && last <= '~')))
			break;
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(keys[i].bytes, bytes) == 0)
			return keys[i].key;
	return SCREEN_OTHER;
}

int screen_key(int timeout_ms)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	unsigned char key;
	ssize_t n;
	int r;

	if (changed)
		return SCREEN_RESIZED;
	r = poll(&p, 1, timeout_ms);
	if (r == 0)
		return SCREEN_TIMEOUT;
	if (r < 0)
		return errno == EINTR ? SCREEN_RESIZED : SCREEN_CLOSED;
	n = read(STDIN_FILENO, &key, 1);
	if (n < 0 && errno == EINTR)
		return SCREEN_RESIZED;
	if (n == 1 && key == 27)
		return escape_key();
	return n == 1 ? key : SCREEN_CLOSED;
}
