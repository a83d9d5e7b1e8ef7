/* The command line of sluice-encode. */
#include <drm_fourcc.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/encoder/options.h"
#include "tests/test.h"

enum { ARGS_MAX = 160, LINE_BYTES = 8192 };

/* Splits at spaces. The words live until the next call. */
static int parse(const char *line, struct options *options, struct problem *problem)
{
	static char copy[LINE_BYTES], program[] = "sluice-encode";
	char *argv[ARGS_MAX + 1] = { program };
	int argc = 1;
	CHECK(strlen(line) < sizeof(copy));
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
		CHECK(argc < ARGS_MAX);
		argv[argc++] = word;
	}
	problem->text[0] = 0;
	return options_parse(options, argc, argv, problem);
}

TEST(every_option_of_the_picture_is_understood)
{
	struct options o;
	struct problem p;
	CHECK_EQ(parse("--stream desk -c libx265 -b 4M -preset fast -tune none -g 50 "
		       "-r 30000/1001 -o a=b -o c=d=e --pix-fmt nv12 out",
			 &o, &p),
		OPTIONS_RUN);
	CHECK_STR(o.encoder.codec, "libx265");
	CHECK_EQ(o.encoder.bit_rate, 4000000);
	CHECK_STR(o.encoder.preset, "fast");
	CHECK_STR(o.encoder.tune, "none");
	CHECK(o.encoder.gop == 50 && o.encoder.n_options == 2);
	CHECK(o.encoder.rate.num == 30000 && o.encoder.rate.den == 1001);
	CHECK_STR(o.encoder.option[1], "c=d=e");
	CHECK_STR(o.encoder.pix_fmt, "nv12");
}

TEST(every_option_of_the_source_and_the_output_is_understood)
{
	struct options o;
	struct problem p;
	CHECK_EQ(parse("--socket /run/s --stream desk -t 1:30 --frames 9 -f mp4 --queue fifo:9 "
		       "--reserved 3 --reconnect --wait --stats s.json --verbose out",
			 &o, &p),
		OPTIONS_RUN);
	CHECK_STR(o.socket, "/run/s");
	CHECK_STR(o.stream, "desk");
	CHECK(o.limit_us == 90000000 && o.limit_frames == 9);
	CHECK_STR(o.muxer, "mp4");
	CHECK(o.view.delivery == SLUICE_FIFO && o.view.fifo_depth == 9);
	CHECK(o.view.reserved_holds == 3 && o.view.max_holds == 3);
	CHECK(o.reconnect && o.wait && o.verbose && !o.quiet);
	CHECK_STR(o.stats_path, "s.json");
	CHECK_STR(o.output, "out");
}

TEST(what_is_not_given_has_its_usual_value)
{
	struct options o;
	struct problem p;
	CHECK_EQ(parse("--stream desk out.mp4", &o, &p), OPTIONS_RUN);
	CHECK(!o.socket && !o.muxer && !o.stats_path && !o.wait && !o.reconnect);
	CHECK_STR(o.encoder.codec, "libx264");
	CHECK(o.encoder.crf < 0 && o.encoder.qp < 0 && o.encoder.gop < 0);
	CHECK_EQ(o.encoder.bit_rate, 0);
	CHECK_EQ(o.limit_us, 0);
	CHECK(o.view.delivery == SLUICE_FIFO && o.view.fifo_depth == 4);
	CHECK_EQ(o.view.max_holds, 0);
}

TEST(what_the_broker_is_asked_for_is_in_the_views_request)
{
	struct options o;
	struct problem p;
	CHECK_EQ(parse("--stream desk --format NV12 --size 1280x720 --max-rate 24 out.mp4", &o, &p),
		OPTIONS_RUN);
	CHECK_EQ(o.view.fourcc, DRM_FORMAT_NV12);
	CHECK(o.view.width == 1280 && o.view.height == 720);
	CHECK_EQ(o.view.min_interval_ns, 41666667);
	CHECK(!o.muxer);
	CHECK_EQ(parse("--stream desk out.mp4", &o, &p), OPTIONS_RUN);
	CHECK(o.view.fourcc == 0 && o.view.width == 0 && o.view.height == 0);
	CHECK_EQ(o.view.min_interval_ns, 0);
}

