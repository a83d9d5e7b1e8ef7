/* sluice-encode as people run it: the program, against a real broker. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/e2e.h"
#include "tests/program.h"
#include "tests/test.h"
#include "tests/video.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum { TEXT_BYTES = 8192, ARGS = 40, ANSWER_S = 20 };

static const char *const options[] = { "--source", "test=pattern:320x240@30", "--slots", "24",
	NULL };

struct run {
	pid_t pid;
	char out[128], err[128]; /* where its two outputs go */
	char text[TEXT_BYTES];   /* what it said on stderr */
	int status;              /* exit status, or -signal */
	double seconds;
};

static const char *in_tmp(const char *name)
{
	static char path[4][256];
	static unsigned i;
	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", test_tmpdir(), name);
	return path[i];
}

static int create_file(const char *path)
{
	return open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
}

/* line: arguments with spaces between them; %s and %t stand for the socket and the test's
 * folder. */
static char *fill(const char *line, const char *socket)
{
	static char filled[TEXT_BYTES];
	size_t n = 0;
	for (; *line && n < sizeof(filled) - 256; line++) {
		if (strncmp(line, "%s", 2) == 0 || strncmp(line, "%t", 2) == 0)
			n += (size_t)sprintf(
				filled + n, "%s", *++line == 's' ? socket : test_tmpdir());
		else
			filled[n++] = *line;
	}
	filled[n] = 0;
	return filled;
}

static void exec_encode(const struct run *run, char *line)
{
	char program[] = "sluice-encode", *argv[ARGS + 1] = { program };
	unsigned n = 1;
	for (char *word = strtok(line, " "); word && n < ARGS; word = strtok(NULL, " "))
		argv[n++] = word;
	dup2(create_file(run->out), STDOUT_FILENO);
	dup2(create_file(run->err), STDERR_FILENO);
	execv(SLUICE_ENCODE, argv);
	_exit(127);
}

static void start(struct run *run, const struct broker_process *b, const char *line)
{
	static unsigned number;
	char *filled = fill(line, b ? b->socket : "/nowhere");
	*run = (struct run){ .status = -1 };
	snprintf(run->out, sizeof(run->out), "%s/out%u", test_tmpdir(), number);
	snprintf(run->err, sizeof(run->err), "%s/err%u", test_tmpdir(), number++);
	fflush(NULL);
	run->pid = fork();
	if (run->pid == 0)
		exec_encode(run, filled);
}

static void read_text(struct run *run)
{
	FILE *file = fopen(run->err, "re");
	CHECK(file);
	run->text[fread(run->text, 1, sizeof(run->text) - 1, file)] = 0;
	fclose(file);
}

/* Wait for its end. */
static void finish(struct run *run)
{
	int status;
	for (unsigned ms = 0; waitpid(run->pid, &status, WNOHANG) == 0; ms += 5) {
		if (ms > ANSWER_S * 1000 * test_slowness())
			test_fail(__FILE__, __LINE__, "sluice-encode does not end");
		sleep_ms(5);
	}
	run->status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
	read_text(run);
}

static void run_to_end(struct run *run, const struct broker_process *b, const char *line)
{
	uint64_t begin = clock_ns();
	start(run, b, line);
	finish(run);
	run->seconds = (double)(clock_ns() - begin) / NS_PER_S;
}

static void expect(const struct run *run, int status, const char *says)
{
	if (run->status != status || !strstr(run->text, says))
		test_fail(__FILE__, __LINE__, "exit status %d, not %d; \"%s\" not in:\n%s",
			run->status, status, says, run->text);
}

