#include "consumer/encoder/options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/format.h"
#include "consumer/encoder/help.h"
#include "consumer/encoder/now.h"
#include "consumer/encoder/settings.h"
#include "consumer/encoder/values.h"

enum kind {
	FLAG,       /* bool */
	TEXT,       /* const char * */
	NUMBER,     /* int64_t, min to max */
	REAL,       /* double, min to max */
	BITS,       /* int64_t: 800k, 4M */
	RATE,       /* AVRational: 30, 30000/1001, ntsc */
	SIZE,       /* the view's: 1280x720, 720p */
	FORMAT,     /* the view's: uint32_t */
	DURATION,   /* int64_t in µs: 90, 1:30, 500ms */
	QUEUE,      /* the view's delivery */
	LADDER,     /* struct ladder */
	SUPERVISED, /* int64_t in µs, and that this is a supervisor's child */
	KEY_VALUE,  /* one more of the encoder's options */
	HELP,
	VERSION,
};

/* While the line is read: numbers that end up in narrower fields. */
struct parse {
	struct options o;
	int64_t holds, reserved;
	AVRational max_rate;
	struct problem *problem;
};

struct row {
	const char *name;
	char letter;       /* 0: none */
	const char *alias; /* as FFmpeg's users write it; NULL: none */
	enum kind kind;
	size_t offset; /* in struct parse */
	int64_t min, max;
};

#define AT(field) offsetof(struct parse, field)

/* clang-format off */
static const struct row rows[] = {
	{ "socket",     0, NULL,      TEXT,      AT(o.socket), 0, 0 },
	{ "stream",     0, NULL,      TEXT,      AT(o.stream), 0, 0 },
	{ "format",     0, NULL,      FORMAT,    AT(o.view.fourcc), 0, 0 },
	{ "size",     's', NULL,      SIZE,      AT(o.view), 1, FORMAT_SIDE_MAX },
	{ "max-rate",   0, "fpsmax",  RATE,      AT(max_rate), 0, OPTIONS_RATE_MAX },
	{ "queue",      0, NULL,      QUEUE,     AT(o.view), 1, OPTIONS_FIFO_MAX },
	{ "holds",      0, NULL,      NUMBER,    AT(holds), 1, OPTIONS_HOLDS_MAX },
	{ "reserved",   0, NULL,      NUMBER,    AT(reserved), 1, OPTIONS_HOLDS_MAX },
	{ "ladder",     0, NULL,      LADDER,    AT(o.ladder), 1, LADDER_MAX },
	{ "rung",       0, NULL,      TEXT,      AT(o.rung), 0, 0 },
	{ "restart",    0, NULL,      FLAG,      AT(o.restart), 0, 0 },
	{ "supervised", 0, NULL,      SUPERVISED, AT(o.used_us), 0, INT64_MAX },
	{ "keep",       0, NULL,      FLAG,      AT(o.keep), 0, 0 },
	{ "reconnect",  0, NULL,      FLAG,      AT(o.reconnect), 0, 0 },
	{ "wait",       0, NULL,      FLAG,      AT(o.wait), 0, 0 },
	{ "codec",    'c', "vcodec",  TEXT,      AT(o.encoder.codec), 0, 0 },
	{ "bitrate",  'b', NULL,      BITS,      AT(o.encoder.bit_rate),
		OPTIONS_BIT_RATE_MIN, OPTIONS_BIT_RATE_MAX },
	{ "maxrate",    0, NULL,      BITS,      AT(o.encoder.max_bit_rate),
		OPTIONS_BIT_RATE_MIN, OPTIONS_BIT_RATE_MAX },
	{ "bufsize",    0, NULL,      BITS,      AT(o.encoder.buffer_bits),
		OPTIONS_BIT_RATE_MIN, OPTIONS_BIT_RATE_MAX },
	{ "crf",        0, NULL,      REAL,      AT(o.encoder.crf), 0, OPTIONS_CRF_MAX },
	{ "qp",         0, NULL,      NUMBER,    AT(o.encoder.qp), 0, OPTIONS_QP_MAX },
	{ "preset",     0, NULL,      TEXT,      AT(o.encoder.preset), 0, 0 },
	{ "tune",       0, NULL,      TEXT,      AT(o.encoder.tune), 0, 0 },
	{ "profile",    0, NULL,      TEXT,      AT(o.encoder.profile), 0, 0 },
	{ "gop",      'g', NULL,      NUMBER,    AT(o.encoder.gop), 0, OPTIONS_GOP_MAX },
	{ "bf",         0, NULL,      NUMBER,    AT(o.encoder.b_frames), 0, OPTIONS_B_FRAMES_MAX },
	{ "rate",     'r', NULL,      RATE,      AT(o.encoder.rate), 0, OPTIONS_RATE_MAX },
	{ "cfr",        0, NULL,      FLAG,      AT(o.cfr), 0, 0 },
	{ "pix-fmt",    0, "pix_fmt", TEXT,      AT(o.encoder.pix_fmt), 0, 0 },
	{ "option",   'o', NULL,      KEY_VALUE, AT(o.encoder.option), 0, ENCODER_OPTIONS_MAX },
	{ "muxer",    'f', NULL,      TEXT,      AT(o.muxer), 0, 0 },
	{ "time",     't', NULL,      DURATION,  AT(o.limit_us), 0, OPTIONS_SECONDS_MAX },
	{ "frames",     0, "frames:v", NUMBER,   AT(o.limit_frames), 1, OPTIONS_FRAMES_MAX },
	{ "segment",    0, "segment_time", DURATION, AT(o.segment_us), 0, OPTIONS_SECONDS_MAX },
	{ "timeout",    0, NULL,      DURATION,  AT(o.timeout_us), 0, OPTIONS_SECONDS_MAX },
	{ "reconnect-time", 0, NULL,  DURATION,  AT(o.patience_us), 0, OPTIONS_SECONDS_MAX },
	{ "stats",      0, NULL,      TEXT,      AT(o.stats_path), 0, 0 },
	{ "control",    0, NULL,      TEXT,      AT(o.control_path), 0, 0 },
	{ "tell",       0, NULL,      TEXT,      AT(o.tell_path), 0, 0 },
	{ "quiet",    'q', NULL,      FLAG,      AT(o.quiet), 0, 0 },
	{ "verbose",  'v', NULL,      FLAG,      AT(o.verbose), 0, 0 },
	{ "help",     'h', NULL,      HELP,      0, 0, 0 },
	{ "version",  'V', NULL,      VERSION,   0, 0, 0 },
};
/* clang-format on */

