/*
 * NVENC fed with frames in GPU memory, against the contract: libavcodec's h264_nvenc over
 * tests/fake_nvenc and tests/fake_cuda. The frames are this test's own, as a broker would lend them.
 */
#include <drm_fourcc.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/nvenc_fixture.h"
#include "tests/test.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum { MANY = 10000, SOME = 40 };

/* --- Without a copy ---------------------------------------------------------------------------*/

/* Sanitizers see all there is to see in fewer. */
static unsigned many(void)
{
	return test_slowness() > 1 ? MANY / 20 : MANY;
}

static void encode_many(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder *encoder = open_encoder(&pool, &usual);
	for (unsigned i = 0; i < many(); i++) {
		encode(encoder, &pool, i);
		CHECK_EQ(n_held, 1); /* for encoding it again */
	}
	CHECK_EQ(n_held_most, 2);
	CHECK_STR(encoder_note(encoder), "");
	finish(encoder, many());
	close_pool(&pool);
	close_gpu();
}

TEST(ten_thousand_frames_register_each_slot_once)
{
	char counts[256];
	unsigned n = many();
	const char *log = log_of(encode_many, "");
	snprintf(counts, sizeof(counts),
		" registered=8 pointers=8 unregistered=8 mapped=%u unmapped=%u encoded=%u "
		"locked=%u unlocked=%u reconfigured=0 kept=1 misuses=0\n",
		n, n, n, n, n);
	expect(log, counts);
	expect(log, "sessions=1 destroyed=1 ");
}

/* With --cfr a picture is encoded when its time is over, or not at all. */
static void encode_late(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder *encoder = open_encoder(&pool, &usual);
	CHECK_EQ(encoder_load(encoder, lend(&pool, 0), &problem), 0);
	for (unsigned i = 1; i < SOME; i++) {
		CHECK_EQ(n_held, 1); /* of two: the next one can be had */
		if (i % 3 != 0)
			CHECK_EQ(encoder_encode(encoder, i - 1, &problem), 0);
		decode_ready(encoder);
		CHECK_EQ(encoder_load(encoder, lend(&pool, i), &problem), 0);
	}
	CHECK_EQ(n_held_most, 2);
	CHECK_STR(encoder_note(encoder), "");
	finish(encoder, SOME - 1 - (SOME - 1) / 3);
	close_pool(&pool);
	close_gpu();
}

TEST(a_picture_that_waits_to_be_encoded_leaves_a_hold_for_the_next)
{
	expect(log_of(encode_late, ""), " misuses=0\n");
}

static const uint32_t formats[] = { DRM_FORMAT_ARGB8888, DRM_FORMAT_XBGR8888, DRM_FORMAT_ABGR8888,
	DRM_FORMAT_NV12 };

static void encode_formats(void)
{
	open_gpu();
	for (size_t i = 0; i < N(formats); i++) {
		struct pool pool = open_pool(formats[i], 1);
		struct encoder *encoder = open_encoder(&pool, &usual);
		for (unsigned n = 0; n < SOME; n++)
			encode(encoder, &pool, n);
		CHECK_STR(encoder_note(encoder), "");
		finish(encoder, SOME);
		close_pool(&pool);
	}
	close_gpu();
}

TEST(each_form_that_nvenc_reads_goes_in_as_it_is)
{
	expect(log_of(encode_formats, ""), " registered=32 pointers=32 unregistered=32 ");
}

/* Memory goes when the first frame of other memory was loaded, as libsluice has it. */
static void encode_generations(void)
{
	open_gpu();
	struct pool pools[4];
	pools[0] = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder *encoder = open_encoder(&pools[0], &usual);
	unsigned n = 0;
	for (unsigned g = 0; g + 1 < N(pools); g++) {
		for (unsigned i = 0; i < SOME; i++)
			encode(encoder, &pools[g], n++);
		pools[g + 1] = open_pool(DRM_FORMAT_XRGB8888, g + 2);
		encode(encoder, &pools[g + 1], n++);
		close_pool(&pools[g]);
	}
	finish(encoder, n);
	close_pool(&pools[N(pools) - 1]);
	close_gpu();
}

