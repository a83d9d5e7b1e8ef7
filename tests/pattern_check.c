/*
 * pattern_check [OPTIONS] FILE: is this the test pattern of sluice-broker,
 * recorded? Decodes the file and checks each picture's number, and its PSNR against the picture that the
 * broker draws in RGB for this number.
 *
 *	-n FRAMES  at least so many (1)
 *	-x         not more, none twice, and each later than the one before
 *	-s SIZE    of this size
 *	-p DB      PSNR of luma and chroma, each, at least (0)
 *	-e N       PSNR of each N-th picture alone (1)
 *	-g         gaps in the numbers are fine
 *
 * Prints one line. Exit status: 0 yes, 1 no, 2 the command line.
 */
#include <drm_fourcc.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/format.h"
#include "common/stamp.h"
#include "tests/test.h"
#include "tests/video.h"

enum { BAR_STEP = 4, STRIPES = 8, PLANES = 3 };

struct wanted {
	unsigned frames, every;
	int width, height; /* 0: any */
	double psnr;
	bool gaps, is_exact;
};

struct seen {
	unsigned frames, damaged, jumps, repeats, compared;
	unsigned late; /* whose time is not after that of the one before */
	int64_t pts;
	uint32_t first, last;
	double psnr[PLANES]; /* the worst of all */
};

/* Y = kr R + kg G + kb B, and how that becomes bytes. */
struct coding {
	double kr, kb, luma_scale, luma_offset, chroma_scale;
};

/* tests/video.c is of the test runner, which is not in this program. */
void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fprintf(stderr, "pattern_check: %s:%d: ", file, line);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static struct coding coding_of(const AVFrame *frame)
{
	bool is_full =
		frame->color_range == AVCOL_RANGE_JPEG || frame->format == AV_PIX_FMT_YUVJ420P;
	struct coding c = { .kr = 0.299, .kb = 0.114 };
	if (frame->colorspace == AVCOL_SPC_BT709)
		c = (struct coding){ .kr = 0.2126, .kb = 0.0722 };
	c.luma_scale = is_full ? 1 : 219 / 255.0;
	c.luma_offset = is_full ? 0 : 16;
	c.chroma_scale = is_full ? 1 : 224 / 255.0;
	return c;
}

/* The pattern of broker/capture/pattern.c in BGRx. */
static void draw(uint8_t *pixels, const struct video_format *f, uint32_t number)
{
	uint32_t stripe = f->width / STRIPES ? f->width / STRIPES : 1;
	for (uint32_t x = 0; x < f->width; x++) {
		uint32_t c = (x + number * BAR_STEP) / stripe % STRIPES;
		uint8_t *px = pixels + (size_t)4 * x;
		px[0] = c & 4 ? 80 : 220;
		px[1] = c & 2 ? 60 : 180;
		px[2] = c & 1 ? 40 : 200;
		px[3] = 255;
	}
	for (uint32_t y = 1; y < f->height; y++)
		memcpy(pixels + (size_t)y * f->stride[0], pixels, (size_t)4 * f->width);
	if (stamp_fits(f))
		stamp_draw(pixels, f, number);
}

static double luma(const struct coding *c, const uint8_t *px)
{
	return c->kr * px[2] + (1 - c->kr - c->kb) * px[1] + c->kb * px[0];
}

/* The mean of a square of 2 × 2, or what of it is in the picture. */
static void chroma(const struct coding *c, const uint8_t *pixels, const struct video_format *f,
	uint32_t x, uint32_t y, double out[2])
{
	double u = 0, v = 0;
	unsigned n = 0;
	for (uint32_t yy = y; yy < y + 2 && yy < f->height; yy++)
		for (uint32_t xx = x; xx < x + 2 && xx < f->width; xx++, n++) {
			const uint8_t *px = pixels + (size_t)yy * f->stride[0] + (size_t)4 * xx;
			double l = luma(c, px);
			u += (px[0] - l) / (2 * (1 - c->kb));
			v += (px[2] - l) / (2 * (1 - c->kr));
		}
	out[0] = 128 + c->chroma_scale * u / n;
	out[1] = 128 + c->chroma_scale * v / n;
}

static double decibels(double sum, double n)
{
	return 10 * log10(255.0 * 255.0 * n / fmax(sum, 1));
}

static double square(double x)
{
	return x * x;
}

static double sample_at(const AVFrame *frame, int plane, uint32_t x, uint32_t y)
{
	return frame->data[plane][y * (size_t)frame->linesize[plane] + x];
}

