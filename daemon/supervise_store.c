/* SPDX-License-Identifier: MIT */
/*
 * The fd store of kmmd --supervise. See fdstore.h for the protocol.
 *
 * The notify socket must be reachable by the child and by nobody else: a socket that any user may
 * send to could be kept full by any user. It is bound in a private directory, opened by path
 * (O_PATH), and unlinked: from then on its only name is the descriptor, which the child inherits
 * and addresses as /proc/self/fd/N. Where no directory can be had an abstract address is used. In
 * both cases the kernel says with each datagram who sent it (SO_PASSCRED), and only the child is
 * listened to.
 *
 * BARRIER=1 carries a pipe; datagrams are handled in order, so closing it says that all before are
 * done.
 */
#include "daemon/supervise_store.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/log.h"

#define KEPT_MAX 4096u
#define NAME_MAX_LENGTH 255u
#define MESSAGE_MAX 4096u
#define MESSAGE_FDS_MAX 253u
#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

/* Binds fd in a directory of its own below `parent` and leaves no name behind. */
static int socket_bind_private(int fd, const char *parent, int *anchor)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char dir[64];
	int r = 0, a;

	if ((size_t)snprintf(dir, sizeof(dir), "%s/kmmd-supervise-XXXXXX", parent) >= sizeof(dir))
		return -ENAMETOOLONG;
	if (!mkdtemp(dir))
		return -errno;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/notify", dir);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		r = -errno;
	} else {
		a = open(sa.sun_path, O_PATH | O_CLOEXEC);
		if (a < 0)
			r = -errno;
		else
			*anchor = a;
		unlink(sa.sun_path);
	}
	rmdir(dir);
	return r;
}

/* The kernel chooses a free abstract name: a zero byte and five hexadecimal digits. */
static int socket_bind_abstract(int fd, char *address, size_t size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa);

	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa_family_t)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		return -errno;
	snprintf(address, size, "@%.*s", (int)(len - sizeof(sa_family_t) - 1), sa.sun_path + 1);
	return 0;
}

static int socket_new(void)
{
	int on = 1, fd;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int supervise_store_init(struct supervise_store *s)
{
	static const char *const parents[] = { "/run", "/tmp", "/dev/shm" };
	size_t i;
	int r;

	memset(s, 0, sizeof(*s));
	s->anchor = -1;
	s->batch = SUPERVISE_BATCH_ALL;
	for (i = 0; i < sizeof(parents) / sizeof(parents[0]) && s->anchor < 0; i++) {
		s->socket = socket_new();
		if (s->socket < 0)
			return s->socket;
		if (socket_bind_private(s->socket, parents[i], &s->anchor) < 0)
			close(s->socket); /* it may be bound already */
	}
	if (s->anchor >= 0)
		return 0;
	s->socket = socket_new();
	if (s->socket < 0)
		return s->socket;
	r = socket_bind_abstract(s->socket, s->address, sizeof(s->address));
	if (r < 0)
		close(s->socket);
	return r;
}

void supervise_store_fini(struct supervise_store *s)
{
	size_t i;

	for (i = 0; i < s->nr; i++) {
		close(s->kept[i].fd);
		free(s->kept[i].name);
	}
	free(s->kept);
	s->kept = NULL;
	s->nr = s->room = 0;
	close(s->socket);
	if (s->anchor >= 0)
		close(s->anchor);
}

/* LISTEN_FDNAMES separates them by colons. */
static bool name_valid(const char *name)
{
	size_t n = strlen(name), i;

	if (n == 0 || n > NAME_MAX_LENGTH)
		return false;
	for (i = 0; i < n; i++)
		if (!isgraph((unsigned char)name[i]) || name[i] == ':')
			return false;
	return true;
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

int supervise_store_keep(struct supervise_store *s, const char *name, int fd)
{
	size_t i;
	char *copy;
	int r = 0;

	if (!name_valid(name)) {
		r = -EINVAL;
		goto drop;
	}
	for (i = 0; i < s->nr; i++)
		if (strcmp(s->kept[i].name, name) == 0 && same_file(s->kept[i].fd, fd))
			goto drop;
	if (s->nr == KEPT_MAX) {
		r = -ENOSPC;
		goto drop;
	}
	if (s->nr == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct supervise_fd *kept = reallocarray(s->kept, room, sizeof(*kept));

		if (!kept) {
			r = -ENOMEM;
			goto drop;
		}
		s->kept = kept;
		s->room = room;
	}
	copy = strdup(name);
	if (!copy) {
		r = -ENOMEM;
		goto drop;
	}
	s->kept[s->nr++] = (struct supervise_fd){ copy, fd };
	return 0;
drop:
	close(fd);
	return r;
}

static void store_remove(struct supervise_store *s, const char *name)
{
	size_t i, n = 0;

	for (i = 0; i < s->nr; i++) {
		if (strcmp(s->kept[i].name, name) == 0) {
			close(s->kept[i].fd);
			free(s->kept[i].name);
		} else {
			s->kept[n++] = s->kept[i];
		}
	}
	s->nr = n;
}

/* One message: assignments, one a line. The fds are taken over. */
static void message_handle(struct supervise_store *s, char *text, const int fd[], size_t nfds,
                           struct supervise_news *news)
{
	bool store = false, remove = false;
	const char *name = "stored";
	char *line, *rest = NULL;
	size_t i;

	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (strcmp(line, "FDSTORE=1") == 0)
			store = true;
		else if (strcmp(line, "FDSTOREREMOVE=1") == 0)
			remove = true;
		else if (strncmp(line, "FDNAME=", 7) == 0)
			name = line + 7;
		else if (strcmp(line, "READY=1") == 0)
			news->ready = true;
		else if (strcmp(line, "STOPPING=1") == 0)
			news->stopping = true;
		else if (strncmp(line, "STATUS=", 7) == 0)
			snprintf(news->status, sizeof(news->status), "%s", line + 7);
	}
	for (i = 0; i < nfds; i++) {
		int r;

		if (!store) { /* also the pipe of BARRIER=1, which this answers */
			close(fd[i]);
			continue;
		}
		r = supervise_store_keep(s, name, fd[i]);
		if (r < 0)
			log_error("supervisor: cannot keep descriptor \"%s\": %s", name, strerror(-r));
	}
	if (remove)
		store_remove(s, name);
}

/* The sender, 0 when the kernel did not say, and the descriptors that came along. */
static pid_t control_read(struct msghdr *msg, int fd[], size_t *nfds)
{
	struct cmsghdr *c;
	pid_t pid = 0;

	*nfds = 0;
	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
			struct ucred u;

			memcpy(&u, CMSG_DATA(c), sizeof(u));
			pid = u.pid;
		} else if (c->cmsg_type == SCM_RIGHTS) {
			size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			if (n > MESSAGE_FDS_MAX - *nfds)
				n = MESSAGE_FDS_MAX - *nfds;
			memcpy(fd + *nfds, CMSG_DATA(c), n * sizeof(int));
			*nfds += n;
		}
	}
	return pid;
}

