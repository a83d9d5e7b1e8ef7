/* What goes on around a recording: signals, who does not read, names and words from elsewhere. */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

/* systemd signals a supervisor's child, and so does the supervisor. */
TEST(two_signals_at_once_cut_no_file_off)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 30 },
		{ FAKE_INTERRUPT, .n = 1 } };
	struct take t;
	prepare(&t, "a.mkv");
	t.options.encoder.tune = "none"; /* so that frames are held back */
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	struct video_summary s = video_summarize(t.path);
	CHECK(s.frames >= 30 && s.last == 30 && s.jumps == 0 && s.damaged == 0);
}

TEST(only_a_later_signal_insists_and_only_what_waits_for_others_has_a_time)
{
	CHECK_EQ(stop_install(), 0);
	raise(SIGTERM);
	raise(SIGINT);
	CHECK(stop_is_asked() && !stop_is_overdue(NULL) && !stop_is_insisted_on(NULL));
	raise(SIGALRM);
	CHECK(stop_is_overdue(NULL) && !stop_is_insisted_on(NULL));
	usleep(1100000);
	raise(SIGINT);
	CHECK(stop_is_insisted_on(NULL));
}

TEST(a_name_of_the_time_may_have_a_colon)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 3 },
		{ .kind = FAKE_INTERRUPT } };
	struct take t;
	CHECK_EQ(chdir(test_tmpdir()), 0);
	prepare(&t, "12:30.mkv");
	CHECK_EQ(run(&t, steps, N(steps)), 0);
	CHECK(video_summarize("file:12:30.mkv").frames >= 3);
}

TEST(a_colon_does_not_make_a_protocol_and_a_device_is_no_file)
{
	char fifo[256];
	snprintf(fifo, sizeof(fifo), "%s/fifo", test_tmpdir());
	CHECK_EQ(mkfifo(fifo, 0600), 0);
	CHECK_EQ(output_kind_of("%H:%M.mkv"), OUTPUT_FILE);
	CHECK_EQ(output_kind_of("12:30.mkv"), OUTPUT_FILE);
	CHECK_EQ(output_kind_of("file:/nowhere/a.mkv"), OUTPUT_FILE);
	CHECK_EQ(output_kind_of("rtmp://host/live"), OUTPUT_SERVER);
	CHECK_EQ(output_kind_of("md5:a"), OUTPUT_PIPE);
	CHECK_EQ(output_kind_of("fd:"), OUTPUT_PIPE);
	CHECK_EQ(output_kind_of("/dev/null"), OUTPUT_PIPE);
	CHECK_EQ(output_kind_of(fifo), OUTPUT_PIPE);
}

/* A terminal that was stopped, a reader that hangs. */
static void fill_stderr(void)
{
	int fds[2];
	char much[4096] = "";
	CHECK(pipe2(fds, O_NONBLOCK) == 0);
	while (write(fds[1], much, sizeof(much)) > 0)
		;
	CHECK_EQ(fcntl(fds[1], F_SETFL, 0), 0);
	CHECK(dup2(fds[1], STDERR_FILENO) >= 0);
}

TEST(who_does_not_read_stderr_stops_neither_the_capture_nor_the_end)
{
	static const struct fake_step steps[] = { { FAKE_FRAMES, .n = 10 },
		{ FAKE_FORMAT, 0, DRM_FORMAT_XRGB8888, 201, 160 }, { FAKE_FRAMES, .n = 10 },
		{ .kind = FAKE_INTERRUPT } };
	struct take t;
	int status;
	prepare(&t, "a.mkv");
	t.options.quiet = false;
	t.stats.is_live = true;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(20 * test_slowness());
		fill_stderr();
		int r = run(&t, steps, N(steps));
		stats_print_summary(&t.stats, t.path);
		_exit(r != 0 || t.stats.parts != 2);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

/* An RTSP server answers "404 " and what it likes. */
TEST(what_a_server_says_does_not_reach_the_terminal_as_it_is)
{
	struct problem problem;
	avlog_install(false);
	avlog_forget();
	av_log(NULL, AV_LOG_ERROR, "method failed: 404 \033]0;title\a\n");
	CHECK_EQ(avlog_problem(&problem, -EIO, "cannot write"), -EIO);
	CHECK_STR(problem.text, "cannot write: method failed: 404 ?]0;title?");
	av_log(NULL, AV_LOG_WARNING, "Error parsing option %s\n", "\033[2J");
	CHECK(avlog_has_complaint(&problem, "x"));
	CHECK_STR(problem.text, "x: Error parsing option ?[2J");
}
