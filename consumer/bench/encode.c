/*
 * sluice-encode beside the ffmpeg program, which reads the same pictures from a file: the same codec
 * with the same settings on one thread, into nothing.
 *
 * One thread, because the test picture has to be drawn meanwhile, on another core: the broker makes
 * half as many pictures again as ffmpeg encodes, so that one always waits. Who got less than a core
 * was starved all the same, and is said so. The picture is small enough for sluice-encode to convert it
 * on that thread as well, and ffmpeg's filters get one.
 *
 * Starting is not encoding: both run once unmeasured, and what half of the frames take is taken off
 * what all of them take. What the broker itself costs is seen at a rate that everybody keeps up with,
 * where no picture is drawn in vain.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "consumer/bench/cpu.h"
#include "consumer/bench/figures.h"
#include "consumer/bench/subject.h"

enum {
	WIDTH = 1280,
	HEIGHT = 704, /* 1280x720 would be converted on several threads */
	PACE_FPS = 60,
	FILE_FRAMES = 90, /* of the file, which is read again and again */
	LOOPS = 8,        /* so often */
	PACED_FRAMES = 120,
	QUICK_WIDTH = 320,
	QUICK_HEIGHT = 240,
	QUICK_FRAMES = 20,
	QUICK_LOOPS = 2,
	BUSY_LEAST = 80, /* percent of a core: less, and it waited for something */
	ARGS_MAX = 44,
	ARG_MAX_BYTES = 160,
};

struct set {
	struct place *place;
	unsigned width, height, file_frames, loops, paced_frames;
	char file[BENCH_PATH_MAX];
};

/* A command line, word by word. */
struct line {
	unsigned n;
	char text[ARGS_MAX][ARG_MAX_BYTES];
	char *argv[ARGS_MAX + 1];
};

struct cost {
	double seconds; /* on the clock */
	double cpu_us;  /* of the processor */
};

struct encode_series {
	struct series rate, cpu, busy, paced_cpu, loop_share, copy_share;
};

static void add_word(struct line *line, const char *word)
{
	snprintf(line->text[line->n], ARG_MAX_BYTES, "%s", word);
	line->argv[line->n] = line->text[line->n];
	line->argv[++line->n] = NULL;
}

/* Words with spaces between them, none of which has one. */
static void add_words(struct line *line, const char *words)
{
	char copy[512], *rest = copy, *word;
	snprintf(copy, sizeof(copy), "%s", words);
	while ((word = strsep(&rest, " ")))
		add_word(line, word);
}

static void add_number(struct line *line, const char *option, unsigned n)
{
	char text[16];
	snprintf(text, sizeof(text), "%u", n);
	add_word(line, option);
	add_word(line, text);
}

#define AHEAD 1.5 /* pictures are made so much faster than ffmpeg encodes them */
#define CODEC "-c:v libx264 -preset ultrafast -tune zerolatency -crf 23 -g 120"

static void sluice_line(struct line *line, const struct subject *broker, unsigned frames)
{
	*line = (struct line){ 0 };
	add_words(line, "sluice-encode -q --stream bench --queue fifo:4 --socket");
	add_word(line, broker->socket);
	add_number(line, "--frames", frames);
}

static void ffmpeg_line(struct line *line, const struct set *set, unsigned frames)
{
	char size[32];
	*line = (struct line){ 0 };
	snprintf(size, sizeof(size), "%ux%u", set->width, set->height);
	add_words(line, "ffmpeg -v error -nostdin -f rawvideo -pix_fmt bgr0 -framerate 60");
	add_number(line, "-stream_loop", set->loops - 1);
	add_words(line, "-video_size");
	add_word(line, size);
	add_word(line, "-i");
	add_word(line, set->file);
	add_words(line, CODEC " -threads 1 -filter_threads 1 -pix_fmt yuv420p");
	add_number(line, "-frames:v", frames);
	add_words(line, "-f null -");
}

static void become(const struct line *line)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN);
	dup2(null, STDOUT_FILENO);
	program_exec(NULL, line->argv[0], "consumer/encoder", line->argv);
	progress("cannot run %s: %s", line->argv[0], strerror(errno));
	_exit(127);
}

/* wait4(), but a signal to us ends the program. */
static int await(pid_t pid, const char *name, struct rusage *usage, struct failure *failure)
{
	int status;
	while (wait4(pid, &status, 0, usage) < 0) {
		if (errno != EINTR)
			return fail(failure, -errno, "%s: %s", name, strerror(errno));
		if (bench_interrupted)
			kill(pid, SIGKILL);
	}
	if (bench_interrupted)
		return fail(failure, -EINTR, "interrupted");
	if (status != 0)
		return fail(failure, -ECHILD,
			"encode: %s failed; it says above why (Debian's packages: ffmpeg, and "
			"sluice-encode is built with libavcodec-dev)",
			name);
	return 0;
}

static double seconds_of(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec * 1e-6;
}

