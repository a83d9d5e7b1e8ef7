/*
 * One datagram is one packet and one set of descriptors: the only code that calls sendmsg and
 * recvmsg. No loop and no state; safe to use from any thread. PROTOCOL.md is the specification.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/fd.h"
#include "sluice.pb-c.h"

/* The limits of the protocol. Each is tested one past it. */
enum {
	WIRE_VERSION = 1,

	WIRE_REQUEST_MAX = 2048,    /* bytes of a packet from a client */
	WIRE_PACKET_MAX = 65536,    /* bytes of a packet from the broker */
	WIRE_REQUEST_ARENA = 16384, /* bytes: room to decode a request */
	WIRE_PACKET_ARENA = 262144, /* bytes: room to decode any packet */

	WIRE_NAME_MAX = 64,    /* bytes of a stream's or client's name, without the NUL */
	WIRE_TEXT_MAX = 512,   /* bytes of a sentence, without the NUL */
	WIRE_SOURCE_MAX = 256, /* bytes of a source's description, without the NUL */
	WIRE_STREAMS_MAX = 64, /* streams of one broker */
	WIRE_SLOTS_MAX = 64,   /* slots of one generation */
	WIRE_SLOTS_MIN = 4,
	WIRE_HOLDS_MAX = 16, /* frames that one subscription may hold */
	WIRE_HOLDS_DEFAULT = 2,
	WIRE_FIFO_MAX = 32,         /* frames that may wait for one subscription */
	WIRE_SUBSCRIPTIONS_MAX = 8, /* of one client */
	WIRE_DAMAGE_MAX = 16,       /* rectangles of one frame */
	WIRE_STATUS_CLIENTS = 5,    /* clients in one Status */
	WIRE_STATUS_STREAMS = 2,    /* streams in one Status, with all their views */
	WIRE_GPUS_MAX = 8,          /* GPUs of one broker */
	WIRE_DEVICES_MAX = 16,      /* UUIDs in one Subscribe */
	WIRE_UUID_BYTES = 16,
};

enum wire_result {
	WIRE_OK = 0,
	WIRE_AGAIN = 1,  /* send: the socket is full; receive: nothing is there */
	WIRE_CLOSED = 2, /* receive: the peer has closed */
};

/**
 * Send one datagram. Never blocks on a non-blocking socket.
 *
 * fds  [take] in every outcome; may be NULL
 *
 * WIRE_OK, WIRE_AGAIN, or negative errno: -EPIPE or -ECONNRESET when the peer is gone,
 * -ETOOMANYREFS when too many descriptors are in flight, -EMSGSIZE.
 */
int wire_send(int sock, const void *data, size_t len, struct fdset *fds);

/**
 * Receive one datagram. Blocks only on a blocking socket.
 *
 * data     [borrow] room for `size` bytes
 * fds_out  [give] every descriptor that came, close-on-exec; empty unless WIRE_OK
 *
 * WIRE_OK, WIRE_AGAIN, WIRE_CLOSED, or negative errno; -EPROTO when the datagram or its descriptors
 * did not fit (MSG_TRUNC, MSG_CTRUNC), but -EMFILE when it is this process that may open no more
 * descriptors: then nothing is given.
 */
int wire_recv(int sock, void *data, size_t size, size_t *len_out, struct fdset *fds_out);

/**
 * Serialise. data [borrow] room for `size` bytes. 0, or -EMSGSIZE if it does not fit.
 */
int wire_encode(const Sluice__Packet *packet, void *data, size_t size, size_t *len_out);

/* Memory for one decoded packet; reused by the next. Aligned for any type. */
struct wire_arena {
	size_t size;
	size_t used;
	_Alignas(16) unsigned char data[];
};

/* arena_out [give] to free(). NULL if there is no memory. */
struct wire_arena *wire_arena_create(size_t size);

/**
 * Parse.
 *
 * arena       [borrow]
 * packet_out  [lend] until the arena is used again or freed
 *
 * 0, or -EPROTO: malformed, no body, an unknown body, or more than the arena holds. Never
 * allocates.
 */
int wire_decode(
	const void *data, size_t len, struct wire_arena *arena, Sluice__Packet **packet_out);

/* "hello", "release"; "unknown" for a number that is no message. Lives for ever. */
const char *wire_body_name(int body_case);

/* "protocol", "no-stream": stable names of error codes, for people and JSON. */
const char *wire_error_name(int code);

/* Is it a name a stream or client may have? 1 to WIRE_NAME_MAX bytes of printable UTF-8. */
int wire_name_check(const char *name);
