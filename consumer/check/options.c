#include "consumer/check/options.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum {
	FRAMES_MAX = 1000000000,
	SECONDS_MAX = 1000000,
	SPIN_US_MAX = 1000000,
	HOLD_MS_MAX = 100000
};
enum { FIFO_MAX = 32, HOLDS_MAX = 16 };

static const char help[] =
	"usage: sluice-cuda-check --stream NAME [options]\n"
	"\n"
	"Read the frames of a stream out of GPU memory, and verify that the number in the pixels\n"
	"of each is the one that was announced: the source must draw it, as pattern: does. Says\n"
	"how long it took until the pixels were read.\n"
	"\n"
	"  --stream NAME        which stream: `sluice ls` lists them\n"
	"  -n, --frames N       end after so many frames were verified; else at a signal\n"
	"  -t, --time SECONDS   end after that time\n"
	"  --memory KIND        cuda (default); vulkan: a device of its own on the same GPU;\n"
	"                       host: plain memory\n"
	"  --readiness KIND     complete (default), timeline or sync-fd\n"
	"  --fifo N             every frame, up to N wait; else only the newest\n"
	"  --holds N            frames held at once, 1 to 16 (2)\n"
	"  --reserved N         as many holds, never taken back\n"
	"  --hold MILLISECONDS  keep each frame for so long before it is read and given back\n"
	"  --release-after      give frames back through the CUDA stream that reads them; with\n"
	"                       --reserved before they are read\n"
	"  --spin MICROSECONDS  poll for a frame for so long before sleeping (0)\n"
	"  --json               the report as one JSON document\n"
	"  --quiet              no report, only what is wrong\n"
	"  --socket PATH        the broker's socket; else $SLUICE_SOCKET, else\n"
	"                       $XDG_RUNTIME_DIR/sluice-0\n"
	"  --help, --version\n"
	"\n"
	"example:\n"
	"  sluice-broker --source g=pattern:1920x1080@60:BGRA:gpu    (in another terminal)\n"
	"  sluice-cuda-check --stream g -n 1000\n"
	"\n"
	"exit status: 0 every frame was right, 1 a wrong one or a failure, 2 wrong usage\n";

static _Noreturn void tell(const char *text)
{
	if (fputs(text, stdout) < 0 || fflush(stdout) != 0)
		err(EXIT_FAILURE, "cannot write to the standard output");
	exit(EXIT_SUCCESS);
}

static uint64_t parse_number(const char *name, const char *text, unsigned min, unsigned max)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] < '0' || text[0] > '9' || n < min || n > max)
		errx(EXIT_USAGE, "%s %s: give a number from %u to %u", name, text, min, max);
	return n;
}

static uint64_t parse_seconds(const char *name, const char *text)
{
	char *end;
	double s = strtod(text, &end);
	if (end == text || *end || !(s > 0) || s > SECONDS_MAX)
		errx(EXIT_USAGE, "%s %s: give seconds, up to %d", name, text, SECONDS_MAX);
	return (uint64_t)ceil(s * 1e9);
}

static unsigned parse_word(const char *name, const char *text, const char *const *words)
{
	for (unsigned i = 0; words[i]; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	errx(EXIT_USAGE, "%s %s: give %s, %s or %s", name, text, words[0], words[1], words[2]);
}

/* What the library is asked for. False: no such option. */
static bool set_request(struct sluice_view_request *r, int option, const char *arg)
{
	static const char *const memory[] = { "host", "cuda", "vulkan", NULL };
	static const char *const readiness[] = { "complete", "timeline", "sync-fd", NULL };
	switch (option) {
	case 'm':
		r->memory = parse_word("--memory", arg, memory);
		return true;
	case 'r':
		r->readiness = parse_word("--readiness", arg, readiness);
		return true;
	case 'f':
		r->delivery = SLUICE_FIFO;
		r->fifo_depth = (uint32_t)parse_number("--fifo", arg, 1, FIFO_MAX);
		return true;
	case 'o':
		r->max_holds = (uint32_t)parse_number("--holds", arg, 1, HOLDS_MAX);
		return true;
	case 'e':
		r->reserved_holds = (uint32_t)parse_number("--reserved", arg, 1, HOLDS_MAX);
		return true;
	default:
		return false;
	}
}

static void set_option(struct options *o, int option, const char *arg)
{
	if (set_request(&o->request, option, arg))
		return;
	switch (option) {
	case 'k':
		o->socket = arg;
		break;
	case 's':
		o->stream = arg;
		break;
	case 'n':
		o->frames = parse_number("--frames", arg, 1, FRAMES_MAX);
		break;
	case 't':
		o->time_ns = parse_seconds("--time", arg);
		break;
	case 'p':
		o->spin_ns = parse_number("--spin", arg, 0, SPIN_US_MAX) * NS_PER_US;
		break;
	case 'd':
		o->hold_ns = parse_number("--hold", arg, 0, HOLD_MS_MAX) * NS_PER_MS;
		break;
	case 'a':
		o->release_after = true;
		break;
	case 'j':
		o->json = true;
		break;
	case 'q':
		o->quiet = true;
		break;
	case 'h':
		tell(help);
	case 'v':
		tell("sluice-cuda-check " SLUICE_VERSION "\n");
	default:
		errx(EXIT_USAGE, "try sluice-cuda-check --help");
	}
}

static void check_together(const struct options *o)
{
	if (!o->stream)
		errx(EXIT_USAGE, "which stream? Give --stream NAME; `sluice ls` lists them");
	if (o->release_after && o->request.memory != SLUICE_MEMORY_CUDA)
		errx(EXIT_USAGE, "--release-after is for --memory cuda: it takes a CUDA stream");
#ifndef HAVE_VULKAN
	if (o->request.memory == SLUICE_MEMORY_VULKAN)
		errx(EXIT_USAGE,
			"--memory vulkan: this sluice-cuda-check was built without Vulkan");
#endif
	if (o->request.memory == SLUICE_MEMORY_HOST && o->request.readiness != SLUICE_COMPLETE)
		errx(EXIT_USAGE, "--readiness is for GPU memory: host memory is always complete");
	if (o->request.max_holds && o->request.reserved_holds)
		errx(EXIT_USAGE, "give --holds or --reserved, not both");
}

void options_parse(int argc, char **argv, struct options *options_out)
{
	static const struct option longs[] = {
		{ "socket", required_argument, NULL, 'k' },
		{ "stream", required_argument, NULL, 's' },
		{ "frames", required_argument, NULL, 'n' },
		{ "time", required_argument, NULL, 't' },
		{ "memory", required_argument, NULL, 'm' },
		{ "readiness", required_argument, NULL, 'r' },
		{ "fifo", required_argument, NULL, 'f' },
		{ "holds", required_argument, NULL, 'o' },
		{ "reserved", required_argument, NULL, 'e' },
		{ "spin", required_argument, NULL, 'p' },
		{ "hold", required_argument, NULL, 'd' },
		{ "release-after", no_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	struct options o = { .request.memory = SLUICE_MEMORY_CUDA };
	int option;
	while ((option = getopt_long(argc, argv, "n:t:qh", longs, NULL)) != -1)
		set_option(&o, option, optarg);
	if (optind < argc)
		errx(EXIT_USAGE, "\"%s\" is one word too many: try sluice-cuda-check --help",
			argv[optind]);
	check_together(&o);
	*options_out = o;
}