static int run(const struct line *line, struct cost *cost_out, struct failure *failure)
{
	struct rusage usage;
	uint64_t begin = clock_ns();
	pid_t pid = fork();
	if (pid < 0)
		return fail(failure, -errno, "cannot start %s: %s", line->argv[0], strerror(errno));
	if (pid == 0)
		become(line);
	int r = await(pid, line->argv[0], &usage, failure);
	if (r < 0)
		return r;
	cost_out->seconds = (double)(clock_ns() - begin) / NS_PER_S;
	cost_out->cpu_us = 1e6 * (seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime));
	return 0;
}

static int start_broker(
	struct subject **broker_out, const struct set *set, unsigned fps, struct failure *failure)
{
	const struct scene scene = {
		.consumers = 1, .width = set->width, .height = set->height, .fps = fps
	};
	return subject_broker.start(broker_out, set->place, &scene, failure);
}

/* The pictures of the stream, as they are. */
static int record_file(const struct set *set, struct failure *failure)
{
	_cleanup_(subject_destroyp) struct subject *broker = NULL;
	struct line line;
	struct cost cost;
	int r = start_broker(&broker, set, PACE_FPS, failure);
	if (r < 0)
		return r;
	sluice_line(&line, broker, set->file_frames);
	add_words(&line, "-c rawvideo --pix-fmt bgr0 -f rawvideo");
	add_word(&line, set->file);
	return run(&line, &cost, failure);
}

static int run_sluice(const struct subject *broker, unsigned frames, struct cost *cost_out,
	struct failure *failure)
{
	struct line line;
	sluice_line(&line, broker, frames);
	add_words(&line, CODEC " -o threads=1 --pix-fmt yuv420p -f null -");
	return run(&line, cost_out, failure);
}

static int run_ffmpeg(
	const struct set *set, unsigned frames, struct cost *cost_out, struct failure *failure)
{
	struct line line;
	ffmpeg_line(&line, set, frames);
	return run(&line, cost_out, failure);
}

/* Of one frame, without the start. In a run so short that starting is most of it: with it. */
static double each_of(double all, double half, unsigned frames)
{
	unsigned rest = frames - frames / 2;
	return all > 1.2 * half ? (all - half) / rest : all / frames;
}

static struct cost cost_of_each(const struct cost *all, const struct cost *half, unsigned frames)
{
	return (struct cost){ each_of(all->seconds, half->seconds, frames),
		each_of(all->cpu_us, half->cpu_us, frames) };
}

static int time_sluice(const struct subject *broker, unsigned frames, struct cost *each_out,
	struct failure *failure)
{
	struct cost half = { 0 }, all = { 0 };
	int r = run_sluice(broker, frames / 2, &half, failure);
	if (r == 0)
		r = run_sluice(broker, frames, &all, failure);
	if (r == 0)
		*each_out = cost_of_each(&all, &half, frames);
	return r;
}

static int time_ffmpeg(
	const struct set *set, unsigned frames, struct cost *each_out, struct failure *failure)
{
	struct cost half = { 0 }, all = { 0 };
	int r = run_ffmpeg(set, frames / 2, &half, failure);
	if (r == 0)
		r = run_ffmpeg(set, frames, &all, failure);
	if (r == 0)
		*each_out = cost_of_each(&all, &half, frames);
	return r;
}

/* What is read from the disk the first time. */
static int warm_up(const struct set *set, struct failure *failure)
{
	_cleanup_(subject_destroyp) struct subject *broker = NULL;
	struct cost ignored;
	int r = start_broker(&broker, set, PACE_FPS, failure);
	if (r == 0)
		r = run_sluice(broker, 2, &ignored, failure);
	return r == 0 ? run_ffmpeg(set, 2, &ignored, failure) : r;
}

/* Percent of a core. */
static double busy_of(const char *name, const struct cost *each)
{
	double percent = 100 * each->cpu_us / (each->seconds * 1e6);
	if (percent < BUSY_LEAST)
		progress("encode: %s had %.0f %% of a core: it was starved, and this round says "
			 "little",
			name, percent);
	return percent;
}

/* Both as fast as they can. */
static int race(struct encode_series *s, const struct set *set, struct cost *ffmpeg_out,
	unsigned fps, struct failure *failure)
{
	_cleanup_(subject_destroyp) struct subject *broker = NULL;
	unsigned frames = set->file_frames * set->loops;
	struct cost sluice = { 0 };
	int r = start_broker(&broker, set, fps, failure);
	if (r == 0)
		r = time_sluice(broker, frames, &sluice, failure);
	broker = subject_destroy(broker); /* or it would draw beside ffmpeg */
	if (r == 0)
		r = time_ffmpeg(set, frames, ffmpeg_out, failure);
	if (r < 0)
		return r;
	series_add(&s->rate, 1 / sluice.seconds, 1 / ffmpeg_out->seconds);
	series_add(&s->cpu, sluice.cpu_us, ffmpeg_out->cpu_us);
	series_add(&s->busy, busy_of("sluice-encode", &sluice), busy_of("ffmpeg", ffmpeg_out));
	return 0;
}

