#include "broker/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

enum { BACKLOG = 128 };

static int default_path(char *path, size_t path_size, char *error, size_t error_size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	if (!dir || dir[0] != '/') {
		snprintf(error, error_size,
			"XDG_RUNTIME_DIR is not set: say where the socket is to be with --socket PATH");
		return -ENOENT;
	}
	if ((size_t)snprintf(path, path_size, "%s/sluice-0", dir) >= path_size) {
		snprintf(error, error_size,
			"XDG_RUNTIME_DIR is too long for a socket's path: choose another with --socket");
		return -ENAMETOOLONG;
	}
	return 0;
}

/* 1: taken, 0: systemd passed none, negative: what it passed is of no use. */
static int take_from_systemd(struct listen_socket *s, char *error, size_t error_size)
{
	int n = sd_listen_fds(1);
	if (n == 0)
		return 0;
	int fd = SD_LISTEN_FDS_START;
	if (n != 1 || sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0) {
		snprintf(error, error_size,
			"systemd passed %d sockets; one is expected, of ListenSequentialPacket=",
			n);
		return -EINVAL;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	s->fd = fd;
	return 1;
}

static int take_lock(struct listen_socket *s, char *error, size_t error_size)
{
	char lock_path[sizeof(s->path) + 8];
	snprintf(lock_path, sizeof(lock_path), "%s.lock", s->path);
	_cleanup_fd_ int fd = open(lock_path, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		int r = -errno;
		snprintf(error, error_size,
			"cannot make %s: %s; make its folder, or choose another --socket",
			lock_path, strerror(-r));
		return r;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int r = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
		if (r == -EADDRINUSE)
			snprintf(error, error_size,
				"a broker is running on %s already: stop it, or choose another --socket",
				s->path);
		else
			snprintf(error, error_size, "cannot lock %s: %s; choose another --socket",
				lock_path, strerror(-r));
		return r;
	}
	s->lock_fd = fd_take(&fd);
	return 0;
}

/* We have the lock: whatever socket is there is a dead broker's. */
static int remove_stale(const struct listen_socket *s, char *error, size_t error_size)
{
	struct stat st;
	if (lstat(s->path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(error, error_size, "%s is there and is no socket: it is left alone",
			s->path);
		return -EEXIST;
	}
	unlink(s->path);
	return 0;
}

static int bind_and_listen(struct listen_socket *s, mode_t mode, char *error, size_t error_size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", s->path);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		int r = -errno;
		snprintf(error, error_size, "cannot make a socket: %s", strerror(-r));
		return r;
	}
	mode_t old = umask(0777 & ~mode);
	int r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(old);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0) {
		snprintf(error, error_size, "cannot listen on %s: %s", s->path, strerror(-r));
		return r;
	}
	s->fd = fd_take(&fd);
	return 0;
}

static int choose_path(struct listen_socket *s, const char *path, char *error, size_t error_size)
{
	if (!path[0])
		return default_path(s->path, sizeof(s->path), error, error_size);
	if (strlen(path) >= sizeof(s->path)) {
		snprintf(error, error_size,
			"the socket's path has %zu bytes, and %zu are the most: choose a shorter --socket",
			strlen(path), sizeof(s->path) - 1);
		return -ENAMETOOLONG;
	}
	snprintf(s->path, sizeof(s->path), "%s", path);
	return 0;
}

static int make_own(
	struct listen_socket *s, const char *path, mode_t mode, char *error, size_t error_size)
{
	int r = choose_path(s, path, error, error_size);
	if (r == 0)
		r = take_lock(s, error, error_size);
	if (r == 0)
		r = remove_stale(s, error, error_size);
	if (r == 0)
		r = bind_and_listen(s, mode, error, error_size);
	return r;
}

int listen_socket_init(struct listen_socket *socket_out, const char *path, mode_t mode, char *error,
	size_t error_size)
{
	struct listen_socket s = { .fd = -EBADF, .lock_fd = -EBADF };
	int r = take_from_systemd(&s, error, error_size);
	if (r == 0)
		r = make_own(&s, path, mode, error, error_size);
	if (r < 0) {
		fd_closep(&s.lock_fd);
		return r;
	}
	*socket_out = s;
	return 0;
}

void listen_socket_finish(struct listen_socket *s)
{
	/* the lock file stays: removing it would let two brokers lock two files of one name */
	if (s->path[0] && s->lock_fd >= 0)
		unlink(s->path);
	fd_closep(&s->fd);
	fd_closep(&s->lock_fd);
}