static const struct {
	const char *text;
	uint32_t width, height;
} sizes[] = {
	{ "1280x720", 1280, 720 },
	{ "720p", 0, 720 },
	{ "1080p", 0, 1080 },
	{ "1280x", 1280, 0 },
	{ "1280x-1", 1280, 0 },
	{ "-1x720", 0, 720 },
	{ "x720", 0, 720 },
	{ "1x1", 1, 1 },
	{ "16384x16384", 16384, 16384 },
	{ "hd720", 1280, 720 },
	{ "vga", 640, 480 },
};

TEST(a_size_is_written_in_several_ways)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char line[64];
		struct options o;
		struct problem p;
		snprintf(line, sizeof(line), "--stream s -s %s out.mp4", sizes[i].text);
		CHECK_ROW(parse(line, &o, &p) == OPTIONS_RUN, line);
		CHECK_ROW(o.view.width == sizes[i].width, line);
		CHECK_ROW(o.view.height == sizes[i].height, line);
	}
}

TEST(a_pixel_format_has_our_name_or_ffmpegs)
{
	static const struct {
		const char *text;
		uint32_t fourcc;
	} rows[] = {
		{ "NV12", DRM_FORMAT_NV12 },
		{ "nv12", DRM_FORMAT_NV12 },
		{ "I420", DRM_FORMAT_YUV420 },
		{ "yuv420p", DRM_FORMAT_YUV420 },
		{ "bgr0", DRM_FORMAT_XRGB8888 },
		{ "BGRx", DRM_FORMAT_XRGB8888 },
		{ "p010le", DRM_FORMAT_P010 },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char line[64];
		struct options o;
		struct problem p;
		snprintf(line, sizeof(line), "--stream s --format %s out.mp4", rows[i].text);
		CHECK_ROW(parse(line, &o, &p) == OPTIONS_RUN, line);
		CHECK_ROW(o.view.fourcc == rows[i].fourcc, line);
	}
}

TEST(the_rate_controls_options_are_ffmpegs)
{
	struct options o;
	struct problem p;
	CHECK_EQ(parse("--stream s -b:v 4M -maxrate 6M -bufsize:v 3M -bf 2 -profile:v high -g:v 9 "
		       "-r:v 25 -vcodec libx264 -preset:v fast out.mp4",
			 &o, &p),
		OPTIONS_RUN);
	CHECK(o.encoder.bit_rate == 4000000 && o.encoder.max_bit_rate == 6000000);
	CHECK(o.encoder.buffer_bits == 3000000 && o.encoder.b_frames == 2);
	CHECK(o.encoder.gop == 9 && o.encoder.rate.num == 25);
	CHECK_STR(o.encoder.profile, "high");
	CHECK_STR(o.encoder.preset, "fast");
}

TEST(a_constant_rate_is_60_unless_it_is_given)
{
	struct options o;
	struct problem p;
	CHECK_EQ(parse("--stream s --cfr out.mp4", &o, &p), OPTIONS_RUN);
	CHECK(o.cfr && o.encoder.rate.num == 60 && o.encoder.rate.den == 1);
	CHECK_EQ(parse("--stream s --cfr -r ntsc out.mp4", &o, &p), OPTIONS_RUN);
	CHECK(o.cfr && o.encoder.rate.num == 30000 && o.encoder.rate.den == 1001);
	CHECK_EQ(parse("--stream s out.mp4", &o, &p), OPTIONS_RUN);
	CHECK(!o.cfr && o.encoder.rate.num == 0);
}

static const char *const good[] = {
	"-crf 18.5",
	"--crf 0",
	"-crf 63",
	"-qp 0",
	"-qp 255",
	"-b 1000",
	"-b 1k",
	"-b 2G",
	"-b 1.5M",
	"-b:v 800k",
	"-c:v ffv1",
	"-codec ffv1",
	"-pix_fmt yuv420p",
	"-g 0",
	"-g 100000",
	"-r 1000",
	"-r ntsc",
	"-t 0.5",
	"-t 31622400",
	"-t 500ms",
	"--frames 1",
	"--frames 2000000000",
	"-frames:v 3",
	"-bf 0",
	"-bf 16",
	"-maxrate 4M",
	"-b 2M -maxrate 2M -bufsize 1M",
	"-crf 20 -maxrate 4M",
	"--size 720p",
	"--format yuv420p",
	"--max-rate 30",
	"--max-rate 30000/1001",
	"-fpsmax 30",
	"--cfr",
	"--control /tmp/s",
	"--muxer matroska",
	"--queue mailbox",
	"--queue fifo",
	"--queue fifo:1",
	"--queue fifo:32",
	"--holds 1",
	"--holds 16",
	"--reserved 16",
	"--reserved 3 --holds 3",
	"-q",
};

