/* SPDX-License-Identifier: MIT */
/*
 * Descriptors over Unix sockets. See fdpass.h.
 *
 * The kernel rounds the control buffer up to the alignment of a cmsghdr, so a buffer meant for one
 * descriptor can receive two: what comes is counted against the caller's room, not the buffer's,
 * and descriptors beyond it are closed with all others of that message.
 */
#include "shm/fdpass.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union fdpass_control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
};

ssize_t fdpass_send(int socket, const struct iovec *iov, size_t niov, const int fd[], size_t nfds)
{
	union fdpass_control control;
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = niov };
	ssize_t n;

	if (nfds > FDPASS_MAX)
		return -EINVAL;
	if (nfds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fd, nfds * sizeof(int));
	}
	do
		n = sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Takes the descriptors out of a received message: up to `room` into fd, the rest is closed.
 * Returns how many came in all. */
static size_t rights_collect(struct msghdr *msg, int fd[], size_t room)
{
	struct cmsghdr *c;
	size_t total = 0;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t i, n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++, total++) {
			int f;

			memcpy(&f, CMSG_DATA(c) + i * sizeof(int), sizeof(f));
			if (total < room)
				fd[total] = f;
			else
				close(f);
		}
	}
	return total;
}

ssize_t fdpass_receive(int socket, void *buf, size_t size, int fd[], size_t *nfds, int flags)
{
	union fdpass_control control;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	size_t room = *nfds, total;
	ssize_t n;

	do
		n = recvmsg(socket, &msg, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	total = rights_collect(&msg, fd, room);
	if ((msg.msg_flags & MSG_CTRUNC) || total > room) {
		size_t i;

		for (i = 0; i < total && i < room; i++)
			close(fd[i]);
		return -EPROTO;
	}
	*nfds = total;
	return n;
}
