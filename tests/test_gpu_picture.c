/* What the GPU draws and copies, byte for byte. */
#include "tests/gpu_fixture.h"

#include <errno.h>
#include <string.h>

#include "broker/gpu/copy.h"
#include "tests/gpu_picture.h"

static const struct size {
	uint32_t width;
	uint32_t height;
} sizes[] = { { 640, 360 }, { 641, 361 }, { 40, 40 }, { 39, 17 }, { 1, 1 }, { 7, 3 },
	{ 1366, 95 } };
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* --- Drawing -----------------------------------------------------------------------------------*/

TEST(the_shader_draws_what_the_cpu_draws_in_every_format_and_size)
{
	static const uint32_t numbers[] = { 0, 1, 77, 0x80000001, UINT32_MAX };
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < PICTURE_FORMATS * N_SIZES; i++) {
		struct size size = sizes[i / PICTURE_FORMATS];
		struct video_format format = fixture_format(
			picture_formats[i % PICTURE_FORMATS], size.width, size.height);
		uint32_t number = numbers[i % 5];
		struct gpu_buffer *buffer = fixture_buffer(&f, GPU_STAGING, format.size_bytes);
		CHECK_EQ(fixture_draw(&f, &format, gpu_picture_of(buffer, &format), number), 0);
		picture_check_pattern(&format, gpu_buffer_map(buffer), number);
		gpu_buffer_destroy(buffer);
	}
	fixture_close(&f);
}

static struct gpu_buffer *drawn(
	struct gpu_fixture *f, const struct video_format *format, uint32_t first, uint32_t number)
{
	struct gpu_buffer *buffer = fixture_buffer(f, GPU_STAGING, format->size_bytes);
	struct gpu_draw draw = { .to = gpu_picture_of(buffer, format), .number = first };
	struct gpu_work work = { .format = format, .draw = &draw };
	CHECK_EQ(fixture_work(f, work), 0);
	draw.number = number;
	draw.only_number = first != number;
	CHECK_EQ(fixture_work(f, work), 0);
	return buffer;
}

TEST(where_the_stripes_stand_still_it_is_enough_to_draw_the_number_anew)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < PICTURE_FORMATS * N_SIZES; i++) {
		struct size size = sizes[i / PICTURE_FORMATS];
		struct video_format format = fixture_format(
			picture_formats[i % PICTURE_FORMATS], size.width, size.height);
		struct gpu_buffer *whole = drawn(&f, &format, 0x5a5a5a5a, 0x5a5a5a5a);
		struct gpu_buffer *anew = drawn(&f, &format, 0xa5a5a5a5, 0x5a5a5a5a);
		CHECK_ROW(picture_differs(&format, gpu_buffer_map(whole), &format,
				  gpu_buffer_map(anew)) == -1,
			picture_name(&format));
		gpu_buffer_destroy(whole);
		gpu_buffer_destroy(anew);
	}
	fixture_close(&f);
}

TEST(a_picture_that_does_not_fit_its_buffer_is_refused)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	struct video_format format = fixture_format("BGRx", 640, 360);
	struct gpu_buffer *large = fixture_buffer(&f, GPU_PRIVATE, format.size_bytes);
	struct gpu_buffer *small = fixture_buffer(&f, GPU_PRIVATE, format.size_bytes - 1);
	struct gpu_picture fits = gpu_picture_of(large, &format),
			   over = gpu_picture_of(small, &format);
	CHECK_EQ(fixture_draw(&f, &format, over, 1), -EINVAL);
	CHECK_EQ(fixture_copy(&f, &format, over, fits), -EINVAL);
	CHECK_EQ(fixture_copy(&f, &format, fits, over), -EINVAL);
	CHECK(strstr(gpu_error(f.gpu), "does not fit"));
	struct gpu_picture narrow = fits, odd = fits;
	narrow.stride[0] = 640 * 4 - 4;
	CHECK_EQ(fixture_copy(&f, &format, fits, narrow), -EINVAL);
	odd.stride[0] += 2;
	CHECK_EQ(fixture_draw(&f, &format, odd, 1), -EINVAL);
	struct gpu_buffer *other = fixture_buffer(&f, GPU_PRIVATE, format.size_bytes);
	CHECK_EQ(fixture_copy(&f, &format, fits, gpu_picture_of(other, &format)), 0);
	gpu_buffer_destroy(other);
	gpu_buffer_destroy(large);
	gpu_buffer_destroy(small);
	fixture_close(&f);
}

/* --- Copies ------------------------------------------------------------------------------------*/

/* How the two pictures of a copy lie in their buffers. */
static const struct layout {
	const char *name;
	uint32_t from_offset;
	uint32_t from_padding; /* bytes beyond a row; odd ones put rows at odd places */
	uint32_t to_offset;
	uint32_t to_padding;
} layouts[] = {
	{ "the same, tightly", 0, 0, 0, 0 },
	{ "the same, padded", 0, 64, 0, 64 },
	{ "from padded", 0, 20, 0, 0 },
	{ "to padded, at an offset", 0, 0, 4096, 32 },
	{ "both, differently", 16, 48, 32, 96 },
	{ "at odd places", 3, 7, 5, 1 },
};

