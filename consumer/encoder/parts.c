#include "consumer/encoder/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "consumer/encoder/output.h"
#include "consumer/encoder/stop.h"

struct parts {
	const struct options *options;
	const AVOutputFormat *format;
	struct stats *stats;
	struct output *output;         /* NULL: none has begun */
	struct picture_format picture; /* of the newest part */
};

int parts_create(struct parts **parts_out, const struct options *options,
	const AVOutputFormat *format, struct stats *stats, struct problem *problem)
{
	struct parts *p = calloc(1, sizeof(*p));
	if (!p)
		return problem_set(problem, -ENOMEM, "out of memory");
	*p = (struct parts){ .options = options, .format = format, .stats = stats };
	*parts_out = p;
	return 0;
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

static void say(const struct parts *p, const struct encoder *encoder)
{
	int width, height;
	encoder_size(encoder, &width, &height);
	if (p->options->quiet)
		return;
	if (p->stats->parts > 0)
		fprintf(stderr, "sluice-encode: the picture is %dx%d now, going on in part %u\n",
			width, height, p->stats->parts);
	if ((uint32_t)width != p->picture.width || (uint32_t)height != p->picture.height)
		fprintf(stderr,
			"sluice-encode: %ux%u has an odd side, which the codec does not take: "
			"cropped to %dx%d\n",
			p->picture.width, p->picture.height, width, height);
}

int parts_begin(struct parts *parts, const struct encoder *encoder,
	const struct picture_format *picture, struct problem *problem)
{
	const char *output = parts->options->output;
	_cleanup_free_ char *path = NULL;
	if (parts->stats->parts > 0 && !output_is_file(output))
		return refuse_second(parts, picture, problem);
	if (output_part_path(output, parts->stats->parts, &path) < 0)
		return problem_set(problem, -ENOMEM, "out of memory");
	parts->picture = *picture;
	say(parts, encoder);
	int r = output_open(&parts->output, path, parts->format, encoder, stop_is_overdue, problem);
	if (r == 0)
		parts->stats->parts++;
	return r;
}

bool parts_are_open(const struct parts *parts)
{
	return parts->output && !output_has_failed(parts->output);
}

int parts_write(struct parts *parts, AVPacket *packet, struct problem *problem)
{
	return output_write(parts->output, packet, problem);
}

int parts_end(struct parts *parts, struct problem *problem)
{
	uint64_t bytes;
	int r = output_close(&parts->output, &bytes, problem);
	parts->stats->bytes += bytes;
	return r;
}

struct parts *parts_destroy(struct parts *parts)
{
	free(parts);
	return NULL;
}
