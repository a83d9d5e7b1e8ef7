/* Motion JPEG from nvJPEG, over doubles of NVIDIA's libraries that make real JPEGs. */
#include <drm_fourcc.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/stamp.h"
#include "consumer/encoder/nvjpeg_settings.h"
#include "tests/nvjpeg_fixture.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

static const struct encoder_settings usual = {
	.codec = "nvjpeg",
	.crf = -1,
	.qp = -1,
	.gop = -1,
	.b_frames = -1,
};

static struct encoder_settings with_option(const char *option)
{
	struct encoder_settings settings = usual;
	settings.option[settings.n_options++] = option;
	return settings;
}

NVJPEG_TEST(each_picture_is_that_of_its_slot)
{
	static const struct {
		const char *name;
		uint32_t width, height;
	} sizes[] = { { "even", 320, 240 }, { "odd", 641, 361 }, { "wide", 333, 2 },
		{ "one pixel", 1, 1 } };
	const struct encoder_settings fine = with_option("quality=97");
	for (size_t s = 0; s < N(sizes); s++) {
		struct slots slots;
		slots_init(&slots, sizes[s].width, sizes[s].height, 2);
		struct encoder *encoder = open_encoder(&slots, &fine);
		for (uint32_t i = 0; i < 4; i++) {
			struct sluice_frame frame = slots_draw(&slots, i % 2, 100 + i);
			AVPacket *packet = encode_frame(encoder, &frame, i);
			slots_draw(&slots, i % 2, 100 + i); /* it was released, and is rubbish */
			CHECK_ROW(psnr_of(packet, &slots, i % 2) > 35, sizes[s].name);
			if (stamp_fits(&slots.format))
				CHECK_EQ(number_of(packet), 100 + i);
			av_packet_free(&packet);
		}
		encoder_destroy(encoder);
		slots_finish(&slots);
	}
}

NVJPEG_TEST(it_is_encoded_from_the_slots_and_from_nothing_else)
{
	struct slots slots;
	slots_init(&slots, 320, 240, SLOTS_MAX);
	struct encoder *encoder = open_encoder(&slots, &usual);
	for (uint32_t i = 0; i < 3 * SLOTS_MAX; i++) {
		struct sluice_frame frame = slots_draw(&slots, i % SLOTS_MAX, i);
		AVPacket *packet = encode_frame(encoder, &frame, i);
		av_packet_free(&packet);
	}
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		CHECK(was_encoded_from(slots.slot[i]));
	CHECK_EQ(count_of_addresses(), SLOTS_MAX);
	encoder_destroy(encoder);
	slots_finish(&slots);
}

NVJPEG_TEST(a_packet_is_a_key_frame_with_its_time)
{
	struct slots slots;
	slots_init(&slots, 322, 242, 1);
	struct encoder *encoder = open_encoder(&slots, &usual);
	struct sluice_frame frame = slots_draw(&slots, 0, 1);
	AVPacket *packet = encode_frame(encoder, &frame, 4711);
	CHECK(packet->flags & AV_PKT_FLAG_KEY);
	CHECK_EQ(packet->pts, 4711);
	CHECK_EQ(packet->dts, 4711);
	CHECK(packet->buf);
	for (int i = 0; i < AV_INPUT_BUFFER_PADDING_SIZE; i++)
		CHECK_EQ(packet->data[packet->size + i], 0);
	av_packet_free(&packet);
	encoder_destroy(encoder);
	slots_finish(&slots);
}

NVJPEG_TEST(colours_that_ffmpeg_does_not_know_are_not_said)
{
	struct slots slots;
	struct problem problem;
	struct encoder *encoder = NULL;
	slots_init(&slots, 320, 240, 1);
	struct picture_format format = slots_format(&slots);
	format.primaries = format.transfer = 222;
	CHECK_EQ(encoder_open(&encoder, &usual, &format, 0, &problem), 0);
	AVFormatContext *file = avformat_alloc_context();
	AVStream *stream = avformat_new_stream(file, NULL);
	CHECK_EQ(encoder_describe(encoder, stream), 0);
	CHECK_EQ(stream->codecpar->color_primaries, AVCOL_PRI_UNSPECIFIED);
	CHECK_EQ(stream->codecpar->color_trc, AVCOL_TRC_UNSPECIFIED);
	CHECK_EQ(stream->codecpar->color_space, AVCOL_SPC_SMPTE170M);
	avformat_free_context(file);
	encoder_destroy(encoder);
	slots_finish(&slots);
}