TEST(each_of_these_is_taken)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char line[256];
		struct options o;
		struct problem p;
		/* after the output as well as before it */
		snprintf(line, sizeof(line), "--stream s out.mkv %s", good[i]);
		CHECK_ROW(parse(line, &o, &p) == OPTIONS_RUN, good[i]);
		snprintf(line, sizeof(line), "--stream s %s out.mkv", good[i]);
		CHECK_ROW(parse(line, &o, &p) == OPTIONS_RUN, good[i]);
		CHECK_ROW(strcmp(o.output, "out.mkv") == 0, good[i]);
	}
}

static const struct {
	const char *line;
	const char *says;
} bad[] = {
	{ "", "OUTPUT is missing" },
	{ "out.mp4", "--stream is missing" },
	{ "--stream s", "OUTPUT is missing" },
	{ "--stream s a.mp4 b.mp4", "b.mp4 is one too many" },
	{ "--stream s out.mp4 --nonsense", "no option --nonsense" },
	{ "--stream s out.mp4 -Z", "no option -Z" },
	{ "--stream s out.mp4 -c", "-c needs a value" },
	{ "--stream s out.mp4 -crf", "-crf needs a value" },
	{ "--stream s out.mp4 -crf -0.1", "a number from 0 to 63" },
	{ "--stream s out.mp4 -crf 63.1", "a number from 0 to 63" },
	{ "--stream s out.mp4 -crf nan", "a number from 0 to 63" },
	{ "--stream s out.mp4 -crf 20x", "a number from 0 to 63" },
	{ "--stream s out.mp4 -qp 256", "from 0 to 255" },
	{ "--stream s out.mp4 -qp -1", "from 0 to 255" },
	{ "--stream s out.mp4 -b 999", "from 1k to 2000M" },
	{ "--stream s out.mp4 -b 2000000001", "from 1k to 2000M" },
	{ "--stream s out.mp4 -b 4Mbit", "800k or 4M" },
	{ "--stream s out.mp4 -b inf", "800k or 4M" },
	{ "--stream s out.mp4 -g -1", "from 0 to 100000" },
	{ "--stream s out.mp4 -g 100001", "from 0 to 100000" },
	{ "--stream s out.mp4 -g 99999999999999999999", "from 0 to 100000" },
	{ "--stream s out.mp4 -r 1001", "up to 1000" },
	{ "--stream s out.mp4 -r 0", "up to 1000" },
	{ "--stream s out.mp4 -r fast", "30000/1001" },
	{ "--stream s out.mp4 -t 0", "more than 0" },
	{ "--stream s out.mp4 -t -1", "more than 0" },
	{ "--stream s out.mp4 -t 31622401", "up to 31622400 s" },
	{ "--stream s out.mp4 -t soon", "a time such as" },
	{ "--stream s out.mp4 --frames 0", "from 1 to 2000000000" },
	{ "--stream s out.mp4 --frames 2000000001", "from 1 to 2000000000" },
	{ "--stream s out.mp4 --queue fifo:0", "N from 1 to 32" },
	{ "--stream s out.mp4 --queue fifo:33", "N from 1 to 32" },
	{ "--stream s out.mp4 --queue fifo:", "N from 1 to 32" },
	{ "--stream s out.mp4 --queue lifo", "mailbox, or fifo:N" },
	{ "--stream s out.mp4 --holds 0", "from 1 to 16" },
	{ "--stream s out.mp4 --holds 17", "from 1 to 16" },
	{ "--stream s out.mp4 --reserved 17", "from 1 to 16" },
	{ "--stream s out.mp4 --reserved 2 --holds 3", "leave --holds out" },
	{ "--stream s out.mp4 -o novalue", "key=value" },
	{ "--stream s out.mp4 -o =1", "key=value" },
	{ "--stream s out.mp4 --size 1280", "1280x720, 720p" },
	{ "--stream s out.mp4 --size x", "1280x720, 720p" },
	{ "--stream s out.mp4 --size 0x0", "1280x720, 720p" },
	{ "--stream s out.mp4 --size -1x-1", "1280x720, 720p" },
	{ "--stream s out.mp4 --size 16385x1", "up to 16384" },
	{ "--stream s out.mp4 --size 0p", "1280x720, 720p" },
	{ "--stream s out.mp4 --size 720p60", "1280x720, 720p" },
	{ "--stream s out.mp4 --size 1280x720x3", "1280x720, 720p" },
	{ "--stream s out.mp4 --size 99999999999999x2", "1280x720, 720p" },
	{ "--stream s out.mp4 --format plaid", "NV12, I420" },
	{ "--stream s out.mp4 --format mp4", "a container is -f" },
	{ "--stream s out.mp4 --format vaapi", "NV12, I420" },
	{ "--stream s out.mp4 --max-rate 0", "frames per second" },
	{ "--stream s out.mp4 --max-rate 4M", "frames per second" },
	{ "--stream s out.mp4 -maxrate 30", "800k or 4M" },
	{ "--stream s out.mp4 -b 4M -maxrate 3M", "less than -b" },
	{ "--stream s out.mp4 -bufsize 3M", "for -b or -maxrate" },
	{ "--stream s out.mp4 -bf 17", "from 0 to 16" },
	{ "--stream s out.mp4 -bf -1", "from 0 to 16" },
	{ "--stream s out.mp4 --quiet --verbose", "choose one" },
	{ "--stream s out.mp4 -b 4M -crf 20", "choose one" },
	{ "--stream s out.mp4 -qp 3 -crf 20", "choose one" },
	/* 65 bytes */
	{ "--stream 01234567890123456789012345678901234567890123456789012345678901234 out.mp4",
		"at most 64 bytes" },
};

