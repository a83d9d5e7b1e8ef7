/*
 * A client's session: hello, the messages that the gate lets through, its subscriptions, its end.
 *
 * Whatever fails below only returns; the outermost callback, or the server's reaper, destroys.
 */
#pragma once

#include "broker/gate.h"
#include "broker/server.h"
#include "proto/conn.h"

struct client {
	struct list link; /* server::clients */
	struct server *server;
	struct conn *conn;
	uint64_t id;
	struct access_peer peer;
	unsigned roles;
	enum session_state state;
	char name[WIRE_NAME_MAX + 1];
	uint64_t connected_ns;
	bool watching;
	unsigned fds_in_flight; /* sent with Generations that are not known to be read */
	/* of those, the ones whose subscription has ended: an answer to a later Generation shows that
	 * they were read, or at least left the socket */
	unsigned fds_orphaned;
	uint64_t orphaned_at; /* client::generations_sent when the last of them was sent */
	uint64_t generations_sent;
	unsigned n_subscriptions;
	struct subscription *subscription[WIRE_SUBSCRIPTIONS_MAX];

	bool doomed;  /* to be destroyed by the reaper */
	int end_code; /* Sluice__ErrorCode of the last error, 0: none */
	char end_text[WIRE_TEXT_MAX + 1];
};

/**
 * Begin a session on an accepted socket. One client and one descriptor of the user's quota are
 * charged already; client_destroy() returns them.
 *
 * fd          [take] in every outcome
 * client_out  [give]
 */
int client_create(struct client **client_out, struct server *server, int *fd,
	const struct access_peer *peer, unsigned roles);

/* Returns all that it held, leaves the server, closes. Takes NULL. Returns NULL. */
struct client *client_destroy(struct client *client);

/* Log why it was doomed, and destroy. Returns NULL. */
struct client *client_reap(struct client *client);

/* End it soon, with this reason: Bye is sent at once. From anywhere. */
void client_doom(struct client *client, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Send Bye and expect it to close: nothing it says counts any more. */
void client_say_bye(struct client *client, int code, const char *text);

/**
 * Send a control message. A full socket dooms the client: it does not read.
 *
 * fds  [take], may be NULL
 *
 * 0, also if it is doomed or ended; -ETOOMANYREFS if too many descriptors are in flight: try again.
 */
int client_send(struct client *client, const Sluice__Packet *packet, struct fdset *fds);

/* A request failed; the session goes on. */
void client_send_error(struct client *client, uint32_t request, int code, const char *text);

/* Tell it of a stream, if it watches. */
void client_stream_changed(struct client *client, const Sluice__StreamInfo *info);

/* Has it missed a deadline? Then it is doomed. */
void client_check_deadlines(struct client *client, uint64_t now_ns);

DEFINE_CLEANUP(struct client *, client_destroy);
