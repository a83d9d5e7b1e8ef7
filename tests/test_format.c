#include "tests/test.h"

#include <drm_fourcc.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/format.h"
#include "common/pixel.h"

static struct video_format layout(uint32_t fourcc, uint32_t width, uint32_t height)
{
	struct video_format f;
	CHECK_EQ(format_layout(fourcc, width, height, &f), 0);
	return f;
}

TEST(formats_are_found_by_fourcc_and_by_name)
{
	static const struct {
		const char *name;
		uint32_t fourcc;
	} rows[] = {
		{ "BGRx", DRM_FORMAT_XRGB8888 },
		{ "BGRA", DRM_FORMAT_ARGB8888 },
		{ "RGBx", DRM_FORMAT_XBGR8888 },
		{ "RGBA", DRM_FORMAT_ABGR8888 },
		{ "YUY2", DRM_FORMAT_YUYV },
		{ "NV12", DRM_FORMAT_NV12 },
		{ "I420", DRM_FORMAT_YUV420 },
		{ "P010", DRM_FORMAT_P010 },
		{ "xRGB_210LE", DRM_FORMAT_XRGB2101010 },
		{ "ARGB_210LE", DRM_FORMAT_ARGB2101010 },
		{ "xBGR_210LE", DRM_FORMAT_XBGR2101010 },
		{ "ABGR_210LE", DRM_FORMAT_ABGR2101010 },
		{ "RGBx_F16", DRM_FORMAT_XBGR16161616F },
		{ "RGBA_F16", DRM_FORMAT_ABGR16161616F },
	};
	char names[FORMAT_NAMES_MAX];
	format_names(names, sizeof(names));
	CHECK(strlen(names) < FORMAT_NAMES_MAX - FORMAT_NAME_MAX);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct format_info *info = format_info(rows[i].fourcc);
		CHECK_ROW(info != NULL, rows[i].name);
		CHECK_STR(info->name, rows[i].name);
		CHECK_ROW(format_info_by_name(rows[i].name) == info, rows[i].name);
		CHECK_ROW(strlen(info->name) < FORMAT_NAME_MAX, rows[i].name);
		CHECK_ROW(strstr(names, info->name), rows[i].name);
		CHECK_ROW(format_info_at((unsigned)i) == info, rows[i].name);
	}
	CHECK(format_info_at(sizeof(rows) / sizeof(rows[0])) == NULL);
	CHECK(format_info_by_name("nv12") == format_info(DRM_FORMAT_NV12));
	CHECK(format_info_by_name("xr30") == format_info(DRM_FORMAT_XRGB2101010));
	CHECK(format_info_by_name("XR3") == NULL && format_info_by_name("XR300") == NULL);
	CHECK(format_info(DRM_FORMAT_P016) == NULL);
	CHECK(format_info_by_name("P016") == NULL && format_info_by_name("") == NULL);
}

/* Every eight-bit value, to half a step of the float. */
TEST(bytes_become_the_nearest_half_precision_floats)
{
	CHECK_EQ(pixel_half(0), 0);
	CHECK_EQ(pixel_half(255), 0x3c00);
	for (unsigned v = 1; v < 256; v++) {
		uint16_t half = pixel_half((uint8_t)v);
		double step = ldexp(1, (half >> 10) - 25);
		CHECK(fabs((1024 + (half & 1023)) * step - v / 255.0) <= step / 2);
	}
}

