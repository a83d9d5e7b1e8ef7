/* A whole recording, from a broker that plays a script into a file that is read back. */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* A recording with the usual options into a file of the test's folder. */
static void prepare(struct take *take, const char *name)
{
	*take = (struct take){ .options = {
				       .stream = "fake",
				       .output = take->path,
				       .quiet = true,
				       .encoder = { .codec = "libx264",
					       .crf = 20,
					       .qp = -1,
					       .gop = -1,
					       .rate = { 30, 1 } },
			       } };
	if (strchr(name, ':'))
		snprintf(take->path, sizeof(take->path), "%s", name);
	else
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

/* The file has these numbers and no others, in order, whole and ever later. */
static void check_file(const char *path, uint32_t first, uint32_t last)
{
	struct video_summary s = video_summarize(path);
	CHECK_EQ(s.frames, last - first + 1);
	CHECK_EQ(s.first, first);
	CHECK_EQ(s.last, last);
	CHECK_EQ(s.damaged, 0);
	CHECK_EQ(s.jumps, 0);
	CHECK(s.is_monotonic);
}

static const char *in_tmp(const char *name)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	return path;
}

TEST(every_frame_is_in_the_file_at_the_time_that_it_was_captured)
{
	static const char *const names[] = { "a.mp4", "a.mkv", "a.ts", "a.flv" };
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 90 },
		{ .kind = FAKE_INTERRUPT } };
	for (size_t i = 0; i < N(names); i++) {
		struct take t;
		prepare(&t, names[i]);
		t.options.limit_frames = 90;
		CHECK_EQ(run(&t, steps, N(steps)), 0);
		uint32_t first = (uint32_t)t.stats.first_seq;
		check_file(t.path, first, first + 89);
		struct video_summary s = video_summarize(t.path);
		/* to the millisecond that Matroska and FLV count in */
		CHECK_ROW(
			fabs(s.last_ms - s.first_ms - 89 * (FAKE_FRAME_NS / 1e6)) < 1.1, names[i]);
		CHECK_EQ(t.stats.frames, 90);
		CHECK_EQ(t.stats.n_gaps, 0);
		CHECK_EQ(t.stats.parts, 1);
		struct stat st;
		CHECK(stat(t.path, &st) == 0);
		CHECK_EQ(t.stats.bytes, st.st_size);
	}
}

TEST(an_interrupt_finishes_the_file)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 40 },
		{ .kind = FAKE_INTERRUPT } };
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_file(t.path, 1, 40);
}

TEST(nothing_at_all_is_no_recording)
{
	static const struct fake_step steps[] = { { FAKE_STILL, .n = 100 },
		{ .kind = FAKE_INTERRUPT } };
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), -ENODATA);
	CHECK(strstr(t.problem.text, "no frame"));
	CHECK(access(t.path, F_OK) < 0); /* and what was there before would still be */
}

TEST(a_frame_that_was_written_again_while_it_was_read_is_not_in_the_file)
{
	static const struct fake_step steps[] = {
		{ FAKE_TORN, .n = 2 }, /* the first of all, too */
		{ FAKE_FRAMES, .n = 10 },
		{ FAKE_TORN, .n = 3 },
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mkv");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	struct video_summary s = video_summarize(t.path);
	CHECK(s.frames == 20 && s.damaged == 0 && s.jumps == 1);
	CHECK(s.first == 3 && s.last == 25);
	CHECK_EQ(t.stats.torn, 5);
	CHECK_EQ(t.stats.n_gaps, 1);
	CHECK(t.stats.gap[0].from == 13 && t.stats.gap[0].to == 15);
}

TEST(a_torn_picture_is_not_repeated_either)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ FAKE_TORN, .n = 1 },
		{ FAKE_STILL, .n = 1300 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mkv");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	struct video_summary s = video_summarize(t.path);
	CHECK(t.stats.repeated >= 1);
	CHECK(s.last == 10 && s.damaged == 0 && s.repeats == t.stats.repeated);
}

