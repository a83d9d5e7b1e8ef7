/*
 * The socket to the broker, the descriptor that users poll, and the messages that did not fit yet.
 * No state beyond that: session.c decides what happens.
 */
#pragma once

#include <stdbool.h>
#include <sys/un.h>

#include "consumer/error.h"
#include "consumer/ticket.h"

enum { LINK_QUEUE_BYTES = 16384 }; /* many times what a client can have to say at once */

struct link {
	struct sockaddr_un address;
	int sock;            /* -EBADF: not connected */
	int timer_fd;        /* wakes the user when no socket will */
	bool is_armed;       /* the timer may go off */
	struct waker *waker; /* wakes the user when GPU work has ended; NULL: none yet */
	int epoll_fd;        /* what users poll: the other three */
	bool is_full;        /* the socket took no more: waits for EPOLLOUT */
	bool overflown;      /* a message was lost because the queue is full */
	size_t queued;       /* bytes of the queue */
	uint8_t queue[LINK_QUEUE_BYTES]; /* a uint16_t of length, then the message, and so on */
};

/* Resolve the path (NULL: the default), make the descriptors. 0 or negative, with the sentence. */
int link_init(struct link *link, const char *path, struct error *error);

/* Takes a zeroed one that link_init() refused, too. */
void link_finish(struct link *link);

/**
 * Connect. Never blocks.
 *
 * 0; -EAGAIN: the broker has more connections waiting than it accepts at once; or what connect(2)
 * says.
 */
int link_open(struct link *link);

/* Drops what was queued. */
void link_close(struct link *link);

/* Sends or queues. A broken connection is noticed by who reads. */
void link_send(struct link *link, const Sluice__Packet *packet);

/* Sends what was queued, as far as the socket takes it. */
void link_flush(struct link *link);

/* Make epoll_fd readable at a time (CLOCK_MONOTONIC), at once if it is past. 0: never. */
void link_arm(struct link *link, uint64_t at_ns);

/* The timer has gone off: make it unreadable. */
void link_drain_timer(struct link *link);
void link_drain_waker(struct link *link);

/* What tickets are made of; made by the first call. waker_out [lend] until link_finish(). */
int link_waker(struct link *link, struct waker **waker_out);

/**
 * Sleep until epoll_fd is readable or a time (CLOCK_MONOTONIC; UINT64_MAX: for ever).
 *
 * 0, or -EINTR.
 */
int link_sleep(const struct link *link, uint64_t until_ns);

/**
 * Sleep until a ticket is called, the broker hangs up, or some milliseconds have passed. What the
 * broker sent stays unread.
 *
 * True if the broker has hung up.
 */
bool link_nap(const struct link *link, int ms);

/* The sentence for a failed link_open(). */
void link_explain(const struct link *link, int r, struct error *error);
