/* Conversion by the CPU against a reference in floating point, and the edges of its memory. */
#include "tests/test.h"

#include <drm_fourcc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/form.h"
#include "broker/frame.h"
#include "broker/scale.h"
#include "tests/convert_reference.h"

enum { RGB_BYTES = 4, LEAST_DB = 50, LINEAR = 8 };

/* --- A picture of smooth waves and hard edges, BGRx ---------------------------------------------- */

static struct video_format layout(uint32_t fourcc, uint32_t width, uint32_t height)
{
	struct video_format f;
	CHECK_EQ(format_layout(fourcc, width, height, &f), 0);
	return f;
}

static void draw(const struct video_format *f, uint8_t *pixels)
{
	for (uint32_t y = 0; y < f->height; y++)
		for (uint32_t x = 0; x < f->width; x++) {
			uint8_t *p = pixels + (size_t)y * f->stride[0] + (size_t)x * RGB_BYTES;
			bool is_edge = (x / 24 + y / 17) % 5 == 0;
			p[0] = (uint8_t)(127 + 120 * sin(x * 0.05 + y * 0.02));
			p[1] = is_edge ? 230 : (uint8_t)(127 + 120 * cos(y * 0.045));
			p[2] = (uint8_t)(127 + 120 * sin(x * 0.031 - y * 0.04));
			p[3] = 255;
		}
}

/* Of a number from 0 to 1. */
static uint16_t half_of(double v)
{
	int exponent;
	double fraction = frexp(v, &exponent); /* from 0.5 to 1 */
	if (v < ldexp(1, -14))
		return (uint16_t)lround(ldexp(v, 24));
	return (uint16_t)((exponent + 14) * 1024 + lround((fraction * 2 - 1) * 1024));
}

/* RGBA, linear if the format says so. */
static void put_halves(const struct video_format *f, uint8_t *out, const uint8_t *bgrx)
{
	for (unsigned i = 0; i < 3; i++) {
		double v = bgrx[2 - i] / 255.0;
		if (f->colour.transfer == LINEAR)
			v = v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
		uint16_t half = half_of(v);
		memcpy(out + i * sizeof(half), &half, sizeof(half));
	}
	memset(out + 6, 0x11, 2);
}

/* The same picture in another order or depth of RGB, from one in BGRx. */
static void draw_rgb(const struct video_format *f, uint8_t *pixels)
{
	struct video_format plain = layout(DRM_FORMAT_XRGB8888, f->width, f->height);
	uint8_t *source = calloc(1, plain.size_bytes);
	CHECK(source != NULL);
	draw(&plain, source);
	bool is_deep = strstr(format_info(f->fourcc)->name, "_210LE");
	bool is_blue_first = f->fourcc == DRM_FORMAT_XRGB8888 || f->fourcc == DRM_FORMAT_ARGB8888 ||
			     f->fourcc == DRM_FORMAT_XRGB2101010 ||
			     f->fourcc == DRM_FORMAT_ARGB2101010;
	for (uint32_t y = 0; y < f->height; y++)
		for (uint32_t x = 0; x < f->width; x++) {
			const uint8_t *in =
				source + (size_t)y * plain.stride[0] + (size_t)x * RGB_BYTES;
			uint32_t first = in[is_blue_first ? 0 : 2],
				 last = in[is_blue_first ? 2 : 0];
			if (format_info(f->fourcc)->bytes[0] == 8) {
				put_halves(
					f, pixels + (size_t)y * f->stride[0] + (size_t)x * 8, in);
				continue;
			}
			uint32_t word = first | (uint32_t)in[1] << 8 | last << 16 | 0xffu << 24;
			/* the lowest bits are used too */
			if (is_deep)
				word = (first * 4 + x % 4) | (in[1] * 4u + y % 4) << 10 |
				       (last * 4 + x % 3) << 20 | 3u << 30;
			memcpy(pixels + (size_t)y * f->stride[0] + (size_t)x * RGB_BYTES, &word,
				sizeof(word));
		}
	free(source);
}

static double psnr_of(const struct video_format *from, const uint8_t *source,
	const struct video_format *to, const uint8_t *made)
{
	struct planes planes = planes_of(from, source), expected = reference_convert(&planes, to);
	double psnr = reference_score(&expected, to, made).psnr;
	planes_finish(&expected);
	planes_finish(&planes);
	return psnr;
}

/* --- Memory that ends where the picture does ------------------------------------------------------ */

struct fenced {
	uint8_t *map;
	size_t size;
	uint8_t *pixels;
};

static struct fenced fence(size_t size_bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t whole = (size_bytes + page - 1) / page * page;
	struct fenced f = { .size = whole + page };
	f.map = mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(f.map != MAP_FAILED && mprotect(f.map + whole, page, PROT_NONE) == 0);
	f.pixels = f.map; /* as a slot: the rest of the last page is there */
	return f;
}

