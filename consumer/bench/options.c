#include "consumer/bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS_MAX = 600, ROUNDS_DEFAULT = 20, GPU_ROUNDS_DEFAULT = 5, SECONDS_DEFAULT = 10 };

enum { HELP = 1, VERSION, QUICK, ONLY, CONSUMERS, SECONDS, ROUNDS, JSON, BROKER, CHECK };

static const struct option long_options[] = {
	{ "help", no_argument, NULL, HELP },
	{ "version", no_argument, NULL, VERSION },
	{ "quick", no_argument, NULL, QUICK },
	{ "only", required_argument, NULL, ONLY },
	{ "consumers", required_argument, NULL, CONSUMERS },
	{ "seconds", required_argument, NULL, SECONDS },
	{ "rounds", required_argument, NULL, ROUNDS },
	{ "json", required_argument, NULL, JSON },
	{ "broker", required_argument, NULL, BROKER },
	{ "check", required_argument, NULL, CHECK },
	{ 0 },
};

static const struct options defaults = {
	.rounds = ROUNDS_DEFAULT,
	.gpu_rounds = GPU_ROUNDS_DEFAULT,
	.seconds = SECONDS_DEFAULT,
	.n_counts = 4,
	.counts = { 1, 10, 100, 1000 },
};

/* A number at the beginning of text; NULL if there is none within 1 to max, else what follows it. */
static const char *read_number(const char *text, unsigned max, unsigned *out)
{
	char *end;
	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno || end == text || text[0] < '0' || text[0] > '9' || n < 1 || n > max)
		return NULL;
	*out = (unsigned)n;
	return end;
}

static int set_number(const char *name, const char *text, unsigned max, unsigned *out)
{
	unsigned n;
	const char *end = read_number(text, max, &n);
	if (end && !*end) {
		*out = n;
		return 0;
	}
	progress("--%s is \"%.64s\": it must be a number from 1 to %u", name, text, max);
	return -EINVAL;
}

static int set_rounds(struct options *o, const char *text)
{
	int r = set_number("rounds", text, ROUNDS_MAX, &o->rounds);
	o->gpu_rounds = o->rounds;
	return r;
}

static int set_counts(struct options *o, const char *text)
{
	const char *at = text;
	o->n_counts = 0;
	o->has_counts = true;
	while (o->n_counts < COUNTS_MAX) {
		at = read_number(at, BENCH_CONSUMERS_MAX, &o->counts[o->n_counts]);
		if (!at)
			break;
		o->n_counts++;
		if (*at == 0)
			return 0;
		if (*at++ != ',')
			break;
	}
	progress("--consumers is \"%.64s\": write up to %d numbers from 1 to %d, as in 1,10,100",
		text, COUNTS_MAX, BENCH_CONSUMERS_MAX);
	return -EINVAL;
}

static int set_figure(struct options *o, const char *text)
{
	static const char *const names[] = { "cpu", "latency", "size", "copy", "first", "gstreamer",
		"gpu", "convert", "encode" };
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], text) == 0) {
			o->figures |= 1u << i;
			return 0;
		}
	progress("--only \"%.64s\": it is cpu, latency, size, copy, first, gstreamer, "
		 "gpu, convert or encode; may be given again",
		text);
	return -EINVAL;
}

static int set_option(struct options *o, int option, const char *arg)
{
	switch (option) {
	case HELP:
		help_print();
		return OPTIONS_EXIT;
	case VERSION:
		puts("sluice-bench " SLUICE_VERSION);
		return OPTIONS_EXIT;
	case QUICK:
		o->is_quick = true;
		return 0;
	case ONLY:
		return set_figure(o, arg);
	case CONSUMERS:
		return set_counts(o, arg);
	case SECONDS:
		return set_number("seconds", arg, SECONDS_MAX, &o->seconds);
	case ROUNDS:
		return set_rounds(o, arg);
	case JSON:
		o->json = arg;
		return 0;
	case BROKER:
		o->broker = arg;
		return 0;
	case CHECK:
		o->check = arg;
		return 0;
	default:
		progress("see sluice-bench --help");
		return -EINVAL;
	}
}

int options_parse(struct options *options_out, int argc, char **argv)
{
	struct options o = defaults;
	int option, r = 0;
	while (r == 0 && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		r = set_option(&o, option, optarg);
	if (r == 0 && optind < argc) {
		progress("\"%.64s\" is one word too many: see sluice-bench --help", argv[optind]);
		return -EINVAL;
	}
	if (!o.figures)
		o.figures = FIGURE_USUAL;
	if (r == 0)
		*options_out = o;
	return r;
}