NVJPEG_TEST(the_file_is_told_what_is_in_it)
{
	struct slots slots;
	struct encoder_settings settings = usual;
	int width, height;
	slots_init(&slots, 321, 243, 1);
	settings.rate = (AVRational){ 30, 1 };
	struct encoder *encoder = open_encoder(&slots, &settings);
	AVFormatContext *file = avformat_alloc_context();
	AVStream *stream = avformat_new_stream(file, NULL);
	CHECK_EQ(encoder_describe(encoder, stream), 0);
	encoder_size(encoder, &width, &height);
	CHECK(width == 321 && height == 243);
	CHECK_EQ(stream->codecpar->codec_type, AVMEDIA_TYPE_VIDEO);
	CHECK_EQ(stream->codecpar->codec_id, AV_CODEC_ID_MJPEG);
	CHECK(stream->codecpar->width == 321 && stream->codecpar->height == 243);
	CHECK_EQ(stream->codecpar->format, AV_PIX_FMT_YUVJ420P);
	CHECK_EQ(stream->codecpar->color_range, AVCOL_RANGE_JPEG);
	CHECK_EQ(stream->codecpar->color_primaries, AVCOL_PRI_BT709);
	CHECK_EQ(stream->codecpar->color_trc, AVCOL_TRC_IEC61966_2_1);
	CHECK_EQ(stream->codecpar->color_space, AVCOL_SPC_SMPTE170M);
	CHECK(av_cmp_q(stream->time_base, encoder_time_base(encoder)) == 0);
	CHECK(av_cmp_q(stream->avg_frame_rate, settings.rate) == 0);
	avformat_free_context(file);
	encoder_destroy(encoder);
	slots_finish(&slots);
}

NVJPEG_TEST(a_picture_that_stands_still_is_sent_again_without_the_gpu)
{
	struct slots slots;
	struct problem problem;
	slots_init(&slots, 320, 240, 1);
	struct encoder *encoder = open_encoder(&slots, &usual);
	struct sluice_frame frame = slots_draw(&slots, 0, 7);
	AVPacket *first = encode_frame(encoder, &frame, 1), *again = av_packet_alloc();
	CHECK_EQ(encoder_encode(encoder, 90000, &problem), 0);
	CHECK_EQ(encoder_receive(encoder, again, &problem), 1);
	CHECK_EQ(again->pts, 90000);
	CHECK_EQ(again->size, first->size);
	CHECK(memcmp(again->data, first->data, (size_t)first->size) == 0);
	CHECK_EQ(encoder_drain(encoder, &problem), 0);
	av_packet_unref(again);
	CHECK_EQ(encoder_receive(encoder, again, &problem), 0);
	av_packet_free(&first);
	av_packet_free(&again);
	encoder_destroy(encoder);
	slots_finish(&slots);
}

NVJPEG_TEST(a_frame_that_was_written_again_is_dropped_and_the_last_one_stays)
{
	struct slots slots;
	struct problem problem;
	slots_init(&slots, 320, 240, 2);
	struct encoder *encoder = open_encoder(&slots, &usual);
	struct sluice_frame good = slots_draw(&slots, 0, 1), torn = slots_draw(&slots, 1, 2);
	AVPacket *packet = encode_frame(encoder, &good, 1);
	av_packet_unref(packet);
	is_whole = false;
	CHECK_EQ(encoder_load(encoder, &torn, &problem), -ESTALE);
	CHECK_EQ(n_released, 2);
	is_whole = true;
	CHECK_EQ(encoder_encode(encoder, 2, &problem), 0);
	CHECK_EQ(encoder_receive(encoder, packet, &problem), 1);
	CHECK_EQ(number_of(packet), 1);
	av_packet_free(&packet);
	good = slots_draw(&slots, 0, 3);
	packet = encode_frame(encoder, &good, 3);
	CHECK_EQ(number_of(packet), 3);
	av_packet_free(&packet);
	encoder_destroy(encoder);
	slots_finish(&slots);
}

/* Bytes of one picture, encoded with this. */
static int size_with(const struct encoder_settings *settings)
{
	struct slots slots;
	slots_init(&slots, 640, 360, 1);
	struct encoder *encoder = open_encoder(&slots, settings);
	struct sluice_frame frame = slots_draw(&slots, 0, 1);
	AVPacket *packet = encode_frame(encoder, &frame, 1);
	int size = packet->size;
	av_packet_free(&packet);
	encoder_destroy(encoder);
	slots_finish(&slots);
	return size;
}

