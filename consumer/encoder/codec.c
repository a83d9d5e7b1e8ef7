#include "consumer/encoder/codec.h"

#include <errno.h>
#include <libavutil/pixdesc.h>
#include <limits.h>
#include <string.h>

#include "consumer/encoder/avlog.h"
#include "consumer/encoder/settings.h"

enum {
	TICKS_HZ = 90000, /* MPEG's clock: a video time stamp of every container fits it */
};

const AVCodec *codec_find(const char *name)
{
	const AVCodec *codec = avcodec_find_encoder_by_name(name);
	const AVCodecDescriptor *desc = codec ? NULL : avcodec_descriptor_get_by_name(name);
	if (desc)
		codec = avcodec_find_encoder(desc->id);
	return codec && codec->type == AVMEDIA_TYPE_VIDEO ? codec : NULL;
}

/* NVENC makes 4:2:0 of RGB by itself. */
static bool converts_rgb(const AVCodecContext *ctx)
{
	return strstr(ctx->codec->name, "_nvenc") && pixel_format_is_rgb(ctx->pix_fmt);
}

static bool wants_even_sides(const AVCodecContext *ctx)
{
	const AVPixFmtDescriptor *desc = av_pix_fmt_desc_get(ctx->pix_fmt);
	const AVCodecDescriptor *codec = avcodec_descriptor_get(ctx->codec_id);
	bool lossy = codec && codec->props & AV_CODEC_PROP_LOSSY;
	return converts_rgb(ctx) || (lossy && (desc->log2_chroma_w > 0 || desc->log2_chroma_h > 0));
}

/* Encoders that only say "bad parameter", in messages that cannot be caught. */
static int least_side(const AVCodec *codec)
{
	return strcmp(codec->name, "libsvtav1") == 0 ? 64 : 1;
}

static int set_size(
	AVCodecContext *ctx, const struct picture_format *format, struct problem *problem)
{
	uint32_t mask = wants_even_sides(ctx) ? ~1u : ~0u;
	ctx->width = (int)(format->width & mask);
	ctx->height = (int)(format->height & mask);
	int least = least_side(ctx->codec);
	if (ctx->width >= least && ctx->height >= least)
		return 0;
	return problem_set(problem, -EOPNOTSUPP,
		"pictures of %ux%u are too small for %s: choose another codec or a larger --size",
		format->width, format->height, ctx->codec->name);
}

/* It does so by BT.601 in limited range, whatever it is told. */
static void correct_colour(AVCodecContext *ctx)
{
	if (!converts_rgb(ctx))
		return;
	ctx->colorspace = AVCOL_SPC_BT470BG;
	ctx->color_range = AVCOL_RANGE_MPEG;
}

/* A context that is ready to be opened. */
static int prepare(
	AVCodecContext **ctx_out, const struct codec_request *request, struct problem *problem)
{
	const struct picture_format *format = request->format;
	const AVCodec *codec = codec_find(request->settings->codec);
	AVCodecContext *ctx = avcodec_alloc_context3(codec);
	if (!ctx)
		return problem_set(problem, -ENOMEM, "out of memory");
	enum AVPixelFormat from = pixel_format_of(format->fourcc);
	int r = settings_pix_fmt(request->settings, codec, from, &ctx->pix_fmt, problem);
	if (r == 0)
		r = set_size(ctx, format, problem);
	if (r == 0)
		r = settings_apply(request->settings, ctx, problem);
	if (r == 0) {
		convert_choose_colour(format, ctx);
		correct_colour(ctx);
		ctx->sample_aspect_ratio = (AVRational){ 1, 1 };
		if (request->flags & ENCODER_GLOBAL_HEADER)
			ctx->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
		if (request->prepare)
			r = request->prepare(request->data, ctx, problem);
	}
	if (r < 0)
		avcodec_free_context(&ctx);
	else
		*ctx_out = ctx;
	return r;
}

static int open_with(struct codec *c, const struct codec_request *request, AVRational time_base,
	struct problem *problem)
{
	int r = prepare(&c->ctx, request, problem);
	if (r < 0)
		return r;
	c->ctx->time_base = time_base;
	/* the context forgets them when this fails */
	const AVCodec *codec = c->ctx->codec;
	int width = c->ctx->width, height = c->ctx->height;
	avlog_forget();
	r = avcodec_open2(c->ctx, codec, NULL);
	if (r == 0)
		return 0;
	r = avlog_problem(problem, r, "%s cannot be opened for %dx%d", codec->name, width, height);
	avcodec_free_context(&c->ctx);
	return r;
}

