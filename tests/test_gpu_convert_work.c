/* Conversions among other work, and what can be converted at all. */
#include <errno.h>
#include <string.h>
#include <vulkan/vulkan_core.h>

#include "common/stamp.h"
#include "tests/gpu_fixture.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum { LINEAR = 8 /* H.273's transfer */ };

struct side_by_side {
	uint32_t from_width, from_height, to_width, to_height;
};

/* --- Submissions -------------------------------------------------------------------------------*/

/* A picture that is drawn, copied into memory that others have, and converted from there into such memory
 * again. */
struct chain {
	struct gpu_fixture f;
	struct video_format format;
	struct video_format yuv;
	struct gpu_buffer *drawn, *copied, *converted, *host;
	struct gpu_draw draw;
	struct gpu_copy copy;
	struct gpu_convert convert;
};

static void chain_open(struct chain *c)
{
	*c = (struct chain){ 0 };
	fixture_open(&c->f);
	c->format = fixture_format("BGRx", 640, 360);
	c->yuv = fixture_format("NV12", 640, 360);
	c->yuv.colour.matrix = 1;
	c->drawn = fixture_buffer(&c->f, GPU_PRIVATE, c->format.size_bytes);
	c->copied = fixture_buffer(&c->f, GPU_EXPORTED, c->format.size_bytes);
	c->converted = fixture_buffer(&c->f, GPU_EXPORTED, c->yuv.size_bytes);
	c->host = fixture_buffer(&c->f, GPU_STAGING, c->yuv.size_bytes);
	c->draw.to = gpu_picture_of(c->drawn, &c->format);
	c->copy.from = c->draw.to;
	c->copy.to = gpu_picture_of(c->copied, &c->format);
	c->convert = (struct gpu_convert){ &c->format, &c->yuv, c->copy.to,
		gpu_picture_of(c->converted, &c->yuv) };
}

static void chain_close(struct chain *c)
{
	gpu_buffer_destroy(c->drawn);
	gpu_buffer_destroy(c->copied);
	gpu_buffer_destroy(c->converted);
	gpu_buffer_destroy(c->host);
	fixture_close(&c->f);
}

static void check_number(struct chain *c, uint32_t expected)
{
	uint32_t number = 0;
	CHECK_EQ(fixture_copy(&c->f, &c->yuv, c->convert.to, gpu_picture_of(c->host, &c->yuv)), 0);
	CHECK_EQ(stamp_read(gpu_buffer_map(c->host), &c->yuv, &number), STAMP_OK);
	CHECK_EQ(number, expected);
}

TEST(a_drawing_its_copy_and_a_conversion_of_that_are_one_submission)
{
	struct chain c;
	chain_open(&c);
	for (uint32_t i = 1; i <= 10; i++) {
		c.draw.number = i;
		CHECK_EQ(fixture_work(&c.f, (struct gpu_work){ .format = &c.format,
						    .draw = &c.draw,
						    .copy = &c.copy,
						    .convert = &c.convert }),
			0);
		check_number(&c, i);
	}
	chain_close(&c);
}

/* What the copy wrote was lent to other processes meanwhile, and may be read by them at the same time. */
TEST(a_picture_is_converted_later_and_again)
{
	struct chain c;
	chain_open(&c);
	for (uint32_t i = 1; i <= 5; i++) {
		c.draw.number = i;
		struct gpu_work first = { .format = &c.format, .draw = &c.draw, .copy = &c.copy };
		CHECK_EQ(fixture_work(&c.f, first), 0);
		for (unsigned k = 0; k < 2; k++) {
			CHECK_EQ(fixture_work(&c.f, (struct gpu_work){ .convert = &c.convert }), 0);
			check_number(&c, i);
		}
	}
	chain_close(&c);
}

/* A copy and a conversion from the same memory, which was lent. */
TEST(one_submission_may_read_a_picture_twice)
{
	struct chain c;
	chain_open(&c);
	c.draw.number = 77;
	struct gpu_work first = { .format = &c.format, .draw = &c.draw, .copy = &c.copy };
	CHECK_EQ(fixture_work(&c.f, first), 0);
	struct gpu_copy back = { .from = c.copy.to, .to = c.copy.from };
	for (unsigned k = 0; k < 2; k++) {
		struct gpu_work both = {
			.format = &c.format, .copy = &back, .convert = &c.convert
		};
		CHECK_EQ(fixture_work(&c.f, both), 0);
		check_number(&c, 77);
	}
	chain_close(&c);
}

TEST(buffers_may_be_destroyed_while_they_are_converted)
{
	struct chain c;
	chain_open(&c);
	CHECK_EQ(fixture_draw(&c.f, &c.format, c.copy.to, 5), 0);
	struct gpu_work work = { .convert = &c.convert, .done = fixture_done, .data = &c.f };
	CHECK_EQ(gpu_submit(c.f.gpu, &work, NULL, NULL), 0);
	c.copied = gpu_buffer_destroy(c.copied);
	c.converted = gpu_buffer_destroy(c.converted);
	fixture_run_until(&c.f, c.f.n_done + 1);
	CHECK_EQ(c.f.result, 0);
	chain_close(&c);
}

