/* sluice-snap: the newest frame of a stream as PNG. */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/format.h"
#include "consumer/snap/picture.h"
#include "consumer/snap/png_file.h"

enum { EXIT_USAGE = 2 };

static const double timeout_min_s = 0.001, timeout_max_s = 3600;

static const char help[] =
	"usage: sluice-snap [--socket PATH] --stream NAME [--format NAME] [--size WxH]\n"
	"                   [--timeout SECONDS] OUT.png\n"
	"\n"
	"Write the newest frame of a stream as a PNG file. OUT.png appears when it is complete,\n"
	"or not at all; - is standard output.\n"
	"\n"
	"  --stream NAME      which stream: `sluice ls` lists them\n"
	"  --format NAME      let the broker convert it, as NV12 or I420, before it is written;\n"
	"                     for seeing what other clients get\n"
	"  --size WxH         ..., to this size; 0 for a side that keeps the proportions\n"
	"  --timeout SECONDS  how long to wait for a frame: 0.001 to 3600, 5 if not given\n"
	"  --socket PATH      the broker's socket; else $SLUICE_SOCKET, else\n"
	"                     $XDG_RUNTIME_DIR/sluice-0\n"
	"  --help, --version\n"
	"\n"
	"examples:\n"
	"  sluice-snap --stream desktop now.png\n"
	"  sluice-snap --stream desktop - | feh -\n"
	"  sluice-snap --stream desktop --size 320x0 small.png\n"
	"\n"
	"exit status: 0 written, 1 failed (no broker, no frame, disk full), 2 wrong usage";

struct options {
	const char *socket;
	const char *stream;
	const char *path;
	double timeout_s;
	uint32_t fourcc; /* 0: the stream's own */
	uint32_t width, height;
};

/* --- Options ----------------------------------------------------------------------------------*/

static double parse_timeout(const char *text)
{
	char *end;
	double s = strtod(text, &end);
	if (end == text || *end || !(s >= timeout_min_s) || s > timeout_max_s)
		errx(EXIT_USAGE, "--timeout %s: give seconds from %g to %g", text, timeout_min_s,
			timeout_max_s);
	return s;
}

static uint32_t parse_format(const char *name)
{
	const struct format_info *info = format_info_by_name(name);
	if (info)
		return info->fourcc;
	fprintf(stderr, "sluice-snap: --format %s: give one of", name);
	for (unsigned i = 0; (info = format_info_at(i)); i++)
		fprintf(stderr, " %s", info->name);
	fputc('\n', stderr);
	exit(EXIT_USAGE);
}

static void parse_size(const char *text, struct options *o)
{
	char rest;
	bool is_size = strspn(text, "0123456789x") == strlen(text) &&
		       sscanf(text, "%5ux%5u%c", &o->width, &o->height, &rest) == 2;
	if (!is_size || o->width > FORMAT_SIDE_MAX || o->height > FORMAT_SIDE_MAX)
		errx(EXIT_USAGE, "--size %s: give two sides of 0 to %d pixels, as in 640x360", text,
			FORMAT_SIDE_MAX);
}

static _Noreturn void tell(const char *text)
{
	if (puts(text) < 0 || fflush(stdout) != 0)
		err(EXIT_FAILURE, "cannot write to the standard output");
	exit(EXIT_SUCCESS);
}

static void parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "socket", required_argument, NULL, 'k' },
		{ "stream", required_argument, NULL, 's' },
		{ "timeout", required_argument, NULL, 't' },
		{ "format", required_argument, NULL, 'f' },
		{ "size", required_argument, NULL, 'z' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int c;
	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1)
		switch (c) {
		case 'k':
			o->socket = optarg;
			break;
		case 's':
			o->stream = optarg;
			break;
		case 't':
			o->timeout_s = parse_timeout(optarg);
			break;
		case 'f':
			o->fourcc = parse_format(optarg);
			break;
		case 'z':
			parse_size(optarg, o);
			break;
		case 'h':
			tell(help);
		case 'v':
			tell("sluice-snap " SLUICE_VERSION);
		default:
			errx(EXIT_USAGE, "try sluice-snap --help");
		}
}

