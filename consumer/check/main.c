/* sluice-cuda-check: is the frame in GPU memory the one that was announced, and how soon is it there? */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "consumer/check/options.h"
#include "consumer/check/reader.h"
#include "consumer/check/report.h"

enum { TURN_MS = 100, HELD_MAX = 16, NOTE_MAX = 1024 };

/* A frame that is kept for a while, to be read at the end of it. */
struct held {
	struct sluice_frame *frame;
	uint64_t due_ns;
};

struct check {
	struct options options;
	struct sluice *conn;
	struct sluice_view *view;
	struct reader *reader;
	uint64_t began_ns;   /* to subscribe */
	uint64_t last_seq;   /* 0: none yet */
	char note[NOTE_MAX]; /* of the view, as it was told last */
	unsigned n_held;
	struct held held[HELD_MAX]; /* the oldest first */
	struct tally tally;
};

static volatile sig_atomic_t is_told_to_end, is_told_to_report;

static void on_end(int signo)
{
	is_told_to_end = 1;
}

static void on_report(int signo)
{
	is_told_to_report = 1;
}

/* Without SA_RESTART: what waits comes back. Whoever started us may have kept SIGUSR1 for us until
 * we can take it. */
static void catch_signals(void)
{
	struct sigaction end = { .sa_handler = on_end }, report = { .sa_handler = on_report };
	sigset_t ours;
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGUSR1, &report, NULL);
	sigemptyset(&ours);
	sigaddset(&ours, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &ours, NULL);
}

static bool is_over(const struct check *c)
{
	const struct options *o = &c->options;
	return is_told_to_end || (o->frames && c->tally.frames >= o->frames) ||
	       (o->time_ns && clock_ns() - c->began_ns >= o->time_ns);
}

static void report(struct check *c)
{
	tally_note_view(&c->tally, c->view);
	if (!c->options.quiet)
		report_print(&c->tally, c->options.json);
}

/* --- One frame --------------------------------------------------------------------------------*/

/* What is to be known of a frame that has been given back. */
struct facts {
	struct sluice_frame frame; /* a copy: its memory is not to be read */
	struct reader_rows rows;
	bool is_valid;
};

static void tell_wrong(
	struct check *c, const struct facts *f, enum stamp_result result, uint32_t number)
{
	static const char *const what[] = { "another frame's number", "no number at all",
		"parts of two frames" };
	char name[8];
	c->tally.torn += result == STAMP_TORN;
	if (c->tally.wrong++ > 0)
		return;
	warnx("wrong stamp: frame %" PRIu64 " (generation %" PRIu64 ", %s %ux%u) has %s in its "
	      "pixels",
		f->frame.seq, f->frame.generation, sluice_fourcc_name(f->frame.fourcc, name),
		f->frame.width, f->frame.height, what[result]);
	if (result == STAMP_OK)
		warnx("the number is %" PRIu32 ", %" PRId32 " from the right one", number,
			(int32_t)(number - (uint32_t)f->frame.seq));
	warnx("it was published %.1f us after it was captured, and received %.1f us after that",
		(double)(f->frame.published_ns - f->frame.captured_ns) / 1e3,
		(double)(f->frame.received_ns - f->frame.published_ns) / 1e3);
}

static void tell_backwards(struct check *c, uint64_t seq)
{
	if (c->tally.backwards++ == 0)
		warnx("frame %" PRIu64 " came after frame %" PRIu64 ": numbers must rise", seq,
			c->last_seq);
}

static void judge(struct check *c, const struct facts *f)
{
	uint32_t number = 0;
	enum stamp_result result = stamp_read_rows(
		c->reader->pixels, f->rows.bytes, f->frame.fourcc, f->rows.block, &number);
	if (f->frame.seq <= c->last_seq)
		tell_backwards(c, f->frame.seq);
	c->last_seq = f->frame.seq;
	c->tally.early += f->frame.copied_ns == 0;
	c->tally.frames += f->is_valid;
	c->tally.revoked += !f->is_valid;
	if (f->is_valid && (result != STAMP_OK || number != (uint32_t)f->frame.seq))
		tell_wrong(c, f, result, number);
}

static void release_after(struct check *c, struct sluice_frame *frame)
{
	if (sluice_frame_release_after(frame, c->reader->stream) < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(c->conn));
}

