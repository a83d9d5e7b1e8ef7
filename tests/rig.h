/*
 * A server with streams in this process, and clients that speak the protocol by hand over real
 * sockets: what each side does next is up to the test, turn by turn, and nothing waits.
 */
#pragma once

#include "broker/server.h"

enum { RIG_STREAMS_MAX = CATALOG_STREAMS_MAX, RIG_SLOTS = 8 };

struct rig {
	struct loop *loop;
	struct watch *stop; /* ends a turn of the loop */
	struct catalog catalog;
	struct server_limits limits;
	struct access access;
	struct server *server;
	char address[32]; /* abstract: without its first, zero byte */
	struct stream stream[RIG_STREAMS_MAX];
};

/* A server with no stream yet, and limits that no test reaches by accident. */
void rig_init(struct rig *rig);

void rig_finish(struct rig *rig);

/* Take changed limits and access. */
void rig_configure(struct rig *rig);

/* Add a stream of the next index, RIG_SLOTS slots; it waits, without a format. */
struct stream *rig_add_stream(struct rig *rig, const char *name);

/* Take it away, as broker.c does. */
void rig_remove_stream(struct rig *rig, struct stream *stream);

/* A BGRx format of this size: a new generation. */
void rig_resize(struct stream *stream, uint32_t width, uint32_t height);

/* The next frame, with its number stamped into it. Returns the number, 0 if there was no slot. */
uint64_t rig_publish(struct stream *stream);

/* What is ready now: at most one packet of each client. */
void rig_turn(struct rig *rig);

/* Turns until everything that was sent before has been dealt with. */
void rig_settle(struct rig *rig);

/* Turns for so long: timers run. */
void rig_run_ms(struct rig *rig, unsigned ms);

/* --- a client -------------------------------------------------------------------------------- */

struct peer {
	struct rig *rig;
	int fd;
	struct wire_arena *arena;
	Sluice__Packet *packet; /* received last */
	struct fdset fds;       /* that came with it */
	uint32_t view;          /* of the last Subscribed */
	uint32_t generation;    /* of the last Generation */
	uint32_t sync_fd_view;  /* whose frames may come with a sync_file; 0: none's */
};

/* Connected and accepted; has said nothing. */
void peer_connect(struct peer *peer, struct rig *rig);

/* Takes a closed one. The server is told in the turns of this call. */
void peer_close(struct peer *peer);

/* Send, then settle. fds [take], may be NULL. */
void peer_send_bytes(struct peer *peer, const void *data, size_t len, struct fdset *fds);
void peer_send(struct peer *peer, const Sluice__Packet *packet);

/* The next packet that is there: its body; 0: nothing; -1: the broker has closed. */
int peer_recv(struct peer *peer);

/* The next packet is this one; fails the test otherwise. */
void peer_expect(struct peer *peer, int body);

/* Nothing is there. */
void peer_expect_nothing(struct peer *peer);

/* The next packet is Bye with this code, then the broker has closed. Closes too. */
void peer_expect_bye(struct peer *peer, int code, const char *says);

/* The next packet is Error of this request and code; the session goes on. */
void peer_expect_error(struct peer *peer, uint32_t request, int code, const char *says);

/* The next packet is this frame. */
void peer_expect_frame(struct peer *peer, uint64_t seq);

/* Skip everything up to a packet of this kind; fails the test if the broker closes before. */
void peer_skip_to(struct peer *peer, int body);

/* Each with its answer. */
void peer_hello(struct peer *peer, const char *name);
void peer_ready(struct peer *peer, struct rig *rig, const char *name); /* connect and hello */
void peer_subscribe(struct peer *peer, const Sluice__Subscribe *request);

/* Subscribed to "test", the answer to request 7. */
Sluice__Subscribe rig_request(void);

/* A ready client subscribes so, takes the generation, and answers it. */
void peer_consume_as(struct peer *peer, const Sluice__Subscribe *request);

/* Ready, subscribed to a stream with a generation, bound; frames come from now on. */
void peer_consume(struct peer *peer, struct rig *rig, const char *stream);

/* No answer is expected. */
void peer_ask(struct peer *peer, const Sluice__Subscribe *request);
void peer_list(struct peer *peer, bool watch);
void peer_bound(struct peer *peer, int error, const char *text);
void peer_release(struct peer *peer, uint32_t slot, uint64_t seq);
void peer_unsubscribe(struct peer *peer, uint32_t view);
void peer_status(struct peer *peer, uint32_t request, uint64_t from);

/* The frame that was received last is given back. */
void peer_release_last(struct peer *peer);
