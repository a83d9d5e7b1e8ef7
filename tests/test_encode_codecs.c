/*
 * Every encoder, from a broker's pattern through the program into a container: what is decoded is
 * compared with what the source drew for the number that is stamped into it.
 */
#include <drm_fourcc.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/format.h"
#include "tests/e2e.h"
#include "tests/program.h"
#include "tests/test.h"
#include "tests/video.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum { WIDTH = 320, HEIGHT = 240, FRAMES = 12, EXACT_DB = 99, LUMA_DB = 38 };

static const char *const broker_options[] = { "--source", "test=pattern:320x240@30", "--slots",
	"24", NULL };

/* What broker/capture/pattern.c draws in BGRx, said once more. pixels [give] to free() */
static uint8_t *draw(uint32_t number)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, WIDTH, HEIGHT, &format), 0);
	uint8_t *pixels = calloc(1, format.size_bytes);
	CHECK(pixels);
	for (uint32_t y = 0; y < HEIGHT; y++)
		for (uint32_t x = 0; x < WIDTH; x++) {
			unsigned c = (x + 4 * number) / (WIDTH / 8) % 8;
			uint8_t *px = pixels + (size_t)y * format.stride[0] + (size_t)4 * x;
			px[0] = c & 4 ? 80 : 220;
			px[1] = c & 2 ? 60 : 180;
			px[2] = c & 1 ? 40 : 200;
			px[3] = 255;
		}
	stamp_draw(pixels, &format, number);
	return pixels;
}

/* The decoded frame as BGRx, by its own matrix and range. [give] to free() */
static uint8_t *to_bgrx(const AVFrame *frame, uint32_t stride)
{
	uint8_t *pixels = calloc(HEIGHT, stride);
	struct SwsContext *sws = sws_getContext(frame->width, frame->height, frame->format, WIDTH,
		HEIGHT, AV_PIX_FMT_BGR0, SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, NULL,
		NULL, NULL);
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
	bool is_full = frame->color_range == AVCOL_RANGE_JPEG || desc->flags & AV_PIX_FMT_FLAG_RGB;
	const int *matrix = sws_getCoefficients(frame->colorspace == AVCOL_SPC_UNSPECIFIED
							? SWS_CS_ITU709
							: (int)frame->colorspace);
	CHECK(pixels && sws);
	sws_setColorspaceDetails(sws, matrix, is_full, matrix, true, 0, 1 << 16, 1 << 16);
	sws_scale(sws, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height,
		(uint8_t *const[]){ pixels, NULL, NULL, NULL },
		(const int[]){ (int)stride, 0, 0, 0 });
	sws_freeContext(sws);
	return pixels;
}

/* Of brightness alone, which 4:2:0 keeps; by BT.709, to which the encoder converts, and BT.601 in JPEGs. */
static double luma_psnr(const AVFrame *frame, uint32_t number)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, WIDTH, HEIGHT, &format), 0);
	uint8_t *want = draw(number);
	bool is_full = frame->color_range == AVCOL_RANGE_JPEG;
	bool is_bt601 = frame->colorspace == AVCOL_SPC_BT470BG;
	double kr = is_bt601 ? 0.299 : 0.2126, kb = is_bt601 ? 0.114 : 0.0722;
	double squares = 0;
	for (uint32_t y = 0; y < HEIGHT; y++)
		for (uint32_t x = 0; x < WIDTH; x++) {
			const uint8_t *px = want + (size_t)y * format.stride[0] + (size_t)4 * x;
			double luma = kr * px[2] + (1 - kr - kb) * px[1] + kb * px[0];
			double have = frame->data[0][y * (uint32_t)frame->linesize[0] + x];
			double d = have - (is_full ? luma : 16 + luma * 219 / 255);
			squares += d * d;
		}
	free(want);
	return 10 * log10(255.0 * 255.0 * WIDTH * HEIGHT / (squares + 1e-9));
}