/* The GPU waits for a broker that hangs: nothing can be ended in order. */
static _Noreturn void leave_stuck(struct check *c, const struct facts *f)
{
	warnx("frame %" PRIu64 " was announced, and its pixels do not come: the broker hangs",
		f->frame.seq);
	report(c);
	_exit(EXIT_FAILURE);
}

static int wait_for_pixels(struct check *c, const struct facts *f)
{
	int r;
	do
		r = c->reader->ops->wait(c->reader, c->conn, c->view);
	while (r == -ETIMEDOUT && !is_over(c));
	if (r == -ETIMEDOUT)
		leave_stuck(c, f);
	return r;
}

/* Read it, and give it back: reserved holds need no look at their validity, so the stream that reads
 * them may have them before the pixels are here. -ECONNRESET: the broker is gone. */
static int read_and_release(struct check *c, struct sluice_frame *frame, struct facts *f)
{
	const struct options *o = &c->options;
	bool is_early = o->release_after && o->request.reserved_holds > 0;
	int r = c->reader->ops->begin(c->reader, frame, &f->rows);
	if (r == 0 && is_early)
		release_after(c, frame);
	if (r == 0)
		r = wait_for_pixels(c, f);
	uint64_t now = clock_ns();
	f->is_valid = is_early || sluice_frame_valid(frame);
	if (o->release_after && !is_early && r == 0)
		release_after(c, frame);
	else if (!is_early)
		sluice_frame_release(frame);
	if (r == 0)
		span_add(&c->tally.span, &f->frame, now);
	return r;
}

static _Noreturn void cannot_read(const struct check *c, const struct facts *f, int r)
{
	const char *ours = c->reader->error, *theirs = sluice_error(c->conn);
	errx(EXIT_FAILURE, "cannot read frame %" PRIu64 ": %s", f->frame.seq,
		ours[0]     ? ours
		: theirs[0] ? theirs
			    : strerror(-r));
}

static int check_frame(struct check *c, struct sluice_frame *frame)
{
	struct facts f = { .frame = *frame };
	if (reader_rows_of(frame, &f.rows) < 0)
		errx(EXIT_FAILURE, "%ux%u is too small for a frame number", frame->width,
			frame->height);
	int r = read_and_release(c, frame, &f);
	if (r == -ECONNRESET)
		return r;
	if (r < 0)
		cannot_read(c, &f, r);
	if (c->tally.first_ns == 0)
		c->tally.first_ns = clock_ns() - c->began_ns;
	judge(c, &f);
	return 0;
}

/* --- All frames -------------------------------------------------------------------------------*/

/* How long nothing needs to be done. */
static int idle_ms(const struct check *c)
{
	uint64_t now = clock_ns(), until = now + TURN_MS * NS_PER_MS;
	uint64_t end = c->options.time_ns ? c->began_ns + c->options.time_ns : until;
	if (c->n_held > 0 && c->held[0].due_ns < until)
		until = c->held[0].due_ns;
	if (end < until)
		until = end;
	return until > now ? (int)((until - now) / NS_PER_MS) + 1 : 0;
}

/* Frames may wait while as many are held as may be: then only time helps, or what comes. */
static int wait_beside_held(struct check *c)
{
	struct pollfd p = { .fd = sluice_fd(c->conn), .events = POLLIN };
	poll(&p, 1, idle_ms(c));
	return sluice_dispatch(c->conn);
}

static int wait_for_frame(struct check *c)
{
	uint64_t until = clock_ns() + c->options.spin_ns;
	if (c->n_held > 0)
		return wait_beside_held(c);
	int r = sluice_dispatch(c->conn);
	while (r == 0 && clock_ns() < until && !is_told_to_end)
		r = sluice_dispatch(c->conn);
	if (r == 0)
		r = sluice_wait(c->conn, idle_ms(c));
	return r == -EINTR ? 0 : r;
}

static int take_frames(struct check *c)
{
	struct sluice_frame *frame;
	int r = 0;
	while (c->n_held < HELD_MAX && (r = sluice_view_next(c->view, &frame)) > 0) {
		c->held[c->n_held++] = (struct held){ frame, clock_ns() + c->options.hold_ns };
		if (c->options.hold_ns == 0)
			break;
	}
	return r;
}

/* 1: one was read; 0: it is not time yet. */
static int read_next(struct check *c)
{
	if (c->n_held == 0 || clock_ns() < c->held[0].due_ns)
		return 0;
	struct sluice_frame *frame = c->held[0].frame;
	memmove(c->held, c->held + 1, --c->n_held * sizeof(c->held[0]));
	int r = check_frame(c, frame);
	return r < 0 ? r : 1;
}

