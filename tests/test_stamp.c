#include "tests/test.h"

#include <drm_fourcc.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/stamp.h"

static const struct {
	uint32_t width, height;
} sizes[] = { { 40, 40 }, { 41, 43 }, { 64, 64 }, { 83, 40 }, { 320, 240 }, { 641, 479 },
	{ 1920, 1080 }, { 4096, 64 } };

enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static uint8_t *noise(const struct video_format *f)
{
	uint8_t *pixels = malloc(f->size_bytes);
	CHECK(pixels != NULL);
	for (uint64_t i = 0; i < f->size_bytes; i++)
		pixels[i] = (uint8_t)(i * 2654435761u >> 13);
	return pixels;
}

TEST(every_format_and_size_carries_a_number)
{
	static const uint32_t numbers[] = { 0, 1, 2, 255, 256, 123456789, UINT32_MAX };
	for (unsigned i = 0; format_info_at(i); i++)
		for (unsigned k = 0; k < N_SIZES; k++) {
			struct video_format f;
			CHECK(format_layout(format_info_at(i)->fourcc, sizes[k].width,
				      sizes[k].height, &f) == 0);
			CHECK(stamp_fits(&f));
			_cleanup_free_ uint8_t *pixels = noise(&f);
			uint32_t number = 42;
			CHECK(stamp_read(pixels, &f, &number) != STAMP_OK && number == 42);
			for (unsigned n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++) {
				stamp_draw(pixels, &f, numbers[n]);
				CHECK_ROW(stamp_read(pixels, &f, &number) == STAMP_OK,
					format_info_at(i)->name);
				CHECK_EQ(number, numbers[n]);
			}
		}
}

TEST(a_picture_that_is_too_small_carries_none)
{
	struct video_format f;
	uint32_t number = 42;
	uint8_t pixels[256 * 64] = { 0 };
	CHECK(format_layout(DRM_FORMAT_NV12, STAMP_SIDE_MIN - 1, STAMP_SIDE_MIN, &f) == 0);
	CHECK(!stamp_fits(&f));
	CHECK_EQ(stamp_read(pixels, &f, &number), STAMP_NONE);
	CHECK(format_layout(DRM_FORMAT_NV12, STAMP_SIDE_MIN, STAMP_SIDE_MIN - 1, &f) == 0);
	CHECK(!stamp_fits(&f));
	CHECK_EQ(stamp_read(pixels, &f, &number), STAMP_NONE);
	CHECK_EQ(number, 42);
}

static struct video_format small;

static uint8_t *stamped(uint32_t number)
{
	CHECK(format_layout(DRM_FORMAT_XRGB8888, 320, 240, &small) == 0);
	uint8_t *pixels = calloc(1, small.size_bytes);
	CHECK(pixels != NULL);
	stamp_draw(pixels, &small, number);
	return pixels;
}

TEST(parts_of_two_frames_are_torn)
{
	for (uint32_t rows = 30; rows < 240; rows += 30) {
		_cleanup_free_ uint8_t *old = stamped(1000);
		_cleanup_free_ uint8_t *new = stamped(1001);
		uint32_t number = 42;
		memcpy(old, new, (size_t)rows * small.stride[0]);
		CHECK_EQ(stamp_read(old, &small, &number), STAMP_TORN);
		CHECK_EQ(number, 42);
	}
}

TEST(one_damaged_band_is_torn_and_no_band_is_none)
{
	_cleanup_free_ uint8_t *pixels = stamped(77);
	uint32_t number = 42;
	/* the fourth band is black: all bits 0, whose check is not 0 */
	memset(pixels + (size_t)90 * small.stride[0], 16, (size_t)30 * small.stride[0]);
	CHECK_EQ(stamp_read(pixels, &small, &number), STAMP_TORN);
	memset(pixels, 16, small.size_bytes);
	CHECK_EQ(stamp_read(pixels, &small, &number), STAMP_NONE);
	memset(pixels, 255, small.size_bytes);
	CHECK_EQ(stamp_read(pixels, &small, &number), STAMP_NONE);
	CHECK_EQ(number, 42);
}

TEST(a_stamp_survives_what_an_encoder_does_to_it)
{
	_cleanup_free_ uint8_t *pixels = stamped(987654321);
	uint32_t number;
	for (uint64_t i = 0; i < small.size_bytes; i++) {
		int v = pixels[i] + (int)(i * 2654435761u >> 20) % 120 - 60;
		pixels[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
	}
	CHECK_EQ(stamp_read(pixels, &small, &number), STAMP_OK);
	CHECK_EQ(number, 987654321);
}

TEST(a_plane_of_luma_is_enough)
{
	_cleanup_free_ uint8_t *pixels = stamped(5);
	uint32_t number;
	/* the green channel of BGRx */
	CHECK_EQ(stamp_read_luma(pixels + 1, small.stride[0], 4, 320, 240, &number), STAMP_OK);
	CHECK_EQ(number, 5);
}