/* Of all three colours; EXACT_DB if there is no error at all. */
static double psnr(const AVFrame *frame, uint32_t number)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, WIDTH, HEIGHT, &format), 0);
	uint8_t *want = draw(number), *have = to_bgrx(frame, format.stride[0]);
	double squares = 0;
	for (uint32_t y = 0; y < HEIGHT; y++)
		for (uint32_t i = 0; i < 4 * WIDTH; i++) {
			size_t at = (size_t)y * format.stride[0] + i;
			double d = i % 4 == 3 ? 0 : (double)want[at] - have[at];
			squares += d * d;
		}
	free(want);
	free(have);
	return squares > 0 ? 10 * log10(255.0 * 255.0 * 3 * WIDTH * HEIGHT / squares) : EXACT_DB;
}

static const struct {
	const char *codec, *options, *output;
	double least_db;  /* 4:2:0 costs the stripes' edges some */
	bool is_optional; /* FFmpeg may be built without it */
} rows[] = {
	{ "libx264", "-crf 16", "a.mp4", 25, false },
	{ "libx264", "-crf 16", "a.mkv", 25, false },
	{ "libx264", "-crf 16", "a.ts", 25, false },
	{ "libx264", "-crf 16 -bf 2 -tune none", "a.flv", 25, false },
	{ "libx264", "-crf 16 -f matroska", "pipe:1", 25, false },
	{ "libx264", "-crf 16 -f mpegts", "pipe:1", 25, false },
	{ "libx264", "-crf 16 -f mp4", "pipe:1", 25, false },
	{ "libx264", "-b:v 3M -maxrate 4M -bufsize 2M", "b.flv", 25, false },
	{ "libx264rgb", "-qp 0", "a.mkv", EXACT_DB, false },
	{ "libx265", "-crf 16", "a.mp4", 25, true },
	{ "libx265", "-crf 16", "a.mkv", 25, true },
	{ "libx265", "-crf 16", "a.ts", 25, true },
	{ "libsvtav1", "-crf 20", "a.mkv", 25, true },
	{ "libsvtav1", "-crf 20", "a.mp4", 25, true },
	{ "libvpx-vp9", "-crf 8", "a.webm", 25, true },
	{ "ffv1", "", "a.mkv", EXACT_DB, false },
	{ "ffv1", "-f matroska", "pipe:1", EXACT_DB, false },
	{ "utvideo", "", "a.mkv", EXACT_DB, false },
	{ "huffyuv", "", "a.avi", EXACT_DB, false },
	{ "png", "", "a.mkv", EXACT_DB, false },
	{ "mjpeg", "-qp 2", "a.mkv", 25, false },
	{ "mjpeg", "", "a.avi", 25, false },
	{ "mpeg4", "", "a.mp4", 25, false },
};

/* Run it as a shell would, so that the standard output may be a file. */
static void encode(const struct broker_process *b, size_t i, const char *path)
{
	static struct program program;
	char line[1024], out[256];
	bool is_pipe = strcmp(rows[i].output, "pipe:1") == 0;
	snprintf(out, sizeof(out), is_pipe ? "pipe:1 > '%s'" : "'%s'", path);
	snprintf(line, sizeof(line),
		"exec '%s' --socket '%s' --stream test -c:v %s %s --frames %d --queue fifo:16 %s",
		SLUICE_ENCODE, b->socket, rows[i].codec, rows[i].options, FRAMES, out);
	program_run(&program, (const char *const[]){ "/bin/sh", "-c", line, NULL }, 0);
	if (program.status != 0)
		test_fail(__FILE__, __LINE__, "%s\nexit status %d: %s", line, program.status,
			program.err);
}