NVJPEG_TEST(quality_decides_the_size)
{
	const struct encoder_settings best = with_option("quality=100"),
				      low = with_option("quality=10"),
				      q85 = with_option("quality=85"),
				      q80 = with_option("quality=80");
	struct encoder_settings qp5 = usual, qp31 = usual;
	qp5.qp = 5;
	qp31.qp = 31;
	CHECK(size_with(&best) > size_with(&usual));
	CHECK(size_with(&usual) > size_with(&low));
	CHECK(size_with(&qp5) > size_with(&qp31));
	CHECK_EQ(size_with(&q85), size_with(&usual));
	CHECK_EQ(size_with(&q80), size_with(&qp5));
}

NVJPEG_TEST(optimized_huffman_tables_make_it_smaller)
{
	const struct encoder_settings on = with_option("optimized_huffman=1"),
				      off = with_option("optimized_huffman=0");
	CHECK(size_with(&on) < size_with(&off));
	CHECK_EQ(size_with(&off), size_with(&usual));
}

TEST(qp_is_mapped_as_the_manual_says)
{
	static const int pairs[][2] = { { 2, 92 }, { 3, 88 }, { 5, 80 }, { 10, 60 }, { 12, 52 },
		{ 13, 48 }, { 31, 20 } };
	for (size_t i = 0; i < N(pairs); i++)
		CHECK_EQ(nvjpeg_quality_of_qp(pairs[i][0]), pairs[i][1]);
}

/* Buffers come back: a thousand pictures live in a few. */
NVJPEG_TEST(a_thousand_frames_leave_nothing_behind)
{
	enum { FRAMES = 1000, BUFFERS_MAX = 16 };
	const void *buffers[BUFFERS_MAX];
	unsigned n_buffers = 0;
	uint64_t rss = 0;
	struct slots slots;
	slots_init(&slots, 160, 120, SLOTS_MAX);
	struct encoder *encoder = open_encoder(&slots, &usual);
	for (uint32_t i = 0; i < FRAMES; i++) {
		struct sluice_frame frame = slots_draw(&slots, i % SLOTS_MAX, i);
		AVPacket *packet = encode_frame(encoder, &frame, i);
		unsigned b = 0;
		while (b < n_buffers && buffers[b] != packet->data)
			b++;
		if (b == n_buffers && n_buffers < BUFFERS_MAX)
			buffers[n_buffers++] = packet->data;
		if (i % 100 == 0)
			CHECK_EQ(number_of(packet), i);
		av_packet_free(&packet);
		if (i == FRAMES / 2)
			rss = test_rss_bytes(0);
	}
	CHECK(n_buffers <= 3);
	CHECK_EQ(n_released, FRAMES);
	CHECK_EQ(count_of_addresses(), SLOTS_MAX);
	/* AddressSanitizer keeps 256 MiB of what was freed */
	CHECK(test_rss_bytes(0) <= rss + (test_slowness() > 1 ? 320 << 20 : 1 << 20));
	encoder_destroy(encoder);
	slots_finish(&slots);
}

static void fill_with_noise(const struct slots *slots, unsigned i)
{
	uint8_t *pixels = slots_pixels(slots, i);
	uint32_t x = 1;
	for (uint64_t b = 0; b < slots->format.size_bytes; b++)
		pixels[b] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
}

NVJPEG_TEST(a_picture_far_larger_than_the_one_before_has_room)
{
	struct slots slots;
	const struct encoder_settings best = with_option("quality=100");
	slots_init(&slots, 640, 480, 2);
	struct encoder *encoder = open_encoder(&slots, &best);
	struct sluice_frame flat = slots_draw(&slots, 0, 1), noise = slots_draw(&slots, 1, 2);
	AVPacket *small = encode_frame(encoder, &flat, 1);
	fill_with_noise(&slots, 1);
	AVPacket *large = encode_frame(encoder, &noise, 2);
	CHECK(large->size > 200000 && small->size < large->size / 3);
	fill_with_noise(&slots, 1);
	CHECK(psnr_of(large, &slots, 1) > 30);
	slots_draw(&slots, 0, 1);
	CHECK(psnr_of(small, &slots, 0) > 30);
	encoder_destroy(encoder);
	av_packet_free(&small); /* packets outlive their encoder */
	av_packet_free(&large);
	slots_finish(&slots);
}