TEST(planes_follow_each_other_without_a_gap)
{
	static const struct {
		const char *name;
		uint32_t width, height;
		uint32_t stride[3], offset[3];
		uint64_t size_bytes;
	} rows[] = {
		{ "BGRx", 1920, 1080, { 7680 }, { 0 }, 7680ull * 1080 },
		{ "BGRx", 1, 1, { 256 }, { 0 }, 256 },
		{ "RGBA", 65, 3, { 512 }, { 0 }, 512 * 3 },
		{ "YUY2", 640, 480, { 1280 }, { 0 }, 1280 * 480 },
		{ "YUY2", 129, 2, { 512 }, { 0 }, 512 * 2 },
		{ "NV12", 1920, 1080, { 2048, 2048 }, { 0, 2048 * 1080 }, 2048ull * 1620 },
		{ "NV12", 3, 3, { 256, 256 }, { 0, 256 * 3 }, 256 * 5 },
		{ "I420", 640, 480, { 1024, 512, 512 }, { 0, 1024 * 480, 1024 * 480 + 512 * 240 },
			1024ull * 480 * 3 / 2 },
		{ "I420", 3, 3, { 512, 256, 256 }, { 0, 512 * 3, 512 * 3 + 256 * 2 },
			512 * 3 + 256 * 4 },
		{ "P010", 1920, 1080, { 3840, 3840 }, { 0, 3840 * 1080 }, 3840ull * 1620 },
		{ "P010", 129, 3, { 512, 512 }, { 0, 512 * 3 }, 512 * 5 },
		{ "xRGB_210LE", 65, 3, { 512 }, { 0 }, 512 * 3 },
		{ "RGBA_F16", 33, 3, { 512 }, { 0 }, 512 * 3 },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct format_info *info = format_info_by_name(rows[i].name);
		struct video_format f = layout(info->fourcc, rows[i].width, rows[i].height);
		CHECK_ROW(f.n_planes == info->n_planes, rows[i].name);
		for (unsigned p = 0; p < f.n_planes; p++) {
			CHECK_EQ(f.stride[p], rows[i].stride[p]);
			CHECK_EQ(f.offset[p], rows[i].offset[p]);
			CHECK_ROW(f.stride[p] % FORMAT_STRIDE_ALIGN == 0, rows[i].name);
		}
		CHECK_EQ(f.size_bytes, rows[i].size_bytes);
		CHECK_ROW(format_check(&f) == 0, rows[i].name);
	}
}

TEST(every_format_and_odd_size_lies_within_its_bytes)
{
	for (unsigned i = 0; format_info_at(i); i++)
		for (uint32_t side = 1; side < 70; side++) {
			struct video_format f = layout(format_info_at(i)->fourcc, side, 71 - side);
			CHECK_ROW(format_check(&f) == 0, format_info_at(i)->name);
			unsigned last = f.n_planes - 1;
			CHECK_EQ(f.offset[last] + (uint64_t)f.stride[last] * format_rows(&f, last),
				f.size_bytes);
		}
}

TEST(rows_and_their_bytes_round_up)
{
	struct video_format f = layout(DRM_FORMAT_NV12, 5, 5);
	CHECK_EQ(format_row_bytes(&f, 0), 5);
	CHECK_EQ(format_row_bytes(&f, 1), 6);
	CHECK_EQ(format_rows(&f, 0), 5);
	CHECK_EQ(format_rows(&f, 1), 3);
	f = layout(DRM_FORMAT_YUV420, 5, 5);
	CHECK_EQ(format_row_bytes(&f, 2), 3);
	CHECK_EQ(format_rows(&f, 2), 3);
	f = layout(DRM_FORMAT_YUYV, 5, 5);
	CHECK_EQ(format_row_bytes(&f, 0), 12);
}

TEST(sides_have_limits_and_a_failure_writes_nothing)
{
	static const struct {
		uint32_t fourcc, width, height;
		int result;
	} rows[] = {
		{ DRM_FORMAT_XRGB8888, FORMAT_SIDE_MAX, FORMAT_SIDE_MAX, 0 },
		{ DRM_FORMAT_YUV420, FORMAT_SIDE_MAX, 1, 0 },
		{ DRM_FORMAT_XRGB8888, FORMAT_SIDE_MAX + 1, 1, -ERANGE },
		{ DRM_FORMAT_XRGB8888, 1, FORMAT_SIDE_MAX + 1, -ERANGE },
		{ DRM_FORMAT_XRGB8888, 0, 1, -ERANGE },
		{ DRM_FORMAT_XRGB8888, 1, 0, -ERANGE },
		{ DRM_FORMAT_XRGB8888, UINT32_MAX, UINT32_MAX, -ERANGE },
		{ DRM_FORMAT_P016, 64, 64, -EOPNOTSUPP },
		{ 0, 64, 64, -EOPNOTSUPP },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct video_format f = { .fourcc = 42 };
		CHECK_EQ(format_layout(rows[i].fourcc, rows[i].width, rows[i].height, &f),
			rows[i].result);
		CHECK(rows[i].result == 0 || f.fourcc == 42);
	}
}

