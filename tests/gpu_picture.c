#include "tests/gpu_picture.h"

#include <stdlib.h>
#include <string.h>

#include "broker/capture/capture.h"
#include "tests/test.h"

const char *const picture_formats[PICTURE_FORMATS] = { "BGRx", "BGRA", "RGBx", "RGBA", "YUY2",
	"NV12", "I420", "P010", "xRGB_210LE", "ARGB_210LE", "xBGR_210LE", "ABGR_210LE", "RGBx_F16",
	"RGBA_F16" };

const char *picture_name(const struct video_format *format)
{
	static char name[64];
	return format_describe(format, name, sizeof(name));
}

struct drawn {
	struct loop *loop;
	struct capture *capture;
	uint8_t *pixels;
	uint32_t number;
	struct video_format format;
};

static void on_pattern_format(void *data, const struct video_format *format)
{
	((struct drawn *)data)->format = *format;
}

static void on_pattern_buffer(void *data, struct capture_buffer *buffer)
{
	struct drawn *d = data;
	CHECK_EQ(buffer->read(buffer, d->pixels, &d->format, d->number), 0);
	d->capture->ops->give_back(d->capture, buffer);
	loop_stop(d->loop);
}

static void on_pattern_revoke(void *data, struct capture_buffer *buffer)
{
}

static void on_pattern_superseded(void *data, unsigned count)
{
}

uint8_t *picture_of_pattern(const struct video_format *format, uint32_t number)
{
	static const struct capture_listener listener = {
		.format = on_pattern_format,
		.buffer = on_pattern_buffer,
		.revoke = on_pattern_revoke,
		.superseded = on_pattern_superseded,
	};
	char spec[64], error[256];
	struct drawn d = { .number = number };
	snprintf(spec, sizeof(spec), "pattern:%ux%u@1000:%s", format->width, format->height,
		format_info(format->fourcc)->name);
	CHECK_EQ(loop_create(&d.loop), 0);
	struct capture_place place = { .loop = d.loop, .name = "test" };
	CHECK_EQ(capture_create(&d.capture, &place, spec, error, sizeof(error)), 0);
	d.pixels = calloc(1, format->size_bytes);
	CHECK(d.pixels != NULL);
	d.capture->listener = &listener;
	d.capture->listener_data = &d;
	CHECK_EQ(d.capture->ops->start(d.capture), 0);
	CHECK_EQ(loop_run(d.loop), 0);
	d.capture->ops->destroy(d.capture);
	loop_destroy(d.loop);
	CHECK(format_equal(&d.format, format));
	return d.pixels;
}

long long picture_differs(const struct video_format *a_format, const uint8_t *a,
	const struct video_format *b_format, const uint8_t *b)
{
	for (unsigned p = 0; p < a_format->n_planes; p++)
		for (uint32_t y = 0; y < format_rows(a_format, p); y++) {
			const uint8_t *a_row =
				a + a_format->offset[p] + (size_t)y * a_format->stride[p];
			const uint8_t *b_row =
				b + b_format->offset[p] + (size_t)y * b_format->stride[p];
			if (memcmp(a_row, b_row, format_row_bytes(a_format, p)) != 0)
				return a_row - a;
		}
	return -1;
}

void picture_check_pattern(
	const struct video_format *format, const uint8_t *pixels, uint32_t number)
{
	uint8_t *expected = picture_of_pattern(format, number);
	CHECK_ROW(picture_differs(format, expected, format, pixels) == -1, picture_name(format));
	free(expected);
}