static void unfence(struct fenced *f)
{
	munmap(f->map, f->size);
}

static struct video_format make(const struct video_format *from, const struct form *form,
	const uint8_t *source, struct fenced *made)
{
	struct video_format to;
	struct scaler *scaler;
	CHECK_EQ(form_resolve(form, from, &to), 0);
	CHECK(scale_can(from, &to, NULL));
	CHECK_EQ(scaler_create(&scaler, from, &to), 0);
	CHECK(scaler_fits(scaler, from, &to));
	CHECK_EQ(scaler_fits(scaler, &to, from), format_equal(from, &to));
	*made = fence(to.size_bytes);
	CHECK_EQ(scaler_run(scaler, source, made->pixels), 0);
	scaler_destroy(scaler);
	return to;
}

static const struct row {
	const char *name;
	uint32_t width, height; /* of the source */
	struct form form;
} rows[] = {
	{ "same size, BT.709", 320, 240, { .fourcc = DRM_FORMAT_NV12 } },
	{ "same size, BT.601", 320, 240, { .fourcc = DRM_FORMAT_NV12, .matrix = 6 } },
	{ "same size, BT.2020", 320, 240, { .fourcc = DRM_FORMAT_NV12, .matrix = 9 } },
	{ "same size, full", 320, 240, { .fourcc = DRM_FORMAT_NV12, .range = FORM_RANGE_FULL } },
	{ "ten bits", 320, 240, { .fourcc = DRM_FORMAT_P010 } },
	{ "three planes", 320, 240, { .fourcc = DRM_FORMAT_YUV420 } },
	{ "half", 640, 480, { .fourcc = DRM_FORMAT_NV12, .width = 320, .height = 240 } },
	{ "a third, odd", 640, 480, { .fourcc = DRM_FORMAT_NV12, .width = 213, .height = 161 } },
	{ "three quarters", 640, 480,
		{ .fourcc = DRM_FORMAT_YUV420, .width = 480, .height = 360 } },
	{ "larger", 160, 120, { .fourcc = DRM_FORMAT_NV12, .width = 320, .height = 240 } },
	{ "wider and lower", 320, 240, { .fourcc = DRM_FORMAT_NV12, .width = 500, .height = 130 } },
	{ "odd", 321, 241, { .fourcc = DRM_FORMAT_NV12 } },
	{ "odd, planes", 321, 240, { .fourcc = DRM_FORMAT_YUV420 } },
	{ "one pixel", 1, 1, { .fourcc = DRM_FORMAT_NV12 } },
	{ "large", 1366, 767, { .fourcc = DRM_FORMAT_YUV420 } }, /* in several threads */
};

TEST(converted_pictures_are_as_the_reference_makes_them)
{
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct video_format from = layout(DRM_FORMAT_XRGB8888, row->width, row->height);
		struct fenced source = fence(from.size_bytes), made;
		draw(&from, source.pixels);
		struct video_format to = make(&from, &row->form, source.pixels, &made);
		double psnr = psnr_of(&from, source.pixels, &to, made.pixels);
		printf("%-20s %.1f dB\n", row->name, psnr);
		if (psnr < LEAST_DB)
			test_fail(__FILE__, __LINE__, "%s: %.1f dB", row->name, psnr);
		unfence(&source);
		unfence(&made);
	}
}

TEST(every_order_and_depth_of_rgb_can_be_converted)
{
	static const uint32_t fourccs[] = { DRM_FORMAT_XRGB8888, DRM_FORMAT_ARGB8888,
		DRM_FORMAT_XBGR8888, DRM_FORMAT_ABGR8888, DRM_FORMAT_XRGB2101010,
		DRM_FORMAT_ARGB2101010, DRM_FORMAT_XBGR2101010, DRM_FORMAT_ABGR2101010,
		DRM_FORMAT_XBGR16161616F, DRM_FORMAT_ABGR16161616F };
	static const struct form forms[] = {
		{ .fourcc = DRM_FORMAT_NV12 },
		{ .fourcc = DRM_FORMAT_P010, .width = 160, .height = 120 },
		{ .fourcc = DRM_FORMAT_YUV420, .width = 240, .height = 180 },
		{ .fourcc = DRM_FORMAT_NV12, .width = 161, .height = 121 },
	};
	enum { FORMS = sizeof(forms) / sizeof(forms[0]) };
	for (unsigned i = 0; i < FORMS * sizeof(fourccs) / sizeof(fourccs[0]); i++) {
		struct video_format from = layout(fourccs[i / FORMS], 320, 240);
		const char *name = format_info(from.fourcc)->name;
		if (from.fourcc == DRM_FORMAT_ABGR16161616F)
			from.colour.transfer = LINEAR;
		struct fenced source = fence(from.size_bytes), made;
		draw_rgb(&from, source.pixels);
		struct video_format to = make(&from, &forms[i % FORMS], source.pixels, &made);
		double psnr = psnr_of(&from, source.pixels, &to, made.pixels);
		printf("%-12s to %s %.1f dB\n", name, format_info(to.fourcc)->name, psnr);
		if (psnr < LEAST_DB)
			test_fail(__FILE__, __LINE__, "%s: %.1f dB", name, psnr);
		unfence(&source);
		unfence(&made);
	}
}