TEST(what_does_not_fit_or_cannot_be_converted_is_not_submitted)
{
	struct chain c;
	chain_open(&c);
	struct gpu_buffer *small = fixture_buffer(&c.f, GPU_PRIVATE, c.yuv.size_bytes / 2);
	struct gpu_convert good = c.convert;
	struct gpu_work work = { .convert = &c.convert };
	c.convert.to.buffer = small;
	CHECK_EQ(fixture_work(&c.f, work), -EINVAL);
	CHECK(strstr(gpu_error(c.f.gpu), "does not fit"));
	c.convert = good;
	c.convert.from.buffer = small;
	CHECK_EQ(fixture_work(&c.f, work), -EINVAL);
	c.convert = good;
	c.convert.to.offset[1] += 2; /* words are written */
	CHECK_EQ(fixture_work(&c.f, work), -EINVAL);
	c.convert = good;
	c.convert.from.stride[0] += 1;
	CHECK_EQ(fixture_work(&c.f, work), -EINVAL);
	c.convert = good;
	c.yuv.colour.matrix = 2;
	CHECK_EQ(fixture_work(&c.f, work), -EINVAL);
	CHECK(strstr(gpu_error(c.f.gpu), "by the matrix"));
	CHECK_EQ(c.f.n_done, 0);
	gpu_buffer_destroy(small);
	chain_close(&c);
}

#ifdef SLUICE_FAULTS
TEST(a_shader_that_cannot_be_compiled_is_tried_again)
{
	struct chain c;
	chain_open(&c);
	c.draw.number = 9;
	CHECK_EQ(fixture_draw(&c.f, &c.format, c.copy.to, 9), 0);
	CHECK(gpu_fault("vkCreateComputePipelines", VK_ERROR_OUT_OF_HOST_MEMORY, 1, false));
	CHECK_EQ(fixture_work(&c.f, (struct gpu_work){ .convert = &c.convert }), -ENOMEM);
	CHECK(strstr(gpu_error(c.f.gpu), "vkCreateComputePipelines"));
	CHECK_EQ(fixture_work(&c.f, (struct gpu_work){ .convert = &c.convert }), 0);
	check_number(&c, 9);
	chain_close(&c);
}
#endif

/* --- What can be converted ---------------------------------------------------------------------*/

TEST(what_cannot_be_converted_is_said_in_a_sentence)
{
	static const struct {
		const char *from, *to;
		struct side_by_side size;
		uint8_t matrix;
		const char *says; /* NULL: it can */
	} rows[] = {
		{ "BGRx", "NV12", { 640, 360, 640, 360 }, 1, NULL },
		{ "BGRx", "NV12", { 16384, 16384, 256, 256 }, 1, NULL },
		{ "BGRx", "NV12", { 16384, 16384, 255, 256 }, 1, "64 at most" },
		{ "BGRx", "NV12", { 16384, 16384, 256, 255 }, 1, "64 at most" },
		{ "BGRx", "NV12", { 1, 1, 16384, 16384 }, 1, NULL },
		{ "BGRx", "NV12", { 640, 360, 640, 360 }, 2, "YUV is made of RGB by the matrix" },
		{ "BGRx", "NV12", { 640, 360, 640, 360 }, 0, "YUV is made of RGB by the matrix" },
		{ "BGRx", "NV12", { 640, 360, 640, 360 }, 255, "YUV is made of RGB by the matrix" },
		{ "NV12", "BGRx", { 640, 360, 640, 360 }, 1, "no RGB of YUV" },
		{ "YUY2", "NV12", { 640, 360, 640, 360 }, 1, "YUY2 is only copied" },
		{ "YUY2", "YUY2", { 640, 360, 640, 360 }, 1, NULL },
		{ "YUY2", "YUY2", { 640, 360, 320, 180 }, 1, "YUY2 is only copied" },
	};
	const char *why = NULL;
	for (unsigned i = 0; i < N(rows); i++) {
		const struct side_by_side *s = &rows[i].size;
		struct video_format from =
			fixture_format(rows[i].from, s->from_width, s->from_height);
		struct video_format to = fixture_format(rows[i].to, s->to_width, s->to_height);
		to.colour.matrix = rows[i].matrix;
		if (from.colour.matrix != 0)
			from.colour.matrix = rows[i].matrix;
		CHECK_ROW(gpu_can_convert(&from, &to, &why) == !rows[i].says, rows[i].from);
		CHECK_ROW(gpu_can_convert(&from, &to, NULL) == !rows[i].says, rows[i].from);
		CHECK_ROW(!rows[i].says || strstr(why, rows[i].says), why);
	}
	struct video_format a = fixture_format("NV12", 64, 64), b = a;
	a.colour.matrix = 1;
	b.colour.matrix = 6;
	CHECK(!gpu_can_convert(&a, &b, &why) && strstr(why, "cannot be changed"));
	a = fixture_format("BGRx", 64, 64);
	b = fixture_format("RGBA_F16", 64, 64);
	b.colour.transfer = LINEAR;
	CHECK(!gpu_can_convert(&a, &b, &why) && strstr(why, "no linear light"));
}

TEST(sizes_and_formats_from_anybody_are_checked)
{
	static const uint32_t sides[] = { 0, 16385, 65536, 1u << 31, UINT32_MAX };
	const char *why = NULL;
	struct video_format good = fixture_format("BGRx", 64, 64);
	for (unsigned i = 0; i < N(sides); i++) {
		struct video_format wide = good, high = good;
		wide.width = sides[i];
		high.height = sides[i];
		CHECK(!gpu_can_convert(&wide, &good, &why) && strstr(why, "from 1 to 16384"));
		CHECK(!gpu_can_convert(&good, &wide, &why) && strstr(why, "from 1 to 16384"));
		CHECK(!gpu_can_convert(&high, &good, &why) && strstr(why, "from 1 to 16384"));
		CHECK(!gpu_can_convert(&good, &high, &why) && strstr(why, "from 1 to 16384"));
		CHECK(!gpu_can_convert(&wide, &wide, NULL));
	}
	struct video_format unknown = good;
	unknown.fourcc = 0x41414141;
	CHECK(!gpu_can_convert(&unknown, &unknown, &why) &&
		!gpu_can_convert(&good, &unknown, &why));
}
