/*
 * The broker: creates every stage, connects them, destroys them in reverse. The architecture in one
 * file.
 *
 *	capture ──▶ bridge ──▶ stream (pool, fanout) ──▶ server, client ══socket══▶
 */
#pragma once

#include "broker/settings.h"
#include "broker/socket.h"

struct broker;

/**
 * loop        [borrow] until destroyed
 * settings    [borrow] for the call
 * broker_out  [give]
 *
 * 0 or negative errno, with a sentence.
 */
int broker_create(struct broker **broker_out, struct loop *loop, const struct settings *settings,
	char *error, size_t error_size);

/**
 * Take changed settings: limits, access rules, and sources that came, went or changed. Slots and memory
 * are for generations to come; the socket stays. A source that cannot be is said and left
 * out; the others run.
 */
void broker_configure(struct broker *broker, const struct settings *settings);

/* Tell every client why, and take no more of anything. */
void broker_drain(struct broker *broker, const char *reason);

/* All clients have gone after broker_drain(). */
bool broker_idle(const struct broker *broker);

/* Where it listens, for people. [lend] until broker_destroy() */
const char *broker_socket_path(const struct broker *broker);

/* Takes NULL. Returns NULL. */
struct broker *broker_destroy(struct broker *broker);

DEFINE_CLEANUP(struct broker *, broker_destroy);
