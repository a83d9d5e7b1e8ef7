/* What sluice-encode makes of codecs, their options and containers before there is a picture. */
#include <libavutil/pixdesc.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/encoder.h"
#include "consumer/encoder/names.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/settings.h"
#include "tests/test.h"

/* x265 keeps some memory of an encoder that could not be opened: not ours. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libx265";
}

#define N(array) (sizeof(array) / sizeof((array)[0]))

static const struct encoder_settings usual = { .codec = "libx264", .crf = 12, .qp = -1, .gop = -1 };

static const struct {
	const char *codec;
	enum AVPixelFormat from, to;
} choices[] = {
	{ "libx264", AV_PIX_FMT_BGR0, AV_PIX_FMT_YUV420P },
	{ "libx264", AV_PIX_FMT_NV12, AV_PIX_FMT_NV12 },
	{ "libx264", AV_PIX_FMT_YUYV422, AV_PIX_FMT_YUV420P },
	{ "libx264rgb", AV_PIX_FMT_BGR0, AV_PIX_FMT_BGR0 },
	{ "ffv1", AV_PIX_FMT_BGR0, AV_PIX_FMT_BGR0 },
	{ "ffv1", AV_PIX_FMT_NV12, AV_PIX_FMT_YUV420P },
	{ "ffv1", AV_PIX_FMT_YUYV422, AV_PIX_FMT_YUV422P },
	{ "mjpeg", AV_PIX_FMT_BGR0, AV_PIX_FMT_YUVJ420P },
	{ "rawvideo", AV_PIX_FMT_YUYV422, AV_PIX_FMT_YUYV422 },
};

TEST(the_pixel_format_is_the_one_that_players_show_or_the_exact_one)
{
	for (size_t i = 0; i < N(choices); i++) {
		struct problem problem;
		enum AVPixelFormat to = AV_PIX_FMT_NONE;
		CHECK_ROW(settings_pix_fmt(&usual, encoder_find(choices[i].codec), choices[i].from,
				  &to, &problem) == 0,
			choices[i].codec);
		if (to != choices[i].to)
			test_fail(__FILE__, __LINE__, "%s: %s becomes %s", choices[i].codec,
				av_get_pix_fmt_name(choices[i].from), av_get_pix_fmt_name(to));
	}
}

static const struct {
	struct encoder_settings settings;
	const char *says;
} refused[] = {
	{ { .codec = "nonsense", .crf = -1, .qp = -1 }, "no video encoder \"nonsense\"" },
	{ { .codec = "aac", .crf = -1, .qp = -1 }, "no video encoder \"aac\"" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .preset = "sluggish" }, "preset" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .tune = "guitar" }, "tune" },
	{ { .codec = "ffv1", .crf = 20, .qp = -1 }, "ffv1 has no option -crf" },
	{ { .codec = "mjpeg", .crf = -1, .qp = -1, .preset = "fast" }, "no option -preset" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .pix_fmt = "plaid" },
		"no pixel format \"plaid\"" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .pix_fmt = "gray16le" }, "does not take" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .pix_fmt = "vaapi" }, "no pixel format" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .n_options = 1, .option = { "speed=9" } },
		"no option -o speed=9" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .n_options = 1, .option = { "aq-mode=loud" } },
		"aq-mode" },
	{ { .codec = "libx264", .crf = -1, .qp = -1, .n_options = 1, .option = { "refs=many" } },
		"refs" },
};

TEST(settings_that_cannot_work_are_refused_before_there_is_a_stream)
{
	avlog_install(false);
	for (size_t i = 0; i < N(refused); i++) {
		struct problem problem = { "" };
		CHECK_ROW(encoder_check(&refused[i].settings, &problem) < 0, refused[i].says);
		if (!strstr(problem.text, refused[i].says))
			test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", problem.text,
				refused[i].says);
	}
}

TEST(settings_that_work_are_not_refused)
{
	avlog_install(false);
	static const char *const codecs[] = { "libx264", "libx265", "libsvtav1", "libvpx-vp9",
		"libaom-av1", "mpeg4", "ffv1" };
	for (size_t i = 0; i < N(codecs); i++) {
		struct encoder_settings settings = { codecs[i], .crf = -1, .qp = -1, .gop = -1 };
		struct problem problem;
		/* and the encoder that was not used goes away: SVT-AV1 would hang */
		if (encoder_find(codecs[i]))
			CHECK_ROW(encoder_check(&settings, &problem) == 0, codecs[i]);
	}
}

TEST(parts_are_numbered_before_the_ending)
{
	static const struct {
		const char *path;
		unsigned n;
		const char *part;
	} rows[] = {
		{ "talk.mp4", 0, "talk.mp4" },
		{ "talk.mp4", 1, "talk-1.mp4" },
		{ "/a.b/talk", 12, "/a.b/talk-12" },
		{ "a.b/t.tar.mkv", 2, "a.b/t.tar-2.mkv" },
		{ ".hidden", 1, ".hidden-1" },
	};
	for (size_t i = 0; i < N(rows); i++) {
		char *part;
		CHECK_EQ(names_part(rows[i].path, rows[i].n, &part), 0);
		CHECK_STR(part, rows[i].part);
		free(part);
	}
}
