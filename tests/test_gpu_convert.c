/* Pictures that the GPU converts, against the same in floating point. */
#include <drm_fourcc.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/convert_reference.h"
#include "tests/gpu_fixture.h"

enum {
	LINEAR = 8,        /* H.273's transfer */
	MARGIN_BYTES = 64, /* before each plane and beside each row: nothing may be written there */
	MARGIN = 0xa5,
};

static const double least_psnr = 50;

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* --- Pictures ----------------------------------------------------------------------------------*/

static uint32_t noise(uint32_t seed)
{
	seed = (seed ^ seed >> 16) * 0x7feb352du;
	seed = (seed ^ seed >> 15) * 0x846ca68bu;
	return seed ^ seed >> 16;
}

/* From 0 to 1: a gradient, noise, and sharp edges of full contrast. */
static double value_at(uint32_t width, uint32_t x, uint32_t y, unsigned channel)
{
	uint32_t n = noise(x * 5501 + y * 7919 + channel * 104729);
	switch ((x / 8 + y / 8 + channel) % 4) {
	case 0:
		return (double)x / width;
	case 1:
		return n % 1024 / 1023.0;
	case 2:
		return n & 1;
	default:
		return (x / 3 + y / 5) & 1;
	}
}

static uint16_t half_of(double v)
{
	int exponent;
	double fraction = frexp(v, &exponent);
	if (v <= 0 || exponent < -13)
		return 0;
	return (uint16_t)((exponent + 13) * 1024 + (int)lround(fraction * 2048));
}

static void put_rgb(uint8_t *row, const struct video_format *f, uint32_t x, const double v[4])
{
	const char *name = format_info(f->fourcc)->name;
	uint32_t word = 0;
	uint16_t halves[4];
	if (strstr(name, "F16")) {
		for (unsigned i = 0; i < 4; i++)
			halves[i] = half_of(v[i]);
		memcpy(row + 8 * x, halves, sizeof(halves));
	} else if (strstr(name, "210")) {
		for (unsigned i = 0; i < 3; i++)
			word |= (uint32_t)lround(v[i] * 1023) << 10 * i;
		word |= (uint32_t)lround(v[3] * 3) << 30;
		memcpy(row + 4 * x, &word, sizeof(word));
	} else
		for (unsigned i = 0; i < 4; i++)
			row[4 * x + i] = (uint8_t)lround(v[i] * 255);
}

static void fill(const struct video_format *f, uint8_t *pixels)
{
	for (unsigned p = 0; p < f->n_planes; p++)
		for (uint32_t y = 0; y < format_rows(f, p); y++) {
			uint8_t *row = pixels + f->offset[p] + (size_t)y * f->stride[p];
			if (!reference_is_yuv(f))
				for (uint32_t x = 0; x < f->width; x++) {
					double v[4] = { value_at(f->width, x, y, 0),
						value_at(f->width, x, y, 1),
						value_at(f->width, x, y, 2),
						value_at(f->width, x, y, 3) };
					put_rgb(row, f, x, v);
				}
			else if (f->fourcc == DRM_FORMAT_P010)
				for (uint32_t i = 0; i < format_row_bytes(f, p) / 2; i++) {
					unsigned v =
						64 + (unsigned)(value_at(f->width, i, y, p) * 876);
					row[2 * i] = (uint8_t)(v << 6);
					row[2 * i + 1] = (uint8_t)(v >> 2);
				}
			else
				for (uint32_t i = 0; i < format_row_bytes(f, p); i++)
					row[i] = (uint8_t)(16 + value_at(f->width, i, y, p) * 219);
		}
}

/* With room around every row. */
static struct video_format spread(struct video_format format)
{
	uint32_t offset = MARGIN_BYTES;
	for (unsigned p = 0; p < format.n_planes; p++) {
		/* one stride for both planes of chroma */
		uint32_t row = format_row_bytes(&format, p);
		format.stride[p] = (row + 15) / 16 * 16 + MARGIN_BYTES;
		format.offset[p] = offset;
		offset += format.stride[p] * format_rows(&format, p) + MARGIN_BYTES;
	}
	format.size_bytes = offset;
	return format;
}

