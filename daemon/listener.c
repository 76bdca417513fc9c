/* SPDX-License-Identifier: MIT */
/*
 * Where the listening socket comes from, in this order:
 *
 *   - the fd store's "listen": the socket that an earlier daemon bound. While the daemon is away
 *     the kernel goes on accepting connections into its queue; nobody is refused. When its path is
 *     gone it is of no use and a new one is bound.
 *   - any other listening socket that the service manager passed (systemd socket activation): its
 *     path and mode are the manager's business.
 *   - a new one. A socket file that is there already is removed only when nobody answers on it.
 *
 * Mode and group are set between bind and listen: nobody can connect before.
 */
#include "daemon/listener.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/fdstore.h"
#include "daemon/log.h"
#include "daemon/options.h"

#define LISTEN_NAME "listen"
#define LISTEN_BACKLOG 4096

static bool listener_is_listening(int fd)
{
	int v = 0;
	socklen_t n = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &v, &n) == 0 && v;
}

static bool listener_path_of(int fd, char path[108])
{
	struct sockaddr_un a = {0};
	socklen_t n = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0 || a.sun_family != AF_UNIX ||
	    !a.sun_path[0])
		return false;
	memcpy(path, a.sun_path, sizeof(a.sun_path) - 1);
	path[107] = '\0';
	return true;
}

static bool listener_path_exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int listener_set_access(const char *path, const struct options *o, mode_t mode,
                               enum log_level level);

/* The socket that a daemon before this one bound. */
static bool listener_take_stored(struct listener *l, const struct options *o, struct fdstore *store)
{
	int fd = fdstore_take(store, LISTEN_NAME);

	if (fd < 0)
		return false;
	if (listener_is_listening(fd) && listener_path_of(fd, l->path) &&
	    strcmp(l->path, o->socket) == 0 && listener_path_exists(l->path)) {
		l->fd = fd;
		l->ours = true;
		listener_reload(l, o);
		return true;
	}
	log_notice("the kept socket is not at %s any more; a new one is made", o->socket);
	close(fd);
	fdstore_remove(store, LISTEN_NAME);
	return false;
}

/* Sections and control memory. */
static bool listener_name_is_pools(const char *name)
{
	return ((name[0] == 's' || name[0] == 'm') && isdigit((unsigned char)name[1])) ||
	       strncmp(name, "words", 5) == 0 || strncmp(name, "views", 5) == 0;
}

static bool listener_take_activated(struct listener *l, const struct options *o,
                                    struct fdstore *store)
{
	for (size_t i = 0; i < fdstore_left(store); i++) {
		int fd;
		char name[256];

		strncpy(name, fdstore_name(store, i), sizeof(name) - 1);
		name[sizeof(name) - 1] = '\0';
		if (listener_name_is_pools(name))
			continue;
		fd = fdstore_take(store, name);
		if (fd < 0)
			continue;
		if (!listener_is_listening(fd)) {
			log_warning("the service manager passed %s, which is no listening socket", name);
			close(fd);
			i = (size_t)-1; /* the list has moved */
			continue;
		}
		l->fd = fd;
		l->ours = false;
		if (listener_path_of(fd, l->path) && strcmp(l->path, o->socket) != 0)
			log_warning("listening at %s, as the service manager says, not at %s", l->path,
			            o->socket);
		return true;
	}
	return false;
}

static int listener_make_parent(const char *path, enum log_level level)
{
	char dir[108];
	char *slash;

	strncpy(dir, path, sizeof(dir) - 1);
	dir[sizeof(dir) - 1] = '\0';
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = '\0';
	if (mkdir(dir, 0755) == 0 || errno == EEXIST)
		return 0;
	log_write(level, "%s cannot be made: %s", dir, strerror(errno));
	return -errno;
}

/* -EADDRINUSE somebody listens there, -ECONNREFUSED nobody does, else why that cannot be told. */
static int listener_probe(const struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 ? -errno : 0;
	close(fd);
	return r == 0 || r == -EAGAIN ? -EADDRINUSE : r;
}