TEST(memory_is_unregistered_before_it_goes)
{
	const char *log = log_of(encode_generations, "");
	expect(log, " misuses=0\n");
	expect(log, "sessions=4 destroyed=4 registered=25 pointers=25 unregistered=25 ");
}

static void encode_still(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder *encoder = open_encoder(&pool, &usual);
	encode(encoder, &pool, 0);
	CHECK_EQ(encoder_let_go(encoder, &problem), 0);
	CHECK_EQ(n_held, 0);
	/* another picture in its place must not show */
	sluice_frame_release(lend(&pool, 7));
	pool.next = 0;
	sluice_frame_release(lend(&pool, 8));
	CHECK_EQ(encoder_encode(encoder, 200, &problem), 0); /* the same grey as 0 */
	decode_ready(encoder);
	encode(encoder, &pool, 201);
	CHECK_EQ(encoder_forget(encoder, &problem), 0);
	CHECK_EQ(n_held, 0);
	close_pool(&pool);
	CHECK_EQ(encoder_encode(encoder, 401, &problem), 0); /* the same grey as 201 */
	decode_ready(encoder);
	finish(encoder, 4);
	close_gpu();
}

TEST(a_picture_that_is_let_go_of_can_be_encoded_again)
{
	expect(log_of(encode_still, ""), " misuses=0\n");
}

/* --- With a copy ------------------------------------------------------------------------------*/

/* Every frame is given back at once, and why is said. */
static void check_copying(
	struct pool *pool, const struct encoder_settings *settings, const char *why)
{
	struct encoder *encoder = open_encoder(pool, settings);
	for (unsigned i = 0; i < SOME; i++) {
		CHECK_EQ(encoder_load(encoder, lend(pool, i), &problem), 0);
		CHECK_EQ(n_held, 0);
		CHECK_EQ(encoder_encode(encoder, i, &problem), 0);
		decode_ready(encoder);
	}
	CHECK(strstr(encoder_note(encoder), "copied once on the GPU"));
	if (!strstr(encoder_note(encoder), why))
		test_fail(
			__FILE__, __LINE__, "\"%s\" is not in \"%s\"", why, encoder_note(encoder));
	finish(encoder, SOME);
}

static const struct {
	const char *option;
	unsigned holds;
	const char *why;
} copying[] = {
	{ "bf=2", 2, "B-frames" },
	{ "delay=4", 2, "delay" },
	{ "rc-lookahead=8", 2, "lookahead" },
	{ "preset=p4", 0, "without reserved holds" },
	{ "preset=p4", 1, "one reserved hold is not enough" },
};

static void encode_copies(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	for (size_t i = 0; i < N(copying); i++) {
		struct encoder_settings settings = usual;
		settings.option[settings.n_options++] = copying[i].option;
		settings.holds = copying[i].holds;
		check_copying(&pool, &settings, copying[i].why);
	}
	close_pool(&pool);
	close_gpu();
}

TEST(pictures_that_cannot_be_lent_are_copied_and_that_is_said)
{
	expect(log_of(encode_copies, ""), " misuses=0\n");
}

static void encode_with_lookahead(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder_settings settings = usual;
	settings.option[settings.n_options++] = "rc-lookahead=8";
	check_copying(&pool, &settings, "lookahead");
	close_pool(&pool);
	close_gpu();
}

static void encode_with_b_frames(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder_settings settings = usual;
	settings.b_frames = 2;
	check_copying(&pool, &settings, "B-frames");
	close_pool(&pool);
	close_gpu();
}

/* The pictures that NVENC had at once, and those whose packets libavcodec had. */
static unsigned kept(const char *log)
{
	unsigned n = 0;
	const char *at = strstr(log, " kept=");
	CHECK(at && sscanf(at, " kept=%u", &n) == 1);
	return n;
}

