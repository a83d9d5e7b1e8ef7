/*
 * What a driver's thread tells us: that GPU work has ended. It touches nothing else of the library,
 * and nothing that a closed connection takes away.
 */
#pragma once

#include <stdbool.h>

#include "common/cleanup.h"

struct waker;
struct ticket;

/* A descriptor that is readable after a ticket was called. waker_out [give]. 0 or negative errno. */
int waker_create(struct waker **waker_out);

/* [lend] to poll, until waker_destroy() */
int waker_fd(const struct waker *waker);

/* Make it unreadable. Costs no system call if it is already. */
void waker_drain(struct waker *waker);

/* Its descriptor is closed when no ticket of it is out any more. Takes NULL. Returns NULL. */
struct waker *waker_destroy(struct waker *waker);

/* ticket_out [give] to both ticket_call(), once, and ticket_destroy(). NULL: out of memory. */
struct ticket *ticket_create(struct waker *waker);

/* On any thread: the work has ended. data [take] is the ticket. */
void ticket_call(void *data);

bool ticket_is_called(const struct ticket *ticket);

/* Ours: nobody waits for it any more. Takes NULL. Returns NULL. */
struct ticket *ticket_destroy(struct ticket *ticket);

DEFINE_CLEANUP(struct waker *, waker_destroy);
