/*
 * From a lent frame to a picture that an encoder takes: pixel formats, colours, and the one pass
 * over the pixels.
 */
#pragma once

#include <libavcodec/avcodec.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "consumer/encoder/problem.h"
#include "consumer/sluice_consumer.h"

struct converter;

/* What of a frame an encoder is opened for. Another format: another encoder, and a new file. */
struct picture_format {
	uint32_t fourcc;
	uint32_t width;                      /* pixels */
	uint32_t height;                     /* pixels */
	uint8_t primaries, transfer, matrix; /* ITU-T H.273 */
	bool full_range;
	enum sluice_memory memory;
	void *cuda_context; /* SLUICE_MEMORY_CUDA: the CUcontext in which it is; else NULL */
};

struct picture_format picture_format_of(const struct sluice_frame *frame);
bool picture_format_equal(const struct picture_format *a, const struct picture_format *b);

/* FFmpeg's name of a DRM format; AV_PIX_FMT_NONE if this program cannot read it. */
enum AVPixelFormat pixel_format_of(uint32_t fourcc);

/* The other way round; 0 if this program cannot read it. */
uint32_t pixel_format_fourcc(enum AVPixelFormat format);

/* Made of R, G and B, not of Y, U and V. */
bool pixel_format_is_rgb(enum AVPixelFormat format);

/* A colour number of ITU-T H.273, or "unspecified" for one that this FFmpeg does not know: it could make
 * an encoder or a container refuse the picture. end: the first number that there is not. */
int convert_known(uint8_t number, int end);

/**
 * The colour tags of what the encoder gets. Only what is converted changes its tags: RGB that
 * becomes YUV does so by BT.709, or BT.2020 if those are its primaries, in limited range unless the
 * pixel format is one of the full-range ones.
 *
 * ctx  [borrow] pix_fmt is set; the tags are written
 */
void convert_choose_colour(const struct picture_format *from, AVCodecContext *ctx);

/**
 * Prepare to convert.
 *
 * from           [borrow]
 * to             [borrow] pix_fmt, width, height and colour tags are read; sizes may be cropped
 * converter_out  [give]
 *
 * 0, -EOPNOTSUPP or -ENOMEM, with a sentence.
 */
int converter_create(struct converter **converter_out, const struct picture_format *from,
	const AVCodecContext *to, struct problem *problem);

/**
 * Read the frame's pixels, once.
 *
 * frame    [borrow] of the format that the converter was made for
 * picture  [borrow] with memory for the encoder's format
 *
 * 0 or negative errno.
 */
int converter_run(struct converter *converter, const struct sluice_frame *frame, AVFrame *picture);

/* Takes NULL. Returns NULL. */
struct converter *converter_destroy(struct converter *converter);

DEFINE_CLEANUP(struct converter *, converter_destroy);