TEST(lookahead_and_b_frames_are_not_only_asked_for)
{
	CHECK(kept(log_of(encode_with_lookahead, "")) > 8);
	CHECK(kept(log_of(encode_with_b_frames, "")) > 2);
}

/* The chroma of planar YUV, which NVENC reads the other way round, and planes that lie apart. */
static void encode_other_planes(void)
{
	open_gpu();
	struct pool planar = open_pool(DRM_FORMAT_YUV420, 1), apart;
	check_copying(&planar, &usual, "its planes lie otherwise");
	struct video_format format = planar.format;
	close_pool(&planar);
	CHECK_EQ(format_layout(DRM_FORMAT_NV12, WIDTH, HEIGHT, &format), 0);
	format.offset[1] += 4096;
	format.size_bytes += 4096;
	fill_pool(&apart, &format, 2);
	check_copying(&apart, &usual, "its planes lie otherwise");
	close_pool(&apart);
	close_gpu();
}

TEST(planes_that_lie_otherwise_are_copied_and_that_is_said)
{
	expect(log_of(encode_other_planes, ""), " misuses=0\n");
}

/* Two that were lent stay in NVENC before anybody knows; then all is let go of. */
static void encode_with_surprise(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	setenv("FAKE_NVENC_KEEP", "3", 1);
	struct encoder *encoder = open_encoder(&pool, &usual);
	for (unsigned i = 0; i < SOME; i++) {
		encode(encoder, &pool, i);
		CHECK(n_held <= 2);
		CHECK(i < 2 || n_held == 0);
	}
	expect(encoder_note(encoder), "the encoder keeps some back");
	close_pool(&pool);
	CHECK_EQ(encoder_forget(encoder, &problem), 0);
	finish(encoder, SOME);
	close_gpu();
}

TEST(what_nvenc_keeps_unasked_is_let_go_of)
{
	const char *log = log_of(encode_with_surprise, "");
	expect(log, "sessions=2 destroyed=2 ");
	expect(log, " misuses=0\n");
}

static void encode_revoked(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder_settings settings = usual;
	settings.holds = 0;
	struct encoder *encoder = open_encoder(&pool, &settings);
	encode(encoder, &pool, 0);
	is_revoked = true;
	CHECK_EQ(encoder_load(encoder, lend(&pool, 7), &problem), -ESTALE);
	is_revoked = false;
	CHECK_EQ(n_held, 0);
	CHECK_EQ(encoder_encode(encoder, 200, &problem), 0); /* the same grey as 0 */
	decode_ready(encoder);
	finish(encoder, 2);
	close_pool(&pool);
	close_gpu();
}

TEST(a_frame_that_was_taken_back_while_it_was_copied_is_not_encoded)
{
	expect(log_of(encode_revoked, ""), " misuses=0\n");
}

/* --- What fails -------------------------------------------------------------------------------*/

static const struct {
	const char *fail, *says;
	bool at_open;
} failures[] = {
	{ "nvEncOpenEncodeSessionEx=2", "unsupported device", true },
	{ "nvEncInitializeEncoder=15", "InitializeEncoder failed", true },
	{ "nvEncCreateBitstreamBuffer=10@2", "CreateBitstreamBuffer failed: out of memory", true },
	{ "nvEncRegisterResource=23@3", "registering an input resource", false },
	{ "nvEncMapInputResource=16@3", "mapping an input resource: map failed", false },
	{ "nvEncEncodePicture=20@3", "EncodePicture failed!", false },
	{ "nvEncLockBitstream=20@3", "locking bitstream buffer", false },
};

static const char *expected;

static void fail_at_open(void)
{
	open_gpu();
	struct encoder *encoder = NULL;
	const struct picture_format format = { .fourcc = DRM_FORMAT_XRGB8888,
		.width = WIDTH,
		.height = HEIGHT,
		.memory = SLUICE_MEMORY_CUDA,
		.cuda_context = context };
	CHECK(encoder_open(&encoder, &usual, &format, 0, &problem) < 0);
	expect(problem.text, expected);
	close_gpu();
}