/* --- One conversion ----------------------------------------------------------------------------*/

struct conversion {
	struct video_format from;
	struct video_format to;
	struct gpu_buffer *source;
	struct gpu_buffer *target;
};

static int run(struct gpu_fixture *f, const struct conversion *c)
{
	struct gpu_convert convert = {
		.from_format = &c->from,
		.to_format = &c->to,
		.from = gpu_picture_of(c->source, &c->from),
		.to = gpu_picture_of(c->target, &c->to),
	};
	return fixture_work(f, (struct gpu_work){ .convert = &convert });
}

static void begin(struct gpu_fixture *f, struct conversion *c)
{
	c->source = fixture_buffer(f, GPU_STAGING, c->from.size_bytes);
	c->target = fixture_buffer(f, GPU_STAGING, c->to.size_bytes);
	fill(&c->from, gpu_buffer_map(c->source));
	memset(gpu_buffer_map(c->target), MARGIN, c->to.size_bytes);
}

static void end(struct conversion *c)
{
	c->source = gpu_buffer_destroy(c->source);
	c->target = gpu_buffer_destroy(c->target);
}

static bool is_within(const struct video_format *format, uint64_t byte)
{
	for (unsigned p = 0; p < format->n_planes; p++) {
		uint64_t at = byte - format->offset[p];
		if (byte >= format->offset[p] && at / format->stride[p] < format_rows(format, p) &&
			at % format->stride[p] < format_row_bytes(format, p))
			return true;
	}
	return false;
}

static void check_margins(const struct conversion *c, const char *row)
{
	const uint8_t *bytes = gpu_buffer_map(c->target);
	for (uint64_t i = 0; i < c->to.size_bytes; i++)
		CHECK_ROW(bytes[i] == MARGIN || is_within(&c->to, i), row);
}

static const char *words_for(const struct conversion *c)
{
	static char text[160];
	char from[64], to[64];
	snprintf(text, sizeof(text), "%s (transfer %u) to %s, matrix %u, %s range",
		format_describe(&c->from, from, sizeof(from)), c->from.colour.transfer,
		format_describe(&c->to, to, sizeof(to)), c->to.colour.matrix,
		c->to.colour.full_range ? "full" : "limited");
	return text;
}

/* Rounded to the nearest: half a step, and what 32-bit floats lose. Floats: one of their own steps. */
static double bound_of(const struct video_format *to)
{
	const char *name = format_info(to->fourcc)->name;
	return strstr(name, "F16") ? 1 : strstr(name, "10") ? 0.53 : 0.51;
}

static struct score convert(struct gpu_fixture *f, struct conversion *c)
{
	begin(f, c);
	CHECK_ROW(run(f, c) == 0, words_for(c));
	struct planes from = planes_of(&c->from, gpu_buffer_map(c->source));
	struct planes expected = reference_convert(&from, &c->to);
	struct score s = reference_score(&expected, &c->to, gpu_buffer_map(c->target));
	if (s.psnr < least_psnr || s.worst > bound_of(&c->to))
		test_fail(__FILE__, __LINE__, "%s: %.1f dB, worst %.3f steps", words_for(c), s.psnr,
			s.worst);
	check_margins(c, words_for(c));
	planes_finish(&from);
	planes_finish(&expected);
	end(c);
	return s;
}

/* --- Tables ------------------------------------------------------------------------------------*/

struct side_by_side {
	uint32_t from_width, from_height, to_width, to_height;
};

static const struct side_by_side same_sizes[] = {
	{ 64, 36, 64, 36 },
	{ 37, 23, 37, 23 },
};

static const struct side_by_side odd_sizes[] = {
	{ 1, 1, 1, 1 },
	{ 3, 1, 3, 1 },
	{ 1, 5, 1, 5 },
	{ 2, 2, 2, 2 },
	{ 7, 6, 7, 6 },
	{ 133, 35, 133, 35 },
	{ 261, 3, 261, 3 },
	{ 1921, 9, 1921, 9 },
};

