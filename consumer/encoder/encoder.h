/*
 * One encoder: frames in, packets out.
 *
 * Two steps, because a lent frame is given back as soon as its pixels were read and encoding takes
 * much longer: encoder_load() reads the pixels into memory of the encoder's own, encoder_encode()
 * encodes what was loaded. Packets are fetched with encoder_receive() after each.
 *
 * Behind this header is libavcodec with pictures in host memory. An encoder that takes pictures
 * where the GPU has them belongs here as well, and nothing outside needs to know.
 */
#pragma once

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/encoder/convert.h"
#include "consumer/encoder/problem.h"
#include "consumer/sluice_consumer.h"

struct encoder;

enum { ENCODER_OPTIONS_MAX = 64 };

/* What the user asked for. All strings [borrow] until encoder_open() returns. */
struct encoder_settings {
	const char *codec;   /* an encoder of FFmpeg's, or a codec */
	const char *pix_fmt; /* NULL: chosen */
	const char
		*preset; /* NULL: what suits live pictures, as is tune; "none": the codec's own */
	const char *tune;
	int64_t bit_rate; /* bits per second; 0: not given */
	double crf;       /* negative: not given */
	int64_t qp;       /* negative: not given */
	int64_t gop;      /* frames; negative: a key frame each second, whatever the frame rate */
	AVRational rate;  /* frames per second, nominal; num 0: not given */
	int64_t n_options;
	const char *option[ENCODER_OPTIONS_MAX]; /* "key=value" */
};

/* What the file needs of the encoder. */
enum {
	ENCODER_GLOBAL_HEADER = 1, /* parameter sets in the file's header, not in the packets */
	ENCODER_CONSTANT_RATE = 2, /* times are multiples of one frame */
};

/* NULL if FFmpeg has no video encoder and no codec of that name. Lives for ever. */
const AVCodec *encoder_find(const char *name);

/**
 * Would these settings work? Opens an encoder for a small picture and closes it again: a value that
 * the codec does not take is found before there is a stream.
 *
 * 0, or negative with a sentence.
 */
int encoder_check(const struct encoder_settings *settings, struct problem *problem);

/**
 * Open an encoder for pictures of one format. A side that is odd is cropped by one pixel where the
 * codec wants even sides: encoder_size() tells.
 *
 * settings     [borrow]
 * format       [borrow]
 * flags        ENCODER_…
 * encoder_out  [give]
 *
 * 0; -EINVAL: a setting that does not work; -EOPNOTSUPP: a format that does not; -ENOMEM; or
 * another negative errno. All with a sentence. May take some 10 ms.
 */
int encoder_open(struct encoder **encoder_out, const struct encoder_settings *settings,
	const struct picture_format *format, unsigned flags, struct problem *problem);

/* Width and height of what is encoded, in pixels. */
void encoder_size(const struct encoder *encoder, int *width_out, int *height_out);

/* Seconds per tick of the times that encoder_encode() takes and packets carry. */
AVRational encoder_time_base(const struct encoder *encoder);

/* Write the codec's parameters into a stream of a file. 0 or -ENOMEM. */
int encoder_describe(const struct encoder *encoder, AVStream *stream);

/**
 * Read a frame's pixels. The frame may be given back afterwards; whether it was still whole is the
 * caller's to ask before he encodes. A second load replaces the first.
 *
 * 0 or negative errno.
 */
int encoder_load(struct encoder *encoder, const struct sluice_frame *frame);

/* What was loaded is not a whole picture: forget it. */
void encoder_unload(struct encoder *encoder);

/**
 * Encode what was loaded, or, if nothing was since the last call, the same picture again.
 *
 * ticks  when the picture is of, later than the one before
 *
 * 0, or negative with a sentence. Blocks while it encodes.
 */
int encoder_encode(struct encoder *encoder, int64_t ticks, struct problem *problem);

/* The next picture that is encoded shall be a key frame. */
void encoder_request_key(struct encoder *encoder);

/* No picture will follow: what the encoder still has comes out of encoder_receive(). 0 or
 * negative. */
int encoder_drain(struct encoder *encoder, struct problem *problem);

/**
 * Fetch a packet.
 *
 * packet  [borrow] written if 1 is returned; the caller unrefs it
 *
 * 1; 0: none is ready, or, after encoder_drain(), none is left; or negative with a sentence.
 */
int encoder_receive(struct encoder *encoder, AVPacket *packet, struct problem *problem);

/* Takes NULL. Returns NULL. */
struct encoder *encoder_destroy(struct encoder *encoder);

DEFINE_CLEANUP(struct encoder *, encoder_destroy);