/* Why the view is less than was asked for: at first, or since its memory was imported. */
static void tell_note(struct check *c)
{
	const char *note = sluice_view_note(c->view);
	if (strncmp(note, c->note, sizeof(c->note) - 1) == 0)
		return;
	snprintf(c->note, sizeof(c->note), "%s", note);
	if (note[0])
		warnx("%s", note);
}

/* A SIGUSR1: several of these are measured together from when all have their first frame. */
static void report_when_told(struct check *c)
{
	if (!is_told_to_report || c->tally.frames == 0)
		return;
	is_told_to_report = 0;
	report(c);
	span_begin(&c->tally.span);
}

/* 0, or negative: the connection or the view has ended. */
static int run(struct check *c)
{
	while (!is_over(c)) {
		report_when_told(c);
		tell_note(c);
		int r = take_frames(c);
		if (r >= 0)
			r = read_next(c);
		if (r == 0)
			r = wait_for_frame(c);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- Beginning and end ------------------------------------------------------------------------*/

static struct sluice_stream_info find_stream(const struct check *c)
{
	_cleanup_free_ struct sluice_stream_info *infos = NULL;
	int n = sluice_streams(c->conn, &infos);
	if (n < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(c->conn));
	for (int i = 0; i < n; i++)
		if (strcmp(infos[i].name, c->options.stream) == 0)
			return infos[i];
	errx(EXIT_FAILURE, "there is no stream \"%s\": `sluice ls` shows which there are",
		c->options.stream);
}

static void create_reader(struct check *c, struct sluice_vulkan *vulkan)
{
	char error[READER_TEXT_MAX] = "out of memory";
	struct sluice_stream_info stream = find_stream(c);
	uint64_t began = clock_ns();
	int r;
	if (c->options.request.memory == SLUICE_MEMORY_CUDA)
		r = reader_create_cuda(&c->reader, &stream, error);
#ifdef HAVE_VULKAN
	else if (c->options.request.memory == SLUICE_MEMORY_VULKAN)
		r = reader_create_vulkan(&c->reader, &stream, vulkan, error);
#endif
	else
		r = reader_create_host(&c->reader);
	if (r < 0)
		errx(EXIT_FAILURE, "%s", error);
	c->tally.start_ns = clock_ns() - began;
}

static void begin(struct check *c)
{
	struct sluice_options options = { .socket = c->options.socket };
	struct sluice_vulkan vulkan = { 0 };
	if (sluice_connect(&c->conn, &options) < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(NULL));
	create_reader(c, &vulkan);
	c->options.request.vulkan = &vulkan;
	c->began_ns = clock_ns();
	if (sluice_subscribe(c->conn, c->options.stream, &c->options.request, &c->view) < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(c->conn));
	tell_note(c);
	span_begin(&c->tally.span);
}

/* What the library has in the GPU goes before what it is in. */
static void end(struct check *c)
{
	uint64_t began = clock_ns();
	tally_note_view(&c->tally, c->view);
	for (unsigned i = 0; i < c->n_held; i++)
		sluice_frame_release(c->held[i].frame);
	sluice_unsubscribe(c->view);
	sluice_close(c->conn);
	c->tally.end_ns = clock_ns() - began;
	reader_destroy(c->reader);
}

/* The broker or the view has gone. */
static void tell_lost(struct check *c)
{
	warnx("%s", sluice_error(c->conn));
	if (c->tally.span.frames > 0)
		c->tally.lost_ns = clock_ns() - c->tally.span.last_ns;
}

/* None was verified. */
static void tell_none(const struct check *c)
{
	if (c->tally.revoked > 0)
		warnx("each of %" PRIu64 " frames was taken back before it was read: give "
		      "--reserved, or no --hold",
			c->tally.revoked);
	else
		warnx("no frame of %s came: `sluice ls` shows what it is doing", c->options.stream);
}

int main(int argc, char **argv)
{
	static struct check c;
	options_parse(argc, argv, &c.options);
	catch_signals();
	begin(&c);
	int r = run(&c);
	if (r < 0)
		tell_lost(&c);
	else if (c.tally.frames == 0)
		tell_none(&c);
	end(&c);
	if (!c.options.quiet)
		report_print(&c.tally, c.options.json);
	bool is_good = r == 0 && c.tally.frames > 0 && c.tally.wrong == 0 && c.tally.backwards == 0;
	return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
