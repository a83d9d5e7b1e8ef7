#include "consumer/encoder/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <libavutil/avstring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "consumer/encoder/choose.h"
#include "consumer/encoder/link.h"
#include "consumer/encoder/names.h"
#include "consumer/encoder/now.h"
#include "consumer/encoder/output.h"
#include "consumer/encoder/say.h"
#include "consumer/encoder/settings.h"
#include "consumer/encoder/stop.h"

struct parts {
	const struct options *options;
	const AVOutputFormat *format;
	struct stats *stats;
	struct link *link;             /* to a server; NULL: files or a pipe */
	struct output *output;         /* the file; NULL: none is open */
	struct track *track;           /* of the newest part, for its next segment */
	struct picture_format picture; /* of the newest part */
	char *name;                    /* that the newest file was to have; NULL: there was none */
	unsigned taken;                /* names that --keep found taken */
	int64_t segment;               /* ticks; 0: one file a part */
	int64_t key_at, cut_at;        /* ticks: where the next segment is to begin */
};

static int out_of_memory(struct problem *problem)
{
	return problem_set(problem, -ENOMEM, "out of memory");
}

/* The name of file n of all. path_out [give] */
static int name_file(
	const struct options *options, unsigned n, char **path_out, struct problem *problem)
{
	int r = options->segment_us ? names_segment(options->output, n, time(NULL), path_out)
				    : names_part(options->output, n, path_out);
	if (r == -ENAMETOOLONG)
		return problem_set(problem, r, "%s gives names that are too long", options->output);
	return r < 0 ? out_of_memory(problem) : 0;
}

int parts_check_output(
	const struct options *options, const AVOutputFormat **format_out, struct problem *problem)
{
	_cleanup_free_ char *path = NULL;
	if (options->segment_us && output_kind_of(options->output) != OUTPUT_FILE)
		return problem_set(
			problem, -EINVAL, "--segment makes files, and %s is none", options->output);
	int r = name_file(options, 0, &path, problem);
	if (r < 0)
		return r;
	return output_check(path, options->muxer,
		encoder_find(choose_likely_codec(options->encoder.codec)), format_out, problem);
}

static int create_link(struct parts *p, struct problem *problem)
{
	const struct link_settings settings = {
		.url = p->options->output,
		.format = p->format,
		.wait = p->options->wait,
		.timeout_ns = (uint64_t)p->options->timeout_us * NS_PER_US,
		.patience_ns = (uint64_t)p->options->patience_us * NS_PER_US,
	};
	return link_create(&p->link, &settings, problem);
}

int parts_create(struct parts **parts_out, const struct options *options,
	const AVOutputFormat *format, struct stats *stats, struct problem *problem)
{
	_cleanup_(parts_destroyp) struct parts *p = calloc(1, sizeof(*p));
	if (!p)
		return out_of_memory(problem);
	*p = (struct parts){ .options = options, .format = format, .stats = stats };
	int r = 0;
	if (output_kind_of(options->output) == OUTPUT_SERVER)
		r = create_link(p, problem);
	if (r == 0)
		*parts_out = TAKE_PTR(p);
	return r;
}

static int refuse_second(
	const struct parts *p, const struct picture_format *picture, struct problem *problem)
{
	return problem_set(problem, -EOPNOTSUPP,
		"the picture changed from %ux%u to %ux%u, and %s cannot go on in another file: "
		"what came before is complete",
		p->picture.width, p->picture.height, picture->width, picture->height,
		p->options->output);
}

static void tell_of_keys(const struct parts *p)
{
	const AVCodec *codec = encoder_find(p->stats->codec);
	bool needs_keys = p->link || p->options->segment_us > 0;
	if (!codec || !needs_keys || p->options->quiet || settings_takes_key_requests(codec))
		return;
	say("%s makes no key frame when it is asked to: %s waits for the next that -g and -r make",
		codec->name, p->link ? "a server that was away" : "a segment");
}

static void tell(const struct parts *p, const struct encoder *encoder)
{
	int width, height;
	encoder_size(encoder, &width, &height);
	if (p->options->quiet)
		return;
	if (p->stats->parts > 0 && p->link)
		say("the picture is %dx%d now, publishing it anew", width, height);
	else if (p->stats->parts > 0)
		say("the picture is %dx%d now, going on in part %u", width, height,
			p->stats->parts);
	if ((uint32_t)width != p->picture.width || (uint32_t)height != p->picture.height)
		say("%ux%u has an odd side, which the codec does not take: cropped to %dx%d",
			p->picture.width, p->picture.height, width, height);
}

/*
 * For --keep: is there a file of that name? If not it is made, so that it is nobody else's. What
 * cannot be made is for output_open() to tell.
 */
static bool is_taken(const struct parts *p, const char *path)
{
	if (output_kind_of(path) != OUTPUT_FILE)
		return false;
	av_strstart(path, "file:", &path);
	if (p->format->flags & AVFMT_NOFILE)
		return access(path, F_OK) == 0;
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	return fd < 0 && errno == EEXIST;
}

/*
 * Two files within what a pattern tells apart: the second gets a number, or it would replace the
 * first; so does one that --keep must not replace. path_out [give]
 */