static void fail_at_work(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder *encoder = open_encoder(&pool, &usual);
	encode(encoder, &pool, 0);
	encode(encoder, &pool, 1);
	CHECK_EQ(encoder_load(encoder, lend(&pool, 2), &problem), 0);
	CHECK(encoder_encode(encoder, 2, &problem) < 0);
	expect(problem.text, expected);
	encoder_destroy(encoder);
	close_decoder(2);
	close_pool(&pool);
	close_gpu();
}

TEST(what_fails_is_said_and_nothing_stays)
{
	for (size_t i = 0; i < N(failures); i++) {
		expected = failures[i].says;
		const char *log =
			log_of(failures[i].at_open ? fail_at_open : fail_at_work, failures[i].fail);
		CHECK_ROW(strstr(log, " misuses=0\n"), failures[i].fail);
	}
}

/* A session that cannot be had again: all NVENC has were taken meanwhile. */
static void fail_again(void)
{
	int width = 0, height = 0;
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder *encoder = open_encoder(&pool, &usual);
	encode(encoder, &pool, 0);
	CHECK_EQ(encoder_forget(encoder, &problem), 0);
	CHECK(encoder_encode(encoder, 1, &problem) < 0); /* the same picture */
	expect(problem.text, "OpenEncodeSessionEx failed: out of memory");
	CHECK(encoder_load(encoder, lend(&pool, 2), &problem) < 0);
	expect(problem.text, "OpenEncodeSessionEx failed: out of memory");
	CHECK_EQ(n_held, 0);
	CHECK(encoder_set_bit_rate(encoder, 1000000, &problem) < 0);
	encoder_size(encoder, &width, &height);
	CHECK(width == WIDTH && height == HEIGHT && encoder_time_base(encoder).den == 90000);
	CHECK_EQ(encoder_let_go(encoder, &problem), 0);
	CHECK_EQ(encoder_forget(encoder, &problem), 0);
	finish(encoder, 1);
	close_pool(&pool);
	close_gpu();
}

TEST(a_session_that_cannot_be_opened_again_is_said_to_be)
{
	expect(log_of(fail_again, "nvEncOpenEncodeSessionEx=10@2+"), " misuses=0\n");
}

static void change_rate(void)
{
	open_gpu();
	struct pool pool = open_pool(DRM_FORMAT_XRGB8888, 1);
	struct encoder_settings settings = usual;
	settings.bit_rate = 4000000;
	settings.may_change = true;
	struct encoder *encoder = open_encoder(&pool, &settings);
	encode(encoder, &pool, 0);
	CHECK_EQ(encoder_set_bit_rate(encoder, 1000000, &problem), 0);
	encode(encoder, &pool, 1);
	CHECK_EQ(encoder_forget(encoder, &problem), 0);
	encode(encoder, &pool, 2);
	encode(encoder, &pool, 3);
	finish(encoder, 4);
	close_pool(&pool);
	close_gpu();
}

TEST(another_bit_rate_outlives_the_session)
{
	expect(log_of(change_rate, ""), " reconfigured=2 ");
}

static void want(void)
{
	struct sluice_view_request request = { 0 }, shared = { .max_holds = 4 };
	struct sluice_stream_info info = { .fourcc = DRM_FORMAT_XRGB8888 };
	encoder_want(&usual, &info, &request);
	CHECK(request.memory == SLUICE_MEMORY_CUDA && request.reserved_holds == 2);
	encoder_want(&usual, &info, &shared);
	CHECK(shared.reserved_holds == 0 && shared.max_holds == 4);
}

TEST(it_wants_gpu_memory_that_is_reserved)
{
	want();
}