TEST(each_of_these_is_refused_with_what_it_should_be)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct options o;
		struct problem p;
		CHECK_ROW(parse(bad[i].line, &o, &p) < 0, bad[i].line);
		if (!strstr(p.text, bad[i].says))
			test_fail(__FILE__, __LINE__, "%s: \"%s\" does not say \"%s\"", bad[i].line,
				p.text, bad[i].says);
		CHECK_ROW(!strchr(p.text, '\n'), bad[i].line);
	}
}

TEST(one_codec_option_too_many_is_refused)
{
	char line[LINE_BYTES];
	size_t n = (size_t)snprintf(line, sizeof(line), "--stream s out.mp4");
	struct options o;
	struct problem p;
	for (int i = 0; i < ENCODER_OPTIONS_MAX; i++)
		n += (size_t)snprintf(line + n, sizeof(line) - n, " -o k=v");
	CHECK_EQ(parse(line, &o, &p), OPTIONS_RUN);
	CHECK_EQ(o.encoder.n_options, ENCODER_OPTIONS_MAX);
	snprintf(line + n, sizeof(line) - n, " -o k=v");
	CHECK_EQ(parse(line, &o, &p), -ERANGE);
}

TEST(one_byte_too_many_is_refused)
{
	char line[LINE_BYTES];
	struct options o;
	struct problem p;
	snprintf(line, sizeof(line), "--stream s --socket %0*d out.mp4", OPTIONS_TEXT_MAX, 0);
	CHECK_EQ(parse(line, &o, &p), OPTIONS_RUN);
	snprintf(line, sizeof(line), "--stream s --socket %0*d out.mp4", OPTIONS_TEXT_MAX + 1, 0);
	CHECK_EQ(parse(line, &o, &p), -ERANGE);
	snprintf(line, sizeof(line), "--stream s %0*d", OPTIONS_TEXT_MAX + 1, 0);
	CHECK_EQ(parse(line, &o, &p), -EINVAL);
}

TEST(a_dash_is_the_standard_output)
{
	struct options o;
	struct problem p;
	CHECK_EQ(parse("--stream s -f mpegts -", &o, &p), OPTIONS_RUN);
	CHECK_STR(o.output, "pipe:1");
}