static int read_broker(
	const struct subject *broker, struct cpu_time *cpu_out, struct failure *failure)
{
	int r = cpu_read(broker->pid, cpu_out);
	return r < 0 ? fail(failure, r, "the broker's processor time: %s", strerror(-r)) : 0;
}

/* A run, and what the broker spent meanwhile. */
static int run_beside_broker(const struct subject *broker, unsigned frames, struct cost *cost_out,
	struct cpu_time *spent_out, struct failure *failure)
{
	struct cpu_time before = { 0 }, after = { 0 };
	int r = read_broker(broker, &before, failure);
	if (r == 0)
		r = run_sluice(broker, frames, cost_out, failure);
	if (r == 0)
		r = read_broker(broker, &after, failure);
	*spent_out = cpu_between(&before, &after);
	return r;
}

/* At a rate that leaves time: what the broker spends while a known number of frames is encoded. */
static int pace(struct encode_series *s, const struct set *set, const struct cost *ffmpeg,
	struct failure *failure)
{
	_cleanup_(subject_destroyp) struct subject *broker = NULL;
	unsigned frames = set->paced_frames;
	struct cpu_time half = { 0 }, all = { 0 };
	struct cost half_cost = { 0 }, all_cost = { 0 };
	int r = start_broker(&broker, set, PACE_FPS, failure);
	if (r == 0)
		r = run_beside_broker(broker, frames / 2, &half_cost, &half, failure);
	if (r == 0)
		r = run_beside_broker(broker, frames, &all_cost, &all, failure);
	if (r < 0)
		return r;
	/* of a frame, without the encoder's start, as everything else */
	double cpu_us = each_of(all_cost.cpu_us, half_cost.cpu_us, frames);
	double loop_ns = each_of(
		(double)(all.all_ns - all.copy_ns), (double)(half.all_ns - half.copy_ns), frames);
	double copy_ns = each_of((double)all.copy_ns, (double)half.copy_ns, frames);
	series_add(&s->loop_share, loop_ns / (cpu_us * 10), 0);
	series_add(&s->copy_share, copy_ns / (cpu_us * 10), 0);
	series_add(&s->paced_cpu, cpu_us, ffmpeg->cpu_us);
	return 0;
}

static void add_row(struct report *report, const struct set *set, const char *what, struct row row,
	struct series *series)
{
	row.figure = "encode";
	snprintf(row.what, sizeof(row.what), "%ux%u: %s", set->width, set->height, what);
	report_add(report, &row, series);
}

static void add_rows(struct report *report, const struct set *set, struct encode_series *s)
{
	add_row(report, set, "encoded",
		(struct row){ .unit = "/s",
			.beside_name = "ffmpeg",
			.target = TARGET_RATIO_AT_LEAST,
			.bound = 0.97 },
		&s->rate);
	add_row(report, set, "processor time of a frame",
		(struct row){ .unit = "us", .beside_name = "ffmpeg" }, &s->cpu);
	add_row(report, set, "of a core meanwhile",
		(struct row){ .unit = "%", .beside_name = "ffmpeg" }, &s->busy);
	add_row(report, set, "processor time at 60 frames/s",
		(struct row){ .unit = "us", .beside_name = "ffmpeg" }, &s->paced_cpu);
	add_row(report, set, "broker's event loop, of that",
		(struct row){ .unit = "%", .target = TARGET_AT_MOST, .bound = 5 }, &s->loop_share);
	add_row(report, set, "broker's copy thread (draws the picture), of that",
		(struct row){ .unit = "%" }, &s->copy_share);
}

static int measure(
	struct encode_series *s, const struct set *set, unsigned rounds, struct failure *failure)
{
	struct cost ffmpeg = { 0 };
	progress("encode: recording the pictures");
	int r = record_file(set, failure);
	if (r == 0)
		r = warm_up(set, failure);
	if (r == 0)
		r = time_ffmpeg(set, set->file_frames, &ffmpeg, failure); /* how fast it is */
	if (r < 0)
		return r;
	unsigned fps = (unsigned)(AHEAD / ffmpeg.seconds) + 1;
	for (unsigned i = 0; r == 0 && i < rounds; i++) {
		progress("encode: round %u of %u", i + 1, rounds);
		r = race(s, set, &ffmpeg, fps, failure);
		if (r == 0)
			r = pace(s, set, &ffmpeg, failure);
	}
	return r;
}

int figure_encode(struct report *report, const struct plan *plan, struct failure *failure)
{
	static struct encode_series series;
	struct set set = {
		.place = plan->place,
		.width = report->is_quick ? QUICK_WIDTH : WIDTH,
		.height = report->is_quick ? QUICK_HEIGHT : HEIGHT,
		.file_frames = report->is_quick ? QUICK_FRAMES : FILE_FRAMES,
		.loops = report->is_quick ? QUICK_LOOPS : LOOPS,
		.paced_frames = report->is_quick ? QUICK_FRAMES : PACED_FRAMES,
	};
	snprintf(set.file, sizeof(set.file), "%s/frames", plan->place->dir);
	int r = measure(&series, &set, plan->rounds, failure);
	if (r == 0)
		add_rows(report, &set, &series);
	return r;
}
