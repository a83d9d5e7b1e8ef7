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

/* Where the colours are in the four bytes of a pixel. NULL: it is not such a format. */
static const struct packed {
	uint32_t fourcc;
	unsigned red, green, blue;
	bool has_alpha;
} packed[] = {
	{ DRM_FORMAT_XRGB8888, 2, 1, 0, false },
	{ DRM_FORMAT_ARGB8888, 2, 1, 0, true },
	{ DRM_FORMAT_XBGR8888, 0, 1, 2, false },
	{ DRM_FORMAT_ABGR8888, 0, 1, 2, true },
};

static const struct packed *find_packed(uint32_t fourcc)
{
	for (unsigned i = 0; i < sizeof(packed) / sizeof(packed[0]); i++)
		if (packed[i].fourcc == fourcc)
			return &packed[i];
	return NULL;
}

static void convert_row(
	const struct packed *format, const uint8_t *from, uint8_t *to, uint32_t width)
{
	for (uint32_t x = 0; x < width; x++, from += 4) {
		*to++ = from[format->red];
		*to++ = from[format->green];
		*to++ = from[format->blue];
		if (format->has_alpha)
			*to++ = from[3];
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
