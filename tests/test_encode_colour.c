/* How colours are to be read: what the stream says is in the bitstream and in the container. */
#include <drm_fourcc.h>
#include <libavutil/pixdesc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/track.h"
#include "tests/test.h"
#include "tests/video.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum { WIDTH = 128, HEIGHT = 96, FRAMES = 3, BYTES = WIDTH * HEIGHT * 4 };

/* libsluice is not linked here: this is what the encoder asks of it. */
bool sluice_frame_valid(const struct sluice_frame *frame)
{
	return true;
}

void sluice_frame_release(struct sluice_frame *frame)
{
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

/* What a stream says of its colours, by the numbers of H.273. */
struct colour {
	const char *name;
	uint8_t primaries, transfer, matrix;
	bool full_range;
};

static const struct colour colours[] = {
	{ "BT.601 625, limited", 5, 6, 5, false },
	{ "BT.601 525, full", 6, 6, 6, true },
	{ "BT.709, limited", 1, 1, 1, false },
	{ "BT.709, full", 1, 1, 1, true },
	{ "BT.2020, limited", 9, 14, 9, false },
	{ "BT.2020 PQ, full", 9, 16, 9, true },
};

static uint8_t pixels[BYTES];

/* A frame of one colour; for 10 bits, a luma or RGB of 600 of 1023. */
static struct sluice_frame make_frame(uint32_t fourcc, const struct colour *colour)
{
	struct sluice_frame f = {
		.fourcc = fourcc,
		.width = WIDTH,
		.height = HEIGHT,
		.n_planes = 1,
		.size_bytes = BYTES,
		.primaries = colour->primaries,
		.transfer = colour->transfer,
		.matrix = colour->matrix,
		.full_range = colour->full_range,
		.data = { pixels, pixels + WIDTH * HEIGHT * 2 },
		.stride = { WIDTH * 4 },
	};
	switch (fourcc) {
	case DRM_FORMAT_NV12:
		f.n_planes = 2;
		f.stride[0] = f.stride[1] = WIDTH;
		/* noise: a file of a few bytes is not recognised as one */
		for (uint32_t i = 0; i < BYTES; i++)
			pixels[i] = (uint8_t)(64 + (i * 2654435761u >> 25));
		break;
	case DRM_FORMAT_P010:
		f.n_planes = 2;
		f.stride[0] = f.stride[1] = WIDTH * 2;
		for (uint32_t i = 0; i < BYTES / 2; i++)
			((uint16_t *)(void *)pixels)[i] =
				(uint16_t)((i < WIDTH * HEIGHT ? 600 : 512) << 6);
		break;
	case DRM_FORMAT_XRGB8888:
		for (uint32_t i = 0; i < BYTES / 4; i++)
			((uint32_t *)(void *)pixels)[i] = 0x00ff00; /* green */
		break;
	default:
		for (uint32_t i = 0; i < BYTES / 4; i++)
			((uint32_t *)(void *)pixels)[i] = 600u << 20 | 600u << 10 | 600u;
	}
	return f;
}

static void write_packets(struct encoder *encoder, struct output *output)
{
	struct problem problem;
	AVPacket *packet = av_packet_alloc();
	while (encoder_receive(encoder, packet, &problem) == 1)
		CHECK_EQ(output_write(output, packet, &problem), 0);
	av_packet_free(&packet);
}

static const char *in_tmp(const char *name)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	return path;
}

