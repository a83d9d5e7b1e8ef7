/* Pixels of every format, through an encoder and a file, and back. */
#include <drm_fourcc.h>
#include <errno.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/format.h"
#include "common/pixel.h"
#include "consumer/encoder/avlog.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/output.h"
#include "tests/test.h"
#include "tests/video.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum { WIDTH = 640, HEIGHT = 360, FRAMES = 5, BYTE_FORMATS = 7, ALL_FORMATS = 12 };

/* libsluice is not linked here: this is what the encoder asks of it. */
static unsigned n_released;

bool sluice_frame_valid(const struct sluice_frame *frame)
{
	return true;
}

void sluice_frame_release(struct sluice_frame *frame)
{
	n_released++;
}

char *sluice_fourcc_name(uint32_t fourcc, char buf[8])
{
	memcpy(buf, &fourcc, 4);
	buf[4] = 0;
	return buf;
}

/* LeakSanitizer asks for this: x265 does not give back all of its own. */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
	return "leak:libx265";
}

static const uint32_t fourccs[ALL_FORMATS] = {
	DRM_FORMAT_XRGB8888,
	DRM_FORMAT_ARGB8888,
	DRM_FORMAT_XBGR8888,
	DRM_FORMAT_ABGR8888,
	DRM_FORMAT_YUYV,
	DRM_FORMAT_NV12,
	DRM_FORMAT_YUV420,
	/* of ten bits */
	DRM_FORMAT_P010,
	DRM_FORMAT_XRGB2101010,
	DRM_FORMAT_ARGB2101010,
	DRM_FORMAT_XBGR2101010,
	DRM_FORMAT_ABGR2101010,
};

/* A picture that is easy to tell from one with two channels swapped. */
struct rgb {
	int r, g, b;
};

static struct rgb rgb_at(uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	return (struct rgb){ 40 + (int)(180 * x / width), 30 + (int)(100 * y / height), 90 };
}

/* Rounded BT.709, limited range. */
struct yuv {
	double y, u, v;
};

static struct yuv yuv_of(struct rgb c)
{
	double r = c.r / 255.0, g = c.g / 255.0, b = c.b / 255.0;
	double y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
	return (struct yuv){ 16 + 219 * y, 128 + 224 * (b - y) / 1.8556,
		128 + 224 * (r - y) / 1.5748 };
}

static uint8_t luma_of(struct rgb c)
{
	return (uint8_t)lround(yuv_of(c).y);
}

static void put(uint8_t *pixels, const struct video_format *f, uint32_t x, uint32_t y)
{
	struct rgb c = rgb_at(x, y, f->width, f->height);
	struct yuv t = yuv_of(rgb_at(x & ~1u, y & ~1u, f->width, f->height));
	uint8_t luma = luma_of(c), u = (uint8_t)lround(t.u), v = (uint8_t)lround(t.v);
	bool is_rgb_order = f->fourcc == DRM_FORMAT_XBGR8888 || f->fourcc == DRM_FORMAT_ABGR8888;
	uint8_t *row = pixels + (size_t)y * f->stride[0];
	switch (f->fourcc) {
	case DRM_FORMAT_YUYV:
		row += (size_t)2 * x;
		row[0] = luma;
		row[1] = x % 2 ? v : u;
		break;
	case DRM_FORMAT_NV12:
		row[x] = luma;
		row = pixels + f->offset[1] + (size_t)(y / 2) * f->stride[1];
		row[x] = x % 2 ? v : u;
		break;
	case DRM_FORMAT_YUV420:
		row[x] = luma;
		pixels[f->offset[1] + (size_t)(y / 2) * f->stride[1] + x / 2] = u;
		pixels[f->offset[2] + (size_t)(y / 2) * f->stride[2] + x / 2] = v;
		break;
	case DRM_FORMAT_P010:
		row[2 * x + 1] = luma;
		row = pixels + f->offset[1] + (size_t)(y / 2) * f->stride[1];
		row[2 * x + 1] = x % 2 ? v : u;
		break;
	case DRM_FORMAT_XRGB2101010:
	case DRM_FORMAT_ARGB2101010:
	case DRM_FORMAT_XBGR2101010:
	case DRM_FORMAT_ABGR2101010:
		pixel_put_rgb(
			row + (size_t)4 * x, f->fourcc, (uint8_t)c.r, (uint8_t)c.g, (uint8_t)c.b);
		break;
	default:
		row += (size_t)4 * x;
		row[0] = (uint8_t)(is_rgb_order ? c.r : c.b);
		row[1] = (uint8_t)c.g;
		row[2] = (uint8_t)(is_rgb_order ? c.b : c.r);
		row[3] = 255;
	}
}