TEST(missed_frames_are_listed_and_the_list_has_an_end)
{
	static struct fake_step steps[2 * STATS_GAPS_MAX + 20];
	struct take t;
	unsigned n = 0;
	for (; n < 2 * STATS_GAPS_MAX + 10; n += 2) {
		steps[n] = (struct fake_step){ FAKE_FRAMES, .n = 1 };
		steps[n + 1] = (struct fake_step){ FAKE_SKIP, .n = 2 };
	}
	steps[n++] = (struct fake_step){ FAKE_FRAMES, .n = 1 };
	steps[n++] = (struct fake_step){ .kind = FAKE_INTERRUPT };
	prepare(&t, "a.mkv");
	CHECK_EQ(run(&t, steps, n), 0);
	CHECK_EQ(t.stats.n_gaps, STATS_GAPS_MAX + 5);
	CHECK_EQ(t.stats.skipped, 2 * (STATS_GAPS_MAX + 5));
	CHECK_EQ(t.stats.gap[0].from, 2);
	CHECK_EQ(t.stats.gap[0].to, 3);
	CHECK_EQ(t.stats.gap[STATS_GAPS_MAX - 1].to, 3 * STATS_GAPS_MAX);
	CHECK_EQ(t.stats.encoding.count, t.stats.frames); /* what follows the list in memory */
}

TEST(times_that_go_back_are_put_right)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ FAKE_BACK, .n = 500 },
		{ FAKE_FRAMES, .n = 30 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_file(t.path, 1, 40);
}

TEST(a_recording_begins_when_it_begins_and_not_when_the_desktop_last_moved)
{
	static const struct fake_step steps[] = {
		{ FAKE_OLD, .n = 60000 }, /* the first frame is a minute old */
		{ FAKE_FRAMES, .n = 31 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4");
	t.options.limit_us = 5000000;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_file(t.path, 1, 31);
	CHECK(fabs(video_summarize(t.path).last_ms - 30 * (FAKE_FRAME_NS / 1e6)) < 10);
	CHECK_EQ(t.stats.encoding.count, 30); /* its minute is nobody's latency */
}

TEST(a_frame_that_is_sent_again_is_in_the_file_once)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_AGAIN },
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_file(t.path, 1, 19);
}

TEST(another_size_goes_on_in_another_file)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 200, 160 },
		{ FAKE_FRAMES, .n = 12 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_NV12, 200, 160 },
		{ FAKE_FRAMES, .n = 5 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_NV12, 200, 160 }, /* another generation, no change */
		{ FAKE_FRAMES, .n = 5 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK_EQ(t.stats.parts, 3);
	check_file(in_tmp("a.mp4"), 1, 10);
	check_file(in_tmp("a-1.mp4"), 11, 22);
	check_file(in_tmp("a-2.mp4"), 23, 32);
	struct video_summary s = video_summarize(in_tmp("a-1.mp4"));
	CHECK(s.width == 200 && s.height == 160 && s.first_ms < 1);
	CHECK_EQ(t.stats.n_gaps, 0);
}

TEST(a_torn_frame_of_another_size_begins_no_file)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 200, 160 },
		{ FAKE_TORN, .n = 1 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 320, 240 },
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK_EQ(t.stats.parts, 1);
	CHECK_EQ(video_summarize(t.path).frames, 20);
}

/* An exit status. fd [take] */
static int copy_to_file(int fd, const char *path)
{
	char buf[65536];
	ssize_t n;
	int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), status = 0;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (write(file, buf, (size_t)n) != n)
			status = 1;
	close(file);
	close(fd);
	return status;
}

/* Reads descriptor 1 into a file. */
static pid_t copy_stdout_to(const char *path, int *saved_out)
{
	int pipefd[2];
	CHECK(pipe2(pipefd, O_CLOEXEC) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(pipefd[1]);
		_exit(copy_to_file(pipefd[0], path));
	}
	*saved_out = fcntl(1, F_DUPFD_CLOEXEC, 10);
	CHECK(dup2(pipefd[1], 1) == 1);
	close(pipefd[0]);
	close(pipefd[1]);
	return pid;
}

static void restore_stdout(int saved, pid_t pid)
{
	int status;
	CHECK(dup2(saved, 1) == 1);
	close(saved);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

TEST(a_pipe_cannot_go_on_in_another_file_and_says_so)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 200, 160 },
		{ FAKE_FRAMES, .n = 10 },
	};
	struct take t;
	int saved;
	prepare(&t, "pipe:1");
	t.options.muxer = "mpegts";
	pid_t pid = copy_stdout_to(in_tmp("a.ts"), &saved);
	int r = run(&t, steps, N(steps));
	restore_stdout(saved, pid);
	CHECK_EQ(r, -EOPNOTSUPP);
	CHECK(strstr(t.problem.text, "from 320x240 to 200x160"));
	check_file(in_tmp("a.ts"), 1, 10);
}

static const struct {
	enum fake_kind how;
	int result;
	const char *says;
} ends[] = {
	{ FAKE_REMOVED, -ENODEV, "stream \"fake\" was removed" },
	{ FAKE_WAITING, -ENODEV, "the window was closed" },
	{ FAKE_GONE, -ECONNRESET, "the fake broker is gone" },
};

