/*
 * A connection as the files of libsluice share it.
 *
 *	down ──try──▶ greeting ──Welcome──▶ up
 *	  ▲──────────────┴───────lost────────┘      with SLUICE_RECONNECT
 *	                 └───────lost────────┴──▶ dead   without it, or when that cannot help
 *
 *	conn.c     the calls of the public header: connect, wait, close
 *	link.c     the socket: open, send, queue, wait
 *	session.c  what arrives, and what it means in which state
 *	view.c     subscriptions: subscribe.c asks, bind.c takes their memory
 *	frame.c    their frames; gpu_frame.c what CUDA streams do with them
 *	mapping.c  their memory: importer.c, with import_host.c, _cuda.c, _vulkan.c
 *	ticket.c   what a driver's thread tells us
 *	streams.c  lists and watches streams
 *	status.c   what `sluice ls` shows
 */
#pragma once

#include "common/list.h"
#include "consumer/error.h"
#include "consumer/link.h"
#include "consumer/status.h"
#include "consumer/streams.h"

enum conn_state {
	CONN_DOWN,     /* waits until retry_ns for the next try */
	CONN_GREETING, /* Hello is sent; the broker has until retry_ns to answer */
	CONN_UP,
	CONN_DEAD, /* can only be closed: result says why */
};

/* A view that was unsubscribed: messages about it may still be on their way. */
struct left_view {
	uint32_t id;
	uint32_t last_request; /* that was sent before the Unsubscribe */
};

struct sluice {
	struct error error;
	enum conn_state state;
	int result; /* of every call once CONN_DEAD */

	struct link link;
	char name[WIRE_NAME_MAX + 1];
	unsigned flags; /* SLUICE_RECONNECT */
	int timeout_ms;
	uint64_t retry_ns;   /* CLOCK_MONOTONIC */
	uint64_t backoff_ns; /* of the last try; 0: none since the session began */

	uint64_t session; /* the broker's; 0 unless CONN_UP */
	unsigned epoch;   /* counts the sessions that were lost */
	struct error bye; /* why the broker says that it ends the session; code NONE: it has not */

	uint32_t last_request; /* number of the last Subscribe or StatusRequest */
	uint64_t last_mapping; /* number of the last generation, mapping::number */
	struct list views;     /* sluice_view::link */
	struct list leaving;   /* importer::leaving of all of them */
	unsigned n_tickets;    /* frames whose release waits for GPU work */
	struct left_view left[WIRE_SUBSCRIPTIONS_MAX];
	unsigned n_left;
	struct streams streams;
	struct status status;
	bool news; /* something ended or changed since sluice_wait() returned */

	struct wire_arena *arena;        /* the packet that is being handled */
	uint8_t packet[WIRE_PACKET_MAX]; /* its bytes */
};

/* Has what the caller waits for happened? */
typedef bool (*conn_done_fn)(const struct sluice *conn, const void *arg);

/**
 * Read what arrives until done() says so, at most for the connection's timeout.
 *
 * 0; -ETIMEDOUT; or negative when the connection is dead.
 */
int conn_until(struct sluice *conn, conn_done_fn done, const void *arg);

/* As above, until requests can be sent. */
int conn_until_up(struct sluice *conn);

/* CLOCK_MONOTONIC; UINT64_MAX for -1, which is for ever. */
uint64_t conn_deadline(int timeout_ms);

/* Record the sentence; returns r, so that failing is one line. */
int conn_error(struct sluice *conn, int r, enum sluice_error_code code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* The broker broke the protocol: records the sentence and returns -EPROTO. */
int conn_protocol_error(struct sluice *conn, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* A number for a request; never 0. */
uint32_t conn_next_request(struct sluice *conn);

/* Was a request of this number made in this process's life? Late answers are no broker's fault. */
bool conn_has_requested(const struct sluice *conn, uint32_t request);

/* Send a message, or queue it. No answer: a failure is noticed where the socket is read. */
void conn_send(struct sluice *conn, const Sluice__Packet *packet);

/* Messages were read outside sluice_dispatch(): make sluice_fd() readable if there is news. */
void conn_keep_news(struct sluice *conn);

/* Make sluice_fd() readable: something waits here that no socket will announce. */
void conn_wake(struct sluice *conn);