TEST(a_peers_layout_is_checked)
{
	struct video_format good = layout(DRM_FORMAT_NV12, 640, 480), f;

	f = good;
	f.stride[0] = 639;
	CHECK_EQ(format_check(&f), -EPROTO);
	f = good;
	f.n_planes = 1;
	CHECK_EQ(format_check(&f), -EPROTO);
	f = good;
	f.n_planes = FORMAT_PLANES_MAX + 1;
	CHECK_EQ(format_check(&f), -EPROTO);
	f = good;
	f.size_bytes--; /* the padding of the last row may be missing, not its pixels */
	f.stride[1] = 640;
	CHECK_EQ(format_check(&f), 0);
	f.size_bytes = f.offset[1] + 640 * 240 - 1;
	CHECK_EQ(format_check(&f), -EPROTO);
	f.size_bytes++;
	CHECK_EQ(format_check(&f), 0);
	f = good;
	f.offset[1] = UINT32_MAX;
	CHECK_EQ(format_check(&f), -EPROTO);
	f = good;
	f.stride[0] = UINT32_MAX;
	CHECK_EQ(format_check(&f), -EPROTO);
	f = good;
	f.width = 0;
	CHECK_EQ(format_check(&f), -ERANGE);
	f = good;
	f.fourcc = 1;
	CHECK_EQ(format_check(&f), -EOPNOTSUPP);
}

TEST(formats_are_equal_when_the_pixels_are_in_the_same_places)
{
	struct video_format a = layout(DRM_FORMAT_NV12, 640, 480), b = a;
	CHECK(format_equal(&a, &b));
	b.offset[3] = 9; /* no plane of it */
	CHECK(format_equal(&a, &b));
	b = a;
	b.stride[1]++;
	CHECK(!format_equal(&a, &b));
	b = a;
	b.offset[1]++;
	CHECK(!format_equal(&a, &b));
	b = a;
	b.colour.full_range = !b.colour.full_range;
	CHECK(!format_equal(&a, &b));
	b = layout(DRM_FORMAT_NV12, 641, 480);
	CHECK(!format_equal(&a, &b));
	b = layout(DRM_FORMAT_YUV420, 640, 480);
	CHECK(!format_equal(&a, &b));
}

TEST(formats_are_described_for_people)
{
	char buf[64];
	struct video_format f = layout(DRM_FORMAT_XRGB8888, 1920, 1080);
	CHECK_STR(format_describe(&f, buf, sizeof(buf)), "BGRx 1920x1080");
	f.fourcc = DRM_FORMAT_P016;
	CHECK_STR(format_describe(&f, buf, sizeof(buf)), "P016 1920x1080");
	f.fourcc = 0x0a1b4142; /* letters that would move the cursor */
	CHECK_STR(format_describe(&f, buf, sizeof(buf)), "BA?? 1920x1080");
}

TEST(rgb_and_yuv_have_their_usual_colours)
{
	struct video_format rgb = layout(DRM_FORMAT_XRGB8888, 64, 64);
	CHECK(rgb.colour.full_range && rgb.colour.matrix == 0 && rgb.colour.primaries == 1);
	struct video_format yuv = layout(DRM_FORMAT_YUYV, 64, 64);
	CHECK(!yuv.colour.full_range && yuv.colour.matrix == 2);
	yuv = layout(DRM_FORMAT_P010, 64, 64);
	CHECK(!yuv.colour.full_range && yuv.colour.matrix == 2);
	rgb = layout(DRM_FORMAT_ABGR16161616F, 64, 64);
	CHECK(rgb.colour.full_range && rgb.colour.matrix == 0);
}
