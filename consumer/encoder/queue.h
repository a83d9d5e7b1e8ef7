/*
 * Packets on their way to a server, and between them what the ones behind are of. Bounded in time
 * and in memory: what would be seen too late is better not sent. Not thread-safe.
 */
#pragma once

#include <libavcodec/avcodec.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consumer/encoder/track.h"

enum {
	QUEUE_AGE_MS = 2000,        /* of the oldest packet */
	QUEUE_BYTES_MAX = 64 << 20, /* of all packets */
};

/* One of the two is NULL. */
struct queue_item {
	AVPacket *packet;
	struct track *track; /* of the packets behind it */
};

struct queue {
	struct queue_entry *first, **end;
	size_t bytes;
	unsigned n_packets;
};

void queue_init(struct queue *queue);

/* Empty it. Returns how many packets there were. */
unsigned queue_clear(struct queue *queue);

/* packet [borrow]: moved into the queue, blank afterwards. 0 or -ENOMEM. */
int queue_add_packet(struct queue *queue, AVPacket *packet, uint64_t now_ns);

/* track [take] in every outcome. 0 or -ENOMEM. */
int queue_add_track(struct queue *queue, struct track *track, uint64_t now_ns);

/* Take what came first; false: it is empty. item_out [give] */
bool queue_take(struct queue *queue, struct queue_item *item_out);

/* Throw the packets away and keep the tracks. Returns how many packets there were. */
unsigned queue_drop_packets(struct queue *queue);

/* A packet has waited for longer than that. */
bool queue_is_older(const struct queue *queue, uint64_t age_ns, uint64_t now_ns);

/* Nothing more may be added: what is in it is not worth sending any more. */
bool queue_is_full(const struct queue *queue, uint64_t now_ns);
