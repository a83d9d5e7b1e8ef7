/*
 * What a container must know of the packets that go into it. It outlives the encoder: the next
 * segment, and a server that comes back, are told it again.
 */
#pragma once

#include <libavcodec/avcodec.h>

#include "common/cleanup.h"
#include "consumer/encoder/encoder.h"

struct track {
	AVCodecParameters *codec;
	AVRational time_base;  /* of the packets */
	AVRational frame_rate; /* num 0: not known */
};

/* encoder [borrow], track_out [give]. 0 or -ENOMEM. */
int track_create(struct track **track_out, const struct encoder *encoder);

/* Takes NULL. Returns NULL. */
struct track *track_destroy(struct track *track);

DEFINE_CLEANUP(struct track *, track_destroy);
