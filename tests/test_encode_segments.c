/* --segment: what is in each file, and that nothing is lost or doubled between two. */
#include <drm_fourcc.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/names.h"
#include "consumer/encoder/parts.h"
#include "consumer/encoder/record.h"
#include "consumer/encoder/stop.h"
#include "tests/fake_sluice.h"
#include "tests/test.h"
#include "tests/video.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum {
	SECOND_US = 1000000,
	FRAMES = 110, /* of 31 ms: a bit more than three seconds */
};

/* LeakSanitizer asks for this: x265 does not give back all of its own. */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
	return "leak:libx265";
}

struct take {
	struct options options;
	struct stats stats;
	struct problem problem;
	char path[256];
};

/* A recording into files of one second each. */
static void prepare(struct take *take, const char *name)
{
	*take = (struct take){ .options = {
				       .stream = "fake",
				       .output = take->path,
				       .quiet = true,
				       .segment_us = SECOND_US,
				       .encoder = { .codec = "libx264",
					       .crf = 20,
					       .qp = -1,
					       .gop = 1000, /* but where a file begins */
					       .rate = { 30, 1 } },
			       } };
	take->options.limit_frames = 10 * FRAMES;
	snprintf(take->path, sizeof(take->path), "%s/%s", test_tmpdir(), name);
}

static int run(struct take *take, const struct fake_step *steps, unsigned n_steps)
{
	const AVOutputFormat *format;
	avlog_install(false);
	CHECK_EQ(stop_install(), 0);
	int r = parts_check_output(&take->options, &format, &take->problem);
	if (r < 0)
		return r;
	fake_play(steps, n_steps);
	r = record(&take->options, format, &take->stats, &take->problem);
	CHECK_EQ(fake_held(), 0);
	return r;
}

static const char *numbered(const char *pattern, unsigned n)
{
	static char path[512];
	char name[256];
	if (!strchr(pattern, '%'))
		snprintf(name, sizeof(name), "%s", pattern);
	else
		CHECK(av_get_frame_filename(name, sizeof(name), pattern, (int)n) == 0);
	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	return path;
}

static bool begins_with_key(const char *path)
{
	struct video v;
	AVFrame *frame;
	CHECK(video_open(&v, path));
	CHECK(video_next(&v, &frame));
	bool is_key = frame->key_frame;
	video_close(&v);
	return is_key;
}

/* One file: it begins where the last ended, at the time 0, with a key frame. Returns its last. */
static uint32_t check_segment(const char *path, uint32_t first)
{
	struct video_summary s = video_summarize(path);
	if (s.first != first || s.damaged || s.jumps || s.repeats || !s.is_monotonic)
		test_fail(__FILE__, __LINE__, "%s: %u to %u (from %u), %u damaged, %u jumps", path,
			s.first, s.last, first, s.damaged, s.jumps);
	CHECK_EQ(s.last - s.first + 1, s.frames);
	CHECK_ROW(begins_with_key(path), path);
	/* MPEG-TS has its clock begin a little later, and FLV's counts milliseconds */
	CHECK_ROW(s.first_ms < (strstr(path, ".ts") ? 1500 : 1), path);
	CHECK_ROW(s.last_ms - s.first_ms <= 1000, path);
	return s.last;
}

static void check_segments(const char *pattern, unsigned n, uint32_t first, uint32_t last)
{
	uint32_t next = first;
	for (unsigned i = 0; i < n; i++)
		next = check_segment(numbered(pattern, i), next) + 1;
	CHECK_EQ(next, last + 1);
	CHECK(access(numbered(pattern, n), F_OK) < 0);
}

static const struct fake_step three_seconds[] = { { FAKE_FRAMES, .n = FRAMES } };

TEST(each_second_begins_a_file_and_no_frame_is_lost_or_doubled)
{
	static const char *const names[][2] = { { "a.mp4", "a-%05d.mp4" },
		{ "b-%d.mkv", "b-%d.mkv" }, { "c-%03d.ts", "c-%03d.ts" },
		{ "d.flv", "d-%05d.flv" } };
	for (size_t i = 0; i < N(names); i++) {
		struct take t;
		prepare(&t, names[i][0]);
		t.options.limit_frames = FRAMES;
		CHECK_EQ(run(&t, three_seconds, N(three_seconds)), 0);
		CHECK_EQ(t.stats.parts, 4);
		CHECK_EQ(t.stats.n_gaps, 0);
		uint32_t first = (uint32_t)t.stats.first_seq;
		check_segments(names[i][1], 4, first, first + FRAMES - 1);
	}
}