static int choose_path(struct parts *p, char **path_out, struct problem *problem)
{
	for (;; p->taken++) {
		_cleanup_free_ char *name = NULL, *path = NULL;
		unsigned n = p->taken + p->stats->parts;
		int r = name_file(p->options, n, &name, problem);
		if (r < 0)
			return r;
		bool is_used = p->name && strcmp(p->name, name) == 0;
		if (names_part(name, is_used ? n : 0, &path) < 0)
			return out_of_memory(problem);
		free(p->name);
		p->name = TAKE_PTR(name);
		if (p->options->keep && is_taken(p, path))
			continue;
		*path_out = TAKE_PTR(path);
		return 0;
	}
}

static int open_file(struct parts *p, struct problem *problem)
{
	bool is_file = output_kind_of(p->options->output) == OUTPUT_FILE;
	const struct output_patience patience = {
		.interrupt = { is_file ? stop_is_insisted_on : stop_is_overdue, NULL },
	};
	_cleanup_free_ char *path = NULL;
	int r = choose_path(p, &path, problem);
	if (r == 0)
		r = output_open(&p->output, path, p->format, p->track, &patience, problem);
	if (r == 0)
		p->stats->parts++;
	return r;
}

static int close_file(struct parts *p, struct problem *problem)
{
	uint64_t bytes;
	int r = output_close(&p->output, &bytes, problem);
	p->stats->bytes += bytes;
	return r;
}

static int publish(struct parts *p, struct problem *problem)
{
	p->stats->parts++;
	return link_begin(p->link, TAKE_PTR(p->track), problem);
}

int parts_begin(struct parts *parts, const struct encoder *encoder,
	const struct picture_format *picture, struct problem *problem)
{
	if (parts->stats->parts > 0 && output_kind_of(parts->options->output) == OUTPUT_PIPE)
		return refuse_second(parts, picture, problem);
	parts->track = track_destroy(parts->track);
	if (track_create(&parts->track, encoder) < 0)
		return out_of_memory(problem);
	parts->picture = *picture;
	parts->segment = av_rescale_q(
		parts->options->segment_us, (AVRational){ 1, 1000000 }, encoder_time_base(encoder));
	if (parts->options->segment_us > 0 && parts->segment == 0)
		parts->segment = 1; /* shorter than a tick */
	parts->key_at = parts->cut_at = parts->segment;
	tell(parts, encoder);
	if (parts->stats->parts == 0)
		tell_of_keys(parts);
	return parts->link ? publish(parts, problem) : open_file(parts, problem);
}

bool parts_are_open(const struct parts *parts)
{
	if (parts->link)
		return parts->stats->parts > 0;
	return parts->output && !output_has_failed(parts->output);
}

bool parts_have_begun(const struct parts *parts)
{
	struct link_stats stats;
	if (!parts->link)
		return parts->stats->parts > 0;
	link_get_stats(parts->link, &stats);
	return stats.was_connected;
}

/* A time is at or behind the next boundary, which moves on to the one after it. */
static bool has_reached(const struct parts *p, int64_t *boundary, int64_t ticks)
{
	if (p->segment <= 0 || ticks < *boundary)
		return false;
	*boundary = (ticks / p->segment + 1) * p->segment;
	return true;
}

bool parts_want_key(struct parts *parts, int64_t ticks)
{
	bool is_boundary = has_reached(parts, &parts->key_at, ticks);
	return is_boundary || (parts->link && link_wants_key(parts->link));
}

/* What an encoder holds back comes in the order of decoding: behind a key frame nothing is older. */
static int cut(struct parts *p, const AVPacket *packet, struct problem *problem)
{
	if (!(packet->flags & AV_PKT_FLAG_KEY) || !has_reached(p, &p->cut_at, packet->pts))
		return 0;
	int r = close_file(p, problem);
	return r < 0 ? r : open_file(p, problem);
}

int parts_write(struct parts *parts, AVPacket *packet, struct problem *problem)
{
	if (parts->link)
		return link_write(parts->link, packet, problem);
	int r = cut(parts, packet, problem);
	return r < 0 ? r : output_write(parts->output, packet, problem);
}

int parts_end(struct parts *parts, struct problem *problem)
{
	return parts->link ? parts_check(parts, problem) : close_file(parts, problem);
}

static void update_stats(struct parts *p)
{
	struct link_stats stats;
	link_get_stats(p->link, &stats);
	p->stats->late = stats.late;
	p->stats->republished = stats.republished;
	p->stats->bytes = stats.bytes;
}

int parts_check(struct parts *parts, struct problem *problem)
{
	if (!parts->link)
		return 0;
	update_stats(parts);
	return link_check(parts->link, problem);
}

int parts_finish(struct parts *parts, struct problem *problem)
{
	if (!parts->link)
		return 0;
	int r = link_finish(parts->link, problem);
	update_stats(parts);
	return r;
}

struct parts *parts_destroy(struct parts *parts)
{
	if (!parts)
		return NULL;
	parts->link = link_destroy(parts->link);
	parts->track = track_destroy(parts->track);
	free(parts->name);
	free(parts);
	return NULL;
}