static const struct side_by_side scaled_sizes[] = {
	{ 96, 54, 48, 27 },               /* a half, and an odd side */
	{ 96, 54, 64, 36 },               /* two thirds */
	{ 64, 48, 32, 24 },               /* a half */
	{ 40, 22, 100, 70 },              /* larger, by fractions */
	{ 33, 21, 47, 29 },               /* odd, a little larger */
	{ 33, 21, 32, 20 },               /* a little smaller */
	{ 64, 36, 96, 18 },               /* wider and lower */
	{ 1, 1, 5, 3 }, { 64, 64, 1, 1 }, /* as much smaller as it gets */
};

static const char *const rgb_names[] = { "BGRx", "BGRA", "RGBx", "RGBA", "xRGB_210LE", "ARGB_210LE",
	"xBGR_210LE", "ABGR_210LE", "RGBx_F16", "RGBA_F16" };
static const char *const yuv_names[] = { "NV12", "P010", "I420" };

static const struct {
	uint8_t matrix;
	bool full_range;
} colours[] = { { 1, false }, { 1, true }, { 6, false }, { 6, true }, { 9, false }, { 9, true } };

static struct conversion conversion_of(
	const char *from, const char *to, const struct side_by_side *size)
{
	struct conversion c = {
		.from = spread(fixture_format(from, size->from_width, size->from_height)),
		.to = spread(fixture_format(to, size->to_width, size->to_height)),
	};
	if (reference_is_yuv(&c.to))
		c.to.colour.matrix = 1;
	if (reference_is_yuv(&c.from))
		c.from.colour.matrix = 1;
	return c;
}

static void worse(struct score *worst, struct score s)
{
	worst->psnr = fmin(worst->psnr, s.psnr);
	worst->worst = fmax(worst->worst, s.worst);
}

static const struct score no_score = { INFINITY, 0 };

static void print_score(const char *from, const char *to, struct score s)
{
	printf("  %-18s %-11s %5.1f dB, worst %.3f\n", from, to, s.psnr, s.worst);
}

/* All matrices and ranges. */
static struct score convert_to_yuv(struct gpu_fixture *f, const char *from, const char *to,
	uint8_t transfer, const struct side_by_side *sizes, unsigned n_sizes)
{
	struct score worst = no_score;
	for (unsigned i = 0; i < N(colours) * n_sizes; i++) {
		struct conversion c = conversion_of(from, to, &sizes[i / N(colours)]);
		c.to.colour.matrix = colours[i % N(colours)].matrix;
		c.to.colour.full_range = colours[i % N(colours)].full_range;
		c.from.colour.transfer = transfer;
		worse(&worst, convert(f, &c));
	}
	return worst;
}

TEST(rgb_becomes_yuv_by_every_matrix_in_either_range)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N(rgb_names) * N(yuv_names); i++) {
		const char *from = rgb_names[i / N(yuv_names)], *to = yuv_names[i % N(yuv_names)];
		print_score(from, to, convert_to_yuv(&f, from, to, 13, same_sizes, N(same_sizes)));
	}
	for (unsigned i = 0; i < N(yuv_names); i++)
		print_score("RGBA_F16, linear", yuv_names[i],
			convert_to_yuv(&f, "RGBA_F16", yuv_names[i], LINEAR, same_sizes, 1));
	fixture_close(&f);
}

static void check_sizes(struct gpu_fixture *f, const char *from, const char *to,
	const struct side_by_side *sizes, unsigned n)
{
	struct score worst = no_score;
	for (unsigned i = 0; i < n; i++) {
		struct conversion c = conversion_of(from, to, &sizes[i]);
		worse(&worst, convert(f, &c));
	}
	print_score(from, to, worst);
}