enum { N_ROWS = sizeof(rows) / sizeof(rows[0]), LONG_BASE = 256 };

static bool parse_queue(const char *text, int64_t min, int64_t max, struct sluice_view_request *out)
{
	int64_t depth = OPTIONS_FIFO_USUAL;
	if (strcmp(text, "mailbox") == 0) {
		out->delivery = SLUICE_MAILBOX;
		out->fifo_depth = 0;
		return true;
	}
	if (strncmp(text, "fifo:", 5) == 0 && !value_whole(text + 5, min, max, &depth))
		return false;
	if (strncmp(text, "fifo:", 5) != 0 && strcmp(text, "fifo") != 0)
		return false;
	out->delivery = SLUICE_FIFO;
	out->fifo_depth = (uint32_t)depth;
	return true;
}

/* "a whole number from 1 to 16": what the option takes. Returns buf. */
static const char *describe(const struct row *row, char *buf, size_t size)
{
	long long min = row->min, max = row->max;
	switch (row->kind) {
	case NUMBER:
		snprintf(buf, size, "a whole number from %lld to %lld", min, max);
		break;
	case REAL:
		snprintf(buf, size, "a number from %lld to %lld", min, max);
		break;
	case BITS:
		snprintf(buf, size, "bits per second such as 800k or 4M, from %lldk to %lldM",
			min / 1000, max / 1000000);
		break;
	case RATE:
		snprintf(buf, size, "frames per second such as 60 or 30000/1001, up to %lld", max);
		break;
	case DURATION:
		snprintf(buf, size, "a time such as 90 or 1:30, more than 0 and up to %lld s", max);
		break;
	case SIZE:
		snprintf(buf, size, "a size such as 1280x720, 720p or 1280x, up to %lld a side",
			max);
		break;
	case FORMAT:
		snprintf(
			buf, size, "a pixel format such as NV12, I420 or BGRx (a container is -f)");
		break;
	case QUEUE:
		snprintf(buf, size, "mailbox, or fifo:N with N from %lld to %lld", min, max);
		break;
	case LADDER:
		snprintf(buf, size,
			"%lld to %lld rungs, no two the same, such as 1080p:6M,640x360:800k:libx265",
			min, max);
		break;
	case SUPERVISED:
		snprintf(buf, size, "microseconds");
		break;
	case KEY_VALUE:
		snprintf(buf, size, "key=value, %lld times at most", max);
		break;
	default:
		snprintf(buf, size, "1 to %d bytes", OPTIONS_TEXT_MAX);
	}
	return buf;
}

static bool add_key_value(struct encoder_settings *settings, const char *text, int64_t max)
{
	const char *equals = strchr(text, '=');
	if (!equals || equals == text || settings->n_options >= max)
		return false;
	settings->option[settings->n_options++] = text;
	return true;
}

static bool store_text(const char *text, const char **out)
{
	if (!*text || strlen(text) > OPTIONS_TEXT_MAX)
		return false;
	*out = text;
	return true;
}