static void check(const char *path, const char *row, double least_db)
{
	struct video v;
	AVFrame *frame;
	uint32_t number = 0, last = 0;
	unsigned n = 0;
	double worst = EXACT_DB, luma = EXACT_DB;
	CHECK_ROW(video_open(&v, path), row);
	while (video_next(&v, &frame)) {
		CHECK_ROW(video_stamp(frame, &number) == STAMP_OK, row);
		if (n > 0 && number == last)
			continue; /* a slow machine: a picture that stood still for a second */
		CHECK_ROW(n == 0 || number == last + 1, row);
		worst = fmin(worst, psnr(frame, number));
		if (least_db < EXACT_DB)
			luma = fmin(luma, luma_psnr(frame, number));
		last = number;
		n++;
	}
	video_close(&v);
	printf("  %s: %u frames, %.1f dB, luma %.1f dB\n", row, n, worst, luma);
	fflush(stdout);
	CHECK_ROW(n == FRAMES, row);
	CHECK_ROW(worst >= least_db, row);
	CHECK_ROW(luma >= LUMA_DB, row);
}

TEST(what_every_encoder_makes_is_decoded_to_the_sources_pictures)
{
	struct broker_process b;
	broker_start(&b, broker_options);
	for (size_t i = 0; i < N(rows); i++) {
		char path[256], row[128];
		if (rows[i].is_optional && !avcodec_find_encoder_by_name(rows[i].codec))
			continue;
		snprintf(row, sizeof(row), "%s %s %s", rows[i].codec, rows[i].options,
			rows[i].output);
		snprintf(path, sizeof(path), "%s/%zu-%s", test_tmpdir(), i, rows[i].output);
		encode(&b, i, path);
		check(path, row, rows[i].least_db);
	}
	CHECK_EQ(broker_stop(&b), 0);
}

/* What the broker is asked for, and what is in the file then. */
static const struct {
	const char *options;
	int width, height;
	double fps; /* 0: not looked at */
	bool has_stamps;
} views[] = {
	{ "--format NV12", 320, 240, 0, true },
	{ "--format yuv420p -pix_fmt yuv420p", 320, 240, 0, true },
	{ "--size 640x480", 640, 480, 0, false },
	{ "--size 120p", 160, 120, 0, false },
	{ "-s 160x --format NV12", 160, 120, 0, false },
	{ "--max-rate 10", 320, 240, 10, false },
	{ "--size 120p --max-rate 15 --cfr -r 15", 160, 120, 15, false },
};

TEST(what_the_broker_was_asked_for_is_in_the_file)
{
	struct broker_process b;
	broker_start(&b, broker_options);
	for (size_t i = 0; i < N(views); i++) {
		static struct program program;
		char path[256], line[1024];
		snprintf(path, sizeof(path), "%s/%zu.mkv", test_tmpdir(), i);
		snprintf(line, sizeof(line),
			"exec '%s' --socket '%s' --stream test %s -t 1 --queue fifo:16 '%s'",
			SLUICE_ENCODE, b.socket, views[i].options, path);
		program_run(&program, (const char *const[]){ "/bin/sh", "-c", line, NULL }, 0);
		if (program.status != 0)
			test_fail(__FILE__, __LINE__, "%s\nexit status %d: %s", line,
				program.status, program.err);
		struct video_summary s = video_summarize(path);
		printf("  %s: %dx%d, %u frames\n", views[i].options, s.width, s.height, s.frames);
		fflush(stdout);
		CHECK_ROW(s.width == views[i].width, views[i].options);
		CHECK_ROW(s.height == views[i].height, views[i].options);
		CHECK_ROW(s.is_monotonic, views[i].options);
		CHECK_ROW(
			!views[i].has_stamps || (s.damaged == 0 && s.jumps == 0), views[i].options);
		/* the first and the newest picture come in any case */
		CHECK_ROW(views[i].fps == 0 || s.frames <= views[i].fps + 2, views[i].options);
		CHECK_ROW(s.frames >= 8 / test_slowness(), views[i].options);
	}
	CHECK_EQ(broker_stop(&b), 0);
}