TEST(whatever_ends_the_stream_the_file_is_complete)
{
	for (size_t i = 0; i < N(ends); i++) {
		const struct fake_step steps[] = { { FAKE_FRAMES, .n = 33 },
			{ .kind = ends[i].how } };
		struct take t;
		prepare(&t, "a.mkv");
		CHECK_EQ(run(&t, steps, N(steps)), ends[i].result);
		if (!strstr(t.problem.text, ends[i].says))
			test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", t.problem.text,
				ends[i].says);
		uint32_t first = (uint32_t)t.stats.first_seq;
		check_file(t.path, first, first + 32);
	}
}

TEST(with_reconnect_it_goes_on_when_the_stream_is_back)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_WAITING },
		{ FAKE_STILL, .n = 50 },
		{ .kind = FAKE_LIVE },
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_REMOVED },
		{ FAKE_STILL, .n = 50 },
		{ .kind = FAKE_LIVE },
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mkv");
	t.options.reconnect = true;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_file(t.path, 1, 30);
}

TEST(with_wait_it_begins_when_the_stream_is_there)
{
	static const struct fake_step steps[] = {
		{ FAKE_STILL, .n = 300 },
		{ .kind = FAKE_WAITING },
		{ FAKE_STILL, .n = 300 },
		{ .kind = FAKE_LIVE },
		{ FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mkv");
	t.options.wait = true;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_file(t.path, 1, 10);
}

TEST(a_stream_that_does_not_exist_is_an_error)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 10 } };
	struct take t;
	prepare(&t, "a.mkv");
	t.options.stream = "nonsense";
	CHECK_EQ(run(&t, steps, N(steps)), -ENOENT);
	CHECK(strstr(t.problem.text, "stream \"nonsense\""));
	CHECK(access(t.path, F_OK) < 0);
}

TEST(a_picture_that_stands_still_is_repeated_and_the_file_lasts_as_long)
{
	static const struct fake_step steps[] = {
		{ FAKE_FRAMES, .n = 3 },
		{ FAKE_STILL, .n = 2600 },
		{ .kind = FAKE_INTERRUPT },
	};
	struct take t;
	prepare(&t, "a.mp4");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	struct video_summary s = video_summarize(t.path);
	CHECK_EQ(t.stats.frames, 3);
	CHECK(t.stats.repeated >= 2 && t.stats.repeated <= 3 + test_slowness());
	CHECK_EQ(s.frames, 3 + t.stats.repeated);
	CHECK_EQ(s.repeats, t.stats.repeated);
	CHECK_EQ(s.damaged, 0);
	CHECK(s.is_monotonic);
	CHECK(s.last_ms > 2500 && s.last_ms < 2700 + 1000 * (test_slowness() - 1));
}

TEST(the_time_limit_is_the_captures_time)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 200 } };
	struct take t;
	prepare(&t, "a.mp4");
	t.options.limit_us = 2000000;
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	check_file(t.path, 1, 1 + 2000000000 / FAKE_FRAME_NS);
}

TEST(the_time_limit_holds_when_nothing_moves)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 1 },
		{ FAKE_STILL, .n = 60000 } };
	struct take t;
	prepare(&t, "a.mp4");
	t.options.limit_us = 1500000;
	time_t begin = time(NULL);
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK(time(NULL) - begin < (time_t)4 * test_slowness());
	struct video_summary s = video_summarize(t.path);
	CHECK(fabs(s.last_ms - 1500) < 20);
}

TEST(a_full_disk_is_told_at_once)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 200 } };
	struct take t;
	prepare(&t, "a.mkv");
	t.options.output = "/dev/full";
	t.options.muxer = "matroska";
	CHECK_EQ(run(&t, steps, N(steps)), -ENOSPC);
	CHECK(strstr(t.problem.text, "/dev/full"));
	CHECK(strstr(t.problem.text, "No space left"));
}

TEST(a_disk_that_becomes_full_is_told_with_the_first_sentence)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 500 } };
	struct take t;
	prepare(&t, "a.mkv");
	/* a limit of the file's size: write() fails with EFBIG */
	signal(SIGXFSZ, SIG_IGN);
	t.options.encoder.codec = "ffv1";
	t.options.encoder.crf = -1;
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 300000, 300000 }), 0);
	CHECK_EQ(run(&t, steps, N(steps)), -EFBIG);
	CHECK(strstr(t.problem.text, "cannot write"));
	CHECK(video_summarize(t.path).frames > 0);
}