static bool store(struct parse *p, const struct row *row, const char *text)
{
	void *at = (char *)p + row->offset;
	switch (row->kind) {
	case FLAG:
		return *(bool *)at = true;
	case TEXT:
		return store_text(text, at);
	case NUMBER:
		return value_whole(text, row->min, row->max, at);
	case REAL:
		return value_real(text, (double)row->min, (double)row->max, at);
	case BITS:
		return value_bits(text, row->min, row->max, at);
	case RATE:
		return value_rate(text, row->max, at);
	case DURATION:
		return value_duration(text, row->max, at);
	case SIZE:
		return value_size(text, row->max, &p->o.view.width, &p->o.view.height);
	case FORMAT:
		return value_format(text, at);
	case QUEUE:
		return parse_queue(text, row->min, row->max, at);
	case LADDER:
		return ladder_parse(text, at);
	case SUPERVISED:
		p->o.is_supervised = true;
		return value_whole(text, row->min, row->max, at);
	case KEY_VALUE:
		return add_key_value(&p->o.encoder, text, row->max);
	case HELP:
	case VERSION:
		break;
	}
	return true;
}

/* An OPTIONS_… result, or negative with a sentence. */
static int take(struct parse *p, const struct row *row, const char *text)
{
	char what[128];
	if (row->kind == HELP || row->kind == VERSION) {
		row->kind == HELP ? help_print() : help_print_version();
		return OPTIONS_DONE;
	}
	if (store(p, row, text))
		return OPTIONS_RUN;
	return problem_set(p->problem, -ERANGE, "%s%s \"%.64s\": it takes %s",
		row->letter ? "-" : "--", row->letter ? (char[]){ row->letter, 0 } : row->name,
		text, describe(row, what, sizeof(what)));
}

static bool takes_value(const struct row *row)
{
	return row->kind != FLAG && row->kind != HELP && row->kind != VERSION;
}

/* "-b:v", "-preset:v": what concerns the video may say so, as FFmpeg's users are used to. */
struct spelling {
	char letter[4], name[16];
};

static bool is_of_encoder(const struct row *row)
{
	size_t begin = AT(o.encoder);
	return row->offset >= begin && row->offset < begin + sizeof(struct encoder_settings);
}

/* getopt's two tables, from ours. A long option's value is LONG_BASE and the row's number. */
static void fill_getopt(char *letters, struct option *longs, struct spelling *spellings)
{
	*letters++ = ':';
	for (int i = 0; i < N_ROWS; i++) {
		const struct row *row = &rows[i];
		int has = takes_value(row) ? required_argument : no_argument;
		*longs++ = (struct option){ row->name, has, NULL, LONG_BASE + i };
		if (row->alias)
			*longs++ = (struct option){ row->alias, has, NULL, LONG_BASE + i };
		if (is_of_encoder(row)) {
			struct spelling *s = &spellings[i];
			snprintf(s->letter, sizeof(s->letter), "%c:v", row->letter);
			snprintf(s->name, sizeof(s->name), "%.13s:v", row->name);
			*longs++ = (struct option){ s->name, has, NULL, LONG_BASE + i };
			if (row->letter)
				*longs++ = (struct option){ s->letter, has, NULL, LONG_BASE + i };
		}
		if (!row->letter)
			continue;
		*letters++ = row->letter;
		if (has == required_argument)
			*letters++ = ':';
	}
	*letters = 0;
	*longs = (struct option){ 0 };
}

static const struct row *find_row(int opt)
{
	for (int i = 0; i < N_ROWS; i++)
		if (opt == LONG_BASE + i || opt == rows[i].letter)
			return &rows[i];
	return NULL;
}

static int read_options(struct parse *p, int argc, char **argv)
{
	char letters[2 * N_ROWS + 2];
	struct option longs[4 * N_ROWS + 1];
	struct spelling spellings[N_ROWS];
	fill_getopt(letters, longs, spellings);
	optind = 0;
	opterr = 0;
	int opt;
	while ((opt = getopt_long_only(argc, argv, letters, longs, NULL)) != -1) {
		if (opt == ':')
			return problem_set(
				p->problem, -EINVAL, "%.64s needs a value", argv[optind - 1]);
		if (opt == '?')
			return problem_set(
				p->problem, -EINVAL, "there is no option %.64s", argv[optind - 1]);
		int r = take(p, find_row(opt), optarg);
		if (r != OPTIONS_RUN)
			return r;
	}
	return OPTIONS_RUN;
}