static const struct {
	const char *name;
	struct faults faults;
	int result;
	const char *says;
} open_faults[] = {
	{ "context", { "cuCtxPushCurrent=201@2", NULL }, -EIO, "cuCtxPushCurrent" },
	{ "stream", { "cuStreamCreate=2", NULL }, -EIO,
		"cuStreamCreate: CUDA_ERROR_OUT_OF_MEMORY" },
	{ "handle", { NULL, "nvjpegCreateSimple=1" }, -EIO, "NVJPEG_STATUS_NOT_INITIALIZED" },
	{ "arch", { NULL, "nvjpegCreateSimple=7" }, -EIO, "NVJPEG_STATUS_ARCH_MISMATCH" },
	{ "unknown", { NULL, "nvjpegCreateSimple=99" }, -EIO, "nvjpegCreateSimple" },
	{ "state", { NULL, "nvjpegEncoderStateCreate=5" }, -ENOMEM,
		"nvjpegEncoderStateCreate: NVJPEG_STATUS_ALLOCATOR_FAILURE" },
	{ "params", { NULL, "nvjpegEncoderParamsCreate=5" }, -ENOMEM, "ParamsCreate" },
	{ "quality", { NULL, "nvjpegEncoderParamsSetQuality=2" }, -EIO, "SetQuality" },
	{ "encoding", { NULL, "nvjpegEncoderParamsSetEncoding=2" }, -EIO, "SetEncoding" },
	{ "huffman", { NULL, "nvjpegEncoderParamsSetOptimizedHuffman=2" }, -EIO, "Huffman" },
	{ "sampling", { NULL, "nvjpegEncoderParamsSetSamplingFactors=2" }, -EIO, "Sampling" },
};
static size_t row;

static void open_with_fault(void)
{
	struct slots slots;
	struct problem problem = { "" };
	struct encoder *encoder = NULL;
	slots_init(&slots, 320, 240, 1);
	const struct picture_format format = slots_format(&slots);
	int r = encoder_open(&encoder, &usual, &format, 0, &problem);
	if (r != open_faults[row].result || !strstr(problem.text, open_faults[row].says))
		test_fail(__FILE__, __LINE__, "%s: %d, \"%s\"", open_faults[row].name, r,
			problem.text);
	CHECK(!encoder);
	slots_finish(&slots);
}

TEST(an_encoder_that_does_not_open_says_why_and_leaves_nothing)
{
	for (row = 0; row < N(open_faults); row++)
		with_doubles(open_with_fault, &open_faults[row].faults);
}

static const struct {
	const char *name;
	struct faults faults;
	const char *says;
} load_faults[] = {
	{ "encode", { NULL, "nvjpegEncodeYUV=6@3" },
		"nvjpegEncodeYUV: NVJPEG_STATUS_EXECUTION_FAILED" },
	{ "length", { NULL, "nvjpegEncodeRetrieveBitstream=8@5" }, "NVJPEG_STATUS_INTERNAL_ERROR" },
	{ "bytes", { NULL, "nvjpegEncodeRetrieveBitstream=10@6" }, "INCOMPLETE_BITSTREAM" },
	{ "wait", { "cuStreamSynchronize=700@7", NULL }, "cuStreamSynchronize" },
	{ "wait for bytes", { "cuStreamSynchronize=700@9", NULL }, "cuStreamSynchronize" },
};

static void load_with_fault(void)
{
	struct slots slots;
	struct problem problem = { "" };
	slots_init(&slots, 320, 240, 1);
	struct encoder *encoder = open_encoder(&slots, &usual);
	for (uint32_t i = 0; i < 2; i++) {
		struct sluice_frame frame = slots_draw(&slots, 0, i);
		AVPacket *packet = encode_frame(encoder, &frame, i);
		av_packet_free(&packet);
	}
	struct sluice_frame frame = slots_draw(&slots, 0, 2);
	int r = encoder_load(encoder, &frame, &problem);
	if (r != -EIO || !strstr(problem.text, load_faults[row].says))
		test_fail(__FILE__, __LINE__, "%s: %d, \"%s\"", load_faults[row].name, r,
			problem.text);
	CHECK_EQ(n_released, 3);
	encoder_destroy(encoder);
	slots_finish(&slots);
}

TEST(a_failure_on_the_way_is_told_and_the_frame_is_given_back)
{
	for (row = 0; row < N(load_faults); row++)
		with_doubles(load_with_fault, &load_faults[row].faults);
}

NVJPEG_TEST(pictures_that_jpeg_is_not_made_of_are_refused)
{
	struct slots slots;
	struct problem problem;
	struct encoder *encoder = NULL;
	slots_init(&slots, 320, 240, 1);
	struct picture_format format = slots_format(&slots);
	format.full_range = false;
	CHECK_EQ(encoder_open(&encoder, &usual, &format, 0, &problem), -EOPNOTSUPP);
	CHECK(strstr(problem.text, "limited range"));
	format.fourcc = DRM_FORMAT_XRGB8888;
	CHECK_EQ(encoder_open(&encoder, &usual, &format, 0, &problem), -EOPNOTSUPP);
	CHECK(strstr(problem.text, "XR24"));
	format = slots_format(&slots);
	format.memory = SLUICE_MEMORY_HOST;
	CHECK_EQ(encoder_open(&encoder, &usual, &format, 0, &problem), -EOPNOTSUPP);
	CHECK(strstr(problem.text, "host memory"));
	slots_finish(&slots);
}