/* Of the same matrix: more the reference does not know. */
TEST(yuv_can_be_converted)
{
	static const uint32_t fourccs[] = { DRM_FORMAT_NV12, DRM_FORMAT_YUV420, DRM_FORMAT_P010 };
	static const struct form forms[] = {
		{ .fourcc = DRM_FORMAT_NV12, .width = 160, .height = 120 },
		{ .fourcc = DRM_FORMAT_P010, .width = 160, .height = 120 },
		{ .fourcc = DRM_FORMAT_YUV420, .width = 640, .height = 480 },
		{ .fourcc = DRM_FORMAT_NV12, .range = FORM_RANGE_FULL },
	};
	enum { FORMS = sizeof(forms) / sizeof(forms[0]) };
	struct video_format plain = layout(DRM_FORMAT_XRGB8888, 320, 240);
	struct fenced drawn = fence(plain.size_bytes), source, made;
	draw(&plain, drawn.pixels);
	for (unsigned i = 0; i < FORMS * sizeof(fourccs) / sizeof(fourccs[0]); i++) {
		struct form form = { .fourcc = fourccs[i / FORMS] };
		struct video_format from = make(&plain, &form, drawn.pixels, &source), to;
		to = make(&from, &forms[i % FORMS], source.pixels, &made);
		double psnr = psnr_of(&from, source.pixels, &to, made.pixels);
		printf("%s to %s %ux%u %.1f dB\n", format_info(from.fourcc)->name,
			format_info(to.fourcc)->name, to.width, to.height, psnr);
		if (psnr < LEAST_DB)
			test_fail(__FILE__, __LINE__, "%u: %.1f dB", i, psnr);
		unfence(&source);
		unfence(&made);
	}
	unfence(&drawn);
}

/* Two bits of alpha are dropped where nobody wants them, and never made up. */
TEST(alpha_that_would_be_lost_is_refused)
{
	struct video_format deep = layout(DRM_FORMAT_ARGB2101010, 64, 64);
	struct video_format plain = layout(DRM_FORMAT_XRGB8888, 64, 64);
	struct video_format with_alpha = layout(DRM_FORMAT_ARGB8888, 64, 64);
	const char *why;
	CHECK(scale_can(&deep, &plain, &why));
	CHECK(!scale_can(&deep, &with_alpha, &why));
	CHECK(!scale_can(&plain, &deep, &why));
	CHECK_STR(why, "libswscale does not convert between these formats");
}

/* Chroma of 213 pixels cannot be brought to where it belongs by whole pixels of 100. */
TEST(an_odd_side_that_is_no_round_part_of_the_source_is_near_enough)
{
	struct video_format from = layout(DRM_FORMAT_XRGB8888, 100, 100);
	struct form form = { .fourcc = DRM_FORMAT_NV12, .width = 213, .height = 100 };
	struct fenced source = fence(from.size_bytes), made;
	draw(&from, source.pixels);
	struct video_format to = make(&from, &form, source.pixels, &made);
	CHECK(psnr_of(&from, source.pixels, &to, made.pixels) > 35);
	unfence(&source);
	unfence(&made);
}

TEST(no_size_makes_it_read_or_write_past_the_memory)
{
	static const uint32_t fourccs[] = { DRM_FORMAT_NV12, DRM_FORMAT_YUV420, DRM_FORMAT_YUYV,
		DRM_FORMAT_XRGB8888, DRM_FORMAT_ABGR8888, DRM_FORMAT_P010, DRM_FORMAT_XRGB2101010 };
	enum { N = sizeof(fourccs) / sizeof(fourccs[0]) };
	for (uint32_t i = 0; i < 6 * N * N; i++) {
		/* 64 pixels of four bytes fill a row, 1,024 rows of 256 bytes whole pages */
		uint32_t width = (i / (N * N) % 2 ? 64 : 61) + i / (2 * N * N) * 64, height = 64;
		struct video_format from = layout(fourccs[i % N], width, height);
		struct form form = { .fourcc = fourccs[i / N % N], .width = 128 - i % 3 };
		struct fenced source = fence(from.size_bytes), made;
		make(&from, &form, source.pixels, &made);
		unfence(&source);
		unfence(&made);
	}
}