/* pixels [give] to free() */
static struct sluice_frame draw(const struct video_format *format, uint32_t number)
{
	uint8_t *pixels = calloc(1, format->size_bytes);
	CHECK(pixels);
	for (uint32_t y = 0; y < format->height; y++)
		for (uint32_t x = 0; x < format->width; x++)
			put(pixels, format, x, y);
	if (stamp_fits(format))
		stamp_draw(pixels, format, number);
	struct sluice_frame frame = {
		.n_planes = format->n_planes,
		.fourcc = format->fourcc,
		.width = format->width,
		.height = format->height,
		.size_bytes = format->size_bytes,
		.primaries = format->colour.primaries,
		.transfer = format->colour.transfer,
		.matrix = format->colour.matrix,
		.full_range = format->colour.full_range,
	};
	for (unsigned i = 0; i < format->n_planes; i++) {
		frame.data[i] = pixels + format->offset[i];
		frame.stride[i] = format->stride[i];
	}
	return frame;
}

static void move_packets(struct encoder *encoder, struct output *output)
{
	struct problem problem;
	AVPacket *packet = av_packet_alloc();
	CHECK(packet);
	int r;
	while ((r = encoder_receive(encoder, packet, &problem)) == 1)
		CHECK_EQ(output_write(output, packet, &problem), 0);
	CHECK_EQ(r, 0);
	av_packet_free(&packet);
}

static void encode_frames(struct encoder *encoder, struct output *output,
	const struct video_format *format, uint32_t first)
{
	struct problem problem;
	for (uint32_t i = 0; i < FRAMES; i++) {
		struct sluice_frame frame = draw(format, first + i);
		uint8_t *pixels = (uint8_t *)frame.data[0];
		unsigned before = n_released;
		CHECK_EQ(encoder_load(encoder, &frame, &problem), 0);
		CHECK_EQ(n_released, before + 1);
		CHECK(pixels);
		memset(pixels, 0, frame.size_bytes);
		free(pixels);
		int64_t ticks = av_rescale_q(i, (AVRational){ 1, 30 }, encoder_time_base(encoder));
		CHECK_EQ(encoder_encode(encoder, ticks, &problem), 0);
		move_packets(encoder, output);
	}
	CHECK_EQ(encoder_drain(encoder, &problem), 0);
	move_packets(encoder, output);
}

