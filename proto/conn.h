/*
 * A peer's socket on the event loop: reads one packet whenever there is one, sends without blocking.
 *
 * There is no queue beside the socket's own buffer: a packet that does not fit is the caller's to
 * drop, or the end of the peer.
 */
#pragma once

#include <sys/socket.h>

#include "common/loop.h"
#include "proto/wire.h"

struct conn;

/**
 * One packet came, or the connection is over (packet NULL).
 *
 * packet  [lend] for the call; NULL: result is WIRE_CLOSED or a negative errno
 * fds     [lend] for the call; whatever is left in it is closed afterwards
 *
 * May destroy the conn.
 */
typedef void (*conn_fn)(void *data, const Sluice__Packet *packet, struct fdset *fds, int result);

/**
 * fd        [take] in every outcome: a connected SOCK_SEQPACKET socket
 * arena     [borrow] until destroyed; may be shared by all conns of a loop
 * conn_out  [give]
 */
int conn_create(struct conn **conn_out, struct loop *loop, int *fd, struct wire_arena *arena,
	conn_fn fn, void *data);

/* WIRE_OK, WIRE_AGAIN when the socket is full, or negative errno. fds [take], may be NULL. */
int conn_send(struct conn *conn, const void *data, size_t len, struct fdset *fds);

/* Encode and send; -EMSGSIZE if it is over WIRE_PACKET_MAX. Otherwise as conn_send(). */
int conn_send_packet(struct conn *conn, const Sluice__Packet *packet, struct fdset *fds);

/* Unwatches, then closes. Takes NULL. Returns NULL. */
struct conn *conn_destroy(struct conn *conn);

DEFINE_CLEANUP(struct conn *, conn_destroy);