static int read_output(struct parse *p, int argc, char **argv)
{
	if (p->o.tell_path && optind + 1 != argc)
		return problem_set(p->problem, -EINVAL,
			"--tell takes one command, such as keyframe, \"bitrate 4M\" or help");
	if (optind == argc)
		return problem_set(p->problem, -EINVAL, "OUTPUT is missing: a file, or pipe:1");
	if (optind + 1 < argc)
		return problem_set(p->problem, -EINVAL, "one OUTPUT only: %.64s is one too many",
			argv[optind + 1]);
	p->o.output = strcmp(argv[optind], "-") == 0 ? "pipe:1" : argv[optind];
	if (!*p->o.output || strlen(p->o.output) > OPTIONS_TEXT_MAX)
		return problem_set(
			p->problem, -EINVAL, "OUTPUT has 1 to %d bytes", OPTIONS_TEXT_MAX);
	return OPTIONS_RUN;
}

static int check_rates(struct parse *p)
{
	const struct encoder_settings *e = &p->o.encoder;
	if ((e->bit_rate > 0) + (e->crf >= 0) + (e->qp >= 0) > 1)
		return problem_set(p->problem, -EINVAL, "-b, -crf and -qp: choose one");
	if (e->buffer_bits > 0 && e->bit_rate == 0 && e->max_bit_rate == 0)
		return problem_set(p->problem, -EINVAL, "-bufsize is for -b or -maxrate: give one");
	if (e->max_bit_rate > 0 && e->max_bit_rate < e->bit_rate)
		return problem_set(p->problem, -EINVAL, "-maxrate is less than -b");
	return OPTIONS_RUN;
}

/* Of several processes, one after the other or side by side. */
static int check_ladder(struct parse *p)
{
	struct options *o = &p->o;
	const struct encoder_settings *e = &o->encoder;
	bool has_rate = e->bit_rate > 0 || e->max_bit_rate > 0 || e->buffer_bits > 0;
	if (o->ladder.n > 0 && (has_rate || e->crf >= 0 || e->qp >= 0))
		return problem_set(p->problem, -EINVAL,
			"--ladder says the bit rate of each rung: leave -b, -maxrate, -bufsize, "
			"-crf and -qp out");
	if (o->ladder.n > 0 && (o->view.width || o->view.height))
		return problem_set(p->problem, -EINVAL,
			"--ladder says the size of each rung: leave --size out");
	if (o->rung && !ladder_find(&o->ladder, o->rung))
		return problem_set(p->problem, -EINVAL,
			"--rung %.64s: --ladder has none of that name", o->rung);
	if (o->limit_frames && (o->restart || (o->ladder.n > 0 && !o->rung)))
		return problem_set(p->problem, -EINVAL,
			"--frames counts those of one process: with --ladder and --restart say "
			"--time");
	return OPTIONS_RUN;
}

/* What is wrong only together. */
static int check_together(struct parse *p)
{
	struct options *o = &p->o;
	if (o->tell_path)
		return OPTIONS_RUN;
	if (!o->stream)
		return problem_set(p->problem, -EINVAL,
			"--stream is missing: `sluice ls` shows which there are");
	if (strlen(o->stream) > OPTIONS_STREAM_MAX)
		return problem_set(p->problem, -ERANGE, "a stream's name has at most %d bytes",
			OPTIONS_STREAM_MAX);
	if (o->quiet && o->verbose)
		return problem_set(p->problem, -EINVAL, "--quiet and --verbose: choose one");
	if (p->reserved && p->holds && p->reserved != p->holds)
		return problem_set(p->problem, -EINVAL,
			"--reserved says how many frames are held: leave --holds out");
	o->view.reserved_holds = (uint32_t)p->reserved;
	o->view.max_holds = (uint32_t)(p->reserved ? p->reserved : p->holds);
	if (p->max_rate.num > 0)
		o->view.min_interval_ns =
			(uint64_t)av_rescale(NS_PER_S, p->max_rate.den, p->max_rate.num);
	if (o->cfr)
		o->encoder.rate = settings_rate(&o->encoder);
	o->encoder.may_change = o->control_path != NULL;
	int r = check_rates(p);
	return r == OPTIONS_RUN ? check_ladder(p) : r;
}

int options_parse(struct options *options_out, int argc, char **argv, struct problem *problem)
{
	struct parse p = {
		.o = {
			.encoder = { .codec = "libx264", .crf = -1, .qp = -1, .gop = -1,
				.b_frames = -1 },
			.view = { .delivery = SLUICE_FIFO, .fifo_depth = OPTIONS_FIFO_USUAL },
			.timeout_us = OPTIONS_TIMEOUT_USUAL * 1000000,
		},
		.problem = problem,
	};
	int r = read_options(&p, argc, argv);
	if (r == OPTIONS_RUN)
		r = read_output(&p, argc, argv);
	if (r == OPTIONS_RUN)
		r = check_together(&p);
	if (r == OPTIONS_RUN)
		*options_out = p.o;
	return r;
}
