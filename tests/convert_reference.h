/* What a conversion should give, computed in floating point: by zimg, or plainly where zimg has no such
 * filter (the mean of an area) or no such size (odd ones). */
#pragma once

#include "common/format.h"

/* Planes of numbers: R, G, B from 0 to 1, or Y from 0 to 1 and Cb, Cr from -0.5 to 0.5. */
struct planes {
	bool is_yuv; /* 4:2:0, sited left */
	uint32_t width[3];
	uint32_t height[3];
	double *at[3];
};

/* Linear light becomes sRGB. [give] to planes_finish() */
struct planes planes_of(const struct video_format *format, const uint8_t *pixels);
void planes_finish(struct planes *planes);

/* The same picture in another format and size; of `to` nothing but that and its colour counts. */
struct planes reference_convert(const struct planes *from, const struct video_format *to);

struct score {
	double psnr;  /* dB */
	double worst; /* the largest difference, in steps of the format; of floats in 1/1024 */
};

/* How near pixels of a format come to what they should be, before that is rounded. */
struct score reference_score(
	const struct planes *expected, const struct video_format *format, const uint8_t *pixels);

/* The number of a component as it is in memory: R, G, B, A or Y, Cb, Cr. */
double reference_component(const struct video_format *format, const uint8_t *pixels,
	unsigned component, uint32_t x, uint32_t y);

bool reference_is_yuv(const struct video_format *format);