TEST(frames_that_an_encoder_holds_back_are_in_the_right_file)
{
	static const struct {
		const char *codec, *tune, *preset;
	} codecs[] = { { "libx264", "none", "medium" }, { "libx265", "none", "ultrafast" },
		{ "mjpeg", NULL, NULL } };
	for (size_t i = 0; i < N(codecs); i++) {
		struct take t;
		prepare(&t, "a.mkv");
		if (!encoder_find(codecs[i].codec))
			continue;
		t.options.encoder.codec = codecs[i].codec;
		t.options.encoder.tune = codecs[i].tune;
		t.options.encoder.preset = codecs[i].preset;
		if (strcmp(codecs[i].codec, "mjpeg") == 0)
			t.options.encoder.crf = -1;
		t.options.limit_frames = FRAMES;
		CHECK_EQ(run(&t, three_seconds, N(three_seconds)), 0);
		uint32_t first = (uint32_t)t.stats.first_seq;
		check_segments("a-%05d.mkv", 4, first, first + FRAMES - 1);
	}
}

TEST(another_size_begins_another_file_and_another_second)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 50 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 200, 160 },
		{ FAKE_FRAMES, .n = 50 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK_EQ(t.stats.parts, 4);
	check_segments("a-%05d.mp4", 4, 1, 100);
	CHECK_EQ(video_summarize(numbered("a-%05d.mp4", 1)).width, 320);
	CHECK_EQ(video_summarize(numbered("a-%05d.mp4", 2)).width, 200);
}

TEST(a_picture_that_stands_still_goes_on_in_the_next_file)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 5 },
		{ FAKE_STILL, .n = 2300 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mkv");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK(t.stats.parts >= 2);
	for (unsigned i = 0; i < t.stats.parts; i++)
		CHECK(begins_with_key(numbered("a-%05d.mkv", i)));
	CHECK_EQ(video_summarize(numbered("a-%05d.mkv", 1)).first, 5);
}

TEST(a_disk_that_becomes_full_costs_what_comes_after)
{
	/* files that fit, until a larger picture needs more */
	static const struct fake_step grows[] = { { FAKE_FRAMES, .n = 20 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 1280, 720 }, { FAKE_FRAMES, .n = 20 } };
	enum { ROOM = 10000000 };
	struct take t;
	prepare(&t, "a.nut");
	t.options.segment_us = 200000;
	t.options.encoder.codec = "rawvideo";
	t.options.encoder.crf = -1;
	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ ROOM, ROOM }), 0);
	CHECK_EQ(run(&t, grows, N(grows)), -EFBIG);
	CHECK(strstr(t.problem.text, "cannot write") && strstr(t.problem.text, "a-0000"));
	check_segment(numbered("a-%05d.nut", 0), 1);
}

TEST(names_are_those_that_ffmpegs_users_know)
{
	static const struct {
		const char *pattern;
		unsigned n;
		const char *name;
	} rows[] = {
		{ "talk.mp4", 0, "talk-00000.mp4" }, { "/a.b/talk", 12, "/a.b/talk-00012" },
		{ "talk-%d.mkv", 7, "talk-7.mkv" }, { "talk-%03d.mkv", 7, "talk-007.mkv" },
		{ "100%%-%02d.mkv", 7, "100%-07.mkv" },
		{ "%Y%m%d-%H%M%S.mkv", 7, "20010203-040506.mkv" },
		{ "%H-%d.ts", 7, "04-03.ts" }, /* beside others, %d is the day */
	};
	struct tm local = { .tm_year = 101,
		.tm_mon = 1,
		.tm_mday = 3,
		.tm_hour = 4,
		.tm_min = 5,
		.tm_sec = 6,
		.tm_isdst = -1 };
	time_t begin = mktime(&local);
	for (size_t i = 0; i < N(rows); i++) {
		char *name;
		CHECK_EQ(names_segment(rows[i].pattern, rows[i].n, begin, &name), 0);
		CHECK_STR(name, rows[i].name);
		free(name);
	}
}

TEST(a_time_that_two_files_share_does_not_cost_the_first)
{
	struct take t;
	char path[256], name[64];
	time_t before = time(NULL);
	prepare(&t, "%Y.mkv");
	t.options.limit_frames = FRAMES;
	CHECK_EQ(run(&t, three_seconds, N(three_seconds)), 0);
	struct tm local;
	CHECK(localtime_r(&before, &local));
	CHECK(strftime(name, sizeof(name), "%Y", &local) == 4);
	snprintf(path, sizeof(path), "%s/%s.mkv", test_tmpdir(), name);
	uint32_t next = check_segment(path, (uint32_t)t.stats.first_seq) + 1;
	snprintf(path, sizeof(path), "%s/%s-1.mkv", test_tmpdir(), name);
	check_segment(path, next);
}

