/*
 * The way to a server: a connection on a thread of its own, made again when it breaks.
 *
 * Whoever captures must not wait for a network, so packets are left in a queue and none of these
 * functions but link_finish() blocks. While the server is away or too slow, packets are thrown away
 * and counted; the stream goes on with a key frame, which link_wants_key() asks the encoder for.
 * (FFmpeg's own muxer "fifo" does something like it, but cannot ask for a key frame, and neither
 * tells nor counts.)
 */
#pragma once

#include <libavformat/avformat.h>
#include <stdbool.h>
#include <stdint.h>

#include "consumer/encoder/problem.h"
#include "consumer/encoder/track.h"

struct link;

struct link_settings {
	const char *url;
	const AVOutputFormat *format;
	bool wait;            /* for the server, if it is away at the start */
	uint64_t timeout_ns;  /* for an answer, and for a write */
	uint64_t patience_ns; /* how long to try again; 0: for ever */
};

struct link_stats {
	uint64_t late;        /* packets that were not sent */
	uint64_t republished; /* times that the server was lost and found again */
	uint64_t bytes;       /* of connections that have ended */
	bool was_connected;
};

/* settings [borrow]. 0, or negative with a sentence. link_out [give] */
int link_create(
	struct link **link_out, const struct link_settings *settings, struct problem *problem);

/**
 * The packets from here on are of another track: a new connection with a new header.
 *
 * track  [take] in every outcome
 *
 * 0, or negative with a sentence.
 */
int link_begin(struct link *link, struct track *track, struct problem *problem);

/* packet [borrow], blank afterwards. 0; or, with a sentence, the failure that ended the link. */
int link_write(struct link *link, AVPacket *packet, struct problem *problem);

/* The next picture should be a key frame. Asks once, and again if none came. */
bool link_wants_key(struct link *link);

/* 0, or, with a sentence, the failure that ended the link. */
int link_check(struct link *link, struct problem *problem);

void link_get_stats(struct link *link, struct link_stats *stats_out);

/* Wait until everything was sent, some seconds at most. 0, or negative with a sentence. */
int link_finish(struct link *link, struct problem *problem);

/* Sends nothing more. Takes NULL. Returns NULL. */
struct link *link_destroy(struct link *link);

DEFINE_CLEANUP(struct link *, link_destroy);
