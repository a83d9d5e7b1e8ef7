/* The socket that clients connect to: one that systemd passes, or one of our own beside a lock. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/fd.h"

struct listen_socket {
	int fd;         /* listening */
	int lock_fd;    /* holds the lock as long as it is open; -EBADF with systemd's socket */
	char path[108]; /* empty with systemd's socket */
};

/**
 * The default path: $XDG_RUNTIME_DIR/sluice-0. 0, or a negative errno with a sentence.
 */
int listen_socket_default_path(char *path, size_t path_size, char *error, size_t error_size);

/**
 * Take systemd's socket (LISTEN_FDS) if there is one, else bind `path` ("": the default path).
 *
 * The lock PATH.lock tells a live broker from a stale socket: a stale socket is replaced, a live one
 * never. Anything at `path` that is not a socket is left alone.
 *
 * socket_out  [give] to listen_socket_finish()
 *
 * 0, or negative errno with a sentence: -EADDRINUSE when a broker runs there.
 */
int listen_socket_init(struct listen_socket *socket_out, const char *path, mode_t mode, char *error,
	size_t error_size);

/* Removes our socket and lets the lock go. The listening descriptor may be taken before. Takes a
 * zeroed or finished one only if its descriptors are -EBADF. */
void listen_socket_finish(struct listen_socket *socket);
