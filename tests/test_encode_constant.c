/* --cfr: the file has exactly the rate that was asked for, whatever came from the stream. */
#include <drm_fourcc.h>
#include <math.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/record.h"
#include "consumer/encoder/stop.h"
#include "tests/fake_sluice.h"
#include "tests/test.h"
#include "tests/video.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

struct take {
	struct options options;
	struct stats stats;
	struct problem problem;
	char path[256];
};

/* A recording of so many frames a second into a file of the test's folder. */
static void prepare(struct take *take, const char *name, int rate)
{
	*take = (struct take){ .options = {
				       .stream = "fake",
				       .output = take->path,
				       .quiet = true,
				       .cfr = true,
				       .encoder = { .codec = "libx264",
					       .crf = 20,
					       .qp = -1,
					       .gop = -1,
					       .rate = { rate, 1 } },
			       } };
	snprintf(take->path, sizeof(take->path), "%s/%s", test_tmpdir(), name);
}

static int run(struct take *take, const struct fake_step *steps, unsigned n_steps)
{
	const AVOutputFormat *format;
	const struct options *o = &take->options;
	avlog_install(false);
	CHECK_EQ(stop_install(), 0);
	if (output_check(o->output, o->muxer, encoder_find(o->encoder.codec), &format,
		    &take->problem) < 0)
		test_fail(__FILE__, __LINE__, "%s", take->problem.text);
	fake_play(steps, n_steps);
	int r = record(o, format, &take->stats, &take->problem);
	CHECK_EQ(fake_held(), 0);
	return r;
}

/* A file of n frames, frame i at i/60, whose numbers only go up. */
static struct video_summary check_constant_rate(const char *path, unsigned n)
{
	struct video_summary s = video_summarize(path);
	struct video v;
	AVFrame *frame;
	CHECK_EQ(s.frames, n);
	CHECK_EQ(s.damaged, 0);
	CHECK(video_open(&v, path));
	for (unsigned i = 0; i < n; i++) {
		CHECK(video_next(&v, &frame));
		if (fabs(video_ms(&v, frame) - i * 1000.0 / 60) > 0.51)
			test_fail(__FILE__, __LINE__, "%s: frame %u is at %.2f ms", path, i,
				video_ms(&v, frame));
	}
	video_close(&v);
	return s;
}

TEST(with_cfr_the_file_has_exactly_the_rate)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 100 } };
	static const char *const names[] = { "a.mp4", "a.mkv" };
	for (size_t i = 0; i < N(names); i++) {
		struct take t;
		prepare(&t, names[i], 60);
		t.options.limit_us = 2000000;
		CHECK_EQ(run(&t, steps, N(steps)), 0);
		struct video_summary s = check_constant_rate(t.path, 120);
		/* 65 pictures came in these two seconds, the last one just before their end */
		CHECK_EQ(t.stats.frames, 64);
		CHECK_EQ(t.stats.repeated, 56);
		CHECK_EQ(s.repeats, 56);
		CHECK(t.stats.unused == 1 && s.jumps == 0 && t.stats.n_gaps == 0);
	}
}

TEST(with_cfr_pictures_that_nobody_sees_are_counted)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 100 } };
	struct take t;
	prepare(&t, "a.mp4", 8);
	t.options.limit_us = 2000000;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	struct video_summary s = video_summarize(t.path);
	CHECK(s.frames == 16 && s.repeats == 0 && s.damaged == 0);
	CHECK_EQ(t.stats.frames + t.stats.unused, 65);
	CHECK_EQ(t.stats.n_gaps, s.jumps);
	/* the newest one of each eighth of a second, counted from the middle of frame 0 */
	CHECK_EQ(s.last - s.first, (15 * 125 + 62) * 1000000u / FAKE_FRAME_NS);
}

TEST(with_cfr_a_picture_that_stands_still_goes_on)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 3 },
		{ FAKE_STILL, .n = 1500 },
		{ FAKE_FRAMES, .n = 3 },
		{ FAKE_TORN, .n = 1 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4", 60);
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	struct video_summary s =
		check_constant_rate(t.path, (unsigned)(t.stats.frames + t.stats.repeated));
	CHECK(s.first == 1 && s.last == 6 && s.jumps == 0);
	CHECK(s.frames >= 90 && s.frames < 120 * test_slowness());
	CHECK_EQ(t.stats.torn, 1);
}

TEST(with_cfr_another_size_begins_another_file_of_that_rate)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 20 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 200, 160 },
		{ FAKE_FRAMES, .n = 20 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	char second[256];
	prepare(&t, "a.mp4", 60);
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK_EQ(t.stats.parts, 2);
	unsigned first_frames = video_summarize(t.path).frames;
	check_constant_rate(t.path, first_frames);
	snprintf(second, sizeof(second), "%s/a-1.mp4", test_tmpdir());
	struct video_summary s = check_constant_rate(
		second, (unsigned)(t.stats.frames + t.stats.repeated) - first_frames);
	CHECK(s.first == 21 && s.last == 40 && s.width == 200);
}

TEST(with_cfr_a_time_that_leaps_is_not_believed)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ FAKE_LEAP, .n = 3600000 },
		{ FAKE_FRAMES, .n = 3 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4", 60);
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK(t.stats.frames + t.stats.repeated < 60 * 60 * test_slowness());
	check_constant_rate(t.path, (unsigned)(t.stats.frames + t.stats.repeated));
}

TEST(with_cfr_a_limit_counts_the_files_frames)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 100 } };
	struct take t;
	prepare(&t, "a.mp4", 60);
	t.options.limit_frames = 50;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_constant_rate(t.path, 50);
}

/* --max-rate with --queue fifo, each frame at its own time: what is left out is no loss, and a loss is one all the same. */
TEST(frames_that_a_rate_leaves_out_are_skipped_and_no_gaps)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 5 },
		{ FAKE_PACED, .n = 2 },
		{ FAKE_FRAMES, .n = 5 },
		{ FAKE_SKIP, .n = 3 },
		{ FAKE_FRAMES, .n = 5 },
		{ FAKE_PACED, .n = 1 },
		{ FAKE_FRAMES, .n = 5 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mkv", 30);
	t.options.cfr = false;
	t.options.view.delivery = SLUICE_FIFO;
	t.options.view.min_interval_ns = 1;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK_EQ(t.stats.frames, 20);
	CHECK_EQ(t.stats.skipped, 3);
	CHECK_EQ(t.stats.dropped, 3);
	CHECK_EQ(t.stats.n_gaps, 1);
	CHECK(t.stats.gap[0].from == 13 && t.stats.gap[0].to == 15);
}