/* A picture whose planes follow each other, with so much padding. */
static struct video_format lay_out(struct video_format format, uint32_t offset, uint32_t padding)
{
	for (unsigned p = 0; p < format.n_planes; p++) {
		format.stride[p] = format_row_bytes(&format, p) + padding;
		format.offset[p] = offset;
		offset += format.stride[p] * format_rows(&format, p);
	}
	format.size_bytes = offset;
	return format;
}

static void put_pattern(const struct video_format *format, uint8_t *pixels, uint32_t seed)
{
	for (uint64_t i = 0; i < format->size_bytes; i++)
		pixels[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
}

static void check_copy(struct gpu_fixture *f, const struct video_format *format,
	const struct layout *layout, uint32_t seed)
{
	struct video_format from = lay_out(*format, layout->from_offset, layout->from_padding);
	struct video_format to = lay_out(*format, layout->to_offset, layout->to_padding);
	struct gpu_buffer *source = fixture_buffer(f, GPU_STAGING, from.size_bytes);
	struct gpu_buffer *middle = fixture_buffer(f, GPU_PRIVATE, to.size_bytes);
	struct gpu_buffer *target = fixture_buffer(f, GPU_STAGING, to.size_bytes + 64);
	uint8_t *guard = (uint8_t *)gpu_buffer_map(target) + to.size_bytes;
	put_pattern(&from, gpu_buffer_map(source), seed);
	memset(gpu_buffer_map(target), 0xee, to.size_bytes + 64);
	CHECK_ROW(fixture_copy(f, format, gpu_picture_of(source, &from),
			  gpu_picture_of(middle, &to)) == 0,
		layout->name);
	CHECK_ROW(fixture_copy(
			  f, format, gpu_picture_of(middle, &to), gpu_picture_of(target, &to)) == 0,
		layout->name);
	CHECK_ROW(picture_differs(&from, gpu_buffer_map(source), &to, gpu_buffer_map(target)) == -1,
		layout->name);
	for (unsigned i = 0; i < 64; i++)
		CHECK_ROW(guard[i] == 0xee, layout->name);
	gpu_buffer_destroy(source);
	gpu_buffer_destroy(middle);
	gpu_buffer_destroy(target);
}

static void check_copies(const char *name)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N_SIZES; i++)
		for (unsigned l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
			struct video_format format =
				fixture_format(name, sizes[i].width, sizes[i].height);
			check_copy(&f, &format, &layouts[l], 100 * i + l);
		}
	fixture_close(&f);
}

#ifdef SLUICE_FAULTS
TEST(vkCmdCopyBuffer_copies_between_all_layouts)
{
	gpu_test_copy_way = COPY_BY_COMMAND;
	for (unsigned i = 0; i < PICTURE_FORMATS; i++)
		check_copies(picture_formats[i]);
}

TEST(the_shader_copies_between_all_layouts)
{
	gpu_test_copy_way = COPY_BY_SHADER;
	for (unsigned i = 0; i < PICTURE_FORMATS; i++)
		check_copies(picture_formats[i]);
}
#endif

TEST(the_way_that_was_measured_copies_between_all_layouts)
{
	for (unsigned i = 0; i < PICTURE_FORMATS; i++)
		check_copies(picture_formats[i]);
}

TEST(equal_layouts_are_one_region)
{
	struct region regions[FORMAT_PLANES_MAX];
	for (unsigned i = 0; i < PICTURE_FORMATS; i++) {
		struct video_format format = fixture_format(picture_formats[i], 641, 361);
		struct gpu_buffer whole = { .size_bytes = format.size_bytes };
		struct gpu_copy copy = { gpu_picture_of(&whole, &format),
			gpu_picture_of(&whole, &format) };
		CHECK_ROW(copy_regions(&format, &copy, regions) == 1, picture_formats[i]);
		CHECK_ROW(regions[0].rows == 1 && regions[0].row_bytes == format.size_bytes,
			picture_formats[i]);
		/* the padding of the last row is not there */
		struct gpu_buffer tight = { .size_bytes = format.size_bytes - 1 };
		copy.to.buffer = &tight;
		CHECK_ROW(copy_regions(&format, &copy, regions) == 1, picture_formats[i]);
		CHECK_ROW(regions[0].row_bytes < format.size_bytes, picture_formats[i]);
		copy.to.stride[0] += 256;
		CHECK_ROW(copy_regions(&format, &copy, regions) >= 1, picture_formats[i]);
		CHECK_ROW(regions[0].rows == 361, picture_formats[i]);
	}
}
