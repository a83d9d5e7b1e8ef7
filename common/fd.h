/*
 * File descriptors and who owns them.
 *
 * `int fd` borrows. `int *fd` and `struct fdset *` take: they are empty afterwards, whatever
 * happened, so that a double close cannot be written. A descriptor that is not open is -EBADF.
 */
#pragma once

#include <errno.h>
#include <unistd.h>

#include "common/cleanup.h"

/* The most descriptors that travel with one message: a control page and 64 slots, and some room. */
#define FDSET_MAX 72

static inline void fd_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
	*fd = -EBADF;
}

#define _cleanup_fd_ _cleanup_(fd_closep)

/* Give the descriptor away: the local is -EBADF afterwards. */
static inline int fd_take(int *fd)
{
	int taken = *fd;
	*fd = -EBADF;
	return taken;
}

struct fdset {
	unsigned n;
	int fd[FDSET_MAX]; /* fd[0] to fd[n - 1] are open */
};

/* Close all. */
static inline void fdset_close(struct fdset *set)
{
	for (unsigned i = 0; i < set->n; i++)
		fd_closep(&set->fd[i]);
	set->n = 0;
}

#define _cleanup_fdset_ _cleanup_(fdset_close)

/* Take one out. Returns the descriptor, which the caller owns, or -EBADF past the end. */
static inline int fdset_steal(struct fdset *set, unsigned i)
{
	return i < set->n ? fd_take(&set->fd[i]) : -EBADF;
}