static const struct {
	const char *codec, *pix_fmt;
	uint32_t stream, format, wanted;
} forms[] = {
	{ "h264_nvenc", NULL, DRM_FORMAT_XRGB8888, 0, 0 },
	{ "h264_nvenc", NULL, DRM_FORMAT_YUYV, 0, DRM_FORMAT_NV12 },
	{ "h264_nvenc", NULL, 0, 0, 0 },
	{ "h264_nvenc", NULL, DRM_FORMAT_XRGB2101010, 0, DRM_FORMAT_NV12 },
	{ "h264_nvenc", NULL, DRM_FORMAT_P010, 0, DRM_FORMAT_NV12 },
	{ "hevc_nvenc", NULL, DRM_FORMAT_XRGB2101010, 0, DRM_FORMAT_P010 },
	{ "hevc_nvenc", NULL, DRM_FORMAT_P010, 0, 0 },
	{ "hevc_nvenc", NULL, DRM_FORMAT_YUYV, 0, DRM_FORMAT_NV12 },
	{ "h264_nvenc", "yuv420p", DRM_FORMAT_XRGB8888, 0, DRM_FORMAT_NV12 },
	{ "h264_nvenc", "nv12", DRM_FORMAT_XRGB8888, 0, DRM_FORMAT_NV12 },
	{ "h264_nvenc", "nv12", 0, 0, DRM_FORMAT_NV12 },
	{ "h264_nvenc", "nv12", DRM_FORMAT_NV12, 0, 0 },
	{ "h264_nvenc", "yuv420p", DRM_FORMAT_YUV420, 0, 0 },
	{ "hevc_nvenc", "p010le", DRM_FORMAT_XRGB8888, 0, DRM_FORMAT_P010 },
	{ "h264_nvenc", "nv12", DRM_FORMAT_XRGB8888, DRM_FORMAT_YUYV, DRM_FORMAT_YUYV },
};

TEST(what_nvenc_does_not_read_is_asked_for_in_a_form_that_it_does)
{
	for (size_t i = 0; i < N(forms); i++) {
		struct encoder_settings settings = usual;
		struct sluice_view_request request = { .fourcc = forms[i].format };
		struct sluice_stream_info info = { .fourcc = forms[i].stream };
		settings.codec = forms[i].codec;
		settings.pix_fmt = forms[i].pix_fmt;
		encoder_want(&settings, &info, &request);
		if (request.fourcc != forms[i].wanted)
			test_fail(__FILE__, __LINE__, "row %zu: 0x%x, not 0x%x", i, request.fourcc,
				forms[i].wanted);
	}
}

static const struct {
	const char *pix_fmt;
	uint32_t fourcc;
	const char *says; /* NULL: it opens */
} opened[] = {
	{ "yuv420p", DRM_FORMAT_NV12, NULL },
	{ "nv12", DRM_FORMAT_NV12, NULL },
	{ "bgr0", DRM_FORMAT_XRGB8888, NULL },
	{ "nv12", DRM_FORMAT_XRGB8888, "leave --format out" },
	{ "bgr0", DRM_FORMAT_NV12, "leave --pix-fmt out" },
	{ NULL, DRM_FORMAT_YUYV, "ask for --format NV12" },
};

static void open_forms(void)
{
	open_gpu();
	for (size_t i = 0; i < N(opened); i++) {
		struct encoder *encoder = NULL;
		struct encoder_settings settings = usual;
		const struct picture_format format = { .fourcc = opened[i].fourcc,
			.width = WIDTH,
			.height = HEIGHT,
			.memory = SLUICE_MEMORY_CUDA,
			.cuda_context = context };
		settings.pix_fmt = opened[i].pix_fmt;
		int r = encoder_open(&encoder, &settings, &format, 0, &problem);
		if (opened[i].says)
			expect(problem.text, opened[i].says);
		CHECK_EQ(r, opened[i].says ? -EOPNOTSUPP : 0);
		encoder_destroy(encoder);
	}
	close_gpu();
}

TEST(a_form_that_would_have_to_be_converted_here_is_refused)
{
	log_of(open_forms, "");
}