/* A file of FRAMES pictures with stamps from `first` on. */
static void make_file(const char *path, const struct encoder_settings *settings,
	const struct video_format *format, uint32_t first)
{
	struct problem problem = { "" };
	const AVOutputFormat *container;
	avlog_install(false);
	struct encoder *encoder = NULL;
	struct output *output = NULL;
	struct track *track = NULL;
	uint64_t bytes;
	struct sluice_frame frame = draw(format, 0);
	struct picture_format picture = picture_format_of(&frame);
	free((void *)frame.data[0]);
	if (output_check(path, NULL, encoder_find(settings->codec), &container, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	if (encoder_open(&encoder, settings, &picture, output_encoder_flags(container), &problem) <
		0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	CHECK_EQ(track_create(&track, encoder), 0);
	if (output_open(&output, path, container, track, NULL, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	encode_frames(encoder, output, format, first);
	CHECK_EQ(output_close(&output, &bytes, &problem), 0);
	CHECK(bytes > 0);
	track_destroy(track);
	encoder_destroy(encoder);
}

static const struct encoder_settings usual = { .codec = "libx264", .crf = 12, .qp = -1, .gop = -1 };
static const struct encoder_settings lossless = { .codec = "ffv1", .crf = -1, .qp = -1, .gop = -1 };

static char *path_in_tmp(const char *name)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	return path;
}

/* Or so near that the grey of a stamp reaches it. */
static bool is_under_stamp(uint32_t x, uint32_t y)
{
	return x < 640 && (y + 2) % (HEIGHT / 8) < 22;
}

struct errors {
	double luma_psnr; /* dB */
	double u, v;      /* mean error, signed */
};

/* In steps of 8 bits. */
static double sample(const AVFrame *frame, int plane, uint32_t x, uint32_t y)
{
	const uint8_t *row = frame->data[plane] + (size_t)y * (unsigned)frame->linesize[plane];
	if (frame->format != AV_PIX_FMT_YUV420P10)
		return row[x];
	uint16_t ten_bits;
	memcpy(&ten_bits, row + 2 * (size_t)x, sizeof(ten_bits));
	return ten_bits / 4.0;
}

static double luma_psnr(const AVFrame *frame)
{
	double squares = 0;
	unsigned n = 0;
	for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) {
		uint32_t x = i % WIDTH, y = i / WIDTH;
		if (is_under_stamp(x, y))
			continue;
		double d = sample(frame, 0, x, y) - yuv_of(rgb_at(x, y, WIDTH, HEIGHT)).y;
		squares += d * d;
		n++;
	}
	return 10 * log10(255.0 * 255.0 * n / (squares + 1e-9));
}

/* Blocks of 2x2 that no stamp touches. */
static void compare_chroma(const AVFrame *frame, struct errors *e)
{
	unsigned n = 0;
	for (uint32_t i = 0; i < WIDTH * HEIGHT / 4; i++) {
		uint32_t x = i % (WIDTH / 2), y = i / (WIDTH / 2);
		if (is_under_stamp(2 * x, 2 * y))
			continue;
		struct yuv want = yuv_of(rgb_at(2 * x, 2 * y, WIDTH, HEIGHT));
		e->u += sample(frame, 1, x, y) - want.u;
		e->v += sample(frame, 2, x, y) - want.v;
		n++;
	}
	e->u /= n;
	e->v /= n;
}

static struct errors compare_yuv420(const AVFrame *frame)
{
	struct errors e = { .luma_psnr = luma_psnr(frame) };
	compare_chroma(frame, &e);
	return e;
}

static void check_stamps(const char *path, uint32_t first, const char *row)
{
	struct video_summary s = video_summarize(path);
	CHECK_ROW(s.frames == FRAMES, row);
	CHECK_ROW(s.damaged == 0 && s.jumps == 0 && s.repeats == 0, row);
	CHECK_ROW(s.first == first && s.last == first + FRAMES - 1, row);
}

TEST(every_format_survives_h264_with_its_stamp_and_colours)
{
	for (int i = 0; i < ALL_FORMATS; i++) {
		struct video_format format;
		struct video video;
		AVFrame *frame;
		const char *name = format_info(fourccs[i])->name;
		const char *path = path_in_tmp("x.mp4");
		CHECK_EQ(format_layout(fourccs[i], WIDTH, HEIGHT, &format), 0);
		make_file(path, &usual, &format, 1000);
		check_stamps(path, 1000, name);
		CHECK_ROW(video_open(&video, path), name);
		CHECK_ROW(video_next(&video, &frame), name);
		bool is_ten_bits = strstr(name, "10");
		CHECK_ROW(
			frame->format == (is_ten_bits ? AV_PIX_FMT_YUV420P10 : AV_PIX_FMT_YUV420P),
			name);
		struct errors e = compare_yuv420(frame);
		printf("  %s: luma %.1f dB, U %+.2f, V %+.2f\n", name, e.luma_psnr, e.u, e.v);
		CHECK_ROW(e.luma_psnr > 42, name);
		CHECK_ROW(fabs(e.u) < 1 && fabs(e.v) < 1, name);
		video_close(&video);
	}
}

TEST(rgb_becomes_bt709_in_limited_range_and_says_so)
{
	struct video_format format;
	struct video video;
	AVFrame *frame;
	const char *path = path_in_tmp("x.mkv");
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, WIDTH, HEIGHT, &format), 0);
	make_file(path, &usual, &format, 0);
	CHECK(video_open(&video, path));
	CHECK(video_next(&video, &frame));
	CHECK_EQ(frame->colorspace, AVCOL_SPC_BT709);
	CHECK_EQ(frame->color_range, AVCOL_RANGE_MPEG);
	CHECK_EQ(frame->color_primaries, AVCOL_PRI_BT709);
	CHECK_EQ(frame->color_trc, AVCOL_TRC_IEC61966_2_1);
	video_close(&video);
}

TEST(yuv_keeps_the_tags_that_the_frame_has)
{
	struct video_format format;
	struct video video;
	AVFrame *frame;
	const char *path = path_in_tmp("x.mkv");
	CHECK_EQ(format_layout(DRM_FORMAT_NV12, WIDTH, HEIGHT, &format), 0);
	format.colour = (struct format_colour){ 9, 14, 9, true };
	make_file(path, &usual, &format, 0);
	CHECK(video_open(&video, path));
	CHECK(video_next(&video, &frame));
	CHECK_EQ(frame->colorspace, AVCOL_SPC_BT2020_NCL);
	CHECK_EQ(frame->color_range, AVCOL_RANGE_JPEG);
	CHECK_EQ(frame->color_primaries, AVCOL_PRI_BT2020);
	CHECK_EQ(frame->color_trc, AVCOL_TRC_BT2020_10);
	video_close(&video);
}

TEST(colour_numbers_that_do_not_exist_are_taken_as_unknown)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_NV12, WIDTH, HEIGHT, &format), 0);
	format.colour = (struct format_colour){ 255, 200, 0, false };
	make_file(path_in_tmp("x.mkv"), &usual, &format, 7);
	check_stamps(path_in_tmp("x.mkv"), 7, "odd colours");
}

