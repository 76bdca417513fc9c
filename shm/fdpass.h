/* SPDX-License-Identifier: MIT */
/*
 * sendmsg and recvmsg with descriptors (SCM_RIGHTS), with their limits handled: at most
 * FDPASS_MAX a message, MSG_CTRUNC is an error, received descriptors are close-on-exec.
 */
#ifndef SHM_FDPASS_H
#define SHM_FDPASS_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#define FDPASS_MAX 253u

/* Bytes sent or a negative errno; the descriptors go with the first byte. MSG_NOSIGNAL |
 * MSG_DONTWAIT are always set; further flags: none. */
ssize_t fdpass_send(int socket, const struct iovec *iov, size_t niov, const int fd[], size_t nfds);
/* Bytes received, 0 at the end; *nfds (in: room, out: received). -EPROTO after MSG_CTRUNC (what
 * came is closed). flags as for recvmsg. */
ssize_t fdpass_receive(int socket, void *buf, size_t size, int fd[], size_t *nfds, int flags);

#endif
