/*
 * Where the packets of one recording go: into a file, into further ones after it, or to a server.
 *
 * A part is what one encoder fills. The encoder stays its owner's: a part is begun when the encoder
 * is open, and ended when the last packet of it was written. With --segment a part is several
 * files, cut where a key frame is.
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
 * Which container, and can anything be written there? Creates nothing and asks no server.
 *
 * options     [borrow]
 * format_out  lives for ever
 *
 * 0; -EINVAL: what was asked for does not go together; or the errno value with which the output
 * cannot be written. All with a sentence.
 */
int parts_check_output(
	const struct options *options, const AVOutputFormat **format_out, struct problem *problem);

/**
 * Opens nothing yet; a server gets its thread.
 *
 * options    [borrow] until parts_destroy()
 * format     the container, from parts_check_output()
 * stats      [borrow] until parts_destroy(); counts parts and bytes
 * parts_out  [give]
 *
 * 0, or negative with a sentence.
 */
int parts_create(struct parts **parts_out, const struct options *options,
	const AVOutputFormat *format, struct stats *stats, struct problem *problem);

/**
 * Begin a part; the one before has ended. May block on a pipe, but on no server.
 *
 * encoder  [borrow] for the call
 * picture  [borrow] what it encodes
 *
 * 0; -EOPNOTSUPP: there can be no second one; or another negative errno. All with a sentence.
 */
int parts_begin(struct parts *parts, const struct encoder *encoder,
	const struct picture_format *picture, struct problem *problem);

/* A part has begun and takes packets: what the encoder still holds back is worth fetching. */
bool parts_are_open(const struct parts *parts);

/*
 * The picture of this time, in ticks of the encoder, shall be a key frame: a segment begins there,
 * or the server lacks what was before. Asks once.
 */
bool parts_want_key(struct parts *parts, int64_t ticks);

/* packet [borrow], blank afterwards. 0, or negative with a sentence. May block on a pipe. */
int parts_write(struct parts *parts, AVPacket *packet, struct problem *problem);

/* End the part, if one has begun, as far as it can be. 0, or negative with a sentence. */
int parts_end(struct parts *parts, struct problem *problem);

/* Has a server failed for good? 0, or negative with a sentence. Never blocks. */
int parts_check(struct parts *parts, struct problem *problem);

/* No part will follow: wait until a server has everything, some seconds at most. 0 or negative. */
int parts_finish(struct parts *parts, struct problem *problem);

/* Ends no part. Takes NULL. Returns NULL. */
struct parts *parts_destroy(struct parts *parts);

DEFINE_CLEANUP(struct parts *, parts_destroy);
