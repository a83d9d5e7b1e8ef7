#include "consumer/snap/picture.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Converters read and write whole vectors, past the end of a row. */
enum { PADDING_BYTES = 64 };

int picture_copy(struct picture *picture_out, const struct sluice_frame *frame)
{
	uint8_t *bytes = malloc(frame->size_bytes + PADDING_BYTES);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, frame->data[0], frame->size_bytes);
	if (!sluice_frame_valid(frame)) {
		free(bytes);
		return -EAGAIN;
	}
	*picture_out = (struct picture){ .frame = *frame, .bytes = bytes };
	for (unsigned p = 0; p < frame->n_planes; p++)
		picture_out->frame.data[p] = bytes + (frame->data[p] - frame->data[0]);
	return 0;
}

void picture_finish(struct picture *picture)
{
	free(picture->bytes);
	*picture = (struct picture){ 0 };
}

/* Where the colours are in a pixel. */
static const struct packed {
	uint32_t fourcc;
	enum { BYTES, TEN_BITS, HALVES } kind;
	unsigned red, green, blue; /* bytes; of TEN_BITS: the lowest bit; of HALVES: which */
	bool has_alpha;
} packed[] = {
	{ DRM_FORMAT_XRGB8888, BYTES, 2, 1, 0, false },
	{ DRM_FORMAT_ARGB8888, BYTES, 2, 1, 0, true },
	{ DRM_FORMAT_XBGR8888, BYTES, 0, 1, 2, false },
	{ DRM_FORMAT_ABGR8888, BYTES, 0, 1, 2, true },
	{ DRM_FORMAT_XRGB2101010, TEN_BITS, 20, 10, 0, false },
	{ DRM_FORMAT_ARGB2101010, TEN_BITS, 20, 10, 0, true },
	{ DRM_FORMAT_XBGR2101010, TEN_BITS, 0, 10, 20, false },
	{ DRM_FORMAT_ABGR2101010, TEN_BITS, 0, 10, 20, true },
	{ DRM_FORMAT_XBGR16161616F, HALVES, 0, 1, 2, false },
	{ DRM_FORMAT_ABGR16161616F, HALVES, 0, 1, 2, true },
};

/* NULL: it is not such a format. */

static const struct packed *find_packed(uint32_t fourcc)
{
	for (unsigned i = 0; i < sizeof(packed) / sizeof(packed[0]); i++)
		if (packed[i].fourcc == fourcc)
			return &packed[i];
	return NULL;
}

static void get_bytes(const struct packed *format, const uint8_t *px, uint8_t rgba[4])
{
	rgba[0] = px[format->red];
	rgba[1] = px[format->green];
	rgba[2] = px[format->blue];
	rgba[3] = px[3];
}

/* 0 to 1023 becomes 0 to 255, rounded. */
static uint8_t eight_bits(uint32_t word, unsigned shift)
{
	return (uint8_t)(((word >> shift & 1023) * 255 + 511) / 1023);
}

static void get_ten_bits(const struct packed *format, const uint8_t *px, uint8_t rgba[4])
{
	uint32_t word;
	memcpy(&word, px, sizeof(word));
	rgba[0] = eight_bits(word, format->red);
	rgba[1] = eight_bits(word, format->green);
	rgba[2] = eight_bits(word, format->blue);
	rgba[3] = (uint8_t)((word >> 30) * 85);
}

/* What a screen shows of a half-precision float: 0.0 to 1.0. */
static uint8_t byte_of_half(uint16_t half)
{
	enum { SIGN = 0x8000, ONE = 0x3c00, INFINITE = 0x7c00, BIAS_AND_BITS = 25 };
	if (half & SIGN || half > INFINITE)
		return 0;
	if (half >= ONE)
		return 255;
	/* numbers so small that they have no leading one are less than half a step */
	uint32_t fraction = 1024 + (half & 1023);
	unsigned shift = BIAS_AND_BITS - (half >> 10);
	return (uint8_t)((((uint64_t)fraction * 255 << 1 >> shift) + 1) >> 1);
}

static void get_halves(const struct packed *format, const uint8_t *px, uint8_t rgba[4])
{
	uint16_t halves[4];
	memcpy(halves, px, sizeof(halves));
	rgba[0] = byte_of_half(halves[format->red]);
	rgba[1] = byte_of_half(halves[format->green]);
	rgba[2] = byte_of_half(halves[format->blue]);
	rgba[3] = byte_of_half(halves[3]);
}

static void convert_row(
	const struct packed *format, const uint8_t *from, uint8_t *to, uint32_t width)
{
	static void (*const get[])(const struct packed *, const uint8_t *, uint8_t[4]) = {
		[BYTES] = get_bytes, [TEN_BITS] = get_ten_bits, [HALVES] = get_halves
	};
	unsigned step = format->kind == HALVES ? 8 : 4, size = format->has_alpha ? 4 : 3;
	uint8_t rgba[4];
	for (uint32_t x = 0; x < width; x++, from += step, to += size) {
		get[format->kind](format, from, rgba);
		memcpy(to, rgba, size);
	}
}

static void convert(const struct packed *format, const struct sluice_frame *frame, struct rgb *rgb)
{
	size_t row_bytes = (size_t)rgb->width * (rgb->has_alpha ? 4 : 3);
	for (uint32_t y = 0; y < rgb->height; y++)
		convert_row(format, frame->data[0] + (size_t)y * frame->stride[0],
			rgb->bytes + y * row_bytes, rgb->width);
}

int picture_to_rgb(const struct picture *picture, struct rgb *rgb_out)
{
	const struct sluice_frame *frame = &picture->frame;
	const struct packed *format = find_packed(frame->fourcc);
	struct rgb rgb = { .width = frame->width,
		.height = frame->height,
		.has_alpha = format && format->has_alpha };
	int r = 0;
	size_t size_bytes = (size_t)rgb.width * rgb.height * (rgb.has_alpha ? 4 : 3);
	rgb.bytes = malloc(size_bytes + PADDING_BYTES);
	if (!rgb.bytes)
		return -ENOMEM;
	if (format)
		convert(format, frame, &rgb);
	else
		r = yuv_to_rgb(frame, &rgb);
	if (r < 0)
		rgb_finish(&rgb);
	else
		*rgb_out = rgb;
	return r;
}

void rgb_finish(struct rgb *rgb)
{
	free(rgb->bytes);
	*rgb = (struct rgb){ 0 };
}

#ifndef HAVE_SWSCALE
int yuv_to_rgb(const struct sluice_frame *frame, struct rgb *rgb)
{
	(void)frame;
	(void)rgb;
	return -EOPNOTSUPP;
}
#endif
