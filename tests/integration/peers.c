/* SPDX-License-Identifier: MIT */
/*
 * The test's end of its peers (harness.h): starting, commanding and ending them. A peer is a
 * program of its own, executed, not only forked: the test process may have threads by then.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/harness.h"

void peer_start(struct peer *p, const struct daemon *d)
{
	const char *builddir = getenv("KMM_BUILDDIR");
	pid_t parent = getpid();
	char program[512];
	int fd[2];

	snprintf(program, sizeof(program), "%s/tests/integration/peer", builddir ? builddir : ".");
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	p->pid = fork();
	must(p->pid >= 0);
	if (p->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		if (fd[1] == PEER_FD) /* dup2() would leave it close-on-exec */
			fd[1] = dup(fd[1]);
		dup2(fd[1], PEER_FD);
		execl(program, "peer", d->socket, NULL);
		must(!"the peer can be executed");
	}
	close(fd[1]);
	p->fd = fd[0];
	p->session = (kmm_session_id_t)peer_do(p, PEER_ID, 0, 0, 0);
}

static void peer_begin_text(struct peer *p, unsigned op, const char *text, uint64_t a, uint64_t b,
			    uint64_t c)
{
	struct peer_command m = { op, a, b, c, "" };

	must((size_t)snprintf(m.text, sizeof(m.text), "%s", text) < sizeof(m.text));
	must(send(p->fd, &m, sizeof(m), MSG_NOSIGNAL) == (ssize_t)sizeof(m));
}

void peer_begin(struct peer *p, unsigned op, uint64_t a, uint64_t b, uint64_t c)
{
	peer_begin_text(p, op, "", a, b, c);
}

int64_t peer_end(struct peer *p)
{
	int64_t value;

	must(read(p->fd, &value, sizeof(value)) == (ssize_t)sizeof(value));
	return value;
}

int64_t peer_do(struct peer *p, unsigned op, uint64_t a, uint64_t b, uint64_t c)
{
	peer_begin(p, op, a, b, c);
	return peer_end(p);
}

int64_t peer_do_text(struct peer *p, unsigned op, const char *text, uint64_t a, uint64_t b,
		     uint64_t c)
{
	peer_begin_text(p, op, text, a, b, c);
	return peer_end(p);
}

bool peer_has_answered(struct peer *p)
{
	struct pollfd f = { .fd = p->fd, .events = POLLIN };

	return poll(&f, 1, 0) == 1;
}

static int peer_reap(struct peer *p)
{
	int status;

	while (waitpid(p->pid, &status, 0) < 0)
		must(errno == EINTR);
	close(p->fd);
	p->pid = 0;
	return status;
}

void peer_kill(struct peer *p)
{
	int status;

	kill(p->pid, SIGKILL);
	status = peer_reap(p);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

void peer_stop(struct peer *p)
{
	shutdown(p->fd, SHUT_WR);
	must(peer_reap(p) == 0);
}

void peer_exit(struct peer *p)
{
	peer_begin(p, PEER_EXIT, 0, 0, 0);
	must(peer_reap(p) == 0);
}
