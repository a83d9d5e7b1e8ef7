/* A ladder and a restarted encoder against a real broker, and the kills that they are for. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/encode_process.h"
#include "tests/test.h"
#include "tests/video.h"

enum { KEYS_MAX = 64 };

/* Slow: a live source waits for nobody, and a machine that does other things as well stands still for
 * some frames of a fast one. */
static const char *const options[] = { "--source", "test=pattern:320x180@10", "--slots", "40",
	NULL };

/* Small ones, quick enough for a machine that does other things as well. */
#define ENCODE "--socket %s --stream test --preset ultrafast --queue fifo:32 "

/* What one file holds. */
struct contents {
	struct video_summary summary;
	bool begins_with_key;
	unsigned n_keys;
	uint32_t key[KEYS_MAX]; /* numbers of the frames that are keys, but for the first */
};

static struct contents read_contents(const char *name)
{
	struct contents c = { .summary = video_summarize(in_tmp(name)) };
	struct video v;
	AVFrame *frame;
	CHECK_ROW(video_open(&v, in_tmp(name)), name);
	for (unsigned n = 0; video_next(&v, &frame); n++) {
		bool is_key = frame->pict_type == AV_PICTURE_TYPE_I;
		uint32_t number;
		if (n == 0)
			c.begins_with_key = is_key;
		else if (is_key && c.n_keys < KEYS_MAX && video_stamp(frame, &number) == STAMP_OK)
			c.key[c.n_keys++] = number;
	}
	video_close(&v);
	return c;
}

static struct contents check_file(const char *name, unsigned least, int height)
{
	struct contents c = read_contents(name);
	struct video_summary s = c.summary;
	if (s.frames < least || s.damaged || s.jumps || !s.is_monotonic || s.height != height)
		test_fail(__FILE__, __LINE__,
			"%s: %u frames (at least %u), %u damaged, %u jumps, %d high%s", name,
			s.frames, least, s.damaged, s.jumps, s.height,
			s.is_monotonic ? "" : ", times go back");
	CHECK_ROW(c.begins_with_key, name);
	return c;
}

static bool has_key(const struct contents *c, uint32_t number)
{
	for (unsigned i = 0; i < c->n_keys; i++)
		if (c->key[i] == number)
			return true;
	return false;
}

/* Players change from one rung to another at a key frame: it has to be the same in all. */
static void check_keys_are_aligned(const struct contents *a, const struct contents *b)
{
	unsigned n = 0;
	for (unsigned i = 0; i < a->n_keys; i++) {
		if (a->key[i] <= b->summary.first || a->key[i] > b->summary.last)
			continue;
		if (!has_key(b, a->key[i]))
			test_fail(__FILE__, __LINE__, "frame %u is a key in one rung only",
				a->key[i]);
		n++;
	}
	CHECK(n >= 1);
}

static void kill_rung(const struct encode_process *ladder, const char *argument)
{
	pid_t pid = 0;
	for (unsigned ms = 0; !(pid = encode_child(ladder, argument)) && ms < 20000; ms += 20)
		sleep_ms(20);
	CHECK_ROW(pid, argument);
	CHECK(kill(pid, SIGKILL) == 0);
}

/* The file is there and has something in it: a frame was encoded. */
static void await_file(const char *name)
{
	struct stat st;
	for (unsigned ms = 0; stat(in_tmp(name), &st) < 0 || st.st_size < 1000; ms += 20) {
		if (ms > 20000 * test_slowness())
			test_fail(__FILE__, __LINE__, "there is no %s", name);
		sleep_ms(20);
	}
}