static void make_file(
	const char *name, const char *codec, uint32_t fourcc, const struct colour *colour)
{
	const struct encoder_settings settings = {
		.codec = codec, .crf = -1, .qp = -1, .gop = -1, .b_frames = -1
	};
	struct problem problem = { "" };
	const AVOutputFormat *container;
	struct encoder *encoder = NULL;
	struct output *output = NULL;
	struct track *track = NULL;
	uint64_t bytes;
	struct sluice_frame frame = make_frame(fourcc, colour);
	const struct picture_format picture = picture_format_of(&frame);
	avlog_install(false);
	if (output_check(in_tmp(name), NULL, encoder_find(codec), &container, &problem) < 0 ||
		encoder_open(&encoder, &settings, &picture, output_encoder_flags(container),
			&problem) < 0 ||
		track_create(&track, encoder) < 0 ||
		output_open(&output, in_tmp(name), container, track, NULL, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", name, problem.text);
	for (int i = 0; i < FRAMES; i++) {
		CHECK_EQ(encoder_load(encoder, &frame, &problem), 0);
		int64_t ticks = av_rescale_q(i, (AVRational){ 1, 30 }, encoder_time_base(encoder));
		CHECK_EQ(encoder_encode(encoder, ticks, &problem), 0);
		write_packets(encoder, output);
	}
	CHECK_EQ(encoder_drain(encoder, &problem), 0);
	write_packets(encoder, output);
	CHECK_EQ(output_close(&output, &bytes, &problem), 0);
	track_destroy(track);
	encoder_destroy(encoder);
}

/* What somebody says of the colours, with a range of FFmpeg's. */
struct said {
	int primaries, transfer, matrix, range;
};

static void check_said(const struct said *said, const struct colour *want, const char *row)
{
	int range = want->full_range ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
	if (said->primaries != want->primaries || said->transfer != want->transfer ||
		said->matrix != want->matrix || said->range != range)
		test_fail(__FILE__, __LINE__,
			"%s: %s: primaries %d, transfer %d, matrix %d, range %d", row, want->name,
			said->primaries, said->transfer, said->matrix, said->range);
}

/* The container's word, before any packet was looked at. */
static struct said container_says(const char *name)
{
	AVFormatContext *file = NULL;
	CHECK(avformat_open_input(&file, in_tmp(name), NULL, NULL) == 0);
	const AVCodecParameters *p = file->streams[0]->codecpar;
	struct said said = { (int)p->color_primaries, (int)p->color_trc, (int)p->color_space,
		(int)p->color_range };
	avformat_close_input(&file);
	return said;
}

/* The decoder's, which was told nothing by a container. */
static struct said bitstream_says(const char *name, enum AVPixelFormat *format_out)
{
	struct video v;
	AVFrame *frame;
	AVCodecContext *alone;
	CHECK_ROW(video_open(&v, in_tmp(name)), name);
	const AVCodec *decoder = v.codec->codec;
	alone = avcodec_alloc_context3(decoder);
	if (v.codec->extradata_size > 0) {
		size_t size = (size_t)v.codec->extradata_size;
		alone->extradata = av_mallocz(size + AV_INPUT_BUFFER_PADDING_SIZE);
		memcpy(alone->extradata, v.codec->extradata, size);
		alone->extradata_size = (int)size;
	}
	alone->width =
		v.codec->width; /* Matroska's raw kinds of codecs have no size of their own */
	alone->height = v.codec->height;
	CHECK(avcodec_open2(alone, decoder, NULL) == 0);
	avcodec_free_context(&v.codec);
	v.codec = alone;
	CHECK(video_next(&v, &frame));
	struct said said = { (int)frame->color_primaries, (int)frame->color_trc,
		(int)frame->colorspace, (int)frame->color_range };
	*format_out = frame->format;
	video_close(&v);
	return said;
}

static const struct {
	const char *codec, *file;
	bool has_bitstream; /* with a place for colours */
} codecs[] = {
	{ "libx264", "a.mkv", true },
	{ "libx264", "a.mp4", true },
	{ "libx264", "a.ts", true },
	{ "libx264", "a.flv", true },
	{ "libx265", "a.mkv", true },
	{ "libx265", "a.mp4", true },
	{ "libx265", "a.ts", true },
	{ "libsvtav1", "a.mkv", true },
	{ "libsvtav1", "a.mp4", true },
	{ "ffv1", "a.mkv", false },
	{ "mpeg4", "a.mp4", false },
};

static bool tells(const char *file)
{
	return strstr(file, ".mkv") || strstr(file, ".mp4");
}

TEST(the_streams_colours_are_in_the_bitstream_and_in_the_container)
{
	for (size_t i = 0; i < N(codecs); i++) {
		char row[64];
		snprintf(row, sizeof(row), "%s in %s", codecs[i].codec, codecs[i].file);
		if (!encoder_find(codecs[i].codec))
			continue;
		for (size_t c = 0; c < N(colours); c++) {
			enum AVPixelFormat format;
			make_file(codecs[i].file, codecs[i].codec, DRM_FORMAT_NV12, &colours[c]);
			struct said said = bitstream_says(codecs[i].file, &format);
			if (codecs[i].has_bitstream)
				check_said(&said, &colours[c], row);
			if (!tells(codecs[i].file))
				continue;
			said = container_says(codecs[i].file);
			check_said(&said, &colours[c], row);
		}
	}
}

TEST(motion_jpeg_is_of_full_range_and_says_so)
{
	enum AVPixelFormat format;
	make_file("a.mkv", "mjpeg", DRM_FORMAT_NV12, &colours[2]);
	CHECK_EQ(bitstream_says("a.mkv", &format).range, AVCOL_RANGE_JPEG);
	CHECK_EQ(container_says("a.mkv").range, AVCOL_RANGE_JPEG);
}

/* The first luma sample of a file. */
static int luma_of(const char *name, int *depth_out)
{
	struct video v;
	AVFrame *frame;
	CHECK(video_open(&v, in_tmp(name)));
	CHECK(video_next(&v, &frame));
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(frame->format);
	*depth_out = desc->comp[0].depth;
	int luma = frame->data[0][WIDTH / 2];
	if (*depth_out > 8)
		luma = ((const uint16_t *)(const void *)frame->data[0])[WIDTH / 2];
	video_close(&v);
	return luma;
}

/* Every reader of JPEGs takes them so, whatever the file says. */
TEST(motion_jpeg_is_made_by_the_matrix_of_bt601)
{
	int depth;
	make_file("green.mkv", "mjpeg", DRM_FORMAT_XRGB8888, &colours[2]);
	int luma = luma_of("green.mkv", &depth);
	CHECK_EQ(depth, 8);
	if (abs(luma - (int)(0.587 * 255)) > 3)
		test_fail(__FILE__, __LINE__, "green has a luma of %d", luma);
}

static const struct {
	uint32_t fourcc;
	const char *codec, *file;
	int luma;
} deep[] = {
	{ DRM_FORMAT_P010, "libx265", "a.mkv", 600 },
	{ DRM_FORMAT_P010, "libx264", "a.mp4", 600 },
	{ DRM_FORMAT_P010, "libsvtav1", "a.mkv", 600 },
	{ DRM_FORMAT_P010, "ffv1", "a.mkv", 600 },
	/* grey of 600 of 1023 in full range is 64 + 600 * 876 / 1023 in limited range */
	{ DRM_FORMAT_XRGB2101010, "libx265", "a.mp4", 578 },
	{ DRM_FORMAT_XBGR2101010, "libx265", "a.ts", 578 },
	{ DRM_FORMAT_ARGB2101010, "libsvtav1", "a.mp4", 578 },
};

TEST(ten_bits_stay_ten_bits)
{
	const struct colour hdr = { "BT.2020 PQ", 9, 16, 9, false };
	for (size_t i = 0; i < N(deep); i++) {
		enum AVPixelFormat format;
		char row[64];
		snprintf(row, sizeof(row), "%.4s to %s", (const char *)&deep[i].fourcc,
			deep[i].codec);
		if (!encoder_find(deep[i].codec))
			continue;
		make_file(deep[i].file, deep[i].codec, deep[i].fourcc, &hdr);
		int depth, luma = luma_of(deep[i].file, &depth);
		CHECK_EQ(depth, 10);
		if (abs(luma - deep[i].luma) > 3)
			test_fail(
				__FILE__, __LINE__, "%s: luma %d, not %d", row, luma, deep[i].luma);
		struct said said = bitstream_says(deep[i].file, &format);
		if (strcmp(deep[i].codec, "ffv1") != 0)
			check_said(&said, &hdr, row);
	}
}

TEST(a_size_that_a_codec_does_not_take_is_told)
{
	static const struct {
		const char *codec;
		uint32_t width, height;
		const char *says;
	} rows[] = {
		{ "libsvtav1", 32, 32, "too small for libsvtav1" },
		{ "mpeg2video", 16384, 16384, "mpeg2video cannot be opened for 16384x16384" },
		{ "libx264", 1, 1, "too small for libx264" },
	};
	for (size_t i = 0; i < N(rows); i++) {
		const struct encoder_settings settings = {
			.codec = rows[i].codec, .crf = -1, .qp = -1, .gop = -1, .b_frames = -1
		};
		const struct picture_format picture = {
			.fourcc = DRM_FORMAT_NV12, .width = rows[i].width, .height = rows[i].height
		};
		struct problem problem = { "" };
		struct encoder *encoder = NULL;
		avlog_install(false);
		if (!encoder_find(rows[i].codec))
			continue;
		CHECK_ROW(encoder_open(&encoder, &settings, &picture, 0, &problem) < 0,
			rows[i].codec);
		printf("  %s\n", problem.text);
		CHECK_ROW(strstr(problem.text, rows[i].says), problem.text);
	}
}
