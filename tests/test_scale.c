/* Conversion by the CPU against a reference in double precision, and the edges of its memory. */
#include "tests/test.h"

#include <drm_fourcc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/form.h"
#include "broker/scale.h"

enum { RGB_BYTES = 4, LEAST_DB = 50 };

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

/* --- The reference ------------------------------------------------------------------------------- */

struct kernel {
	double low, high; /* the matrix: of blue, of red */
	bool is_full;
};

static struct kernel kernel_of(const struct format_colour *colour)
{
	struct kernel k = { 0.0722, 0.2126, colour->full_range };
	if (colour->matrix == 6)
		k = (struct kernel){ 0.114, 0.299, colour->full_range };
	if (colour->matrix == 9)
		k = (struct kernel){ 0.0593, 0.2627, colour->full_range };
	return k;
}

/* Y, Cb or Cr of one pixel, in the numbers of 8 bits. */
static double component(const struct kernel *k, const uint8_t *bgrx, unsigned which)
{
	double b = bgrx[0], g = bgrx[1], r = bgrx[2];
	double y = k->high * r + k->low * b + (1 - k->high - k->low) * g;
	double cb = (b - y) / (2 - 2 * k->low), cr = (r - y) / (2 - 2 * k->high);
	if (which == 0)
		return k->is_full ? y : 16 + y * 219 / 255;
	return 128 + (which == 1 ? cb : cr) * (k->is_full ? 1 : 224.0 / 255);
}

/* The weight of source sample `at` for a result whose middle is there, one for each `step` samples. */
static double weight(double middle, double step, int at)
{
	double distance = fabs(at + 0.5 - middle);
	if (step <= 1)
		return distance < 1 ? 1 - distance : 0;
	double left = fmax(at, middle - step / 2), right = fmin(at + 1, middle + step / 2);
	return right > left ? (right - left) / step : 0;
}

struct axis {
	double middle, step;
	int from, to;
};

static struct axis axis_of(uint32_t i, uint32_t n_out, uint32_t n_in, unsigned log2, bool is_left)
{
	double scale = (double)n_in / n_out, sub = 1 << log2;
	double middle = is_left && log2 ? i * sub + 0.5 : (i + 0.5) * sub;
	struct axis a = { .middle = middle * scale, .step = scale * sub };
	double reach = fmax(a.step / 2, 1) + 1;
	a.from = (int)floor(a.middle - reach);
	a.to = (int)ceil(a.middle + reach);
	return a;
}

static int clamp(int i, uint32_t n)
{
	return i < 0 ? 0 : i >= (int)n ? (int)n - 1 : i;
}

static double sample(const struct video_format *f, const uint8_t *pixels, const struct kernel *k,
	const struct axis *ax, const struct axis *ay, unsigned which)
{
	double sum = 0, weights = 0;
	for (int y = ay->from; y <= ay->to; y++)
		for (int x = ax->from; x <= ax->to; x++) {
			double w =
				weight(ax->middle, ax->step, x) * weight(ay->middle, ay->step, y);
			if (w == 0)
				continue;
			const uint8_t *p = pixels + (size_t)clamp(y, f->height) * f->stride[0] +
					   (size_t)clamp(x, f->width) * RGB_BYTES;
			sum += w * component(k, p, which);
			weights += w;
		}
	return sum / weights;
}

/* Of one plane of NV12 or I420; which: 0 luma, 1 Cb, 2 Cr. */
static double squared_error(const struct video_format *from, const uint8_t *source,
	const struct video_format *to, const uint8_t *made, unsigned which, uint64_t *n)
{
	const struct format_info *info = format_info(to->fourcc);
	bool is_chroma = which > 0, is_packed = info->n_planes == 2;
	unsigned plane = !is_chroma ? 0 : is_packed ? 1 : which;
	unsigned step = is_chroma && is_packed ? 2 : 1, first = step == 2 ? which - 1 : 0;
	struct kernel k = kernel_of(&to->colour);
	uint32_t columns = (to->width + is_chroma) >> is_chroma;
	double sum = 0;
	for (uint32_t y = 0; y < format_rows(to, plane); y++)
		for (uint32_t x = 0; x < columns; x++) {
			struct axis ax = axis_of(x, to->width, from->width, is_chroma, true);
			struct axis ay = axis_of(y, to->height, from->height, is_chroma, false);
			double is = made[to->offset[plane] + (size_t)y * to->stride[plane] +
					 x * step + first];
			double error = is - sample(from, source, &k, &ax, &ay, which);
			sum += error * error;
			++*n;
		}
	return sum;
}

static double psnr_of(const struct video_format *from, const uint8_t *source,
	const struct video_format *to, const uint8_t *made)
{
	double sum = 0;
	uint64_t n = 0;
	for (unsigned which = 0; which < 3; which++)
		sum += squared_error(from, source, to, made, which, &n);
	return sum == 0 ? 99 : 10 * log10(255.0 * 255.0 * (double)n / sum);
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
		DRM_FORMAT_XRGB8888, DRM_FORMAT_ABGR8888 };
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
