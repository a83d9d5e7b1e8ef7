/*
 * Where frames come from: one stream of the broker, from the connection to the next frame. The one
 * file beside convert.c that talks to libsluice; patience (--wait, --reconnect) is decided here.
 */
#pragma once

#include "common/cleanup.h"
#include "consumer/encoder/options.h"
#include "consumer/encoder/problem.h"
#include "consumer/sluice_consumer.h"

struct source;

/* Frames that are still kept must be given back now: they end with their connection. */
typedef void (*source_ending_fn)(void *data);

/**
 * Connect and subscribe. With --wait, what is not there is waited for in source_next().
 *
 * options     [borrow] until source_destroy()
 * ending      called before a connection is closed
 * source_out  [give]
 *
 * 0, or negative with a sentence. Blocks for the library's time-out at most.
 */
int source_create(struct source **source_out, const struct options *options,
	source_ending_fn ending, void *data, struct problem *problem);

/**
 * The next frame.
 *
 * timeout_ms  how long to wait for one at most, about
 * frame_out   [lend] until sluice_frame_release()
 *
 * 1; 0: none came, or a signal did; or negative with a sentence: there will be no more.
 */
int source_next(struct source *source, int timeout_ms, struct sluice_frame **frame_out,
	struct problem *problem);

/* The encoder's settings for what was subscribed to. [lend] until the next source_next(). */
const struct encoder_settings *source_encoder(const struct source *source);

/* Totals over every subscription that there was. */
void source_get_stats(const struct source *source, struct sluice_view_stats *stats_out);

/* No frame may be held any more. Takes NULL. Returns NULL. */
struct source *source_destroy(struct source *source);

DEFINE_CLEANUP(struct source *, source_destroy);
