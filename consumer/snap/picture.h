/* The pixels of one frame, copied, and turned into rows that PNG has. */
#pragma once

#include <stdbool.h>

#include "consumer/sluice_consumer.h"

/* A frame's pixels and layout, which are ours and change no more. */
struct picture {
	struct sluice_frame frame; /* data[] points into bytes */
	uint8_t *bytes;
};

/* Rows of R, G, B or R, G, B, A, one after the other without a gap. */
struct rgb {
	uint32_t width;
	uint32_t height;
	bool has_alpha;
	uint8_t *bytes;
};

/**
 * Copy a frame.
 *
 * frame        [borrow]
 * picture_out  [give] to picture_finish()
 *
 * 0, -ENOMEM, or -EAGAIN: it was overwritten meanwhile, take another.
 */
int picture_copy(struct picture *picture_out, const struct sluice_frame *frame);

void picture_finish(struct picture *picture);

/**
 * Turn a picture into rows.
 *
 * rgb_out  [give] to rgb_finish()
 *
 * 0, -ENOMEM, -EOPNOTSUPP: this program was built without what the format needs.
 */
int picture_to_rgb(const struct picture *picture, struct rgb *rgb_out);

void rgb_finish(struct rgb *rgb);

/* yuv.c: rows of RGB from YUY2, NV12, I420 and P010. rgb->bytes has room for them. 0 or negative. */
int yuv_to_rgb(const struct sluice_frame *frame, struct rgb *rgb);