TEST(a_reader_that_goes_away_is_an_error_of_the_output)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 2000 } };
	struct take t;
	int pipefd[2];
	prepare(&t, "pipe:1");
	t.options.muxer = "mpegts";
	CHECK(pipe2(pipefd, O_CLOEXEC) == 0);
	int saved = fcntl(1, F_DUPFD_CLOEXEC, 10);
	CHECK(dup2(pipefd[1], 1) == 1);
	close(pipefd[0]);
	close(pipefd[1]);
	int r = run(&t, steps, N(steps));
	CHECK(dup2(saved, 1) == 1);
	close(saved);
	CHECK_EQ(r, -EPIPE);
	CHECK(strstr(t.problem.text, "pipe:1"));
}

/* In a process of its own, so that it can be killed. */
static pid_t record_in_a_child(struct take *t, const struct fake_step *steps, unsigned n_steps)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(run(t, steps, n_steps) < 0);
	return pid;
}

TEST(a_killed_recording_is_playable_and_lacks_a_second_at_most)
{
	static const char *const names[] = { "a.mp4", "a.mkv", "a.ts", "a.flv", "long.mp4",
		"long.mkv" };
	static const struct fake_step steps[] = { { FAKE_LIVE_FRAMES, .n = 3000 } };
	pid_t pids[N(names)];
	struct take t[N(names)];
	unsigned run_s = 2 + test_slowness();
	for (size_t i = 0; i < N(names); i++) {
		prepare(&t[i], names[i]);
		/* even if there is one key frame only */
		if (strncmp(names[i], "long", 4) == 0)
			t[i].options.encoder.gop = 1000;
		pids[i] = record_in_a_child(&t[i], steps, N(steps));
	}
	sleep(run_s);
	for (size_t i = 0; i < N(names); i++) {
		int status;
		kill(pids[i], SIGKILL);
		CHECK(waitpid(pids[i], &status, 0) == pids[i]);
		CHECK(WIFSIGNALED(status)); /* it had not ended before */
	}
	for (size_t i = 0; i < N(names); i++) {
		struct video_summary s = video_summarize(in_tmp(names[i]));
		printf("  %s: %u frames in %u s, %.0f ms\n", names[i], s.frames, run_s, s.last_ms);
		CHECK_ROW(s.damaged == 0 && s.jumps == 0 && s.is_monotonic, names[i]);
		CHECK_ROW(s.first == 1, names[i]);
		/* 30 a second, less one second of them and what a slow machine did not reach */
		CHECK_ROW(s.frames >= (run_s - 1) * 20u / test_slowness(), names[i]);
	}
}

TEST(a_pipe_that_nobody_reads_does_not_stop_the_end)
{
	static const struct fake_step steps[] = { { FAKE_LIVE_FRAMES, .n = 3000 } };
	struct take t;
	int pipefd[2], status;
	prepare(&t, "pipe:1");
	t.options.muxer = "nut";
	t.options.encoder.codec = "rawvideo";
	t.options.encoder.crf = -1;
	CHECK(pipe2(pipefd, O_CLOEXEC) == 0);
	int saved = fcntl(1, F_DUPFD_CLOEXEC, 10);
	CHECK(dup2(pipefd[1], 1) == 1);
	close(pipefd[1]);
	pid_t pid = record_in_a_child(&t, steps, N(steps));
	CHECK(dup2(saved, 1) == 1);
	close(saved);
	sleep(1);
	time_t begin = time(NULL);
	kill(pid, SIGINT);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	CHECK(time(NULL) - begin <= STOP_GRACE_S + 2);
	close(pipefd[0]);
}

/* The first where the file begins, the others where a second of the capture's clock does. */
TEST(key_frames_come_each_second_whatever_the_rate)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 91 },
		{ .kind = FAKE_INTERRUPT } };
	struct take t;
	struct video v;
	AVFrame *frame;
	unsigned n = 0, keys = 0;
	double first_ms = 0;
	prepare(&t, "a.mkv");
	t.options.encoder.rate = (AVRational){ 0, 1 };
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK(video_open(&v, t.path));
	for (; video_next(&v, &frame); n++) {
		if (frame->pict_type != AV_PICTURE_TYPE_I)
			continue;
		double ms = video_ms(&v, frame);
		if (keys++ == 0)
			CHECK(ms == 0);
		else if (keys == 2)
			CHECK((first_ms = ms) < 1040);
		else
			CHECK(fabs(fmod(ms - first_ms + 40, 1000) - 40) < 40);
	}
	video_close(&v);
	CHECK_EQ(n, 91);
	CHECK(keys == 3 || keys == 4); /* in 2.8 s */
}
