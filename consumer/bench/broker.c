/* The broker as what is measured, and its consumers, which use nothing but the public library. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/stamp.h"
#include "consumer/bench/subject.h"
#include "consumer/sluice_consumer.h"

enum {
	ARGUMENT_MAX = 256,
	FIFO_DEPTH = 4, /* as a recorder asks for: every frame */
	ROOM = 16,      /* clients that the broker takes beyond the consumers */
};

/* --- the process ------------------------------------------------------------------------------ */

struct command {
	const char *program;
	const char *gpu;
	char config[BENCH_PATH_MAX];
	char source[ARGUMENT_MAX];
};

static void broker_main(const struct subject *s, const void *data)
{
	const struct command *command = data;
	const char *argv[] = { "sluice-broker", "--config", command->config, "--socket", s->socket,
		"--source", command->source, "--gpu", command->gpu, NULL };
	/* what systemd told us is not for the broker */
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	program_exec(command->program, argv[0], "broker", (char *const *)argv);
	progress("cannot run %s: %s; name it with --broker PATH",
		command->program ? command->program : "sluice-broker", strerror(errno));
	_exit(1);
}

/* The defaults suit a desktop; these let one user have as many clients as are asked for. */
static int write_config(const char *path, unsigned clients, struct failure *failure)
{
	FILE *f = fopen(path, "we");
	if (!f)
		return fail(failure, -errno, "cannot write %s: %s", path, strerror(errno));
	fprintf(f,
		"[broker]\nlog-level = warning\n"
		"[limits]\nclients = %u\nclients-per-user = %u\nfds-per-user = 1048576\n"
		"[gpu]\nmemory = 8G\n",
		clients, clients);
	return fclose(f) == 0 ? 0
			      : fail(failure, -EIO, "cannot write %s: %s", path, strerror(errno));
}

static int broker_start(struct subject **subject_out, struct place *place,
	const struct scene *scene, struct failure *failure)
{
	struct command command = {
		.program = place->broker,
		.gpu = scene->gpu ? "auto" : "none",
	};
	snprintf(command.config, sizeof(command.config), "%s/config", place->dir);
	snprintf(command.source, sizeof(command.source), "bench=pattern:%ux%u@%u:BGRx%s",
		scene->width, scene->height, scene->fps, scene->gpu ? ":gpu" : "");
	int r = write_config(command.config, scene->consumers + ROOM, failure);
	if (r < 0)
		return r;
	return subject_start(subject_out, place, "broker", broker_main, &command, failure);
}

/* --- its consumers ---------------------------------------------------------------------------- */

/* The pattern source draws each frame's number into it: is it the frame that it should be? */
static int check_pixels(
	const struct sluice_frame *frame, bool *is_whole_out, struct failure *failure)
{
	uint32_t number;
	enum stamp_result stamp = stamp_read_luma(
		frame->data[0], frame->stride[0], 4, frame->width, frame->height, &number);
	bool is_whole = sluice_frame_valid(frame);
	if (is_whole && (stamp != STAMP_OK || number != (uint32_t)frame->seq))
		return fail(failure, -EBADMSG,
			"frame %llu has wrong pixels, and sluice_frame_valid() does not say so: "
			"this is a bug in Sluice",
			(unsigned long long)frame->seq);
	*is_whole_out = is_whole;
	return 0;
}

static int take_frames(
	struct seat *seat, struct sluice *conn, struct sluice_view *view, struct failure *failure)
{
	struct sluice_frame *frame;
	int r;
	while ((r = sluice_view_next(view, &frame)) > 0) {
		struct sighting s = {
			.seq = frame->seq,
			.published_ns = frame->published_ns,
			.received_ns = frame->received_ns,
		};
		if (seat_is_timed(seat))
			s.is_whole = sluice_frame_valid(frame);
		else
			r = check_pixels(frame, &s.is_whole, failure);
		if (r < 0)
			return r;
		sluice_frame_release(frame);
		seat_note(seat, &s);
	}
	return r < 0 ? fail(failure, r, "%s", sluice_error(conn)) : 0;
}

static int follow(struct seat *seat, struct sluice *conn, struct failure *failure)
{
	struct sluice_view *view;
	struct sluice_view_request request = {
		.delivery = SLUICE_FIFO,
		.fifo_depth = FIFO_DEPTH,
	};
	int r = sluice_subscribe(conn, "bench", &request, &view);
	while (r >= 0 && !seat_is_over(seat)) {
		r = sluice_wait(conn, SEAT_LOOK_MS);
		if (r <= 0)
			continue;
		r = take_frames(seat, conn, view, failure);
		if (r < 0)
			return r;
	}
	return r < 0 ? fail(failure, r, "%s", sluice_error(conn)) : 0;
}

static int broker_consume(struct seat *seat, const char *socket, struct failure *failure)
{
	struct sluice *conn;
	struct sluice_options options = { .socket = socket, .name = "sluice-bench" };
	int r = sluice_connect(&conn, &options);
	if (r < 0)
		return fail(failure, r, "%s", sluice_error(NULL));
	r = follow(seat, conn, failure);
	sluice_close(conn);
	return r;
}

const struct subject_kind subject_broker = {
	.name = "broker",
	.start = broker_start,
	.consume = broker_consume,
};