/*
 * A fine clock keeps the times of a source whose rate varies. Some old codecs count frames instead
 * and refuse it: those get one tick a frame.
 */
int codec_open(struct codec *codec, const struct codec_request *request, struct problem *problem)
{
	const struct encoder_settings *settings = request->settings;
	AVRational frame = av_inv_q(settings_rate(settings));
	codec->rate = settings->rate;
	if (request->flags & ENCODER_CONSTANT_RATE)
		return open_with(codec, request, frame, problem);
	struct problem coarse;
	int r = open_with(codec, request, (AVRational){ 1, TICKS_HZ }, problem);
	bool is_old = !(codec_find(settings->codec)->capabilities & AV_CODEC_CAP_HARDWARE);
	if (r < 0 && is_old && open_with(codec, request, frame, &coarse) == 0)
		return 0;
	return r;
}

int codec_describe(const struct codec *codec, AVStream *stream)
{
	stream->time_base = codec->ctx->time_base;
	stream->sample_aspect_ratio = codec->ctx->sample_aspect_ratio;
	/* a rate that is only guessed would end up in the file's header as a fact */
	if (codec->rate.num > 0)
		stream->avg_frame_rate = codec->rate;
	return avcodec_parameters_from_context(stream->codecpar, codec->ctx) < 0 ? -ENOMEM : 0;
}

void codec_label(const struct codec *codec, AVFrame *picture)
{
	const AVCodecContext *ctx = codec->ctx;
	picture->format = ctx->pix_fmt;
	picture->width = ctx->width;
	picture->height = ctx->height;
	picture->color_primaries = ctx->color_primaries;
	picture->color_trc = ctx->color_trc;
	picture->colorspace = ctx->colorspace;
	picture->color_range = ctx->color_range;
	picture->sample_aspect_ratio = ctx->sample_aspect_ratio;
}

static void mark_key(struct codec *c, AVFrame *picture)
{
	picture->pict_type = c->wants_key ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
	c->wants_key = false;
}

static int failed(const struct codec *c, int averror, struct problem *problem)
{
	return avlog_problem(problem, averror, "%s failed", c->ctx->codec->name);
}

void codec_request_key(struct codec *codec)
{
	codec->wants_key = true;
}

/* libavcodec has no general way: these look at their context again with each picture. */
static bool takes_another_bit_rate(const AVCodec *codec)
{
	return strncmp(codec->name, "libx264", strlen("libx264")) == 0 ||
	       strstr(codec->name, "_nvenc");
}

int codec_set_bit_rate(struct codec *codec, int64_t bit_rate, struct problem *problem)
{
	AVCodecContext *ctx = codec->ctx;
	if (!ctx)
		return problem_set(problem, -ENODEV, "the encoder is not open now");
	if (!takes_another_bit_rate(ctx->codec))
		return problem_set(problem, -EOPNOTSUPP,
			"%s cannot change its bit rate while it runs (libx264 and NVENC can)",
			ctx->codec->name);
	if (ctx->bit_rate <= 0 || ctx->rc_max_rate <= 0)
		return problem_set(problem, -EOPNOTSUPP,
			"%s was opened for a constant quality: start it with -b to change the bit "
			"rate later",
			ctx->codec->name);
	/* the limits keep their proportion */
	double factor = (double)bit_rate / (double)ctx->bit_rate;
	double buffer = ctx->rc_buffer_size * factor;
	ctx->rc_max_rate = (int64_t)((double)ctx->rc_max_rate * factor);
	ctx->rc_buffer_size = buffer < INT_MAX ? (int)buffer : INT_MAX;
	ctx->bit_rate = bit_rate;
	return 0;
}

int codec_encode(struct codec *codec, AVFrame *picture, int64_t ticks, struct problem *problem)
{
	picture->pts = ticks;
	mark_key(codec, picture);
	avlog_forget();
	int r = avcodec_send_frame(codec->ctx, picture);
	return r < 0 ? failed(codec, r, problem) : 0;
}

int codec_drain(struct codec *codec, struct problem *problem)
{
	avlog_forget();
	int r = avcodec_send_frame(codec->ctx, NULL);
	return r < 0 ? failed(codec, r, problem) : 0;
}

int codec_receive(struct codec *codec, AVPacket *packet, struct problem *problem)
{
	int r = avcodec_receive_packet(codec->ctx, packet);
	if (r == 0)
		return 1;
	return r == AVERROR(EAGAIN) || r == AVERROR_EOF ? 0 : failed(codec, r, problem);
}

void codec_close(struct codec *codec)
{
	avcodec_free_context(&codec->ctx);
}
