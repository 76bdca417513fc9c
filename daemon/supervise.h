/* SPDX-License-Identifier: MIT */
/*
 * kmmd --supervise: a tiny process that keeps the memory and starts the daemon again when it dies,
 * speaking the fd store protocol, where there is no systemd. It holds no state but names and fds.
 */
#ifndef DAEMON_SUPERVISE_H
#define DAEMON_SUPERVISE_H

/* Runs the daemon (argv without --supervise) as a direct child until SIGTERM or SIGINT, which ends
 * the daemon and the pool; SIGHUP is passed on. Restarts it whenever it dies, except after exit
 * status 3 (it refused its state): returns 3 then. Returns the exit status of the supervisor. */
int supervise_run(int argc, char *argv[]);

#endif