TEST(a_rung_that_is_killed_is_started_again_and_the_others_have_every_frame)
{
	struct broker_process b;
	struct encode_process ladder;
	static const char *const whole[] = { "s-180p.json", "s-90p.json" };
	broker_start(&b, options);
	encode_start(&ladder, &b,
		ENCODE "--stats %t/s.json --ladder 180p:2M,160x90:2M:h264,90p:2M "
		       "%t/talk.mkv");
	await_file("talk-180p.mkv");
	await_file("talk-90p.mkv");
	await_file("talk-160x90-h264.mkv");
	sleep_ms(500);
	kill_rung(&ladder, "--rung=160x90-h264");
	await_file("talk-160x90-h264-1.mkv");
	sleep_ms(300);
	kill_rung(&ladder, "--rung=160x90-h264");
	await_file("talk-160x90-h264-2.mkv");
	kill_rung(&ladder, "--rung=160x90-h264");
	await_file("talk-160x90-h264-3.mkv");
	sleep_ms(1000);
	kill(ladder.pid, SIGINT);
	CHECK_EQ(encode_await(&ladder), 0);
	CHECK(strstr(encode_said(&ladder), "160x90-h264 died of signal 9 (Killed)"));

	for (unsigned i = 0; i < 2; i++) {
		if (encode_stat(whole[i], "n_gaps") > 0)
			test_fail(__FILE__, __LINE__, "%s: %.0f gaps, %.0f dropped, %.0f skipped",
				whole[i], encode_stat(whole[i], "n_gaps"),
				encode_stat(whole[i], "dropped"), encode_stat(whole[i], "skipped"));
	}
	struct contents big = check_file("talk-180p.mkv", 30, 180);
	struct contents small = check_file("talk-90p.mkv", 30, 90);
	check_file("talk-160x90-h264.mkv", 1, 90);
	check_file("talk-160x90-h264-1.mkv", 1, 90);
	check_file("talk-160x90-h264-2.mkv", 1, 90);
	struct contents last = check_file("talk-160x90-h264-3.mkv", 5, 90);
	check_keys_are_aligned(&big, &small);
	check_keys_are_aligned(&small, &big);
	check_keys_are_aligned(&last, &big);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_restarted_recording_goes_on_in_another_file_until_its_time_is_over)
{
	struct broker_process b;
	struct encode_process e;
	broker_start(&b, options);
	encode_start(&e, &b, ENCODE "--restart -t 4 %t/talk.mkv");
	await_file("talk.mkv");
	sleep_ms(1000);
	kill_rung(&e, "--restart");
	await_file("talk-1.mkv");
	CHECK_EQ(encode_await(&e), 0);
	struct contents first = check_file("talk.mkv", 2, 180);
	struct contents second = check_file("talk-1.mkv", 2, 180);
	CHECK(second.summary.first > first.summary.last);
	unsigned span = second.summary.last - first.summary.first + 1;
	if (span < 34 || span > 50)
		test_fail(__FILE__, __LINE__, "%u frames in 4 s at 10 frames/s", span);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_rung_that_cannot_begin_is_given_up_and_the_others_go_on)
{
	struct broker_process b;
	struct encode_process ladder;
	broker_start(&b, options);
	/* H.263 has few sizes, and this is none */
	encode_start(&ladder, &b,
		"--socket %s --stream test --queue fifo:32 --ladder "
		"180p:2M,90p:2M:h263 %t/talk.mkv");
	encode_await_text(&ladder, "90p-h263 ended with exit status 1 at each of its 5 starts");
	await_file("talk-180p.mkv");
	kill(ladder.pid, SIGTERM);
	CHECK_EQ(encode_await(&ladder), 1);
	CHECK(strstr(encode_said(&ladder), "sluice-encode: 90p-h263 has failed\n"));
	CHECK(!strstr(encode_said(&ladder), "180p has failed"));
	check_file("talk-180p.mkv", 20, 180);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(what_cannot_work_is_told_once_and_nothing_is_started)
{
	struct broker_process b;
	struct encode_process e;
	static const char *const lines[] = { ENCODE "--restart %t/nowhere/talk.mkv",
		ENCODE "--ladder 180p:2M,90p:2M %t/%r/talk.mkv" };
	broker_start(&b, options);
	CHECK(mkdir(in_tmp("180p"), 0700) == 0);
	for (unsigned i = 0; i < 2; i++) {
		encode_start(&e, &b, lines[i]);
		CHECK_EQ(encode_await(&e), 1);
		CHECK(strncmp(encode_said(&e), "sluice-encode: cannot write ", 28) == 0);
		CHECK(!strstr(encode_said(&e), "start"));
		CHECK(access(in_tmp("180p/talk.mkv"), F_OK) < 0);
	}
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_server_that_was_never_there_is_given_up)
{
	struct broker_process b;
	struct encode_process e;
	broker_start(&b, options);
	encode_start(&e, &b, ENCODE "--restart rtmp://127.0.0.1:9/live/key");
	CHECK_EQ(encode_await(&e), 1);
	CHECK(strstr(encode_said(&e), "at each of its 5 starts: it is given up"));
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_wrong_option_ends_a_ladder_at_once)
{
	struct broker_process b;
	struct encode_process ladder;
	broker_start(&b, options);
	encode_start(&ladder, &b, ENCODE "--ladder 180p:2M,90p:2M:nonsense %t/talk.mkv");
	CHECK_EQ(encode_await(&ladder), 2);
	CHECK(strstr(encode_said(&ladder), "nonsense"));
	CHECK(!strstr(encode_said(&ladder), "started again"));
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(rungs_finish_their_files_when_their_supervisor_is_killed)
{
	struct broker_process b;
	struct encode_process ladder;
	int status;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	broker_start(&b, options);
	encode_start(&ladder, &b, ENCODE "--ladder 180p:2M,90p:2M --stats %t/s.json %t/talk.mp4");
	await_file("talk-180p.mp4");
	await_file("talk-90p.mp4");
	pid_t rung[2] = { encode_child(&ladder, "--rung=180p"),
		encode_child(&ladder, "--rung=90p") };
	CHECK(rung[0] && rung[1]);
	kill(ladder.pid, SIGKILL);
	CHECK_EQ(encode_await(&ladder), -SIGKILL);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(waitpid(rung[i], &status, 0) == rung[i]);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	check_file("talk-180p.mp4", 1, 180);
	check_file("talk-90p.mp4", 1, 90);
	CHECK_EQ(broker_stop(&b), 0);
}
