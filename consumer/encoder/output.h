/*
 * One opened output, a file or a connection to a server: packets in, bytes out.
 *
 * Whatever the container, what was written is playable when the process is killed: at most about a
 * second is still on its way.
 */
#pragma once

#include <libavformat/avformat.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/encoder/problem.h"
#include "consumer/encoder/track.h"

struct output;

/**
 * Which container, and can anything be written there? Creates nothing.
 *
 * path        [borrow] a file, an URL, or "pipe:1"
 * muxer       [borrow] FFmpeg's name of a container; NULL: the protocol or the path's ending decides
 * codec       [borrow] what shall go into it
 * format_out  lives for ever
 *
 * 0; -EINVAL: no such container, or it cannot hold the codec; or the errno value with which the
 * file cannot be written. All with a sentence.
 */
int output_check(const char *path, const char *muxer, const AVCodec *codec,
	const AVOutputFormat **format_out, struct problem *problem);

/* ENCODER_… flags that an encoder for this container needs. */
unsigned output_encoder_flags(const AVOutputFormat *format);

/* What an output is, by its name, and where that is in the file system by what is there. */
enum output_kind {
	OUTPUT_FILE,   /* a name in the file system: there may be several */
	OUTPUT_PIPE,   /* there is one, and it waits for its reader; or a device */
	OUTPUT_SERVER, /* it may be away, and come back */
};

enum output_kind output_kind_of(const char *path);

struct output_patience {
	/* asked while something blocks (a pipe that nobody reads): not 0 ends that with an error */
	AVIOInterruptCB interrupt;
	int64_t timeout_us; /* for a viewer who has come and says nothing; 0: for ever */
};

/**
 * Create the file, or connect, and write the header. The first packet's time will be 0. May block
 * on a network or a pipe.
 *
 * track       [borrow] for the call
 * patience    [borrow] for the call, its opaque until output_close(). NULL: no end of it
 * output_out  [give]
 */
int output_open(struct output **output_out, const char *path, const AVOutputFormat *format,
	const struct track *track, const struct output_patience *patience, struct problem *problem);

/* packet [borrow], blank afterwards. 0, or negative with a sentence. May block. */
int output_write(struct output *output, AVPacket *packet, struct problem *problem);

/* A write did not work: more of them will not either. */
bool output_has_failed(const struct output *output);

/**
 * End the file so that it is complete, unless a write failed before. May block.
 *
 * bytes_out  how much was written; set in every outcome
 *
 * 0, or negative with a sentence. The output is gone in every outcome.
 */
int output_close(struct output **output, uint64_t *bytes_out, struct problem *problem);
