#include "consumer/ticket.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "common/fd.h"

struct waker {
	atomic_uint n_refs;
	int fd;
	atomic_bool is_rung; /* set after fd was made readable */
};

struct ticket {
	atomic_uint n_refs; /* ours, and the driver's */
	struct waker *waker;
	atomic_bool is_called;
};

int waker_create(struct waker **waker_out)
{
	struct waker *waker = calloc(1, sizeof(*waker));
	if (!waker)
		return -ENOMEM;
	atomic_init(&waker->n_refs, 1);
	waker->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (waker->fd < 0) {
		int r = -errno;
		free(waker);
		return r;
	}
	*waker_out = waker;
	return 0;
}

int waker_fd(const struct waker *waker)
{
	return waker->fd;
}

void waker_drain(struct waker *waker)
{
	uint64_t n;
	/* between the write and the flag it stays readable: then this is called again */
	if (atomic_exchange(&waker->is_rung, false))
		(void)!read(waker->fd, &n, sizeof(n));
}

struct waker *waker_destroy(struct waker *waker)
{
	if (!waker || atomic_fetch_sub(&waker->n_refs, 1) > 1)
		return NULL;
	fd_closep(&waker->fd);
	free(waker);
	return NULL;
}

struct ticket *ticket_create(struct waker *waker)
{
	struct ticket *ticket = calloc(1, sizeof(*ticket));
	if (!ticket)
		return NULL;
	atomic_init(&ticket->n_refs, 2);
	atomic_fetch_add(&waker->n_refs, 1);
	ticket->waker = waker;
	return ticket;
}

struct ticket *ticket_destroy(struct ticket *ticket)
{
	if (!ticket || atomic_fetch_sub(&ticket->n_refs, 1) > 1)
		return NULL;
	waker_destroy(ticket->waker);
	free(ticket);
	return NULL;
}

void ticket_call(void *data)
{
	static const uint64_t one = 1;
	struct ticket *ticket = data;
	struct waker *waker = ticket->waker;
	atomic_store(&ticket->is_called, true);
	(void)!write(waker->fd, &one, sizeof(one));
	atomic_store(&waker->is_rung, true);
	ticket_destroy(ticket);
}

bool ticket_is_called(const struct ticket *ticket)
{
	return atomic_load(&ticket->is_called);
}