/* The channel of a decoded frame that is the source's, whichever order either has. */
static int channel_at(const AVFrame *frame, int component, uint32_t x, uint32_t y)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
	const AVComponentDescriptor *c = &desc->comp[component];
	if (component > 0 && !(desc->flags & AV_PIX_FMT_FLAG_RGB)) {
		x >>= desc->log2_chroma_w;
		y >>= desc->log2_chroma_h;
	}
	return frame->data[c->plane][y * (unsigned)frame->linesize[c->plane] +
				     x * (unsigned)c->step + (unsigned)c->offset];
}

static bool is_exact(const AVFrame *frame, uint32_t x, uint32_t y)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
	struct rgb c = rgb_at(x, y, WIDTH, HEIGHT);
	struct yuv t = yuv_of(c);
	int first = channel_at(frame, 0, x, y), second = channel_at(frame, 1, x, y),
	    third = channel_at(frame, 2, x, y);
	if (desc->flags & AV_PIX_FMT_FLAG_RGB)
		return first == c.r && second == c.g && third == c.b;
	return first == luma_of(c) && second == lround(t.u) && third == lround(t.v);
}

static void check_exact(const AVFrame *frame, const char *row)
{
	for (uint32_t y = 0; y < HEIGHT; y += 2)
		for (uint32_t x = 0; x < WIDTH; x += 2)
			CHECK_ROW(is_under_stamp(x, y) || is_exact(frame, x, y), row);
}