TEST(what_is_no_file_has_no_segments)
{
	static const char *const outputs[] = { "pipe:1", "rtmp://localhost/live/a" };
	for (size_t i = 0; i < N(outputs); i++) {
		struct take t;
		prepare(&t, "a.mkv");
		t.options.output = outputs[i];
		t.options.limit_frames = FRAMES;
		CHECK_EQ(run(&t, three_seconds, N(three_seconds)), -EINVAL);
		CHECK(strstr(t.problem.text, "--segment"));
	}
}

/* "kept", so that a file that was written over shows. */
static void make_file(const char *path)
{
	FILE *file = fopen(path, "we");
	CHECK(file && fputs("kept", file) >= 0 && fclose(file) == 0);
}

static bool is_kept(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && st.st_size == 4;
}

static bool is_video(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && st.st_size > 4 && begins_with_key(path);
}

static const struct fake_step some[] = { { FAKE_FRAMES, .n = FRAMES }, { .kind = FAKE_INTERRUPT } };

TEST(with_keep_segments_take_the_names_that_are_free)
{
	struct take t;
	prepare(&t, "a-%d.mkv");
	t.options.keep = true;
	make_file(numbered("a-%d.mkv", 0));
	make_file(numbered("a-%d.mkv", 2));
	make_file(numbered("a-%d.mkv", 3));
	CHECK_EQ(run(&t, some, N(some)), 0);
	CHECK_EQ(t.stats.parts, 4);
	CHECK(is_kept(numbered("a-%d.mkv", 0)) && is_kept(numbered("a-%d.mkv", 2)));
	CHECK(is_kept(numbered("a-%d.mkv", 3)));
	CHECK(is_video(numbered("a-%d.mkv", 1)) && is_video(numbered("a-%d.mkv", 4)));
	CHECK(is_video(numbered("a-%d.mkv", 5)) && is_video(numbered("a-%d.mkv", 6)));
}

TEST(with_keep_one_file_takes_the_first_name_that_is_free)
{
	struct take t;
	prepare(&t, "a.mkv");
	t.options.segment_us = 0;
	t.options.keep = true;
	make_file(t.path);
	make_file(numbered("a-%d.mkv", 1));
	CHECK_EQ(run(&t, some, N(some)), 0);
	CHECK(is_kept(t.path) && is_kept(numbered("a-%d.mkv", 1)));
	CHECK(is_video(numbered("a-%d.mkv", 2)));
}

TEST(with_keep_a_name_of_the_time_alone_gets_a_number)
{
	struct take t;
	time_t now = time(NULL);
	char year[64];
	prepare(&t, "%Y.mkv");
	t.options.keep = true;
	strftime(year, sizeof(year), "%Y.mkv", localtime(&now));
	make_file(numbered(year, 0));
	CHECK_EQ(run(&t, some, N(some)), 0);
	CHECK(is_kept(numbered(year, 0)));
	strftime(year, sizeof(year), "%Y-%%d.mkv", localtime(&now));
	for (unsigned i = 1; i <= 4; i++)
		CHECK(is_video(numbered(year, i)));
}

TEST(keep_sees_through_ffmpegs_name_of_a_file)
{
	struct take t;
	char url[300];
	prepare(&t, "a.mkv");
	snprintf(url, sizeof(url), "file:%s", t.path);
	t.options.output = url;
	t.options.segment_us = 0;
	t.options.keep = true;
	make_file(t.path);
	CHECK_EQ(run(&t, some, N(some)), 0);
	CHECK(is_kept(t.path) && is_video(numbered("a-%d.mkv", 1)));
}

TEST(a_segment_shorter_than_a_tick_is_one_tick)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 5 },
		{ .kind = FAKE_INTERRUPT } };
	struct take t;
	prepare(&t, "a.mkv");
	t.options.segment_us = 1;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK_EQ(t.stats.parts, 5);
}

TEST(a_codec_that_takes_no_wishes_has_a_key_frame_each_second)
{
	struct take t;
	prepare(&t, "a.mkv");
	if (!encoder_find("libsvtav1"))
		test_skip("FFmpeg has no libsvtav1 here");
	t.options.encoder.codec = "libsvtav1";
	t.options.encoder.gop = -1;
	t.options.encoder.crf = 50;
	t.options.limit_frames = FRAMES;
	CHECK_EQ(run(&t, three_seconds, N(three_seconds)), 0);
	CHECK(t.stats.parts >= 3);
	uint32_t next = (uint32_t)t.stats.first_seq;
	for (unsigned i = 0; i < t.stats.parts; i++) {
		struct video_summary s = video_summarize(numbered("a-%05d.mkv", i));
		CHECK(s.first == next && s.damaged == 0 && s.jumps == 0 && s.begins_with_key);
		next = s.last + 1;
	}
	CHECK_EQ(next, t.stats.first_seq + FRAMES);
}