TEST(odd_sizes_lose_no_pixel)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N(yuv_names); i++) {
		check_sizes(&f, "BGRx", yuv_names[i], odd_sizes, N(odd_sizes));
		check_sizes(&f, "ABGR_210LE", yuv_names[i], odd_sizes, N(odd_sizes));
		check_sizes(&f, "RGBA_F16", yuv_names[i], odd_sizes, N(odd_sizes));
	}
	check_sizes(&f, "BGRA", "RGBx", odd_sizes, N(odd_sizes));
	fixture_close(&f);
}

TEST(pictures_are_made_larger_and_smaller)
{
	static const char *const from[] = { "BGRx", "xRGB_210LE", "RGBA_F16" };
	static const char *const to[] = { "NV12", "P010", "I420", "BGRx", "ABGR_210LE",
		"RGBA_F16" };
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N(from) * N(to); i++)
		check_sizes(&f, from[i / N(to)], to[i % N(to)], scaled_sizes, N(scaled_sizes));
	fixture_close(&f);
}

TEST(yuv_becomes_other_yuv_in_any_size)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N(yuv_names) * N(yuv_names); i++) {
		const char *from = yuv_names[i / N(yuv_names)], *to = yuv_names[i % N(yuv_names)];
		check_sizes(&f, from, to, scaled_sizes, N(scaled_sizes));
		if (strcmp(from, to) != 0)
			check_sizes(&f, from, to, odd_sizes, N(odd_sizes));
	}
	fixture_close(&f);
}

TEST(rgb_becomes_other_rgb)
{
	static const char *const to[] = { "BGRx", "RGBA", "xRGB_210LE", "ABGR_210LE", "RGBA_F16" };
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N(rgb_names) * N(to); i++)
		if (strcmp(rgb_names[i / N(to)], to[i % N(to)]) != 0)
			check_sizes(
				&f, rgb_names[i / N(to)], to[i % N(to)], same_sizes, N(same_sizes));
	struct conversion c = conversion_of("RGBA_F16", "BGRx", &same_sizes[0]);
	c.from.colour.transfer = LINEAR;
	print_score("RGBA_F16, linear", "BGRx", convert(&f, &c));
	fixture_close(&f);
}

TEST(the_range_of_yuv_and_of_rgb_is_obeyed)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	static const char *const pairs[][2] = { { "NV12", "NV12" }, { "P010", "I420" },
		{ "BGRx", "NV12" }, { "BGRx", "RGBx" }, { "xRGB_210LE", "P010" } };
	for (unsigned i = 0; i < N(pairs) * 4; i++) {
		struct conversion c =
			conversion_of(pairs[i / 4][0], pairs[i / 4][1], &same_sizes[1]);
		c.from.colour.full_range = i & 1;
		c.to.colour.full_range = i >> 1 & 1;
		if (strcmp(pairs[i / 4][0], pairs[i / 4][1]) != 0 || (i & 1) != (i >> 1 & 1))
			convert(&f, &c);
	}
	fixture_close(&f);
}

/* --- What the table above could not see --------------------------------------------------------*/

TEST(a_wrong_matrix_would_be_found)
{
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	struct conversion c = conversion_of("BGRx", "NV12", &same_sizes[0]);
	c.to.colour.matrix = 6;
	begin(&f, &c);
	CHECK_EQ(run(&f, &c), 0);
	c.to.colour.matrix = 1;
	struct planes from = planes_of(&c.from, gpu_buffer_map(c.source));
	struct planes expected = reference_convert(&from, &c.to);
	struct score s = reference_score(&expected, &c.to, gpu_buffer_map(c.target));
	printf("  BT.601 for BT.709: %.1f dB\n", s.psnr);
	CHECK(s.psnr < least_psnr);
	planes_finish(&from);
	planes_finish(&expected);
	end(&c);
	fixture_close(&f);
}