/* pixels: the picture as it should be */
static void compare(const AVFrame *frame, const struct video_format *f, const uint8_t *pixels,
	double psnr_out[])
{
	const struct coding c = coding_of(frame);
	double sum[PLANES] = { 0 };
	const uint64_t chroma_samples = (uint64_t)((f->width + 1) / 2) * ((f->height + 1) / 2);
	for (uint32_t y = 0; y < f->height; y++)
		for (uint32_t x = 0; x < f->width; x++) {
			const uint8_t *px = pixels + (size_t)y * f->stride[0] + (size_t)4 * x;
			double want = c.luma_offset + c.luma_scale * luma(&c, px), uv[2];
			sum[0] += square(want - sample_at(frame, 0, x, y));
			if (x % 2 || y % 2)
				continue;
			chroma(&c, pixels, f, x, y, uv);
			for (int p = 1; p < PLANES; p++)
				sum[p] += square(uv[p - 1] - sample_at(frame, p, x / 2, y / 2));
		}
	psnr_out[0] = decibels(sum[0], (double)f->width * f->height);
	psnr_out[1] = decibels(sum[1], (double)chroma_samples);
	psnr_out[2] = decibels(sum[2], (double)chroma_samples);
}

static void add_psnr(struct seen *seen, const AVFrame *frame, uint32_t number)
{
	struct video_format f;
	double psnr[PLANES];
	if (frame->format != AV_PIX_FMT_YUVJ420P && frame->format != AV_PIX_FMT_YUV420P)
		test_fail(__FILE__, __LINE__, "pictures are not of YUV 4:2:0");
	CHECK(format_layout(DRM_FORMAT_XRGB8888, (uint32_t)frame->width, (uint32_t)frame->height,
		      &f) == 0);
	_cleanup_free_ uint8_t *pixels = malloc(f.size_bytes);
	CHECK(pixels);
	draw(pixels, &f, number);
	compare(frame, &f, pixels, psnr);
	for (int p = 0; p < PLANES; p++)
		seen->psnr[p] = fmin(seen->psnr[p], psnr[p]);
	seen->compared++;
}

static void add(struct seen *seen, const struct wanted *wanted, const AVFrame *frame)
{
	uint32_t number;
	seen->late += seen->frames > 0 && frame->best_effort_timestamp <= seen->pts;
	seen->pts = frame->best_effort_timestamp;
	bool is_compared = seen->frames++ % wanted->every == 0;
	if (wanted->width && (frame->width != wanted->width || frame->height != wanted->height))
		test_fail(__FILE__, __LINE__, "a picture is %dx%d, not %dx%d", frame->width,
			frame->height, wanted->width, wanted->height);
	if (video_stamp(frame, &number) != STAMP_OK) {
		seen->damaged++;
		return;
	}
	if (seen->frames == 1)
		seen->first = number;
	else if (number == seen->last)
		seen->repeats++;
	else if (number != seen->last + 1)
		seen->jumps++;
	seen->last = number;
	if (wanted->psnr > 0 && is_compared)
		add_psnr(seen, frame, number);
}

static int judge(const char *path, const struct wanted *wanted, const struct seen *seen)
{
	bool is_good = seen->frames >= wanted->frames && seen->damaged == 0;
	if (wanted->is_exact)
		is_good = is_good && seen->frames == wanted->frames && seen->repeats == 0 &&
			  seen->late == 0;
	is_good = is_good && (wanted->gaps || seen->jumps == 0);
	for (int p = 0; p < PLANES && wanted->psnr > 0; p++)
		is_good = is_good && seen->compared > 0 && seen->psnr[p] >= wanted->psnr;
	printf("%s %s: %u frames, numbers %u to %u, %u damaged, %u jumps, %u repeated, %u late",
		is_good ? "good" : "BAD", path, seen->frames, seen->first, seen->last,
		seen->damaged, seen->jumps, seen->repeats, seen->late);
	if (seen->compared)
		printf(", PSNR of %u at least %.1f %.1f %.1f dB", seen->compared, seen->psnr[0],
			seen->psnr[1], seen->psnr[2]);
	printf("\n");
	return is_good ? 0 : 1;
}

static bool parse(struct wanted *w, int argc, char **argv)
{
	int opt;
	while ((opt = getopt(argc, argv, "n:s:p:e:gx")) != -1) {
		if (opt == 'n')
			w->frames = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 's' && sscanf(optarg, "%dx%d", &w->width, &w->height) != 2)
			return false;
		else if (opt == 'p')
			w->psnr = strtod(optarg, NULL);
		else if (opt == 'e')
			w->every = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'g')
			w->gaps = true;
		else if (opt == 'x')
			w->is_exact = true;
		else if (opt == '?')
			return false;
	}
	return optind + 1 == argc && w->every > 0;
}

int main(int argc, char **argv)
{
	struct wanted wanted = { .frames = 1, .every = 1 };
	struct seen seen = { .psnr = { INFINITY, INFINITY, INFINITY } };
	struct video video;
	AVFrame *frame;
	if (!parse(&wanted, argc, argv)) {
		fprintf(stderr,
			"pattern_check [-n FRAMES] [-x] [-s SIZE] [-p DB] [-e N] [-g] FILE\n");
		return 2;
	}
	const char *path = argv[optind];
	if (!video_open(&video, path))
		test_fail(__FILE__, __LINE__, "%s has no video", path);
	while (video_next(&video, &frame))
		add(&seen, &wanted, frame);
	video_close(&video);
	return judge(path, &wanted, &seen);
}