/* --- What a change of the source changes ---------------------------------------------------------- */

/* Something else in these pixels of a source of one plane of four bytes. */
static void change(const struct video_format *f, uint8_t *pixels, const struct frame_rect *r)
{
	for (uint32_t y = r->y; y < r->y + r->height; y++)
		for (uint32_t x = r->x; x < r->x + r->width; x++)
			for (unsigned i = 0; i < 3; i++)
				pixels[(size_t)y * f->stride[0] + (size_t)x * RGB_BYTES + i] ^=
					0xff;
}

static bool is_in(const struct frame_rect *r, uint32_t x, uint32_t y)
{
	return x >= r->x && x < r->x + r->width && y >= r->y && y < r->y + r->height;
}

/* All that differs lies in the damage: the pixel of each element of the planes. */
static void check_change(const struct video_format *f, const uint8_t *a, const uint8_t *b,
	const struct frame_rect *damage, const char *name)
{
	const struct format_info *info = format_info(f->fourcc);
	for (unsigned p = 0; p < f->n_planes; p++)
		for (uint32_t i = 0; i < format_rows(f, p) * format_row_bytes(f, p); i++) {
			uint32_t row = i / format_row_bytes(f, p),
				 column = i % format_row_bytes(f, p);
			size_t at = f->offset[p] + (size_t)row * f->stride[p] + column;
			uint32_t x = column / info->bytes[p] << info->sub_x[p],
				 y = row << info->sub_y[p];
			if (a[at] != b[at] && !is_in(damage, x, y))
				test_fail(__FILE__, __LINE__,
					"%s: plane %u, pixel %u,%u is not in %ux%u+%u+%u", name, p,
					x, y, damage->width, damage->height, damage->x, damage->y);
		}
}

static const struct row reaches[] = {
	{ "half", 128, 96, { .fourcc = DRM_FORMAT_NV12, .width = 64, .height = 48 } },
	{ "a third", 150, 90, { .fourcc = DRM_FORMAT_YUV420, .width = 50, .height = 30 } },
	{ "a fifth", 160, 160, { .fourcc = DRM_FORMAT_P010, .width = 32, .height = 32 } },
	{ "odd", 131, 97, { .fourcc = DRM_FORMAT_NV12, .width = 47, .height = 31 } },
	{ "same size", 64, 48, { .fourcc = DRM_FORMAT_NV12 } },
	{ "larger", 64, 48, { .fourcc = DRM_FORMAT_NV12, .width = 150, .height = 110 } },
	{ "YUYV", 128, 96, { .fourcc = DRM_FORMAT_YUYV, .width = 64, .height = 48 } },
	{ "RGB, smaller", 128, 96, { .fourcc = DRM_FORMAT_ABGR8888, .width = 50, .height = 40 } },
	{ "RGB, larger", 64, 48, { .fourcc = DRM_FORMAT_ABGR8888, .width = 150, .height = 110 } },
};

static void check_reach(const struct row *row, uint32_t nth)
{
	struct video_format from = layout(DRM_FORMAT_XRGB8888, row->width, row->height), to;
	struct frame_info info = { .n_damage = 1 };
	struct frame_rect *r = info.damage;
	r->x = nth * 7 % (row->width - 12);
	r->y = nth * 11 % (row->height - 12);
	r->width = 1 + nth % 12;
	r->height = 1 + nth / 3 % 12;
	struct fenced source = fence(from.size_bytes), before, after;
	draw(&from, source.pixels);
	to = make(&from, &row->form, source.pixels, &before);
	change(&from, source.pixels, r);
	make(&from, &row->form, source.pixels, &after);
	frame_scale_damage(&info, from.width, from.height, to.width, to.height);
	check_change(&to, before.pixels, after.pixels, r, row->name);
	unfence(&source);
	unfence(&before);
	unfence(&after);
}

TEST(nothing_changes_outside_of_the_scaled_damage)
{
	enum { RECTS = 60 };
	for (unsigned i = 0; i < sizeof(reaches) / sizeof(reaches[0]); i++)
		for (uint32_t nth = 0; nth < RECTS; nth++)
			check_reach(&reaches[i], nth);
}

TEST(what_cannot_be_converted_says_why)
{
	struct video_format from = layout(DRM_FORMAT_XRGB8888, 1, 1);
	struct video_format far = layout(DRM_FORMAT_NV12, 512, 1), odd = from;
	const char *why = NULL;
	CHECK(!scale_can(&from, &far, &why));
	CHECK_STR(why, "the sizes are too far apart");
	odd.fourcc = 0x20202020;
	CHECK(!scale_can(&from, &odd, &why));
	CHECK_STR(why, "libswscale does not convert between these formats");
}