TEST(every_format_of_bytes_survives_ffv1_exactly)
{
	for (int i = 0; i < BYTE_FORMATS; i++) {
		struct video_format format;
		struct video video;
		AVFrame *frame;
		const char *name = format_info(fourccs[i])->name;
		const char *path = path_in_tmp("x.mkv");
		CHECK_EQ(format_layout(fourccs[i], WIDTH, HEIGHT, &format), 0);
		make_file(path, &lossless, &format, 77);
		check_stamps(path, 77, name);
		CHECK_ROW(video_open(&video, path), name);
		CHECK_ROW(video_next(&video, &frame), name);
		check_exact(frame, name);
		video_close(&video);
	}
}

static void check_nearly_rgb(const struct video_format *format, const char *row)
{
	static const struct encoder_settings png = {
		.codec = "png", .crf = -1, .qp = -1, .gop = -1
	};
	struct video video;
	AVFrame *frame;
	uint32_t x = format->width / 2, y = format->height / 8 / 2;
	struct rgb want = rgb_at(x & ~1u, y & ~1u, format->width, format->height);
	make_file(path_in_tmp("x.mkv"), &png, format, 3);
	CHECK_ROW(video_open(&video, path_in_tmp("x.mkv")), row);
	CHECK_ROW(video_next(&video, &frame), row);
	CHECK_ROW(abs(channel_at(frame, 0, x & ~1u, y & ~1u) - want.r) <= 3, row);
	CHECK_ROW(abs(channel_at(frame, 1, x & ~1u, y & ~1u) - want.g) <= 3, row);
	CHECK_ROW(abs(channel_at(frame, 2, x & ~1u, y & ~1u) - want.b) <= 3, row);
	video_close(&video);
}

TEST(yuv_becomes_rgb_by_its_own_matrix_or_the_usual_one)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_NV12, WIDTH, HEIGHT, &format), 0);
	format.colour.matrix = AVCOL_SPC_BT709;
	check_nearly_rgb(&format, "tagged BT.709");
	CHECK_EQ(format_layout(DRM_FORMAT_NV12, 1280, 720, &format), 0);
	check_nearly_rgb(&format, "HD without a tag");
}

TEST(an_odd_size_is_cropped_for_h264_and_kept_by_ffv1)
{
	for (int i = 0; i < BYTE_FORMATS; i++) {
		struct video_format format;
		const char *name = format_info(fourccs[i])->name;
		const char *path = path_in_tmp("x.mkv");
		CHECK_EQ(format_layout(fourccs[i], 641, 361, &format), 0);
		make_file(path, &usual, &format, 5);
		struct video_summary s = video_summarize(path);
		CHECK_ROW(s.width == 640 && s.height == 360, name);
		CHECK_ROW(s.frames == FRAMES, name);
		make_file(path, &lossless, &format, 5);
		s = video_summarize(path);
		CHECK_ROW(s.width == 641 && s.height == 361, name);
		CHECK_ROW(s.damaged == 0, name);
	}
}

TEST(ffv1_takes_sizes_that_cannot_be_cut_in_four)
{
	static const struct {
		const char *name;
		uint32_t width, height;
	} rows[] = {
		{ "1x1", 1, 1 },
		{ "3x3", 3, 3 },
		{ "1x500", 1, 500 },
		{ "41x43", 41, 43 },
		{ "64x65", 64, 65 },
		{ "67x67", 67, 67 },
		{ "643x361", 643, 361 },
	};
	for (size_t i = 0; i < N(rows); i++) {
		struct video_format format;
		const char *path = path_in_tmp("x.mkv");
		CHECK_EQ(format_layout(DRM_FORMAT_YUV420, rows[i].width, rows[i].height, &format),
			0);
		make_file(path, &lossless, &format, 5);
		struct video_summary s = video_summarize(path);
		CHECK_ROW(s.frames == FRAMES, rows[i].name);
		CHECK_ROW((uint32_t)s.width == rows[i].width, rows[i].name);
		CHECK_ROW((uint32_t)s.height == rows[i].height, rows[i].name);
	}
}