TEST(the_broker_is_asked_for_what_jpeg_is_made_of)
{
	struct sluice_view_request request = { .delivery = SLUICE_FIFO };
	encoder_want(&usual, NULL, &request);
	CHECK_EQ(request.memory, SLUICE_MEMORY_CUDA);
	CHECK_EQ(request.fourcc, DRM_FORMAT_YUV420);
	CHECK_EQ(request.matrix, 6);
	CHECK_EQ(request.range, SLUICE_RANGE_FULL);
	CHECK_EQ(request.flags & SLUICE_HOST_FALLBACK, 0);
	CHECK_EQ(request.reserved_holds, 0);
}

static const struct {
	struct encoder_settings settings;
	const char *says;
} refused[] = {
	{ { .bit_rate = 1000000, .crf = -1, .qp = -1 }, "nvjpeg has no -b: " },
	{ { .crf = 20, .qp = -1 }, "nvjpeg has no -crf: " },
	{ { .preset = "fast", .crf = -1, .qp = -1 }, "no presets" },
	{ { .tune = "film", .crf = -1, .qp = -1 }, "no tunes" },
	{ { .max_bit_rate = 1, .crf = -1, .qp = -1 }, "nvjpeg has no -maxrate" },
	{ { .profile = "main", .crf = -1, .qp = -1 }, "no profiles" },
	{ { .b_frames = 2, .crf = -1, .qp = -1 }, "no B-frames" },
	{ { .pix_fmt = "nv12", .crf = -1, .qp = -1 }, "does not take pixel format nv12" },
	{ { .crf = -1, .qp = 1 }, "-qp 1: nvjpeg takes 2 (best) to 31" },
	{ { .crf = -1, .qp = 32 }, "-qp 32" },
	{ { .crf = -1, .qp = 5, .n_options = 1, .option = { "quality=5" } }, "choose one" },
	{ { .crf = -1, .qp = -1, .n_options = 1, .option = { "quality=0" } }, "from 1 to 100" },
	{ { .crf = -1, .qp = -1, .n_options = 1, .option = { "quality=101" } }, "from 1 to 100" },
	{ { .crf = -1, .qp = -1, .n_options = 1, .option = { "quality=" } }, "-o quality=: " },
	{ { .crf = -1, .qp = -1, .n_options = 1, .option = { "optimized_huffman=2" } }, "0 to 1" },
	{ { .crf = -1, .qp = -1, .n_options = 1, .option = { "qualitx=5" } },
		"no option -o qualitx=5: it has quality=1 to 100 and optimized_huffman=0 or 1" },
};

TEST(what_nvjpeg_has_no_use_for_is_refused)
{
	for (size_t i = 0; i < N(refused); i++) {
		struct problem problem = { "" };
		struct encoder_settings settings = refused[i].settings;
		settings.codec = "nvjpeg";
		CHECK_EQ(encoder_check(&settings, &problem), -EINVAL);
		if (!strstr(problem.text, refused[i].says))
			test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", problem.text,
				refused[i].says);
	}
}

TEST(what_it_takes_is_accepted)
{
	struct problem problem = { "" };
	struct encoder_settings settings = usual;
	settings.qp = 31;
	settings.gop = 30;
	settings.preset = settings.tune = "none";
	settings.pix_fmt = "yuvj420p";
	settings.option[settings.n_options++] = "optimized_huffman=1";
	if (encoder_check(&settings, &problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", problem.text);
	CHECK_EQ(encoder_find("nvjpeg")->id, AV_CODEC_ID_MJPEG);
}

TEST(a_library_that_is_not_there_is_named)
{
	struct problem problem;
	setenv("SLUICE_NVJPEG", "/nowhere/libnvjpeg.so", 1);
	CHECK_EQ(encoder_check(&usual, &problem), -ENOENT);
	CHECK(strstr(problem.text, "SLUICE_NVJPEG") &&
		strstr(problem.text, "/nowhere/libnvjpeg.so"));
	setenv("SLUICE_NVJPEG", "libm.so.6", 1);
	CHECK_EQ(encoder_check(&usual, &problem), -ENOENT);
	CHECK(strstr(problem.text, "it has no nvjpegCreateSimple"));
}