static void parse(int argc, char **argv, struct options *o)
{
	parse_options(argc, argv, o);
	if (!o->stream)
		errx(EXIT_USAGE, "which stream? Give --stream NAME; `sluice ls` lists them");
	if (optind + 1 != argc)
		errx(EXIT_USAGE, "give one file to write, or - : try sluice-snap --help");
	o->path = argv[optind];
	if (strcmp(o->path, "-") == 0 && isatty(STDOUT_FILENO))
		errx(EXIT_USAGE, "a picture is nothing for a terminal: give a file, or a pipe");
}

/* --- The frame --------------------------------------------------------------------------------*/

/* Why there is no frame: the broker may know. */
static void explain_no_frame(struct sluice *conn, const struct options *o)
{
	struct sluice_stream_info *infos = NULL;
	int n = sluice_streams(conn, &infos);
	for (int i = 0; i < n; i++)
		if (strcmp(infos[i].name, o->stream) == 0 && infos[i].text[0])
			errx(EXIT_FAILURE, "no frame of %s came within %g s: %s", o->stream,
				o->timeout_s, infos[i].text);
	free(infos);
	errx(EXIT_FAILURE,
		"no whole frame of %s came within %g s: `sluice ls` shows what it is doing",
		o->stream, o->timeout_s);
}

/* 1: copied; 0: none that was whole. */
static int copy_next(struct sluice *conn, struct sluice_view *view, struct picture *picture)
{
	struct sluice_frame *frame;
	int r = sluice_view_next(view, &frame);
	if (r < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(conn));
	if (r == 0)
		return 0;
	r = picture_copy(picture, frame);
	sluice_frame_release(frame);
	if (r == -ENOMEM)
		errx(EXIT_FAILURE, "no memory for a picture of that size");
	return r == 0;
}

static void take_frame(struct sluice *conn, const struct options *o, struct picture *picture)
{
	uint64_t end = clock_ns() + (uint64_t)(o->timeout_s * 1e9), now;
	struct sluice_view *view;
	struct sluice_view_request newest = {
		.max_holds = 1, .fourcc = o->fourcc, .width = o->width, .height = o->height
	};
	int r = sluice_subscribe(conn, o->stream, &newest, &view);
	if (r < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(conn));
	while (!copy_next(conn, view, picture)) {
		if ((now = clock_ns()) >= end)
			explain_no_frame(conn, o);
		r = sluice_wait(conn, (int)((end - now) / NS_PER_MS) + 1);
		if (r < 0 && r != -EINTR)
			errx(EXIT_FAILURE, "%s", sluice_error(conn));
	}
	sluice_unsubscribe(view);
}

static void write_picture(const struct picture *picture, const char *path)
{
	char error[PNG_FILE_TEXT_SIZE], name[8];
	struct rgb rgb;
	int r = picture_to_rgb(picture, &rgb);
	if (r == -EOPNOTSUPP)
		errx(EXIT_FAILURE,
			"the stream's format is %s, which this sluice-snap cannot convert: it was "
			"built without libswscale",
			sluice_fourcc_name(picture->frame.fourcc, name));
	if (r < 0)
		errx(EXIT_FAILURE, "no memory for a picture of that size");
	if (png_file_write(path, &rgb, error) < 0)
		errx(EXIT_FAILURE, "%s", error);
	rgb_finish(&rgb);
}

int main(int argc, char **argv)
{
	struct options o = { .timeout_s = 5 };
	struct sluice *conn = NULL;
	struct picture picture;
	parse(argc, argv, &o);
	struct sluice_options how = { .socket = o.socket };
	if (sluice_connect(&conn, &how) < 0)
		errx(EXIT_FAILURE, "%s", sluice_error(NULL));
	take_frame(conn, &o, &picture);
	sluice_close(conn);
	write_picture(&picture, o.path);
	picture_finish(&picture);
	return EXIT_SUCCESS;
}