TEST(a_big_picture_is_converted_by_several_threads_without_a_seam)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, 2562, 1442, &format), 0);
	make_file(path_in_tmp("x.mkv"), &usual, &format, 31);
	check_stamps(path_in_tmp("x.mkv"), 31, "2562x1442");
}

TEST(a_picture_of_one_pixel_is_refused_where_it_cannot_be)
{
	struct problem problem;
	struct encoder *encoder = NULL;
	const struct picture_format one = { .fourcc = DRM_FORMAT_NV12, .width = 1, .height = 1 };
	CHECK_EQ(encoder_open(&encoder, &usual, &one, 0, &problem), -EOPNOTSUPP);
	CHECK(strstr(problem.text, "too small"));
	const struct picture_format odd = {
		.fourcc = fourcc_code('A', 'B', 'C', 'D'), .width = 64, .height = 64
	};
	CHECK_EQ(encoder_open(&encoder, &usual, &odd, 0, &problem), -EOPNOTSUPP);
	CHECK(strstr(problem.text, "ABCD"));
}

/* Every container and codec that a user is likely to choose. */
static const struct {
	const char *name;
	const char *codec;
	bool is_optional; /* FFmpeg may be built without it */
} files[] = {
	{ "a.mp4", "libx264", false },
	{ "a.mov", "libx264", false },
	{ "a.mkv", "libx264", false },
	{ "a.ts", "libx264", false },
	{ "a.flv", "libx264", false },
	{ "a.avi", "libx264", false },
	{ "a.h264", "libx264", false },
	{ "a.mkv", "libx264rgb", false },
	{ "a.mp4", "libx265", true },
	{ "a.mkv", "mjpeg", false },
	{ "a.avi", "mjpeg", false },
	{ "a.mp4", "mpeg4", false },
	{ "a.mpg", "mpeg2video", false },
	{ "a.nut", "rawvideo", false },
	{ "a.mkv", "h264", false },
	{ "a.webm", "libvpx", true },
	{ "a.webm", "libvpx-vp9", true },
	{ "a.mkv", "libsvtav1", true },
	{ "a.mkv", "png", false },
	{ "a.mkv", "utvideo", false },
};

TEST(every_usual_container_and_codec_works)
{
	struct video_format format;
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, WIDTH, HEIGHT, &format), 0);
	for (size_t i = 0; i < N(files); i++) {
		struct encoder_settings settings = usual;
		settings.codec = files[i].codec;
		settings.crf = -1;
		settings.rate = (AVRational){ 30, 1 };
		if (files[i].is_optional && !encoder_find(files[i].codec))
			continue;
		make_file(path_in_tmp(files[i].name), &settings, &format, 9);
		char row[64];
		snprintf(row, sizeof(row), "%s in %s", files[i].codec, files[i].name);
		check_stamps(path_in_tmp(files[i].name), 9, row);
	}
}

TEST(a_codec_option_reaches_the_codec)
{
	struct video_format format;
	struct encoder_settings settings = usual;
	settings.crf = -1;
	settings.n_options = 1;
	settings.option[0] = "x264-params=qp=51";
	CHECK_EQ(format_layout(DRM_FORMAT_XRGB8888, WIDTH, HEIGHT, &format), 0);
	make_file(path_in_tmp("coarse.h264"), &settings, &format, 0);
	settings.option[0] = "x264-params=qp=5";
	make_file(path_in_tmp("fine.h264"), &settings, &format, 0);
	FILE *coarse = fopen(path_in_tmp("coarse.h264"), "re");
	FILE *fine = fopen(path_in_tmp("fine.h264"), "re");
	CHECK(coarse && fine && fseek(coarse, 0, SEEK_END) == 0 && fseek(fine, 0, SEEK_END) == 0);
	CHECK(ftell(fine) > 3 * ftell(coarse));
	fclose(coarse);
	fclose(fine);
}
