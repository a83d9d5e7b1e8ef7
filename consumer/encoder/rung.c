#include "consumer/encoder/rung.h"

#include <stdlib.h>

#include "consumer/encoder/encoder.h"
#include "consumer/encoder/ladder.h"

enum {
	NV12 = 0x3231564e,   /* DRM_FORMAT_NV12: what GPU encoders like best */
	YUV420 = 0x32315559, /* DRM_FORMAT_YUV420 */
};

static bool takes(const AVCodec *codec, enum AVPixelFormat format)
{
	for (const enum AVPixelFormat *at = codec->pix_fmts; at && *at != AV_PIX_FMT_NONE; at++)
		if (*at == format)
			return true;
	return false;
}

/* What the broker converts to is what the codec takes: nobody converts twice. 0: the stream's own. */
static uint32_t fourcc_for(const struct encoder_settings *settings)
{
	const AVCodec *codec = encoder_find(settings->codec);
	if (!codec || settings->pix_fmt)
		return 0;
	if (takes(codec, AV_PIX_FMT_NV12))
		return NV12;
	return takes(codec, AV_PIX_FMT_YUV420P) ? YUV420 : 0;
}

static int rename_for(const char **path, const char *rung, char **own_out, struct problem *problem)
{
	int r = *path ? ladder_path(*path, rung, own_out, problem) : 0;
	if (r == 0 && *path)
		*path = *own_out;
	return r;
}

int rung_apply(struct options *options, struct rung_paths *paths_out, struct problem *problem)
{
	*paths_out = (struct rung_paths){ 0 };
	if (!options->rung)
		return 0;
	const struct rung *rung = ladder_find(&options->ladder, options->rung);
	options->encoder.bit_rate = rung->bit_rate;
	if (rung->codec[0])
		options->encoder.codec = rung->codec;
	options->view.width = rung->width;
	options->view.height = rung->height;
	if (!options->view.fourcc)
		options->view.fourcc = fourcc_for(&options->encoder);
	int r = rename_for(&options->output, rung->name, &paths_out->output, problem);
	if (r == 0)
		r = rename_for(&options->stats_path, rung->name, &paths_out->stats, problem);
	if (r == 0)
		r = rename_for(&options->control_path, rung->name, &paths_out->control, problem);
	return r == -ENOMEM ? problem_set(problem, r, "out of memory") : r;
}

void rung_paths_free(struct rung_paths *paths)
{
	free(paths->output);
	free(paths->stats);
	free(paths->control);
	*paths = (struct rung_paths){ 0 };
}