TEST(the_same_format_size_and_colour_is_copied_exactly)
{
	static const char *const names[] = { "BGRx", "YUY2", "NV12", "I420", "P010", "xRGB_210LE",
		"RGBA_F16" };
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N(names) * N(odd_sizes); i++) {
		const struct side_by_side *size = &odd_sizes[i % N(odd_sizes)];
		struct conversion c =
			conversion_of(names[i / N(odd_sizes)], names[i / N(odd_sizes)], size);
		c.from.colour.primaries = 9; /* a tag */
		begin(&f, &c);
		uint8_t *from = gpu_buffer_map(c.source), *to = gpu_buffer_map(c.target);
		for (uint64_t k = 0; k < c.from.size_bytes; k++)
			from[k] = (uint8_t)noise((uint32_t)k);
		CHECK_ROW(run(&f, &c) == 0, words_for(&c));
		for (uint64_t k = 0; k < c.to.size_bytes; k++)
			CHECK_ROW(!is_within(&c.to, k) || to[k] == from[k], words_for(&c));
		end(&c);
	}
	fixture_close(&f);
}

TEST(alpha_is_kept_or_opaque)
{
	static const struct {
		const char *from, *to;
		double scale; /* 0: opaque */
		double top;
	} rows[] = {
		{ "BGRA", "RGBA", 1, 255 },
		{ "BGRA", "RGBx", 0, 255 },
		{ "BGRx", "RGBA", 0, 255 },
		{ "BGRx", "ARGB_210LE", 0, 3 },
		{ "ARGB_210LE", "BGRA", 85, 255 },
		{ "RGBA_F16", "BGRA", 255, 255 },
		{ "BGRA", "RGBA_F16", 1 / 255.0, 1 },
	};
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < N(rows); i++) {
		struct conversion c = conversion_of(rows[i].from, rows[i].to, &same_sizes[1]);
		begin(&f, &c);
		CHECK_ROW(run(&f, &c) == 0, words_for(&c));
		for (uint32_t k = 0; k < c.to.width * c.to.height; k++) {
			uint32_t x = k % c.to.width, y = k / c.to.width;
			double in = reference_component(&c.from, gpu_buffer_map(c.source), 3, x, y);
			double out = reference_component(&c.to, gpu_buffer_map(c.target), 3, x, y);
			double want = rows[i].scale > 0 ? in * rows[i].scale : rows[i].top;
			CHECK_ROW(fabs(out - want) <= 0.501 * (rows[i].top > 1 ? 1 : 0.001),
				words_for(&c));
		}
		end(&c);
	}
	fixture_close(&f);
}

/* What is not a number is black, and spoils no neighbour. */
TEST(floats_beyond_the_range_are_clamped)
{
	static const uint16_t halves[] = { 0x7c00, 0xfc00, 0x7e00, 0x4000, 0xbc00, 0x3c00, 0x0001 };
	/* linear light is clamped; other values may be blacker than black and whiter than white */
	static const uint8_t luma[][2] = { { 255, 235 }, { 0, 16 }, { 16, 16 }, { 255, 235 },
		{ 0, 16 }, { 235, 235 }, { 16, 16 } };
	struct gpu_fixture f = { 0 };
	fixture_open(&f);
	for (unsigned i = 0; i < 2 * N(halves); i++) {
		struct conversion c =
			conversion_of("RGBA_F16", "NV12", &(struct side_by_side){ 4, 1, 4, 1 });
		c.from.colour.transfer = i >= N(halves) ? LINEAR : 13;
		begin(&f, &c);
		uint16_t pixels[4][4] = { 0 };
		for (unsigned k = 0; k < 4; k++)
			pixels[1][k] = halves[i % N(halves)];
		memcpy((uint8_t *)gpu_buffer_map(c.source) + c.from.offset[0], pixels,
			sizeof(pixels));
		CHECK_EQ(run(&f, &c), 0);
		const uint8_t *y = (uint8_t *)gpu_buffer_map(c.target) + c.to.offset[0];
		CHECK(y[0] == 16 && y[2] == 16 && y[3] == 16);
		CHECK_EQ(y[1], luma[i % N(halves)][i / N(halves)]);
		end(&c);
	}
	fixture_close(&f);
}

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
