/*
 * One open encoder of libavcodec's: what all backends that use libavcodec have in common, wherever
 * their pictures are.
 */
#pragma once

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdbool.h>
#include <stdint.h>

#include "consumer/encoder/convert.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/problem.h"

struct codec {
	AVCodecContext *ctx; /* NULL: not open */
	AVRational rate;     /* frames per second; num 0: not known */
	bool wants_key;      /* the next picture is to be one */
};

/* What a backend adds to a context after the user's settings and before it is opened.
 * 0, or negative with a sentence. */
typedef int (*codec_prepare_fn)(void *data, AVCodecContext *ctx, struct problem *problem);

/* What one is opened with. All of it [borrow]. */
struct codec_request {
	const struct encoder_settings *settings;
	const struct picture_format *format;
	unsigned flags;           /* ENCODER_… */
	codec_prepare_fn prepare; /* may be NULL. Called once or twice */
	void *data;
};

/* An encoder of FFmpeg's, or the usual one of a codec; NULL: there is none. */
const AVCodec *codec_find(const char *name);

/**
 * Open one.
 *
 * codec    [borrow] zeroed; to be closed with codec_close() in every outcome
 *
 * As encoder_open().
 */
int codec_open(struct codec *codec, const struct codec_request *request, struct problem *problem);

/* As encoder_describe(). */
int codec_describe(const struct codec *codec, AVStream *stream);

/* Encode a picture. [borrow]: libavcodec takes references of its own. As encoder_encode(). */
int codec_encode(struct codec *codec, AVFrame *picture, int64_t ticks, struct problem *problem);

/* As encoder_request_key() and encoder_set_bit_rate(). */
void codec_request_key(struct codec *codec);
int codec_set_bit_rate(struct codec *codec, int64_t bit_rate, struct problem *problem);

/* As encoder_drain() and encoder_receive(). */
int codec_drain(struct codec *codec, struct problem *problem);
int codec_receive(struct codec *codec, AVPacket *packet, struct problem *problem);

/* Write what a picture has to say of itself: format, size, colours. */
void codec_label(const struct codec *codec, AVFrame *picture);

void codec_close(struct codec *codec);