void supervise_store_receive(struct supervise_store *s, pid_t child, struct supervise_news *news)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MESSAGE_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char text[MESSAGE_MAX + 1];
	int fd[MESSAGE_FDS_MAX];

	memset(news, 0, sizeof(*news));
	for (unsigned int left = s->batch; left > 0; left--) {
		struct iovec iov = { .iov_base = text, .iov_len = MESSAGE_MAX };
		struct msghdr msg = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.buf,
			.msg_controllen = sizeof(control.buf),
		};
		ssize_t n = recvmsg(s->socket, &msg, MSG_CMSG_CLOEXEC);
		size_t nfds, i;
		pid_t sender;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		sender = control_read(&msg, fd, &nfds);
		if (sender != child || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
			if (sender == child)
				log_error("supervisor: a message of the daemon was cut off (descriptors: "
				          "limit %s)", strerror(EMFILE));
			for (i = 0; i < nfds; i++)
				close(fd[i]);
			continue;
		}
		text[n] = '\0';
		message_handle(s, text, fd, nfds, news);
	}
}

/* Everything is moved above the places to be filled first, since kept descriptors lie there. */
static int descriptors_place(const struct supervise_store *s, int *anchor)
{
	int end = FIRST_FD + (int)s->nr + 1;
	int *moved = calloc(s->nr + 1, sizeof(*moved));
	size_t i;
	int r;

	if (!moved)
		return -ENOMEM;
	for (i = 0; i < s->nr; i++) {
		moved[i] = fcntl(s->kept[i].fd, F_DUPFD_CLOEXEC, end);
		if (moved[i] < 0)
			goto failed;
	}
	if (s->anchor >= 0) {
		moved[s->nr] = fcntl(s->anchor, F_DUPFD_CLOEXEC, end);
		/* dup2 clears close-on-exec */
		if (moved[s->nr] < 0 || dup2(moved[s->nr], end - 1) < 0)
			goto failed;
		*anchor = end - 1;
	}
	for (i = 0; i < s->nr; i++)
		if (dup2(moved[i], FIRST_FD + (int)i) < 0)
			goto failed;
	free(moved);
	return 0;
failed:
	r = -errno;
	free(moved);
	return r;
}

int supervise_store_hand_over(const struct supervise_store *s)
{
	char number[32], path[64];
	size_t size = 1, i, at = 0;
	int anchor = -1, r;
	char *names;

	r = descriptors_place(s, &anchor);
	if (r < 0)
		return r;
	for (i = 0; i < s->nr; i++)
		size += strlen(s->kept[i].name) + 1;
	names = calloc(1, size);
	if (!names)
		return -ENOMEM;
	for (i = 0; i < s->nr; i++)
		at += (size_t)snprintf(names + at, size - at, "%s%s", i ? ":" : "", s->kept[i].name);
	if (anchor >= 0)
		snprintf(path, sizeof(path), "/proc/self/fd/%d", anchor);
	else
		snprintf(path, sizeof(path), "%s", s->address);
	r = setenv("NOTIFY_SOCKET", path, 1);
	snprintf(number, sizeof(number), "%u", KEPT_MAX);
	r |= setenv("FDSTORE", number, 1);
	if (s->nr > 0) {
		snprintf(number, sizeof(number), "%zu", s->nr);
		r |= setenv("LISTEN_FDS", number, 1) | setenv("LISTEN_FDNAMES", names, 1);
		snprintf(number, sizeof(number), "%d", (int)getpid());
		r |= setenv("LISTEN_PID", number, 1);
	} else {
		unsetenv("LISTEN_FDS");
		unsetenv("LISTEN_FDNAMES");
		unsetenv("LISTEN_PID");
	}
	free(names);
	return r ? -ENOMEM : 0;
}