/* A number of the statistics file. */
static double stat_of(const char *name, const char *key)
{
	char text[TEXT_BYTES], quoted[64];
	FILE *file = fopen(in_tmp(name), "re");
	CHECK(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	snprintf(quoted, sizeof(quoted), "\"%s\": ", key);
	const char *at = strstr(text, quoted);
	if (!at)
		test_fail(__FILE__, __LINE__, "%s has no %s:\n%s", name, key, text);
	return atof(at + strlen(quoted));
}

/* A slow machine may let a second pass without a frame: a picture that is repeated is no gap. */
static void check_no_gap(const char *name, unsigned least)
{
	struct video_summary s = video_summarize(in_tmp(name));
	if (s.frames < least || s.damaged || s.jumps || !s.is_monotonic)
		test_fail(__FILE__, __LINE__, "%s: %u frames (at least %u), %u damaged, %u jumps%s",
			name, s.frames, least, s.damaged, s.jumps,
			s.is_monotonic ? "" : ", times go back");
}

TEST(every_frame_of_the_pattern_is_in_the_file)
{
	struct broker_process b;
	struct run run;
	broker_start(&b, options);
	run_to_end(&run, &b,
		"--socket %s --stream test -t 3 --queue fifo:16 --stats %t/s.json %t/a.mp4");
	expect(&run, 0, "a.mp4: ");
	check_no_gap("a.mp4", 85);
	struct video_summary s = video_summarize(in_tmp("a.mp4"));
	CHECK_EQ(stat_of("s.json", "frames"), s.frames - s.repeats);
	CHECK_EQ(stat_of("s.json", "missed"), 0);
	CHECK_EQ(stat_of("s.json", "torn"), 0);
	CHECK_EQ(stat_of("s.json", "n_gaps"), 0);
	CHECK_EQ(stat_of("s.json", "last_seq") - stat_of("s.json", "first_seq") + 1,
		s.frames - s.repeats);
	CHECK(fabs(s.last_ms - 2966) < 100);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(every_format_of_a_source_is_recorded)
{
	static const char *const formats[] = { "BGRx", "BGRA", "RGBx", "RGBA", "YUY2", "NV12",
		"I420" };
	const char *sources[2 * N(formats) + 3] = { "--slots", "24" };
	char source[N(formats)][64];
	struct broker_process b;
	for (size_t i = 0; i < N(formats); i++) {
		snprintf(source[i], sizeof(source[i]), "%s=pattern:322x242@30:%s", formats[i],
			formats[i]);
		sources[2 * i + 2] = "--source";
		sources[2 * i + 3] = source[i];
	}
	broker_start(&b, sources);
	for (size_t i = 0; i < N(formats); i++) {
		char line[256], name[32];
		struct run run;
		snprintf(name, sizeof(name), "%s.mkv", formats[i]);
		snprintf(line, sizeof(line),
			"--socket %%s --stream %s --frames 15 --queue fifo:16 -c %s %%t/%s",
			formats[i], i % 2 ? "ffv1" : "libx264", name);
		run_to_end(&run, &b, line);
		expect(&run, 0, name);
		check_no_gap(name, 15);
	}
	CHECK_EQ(broker_stop(&b), 0);
}

/* What it did not get is known, and nothing of what it got is damaged. */
static void check_gaps_are_known(const char *name, const char *stats)
{
	struct video_summary s = video_summarize(in_tmp(name));
	CHECK(s.damaged == 0 && s.is_monotonic);
	CHECK(s.jumps >= 1);
	CHECK_EQ(s.jumps, stat_of(stats, "n_gaps"));
	CHECK_EQ(stat_of(stats, "last_seq") - stat_of(stats, "first_seq") + 1,
		s.frames - s.repeats + stat_of(stats, "missed") + stat_of(stats, "revoked") +
			stat_of(stats, "torn"));
}

TEST(one_that_is_killed_and_one_that_is_stopped_cost_a_third_nothing)
{
	struct broker_process b;
	struct run killed, stopped, healthy;
	broker_start(&b, options);
	start(&killed, &b, "--socket %s --stream test %t/killed.mp4");
	start(&stopped, &b, "--socket %s --stream test --stats %t/stopped.json %t/stopped.mp4");
	start(&healthy, &b,
		"--socket %s --stream test --queue fifo:16 --stats %t/healthy.json %t/healthy.mp4");
	sleep_ms(2500);
	kill(killed.pid, SIGKILL);
	kill(stopped.pid, SIGSTOP);
	sleep_ms(2000);
	kill(stopped.pid, SIGCONT);
	sleep_ms(1000);
	kill(stopped.pid, SIGINT);
	kill(healthy.pid, SIGTERM);
	finish(&killed);
	finish(&stopped);
	finish(&healthy);
	expect(&killed, -SIGKILL, "");
	expect(&stopped, 0, "stopped.mp4: ");
	expect(&healthy, 0, "healthy.mp4: ");
	check_no_gap("killed.mp4", 30 / test_slowness());
	check_no_gap("healthy.mp4", 140 / test_slowness());
	CHECK(stat_of("healthy.json", "n_gaps") == 0 && stat_of("healthy.json", "missed") == 0);
	check_gaps_are_known("stopped.mp4", "stopped.json");
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(when_the_broker_is_killed_the_file_is_complete)
{
	struct broker_process b;
	struct run run;
	broker_start(&b, options);
	start(&run, &b, "--socket %s --stream test --queue fifo:16 %t/a.mp4");
	sleep_ms(1500);
	broker_kill(&b);
	finish(&run);
	expect(&run, 1, "broker");
	check_no_gap("a.mp4", 25 / test_slowness());
}

TEST(when_the_broker_ends_the_file_is_complete)
{
	struct broker_process b;
	struct run run;
	broker_start(&b, options);
	start(&run, &b, "--socket %s --stream test --queue fifo:16 %t/a.ts -c libx264");
	sleep_ms(1500);
	CHECK_EQ(broker_stop(&b), 0);
	finish(&run);
	expect(&run, 1, "sluice-encode: ");
	check_no_gap("a.ts", 25 / test_slowness());
}

TEST(with_reconnect_it_outlives_the_broker)
{
	struct broker_process b;
	struct run run;
	broker_start(&b, options);
	start(&run, &b, "--socket %s --stream test --reconnect --stats %t/s.json %t/a.mp4");
	sleep_ms(1000);
	broker_kill(&b);
	sleep_ms(500);
	broker_restart(&b, options);
	sleep_ms(3000);
	kill(run.pid, SIGINT);
	finish(&run);
	expect(&run, 0, "a.mp4: ");
	struct video_summary s = video_summarize(in_tmp("a.mp4"));
	CHECK_EQ(s.damaged, 0);
	CHECK(s.is_monotonic);
	CHECK(s.last_ms > 2500);
	CHECK_EQ(stat_of("s.json", "parts"), 1);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(with_wait_it_may_be_started_first)
{
	struct broker_process b = { .pid = -1 };
	struct run run;
	snprintf(b.socket, sizeof(b.socket), "%s/s", test_tmpdir());
	start(&run, &b, "--socket %s --stream test --wait --frames 10 --queue fifo:16 %t/a.mp4");
	sleep_ms(400);
	broker_start(&b, options);
	finish(&run);
	expect(&run, 0, "a.mp4: ");
	check_no_gap("a.mp4", 10);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(the_standard_output_has_the_video_and_nothing_else)
{
	struct broker_process b;
	struct run run;
	broker_start(&b, options);
	run_to_end(&run, &b, "--socket %s --stream test -f matroska --frames 20 --queue fifo:16 -");
	expect(&run, 0, "pipe:1: 20 frames");
	struct video_summary s = video_summarize(run.out);
	CHECK_EQ(s.frames, 20);
	CHECK_EQ(s.damaged, 0);
	run_to_end(&run, &b, "--socket %s --stream test -f matroska --frames 20 --quiet -");
	CHECK_EQ(run.status, 0);
	CHECK_STR(run.text, "");
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_reserved_hold_is_short_enough)
{
	struct broker_process b;
	struct run run;
	broker_start(&b, options);
	run_to_end(
		&run, &b, "--socket %s --stream test --reserved 2 --queue fifo:16 -t 3 %t/a.mkv");
	expect(&run, 0, "a.mkv: ");
	check_no_gap("a.mkv", 60);
	CHECK_EQ(broker_stop(&b), 0);
}

/* "--tell" to the one that listens on %t/c. */
static void tell(struct run *run, const char *command)
{
	/* options are words: the command's blank is not to split it */
	static struct program program;
	program_run(&program,
		(const char *const[]){ SLUICE_ENCODE, "--tell", in_tmp("c"), command, NULL }, 0);
	run->status = program.status;
	snprintf(run->text, sizeof(run->text), "%.4000s%.4000s", program.out, program.err);
}

static void wait_for_file(const char *name)
{
	struct stat st;
	for (unsigned ms = 0; stat(in_tmp(name), &st) < 0 || st.st_size == 0; ms += 10) {
		if (ms > ANSWER_S * 1000 * test_slowness())
			test_fail(__FILE__, __LINE__, "there is no %s", name);
		sleep_ms(10);
	}
}

/* Packets of a file, and how many of them are key frames. */
static unsigned count_keys(const char *name)
{
	struct video v;
	unsigned keys = 0;
	CHECK(video_open(&v, in_tmp(name)));
	while (av_read_frame(v.file, v.packet) == 0) {
		keys += v.packet->flags & AV_PKT_FLAG_KEY ? 1 : 0;
		av_packet_unref(v.packet);
	}
	video_close(&v);
	return keys;
}

TEST(key_frames_come_when_they_are_asked_for)
{
	struct broker_process b;
	struct run run, told;
	broker_start(&b, options);
	start(&run, &b, "--socket %s --stream test -g 100000 --control %t/c %t/a.mkv");
	wait_for_file("a.mkv");
	tell(&told, "keyframe");
	expect(&told, 0, "ok");
	sleep_ms(300);
	kill(run.pid, SIGUSR1);
	sleep_ms(300);
	tell(&told, "nonsense");
	expect(&told, 1, "no such command");
	tell(&told, "stats");
	expect(&told, 0, "{ \"frames\": ");
	tell(&told, "quit");
	expect(&told, 0, "ok");
	finish(&run);
	expect(&run, 0, "a.mkv: ");
	CHECK_EQ(count_keys("a.mkv"), 3);
	check_no_gap("a.mkv", 10);
	CHECK(access(in_tmp("c"), F_OK) < 0);
	CHECK_EQ(broker_stop(&b), 0);
}

/* kbit/s of a file from one second to another. */
static double kbit_s(const char *name, double from_s, double to_s)
{
	struct video v;
	double bytes = 0;
	CHECK(video_open(&v, in_tmp(name)));
	double base = av_q2d(v.file->streams[0]->time_base);
	while (av_read_frame(v.file, v.packet) == 0) {
		double at = (double)v.packet->pts * base;
		bytes += at >= from_s && at < to_s ? v.packet->size : 0;
		av_packet_unref(v.packet);
	}
	video_close(&v);
	return bytes * 8 / 1000 / (to_s - from_s);
}

TEST(another_bit_rate_is_taken_while_it_runs)
{
	struct broker_process b;
	struct run run, told;
	broker_start(&b, options);
	start(&run, &b,
		"--socket %s --stream test -b 100k -r 30 --queue fifo:16 --control %t/c %t/a.mkv");
	wait_for_file("a.mkv");
	sleep_ms(2500);
	tell(&told, "bitrate 2M");
	expect(&told, 0, "ok");
	sleep_ms(2500);
	tell(&told, "quit");
	finish(&run);
	expect(&run, 0, "a.mkv: ");
	double before = kbit_s("a.mkv", 0.5, 2.2), after = kbit_s("a.mkv", 3.2, 4.8);
	printf("  %.0f kbit/s, then %.0f kbit/s\n", before, after);
	CHECK(after > 2 * before);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(a_bit_rate_that_cannot_change_is_told)
{
	struct broker_process b;
	struct run run, told;
	broker_start(&b, options);
	start(&run, &b, "--socket %s --stream test --control %t/c -c mpeg4 %t/a.mkv");
	wait_for_file("a.mkv");
	tell(&told, "bitrate 2M");
	expect(&told, 1, "mpeg4 cannot change its bit rate");
	tell(&told, "quit");
	finish(&run);
	start(&run, &b, "--socket %s --stream test --control %t/c -crf 30 %t/b.mkv");
	wait_for_file("b.mkv");
	tell(&told, "bitrate 2M");
	expect(&told, 1, "start it with -b");
	tell(&told, "quit");
	finish(&run);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(with_cfr_the_file_of_a_real_stream_has_the_rate)
{
	struct broker_process b;
	struct run run;
	broker_start(&b, options);
	run_to_end(&run, &b,
		"--socket %s --stream test --queue mailbox --cfr -r 25 -t 2 --stats %t/s.json "
		"%t/a.mkv");
	expect(&run, 0, "a.mkv: ");
	struct video_summary s = video_summarize(in_tmp("a.mkv"));
	CHECK_EQ(s.frames, 50);
	CHECK_EQ(s.damaged, 0);
	CHECK(fabs(s.last_ms - 49 * 40) < 1);
	CHECK_EQ(stat_of("s.json", "frames") + stat_of("s.json", "repeated"), 50);
	CHECK_EQ(stat_of("s.json", "repeated"), s.repeats);
	CHECK_EQ(broker_stop(&b), 0);
}

static const struct {
	const char *line;
	int status;
	const char *says;
} errors[] = {
	{ "", 2, "OUTPUT is missing" },
	{ "--stream test", 2, "OUTPUT is missing" },
	{ "%t/a.mp4", 2, "--stream is missing" },
	{ "--stream test %t/a.mp4 --nonsense", 2, "no option --nonsense" },
	{ "--stream test %t/a.mp4 -c nonsense", 2, "no video encoder \"nonsense\"" },
	{ "--stream test %t/a.mp4 -preset sluggish", 2, "no preset \"sluggish\"" },
	{ "--stream test %t/a.mp4 -tune guitar", 2, "no tune \"guitar\"" },
	{ "--stream test %t/a.mp4 -crf 64", 2, "0 to 63" },
	{ "--stream test %t/a.mp4 -o nonsense=1", 2, "no option -o nonsense=1" },
	{ "--stream test %t/a.mp4 --pix-fmt plaid", 2, "no pixel format \"plaid\"" },
	{ "--stream test %t/a.mp4 -f nonsense", 2, "no container \"nonsense\"" },
	{ "--stream test %t/a", 2, "which container" },
	{ "--stream test %t/a.mp4 -c ffv1 -f mp4", 2, "mp4 cannot hold ffv1" },
	{ "--stream test %t/a.mp4 -profile:v loud", 2, "no profile \"loud\"" },
	{ "--stream test %t/a.mp4 -c h264_vaapi", 2, "h264_vaapi" },
	{ "--stream test %t/a.mp4 -b:v much", 2, "800k or 4M" },
	{ "--stream test %t/a.mp4 --size 20000x20000", 2, "up to 16384" },
	{ "--stream test %t/a.mp4 --format mp4", 2, "a container is -f" },
	{ "--stream test %t/a.mp4 -o x264-params=speed=9", 2, "speed = 9" },
	{ "--stream test %t/a.mp4 -o x264-params=bframes=many", 2, "bframes = many" },
	{ "--stream test %t/a.mp4 -c nvjpeg --format NV12", 2, "format I420 and none of NV12" },
	{ "--stream test %t/a.mp4 --size 1x1", 1, "too small for libx264" },
	{ "--stream test %t/a.mp4 --format RGBA_F16", 1, "cannot be made" },
	{ "--stream test %t/a.mp4 -c mpeg4 -bf 17", 2, "0 to 16" },
	{ "--stream test %t/a.mp4 -c mjpeg -bf 2", 2, "mjpeg" },
	{ "--stream test %t/a.mp4 --max-rate 0", 2, "frames per second" },
	{ "--stream test %t/a.mp4 --control %t/file", 1, "is no socket" },
	{ "--stream test %t/a.mp4 --control %t/no/c", 1, "cannot listen on" },
	{ "--tell %t/c keyframe", 1, "no sluice-encode listens" },
	{ "--tell %t/c", 2, "--tell takes one command" },
	{ "--stream test %t/no/a.mp4", 1, "the folder" },
	{ "--stream test %t/file/a.mp4", 1, "is no folder" },
	{ "--stream test -f mp4 %t", 1, "it is a folder" },
	{ "--stream test /proc/self/a.mp4", 1, "cannot write /proc/self/a.mp4" },
	{ "--stream test --stats /no/s.json %t/a.mp4", 1, "cannot write /no/s.json" },
	{ "--stream test -f matroska /dev/full --quiet", 1, "No space left" },
	{ "--stream test -f mp4 /dev/full --quiet", 1, "No space left" },
	{ "--stream nonsense %t/a.mp4", 1, "nonsense" },
	{ "--stream test --socket %t/none %t/a.mp4", 1, "no broker" },
	{ "--stream test --reserved 16 --queue fifo:32 --socket %t/none %t/a.mp4", 1, "no broker" },
};

TEST(every_mistake_is_told_in_one_sentence_within_a_second)
{
	struct broker_process b;
	broker_start(&b, options);
	close(create_file(in_tmp("file")));
	for (size_t i = 0; i < N(errors); i++) {
		char line[512];
		struct run run;
		bool has_socket = strstr(errors[i].line, "--socket");
		snprintf(line, sizeof(line), "%s %s", errors[i].line,
			has_socket ? "" : "--socket %s");
		run_to_end(&run, &b, line);
		if (run.status != errors[i].status || !strstr(run.text, errors[i].says))
			test_fail(__FILE__, __LINE__,
				"%s: exit status %d, not %d, or \"%s\" is not in:\n%s",
				errors[i].line, run.status, errors[i].status, errors[i].says,
				run.text);
		const char *end = strchr(run.text, '\n');
		CHECK_ROW(strncmp(run.text, "sluice-encode: ", 15) == 0, errors[i].line);
		CHECK_ROW(end && end[1] == 0, run.text);
		CHECK_ROW(run.seconds < test_slowness(), errors[i].line);
	}
	CHECK(access(in_tmp("a.mp4"), F_OK) < 0);
	CHECK_EQ(broker_stop(&b), 0);
}

TEST(help_and_version_are_on_the_standard_output)
{
	struct run run;
	struct stat st;
	run_to_end(&run, NULL, "--help");
	CHECK_EQ(run.status, 0);
	CHECK_STR(run.text, "");
	CHECK(stat(run.out, &st) == 0 && st.st_size > 2000);
	run_to_end(&run, NULL, "--version");
	CHECK_EQ(run.status, 0);
	CHECK(stat(run.out, &st) == 0 && st.st_size > 20);
}

TEST(help_that_could_not_be_written_is_a_failure)
{
	enum { ROOM = 100 }; /* bytes: for the sentence, but not for the help */
	static struct program program;
	program_run(&program, (const char *const[]){ SLUICE_ENCODE, "--help", NULL }, ROOM);
	CHECK_EQ(program.status, 1);
	CHECK(strstr(program.err, "cannot write to the standard output"));
}
