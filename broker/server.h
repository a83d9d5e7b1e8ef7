/*
 * The listening socket and its clients: accepts within the quotas, sweeps out who missed a deadline,
 * tells who watches of changed streams, remembers who ended and why.
 */
#pragma once

#include <stdint.h>

#include "broker/access.h"
#include "broker/catalog.h"
#include "broker/quota.h"
#include "common/log.h"
#include "common/loop.h"
#include "proto/wire.h"

struct client;
struct subscription;

enum {
	SERVER_ENDED_MAX = 32, /* clients that `sluice ls` still shows after they ended */
	SERVER_GPUS_MAX = WIRE_GPUS_MAX,
};

/* What the status says of GPUs. */
struct server_gpus {
	unsigned n;
	struct server_gpu {
		const struct slot_device *device; /* NULL: it could not be had */
		const char *text;                 /* how it copies, or why it is not used */
		uint64_t used_bytes;
	} gpu[SERVER_GPUS_MAX];
};

/* Bring used_bytes up to date; the same pointer each time. */
typedef const struct server_gpus *(*server_gpus_fn)(void *data);

struct server_limits {
	unsigned clients;
	unsigned clients_per_user;
	uint64_t fds_per_user;
	uint64_t bytes_per_user;
	uint64_t hello_timeout_ns; /* from connect to Hello */
	uint64_t hold_deadline_ns; /* of a reserved hold */
};

/* What is kept of a client that ended. */
struct ended_client {
	uint64_t id;
	char name[WIRE_NAME_MAX + 1];
	pid_t pid;
	uid_t uid;
	uint64_t ended_ns;
	uint64_t lived_ns;
	char reason[WIRE_TEXT_MAX + 1];
	unsigned n_subscriptions;
	struct ended_subscription {
		char stream[STREAM_NAME_MAX + 1];
		uint32_t view;
		struct subscriber_options options;
		struct subscriber_counts counts;
		uint64_t latency_p50_ns;
		uint64_t latency_p99_ns;
	} subscription[WIRE_SUBSCRIPTIONS_MAX];
};

/* One frame's message is the same for every subscriber: it is packed once. */
struct frame_message {
	uint32_t view;
	uint32_t generation;
	uint64_t seq;
	uint64_t paced;
	uint64_t copied_ns; /* differs between those who get it early and the others */
	size_t len;
	uint8_t data[1024];
};

struct server {
	struct loop *loop;
	struct catalog *catalog;
	struct server_limits limits;
	struct access access;
	struct quota quota;
	server_gpus_fn gpus; /* NULL: none */
	void *gpus_data;
	uid_t own_uid;
	uint64_t session;
	uint64_t started_ns;

	int listen_fd;
	struct watch *listen_watch; /* NULL while accepting is paused */
	struct watch *pause_timer;
	struct watch *sweep_timer;
	struct watch *reap_timer;

	struct list clients; /* client::link, by rising id */
	unsigned n_clients;
	uint64_t last_client_id;
	uint64_t refused;     /* connections */
	struct log_limit log; /* of lines that clients cause */
	bool pause_logged;    /* once until one is accepted again */
	struct log_limit refusal_log;
	bool draining;

	struct wire_arena *arena;
	struct frame_message frame;
	unsigned n_ended; /* ended[0] is the oldest */
	struct ended_client ended[SERVER_ENDED_MAX];
};

/**
 * Listen.
 *
 * listen_fd   [take] in every outcome: a listening SOCK_SEQPACKET socket
 * catalog     [borrow] until destroyed; server_stream_changed() is to be called for its streams
 * server_out  [give]
 */
int server_create(
	struct server **server_out, struct loop *loop, int *listen_fd, struct catalog *catalog);

/* Limits and rules of a changed configuration; who is connected already stays. */
void server_configure(
	struct server *server, const struct server_limits *limits, const struct access *access);

/* Where the status learns of GPUs. data [borrow] until server_destroy() */
void server_set_gpus(struct server *server, server_gpus_fn gpus, void *data);

/* A stream's state, text or format is new. */
void server_stream_changed(struct server *server, struct stream *stream);

/* Every subscription to it ends with this reason; who watches is told. */
void server_stream_removed(struct server *server, struct stream *stream, const char *reason);

/* Accept nobody any more, send every client Bye with this reason, and let them go. */
void server_drain(struct server *server, const char *reason);

/* All clients are gone. */
bool server_idle(const struct server *server);

/* Ends all clients without a word. Takes NULL. Returns NULL. */
struct server *server_destroy(struct server *server);

DEFINE_CLEANUP(struct server *, server_destroy);

/* --- for client.c ---------------------------------------------------------------------------- */

/* Remember an ended client. */
struct ended_client *server_remember(struct server *server);

/* Doomed clients are destroyed in the next turn of the loop. */
void server_schedule_reap(struct server *server);

/* The packed message of a frame. [lend] until the next call. NULL if it cannot be packed. */
const struct frame_message *server_frame_message(struct server *server, uint32_t view,
	const struct lease *lease, const struct frame_info *info);
