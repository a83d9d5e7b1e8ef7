/*
 * Where the packets of one recording go: into a file, and into further ones after it.
 *
 * A part is what one encoder fills. The encoder stays its owner's: a part is begun when the encoder
 * is open, and ended when the last packet of it was written.
 */
#pragma once

#include <libavformat/avformat.h>
#include <stdbool.h>

#include "common/cleanup.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/options.h"
#include "consumer/encoder/problem.h"
#include "consumer/encoder/stats.h"

struct parts;

/**
 * Opens nothing yet.
 *
 * options    [borrow] until parts_destroy()
 * format     the container, from output_check()
 * stats      [borrow] until parts_destroy(); counts parts and bytes
 * parts_out  [give]
 *
 * 0, or -ENOMEM with a sentence.
 */
int parts_create(struct parts **parts_out, const struct options *options,
	const AVOutputFormat *format, struct stats *stats, struct problem *problem);

/**
 * Begin a part; the one before has ended. May block on a network or a pipe.
 *
 * encoder  [borrow] until parts_end()
 * picture  [borrow] what it encodes
 *
 * 0; -EOPNOTSUPP: there can be no second one; or another negative errno. All with a sentence.
 */
int parts_begin(struct parts *parts, const struct encoder *encoder,
	const struct picture_format *picture, struct problem *problem);

/* A part has begun and takes packets: what the encoder still holds back is worth fetching. */
bool parts_are_open(const struct parts *parts);

/* packet [borrow], blank afterwards. 0, or negative with a sentence. May block. */
int parts_write(struct parts *parts, AVPacket *packet, struct problem *problem);

/* End the part, if one has begun, as far as it can be. 0, or negative with a sentence. */
int parts_end(struct parts *parts, struct problem *problem);

/* Ends nothing. Takes NULL. Returns NULL. */
struct parts *parts_destroy(struct parts *parts);

DEFINE_CLEANUP(struct parts *, parts_destroy);