/* A socket file that is in the way: removed when nobody answers on it. */
static int listener_clear_path(const struct sockaddr_un *a, enum log_level level)
{
	struct stat st;
	int r;

	if (lstat(a->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode)) {
		log_write(level, "%s exists and is no socket", a->sun_path);
		return -EEXIST;
	}
	r = listener_probe(a);
	if (r == -EADDRINUSE)
		log_write(level, "another daemon listens at %s", a->sun_path);
	else if (r < 0 && r != -ECONNREFUSED)
		log_write(level, "%s exists and cannot be probed: %s", a->sun_path, strerror(-r));
	if (r != -ECONNREFUSED)
		return r;
	return unlink(a->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int listener_set_access(const char *path, const struct options *o, mode_t mode,
                               enum log_level level)
{
	struct group *g = o->socket_group ? getgrnam(o->socket_group) : NULL;
	struct stat st;

	if (stat(path, &st) < 0) {
		log_write(level, "%s cannot be looked at: %s", path, strerror(errno));
		return -errno;
	}
	/* The narrower of both first: nobody is let in for a moment whom neither admits. */
	if (g && st.st_gid != g->gr_gid &&
	    (chmod(path, st.st_mode & mode & 0707) < 0 ||
	     chown(path, (uid_t)-1, g->gr_gid) < 0)) {
		log_write(level, "%s cannot be given to group %s: %s", path, o->socket_group,
		          strerror(errno));
		return -errno;
	}
	if (chmod(path, mode) < 0) {
		log_write(level, "the mode of %s cannot be set: %s", path, strerror(errno));
		return -errno;
	}
	return 0;
}

int listener_bind_path(const char *path, const struct options *o, mode_t mode, int backlog,
                       enum log_level level, int *ret)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd, r;

	strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
	r = listener_make_parent(path, level);
	if (!r)
		r = listener_clear_path(&a, level);
	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Whatever mode the umask makes of it: nobody can connect before it listens, and the umask is the
	 * whole process's. */
	r = bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
	if (r < 0) {
		log_write(level, "%s cannot be bound: %s", path, strerror(-r));
		close(fd);
		return r;
	}
	r = listener_set_access(path, o, mode, level);
	if (!r && listen(fd, backlog) < 0)
		r = -errno;
	if (r < 0) {
		unlink(path);
		close(fd);
		return r;
	}
	*ret = fd;
	return 0;
}

static int listener_bind(struct listener *l, const struct options *o)
{
	int r = listener_bind_path(o->socket, o, o->socket_mode, LISTEN_BACKLOG,
	                           LOG_LEVEL_ERROR, &l->fd);

	if (r < 0)
		return r;
	l->ours = true;
	strncpy(l->path, o->socket, sizeof(l->path) - 1);
	l->path[sizeof(l->path) - 1] = '\0';
	return 0;
}

int listener_look(const struct options *o, const struct fdstore *store)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	for (size_t i = 0; i < fdstore_left(store); i++)
		if (!listener_name_is_pools(fdstore_name(store, i)))
			return 0;
	strncpy(a.sun_path, o->socket, sizeof(a.sun_path) - 1);
	if (listener_probe(&a) != -EADDRINUSE)
		return 0; /* what else is wrong there is found when it is bound */
	log_error("another daemon listens at %s", a.sun_path);
	return -EADDRINUSE;
}

int listener_open(struct listener *l, const struct options *o, struct fdstore *store)
{
	int r;

	*l = (struct listener){.fd = -1};
	if (listener_take_stored(l, o, store) || listener_take_activated(l, o, store))
		return 0;
	r = listener_bind(l, o);
	if (r < 0)
		return r;
	r = fdstore_push(store, LISTEN_NAME, l->fd);
	if (r < 0)
		log_warning("the listening socket cannot be kept over a restart: %s", strerror(-r));
	return 0;
}

void listener_reload(const struct listener *l, const struct options *o)
{
	if (l->ours)
		listener_set_access(l->path, o, o->socket_mode, LOG_LEVEL_ERROR);
}

void listener_close(struct listener *l)
{
	if (l->fd < 0)
		return;
	if (l->ours)
		unlink(l->path);
	close(l->fd);
	l->fd = -1;
}
