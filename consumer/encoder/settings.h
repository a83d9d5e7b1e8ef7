/* From what the user asked for to what libavcodec is told: pixel format, quality, options. */
#pragma once

#include <libavcodec/avcodec.h>

#include "consumer/encoder/encoder.h"
#include "consumer/encoder/problem.h"

/* Frames per second that are assumed where nothing is known. Only rate control uses them. */
enum { SETTINGS_RATE_USUAL = 60 };

/* The nominal rate: what was given, or the usual one. */
AVRational settings_rate(const struct encoder_settings *settings);

/**
 * The codec's pixel format for frames of this kind: the user's; else the frame's own, if the codec
 * takes it; else 4:2:0, which every player shows (of 10 bits for frames that have more than 8), unless
 * the codec is lossless; else the nearest.
 *
 * 0, or -EINVAL with a sentence.
 */
int settings_pix_fmt(const struct encoder_settings *settings, const AVCodec *codec,
	enum AVPixelFormat from, enum AVPixelFormat *format_out, struct problem *problem);

/**
 * Everything that is set before the codec is opened.
 *
 * ctx  [borrow] made for the codec; pix_fmt, width and height are set
 *
 * 0, or -EINVAL with a sentence that names the option.
 */
int settings_apply(
	const struct encoder_settings *settings, AVCodecContext *ctx, struct problem *problem);

/* It makes a key frame when it is asked to. SVT-AV1 does not, through FFmpeg: it has its grid. */
bool settings_takes_key_requests(const AVCodec *codec);
